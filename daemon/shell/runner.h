/* runner: starts workers (daemon/child) and takes their answers.

   A worker is bounded from outside: in time, in bytes of its answer, and by being our child, whom
   we can kill without mistaking it for another. */

#ifndef WKSPD_SHELL_RUNNER_H
#define WKSPD_SHELL_RUNNER_H

#include "daemon/child/result.h"
#include "daemon/shell/loop.h"

/* A worker's time when its request sets no deadline, ms. */
#define RUNNER_TIME_MS 5000

/* And at most this much, whatever the deadline says. */
#define RUNNER_TIME_MAX_MS 600000

/* One of checkpoints has no such limit, but it must not stand still for so long: a disk may take
 * its time over what was written. */
#define RUNNER_STILL_MS 600000

/* Answered by WORKER_DONE, whatever happens; its result is a result_t. 1: no memory, no answer.
   effect: ENGINE_FX_WORKER_START. */
int runner_start(loop_t *loop, engine_effect_t const *effect);

/* Kills it; it is answered as always. */
void runner_cancel(loop_t *loop, uint64_t job_id);

/* Kills all that is left; their answers are dropped. */
void runner_free(loop_t *loop);

/* What a worker's end means. Exposed for tests: how it ended (exit status, signal 0 if none), why
   we killed it (RUNNER_KILLED_*), and its answer's bytes. Returns ENGINE_WORKER_*; *ret_result is
   filled for OK, *ret_detail is a sentence or NULL. */
enum { RUNNER_NOT_KILLED = 0, RUNNER_KILLED_LATE, RUNNER_KILLED_CANCEL, RUNNER_KILLED_LONG };
int runner_verdict(result_ask_t const *ask, int64_t exit_status, int term_signal, int killed,
                   void const *bytes, size_t len, result_t *ret_result, char const **ret_detail);

/* What a code of lib/ckpt is to the engine: ENGINE_WORKER_*. */
int runner_ckpt_status(int32_t code);

#endif
