/* pressure: see pressure.h. Refuses to know what a gauge counts. */

#include "daemon/core/pressure.h"

#include <string.h>

int pressure_judge(int was, uint64_t used, uint64_t limit) {
  uint64_t percent = used >= limit              ? 100
                     : limit > UINT64_MAX / 100 ? used / (limit / 100)
                                                : used * 100 / limit;
  return percent >= (was ? PRESSURE_LOW : PRESSURE_HIGH);
}

static int same(engine_pressure_t const *a, engine_pressure_t const *b) {
  return !strcmp(a->what, b->what) && a->of == b->of && a->uid == b->uid &&
         a->page_size == b->page_size && a->node == b->node && !strcmp(a->tag, b->tag);
}

static void drop(pressure_t *pressure, size_t at) {
  pressure->high[at] = pressure->high[--pressure->cnt];
  pressure->seen[at] = pressure->seen[pressure->cnt];
}

void pressure_begin(pressure_t *pressure) {
  pressure->pass++;
}

int pressure_gauge(pressure_t *pressure, engine_pressure_t *gauge) {
  size_t at = 0;

  while (at < pressure->cnt && !same(&pressure->high[at], gauge)) at++;
  int was = at < pressure->cnt;
  gauge->high = pressure_judge(was, gauge->used, gauge->limit);
  if (!was && (!gauge->high || at == PRESSURE_MAX)) return 0;
  if (!gauge->high) {
    drop(pressure, at);
    return 1;
  }
  pressure->high[at] = *gauge;
  pressure->seen[at] = pressure->pass;
  pressure->cnt += !was;
  return !was;
}

int pressure_gone(pressure_t *pressure, engine_pressure_t *ret_gauge) {
  for (size_t at = 0; at < pressure->cnt; at++) {
    if (pressure->seen[at] == pressure->pass) continue;
    *ret_gauge = pressure->high[at];
    ret_gauge->used = 0;
    ret_gauge->high = 0;
    drop(pressure, at);
    return 1;
  }
  return 0;
}
