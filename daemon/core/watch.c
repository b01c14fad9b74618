/* watch: tasks that people look after: listing them, following one, cancelling one.

   Whoever follows a task gets its state at once, then each time that it changes, and at the end the
   last state and the end of the stream. Only who may know of a workspace may know of its tasks;
   only who began a task, the owner of its workspace and who administers may cancel it. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/engine_priv.h"

static void tell_one(engine_t *e, call_t const *call, task_t const *task) {
  engine_task_t *view = emit_alloc(e, 1, sizeof(*view));
  if (!view) return;
  *view = task->view;
  engine_effect_t *effect = emit(e, ENGINE_FX_STREAM_TASK);
  effect->u.stream_task.conn = call->conn->conn;
  effect->u.stream_task.stream = call->stream;
  effect->u.stream_task.task = view;
}

static int follows(call_t const *call, task_t const *task) {
  return call->method == ENGINE_JOB_WATCH && call->watched_job == task->view.job_id;
}

void watch_tell(engine_t *e, task_t const *task) {
  for (call_t const *call = e->calls.watches; call; call = call->w_next)
    if (follows(call, task)) tell_one(e, call, task);
}

void watch_end(engine_t *e, task_t const *task) {
  for (call_t *call = e->calls.watches, *next; call; call = next) {
    next = call->w_next;
    if (!follows(call, task)) continue;
    tell_one(e, call, task);
    (void)call_answer(e, call);
  }
}

int watch_progress(engine_t *e, engine_event_t const *event) {
  job_t *job = jobs_by_id(&e->jobs, event->u.progress.job_id);
  if (!job || !job->running || !job->task) return ENGINE_STALE;
  job->task->view.phase = event->u.progress.phase;
  job->task->view.done_size = event->u.progress.done_size;
  job->task->view.total_size = event->u.progress.total_size;
  job->task->view.written_size = event->u.progress.written_size;
  watch_tell(e, job->task);
  return 0;
}

/* A listing of a store is our own business, and a look is not looked after. */
static int shown(task_t const *task, conn_t const *conn) {
  return task && task->view.op != ENGINE_OP_CKPT_LIST && task->view.op != ENGINE_OP_CKPT_SHOW &&
         (task->of.name[0] ? rights_sees(&task->of, conn) : conn->admin);
}

void watch_list(engine_t *e, call_t *call) {
  size_t place = 0, cnt = 0;
  engine_task_t *views = emit_alloc(e, e->jobs.by_id.cnt + e->jobs.ended_cnt, sizeof(*views));
  if (!views) return;
  for (uint32_t i = 0; i < e->jobs.ended_cnt; i++)
    if (shown(e->jobs.ended[i], call->conn)) views[cnt++] = e->jobs.ended[i]->view;
  for (job_t const *job; (job = idmap_next(&e->jobs.by_id, &place));)
    if (shown(job->task, call->conn)) views[cnt++] = job->task->view;
  engine_reply_t *reply = call_answer(e, call);
  reply->u.tasks.tasks = views;
  reply->u.tasks.task_cnt = cnt;
}

static task_t *task_lookup(engine_t *e, conn_t const *conn, uint64_t job_id,
                           engine_reply_t *ret_fault) {
  task_t *task = jobs_task(&e->jobs, job_id);
  if (shown(task, conn)) return task;
  fault_set(ret_fault, ENGINE_CODE_NOT_FOUND, "job",
            "there is no job %" PRIu64 "; of those that have ended the last %u are remembered",
            job_id, ENGINE_TASKS_ENDED_MAX);
  fault_hint(ret_fault, "list the jobs there are");
  return NULL;
}

void watch_begin(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  task_t *task = task_lookup(e, call->conn, req->u.c.job.job_id, &fault);
  if (!task ||
      fault_limit("watches of this connection", call->conn->watch_cnt, ENGINE_CONN_WATCHES_MAX,
                  &fault) ||
      fault_limit("watches", e->calls.watch_cnt, ENGINE_WATCHES_MAX, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  tell_one(e, call, task);
  if (task->view.ended_ns) {
    (void)call_answer(e, call);
    return;
  }
  call->watched_job = task->view.job_id;
  calls_watch(&e->calls, call);
}

static int fault_cancel(engine_t const *e, conn_t const *conn, task_t const *task,
                        engine_reply_t *ret_fault) {
  job_t const *job = jobs_by_id(&e->jobs, task->view.job_id);
  if (!conn->admin && conn->uid != task->view.uid && conn->uid != task->of.uid) {
    fault_set(ret_fault, ENGINE_CODE_PERMISSION_DENIED, "permission",
              "uid %" PRIu32 " may not cancel job %" PRIu64 ", which uid %" PRIu32 " began",
              conn->uid, task->view.job_id, task->view.uid);
    fault_hint(ret_fault, "ask who began it, the owner of the workspace, or who administers wkspd");
    return 1;
  }
  if (job && job->op != ENGINE_OP_CKPT_REMOVE) return 0;
  fault_set(ret_fault, ENGINE_CODE_FAILED_PRECONDITION, "ended",
            job ? "job %" PRIu64 " removes a checkpoint, which is not cancelled half-way"
                : "job %" PRIu64 " has ended",
            task->view.job_id);
  fault_hint(ret_fault, "list the jobs there are");
  return 1;
}

void watch_cancel(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  task_t *task = task_lookup(e, call->conn, req->u.c.job.job_id, &fault);
  if (!task || fault_cancel(e, call->conn, task, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  (void)call_answer(e, call);
  job_t *job = jobs_by_id(&e->jobs, req->u.c.job.job_id);
  if (job->op == ENGINE_OP_RESTORE)
    restore_abort(e, job->ws);
  else
    work_cancel(e, job);
}
