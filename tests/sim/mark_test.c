/* mark_test: a workspace in which a worker has met damage is marked, served, and cleared by a
   verify that finds nothing, and by nothing else. */

#include <string.h>

#include "fixture.h"

#define OWNER 5

typedef struct scene {
  sim_t *sim;
  uint64_t conn;
  uint32_t watch;
} scene_t;

static scene_t begin(void) {
  scene_t scene = {.sim = sim_new(1, NULL)};
  scene.sim->keep_events = 1;
  scene.conn = sim_conn(scene.sim, OWNER, OWNER);
  sim_create(scene.sim, scene.conn, "w");
  scene.watch = sim_send_named(scene.sim, scene.conn, ENGINE_WATCH, "w", 0);
  return scene;
}

/* The worker of that method ends so. */
static int ends(scene_t *scene, int method, int status) {
  sim_t *sim = scene->sim;
  sim->worker_status = status;
  sim->fail_next[SIM_WORKER] = status != ENGINE_WORKER_OK;
  uint32_t stream = sim_send_named(sim, scene->conn, method, "w", 0);
  sim_settle(sim);
  return sim_reply(sim, scene->conn, stream)->code;
}

static engine_workspace_t const *is(scene_t *scene) {
  return &sim_get(scene->sim, scene->conn, "w")->view;
}

static size_t told(scene_t const *scene, int kind) {
  return sim_events(scene->sim, scene->conn, scene->watch, kind, "w");
}

/* Damage marks, told once; what says nothing of the memory does not. */
static void test_marks(void **state) {
  for (int status = ENGINE_WORKER_INVALID; status <= ENGINE_WORKER_CANCELLED; status++)
    for (int twice = 0; twice < 2; twice++) {
      scene_t scene = begin();
      int marks = status == ENGINE_WORKER_DAMAGED || status == ENGINE_WORKER_CRASHED;
      for (int i = 0; i <= twice; i++) (void)ends(&scene, ENGINE_QUERY, status);
      assert_int_equal(is(&scene)->damaged, marks);
      assert_int_equal(is(&scene)->reason[0] != 0, marks);
      assert_int_equal(told(&scene, ENGINE_EVENT_DAMAGED), marks);
      sim_free(scene.sim);
    }
}

/* A query that goes well leaves the mark, a verify takes it away; one that finds damage sets it. */
static void test_clears(void **state) {
  scene_t scene = begin();
  assert_int_equal(ends(&scene, ENGINE_VERIFY, ENGINE_WORKER_OK), ENGINE_CODE_OK);
  assert_int_equal(told(&scene, ENGINE_EVENT_SOUND), 0);
  for (int i = 1; i < 3; i++) {
    assert_int_equal(ends(&scene, ENGINE_VERIFY, ENGINE_WORKER_DAMAGED), ENGINE_CODE_DATA_LOSS);
    assert_int_equal(ends(&scene, ENGINE_QUERY, ENGINE_WORKER_OK), ENGINE_CODE_OK);
    assert_int_equal(ends(&scene, ENGINE_COMPACT, ENGINE_WORKER_OK), ENGINE_CODE_OK);
    assert_int_equal(is(&scene)->damaged, 1);
    assert_int_equal(ends(&scene, ENGINE_VERIFY, ENGINE_WORKER_OK), ENGINE_CODE_OK);
    assert_int_equal(is(&scene)->damaged, 0);
    assert_string_equal(is(&scene)->reason, "");
    assert_int_equal(told(&scene, ENGINE_EVENT_DAMAGED), i);
    assert_int_equal(told(&scene, ENGINE_EVENT_SOUND), i);
  }
  sim_free(scene.sim);
}

/* All that can be done with one that is not marked can be done with one that is. */
static void test_served(void **state) {
  scene_t scene = begin();
  sim_t *sim = scene.sim;
  (void)ends(&scene, ENGINE_QUERY, ENGINE_WORKER_CRASHED);
  assert_int_equal(sim_code(sim_open(sim, scene.conn, "w", ENGINE_OPEN_RW)), ENGINE_CODE_OK);
  assert_int_equal(sim_code(sim_open(sim, scene.conn, "w", ENGINE_OPEN_RO)), ENGINE_CODE_OK);
  assert_int_equal(sim_code(sim_resize(sim, scene.conn, "w", 1 << 20)), ENGINE_CODE_OK);
  assert_int_equal(is(&scene)->damaged, 1);
  assert_int_equal(sim_code(sim_delete(sim, scene.conn, "w", 1)), ENGINE_CODE_OK);
  sim_free(sim);
}

/* The reason of a quarantine stays that, whatever workers found before. */
static void test_quarantined(void **state) {
  scene_t scene = begin();
  engine_event_t event = {.kind = ENGINE_EV_QUARANTINE};
  (void)ends(&scene, ENGINE_QUERY, ENGINE_WORKER_CRASHED);
  event.u.quarantine.ws_id = is(&scene)->spec.ws_id;
  event.u.quarantine.reason = "so there";
  sim_step(scene.sim, &event);
  assert_string_equal(is(&scene)->reason, "so there");
  assert_int_equal(is(&scene)->quarantined, 1);
  sim_free(scene.sim);
}

/* Only who may read it may have it looked at, and who may not does not learn that it is there. */
static void test_rights(void **state) {
  scene_t scene = begin();
  uint64_t other = sim_conn(scene.sim, OWNER + 1, OWNER + 1);
  uint32_t stream = sim_send_named(scene.sim, other, ENGINE_VERIFY, "w", 0);
  assert_int_equal(sim_reply(scene.sim, other, stream)->code, ENGINE_CODE_NOT_FOUND);
  sim_free(scene.sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_marks), cmocka_unit_test(test_clears), cmocka_unit_test(test_served),
      cmocka_unit_test(test_quarantined), cmocka_unit_test(test_rights)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
