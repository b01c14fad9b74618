/* The scripted end of a socket; see test_peer.h. */

#include "client/test_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/sockios.h>

#include <cmocka.h>

#define PEER_FD_MAX 16

__thread long peer_alloc_left = -1;

static int alloc_fails(void) {
  if (peer_alloc_left < 0) return 0;
  if (peer_alloc_left-- > 0) return 0;
  errno = ENOMEM;
  return 1;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t cnt, size_t size);
void *__wrap_calloc(size_t cnt, size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__wrap_realloc(void *ptr, size_t size);

void *__wrap_malloc(size_t size) {
  return alloc_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t cnt, size_t size) {
  return alloc_fails() ? NULL : __real_calloc(cnt, size);
}

void *__wrap_realloc(void *ptr, size_t size) {
  return alloc_fails() ? NULL : __real_realloc(ptr, size);
}

void peer_init(peer_t *peer) {
  *peer = (peer_t){.fd = -1};
  (void)snprintf(peer->dir, sizeof peer->dir, "/tmp/wksp-peer-XXXXXX");
  assert_non_null(mkdtemp(peer->dir));
  (void)snprintf(peer->path, sizeof peer->path, "%s/sock", peer->dir);
  peer->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(peer->listener >= 0);
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  memcpy(addr.sun_path, peer->path, strlen(peer->path) + 1);
  assert_int_equal(bind(peer->listener, (struct sockaddr *)&addr, sizeof addr), 0);
  assert_int_equal(listen(peer->listener, 16), 0);
  ttrpc_reader_init(&peer->reader, TTRPC_DATA_MAX);
}

void peer_free(peer_t *peer) {
  peer_hangup(peer);
  (void)close(peer->listener);
  (void)unlink(peer->path);
  (void)rmdir(peer->dir);
  ttrpc_reader_free(&peer->reader);
  if (peer->request) wkspd__ttrpc__request__free_unpacked(peer->request, NULL);
}

static void *peer_run(void *arg) {
  peer_t *peer = arg;
  peer->script(peer, peer->arg);
  return NULL;
}

void peer_start(peer_t *peer, void (*script)(peer_t *peer, void *arg), void *arg) {
  peer->script = script;
  peer->arg = arg;
  assert_int_equal(pthread_create(&peer->thread, NULL, peer_run, peer), 0);
}

void peer_join(peer_t *peer) {
  assert_int_equal(pthread_join(peer->thread, NULL), 0);
  if (peer->failed) fail_msg("peer: %s", peer->why);
}

void peer_fail(peer_t *peer, char const *file, int line, char const *cond) {
  (void)snprintf(peer->why, sizeof peer->why, "%s:%d: %s (errno: %s)", file, line, cond,
                 strerror(errno));
  peer->failed = 1;
  /* Whoever waits for this peer shall not wait. */
  peer_hangup(peer);
  (void)shutdown(peer->listener, SHUT_RDWR);
  pthread_exit(NULL);
}

static void peer_wait(peer_t *peer, int fd, short events) {
  struct pollfd polled = {.fd = fd, .events = events};
  PEER_CHECK(peer, poll(&polled, 1, PEER_PATIENCE_MS) == 1);
}

void peer_hangup(peer_t *peer) {
  if (peer->fd >= 0) (void)close(peer->fd);
  peer->fd = -1;
  peer->in_at = peer->in_len = 0;
  ttrpc_reader_free(&peer->reader);
}

void peer_accept(peer_t *peer) {
  peer_hangup(peer);
  peer_wait(peer, peer->listener, POLLIN);
  peer->fd = accept4(peer->listener, NULL, NULL, SOCK_CLOEXEC);
  PEER_CHECK(peer, peer->fd >= 0);
}

void peer_wait_hangup(peer_t *peer) {
  ssize_t n;
  do {
    peer_wait(peer, peer->fd, POLLIN);
    n = recv(peer->fd, peer->in, sizeof peer->in, 0);
  } while (n > 0);
  PEER_CHECK(peer, n == 0 || errno == ECONNRESET);
}

void peer_request(peer_t *peer, char const *method) {
  ttrpc_frame_t frame;
  for (;;) {
    size_t used;
    int got = ttrpc_reader_feed(&peer->reader, peer->in + peer->in_at, peer->in_len - peer->in_at,
                                &used, &frame);
    PEER_CHECK(peer, got >= 0);
    peer->in_at += used;
    if (got) break;
    peer_wait(peer, peer->fd, POLLIN);
    ssize_t n = recv(peer->fd, peer->in, sizeof peer->in, 0);
    PEER_CHECK(peer, n > 0);
    peer->in_at = 0;
    peer->in_len = (size_t)n;
  }
  PEER_CHECK(peer, frame.header.type == TTRPC_REQUEST);
  if (peer->request) wkspd__ttrpc__request__free_unpacked(peer->request, NULL);
  peer->request = wkspd__ttrpc__request__unpack(NULL, frame.header.length, frame.data);
  PEER_CHECK(peer, peer->request);
  PEER_CHECK(peer, !method || strcmp(peer->request->method, method) == 0);
  peer->stream = frame.header.stream;
  peer->flags = frame.header.flags;
}

void peer_send(peer_t *peer, void const *bytes, size_t bytes_len, int const *fds, size_t fd_cnt) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(PEER_FD_MAX * sizeof(int))];
  } control;
  PEER_CHECK(peer, fd_cnt <= PEER_FD_MAX);
  size_t sent = 0;
  while (sent < bytes_len) {
    struct iovec iov = {.iov_base = (char *)bytes + sent, .iov_len = bytes_len - sent};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_cnt && !sent) {
      msg.msg_control = control.bytes;
      msg.msg_controllen = CMSG_SPACE(fd_cnt * sizeof(int));
      struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
      cmsg->cmsg_level = SOL_SOCKET;
      cmsg->cmsg_type = SCM_RIGHTS;
      cmsg->cmsg_len = CMSG_LEN(fd_cnt * sizeof(int));
      memcpy(CMSG_DATA(cmsg), fds, fd_cnt * sizeof(int));
    }
    ssize_t n = sendmsg(peer->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
      peer_wait(peer, peer->fd, POLLOUT);
      continue;
    }
    PEER_CHECK(peer, n > 0);
    sent += (size_t)n;
  }
}

void peer_wait_taken(peer_t *peer) {
  struct timespec start, now;
  (void)clock_gettime(CLOCK_MONOTONIC, &start);
  for (;;) {
    int left = -1;
    PEER_CHECK(peer, ioctl(peer->fd, SIOCOUTQ, &left) == 0);
    if (!left) return;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    PEER_CHECK(peer, now.tv_sec - start.tv_sec < PEER_PATIENCE_MS / 1000);
    (void)sched_yield();
  }
}

void peer_response_put(peer_t *peer, ttrpc_buf_t *buf, uint32_t stream, int code, char const *text,
                       ProtobufCMessage const *message) {
  size_t payload_len = message ? protobuf_c_message_get_packed_size(message) : 0;
  uint8_t *payload = malloc(payload_len + 1);
  PEER_CHECK(peer, payload);
  if (message) protobuf_c_message_pack(message, payload);
  Wkspd__Ttrpc__Status status = WKSPD__TTRPC__STATUS__INIT;
  status.code = code;
  if (text) status.message = (char *)text;
  Wkspd__Ttrpc__Response response = WKSPD__TTRPC__RESPONSE__INIT;
  if (code) response.status = &status;
  Wkspd__Ttrpc__Any detail = WKSPD__TTRPC__ANY__INIT, *details[1] = {&detail};
  if (code && message) { /* a refusal's message is its detail */
    detail.type_url = (char *)"type.googleapis.com/wkspd.v1.ErrorDetail";
    detail.value = (ProtobufCBinaryData){.len = payload_len, .data = payload};
    status.n_details = 1;
    status.details = details;
  } else {
    response.payload = (ProtobufCBinaryData){.len = payload_len, .data = payload};
  }
  uint8_t *place;
  int err = ttrpc_buf_frame_place(buf, stream, TTRPC_RESPONSE, 0,
                                  wkspd__ttrpc__response__get_packed_size(&response), &place);
  if (!err) wkspd__ttrpc__response__pack(&response, place);
  free(payload);
  PEER_CHECK(peer, !err);
}

void peer_reply(peer_t *peer, int code, char const *text, ProtobufCMessage const *message) {
  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, 2 * TTRPC_DATA_MAX);
  peer_response_put(peer, &buf, peer->stream, code, text, message);
  peer_send(peer, ttrpc_buf_head(&buf), buf.len, NULL, 0);
  ttrpc_buf_free(&buf);
}

uint8_t peer_uuid[16] = "0123456789abcde";

void peer_workspace(Wkspd__V1__Workspace *workspace, char const *name) {
  wkspd__v1__workspace__init(workspace);
  workspace->name = (char *)name;
  workspace->uuid = (ProtobufCBinaryData){.len = sizeof peer_uuid, .data = peer_uuid};
  workspace->size = 8UL << 20;
  workspace->page_size = 4096;
  workspace->mode = 0640;
  workspace->uid = 7;
  workspace->attached_rw = 2;
}

void peer_reply_get(peer_t *peer, char const *name) {
  Wkspd__V1__Workspace workspace;
  peer_workspace(&workspace, name);
  Wkspd__V1__GetResponse response = WKSPD__V1__GET_RESPONSE__INIT;
  response.workspace = &workspace;
  peer_reply(peer, 0, NULL, &response.base);
}

void peer_reply_create(peer_t *peer, char const *name) {
  Wkspd__V1__Workspace workspace;
  peer_workspace(&workspace, name);
  Wkspd__V1__CreateResponse response = WKSPD__V1__CREATE_RESPONSE__INIT;
  response.workspace = &workspace;
  peer_reply(peer, 0, NULL, &response.base);
}

ulong peer_now_ms(void) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  return (ulong)ts.tv_sec * 1000UL + (ulong)ts.tv_nsec / 1000000UL;
}

wksp_client_t *peer_connect(peer_t *peer) {
  wksp_client_t *client = wksp_client_connect(peer->path);
  if (!client) fail_msg("connect: %s", wksp_last_error());
  return client;
}

int peer_fd_count(void) {
  int cnt = 0;
  for (int fd = 0; fd < 1024; fd++) cnt += fcntl(fd, F_GETFD) >= 0;
  return cnt;
}

void peer_get_bytes(peer_t *peer, ttrpc_buf_t *buf) {
  Wkspd__V1__Workspace workspace;
  peer_workspace(&workspace, "x");
  Wkspd__V1__GetResponse response = WKSPD__V1__GET_RESPONSE__INIT;
  response.workspace = &workspace;
  ttrpc_buf_init(buf, 4096);
  peer_response_put(peer, buf, peer->stream, 0, NULL, &response.base);
}

int peer_setup(void **state) {
  static peer_t peer;
  peer_init(&peer);
  *state = &peer;
  return 0;
}

int peer_teardown(void **state) {
  peer_free(*state);
  return 0;
}
