/* call: a thread inside the library, as the others see it.

   Every thread that changes a workspace does so from a slot, a record in the volatile region that
   says who it is, whether it lives, and whether it is inside a call. This file leases slots,
   brackets calls and keeps the one lock.

   Liveness. The claim word of a slot is {generation, owner, state}. A thread claims by CAS, then
   locks the robust mutex in the slot: only the claimant ever locks it, nobody else locks or tries
   it. When the thread dies the kernel sets FUTEX_OWNER_DIED in the mutex's word; everybody else
   just loads that word. {slot, generation} names a thread for ever: the generation goes up each
   time a slot changes hands.

   Slot 0 is the shared one: when no slot is free, a call claims it for its own duration.

   The gate. A call stores in+1, loads the gate, works, stores out = in. Whoever needs a slot to
   hold still stores its name in the gate, makes the kernel run a barrier on every core
   (membarrier), and waits, bounded, for in == out. The plain stores of the owner and the barrier of
   the closer are partners. The short forms of malloc and free do the same with one word: flight is
   busy while they are inside; and the gate has to name the join that they were called with and the
   heap, so one look says that it is open and the heap still theirs.

   may use: layout, atomic, error.  used by: part, root, alloc. */

#ifndef WKSP_CORE_CALL_H
#define WKSP_CORE_CALL_H

#include "atomic.h"
#include "futex.h"
#include "layout.h"

#include <pthread.h>
#include <stdint.h>

typedef struct wksp__slot {
  pthread_mutex_t live;   /* robust, process-shared; locked by the claimant only, for as long as it
                             holds the slot */
  uint64_t claim;         /* generation << 32 | owner << 2 | WKSP_SLOT_*: the truth about the slot.
                             owner, 30 bits: the daemon's lease, else WKSP_SLOT_PID | pid */
  uint64_t in, out;       /* in != out: inside a call, as when flight is busy. Written by the owner
                             only */
  uint64_t gate;          /* below WKSP_GATE_NOTICE: open, and, if not 0, also for the short forms
                             with a certain join and heap (fast_key, map.h). Or WKSP_GATE_NOTICE;
                             or that and the closer's name: closed */
  uint64_t gate_until_ns; /* CLOCK_MONOTONIC: from then on the owner may reopen it */
  uint64_t since_ns;      /* CLOCK_REALTIME of the claim; this and the next four for people */
  uint32_t pid, tid;      /* as the owner sees itself */
  char comm[16];
  uint32_t fenced;     /* WKSP_FENCED_*: what the owner does at the start of a call. Others only add
                          WKSP_FENCED_LOOK, and a notice in the gate, which the short forms see */
  uint32_t gate_futex; /* changes at each opening */
  uint64_t flight;     /* gaddr of the block that the last malloc or the current free is about, 0
                          none: the suspect of a kill. Or WKSP_FLIGHT_TOP */
  uint64_t announce;   /* span index + 1 that this thread is about to push on an inbox, 0 none */
  uint64_t nested_cnt; /* calls that found the thread inside a call */
  uint64_t intent;     /* what malloc_to, take_from or free_from is at, 0 none (alloc_exact.c) */
  uint32_t intent_heap; /* directory id of the heap in whose magazines the block is, or goes */
  uint32_t intent_seq;  /* number of the last intent */
  uint64_t heap;        /* gaddr of the heap that the short forms work on */
  uint64_t bracket;    /* how many brackets the owner is inside of (pause.c). Written by him only */
  wksp__queue_t queue; /* of the shared slot: for it */
  uint32_t lent_id; /* directory id of the heap that the last call which borrowed the slot had, 0;
                       any number does no harm */
  uint32_t pad_lent;
  uint64_t lot; /* blocks that the owner gives back together (alloc_lot.c): a number of its own, 0
                   none; others only add marks */
  uint64_t lot_last;        /* number of the last one */
  uint64_t lot_span, lot_w; /* the word of which span they are of */
  uint64_t lot_bits, lot_f; /* which of it; what F was */
  uint64_t lot_at, lot_top; /* gaddr of their array's top; what that is when they have left */
} wksp__slot_t;

_Static_assert(sizeof(wksp__slot_t) == 256, "slots do not share lines");

/* Comes in; the gate is to be looked at next. Again, should a signal handler's call have come
   between the load and the store: it has left `out` as we have made `in`. */
static inline void wksp__slot_in(wksp__slot_t *slot) {
  do {
    uint64_t in = wksp__ld(&slot->in);
    wksp__st(&slot->in, in + 1);
  } while (wksp__unlikely(wksp__ld(&slot->in) == wksp__ld(&slot->out)));
}

#define WKSP_FENCED_CALLS 1U /* fence: its kernel refused membarrier */
#define WKSP_FENCED_LOOK  2U /* look whether its process has protected the memory (protect.c) */

enum { WKSP_SLOT_FREE = 0, WKSP_SLOT_CLAIMING = 1, WKSP_SLOT_HELD = 2 };
#define CLAIM_STATE(c)           ((uint32_t)((c)&3UL))
#define CLAIM_OWNER(c)           ((uint32_t)((c) >> 2 & 0x3fffffffUL))
#define CLAIM_GEN(c)             ((c) >> 32)
#define CLAIM(gen, owner, state) ((uint64_t)(gen) << 32 | (uint64_t)(owner) << 2 | (state))
#define WKSP_SLOT_PID            (1U << 29)
/* What a forked child claims with, in place of its parent's lease: an id that the daemon never
 * gives. */
#define WKSP_LEASE_FORKED (WKSP_SLOT_PID - 1UL)

/* In a slot's flight: a dead holder's, not yet noted elsewhere. */
#define WKSP_FLIGHT_DEAD (1UL << 63)
/* In a slot's intent: a dead holder's, not yet settled. */
#define WKSP_INTENT_DEAD 4UL
/* In a slot's lot: its pair was changed; a dead holder's, not yet settled. Its number is a multiple
   of STEP. */
#define WKSP_LOT_DONE 1UL
#define WKSP_LOT_DEAD 2UL
#define WKSP_LOT_STEP 4UL
/* In a slot's flight: its thread is inside the short form of malloc or free (alloc_fast.c). */
#define WKSP_FLIGHT_BUSY 1UL
/* In a slot's flight: the rest is not a gaddr but the offset of a magazine in the slot's heap,
   whose topmost block its thread is taking. If it has taken it, the block's gaddr is what lies
   above the top; otherwise nothing is in flight, and what lies there was taken before. */
#define WKSP_FLIGHT_TOP 2UL

/* An open gate whose owner has to look at its heaps again: one may have been taken from it. With a
   name it is closed. Names, and sums of two addresses in the owner's process, are smaller. */
#define WKSP_GATE_NOTICE       (1UL << 63)
#define WKSP_GATE_CLOSED(name) (WKSP_GATE_NOTICE | (name))

/* Whether a call has to do something about the gate before it goes on. */
static inline int wksp__gate_bars(uint64_t gate) {
  return gate >= WKSP_GATE_NOTICE;
}

/* Entries of the record; part_priv.h and part.h say what the largest change needs. */
#define WKSP_UNDO_MAX   40
#define WKSP_UNDO_SLACK 8 /* notes that are written before their number is checked */
#define WKSP_REDO_MAX   80

/* One word of a change: its offset in the workspace, a multiple of 8, and a value for it. */
typedef struct wksp__note {
  uint64_t where, value;
} wksp__note_t;

/* Words at the head of the partition region that nearly every change changes; noted together. */
#define WKSP_REC_HEAD 3

/* The head of the volatile region; the slots follow it at wksp__slots(). */
typedef struct wksp__vol {
  uint64_t lock;          /* 0, or the holder's name */
  uint64_t lock_since_ns; /* CLOCK_REALTIME: since when somebody has been waiting for this holder,
                             0: nobody has; for people */
  uint32_t lock_futex;    /* changes at each unlock that saw waiters */
  uint32_t lock_waiters;  /* 1: somebody may sleep */
  uint64_t version;       /* odd during a change: readers without the lock check it */
  uint64_t rec; /* what the record below is about, 0 nothing: tx.h. The one word that decides */
  uint64_t rec_head[WKSP_REC_HEAD]; /* what the head's words were */
  wksp__note_t undo[WKSP_UNDO_MAX + WKSP_UNDO_SLACK], redo[WKSP_REDO_MAX];
} wksp__vol_t;

/* How long malloc's fetch of spans or a large block waits for the lock, and everybody else; ns. The
   first was 10 ms in the plan: on a machine with more runnable threads than cores a holder that has
   just lost its core keeps the lock longer than that, and malloc failed for no good reason
   (docs/adr/0003). */
#define WKSP_LOCK_FETCH_NS 250000000UL
#define WKSP_LOCK_CALL_NS  10000000000UL

static inline wksp__vol_t *wksp__vol(fd_wksp_t const *wksp) {
  return (wksp__vol_t *)((uintptr_t)wksp + wksp->vol_off);
}

static inline wksp__slot_t *wksp__slots(fd_wksp_t const *wksp) {
  return (wksp__slot_t *)((uintptr_t)wksp + wksp->vol_off +
                          ((sizeof(wksp__vol_t) + 255UL) & ~255UL));
}

static inline uint64_t wksp__vol_size(uint32_t slot_max) {
  return ((sizeof(wksp__vol_t) + 255UL) & ~255UL) + (uint64_t)slot_max * sizeof(wksp__slot_t);
}

/* A thread's name, 52 bits. Generations begin at 1, so that it is never 0. */
static inline uint64_t wksp__name_of(uint32_t slot_idx, uint64_t gen) {
  return (gen & 0xffffffffUL) << 20 | (slot_idx + 1);
}

static inline uint32_t wksp__name_slot(uint64_t name) {
  return (uint32_t)(name & 0xfffffUL) - 1U;
}

/* 1 if the thread of that name has ended, was killed or has given its slot back; 0 if it lives as
 * far as the kernel has said. */
int wksp__name_dead(fd_wksp_t const *wksp, uint64_t name);

/* One call of this thread. */
typedef struct wksp__call {
  fd_wksp_t *wksp;
  wksp__slot_t *slot;
  uint64_t name;
  struct wksp__seat *seat; /* what this thread keeps between calls; NULL: the slot is the shared
                              one, given back at the end */
} wksp__call_t;

/* Starts a call: leases a slot if this thread has none here, passes the gate. 0; E_RDONLY for a
   read-only join or a protected memory, E_BUSY if this thread holds the lock by fd_wksp_lock,
   E_INVAL if not joined, E_TIMEDOUT (the shared slot stayed taken). Reported. On success
   wksp__call_end must follow. */
int wksp__call_begin(fd_wksp_t *wksp, wksp__call_t *ret_call);
void wksp__call_end(wksp__call_t *call);

/* Who holds the lock, for people: a moment later it may be another. pid 0: nobody, or a word that
   names no slot. The words are of memory that others write: comm is made printable. */
typedef struct wksp__holder {
  uint64_t since_ns; /* CLOCK_REALTIME: since when somebody waits for him, 0: nobody has */
  uint32_t pid, tid; /* as it sees itself */
  uint32_t dead;     /* 1: it has ended; the next call takes over */
  char comm[16];     /* ends with a NUL */
} wksp__holder_t;
void wksp__lock_holder(fd_wksp_t const *wksp, wksp__holder_t *ret_holder);

/* Takes the workspace's lock, at most until timeout_ns from now. 0, or E_TIMEDOUT naming the holder
   (reported). A dead holder's lock is taken over; what his record says is ended before this
   returns. */
int wksp__lock(wksp__call_t *call, uint64_t timeout_ns);
void wksp__unlock(wksp__call_t *call);

/* As wksp__lock, but a record that cannot be ended does not matter: 1, and it is for the caller to
   make good what it may have left. */
int wksp__lock_mend(wksp__call_t *call, uint64_t timeout_ns);

/* Their rare parts (enter.h): got: the word is ours already. */
int wksp__lock_rest(wksp__call_t *call, uint64_t timeout_ns, int got);
void wksp__lock_wake(wksp__call_t *call);

/* Closes the gate of slot idx and waits at most wait_ns until its thread is outside. 1: it holds
   still until wksp__gate_open; 0: it stays inside (the gate is open again); also 1 for a slot that
   nobody holds. Not on the caller's own slot. hold_ns: after this the owner may go on by itself. */
int wksp__gate_close(wksp__call_t *call, uint32_t idx, uint64_t wait_ns, uint64_t hold_ns);
void wksp__gate_open(wksp__call_t *call, uint32_t idx);

/* From here on the short forms serve whom key names: 1, or 0 if the gate is closed or has a notice.
   Or none. By the slot's owner, inside a call or before anybody else can have the slot's heaps; a
   gate that is closed or has a notice stays so. */
int wksp__gate_serve(wksp__slot_t *slot, uint64_t key);
void wksp__gate_serve_none(wksp__slot_t *slot);

/* Whether the slot's thread is outside of calls. */
int wksp__slot_outside(wksp__slot_t const *slot);

/* A barrier on every core that runs a process which has joined a workspace. 1, or 0 if the kernel
 * refuses it. */
int wksp__barrier(void);

/* Gives slots back whose threads are dead, after what they had in flight is noted with its alloc;
   lease: also those that a process of this ended lease was claiming (0: none). Returns how many. */
uint32_t wksp__slots_reap(wksp__call_t *call, uint64_t lease);

/* Before a dead thread's heap is taken: what he had in flight is noted with its alloc, for only as
   long as nobody touches the heap can be seen whether the block is free in it. name: the dead's. 1,
   or 0: not yet, somebody is at it, or the lock for it cannot be had at once. */
int wksp__slot_settle(wksp__call_t *call, uint64_t name);

/* What the dead holder of the slot was at in malloc_to, take_from or free_from is ended, or as if
   it had never begun (alloc_exact.c). The caller has the slot to himself. 0, or E_TIMEDOUT for the
   lock after at most wait_ns. */
int wksp__exact_settle(wksp__call_t *call, wksp__slot_t *slot, uint64_t wait_ns);

/* Formats the slots; part of fd_wksp_new. */
void wksp__slots_new(fd_wksp_t *wksp);

/* What a process knows of a workspace that it has joined. */
typedef struct wksp__map {
  struct wksp__map *next;
  fd_wksp_t *wksp;
  uint64_t id; /* never used twice in a process: tells a new join at an old address */
  uint32_t joins;
  uint32_t leased; /* slots that threads of this process hold */
  int ro;
  uint32_t guarded;  /* 1: a part is protected, or about to be: no call that changes may begin. Read
                        without the mutex */
  uint32_t guarding; /* 1: a thread is changing the protection */
  uint32_t busy;     /* threads at slots or heaps of theirs outside of calls */
  int prot[2];       /* PROT_* of the tables and of the data (protect.c) */
  uint64_t lease;    /* the daemon's, 0; own: a number that a child has another of */
  struct wksp__own *own; /* memory of this process alone (private.h); NULL: it is not */
  void (*unmap)(
      void *arg); /* called once joins and leased are 0; NULL: the memory is somebody else's */
  void *unmap_arg;
} wksp__map_t;

/* Adds a join. unmap may be NULL. E_NOMEM, E_INVAL (joined otherwise already: ro differs). */
int wksp__map_add(fd_wksp_t *wksp, int ro, uint64_t lease, void (*unmap)(void *arg), void *arg);

/* In a child that has a copy of the memory: every slot that its parent's threads had is a dead
   thread's but those of seat, which may be NULL; these become the child's, which has another lease
   already. */
void wksp__slots_orphan(wksp__map_t const *map, struct wksp__seat const *seat);

/* Adds the first join to private memory (private.h). */
int wksp__map_add_own(fd_wksp_t *wksp, struct wksp__own *own, void (*unmap)(void *arg));

/* Undoes one. The calling thread's slot is given back with the last. E_INVAL if not joined. */
int wksp__map_drop(fd_wksp_t *wksp);

/* 1 read-only, 0 not, E_INVAL not joined. */
int wksp__map_ro(fd_wksp_t const *wksp);

/* The record of a joined workspace, NULL if it is not joined. It stays while a join does. */
wksp__map_t *wksp__map_of(fd_wksp_t const *wksp);

/* Before a thread touches slots or heaps outside of a call: 1 and wksp__map_idle must follow, or 0:
   the memory is protected. */
int wksp__map_busy(wksp__map_t *map);
void wksp__map_idle(wksp__map_t *map);

/* Adds a join to a workspace of that name which this process has joined: one joined read-write if
   there is any, else, if rw is 0, one joined read-only. NULL if there is none (nothing reported).
 */
fd_wksp_t *wksp__map_join_named(char const *name, int rw);

/* The joined workspace whose footprint contains laddr, NULL if there is none. */
fd_wksp_t *wksp__map_containing(void const *laddr);

/* For loops that wait for another thread's store, turn counting from 0: first only a pause, then a
   yield, then short sleeps, so that a thread which lost its core inside a call gets it back. */
WKSP_PRIVATE void wksp__relax(uint32_t turn);

/* Monotonic and real time, ns. */
WKSP_PRIVATE uint64_t wksp__now_ns(void);
WKSP_PRIVATE uint64_t wksp__real_ns(void);

#endif
