/* Test of reserve on this machine's own kernel, as root: splitting pages of 1G. A kernel with
   enough free memory finds pages of 2M without that, so what would let it grow the pool otherwise
   is kept from it. Pools are as before at the end. */

#include "reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GIB (1UL << 30)
#define MIB (1UL << 20)

static sys_t const real = {.root = ""};

static host_t look(void) {
  host_t host;
  char error[HOST_ERROR_MAX] = "";
  if (host_read(&real, &host, error)) fail_msg("%s", error);
  return host;
}

/* The kernel's, but for the first write that would enlarge the pool of 2M. */
typedef struct held_back {
  char pool[192];
  int cnt;
} held_back_t;

static int write_but_growth(void *arg, char const *path, char const *text) {
  held_back_t *held = arg;
  if (!strcmp(path, held->pool) && !held->cnt++) return 0;
  return sys_write(&real, text, "%s", path);
}

/* Sets a pool of the first node that has one. */
static reserved_t set(sys_t const *sys, uint node, ulong page_size, ulong wanted, int split) {
  host_t host = look();
  reserve_t const asked = {.node = node, .page_size = page_size, .wanted = wanted, .demote = split};
  reserved_t done;
  char error[HOST_ERROR_MAX] = "";
  int const status = reserve_pages(sys, &host, &asked, &done, error);
  host_free(&host);
  if (status) fail_msg("%s", error);
  return done;
}

/* The kernel splits a free page of 1G for 8 pages of 2M, the other 504 go back to the system. */
static void splits(void **state) {
  host_t host = look();
  int const small = host_size_of(&host, 2 * MIB), large = host_size_of(&host, GIB);
  host_node_t const *node = host.node;
  while (node < host.node + host.node_cnt - 1 && !node->pooled) node++;
  uint const id = node->id;
  ulong const had_small = small < 0 ? 0 : node->pool[small].total - node->pool[small].surplus;
  ulong const had_large = large < 0 ? 0 : node->pool[large].total - node->pool[large].surplus;
  char const *missing = NULL;
  if (small < 0 || large < 0)
    missing = "pages of 2M and 1G";
  else if (geteuid())
    missing = "root";
  else if (!sys_there(&real, "%s/demote", host_pool_dir(host.numa, id, GIB).s))
    missing = "a kernel that demotes (5.16 or later)";
  else if (access(host_pool_dir(host.numa, id, GIB).s, W_OK) && errno == EROFS)
    missing = "a sysfs that can be written";
  else if (node->mem_free < 3 * GIB)
    missing = "3 GiB of free memory";
  host_free(&host);
  if (!missing && set(&real, id, GIB, had_large + 1, 0).got != had_large + 1)
    missing = "a free GiB in one piece";
  if (missing) {
    print_message("# missing: %s\n", missing);
    if (large >= 0 && !geteuid()) (void)set(&real, id, GIB, had_large, 0);
    skip();
  }

  held_back_t held = {.cnt = 0};
  snprintf(held.pool, sizeof held.pool, "%s/nr_hugepages", host_pool_dir(1, id, 2 * MIB).s);
  sys_t const holding = {.root = "", .write = write_but_growth, .arg = &held};
  reserved_t const done = set(&holding, id, 2 * MIB, had_small + 8, 1);
  reserved_t const back_small = set(&real, id, 2 * MIB, had_small, 0);
  reserved_t const back_large = set(&real, id, GIB, had_large, 0);
  assert_int_equal(done.had, had_small);
  assert_int_equal(done.got, had_small + 8);
  assert_int_equal(done.demoted, 1);
  assert_int_equal(done.demoted_size, GIB);
  assert_int_equal(back_small.got, had_small);
  assert_int_equal(back_large.had, had_large);
  assert_int_equal(back_large.got, had_large);
}

int main(void) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(splits)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
