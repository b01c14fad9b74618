/* browse: what is asked and answered at once: Get, List, Version, Stats, and Watch, which is
   answered in instalments. Refuses to change anything but the list of watches. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

static void view_fill(ws_t const *ws, engine_workspace_t *ret_view) {
  ret_view->spec = ws->spec;
  ret_view->attached_rw = ws->rw_cnt;
  ret_view->attached_ro = ws->ro_cnt;
  ret_view->removing = ws->state == WS_REMOVING;
  ret_view->quarantined = ws->quarantined;
  ret_view->read_only = ws->read_only;
  ret_view->damaged = ws->damaged;
  ret_view->excess = charge_excess(ws);
  memcpy(ret_view->reason, ws->reason, sizeof(ret_view->reason));
  memcpy(ret_view->note, ws->note, sizeof(ret_view->note));
}

engine_workspace_t *browse_view(engine_t *e, ws_t const *ws) {
  engine_workspace_t *view = emit_alloc(e, 1, sizeof(*view));
  if (view) view_fill(ws, view);
  return view;
}

void browse_get(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  ws_t *ws = ws_lookup(e, req->u.get.name, &fault);

  if (!ws || fault_rights(&ws->spec, call->conn, WANT_READ, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  engine_workspace_t *view = browse_view(e, ws);
  call_answer(e, call)->u.workspace = view;
}

/* A page token is the name of the last workspace of the page before, or name/id if that was one
   being removed, whose name others can have. 1 and where to go on, or 0. */
static int token_parse(engine_t const *e, char const *token, size_t *ret_place) {
  char name[ENGINE_TEXT_MAX];
  uint64_t id = UINT64_MAX;

  if (!token[0]) {
    *ret_place = 0;
    return 1;
  }
  snprintf(name, sizeof(name), "%s", token);
  char *slash = strchr(name, '/');
  if (slash) {
    char *end;
    *slash = 0;
    if (slash[1] < '1' || slash[1] > '9') return 0;
    id = strtoull(slash + 1, &end, 10); /* saturates: then it is after every id */
    if (*end) return 0;
  }
  if (!spec_name_ok(name)) return 0;
  *ret_place = registry_after(&e->registry, name, !slash, id);
  return 1;
}

static int list_shows(ws_t const *ws, conn_t const *conn, int all) {
  return (ws_visible(ws) || (all && ws->state == WS_REMOVING)) && rights_sees(&ws->spec, conn);
}

static int fault_list(engine_request_t const *req, engine_reply_t *ret_fault) {
  if (req->u.list.page_size <= ENGINE_LIST_PAGE_MAX) return 0;
  fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "page_size",
            "%" PRIu32 " workspaces are too many for one answer: at most %u", req->u.list.page_size,
            ENGINE_LIST_PAGE_MAX);
  fault_figures(ret_fault, req->u.list.page_size, ENGINE_LIST_PAGE_MAX);
  fault_hint(ret_fault, "ask for pages of %u", ENGINE_LIST_PAGE_DEFAULT);
  return 1;
}

void browse_list(engine_t *e, call_t *call, engine_request_t const *req) {
  ws_index_t const *names = &e->registry.by_name;
  size_t page = req->u.list.page_size ? req->u.list.page_size : ENGINE_LIST_PAGE_DEFAULT;
  size_t place, cnt = 0;
  ws_t const *last = NULL, *after = NULL;
  engine_reply_t fault;

  if (fault_list(req, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  if (!token_parse(e, req->u.list.page_token, &place)) {
    fault_set(&fault, ENGINE_CODE_INVALID_ARGUMENT, "page_token",
              "\"%s\" is not a page token: it must be \"\" or the next_page_token of an answer",
              req->u.list.page_token);
    fault_hint(&fault, "start from the first page");
    call_fail(e, call, &fault);
    return;
  }

  size_t left = names->cnt - place;
  engine_workspace_t *views = emit_alloc(e, left < page ? left : page, sizeof(*views));
  if (!views) return;
  for (; place < names->cnt && !after; place++) {
    if (!list_shows(names->items[place], call->conn, req->u.list.all)) continue;
    if (cnt == page) {
      after = names->items[place];
    } else {
      last = names->items[place];
      view_fill(last, &views[cnt++]);
    }
  }
  engine_reply_t *reply = call_answer(e, call);
  reply->u.list.workspaces = views;
  reply->u.list.workspace_cnt = cnt;
  if (!after) return;
  if (last->named)
    snprintf(reply->u.list.next_page_token, ENGINE_TEXT_MAX, "%s", last->spec.name);
  else
    snprintf(reply->u.list.next_page_token, ENGINE_TEXT_MAX, "%s/%" PRIu64, last->spec.name,
             last->spec.ws_id);
}

void browse_watch(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;

  if ((req->u.watch.name[0] && fault_name(req->u.watch.name, &fault)) ||
      fault_limit("watches of this connection", call->conn->watch_cnt, ENGINE_CONN_WATCHES_MAX,
                  &fault) ||
      fault_limit("watches", e->calls.watch_cnt, ENGINE_WATCHES_MAX, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  text_printable(req->u.watch.name, call->name, sizeof(call->name));
  calls_watch(&e->calls, call);
  call->pressed = req->u.watch.pressure;
  if (call->pressed) press_watch(e, call);
}

void browse_version(engine_t *e, call_t *call) {
  engine_reply_t *reply = call_answer(e, call);

  memcpy(reply->u.version.daemon, e->config.daemon_version, sizeof(reply->u.version.daemon));
  reply->u.version.layout_version = e->config.layout_version;
  reply->u.version.geometry_hash = e->config.geometry_hash;
}

void browse_stats(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_stats_t stats = {
      .pid = e->config.pid,
      .uptime_ns = e->now_mono_ns - e->started_mono_ns,
      .fd_store = req->u.stats.fd_store,
      .connection_cnt = (uint32_t)e->calls.conns.cnt,
      .job_cnt = (uint32_t)e->jobs.by_id.cnt,
      .request_cnt = e->request_cnt,
      .refused_cnt = e->refused_cnt,
      .violation_cnt = e->violation_cnt,
      .fd_cnt = req->u.stats.fd_cnt,
      .lost_cnt = req->u.stats.lost_cnt,
      .mistake = req->u.stats.mistake,
  };
  size_t place = 0;

  for (ws_t const *ws; (ws = idmap_next(&e->registry.by_id, &place));) {
    if (ws->has_memory) stats.bytes += ws->spec.size;
    if (!ws_visible(ws) && ws->state != WS_REMOVING) continue;
    stats.workspace_cnt++;
    stats.quarantined_cnt += (uint32_t)ws->quarantined;
    stats.damaged_cnt += (uint32_t)ws->damaged;
    stats.lease_cnt += ws->rw_cnt + ws->ro_cnt;
  }
  ckpt_proven(e, &stats);
  stats.quota_cnt = charge_rows(e, &stats.quotas);
  audit_limits(e, call->conn, &stats);
  call_answer(e, call)->u.stats = stats;
}
