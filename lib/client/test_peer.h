/* test_peer: the other end of the socket, for tests: a thread that plays a script of bytes.

   What the real daemon would not say (halves of frames, wrong streams, garbage, a hang-up at a
   chosen byte) has to come from somewhere. A script is a function that runs in the peer's thread;
   it waits for events, each with a deadline, and fails the test if one does not come. */

#ifndef WKSP_CLIENT_TEST_PEER_H
#define WKSP_CLIENT_TEST_PEER_H

#include "ttrpc.pb-c.h"
#include "ttrpc/ttrpc.h"
#include "wksp/client.h"
#include "wkspd.pb-c.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* How long a peer waits for anything, ms. */
#define PEER_PATIENCE_MS 20000

typedef struct peer {
  char dir[64];
  char path[100];
  int listener;
  int fd; /* the connection, -1 */
  ttrpc_reader_t reader;
  uint8_t in[4096];
  size_t in_at, in_len;
  Wkspd__Ttrpc__Request *request; /* the last one */
  uint32_t stream;                /* its stream and flags */
  uint8_t flags;
  void (*script)(struct peer *peer, void *arg);
  void *arg;
  pthread_t thread;
  int failed;
  char why[256];
} peer_t;

/* Allocations of the calling thread that succeed before one fails; negative: none fails. Tests link
 * with --wrap for malloc, calloc and realloc. */
extern __thread long peer_alloc_left;

/* Listens on a socket in a new folder. */
void peer_init(peer_t *peer);
void peer_free(peer_t *peer);

/* Runs the script in a thread; join waits for its end and fails the calling test if it failed. */
void peer_start(peer_t *peer, void (*script)(peer_t *peer, void *arg), void *arg);
void peer_join(peer_t *peer);

/* As cmocka's setup and teardown: *state is the peer. */
int peer_setup(void **state);
int peer_teardown(void **state);

/* A client of the peer; fails the test if there is none. */
wksp_client_t *peer_connect(peer_t *peer);

/* Monotonic time, ms. */
ulong peer_now_ms(void);

/* Open descriptors of this process. */
int peer_fd_count(void);

/* For scripts
 * ---------------------------------------------------------------------------------------- */

/* Ends the script with a failure unless cond. */
#define PEER_CHECK(peer, cond)                                 \
  do {                                                         \
    if (!(cond)) peer_fail((peer), __FILE__, __LINE__, #cond); \
  } while (0)
void peer_fail(peer_t *peer, char const *file, int line, char const *cond)
    __attribute__((noreturn));

/* The next connection; one that there was is closed. */
void peer_accept(peer_t *peer);
void peer_hangup(peer_t *peer);

/* Waits until the client hangs up. */
void peer_wait_hangup(peer_t *peer);

/* Waits for a request for that method (NULL: any). */
void peer_request(peer_t *peer, char const *method);

/* Sends bytes, fds with the first of them. */
void peer_send(peer_t *peer, void const *bytes, size_t bytes_len, int const *fds, size_t fd_cnt);

/* Waits until the client has taken every byte that was sent. */
void peer_wait_taken(peer_t *peer);

/* Adds the Response frame to buf. message NULL: an empty one; code 0: success, else message goes
 * into the details. */
void peer_response_put(peer_t *peer, ttrpc_buf_t *buf, uint32_t stream, int code, char const *text,
                       ProtobufCMessage const *message);

/* Answers the last request. */
void peer_reply(peer_t *peer, int code, char const *text, ProtobufCMessage const *message);

/* A reply to a Get and to a Create with a workspace of that name; and the bytes of one to a Get,
 * for "x", in a buffer that the caller frees. */
void peer_reply_get(peer_t *peer, char const *name);
void peer_reply_create(peer_t *peer, char const *name);
void peer_get_bytes(peer_t *peer, ttrpc_buf_t *buf);

/* What is in them. */
extern uint8_t peer_uuid[16];
void peer_workspace(Wkspd__V1__Workspace *workspace, char const *name);

#endif
