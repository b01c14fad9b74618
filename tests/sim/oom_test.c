/* oom_test: each allocation of a day in the engine's life fails once. The step in which it fails
   says so, later ones too, and whatever the engine and the update held can be given back (the
   address sanitizer watches). Linked with --wrap for malloc, calloc and realloc. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/core/engine.h"
#include "wksp/error.h"

/* More allocations than the day has: the loop below must end by itself. */
#define ALLOC_MAX 1000

void *__real_malloc(size_t size);
void *__real_calloc(size_t cnt, size_t size);
void *__real_realloc(void *at, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t cnt, size_t size);
void *__wrap_realloc(void *at, size_t size);

/* Allocations until one fails; 0: none does. */
static int countdown;

static int fails(void) {
  return countdown && !--countdown;
}

void *__wrap_malloc(size_t size) {
  return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t cnt, size_t size) {
  return fails() ? NULL : __real_calloc(cnt, size);
}

void *__wrap_realloc(void *at, size_t size) {
  return fails() ? NULL : __real_realloc(at, size);
}

static uint64_t const day_tags[] = {1, 2};
static schedule_t day_schedule;
static engine_ckpt_t day_ckpt, day_taken;

/* The day: every kind of event and every path that allocates. */
#define DAY_MAX 96

typedef struct day {
  engine_event_t events[DAY_MAX];
  size_t cnt;
} day_t;

static engine_event_t *day_add(day_t *day, int kind) {
  assert_true(day->cnt < DAY_MAX);
  engine_event_t *event = &day->events[day->cnt++];
  event->kind = kind;
  event->now_mono_ns = 1000;
  return event;
}

/* Each with an id of its own: what is removed is remembered. */
static engine_request_t *day_request(day_t *day, int method) {
  engine_event_t *event = day_add(day, ENGINE_EV_REQUEST);
  uint32_t stream = (uint32_t)day->cnt;

  event->u.request.conn = 1;
  event->u.request.stream = stream;
  event->u.request.deadline_mono_ns = stream % 2 ? 5000 : 0;
  event->u.request.req.method = method;
  event->u.request.req.call_id_len = SPEC_CALL_ID_SIZE;
  event->u.request.req.call_id[0] = (uint8_t)stream;
  return &event->u.request.req;
}

/* Workspace 1 is well, 2 being removed, 3 unreadable; lease 1 is of 1, lease 2 of nobody. */
static void day_morning(day_t *day) {
  spec_t const found = {.name = "found",
                        .size = 4096,
                        .max_size = 4096,
                        .page_size = 4096,
                        .data_max = 64,
                        .part_max = 8,
                        .layout_version = 1};

  day_add(day, ENGINE_EV_START);
  for (uint64_t id = 1; id <= 3; id++) {
    engine_event_t *event = day_add(day, ENGINE_EV_RECOVERED_WORKSPACE);
    event->u.recovered_workspace.spec = found;
    event->u.recovered_workspace.spec.ws_id = id;
    event->u.recovered_workspace.spec.uuid[0] = (uint8_t)id;
    event->u.recovered_workspace.spec.state = id == 2 ? SPEC_REMOVING : SPEC_READY;
    event->u.recovered_workspace.spec_known = id != 3;
    event->u.recovered_workspace.memory = 1;
  }
  for (uint64_t id = 1; id <= 2; id++) {
    engine_event_t *event = day_add(day, ENGINE_EV_RECOVERED_LEASE);
    event->u.recovered_lease.lease_id = id;
    event->u.recovered_lease.ws_id = id == 1 ? 1 : 77;
  }
  day_schedule = (schedule_t){.name = "found", .every_ns = 1000000000UL};
  schedule_begin(&day_schedule, 1);
  day_add(day, ENGINE_EV_RECOVERED_SCHEDULE)->u.recovered_schedule = &day_schedule;
  day_add(day, ENGINE_EV_RECOVERED_END);
  day_add(day, ENGINE_EV_CONN_OPEN)->u.conn_open.conn = 1;
  /* one that waits until it is known what checkpoints there are: there is one */
  snprintf(day_request(day, ENGINE_CKPT_LIST)->u.c.ckpt_list.name, ENGINE_TEXT_MAX, "old");
  day_ckpt = (engine_ckpt_t){.store_id = 9,
                             .number = 1,
                             .spec = found,
                             .part_max = 8,
                             .data_max = 64,
                             .footprint = 4096,
                             .size = 4096,
                             .info = "text"};
  day_ckpt.spec.ws_id = 9;
  day_ckpt.spec.state = SPEC_READY;
  snprintf(day_ckpt.spec.name, sizeof(day_ckpt.spec.name), "old");
  engine_event_t *event = day_add(day, ENGINE_EV_WORKER_DONE);
  event->u.worker_done.job_id = 1;
  event->u.worker_done.ckpts = &day_ckpt;
  event->u.worker_done.ckpt_cnt = 1;
}

static void day_create(day_t *day, char const *name) {
  engine_request_t *req = day_request(day, ENGINE_CREATE);
  snprintf(req->u.create.name, ENGINE_TEXT_MAX, "%s", name);
  req->u.create.size = 4096;
  req->u.create.max_size = 8192;
  req->u.create.uuid[1] = (uint8_t)name[0];
}

static void day_requests(day_t *day) {
  engine_request_t *req;

  day_request(day, ENGINE_WATCH);
  day_create(day, "a");
  day_create(day, "b");
  day_request(day, ENGINE_LIST);
  day_request(day, ENGINE_STATS);
  day_request(day, ENGINE_VERSION);
  snprintf(day_request(day, ENGINE_GET)->u.get.name, ENGINE_TEXT_MAX, "found");
  snprintf(day_request(day, ENGINE_GET)->u.get.name, ENGINE_TEXT_MAX, "lost");
  snprintf(day_request(day, ENGINE_OPEN)->u.open.name, ENGINE_TEXT_MAX, "found");
  snprintf(day_request(day, ENGINE_COMPACT)->u.compact.name, ENGINE_TEXT_MAX, "found");
  req = day_request(day, ENGINE_QUERY);
  snprintf(req->u.query.name, ENGINE_TEXT_MAX, "found");
  req->u.query.tags = day_tags;
  req->u.query.tag_cnt = 2;
}

/* Jobs 4 to 6; workspace 6 is restored. */
static void day_ckpts(day_t *day) {
  engine_request_t *req = day_request(day, ENGINE_SCHEDULE_SET);
  snprintf(req->u.c.schedule.name, ENGINE_TEXT_MAX, "found");
  req->u.c.schedule.every_ns = 3600000000000UL;
  snprintf(day_add(day, ENGINE_EV_SCHEDULE_WRITTEN)->u.schedule_written.name, SPEC_NAME_MAX,
           "found");
  snprintf(day_request(day, ENGINE_SCHEDULE_GET)->u.c.schedule_get.name, ENGINE_TEXT_MAX, "found");
  req = day_request(day, ENGINE_CHECKPOINT);
  snprintf(req->u.c.checkpoint.name, ENGINE_TEXT_MAX, "found");
  req->u.c.checkpoint.info = "text";
  snprintf(day_request(day, ENGINE_CKPT_SHOW)->u.c.ckpt.id, ENGINE_TEXT_MAX, "9.1");
  req = day_request(day, ENGINE_RESTORE);
  snprintf(req->u.c.restore.name, ENGINE_TEXT_MAX, "old");
  req->u.c.restore.uuid[1] = 200;
  req->u.c.restore.tags = day_tags;
  req->u.c.restore.tag_cnt = 2;
  req->u.c.restore.wait = 1;
  day_request(day, ENGINE_JOB_LIST);
  day_request(day, ENGINE_JOB_WATCH)->u.c.job.job_id = 4;
  day_add(day, ENGINE_EV_WORKER_PROGRESS)->u.progress.job_id = 4;
  engine_event_t *event = day_add(day, ENGINE_EV_WORKER_DONE);
  event->u.worker_done.job_id = 4;
  day_taken = day_ckpt;
  day_taken.store_id = 1;
  snprintf(day_taken.spec.name, sizeof(day_taken.spec.name), "found");
  event->u.worker_done.ckpts = &day_taken;
  event->u.worker_done.ckpt_cnt = 1;
  snprintf(day_add(day, ENGINE_EV_SCHEDULE_WRITTEN)->u.schedule_written.name, SPEC_NAME_MAX,
           "found");
  day_add(day, ENGINE_EV_PERSISTED)->u.done.ws_id = 6;
  event = day_add(day, ENGINE_EV_MEMORY_MADE);
  event->u.memory_made.ws_id = 6;
  event->u.memory_made.size = event->u.memory_made.page_size = 4096;
  event->u.memory_made.max_size = 4096;
  event->u.memory_made.data_max = 64;
  event->u.memory_made.part_max = 8;
  event->u.memory_made.layout_version = 1;
  day_add(day, ENGINE_EV_WORKER_DONE)->u.worker_done.job_id = 6;
  day_add(day, ENGINE_EV_PERSISTED)->u.done.ws_id = 6;
}

/* Workspace 4 ("a") finds no pages and its spec cannot be unlinked, 5 ("b") is made and resized,
   lease 3 is not; then lease 1 ends, and 1 is removed by force with lease 4 in the making. */
static void day_answers(day_t *day) {
  engine_event_t *event = day_add(day, ENGINE_EV_LEASE_MADE);
  event->u.lease_made.lease_id = 3;
  event->u.lease_made.err = 5;
  day_add(day, ENGINE_EV_PERSISTED)->u.done.ws_id = 4;
  event = day_add(day, ENGINE_EV_MEMORY_MADE);
  event->u.memory_made.ws_id = 4;
  event->u.memory_made.status = ENGINE_MEMORY_SHORT;
  event = day_add(day, ENGINE_EV_REMOVED);
  event->u.done.ws_id = 4;
  event->u.done.err = 5;
  day_add(day, ENGINE_EV_PERSISTED)->u.done.ws_id = 5;
  event = day_add(day, ENGINE_EV_MEMORY_MADE);
  event->u.memory_made.ws_id = 5;
  event->u.memory_made.size = event->u.memory_made.page_size = 4096;
  event->u.memory_made.max_size = 8192;
  event->u.memory_made.data_max = 64;
  event->u.memory_made.part_max = 8;
  event->u.memory_made.layout_version = 1;
  day_add(day, ENGINE_EV_PERSISTED)->u.done.ws_id = 5;
  engine_request_t *req = day_request(day, ENGINE_RESIZE);
  snprintf(req->u.resize.name, ENGINE_TEXT_MAX, "b");
  req->u.resize.size = 8192;
  /* the compact's and the query's, to make room */
  day_add(day, ENGINE_EV_WORKER_DONE)->u.worker_done.job_id = 2;
  day_add(day, ENGINE_EV_WORKER_DONE)->u.worker_done.job_id = 3;
  event = day_add(day, ENGINE_EV_WORKER_DONE);
  event->u.worker_done.job_id = 7;
  event->u.worker_done.resized.size = 4096;
  day_add(day, ENGINE_EV_MEMORY_RESIZED)->u.memory_resized.ws_id = 5;
  day_add(day, ENGINE_EV_LIFELINE_HUP)->u.lifeline_hup.lease_id = 1;

  snprintf(day_request(day, ENGINE_OPEN)->u.open.name, ENGINE_TEXT_MAX, "found");
  req = day_request(day, ENGINE_DELETE);
  snprintf(req->u.del.name, ENGINE_TEXT_MAX, "found");
  req->u.del.force = 1;
  day_add(day, ENGINE_EV_PERSISTED)->u.done.ws_id = 1;
  day_add(day, ENGINE_EV_CONN_CLOSED)->u.conn.conn = 1;
  day_add(day, ENGINE_EV_STOP);
}

/* Lives the day with allocation number fail_at failing, 0 none. Returns what the last step did. */
static int live(int fail_at) {
  static day_t day;
  engine_update_t update = {0};
  int err = 0;

  memset(&day, 0, sizeof(day));
  day_morning(&day);
  day_requests(&day);
  day_ckpts(&day);
  day_answers(&day);
  countdown = fail_at;
  engine_t *engine = engine_new();
  if (!engine) err = WKSP_E_NOMEM;
  for (size_t i = 0; !err && i < day.cnt; i++) {
    err = engine_step(engine, &day.events[i], &update);
    if (!err) assert_null(engine_check(engine));
  }
  if (err && engine) {
    engine_event_t const tick = {.kind = ENGINE_EV_TICK, .now_mono_ns = 1000};
    countdown = 0;
    assert_int_equal(engine_step(engine, &tick, &update), err);
    assert_int_equal(update.effect_cnt, 0);
  }
  countdown = 0;
  engine_update_free(&update);
  engine_free(engine);
  return err;
}

/* The day goes well when nothing fails. */
static void test_day(void **state) {
  assert_int_equal(live(0), 0);
}

/* Each allocation that fails ends its step with WKSP_E_NOMEM, and nothing is lost. */
static void test_each_allocation(void **state) {
  int fail_at = 1;
  while (fail_at < ALLOC_MAX) {
    countdown = 0;
    int err = live(fail_at);
    if (!err) break;
    assert_int_equal(err, WKSP_E_NOMEM);
    fail_at++;
  }
  assert_in_range(fail_at, 40, ALLOC_MAX - 1);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_day),
      cmocka_unit_test(test_each_allocation),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
