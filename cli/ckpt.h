/* ckpt: what the commands about checkpoints have in common. */

#ifndef WKSPCTL_CKPT_H
#define WKSPCTL_CKPT_H

#include "cli.h"
#include "render.h"
#include "wksp/client_ckpt.h"

/* Follows a job to its end: a bar on a terminal's standard error, lines elsewhere, nothing with
   --json. CLI_OK and *ret_job, its last state, however it ended; or told. */
int ckpt_follow(cli_t *cli, ulong job_id, wksp_job_t *ret_job);

/* What a job that has ended comes to: prints what there is to say of one that is done, tells one
   that is not. CLI_OK, CLI_FAILED, or CLI_FOUND for what is damaged. */
int ckpt_ended(cli_t *cli, wksp_job_t const *job);

/* --mode and --style into how. CLI_OK or told. */
int ckpt_how(cli_t const *cli, cli_args_t const *args, wksp_checkpoint_how_t *ret_how);

char const *ckpt_mode(uint mode);
char const *ckpt_by(uint by);
render_text_t ckpt_style(wksp_checkpoint_how_t const *how); /* "zstd:3" */

char const *ckpt_job_kind(uint kind); /* "checkpoint", ...; "?": one that we do not know */
char const *ckpt_job_state(uint state);

json_t *ckpt_job_json(wksp_job_t const *job);

#endif
