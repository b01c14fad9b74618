/* The problem: a kill or a power failure falls anywhere, and what is read afterwards must be the
   old content or the new one.

   The model: the new content is made durable under another name before it takes the place of the
   old, and the folder after that. Nothing is said to be done before the folder is durable too.

   Refuses: large files, to retry, to know what is in them. */

#include "daemon/shell/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int write_all(int fd, char const *text, size_t len) {
  while (len) {
    ssize_t n = write(fd, text, len);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    text += n;
    len -= (size_t)n;
  }
  return 0;
}

int file_put(int dir_fd, char const *name, char const *text, size_t len, char const **ret_call) {
  char temp[FILE_NAME_MAX + sizeof FILE_TEMP_SUFFIX];
  snprintf(temp, sizeof temp, "%s" FILE_TEMP_SUFFIX, name);
  *ret_call = "open";
  int fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return errno;
  *ret_call = "write";
  int err = write_all(fd, text, len);
  if (!err && fsync(fd)) {
    *ret_call = "fsync";
    err = errno;
  }
  close(fd);
  if (!err && renameat(dir_fd, temp, dir_fd, name)) {
    *ret_call = "rename";
    err = errno;
  }
  if (err) {
    unlinkat(dir_fd, temp, 0);
    return err;
  }
  if (fsync(dir_fd)) {
    *ret_call = "fsync of the folder";
    return errno;
  }
  return 0;
}

int file_short(int err) {
  return err == EMFILE || err == ENFILE || err == ENOMEM || err == EAGAIN || err == EINTR ||
         err == ENOBUFS;
}

ssize_t file_get(int dir_fd, char const *name, char *ret_text, size_t cap) {
  int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return -1;
  size_t len = 0;
  ssize_t n;
  while ((n = read(fd, ret_text + len, cap - len)) > 0 && len + (size_t)n < cap) len += (size_t)n;
  int err = n < 0 ? errno : n > 0 ? EFBIG : 0;
  close(fd);
  if (err) {
    errno = err;
    return -1;
  }
  ret_text[len] = '\0';
  return (ssize_t)len;
}
