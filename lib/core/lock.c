/* lock: the workspace's one lock, of our own, so that nobody waits for the dead.

   The word is 0 or the holder's name (call.h) with a mark for waiters. A name is of a slot and a
   generation, so that a holder who was killed is recognised whatever has become of the slot; the
   lock is then taken over by CAS, and what he had decided is finished (tx.c) before anybody sees
   the table.

   The kernel does not wake waiters of this word when a holder dies: they look again every
   RECHECK_NS. */

#include "core/atomic.h"
#include "core/call.h"
#include "core/fail.h"
#include "core/futex.h"
#include "core/tx.h"

#define RECHECK_NS 1000000UL /* bounds what a killed holder costs the next */
#define SPINS      64 /* loads before the first sleep: a change takes less than a microsecond */

static int timed_out(wksp__call_t *call, uint64_t lock, uint64_t timeout_ns) {
  uint32_t idx = wksp__name_slot(lock & ~WKSP_LOCK_WAITERS);
  if (idx >= call->wksp->slot_max)
    return wksp__fail(WKSP_E_CORRUPT, "lock: its word %#lx names no slot", lock);
  wksp__slot_t const *slot = &wksp__slots(call->wksp)[idx];
  uint64_t since = wksp__ld(&wksp__vol(call->wksp)->lock_since_ns), now = wksp__real_ns();
  return wksp__fail(WKSP_E_TIMEDOUT,
                    "lock: not had within %lu ms; pid %u, thread %u (%.16s) holds it since %lu ms",
                    timeout_ns / 1000000UL, wksp__ld(&slot->pid), wksp__ld(&slot->tid), slot->comm,
                    now > since ? (now - since) / 1000000UL : 0UL);
}

int wksp__lock(wksp__call_t *call, uint64_t timeout_ns) {
  wksp__vol_t *vol = wksp__vol(call->wksp);
  uint64_t until = 0;
  for (uint32_t turn = 0;; turn++) {
    uint64_t cur = wksp__ld(&vol->lock);
    uint64_t holder = cur & ~WKSP_LOCK_WAITERS;
    if (!cur) {
      /* acquire within the CAS; pairs with the release in unlock */
      if (wksp__cas(&vol->lock, &cur, call->name)) break;
      continue;
    }
    if (turn < SPINS) {
      wksp__relax(turn);
      continue;
    }
    if (wksp__name_dead(call->wksp, holder)) {
      if (wksp__cas(&vol->lock, &cur, call->name | (cur & WKSP_LOCK_WAITERS))) break;
      continue;
    }
    uint64_t now = wksp__now_ns();
    if (!until) until = now + timeout_ns;
    if (now >= until) return timed_out(call, cur, timeout_ns);
    uint32_t word = wksp__ld_acquire(&vol->lock_futex);
    if (!(cur & WKSP_LOCK_WAITERS) && !wksp__cas(&vol->lock, &cur, cur | WKSP_LOCK_WAITERS))
      continue;
    wksp__futex_wait(&vol->lock_futex, word, until - now < RECHECK_NS ? until - now : RECHECK_NS);
  }
  wksp__st(&vol->lock_since_ns, wksp__real_ns());
  if (wksp__unlikely(wksp__ld(&vol->redo_cnt) || (wksp__ld(&vol->version) & 1UL))) {
    int err = wksp__tx_recover(call->wksp);
    if (err) {
      wksp__unlock(call);
      return err;
    }
  }
  return 0;
}

void wksp__unlock(wksp__call_t *call) {
  wksp__vol_t *vol = wksp__vol(call->wksp);
  /* release within the exchange; pairs with the acquire of the next holder's CAS */
  uint64_t old = wksp__xchg(&vol->lock, 0UL);
  if (!(old & WKSP_LOCK_WAITERS)) return;
  wksp__fetch_add(&vol->lock_futex, 1U);
  wksp__futex_wake(&vol->lock_futex, 1);
}
