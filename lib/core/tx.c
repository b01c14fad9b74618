/* tx: redo record and version.

   Problem: a partition operation changes some thirty words that only make sense together, its
   thread can be killed between any two of them, and readers look on without the lock.

   Model: physical redo. Preparing writes only to the redo record, which means nothing while
   redo_cnt is 0. Then, in program order,

       redo_cnt = n          the decision
       version  = odd        readers turn away
       the n stores          each idempotent
       version  = even       readers come back
       redo_cnt = 0          forgotten

   Killed before the first: nothing happened. Killed after it, at any point, by any number of
   successive recoverers: whoever holds the lock next does everything from the second line on again,
   and ends with the same words. Since redo_cnt goes to 0 last, redo_cnt == 0 implies an even
   version. Recovery costs n stores whatever the size of the workspace.

   What it refuses: changes of more than WKSP_REDO_MAX words, and places outside the metadata. */

#include "core/tx.h"

#include "core/atomic.h"
#include "core/fail.h"

#include <sched.h>
#include <string.h>

/* A list is applied within a microsecond; a writer that was descheduled meanwhile gets the core by
 * the yields. */
#define TX_SPIN_MAX  200
#define TX_YIELD_MAX 200

static uint64_t where_of(wksp__tx_t const *tx, void const *place, uint32_t width) {
  return ((uint64_t)place - (uint64_t)tx->wksp) << 4 | width;
}

void wksp__tx_begin(wksp__tx_t *tx, wksp__call_t *call) {
  tx->call = call;
  tx->wksp = call->wksp;
  tx->cnt = 0;
  memset(tx->slot, 0, sizeof(tx->slot));
}

/* The slot in which where is, or else the empty one where it would go. There always is one: there
 * are more slots than entries. */
static uint32_t slot_of(wksp__tx_t const *tx, wksp__vol_t const *vol, uint64_t where) {
  uint32_t i = (uint32_t)((where * 0x9e3779b97f4a7c15UL) >> 56);
  while (tx->slot[i] && wksp__ld(&vol->redo[tx->slot[i] - 1].where) != where) i = (i + 1) & 255;
  return i;
}

static void put(wksp__tx_t *tx, uint64_t where, uint64_t value) {
  wksp__vol_t *vol = wksp__vol(tx->wksp);
  uint32_t i = slot_of(tx, vol, where);
  if (!tx->slot[i]) {
    /* The bound is a sum over the code, not over data, so passing it is our mistake: stop before
     * the record is overrun. */
    if (tx->cnt == WKSP_REDO_MAX) __builtin_trap();
    wksp__st(&vol->redo[tx->cnt].where, where);
    tx->slot[i] = (uint8_t)++tx->cnt;
  }
  wksp__st(&vol->redo[tx->slot[i] - 1].value, value);
}

void wksp__tx_put64(wksp__tx_t *tx, uint64_t *place, uint64_t value) {
  put(tx, where_of(tx, place, 8), value);
}

void wksp__tx_put32(wksp__tx_t *tx, uint32_t *place, uint32_t value) {
  put(tx, where_of(tx, place, 4), value);
}

uint64_t wksp__tx_get64(wksp__tx_t const *tx, uint64_t const *place) {
  if (tx->cnt) {
    wksp__vol_t const *vol = wksp__vol(tx->wksp);
    uint32_t i = slot_of(tx, vol, where_of(tx, place, 8));
    if (tx->slot[i]) return wksp__ld(&vol->redo[tx->slot[i] - 1].value);
  }
  return wksp__ld(place);
}

uint32_t wksp__tx_get32(wksp__tx_t const *tx, uint32_t const *place) {
  if (tx->cnt) {
    wksp__vol_t const *vol = wksp__vol(tx->wksp);
    uint32_t i = slot_of(tx, vol, where_of(tx, place, 4));
    if (tx->slot[i]) return (uint32_t)wksp__ld(&vol->redo[tx->slot[i] - 1].value);
  }
  return wksp__ld(place);
}

/* From the decision to its end. The lock is held and redo_cnt is cnt. */
static void apply(fd_wksp_t *wksp, uint32_t cnt) {
  wksp__vol_t *vol = wksp__vol(wksp);
  uint64_t odd = wksp__ld(&vol->version) | 1; /* odd already: a dead thread's, taken over */
  wksp__st(&vol->version, odd);
  wksp__fence_release(); /* no store below is seen without the odd version; pairs with the acquire
                            fence in wksp__read_ok */
  for (uint32_t i = 0; i < cnt; i++) {
    uint64_t where = vol->redo[i].where, value = vol->redo[i].value;
    uintptr_t place = (uintptr_t)wksp + (where >> 4);
    if ((where & 15) == 8)
      wksp__st((uint64_t *)place, value);
    else
      wksp__st((uint32_t *)place, (uint32_t)value);
  }
  wksp__st_release(&vol->version, odd + 1); /* pairs with the acquire in begin */
  wksp__st_release(&vol->redo_cnt, 0UL);
}

void wksp__tx_commit(wksp__tx_t *tx) {
  if (!tx->cnt) return;
  /* release: a thread that takes the lock after this one was killed finds the list complete */
  wksp__st_release(&wksp__vol(tx->wksp)->redo_cnt, (uint64_t)tx->cnt);
  apply(tx->wksp, tx->cnt);
}

int wksp__tx_recover(fd_wksp_t *wksp) {
  wksp__vol_t *vol = wksp__vol(wksp);
  uint64_t cnt = wksp__ld_acquire(&vol->redo_cnt);
  if (!cnt) {
    /* An odd version without a record is nobody's change; were it left, readers would wait. */
    uint64_t version = wksp__ld(&vol->version);
    if (version & 1) wksp__st_release(&vol->version, version + 1);
    return 0;
  }
  if (cnt > WKSP_REDO_MAX)
    return wksp__fail(WKSP_E_CORRUPT, "workspace %s: redo record of %lu entries, at most %d fit",
                      wksp->name, cnt, WKSP_REDO_MAX);
  uint64_t slots = (uint64_t)wksp__slots(wksp) - (uint64_t)wksp; /* slots and all behind them */
  for (uint64_t i = 0; i < cnt; i++) {
    uint64_t off = vol->redo[i].where >> 4, width = vol->redo[i].where & 15;
    if ((width != 4 && width != 8) || off < slots || off + width > wksp->data_lo || off % width)
      return wksp__fail(WKSP_E_CORRUPT,
                        "workspace %s: redo entry %lu is for %lu bytes at offset %lu, which is not "
                        "a word of the metadata",
                        wksp->name, i, width, off);
  }
  apply(wksp, (uint32_t)cnt);
  return 0;
}

static int begin(fd_wksp_t const *wksp, uint64_t *ret_version) {
  wksp__vol_t const *vol = wksp__vol(wksp);
  for (uint32_t i = 0; i < TX_SPIN_MAX + TX_YIELD_MAX; i++) {
    uint64_t version = wksp__ld_acquire(&vol->version); /* pairs with the release in apply */
    if (!(version & 1)) {
      *ret_version = version;
      return 0;
    }
    if (i >= TX_SPIN_MAX) sched_yield();
  }
  return WKSP_E_AGAIN;
}

static int report_again(fd_wksp_t const *wksp) {
  uint64_t name = wksp__ld(&wksp__vol(wksp)->lock) & ~WKSP_LOCK_WAITERS;
  uint32_t idx = wksp__name_slot(name);
  if (!name || idx >= wksp->slot_max)
    return wksp__fail(WKSP_E_AGAIN,
                      "workspace %s is being changed faster than it can be read: try again",
                      wksp->name);
  wksp__slot_t const *slot = &wksp__slots(wksp)[idx];
  return wksp__fail(
      WKSP_E_AGAIN, "workspace %s is being changed by thread %u of process %u (%.16s)%s: try again",
      wksp->name, wksp__ld(&slot->tid), wksp__ld(&slot->pid), slot->comm,
      wksp__name_dead(wksp, name) == 1 ? ", which has died; the next writer finishes the change"
                                       : "");
}

int wksp__read_begin(fd_wksp_t const *wksp, uint64_t *ret_version) {
  return begin(wksp, ret_version) ? report_again(wksp) : 0;
}

int wksp__read_ok(fd_wksp_t const *wksp, uint64_t version) {
  wksp__fence_acquire(); /* what was read came before this load; pairs with the fence in apply */
  return wksp__ld(&wksp__vol(wksp)->version) == version;
}

int wksp__read_run(fd_wksp_t const *wksp, int (*look)(void *arg), void *arg) {
  for (uint32_t i = 0; i < WKSP_READ_TRIES; i++) {
    uint64_t version;
    if (begin(wksp, &version)) break; /* it has waited long enough */
    int rc = look(arg);
    if (wksp__read_ok(wksp, version)) return rc;
  }
  int ro = wksp__map_ro(wksp);
  if (ro == 1) return report_again(wksp);
  wksp__call_t call;
  int rc = wksp__call_begin((fd_wksp_t *)wksp, &call);
  if (rc) return rc;
  rc = wksp__lock(&call, WKSP_LOCK_CALL_NS);
  if (!rc) {
    rc = look(arg);
    wksp__unlock(&call);
  }
  wksp__call_end(&call);
  return rc;
}
