/* history: workspaces that have gone and whose calls are remembered, by the time of their removal.

   Invariants (history_check): cnt <= HISTORY_MAX; removed_ns never falls; each is GONE and
   remembers a call. */

#ifndef WKSPD_CORE_HISTORY_H
#define WKSPD_CORE_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/spec.h"

/* How many are remembered: a client that lost an answer asks again within its deadline, and this is
   what hundreds of removals a second come to in seconds. A file of some 700 bytes each. */
#define HISTORY_MAX 1024U

/* Zeroes are an empty history. */
typedef struct history {
  spec_t **specs; /* oldest first */
  size_t cnt, cap;
} history_t;

/* Copies it to its place. 0 or WKSP_E_NOMEM. Whoever adds takes the oldest out while there are more
   than HISTORY_MAX. */
int history_add(history_t *history, spec_t const *spec);

/* Forgets the oldest; its id, 0 if there is none. */
uint64_t history_drop(history_t *history);

/* The one of this name that remembers a call of this id, NULL if there is none. */
spec_t const *history_find(history_t const *history, char const *name,
                           uint8_t const id[SPEC_CALL_ID_SIZE]);

/* NULL, or which invariant is broken. */
char const *history_check(history_t const *history);

void history_clear(history_t *history);

#endif
