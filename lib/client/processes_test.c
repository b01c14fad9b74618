/* Limits and processes, as a daemon tells them that need not be honest. */

#include "client/test_peer.h"

#include "wksp/client.h"
#include "wkspd.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define LONG_TEXT                                                                     \
  "a text that is longer than any that there is room for, and that goes on and on, "  \
  "so that what copies it without looking at its length writes behind what it has: "  \
  "for that there are 256 bytes where the longest of them goes, and this one has so " \
  "many more that one sees where it was cut."

/* Limits
 * ---------------------------------------------------------------------------------------------- */

static void reply_limits(peer_t *peer, char const *const *whats, size_t cnt) {
  Wkspd__V1__StatsResponse response = WKSPD__V1__STATS_RESPONSE__INIT;
  Wkspd__V1__Limit limits[4], *at[4];
  PEER_CHECK(peer, cnt <= 4);
  for (size_t i = 0; i < cnt; i++) {
    wkspd__v1__limit__init(&limits[i]);
    limits[i].what = (char *)(uintptr_t)whats[i];
    limits[i].used = i;
    limits[i].max = UINT64_MAX;
    limits[i].user_used = 10 + i;
    limits[i].user_max = 100;
    at[i] = &limits[i];
  }
  response.limits = at;
  response.n_limits = cnt;
  peer_reply(peer, 0, NULL, &response.base);
}

static void script_limits(peer_t *peer, void *arg) {
  char const *const whats[] = {"connections", LONG_TEXT, ""};
  peer_accept(peer);
  peer_request(peer, "Stats");
  reply_limits(peer, whats, 3);
  peer_request(peer, "Stats");
  reply_limits(peer, whats, 3);
  peer_request(peer, "Stats");
  reply_limits(peer, NULL, 0);
  peer_request(peer, "Stats");
  peer_reply(peer, 8, "not now", NULL);
  peer_wait_hangup(peer);
}

typedef struct seen {
  unsigned cnt, stop_at;
  wksp_limit_t limits[4];
  wksp_process_t processes[4];
  wksp_held_t held[4]; /* the first that each holds */
} seen_t;

static int see_limit(void *arg, wksp_limit_t const *limit) {
  seen_t *seen = arg;
  assert_true(seen->cnt < 4);
  seen->limits[seen->cnt++] = *limit;
  return seen->cnt == seen->stop_at ? 42 : 0;
}

/* Limits come in their order with their figures, a text that is too long is cut, the callback may
   end it, and a refusal is an error. */
static void limits(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_limits, NULL);
  wksp_client_t *client = peer_connect(peer);
  seen_t seen = {0};
  assert_int_equal(wksp_client_limits(client, see_limit, &seen), 0);
  assert_int_equal(seen.cnt, 3);
  assert_string_equal(seen.limits[0].what, "connections");
  assert_int_equal(strlen(seen.limits[1].what), sizeof seen.limits[1].what - 1);
  assert_int_equal(strncmp(seen.limits[1].what, LONG_TEXT, sizeof seen.limits[1].what - 1), 0);
  assert_string_equal(seen.limits[2].what, "");
  assert_true(seen.limits[2].used == 2 && seen.limits[2].max == UINT64_MAX);
  assert_true(seen.limits[2].user_used == 12 && seen.limits[2].user_max == 100);
  seen = (seen_t){.stop_at = 2};
  assert_int_equal(wksp_client_limits(client, see_limit, &seen), 42);
  assert_int_equal(seen.cnt, 2);
  seen = (seen_t){0};
  assert_int_equal(wksp_client_limits(client, see_limit, &seen), 0);
  assert_int_equal(seen.cnt, 0);
  assert_int_equal(wksp_client_limits(client, see_limit, &seen), WKSP_E_LIMIT);
  assert_int_equal(wksp_client_limits(client, NULL, NULL), WKSP_E_INVAL);
  wksp_client_close(client);
  peer_join(peer);
}

/* Processes
 * ---------------------------------------------------------------------------------------------- */

/* One page: a process of each pid, that holds as many workspaces as its place in the page. */
static void reply_clients(peer_t *peer, int const *pids, size_t cnt, uint64_t next) {
  Wkspd__V1__ClientsResponse response = WKSPD__V1__CLIENTS_RESPONSE__INIT;
  Wkspd__V1__Client clients[4], *at[4];
  Wkspd__V1__Held held[4], *held_at[4];
  PEER_CHECK(peer, cnt <= 4);
  for (size_t i = 0; i < cnt; i++) {
    wkspd__v1__held__init(&held[i]);
    held[i].workspace = (char *)(uintptr_t)(i ? "orders" : LONG_TEXT);
    held[i].lease_id = 7 + i;
    held[i].mode = i & 1 ? WKSPD__V1__OPEN_MODE__OPEN_READ_ONLY : (Wkspd__V1__OpenMode)99;
    held[i].removing = 5;
    held_at[i] = &held[i];
    wkspd__v1__client__init(&clients[i]);
    clients[i].pid = pids[i];
    clients[i].uid = UINT32_MAX;
    clients[i].comm = clients[i].cgroup = (char *)(uintptr_t)LONG_TEXT;
    clients[i].queued = UINT64_MAX;
    clients[i].ended = 3;
    clients[i].held = held_at;
    clients[i].n_held = i;
    at[i] = &clients[i];
  }
  response.clients = at;
  response.n_clients = cnt;
  response.next_key = next;
  peer_reply(peer, 0, NULL, &response.base);
}

/* The same once it is asked for, from that key on. */
static void page(peer_t *peer, uint64_t key, int const *pids, size_t cnt, uint64_t next) {
  peer_request(peer, "Clients");
  Wkspd__V1__ClientsRequest *asked = wkspd__v1__clients_request__unpack(
      NULL, peer->request->payload.len, peer->request->payload.data);
  PEER_CHECK(peer, asked);
  uint64_t from = asked->page_key;
  wkspd__v1__clients_request__free_unpacked(asked, NULL);
  PEER_CHECK(peer, from == key);
  reply_clients(peer, pids, cnt, next);
}

static void script_processes(peer_t *peer, void *arg) {
  peer_accept(peer);
  page(peer, 0, (int const[]){1, 2, 3}, 3, 9);
  page(peer, 9, (int const[]){4}, 1, 0);
  page(peer, 0, (int const[]){1, 2}, 2, 9); /* stopped within it */
  /* Pages that lead nowhere: to themselves, and back. */
  page(peer, 0, NULL, 0, 5);
  page(peer, 5, NULL, 0, 5);
  page(peer, 0, NULL, 0, 5);
  page(peer, 5, NULL, 0, 4);
  peer_request(peer, "Clients");
  peer_reply(peer, 7, "no", NULL);
  peer_wait_hangup(peer);
}

static int see_process(void *arg, wksp_process_t const *process) {
  seen_t *seen = arg;
  assert_true(seen->cnt < 4);
  seen->processes[seen->cnt] = *process;
  if (process->held_cnt) seen->held[seen->cnt] = process->held[process->held_cnt - 1];
  seen->cnt++;
  return seen->cnt == seen->stop_at ? -42 : 0;
}

/* Pages are joined in order, texts are cut, flags are 0 or 1, what is not a mode is not read-only;
   the callback may end it; pages that do not go forward end it too; a refusal is an error. */
static void processes(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_processes, NULL);
  wksp_client_t *client = peer_connect(peer);
  seen_t seen = {0};
  assert_int_equal(wksp_client_processes(client, see_process, &seen), 0);
  assert_int_equal(seen.cnt, 4);
  for (int i = 0; i < 4; i++) {
    wksp_process_t const *one = &seen.processes[i];
    assert_int_equal(one->pid, i + 1);
    assert_true(one->uid == UINT32_MAX && one->queued == UINT64_MAX && one->ended == 1);
    assert_int_equal(strlen(one->comm), sizeof one->comm - 1);
    assert_int_equal(strlen(one->cgroup), sizeof one->cgroup - 1);
    assert_int_equal(one->held_cnt, i == 3 ? 0 : i);
  }
  assert_int_equal(strlen(seen.held[1].name), FD_WKSP_NAME_MAX);
  assert_string_equal(seen.held[2].name, "orders");
  assert_true(seen.held[2].lease_id == 8 && seen.held[2].read_only == 1);
  assert_true(seen.held[1].read_only == 0 && seen.held[1].removing == 1);
  seen = (seen_t){.stop_at = 1};
  assert_int_equal(wksp_client_processes(client, see_process, &seen), -42);
  assert_int_equal(seen.cnt, 1);
  seen = (seen_t){0};
  assert_int_equal(wksp_client_processes(client, see_process, &seen), 0);
  assert_int_equal(wksp_client_processes(client, see_process, &seen), 0);
  assert_int_equal(seen.cnt, 0);
  assert_int_equal(wksp_client_processes(client, see_process, &seen), WKSP_E_PERM);
  assert_int_equal(wksp_client_processes(client, NULL, NULL), WKSP_E_INVAL);
  wksp_client_close(client);
  peer_join(peer);
}

/* Allocations that fail
 * ---------------------------------------------------------------------------------------------- */

static void script_answers(peer_t *peer, void *arg) {
  char const *const whats[] = {"connections", "workspaces"};
  int const *stop = arg;
  do {
    peer_accept(peer);
    for (uint8_t byte; recv(peer->fd, &byte, 1, MSG_PEEK) > 0;) {
      peer_request(peer, NULL);
      if (strcmp(peer->request->method, "Stats") == 0)
        reply_limits(peer, whats, 2);
      else
        reply_clients(peer, (int const[]){1, 2}, 2, 0);
    }
  } while (!__atomic_load_n(stop, __ATOMIC_ACQUIRE));
}

/* Whichever allocation of a call fails, it says so, nothing is leaked, and the client goes on. */
static void without_memory(void **state) {
  peer_t *peer = *state;
  int stop = 0;
  peer_start(peer, script_answers, &stop);
  wksp_client_t *client = peer_connect(peer);
  for (int of_limits = 0; of_limits < 2; of_limits++) {
    int err = WKSP_E_NOMEM, tries = 0;
    for (; err == WKSP_E_NOMEM; tries++) {
      seen_t seen = {0};
      assert_true(tries < 1000);
      peer_alloc_left = tries;
      err = of_limits ? wksp_client_limits(client, see_limit, &seen)
                      : wksp_client_processes(client, see_process, &seen);
      peer_alloc_left = -1;
      if (!err) assert_int_equal(seen.cnt, 2);
    }
    assert_int_equal(err, 0);
    assert_true(tries > 3);
  }
  __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
  wksp_client_close(client);
  peer_join(peer);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(limits, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(processes, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(without_memory, peer_setup, peer_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
