/* The problem: what is known of workspaces must survive a kill and a full disk, and one damaged
   file must not take the others with it.

   The model: a file per workspace, written beside its place and renamed into it. Ids are reserved
   in blocks ahead of their use. The lock is a POSIX record lock: it belongs to this process alone,
   goes with it however it ends, and tells who holds it.

   Whoever can write to the folder can make us (root, perhaps) write and remove elsewhere, and tell
   us whose workspaces are whose. So it is ours alone, or not used.

   Refuses: to delete what it cannot read, or what it has not made; folders that others can change.
 */

#include "daemon/shell/store.h"

#include "daemon/core/crc.h"
#include "daemon/shell/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUPERVISOR_LOCK "supervisor.lock"

#define IDS_TEXT_MAX 160

/* Folders above the last that are made: /var/lib/wkspd on a bare system. */
#define FOLDER_DEPTH_MAX 64

/* mkdir, durable: what is put into the folder is of no use if the folder goes. Being there is
 * success. */
static int make_folder(int at, char const *path, mode_t mode) {
  char above[CONFIG_PATH_MAX];
  char const *slash = strrchr(path, '/');
  if (mkdirat(at, path, mode)) return errno != EEXIST;
  size_t len = slash ? (size_t)(slash - path) : 0;
  snprintf(above, sizeof above, "%.*s", (int)len, path);
  int fd = openat(at, len ? above : slash ? "/" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int bad = fd < 0 || fsync(fd), err = errno;
  if (fd >= 0) close(fd);
  errno = err;
  return bad;
}

static int make_folders(char const *path) {
  char part[CONFIG_PATH_MAX];
  size_t len = strlen(path);
  if (!len || len >= sizeof part) {
    errno = ENAMETOOLONG;
    return 1;
  }
  memcpy(part, path, len + 1);
  int depth = 0;
  for (size_t i = 1; i < len && depth < FOLDER_DEPTH_MAX; i++) {
    if (part[i] != '/') continue;
    part[i] = '\0';
    if (make_folder(AT_FDCWD, part, 0755)) return 1;
    part[i] = '/';
    depth++;
  }
  return make_folder(AT_FDCWD, part, 0700);
}

/* Ids
 * -----------------------------------------------------------------------------------------------
 */

static int ids_text(uint64_t ws, uint64_t lease, char ret_text[IDS_TEXT_MAX]) {
  int len = snprintf(ret_text, IDS_TEXT_MAX, "wkspd-ids=2\nws=%lu\nlease=%lu\n", ws, lease);
  return len + snprintf(ret_text + len, IDS_TEXT_MAX - (size_t)len, "crc=%08x\n",
                        crc_of(ret_text, (size_t)len));
}

int store_ids_put(store_t const *store, uint64_t ws_id, uint64_t lease_id) {
  char text[IDS_TEXT_MAX];
  char const *call;
  int len = ids_text(ws_id, lease_id, text);
  return file_put(store->dir_fd, "ids", text, (size_t)len, &call);
}

uint64_t store_ids_block(uint64_t reserved, uint64_t id, uint64_t block) {
  return id > reserved ? id + block : reserved;
}

int store_ids_cover(store_t *store, uint64_t ws_id, uint64_t lease_id) {
  uint64_t ws = store_ids_block(store->ws_reserved, ws_id, STORE_WS_BLOCK);
  uint64_t lease = store_ids_block(store->lease_reserved, lease_id, STORE_LEASE_BLOCK);
  if (ws == store->ws_reserved && lease == store->lease_reserved) return 0;
  int err = store_ids_put(store, ws, lease);
  if (err) return err;
  store->ws_reserved = ws;
  store->lease_reserved = lease;
  return 0;
}

/* 1 and both numbers if text is one that store_ids_put writes, or version 1, which had no checksum.
 */
static int read_ids(char const *text, uint64_t *ret_ws, uint64_t *ret_lease) {
  uint64_t ws, lease;
  char again[IDS_TEXT_MAX];
  if (sscanf(text, "wkspd-ids=2\nws=%lu\nlease=%lu\n", &ws, &lease) == 2)
    ids_text(ws, lease, again);
  else if (sscanf(text, "wkspd-ids=1\nws=%lu\nlease=%lu\n", &ws, &lease) == 2)
    snprintf(again, sizeof again, "wkspd-ids=1\nws=%lu\nlease=%lu\n", ws, lease);
  else
    return 0;
  if (strcmp(again, text) != 0) return 0; /* there is one spelling */
  *ret_ws = ws;
  *ret_lease = lease;
  return 1;
}

/* What is damaged is set aside: the daemon goes on above everything that it finds. 0, or errno: it
   cannot be read now. */
static int get_ids(store_t *store) {
  char text[IDS_TEXT_MAX];
  ssize_t n = file_get(store->dir_fd, "ids", text, sizeof text);
  if (n >= 0 && strlen(text) == (size_t)n &&
      read_ids(text, &store->ws_reserved, &store->lease_reserved))
    return 0;
  if (n < 0 && file_short(errno)) return errno;
  store->ids_lost = n < 0 && errno == ENOENT ? STORE_IDS_NONE : STORE_IDS_DAMAGED;
  if (store->ids_lost == STORE_IDS_DAMAGED)
    renameat(store->dir_fd, "ids", store->dir_fd, "ids.bad");
  return 0;
}

/* The folder
 * ---------------------------------------------------------------------------------------- */

/* Opens and locks a file of the folder; ret_fd is the caller's to close in any case. 0, or 1 and a
 * sentence. */
static int lock_file(store_t const *store, char const *name, int *ret_fd, char *error) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  *ret_fd = openat(store->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (*ret_fd < 0) {
    snprintf(error, CONFIG_ERROR_MAX, "the state folder '%.900s' is not writable: %s", store->path,
             strerror(errno));
    return 1;
  }
  if (!fcntl(*ret_fd, F_SETLK, &lock)) return 0;
  int err = errno;
  if (fcntl(*ret_fd, F_GETLK, &lock)) lock.l_pid = 0;
  if (err == EACCES || err == EAGAIN) {
    snprintf(error, CONFIG_ERROR_MAX,
             "the state folder '%.800s' is in use by process %d: stop it, or give another "
             "--state-dir",
             store->path, (int)lock.l_pid);
  } else {
    snprintf(error, CONFIG_ERROR_MAX, "cannot lock the state folder '%.900s': %s", store->path,
             strerror(err));
  }
  return 1;
}

/* 0 if no supervisor keeps the folder, or the one that started us; else 1 and a sentence. */
static int check_supervisor(store_t const *store, char *error) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int fd = openat(store->dir_fd, SUPERVISOR_LOCK, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0 && errno == ENOENT) return 0;
  int bad = fd < 0 || fcntl(fd, F_GETLK, &lock), err = errno;
  if (fd >= 0) close(fd);
  if (bad) {
    snprintf(error, CONFIG_ERROR_MAX, "cannot look at '%.900s/" SUPERVISOR_LOCK "': %s",
             store->path, strerror(err));
    return 1;
  }
  if (lock.l_type == F_UNLCK || (lock.l_pid && lock.l_pid == getppid())) return 0;
  snprintf(error, CONFIG_ERROR_MAX,
           "the state folder '%.800s' is in use by process %d, a supervisor that keeps its memory: "
           "stop it, or give another --state-dir",
           store->path, (int)lock.l_pid);
  return 1;
}

static int take_lock(store_t *store, char *error) {
  return lock_file(store, "lock", &store->lock_fd, error) || check_supervisor(store, error);
}

/* A folder that is ours alone, not through a link in its last place. -1 and a sentence. */
static int open_folder(int at, char const *name, char const *shown, char *error) {
  struct stat st;
  int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) {
    int err = errno;
    if (!fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISLNK(st.st_mode)) {
      snprintf(error, CONFIG_ERROR_MAX,
               "the state folder '%.800s' is a symbolic link, which is not followed: give the "
               "folder itself, or remove the link",
               shown);
    } else {
      snprintf(error, CONFIG_ERROR_MAX, "cannot open the state folder '%.900s': %s", shown,
               strerror(err));
    }
    return -1;
  }
  if (fstat(fd, &st)) {
    snprintf(error, CONFIG_ERROR_MAX, "cannot look at the state folder '%.900s': %s", shown,
             strerror(errno));
  } else if (st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH)) {
    snprintf(error, CONFIG_ERROR_MAX,
             "the state folder '%.700s' belongs to uid %u and has mode %04o, but only the user of "
             "this daemon (uid %u) may own it and write to it: chown and chmod go-w it if its "
             "content can be trusted, or give another --state-dir",
             shown, st.st_uid, st.st_mode & 07777, geteuid());
  } else {
    return fd;
  }
  close(fd);
  return -1;
}

/* Makes and opens the folder itself. 0, or 1 and a sentence. */
static int open_dir(store_t *store, char const *path, char *error) {
  snprintf(store->path, sizeof store->path, "%s", path);
  /* what ends in '/' would follow a link */
  for (size_t len = strlen(store->path); len > 1 && store->path[len - 1] == '/'; len--) {
    store->path[len - 1] = '\0';
  }
  if (make_folders(store->path)) {
    snprintf(error, CONFIG_ERROR_MAX, "cannot make the state folder '%.900s': %s", store->path,
             strerror(errno));
    return 1;
  }
  store->dir_fd = open_folder(AT_FDCWD, store->path, store->path, error);
  return store->dir_fd < 0;
}

int store_supervise(char const *path, int *ret_lock_fd, char *error) {
  store_t store = STORE_NONE;
  int fd = -1;
  int bad = open_dir(&store, path, error) || lock_file(&store, SUPERVISOR_LOCK, &fd, error);
  store_close(&store);
  if (!bad)
    *ret_lock_fd = fd;
  else if (fd >= 0)
    close(fd);
  return bad;
}

/* A folder of ours in the folder, made if it is not there. 0, or 1 and a sentence. */
static int open_below(store_t const *store, char const *name, int *ret_fd, char *error) {
  char shown[CONFIG_PATH_MAX + 16];
  snprintf(shown, sizeof shown, "%s/%s", store->path, name);
  if (make_folder(store->dir_fd, name, 0700)) {
    snprintf(error, CONFIG_ERROR_MAX, "cannot make the folder '%.900s': %s", shown,
             strerror(errno));
    return 1;
  }
  *ret_fd = open_folder(store->dir_fd, name, shown, error);
  return *ret_fd < 0;
}

int store_open(store_t *ret_store, char const *path, char *error) {
  store_t store = STORE_NONE;
  char specs[CONFIG_PATH_MAX + 8];
  if (open_dir(&store, path, error)) return 1;
  path = store.path;
  if (take_lock(&store, error)) goto fail;
  if (make_folder(store.dir_fd, "specs", 0700)) goto fail_errno;
  snprintf(specs, sizeof specs, "%s/specs", path);
  store.specs_fd = open_folder(store.dir_fd, "specs", specs, error);
  if (store.specs_fd < 0) goto fail;
  if (faccessat(store.specs_fd, ".", W_OK | X_OK, AT_EACCESS)) goto fail_errno;
  if (open_below(&store, "schedules", &store.schedules_fd, error) ||
      open_below(&store, "checkpoints", &store.ckpts_fd, error))
    goto fail;
  int err = get_ids(&store);
  if (err) {
    snprintf(error, CONFIG_ERROR_MAX, "cannot read '%.900s/ids': %s", path, strerror(err));
    goto fail;
  }
  *ret_store = store;
  return 0;

fail_errno:
  snprintf(error, CONFIG_ERROR_MAX, "the state folder '%.900s' is not writable: %s", path,
           strerror(errno));
fail:
  store_close(&store);
  return 1;
}

void store_close(store_t *store) {
  if (store->specs_fd >= 0) close(store->specs_fd);
  if (store->schedules_fd >= 0) close(store->schedules_fd);
  if (store->ckpts_fd >= 0) close(store->ckpts_fd);
  if (store->dir_fd >= 0) close(store->dir_fd);
  if (store->lock_fd >= 0) close(store->lock_fd);
  *store = STORE_NONE;
}

/* Specs
 * --------------------------------------------------------------------------------------------- */

int store_put(store_t const *store, spec_t const *spec, char *ret_detail) {
  char text[SPEC_TEXT_MAX], name[FILE_NAME_MAX];
  char const *call = "encode";
  snprintf(name, sizeof name, "%lu.spec", spec->ws_id);
  int len = spec_encode(spec, text);
  int err = len < 0 ? EINVAL : file_put(store->specs_fd, name, text, (size_t)len, &call);
  if (err) {
    snprintf(ret_detail, STORE_DETAIL_MAX, "%s %s/specs/%s: %s", call, store->path, name,
             strerror(err));
  }
  return err;
}

int store_remove(store_t const *store, uint64_t ws_id, char *ret_detail) {
  static char const *const suffix[] = {"spec", "bad"};
  char name[FILE_NAME_MAX];
  char const *call = "unlink";
  int err = 0, gone = 0;
  for (int i = 0; i < 2 && !err; i++) {
    snprintf(name, sizeof name, "%lu.%s", ws_id, suffix[i]);
    if (!unlinkat(store->specs_fd, name, 0))
      gone = 1;
    else if (errno != ENOENT)
      err = errno;
  }
  if (!err && gone && fsync(store->specs_fd)) {
    call = "fsync of the folder of";
    err = errno;
  }
  if (err) {
    snprintf(ret_detail, STORE_DETAIL_MAX, "%s %s/specs/%s: %s", call, store->path, name,
             strerror(err));
  }
  return err;
}

/* "<id>.<suffix>" as we write it: its id, else 0. */
static uint64_t id_of(char const *name, char const *suffix) {
  char again[FILE_NAME_MAX];
  if (name[0] < '1' || name[0] > '9') return 0;
  uint64_t id = strtoull(name, NULL, 10);
  snprintf(again, sizeof again, "%lu.%s", id, suffix);
  return strcmp(again, name) ? 0 : id;
}

/* 0, or errno: what is not damaged, but cannot be read now, is not set aside. */
static int tell(store_t const *store, char const *name, uint64_t id, store_each_t each, void *arg) {
  char text[SPEC_TEXT_MAX + 1], bad[FILE_NAME_MAX];
  spec_t spec;
  int line = 0;
  ssize_t len = file_get(store->specs_fd, name, text, sizeof text);
  if (len >= 0)
    line = spec_decode(text, (size_t)len, &spec);
  else if (file_short(errno))
    return errno;
  if (len >= 0 && !line && spec.ws_id == id) {
    each(arg, id, &spec, 0);
    return 0;
  }
  snprintf(bad, sizeof bad, "%lu.bad", id);
  renameat(store->specs_fd, name, store->specs_fd, bad);
  each(arg, id, NULL, line);
  return 0;
}

/* A walk over specs/ of its own; NULL and errno. */
static DIR *open_specs(store_t const *store) {
  int fd = openat(store->specs_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  if (!dir && fd >= 0) {
    int err = errno;
    close(fd);
    errno = err;
  }
  return dir;
}

int store_each(store_t const *store, store_each_t each, void *arg) {
  DIR *dir = open_specs(store);
  if (!dir) return errno;
  struct dirent *entry;
  int err = 0;
  while (!err && (errno = 0, (entry = readdir(dir)))) {
    uint64_t id = id_of(entry->d_name, "spec");
    if (id)
      err = tell(store, entry->d_name, id, each, arg);
    else if (id_of(entry->d_name, "spec" FILE_TEMP_SUFFIX))
      unlinkat(store->specs_fd, entry->d_name, 0);
  }
  if (!err) err = errno;
  closedir(dir);
  return err;
}

/* Lost specs
 * ---------------------------------------------------------------------------------------- */

typedef struct lost {
  uint64_t id;
  struct timespec when; /* of the renaming */
} lost_t;

int store_lose(store_t const *store, uint64_t ws_id, char *ret_detail) {
  char name[FILE_NAME_MAX], lost[FILE_NAME_MAX];
  snprintf(name, sizeof name, "%lu.spec", ws_id);
  snprintf(lost, sizeof lost, "%lu.lost", ws_id);
  if (!renameat(store->specs_fd, name, store->specs_fd, lost)) return 0;
  int err = errno;
  snprintf(ret_detail, STORE_DETAIL_MAX, "rename %s/specs/%s to %s: %s", store->path, name, lost,
           strerror(err));
  return err;
}

/* Latest first. */
static int lost_order(void const *a, void const *b) {
  lost_t const *x = a, *y = b;
  if (x->when.tv_sec != y->when.tv_sec) return x->when.tv_sec < y->when.tv_sec ? 1 : -1;
  if (x->when.tv_nsec != y->when.tv_nsec) return x->when.tv_nsec < y->when.tv_nsec ? 1 : -1;
  return x->id < y->id ? 1 : x->id > y->id ? -1 : 0;
}

/* All lost specs; 0 or errno. */
static int lost_list(store_t const *store, lost_t **ret_list, size_t *ret_cnt) {
  lost_t *list = NULL;
  size_t cnt = 0, cap = 0;
  int err = 0;
  struct dirent *entry;
  DIR *dir = open_specs(store);
  if (!dir) return errno;
  while (!err && (errno = 0, entry = readdir(dir))) {
    struct stat st;
    uint64_t id = id_of(entry->d_name, "lost");
    if (!id || fstatat(store->specs_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW)) continue;
    if (cnt == cap) {
      cap = cap ? cap * 2 : 2UL * STORE_LOST_MAX;
      lost_t *moved = reallocarray(list, cap, sizeof *list);
      if (!moved) {
        err = ENOMEM;
        continue;
      }
      list = moved;
    }
    list[cnt++] = (lost_t){id, st.st_ctim};
  }
  if (!err) err = errno;
  closedir(dir);
  *ret_list = list;
  *ret_cnt = cnt;
  return err;
}

int store_lost_end(store_t const *store, char *ret_detail) {
  lost_t *list = NULL;
  size_t cnt = 0;
  char name[FILE_NAME_MAX];
  char const *call = "list";
  int err = lost_list(store, &list, &cnt);
  if (!err && cnt) qsort(list, cnt, sizeof *list, lost_order);
  for (size_t i = STORE_LOST_MAX; i < cnt && !err; i++) {
    snprintf(name, sizeof name, "%lu.lost", list[i].id);
    if (unlinkat(store->specs_fd, name, 0)) {
      call = "unlink in";
      err = errno;
    }
  }
  free(list);
  if (!err && fsync(store->specs_fd)) {
    call = "fsync";
    err = errno;
  }
  if (err) {
    snprintf(ret_detail, STORE_DETAIL_MAX, "%s %s/specs: %s", call, store->path, strerror(err));
  }
  return err;
}
