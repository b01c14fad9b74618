/* retain: which checkpoints to keep. A pure function of their times.

   Each class (hours, days, weeks, months, in UTC) cuts time into periods; of the last so many
   periods in which there are any, the newest of each is kept. A checkpoint is kept if any class
   keeps it, or if it is among the last. So a class that is to reach far back needs few, and a gap
   in which nothing was taken uses up nothing. */

#include "wksp/ckpt.h"

#define HOUR_NS (3600UL * 1000000000UL)
#define DAY_NS  (24UL * HOUR_NS)
/* 1970 began on a Thursday. */
#define DAYS_TO_MONDAY 3UL

static ulong hour_of(ulong ns) {
  return ns / HOUR_NS;
}

static ulong day_of(ulong ns) {
  return ns / DAY_NS;
}

static ulong week_of(ulong ns) {
  return (ns / DAY_NS + DAYS_TO_MONDAY) / 7;
}

/* Months since 1970: years of 365.2425 days counted from a March, so that the leap day is the last
   of a year and months before it always begin at the same days. */
static ulong month_of(ulong ns) {
  ulong days = ns / DAY_NS + 719468UL; /* since 1 March of the year 0 */
  ulong era = days / 146097UL, day = days % 146097UL;
  ulong year = (day - day / 1460UL + day / 36524UL - day / 146096UL) / 365UL;
  ulong month = (5UL * (day - (365UL * year + year / 4UL - year / 100UL)) + 2UL) / 153UL;
  return (era * 400UL + year) * 12UL + month;
}

static ulong each(ulong idx) {
  return idx;
}

ulong wksp_ckpt_retain(wksp_ckpt_retention_t const *retention, ulong const *created_ns, ulong cnt,
                       uchar *keep) {
  struct {
    uint most;
    ulong (*period_of)(ulong ns);
  } const classes[] = {{retention->last, each},
                       {retention->hourly, hour_of},
                       {retention->daily, day_of},
                       {retention->weekly, week_of},
                       {retention->monthly, month_of}};
  uint any = 0;
  ulong kept = 0;
  for (uint c = 0; c < sizeof classes / sizeof classes[0]; c++) any |= classes[c].most;
  for (ulong i = 0; i < cnt; i++) keep[i] = !any;
  /* In each round the newest that is older than the last one looked at; of equal times the later
     one in the list. Quadratic, for lists of hundreds. */
  ulong last = cnt, rank = 0, periods[sizeof classes / sizeof classes[0]];
  uint used[sizeof classes / sizeof classes[0]] = {0};
  for (; rank < cnt; rank++) {
    ulong next = cnt;
    for (ulong i = 0; i < cnt; i++) {
      int older = last == cnt || created_ns[i] < created_ns[last] ||
                  (created_ns[i] == created_ns[last] && i < last);
      int newer = next == cnt || created_ns[i] > created_ns[next] ||
                  (created_ns[i] == created_ns[next] && i > next);
      if (older && newer) next = i;
    }
    last = next;
    if (!rank) keep[last] = 1;
    for (uint c = 0; c < sizeof classes / sizeof classes[0]; c++) {
      ulong period = classes[c].period_of(c ? created_ns[last] : rank);
      if (used[c] == classes[c].most || (used[c] && periods[c] == period)) continue;
      used[c]++;
      periods[c] = period;
      keep[last] = 1;
    }
  }
  for (ulong i = 0; i < cnt; i++) kept += keep[i];
  return kept;
}
