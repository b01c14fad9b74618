/* lease_work_test: the rules of leases, of the workers, and of watching, one at a time. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define OWNER 1000U
#define OTHER 2000U

typedef struct scene {
  sim_t *sim;
  uint64_t conn;
} scene_t;

/* A daemon, a connection of OWNER, and its workspace "orders" of id 1. */
static scene_t scene_new(engine_config_t const *config) {
  scene_t scene = {.sim = sim_new(1, config)};
  scene.conn = sim_conn(scene.sim, OWNER, OWNER);
  assert_int_equal(sim_create(scene.sim, scene.conn, "orders")->reply.code, ENGINE_CODE_OK);
  return scene;
}

static uint64_t open_lease(scene_t *scene, int mode) {
  sim_request_t *open = sim_open(scene->sim, scene->conn, "orders", mode);
  assert_int_equal(open->reply.code, ENGINE_CODE_OK);
  return open->reply.u.open.lease_id;
}

/* An open is answered once the lifeline is made, with what the client must map; it is counted, and
   its end is counted again. */
static void test_open(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  sim->hold[SIM_LEASE] = 1;
  uint32_t stream = sim_send_named(sim, scene.conn, ENGINE_OPEN, "orders", 0);
  assert_int_equal(sim_waiting(sim, SIM_LEASE), 1);
  assert_int_equal(sim->pending.items[0].effect.u.lease_make.pid, 1000 + (int)scene.conn);
  sim_unanswered(sim, scene.conn, stream);
  sim->hold[SIM_LEASE] = 0;
  sim_settle(sim);
  sim_request_t *open = sim_request(sim, scene.conn, stream);
  assert_int_equal(open->reply.code, ENGINE_CODE_OK);
  assert_int_equal(open->view.spec.size, 1 << 20);
  assert_int_equal(open->view.spec.layout_version, 1);
  assert_int_equal(open->view.spec.geometry_hash, 0xabcdef);
  uint64_t rw = open->reply.u.open.lease_id, ro = open_lease(&scene, ENGINE_OPEN_RO);

  assert_int_equal(engine_leases(sim->engine, 1, NULL, NULL), 2);
  sim_request_t *get = sim_get(sim, scene.conn, "orders");
  assert_int_equal(get->view.attached_rw, 1);
  assert_int_equal(get->view.attached_ro, 1);
  sim_hangup(sim, rw);
  sim_hangup(sim, ro);
  get = sim_get(sim, scene.conn, "orders");
  assert_int_equal(get->view.attached_rw + get->view.attached_ro, 0);
  assert_int_equal(engine_leases(sim->engine, 1, NULL, NULL), 0);
  sim_free(sim);
}

/* A lease outlives the connection that asked for it. */
static void test_lease_outlives_connection(void **state) {
  scene_t scene = scene_new(NULL);
  open_lease(&scene, ENGINE_OPEN_RW);
  sim_close(scene.sim, scene.conn);
  scene.conn = sim_conn(scene.sim, OWNER, OWNER);
  assert_int_equal(sim_get(scene.sim, scene.conn, "orders")->view.attached_rw, 1);
  sim_free(scene.sim);
}

/* If the caller has gone, or its time has passed, when the lifeline is made, the lease is
   dropped. */
static void test_open_abandoned(void **state) {
  for (int deadline = 0; deadline < 2; deadline++) {
    scene_t scene = scene_new(NULL);
    sim_t *sim = scene.sim;
    uint32_t stream = sim_send_named(sim, scene.conn, ENGINE_OPEN, "orders", SIM_SEC);
    if (deadline) {
      sim_advance(sim, SIM_SEC);
      assert_int_equal(sim_reply(sim, scene.conn, stream)->code, ENGINE_CODE_DEADLINE_EXCEEDED);
    } else {
      sim_close(sim, scene.conn);
    }
    sim_settle(sim);
    assert_int_equal(sim->lifelines.cnt, 0);
    uint64_t conn = sim_conn(sim, OWNER, OWNER);
    assert_int_equal(sim_delete(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_OK);
    sim_free(sim);
  }
}

/* A lifeline that cannot be made is a refusal; without descriptors one that says how to get
   more. */
static void test_open_fails(void **state) {
  scene_t scene = scene_new(NULL);
  scene.sim->fail_next[SIM_LEASE] = 1;
  engine_reply_t const *reply = &sim_open(scene.sim, scene.conn, "orders", 0)->reply;
  assert_int_equal(reply->code, ENGINE_CODE_RESOURCE_EXHAUSTED);
  assert_non_null(strstr(reply->detail_hint, "LimitNOFILE"));
  open_lease(&scene, ENGINE_OPEN_RW);

  engine_event_t event = {.kind = ENGINE_EV_LEASE_MADE};
  uint32_t stream = sim_send_named(scene.sim, scene.conn, ENGINE_OPEN, "orders", 0);
  event.u.lease_made.lease_id = scene.sim->pending.items[0].id;
  event.u.lease_made.err = EIO;
  scene.sim->pending.cnt = 0;
  assert_int_equal(sim_step(scene.sim, &event), 0);
  assert_int_equal(sim_reply(scene.sim, scene.conn, stream)->code, ENGINE_CODE_INTERNAL);
  sim_free(scene.sim);
}

/* A workspace that is removed by force while its lifeline is being made is not handed out, and goes
   when the lifeline has been dropped. */
static void test_open_removed_meanwhile(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  sim->hold[SIM_LEASE] = 1;
  uint32_t stream = sim_send_named(sim, scene.conn, ENGINE_OPEN, "orders", 0);
  assert_int_equal(sim_delete(sim, scene.conn, "orders", 1)->reply.u.del.deferred, 1);
  assert_true(sim_in_memory(sim, 1));
  sim->hold[SIM_LEASE] = 0;
  sim_settle(sim);
  assert_int_equal(sim_reply(sim, scene.conn, stream)->code, ENGINE_CODE_FAILED_PRECONDITION);
  assert_int_equal(sim->lifelines.cnt + sim->memory.cnt + sim->disk.cnt, 0);
  sim_free(sim);
}

/* Mode bits: the owner and root always; the group by its bits, others by theirs. Who may not read
   it is told that it is not there, whatever he wants and whatever else he may. */
static void test_rights(void **state) {
  static struct {
    uint32_t mode, uid, gid;
    int ro, rw, query, compact;
  } const ways[] = {
      {0660, OWNER, 5, 1, 1, 1, 1},     {0, OWNER, OWNER, 1, 1, 1, 1}, /* 0: 0660 */
      {0600, 0, 0, 1, 1, 1, 1},         {0660, OTHER, OWNER, 1, 1, 1, 1},
      {0660, OTHER, OTHER, 0, 0, 0, 0}, {0640, OTHER, OWNER, 1, 0, 1, 0},
      {0604, OTHER, OTHER, 1, 0, 1, 0}, {0604, OTHER, OWNER, 0, 0, 0, 0},
      {0602, OTHER, OTHER, 0, 0, 0, 0}, {0666, OTHER, OTHER, 1, 1, 1, 1},
  };
  for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
    sim_t *sim = sim_new(1, NULL);
    uint64_t owner = sim_conn(sim, OWNER, OWNER);
    uint64_t conn = sim_conn(sim, ways[i].uid, ways[i].gid);
    engine_request_t req = {.method = ENGINE_CREATE};
    snprintf(req.u.create.name, sizeof(req.u.create.name), "orders");
    req.u.create.size = 4096;
    req.u.create.mode = ways[i].mode;
    sim_send(sim, owner, &req, 0);
    sim_settle(sim);

    int const denied = ways[i].ro ? ENGINE_CODE_PERMISSION_DENIED : ENGINE_CODE_NOT_FOUND;
    assert_int_equal(sim_open(sim, conn, "orders", ENGINE_OPEN_RO)->reply.code,
                     ways[i].ro ? 0 : denied);
    assert_int_equal(sim_open(sim, conn, "orders", ENGINE_OPEN_RW)->reply.code,
                     ways[i].rw ? 0 : denied);
    uint32_t query = sim_send_named(sim, conn, ENGINE_QUERY, "orders", 0);
    uint32_t compact = sim_send_named(sim, conn, ENGINE_COMPACT, "orders", 0);
    sim_settle(sim);
    assert_int_equal(sim_reply(sim, conn, query)->code, ways[i].query ? 0 : denied);
    assert_int_equal(sim_reply(sim, conn, compact)->code, ways[i].compact ? 0 : denied);
    assert_int_equal(sim_get(sim, conn, "orders")->reply.code, ways[i].ro ? 0 : denied);
    sim_free(sim);
  }
}

/* An open mode that is none is refused with its value. */
static void test_open_mode(void **state) {
  scene_t scene = scene_new(NULL);
  engine_reply_t const *reply = &sim_open(scene.sim, scene.conn, "orders", -7)->reply;
  assert_int_equal(reply->code, ENGINE_CODE_INVALID_ARGUMENT);
  assert_non_null(strstr(reply->sentence, "-7"));
  sim_free(scene.sim);
}

/* What is not there is not found, for every method that names a workspace. */
static void test_not_found(void **state) {
  static int const methods[] = {ENGINE_DELETE, ENGINE_GET, ENGINE_OPEN, ENGINE_QUERY,
                                ENGINE_COMPACT};
  scene_t scene = scene_new(NULL);
  for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++) {
    uint32_t stream = sim_send_named(scene.sim, scene.conn, methods[i], "bills", 0);
    engine_reply_t const *reply = sim_reply(scene.sim, scene.conn, stream);
    assert_int_equal(reply->code, ENGINE_CODE_NOT_FOUND);
    assert_non_null(strstr(reply->sentence, "\"bills\""));
    stream = sim_send_named(scene.sim, scene.conn, methods[i], "bi/lls", 0);
    assert_int_equal(sim_reply(scene.sim, scene.conn, stream)->code, ENGINE_CODE_INVALID_ARGUMENT);
  }
  sim_free(scene.sim);
}

/* The end of a writer is followed by a reap that knows its lease, and only then is its lifeline
   let go of; a reader's end is not. */
static void test_reap(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  uint64_t rw = open_lease(&scene, ENGINE_OPEN_RW), ro = open_lease(&scene, ENGINE_OPEN_RO);
  sim->hold[SIM_WORKER] = 1;

  sim_hangup(sim, ro);
  assert_int_equal(sim_waiting(sim, SIM_WORKER), 0);
  assert_null(sim_lifeline(sim, ro));
  sim_hangup(sim, rw);
  assert_int_equal(sim_waiting(sim, SIM_WORKER), 1);
  assert_int_equal(sim->pending.items[0].effect.u.worker_start.op, ENGINE_OP_REAP);
  assert_int_equal(sim->pending.items[0].lease_cnt, 1);
  assert_int_equal(sim->pending.items[0].lease_ids[0], rw);
  assert_non_null(sim_lifeline(sim, rw));
  sim_answer(sim, 0, 0);
  assert_null(sim_lifeline(sim, rw));
  sim_free(sim);
}

/* However many writers end while a reap runs, one more reap looks for all of them. */
static void test_reap_coalesced(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  uint64_t leases[5];
  for (int i = 0; i < 5; i++) leases[i] = open_lease(&scene, ENGINE_OPEN_RW);
  sim->hold[SIM_WORKER] = 1;
  for (int i = 0; i < 5; i++) sim_hangup(sim, leases[i]);
  assert_int_equal(sim_waiting(sim, SIM_WORKER), 1);
  assert_int_equal(sim->pending.items[0].lease_cnt, 1);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim_waiting(sim, SIM_WORKER), 1);
  assert_int_equal(sim->pending.items[0].lease_cnt, 4);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim_waiting(sim, SIM_WORKER), 0);
  assert_int_equal(sim->lifelines.cnt, 0);
  sim_free(sim);
}

/* A reap takes ENGINE_REAP_LEASES_MAX leases at the most; the rest are the next one's. */
static void test_reap_many(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  uint32_t const cnt = ENGINE_REAP_LEASES_MAX + 2;
  sim->check_every = 64;
  for (uint32_t i = 0; i < cnt; i++) open_lease(&scene, ENGINE_OPEN_RW);
  sim->hold[SIM_WORKER] = 1;
  for (uint32_t i = 0; i < cnt; i++) sim_hangup(sim, i + 1);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim->pending.items[0].lease_cnt, ENGINE_REAP_LEASES_MAX);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim->pending.items[0].lease_cnt, 1);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim->lifelines.cnt, 0);
  sim_check(sim);
  sim_free(sim);
}

/* A reap that fails is tried ENGINE_REAP_TRIES_MAX times, then its leases are let go of. */
static void test_reap_fails(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  uint64_t lease = open_lease(&scene, ENGINE_OPEN_RW);
  sim->fail_next[SIM_WORKER] = 1000;
  sim_hangup(sim, lease);
  sim_settle(sim);
  assert_int_equal(sim->reap_cnt, ENGINE_REAP_TRIES_MAX);
  assert_int_equal(sim->log_cnt[ENGINE_LOG_WARN], ENGINE_REAP_TRIES_MAX);
  assert_int_equal(sim->lifelines.cnt, 0);
  sim_free(sim);
}

/* A kill between a writer's end and the end of its reap loses nothing: the next start reaps it. */
static void test_reap_killed(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  uint64_t lease = open_lease(&scene, ENGINE_OPEN_RW);
  sim->hold[SIM_WORKER] = 1;
  sim_hangup(sim, lease);
  sim_restart(sim);
  assert_non_null(sim_lifeline(sim, lease));
  sim_hangup(sim, lease);
  assert_int_equal(sim_waiting(sim, SIM_WORKER), 1);
  assert_int_equal(sim->pending.items[0].lease_ids[0], lease);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim->lifelines.cnt, 0);
  sim_free(sim);
}

/* A lifeline whose workspace is not known any more is dropped at the start; a hang-up of a lease
   that has gone is stale. */
static void test_lease_strays(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  open_lease(&scene, ENGINE_OPEN_RW);
  sim->memory.cnt = sim->disk.cnt = 0;
  sim_restart(sim);
  assert_int_equal(sim->lifelines.cnt, 0);
  engine_event_t event = {.kind = ENGINE_EV_LIFELINE_HUP};
  event.u.lifeline_hup.lease_id = 1;
  assert_int_equal(sim_step(sim, &event), ENGINE_STALE);
  sim_free(sim);
}

/* Leases and their counts are there after a restart, with no call of the client's. */
static void test_lease_restart(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  open_lease(&scene, ENGINE_OPEN_RW);
  open_lease(&scene, ENGINE_OPEN_RO);
  sim_restart(sim);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_request_t *get = sim_get(sim, conn, "orders");
  assert_int_equal(get->view.attached_rw, 1);
  assert_int_equal(get->view.attached_ro, 1);
  assert_int_equal(sim_delete(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_FAILED_PRECONDITION);
  sim_free(sim);
}

/* New ids are above those of everything found, even if START did not know them. */
static void test_ids_recovered(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  open_lease(&scene, ENGINE_OPEN_RO);
  sim->disk.items[0].ws_id = sim->memory.items[0].ws_id = 70;
  sim->disk.items[0].spec.ws_id = 70;
  sim->lifelines.items[0].ws_id = 70;
  sim->lifelines.items[0].lease_id = 90;
  sim->ws_id_high = sim->lease_id_high = 0;
  sim_restart(sim);
  scene.conn = sim_conn(sim, OWNER, OWNER);
  assert_int_equal(open_lease(&scene, ENGINE_OPEN_RO), 91);
  assert_int_equal(sim_create(sim, scene.conn, "bills")->view.spec.ws_id, 71);
  sim_free(sim);
}

/* When the lease ids that slots can hold are used up, opens are refused rather than ids used
   again. */
static void test_ids_used_up(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  sim->lease_id_high = ENGINE_LEASE_ID_MAX - 1;
  sim_restart(sim);
  scene.conn = sim_conn(sim, OWNER, OWNER);
  assert_int_equal(open_lease(&scene, ENGINE_OPEN_RW), ENGINE_LEASE_ID_MAX);
  engine_reply_t const *reply = &sim_open(sim, scene.conn, "orders", ENGINE_OPEN_RW)->reply;
  assert_int_equal(reply->code, ENGINE_CODE_RESOURCE_EXHAUSTED);
  assert_non_null(strstr(reply->sentence, "268435455"));
  sim_free(sim);
}

/* A query's arguments reach the worker and its result the reply. */
static void test_query(void **state) {
  scene_t scene = scene_new(NULL);
  uint64_t const tags[] = {7, 9};
  engine_event_t event = {.kind = ENGINE_EV_REQUEST};
  engine_update_t update = {0};
  sim_t *sim = scene.sim;

  event.now_mono_ns = sim->mono_ns;
  event.now_real_ns = sim->real_ns;
  event.u.request.conn = scene.conn;
  event.u.request.stream = 99;
  event.u.request.deadline_mono_ns = sim->mono_ns + SIM_SEC;
  event.u.request.req.method = ENGINE_QUERY;
  snprintf(event.u.request.req.u.query.name, ENGINE_TEXT_MAX, "orders");
  event.u.request.req.u.query.tags = tags;
  event.u.request.req.u.query.tag_cnt = 2;
  event.u.request.req.u.query.page_gaddr = 4096;
  event.u.request.req.u.query.page_size = 50;
  assert_int_equal(engine_step(sim->engine, &event, &update), 0);
  assert_int_equal(update.effect_cnt, 1);
  engine_effect_t const *start = &update.effects[0];
  assert_int_equal(start->kind, ENGINE_FX_WORKER_START);
  assert_int_equal(start->u.worker_start.op, ENGINE_OP_QUERY);
  assert_int_equal(start->u.worker_start.tag_cnt, 2);
  assert_memory_equal(start->u.worker_start.tags, tags, sizeof(tags));
  assert_int_equal(start->u.worker_start.page_gaddr, 4096);
  assert_int_equal(start->u.worker_start.page_size, 50);
  assert_int_equal(start->u.worker_start.deadline_mono_ns, sim->mono_ns + SIM_SEC);

  int result;
  engine_event_t done = {.kind = ENGINE_EV_WORKER_DONE, .now_mono_ns = sim->mono_ns};
  done.u.worker_done.job_id = start->u.worker_start.job_id;
  done.u.worker_done.result = &result;
  assert_int_equal(engine_step(sim->engine, &done, &update), 0);
  assert_int_equal(update.effect_cnt, 1);
  assert_int_equal(update.effects[0].kind, ENGINE_FX_REPLY);
  assert_int_equal(update.effects[0].u.reply->code, ENGINE_CODE_OK);
  assert_ptr_equal(update.effects[0].u.reply->u.worker_result, &result);
  engine_update_free(&update);
  sim_free(sim);
}

/* Queries run side by side up to the limit, compacts of one workspace one after the other, and one
   that waits does not hold up what is behind it. */
static void test_jobs_order(void **state) {
  engine_config_t config = {.jobs_running_max = 3};
  scene_t scene = scene_new(&config);
  sim_t *sim = scene.sim;
  sim->hold[SIM_WORKER] = 1;
  uint32_t first = sim_send_named(sim, scene.conn, ENGINE_COMPACT, "orders", 0);
  uint32_t second = sim_send_named(sim, scene.conn, ENGINE_COMPACT, "orders", 0);
  uint32_t query = sim_send_named(sim, scene.conn, ENGINE_QUERY, "orders", 0);
  assert_int_equal(sim_waiting(sim, SIM_WORKER), 2);
  sim_answer(sim, 1, 0);
  assert_int_equal(sim_reply(sim, scene.conn, query)->code, ENGINE_CODE_OK);
  sim_unanswered(sim, scene.conn, first);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim_reply(sim, scene.conn, first)->code, ENGINE_CODE_OK);
  assert_int_equal(sim_waiting(sim, SIM_WORKER), 1);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim_reply(sim, scene.conn, second)->code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* Each way in which a worker can fail has its code, and the sentence names the workspace. */
static void test_worker_failures(void **state) {
  static int const codes[] = {
      [ENGINE_WORKER_INVALID] = ENGINE_CODE_INVALID_ARGUMENT,
      [ENGINE_WORKER_AGAIN] = ENGINE_CODE_UNAVAILABLE,
      [ENGINE_WORKER_DAMAGED] = ENGINE_CODE_DATA_LOSS,
      [ENGINE_WORKER_CRASHED] = ENGINE_CODE_DATA_LOSS,
      [ENGINE_WORKER_KILLED] = ENGINE_CODE_INTERNAL,
      [ENGINE_WORKER_GARBAGE] = ENGINE_CODE_INTERNAL,
      [ENGINE_WORKER_TIMEOUT] = ENGINE_CODE_DEADLINE_EXCEEDED,
      [ENGINE_WORKER_NOT_BEGUN] = ENGINE_CODE_INTERNAL,
      [ENGINE_WORKER_CANCELLED] = ENGINE_CODE_INTERNAL,
  };
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  for (int status = ENGINE_WORKER_INVALID; status <= ENGINE_WORKER_CANCELLED; status++) {
    sim->worker_status = status;
    sim->fail_next[SIM_WORKER] = 1;
    uint32_t stream =
        sim_send_named(sim, scene.conn, status & 1 ? ENGINE_QUERY : ENGINE_COMPACT, "orders", 0);
    sim_settle(sim);
    engine_reply_t const *reply = sim_reply(sim, scene.conn, stream);
    assert_int_equal(reply->code, codes[status]);
    assert_non_null(strstr(reply->sentence, "\"orders\""));
    assert_non_null(strstr(reply->sentence, "signal 9"));
  }
  sim_free(sim);
}

/* A request whose time passes, or whose sender goes, gives its worker up, queued or running; the
   place is free when the worker has ended. */
static void test_job_abandoned(void **state) {
  for (int close = 0; close < 2; close++) {
    engine_config_t config = {.jobs_running_max = 1};
    scene_t scene = scene_new(&config);
    sim_t *sim = scene.sim;
    uint64_t other = sim_conn(sim, OWNER, OWNER);
    sim->hold[SIM_WORKER] = 1;
    uint32_t running = sim_send_named(sim, scene.conn, ENGINE_COMPACT, "orders", SIM_SEC);
    uint32_t queued = sim_send_named(sim, scene.conn, ENGINE_QUERY, "orders", SIM_SEC);
    uint32_t later = sim_send_named(sim, other, ENGINE_COMPACT, "orders", 0);
    if (close) {
      sim_close(sim, scene.conn);
    } else {
      sim_advance(sim, SIM_SEC);
      assert_int_equal(sim_reply(sim, scene.conn, running)->code, ENGINE_CODE_DEADLINE_EXCEEDED);
      assert_int_equal(sim_reply(sim, scene.conn, queued)->code, ENGINE_CODE_DEADLINE_EXCEEDED);
    }
    assert_int_equal(sim->cancel_cnt, 1);
    assert_int_equal(sim_waiting(sim, SIM_WORKER), 1);
    sim_answer(sim, 0, 0);
    assert_int_equal(sim_waiting(sim, SIM_WORKER), 1);
    sim_answer(sim, 0, 0);
    assert_int_equal(sim_reply(sim, other, later)->code, ENGINE_CODE_OK);
    sim_free(sim);
  }
}

/* A removal ends the workers of its workspace, and says so to who waits. */
static void test_job_removed(void **state) {
  engine_config_t config = {.jobs_running_max = 1};
  scene_t scene = scene_new(&config);
  sim_t *sim = scene.sim;
  sim->hold[SIM_WORKER] = 1;
  uint32_t running = sim_send_named(sim, scene.conn, ENGINE_COMPACT, "orders", 0);
  uint32_t queued = sim_send_named(sim, scene.conn, ENGINE_QUERY, "orders", 0);
  assert_int_equal(sim_delete(sim, scene.conn, "orders", 0)->reply.code, ENGINE_CODE_OK);
  assert_int_equal(sim_reply(sim, scene.conn, running)->code, ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim_reply(sim, scene.conn, queued)->code, ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim->cancel_cnt, 1);
  sim->hold[SIM_WORKER] = 0;
  sim_settle(sim);
  assert_int_equal(sim_create(sim, scene.conn, "orders")->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* A query that asks for too much is refused with the figures. */
static void test_query_limits(void **state) {
  scene_t scene = scene_new(NULL);
  uint64_t tags[ENGINE_TAGS_MAX + 1] = {0};
  engine_request_t req = {.method = ENGINE_QUERY};
  snprintf(req.u.query.name, sizeof(req.u.query.name), "orders");
  req.u.query.page_size = ENGINE_QUERY_PAGE_MAX + 1;
  engine_reply_t const *reply =
      sim_reply(scene.sim, scene.conn, sim_send(scene.sim, scene.conn, &req, 0));
  assert_int_equal(reply->code, ENGINE_CODE_INVALID_ARGUMENT);
  assert_int_equal(reply->detail_wanted, ENGINE_QUERY_PAGE_MAX + 1);
  req.u.query.page_size = ENGINE_QUERY_PAGE_MAX;
  req.u.query.tags = tags;
  req.u.query.tag_cnt = ENGINE_TAGS_MAX + 1;
  reply = sim_reply(scene.sim, scene.conn, sim_send(scene.sim, scene.conn, &req, 0));
  assert_int_equal(reply->code, ENGINE_CODE_INVALID_ARGUMENT);
  assert_string_equal(reply->detail_kind, "tags");
  req.u.query.tag_cnt = ENGINE_TAGS_MAX;
  uint32_t stream = sim_send(scene.sim, scene.conn, &req, 0);
  sim_settle(scene.sim);
  assert_int_equal(sim_reply(scene.sim, scene.conn, stream)->code, ENGINE_CODE_OK);
  sim_free(scene.sim);
}

/* A watch gets the events of its name, or all, from its beginning to its deadline. */
static void test_watch(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  uint64_t conn = scene.conn;
  sim->keep_events = 1;
  uint32_t all = sim_send_named(sim, conn, ENGINE_WATCH, "", SIM_SEC);
  uint32_t one = sim_send_named(sim, conn, ENGINE_WATCH, "bills", 0);

  sim_create(sim, conn, "bills");
  uint64_t lease = open_lease(&scene, ENGINE_OPEN_RO);
  sim_hangup(sim, lease);
  sim_delete(sim, conn, "bills", 0);
  engine_event_t event = {.kind = ENGINE_EV_QUARANTINE};
  event.u.quarantine.ws_id = 1;
  event.u.quarantine.reason = "its memory was cut";
  sim_step(sim, &event);
  assert_int_equal(sim_events(sim, conn, all, ENGINE_EVENT_CREATED, "bills"), 1);
  assert_int_equal(sim_events(sim, conn, all, ENGINE_EVENT_REMOVED, "bills"), 1);
  assert_int_equal(sim_events(sim, conn, all, ENGINE_EVENT_ATTACHED, "orders"), 1);
  assert_int_equal(sim_events(sim, conn, all, ENGINE_EVENT_DETACHED, "orders"), 1);
  assert_int_equal(sim_events(sim, conn, all, ENGINE_EVENT_QUARANTINED, "orders"), 1);
  assert_int_equal(sim_events(sim, conn, one, ENGINE_EVENT_CREATED, "bills"), 1);
  assert_int_equal(sim_events(sim, conn, one, ENGINE_EVENT_REMOVED, "bills"), 1);
  assert_int_equal(sim->events.cnt, 7);

  sim_advance(sim, SIM_SEC);
  assert_int_equal(sim_reply(sim, conn, all)->code, ENGINE_CODE_DEADLINE_EXCEEDED);
  sim_unanswered(sim, conn, one);
  sim_close(sim, conn);
  conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "bills");
  assert_int_equal(sim->events.cnt, 7);
  sim_free(sim);
}

/* Whoever watches a name is not told of leases on a removed workspace that had it. */
static void test_watch_removed(void **state) {
  scene_t scene = scene_new(NULL);
  sim_t *sim = scene.sim;
  sim->keep_events = 1;
  uint64_t lease = open_lease(&scene, ENGINE_OPEN_RW);
  sim_delete(sim, scene.conn, "orders", 1);
  sim_create(sim, scene.conn, "orders");
  uint32_t watch = sim_send_named(sim, scene.conn, ENGINE_WATCH, "orders", 0);
  sim_hangup(sim, lease);
  sim_settle(sim);
  assert_int_equal(sim->events.cnt, 0);
  sim_unanswered(sim, scene.conn, watch);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_open),
      cmocka_unit_test(test_lease_outlives_connection),
      cmocka_unit_test(test_open_abandoned),
      cmocka_unit_test(test_open_fails),
      cmocka_unit_test(test_open_removed_meanwhile),
      cmocka_unit_test(test_rights),
      cmocka_unit_test(test_open_mode),
      cmocka_unit_test(test_not_found),
      cmocka_unit_test(test_reap),
      cmocka_unit_test(test_reap_coalesced),
      cmocka_unit_test(test_reap_many),
      cmocka_unit_test(test_reap_fails),
      cmocka_unit_test(test_reap_killed),
      cmocka_unit_test(test_lease_strays),
      cmocka_unit_test(test_lease_restart),
      cmocka_unit_test(test_ids_recovered),
      cmocka_unit_test(test_ids_used_up),
      cmocka_unit_test(test_query),
      cmocka_unit_test(test_jobs_order),
      cmocka_unit_test(test_worker_failures),
      cmocka_unit_test(test_job_abandoned),
      cmocka_unit_test(test_job_removed),
      cmocka_unit_test(test_query_limits),
      cmocka_unit_test(test_watch),
      cmocka_unit_test(test_watch_removed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
