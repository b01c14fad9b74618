/* map: seats of the calling thread; the registry of joins is declared in call.h. See map.c. */

#ifndef WKSP_CORE_MAP_H
#define WKSP_CORE_MAP_H

#include "core/seat.h"

/* The calling thread's seats, most recently made first. */
extern __thread wksp__seat_t *wksp__seats;

/* The calling thread's seat in a workspace, NULL if it has none. */
wksp__seat_t *wksp__seat_find(fd_wksp_t const *wksp);

/* A new one without a slot, which keeps the mapping. E_INVAL, E_RDONLY, E_NOMEM (reported). */
int wksp__seat_new(fd_wksp_t *wksp, wksp__seat_t **ret_seat);

/* Gives its slot back and forgets it; the last one of a workspace that is left unmaps it. */
void wksp__seat_drop(wksp__seat_t *seat);

/* Leaves the seat's heaps and gives its slot back (slot.c). */
void wksp__slot_release(wksp__seat_t *seat);

#endif
