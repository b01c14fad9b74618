/* Listings and queries in pages, events as a stream, and arguments that are none. */

#include "client/test_peer.h"

#include "wksp/client.h"
#include "wkspd.pb-c.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Pages
 * ---------------------------------------------------------------------------------------------- */

static void reply_list(peer_t *peer, char const *const *names, size_t cnt, char const *token) {
  Wkspd__V1__Workspace workspaces[8];
  Wkspd__V1__Workspace *pointers[8];
  PEER_CHECK(peer, cnt <= 8);
  for (size_t i = 0; i < cnt; i++) {
    peer_workspace(&workspaces[i], names[i]);
    pointers[i] = &workspaces[i];
  }
  Wkspd__V1__ListResponse response = WKSPD__V1__LIST_RESPONSE__INIT;
  response.n_workspaces = cnt;
  response.workspaces = pointers;
  response.next_page_token = (char *)token;
  peer_request(peer, "List");
  peer_reply(peer, 0, NULL, &response.base);
}

static void script_list(peer_t *peer, void *arg) {
  peer_accept(peer);
  reply_list(peer, (char const *[]){"a", "b"}, 2, "b");
  reply_list(peer, (char const *[]){"c"}, 1, "");
  Wkspd__V1__ListRequest *last = wkspd__v1__list_request__unpack(NULL, peer->request->payload.len,
                                                                 peer->request->payload.data);
  PEER_CHECK(peer, last);
  int token_came = strcmp(last->page_token, "b") == 0;
  wkspd__v1__list_request__free_unpacked(last, NULL);
  PEER_CHECK(peer, token_came);
  peer_request(peer, "Get"); /* from within the callback */
  peer_reply_get(peer, "x");
  reply_list(peer, NULL, 0, "");
  /* Listings that would not end, or are in no order. */
  reply_list(peer, NULL, 0, "again");
  peer_accept(peer);
  reply_list(peer, (char const *[]){"b"}, 1, "more");
  reply_list(peer, (char const *[]){"a"}, 1, "more");
  peer_wait_hangup(peer);
}

typedef struct seen {
  char names[64];
  wksp_client_t *client;
  int stop_after;
} seen_t;

static int see_info(void *arg, wksp_info_t const *info) {
  seen_t *seen = arg;
  strcat(seen->names, info->name);
  if (!seen->stop_after || (int)strlen(seen->names) < seen->stop_after) return 0;
  wksp_info_t other;
  assert_int_equal(wksp_client_get(seen->client, "x", &other), 0);
  return 42;
}

/* A listing joins its pages in order, stops when it is told to, lets its callback use the client,
 * and refuses pages that lead nowhere. */
static void list_pages(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_list, NULL);
  wksp_client_t *client = peer_connect(peer);
  seen_t seen = {.client = client, .stop_after = 3};
  assert_int_equal(wksp_client_list(client, see_info, &seen), 42);
  assert_string_equal(seen.names, "abc");
  seen = (seen_t){.client = client};
  assert_int_equal(wksp_client_list(client, see_info, &seen), 0);
  assert_string_equal(seen.names, "");
  assert_int_equal(wksp_client_list(client, see_info, &seen), WKSP_E_PROTO);
  assert_int_equal(wksp_client_list(client, see_info, &seen), WKSP_E_PROTO);
  assert_string_equal(seen.names, "");
  wksp_client_close(client);
  peer_join(peer);
}

typedef struct query_page {
  uint64_t gaddr, size, next;
  int usage, roots;
  char const *root_name;
} query_page_t;

static void reply_query(peer_t *peer, query_page_t const *page) {
  Wkspd__V1__Usage usage = WKSPD__V1__USAGE__INIT;
  usage.total_max = 100;
  usage.used_size = 4096;
  Wkspd__V1__Partition partition = WKSPD__V1__PARTITION__INIT;
  partition.gaddr = page->gaddr;
  partition.size = page->size;
  partition.tag = 7;
  partition.kind =
      page->gaddr % 3 ? (Wkspd__V1__PartitionKind)99 : WKSPD__V1__PARTITION_KIND__PARTITION_LARGE;
  Wkspd__V1__Partition *partitions[] = {&partition};
  Wkspd__V1__Root root = WKSPD__V1__ROOT__INIT;
  root.name = (char *)page->root_name;
  root.gaddr = 3;
  root.tag = 4;
  Wkspd__V1__Root *roots[FD_WKSP_ROOT_MAX + 1];
  for (size_t i = 0; i <= FD_WKSP_ROOT_MAX; i++) roots[i] = &root;
  Wkspd__V1__QueryResponse response = WKSPD__V1__QUERY_RESPONSE__INIT;
  if (page->usage) response.usage = &usage;
  response.n_partitions = 1;
  response.partitions = partitions;
  response.n_roots = (size_t)page->roots;
  response.roots = roots;
  response.next_page_gaddr = page->next;
  peer_request(peer, "Query");
  peer_reply(peer, 0, NULL, &response.base);
}

static char const name_64[] = "0123456789012345678901234567890123456789012345678901234567890123";

/* Each pair of pages is one bad answer. */
static query_page_t const bad_pages[][2] = {
    {{.gaddr = 3, .size = 64}},                            /* no usage */
    {{.gaddr = 0, .size = 64, .usage = 1}},                /* a partition at 0 */
    {{.gaddr = 64, .size = 0, .usage = 1}},                /* an empty one */
    {{.gaddr = 64, .size = ~0UL, .usage = 1}},             /* one that wraps */
    {{.gaddr = 64, .size = 64, .usage = 1, .roots = 257}}, /* too many roots */
    {{.gaddr = 64, .size = 64, .usage = 1, .roots = 1}},   /* a root without a name */
    {{.gaddr = 64, .size = 64, .usage = 1, .roots = 1, .root_name = name_64}},
    {{.gaddr = 64, .size = 64, .usage = 1, .next = 128}, {.gaddr = 96, .size = 64}}, /* overlap */
    {{.gaddr = 64, .size = 64, .usage = 1, .next = 128}, {.gaddr = 128, .size = 64, .next = 128}},
};
#define BAD_PAGES_CNT (sizeof bad_pages / sizeof *bad_pages)

static void script_query(peer_t *peer, void *arg) {
  peer_accept(peer);
  reply_query(peer,
              &(query_page_t){
                  .gaddr = 64, .size = 64, .usage = 1, .roots = 2, .root_name = "r", .next = 99});
  reply_query(peer, &(query_page_t){.gaddr = 192, .size = 128, .root_name = ""});
  Wkspd__V1__QueryRequest *last = wkspd__v1__query_request__unpack(NULL, peer->request->payload.len,
                                                                   peer->request->payload.data);
  PEER_CHECK(peer, last);
  int right =
      last->page_gaddr == 99 && last->n_tags == 2 && last->tags[0] == 7 && last->tags[1] == ~0UL;
  wkspd__v1__query_request__free_unpacked(last, NULL);
  PEER_CHECK(peer, right);
  for (size_t i = 0; i < BAD_PAGES_CNT; i++) {
    query_page_t first = bad_pages[i][0];
    if (!first.root_name) first.root_name = "";
    reply_query(peer, &first);
    if (bad_pages[i][1].gaddr) {
      query_page_t second = bad_pages[i][1];
      second.root_name = "";
      reply_query(peer, &second);
    }
    peer_wait_hangup(peer);
    if (i + 1 < BAD_PAGES_CNT) peer_accept(peer);
  }
}

/* A query joins its pages; partitions that overlap or lead nowhere, and roots that cannot be, are
 * refused; kinds that are not known yet are 0. */
static void query_pages(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_query, NULL);
  wksp_client_t *client = peer_connect(peer);
  ulong tags[] = {7, ~0UL};
  wksp_query_t query;
  assert_int_equal(wksp_client_query(client, "x", tags, 2, &query), 0);
  assert_int_equal(query.usage.total_max, 100);
  assert_int_equal(query.usage.used_sz, 4096);
  assert_int_equal(query.part_cnt, 2);
  assert_int_equal(query.parts[0].gaddr, 64);
  assert_int_equal(query.parts[0].kind, 0);
  assert_int_equal(query.parts[1].gaddr, 192);
  assert_int_equal(query.parts[1].size, 128);
  assert_int_equal(query.parts[1].kind, FD_WKSP_KIND_LARGE);
  assert_int_equal(query.root_cnt, 2);
  assert_string_equal(query.roots[1].name, "r");
  assert_int_equal(query.roots[1].gaddr, 3);
  wksp_query_free(&query);
  assert_null(query.parts);
  wksp_query_free(&query);
  wksp_query_free(NULL);
  for (size_t i = 0; i < BAD_PAGES_CNT; i++) {
    wksp_query_t untouched = {.part_cnt = 5};
    assert_int_equal(wksp_client_query(client, "x", NULL, 0, &untouched), WKSP_E_PROTO);
    assert_int_equal(untouched.part_cnt, 5);
  }
  wksp_client_close(client);
  peer_join(peer);
}

/* Streams
 * ---------------------------------------------------------------------------------------------- */

static void event_put(peer_t *peer, ttrpc_buf_t *buf, int kind, char const *name) {
  Wkspd__V1__Event event = WKSPD__V1__EVENT__INIT;
  event.kind = (Wkspd__V1__EventKind)kind;
  event.name = (char *)name;
  event.time_ns = 1234;
  uint8_t *place;
  int err = ttrpc_buf_frame_place(buf, peer->stream, TTRPC_DATA, 0,
                                  wkspd__v1__event__get_packed_size(&event), &place);
  PEER_CHECK(peer, !err);
  wkspd__v1__event__pack(&event, place);
}

static void script_watch(peer_t *peer, void *arg) {
  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, 65536);
  for (int round = 0; round < 7; round++) {
    peer_accept(peer);
    peer_request(peer, "Watch");
    PEER_CHECK(peer, peer->flags == TTRPC_FLAG_REMOTE_CLOSED);
    event_put(peer, &buf, WKSP_EVENT_CREATED, "a");
    int err = 0;
    switch (round) {
    case 0: /* ends by the callback; a kind from the future in between */
      event_put(peer, &buf, 77, "f");
      event_put(peer, &buf, WKSP_EVENT_QUARANTINED, "b");
      break;
    case 1:
      peer_response_put(peer, &buf, peer->stream, 7, "not for you", NULL);
      break;
    case 2:
      err = ttrpc_buf_frame(&buf, peer->stream, TTRPC_DATA,
                            TTRPC_FLAG_REMOTE_CLOSED | TTRPC_FLAG_NO_DATA, NULL, 0);
      break;
    case 3:
      event_put(peer, &buf, WKSP_EVENT_CREATED, "no name at all");
      break;
    case 4:
      err = ttrpc_buf_frame(&buf, peer->stream, TTRPC_DATA, TTRPC_FLAG_NO_DATA, NULL, 0);
      break;
    case 5:
      break; /* hangs up */
    case 6:
      break; /* is silent */
    }
    PEER_CHECK(peer, !err);
    peer_send(peer, ttrpc_buf_head(&buf), buf.len, NULL, 0);
    ttrpc_buf_consume(&buf, buf.len);
    if (round == 5)
      peer_hangup(peer);
    else
      peer_wait_hangup(peer);
  }
  ttrpc_buf_free(&buf);
}

static int see_event(void *arg, wksp_event_t const *event) {
  seen_t *seen = arg;
  strcat(seen->names, event->name);
  assert_int_equal(event->time_ns, 1234);
  wksp_info_t info;
  assert_int_equal(wksp_client_get(seen->client, "x", &info), WKSP_E_INVAL);
  return event->kind == WKSP_EVENT_QUARANTINED ? 9 : 0;
}

/* A stream's events reach the callback until it, the daemon or the deadline ends it, each in its
 * own way; then the connection is closed. The callback cannot use the same client. */
static void watch(void **state) {
  peer_t *peer = *state;
  int const want[7] = {
      9, WKSP_E_PERM, WKSP_E_AGAIN, WKSP_E_PROTO, WKSP_E_PROTO, WKSP_E_AGAIN, WKSP_E_TIMEDOUT};
  peer_start(peer, script_watch, NULL);
  wksp_client_t *client = peer_connect(peer);
  for (int round = 0; round < 7; round++) {
    seen_t seen = {.client = client};
    /* Within it the peer has to say its event; its thread may wait for a turn. */
    if (round == 6) assert_int_equal(wksp_client_deadline_set(client, 1500), 0);
    assert_int_equal(wksp_client_watch(client, see_event, &seen), want[round]);
    assert_string_equal(seen.names, round ? "a" : "ab");
  }
  wksp_client_close(client);
  peer_join(peer);
}

/* Arguments
 * ---------------------------------------------------------------------------------------------- */

static wksp_create_t const create_x = {.name = "x", .size = 1UL << 20};

/* Each argument that is none gets E_INVAL and a sentence, before anything is sent. */
static void bad_arguments(void **state) {
  peer_t *peer = *state;
  wksp_client_t *client = peer_connect(peer);
  wksp_info_t info;
  wksp_query_t query;
  ulong geometry = 0;
  char const *const names[] = {NULL,  "",    ".x",  "-x",
                               "a/b", "a b", "x\n", "0123456789012345678901234567890123456789"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    wksp_create_t create = {.name = names[i], .size = 1};
    assert_int_equal(wksp_client_create(client, &create, NULL), WKSP_E_INVAL);
    assert_int_equal(wksp_client_get(client, names[i], &info), WKSP_E_INVAL);
    assert_int_equal(wksp_client_remove(client, names[i], 0), WKSP_E_INVAL);
    assert_int_equal(wksp_client_query(client, names[i], NULL, 0, &query), WKSP_E_INVAL);
    assert_int_equal(wksp_client_compact(client, names[i], NULL), WKSP_E_INVAL);
    assert_null(wksp_client_attach(client, names[i], WKSP_ATTACH_RW));
    assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
    assert_null(fd_wksp_attach(names[i]));
    assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
    assert_true(strlen(wksp_last_error()) > 20);
  }
  assert_int_equal(wksp_client_create(client, NULL, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_client_get(client, "x", NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_client_list(client, NULL, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_client_watch(client, NULL, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_client_version(client, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_library_layout(NULL), wksp_library_layout(&geometry));
  assert_int_not_equal(geometry, 0);
  assert_int_equal(wksp_client_status(client, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_client_reload(client, NULL, NULL, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_client_query(client, "x", NULL, 0, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_client_query(client, "x", NULL, 1, &query), WKSP_E_INVAL);
  ulong tag = 1;
  assert_int_equal(wksp_client_query(client, "x", &tag, 1025, &query), WKSP_E_INVAL);
  assert_int_equal(wksp_client_query(client, "x", &tag, ~0UL, &query), WKSP_E_INVAL);
  assert_null(wksp_client_attach(client, "x", 2));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_null(wksp_client_attach(client, "x", -1));

  assert_int_equal(wksp_client_get(NULL, "x", &info), WKSP_E_INVAL);
  assert_int_equal(wksp_client_create(NULL, &create_x, NULL), WKSP_E_INVAL);
  assert_null(wksp_client_attach(NULL, "x", WKSP_ATTACH_RW));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);

  long const deadlines[] = {0, -1, 3600001, LONG_MAX, LONG_MIN};
  for (size_t i = 0; i < sizeof deadlines / sizeof *deadlines; i++)
    assert_int_equal(wksp_client_deadline_set(client, deadlines[i]), WKSP_E_INVAL);
  assert_int_equal(wksp_client_deadline_set(NULL, 1), WKSP_E_INVAL);
  assert_int_equal(wksp_client_deadline_set(client, 1), 0);
  assert_int_equal(wksp_client_deadline_set(client, 3600000), 0);
  wksp_client_close(client);
  wksp_client_close(NULL);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(list_pages, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(query_pages, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(watch, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(bad_arguments, peer_setup, peer_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
