/* job: work that a sandboxed process does on one workspace or one store of checkpoints, queued
   until there is room for it.

   Whoever has much done waits for himself: of each kind every uid gets one place in turn. A job has
   the number of its round: one after the last queued one of its uid, or after the round that is
   being worked off. The lowest round goes first, within one who asked first.

   Some take milliseconds and somebody waits for them; a checkpoint or a restore takes as long as
   its bytes do, and people look after it: that is a job with a task. Both kinds have places of
   their own, so that a query never waits for a checkpoint.

   Invariants (jobs_check):
     queued ones are in the queue, in the order of their asking; running_cnt counts the others, and
     long_cnt those of them that have a task of an operation that takes long
     queued_cnt counts queued ones but reaps and tasks: those that a request waits for
     of those that write one store, one runs at most
     none that removes from a store runs while one runs that reads it (a restore, a verify)
     of drills one runs at most
     a held one is queued, and has a task
     at most one compact or resize of a workspace runs, and ws->compacting says so
     of one uid and kind, rounds of queued ones rise in the order of asking
     at most one reap of a workspace is queued or running, and it is ws->reap
     a job without a workspace has a task, or is running and cancelled: the workspace has gone */

#ifndef WKSPD_CORE_JOB_H
#define WKSPD_CORE_JOB_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/engine.h"
#include "daemon/core/idmap.h"

struct ws;
struct call;

/* What a checkpoint, a restore and the like are asked to do, and how far they have come. Owned by
   its job until that has ended, then by the list of those that have. */
typedef struct task {
  engine_task_t view;    /* what people see of it */
  engine_ckpt_ask_t ask; /* info and tags point to what is owned below; restore.spec unused */
  char *info;
  uint64_t *tags;
  spec_t of; /* whose it is: name, owner and mode say who may know of it */
} task_t;

typedef struct job {
  uint64_t job_id;
  struct ws *ws;     /* NULL: gone */
  struct call *call; /* NULL: a reap, a resize, or nobody waits any more */
  int op;            /* ENGINE_OP_* */
  uint32_t uid;      /* on whose account: who asked, or the owner of the workspace */
  uint64_t round;
  int running;
  int cancelled;
  uint64_t deadline_mono_ns;
  uint64_t *tags; /* owned */
  size_t tag_cnt;
  uint64_t page_gaddr;
  uint32_t page_size;
  int holder_only, verify;
  uint64_t resize_to;
  task_t *task; /* owned; NULL: none */
  int held;     /* not to be started: its memory is being made, or its worker has ended well */
  struct job *prev, *next; /* in the queue */
} job_t;

typedef struct jobs {
  idmap_t by_id;
  job_t *first, *last; /* the queue */
  uint64_t id_high;
  uint64_t round[2]; /* of the last that was started: [1] of operations that take long */
  uint32_t running_cnt, long_cnt;
  uint32_t queued_cnt;                   /* those but reaps and tasks */
  task_t *ended[ENGINE_TASKS_ENDED_MAX]; /* of jobs that have ended, oldest first; owned */
  uint32_t ended_cnt;
} jobs_t;

/* A new job at the end of the queue, on that uid's account. NULL: no memory. */
job_t *jobs_add(jobs_t *jobs, struct ws *ws, struct call *call, uint32_t uid, int op);

job_t *jobs_by_id(jobs_t const *jobs, uint64_t job_id);

/* The same for a job with a task, whose uid it is, and which is then the job's also if this fails.
 */
job_t *jobs_add_task(jobs_t *jobs, struct ws *ws, task_t *task);

/* The task of a job, or of one that has ended and is remembered; NULL: none. */
task_t *jobs_task(jobs_t const *jobs, uint64_t job_id);

/* How many tasks wait or run. */
uint32_t jobs_task_cnt(jobs_t const *jobs);

/* The job that works on, or is to work on, checkpoints of ws: of this operation. NULL: none. */
job_t *jobs_of(jobs_t const *jobs, struct ws const *ws, int op);

/* Whether one runs that reads that store, so nothing may be removed from it. */
int jobs_store_read(jobs_t const *jobs, uint64_t store_id);

/* How many wait on that uid's account of those that queued_cnt counts, and how many tasks it has.
 */
uint32_t jobs_queued_of(jobs_t const *jobs, uint32_t uid);
uint32_t jobs_tasks_of(jobs_t const *jobs, uint32_t uid);

/* The one whose turn it is, of those that may run now when so many of each kind may, NULL if none.
 */
job_t *jobs_next(jobs_t const *jobs, uint32_t running_max, uint32_t long_max);

/* 1 if the operation takes as long as its bytes do. */
int job_op_long(int op);

/* A running job has nothing to run any more, but stays: held, in the queue. */
void jobs_rest(jobs_t *jobs, job_t *job);

/* Takes the task of a job that is about to be removed to those that have ended, forgetting the
   oldest of these. */
void jobs_end_task(jobs_t *jobs, job_t *job);

void task_free(task_t *task);

/* Out of the queue, running. */
void jobs_run(jobs_t *jobs, job_t *job);

/* Forgets it, queued or running. Its call, if any, must have let go of it (call->job NULL). */
void jobs_remove(jobs_t *jobs, job_t *job);

/* NULL, or which invariant is broken. */
char const *jobs_check(jobs_t const *jobs);

void jobs_clear(jobs_t *jobs);

#endif
