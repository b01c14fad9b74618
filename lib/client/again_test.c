/* Calls that change something and lose their daemon: which of them are made again, and how a daemon
   knows them. */

#include "client/test_peer.h"

#include "wksp/client.h"
#include "wkspd.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static wksp_create_t const create_x = {.name = "x", .size = 1UL << 20};

static void script_compact_lost(peer_t *peer, void *arg) {
  peer_accept(peer);
  peer_request(peer, "Compact");
  peer_accept(peer);
  peer_request(peer, "Get");
  peer_reply_get(peer, "x");
}

/* A changing call without an id that was sent and got no reply fails with E_AGAIN and is not sent
 * again; the client goes on. */
static void changes_are_not_sent_again(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_compact_lost, NULL);
  wksp_client_t *client = peer_connect(peer);
  wksp_compacted_t compacted;
  assert_int_equal(wksp_client_compact(client, "x", &compacted), WKSP_E_AGAIN);
  assert_non_null(strstr(wksp_last_error(), "may or may not have happened"));
  wksp_info_t info;
  assert_int_equal(wksp_client_get(client, "x", &info), 0);
  peer_join(peer);
  wksp_client_close(client);
}

/* The id of the Create that was asked for last. */
static void create_id(peer_t *peer, uint8_t ret_id[16]) {
  Wkspd__V1__CreateRequest *request = wkspd__v1__create_request__unpack(
      NULL, peer->request->payload.len, peer->request->payload.data);
  PEER_CHECK(peer, request && request->request_id.len == 16);
  memcpy(ret_id, request->request_id.data, 16);
  wkspd__v1__create_request__free_unpacked(request, NULL);
}

static void reply_features(peer_t *peer, char *feature) {
  Wkspd__V1__VersionResponse version = WKSPD__V1__VERSION_RESPONSE__INIT;
  peer_request(peer, "Version");
  version.n_features = 1;
  version.features = &feature;
  peer_reply(peer, 0, NULL, &version.base);
}

static void refuse_for_now(peer_t *peer, char *kind) {
  Wkspd__V1__ErrorDetail detail = WKSPD__V1__ERROR_DETAIL__INIT;
  detail.kind = kind;
  peer_reply(peer, 14, "not now", &detail.base);
}

static void script_create_again(peer_t *peer, void *arg) {
  uint8_t first[16], id[16];
  peer_accept(peer);
  peer_request(peer, "Create");
  create_id(peer, first);
  /* lost before the reply, then again while it is asked who this is, then refused for now */
  peer_accept(peer);
  peer_request(peer, "Version");
  peer_accept(peer);
  reply_features(peer, (char *)(uintptr_t) "request-id");
  for (int i = 0; i < 3; i++) {
    peer_request(peer, "Create");
    create_id(peer, id);
    PEER_CHECK(peer, !memcmp(id, first, sizeof id));
    if (i < 2) refuse_for_now(peer, (char *)(uintptr_t)(i ? "repeat" : "stopping"));
  }
  peer_reply_create(peer, "x");
  peer_request(peer, "Create");
  create_id(peer, id);
  PEER_CHECK(peer, memcmp(id, first, sizeof id) != 0);
  peer_reply_create(peer, "x");
}

/* A create that was lost is sent again with the same id, once the daemon has said that it knows
   such calls, and until it is not under way any more; without a trace in the last error. The next
   has an id of its own. */
static void changes_with_an_id_are_sent_again(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_create_again, NULL);
  wksp_client_t *client = peer_connect(peer);
  char before[512];
  (void)snprintf(before, sizeof before, "%s", wksp_last_error());
  assert_int_equal(wksp_client_create(client, &create_x, NULL), 0);
  assert_string_equal(wksp_last_error(), before);
  assert_int_equal(wksp_client_create(client, &create_x, NULL), 0);
  peer_join(peer);
  wksp_client_close(client);
}

static void script_older_daemon(peer_t *peer, void *arg) {
  peer_accept(peer);
  peer_request(peer, "Create");
  peer_accept(peer);
  reply_features(peer, (char *)(uintptr_t) "wkspd.v1.Workspaces.Create");
  peer_wait_hangup(peer);
}

/* A daemon that does not know calls by their ids is not asked again. */
static void changes_are_not_sent_to_an_older_daemon(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_older_daemon, NULL);
  wksp_client_t *client = peer_connect(peer);
  assert_int_equal(wksp_client_create(client, &create_x, NULL), WKSP_E_AGAIN);
  assert_non_null(strstr(wksp_last_error(), "does not know calls again"));
  assert_non_null(strstr(wksp_last_error(), "may or may not have happened"));
  peer_join(peer);
  wksp_client_close(client);
}

static void script_busy(peer_t *peer, void *arg) {
  peer_accept(peer);
  peer_request(peer, "Resize");
  refuse_for_now(peer, (char *)(uintptr_t) "busy");
}

/* What is refused because others are at it is for the caller to try again. */
static void busy_is_told(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_busy, NULL);
  wksp_client_t *client = peer_connect(peer);
  wksp_info_t info;
  assert_int_equal(wksp_client_resize(client, "x", 1UL << 20, &info), WKSP_E_AGAIN);
  assert_string_equal(wksp_last_error(), "not now");
  peer_join(peer);
  wksp_client_close(client);
}

static void script_gone(peer_t *peer, void *arg) {
  peer_accept(peer);
  peer_request(peer, "Delete");
  peer_accept(peer);
  peer_request(peer, "Version");
  peer_wait_hangup(peer);
}

/* A call that may have happened and whose daemon says nothing more ends with the deadline, and says
   so. */
static void changes_end_with_the_deadline(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_gone, NULL);
  wksp_client_t *client = peer_connect(peer);
  /* Within it the peer has to hang up and be found again; its thread may wait for a turn. */
  assert_int_equal(wksp_client_deadline_set(client, 1500), 0);
  int err = wksp_client_remove(client, "x", 0);
  assert_true(err == WKSP_E_TIMEDOUT || err == WKSP_E_AGAIN);
  assert_non_null(strstr(wksp_last_error(), "may or may not have happened"));
  wksp_client_close(client);
  peer_join(peer);
}

static void script_reload(peer_t *peer, void *arg) {
  static char *notes[] = {(char *)(uintptr_t) "a: created", (char *)(uintptr_t) "b:\nodd \x1b[1m",
                          (char *)(uintptr_t) "c: not asked for any more"};
  Wkspd__V1__ReloadResponse response = WKSPD__V1__RELOAD_RESPONSE__INIT;
  peer_accept(peer);
  peer_request(peer, "Reload");
  peer_accept(peer); /* lost: a reload that is made twice does no harm */
  peer_request(peer, "Reload");
  response.n_notes = sizeof notes / sizeof notes[0];
  response.notes = notes;
  response.mistake_count = 2;
  peer_reply(peer, 0, NULL, &response.base);
  peer_request(peer, "Reload");
  peer_reply(peer, 7, "not for you", NULL);
}

typedef struct heard {
  char notes[4][64];
  int cnt;
} heard_t;

static int on_note(void *arg, char const *note) {
  heard_t *heard = arg;
  (void)snprintf(heard->notes[heard->cnt++], sizeof heard->notes[0], "%s", note);
  return heard->cnt == 2 ? 5 : 0;
}

/* A reload is made again if it is lost, hands on the daemon's sentences without what could do harm
   on a terminal until it is told to stop, and fails with the daemon's reason. */
static void reloads(void **state) {
  peer_t *peer = *state;
  heard_t heard = {.cnt = 0};
  peer_start(peer, script_reload, NULL);
  wksp_client_t *client = peer_connect(peer);
  uint mistake_cnt = 0;
  assert_int_equal(wksp_client_reload(client, on_note, &heard, &mistake_cnt), 5);
  assert_int_equal(mistake_cnt, 2);
  assert_int_equal(heard.cnt, 2);
  assert_string_equal(heard.notes[0], "a: created");
  assert_string_equal(heard.notes[1], "b:?odd ?[1m");
  assert_int_equal(wksp_client_reload(client, on_note, &heard, NULL), WKSP_E_PERM);
  assert_string_equal(wksp_last_error(), "not for you");
  peer_join(peer);
  wksp_client_close(client);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(reloads, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(changes_are_not_sent_again, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(changes_with_an_id_are_sent_again, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(changes_are_not_sent_to_an_older_daemon, peer_setup,
                                      peer_teardown),
      cmocka_unit_test_setup_teardown(busy_is_told, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(changes_end_with_the_deadline, peer_setup, peer_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
