/* Tests of sys and host: what is read of made-up machines, and that nothing is guessed. */

#include "host.h"
#include "test_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define GIB (1UL << 30)
#define MIB (1UL << 20)

static void reads(tree_t const *tree, host_t *host) {
  char error[HOST_ERROR_MAX] = "";
  if (host_read(&tree->sys, host, error)) fail_msg("%s", error);
}

/* The machine must be refused with a sentence that has part in it, and host stays as it was. */
static void refuses(tree_t const *tree, char const *part) {
  char error[HOST_ERROR_MAX] = "";
  host_t host;
  memset(&host, 0x5a, sizeof host);
  host_t const before = host;
  assert_int_equal(host_read(&tree->sys, &host, error), -1);
  if (!strstr(error, part)) fail_msg("'%s' does not say '%s'", error, part);
  assert_memory_equal(&host, &before, sizeof host);
}

/* Lists as kernels write them are read and written back; anything else is refused. */
static void sets(void **state) {
  static char const *const same[] = {"0", "0-3", "0-3,8", "1,3,5-7", "0-8191", "8191"};
  static char const *const bad[] = {"x",  "-1",   "1-",     "3-1", "1,,2",  "1,",
                                    ",1", "8192", "0-9999", "1 2", "1-2-3", "99999999999999999999"};
  char text[64];
  sys_set_t set;
  for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
    assert_int_equal(sys_set_read(same[i], &set), 0);
    assert_string_equal(sys_set_text(&set, text, sizeof text), same[i]);
  }
  assert_int_equal(sys_set_read("", &set), 0);
  assert_int_equal(sys_set_cnt(&set), 0);
  assert_string_equal(sys_set_text(&set, text, sizeof text), "none");
  assert_int_equal(sys_set_next(&set, 0), SYS_SET_MAX);
  sys_set_add(&set, 70);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (!sys_set_read(bad[i], &set)) fail_msg("'%s' was read", bad[i]);
  assert_int_equal(sys_set_cnt(&set), 1);
  assert_int_equal(sys_set_next(&set, 0), 70);
  assert_string_equal(sys_set_text(&set, text, sizeof text), "70");
}

/* A number is all of a file or it is none. */
static void numbers(void **state) {
  static char const *const bad[] = {"", "x", "1 2", "-1", "18446744073709551616", "1x", " 1"};
  tree_t tree;
  tree_open(&tree);
  ulong number = 7;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    tree_put(&tree, "/n", "%s", bad[i]);
    assert_int_not_equal(sys_number(&tree.sys, &number, "/n"), 0);
  }
  assert_int_not_equal(sys_number(&tree.sys, &number, "/none"), 0);
  assert_int_equal(number, 7);
  tree_put(&tree, "/n", "18446744073709551615");
  assert_int_equal(sys_number(&tree.sys, &number, "/n"), 0);
  assert_int_equal(number, ~0UL);
  assert_int_equal(sys_field("a: 1 kB\nbb:\t22 kB", "bb:", &number), 0);
  assert_int_equal(number, 22);
  assert_int_equal(sys_field("a: 1 kB\nbb: x", "bb:", &number), -1);
  assert_int_equal(sys_field("a: 1 kB", "b:", &number), -1);
  assert_int_equal(number, 22);
  tree_close(&tree);
}

/* Two nodes: cpus, memory, distances and pools are those of the files, for each node and in all. */
static void two_nodes(void **state) {
  tree_t tree;
  host_t host;
  tree_open(&tree);
  tree_machine(&tree, "0-1", "0-1", "0-7", "0-1");
  tree_node(&tree, 0, "0-1,4-5", 1024, 512, 128, 1, "10 21");
  tree_node(&tree, 1, "2-3,6-7", 2048, 100, 64, 0, "21 10");
  tree_put(&tree, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "192");
  tree_put(&tree, "/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "5");
  tree_put(&tree, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", "9");
  tree_put(&tree, "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/surplus_hugepages",
           "3");
  reads(&tree, &host);
  assert_true(host.numa);
  assert_int_equal(host.node_cnt, 2);
  assert_int_equal(host.size_cnt, 2);
  assert_int_equal(host.size[0].size, 2 * MIB);
  assert_int_equal(host.size[1].size, GIB);
  assert_int_equal(host.size[0].all.total, 192);
  assert_int_equal(host.size[0].reserved, 5);
  assert_int_equal(host.size[0].overcommit, 9);
  assert_int_equal(host.node[0].mem, GIB);
  assert_int_equal(host.node[1].mem_free, 100 * MIB);
  assert_int_equal(host.node[0].pool[0].total, 128);
  assert_int_equal(host.node[0].pool[1].total, 1);
  assert_int_equal(host.node[1].pool[0].free, 64);
  assert_int_equal(host.node[1].pool[0].surplus, 3);
  assert_int_equal(host.distance[1], 21);
  assert_int_equal(host.distance[3], 10);
  assert_int_equal(host_node_of_cpu(&host, 6)->id, 1);
  assert_int_equal(sys_set_next(&host.node[1].cpus, 0), 2);
  assert_null(host_node_of_cpu(&host, 8));
  assert_null(host_node(&host, 2));
  assert_int_equal(host_size_of(&host, GIB), 1);
  assert_int_equal(host_size_of(&host, 4 * MIB), -1);
  host_free(&host);
  tree_close(&tree);
}

/* Offline nodes, gaps in the numbers, nodes without memory and without cpus come out as they are.
 */
static void gaps(void **state) {
  tree_t tree;
  host_t host;
  tree_open(&tree);
  tree_machine(&tree, "0,3,8", "0-15", "0-3", "0,8");
  tree_node(&tree, 0, "0-1", 1024, 512, 16, 0, "10 20 40");
  tree_node(&tree, 3, "2-3", 0, 0, -1, 0, "20 10 40");
  tree_node(&tree, 8, "", 512, 256, 4, 0, "40 40 10");
  reads(&tree, &host);
  assert_int_equal(host.node_cnt, 3);
  assert_int_equal(host.node[1].id, 3);
  assert_false(host.node[1].pooled);
  assert_int_equal(host.node[1].mem, 0);
  assert_int_equal(sys_set_next(&host.node[2].cpus, 0), SYS_SET_MAX);
  assert_int_equal(host.distance[2 * 3 + 0], 40);
  assert_true(sys_set_has(&host.possible, 15));
  assert_null(host_node(&host, 1));
  host_free(&host);
  tree_close(&tree);
}

/* A container that hides a node: sysfs shows both, the process may use one. */
static void container(void **state) {
  tree_t tree;
  host_t host;
  tree_open(&tree);
  tree_machine(&tree, "0-1", "0-1", "0-3", "1");
  tree_node(&tree, 0, "0-1", 1024, 512, 128, 0, "10 20");
  tree_node(&tree, 1, "2-3", 1024, 512, 64, 0, "20 10");
  reads(&tree, &host);
  assert_int_equal(host.node_cnt, 2);
  assert_false(host.node[0].allowed);
  assert_true(host.node[1].allowed);
  host_free(&host);
  tree_close(&tree);
}

/* A kernel without NUMA is one node 0 with all cpus, all memory and the machine's pools. */
static void no_numa(void **state) {
  tree_t tree;
  host_t host;
  tree_open(&tree);
  tree_machine(&tree, "0", "0", "0-3", "0");
  tree_remove(&tree, "/sys/devices/system/node");
  tree_put(&tree, "/proc/self/status", "Name:\tx");
  tree_put(&tree, "/proc/meminfo", "MemTotal: 4096 kB\nMemFree:  1024 kB");
  tree_put(&tree, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "6");
  reads(&tree, &host);
  assert_false(host.numa);
  assert_int_equal(host.node_cnt, 1);
  assert_int_equal(host.node[0].mem, 4 * MIB);
  assert_int_equal(host.node[0].pool[0].total, 6);
  assert_true(host.node[0].allowed);
  assert_int_equal(host_node_of_cpu(&host, 3)->id, 0);
  assert_int_equal(host.distance[0], 10);
  assert_string_equal(host_pool_dir(0, 0, 2 * MIB).s, "/sys/kernel/mm/hugepages/hugepages-2048kB");
  host_free(&host);

  /* Nor huge pages. */
  tree_remove(&tree, "/sys/kernel/mm/hugepages");
  reads(&tree, &host);
  assert_int_equal(host.size_cnt, 0);
  host_free(&host);
  tree_close(&tree);
}

/* What cannot be read, or is not what kernels write, is refused by the file's name. */
static void refusals(void **state) {
  tree_t tree;
  tree_open(&tree);
  refuses(&tree, "/sys/devices/system/cpu/online");
  tree_machine(&tree, "0-1", "0-1", "0-3", "0-1");
  tree_node(&tree, 0, "0-1", 1024, 512, 128, 0, "10 20");
  refuses(&tree, "node1/");
  tree_node(&tree, 1, "2-3", 1024, 512, 64, 0, "20 10");
  tree_put(&tree, "/sys/devices/system/node/node1/distance", "20");
  refuses(&tree, "node1/distance");
  tree_node(&tree, 1, "2-x", 1024, 512, 64, 0, "20 10");
  refuses(&tree, "node1/cpulist");
  tree_node(&tree, 1, "2-3", 1024, 512, 64, 0, "20 10");
  tree_put(&tree, "/sys/devices/system/node/node1/meminfo", "Node 1 MemTotal: x kB");
  refuses(&tree, "node1/meminfo");
  tree_node(&tree, 1, "2-3", 1024, 512, 64, 0, "20 10");
  tree_remove(&tree, "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages");
  refuses(&tree, "hugepages-2048kB/free_hugepages");
  tree_node(&tree, 1, "2-3", 1024, 512, 64, 0, "20 10");
  tree_put(&tree, "/sys/devices/system/node/online", "%s", "");
  refuses(&tree, "node/online");
  tree_put(&tree, "/sys/devices/system/node/online", "0-1024");
  refuses(&tree, "node/online");
  tree_close(&tree);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(sets),     cmocka_unit_test(numbers),   cmocka_unit_test(two_nodes),
      cmocka_unit_test(gaps),     cmocka_unit_test(container), cmocka_unit_test(no_numa),
      cmocka_unit_test(refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
