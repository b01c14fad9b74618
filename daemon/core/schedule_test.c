/* Unit tests of schedule.c. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/core/schedule.h"
#include "wksp/error.h"

#define S    1000000000UL
#define MIN  (60UL * S)
#define HOUR (60UL * MIN)
#define NOW  (1700000000UL * S)

static schedule_t make(uint64_t every_ns, uint64_t jitter_ns) {
  schedule_t schedule = {.name = "orders", .mode = 0660, .every_ns = every_ns};
  schedule.jitter_ns = jitter_ns;
  schedule_begin(&schedule, NOW);
  return schedule;
}

static void note(schedule_t *schedule, uint64_t begin_ns, uint64_t end_ns, int by, int code) {
  schedule_run_t run = {.begin_ns = begin_ns, .end_ns = end_ns, .by = by, .code = code};
  schedule_note(schedule, &run);
}

/* Slots lie one interval apart, from the moment on at which the schedule was set */
static void slots(void **state) {
  schedule_t schedule = make(5 * MIN, 0);
  assert_int_equal(schedule.due_ns, NOW + 5 * MIN);
  for (uint64_t k = 1; k < 100; k++) {
    assert_int_equal(schedule.due_ns, NOW + k * 5 * MIN);
    note(&schedule, schedule.due_ns, schedule.due_ns + 3 * S, SCHEDULE_BY_SLOT, 0);
    assert_null(schedule_check(&schedule));
  }
}

/* Each slot is run once, up to jitter late, at moments that differ and do not drift */
static void jitter(void **state) {
  schedule_t schedule = make(5 * MIN, 30 * S);
  uint64_t low = UINT64_MAX, high = 0;
  for (uint64_t k = 1; k < 1000; k++) {
    uint64_t slot = NOW + k * 5 * MIN, late = schedule.due_ns - slot;
    assert_true(schedule.due_ns >= slot && late < 30 * S);
    if (late < low) low = late;
    if (late > high) high = late;
    note(&schedule, schedule.due_ns, schedule.due_ns, SCHEDULE_BY_SLOT, 0);
  }
  assert_true(low < 3 * S && high > 27 * S);
  schedule_t other = make(5 * MIN, 30 * S);
  strcpy(other.name, "trades");
  schedule_begin(&other, NOW);
  assert_int_not_equal(other.due_ns, make(5 * MIN, 30 * S).due_ns);
}

/* However many slots have passed, one run makes up for them, and the next is the first ahead */
static void missed(void **state) {
  schedule_t schedule = make(5 * MIN, 0);
  note(&schedule, NOW + 61 * MIN, NOW + 62 * MIN, SCHEDULE_BY_SLOT, 0);
  assert_int_equal(schedule.due_ns, NOW + 65 * MIN);
  note(&schedule, NOW + 65 * MIN, NOW + 65 * MIN + 12 * MIN, SCHEDULE_BY_SLOT, 0);
  assert_int_equal(schedule.due_ns, NOW + 80 * MIN);
}

/* Failures in a row move the next run away, twice as far each time, up to a bound; a success ends
   that */
static void backoff(void **state) {
  schedule_t schedule = make(5 * MIN, 0);
  uint64_t now = schedule.due_ns, most = 0;
  for (uint32_t n = 1; n < 60; n++) {
    note(&schedule, now, now, SCHEDULE_BY_SLOT, 13);
    uint64_t away = schedule.due_ns - now;
    uint64_t want = n > 8 ? SCHEDULE_BACKOFF_MAX_NS : (5 * MIN) << (n - 1);
    if (want > SCHEDULE_BACKOFF_MAX_NS) want = SCHEDULE_BACKOFF_MAX_NS;
    assert_true(away >= want && away <= want + 5 * MIN);
    assert_int_equal(schedule.fail_cnt, n);
    if (away > most) most = away;
    now = schedule.due_ns;
  }
  assert_true(most <= SCHEDULE_BACKOFF_MAX_NS + 5 * MIN);
  note(&schedule, now, now, SCHEDULE_BY_SLOT, 0);
  assert_int_equal(schedule.fail_cnt, 0);
  assert_true(schedule.due_ns - now <= 5 * MIN);
}

/* The back-off of a long interval is that interval */
static void backoff_long(void **state) {
  schedule_t schedule = make(48 * HOUR, 0);
  for (int n = 0; n < 5; n++) {
    uint64_t now = schedule.due_ns;
    note(&schedule, now, now, SCHEDULE_BY_SLOT, 13);
    assert_int_equal(schedule.due_ns - now, 48 * HOUR);
  }
}

/* A run by hand moves no slot; one that fails is no failure of the schedule, one that succeeds ends
   a row of them */
static void by_hand(void **state) {
  schedule_t schedule = make(5 * MIN, 0);
  uint64_t due = schedule.due_ns;
  note(&schedule, NOW + MIN, NOW + MIN, SCHEDULE_BY_HAND, 13);
  assert_int_equal(schedule.due_ns, due);
  assert_int_equal(schedule.fail_cnt, 0);
  note(&schedule, due, due, SCHEDULE_BY_SLOT, 13);
  note(&schedule, due, due, SCHEDULE_BY_HAND, 0);
  assert_int_equal(schedule.fail_cnt, 0);
  assert_int_equal(schedule.last_ok_ns, due);
}

/* A clock that was set back by years does not put the next run off by years */
static void clock_back(void **state) {
  schedule_t schedule = make(5 * MIN, 0);
  assert_int_equal(schedule_settle(&schedule, NOW), 0);
  assert_int_equal(schedule_settle(&schedule, NOW + 10 * HOUR), 0);
  assert_int_equal(schedule_settle(&schedule, 1000 * S), 1);
  assert_int_equal(schedule.due_ns, 1000 * S + 5 * MIN);
  assert_null(schedule_check(&schedule));
}

/* A schedule without an interval has no next run */
static void no_interval(void **state) {
  schedule_t schedule = make(0, 0);
  assert_int_equal(schedule.due_ns, 0);
  note(&schedule, NOW, NOW, SCHEDULE_BY_STOP, 0);
  assert_int_equal(schedule.due_ns, 0);
  assert_int_equal(schedule_settle(&schedule, 0), 0);
  assert_null(schedule_check(&schedule));
}

static schedule_t rich(void) {
  schedule_t schedule = make(5 * MIN, 30 * S);
  schedule.uid = UINT32_MAX - 1;
  schedule.gid = 7;
  schedule.how = (schedule_how_t){SCHEDULE_MODE_QUIESCE, SCHEDULE_STYLE_ZSTD, -5};
  schedule.keep = (schedule_keep_t){12, 24, 7, 4, SCHEDULE_KEEP_MAX};
  schedule.on_stop = SCHEDULE_STOP_CHECKPOINT;
  schedule.on_start = SCHEDULE_START_RESTORE;
  for (uint64_t i = 0; i < 20; i++) {
    schedule_run_t run = {.begin_ns = NOW + i * HOUR,
                          .end_ns = NOW + i * HOUR + S,
                          .by = (int)(i % 3),
                          .code = (int)(i % 2) * 13,
                          .ckpt_id = UINT64_MAX - i,
                          .bytes = i << 30};
    schedule_note(&schedule, &run);
  }
  return schedule;
}

/* What is written is read as the same, the last runs too, and the longest text fits */
static void text(void **state) {
  char bytes[SCHEDULE_TEXT_MAX], again[SCHEDULE_TEXT_MAX];
  schedule_t schedule = rich(), back;
  memset(schedule.name, 'n', SPEC_NAME_MAX);
  assert_int_equal(schedule.run_cnt, SCHEDULE_RUNS_MAX);
  int len = schedule_encode(&schedule, bytes);
  assert_true(len > 0);
  assert_int_equal(schedule_decode(bytes, (size_t)len, &back), 0);
  assert_int_equal(schedule_encode(&back, again), len);
  assert_string_equal(bytes, again);
  for (uint32_t i = 0; i < SCHEDULE_RUNS_MAX; i++)
    schedule.runs[i] = (schedule_run_t){UINT64_MAX, UINT64_MAX, 2, 15, UINT64_MAX, UINT64_MAX};
  schedule.anchor_ns = schedule.due_ns = schedule.last_ok_ns = UINT64_MAX;
  len = schedule_encode(&schedule, bytes);
  assert_in_range(len, 1, SCHEDULE_TEXT_MAX - 1);
  assert_int_equal(schedule_decode(bytes, (size_t)len, &back), 0);
}

/* Each flipped bit, each missing end and whatever follows is noticed, and nothing is returned */
static void damage(void **state) {
  char bytes[SCHEDULE_TEXT_MAX];
  schedule_t schedule = rich(), back = {.uid = 77};
  int len = schedule_encode(&schedule, bytes);
  for (int bit = 0; bit < len * 8; bit++) {
    bytes[bit / 8] ^= (char)(1 << bit % 8);
    assert_int_equal(schedule_decode(bytes, (size_t)len, &back), 1);
    bytes[bit / 8] ^= (char)(1 << bit % 8);
  }
  for (int cut = 0; cut < len; cut++)
    assert_int_equal(schedule_decode(bytes, (size_t)cut, &back), 1);
  bytes[len] = '\n';
  assert_int_equal(schedule_decode(bytes, (size_t)len + 1, &back), 1);
  assert_int_equal(schedule_decode(bytes, SCHEDULE_TEXT_MAX, &back), 1);
  assert_int_equal(back.uid, 77);
}

/* What does not hold is neither written nor accepted, and named */
static void refused(void **state) {
  char bytes[SCHEDULE_TEXT_MAX];
  schedule_t const good = rich();
  schedule_t bad[10];
  char const *const why[] = {"name",  "every", "every", "jitter", "mode",
                             "style", "keep",  "due",   "runs",   "permissions"};
  for (size_t i = 0; i < 10; i++) bad[i] = good;
  bad[0].name[0] = '-';
  bad[1].every_ns = SCHEDULE_EVERY_MIN_NS - 1;
  bad[2].every_ns = SCHEDULE_EVERY_MAX_NS + 1;
  bad[3].jitter_ns = bad[3].every_ns;
  bad[4].how.mode = SCHEDULE_MODES;
  bad[5].how.style = -1;
  bad[6].keep.weekly = SCHEDULE_KEEP_MAX + 1;
  bad[7].due_ns = 0;
  bad[8].runs[0].end_ns = bad[8].runs[0].begin_ns - 1;
  bad[9].mode = 01000;
  assert_null(schedule_check(&good));
  for (size_t i = 0; i < 10; i++) {
    assert_string_equal(schedule_check(&bad[i]), why[i]);
    assert_int_equal(schedule_encode(&bad[i], bytes), WKSP_E_INVAL);
  }
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(slots),      cmocka_unit_test(jitter),       cmocka_unit_test(missed),
      cmocka_unit_test(backoff),    cmocka_unit_test(backoff_long), cmocka_unit_test(by_hand),
      cmocka_unit_test(clock_back), cmocka_unit_test(no_interval),  cmocka_unit_test(text),
      cmocka_unit_test(damage),     cmocka_unit_test(refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
