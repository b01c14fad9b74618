/* topology: machines made of files. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/shell/topology.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char top[64], sys[96], proc[96];
static topo_t topo;

static int drop(char const *path, struct stat const *st, int kind, struct FTW *at) {
  return remove(path);
}

static int begin(void **state) {
  strcpy(top, "/tmp/wksp-topology.XXXXXX");
  if (!mkdtemp(top)) return 1;
  snprintf(sys, sizeof sys, "%s/sys", top);
  snprintf(proc, sizeof proc, "%s/proc", top);
  return 0;
}

static int end(void **state) {
  return nftw(top, drop, 16, FTW_DEPTH | FTW_PHYS);
}

/* Writes a file of the machine, its folders too. */
static void put(char const *path, char const *text) {
  char full[512];
  snprintf(full, sizeof full, "%s/%s", top, path);
  for (char *at = full + strlen(top) + 1; (at = strchr(at, '/')); at++) {
    *at = '\0';
    mkdir(full, 0700);
    *at = '/';
  }
  FILE *file = fopen(full, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

static void put_pool(char const *folder, char const *nr, char const *avail, char const *surplus) {
  char path[256];
  snprintf(path, sizeof path, "%s/nr_hugepages", folder);
  put(path, nr);
  snprintf(path, sizeof path, "%s/free_hugepages", folder);
  put(path, avail);
  snprintf(path, sizeof path, "%s/surplus_hugepages", folder);
  put(path, surplus);
}

static void put_node(int node, char const *cpus, unsigned long total_kb, char const *distance) {
  char path[128], text[512];
  snprintf(path, sizeof path, "sys/devices/system/node/node%d/cpulist", node);
  put(path, cpus);
  snprintf(path, sizeof path, "sys/devices/system/node/node%d/distance", node);
  put(path, distance);
  snprintf(path, sizeof path, "sys/devices/system/node/node%d/meminfo", node);
  snprintf(text, sizeof text,
           "Node %d MemTotal:  %lu kB\nNode %d MemFree: %lu kB\nNode %d Active(file): 4096 kB\n"
           "Node %d Inactive(file): 8192 kB\nNode %d SReclaimable: 2048 kB\n",
           node, total_kb, node, total_kb / 2, node, node, node);
  put(path, text);
}

static void put_common(void) {
  put("proc/meminfo", "MemTotal: 16777216 kB\nMemFree: 8388608 kB\nMemAvailable: 8388608 kB\n");
  put("proc/self/cgroup", "0::/\n");
  put_pool("sys/kernel/mm/hugepages/hugepages-2048kB", "30\n", "20\n", "0\n");
  put("sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "3\n");
  put("sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", "5\n");
}

static void look(void) {
  topology_read_at(sys, proc, &topo);
  assert_null(topo_check(&topo));
}

/* Nodes 0, 2 and 3 are online, 3 has no memory, 2 is hidden by a cpuset: each figure stands where
   it belongs, and only what may be used counts as free. */
static void test_nodes(void **state) {
  put_common();
  put("sys/devices/system/node/online", "0,2-3\n");
  put("proc/self/status", "Name:\tx\nMems_allowed:\t9\nMems_allowed_list:\t0,3\n");
  put_node(0, "0-1,4\n", 8388608, "10 21 31\n");
  put_node(2, "2\n", 8388608, "21 10 17\n");
  put_node(3, "3\n", 0, "31 17 10\n");
  put_pool("sys/devices/system/node/node0/hugepages/hugepages-2048kB", "10\n", "7\n", "1\n");
  put_pool("sys/devices/system/node/node2/hugepages/hugepages-2048kB", "20\n", "13\n", "0\n");
  look();
  assert_int_equal(topo.numa, 1);
  assert_int_equal(topo.node_cnt, 4);
  assert_int_equal(topo.node[1].online, 0);
  assert_int_equal(topo.node[2].online, 1);
  assert_int_equal(topo.node[2].allowed, 0);
  assert_int_equal(topo.node[3].allowed, 1);
  assert_int_equal(topo.node[3].pool[TOPO_4K].total, 0);
  assert_int_equal(topo.node[0].pool[TOPO_4K].total, 2097152);
  assert_int_equal(topo.node[0].pool[TOPO_4K].free, 1048576 + 1024 + 2048 + 256 - 2097152 / 64);
  assert_int_equal(topo.node[0].pool[TOPO_2M].total, 10);
  assert_int_equal(topo.node[2].pool[TOPO_2M].free, 13);
  assert_int_equal(topo.cpu_cnt, 5);
  assert_int_equal(topo.cpu_node[4], 0);
  assert_int_equal(topo.cpu_node[2], 2);
  assert_int_equal(topo_first_cpu(&topo, 3), 3);
  assert_int_equal(topo_first_cpu(&topo, 1), -1);
  assert_int_equal(topo.distance[0][3], 31);
  assert_int_equal(topo.distance[3][2], 17);
  assert_int_equal(topo.distance[0][1], 0);
  assert_int_equal(topo.size[TOPO_1G].exists, 0);
  assert_int_equal(topo_free(&topo, 0, TOPO_2M), 7);
  assert_int_equal(topo_free(&topo, 2, TOPO_2M), 0);
  assert_int_equal(topo_free(&topo, 99, TOPO_2M), 0);
  /* 7 on the node that is allowed, 3 reserved, 5 - 1 surplus ones to come */
  assert_int_equal(topo_free_all(&topo, TOPO_2M), 8);
}

/* A kernel without nodes is one node with all of the machine, and all of it may be used. */
static void test_no_numa(void **state) {
  put_common();
  put("sys/devices/system/cpu/online", "0-2\n");
  look();
  assert_int_equal(topo.numa, 0);
  assert_int_equal(topo.node_cnt, 1);
  assert_int_equal(topo.cpu_cnt, 3);
  assert_int_equal(topo.cpu_node[2], 0);
  assert_int_equal(topo.node[0].pool[TOPO_2M].total, 30);
  assert_int_equal(topo_free_all(&topo, TOPO_2M), 22);
  /* what is available, less 1/64 */
  assert_int_equal(topo_free_all(&topo, TOPO_4K), (8388608 - 262144) / 4);
}

/* Nothing at all, and files full of nonsense: a machine with one node and no pages. */
static void test_nothing(void **state) {
  look();
  assert_int_equal(topo.node_cnt, 1);
  assert_int_equal(topo_free_all(&topo, TOPO_4K), 0);
  assert_int_equal(topo_free_all(&topo, TOPO_2M), 0);
  put("sys/devices/system/node/online", "x\n");
  put("proc/meminfo", "MemAvailable\n");
  look();
  put("sys/devices/system/node/online", "0-70000,\n");
  put("proc/self/status", "Mems_allowed_list");
  put("sys/devices/system/node/node0/cpulist", "5-2,99999\n");
  put("sys/devices/system/node/node0/distance", "3 -1 x");
  put_pool("sys/devices/system/node/node0/hugepages/hugepages-2048kB", "4", "9", "9");
  put("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "4");
  look();
  assert_int_equal(topo.node_cnt, TOPO_NODES_MAX);
  assert_true(topo.unseen_cnt > 0);
  assert_int_equal(topo.node[0].pool[TOPO_2M].free, 4);
}

/* The tightest of the control groups above us limits what can be taken: of memory, of huge pages,
   and of the reservations of these. */
static void test_cgroups(void **state) {
  put_common();
  put("proc/self/cgroup", "1:name=x:/old\n0::/a/b\n");
  put("sys/fs/cgroup/a/memory.max", "1073741824\n");
  put("sys/fs/cgroup/a/memory.current", "134217728\n");
  put("sys/fs/cgroup/a/b/memory.max", "max\n");
  put("sys/fs/cgroup/a/b/hugetlb.2MB.max", "20971520\n");
  put("sys/fs/cgroup/a/b/hugetlb.2MB.current", "2097152\n");
  look();
  assert_int_equal(topo.size[TOPO_4K].limit,
                   (1073741824 - 134217728 - 16777216UL * 1024 / 64) / 4096);
  assert_int_equal(topo.size[TOPO_2M].limit, 9);
  put("sys/fs/cgroup/a/hugetlb.2MB.rsvd.max", "8388608\n");
  put("sys/fs/cgroup/a/hugetlb.2MB.rsvd.current", "0\n");
  look();
  assert_int_equal(topo.size[TOPO_2M].limit, 4);
  assert_int_equal(topo_free_all(&topo, TOPO_2M), 4);
}

/* Version 1, and both at once as systemd mounts them (hybrid): the same limits, of whichever tree
   has them; what says that there is no limit is none, and pages of files can be had back. */
static void test_cgroups_1(void **state) {
  put_common();
  put("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/a/b\n3:hugetlb:/c\n0::/d/e\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("sys/fs/cgroup/memory/memory.usage_in_bytes", "4096\n");
  put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n");
  put("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "134217728\n");
  put("sys/fs/cgroup/memory/a/memory.stat",
      "cache 0\ninactive_file 5\ntotal_inactive_file 4194304\ntotal_active_file 8388608\n");
  put("sys/fs/cgroup/hugetlb/c/hugetlb.2MB.limit_in_bytes", "9223372036852678656\n");
  put("sys/fs/cgroup/hugetlb/c/hugetlb.2MB.usage_in_bytes", "0\n");
  look();
  assert_int_equal(topo.size[TOPO_4K].limit,
                   (1073741824 - 134217728 + 12582912 - 16777216UL * 1024 / 64) / 4096);
  assert_int_equal(topo.size[TOPO_2M].limit, UINT64_MAX);
  put("sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes", "20971520\n");
  put("sys/fs/cgroup/hugetlb/hugetlb.2MB.usage_in_bytes", "2097152\n");
  look();
  assert_int_equal(topo.size[TOPO_2M].limit, 9);
  put("sys/fs/cgroup/unified/d/hugetlb.2MB.max", "6291456\n");
  put("sys/fs/cgroup/unified/d/hugetlb.2MB.current", "0\n");
  look();
  assert_int_equal(topo.size[TOPO_2M].limit, 3);
}

/* Whether the kernel makes huge pages of shared memory by itself is said by one file, or by that of
   a size; no file, never and inherit mean that it does not. */
static void test_slack(void **state) {
  assert_int_equal(topology_slack_4k(sys), 0);
  put("sys/kernel/mm/transparent_hugepage/shmem_enabled",
      "always within_size advise [never] deny force\n");
  put("sys/kernel/mm/transparent_hugepage/hugepages-2048kB/shmem_enabled",
      "always [inherit] within_size advise never\n");
  assert_int_equal(topology_slack_4k(sys), 0);
  put("sys/kernel/mm/transparent_hugepage/hugepages-64kB/shmem_enabled",
      "always inherit [within_size] advise never\n");
  assert_int_equal(topology_slack_4k(sys), 2UL << 20);
  put("sys/kernel/mm/transparent_hugepage/hugepages-64kB/shmem_enabled", "[never]\n");
  put("sys/kernel/mm/transparent_hugepage/shmem_enabled",
      "always within_size [advise] never deny force\n");
  assert_int_equal(topology_slack_4k(sys), 2UL << 20);
}

/* What is read of this machine is sound, and the cpu of a process is one of its own. */
static void test_here(void **state) {
  topology_read(&topo);
  assert_null(topo_check(&topo));
  assert_true(topo.node_cnt >= 1 && topo.cpu_cnt >= 1);
  int cpu = topology_cpu_of(getpid());
  assert_in_range(cpu, 0, topo.cpu_cnt - 1);
  assert_true(topo.cpu_node[cpu] >= 0);
  assert_in_range(topology_cpu_of(-1), 0, topo.cpu_cnt - 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_nodes, begin, end),
      cmocka_unit_test_setup_teardown(test_no_numa, begin, end),
      cmocka_unit_test_setup_teardown(test_nothing, begin, end),
      cmocka_unit_test_setup_teardown(test_cgroups, begin, end),
      cmocka_unit_test_setup_teardown(test_cgroups_1, begin, end),
      cmocka_unit_test_setup_teardown(test_slack, begin, end),
      cmocka_unit_test(test_here),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
