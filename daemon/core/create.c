/* create: making a workspace, and unmaking it when that fails.

   The order is what makes a crash at any point harmless:

     1. the name is reserved here: a second create of it is refused from now on
     2. PERSIST state making     a restart that finds this throws spec and memory away
     3. MEMORY_MAKE              pages taken, formatted, in the fd store
     4. PERSIST state ready      a restart that finds this serves it
     5. published: reply, event

   If anything fails, or the caller has gone or its time is up before 5, all of it is undone. The
   name stays taken until the spec is off the disk, since a spec that says ready and a new one of
   the same name must never both be there; the failure is answered after that, so whoever reads it
   can try the name again at once. Refuses to retry by itself. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

#define CREATE_MODE_DEFAULT 0660U

/* The name is taken: by what? That is for those who may know of it. */
static void fault_taken(ws_t const *ws, conn_t const *conn, engine_reply_t *ret_fault) {
  int published = ws_visible(ws);
  int undone = ws_undone(ws);

  if (!rights_sees(&ws->spec, conn)) {
    fault_set(ret_fault, ENGINE_CODE_ALREADY_EXISTS, "name", "the name \"%s\" is taken",
              ws->spec.name);
    fault_workspace(ret_fault, ws->spec.name);
    fault_hint(ret_fault, "choose another name");
    return;
  }

  fault_set(ret_fault, ENGINE_CODE_ALREADY_EXISTS, "name", "the name \"%s\" is taken: %s",
            ws->spec.name,
            published ? "there is a workspace of that name"
            : undone  ? "a create of that name is being undone"
                      : "a workspace of that name is being made");
  fault_workspace(ret_fault, ws->spec.name);
  fault_hint(ret_fault, published ? "choose another name or remove it first"
                                  : "choose another name or try again in a moment");
}

/* What it would be charged for, as far as that is known already. */
static int fault_quota(engine_t const *e, call_t const *call, engine_request_t const *req,
                       place_policy_t const *policy, engine_reply_t *ret_fault) {
  spec_t spec = {.size = req->u.create.size,
                 .max_size = req->u.create.max_size,
                 .page_size = req->u.create.page_size,
                 .uid = call->conn->uid};

  if (spec.max_size < spec.size) spec.max_size = spec.size;
  text_printable(req->u.create.name, spec.name, sizeof(spec.name));
  memcpy(spec.tag, req->u.create.tag, sizeof(spec.tag)); /* not longer: it is one */
  (void)place_text(policy, spec.nodes);
  return charge_fault(e, &spec, ret_fault);
}

int fault_admission(engine_t const *e, conn_t const *conn, char const *name, uint8_t const uuid[16],
                    engine_reply_t *ret_fault) {
  if (fault_name(name, ret_fault)) return 1;
  ws_t const *ws = registry_by_name(&e->registry, name);
  if (ws) {
    fault_taken(ws, conn, ret_fault);
    return 1;
  }
  if (registry_by_uuid(&e->registry, uuid)) {
    fault_set(ret_fault, ENGINE_CODE_INTERNAL, "uuid",
              "workspace \"%s\" was given a uuid that another one has", name);
    fault_hint(ret_fault, "try again");
    return 1;
  }
  if (fault_limit("workspaces", e->registry.by_id.cnt, e->config.workspaces_max, ret_fault) ||
      fault_share_create(e, conn, ret_fault))
    return 1;
  return fault_kept(e, ret_fault);
}

void create_begin(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  place_policy_t policy;

  if (fault_create(e, req, &fault) || charge_tag(e, call->conn, req->u.create.tag, &fault) ||
      fault_admission(e, call->conn, req->u.create.name, req->u.create.uuid, &fault) ||
      plan_policy(req, &policy, &fault) || fault_quota(e, call, req, &policy, &fault)) {
    call_fail(e, call, &fault);
    return;
  }

  ws_t *ws = registry_add(&e->registry, e->ws_id_high + 1);
  if (!ws) {
    e->err = WKSP_E_NOMEM;
    return;
  }
  e->ws_id_high++;
  text_printable(req->u.create.name, ws->spec.name, sizeof(ws->spec.name));
  memcpy(ws->spec.uuid, req->u.create.uuid, sizeof(ws->spec.uuid));
  ws->spec.size = req->u.create.size;
  ws->spec.max_size = req->u.create.max_size ? req->u.create.max_size : req->u.create.size;
  ws->spec.page_size = req->u.create.page_size;
  ws->spec.part_max = req->u.create.part_max;
  ws->spec.mode = req->u.create.mode ? req->u.create.mode : CREATE_MODE_DEFAULT;
  ws->spec.seed = req->u.create.seed;
  ws->spec.uid = call->conn->uid;
  ws->spec.gid = call->conn->gid;
  ws->spec.created_ns = e->now_real_ns;
  memcpy(ws->spec.numa, req->u.create.numa, sizeof(ws->spec.numa)); /* not longer: it was read */
  (void)place_text(&policy, ws->spec.nodes);                        /* none: it stays "" */
  ws->spec.strict = plan_strict(req);
  memcpy(ws->spec.tag, req->u.create.tag, sizeof(ws->spec.tag));
  spec_done_add(&ws->spec, req->call_id, SPEC_DONE_CREATE, ENGINE_CODE_OK);
  ws->spec_known = 1;
  ws->state = WS_SPEC_MAKING;
  if (registry_list(&e->registry, ws, 1) || registry_add_uuid(&e->registry, ws)) {
    e->err = WKSP_E_NOMEM;
    return;
  }
  call->ws = ws;
  ws->call = call;
  emit_persist(e, ws, SPEC_MAKING);
}

void create_undo(engine_t *e, ws_t *ws, engine_reply_t const *fault) {
  if (ws->call && fault) call_fault_later(e, ws->call, fault);
  if (ws->restore_job) restore_undone(e, ws, fault);
  emit_log(e, ENGINE_LOG_WARN, "event=create-undone workspace=%s id=%" PRIu64 " reason=\"%s\"",
           ws->spec.name, ws->spec.ws_id, fault ? fault->sentence : "its caller has gone");
  if (ws->state != WS_SPEC_READY) {
    remove_rest(e, ws);
    return;
  }
  /* The disk may say ready: take that back first, or a crash between the memory's going and the
     spec's would leave a workspace without memory. */
  ws->spec.data_max = 0;
  ws->spec.layout_version = 0;
  ws->spec.geometry_hash = 0;
  ws->state = WS_SPEC_UNMAKING;
  emit_persist(e, ws, SPEC_MAKING);
}

void fault_disk(ws_t const *ws, char const *what, engine_event_t const *event,
                engine_reply_t *ret_fault) {
  int err = event->u.done.err;
  fault_set(ret_fault, ENGINE_CODE_INTERNAL, "disk", "workspace \"%s\" could not be %s: %s",
            ws->spec.name, what, event->u.done.detail ? event->u.done.detail : strerror(err));
  fault_workspace(ret_fault, ws->spec.name);
  fault_hint(ret_fault, err == ENOSPC || err == EDQUOT
                            ? "make room where the daemon keeps its state"
                            : "see the daemon's log and its state directory");
}

static void create_publish(engine_t *e, ws_t *ws) {
  call_t *call = ws->call;

  replace_publish(e, ws);
  ws->state = WS_READY;
  ws->call = NULL;
  if (call) call->ws = NULL;
  emit_log(e, ENGINE_LOG_INFO,
           "event=created workspace=%s id=%" PRIu64 " size=%" PRIu64 " max_size=%" PRIu64
           " page_size=%" PRIu64 " uid=%" PRIu32,
           ws->spec.name, ws->spec.ws_id, ws->spec.size, ws->spec.max_size, ws->spec.page_size,
           ws->spec.uid);
  engine_workspace_t *view = call ? browse_view(e, ws) : NULL;
  if (call && ws->restore_job) {
    engine_reply_t *reply = call_answer(e, call);
    reply->u.restore.workspace = view;
    reply->u.restore.job_id = ws->restore_job;
  } else if (call) {
    call_answer(e, call)->u.workspace = view;
  }
  emit_event(e, ENGINE_EVENT_CREATED, &ws->spec);
  cadence_settle_owner(e, &ws->spec);
  if (!ws->restore_job) return;
  emit_event(e, ENGINE_EVENT_RESTORED, &ws->spec);
  restore_published(e, ws);
}

int create_persisted(engine_t *e, ws_t *ws, engine_event_t const *event) {
  engine_reply_t fault;

  ws->awaiting = 0;
  e->await_cnt--;
  if (ws->state == WS_SPEC_UNMAKING) {
    if (!event->u.done.err) ws->maybe_ready = 0;
    remove_rest(e, ws);
    return 0;
  }
  if (event->u.done.err) {
    fault_disk(ws, "written down", event, &fault);
    create_undo(e, ws, &fault);
    return 0;
  }
  if (ws->aborted) {
    create_undo(e, ws, NULL);
    return 0;
  }
  if (ws->state == WS_SPEC_READY) {
    create_publish(e, ws);
    return 0;
  }

  ws->state = WS_MEMORY;
  ws->awaiting = 1;
  e->await_cnt++;
  engine_effect_t *make = emit(e, ENGINE_FX_MEMORY_MAKE);
  make->u.memory_make.spec = ws->spec;
  make->u.memory_make.spec.data_max = ws->restore_data_max;
  make->u.memory_make.part_min = ws->restore_part_min;
  return 0;
}

void fault_memory(ws_t const *ws, char const *what, engine_event_t const *event,
                  engine_reply_t *ret_fault) {
  char const *detail = event->u.memory_made.detail;
  uint64_t wanted = event->u.memory_made.wanted, free = event->u.memory_made.free;

  switch (event->u.memory_made.status) {
  case ENGINE_MEMORY_SHORT:
    if (detail)
      fault_set(ret_fault, ENGINE_CODE_RESOURCE_EXHAUSTED, "pages", "workspace \"%s\": %s",
                ws->spec.name, detail);
    else
      fault_set(ret_fault, ENGINE_CODE_RESOURCE_EXHAUSTED, "pages",
                "workspace \"%s\" needs %" PRIu64 " pages of %" PRIu64 " bytes and %" PRIu64
                " are free",
                ws->spec.name, wanted, event->u.memory_made.page_size, free);
    fault_figures(ret_fault, wanted, free);
    ret_fault->detail_node = event->u.memory_made.node;
    fault_hint(ret_fault, "%s",
               event->u.memory_made.hint ? event->u.memory_made.hint
                                         : "give a smaller size or free some memory");
    break;
  case ENGINE_MEMORY_INVALID:
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "size",
              "workspace \"%s\" of %" PRIu64 " bytes cannot be: %s", ws->spec.name, ws->spec.size,
              detail ? detail : "it does not hold its own tables");
    fault_figures(ret_fault, ws->spec.size, 0);
    fault_hint(ret_fault, "%s",
               event->u.memory_made.hint ? event->u.memory_made.hint : "give a larger size");
    break;
  default:
    fault_set(ret_fault, ENGINE_CODE_INTERNAL, "memory",
              "memory of workspace \"%s\" could not be %s: %s", ws->spec.name, what,
              detail ? detail : "the daemon gives no reason");
    fault_hint(ret_fault, "see the daemon's log");
  }
  fault_workspace(ret_fault, ws->spec.name);
}

int create_memory_made(engine_t *e, engine_event_t const *event) {
  ws_t *ws = registry_by_id(&e->registry, event->u.memory_made.ws_id);
  engine_reply_t fault;

  if (!ws || ws->state != WS_MEMORY) return WKSP_E_INVAL;
  ws->awaiting = 0;
  e->await_cnt--;
  ws->has_memory = event->u.memory_made.status == ENGINE_MEMORY_OK;
  if (ws->aborted) {
    create_undo(e, ws, NULL);
    return 0;
  }
  if (!ws->has_memory) {
    fault_memory(ws, "made", event, &fault);
    create_undo(e, ws, &fault);
    return 0;
  }

  spec_t made = ws->spec;
  made.state = SPEC_READY;
  made.size = event->u.memory_made.size;
  made.max_size = event->u.memory_made.max_size;
  made.page_size = event->u.memory_made.page_size;
  made.data_max = event->u.memory_made.data_max;
  made.part_max = event->u.memory_made.part_max;
  made.layout_version = event->u.memory_made.layout_version;
  made.geometry_hash = event->u.memory_made.geometry_hash;
  if (spec_check(&made) || event->u.memory_made.size_min > made.size) return WKSP_E_INVAL;
  if (charge_fault(e, &made, &fault)) {
    create_undo(e, ws, &fault);
    return 0;
  }
  ws->size_min = event->u.memory_made.size_min;
  ws_note(ws, event->u.memory_made.note);
  if (ws->restore_job && !ws->restore_part_min &&
      (made.data_max != ws->restore_data_max || made.part_max != ws->spec.part_max))
    return WKSP_E_INVAL;
  ws->spec = made;
  if (ws->restore_job) {
    restore_fill(e, ws);
    return 0;
  }
  ws->state = WS_SPEC_READY;
  ws->maybe_ready = 1;
  emit_persist(e, ws, SPEC_READY);
  return 0;
}

void create_abandon(engine_t *e, call_t *call) {
  ws_t *ws = call->ws;

  call->ws = NULL;
  ws->call = NULL;
  if (ws->state == WS_UNSPEC || ws->state == WS_SPEC_UNMAKING) return;
  if (ws->restore_job) {
    restore_abort(e, ws);
    return;
  }
  ws->aborted = 1;
  if (ws->state == WS_MEMORY) emit(e, ENGINE_FX_MEMORY_CANCEL)->u.workspace.ws_id = ws->spec.ws_id;
}
