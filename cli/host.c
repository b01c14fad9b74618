/* host: reading nodes and pools from sysfs.

   The problem: what a machine has differs widely: one node or many, numbers with gaps, nodes
   without memory or without cpus, offline ones, kernels without NUMA, containers that may use some
   of it. All of that is to come out as one plain value.

   The model: /sys/devices/system/node lists what is online; every file of a node that is listed
   must be there, but for the folder of its pools, which a node without memory does not have. The
   machine's own pools (/sys/kernel/mm/hugepages) say which sizes there are.

   It refuses: to guess a figure that cannot be read. */

#include "host.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_DIR "/sys/devices/system/node"
#define POOLS_DIR "/sys/kernel/mm/hugepages"

/* Says which file was wrong. -1. */
static int unreadable(char *error, char const *path, int err) {
  snprintf(error, HOST_ERROR_MAX, "cannot read %s: %s", path,
           err == EINVAL ? "what stands in it is not what kernels write" : strerror(err));
  return -1;
}

/* A set that a file lists. 0 or -1. */
static int read_set(sys_t const *sys, char const *path, sys_set_t *set, char *error) {
  char text[SYS_TEXT_MAX];
  int const err = sys_read(sys, text, sizeof text, "%s", path);
  if (!err && !sys_set_read(text, set)) return 0;
  return unreadable(error, path, err ? err : EINVAL);
}

/* A set that /proc/self/status lists after key; `without` stands where it is not listed. */
static void read_allowed(sys_t const *sys, char const *key, sys_set_t const *without,
                         sys_set_t *set) {
  char text[SYS_TEXT_MAX];
  *set = *without;
  if (sys_read(sys, text, sizeof text, "/proc/self/status")) return;
  char *at = strstr(text, key);
  if (!at) return;
  at += strlen(key);
  at += strspn(at, " \t");
  at[strcspn(at, "\n")] = '\0';
  sys_set_t listed;
  if (!sys_set_read(at, &listed)) *set = listed;
}

host_dir_t host_pool_dir(int numa, uint node, ulong page_size) {
  host_dir_t dir;
  if (numa)
    snprintf(dir.s, sizeof dir.s, NODES_DIR "/node%u/hugepages/hugepages-%lukB", node,
             page_size >> 10);
  else
    snprintf(dir.s, sizeof dir.s, POOLS_DIR "/hugepages-%lukB", page_size >> 10);
  return dir;
}

static int read_pool(sys_t const *sys, char const *dir, host_pool_t *pool, char *error) {
  struct {
    char const *name;
    ulong *figure;
  } const files[] = {{"nr_hugepages", &pool->total},
                     {"free_hugepages", &pool->free},
                     {"surplus_hugepages", &pool->surplus}};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    int const err = sys_number(sys, files[i].figure, "%s/%s", dir, files[i].name);
    if (err) {
      char path[192];
      snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
      return unreadable(error, path, err);
    }
  }
  return 0;
}

static int size_order(void const *a, void const *b) {
  ulong const x = ((host_size_t const *)a)->size, y = ((host_size_t const *)b)->size;
  return (x > y) - (x < y);
}

/* Which sizes there are, and the figures of the whole machine. A kernel without huge pages has no
 * folder. */
static int read_sizes(sys_t const *sys, host_t *host, char *error) {
  char path[SYS_PATH_MAX];
  snprintf(path, sizeof path, "%s" POOLS_DIR, sys->root);
  DIR *dir = opendir(path);
  if (!dir) return errno == ENOENT ? 0 : unreadable(error, POOLS_DIR, errno);
  struct dirent const *entry;
  while (host->size_cnt < HOST_SIZES_MAX && (entry = readdir(dir))) {
    ulong kib;
    char end;
    if (sscanf(entry->d_name, "hugepages-%lukB%c", &kib, &end) != 1 || !kib || kib >> 50) continue;
    host->size[host->size_cnt++].size = kib << 10;
  }
  closedir(dir);
  qsort(host->size, host->size_cnt, sizeof *host->size, size_order);
  for (uint i = 0; i < host->size_cnt; i++) {
    host_size_t *size = &host->size[i];
    host_dir_t const pool = host_pool_dir(0, 0, size->size);
    if (read_pool(sys, pool.s, &size->all, error)) return -1;
    int err = sys_number(sys, &size->reserved, "%s/resv_hugepages", pool.s);
    /* Gigantic pages have no overcommit on some kernels. */
    if (sys_number(sys, &size->overcommit, "%s/nr_overcommit_hugepages", pool.s))
      size->overcommit = 0;
    if (err) return unreadable(error, pool.s, err);
  }
  return 0;
}

/* Where a node's files are, for node ids below HOST_NODES_MAX. */
typedef struct node_path {
  char s[96];
} node_path_t;

static node_path_t node_path(uint id, char const *file) {
  node_path_t path;
  snprintf(path.s, sizeof path.s, NODES_DIR "/node%u/%s", id, file);
  return path;
}

static int read_memory(sys_t const *sys, host_t const *host, host_node_t *node, char *error) {
  char text[SYS_TEXT_MAX], total[48], unused[48];
  node_path_t const path = node_path(node->id, "meminfo");
  char const *file = host->numa ? path.s : "/proc/meminfo";
  snprintf(total, sizeof total, host->numa ? "Node %u MemTotal:" : "MemTotal:", node->id);
  snprintf(unused, sizeof unused, host->numa ? "Node %u MemFree:" : "MemFree:", node->id);
  int const err = sys_read(sys, text, sizeof text, "%s", file);
  if (err) return unreadable(error, file, err);
  if (sys_field(text, total, &node->mem) || sys_field(text, unused, &node->mem_free))
    return unreadable(error, file, EINVAL);
  node->mem <<= 10;
  node->mem_free <<= 10;
  return 0;
}

static int read_node(sys_t const *sys, host_t *host, uint at, char *error) {
  host_node_t *node = &host->node[at];
  node->allowed = sys_set_has(&host->mems_ok, node->id);
  if (!host->numa)
    node->cpus = host->cpus;
  else if (read_set(sys, node_path(node->id, "cpulist").s, &node->cpus, error))
    return -1;
  if (read_memory(sys, host, node, error)) return -1;
  node->pooled = !host->numa || sys_there(sys, "%s", node_path(node->id, "hugepages").s);
  for (uint i = 0; node->pooled && i < host->size_cnt; i++)
    if (read_pool(sys, host_pool_dir(host->numa, node->id, host->size[i].size).s, &node->pool[i],
                  error))
      return -1;
  return 0;
}

/* "10 21": to each online node, in the order of their numbers. */
static int read_distances(sys_t const *sys, host_t *host, uint at, char *error) {
  uint *row = host->distance + (size_t)at * host->node_cnt;
  if (!host->numa) {
    row[0] = 10;
    return 0;
  }
  char text[SYS_TEXT_MAX];
  node_path_t const path = node_path(host->node[at].id, "distance");
  int const err = sys_read(sys, text, sizeof text, "%s", path.s);
  if (err) return unreadable(error, path.s, err);
  char *next = text;
  for (uint i = 0; i < host->node_cnt; i++) {
    char *end;
    ulong const distance = strtoul(next, &end, 10);
    if (end == next || distance > 255) return unreadable(error, path.s, EINVAL);
    row[i] = (uint)distance;
    next = end;
  }
  return 0;
}

/* Which nodes and cpus are online, and which of them this process may use. */
static int read_sets(sys_t const *sys, host_t *host, char *error) {
  host->numa = sys_there(sys, NODES_DIR "/online");
  if (host->numa) {
    if (read_set(sys, NODES_DIR "/online", &host->online, error)) return -1;
    if (read_set(sys, NODES_DIR "/possible", &host->possible, error)) return -1;
  } else {
    sys_set_add(&host->online, 0);
    sys_set_add(&host->possible, 0);
  }
  if (read_set(sys, "/sys/devices/system/cpu/online", &host->cpus, error)) return -1;
  read_allowed(sys, "Mems_allowed_list:", &host->online, &host->mems_ok);
  read_allowed(sys, "Cpus_allowed_list:", &host->cpus, &host->cpus_ok);
  host->node_cnt = sys_set_cnt(&host->online);
  if (!host->node_cnt || sys_set_next(&host->online, HOST_NODES_MAX) != SYS_SET_MAX)
    return unreadable(error, NODES_DIR "/online", EINVAL);
  return 0;
}

static int read_all(sys_t const *sys, host_t *host, char *error) {
  if (read_sets(sys, host, error) || read_sizes(sys, host, error)) return -1;
  host->node = calloc(host->node_cnt, sizeof *host->node);
  host->distance = calloc((size_t)host->node_cnt * host->node_cnt, sizeof *host->distance);
  if (!host->node || !host->distance) {
    snprintf(error, HOST_ERROR_MAX, "this process has no memory left for %u nodes", host->node_cnt);
    return -1;
  }
  uint id = sys_set_next(&host->online, 0);
  for (uint i = 0; i < host->node_cnt; i++, id = sys_set_next(&host->online, id + 1))
    host->node[i].id = id;
  for (uint i = 0; i < host->node_cnt; i++)
    if (read_node(sys, host, i, error) || read_distances(sys, host, i, error)) return -1;
  return 0;
}

int host_read(sys_t const *sys, host_t *ret_host, char ret_error[HOST_ERROR_MAX]) {
  host_t host;
  memset(&host, 0, sizeof host);
  if (read_all(sys, &host, ret_error)) {
    host_free(&host);
    return -1;
  }
  *ret_host = host;
  return 0;
}

void host_free(host_t *host) {
  free(host->node);
  free(host->distance);
  host->node = NULL;
  host->distance = NULL;
  host->node_cnt = 0;
}

host_node_t const *host_node(host_t const *host, ulong id) {
  for (uint i = 0; i < host->node_cnt; i++)
    if (host->node[i].id == id) return &host->node[i];
  return NULL;
}

host_node_t const *host_node_of_cpu(host_t const *host, uint cpu) {
  for (uint i = 0; i < host->node_cnt; i++)
    if (sys_set_has(&host->node[i].cpus, cpu)) return &host->node[i];
  return NULL;
}

int host_size_of(host_t const *host, ulong page_size) {
  for (uint i = 0; i < host->size_cnt; i++)
    if (host->size[i].size == page_size) return (int)i;
  return -1;
}
