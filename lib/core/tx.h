/* tx: a change of more than one word, all or nothing.

   Two kinds of words take part. Those of the tables, which nobody believes while the version is
   odd, are changed in place, each noted with its old value first (set): the change can be taken
   back. Those which others read without lock or version (span words, flights) are only noted, with
   their new value (put). vol->rec says what the notes mean, in one word:

       0              nothing
       n              n words have been changed: take them back
       REDO | n       decided: the n words put have to be stored
       REBUILD        the tables are being made anew (part_rebuild.c)

   The change is decided by one store to it: from "n to take back" to "m to store", or to 0 if there
   are none. A kill before leaves what was, after whoever takes the lock next has stored the rest;
   it costs as many stores as the change had, whatever the size of the workspace. Rejected: putting
   all words, that is, redo alone (docs/adr/0005).

   All under the workspace's lock. Readers without it see vol->version odd from begin to end
   (release; pairs with the acquire in wksp__read_begin).

   How large a change can be: WKSP_PART_TX_MAX (part_priv.h, with the sum) words set and
   WKSP_PART_ALSO_MAX put; a root is WKSP_ROOT_TX_MAX put. */

#ifndef WKSP_CORE_TX_H
#define WKSP_CORE_TX_H

#include "core/atomic.h"
#include "core/call.h"

/* In vol->rec. */
#define WKSP_REC_REDO    (1UL << 32)
#define WKSP_REC_REBUILD (1UL << 63)

typedef struct wksp__tx {
  fd_wksp_t *wksp;
  wksp__vol_t *vol; /* NULL: nothing is noted, words that are set are just stored */
  uint32_t undo_cnt, redo_cnt;
} wksp__tx_t;

static inline void wksp__tx_begin(wksp__tx_t *tx, fd_wksp_t *wksp) {
  tx->wksp = wksp;
  tx->vol = wksp__vol(wksp);
  tx->undo_cnt = tx->redo_cnt = 0;
  wksp__st(&tx->vol->version, wksp__ld(&tx->vol->version) | 1);
  wksp__fence_release(); /* no store below is seen without the odd version; pairs with the acquire
                            fence in wksp__read_ok */
}

/* The bounds are sums over the code, not over data, so passing one is our mistake: stop before the
 * record is overrun. */
static inline void wksp__tx_room(uint32_t cnt, uint32_t max) {
  if (wksp__unlikely(cnt >= max)) __builtin_trap();
}

static inline void wksp__tx_note(wksp__tx_t *tx, void *place, uint32_t width, uint64_t old) {
  wksp__tx_room(tx->undo_cnt, WKSP_UNDO_MAX);
  wksp__rec_word_t *word = &tx->vol->undo[tx->undo_cnt];
  wksp__st_kept(&word->where, ((uint64_t)place - (uint64_t)tx->wksp) << 4 | width);
  wksp__st_kept(&word->value, old);
  wksp__st_kept(&tx->vol->rec, (uint64_t)++tx->undo_cnt); /* noted; then the caller stores */
}

/* Changes a word now; it is what is read from then on. */
static inline void wksp__tx_set64(wksp__tx_t *tx, uint64_t *place, uint64_t value) {
  if (wksp__likely(tx->vol)) wksp__tx_note(tx, place, 8, wksp__ld(place));
  wksp__st_kept(place, value);
}

static inline void wksp__tx_set32(wksp__tx_t *tx, uint32_t *place, uint32_t value) {
  if (wksp__likely(tx->vol)) wksp__tx_note(tx, place, 4, wksp__ld(place));
  wksp__st_kept(place, value);
}

/* Changes a word when the change is decided; each at most once. */
static inline void wksp__tx_put64(wksp__tx_t *tx, uint64_t *place, uint64_t value) {
  wksp__tx_room(tx->redo_cnt, WKSP_REDO_MAX);
  wksp__rec_word_t *word = &tx->vol->redo[tx->redo_cnt++];
  wksp__st(&word->where, ((uint64_t)place - (uint64_t)tx->wksp) << 4 | 8);
  wksp__st(&word->value, value);
}

/* Stores what was put, as the record says, and ends the change. */
void wksp__tx_apply(fd_wksp_t *wksp, uint32_t redo_cnt);

/* Decides. */
static inline void wksp__tx_commit(wksp__tx_t *tx) {
  wksp__vol_t *vol = tx->vol;
  /* release: whoever takes the lock after this one was killed finds the notes complete */
  wksp__st_release(&vol->rec, tx->redo_cnt ? WKSP_REC_REDO | tx->redo_cnt : 0UL);
  if (wksp__unlikely(tx->redo_cnt)) wksp__tx_apply(tx->wksp, tx->redo_cnt);
  wksp__st_release(&vol->version,
                   wksp__ld(&vol->version) + 1); /* pairs with the acquire in begin */
}

/* Takes everything back. */
void wksp__tx_drop(wksp__tx_t *tx);

/* Ends what a dead thread left; called with the lock just taken. Places outside the workspace's
 * metadata are refused (E_CORRUPT, reported). */
int wksp__tx_recover(fd_wksp_t *wksp);

/* For readers without the lock: the version before reading (even, bounded wait), and whether it
 * still stands. begin: 0 or E_AGAIN (reported, names the writer). */
int wksp__read_begin(fd_wksp_t const *wksp, uint64_t *ret_version);
int wksp__read_ok(fd_wksp_t const *wksp, uint64_t version);

/* Runs look(arg) so that it has seen one moment's tables: without the lock, again as often as a
   writer was in the way; after WKSP_READ_TRIES of these under the lock, which finishes what a dead
   writer left, or, on a read-only join, not at all. look may be run several times and on torn
   words: it must be bounded, check every index it reads, and neither report nor have effects beyond
   its arg. What it returns is returned; besides E_AGAIN and what wksp__call_begin and wksp__lock
   say (reported). */
#define WKSP_READ_TRIES 64
int wksp__read_run(fd_wksp_t const *wksp, int (*look)(void *arg), void *arg);

#endif
