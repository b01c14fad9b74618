/* place_floor: the least that an attach through another process can cost.

   A bare libuv server on a unix stream socket that answers whatever it gets with one byte and a
   descriptor, and a client that connects, asks, receives, maps and writes a word. It checks
   nothing, counts nothing and keeps no lease; what wkspd costs above it is wkspd's own. And the
   share of that which is the processor's change from one process to another and back: one byte
   through a socket pair to a process that sends it back.

   Refuses: to be a server for more than this one client. */

#include "place_floor.h"

#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uv.h>

/* As long as wkspd's Open. */
#define REQUEST 58

static int memory;      /* that the server hands out */
static char path[108];  /* of its socket */
static int mirror = -1; /* our end of the pair */
static pid_t server_pid, mirror_pid;

typedef union control {
  struct cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int))];
} control_t;

static void answer(int to) {
  char byte = 1;
  struct iovec iov = {.iov_base = &byte, .iov_len = 1};
  control_t control = {0};
  struct msghdr msg = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
  struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
  cmsg->cmsg_level = SOL_SOCKET;
  cmsg->cmsg_type = SCM_RIGHTS;
  cmsg->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(cmsg), &memory, sizeof memory);
  if (sendmsg(to, &msg, MSG_NOSIGNAL) != 1) bench_die("floor: sendmsg: %s", strerror(errno));
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *ret_buf) {
  static char bytes[65536];
  (void)handle, (void)size;
  *ret_buf = uv_buf_init(bytes, sizeof bytes);
}

static void on_closed(uv_handle_t *handle) {
  free(handle);
}

static void on_read(uv_stream_t *stream, ssize_t len, uv_buf_t const *buf) {
  uv_os_fd_t fd;
  (void)buf;
  if (len < 0)
    uv_close((uv_handle_t *)stream, on_closed);
  else if (len && !uv_fileno((uv_handle_t *)stream, &fd))
    answer(fd);
}

static void on_connection(uv_stream_t *server, int status) {
  uv_pipe_t *pipe = bench_alloc(1, sizeof *pipe);
  if (status) bench_die("floor: %s", uv_strerror(status));
  uv_pipe_init(server->loop, pipe, 0);
  if (!uv_accept(server, (uv_stream_t *)pipe))
    uv_read_start((uv_stream_t *)pipe, on_alloc, on_read);
}

static void serve(int ready) {
  uv_pipe_t server;
  uv_pipe_init(uv_default_loop(), &server, 0);
  if (uv_pipe_bind(&server, path) || uv_listen((uv_stream_t *)&server, 128, on_connection))
    bench_die("floor: cannot listen on %s", path);
  if (write(ready, "", 1) != 1) _exit(1);
  uv_run(uv_default_loop(), UV_RUN_DEFAULT);
  _exit(0);
}

static void reflect(int fd) {
  for (char byte; read(fd, &byte, 1) == 1;)
    if (write(fd, &byte, 1) != 1) break;
  _exit(0);
}

/* A child that does one of these and ends with us; *ret_pid. Our end of the pair. */
static int child(void (*work)(int fd), pid_t *ret_pid) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) bench_die("floor: socketpair");
  pid_t pid = fork();
  if (pid < 0) bench_die("floor: fork: %s", strerror(errno));
  if (!pid) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(ends[0]);
    work(ends[1]);
  }
  close(ends[1]);
  *ret_pid = pid;
  return ends[0];
}

void floor_begin(size_t size) {
  char byte;
  memory = memfd_create("bench", MFD_CLOEXEC);
  if (memory < 0 || ftruncate(memory, (off_t)size)) bench_die("floor: %s", strerror(errno));
  void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (mem == MAP_FAILED) bench_die("floor: mmap: %s", strerror(errno));
  memset(mem, 1, size);
  munmap(mem, size);
  snprintf(path, sizeof path, "/tmp/wksp-bench-floor.%d", (int)getpid());
  unlink(path);
  int ready = child(serve, &server_pid);
  if (read(ready, &byte, 1) != 1) bench_die("floor: the server does not come up");
  close(ready);
  mirror = child(reflect, &mirror_pid);
}

double floor_attach(size_t size) {
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  char bytes[REQUEST] = {0};
  control_t control;
  struct iovec iov = {.iov_base = bytes, .iov_len = sizeof bytes};
  struct msghdr msg = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
  uint64_t begun = bench_now();
  strcpy(addr.sun_path, path);
  int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = -1;
  if (sock < 0 || connect(sock, (struct sockaddr *)&addr, sizeof addr) ||
      send(sock, bytes, sizeof bytes, MSG_NOSIGNAL) != REQUEST ||
      recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg))
    bench_die("floor: no answer: %s", strerror(errno));
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fd);
  char *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mem == MAP_FAILED) bench_die("floor: mmap: %s", strerror(errno));
  mem[size / 2]++;
  double ns = (double)(bench_now() - begun);
  munmap(mem, size);
  close(fd);
  close(sock);
  return ns;
}

double floor_switch(void) {
  char byte = 1;
  uint64_t begun = bench_now();
  if (write(mirror, &byte, 1) != 1 || read(mirror, &byte, 1) != 1) bench_die("floor: no mirror");
  return (double)(bench_now() - begun);
}

void floor_end(void) {
  pid_t const pids[] = {server_pid, mirror_pid};
  for (int i = 0; i < 2; i++) {
    kill(pids[i], SIGKILL);
    waitpid(pids[i], NULL, 0);
  }
  close(mirror);
  close(memory);
  unlink(path);
}
