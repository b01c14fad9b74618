/* schedule: see schedule.h. The text is read leniently and then written again: what does not come
   out as the same bytes is refused, so there is one text for each schedule and the checksum covers
   all of it. Refuses to know a clock, a workspace, or what a checkpoint is. */

#include "daemon/core/schedule.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/crc.h"
#include "wksp/error.h"

#define MAGIC "wkspd-schedule=1\n"

/* The shift of a back-off: more doublings than any interval has room for below the bound. */
#define DOUBLINGS_MAX 20U

static int keep_ok(schedule_keep_t const *keep) {
  return keep->last <= SCHEDULE_KEEP_MAX && keep->hourly <= SCHEDULE_KEEP_MAX &&
         keep->daily <= SCHEDULE_KEEP_MAX && keep->weekly <= SCHEDULE_KEEP_MAX &&
         keep->monthly <= SCHEDULE_KEEP_MAX;
}

static int runs_ok(schedule_t const *schedule) {
  if (schedule->run_cnt > SCHEDULE_RUNS_MAX) return 0;
  for (uint32_t i = 0; i < schedule->run_cnt; i++) {
    schedule_run_t const *run = &schedule->runs[i];
    if (run->end_ns < run->begin_ns || run->by < SCHEDULE_BY_HAND || run->by > SCHEDULE_BY_STOP ||
        run->code < 0 || run->code > 15)
      return 0;
  }
  return 1;
}

char const *schedule_check(schedule_t const *schedule) {
  uint64_t every = schedule->every_ns;
  if (!spec_name_ok(schedule->name)) return "name";
  if (every && (every < SCHEDULE_EVERY_MIN_NS || every > SCHEDULE_EVERY_MAX_NS)) return "every";
  if (schedule->jitter_ns && schedule->jitter_ns >= every) return "jitter";
  if (schedule->how.mode < 0 || schedule->how.mode >= SCHEDULE_MODES) return "mode";
  if (schedule->how.style < 0 || schedule->how.style >= SCHEDULE_STYLES) return "style";
  if (!keep_ok(&schedule->keep)) return "keep";
  if (schedule->on_stop < 0 || schedule->on_stop > SCHEDULE_STOP_CHECKPOINT) return "on_stop";
  if (schedule->on_start < 0 || schedule->on_start > SCHEDULE_START_RESTORE) return "on_start";
  if (schedule->mode > SPEC_MODE_MAX) return "permissions";
  if (!every != !schedule->due_ns) return "due";
  uint64_t drill = schedule->drill_ns;
  if (drill && (drill < SCHEDULE_EVERY_MIN_NS || drill > SCHEDULE_EVERY_MAX_NS)) return "drill";
  if (!drill != !schedule->drill_due_ns) return "drill_due";
  if (!runs_ok(schedule)) return "runs";
  return NULL;
}

/* How late slot k is run: below jitter_ns, the same whenever it is asked. FNV-1a over name and
   number, then the finaliser of splitmix64: neighbours in name and slot must differ. */
static uint64_t slot_jitter(schedule_t const *schedule, uint64_t k) {
  uint64_t hash = 0xcbf29ce484222325UL;
  if (!schedule->jitter_ns) return 0;
  for (char const *at = schedule->name; *at; at++)
    hash = (hash ^ (unsigned char)*at) * 0x100000001b3UL;
  hash += (k + 1) * 0x9e3779b97f4a7c15UL;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9UL;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebUL;
  return (hash ^ (hash >> 31)) % schedule->jitter_ns;
}

static uint64_t slot_at(schedule_t const *schedule, uint64_t k) {
  uint64_t at;
  if (__builtin_mul_overflow(k, schedule->every_ns, &at) ||
      __builtin_add_overflow(at, schedule->anchor_ns, &at) ||
      __builtin_add_overflow(at, slot_jitter(schedule, k), &at))
    return UINT64_MAX;
  return at;
}

uint64_t schedule_next(schedule_t const *schedule, uint64_t now_ns) {
  if (!schedule->every_ns) return 0;
  /* The slot whose time it is; its own run may still lie ahead, by its jitter. The first one after
     the anchor is slot 1. */
  uint64_t passed = now_ns > schedule->anchor_ns ? now_ns - schedule->anchor_ns : 0;
  uint64_t k = passed / schedule->every_ns;
  if (!k) k = 1;
  if (slot_at(schedule, k) <= now_ns) k++;
  return slot_at(schedule, k);
}

void schedule_begin(schedule_t *schedule, uint64_t now_ns) {
  schedule->anchor_ns = now_ns;
  schedule->fail_cnt = 0;
  schedule->due_ns = schedule_next(schedule, now_ns);
}

static uint64_t backoff_most(schedule_t const *schedule) {
  uint64_t every = schedule->every_ns;
  return every > SCHEDULE_BACKOFF_MAX_NS ? every : SCHEDULE_BACKOFF_MAX_NS;
}

/* Drills of names with the same interval are late by different parts of their jitter, too. */
static uint64_t drill_at(schedule_t const *schedule, uint64_t now_ns, uint64_t away_ns) {
  uint64_t at, late = slot_jitter(schedule, away_ns ^ now_ns / away_ns);
  if (__builtin_add_overflow(now_ns, away_ns, &at) || __builtin_add_overflow(at, late, &at))
    return UINT64_MAX;
  return at;
}

void schedule_drill_begin(schedule_t *schedule, uint64_t now_ns) {
  schedule->drill_fail_cnt = 0;
  schedule->drill_due_ns = schedule->drill_ns ? drill_at(schedule, now_ns, schedule->drill_ns) : 0;
}

/* How far a drill is away after those that have failed. */
static uint64_t drill_away(schedule_t const *schedule) {
  uint64_t away = SCHEDULE_DRILL_AGAIN_NS;
  if (!schedule->drill_fail_cnt) return schedule->drill_ns;
  for (uint32_t n = 1; n < schedule->drill_fail_cnt && n <= DOUBLINGS_MAX; n++) away *= 2;
  return away < schedule->drill_ns ? away : schedule->drill_ns;
}

void schedule_drill_note(schedule_t *schedule, uint64_t end_ns, int by, int code,
                         uint64_t ckpt_id) {
  int hand = by == SCHEDULE_BY_HAND;
  if (!code) {
    schedule->drill_fail_cnt = 0;
    schedule->drill_ok_ns = end_ns;
    schedule->drill_ckpt_id = ckpt_id;
  } else if (!hand && code != SCHEDULE_CODE_CANCELLED && schedule->drill_fail_cnt < UINT32_MAX) {
    schedule->drill_fail_cnt++;
  }
  if (schedule->drill_ns && !hand)
    schedule->drill_due_ns = drill_at(schedule, end_ns, drill_away(schedule));
}

/* As for runs. */
static void drill_settle(schedule_t *schedule, uint64_t now_ns) {
  uint64_t most = schedule->drill_ns + schedule->jitter_ns, fail_cnt = schedule->drill_fail_cnt;
  if (!schedule->drill_ns || schedule->drill_due_ns <= now_ns ||
      schedule->drill_due_ns - now_ns <= most)
    return;
  schedule_drill_begin(schedule, now_ns);
  schedule->drill_fail_cnt = (uint32_t)fail_cnt;
}

int schedule_settle(schedule_t *schedule, uint64_t now_ns) {
  drill_settle(schedule, now_ns);
  uint64_t every = schedule->every_ns, fail_cnt = schedule->fail_cnt;
  uint64_t ahead = schedule->due_ns > now_ns ? schedule->due_ns - now_ns : 0;
  if (!every || ahead <= backoff_most(schedule) + 2 * every) return 0;
  schedule_begin(schedule, now_ns);
  schedule->fail_cnt = (uint32_t)fail_cnt;
  return 1;
}

static uint64_t backoff_of(schedule_t const *schedule) {
  uint32_t doublings = schedule->fail_cnt ? schedule->fail_cnt - 1 : 0;
  uint64_t most = backoff_most(schedule), backoff = schedule->every_ns;
  if (doublings > DOUBLINGS_MAX) doublings = DOUBLINGS_MAX;
  while (doublings-- && backoff < most) backoff *= 2;
  return backoff < most ? backoff : most;
}

void schedule_note(schedule_t *schedule, schedule_run_t const *run) {
  if (schedule->run_cnt == SCHEDULE_RUNS_MAX)
    memmove(schedule->runs, schedule->runs + 1, --schedule->run_cnt * sizeof(*schedule->runs));
  schedule->runs[schedule->run_cnt++] = *run;
  if (!run->code) {
    schedule->fail_cnt = 0;
    schedule->last_ok_ns = run->end_ns;
  } else if (run->by != SCHEDULE_BY_HAND && run->code != SCHEDULE_CODE_CANCELLED &&
             schedule->fail_cnt < UINT32_MAX) {
    schedule->fail_cnt++;
  }
  if (!schedule->every_ns || run->by == SCHEDULE_BY_HAND) return;
  /* With one failure the back-off is the interval itself, which every slot keeps. */
  uint64_t from = run->end_ns;
  if (schedule->fail_cnt > 1) from += backoff_of(schedule) - 1; /* a slot just there will do */
  schedule->due_ns = schedule_next(schedule, from);
  (void)schedule_settle(schedule, run->end_ns);
}

/* The text
 * ------------------------------------------------------------------------------------------------
 */

__attribute__((format(printf, 3, 4))) static void line(char text[SCHEDULE_TEXT_MAX],
                                                       size_t *len_bytes, char const *format, ...) {
  va_list args;
  va_start(args, format);
  *len_bytes += (size_t)vsnprintf(text + *len_bytes, SCHEDULE_TEXT_MAX - *len_bytes, format, args);
  va_end(args);
}

int schedule_encode(schedule_t const *schedule, char ret_text[SCHEDULE_TEXT_MAX]) {
  schedule_keep_t const *keep = &schedule->keep;
  size_t len = 0;
  if (schedule_check(schedule)) return WKSP_E_INVAL;
  line(ret_text, &len, MAGIC "name=%s\n", schedule->name);
  line(ret_text, &len, "uid=%" PRIu32 "\ngid=%" PRIu32 "\n", schedule->uid, schedule->gid);
  line(ret_text, &len, "permissions=%" PRIu32 "\n", schedule->mode);
  line(ret_text, &len, "every_ns=%" PRIu64 "\n", schedule->every_ns);
  line(ret_text, &len, "jitter_ns=%" PRIu64 "\n", schedule->jitter_ns);
  line(ret_text, &len, "mode=%d\nstyle=%d\nlevel=%d\n", schedule->how.mode, schedule->how.style,
       schedule->how.level);
  line(ret_text, &len, "keep=%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 "\n",
       keep->last, keep->hourly, keep->daily, keep->weekly, keep->monthly);
  line(ret_text, &len, "on_stop=%d\non_start=%d\n", schedule->on_stop, schedule->on_start);
  line(ret_text, &len, "anchor_ns=%" PRIu64 "\ndue_ns=%" PRIu64 "\n", schedule->anchor_ns,
       schedule->due_ns);
  line(ret_text, &len, "last_ok_ns=%" PRIu64 "\nfails=%" PRIu32 "\nruns=%" PRIu32 "\n",
       schedule->last_ok_ns, schedule->fail_cnt, schedule->run_cnt);
  if (schedule->drill_ns ||
      schedule->drill_ok_ns) { /* daemons before there were drills know none */
    line(ret_text, &len, "drill_ns=%" PRIu64 "\ndrill_due_ns=%" PRIu64 "\n", schedule->drill_ns,
         schedule->drill_due_ns);
    line(ret_text, &len,
         "drill_ok_ns=%" PRIu64 "\ndrill_ckpt=%" PRIu64 "\ndrill_fails=%" PRIu32 "\n",
         schedule->drill_ok_ns, schedule->drill_ckpt_id, schedule->drill_fail_cnt);
  }
  for (uint32_t i = 0; i < schedule->run_cnt; i++) {
    schedule_run_t const *run = &schedule->runs[i];
    line(ret_text, &len, "run=%" PRIu64 ",%" PRIu64 ",%d,%d,%" PRIu64 ",%" PRIu64 "\n",
         run->begin_ns, run->end_ns, run->by, run->code, run->ckpt_id, run->bytes);
  }
  line(ret_text, &len, "crc=%08" PRIx32 "\n", crc_of(ret_text, len));
  return (int)len;
}

/* The next number of the text: that of key=, or with "" what follows a comma. 1 or 0. */
static int take(char const **at, char const *key, uint64_t *ret_number) {
  size_t len = strlen(key);
  char *end;
  if (strncmp(*at, key, len) != 0 || (*at)[len] != (len ? '=' : ',')) return 0;
  char const *digits = *at + len + 1;
  int minus = *digits == '-';
  if (digits[minus] < '0' || digits[minus] > '9') return 0;
  *ret_number = minus ? (uint64_t)strtoll(digits, &end, 10) : strtoull(digits, &end, 10);
  *at = end + (*end == '\n');
  return 1;
}

static int take_u32(char const **at, char const *key, uint32_t *ret_number) {
  uint64_t number;
  if (!take(at, key, &number)) return 0;
  *ret_number = (uint32_t)number; /* another number is not written as it was read */
  return 1;
}

static int take_int(char const **at, char const *key, int *ret_number) {
  uint64_t number;
  if (!take(at, key, &number)) return 0;
  *ret_number = (int)(int64_t)number;
  return 1;
}

static int take_name(char const **at, char ret_name[SPEC_NAME_MAX + 1]) {
  if (strncmp(*at, "name=", 5) != 0) return 0;
  size_t len = strcspn(*at + 5, "\n");
  if (len > SPEC_NAME_MAX) return 0;
  memcpy(ret_name, *at + 5, len);
  ret_name[len] = 0;
  *at += 5 + len + ((*at)[5 + len] == '\n');
  return 1;
}

/* Of a schedule without any there are no lines. */
static int take_drills(char const **at, schedule_t *to) {
  if (strncmp(*at, "drill_ns=", 9) != 0) return 1;
  return take(at, "drill_ns", &to->drill_ns) && take(at, "drill_due_ns", &to->drill_due_ns) &&
         take(at, "drill_ok_ns", &to->drill_ok_ns) && take(at, "drill_ckpt", &to->drill_ckpt_id) &&
         take_u32(at, "drill_fails", &to->drill_fail_cnt);
}

static int take_runs(char const **at, schedule_t *schedule) {
  if (!take_u32(at, "runs", &schedule->run_cnt) || schedule->run_cnt > SCHEDULE_RUNS_MAX) return 0;
  if (!take_drills(at, schedule)) return 0;
  for (uint32_t i = 0; i < schedule->run_cnt; i++) {
    schedule_run_t *run = &schedule->runs[i];
    if (!take(at, "run", &run->begin_ns) || !take(at, "", &run->end_ns) ||
        !take_int(at, "", &run->by) || !take_int(at, "", &run->code) ||
        !take(at, "", &run->ckpt_id) || !take(at, "", &run->bytes))
      return 0;
  }
  return 1;
}

static int take_all(char const *at, schedule_t *to) {
  return take_name(&at, to->name) && take_u32(&at, "uid", &to->uid) &&
         take_u32(&at, "gid", &to->gid) && take_u32(&at, "permissions", &to->mode) &&
         take(&at, "every_ns", &to->every_ns) && take(&at, "jitter_ns", &to->jitter_ns) &&
         take_int(&at, "mode", &to->how.mode) && take_int(&at, "style", &to->how.style) &&
         take_int(&at, "level", &to->how.level) && take_u32(&at, "keep", &to->keep.last) &&
         take_u32(&at, "", &to->keep.hourly) && take_u32(&at, "", &to->keep.daily) &&
         take_u32(&at, "", &to->keep.weekly) && take_u32(&at, "", &to->keep.monthly) &&
         take_int(&at, "on_stop", &to->on_stop) && take_int(&at, "on_start", &to->on_start) &&
         take(&at, "anchor_ns", &to->anchor_ns) && take(&at, "due_ns", &to->due_ns) &&
         take(&at, "last_ok_ns", &to->last_ok_ns) && take_u32(&at, "fails", &to->fail_cnt) &&
         take_runs(&at, to);
}

int schedule_decode(char const *text, size_t len_bytes, schedule_t *ret_schedule) {
  char copy[SCHEDULE_TEXT_MAX], again[SCHEDULE_TEXT_MAX];
  schedule_t schedule = {.run_cnt = 0};
  if (len_bytes >= sizeof(copy)) return 1;
  memcpy(copy, text, len_bytes);
  copy[len_bytes] = 0;
  if (strncmp(copy, MAGIC, strlen(MAGIC)) != 0) return 1;
  if (!take_all(copy + strlen(MAGIC), &schedule)) return 1;
  int len = schedule_encode(&schedule, again);
  if (len < 0 || (size_t)len != len_bytes || memcmp(copy, again, len_bytes) != 0) return 1;
  *ret_schedule = schedule;
  return 0;
}
