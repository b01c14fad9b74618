/* tx: the record's end: deciding, taking back, and what a dead thread left; looks without the lock.

   Problem: a partition operation changes a dozen words that only make sense together, its thread
   can be killed between any two stores, and readers look on without the lock.

   Model (the words of the record are in tx.h). In program order:

       version = odd                                 readers turn away
       note the head's words, rec = UNDO
       for each word: note (place, old), rec = UNDO | n, store
       rec = 0, or REDO | m                          the decision
       the m stores, rec = 0                         only if there are any
       bits of pages that were emptied are cleared   (part_priv.h)
       version = even                                readers come back

   Taking back stores the old values, last note first, so that a word noted twice ends with the
   first. Both directions store the same again when they are begun anew, so it does not matter how
   often a recoverer is killed too. rec goes to 0 before the version is even: what readers have seen
   is never taken back.

   What it refuses: to recover a record that has impossible places or counts. */

#include "core/tx.h"

#include "core/atomic.h"
#include "core/fail.h"
#include "core/part.h"

#include <sched.h>

/* A change takes less than a microsecond; a writer that was descheduled meanwhile gets the core by
 * the yields. */
#define TX_SPIN_MAX  200
#define TX_YIELD_MAX 200

static void store(fd_wksp_t *wksp, wksp__note_t const *note) {
  wksp__st((uint64_t *)((uintptr_t)wksp + note->where), note->value);
}

void wksp__tx_apply(fd_wksp_t *wksp, uint32_t redo_cnt) {
  wksp__vol_t *vol = wksp__vol(wksp);
  for (uint32_t i = 0; i < redo_cnt; i++) store(wksp, &vol->redo[i]);
  wksp__st_release(&vol->rec, 0UL);
}

static void take_back(fd_wksp_t *wksp, uint32_t undo_cnt) {
  wksp__vol_t *vol = wksp__vol(wksp);
  uint64_t *head = wksp__tx_head(wksp);
  for (uint32_t i = undo_cnt; i-- > 0;) store(wksp, &vol->undo[i]);
  for (uint32_t i = 0; i < WKSP_REC_HEAD; i++) wksp__st(&head[i], vol->rec_head[i]);
  wksp__st_release(&vol->rec, 0UL);
}

/* Makes an odd version even. */
static void come_back(wksp__vol_t *vol) {
  uint64_t version = wksp__ld(&vol->version);
  if (version & 1)
    wksp__st_release(&vol->version, version + 1); /* pairs with the acquire in begin */
}

void wksp__tx_drop(wksp__tx_t *tx) {
  take_back(tx->wksp, wksp__tx_undo_cnt(tx));
  come_back(tx->vol);
}

/* Whether all words of a list are the metadata's: behind the lock, before the data. */
static int notes_ok(fd_wksp_t const *wksp, wksp__note_t const *notes, uint64_t cnt) {
  uint64_t slots = (uint64_t)wksp__slots(wksp) - (uint64_t)wksp; /* slots and all behind them */
  for (uint64_t i = 0; i < cnt; i++) {
    uint64_t off = notes[i].where;
    if (off >= slots && off < wksp->data_lo && !(off % 8)) continue;
    wksp__fail(WKSP_E_CORRUPT,
               "workspace %s: record entry %lu is for offset %lu, which is not a word of the "
               "metadata: rebuild it",
               wksp->name, i, off);
    return 0;
  }
  return 1;
}

int wksp__tx_recover(fd_wksp_t *wksp) {
  wksp__vol_t *vol = wksp__vol(wksp);
  uint64_t rec = wksp__ld_acquire(&vol->rec);
  uint64_t what = rec & ~0xffffffffUL, cnt = rec & 0xffffffffUL;
  if (what == WKSP_REC_REBUILD)
    return wksp__fail(WKSP_E_CORRUPT, "workspace %s: a rebuild was begun and not ended: rebuild it",
                      wksp->name);
  if (rec && ((what != WKSP_REC_REDO && what != WKSP_REC_UNDO) ||
              cnt > (what == WKSP_REC_REDO ? WKSP_REDO_MAX : WKSP_UNDO_MAX)))
    return wksp__fail(WKSP_E_CORRUPT,
                      "workspace %s: its record begins with 0x%lx, which is neither a kind nor a "
                      "number of entries: rebuild it",
                      wksp->name, rec);
  if (!notes_ok(wksp, what == WKSP_REC_REDO ? vol->redo : vol->undo, cnt)) return WKSP_E_CORRUPT;
  if (rec) {
    wksp__st(&vol->version, wksp__ld(&vol->version) | 1);
    wksp__fence_release(); /* as in wksp__tx_begin */
    if (what == WKSP_REC_REDO)
      wksp__tx_apply(wksp, (uint32_t)cnt);
    else
      take_back(wksp, (uint32_t)cnt);
  }
  /* An odd version without a record is left by who had just decided, or by nobody. What was noted
     last, and older notes behind it, say which pages' bits may lead nowhere. */
  if (wksp__ld(&vol->version) & 1)
    for (uint32_t i = 0; i < WKSP_UNDO_MAX + WKSP_UNDO_SLACK; i++)
      wksp__part_bits_clear(wksp, wksp__ld(&vol->undo[i].where));
  come_back(vol);
  return 0;
}

static int begin(fd_wksp_t const *wksp, uint64_t *ret_version) {
  wksp__vol_t const *vol = wksp__vol(wksp);
  for (uint32_t i = 0; i < TX_SPIN_MAX + TX_YIELD_MAX; i++) {
    uint64_t version = wksp__ld_acquire(&vol->version); /* pairs with the release in commit */
    if (!(version & 1)) {
      *ret_version = version;
      return 0;
    }
    if (i >= TX_SPIN_MAX) sched_yield();
  }
  return WKSP_E_AGAIN;
}

static int report_again(fd_wksp_t const *wksp) {
  uint64_t name = wksp__ld(&wksp__vol(wksp)->lock);
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
  wksp__fence_acquire(); /* what was read came before this load; pairs with the fence in
                            wksp__tx_begin */
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
