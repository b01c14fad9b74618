/* private: workspaces in memory of one process alone: growth, and what goes back to the system. See
   private.c. */

#ifndef WKSP_CORE_PRIVATE_H
#define WKSP_CORE_PRIVATE_H

#include "core/atomic.h"
#include "core/call.h"
#include "core/futex.h"
#include "core/seat.h"

#include <stdint.h>

/* What the process knows of such memory, beside its map. Constant but for the last six. */
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
  wksp__queue_t growing; /* for the right to move the end */
  /* Slots and entries of the heap directory from here on have never been used: who looks at all of
     them stops there. Raised before one behind them is. */
  uint32_t slot_end, heap_end;
} wksp__own_t;

/* What the process knows of the memory that a call is about; NULL: it is not private. */
wksp__own_t *wksp__call_own(wksp__call_t const *call);

/* An allocation of size bytes aligned to align found no room: makes some if the workspace's memory
   is private and has not its full size. 1: try again; 0: there is no more to be had. Signals are
   off. */
int wksp__own_grow(wksp__call_t *call, uint64_t align, uint64_t size);

/* The index of the first span that nobody has ever had. */
static inline uint32_t wksp__span_end(wksp__call_t const *call) {
  wksp__own_t const *own = wksp__call_own(call);
  return own ? (uint32_t)((wksp__ld(&own->end) - call->wksp->data_lo) >> WKSP_SPAN_LG)
             : wksp__span_cnt(call->wksp);
}

/* Likewise of slots, and of entries of the heap directory. own: of the workspace, NULL. more: they
   may be used up to a higher end than that from now on: 1, or 0: it was the highest. */
static inline uint32_t wksp__slot_end(wksp__own_t const *own, fd_wksp_t const *wksp) {
  return own ? wksp__ld(&own->slot_end) : wksp->slot_max;
}
static inline uint32_t wksp__heap_end(wksp__own_t const *own, fd_wksp_t const *wksp) {
  return own ? wksp__ld(&own->heap_end) : wksp->heap_max;
}
int wksp__slot_more(wksp__own_t *own, fd_wksp_t const *wksp, uint32_t end);
int wksp__heap_more(wksp__own_t *own, fd_wksp_t const *wksp, uint32_t end);

/* A free entry of the heap directory of any workspace, from id on; 0 if there is none
   (alloc_heap.c). */
uint32_t wksp__dir_free(wksp__call_t const *call, uint32_t id);

/* The caller has this memory to himself and is about to make it free, or has just taken it for
   use. map may be NULL, or not private: then they do nothing. */
void wksp__own_idle(wksp__map_t *map, void *addr, uint64_t size);
void wksp__own_busy(wksp__map_t *map, uint64_t size);

#endif
