/* pressure: what is nearly used up, told when it comes to that and when that is over.

   A gauge is one bound and what is in use of it. It becomes high at PRESSURE_HIGH of a hundred and
   low again below PRESSURE_LOW, so what goes up and down in between is not told twice. Gauges are
   looked at when something that they count has changed, at most once in PRESSURE_PERIOD_NS: so much
   a flapping user can make others hear, and so much the looking may cost.

     high holds exactly those that were told to be high and not yet low, no key twice

   Plain computation; which gauges there are, and who is told, is the engine's (press.c). */

#ifndef WKSPD_CORE_PRESSURE_H
#define WKSPD_CORE_PRESSURE_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/engine_watch.h"

#define PRESSURE_HIGH      90U
#define PRESSURE_LOW       80U
#define PRESSURE_PERIOD_NS 1000000000UL

/* Gauges that are high at a time. More are not told: by then it is known that there is a problem.
 */
#define PRESSURE_MAX 256U

typedef struct pressure {
  uint64_t pass;
  size_t cnt;
  engine_pressure_t high[PRESSURE_MAX];
  uint64_t seen[PRESSURE_MAX]; /* the last pass that had it */
} pressure_t;

/* Whether it is high, given that it was or was not. limit 0 is used up. */
int pressure_judge(int was, uint64_t used, uint64_t limit);

/* A new look begins. */
void pressure_begin(pressure_t *pressure);

/* A gauge of this look; its high is set. 1: it was not so before, and is to be told. */
int pressure_gauge(pressure_t *pressure, engine_pressure_t *gauge);

/* One that was high and was not in this look, which has ended: it is low, and to be told. 0: there
   is none more. */
int pressure_gone(pressure_t *pressure, engine_pressure_t *ret_gauge);

#endif
