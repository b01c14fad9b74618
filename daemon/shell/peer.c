/* The problem: a client may send anything, or half of it, or nothing, and may never read.

   The model: a peer whose socket is readable wants a turn (fair.h). In it the socket is read into
   one buffer on the stack and fed to the frame reader; frames for which the turn is too short wait
   in rest, and nothing more is read before them. A timer runs while the reader is within a frame.
   What a turn's frames are answered at once with is sent at its end, together. What is to be sent
   stands in one byte queue; descriptors are remembered with the position of their frame's first
   byte, and a sendmsg carries them exactly there and never reaches past the next such place. While
   too much waits, reading pauses.

     held == rest_len + memory of the reader + bytes that wait to be sent, as its user counts it

   Refuses: descriptors from clients (recv drops them). */

#include "daemon/shell/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE 65536

/* Descriptors that go with the byte at position at. */
typedef struct mark {
  struct mark *next;
  uint64_t at;
  unsigned cnt;
  int fds[PEER_FDS_MAX];
} mark_t;

struct peer {
  fair_item_t item; /* first: a turn gets it */
  fair_t *fair;
  peer_ops_t const *ops;
  void *arg;
  uint32_t last_stream;
  unsigned half_frame_ms;
  int fd;        /* -1 once closed */
  int open;      /* handles not closed yet */
  int events;    /* what the poll watches */
  int timing;    /* the timer runs */
  int paused;    /* it waits for a turn, and the socket is not looked at meanwhile */
  int on_hold;   /* peer_hold */
  int corked;    /* in a turn: what is to be sent goes at its end */
  uint8_t *rest; /* read and not worked off yet: rest_len bytes from rest_at; NULL: none */
  size_t rest_at, rest_len;
  uint64_t held;
  uv_poll_t poll;
  uv_timer_t timer;
  uv_timer_t stall; /* runs while nothing is read of it because it does not read */
  ttrpc_reader_t reader;
  ttrpc_buf_t out;
  uint64_t sent; /* bytes sent so far: the position of out's first byte */
  mark_t *marks, **marks_end;
};

static void on_poll(uv_poll_t *poll, int status, int events);

uint32_t *peer_last_stream(peer_t *peer) {
  return &peer->last_stream;
}

static void close_fds(int const *fds, unsigned cnt) {
  for (unsigned i = 0; i < cnt; i++) close(fds[i]);
}

static void drop_mark(peer_t *peer) {
  mark_t *mark = peer->marks;
  peer->marks = mark->next;
  if (!peer->marks) peer->marks_end = &peer->marks;
  close_fds(mark->fds, mark->cnt);
  free(mark);
}

static void on_handle_closed(uv_handle_t *handle) {
  peer_t *peer = handle->data;
  if (--peer->open) return;
  ttrpc_reader_free(&peer->reader);
  ttrpc_buf_free(&peer->out);
  free(peer->rest);
  free(peer);
}

static void count(peer_t *peer) {
  if (peer->item.user)
    fair_hold(peer->fair, peer->item.user, &peer->held,
              peer->rest_len + peer->reader.data_cap + peer->out.len);
}

/* Everything of the socket at once; memory later. */
static void shut(peer_t *peer) {
  fair_drop(peer->fair, &peer->item);
  fair_hold(peer->fair, peer->item.user, &peer->held, 0);
  fair_user_give(peer->fair, peer->item.user);
  peer->item.user = NULL;
  uv_poll_stop(&peer->poll);
  close(peer->fd);
  peer->fd = -1;
  while (peer->marks) drop_mark(peer);
  uv_close((uv_handle_t *)&peer->poll, on_handle_closed);
  uv_close((uv_handle_t *)&peer->timer, on_handle_closed);
  uv_close((uv_handle_t *)&peer->stall, on_handle_closed);
}

static void fail(peer_t *peer, char const *why, int violation) {
  if (peer->fd < 0) return;
  shut(peer);
  peer->ops->closed(peer->arg, peer, why, violation);
}

static void on_stall(uv_timer_t *timer) {
  fail(timer->data, "it does not read its answers", 1);
}

static void watch(peer_t *peer) {
  int events = 0, stalled = peer->out.len >= PEER_OUT_HIGH;
  if (!stalled)
    uv_timer_stop(&peer->stall);
  else if (!uv_is_active((uv_handle_t *)&peer->stall))
    uv_timer_start(&peer->stall, on_stall, peer->half_frame_ms, 0);
  if (peer->out.len < PEER_OUT_HIGH && !peer->paused && !peer->rest_len && !peer->on_hold)
    events |= UV_READABLE;
  if (peer->out.len) events |= UV_WRITABLE;
  if (events == peer->events) return;
  peer->events = events;
  if (events)
    uv_poll_start(&peer->poll, events, on_poll);
  else
    uv_poll_stop(&peer->poll);
}

/* One sendmsg. Bytes sent, 0 for later, -1 the connection is broken. */
static ssize_t send_some(peer_t *peer) {
  mark_t *mark = peer->marks;
  size_t len = peer->out.len;
  int with_fds = mark && mark->at == peer->sent;
  mark_t *next = with_fds ? mark->next : mark;
  if (next && next->at - peer->sent < len) len = (size_t)(next->at - peer->sent);
  struct iovec iov = {.iov_base = (void *)(uintptr_t)ttrpc_buf_head(&peer->out), .iov_len = len};
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * PEER_FDS_MAX)];
  } control;
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
  if (with_fds) {
    memset(&control, 0, sizeof control);
    msg.msg_control = control.bytes;
    msg.msg_controllen = CMSG_SPACE(sizeof(int) * mark->cnt);
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int) * mark->cnt);
    memcpy(CMSG_DATA(cmsg), mark->fds, sizeof(int) * mark->cnt);
  }
  ssize_t n = sendmsg(peer->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
  /* ETOOMANYREFS: too many descriptors are under way to clients that do not receive; they may. */
  if (n < 0) return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -1;
  if (n > 0 && with_fds) drop_mark(peer);
  peer->sent += (uint64_t)n;
  ttrpc_buf_consume(&peer->out, (size_t)n);
  return n;
}

/* 0, or 1: broken. */
static int flush(peer_t *peer) {
  while (peer->out.len) {
    ssize_t n = send_some(peer);
    if (n < 0) return 1;
    if (!n) break;
  }
  return 0;
}

int peer_send(peer_t *peer, uint32_t stream, uint8_t type, uint8_t flags, void const *data,
              size_t data_len, int const *fds, unsigned fd_cnt) {
  mark_t *mark = NULL;
  if (peer->fd < 0) goto refuse;
  if (fd_cnt) {
    mark = malloc(sizeof *mark);
    if (!mark) goto refuse;
    *mark = (mark_t){.at = peer->sent + peer->out.len, .cnt = fd_cnt};
    memcpy(mark->fds, fds, fd_cnt * sizeof *fds);
  }
  if (peer->item.user->uid && peer->item.user->held + data_len > PEER_USER_MAX) goto refuse;
  if (ttrpc_buf_frame(&peer->out, stream, type, flags, data, data_len)) goto refuse;
  if (mark) {
    *peer->marks_end = mark;
    peer->marks_end = &mark->next;
  }
  count(peer);
  if (peer->corked) return 0;
  if (flush(peer)) {
    fail(peer, "it went away", 0);
    return 1;
  }
  count(peer);
  watch(peer);
  return 0;

refuse:
  free(mark);
  close_fds(fds, fd_cnt);
  return 1;
}

static void on_late(uv_timer_t *timer) {
  peer_t *peer = timer->data;
  /* Not its silence but our slowness: there is more of it. */
  if (peer->item.queued) {
    uv_timer_start(timer, on_late, peer->half_frame_ms, 0);
    return;
  }
  fail(peer, "half a frame and then silence", 1);
}

static void time_frame(peer_t *peer, int progress) {
  int mid = ttrpc_reader_mid_frame(&peer->reader);
  if (mid && (!peer->timing || progress)) {
    uv_timer_start(&peer->timer, on_late, peer->half_frame_ms, 0);
    peer->timing = 1;
  } else if (!mid && peer->timing) {
    uv_timer_stop(&peer->timer);
    peer->timing = 0;
  }
}

/* Works off whole frames until the turn is over or too much waits to be sent. 0 and how many bytes
 * were used, or 1: the peer is closed. */
static int feed(peer_t *peer, uint8_t const *bytes, size_t len, size_t *ret_used) {
  int frames = 0;
  size_t used = 0;
  for (;;) {
    ttrpc_frame_t frame;
    size_t took;
    int got = ttrpc_reader_feed(&peer->reader, bytes + used, len - used, &took, &frame);
    if (got < 0) {
      fail(peer, "no memory for its frame", 0);
      return 1;
    }
    if (!got) {
      used = len;
      break;
    }
    used += took;
    frames++;
    peer->ops->frame(peer->arg, peer, &frame);
    if (peer->fd < 0) return 1;
    if (used == len || peer->on_hold || fair_over(peer->fair) || peer->out.len >= PEER_OUT_HIGH)
      break;
  }
  if (ttrpc_reader_wanted(&peer->reader) > PEER_DISCARD_MAX) {
    fail(peer, "an absurd frame", 1);
    return 1;
  }
  time_frame(peer, frames);
  *ret_used = used;
  return 0;
}

/* Keeps what the turn was too short for. 0, or 1: the peer is closed. */
static int keep(peer_t *peer, uint8_t const *bytes, size_t len) {
  peer->rest = malloc(len);
  if (!peer->rest) {
    fail(peer, "no memory for its frames", 0);
    return 1;
  }
  memcpy(peer->rest, bytes, len);
  peer->rest_at = 0;
  peer->rest_len = len;
  return 0;
}

/* What was left of the last turn. 0, or 1: the peer is closed. */
static int feed_rest(peer_t *peer) {
  size_t used;
  if (feed(peer, peer->rest + peer->rest_at, peer->rest_len, &used)) return 1;
  peer->rest_at += used;
  peer->rest_len -= used;
  if (peer->rest_len) return 0;
  free(peer->rest);
  peer->rest = NULL;
  return 0;
}

/* 0 and whether there may be more, or 1: the peer is closed. */
static int feed_socket(peer_t *peer, int *ret_more) {
  uint8_t bytes[READ_SIZE];
  size_t used;
  ssize_t n = recv(peer->fd, bytes, sizeof bytes, MSG_DONTWAIT);
  *ret_more = n == (ssize_t)sizeof bytes;
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (n <= 0) {
    fail(peer, ttrpc_reader_mid_frame(&peer->reader) ? "it hung up within a frame" : "it hung up",
         0);
    return 1;
  }
  if (feed(peer, bytes, (size_t)n, &used)) return 1;
  return used < (size_t)n ? keep(peer, bytes + used, (size_t)n - used) : 0;
}

/* 1: there is more to do, and the next turn can do it. */
static int on_turn(fair_item_t *item) {
  peer_t *peer = (peer_t *)item;
  int more = 0;
  if (peer->out.len >= PEER_OUT_HIGH) return 0; /* on_poll goes on once it has been read */
  if (peer->on_hold) return 0;                  /* and peer_go_on */
  peer->corked = 1;
  if (peer->rest_len ? feed_rest(peer) : feed_socket(peer, &more)) return 0;
  peer->corked = 0;
  if (flush(peer)) {
    fail(peer, "it went away", 0);
    return 0;
  }
  count(peer);
  if (item->user->uid && item->user->held > PEER_USER_MAX) {
    fail(peer, "the bytes that wait for its user are at their limit", 1);
    return 0;
  }
  more = (more || peer->rest_len) && peer->out.len < PEER_OUT_HIGH && !peer->on_hold;
  peer->paused = peer->paused && more;
  watch(peer);
  return more;
}

static void on_poll(uv_poll_t *poll, int status, int events) {
  peer_t *peer = poll->data;
  if (status < 0) {
    fail(peer, "it went away", 0);
    return;
  }
  if (events & UV_WRITABLE) {
    if (flush(peer)) {
      fail(peer, "it went away", 0);
      return;
    }
    count(peer);
    if (peer->rest_len && peer->out.len < PEER_OUT_HIGH) fair_ready(peer->fair, &peer->item);
  }
  if (events & UV_READABLE) {
    peer->paused = peer->item.queued; /* named again: it is not to be named in each round */
    fair_ready(peer->fair, &peer->item);
  }
  watch(peer);
}

void peer_hold(peer_t *peer) {
  peer->on_hold = 1;
}

void peer_go_on(peer_t *peer) {
  peer->on_hold = 0;
  if (peer->fd < 0 || peer->corked) return;
  fair_ready(peer->fair, &peer->item);
  watch(peer);
}

uint64_t peer_held(peer_t const *peer) {
  return peer->held;
}

int peer_fd(peer_t const *peer) {
  return peer->fd;
}

peer_t *peer_new(uv_loop_t *loop, fair_t *fair, int fd, uint32_t uid, unsigned half_frame_ms,
                 peer_ops_t const *ops, void *arg) {
  peer_t *peer = calloc(1, sizeof *peer);
  if (peer) peer->item.user = fair_user_take(fair, uid);
  if (!peer || !peer->item.user || uv_poll_init(loop, &peer->poll, fd)) {
    if (peer && peer->item.user) fair_user_give(fair, peer->item.user);
    free(peer);
    close(fd);
    return NULL;
  }
  peer->fair = fair;
  peer->item.turn = on_turn;
  uv_timer_init(loop, &peer->timer);
  uv_timer_init(loop, &peer->stall);
  peer->poll.data = peer->timer.data = peer->stall.data = peer;
  peer->open = 3;
  peer->ops = ops;
  peer->arg = arg;
  peer->half_frame_ms = half_frame_ms;
  peer->fd = fd;
  peer->marks_end = &peer->marks;
  ttrpc_reader_init(&peer->reader, TTRPC_DATA_MAX);
  ttrpc_buf_init(&peer->out, PEER_OUT_MAX);
  watch(peer);
  fair_ready(fair, &peer->item); /* who connects asks at once: often it is there by now */
  return peer;
}

void peer_close(peer_t *peer) {
  if (peer->fd < 0) return;
  peer->corked = 0;
  flush(peer);
  shut(peer);
}
