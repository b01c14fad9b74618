/* work: what a worker does on a workspace: query, verify, compact, placement, reap, resize; and the
   queue, places and ends of all jobs, those of checkpoints (ckpt.c) included.

   Jobs wait in one queue for one of few places, which every uid gets in turn (job.h). A request
   that gives up takes its job along: out of the queue, or its worker is killed (which the format
   survives, as it survives any kill); the place is free when the shell says that the worker has
   ended. A worker that fails takes nobody with it: its end becomes a sentence.

   Reaps are the engine's own. A workspace has one, queued or running, however many leases end
   meanwhile; what ended while it ran is the next one's. After ENGINE_REAP_TRIES_MAX failures in a
   row the leases of that attempt are let go of: the allocator finds a dead claimant by itself too,
   only later. Refuses to judge what a worker found; it passes it on. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

static int fault_query(engine_request_t const *req, engine_reply_t *ret_fault) {
  size_t tag_cnt = req->u.query.tag_cnt;

  if (tag_cnt > ENGINE_TAGS_MAX) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "tags",
              "%zu tags are too many for one query: at most %u", tag_cnt, ENGINE_TAGS_MAX);
    fault_figures(ret_fault, tag_cnt, ENGINE_TAGS_MAX);
    fault_hint(ret_fault, "ask in several queries");
    return 1;
  }
  if (req->u.query.page_size > ENGINE_QUERY_PAGE_MAX) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "page_size",
              "%" PRIu32 " partitions are too many for one answer: at most %u",
              req->u.query.page_size, ENGINE_QUERY_PAGE_MAX);
    fault_figures(ret_fault, req->u.query.page_size, ENGINE_QUERY_PAGE_MAX);
    fault_hint(ret_fault, "ask for pages of %u", ENGINE_QUERY_PAGE_DEFAULT);
    return 1;
  }
  return 0;
}

/* The arguments of a query, copied. 0 or WKSP_E_NOMEM. */
static int job_query(job_t *job, engine_request_t const *req) {
  size_t tag_cnt = req->u.query.tag_cnt;

  job->page_gaddr = req->u.query.page_gaddr;
  job->holder_only = req->u.query.holder_only;
  job->page_size = req->u.query.page_size ? req->u.query.page_size : ENGINE_QUERY_PAGE_DEFAULT;
  if (!tag_cnt) return 0;
  job->tags = malloc(tag_cnt * sizeof(*job->tags));
  if (!job->tags) return WKSP_E_NOMEM;
  memcpy(job->tags, req->u.query.tags, tag_cnt * sizeof(*job->tags));
  job->tag_cnt = tag_cnt;
  return 0;
}

void work_begin(engine_t *e, call_t *call, engine_request_t const *req) {
  int verify = req->method == ENGINE_VERIFY, query = verify || req->method == ENGINE_QUERY;
  int compact = req->method == ENGINE_COMPACT;
  int op = query ? ENGINE_OP_QUERY : compact ? ENGINE_OP_COMPACT : ENGINE_OP_PLACE;
  engine_reply_t fault;
  ws_t *ws = ws_lookup(e, query ? req->u.query.name : req->u.compact.name, &fault);

  if (!ws || (query && fault_query(req, &fault)) ||
      fault_rights(&ws->spec, call->conn, compact ? WANT_WRITE : WANT_READ, &fault) ||
      (compact ? fault_writable(ws, &fault) : fault_served(ws, &fault)) ||
      fault_share_job(e, call->conn, &fault)) {
    call_fail(e, call, &fault);
    return;
  }

  job_t *job = jobs_add(&e->jobs, ws, call, call->conn->uid, op);
  if (!job) {
    e->err = WKSP_E_NOMEM;
    return;
  }
  call->job = job;
  job->deadline_mono_ns = call->deadline.place ? call->deadline.due_ns : 0;
  job->verify = verify;
  if (query && job_query(job, req)) e->err = WKSP_E_NOMEM;
}

void work_cancel(engine_t *e, job_t *job) {
  if (!job->running) {
    if (job->task) ckpt_cancelled(e, job);
    jobs_remove(&e->jobs, job);
  } else if (!job->cancelled) {
    job->cancelled = 1;
    emit(e, ENGINE_FX_WORKER_CANCEL)->u.worker_cancel.job_id = job->job_id;
  }
}

void work_abandon(engine_t *e, call_t *call) {
  job_t *job = call->job;

  call->job = NULL;
  job->call = NULL;
  /* half a removal would leave nobody the wiser */
  if (job->op != ENGINE_OP_CKPT_REMOVE) work_cancel(e, job);
}

uint64_t work_resize(engine_t *e, ws_t *ws, uint64_t to, uint64_t deadline_mono_ns) {
  job_t *job = jobs_add(&e->jobs, ws, NULL, ws->spec.uid, ENGINE_OP_RESIZE);
  if (!job) {
    e->err = WKSP_E_NOMEM;
    return 0;
  }
  job->resize_to = to;
  job->deadline_mono_ns = deadline_mono_ns;
  return job->job_id;
}

job_t *work_resize_job(engine_t const *e, ws_t const *ws) {
  size_t place = 0;
  job_t *job;

  while ((job = idmap_next(&e->jobs.by_id, &place)))
    if (job->ws == ws && job->op == ENGINE_OP_RESIZE && !job->cancelled) break;
  return job;
}

int work_resize_cancel(engine_t *e, ws_t *ws) {
  job_t *job = work_resize_job(e, ws);
  int running = job && job->running;
  if (job) work_cancel(e, job);
  return running;
}

void work_reap(engine_t *e, ws_t *ws) {
  if (ws->reap || !ws->ended || e->stopping) return;
  if (!jobs_add(&e->jobs, ws, NULL, ws->spec.uid, ENGINE_OP_REAP)) e->err = WKSP_E_NOMEM;
}

/* Picks the leases of this reap and tells the worker. */
static void reap_start(engine_t *e, ws_t *ws, engine_effect_t *start) {
  size_t cnt = 0;
  for (lease_t *lease = ws->ended; lease && cnt < ENGINE_REAP_LEASES_MAX; lease = lease->next)
    cnt++;
  uint64_t *lease_ids = emit_alloc(e, cnt, sizeof(*lease_ids));
  if (!lease_ids) return;

  lease_t *lease = ws->ended;
  for (size_t i = 0; i < cnt; i++, lease = lease->next) {
    lease->reaping = 1;
    lease_ids[i] = lease->lease_id;
  }
  start->u.worker_start.leases = lease_ids;
  start->u.worker_start.lease_cnt = cnt;
}

/* What it points to lives as long as the task, which is longer than the update. */
static void task_start(engine_t *e, job_t *job, engine_effect_t *start) {
  task_t *task = job->task;
  engine_ckpt_ask_t *ask = emit_alloc(e, 1, sizeof(*ask));
  if (!ask) return;
  if (job->op == ENGINE_OP_CHECKPOINT) ckpt_settle(e, task);
  if (job->op == ENGINE_OP_CKPT_DRILL) drill_settle(e, task);
  *ask = task->ask;
  if (job->ws) ask->spec = job->ws->spec;
  ask->spec.replaces = 0; /* which is of the present only */
  start->u.worker_start.ckpt = ask;
  task->view.state = ENGINE_TASK_RUNNING;
  task->view.begun_ns = e->now_real_ns;
  watch_tell(e, task);
}

static void job_start(engine_t *e, job_t *job) {
  engine_effect_t *start = emit(e, ENGINE_FX_WORKER_START);

  start->u.worker_start.job_id = job->job_id;
  start->u.worker_start.ws_id = job->ws ? job->ws->spec.ws_id : 0;
  start->u.worker_start.op = job->op;
  start->u.worker_start.deadline_mono_ns = job->deadline_mono_ns;
  if (job->op == ENGINE_OP_REAP) {
    reap_start(e, job->ws, start);
    return;
  }
  if (job->task) {
    task_start(e, job, start);
    return;
  }
  start->u.worker_start.resize_to =
      job->op == ENGINE_OP_PLACE ? job->ws->spec.size : job->resize_to;
  start->u.worker_start.size_min = job->ws->size_min;
  start->u.worker_start.page_bytes = job->ws->spec.page_size;
  start->u.worker_start.page_gaddr = job->page_gaddr;
  start->u.worker_start.page_size = job->page_size;
  start->u.worker_start.holder_only = job->holder_only;
  start->u.worker_start.verify = job->verify;
  if (!job->tag_cnt) return;
  uint64_t *tags = emit_alloc(e, job->tag_cnt, sizeof(*tags));
  if (!tags) return;
  memcpy(tags, job->tags, job->tag_cnt * sizeof(*tags));
  start->u.worker_start.tags = tags;
  start->u.worker_start.tag_cnt = job->tag_cnt;
}

void work_dispatch(engine_t *e) {
  job_t *job;

  if (e->phase != ENGINE_PHASE_SERVING) return;
  while (!e->err &&
         (job = jobs_next(&e->jobs, e->config.jobs_running_max, e->config.tasks_running_max))) {
    jobs_run(&e->jobs, job);
    job_start(e, job);
  }
}

void fault_worker(ws_t const *ws, engine_event_t const *event, engine_reply_t *ret_fault) {
  fault_worker_of(ws->spec.name, event, ret_fault);
}

void fault_worker_of(char const *name, engine_event_t const *event, engine_reply_t *ret_fault) {
  static struct {
    int code;
    char const *kind, *what, *hint;
  } const ends[] = {
      [ENGINE_WORKER_INVALID] = {ENGINE_CODE_INVALID_ARGUMENT, "argument",
                                 "an argument does not fit it", "start from the first page"},
      [ENGINE_WORKER_AGAIN] = {ENGINE_CODE_UNAVAILABLE, "busy", "a writer was in the way",
                               "try again"},
      [ENGINE_WORKER_DAMAGED] = {ENGINE_CODE_DATA_LOSS, "damaged", "it does not satisfy its format",
                                 "verify it"},
      [ENGINE_WORKER_CRASHED] = {ENGINE_CODE_DATA_LOSS, "damaged",
                                 "the worker crashed on it, so it is damaged", "verify it"},
      [ENGINE_WORKER_KILLED] = {ENGINE_CODE_INTERNAL, "worker", "the worker was killed",
                                "try again; see the daemon's log"},
      [ENGINE_WORKER_GARBAGE] = {ENGINE_CODE_INTERNAL, "worker",
                                 "the worker did not give an answer that can be read",
                                 "try again; see the daemon's log"},
      [ENGINE_WORKER_TIMEOUT] = {ENGINE_CODE_DEADLINE_EXCEEDED, "deadline",
                                 "the worker took too long and was killed",
                                 "try again with more time; verify it"},
      [ENGINE_WORKER_NOT_BEGUN] = {ENGINE_CODE_INTERNAL, "worker", "no worker could be started",
                                   "try again; see the daemon's log"},
      [ENGINE_WORKER_CANCELLED] = {ENGINE_CODE_INTERNAL, "worker",
                                   "the worker was cancelled without need",
                                   "try again; see the daemon's log"},
      [ENGINE_WORKER_MISSING] = {ENGINE_CODE_NOT_FOUND, "checkpoint", "there is no such checkpoint",
                                 "list the checkpoints there are"},
      [ENGINE_WORKER_NO_ROOM] = {ENGINE_CODE_RESOURCE_EXHAUSTED, "room", "there is too little room",
                                 "make room where the daemon keeps its state, or remove "
                                 "checkpoints"},
      [ENGINE_WORKER_STAYED] = {ENGINE_CODE_FAILED_PRECONDITION, "bracket",
                                "a client did not leave its bracket in time",
                                "end or mend that client, or take a fuzzy one"},
      [ENGINE_WORKER_DISK] = {ENGINE_CODE_INTERNAL, "disk", "the disk or the system refused",
                              "see what it says, and the daemon's log"},
  };
  int status = event->u.worker_done.status;
  char const *detail = event->u.worker_done.detail;

  fault_set(ret_fault, ends[status].code, ends[status].kind,
            "workspace \"%s\" could not be worked on: %s%s%s", name, ends[status].what,
            detail ? ": " : "", detail ? detail : "");
  fault_workspace(ret_fault, name);
  fault_hint(ret_fault, "%s", ends[status].hint);
}

/* The leases of the reap that has ended. */
static void reap_done(engine_t *e, ws_t *ws, engine_event_t const *event) {
  int failed = event->u.worker_done.status != ENGINE_WORKER_OK;
  uint32_t cnt = 0;

  ws->reap_tries = failed ? ws->reap_tries + 1 : 0;
  int again = failed && ws->reap_tries < ENGINE_REAP_TRIES_MAX;
  if (!again) ws->reap_tries = 0;
  for (lease_t *lease = ws->ended, *next; lease; lease = next) {
    next = lease->next;
    if (!lease->reaping) continue;
    lease->reaping = 0;
    cnt++;
    if (again) continue;
    emit_lease_drop(e, lease);
    leases_remove(&e->leases, lease);
  }
  if (failed) {
    engine_reply_t fault;
    fault_worker(ws, event, &fault);
    emit_log(e, ENGINE_LOG_WARN,
             "event=reap-failed workspace=%s id=%" PRIu64 " leases=%" PRIu32
             " again=%d reason=\"%s\"",
             ws->spec.name, ws->spec.ws_id, cnt, again, fault.sentence);
  }
  work_reap(e, ws);
}

int work_done(engine_t *e, engine_event_t const *event) {
  job_t *job = jobs_by_id(&e->jobs, event->u.worker_done.job_id);
  int status = event->u.worker_done.status;

  if (!job || !job->running) return WKSP_E_INVAL;
  if (status < ENGINE_WORKER_OK || status >= ENGINE_WORKER_STATUSES) return WKSP_E_INVAL;
  mark_worked(e, job, event);
  if (job->task) {
    ckpt_done(e, job, event);
    return 0;
  }
  ws_t *ws = job->ws;
  call_t *call = job->call;
  int reap = job->op == ENGINE_OP_REAP, resize = job->op == ENGINE_OP_RESIZE;

  if (call) call->job = NULL;
  jobs_remove(&e->jobs, job);
  if (resize && ws) resize_worked(e, ws, event);
  if (reap && ws && !e->stopping) reap_done(e, ws, event);
  if (!call) return 0;
  if (status == ENGINE_WORKER_OK && call->method == ENGINE_PLACEMENT) {
    engine_workspace_t *view = browse_view(e, ws);
    engine_reply_t *reply = call_answer(e, call);
    reply->u.placement.workspace = view;
    reply->u.placement.worker_result = event->u.worker_done.result;
    return 0;
  }
  if (status == ENGINE_WORKER_OK && call->method == ENGINE_VERIFY) {
    engine_workspace_t *view = browse_view(e, ws);
    call_answer(e, call)->u.workspace = view;
    return 0;
  }
  if (status == ENGINE_WORKER_OK) {
    call_answer(e, call)->u.worker_result = event->u.worker_done.result;
    return 0;
  }
  engine_reply_t fault;
  fault_worker(ws, event, &fault);
  emit_log(e, ENGINE_LOG_WARN, "event=worker-failed workspace=%s id=%" PRIu64 " reason=\"%s\"",
           ws->spec.name, ws->spec.ws_id, fault.sentence);
  call_fail(e, call, &fault);
  return 0;
}

/* Answers the job's call with the fault and cancels it. */
static void job_fail(engine_t *e, job_t *job, engine_reply_t const *fault) {
  call_t *call = job->call;

  if (call) {
    job->call = NULL;
    call->job = NULL;
    call_fail(e, call, fault);
  }
  work_cancel(e, job);
}

void work_cancel_workspace(engine_t *e, ws_t *ws, engine_reply_t const *fault) {
  size_t place = 0;

  for (job_t *job = e->jobs.first, *next; job; job = next) {
    next = job->next;
    if (job->ws == ws) job_fail(e, job, fault);
  }
  /* The rest is running, and stays in the map until its worker has ended. */
  for (job_t *job; (job = idmap_next(&e->jobs.by_id, &place));) {
    if (job->ws != ws) continue;
    job_fail(e, job, fault);
    job->ws = NULL;
  }
  ws->reap = NULL;
  ws->compacting = 0;
  while (ws->ended) {
    lease_t *lease = ws->ended;
    emit_lease_drop(e, lease);
    leases_remove(&e->leases, lease);
  }
}

/* A resize ends by its own rules; one that nobody has asked for, too (resize_mend). */
static void stop_job(engine_t *e, job_t *job) {
  if (job->op == ENGINE_OP_RESIZE && job->ws)
    resize_stop(e, job->ws);
  else
    work_cancel(e, job);
}

void work_stop(engine_t *e) {
  size_t place = 0;

  for (job_t *job = e->jobs.first, *next; job; job = next) {
    next = job->next;
    if (job->call || job->op == ENGINE_OP_RESTORE) continue;
    if (job->task && job->task->view.by == SCHEDULE_BY_STOP) continue;
    stop_job(e, job);
  }
  for (job_t *job; (job = idmap_next(&e->jobs.by_id, &place));)
    if (job->running && !job->call && job->op != ENGINE_OP_RESTORE) stop_job(e, job);
}
