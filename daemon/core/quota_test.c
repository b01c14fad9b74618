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

static quota_whom_t of_uid(uint32_t uid) {
  return (quota_whom_t){.of = QUOTA_OF_UID, .uid = uid};
}

static quota_whom_t of_tag(char const *tag) {
  quota_whom_t whom = {.of = QUOTA_OF_TAG};
  memcpy(whom.tag, tag, strlen(tag) + 1);
  return whom;
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
  add(&quota, "default.2M.workspaces", 3);
  add(&quota, "tag.red.2M", 70);
  static struct {
    uint32_t uid;
    char const *tag, *rules; /* 1: the rule of that place counts for them */
  } const of[] = {{7, "", "1001010"}, {8, "", "0011010"},    {9, "", "0101010"},
                  {0, "", "0000100"}, {7, "red", "0000001"}, {0, "blue", "0000000"}};
  for (size_t i = 0; i < sizeof(of) / sizeof(*of); i++) {
    quota_whom_t whom = of_uid(of[i].uid);
    if (of[i].tag[0]) whom = of_tag(of[i].tag);
    for (uint32_t k = 0; k < quota.cnt; k++)
      assert_int_equal(quota_counts(&quota, &quota.rule[k], &whom), of[i].rules[k] == '1');
  }
}

/* Exactly the bytes of a rule are allowed, one more breaks it; of what is ruled alone. */
static void test_broken(void **state) {
  static quota_t quota;
  static quota_use_t use;
  add(&quota, "default.2M", 50);
  add(&quota, "default.2M.node1", 20);
  add(&quota, "uid7.2M", 60);
  add(&quota, "tag.red.2M.node1.workspaces", 1);
  add(&quota, "tag.red.workspaces", 2);
  quota_whom_t root = of_uid(0), seven = of_uid(7), nine = of_uid(9), red = of_tag("red");
  use.bytes.all[TOPO_2M] = 50;
  use.bytes.node[TOPO_2M][1] = 20;
  use.bytes.node[TOPO_2M][0] = use.bytes.all[TOPO_4K] = UINT64_MAX;
  use.cnt.node[TOPO_2M][1] = 1;
  use.workspace_cnt = 2;
  assert_null(quota_broken(&quota, &nine, &use));
  assert_null(quota_broken(&quota, &red, &use));
  use.bytes.all[TOPO_2M] = 51;
  assert_ptr_equal(quota_broken(&quota, &nine, &use), &quota.rule[0]);
  assert_null(quota_broken(&quota, &seven, &use));
  assert_null(quota_broken(&quota, &root, &use));
  use.bytes.node[TOPO_2M][1] = 21;
  assert_ptr_equal(quota_broken(&quota, &seven, &use), &quota.rule[1]);
  assert_int_equal(quota_used(&quota.rule[1], &use), 21);
  use.workspace_cnt = 3;
  assert_ptr_equal(quota_broken(&quota, &red, &use), &quota.rule[4]);
  use.cnt.node[TOPO_2M][1] = 2;
  assert_ptr_equal(quota_broken(&quota, &red, &use), &quota.rule[3]);
}

/* What is no key of a rule is refused. */
static void test_read(void **state) {
  static char const *const bad[] = {"",
                                    "default",
                                    "default.",
                                    "default.3M",
                                    "2M",
                                    "uid.2M",
                                    "uid7",
                                    "uid7.",
                                    "uid-1.2M",
                                    "uid4294967295.2M",
                                    "uid7.2M.node",
                                    "uid7.2M.node64",
                                    "uid7.2Mx",
                                    "uid7.2M.node1x",
                                    "Default.2M",
                                    "uid99999999999999999999.2M",
                                    "default.workspaces.2M",
                                    "uid7.node1",
                                    "uid7.workspacesx",
                                    "tag.2M",
                                    "tag..2M",
                                    "tag.red",
                                    "tag.-red.2M",
                                    "tag.red.group",
                                    "uid7.2M.workspaces.node1",
                                    "tag.a2345678901234567890123456789012.2M"};
  quota_rule_t rule = {.size = 77};
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
    if (!quota_read(bad[i], 1, &rule)) fail_msg("%s was taken", bad[i]);
  assert_int_equal(rule.size, 77);
  assert_int_equal(quota_read("uid4294967294.1G.node63", 9, &rule), 0);
  assert_int_equal(rule.whom.uid, 4294967294U);
  assert_int_equal(rule.node, 63);
  assert_int_equal(rule.size, TOPO_1G);
  assert_int_equal(rule.limit, 9);
  assert_int_equal(rule.counts, 0);
  assert_int_equal(quota_read("tag.a-1_.workspaces", 9, &rule), 0);
  assert_int_equal(rule.counts, 1);
  assert_int_equal(rule.size, QUOTA_ALL_SIZES);
  assert_string_equal(rule.whom.tag, "a-1_");
  char tag[SPEC_TAG_MAX + 1];
  assert_int_equal(quota_read_tag("tag.red.group", tag), 1);
  assert_string_equal(tag, "red");
  assert_int_equal(quota_read_tag("tag.red.groups", tag), 0);
  assert_int_equal(quota_read_tag("uid7.group", tag), 0);
}

int main(void) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(test_find), cmocka_unit_test(test_broken),
                                     cmocka_unit_test(test_read)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
