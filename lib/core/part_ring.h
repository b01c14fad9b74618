/* part_ring: how the words of entries change: rings and indexes, the common cases inline, since an
   alloc or free is little else.

   Words are noted, armed, then stored (tx.h). fresh says that nothing leads to the entry yet, so
   that its own words need no note; idx and ent are the same entry, known to be one. Neighbours that
   are out of range become entry 0 and the operation bad (part_priv.h).

   used by: part, part_size, part_index, part_resize. */

#ifndef WKSP_CORE_PART_RING_H
#define WKSP_CORE_PART_RING_H

#include "core/part_priv.h"

WKSP__INLINE uint64_t wksp__pair(uint32_t lo, uint32_t hi) {
  return lo | (uint64_t)hi << 32;
}

WKSP__INLINE uint64_t wksp__with_lo(uint64_t word, uint32_t lo) {
  return (word & ~0xffffffffUL) | lo;
}

WKSP__INLINE uint64_t wksp__with_hi(uint64_t word, uint32_t hi) {
  return (uint32_t)word | (uint64_t)hi << 32;
}

/* The words TAG and up, of one that becomes a member of an index; LIST is the ring's. Call before
   the ring is changed, which arms, and store after. */
WKSP__INLINE void wksp__member_note(wksp__pop_t *op, wksp__ent_t *ent, int fresh) {
  if (fresh) return;
  wksp__tx_note(&op->tx, &ent->w[WKSP_PART_TAG]);
  wksp__tx_note(&op->tx, &ent->w[WKSP_PART_IDX]);
  wksp__tx_note(&op->tx, &ent->w[WKSP_PART_LIST]);
}

WKSP__INLINE void wksp__member_store(wksp__ent_t *ent, uint64_t tag, uint32_t up) {
  wksp__st_kept(&ent->w[WKSP_PART_TAG], tag);
  wksp__st_kept(&ent->w[WKSP_PART_IDX], wksp__with_hi(wksp__ld(&ent->w[WKSP_PART_IDX]), up));
}

/* Rings. The LIST word of idx is noted already if it needs to be. */

WKSP__INLINE void wksp__ring_alone(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent) {
  wksp__tx_arm(&op->tx);
  wksp__st_kept(&ent->w[WKSP_PART_LIST], wksp__pair(idx, idx));
}

WKSP__INLINE void wksp__ring_add(wksp__pop_t *op, uint32_t after, uint32_t idx, wksp__ent_t *ent) {
  uint64_t *here = &wksp__ent_rw(op, after)->w[WKSP_PART_LIST];
  uint64_t was = wksp__tx_note(&op->tx, here);
  uint32_t next = wksp__hi32(was);
  if (next == after) {
    wksp__tx_arm(&op->tx);
    wksp__st_kept(&ent->w[WKSP_PART_LIST], wksp__pair(after, after));
    wksp__st_kept(here, wksp__pair(idx, idx));
    return;
  }
  uint64_t *there = &wksp__ent_rw(op, next)->w[WKSP_PART_LIST];
  uint64_t there_was = wksp__tx_note(&op->tx, there);
  wksp__tx_arm(&op->tx);
  wksp__st_kept(&ent->w[WKSP_PART_LIST], wksp__pair(after, next));
  wksp__st_kept(here, wksp__with_hi(was, idx));
  wksp__st_kept(there, wksp__with_lo(there_was, idx));
}

/* The words of ent stay. */
WKSP__INLINE void wksp__ring_cut(wksp__pop_t *op, wksp__ent_t const *ent) {
  uint64_t list = wksp__ld(&ent->w[WKSP_PART_LIST]);
  uint32_t before = wksp__lo32(list), after = wksp__hi32(list);
  uint64_t *here = &wksp__ent_rw(op, before)->w[WKSP_PART_LIST];
  uint64_t was = wksp__tx_note(&op->tx, here);
  if (before == after) {
    wksp__tx_arm(&op->tx);
    wksp__st_kept(here, wksp__pair(before, before));
    return;
  }
  uint64_t *there = &wksp__ent_rw(op, after)->w[WKSP_PART_LIST];
  uint64_t there_was = wksp__tx_note(&op->tx, there);
  wksp__tx_arm(&op->tx);
  wksp__st_kept(here, wksp__with_hi(was, after));
  wksp__st_kept(there, wksp__with_lo(there_was, before));
}

/* By tag. */

/* Where the bucket's chain has to be searched. */
void wksp__tag_add_chain(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent, uint64_t tag, int fresh);
void wksp__tag_cut_chain(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent);

WKSP__INLINE void wksp__tag_add(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent, uint64_t tag,
                                int fresh) {
  uint32_t *bucket = &wksp__pop_tags(op)[wksp__tag_bucket(op, tag)], first = wksp__ld(bucket);
  if (!first) { /* the first of its tag, and in its bucket */
    wksp__member_note(op, ent, fresh);
    wksp__ring_alone(op, idx, ent);
    wksp__member_store(ent, tag, 0);
    wksp__tx_set32(&op->tx, bucket, idx);
    return;
  }
  if (wksp__unlikely(wksp__ent_get(op, first, WKSP_PART_TAG) != tag)) {
    WKSP__APART(wksp__tag_add_chain, op, idx, ent, tag, fresh);
    return;
  }
  wksp__member_note(op, ent, fresh);
  wksp__ring_add(op, first, idx, ent);
  wksp__member_store(ent, tag, WKSP_PART_OFF);
}

WKSP__INLINE void wksp__tag_cut(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent) {
  uint32_t up = wksp__hi32(wksp__ld(&ent->w[WKSP_PART_IDX]));
  if (wksp__likely(up == WKSP_PART_OFF)) {
    wksp__ring_cut(op, ent);
    return;
  }
  uint64_t tag = wksp__ld(&ent->w[WKSP_PART_TAG]);
  uint32_t *bucket = &wksp__pop_tags(op)[wksp__tag_bucket(op, tag)];
  if (wksp__ld(&ent->w[WKSP_PART_LIST]) == wksp__pair(idx, idx) && wksp__ld(bucket) == idx)
    wksp__tx_set32(&op->tx, bucket, up); /* the last of its tag, and first in its bucket */
  else
    WKSP__APART(wksp__tag_cut_chain, op, idx, ent);
}

/* By address. */

WKSP__INLINE uint64_t wksp__page_checked(wksp__pop_t *op, uint64_t gaddr) {
  uint64_t page = wksp__page_of(op, gaddr);
  if (wksp__likely(page < wksp__page_cnt(op))) return page;
  op->bad = 1;
  return 0;
}

void wksp__page_bits_set(wksp__part_head_t *head, fd_wksp_t const *wksp, uint64_t page);

/* These keep the page index; before is where the partition before begins, now and after the change.
   swap: at gaddr idx begins in place of old. begin: at gaddr, where none did, idx begins. end: at
   gaddr none begins any more; next is the one that begins behind it, 0 none. */

WKSP__INLINE void wksp__addr_swap(wksp__pop_t *op, uint64_t gaddr, uint32_t old, uint32_t idx) {
  uint32_t *first = &wksp__pop_pages(op)[wksp__page_checked(op, gaddr)];
  if (wksp__ld(first) == old) wksp__tx_set32(&op->tx, first, idx);
}

WKSP__INLINE void wksp__addr_begin(wksp__pop_t *op, uint64_t gaddr, uint64_t before, uint32_t idx) {
  uint64_t page = wksp__page_checked(op, gaddr);
  if (page == wksp__page_of(op, before)) return;
  uint32_t *first = &wksp__pop_pages(op)[page];
  uint64_t firsts = wksp__tx_note(&op->tx, wksp__tx_word(first)); /* before the bits: part_priv.h */
  wksp__tx_arm(&op->tx);
  if (!wksp__ld(first)) {
    uint64_t *word = &wksp__part_bits(op, 0)[page >> 6], was = wksp__ld(word);
    if (wksp__likely(was)) /* then the bits above are set */
      wksp__st_kept(word, was | 1UL << (page & 63));
    else
      wksp__page_bits_set(op->head, op->tx.wksp, page);
  }
  wksp__tx_store32(first, firsts, idx);
}

WKSP__INLINE void wksp__addr_end(wksp__pop_t *op, uint64_t gaddr, uint64_t before, uint32_t next) {
  uint64_t page = wksp__page_checked(op, gaddr);
  if (page == wksp__page_of(op, before)) return;
  if (next && wksp__ent_page(op, next) != page) next = 0;
  wksp__tx_set32(&op->tx, &wksp__pop_pages(op)[page], next);
  if (next) return;
  op->page[1] = op->page[0]; /* a change empties two at most */
  op->page[0] = page;
}

/* By size. */

/* Where a size lives: its bin, and how many low bits of the size in grains the bin leaves open. Any
   size has one; only those of partitions are multiples of a grain and not 0. */
WKSP__INLINE uint32_t wksp__bin_of(uint64_t size, int *ret_open_bits) {
  uint64_t grains = (size & WKSP_PART_RANGE_MASK) / FD_WKSP_PART_GRAIN;
  *ret_open_bits = 0;
  if (grains < WKSP_PART_BIN_SUBS) return (uint32_t)grains;
  int log2 = 63 - __builtin_clzl(grains);
  *ret_open_bits = log2 - 5;
  return (uint32_t)(log2 - 5) * WKSP_PART_BIN_SUBS + (uint32_t)(grains >> (log2 - 5));
}

WKSP__INLINE uint32_t wksp__size_bin(uint64_t size) {
  int open_bits;
  return wksp__bin_of(size, &open_bits);
}

/* The bits of a bin that is about to have something. */
WKSP__INLINE void wksp__bin_bits_set(wksp__pop_t *op, uint32_t bin) {
  uint32_t top = bin / WKSP_PART_BIN_SUBS, sub = bin % WKSP_PART_BIN_SUBS;
  uint64_t tops = wksp__ld(&op->head->bin_top);
  uint32_t subs = wksp__ld(&op->head->bin_map[top]);
  if (!(tops >> top & 1)) wksp__st_kept(&op->head->bin_top, tops | 1UL << top);
  if (!(subs >> sub & 1)) wksp__st_kept(&op->head->bin_map[top], subs | 1U << sub);
}

/* idx has the size that its entry says. The inline forms know the cases that it is, or will be,
   alone in its bin, or in a ring beside the one on the tree. */
void wksp__size_add_tree(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent, int fresh);
void wksp__size_cut_tree(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent);

WKSP__INLINE void wksp__size_add(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent, int fresh) {
  uint64_t size = wksp__ld(&ent->w[WKSP_PART_SIZE]);
  uint32_t bin = wksp__size_bin(size), *place = &op->head->bins[bin], root = wksp__ld(place);
  if (!root) {
    wksp__member_note(op, ent, fresh);
    wksp__ring_alone(op, idx, ent);
    wksp__member_store(ent, 0, 0);
    wksp__bin_bits_set(op, bin);
    wksp__tx_set32(&op->tx, place, idx);
  } else if (wksp__ent_get(op, root, WKSP_PART_SIZE) == size) {
    wksp__member_note(op, ent, fresh);
    wksp__ring_add(op, root, idx, ent);
    wksp__member_store(ent, 0, WKSP_PART_OFF);
  } else {
    WKSP__APART(wksp__size_add_tree, op, idx, ent, fresh);
  }
}

/* Whether idx is all that its bin has. */
WKSP__INLINE int wksp__size_alone(wksp__pop_t *op, uint32_t idx, wksp__ent_t const *ent,
                                  uint32_t bin) {
  return wksp__ld(&op->head->bins[bin]) == idx && !wksp__ld(&ent->w[WKSP_PART_TAG]) &&
         wksp__ld(&ent->w[WKSP_PART_LIST]) == wksp__pair(idx, idx);
}

WKSP__INLINE void wksp__size_cut(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent) {
  uint32_t bin = wksp__size_bin(wksp__ld(&ent->w[WKSP_PART_SIZE]));
  if (wksp__hi32(wksp__ld(&ent->w[WKSP_PART_IDX])) == WKSP_PART_OFF)
    wksp__ring_cut(op, ent);
  else if (wksp__size_alone(op, idx, ent, bin))
    wksp__tx_set32(&op->tx, &op->head->bins[bin], 0U);
  else
    WKSP__APART(wksp__size_cut_tree, op, idx, ent);
}

/* Changes the size of one that is in the index, in entry and index. */
WKSP__INLINE void wksp__size_change(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent,
                                    uint64_t size) {
  uint32_t bin = wksp__size_bin(wksp__ld(&ent->w[WKSP_PART_SIZE])), to = wksp__size_bin(size);
  uint32_t *root = &op->head->bins[bin], *root_to = &op->head->bins[to];
  /* The usual fate of the large rest from which much is cut: alone in its bin, and staying there or
     becoming another's only one. Then its links stay as they are. */
  if (wksp__size_alone(op, idx, ent, bin) && (bin == to || !wksp__ld(root_to))) {
    wksp__tx_set64(&op->tx, &ent->w[WKSP_PART_SIZE], size);
    if (bin == to) return;
    wksp__bin_bits_set(op, to);
    wksp__tx_set32(&op->tx, root, 0U);
    wksp__tx_set32(&op->tx, root_to, idx);
    return;
  }
  wksp__size_cut(op, idx, ent);
  wksp__tx_set64(&op->tx, &ent->w[WKSP_PART_SIZE], size);
  wksp__size_add(op, idx, ent, 0);
}

/* Entries. */

/* How many entries can still be taken. */
WKSP__INLINE uint32_t wksp__ent_left(wksp__pop_t *op) {
  uint32_t total = wksp__lo32(wksp__ld(&op->head->cnt));
  return total < op->part_max ? op->part_max - total : 0;
}

/* Takes an entry from the pool and fills its addr; nothing leads to it yet. Null if the pool is
   impossible (bad). */
WKSP__INLINE uint32_t wksp__ent_take(wksp__pop_t *op, uint64_t addr_word, wksp__ent_t **ret_ent) {
  uint64_t pool = wksp__ld(&op->head->pool);
  uint32_t idx = wksp__lo32(pool), top = wksp__hi32(pool), next = 0;
  if (!idx) idx = ++top;
  wksp__ent_t *ent = wksp__ent_rw(op, idx);
  if (wksp__lo32(pool)) next = wksp__lo32(wksp__ld(&ent->w[WKSP_PART_IDX]));
  if (next > op->part_max || wksp__tx_note(&op->tx, &ent->w[WKSP_PART_ADDR])) op->bad = 1;
  if (wksp__unlikely(op->bad)) return 0;
  wksp__tx_arm(&op->tx);
  wksp__st_kept(&op->head->pool, wksp__pair(next, top));
  wksp__st_kept(&ent->w[WKSP_PART_ADDR], addr_word);
  *ret_ent = ent;
  return idx;
}

/* Gives it back: its addr is noted and armed. */
WKSP__INLINE void wksp__ent_give(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent) {
  uint64_t pool = wksp__ld(&op->head->pool), word = wksp__ld(&ent->w[WKSP_PART_IDX]);
  wksp__st_kept(&ent->w[WKSP_PART_ADDR], 0UL);
  /* No note: as long as it is in use nobody asks for its next. */
  if (wksp__likely(!op->bad))
    wksp__st_kept(&ent->w[WKSP_PART_IDX], wksp__with_lo(word, wksp__lo32(pool)));
  wksp__st_kept(&op->head->pool, wksp__with_lo(pool, idx));
}

/* Adds to the counters, which are noted with the begin; differences may be negative, as two's
   complement. */
WKSP__INLINE void wksp__part_count(wksp__pop_t *op, uint32_t total, uint32_t free,
                                   uint64_t free_sz) {
  uint64_t cnt = wksp__ld(&op->head->cnt);
  wksp__st_kept(&op->head->cnt, wksp__pair(wksp__lo32(cnt) + total, wksp__hi32(cnt) + free));
  wksp__st_kept(&op->head->free_sz, wksp__ld(&op->head->free_sz) + free_sz);
}

#endif
