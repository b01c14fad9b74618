/* The problem: a path is not a socket. A file may be there that a killed daemon left, that a live
   one serves, or that is no socket at all, and all that may change while we look.

   The model: everything happens under a lock on <path>.lock. The lock file is removed with the lock
   held; who waited for it checks that what was locked is still what the name says, and else starts
   over. The lock is a POSIX record lock: it goes with the process, whatever its children inherited,
   and the kernel tells who holds it.

   Refuses: to remove anything but a socket that refuses connections. */

#include "daemon/shell/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Each round was lost to a daemon that ended at that moment. */
#define LOCK_TRIES_MAX 16

static int make_folder(char const *path) {
  char folder[CONFIG_SOCKET_MAX + 1];
  char const *slash = strrchr(path, '/');
  if (!slash || slash == path) return 0;
  memcpy(folder, path, (size_t)(slash - path));
  folder[slash - path] = '\0';
  return mkdir(folder, 0755) && errno != EEXIST ? 1 : 0;
}

/* 0 locked; 1 and error. */
static int take_lock(socket_at_t *at, char *error) {
  char name[CONFIG_SOCKET_MAX + 8];
  snprintf(name, sizeof name, "%s.lock", at->path);
  for (int i = 0; i < LOCK_TRIES_MAX; i++) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat by_fd, by_name;
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
      snprintf(error, CONFIG_ERROR_MAX, "cannot make the socket's lock file '%s': %s", name,
               strerror(errno));
      return 1;
    }
    if (fcntl(fd, F_SETLK, &lock)) {
      int err = errno;
      if (fcntl(fd, F_GETLK, &lock)) lock.l_pid = 0;
      close(fd);
      if (err == EACCES || err == EAGAIN) {
        if (lock.l_type == F_UNLCK) continue; /* gone meanwhile */
        snprintf(error, CONFIG_ERROR_MAX,
                 "the socket '%s' is served by process %d already: stop it, or give another "
                 "--socket",
                 at->path, (int)lock.l_pid);
      } else {
        snprintf(error, CONFIG_ERROR_MAX, "cannot lock '%s': %s", name, strerror(err));
      }
      return 1;
    }
    if (!fstat(fd, &by_fd) && !stat(name, &by_name) && by_fd.st_ino == by_name.st_ino &&
        by_fd.st_dev == by_name.st_dev) {
      at->lock_fd = fd;
      return 0;
    }
    close(fd);
  }
  snprintf(error, CONFIG_ERROR_MAX, "'%s' keeps changing hands, try again", name);
  return 1;
}

static void drop_lock(socket_at_t *at) {
  char name[CONFIG_SOCKET_MAX + 8];
  if (at->lock_fd < 0) return;
  snprintf(name, sizeof name, "%s.lock", at->path);
  unlink(name);
  close(at->lock_fd);
  at->lock_fd = -1;
}

/* With the lock held: 0 the path is free, 1 and error. */
static int clear_path(char const *path, struct sockaddr_un const *addr, char *error) {
  struct stat st;
  if (lstat(path, &st)) {
    if (errno == ENOENT) return 0;
    snprintf(error, CONFIG_ERROR_MAX, "cannot look at the socket's path '%s': %s", path,
             strerror(errno));
    return 1;
  }
  if (!S_ISSOCK(st.st_mode)) {
    snprintf(error, CONFIG_ERROR_MAX,
             "'%s' exists and is not a socket: remove it, or give another --socket", path);
    return 1;
  }
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    snprintf(error, CONFIG_ERROR_MAX, "socket: %s", strerror(errno));
    return 1;
  }
  int err = connect(fd, (struct sockaddr const *)addr, sizeof *addr) ? errno : 0;
  close(fd);
  if (!err || err == EAGAIN || err == EINPROGRESS) {
    snprintf(error, CONFIG_ERROR_MAX,
             "the socket '%s' is served by a live daemon already: stop it, or give another "
             "--socket",
             path);
    return 1;
  }
  if (err != ECONNREFUSED) {
    snprintf(error, CONFIG_ERROR_MAX, "cannot tell whether '%s' is served: %s", path,
             strerror(err));
    return 1;
  }
  if (unlink(path) && errno != ENOENT) {
    snprintf(error, CONFIG_ERROR_MAX, "cannot replace the stale socket '%s': %s", path,
             strerror(errno));
    return 1;
  }
  return 0;
}

int socket_listen(socket_at_t *ret_at, char const *path, char *error) {
  socket_at_t at = SOCKET_NONE;
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  struct stat st;
  size_t len = strlen(path);
  if (!len || len > CONFIG_SOCKET_MAX) {
    snprintf(error, CONFIG_ERROR_MAX, "the socket's path '%.200s' is not 1 to %d bytes long", path,
             CONFIG_SOCKET_MAX);
    return 1;
  }
  memcpy(at.path, path, len + 1);
  memcpy(addr.sun_path, path, len + 1);
  if (make_folder(path)) {
    snprintf(error, CONFIG_ERROR_MAX, "cannot make the folder of the socket '%s': %s", path,
             strerror(errno));
    return 1;
  }
  if (take_lock(&at, error)) return 1;
  if (clear_path(path, &addr, error)) goto fail;
  at.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  /* Everybody may connect: who may do what is decided by the peer's uid and the workspace's mode.
   */
  if (at.fd < 0 || bind(at.fd, (struct sockaddr *)&addr, sizeof addr) || chmod(path, 0666) ||
      lstat(path, &st) || listen(at.fd, SOCKET_BACKLOG)) {
    snprintf(error, CONFIG_ERROR_MAX, "cannot listen on the socket '%s': %s", path,
             strerror(errno));
    goto fail;
  }
  at.dev = st.st_dev;
  at.ino = st.st_ino;
  *ret_at = at;
  return 0;

fail:
  if (at.fd >= 0) close(at.fd);
  drop_lock(&at);
  return 1;
}

int socket_adopt(socket_at_t *ret_at, char const *path) {
  char error[CONFIG_ERROR_MAX];
  socket_at_t at = SOCKET_NONE;
  struct stat st;
  size_t len = strlen(path);
  if (!len || len > CONFIG_SOCKET_MAX) return 1;
  memcpy(at.path, path, len + 1);
  if (take_lock(&at, error)) return 1;
  if (lstat(path, &st) || !S_ISSOCK(st.st_mode)) {
    drop_lock(&at);
    return 1;
  }
  at.dev = st.st_dev;
  at.ino = st.st_ino;
  *ret_at = at;
  return 0;
}

void socket_release(socket_at_t *at) {
  struct stat st;
  if (at->lock_fd >= 0 && !lstat(at->path, &st) && st.st_dev == at->dev && st.st_ino == at->ino) {
    unlink(at->path);
  }
  if (at->fd >= 0) close(at->fd);
  at->fd = -1;
  drop_lock(at);
}
