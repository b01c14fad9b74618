/* limits_test: every bound refuses with figures and gives way again; lists, figures, deadlines, the
   end, and what the shell must not do. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "wksp/error.h"

#define OWNER 1000U

static void assert_limit(engine_reply_t const *reply, uint64_t limit) {
  char figure[32];
  snprintf(figure, sizeof(figure), " %lu", limit);
  assert_int_equal(reply->code, ENGINE_CODE_RESOURCE_EXHAUSTED);
  assert_string_equal(reply->detail_kind, "limit");
  assert_int_equal(reply->detail_wanted, limit + 1);
  assert_int_equal(reply->detail_free, 0);
  assert_non_null(strstr(reply->sentence, figure));
}

/* Connections are bounded in all and per user; the last are root's; a closed one makes room. */
static void test_connections(void **state) {
  sim_t *sim = sim_new(1, NULL);
  sim->check_every = 512;
  for (uint32_t i = 0; i < ENGINE_UID_CONNS_MAX; i++) assert_int_not_equal(sim_conn(sim, 1, 1), 0);
  assert_int_equal(sim_conn(sim, 1, 1), 0);
  while (sim->conns.cnt < ENGINE_CONNS_MAX - ENGINE_CONNS_ROOT)
    assert_int_not_equal(sim_conn(sim, 2, 2), 0);
  assert_int_equal(sim_conn(sim, 3, 3), 0);
  while (sim->conns.cnt < ENGINE_CONNS_MAX) assert_int_not_equal(sim_conn(sim, 0, 0), 0);
  assert_int_equal(sim_conn(sim, 0, 0), 0);
  sim_close(sim, 1);
  assert_int_not_equal(sim_conn(sim, 0, 0), 0);
  sim_check(sim);
  sim_free(sim);
}

/* A connection has ENGINE_STREAMS_MAX requests in flight at the most. */
static void test_streams(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  char name[32];
  for (uint32_t i = 0; i < ENGINE_STREAMS_MAX; i++) {
    snprintf(name, sizeof(name), "ws-%u", i);
    sim_unanswered(sim, conn, sim_send_create(sim, conn, name, 0));
  }
  uint32_t over = sim_send_named(sim, conn, ENGINE_GET, "x", 0);
  assert_limit(sim_reply(sim, conn, over), ENGINE_STREAMS_MAX);
  sim_settle(sim);
  assert_int_equal(sim_get(sim, conn, "ws-1")->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* Requests are bounded in all; those that wait are all answered at a stop. */
static void test_calls(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, 0, 0);
  engine_event_t event = {.kind = ENGINE_EV_REQUEST, .now_mono_ns = sim->mono_ns};

  assert_int_equal(sim_create(sim, conn, "orders")->reply.code, ENGINE_CODE_OK);
  sim->check_every = 4096;
  event.u.request.req.method = ENGINE_OPEN;
  snprintf(event.u.request.req.u.open.name, ENGINE_TEXT_MAX, "orders");
  for (uint32_t i = 0; i <= ENGINE_CALLS_MAX; i++) {
    if (i % ENGINE_STREAMS_MAX == 0) conn = sim_conn(sim, 0, 0);
    event.u.request.conn = conn;
    event.u.request.stream = i + 1;
    assert_int_equal(engine_step(sim->engine, &event, &sim->update), 0);
    int over = i == ENGINE_CALLS_MAX; /* refused, and that is logged */
    assert_int_equal(sim->update.effect_cnt, over ? 2 : 1);
    assert_int_equal(sim->update.effects[0].kind, over ? ENGINE_FX_REPLY : ENGINE_FX_LEASE_MAKE);
    if (over) assert_int_equal(sim->update.effects[1].kind, ENGINE_FX_LOG);
  }
  assert_limit(sim->update.effects[0].u.reply, ENGINE_CALLS_MAX);
  assert_null(engine_check(sim->engine));

  event.kind = ENGINE_EV_STOP;
  size_t reply_cnt = 0;
  assert_int_equal(engine_step(sim->engine, &event, &sim->update), 0);
  for (size_t i = 0; i < sim->update.effect_cnt; i++)
    reply_cnt += sim->update.effects[i].kind == ENGINE_FX_REPLY;
  assert_int_equal(reply_cnt, ENGINE_CALLS_MAX);
  sim_free(sim);
}

/* Workspaces are bounded, those in the making included; a removed one makes room. */
static void test_workspaces(void **state) {
  engine_config_t config = {.workspaces_max = 3};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "a");
  sim_create(sim, conn, "b");
  sim_send_create(sim, conn, "c", 0);
  assert_limit(sim_reply(sim, conn, sim_send_create(sim, conn, "d", 0)), 3);
  sim_settle(sim);
  sim_delete(sim, conn, "a", 0);
  assert_int_equal(sim_create(sim, conn, "d")->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* Leases are bounded, those in the making included; an ended one makes room. */
static void test_leases(void **state) {
  engine_config_t config = {.leases_max = 2};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "a");
  uint64_t lease = sim_open(sim, conn, "a", ENGINE_OPEN_RW)->reply.u.open.lease_id;
  sim->hold[SIM_LEASE] = 1;
  sim_send_named(sim, conn, ENGINE_OPEN, "a", 0);
  assert_limit(&sim_open(sim, conn, "a", ENGINE_OPEN_RW)->reply, 2);
  sim->hold[SIM_LEASE] = 0;
  sim_hangup(sim, lease);
  sim_settle(sim);
  assert_int_equal(sim_open(sim, conn, "a", ENGINE_OPEN_RW)->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* Workspaces and leases share what can be kept: either may take what the other has left, and no
 * more. */
static void test_kept(void **state) {
  engine_config_t config = {.workspaces_max = 3, .leases_max = 3, .kept_max = 4};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "a");
  sim_create(sim, conn, "b");
  sim_create(sim, conn, "c");
  uint64_t lease = sim_open(sim, conn, "a", ENGINE_OPEN_RW)->reply.u.open.lease_id;
  assert_limit(&sim_open(sim, conn, "a", ENGINE_OPEN_RW)->reply, 4);
  sim_delete(sim, conn, "c", 0);
  assert_int_equal(sim_open(sim, conn, "a", ENGINE_OPEN_RW)->reply.code, ENGINE_CODE_OK);
  assert_limit(sim_reply(sim, conn, sim_send_create(sim, conn, "d", 0)), 4);
  sim_hangup(sim, lease);
  sim_settle(sim);
  assert_int_equal(sim_create(sim, conn, "d")->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* Connections take what workspaces and leases have left, and these what connections have. */
static void test_files(void **state) {
  engine_config_t config = {.conns_max = 5, .workspaces_max = 5, .kept_max = 5, .files_max = 6};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "a");
  sim_create(sim, conn, "b");
  sim_create(sim, conn, "c");
  uint64_t other = sim_conn(sim, OWNER, OWNER), more = sim_conn(sim, OWNER, OWNER);
  assert_int_equal(sim_conn(sim, OWNER, OWNER), 0);
  assert_limit(sim_reply(sim, conn, sim_send_create(sim, conn, "d", 0)), 6);
  sim_close(sim, more);
  assert_int_equal(sim_create(sim, other, "d")->reply.code, ENGINE_CODE_OK);
  assert_int_equal(sim_conn(sim, OWNER, OWNER), 0);
  sim_free(sim);
}

/* Watches are bounded per connection and in all. */
static void test_watches(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = 0;
  for (uint32_t i = 0; i < ENGINE_WATCHES_MAX; i++) {
    if (i % ENGINE_CONN_WATCHES_MAX == 0) conn = sim_conn(sim, OWNER, OWNER);
    sim_unanswered(sim, conn, sim_send_named(sim, conn, ENGINE_WATCH, "", 0));
  }
  assert_limit(sim_reply(sim, conn, sim_send_named(sim, conn, ENGINE_WATCH, "", 0)),
               ENGINE_CONN_WATCHES_MAX);
  uint64_t other = sim_conn(sim, OWNER, OWNER);
  assert_limit(sim_reply(sim, other, sim_send_named(sim, other, ENGINE_WATCH, "", 0)),
               ENGINE_WATCHES_MAX);
  sim_close(sim, conn);
  sim_unanswered(sim, other, sim_send_named(sim, other, ENGINE_WATCH, "", 0));
  uint32_t bad = sim_send_named(sim, other, ENGINE_WATCH, "a b", 0);
  assert_int_equal(sim_reply(sim, other, bad)->code, ENGINE_CODE_INVALID_ARGUMENT);
  sim_free(sim);
}

/* Requests that wait for a worker are bounded, for each uid and in all; reaps do not count. */
static void test_jobs(void **state) {
  engine_config_t config = {.jobs_running_max = 1};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, OWNER, OWNER), root = sim_conn(sim, 0, 0);
  sim_create(sim, conn, "a");
  uint64_t lease = sim_open(sim, conn, "a", ENGINE_OPEN_RW)->reply.u.open.lease_id;
  sim->hold[SIM_WORKER] = 1;
  sim_unanswered(sim, conn, sim_send_named(sim, conn, ENGINE_QUERY, "a", 0)); /* runs */
  sim_hangup(sim, lease);
  for (uint32_t i = 0; i < ENGINE_UID_JOBS_QUEUED_MAX; i++) {
    if (i % 32 == 0) conn = sim_conn(sim, OWNER, OWNER);
    sim_unanswered(sim, conn, sim_send_named(sim, conn, ENGINE_QUERY, "a", 0));
  }
  assert_limit(sim_reply(sim, conn, sim_send_named(sim, conn, ENGINE_QUERY, "a", 0)),
               ENGINE_UID_JOBS_QUEUED_MAX);
  for (uint32_t i = ENGINE_UID_JOBS_QUEUED_MAX; i < ENGINE_JOBS_QUEUED_MAX; i++) {
    if (i % 32 == 0) root = sim_conn(sim, 0, 0);
    sim_unanswered(sim, root, sim_send_named(sim, root, ENGINE_QUERY, "a", 0));
  }
  assert_limit(sim_reply(sim, root, sim_send_named(sim, root, ENGINE_QUERY, "a", 0)),
               ENGINE_JOBS_QUEUED_MAX);
  sim->hold[SIM_WORKER] = 0;
  sim_settle(sim);
  assert_int_equal(sim->reply_cnt[ENGINE_CODE_RESOURCE_EXHAUSTED], 2);
  assert_int_equal(sim->lifelines.cnt, 0);
  sim_free(sim);
}

/* Limits that are configured above the constants are cut to them, and 0 is the constant. */
static void test_config(void **state) {
  engine_config_t config = {.jobs_running_max = 1000};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "a");
  sim->hold[SIM_WORKER] = 1;
  for (uint32_t i = 0; i < ENGINE_JOBS_RUNNING_MAX + 8; i++) {
    if (i % 32 == 0) conn = sim_conn(sim, OWNER, OWNER);
    sim_send_named(sim, conn, ENGINE_QUERY, "a", 0);
  }
  assert_int_equal(sim_waiting(sim, SIM_WORKER), ENGINE_JOBS_RUNNING_MAX);
  sim_free(sim);
}

static sim_request_t *list(sim_t *sim, uint64_t conn, uint32_t page, char const *token, int all) {
  engine_request_t req = {.method = ENGINE_LIST};
  req.u.list.page_size = page;
  req.u.list.all = all;
  snprintf(req.u.list.page_token, sizeof(req.u.list.page_token), "%s", token);
  return sim_request(sim, conn, sim_send(sim, conn, &req, 0));
}

/* Pages come in the order of names, each workspace once, whatever their size; also with removed
   ones of equal names, and when the one that the token names has gone meanwhile. */
static void test_list(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  char name[32];
  assert_int_equal(list(sim, conn, 0, "", 0)->reply.u.list.workspace_cnt, 0);
  for (int i = 0; i < 3; i++) {
    sim_create(sim, conn, "b");
    sim_open(sim, conn, "b", ENGINE_OPEN_RW);
    sim_delete(sim, conn, "b", 1);
  }
  for (int i = 9; i >= 0; i--) {
    snprintf(name, sizeof(name), "%c", 'a' + i);
    sim_create(sim, conn, name);
  }
  sim_send_create(sim, conn, "zz", 0); /* in the making: not listed */

  for (int all = 0; all < 2; all++) {
    for (uint32_t page = 1; page <= 14; page++) {
      char token[ENGINE_TEXT_MAX] = "";
      uint64_t seen[16];
      size_t cnt = 0, removing = 0;
      do {
        sim_request_t *request = list(sim, conn, page, token, all);
        assert_int_equal(request->reply.code, ENGINE_CODE_OK);
        assert_true(request->reply.u.list.workspace_cnt <= page);
        for (size_t i = 0; i < request->reply.u.list.workspace_cnt; i++) {
          assert_true(cnt < 16);
          for (size_t k = 0; k < cnt; k++)
            assert_int_not_equal(seen[k], request->views[i].spec.ws_id);
          seen[cnt++] = request->views[i].spec.ws_id;
          removing += (size_t)request->views[i].removing;
        }
        memcpy(token, request->reply.u.list.next_page_token, sizeof(token));
      } while (token[0]);
      assert_int_equal(cnt, all ? 13 : 10);
      assert_int_equal(removing, all ? 3 : 0);
    }
  }

  sim_request_t *first = list(sim, conn, 3, "", 0);
  assert_string_equal(first->reply.u.list.next_page_token, "c");
  sim_settle(sim);
  sim_delete(sim, conn, "c", 0);
  assert_string_equal(list(sim, conn, 3, "c", 0)->views[0].spec.name, "d");
  sim_free(sim);
}

/* A page size or token that is none is refused with its value. */
static void test_list_invalid(void **state) {
  static char const *const tokens[] = {"-", "a/", "a/0", "a/x", "a/1x", "/1", "a b", "a/-1"};
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  engine_reply_t const *reply = &list(sim, conn, ENGINE_LIST_PAGE_MAX + 1, "", 0)->reply;
  assert_int_equal(reply->code, ENGINE_CODE_INVALID_ARGUMENT);
  assert_string_equal(reply->detail_kind, "page_size");
  assert_non_null(strstr(reply->sentence, "10001"));
  for (size_t i = 0; i < sizeof(tokens) / sizeof(*tokens); i++) {
    reply = &list(sim, conn, 0, tokens[i], 0)->reply;
    assert_int_equal(reply->code, ENGINE_CODE_INVALID_ARGUMENT);
    assert_string_equal(reply->detail_kind, "page_token");
    assert_non_null(strstr(reply->sentence, tokens[i]));
  }
  assert_int_equal(list(sim, conn, ENGINE_LIST_PAGE_MAX, "a/99999999999999999999", 1)->reply.code,
                   ENGINE_CODE_OK);
  sim_free(sim);
}

/* Stats and Version say what is so. */
static void test_figures(void **state) {
  engine_config_t config = {.pid = 42, .layout_version = 3, .geometry_hash = 99};
  snprintf(config.daemon_version, sizeof(config.daemon_version), "0.1.0");
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "a");
  sim_create(sim, conn, "b");
  sim_create(sim, conn, "b");
  sim_open(sim, conn, "b", ENGINE_OPEN_RW);
  sim_delete(sim, conn, "b", 1);
  sim->hold[SIM_WORKER] = 1;
  sim_send_named(sim, conn, ENGINE_QUERY, "a", 0);
  engine_event_t event = {.kind = ENGINE_EV_QUARANTINE};
  event.u.quarantine.ws_id = 1;
  sim_step(sim, &event);
  sim_step_kind(sim, ENGINE_EV_VIOLATION);
  sim_advance(sim, 5 * SIM_SEC);

  engine_request_t req = {.method = ENGINE_STATS};
  req.u.stats.fd_cnt = 17;
  req.u.stats.fd_store = 1;
  engine_stats_t stats = sim_reply(sim, conn, sim_send(sim, conn, &req, 0))->u.stats;
  assert_int_equal(stats.pid, 42);
  assert_int_equal(stats.uptime_ns, 5 * SIM_SEC);
  assert_int_equal(stats.fd_store, 1);
  assert_int_equal(stats.workspace_cnt, 2);
  assert_int_equal(stats.quarantined_cnt, 1);
  assert_int_equal(stats.lease_cnt, 1);
  assert_int_equal(stats.connection_cnt, 1);
  assert_int_equal(stats.job_cnt, 1); /* cancelled, its worker has not ended yet */
  assert_int_equal(stats.bytes, 2 << 20);
  assert_int_equal(stats.request_cnt, 7);
  assert_int_equal(stats.refused_cnt, 2); /* the second create, the query */
  assert_int_equal(stats.violation_cnt, 1);
  assert_int_equal(stats.fd_cnt, 17);

  req = (engine_request_t){.method = ENGINE_VERSION};
  engine_reply_t const *version = sim_reply(sim, conn, sim_send(sim, conn, &req, 0));
  assert_string_equal(version->u.version.daemon, "0.1.0");
  assert_int_equal(version->u.version.layout_version, 3);
  assert_int_equal(version->u.version.geometry_hash, 99);
  sim_free(sim);
}

/* A request whose deadline has passed when it comes does nothing. */
static void test_late(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  engine_event_t event = {.kind = ENGINE_EV_REQUEST, .now_mono_ns = sim->mono_ns};
  event.u.request.conn = conn;
  event.u.request.stream = 1;
  event.u.request.deadline_mono_ns = sim->mono_ns;
  event.u.request.req.method = ENGINE_STATS;
  assert_int_equal(engine_step(sim->engine, &event, &sim->update), 0);
  assert_int_equal(sim->update.effect_cnt, 1);
  assert_int_equal(sim->update.effects[0].u.reply->code, ENGINE_CODE_DEADLINE_EXCEEDED);
  sim_free(sim);
}

/* The next tick is the earliest deadline, and none without. */
static void test_ticks(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER), start = sim->mono_ns;
  assert_int_equal(sim->update.next_tick_mono_ns, 0);
  sim_send_named(sim, conn, ENGINE_WATCH, "", 0);
  assert_int_equal(sim->update.next_tick_mono_ns, 0);
  sim_send_named(sim, conn, ENGINE_WATCH, "", 9 * SIM_SEC);
  sim_send_named(sim, conn, ENGINE_WATCH, "", 5 * SIM_SEC);
  sim_send_named(sim, conn, ENGINE_WATCH, "", 7 * SIM_SEC);
  assert_int_equal(sim->update.next_tick_mono_ns, start + 5 * SIM_SEC);
  sim_advance(sim, 6 * SIM_SEC);
  assert_int_equal(sim->update.next_tick_mono_ns, start + 7 * SIM_SEC);
  sim_advance(sim, 60 * SIM_SEC);
  assert_int_equal(sim->update.next_tick_mono_ns, 0);
  assert_int_equal(sim->reply_cnt[ENGINE_CODE_DEADLINE_EXCEEDED], 3);
  sim_free(sim);
}

/* A stop refuses what is new, undoes what is in the making, ends workers and watches, lets a
   removal that has begun end, keeps workspaces and leases, and says when it is done. */
static void test_stop(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "a");
  sim_create(sim, conn, "b");
  sim_open(sim, conn, "a", ENGINE_OPEN_RW);
  uint64_t ended = sim_open(sim, conn, "a", ENGINE_OPEN_RW)->reply.u.open.lease_id;
  sim->hold[SIM_WORKER] = 1;
  sim_hangup(sim, ended);
  uint32_t given_up[5];
  given_up[0] = sim_send_create(sim, conn, "c", 0);
  given_up[1] = sim_send_named(sim, conn, ENGINE_OPEN, "a", 0);
  given_up[2] = sim_send_named(sim, conn, ENGINE_QUERY, "a", 0);
  given_up[3] = sim_send_named(sim, conn, ENGINE_COMPACT, "a", 0);
  given_up[4] = sim_send_named(sim, conn, ENGINE_WATCH, "", 0);
  uint32_t del = sim_send_named(sim, conn, ENGINE_DELETE, "b", 0);

  sim_step_kind(sim, ENGINE_EV_STOP);
  assert_int_equal(sim->stopped, 0);
  for (int i = 0; i < 5; i++)
    assert_int_equal(sim_reply(sim, conn, given_up[i])->code, ENGINE_CODE_UNAVAILABLE);
  assert_int_equal(sim->cancel_cnt, 2); /* the reap and the query; the compact had not begun */
  sim_unanswered(sim, conn, del);
  uint32_t late = sim_send_named(sim, conn, ENGINE_GET, "a", 0);
  assert_int_equal(sim_reply(sim, conn, late)->code, ENGINE_CODE_UNAVAILABLE);
  assert_int_equal(sim_conn(sim, OWNER, OWNER), 0);
  sim->hold[SIM_WORKER] = 0;
  sim_settle(sim);
  assert_int_equal(sim->stopped, 1);
  assert_int_equal(sim_reply(sim, conn, del)->code, ENGINE_CODE_OK);
  assert_int_equal(sim->disk.cnt, 1);
  assert_int_equal(sim->memory.cnt, 1);
  assert_int_equal(sim->lifelines.cnt, 2); /* the ended one is reaped after the next start */

  sim_restart(sim);
  conn = sim_conn(sim, OWNER, OWNER);
  assert_int_equal(sim_get(sim, conn, "a")->view.attached_rw, 2);
  sim_free(sim);
}

/* A stop is not done while an answer is under way, whichever it is, though nobody waits for it. */
static void test_stop_awaits(void **state) {
  for (int way = 0; way < 5; way++) {
    sim_t *sim = sim_new(1, NULL);
    uint64_t conn = sim_conn(sim, OWNER, OWNER);
    sim_create(sim, conn, "a");
    if (way == 4) sim_send_named(sim, conn, ENGINE_QUERY, "a", 0);
    if (way == 3) sim_send_named(sim, conn, ENGINE_OPEN, "a", 0);
    if (way < 3) sim_send_create(sim, conn, "b", 0);
    for (int i = 0; i < way && way < 3; i++) sim_answer(sim, 0, 0);
    sim_step_kind(sim, ENGINE_EV_STOP);
    while (sim->pending.cnt) {
      assert_int_equal(sim->stopped, 0);
      sim_answer(sim, 0, 0);
    }
    assert_int_equal(sim->stopped, 1);
    assert_int_equal(sim->memory.cnt, 1);
    sim_free(sim);
  }
}

/* With nothing under way a stop is done at once, also before RECOVERED_END. */
static void test_stop_idle(void **state) {
  sim_t *sim = sim_new(1, NULL);
  sim_step_kind(sim, ENGINE_EV_STOP);
  assert_int_equal(sim->stopped, 1);
  sim_free(sim);

  engine_t *engine = engine_new();
  engine_update_t update = {0};
  engine_event_t event = {.kind = ENGINE_EV_START, .now_mono_ns = 1};
  assert_int_equal(engine_step(engine, &event, &update), 0);
  event.kind = ENGINE_EV_STOP;
  assert_int_equal(engine_step(engine, &event, &update), 0);
  assert_int_equal(update.stopped, 1);
  engine_update_free(&update);
  engine_free(engine);
}

/* What names a thing that has gone is stale and changes nothing. */
static void test_stale(void **state) {
  sim_t *sim = sim_new(1, NULL);
  engine_event_t events[] = {
      {.kind = ENGINE_EV_CONN_CLOSED},  {.kind = ENGINE_EV_REQUEST},    {.kind = ENGINE_EV_CANCEL},
      {.kind = ENGINE_EV_LIFELINE_HUP}, {.kind = ENGINE_EV_QUARANTINE},
  };
  for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++) {
    assert_int_equal(sim_step(sim, &events[i]), ENGINE_STALE);
    assert_int_equal(sim->update.effect_cnt, 0);
  }
  sim_free(sim);
}

/* A shell that breaks the contract is told so, and from then on nothing else. */
static void test_contract(void **state) {
  engine_event_t const events[] = {
      {.kind = 0, .now_mono_ns = 1},
      {.kind = 999, .now_mono_ns = 1},
      {.kind = ENGINE_EV_TICK, .now_mono_ns = 0},
      {.kind = ENGINE_EV_START, .now_mono_ns = 1},
      {.kind = ENGINE_EV_RECOVERED_WORKSPACE, .now_mono_ns = 1},
      {.kind = ENGINE_EV_RECOVERED_LEASE, .now_mono_ns = 1},
      {.kind = ENGINE_EV_RECOVERED_END, .now_mono_ns = 1},
      {.kind = ENGINE_EV_CONN_OPEN, .now_mono_ns = 1},
      {.kind = ENGINE_EV_PERSISTED, .now_mono_ns = 1},
      {.kind = ENGINE_EV_MEMORY_MADE, .now_mono_ns = 1},
      {.kind = ENGINE_EV_REMOVED, .now_mono_ns = 1},
      {.kind = ENGINE_EV_LEASE_MADE, .now_mono_ns = 1},
      {.kind = ENGINE_EV_WORKER_DONE, .now_mono_ns = 1},
  };
  for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++) {
    sim_t *sim = sim_new(1, NULL);
    assert_int_equal(engine_step(sim->engine, &events[i], &sim->update), WKSP_E_INVAL);
    assert_int_equal(sim->update.effect_cnt, 0);
    engine_event_t tick = {.kind = ENGINE_EV_TICK, .now_mono_ns = sim->mono_ns};
    assert_int_equal(engine_step(sim->engine, &tick, &sim->update), WKSP_E_INVAL);
    sim_free(sim);
  }
  engine_t *engine = engine_new();
  engine_update_t update = {0};
  engine_event_t tick = {.kind = ENGINE_EV_TICK, .now_mono_ns = 1};
  assert_int_equal(engine_step(engine, &tick, &update), WKSP_E_INVAL);
  engine_update_free(&update);
  engine_free(engine);
  engine_free(NULL);
}

/* Time that goes back stands still. */
static void test_time_back(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_advance(sim, 10 * SIM_SEC);
  sim_step_kind(sim, ENGINE_EV_TICK);
  engine_event_t event = {.kind = ENGINE_EV_REQUEST, .now_mono_ns = 1};
  event.u.request.conn = conn;
  event.u.request.stream = 1;
  event.u.request.req.method = ENGINE_STATS;
  assert_int_equal(engine_step(sim->engine, &event, &sim->update), 0);
  assert_int_equal(sim->update.effects[0].u.reply->u.stats.uptime_ns, 10 * SIM_SEC);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_connections), cmocka_unit_test(test_streams),
      cmocka_unit_test(test_calls),       cmocka_unit_test(test_workspaces),
      cmocka_unit_test(test_leases),      cmocka_unit_test(test_kept),
      cmocka_unit_test(test_files),       cmocka_unit_test(test_watches),
      cmocka_unit_test(test_jobs),        cmocka_unit_test(test_config),
      cmocka_unit_test(test_list),        cmocka_unit_test(test_list_invalid),
      cmocka_unit_test(test_figures),     cmocka_unit_test(test_late),
      cmocka_unit_test(test_ticks),       cmocka_unit_test(test_stop),
      cmocka_unit_test(test_stop_awaits), cmocka_unit_test(test_stop_idle),
      cmocka_unit_test(test_stale),       cmocka_unit_test(test_contract),
      cmocka_unit_test(test_time_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
