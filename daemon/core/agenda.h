/* agenda: the schedules of all workspaces, by name, each with its timer and what is known of its
   file.

   Invariants (agenda_check): sorted by name, no name twice; every schedule passes schedule_check.
 */

#ifndef WKSPD_CORE_AGENDA_H
#define WKSPD_CORE_AGENDA_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/schedule.h"
#include "daemon/core/timers.h"

struct call;

typedef struct plan {
  schedule_t schedule;
  timer_node_t timer;                   /* running: the next slot is waited for */
  timer_node_t drill_timer;             /* running: the next drill is waited for */
  uint64_t drill_job;                   /* a drill of it that waits or runs; 0: none */
  int writing;                          /* an answer about its file is under way */
  int dirty;                            /* it has changed since that was written */
  int dropped;                          /* there is none any more; stays until its file is gone */
  struct call *call;                    /* that waits for the writing, or NULL */
  uint32_t tries;                       /* of this start to bring its workspace back */
  uint64_t failed_store, failed_number; /* the checkpoint of the last of these, 0: none failed */
} plan_t;

/* Zeroes are an empty agenda. */
typedef struct agenda {
  plan_t **plans; /* owned */
  size_t cnt, cap;
} agenda_t;

/* NULL: none of that name. Finds dropped ones too. */
plan_t *agenda_find(agenda_t const *agenda, char const *name);

/* A zeroed one; name must be new. NULL: no memory. */
plan_t *agenda_add(agenda_t *agenda, char const *name);

/* Forgets it; its timers must be stopped. */
void agenda_remove(agenda_t *agenda, plan_t *plan);

/* NULL, or which invariant is broken. */
char const *agenda_check(agenda_t const *agenda);

void agenda_clear(agenda_t *agenda);

#endif
