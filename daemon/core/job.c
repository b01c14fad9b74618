/* job: see job.h. A compact or resize that has to wait for another one of its workspace does not
   hold up those behind it, nor does a task that has to wait for a place, for its store, or for the
   end of a resize. To pick
   one all that wait are looked at: a few hundred, or a reap for each workspace there is. Refuses to
   know what a job is for. */

#include "daemon/core/job.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/call.h"
#include "daemon/core/engine.h"
#include "daemon/core/registry.h"

/* Of these only one works on a workspace at a time. */
static int takes_turns(job_t const *job) {
  return job->op == ENGINE_OP_COMPACT || job->op == ENGINE_OP_RESIZE;
}

int job_op_long(int op) {
  return op == ENGINE_OP_CHECKPOINT || op == ENGINE_OP_RESTORE || op == ENGINE_OP_CKPT_VERIFY ||
         op == ENGINE_OP_CKPT_REMOVE || op == ENGINE_OP_CKPT_LIST || op == ENGINE_OP_CKPT_DRILL;
}

/* Whether it has the store to itself among those like it. A listing is one of them, for it says
   what is there and must not be older than what is known. */
static int writes_store(job_t const *job) {
  return job->op == ENGINE_OP_CHECKPOINT || job->op == ENGINE_OP_CKPT_REMOVE ||
         job->op == ENGINE_OP_CKPT_LIST;
}

/* Whether it needs files of its store to stay for as long as it runs. */
static int reads_store(job_t const *job) {
  return job->op == ENGINE_OP_RESTORE || job->op == ENGINE_OP_CKPT_VERIFY ||
         job->op == ENGINE_OP_CKPT_DRILL;
}

static int keeps_some(schedule_keep_t const *keep) {
  return keep->last || keep->hourly || keep->daily || keep->weekly || keep->monthly;
}

/* Whether it removes checkpoints. */
static int thins_store(job_t const *job) {
  return job->op == ENGINE_OP_CKPT_REMOVE ||
         (job->op == ENGINE_OP_CHECKPOINT && keeps_some(&job->task->ask.keep));
}

void task_free(task_t *task) {
  if (!task) return;
  free(task->info);
  free(task->tags);
  free(task);
}

/* The round of a new job. What waits of the same uid is found from the end, where a uid with much
   to be done has it. */
static uint64_t next_round(jobs_t const *jobs, uint32_t uid, int op) {
  int is_long = job_op_long(op);
  for (job_t const *job = jobs->last; job; job = job->prev)
    if (job->uid == uid && job_op_long(job->op) == is_long && job->round > jobs->round[is_long])
      return job->round + 1;
  return jobs->round[is_long] + 1;
}

job_t *jobs_add(jobs_t *jobs, ws_t *ws, call_t *call, uint32_t uid, int op) {
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
  job->uid = uid;
  job->round = next_round(jobs, uid, op);
  job->prev = jobs->last;
  if (jobs->last)
    jobs->last->next = job;
  else
    jobs->first = job;
  jobs->last = job;
  if (op == ENGINE_OP_REAP)
    ws->reap = job;
  else if (!job_op_long(op))
    jobs->queued_cnt++;
  return job;
}

job_t *jobs_add_task(jobs_t *jobs, ws_t *ws, task_t *task) {
  job_t *job = jobs_add(jobs, ws, NULL, task->view.uid, task->view.op);
  if (!job) {
    task_free(task);
    return NULL;
  }
  job->task = task;
  task->view.job_id = job->job_id;
  return job;
}

task_t *jobs_task(jobs_t const *jobs, uint64_t job_id) {
  job_t *job = jobs_by_id(jobs, job_id);
  if (job) return job->task;
  for (uint32_t i = 0; i < jobs->ended_cnt; i++)
    if (jobs->ended[i]->view.job_id == job_id) return jobs->ended[i];
  return NULL;
}

uint32_t jobs_queued_of(jobs_t const *jobs, uint32_t uid) {
  uint32_t cnt = 0;
  for (job_t const *job = jobs->first; job; job = job->next)
    cnt += job->uid == uid && job->op != ENGINE_OP_REAP && !job_op_long(job->op);
  return cnt;
}

uint32_t jobs_tasks_of(jobs_t const *jobs, uint32_t uid) {
  uint32_t cnt = 0;
  size_t place = 0;
  for (job_t const *job; (job = idmap_next(&jobs->by_id, &place));)
    cnt += job->task && job->uid == uid;
  return cnt;
}

uint32_t jobs_task_cnt(jobs_t const *jobs) {
  uint32_t cnt = 0;
  size_t place = 0;
  for (job_t const *job; (job = idmap_next(&jobs->by_id, &place));) cnt += job->task != NULL;
  return cnt;
}

job_t *jobs_of(jobs_t const *jobs, ws_t const *ws, int op) {
  size_t place = 0;
  job_t *job;
  while ((job = idmap_next(&jobs->by_id, &place)))
    if (job->ws == ws && job->op == op && !job->cancelled) break;
  return job;
}

void jobs_end_task(jobs_t *jobs, job_t *job) {
  if (jobs->ended_cnt == ENGINE_TASKS_ENDED_MAX) {
    task_free(jobs->ended[0]);
    memmove(jobs->ended, jobs->ended + 1, --jobs->ended_cnt * sizeof(task_t *));
  }
  jobs->ended[jobs->ended_cnt++] = job->task;
  job->task = NULL;
}

job_t *jobs_by_id(jobs_t const *jobs, uint64_t job_id) {
  return idmap_get(&jobs->by_id, job_id);
}

/* Whether a running one has the store to itself. Store 0 is all of them. Linear in what there is,
   which is asked only for a task at the head of those that wait. */
static int store_taken(jobs_t const *jobs, uint64_t store_id) {
  size_t place = 0;
  for (job_t const *job; (job = idmap_next(&jobs->by_id, &place));) {
    if (!job->running || !job->task || !writes_store(job)) continue;
    uint64_t other = job->task->view.store_id;
    if (!other || !store_id || other == store_id) return 1;
  }
  return 0;
}

/* Whether a running one of that kind is at the store. */
static int store_has(jobs_t const *jobs, uint64_t store_id, int (*is)(job_t const *)) {
  size_t place = 0;
  for (job_t const *job; (job = idmap_next(&jobs->by_id, &place));)
    if (job->running && job->task && is(job) && job->task->view.store_id == store_id) return 1;
  return 0;
}

int jobs_store_read(jobs_t const *jobs, uint64_t store_id) {
  return store_has(jobs, store_id, reads_store);
}

/* Nothing is removed under those who read. A checkpoint need not wait for them, it can remove
   another time (work.c). */
static int store_free(jobs_t const *jobs, job_t const *job) {
  uint64_t store_id = job->task->view.store_id;
  if (writes_store(job) && store_taken(jobs, store_id)) return 0;
  if (reads_store(job)) return !store_has(jobs, store_id, thins_store);
  return job->op != ENGINE_OP_CKPT_REMOVE || !jobs_store_read(jobs, store_id);
}

/* A drill takes memory that nobody has given: so one at a time, which also leaves the other places
   to checkpoints that are due. */
static uint32_t drills_running(jobs_t const *jobs) {
  uint32_t cnt = 0;
  size_t place = 0;
  for (job_t const *job; (job = idmap_next(&jobs->by_id, &place));)
    cnt += job->running && job->op == ENGINE_OP_CKPT_DRILL;
  return cnt;
}

static int may_run(jobs_t const *jobs, job_t const *job, uint32_t running_max, uint32_t long_max) {
  if (job->held) return 0;
  if (job->op == ENGINE_OP_CHECKPOINT && job->ws && job->ws->state == WS_RESIZING) return 0;
  if (job->op == ENGINE_OP_CKPT_DRILL && drills_running(jobs)) return 0;
  if (job_op_long(job->op)) return jobs->long_cnt < long_max && store_free(jobs, job);
  return jobs->running_cnt - jobs->long_cnt < running_max &&
         !(takes_turns(job) && job->ws->compacting);
}

job_t *jobs_next(jobs_t const *jobs, uint32_t running_max, uint32_t long_max) {
  job_t *best = NULL;
  if (jobs->running_cnt >= running_max + long_max) return NULL;
  for (job_t *job = jobs->first; job; job = job->next)
    if ((!best || job->round < best->round) && may_run(jobs, job, running_max, long_max))
      best = job;
  return best;
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
  if (job->op != ENGINE_OP_REAP && !job_op_long(job->op)) jobs->queued_cnt--;
}

void jobs_run(jobs_t *jobs, job_t *job) {
  assert(!job->running && !job->held);
  int is_long = job_op_long(job->op);
  jobs_dequeue(jobs, job);
  if (job->round > jobs->round[is_long]) jobs->round[is_long] = job->round;
  job->running = 1;
  jobs->running_cnt++;
  jobs->long_cnt += (uint32_t)job_op_long(job->op);
  if (takes_turns(job)) job->ws->compacting = 1;
}

void jobs_rest(jobs_t *jobs, job_t *job) {
  job_t *after = jobs->last;
  assert(job->running && job_op_long(job->op));
  while (after && after->job_id > job->job_id) after = after->prev;
  job->prev = after;
  job->next = after ? after->next : jobs->first;
  if (job->prev)
    job->prev->next = job;
  else
    jobs->first = job;
  if (job->next)
    job->next->prev = job;
  else
    jobs->last = job;
  job->running = 0;
  job->held = 1;
  jobs->running_cnt--;
  jobs->long_cnt--;
}

void jobs_remove(jobs_t *jobs, job_t *job) {
  if (job->running) {
    jobs->running_cnt--;
    jobs->long_cnt -= (uint32_t)job_op_long(job->op);
    if (job->ws && takes_turns(job)) job->ws->compacting = 0;
  } else {
    jobs_dequeue(jobs, job);
  }
  if (job->ws && job->ws->reap == job) job->ws->reap = NULL;
  idmap_remove(&jobs->by_id, job->job_id);
  task_free(job->task);
  free(job->tags);
  free(job);
}

/* Of the running ones, how many write the store that this one writes. */
static uint32_t store_writers(jobs_t const *jobs, job_t const *writer) {
  uint32_t cnt = 0;
  size_t place = 0;
  for (job_t const *job; (job = idmap_next(&jobs->by_id, &place));)
    cnt += job->running && job->task && writes_store(job) &&
           job->task->view.store_id == writer->task->view.store_id;
  return cnt;
}

static char const *job_check(jobs_t const *jobs, job_t const *job) {
  if (jobs_by_id(jobs, job->job_id) != job) return "by id finds the job of the id";
  if (!job->ws && !job->task && !(job->running && job->cancelled))
    return "a job without a workspace has a task, or is running and cancelled";
  if (job_op_long(job->op) && !job->task) return "what takes long has a task";
  if (job->task && (job->task->view.op != job->op || job->task->view.job_id != job->job_id))
    return "a task is of its job";
  if (job->held && (job->running || !job->task)) return "what is held waits, and has a task";
  if (job->running && job->task && writes_store(job) && store_writers(jobs, job) != 1)
    return "one writes a store at a time";
  if (job->running && job->op == ENGINE_OP_CKPT_DRILL && drills_running(jobs) != 1)
    return "one drill runs at a time";
  if (job->running && job->task && thins_store(job) &&
      jobs_store_read(jobs, job->task->view.store_id))
    return "nothing is removed from a store that is read";
  if (job->call && job->call->job != job) return "a job's call waits for it";
  if (job->ws && job->op == ENGINE_OP_REAP && job->ws->reap != job)
    return "a workspace has one reap";
  if (job->ws && takes_turns(job) && job->running && !job->ws->compacting)
    return "a workspace knows that a compact or resize runs";
  return NULL;
}

/* Of the one before it in the queue that is of the same uid and kind. */
static int round_rises(job_t const *job) {
  job_t const *before = job->prev;
  while (before && (before->uid != job->uid || job_op_long(before->op) != job_op_long(job->op)))
    before = before->prev;
  return !before || before->round < job->round;
}

char const *jobs_check(jobs_t const *jobs) {
  size_t place = 0, queue_cnt = 0;
  uint32_t running_cnt = 0, queued_cnt = 0, long_cnt = 0;
  uint64_t id_before = 0;

  if (!idmap_check(&jobs->by_id)) return "jobs by id";
  for (job_t const *job; (job = idmap_next(&jobs->by_id, &place));) {
    char const *broken = job_check(jobs, job);
    if (broken) return broken;
    running_cnt += (uint32_t)job->running;
    long_cnt += (uint32_t)(job->running && job_op_long(job->op));
    queue_cnt += !job->running;
    queued_cnt += !job->running && job->op != ENGINE_OP_REAP && !job_op_long(job->op);
  }
  for (job_t const *job = jobs->first; job; job = job->next) {
    if (job->running) return "the queue has only queued jobs";
    if (job->job_id <= id_before) return "the queue is in the order of asking";
    if (!round_rises(job)) return "rounds of a uid rise in the order of asking";
    id_before = job->job_id;
    queue_cnt--;
  }
  if (queue_cnt) return "every queued job is in the queue";
  if (running_cnt != jobs->running_cnt || long_cnt != jobs->long_cnt)
    return "running jobs are counted";
  if (queued_cnt != jobs->queued_cnt) return "queued jobs are counted";
  return NULL;
}

void jobs_clear(jobs_t *jobs) {
  size_t place = 0;
  for (job_t *job; (job = idmap_next(&jobs->by_id, &place));) {
    task_free(job->task);
    free(job->tags);
    free(job);
  }
  for (uint32_t i = 0; i < jobs->ended_cnt; i++) task_free(jobs->ended[i]);
  idmap_clear(&jobs->by_id);
  *jobs = (jobs_t){0};
}
