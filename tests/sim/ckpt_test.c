/* ckpt_test: checkpoints and restores, one scenario at a time. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"

/* A checkpoint is answered with a job at once; the checkpoint is there when the job has ended, not
   before, and events tell of it. */
static void test_checkpoint(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim->keep_events = 1;
  sim_create(sim, conn, "w");
  uint32_t watch = sim_send_named(sim, conn, ENGINE_WATCH, "w", 0);

  engine_request_t req = sim_checkpoint_of("w"), list = {.method = ENGINE_CKPT_LIST};
  sim->hold[SIM_TASK] = 1;
  uint64_t job_id = sim_ask(sim, conn, &req)->reply.u.job.job_id;
  assert_true(job_id);
  assert_int_equal(sim_ask(sim, conn, &list)->reply.u.ckpt_list.ckpt_cnt, 0);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(sim_ask(sim, conn, &list)->reply.u.ckpt_list.ckpt_cnt, 1);
  assert_int_equal(sim_events(sim, conn, watch, ENGINE_EVENT_CHECKPOINTED, "w"), 1);
  sim_free(sim);
}

/* Who follows a job is told its state at once, its progress, and its end; then the stream ends. Of
   one that has ended he is told so. */
static void test_watch(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim->keep_events = 1;
  sim_create(sim, conn, "w");
  sim->hold[SIM_TASK] = 1;
  engine_request_t req = sim_checkpoint_of("w");
  uint64_t job_id = sim_ask(sim, conn, &req)->reply.u.job.job_id;
  engine_request_t watch = sim_job_of(ENGINE_JOB_WATCH, job_id);

  uint32_t stream = sim_send(sim, conn, &watch, 0);
  sim_unanswered(sim, conn, stream);
  assert_int_equal(sim_told(sim, job_id)->state, ENGINE_TASK_RUNNING);
  sim_progress(sim, job_id, 300, 1000);
  assert_int_equal(sim_told(sim, job_id)->done_size, 300);
  assert_int_equal(sim_told(sim, job_id)->total_size, 1000);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(sim_told(sim, job_id)->state, ENGINE_TASK_DONE);
  assert_int_equal(sim_told(sim, job_id)->number, 1);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_OK);

  sim->tasks.cnt = 0;
  assert_int_equal(sim_code(sim_ask(sim, conn, &watch)), ENGINE_CODE_OK);
  assert_int_equal(sim_told(sim, job_id)->state, ENGINE_TASK_DONE);
  watch = sim_job_of(ENGINE_JOB_WATCH, 77);
  assert_int_equal(sim_code(sim_ask(sim, conn, &watch)), ENGINE_CODE_NOT_FOUND);
  sim_free(sim);
}

/* Of one workspace one checkpoint is taken at a time: a second request is refused and names the
   job; of several workspaces as many as may are. */
static void test_no_overlap(void **state) {
  engine_config_t config = {.tasks_running_max = 2};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, 0, 0);
  char const *const names[] = {"a", "b", "c"};
  sim->hold[SIM_TASK] = 1;
  for (size_t i = 0; i < 3; i++) {
    sim_create(sim, conn, names[i]);
    sim_take(sim, conn, names[i]);
  }
  assert_int_equal(sim_waiting(sim, SIM_TASK), 2);
  engine_request_t req = sim_checkpoint_of("a");
  sim_request_t *again = sim_ask(sim, conn, &req);
  assert_int_equal(sim_code(again), ENGINE_CODE_UNAVAILABLE);
  assert_string_equal(again->reply.detail_kind, "busy");
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(sim->ckpts.cnt, 3);
  assert_int_equal(sim_code(sim_ask(sim, conn, &req)), ENGINE_CODE_OK);
  sim_free(sim);
}

/* A query does not wait for checkpoints, however many there are. */
static void test_places(void **state) {
  engine_config_t config = {.tasks_running_max = 1, .jobs_running_max = 1};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim->hold[SIM_TASK] = 1;
  sim_create(sim, conn, "a");
  sim_create(sim, conn, "b");
  sim_take(sim, conn, "a");
  sim_take(sim, conn, "b");
  uint32_t stream = sim_send_named(sim, conn, ENGINE_COMPACT, "a", 0);
  sim_settle(sim);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* Before it is known what checkpoints there are, requests wait for it; if it cannot be known they
   are refused, and it is tried again by itself. */
static void test_listing(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "w");
  sim_take(sim, conn, "w");
  sim->hold_list = 1;
  sim_restart(sim);
  conn = sim_conn(sim, 0, 0);
  engine_request_t list = {.method = ENGINE_CKPT_LIST};
  uint32_t stream = sim_send(sim, conn, &list, 0);
  sim_unanswered(sim, conn, stream);
  sim_settle(sim);
  assert_int_equal(sim_reply(sim, conn, stream)->u.ckpt_list.ckpt_cnt, 1);

  sim_restart(sim);
  conn = sim_conn(sim, 0, 0);
  stream = sim_send(sim, conn, &list, 0);
  sim->fail_next[SIM_TASK] = 1;
  sim_settle(sim);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_UNAVAILABLE);
  assert_int_equal(sim_code(sim_ask(sim, conn, &list)), ENGINE_CODE_UNAVAILABLE);
  sim_advance(sim, 11 * SIM_SEC);
  sim_settle(sim);
  assert_int_equal(sim_ask(sim, conn, &list)->reply.u.ckpt_list.ckpt_cnt, 1);
  sim_free(sim);
}

/* If there is no store nothing is listed, and all goes on at once. */
static void test_no_store(void **state) {
  engine_config_t config = {.no_ckpts = 1};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, 0, 0);
  engine_request_t list = {.method = ENGINE_CKPT_LIST}, set = sim_schedule_of("w", 60 * SIM_SEC);
  assert_int_equal(sim->task_cnt[ENGINE_OP_CKPT_LIST], 0);
  assert_int_equal(sim_ask(sim, conn, &list)->reply.u.ckpt_list.ckpt_cnt, 0);
  sim_create(sim, conn, "w");
  sim_set(sim, conn, &set);
  sim_restart(sim); /* whose schedules begin without a listing, too */
  sim_advance(sim, 61 * SIM_SEC);
  sim_settle(sim);
  assert_int_equal(sim->task_cnt[ENGINE_OP_CKPT_LIST], 0);
  assert_int_equal(sim->ckpts.cnt, 1);
  sim_free(sim);
}

/* A worker that is killed after it published and before it said so: the checkpoint is found. */
static void test_killed_worker(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "w");
  sim->fail_next[SIM_TASK] = 1;
  sim->fail_writes = 1;
  uint64_t job_id = sim_take(sim, conn, "w");
  sim->keep_events = 1;
  engine_request_t watch = sim_job_of(ENGINE_JOB_WATCH, job_id),
                   list = {.method = ENGINE_CKPT_LIST};
  sim_ask(sim, conn, &watch);
  assert_int_equal(sim_told(sim, job_id)->state, ENGINE_TASK_FAILED);
  assert_int_equal(sim_told(sim, job_id)->code, ENGINE_CODE_INTERNAL);
  assert_int_equal(sim_ask(sim, conn, &list)->reply.u.ckpt_list.ckpt_cnt, 1);
  sim_free(sim);
}

/* A job that is cancelled ends so, queued or running; who did not begin it may not, unless the
   workspace is his. */
static void test_cancel(void **state) {
  engine_config_t config = {.tasks_running_max = 1};
  sim_t *sim = sim_new(1, &config);
  uint64_t root = sim_conn(sim, 0, 0), other = sim_conn(sim, 7, 7);
  sim->hold[SIM_TASK] = 1;
  sim->keep_events = 1;
  sim_create(sim, root, "a");
  sim_create(sim, root, "b");
  uint64_t running = sim_take(sim, root, "a"), queued = sim_take(sim, root, "b");
  engine_request_t cancel = sim_job_of(ENGINE_JOB_CANCEL, queued);
  assert_int_equal(sim_code(sim_ask(sim, other, &cancel)), ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim_code(sim_ask(sim, root, &cancel)), ENGINE_CODE_OK);
  assert_int_equal(sim_code(sim_ask(sim, root, &cancel)), ENGINE_CODE_FAILED_PRECONDITION);
  cancel = sim_job_of(ENGINE_JOB_CANCEL, running);
  engine_request_t watch = sim_job_of(ENGINE_JOB_WATCH, running);
  uint32_t stream = sim_send(sim, root, &watch, 0);
  assert_int_equal(sim_code(sim_ask(sim, root, &cancel)), ENGINE_CODE_OK);
  sim_unanswered(sim, root, stream);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(sim_told(sim, running)->state, ENGINE_TASK_CANCELLED);
  assert_int_equal(sim->ckpts.cnt, 0);
  sim_free(sim);
}

/* Rights: a checkpoint takes those to read and write; removing one is for its owner; showing one
   takes those to read. */
static void test_rights(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t owner = sim_conn(sim, 5, 5), other = sim_conn(sim, 6, 6);
  sim_create(sim, owner, "w");
  engine_request_t req = sim_checkpoint_of("w"), remove = {.method = ENGINE_CKPT_REMOVE},
                   show = {.method = ENGINE_CKPT_SHOW}, restore = sim_restore_of(sim, "w", "x", 1);
  assert_int_equal(sim_code(sim_ask(sim, other, &req)), ENGINE_CODE_NOT_FOUND);
  sim_take(sim, owner, "w");
  snprintf(remove.u.c.ckpt.id, ENGINE_TEXT_MAX, "1.1");
  snprintf(show.u.c.ckpt.id, ENGINE_TEXT_MAX, "1.1");
  assert_int_equal(sim_code(sim_ask(sim, other, &remove)), ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim_code(sim_ask(sim, other, &show)), ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim_code(sim_ask(sim, other, &restore)), ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim_code(sim_ask(sim, owner, &show)), ENGINE_CODE_OK);
  assert_int_equal(sim_code(sim_ask(sim, owner, &remove)), ENGINE_CODE_OK);
  assert_int_equal(sim_code(sim_ask(sim, owner, &remove)), ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim->ckpts.cnt, 0);
  sim_free(sim);
}

/* A restore makes a workspace that nobody sees before it is filled and verified; its name is taken
   meanwhile. */
static void test_restore(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "w");
  sim_take(sim, conn, "w");
  sim->hold[SIM_TASK] = 1;
  engine_request_t restore = sim_restore_of(sim, "w", "x", 0);
  sim_request_t *request = sim_ask(sim, conn, &restore);
  assert_int_equal(sim_code(request), ENGINE_CODE_OK);
  assert_true(request->reply.u.restore.job_id);
  assert_int_equal(sim_code(sim_get(sim, conn, "x")), ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim_code(sim_create(sim, conn, "x")), ENGINE_CODE_ALREADY_EXISTS);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  sim_request_t *get = sim_get(sim, conn, "x");
  assert_int_equal(sim_code(get), ENGINE_CODE_OK);
  assert_int_equal(get->view.spec.data_max, sim_ckpt(sim, 1, 1)->data_max);
  restore = sim_restore_of(sim, "w", "", 1);
  assert_int_equal(sim_code(sim_ask(sim, conn, &restore)), ENGINE_CODE_ALREADY_EXISTS);
  restore = sim_restore_of(sim, "none", "", 1);
  assert_int_equal(sim_code(sim_ask(sim, conn, &restore)), ENGINE_CODE_NOT_FOUND);
  sim_free(sim);
}

/* A restore that fails, at whatever step, leaves nothing: no name, no memory, no spec; and the
   checkpoint is as it was. */
static void test_restore_fails(void **state) {
  static int const at[] = {SIM_PERSISTED, SIM_MEMORY, SIM_TASK};
  for (size_t i = 0; i < 3; i++) {
    sim_t *sim = sim_new(1, NULL);
    uint64_t conn = sim_conn(sim, 0, 0);
    sim_create(sim, conn, "w");
    sim_take(sim, conn, "w");
    sim->fail_next[at[i]] = 1;
    engine_request_t restore = sim_restore_of(sim, "w", "x", 1);
    assert_int_not_equal(sim_code(sim_ask(sim, conn, &restore)), ENGINE_CODE_OK);
    assert_int_equal(sim->memory.cnt, 1);
    assert_int_equal(sim->disk.cnt, 1);
    assert_int_equal(sim_code(sim_ask(sim, conn, &restore)), ENGINE_CODE_OK);
    sim_free(sim);
  }
}

/* A restore that is cancelled, or whose caller is gone, or which a restart interrupts, is undone,
   wherever it is. */
static void test_restore_given_up(void **state) {
  static int const at[] = {SIM_PERSISTED, SIM_MEMORY, SIM_TASK};
  for (size_t i = 0; i < 9; i++) {
    sim_t *sim = sim_new(1, NULL);
    uint64_t conn = sim_conn(sim, 0, 0), caller = sim_conn(sim, 0, 0);
    int how = (int)(i / 3);
    sim_create(sim, conn, "w");
    sim_take(sim, conn, "w");
    sim->hold[at[i % 3]] = 1;
    engine_request_t restore = sim_restore_of(sim, "w", "x", how == 1);
    uint32_t stream = sim_send(sim, caller, &restore, 0);
    sim_settle(sim);
    if (how == 0) {
      engine_request_t cancel =
          sim_job_of(ENGINE_JOB_CANCEL, sim_reply(sim, caller, stream)->u.restore.job_id);
      assert_int_equal(sim_code(sim_ask(sim, conn, &cancel)), ENGINE_CODE_OK);
    } else if (how == 1) {
      sim_close(sim, caller);
    }
    sim->hold[at[i % 3]] = 0;
    if (how == 2) sim_restart(sim);
    sim_settle(sim);
    assert_int_equal(sim->memory.cnt, 1);
    assert_int_equal(sim->disk.cnt, 1);
    assert_int_equal(sim->ckpts.cnt, 1);
    sim_free(sim);
  }
}

/* A checkpoint of a workspace that is removed meanwhile is cancelled. */
static void test_removed(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim->keep_events = 1;
  sim_create(sim, conn, "w");
  sim->hold[SIM_TASK] = 1;
  uint64_t job_id = sim_take(sim, conn, "w");
  engine_request_t watch = sim_job_of(ENGINE_JOB_WATCH, job_id);
  sim_send(sim, conn, &watch, 0);
  assert_int_equal(sim_code(sim_delete(sim, conn, "w", 0)), ENGINE_CODE_OK);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(sim_told(sim, job_id)->state, ENGINE_TASK_CANCELLED);
  sim_free(sim);
}

/* What a check finds is known from then on: a damaged checkpoint is not restored. */
static void test_verify(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "w");
  sim_take(sim, conn, "w");
  engine_request_t verify = {.method = ENGINE_CKPT_VERIFY},
                   restore = sim_restore_of(sim, "w", "x", 1);
  snprintf(verify.u.c.ckpt.id, ENGINE_TEXT_MAX, "1.1");
  assert_int_equal(sim_code(sim_ask(sim, conn, &verify)), ENGINE_CODE_OK);
  sim->worker_status = ENGINE_WORKER_DAMAGED;
  sim->fail_next[SIM_TASK] = 1;
  assert_int_equal(sim_code(sim_ask(sim, conn, &verify)), ENGINE_CODE_OK);
  assert_int_equal(sim_code(sim_ask(sim, conn, &restore)), ENGINE_CODE_NOT_FOUND);
  snprintf(restore.u.c.restore.from, ENGINE_TEXT_MAX, "1.1");
  assert_int_equal(sim_code(sim_ask(sim, conn, &restore)), ENGINE_CODE_DATA_LOSS);
  snprintf(verify.u.c.ckpt.id, ENGINE_TEXT_MAX, "1.x");
  assert_int_equal(sim_code(sim_ask(sim, conn, &verify)), ENGINE_CODE_INVALID_ARGUMENT);
  sim_free(sim);
}

/* Once damage was found in a store, the next checkpoint relies on nothing in it, as long as that
   has not been taken; also if what there is was listed again meanwhile. */
static void test_doubt(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "w");
  sim_take(sim, conn, "w");
  sim_take(sim, conn, "w");
  assert_false(sim->asked.fresh);
  engine_request_t verify = {.method = ENGINE_CKPT_VERIFY}, list = {.method = ENGINE_CKPT_LIST};
  snprintf(verify.u.c.ckpt.id, ENGINE_TEXT_MAX, "1.1");
  sim->worker_status = ENGINE_WORKER_DAMAGED;
  sim->fail_next[SIM_TASK] = 1;
  assert_int_equal(sim_code(sim_ask(sim, conn, &verify)), ENGINE_CODE_OK);
  sim_settle(sim);
  sim->worker_status = ENGINE_WORKER_KILLED;
  sim->fail_next[SIM_TASK] = 1; /* so that its store is listed again */
  sim_take(sim, conn, "w");
  sim_settle(sim);
  assert_true(sim->asked.fresh);
  engine_reply_t const *reply = &sim_ask(sim, conn, &list)->reply;
  assert_true(reply->u.ckpt_list.ckpt_cnt >= 2);
  assert_true(reply->u.ckpt_list.ckpts[0].bad[0]);
  sim_take(sim, conn, "w");
  assert_int_equal(sim->asked.fresh, reply->u.ckpt_list.ckpt_cnt == 2);
  sim_settle(sim);
  sim_take(sim, conn, "w");
  assert_false(sim->asked.fresh);
  sim_free(sim);
}

/* Nothing is removed from a store while a restore or a verify reads it: a removal waits, a
   checkpoint is taken and leaves the removing to the next. */
static void test_readers(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "w");
  sim_take(sim, conn, "w");
  sim_settle(sim);
  engine_request_t verify = {.method = ENGINE_CKPT_VERIFY}, gone = {.method = ENGINE_CKPT_REMOVE};
  snprintf(verify.u.c.ckpt.id, ENGINE_TEXT_MAX, "1.1");
  snprintf(gone.u.c.ckpt.id, ENGINE_TEXT_MAX, "1.1");
  sim->hold[SIM_TASK] = 1;
  assert_int_equal(sim_code(sim_ask(sim, conn, &verify)), ENGINE_CODE_OK);
  uint32_t stream = sim_send(sim, conn, &gone, 0);
  sim_unanswered(sim, conn, stream);
  assert_int_equal(sim->task_cnt[ENGINE_OP_CKPT_REMOVE], 0);
  engine_request_t schedule = sim_schedule_of("w", 10 * SIM_SEC);
  schedule.u.c.schedule.keep.last = 1;
  sim_ask(sim, conn, &schedule);
  sim_advance(sim, 30 * SIM_SEC);
  assert_int_equal(sim->task_cnt[ENGINE_OP_CHECKPOINT], 2);
  assert_int_equal(sim->asked.keep.last, 0);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_OK);
  sim_advance(sim, 30 * SIM_SEC);
  assert_int_equal(sim->asked.keep.last, 1);
  sim_free(sim);
}

/* When a checkpoint was last found sound, by a check or by a restore of all of it, is known after a
   restart, too; a restore of some of it says nothing. */
static void test_verified_stays(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0), tag = 7;
  sim_create(sim, conn, "w");
  for (int i = 0; i < 3; i++) sim_take(sim, conn, "w");
  engine_request_t verify = {.method = ENGINE_CKPT_VERIFY},
                   restore = sim_restore_of(sim, "w", "x", 1), list = {.method = ENGINE_CKPT_LIST};
  snprintf(verify.u.c.ckpt.id, ENGINE_TEXT_MAX, "1.1");
  assert_int_equal(sim_code(sim_ask(sim, conn, &verify)), ENGINE_CODE_OK);
  uint64_t first_ns = sim->real_ns;
  sim_advance(sim, SIM_SEC);
  snprintf(restore.u.c.restore.from, ENGINE_TEXT_MAX, "1.2");
  assert_int_equal(sim_code(sim_ask(sim, conn, &restore)), ENGINE_CODE_OK);
  uint64_t second_ns = sim->real_ns;
  restore = sim_restore_of(sim, "w", "y", 1);
  snprintf(restore.u.c.restore.from, ENGINE_TEXT_MAX, "1.3");
  restore.u.c.restore.tags = &tag;
  restore.u.c.restore.tag_cnt = 1;
  assert_int_equal(sim_code(sim_ask(sim, conn, &restore)), ENGINE_CODE_OK);
  sim_advance(sim, SIM_SEC);
  sim_restart(sim);
  conn = sim_conn(sim, 0, 0);
  assert_int_equal(sim_ask(sim, conn, &list)->reply.u.ckpt_list.ckpt_cnt, 3);
  assert_int_equal(sim_ckpt(sim, 1, 1)->verified_ns, first_ns);
  assert_int_equal(sim_ckpt(sim, 1, 2)->verified_ns, second_ns);
  assert_int_equal(sim_ckpt(sim, 1, 3)->verified_ns, 0);
  sim_free(sim);
}

/* Lists come in pages, in the order of names and times, and a token goes on behind the last. */
static void test_pages(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  char const *const names[] = {"b", "a"};
  for (int i = 0; i < 8; i++) {
    if (i < 2) sim_create(sim, conn, names[i]);
    sim_take(sim, conn, names[i % 2]);
    sim_advance(sim, SIM_SEC);
  }
  engine_request_t list = {.method = ENGINE_CKPT_LIST};
  list.u.c.ckpt_list.page_size = 3;
  size_t sizes[] = {3, 3, 2};
  for (size_t i = 0; i < 3; i++) {
    sim_request_t *request = sim_ask(sim, conn, &list);
    assert_int_equal(request->reply.u.ckpt_list.ckpt_cnt, sizes[i]);
    memcpy(list.u.c.ckpt_list.page_token, request->reply.u.ckpt_list.next_page_token,
           ENGINE_TEXT_MAX);
  }
  assert_string_equal(list.u.c.ckpt_list.page_token, "");
  snprintf(list.u.c.ckpt_list.name, ENGINE_TEXT_MAX, "a");
  list.u.c.ckpt_list.page_size = 0;
  assert_int_equal(sim_ask(sim, conn, &list)->reply.u.ckpt_list.ckpt_cnt, 4);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_checkpoint),     cmocka_unit_test(test_watch),
      cmocka_unit_test(test_no_overlap),     cmocka_unit_test(test_places),
      cmocka_unit_test(test_listing),        cmocka_unit_test(test_no_store),
      cmocka_unit_test(test_killed_worker),  cmocka_unit_test(test_cancel),
      cmocka_unit_test(test_rights),         cmocka_unit_test(test_restore),
      cmocka_unit_test(test_restore_fails),  cmocka_unit_test(test_restore_given_up),
      cmocka_unit_test(test_removed),        cmocka_unit_test(test_verify),
      cmocka_unit_test(test_verified_stays), cmocka_unit_test(test_pages),
      cmocka_unit_test(test_doubt),          cmocka_unit_test(test_readers)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
