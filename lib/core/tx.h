/* tx: a change of more than one word, all or nothing.

   The change is written down as a list of (place, value) in the redo record, decided by one store
   (redo_cnt), applied, and forgotten by one store. A kill before the decision leaves nothing; after
   it, whoever takes the lock next applies the list again: the stores are the same, so it does not
   matter how far the dead got. All under the workspace's lock.

   Readers without the lock see vol->version odd while a list is applied (release; pairs with the
   acquire in wksp__read_begin).

   While a change is being prepared wksp__tx_get* give what it will be, so that code can be written
   as if it had happened. A word is always put and got at the same width: the list is searched by
   place and width.

   How large a change can be: WKSP_PART_TX_MAX (part_priv.h, with the sum) and what rides along with
   it, WKSP_PART_ALSO_MAX; a root is WKSP_ROOT_TX_MAX. part.c asserts that they fit into
   WKSP_REDO_MAX. */

#ifndef WKSP_CORE_TX_H
#define WKSP_CORE_TX_H

#include "core/call.h"

typedef struct wksp__tx {
  wksp__call_t *call; /* NULL: only looks, nothing is put */
  fd_wksp_t *wksp;
  uint32_t cnt;
  uint8_t slot[256]; /* hash of place -> entry of the list + 1, 0 empty; linear probing */
} wksp__tx_t;

_Static_assert(WKSP_REDO_MAX < 256, "an entry's number + 1 fits a slot, and one slot stays empty");

void wksp__tx_begin(wksp__tx_t *tx, wksp__call_t *call);
void wksp__tx_put64(wksp__tx_t *tx, uint64_t *place, uint64_t value);
void wksp__tx_put32(wksp__tx_t *tx, uint32_t *place, uint32_t value);
uint64_t wksp__tx_get64(wksp__tx_t const *tx, uint64_t const *place);
uint32_t wksp__tx_get32(wksp__tx_t const *tx, uint32_t const *place);

/* Decides and applies. Not calling it drops the change. */
void wksp__tx_commit(wksp__tx_t *tx);

/* Finishes a decided change that a dead thread left; called with the lock just taken. Places
 * outside the workspace's metadata are refused (E_CORRUPT, reported). */
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
