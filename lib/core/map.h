/* map: seats of the calling thread; the registry of joins is declared in call.h. See map.c. */

#ifndef WKSP_CORE_MAP_H
#define WKSP_CORE_MAP_H

#include "core/atomic.h"
#include "core/live.h"
#include "core/seat.h"
#include "wksp/fd_alloc.h"

#define WKSP__TLS __thread __attribute__((tls_model("initial-exec")))

/* The calling thread's seats, most recently made first. */
extern WKSP__TLS wksp__seat_t *wksp__seats;

/* That of the seat which the thread used last, for the short forms of malloc and free; or, while
   they are off, the one below, which stays all 0 but for its join. Off while a call of the thread
   works on its heaps, and whenever the heap may no longer be its own for another reason than a
   closed gate. Never NULL. */
extern WKSP__TLS wksp__fast_t *wksp__fast;
extern __attribute__((visibility("hidden"))) wksp__fast_t wksp__fast_none;

/* What the gate of the thread's slot says when that heap serves the join in the short forms. */
static inline uint64_t wksp__fast_key(uintptr_t join, struct wksp__heap const *heap) {
  return join + (uintptr_t)heap;
}

static inline void wksp__fast_set(wksp__fast_t *fast) {
  wksp__compiler_fence(); /* a signal handler sees it when all is there */
  wksp__fast = fast;
  wksp__compiler_fence();
}

static inline void wksp__fast_off(void) {
  wksp__fast_t *fast = wksp__fast;
  wksp__fast_set(&wksp__fast_none);
  if (fast != &wksp__fast_none) fast->join = WKSP_FAST_OFF; /* a call of ours may hold it */
  wksp__compiler_fence(); /* a signal handler sees it off before the heap is touched */
}

/* Whom the process tells of bad frees. Set: 0, E_NOMEM (reported). */
typedef struct wksp__listener {
  void (*on_bad_free)(void *arg, fd_alloc_bad_free_t const *bad); /* NULL: nobody */
  void *arg;
} wksp__listener_t;
int wksp__listener_set(wksp__listener_t const *listener);
wksp__listener_t wksp__listener(void);

/* Whether the process has forked since it last looked: a child forgets what it was as its parent.
   To be asked before a seat is used. */
void wksp__life_check(void);

/* The calling thread's seat in a workspace, NULL if it has none. */
wksp__seat_t *wksp__seat_find(fd_wksp_t const *wksp);

/* A new one without a slot, which keeps the mapping. E_INVAL, E_RDONLY, E_NOMEM (reported). */
int wksp__seat_new(fd_wksp_t *wksp, wksp__seat_t **ret_seat);

/* Gives its slot back and forgets it; the last one of a workspace that is left unmaps it. */
void wksp__seat_drop(wksp__seat_t *seat);

/* Leaves the seat's heaps and gives its slot back (slot.c). */
void wksp__slot_release(wksp__seat_t *seat);

/* The thread is in no call of this workspace. Should its slot say otherwise, it has left one by
   longjmp out of a signal handler: what it was at is then left as a killed thread's (slot.c). */
void wksp__slot_mend(wksp__seat_t *seat);

#endif
