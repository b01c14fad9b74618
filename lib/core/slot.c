/* slot: leasing slots, bracketing calls, gates.

   The truth about a slot is its claim word and the word of its mutex:

     FREE                                   nobody's
     CLAIMING                               somebody is between his CAS and his lock
     HELD, mutex locked, not OWNER_DIED     a living thread's
     HELD, mutex free or OWNER_DIED         a dead thread's: free for a claim

   A claim raises the generation in the same CAS, so {slot, generation} never comes again (a
   generation has 32 bits), and whoever still holds the old name sees that it is dead.

   What a kill leaves: before the CAS nothing; between CAS and lock a CLAIMING slot, which the end
   of its lease (or, without a daemon, the kernel's word that there is no such process) gives free;
   afterwards the kernel's mark.

   The gate's protocol and its partners are in call.h. A gate protects exactly one thing: the CAS by
   which a closer takes a heap's owner word (alloc_heap.c). A closer who is late finds the owner
   word changed, because an owner that reopens a gate by itself raises the epoch in its heaps'
   words. */

#include "core/alloc.h"
#include "core/atomic.h"
#include "core/fail.h"
#include "core/futex.h"
#include "core/held.h"
#include "core/live.h"
#include "core/map.h"
#include "core/private.h"
#include "core/protect.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A call waits this long for the shared slot; ns. */
#define SHARED_WAIT_NS 10000000000UL
/* and looks so many times whether it is free before it sleeps: a call takes a few microseconds. */
#define SHARED_SPINS 32
/* Who takes a dead thread's heap waits this long for the lock, should he need it; ns. Else he takes
   another heap. */
#define SETTLE_WAIT_NS 2000000UL
/* What a waiter sleeps at most before it looks again whether the one it waits for lives; ns. */
#define RECHECK_NS 2000000UL

void wksp__slots_new(fd_wksp_t *wksp) {
  wksp__slot_t *slots = wksp__slots(wksp);
  for (uint32_t i = 0; i < wksp->slot_max; i++) memset(&slots[i], 0, sizeof slots[i]);
}

/* The mutex's futex word: the kernel's and glibc's protocol for robust futexes. */
static uint32_t mutex_word(wksp__slot_t const *slot) {
  return (uint32_t)wksp__ld_acquire(&slot->live.__data.__lock);
}

/* Whether a claim word without a lease names a process that the kernel does not know. */
static int gone(uint64_t old) {
  uint32_t owner = CLAIM_OWNER(old);
  return (owner & WKSP_SLOT_PID) && kill((pid_t)(owner & ~WKSP_SLOT_PID), 0) && errno == ESRCH;
}

/* Whether the holder that a claim word names is gone. */
static int claim_dead(wksp__slot_t const *slot, uint64_t claim) {
  uint32_t state = CLAIM_STATE(claim);
  if (state == WKSP_SLOT_CLAIMING) {
    return gone(claim);
  }
  if (state != WKSP_SLOT_HELD) return 1;
  uint32_t word = mutex_word(slot);
  return !word || (word & FUTEX_OWNER_DIED);
}

int wksp__name_dead(fd_wksp_t const *wksp, uint64_t name) {
  uint32_t idx = wksp__name_slot(name);
  if (idx >= wksp->slot_max) return 1;
  wksp__slot_t const *slot = &wksp__slots(wksp)[idx];
  /* acquire: what the dead did is seen by who finds it dead; pairs with the release of its claim
     or, when it was killed, with the kernel's store to the mutex */
  uint64_t claim = wksp__ld_acquire(&slot->claim);
  if (CLAIM_GEN(claim) != name >> 20) return 1;
  return claim_dead(slot, claim);
}

static uint32_t owner_of(uint64_t lease) {
  uint32_t id = (uint32_t)(lease ? lease : wksp__pid()) & (WKSP_SLOT_PID - 1);
  return lease ? id : WKSP_SLOT_PID | id;
}

/* The claim word's successor: one generation on. */
static uint64_t next_claim(uint64_t old, uint32_t owner, uint32_t state) {
  uint64_t gen = (CLAIM_GEN(old) + 1) & 0xffffffffUL;
  return CLAIM(gen ? gen : 1, owner, state);
}

/* From here until it is noted with its alloc, what is in flight is seen to be a dead thread's. */
static void mark_dead(fd_wksp_t const *wksp, wksp__slot_t *slot) {
  /* By CAS: whoever ends the dead one's change may be giving the flight another value, and a large
     block that is free by then must not be found in it again. */
  for (uint64_t flight = wksp__ld(&slot->flight); flight;) {
    uint64_t gaddr = wksp__flight_block(wksp, slot, flight);
    if (wksp__cas(&slot->flight, &flight, gaddr ? gaddr | WKSP_FLIGHT_DEAD : 0UL)) break;
  }
  /* not by a store: somebody may be helping */
  if (wksp__ld(&slot->intent)) wksp__fetch_or(&slot->intent, WKSP_INTENT_DEAD);
  if (wksp__ld(&slot->lot)) wksp__fetch_or(&slot->lot, WKSP_LOT_DEAD);
}

/* Notes what a dead holder of the slot had in flight, and forgets it. The caller has the slot to
   himself and a name of his own. A change that somebody has decided and nobody finished may be
   about to give the flight, so it is finished first. 0, or E_TIMEDOUT for the lock, after at most
   wait_ns: the flight stays, marked. */
static int bury(wksp__call_t *call, wksp__slot_t *slot, uint64_t wait_ns) {
  wksp__lot_settle(call->wksp, slot); /* first: it knows from the array's top how far it had come */
  if (wksp__ld_acquire(&wksp__vol(call->wksp)->rec)) {
    int err = wksp__lock(call, wait_ns);
    if (!err) {
      wksp__unlock(call);
    } else if (err != WKSP_E_CORRUPT) {
      /* marked, though it be 0 as yet, so that whoever takes the slot next asks again */
      wksp__fetch_or(&slot->flight, WKSP_FLIGHT_DEAD);
      return err;
    } /* else a record that nobody can end gives nothing: who rebuilds needs a slot */
  }
  mark_dead(call->wksp, slot);
  int err = wksp__exact_settle(call, slot, wait_ns);
  if (!err) err = wksp__alloc_bury(call, wksp__ld(&slot->flight) & ~WKSP_FLIGHT_DEAD, wait_ns);
  /* release: noted before forgotten; pairs with the acquire loads in is_suspect */
  if (!err) wksp__st_release(&slot->flight, 0UL);
  return err;
}

/* Whether a claim may take the slot: free, or its holder marked dead by the kernel. One that is
   HELD with a free mutex is being given back, or its holder was killed just there: the mutex may
   still be in his thread's hands, so the end of his lease frees it. */
static int claimable(wksp__slot_t const *slot, uint64_t old) {
  if (CLAIM_STATE(old) == WKSP_SLOT_FREE) return 1;
  if (CLAIM_STATE(old) == WKSP_SLOT_HELD) return (mutex_word(slot) & FUTEX_OWNER_DIED) != 0;
  return claim_dead(slot, old);
}

/* Gives a slot back: unlock first, so that HELD with a free mutex means gone. */
static void give_back(wksp__slot_t *slot) {
  uint64_t held = wksp__ld(&slot->claim);
  wksp__st(&slot->announce, 0UL);
  wksp__live_unlock(&slot->live);
  wksp__cas(&slot->claim, &held, CLAIM(CLAIM_GEN(held), 0, WKSP_SLOT_FREE));
}

/* Takes slot idx if it is to be had: call->slot and call->name. 1 taken, 0 not, E_SYS. */
static int claim(wksp__call_t *call, uint32_t idx, uint64_t lease) {
  wksp__slot_t *slot = &wksp__slots(call->wksp)[idx];
  uint64_t old = wksp__ld_acquire(&slot->claim);
  if (!claimable(slot, old)) return 0;
  uint64_t claiming = next_claim(old, owner_of(lease), WKSP_SLOT_CLAIMING);
  if (!wksp__cas(&slot->claim, &old, claiming)) return 0;

  mark_dead(call->wksp, slot);
  wksp__st(&slot->announce, 0UL);
  wksp__st(&slot->in, wksp__ld(&slot->out));
  wksp__st(&slot->bracket, 0UL);
  wksp__gate_serve_none(slot); /* what the former holder's served */
  wksp__st(&slot->pid, wksp__pid());
  wksp__st(&slot->tid, (uint32_t)syscall(SYS_gettid));
  wksp__st(&slot->since_ns, wksp__real_ns());
  char comm[16] = "";
  prctl(PR_GET_NAME, comm);
  memcpy(slot->comm, comm, sizeof comm);

  /* Nobody else's is any more: the kernel and the C library are through with the former holder. */
  int err = wksp__live_lock(&slot->live);
  if (err) {
    wksp__cas(&slot->claim, &claiming, CLAIM(CLAIM_GEN(claiming), 0, WKSP_SLOT_FREE));
    return wksp__fail(WKSP_E_SYS, "call: the slot's robust mutex failed: %s", strerror(err));
  }
  /* By CAS: were our lease thought to have ended, the slot may have gone to another. Whoever sees
     HELD sees the locked mutex; pairs with the acquire in name_dead. */
  uint64_t seen = claiming;
  if (!wksp__cas(&slot->claim, &seen,
                 CLAIM(CLAIM_GEN(claiming), owner_of(lease), WKSP_SLOT_HELD))) {
    wksp__live_unlock(&slot->live);
    return 0;
  }
  call->slot = slot;
  call->name = wksp__name_of(idx, CLAIM_GEN(claiming));
  if ((wksp__ld(&slot->flight) || wksp__ld(&slot->intent) || wksp__ld(&slot->lot) ||
       CLAIM_STATE(old) != WKSP_SLOT_FREE) &&
      bury(call, slot, WKSP_LOCK_FETCH_NS)) {
    give_back(slot); /* its suspect cannot be noted now: the slot keeps it for another day */
    return 0;
  }
  return 1;
}

/* Gives the slot of a living thread back. */
static void unclaim(wksp__slot_t *slot) {
  sigset_t old;
  wksp__signals_off(&old);
  wksp__st(&slot->flight, 0UL);
  give_back(slot);
  wksp__signals_on(&old);
}

/* Gives a slot of a living thread back as if that had been killed. */
static void abandon(fd_wksp_t const *wksp, wksp__slot_t *slot) {
  mark_dead(wksp, slot);
  wksp__st(&slot->in, wksp__ld(&slot->out));
  give_back(slot);
}

void wksp__slot_mend(wksp__seat_t *seat) {
  wksp__slot_t *slots = wksp__slots(seat->wksp);
  if (!seat->slot || seat->held) return;
  sigset_t old;
  wksp__signals_off(&old);
  for (uint32_t i = 0; i < WKSP_SEAT_NESTED; i++) {
    if (seat->nested[i]) abandon(seat->wksp, seat->nested[i]);
    seat->nested[i] = NULL;
  }
  if (seat->shared) {
    abandon(seat->wksp, &slots[0]);
    wksp__queue_next(&slots[0].queue);
  }
  seat->shared = 0;
  if (!wksp__slot_outside(seat->slot)) {
    wksp__seat_short_off(seat);
    wksp__seat_abandon_heaps(seat);
    abandon(seat->wksp, seat->slot);
    seat->bracket.depth = NULL;
    seat->slot = NULL;
  }
  wksp__signals_on(&old);
}

void wksp__slot_release(wksp__seat_t *seat) {
  wksp__seat_short_off(seat);
  if (seat->held) wksp__held_end(seat);
  wksp__slot_mend(seat);
  if (!seat->slot) return;
  if (wksp__map_busy(seat->map)) {
    wksp__seat_leave_heaps(seat);
    wksp__map_idle(seat->map);
  } /* else its heaps are protected: they stay as a killed thread's do, for whoever looks next */
  seat->bracket.depth = NULL;
  unclaim(seat->slot);
  seat->slot = NULL;
}

/* Any free slot but the shared one: call->slot and call->name. 1, or 0 if none is free, E_SYS. */
static int claim_any(wksp__call_t *call, wksp__map_t const *map) {
  uint32_t at = (uint32_t)syscall(SYS_gettid), end;
  do {
    end = wksp__slot_end(map->own, call->wksp);
    uint32_t cnt = end - 1;
    for (uint32_t i = 0; i < cnt; i++) {
      int got = claim(call, 1 + (at + i) % cnt, map->lease);
      if (got) return got;
    }
  } while (wksp__slot_more(map->own, call->wksp, end));
  return 0;
}

/* A slot for the calling thread to keep. 0, or 1 if none is free (seat->slot stays NULL), E_SYS. */
static int lease_slot(wksp__call_t *call, wksp__seat_t *seat) {
  int got = claim_any(call, seat->map);
  if (got <= 0) return got ? got : 1;
  seat->slot = call->slot;
  seat->name = call->name;
  wksp__bracket_set(seat);
  /* LOOK: the memory may have been protected since map_busy; the first call sees it */
  wksp__st(&seat->slot->fenced, WKSP_FENCED_LOOK | (seat->fenced ? WKSP_FENCED_CALLS : 0U));
  return 0;
}

/* lease_slot unless the memory is protected: claiming a dead thread's slot finishes what it had
 * begun. */
static int lease_unguarded(wksp__call_t *call, wksp__seat_t *seat) {
  if (!wksp__map_busy(seat->map)) return wksp__protect_refuse(call->wksp);
  int got = lease_slot(call, seat);
  wksp__map_idle(seat->map);
  return got;
}

/* The shared slot, if it is to be had now: 1, 0, E_SYS. */
static int try_shared(wksp__call_t *call, wksp__seat_t *seat) {
  wksp__slot_t *slot = wksp__slots(call->wksp);
  if (!claimable(slot, wksp__ld_acquire(&slot->claim))) return 0;
  sigset_t old;
  wksp__signals_off(&old);
  int got = claim(call, 0, seat->map->lease);
  if (got == 1) seat->shared = call->name;
  wksp__signals_on(&old);
  return got;
}

/* The shared slot by waiting: 1, 0: not in time, E_SYS. */
static int await_shared(wksp__call_t *call, wksp__seat_t *seat) {
  wksp__queue_t *queue = &wksp__slots(call->wksp)->queue;
  uint64_t until = wksp__now_ns() + SHARED_WAIT_NS;
  int got = 0;
  for (uint32_t turn = 0; !got && turn < SHARED_SPINS; turn++) {
    got = try_shared(call, seat);
    if (!got) wksp__relax(turn);
  }
  if (got) return got;
  for (uint32_t sleep = 0; !got && wksp__now_ns() < until; sleep++) {
    uint32_t word = wksp__queue_enter(queue);
    got = try_shared(call, seat);
    if (got) break;
    wksp__queue_wait(queue, word, sleep);
    got = try_shared(call, seat);
  }
  wksp__queue_left(queue);
  return got;
}

/* The shared slot for this call. */
static int borrow_shared(wksp__call_t *call, wksp__seat_t *seat) {
  wksp__slot_t *slot = wksp__slots(call->wksp);
  if (seat->shared)
    return wksp__fail(WKSP_E_BUSY,
                      "call: all %u slots are taken, and the shared one serves the call that this "
                      "one has interrupted",
                      call->wksp->slot_max);
  int got = await_shared(call, seat);
  if (got) return got < 0 ? got : 0;
  return wksp__fail(
      WKSP_E_TIMEDOUT,
      "call: all %u slots are taken and the shared one stayed with pid %u (%.16s) for 10 s",
      call->wksp->slot_max, wksp__ld(&slot->pid), slot->comm);
}

/* A free slot for this call, which has interrupted one. 1, or 0: none is to be had, E_SYS. */
static int borrow_nested(wksp__call_t *call, wksp__seat_t *seat) {
  uint32_t at = 0;
  while (at < WKSP_SEAT_NESTED && seat->nested[at]) at++;
  if (at == WKSP_SEAT_NESTED) return 0;
  sigset_t old;
  wksp__signals_off(&old);
  int got = claim_any(call, seat->map);
  if (got == 1) seat->nested[at] = call->slot;
  wksp__signals_on(&old);
  return got;
}

/* A slot for this call alone. */
static int borrow(wksp__call_t *call, wksp__seat_t *seat) {
  int got = seat->slot ? borrow_nested(call, seat) : 0;
  int err = got < 0 ? got : got ? 0 : borrow_shared(call, seat);
  if (err) return err;
  call->seat = NULL;
  wksp__st(&call->slot->fenced, WKSP_FENCED_CALLS | WKSP_FENCED_LOOK);
  return 0;
}

/* Gives the slot back that the call has borrowed. */
static void end_borrowed(wksp__call_t *call) {
  wksp__seat_t *seat = wksp__seat_find(call->wksp);
  wksp__slot_t *shared = wksp__slots(call->wksp);
  sigset_t old;
  wksp__signals_off(&old);
  unclaim(call->slot);
  if (seat && seat->shared == call->name) seat->shared = 0;
  for (uint32_t i = 0; seat && i < WKSP_SEAT_NESTED; i++)
    if (seat->nested[i] == call->slot) seat->nested[i] = NULL;
  if (call->slot == shared) wksp__queue_next(&shared->queue);
  wksp__signals_on(&old);
}

static int borrow_unguarded(wksp__call_t *call, wksp__seat_t *seat) {
  if (!wksp__map_busy(seat->map)) return wksp__protect_refuse(call->wksp);
  int err = borrow(call, seat);
  wksp__map_idle(seat->map);
  return err;
}

/* Whether the call may go on: the memory is not protected. The mark is taken away before the look;
   pairs with slots_still, which marks after the protection is announced: one of the two is seen. */
static int look_guarded(wksp__slot_t *slot, wksp__map_t const *map) {
  wksp__fetch_and(&slot->fenced, ~WKSP_FENCED_LOOK);
  if (!wksp__ld_seq(&map->guarded)) return 0;
  wksp__fetch_or(&slot->fenced, WKSP_FENCED_LOOK);
  return wksp__protect_refuse(map->wksp);
}

/* Leaves the call and waits until the gate is open, its closer dead or late; then in again. */
static void pass_gate(wksp__call_t *call) {
  wksp__slot_t *slot = call->slot;
  wksp__fast_off(); /* before the notice goes: a handler then must not use a heap that is taken */
  for (;;) {
    uint64_t gate = wksp__ld_acquire(&slot->gate);
    if (!wksp__gate_bars(gate)) return;
    if (gate == WKSP_GATE_NOTICE) {
      if (!wksp__cas(&slot->gate, &gate, 0UL)) continue;
      if (call->seat) wksp__seat_review(call->seat, 0);
      /* A mark to look comes with a notice, or finds one there: if that was this one it goes back.
         After the CAS; pairs with the mark before the CAS in slots_still. */
      uint64_t none = 0;
      if ((wksp__ld_seq(&slot->fenced) & WKSP_FENCED_LOOK) &&
          wksp__cas(&slot->gate, &none, WKSP_GATE_NOTICE))
        return;
      continue;
    }
    wksp__st_release(&slot->out,
                     wksp__ld(&slot->in)); /* release; pairs with the acquire in gate_close */
    uint32_t turn = wksp__ld(&slot->gate_futex);
    uint64_t now = wksp__now_ns(), until = wksp__ld(&slot->gate_until_ns);
    if (wksp__ld_acquire(&slot->gate) == gate) {
      if (now >= until || wksp__name_dead(call->wksp, gate & ~WKSP_GATE_NOTICE)) {
        if (call->seat) wksp__seat_review(call->seat, 1);
        wksp__cas(&slot->gate, &gate, WKSP_GATE_NOTICE);
      } else {
        wksp__futex_wait(&slot->gate_futex, turn,
                         until - now < RECHECK_NS ? until - now : RECHECK_NS);
      }
    }
    wksp__slot_in(slot);
    wksp__fence_seq(); /* in, then the gate: this path is rare enough for a fence */
  }
}

/* A seat for the thread and a slot for the seat, if there is one. A signal handler finds either all
   of it or nothing. 0, or 1 if no slot is free, or an error. */
static int sit_down(wksp__call_t *call, wksp__seat_t **seat) {
  sigset_t old;
  wksp__signals_off(&old);
  int err = *seat ? 0 : wksp__seat_new(call->wksp, seat);
  if (!err) err = lease_unguarded(call, *seat);
  wksp__signals_on(&old);
  return err;
}

int wksp__call_begin(fd_wksp_t *wksp, wksp__call_t *ret_call) {
  wksp__call_t call = {.wksp = wksp};
  wksp__seat_t *seat = wksp__seat_find(wksp);
  if (wksp__unlikely(!seat || !seat->slot)) {
    int err = sit_down(&call, &seat);
    if (err < 0) return err;
  }
  call.seat = seat;
  call.slot = seat->slot;
  call.name = seat->name;
  if (wksp__unlikely(!call.slot || !wksp__slot_outside(call.slot))) {
    if (seat->held) return wksp__held_refuse(wksp);
    /* no slot for us, or a signal handler inside one of our own calls, or after one that it left */
    if (call.slot) wksp__st(&call.slot->nested_cnt, wksp__ld(&call.slot->nested_cnt) + 1);
    int err = borrow_unguarded(&call, seat);
    if (err) return err;
  }
  wksp__slot_t *slot = call.slot;
  wksp__slot_in(slot);
  uint32_t fenced = wksp__ld(&slot->fenced);
  if (wksp__unlikely(fenced)) {
    wksp__fence_seq();
    int err = fenced & WKSP_FENCED_LOOK ? look_guarded(slot, seat->map) : 0;
    if (err) {
      wksp__call_end(&call);
      return err;
    }
  }
  if (wksp__unlikely(wksp__gate_bars(wksp__ld(&slot->gate)))) pass_gate(&call);
  *ret_call = call;
  return 0;
}

void wksp__call_end(wksp__call_t *call) {
  wksp__slot_t *slot = call->slot;
  wksp__st_release(&slot->out,
                   wksp__ld(&slot->in)); /* release; pairs with the acquire in gate_close */
  if (wksp__unlikely(!call->seat)) end_borrowed(call);
}

int wksp__slot_outside(wksp__slot_t const *slot) {
  uint64_t out = wksp__ld_acquire(&slot->out);
  return out == wksp__ld_acquire(&slot->in) &&
         !(wksp__ld_acquire(&slot->flight) & WKSP_FLIGHT_BUSY);
}

int wksp__gate_close(wksp__call_t *call, uint32_t idx, uint64_t wait_ns, uint64_t hold_ns) {
  wksp__slot_t *slot = &wksp__slots(call->wksp)[idx];
  uint64_t now = wksp__now_ns(), until = now + wait_ns;
  for (uint32_t turn = 0;; turn++) {
    uint64_t gate = wksp__ld_acquire(&slot->gate);
    if (gate <= WKSP_GATE_NOTICE || wksp__name_dead(call->wksp, gate & ~WKSP_GATE_NOTICE)) {
      wksp__st(&slot->gate_until_ns, until + hold_ns);
      if (wksp__cas(&slot->gate, &gate, WKSP_GATE_CLOSED(call->name))) break;
    }
    if (wksp__now_ns() > until) return 0;
    wksp__relax(turn);
  }
  /* The barrier on every core stands between our store to the gate and the load of `in`; on the
     owner's core between its store to `in` and its load of the gate. So either the owner sees the
     gate or we see it inside. */
  int sure = wksp__barrier() || (wksp__ld(&slot->fenced) & WKSP_FENCED_CALLS);
  for (uint32_t turn = 0; sure; turn++) {
    if (wksp__slot_outside(slot)) return 1;
    if (wksp__name_dead(call->wksp, wksp__name_of(idx, CLAIM_GEN(wksp__ld_acquire(&slot->claim)))))
      return 1;
    if (wksp__now_ns() > until) break;
    wksp__relax(turn);
  }
  wksp__gate_open(call, idx);
  return 0;
}

/* Gives the slot of a dead thread back, whose claim word is old. 1, 0 somebody else was first, or
   E_TIMEDOUT: back, but it keeps its suspect, marked. */
static int reap(wksp__call_t *call, wksp__slot_t *slot, uint64_t old, uint64_t wait_ns) {
  uint32_t owner = CLAIM_OWNER(wksp__ld(&call->slot->claim)); /* we die, our lease ends */
  uint64_t mine = next_claim(old, owner, WKSP_SLOT_CLAIMING);
  if (!wksp__cas(&slot->claim, &old, mine)) return 0;
  mark_dead(call->wksp, slot);
  wksp__st(&slot->announce, 0UL);
  wksp__st(&slot->in, wksp__ld(&slot->out));
  int err = bury(call, slot, wait_ns);
  wksp__st_release(&slot->claim, CLAIM(CLAIM_GEN(mine), 0, WKSP_SLOT_FREE));
  return err ? err : 1;
}

/* Whether what somebody dead had in flight may still be in the slot. Whoever claims one marks that
   between CLAIMING and HELD. */
static int unburied(wksp__slot_t const *slot, uint64_t claim, uint64_t name) {
  uint64_t flight = wksp__ld_acquire(&slot->flight), intent = wksp__ld_acquire(&slot->intent);
  uint64_t lot = wksp__ld_acquire(&slot->lot);
  if (CLAIM_GEN(claim) == name >> 20 || CLAIM_STATE(claim) == WKSP_SLOT_CLAIMING)
    return (flight | intent | lot) != 0;
  return (flight & WKSP_FLIGHT_DEAD) || (intent & WKSP_INTENT_DEAD) || (lot & WKSP_LOT_DEAD);
}

int wksp__slot_settle(wksp__call_t *call, uint64_t name) {
  uint32_t idx = wksp__name_slot(name);
  if (idx >= call->wksp->slot_max || !(name >> 20)) return 1; /* none that ever was */
  wksp__slot_t *slot = &wksp__slots(call->wksp)[idx];
  uint64_t claim = wksp__ld_acquire(&slot->claim);
  if (slot == call->slot || !unburied(slot, claim, name)) return 1;
  if (!claimable(slot, claim) && !gone(claim)) return 0;
  return reap(call, slot, claim, SETTLE_WAIT_NS) == 1;
}

uint32_t wksp__slots_reap(wksp__call_t *call, uint64_t lease) {
  uint32_t cnt = 0;
  for (uint32_t idx = 0; idx < call->wksp->slot_max; idx++) {
    wksp__slot_t *slot = &wksp__slots(call->wksp)[idx];
    uint64_t old = wksp__ld_acquire(&slot->claim);
    if (slot == call->slot || CLAIM_STATE(old) == WKSP_SLOT_FREE) continue;
    /* HELD as well: a thread that calls exec from beside the main one leaves a mutex that the
     * kernel never marks */
    int ended = lease && CLAIM_OWNER(old) == owner_of(lease);
    if (!ended && !claimable(slot, old) && !gone(old)) continue;
    cnt += reap(call, slot, old, WKSP_LOCK_FETCH_NS) != 0;
  }
  return cnt;
}

/* Whether a thread of this process holds the slot. */
static int slot_ours(wksp__slot_t const *slot, wksp__map_t const *map) {
  uint64_t claim = wksp__ld_acquire(&slot->claim);
  return CLAIM_STATE(claim) == WKSP_SLOT_HELD && CLAIM_OWNER(claim) == owner_of(map->lease) &&
         wksp__ld(&slot->pid) == wksp__pid();
}

int wksp__slots_still(wksp__map_t const *map, uint64_t wait_ns, uint32_t *ret_tid) {
  wksp__slot_t *slots = wksp__slots(map->wksp);
  uint64_t until = wksp__now_ns() + wait_ns;
  for (uint32_t idx = 0; idx < map->wksp->slot_max; idx++)
    if (slot_ours(&slots[idx], map)) {
      wksp__fetch_or(&slots[idx].fenced, WKSP_FENCED_LOOK);
      for (uint64_t gate = wksp__ld(&slots[idx].gate); !wksp__gate_bars(gate);)
        if (wksp__cas(&slots[idx].gate, &gate, WKSP_GATE_NOTICE)) break;
      /* else there is a notice already, or one follows */
    }
  /* Between our marks and the loads of `in`; pairs with the owner's store to `in` before his load
     of the mark. Where it is refused the owners fence. */
  (void)wksp__barrier();
  for (uint32_t idx = 0; idx < map->wksp->slot_max; idx++)
    for (uint32_t turn = 0; slot_ours(&slots[idx], map) && !wksp__slot_outside(&slots[idx]);
         turn++) {
      if (wksp__now_ns() > until) {
        *ret_tid = wksp__ld(&slots[idx].tid);
        return 0;
      }
      wksp__relax(turn);
    }
  return 1;
}
