/* agenda: see agenda.h. A sorted array of pointers, for timers and calls point to plans. Refuses to
   know when anything is due. */

#include "daemon/core/agenda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/limits.h"
#include "wksp/error.h"

#define CAP_MIN 16UL

/* The place of the first whose name is not below. */
static size_t agenda_place(agenda_t const *agenda, char const *name) {
  size_t low = 0, high = agenda->cnt;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (strcmp(agenda->plans[middle]->schedule.name, name) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

plan_t *agenda_find(agenda_t const *agenda, char const *name) {
  size_t place = agenda_place(agenda, name);
  if (place == agenda->cnt || strcmp(agenda->plans[place]->schedule.name, name) != 0) return NULL;
  return agenda->plans[place];
}

plan_t *agenda_add(agenda_t *agenda, char const *name) {
  if (agenda->cnt == agenda->cap) {
    size_t cap = agenda->cap ? agenda->cap * 2 : CAP_MIN;
    plan_t **plans = realloc(agenda->plans, cap * sizeof(plan_t *));
    if (!plans) return NULL;
    agenda->plans = plans;
    agenda->cap = cap;
  }
  plan_t *plan = calloc(1, sizeof(*plan));
  if (!plan) return NULL;
  snprintf(plan->schedule.name, sizeof(plan->schedule.name), "%s", name);
  size_t place = agenda_place(agenda, name);
  memmove(agenda->plans + place + 1, agenda->plans + place,
          (agenda->cnt - place) * sizeof(plan_t *));
  agenda->plans[place] = plan;
  agenda->cnt++;
  return plan;
}

void agenda_remove(agenda_t *agenda, plan_t *plan) {
  size_t place = agenda_place(agenda, plan->schedule.name);
  memmove(agenda->plans + place, agenda->plans + place + 1,
          (--agenda->cnt - place) * sizeof(plan_t *));
  free(plan);
}

char const *agenda_check(agenda_t const *agenda) {
  if (agenda->cnt > ENGINE_SCHEDULES_MAX) return "schedules are bounded";
  for (size_t i = 0; i < agenda->cnt; i++) {
    plan_t const *plan = agenda->plans[i];
    if (schedule_check(&plan->schedule)) return "a schedule is one";
    if (plan->dropped && (plan->timer.place || plan->drill_timer.place || !plan->writing))
      return "what is dropped waits for its file to go";
    if (i && strcmp(agenda->plans[i - 1]->schedule.name, plan->schedule.name) >= 0)
      return "schedules are sorted by name";
  }
  return NULL;
}

void agenda_clear(agenda_t *agenda) {
  for (size_t i = 0; i < agenda->cnt; i++) free(agenda->plans[i]);
  free(agenda->plans);
  *agenda = (agenda_t){0};
}
