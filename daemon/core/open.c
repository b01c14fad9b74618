/* open: leases, from the asking to the reaping.

   An open is answered once the shell has made the lifeline and has it safe in the fd store; if its
   caller has gone by then, or the workspace, the lifeline is dropped again. When it hangs up the
   lease ends, whoever held it and however they ended. A reader leaves nothing behind; a writer may
   have been killed while it was claiming a slot, so its lease stays (ENDED, not counted) until a
   worker has reaped it, and a restart in between finds the same hang-up again. What we can only
   read nobody reaps: those who still have it find the dead by themselves.

   Refuses to know what was shared through the memory. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

static int fault_open(engine_t *e, call_t const *call, engine_request_t const *req, ws_t const *ws,
                      engine_reply_t *ret_fault) {
  int32_t mode = req->u.open.mode;

  if (mode != ENGINE_OPEN_RW && mode != ENGINE_OPEN_RO) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "mode",
              "open mode %" PRId32 " is not one: it must be %d (read-write) or %d (read-only)",
              mode, ENGINE_OPEN_RW, ENGINE_OPEN_RO);
    fault_hint(ret_fault, "open read-write or read-only");
    return 1;
  }
  int want = mode == ENGINE_OPEN_RO ? WANT_READ : WANT_READ | WANT_WRITE;
  if (fault_rights(&ws->spec, call->conn, want, ret_fault)) return 1;
  if (mode == ENGINE_OPEN_RO ? fault_served(ws, ret_fault) : fault_writable(ws, ret_fault))
    return 1;
  if (fault_replaced(e, ws, ret_fault)) return 1;
  if (e->lease_id_high >= ENGINE_LEASE_ID_MAX) {
    fault_set(ret_fault, ENGINE_CODE_RESOURCE_EXHAUSTED, "lease",
              "workspace \"%s\" could not be opened: all %lu lease ids have been given out",
              ws->spec.name, ENGINE_LEASE_ID_MAX);
    fault_workspace(ret_fault, ws->spec.name);
    fault_figures(ret_fault, ENGINE_LEASE_ID_MAX + 1, 0);
    fault_hint(ret_fault, "let all programs detach, stop the daemon and start it with a new state "
                          "directory");
    return 1;
  }
  if (fault_limit("leases", e->leases.by_id.cnt, e->config.leases_max, ret_fault)) return 1;
  return fault_kept(e, ret_fault);
}

void open_begin(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  ws_t *ws = ws_lookup(e, req->u.open.name, &fault);

  if (!ws || fault_open(e, call, req, ws, &fault)) {
    call_fail(e, call, &fault);
    return;
  }

  lease_t *lease = leases_add(&e->leases, e->lease_id_high + 1, ws, req->u.open.mode, LEASE_MAKING);
  if (!lease) {
    e->err = WKSP_E_NOMEM;
    return;
  }
  e->lease_id_high++;
  lease->pid = call->conn->pid;
  lease->uid = call->conn->uid;
  lease->gid = call->conn->gid;
  lease->since_ns = e->now_real_ns;
  lease->call = call;
  call->lease = lease;
  e->await_cnt++;

  engine_effect_t *effect = emit(e, ENGINE_FX_LEASE_MAKE);
  effect->u.lease_make.lease_id = lease->lease_id;
  effect->u.lease_make.ws_id = ws->spec.ws_id;
  effect->u.lease_make.mode = lease->mode;
  effect->u.lease_make.pid = lease->pid;
  effect->u.lease_make.uid = lease->uid;
  effect->u.lease_make.gid = lease->gid;
}

void open_abandon(engine_t *e, call_t *call) {
  call->lease->call = NULL;
  call->lease = NULL;
}

/* Ends a lease whose lifeline nobody got. */
static void open_undo(engine_t *e, lease_t *lease, int made, engine_reply_t const *fault) {
  ws_t *ws = lease->ws;
  call_t *call = lease->call;

  if (made) emit_lease_drop(e, lease);
  if (call) {
    call->lease = NULL;
    call_fail(e, call, fault);
  }
  leases_remove(&e->leases, lease);
  remove_if_unheld(e, ws);
}

static void fault_lifeline(ws_t const *ws, engine_event_t const *event, engine_reply_t *ret_fault) {
  int err = event->u.lease_made.err;
  int short_of_fds = err == EMFILE || err == ENFILE;

  fault_set(ret_fault, short_of_fds ? ENGINE_CODE_RESOURCE_EXHAUSTED : ENGINE_CODE_INTERNAL,
            "lease", "workspace \"%s\" could not be opened, for no lifeline could be made: %s",
            ws->spec.name, event->u.lease_made.detail ? event->u.lease_made.detail : strerror(err));
  fault_workspace(ret_fault, ws->spec.name);
  fault_hint(ret_fault, short_of_fds ? "raise the daemon's limit of open files (LimitNOFILE)"
                                     : "see the daemon's log");
}

int open_made(engine_t *e, engine_event_t const *event) {
  lease_t *lease = leases_by_id(&e->leases, event->u.lease_made.lease_id);
  engine_reply_t fault;

  if (!lease || lease->state != LEASE_MAKING) return WKSP_E_INVAL;
  e->await_cnt--;
  ws_t *ws = lease->ws;
  call_t *call = lease->call;

  if (event->u.lease_made.err) {
    fault_lifeline(ws, event, &fault);
    open_undo(e, lease, 0, &fault);
    return 0;
  }
  if (!call || fault_served(ws, &fault)) {
    open_undo(e, lease, 1, &fault);
    return 0;
  }

  lease_hold(lease);
  lease->call = NULL;
  call->lease = NULL;
  engine_workspace_t *view = browse_view(e, ws);
  engine_reply_t *reply = call_answer(e, call);
  reply->u.open.workspace = view;
  reply->u.open.lease_id = lease->lease_id;
  reply->u.open.mode = lease->mode;
  emit_event(e, ENGINE_EVENT_ATTACHED, &ws->spec);
  return 0;
}

int open_hangup(engine_t *e, engine_event_t const *event) {
  lease_t *lease = leases_by_id(&e->leases, event->u.lifeline_hup.lease_id);

  if (!lease || lease->state == LEASE_ENDED) return ENGINE_STALE;
  if (lease->state == LEASE_MAKING) return WKSP_E_INVAL;

  ws_t *ws = lease->ws;
  int visible = ws_visible(ws);
  emit_log(e, ENGINE_LOG_INFO,
           "event=detached workspace=%s id=%" PRIu64 " lease=%" PRIu64 " pid=%" PRId32,
           ws->spec.name, ws->spec.ws_id, lease->lease_id, lease->pid);
  if (visible && lease->mode == ENGINE_OPEN_RW && !ws->quarantined && !ws->read_only) {
    lease_end(lease);
    work_reap(e, ws);
  } else {
    emit_lease_drop(e, lease);
    leases_remove(&e->leases, lease);
  }
  /* Whoever has the name of a removed one now did not lose a lease. */
  if (visible)
    emit_event(e, ENGINE_EVENT_DETACHED, &ws->spec);
  else
    remove_if_unheld(e, ws);
  return 0;
}
