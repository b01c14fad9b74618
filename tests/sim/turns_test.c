/* turns_test: workers serve uids in turn, however much one of them has asked for. What is counted
   is jobs, not time. */

#include <stdio.h>
#include <string.h>

#include "fixture.h"

#define ALICE 1000U
#define BOB   2000U
#define CAROL 3000U
#define FLOOD 100U

/* A workspace that all may use, and a flood of Alice's on it, of which the first runs. */
static sim_t *flooded(uint32_t places) {
  engine_config_t config = {.jobs_running_max = places};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, ALICE, ALICE);
  engine_request_t req = {.method = ENGINE_CREATE};
  snprintf(req.u.create.name, sizeof req.u.create.name, "a");
  req.u.create.size = 1 << 20;
  req.u.create.page_size = 4096;
  req.u.create.mode = 0666;
  req.u.create.uuid[0] = 77;
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_OK);
  sim->hold[SIM_WORKER] = 1;
  for (uint32_t i = 0; i < FLOOD; i++) {
    if (i % 32 == 0) conn = sim_conn(sim, ALICE, ALICE);
    sim_unanswered(sim, conn, sim_send_named(sim, conn, ENGINE_QUERY, "a", 0));
  }
  return sim;
}

/* Lets workers end, oldest first, until this request is answered; how many ended before it. */
static unsigned until(sim_t *sim, uint64_t conn, uint32_t stream) {
  for (unsigned before = 0;; before++) {
    assert_true(sim_waiting(sim, SIM_WORKER) > 0);
    sim_answer(sim, 0, 0);
    if (!sim_request(sim, conn, stream)->answered) continue;
    assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_OK);
    return before;
  }
}

static size_t answered(sim_t const *sim) {
  return sim->reply_cnt[ENGINE_CODE_OK];
}

/* Behind a hundred of another's, who asks for one thing after the other waits for what runs and for
   one job of the other each time. */
static void one_behind_many(void **state) {
  for (uint32_t places = 1; places <= 3; places++) {
    sim_t *sim = flooded(places);
    uint64_t bob = sim_conn(sim, BOB, BOB);
    for (int i = 0; i < 20; i++) {
      uint32_t stream = sim_send_named(sim, bob, ENGINE_QUERY, "a", 0);
      assert_true(until(sim, bob, stream) <= places + 1);
    }
    sim->hold[SIM_WORKER] = 0;
    sim_settle(sim);
    sim_free(sim);
  }
}

/* Nor does he who has one thing at a time keep the other waiting: they take turns. */
static void many_behind_one(void **state) {
  sim_t *sim = flooded(1);
  uint64_t bob = sim_conn(sim, BOB, BOB);
  size_t before = answered(sim);
  for (int i = 0; i < 40; i++) until(sim, bob, sim_send_named(sim, bob, ENGINE_QUERY, "a", 0));
  assert_true(answered(sim) - before >= 2 * 40);
  sim->hold[SIM_WORKER] = 0;
  sim_settle(sim);
  sim_free(sim);
}

/* Three floods are worked off side by side, and each in the order of its asking. */
static void floods(void **state) {
  static uint32_t const uids[] = {BOB, CAROL};
  sim_t *sim = flooded(1);
  uint64_t conns[2];
  uint32_t streams[2][30];
  for (int k = 0; k < 2; k++) {
    conns[k] = sim_conn(sim, uids[k], uids[k]);
    for (int i = 0; i < 30; i++)
      streams[k][i] = sim_send_named(sim, conns[k], ENGINE_QUERY, "a", 0);
  }
  size_t before = answered(sim);
  for (int i = 0; i < 30; i++)
    for (int k = 0; k < 2; k++) {
      if (!sim_request(sim, conns[k], streams[k][i])->answered) until(sim, conns[k], streams[k][i]);
      for (int later = i + 2; later < 30; later++)
        assert_false(sim_request(sim, conns[1 - k], streams[1 - k][later])->answered);
    }
  assert_in_range(answered(sim) - before, 89, 92);
  sim->hold[SIM_WORKER] = 0;
  sim_settle(sim);
  sim_free(sim);
}

/* Checkpoints have turns of their own: one user's many workspaces do not keep another's waiting. */
static void checkpoints(void **state) {
  engine_config_t config = {.tasks_running_max = 1};
  sim_t *sim = sim_new(1, &config);
  uint64_t alice = sim_conn(sim, ALICE, ALICE), bob = sim_conn(sim, BOB, BOB);
  char name[16];
  for (int i = 0; i < 20; i++) {
    snprintf(name, sizeof name, "a%d", i);
    sim_create(sim, alice, name);
  }
  sim_create(sim, bob, "b");
  sim->hold[SIM_TASK] = 1;
  for (int i = 0; i < 20; i++) {
    snprintf(name, sizeof name, "a%d", i);
    sim_take(sim, alice, name);
  }
  sim_take(sim, bob, "b");
  sim_answer(sim, 0, 0); /* a0; a1 and b are of one round, and a1 was first */
  sim_answer(sim, 0, 0);
  assert_int_equal(sim_waiting(sim, SIM_TASK), 1);
  assert_string_equal(sim->pending.items[0].ask.spec.name, "b");
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(sim->ckpts.cnt, 21);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(one_behind_many),
      cmocka_unit_test(many_behind_one),
      cmocka_unit_test(floods),
      cmocka_unit_test(checkpoints),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
