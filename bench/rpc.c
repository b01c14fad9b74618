/* rpc: what a request to wkspd costs, beside a bare libuv server that only sends back what it gets.

   Both servers are processes of their own on unix stream sockets; one thread of this program drives
   them, with one request outstanding on each of its connections. Slices of the one and the other
   take turns, so that what disturbs the machine disturbs both, and the ratio of two neighbouring
   slices is what counts; the median of them is printed. The echo sends back the request, which is
   shorter than wkspd's answer.

   Then: 10,000 idle connections, and what the daemon's memory grows by for each (resident bytes of
   the process; what the kernel keeps for a socket is the kernel's); and the daemon's memory over a
   time of every kind of request.

   Requests are written by hand: neither libwksp nor protobuf is measured here. Refuses to judge.

     rpc [--seconds N] [--connections N]      N seconds for the memory (10), N idle ones (10,000) */

#include "bench.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uv.h>

#define ROUNDS   11
#define SLICE_NS 300000000UL
#define BUSY_MAX 64
#define IDLE_MAX 20000
#define READY_NS 20000000000UL
#define ANSWER   65536

/* Messages
 * -----------------------------------------------------------------------------------------------
 */

typedef struct message {
  unsigned char bytes[256];
  size_t len;
} message_t;

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

/* A whole request frame; its stream is put in by set_stream. */
static message_t request(char const *service, char const *method, message_t const *payload) {
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

static message_t about(char const *method, char const *name) {
  message_t payload = {0};
  put_text(&payload, 1, name);
  if (!strcmp(method, "Create")) {
    put_number(&payload, 2, 1 << 20);
    put_number(&payload, 3, 4096);
  }
  return request("wkspd.v1.Workspaces", method, &payload);
}

/* Servers
 * -----------------------------------------------------------------------------------------------
 */

static void on_written(uv_write_t *write, int status) {
  (void)status;
  free(write->data);
  free(write);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *ret_buf) {
  (void)handle;
  *ret_buf = uv_buf_init(malloc(size), (unsigned)size);
}

static void on_closed(uv_handle_t *handle) {
  free(handle);
}

static void on_read(uv_stream_t *stream, ssize_t len, uv_buf_t const *buf) {
  if (len <= 0) {
    free(buf->base);
    if (len < 0) uv_close((uv_handle_t *)stream, on_closed);
    return;
  }
  uv_write_t *write = bench_alloc(1, sizeof *write);
  uv_buf_t back = uv_buf_init(buf->base, (unsigned)len);
  write->data = buf->base;
  uv_write(write, stream, &back, 1, on_written);
}

static void on_connection(uv_stream_t *server, int status) {
  uv_pipe_t *pipe = bench_alloc(1, sizeof *pipe);
  if (status) bench_die("echo: %s", uv_strerror(status));
  uv_pipe_init(server->loop, pipe, 0);
  if (!uv_accept(server, (uv_stream_t *)pipe))
    uv_read_start((uv_stream_t *)pipe, on_alloc, on_read);
}

static pid_t echo_start(char const *path) {
  pid_t pid = fork();
  if (pid) return pid;
  uv_pipe_t server;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  uv_pipe_init(uv_default_loop(), &server, 0);
  if (uv_pipe_bind(&server, path) || uv_listen((uv_stream_t *)&server, 128, on_connection))
    bench_die("echo: cannot listen on %s", path);
  uv_run(uv_default_loop(), UV_RUN_DEFAULT);
  _exit(0);
}

static pid_t wkspd_start(char const *path, char const *state) {
  pid_t pid = fork();
  if (pid) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  execl(BENCH_WKSPD, BENCH_WKSPD, "--socket", path, "--state-dir", state, "--log-level", "error",
        NULL);
  bench_die("cannot start %s: %s", BENCH_WKSPD, strerror(errno));
}

/* Connections
 * -----------------------------------------------------------------------------------------------
 */

typedef struct conn {
  int fd;
  uint32_t stream;
  size_t left; /* bytes of the answer that are still to come */
} conn_t;

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

static int dial_soon(char const *path) {
  uint64_t end = bench_now() + READY_NS;
  for (int fd; bench_now() < end; poll(NULL, 0, 1))
    if ((fd = dial(path)) >= 0) return fd;
  bench_die("%s: nobody listens", path);
}

static void ask(conn_t *conn, message_t *frame) {
  set_stream(frame, conn->stream += 2);
  if (send(conn->fd, frame->bytes, frame->len, MSG_NOSIGNAL) != (ssize_t)frame->len)
    bench_die("send: %s", strerror(errno));
}

/* One request and its whole answer; its length. The code of a failed one is not looked at: what was
 * made is what is there. */
static size_t call(conn_t *conn, message_t frame) {
  static unsigned char answer[ANSWER];
  size_t len = 0, want = 10;
  ask(conn, &frame);
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

typedef struct side {
  char const *path;
  message_t frame;
  size_t answer; /* bytes of each */
  conn_t conns[BUSY_MAX];
  int cnt, epoll;
} side_t;

static void side_open(side_t *side, int cnt) {
  side->cnt = cnt;
  side->epoll = epoll_create1(EPOLL_CLOEXEC);
  for (int i = 0; i < cnt; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    side->conns[i] = (conn_t){.fd = dial_soon(side->path), .stream = UINT32_MAX};
    epoll_ctl(side->epoll, EPOLL_CTL_ADD, side->conns[i].fd, &event);
  }
}

static void side_close(side_t *side) {
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

/* Requests a second. */
static double slice(side_t *side) {
  uint64_t since = bench_now(), now = since, done = 0;
  int open = side->cnt;
  for (int i = 0; i < side->cnt; i++) {
    side->conns[i].left = side->answer;
    ask(&side->conns[i], &side->frame);
  }
  while (open) {
    struct epoll_event events[BUSY_MAX];
    int cnt = side->cnt == 1 ? 1 : epoll_wait(side->epoll, events, BUSY_MAX, -1);
    if (side->cnt == 1) events[0].data.u32 = 0;
    for (int i = 0; i < cnt; i++) {
      conn_t *conn = &side->conns[events[i].data.u32];
      if (!take(conn)) continue;
      done++;
      if (now - since < SLICE_NS) {
        conn->left = side->answer;
        ask(conn, &side->frame);
      } else {
        open--;
      }
    }
    now = bench_now();
  }
  return (double)done * 1e9 / (double)(now - since);
}

static void compare(side_t *wkspd, side_t *echo, int cnt) {
  double ratio[ROUNDS], rate[ROUNDS], bare[ROUNDS];
  side_open(wkspd, cnt);
  side_open(echo, cnt);
  slice(wkspd);
  slice(echo);
  for (int i = 0; i < ROUNDS; i++) {
    rate[i] = slice(wkspd);
    bare[i] = slice(echo);
    ratio[i] = rate[i] / bare[i];
  }
  side_close(wkspd);
  side_close(echo);
  printf("Get, %2d connection%s %10.0f/s   echo %10.0f/s   ratio %.2f (%.2f to %.2f)\n", cnt,
         cnt == 1 ? " " : "s", bench_quantile(rate, ROUNDS, 0.5), bench_quantile(bare, ROUNDS, 0.5),
         bench_quantile(ratio, ROUNDS, 0.5), bench_quantile(ratio, ROUNDS, 0.0),
         bench_quantile(ratio, ROUNDS, 1.0));
}

/* Memory
 * -----------------------------------------------------------------------------------------------
 */

static long resident_kib(pid_t pid) {
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

static void idle(char const *path, pid_t daemon, int cnt) {
  static int fds[IDLE_MAX];
  conn_t conn = {.fd = dial_soon(path), .stream = UINT32_MAX};
  call(&conn, about("Get", "bench"));
  long before = resident_kib(daemon);
  for (int i = 0; i < cnt; i++) fds[i] = dial_soon(path);
  /* The last of them is answered: all have been accepted. */
  conn_t last = {.fd = fds[cnt - 1], .stream = UINT32_MAX};
  call(&last, about("Get", "bench"));
  long after = resident_kib(daemon);
  printf("%d idle connections: %.2f KiB of the daemon's memory each (%ld KiB before, %ld after)\n",
         cnt, (double)(after - before) / cnt, before, after);
  for (int i = 0; i < cnt; i++) close(fds[i]);
  call(&conn, about("Get", "bench"));
  close(conn.fd);
}

static void busy(char const *path, pid_t daemon, unsigned seconds) {
  conn_t conn = {.fd = dial_soon(path), .stream = UINT32_MAX};
  message_t none = {0};
  uint64_t since = bench_now(), cnt = 0;
  char const *quarter = "";
  for (unsigned part = 0; part <= 4; part++) {
    while (bench_now() - since < part * (uint64_t)seconds * 250000000UL) {
      call(&conn, about("Create", "other"));
      call(&conn, about("Open", "other")); /* recv drops the descriptors: the lease ends at once */
      call(&conn, about("Query", "bench"));
      call(&conn, about("Compact", "bench"));
      call(&conn, about("Get", "other"));
      call(&conn, request("wkspd.v1.Workspaces", "List", &none));
      call(&conn, request("wkspd.v1.Host", "Stats", &none));
      call(&conn, request("wkspd.v1.Host", "Clients", &none));
      call(&conn, request("wkspd.v1.Host", "Version", &none));
      call(&conn, about("Delete", "other"));
      close(conn.fd);
      conn = (conn_t){.fd = dial_soon(path), .stream = UINT32_MAX};
      cnt += 10;
    }
    printf("%s%ld", quarter, resident_kib(daemon));
    quarter = ", ";
  }
  printf(" KiB of the daemon's memory at each quarter of %u s, %lu requests of ten kinds\n",
         seconds, cnt);
  close(conn.fd);
}

static long number(char const *text, long max) {
  char *end;
  long value = strtol(text, &end, 10);
  if (value < 1 || value > max || *end) bench_die("'%s' is not a number from 1 to %ld", text, max);
  return value;
}

int main(int argc, char **argv) {
  char folder[] = "/tmp/wksp-bench-XXXXXX", path[64], echo_path[64], state[64];
  unsigned seconds = 10;
  int connections = 10000;
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 < argc && !strcmp(argv[i], "--seconds"))
      seconds = (unsigned)number(argv[i + 1], 3600);
    else if (i + 1 < argc && !strcmp(argv[i], "--connections"))
      connections = (int)number(argv[i + 1], IDLE_MAX);
    else
      bench_die("rpc [--seconds N] [--connections N]");
  }
  /* The daemon gives a quarter of its descriptors to connections. */
  struct rlimit files = {65536, 65536};
  if (setrlimit(RLIMIT_NOFILE, &files)) {
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if ((rlim_t)connections > files.rlim_max / 5) connections = (int)(files.rlim_max / 5);
  }
  if (!mkdtemp(folder)) bench_die("mkdtemp: %s", strerror(errno));
  snprintf(path, sizeof path, "%s/sock", folder);
  snprintf(echo_path, sizeof echo_path, "%s/echo", folder);
  snprintf(state, sizeof state, "%s/state", folder);
  pid_t daemon = wkspd_start(path, state), echo = echo_start(echo_path);

  conn_t conn = {.fd = dial_soon(path), .stream = UINT32_MAX};
  call(&conn, about("Create", "bench"));
  side_t wkspd_side = {.path = path, .frame = about("Get", "bench")};
  side_t echo_side = {.path = echo_path, .frame = about("Get", "bench")};
  wkspd_side.answer = call(&conn, about("Get", "bench"));
  echo_side.answer = echo_side.frame.len;
  close(conn.fd);
  printf("a request has %zu bytes, an answer %zu\n", wkspd_side.frame.len, wkspd_side.answer);
  compare(&wkspd_side, &echo_side, 1);
  compare(&wkspd_side, &echo_side, BUSY_MAX);
  fflush(stdout);
  idle(path, daemon, connections);
  busy(path, daemon, seconds);

  kill(echo, SIGKILL);
  waitpid(echo, NULL, 0);
  kill(daemon, SIGTERM);
  waitpid(daemon, NULL, 0);
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  return system(command) != 0;
}
