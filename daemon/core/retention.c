/* retention: see retention.h. A rule counts the periods that it has met, walking from the newest to
   the oldest; the first of a period is its newest. Refuses to know of time zones: a rule must not
   depend on where the daemon runs, and no hour is twice or not there. */

#include "daemon/core/retention.h"

#include <stdlib.h>

#define NS_A_SECOND 1000000000UL
#define HOUR_S      3600UL
#define DAY_S       86400UL

enum { PERIOD_HOUR = 0, PERIOD_DAY, PERIOD_WEEK, PERIOD_MONTH, PERIODS };

static int is_leap(uint64_t year) {
  return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Months since 1970 of a day since then. Years are counted through: 585 at the most, which is what
   64 bits of nanoseconds come to. */
static uint64_t month_of(uint64_t day) {
  static unsigned const days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  uint64_t year = 1970, month = 0;
  while (day >= 365UL + (uint64_t)is_leap(year)) {
    day -= 365UL + (uint64_t)is_leap(year);
    year++;
  }
  while (day >= days[month] + (uint64_t)(month == 1 && is_leap(year))) {
    day -= days[month] + (uint64_t)(month == 1 && is_leap(year));
    month++;
  }
  return (year - 1970) * 12 + month;
}

/* The number of the period that a moment lies in. */
static uint64_t period_of(int period, uint64_t time_ns) {
  uint64_t s = time_ns / NS_A_SECOND, day = s / DAY_S;
  switch (period) {
  case PERIOD_HOUR:
    return s / HOUR_S;
  case PERIOD_DAY:
    return day;
  case PERIOD_WEEK:
    return (day + 3) / 7; /* 1970 began on a Thursday */
  default:
    return month_of(day);
  }
}

/* Newest first; of the same moment the later id. */
static int item_order(void const *a, void const *b) {
  retention_item_t const *x = a, *y = b;
  if (x->time_ns != y->time_ns) return x->time_ns < y->time_ns ? 1 : -1;
  return x->id < y->id ? 1 : x->id > y->id ? -1 : 0;
}

size_t retention_select(schedule_keep_t const *keep, retention_item_t *items, size_t cnt) {
  uint32_t const wanted[PERIODS] = {keep->hourly, keep->daily, keep->weekly, keep->monthly};
  uint32_t met[PERIODS] = {0};
  uint64_t period[PERIODS] = {0};
  int none = !keep->last && !wanted[0] && !wanted[1] && !wanted[2] && !wanted[3];
  size_t going = 0;

  if (cnt) qsort(items, cnt, sizeof(*items), item_order);
  for (size_t i = 0; i < cnt; i++) {
    int kept = none || !i || i < keep->last;
    for (int p = 0; p < PERIODS; p++) {
      uint64_t is = period_of(p, items[i].time_ns);
      if (met[p] && is == period[p]) continue;
      if (met[p] == wanted[p]) continue;
      met[p]++;
      period[p] = is;
      kept = 1;
    }
    items[i].goes = !kept;
    going += (size_t)!kept;
  }
  return going;
}
