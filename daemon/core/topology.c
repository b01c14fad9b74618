/* topology: see topology.h. Refuses to read anything: that is the shell's. */

#include "daemon/core/topology.h"

#include <stddef.h>

static uint64_t const page_sizes[TOPO_SIZE_CNT] = {4096UL, 2097152UL, 1073741824UL};
static char const *const size_names[TOPO_SIZE_CNT] = {"4k", "2M", "1G"};

uint64_t topo_page_size(int size) {
  return size >= 0 && size < TOPO_SIZE_CNT ? page_sizes[size] : 0;
}

int topo_size_of(uint64_t page_size) {
  for (int size = 0; size < TOPO_SIZE_CNT; size++)
    if (page_sizes[size] == page_size) return size;
  return -1;
}

char const *topo_size_name(int size) {
  return size >= 0 && size < TOPO_SIZE_CNT ? size_names[size] : "";
}

uint64_t topo_free(topo_t const *topo, uint32_t node, int size) {
  if (node >= topo->node_cnt || !topo->node[node].online || !topo->node[node].allowed) return 0;
  return topo->size[size].exists ? topo->node[node].pool[size].free : 0;
}

uint64_t topo_free_all(topo_t const *topo, int size) {
  topo_size_t const *all = &topo->size[size];
  uint64_t free = 0, surplus = 0;

  if (!all->exists) return 0;
  for (uint32_t node = 0; node < topo->node_cnt; node++) {
    free += topo_free(topo, node, size);
    surplus += topo->node[node].pool[size].surplus;
  }
  free = free > all->reserved ? free - all->reserved : 0;
  if (all->overcommit > surplus) free += all->overcommit - surplus;
  return free < all->limit ? free : all->limit;
}

int topo_first_cpu(topo_t const *topo, uint32_t node) {
  for (uint32_t cpu = 0; cpu < topo->cpu_cnt; cpu++)
    if (topo->cpu_node[cpu] == (int16_t)node) return (int)cpu;
  return -1;
}

static char const *check_node(topo_t const *topo, uint32_t node) {
  topo_node_t const *at = &topo->node[node];

  if (at->allowed && !at->online) return "a node that is allowed is online";
  for (int size = 0; size < TOPO_SIZE_CNT; size++) {
    topo_pool_t const *pool = &at->pool[size];
    if (pool->free > pool->total) return "of each pool, free <= total";
    if (pool->surplus > pool->total) return "of each pool, surplus <= total";
    if (pool->total && !at->online) return "a node that has pages is online";
    if (pool->total && !topo->size[size].exists) return "a size that has pages exists";
  }
  for (uint32_t to = 0; to < topo->node_cnt; to++) {
    uint16_t distance = topo->distance[node][to];
    if (distance && distance < TOPO_DISTANCE_LOCAL) return "a distance is at least the local one";
    if (distance && to == node && distance != TOPO_DISTANCE_LOCAL)
      return "a node is at the local distance from itself";
  }
  return NULL;
}

char const *topo_check(topo_t const *topo) {
  int online = 0;

  if (!topo->node_cnt || topo->node_cnt > TOPO_NODES_MAX) return "node_cnt is in its range";
  if (topo->cpu_cnt > TOPO_CPUS_MAX) return "cpu_cnt is in its range";
  for (uint32_t node = 0; node < topo->node_cnt; node++) {
    char const *broken = check_node(topo, node);
    if (broken) return broken;
    online |= topo->node[node].online;
  }
  if (!online) return "some node is online";
  for (uint32_t cpu = 0; cpu < topo->cpu_cnt; cpu++) {
    int node = topo->cpu_node[cpu];
    if (node >= (int)topo->node_cnt || node < -1 || (node >= 0 && !topo->node[node].online))
      return "a cpu's node is online, or -1";
  }
  return NULL;
}
