/* Requests are written by hand: neither libwksp nor protobuf is measured here. */

#include "rpc_wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define READY_NS 20000000000UL
#define ANSWER   65536

/* Messages
 * -----------------------------------------------------------------------------------------------
 */

static void put_bytes(message_t *to, int field, void const *bytes, size_t len) {
  if (len > 127 || to->len + len + 2 > sizeof to->bytes) bench_die("a message is too long");
  to->bytes[to->len++] = (unsigned char)(field << 3 | 2);
  to->bytes[to->len++] = (unsigned char)len;
  memcpy(to->bytes + to->len, bytes, len);
  to->len += len;
}

static void put_text(message_t *to, int field, char const *text) {
  put_bytes(to, field, text, strlen(text));
}

static void put_number(message_t *to, int field, uint64_t value) {
  to->bytes[to->len++] = (unsigned char)(field << 3);
  for (; value > 127; value >>= 7) to->bytes[to->len++] = (unsigned char)(value | 128);
  to->bytes[to->len++] = (unsigned char)value;
}

message_t rpc_request(char const *service, char const *method, message_t const *payload) {
  message_t envelope = {.len = 10};
  put_text(&envelope, 1, service);
  put_text(&envelope, 2, method);
  put_bytes(&envelope, 3, payload->bytes, payload->len);
  memset(envelope.bytes, 0, 10);
  envelope.bytes[2] = (unsigned char)((envelope.len - 10) >> 8);
  envelope.bytes[3] = (unsigned char)(envelope.len - 10);
  envelope.bytes[8] = 1;
  return envelope;
}

static void set_stream(message_t *frame, uint32_t stream) {
  for (int i = 0; i < 4; i++) frame->bytes[4 + i] = (unsigned char)(stream >> (24 - 8 * i));
}

message_t rpc_create(char const *name, uint64_t size) {
  message_t payload = {0};
  put_text(&payload, 1, name);
  put_number(&payload, 2, size);
  put_number(&payload, 3, 4096);
  put_number(&payload, 4, 0666);
  return rpc_request("wkspd.v1.Workspaces", "Create", &payload);
}

message_t rpc_about(char const *method, char const *name) {
  message_t payload = {0};
  if (!strcmp(method, "Create")) return rpc_create(name, 1 << 20);
  put_text(&payload, 1, name);
  return rpc_request("wkspd.v1.Workspaces", method, &payload);
}

/* Connections
 * -----------------------------------------------------------------------------------------------
 */

/* -1: nobody listens yet. */
static int dial(char const *path) {
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) bench_die("socket: %s", strerror(errno));
  strcpy(addr.sun_path, path);
  if (!connect(fd, (struct sockaddr *)&addr, sizeof addr)) return fd;
  close(fd);
  return -1;
}

conn_t rpc_dial(char const *path) {
  uint64_t end = bench_now() + READY_NS;
  for (int fd; bench_now() < end; poll(NULL, 0, 1))
    if ((fd = dial(path)) >= 0) return (conn_t){.fd = fd, .stream = UINT32_MAX};
  bench_die("%s: nobody listens", path);
}

void rpc_ask(conn_t *conn, message_t *frame) {
  set_stream(frame, conn->stream += 2);
  conn->asked_ns = bench_now();
  if (send(conn->fd, frame->bytes, frame->len, MSG_NOSIGNAL) != (ssize_t)frame->len)
    bench_die("send: %s", strerror(errno));
}

size_t rpc_call(conn_t *conn, message_t frame) {
  static unsigned char answer[ANSWER];
  size_t len = 0, want = 10;
  rpc_ask(conn, &frame);
  while (len < want) {
    ssize_t n = recv(conn->fd, answer + len, sizeof answer - len, 0);
    if (n <= 0) bench_die("the daemon closed the connection");
    len += (size_t)n;
    if (len >= 10)
      want = 10 + ((size_t)answer[0] << 24 | (size_t)answer[1] << 16 | (size_t)answer[2] << 8 |
                   answer[3]);
    if (want > sizeof answer) bench_die("an answer of %zu bytes", want);
  }
  return want;
}

void rpc_side_open(side_t *side, int cnt) {
  side->cnt = cnt;
  side->epoll = epoll_create1(EPOLL_CLOEXEC);
  for (int i = 0; i < cnt; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    side->conns[i] = rpc_dial(side->path);
    epoll_ctl(side->epoll, EPOLL_CTL_ADD, side->conns[i].fd, &event);
  }
}

void rpc_side_close(side_t *side) {
  for (int i = 0; i < side->cnt; i++) close(side->conns[i].fd);
  close(side->epoll);
}

/* What has come of an answer; 1: all of it. */
static int take(conn_t *conn) {
  unsigned char bytes[4096];
  size_t want = conn->left < sizeof bytes ? conn->left : sizeof bytes;
  ssize_t n = recv(conn->fd, bytes, want, 0);
  if (n <= 0) bench_die("a server closed the connection");
  conn->left -= (size_t)n;
  return !conn->left;
}

double rpc_slice(side_t *side, uint64_t ns, void (*each)(void *arg, uint64_t took_ns), void *arg) {
  uint64_t since = bench_now(), now = since, done = 0;
  int open = side->cnt;
  for (int i = 0; i < side->cnt; i++) {
    side->conns[i].left = side->answer;
    rpc_ask(&side->conns[i], &side->frame);
  }
  while (open) {
    struct epoll_event events[RPC_BUSY_MAX];
    int cnt = side->cnt == 1 ? 1 : epoll_wait(side->epoll, events, RPC_BUSY_MAX, -1);
    if (side->cnt == 1) events[0].data.u32 = 0;
    for (int i = 0; i < cnt; i++) {
      conn_t *conn = &side->conns[events[i].data.u32];
      if (!take(conn)) continue;
      done++;
      if (each) each(arg, bench_now() - conn->asked_ns);
      if (now - since < ns) {
        conn->left = side->answer;
        rpc_ask(conn, &side->frame);
      } else {
        open--;
      }
    }
    now = bench_now();
  }
  return (double)done * 1e9 / (double)(now - since);
}

long rpc_resident(pid_t pid) {
  char path[64], line[256];
  long kib = -1;
  snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
  FILE *file = fopen(path, "r");
  if (!file) bench_die("%s: %s", path, strerror(errno));
  while (fgets(line, sizeof line, file))
    if (sscanf(line, "RssAnon: %ld", &kib) == 1) break;
  fclose(file);
  return kib;
}
