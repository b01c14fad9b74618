/* part_index: the three ways to find a partition: by size, by tag, by address.

   By size. Free partitions lie in bins (each size below 2 KiB its own, then 32 to each power of
   two, with a two-level bitmap of those that are not empty); within a bin a binary trie over the
   bits of the size that the bin does not fix; equal sizes form a ring of which one member is on the
   tree. So the smallest that is large enough is found exactly, in a step for each bit at most and
   usually in one or two. Rejected: lists in the bins (good fit is not best fit, and a fitting block
   can hide in a long list), balanced trees (rotations write more words).

   By tag. Equal tags form a ring; one member of each stands in a hash chain. A query costs what it
   finds, whatever other tags there are.

   By address. A bitmap with summaries finds the nearest page at or before an address in which a
   partition starts, a hash chain that page's first partition, and the order of addresses the rest,
   at most 64 steps.

   All changes go through the transaction of the operation, all reads too. Every index that is read
   is range-checked and every walk is bounded, since readers may look at torn or damaged words. */

#include "core/part_priv.h"

/* Rings ---------------------------------------------------------------------------------------- */

static uint64_t pair(uint32_t lo, uint32_t hi) {
  return lo | (uint64_t)hi << 32;
}

void wksp__ring_alone(wksp__pop_t *op, uint32_t idx) {
  wksp__ent_put(op, idx, WKSP_PART_LIST, pair(idx, idx));
}

void wksp__ring_add(wksp__pop_t *op, uint32_t after, uint32_t idx) {
  uint32_t next = wksp__ent_hi(op, after, WKSP_PART_LIST);
  wksp__ent_put(op, idx, WKSP_PART_LIST, pair(after, next));
  wksp__ent_put_hi(op, after, WKSP_PART_LIST, idx);
  wksp__ent_put_lo(op, next, WKSP_PART_LIST, idx);
}

void wksp__ring_cut(wksp__pop_t *op, uint32_t idx) {
  uint64_t list = wksp__ent_get(op, idx, WKSP_PART_LIST);
  wksp__ent_put_hi(op, wksp__lo32(list), WKSP_PART_LIST, wksp__hi32(list));
  wksp__ent_put_lo(op, wksp__hi32(list), WKSP_PART_LIST, wksp__lo32(list));
}

/* By size -------------------------------------------------------------------------------------- */

/* Where a size lives: its bin, and how many low bits of the size in grains the bin leaves open. */
static uint32_t bin_of(wksp__pop_t *op, uint64_t size, int *ret_open_bits) {
  uint64_t grains = size / FD_WKSP_PART_GRAIN;
  *ret_open_bits = 0;
  if (!grains || size % FD_WKSP_PART_GRAIN || size > op->wksp->data_max ||
      size > WKSP_DATA_MAX_MAX) {
    op->bad = 1;
    return 0;
  }
  if (grains < WKSP_PART_BIN_SUBS) return (uint32_t)grains;
  int log2 = 63 - __builtin_clzl(grains);
  *ret_open_bits = log2 - 5;
  return (uint32_t)(log2 - 4) * WKSP_PART_BIN_SUBS +
         (uint32_t)(grains >> (log2 - 5)) % WKSP_PART_BIN_SUBS;
}

uint32_t wksp__size_bin(wksp__pop_t *op, uint64_t size) {
  int open_bits;
  return bin_of(op, size, &open_bits);
}

static uint32_t child(wksp__pop_t *op, uint32_t idx, uint32_t side) {
  uint64_t children = wksp__ent_get(op, idx, WKSP_PART_TAG);
  return side ? wksp__hi32(children) : wksp__lo32(children);
}

static void child_put(wksp__pop_t *op, uint32_t idx, uint32_t side, uint32_t value) {
  if (side)
    wksp__ent_put_hi(op, idx, WKSP_PART_TAG, value);
  else
    wksp__ent_put_lo(op, idx, WKSP_PART_TAG, value);
}

/* The smallest (side 0) or largest (side 1) of the tree under idx: on each level it is the node
   itself or lies on that side, or on the other where there is no such side. */
static uint32_t extreme(wksp__pop_t *op, uint32_t idx, uint32_t side) {
  uint32_t best = idx;
  for (uint32_t depth = 0; idx; depth++) {
    if (depth > WKSP_PART_DEPTH_MAX) {
      op->bad = 1;
      return 0;
    }
    uint64_t size = wksp__ent_size(op, idx), best_size = wksp__ent_size(op, best);
    if (side ? size > best_size : size < best_size) best = idx;
    uint32_t near = child(op, idx, side);
    idx = near ? near : child(op, idx, !side);
  }
  return best;
}

/* The smallest in bin that is at least size, 0 if there is none. On the way down the bits of size
   everything to the right of the path is larger; the last such branch has the smallest of it. */
static uint32_t bin_min(wksp__pop_t *op, uint32_t root, uint64_t size, int open_bits) {
  uint64_t grains = size / FD_WKSP_PART_GRAIN;
  uint32_t best = 0, right = 0, idx = root;
  uint64_t best_size = ~0UL;
  while (idx) {
    uint64_t here = wksp__ent_size(op, idx);
    if (here == size) return idx;
    if (here > size && here < best_size) {
      best = idx;
      best_size = here;
    }
    if (--open_bits < 0) break;
    uint32_t side = (grains >> open_bits) & 1;
    if (!side && child(op, idx, 1)) right = child(op, idx, 1);
    idx = child(op, idx, side);
  }
  if (right) {
    right = extreme(op, right, 0);
    if (wksp__ent_size(op, right) < best_size) best = right;
  }
  return best;
}

uint32_t wksp__size_min(wksp__pop_t *op, uint64_t size) {
  int open_bits;
  if (size > op->wksp->data_max) return 0;
  uint32_t bin = bin_of(op, size, &open_bits);
  uint32_t root = wksp__tx_get32(&op->tx, &op->head->bins[bin]);
  uint32_t best = root ? bin_min(op, root, size, open_bits) : 0;
  if (best) return best;

  /* Any of a later bin is large enough: the first of these that is not empty. */
  uint32_t top = bin / WKSP_PART_BIN_SUBS, sub = bin % WKSP_PART_BIN_SUBS;
  uint32_t subs = wksp__tx_get32(&op->tx, &op->head->bin_map[top]) & (uint32_t)(~1UL << sub);
  if (!subs) {
    uint64_t tops = wksp__tx_get64(&op->tx, &op->head->bin_top) & (~1UL << top);
    if (!tops) return 0;
    top = (uint32_t)__builtin_ctzl(tops);
    subs = top < WKSP_PART_BIN_TOPS ? wksp__tx_get32(&op->tx, &op->head->bin_map[top]) : 0;
    if (!subs) {
      op->bad = 1;
      return 0;
    }
  }
  bin = top * WKSP_PART_BIN_SUBS + (uint32_t)__builtin_ctz(subs);
  return extreme(op, wksp__tx_get32(&op->tx, &op->head->bins[bin]), 0);
}

uint32_t wksp__size_max(wksp__pop_t *op) {
  uint64_t tops = wksp__tx_get64(&op->tx, &op->head->bin_top);
  if (!tops) return 0;
  uint32_t top = 63 - (uint32_t)__builtin_clzl(tops);
  uint32_t subs = top < WKSP_PART_BIN_TOPS ? wksp__tx_get32(&op->tx, &op->head->bin_map[top]) : 0;
  if (!subs) {
    op->bad = 1;
    return 0;
  }
  uint32_t bin = top * WKSP_PART_BIN_SUBS + 31 - (uint32_t)__builtin_clz(subs);
  return extreme(op, wksp__tx_get32(&op->tx, &op->head->bins[bin]), 1);
}

/* The root of a bin, and with it the two levels of bitmap. */
static void root_put(wksp__pop_t *op, uint32_t bin, uint32_t old, uint32_t idx) {
  if (op->bad) return;
  wksp__tx_put32(&op->tx, &op->head->bins[bin], idx);
  if (!old == !idx) return;
  uint32_t top = bin / WKSP_PART_BIN_SUBS, bit = 1U << bin % WKSP_PART_BIN_SUBS;
  uint32_t was = wksp__tx_get32(&op->tx, &op->head->bin_map[top]);
  uint32_t map = idx ? was | bit : was & ~bit;
  wksp__tx_put32(&op->tx, &op->head->bin_map[top], map);
  if (!was == !map) return;
  uint64_t tops = wksp__tx_get64(&op->tx, &op->head->bin_top);
  wksp__tx_put64(&op->tx, &op->head->bin_top, map ? tops | 1UL << top : tops & ~(1UL << top));
}

void wksp__size_add(wksp__pop_t *op, uint32_t idx) {
  int open_bits;
  uint64_t size = wksp__ent_size(op, idx);
  uint32_t bin = bin_of(op, size, &open_bits);
  uint32_t at = wksp__tx_get32(&op->tx, &op->head->bins[bin]);
  wksp__ent_put(op, idx, WKSP_PART_TAG, 0);
  wksp__ring_alone(op, idx);
  if (!at) {
    wksp__ent_put_hi(op, idx, WKSP_PART_IDX, 0);
    root_put(op, bin, 0, idx);
    return;
  }
  while (!op->bad) {
    if (wksp__ent_size(op, at) == size) {
      wksp__ring_add(op, at, idx);
      wksp__ent_put_hi(op, idx, WKSP_PART_IDX, WKSP_PART_OFF);
      return;
    }
    if (--open_bits < 0) {
      op->bad = 1; /* two sizes of one bin differ in an open bit */
      return;
    }
    uint32_t side = ((size / FD_WKSP_PART_GRAIN) >> open_bits) & 1;
    uint32_t next = child(op, at, side);
    if (!next) {
      child_put(op, at, side, idx);
      wksp__ent_put_hi(op, idx, WKSP_PART_IDX, at);
      return;
    }
    at = next;
  }
}

/* Takes some leaf below idx off the tree and returns it, 0 if idx is a leaf itself. Any leaf may
   take the place of a node above it: the bits of its path are the same. */
static uint32_t leaf_take(wksp__pop_t *op, uint32_t idx) {
  uint32_t parent = idx, side = child(op, idx, 1) ? 1 : 0;
  uint32_t at = child(op, idx, side);
  if (!at) return 0;
  for (uint32_t depth = 0; depth <= WKSP_PART_DEPTH_MAX; depth++) {
    uint32_t next_side = child(op, at, 1) ? 1 : 0;
    uint32_t next = child(op, at, next_side);
    if (!next) {
      child_put(op, parent, side, 0);
      return at;
    }
    parent = at;
    side = next_side;
    at = next;
  }
  op->bad = 1;
  return 0;
}

void wksp__size_cut(wksp__pop_t *op, uint32_t idx) {
  uint32_t up = wksp__ent_hi(op, idx, WKSP_PART_IDX);
  uint32_t stand_in = wksp__ent_hi(op, idx, WKSP_PART_LIST);
  if (stand_in != idx) {
    wksp__ring_cut(op, idx);
    if (up == WKSP_PART_OFF) return;
  } else {
    if (up == WKSP_PART_OFF) op->bad = 1; /* a ring of one is on the tree */
    stand_in = leaf_take(op, idx);
  }
  uint64_t children = wksp__ent_get(op, idx, WKSP_PART_TAG);
  if (stand_in) {
    wksp__ent_put(op, stand_in, WKSP_PART_TAG, children);
    wksp__ent_put_hi(op, stand_in, WKSP_PART_IDX, up);
    if (wksp__lo32(children)) wksp__ent_put_hi(op, wksp__lo32(children), WKSP_PART_IDX, stand_in);
    if (wksp__hi32(children)) wksp__ent_put_hi(op, wksp__hi32(children), WKSP_PART_IDX, stand_in);
  }
  if (up) {
    uint32_t side = child(op, up, 1) == idx;
    if (child(op, up, side) != idx) op->bad = 1;
    child_put(op, up, side, stand_in);
    return;
  }
  uint32_t bin = wksp__size_bin(op, wksp__ent_size(op, idx));
  if (wksp__tx_get32(&op->tx, &op->head->bins[bin]) != idx) op->bad = 1;
  root_put(op, bin, idx, stand_in);
}

/* By tag --------------------------------------------------------------------------------------- */

/* The representative of tag in its chain, and the one before it (0: the bucket's first). */
static uint32_t tag_find(wksp__pop_t *op, uint64_t tag, uint32_t *ret_before) {
  uint32_t before = 0;
  uint32_t idx = wksp__tx_get32(&op->tx, &op->tag_hash[wksp__part_hash(op, tag)]);
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

void wksp__tag_add(wksp__pop_t *op, uint32_t idx) {
  uint64_t tag = wksp__ent_get(op, idx, WKSP_PART_TAG);
  uint32_t before, other = tag_find(op, tag, &before);
  if (op->bad) return;
  if (other) {
    wksp__ring_add(op, other, idx);
    wksp__ent_put_hi(op, idx, WKSP_PART_IDX, WKSP_PART_OFF);
    return;
  }
  uint32_t *bucket = &op->tag_hash[wksp__part_hash(op, tag)];
  wksp__ring_alone(op, idx);
  wksp__ent_put_hi(op, idx, WKSP_PART_IDX, wksp__tx_get32(&op->tx, bucket));
  wksp__tx_put32(&op->tx, bucket, idx);
}

void wksp__tag_cut(wksp__pop_t *op, uint32_t idx) {
  uint32_t up = wksp__ent_hi(op, idx, WKSP_PART_IDX);
  uint32_t next = wksp__ent_hi(op, idx, WKSP_PART_LIST);
  if (up == WKSP_PART_OFF) {
    wksp__ring_cut(op, idx);
    return;
  }
  uint64_t tag = wksp__ent_get(op, idx, WKSP_PART_TAG);
  uint32_t before, found = tag_find(op, tag, &before);
  if (found != idx) op->bad = 1;
  if (op->bad) return;
  uint32_t then = up; /* what follows in place of idx: the next of its ring, or the chain's rest */
  if (next != idx) {
    wksp__ring_cut(op, idx);
    wksp__ent_put_hi(op, next, WKSP_PART_IDX, up);
    then = next;
  }
  if (before)
    wksp__ent_put_hi(op, before, WKSP_PART_IDX, then);
  else
    wksp__tx_put32(&op->tx, &op->tag_hash[wksp__part_hash(op, tag)], then);
}

/* By address ----------------------------------------------------------------------------------- */

/* The last page at or before page in which a partition starts. The first page always counts. */
static uint64_t page_before(wksp__pop_t *op, uint64_t page) {
  uint64_t at = page;
  for (uint32_t level = 0; level < op->levels; level++) {
    uint64_t word = wksp__tx_get64(&op->tx, &op->bits[level][at >> 6]);
    /* On the first level at itself counts; on those above it has just been found empty. */
    uint64_t mask = level ? (1UL << (at & 63)) - 1 : ~0UL >> (63 - (at & 63));
    word &= mask;
    if (!word) {
      at >>= 6;
      continue;
    }
    at = (at & ~63UL) | (63 - (uint64_t)__builtin_clzl(word));
    while (level--) {
      if (at << (6 * (level + 1)) >= op->page_cnt) break; /* a bit beyond the last page */
      word = wksp__tx_get64(&op->tx, &op->bits[level][at]);
      if (!word) break;
      at = at << 6 | (63 - (uint64_t)__builtin_clzl(word));
    }
    if (level != ~0U || at >= op->page_cnt) break;
    return at;
  }
  op->bad = 1;
  return 0;
}

/* The first partition of page in its chain, 0 if it has none there; and the one before it. */
static uint32_t page_find(wksp__pop_t *op, uint64_t page, uint32_t *ret_before) {
  uint32_t before = 0;
  uint32_t idx = wksp__tx_get32(&op->tx, &op->page_hash[wksp__part_hash(op, page)]);
  for (uint64_t steps = 0; idx; steps++) {
    if (steps > op->part_max || op->bad) {
      op->bad = 1;
      return 0;
    }
    if (wksp__ent_page(op, idx) == page) break;
    before = idx;
    idx = wksp__ent_lo(op, idx, WKSP_PART_IDX);
  }
  *ret_before = before;
  return idx;
}

uint32_t wksp__addr_at(wksp__pop_t *op, uint64_t gaddr) {
  uint32_t before;
  uint64_t page = page_before(op, (gaddr - op->wksp->data_lo) >> WKSP_PART_PAGE_LG);
  uint32_t idx = page_find(op, page, &before);
  if (idx && wksp__ent_gaddr(op, idx) > gaddr) idx = wksp__ent_lo(op, idx, WKSP_PART_NBR);
  for (uint64_t steps = 0; idx && steps <= WKSP_PART_PAGE_STARTS; steps++) {
    uint32_t next = wksp__ent_hi(op, idx, WKSP_PART_NBR);
    if (next && wksp__ent_gaddr(op, next) <= gaddr) {
      idx = next;
      continue;
    }
    uint64_t lo = wksp__ent_gaddr(op, idx), size = wksp__ent_size(op, idx);
    if (op->bad || gaddr < lo || gaddr - lo >= size) break;
    return idx;
  }
  op->bad = 1;
  return 0;
}

static void page_bit_set(wksp__pop_t *op, uint64_t page) {
  for (uint32_t level = 0; level < op->levels; level++, page >>= 6) {
    uint64_t *word = &op->bits[level][page >> 6];
    uint64_t was = wksp__tx_get64(&op->tx, word);
    wksp__tx_put64(&op->tx, word, was | 1UL << (page & 63));
    if (was) return;
  }
}

static void page_bit_clear(wksp__pop_t *op, uint64_t page) {
  for (uint32_t level = 0; level < op->levels; level++, page >>= 6) {
    uint64_t *word = &op->bits[level][page >> 6];
    uint64_t now = wksp__tx_get64(&op->tx, word) & ~(1UL << (page & 63));
    wksp__tx_put64(&op->tx, word, now);
    if (now) return;
  }
}

/* Whether a neighbour exists and starts in page. */
static int starts_in(wksp__pop_t *op, uint32_t idx, uint64_t page) {
  return idx && wksp__ent_page(op, idx) == page;
}

/* Puts idx where the chain of page has old. */
static void page_replace(wksp__pop_t *op, uint64_t page, uint32_t old, uint32_t idx) {
  uint32_t before, found = page_find(op, page, &before);
  if (found != old) op->bad = 1;
  if (op->bad) return;
  if (before)
    wksp__ent_put_lo(op, before, WKSP_PART_IDX, idx);
  else
    wksp__tx_put32(&op->tx, &op->page_hash[wksp__part_hash(op, page)], idx);
}

void wksp__addr_add(wksp__pop_t *op, uint32_t idx) {
  uint64_t nbr = wksp__ent_get(op, idx, WKSP_PART_NBR), page = wksp__ent_page(op, idx);
  uint32_t next = wksp__hi32(nbr);
  if (page >= op->page_cnt) op->bad = 1;
  wksp__ent_put_lo(op, idx, WKSP_PART_IDX, 0);
  if (op->bad || starts_in(op, wksp__lo32(nbr), page)) return;
  if (starts_in(op, next, page)) {
    wksp__ent_put_lo(op, idx, WKSP_PART_IDX, wksp__ent_lo(op, next, WKSP_PART_IDX));
    page_replace(op, page, next, idx);
    wksp__ent_put_lo(op, next, WKSP_PART_IDX, 0);
    return;
  }
  uint32_t *bucket = &op->page_hash[wksp__part_hash(op, page)];
  wksp__ent_put_lo(op, idx, WKSP_PART_IDX, wksp__tx_get32(&op->tx, bucket));
  wksp__tx_put32(&op->tx, bucket, idx);
  page_bit_set(op, page);
}

void wksp__addr_cut(wksp__pop_t *op, uint32_t idx) {
  uint64_t nbr = wksp__ent_get(op, idx, WKSP_PART_NBR), page = wksp__ent_page(op, idx);
  uint32_t next = wksp__hi32(nbr), chain = wksp__ent_lo(op, idx, WKSP_PART_IDX);
  if (page >= op->page_cnt) op->bad = 1;
  if (op->bad || starts_in(op, wksp__lo32(nbr), page)) return;
  if (starts_in(op, next, page)) {
    page_replace(op, page, idx, next);
    wksp__ent_put_lo(op, next, WKSP_PART_IDX, chain);
    return;
  }
  page_replace(op, page, idx, chain);
  page_bit_clear(op, page);
}
