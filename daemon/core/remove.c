/* remove: how a workspace goes, and where it stays when it must not be served.

   Delete writes the removal down first (PERSIST state removing), so that a restart goes on with it;
   from then on the name is free and the workspace cannot come back. Memory and spec go when the
   last lease has ended: memory first, then the spec, so that memory without a spec is never left.
   If calls are to be remembered (repeat.c) the spec does not go but says that the workspace has
   gone.

     no leases        PERSIST removing -> MEMORY_DROP, UNPERSIST -> reply
     leases, force    PERSIST removing -> reply (deferred)
                      last lease ends -> MEMORY_DROP, UNPERSIST

   A removal that could not be written down has not happened: the spec is written as ready again,
   for the failure may have come after the new one was in place. So it is with a size that could not
   be written down (resize.c). What fails on disk is tried again
   every ENGINE_DISK_RETRY_NS. One without a readable spec cannot be written down; its removal is
   lost in a restart in between, after which it is quarantined again: so if its end fails at first,
   the caller is told. Refuses to remove what is being made. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

static void fault_gone(ws_t const *ws, engine_reply_t *ret_fault) {
  fault_set(ret_fault, ENGINE_CODE_NOT_FOUND, "unknown",
            "workspace \"%s\" has been removed meanwhile", ws->spec.name);
  fault_workspace(ret_fault, ws->spec.name);
}

static void fault_busy(ws_t const *ws, char const *why, engine_reply_t *ret_fault) {
  fault_set(ret_fault, ENGINE_CODE_UNAVAILABLE, "busy",
            "workspace \"%s\" cannot be removed now: %s", ws->spec.name, why);
  fault_workspace(ret_fault, ws->spec.name);
  fault_hint(ret_fault, "try again in a moment");
}

/* A resize in the hands of its worker is given up for a removal; pages that are being taken or
   given back, and a spec that is being written, have to be waited for. */
static int fault_resizing(engine_t *e, ws_t *ws, engine_reply_t *ret_fault) {
  if (ws->state == WS_RESIZING && ws->resize.step == RESIZE_WORK) {
    fault_gone(ws, ret_fault);
    resize_quit(e, ws, ret_fault);
  }
  if (ws->state != WS_RESIZING) return 0;
  fault_busy(ws, "it is being resized", ret_fault);
  return 1;
}

static int fault_removable(ws_t const *ws, int force, engine_reply_t *ret_fault) {
  uint32_t lease_cnt = ws_lease_cnt(ws);

  if (ws->state == WS_SPEC_REMOVING) return fault_served(ws, ret_fault);
  if (ws->state == WS_RESTORING && ws->awaiting) {
    fault_busy(ws, "an earlier removal or resize of it failed and is being mended", ret_fault);
    return 1;
  }
  if (lease_cnt && !force) {
    fault_set(ret_fault, ENGINE_CODE_FAILED_PRECONDITION, "attached",
              "workspace \"%s\" is attached: %" PRIu32 " lease%s held; with --force the name goes "
              "now and the memory when the last one ends",
              ws->spec.name, lease_cnt, lease_cnt == 1 ? " is" : "s are");
    fault_workspace(ret_fault, ws->spec.name);
    fault_figures(ret_fault, lease_cnt, 0);
    fault_hint(ret_fault, "end the programs that are attached, or use --force");
    return 1;
  }
  return 0;
}

void remove_begin(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  ws_t *ws = ws_lookup(e, req->u.del.name, &fault);

  if (!ws || fault_rights(&ws->spec, call->conn, WANT_DELETE, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  if (replace_not_yet(e, call, ws, req)) return;
  if (fault_replaced(e, ws, &fault) || fault_replacing(e, ws, &fault) ||
      fault_removable(ws, req->u.del.force, &fault) || fault_resizing(e, ws, &fault)) {
    call_fail(e, call, &fault);
    return;
  }

  timers_stop(&e->timers, &ws->retry);
  call->ws = ws;
  ws->call = call;
  if (!ws->spec_known) {
    remove_commit(e, ws);
    return;
  }
  ws->state = WS_SPEC_REMOVING;
  spec_done_add(&ws->spec, req->call_id, SPEC_DONE_DELETE, ENGINE_CODE_OK);
  emit_persist(e, ws, SPEC_REMOVING);
}

void remove_remember(engine_t *e, spec_t const *spec) {
  if (history_add(&e->history, spec)) {
    e->err = WKSP_E_NOMEM;
    return;
  }
  while (e->history.cnt > HISTORY_MAX)
    emit(e, ENGINE_FX_FORGET)->u.workspace.ws_id = history_drop(&e->history);
}

void remove_rest(engine_t *e, ws_t *ws) {
  emit_memory_drop(e, ws);
  if (ws->spec_known && ws->spec.state == SPEC_REMOVING && ws->spec.done_cnt) {
    ws->spec.state = SPEC_GONE;
    ws->spec.removed_ns = e->now_real_ns;
    remove_remember(e, &ws->spec);
  }
  ws->state = WS_UNSPEC;
  emit_unpersist(e, ws);
}

void remove_if_unheld(engine_t *e, ws_t *ws) {
  if (ws->state != WS_REMOVING || ws->leases) return;
  registry_unlist(&e->registry, ws);
  remove_rest(e, ws);
}

void remove_commit(engine_t *e, ws_t *ws) {
  engine_reply_t fault;
  call_t *call = ws->call;

  fault_gone(ws, &fault);
  work_cancel_workspace(e, ws, &fault);
  cadence_forget(e, &ws->spec);
  registry_unlist(&e->registry, ws);
  emit_log(e, ENGINE_LOG_INFO, "event=removed workspace=%s id=%" PRIu64 " leases=%" PRIu32,
           ws->spec.name, ws->spec.ws_id, ws_lease_cnt(ws));

  if (!ws->leases) {
    emit_event(e, ENGINE_EVENT_REMOVED, &ws->spec);
    remove_rest(e, ws);
    return;
  }
  ws->state = WS_REMOVING;
  if (registry_list(&e->registry, ws, 0)) {
    e->err = WKSP_E_NOMEM;
    return;
  }
  if (call) {
    ws->call = NULL;
    call->ws = NULL;
    call_answer(e, call)->u.del.deferred = 1;
  }
  emit_event(e, ENGINE_EVENT_REMOVED, &ws->spec);
}

static void retry_later(engine_t *e, ws_t *ws) {
  ws->retry.owner = ws;
  ws->retry.kind = TIMER_RETRY;
  if (timers_start(&e->timers, &ws->retry, e->now_mono_ns + ENGINE_DISK_RETRY_NS))
    e->err = WKSP_E_NOMEM;
}

void remove_restore(engine_t *e, ws_t *ws) {
  ws->state = WS_RESTORING;
  retry_later(e, ws);
}

static void log_disk(engine_t *e, ws_t const *ws, char const *what, engine_event_t const *event) {
  emit_log(e, ENGINE_LOG_ERROR, "event=%s workspace=%s id=%" PRIu64 " reason=\"%s\"", what,
           ws->spec.name, ws->spec.ws_id,
           event->u.done.detail ? event->u.done.detail : strerror(event->u.done.err));
}

/* The removal could not be written down. */
static void remove_failed(engine_t *e, ws_t *ws, engine_event_t const *event) {
  engine_reply_t fault;
  call_t *call = ws->call;

  log_disk(e, ws, "remove-failed", event);
  ws->state = WS_RESTORING;
  if (ws->spec.done_cnt && ws->spec.done[ws->spec.done_cnt - 1].op == SPEC_DONE_DELETE)
    spec_done_undo(&ws->spec, ws->spec.done[ws->spec.done_cnt - 1].id);
  emit_persist(e, ws, SPEC_READY);
  if (!call) return;

  int err = event->u.done.err;
  fault_set(&fault, ENGINE_CODE_INTERNAL, "disk",
            "the removal of workspace \"%s\" could not be written down and has not happened: %s",
            ws->spec.name, event->u.done.detail ? event->u.done.detail : strerror(err));
  fault_workspace(&fault, ws->spec.name);
  fault_hint(&fault, err == ENOSPC || err == EDQUOT
                         ? "make room where the daemon keeps its state"
                         : "see the daemon's log and its state directory");
  ws->call = NULL;
  call->ws = NULL;
  call_fail(e, call, &fault);
}

int remove_persisted(engine_t *e, ws_t *ws, engine_event_t const *event) {
  ws->awaiting = 0;
  e->await_cnt--;
  if (ws->state == WS_SPEC_REMOVING) {
    if (event->u.done.err)
      remove_failed(e, ws, event);
    else
      remove_commit(e, ws);
    return 0;
  }
  if (event->u.done.err) {
    log_disk(e, ws, "restore-failed", event);
    retry_later(e, ws);
    return 0;
  }
  ws->state = WS_READY;
  return 0;
}

/* Answers whoever waited for the end of a removal or of an unmaking. */
static void answer_rest(engine_t *e, ws_t *ws) {
  call_t *call = ws->call;

  if (!call) return;
  ws->call = NULL;
  call->ws = NULL;
  if (call->fault) {
    engine_reply_t fault = *call->fault;
    call_fail(e, call, &fault);
  } else {
    call_answer(e, call)->u.del.deferred = 0;
  }
}

/* Nothing on disk says that it was removed, and what was there of it may still be. */
static void fault_unfinished(engine_t *e, ws_t *ws, engine_event_t const *event) {
  char const *detail = event->u.done.detail;
  engine_reply_t fault;

  fault_set(&fault, ENGINE_CODE_INTERNAL, "disk",
            "the removal of workspace \"%s\" has begun and could not be finished: %s",
            ws->spec.name, detail ? detail : strerror(event->u.done.err));
  fault_workspace(&fault, ws->spec.name);
  fault_hint(&fault, "it is tried again; if it is back after a restart, remove it again");
  call_fault_later(e, ws->call, &fault);
}

int remove_done(engine_t *e, engine_event_t const *event) {
  ws_t *ws = registry_by_id(&e->registry, event->u.done.ws_id);

  if (!ws || ws->state != WS_UNSPEC || !ws->awaiting) return WKSP_E_INVAL;
  ws->awaiting = 0;
  e->await_cnt--;
  if (event->u.done.err) {
    log_disk(e, ws, "unpersist-failed", event);
    /* What is left on disk is thrown away at the next start, unless it may say ready. */
    if (!ws->maybe_ready) {
      registry_unlist(&e->registry, ws);
      replace_undone(e, ws);
    }
    retry_later(e, ws);
    if (ws->call && !ws->spec_known) fault_unfinished(e, ws, event);
    answer_rest(e, ws);
    call_t *waiter = replace_waiter(ws);
    if (waiter) replace_wake(e, waiter, 0);
    return 0;
  }
  answer_rest(e, ws);
  char name[SPEC_NAME_MAX + 1];
  memcpy(name, ws->spec.name, sizeof(name));
  replace_undone(e, ws);
  call_t *waiter = replace_waiter(ws);
  registry_remove(&e->registry, ws);
  if (waiter) replace_wake(e, waiter, 1);
  if (!registry_by_name(&e->registry, name)) restore_again(e, name);
  return 0;
}

void remove_retry(engine_t *e, ws_t *ws) {
  if (e->stopping) return;
  if (ws->state == WS_RESTORING)
    emit_persist(e, ws, SPEC_READY);
  else
    emit_unpersist(e, ws);
}

void remove_abandon(engine_t *e, call_t *call) {
  call->ws->call = NULL;
  call->ws = NULL;
}

int remove_quarantine(engine_t *e, engine_event_t const *event) {
  ws_t *ws = registry_by_id(&e->registry, event->u.quarantine.ws_id);
  engine_reply_t fault;

  if (!ws || !ws_visible(ws) || ws->quarantined) return ENGINE_STALE;
  ws->quarantined = 1;
  text_printable(event->u.quarantine.reason ? event->u.quarantine.reason : "no reason was given",
                 ws->reason, sizeof(ws->reason));
  fault_set(&fault, ENGINE_CODE_FAILED_PRECONDITION, "quarantined",
            "workspace \"%s\" is not served any longer: %s", ws->spec.name, ws->reason);
  fault_workspace(&fault, ws->spec.name);
  fault_hint(&fault, "its owner or root may remove it");
  resize_quit(e, ws, &fault);
  work_cancel_workspace(e, ws, &fault);
  emit_log(e, ENGINE_LOG_ERROR, "event=quarantined workspace=%s id=%" PRIu64 " reason=\"%s\"",
           ws->spec.name, ws->spec.ws_id, ws->reason);
  emit_event(e, ENGINE_EVENT_QUARANTINED, &ws->spec);
  return 0;
}
