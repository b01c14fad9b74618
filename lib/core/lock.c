/* lock: the workspace's one lock, of our own, so that nobody waits for the dead.

   The word is 0 or the holder's name (call.h): of a slot and a generation, so that a holder who was
   killed is recognised whatever has become of the slot; the lock is then taken over by CAS, and
   what he left half-done is ended (tx.c) before anybody sees the table.

   Taking it costs one CAS, giving it back none: a plain store of 0, then a load of lock_waiters.
   Nobody else stores to the word while the holder lives, and a waiter makes the kernel run a
   barrier on every core between his store to lock_waiters and his last look at the word, as the
   closer of a gate does (call.h); where that is refused the holder fences. So either the holder
   sees the waiter or the waiter sees the lock free.

   The kernel does not wake waiters of this word when a holder dies: they look again, the newest
   after a millisecond, who has waited for longer more seldom (wksp__nap_ns), for a thousand that
   look each millisecond leave the holder no time to run. */

#include "core/atomic.h"
#include "core/call.h"
#include "core/enter.h"
#include "core/fail.h"
#include "core/futex.h"
#include "core/map.h"
#include "core/tx.h"

#define SPINS 64 /* loads before the first sleep: a change takes less than a microsecond */

void wksp__lock_holder(fd_wksp_t const *wksp, wksp__holder_t *ret_holder) {
  uint64_t name = wksp__ld(&wksp__vol(wksp)->lock);
  uint32_t idx = wksp__name_slot(name);
  wksp__holder_t holder = {0};
  if (name && idx < wksp->slot_max) {
    wksp__slot_t const *slot = &wksp__slots(wksp)[idx];
    holder.pid = wksp__ld(&slot->pid);
    holder.tid = wksp__ld(&slot->tid);
    holder.dead = (uint32_t)wksp__name_dead(wksp, name);
    holder.since_ns = wksp__ld(&wksp__vol(wksp)->lock_since_ns);
    for (uint32_t i = 0; i < sizeof(holder.comm) - 1 && slot->comm[i]; i++)
      holder.comm[i] = slot->comm[i] >= ' ' && slot->comm[i] <= '~' ? slot->comm[i] : '?';
  }
  *ret_holder = holder;
}

static int timed_out(wksp__call_t *call, uint64_t holder, uint64_t timeout_ns) {
  uint32_t idx = wksp__name_slot(holder);
  if (idx >= call->wksp->slot_max)
    return wksp__fail(WKSP_E_CORRUPT, "lock: its word %#lx names no slot: rebuild workspace %s",
                      holder, call->wksp->name);
  wksp__slot_t const *slot = &wksp__slots(call->wksp)[idx];
  uint64_t since = wksp__ld(&wksp__vol(call->wksp)->lock_since_ns), now = wksp__real_ns();
  return wksp__fail(
      WKSP_E_TIMEDOUT,
      "lock: not had within %lu ms; pid %u, thread %u (%.16s) has been holding it for "
      "at least %lu ms",
      timeout_ns / 1000000UL, wksp__ld(&slot->pid), wksp__ld(&slot->tid), slot->comm,
      since && now > since ? (now - since) / 1000000UL : 0UL);
}

/* Sleeps until the lock may be free, for the sleep-th time and at most max_ns. */
static void sleep_on(wksp__vol_t *vol, uint64_t holder, uint32_t sleep, uint64_t max_ns) {
  /* The futex's word before the flag: an unlock that clears the flag changes the word afterwards.
   */
  uint32_t word = wksp__ld_acquire(&vol->lock_futex);
  wksp__st(&vol->lock_waiters, 1U);
  int sure = wksp__barrier();
  if (!sure) wksp__fence_seq(); /* the holder's kernel refuses it too: he fences */
  if (wksp__ld(&vol->lock) != holder) return;
  uint64_t nap = wksp__nap_ns(sleep);
  wksp__futex_wait(&vol->lock_futex, word, max_ns < nap ? max_ns : nap);
}

/* Whether a call of this thread which this one has interrupted holds the lock. */
static int holder_is_us(wksp__call_t const *call, uint64_t holder) {
  wksp__seat_t const *seat = wksp__seat_find(call->wksp);
  return seat && ((seat->slot && holder == seat->name) || holder == seat->shared);
}

/* The lock by waiting: 0 and *ret_slept, or E_TIMEDOUT, E_CORRUPT. */
static int wait_for(wksp__call_t *call, uint64_t timeout_ns, int *ret_slept) {
  wksp__vol_t *vol = wksp__vol(call->wksp);
  uint64_t until = 0;
  uint32_t slept = 0;
  for (uint32_t turn = 0;; turn++) {
    uint64_t holder = wksp__ld(&vol->lock);
    if (!holder) {
      if (wksp__cas(&vol->lock, &holder, call->name)) break; /* as in lock_enter */
      continue;
    }
    if (turn < SPINS) {
      wksp__relax(turn);
      continue;
    }
    if (wksp__name_dead(call->wksp, holder)) {
      if (wksp__cas(&vol->lock, &holder, call->name)) break;
      continue;
    }
    uint64_t now = wksp__now_ns(), nobody = 0;
    if (!until && holder_is_us(call, holder))
      return wksp__fail(WKSP_E_BUSY,
                        "lock: this thread holds it already, in the call that a signal handler has "
                        "interrupted, or left by longjmp: see fd_alloc_leave");
    if (!until) {
      until = now + timeout_ns;
      wksp__cas(&vol->lock_since_ns, &nobody, wksp__real_ns());
    }
    if (now >= until) return timed_out(call, holder, timeout_ns);
    sleep_on(vol, holder, slept++, until - now);
  }
  *ret_slept = slept != 0;
  return 0;
}

int wksp__lock_rest(wksp__call_t *call, uint64_t timeout_ns, int got) {
  wksp__vol_t *vol = wksp__vol(call->wksp);
  if (!got) {
    int slept = 0, err = wait_for(call, timeout_ns, &slept);
    if (err) return err;
    /* The unlock that woke this one has forgotten the other waiters. */
    if (slept) wksp__st(&vol->lock_waiters, 1U);
  }
  if (wksp__ld(&vol->lock_since_ns)) wksp__st(&vol->lock_since_ns, 0UL);
  if (wksp__ld(&vol->rec) || (wksp__ld(&vol->version) & 1UL)) {
    int err = wksp__tx_recover(call->wksp);
    if (err) {
      wksp__unlock(call);
      return err;
    }
  }
  return 0;
}

int wksp__lock_mend(wksp__call_t *call, uint64_t timeout_ns) {
  wksp__vol_t *vol = wksp__vol(call->wksp);
  uint64_t nobody = 0;
  int slept = 0;
  if (!wksp__cas(&vol->lock, &nobody, call->name)) { /* as in lock_enter */
    int err = wait_for(call, timeout_ns, &slept);
    if (err) return err;
  }
  wksp__st(&vol->lock_waiters, 1U); /* whether there are any, after all that */
  wksp__st(&vol->lock_since_ns, 0UL);
  return wksp__tx_recover(call->wksp) ? 1 : 0;
}

void wksp__lock_wake(wksp__call_t *call) {
  wksp__vol_t *vol = wksp__vol(call->wksp);
  wksp__xchg(&vol->lock_waiters, 0U);
  wksp__fetch_add(&vol->lock_futex, 1U);
  wksp__futex_wake(&vol->lock_futex, 1);
}

int wksp__lock(wksp__call_t *call, uint64_t timeout_ns) {
  return wksp__lock_enter(call, timeout_ns);
}

void wksp__unlock(wksp__call_t *call) {
  wksp__lock_leave(call);
}
