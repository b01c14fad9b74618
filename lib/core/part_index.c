/* part_index: used partitions by tag, and all by address.

   By tag. Equal tags form a ring; one member of each stands in a hash chain. A query costs what it
   finds, whatever other tags there are.

   By address. For each page the first partition that starts in it; a bitmap with summaries finds
   the nearest page at or before an address that has one; and the order of addresses the rest, at
   most 64 steps. Rejected: a hash of the pages in place of one word for each (an eighth of the
   memory where partitions are few and large, but two words more to change, and chains of other
   pages' entries to read).

   Every index that is read is range-checked and every walk is bounded, since readers may look at
   torn or damaged words. */

#include "core/part_priv.h"
#include "core/part_ring.h"

/* Bits without a page that a lookup passes: each needs a kill, and is cleared by who takes over. */
#define PAGE_TRIES_MAX 4096U

/* By tag --------------------------------------------------------------------------------------- */

/* The representative of tag in its chain, and the one before it (0: the bucket's first). */
static uint32_t tag_find(wksp__pop_t *op, uint64_t tag, uint32_t *ret_before) {
  uint32_t before = 0;
  uint32_t idx = wksp__ld(&wksp__pop_tags(op)[wksp__tag_bucket(op, tag)]);
  for (uint64_t steps = 0; idx; steps++) {
    if (steps > op->part_max || op->bad) {
      op->bad = 1;
      return 0;
    }
    if (wksp__ent_get(op, idx, WKSP_PART_TAG) == tag) break;
    before = idx;
    idx = wksp__ent_hi(op, idx, WKSP_PART_IDX);
  }
  *ret_before = before;
  return idx;
}

uint32_t wksp__tag_first(wksp__pop_t *op, uint64_t tag) {
  uint32_t before;
  return tag_find(op, tag, &before);
}

void wksp__tag_add_chain(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent, uint64_t tag, int fresh) {
  uint32_t before, other = tag_find(op, tag, &before);
  if (op->bad) return;
  wksp__member_note(op, ent, fresh);
  if (other) {
    wksp__ring_add(op, other, idx, ent);
    wksp__member_store(ent, tag, WKSP_PART_OFF);
    return;
  }
  uint32_t *bucket = &wksp__pop_tags(op)[wksp__tag_bucket(op, tag)];
  wksp__ring_alone(op, idx, ent);
  wksp__member_store(ent, tag, wksp__ld(bucket));
  wksp__tx_set32(&op->tx, bucket, idx);
}

void wksp__tag_cut_chain(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent) {
  uint32_t up = wksp__hi32(wksp__ld(&ent->w[WKSP_PART_IDX]));
  uint32_t next = wksp__hi32(wksp__ld(&ent->w[WKSP_PART_LIST]));
  uint64_t tag = wksp__ld(&ent->w[WKSP_PART_TAG]);
  uint32_t before, found = tag_find(op, tag, &before);
  if (found != idx) op->bad = 1;
  if (op->bad) return;
  uint32_t then = up; /* what follows in place of idx: the next of its ring, or the chain's rest */
  if (next != idx) {
    wksp__ring_cut(op, ent);
    wksp__ent_set_hi(op, next, WKSP_PART_IDX, up);
    then = next;
  }
  if (before)
    wksp__ent_set_hi(op, before, WKSP_PART_IDX, then);
  else
    wksp__tx_set32(&op->tx, &wksp__pop_tags(op)[wksp__tag_bucket(op, tag)], then);
}

/* By address ----------------------------------------------------------------------------------- */

/* The last page at or before page in which a partition starts. The first page always counts. A bit
   may lead nowhere (part_priv.h): then the search goes on before it, for as many as kills can have
   left. */
static uint64_t page_before(wksp__pop_t *op, uint64_t page) {
  uint64_t at = page, page_cnt = wksp__page_cnt(op);
  uint32_t levels = op->tx.wksp->part.levels;
  for (uint32_t tries = 0; tries < PAGE_TRIES_MAX; tries++) {
    uint32_t level = 0;
    uint64_t pos = at, mask = ~0UL >> (63 - (pos & 63)); /* at itself counts, on the first level */
    uint64_t word = wksp__ld(&wksp__part_bits(op, 0)[pos >> 6]) & mask;
    while (!word) {
      pos >>= 6;
      if (++level >= levels) {
        op->bad = 1;
        return 0;
      }
      word = wksp__ld(&wksp__part_bits(op, level)[pos >> 6]) & ((1UL << (pos & 63)) - 1);
    }
    pos = (pos & ~63UL) | (63 - (uint64_t)__builtin_clzl(word));
    while (level && pos << 6 * level < page_cnt &&
           (word = wksp__ld(&wksp__part_bits(op, level - 1)[pos]))) {
      level--;
      pos = pos << 6 | (63 - (uint64_t)__builtin_clzl(word));
    }
    if (!level && pos < page_cnt && wksp__ld(&wksp__pop_pages(op)[pos])) return pos;
    pos <<= 6 * level;
    if (!pos || pos > at) break;
    at = pos - 1;
  }
  op->bad = 1;
  return 0;
}

/* From idx, which starts at or before gaddr, to the one that contains it. */
static uint32_t walk_to(wksp__pop_t *op, uint32_t idx, uint64_t gaddr) {
  wksp__ent_t const *ent = wksp__ent_rw(op, idx);
  uint64_t lo = wksp__ld(&ent->w[WKSP_PART_ADDR]) & WKSP_PART_RANGE_MASK;
  for (uint64_t steps = 0; steps <= WKSP_PART_PAGE_STARTS && !op->bad && lo <= gaddr; steps++) {
    uint64_t size = wksp__ld(&ent->w[WKSP_PART_SIZE]) & WKSP_PART_RANGE_MASK;
    if (gaddr - lo < size) {
      if ((wksp__ld(&ent->w[WKSP_PART_ADDR]) & WKSP_PART_RANGE_MASK) != lo) break;
      return idx;
    }
    lo += size; /* there the next one begins */
    idx = wksp__hi32(wksp__ld(&ent->w[WKSP_PART_NBR]));
    ent = wksp__ent_rw(op, idx);
  }
  op->bad = 1;
  return 0;
}

uint32_t wksp__addr_at(wksp__pop_t *op, uint64_t gaddr) {
  uint64_t page = wksp__page_of(op, gaddr);
  uint32_t idx = wksp__ld(&wksp__pop_pages(op)[page]);
  if (!idx) {
    idx = wksp__ld(&wksp__pop_pages(op)[page_before(op, page)]);
  } else if (wksp__ent_gaddr(op, idx) > gaddr) {
    idx = wksp__ent_lo(op, idx, WKSP_PART_NBR); /* the one before contains the page's begin */
  }
  return walk_to(op, idx, gaddr);
}

static uint64_t *bits_of(wksp__part_head_t *head, fd_wksp_t const *wksp, uint32_t level) {
  return (uint64_t *)((uintptr_t)head + wksp->part.bits_off[level]);
}

/* From the top down, so that a kill leaves no bit without those above it. */
void wksp__page_bits_set(wksp__part_head_t *head, fd_wksp_t const *wksp, uint64_t page) {
  for (uint32_t level = wksp->part.levels; level-- > 0;) {
    uint64_t at = page >> 6 * level, *word = &bits_of(head, wksp, level)[at >> 6];
    uint64_t was = wksp__ld(word), now = was | 1UL << (at & 63);
    if (was != now) wksp__st_kept(word, now);
  }
}

void wksp__page_clear(wksp__part_head_t *head, fd_wksp_t const *wksp, uint64_t page) {
  uint32_t const *firsts = (uint32_t *)((uintptr_t)head + wksp->part.page_off);
  uint64_t at = page, now = 0;
  if (wksp__ld(&firsts[page])) return;
  for (uint32_t level = 0; level < wksp->part.levels && !now; level++, at >>= 6) {
    uint64_t *word = &bits_of(head, wksp, level)[at >> 6];
    now = wksp__ld(word) & ~(1UL << (at & 63));
    wksp__st_kept(word, now);
  }
}

void wksp__part_bits_clear(fd_wksp_t *wksp, uint64_t where) {
  wksp__pop_t op;
  wksp__pop_begin(&op, wksp);
  uint64_t page = (where - (wksp->part_off + wksp->part.page_off)) / 4;
  if (where < wksp->part_off + wksp->part.page_off || where % 8) return;
  for (uint64_t i = page; i <= page + 1 && i < wksp__page_cnt(&op); i++)
    wksp__page_clear(op.head, wksp, i);
}
