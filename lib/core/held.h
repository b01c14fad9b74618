/* held: the lock in a program's own hands, as the rest of lib/core sees it. See held.c. */

#ifndef WKSP_CORE_HELD_H
#define WKSP_CORE_HELD_H

#include "core/seat.h"

/* Whether the calling thread holds the lock by fd_wksp_lock. */
int wksp__held(fd_wksp_t const *wksp);

/* Says that a call cannot begin because of that: E_BUSY. */
int wksp__held_refuse(fd_wksp_t const *wksp);

/* Gives the lock of a seat that holds it back and ends its call. 0, or E_CORRUPT (reported) if the
 * lock was no longer this thread's. */
int wksp__held_end(wksp__seat_t *seat);

#endif
