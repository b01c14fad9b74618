/* press: which gauges there are, when they are looked at, and who is told (pressure.h).

   Told is who asked for it in a Watch: what is of all, everybody; what is of a user, himself; what
   is of a tag, who may know of a workspace with it; and who administers, all. A watch begins with
   what is high at that moment.

   Looked at is at most once a second, by a timer that runs only if something has changed, and only
   if somebody has asked. The pools of huge pages are others' too: the shell tells them every few
   seconds.

   Refuses to refuse anything: bounds hold whether somebody listens or not. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

/* Telling
 * ------------------------------------------------------------------------------------------------
 */

static int knows_tag(engine_t const *e, conn_t const *conn, char const *tag) {
  size_t place = 0;
  for (ws_t const *ws; (ws = idmap_next(&e->registry.by_id, &place));)
    if (!strcmp(ws->spec.tag, tag) && rights_sees(&ws->spec, conn)) return 1;
  return 0;
}

static int may_know(engine_t const *e, conn_t const *conn, engine_pressure_t const *gauge) {
  if (conn->admin || gauge->of == ENGINE_PRESSURE_OF_ALL) return 1;
  if (gauge->of == ENGINE_PRESSURE_OF_UID) return conn->uid == gauge->uid;
  return knows_tag(e, conn, gauge->tag);
}

static void tell_one(engine_t *e, call_t const *call, engine_pressure_t const *gauge) {
  if (!call->pressed || !may_know(e, call->conn, gauge)) return;
  engine_pressure_t *copy = emit_alloc(e, 1, sizeof(*copy));
  if (!copy) return;
  *copy = *gauge;
  engine_effect_t *effect = emit(e, ENGINE_FX_STREAM_EVENT);
  effect->u.stream_event.conn = call->conn->conn;
  effect->u.stream_event.stream = call->stream;
  effect->u.stream_event.kind = ENGINE_EVENT_PRESSURE;
  effect->u.stream_event.time_ns = e->now_real_ns;
  effect->u.stream_event.pressure = copy;
}

static void tell(engine_t *e, engine_pressure_t const *gauge) {
  emit_log(e, gauge->high ? ENGINE_LOG_WARN : ENGINE_LOG_INFO,
           "event=pressure what=\"%s\" high=%d of=%d uid=%" PRIu32 " tag=%s page_size=%" PRIu64
           " node=%" PRId32 " used=%" PRIu64 " limit=%" PRIu64,
           gauge->what, gauge->high, gauge->of, gauge->uid, gauge->tag, gauge->page_size,
           gauge->node, gauge->used, gauge->limit);
  for (call_t const *call = e->calls.watches; call; call = call->w_next) tell_one(e, call, gauge);
}

/* Gauges
 * ------------------------------------------------------------------------------------------------
 */

static void look_at(engine_t *e, engine_pressure_t gauge) {
  if (pressure_gauge(&e->pressure, &gauge)) tell(e, &gauge);
}

static void look_of_all(engine_t *e, char const *what, uint64_t used, uint64_t limit) {
  look_at(e, (engine_pressure_t){.what = what, .node = -1, .used = used, .limit = limit});
}

static void look_of_uid(engine_t *e, char const *what, uint32_t uid, uint64_t used,
                        uint64_t limit) {
  look_at(e, (engine_pressure_t){.what = what,
                                 .of = ENGINE_PRESSURE_OF_UID,
                                 .uid = uid,
                                 .node = -1,
                                 .used = used,
                                 .limit = limit});
}

static int uid_order(void const *a, void const *b) {
  uint32_t x = *(uint32_t const *)a, y = *(uint32_t const *)b;
  return x < y ? -1 : x > y;
}

/* Of each user but root, who is not bound. */
static void look_workspaces(engine_t *e) {
  size_t place = 0, cnt = 0, from = 0;
  uint32_t *uids = emit_alloc(e, e->registry.by_id.cnt + 1, sizeof(*uids));
  if (!uids) return;
  for (ws_t const *ws; (ws = idmap_next(&e->registry.by_id, &place));) uids[cnt++] = ws->spec.uid;
  qsort(uids, cnt, sizeof(*uids), uid_order);
  for (size_t i = 1; i <= cnt; i++) {
    if (i < cnt && uids[i] == uids[from]) continue;
    if (uids[from])
      look_of_uid(e, "workspaces", uids[from], i - from, e->config.uid_workspaces_max);
    from = i;
  }
}

static void look_quotas(engine_t *e) {
  engine_quota_t const *rows;
  size_t cnt = charge_rows(e, &rows);
  for (size_t i = 0; i < cnt; i++) {
    engine_pressure_t gauge = {.what = rows[i].counts ? "quota of workspaces" : "quota of bytes",
                               .of =
                                   rows[i].tag[0] ? ENGINE_PRESSURE_OF_TAG : ENGINE_PRESSURE_OF_UID,
                               .uid = rows[i].uid,
                               .page_size = rows[i].page_size,
                               .node = rows[i].node,
                               .used = rows[i].used,
                               .limit = rows[i].limit};
    memcpy(gauge.tag, rows[i].tag, sizeof(gauge.tag));
    if (gauge.limit || gauge.used) look_at(e, gauge); /* that there may be none presses nobody */
  }
}

static void look_pools(engine_t *e) {
  for (int size = TOPO_2M; size < TOPO_SIZE_CNT; size++)
    for (int32_t node = 0; node < (int32_t)TOPO_NODES_MAX; node++) {
      topo_pool_t const *pool = &e->pools[node][size];
      uint64_t free = pool->free < pool->total ? pool->free : pool->total;
      if (!pool->total) continue;
      look_at(e, (engine_pressure_t){.what = "pages",
                                     .page_size = topo_page_size(size),
                                     .node = node,
                                     .used = pool->total - free,
                                     .limit = pool->total});
    }
}

static void look(engine_t *e) {
  engine_config_t const *config = &e->config;
  size_t place = 0, leases = e->leases.by_id.cnt, workspaces = e->registry.by_id.cnt;
  engine_pressure_t gone;

  pressure_begin(&e->pressure);
  look_of_all(e, "connections", e->calls.conns.cnt, config->conns_max);
  look_of_all(e, "workspaces", workspaces, config->workspaces_max);
  look_of_all(e, "leases", leases, config->leases_max);
  look_of_all(e, "workspaces, leases and connections", workspaces + leases + e->calls.conns.cnt,
              config->files_max);
  for (user_t const *user; (user = idmap_next(&e->calls.users, &place));)
    if (user->uid) look_of_uid(e, "connections", user->uid, user->conn_cnt, config->uid_conns_max);
  look_workspaces(e);
  look_quotas(e);
  look_pools(e);
  while (pressure_gone(&e->pressure, &gone)) tell(e, &gone);
}

/* When
 * ------------------------------------------------------------------------------------------------
 */

void press_due(engine_t *e) {
  e->pressed_ns = e->now_mono_ns;
  e->press_stale = 0;
  look(e);
}

static int is_asked(engine_t const *e) {
  for (call_t const *call = e->calls.watches; call; call = call->w_next)
    if (call->pressed) return 1;
  return 0;
}

/* Wants a look as soon as there may be one. */
static void want(engine_t *e) {
  uint64_t due = e->pressed_ns ? e->pressed_ns + PRESSURE_PERIOD_NS : 0;
  if (e->press_timer.place || e->stopping) return;
  e->press_timer.kind = TIMER_PRESSURE;
  if (timers_start(&e->timers, &e->press_timer, due > e->now_mono_ns ? due : e->now_mono_ns))
    e->err = WKSP_E_NOMEM;
}

void press_watch(engine_t *e, call_t *call) {
  for (size_t i = 0; i < e->pressure.cnt; i++) tell_one(e, call, &e->pressure.high[i]);
  if (e->press_stale) want(e);
}

static uint64_t counted(engine_t const *e) {
  return e->calls.conns.cnt + ((uint64_t)e->registry.by_id.cnt << 20) +
         ((uint64_t)e->leases.by_id.cnt << 40);
}

void press_stepped(engine_t *e, int kind) {
  uint64_t cnt = counted(e);
  int changed = cnt != e->pressed_cnt || kind == ENGINE_EV_MEMORY_MADE ||
                kind == ENGINE_EV_REMOVED || kind == ENGINE_EV_QUOTA || kind == ENGINE_EV_POOLS;

  e->pressed_cnt = cnt;
  if (!changed) return;
  e->press_stale = 1;
  if (e->phase == ENGINE_PHASE_SERVING && is_asked(e)) want(e);
}

int press_pools(engine_t *e, engine_event_t const *event) {
  for (uint32_t node = 0; node < TOPO_NODES_MAX; node++)
    memcpy(e->pools[node], event->u.pools->node[node].pool, sizeof(e->pools[node]));
  return 0;
}
