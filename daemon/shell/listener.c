/* The problem: connections must be known by who made them, and a process without descriptors must
   not spin.

   The model: a readable listening socket gives some connections a turn; SO_PEERCRED and
   SO_PEERGROUPS are what the kernel knew at connect time. When there are no descriptors left,
   accepting pauses and clients wait in the backlog.

   Refuses: to limit; the engine does, by closing. */

#include "daemon/shell/listener.h"

#include "daemon/shell/serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct listener {
  loop_t *loop;
  int fd;
  uv_poll_t poll;
  uv_timer_t timer;
  int open; /* handles not closed yet */
  log_rate_t rate;
};

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_pause_over(uv_timer_t *timer) {
  struct listener *listener = timer->data;
  uv_poll_start(&listener->poll, UV_READABLE, on_readable);
}

static void pause_accepting(struct listener *listener, int err) {
  uint32_t dropped;
  if (log_rate_ok(&listener->rate, uv_hrtime(), &dropped)) {
    log_error(listener->loop->log, "accept", "dropped=%u error=%s", dropped,
              log_text(strerror(err)).text);
  }
  uv_poll_stop(&listener->poll);
  uv_timer_start(&listener->timer, on_pause_over, LISTENER_PAUSE_MS, 0);
}

/* Who made the connection. A peer in more groups than count has those beyond for nothing: the
   kernel gives all or none, so then its gid alone counts. 0, or 1: the kernel does not say. */
static int identify(int fd, serve_who_t *ret_who) {
  struct ucred cred;
  socklen_t len = sizeof cred;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len)) return 1;
  *ret_who = (serve_who_t){.uid = cred.uid, .gid = cred.gid, .pid = cred.pid};
  len = sizeof ret_who->gids;
  if (!getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, ret_who->gids, &len))
    ret_who->gid_cnt = (uint32_t)(len / sizeof *ret_who->gids);
  return 0;
}

static void on_readable(uv_poll_t *poll, int status, int events) {
  struct listener *listener = poll->data;
  for (int i = 0; i < LISTENER_ACCEPTS_MAX; i++) {
    int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EAGAIN) pause_accepting(listener, errno);
      return;
    }
    serve_who_t who;
    if (identify(fd, &who)) {
      close(fd);
      continue;
    }
    serve_open(listener->loop, fd, &who);
  }
}

static void on_closed(uv_handle_t *handle) {
  struct listener *listener = handle->data;
  if (!--listener->open) free(listener);
}

struct listener *listener_start(loop_t *loop, int fd) {
  struct listener *listener = calloc(1, sizeof *listener);
  if (!listener || uv_poll_init(&loop->uv, &listener->poll, fd)) {
    free(listener);
    return NULL;
  }
  uv_timer_init(&loop->uv, &listener->timer);
  listener->loop = loop;
  listener->fd = fd;
  listener->open = 2;
  listener->poll.data = listener->timer.data = listener;
  uv_poll_start(&listener->poll, UV_READABLE, on_readable);
  return listener;
}

void listener_stop(struct listener *listener) {
  if (!listener) return;
  uv_poll_stop(&listener->poll);
  uv_close((uv_handle_t *)&listener->poll, on_closed);
  uv_close((uv_handle_t *)&listener->timer, on_closed);
}
