/* alloc_hard: the hardened build, for hunting a program's errors.

   Problem. A pair says whether a block is allocated, but what lies in a magazine is free whatever
   its pair says, and looking through all magazines of all heaps at every free costs some thousand
   loads. A write to a freed block shows nowhere.

   Model. One more bit for each 16 bytes of data, in a region of its own: live <=> a user has the
   block that starts there. Malloc sets it when it returns, free clears it first, by one atomic
   each. Of any two who free a block, in any process, one finds it clear: exact, wherever the block
   is by then, and the same for an address where no block starts. Chosen over a search for that, and
   over a mark in the block, which a user may overwrite.

   A free block of a live span is filled with POISON, from the moment that its span has a class.
   Malloc looks whether it still is. A write by somebody who had freed it is counted and reported
   then; the block is handed out nevertheless.

   Every call takes the long form. A kill between live bit and pair leaves a block that the flight
   names: that one may be freed without its bit. In a realloc, which has two blocks in flight, the
   new one is then known to nobody.

   Refuses: to find a write that stores what is there already, or one to a large block, whose memory
   the workspace has back at once. To poison for the address sanitizer: its shadow is a process's
   own, and would call the use of a block that another process has handed over an error. */

#include "core/alloc_hard.h"

#include "core/fail.h"

#define POISON 0xf4eeb10cf4eeb10cUL

static uint64_t *live_word(fd_wksp_t const *wksp, uint64_t gaddr, uint64_t *ret_bit) {
  uint64_t at = (gaddr - wksp->data_lo) / 16;
  *ret_bit = 1UL << (at & 63U);
  return (uint64_t *)((uintptr_t)wksp + wksp->data_lo -
                      (uint64_t)wksp__span_cnt(wksp) * WKSP_HARD_SPAN_SZ) +
         at / 64;
}

static void poison(fd_wksp_t *wksp, uint64_t gaddr, uint64_t size) {
  uint64_t *word = fd_wksp_laddr_fast(wksp, gaddr);
  for (uint64_t i = 0; i < size / 8; i++) word[i] = POISON;
}

void wksp__hard_prepare(fd_wksp_t *wksp, uint32_t span, uint32_t cls) {
  uint64_t first = wksp__span_gaddr(wksp, span), bit;
  uint64_t size = (uint64_t)wksp__class_size(cls) * wksp__class(wksp, cls)->blk_cnt;
  for (uint64_t at = 0; at < size; at += 1024) wksp__st(live_word(wksp, first + at, &bit), 0UL);
  poison(wksp, first, size);
}

void wksp__hard_take(wksp__op_t *op, uint64_t gaddr, uint32_t cls) {
  uint64_t const *word = fd_wksp_laddr_fast(op->wksp, gaddr);
  uint64_t bit, size = wksp__class_size(cls), *live = live_word(op->wksp, gaddr, &bit);
  for (uint64_t i = 0; i < size / 8; i++) {
    if (word[i] == POISON) continue;
    wksp__fetch_add(&op->alloc->late_write_cnt, 1UL);
    wksp__fail(
        WKSP_E_CORRUPT,
        "malloc: the free block of %lu bytes at gaddr %#lx of the fd_alloc at %#lx (tag %lu) "
        "was written to, at offset %lu (%#lx): somebody uses it after he has freed it",
        size, gaddr, op->alloc_gaddr, op->alloc->tag, 8 * i, word[i]);
    break;
  }
  wksp__fetch_or(live, bit);
}

int wksp__hard_give(wksp__op_t *op, uint64_t gaddr, uint32_t cls) {
  uint64_t bit;
  if (wksp__blk_of(op->wksp, gaddr, cls) == UINT32_MAX) return WKSP_E_NOTFOUND;
  uint64_t *live = live_word(op->wksp, gaddr, &bit);
  uint64_t before = wksp__ld(&op->call.slot->flight);
  wksp__st(&op->call.slot->flight, gaddr);
  if (!(wksp__fetch_and(live, ~bit) & bit) && !wksp__is_suspect(op->alloc, op->wksp, gaddr)) {
    wksp__st(&op->call.slot->flight, before);
    return WKSP_E_NOTFOUND;
  }
  poison(op->wksp, gaddr, wksp__class_size(cls));
  return 0;
}

void wksp__hard_lay(fd_wksp_t *wksp, uint64_t gaddr, uint32_t cls) {
  uint64_t bit, *live = live_word(wksp, gaddr, &bit);
  wksp__fetch_and(live, ~bit);
  poison(wksp, gaddr, wksp__class_size(cls));
}

void wksp__hard_bury(fd_wksp_t *wksp, uint64_t gaddr) {
  uint64_t bit, *live = live_word(wksp, gaddr, &bit);
  if (SPAN_STATE(wksp__ld(&wksp__span_words(wksp)[wksp__span_of(wksp, gaddr)])) != WKSP_SPAN_NONE)
    wksp__fetch_or(live, bit);
}
