/* part_size: free partitions by size.

   Problem: the smallest free partition that is large enough, exactly, among a million, with few
   words to change when one comes or goes.

   Model. Free partitions lie in bins (each size below 2 KiB its own, then 32 to each power of two,
   with a two-level bitmap of those that are not empty); within a bin a binary trie over the bits of
   the size that the bin does not fix; equal sizes form a ring of which one member is on the tree. A
   step for each open bit at most, and usually one or two. Rejected: lists in the bins (good fit is
   not best fit, and a fitting block can hide in a long list), balanced trees (rotations write more
   words).

   What it refuses: as part_index.c, indexes out of range and walks without bound, since readers may
   look at torn or damaged words. */

#include "core/part_priv.h"
#include "core/part_ring.h"

static uint32_t child(wksp__pop_t *op, uint32_t idx, uint32_t side) {
  uint64_t children = wksp__ent_get(op, idx, WKSP_PART_TAG);
  return side ? wksp__hi32(children) : wksp__lo32(children);
}

static void child_put(wksp__pop_t *op, uint32_t idx, uint32_t side, uint32_t value) {
  if (side)
    wksp__ent_set_hi(op, idx, WKSP_PART_TAG, value);
  else
    wksp__ent_set_lo(op, idx, WKSP_PART_TAG, value);
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

/* The first bin at or after bin that is not empty, BINS if all are. clear: the lock is held and no
   change is under way, so bits that lead nowhere may go. */
static uint32_t bin_after(wksp__pop_t *op, uint32_t bin, int clear) {
  uint32_t top = bin / WKSP_PART_BIN_SUBS;
  uint64_t tops = wksp__ld(&op->head->bin_top) & ((1UL << WKSP_PART_BIN_TOPS) - 1) & (~0UL << top);
  uint32_t mask = ~0U << bin % WKSP_PART_BIN_SUBS; /* in the first word */
  for (; tops; tops &= tops - 1) {
    uint32_t at = (uint32_t)__builtin_ctzl(tops), subs = wksp__ld(&op->head->bin_map[at]);
    for (uint32_t left = at == top ? subs & mask : subs; left; left &= left - 1) {
      uint32_t sub = (uint32_t)__builtin_ctz(left), found = at * WKSP_PART_BIN_SUBS + sub;
      if (wksp__likely(wksp__ld(&op->head->bins[found]))) return found;
      subs &= ~(1U << sub);
    }
    if (!clear) continue;
    wksp__st_kept(&op->head->bin_map[at], subs);
    if (!subs) wksp__st_kept(&op->head->bin_top, wksp__ld(&op->head->bin_top) & ~(1UL << at));
  }
  return WKSP_PART_BINS;
}

uint32_t wksp__size_min(wksp__pop_t *op, uint64_t size, int clear) {
  int open_bits;
  if (size > op->tx.wksp->data_max) return 0;
  uint32_t bin = wksp__bin_of(size, &open_bits), root = wksp__ld(&op->head->bins[bin]);
  if (root) {
    if (!open_bits) return root; /* all of its bin have this size */
    uint32_t best = bin_min(op, root, size, open_bits);
    if (best) return best;
  }
  /* Any of a later bin is large enough: the first of these that is not empty. */
  bin = bin_after(op, bin + 1, clear);
  return bin < WKSP_PART_BINS ? extreme(op, wksp__ld(&op->head->bins[bin]), 0) : 0;
}

uint32_t wksp__size_max(wksp__pop_t *op) {
  /* From the top down, so that a bit which leads nowhere costs a step. */
  uint64_t tops = wksp__ld(&op->head->bin_top) & ((1UL << WKSP_PART_BIN_TOPS) - 1);
  while (tops) {
    uint32_t top = 63 - (uint32_t)__builtin_clzl(tops), subs = wksp__ld(&op->head->bin_map[top]);
    while (subs) {
      uint32_t sub = 31 - (uint32_t)__builtin_clz(subs);
      uint32_t root = wksp__ld(&op->head->bins[top * WKSP_PART_BIN_SUBS + sub]);
      if (root) return extreme(op, root, 1);
      subs &= ~(1U << sub);
    }
    tops &= ~(1UL << top);
  }
  return 0;
}

/* The root of a bin. */
static void root_put(wksp__pop_t *op, uint32_t bin, uint32_t idx) {
  if (idx) wksp__bin_bits_set(op, bin);
  wksp__tx_set32(&op->tx, &op->head->bins[bin], idx);
}

void wksp__size_add_tree(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent, int fresh) {
  int open_bits;
  uint64_t size = wksp__ld(&ent->w[WKSP_PART_SIZE]) & WKSP_PART_RANGE_MASK;
  uint32_t bin = wksp__bin_of(size, &open_bits);
  uint32_t at = wksp__ld(&op->head->bins[bin]);
  wksp__member_note(op, ent, fresh);
  if (!at) {
    wksp__ring_alone(op, idx, ent);
    wksp__member_store(ent, 0, 0);
    root_put(op, bin, idx);
    return;
  }
  while (!op->bad) {
    if (wksp__ent_size(op, at) == size) {
      wksp__ring_add(op, at, idx, ent);
      wksp__member_store(ent, 0, WKSP_PART_OFF);
      return;
    }
    if (--open_bits < 0) {
      op->bad = 1; /* two sizes of one bin differ in an open bit */
      return;
    }
    uint32_t side = ((size / FD_WKSP_PART_GRAIN) >> open_bits) & 1;
    uint32_t next = child(op, at, side);
    if (!next) {
      wksp__ring_alone(op, idx, ent);
      wksp__member_store(ent, 0, at);
      child_put(op, at, side, idx);
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

void wksp__size_cut_tree(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent) {
  uint32_t up = wksp__ent_hi(op, idx, WKSP_PART_IDX);
  uint32_t stand_in = wksp__ent_hi(op, idx, WKSP_PART_LIST);
  if (stand_in != idx) {
    wksp__ring_cut(op, ent);
    if (up == WKSP_PART_OFF) return;
  } else {
    if (up == WKSP_PART_OFF) op->bad = 1; /* a ring of one is on the tree */
    stand_in = leaf_take(op, idx);
  }
  uint64_t children = wksp__ent_get(op, idx, WKSP_PART_TAG);
  if (stand_in) {
    wksp__ent_set(op, stand_in, WKSP_PART_TAG, children);
    wksp__ent_set_hi(op, stand_in, WKSP_PART_IDX, up);
    if (wksp__lo32(children)) wksp__ent_set_hi(op, wksp__lo32(children), WKSP_PART_IDX, stand_in);
    if (wksp__hi32(children)) wksp__ent_set_hi(op, wksp__hi32(children), WKSP_PART_IDX, stand_in);
  }
  if (up) {
    uint32_t side = child(op, up, 1) == idx;
    if (child(op, up, side) != idx) op->bad = 1;
    child_put(op, up, side, stand_in);
    return;
  }
  uint32_t bin = wksp__size_bin(wksp__ld(&ent->w[WKSP_PART_SIZE]));
  if (wksp__ld(&op->head->bins[bin]) != idx) op->bad = 1;
  root_put(op, bin, stand_in);
}
