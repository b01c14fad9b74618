/* Which node a cpu is on, by folders that are made up; and workspaces without a daemon whose parts
   are wanted near cpus, by what the kernel says of their pages. (On two nodes: tests/lab/place.) */

#include "client/near.h"

#include "wksp/wksp.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096UL
#define HUGE (2UL << 20)

static char sys[] = "/tmp/wksp-near-XXXXXX";

/* A folder below sys, with those above it. */
__attribute__((format(printf, 1, 2))) static void folder(char const *format, ...) {
  char path[256];
  va_list args;
  size_t len = (size_t)snprintf(path, sizeof path, "%s/", sys);
  va_start(args, format);
  vsnprintf(path + len, sizeof path - len, format, args);
  va_end(args);
  for (char *at = path + len; (at = strchr(at, '/')); *at++ = '/') {
    *at = '\0';
    (void)mkdir(path, 0700);
  }
  assert_int_equal(mkdir(path, 0700), 0);
}

static int begin(void **state) {
  (void)state;
  strcpy(sys + sizeof sys - 7, "XXXXXX");
  return !mkdtemp(sys);
}

static int end(void **state) {
  char command[64];
  (void)state;
  snprintf(command, sizeof command, "rm -rf '%s'", sys);
  return system(command);
}

/* On machines of 1 to 16 nodes each cpu is on the node whose name its folder has; a cpu without
   folder, or without a node's name in it, is not there. */
static void nodes_of_cpus(void **state) {
  (void)state;
  int node;
  for (int cnt = 1; cnt <= 16; cnt *= 2) {
    begin(state);
    folder("devices/system/node");
    for (ulong cpu = 0; cpu < 32; cpu++)
      if (cpu % 7 == 5)
        folder("devices/system/cpu/cpu%lu", cpu); /* of no node */
      else
        folder("devices/system/cpu/cpu%lu/node%d", cpu, (int)(cpu * 5) % cnt);
    for (ulong cpu = 0; cpu < 34; cpu++) {
      int bad = wksp__near_node(sys, cpu, &node);
      assert_int_equal(bad, cpu >= 32 || cpu % 7 == 5);
      if (!bad) assert_int_equal(node, (int)(cpu * 5) % cnt);
    }
    assert_int_equal(wksp__near_node(sys, ~0UL, &node), 1);
    if (cnt < 16) end(state);
  }
}

/* Where the kernel knows of no nodes there is none to choose, but a cpu has to be there. */
static void no_nodes(void **state) {
  (void)state;
  int node = 7;
  folder("devices/system/cpu/cpu0");
  assert_int_equal(wksp__near_node(sys, 1, &node), 1);
  assert_int_equal(node, 7);
  assert_int_equal(wksp__near_node(sys, 0, &node), 0);
  assert_int_equal(node, -1);
}

/* What is wrong with the arguments is said. */
static void refuses(void **state) {
  (void)state;
  ulong cnts[2] = {1024, 1024}, cpus[2] = {0, 8191}, most[2] = {~0UL, 1}, none[2] = {0, 0};
  struct {
    char const *name;
    ulong page_sz, sub_cnt;
    ulong const *cnt, *cpu;
    char const *says;
  } const bad[] = {{NULL, PAGE, 2, cnts, NULL, "NULL"},
                   {"a", PAGE, 0, cnts, NULL, "sub_cnt is 0"},
                   {"a", PAGE, 2, NULL, NULL, "sub_page_cnt is NULL"},
                   {"a", PAGE, 2, most, NULL, "2^64 pages"},
                   {"a", PAGE, 1, most, NULL, "2^64 bytes"},
                   {"a", PAGE, 2, none, cpus, "nothing"},
                   {"a", 0, 2, cnts, cpus, "nothing"},
                   {"a b", PAGE, 1, cnts, cpus, "no name"},
                   {"a", 3, 1, cnts, cpus, "pages of 3 bytes"},
                   {"a", PAGE, 2, cnts, cpus, "cpu 8191 of part 1"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_null(fd_wksp_new_anon_near(bad[i].name, bad[i].page_sz, bad[i].sub_cnt, bad[i].cnt,
                                      bad[i].cpu, 1, 0));
    assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
    if (!strstr(wksp_last_error(), bad[i].says)) fail_msg("%zu: %s", i, wksp_last_error());
  }
}

/* The first cpu that this process may run on and the last. */
static void ends(ulong *ret_first, ulong *ret_last) {
  cpu_set_t cpus;
  *ret_first = CPU_SETSIZE;
  assert_int_equal(sched_getaffinity(0, sizeof cpus, &cpus), 0);
  for (ulong cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &cpus)) continue;
    if (*ret_first == CPU_SETSIZE) *ret_first = cpu;
    *ret_last = cpu;
  }
}

/* Touches all of it and looks, by move_pages, whether each part is on the node of its cpu. */
static void check(fd_wksp_t *wksp, ulong page_sz, ulong cnt, ulong const *sub_page_cnt,
                  ulong const *sub_cpu_idx) {
  char *at = (char *)wksp;
  assert_int_equal(fd_wksp_seed(wksp), 9);
  ulong size = fd_wksp_data_max(wksp);
  void *all = fd_wksp_alloc_laddr(wksp, 0, size, 1);
  assert_non_null(all);
  memset(all, 1, size);
  for (ulong i = 0; i < cnt; i++) {
    int want;
    assert_int_equal(wksp__near_node("/sys", sub_cpu_idx[i], &want), 0);
    for (ulong page = 0; page < sub_page_cnt[i]; page++, at += page_sz) {
      void *pages[1] = {at};
      int node[1] = {-1};
      if (want < 0 || at + page_sz > (char *)all + size) continue;
      assert_int_equal(syscall(SYS_move_pages, 0, 1UL, pages, NULL, node, 0), 0);
      if (node[0] != -ENOENT) assert_int_equal(node[0], want); /* tables that nobody has touched */
    }
  }
  assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), 0);
}

/* Each part is on the node of its cpu, empty ones nowhere, whatever cpu they name; without cpus it
   is a workspace all the same. Huge pages are had or their lack is an error that says where. */
static void placed(void **state) {
  (void)state;
  ulong first = 0, last = 0;
  ends(&first, &last);
  ulong cnts[4] = {700, 0, 300, 500}, cpus[4] = {first, 8191, last, last};
  fd_wksp_t *wksp = fd_wksp_new_anon_near("near", PAGE, 4, cnts, cpus, 9, 0);
  if (!wksp) fail_msg("%s", wksp_last_error());
  cpus[1] = first; /* for the look */
  check(wksp, PAGE, 4, cnts, cpus);
  fd_wksp_delete_anon(wksp);

  wksp = fd_wksp_new_anon_near("near", PAGE, 4, cnts, NULL, 9, 0);
  assert_non_null(wksp);
  check(wksp, PAGE, 4, cnts, cpus);
  fd_wksp_delete_anon(wksp);

  ulong few[2] = {1, 1}, both[2] = {first, last}, many[2] = {1, 1UL << 22};
  wksp = fd_wksp_new_anon_near("near", HUGE, 2, few, both, 9, 0);
  if (wksp) {
    check(wksp, HUGE, 2, few, both);
    fd_wksp_delete_anon(wksp);
  } else {
    print_message("# no free 2 MiB pages here: %s\n", wksp_last_error());
    assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  }
  /* 8 TiB: found out before any page is taken, which others may be about to use */
  assert_null(fd_wksp_new_anon_near("near", HUGE, 2, many, both, 9, 0));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  if (!strstr(wksp_last_error(), "nr_hugepages")) fail_msg("%s", wksp_last_error());
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_teardown(nodes_of_cpus, end),
      cmocka_unit_test_setup_teardown(no_nodes, begin, end),
      cmocka_unit_test(refuses),
      cmocka_unit_test(placed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
