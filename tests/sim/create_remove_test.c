/* create_remove_test: the rules of making and removing, one at a time. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define OWNER 1000U
#define OTHER 2000U

/* A create writes an intent first, then makes the memory, then writes it as ready, then publishes:
   nothing is to be seen before that. */
static void test_create_order(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim->hold[SIM_PERSISTED] = sim->hold[SIM_MEMORY] = 1;

  uint32_t stream = sim_send_create(sim, conn, "orders", 0);
  assert_int_equal(sim_waiting(sim, SIM_PERSISTED), 1);
  assert_int_equal(sim_waiting(sim, SIM_MEMORY), 0);
  assert_null(sim_on_disk(sim, 1));

  sim_answer(sim, 0, 0);
  assert_int_equal(sim_on_disk(sim, 1)->state, SPEC_MAKING);
  assert_int_equal(sim_waiting(sim, SIM_MEMORY), 1);
  assert_int_equal(sim_get(sim, conn, "orders")->reply.code, ENGINE_CODE_NOT_FOUND);

  sim_answer(sim, 0, 0);
  assert_true(sim_in_memory(sim, 1));
  assert_int_equal(sim_waiting(sim, SIM_PERSISTED), 1);
  assert_int_equal(sim_get(sim, conn, "orders")->reply.code, ENGINE_CODE_NOT_FOUND);
  sim_unanswered(sim, conn, stream);

  sim_answer(sim, 0, 0);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_OK);
  sim_request_t *get = sim_get(sim, conn, "orders");
  assert_int_equal(get->reply.code, ENGINE_CODE_OK);
  assert_string_equal(get->view.spec.name, "orders");
  assert_int_equal(get->view.spec.mode, 0660);
  assert_int_equal(get->view.spec.uid, OWNER);
  assert_int_equal(get->view.spec.size, 1 << 20);
  assert_int_equal(get->view.spec.page_size, 4096);
  assert_int_equal(get->view.spec.created_ns, sim->real_ns);
  sim_free(sim);
}

/* A name is reserved from the first create on: a second one is refused while the first is in the
   making and when it is done. */
static void test_create_twice(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim->hold[SIM_MEMORY] = 1;

  uint32_t first = sim_send_create(sim, conn, "orders", 0);
  sim_settle(sim);
  sim_request_t *second = sim_create(sim, conn, "orders");
  assert_int_equal(second->reply.code, ENGINE_CODE_ALREADY_EXISTS);
  assert_non_null(strstr(second->reply.sentence, "\"orders\""));
  assert_non_null(strstr(second->reply.sentence, "being made"));
  assert_string_equal(second->reply.detail_workspace, "orders");

  sim->hold[SIM_MEMORY] = 0;
  sim_settle(sim);
  assert_int_equal(sim_reply(sim, conn, first)->code, ENGINE_CODE_OK);
  second = sim_create(sim, conn, "orders");
  assert_int_equal(second->reply.code, ENGINE_CODE_ALREADY_EXISTS);
  assert_string_equal(second->reply.detail_kind, "name");
  sim_free(sim);
}

/* Whatever fails in a create, nothing is left of it, the name is free when the reply comes, and the
   reply has figures where there are any. */
static void test_create_failures(void **state) {
  static struct {
    int answer, status, after, code;
    char const *kind;
  } const ways[] = {
      {SIM_PERSISTED, 0, 0, ENGINE_CODE_INTERNAL, "disk"},
      {SIM_MEMORY, ENGINE_MEMORY_SHORT, 0, ENGINE_CODE_RESOURCE_EXHAUSTED, "pages"},
      {SIM_MEMORY, ENGINE_MEMORY_INVALID, 0, ENGINE_CODE_INVALID_ARGUMENT, "size"},
      {SIM_MEMORY, ENGINE_MEMORY_FAILED, 0, ENGINE_CODE_INTERNAL, "memory"},
      {SIM_PERSISTED, 0, 1, ENGINE_CODE_INTERNAL, "disk"},
  };
  for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
    for (int through = 0; through < 2; through++) {
      sim_t *sim = sim_new(1, NULL);
      uint64_t conn = sim_conn(sim, OWNER, OWNER);
      sim->fail_writes = through;
      sim->memory_status = ways[i].status;
      uint32_t stream = sim_send_create(sim, conn, "orders", 0);
      if (ways[i].after) {
        sim_answer(sim, 0, 0);
        sim_answer(sim, 0, 0);
      }
      sim->fail_next[ways[i].answer] = 1;
      sim_settle(sim);

      engine_reply_t const *reply = sim_reply(sim, conn, stream);
      assert_int_equal(reply->code, ways[i].code);
      assert_string_equal(reply->detail_kind, ways[i].kind);
      assert_string_equal(reply->detail_workspace, "orders");
      assert_true(reply->detail_hint[0]);
      if (ways[i].status == ENGINE_MEMORY_SHORT) {
        assert_int_equal(reply->detail_wanted, 512);
        assert_int_equal(reply->detail_free, 100);
        assert_int_equal(reply->detail_node, 1);
        assert_string_equal(reply->detail_hint, "raise nr_hugepages on node 1");
        assert_non_null(strstr(reply->sentence, "512"));
      }
      assert_int_equal(sim->disk.cnt + sim->memory.cnt, 0);
      assert_int_equal(sim_create(sim, conn, "orders")->reply.code, ENGINE_CODE_OK);
      sim_free(sim);
    }
  }
}

/* A create whose connection closes, whose deadline passes or which is cancelled is undone at
   whatever point that happens, and its name can be had again. */
static void test_create_abandoned(void **state) {
  enum { CLOSE, DEADLINE, CANCEL, WAYS };
  for (int way = 0; way < WAYS; way++) {
    for (int point = 0; point < 3; point++) {
      sim_t *sim = sim_new(1, NULL);
      uint64_t conn = sim_conn(sim, OWNER, OWNER), other = sim_conn(sim, OWNER, OWNER);
      uint32_t stream = sim_send_create(sim, conn, "orders", way == DEADLINE ? SIM_SEC : 0);
      for (int i = 0; i < point; i++) sim_answer(sim, 0, 0);

      if (way == CLOSE) {
        sim_close(sim, conn);
      } else if (way == DEADLINE) {
        sim_advance(sim, SIM_SEC);
        assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_DEADLINE_EXCEEDED);
      } else {
        engine_event_t event = {.kind = ENGINE_EV_CANCEL};
        event.u.cancel.conn = conn;
        event.u.cancel.stream = stream;
        assert_int_equal(sim_step(sim, &event), 0);
        assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_CANCELLED);
      }
      if (point == 1) assert_true(sim->pending.items[0].cancelled);
      sim_request_t *early = sim_create(sim, other, "orders");
      assert_int_equal(early->reply.code, ENGINE_CODE_ALREADY_EXISTS);
      sim_settle(sim);
      assert_int_equal(sim->disk.cnt + sim->memory.cnt, 0);
      assert_int_equal(sim_create(sim, other, "orders")->reply.code, ENGINE_CODE_OK);
      sim_free(sim);
    }
  }
}

/* A deadline that passes while a failed create is being undone answers with the failure, which says
   more. */
static void test_create_fault_at_deadline(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim->hold[SIM_REMOVED] = 1;
  sim->fail_next[SIM_MEMORY] = 1;
  uint32_t stream = sim_send_create(sim, conn, "orders", SIM_SEC);

  sim_settle(sim);
  sim_unanswered(sim, conn, stream);
  sim_advance(sim, SIM_SEC);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_RESOURCE_EXHAUSTED);
  sim_free(sim);
}

/* While the disk may say ready of a create that failed, its name stays taken; the removal is tried
   again until it works. */
static void test_create_name_held(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  uint32_t stream = sim_send_create(sim, conn, "orders", 0);

  sim_answer(sim, 0, 0);
  sim_answer(sim, 0, 0);
  sim->fail_writes = 1;
  sim->fail_next[SIM_PERSISTED] = 1; /* ready: fails, yet it is on disk */
  sim_answer(sim, 0, 1);
  sim->fail_writes = 0;
  sim->fail_next[SIM_PERSISTED] = 1; /* making again: fails */
  sim->fail_next[SIM_REMOVED] = 1;
  sim_settle(sim);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_INTERNAL);
  assert_int_equal(sim_on_disk(sim, 1)->state, SPEC_READY);
  assert_false(sim_in_memory(sim, 1));
  sim_request_t *again = sim_create(sim, conn, "orders");
  assert_int_equal(again->reply.code, ENGINE_CODE_ALREADY_EXISTS);
  assert_non_null(strstr(again->reply.sentence, "undone"));

  sim_advance(sim, ENGINE_DISK_RETRY_NS);
  sim_settle(sim);
  assert_null(sim_on_disk(sim, 1));
  assert_int_equal(sim_create(sim, conn, "orders")->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* A kill at any point of a create leaves nothing but, at the last, the workspace whole. */
static void test_create_killed(void **state) {
  for (uint64_t seed = 1; seed <= 40; seed++) {
    sim_t *sim = sim_new(seed, NULL);
    uint64_t conn = sim_conn(sim, OWNER, OWNER);
    sim_send_create(sim, conn, "orders", 0);
    for (uint64_t i = 0; i < seed % 3; i++) sim_answer(sim, 0, 0);
    sim_restart(sim);
    sim_settle(sim);
    conn = sim_conn(sim, OWNER, OWNER);
    int whole = sim_get(sim, conn, "orders")->reply.code == ENGINE_CODE_OK;
    assert_int_equal(sim->disk.cnt, whole);
    assert_int_equal(sim->memory.cnt, whole);
    if (whole) assert_int_equal(seed % 3, 2);
    int code = sim_create(sim, conn, "orders")->reply.code;
    assert_int_equal(code, whole ? ENGINE_CODE_ALREADY_EXISTS : ENGINE_CODE_OK);
    sim_free(sim);
  }
}

/* Ids of workspaces and leases are never given out twice, also over restarts and for things that
   have gone. */
static void test_ids(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t ws_before = 0, lease_before = 0;

  for (int i = 0; i < 5; i++) {
    uint64_t conn = sim_conn(sim, OWNER, OWNER);
    sim_request_t *create = sim_create(sim, conn, "orders");
    assert_true(create->view.spec.ws_id > ws_before);
    ws_before = create->view.spec.ws_id;
    uint64_t lease = sim_open(sim, conn, "orders", ENGINE_OPEN_RW)->reply.u.open.lease_id;
    assert_true(lease > lease_before);
    lease_before = lease;
    sim_hangup(sim, lease);
    sim_settle(sim);
    assert_int_equal(sim_delete(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_OK);
    sim_restart(sim);
  }
  sim_free(sim);
}

/* What is wrong with a create is said with the value, and nothing is begun. */
static void test_create_invalid(void **state) {
  static struct {
    char const *name;
    uint64_t size, page_size, part_max;
    uint32_t mode;
    int code;
    char const *kind, *says;
  } const ways[] = {
      {"", 1, 0, 0, 0, ENGINE_CODE_INVALID_ARGUMENT, "name", "\"\""},
      {"-x", 1, 0, 0, 0, ENGINE_CODE_INVALID_ARGUMENT, "name", "\"-x\""},
      {"a/b", 1, 0, 0, 0, ENGINE_CODE_INVALID_ARGUMENT, "name", "\"a/b\""},
      {"a\nb\xff", 1, 0, 0, 0, ENGINE_CODE_INVALID_ARGUMENT, "name", "\"a?b?\""},
      {"a234567890123456789012345678901234567890", 1, 0, 0, 0, ENGINE_CODE_INVALID_ARGUMENT, "name",
       "1 to 39"},
      {"a", 0, 0, 0, 0, ENGINE_CODE_INVALID_ARGUMENT, "size", " 0 bytes"},
      {"a", (1UL << 46) + 1, 0, 0, 0, ENGINE_CODE_INVALID_ARGUMENT, "size", "70368744177665"},
      {"a", UINT64_MAX, 0, 0, 0, ENGINE_CODE_INVALID_ARGUMENT, "size", "18446744073709551615"},
      {"a", 1UL << 46, 0, 0, 0, ENGINE_CODE_RESOURCE_EXHAUSTED, "size", "70368744177664"},
      {"a", 1, 8192, 0, 0, ENGINE_CODE_INVALID_ARGUMENT, "page_size", "8192"},
      {"a", 1, 1UL << 31, 0, 0, ENGINE_CODE_INVALID_ARGUMENT, "page_size", "2147483648"},
      {"a", 1, 0, 0, 01000, ENGINE_CODE_INVALID_ARGUMENT, "mode", "01000"},
      {"a", 1, 0, 7, 0, ENGINE_CODE_INVALID_ARGUMENT, "part_max", " 7 "},
      {"a", 1, 0, 1UL << 31, 0, ENGINE_CODE_INVALID_ARGUMENT, "part_max", "2147483648"},
  };
  engine_config_t config = {.memory_bytes = 1UL << 40};
  sim_t *sim = sim_new(1, &config);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);

  for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
    engine_request_t req = {.method = ENGINE_CREATE};
    snprintf(req.u.create.name, sizeof(req.u.create.name), "%s", ways[i].name);
    req.u.create.size = ways[i].size;
    req.u.create.page_size = ways[i].page_size;
    req.u.create.part_max = ways[i].part_max;
    req.u.create.mode = ways[i].mode;
    engine_reply_t const *reply = sim_reply(sim, conn, sim_send(sim, conn, &req, 0));
    assert_int_equal(reply->code, ways[i].code);
    assert_string_equal(reply->detail_kind, ways[i].kind);
    assert_non_null(strstr(reply->sentence, ways[i].says));
  }
  assert_int_equal(sim->pending.cnt, 0);
  sim_free(sim);
}

/* The largest of everything is taken. */
static void test_create_extremes(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  engine_request_t req = {.method = ENGINE_CREATE};
  snprintf(req.u.create.name, sizeof(req.u.create.name), "a23456789012345678901234567890123456789");
  req.u.create.size = 1UL << 46;
  req.u.create.page_size = 2097152;
  req.u.create.part_max = (1UL << 31) - 1;
  req.u.create.mode = 0777;
  req.u.create.seed = UINT32_MAX;
  uint32_t stream = sim_send(sim, conn, &req, 0);
  sim_settle(sim);
  sim_request_t *create = sim_request(sim, conn, stream);
  assert_int_equal(create->reply.code, ENGINE_CODE_OK);
  assert_int_equal(create->view.spec.mode, 0777);
  assert_int_equal(create->view.spec.seed, UINT32_MAX);
  sim_free(sim);
}

/* A delete without leases writes the removal down, drops memory and spec, and answers when both are
   gone. */
static void test_delete_order(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "orders");
  sim->hold[SIM_PERSISTED] = sim->hold[SIM_REMOVED] = 1;

  uint32_t stream = sim_send_named(sim, conn, ENGINE_DELETE, "orders", 0);
  assert_int_equal(sim_waiting(sim, SIM_PERSISTED), 1);
  assert_true(sim_in_memory(sim, 1));
  sim_answer(sim, 0, 0);
  assert_int_equal(sim_on_disk(sim, 1)->state, SPEC_REMOVING);
  assert_false(sim_in_memory(sim, 1));
  assert_int_equal(sim_get(sim, conn, "orders")->reply.code, ENGINE_CODE_NOT_FOUND);
  sim_unanswered(sim, conn, stream);
  sim_answer(sim, 0, 0);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_OK);
  assert_int_equal(sim_reply(sim, conn, stream)->u.del.deferred, 0);
  assert_int_equal(sim->disk.cnt, 0);
  assert_int_equal(sim_delete(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_NOT_FOUND);
  sim_free(sim);
}

/* While leases are held a delete is refused with their number and the way out. */
static void test_delete_attached(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "orders");
  sim_open(sim, conn, "orders", ENGINE_OPEN_RW);
  sim_open(sim, conn, "orders", ENGINE_OPEN_RO);
  sim->hold[SIM_LEASE] = 1;
  sim_send_named(sim, conn, ENGINE_OPEN, "orders", 0); /* in the making: counts too */

  engine_reply_t const *reply = &sim_delete(sim, conn, "orders", 0)->reply;
  assert_int_equal(reply->code, ENGINE_CODE_FAILED_PRECONDITION);
  assert_string_equal(reply->detail_kind, "attached");
  assert_int_equal(reply->detail_wanted, 3);
  assert_non_null(strstr(reply->sentence, "3 leases"));
  assert_non_null(strstr(reply->sentence, "--force"));
  assert_int_equal(sim_get(sim, conn, "orders")->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* With force the name goes at once and may be used again; the memory stays until the last lease
   ends, also over a restart. */
static void test_delete_force(void **state) {
  for (int restart = 0; restart < 2; restart++) {
    sim_t *sim = sim_new(1, NULL);
    uint64_t conn = sim_conn(sim, OWNER, OWNER);
    sim_create(sim, conn, "orders");
    uint64_t a = sim_open(sim, conn, "orders", ENGINE_OPEN_RW)->reply.u.open.lease_id;
    uint64_t b = sim_open(sim, conn, "orders", ENGINE_OPEN_RO)->reply.u.open.lease_id;

    sim_request_t *del = sim_delete(sim, conn, "orders", 1);
    assert_int_equal(del->reply.code, ENGINE_CODE_OK);
    assert_int_equal(del->reply.u.del.deferred, 1);
    assert_int_equal(sim_on_disk(sim, 1)->state, SPEC_REMOVING);
    assert_int_equal(sim_open(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_NOT_FOUND);
    assert_int_equal(sim_create(sim, conn, "orders")->reply.code, ENGINE_CODE_OK);

    if (restart) {
      sim_restart(sim);
      conn = sim_conn(sim, OWNER, OWNER);
    }
    assert_true(sim_in_memory(sim, 1));
    engine_request_t list = {.method = ENGINE_LIST};
    list.u.list.all = 1;
    sim_request_t *listed = sim_request(sim, conn, sim_send(sim, conn, &list, 0));
    assert_int_equal(listed->reply.u.list.workspace_cnt, 2);
    assert_int_equal(listed->views[0].removing, 0);
    assert_int_equal(listed->views[1].removing, 1);
    assert_int_equal(listed->views[1].attached_rw, 1);
    assert_int_equal(listed->views[1].attached_ro, 1);

    sim_hangup(sim, a);
    sim_settle(sim);
    assert_true(sim_in_memory(sim, 1));
    sim_hangup(sim, b);
    sim_settle(sim);
    assert_false(sim_in_memory(sim, 1));
    assert_null(sim_on_disk(sim, 1));
    assert_true(sim_in_memory(sim, 2));
    assert_int_equal(sim->lifelines.cnt, 0);
    assert_int_equal(sim->reap_cnt, 0);
    sim_free(sim);
  }
}

/* A removal that cannot be written down has not happened: the workspace is served on, and what the
   disk may say is put right before a restart can believe it, however often that fails. */
static void test_delete_disk_fails(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "orders");
  sim->fail_writes = 1;
  sim->fail_next[SIM_PERSISTED] = 1;
  uint32_t stream = sim_send_named(sim, conn, ENGINE_DELETE, "orders", 0);
  sim_settle(sim);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_INTERNAL);
  assert_non_null(strstr(sim_reply(sim, conn, stream)->sentence, "has not happened"));
  assert_int_equal(sim_on_disk(sim, 1)->state, SPEC_READY);

  sim_send_named(sim, conn, ENGINE_DELETE, "orders", 0);
  sim_answer(sim, 0, 1); /* removing: through */
  sim->fail_writes = 0;
  assert_int_equal(sim_on_disk(sim, 1)->state, SPEC_REMOVING);
  sim_request_t *busy =
      sim_request(sim, conn, sim_send_named(sim, conn, ENGINE_DELETE, "orders", 0));
  assert_int_equal(busy->reply.code, ENGINE_CODE_UNAVAILABLE);
  sim_answer(sim, 0, 1); /* ready: not */
  assert_int_equal(sim_on_disk(sim, 1)->state, SPEC_REMOVING);
  assert_int_equal(sim_open(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_OK);
  sim_advance(sim, ENGINE_DISK_RETRY_NS);
  sim_settle(sim);
  assert_int_equal(sim_on_disk(sim, 1)->state, SPEC_READY);
  sim_free(sim);
}

/* Between a failed repair and its next try a delete goes ahead. */
static void test_delete_while_restoring(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "orders");
  sim->fail_next[SIM_PERSISTED] = 2;
  assert_int_equal(sim_delete(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_INTERNAL);
  assert_int_equal(sim_delete(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_OK);
  assert_int_equal(sim->disk.cnt + sim->memory.cnt, 0);
  assert_int_equal(sim->update.next_tick_mono_ns, 0);
  sim_free(sim);
}

/* A removal whose spec cannot be unlinked is a removal: memory and name are gone, and the file is
   tried again. */
static void test_delete_unlink_fails(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_create(sim, conn, "orders");
  sim->fail_next[SIM_REMOVED] = 1;
  assert_int_equal(sim_delete(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_OK);
  assert_int_equal(sim_on_disk(sim, 1)->state, SPEC_REMOVING);
  assert_int_equal(sim_create(sim, conn, "orders")->reply.code, ENGINE_CODE_OK);
  assert_int_equal(sim->log_cnt[ENGINE_LOG_ERROR], 1);
  sim_advance(sim, ENGINE_DISK_RETRY_NS);
  sim_settle(sim);
  assert_null(sim_on_disk(sim, 1));
  sim_free(sim);
}

/* A delete goes on when its caller has gone or its time has passed. */
static void test_delete_abandoned(void **state) {
  for (int deadline = 0; deadline < 2; deadline++) {
    sim_t *sim = sim_new(1, NULL);
    uint64_t conn = sim_conn(sim, OWNER, OWNER);
    sim_create(sim, conn, "orders");
    uint32_t stream = sim_send_named(sim, conn, ENGINE_DELETE, "orders", SIM_SEC);
    if (deadline) {
      sim_advance(sim, SIM_SEC);
      assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_DEADLINE_EXCEEDED);
    } else {
      sim_close(sim, conn);
    }
    sim_settle(sim);
    assert_int_equal(sim->disk.cnt + sim->memory.cnt, 0);
    sim_free(sim);
  }
}

/* Only the owner and root remove; the refusal names who asked and whose it is. */
static void test_delete_rights(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t owner = sim_conn(sim, OWNER, OWNER), other = sim_conn(sim, OTHER, OWNER);
  uint64_t root = sim_conn(sim, 0, 0);
  sim_create(sim, owner, "orders");
  sim_create(sim, owner, "bills");

  engine_reply_t const *reply = &sim_delete(sim, other, "orders", 1)->reply;
  assert_int_equal(reply->code, ENGINE_CODE_PERMISSION_DENIED);
  assert_non_null(strstr(reply->sentence, "uid 2000"));
  assert_non_null(strstr(reply->sentence, "remove"));
  assert_int_equal(sim_delete(sim, owner, "orders", 0)->reply.code, ENGINE_CODE_OK);
  assert_int_equal(sim_delete(sim, root, "bills", 0)->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_create_order),
      cmocka_unit_test(test_create_twice),
      cmocka_unit_test(test_create_failures),
      cmocka_unit_test(test_create_abandoned),
      cmocka_unit_test(test_create_fault_at_deadline),
      cmocka_unit_test(test_create_name_held),
      cmocka_unit_test(test_create_killed),
      cmocka_unit_test(test_ids),
      cmocka_unit_test(test_create_invalid),
      cmocka_unit_test(test_create_extremes),
      cmocka_unit_test(test_delete_order),
      cmocka_unit_test(test_delete_attached),
      cmocka_unit_test(test_delete_force),
      cmocka_unit_test(test_delete_disk_fails),
      cmocka_unit_test(test_delete_while_restoring),
      cmocka_unit_test(test_delete_unlink_fails),
      cmocka_unit_test(test_delete_abandoned),
      cmocka_unit_test(test_delete_rights),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
