/* quarantine_test: what cannot be served is kept, said, and removed by those who may. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define OWNER 1000U

/* A workspace whose memory did not come back is kept under its name, says why, is not served, and
   its owner can remove it. */
static void test_quarantine_recovered(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "orders");
  sim->memory.cnt = 0;
  sim->disk.items[0].doubtful = 1;
  sim_restart(sim);
  conn = sim_conn(sim, OWNER, OWNER);

  sim_request_t *get = sim_get(sim, conn, "orders");
  assert_int_equal(get->view.quarantined, 1);
  assert_string_equal(get->view.reason, "its memory is gone");
  engine_reply_t const *reply = &sim_open(sim, conn, "orders", 0)->reply;
  assert_int_equal(reply->code, ENGINE_CODE_FAILED_PRECONDITION);
  assert_string_equal(reply->detail_kind, "quarantined");
  assert_non_null(strstr(reply->sentence, "its memory is gone"));
  assert_int_equal(sim_create(sim, conn, "orders")->reply.code, ENGINE_CODE_ALREADY_EXISTS);
  assert_int_equal(sim_delete(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_OK);
  assert_int_equal(sim->disk.cnt, 0);
  assert_int_equal(sim_create(sim, conn, "orders")->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* One without a readable spec is root's, under a name that says so; only root removes it. */
static void test_quarantine_unknown(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "orders");
  sim->disk.items[0].text[30] ^= 1;
  sim->disk.items[0].spec.state = 0;
  assert_true(
      spec_decode(sim->disk.items[0].text, sim->disk.items[0].len, &sim->disk.items[0].spec) > 0);
  sim_restart(sim);
  conn = sim_conn(sim, OWNER, OWNER);
  uint64_t root = sim_conn(sim, 0, 0);

  assert_int_equal(sim_get(sim, conn, "orders")->reply.code, ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim_get(sim, root, "quarantined-1")->view.quarantined, 1);
  assert_int_equal(sim_delete(sim, conn, "quarantined-1", 1)->reply.code, ENGINE_CODE_NOT_FOUND);
  assert_int_equal(sim_delete(sim, root, "quarantined-1", 0)->reply.code, ENGINE_CODE_OK);
  assert_int_equal(sim->disk.cnt + sim->memory.cnt, 0);
  sim_free(sim);
}

/* The removal of one without a readable spec cannot be written down: if its end fails, who asked
   for it is told, and it is tried again. */
static void test_quarantine_unfinished(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "orders");
  sim->disk.items[0].text[30] ^= 1;
  sim->disk.items[0].spec.state = 0;
  sim_restart(sim);
  uint64_t root = sim_conn(sim, 0, 0);

  sim->fail_next[SIM_REMOVED] = 1;
  engine_reply_t const *reply = &sim_delete(sim, root, "quarantined-1", 0)->reply;
  assert_int_equal(reply->code, ENGINE_CODE_INTERNAL);
  assert_string_equal(reply->detail_workspace, "quarantined-1");
  assert_non_null(strstr(reply->sentence, "could not be finished"));
  assert_int_equal(sim->disk.cnt, 1);
  sim_advance(sim, ENGINE_DISK_RETRY_NS);
  sim_settle(sim);
  assert_int_equal(sim->disk.cnt + sim->memory.cnt, 0);
  sim_free(sim);
}

/* Of two that claim one name, or one uuid, the first is served and the second quarantined, even if
   somebody has the name that it would get. */
static void test_quarantine_clash(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "quarantined-9");
  engine_t *engine = engine_new();
  engine_update_t update = {0};
  engine_event_t event = {.kind = ENGINE_EV_START, .now_mono_ns = 1};
  assert_int_equal(engine_step(engine, &event, &update), 0);

  spec_t spec = *sim_on_disk(sim, 1);
  uint64_t const ids[] = {3, 8, 9, 10};
  char const *const names[] = {"quarantined-9", "orders", "orders", "bills"};
  uint8_t const uuids[] = {1, 2, 3, 2};
  for (size_t i = 0; i < 4; i++) {
    event = (engine_event_t){.kind = ENGINE_EV_RECOVERED_WORKSPACE, .now_mono_ns = 1};
    spec.ws_id = ids[i];
    spec.uuid[0] = uuids[i];
    memset(spec.name, 0, sizeof(spec.name));
    memcpy(spec.name, names[i], strlen(names[i]));
    event.u.recovered_workspace.spec = spec;
    event.u.recovered_workspace.spec_known = 1;
    event.u.recovered_workspace.memory = 1;
    assert_int_equal(engine_step(engine, &event, &update), 0);
    assert_null(engine_check(engine));
  }
  event = (engine_event_t){.kind = ENGINE_EV_RECOVERED_END, .now_mono_ns = 1};
  assert_int_equal(engine_step(engine, &event, &update), 0);
  event = (engine_event_t){.kind = ENGINE_EV_CONN_OPEN, .now_mono_ns = 1};
  event.u.conn_open.conn = 1;
  assert_int_equal(engine_step(engine, &event, &update), 0);
  event = (engine_event_t){.kind = ENGINE_EV_REQUEST, .now_mono_ns = 1};
  event.u.request.conn = 1;
  event.u.request.stream = 1;
  event.u.request.req.method = ENGINE_LIST;
  assert_int_equal(engine_step(engine, &event, &update), 0);

  assert_int_equal(update.effect_cnt, 1);
  engine_reply_t const *reply = update.effects[0].u.reply;
  assert_int_equal(reply->u.list.workspace_cnt, 4);
  engine_workspace_t const *views = reply->u.list.workspaces;
  assert_string_equal(views[0].spec.name, "bills");
  assert_int_equal(views[0].quarantined, 1);
  assert_string_equal(views[1].spec.name, "orders");
  assert_int_equal(views[1].quarantined, 0);
  assert_int_equal(views[1].spec.ws_id, 8);
  assert_string_equal(views[2].spec.name, "q-9.0");
  assert_int_equal(views[2].quarantined, 1);
  assert_string_equal(views[3].spec.name, "quarantined-9");
  assert_int_equal(views[3].quarantined, 0);
  engine_update_free(&update);
  engine_free(engine);
  sim_free(sim);
}

/* What can only be read is served to readers and says why; nothing that would write it is begun,
   also not a reap for a writer of before, whose lease lasts until it ends. A restart with a daemon
   that knows its layout serves it in full again. */
static void test_read_only(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "orders");
  uint64_t lease = sim_open(sim, conn, "orders", ENGINE_OPEN_RW)->reply.u.open.lease_id;
  sim->read_only = 1;
  sim_restart(sim);
  conn = sim_conn(sim, OWNER, OWNER);

  sim_request_t *get = sim_get(sim, conn, "orders");
  assert_int_equal(get->view.read_only, 1);
  assert_int_equal(get->view.quarantined, 0);
  assert_int_equal(get->view.attached_rw, 1);
  assert_string_equal(get->view.reason, "its memory is gone"); /* the fixture's */
  assert_int_equal(sim_open(sim, conn, "orders", ENGINE_OPEN_RO)->reply.code, ENGINE_CODE_OK);
  static int const refused[] = {ENGINE_OPEN, ENGINE_RESIZE, ENGINE_COMPACT};
  for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
    uint32_t stream = refused[i] == ENGINE_RESIZE
                          ? sim_send_resize(sim, conn, "orders", 1 << 20, 0)
                          : sim_send_named(sim, conn, refused[i], "orders", 0);
    engine_reply_t const *reply = sim_reply(sim, conn, stream);
    assert_int_equal(reply->code, ENGINE_CODE_FAILED_PRECONDITION);
    assert_string_equal(reply->detail_kind, "read_only");
  }
  uint32_t query = sim_send_named(sim, conn, ENGINE_QUERY, "orders", 0);
  sim_settle(sim);
  assert_int_equal(sim_reply(sim, conn, query)->code, ENGINE_CODE_OK);
  sim_hangup(sim, lease);
  sim_settle(sim);
  assert_int_equal(sim->reap_cnt, 0);
  assert_int_equal(sim_get(sim, conn, "orders")->view.attached_rw, 0);

  sim->read_only = 0;
  sim_restart(sim);
  conn = sim_conn(sim, OWNER, OWNER);
  assert_int_equal(sim_open(sim, conn, "orders", ENGINE_OPEN_RW)->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* A workspace that is quarantined while it is served keeps its leases, loses its workers, and is
   not opened again. */
static void test_quarantine_served(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "orders");
  uint64_t lease = sim_open(sim, conn, "orders", ENGINE_OPEN_RW)->reply.u.open.lease_id;
  sim->hold[SIM_WORKER] = 1;
  uint32_t query = sim_send_named(sim, conn, ENGINE_QUERY, "orders", 0);

  engine_event_t event = {.kind = ENGINE_EV_QUARANTINE};
  event.u.quarantine.ws_id = 1;
  event.u.quarantine.reason = "its memory was cut";
  assert_int_equal(sim_step(sim, &event), 0);
  assert_int_equal(sim_step(sim, &event), ENGINE_STALE);
  assert_int_equal(sim_reply(sim, conn, query)->code, ENGINE_CODE_FAILED_PRECONDITION);
  assert_int_equal(sim_open(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_FAILED_PRECONDITION);
  assert_int_equal(sim_get(sim, conn, "orders")->view.attached_rw, 1);
  sim_hangup(sim, lease);
  assert_int_equal(sim->reap_cnt, 0);
  sim->hold[SIM_WORKER] = 0;
  assert_int_equal(sim_delete(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_quarantine_recovered),
      cmocka_unit_test(test_quarantine_unknown),
      cmocka_unit_test(test_quarantine_unfinished),
      cmocka_unit_test(test_quarantine_clash),
      cmocka_unit_test(test_read_only),
      cmocka_unit_test(test_quarantine_served),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
