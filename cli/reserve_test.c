/* Tests of reserve and pages_conf: against a made-up kernel that finds only so many pages, they get
   what there is, say why it is not more, and touch nothing that was not asked for. */

#include "pages_conf.h"
#include "reserve.h"
#include "test_tree.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GIB (1UL << 30)
#define MIB (1UL << 20)

#define NODE1   "/sys/devices/system/node/node1"
#define POOL_2M NODE1 "/hugepages/hugepages-2048kB"
#define POOL_1G NODE1 "/hugepages/hugepages-1048576kB"

/* A kernel with one pool of each size on node 1. */
typedef struct kernel {
  tree_t tree;
  ulong limit;                      /* pages of 2M that it finds */
  ulong compaction;                 /* so many more after compaction */
  ulong caches;                     /* and after dropping caches */
  ulong kept;                       /* fewer than these it does not keep: promised */
  int refuses;                      /* errno for every write */
  uint compacted, dropped, demoted; /* how often */
  char demote_size[24];
} kernel_t;

static void put(kernel_t *kernel, char const *dir, ulong pages) {
  char path[256];
  snprintf(path, sizeof path, "%s/nr_hugepages", dir);
  tree_put(&kernel->tree, path, "%lu", pages);
  snprintf(path, sizeof path, "%s/free_hugepages", dir);
  tree_put(&kernel->tree, path, "%lu", pages);
}

static int kernel_write(void *arg, char const *path, char const *text) {
  kernel_t *kernel = arg;
  if (kernel->refuses) return kernel->refuses;
  ulong const number = strtoul(text, NULL, 10);
  if (!strcmp(path, POOL_2M "/nr_hugepages")) {
    ulong const now = tree_number(&kernel->tree, path);
    ulong pages = number;
    if (pages > now && pages > kernel->limit) pages = kernel->limit > now ? kernel->limit : now;
    put(kernel, POOL_2M, pages < kernel->kept ? kernel->kept : pages);
  } else if (!strcmp(path, NODE1 "/compact")) {
    kernel->compacted++;
    kernel->limit += kernel->compaction;
    kernel->compaction = 0;
  } else if (!strcmp(path, "/proc/sys/vm/drop_caches")) {
    kernel->dropped++;
    kernel->limit += kernel->caches;
    kernel->caches = 0;
  } else if (!strcmp(path, POOL_1G "/demote")) {
    assert_string_equal(kernel->demote_size, "2048kB");
    kernel->demoted++;
    ulong const gigantic = tree_number(&kernel->tree, POOL_1G "/nr_hugepages");
    assert_true(number <= gigantic);
    put(kernel, POOL_1G, gigantic - number);
    put(kernel, POOL_2M, tree_number(&kernel->tree, POOL_2M "/nr_hugepages") + 512 * number);
  } else if (!strcmp(path, POOL_1G "/demote_size")) {
    snprintf(kernel->demote_size, sizeof kernel->demote_size, "%s", text);
    tree_put(&kernel->tree, path, "%s", text);
  } else {
    fail_msg("%s was written to %s", text, path);
  }
  return 0;
}

static void boot(kernel_t *kernel, ulong free_mib, long pages_2m, long pages_1g) {
  *kernel = (kernel_t){.limit = 1UL << 40, .demote_size = "2048kB"};
  tree_open(&kernel->tree);
  tree_machine(&kernel->tree, "0-1", "0-2", "0-3", "0-1");
  tree_node(&kernel->tree, 0, "0-3", 8192, 0, -1, 0, "10 20");
  tree_node(&kernel->tree, 1, "", 8192, free_mib, pages_2m, pages_1g, "20 10");
  kernel->tree.sys.write = kernel_write;
  kernel->tree.sys.arg = kernel;
}

/* Asks for `wanted` pages of 2M on node 1, with `how` for the rest; must not fail. */
static reserved_t asks(kernel_t *kernel, ulong wanted, reserve_t how) {
  char error[HOST_ERROR_MAX] = "";
  host_t host;
  reserved_t done;
  how.node = 1;
  how.page_size = 2 * MIB;
  how.wanted = wanted;
  if (host_read(&kernel->tree.sys, &host, error)) fail_msg("%s", error);
  if (reserve_pages(&kernel->tree.sys, &host, &how, &done, error)) fail_msg("%s", error);
  host_free(&host);
  return done;
}

static void says(char const *text, char const *part) {
  if (!strstr(text, part)) fail_msg("'%s' does not say '%s'", text, part);
}

/* What the kernel can give is got, upwards and downwards, and no reason is made up. */
static void got(void **state) {
  kernel_t kernel;
  boot(&kernel, 8000, 3, 0);
  reserved_t done = asks(&kernel, 40, (reserve_t){0});
  assert_int_equal(done.had, 3);
  assert_int_equal(done.got, 40);
  assert_string_equal(done.why, "");
  done = asks(&kernel, 0, (reserve_t){.compact = 1, .drop_caches = 1, .demote = 1});
  assert_int_equal(done.had, 40);
  assert_int_equal(done.got, 0);
  assert_int_equal(kernel.compacted + kernel.dropped + kernel.demoted, 0);
  tree_close(&kernel.tree);
}

/* Surplus pages are not what the node keeps: they are told apart. */
static void surplus(void **state) {
  kernel_t kernel;
  boot(&kernel, 8000, 10, 0);
  tree_put(&kernel.tree, POOL_2M "/surplus_hugepages", "4");
  reserved_t const done = asks(&kernel, 10, (reserve_t){0});
  assert_int_equal(done.had, 6);
  assert_int_equal(done.surplus, 4);
  tree_close(&kernel.tree);
}

/* Fewer: the reason is the node's own figures, too little memory or in too small pieces, with what
   may be tried; unasked nothing of it is. */
static void fewer(void **state) {
  kernel_t kernel;
  boot(&kernel, 100, 0, 2);
  kernel.limit = 20;
  reserved_t done = asks(&kernel, 100, (reserve_t){0});
  assert_int_equal(done.got, 20);
  says(done.why, "missing 80 take 160 MiB");
  says(done.why, "100 MiB free");
  says(done.why, "--drop-caches");
  says(done.why, "--demote splits up to 2 free pages of 1G");
  done = asks(&kernel, 60, (reserve_t){0});
  says(done.why, "do not lie in 40 more pieces");
  says(done.why, "--compact");
  assert_int_equal(kernel.compacted + kernel.dropped + kernel.demoted, 0);
  tree_close(&kernel.tree);
}

/* Compaction and caches are tried when allowed, in this order, and only as far as needed. */
static void tries(void **state) {
  kernel_t kernel;
  boot(&kernel, 1000, 0, 0);
  kernel.limit = 20;
  kernel.compaction = 20;
  kernel.caches = 20;
  reserved_t done = asks(&kernel, 40, (reserve_t){.compact = 1, .drop_caches = 1});
  assert_int_equal(done.got, 40);
  assert_int_equal(kernel.compacted, 1);
  assert_int_equal(kernel.dropped, 0);
  done = asks(&kernel, 60, (reserve_t){.drop_caches = 1});
  assert_int_equal(done.got, 60);
  assert_int_equal(kernel.compacted, 1);
  assert_int_equal(kernel.dropped, 1);
  done = asks(&kernel, 80, (reserve_t){.compact = 1, .drop_caches = 1, .demote = 1});
  assert_int_equal(done.got, 60);
  assert_null(strstr(done.why, "--"));
  tree_close(&kernel.tree);
}

/* Larger pages are split when that is allowed, as few as needed; what a split gives beyond the
   number goes back; the kernel's setting of the size is as it was. */
static void demotes(void **state) {
  kernel_t kernel;
  boot(&kernel, 1000, 0, 4);
  kernel.limit = 10;
  tree_put(&kernel.tree, POOL_1G "/demote_size", "32768kB");
  reserved_t done = asks(&kernel, 600, (reserve_t){.demote = 1});
  assert_int_equal(done.got, 600);
  assert_int_equal(done.demoted, 2);
  assert_int_equal(done.demoted_size, GIB);
  assert_int_equal(tree_number(&kernel.tree, POOL_1G "/nr_hugepages"), 2);
  assert_string_equal(kernel.demote_size, "32768kB");
  assert_string_equal(done.why, "");

  /* Only free ones that are promised to nobody; then fewer. */
  tree_put(&kernel.tree, "/sys/kernel/mm/hugepages/hugepages-1048576kB/resv_hugepages", "1");
  done = asks(&kernel, 3000, (reserve_t){.demote = 1});
  assert_int_equal(done.got, 600 + 512);
  assert_int_equal(done.demoted, 1);
  says(done.why, "missing");
  tree_close(&kernel.tree);
}

/* More than asked for stay where the kernel has promised them, which is said. */
static void promised(void **state) {
  kernel_t kernel;
  boot(&kernel, 1000, 10, 0);
  kernel.kept = 7;
  reserved_t const done = asks(&kernel, 2, (reserve_t){0});
  assert_int_equal(done.got, 7);
  says(done.why, "5 more are promised");
  tree_close(&kernel.tree);
}

/* What the machine refuses is told with the file, the reason and the way out. */
static void refused(void **state) {
  static struct {
    int err;
    char const *part;
  } const all[] = {{EACCES, "root"}, {EROFS, "host"}, {EINVAL, "command line"}};
  kernel_t kernel;
  host_t host;
  char error[HOST_ERROR_MAX] = "";
  boot(&kernel, 1000, 0, 0);
  assert_int_equal(host_read(&kernel.tree.sys, &host, error), 0);
  reserve_t const asked = {.node = 1, .page_size = 2 * MIB, .wanted = 5};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    reserved_t done = {.had = 99};
    kernel.refuses = all[i].err;
    assert_int_equal(reserve_pages(&kernel.tree.sys, &host, &asked, &done, error), -1);
    says(error, POOL_2M "/nr_hugepages");
    says(error, all[i].part);
    assert_int_equal(done.had, 99);
  }
  host_free(&host);
  tree_close(&kernel.tree);
}

/* Nodes that are not there, are offline or have no memory, sizes that are not there, and more than
   there is memory are refused before anything is written. */
static void wrong(void **state) {
  static struct {
    reserve_t asked;
    char const *part;
  } const all[] = {
      {{.node = 3, .page_size = 2 * MIB}, "no node 3; this machine has 0-1"},
      {{.node = 2, .page_size = 2 * MIB}, "node 2 is offline"},
      {{.node = 0, .page_size = 2 * MIB}, "node 0 has no memory"},
      {{.node = 1, .page_size = 4 * MIB}, "no huge pages of 4M; it has 2M, 1G"},
      {{.node = 1, .page_size = 4096}, "no huge pages of 4K"},
      {{.node = 1, .page_size = GIB, .wanted = 9}, "8192 MiB, which is 8 such pages"},
      {{.node = 1, .page_size = 2 * MIB, .wanted = ~0UL}, "which is 4096 such pages"},
  };
  kernel_t kernel;
  host_t host;
  reserved_t done;
  char error[HOST_ERROR_MAX] = "";
  boot(&kernel, 1000, 0, 0);
  assert_int_equal(host_read(&kernel.tree.sys, &host, error), 0);
  kernel.refuses = EIO;
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    assert_int_equal(reserve_pages(&kernel.tree.sys, &host, &all[i].asked, &done, error), -1);
    says(error, all[i].part);
  }
  host_free(&host);
  tree_close(&kernel.tree);
}

/* hugepages.conf is read whole, larger pages first; a mistake is told with file, line and value. */
static void conf(void **state) {
  static struct {
    char const *text, *parts[3];
  } const bad[] = {
      {"2M = 5", {":1:", "section []"}},
      {"[node x]\n2M = 5", {":2:", "node x", "not a number"}},
      {"[nodes]\n2M = 5", {":2:", "[nodes]", "[node 0]"}},
      {"[node 1]\n2M = many", {":2:", "'many'", "not a number"}},
      {"[node 1]\n2M = 5\n2048K = 6", {":3:", "twice"}},
      {"[node 1]\n2Q = 5", {":2:", "'2Q'", "unit"}},
      {"[node 1]\n4M = 5", {":2:", "no huge pages of 4M"}},
      {"[node 7]\n\n2M = 5", {":3:", "no node 7"}},
      {"[node 1]\n2M = 5000", {":2:", "5000", "4096 such pages"}},
      {"[node 1]\nnonsense", {":2:", "key = value"}},
  };
  kernel_t kernel;
  host_t host;
  pages_conf_t read;
  char error[PAGES_CONF_ERROR_MAX], host_error[HOST_ERROR_MAX], path[128];
  boot(&kernel, 1000, 0, 0);
  assert_int_equal(host_read(&kernel.tree.sys, &host, host_error), 0);
  snprintf(path, sizeof path, "%s/conf", kernel.tree.root);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    tree_put(&kernel.tree, "/conf", "%s", bad[i].text);
    assert_int_equal(pages_conf_read(path, &host, &read, error), -1);
    says(error, path);
    for (int j = 0; j < 3 && bad[i].parts[j]; j++) says(error, bad[i].parts[j]);
  }
  assert_int_equal(pages_conf_read("/nonexistent/conf", &host, &read, error), -1);
  says(error, "/nonexistent/conf");

  tree_put(&kernel.tree, "/conf", "; comment\n[node 1]\n2M = 5\n1G = 2\n");
  assert_int_equal(pages_conf_read(path, &host, &read, error), 0);
  assert_int_equal(read.cnt, 2);
  assert_int_equal(read.pool[0].page_size, GIB);
  assert_int_equal(read.pool[0].wanted, 2);
  assert_int_equal(read.pool[1].node, 1);
  assert_int_equal(read.pool[1].wanted, 5);
  pages_conf_free(&read);
  tree_put(&kernel.tree, "/conf", "%s", "");
  assert_int_equal(pages_conf_read(path, &host, &read, error), 0);
  assert_int_equal(read.cnt, 0);
  pages_conf_free(&read);
  host_free(&host);
  tree_close(&kernel.tree);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(got),     cmocka_unit_test(surplus), cmocka_unit_test(fewer),
      cmocka_unit_test(tries),   cmocka_unit_test(demotes), cmocka_unit_test(promised),
      cmocka_unit_test(refused), cmocka_unit_test(wrong),   cmocka_unit_test(conf),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
