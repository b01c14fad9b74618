/* Unit tests of retention.c. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/core/retention.h"

#define S    1000000000UL
#define HOUR (3600UL * S)
#define DAY  (24UL * HOUR)

/* 2024-01-01 00:00 UTC, a Monday. */
#define BASE (1704067200UL * S)

static size_t kept_of(schedule_keep_t const *keep, retention_item_t *items, size_t cnt) {
  return cnt - retention_select(keep, items, cnt);
}

static int goes(retention_item_t const *items, size_t cnt, uint64_t id) {
  for (size_t i = 0; i < cnt; i++)
    if (items[i].id == id) return items[i].goes;
  fail_msg("item %lu is lost", id);
  return -1;
}

/* One each hour, numbered from 1, for so many hours from BASE on. */
static void hourly(retention_item_t *items, size_t cnt) {
  for (size_t i = 0; i < cnt; i++)
    items[i] = (retention_item_t){.id = i + 1, .time_ns = BASE + i * HOUR};
}

/* Without a rule nothing goes, and of nothing, nothing */
static void no_rule(void **state) {
  retention_item_t items[5];
  schedule_keep_t keep = {0};
  hourly(items, 5);
  assert_int_equal(retention_select(&keep, items, 5), 0);
  assert_int_equal(retention_select(&keep, NULL, 0), 0);
}

/* The last N are kept, in whatever order they come */
static void last(void **state) {
  retention_item_t items[10];
  schedule_keep_t keep = {.last = 3};
  for (size_t i = 0; i < 10; i++)
    items[i] = (retention_item_t){.id = i + 1, .time_ns = BASE + (i * 7 % 10) * HOUR};
  assert_int_equal(kept_of(&keep, items, 10), 3);
  for (size_t i = 0; i < 10; i++)
    assert_int_equal(items[i].goes, items[i].time_ns < BASE + 7 * HOUR);
}

/* Of each of the last days the newest is kept */
static void daily(void **state) {
  retention_item_t items[24 * 5];
  schedule_keep_t keep = {.daily = 3};
  hourly(items, 24 * 5);
  assert_int_equal(kept_of(&keep, items, 24 * 5), 3);
  for (uint64_t day = 0; day < 5; day++)
    assert_int_equal(goes(items, 24 * 5, (day + 1) * 24), day < 2);
}

/* Days without any are not counted */
static void gaps(void **state) {
  retention_item_t items[3] = {{.id = 1, .time_ns = BASE},
                               {.id = 2, .time_ns = BASE + 20 * DAY},
                               {.id = 3, .time_ns = BASE + 90 * DAY}};
  schedule_keep_t keep = {.daily = 2};
  assert_int_equal(kept_of(&keep, items, 3), 2);
  assert_true(goes(items, 3, 1));
}

/* Weeks begin on Monday, months with their first day, leap years have their day */
static void calendar(void **state) {
  retention_item_t week[2] = {{.id = 1, .time_ns = BASE + 6 * DAY}, /* Sunday */
                              {.id = 2, .time_ns = BASE + 7 * DAY}};
  schedule_keep_t keep = {.weekly = 2};
  assert_int_equal(kept_of(&keep, week, 2), 2);
  week[1].time_ns = BASE;
  week[0].time_ns = BASE + 6 * DAY;
  assert_int_equal(kept_of(&keep, week, 2), 1);

  retention_item_t month[4] = {{.id = 1, .time_ns = BASE + 59 * DAY},  /* 29 February 2024 */
                               {.id = 2, .time_ns = BASE + 60 * DAY},  /* 1 March */
                               {.id = 3, .time_ns = BASE + 365 * DAY}, /* 31 December */
                               {.id = 4, .time_ns = BASE + 366 * DAY}};
  keep = (schedule_keep_t){.monthly = 9};
  assert_int_equal(kept_of(&keep, month, 4), 4);
  month[0] = (retention_item_t){.id = 1, .time_ns = BASE + 31 * DAY}; /* 1 February */
  month[1] = (retention_item_t){.id = 2, .time_ns = BASE + 59 * DAY};
  assert_int_equal(kept_of(&keep, month, 2), 1);
  assert_true(goes(month, 2, 1));
}

/* What one rule keeps no other rule takes away; the newest stays whatever the rules are */
static void together(void **state) {
  retention_item_t items[24 * 40];
  schedule_keep_t keep = {.last = 12, .hourly = 24, .daily = 7, .weekly = 4, .monthly = 2};
  hourly(items, 24 * 40);
  /* 24 hours hold the last 12 and today; 6 more days; Sundays of 3 or 2 more weeks; last month */
  size_t kept = kept_of(&keep, items, 24 * 40);
  assert_in_range(kept, 24 + 6 + 2, 24 + 6 + 4);
  assert_int_equal(goes(items, 24 * 40, 24 * 40), 0);
  assert_int_equal(goes(items, 24 * 40, 24 * 31), 0); /* the last of January */
}

int main(void) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(no_rule),  cmocka_unit_test(last),
                                     cmocka_unit_test(daily),    cmocka_unit_test(gaps),
                                     cmocka_unit_test(calendar), cmocka_unit_test(together)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
