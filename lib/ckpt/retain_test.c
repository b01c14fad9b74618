/* Tests of which checkpoints are kept. */

#include "core/testing.h"
#include "wksp/ckpt.h"

static ulong const HOUR = 3600UL * 1000000000UL;
static ulong const T0 = 1700000000UL * 1000000000UL; /* Tuesday, 14 November 2023, 22:13:20 */

/* Without any class all are kept; of none none. */
static void all(void **state) {
  ulong at[3] = {T0, T0 + 1, T0 + 2};
  uchar keep[3] = {0};
  wksp_ckpt_retention_t none = {0};
  assert_int_equal(wksp_ckpt_retain(&none, at, 3, keep), 3);
  assert_int_equal(wksp_ckpt_retain(&none, at, 0, keep), 0);
}

/* The last N are the newest, in whatever order they are listed. */
static void last(void **state) {
  ulong at[5] = {T0 + 3, T0 + 1, T0 + 5, T0 + 2, T0 + 4};
  uchar keep[5];
  wksp_ckpt_retention_t two = {.last = 2};
  assert_int_equal(wksp_ckpt_retain(&two, at, 5, keep), 2);
  assert_memory_equal(keep, ((uchar[]){0, 0, 1, 0, 1}), 5);
}

/* Of each of the last hours in which there are any, the newest is kept; an hour without any uses up
   nothing. */
static void hours(void **state) {
  ulong at[6] = {T0 - 9 * HOUR, T0 - 9 * HOUR + 1, T0 - HOUR, T0 - HOUR + 2, T0, T0 + 1};
  uchar keep[6];
  wksp_ckpt_retention_t three = {.hourly = 3};
  assert_int_equal(wksp_ckpt_retain(&three, at, 6, keep), 3);
  assert_memory_equal(keep, ((uchar[]){0, 1, 0, 1, 0, 1}), 6);
}

/* Weeks begin on Monday, months on their first day, in UTC; also across a leap day and a year. */
static void calendar(void **state) {
  ulong day = 24 * HOUR, sunday = T0 - 2 * day, monday = T0 - day;
  ulong at[2] = {sunday, monday};
  uchar keep[4];
  wksp_ckpt_retention_t weeks = {.weekly = 5}, months = {.monthly = 9};
  assert_int_equal(wksp_ckpt_retain(&weeks, at, 2, keep), 2);
  at[1] = sunday - 6 * day; /* Monday of the same week */
  assert_int_equal(wksp_ckpt_retain(&weeks, at, 2, keep), 1);
  /* 2024: 29 February 12:00, 1 March 00:00; 31 December 23:59:59, 1 January 2025 */
  ulong turns[4] = {1709208000UL, 1709251200UL, 1735689599UL, 1735689600UL};
  for (uint i = 0; i < 4; i++) turns[i] *= 1000000000UL;
  assert_int_equal(wksp_ckpt_retain(&months, turns, 4, keep), 4);
  turns[1] -= 1;
  turns[3] -= 1;
  assert_int_equal(wksp_ckpt_retain(&months, turns, 4, keep), 2);
}

/* Whatever the times and classes: the newest is kept, no class keeps more than it may, none is kept
   without a class that wants it, and what was dropped once would be dropped again. */
static void random_times(void **state) {
  testing_rng_t rng = testing_rng();
  for (uint round = 0; round < 300; round++) {
    ulong at[60], cnt = 1 + testing_below(&rng, 60), most = 0, newest = 0, kept;
    uchar keep[60], again[60];
    for (ulong i = 0; i < cnt; i++) at[i] = T0 + testing_below(&rng, 9000) * HOUR / 7;
    wksp_ckpt_retention_t how = {(uint)testing_below(&rng, 4), (uint)testing_below(&rng, 4),
                                 (uint)testing_below(&rng, 4), (uint)testing_below(&rng, 4),
                                 (uint)testing_below(&rng, 4)};
    most = how.last + how.hourly + how.daily + how.weekly + how.monthly;
    kept = wksp_ckpt_retain(&how, at, cnt, keep);
    assert_true(!most || kept <= most);
    for (ulong i = 0; i < cnt; i++)
      if (at[i] >= at[newest]) newest = i;
    assert_int_equal(keep[newest], 1);
    ulong left = 0;
    for (ulong i = 0; i < cnt; i++)
      if (keep[i]) at[left++] = at[i];
    assert_int_equal(left, kept);
    assert_int_equal(wksp_ckpt_retain(&how, at, left, again), left);
  }
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(all),      cmocka_unit_test(last),         cmocka_unit_test(hours),
      cmocka_unit_test(calendar), cmocka_unit_test(random_times),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
