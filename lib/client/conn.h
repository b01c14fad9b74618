/* conn: a stream socket to a daemon, as frames with a deadline.

   Nothing here reports to wksp_last_error: a call that mends itself must not leave traces. A
   failing function leaves a sentence in conn->why for whoever gives up. Deadlines are wksp__now_ns
   times. Used by one thread at a time.

   may use: core (time, error codes), ttrpc, hold.  used by: rpc. */

#ifndef WKSP_CLIENT_CONN_H
#define WKSP_CLIENT_CONN_H

#include "client/hold.h"
#include "ttrpc/ttrpc.h"

#include <stddef.h>
#include <stdint.h>

/* Descriptors that may wait for the response that declares them; a response has 2. More are closed
 * as they come. */
#define WKSP__CONN_FD_MAX (WKSP__HOLD_MAX - 1)

/* Bytes received at a time. */
#define WKSP__CONN_IN_SZ 65536U

typedef struct wksp__conn {
  wksp__hold_t hold; /* [0] the socket, then fd_cnt descriptors that came, in order */
  uint32_t fd_cnt;
  int fds_lost;         /* 1: the kernel dropped some (no free descriptor numbers) */
  uint32_t stream_next; /* the next call's; odd */
  uint64_t opened;      /* how often it has been connected: tells connections apart */
  ttrpc_reader_t reader;
  size_t in_at, in_len; /* in[in_at .. in_len) was received and not fed yet */
  char why[256];
  uint8_t in[WKSP__CONN_IN_SZ];
} wksp__conn_t;

/* A conn that is not connected. 0 or WKSP_E_NOMEM. */
int wksp__conn_init(wksp__conn_t *conn);
void wksp__conn_free(wksp__conn_t *conn);

/* Connects to path (NUL terminated, shorter than 108 bytes). What was connected before is closed.
   0, E_NODAEMON (nobody listens), E_PERM, E_TIMEDOUT (somebody listens and does not accept), E_SYS.
 */
int wksp__conn_open(wksp__conn_t *conn, char const *path, uint64_t deadline_ns);

/* Closes the socket and drops all that came through it; as after init. */
void wksp__conn_close(wksp__conn_t *conn);

int wksp__conn_is_open(wksp__conn_t const *conn);

/* Sends all of bytes. 0, E_TIMEDOUT, E_AGAIN (the peer is gone), E_SYS. *ret_sent, also on failure:
   bytes that the kernel took. */
int wksp__conn_send(wksp__conn_t *conn, uint8_t const *bytes, size_t bytes_len,
                    uint64_t deadline_ns, size_t *ret_sent);

/* The next frame. Its data are valid until the next call on conn. 0, E_TIMEDOUT (the frame may be
   half there), E_AGAIN (the peer is gone), E_PROTO (a frame over TTRPC_DATA_MAX), E_NOMEM, E_SYS.
 */
int wksp__conn_frame(wksp__conn_t *conn, uint64_t deadline_ns, ttrpc_frame_t *ret_frame);

/* Moves the fd_cnt descriptors that came first to to->fds[to_idx ..]. 0, or E_PROTO (fewer came) or
   E_SYS (this process had no numbers left for them). */
int wksp__conn_fds_take(wksp__conn_t *conn, uint32_t fd_cnt, wksp__hold_t *to, uint32_t to_idx);

/* Closes those that nobody has taken. */
void wksp__conn_fds_drop(wksp__conn_t *conn);

/* Notes a sentence and returns code. */
int wksp__conn_why(wksp__conn_t *conn, int code, char const *fmt, ...)
    __attribute__((format(printf, 3, 4), cold));

/* Waits for events on fd (-1: for the time alone). 1, or 0 when the deadline has passed, or E_SYS
   (errno tells). */
int wksp__conn_wait(int fd, short events, uint64_t deadline_ns);

#endif
