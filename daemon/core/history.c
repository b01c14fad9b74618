/* history: see history.h. A sorted array of pointers; the newest nearly always comes last. Refuses
   an index by id: at most HISTORY_MAX names are compared, once per call that changes something. */

#include "daemon/core/history.h"

#include <stdlib.h>
#include <string.h>

#include "wksp/error.h"

#define CAP_MIN 16UL

int history_add(history_t *history, spec_t const *spec) {
  if (history->cnt == history->cap) {
    size_t cap = history->cap ? history->cap * 2 : CAP_MIN;
    spec_t **specs = realloc(history->specs, cap * sizeof(spec_t *));
    if (!specs) return WKSP_E_NOMEM;
    history->specs = specs;
    history->cap = cap;
  }
  spec_t *copy = malloc(sizeof(*copy));
  if (!copy) return WKSP_E_NOMEM;
  *copy = *spec;
  size_t place = history->cnt++;
  while (place && history->specs[place - 1]->removed_ns > spec->removed_ns) {
    history->specs[place] = history->specs[place - 1];
    place--;
  }
  history->specs[place] = copy;
  return 0;
}

uint64_t history_drop(history_t *history) {
  if (!history->cnt) return 0;
  uint64_t ws_id = history->specs[0]->ws_id;
  free(history->specs[0]);
  memmove(history->specs, history->specs + 1, --history->cnt * sizeof(spec_t *));
  return ws_id;
}

spec_t const *history_find(history_t const *history, char const *name,
                           uint8_t const id[SPEC_CALL_ID_SIZE]) {
  for (size_t i = history->cnt; i--;) {
    spec_t const *spec = history->specs[i];
    if (!strcmp(spec->name, name) && spec_done_find(spec, id)) return spec;
  }
  return NULL;
}

char const *history_check(history_t const *history) {
  if (history->cnt > HISTORY_MAX) return "the history is bounded";
  for (size_t i = 0; i < history->cnt; i++) {
    spec_t const *spec = history->specs[i];
    if (spec->state != SPEC_GONE || !spec->done_cnt || spec_check(spec))
      return "the history is of workspaces that have gone and remember a call";
    if (i && history->specs[i - 1]->removed_ns > spec->removed_ns) return "the history is sorted";
  }
  return NULL;
}

void history_clear(history_t *history) {
  for (size_t i = 0; i < history->cnt; i++) free(history->specs[i]);
  free(history->specs);
  *history = (history_t){0};
}
