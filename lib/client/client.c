/* A client's life: which socket, one connection, a deadline; and the process's own client for
   programs that only attach.

   A client that connects for the first time tries once, so that a program on a machine without a
   daemon is told at once. Later connections are made where calls need them (rpc.c). */

#include "client/default.h"
#include "client/rpc.h"

#include "core/call.h"
#include "core/fail.h"
#include "core/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEADLINE_MAX_MS 3600000L

/* The process's client, made by the first who needs it; under the hold lock. It stays until the
 * process ends, for other threads may be using it. */
static wksp_client_t *client_default;

char const *wksp_library_version(void) {
  return WKSP_VERSION;
}

uint wksp_library_layout(ulong *ret_geometry_hash) {
  if (ret_geometry_hash) *ret_geometry_hash = wksp__geometry_hash();
  return WKSP_LAYOUT_VERSION;
}

/* What a program that runs with more rights than its caller must not take from him is not taken. */
static char const *default_path(void) {
  char const *given = secure_getenv("WKSPD_SOCKET");
  return given && *given ? given : WKSP_SOCKET_DEFAULT;
}

/* 0 or an errno. */
static int turn_init(wksp__turn_t *turn) {
  *turn = (wksp__turn_t){.held = 0};
  pthread_condattr_t attr;
  int err = pthread_condattr_init(&attr);
  if (err) return err;
  err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  if (!err) err = pthread_cond_init(&turn->ended, &attr);
  (void)pthread_condattr_destroy(&attr);
  if (err) return err;
  err = pthread_mutex_init(&turn->mutex, NULL);
  if (err) (void)pthread_cond_destroy(&turn->ended);
  return err;
}

/* A client for path, not connected. NULL, reported. */
static wksp_client_t *client_new(char const *path) {
  size_t path_len = strnlen(path, WKSP__PATH_MAX + 1);
  if (!path_len || path_len > WKSP__PATH_MAX) {
    (void)wksp__fail(
        WKSP_E_INVAL,
        "the socket path \"%.64s%s\" has %s bytes; a path has 1 to %u, move the socket "
        "to a shorter one",
        path, path_len > 64 ? "..." : "", path_len ? "too many" : "0", WKSP__PATH_MAX);
    return NULL;
  }
  wksp_client_t *client = malloc(sizeof *client);
  if (!client) {
    (void)wksp__fail(WKSP_E_NOMEM, "no memory for a client (%zu bytes)", sizeof *client);
    return NULL;
  }
  memcpy(client->path, path, path_len + 1);
  client->pid = getpid();
  client->deadline_ms = WKSP_DEADLINE_DEFAULT_MS;
  if (wksp__conn_init(&client->conn) < 0) {
    (void)wksp__fail(WKSP_E_NOMEM, "no memory for the fork handlers of clients");
    free(client);
    return NULL;
  }
  int err = turn_init(&client->turn);
  if (err) {
    (void)wksp__fail(WKSP_E_SYS, "no lock for a client: %s", strerror(err));
    wksp__conn_free(&client->conn);
    free(client);
    return NULL;
  }
  return client;
}

wksp_client_t *wksp_client_connect(char const *socket_path) {
  wksp_client_t *client = client_new(socket_path ? socket_path : default_path());
  if (!client) return NULL;
  uint64_t deadline_ns = wksp__now_ns() + (uint64_t)client->deadline_ms * 1000000UL;
  int err = wksp__conn_open(&client->conn, client->path, deadline_ns);
  if (err == 0) return client;
  (void)wksp__fail(err, "cannot connect to %s: %s", client->path, client->conn.why);
  wksp_client_close(client);
  return NULL;
}

void wksp_client_close(wksp_client_t *client) {
  if (!client) return;
  if (client->pid == getpid()) {
    wksp__conn_free(&client->conn);
    (void)pthread_cond_destroy(&client->turn.ended);
    (void)pthread_mutex_destroy(&client->turn.mutex);
  } else {
    /* Another thread of the parent may have been within a call when this child was made: the mutex
     * may be locked and the reader half changed. Its memory is left. */
    wksp__hold_free(&client->conn.hold);
  }
  free(client);
}

int wksp_client_deadline_set(wksp_client_t *client, long deadline_ms) {
  if (!client) return wksp__fail(WKSP_E_INVAL, "the client is NULL; connect one first");
  if (deadline_ms < 1 || deadline_ms > DEADLINE_MAX_MS)
    return wksp__fail(WKSP_E_INVAL, "a deadline of %ld ms; it must be 1 to %ld ms", deadline_ms,
                      DEADLINE_MAX_MS);
  __atomic_store_n(&client->deadline_ms, deadline_ms, __ATOMIC_RELAXED);
  return 0;
}

wksp_client_t *wksp__client_default(void) {
  wksp__hold_lock();
  wksp_client_t *client = client_default;
  int ours = client && client->pid == getpid();
  wksp__hold_unlock();
  if (ours) return client;

  wksp_client_t *fresh = wksp_client_connect(NULL);
  if (!fresh) return NULL;
  wksp__hold_lock();
  wksp_client_t *spare = client_default == client ? client : fresh;
  if (client_default == client) client_default = fresh;
  client = client_default;
  wksp__hold_unlock();
  wksp_client_close(spare); /* the parent's, or ours if another thread was first */
  return client;
}
