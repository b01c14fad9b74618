/* quota_test: which rule counts for whom, and how rules are written. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/core/quota.h"

static void add(quota_t *quota, char const *key, uint64_t bytes) {
  assert_int_equal(quota_read(key, bytes, &quota->rule[quota->cnt++]), 0);
}

/* A user's own rule wins over that for everybody, whichever stands first; root has its own only;
   and sizes and nodes have nothing to do with each other. */
static void test_find(void **state) {
  quota_t quota = {0};
  add(&quota, "uid7.2M", 100);
  add(&quota, "default.2M", 50);
  add(&quota, "uid8.2M", 200);
  add(&quota, "default.2M.node1", 20);
  add(&quota, "uid0.1G", 5);
  assert_int_equal(quota_find(&quota, 7, TOPO_2M, QUOTA_ALL_NODES)->bytes, 100);
  assert_int_equal(quota_find(&quota, 8, TOPO_2M, QUOTA_ALL_NODES)->bytes, 200);
  assert_int_equal(quota_find(&quota, 9, TOPO_2M, QUOTA_ALL_NODES)->bytes, 50);
  assert_int_equal(quota_find(&quota, 7, TOPO_2M, 1)->bytes, 20);
  assert_null(quota_find(&quota, 7, TOPO_2M, 0));
  assert_null(quota_find(&quota, 0, TOPO_2M, QUOTA_ALL_NODES));
  assert_int_equal(quota_find(&quota, 0, TOPO_1G, QUOTA_ALL_NODES)->bytes, 5);
  assert_null(quota_find(&quota, 7, TOPO_4K, QUOTA_ALL_NODES));
}

/* Exactly the bytes of a rule are allowed, one more breaks it; of what is ruled alone. */
static void test_broken(void **state) {
  static quota_t quota;
  static quota_use_t use;
  add(&quota, "default.2M", 50);
  add(&quota, "default.2M.node1", 20);
  add(&quota, "uid7.2M", 60);
  use.all[TOPO_2M] = 50;
  use.node[TOPO_2M][1] = 20;
  use.node[TOPO_2M][0] = use.all[TOPO_4K] = UINT64_MAX;
  assert_null(quota_broken(&quota, 9, &use));
  use.all[TOPO_2M] = 51;
  assert_ptr_equal(quota_broken(&quota, 9, &use), &quota.rule[0]);
  assert_null(quota_broken(&quota, 7, &use));
  assert_null(quota_broken(&quota, 0, &use));
  use.node[TOPO_2M][1] = 21;
  assert_ptr_equal(quota_broken(&quota, 7, &use), &quota.rule[1]);
  assert_int_equal(quota_used(&quota.rule[1], &use), 21);
}

/* What is no key of a rule is refused. */
static void test_read(void **state) {
  static char const *const bad[] = {
      "",         "default",          "default.",     "default.3M",
      "2M",       "uid.2M",           "uid7",         "uid7.",
      "uid-1.2M", "uid4294967295.2M", "uid7.2M.node", "uid7.2M.node64",
      "uid7.2Mx", "uid7.2M.node1x",   "Default.2M",   "uid99999999999999999999.2M"};
  quota_rule_t rule = {.size = 77};
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
    if (!quota_read(bad[i], 1, &rule)) fail_msg("%s was taken", bad[i]);
  assert_int_equal(rule.size, 77);
  assert_int_equal(quota_read("uid4294967294.1G.node63", 9, &rule), 0);
  assert_int_equal(rule.uid, 4294967294U);
  assert_int_equal(rule.node, 63);
  assert_int_equal(rule.size, TOPO_1G);
  assert_int_equal(rule.bytes, 9);
}

int main(void) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(test_find), cmocka_unit_test(test_broken),
                                     cmocka_unit_test(test_read)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
