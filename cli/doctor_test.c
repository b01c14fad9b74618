/* Tests of doctor: on made-up machines each check finds what is wrong, says how to mend it, and has
   nothing to say against what is well. */

#include "doctor.h"
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

static doctor_t doctor;
static tree_t tree;
static host_t host;

static int setup(void **state) {
  memset(&doctor, 0, sizeof doctor);
  memset(&host, 0, sizeof host);
  tree_open(&tree);
  tree_machine(&tree, "0-1", "0-1", "0-3", "0-1");
  tree_node(&tree, 0, "0-1", 4096, 2048, 64, 0, "10 20");
  tree_node(&tree, 1, "2-3", 4096, 2048, 64, 0, "20 10");
  tree_put(&tree, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "128");
  tree_put(&tree, "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "100");
  return 0;
}

static int teardown(void **state) {
  host_free(&host);
  tree_close(&tree);
  return 0;
}

static void read_host(void) {
  char error[HOST_ERROR_MAX];
  host_free(&host);
  if (host_read(&tree.sys, &host, error)) fail_msg("%s", error);
  doctor.cnt = 0;
}

/* A line of that check and state has part in what it says, and mend in its remedy, which only lines
 * that are ok do without. */
static void has(char const *check, int state, char const *part, char const *mend) {
  for (uint i = 0; i < doctor.cnt; i++) {
    doctor_line_t const *line = &doctor.line[i];
    assert_int_equal(!*line->mend, line->state == DOCTOR_OK);
    if (!strcmp(line->check, check) && line->state == state && strstr(line->what, part) &&
        strstr(line->mend, mend))
      return;
  }
  for (uint i = 0; i < doctor.cnt; i++)
    print_error("%d %s: %s | %s\n", doctor.line[i].state, doctor.line[i].check, doctor.line[i].what,
                doctor.line[i].mend);
  fail_msg("no line %d %s '%s' | '%s'", state, check, part, mend);
}

/* Pools: some left, none kept, all taken or promised, a node without, pages beyond the pool. */
static void pools(void **state) {
  read_host();
  doctor_pools(&doctor, &host);
  assert_int_equal(doctor_worst(&doctor), DOCTOR_OK);
  has("pools", DOCTOR_OK, "100 of 128 pages of 2M are left", "");
  has("pools", DOCTOR_OK, "no pages of 1G", "");

  tree_put(&tree, "/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "100");
  read_host();
  doctor_pools(&doctor, &host);
  has("pools", DOCTOR_WARN, "all 128 pages of 2M are taken or promised", "hugepages reserve");

  tree_put(&tree, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", "7");
  read_host();
  doctor_pools(&doctor, &host);
  has("pools", DOCTOR_OK, "0 of 128 pages of 2M are left, 7 more", "");

  tree_put(&tree, "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages", "0");
  read_host();
  doctor_pools(&doctor, &host);
  has("pools", DOCTOR_WARN, "node 1 has no pages of 2M", "--node 1 --size 2M");

  tree_put(&tree, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0");
  tree_put(&tree, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", "0");
  read_host();
  doctor_pools(&doctor, &host);
  has("pools", DOCTOR_WARN, "no pages of 2M are kept", "hugepages.conf");

  tree_remove(&tree, "/sys/kernel/mm/hugepages");
  read_host();
  doctor_pools(&doctor, &host);
  has("pools", DOCTOR_WARN, "this kernel has no huge pages of 2M", "CONFIG_HUGETLBFS");
}

#define LIMITS                                                                       \
  "Limit                     Soft Limit           Hard Limit           Units     \n" \
  "Max open files            1024                 %s                files     \n"    \
  "Max locked memory         8388608              %s              bytes     \n"

/* Limits: the hard ones count; of wkspd too few descriptors are a warning, of others never. */
static void limits(void **state) {
  doctor_process_t const wkspd = {7, "wkspd"}, own = {0, "a program"};
  tree_put(&tree, "/proc/7/limits", LIMITS, "65536", "8388608");
  doctor_limits(&doctor, &tree.sys, wkspd);
  assert_int_equal(doctor_worst(&doctor), DOCTOR_OK);
  has("nofile", DOCTOR_OK, "wkspd may open 65536", "");
  has("memlock", DOCTOR_OK, "8192 KiB", "");
  tree_put(&tree, "/proc/7/limits", LIMITS, "4096", "unlimited");
  doctor_limits(&doctor, &tree.sys, wkspd);
  has("nofile", DOCTOR_WARN, "wkspd may open 4096", "LimitNOFILE=65536");
  has("memlock", DOCTOR_OK, "any memory", "");
  doctor.cnt = 0;
  tree_put(&tree, "/proc/self/limits", LIMITS, "unlimited", "0");
  doctor_limits(&doctor, &tree.sys, own);
  assert_int_equal(doctor_worst(&doctor), DOCTOR_OK);
  has("nofile", DOCTOR_OK, "any number", "");
  tree_put(&tree, "/proc/self/limits", LIMITS, "many", "0");
  doctor_limits(&doctor, &tree.sys, own);
  has("nofile", DOCTOR_WARN, "cannot be read", "root");
}

/* A container that hides a node: it is named, with the places where that is set. */
static void nodes(void **state) {
  doctor_process_t const wkspd = {7, "wkspd"};
  read_host();
  tree_put(&tree, "/proc/7/status", "Name:\twkspd\nMems_allowed_list:\t0-1");
  doctor_nodes(&doctor, &tree.sys, &host, wkspd);
  has("nodes", DOCTOR_OK, "every node (2)", "");
  tree_put(&tree, "/proc/7/status", "Name:\twkspd\nMems_allowed_list:\t1");
  doctor_nodes(&doctor, &tree.sys, &host, wkspd);
  has("nodes", DOCTOR_WARN, "wkspd may not use memory of node 0", "cpuset");
  doctor.cnt = 0;
  tree_put(&tree, "/proc/7/status", "Name:\twkspd");
  doctor_nodes(&doctor, &tree.sys, &host, wkspd);
  has("nodes", DOCTOR_OK, "does not say", "");
}

/* Control groups of both kinds: a limit below the pools counts wherever above the process it
   stands; one above them does not. */
static void cgroups(void **state) {
  doctor_process_t const wkspd = {7, "wkspd"};
  read_host();
  tree_put(&tree, "/proc/7/cgroup", "0::/system.slice/wkspd.service");
  tree_put(&tree, "/sys/fs/cgroup/system.slice/wkspd.service/hugetlb.2MB.max", "max");
  tree_put(&tree, "/sys/fs/cgroup/system.slice/hugetlb.2MB.max", "268435456");
  doctor_cgroups(&doctor, &tree.sys, &host, wkspd);
  has("cgroups", DOCTOR_OK, "no control group keeps wkspd from pages of 2MB", "");
  assert_int_equal(doctor.cnt, 1); /* of 1G there is no pool */

  tree_put(&tree, "/sys/fs/cgroup/system.slice/hugetlb.2MB.rsvd.max", "134217728");
  doctor_cgroups(&doctor, &tree.sys, &host, wkspd);
  has("cgroups", DOCTOR_WARN, "/system.slice lets wkspd have 128 MiB", "hugetlb.2MB.rsvd.max");
  has("cgroups", DOCTOR_WARN, "the pools have 256 MiB", "max");
  tree_put(&tree, "/sys/fs/cgroup/system.slice/wkspd.service/hugetlb.2MB.max", "0");
  doctor_cgroups(&doctor, &tree.sys, &host, wkspd);
  has("cgroups", DOCTOR_FAIL, "/system.slice/wkspd.service lets wkspd have 0 MiB", "max");

  doctor.cnt = 0;
  tree_put(&tree, "/proc/7/cgroup", "8:pids:/\n5:hugetlb:/a/b\n0::/");
  tree_put(&tree, "/sys/fs/cgroup/hugetlb/a/b/hugetlb.2MB.limit_in_bytes", "9223372036853727232");
  tree_put(&tree, "/sys/fs/cgroup/hugetlb/a/hugetlb.2MB.limit_in_bytes", "67108864");
  doctor_cgroups(&doctor, &tree.sys, &host, wkspd);
  has("cgroups", DOCTOR_WARN, "/a lets wkspd have 64 MiB", "max");

  doctor.cnt = 0;
  doctor_cgroups(&doctor, &tree.sys, &host, (doctor_process_t){8, "wkspd"});
  has("cgroups", DOCTOR_OK, "no control groups", "");
}

/* Settings of the kernel: what stays small, what refuses; what is missing does no harm. */
static void kernel(void **state) {
  static char const shmem[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
  read_host();
  tree_put(&tree, shmem, "always within_size advise [never] deny force");
  tree_put(&tree, "/proc/sys/vm/max_map_count", "65530");
  tree_put(&tree, "/proc/sys/vm/unprivileged_userfaultfd", "0");
  doctor_kernel(&doctor, &tree.sys, &host, (doctor_calls_t){0, 0});
  assert_int_equal(doctor_worst(&doctor), DOCTOR_OK);
  has("userfaultfd", DOCTOR_OK, "root only", "");

  tree_put(&tree, shmem, "always within_size advise never [deny] force");
  tree_put(&tree, "/proc/sys/vm/max_map_count", "1000");
  tree_put(&tree, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", "9");
  read_host();
  doctor_kernel(&doctor, &tree.sys, &host, (doctor_calls_t){EPERM, ENOSYS});
  has("shmem", DOCTOR_WARN, "deny", "echo never");
  has("mappings", DOCTOR_WARN, "1000", "65530");
  has("membarrier", DOCTOR_WARN, strerror(EPERM), "CONFIG_MEMBARRIER");
  has("userfaultfd", DOCTOR_OK, "has none", "");
  has("overcommit", DOCTOR_OK, "up to 9 pages of 2 MiB", "");

  doctor.cnt = 0;
  tree_remove(&tree, "/proc/sys");
  tree_remove(&tree, shmem);
  doctor_kernel(&doctor, &tree.sys, &host, (doctor_calls_t){0, EPERM});
  has("shmem", DOCTOR_WARN, "no huge pages of small ones", "2M");
  has("mappings", DOCTOR_OK, "no vm.max_map_count", "");
  has("userfaultfd", DOCTOR_OK, strerror(EPERM), "");
}

/* With this socket there is such a line. */
static void socket_has(doctor_socket_t const *socket, int state, char const *part,
                       char const *mend) {
  doctor_socket(&doctor, socket);
  has("socket", state, part, mend);
}

/* The socket: not there, not to be reached, no socket, not open to this user, open. */
static void socket_file(void **state) {
  doctor_socket_t socket = {.path = "/x/sock", .err = ENOENT, .user = "alice", .group = "wkspd"};
  socket_has(&socket, DOCTOR_FAIL, "/x/sock", "systemctl start");
  socket.err = EACCES;
  socket_has(&socket, DOCTOR_FAIL, "cannot be entered", "folders");
  socket.err = 0;
  socket_has(&socket, DOCTOR_FAIL, "is no socket", "remove");
  socket.is_socket = 1;
  socket.mode = 0660;
  socket_has(&socket, DOCTOR_FAIL, "(0660, group wkspd) is not open to alice",
             "usermod -aG wkspd alice");
  socket.mode = 0600;
  socket_has(&socket, DOCTOR_FAIL, "0600", "chmod g+w");
  doctor.cnt = 0;
  socket.may = 1;
  socket_has(&socket, DOCTOR_OK, "is open to alice", "");
}

#define UNIT(id, load, active, file, restarts)                                 \
  "NRestarts=" restarts "\nId=" id "\nLoadState=" load "\nActiveState=" active \
  "\nUnitFileState=" file "\n"

/* Units: each says whether it is there, runs, comes back at boot, and was restarted. */
static void units(void **state) {
  doctor_units(&doctor, NULL, 1);
  has("units", DOCTOR_OK, "--supervise", "");
  doctor.cnt = 0;
  static char const well[] = UNIT("wkspd.socket", "loaded", "active", "enabled", "") "\n" UNIT(
      "wkspd.service", "loaded", "active", "enabled", "0");
  doctor_units(&doctor, well, 1);
  assert_int_equal(doctor.cnt, 2);
  assert_int_equal(doctor_worst(&doctor), DOCTOR_OK);
  has("units", DOCTOR_OK, "wkspd.service is active, enabled", "");

  /* clang-format off */
  static char const unwell[] =
    UNIT("a.service", "loaded", "failed", "enabled", "0") "\n"
    UNIT("b.service", "loaded", "active", "disabled", "0") "\n"
    UNIT("c.service", "loaded", "active", "enabled", "3") "\n"
    UNIT("d.service", "not-found", "inactive", "", "0") "\n"
    UNIT("e.service", "bad-setting", "inactive", "enabled", "0");
  /* clang-format on */
  doctor_units(&doctor, unwell, 0);
  has("units", DOCTOR_FAIL, "a.service has failed", "journalctl -b -u a.service");
  has("units", DOCTOR_WARN, "b.service (active) is not started at boot", "enable b.service");
  has("units", DOCTOR_WARN, "c.service (active) was restarted 3 times", "journalctl");
  has("units", DOCTOR_WARN, "d.service is not installed", "--supervise");
  has("units", DOCTOR_FAIL, "e.service is bad-setting", "status e.service");
  doctor.cnt = 0;
  doctor_units(&doctor, "", 1);
  doctor_units(&doctor, "garbage\n\n\n\nId=", 1);
  assert_int_equal(doctor.cnt, 0);
}

/* The daemon: silent, of another layout, without a keeper, with losses. */
static void daemon_answers(void **state) {
  doctor_daemon_t daemon = {.why = "nobody answers"};
  doctor_daemon(&doctor, &daemon);
  has("daemon", DOCTOR_FAIL, "nobody answers", "wkspd --supervise");
  doctor.cnt = 0;
  daemon = (doctor_daemon_t){.version = "1.0",
                             .own_version = "1.0",
                             .layout = 1,
                             .own_layout = 1,
                             .geometry = 5,
                             .own_geometry = 5,
                             .fd_store = 1};
  doctor_daemon(&doctor, &daemon);
  assert_int_equal(doctor_worst(&doctor), DOCTOR_OK);
  daemon.geometry = 6;
  daemon.fd_store = 0;
  daemon.lost_cnt = 2;
  daemon.quarantined_cnt = 3;
  doctor_daemon(&doctor, &daemon);
  has("daemon", DOCTOR_FAIL, "geometry 0x6", "upgrade");
  has("daemon", DOCTOR_WARN, "ends with the daemon", "--supervise");
  has("daemon", DOCTOR_WARN, "2 workspaces", ".lost");
  has("daemon", DOCTOR_WARN, "3 workspaces are kept", "wkspctl show");
  daemon.geometry = 5;
  daemon.layout = 2;
  doctor.cnt = 0;
  doctor_daemon(&doctor, &daemon);
  has("daemon", DOCTOR_FAIL, "layout 2", "upgrade");
}

/* More lines than there is room for: the worst state is not lost. */
static void many(void **state) {
  for (int i = 0; i < DOCTOR_LINES_MAX + 5; i++) doctor_ok(&doctor, "x", "line %d", i);
  assert_int_equal(doctor.cnt, DOCTOR_LINES_MAX);
  doctor_bad(&doctor, "x", DOCTOR_FAIL, "mend", "bad");
  assert_int_equal(doctor_worst(&doctor), DOCTOR_FAIL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  struct CMUnitTest const tests[] = {
      TEST(pools),       TEST(limits), TEST(nodes),          TEST(cgroups), TEST(kernel),
      TEST(socket_file), TEST(units),  TEST(daemon_answers), TEST(many),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
