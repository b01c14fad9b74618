/* rights_test: who may do what, who may know what, and what one user may have. */

#include <stdio.h>
#include <string.h>

#include "fixture.h"

#define OWNER    1000U
#define OTHER    2000U
#define STRANGER 3000U
#define ADMINS   77U
#define MIB      (1UL << 20)

static sim_request_t *create(sim_t *sim, uint64_t conn, char const *name, uint32_t mode,
                             uint64_t size, uint64_t max_size) {
  engine_request_t req = {.method = ENGINE_CREATE};
  snprintf(req.u.create.name, sizeof(req.u.create.name), "%s", name);
  req.u.create.size = size;
  req.u.create.max_size = max_size;
  req.u.create.mode = mode;
  uint32_t stream = sim_send(sim, conn, &req, 0);
  sim_settle(sim);
  return sim_request(sim, conn, stream);
}

static engine_reply_t const *named(sim_t *sim, uint64_t conn, int method, char const *name) {
  uint32_t stream = sim_send_named(sim, conn, method, name, 0);
  sim_settle(sim);
  return sim_reply(sim, conn, stream);
}

static size_t listed(sim_t *sim, uint64_t conn, int all) {
  engine_request_t req = {.method = ENGINE_LIST};
  req.u.list.all = all;
  return sim_request(sim, conn, sim_send(sim, conn, &req, 0))->reply.u.list.workspace_cnt;
}

/* Each of a peer's groups counts, the further ones as the first. */
static void test_groups(void **state) {
  static uint32_t const gids[] = {4, 5, OWNER};
  sim_t *sim = sim_new(1, NULL);
  uint64_t owner = sim_conn(sim, OWNER, OWNER);
  create(sim, owner, "orders", 0640, MIB, 0);
  uint64_t member = sim_conn_groups(sim, OTHER, OTHER, gids, 3);
  uint64_t stranger = sim_conn_groups(sim, OTHER, OTHER, gids, 2);
  assert_int_equal(sim_open(sim, member, "orders", ENGINE_OPEN_RO)->reply.code, ENGINE_CODE_OK);
  assert_int_equal(sim_open(sim, member, "orders", ENGINE_OPEN_RW)->reply.code,
                   ENGINE_CODE_PERMISSION_DENIED);
  assert_int_equal(sim_open(sim, stranger, "orders", ENGINE_OPEN_RO)->reply.code,
                   ENGINE_CODE_NOT_FOUND);
  sim_free(sim);
}

/* Members of the administrators' group do what root does, by any of their groups; if there is none,
   group 0 is not it. */
static void test_admins(void **state) {
  static uint32_t const gids[] = {4, ADMINS};
  engine_config_t config = {.admin_gid = ADMINS};
  for (int there = 0; there < 2; there++) {
    sim_t *sim = sim_new(1, there ? &config : NULL);
    uint64_t owner = sim_conn(sim, OWNER, OWNER);
    uint64_t admins[] = {sim_conn_groups(sim, OTHER, OTHER, gids, 2), sim_conn(sim, OTHER, ADMINS),
                         sim_conn(sim, OTHER, 0)};
    for (size_t i = 0; i < 3; i++) {
      int may = there && i < 2;
      create(sim, owner, "orders", 0600, MIB, 0);
      assert_int_equal(sim_get(sim, admins[i], "orders")->reply.code,
                       may ? ENGINE_CODE_OK : ENGINE_CODE_NOT_FOUND);
      assert_int_equal(listed(sim, admins[i], 0), may ? 1 : 0);
      assert_int_equal(sim_delete(sim, admins[i], "orders", 0)->reply.code,
                       may ? ENGINE_CODE_OK : ENGINE_CODE_NOT_FOUND);
    }
    sim_free(sim);
  }
}

/* Who may not read a workspace gets for each request, word for word, what he gets for a name that
   nobody has: while it is being made, when it is there, and while it is being removed. */
static void test_unknown_alike(void **state) {
  static int const methods[] = {ENGINE_DELETE, ENGINE_GET,     ENGINE_OPEN,
                                ENGINE_QUERY,  ENGINE_COMPACT, ENGINE_RESIZE};
  sim_t *sim = sim_new(1, NULL);
  uint64_t owner = sim_conn(sim, OWNER, OWNER), stranger = sim_conn(sim, STRANGER, STRANGER);
  for (int stage = 0; stage < 3; stage++) {
    sim->hold[SIM_MEMORY] = stage == 0;
    sim->hold[SIM_PERSISTED] = stage == 2;
    if (stage == 0) sim_send_create(sim, owner, "orders", 0);
    if (stage == 2) sim_send_named(sim, owner, ENGINE_DELETE, "orders", 0);
    sim_settle(sim);
    for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++) {
      engine_reply_t there = *named(sim, stranger, methods[i], "orders");
      engine_reply_t not_there = *named(sim, stranger, methods[i], "ordexs");
      assert_int_equal(there.code, ENGINE_CODE_NOT_FOUND);
      for (char *at; (at = strstr(there.sentence, "orders"));) at[4] = 'x';
      assert_string_equal(there.sentence, not_there.sentence);
      assert_string_equal(there.detail_kind, not_there.detail_kind);
      assert_string_equal(there.detail_hint, not_there.detail_hint);
      assert_string_equal(there.detail_workspace, "orders");
      assert_int_equal(there.detail_wanted | there.detail_free, 0);
      assert_int_equal(there.detail_node, not_there.detail_node);
    }
    assert_int_equal(listed(sim, stranger, 1), 0);
    sim->hold[SIM_MEMORY] = 0;
    sim_settle(sim);
  }
  sim_free(sim);
}

/* A create of a taken name is refused, and says no more than that to who may not know by whom. */
static void test_taken(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t owner = sim_conn(sim, OWNER, OWNER), stranger = sim_conn(sim, STRANGER, STRANGER);
  sim->hold[SIM_MEMORY] = 1;
  sim_send_create(sim, owner, "orders", 0);
  engine_reply_t early = create(sim, stranger, "orders", 0, MIB, 0)->reply;
  sim->hold[SIM_MEMORY] = 0;
  sim_settle(sim);
  engine_reply_t late = create(sim, stranger, "orders", 0, MIB, 0)->reply;
  assert_int_equal(early.code, ENGINE_CODE_ALREADY_EXISTS);
  assert_string_equal(early.sentence, late.sentence);
  assert_string_equal(early.detail_hint, late.detail_hint);
  sim_free(sim);
}

/* Events go to those who may read the workspace, whatever they watch; a watch of a name is granted
   alike whether it is there or not. */
static void test_events(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t owner = sim_conn(sim, OWNER, OWNER), stranger = sim_conn(sim, STRANGER, STRANGER);
  sim->keep_events = 1;
  uint32_t all = sim_send_named(sim, stranger, ENGINE_WATCH, "", 0);
  uint32_t one = sim_send_named(sim, stranger, ENGINE_WATCH, "orders", 0);
  uint32_t own = sim_send_named(sim, owner, ENGINE_WATCH, "", 0);
  create(sim, owner, "orders", 0660, MIB, 4 * MIB);
  create(sim, owner, "prices", 0664, MIB, 0);
  uint64_t lease = sim_open(sim, owner, "orders", ENGINE_OPEN_RW)->reply.u.open.lease_id;
  sim_resize(sim, owner, "orders", 2 * MIB);
  sim_delete(sim, owner, "orders", 1);
  sim_hangup(sim, lease);
  sim_settle(sim);
  sim_unanswered(sim, stranger, all);
  sim_unanswered(sim, stranger, one);
  for (int kind = ENGINE_EVENT_CREATED; kind <= ENGINE_EVENT_RESIZED; kind++) {
    assert_int_equal(sim_events(sim, stranger, all, kind, "orders"), 0);
    assert_int_equal(sim_events(sim, stranger, one, kind, "orders"), 0);
  }
  assert_int_equal(sim_events(sim, stranger, all, ENGINE_EVENT_CREATED, "prices"), 1);
  assert_int_equal(sim_events(sim, owner, own, ENGINE_EVENT_CREATED, "orders"), 1);
  assert_int_equal(sim_events(sim, owner, own, ENGINE_EVENT_REMOVED, "orders"), 1);
  sim_free(sim);
}

/* Pages of a list hold what the asker may know of and nothing between, whatever their size. */
static void test_list(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t owner = sim_conn(sim, OWNER, OWNER), other = sim_conn(sim, OTHER, OTHER);
  for (int i = 0; i < 12; i++) {
    char name[8];
    snprintf(name, sizeof(name), "w%02d", i);
    create(sim, i % 3 ? owner : other, name, 0600, MIB, 0);
  }
  for (uint32_t page = 1; page < 6; page++) {
    engine_request_t req = {.method = ENGINE_LIST};
    size_t cnt = 0;
    req.u.list.page_size = page;
    do {
      sim_request_t *request = sim_request(sim, other, sim_send(sim, other, &req, 0));
      for (size_t i = 0; i < request->reply.u.list.workspace_cnt; i++, cnt++)
        assert_int_equal(request->views[i].spec.uid, OTHER);
      memcpy(req.u.list.page_token, request->reply.u.list.next_page_token, ENGINE_TEXT_MAX);
    } while (req.u.list.page_token[0]);
    assert_int_equal(cnt, 4);
  }
  sim_free(sim);
}

/* Workspaces of a uid are bounded, with figures; a removed one makes room once its memory has gone;
   others and who administers are not bound by it. */
static void test_share(void **state) {
  engine_config_t config = {.uid_workspaces_max = 2};
  sim_t *sim = sim_new(1, &config);
  uint64_t owner = sim_conn(sim, OWNER, OWNER), root = sim_conn(sim, 0, 0);
  assert_int_equal(create(sim, owner, "a", 0, MIB, 0)->reply.code, ENGINE_CODE_OK);
  assert_int_equal(create(sim, owner, "b", 0, MIB, 0)->reply.code, ENGINE_CODE_OK);
  engine_reply_t const *reply = &create(sim, owner, "c", 0, MIB, 0)->reply;
  assert_int_equal(reply->code, ENGINE_CODE_RESOURCE_EXHAUSTED);
  assert_string_equal(reply->detail_kind, "limit");
  assert_int_equal(reply->detail_wanted, 3);
  assert_non_null(strstr(reply->sentence, "the limit is 2"));
  for (char name[] = "r"; name[0] < 'w'; name[0]++)
    assert_int_equal(create(sim, root, name, 0, MIB, 0)->reply.code, ENGINE_CODE_OK);
  uint64_t other = sim_conn(sim, OTHER, OTHER);
  assert_int_equal(create(sim, other, "o", 0, MIB, 0)->reply.code, ENGINE_CODE_OK);

  uint64_t lease = sim_open(sim, owner, "b", ENGINE_OPEN_RW)->reply.u.open.lease_id;
  sim_delete(sim, owner, "b", 1);
  assert_int_equal(create(sim, owner, "d", 0, MIB, 0)->reply.code, ENGINE_CODE_RESOURCE_EXHAUSTED);
  sim_hangup(sim, lease);
  sim_settle(sim);
  assert_int_equal(create(sim, owner, "d", 0, MIB, 0)->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* Requests in flight of a uid are bounded over all its connections; others go on. */
static void test_uid_calls(void **state) {
  engine_config_t config = {.jobs_running_max = 1};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, OWNER, OWNER), root = sim_conn(sim, 0, 0);
  create(sim, conn, "orders", 0, MIB, 0);
  sim->hold[SIM_LEASE] = 1;
  sim->check_every = 512;
  for (uint32_t i = 0; i < ENGINE_UID_CALLS_MAX; i++) {
    if (i % ENGINE_STREAMS_MAX == 0) conn = sim_conn(sim, OWNER, OWNER);
    sim_unanswered(sim, conn, sim_send_named(sim, conn, ENGINE_OPEN, "orders", 0));
  }
  conn = sim_conn(sim, OWNER, OWNER);
  engine_reply_t const *reply = sim_reply(sim, conn, sim_send_named(sim, conn, ENGINE_GET, "x", 0));
  assert_int_equal(reply->code, ENGINE_CODE_RESOURCE_EXHAUSTED);
  assert_int_equal(reply->detail_wanted, ENGINE_UID_CALLS_MAX + 1);
  assert_non_null(strstr(reply->sentence, "requests of this user"));
  assert_int_equal(sim_get(sim, root, "orders")->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_groups),        cmocka_unit_test(test_admins),
      cmocka_unit_test(test_unknown_alike), cmocka_unit_test(test_taken),
      cmocka_unit_test(test_events),        cmocka_unit_test(test_list),
      cmocka_unit_test(test_share),         cmocka_unit_test(test_uid_calls),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
