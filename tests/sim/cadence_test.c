/* cadence_test: schedules, and what a stop and a start do, one scenario at a time. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"

#define MINUTE (60UL * SIM_SEC)

/* Slots are run at their times, each once, and their schedule remembers how they went. */
static void test_slots(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  schedule_t schedule;
  sim_create(sim, conn, "w");
  engine_request_t req = sim_schedule_of("w", 5 * MINUTE);
  sim_set(sim, conn, &req);
  for (size_t i = 1; i <= 12; i++) {
    sim_advance(sim, 5 * MINUTE);
    sim_settle(sim);
    assert_int_equal(sim->ckpts.cnt, i);
  }
  assert_int_equal(sim_schedule(sim, "w", &schedule), 1);
  assert_int_equal(schedule.run_cnt, 12);
  assert_int_equal(schedule.runs[11].ckpt_id, 12);
  assert_int_equal(schedule.runs[11].by, SCHEDULE_BY_SLOT);
  sim_free(sim);
}

/* What the rules of a schedule do not keep goes, but not what was taken by hand. */
static void test_keep(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "w");
  sim_take(sim, conn, "w");
  engine_request_t req = sim_schedule_of("w", MINUTE), list = {.method = ENGINE_CKPT_LIST};
  req.u.c.schedule.keep.last = 3;
  sim_set(sim, conn, &req);
  for (int i = 0; i < 10; i++) {
    sim_advance(sim, MINUTE);
    sim_settle(sim);
  }
  assert_int_equal(sim->ckpts.cnt, 4);
  assert_int_equal(sim_ask(sim, conn, &list)->reply.u.ckpt_list.ckpt_cnt, 4);
  sim_free(sim);
}

/* A slot that comes while a checkpoint is being taken does not begin another, and is run at its
   end; slots that passed meanwhile are one. */
static void test_slow(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "w");
  engine_request_t req = sim_schedule_of("w", MINUTE);
  sim_set(sim, conn, &req);
  sim->hold[SIM_TASK] = 1;
  sim_take(sim, conn, "w"); /* by hand, and it takes long */
  sim_advance(sim, 10 * MINUTE);
  assert_int_equal(sim_waiting(sim, SIM_TASK), 1);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  sim_advance(sim, SIM_SEC);
  sim_settle(sim);
  assert_int_equal(sim->ckpts.cnt, 2);
  sim_advance(sim, 58 * SIM_SEC);
  assert_int_equal(sim->ckpts.cnt, 2);
  sim_free(sim);
}

/* A schedule outlives a restart: slots that were missed are one run, at once; the rest goes on. */
static void test_restart(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  schedule_t before, after;
  sim_create(sim, conn, "w");
  engine_request_t req = sim_schedule_of("w", 5 * MINUTE);
  sim_set(sim, conn, &req);
  sim_advance(sim, 5 * MINUTE);
  sim_settle(sim);
  assert_int_equal(sim_schedule(sim, "w", &before), 1);
  sim->real_ns += 62 * MINUTE;
  sim_restart(sim);
  sim_advance(sim, SIM_SEC);
  sim_settle(sim);
  assert_int_equal(sim->ckpts.cnt, 2);
  assert_int_equal(sim_schedule(sim, "w", &after), 1);
  assert_int_equal(after.run_cnt, before.run_cnt + 1);
  assert_int_equal((after.due_ns - before.due_ns) % (5 * MINUTE), 0);
  assert_true(after.due_ns > sim->real_ns && after.due_ns <= sim->real_ns + 5 * MINUTE);
  sim_free(sim);
}

/* Failures in a row back off, are remembered, and end with a success. */
static void test_failures(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  schedule_t schedule;
  sim_create(sim, conn, "w");
  engine_request_t req = sim_schedule_of("w", MINUTE);
  sim_set(sim, conn, &req);
  for (int i = 0; i < 64; i++) {
    /* its worker fails, and the listing after it does not */
    if (sim_waiting(sim, SIM_TASK)) sim_answer(sim, 0, 1);
    sim_settle(sim);
    sim_advance(sim, MINUTE);
  }
  if (sim_waiting(sim, SIM_TASK)) sim_answer(sim, 0, 1);
  sim_settle(sim);
  uint64_t runs = sim->task_cnt[ENGINE_OP_CHECKPOINT];
  assert_in_range(runs, 5, 9); /* after 1, 2, 4, 8, 16 and 32 intervals */
  assert_int_equal(sim_schedule(sim, "w", &schedule), 1);
  assert_in_range(schedule.fail_cnt, 5, 9);
  sim_take(sim, conn, "w");
  sim_settle(sim);
  assert_int_equal(sim_schedule(sim, "w", &schedule), 1);
  assert_int_equal(schedule.fail_cnt, 0);
  sim_free(sim);
}

/* A thousand schedules cost nothing while none is due, run as many at a time as may, and all run.
 */
static void test_thousand(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  char name[16];
  sim->check_every = 500;
  for (int i = 0; i < 1000; i++) {
    snprintf(name, sizeof(name), "w%d", i);
    sim_create(sim, conn, name);
    engine_request_t req = sim_schedule_of(name, 60 * MINUTE);
    req.u.c.schedule.jitter_ns = 10 * MINUTE;
    sim_set(sim, conn, &req);
  }
  uint64_t steps = sim->step_cnt;
  sim_advance(sim, 59 * MINUTE);
  assert_int_equal(sim->step_cnt, steps); /* nobody woke it */
  sim->hold[SIM_TASK] = 1;
  sim_advance(sim, 12 * MINUTE);
  assert_int_equal(sim_waiting(sim, SIM_TASK), ENGINE_TASKS_RUNNING_DEFAULT);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(sim->ckpts.cnt, 1000);
  sim_free(sim);
}

/* Schedules go with their workspace, and with a name that another owner takes. */
static void test_forget(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 5, 5);
  schedule_t schedule;
  sim_create(sim, conn, "w");
  engine_request_t req = sim_schedule_of("w", MINUTE), get = {.method = ENGINE_SCHEDULE_GET};
  sim_set(sim, conn, &req);
  sim_delete(sim, conn, "w", 0);
  assert_int_equal(sim_schedule(sim, "w", &schedule), 0);
  snprintf(get.u.c.schedule_get.name, ENGINE_TEXT_MAX, "w");
  assert_int_equal(sim_code(sim_ask(sim, conn, &get)), ENGINE_CODE_NOT_FOUND);

  sim_create(sim, conn, "w");
  assert_null(sim_ask(sim, conn, &get)->reply.u.schedule);
  sim_set(sim, conn, &req);
  req.u.c.schedule.drop = 1;
  sim_set(sim, conn, &req);
  assert_int_equal(sim_schedule(sim, "w", &schedule), 0);
  sim_free(sim);
}

/* What cannot be is refused with its value, and changes nothing. */
static void test_refused(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 5, 5), other = sim_conn(sim, 6, 6);
  schedule_t schedule;
  sim_create(sim, conn, "w");
  engine_request_t bad[9];
  for (size_t i = 0; i < 9; i++) bad[i] = sim_schedule_of("w", MINUTE);
  bad[0].u.c.schedule.every_ns = 1;
  bad[1].u.c.schedule.every_ns = UINT64_MAX;
  bad[2].u.c.schedule.jitter_ns = MINUTE;
  bad[3].u.c.schedule.mode = 7;
  bad[4].u.c.schedule.style = -1;
  bad[5].u.c.schedule.level = 3;
  bad[6].u.c.schedule.keep.monthly = SCHEDULE_KEEP_MAX + 1;
  bad[7].u.c.schedule.on_stop = 2;
  bad[8].u.c.schedule.on_start = -1;
  for (size_t i = 0; i < 9; i++)
    assert_int_equal(sim_code(sim_ask(sim, conn, &bad[i])), ENGINE_CODE_INVALID_ARGUMENT);
  engine_request_t req = sim_schedule_of("w", MINUTE);
  assert_int_equal(sim_code(sim_ask(sim, other, &req)), ENGINE_CODE_NOT_FOUND);
  req = sim_schedule_of("none", MINUTE);
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim_schedule(sim, "w", &schedule), 0);
  sim->fail_next[SIM_SCHEDULE] = 1;
  req = sim_schedule_of("w", MINUTE);
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_INTERNAL);
  sim_free(sim);
}

/* A stop checkpoints what is to be, and ends when that is done; jobs by hand are cancelled, and
   what has no such schedule is left alone. */
static void test_stop(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  char const *const names[] = {"a", "b", "c"};
  sim->hold[SIM_TASK] = 1;
  for (size_t i = 0; i < 3; i++) {
    sim_create(sim, conn, names[i]);
    engine_request_t req = sim_schedule_of(names[i], 0);
    req.u.c.schedule.on_stop = i < 2;
    sim_set(sim, conn, &req);
  }
  sim_take(sim, conn, "a");
  sim_take(sim, conn, "c");
  sim_step_kind(sim, ENGINE_EV_STOP);
  assert_int_equal(sim->stopped, 0);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(sim->stopped, 1);
  assert_int_equal(sim->ckpts.cnt, 2);
  for (size_t i = 0; i < 2; i++) {
    assert_int_equal(sim->ckpts.items[i].by, SCHEDULE_BY_STOP);
    assert_string_equal(sim->ckpts.items[i].spec.name, names[i]);
  }
  sim_free(sim);
}

/* A second STOP gives up the checkpoints of the first. */
static void test_stop_again(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "a");
  engine_request_t req = sim_schedule_of("a", 0);
  req.u.c.schedule.on_stop = 1;
  sim_set(sim, conn, &req);
  sim->hold[SIM_TASK] = 1;
  sim_step_kind(sim, ENGINE_EV_STOP);
  sim_step_kind(sim, ENGINE_EV_STOP);
  assert_int_equal(sim->cancel_cnt, 1);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(sim->stopped, 1);
  assert_int_equal(sim->ckpts.cnt, 0);
  sim_free(sim);
}

/* Takes away memory and spec, as a reboot does. */
static void reboot(sim_t *sim) {
  sim->memory.cnt = sim->disk.cnt = sim->published.cnt = 0;
  sim_restart(sim);
}

/* A workspace whose memory is lost comes back from its newest checkpoint, if its schedule says so,
   and goes on with its store; one whose schedule does not stays away. */
static void test_start(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  for (int i = 0; i < 2; i++) {
    char const *name = i ? "stays" : "comes";
    sim_create(sim, conn, name);
    sim_take(sim, conn, name);
    engine_request_t req = sim_schedule_of(name, MINUTE);
    req.u.c.schedule.on_start = !i;
    sim_set(sim, conn, &req);
  }
  sim_take(sim, conn, "comes");
  uint64_t store_id = sim->ckpts.items[0].store_id;
  reboot(sim);
  conn = sim_conn(sim, 0, 0);
  /* whoever asks for it meanwhile waits for what is under way */
  engine_request_t restore = sim_restore_of(sim, "comes", "", 1);
  assert_int_equal(sim_code(sim_ask(sim, conn, &restore)), ENGINE_CODE_OK);
  sim_settle(sim);
  assert_int_equal(sim_code(sim_get(sim, conn, "comes")), ENGINE_CODE_OK);
  assert_int_equal(sim_code(sim_get(sim, conn, "stays")), ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim->task_cnt[ENGINE_OP_RESTORE], 1);
  sim_take(sim, conn, "comes");
  assert_int_equal(sim->ckpts.items[sim->ckpts.cnt - 1].store_id, store_id);
  sim_free(sim);
}

/* If the newest checkpoint turns out to be damaged the one before it is taken, and so on. */
static void test_start_damaged(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "w");
  for (int i = 0; i < 5; i++) sim_take(sim, conn, "w");
  engine_request_t req = sim_schedule_of("w", 0);
  req.u.c.schedule.on_start = 1;
  sim_set(sim, conn, &req);
  sim->worker_status = ENGINE_WORKER_DAMAGED;
  sim->hold[SIM_TASK] = 1;
  reboot(sim);
  sim_settle(sim);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(sim_waiting(sim, SIM_TASK), 1);
    assert_int_equal(sim->pending.items[0].ask.number, 5 - i);
    sim_answer(sim, 0, 1);
    sim_settle(sim);
  }
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  conn = sim_conn(sim, 0, 0);
  assert_int_equal(sim_code(sim_get(sim, conn, "w")), ENGINE_CODE_OK);
  assert_int_equal(sim->task_cnt[ENGINE_OP_RESTORE], 3);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_slots),    cmocka_unit_test(test_keep),
      cmocka_unit_test(test_slow),     cmocka_unit_test(test_restart),
      cmocka_unit_test(test_failures), cmocka_unit_test(test_thousand),
      cmocka_unit_test(test_forget),   cmocka_unit_test(test_refused),
      cmocka_unit_test(test_stop),     cmocka_unit_test(test_stop_again),
      cmocka_unit_test(test_start),    cmocka_unit_test(test_start_damaged)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
