/* The problem: a lease must end when its last holder ends, however it ends, and must not end
   because the daemon does.

   The model: a stream socketpair. The hang-up of the client's end is the end of the lease; it is
   reported once and then no longer watched. The daemon's end is kept in the fd store, all under one
   name, for a store drops a socket that has hung up by itself: systemd at once, our supervisor when
   the record has been read, which happens when the lease is dropped.

   Refuses: to look at what clients write into their end, beyond the record; their buffer fills and
   that is all. A lease that is not known to be stored, while somebody stores. */

#include "daemon/shell/lifeline.h"

#include "daemon/child/result.h"
#include "daemon/shell/fdnames.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Reads that empty a lifeline. A client can fill it with some 500 messages at the usual limits of a
 * socket's buffer; root can do more, and its next daemon finds one that holds no record. */
#define DRAIN_MAX 4096

typedef struct lifeline {
  loop_t *loop;
  uint64_t lease_id, ws_id;
  int fd;        /* the daemon's end */
  int client_fd; /* -1: handed out */
  uv_poll_t poll;
} lifeline_t;

/* What waits for the manager's confirmation; the lifeline itself may be dropped meanwhile. */
typedef struct storing {
  loop_t *loop;
  uint64_t lease_id;
} storing_t;

int lifeline_pair(lifeline_record_t const *record, int ret_ends[2]) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return errno;
  int err = 0;
  ssize_t n = send(ends[1], record, sizeof *record, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n != (ssize_t)sizeof *record) err = n < 0 ? errno : EMSGSIZE;
  if (!err && fcntl(ends[0], F_SETFL, O_NONBLOCK)) err = errno;
  if (err) {
    close(ends[0]);
    close(ends[1]);
    return err;
  }
  ret_ends[0] = ends[0];
  ret_ends[1] = ends[1];
  return 0;
}

int lifeline_peek(int fd, lifeline_record_t *ret_record) {
  lifeline_record_t record;
  ssize_t n = recv(fd, &record, sizeof record, MSG_PEEK | MSG_DONTWAIT);
  if (n != (ssize_t)sizeof record || record.magic != LIFELINE_MAGIC || !record.lease_id ||
      record.lease_id >= RESULT_LEASE_FIRST || !record.ws_id ||
      (record.mode != ENGINE_OPEN_RW && record.mode != ENGINE_OPEN_RO)) {
    return 0;
  }
  *ret_record = record;
  return 1;
}

static void on_closed(uv_handle_t *handle) {
  lifeline_t *line = handle->data;
  free(line);
}

static void close_line(lifeline_t *line) {
  uv_poll_stop(&line->poll);
  close(line->fd);
  if (line->client_fd >= 0) close(line->client_fd);
  uv_close((uv_handle_t *)&line->poll, on_closed);
}

static void on_hangup(uv_poll_t *poll, int status, int events) {
  lifeline_t *line = poll->data;
  engine_event_t event = {.kind = ENGINE_EV_LIFELINE_HUP};
  event.u.lifeline_hup.lease_id = line->lease_id;
  uv_poll_stop(poll); /* once; it stays hung up */
  loop_post(line->loop, &event, NULL);
}

void lifeline_sweep(loop_t *loop) {
  size_t place = 0;
  lifeline_t *line;
  while ((line = idmap_next(&loop->lifelines, &place))) {
    struct pollfd seen = {.fd = line->fd};
    if (!uv_is_active((uv_handle_t *)&line->poll)) continue; /* it has been reported */
    if (poll(&seen, 1, 0) != 1 || !(seen.revents & POLLHUP)) continue;
    on_hangup(&line->poll, 0, UV_DISCONNECT);
    place = 0; /* what was done about it may have moved the others */
  }
}

int lifeline_add(loop_t *loop, int fd, lifeline_record_t const *record) {
  if (idmap_get(&loop->lifelines, record->lease_id)) return 1;
  lifeline_t *line = calloc(1, sizeof *line);
  if (!line) return 1;
  line->loop = loop;
  line->lease_id = record->lease_id;
  line->ws_id = record->ws_id;
  line->fd = fd;
  line->client_fd = -1;
  line->poll.data = line;
  if (idmap_add(&loop->lifelines, record->lease_id, line)) {
    free(line);
    return 1;
  }
  if (uv_poll_init(&loop->uv, &line->poll, fd)) {
    idmap_remove(&loop->lifelines, record->lease_id);
    free(line);
    return 1;
  }
  uv_poll_start(&line->poll, UV_DISCONNECT, on_hangup);
  return 0;
}

static void answer(loop_t *loop, uint64_t lease_id, int err, char const *detail) {
  engine_event_t event = {.kind = ENGINE_EV_LEASE_MADE};
  event.u.lease_made.lease_id = lease_id;
  event.u.lease_made.err = err;
  event.u.lease_made.detail = detail;
  loop_post(loop, &event, NULL);
}

static void on_stored(void *arg, int ok) {
  storing_t storing = *(storing_t *)arg;
  free(arg);
  int err = idmap_get(&storing.loop->lifelines, storing.lease_id) ? 0 : ECANCELED;
  char const *detail = NULL;
  /* A lease that a restart forgets would leave a writer whose end nobody notices. When there is no
   * manager any more there is no restart either: what runs goes on. */
  if (!ok && !err && notify_active(storing.loop->notify) && !storing.loop->orphaned) {
    err = EIO;
    detail = "the service manager did not confirm that it keeps the lifeline";
    log_warn(storing.loop->log, "lease-not-stored", "lease=%lu error=%s", storing.lease_id,
             log_text(detail).text);
    lifeline_drop(storing.loop, storing.lease_id);
  }
  answer(storing.loop, storing.lease_id, err, detail);
}

void lifeline_make(loop_t *loop, lifeline_record_t const *record) {
  int ends[2];
  int err = lifeline_pair(record, ends);
  if (err) {
    answer(loop, record->lease_id, err, NULL);
    return;
  }
  if (lifeline_add(loop, ends[0], record)) {
    close(ends[0]);
    close(ends[1]);
    answer(loop, record->lease_id, ENOMEM, "no memory to watch it");
    return;
  }
  lifeline_t *line = idmap_get(&loop->lifelines, record->lease_id);
  line->client_fd = ends[1];
  storing_t *storing = NULL;
  if (notify_active(loop->notify)) {
    storing = malloc(sizeof *storing);
    if (!storing) {
      lifeline_drop(loop, record->lease_id);
      answer(loop, record->lease_id, ENOMEM, NULL);
      return;
    }
    *storing = (storing_t){loop, record->lease_id};
  }
  if (!storing)
    answer(loop, record->lease_id, 0, NULL);
  else if (notify_send(loop->notify, ends[0], "FDSTORE=1\nFDNAME=" FDNAMES_LIFELINE)) {
    on_stored(storing, 0);
  } else {
    notify_barrier(loop->notify, on_stored, storing);
  }
}

int lifeline_take_client_end(loop_t *loop, uint64_t lease_id, uint64_t *ret_ws_id) {
  lifeline_t *line = idmap_get(&loop->lifelines, lease_id);
  if (!line || line->client_fd < 0) return -1;
  int fd = line->client_fd;
  line->client_fd = -1;
  *ret_ws_id = line->ws_id;
  return fd;
}

void lifeline_end(int fd) {
  static char rest[65536]; /* the loop has one thread */
  /* A manager's copy keeps the socket open; shut, it hangs up, and nothing more can come in. */
  shutdown(fd, SHUT_RDWR);
  for (int i = 0; i < DRAIN_MAX; i++) {
    ssize_t n = recv(fd, rest, sizeof rest, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && (errno == EAGAIN || errno == ENOTSOCK))) break;
  }
  shutdown(fd, SHUT_RDWR); /* wakes whoever watches a copy, now that it is empty */
}

void lifeline_drop(loop_t *loop, uint64_t lease_id) {
  lifeline_t *line = idmap_get(&loop->lifelines, lease_id);
  if (!line) return;
  idmap_remove(&loop->lifelines, lease_id);
  lifeline_end(line->fd);
  close_line(line);
}

void lifeline_free(loop_t *loop) {
  size_t place = 0;
  lifeline_t *line;
  while ((line = idmap_next(&loop->lifelines, &place))) close_line(line);
  idmap_clear(&loop->lifelines);
}
