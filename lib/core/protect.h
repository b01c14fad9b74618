/* protect: whether this process has protected a workspace's memory from itself. See protect.c. */

#ifndef WKSP_CORE_PROTECT_H
#define WKSP_CORE_PROTECT_H

#include "core/call.h"

/* Whether a part of a joined workspace is protected in this process. */
int wksp__protected(fd_wksp_t const *wksp);

/* Whether loads from its data fault in this process. */
int wksp__protected_loads(fd_wksp_t const *wksp);

/* Says that a call cannot begin because of that: E_RDONLY. */
int wksp__protect_refuse(fd_wksp_t const *wksp);

/* Takes what protection there is away; part of the last leave. */
void wksp__protect_end(wksp__map_t *map);

/* A run of pages that get the same protection. */
typedef struct wksp__prot_run {
  uint64_t lo, hi; /* offsets in the workspace */
  int prot;        /* PROT_* */
} wksp__prot_run_t;

#define WKSP_PROT_RUNS_MAX 10U

/* The workspace in runs of pages of page_size bytes, if the tables are to have prot[0] and the data
   prot[1]. A page gets whatever any part of it is to have; the volatile region is to have vol. The
   number of runs, at most WKSP_PROT_RUNS_MAX. */
uint32_t wksp__protect_plan(fd_wksp_t const *wksp, uint64_t page_size, int const prot[2], int vol,
                            wksp__prot_run_t *ret_runs);

/* Marks the slots that threads of this process hold, so that their calls look at map->guarded
   first, and waits until none of these threads is inside a call. 1, or 0 and *ret_tid, who stayed
   inside (slot.c). */
int wksp__slots_still(wksp__map_t const *map, uint64_t wait_ns, uint32_t *ret_tid);

/* Of several threads one at a time changes the protection: 1, and wksp__map_guard_end must follow,
   or 0 (map.c). */
int wksp__map_guard_begin(wksp__map_t *map);
void wksp__map_guard_end(wksp__map_t *map);

/* Sets map->guarded. Whether threads are at slots or heaps of theirs outside of calls; no new ones
 * come while it is set. */
int wksp__map_guard_set(wksp__map_t *map, int guarded);

#endif
