/* The problem: whether the daemon outlives the failure of each call that it makes of the system.

   The model: wkspd is linked once more with each of these functions wrapped. The wrapper counts its
   calls and lets one fail that a test has chosen, with an error that the system could give. What
   fails has no effect, as with the system; close alone closes and then says that it failed.

   In workers nothing fails: what becomes of those is the engine's and other tests' business. Nor do
   functions that have nothing to fail for (munmap, free), nor what libraries call by themselves. */

#include "faults.h"

#include "daemon/child/worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <uv.h>

static faults_t *page;

static int wait_go(void);

/* 1: this call is the one, and fails. */
static int fails(unsigned at) {
  if (!page) return 0;
  page->of[at].calls++;
  if (page->at != (int32_t)at || page->left-- != 0) return 0;
  int waits = page->waits; /* before the test is told that it has come to that */
  page->hits++;
  return waits ? wait_go() : 1;
}

/* name, its type, what it returns when it fails, errno or 0, parameters, arguments */
/* clang-format off */
#define WRAPPED(X)                                                                                 \
  X(malloc, void *, NULL, ENOMEM, (size_t size), (size))                                           \
  X(calloc, void *, NULL, ENOMEM, (size_t cnt, size_t size), (cnt, size))                          \
  X(realloc, void *, NULL, ENOMEM, (void *old, size_t size), (old, size))                          \
  X(reallocarray, void *, NULL, ENOMEM, (void *old, size_t cnt, size_t size), (old, cnt, size))    \
  X(strdup, char *, NULL, ENOMEM, (char const *text), (text))                                      \
  X(accept4, int, -1, EMFILE, (int fd, struct sockaddr *to, socklen_t *len, int how),              \
    (fd, to, len, how))                                                                            \
  X(access, int, -1, EIO, (char const *path, int mode), (path, mode))                              \
  X(bind, int, -1, EACCES, (int fd, struct sockaddr const *to, socklen_t len), (fd, to, len))      \
  X(chmod, int, -1, EPERM, (char const *path, mode_t mode), (path, mode))                          \
  X(connect, int, -1, ECONNREFUSED, (int fd, struct sockaddr const *to, socklen_t len),            \
    (fd, to, len))                                                                                 \
  X(faccessat, int, -1, EIO, (int dir, char const *path, int mode, int how),                       \
    (dir, path, mode, how))                                                                        \
  X(fallocate64, int, -1, ENOSPC, (int fd, int how, off_t at, off_t len), (fd, how, at, len))      \
  X(fchmod, int, -1, EPERM, (int fd, mode_t mode), (fd, mode))                                     \
  X(fcntl64, int, -1, EMFILE, (int fd, int what, long arg), (fd, what, arg))                       \
  X(fdopen, FILE *, NULL, ENOMEM, (int fd, char const *how), (fd, how))                            \
  X(fdopendir, DIR *, NULL, ENOMEM, (int fd), (fd))                                                \
  X(fstat64, int, -1, EIO, (int fd, struct stat *to), (fd, to))                                    \
  X(fstatat64, int, -1, EIO, (int dir, char const *path, struct stat *to, int how),                \
    (dir, path, to, how))                                                                          \
  X(fsync, int, -1, EIO, (int fd), (fd))                                                           \
  X(ftruncate64, int, -1, ENOSPC, (int fd, off_t len), (fd, len))                                  \
  X(get_mempolicy, long, -1, EPERM,                                                                \
    (int *mode, unsigned long *mask, unsigned long max, void *at, unsigned how),                   \
    (mode, mask, max, at, how))                                                                    \
  X(getrandom, ssize_t, -1, EAGAIN, (void *to, size_t len, unsigned how), (to, len, how))          \
  X(getrlimit64, int, -1, EPERM, (int what, struct rlimit *to), (what, to))                        \
  X(getsockname, int, -1, ENOBUFS, (int fd, struct sockaddr *to, socklen_t *len), (fd, to, len))   \
  X(getsockopt, int, -1, ENOPROTOOPT, (int fd, int level, int what, void *to, socklen_t *len),     \
    (fd, level, what, to, len))                                                                    \
  X(listen, int, -1, EADDRINUSE, (int fd, int cnt), (fd, cnt))                                     \
  X(lstat64, int, -1, EIO, (char const *path, struct stat *to), (path, to))                        \
  X(madvise, int, -1, EFAULT, (void *at, size_t len, int what), (at, len, what))                   \
  X(memfd_create, int, -1, EMFILE, (char const *name, unsigned how), (name, how))                  \
  X(mkdir, int, -1, ENOSPC, (char const *path, mode_t mode), (path, mode))                         \
  X(mkdirat, int, -1, ENOSPC, (int dir, char const *path, mode_t mode), (dir, path, mode))         \
  X(mmap64, void *, MAP_FAILED, ENOMEM, (void *at, size_t len, int how, int flags, int fd,         \
    off_t off), (at, len, how, flags, fd, off))                                                    \
  X(move_pages, long, -1, EPERM, (int pid, unsigned long cnt, void **at, int const *nodes,         \
    int *status, int how), (pid, cnt, at, nodes, status, how))                                     \
  X(open64, int, -1, EMFILE, (char const *path, int how, long mode), (path, how, mode))            \
  X(openat64, int, -1, EMFILE, (int dir, char const *path, int how, long mode),                    \
    (dir, path, how, mode))                                                                        \
  X(opendir, DIR *, NULL, EMFILE, (char const *path), (path))                                      \
  X(pipe2, int, -1, EMFILE, (int fds[2], int how), (fds, how))                                     \
  X(poll, int, -1, ENOMEM, (struct pollfd *of, nfds_t cnt, int ms), (of, cnt, ms))                 \
  X(pread64, ssize_t, -1, EIO, (int fd, void *to, size_t len, off_t at), (fd, to, len, at))        \
  X(pthread_create, int, EAGAIN, 0, (pthread_t *to, pthread_attr_t const *attr,                    \
    void *(*main)(void *), void *arg), (to, attr, main, arg))                                      \
  X(read, ssize_t, -1, ENOMEM, (int fd, void *to, size_t len), (fd, to, len))                      \
  X(readdir64, struct dirent *, NULL, EIO, (DIR *dir), (dir))                                      \
  X(recv, ssize_t, -1, ENOMEM, (int fd, void *to, size_t len, int how), (fd, to, len, how))        \
  X(recvmsg, ssize_t, -1, ENOMEM, (int fd, struct msghdr *to, int how), (fd, to, how))             \
  X(renameat, int, -1, EIO, (int from_dir, char const *from, int dir, char const *to),             \
    (from_dir, from, dir, to))                                                                     \
  X(sched_getaffinity, int, -1, EINVAL, (pid_t pid, size_t len, cpu_set_t *to), (pid, len, to))    \
  X(sched_setaffinity, int, -1, EINVAL, (pid_t pid, size_t len, cpu_set_t const *to),              \
    (pid, len, to))                                                                                \
  X(send, ssize_t, -1, ENOBUFS, (int fd, void const *from, size_t len, int how),                   \
    (fd, from, len, how))                                                                          \
  X(sendmsg, ssize_t, -1, ENOBUFS, (int fd, struct msghdr const *from, int how), (fd, from, how))  \
  X(set_mempolicy, long, -1, ENOMEM, (int mode, unsigned long const *mask, unsigned long max),     \
    (mode, mask, max))                                                                             \
  X(setrlimit64, int, -1, EPERM, (int what, struct rlimit const *to), (what, to))                  \
  X(setsockopt, int, -1, ENOBUFS, (int fd, int level, int what, void const *to, socklen_t len),    \
    (fd, level, what, to, len))                                                                    \
  X(shutdown, int, -1, ENOTCONN, (int fd, int how), (fd, how))                                     \
  X(signalfd, int, -1, EMFILE, (int fd, sigset_t const *of, int how), (fd, of, how))               \
  X(socket, int, -1, EMFILE, (int domain, int type, int protocol), (domain, type, protocol))       \
  X(socketpair, int, -1, EMFILE, (int domain, int type, int protocol, int fds[2]),                 \
    (domain, type, protocol, fds))                                                                 \
  X(stat64, int, -1, EIO, (char const *path, struct stat *to), (path, to))                         \
  X(syscall, long, -1, EMFILE, (long what, long a, long b, long c, long d, long e, long f),        \
    (what, a, b, c, d, e, f))                                                                      \
  X(sysinfo, int, -1, EFAULT, (struct sysinfo *to), (to))                                          \
  X(unlink, int, -1, EIO, (char const *path), (path))                                              \
  X(unlinkat, int, -1, EIO, (int dir, char const *path, int how), (dir, path, how))                \
  X(write, ssize_t, -1, ENOSPC, (int fd, void const *from, size_t len), (fd, from, len))           \
  X(uv_poll_init, int, UV_ENOSPC, 0, (uv_loop_t *loop, uv_poll_t *poll, int fd),                   \
    (loop, poll, fd))

enum {
#define X(name, ...) AT_##name,
  WRAPPED(X)
#undef X
  AT_uv_spawn, AT_close, AT_CNT
};
_Static_assert(AT_CNT <= FAULTS_MAX, "each has a place on the page");

static char const names[AT_CNT][FAULTS_NAME_MAX] = {
#define X(name, ...) #name,
  WRAPPED(X)
#undef X
  "uv_spawn", "close"
};

/* clang-format on */

#define X(name, type, failed, error, parameters, arguments) \
  type __real_##name parameters;                            \
  type __wrap_##name parameters;                            \
  type __wrap_##name parameters {                           \
    if (!fails(AT_##name)) return __real_##name arguments;  \
    if (error) errno = error;                               \
    return failed;                                          \
  }
WRAPPED(X)
#undef X

int __real_close(int fd);

/* Until the test says so. 0: the call goes on as ever. */
static int wait_go(void) {
  char path[256], byte;
  snprintf(path, sizeof path, "%s" FAULTS_GO, getenv(FAULTS_ENV));
  int fd = __real_open64(path, O_RDWR | O_CLOEXEC, 0);
  if (fd < 0 || __real_read(fd, &byte, 1) != 1) abort();
  __real_close(fd);
  return 0;
}

int __real_uv_spawn(uv_loop_t *loop, uv_process_t *process, uv_process_options_t const *options);
int __wrap_uv_spawn(uv_loop_t *loop, uv_process_t *process, uv_process_options_t const *options);
int __wrap_close(int fd);

/* The handle is a handle also when there is no process, as libuv says. */
int __wrap_uv_spawn(uv_loop_t *loop, uv_process_t *process, uv_process_options_t const *options) {
  if (!fails(AT_uv_spawn)) return __real_uv_spawn(loop, process, options);
  uv_process_options_t none = *options;
  none.file = "/there/is/no/such/program";
  return __real_uv_spawn(loop, process, &none);
}

int __wrap_close(int fd) {
  int bad = __real_close(fd);
  if (!fails(AT_close)) return bad;
  errno = EIO;
  return -1;
}

/* Before main, and after the libraries are there. */
__attribute__((constructor)) static void faults_start(int argc, char **argv) {
  char const *path = getenv(FAULTS_ENV);
  if (!path || (argc == 2 && !strcmp(argv[1], WORKER_ARG))) return;
  int fd = __real_open64(path, O_RDWR | O_CLOEXEC, 0);
  void *at = fd < 0 ? MAP_FAILED
                    : __real_mmap64(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) {
    fprintf(stderr, "faults: %s: %s\n", path, strerror(errno));
    _exit(3);
  }
  __real_close(fd);
  page = at;
  for (unsigned i = 0; i < AT_CNT; i++) memcpy(page->of[i].name, names[i], FAULTS_NAME_MAX);
}
