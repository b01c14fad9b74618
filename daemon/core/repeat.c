/* repeat: calls that change something and were made before.

   A client that lost its answer (the daemon was restarted, the connection broke) asks again with
   the same id. What was done is known from the spec that was written when it was done (spec.h), so
   it is known over restarts too, and is answered from there. What has not been written has not been
   done, and is done now. The rest is under way still, and the client is asked to come again.

     call     found                          answered
     Create   published, removed meanwhile   the workspace
              being made or unmade           UNAVAILABLE "repeat"
     Delete   removed, leases are held       deferred
              removed, all gone              done
              on its way                     with the end of it, or "repeat" if somebody waits for
   it Resize   noted                          as it was: the workspace, or that it went no further
              under way                      UNAVAILABLE "repeat"

   Others may have changed the workspace since; then the answer is what is so now, and nothing is
   done. The id is found by the name in the request, among those of that name. Refuses an id that
   was another operation's. */

#include <inttypes.h>
#include <string.h>

#include "daemon/core/engine_priv.h"

static int op_of(int method) {
  return method == ENGINE_CREATE   ? SPEC_DONE_CREATE
         : method == ENGINE_DELETE ? SPEC_DONE_DELETE
         : method == ENGINE_RESIZE ? SPEC_DONE_RESIZE
                                   : 0;
}

static char const *name_of(engine_request_t const *req) {
  return req->method == ENGINE_CREATE   ? req->u.create.name
         : req->method == ENGINE_DELETE ? req->u.del.name
                                        : req->u.resize.name;
}

static int fault_call_id(engine_request_t const *req, engine_reply_t *ret_fault) {
  if (!req->call_id_len || req->call_id_len == SPEC_CALL_ID_SIZE) return 0;
  fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "request_id",
            "a request_id of %" PRIu32 " bytes is not one: it must have %u, or be left out",
            req->call_id_len, SPEC_CALL_ID_SIZE);
  fault_hint(ret_fault, "give %u random bytes", SPEC_CALL_ID_SIZE);
  return 1;
}

static void fault_under_way(char const *name, char const *what, engine_reply_t *ret_fault) {
  fault_set(ret_fault, ENGINE_CODE_UNAVAILABLE, "repeat", "this call is under way: \"%s\" is %s",
            name, what);
  fault_workspace(ret_fault, name);
  fault_hint(ret_fault, "ask again in a moment, with the same request_id");
}

static void answer_view(engine_t *e, call_t *call, ws_t const *ws, spec_t const *spec) {
  engine_workspace_t *view = ws ? browse_view(e, ws) : emit_alloc(e, 1, sizeof(*view));
  if (view && !ws) {
    view->spec = *spec;
    view->removing = 1;
  }
  call_answer(e, call)->u.workspace = view;
}

static void repeat_create(engine_t *e, call_t *call, ws_t const *ws, spec_t const *spec) {
  engine_reply_t fault;
  if (ws && !ws_visible(ws) && ws->spec.state != SPEC_REMOVING) {
    fault_under_way(spec->name, ws_undone(ws) ? "being undone" : "being made", &fault);
    call_fail(e, call, &fault);
  } else {
    answer_view(e, call, ws, spec);
  }
}

static void repeat_delete(engine_t *e, call_t *call, ws_t *ws, spec_t const *spec) {
  engine_reply_t fault;
  /* What only waits for the disk to be tried again is answered as the call itself was. */
  if (!ws || ws->state == WS_REMOVING || !ws->awaiting) {
    call_answer(e, call)->u.del.deferred = ws && ws->state == WS_REMOVING;
  } else if (ws->call) {
    fault_under_way(spec->name, "being removed", &fault);
    call_fail(e, call, &fault);
  } else {
    call->ws = ws; /* nobody waits for it any more */
    ws->call = call;
  }
}

static void repeat_resize(engine_t *e, call_t *call, ws_t const *ws, spec_t const *spec, int code) {
  engine_reply_t fault;
  if (!code) {
    answer_view(e, call, ws, spec);
    return;
  }
  fault_set(&fault, code, "used",
            "this resize of workspace \"%s\" was made before and could go no further; it is of "
            "%" PRIu64 " bytes now",
            spec->name, spec->size);
  fault_workspace(&fault, spec->name);
  fault_figures(&fault, 0, spec->size);
  fault_hint(&fault, "free what is in the way and resize again");
  call_fail(e, call, &fault);
}

/* Who has the name, or had it when it was removed, and remembers the call. *ret_ws: NULL if it has
 * gone. NULL: nobody. */
static spec_t const *repeat_find(engine_t const *e, char const *name, uint8_t const *id,
                                 ws_t **ret_ws) {
  registry_t const *registry = &e->registry;
  ws_t *ws = registry_by_name(registry, name);
  if (ws && spec_done_find(&ws->spec, id)) return *ret_ws = ws, &ws->spec;
  for (size_t i = registry_after(registry, name, 1, UINT64_MAX);
       i < registry->by_name.cnt && !strcmp(registry->by_name.items[i]->spec.name, name); i++) {
    ws = registry->by_name.items[i];
    if (spec_done_find(&ws->spec, id)) return *ret_ws = ws, &ws->spec;
  }
  spec_t const *spec = history_find(&e->history, name, id);
  *ret_ws = spec ? registry_by_id(registry, spec->ws_id) : NULL; /* on its way, or gone */
  return spec;
}

/* As the call itself would be refused. */
static int fault_repeat(call_t const *call, spec_t const *spec, spec_done_t const *done,
                        engine_reply_t *ret_fault) {
  int op = op_of(call->method);
  if (fault_rights(spec, call->conn, op == SPEC_DONE_RESIZE ? WANT_WRITE : WANT_DELETE, ret_fault))
    return 1;
  if (done->op == op) return 0;
  fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "request_id",
            "this request_id was another call's about \"%s\"", spec->name);
  fault_workspace(ret_fault, spec->name);
  fault_hint(ret_fault, "give each call an id of its own");
  return 1;
}

int repeat_answer(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  ws_t *ws;
  conn_t const *conn = call->conn;

  if (!op_of(req->method)) return 0;
  if (fault_call_id(req, &fault)) {
    call_fail(e, call, &fault);
    return 1;
  }
  if (!req->call_id_len) return 0;
  spec_t const *spec = repeat_find(e, name_of(req), req->call_id, &ws);
  if (spec && !rights_sees(spec, conn)) return 0;
  if (!spec) {
    ws = registry_by_name(&e->registry, name_of(req));
    if (req->method != ENGINE_RESIZE || !ws || ws->state != WS_RESIZING ||
        !rights_sees(&ws->spec, conn) ||
        memcmp(ws->resize.call_id, req->call_id, SPEC_CALL_ID_SIZE) != 0)
      return 0;
    fault_under_way(ws->spec.name, "being resized", &fault);
    call_fail(e, call, &fault);
    return 1;
  }
  spec_done_t const *done = spec_done_find(spec, req->call_id);
  if (fault_repeat(call, spec, done, &fault))
    call_fail(e, call, &fault);
  else if (req->method == ENGINE_CREATE)
    repeat_create(e, call, ws, spec);
  else if (req->method == ENGINE_DELETE)
    repeat_delete(e, call, ws, spec);
  else
    repeat_resize(e, call, ws, spec, done->code);
  e->repeat_cnt++;
  return 1;
}
