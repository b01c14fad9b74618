/* A stream socket as frames with a deadline; the contract is in conn.h.

   Every send and receive is tried without waiting and then waited for with ppoll, so the socket
   itself stays blocking and no call can outlast its deadline. Descriptors may arrive merged with
   bytes that are earlier than those they were sent with; so every receive is a recvmsg with room
   for as many as a message can carry, they queue in the order of arrival, and a response takes what
   it declares. They are put into the hold under its lock together with the receive: fork never sees
   one that nobody knows.

   Refused: a frame over the limit. A client needs no further frame of a daemon that breaks the
   protocol, so it does not read 4 GiB to find the next one. */

#include "client/conn.h"

#include "core/call.h"
#include "wksp/error.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* As many as the kernel lets one message carry (SCM_MAX_FD): none is lost for want of room. */
#define MESSAGE_FD_MAX 253U

int wksp__conn_why(wksp__conn_t *conn, int code, char const *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  (void)vsnprintf(conn->why, sizeof conn->why, fmt, args);
  va_end(args);
  return code;
}

int wksp__conn_init(wksp__conn_t *conn) {
  conn->fd_cnt = 0;
  conn->fds_lost = 0;
  conn->stream_next = 1;
  conn->in_at = conn->in_len = 0;
  conn->why[0] = '\0';
  ttrpc_reader_init(&conn->reader, TTRPC_DATA_MAX);
  return wksp__hold_init(&conn->hold) < 0 ? WKSP_E_NOMEM : 0;
}

void wksp__conn_free(wksp__conn_t *conn) {
  wksp__hold_free(&conn->hold);
  ttrpc_reader_free(&conn->reader);
}

int wksp__conn_is_open(wksp__conn_t const *conn) {
  return wksp__hold_fd(&conn->hold, 0) >= 0;
}

void wksp__conn_fds_drop(wksp__conn_t *conn) {
  for (uint32_t i = 0; i < conn->fd_cnt; i++) wksp__hold_close(&conn->hold, 1 + i);
  conn->fd_cnt = 0;
  conn->fds_lost = 0;
}

void wksp__conn_close(wksp__conn_t *conn) {
  wksp__conn_fds_drop(conn);
  wksp__hold_close(&conn->hold, 0);
  ttrpc_reader_free(&conn->reader);
  ttrpc_reader_init(&conn->reader, TTRPC_DATA_MAX);
  conn->in_at = conn->in_len = 0;
  conn->stream_next = 1;
}

int wksp__conn_wait(int fd, short events, uint64_t deadline_ns) {
  for (;;) {
    uint64_t now = wksp__now_ns();
    if (now >= deadline_ns) return 0;
    uint64_t left = deadline_ns - now;
    struct timespec ts = {.tv_sec = (time_t)(left / 1000000000UL),
                          .tv_nsec = (long)(left % 1000000000UL)};
    struct pollfd polled = {.fd = fd, .events = events};
    int got = ppoll(&polled, fd >= 0 ? 1 : 0, &ts, NULL);
    if (got > 0) return 1;
    if (got < 0 && errno != EINTR) return WKSP_E_SYS;
  }
}

/* Waits on the socket; 0 when it is worth another try, else a code with its sentence. */
static int conn_wait(wksp__conn_t *conn, int fd, short events, uint64_t deadline_ns,
                     char const *what) {
  int got = wksp__conn_wait(fd, events, deadline_ns);
  if (got > 0) return 0;
  if (got < 0) return wksp__conn_why(conn, WKSP_E_SYS, "ppoll: %s", strerror(errno));
  return wksp__conn_why(conn, WKSP_E_TIMEDOUT, "the deadline passed while %s", what);
}

/* What a failed connect means. */
static int connect_why(wksp__conn_t *conn, int err) {
  switch (err) {
  case ENOENT:
  case ENOTDIR:
  case ECONNREFUSED:
  case EPROTOTYPE:
    return wksp__conn_why(conn, WKSP_E_NODAEMON,
                          "nobody answers (%s); start wkspd, or say where it listens with "
                          "WKSPD_SOCKET or --socket",
                          strerror(err));
  case EACCES:
  case EPERM:
    return wksp__conn_why(conn, WKSP_E_PERM,
                          "%s; the daemon's socket is not open to uid %u, see its owner and mode",
                          strerror(err), (unsigned)geteuid());
  case EAGAIN:
    return wksp__conn_why(conn, WKSP_E_TIMEDOUT,
                          "the deadline passed while the daemon did not accept the connection");
  default:
    return wksp__conn_why(conn, WKSP_E_SYS, "connect: %s", strerror(err));
  }
}

/* A socket in the hold. Its number or a code. */
static int conn_socket(wksp__conn_t *conn) {
  wksp__hold_lock();
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int err = errno;
  conn->hold.fds[0] = fd;
  wksp__hold_unlock();
  if (fd < 0) return wksp__conn_why(conn, WKSP_E_SYS, "socket: %s", strerror(err));
  return fd;
}

int wksp__conn_open(wksp__conn_t *conn, char const *path, uint64_t deadline_ns) {
  wksp__conn_close(conn);
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  size_t path_len = strlen(path);
  assert(path_len < sizeof addr.sun_path);
  memcpy(addr.sun_path, path, path_len + 1);
  int fd = conn_socket(conn);
  if (fd < 0) return fd;

  /* A full backlog makes connect wait, and SO_SNDTIMEO is the only bound on that; nothing else is
   * affected, for sends do not wait. */
  int err;
  do {
    uint64_t now = wksp__now_ns();
    uint64_t left_us = deadline_ns > now ? (deadline_ns - now) / 1000UL : 0;
    if (!left_us) left_us = 1; /* 0 would mean for ever */
    struct timeval tv = {.tv_sec = (time_t)(left_us / 1000000UL),
                         .tv_usec = (suseconds_t)(left_us % 1000000UL)};
    err = 0;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) < 0 ||
        connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
      err = errno;
  } while (err == EINTR);
  if (!err || err == EISCONN) {
    conn->opened++;
    return 0;
  }
  wksp__conn_close(conn);
  return connect_why(conn, err);
}

/* 1: an errno that says that the peer is gone. */
static int is_gone(int err) {
  return err == EPIPE || err == ECONNRESET || err == ENOTCONN;
}

int wksp__conn_send(wksp__conn_t *conn, uint8_t const *bytes, size_t bytes_len,
                    uint64_t deadline_ns, size_t *ret_sent) {
  int fd = wksp__hold_fd(&conn->hold, 0);
  assert(fd >= 0);
  *ret_sent = 0;
  while (*ret_sent < bytes_len) {
    ssize_t n = send(fd, bytes + *ret_sent, bytes_len - *ret_sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      *ret_sent += (size_t)n;
      continue;
    }
    if (errno == EINTR) continue;
    if (is_gone(errno))
      return wksp__conn_why(conn, WKSP_E_AGAIN, "the daemon closed the connection (%s)",
                            strerror(errno));
    if (errno != EAGAIN) return wksp__conn_why(conn, WKSP_E_SYS, "send: %s", strerror(errno));
    int err = conn_wait(conn, fd, POLLOUT, deadline_ns, "the daemon did not take the request");
    if (err < 0) return err;
  }
  return 0;
}

/* Puts received descriptors into the queue, or closes them. Under the hold's lock. */
static void fds_queue(wksp__conn_t *conn, struct msghdr *msg) {
  if (msg->msg_flags & MSG_CTRUNC) conn->fds_lost = 1;
  for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
    if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) continue;
    size_t cnt = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < cnt; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof fd, sizeof fd);
      if (conn->fd_cnt < WKSP__CONN_FD_MAX) {
        conn->hold.fds[1 + conn->fd_cnt++] = fd;
      } else {
        (void)close(fd);
      }
    }
  }
}

/* Receives what there is into conn->in. 0, or a code with its sentence. The deadline is checked
 * before the first try: a peer that sends without end is left, too. */
static int conn_receive(wksp__conn_t *conn, uint64_t deadline_ns) {
  int fd = wksp__hold_fd(&conn->hold, 0);
  assert(fd >= 0 && conn->in_at == conn->in_len);
  if (wksp__now_ns() >= deadline_ns)
    return wksp__conn_why(conn, WKSP_E_TIMEDOUT, "the deadline passed before the daemon's reply");
  for (;;) {
    union {
      struct cmsghdr align;
      char bytes[CMSG_SPACE(MESSAGE_FD_MAX * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = conn->in, .iov_len = sizeof conn->in};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    wksp__hold_lock();
    ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    int err = errno;
    if (n >= 0) fds_queue(conn, &msg);
    wksp__hold_unlock();
    if (n > 0) {
      conn->in_at = 0;
      conn->in_len = (size_t)n;
      return 0;
    }
    if (n == 0 || is_gone(err))
      return wksp__conn_why(conn, WKSP_E_AGAIN, "the daemon closed the connection%s",
                            ttrpc_reader_mid_frame(&conn->reader) ? " in the middle of a reply"
                                                                  : " without a reply");
    if (err == EINTR) continue;
    if (err != EAGAIN) return wksp__conn_why(conn, WKSP_E_SYS, "recvmsg: %s", strerror(err));
    err = conn_wait(conn, fd, POLLIN, deadline_ns, "waiting for the daemon's reply");
    if (err < 0) return err;
  }
}

int wksp__conn_frame(wksp__conn_t *conn, uint64_t deadline_ns, ttrpc_frame_t *ret_frame) {
  for (;;) {
    size_t used;
    ttrpc_frame_t frame;
    int got = ttrpc_reader_feed(&conn->reader, conn->in + conn->in_at, conn->in_len - conn->in_at,
                                &used, &frame);
    if (got == TTRPC_E_NOMEM)
      return wksp__conn_why(conn, WKSP_E_NOMEM, "no memory for the daemon's reply");
    conn->in_at += used;
    if (got && !frame.oversize) {
      *ret_frame = frame;
      return 0;
    }
    ttrpc_header_t const *header = &conn->reader.header;
    if (got || ttrpc_reader_wanted(&conn->reader) > TTRPC_DATA_MAX)
      return wksp__conn_why(conn, WKSP_E_PROTO,
                            "what answers is not wkspd: a frame of %u bytes (type %u, stream %u), "
                            "at most %u are allowed",
                            header->length, header->type, header->stream, TTRPC_DATA_MAX);
    int err = conn_receive(conn, deadline_ns);
    if (err < 0) return err;
  }
}

int wksp__conn_fds_take(wksp__conn_t *conn, uint32_t fd_cnt, wksp__hold_t *to, uint32_t to_idx) {
  if (fd_cnt > conn->fd_cnt) {
    if (conn->fds_lost)
      return wksp__conn_why(conn, WKSP_E_SYS,
                            "descriptors were lost on their way: this process has no more free "
                            "ones; close some or raise RLIMIT_NOFILE");
    return wksp__conn_why(conn, WKSP_E_PROTO, "the reply declares %u descriptors and %u came",
                          fd_cnt, conn->fd_cnt);
  }
  for (uint32_t i = 0; i < fd_cnt; i++) wksp__hold_move(&conn->hold, 1 + i, to, to_idx + i);
  for (uint32_t i = fd_cnt; i < conn->fd_cnt; i++)
    wksp__hold_move(&conn->hold, 1 + i, &conn->hold, 1 + i - fd_cnt);
  conn->fd_cnt -= fd_cnt;
  return 0;
}
