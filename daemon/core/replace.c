/* replace: a restore in place: a workspace takes the name of one that is there.

   It is made beside the old one, which stays as it is and complete, without a name of its own, and
   takes its place in one moment:

     1. nobody is attached to the old one; from here on nobody is let in, and it cannot be removed,
        resized or checkpointed
     2. as any restore: PERSIST making, MEMORY_MAKE, the worker fills and verifies
     3. PERSIST ready, replaces = the old one: with this one write the new one is what there is
     4. published under the name; the old one goes: MEMORY_DROP, UNPERSIST

   A restart before 3 is durable finds the old one ready and the new one in the making, which is
   thrown away. One after it finds both ready, and that one says that it replaces the other: then
   that one is removed (spec_settle). Whatever fails before 3 undoes the new one; the old one is let
   in again when nothing on disk can say any more that it was replaced.

   A workspace whose predecessor has not gone yet is neither removed nor replaced: with its spec
   would go what keeps the predecessor from coming back. One such request waits for that.

   Refuses to look at what is in either. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

/* Clients that a refusal names. */
#define NAMED_MAX 4

int fault_replaced(engine_t const *e, ws_t const *ws, engine_reply_t *ret_fault) {
  if (!ws->replaced_by) return 0;
  ws_t const *by = registry_by_id(&e->registry, ws->replaced_by);
  fault_set(ret_fault, ENGINE_CODE_UNAVAILABLE, "busy",
            "workspace \"%s\" is being restored in place%s", ws->spec.name,
            by && by->restore_job ? "" : ", which failed and is being undone");
  fault_workspace(ret_fault, ws->spec.name);
  if (by && by->restore_job)
    fault_hint(ret_fault, "wait for job %" PRIu64 ", or cancel it", by->restore_job);
  else
    fault_hint(ret_fault, "try again in a moment");
  return 1;
}

static void fault_unreplaced(char const *name, engine_reply_t *ret_fault) {
  fault_set(ret_fault, ENGINE_CODE_UNAVAILABLE, "busy",
            "what workspace \"%s\" was before it was restored in place has not gone yet", name);
  fault_workspace(ret_fault, name);
  fault_hint(ret_fault, "try again in a moment");
}

int fault_replacing(engine_t const *e, ws_t const *ws, engine_reply_t *ret_fault) {
  if (!ws->spec.replaces || !registry_by_id(&e->registry, ws->spec.replaces)) return 0;
  fault_unreplaced(ws->spec.name, ret_fault);
  return 1;
}

int replace_not_yet(engine_t *e, call_t *call, ws_t const *ws, engine_request_t const *req) {
  ws_t *old = ws->spec.replaces ? registry_by_id(&e->registry, ws->spec.replaces) : NULL;
  if (!old || old->state != WS_UNSPEC || !old->awaiting || old->waiter) return 0;
  call->later = request_copy(req);
  if (!call->later) e->err = WKSP_E_NOMEM;
  call->waits = old;
  old->waiter = call;
  return 1;
}

call_t *replace_waiter(ws_t *ws) {
  call_t *call = ws->waiter;
  if (call) call->waits = NULL;
  ws->waiter = NULL;
  return call;
}

void replace_wake(engine_t *e, call_t *call, int gone) {
  engine_request_t *req = call->later;
  engine_reply_t fault;
  call->later = NULL;
  if (gone) {
    if (!repeat_answer(e, call, req)) engine_route(e, call, req);
  } else {
    fault_unreplaced(req->method == ENGINE_DELETE ? req->u.del.name : restore_name(req), &fault);
    call_fail(e, call, &fault);
  }
  free(req);
}

/* Those who are attached, by name. */
static void fault_attached(ws_t const *ws, engine_reply_t *ret_fault) {
  char who[ENGINE_SENTENCE_MAX / 2] = "";
  size_t len = 0, cnt = 0, all = ws_lease_cnt(ws);
  for (lease_t const *lease = ws->leases; lease && cnt < NAMED_MAX; lease = lease->next, cnt++)
    len += (size_t)snprintf(who + len, sizeof(who) - len, "%spid %" PRId32 " (uid %" PRIu32 ")",
                            cnt ? ", " : "", lease->pid, lease->uid);
  if (all > cnt) snprintf(who + len, sizeof(who) - len, " and %zu more", all - cnt);
  fault_set(ret_fault, ENGINE_CODE_FAILED_PRECONDITION, "attached",
            "workspace \"%s\" cannot be restored in place, for it is attached by %s", ws->spec.name,
            who);
  fault_workspace(ret_fault, ws->spec.name);
  fault_figures(ret_fault, all, 0);
  fault_hint(ret_fault, "end these programs, or restore it under another name with --as");
}

int fault_replace(engine_t const *e, conn_t const *conn, ws_t const *old,
                  engine_reply_t *ret_fault) {
  if (fault_rights(&old->spec, conn, WANT_READ | WANT_DELETE, ret_fault) ||
      fault_replaced(e, old, ret_fault) || fault_replacing(e, old, ret_fault))
    return 1;
  if (!old->spec_known || old->state != WS_READY) {
    fault_set(ret_fault,
              old->spec_known ? ENGINE_CODE_UNAVAILABLE : ENGINE_CODE_FAILED_PRECONDITION, "busy",
              "workspace \"%s\" cannot be restored in place now: %s", old->spec.name,
              !old->spec_known             ? "it is not known what it was"
              : old->state == WS_RESIZING  ? "it is being resized"
              : old->state == WS_RESTORING ? "an earlier removal or resize is being mended"
                                           : "it is being removed");
    fault_workspace(ret_fault, old->spec.name);
    fault_hint(ret_fault,
               old->spec_known ? "try again in a moment" : "restore it under the name that it had");
    return 1;
  }
  if (old->leases) {
    fault_attached(old, ret_fault);
    return 1;
  }
  job_t const *job = jobs_of(&e->jobs, old, ENGINE_OP_CHECKPOINT);
  if (!job) return 0;
  fault_set(ret_fault, ENGINE_CODE_UNAVAILABLE, "busy",
            "a checkpoint of workspace \"%s\" is being taken, as job %" PRIu64, old->spec.name,
            job->job_id);
  fault_workspace(ret_fault, old->spec.name);
  fault_hint(ret_fault, "wait for job %" PRIu64 ", or cancel it", job->job_id);
  return 1;
}

void replace_begin(ws_t *ws, ws_t *old) {
  ws->spec.replaces = old->spec.ws_id;
  old->replaced_by = ws->spec.ws_id;
  /* Whoever asks again about a call that was done to the old one is told of this one. */
  memcpy(ws->spec.done, old->spec.done, sizeof(ws->spec.done));
  ws->spec.done_cnt = old->spec.done_cnt;
}

/* The one whose place ws is to take; NULL: none. */
static ws_t *replaced(engine_t const *e, ws_t const *ws) {
  ws_t *old = ws->spec.replaces ? registry_by_id(&e->registry, ws->spec.replaces) : NULL;
  return old && old->replaced_by == ws->spec.ws_id ? old : NULL;
}

void replace_publish(engine_t *e, ws_t *ws) {
  ws_t *old = replaced(e, ws);
  engine_reply_t fault;

  if (!old) return;
  fault_set(&fault, ENGINE_CODE_UNAVAILABLE, "replaced",
            "workspace \"%s\" was restored in place meanwhile", old->spec.name);
  fault_workspace(&fault, old->spec.name);
  fault_hint(&fault, "try again");
  work_cancel_workspace(e, old, &fault);
  emit_log(e, ENGINE_LOG_INFO, "event=replaced workspace=%s id=%" PRIu64 " by=%" PRIu64,
           old->spec.name, old->spec.ws_id, ws->spec.ws_id);
  emit_event(e, ENGINE_EVENT_REMOVED, &old->spec);
  registry_unlist(&e->registry, old);
  if (registry_list(&e->registry, ws, 1)) e->err = WKSP_E_NOMEM;
  old->replaced_by = 0;
  old->maybe_ready = 0; /* the disk may say so, and who replaced it says that it is not */
  remove_rest(e, old);
}

void replace_undone(engine_t *e, ws_t const *ws) {
  ws_t *old = replaced(e, ws);
  if (old) old->replaced_by = 0;
}
