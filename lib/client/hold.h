/* hold: descriptors that a forked child must not keep.

   Connections and lifelines speak for this process alone: a child that kept a copy would keep its
   parent's lease alive after the parent's death. So every descriptor that lib/client holds lies in
   a place that the fork handlers know, from the moment at which the kernel hands it out until it is
   closed, and the child closes its copies before fork returns there.

   Numbers in a hold change only between wksp__hold_lock and wksp__hold_unlock, which fork takes
   too. Nothing that can wait, and nothing of lib/core, may be called in between.

   may use: libc.  used by: conn, attach. */

#ifndef WKSP_CLIENT_HOLD_H
#define WKSP_CLIENT_HOLD_H

#include <stdint.h>

/* The most that one holder has: a connection's socket and the descriptors that came through it. */
#define WKSP__HOLD_MAX 9U

typedef struct wksp__hold {
  struct wksp__hold *next, **link;
  int fds[WKSP__HOLD_MAX]; /* -1: none */
} wksp__hold_t;

/* Makes the hold known, empty. 0, or -1 with errno when fork handlers cannot be registered
 * (memory).
 */
int wksp__hold_init(wksp__hold_t *hold);

/* Closes what is in it and forgets it. All zero bytes (never initialised): nothing. */
void wksp__hold_free(wksp__hold_t *hold);

void wksp__hold_lock(void);
void wksp__hold_unlock(void);

/* Closes the descriptor at idx if there is one. Takes the lock. */
void wksp__hold_close(wksp__hold_t *hold, uint32_t idx);

/* Moves a descriptor to an empty place. Takes the lock. */
void wksp__hold_move(wksp__hold_t *from, uint32_t from_idx, wksp__hold_t *to, uint32_t to_idx);

/* The number at idx now; -1 if there is none, as in a child. Takes the lock. */
int wksp__hold_fd(wksp__hold_t const *hold, uint32_t idx);

#endif
