/* Calls over a real socket against a scripted peer: what a request says, what of a reply is
   believed and what is not. */

#include "client/test_peer.h"

#include "wksp/client.h"
#include "wkspd.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Answers
 * ---------------------------------------------------------------------------------------------- */

static struct {
  int status;
  int code;
} const codes[] = {
    {1, WKSP_E_PROTO},    {2, WKSP_E_PROTO},     {3, WKSP_E_INVAL},    {4, WKSP_E_TIMEDOUT},
    {5, WKSP_E_NOTFOUND}, {6, WKSP_E_EXISTS},    {7, WKSP_E_PERM},     {8, WKSP_E_LIMIT},
    {9, WKSP_E_BUSY},     {10, WKSP_E_AGAIN},    {11, WKSP_E_PROTO},   {12, WKSP_E_UNSUPPORTED},
    {13, WKSP_E_PROTO},   {14, WKSP_E_AGAIN},    {15, WKSP_E_CORRUPT}, {16, WKSP_E_PROTO},
    {-1, WKSP_E_PROTO},   {99999, WKSP_E_PROTO},
};
#define CODE_CNT (sizeof codes / sizeof *codes)

static void script_codes(peer_t *peer, void *arg) {
  peer_accept(peer);
  for (size_t i = 0; i < CODE_CNT; i++) {
    char text[80];
    (void)snprintf(text, sizeof text, "sentence %zu with\na \033[31mcontrol", i);
    peer_request(peer, "Get");
    peer_reply(peer, codes[i].status, text, NULL);
  }
  peer_request(peer, "Get");
  peer_reply(peer, 5, "", NULL);
  peer_request(peer, "Get");
  peer_reply_get(peer, "x");
  peer_wait_hangup(peer);
}

static void script_hint(peer_t *peer, void *arg) {
  Wkspd__V1__ErrorDetail detail = WKSPD__V1__ERROR_DETAIL__INIT;
  detail.hint = (char *)"take\nanother";
  peer_accept(peer);
  peer_request(peer, "Get");
  peer_reply(peer, 6, "it is taken", &detail.base);
  detail.hint = (char *)"";
  peer_request(peer, "Get");
  peer_reply(peer, 6, "it is taken", &detail.base);
  peer_wait_hangup(peer);
}

/* What the daemon says one can do about a refusal follows its sentence. */
static void hint(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_hint, NULL);
  wksp_client_t *client = peer_connect(peer);
  wksp_info_t info;
  assert_int_equal(wksp_client_get(client, "x", &info), WKSP_E_EXISTS);
  assert_string_equal(wksp_last_error(), "it is taken; take?another");
  assert_int_equal(wksp_client_get(client, "x", &info), WKSP_E_EXISTS);
  assert_string_equal(wksp_last_error(), "it is taken");
  wksp_client_close(client);
  peer_join(peer);
}

/* Each status of the daemon becomes its code, with the daemon's own sentence freed of control
 * characters; the connection goes on. */
static void each_status(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_codes, NULL);
  wksp_client_t *client = peer_connect(peer);
  for (size_t i = 0; i < CODE_CNT; i++) {
    char text[80];
    (void)snprintf(text, sizeof text, "sentence %zu with?a ?[31mcontrol", i);
    wksp_info_t info = {.size = 77};
    assert_int_equal(wksp_client_get(client, "x", &info), codes[i].code);
    assert_int_equal(wksp_last_error_code(), codes[i].code);
    assert_string_equal(wksp_last_error(), text);
    assert_int_equal(info.size, 77);
  }
  wksp_info_t info;
  assert_int_equal(wksp_client_get(client, "x", &info), WKSP_E_NOTFOUND);
  assert_non_null(strstr(wksp_last_error(), "code 5"));
  assert_int_equal(wksp_client_get(client, "x", &info), 0);
  assert_string_equal(info.name, "x");
  assert_memory_equal(info.uuid, peer_uuid, 16);
  assert_int_equal(info.size, 8UL << 20);
  assert_int_equal(info.mode, 0640);
  assert_int_equal(info.uid, 7);
  assert_int_equal(info.attached_rw, 2);
  /* A success leaves the last error alone. */
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
  wksp_client_close(client);
  peer_join(peer);
}

static void script_envelope(peer_t *peer, void *arg) {
  peer_accept(peer);
  uint32_t before = 0;
  for (int i = 0; i < 3; i++) {
    peer_request(peer, "Create");
    PEER_CHECK(peer, strcmp(peer->request->service, "wkspd.v1.Workspaces") == 0);
    PEER_CHECK(peer, peer->stream % 2 == 1 && peer->stream > before && peer->flags == 0);
    PEER_CHECK(peer,
               peer->request->timeout_nano > 0 && peer->request->timeout_nano <= 9000L * 1000000L);
    before = peer->stream;
    Wkspd__V1__CreateRequest *create = wkspd__v1__create_request__unpack(
        NULL, peer->request->payload.len, peer->request->payload.data);
    PEER_CHECK(peer, create);
    int same = strcmp(create->name, "full") == 0 && create->size == 12345 &&
               create->page_size == WKSP_PAGE_2M && create->mode == 0604 && create->seed == 9 &&
               create->part_max == 88;
    wkspd__v1__create_request__free_unpacked(create, NULL);
    PEER_CHECK(peer, same);
    peer_reply_create(peer, "full");
  }
  peer_request(peer, "Stats");
  PEER_CHECK(peer, strcmp(peer->request->service, "wkspd.v1.Host") == 0);
  Wkspd__V1__StatsResponse stats = WKSPD__V1__STATS_RESPONSE__INIT;
  stats.pid = 5;
  stats.fd_store = 1;
  stats.bytes = 1UL << 40;
  stats.fd_cnt = 19;
  peer_reply(peer, 0, NULL, &stats.base);
  peer_request(peer, "Version");
  Wkspd__V1__VersionResponse version = WKSPD__V1__VERSION_RESPONSE__INIT;
  version.daemon = (char *)"a version that is longer than what there is room for";
  version.layout_version = 3;
  version.geometry_hash = 0xabcdef;
  peer_reply(peer, 0, NULL, &version.base);
  peer_request(peer, "Delete");
  Wkspd__V1__DeleteRequest *delete = wkspd__v1__delete_request__unpack(
      NULL, peer->request->payload.len, peer->request->payload.data);
  PEER_CHECK(peer, delete &&delete->force);
  wkspd__v1__delete_request__free_unpacked(delete, NULL);
  peer_reply(peer, 0, NULL, NULL);
  peer_request(peer, "Compact");
  Wkspd__V1__CompactResponse compact = WKSPD__V1__COMPACT_RESPONSE__INIT;
  compact.freed_size = 4096;
  compact.skipped_cnt = 1;
  compact.skipped_pid = 33;
  compact.skipped_tid = 34;
  peer_reply(peer, 0, NULL, &compact.base);
}

/* Requests carry what was asked, on odd rising streams, with the time that is left; answers come
 * back as structs. */
static void envelope(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_envelope, NULL);
  wksp_client_t *client = peer_connect(peer);
  assert_int_equal(wksp_client_deadline_set(client, 9000), 0);
  wksp_create_t create = {.name = "full",
                          .size = 12345,
                          .page_size = WKSP_PAGE_2M,
                          .mode = 0604,
                          .seed = 9,
                          .part_max = 88};
  wksp_info_t info;
  assert_int_equal(wksp_client_create(client, &create, NULL), 0);
  assert_int_equal(wksp_client_create(client, &create, &info), 0);
  assert_string_equal(info.name, "full");
  assert_int_equal(wksp_client_create(client, &create, &info), 0);
  wksp_status_t status;
  assert_int_equal(wksp_client_status(client, &status), 0);
  assert_int_equal(status.pid, 5);
  assert_int_equal(status.fd_store, 1);
  assert_int_equal(status.bytes, 1UL << 40);
  assert_int_equal(status.fd_cnt, 19);
  wksp_version_t version;
  assert_int_equal(wksp_client_version(client, &version), 0);
  assert_string_equal(version.daemon, "a version that is longer than w");
  assert_int_equal(version.layout, 3);
  assert_int_equal(version.geometry_hash, 0xabcdef);
  assert_int_equal(wksp_client_remove(client, "x", 1), 0);
  wksp_compacted_t compacted;
  assert_int_equal(wksp_client_compact(client, "x", &compacted), 0);
  assert_int_equal(compacted.freed_sz, 4096);
  assert_int_equal(compacted.skipped_cnt, 1);
  assert_int_equal(compacted.skipped_pid, 33);
  assert_int_equal(compacted.skipped_tid, 34);
  peer_join(peer);
  wksp_client_close(client);
}

static void script_split(peer_t *peer, void *arg) {
  size_t *cuts = arg;
  peer_accept(peer);
  size_t len = 1;
  for (size_t cut = 0; cut <= len; cut++) {
    peer_request(peer, "Get");
    ttrpc_buf_t buf;
    peer_get_bytes(peer, &buf);
    len = buf.len;
    peer_send(peer, ttrpc_buf_head(&buf), cut, NULL, 0);
    peer_wait_taken(peer);
    peer_send(peer, ttrpc_buf_head(&buf) + cut, len - cut, NULL, 0);
    ttrpc_buf_free(&buf);
    *cuts = cut + 1;
  }
  peer_request(peer, "Get");
  peer_reply(peer, 5, "no more", NULL);
}

/* A reply may come in two pieces, cut at any byte. */
static void split_replies(void **state) {
  peer_t *peer = *state;
  size_t cuts = 0;
  peer_start(peer, script_split, &cuts);
  wksp_client_t *client = peer_connect(peer);
  wksp_info_t info;
  size_t got = 0;
  int err;
  while ((err = wksp_client_get(client, "x", &info)) == 0) {
    assert_string_equal(info.name, "x");
    got++;
  }
  assert_int_equal(err, WKSP_E_NOTFOUND);
  peer_join(peer);
  assert_true(cuts > 50);
  assert_int_equal(got, cuts);
  wksp_client_close(client);
}

static void script_noise(peer_t *peer, void *arg) {
  peer_accept(peer);
  peer_request(peer, "Get");
  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, 65536);
  /* Other streams, a type that nobody knows, and a Request, which a daemon does not make. */
  peer_response_put(peer, &buf, peer->stream + 2, 5, "not for you", NULL);
  peer_response_put(peer, &buf, 0, 5, "nor this", NULL);
  peer_response_put(peer, &buf, 1000, 5, "nor this", NULL);
  PEER_CHECK(peer, ttrpc_buf_frame(&buf, peer->stream, 77, 0, "abc", 3) == 0);
  PEER_CHECK(peer, ttrpc_buf_frame(&buf, peer->stream, TTRPC_REQUEST, 0, "abc", 3) == 0);
  PEER_CHECK(peer, ttrpc_buf_frame(&buf, 3000, TTRPC_DATA, 0, NULL, 0) == 0);
  peer_send(peer, ttrpc_buf_head(&buf), buf.len, NULL, 0);
  ttrpc_buf_free(&buf);
  peer_reply_get(peer, "x");
}

/* Frames of other streams and unknown types are skipped. */
static void noise_is_skipped(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_noise, NULL);
  wksp_client_t *client = peer_connect(peer);
  wksp_info_t info;
  assert_int_equal(wksp_client_get(client, "x", &info), 0);
  wksp_client_close(client);
  peer_join(peer);
}

/* Garbage
 * ---------------------------------------------------------------------------------------------- */

/* Replies that break the protocol, made by the script from the last request. */
static void garbage_put(peer_t *peer, ttrpc_buf_t *buf, size_t which) {
  uint8_t raw[40];
  memset(raw, 0xff, sizeof raw);
  Wkspd__V1__Workspace workspace;
  peer_workspace(&workspace, "x");
  Wkspd__V1__GetResponse response = WKSPD__V1__GET_RESPONSE__INIT;
  response.workspace = &workspace;
  uint8_t *place;
  int err = 0;
  switch (which) {
  case 0:
    err = ttrpc_buf_frame(buf, peer->stream, TTRPC_RESPONSE, 0, raw, sizeof raw);
    break;
  case 1:
    err = ttrpc_buf_frame(buf, peer->stream, TTRPC_DATA, 0, "x", 1);
    break;
  case 2: /* a payload that is no GetResponse */
    err = ttrpc_buf_frame(buf, peer->stream, TTRPC_RESPONSE, 0, "\x12\x02\xff\xff", 4);
    break;
  case 3: /* a header that announces more than a frame can be */
    err = ttrpc_buf_frame_place(buf, 0x2f312e31, 'H', 'T', 6, &place);
    if (!err) memcpy(buf->bytes + buf->start, "HTTP/1.1 400 Bad", 16);
    break;
  case 4:
    response.workspace = NULL;
    break;
  case 5:
    workspace.name = (char *)"y";
    break;
  case 6:
    workspace.name = (char *)"../x";
    break;
  case 7:
    workspace.uuid.len = 15;
    break;
  case 8:
    workspace.mode = 01000;
    break;
  case 9:
    workspace.size = 0;
    break;
  case 10:
    workspace.page_size = 4097;
    break;
  case 11:
    workspace.page_size = 2048;
    break;
  default:
    PEER_CHECK(peer, !"a case");
  }
  if (which >= 4) peer_response_put(peer, buf, peer->stream, 0, NULL, &response.base);
  PEER_CHECK(peer, !err);
}
#define GARBAGE_CNT  12
#define GARBAGE_WIRE 4 /* the first of them break the wire, too, and cost the connection */

static void script_garbage(peer_t *peer, void *arg) {
  peer_accept(peer);
  for (size_t i = 0; i < GARBAGE_CNT; i++) {
    peer_request(peer, "Get");
    ttrpc_buf_t buf;
    ttrpc_buf_init(&buf, 4096);
    garbage_put(peer, &buf, i);
    peer_send(peer, ttrpc_buf_head(&buf), buf.len, NULL, 0);
    ttrpc_buf_free(&buf);
    if (i < GARBAGE_WIRE) {
      peer_wait_hangup(peer);
      peer_accept(peer);
    }
  }
}

/* Whatever is wrong with a reply, the call fails with E_PROTO; if it is the wire's form the
 * connection is closed. Nothing is sent again. */
static void garbage(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_garbage, NULL);
  wksp_client_t *client = peer_connect(peer);
  for (size_t i = 0; i < GARBAGE_CNT; i++) {
    wksp_info_t info = {.size = 5};
    assert_int_equal(wksp_client_get(client, "x", &info), WKSP_E_PROTO);
    assert_true(strlen(wksp_last_error()) > 20);
    assert_int_equal(info.size, 5);
  }
  peer_join(peer);
  wksp_client_close(client);
}

static int count_infos(void *arg, wksp_info_t const *info) {
  ++*(int *)arg;
  return 0;
}

static void script_bomb(peer_t *peer, void *arg) {
  peer_accept(peer);
  peer_request(peer, "List");
  /* 2 MiB of empty Workspace messages: each takes 2 bytes there and 200 here. */
  size_t len = 2UL << 20;
  uint8_t *bytes = malloc(len + 5);
  PEER_CHECK(peer, bytes);
  /* Response.payload, its length as a varint of 4 bytes */
  bytes[0] = 0x12;
  for (int i = 0; i < 4; i++) bytes[1 + i] = (uint8_t)((len >> 7 * i & 0x7f) | (i < 3 ? 0x80 : 0));
  for (size_t i = 0; i < len; i += 2) {
    bytes[5 + i] = 0x0a;
    bytes[6 + i] = 0;
  }
  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, 4UL << 20);
  int err = ttrpc_buf_frame(&buf, peer->stream, TTRPC_RESPONSE, 0, bytes, len + 5);
  free(bytes);
  PEER_CHECK(peer, !err);
  peer_send(peer, ttrpc_buf_head(&buf), buf.len, NULL, 0);
  ttrpc_buf_free(&buf);
  peer_wait_hangup(peer);
}

/* A reply that would unpack to far more memory than an honest one is refused. */
static void bomb(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_bomb, NULL);
  wksp_client_t *client = peer_connect(peer);
  int cnt = 0;
  assert_int_equal(wksp_client_list(client, count_infos, &cnt), WKSP_E_PROTO);
  assert_int_equal(cnt, 0);
  peer_join(peer);
  wksp_client_close(client);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(each_status, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(hint, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(envelope, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(split_replies, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(noise_is_skipped, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(garbage, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(bomb, peer_setup, peer_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
