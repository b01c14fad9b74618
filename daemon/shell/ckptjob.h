/* ckptjob: questions to workers about checkpoints, and what their answers are to the engine. */

#ifndef WKSPD_SHELL_CKPTJOB_H
#define WKSPD_SHELL_CKPTJOB_H

#include "daemon/child/ckptask.h"
#include "daemon/shell/loop.h"

/* The rest of the question (after result_ask_t) for an effect ENGINE_FX_WORKER_START. */
void ckptjob_ask(loop_t const *loop, engine_effect_t const *effect, ckptask_t *ret_task);

/* The folder that the worker gets, opened; with what the effect needs made. -1, and *ret_why says
   what is in the way. */
int ckptjob_folder(loop_t const *loop, engine_effect_t const *effect, char const **ret_why);

/* Judges a worker's answer: fills WORKER_DONE's fields but the job's id. What they point to is in
 *ret_own, to be freed when the event is over; NULL: nothing. */
void ckptjob_done(ckptask_t const *task, uint32_t op, void const *bytes, size_t len,
                  engine_event_t *event, void **ret_own);

/* The text of a CkptShow's result, "" if there is none. */
char const *ckptjob_text(void const *worker_result);

#endif
