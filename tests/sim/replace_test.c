/* replace_test: restores in place: whatever fails, and wherever the process ends, the name has the
   old content or the new one, and it is one of them that clients have. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"

static engine_request_t in_place(sim_t *sim, char const *name, int wait) {
  engine_request_t req = sim_restore_of(sim, name, "", wait);
  req.u.c.restore.in_place = 1;
  return req;
}

/* A workspace and a checkpoint of it. */
static uint64_t begin(sim_t *sim, uint64_t conn) {
  uint64_t ws_id = sim_create(sim, conn, "w")->view.spec.ws_id;
  sim_take(sim, conn, "w");
  return ws_id;
}

static uint64_t id_of(sim_t *sim, uint64_t conn) {
  sim_request_t *get = sim_get(sim, conn, "w");
  assert_int_equal(sim_code(get), ENGINE_CODE_OK);
  assert_false(get->view.quarantined);
  return get->view.spec.ws_id;
}

/* The new one has the name, the owner and the mode of the old one, of which nothing is left; and it
   is another one, by id and uuid. Watches are told. It can be restored again, and removed. */
static void test_replaces(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t root = sim_conn(sim, 0, 0), conn = sim_conn(sim, 5, 5);
  sim->keep_events = 1;
  uint64_t old = begin(sim, conn);
  spec_t before = sim_get(sim, conn, "w")->view.spec;
  uint32_t watch = sim_send_named(sim, conn, ENGINE_WATCH, "w", 0);
  for (int i = 1; i < 3; i++) {
    engine_request_t req = in_place(sim, "w", 1);
    sim_request_t *restored = sim_ask(sim, root, &req);
    assert_int_equal(sim_code(restored), ENGINE_CODE_OK);
    spec_t after = sim_get(sim, conn, "w")->view.spec;
    assert_int_equal(after.replaces, i == 1 ? old : before.ws_id);
    assert_int_not_equal(after.ws_id, before.ws_id);
    assert_memory_not_equal(after.uuid, before.uuid, 16);
    assert_int_equal(after.uid, 5);
    assert_int_equal(after.mode, before.mode);
    assert_int_equal(sim->memory.cnt, 1);
    assert_int_equal(sim->disk.cnt, 1);
    assert_int_equal(sim_events(sim, conn, watch, ENGINE_EVENT_REMOVED, "w"), i);
    assert_int_equal(sim_events(sim, conn, watch, ENGINE_EVENT_RESTORED, "w"), i);
    before = after;
  }
  assert_int_equal(sim_code(sim_delete(sim, conn, "w", 0)), ENGINE_CODE_OK);
  sim_restart(sim);
  sim_settle(sim);
  conn = sim_conn(sim, 5, 5);
  assert_int_equal(sim_code(sim_get(sim, conn, "w")), ENGINE_CODE_NOT_FOUND);
  sim_free(sim);
}

/* Who is attached is named, and nothing is begun; nor for who may not remove it, or for what is not
   there. */
static void test_refused(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 5, 5), other = sim_conn(sim, 6, 6);
  uint64_t old = begin(sim, conn);
  uint64_t lease = sim_open(sim, conn, "w", ENGINE_OPEN_RO)->reply.u.open.lease_id;
  engine_request_t req = in_place(sim, "w", 1);
  sim_request_t *refused = sim_ask(sim, conn, &req);
  assert_int_equal(sim_code(refused), ENGINE_CODE_FAILED_PRECONDITION);
  assert_string_equal(refused->reply.detail_kind, "attached");
  assert_non_null(strstr(refused->reply.sentence, "attached by pid "));
  assert_non_null(strstr(refused->reply.sentence, "(uid 5)"));
  assert_int_equal(sim->memory.cnt, 1);
  sim_hangup(sim, lease);
  sim_settle(sim);
  assert_int_equal(sim_code(sim_ask(sim, other, &req)), ENGINE_CODE_NOT_FOUND);
  assert_int_equal(id_of(sim, conn), old);
  snprintf(req.u.c.restore.as, ENGINE_TEXT_MAX, "none");
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_NOT_FOUND);
  sim_free(sim);
}

/* While it goes on nobody is let in, and nobody changes the old one; readers of its name see it.
   When it is cancelled all of that is over. */
static void test_meanwhile(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  uint64_t old = begin(sim, conn);
  engine_request_t req = in_place(sim, "w", 0), take = sim_checkpoint_of("w");
  sim->hold[SIM_TASK] = 1;
  uint64_t job_id = sim_ask(sim, conn, &req)->reply.u.restore.job_id;
  assert_int_equal(id_of(sim, conn), old);
  assert_int_equal(sim_code(sim_open(sim, conn, "w", ENGINE_OPEN_RO)), ENGINE_CODE_UNAVAILABLE);
  assert_int_equal(sim_code(sim_open(sim, conn, "w", ENGINE_OPEN_RW)), ENGINE_CODE_UNAVAILABLE);
  assert_int_equal(sim_code(sim_delete(sim, conn, "w", 1)), ENGINE_CODE_UNAVAILABLE);
  assert_int_equal(sim_code(sim_ask(sim, conn, &take)), ENGINE_CODE_UNAVAILABLE);
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_UNAVAILABLE);
  assert_int_equal(sim_code(sim_create(sim, conn, "w")), ENGINE_CODE_ALREADY_EXISTS);
  engine_request_t cancel = sim_job_of(ENGINE_JOB_CANCEL, job_id);
  assert_int_equal(sim_code(sim_ask(sim, conn, &cancel)), ENGINE_CODE_OK);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(id_of(sim, conn), old);
  assert_int_equal(sim->memory.cnt, 1);
  assert_int_equal(sim_code(sim_open(sim, conn, "w", ENGINE_OPEN_RW)), ENGINE_CODE_OK);
  sim_free(sim);
}

/* A failure at any step leaves the old one, which is served again. */
static void test_fails(void **state) {
  static int const at[] = {SIM_PERSISTED, SIM_MEMORY, SIM_TASK};
  for (size_t i = 0; i < 3; i++) {
    sim_t *sim = sim_new(1, NULL);
    uint64_t conn = sim_conn(sim, 0, 0);
    uint64_t old = begin(sim, conn);
    sim->fail_next[at[i]] = 1;
    engine_request_t req = in_place(sim, "w", 1);
    assert_int_not_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_OK);
    assert_int_equal(id_of(sim, conn), old);
    assert_int_equal(sim->memory.cnt, 1);
    assert_int_equal(sim->disk.cnt, 1);
    assert_int_equal(sim_code(sim_open(sim, conn, "w", ENGINE_OPEN_RW)), ENGINE_CODE_OK);
    sim_free(sim);
  }
}

/* The process ends while any answer is awaited, and whether what was asked for has happened or not:
   the name is there after the start, once, with memory; the old one until the spec that says that
   it was replaced is on disk, the new one from then on. */
static void test_killed(void **state) {
  static int const at[] = {SIM_PERSISTED, SIM_MEMORY, SIM_TASK, SIM_REMOVED};
  int was_old = 0, was_new = 0;
  for (uint64_t seed = 1; seed <= 16; seed++)
    for (size_t i = 0; i < 4; i++)
      for (int second = 0; second < 2; second++) {
        sim_t *sim = sim_new(seed, NULL);
        uint64_t conn = sim_conn(sim, 0, 0);
        uint64_t old = begin(sim, conn);
        engine_request_t req = in_place(sim, "w", 0);
        sim->hold[at[i]] = !second;
        sim->hold[SIM_TASK] = second || at[i] == SIM_TASK;
        (void)sim_ask(sim, conn, &req);
        if (second) { /* the same kind of answer, but a later one */
          sim->hold[at[i]] = 1;
          sim->hold[SIM_TASK] = at[i] == SIM_TASK;
          sim_settle(sim);
        }
        sim_restart(sim);
        memset(sim->hold, 0, sizeof(sim->hold));
        sim_settle(sim);
        conn = sim_conn(sim, 0, 0);
        uint64_t is = id_of(sim, conn);
        was_old += is == old;
        was_new += is != old;
        assert_int_equal(sim->memory.cnt, 1);
        assert_int_equal(sim->disk.cnt, 1);
        assert_int_equal(sim_code(sim_open(sim, conn, "w", ENGINE_OPEN_RW)), ENGINE_CODE_OK);
        sim_free(sim);
      }
  assert_true(was_old && was_new);
}

/* A disk that refuses to say that the old one has gone: until it does, the new one is neither
   removed nor replaced, and a start brings no old one back. */
static void test_old_stays(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  uint64_t old = begin(sim, conn);
  engine_request_t req = in_place(sim, "w", 1);
  sim->fail_next[SIM_REMOVED] = 1;
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_OK);
  assert_int_not_equal(id_of(sim, conn), old);
  assert_int_equal(sim_code(sim_delete(sim, conn, "w", 0)), ENGINE_CODE_UNAVAILABLE);
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_UNAVAILABLE);
  sim_restart(sim);
  sim_settle(sim);
  conn = sim_conn(sim, 0, 0);
  assert_int_not_equal(id_of(sim, conn), old);
  assert_int_equal(sim->disk.cnt, 1);
  assert_int_equal(sim_code(sim_delete(sim, conn, "w", 0)), ENGINE_CODE_OK);
  sim_free(sim);
}

/* Who removes it, or restores it again, while the old one is just going waits for that; a second
   one is told to try again, and who waits is told if the disk refuses. */
static void test_waits(void **state) {
  for (int how = 0; how < 3; how++) {
    sim_t *sim = sim_new(1, NULL);
    uint64_t conn = sim_conn(sim, 0, 0);
    begin(sim, conn);
    engine_request_t req = in_place(sim, "w", 1), again = in_place(sim, "w", 0);
    sim->hold[SIM_REMOVED] = 1;
    assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_OK);
    uint64_t was = id_of(sim, conn);
    uint32_t waits = how == 1 ? sim_send(sim, conn, &again, 0)
                              : sim_send_named(sim, conn, ENGINE_DELETE, "w", 0);
    sim_settle(sim);
    sim_unanswered(sim, conn, waits);
    assert_int_equal(sim_code(sim_delete(sim, conn, "w", 0)), ENGINE_CODE_UNAVAILABLE);
    assert_int_equal(id_of(sim, conn), was);
    sim->fail_next[SIM_REMOVED] = how == 2;
    sim->hold[SIM_REMOVED] = 0;
    sim_settle(sim);
    assert_int_equal(sim_reply(sim, conn, waits)->code,
                     how == 2 ? ENGINE_CODE_UNAVAILABLE : ENGINE_CODE_OK);
    if (how == 0)
      assert_int_equal(sim_code(sim_get(sim, conn, "w")), ENGINE_CODE_NOT_FOUND);
    else
      assert_int_equal(id_of(sim, conn) == was, how == 2);
    sim_free(sim);
  }
}

/* Who waited and went, by his own will or at a stop, is no removal. */
static void test_waits_no_more(void **state) {
  for (int stop = 0; stop < 2; stop++) {
    sim_t *sim = sim_new(1, NULL);
    uint64_t conn = sim_conn(sim, 0, 0), other = sim_conn(sim, 0, 0);
    begin(sim, conn);
    engine_request_t req = in_place(sim, "w", 1);
    sim->hold[SIM_REMOVED] = 1;
    assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_OK);
    uint32_t waits = sim_send_named(sim, other, ENGINE_DELETE, "w", 0);
    sim_unanswered(sim, other, waits);
    if (stop)
      sim_step_kind(sim, ENGINE_EV_STOP);
    else
      sim_close(sim, other);
    if (stop) assert_int_equal(sim_reply(sim, other, waits)->code, ENGINE_CODE_UNAVAILABLE);
    sim->hold[SIM_REMOVED] = 0;
    sim_settle(sim);
    if (stop) sim_restart(sim);
    sim_settle(sim);
    (void)id_of(sim, sim_conn(sim, 0, 0));
    sim_free(sim);
  }
}

/* A schedule goes on as it was, and its checkpoints go to the same store. */
static void test_schedule(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  schedule_t schedule;
  begin(sim, conn);
  engine_request_t set = sim_schedule_of("w", 60 * SIM_SEC), req = in_place(sim, "w", 1);
  sim_set(sim, conn, &set);
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_OK);
  assert_true(sim_schedule(sim, "w", &schedule));
  sim_advance(sim, 61 * SIM_SEC);
  sim_settle(sim);
  assert_int_equal(sim->ckpts.cnt, 2);
  assert_int_equal(sim->ckpts.items[0].store_id, sim->ckpts.items[1].store_id);
  assert_int_equal(sim->ckpts.items[1].spec.replaces, 0);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_replaces),     cmocka_unit_test(test_refused),
      cmocka_unit_test(test_meanwhile),    cmocka_unit_test(test_fails),
      cmocka_unit_test(test_killed),       cmocka_unit_test(test_old_stays),
      cmocka_unit_test(test_schedule),     cmocka_unit_test(test_waits),
      cmocka_unit_test(test_waits_no_more)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
