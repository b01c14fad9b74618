/* rpc: what a request to wkspd costs, beside a bare libuv server that only sends back what it gets.

   Both servers are processes of their own on unix stream sockets; one thread of this program drives
   them, with one request outstanding on each of its connections. Slices of the one and the other
   take turns, so that what disturbs the machine disturbs both, and the ratio of two neighbouring
   slices is what counts; the median of them is printed. The echo sends back the request, which is
   shorter than wkspd's answer.

   Then what many clients do to one (rpc_load.c), and the daemon's memory over a time of every kind
   of request. Of memory it is the resident bytes of the process that are told; what the kernel
   keeps for a socket is the kernel's.

   Refuses to judge; but for a lease that outlives its process by more than a second.

     rpc [--only get|idle|tail|flood|lease|many|memory] [--seconds N] [--connections N]
   [--workspaces N]

   N seconds for the memory (10), N idle connections (10,000), N workspaces (10,000). */

#include "rpc_load.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uv.h>

#define ROUNDS   11
#define SLICE_NS 300000000UL

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

/* Rows
 * -----------------------------------------------------------------------------------------------
 */

static void compare(side_t *wkspd, side_t *echo, int cnt) {
  double ratio[ROUNDS], rate[ROUNDS], bare[ROUNDS];
  rpc_side_open(wkspd, cnt);
  rpc_side_open(echo, cnt);
  rpc_slice(wkspd, SLICE_NS, NULL, NULL);
  rpc_slice(echo, SLICE_NS, NULL, NULL);
  for (int i = 0; i < ROUNDS; i++) {
    rate[i] = rpc_slice(wkspd, SLICE_NS, NULL, NULL);
    bare[i] = rpc_slice(echo, SLICE_NS, NULL, NULL);
    ratio[i] = rate[i] / bare[i];
  }
  rpc_side_close(wkspd);
  rpc_side_close(echo);
  printf("Get, %2d connection%s %10.0f/s   echo %10.0f/s   ratio %.2f (%.2f to %.2f)\n", cnt,
         cnt == 1 ? " " : "s", bench_quantile(rate, ROUNDS, 0.5), bench_quantile(bare, ROUNDS, 0.5),
         bench_quantile(ratio, ROUNDS, 0.5), bench_quantile(ratio, ROUNDS, 0.0),
         bench_quantile(ratio, ROUNDS, 1.0));
}

static void busy(char const *path, pid_t daemon, unsigned seconds) {
  conn_t conn = rpc_dial(path);
  message_t none = {0};
  uint64_t since = bench_now(), cnt = 0;
  char const *quarter = "";
  for (unsigned part = 0; part <= 4; part++) {
    while (bench_now() - since < part * (uint64_t)seconds * 250000000UL) {
      rpc_call(&conn, rpc_about("Create", "other"));
      rpc_call(&conn,
               rpc_about("Open", "other")); /* recv drops the descriptors: the lease ends at once */
      rpc_call(&conn, rpc_about("Query", "bench"));
      rpc_call(&conn, rpc_about("Compact", "bench"));
      rpc_call(&conn, rpc_about("Get", "other"));
      rpc_call(&conn, rpc_request("wkspd.v1.Workspaces", "List", &none));
      rpc_call(&conn, rpc_request("wkspd.v1.Host", "Stats", &none));
      rpc_call(&conn, rpc_request("wkspd.v1.Host", "Clients", &none));
      rpc_call(&conn, rpc_request("wkspd.v1.Host", "Version", &none));
      rpc_call(&conn, rpc_about("Delete", "other"));
      close(conn.fd);
      conn = rpc_dial(path);
      cnt += 10;
    }
    printf("%s%ld", quarter, rpc_resident(daemon));
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

typedef struct options {
  char const *only; /* NULL: all */
  unsigned seconds;
  int connections, workspaces;
} options_t;

static options_t options(int argc, char **argv) {
  options_t to = {.seconds = 10, .connections = 10000, .workspaces = 10000};
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 < argc && !strcmp(argv[i], "--seconds"))
      to.seconds = (unsigned)number(argv[i + 1], 3600);
    else if (i + 1 < argc && !strcmp(argv[i], "--connections"))
      to.connections = (int)number(argv[i + 1], 16000);
    else if (i + 1 < argc && !strcmp(argv[i], "--workspaces"))
      to.workspaces = (int)number(argv[i + 1], 10200);
    else if (i + 1 < argc && !strcmp(argv[i], "--only"))
      to.only = argv[i + 1];
    else
      bench_die(
          "rpc [--only get|idle|tail|flood|lease|many|memory] [--seconds N] [--connections N] "
          "[--workspaces N]");
  }
  return to;
}

static int wanted(options_t const *options, char const *row) {
  fflush(stdout);
  return !options->only || !strcmp(options->only, row);
}

static void rows(options_t const *options, side_t *wkspd, side_t *echo, pid_t daemon) {
  if (wanted(options, "get")) {
    printf("a request has %zu bytes, an answer %zu\n", wkspd->frame.len, wkspd->answer);
    compare(wkspd, echo, 1);
    compare(wkspd, echo, RPC_BUSY_MAX);
  }
  if (wanted(options, "idle")) rpc_idle(wkspd->path, daemon, options->connections);
  if (wanted(options, "tail")) rpc_tail(wkspd);
  if (wanted(options, "flood")) rpc_flood(wkspd);
  if (wanted(options, "lease")) rpc_lease(wkspd->path);
  if (wanted(options, "many")) rpc_many(wkspd->path, options->workspaces);
  if (wanted(options, "memory")) busy(wkspd->path, daemon, options->seconds);
}

int main(int argc, char **argv) {
  char folder[] = "/tmp/wksp-bench-XXXXXX", path[64], echo_path[64], state[64];
  options_t wanted = options(argc, argv);
  /* All that may be: the daemon gives 11 twentieths of its descriptors to connections. */
  struct rlimit files = {65536, 65536};
  if (setrlimit(RLIMIT_NOFILE, &files)) {
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if ((rlim_t)wanted.connections > files.rlim_max / 20 * 10)
      wanted.connections = (int)(files.rlim_max / 20 * 10);
  }
  if (!mkdtemp(folder) || chmod(folder, 0755)) bench_die("mkdtemp: %s", strerror(errno));
  snprintf(path, sizeof path, "%s/sock", folder);
  snprintf(echo_path, sizeof echo_path, "%s/echo", folder);
  snprintf(state, sizeof state, "%s/state", folder);
  pid_t daemon = wkspd_start(path, state), echo = echo_start(echo_path);

  conn_t conn = rpc_dial(path);
  rpc_call(&conn, rpc_about("Create", "bench"));
  side_t wkspd_side = {.path = path, .frame = rpc_about("Get", "bench")};
  side_t echo_side = {.path = echo_path, .frame = rpc_about("Get", "bench")};
  wkspd_side.answer = rpc_call(&conn, rpc_about("Get", "bench"));
  echo_side.answer = echo_side.frame.len;
  close(conn.fd);
  rows(&wanted, &wkspd_side, &echo_side, daemon);
  fflush(stdout);

  kill(echo, SIGKILL);
  waitpid(echo, NULL, 0);
  kill(daemon, SIGTERM);
  waitpid(daemon, NULL, 0);
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  return system(command) != 0;
}
