/* placement: see placement.h. Here is what is asked for and where that puts each page; what can be
   had stands in afford.c.

   The model of a split: its parts, each as often as its weight says, divide the units as evenly as
   whole units allow, the first ones being one larger. So the w-th cut is at
   w * (units / weights) + min(w, units % weights). Refuses to guess: a list that is not of the
   language, or too long, is refused where it goes wrong. */

#include "daemon/core/placement.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/placement_priv.h"

/* Units of ordinary pages: as many as a huge page has. */
#define UNIT_4K 512UL

void place_refuse(place_fail_t *ret_fail, int node, char const *format, ...) {
  va_list args;

  *ret_fail = (place_fail_t){.kind = PLACE_BAD, .node = node};
  va_start(args, format);
  vsnprintf(ret_fail->text, sizeof(ret_fail->text), format, args);
  va_end(args);
}

/* The language
 * ------------------------------------------------------------------------------------------------
 */

/* A number of digits up to max; *at goes behind it. 1 or 0. */
static int take_number(char const **at, uint32_t max, uint32_t *ret_number) {
  uint32_t number = 0;
  char const *from = *at;

  for (; **at >= '0' && **at <= '9'; (*at)++) {
    number = number * 10 + (uint32_t)(**at - '0');
    if (number > max) return 0;
  }
  *ret_number = number;
  return *at > from;
}

/* One item: N, N*M (stars), A-B or A-B:S. 0, or a constant sentence. */
static char const *take_item(char const **at, uint32_t max, int stars, place_ask_t *ask) {
  uint32_t first, last, step = 1, times = 1;

  if (!take_number(at, max, &first)) return "a number is expected, and not too large a one";
  last = first;
  if (**at == '-') {
    (*at)++;
    if (!take_number(at, max, &last)) return "a range wants an end, and not too large a one";
    if (last < first) return "a range ends before it begins";
    if (**at == ':') {
      (*at)++;
      if (!take_number(at, max, &step) || !step) return "a step must be a number above 0";
    }
  } else if (**at == '*' && stars) {
    (*at)++;
    if (!take_number(at, PLACE_WEIGHT_MAX, &times) || !times)
      return "behind * goes how often, 1 to 8192";
  }
  for (uint32_t item = first; item <= last; item += step) {
    for (uint32_t i = 0; i < times; i++) {
      if (ask->item_cnt == PLACE_WEIGHT_MAX) return "the list is too long";
      ask->item[ask->item_cnt++] = (uint16_t)item;
    }
  }
  return NULL;
}

static char const *take_list(char const *list, uint32_t max, int stars, place_ask_t *ask,
                             char const **ret_at) {
  char const *why;

  *ret_at = list;
  while (!(why = take_item(ret_at, max, stars, ask)) && **ret_at == ',') (*ret_at)++;
  if (!why && **ret_at) why = "only a comma can follow";
  return why;
}

int place_parse(char const *text, place_ask_t *ret_ask, place_fail_t *ret_fail) {
  char const *list = text, *at;

  ret_ask->item_cnt = 0;
  ret_ask->any = !text[0];
  ret_ask->kind = PLACE_ASK_NODES;
  if (!text[0] || !strcmp(text, "local")) {
    ret_ask->kind = PLACE_ASK_LOCAL;
    return 0;
  }
  if (!strncmp(text, "split:", 6)) {
    ret_ask->kind = PLACE_ASK_SPLIT;
    list += 6;
  } else if (!strncmp(text, "cpu:", 4)) {
    ret_ask->kind = PLACE_ASK_CPUS;
    list += 4;
  }
  char const *why =
      take_list(list, ret_ask->kind == PLACE_ASK_CPUS ? TOPO_CPUS_MAX - 1 : TOPO_NODES_MAX - 1,
                ret_ask->kind != PLACE_ASK_NODES, ret_ask, &at);
  if (strlen(text) > PLACE_TEXT_MAX) why = "it is too long";
  if (!why) return 0;
  place_refuse(ret_fail, -1, "\"%.80s\" is no placement: %s, at \"%.20s\"", text, why, at);
  snprintf(ret_fail->hint, sizeof(ret_fail->hint),
           "give local, 0, 0,1 (in turn), split:0,1,1 (parts) or cpu:0-4:2,10");
  return 1;
}

/* Looking it up
 * ------------------------------------------------------------------------------------------------
 */

static int has_memory(topo_t const *topo, uint32_t node) {
  topo_pool_t const *pool = topo->node[node].pool;
  return pool[TOPO_4K].total || pool[TOPO_2M].total || pool[TOPO_1G].total;
}

static int usable(topo_t const *topo, uint32_t node) {
  return node < topo->node_cnt && topo->node[node].online && topo->node[node].allowed &&
         has_memory(topo, node);
}

/* The numbers of the nodes that can be used, for people. */
static void put_usable(topo_t const *topo, char *ret_text, size_t cap) {
  size_t len = 0;

  ret_text[0] = 0;
  for (uint32_t node = 0; node < topo->node_cnt && len + 8 < cap; node++)
    if (usable(topo, node))
      len += (size_t)snprintf(ret_text + len, cap - len, "%s%" PRIu32, len ? "," : "", node);
}

static int fault_node(topo_t const *topo, uint32_t node, place_fail_t *ret_fail) {
  char there[96];

  if (usable(topo, node)) return 0;
  place_refuse(ret_fail, (int)node, "node %" PRIu32 " %s", node,
               node >= topo->node_cnt || !topo->node[node].online ? "is not there or is offline"
               : !has_memory(topo, node)
                   ? "has no memory"
                   : "is not among those that the daemon may use (Mems_allowed, its cpuset)");
  put_usable(topo, there, sizeof(there));
  snprintf(ret_fail->hint, sizeof(ret_fail->hint), "choose of the nodes %s", there);
  return 1;
}

/* One more part, or a heavier last one. 0, or 1: there are too many. */
static int add_part(place_policy_t *policy, uint32_t node) {
  if (policy->part_cnt && policy->kind == PLACE_SPLIT &&
      policy->part[policy->part_cnt - 1].node == node) {
    policy->part[policy->part_cnt - 1].weight++;
  } else {
    if (policy->part_cnt == PLACE_PARTS_MAX) return 1;
    policy->part[policy->part_cnt].node = (uint16_t)node;
    policy->part[policy->part_cnt++].weight = 1;
  }
  policy->weight_sum++;
  return 0;
}

/* The node to call local: that of the cpu, or the nearest to it that has memory. */
static int local_node(topo_t const *topo, int cpu, uint32_t *ret_node) {
  int home = cpu >= 0 && (uint32_t)cpu < topo->cpu_cnt ? topo->cpu_node[cpu] : -1;
  uint32_t best = UINT32_MAX, nearest = UINT32_MAX;

  for (uint32_t node = 0; node < topo->node_cnt; node++) {
    if (!usable(topo, node)) continue;
    uint32_t far = home < 0 || home == (int)node ? 0 : topo->distance[home][node];
    if (!far && home >= 0 && home != (int)node) far = UINT16_MAX; /* not known: as far as can be */
    if (best != UINT32_MAX && far >= nearest) continue;
    best = node;
    nearest = far;
  }
  *ret_node = best;
  return best != UINT32_MAX;
}

/* The node that an item stands for. 0, or 1 and *ret_fail. */
static int item_node(place_ask_t const *ask, uint32_t i, topo_t const *topo, uint32_t *ret_node,
                     place_fail_t *ret_fail) {
  uint32_t item = ask->item[i];

  if (ask->kind != PLACE_ASK_CPUS) {
    *ret_node = item;
    return fault_node(topo, item, ret_fail);
  }
  if (item >= topo->cpu_cnt || topo->cpu_node[item] < 0) {
    place_refuse(ret_fail, -1, "cpu %" PRIu32 " is not there or is offline", item);
    snprintf(ret_fail->hint, sizeof(ret_fail->hint), "cpus are below %" PRIu32, topo->cpu_cnt);
    return 1;
  }
  *ret_node = (uint32_t)topo->cpu_node[item];
  return fault_node(topo, *ret_node, ret_fail);
}

/* Adds the part that item i of the ask is; topo NULL: nodes are taken as they are. */
static int add_item(place_ask_t const *ask, uint32_t i, topo_t const *topo, place_policy_t *policy,
                    place_fail_t *ret_fail) {
  uint32_t node = ask->item[i];

  if (topo && item_node(ask, i, topo, &node, ret_fail)) return 1;
  for (uint32_t k = 0; policy->kind == PLACE_INTERLEAVED && k < policy->part_cnt; k++) {
    if (policy->part[k].node != node) continue;
    place_refuse(ret_fail, (int)node, "node %" PRIu32 " comes twice among those to take in turn",
                 node);
    snprintf(ret_fail->hint, sizeof(ret_fail->hint), "name it once, or use split:");
    return 1;
  }
  if (!add_part(policy, node)) return 0;
  place_refuse(ret_fail, -1, "the placement changes its node more than %u times", PLACE_PARTS_MAX);
  snprintf(ret_fail->hint, sizeof(ret_fail->hint), "sort the list by nodes, or take them in turn");
  return 1;
}

int place_resolve(place_ask_t const *ask, topo_t const *topo, int cpu, place_policy_t *ret_policy,
                  place_fail_t *ret_fail) {
  place_policy_t policy = {.kind = ask->kind == PLACE_ASK_SPLIT || ask->kind == PLACE_ASK_CPUS
                                       ? PLACE_SPLIT
                                       : PLACE_INTERLEAVED};
  uint32_t node;

  if (ask->kind == PLACE_ASK_LOCAL) {
    if (!local_node(topo, cpu, &node)) {
      place_refuse(ret_fail, -1, "no node has memory that the daemon may use");
      snprintf(ret_fail->hint, sizeof(ret_fail->hint), "see Mems_allowed of the daemon");
      return 1;
    }
    (void)add_part(&policy, node);
  }
  for (uint32_t i = 0; i < ask->item_cnt; i++)
    if (add_item(ask, i, topo, &policy, ret_fail)) return 1;
  char text[PLACE_TEXT_MAX + 1];
  if (!place_text(&policy, text)) {
    place_refuse(ret_fail, -1, "the placement's list of nodes is too long to be kept");
    snprintf(ret_fail->hint, sizeof(ret_fail->hint), "give fewer parts");
    return 1;
  }
  *ret_policy = policy;
  return 0;
}

uint32_t place_text(place_policy_t const *policy, char ret_text[PLACE_TEXT_MAX + 1]) {
  char text[PLACE_TEXT_MAX + 1];
  size_t len = 0;

  if (place_policy_check(policy)) return 0;
  if (policy->kind == PLACE_SPLIT) len = (size_t)snprintf(text, sizeof(text), "split:");
  for (uint32_t i = 0; i < policy->part_cnt; i++) {
    uint32_t node = policy->part[i].node, weight = policy->part[i].weight;
    len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%" PRIu32, i ? "," : "", node);
    if (len < sizeof(text) && weight > 1)
      len += (size_t)snprintf(text + len, sizeof(text) - len, "*%" PRIu32, weight);
    if (len >= sizeof(text)) return 0;
  }
  memcpy(ret_text, text, len + 1);
  return (uint32_t)len;
}

int place_read(char const *text, place_policy_t *ret_policy) {
  place_ask_t ask;
  place_fail_t fail;
  char again[PLACE_TEXT_MAX + 1];

  if (place_parse(text, &ask, &fail)) return 1;
  if (ask.kind != PLACE_ASK_NODES && ask.kind != PLACE_ASK_SPLIT) return 1;
  place_policy_t policy = {.kind = ask.kind == PLACE_ASK_SPLIT ? PLACE_SPLIT : PLACE_INTERLEAVED};
  for (uint32_t i = 0; i < ask.item_cnt; i++)
    if (add_item(&ask, i, NULL, &policy, &fail)) return 1;
  if (!place_text(&policy, again) || strcmp(again, text) != 0) return 1; /* one text for each */
  *ret_policy = policy;
  return 0;
}

char const *place_policy_check(place_policy_t const *policy) {
  uint32_t sum = 0;

  if (policy->kind != PLACE_INTERLEAVED && policy->kind != PLACE_SPLIT) return "its kind is one";
  if (!policy->part_cnt || policy->part_cnt > PLACE_PARTS_MAX) return "part_cnt is in its range";
  for (uint32_t i = 0; i < policy->part_cnt; i++) {
    if (policy->part[i].node >= TOPO_NODES_MAX) return "nodes are in their range";
    if (!policy->part[i].weight) return "every weight is at least 1";
    if (policy->kind == PLACE_SPLIT && i && policy->part[i].node == policy->part[i - 1].node)
      return "neighbours differ";
    for (uint32_t k = 0; policy->kind == PLACE_INTERLEAVED && k < i; k++)
      if (policy->part[k].node == policy->part[i].node) return "no node comes twice";
    if (policy->kind == PLACE_INTERLEAVED && policy->part[i].weight != 1) return "weights are 1";
    sum += policy->part[i].weight;
  }
  return sum == policy->weight_sum ? NULL : "weight_sum is the sum of weights";
}

/* Where pages are wanted
 * ------------------------------------------------------------------------------------------------
 */

/* Pages that stay together. Few ordinary pages go one by one, so that all nodes get some. */
static uint64_t unit_of(place_layout_t const *layout) {
  return layout->size == TOPO_4K && layout->total / UNIT_4K >= layout->policy.weight_sum ? UNIT_4K
                                                                                         : 1;
}

/* The page at which the parts of the first `weights` end. */
static uint64_t cut_at(place_layout_t const *layout, uint64_t unit, uint32_t weights) {
  uint64_t units = (layout->total + unit - 1) / unit, sum = layout->policy.weight_sum;
  uint64_t cut = weights * (units / sum) + (weights < units % sum ? weights : units % sum);
  return weights == sum ? UINT64_MAX : cut * unit;
}

/* Part i of a split is [*ret_from, *ret_to), with *weights before it, which goes behind it. */
static void part_range(place_layout_t const *layout, uint32_t i, uint32_t *weights,
                       uint64_t *ret_from, uint64_t *ret_to) {
  uint64_t unit = unit_of(layout);
  *ret_from = *weights ? cut_at(layout, unit, *weights) : 0;
  *weights += layout->policy.part[i].weight;
  *ret_to = cut_at(layout, unit, *weights);
}

uint32_t place_node(place_layout_t const *layout, uint64_t page) {
  place_policy_t const *policy = &layout->policy;
  uint32_t weights = 0;
  uint64_t from, to = 0;

  if (policy->kind == PLACE_INTERLEAVED)
    return policy->part[page / unit_of(layout) % policy->part_cnt].node;
  for (uint32_t i = 0; i < policy->part_cnt; i++) {
    part_range(layout, i, &weights, &from, &to);
    if (page < to) return policy->part[i].node;
  }
  return policy->part[policy->part_cnt - 1].node;
}

uint64_t place_run(place_layout_t const *layout, uint64_t page, uint64_t end) {
  place_policy_t const *policy = &layout->policy;
  uint32_t weights = 0;
  uint64_t from, to = end, unit = unit_of(layout);

  if (policy->part_cnt == 1) return end - page;
  if (policy->kind == PLACE_INTERLEAVED) {
    to = (page / unit + 1) * unit;
  } else {
    for (uint32_t i = 0; i < policy->part_cnt; i++) {
      part_range(layout, i, &weights, &from, &to);
      if (page < to) break;
    }
  }
  return (to < end ? to : end) - page;
}

/* Of the pages below end, those in the units of place k of an interleaving of cnt. */
static uint64_t below(uint64_t unit, uint64_t cnt, uint64_t k, uint64_t end) {
  uint64_t round = unit * cnt, rest = end % round;
  rest = rest > k * unit ? rest - k * unit : 0;
  return end / round * unit + (rest < unit ? rest : unit);
}

/* What [from, to) and [lo, hi) have in common. */
static uint64_t common(uint64_t from, uint64_t to, uint64_t lo, uint64_t hi, uint64_t *ret_first) {
  if (lo < from) lo = from;
  if (hi > to) hi = to;
  *ret_first = lo;
  return hi > lo ? hi - lo : 0;
}

uint64_t place_cnt(place_layout_t const *layout, uint32_t node, uint64_t from, uint64_t to) {
  place_policy_t const *policy = &layout->policy;
  uint32_t weights = 0;
  uint64_t cnt = 0, lo, hi, unit = unit_of(layout);

  for (uint32_t i = 0; i < policy->part_cnt && from < to; i++) {
    if (policy->kind == PLACE_SPLIT) part_range(layout, i, &weights, &lo, &hi);
    if (policy->part[i].node != node) continue;
    if (policy->kind == PLACE_SPLIT)
      cnt += common(from, to, lo, hi, &lo);
    else
      cnt += below(unit, policy->part_cnt, i, to) - below(unit, policy->part_cnt, i, from);
  }
  return cnt;
}

/* Unit number `number` of place k that has pages in [from, to). */
static int piece_interleaved(place_layout_t const *layout, uint32_t k, uint64_t from, uint64_t to,
                             uint64_t number, uint64_t *ret_first, uint64_t *ret_cnt) {
  uint64_t unit = unit_of(layout), cnt = layout->policy.part_cnt;
  uint64_t first = from / unit, group;

  first += (k + cnt - first % cnt) % cnt;
  if (__builtin_mul_overflow(number, cnt, &group) || __builtin_add_overflow(group, first, &group) ||
      group > (to - 1) / unit)
    return 0;
  *ret_cnt = common(from, to, group * unit, (group + 1) * unit, ret_first);
  return 1;
}

int place_piece(place_layout_t const *layout, uint32_t node, uint64_t from, uint64_t to,
                uint64_t piece_max, uint64_t number, uint64_t *ret_first, uint64_t *ret_cnt) {
  place_policy_t const *policy = &layout->policy;
  uint32_t weights = 0;
  uint64_t unit = unit_of(layout);

  if (from >= to) return 0;
  for (uint32_t i = 0; i < policy->part_cnt; i++) {
    uint64_t lo = 0, hi = UINT64_MAX, first;
    if (policy->kind == PLACE_SPLIT) part_range(layout, i, &weights, &lo, &hi);
    if (policy->part[i].node != node) continue;
    /* A single node is one part. A unit is one piece where nodes take turns, unless it has to be
     * cut. */
    if (policy->kind == PLACE_INTERLEAVED && policy->part_cnt > 1) {
      uint64_t cuts = (unit + piece_max - 1) / piece_max;
      if (!piece_interleaved(layout, i, from, to, number / cuts, &first, &hi)) return 0;
      uint64_t at = number % cuts * piece_max;
      *ret_first = first + at;
      *ret_cnt = at >= hi ? 0 : hi - at < piece_max ? hi - at : piece_max;
      return 1;
    }
    uint64_t cnt = common(from, to, lo, hi, &first), pieces = (cnt + piece_max - 1) / piece_max;
    if (number >= pieces) {
      number -= pieces;
      continue;
    }
    *ret_first = first + number * piece_max;
    *ret_cnt = cnt - number * piece_max < piece_max ? cnt - number * piece_max : piece_max;
    return 1;
  }
  return 0;
}
