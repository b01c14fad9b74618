/* engine: events to rules.

   The contract is in engine.h, the rules in the files that engine_priv.h lists. Here is what they
   have in common: the order of events, connections and their limits, deadlines, stopping.

   One step: the clock, then the deadlines that have passed, then the event, then the jobs for which
   there is room. A connection that closes goes before the deadlines, for it wants no replies.

   Invariants (engine_check):
     those of registry.h, lease.h, call.h, job.h, timers.h, history.h, catalog.h and agenda.h
     await_cnt == workspaces awaiting + leases in the making + schedules being written
     a call's timer is running if it has a deadline; all running timers are those of calls,
     retries, slots and drills
     a workspace's Create, Delete or Resize names the workspace as the thing it waits for
     a resize in its worker's step has a job, queued or running
     a workspace that a restore makes has its job, until it is published or undone
     one that is being restored in place is ready and held by nobody
     no id is above the highest given out

   Refuses events out of order (START, recovery, the rest) and answers that nobody asked for. */

#include "daemon/core/engine.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

engine_t *engine_new(void) {
  return calloc(1, sizeof(engine_t));
}

void engine_free(engine_t *e) {
  if (!e) return;
  timers_clear(&e->timers);
  jobs_clear(&e->jobs);
  calls_clear(&e->calls);
  leases_clear(&e->leases);
  registry_clear(&e->registry);
  history_clear(&e->history);
  free(e->quota);
  catalog_clear(&e->catalog);
  agenda_clear(&e->agenda);
  free(e);
}

static void limit_settle(uint32_t *limit, uint32_t normal, uint32_t max) {
  if (!*limit) *limit = normal;
  if (*limit > max) *limit = max;
}

static int engine_start(engine_t *e, engine_event_t const *event) {
  engine_config_t *config = &e->config;

  if (e->phase != ENGINE_PHASE_NEW) return WKSP_E_INVAL;
  *config = event->u.start;
  config->daemon_version[sizeof(config->daemon_version) - 1] = 0;
  limit_settle(&config->conns_max, ENGINE_CONNS_MAX, ENGINE_CONNS_MAX);
  limit_settle(&config->uid_conns_max, ENGINE_UID_CONNS_MAX, ENGINE_CONNS_MAX);
  limit_settle(&config->uid_workspaces_max, ENGINE_UID_WORKSPACES_MAX, ENGINE_WORKSPACES_MAX);
  limit_settle(&config->workspaces_max, ENGINE_WORKSPACES_MAX, ENGINE_WORKSPACES_MAX);
  limit_settle(&config->leases_max, ENGINE_LEASES_MAX, ENGINE_LEASES_MAX);
  limit_settle(&config->kept_max, ENGINE_WORKSPACES_MAX + ENGINE_LEASES_MAX,
               ENGINE_WORKSPACES_MAX + ENGINE_LEASES_MAX);
  limit_settle(&config->files_max, ENGINE_WORKSPACES_MAX + ENGINE_LEASES_MAX + ENGINE_CONNS_MAX,
               ENGINE_WORKSPACES_MAX + ENGINE_LEASES_MAX + ENGINE_CONNS_MAX);
  limit_settle(&config->jobs_running_max, ENGINE_JOBS_RUNNING_DEFAULT, ENGINE_JOBS_RUNNING_MAX);
  limit_settle(&config->tasks_running_max, ENGINE_TASKS_RUNNING_DEFAULT, ENGINE_TASKS_RUNNING_MAX);
  e->ws_id_high = config->ws_id_high;
  e->lease_id_high = config->lease_id_high;
  e->started_mono_ns = e->now_mono_ns;
  e->phase = ENGINE_PHASE_RECOVERING;
  return 0;
}

/* Connections
 * ------------------------------------------------------------------------------------------------
 */

/* Lets go of what the call waits for. It is then to be answered or removed. */
static void call_abandon(engine_t *e, call_t *call) {
  if (call->waits)
    (void)replace_waiter(call->waits);
  else if (call->plan)
    cadence_abandon(e, call);
  else if (call->ws && (call->method == ENGINE_CREATE || call->method == ENGINE_RESTORE))
    create_abandon(e, call);
  else if (call->ws && call->method == ENGINE_RESIZE)
    resize_abandon(e, call);
  else if (call->ws)
    remove_abandon(e, call);
  else if (call->lease)
    open_abandon(e, call);
  else if (call->job)
    work_abandon(e, call);
}

static int conn_closed(engine_t *e, engine_event_t const *event) {
  conn_t *conn = calls_conn(&e->calls, event->u.conn.conn);

  if (!conn) return ENGINE_STALE;
  while (conn->calls) {
    call_t *call = conn->calls;
    call_abandon(e, call);
    timers_stop(&e->timers, &call->deadline);
    calls_remove(&e->calls, call);
  }
  calls_conn_remove(&e->calls, conn);
  return 0;
}

/* Requests
 * ------------------------------------------------------------------------------------------------
 */

static int fault_request(engine_t const *e, conn_t const *conn, engine_event_t const *event,
                         engine_reply_t *ret_fault) {
  uint64_t deadline = event->u.request.deadline_mono_ns;

  if (e->stopping) {
    fault_set(ret_fault, ENGINE_CODE_UNAVAILABLE, "stopping", "the daemon is stopping");
    fault_hint(ret_fault, "try again once it has been started anew");
    return 1;
  }
  if (deadline && deadline <= e->now_mono_ns) {
    fault_set(ret_fault, ENGINE_CODE_DEADLINE_EXCEEDED, "deadline",
              "the deadline had passed when the request came; nothing was done");
    fault_hint(ret_fault, "give it more time");
    return 1;
  }
  return fault_share_call(e, conn, ret_fault);
}

/* Those about checkpoints; they may have to wait until it is known what there are. */
static int route_ckpt(engine_t *e, call_t *call, engine_request_t const *req) {
  if (ckpt_not_yet(e, call, req)) return 0;
  if (req->method == ENGINE_CHECKPOINT)
    ckpt_begin(e, call, req);
  else if (req->method == ENGINE_CKPT_LIST)
    ckpt_list(e, call, req);
  else if (req->method == ENGINE_RESTORE)
    restore_begin(e, call, req);
  else
    ckpt_look(e, call, req);
  return 0;
}

int engine_route(engine_t *e, call_t *call, engine_request_t const *req) {
  switch (req->method) {
  case ENGINE_CHECKPOINT:
  case ENGINE_CKPT_LIST:
  case ENGINE_CKPT_SHOW:
  case ENGINE_CKPT_VERIFY:
  case ENGINE_CKPT_REMOVE:
  case ENGINE_RESTORE:
    return route_ckpt(e, call, req);
  case ENGINE_SCHEDULE_SET:
    cadence_set(e, call, req);
    return 0;
  case ENGINE_SCHEDULE_GET:
    cadence_get(e, call, req);
    return 0;
  case ENGINE_JOB_LIST:
    watch_list(e, call);
    return 0;
  case ENGINE_JOB_WATCH:
    watch_begin(e, call, req);
    return 0;
  case ENGINE_JOB_CANCEL:
    watch_cancel(e, call, req);
    return 0;
  case ENGINE_CREATE:
    create_begin(e, call, req);
    return 0;
  case ENGINE_PLAN:
    plan_begin(e, call, req);
    return 0;
  case ENGINE_DELETE:
    remove_begin(e, call, req);
    return 0;
  case ENGINE_GET:
    browse_get(e, call, req);
    return 0;
  case ENGINE_LIST:
    browse_list(e, call, req);
    return 0;
  case ENGINE_OPEN:
    open_begin(e, call, req);
    return 0;
  case ENGINE_QUERY:
  case ENGINE_VERIFY:
  case ENGINE_COMPACT:
  case ENGINE_PLACEMENT:
    work_begin(e, call, req);
    return 0;
  case ENGINE_RESIZE:
    resize_begin(e, call, req);
    return 0;
  case ENGINE_WATCH:
    browse_watch(e, call, req);
    return 0;
  case ENGINE_VERSION:
    browse_version(e, call);
    return 0;
  case ENGINE_STATS:
    browse_stats(e, call, req);
    return 0;
  case ENGINE_CLIENTS:
    audit_clients(e, call, req);
    return 0;
  default:
    return WKSP_E_INVAL;
  }
}

static int request_take(engine_t *e, engine_event_t const *event) {
  conn_t *conn = calls_conn(&e->calls, event->u.request.conn);
  uint32_t stream = event->u.request.stream;
  uint64_t deadline = event->u.request.deadline_mono_ns;
  engine_reply_t fault;

  if (!conn) return ENGINE_STALE;
  if (calls_find(conn, stream)) return WKSP_E_INVAL;
  e->request_cnt++;
  if (fault_request(e, conn, event, &fault)) {
    request_refuse(e, event, &fault);
    return 0;
  }

  call_t *call = calls_add(&e->calls, conn, stream, event->u.request.req.method);
  if (!call) return WKSP_E_NOMEM;
  call->deadline.owner = call;
  call->deadline.kind = TIMER_DEADLINE;
  if (deadline && timers_start(&e->timers, &call->deadline, deadline)) return WKSP_E_NOMEM;
  if (repeat_answer(e, call, &event->u.request.req)) return 0;
  return engine_route(e, call, &event->u.request.req);
}

static int request_cancel(engine_t *e, engine_event_t const *event) {
  conn_t *conn = calls_conn(&e->calls, event->u.cancel.conn);
  call_t *call = conn ? calls_find(conn, event->u.cancel.stream) : NULL;
  engine_reply_t fault;

  if (!call) return ENGINE_STALE;
  call_abandon(e, call);
  fault_set(&fault, ENGINE_CODE_CANCELLED, "cancelled", "the request was cancelled by its sender");
  call_fail(e, call, &fault);
  return 0;
}

/* Time and end
 * ------------------------------------------------------------------------------------------------
 */

static void deadline_passed(engine_t *e, call_t *call) {
  engine_reply_t fault;

  if (call->fault)
    fault = *call->fault; /* says more, and nothing more will come */
  else if (call->watching)
    fault_set(&fault, ENGINE_CODE_DEADLINE_EXCEEDED, "deadline", "the watch's time has passed");
  else
    fault_set(&fault, ENGINE_CODE_DEADLINE_EXCEEDED, "deadline",
              "the deadline passed before it was done; %s",
              call->method == ENGINE_DELETE ? "the removal may still happen"
              : call->method == ENGINE_CREATE || call->method == ENGINE_RESTORE
                  ? "what had been made is undone"
              : call->method == ENGINE_RESIZE
                  ? "its size may have changed: show it, or resize again"
                  : "it was given up");
  if (!call->fault) fault_hint(&fault, "give it more time");
  call_abandon(e, call);
  call_fail(e, call, &fault);
}

/* What checkpoints there are could not be read. */
static void catalog_again(engine_t *e) {
  if (e->stopping) return;
  e->catalog_state = CATALOG_UNKNOWN;
  ckpt_learn(e, 0);
}

static void timers_fire(engine_t *e) {
  timer_node_t *node;

  while (!e->err && (node = timers_first(&e->timers)) && node->due_ns <= e->now_mono_ns) {
    timers_stop(&e->timers, node);
    if (node->kind == TIMER_DEADLINE)
      deadline_passed(e, node->owner);
    else if (node->kind == TIMER_SCHEDULE)
      cadence_due(e, node->owner);
    else if (node->kind == TIMER_DRILL)
      drill_due(e, node->owner);
    else if (node->kind == TIMER_CATALOG)
      catalog_again(e);
    else if (node->kind == TIMER_PRESSURE)
      press_due(e);
    else
      remove_retry(e, node->owner);
  }
}

/* Those that no call waits for. Giving one up may take its workspace out of the map, so a walk
   looks for the next only. */
static void stop_restores(engine_t *e) {
  ws_t *ws;
  do {
    size_t place = 0;
    while ((ws = idmap_next(&e->registry.by_id, &place)))
      if (ws->restore_job && !ws->call && !ws_undone(ws)) break;
    if (ws) restore_abort(e, ws);
  } while (ws && !e->err);
}

/* Checkpoints that the stop itself has begun. */
static void stop_at_once(engine_t *e) {
  size_t place = 0;
  for (job_t *job = e->jobs.first, *next; job; job = next) {
    next = job->next;
    if (!job->held) work_cancel(e, job);
  }
  for (job_t *job; (job = idmap_next(&e->jobs.by_id, &place));)
    if (job->running) work_cancel(e, job);
}

/* Everything but a removal that has begun is given up; that is answered when it is done. */
static void engine_stop(engine_t *e) {
  size_t place = 0;
  engine_reply_t fault;

  if (e->stopping) {
    stop_at_once(e);
    return;
  }
  e->stopping = 1;
  timers_stop(&e->timers, &e->catalog_timer);
  timers_stop(&e->timers, &e->press_timer);
  fault_set(&fault, ENGINE_CODE_UNAVAILABLE, "stopping", "the daemon is stopping");
  fault_hint(&fault, "try again once it has been started anew");
  for (conn_t *conn; (conn = idmap_next(&e->calls.conns, &place));) {
    for (call_t *call = conn->calls, *next; call; call = next) {
      next = call->next;
      if ((call->method == ENGINE_DELETE && !call->later) || call->fault) continue;
      call_abandon(e, call);
      call_fail(e, call, &fault);
    }
  }
  stop_restores(e);
  work_stop(e);
  cadence_stop(e);
  emit_log(e, ENGINE_LOG_INFO, "event=stopping await=%" PRIu64 " workers=%" PRIu32, e->await_cnt,
           e->jobs.running_cnt);
}

/* An answer to PERSIST is the business of who asked for it. */
static int persisted(engine_t *e, engine_event_t const *event) {
  ws_t *ws = registry_by_id(&e->registry, event->u.done.ws_id);

  if (!ws || !ws->awaiting) return WKSP_E_INVAL;
  switch (ws->state) {
  case WS_SPEC_MAKING:
  case WS_SPEC_READY:
  case WS_SPEC_UNMAKING:
    return create_persisted(e, ws, event);
  case WS_SPEC_REMOVING:
  case WS_RESTORING:
    return remove_persisted(e, ws, event);
  case WS_RESIZING:
    return resize_persisted(e, ws, event);
  default:
    return WKSP_E_INVAL;
  }
}

static int event_route(engine_t *e, engine_event_t const *event) {
  switch (event->kind) {
  case ENGINE_EV_RECOVERED_WORKSPACE:
    return recover_workspace(e, event);
  case ENGINE_EV_RECOVERED_LEASE:
    return recover_lease(e, event);
  case ENGINE_EV_RECOVERED_END:
    if (e->phase != ENGINE_PHASE_RECOVERING) return WKSP_E_INVAL;
    recover_end(e);
    ckpt_start(e);
    return 0;
  case ENGINE_EV_RECOVERED_SCHEDULE:
    return cadence_recovered(e, event);
  case ENGINE_EV_SCHEDULE_WRITTEN:
    return cadence_written(e, event);
  case ENGINE_EV_WORKER_PROGRESS:
    return watch_progress(e, event);
  case ENGINE_EV_CONN_OPEN:
    return share_conn_open(e, event);
  case ENGINE_EV_CONN_CLOSED:
    return conn_closed(e, event);
  case ENGINE_EV_REQUEST:
    return request_take(e, event);
  case ENGINE_EV_CANCEL:
    return request_cancel(e, event);
  case ENGINE_EV_PERSISTED:
    return persisted(e, event);
  case ENGINE_EV_MEMORY_MADE:
    return create_memory_made(e, event);
  case ENGINE_EV_MEMORY_RESIZED:
    return resize_memory(e, event);
  case ENGINE_EV_REMOVED:
    return remove_done(e, event);
  case ENGINE_EV_LEASE_MADE:
    return open_made(e, event);
  case ENGINE_EV_WORKER_DONE:
    return work_done(e, event);
  case ENGINE_EV_LIFELINE_HUP:
    return open_hangup(e, event);
  case ENGINE_EV_QUARANTINE:
    return remove_quarantine(e, event);
  case ENGINE_EV_QUOTA:
    return charge_rules(e, event);
  case ENGINE_EV_POOLS:
    return press_pools(e, event);
  case ENGINE_EV_HELD:
    return charge_held(e, event);
  case ENGINE_EV_VIOLATION:
    e->violation_cnt++;
    return 0;
  case ENGINE_EV_TICK:
    return 0;
  case ENGINE_EV_STOP:
    engine_stop(e);
    return 0;
  default:
    return WKSP_E_INVAL;
  }
}

int engine_step(engine_t *e, engine_event_t const *event, engine_update_t *update) {
  engine_update_reset(update);
  if (e->err) return e->err;
  if (!event->now_mono_ns) return e->err = WKSP_E_INVAL;
  if ((event->kind == ENGINE_EV_START) != (e->phase == ENGINE_PHASE_NEW))
    return e->err = WKSP_E_INVAL;

  e->update = update;
  if (event->now_mono_ns > e->now_mono_ns) e->now_mono_ns = event->now_mono_ns;
  e->now_real_ns = event->now_real_ns;
  int outcome;
  if (event->kind == ENGINE_EV_START) {
    outcome = engine_start(e, event);
  } else if (event->kind == ENGINE_EV_CONN_CLOSED) {
    outcome = event_route(e, event);
    timers_fire(e);
  } else {
    timers_fire(e);
    outcome = event_route(e, event);
  }
  if (outcome < 0) e->err = outcome;
  work_dispatch(e);
  press_stepped(e, event->kind);
  e->update = NULL;
  if (e->err) {
    engine_update_reset(update);
    return e->err;
  }

  timer_node_t const *first = timers_first(&e->timers);
  update->next_tick_mono_ns = first ? first->due_ns : 0;
  update->stopped = e->stopping && !e->await_cnt && !e->jobs.by_id.cnt && !e->calls.call_cnt;
  return outcome;
}

size_t engine_leases(engine_t const *e, uint64_t ws_id,
                     void (*on_lease)(void *arg, uint64_t lease_id), void *arg) {
  ws_t const *ws = registry_by_id(&e->registry, ws_id);
  size_t cnt = 0;

  for (lease_t const *lease = ws ? ws->leases : NULL; lease; lease = lease->next) {
    if (lease->state != LEASE_HELD) continue;
    cnt++;
    if (on_lease) on_lease(arg, lease->lease_id);
  }
  return cnt;
}

/* The invariants
 * ------------------------------------------------------------------------------------------------
 */

static char const *check_workspaces(engine_t const *e, uint64_t *ret_await, size_t *ret_timers) {
  size_t place = 0;

  for (ws_t const *ws; (ws = idmap_next(&e->registry.by_id, &place));) {
    *ret_await += (uint64_t)ws->awaiting;
    *ret_timers += ws->retry.place != 0;
    if (ws->spec.ws_id > e->ws_id_high) return "no workspace's id is above the highest given out";
    if (ws->call && ws->call->ws != ws) return "a workspace's call waits for it";
    if (ws->reap && ws->reap->ws != ws) return "a workspace's reap is of it";
    if (ws->ended && !ws->reap && !e->stopping) return "leases that have ended have a reap coming";
    if (ws->resize.step == RESIZE_WORK && !ws->resize.aborted && !work_resize_job(e, ws))
      return "a resize that waits for its worker has one";
    if (ws->restore_job && (!jobs_by_id(&e->jobs, ws->restore_job) || ws->state == WS_READY))
      return "a restore has its job until it is over";
    if (ws->replaced_by) {
      ws_t const *by = registry_by_id(&e->registry, ws->replaced_by);
      if (!by || by->spec.replaces != ws->spec.ws_id || by->named || ws->leases ||
          ws->state != WS_READY)
        return "what is replaced is ready, unheld, and has one that replaces it";
    }
    if (ws->state == WS_UNSPEC && !ws->awaiting && !ws->retry.place && !e->stopping &&
        e->phase == ENGINE_PHASE_SERVING)
      return "a workspace that goes is on its way";
    if (ws->state == WS_REMOVING && !ws->leases && e->phase == ENGINE_PHASE_SERVING)
      return "a removed workspace stays for its leases only";
  }
  return NULL;
}

char const *engine_check(engine_t const *e) {
  uint64_t await_cnt = 0;
  size_t timer_cnt = 0, place = 0;
  char const *broken;

  if ((broken = registry_check(&e->registry))) return broken;
  if ((broken = leases_check(&e->leases))) return broken;
  if ((broken = calls_check(&e->calls))) return broken;
  if ((broken = jobs_check(&e->jobs))) return broken;
  if ((broken = history_check(&e->history))) return broken;
  if ((broken = catalog_check(&e->catalog))) return broken;
  if ((broken = agenda_check(&e->agenda))) return broken;
  if (!timers_check(&e->timers)) return "timers";
  if ((broken = check_workspaces(e, &await_cnt, &timer_cnt))) return broken;

  for (lease_t const *lease; (lease = idmap_next(&e->leases.by_id, &place));) {
    if (lease->lease_id > e->lease_id_high) return "no lease's id is above the highest given out";
    if (registry_by_id(&e->registry, lease->ws->spec.ws_id) != lease->ws)
      return "every lease has a workspace";
    await_cnt += lease->state == LEASE_MAKING;
  }
  place = 0;
  for (job_t const *job; (job = idmap_next(&e->jobs.by_id, &place));)
    if (job->ws && registry_by_id(&e->registry, job->ws->spec.ws_id) != job->ws)
      return "every job has a workspace or none";
  place = 0;
  for (conn_t const *conn; (conn = idmap_next(&e->calls.conns, &place));)
    for (call_t const *call = conn->calls; call; call = call->next)
      timer_cnt += call->deadline.place != 0;
  for (size_t i = 0; i < e->agenda.cnt; i++) {
    timer_cnt += e->agenda.plans[i]->timer.place != 0;
    timer_cnt += e->agenda.plans[i]->drill_timer.place != 0;
    await_cnt += (uint64_t)e->agenda.plans[i]->writing;
  }
  timer_cnt += e->catalog_timer.place != 0;
  timer_cnt += e->press_timer.place != 0;
  if (timer_cnt != e->timers.cnt)
    return "running timers are those of calls, retries, slots and drills";
  if (await_cnt != e->await_cnt) return "answers under way are counted";
  if (e->phase != ENGINE_PHASE_NEW &&
      (e->jobs.running_cnt - e->jobs.long_cnt > e->config.jobs_running_max ||
       e->jobs.long_cnt > e->config.tasks_running_max))
    return "no more workers run than may";
  return NULL;
}
