/* The problem: what there is to put memory on stands in a hundred small files, some of which are
   missing: on kernels without NUMA, in containers, on machines with holes in the numbers of their
   nodes; and not all that is there may be used.

   The model: the kernel's files alone, each of which may be absent. Nodes are those that are online
   in sysfs; what this process may use stands in its status (Mems_allowed), which is where cpusets
   end up. No nodes in sysfs: one, 0, with the figures of the whole machine. What ordinary pages a
   node has for us is an estimate, as MemAvailable is; the kernel makes none for nodes.

   Refuses: to fail. A file that cannot be read or understood stands for nothing of its kind. */

#include "daemon/shell/topology.h"

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 512
#define TEXT_SIZE 16384

/* Never taken: what the machine needs to go on. At least this, and 1/64 of all; of a node the
 * latter. */
#define RESERVE_MIN  (64UL << 20)
#define RESERVE_PART 64

/* What the kernel makes of shared memory by itself is no larger. */
#define SLACK_MAX (2UL << 20)

/* Folders above a process in the cgroup tree that are looked at. */
#define CGROUP_DEPTH_MAX 32

/* Version 1 says this, less a page, where there is no limit. */
#define CGROUP_NONE (UINT64_MAX / 4)

static char const *const kernel_names[TOPO_SIZE_CNT] = {"", "hugepages-2048kB",
                                                        "hugepages-1048576kB"};
static char const *const cgroup_names[TOPO_SIZE_CNT] = {"", "2MB", "1GB"};

/* Files
 * ------------------------------------------------------------------------------------------------
 */

/* Reads a small file. Its length; 0: it is empty, not there, or not to be read. */
__attribute__((format(printf, 2, 3))) static size_t read_text(char ret_text[TEXT_SIZE],
                                                              char const *path_format, ...) {
  char path[PATH_SIZE];
  va_list args;
  va_start(args, path_format);
  int len = vsnprintf(path, sizeof path, path_format, args);
  va_end(args);
  ret_text[0] = '\0';
  int fd = len < PATH_SIZE ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return 0;
  size_t got = 0;
  ssize_t n;
  while (got + 1 < TEXT_SIZE && (n = read(fd, ret_text + got, TEXT_SIZE - 1 - got)) > 0)
    got += (size_t)n;
  close(fd);
  ret_text[got] = '\0';
  return got;
}

/* The number at the start of a file. 1, or 0: there is none, as in "max". */
static int read_number(char const *folder, char const *name, uint64_t *ret_number) {
  char text[TEXT_SIZE];
  if (!read_text(text, "%s/%s", folder, name) || text[0] < '0' || text[0] > '9') return 0;
  *ret_number = strtoull(text, NULL, 10);
  return 1;
}

/* Bytes that a line "Key:  N kB" names; 0: no such line. */
static uint64_t meminfo(char const *text, char const *key) {
  char const *at = strstr(text, key);
  return at ? strtoull(at + strlen(key), NULL, 10) * 1024 : 0;
}

/* Calls on_number for each in a list such as "0-3,8"; what is above max is counted and left out. */
static uint32_t each_of(char const *list, uint32_t max, void (*on_number)(void *, uint32_t),
                        void *arg) {
  uint32_t above = 0;
  char const *at = list;
  while (*at >= '0' && *at <= '9') {
    char *end;
    unsigned long first = strtoul(at, &end, 10), last = first;
    if (*end == '-') last = strtoul(end + 1, &end, 10);
    for (unsigned long i = first; i <= last && i < UINT16_MAX; i++) {
      if (i < max)
        on_number(arg, (uint32_t)i);
      else
        above++;
    }
    at = *end == ',' ? end + 1 : "";
  }
  return above;
}

/* Control groups
 * ------------------------------------------------------------------------------------------------
 */

/* The number behind a key that begins a line, such as "cache 4096". 0: there is no such line. */
static uint64_t stat_of(char const *text, char const *key) {
  size_t len = strlen(key);
  for (char const *at = text; at; at = strchr(at, '\n')) {
    at += *at == '\n';
    if (!strncmp(at, key, len) && at[len] == ' ') return strtoull(at + len, NULL, 10);
  }
  return 0;
}

/* Bytes of what a group counts as memory that are pages of files, which go when others are wanted.
 */
static uint64_t files_in(char const *folder, char const *prefix) {
  char text[TEXT_SIZE], key[32];
  static char const *const lists[] = {"active_file", "inactive_file"};
  uint64_t bytes = 0;
  if (!read_text(text, "%s/memory.stat", folder)) return 0;
  for (int i = 0; i < 2; i++) {
    snprintf(key, sizeof key, "%s%s", prefix, lists[i]);
    bytes += stat_of(text, key);
  }
  return bytes;
}

/* A tree of control groups, and what of them is asked for. */
typedef struct tree {
  char const *sys, *mount; /* the folder is sys/fs/cgroup and mount */
  char max[64], now[64];   /* files of each group */
  char const *files;       /* of memory: what begins the figures that groups below count for */
} tree_t;

/* What the groups from one up to the top of its tree leave; UINT64_MAX: all. */
static uint64_t tree_left(tree_t const *tree, char const *from) {
  char folder[PATH_SIZE], group[PATH_SIZE];
  uint64_t least = UINT64_MAX;
  if (snprintf(group, sizeof group, "%s", from) >= PATH_SIZE) return least;
  for (int i = 0; i < CGROUP_DEPTH_MAX; i++) {
    uint64_t max, now;
    if (snprintf(folder, sizeof folder, "%s/fs/cgroup%s%s", tree->sys, tree->mount, group) <
            PATH_SIZE &&
        read_number(folder, tree->max, &max) && read_number(folder, tree->now, &now) &&
        max < CGROUP_NONE) {
      uint64_t files = tree->files ? files_in(folder, tree->files) : 0;
      now = now > files ? now - files : 0;
      uint64_t left = max > now ? max - now : 0;
      if (left < least) least = left;
    }
    char *last = strrchr(group, '/');
    if (!last) break;
    *last = '\0';
  }
  return least;
}

/* Whether a list such as "cpu,cpuacct" that ends with ':' has the word. */
static int lists(char const *list, char const *word) {
  size_t len = strlen(word);
  while (*list && *list != ':') {
    size_t next = strcspn(list, ",:");
    if (next == len && !strncmp(list, word, len)) return 1;
    list += next + (list[next] == ',');
  }
  return 0;
}

/* What the cgroups above this process leave of what such files limit and count; UINT64_MAX: all.
   Each line of the list is one tree: "0::/group" that of version 2, which is mounted below where
   there is one of version 1 as well; "4:memory:/group" one of version 1, with other names. */
static uint64_t cgroup_left(char const *sys, char const *proc, char const *controller,
                            char const *what) {
  char text[TEXT_SIZE], mount[64];
  uint64_t least = UINT64_MAX;
  int memory = !strcmp(controller, "memory");
  if (!read_text(text, "%s/self/cgroup", proc)) return least;
  snprintf(mount, sizeof mount, "/%s", controller);
  for (char *line = text, *end; *line; line = end) {
    end = line + strcspn(line, "\n");
    if (*end) *end++ = '\0';
    char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;
    if (!group) continue;
    int unified = group == list + 1;
    if (!unified && !lists(list + 1, controller)) continue;
    tree_t tree = {.sys = sys, .mount = unified ? "" : mount};
    snprintf(tree.max, sizeof tree.max, "%s.%s", what, unified ? "max" : "limit_in_bytes");
    snprintf(tree.now, sizeof tree.now, "%s.%s", what, unified ? "current" : "usage_in_bytes");
    if (memory) tree.files = unified ? "" : "total_";
    for (int i = 0; i <= unified; i++) {
      if (i) tree.mount = "/unified";
      uint64_t left = tree_left(&tree, group + 1);
      if (left < least) least = left;
    }
  }
  return least;
}

uint64_t topology_free_4k(char const *sys, char const *proc) {
  char text[TEXT_SIZE];
  if (!read_text(text, "%s/meminfo", proc)) return 0;
  uint64_t reserve = meminfo(text, "MemTotal:") / RESERVE_PART;
  uint64_t avail = meminfo(text, "MemAvailable:");
  uint64_t group = cgroup_left(sys, proc, "memory", "memory");
  if (reserve < RESERVE_MIN) reserve = RESERVE_MIN;
  if (group < avail) avail = group;
  return avail > reserve ? avail - reserve : 0;
}

/* The word that a setting's file has in brackets is one of those. */
static int set_to(char const *text, char const *const *words, size_t word_cnt) {
  char const *at = strchr(text, '[');
  for (size_t i = 0; at && i < word_cnt; i++) {
    size_t len = strlen(words[i]);
    if (!strncmp(at + 1, words[i], len) && at[1 + len] == ']') return 1;
  }
  return 0;
}

uint64_t topology_slack_4k(char const *sys) {
  static char const *const huge[] = {"always", "within_size", "advise", "force"};
  char text[TEXT_SIZE];
  size_t cnt = sizeof huge / sizeof *huge;
  if (read_text(text, "%s/kernel/mm/transparent_hugepage/shmem_enabled", sys) &&
      set_to(text, huge, cnt))
    return SLACK_MAX;
  /* of each size by itself, since 6.11; "inherit" is the one above */
  for (unsigned kib = 8; kib <= SLACK_MAX >> 10; kib *= 2)
    if (read_text(text, "%s/kernel/mm/transparent_hugepage/hugepages-%ukB/shmem_enabled", sys,
                  kib) &&
        set_to(text, huge, cnt))
      return SLACK_MAX;
  return 0;
}

/* Pages of a huge size that the cgroups leave: of those to be taken, and of those to be reserved.
 */
static uint64_t hugetlb_left(char const *sys, char const *proc, int size) {
  uint64_t least = UINT64_MAX;
  static char const *const kinds[] = {"", ".rsvd"};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char what[64];
    snprintf(what, sizeof what, "hugetlb.%s%s", cgroup_names[size], kinds[i]);
    uint64_t left = cgroup_left(sys, proc, "hugetlb", what);
    if (left != UINT64_MAX) left /= topo_page_size(size);
    if (left < least) least = left;
  }
  return least;
}

/* Nodes
 * ------------------------------------------------------------------------------------------------
 */

typedef struct reader {
  topo_t *topo;
  char const *sys, *proc;
  uint32_t node; /* whose cpus are being read */
} reader_t;

static void settle(topo_pool_t *pool) {
  if (pool->free > pool->total) pool->free = pool->total; /* two files, read one after the other */
  if (pool->surplus > pool->total) pool->surplus = pool->total;
}

static void read_pool(reader_t *reader, char const *folder, topo_pool_t *pool) {
  if (!read_number(folder, "nr_hugepages", &pool->total)) return;
  (void)read_number(folder, "free_hugepages", &pool->free);
  (void)read_number(folder, "surplus_hugepages", &pool->surplus);
  settle(pool);
}

/* Ordinary memory, as the text of a meminfo says: pages of files can be had as well, but for what
 * the node keeps for itself. */
static void read_memory(char const *text, topo_pool_t *pool) {
  uint64_t total = meminfo(text, "MemTotal:");
  uint64_t free = meminfo(text, "MemFree:") + meminfo(text, "Active(file):") +
                  meminfo(text, "Inactive(file):") + meminfo(text, "SReclaimable:") / 2;
  uint64_t reserve = total / RESERVE_PART;
  free = free > reserve ? free - reserve : 0;
  pool->total = total / 4096;
  pool->free = free / 4096;
  settle(pool);
}

static void on_cpu(void *arg, uint32_t cpu) {
  reader_t *reader = arg;
  reader->topo->cpu_node[cpu] = (int16_t)reader->node;
  if (cpu >= reader->topo->cpu_cnt) reader->topo->cpu_cnt = cpu + 1;
}

static void on_allowed(void *arg, uint32_t node) {
  reader_t *reader = arg;
  reader->topo->node[node].allowed = reader->topo->node[node].online;
}

static void on_online(void *arg, uint32_t node) {
  reader_t *reader = arg;
  reader->topo->node[node].online = 1;
  reader->topo->node_cnt = node + 1;
}

/* The line "Active(file):" of a node's meminfo begins with "Node 0 ", and "Inactive(file):" holds
   "active(file):" in small letters only, so that looking for the key is enough. */
static void read_node(reader_t *reader, uint32_t node) {
  char text[TEXT_SIZE], folder[PATH_SIZE];
  topo_node_t *at = &reader->topo->node[node];
  if (read_text(text, "%s/devices/system/node/node%u/meminfo", reader->sys, node))
    read_memory(text, &at->pool[TOPO_4K]);
  for (int size = TOPO_2M; size < TOPO_SIZE_CNT; size++) {
    if (!reader->topo->size[size].exists) continue;
    snprintf(folder, sizeof folder, "%.300s/devices/system/node/node%u/hugepages/%s", reader->sys,
             node, kernel_names[size]);
    read_pool(reader, folder, &at->pool[size]);
  }
  reader->node = node;
  if (read_text(text, "%s/devices/system/node/node%u/cpulist", reader->sys, node))
    (void)each_of(text, TOPO_CPUS_MAX, on_cpu, reader);
}

/* The file has one distance for each node that is online, in order. */
static void read_distances(reader_t *reader, uint32_t node) {
  char text[TEXT_SIZE], *at = text;
  topo_t *topo = reader->topo;
  (void)read_text(text, "%s/devices/system/node/node%u/distance", reader->sys, node);
  for (uint32_t to = 0; to < topo->node_cnt; to++) {
    if (!topo->node[to].online) continue;
    char *end;
    unsigned long distance = strtoul(at, &end, 10);
    if (end == at) break;
    at = end;
    if (distance >= TOPO_DISTANCE_LOCAL && distance <= UINT16_MAX)
      topo->distance[node][to] = (uint16_t)distance;
  }
  topo->distance[node][node] = TOPO_DISTANCE_LOCAL;
}

/* One node that is the whole machine. */
static void read_machine(reader_t *reader) {
  char text[TEXT_SIZE], folder[PATH_SIZE];
  topo_t *topo = reader->topo;
  topo->node_cnt = 1;
  topo->node[0].online = topo->node[0].allowed = 1;
  topo->distance[0][0] = TOPO_DISTANCE_LOCAL;
  if (read_text(text, "%s/meminfo", reader->proc)) read_memory(text, &topo->node[0].pool[TOPO_4K]);
  for (int size = TOPO_2M; size < TOPO_SIZE_CNT; size++) {
    if (!topo->size[size].exists) continue;
    snprintf(folder, sizeof folder, "%.300s/kernel/mm/hugepages/%s", reader->sys,
             kernel_names[size]);
    read_pool(reader, folder, &topo->node[0].pool[size]);
  }
  reader->node = 0;
  if (read_text(text, "%s/devices/system/cpu/online", reader->sys))
    (void)each_of(text, TOPO_CPUS_MAX, on_cpu, reader);
}

static void read_sizes(reader_t *reader) {
  char folder[PATH_SIZE];
  reader->topo->size[TOPO_4K].exists = 1;
  reader->topo->size[TOPO_4K].limit = topology_free_4k(reader->sys, reader->proc) / 4096;
  for (int size = TOPO_2M; size < TOPO_SIZE_CNT; size++) {
    topo_size_t *at = &reader->topo->size[size];
    uint64_t total;
    snprintf(folder, sizeof folder, "%.300s/kernel/mm/hugepages/%s", reader->sys,
             kernel_names[size]);
    at->exists = read_number(folder, "nr_hugepages", &total);
    (void)read_number(folder, "resv_hugepages", &at->reserved);
    (void)read_number(folder, "nr_overcommit_hugepages", &at->overcommit);
    at->limit = hugetlb_left(reader->sys, reader->proc, size);
  }
}

void topology_read_at(char const *sys, char const *proc, topo_t *ret_topo) {
  reader_t reader = {.topo = ret_topo, .sys = sys, .proc = proc};
  char text[TEXT_SIZE];
  memset(ret_topo, 0, sizeof *ret_topo);
  for (uint32_t cpu = 0; cpu < TOPO_CPUS_MAX; cpu++) ret_topo->cpu_node[cpu] = -1;
  read_sizes(&reader);
  if (read_text(text, "%s/devices/system/node/online", sys))
    ret_topo->unseen_cnt = each_of(text, TOPO_NODES_MAX, on_online, &reader);
  if (!ret_topo->node_cnt) {
    read_machine(&reader);
    return;
  }
  ret_topo->numa = 1;
  char const *allowed = NULL;
  if (read_text(text, "%s/self/status", proc)) allowed = strstr(text, "\nMems_allowed_list:");
  if (allowed) {
    allowed += strlen("\nMems_allowed_list:");
    (void)each_of(allowed + strspn(allowed, " \t"), TOPO_NODES_MAX, on_allowed, &reader);
  }
  for (uint32_t node = 0; node < ret_topo->node_cnt; node++) {
    if (!ret_topo->node[node].online) continue;
    if (!allowed) ret_topo->node[node].allowed = 1;
    read_node(&reader, node);
    read_distances(&reader, node);
  }
}

void topology_read(topo_t *ret_topo) {
  topology_read_at("/sys", "/proc", ret_topo);
}

int topology_cpu_of(int32_t pid) {
  char text[TEXT_SIZE];
  char const *at = NULL;
  /* The second field is a name that may hold anything but ends with the last ')'; the cpu is the
   * 37th behind it. */
  if (pid > 0 && read_text(text, "/proc/%d/stat", (int)pid)) at = strrchr(text, ')');
  for (int i = 0; at && i < 37; i++) {
    at = strchr(at, ' ');
    if (at) at++;
  }
  return at && *at >= '0' && *at <= '9' ? atoi(at) : sched_getcpu();
}
