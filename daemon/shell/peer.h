/* peer: one connection: bytes in, frames out, bounded in every direction.

   A peer reads frames and hands them on, and sends frames, with descriptors on the first byte of
   those that have them. It knows nothing of requests. What it holds for a client is bounded: one
   frame being read (4 MiB), PEER_OUT_MAX bytes that wait to be sent, a time for half a frame, and
   PEER_USER_MAX bytes for all connections of a uid. What comes in is worked off in turns (fair.h).
 */

#ifndef WKSPD_SHELL_PEER_H
#define WKSPD_SHELL_PEER_H

#include "daemon/shell/fair.h"
#include "ttrpc/ttrpc.h"

#include <uv.h>

/* Bytes that may wait to be sent. A client with that much unread is closed: it is four of the
 * largest answers. */
#define PEER_OUT_MAX (16UL << 20)

/* From here on nothing more is read of a client that does not read itself; and if it has not read
   down to it within the time for half a frame, it is closed. */
#define PEER_OUT_HIGH (4UL << 20)

/* Half a frame must become whole within this, ms. */
#define PEER_HALF_FRAME_MS 10000U

/* A frame that announces more than this is not waited out: closed. Up to here the body is discarded
 * and the frame answered. */
#define PEER_DISCARD_MAX (64UL << 20)

/* What all connections of one uid that is not root may hold, both ways: 16 of the largest frames.
 */
#define PEER_USER_MAX (64UL << 20)

/* Descriptors of one frame. */
#define PEER_FDS_MAX 2

typedef struct peer peer_t;

typedef struct peer_ops {
  /* A whole frame, or an oversize one. Valid during the call. May call peer_send and peer_close. */
  void (*frame)(void *arg, peer_t *peer, ttrpc_frame_t const *frame);
  /* It is closed: once, for whatever reason but peer_close. violation 1: it broke the protocol. why
   * is a constant. The peer frees itself later; it must not be used any more. */
  void (*closed)(void *arg, peer_t *peer, char const *why, int violation);
} peer_ops_t;

/* Takes over fd, a connected stream socket of uid's. half_frame_ms: see above. arg goes to the ops.
   fair is on the loop. NULL: no memory, fd is closed. */
peer_t *peer_new(uv_loop_t *loop, fair_t *fair, int fd, uint32_t uid, unsigned half_frame_ms,
                 peer_ops_t const *ops, void *arg);

/* Bytes that wait here: to be worked off, and to be sent. */
uint64_t peer_held(peer_t const *peer);

/* Its socket, to ask the kernel about who is there; -1 once it is closed. */
int peer_fd(peer_t const *peer);

/* The highest stream id that this connection has used; the caller keeps it here. */
uint32_t *peer_last_stream(peer_t *peer);

/* Queues a frame and sends what the socket takes. fds (fd_cnt up to PEER_FDS_MAX) are taken over,
   whatever happens. 0, or 1: it does not fit, or the connection is closed. */
int peer_send(peer_t *peer, uint32_t stream, uint8_t type, uint8_t flags, void const *data,
              size_t data_len, int const *fds, unsigned fd_cnt);

/* Its frames wait, and nothing is read of it, until it goes on; what is sent is sent. A frame that
   is being handed on is the last one till then. */
void peer_hold(peer_t *peer);
void peer_go_on(peer_t *peer);

/* Closes it, after one more attempt to send what waits. Its memory goes with a later turn of the
   loop. */
void peer_close(peer_t *peer);

#endif
