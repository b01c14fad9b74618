/* random_test: everything at once. Peers come and go and ask for anything; answers are late, out of
   order and often bad; the process is killed again and again, and now and then the disk is damaged
   while it is away. The rules of fixture and engine_check hold after every step; in addition, what
   a client was told stays true over a restart, and in quiet times everything comes to an end.

   WKSP_TEST_SEED replays a run, WKSP_TEST_STEPS makes it longer. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define STEPS_DEFAULT 200000UL

/* Few enough that everything happens to each of them. */
#define NAMES 7
#define CONNS 24

/* Quiet times: steps until everything must have come to an end. */
#define QUIET_MAX 2000

static uint64_t env_number(char const *name, uint64_t otherwise) {
  char const *text = getenv(name);
  return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static void pick_name(sim_t *sim, char *ret_name) {
  if (sim_chance(sim, 60)) {
    static char const *const bad[] = {"", ".x", "a b", "\xff\x01\n",
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    snprintf(ret_name, ENGINE_TEXT_MAX, "%s", bad[sim_random(sim) % 5]);
    return;
  }
  snprintf(ret_name, ENGINE_TEXT_MAX, "ws-%" PRIu64, sim_random(sim) % NAMES);
}

/* The name that one without a readable spec is given. */
static void pick_damaged(sim_t *sim, char *ret_name) {
  uint64_t id = 0;
  for (size_t i = 0; i < sim->disk.cnt; i++)
    if (!sim->disk.items[i].spec.state) id = sim->disk.items[i].ws_id;
  for (size_t i = 0; i < sim->memory.cnt; i++)
    if (sim->memory.items[i].orphan && (!id || sim_chance(sim, 2))) id = sim->memory.items[i].ws_id;
  snprintf(ret_name, ENGINE_TEXT_MAX, "quarantined-%" PRIu64, id);
}

static void fill_create(sim_t *sim, engine_request_t *req) {
  static uint64_t const sizes[] = {1, 4096, 1 << 20, 1 << 21, 0, 1UL << 46, UINT64_MAX};
  static uint64_t const pages[] = {0, 0, 4096, 2097152, 12345};
  static uint32_t const modes[] = {0, 0600, 0640, 0666, 0644, 0777, 01000};

  pick_name(sim, req->u.create.name);
  int odd = sim_chance(sim, 8);
  req->u.create.size = sizes[sim_random(sim) % (odd ? 7 : 4)];
  if (sim_chance(sim, 2)) req->u.create.max_size = sizes[sim_random(sim) % (odd ? 7 : 4)];
  odd = sim_chance(sim, 8);
  req->u.create.page_size = pages[sim_random(sim) % (odd ? 5 : 4)];
  odd = sim_chance(sim, 8);
  req->u.create.mode = modes[sim_random(sim) % (odd ? 7 : 6)];
  req->u.create.part_max = sim_chance(sim, 10) ? sim_random(sim) : 0;
}

/* A call with an id of its own; now and then it is one of the last, made again. */
static void pick_call_id(sim_t *sim, engine_request_t *req) {
  if (req->method != ENGINE_CREATE && req->method != ENGINE_DELETE && req->method != ENGINE_RESIZE)
    return;
  uint64_t random = sim_random(sim);
  size_t back = 1 + sim_random(sim) % (SPEC_DONE_MAX - 1);
  req->call_id_len = sim_chance(sim, 50) ? (uint32_t)random : SPEC_CALL_ID_SIZE;
  memcpy(req->call_id, &random, sizeof(random));
  if (back <= sim->called.cnt && sim_chance(sim, 3))
    *req = sim->called.items[sim->called.cnt - back].req;
}

/* One that there is, or was, or never was. */
static void pick_ckpt(sim_t *sim, char *ret_id) {
  uint64_t store_id = 1 + sim_random(sim) % 50, number = 1 + sim_random(sim) % 50;
  if (sim->ckpts.cnt && !sim_chance(sim, 10)) {
    engine_ckpt_t const *ckpt = &sim->ckpts.items[sim_random(sim) % sim->ckpts.cnt];
    store_id = ckpt->store_id;
    number = ckpt->number;
  }
  snprintf(ret_id, ENGINE_TEXT_MAX, sim_chance(sim, 50) ? "%" PRIu64 : "%" PRIu64 ".%" PRIx64,
           store_id, number);
}

static uint64_t pick_job(sim_t *sim) {
  size_t i = sim->pending.cnt ? sim_random(sim) % sim->pending.cnt : 0;
  for (size_t k = 0; k < sim->pending.cnt; k++) {
    sim_pending_t const *pending = &sim->pending.items[(i + k) % sim->pending.cnt];
    if (pending->answer == SIM_TASK) return pending->id;
  }
  return sim_random(sim) % 1000;
}

static void fill_schedule(sim_t *sim, engine_request_t *req) {
  pick_name(sim, req->u.c.schedule.name);
  req->u.c.schedule.every_ns = (30 + sim_random(sim) % 200) * SIM_SEC;
  if (sim_chance(sim, 30)) req->u.c.schedule.every_ns = sim_random(sim);
  if (sim_chance(sim, 4)) req->u.c.schedule.every_ns = 0;
  if (sim_chance(sim, 4)) req->u.c.schedule.jitter_ns = 10 * SIM_SEC;
  req->u.c.schedule.drop = sim_chance(sim, 6);
  req->u.c.schedule.declared = sim_chance(sim, 6);
  req->u.c.schedule.keep.last = (uint32_t)(sim_random(sim) % 3);
  req->u.c.schedule.on_stop = sim_chance(sim, 2);
  req->u.c.schedule.on_start = sim_chance(sim, 2);
  if (sim_chance(sim, 2)) req->u.c.schedule.drill_ns = (60 + sim_random(sim) % 200) * SIM_SEC;
}

static void fill_restore(sim_t *sim, engine_request_t *req, uint64_t const *tags) {
  static uint64_t const pages[] = {0, 4096, 2097152, 12345};
  pick_name(sim, req->u.c.restore.name);
  if (sim_chance(sim, 3)) pick_ckpt(sim, req->u.c.restore.from);
  if (sim_chance(sim, 2)) pick_name(sim, req->u.c.restore.as);
  int odd = sim_chance(sim, 8);
  req->u.c.restore.page_size = pages[sim_random(sim) % (odd ? 4 : 3)];
  req->u.c.restore.tags = tags;
  req->u.c.restore.tag_cnt = sim_random(sim) % 4;
  req->u.c.restore.wait = sim_chance(sim, 2);
  req->u.c.restore.in_place = sim_chance(sim, 4);
  uint64_t uuid = sim_random(sim);
  memcpy(req->u.c.restore.uuid, &uuid, sizeof(uuid));
}

/* Requests about checkpoints. */
static void fill_ckpts(sim_t *sim, engine_request_t *req, uint64_t const *tags) {
  switch (req->method) {
  case ENGINE_CHECKPOINT:
    pick_name(sim, req->u.c.checkpoint.name);
    req->u.c.checkpoint.mode = sim_chance(sim, 30) ? 9 : 1;
    req->u.c.checkpoint.info = sim_chance(sim, 2) ? "text" : NULL;
    break;
  case ENGINE_CKPT_LIST:
    if (sim_chance(sim, 2)) pick_name(sim, req->u.c.ckpt_list.name);
    req->u.c.ckpt_list.page_size = (uint32_t)(sim_random(sim) % 4);
    break;
  case ENGINE_CKPT_SHOW:
  case ENGINE_CKPT_VERIFY:
  case ENGINE_CKPT_REMOVE:
    pick_ckpt(sim, req->u.c.ckpt.id);
    req->u.c.ckpt.drill = sim_chance(sim, 3);
    break;
  case ENGINE_RESTORE:
    fill_restore(sim, req, tags);
    break;
  case ENGINE_SCHEDULE_SET:
    fill_schedule(sim, req);
    break;
  case ENGINE_SCHEDULE_GET:
    pick_name(sim, req->u.c.schedule_get.name);
    break;
  default:
    req->u.c.job.job_id = pick_job(sim);
  }
}

static void random_request(sim_t *sim) {
  static int const methods[] = {
      ENGINE_CREATE,    ENGINE_CREATE,       ENGINE_CREATE,       ENGINE_DELETE,
      ENGINE_GET,       ENGINE_LIST,         ENGINE_OPEN,         ENGINE_OPEN,
      ENGINE_OPEN,      ENGINE_QUERY,        ENGINE_QUERY,        ENGINE_COMPACT,
      ENGINE_WATCH,     ENGINE_VERSION,      ENGINE_STATS,        ENGINE_RESIZE,
      ENGINE_RESIZE,    ENGINE_CHECKPOINT,   ENGINE_CHECKPOINT,   ENGINE_CKPT_LIST,
      ENGINE_CKPT_SHOW, ENGINE_CKPT_VERIFY,  ENGINE_CKPT_REMOVE,  ENGINE_RESTORE,
      ENGINE_RESTORE,   ENGINE_SCHEDULE_SET, ENGINE_SCHEDULE_GET, ENGINE_JOB_LIST,
      ENGINE_JOB_WATCH, ENGINE_JOB_CANCEL};
  uint64_t tags[3] = {1, 2, 3};
  engine_request_t req = {.method = methods[sim_random(sim) % 30]};

  if (!sim->conns.cnt) return;
  switch (req.method) {
  case ENGINE_CREATE:
    fill_create(sim, &req);
    break;
  case ENGINE_DELETE:
    if (sim_chance(sim, 2))
      pick_damaged(sim, req.u.del.name);
    else
      pick_name(sim, req.u.del.name);
    req.u.del.force = sim_chance(sim, 2);
    break;
  case ENGINE_GET:
    pick_name(sim, req.u.get.name);
    break;
  case ENGINE_LIST:
    req.u.list.page_size = (uint32_t)(sim_random(sim) % 6);
    req.u.list.all = sim_chance(sim, 2);
    if (sim_chance(sim, 2)) pick_name(sim, req.u.list.page_token);
    break;
  case ENGINE_OPEN:
    pick_name(sim, req.u.open.name);
    req.u.open.mode = sim_chance(sim, 30) ? 7 : (int)(sim_random(sim) % 2);
    break;
  case ENGINE_QUERY:
    pick_name(sim, req.u.query.name);
    req.u.query.tags = tags;
    req.u.query.tag_cnt = sim_chance(sim, 30) ? ENGINE_TAGS_MAX + 1 : sim_random(sim) % 4;
    req.u.query.page_size = sim_chance(sim, 30) ? 50001 : 0;
    break;
  case ENGINE_COMPACT:
    pick_name(sim, req.u.compact.name);
    break;
  case ENGINE_RESIZE:
    pick_name(sim, req.u.resize.name);
    req.u.resize.size = sim_chance(sim, 20) ? sim_random(sim) : sim_random(sim) % (5UL << 20);
    break;
  case ENGINE_WATCH:
    if (sim_chance(sim, 2)) pick_name(sim, req.u.watch.name);
    break;
  default:
    if (req.method >= ENGINE_CHECKPOINT) fill_ckpts(sim, &req, tags);
  }
  sim_conn_t const *from = &sim->conns.items[sim_random(sim) % sim->conns.cnt];
  if (sim_chance(sim, 2)) pick_call_id(sim, &req);
  /* Nobody has another user's ids: to who may not know of a call, the same id is another one. */
  if (req.call_id_len == SPEC_CALL_ID_SIZE) req.call_id[0] = (uint8_t)from->uid;
  uint64_t timeout = sim_chance(sim, 3) ? 1 + sim_random(sim) % (SIM_SEC / 10) : 0;
  sim_send(sim, from->conn, &req, timeout);
}

static void random_conn(sim_t *sim) {
  if (sim->conns.cnt >= CONNS && !sim_chance(sim, 10)) return;
  uint32_t uid = (uint32_t)(sim_random(sim) % 4);
  uint32_t gid = (uint32_t)(sim_random(sim) % 3);
  sim_conn(sim, uid, gid);
}

/* Peers forget what was answered. */
static void forget_answered(sim_t *sim) {
  for (size_t i = sim->requests.cnt; i--;) {
    if (!sim->requests.items[i].answered) continue;
    free(sim->requests.items[i].views);
    sim->requests.items[i] = sim->requests.items[--sim->requests.cnt];
  }
}

static void random_hangup(sim_t *sim, int any) {
  if (!sim->lifelines.cnt) return;
  size_t first = sim_random(sim) % sim->lifelines.cnt;
  for (size_t i = 0; i < sim->lifelines.cnt; i++) {
    sim_lifeline_t const *line = &sim->lifelines.items[(first + i) % sim->lifelines.cnt];
    if (line->reported || !(line->hung_up || (any && line->with_client))) continue;
    sim_hangup(sim, line->lease_id);
    return;
  }
}

static void random_cancel(sim_t *sim) {
  if (!sim->requests.cnt) return;
  sim_request_t *request = &sim->requests.items[sim_random(sim) % sim->requests.cnt];
  engine_event_t event = {.kind = ENGINE_EV_CANCEL};
  int answered = request->answered;

  event.u.cancel.conn = request->conn;
  event.u.cancel.stream = request->stream;
  int outcome = sim_step(sim, &event);
  if (outcome != (answered ? ENGINE_STALE : 0)) sim_broken(sim, "a cancel had outcome %d", outcome);
  if (!answered && !request->answered) sim_broken(sim, "a cancelled request has no reply");
}

static void random_quarantine(sim_t *sim) {
  if (!sim->memory.cnt) return;
  engine_event_t event = {.kind = ENGINE_EV_QUARANTINE};
  uint64_t ws_id = sim->memory.items[sim_random(sim) % sim->memory.cnt].ws_id;

  event.u.quarantine.ws_id = ws_id;
  event.u.quarantine.reason = "its memory was cut";
  if (sim_step(sim, &event) == 0) sim->quarantine_cnt++;
}

/* What a memory is found to hold: what it does, or more. */
static void random_held(sim_t *sim) {
  if (!sim->memory.cnt) return;
  engine_event_t event = {.kind = ENGINE_EV_HELD};
  sim_memory_t const *memory = &sim->memory.items[sim_random(sim) % sim->memory.cnt];

  event.u.held.ws_id = memory->ws_id;
  event.u.held.bytes = sim_chance(sim, 2) ? memory->filled : memory->max_size + (16UL << 20);
  event.u.held.top = sim_chance(sim, 8) ? memory->max_size : event.u.held.bytes;
  (void)sim_step(sim, &event);
}

/* What a client was told to be there is there after a restart, and what was removed is not. */
static void check_promises(sim_t *sim) {
  uint64_t conn = sim_conn(sim, 0, 0);
  for (size_t i = sim->published.cnt; i--;) {
    sim_published_t published = sim->published.items[i];
    if (published.doomed && !published.gone) continue;
    sim_request_t const *get =
        sim_request(sim, conn, sim_send_named(sim, conn, ENGINE_GET, published.name, 0));
    int there = get->reply.code == ENGINE_CODE_OK && get->view.spec.ws_id == published.ws_id;
    if (published.gone && there)
      sim_broken(sim, "\"%s\" came back after its removal", published.name);
    if (!published.gone && (!there || get->view.quarantined))
      sim_broken(sim, "\"%s\" is lost", published.name);
    if (published.gone) sim->published.items[i] = sim->published.items[--sim->published.cnt];
  }
  sim_close(sim, conn);
}

/* Checkpoints that somebody has moved away meanwhile, so that there are never very many. */
#define CKPTS 40

static void random_restart(sim_t *sim) {
  if (sim->ckpts.cnt > CKPTS) sim->ckpts.cnt = CKPTS;
  sim_restart(sim);
  check_promises(sim);
}

/* Arguments have no order of evaluation, and a seed must mean the same to every compiler: so each
   random number has a statement of its own. */
static void random_answer(sim_t *sim, uint64_t fail_one_in) {
  if (!sim->pending.cnt) return;
  size_t index = sim_random(sim) % sim->pending.cnt;
  int fail = sim_chance(sim, fail_one_in);
  sim_answer(sim, index, fail);
}

static void random_progress(sim_t *sim) {
  uint64_t job_id = pick_job(sim), done = sim_random(sim) % 1000;
  sim_progress(sim, job_id, done, 1000);
}

static void random_step(sim_t *sim) {
  uint64_t dice = sim_random(sim) % 1000;

  if (dice < 480)
    random_answer(sim, 12);
  else if (dice < 780)
    random_request(sim);
  else if (dice < 830)
    random_conn(sim);
  else if (dice < 840 && sim->conns.cnt)
    sim_close(sim, sim->conns.items[sim_random(sim) % sim->conns.cnt].conn);
  else if (dice < 930)
    random_hangup(sim, 1);
  else if (dice < 940)
    random_cancel(sim);
  else if (dice < 941)
    random_progress(sim);
  else if (dice < 942)
    sim_step_kind(sim, ENGINE_EV_VIOLATION);
  else if (dice < 943 && sim_chance(sim, 6))
    random_quarantine(sim);
  else if (dice < 945 && dice >= 944 && sim_chance(sim, 3))
    random_held(sim);
  else if (dice < 944 && sim_chance(sim, 5))
    random_restart(sim);
  else
    sim_advance(sim, sim_random(sim) % (SIM_SEC / 50));
}

/* Everything that was begun comes to an end when the disk is well and nobody asks for more. */
static void quiet(sim_t *sim) {
  sim->wild = 0;
  for (int i = 0; i < QUIET_MAX; i++) {
    sim_settle(sim);
    random_hangup(sim, 0);
    sim_advance(sim, SIM_SEC);
    int busy = 0;
    for (size_t k = 0; k < sim->requests.cnt; k++)
      busy |= !sim->requests.items[k].answered && sim->requests.items[k].req.method != ENGINE_WATCH;
    if (!busy && !sim->pending.cnt && i > 30) break;
    if (i + 1 == QUIET_MAX) sim_broken(sim, "something does not come to an end");
  }
  for (size_t i = 0; i < sim->disk.cnt; i++)
    if (sim->disk.items[i].spec.state == SPEC_MAKING)
      sim_broken(sim, "an intent stays on disk in quiet times");
  for (size_t i = 0; i < sim->lifelines.cnt; i++)
    if (sim->lifelines.items[i].hung_up) sim_broken(sim, "an ended lease is never let go of");
  sim->wild = 1;
}

/* STOP ends with update.stopped once every answer has come, and leaves only what a start can go on
   with. */
static void stop(sim_t *sim) {
  sim_step_kind(sim, ENGINE_EV_STOP);
  for (int i = 0; i < QUIET_MAX && !sim->stopped; i++) {
    if (!sim->pending.cnt) sim_broken(sim, "nothing is under way and it does not stop");
    random_answer(sim, 6);
  }
  if (!sim->stopped) sim_broken(sim, "it does not stop");
  for (size_t i = 0; i < sim->requests.cnt; i++)
    if (!sim->requests.items[i].answered) sim_broken(sim, "stopped, and a request has no reply");
  random_restart(sim);
}

/* 200,000 random steps break no rule, and reach every kind of end. */
static void test_random(void **state) {
  uint64_t seed = env_number("WKSP_TEST_SEED", 20240521);
  uint64_t steps = env_number("WKSP_TEST_STEPS", STEPS_DEFAULT);
  engine_config_t config = {.conns_max = CONNS + 2,
                            .workspaces_max = NAMES + 6,
                            .leases_max = 40,
                            .jobs_running_max = 3,
                            .memory_bytes = 1UL << 40,
                            .layout_version = 1};
  sim_t *sim = sim_new(seed, &config);

  print_message("# WKSP_TEST_SEED=%" PRIu64 "\n", seed);
  sim->wild = 1;
  for (uint64_t i = 0; sim->step_cnt < steps; i++) {
    random_step(sim);
    if (sim->requests.cnt > 64) forget_answered(sim);
    if (i % 10000 == 9999) quiet(sim);
    if (i % 4000 == 3999) stop(sim);
  }
  print_message("# steps %" PRIu64 " restarts %" PRIu64 " reaps %" PRIu64 " cancels %" PRIu64
                " quarantined %" PRIu64 " conns refused %" PRIu64 " grown %" PRIu64
                " shrunk %" PRIu64 " blocked %" PRIu64 "\n",
                sim->step_cnt, sim->restart_cnt, sim->reap_cnt, sim->cancel_cnt,
                sim->quarantine_cnt, sim->closed_cnt, sim->grow_cnt, sim->shrink_cnt,
                sim->blocked_cnt);
  print_message("# checkpoints %" PRIu64 " restores %" PRIu64 " listings %" PRIu64 "\n",
                sim->task_cnt[ENGINE_OP_CHECKPOINT], sim->task_cnt[ENGINE_OP_RESTORE],
                sim->task_cnt[ENGINE_OP_CKPT_LIST]);
  if (steps >= STEPS_DEFAULT) {
    static int const codes[] = {0, 1, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15};
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
      if (!sim->reply_cnt[codes[i]]) sim_broken(sim, "no reply had code %d", codes[i]);
    assert_true(sim->grow_cnt > 30 && sim->shrink_cnt > 30 && sim->blocked_cnt > 15);
    static int const tasks[] = {ENGINE_OP_CHECKPOINT,  ENGINE_OP_RESTORE,   ENGINE_OP_CKPT_VERIFY,
                                ENGINE_OP_CKPT_REMOVE, ENGINE_OP_CKPT_LIST, ENGINE_OP_CKPT_SHOW,
                                ENGINE_OP_CKPT_DRILL};
    for (size_t i = 0; i < sizeof(tasks) / sizeof(*tasks); i++)
      if (sim->task_cnt[tasks[i]] < 20) sim_broken(sim, "hardly any operation %d", tasks[i]);
    assert_true(sim->restart_cnt > 20 && sim->reap_cnt > 1000 && sim->quarantine_cnt > 0);
  }
  for (size_t i = 0; i < 16; i++)
    if (sim->reply_cnt[i]) print_message("# code %zu: %" PRIu64 "\n", i, sim->reply_cnt[i]);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(test_random)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
