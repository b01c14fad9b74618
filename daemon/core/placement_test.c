/* placement_test: placement on machines that are made up, of 1 to 16 nodes with uneven pools,
   against a plain model: an array that has each page's node, filled as the language says it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/core/placement.h"

#define ROUNDS    400
#define PAGES_MAX 6000U

static uint64_t rng_state;

static uint64_t rng(uint64_t below) {
  rng_state ^= rng_state << 13;
  rng_state ^= rng_state >> 7;
  rng_state ^= rng_state << 17;
  return rng_state % below;
}

static void seed_begin(void) {
  char const *given = getenv("WKSP_TEST_SEED");
  uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)(uintptr_t)&given ^ 0x9e3779b9UL;
  printf("# WKSP_TEST_SEED=%lu\n", (unsigned long)seed);
  rng_state = seed * 0x9e3779b97f4a7c15UL | 1;
}

/* A machine of node_cnt nodes, all of them usable, with cpus dealt out in turn. */
static topo_t *machine(uint32_t node_cnt, uint32_t cpu_cnt, uint64_t huge) {
  topo_t *topo = calloc(1, sizeof(*topo));
  topo->numa = 1;
  topo->node_cnt = node_cnt;
  topo->cpu_cnt = cpu_cnt;
  for (int size = 0; size < TOPO_SIZE_CNT; size++) {
    topo->size[size].exists = 1;
    topo->size[size].limit = UINT64_MAX;
  }
  for (uint32_t i = 0; i < node_cnt; i++) {
    topo->node[i].online = topo->node[i].allowed = 1;
    topo->node[i].pool[TOPO_4K].total = topo->node[i].pool[TOPO_4K].free = 1UL << 24;
    topo->node[i].pool[TOPO_2M].total = topo->node[i].pool[TOPO_2M].free = huge;
    for (uint32_t k = 0; k < node_cnt; k++)
      topo->distance[i][k] = (uint16_t)(i == k ? 10 : 20 + (i > k ? i - k : k - i));
  }
  for (uint32_t cpu = 0; cpu < cpu_cnt; cpu++) topo->cpu_node[cpu] = (int16_t)(cpu % node_cnt);
  assert_null(topo_check(topo));
  return topo;
}

static place_policy_t policy_of(topo_t const *topo, char const *text, int cpu) {
  place_ask_t ask;
  place_policy_t policy = {.kind = 0};
  place_fail_t fail;
  if (place_parse(text, &ask, &fail) || place_resolve(&ask, topo, cpu, &policy, &fail)) {
    fail_msg("%s: %s", text, fail.text);
  }
  assert_null(place_policy_check(&policy));
  return policy;
}

static void assert_policy(topo_t const *topo, char const *text, int cpu, char const *want) {
  place_policy_t policy = policy_of(topo, text, cpu), again;
  char got[PLACE_TEXT_MAX + 1];
  assert_int_equal(place_text(&policy, got), strlen(want));
  assert_string_equal(got, want);
  assert_int_equal(place_read(got, &again), 0);
  assert_memory_equal(&again, &policy, sizeof(policy));
}

/* The language says what placement.h has as its table, and each policy has one text, by which it is
   remembered. */
static void test_language(void **state) {
  topo_t *topo = machine(4, 16, 100);
  assert_policy(topo, "", 6, "2");
  assert_policy(topo, "local", 3, "3");
  assert_policy(topo, "local", -1, "0");
  assert_policy(topo, "local", 99999, "0");
  assert_policy(topo, "1", 0, "1");
  assert_policy(topo, "1,0", 0, "1,0");
  assert_policy(topo, "0-3", 0, "0,1,2,3");
  assert_policy(topo, "split:0,1,1", 0, "split:0,1*2");
  assert_policy(topo, "split:0,1*2", 0, "split:0,1*2");
  assert_policy(topo, "split:3,0,3", 0, "split:3,0,3");
  assert_policy(topo, "cpu:0-4:2,10", 0, "split:0,2,0,2");
  assert_policy(topo, "cpu:0,4,8,1", 0, "split:0*3,1");
  assert_policy(topo, "cpu:5*3,2", 0, "split:1*3,2");
  free(topo);
}

/* What is not of the language, and nodes and cpus that are not there, are refused with what is
   wrong and a way out. */
static void test_refusals(void **state) {
  static struct {
    char const *text, *says;
    int32_t node;
  } const cases[] = {
      {"x", "number", -1},
      {"0,", "number", -1},
      {",0", "number", -1},
      {"0 ", "comma", -1},
      {"split:", "number", -1},
      {"cpu:", "number", -1},
      {"cpu:4-2", "ends before", -1},
      {"cpu:0-4:0", "step", -1},
      {"cpu:0-", "end", -1},
      {"local,0", "number", -1},
      {"split:0*0", "how often", -1},
      {"split:0*99999", "how often", -1},
      {"split:0*8192,1", "too long", -1},
      {"0*2", "comma", -1},
      {"64", "too large", -1},
      {"99999999999999999999", "too large", -1},
      {"cpu:8192", "too large", -1},
      {"-1", "number", -1},
      {"0,0", "twice", 0},
      {"4", "not there", 4},
      {"split:0,63", "not there", 63},
      {"2", "no memory", 2},
      {"3", "may use", 3},
      {"cpu:5", "offline", -1},
      {"cpu:16", "not there", -1},
      {"cpu:0,2", "no memory", 2},
  };
  topo_t *topo = machine(4, 16, 100);
  place_ask_t ask;
  place_policy_t policy;
  place_fail_t fail;
  memset(&topo->node[2].pool, 0, sizeof(topo->node[2].pool));
  topo->node[3].allowed = 0;
  topo->cpu_node[5] = -1;
  for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
    if (!place_parse(cases[i].text, &ask, &fail) && !place_resolve(&ask, topo, 0, &policy, &fail)) {
      fail_msg("%s was taken", cases[i].text);
    }
    if (!strstr(fail.text, cases[i].says)) fail_msg("%s: %s", cases[i].text, fail.text);
    assert_int_equal(fail.kind, PLACE_BAD);
    assert_int_equal(fail.node, cases[i].node);
    assert_true(fail.hint[0] != 0);
  }
  char text[2 * PLACE_TEXT_MAX] = "split:0";
  for (int i = 0; i < 70; i++) strcat(text, i % 2 ? ",0" : ",1");
  assert_int_equal(place_parse(text, &ask, &fail), 0);
  assert_int_equal(place_resolve(&ask, topo, 0, &policy, &fail), 1);
  assert_non_null(strstr(fail.text, "64 times"));
  while (strlen(text) <= PLACE_TEXT_MAX) strcat(text, ",0");
  assert_int_equal(place_parse(text, &ask, &fail), 1);
  free(topo);
}

/* A text that is kept is read back only as it was written. */
static void test_read(void **state) {
  static char const *const bad[] = {"",         "local",       "cpu:0",     "0,0", "split:0,0",
                                    "split:0*", "split:00",    "01",        "0-1", "split:0*1",
                                    "0,",       "split:0*2,0", "split:0-1", " 0"};
  place_policy_t policy = {0};
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
    assert_int_equal(place_read(bad[i], &policy), 1);
  assert_int_equal(policy.kind, 0);
}

/* "local" on a node without memory is the nearest node that has some. */
static void test_local_nearest(void **state) {
  topo_t *topo = machine(5, 10, 100);
  for (int node = 2; node < 5; node++)
    memset(&topo->node[node].pool, 0, sizeof(topo->node[node].pool));
  assert_policy(topo, "local", 3, "1");
  topo->distance[3][0] = 15;
  assert_policy(topo, "local", 3, "0");
  topo->node[0].allowed = 0;
  assert_policy(topo, "local", 3, "1");
  topo->distance[3][1] = 0; /* not known */
  assert_policy(topo, "local", 3, "1");
  topo->node[1].allowed = 0;
  place_ask_t ask;
  place_policy_t policy;
  place_fail_t fail;
  assert_int_equal(place_parse("local", &ask, &fail), 0);
  assert_int_equal(place_resolve(&ask, topo, 3, &policy, &fail), 1);
  assert_non_null(strstr(fail.text, "no node has memory"));
  free(topo);
}

/* The model ------------------------------------------------------------------------------------ */

typedef struct model {
  uint32_t nodes[600]; /* as the text lists them */
  uint32_t cnt;
  int split;
  uint32_t wanted[PAGES_MAX];
  char text[PLACE_TEXT_MAX + 1];
} model_t;

static void model_text(model_t *model, uint32_t node_cnt) {
  size_t len = 0;
  model->split = (int)rng(2);
  model->cnt = 0;
  if (model->split) len = (size_t)sprintf(model->text, "split:");
  uint32_t items = model->split ? 1 + (uint32_t)rng(20) : 1 + (uint32_t)rng(node_cnt);
  uint32_t first = (uint32_t)rng(node_cnt);
  for (uint32_t i = 0; i < items; i++) {
    uint32_t node = model->split ? (uint32_t)rng(node_cnt) : (first + i) % node_cnt;
    uint32_t times = model->split && !rng(4) ? 2 + (uint32_t)rng(20) : 1;
    len += (size_t)sprintf(model->text + len, "%s%u", i ? "," : "", node);
    if (times > 1) len += (size_t)sprintf(model->text + len, "*%u", times);
    while (times--) model->nodes[model->cnt++] = node;
  }
}

static void model_fill(model_t *model, int size, uint32_t total) {
  uint32_t unit = size == TOPO_4K && total / 512 >= model->cnt ? 512 : 1;
  uint32_t units = (total + unit - 1) / unit, at = 0;
  if (model->split) {
    for (uint32_t i = 0; i < model->cnt; i++) {
      uint32_t mine = units / model->cnt + (i < units % model->cnt);
      for (uint32_t k = 0; k < mine * unit && at < total; k++)
        model->wanted[at++] = model->nodes[i];
    }
  } else {
    for (; at < total; at++) model->wanted[at] = model->nodes[at / unit % model->cnt];
  }
}

static void compare(model_t const *model, place_layout_t const *layout, uint32_t node_cnt,
                    uint32_t from, uint32_t to) {
  static uint8_t seen[PAGES_MAX];
  memset(seen, 0, sizeof(seen));
  for (uint32_t page = from; page < to; page++) {
    assert_int_equal(place_node(layout, page), model->wanted[page]);
    uint64_t run = place_run(layout, page, to);
    assert_in_range(run, 1, to - page);
    for (uint64_t i = 0; i < run; i++)
      assert_int_equal(model->wanted[page + i], model->wanted[page]);
  }
  uint64_t piece_max = 1 + rng(800);
  for (uint32_t node = 0; node < node_cnt + 1; node++) {
    uint64_t cnt = 0, first, got, pieced = 0;
    for (uint32_t page = from; page < to; page++) cnt += model->wanted[page] == node;
    assert_int_equal(place_cnt(layout, node, from, to), cnt);
    for (uint64_t number = 0; place_piece(layout, node, from, to, piece_max, number, &first, &got);
         number++) {
      assert_true(got <= piece_max);
      pieced += got;
      for (uint64_t i = 0; i < got; i++) {
        assert_in_range(first + i, from, to - 1);
        assert_int_equal(model->wanted[first + i], node);
        assert_int_equal(seen[first + i]++, 0);
      }
    }
    assert_int_equal(pieced, cnt);
  }
}

/* Each page is wanted where the model has it, whatever the policy, size of pages, and part of the
   whole; pieces have every page once. */
static void test_layout(void **state) {
  static model_t model;
  for (int round = 0; round < ROUNDS; round++) {
    uint32_t node_cnt = 1 + (uint32_t)rng(16);
    topo_t *topo = machine(node_cnt, 2 * node_cnt, 100);
    model_text(&model, node_cnt);
    place_layout_t layout = {.policy = policy_of(topo, model.text, 0),
                             .size = (int)rng(TOPO_SIZE_CNT)};
    uint32_t total = 1 + (uint32_t)rng(rng(2) ? PAGES_MAX : 40);
    layout.total = total;
    model_fill(&model, layout.size, total);
    uint32_t from = rng(2) ? 0 : (uint32_t)rng(total);
    uint32_t to = rng(2) ? total : from + 1 + (uint32_t)rng(total - from);
    compare(&model, &layout, node_cnt, from, to);
    free(topo);
  }
}

/* Sizes at the end of the range neither overflow nor lose a page. */
static void test_layout_large(void **state) {
  topo_t *topo = machine(16, 32, 100);
  place_layout_t layout = {.policy = policy_of(topo, "split:0-14,15*8000", 0), .size = TOPO_4K};
  layout.total = 1UL << 34;
  uint64_t sum = 0;
  for (uint32_t node = 0; node < 16; node++) sum += place_cnt(&layout, node, 0, layout.total);
  assert_int_equal(sum, layout.total);
  assert_int_equal(place_node(&layout, layout.total - 1), 15);
  layout.policy = policy_of(topo, "0-15", 0);
  sum = 0;
  for (uint32_t node = 0; node < 16; node++) sum += place_cnt(&layout, node, 0, layout.total);
  assert_int_equal(sum, layout.total);
  free(topo);
}

/* Whether it can be had is what counting each node's pages says: strict wants each share on its
   node, preferred the sum; the sentence and figures name the first node that is short. */
static void test_afford(void **state) {
  static model_t model;
  for (int round = 0; round < ROUNDS; round++) {
    uint32_t node_cnt = 1 + (uint32_t)rng(16);
    topo_t *topo = machine(node_cnt, node_cnt, 0);
    uint64_t sum = 0, share[16] = {0};
    for (uint32_t i = 0; i < node_cnt; i++)
      sum += topo->node[i].pool[TOPO_2M].total = topo->node[i].pool[TOPO_2M].free = rng(300);
    topo->size[TOPO_2M].reserved = rng(3) ? 0 : rng(100);
    topo->size[TOPO_2M].limit = rng(3) ? UINT64_MAX : rng(600);
    sum = sum > topo->size[TOPO_2M].reserved ? sum - topo->size[TOPO_2M].reserved : 0;
    if (topo->size[TOPO_2M].limit < sum) sum = topo->size[TOPO_2M].limit;
    model_text(&model, node_cnt);
    place_layout_t layout = {.policy = policy_of(topo, model.text, 0),
                             .size = TOPO_2M,
                             .total = 1 + rng(100UL * node_cnt)};
    model_fill(&model, TOPO_2M, (uint32_t)layout.total);
    for (uint64_t page = 0; page < layout.total; page++) share[model.wanted[page]]++;
    int strict = (int)rng(2);
    int32_t missing = -2;
    for (uint32_t i = 0; strict && i < node_cnt && missing < 0; i++)
      if (share[i] > topo->node[i].pool[TOPO_2M].free) missing = (int32_t)i;
    if (missing < 0 && layout.total > sum) missing = -1;
    place_fail_t fail;
    int bad = place_afford(&layout, topo, 0, layout.total, strict, &fail);
    assert_int_equal(bad, missing != -2);
    if (bad) {
      assert_int_equal(fail.kind, PLACE_SHORT);
      assert_int_equal(fail.node, missing);
      assert_int_equal(fail.wanted, missing < 0 ? layout.total : share[missing]);
      assert_int_equal(fail.free, missing < 0 ? sum : topo->node[missing].pool[TOPO_2M].free);
      int limited = missing < 0 && topo->size[TOPO_2M].limit == sum;
      assert_non_null(strstr(fail.hint, limited ? "hugetlb.2MB.max" : "hugepages reserve"));
    }
    free(topo);
  }
}

/* Surplus pages that the kernel may make count, on any node. */
static void test_surplus(void **state) {
  topo_t *topo = machine(2, 2, 4);
  place_fail_t fail;
  place_layout_t layout = {.policy = policy_of(topo, "1", 0), .size = TOPO_2M, .total = 7};
  assert_int_equal(place_afford(&layout, topo, 0, 7, 1, &fail), 1);
  topo->size[TOPO_2M].overcommit = 3;
  assert_int_equal(place_afford(&layout, topo, 0, 7, 1, &fail), 0);
  topo->node[0].pool[TOPO_2M].surplus = 1;
  assert_int_equal(place_afford(&layout, topo, 0, 7, 1, &fail), 1);
  assert_int_equal(fail.node, 1);
  free(topo);
}

/* auto takes the largest pages that fit, are there and waste at most 1/8, and says why. */
static void test_auto(void **state) {
  topo_t *topo = machine(2, 2, 1000);
  place_policy_t policy = policy_of(topo, "0", 0);
  place_plan_t plan;
  place_fail_t fail;
  uint64_t const mb = 1UL << 20, gb = 1UL << 30;
  topo->node[0].pool[TOPO_1G].total = topo->node[0].pool[TOPO_1G].free = 2;

  assert_int_equal(place_plan(&policy, topo, 1, 2 * gb, 2 * gb, 0, &plan, &fail), 0);
  assert_int_equal(plan.layout.size, TOPO_1G);
  assert_int_equal(plan.page_cnt, 2);
  assert_int_equal(place_plan(&policy, topo, 1, 2 * gb - gb / 4, 2 * gb, 0, &plan, &fail), 0);
  assert_int_equal(plan.layout.size, TOPO_1G); /* 1/8 exactly */
  assert_int_equal(place_plan(&policy, topo, 1, 2 * gb - gb / 4 - 1, 2 * gb, 0, &plan, &fail), 0);
  assert_int_equal(plan.layout.size, TOPO_2M);
  assert_non_null(strstr(plan.why, "1G: would waste 256 MiB of 2048"));
  assert_int_equal(plan.layout.total, 1024);
  topo->size[TOPO_1G].exists = 0;
  topo->node[0].pool[TOPO_1G].total = topo->node[0].pool[TOPO_1G].free = 0;
  assert_int_equal(place_plan(&policy, topo, 1, 2 * gb, 2 * gb, 0, &plan, &fail), 0);
  assert_int_equal(plan.layout.size, TOPO_4K); /* 1,024 of 1,000 */
  assert_non_null(strstr(plan.why, "1G: the kernel has none"));
  assert_non_null(strstr(plan.why, "2M: 1024 wanted on node 0, 1000 free"));
  assert_int_equal(place_plan(&policy, topo, 0, 2 * gb, 2 * gb, 0, &plan, &fail), 0);
  assert_int_equal(plan.layout.size, TOPO_2M); /* preferred: node 1 has some */
  assert_int_equal(place_plan(&policy, topo, 1, mb, mb, 0, &plan, &fail), 0);
  assert_int_equal(plan.layout.size, TOPO_4K);
  assert_non_null(strstr(plan.why, "2M: larger than all of it"));
  assert_int_equal(place_plan(&policy, topo, 1, 1, 1, 4096 * 3, &plan, &fail), 1);
  assert_int_equal(fail.kind, PLACE_BAD);
  assert_int_equal(place_plan(&policy, topo, 1, 1, 1, gb, &plan, &fail), 1);
  assert_non_null(strstr(fail.text, "no pages of 1G"));
  assert_int_equal(place_plan(&policy, topo, 1, 2 * gb, 2 * gb, 2 * mb, &plan, &fail), 1);
  assert_int_equal(fail.kind, PLACE_SHORT);
  assert_int_equal(fail.node, 0);
  free(topo);
}

/* For random sizes and pools, auto's choice is the first that a plain reading of the rule finds. */
static void test_auto_random(void **state) {
  for (int round = 0; round < ROUNDS; round++) {
    topo_t *topo = machine(1 + (uint32_t)rng(4), 4, rng(3000));
    topo->node[0].pool[TOPO_1G].total = topo->node[0].pool[TOPO_1G].free = rng(5);
    topo->node[0].pool[TOPO_4K].total = topo->node[0].pool[TOPO_4K].free = 1UL << 30;
    place_policy_t policy = policy_of(topo, "0", 0);
    uint64_t size = 1 + rng(rng(2) ? 6UL << 30 : 8UL << 20);
    place_plan_t plan;
    place_fail_t fail;
    int want = TOPO_4K;
    for (int at = TOPO_1G; at > TOPO_4K && want == TOPO_4K; at--) {
      uint64_t page = topo_page_size(at), taken = (size + page - 1) / page * page;
      if (size >= page && (taken - size) * 8 <= taken &&
          taken / page <= topo->node[0].pool[at].free)
        want = at;
    }
    assert_int_equal(place_plan(&policy, topo, 1, size, size, 0, &plan, &fail), 0);
    assert_int_equal(plan.layout.size, want);
    free(topo);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_language), cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_read),     cmocka_unit_test(test_local_nearest),
      cmocka_unit_test(test_layout),   cmocka_unit_test(test_layout_large),
      cmocka_unit_test(test_afford),   cmocka_unit_test(test_surplus),
      cmocka_unit_test(test_auto),     cmocka_unit_test(test_auto_random),
  };
  seed_begin();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
