/* schedule: when a workspace is checkpointed by itself, what is kept, and how the last times went.

   A schedule belongs to a name, not to a memory: a workspace that is made anew from its checkpoint
   after a reboot goes on with it. It is a plain struct and pure functions over it; the clock comes
   in as an argument. The text of it (schedule_encode) is a file of its own beside the specs:

     wkspd-schedule=1
     name=orders
     ...
     crc=1f0c7a52

   Slots. Slot k of a schedule lies at anchor + k * every, and is run up to jitter later, by a
   number that follows from name and slot alone: workspaces with the same interval do not all begin
   at once, and a restart finds the same moment again. However many slots have passed (the daemon
   was away, a checkpoint took longer than the interval) there is one run for them, at once, and the
   next is the first slot that lies ahead.

   Drills. Each drill_ns the newest checkpoint is restored for trial (drill.c); the next is counted
   from the end of the last, late by a part of the jitter. After n drills in a row that failed it is
   SCHEDULE_DRILL_AGAIN_NS * 2^(n - 1) away, or the interval if that is less. One that is due while
   there is nothing to restore waits for the first checkpoint.

   Failures. After n failures in a row the next run is at least every * 2^(n - 1) away, at most
   SCHEDULE_BACKOFF_MAX_NS or one interval, whichever is more.

   Invariants (schedule_check): name is one; jitter_ns < every_ns, or both are 0; due_ns is 0
   exactly if every_ns is, drill_due_ns exactly if drill_ns is; runs are in the order of their
   beginnings. */

#ifndef WKSPD_CORE_SCHEDULE_H
#define WKSPD_CORE_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/spec.h"

/* An interval: below the shortest a checkpoint of anything would hardly end before the next. */
#define SCHEDULE_EVERY_MIN_NS 1000000000UL
#define SCHEDULE_EVERY_MAX_NS (366UL * 86400UL * 1000000000UL)

/* 6 hours: who mends a disk in the morning finds the schedule going again by noon. */
#define SCHEDULE_BACKOFF_MAX_NS 21600000000000UL

/* After a drill that failed: what is to be mended takes a few minutes at least. */
#define SCHEDULE_DRILL_AGAIN_NS 300000000000UL

/* Runs that are remembered: a working day of hourly ones is seen at a glance. */
#define SCHEDULE_RUNS_MAX 16U

/* Checkpoints that one rule may keep. */
#define SCHEDULE_KEEP_MAX 100000U

/* Bytes of the longest text, its NUL included: 22 lines of at most 80 bytes and one of at most 110
   for each run. */
#define SCHEDULE_TEXT_MAX 4096U

/* What becomes of the workspace when the daemon is stopped, and when it finds that the memory is
   gone. */
enum { SCHEDULE_STOP_NOTHING = 0, SCHEDULE_STOP_CHECKPOINT = 1 };
enum { SCHEDULE_START_NOTHING = 0, SCHEDULE_START_RESTORE = 1 };

/* Who wanted a checkpoint. */
enum { SCHEDULE_BY_HAND = 0, SCHEDULE_BY_SLOT = 1, SCHEDULE_BY_STOP = 2 };

/* How checkpoints are made; the numbers of proto/wkspd.proto. */
enum { SCHEDULE_MODE_FUZZY = 0, SCHEDULE_MODE_QUIESCE = 1, SCHEDULE_MODES };
enum { SCHEDULE_STYLE_RAW = 0, SCHEDULE_STYLE_LZ4 = 1, SCHEDULE_STYLE_ZSTD = 2, SCHEDULE_STYLES };
typedef struct schedule_how {
  int mode, style;
  int level; /* 0: the style's own */
} schedule_how_t;

/* How many of those that nobody took by hand are kept by each rule (wksp/ckpt.h,
   wksp_ckpt_retention_t); all 0: all are kept. */
typedef struct schedule_keep {
  uint32_t last, hourly, daily, weekly, monthly;
} schedule_keep_t;

/* A run's code that is no failure (ENGINE_CODE_CANCELLED). */
#define SCHEDULE_CODE_CANCELLED 1

typedef struct schedule_run {
  uint64_t begin_ns, end_ns; /* since 1970 */
  int by;                    /* SCHEDULE_BY_* */
  int code;                  /* ENGINE_CODE_*, 0: it was made */
  uint64_t ckpt_id;          /* 0: none was made */
  uint64_t bytes;            /* written */
} schedule_run_t;

typedef struct schedule {
  char name[SPEC_NAME_MAX + 1];
  uint32_t uid, gid, mode; /* of the workspace that it was set for */
  uint64_t every_ns;       /* 0: only by hand, or when the daemon is stopped */
  uint64_t jitter_ns;
  schedule_how_t how;
  schedule_keep_t keep;
  int on_stop, on_start;
  uint64_t anchor_ns;  /* since 1970: when it was set */
  uint64_t due_ns;     /* since 1970: the next run */
  uint64_t last_ok_ns; /* since 1970: the end of the last run that made one; 0: none has */
  uint32_t fail_cnt;   /* in a row */
  uint64_t drill_ns;   /* 0: only by hand */
  uint64_t drill_due_ns, drill_ok_ns; /* since 1970: the next; the end of the last good one, or 0 */
  uint64_t drill_ckpt_id;             /* what that one restored; 0: none */
  uint32_t drill_fail_cnt;            /* in a row */
  uint32_t run_cnt;
  schedule_run_t runs[SCHEDULE_RUNS_MAX]; /* oldest first */
} schedule_t;

/* NULL, or which value is wrong: a constant such as "every". */
char const *schedule_check(schedule_t const *schedule);

/* The first run after now_ns: of the first slot ahead whose moment is not over. */
uint64_t schedule_next(schedule_t const *schedule, uint64_t now_ns);

/* What was read at a start, or has been waiting for long: if the clock has been set back so far
   that the next run would be later than any interval or back-off allows, the slots begin anew from
   now on. 1 if so, else 0. */
int schedule_settle(schedule_t *schedule, uint64_t now_ns);

/* A new interval from now on: anchors the slots and sets due_ns; every_ns and jitter_ns are set. */
void schedule_begin(schedule_t *schedule, uint64_t now_ns);

/* Takes note of a run that has ended, and sets due_ns unless it was by hand. One by hand that made
   a checkpoint ends a row of failures; one that failed, or was cancelled, counts for nothing. */
void schedule_note(schedule_t *schedule, schedule_run_t const *run);

/* A new interval of drills from now on; drill_ns is set. */
void schedule_drill_begin(schedule_t *schedule, uint64_t now_ns);

/* Takes note of a drill that has ended, of checkpoint ckpt_id, with an ENGINE_CODE_*. By hand it
   counts as a run by hand does. */
void schedule_drill_note(schedule_t *schedule, uint64_t end_ns, int by, int code, uint64_t ckpt_id);

/* Writes the text and a NUL. Its length, or WKSP_E_INVAL if schedule_check is not NULL. */
int schedule_encode(schedule_t const *schedule, char ret_text[SCHEDULE_TEXT_MAX]);

/* Reads text[0 .. len_bytes). 0, or 1: it is not one that schedule_encode writes. */
int schedule_decode(char const *text, size_t len_bytes, schedule_t *ret_schedule);

#endif
