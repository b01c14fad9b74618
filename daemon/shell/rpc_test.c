/* rpc: bytes to engine requests and engine replies to bytes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/child/result.h"
#include "daemon/shell/rpc.h"
#include "ttrpc.pb-c.h"
#include "ttrpc/ttrpc.h"
#include "wkspd.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A packed Request for method with that message as its payload. */
static uint8_t *pack_request(char const *service, char const *method, int64_t timeout,
                             ProtobufCMessage const *message, size_t *ret_len) {
  Wkspd__Ttrpc__Request request = WKSPD__TTRPC__REQUEST__INIT;
  size_t len = 0;
  uint8_t *payload = message ? rpc_pack(message, &len) : NULL;
  request.service = (char *)(uintptr_t)service;
  request.method = (char *)(uintptr_t)method;
  request.timeout_nano = timeout;
  request.payload.data = payload;
  request.payload.len = len;
  uint8_t *bytes = rpc_pack(&request.base, ret_len);
  free(payload);
  return bytes;
}

/* The Response in bytes, which are freed. */
static Wkspd__Ttrpc__Response *unpack(uint8_t *bytes, size_t len) {
  assert_non_null(bytes);
  Wkspd__Ttrpc__Response *response = wkspd__ttrpc__response__unpack(NULL, len, bytes);
  free(bytes);
  assert_non_null(response);
  return response;
}

static Wkspd__Ttrpc__Response *answer(engine_reply_t const *reply) {
  size_t len = 0;
  uint8_t *bytes = rpc_encode_reply(reply, &len);
  return unpack(bytes, len);
}

/* Every field of a CreateRequest reaches the engine's struct. */
static void create_fields(void **state) {
  Wkspd__V1__CreateRequest create = WKSPD__V1__CREATE_REQUEST__INIT;
  rpc_call_t call;
  rpc_refusal_t refusal;
  size_t len;
  create.name = (char *)(uintptr_t) "orders";
  create.size = 1UL << 40;
  create.page_size = 4096;
  create.mode = 0640;
  create.seed = 77;
  create.part_max = 12345;
  uint8_t *bytes = pack_request("wkspd.v1.Workspaces", "Create", 5000, &create.base, &len);
  assert_int_equal(rpc_decode(bytes, len, &call, &refusal), 0);
  free(bytes);
  assert_int_equal(call.req.method, ENGINE_CREATE);
  assert_string_equal(call.req.u.create.name, "orders");
  assert_int_equal(call.req.u.create.size, 1UL << 40);
  assert_int_equal(call.req.u.create.page_size, 4096);
  assert_int_equal(call.req.u.create.mode, 0640);
  assert_int_equal(call.req.u.create.seed, 77);
  assert_int_equal(call.req.u.create.part_max, 12345);
  assert_int_equal(call.timeout_ns, 5000);
  rpc_call_free(&call);
}

/* A name longer than the engine's field is cut, with a NUL. */
static void long_name(void **state) {
  Wkspd__V1__GetRequest get = WKSPD__V1__GET_REQUEST__INIT;
  rpc_call_t call;
  rpc_refusal_t refusal;
  size_t len;
  char name[1000];
  memset(name, 'x', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  get.name = name;
  uint8_t *bytes = pack_request("wkspd.v1.Workspaces", "Get", 0, &get.base, &len);
  assert_int_equal(rpc_decode(bytes, len, &call, &refusal), 0);
  free(bytes);
  assert_int_equal(strlen(call.req.u.get.name), ENGINE_TEXT_MAX - 1);
  rpc_call_free(&call);
}

/* Tags of a query are handed on where they lie. */
static void query_tags(void **state) {
  Wkspd__V1__QueryRequest query = WKSPD__V1__QUERY_REQUEST__INIT;
  uint64_t tags[] = {1, 1UL << 63, 3};
  rpc_call_t call;
  rpc_refusal_t refusal;
  size_t len;
  query.name = (char *)(uintptr_t) "q";
  query.tags = tags;
  query.n_tags = 3;
  query.page_gaddr = 99;
  query.page_size = 7;
  uint8_t *bytes = pack_request("wkspd.v1.Workspaces", "Query", -5, &query.base, &len);
  assert_int_equal(rpc_decode(bytes, len, &call, &refusal), 0);
  free(bytes);
  assert_int_equal(call.req.u.query.tag_cnt, 3);
  assert_memory_equal(call.req.u.query.tags, tags, sizeof tags);
  assert_int_equal(call.req.u.query.page_gaddr, 99);
  assert_int_equal(call.req.u.query.page_size, 7);
  assert_int_equal(call.timeout_ns, 0); /* a negative timeout is none */
  rpc_call_free(&call);
}

/* A refusal that quotes what came is text, whatever bytes came: others could not read it. */
static void not_utf8(void **state) {
  rpc_call_t call;
  rpc_refusal_t refusal;
  size_t len;
  uint8_t *bytes = pack_request("wkspd.v1.\xdd\xff", "Ge\nt\x80", 0, NULL, &len);
  assert_int_equal(rpc_decode(bytes, len, &call, &refusal), 1);
  free(bytes);
  assert_int_equal(refusal.code, RPC_UNIMPLEMENTED);
  assert_string_equal(refusal.sentence, "there is no method 'Ge?t?' in service 'wkspd.v1.?\?'");
}

/* Every method of the table is found by its name, takes an empty message, and has its own number.
 */
static void all_methods(void **state) {
  uint64_t seen = 0;
  for (unsigned i = 0; i < rpc_method_cnt; i++) {
    rpc_call_t call;
    rpc_refusal_t refusal;
    size_t len;
    assert_ptr_equal(rpc_find(rpc_methods[i].service, rpc_methods[i].name), &rpc_methods[i]);
    uint8_t *bytes = pack_request(rpc_methods[i].service, rpc_methods[i].name, 0, NULL, &len);
    assert_int_equal(rpc_decode(bytes, len, &call, &refusal), 0);
    free(bytes);
    assert_int_equal(call.req.method, rpc_methods[i].method);
    int number = call.req.method == RPC_RELOAD ? 63 : call.req.method;
    assert_int_equal(seen & 1UL << number, 0);
    seen |= 1UL << number;
    rpc_call_free(&call);
  }
  /* the last of the engine's methods, and one that it does not know */
  assert_int_equal(rpc_method_cnt, ENGINE_VERIFY + 1);
}

/* A call's id reaches the engine with its length, whatever that is; only one of the right length is
   copied. */
static void call_ids(void **state) {
  uint8_t id[40];
  memset(id, 0x5a, sizeof id);
  static size_t const lens[] = {0, 1, 15, 16, 17, 40};
  for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
    Wkspd__V1__DeleteRequest del = WKSPD__V1__DELETE_REQUEST__INIT;
    rpc_call_t call;
    rpc_refusal_t refusal;
    size_t len;
    del.request_id.data = id;
    del.request_id.len = lens[i];
    uint8_t *bytes = pack_request("wkspd.v1.Workspaces", "Delete", 0, &del.base, &len);
    assert_int_equal(rpc_decode(bytes, len, &call, &refusal), 0);
    free(bytes);
    assert_int_equal(call.req.call_id_len, lens[i]);
    for (size_t k = 0; k < sizeof call.req.call_id; k++)
      assert_int_equal(call.req.call_id[k], lens[i] == 16 ? 0x5a : 0);
    rpc_call_free(&call);
  }
}

/* A request that would unpack to far more than it is, or to more than any method needs, is
 * RESOURCE_EXHAUSTED before it costs memory and time. */
static void expansion(void **state) {
  size_t len = TTRPC_DATA_MAX;
  uint8_t *bytes = malloc(len);
  assert_non_null(bytes);
  for (size_t i = 0; i < len; i += 2) { /* empty metadata entries */
    bytes[i] = 0x2a;
    bytes[i + 1] = 0;
  }
  rpc_call_t call;
  rpc_refusal_t refusal;
  assert_int_equal(rpc_decode(bytes, len, &call, &refusal), 1);
  assert_int_equal(refusal.code, ENGINE_CODE_RESOURCE_EXHAUSTED);
  assert_non_null(strstr(refusal.sentence, "4194304 bytes"));
  free(bytes);
}

/* Unknown methods are UNIMPLEMENTED and named; a request or payload that is none is
 * INVALID_ARGUMENT. */
static void refusals(void **state) {
  rpc_call_t call;
  rpc_refusal_t refusal;
  size_t len;
  uint8_t *bytes = pack_request("wkspd.v1.Workspaces", "Frobnicate", 0, NULL, &len);
  assert_int_equal(rpc_decode(bytes, len, &call, &refusal), 1);
  free(bytes);
  assert_int_equal(refusal.code, RPC_UNIMPLEMENTED);
  assert_non_null(strstr(refusal.sentence, "Frobnicate"));

  assert_int_equal(rpc_decode((uint8_t const *)"\xff\xff\xff", 3, &call, &refusal), 1);
  assert_int_equal(refusal.code, ENGINE_CODE_INVALID_ARGUMENT);

  Wkspd__Ttrpc__Request request = WKSPD__TTRPC__REQUEST__INIT;
  request.service = (char *)(uintptr_t) "wkspd.v1.Host";
  request.method = (char *)(uintptr_t) "Version";
  request.payload.data = (uint8_t *)(uintptr_t) "\x0a\xff";
  request.payload.len = 2;
  bytes = rpc_pack(&request.base, &len);
  assert_int_equal(rpc_decode(bytes, len, &call, &refusal), 1);
  free(bytes);
  assert_int_equal(refusal.code, ENGINE_CODE_INVALID_ARGUMENT);
  assert_non_null(strstr(refusal.sentence, "Version"));
  bytes = rpc_encode_refusal(&refusal, &len);
  Wkspd__Ttrpc__Response *response = unpack(bytes, len);
  assert_int_equal(response->status->code, ENGINE_CODE_INVALID_ARGUMENT);
  wkspd__ttrpc__response__free_unpacked(response, NULL);
}

/* Random and mutated bytes are decoded or refused, never anything else. */
static void garbage(void **state) {
  char const *env = getenv("WKSP_TEST_SEED");
  unsigned seed = env ? (unsigned)strtoul(env, NULL, 0) : (unsigned)(uintptr_t)&env ^ 0x5bd1e995U;
  printf("# seed %u\n", seed);
  Wkspd__V1__CreateRequest create = WKSPD__V1__CREATE_REQUEST__INIT;
  size_t len;
  create.name = (char *)(uintptr_t) "orders";
  create.size = 1UL << 40;
  uint8_t *good = pack_request("wkspd.v1.Workspaces", "Create", 5000, &create.base, &len);
  unsigned decoded = 0, refused = 0;
  for (int i = 0; i < 20000; i++) {
    uint8_t bytes[256];
    rpc_call_t call;
    rpc_refusal_t refusal = {0};
    memcpy(bytes, good, len);
    for (int k = 0; k < 3; k++) bytes[(unsigned)rand_r(&seed) % len] = (uint8_t)rand_r(&seed);
    size_t cut = (unsigned)rand_r(&seed) % 4 ? len : (unsigned)rand_r(&seed) % (len + 1);
    if (!rpc_decode(bytes, cut, &call, &refusal)) {
      decoded++;
      assert_non_null(call.method);
      rpc_call_free(&call);
    } else {
      refused++;
      assert_true(refusal.sentence[0] && refusal.kind);
    }
  }
  free(good);
  assert_true(decoded > 0 && refused > 0);
}

/* An error reply carries code, sentence and every field of its ErrorDetail. */
static void error_reply(void **state) {
  engine_reply_t reply = {.method = ENGINE_CREATE,
                          .code = ENGINE_CODE_RESOURCE_EXHAUSTED,
                          .sentence = "32 huge pages are wanted",
                          .detail_kind = "pages",
                          .detail_workspace = "orders",
                          .detail_node = 1,
                          .detail_wanted = 32,
                          .detail_free = 7,
                          .detail_hint = "reserve more"};
  Wkspd__Ttrpc__Response *response = answer(&reply);
  assert_int_equal(response->status->code, ENGINE_CODE_RESOURCE_EXHAUSTED);
  assert_string_equal(response->status->message, "32 huge pages are wanted");
  assert_int_equal(response->status->n_details, 1);
  Wkspd__Ttrpc__Any *any = response->status->details[0];
  assert_string_equal(any->type_url, "type.googleapis.com/wkspd.v1.ErrorDetail");
  Wkspd__V1__ErrorDetail *detail =
      wkspd__v1__error_detail__unpack(NULL, any->value.len, any->value.data);
  assert_string_equal(detail->kind, "pages");
  assert_string_equal(detail->workspace, "orders");
  assert_int_equal(detail->node, 1);
  assert_int_equal(detail->wanted, 32);
  assert_int_equal(detail->free, 7);
  assert_string_equal(detail->hint, "reserve more");
  wkspd__v1__error_detail__free_unpacked(detail, NULL);
  wkspd__ttrpc__response__free_unpacked(response, NULL);
}

static engine_workspace_t example(void) {
  engine_workspace_t workspace = {.attached_rw = 3, .attached_ro = 4, .quarantined = 1};
  spec_t spec = {.ws_id = 9,
                 .state = SPEC_READY,
                 .name = "orders",
                 .uuid = {1, 2, 3},
                 .size = 1UL << 29,
                 .max_size = 1UL << 30,
                 .page_size = 2097152,
                 .data_max = 1UL << 29,
                 .part_max = 100,
                 .mode = 0600,
                 .uid = 5,
                 .gid = 6,
                 .seed = 7,
                 .created_ns = 8,
                 .layout_version = 1,
                 .geometry_hash = 0xabcdUL};
  workspace.spec = spec;
  strcpy(workspace.reason, "because");
  return workspace;
}

/* Open's response says what must be mapped and how many descriptors come with it; a workspace keeps
 * all its fields. */
static void open_reply(void **state) {
  engine_workspace_t workspace = example();
  engine_reply_t reply = {.method = ENGINE_OPEN};
  reply.u.open.workspace = &workspace;
  reply.u.open.lease_id = 42;
  Wkspd__Ttrpc__Response *response = answer(&reply);
  Wkspd__V1__OpenResponse *open =
      wkspd__v1__open_response__unpack(NULL, response->payload.len, response->payload.data);
  assert_int_equal(open->lease_id, 42);
  assert_int_equal(open->map_size, 1UL << 30);
  assert_int_equal(open->layout_version, 1);
  assert_int_equal(open->geometry_hash, 0xabcdUL);
  assert_int_equal(open->fds, 2);
  Wkspd__V1__Workspace const *got = open->workspace;
  assert_string_equal(got->name, "orders");
  assert_int_equal(got->uuid.len, 16);
  assert_memory_equal(got->uuid.data, workspace.spec.uuid, 16);
  assert_int_equal(got->size, 1UL << 29);
  assert_int_equal(got->max_size, 1UL << 30);
  assert_int_equal(got->page_size, 2097152);
  assert_int_equal(got->data_max, 1UL << 29);
  assert_int_equal(got->part_max, 100);
  assert_int_equal(got->mode, 0600);
  assert_int_equal(got->uid, 5);
  assert_int_equal(got->gid, 6);
  assert_int_equal(got->seed, 7);
  assert_int_equal(got->created_ns, 8);
  assert_int_equal(got->attached_rw, 3);
  assert_int_equal(got->attached_ro, 4);
  assert_int_equal(got->removing, 0);
  assert_int_equal(got->quarantined, 1);
  assert_string_equal(got->reason, "because");
  wkspd__v1__open_response__free_unpacked(open, NULL);
  wkspd__ttrpc__response__free_unpacked(response, NULL);
}

/* A list keeps order, count and token. */
static void list_reply(void **state) {
  engine_workspace_t workspaces[3] = {example(), example(), example()};
  engine_reply_t reply = {.method = ENGINE_LIST};
  for (int i = 0; i < 3; i++) workspaces[i].spec.seed = (uint32_t)i;
  reply.u.list.workspaces = workspaces;
  reply.u.list.workspace_cnt = 3;
  strcpy(reply.u.list.next_page_token, "token");
  Wkspd__Ttrpc__Response *response = answer(&reply);
  Wkspd__V1__ListResponse *list =
      wkspd__v1__list_response__unpack(NULL, response->payload.len, response->payload.data);
  assert_int_equal(list->n_workspaces, 3);
  for (uint32_t i = 0; i < 3; i++) assert_int_equal(list->workspaces[i]->seed, i);
  assert_string_equal(list->next_page_token, "token");
  wkspd__v1__list_response__free_unpacked(list, NULL);
  wkspd__ttrpc__response__free_unpacked(response, NULL);
}

/* The largest page of partitions that a query may ask for fits a frame. */
static void largest_query(void **state) {
  size_t cnt = RESULT_PARTS_MAX, len;
  result_head_t head = {.part_cnt = (uint32_t)cnt, .root_cnt = FD_WKSP_ROOT_MAX};
  fd_wksp_part_t *parts = calloc(cnt, sizeof *parts);
  fd_wksp_root_t *roots = calloc(FD_WKSP_ROOT_MAX, sizeof *roots);
  for (size_t i = 0; i < cnt; i++) {
    parts[i] = (fd_wksp_part_t){~0UL, ~0UL, ~0UL, FD_WKSP_KIND_LARGE};
  }
  for (size_t i = 0; i < FD_WKSP_ROOT_MAX; i++) {
    memset(roots[i].name, 'r', FD_WKSP_ROOT_NAME_MAX);
    roots[i].gaddr = roots[i].tag = ~0UL;
  }
  result_t result = {.head = &head, .parts = parts, .roots = roots};
  engine_reply_t reply = {.method = ENGINE_QUERY};
  reply.u.worker_result = &result;
  uint8_t *bytes = rpc_encode_reply(&reply, &len);
  assert_non_null(bytes);
  assert_true(len <= 4U << 20);
  Wkspd__Ttrpc__Response *response = unpack(bytes, len);
  Wkspd__V1__QueryResponse *query =
      wkspd__v1__query_response__unpack(NULL, response->payload.len, response->payload.data);
  assert_int_equal(query->n_partitions, cnt);
  assert_int_equal(query->n_roots, FD_WKSP_ROOT_MAX);
  assert_int_equal(query->partitions[cnt - 1]->gaddr, ~0UL);
  wkspd__v1__query_response__free_unpacked(query, NULL);
  wkspd__ttrpc__response__free_unpacked(response, NULL);
  free(parts);
  free(roots);
}

/* The largest page of a list fits a frame. */
static void largest_list(void **state) {
  size_t cnt = ENGINE_LIST_PAGE_MAX, len;
  engine_workspace_t *workspaces = calloc(cnt, sizeof *workspaces);
  for (size_t i = 0; i < cnt; i++) {
    engine_workspace_t *at = &workspaces[i];
    memset(at->spec.name, 'n', SPEC_NAME_MAX);
    at->spec.size = at->spec.data_max = at->spec.part_max = at->spec.created_ns = ~0UL;
    at->spec.page_size = 2097152;
    at->spec.uid = at->spec.gid = at->spec.seed = ~0U;
    at->spec.mode = 0777;
    at->attached_rw = at->attached_ro = ~0U;
    at->removing = at->quarantined = 1;
    memset(at->reason, 'r', ENGINE_REASON_MAX - 1);
  }
  engine_reply_t reply = {.method = ENGINE_LIST};
  reply.u.list.workspaces = workspaces;
  reply.u.list.workspace_cnt = cnt;
  uint8_t *bytes = rpc_encode_reply(&reply, &len);
  assert_non_null(bytes);
  assert_true(len <= 4U << 20);
  free(bytes);
  free(workspaces);
}

/* Events of a stream are bare messages. */
static void stream_event(void **state) {
  size_t len;
  engine_effect_t effect = {.kind = ENGINE_FX_STREAM_EVENT};
  effect.u.stream_event.kind = ENGINE_EVENT_DETACHED;
  effect.u.stream_event.time_ns = 123;
  memcpy(effect.u.stream_event.name, "orders", 7);
  uint8_t *bytes = rpc_encode_event(&effect, &len);
  Wkspd__V1__Event *event = wkspd__v1__event__unpack(NULL, len, bytes);
  free(bytes);
  assert_int_equal(event->kind, WKSPD__V1__EVENT_KIND__EVENT_DETACHED);
  assert_string_equal(event->name, "orders");
  assert_int_equal(event->time_ns, 123);
  wkspd__v1__event__free_unpacked(event, NULL);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(create_fields), cmocka_unit_test(long_name),
      cmocka_unit_test(query_tags),    cmocka_unit_test(not_utf8),
      cmocka_unit_test(all_methods),   cmocka_unit_test(call_ids),
      cmocka_unit_test(expansion),     cmocka_unit_test(refusals),
      cmocka_unit_test(garbage),       cmocka_unit_test(error_reply),
      cmocka_unit_test(open_reply),    cmocka_unit_test(list_reply),
      cmocka_unit_test(largest_query), cmocka_unit_test(largest_list),
      cmocka_unit_test(stream_event),
  };
  return cmocka_run_group_tests_name("rpc", tests, NULL, NULL);
}
