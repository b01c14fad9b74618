/* cadence: schedules: setting them, and what they make happen.

   A schedule is written down when it is set and after each run; its slots are timers among all
   others, so that a thousand of them cost nothing while none is due. A slot whose workspace is not
   there, or is not served, is passed over; one that comes while a checkpoint of it is being taken
   waits for the end of that. A write that fails after a run is made good by the next.

   When the daemon stops, workspaces whose schedules say so are checkpointed; when it starts, those
   that are to come back and are not there do (restore.c). Refuses to keep a schedule for a name
   that went to another owner. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

static schedule_t const *view_of(engine_t *e, plan_t const *plan) {
  schedule_t *view = emit_alloc(e, 1, sizeof(*view));
  if (view) *view = plan->schedule;
  return view;
}

void cadence_write(engine_t *e, plan_t *plan) {
  plan->dirty = 1;
  if (plan->writing) return;
  schedule_t const *view = view_of(e, plan);
  if (!view) return;
  engine_effect_t *effect = emit(e, ENGINE_FX_SCHEDULE);
  effect->u.schedule.schedule = view;
  effect->u.schedule.drop = plan->dropped;
  plan->dirty = 0;
  plan->writing = 1;
  e->await_cnt++;
}

/* Starts its timer anew for its next slot. */
static void arm(engine_t *e, plan_t *plan) {
  uint64_t due = plan->schedule.due_ns, now = e->now_real_ns;
  drill_arm(e, plan);
  timers_stop(&e->timers, &plan->timer);
  if (plan->dropped || !due || e->stopping || e->catalog_state != CATALOG_KNOWN) return;
  plan->timer.owner = plan;
  plan->timer.kind = TIMER_SCHEDULE;
  if (timers_start(&e->timers, &plan->timer, e->now_mono_ns + (due > now ? due - now : 1)))
    e->err = WKSP_E_NOMEM;
}

static void drop(engine_t *e, plan_t *plan) {
  plan->dropped = 1;
  timers_stop(&e->timers, &plan->timer);
  timers_stop(&e->timers, &plan->drill_timer);
  cadence_write(e, plan);
}

/* Setting
 * ------------------------------------------------------------------------------------------------
 */

static int fault_keep(schedule_keep_t const *keep, engine_reply_t *ret_fault) {
  uint32_t const rules[] = {keep->last, keep->hourly, keep->daily, keep->weekly, keep->monthly};
  for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
    if (rules[i] <= SCHEDULE_KEEP_MAX) continue;
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "keep",
              "%" PRIu32 " checkpoints cannot be kept: at most %u by each rule", rules[i],
              SCHEDULE_KEEP_MAX);
    fault_figures(ret_fault, rules[i], SCHEDULE_KEEP_MAX);
    fault_hint(ret_fault, "leave all rules out to keep all checkpoints");
    return 1;
  }
  return 0;
}

static int fault_times(engine_request_t const *req, engine_reply_t *ret_fault) {
  uint64_t every = req->u.c.schedule.every_ns, jitter = req->u.c.schedule.jitter_ns;
  uint64_t drill = req->u.c.schedule.drill_ns;
  if (drill && (drill < SCHEDULE_EVERY_MIN_NS || drill > SCHEDULE_EVERY_MAX_NS)) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "drill",
              "drills every %" PRIu64 " ns cannot be: it must be 1 s to 366 days", drill);
    fault_figures(ret_fault, drill, SCHEDULE_EVERY_MIN_NS);
    fault_hint(ret_fault, "give an interval such as 1d");
    return 1;
  }
  if (every && (every < SCHEDULE_EVERY_MIN_NS || every > SCHEDULE_EVERY_MAX_NS)) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "every",
              "an interval of %" PRIu64 " ns cannot be: it must be 1 s to 366 days", every);
    fault_figures(ret_fault, every, SCHEDULE_EVERY_MIN_NS);
    fault_hint(ret_fault, "give an interval such as 5m");
    return 1;
  }
  if (jitter && jitter >= every) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "jitter",
              "a jitter of %" PRIu64 " ns must be below the interval of %" PRIu64 " ns", jitter,
              every);
    fault_figures(ret_fault, jitter, every);
    fault_hint(ret_fault, "give a smaller jitter, or none");
    return 1;
  }
  return 0;
}

static int fault_policies(engine_request_t const *req, engine_reply_t *ret_fault) {
  int32_t on_stop = req->u.c.schedule.on_stop, on_start = req->u.c.schedule.on_start;
  if (on_stop < 0 || on_stop > SCHEDULE_STOP_CHECKPOINT) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "on_stop",
              "on_stop %" PRId32 " is not one: it must be 0 (nothing) or 1 (checkpoint)", on_stop);
    fault_hint(ret_fault, "leave it out for nothing");
    return 1;
  }
  if (on_start < 0 || on_start > SCHEDULE_START_RESTORE) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "on_start",
              "on_start %" PRId32 " is not one: it must be 0 (nothing) or 1 (restore)", on_start);
    fault_hint(ret_fault, "leave it out for nothing");
    return 1;
  }
  return 0;
}

/* Whose schedule of this name it is to be: that of the workspace; of one that is not there, what
   the configuration says. */
static void spec_of(plan_t const *plan, spec_t *ret_spec) {
  memcpy(ret_spec->name, plan->schedule.name, sizeof(ret_spec->name));
  ret_spec->uid = plan->schedule.uid;
  ret_spec->gid = plan->schedule.gid;
  ret_spec->mode = plan->schedule.mode;
}

/* Whose schedule of this name it is to be: that of the workspace; of one that is not there, what
   the configuration says. */
static int fault_whose(engine_t *e, call_t const *call, engine_request_t const *req,
                       spec_t *ret_spec, engine_reply_t *ret_fault) {
  char const *name = req->u.c.schedule.name;
  plan_t const *plan = agenda_find(&e->agenda, name);
  if (fault_name(name, ret_fault)) return 1;
  ws_t const *ws = registry_by_name(&e->registry, name);
  if (ws) {
    *ret_spec = ws->spec;
    return fault_rights(&ws->spec, call->conn, WANT_DELETE, ret_fault);
  }
  int known = plan && !plan->dropped;
  if (!known && !req->u.c.schedule.declared) return !ws_lookup(e, name, ret_fault);
  text_printable(name, ret_spec->name, sizeof(ret_spec->name));
  ret_spec->uid = known ? plan->schedule.uid : call->conn->uid;
  ret_spec->gid = known ? plan->schedule.gid : call->conn->gid;
  ret_spec->mode = known ? plan->schedule.mode : 0660;
  if (req->u.c.schedule.declared) ret_spec->uid = call->conn->uid, ret_spec->gid = call->conn->gid;
  return fault_rights(ret_spec, call->conn, WANT_DELETE, ret_fault);
}

static void set_values(schedule_t *to, engine_request_t const *req, spec_t const *spec,
                       uint64_t now_ns) {
  uint64_t every = req->u.c.schedule.every_ns, jitter = req->u.c.schedule.jitter_ns;
  int same = every == to->every_ns && jitter == to->jitter_ns;
  to->uid = spec->uid;
  to->gid = spec->gid;
  to->mode = spec->mode;
  to->how =
      (schedule_how_t){req->u.c.schedule.mode, req->u.c.schedule.style, req->u.c.schedule.level};
  to->keep = req->u.c.schedule.keep;
  to->on_stop = req->u.c.schedule.on_stop;
  to->on_start = req->u.c.schedule.on_start;
  to->every_ns = every;
  to->jitter_ns = jitter;
  /* What the configuration says again with each start moves no slot. */
  if (!same || (every && !to->due_ns)) schedule_begin(to, now_ns);
  if (to->drill_ns == req->u.c.schedule.drill_ns) return;
  to->drill_ns = req->u.c.schedule.drill_ns;
  schedule_drill_begin(to, now_ns);
}

static void set_drop(engine_t *e, call_t *call, plan_t *plan) {
  if (!plan || plan->dropped) {
    call_answer(e, call)->u.schedule = NULL;
    return;
  }
  drop(e, plan);
  plan->call = call;
  call->plan = plan;
}

void cadence_set(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  spec_t spec = {.ws_id = 0};
  plan_t *plan = agenda_find(&e->agenda, req->u.c.schedule.name);

  if (fault_whose(e, call, req, &spec, &fault) ||
      fault_schedule_how(req->u.c.schedule.mode, req->u.c.schedule.style, req->u.c.schedule.level,
                         &fault) ||
      fault_times(req, &fault) || fault_keep(&req->u.c.schedule.keep, &fault) ||
      fault_policies(req, &fault) ||
      (!plan && fault_limit("schedules", e->agenda.cnt, ENGINE_SCHEDULES_MAX, &fault))) {
    call_fail(e, call, &fault);
    return;
  }
  if (plan && plan->call) {
    fault_set(&fault, ENGINE_CODE_UNAVAILABLE, "busy",
              "the schedule of workspace \"%s\" is being set by somebody else", spec.name);
    fault_workspace(&fault, spec.name);
    fault_hint(&fault, "look at what is set, and try again");
    call_fail(e, call, &fault);
    return;
  }
  if (req->u.c.schedule.drop) {
    set_drop(e, call, plan);
    return;
  }
  if (!plan) plan = agenda_add(&e->agenda, spec.name);
  if (!plan) {
    e->err = WKSP_E_NOMEM;
    return;
  }
  plan->dropped = 0;
  set_values(&plan->schedule, req, &spec, e->now_real_ns);
  plan->call = call;
  call->plan = plan;
  arm(e, plan);
  cadence_write(e, plan);
  emit_event(e, ENGINE_EVENT_SCHEDULED, &spec);
}

void cadence_get(engine_t *e, call_t *call, engine_request_t const *req) {
  char const *name = req->u.c.schedule_get.name;
  engine_reply_t fault;
  if (fault_name(name, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  plan_t const *plan = agenda_find(&e->agenda, name);
  if (plan && plan->dropped) plan = NULL;
  spec_t of = {.ws_id = 0};
  if (plan) spec_of(plan, &of);
  ws_t const *ws = plan ? NULL : ws_lookup(e, name, &fault);
  if ((!plan && !ws) || fault_rights(plan ? &of : &ws->spec, call->conn, WANT_READ, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  schedule_t const *view = plan ? view_of(e, plan) : NULL;
  call_answer(e, call)->u.schedule = view;
}

void cadence_abandon(engine_t *e, call_t *call) {
  call->plan->call = NULL;
  call->plan = NULL;
}

static void fault_unwritten(plan_t const *plan, engine_event_t const *event,
                            engine_reply_t *ret_fault) {
  int err = event->u.schedule_written.err;
  char const *detail = event->u.schedule_written.detail;
  fault_set(
      ret_fault, ENGINE_CODE_INTERNAL, "disk",
      "the schedule of workspace \"%s\" holds until the daemon is restarted, for it could not "
      "be written down: %s",
      plan->schedule.name, detail ? detail : strerror(err));
  fault_workspace(ret_fault, plan->schedule.name);
  fault_hint(ret_fault, err == ENOSPC || err == EDQUOT
                            ? "make room where the daemon keeps its state, and set it again"
                            : "see the daemon's log and its state directory");
}

int cadence_written(engine_t *e, engine_event_t const *event) {
  plan_t *plan = agenda_find(&e->agenda, event->u.schedule_written.name);
  engine_reply_t fault;

  if (!plan || !plan->writing) return WKSP_E_INVAL;
  plan->writing = 0;
  e->await_cnt--;
  if (plan->dirty) { /* what waits, waits for this one */
    cadence_write(e, plan);
    return 0;
  }
  call_t *call = plan->call;
  plan->call = NULL;
  if (call) call->plan = NULL;
  if (event->u.schedule_written.err) {
    fault_unwritten(plan, event, &fault);
    emit_log(e, ENGINE_LOG_ERROR, "event=schedule-unwritten workspace=%s reason=\"%s\"",
             plan->schedule.name, fault.sentence);
    if (call) call_fail(e, call, &fault);
  } else if (call) {
    schedule_t const *view = plan->dropped ? NULL : view_of(e, plan);
    call_answer(e, call)->u.schedule = view;
  }
  if (plan->dropped) agenda_remove(&e->agenda, plan);
  return 0;
}

/* Life
 * ------------------------------------------------------------------------------------------------
 */

int cadence_recovered(engine_t *e, engine_event_t const *event) {
  schedule_t const *schedule = event->u.recovered_schedule;
  if (e->phase != ENGINE_PHASE_RECOVERING || schedule_check(schedule)) return WKSP_E_INVAL;
  if (agenda_find(&e->agenda, schedule->name)) return WKSP_E_INVAL;
  if (e->agenda.cnt >= ENGINE_SCHEDULES_MAX) return 0; /* more than were ever let in */
  plan_t *plan = agenda_add(&e->agenda, schedule->name);
  if (!plan) return WKSP_E_NOMEM;
  plan->schedule = *schedule;
  return 0;
}

void cadence_start(engine_t *e) {
  for (size_t i = 0; i < e->agenda.cnt && !e->err; i++) {
    plan_t *plan = e->agenda.plans[i];
    if (plan->dropped) continue;
    (void)schedule_settle(&plan->schedule, e->now_real_ns);
    if (plan->schedule.on_start == SCHEDULE_START_RESTORE &&
        !registry_by_name(&e->registry, plan->schedule.name))
      restore_plan(e, plan, NULL);
    arm(e, plan);
  }
}

/* Its workspace, if a checkpoint of it can be taken; else NULL. */
static ws_t *plan_ws(engine_t const *e, plan_t const *plan) {
  ws_t *ws = registry_by_name(&e->registry, plan->schedule.name);
  if (!ws || !ws_visible(ws) || ws->spec.uid != plan->schedule.uid || ws->quarantined ||
      ws->read_only || ws->state == WS_SPEC_REMOVING || (ws->replaced_by && !e->stopping))
    return NULL;
  return ws;
}

static job_t *plan_want(engine_t *e, plan_t const *plan, ws_t *ws, int by) {
  return ckpt_want(e, ws, by, 0, plan->schedule.how, &plan->schedule.keep, NULL);
}

void cadence_due(engine_t *e, plan_t *plan) {
  ws_t *ws = plan_ws(e, plan);
  if (!ws) {
    plan->schedule.due_ns = schedule_next(&plan->schedule, e->now_real_ns);
    arm(e, plan);
    return;
  }
  /* With its end the timer starts again, and this slot, which is over then, is run. */
  if (jobs_of(&e->jobs, ws, ENGINE_OP_CHECKPOINT)) return;
  (void)plan_want(e, plan, ws, SCHEDULE_BY_SLOT);
}

void cadence_ended(engine_t *e, char const *name, uint32_t uid, schedule_run_t const *run) {
  plan_t *plan = agenda_find(&e->agenda, name);
  if (!plan || plan->dropped || plan->schedule.uid != uid) return;
  schedule_note(&plan->schedule, run);
  arm(e, plan);
  cadence_write(e, plan);
}

void cadence_forget(engine_t *e, spec_t const *spec) {
  plan_t *plan = agenda_find(&e->agenda, spec->name);
  if (plan && !plan->dropped && plan->schedule.uid == spec->uid) drop(e, plan);
}

void cadence_settle_owner(engine_t *e, spec_t const *spec) {
  plan_t *plan = agenda_find(&e->agenda, spec->name);
  if (plan && !plan->dropped && plan->schedule.uid != spec->uid) drop(e, plan);
}

void cadence_stop(engine_t *e) {
  for (size_t i = 0; i < e->agenda.cnt && !e->err; i++) {
    plan_t *plan = e->agenda.plans[i];
    timers_stop(&e->timers, &plan->timer);
    timers_stop(&e->timers, &plan->drill_timer);
    ws_t *ws = plan_ws(e, plan);
    if (plan->dropped || plan->schedule.on_stop != SCHEDULE_STOP_CHECKPOINT || !ws) continue;
    (void)plan_want(e, plan, ws, SCHEDULE_BY_STOP);
  }
}
