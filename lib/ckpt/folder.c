/* folder: a store's I/O in a folder of the machine.

   All goes through one descriptor of the folder, so that nothing outside of it is ever named, and a
   process that has given up everything else can use it. Writers keep one another out by a lock on
   the folder itself, which goes with the process.

   Refuses: symbolic links in the place of files. */

#include "ckpt/store.h"

#include "core/fail.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct folder {
  int fd;
} folder_t;

static int fd_of(void *self) {
  return ((folder_t *)self)->fd;
}

static int folder_open(void *self, char const *name, uint how, int *ret_file) {
  int flags = how == WKSP_CKPT_OPEN_CREATE ? O_RDWR | O_CREAT | O_EXCL : O_RDONLY;
  int fd = openat(fd_of(self), name, flags | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (fd < 0) return -errno;
  *ret_file = fd;
  return 0;
}

static void folder_close(void *self, int file) {
  (void)self;
  close(file);
}

static long folder_pwrite(void *self, int file, void const *bytes, ulong len, ulong off) {
  (void)self;
  ssize_t got;
  do got = pwrite(file, bytes, len, (off_t)off);
  while (got < 0 && errno == EINTR);
  return got < 0 ? -errno : got;
}

static long folder_pread(void *self, int file, void *bytes, ulong len, ulong off) {
  (void)self;
  ssize_t got;
  do got = pread(file, bytes, len, (off_t)off);
  while (got < 0 && errno == EINTR);
  return got < 0 ? -errno : got;
}

static int folder_size(void *self, int file, ulong *ret_size) {
  (void)self;
  struct stat st;
  if (fstat(file, &st)) return -errno;
  if (!S_ISREG(st.st_mode)) return -EINVAL;
  *ret_size = (ulong)st.st_size;
  return 0;
}

static int folder_fsync(void *self, int file) {
  (void)self;
  return fsync(file) ? -errno : 0;
}

static int folder_rename(void *self, char const *from, char const *to) {
  return renameat(fd_of(self), from, fd_of(self), to) ? -errno : 0;
}

static int folder_unlink(void *self, char const *name) {
  return unlinkat(fd_of(self), name, 0) ? -errno : 0;
}

static int folder_fsync_folder(void *self) {
  return fsync(fd_of(self)) ? -errno : 0;
}

static int folder_list(void *self, int (*on_name)(void *arg, char const *name), void *arg) {
  int fd = openat(fd_of(self), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
  if (fd < 0) return -errno;
  DIR *dir = fdopendir(fd);
  if (!dir) {
    rc = -errno;
    close(fd);
    return rc;
  }
  struct dirent const *entry;
  while (errno = 0, !rc && (entry = readdir(dir))) {
    if (entry->d_name[0] != '.') rc = on_name(arg, entry->d_name);
  }
  if (!rc && errno) rc = -errno;
  closedir(dir);
  return rc;
}

/* The lock belongs to an open file of its own, so that two stores of one process exclude each other
   too. */
typedef struct folder_locked {
  folder_t folder; /* first: the others take it for that */
  int lock_fd;
} folder_locked_t;

static int folder_lock(void *self) {
  folder_locked_t *locked = self;
  int fd = openat(locked->folder.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  if (flock(fd, LOCK_EX | LOCK_NB)) {
    int err = errno == EWOULDBLOCK ? -EBUSY : -errno;
    close(fd);
    return err;
  }
  locked->lock_fd = fd;
  return 0;
}

static void folder_unlock(void *self) {
  folder_locked_t *locked = self;
  close(locked->lock_fd);
  locked->lock_fd = -1;
}

/* Starts the disk on what is behind us, so that the fsync at the end finds little left. */
static void folder_write_out(void *self, int file, ulong off, ulong len) {
  (void)self;
  (void)sync_file_range(file, (off_t)off, (off_t)len, SYNC_FILE_RANGE_WRITE);
}

static void folder_end(void *self) {
  close(fd_of(self));
  free(self);
}

static int open_owned(int fd, wksp_ckpt_store_t **ret_store) {
  folder_locked_t *locked = malloc(sizeof *locked);
  if (!locked) {
    close(fd);
    return wksp__fail(WKSP_E_NOMEM, "store: no memory");
  }
  *locked = (folder_locked_t){.folder.fd = fd, .lock_fd = -1};
  wksp_ckpt_io_t io = {.self = locked,
                       .open = folder_open,
                       .close = folder_close,
                       .pwrite = folder_pwrite,
                       .pread = folder_pread,
                       .size = folder_size,
                       .fsync = folder_fsync,
                       .rename = folder_rename,
                       .unlink = folder_unlink,
                       .fsync_folder = folder_fsync_folder,
                       .list = folder_list,
                       .lock = folder_lock,
                       .unlock = folder_unlock,
                       .write_out = folder_write_out,
                       .end = folder_end};
  int err = wksp_ckpt_store_open_io(&io, ret_store);
  if (err) folder_end(locked);
  return err;
}

int wksp_ckpt_store_open_at(int folder_fd, wksp_ckpt_store_t **ret_store) {
  int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return wksp__ck_io_fail(-errno, "open the folder", "descriptor");
  return open_owned(fd, ret_store);
}

int wksp_ckpt_store_open(char const *path, wksp_ckpt_store_t **ret_store) {
  if (!path || !ret_store) return wksp__fail(WKSP_E_INVAL, "store: path or ret_store is NULL");
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return wksp__ck_io_fail(-errno, "open the folder", path);
  return open_owned(fd, ret_store);
}
