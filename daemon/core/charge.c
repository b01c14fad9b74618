/* charge: quotas of users, and memory that is held beyond what was given.

   A create is looked at twice: when it comes, if it says which pages it wants, so that none are
   taken in vain; and when they have been taken, for only then is it known of which size they are.
   The second look counts everything that has got as far, so of two creates that fit one alone the
   later one goes back.

   A writer can touch pages beyond the end of a workspace: its memory has addresses for its
   max-size. The shell tells how much each memory holds, and where its last page is, for who gives
   pages back within it could otherwise take as many beyond the end. Too much may be left over from
   a resize that a restart interrupted, so at first it is given back, by a resize to where the end
   is (resize.c); a workspace that then holds too much again is quarantined, for its writers take
   what is not theirs.

   One thing beyond the end may be the kernel's doing: the rest of the huge page in which the end
   lies. Nothing else is tolerated.

   Refuses to charge pages whose node is not known to a node. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

#define HUGE 2097152UL

/* Quotas
 * ------------------------------------------------------------------------------------------------
 */

int charge_rules(engine_t *e, engine_event_t const *event) {
  quota_t *quota = malloc(sizeof(*quota));

  if (!quota) return WKSP_E_NOMEM;
  *quota = *event->u.quota;
  free(e->quota);
  e->quota = quota;
  return 0;
}

/* Adds what a workspace of this placement can grow to. */
static void use_add(quota_use_t *use, char const *nodes, int size, uint64_t max_size) {
  uint64_t page = topo_page_size(size);
  place_layout_t layout = {.size = size, .total = (max_size + page - 1) / page};

  use->all[size] += layout.total * page;
  if (place_read(nodes, &layout.policy)) return;
  for (uint32_t node = 0; node < TOPO_NODES_MAX; node++)
    use->node[size][node] += place_cnt(&layout, node, 0, layout.total) * page;
}

/* All that a user's workspaces can grow to; but not the one of id without, and not the one that it
   replaces, which goes when it comes. */
static void use_of(engine_t const *e, uint32_t uid, uint64_t without, uint64_t replaces,
                   quota_use_t *ret_use) {
  size_t place = 0;

  memset(ret_use, 0, sizeof(*ret_use));
  for (ws_t const *ws; (ws = idmap_next(&e->registry.by_id, &place));) {
    int size = topo_size_of(ws->spec.page_size);
    if (ws->spec.uid != uid || ws->spec.ws_id == without || size < 0 || !ws->spec_known) continue;
    if (replaces && ws->spec.ws_id == replaces) continue;
    use_add(ret_use, ws->spec.nodes, size, ws->spec.max_size);
  }
}

int charge_fault(engine_t const *e, spec_t const *spec, engine_reply_t *ret_fault) {
  static quota_use_t const none;
  int size = topo_size_of(spec->page_size);
  quota_use_t use = none, had;

  if (!e->quota || !e->quota->cnt || size < 0) return 0;
  use_of(e, spec->uid, spec->ws_id, spec->replaces, &use);
  had = use;
  use_add(&use, spec->nodes, size, spec->max_size);
  quota_rule_t const *rule = quota_broken(e->quota, spec->uid, &use);
  /* What is over another rule is nothing to this create. */
  if (!rule || quota_used(rule, &use) == quota_used(rule, &had)) return 0;

  uint64_t wanted = quota_used(rule, &use) - quota_used(rule, &had), taken = quota_used(rule, &had);
  uint64_t free = rule->bytes > taken ? rule->bytes - taken : 0;
  char where[32] = "";
  if (rule->node >= 0) snprintf(where, sizeof(where), " on node %d", rule->node);
  fault_set(ret_fault, ENGINE_CODE_RESOURCE_EXHAUSTED, "quota",
            "workspace \"%s\" would take %" PRIu64
            " bytes in pages of %s%s (its max-size), but uid "
            "%" PRIu32 " may have %" PRIu64 " and has %" PRIu64,
            spec->name, wanted, topo_size_name(rule->size), where, spec->uid, rule->bytes, taken);
  fault_figures(ret_fault, wanted, free);
  fault_workspace(ret_fault, spec->name);
  ret_fault->detail_node = rule->node;
  fault_hint(ret_fault, "remove a workspace, give a smaller max-size, or ask for a larger quota");
  return 1;
}

/* One row for each rule that counts for a user who has workspaces. */
static size_t rows_of(engine_t const *e, uint32_t uid, engine_quota_t *rows, size_t cnt) {
  quota_use_t use;

  use_of(e, uid, 0, 0, &use);
  for (uint32_t i = 0; i < e->quota->cnt && cnt < ENGINE_QUOTA_ROWS_MAX; i++) {
    quota_rule_t const *rule = &e->quota->rule[i];
    if (quota_find(e->quota, uid, rule->size, rule->node) != rule) continue;
    rows[cnt++] = (engine_quota_t){.uid = uid,
                                   .page_size = topo_page_size(rule->size),
                                   .node = rule->node,
                                   .limit = rule->bytes,
                                   .used = quota_used(rule, &use)};
  }
  return cnt;
}

size_t charge_rows(engine_t *e, engine_quota_t const **ret_rows) {
  engine_quota_t *rows;
  size_t place = 0, cnt = 0;

  *ret_rows = NULL;
  if (!e->quota || !e->quota->cnt) return 0;
  rows = emit_alloc(e, ENGINE_QUOTA_ROWS_MAX, sizeof(*rows));
  if (!rows) return 0;
  for (ws_t const *ws;
       cnt < ENGINE_QUOTA_ROWS_MAX && (ws = idmap_next(&e->registry.by_id, &place));) {
    int known = !ws->spec_known;
    for (size_t i = 0; i < cnt && !known; i++) known = rows[i].uid == ws->spec.uid;
    if (!known) cnt = rows_of(e, ws->spec.uid, rows, cnt);
  }
  *ret_rows = rows;
  return cnt;
}

/* Excess
 * ------------------------------------------------------------------------------------------------
 */

/* Bytes beyond the end that may be there: of ordinary pages the kernel may have made a huge one by
   itself; or one was made before the end moved into it, and is not taken apart when its rest is
   given back, since somebody has it pinned. Either way they end where that huge page does. */
static uint64_t tolerated(ws_t const *ws) {
  uint64_t rest = -ws->spec.size % HUGE;
  uint64_t free = ws->stuck > ws->slack ? ws->stuck : ws->slack;

  return free < rest ? free : rest;
}

uint64_t charge_excess(ws_t const *ws) {
  uint64_t free = tolerated(ws), size = ws->spec.size;

  if (!ws->spec_known) return 0;
  if (ws->held > size + free) return ws->held - size;
  /* How many there are is not known where there are holes before them. */
  return ws->top > size + (free ? -size % HUGE : 0) ? topo_page_size(TOPO_4K) : 0;
}

void charge_punched(ws_t *ws, uint64_t held) {
  uint64_t left = held > ws->spec.size ? held - ws->spec.size : 0;

  ws->stuck = ws->spec.page_size != 4096 ? 0 : left < HUGE ? left : HUGE;
}

int charge_held(engine_t *e, engine_event_t const *event) {
  ws_t *ws = registry_by_id(&e->registry, event->u.held.ws_id);
  char reason[ENGINE_REASON_MAX];

  if (!ws || ws->state != WS_READY || ws->replaced_by || e->phase != ENGINE_PHASE_SERVING)
    return ENGINE_STALE;
  ws->held = event->u.held.bytes;
  ws->top = ws->spec.page_size == 4096 ? event->u.held.top : 0;
  ws->slack = ws->spec.page_size == 4096 ? event->u.held.slack : 0;
  uint64_t excess = charge_excess(ws);
  if (!excess || ws->quarantined) return 0;
  emit_log(e, ENGINE_LOG_WARN,
           "event=excess workspace=%s id=%" PRIu64 " size=%" PRIu64 " excess=%" PRIu64 " times=%u",
           ws->spec.name, ws->spec.ws_id, ws->spec.size, excess, ws->excess_cnt + 1);
  if (!ws->excess_cnt++ && !ws->read_only && !e->stopping) {
    resize_mend(e, ws);
    return 0;
  }
  snprintf(reason, sizeof(reason),
           "it holds %" PRIu64 " bytes beyond its end at %" PRIu64
           ": a program touches pages that it was not given",
           excess, ws->spec.size);
  engine_event_t quarantine = *event;
  quarantine.kind = ENGINE_EV_QUARANTINE;
  quarantine.u.quarantine.ws_id = ws->spec.ws_id;
  quarantine.u.quarantine.reason = reason;
  return remove_quarantine(e, &quarantine);
}
