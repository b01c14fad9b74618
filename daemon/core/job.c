/* job: see job.h. First come, first served, but a compact or resize that has to wait for another
   one of its workspace does not hold up those behind it. Refuses to know what a job is for. */

#include "daemon/core/job.h"

#include <assert.h>
#include <stdlib.h>

#include "daemon/core/call.h"
#include "daemon/core/engine.h"
#include "daemon/core/registry.h"

/* Of these only one works on a workspace at a time. */
static int takes_turns(job_t const *job) {
  return job->op == ENGINE_OP_COMPACT || job->op == ENGINE_OP_RESIZE;
}

job_t *jobs_add(jobs_t *jobs, ws_t *ws, call_t *call, int op) {
  job_t *job = calloc(1, sizeof(*job));
  if (!job) return NULL;
  if (idmap_add(&jobs->by_id, jobs->id_high + 1, job)) {
    free(job);
    return NULL;
  }
  job->job_id = ++jobs->id_high;
  job->ws = ws;
  job->call = call;
  job->op = op;
  job->prev = jobs->last;
  if (jobs->last)
    jobs->last->next = job;
  else
    jobs->first = job;
  jobs->last = job;
  if (op == ENGINE_OP_REAP)
    ws->reap = job;
  else
    jobs->queued_cnt++;
  return job;
}

job_t *jobs_by_id(jobs_t const *jobs, uint64_t job_id) {
  return idmap_get(&jobs->by_id, job_id);
}

job_t *jobs_next(jobs_t const *jobs) {
  job_t *job = jobs->first;
  while (job && takes_turns(job) && job->ws->compacting) job = job->next;
  return job;
}

static void jobs_dequeue(jobs_t *jobs, job_t *job) {
  if (job->prev)
    job->prev->next = job->next;
  else
    jobs->first = job->next;
  if (job->next)
    job->next->prev = job->prev;
  else
    jobs->last = job->prev;
  job->prev = job->next = NULL;
  if (job->op != ENGINE_OP_REAP) jobs->queued_cnt--;
}

void jobs_run(jobs_t *jobs, job_t *job) {
  assert(!job->running);
  jobs_dequeue(jobs, job);
  job->running = 1;
  jobs->running_cnt++;
  if (takes_turns(job)) job->ws->compacting = 1;
}

void jobs_remove(jobs_t *jobs, job_t *job) {
  if (job->running) {
    jobs->running_cnt--;
    if (job->ws && takes_turns(job)) job->ws->compacting = 0;
  } else {
    jobs_dequeue(jobs, job);
  }
  if (job->ws && job->ws->reap == job) job->ws->reap = NULL;
  idmap_remove(&jobs->by_id, job->job_id);
  free(job->tags);
  free(job);
}

char const *jobs_check(jobs_t const *jobs) {
  size_t place = 0, queue_cnt = 0;
  uint32_t running_cnt = 0, queued_cnt = 0;
  uint64_t id_before = 0;

  if (!idmap_check(&jobs->by_id)) return "jobs by id";
  for (job_t const *job; (job = idmap_next(&jobs->by_id, &place));) {
    if (jobs_by_id(jobs, job->job_id) != job) return "by id finds the job of the id";
    running_cnt += (uint32_t)job->running;
    queue_cnt += !job->running;
    queued_cnt += !job->running && job->op != ENGINE_OP_REAP;
    if (!job->ws && !(job->running && job->cancelled))
      return "a job without a workspace is running and cancelled";
    if (job->call && job->call->job != job) return "a job's call waits for it";
    if (job->ws && job->op == ENGINE_OP_REAP && job->ws->reap != job)
      return "a workspace has one reap";
    if (job->ws && takes_turns(job) && job->running && !job->ws->compacting)
      return "a workspace knows that a compact or resize runs";
  }
  for (job_t const *job = jobs->first; job; job = job->next) {
    if (job->running) return "the queue has only queued jobs";
    if (job->job_id <= id_before) return "the queue is in the order of asking";
    id_before = job->job_id;
    queue_cnt--;
  }
  if (queue_cnt) return "every queued job is in the queue";
  if (running_cnt != jobs->running_cnt) return "running jobs are counted";
  if (queued_cnt != jobs->queued_cnt) return "queued jobs are counted";
  return NULL;
}

void jobs_clear(jobs_t *jobs) {
  size_t place = 0;
  for (job_t *job; (job = idmap_next(&jobs->by_id, &place));) {
    free(job->tags);
    free(job);
  }
  idmap_clear(&jobs->by_id);
  *jobs = (jobs_t){0};
}
