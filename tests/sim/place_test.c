/* place_test: where creates are to be placed, what users may take, and memory beyond an end. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define OWNER 1000U
#define OTHER 1001U
#define PAGE  4096UL

/* A machine of two nodes with one cpu each, and these ordinary pages free on each. */
static topo_t *machine(uint64_t first, uint64_t second) {
  topo_t *topo = calloc(1, sizeof(*topo));
  assert_non_null(topo);
  topo->numa = 1;
  topo->node_cnt = topo->cpu_cnt = 2;
  topo->cpu_node[1] = 1;
  for (int size = 0; size < TOPO_SIZE_CNT; size++) topo->size[size].limit = UINT64_MAX;
  topo->size[TOPO_4K].exists = 1;
  for (int node = 0; node < 2; node++) {
    topo_pool_t *pool = &topo->node[node].pool[TOPO_4K];
    topo->node[node].online = topo->node[node].allowed = 1;
    pool->total = pool->free = node ? second : first;
  }
  assert_null(topo_check(topo));
  return topo;
}

static engine_request_t example(int method, topo_t const *topo, char const *name,
                                char const *numa) {
  engine_request_t req = {.method = method};
  snprintf(req.u.create.name, sizeof(req.u.create.name), "%s", name);
  snprintf(req.u.create.numa, sizeof(req.u.create.numa), "%s", numa);
  req.u.create.size = 100 * PAGE;
  req.u.create.page_size = PAGE;
  req.u.create.topo = topo;
  req.u.create.cpu = 1;
  return req;
}

static sim_request_t *send(sim_t *sim, uint64_t conn, engine_request_t const *req) {
  uint32_t stream = sim_send(sim, conn, req, 0);
  sim_settle(sim);
  return sim_request(sim, conn, stream);
}

/* What was asked for and the nodes that it came to are in the spec on disk, stay over a restart,
   and go along with the pages of a resize. */
static void test_spec(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  topo_t *topo = machine(1000, 1000);
  static struct {
    char const *name, *numa, *nodes;
    int preferred, strict;
  } const ways[] = {{"a", "", "1", 0, 0},
                    {"b", "local", "1", 0, 1},
                    {"c", "split:0,1,1", "split:0,1*2", 0, 1},
                    {"d", "cpu:0-1", "split:0,1", 1, 0},
                    {"e", "1,0", "1,0", 0, 1}};
  for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
    engine_request_t req = example(ENGINE_CREATE, topo, ways[i].name, ways[i].numa);
    req.u.create.preferred = ways[i].preferred;
    req.u.create.max_size = 200 * PAGE;
    assert_int_equal(send(sim, conn, &req)->reply.code, ENGINE_CODE_OK);
  }
  sim_restart(sim);
  conn = sim_conn(sim, OWNER, OWNER);
  for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
    spec_t const *spec = sim_on_disk(sim, i + 1);
    assert_string_equal(spec->numa, ways[i].numa);
    assert_string_equal(spec->nodes, ways[i].nodes);
    assert_int_equal(spec->strict, ways[i].strict);
    assert_string_equal(sim_get(sim, conn, ways[i].name)->view.spec.nodes, ways[i].nodes);
  }
  sim->hold[SIM_RESIZED] = 1;
  sim_send_resize(sim, conn, "c", 150 * PAGE, 0);
  sim_settle(sim);
  size_t fills = 0;
  for (size_t i = 0; i < sim->pending.cnt; i++) {
    engine_effect_t const *effect = &sim->pending.items[i].effect;
    if (effect->kind != ENGINE_FX_MEMORY_FILL) continue;
    fills++;
    assert_string_equal(effect->u.memory_resize.nodes, "split:0,1*2");
    assert_int_equal(effect->u.memory_resize.strict, 1);
    assert_int_equal(effect->u.memory_resize.max_size, 200 * PAGE);
  }
  assert_int_equal(fills, 1);
  sim->hold[SIM_RESIZED] = 0;
  sim_settle(sim);
  free(topo);
  sim_free(sim);
}

/* What cannot be meant is refused with the node before anything is written. */
static void test_refused(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  topo_t *topo = machine(1000, 1000);
  static char const *const bad[] = {"x", "2", "0,0", "cpu:2", "split:"};
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
    engine_request_t req = example(ENGINE_CREATE, topo, "a", bad[i]);
    engine_reply_t const *reply = &send(sim, conn, &req)->reply;
    assert_int_equal(reply->code, ENGINE_CODE_INVALID_ARGUMENT);
    assert_string_equal(reply->detail_kind, "numa");
    assert_int_equal(reply->detail_node, bad[i][0] == '2' ? 2 : bad[i][0] == '0' ? 0 : -1);
    assert_true(reply->detail_hint[0] != 0);
  }
  assert_int_equal(sim->disk.cnt + sim->memory.cnt, 0);
  /* a text that is not known to anybody is refused without a machine, too */
  engine_request_t req = example(ENGINE_CREATE, NULL, "a", "x");
  assert_int_equal(send(sim, conn, &req)->reply.code, ENGINE_CODE_INVALID_ARGUMENT);
  req = example(ENGINE_PLAN, NULL, "", "0");
  assert_int_equal(send(sim, conn, &req)->reply.code, ENGINE_CODE_UNAVAILABLE);
  free(topo);
  sim_free(sim);
}

/* A plan takes nothing, and what is missing for it is no failure. */
static void test_plan(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  topo_t *topo = machine(1000, 49);
  engine_request_t req = example(ENGINE_PLAN, topo, "", "0,1");
  engine_reply_t const *reply = &send(sim, conn, &req)->reply;
  assert_int_equal(reply->code, ENGINE_CODE_OK);
  assert_non_null(strstr(reply->u.plan.lacking, "50 pages of 4 KiB are wanted on node 1"));
  assert_int_equal(reply->u.plan.node_cnt, 2);
  topo->node[1].pool[TOPO_4K].total = topo->node[1].pool[TOPO_4K].free = 50;
  reply = &send(sim, conn, &req)->reply;
  assert_string_equal(reply->u.plan.lacking, "");
  assert_string_equal(reply->u.plan.policy, "0,1");
  assert_int_equal(reply->u.plan.size, 100 * PAGE);
  req.u.create.page_size = 12345;
  assert_int_equal(send(sim, conn, &req)->reply.code, ENGINE_CODE_INVALID_ARGUMENT);
  assert_int_equal(sim->disk.cnt + sim->memory.cnt + sim->pending.cnt, 0);
  free(topo);
  sim_free(sim);
}

static void set_quota(sim_t *sim, char const *key, uint64_t bytes) {
  static quota_t quota;
  engine_event_t event = {.kind = ENGINE_EV_QUOTA};
  quota.cnt = 1;
  assert_int_equal(quota_read(key, bytes, &quota.rule[0]), 0);
  event.u.quota = &quota;
  assert_int_equal(sim_step(sim, &event), 0);
  memset(&quota, 0xee, sizeof(quota)); /* it was copied */
}

/* A user is charged with what his workspaces can grow to, on the rule's node; what is over it is
   refused with figures, whether its pages are known before they are taken or not; others are not
   charged, and what goes is not. */
static void test_quota(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER), other = sim_conn(sim, OTHER, OTHER);
  topo_t *topo = machine(1UL << 20, 1UL << 20);
  set_quota(sim, "default.4k.node1", 150 * PAGE);
  engine_request_t req = example(ENGINE_CREATE, topo, "a", "0,1");
  req.u.create.max_size = 200 * PAGE;
  assert_int_equal(send(sim, conn, &req)->reply.code, ENGINE_CODE_OK);
  for (int automatic = 0; automatic < 2; automatic++) {
    req = example(ENGINE_CREATE, topo, "b", "1");
    req.u.create.page_size = automatic ? 0 : PAGE;
    engine_reply_t const *reply = &send(sim, conn, &req)->reply;
    assert_int_equal(reply->code, ENGINE_CODE_RESOURCE_EXHAUSTED);
    assert_string_equal(reply->detail_kind, "quota");
    assert_int_equal(reply->detail_node, 1);
    assert_int_equal(reply->detail_wanted, 100 * PAGE);
    assert_int_equal(reply->detail_free, 50 * PAGE);
    assert_int_equal(sim->disk.cnt, 1);
    assert_int_equal(sim->memory.cnt, 1);
  }
  assert_int_equal(send(sim, other, &req)->reply.code, ENGINE_CODE_OK);
  req = example(ENGINE_CREATE, topo, "c", "0");
  assert_int_equal(send(sim, conn, &req)->reply.code, ENGINE_CODE_OK);
  assert_int_equal(sim_delete(sim, conn, "a", 0)->reply.code, ENGINE_CODE_OK);
  req = example(ENGINE_CREATE, topo, "d", "1");
  assert_int_equal(send(sim, conn, &req)->reply.code, ENGINE_CODE_OK);
  free(topo);
  sim_free(sim);
}

/* What the kernel may have added, and where the last page is. */
static uint64_t held_slack, held_top;

static int held(sim_t *sim, uint64_t ws_id, uint64_t bytes) {
  engine_event_t event = {.kind = ENGINE_EV_HELD};
  event.u.held.slack = held_slack;
  event.u.held.top = held_top;
  event.u.held.ws_id = ws_id;
  event.u.held.bytes = bytes;
  return sim_step(sim, &event);
}

/* Too much that is held is given back once, from where the end is; the second time the workspace is
   quarantined. */
static void test_excess(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  engine_request_t req = example(ENGINE_CREATE, NULL, "a", "");
  req.u.create.max_size = 4096 * PAGE;
  assert_int_equal(send(sim, conn, &req)->reply.code, ENGINE_CODE_OK);
  sim_memory_t *memory = &sim->memory.items[0];
  uint64_t size = memory->size, far = size + 1024 * PAGE;
  assert_int_equal(held(sim, 1, size), 0);
  assert_int_equal(sim->pending.cnt, 0);
  memory->filled = far;
  assert_int_equal(held(sim, 1, far), 0);
  assert_true(sim->pending.cnt > 0);
  assert_int_equal(held(sim, 1, far), ENGINE_STALE); /* while it is seen to */
  sim_settle(sim);
  assert_int_equal(memory->filled, size);
  assert_int_equal(sim_get(sim, conn, "a")->view.quarantined, 0);
  assert_int_equal(held(sim, 1, size), 0);
  assert_int_equal(sim_get(sim, conn, "a")->view.excess, 0);
  memory->filled = far;
  assert_int_equal(held(sim, 1, far), 0);
  sim_request_t *get = sim_get(sim, conn, "a");
  assert_int_equal(get->view.quarantined, 1);
  assert_int_equal(get->view.excess, 1024 * PAGE);
  assert_non_null(strstr(get->view.reason, "4194304 bytes beyond its end"));
  assert_int_equal(held(sim, 1, far), 0);
  assert_int_equal(held(sim, 77, far), ENGINE_STALE);
  assert_int_equal(sim_delete(sim, conn, "a", 0)->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* One page too many is noticed, unless the kernel makes huge pages by itself: then what the one
   adds in which the end lies is nothing. What a giving back did not free (a huge page that is
   pinned) is nothing either, until one does. */
static void test_excess_page(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  engine_request_t req = example(ENGINE_CREATE, NULL, "a", "");
  req.u.create.max_size = 4096 * PAGE;
  assert_int_equal(send(sim, conn, &req)->reply.code, ENGINE_CODE_OK);
  sim_memory_t *memory = &sim->memory.items[0];
  uint64_t size = memory->size;
  assert_true(size < 512 * PAGE);
  held_slack = 512 * PAGE;
  held_top = 512 * PAGE;
  assert_int_equal(held(sim, 1, 512 * PAGE), 0);
  assert_int_equal(sim->pending.cnt, 0);
  held_slack = held_top = 0;
  memory->stuck = 3 * PAGE;
  memory->filled = size + 5 * PAGE;
  assert_int_equal(held(sim, 1, memory->filled), 0);
  assert_true(sim->pending.cnt > 0);
  sim_settle(sim);
  held_top = size + 3 * PAGE;
  assert_int_equal(held(sim, 1, size + 3 * PAGE), 0);
  assert_int_equal(sim_get(sim, conn, "a")->view.quarantined, 0);
  assert_int_equal(sim_get(sim, conn, "a")->view.excess, 0);
  memory->stuck = held_top = 0;
  uint32_t stream = sim_send_resize(sim, conn, "a", size + 28 * PAGE, 0);
  sim_settle(sim);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_OK);
  assert_int_equal(held(sim, 1, size + 29 * PAGE), 0);
  assert_int_equal(sim_get(sim, conn, "a")->view.quarantined, 1);
  assert_int_equal(sim_get(sim, conn, "a")->view.excess, PAGE);
  sim_free(sim);
}

/* Whatever the kernel is set to, what is noticed is: a page beyond the huge page in which the end
   lies, also where a program has given as many back before the end; and one behind an end that lies
   between two huge pages. */
static void test_excess_far(void **state) {
  static struct {
    uint64_t size, bytes, top; /* of the workspace; held */
    uint64_t excess;
  } const cases[] = {
      {112 * PAGE, 113 * PAGE, 512 * PAGE, 0},     {112 * PAGE, 113 * PAGE, 513 * PAGE, PAGE},
      {112 * PAGE, 100 * PAGE, 4096 * PAGE, PAGE}, {112 * PAGE, 513 * PAGE, 513 * PAGE, 401 * PAGE},
      {512 * PAGE, 512 * PAGE, 512 * PAGE, 0},     {512 * PAGE, 513 * PAGE, 513 * PAGE, PAGE},
      {512 * PAGE, 1 * PAGE, 513 * PAGE, PAGE},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
    sim_t *sim = sim_new(1, NULL);
    uint64_t conn = sim_conn(sim, OWNER, OWNER);
    engine_request_t req = example(ENGINE_CREATE, NULL, "a", "");
    req.u.create.size = cases[i].size;
    req.u.create.max_size = 4096 * PAGE;
    assert_int_equal(send(sim, conn, &req)->reply.code, ENGINE_CODE_OK);
    assert_int_equal(sim->memory.items[0].size, cases[i].size);
    held_slack = 512 * PAGE;
    held_top = cases[i].top;
    for (int turn = 0; turn < 2; turn++) { /* the first time it is given back */
      assert_int_equal(held(sim, 1, cases[i].bytes), 0);
      assert_int_equal(sim->pending.cnt > 0, cases[i].excess && !turn);
      sim_settle(sim);
    }
    engine_workspace_t const *view = &sim_get(sim, conn, "a")->view;
    assert_int_equal(view->excess, cases[i].excess);
    assert_int_equal(view->quarantined, cases[i].excess != 0);
    sim_free(sim);
  }
  held_slack = held_top = 0;
}

/* A resize that comes while too much is being given back does not wait for its turn: it goes on
   from where that is, whatever step it is in. */
static void test_mend_taken_over(void **state) {
  for (int step = 0; step < 2; step++) {
    sim_t *sim = sim_new(1, NULL);
    uint64_t conn = sim_conn(sim, OWNER, OWNER);
    engine_request_t req = example(ENGINE_CREATE, NULL, "a", "");
    req.u.create.max_size = 4096 * PAGE;
    assert_int_equal(send(sim, conn, &req)->reply.code, ENGINE_CODE_OK);
    sim_memory_t *memory = &sim->memory.items[0];
    memory->filled = memory->size + 1024 * PAGE;
    if (step) sim->hold[SIM_RESIZED] = 1; /* it stays in its last step */
    assert_int_equal(held(sim, 1, memory->filled), 0);
    if (step) sim_settle(sim);
    uint32_t stream = sim_send_resize(sim, conn, "a", 2048 * PAGE, 0);
    sim_unanswered(sim, conn, stream);
    sim->hold[SIM_RESIZED] = 0;
    sim_settle(sim);
    assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_OK);
    assert_int_equal(sim_get(sim, conn, "a")->view.spec.size, 2048 * PAGE);
    assert_int_equal(memory->filled, 2048 * PAGE);
    assert_int_equal(memory->end, 2048 * PAGE);
    sim_free(sim);
  }
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_spec),        cmocka_unit_test(test_refused),
      cmocka_unit_test(test_plan),        cmocka_unit_test(test_quota),
      cmocka_unit_test(test_excess),      cmocka_unit_test(test_mend_taken_over),
      cmocka_unit_test(test_excess_page), cmocka_unit_test(test_excess_far),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
