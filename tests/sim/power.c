/* power: see power.h. */

#include "power.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define FD_MAX    1024
#define NAME_SIZE 64
#define NAMES_MAX 256
#define NO_FILE   SIZE_MAX

/* Folders: the recorded one, and the one in it. */
enum { TOP = 0, SPECS, FOLDERS };

enum call_kind { CALL_NAME = 1, CALL_UNNAME, CALL_RENAME, CALL_WRITE, CALL_SYNC, CALL_SYNC_FOLDER };

typedef struct call {
  int kind;
  int folder;
  size_t file; /* NAME, RENAME: what the name is of; WRITE, SYNC; NO_FILE: the folder SPECS */
  char name[NAME_SIZE], to[NAME_SIZE];
  char *bytes;
  size_t len;
} call_t;

typedef struct names {
  struct {
    char name[NAME_SIZE];
    size_t file;
  } items[NAMES_MAX];
  size_t cnt;
} names_t;

struct power {
  char folder[128];
  int on;
  call_t *calls;
  size_t cnt, cap, file_cnt;
  names_t now[FOLDERS];
  struct {
    int folder; /* 1 + TOP or SPECS; 0: none of these */
    size_t file;
  } fds[FD_MAX];
};

static power_t *recording;

int __real_openat64(int at, char const *name, int flags, ...);
ssize_t __real_write(int fd, void const *bytes, size_t len);
int __real_fsync(int fd);
int __real_renameat(int from_at, char const *from, int to_at, char const *to);
int __real_unlinkat(int at, char const *name, int flags);
int __real_mkdirat(int at, char const *name, mode_t mode);
int __real_close(int fd);
int __wrap_openat64(int at, char const *name, int flags, ...);
ssize_t __wrap_write(int fd, void const *bytes, size_t len);
int __wrap_fsync(int fd);
int __wrap_renameat(int from_at, char const *from, int to_at, char const *to);
int __wrap_unlinkat(int at, char const *name, int flags);
int __wrap_mkdirat(int at, char const *name, mode_t mode);
int __wrap_close(int fd);

/* Names
 * ------------------------------------------------------------------------------------------------
 */

static size_t names_find(names_t const *names, char const *name) {
  size_t i = 0;
  while (i < names->cnt && strcmp(names->items[i].name, name) != 0) i++;
  return i;
}

static void names_drop(names_t *names, char const *name) {
  size_t i = names_find(names, name);
  if (i < names->cnt) names->items[i] = names->items[--names->cnt];
}

static void names_put(names_t *names, char const *name, size_t file) {
  size_t i = names_find(names, name);
  assert_true(i < NAMES_MAX);
  if (i == names->cnt) names->cnt++;
  snprintf(names->items[i].name, NAME_SIZE, "%s", name);
  names->items[i].file = file;
}

static void names_apply(names_t *names, call_t const *call) {
  if (call->kind != CALL_NAME) names_drop(names, call->name);
  if (call->kind == CALL_NAME) names_put(names, call->name, call->file);
  if (call->kind == CALL_RENAME) names_put(names, call->to, call->file);
}

/* Recording
 * ------------------------------------------------------------------------------------------------
 */

static call_t *record(int kind) {
  power_t *power = recording;
  if (power->cnt == power->cap) {
    power->cap = power->cap ? power->cap * 2 : 256;
    power->calls = realloc(power->calls, power->cap * sizeof(*power->calls));
    assert_non_null(power->calls);
  }
  call_t *call = &power->calls[power->cnt++];
  memset(call, 0, sizeof(*call));
  call->kind = kind;
  return call;
}

/* -1: not one of ours, or nothing is recorded. */
static int folder_of(int fd) {
  if (!recording || !recording->on || fd < 0 || fd >= FD_MAX) return -1;
  return recording->fds[fd].folder - 1;
}

static size_t file_of(int fd) {
  if (!recording || !recording->on || fd < 0 || fd >= FD_MAX) return NO_FILE;
  return recording->fds[fd].file;
}

static void change_name(int kind, int folder, char const *name, char const *to, size_t file) {
  call_t *call = record(kind);
  call->folder = folder;
  call->file = file;
  snprintf(call->name, NAME_SIZE, "%s", name);
  if (to) snprintf(call->to, NAME_SIZE, "%s", to);
  names_apply(&recording->now[folder], call);
}

static void opened(int fd, int at, char const *name, int flags) {
  power_t *power = recording;
  int folder = folder_of(at);
  if (!power || !power->on || fd < 0) return;
  assert_true(fd < FD_MAX);
  power->fds[fd].folder = 0;
  power->fds[fd].file = NO_FILE;
  if (!strcmp(name, power->folder)) power->fds[fd].folder = 1 + TOP;
  if (folder == TOP && !strcmp(name, "specs")) power->fds[fd].folder = 1 + SPECS;
  if (folder >= 0 && !strcmp(name, ".")) power->fds[fd].folder = 1 + folder;
  if (folder < 0 || power->fds[fd].folder) return;
  size_t i = names_find(&power->now[folder], name);
  if (i == power->now[folder].cnt) {
    assert_true(flags & O_CREAT);
    change_name(CALL_NAME, folder, name, NULL, power->file_cnt++);
  } else {
    assert_false(flags & O_TRUNC); /* a temporary file that was left: not where nothing fails */
  }
  power->fds[fd].file = power->now[folder].items[names_find(&power->now[folder], name)].file;
}

int __wrap_openat64(int at, char const *name, int flags, ...) {
  va_list args;
  va_start(args, flags);
  mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
  va_end(args);
  int fd = __real_openat64(at, name, flags, mode);
  opened(fd, at, name, flags);
  return fd;
}

ssize_t __wrap_write(int fd, void const *bytes, size_t len) {
  ssize_t n = __real_write(fd, bytes, len);
  if (n <= 0 || file_of(fd) == NO_FILE) return n;
  call_t *call = record(CALL_WRITE);
  call->file = file_of(fd);
  call->len = (size_t)n;
  call->bytes = malloc(call->len);
  assert_non_null(call->bytes);
  memcpy(call->bytes, bytes, call->len);
  return n;
}

int __wrap_fsync(int fd) {
  int bad = __real_fsync(fd);
  if (bad) return bad;
  if (folder_of(fd) >= 0)
    record(CALL_SYNC_FOLDER)->folder = folder_of(fd);
  else if (file_of(fd) != NO_FILE)
    record(CALL_SYNC)->file = file_of(fd);
  return 0;
}

int __wrap_renameat(int from_at, char const *from, int to_at, char const *to) {
  int bad = __real_renameat(from_at, from, to_at, to), folder = folder_of(from_at);
  if (bad || folder < 0) return bad;
  names_t const *now = &recording->now[folder];
  assert_int_equal(folder_of(to_at), folder);
  assert_true(names_find(now, from) < now->cnt);
  change_name(CALL_RENAME, folder, from, to, now->items[names_find(now, from)].file);
  return 0;
}

int __wrap_unlinkat(int at, char const *name, int flags) {
  int bad = __real_unlinkat(at, name, flags);
  if (!bad && folder_of(at) >= 0) change_name(CALL_UNNAME, folder_of(at), name, NULL, NO_FILE);
  return bad;
}

int __wrap_mkdirat(int at, char const *name, mode_t mode) {
  int bad = __real_mkdirat(at, name, mode);
  if (!bad && folder_of(at) == TOP) change_name(CALL_NAME, TOP, name, NULL, NO_FILE);
  return bad;
}

int __wrap_close(int fd) {
  if (recording && fd >= 0 && fd < FD_MAX) {
    recording->fds[fd].folder = 0;
    recording->fds[fd].file = NO_FILE;
  }
  return __real_close(fd);
}

power_t *power_new(char const *folder) {
  power_t *power = calloc(1, sizeof(*power));
  assert_non_null(power);
  snprintf(power->folder, sizeof(power->folder), "%s", folder);
  for (int fd = 0; fd < FD_MAX; fd++) power->fds[fd].file = NO_FILE;
  power->on = 1;
  recording = power;
  return power;
}

void power_stop(power_t *power) {
  power->on = 0;
}

size_t power_cnt(power_t const *power) {
  return power->cnt;
}

char const *power_call(power_t const *power, size_t cnt) {
  static char text[3 * NAME_SIZE];
  static char const *const kinds[] = {"",      "open",  "unlink",         "rename",
                                      "write", "fsync", "fsync of folder"};
  if (!cnt) return "nothing";
  call_t const *call = &power->calls[cnt - 1];
  snprintf(text, sizeof(text), "%s %s %s", kinds[call->kind], call->name, call->to);
  return text;
}

void power_free(power_t *power) {
  for (size_t i = 0; i < power->cnt; i++) free(power->calls[i].bytes);
  free(power->calls);
  recording = NULL;
  free(power);
}

/* Failing
 * ------------------------------------------------------------------------------------------------
 */

static uint64_t draw(uint64_t *random) {
  *random = *random * 6364136223846793005UL + 1442695040888963407UL;
  return *random >> 33;
}

static void empty_folder(char const *path) {
  char inner[256];
  struct dirent const *entry;
  DIR *dir = opendir(path);
  if (!dir) return;
  while ((entry = readdir(dir))) {
    snprintf(inner, sizeof(inner), "%.120s/%.120s", path, entry->d_name);
    if (entry->d_name[0] == '.') continue;
    if (unlink(inner)) {
      empty_folder(inner);
      assert_int_equal(rmdir(inner), 0);
    }
  }
  closedir(dir);
}

/* What is found of a file: up to synced for certain, of the rest as much as it happens. */
static void make_file(power_t const *power, size_t cnt, size_t file, int how, uint64_t *random,
                      char const *path) {
  static char content[65536];
  size_t len = 0, synced = 0;
  for (size_t i = 0; i < cnt; i++) {
    call_t const *call = &power->calls[i];
    if (call->file != file) continue;
    if (call->kind == CALL_SYNC) synced = len;
    if (call->kind != CALL_WRITE) continue;
    assert_true(len + call->len <= sizeof(content));
    memcpy(content + len, call->bytes, call->len);
    len += call->len;
  }
  if (how == POWER_GONE) len = synced;
  if (how == POWER_MIXED && len > synced) {
    if (draw(random) % 2) memset(content + synced, 0, len - synced);
    len = synced + draw(random) % (len - synced + 1);
  }
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  assert_true(fd >= 0);
  assert_int_equal(__real_write(fd, content, len), len);
  __real_close(fd);
}

void power_fail(power_t const *power, size_t cnt, int how, uint64_t *random, char const *to) {
  names_t found[FOLDERS];
  char path[256];
  memset(found, 0, sizeof(found));
  assert_true(cnt <= power->cnt);
  for (int folder = 0; folder < FOLDERS; folder++) {
    size_t durable = 0;
    for (size_t i = 0; i < cnt; i++) {
      if (power->calls[i].kind == CALL_SYNC_FOLDER && power->calls[i].folder == folder) durable = i;
    }
    for (size_t i = 0; i < cnt; i++) {
      call_t const *call = &power->calls[i];
      if (call->kind > CALL_RENAME || call->folder != folder) continue;
      int lost = how == POWER_GONE || (how == POWER_MIXED && draw(random) % 2);
      if (i < durable || !lost) names_apply(&found[folder], call);
    }
  }
  empty_folder(to);
  int specs = 0;
  for (size_t i = 0; i < found[TOP].cnt; i++) {
    snprintf(path, sizeof(path), "%.120s/%.63s", to, found[TOP].items[i].name);
    if (found[TOP].items[i].file != NO_FILE) {
      make_file(power, cnt, found[TOP].items[i].file, how, random, path);
      continue;
    }
    assert_int_equal(mkdir(path, 0700), 0);
    specs = 1;
  }
  for (size_t i = 0; specs && i < found[SPECS].cnt; i++) {
    snprintf(path, sizeof(path), "%.120s/specs/%.63s", to, found[SPECS].items[i].name);
    make_file(power, cnt, found[SPECS].items[i].file, how, random, path);
  }
}
