/* seat: what a thread keeps between its calls in one workspace: its slot, and the heaps it owns.

   Seats are private to their thread. A heap in the list is the thread's as long as the heap's owner
   word says so; after its gate was closed the thread looks (wksp__seat_review). */

#ifndef WKSP_CORE_SEAT_H
#define WKSP_CORE_SEAT_H

#include "call.h"
#include "wksp/pause.h"

/* Heaps that a thread owns at once in one workspace; a further one makes it leave the one that it
   has not used for longest. Bounds what a thread of a program with thousands of allocs holds. */
#define WKSP_SEAT_HEAPS 16

/* A thread that frees so many blocks without having a heap gets one. */
#define WKSP_SEAT_BARE_FREES 64

/* Calls inside of calls, in signal handlers, that have a slot of their own; deeper ones go through
   the shared slot. */
#define WKSP_SEAT_NESTED 4

/* What a thread needs to take a block from the magazines of the heap of this seat that it used
   last, or to free one into them (alloc_fast.c); which one is valid says wksp__fast (map.h). All 0
   in a forked child. A line of its own. */
typedef struct wksp__fast {
  wksp__slot_t *slot; /* NULL: off */
  uintptr_t join;     /* as the thread named the fd_alloc last; WKSP_FAST_OFF: off */
  struct wksp__heap *heap;
  uintptr_t base;        /* the workspace */
  uint64_t data_hi;      /* gaddrs from here on are none of data; off: 0 */
  uint64_t const *words; /* span words: of the 64 KiB at gaddr 0, and so on */
  uint32_t me;           /* the word of a span of class 0 that the heap OWNS, without version */
  uint32_t pad[3];
} wksp__fast_t;
_Static_assert(sizeof(wksp__fast_t) == 64, "a line");

/* No join: an fd_alloc lies below the end of the address space. */
#define WKSP_FAST_OFF (~0UL)

typedef struct wksp__seat {
  struct wksp__seat *next;
  wksp__map_t *map; /* NULL in a forked child, which finds its parent's seats all zero */
  fd_wksp_t *wksp;
  wksp__slot_t *slot;
  uint64_t name;
  int fenced;      /* the kernel refused membarrier: calls fence */
  int held;        /* the lock is held by fd_wksp_lock, inside a call that ends with the unlock */
  int paused;      /* brackets are closed by wksp_pause */
  uint32_t epoch;  /* counts heaps taken: see wksp__heap_owner_word */
  uint64_t shared; /* our name while we have the shared slot, else 0 */
  wksp__slot_t *nested[WKSP_SEAT_NESTED]; /* slots of calls inside of calls, NULL */
  uint64_t life;       /* the map's lease: private memory is copied by fork, the seat with it */
  uint32_t bare_frees; /* blocks freed in allocs of which the thread has no heap */
  uint32_t heap_cnt;
  struct {
    uint64_t alloc;        /* gaddr */
    uint32_t id;           /* the heap's, in the directory */
    uint64_t *owner;       /* the heap's owner word */
    uint64_t owner_val;    /* what it is while the heap is ours */
  } heap[WKSP_SEAT_HEAPS]; /* most recently used first */
  wksp_bracket_t bracket;  /* of the slot; depth NULL: there is none */
  /* Not at the start of a page, as the seat: the caches' places for that are full of blocks. */
  wksp__fast_t fast __attribute__((aligned(64)));
} wksp__seat_t;

/* Owner words of heaps are name | epoch << WKSP_OWNER_EPOCH_SHIFT; 0: left behind in good order. */
#define WKSP_OWNER_EPOCH_SHIFT 52
#define WKSP_OWNER_NAME(owner) ((owner) & ((1UL << WKSP_OWNER_EPOCH_SHIFT) - 1UL))

/* An owner that is dead and always was: who takes the heap rebuilds it. No slot has had generation
   0 while it was held. */
#define WKSP_OWNER_DEAD 1UL

/* The short forms of malloc and free serve none of the seat's heaps any more. */
void wksp__seat_short_off(wksp__seat_t *seat);

/* The bracket of a seat that has got its slot (pause.c). */
void wksp__bracket_set(wksp__seat_t *seat);

/* Leaves all heaps in good order; the thread is outside of calls, or ends. */
void wksp__seat_leave_heaps(wksp__seat_t *seat);

/* Leaves them as a killed thread does. */
void wksp__seat_abandon_heaps(wksp__seat_t *seat);

/* Leaves the heap of that alloc if the seat has one. */
void wksp__seat_leave_heap(wksp__seat_t *seat, uint64_t alloc_gaddr);

/* Drops heaps that have been taken; bump: changes the epoch of the others, so that a closer of the
   gate who comes late cannot take them. */
void wksp__seat_review(wksp__seat_t *seat, int bump);

#endif
