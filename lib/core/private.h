/* private: workspaces in memory of one process alone: growth, and what goes back to the system. See
   private.c. */

#ifndef WKSP_CORE_PRIVATE_H
#define WKSP_CORE_PRIVATE_H

#include "core/atomic.h"
#include "core/call.h"
#include "core/seat.h"

#include <stdint.h>

/* What the process knows of such memory, beside its map. Constant but for the last three. */
typedef struct wksp__own {
  void *addr;      /* where the workspace starts */
  uint64_t size;   /* bytes of addresses from there */
  uint64_t unit;   /* the end of the data moves by this */
  uint64_t page;   /* whole ones go back to the system */
  uint64_t keep;   /* so many free bytes stay resident */
  uint64_t nodes;  /* mask of memory nodes, 0: any */
  uint32_t flags;  /* FD_WKSP_PRIVATE_* */
  uint64_t end;    /* gaddr from which on there are no data yet; raised before the data grow */
  uint64_t grower; /* name of the thread that moves the end, 0 */
  uint64_t idle;   /* about how many free bytes are resident */
} wksp__own_t;

/* An allocation of size bytes aligned to align found no room: makes some if the workspace's memory
   is private and has not its full size. 1: try again; 0: there is no more to be had. Signals are
   off. */
int wksp__own_grow(wksp__call_t *call, uint64_t align, uint64_t size);

/* The index of the first span that nobody has ever had. */
static inline uint32_t wksp__span_end(wksp__call_t const *call) {
  wksp__own_t const *own = call->seat ? call->seat->map->own : NULL;
  return own ? (uint32_t)((wksp__ld(&own->end) - call->wksp->data_lo) >> WKSP_SPAN_LG)
             : wksp__span_cnt(call->wksp);
}

/* The caller has this memory to himself and is about to make it free, or has just taken it for
   use. map may be NULL, or not private: then they do nothing. */
void wksp__own_idle(wksp__map_t *map, void *addr, uint64_t size);
void wksp__own_busy(wksp__map_t *map, uint64_t size);

#endif
