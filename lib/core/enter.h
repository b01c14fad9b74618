/* enter: the usual way into a call and its lock, inline: the thread has its slot, no gate is
   closed, the lock is free and its last holder lived. Anything else is left to slot.c and lock.c,
   whose contracts these have (call.h).

   used by: wksp, part. */

#ifndef WKSP_CORE_ENTER_H
#define WKSP_CORE_ENTER_H

#include "core/atomic.h"
#include "core/call.h"
#include "core/map.h"

#define WKSP__INLINE static inline __attribute__((always_inline))

/* wksp__call_begin. */
WKSP__INLINE int wksp__call_enter(fd_wksp_t *wksp, wksp__call_t *ret_call) {
  wksp__seat_t *seat = wksp__seats;
  if (wksp__unlikely(!seat || seat->wksp != wksp || !seat->slot))
    return wksp__call_begin(wksp, ret_call);
  wksp__slot_t *slot = seat->slot;
  if (wksp__unlikely(wksp__ld(&slot->in) != wksp__ld(&slot->out)))
    return wksp__call_begin(wksp, ret_call);
  wksp__slot_in(slot); /* then the gate, as in call_begin */
  if (wksp__unlikely(wksp__ld(&slot->fenced) || wksp__gate_bars(wksp__ld(&slot->gate)))) {
    wksp__st(&slot->in, wksp__ld(&slot->in) - 1);
    return wksp__call_begin(wksp, ret_call);
  }
  ret_call->wksp = wksp;
  ret_call->slot = slot;
  ret_call->name = seat->name;
  ret_call->seat = seat;
  return 0;
}

/* wksp__call_end. */
WKSP__INLINE void wksp__call_leave(wksp__call_t *call) {
  if (wksp__unlikely(!call->seat)) {
    wksp__call_end(call);
    return;
  }
  wksp__st_release(&call->slot->out, wksp__ld(&call->slot->in)); /* as in call_end */
}

/* wksp__lock. */
WKSP__INLINE int wksp__lock_enter(wksp__call_t *call, uint64_t timeout_ns) {
  wksp__vol_t *vol = wksp__vol(call->wksp);
  uint64_t nobody = 0;
  /* acquire within the CAS; pairs with the release in unlock */
  int got = wksp__cas(&vol->lock, &nobody, call->name);
  if (wksp__likely(got && !(wksp__ld(&vol->lock_since_ns) | wksp__ld(&vol->rec) |
                            (wksp__ld(&vol->version) & 1UL))))
    return 0;
  return wksp__lock_rest(call, timeout_ns, got);
}

/* wksp__unlock. */
WKSP__INLINE void wksp__lock_leave(wksp__call_t *call) {
  wksp__vol_t *vol = wksp__vol(call->wksp);
  wksp__st_release(&vol->lock, 0UL); /* pairs with the acquire of the next holder's CAS */
  if (wksp__unlikely(wksp__ld(&call->slot->fenced))) wksp__fence_seq();
  if (wksp__unlikely(wksp__ld(&vol->lock_waiters))) wksp__lock_wake(call);
}

#endif
