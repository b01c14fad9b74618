/* press_test: what is nearly used up is told to whom it concerns, once, and that it is over. */

#include <stdio.h>
#include <string.h>

#include "fixture.h"

static uint32_t watch(sim_t *sim, uint64_t conn) {
  engine_request_t req = {.method = ENGINE_WATCH};
  req.u.watch.pressure = 1;
  return sim_send(sim, conn, &req, 0);
}

/* So many were told to that stream. */
static size_t told(sim_t *sim, uint64_t conn, uint32_t stream) {
  return sim_events(sim, conn, stream, ENGINE_EVENT_PRESSURE, "");
}

static void rules(sim_t *sim, char const *key, uint64_t limit) {
  static quota_t quota;
  engine_event_t event = {.kind = ENGINE_EV_QUOTA};
  quota.cnt = 1;
  assert_int_equal(quota_read(key, limit, &quota.rule[0]), 0);
  event.u.quota = &quota;
  sim_step(sim, &event);
}

static void make(sim_t *sim, uint64_t conn, char const *name, char const *tag) {
  engine_request_t req = {.method = ENGINE_CREATE};
  snprintf(req.u.create.name, sizeof(req.u.create.name), "%s", name);
  snprintf(req.u.create.tag, sizeof(req.u.create.tag), "%s", tag);
  req.u.create.size = 1 << 20;
  req.u.create.page_size = 4096;
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_OK);
}

static void later(sim_t *sim) {
  sim_advance(sim, 2 * SIM_SEC);
  sim_settle(sim);
}

/* A user's bound is told to him and to who administers, not to others, nor to who has not asked;
   when it is high, when it is no more, and not in between. */
static void test_users(void **state) {
  sim_t *sim = sim_new(1, NULL);
  sim->keep_events = 1;
  uint64_t root = sim_conn(sim, 0, 0), one = sim_conn(sim, 5, 5), other = sim_conn(sim, 6, 6);
  rules(sim, "default.workspaces", 4);
  uint32_t by_root = watch(sim, root), by_one = watch(sim, one), by_other = watch(sim, other);
  uint32_t deaf = sim_send_named(sim, one, ENGINE_WATCH, "", 0);
  for (int i = 0; i < 4; i++) {
    char name[8];
    snprintf(name, sizeof(name), "w%d", i);
    make(sim, one, name, "");
    later(sim);
    assert_int_equal(told(sim, one, by_one), i == 3);
  }
  later(sim);
  assert_int_equal(told(sim, root, by_root), 1);
  assert_int_equal(told(sim, other, by_other), 0);
  assert_int_equal(told(sim, one, deaf), 0);
  assert_int_equal(sim_code(sim_delete(sim, one, "w0", 0)), ENGINE_CODE_OK);
  later(sim);
  assert_int_equal(told(sim, one, by_one), 2);
  assert_int_equal(told(sim, root, by_root), 2);
  sim_free(sim);
}

/* A watch that begins while something is high is told at once, and when that is over. */
static void test_begins(void **state) {
  sim_t *sim = sim_new(1, NULL);
  sim->keep_events = 1;
  uint64_t one = sim_conn(sim, 5, 5);
  rules(sim, "uid5.4k", 1 << 20);
  make(sim, one, "w", "");
  later(sim);
  for (int i = 0; i < 2; i++) {
    uint32_t other = watch(sim, one);
    sim_advance(sim, 1);
    assert_int_equal(told(sim, one, other), 1);
  }
  uint32_t stream = watch(sim, one);
  assert_int_equal(told(sim, one, stream), 1);
  rules(sim, "uid5.4k", 4 << 20);
  later(sim);
  assert_int_equal(told(sim, one, stream), 2);
  rules(sim, "uid6.4k", 1);
  later(sim);
  assert_int_equal(told(sim, one, stream), 2);
  sim_free(sim);
}

/* Where nobody has asked nothing is looked at, and no timer runs. */
static void test_nobody(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t one = sim_conn(sim, 5, 5);
  (void)sim_send_named(sim, one, ENGINE_WATCH, "", 0);
  rules(sim, "uid5.4k", 1 << 20);
  make(sim, one, "w", "");
  assert_int_equal(sim->update.next_tick_mono_ns, 0);
  sim_free(sim);
}

/* A tag's bound is told to who may know of a workspace with it. */
static void test_tags(void **state) {
  sim_t *sim = sim_new(1, NULL);
  sim->keep_events = 1;
  uint64_t one = sim_conn(sim, 5, 5), other = sim_conn(sim, 6, 6);
  rules(sim, "tag.red.workspaces", 1);
  uint32_t by_one = watch(sim, one), by_other = watch(sim, other);
  make(sim, one, "w", "red");
  make(sim, other, "v", "blue");
  later(sim);
  assert_int_equal(told(sim, one, by_one), 1);
  assert_int_equal(told(sim, other, by_other), 0);
  sim_free(sim);
}

/* Connections, in all and of a user; and a rule that goes takes its pressure along. */
static void test_connections(void **state) {
  engine_config_t config = {.conns_max = 200, .uid_conns_max = 10};
  sim_t *sim = sim_new(1, &config);
  sim->keep_events = 1;
  uint64_t root = sim_conn(sim, 0, 0), of[10];
  uint32_t stream = watch(sim, root);
  for (int i = 0; i < 9; i++) of[i] = sim_conn(sim, 5, 5);
  later(sim);
  assert_int_equal(told(sim, root, stream), 1);
  for (int i = 0; i < 9; i++) sim_close(sim, of[i]);
  later(sim);
  assert_int_equal(told(sim, root, stream), 2);
  sim_free(sim);
}

/* A pool that is nearly dry. */
static void test_pools(void **state) {
  static topo_t topo;
  sim_t *sim = sim_new(1, NULL);
  sim->keep_events = 1;
  uint64_t one = sim_conn(sim, 5, 5);
  uint32_t stream = watch(sim, one);
  engine_event_t event = {.kind = ENGINE_EV_POOLS};
  event.u.pools = &topo;
  topo.node[1].pool[TOPO_2M].total = 100;
  for (int i = 0; i < 3; i++) {
    topo.node[1].pool[TOPO_2M].free = i == 1 ? 3 : 60;
    sim_step(sim, &event);
    later(sim);
    assert_int_equal(told(sim, one, stream), i);
  }
  sim_free(sim);
}

/* However often it rises and falls, it is told at most once a second. */
static void test_flapping(void **state) {
  static topo_t topo;
  sim_t *sim = sim_new(1, NULL);
  sim->keep_events = 1;
  uint64_t one = sim_conn(sim, 5, 5);
  uint32_t stream = watch(sim, one);
  engine_event_t event = {.kind = ENGINE_EV_POOLS};
  event.u.pools = &topo;
  topo.node[0].pool[TOPO_1G].total = 100;
  for (int i = 0; i < 400; i++) {
    topo.node[0].pool[TOPO_1G].free = i & 1 ? 100 : 0;
    sim_step(sim, &event);
    sim_advance(sim, SIM_SEC / 101);
  }
  assert_in_range(told(sim, one, stream), 1, 5);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_users),       cmocka_unit_test(test_begins),
      cmocka_unit_test(test_nobody),      cmocka_unit_test(test_tags),
      cmocka_unit_test(test_connections), cmocka_unit_test(test_pools),
      cmocka_unit_test(test_flapping)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
