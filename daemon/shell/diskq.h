/* diskq: writes and removals of specs, and the end of their memory, off the loop, one after the
   other in the order in which they were asked for. */

#ifndef WKSPD_SHELL_DISKQ_H
#define WKSPD_SHELL_DISKQ_H

#include "daemon/shell/loop.h"

/* NULL: no memory. */
struct diskq *diskq_new(loop_t *loop);

/* Nothing may be under way. */
void diskq_free(struct diskq *diskq);

/* Answered by PERSISTED; 1: no memory, no answer. */
int diskq_put(loop_t *loop, spec_t const *spec);

/* Removes the spec, or, unless gone is NULL, writes that in its place. Answered by REMOVED. */
int diskq_remove(loop_t *loop, uint64_t ws_id, spec_t const *gone);

/* Removes the spec; not answered, a failure is logged. */
int diskq_forget(loop_t *loop, uint64_t ws_id);

/* Closes memory that nobody else may have: giving its pages back takes the kernel a second for some
   gigabytes. What is asked for afterwards is done afterwards. */
void diskq_close(loop_t *loop, int fd);

/* Writes a schedule, or removes it; answered by SCHEDULE_WRITTEN. 1: no memory, no answer. */
int diskq_schedule(loop_t *loop, schedule_t const *schedule, int drop);

/* Writes when checkpoints were found sound; not answered, a failure is logged. */
int diskq_notes(loop_t *loop, engine_effect_t const *effect);

#endif
