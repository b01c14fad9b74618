/* The problem: the descriptors of memory and leases must be with the manager before clients rely on
   them, and a manager that is slow for a while must not stop the daemon.

   The model: one connected datagram socket, non-blocking, and one queue in order. While messages
   wait, the loop watches for room. A barrier is a message with the writing end of a pipe; the loop
   watches the reading end for the hang-up that the manager makes by closing its copy.

   Refuses: libsystemd (this is all we need of it), retries after the manager is gone. */

#include "daemon/shell/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct message {
  struct message *next;
  int fd; /* ours, -1 none */
  size_t len;
  char text[];
} message_t;

typedef struct barrier {
  struct barrier *next;
  notify_t *notify;
  notify_done_t done; /* NULL once called */
  void *arg;
  int fd; /* reading end */
  uv_poll_t poll;
  uv_timer_t timer;
  int open; /* handles that are not closed yet */
} barrier_t;

struct notify {
  log_t const *log;
  uv_loop_t *loop;
  int fd; /* -1: nobody listens */
  uv_poll_t poll;
  int poll_open; /* the handle is initialised and not closed */
  int answers;   /* the manager answers barriers by a word */
  message_t *head, **tail;
  unsigned cnt;
  barrier_t *barriers;
};

static void on_writable(uv_poll_t *poll, int status, int events);

static int open_socket(char const *name, log_t const *log) {
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  size_t len = strlen(name);
  if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof addr.sun_path) {
    log_warn(log, "notify", "socket=%.100s error=%s", name,
             log_text("NOTIFY_SOCKET is neither a path nor '@' and an abstract name").text);
    return -1;
  }
  memcpy(addr.sun_path, name, len);
  if (name[0] == '@') addr.sun_path[0] = '\0';
  socklen_t addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
  if (name[0] == '/') addr_len++;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&addr, addr_len)) {
    log_warn(log, "notify", "socket=%.100s error=%s", name, log_text(strerror(errno)).text);
    if (fd >= 0) close(fd);
    return -1;
  }
  return fd;
}

notify_t *notify_open(uv_loop_t *loop, log_t const *log, char const *notify_socket) {
  notify_t *notify = calloc(1, sizeof *notify);
  if (!notify) return NULL;
  notify->log = log;
  notify->loop = loop;
  notify->tail = &notify->head;
  notify->fd = notify_socket && *notify_socket ? open_socket(notify_socket, log) : -1;
  if (notify->fd >= 0) {
    if (uv_poll_init(loop, &notify->poll, notify->fd)) {
      close(notify->fd);
      notify->fd = -1;
    } else {
      notify->poll.data = notify;
      notify->poll_open = 1;
    }
  }
  return notify;
}

void notify_answers(notify_t *notify) {
  notify->answers = 1;
}

int notify_active(notify_t const *notify) {
  return notify->fd >= 0;
}

/* 0 sent, EAGAIN, or another errno. */
static int send_one(int sock, int fd, char const *text, size_t len) {
  struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = len};
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  memset(&control, 0, sizeof control);
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
  if (fd >= 0) {
    msg.msg_control = control.bytes;
    msg.msg_controllen = sizeof control.bytes;
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cmsg), &fd, sizeof fd);
  }
  ssize_t n;
  do {
    n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  return n < 0 ? errno : 0;
}

static void barrier_closed(uv_handle_t *handle) {
  barrier_t *barrier = handle->data;
  if (--barrier->open) return;
  close(barrier->fd);
  free(barrier);
}

static void barrier_end(barrier_t *barrier, int ok) {
  if (!barrier->done) return;
  notify_done_t done = barrier->done;
  barrier->done = NULL;
  for (barrier_t **at = &barrier->notify->barriers; *at; at = &(*at)->next) {
    if (*at == barrier) {
      *at = barrier->next;
      break;
    }
  }
  uv_close((uv_handle_t *)&barrier->poll, barrier_closed);
  uv_close((uv_handle_t *)&barrier->timer, barrier_closed);
  done(barrier->arg, ok);
}

static void drop_all(notify_t *notify) {
  while (notify->head) {
    message_t *message = notify->head;
    notify->head = message->next;
    if (message->fd >= 0) close(message->fd);
    free(message);
  }
  notify->tail = &notify->head;
  notify->cnt = 0;
}

static void poll_closed(uv_handle_t *handle) {
  notify_t *notify = handle->data;
  if (notify->fd >= 0) close(notify->fd);
  free(notify);
}

void notify_lost(notify_t *notify) {
  if (notify->fd < 0) return;
  drop_all(notify);
  /* The handle stays until notify_close; a poll that is stopped costs nothing. */
  uv_poll_stop(&notify->poll);
  close(notify->fd);
  notify->fd = -1;
  while (notify->barriers) barrier_end(notify->barriers, 0);
}

static void flush(notify_t *notify) {
  while (notify->head) {
    message_t *message = notify->head;
    int err = send_one(notify->fd, message->fd, message->text, message->len);
    if (err == EAGAIN || err == ENOBUFS) break;
    if (err) {
      log_error(notify->log, "notify", "error=%s", log_text(strerror(err)).text);
      if (err == ECONNREFUSED || err == ENOTCONN || err == ECONNRESET) {
        notify_lost(notify);
        return;
      }
    }
    notify->head = message->next;
    if (!notify->head) notify->tail = &notify->head;
    notify->cnt--;
    if (message->fd >= 0) close(message->fd);
    free(message);
  }
  if (notify->head)
    uv_poll_start(&notify->poll, UV_WRITABLE, on_writable);
  else
    uv_poll_stop(&notify->poll);
}

static void on_writable(uv_poll_t *poll, int status, int events) {
  flush(poll->data);
}

static int queue(notify_t *notify, int fd, char const *text, size_t len) {
  if (notify->cnt >= NOTIFY_QUEUE_MAX) {
    log_error(notify->log, "notify", "queued=%u error=%s", notify->cnt,
              log_text("the service manager takes no messages").text);
    return 1;
  }
  message_t *message = malloc(sizeof *message + len);
  if (!message) return 1;
  message->next = NULL;
  message->len = len;
  memcpy(message->text, text, len);
  message->fd = -1;
  if (fd >= 0) {
    message->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (message->fd < 0) {
      free(message);
      return 1;
    }
  }
  *notify->tail = message;
  notify->tail = &message->next;
  notify->cnt++;
  flush(notify);
  return 0;
}

int notify_send(notify_t *notify, int fd, char const *fmt, ...) {
  if (notify->fd < 0) return 1;
  char text[NOTIFY_TEXT_MAX];
  va_list ap;
  va_start(ap, fmt);
  int len = vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  if (len < 0 || len >= (int)sizeof text) return 1;
  return queue(notify, fd, text, (size_t)len);
}

static void on_hangup(uv_poll_t *poll, int status, int events) {
  barrier_t *barrier = poll->data;
  char word = 0;
  ssize_t n = read(barrier->fd, &word, 1);
  barrier_end(barrier, barrier->notify->answers ? n == 1 && word == NOTIFY_STORED : n == 0);
}

static void on_late(uv_timer_t *timer) {
  barrier_end(timer->data, 0);
}

void notify_barrier(notify_t *notify, notify_done_t done, void *arg) {
  int ends[2];
  if (notify->fd < 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK)) {
    done(arg, 0);
    return;
  }
  barrier_t *barrier = calloc(1, sizeof *barrier);
  if (!barrier || uv_poll_init(notify->loop, &barrier->poll, ends[0])) {
    free(barrier);
    close(ends[0]);
    close(ends[1]);
    done(arg, 0);
    return;
  }
  uv_timer_init(notify->loop, &barrier->timer);
  barrier->notify = notify;
  barrier->done = done;
  barrier->arg = arg;
  barrier->fd = ends[0];
  barrier->poll.data = barrier->timer.data = barrier;
  barrier->open = 2;
  barrier->next = notify->barriers;
  notify->barriers = barrier;
  uv_poll_start(&barrier->poll, UV_READABLE | UV_DISCONNECT, on_hangup);
  uv_timer_start(&barrier->timer, on_late, NOTIFY_BARRIER_MS, 0);
  /* queue() may lose the manager and with it end this barrier: it is not touched afterwards
   * unless it is still listed. */
  int bad = queue(notify, ends[1], "BARRIER=1", strlen("BARRIER=1"));
  close(ends[1]);
  if (!bad) return;
  for (barrier_t *at = notify->barriers; at; at = at->next) {
    if (at == barrier) {
      barrier_end(barrier, 0);
      return;
    }
  }
}

void notify_close(notify_t *notify) {
  if (!notify) return;
  if (notify->fd >= 0) flush(notify);
  drop_all(notify);
  while (notify->barriers) barrier_end(notify->barriers, 0);
  if (!notify->poll_open) {
    free(notify);
    return;
  }
  uv_close((uv_handle_t *)&notify->poll, poll_closed);
}
