/* The problem: an operator writes down which workspaces there are to be, and makes mistakes.

   The model: a file each, named after the workspace. Ranges are checked here as far as a file alone
   can be wrong; what the machine cannot do is for the engine to say when it is asked.

   Refuses: keys that do nothing yet, sizes without a meaning. */

#include "daemon/shell/declared.h"

#include "daemon/core/placement.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  KEY_SIZE = 0,
  KEY_MAX_SIZE,
  KEY_PAGE_SIZE,
  KEY_MODE,
  KEY_OWNER,
  KEY_GROUP,
  KEY_SEED,
  KEY_PART_MAX,
  KEY_NUMA,
  KEY_PREFERRED,
  KEY_TAG,
  KEYS
};

static char const *const keys[KEYS] = {"size",  "max_size",  "page_size", "mode",
                                       "owner", "group",     "seed",      "part_max",
                                       "numa",  "preferred", "tag"};

typedef struct reader {
  declared_t *declared;
  unsigned seen[KEYS], seen_ckpt[DECLARED_CKPT_KEYS];
} reader_t;

/* A number in the base up to max: digits alone. 1 or 0. */
static int number(char const *text, int base, uint64_t max, uint64_t *ret) {
  char *end;
  errno = 0;
  if (text[0] < '0' || text[0] > '9') return 0;
  uint64_t value = strtoull(text, &end, base);
  if (errno || *end || value > max) return 0;
  *ret = value;
  return 1;
}

/* Bytes, with k, M, G or T for powers of 1,024. */
int declared_bytes(char const *text, uint64_t *ret) {
  static char const units[] = "kMGT";
  char digits[32];
  size_t len = strlen(text);
  if (!len || len >= sizeof digits) return 0;
  memcpy(digits, text, len + 1);
  char const *unit = strchr(units, digits[len - 1]);
  if (unit && len > 1) digits[len - 1] = '\0';
  uint64_t value;
  if (!number(digits, 10, SPEC_SIZE_MAX, &value)) return 0;
  if (unit && __builtin_mul_overflow(value, 1UL << (10 * (unit - units + 1)), &value)) return 0;
  if (!value || value > SPEC_SIZE_MAX) return 0;
  *ret = value;
  return 1;
}

static int page_of(char const *text, uint64_t *ret) {
  static struct {
    char const *text;
    uint64_t size;
  } const pages[] = {{"auto", 0},
                     {"4k", 4096},
                     {"4096", 4096},
                     {"2M", 2097152},
                     {"2097152", 2097152},
                     {"1G", 1073741824},
                     {"1073741824", 1073741824}};
  for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
    if (strcmp(pages[i].text, text) != 0) continue;
    *ret = pages[i].size;
    return 1;
  }
  return 0;
}

/* Which nodes there are is for the engine to say. */
static int numa_of(char const *text, char ret_numa[SPEC_NUMA_MAX + 1]) {
  place_ask_t ask;
  place_fail_t fail;
  if (!text[0] || place_parse(text, &ask, &fail)) return 0;
  snprintf(ret_numa, SPEC_NUMA_MAX + 1, "%s", text);
  return 1;
}

static int u32_of(char const *text, int base, uint64_t max, uint32_t *ret) {
  uint64_t value;
  if (!number(text, base, max, &value)) return 0;
  *ret = (uint32_t)value;
  return 1;
}

/* UINT32_MAX is nobody's id. */
static int owner_of(char const *text, reader_t *reader) {
  struct passwd const *user;
  if (u32_of(text, 10, UINT32_MAX - 1, &reader->declared->uid)) return 1;
  if (!(user = getpwnam(text))) return 0;
  reader->declared->uid = user->pw_uid;
  if (!reader->seen[KEY_GROUP]) reader->declared->gid = user->pw_gid;
  return 1;
}

int declared_group(char const *text, uint32_t *ret_gid) {
  struct group const *group;
  if (u32_of(text, 10, UINT32_MAX - 1, ret_gid)) return 1;
  if (!(group = getgrnam(text))) return 0;
  *ret_gid = group->gr_gid;
  return 1;
}

/* NULL, or what the value should have been. */
static char const *set_key(reader_t *reader, int key, char const *value) {
  declared_t *to = reader->declared;
  uint64_t part_max;
  switch (key) {
  case KEY_SIZE:
    return declared_bytes(value, &to->size) ? NULL : "a size such as 64M, at most 64T";
  case KEY_MAX_SIZE:
    return declared_bytes(value, &to->max_size) ? NULL : "a size such as 1G, at most 64T";
  case KEY_PAGE_SIZE:
    return page_of(value, &to->page_size) ? NULL : "auto, 4k, 2M or 1G";
  case KEY_MODE:
    return u32_of(value, 8, SPEC_MODE_MAX, &to->mode) && to->mode ? NULL
                                                                  : "permission bits, 0001 to 0777";
  case KEY_OWNER:
    return owner_of(value, reader) ? NULL : "a user or uid of this machine";
  case KEY_GROUP:
    return declared_group(value, &to->gid) ? NULL : "a group or gid of this machine";
  case KEY_SEED:
    return u32_of(value, 10, UINT32_MAX, &to->seed) ? NULL : "a number from 0 to 4294967295";
  case KEY_NUMA:
    return numa_of(value, to->numa) ? NULL : "local, 0, 0,1, split:0,1,1 or cpu:0-4:2,10";
  case KEY_PREFERRED:
    to->preferred = !strcmp(value, "yes");
    return to->preferred || !strcmp(value, "no") ? NULL : "yes or no";
  case KEY_TAG:
    if (!value[0] || !spec_tag_ok(value)) return "1 to 31 letters, digits, '_' or '-'";
    memcpy(to->tag, value, strlen(value) + 1);
    return NULL;
  default:
    if (!number(value, 10, SPEC_PART_MAX, &part_max) || part_max < SPEC_PART_MIN)
      return "a number from 8 to 2147483647";
    to->part_max = part_max;
    return NULL;
  }
}

static void on_ckpt_key(confile_t *file, char const *name, char const *value) {
  reader_t *reader = file->arg;
  int number = 0;
  char const *want = declared_ckpt(reader->declared, name, value, &number);
  reader->declared->scheduled = 1;
  if (want == name)
    confile_refuse(file,
                   "unknown key '%.100s' (known: every, jitter, mode, style, keep_last, "
                   "keep_hourly, keep_daily, keep_weekly, keep_monthly, on_stop, on_start, drill)",
                   name);
  else if (want)
    confile_refuse(file, "%s = '%.200s' is not %s", name, value, want);
  else
    confile_twice(file, name, &reader->seen_ckpt[number]);
}

static void on_key(confile_t *file, char const *section, char const *name, char const *value) {
  reader_t *reader = file->arg;
  if (!strcmp(section, "checkpoint")) {
    on_ckpt_key(file, name, value);
    return;
  }
  if (strcmp(section, "workspace")) {
    confile_refuse(file, "unknown section [%.100s] (known: [workspace], [checkpoint])", section);
    return;
  }
  int key = 0;
  while (key < KEYS && strcmp(keys[key], name) != 0) key++;
  if (key == KEYS) {
    confile_refuse(file,
                   "unknown key '%.100s' (known: size, max_size, page_size, mode, owner, group, "
                   "seed, part_max, numa, preferred, tag)",
                   name);
    return;
  }
  char const *want = set_key(reader, key, value);
  if (want)
    confile_refuse(file, "%s = '%.200s' is not %s", name, value, want);
  else
    confile_twice(file, name, &reader->seen[key]);
}

int declared_file(char const *path, char const *name, declared_t *ret_declared, char *ret_error) {
  declared_t declared = {
      .mode = 0660, .how.style = SCHEDULE_STYLE_LZ4, .uid = geteuid(), .gid = getegid()};
  reader_t reader = {.declared = &declared};
  if (!spec_name_ok(name)) {
    snprintf(ret_error, CONFIG_ERROR_MAX,
             "%.700s: '%.60s' is no name of a workspace: 1 to 39 letters, digits, '.', '_' or '-', "
             "the first a letter or digit; rename the file",
             path, name);
    return 2;
  }
  if (confile_read(path, on_key, &reader, ret_error)) return 2;
  snprintf(declared.name, sizeof declared.name, "%s", name);
  if (!declared.size) {
    snprintf(ret_error, CONFIG_ERROR_MAX, "%.700s: size is missing in [workspace]", path);
    return 2;
  }
  if (declared.max_size && declared.max_size < declared.size) {
    snprintf(ret_error, CONFIG_ERROR_MAX,
             "%.700s: max_size of %lu bytes is below the size of %lu bytes", path,
             declared.max_size, declared.size);
    return 2;
  }
  if (!declared.max_size) declared.max_size = declared.size;
  *ret_declared = declared;
  return 0;
}

size_t declared_read(char const *folder, declared_bad_t bad, void *arg, declared_list_t *ret_list) {
  char error[CONFIG_ERROR_MAX], path[CONFIG_PATH_MAX + 512], name[256];
  char **names = NULL;
  size_t cnt = 0, bad_cnt = 0;
  declared_list_t list = {0};
  if (confile_folder(folder, &names, &cnt, error)) {
    bad(arg, error);
    bad_cnt++;
  }
  list.items = calloc(cnt + 1, sizeof *list.items);
  for (size_t i = 0; i < cnt && list.items; i++) {
    snprintf(path, sizeof path, "%s/%s", folder, names[i]);
    snprintf(name, sizeof name, "%.*s", (int)(strlen(names[i]) - strlen(".conf")), names[i]);
    if (!declared_file(path, name, &list.items[list.cnt], error)) {
      list.cnt++;
      continue;
    }
    bad(arg, error);
    bad_cnt++;
  }
  confile_folder_free(names, cnt);
  *ret_list = list;
  return bad_cnt;
}

void declared_free(declared_list_t *list) {
  free(list->items);
  *list = (declared_list_t){0};
}
