/* charge: quotas of users and tags, and memory that is held beyond what was given.

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

/* Adds a workspace: what one of this placement can grow to. Of what size its pages are may not be
   known yet. */
static void use_add(quota_use_t *use, spec_t const *spec) {
  int size = topo_size_of(spec->page_size);

  use->workspace_cnt++;
  if (size < 0) return;
  uint64_t page = topo_page_size(size);
  place_layout_t layout = {.size = size, .total = (spec->max_size + page - 1) / page};
  use->bytes.all[size] += layout.total * page;
  use->cnt.all[size]++;
  if (place_read(spec->nodes, &layout.policy)) return;
  for (uint32_t node = 0; node < TOPO_NODES_MAX; node++) {
    uint64_t pages = place_cnt(&layout, node, 0, layout.total);
    use->bytes.node[size][node] += pages * page;
    use->cnt.node[size][node] += pages != 0;
  }
}

static int is_of(spec_t const *spec, quota_whom_t const *whom) {
  return whom->of == QUOTA_OF_TAG ? !strcmp(spec->tag, whom->tag) : spec->uid == whom->uid;
}

/* All that their workspaces can grow to; but not the one of id without, and not the one that it
   replaces, which goes when it comes. */
static void use_of(engine_t const *e, quota_whom_t const *whom, uint64_t without, uint64_t replaces,
                   quota_use_t *ret_use) {
  size_t place = 0;

  memset(ret_use, 0, sizeof(*ret_use));
  for (ws_t const *ws; (ws = idmap_next(&e->registry.by_id, &place));) {
    if (!ws->spec_known || ws->spec.ws_id == without || !is_of(&ws->spec, whom)) continue;
    if (replaces && ws->spec.ws_id == replaces) continue;
    use_add(ret_use, &ws->spec);
  }
}

/* " in pages of 2M on node 1" */
static void rule_where(quota_rule_t const *rule, char ret_where[48]) {
  int len = 0;

  ret_where[0] = 0;
  if (rule->size >= 0) len = snprintf(ret_where, 48, " in pages of %s", topo_size_name(rule->size));
  if (rule->node >= 0) snprintf(ret_where + len, 48 - (size_t)len, " on node %d", rule->node);
}

static void fault_rule(quota_rule_t const *rule, quota_whom_t const *whom, spec_t const *spec,
                       uint64_t wanted, uint64_t taken, engine_reply_t *ret_fault) {
  uint64_t free = rule->limit > taken ? rule->limit - taken : 0;
  char where[48], who[SPEC_TAG_MAX + 16];

  rule_where(rule, where);
  if (whom->of == QUOTA_OF_TAG)
    snprintf(who, sizeof(who), "tag \"%s\"", whom->tag);
  else
    snprintf(who, sizeof(who), "uid %" PRIu32, whom->uid);
  if (rule->counts)
    fault_set(ret_fault, ENGINE_CODE_RESOURCE_EXHAUSTED, "quota",
              "workspace \"%s\" would be one more%s, but %s may have %" PRIu64
              " workspaces and has %" PRIu64,
              spec->name, where, who, rule->limit, taken);
  else
    fault_set(ret_fault, ENGINE_CODE_RESOURCE_EXHAUSTED, "quota",
              "workspace \"%s\" would take %" PRIu64
              " bytes%s (its max-size), but %s may have %" PRIu64 " and has %" PRIu64,
              spec->name, wanted, where, who, rule->limit, taken);
  fault_figures(ret_fault, wanted, free);
  fault_workspace(ret_fault, spec->name);
  ret_fault->detail_node = rule->node;
  fault_hint(ret_fault, "remove a workspace%s%s, or ask for a larger quota",
             whom->of == QUOTA_OF_TAG ? " of that tag" : "",
             rule->counts ? "" : ", give a smaller max-size");
}

static int fault_whom(engine_t const *e, quota_whom_t const *whom, spec_t const *spec,
                      engine_reply_t *ret_fault) {
  quota_use_t use, had;

  use_of(e, whom, spec->ws_id, spec->replaces, &use);
  had = use;
  use_add(&use, spec);
  quota_rule_t const *rule = quota_broken(e->quota, whom, &use);
  /* What is over another rule is nothing to this create. */
  if (!rule || quota_used(rule, &use) == quota_used(rule, &had)) return 0;
  fault_rule(rule, whom, spec, quota_used(rule, &use) - quota_used(rule, &had),
             quota_used(rule, &had), ret_fault);
  return 1;
}

static quota_whom_t whom_uid(uint32_t uid) {
  return (quota_whom_t){.of = QUOTA_OF_UID, .uid = uid};
}

static quota_whom_t whom_tag(char const *tag) {
  quota_whom_t whom = {.of = QUOTA_OF_TAG};
  memcpy(whom.tag, tag, sizeof(whom.tag));
  return whom;
}

int charge_fault(engine_t const *e, spec_t const *spec, engine_reply_t *ret_fault) {
  quota_whom_t owner = whom_uid(spec->uid), tag = whom_tag(spec->tag);

  if (!e->quota || !e->quota->cnt) return 0;
  return fault_whom(e, &owner, spec, ret_fault) ||
         (tag.tag[0] && fault_whom(e, &tag, spec, ret_fault));
}

int charge_tag(engine_t const *e, conn_t const *conn, char const *tag, engine_reply_t *ret_fault) {
  if (!spec_tag_ok(tag)) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "tag",
              "\"%s\" is not a tag: it takes 1 to %u letters, digits, '_' or '-', the first a "
              "letter or digit",
              tag, SPEC_TAG_MAX);
    fault_hint(ret_fault, "give another tag, or none");
    return 1;
  }
  quota_tag_t const *kept = tag[0] && e->quota ? quota_tag(e->quota, tag) : NULL;
  if (!kept || conn->admin || rights_member(conn, kept->gid)) return 0;
  fault_set(ret_fault, ENGINE_CODE_PERMISSION_DENIED, "tag",
            "uid %" PRIu32 " may not use the tag \"%s\", which is kept for group %" PRIu32,
            conn->uid, tag, kept->gid);
  fault_hint(ret_fault, "give another tag, or none");
  return 1;
}

/* One row for each rule that counts for them. */
static size_t rows_of(engine_t const *e, quota_whom_t const *whom, engine_quota_t *rows,
                      size_t cnt) {
  quota_use_t use;

  use_of(e, whom, 0, 0, &use);
  for (uint32_t i = 0; i < e->quota->cnt && cnt < ENGINE_QUOTA_ROWS_MAX; i++) {
    quota_rule_t const *rule = &e->quota->rule[i];
    if (!quota_counts(e->quota, rule, whom)) continue;
    engine_quota_t row = {.uid = whom->uid,
                          .page_size = rule->size < 0 ? 0 : topo_page_size(rule->size),
                          .node = rule->node,
                          .counts = rule->counts,
                          .limit = rule->limit,
                          .used = quota_used(rule, &use)};
    memcpy(row.tag, whom->tag, sizeof(row.tag));
    rows[cnt++] = row;
  }
  return cnt;
}

/* Whether what these have has been told already. */
static int has_rows(engine_quota_t const *rows, size_t cnt, quota_whom_t const *whom) {
  for (size_t i = 0; i < cnt; i++)
    if (rows[i].uid == whom->uid && !strcmp(rows[i].tag, whom->tag)) return 1;
  return 0;
}

static int has_rules(quota_t const *quota, quota_whom_t const *whom) {
  for (uint32_t i = 0; i < quota->cnt; i++)
    if (quota_counts(quota, &quota->rule[i], whom)) return 1;
  return 0;
}

/* Those of users, or of tags, behind cnt that are there. */
static size_t rows_put(engine_t const *e, int of, engine_quota_t *rows, size_t cnt) {
  size_t place = 0, from = cnt;

  for (ws_t const *ws;
       cnt < ENGINE_QUOTA_ROWS_MAX && (ws = idmap_next(&e->registry.by_id, &place));) {
    quota_whom_t whom = of == QUOTA_OF_TAG ? whom_tag(ws->spec.tag) : whom_uid(ws->spec.uid);
    if (!ws->spec_known || (of == QUOTA_OF_TAG && !whom.tag[0]) ||
        has_rows(rows + from, cnt - from, &whom) || !has_rules(e->quota, &whom))
      continue; /* so each is summed up once */
    cnt = rows_of(e, &whom, rows, cnt);
  }
  return cnt;
}

size_t charge_rows(engine_t *e, engine_quota_t const **ret_rows) {
  engine_quota_t *rows;

  *ret_rows = NULL;
  if (!e->quota || !e->quota->cnt) return 0;
  rows = emit_alloc(e, ENGINE_QUOTA_ROWS_MAX, sizeof(*rows));
  if (!rows) return 0;
  *ret_rows = rows;
  return rows_put(e, QUOTA_OF_UID, rows, rows_put(e, QUOTA_OF_TAG, rows, 0));
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
