/* afford: whether what placement.h describes is to be had, and with pages of which size.

   The model: the topology says what each node has free. Strict placement wants each node's share
   there; else all nodes together have to have enough, and the kernel takes what it finds nearest.
   What others have reserved is on no node in particular, so it counts against the whole only.
   Surplus pages may come on any node.

   Refuses to promise: pools change, and whoever takes the pages sees whether they are there. */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/placement_priv.h"

/* The most that may be wasted, as a part of what is taken. */
#define WASTE_PART 8UL

/* Surplus pages that there may still be. */
static uint64_t surplus_left(topo_t const *topo, int size) {
  uint64_t surplus = 0;

  for (uint32_t node = 0; node < topo->node_cnt; node++)
    surplus += topo->node[node].pool[size].surplus;
  return topo->size[size].overcommit > surplus ? topo->size[size].overcommit - surplus : 0;
}

static void hint_more(place_fail_t *fail) {
  char const *name = topo_size_name(fail->size);

  if (fail->size == TOPO_4K)
    snprintf(fail->hint, sizeof(fail->hint), "ask for less, %send what uses the memory",
             fail->node < 0 ? "" : "name another node, allow others (preferred), or ");
  else if (fail->node < 0)
    snprintf(fail->hint, sizeof(fail->hint),
             "reserve more (wkspctl hugepages reserve --size %s --count N, or sysctl "
             "vm.nr_hugepages, as root), or take smaller pages",
             name);
  else
    snprintf(
        fail->hint, sizeof(fail->hint),
        "reserve more (wkspctl hugepages reserve --node %d --size %s --count N, as root), name "
        "another node, or allow others (preferred)",
        (int)fail->node, name);
}

void place_short(int size, int node, uint64_t wanted, uint64_t free, place_fail_t *ret_fail) {
  *ret_fail = (place_fail_t){
      .kind = PLACE_SHORT, .node = node, .size = size, .wanted = wanted, .free = free};
  char where[32] = "";

  if (node >= 0) snprintf(where, sizeof(where), " on node %d", node);
  if (size == TOPO_4K)
    snprintf(ret_fail->text, sizeof(ret_fail->text),
             "%" PRIu64 " pages of 4 KiB are wanted%s (%" PRIu64 " MiB), %" PRIu64
             " can be had (%" PRIu64 " MiB)",
             wanted, where, wanted >> 8, free, free >> 8);
  else
    snprintf(ret_fail->text, sizeof(ret_fail->text),
             "%" PRIu64 " huge pages of %s are wanted%s, %" PRIu64 " are free", wanted,
             size == TOPO_2M ? "2 MiB" : "1 GiB", where, free);
  hint_more(ret_fail);
}

/* Pages would be there, and the control groups do not let this process take them. */
static int fail_limit(int size, uint64_t wanted, uint64_t limit, place_fail_t *ret_fail) {
  char const *name = size == TOPO_2M ? "2MB" : "1GB";

  place_short(size, -1, wanted, limit, ret_fail);
  snprintf(ret_fail->text, sizeof(ret_fail->text),
           "%" PRIu64 " huge pages of %s are wanted, %" PRIu64
           " can be taken within the limits of the daemon's control groups",
           wanted, size == TOPO_2M ? "2 MiB" : "1 GiB", limit);
  snprintf(ret_fail->hint, sizeof(ret_fail->hint),
           "raise hugetlb.%s.max, and hugetlb.%s.rsvd.max if it is set, of the daemon's group and "
           "of those above it, or take other pages",
           name, name);
  return 1;
}

static int fail_short(int size, int node, uint64_t wanted, uint64_t free, place_fail_t *ret_fail) {
  place_short(size, node, wanted, free, ret_fail);
  return 1;
}

int place_afford(place_layout_t const *layout, topo_t const *topo, uint64_t from, uint64_t to,
                 int strict, place_fail_t *ret_fail) {
  int size = layout->size;
  uint64_t free = topo_free_all(topo, size), wanted = to > from ? to - from : 0;
  uint64_t extra = surplus_left(topo, size);

  for (uint32_t node = 0; strict && node < TOPO_NODES_MAX; node++) {
    uint64_t share = place_cnt(layout, node, from, to);
    uint64_t there = topo_free(topo, node, size);
    if (there + extra < share) return fail_short(size, (int)node, share, there, ret_fail);
  }
  if (free >= wanted) return 0;
  if (size != TOPO_4K && topo->size[size].limit == free)
    return fail_limit(size, wanted, free, ret_fail);
  return fail_short(size, -1, wanted, free, ret_fail);
}

/* Adds to why. */
__attribute__((format(printf, 3, 4))) static void say(char *why, size_t cap, char const *format,
                                                      ...) {
  size_t len = strlen(why);
  va_list args;

  va_start(args, format);
  if (len < cap) vsnprintf(why + len, cap - len, format, args);
  va_end(args);
}

/* Whether auto takes pages of this size, or why not, in words. */
static int fits(place_layout_t const *layout, topo_t const *topo, int strict, uint64_t size_bytes,
                char *why, size_t cap) {
  uint64_t page = topo_page_size(layout->size), page_cnt = (size_bytes + page - 1) / page;
  uint64_t waste = page_cnt * page - size_bytes;
  char const *name = topo_size_name(layout->size);
  place_fail_t fail;

  if (layout->size == TOPO_4K) return 1;
  if (!topo->size[layout->size].exists)
    say(why, cap, "; %s: the kernel has none", name);
  else if (size_bytes < page)
    say(why, cap, "; %s: larger than all of it", name);
  else if (waste > page_cnt * page / WASTE_PART)
    say(why, cap, "; %s: would waste %" PRIu64 " MiB of %" PRIu64, name, waste >> 20,
        page_cnt * page >> 20);
  else if (!place_afford(layout, topo, 0, page_cnt, strict, &fail))
    return 1;
  else if (fail.node >= 0)
    say(why, cap, "; %s: %" PRIu64 " wanted on node %d, %" PRIu64 " free", name, fail.wanted,
        (int)fail.node, fail.free);
  else
    say(why, cap, "; %s: %" PRIu64 " wanted, %" PRIu64 " free", name, fail.wanted, fail.free);
  return 0;
}

int place_plan(place_policy_t const *policy, topo_t const *topo, int strict, uint64_t size,
               uint64_t max_size, uint64_t page_size, place_plan_t *ret_plan,
               place_fail_t *ret_fail) {
  place_plan_t plan = {.layout.policy = *policy};
  char others[200] = "";
  int first = TOPO_SIZE_CNT - 1, last = TOPO_4K;

  if (page_size) first = last = topo_size_of(page_size);
  if (first < 0) {
    place_refuse(ret_fail, -1, "there are no pages of %" PRIu64 " bytes", page_size);
    snprintf(ret_fail->hint, sizeof(ret_fail->hint), "give 4k, 2M, 1G or auto");
    return 1;
  }
  for (int at = first; at >= last; at--) {
    uint64_t page = topo_page_size(at);
    plan.layout.size = at;
    plan.layout.total = (max_size + page - 1) / page;
    plan.page_cnt = (size + page - 1) / page;
    if (page_size || fits(&plan.layout, topo, strict, size, others, sizeof(others))) break;
  }
  if (!page_size)
    snprintf(plan.why, sizeof(plan.why),
             "%s: the largest that fit, are free and waste at most 1/8%s",
             topo_size_name(plan.layout.size), others);
  if (page_size && !topo->size[plan.layout.size].exists) {
    place_refuse(ret_fail, -1, "this kernel has no pages of %s", topo_size_name(plan.layout.size));
    snprintf(ret_fail->hint, sizeof(ret_fail->hint), "take others, or auto");
    return 1;
  }
  if (place_afford(&plan.layout, topo, 0, plan.page_cnt, strict, ret_fail)) return 1;
  *ret_plan = plan;
  return 0;
}
