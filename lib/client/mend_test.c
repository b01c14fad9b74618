/* Connections that are lost, late or not to be had: what is sent again, what a deadline does, who
   may use a client, and that nothing of it leaks. */

#include "client/test_peer.h"

#include "wksp/client.h"
#include "wkspd.pb-c.h"

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static wksp_create_t const create_x = {.name = "x", .size = 1UL << 20};

/* A deadline within which the peer has something to do, ms: its thread may wait for a turn. */
#define SOON_MS 1500

/* A peer that follows the script, and a client of it with that deadline. */
static wksp_client_t *begin(peer_t *peer, void (*script)(peer_t *peer, void *arg),
                            long deadline_ms) {
  peer_start(peer, script, NULL);
  wksp_client_t *client = peer_connect(peer);
  assert_int_equal(wksp_client_deadline_set(client, deadline_ms), 0);
  return client;
}

static void end(peer_t *peer, wksp_client_t *client) {
  wksp_client_close(client);
  peer_join(peer);
}

/* Lost daemons
 * ---------------------------------------------------------------------------------------------- */

static void script_half(peer_t *peer, void *arg) {
  size_t const *cut = arg;
  peer_accept(peer);
  peer_request(peer, "Get");
  ttrpc_buf_t buf;
  peer_get_bytes(peer, &buf);
  peer_send(peer, ttrpc_buf_head(&buf), *cut < buf.len ? *cut : buf.len - 1, NULL, 0);
  ttrpc_buf_free(&buf);
  peer_accept(peer);
  peer_request(peer, "Get");
  PEER_CHECK(peer, peer->stream == 1);
  peer_reply_get(peer, "x");
}

/* A read-only call whose daemon hangs up at any byte of the reply is sent again and succeeds,
 * without a trace in the last error. */
static void reads_are_sent_again(void **state) {
  peer_t *peer = *state;
  for (size_t cut = 0; cut < 20; cut++) {
    peer_start(peer, script_half, &cut);
    wksp_client_t *client = peer_connect(peer);
    char before[512];
    (void)snprintf(before, sizeof before, "%s", wksp_last_error());
    wksp_info_t info;
    assert_int_equal(wksp_client_get(client, "x", &info), 0);
    assert_string_equal(wksp_last_error(), before);
    wksp_client_close(client);
    peer_join(peer);
  }
}

/* For scripts that want the test to see what has happened. */
static void script_stale(peer_t *peer, void *arg) {
  sem_t *gone = arg;
  peer_accept(peer);
  peer_request(peer, "Get");
  peer_reply_get(peer, "x");
  peer_wait_taken(peer);
  peer_hangup(peer);
  (void)sem_post(gone);
  peer_accept(peer);
  peer_request(peer, "Create");
  peer_reply_create(peer, "x");
}

/* A changing call that finds its connection dead has not been sent: it goes out on a new one. */
static void stale_connection(void **state) {
  peer_t *peer = *state;
  sem_t gone;
  assert_int_equal(sem_init(&gone, 0, 0), 0);
  peer_start(peer, script_stale, &gone);
  wksp_client_t *client = peer_connect(peer);
  wksp_info_t info;
  assert_int_equal(wksp_client_get(client, "x", &info), 0);
  while (sem_wait(&gone) < 0) assert_int_equal(errno, EINTR);
  assert_int_equal(wksp_client_create(client, &create_x, NULL), 0);
  peer_join(peer);
  wksp_client_close(client);
  (void)sem_destroy(&gone);
}

/* Deadlines
 * ---------------------------------------------------------------------------------------------- */

static void script_late(peer_t *peer, void *arg) {
  peer_accept(peer);
  peer_request(peer, "Get");
  uint32_t late = peer->stream;
  peer_request(peer, "Get");
  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, 4096);
  peer_response_put(peer, &buf, late, 5, "too late", NULL);
  peer_send(peer, ttrpc_buf_head(&buf), buf.len, NULL, 0);
  ttrpc_buf_free(&buf);
  peer_reply_get(peer, "x");
}

/* A silent daemon costs no more than the deadline; its late reply is not taken for the next
 * call's. */
static void deadline_passes(void **state) {
  peer_t *peer = *state;
  wksp_client_t *client = begin(peer, script_late, 200);
  wksp_info_t info;
  ulong before = peer_now_ms();
  assert_int_equal(wksp_client_get(client, "x", &info), WKSP_E_TIMEDOUT);
  ulong took = peer_now_ms() - before;
  assert_true(took >= 199 && took < PEER_PATIENCE_MS);
  assert_int_equal(wksp_client_deadline_set(client, 20000), 0);
  assert_int_equal(wksp_client_get(client, "x", &info), 0);
  end(peer, client);
}

static void script_resize_silence(peer_t *peer, void *arg) {
  peer_accept(peer);
  peer_request(peer, "Resize");
  peer_request(peer, "Get");
  peer_reply_get(peer, "x");
}

/* A changing call whose deadline passes while the daemon is at it may yet happen: the sentence says
   so, and that one should look. The connection goes on. */
static void changes_may_outlive_the_deadline(void **state) {
  peer_t *peer = *state;
  wksp_client_t *client = begin(peer, script_resize_silence, 200);
  wksp_info_t info;
  assert_int_equal(wksp_client_resize(client, "x", 1UL << 20, &info), WKSP_E_TIMEDOUT);
  assert_non_null(strstr(wksp_last_error(), "may or may not have happened, look before"));
  assert_int_equal(wksp_client_deadline_set(client, 20000), 0);
  assert_int_equal(wksp_client_get(client, "x", &info), 0);
  end(peer, client);
}

static void script_half_and_silence(peer_t *peer, void *arg) {
  peer_accept(peer);
  peer_request(peer, "Get");
  ttrpc_buf_t buf;
  peer_get_bytes(peer, &buf);
  peer_send(peer, ttrpc_buf_head(&buf), buf.len - 1, NULL, 0);
  ttrpc_buf_free(&buf);
  peer_wait_hangup(peer);
  peer_accept(peer);
  peer_request(peer, "Get");
  peer_reply_get(peer, "x");
}

/* Half a frame and silence: the deadline ends the call and the connection, and the next call has a
 * new one. */
static void half_a_frame_and_silence(void **state) {
  peer_t *peer = *state;
  wksp_client_t *client = begin(peer, script_half_and_silence, SOON_MS);
  wksp_info_t info;
  assert_int_equal(wksp_client_get(client, "x", &info), WKSP_E_TIMEDOUT);
  assert_int_equal(wksp_client_deadline_set(client, 20000), 0);
  assert_int_equal(wksp_client_get(client, "x", &info), 0);
  end(peer, client);
}

static void script_flood(peer_t *peer, void *arg) {
  peer_accept(peer);
  peer_request(peer, "Get");
  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, 65536);
  while (ttrpc_buf_frame(&buf, 2, TTRPC_DATA, 0, NULL, 0) == 0) continue;
  ssize_t n;
  do {
    struct pollfd polled = {.fd = peer->fd, .events = POLLOUT};
    PEER_CHECK(peer, poll(&polled, 1, PEER_PATIENCE_MS) == 1);
    n = send(peer->fd, ttrpc_buf_head(&buf), buf.len, MSG_NOSIGNAL);
  } while (n == (ssize_t)buf.len);
  ttrpc_buf_free(&buf);
}

/* A daemon that sends other things without end is left at the deadline, too. */
static void flood(void **state) {
  peer_t *peer = *state;
  wksp_client_t *client = begin(peer, script_flood, 200);
  wksp_info_t info;
  ulong before = peer_now_ms();
  assert_int_equal(wksp_client_get(client, "x", &info), WKSP_E_TIMEDOUT);
  assert_true(peer_now_ms() - before < PEER_PATIENCE_MS);
  end(peer, client);
}

/* Connecting
 * ---------------------------------------------------------------------------------------------- */

/* A client whose daemon is gone for good tries until its deadline and says E_NODAEMON; a first
 * connect does not try at all. */
static void daemon_gone(void **state) {
  peer_t *peer = *state;
  wksp_client_t *client = peer_connect(peer);
  assert_int_equal(wksp_client_deadline_set(client, 300), 0);
  peer_free(peer);
  wksp_info_t info;
  ulong before = peer_now_ms();
  assert_int_equal(wksp_client_get(client, "x", &info), WKSP_E_NODAEMON);
  ulong took = peer_now_ms() - before;
  assert_true(took >= 250 && took < PEER_PATIENCE_MS);
  assert_non_null(strstr(wksp_last_error(), peer->path));
  before = peer_now_ms();
  assert_null(wksp_client_connect(peer->path));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NODAEMON);
  assert_non_null(strstr(wksp_last_error(), peer->path));
  assert_true(peer_now_ms() - before < WKSP_DEADLINE_DEFAULT_MS / 2);
  wksp_client_close(client);
  peer_init(peer);
}

/* A socket path that cannot be one, or at which nobody can answer, says so at once. */
static void bad_paths(void **state) {
  peer_t *peer = *state;
  char path[300];
  memset(path, 'p', sizeof path);
  path[108] = '\0';
  assert_null(wksp_client_connect(path));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  path[107] = '\0';
  assert_null(wksp_client_connect(path));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NODAEMON);
  assert_null(wksp_client_connect(""));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  (void)snprintf(path, sizeof path, "%s/file", peer->dir);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  (void)fclose(file);
  assert_null(wksp_client_connect(path));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NODAEMON);
  strcat(path, "/below");
  assert_null(wksp_client_connect(path));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NODAEMON);
  assert_non_null(strstr(wksp_last_error(), path));
  (void)snprintf(path, sizeof path, "%s/file", peer->dir);
  (void)unlink(path);
}

/* The default socket is $WKSPD_SOCKET. */
static void default_socket(void **state) {
  peer_t *peer = *state;
  assert_int_equal(setenv("WKSPD_SOCKET", peer->path, 1), 0);
  wksp_client_t *client = wksp_client_connect(NULL);
  assert_non_null(client);
  wksp_client_close(client);
  assert_int_equal(setenv("WKSPD_SOCKET", "/nowhere/at/all", 1), 0);
  assert_null(wksp_client_connect(NULL));
  assert_non_null(strstr(wksp_last_error(), "/nowhere/at/all"));
  assert_int_equal(unsetenv("WKSPD_SOCKET"), 0);
}

static int no_event(void *arg, wksp_event_t const *event) {
  return 0;
}

/* Somebody who listens and never accepts: once the queue is full, connecting ends at the
 * deadline. */
static void full_backlog(void **state) {
  peer_t *peer = *state;
  assert_int_equal(listen(peer->listener, 0), 0);
  wksp_client_t *client = peer_connect(peer);
  assert_int_equal(wksp_client_deadline_set(client, 200), 0);
  /* The end of a watch costs the connection, whose place in the queue stays taken. */
  assert_int_equal(wksp_client_watch(client, no_event, NULL), WKSP_E_TIMEDOUT);
  wksp_info_t info;
  ulong before = peer_now_ms();
  assert_int_equal(wksp_client_get(client, "x", &info), WKSP_E_TIMEDOUT);
  assert_true(peer_now_ms() - before < PEER_PATIENCE_MS);
  assert_non_null(strstr(wksp_last_error(), "did not accept"));
  wksp_client_close(client);
}

/* Threads and processes
 * ---------------------------------------------------------------------------------------------- */

#define THREADS          4
#define CALLS_PER_THREAD 200

static void script_many(peer_t *peer, void *arg) {
  peer_accept(peer);
  for (int i = 0; i < THREADS * CALLS_PER_THREAD; i++) {
    peer_request(peer, "Get");
    Wkspd__V1__GetRequest *request = wkspd__v1__get_request__unpack(
        NULL, peer->request->payload.len, peer->request->payload.data);
    PEER_CHECK(peer, request);
    peer_reply_get(peer, request->name);
    wkspd__v1__get_request__free_unpacked(request, NULL);
  }
}

typedef struct caller {
  wksp_client_t *client;
  int nr, right;
} caller_t;

static void *call_many(void *arg) {
  caller_t *caller = arg;
  for (int i = 0; i < CALLS_PER_THREAD; i++) {
    char name[32];
    (void)snprintf(name, sizeof name, "t%d-%d", caller->nr, i);
    wksp_info_t info;
    caller->right +=
        wksp_client_get(caller->client, name, &info) == 0 && strcmp(info.name, name) == 0;
  }
  return NULL;
}

/* Threads that share a client take turns: each gets the answer to its own question. */
static void threads_take_turns(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_many, NULL);
  wksp_client_t *client = peer_connect(peer);
  pthread_t threads[THREADS];
  caller_t callers[THREADS];
  for (int i = 0; i < THREADS; i++) {
    callers[i] = (caller_t){.client = client, .nr = i};
    assert_int_equal(pthread_create(&threads[i], NULL, call_many, &callers[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) {
    assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(callers[i].right, CALLS_PER_THREAD);
  }
  end(peer, client);
}

static int count_infos(void *arg, wksp_info_t const *info) {
  ++*(int *)arg;
  return 0;
}

static void script_fork(peer_t *peer, void *arg) {
  peer_accept(peer);
  peer_request(peer, "Get");
  peer_reply_get(peer, "x");
  /* The parent's hang-up is one although the child lives. */
  peer_wait_hangup(peer);
}

/* A forked child has no copy of its parent's connection, and its calls on the client say so. */
static void forked_child(void **state) {
  peer_t *peer = *state;
  peer_start(peer, script_fork, NULL);
  wksp_client_t *client = peer_connect(peer);
  int hold[2], told[2];
  assert_int_equal(pipe(hold), 0);
  assert_int_equal(pipe(told), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    (void)close(hold[1]);
    wksp_info_t info;
    char ok = wksp_client_get(client, "x", &info) == WKSP_E_INVAL &&
              strstr(wksp_last_error(), "child") &&
              wksp_client_list(client, count_infos, &ok) == WKSP_E_INVAL;
    wksp_client_close(client);
    char byte = ok ? 'y' : 'n';
    if (write(told[1], &byte, 1) != 1) _exit(1);
    _exit(read(hold[0], &byte, 1) == 0 ? 0 : 1);
  }
  char byte = 0;
  assert_int_equal(read(told[0], &byte, 1), 1);
  assert_int_equal(byte, 'y');
  wksp_info_t info;
  assert_int_equal(wksp_client_get(client, "x", &info), 0);
  end(peer, client);
  (void)close(hold[1]);
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  (void)close(hold[0]);
  (void)close(told[0]);
  (void)close(told[1]);
}

/* Memory
 * ---------------------------------------------------------------------------------------------- */

static void script_starved(peer_t *peer, void *arg) {
  int *stop = arg;
  for (;;) {
    peer_accept(peer);
    ssize_t n;
    uint8_t byte;
    while ((n = recv(peer->fd, &byte, 1, MSG_PEEK)) > 0) {
      peer_request(peer, NULL);
      if (strcmp(peer->request->method, "Query") == 0) {
        Wkspd__V1__Usage usage = WKSPD__V1__USAGE__INIT;
        Wkspd__V1__Root root = WKSPD__V1__ROOT__INIT;
        root.name = (char *)"r";
        Wkspd__V1__Root *roots[] = {&root};
        Wkspd__V1__Partition partition = WKSPD__V1__PARTITION__INIT;
        partition.gaddr = partition.size = 64;
        Wkspd__V1__Partition *partitions[] = {&partition};
        Wkspd__V1__QueryResponse response = WKSPD__V1__QUERY_RESPONSE__INIT;
        response.usage = &usage;
        response.n_roots = response.n_partitions = 1;
        response.roots = roots;
        response.partitions = partitions;
        peer_reply(peer, 0, NULL, &response.base);
      } else {
        peer_reply_create(peer, "x");
      }
    }
    if (__atomic_load_n(stop, __ATOMIC_ACQUIRE)) return;
  }
}

/* Whichever allocation fails, a call says E_NOMEM, leaks nothing, and the client goes on. */
static void without_memory(void **state) {
  peer_t *peer = *state;
  int stop = 0;
  peer_start(peer, script_starved, &stop);
  int fails = 0;
  int fds = peer_fd_count();
  for (long n = 0;; n++) {
    peer_alloc_left = n;
    wksp_client_t *client = wksp_client_connect(peer->path);
    int err = client ? wksp_client_create(client, &create_x, NULL) : wksp_last_error_code();
    wksp_query_t query = {.parts = NULL};
    if (!err) err = wksp_client_query(client, "x", NULL, 0, &query);
    int used_up = peer_alloc_left < 0;
    peer_alloc_left = -1;
    if (!used_up) __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    if (used_up) assert_int_equal(err, WKSP_E_NOMEM);
    if (!used_up) assert_int_equal(err, 0);
    wksp_query_free(&query);
    if (client && used_up) assert_int_equal(wksp_client_create(client, &create_x, NULL), 0);
    wksp_client_close(client);
    if (!used_up) break;
    fails++;
  }
  peer_join(peer);
  assert_true(fails > 10);
  peer_hangup(peer);
  assert_int_equal(peer_fd_count(), fds);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(reads_are_sent_again, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(stale_connection, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(deadline_passes, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(changes_may_outlive_the_deadline, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(half_a_frame_and_silence, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(flood, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(daemon_gone, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(bad_paths, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(default_socket, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(full_backlog, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(threads_take_turns, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(forked_child, peer_setup, peer_teardown),
      cmocka_unit_test_setup_teardown(without_memory, peer_setup, peer_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
