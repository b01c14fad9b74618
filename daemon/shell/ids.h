/* ids: numbers of workspaces and leases, which are on disk as used before anybody sees them. */

#ifndef WKSPD_SHELL_IDS_H
#define WKSPD_SHELL_IDS_H

#include "daemon/shell/loop.h"

/* NULL: no memory. */
struct ids *ids_new(loop_t *loop);

/* Nothing may be under way. */
void ids_free(struct ids *ids);

/* A MEMORY_MAKE or LEASE_MAKE is to be carried out: 1: go on, its number is covered; 0: it is
   carried out by effects_go_on once the number is, or answered as failed; -1: no memory, no answer.
 */
int ids_take(loop_t *loop, engine_effect_t const *effect);

/* The making of ws_id is not wanted any more: if it waits here, it is answered as cancelled. */
void ids_cancel(loop_t *loop, uint64_t ws_id);

#endif
