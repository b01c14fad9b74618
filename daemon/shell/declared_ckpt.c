/* The problem: when a declared workspace is checkpointed stands in its file too.

   The model: the section [checkpoint], key by key, in the words of wkspctl schedule. Ranges that
   hold for all schedules are the engine's to check.

   Refuses: times without a unit. */

#include "daemon/shell/declared.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
  KEY_EVERY = 0,
  KEY_JITTER,
  KEY_MODE,
  KEY_STYLE,
  KEY_KEEP_LAST,
  KEY_KEEP_HOURLY,
  KEY_KEEP_DAILY,
  KEY_KEEP_WEEKLY,
  KEY_KEEP_MONTHLY,
  KEY_ON_STOP,
  KEY_ON_START,
  KEY_DRILL,
  KEYS
};
_Static_assert((int)KEYS == DECLARED_CKPT_KEYS, "whoever counts them counts all");

static char const *const keys[KEYS] = {"every",        "jitter",      "mode",       "style",
                                       "keep_last",    "keep_hourly", "keep_daily", "keep_weekly",
                                       "keep_monthly", "on_stop",     "on_start",   "drill"};

/* Which of the words it is; -1: none. */
static int word_of(char const *text, char const *const *words, int cnt) {
  int i = 0;
  while (i < cnt && strcmp(words[i], text) != 0) i++;
  return i < cnt ? i : -1;
}

static int put_word(char const *text, char const *const *words, int cnt, int *ret) {
  int word = word_of(text, words, cnt);
  if (word < 0) return 0;
  *ret = word;
  return 1;
}

static int span_of(char const *text, uint64_t *ret_ns) {
  static char const units[] = "smhdw";
  static uint64_t const seconds[] = {1, 60, 3600, 86400, 604800};
  char *end;
  if (!strcmp(text, "never")) {
    *ret_ns = 0;
    return 1;
  }
  errno = 0;
  if (text[0] < '0' || text[0] > '9') return 0;
  uint64_t value = strtoull(text, &end, 10);
  char const *unit = *end ? strchr(units, *end) : NULL;
  if (errno || !unit || end[1]) return 0;
  return !__builtin_mul_overflow(value, seconds[unit - units] * 1000000000UL, ret_ns);
}

static int style_of(char const *text, schedule_how_t *how) {
  static char const *const styles[] = {"raw", "lz4", "zstd"};
  char *end;
  int level = 0;
  if (!strncmp(text, "zstd:", 5)) {
    level = (int)strtol(text + 5, &end, 10);
    if (end == text + 5 || *end || !level || level < -7 || level > 19) return 0;
    text = "zstd";
  }
  int style = word_of(text, styles, 3);
  if (style < 0) return 0;
  how->style = style;
  how->level = level;
  return 1;
}

static int count_of(char const *text, uint32_t *ret) {
  char *end;
  if (text[0] < '0' || text[0] > '9') return 0;
  unsigned long value = strtoul(text, &end, 10);
  if (*end || value > SCHEDULE_KEEP_MAX) return 0;
  *ret = (uint32_t)value;
  return 1;
}

char const *declared_ckpt(declared_t *declared, char const *name, char const *value,
                          int *ret_number) {
  static char const *const modes[] = {"fuzzy", "quiesce"};
  static char const *const stops[] = {"nothing", "checkpoint"};
  static char const *const starts[] = {"empty", "restore", "none"};
  schedule_keep_t *keep = &declared->keep;
  uint32_t *const counts[] = {&keep->last, &keep->hourly, &keep->daily, &keep->weekly,
                              &keep->monthly};
  int key = word_of(name, keys, KEYS);
  if (key < 0) return name;
  *ret_number = key;
  switch (key) {
  case KEY_EVERY:
    return span_of(value, &declared->every_ns) ? NULL : "a time such as 5m, 1h, 1d, or never";
  case KEY_JITTER:
    return span_of(value, &declared->jitter_ns) ? NULL : "a time such as 30s";
  case KEY_MODE:
    return put_word(value, modes, 2, &declared->how.mode) ? NULL : "fuzzy or quiesce";
  case KEY_STYLE:
    return style_of(value, &declared->how) ? NULL
                                           : "raw, lz4, zstd, or zstd:LEVEL with a level from -7 "
                                             "to 19, not 0";
  case KEY_ON_STOP:
    return put_word(value, stops, 2, &declared->on_stop) ? NULL : "checkpoint or nothing";
  case KEY_ON_START:
    return put_word(value, starts, 3, &declared->on_start) ? NULL : "empty, restore or none";
  case KEY_DRILL:
    return span_of(value, &declared->drill_ns) ? NULL : "a time such as 1d, 1w, or never";
  default:
    return count_of(value, counts[key - KEY_KEEP_LAST]) ? NULL : "a number from 0 to 100000";
  }
}
