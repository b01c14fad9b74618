/* held: the workspace's lock in the hands of a program.

   Problem: who wants to look at several things of one moment, or to keep everybody's hands off the
   partitions for a while, needs the lock for longer than a call, and must not be waited for once it
   is dead.

   Model: the lock is always held from within a call of a thread with a slot (lock.c). fd_wksp_lock
   begins such a call and fd_wksp_unlock ends it, so a holder that is killed is recognised and taken
   over like any other, and a compact sees that the thread is inside. A further call of the thread
   would be a call inside a call: it is told so (wksp__call_begin), where waiting would be for
   itself. Lookups do not take the lock while nobody writes, so they go on as ever.

   What it refuses: to hold the lock from the shared slot, which other calls wait for; and to count:
   a thread that locks twice has lost track of what it holds. */

#include "core/held.h"

#include "core/atomic.h"
#include "core/fail.h"
#include "core/map.h"

/* 146 years: "for as long as it takes", and no overflow when added to the clock. */
#define TIMEOUT_MAX_NS (1UL << 62)

int wksp__held(fd_wksp_t const *wksp) {
  wksp__seat_t const *seat = wksp__seat_find(wksp);
  return seat && seat->held;
}

int wksp__held_refuse(fd_wksp_t const *wksp) {
  return wksp__fail(WKSP_E_BUSY,
                    "call: this thread holds the lock of workspace %s by fd_wksp_lock, and only "
                    "looks are possible under it: fd_wksp_unlock first",
                    wksp->name);
}

int wksp__held_end(wksp__seat_t *seat) {
  wksp__call_t call = {.wksp = seat->wksp, .slot = seat->slot, .name = seat->name, .seat = seat};
  uint64_t word = wksp__ld(&wksp__vol(seat->wksp)->lock);
  seat->held = 0;
  /* It can be another's: memory is everybody's, and a lease that was ended for us frees our slot.
     Then it is not ours to give back. */
  if (word == seat->name) wksp__unlock(&call);
  wksp__call_end(&call);
  if (word == seat->name) return 0;
  return wksp__fail(WKSP_E_CORRUPT,
                    "unlock: the lock of workspace %s was no longer this thread's: its word is "
                    "%#lx",
                    seat->wksp->name, word);
}

int fd_wksp_lock(fd_wksp_t *wksp, ulong timeout_ns) {
  wksp__call_t call;
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "lock: the workspace is NULL");
  int rc = wksp__call_begin(wksp, &call);
  if (rc) return rc;
  if (!call.seat) {
    wksp__call_end(&call);
    return wksp__fail(WKSP_E_LIMIT,
                      "lock: workspace %s has no slot for this thread to hold it from: all %u are "
                      "taken, or this is a signal handler inside of a call",
                      wksp->name, wksp->slot_max);
  }
  rc = wksp__lock(&call, timeout_ns < TIMEOUT_MAX_NS ? timeout_ns : TIMEOUT_MAX_NS);
  if (rc) {
    wksp__call_end(&call);
    return rc;
  }
  call.seat->held = 1;
  wksp__seat_short_off(call.seat); /* malloc is refused, even where it would not need the lock */
  return 0;
}

int fd_wksp_unlock(fd_wksp_t *wksp) {
  wksp__seat_t *seat = wksp ? wksp__seat_find(wksp) : NULL;
  if (!seat || !seat->held)
    return wksp__fail(WKSP_E_INVAL,
                      "unlock: this thread does not hold the lock of the workspace at %p",
                      (void *)wksp);
  return wksp__held_end(seat);
}
