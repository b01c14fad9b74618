/* drill_test: checkpoints that are restored for trial, one scenario at a time. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"

#define MINUTE (60UL * SIM_SEC)
#define HOUR   (60UL * MINUTE)

static uint64_t drills(sim_t const *sim) {
  return sim->task_cnt[ENGINE_OP_CKPT_DRILL];
}

static engine_request_t drill_of(sim_t const *sim, size_t idx) {
  engine_request_t req = {.method = ENGINE_CKPT_VERIFY};
  engine_ckpt_t const *ckpt = &sim->ckpts.items[idx];
  snprintf(req.u.c.ckpt.id, ENGINE_TEXT_MAX, "%" PRIu64 ".%" PRIx64, ckpt->store_id, ckpt->number);
  req.u.c.ckpt.drill = 1;
  return req;
}

/* w, checkpointed so often (0: never) and drilled so often. */
static uint64_t make(sim_t *sim, uint64_t every_ns, uint64_t drill_ns) {
  uint64_t conn = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "w");
  engine_request_t req = sim_schedule_of("w", every_ns);
  req.u.c.schedule.drill_ns = drill_ns;
  sim_set(sim, conn, &req);
  return conn;
}

static void pass(sim_t *sim, uint64_t ns) {
  sim_advance(sim, ns);
  sim_settle(sim);
}

static engine_stats_t stats(sim_t *sim, uint64_t conn) {
  engine_request_t req = {.method = ENGINE_STATS};
  return sim_ask(sim, conn, &req)->reply.u.stats;
}

/* By hand: when and which is kept with the checkpoint, over a restart too; others are not touched.
 */
static void test_by_hand(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "w");
  sim_take(sim, conn, "w");
  sim_take(sim, conn, "w");
  pass(sim, MINUTE);
  engine_request_t req = drill_of(sim, 0);
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_OK);
  assert_int_equal(drills(sim), 1);
  assert_int_equal(sim->task_cnt[ENGINE_OP_RESTORE], 0);
  assert_int_equal(sim->ckpts.items[0].drilled_ns, sim->real_ns);
  assert_int_equal(sim->ckpts.items[0].verified_ns, sim->real_ns);
  assert_int_equal(sim->ckpts.items[1].drilled_ns, 0);
  uint64_t when = sim->real_ns;
  pass(sim, MINUTE);
  sim_restart(sim);
  conn = sim_conn(sim, 0, 0);
  engine_request_t verify =
      drill_of(sim, 0); /* reads digests only: what is known of drills stays */
  verify.u.c.ckpt.drill = 0;
  assert_int_equal(sim_code(sim_ask(sim, conn, &verify)), ENGINE_CODE_OK);
  assert_int_equal(sim->ckpts.items[0].drilled_ns, when);
  assert_int_equal(sim->ckpts.items[0].verified_ns, sim->real_ns);
  sim_free(sim);
}

/* A schedule's drills come at their interval, each of the newest, and it remembers the last. */
static void test_interval(void **state) {
  sim_t *sim = sim_new(1, NULL);
  schedule_t schedule;
  (void)make(sim, 10 * MINUTE, HOUR);
  for (int i = 0; i < 30; i++) pass(sim, 10 * MINUTE);
  assert_int_equal(drills(sim), 5);
  assert_int_equal(sim_schedule(sim, "w", &schedule), 1);
  assert_in_range(schedule.drill_ckpt_id, 28, 30);
  assert_true(sim->real_ns - schedule.drill_ok_ns < HOUR);
  assert_true(schedule.drill_due_ns > sim->real_ns);
  assert_int_equal(sim->ckpts.items[schedule.drill_ckpt_id - 1].drilled_ns, schedule.drill_ok_ns);
  sim_free(sim);
}

/* What is drilled is the newest when it begins, not when it was due: that one may be gone by then.
 */
static void test_newest(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = make(sim, 0, HOUR);
  sim_take(sim, conn, "w");
  sim->hold[SIM_TASK] = 1;
  sim_create(sim, conn, "other");
  sim_take(sim, conn, "other");
  engine_request_t show = drill_of(sim, 0);
  show.u.c.ckpt.drill = 0;
  assert_int_equal(sim_code(sim_ask(sim, conn, &show)), ENGINE_CODE_OK); /* both places are taken */
  sim_advance(sim, HOUR);
  assert_int_equal(drills(sim), 0);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(drills(sim), 1);
  sim_free(sim);
}

/* One that is due while there is no checkpoint waits for the first, and nothing wakes meanwhile. */
static void test_waits(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = make(sim, 0, HOUR);
  pass(sim, HOUR + SIM_SEC);
  uint64_t steps = sim->step_cnt;
  sim_advance(sim, 100 * HOUR);
  assert_int_equal(sim->step_cnt, steps);
  assert_int_equal(drills(sim), 0);
  sim_take(sim, conn, "w");
  pass(sim, SIM_SEC);
  assert_int_equal(drills(sim), 1);
  sim_free(sim);
}

/* Damage that a drill finds is known: it is bad, the next checkpoint relies on nothing, and soon
   the one before it is tried; failures are counted and end with a good one. */
static void test_damaged(void **state) {
  sim_t *sim = sim_new(1, NULL);
  schedule_t schedule;
  uint64_t conn = make(sim, 0, 24 * HOUR);
  sim_take(sim, conn, "w");
  sim_take(sim, conn, "w");
  sim->worker_status = ENGINE_WORKER_DAMAGED;
  sim->fail_next[SIM_TASK] = 1;
  pass(sim, 24 * HOUR);
  assert_int_equal(drills(sim), 1);
  assert_int_equal(sim_schedule(sim, "w", &schedule), 1);
  assert_int_equal(schedule.drill_fail_cnt, 1);
  assert_int_equal(schedule.drill_ok_ns, 0);
  engine_request_t list = {.method = ENGINE_CKPT_LIST};
  assert_int_equal(sim_ask(sim, conn, &list)->reply.u.ckpt_list.ckpt_cnt, 2);
  pass(sim, SCHEDULE_DRILL_AGAIN_NS);
  assert_int_equal(drills(sim), 2);
  assert_int_equal(sim_schedule(sim, "w", &schedule), 1);
  assert_int_equal(schedule.drill_fail_cnt, 0);
  assert_int_equal(schedule.drill_ckpt_id, 1);
  assert_int_equal(sim->ckpts.items[1].drilled_ns, 0);
  sim_take(sim, conn, "w");
  assert_int_equal(sim->asked.fresh, 1);
  sim_free(sim);
}

/* A drill of a schedule that fails for another reason says nothing of the checkpoint, and is tried
   again, later and later, but never later than its interval. */
static void test_failures(void **state) {
  sim_t *sim = sim_new(1, NULL);
  schedule_t schedule;
  uint64_t conn = make(sim, 0, HOUR), last = 0;
  sim_take(sim, conn, "w");
  sim->worker_status = ENGINE_WORKER_NO_ROOM;
  pass(sim, HOUR - SIM_SEC);
  for (uint32_t n = 1; n < 8; n++) {
    sim->fail_next[SIM_TASK] = 1;
    pass(sim, n == 1 ? 2 * SIM_SEC : last);
    assert_int_equal(drills(sim), n);
    assert_int_equal(sim_schedule(sim, "w", &schedule), 1);
    assert_int_equal(schedule.drill_fail_cnt, n);
    last = schedule.drill_due_ns - sim->real_ns;
    uint64_t want = SCHEDULE_DRILL_AGAIN_NS << (n - 1);
    assert_int_equal(last, want < HOUR ? want : HOUR);
  }
  assert_int_equal(sim->ckpts.items[0].verified_ns, 0);
  engine_request_t restore = sim_restore_of(sim, "w", "copy", 1);
  assert_int_equal(sim_code(sim_ask(sim, conn, &restore)), ENGINE_CODE_OK); /* it is not bad */
  sim_free(sim);
}

/* Drills outlive a restart: one that a stop has cut short, or that was missed, is made up for. */
static void test_restart(void **state) {
  sim_t *sim = sim_new(1, NULL);
  schedule_t schedule;
  uint64_t conn = make(sim, 0, HOUR);
  sim_take(sim, conn, "w");
  sim->hold[SIM_TASK] = 1;
  sim_advance(sim, HOUR + SIM_SEC);
  assert_int_equal(drills(sim), 1);
  sim_step_kind(sim, ENGINE_EV_STOP);
  assert_int_equal(sim->cancel_cnt, 1);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(sim->stopped, 1);
  sim_restart(sim);
  pass(sim, SIM_SEC);
  assert_int_equal(drills(sim), 2);
  assert_int_equal(sim_schedule(sim, "w", &schedule), 1);
  assert_int_equal(schedule.drill_fail_cnt, 0);
  uint64_t due = schedule.drill_due_ns;
  sim->real_ns += 30 * HOUR;
  sim_restart(sim);
  pass(sim, SIM_SEC);
  assert_int_equal(drills(sim), 3);
  assert_int_equal(sim_schedule(sim, "w", &schedule), 1);
  assert_true(schedule.drill_due_ns > due + 29 * HOUR);
  sim_free(sim);
}

/* One at a time, whatever is due, and checkpoints go on beside it. */
static void test_one(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  char name[16];
  for (int i = 0; i < 20; i++) {
    snprintf(name, sizeof(name), "w%d", i);
    sim_create(sim, conn, name);
    sim_take(sim, conn, name);
    engine_request_t req = sim_schedule_of(name, 0);
    req.u.c.schedule.drill_ns = HOUR;
    sim_set(sim, conn, &req);
  }
  sim->hold[SIM_TASK] = 1;
  sim_advance(sim, HOUR + SIM_SEC);
  assert_int_equal(sim_waiting(sim, SIM_TASK), 1);
  sim_take(sim, conn, "w0");
  assert_int_equal(sim_waiting(sim, SIM_TASK), 2);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(drills(sim), 20);
  sim_free(sim);
}

/* Whoever drops the schedule, or changes its drills, while one runs gets what is said then. */
static void test_changed(void **state) {
  sim_t *sim = sim_new(1, NULL);
  schedule_t schedule;
  uint64_t conn = make(sim, 0, HOUR);
  sim_take(sim, conn, "w");
  engine_request_t req = sim_schedule_of("w", 0);
  for (int drop = 0; drop < 2; drop++) {
    sim->hold[SIM_TASK] = 1;
    sim_advance(sim, HOUR + SIM_SEC);
    assert_int_equal(sim_waiting(sim, SIM_TASK), 1);
    req.u.c.schedule.drop = drop;
    req.u.c.schedule.drill_ns = 3 * HOUR;
    sim_set(sim, conn, &req);
    sim->hold[SIM_TASK] = 0;
    sim_settle(sim);
    assert_int_equal(sim_schedule(sim, "w", &schedule), !drop);
    if (!drop) assert_int_equal(schedule.drill_due_ns, sim->real_ns + 3 * HOUR);
    if (!drop) sim_advance(sim, 2 * HOUR);
  }
  req = sim_schedule_of("w", 0);
  req.u.c.schedule.drill_ns = 1;
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_INVALID_ARGUMENT);
  sim_free(sim);
}

/* Stats tells how old the oldest newest sound checkpoint of those with a schedule is, and how many
   have none. */
static void test_stats(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = make(sim, 0, 0);
  sim_create(sim, conn, "alone"); /* no schedule: nobody has asked for anything */
  assert_int_equal(stats(sim, conn).unproven_cnt, 1);
  sim_take(sim, conn, "w");
  uint64_t when = sim->ckpts.items[0].created_ns;
  assert_int_equal(stats(sim, conn).unproven_cnt, 1);
  assert_int_equal(stats(sim, conn).proven_ns, 0);
  pass(sim, MINUTE);
  engine_request_t req = drill_of(sim, 0);
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_OK);
  assert_int_equal(stats(sim, conn).unproven_cnt, 0);
  assert_int_equal(stats(sim, conn).proven_ns, when);
  sim_take(sim, conn, "w"); /* not verified: the one before it counts */
  assert_int_equal(stats(sim, conn).proven_ns, when);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_by_hand), cmocka_unit_test(test_interval),
      cmocka_unit_test(test_newest),  cmocka_unit_test(test_waits),
      cmocka_unit_test(test_damaged), cmocka_unit_test(test_failures),
      cmocka_unit_test(test_restart), cmocka_unit_test(test_one),
      cmocka_unit_test(test_changed), cmocka_unit_test(test_stats)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
