/* tx: a change of more than one word, all or nothing.

   Three kinds of words take part.

   set    Those of the tables, which nobody believes while the version is odd: changed in place,
   each noted with its old value first. The head's counters are noted together at the begin. put
   Those which others read without lock or version (span words, flights, roots): noted with their
   new value, stored once the change is decided. hint   Bits that say where to look (part_priv.h):
   stored without a note, by who keeps the rule that none that is needed is ever missing.

   vol->rec says in one word what the notes mean:

       0              nothing
       UNDO | n       n words and the head's may have changed: take them back
       REDO | n       decided: the n words put have to be stored
       REBUILD        the tables are being made anew

   The change is decided by one store to it: from UNDO to REDO, or to 0 if no word was put. A kill
   before leaves what was, after whoever takes the lock next has stored the rest; that costs as many
   stores as the change had, whatever the size of the workspace. Rejected: putting all words, that
   is, redo alone (docs/adr/0005).

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
#define WKSP_REC_UNDO    (1UL << 33)
#define WKSP_REC_REBUILD (1UL << 63)

typedef struct wksp__tx {
  fd_wksp_t *wksp;
  wksp__vol_t
      *vol; /* where the notes go: the workspace's, or a private one whose notes nobody uses */
  wksp__note_t *at; /* the next note to undo */
  uint64_t rec;     /* what vol->rec becomes when the notes so far are armed */
  uint32_t redo_cnt;
} wksp__tx_t;

/* For a change that puts only. */
static inline __attribute__((always_inline)) void wksp__tx_begin(wksp__tx_t *tx, fd_wksp_t *wksp) {
  tx->wksp = wksp;
  tx->vol = wksp__vol(wksp);
  tx->rec = 0;
  tx->redo_cnt = 0;
  wksp__st(&tx->vol->version, wksp__ld(&tx->vol->version) | 1);
  wksp__fence_release(); /* no store below is seen without the odd version; pairs with the acquire
                            fence in wksp__read_ok */
}

static inline uint64_t *wksp__tx_head(fd_wksp_t const *wksp) {
  return (uint64_t *)((uintptr_t)wksp + wksp->part_off);
}

/* For one that sets, too. */
static inline __attribute__((always_inline)) void wksp__tx_begin_set(wksp__tx_t *tx,
                                                                     fd_wksp_t *wksp) {
  uint64_t const *head = wksp__tx_head(wksp);
  wksp__tx_begin(tx, wksp);
  tx->rec = WKSP_REC_UNDO;
  tx->at = tx->vol->undo;
  wksp__st_kept(&tx->vol->rec_head[0], wksp__ld(&head[0]));
  wksp__st_kept(&tx->vol->rec_head[1], wksp__ld(&head[1]));
  wksp__st_kept(&tx->vol->rec_head[2], wksp__ld(&head[2]));
  _Static_assert(WKSP_REC_HEAD == 3, "all of them");
  wksp__st_kept(&tx->vol->rec, WKSP_REC_UNDO);
}

static inline uint32_t wksp__tx_undo_cnt(wksp__tx_t const *tx) {
  return (uint32_t)tx->rec;
}

/* The bounds are sums over the code, not over data, so passing one is our mistake: stop before the
 * record is overrun. */
static inline __attribute__((always_inline)) void wksp__tx_room(uint32_t cnt, uint32_t max) {
  if (wksp__unlikely(cnt > max)) __builtin_trap();
}

/* A word that is going to change: note it, arm the notes, then store. Returns what it is. Several
   may be noted before they are armed, at most WKSP_UNDO_SLACK. */
static inline __attribute__((always_inline)) uint64_t wksp__tx_note(wksp__tx_t *tx,
                                                                    uint64_t *place) {
  uint64_t was = wksp__ld(place);
  wksp__st_kept(&tx->at->where, (uint64_t)place - (uint64_t)tx->wksp);
  wksp__st_kept(&tx->at->value, was);
  tx->at++;
  tx->rec++;
  return was;
}

static inline __attribute__((always_inline)) void wksp__tx_arm(wksp__tx_t *tx) {
  wksp__tx_room(wksp__tx_undo_cnt(tx), WKSP_UNDO_MAX);
  wksp__st_kept(&tx->vol->rec, tx->rec);
}

/* All in one: changes a word now; it is what is read from then on. */
static inline __attribute__((always_inline)) void wksp__tx_set64(wksp__tx_t *tx, uint64_t *place,
                                                                 uint64_t value) {
  wksp__tx_note(tx, place);
  wksp__tx_arm(tx);
  wksp__st_kept(place, value);
}

/* The word of which place is a half, and a store to that half, noted and armed, of what was. */
static inline __attribute__((always_inline)) uint64_t *wksp__tx_word(uint32_t *place) {
  return (uint64_t *)((uintptr_t)place & ~7UL);
}

static inline __attribute__((always_inline)) void wksp__tx_store32(uint32_t *place, uint64_t was,
                                                                   uint32_t value) {
  uint32_t shift = 8 * ((uintptr_t)place & 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  shift ^= 32;
#endif
  wksp__st_kept(wksp__tx_word(place), (was & ~(0xffffffffUL << shift)) | (uint64_t)value << shift);
}

/* The same for half a word, which is noted and stored as part of the whole: to load the whole just
   after a store to half of it waits for the cache. */
static inline __attribute__((always_inline)) void wksp__tx_set32(wksp__tx_t *tx, uint32_t *place,
                                                                 uint32_t value) {
  uint64_t was = wksp__tx_note(tx, wksp__tx_word(place));
  wksp__tx_arm(tx);
  wksp__tx_store32(place, was, value);
}

/* Changes a word when the change is decided; each at most once. */
static inline __attribute__((always_inline)) void wksp__tx_put64(wksp__tx_t *tx, uint64_t *place,
                                                                 uint64_t value) {
  wksp__tx_room(tx->redo_cnt + 1, WKSP_REDO_MAX);
  wksp__note_t *note = &tx->vol->redo[tx->redo_cnt++];
  wksp__st(&note->where, (uint64_t)place - (uint64_t)tx->wksp);
  wksp__st(&note->value, value);
}

/* Stores what was put, as the record says, and ends the change. */
void wksp__tx_apply(fd_wksp_t *wksp, uint32_t redo_cnt);

/* Decides; what is left to tidy comes before wksp__tx_end, so that whoever takes over from one
 * killed there sees by the version that there may be something. */
static inline __attribute__((always_inline)) void wksp__tx_decide(wksp__tx_t *tx) {
  wksp__vol_t *vol = tx->vol;
  /* release: whoever takes the lock after this one was killed finds the notes complete */
  wksp__st_release(&vol->rec, tx->redo_cnt ? WKSP_REC_REDO | tx->redo_cnt : 0UL);
  if (wksp__unlikely(tx->redo_cnt)) wksp__tx_apply(tx->wksp, tx->redo_cnt);
}

static inline __attribute__((always_inline)) void wksp__tx_end(wksp__tx_t *tx) {
  wksp__vol_t *vol = tx->vol;
  wksp__st_release(&vol->version,
                   wksp__ld(&vol->version) + 1); /* pairs with the acquire in begin */
}

static inline __attribute__((always_inline)) void wksp__tx_commit(wksp__tx_t *tx) {
  wksp__tx_decide(tx);
  wksp__tx_end(tx);
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
