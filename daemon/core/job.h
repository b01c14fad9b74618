/* job: work that a sandboxed process does on one workspace, queued until there is room for it.

   Invariants (jobs_check):
     queued ones are in the queue, in the order of their asking; running_cnt counts the others
     queued_cnt counts queued ones but reaps: those that a request waits for
     at most one compact or resize of a workspace runs, and ws->compacting says so
     at most one reap of a workspace is queued or running, and it is ws->reap
     a job without a workspace is running and cancelled: the workspace has gone */

#ifndef WKSPD_CORE_JOB_H
#define WKSPD_CORE_JOB_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/idmap.h"

struct ws;
struct call;

typedef struct job {
  uint64_t job_id;
  struct ws *ws;     /* NULL: gone */
  struct call *call; /* NULL: a reap, a resize, or nobody waits any more */
  int op;            /* ENGINE_OP_* */
  int running;
  int cancelled;
  uint64_t deadline_mono_ns;
  uint64_t *tags; /* owned */
  size_t tag_cnt;
  uint64_t page_gaddr;
  uint32_t page_size;
  int holder_only;
  uint64_t resize_to;
  struct job *prev, *next; /* in the queue */
} job_t;

typedef struct jobs {
  idmap_t by_id;
  job_t *first, *last; /* the queue */
  uint64_t id_high;
  uint32_t running_cnt;
  uint32_t queued_cnt; /* those but reaps */
} jobs_t;

/* A new job at the end of the queue. NULL: no memory. */
job_t *jobs_add(jobs_t *jobs, struct ws *ws, struct call *call, int op);

job_t *jobs_by_id(jobs_t const *jobs, uint64_t job_id);

/* The first in the queue that may run now, NULL if none. */
job_t *jobs_next(jobs_t const *jobs);

/* Out of the queue, running. */
void jobs_run(jobs_t *jobs, job_t *job);

/* Forgets it, queued or running. Its call, if any, must have let go of it (call->job NULL). */
void jobs_remove(jobs_t *jobs, job_t *job);

/* NULL, or which invariant is broken. */
char const *jobs_check(jobs_t const *jobs);

void jobs_clear(jobs_t *jobs);

#endif
