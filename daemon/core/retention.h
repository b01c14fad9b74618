/* retention: which of the checkpoints that a schedule has made go.

   Rules as everybody knows them from backups: keep the last N, and the newest of each of the last N
   hours, days, weeks (from Monday) and months of UTC in which there was one. What any rule keeps is
   kept. Without a rule all are kept, and the newest is kept in any case. */

#ifndef WKSPD_CORE_RETENTION_H
#define WKSPD_CORE_RETENTION_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/schedule.h"

typedef struct retention_item {
  uint64_t id;
  uint64_t time_ns; /* since 1970 */
  int goes;         /* the answer */
} retention_item_t;

/* Sorts items by time, newest first, and sets goes in each. Returns how many go. */
size_t retention_select(schedule_keep_t const *keep, retention_item_t *items, size_t cnt);

#endif
