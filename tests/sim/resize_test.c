/* resize_test: a workspace grows and shrinks, whatever fails and whoever leaves in between. The
   fixture sees to it after every step that what disk and table promise has its pages. */

#include <stdio.h>
#include <string.h>

#include "fixture.h"

#define OWNER 1000U
#define OTHER 2000U
#define MIB   1048576UL

typedef struct scene {
  sim_t *sim;
  uint64_t conn;
} scene_t;

/* "orders", of 1 MiB, at most 4 MiB. */
static scene_t scene_new(void) {
  scene_t scene = {.sim = sim_new(1, NULL)};
  engine_request_t req = {.method = ENGINE_CREATE};
  scene.conn = sim_conn(scene.sim, OWNER, OWNER);
  snprintf(req.u.create.name, sizeof(req.u.create.name), "orders");
  req.u.create.size = MIB;
  req.u.create.max_size = 4 * MIB;
  uint32_t stream = sim_send(scene.sim, scene.conn, &req, 0);
  sim_settle(scene.sim);
  assert_int_equal(sim_reply(scene.sim, scene.conn, stream)->code, ENGINE_CODE_OK);
  return scene;
}

static void scene_restart(scene_t *scene) {
  sim_restart(scene->sim);
  scene->conn = sim_conn(scene->sim, OWNER, OWNER);
}

static sim_memory_t *memory_of(scene_t const *scene) {
  sim_memory_t *memory = sim_memory(scene->sim, 1);
  assert_non_null(memory);
  return memory;
}

/* Disk, table, pages and Get say so. */
static void all_say(scene_t const *scene, uint64_t size) {
  assert_int_equal(memory_of(scene)->end, size);
  assert_int_equal(memory_of(scene)->filled, size);
  assert_int_equal(sim_on_disk(scene->sim, 1)->size, size);
  sim_request_t *get = sim_get(scene->sim, scene->conn, "orders");
  assert_int_equal(get->view.spec.size, size);
  assert_int_equal(get->view.spec.max_size, 4 * MIB);
}

static void resize_ok(scene_t const *scene, uint64_t size) {
  sim_request_t *request = sim_resize(scene->sim, scene->conn, "orders", size);
  if (request->reply.code) fail_msg("%s", request->reply.sentence);
  all_say(scene, request->view.spec.size);
}

/* The first step of each resize: a worker tells where the end is. */
static void end_told(sim_t *sim) {
  assert_int_equal(sim_waiting(sim, SIM_WORKER), 1);
  assert_int_equal(sim->pending.items[0].effect.u.worker_start.resize_to, 0);
  sim_answer(sim, 0, 0);
}

/* Growing asks where the end is, takes the pages, then moves the end, then writes the size down,
   then is answered; a watch is told. */
static void test_grow_order(void **state) {
  scene_t scene = scene_new();
  sim_t *sim = scene.sim;
  sim->keep_events = 1;
  uint32_t watch = sim_send_named(sim, scene.conn, ENGINE_WATCH, "orders", 0);
  for (int i = 0; i < SIM_ANSWERS; i++) sim->hold[i] = 1;
  uint32_t stream = sim_send_resize(sim, scene.conn, "orders", 2 * MIB, 0);
  end_told(sim);
  assert_int_equal(sim_waiting(sim, SIM_RESIZED), 1);
  assert_int_equal(sim->pending.items[0].effect.kind, ENGINE_FX_MEMORY_FILL);
  assert_int_equal(sim->pending.items[0].effect.u.memory_resize.from, MIB);
  assert_int_equal(sim->pending.items[0].effect.u.memory_resize.to, 2 * MIB);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim_waiting(sim, SIM_WORKER), 1);
  assert_int_equal(sim->pending.items[0].effect.u.worker_start.resize_to, 2 * MIB);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim_waiting(sim, SIM_PERSISTED), 1);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim_events(sim, scene.conn, watch, ENGINE_EVENT_RESIZED, "orders"), 1);
  sim_unanswered(sim, scene.conn, stream);
  assert_int_equal(sim->pending.items[0].effect.kind, ENGINE_FX_MEMORY_PUNCH);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim_reply(sim, scene.conn, stream)->code, ENGINE_CODE_OK);
  memset(sim->hold, 0, sizeof(sim->hold));
  all_say(&scene, 2 * MIB);
  resize_ok(&scene, 4 * MIB); /* to all of it: nothing to punch */
  sim_free(sim);
}

/* Shrinking moves the end, then writes the size down, and gives pages back last. */
static void test_shrink_order(void **state) {
  scene_t scene = scene_new();
  sim_t *sim = scene.sim;
  resize_ok(&scene, 4 * MIB);
  for (int i = 0; i < SIM_ANSWERS; i++) sim->hold[i] = 1;
  uint32_t stream = sim_send_resize(sim, scene.conn, "orders", MIB, 0);
  end_told(sim);
  assert_int_equal(sim_waiting(sim, SIM_WORKER), 1);
  sim_answer(sim, 0, 0);
  assert_int_equal(memory_of(&scene)->end, MIB);
  assert_int_equal(sim_waiting(sim, SIM_PERSISTED), 1);
  sim_answer(sim, 0, 0);
  assert_int_equal(memory_of(&scene)->filled, 4 * MIB);
  assert_int_equal(sim_waiting(sim, SIM_RESIZED), 1);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim_reply(sim, scene.conn, stream)->code, ENGINE_CODE_OK);
  memset(sim->hold, 0, sizeof(sim->hold));
  all_say(&scene, MIB);
  resize_ok(&scene, MIB + 1); /* rounded up */
  all_say(&scene, MIB + 65536);
  resize_ok(&scene, MIB + 65536); /* to what it is */
  resize_ok(&scene, 4 * MIB - 1);
  sim_free(sim);
}

/* A used partition in the way: it goes as far as it can, and says so with what is in the way. */
static void test_blocked(void **state) {
  scene_t scene = scene_new();
  resize_ok(&scene, 4 * MIB);
  memory_of(&scene)->used = 3 * MIB;
  sim_request_t *request = sim_resize(scene.sim, scene.conn, "orders", MIB);
  assert_int_equal(request->reply.code, ENGINE_CODE_FAILED_PRECONDITION);
  assert_string_equal(request->reply.detail_kind, "used");
  assert_int_equal(request->reply.detail_wanted, MIB);
  assert_int_equal(request->reply.detail_free, 3 * MIB);
  assert_non_null(strstr(request->reply.sentence, "0x2fffc0 of 64 bytes with tag 0x7"));
  assert_true(request->reply.detail_hint[0]);
  all_say(&scene, 3 * MIB);
  sim_free(scene.sim);
}

/* What cannot be is refused with its figures: beyond max-size, below the tables, by strangers, of
   what is not there; and so is a create whose max-size is below its size or beyond the machine. */
static void test_refused(void **state) {
  scene_t scene = scene_new();
  sim_t *sim = scene.sim;
  uint64_t stranger = sim_conn(sim, OTHER, OTHER);
  sim_request_t *request = sim_resize(sim, scene.conn, "orders", 4 * MIB + 1);
  assert_int_equal(request->reply.code, ENGINE_CODE_INVALID_ARGUMENT);
  assert_string_equal(request->reply.detail_kind, "max_size");
  assert_int_equal(request->reply.detail_free, 4 * MIB);
  assert_non_null(strstr(request->reply.detail_hint, "at most 4194304"));
  request = sim_resize(sim, scene.conn, "orders", 4095);
  assert_int_equal(request->reply.code, ENGINE_CODE_INVALID_ARGUMENT);
  assert_non_null(strstr(request->reply.detail_hint, "at least 4096"));
  assert_int_equal(sim_resize(sim, scene.conn, "orders", 0)->reply.code,
                   ENGINE_CODE_INVALID_ARGUMENT);
  assert_int_equal(sim_resize(sim, stranger, "orders", 2 * MIB)->reply.code, ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim_resize(sim, scene.conn, "bills", MIB)->reply.code, ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim_resize(sim, scene.conn, "bi/lls", MIB)->reply.code,
                   ENGINE_CODE_INVALID_ARGUMENT);
  all_say(&scene, MIB);

  engine_request_t req = {.method = ENGINE_CREATE};
  snprintf(req.u.create.name, sizeof(req.u.create.name), "small");
  req.u.create.size = 2 * MIB;
  req.u.create.max_size = MIB;
  uint32_t stream = sim_send(sim, scene.conn, &req, 0);
  assert_int_equal(sim_reply(sim, scene.conn, stream)->code, ENGINE_CODE_INVALID_ARGUMENT);
  assert_string_equal(sim_reply(sim, scene.conn, stream)->detail_kind, "max_size");
  sim_free(sim);
}

/* max-size counts at the create: more than the machine has is refused then. */
static void test_larger_than_machine(void **state) {
  engine_config_t config = {.memory_bytes = 8 * MIB};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  engine_request_t req = {.method = ENGINE_CREATE};
  snprintf(req.u.create.name, sizeof(req.u.create.name), "orders");
  req.u.create.size = MIB;
  req.u.create.max_size = 8 * MIB + 1;
  uint32_t stream = sim_send(sim, conn, &req, 0);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_RESOURCE_EXHAUSTED);
  sim_free(sim);
}

/* Whatever fails in a resize, the caller is told what, nothing is lost, and the next resize leaves
   everything as it should be. */
static void test_failures(void **state) {
  static struct {
    int grow, answer, status, before, code;
    char const *kind;
  } const ways[] = {
      {1, SIM_WORKER, ENGINE_WORKER_AGAIN, 0, ENGINE_CODE_UNAVAILABLE, "busy"},
      {1, SIM_WORKER, ENGINE_WORKER_KILLED, 0, ENGINE_CODE_INTERNAL, "worker"},
      {1, SIM_RESIZED, ENGINE_MEMORY_SHORT, 1, ENGINE_CODE_RESOURCE_EXHAUSTED, "pages"},
      {1, SIM_RESIZED, ENGINE_MEMORY_FAILED, 1, ENGINE_CODE_INTERNAL, "memory"},
      {1, SIM_WORKER, ENGINE_WORKER_AGAIN, 2, ENGINE_CODE_UNAVAILABLE, "busy"},
      {1, SIM_WORKER, ENGINE_WORKER_DAMAGED, 2, ENGINE_CODE_DATA_LOSS, "damaged"},
      {1, SIM_WORKER, ENGINE_WORKER_KILLED, 2, ENGINE_CODE_INTERNAL, "worker"},
      {1, SIM_WORKER, ENGINE_WORKER_TIMEOUT, 2, ENGINE_CODE_DEADLINE_EXCEEDED, "deadline"},
      {1, SIM_PERSISTED, 0, 3, ENGINE_CODE_INTERNAL, "disk"},
      {1, SIM_RESIZED, 0, 4, ENGINE_CODE_INTERNAL, "memory"},
      {0, SIM_WORKER, ENGINE_WORKER_AGAIN, 1, ENGINE_CODE_UNAVAILABLE, "busy"},
      {0, SIM_WORKER, ENGINE_WORKER_CRASHED, 1, ENGINE_CODE_DATA_LOSS, "damaged"},
      {0, SIM_PERSISTED, 0, 2, ENGINE_CODE_INTERNAL, "disk"},
      {0, SIM_RESIZED, 0, 3, ENGINE_CODE_INTERNAL, "memory"},
  };
  for (size_t i = 0; i < 4 * sizeof(ways) / sizeof(*ways); i++) {
    size_t way = i / 4;
    int through = i & 1, restart = i & 2;
    scene_t scene = scene_new();
    sim_t *sim = scene.sim;
    sim->fail_writes = through;
    sim->random = i; /* a killed worker has done it or not */
    resize_ok(&scene, 2 * MIB);
    uint32_t stream = sim_send_resize(sim, scene.conn, "orders", ways[way].grow ? 3 * MIB : MIB, 0);
    for (int k = 0; k < ways[way].before; k++) sim_answer(sim, 0, 0);
    if (ways[way].answer == SIM_RESIZED) sim->memory_status = ways[way].status;
    if (ways[way].answer == SIM_WORKER) sim->worker_status = ways[way].status;
    sim->fail_next[ways[way].answer] = 1;
    sim_settle(sim);
    engine_reply_t const *reply = sim_reply(sim, scene.conn, stream);
    if (reply->code != ways[way].code)
      fail_msg("way %zu: %d %s", way, reply->code, reply->sentence);
    assert_string_equal(reply->detail_kind, ways[way].kind);
    assert_string_equal(reply->detail_workspace, "orders");
    assert_true(reply->detail_hint[0]);
    if (ways[way].status == ENGINE_MEMORY_SHORT) {
      assert_int_equal(reply->detail_wanted, 512);
      assert_int_equal(reply->detail_free, 100);
    }
    if (ways[way].grow && ways[way].before < 3 && ways[way].status != ENGINE_WORKER_KILLED &&
        ways[way].status != ENGINE_WORKER_TIMEOUT)
      all_say(&scene, 2 * MIB); /* nothing has changed */
    if (restart) {
      scene_restart(&scene);
    } else {
      sim_advance(sim, 2 * ENGINE_DISK_RETRY_NS); /* what could not be written is tried again */
      sim_settle(sim);
    }
    resize_ok(&scene, (i / 2) % 2 ? 4 * MIB : 2 * MIB);
    sim_free(sim);
  }
}

/* A resize whose caller leaves, cancels or runs out of time at any point ends by itself, and the
   next one leaves everything as it should be. */
static void test_abandoned(void **state) {
  for (int grow = 0; grow < 2; grow++)
    for (int point = 0; point < 5; point++)
      for (int how = 0; how < 3; how++) {
        scene_t scene = scene_new();
        sim_t *sim = scene.sim;
        uint64_t conn = sim_conn(sim, OWNER, OWNER);
        engine_event_t cancel = {.kind = ENGINE_EV_CANCEL};
        resize_ok(&scene, 2 * MIB);
        uint32_t stream = sim_send_resize(sim, conn, "orders", grow ? 3 * MIB : MIB, SIM_SEC);
        for (int i = 0; i < point && sim->pending.cnt; i++) sim_answer(sim, 0, 0);
        int over = sim_request(sim, conn, stream)->answered;
        cancel.u.cancel.conn = conn;
        cancel.u.cancel.stream = stream;
        if (how == 0) sim_close(sim, conn);
        if (how == 1) sim_advance(sim, 2 * SIM_SEC);
        if (how == 2) assert_int_equal(sim_step(sim, &cancel), over ? ENGINE_STALE : 0);
        if (how && !over)
          assert_int_equal(sim_reply(sim, conn, stream)->code,
                           how == 1 ? ENGINE_CODE_DEADLINE_EXCEEDED : ENGINE_CODE_CANCELLED);
        sim_settle(sim);
        resize_ok(&scene, 3 * MIB);
        sim_free(sim);
      }
}

/* While one is under way, a second resize is refused for the moment, and so is a removal but for
   the worker's step; a compact waits for its worker, and opens go on. */
static void test_one_at_a_time(void **state) {
  scene_t scene = scene_new();
  sim_t *sim = scene.sim;
  for (int i = 0; i < SIM_ANSWERS; i++) sim->hold[i] = 1;
  uint32_t stream = sim_send_resize(sim, scene.conn, "orders", 2 * MIB, 0);
  for (int point = 0; point < 5; point++) {
    int work = point == 0 || point == 2;
    sim_request_t *request = sim_resize(sim, scene.conn, "orders", 3 * MIB);
    assert_int_equal(request->reply.code, ENGINE_CODE_UNAVAILABLE);
    assert_string_equal(request->reply.detail_kind, "busy");
    if (!work)
      assert_int_equal(sim_delete(sim, scene.conn, "orders", 1)->reply.code,
                       ENGINE_CODE_UNAVAILABLE);
    sim->hold[SIM_LEASE] = 0;
    assert_int_equal(sim_open(sim, scene.conn, "orders", ENGINE_OPEN_RO)->reply.code, 0);
    if (work) {
      uint32_t compact = sim_send_named(sim, scene.conn, ENGINE_COMPACT, "orders", 0);
      assert_int_equal(sim_waiting(sim, SIM_WORKER), 1);
      sim_answer(sim, 0, 0);
      assert_int_equal(sim_waiting(sim, SIM_WORKER), 1); /* now it is the compact's turn */
      size_t at = sim->pending.items[0].answer == SIM_WORKER ? 0 : 1;
      sim_answer(sim, at, 0);
      assert_int_equal(sim_reply(sim, scene.conn, compact)->code, ENGINE_CODE_OK);
    } else {
      sim_answer(sim, 0, 0);
    }
  }
  assert_int_equal(sim_reply(sim, scene.conn, stream)->code, ENGINE_CODE_OK);
  memset(sim->hold, 0, sizeof(sim->hold));
  resize_ok(&scene, 3 * MIB);
  sim_free(sim);
}

/* A removal takes the worker away from a resize, queued or running; its caller is told. A removal
   that fails then leaves a workspace whose next resize waits until that worker is gone. */
static void test_removed(void **state) {
  for (int way = 0; way < 8; way++) {
    int queued = way & 1, leased = way & 2, fails = way & 4;
    scene_t scene = scene_new();
    sim_t *sim = scene.sim;
    if (leased) sim_open(sim, scene.conn, "orders", ENGINE_OPEN_RW);
    resize_ok(&scene, 2 * MIB);
    sim->hold[SIM_WORKER] = 1;
    for (int i = 0; queued && i < 2; i++)
      sim_send_named(sim, scene.conn, ENGINE_QUERY, "orders", 0);
    uint32_t stream = sim_send_resize(sim, scene.conn, "orders", MIB, 0);
    sim->fail_next[SIM_PERSISTED] = fails ? 1 : 0;
    assert_int_equal(sim_delete(sim, scene.conn, "orders", 1)->reply.code,
                     fails ? ENGINE_CODE_INTERNAL : ENGINE_CODE_OK);
    assert_int_equal(sim_reply(sim, scene.conn, stream)->code, ENGINE_CODE_NOT_FOUND);
    if (fails) {
      size_t before = sim_waiting(sim, SIM_WORKER);
      stream = sim_send_resize(sim, scene.conn, "orders", 2 * MIB, 0);
      assert_int_equal(sim_waiting(sim, SIM_WORKER), before);
    }
    sim->hold[SIM_WORKER] = 0;
    sim_settle(sim);
    if (fails) {
      assert_int_equal(sim_reply(sim, scene.conn, stream)->code, ENGINE_CODE_OK);
      all_say(&scene, 2 * MIB);
    } else {
      assert_int_equal(sim_get(sim, scene.conn, "orders")->reply.code, ENGINE_CODE_NOT_FOUND);
      assert_int_equal(sim_in_memory(sim, 1), leased != 0);
    }
    sim_free(sim);
  }
}

/* A removal while the end waits to be moved up, its pages being taken already: it does not wait for
   them to be given back, for all of them go. If it fails, the next resize gives them back. */
static void test_removed_growing(void **state) {
  for (int fails = 0; fails < 2; fails++) {
    scene_t scene = scene_new();
    sim_t *sim = scene.sim;
    sim->hold[SIM_RESIZED] = 1;
    uint32_t stream = sim_send_resize(sim, scene.conn, "orders", 2 * MIB, 0);
    sim_settle(sim);
    sim->hold[SIM_WORKER] = 1;
    for (int i = 0; i < 2; i++) sim_send_named(sim, scene.conn, ENGINE_QUERY, "orders", 0);
    sim->hold[SIM_RESIZED] = 0;
    sim_settle(sim);
    assert_int_equal(memory_of(&scene)->filled, 2 * MIB);
    assert_int_equal(sim_waiting(sim, SIM_WORKER), 2); /* and the resize's is queued */
    sim->fail_next[SIM_PERSISTED] = fails;
    assert_int_equal(sim_delete(sim, scene.conn, "orders", 1)->reply.code,
                     fails ? ENGINE_CODE_INTERNAL : ENGINE_CODE_OK);
    assert_int_equal(sim_reply(sim, scene.conn, stream)->code, ENGINE_CODE_NOT_FOUND);
    sim->hold[SIM_WORKER] = 0;
    sim_settle(sim);
    if (fails)
      resize_ok(&scene, MIB);
    else
      assert_int_equal(sim->memory.cnt + sim->disk.cnt, 0);
    sim_free(sim);
  }
}

/* A workspace that is quarantined in the middle of a resize: its caller is told, and it can be
   removed. */
static void test_quarantined(void **state) {
  for (int point = 0; point < 5; point++) {
    scene_t scene = scene_new();
    sim_t *sim = scene.sim;
    engine_event_t event = {.kind = ENGINE_EV_QUARANTINE};
    uint32_t stream = sim_send_resize(sim, scene.conn, "orders", 2 * MIB, 0);
    for (int i = 0; i < point; i++) sim_answer(sim, 0, 0);
    event.u.quarantine.ws_id = 1;
    event.u.quarantine.reason = "its memory was cut";
    assert_int_equal(sim_step(sim, &event), 0);
    assert_int_equal(sim_reply(sim, scene.conn, stream)->code, ENGINE_CODE_FAILED_PRECONDITION);
    sim_settle(sim);
    assert_int_equal(sim_resize(sim, scene.conn, "orders", 3 * MIB)->reply.code,
                     ENGINE_CODE_FAILED_PRECONDITION);
    assert_int_equal(sim_delete(sim, scene.conn, "orders", 0)->reply.code, ENGINE_CODE_OK);
    assert_int_equal(sim->memory.cnt + sim->disk.cnt, 0);
    sim_free(sim);
  }
}

/* Killed at any point, with what was under way done or not, the daemon finds a sound workspace, and
   its next resize mends the rest, whatever it is to. */
static void test_killed(void **state) {
  for (uint64_t i = 0; i < 2 * 6 * 4 * 8; i++) {
    int grow = i & 1, point = (int)(i / 2 % 6);
    uint64_t then = MIB + (i / 12 % 4) * MIB;
    scene_t scene = scene_new();
    sim_t *sim = scene.sim;
    resize_ok(&scene, 2 * MIB);
    sim->random = i;
    sim_send_resize(sim, scene.conn, "orders", grow ? 3 * MIB : MIB, 0);
    for (int k = 0; k < point && sim->pending.cnt; k++) sim_answer(sim, 0, 0);
    scene_restart(&scene);
    uint64_t size = sim_get(sim, scene.conn, "orders")->view.spec.size;
    assert_true(size == 2 * MIB || size == (grow ? 3 * MIB : MIB));
    resize_ok(&scene, then);
    sim_free(sim);
  }
}

/* Where damage has moved the end beyond the pages (a rebuild that could not find it), and clients
   may use what is there, the next resize takes pages up to there first and gives none of them back;
   without them it says so. So it is with and without a start in between. */
static void test_end_lost(void **state) {
  for (int way = 0; way < 4; way++) {
    int short_of = way & 1;
    scene_t scene = scene_new();
    sim_t *sim = scene.sim;
    if (way & 2) scene_restart(&scene);
    sim->hold[SIM_RESIZED] = 1;
    uint32_t stream = sim_send_resize(sim, scene.conn, "orders", 2 * MIB, 0);
    assert_int_equal(sim_waiting(sim, SIM_WORKER), 1);
    engine_event_t event = {.kind = ENGINE_EV_WORKER_DONE};
    event.u.worker_done.job_id = sim->pending.items[0].id;
    event.u.worker_done.resized.size = 4 * MIB;
    sim->pending.cnt = 0;
    assert_int_equal(sim_step(sim, &event), 0);
    assert_int_equal(sim_waiting(sim, SIM_RESIZED), 1);
    assert_int_equal(sim->pending.items[0].effect.u.memory_resize.to, 4 * MIB);
    assert_int_equal(sim->pending.items[0].effect.u.memory_resize.keep, 1);
    sim->hold[SIM_RESIZED] = 0;
    sim->fail_next[SIM_RESIZED] = short_of;
    sim_settle(sim);
    assert_int_equal(sim_reply(sim, scene.conn, stream)->code,
                     short_of ? ENGINE_CODE_RESOURCE_EXHAUSTED : ENGINE_CODE_OK);
    resize_ok(&scene, 2 * MIB);
    sim_free(sim);
  }
}

/* A stop in the middle of a resize comes to its end. */
static void test_stop(void **state) {
  for (int point = 0; point < 5; point++) {
    scene_t scene = scene_new();
    uint32_t stream = sim_send_resize(scene.sim, scene.conn, "orders", 2 * MIB, 0);
    for (int i = 0; i < point; i++) sim_answer(scene.sim, 0, 0);
    sim_step_kind(scene.sim, ENGINE_EV_STOP);
    sim_settle(scene.sim);
    assert_true(scene.sim->stopped);
    assert_true(sim_request(scene.sim, scene.conn, stream)->answered);
    scene_restart(&scene);
    resize_ok(&scene, 3 * MIB);
    sim_free(scene.sim);
  }
}

/* Nothing shrinks under a checkpoint that is being taken, and a checkpoint waits for the end of a
   resize; growing does it no harm. */
static void test_checkpoint(void **state) {
  scene_t scene = scene_new();
  sim_t *sim = scene.sim;
  resize_ok(&scene, 2 * MIB);
  sim->hold[SIM_TASK] = 1;
  sim_take(sim, scene.conn, "orders");
  assert_int_equal(sim->task_cnt[ENGINE_OP_CHECKPOINT], 1);
  sim_request_t *refused = sim_resize(sim, scene.conn, "orders", MIB);
  assert_int_equal(refused->reply.code, ENGINE_CODE_UNAVAILABLE);
  assert_non_null(strstr(refused->reply.sentence, "while a checkpoint"));
  resize_ok(&scene, 3 * MIB);
  sim->hold[SIM_TASK] = 0;
  sim_settle(sim);

  engine_request_t take = sim_checkpoint_of("orders");
  uint32_t shrink = sim_send_resize(sim, scene.conn, "orders", MIB, 0);
  uint32_t taken = sim_send(sim, scene.conn, &take, 0);
  assert_int_equal(sim->task_cnt[ENGINE_OP_CHECKPOINT], 1);
  sim_settle(sim);
  assert_int_equal(sim_reply(sim, scene.conn, shrink)->code, ENGINE_CODE_OK);
  assert_int_equal(sim_reply(sim, scene.conn, taken)->code, ENGINE_CODE_OK);
  assert_int_equal(sim->task_cnt[ENGINE_OP_CHECKPOINT], 2);
  all_say(&scene, MIB);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_grow_order),
      cmocka_unit_test(test_shrink_order),
      cmocka_unit_test(test_blocked),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_larger_than_machine),
      cmocka_unit_test(test_failures),
      cmocka_unit_test(test_abandoned),
      cmocka_unit_test(test_one_at_a_time),
      cmocka_unit_test(test_checkpoint),
      cmocka_unit_test(test_quarantined),
      cmocka_unit_test(test_killed),
      cmocka_unit_test(test_stop),
      cmocka_unit_test(test_end_lost),
      cmocka_unit_test(test_removed),
      cmocka_unit_test(test_removed_growing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
