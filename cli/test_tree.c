/* test_tree: what is read of sysfs, written as files.

   The problem: the machines that matter (many nodes, gaps, nodes without memory, containers, no
   NUMA) are not where tests run.

   The model: a folder per machine, removed at the end; only files that the code under test reads.
   It refuses to answer writes: who needs a kernel that does gives one to sys_t. */

#include "test_tree.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

void tree_open(tree_t *tree) {
  snprintf(tree->root, sizeof tree->root, "/tmp/wkspctl-test-XXXXXX");
  assert_non_null(mkdtemp(tree->root));
  tree->sys = (sys_t){.root = tree->root};
}

static int remove_one(char const *path, struct stat const *st, int type, struct FTW *ftw) {
  return remove(path);
}

void tree_close(tree_t *tree) {
  assert_int_equal(nftw(tree->root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void tree_put(tree_t *tree, char const *path, char const *fmt, ...) {
  char full[SYS_PATH_MAX];
  size_t const root_len = strlen(tree->root);
  snprintf(full, sizeof full, "%s%s", tree->root, path);
  for (char *slash = full + root_len + 1; (slash = strchr(slash, '/')); slash++) {
    *slash = '\0';
    (void)mkdir(full, 0700);
    *slash = '/';
  }
  FILE *file = fopen(full, "w");
  assert_non_null(file);
  va_list ap;
  va_start(ap, fmt);
  assert_true(vfprintf(file, fmt, ap) >= 0);
  va_end(ap);
  assert_true(fputc('\n', file) == '\n');
  assert_int_equal(fclose(file), 0);
}

ulong tree_number(tree_t const *tree, char const *path) {
  ulong number = 0;
  assert_int_equal(sys_number(&tree->sys, &number, "%s", path), 0);
  return number;
}

void tree_remove(tree_t *tree, char const *path) {
  char full[SYS_PATH_MAX];
  snprintf(full, sizeof full, "%s%s", tree->root, path);
  assert_int_equal(nftw(full, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* The files of a pool, in dir. */
static void put_pool(tree_t *tree, char const *dir, ulong pages, int gigantic, int whole) {
  static char const *const names[] = {"nr_hugepages", "free_hugepages", "surplus_hugepages",
                                      "resv_hugepages", "nr_overcommit_hugepages"};
  char path[256];
  for (int i = 0; i < (whole ? 5 : 3); i++) {
    snprintf(path, sizeof path, "%s/%s", dir, names[i]);
    tree_put(tree, path, "%lu", i < 2 ? pages : 0);
  }
  if (!gigantic) return;
  snprintf(path, sizeof path, "%s/demote", dir);
  tree_put(tree, path, "%s", "");
  snprintf(path, sizeof path, "%s/demote_size", dir);
  tree_put(tree, path, "2048kB");
}

void tree_machine(tree_t *tree, char const *online, char const *possible, char const *cpus,
                  char const *mems_ok) {
  tree_put(tree, "/sys/devices/system/node/online", "%s", online);
  tree_put(tree, "/sys/devices/system/node/possible", "%s", possible);
  tree_put(tree, "/sys/devices/system/cpu/online", "%s", cpus);
  tree_put(tree, "/proc/self/status", "Name:\tx\nCpus_allowed_list:\t%s\nMems_allowed_list:\t%s",
           cpus, mems_ok);
  put_pool(tree, "/sys/kernel/mm/hugepages/hugepages-2048kB", 0, 0, 1);
  put_pool(tree, "/sys/kernel/mm/hugepages/hugepages-1048576kB", 0, 1, 1);
}

void tree_node(tree_t *tree, uint node, char const *cpus, ulong mib, ulong free_mib, long pages_2m,
               long pages_1g, char const *distances) {
  char dir[128], path[192];
  snprintf(dir, sizeof dir, "/sys/devices/system/node/node%u", node);
  snprintf(path, sizeof path, "%s/cpulist", dir);
  tree_put(tree, path, "%s", cpus);
  snprintf(path, sizeof path, "%s/distance", dir);
  tree_put(tree, path, "%s", distances);
  snprintf(path, sizeof path, "%s/meminfo", dir);
  tree_put(tree, path, "Node %u MemTotal:       %lu kB\nNode %u MemFree:        %lu kB", node,
           mib << 10, node, free_mib << 10);
  snprintf(path, sizeof path, "%s/compact", dir);
  tree_put(tree, path, "%s", "");
  if (pages_2m < 0) return;
  snprintf(path, sizeof path, "%s/hugepages/hugepages-2048kB", dir);
  put_pool(tree, path, (ulong)pages_2m, 0, 0);
  snprintf(path, sizeof path, "%s/hugepages/hugepages-1048576kB", dir);
  put_pool(tree, path, (ulong)pages_1g, 1, 0);
}
