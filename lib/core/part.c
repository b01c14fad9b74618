/* part: the partitions of the data region.

   Problem: memory of any size and alignment, for many processes, whose bookkeeping no kill may
   leave half-changed and whose cost must not grow with the number of partitions.

   Model. The data region is covered without gaps by partitions, used or free, each an entry of the
   table; entries are linked in the order of addresses, and no two free ones are neighbours. Three
   indexes (part_size.c, part_index.c) find them by size, tag and address. Table and indexes change
   together, in one change that is there whole or not at all (tx.h), so there is nothing to rebuild
   after a kill.

       sum of sizes = data_max              partitions + pool = entries ever used
       free     <=> in the size index       used     <=> in the tag index
       first of its page <=> in the page index

   The last one may be what lies beyond the present end, neither used nor free (part_resize.c).

   An alloc takes the smallest free partition that is large enough once aligned (best fit; of equal
   sizes the one freed last), from its lowest aligned address, and leaves what is before and behind
   as free partitions. With an alignment, a block of the right size may be misplaced: a few of the
   smallest are tried, then one that fits wherever it begins, and before giving up some thousand
   more.

   What it refuses: to look into damaged tables further than it can tell (E_CORRUPT, nothing
   changed), to search without bound, to know anything about what is in a partition. */

#include "core/part.h"

#include "core/fail.h"
#include "core/part_priv.h"
#include "core/part_ring.h"

#include <string.h>

/* Free partitions that are tried, smallest first, for one that is well aligned: before a larger one
   is split, and when none is large enough to be sure. The first is what keeps aligned allocs near
   best fit (bench/README.md: with 8 tries the traces take 2.5 % more room than it, with 128 one of
   nine more than 2 %, with 1,024 at most 1.1 %). */
#define PART_ALIGN_TRIES      1024U
#define PART_ALIGN_LAST_TRIES 4096U

/* Bits of bins that the short way looks at. */
#define PART_EASY_BITS 4U

static uint64_t up(uint64_t value, uint64_t align) {
  return (value + align - 1) & ~(align - 1);
}

void wksp__part_dims(uint64_t part_max, uint64_t data_max, wksp__part_dims_t *ret_dims) {
  wksp__part_dims_t dims = {.tag_lg = 63 - (uint32_t)__builtin_clzl(part_max)};
  uint64_t page_cnt = data_max >> WKSP_PART_PAGE_LG, words = page_cnt;
  dims.tag_off = WKSP_PART_HEAD_SZ + up((part_max + 1) * sizeof(wksp__ent_t), 64);
  dims.page_off = dims.tag_off + up(4UL << dims.tag_lg, 64);
  uint64_t at = dims.page_off + up(4 * page_cnt, 64);
  do {
    words = (words + 63) / 64;
    dims.bits_off[dims.levels++] = at;
    at += up(8 * words, 64);
  } while (words > 1);
  dims.size = up(at, 4096);
  *ret_dims = dims;
}

/* Entries -------------------------------------------------------------------------------------- */

WKSP__INLINE uint64_t size_of(wksp__ent_t const *ent) {
  return wksp__ld(&ent->w[WKSP_PART_SIZE]) & WKSP_PART_RANGE_MASK;
}

WKSP__INLINE uint64_t gaddr_of(wksp__ent_t const *ent) {
  return wksp__ld(&ent->w[WKSP_PART_ADDR]) & WKSP_PART_RANGE_MASK;
}

WKSP__INLINE int is_free(wksp__pop_t *op, uint32_t idx) {
  return idx && wksp__ent_get(op, idx, WKSP_PART_ADDR) % FD_WKSP_PART_GRAIN == WKSP_PART_FREE;
}

/* Alloc ---------------------------------------------------------------------------------------- */

/* Whether sz bytes so aligned fit into the free partition idx with the entries that are left for
   what remains on either side, and where. */
static int fits(wksp__pop_t *op, uint32_t idx, uint64_t align, uint64_t sz, uint64_t *ret_gaddr) {
  wksp__ent_t const *ent = wksp__ent(op, idx);
  uint64_t addr = wksp__ld(&ent->w[WKSP_PART_ADDR]), size = size_of(ent);
  uint64_t lo = addr & WKSP_PART_RANGE_MASK, at = up(lo, align);
  if (at < lo || at - lo > size || size - (at - lo) < sz) return 0;
  if (wksp__ent_left(op) < 2 && wksp__ent_left(op) < (uint32_t)(at != lo) + (at + sz != lo + size))
    return 0;
  if (addr != (lo | WKSP_PART_FREE) || lo < op->tx.wksp->data_lo || lo > op->tx.wksp->data_hi ||
      size > op->tx.wksp->data_hi - lo)
    op->bad = 1;
  *ret_gaddr = at;
  return 1;
}

/* Tries free partitions from the smallest of at least sz bytes on, so many; 0 if none fits. */
static uint32_t fit_among(wksp__pop_t *op, uint64_t align, uint64_t sz, uint32_t tries,
                          uint64_t *ret_gaddr) {
  uint64_t from = sz;
  while (!op->bad) {
    uint32_t tree = wksp__size_min(op, from, 1), idx = tree;
    if (!tree) return 0;
    do {
      idx = wksp__ent_hi(op, idx, WKSP_PART_LIST); /* the tree's member last: costlier to take */
      if (op->bad || !tries--) return 0;
      if (fits(op, idx, align, sz, ret_gaddr)) return idx;
    } while (idx != tree);
    from = wksp__ent_size(op, tree) + FD_WKSP_PART_GRAIN;
    if (from <= sz) op->bad = 1;
  }
  return 0;
}

/* The root of the first bin at or after bin whose bit is set, 0 if all are clear or too many of
   these bits lead nowhere: then the long way, which clears them. */
WKSP__INLINE uint32_t root_after(wksp__pop_t const *op, uint32_t bin) {
  uint32_t top = bin / WKSP_PART_BIN_SUBS, root = 0;
  uint32_t subs = wksp__ld(&op->head->bin_map[top]) & (~0U << bin % WKSP_PART_BIN_SUBS);
  uint64_t tops = wksp__ld(&op->head->bin_top) & (~1UL << top) & ((1UL << WKSP_PART_BIN_TOPS) - 1);
  for (uint32_t i = 0; i < PART_EASY_BITS && !root; i++) {
    if (!subs) {
      if (!tops) return 0;
      top = (uint32_t)__builtin_ctzl(tops);
      tops &= tops - 1;
      subs = wksp__ld(&op->head->bin_map[top]);
      if (!subs) continue;
    }
    root = wksp__ld(&op->head->bins[top * WKSP_PART_BIN_SUBS + (uint32_t)__builtin_ctz(subs)]);
    subs &= subs - 1;
  }
  return root;
}

/* What fit_among would find if it is easy: any address will do, and the first bin that is not empty
   has one size only. 0: ask fit_among. */
WKSP__INLINE uint32_t fit_easy(wksp__pop_t *op, uint64_t align, uint64_t sz, uint64_t *ret_gaddr) {
  if (align != FD_WKSP_PART_GRAIN || sz > op->tx.wksp->data_max) return 0;
  uint32_t root = root_after(op, wksp__size_bin(sz));
  if (!root) return 0;
  wksp__ent_t const *ent = wksp__ent_rw(op, root);
  if (wksp__ld(&ent->w[WKSP_PART_TAG])) return 0;
  uint32_t idx = wksp__hi32(wksp__ld(&ent->w[WKSP_PART_LIST])); /* as fit_among */
  ent = wksp__ent_rw(op, idx);
  uint64_t size = wksp__ld(&ent->w[WKSP_PART_SIZE]), addr = wksp__ld(&ent->w[WKSP_PART_ADDR]);
  uint64_t lo = addr & WKSP_PART_RANGE_MASK;
  if (size < sz || (size != sz && !wksp__ent_left(op))) return 0;
  if (addr != (lo | WKSP_PART_FREE) || lo < op->tx.wksp->data_lo || lo > op->tx.wksp->data_hi ||
      size > op->tx.wksp->data_hi - lo || size % FD_WKSP_PART_GRAIN)
    op->bad = 1;
  *ret_gaddr = lo;
  return idx;
}

static uint32_t fit(wksp__pop_t *op, uint64_t align, uint64_t sz, uint64_t *ret_gaddr) {
  uint32_t idx = fit_among(op, align, sz, PART_ALIGN_TRIES, ret_gaddr);
  if (idx || op->bad || align == FD_WKSP_PART_GRAIN) return idx;
  uint64_t sure;
  if (!__builtin_add_overflow(sz, align - FD_WKSP_PART_GRAIN, &sure)) {
    idx = wksp__size_min(op, sure, 1);
    if (idx && fits(op, idx, align, sz, ret_gaddr)) return idx;
  }
  return fit_among(op, align, sz, PART_ALIGN_LAST_TRIES, ret_gaddr);
}

/* What is to be allocated. */
typedef struct part_want {
  uint64_t at, sz, tag;
  uint32_t kind;
} part_want_t;

/* Fills a fresh entry with it, between two others. */
WKSP__INLINE void used_fill(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent,
                            part_want_t const *want, uint32_t before, uint32_t after) {
  wksp__st_kept(&ent->w[WKSP_PART_SIZE], wksp__ent_size_word(want->sz, want->kind));
  wksp__st_kept(&ent->w[WKSP_PART_NBR], wksp__pair(before, after));
  wksp__tag_add(op, idx, ent, want->tag, 1);
}

/* The whole of the free partition idx becomes a used one. */
WKSP__INLINE void take_whole(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent,
                             part_want_t const *want) {
  wksp__size_cut(op, idx, ent);
  if (wksp__unlikely(want->kind >> 8)) /* an owner, some of which rides on the size */
    wksp__tx_set64(&op->tx, &ent->w[WKSP_PART_SIZE], wksp__ent_size_word(want->sz, want->kind));
  wksp__tx_set64(&op->tx, &ent->w[WKSP_PART_ADDR], wksp__ent_addr_word(want->at, want->kind));
  wksp__tag_add(op, idx, ent, want->tag, 0);
  wksp__part_count(op, 0, -1U, -want->sz);
}

/* Its front does; it stays the free one, behind. */
WKSP__INLINE void take_front(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent,
                             part_want_t const *want) {
  uint64_t end = want->at + want->sz, before_nbr = 0;
  wksp__ent_t *used_ent, *before_ent = NULL;
  uint32_t used = wksp__ent_take(op, wksp__ent_addr_word(want->at, want->kind), &used_ent);
  if (!used) return;
  uint64_t nbr = wksp__tx_note(&op->tx, &ent->w[WKSP_PART_NBR]);
  wksp__tx_note(&op->tx, &ent->w[WKSP_PART_ADDR]);
  uint32_t before = wksp__lo32(nbr);
  if (before) {
    before_ent = wksp__ent_rw(op, before);
    before_nbr = wksp__tx_note(&op->tx, &before_ent->w[WKSP_PART_NBR]);
  }
  wksp__tx_arm(&op->tx);
  wksp__st_kept(&ent->w[WKSP_PART_NBR], wksp__with_lo(nbr, used));
  wksp__st_kept(&ent->w[WKSP_PART_ADDR], end | WKSP_PART_FREE);
  if (before) wksp__st_kept(&before_ent->w[WKSP_PART_NBR], wksp__with_hi(before_nbr, used));
  used_fill(op, used, used_ent, want, before, idx);
  wksp__addr_swap(op, want->at, idx, used);
  wksp__addr_begin(op, end, want->at, idx);
  wksp__size_change(op, idx, ent, size_of(ent) - want->sz);
  wksp__part_count(op, 1, 0, -want->sz);
}

/* A part of it that does not begin where it begins does. */
WKSP__INLINE void take_behind(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent,
                              part_want_t const *want) {
  uint64_t lo = gaddr_of(ent), hi = lo + size_of(ent), end = want->at + want->sz;
  uint32_t after = wksp__hi32(wksp__ld(&ent->w[WKSP_PART_NBR])), rest = 0;
  wksp__ent_t *used_ent, *rest_ent = NULL;
  uint32_t used = wksp__ent_take(op, wksp__ent_addr_word(want->at, want->kind), &used_ent);
  if (used && end != hi) rest = wksp__ent_take(op, end | WKSP_PART_FREE, &rest_ent);
  if (!used || (end != hi && !rest)) return;
  wksp__size_change(op, idx, ent, want->at - lo);
  if (rest) {
    wksp__st_kept(&rest_ent->w[WKSP_PART_SIZE], hi - end);
    wksp__st_kept(&rest_ent->w[WKSP_PART_NBR], wksp__pair(used, after));
    wksp__size_add(op, rest, rest_ent, 1);
    wksp__addr_begin(op, end, want->at, rest);
  }
  used_fill(op, used, used_ent, want, idx, rest ? rest : after);
  wksp__addr_begin(op, want->at, lo, used);
  wksp__ent_set_hi(op, idx, WKSP_PART_NBR, used);
  if (after) wksp__ent_set_lo(op, after, WKSP_PART_NBR, rest ? rest : used);
  wksp__part_count(op, rest ? 2 : 1, rest ? 1 : 0, -want->sz);
}

/* Makes that part of the free partition idx, into which it fits, a used one. */
WKSP__INLINE void take(wksp__pop_t *op, uint32_t idx, part_want_t const *want) {
  wksp__ent_t *ent = wksp__ent_rw(op, idx);
  if (wksp__unlikely(op->bad)) return;
  if (want->at != gaddr_of(ent))
    take_behind(op, idx, ent, want);
  else if (want->sz == size_of(ent))
    take_whole(op, idx, ent, want);
  else
    take_front(op, idx, ent, want);
}

/* What has to happen together with the change, on a copy of it (WKSP__APART). */
static void ride_along(wksp__pop_t *op, wksp__part_also_t also, void *arg, uint64_t gaddr,
                       uint64_t size) {
  if (also(arg, &op->tx, gaddr, size)) op->bad = 1;
}

/* Why there was no room, from figures taken under the lock. */
typedef struct part_room {
  uint64_t free_sz, free_max, beyond_sz;
  uint32_t free_cnt, left;
} part_room_t;

static int report_nomem(fd_wksp_t const *wksp, uint64_t align, uint64_t sz,
                        part_room_t const *room) {
  if (room->left < 2 && room->free_max >= sz)
    return wksp__fail(WKSP_E_NOMEM,
                      "workspace %s: no partition for %lu bytes: %lu of part_max %lu are in use; "
                      "free some, or create it with a larger part_max",
                      wksp->name, sz, wksp->part_max - room->left, wksp->part_max);
  return wksp__fail(WKSP_E_NOMEM,
                    "workspace %s: no room for %lu bytes aligned to %lu: %lu bytes are free in %u "
                    "pieces, the largest has %lu; free some, or %s",
                    wksp->name, sz, align, room->free_sz, room->free_cnt, room->free_max,
                    room->beyond_sz ? "resize it, which is not at its max-size yet"
                                    : "create it larger");
}

static void room_of(fd_wksp_t const *wksp, part_room_t *ret_room) {
  wksp__pop_t look, *op = &look;
  wksp__pop_begin(op, wksp);
  uint32_t largest = wksp__size_max(op);
  ret_room->free_max = largest ? wksp__ent_size(op, largest) : 0;
  ret_room->free_sz = wksp__ld(&op->head->free_sz);
  ret_room->free_cnt = wksp__hi32(wksp__ld(&op->head->cnt));
  ret_room->left = wksp__ent_left(op);
  ret_room->beyond_sz = wksp__ent_size(op, wksp__part_beyond(op));
}

int wksp__part_alloc(wksp__call_t *call, uint64_t timeout_ns, uint64_t align, uint64_t sz,
                     uint64_t tag, uint32_t kind, wksp__part_also_t also, void *arg,
                     uint64_t *ret_gaddr, uint64_t *ret_size) {
  fd_wksp_t *wksp = call->wksp;
  part_want_t want = {.sz = up(sz, FD_WKSP_PART_GRAIN), .tag = tag, .kind = kind};
  part_room_t room = {0};
  int rc = wksp__lock_enter(call, timeout_ns);
  if (rc) return rc;

  wksp__pop_t look, op;
  wksp__pop_begin(&op, wksp);
  look.bad = 0;
  /* want.sz < sz: the rounding overflowed */
  uint32_t idx = want.sz < sz ? 0 : fit_easy(&op, align, want.sz, &want.at);
  if (!idx && want.sz >= sz) {
    wksp__pop_begin(&look, wksp);
    uint64_t at = 0;
    idx = fit(&look, align, want.sz, &at);
    want.at = at;
  }
  if (idx && !look.bad && !op.bad) {
    wksp__pop_change(&op);
    take(&op, idx, &want);
    if (also && !op.bad) WKSP__APART(ride_along, &op, also, arg, want.at, want.sz);
    wksp__pop_end(&op);
  }
  rc = look.bad || op.bad ? WKSP_E_CORRUPT : idx ? 0 : WKSP_E_NOMEM;
  if (rc == WKSP_E_NOMEM) room_of(wksp, &room);
  wksp__lock_leave(call);

  if (rc == WKSP_E_CORRUPT) return wksp__part_corrupt(wksp);
  if (rc) return report_nomem(wksp, align, sz, &room);
  *ret_gaddr = want.at;
  *ret_size = want.sz;
  return 0;
}

/* Free ----------------------------------------------------------------------------------------- */

/* The free partition before idx takes it over, and the free one behind it if there is one. */
WKSP__INLINE void give_before(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent, int after_free) {
  uint64_t nbr = wksp__ld(&ent->w[WKSP_PART_NBR]), lo = gaddr_of(ent), size = size_of(ent);
  uint32_t before = wksp__lo32(nbr), after = wksp__hi32(nbr), next = after;
  wksp__ent_t *before_ent = wksp__ent_rw(op, before), *after_ent = NULL;
  uint64_t more = 0;
  if (after_free) {
    after_ent = wksp__ent_rw(op, after);
    if (op->bad) return;
    more = size_of(after_ent);
    next = wksp__hi32(wksp__ld(&after_ent->w[WKSP_PART_NBR]));
    wksp__size_cut(op, after, after_ent);
    wksp__addr_end(op, lo + size, lo, next);
  }
  wksp__addr_end(op, lo, gaddr_of(before_ent), next);
  wksp__size_change(op, before, before_ent, size_of(before_ent) + size + more);
  wksp__ent_set_hi(op, before, WKSP_PART_NBR, next);
  if (next) wksp__ent_set_lo(op, next, WKSP_PART_NBR, before);
  wksp__tx_note(&op->tx, &ent->w[WKSP_PART_ADDR]);
  if (after_free) wksp__tx_note(&op->tx, &after_ent->w[WKSP_PART_ADDR]);
  wksp__tx_arm(&op->tx);
  if (after_free) wksp__ent_give(op, after, after_ent);
  wksp__ent_give(op, idx, ent);
  wksp__part_count(op, after_free ? -2U : -1U, after_free ? -1U : 0, size);
}

/* The free partition behind idx does. */
WKSP__INLINE void give_after(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent) {
  uint64_t nbr = wksp__ld(&ent->w[WKSP_PART_NBR]), before_nbr = 0;
  uint64_t lo = gaddr_of(ent), size = size_of(ent);
  uint32_t before = wksp__lo32(nbr), after = wksp__hi32(nbr);
  wksp__ent_t *after_ent = wksp__ent_rw(op, after), *before_ent = NULL;
  if (op->bad) return;
  wksp__tx_note(&op->tx, &ent->w[WKSP_PART_ADDR]);
  wksp__tx_note(&op->tx, &after_ent->w[WKSP_PART_ADDR]);
  uint64_t after_nbr = wksp__tx_note(&op->tx, &after_ent->w[WKSP_PART_NBR]);
  if (before) {
    before_ent = wksp__ent_rw(op, before);
    before_nbr = wksp__tx_note(&op->tx, &before_ent->w[WKSP_PART_NBR]);
  }
  wksp__tx_arm(&op->tx);
  wksp__ent_give(op, idx, ent);
  wksp__st_kept(&after_ent->w[WKSP_PART_ADDR], lo | WKSP_PART_FREE);
  wksp__st_kept(&after_ent->w[WKSP_PART_NBR], wksp__with_lo(after_nbr, before));
  if (before) wksp__st_kept(&before_ent->w[WKSP_PART_NBR], wksp__with_hi(before_nbr, after));
  wksp__addr_swap(op, lo, idx, after);
  wksp__addr_end(op, lo + size, lo, wksp__hi32(after_nbr));
  wksp__size_change(op, after, after_ent, size_of(after_ent) + size);
  wksp__part_count(op, -1U, 0, size);
}

/* Both neighbours are used. */
WKSP__INLINE void give_alone(wksp__pop_t *op, uint32_t idx, wksp__ent_t *ent) {
  uint64_t size = size_of(ent);
  if (wksp__unlikely(wksp__ld(&ent->w[WKSP_PART_SIZE]) != size)) /* its owner goes */
    wksp__tx_set64(&op->tx, &ent->w[WKSP_PART_SIZE], size);
  wksp__tx_set64(&op->tx, &ent->w[WKSP_PART_ADDR], gaddr_of(ent) | WKSP_PART_FREE);
  wksp__size_add(op, idx, ent, 0);
  wksp__part_count(op, 0, 1, size);
}

/* Makes the used partition idx a free one, and one with its free neighbours. */
WKSP__INLINE void give(wksp__pop_t *op, uint32_t idx) {
  wksp__ent_t *ent = wksp__ent_rw(op, idx);
  uint64_t nbr = wksp__ld(&ent->w[WKSP_PART_NBR]);
  int after_free = is_free(op, wksp__hi32(nbr));
  if (wksp__unlikely(op->bad)) return;
  wksp__tag_cut(op, idx, ent);
  if (is_free(op, wksp__lo32(nbr)))
    give_before(op, idx, ent, after_free);
  else if (after_free)
    give_after(op, idx, ent);
  else
    give_alone(op, idx, ent);
}

/* Frees it if it is as described. 1; 0 and what *ret_is there instead; E_CORRUPT, not reported. */
static int free_in(wksp__call_t *call, uint64_t gaddr, uint32_t kind, uint64_t tag,
                   wksp__part_also_t also, void *arg, fd_wksp_part_t *ret_is) {
  wksp__pop_t look, op;
  wksp__pop_begin(&look, call->wksp);
  uint32_t idx = wksp__addr_at(&look, gaddr);
  fd_wksp_part_t is;
  wksp__pop_begin(&op, call->wksp);
  op.bad = look.bad;
  wksp__part_of(&op, idx, &is);
  *ret_is = is;
  int found = is.kind == kind && (!tag || tag == is.tag);
  if (wksp__likely(found && !op.bad)) {
    wksp__pop_change(&op);
    give(&op, idx);
    if (also && !op.bad) WKSP__APART(ride_along, &op, also, arg, is.gaddr, is.size);
    wksp__pop_end(&op);
  }
  return op.bad ? WKSP_E_CORRUPT : found;
}

int wksp__part_free_locked(wksp__call_t *call, uint64_t gaddr, uint32_t kind, uint64_t tag,
                           wksp__part_also_t also, void *arg) {
  fd_wksp_part_t is;
  if (!wksp__part_in_data(call->wksp, gaddr)) return 0;
  int found = free_in(call, gaddr, kind, tag, also, arg, &is);
  return found < 0 ? wksp__part_corrupt(call->wksp) : found;
}

int wksp__part_drop(fd_wksp_t *wksp, uint64_t gaddr) {
  wksp__vol_t notes; /* which nobody reads */
  wksp__pop_t op;
  fd_wksp_part_t is;
  if (!wksp__part_in_data(wksp, gaddr)) return 0;
  wksp__pop_begin(&op, wksp);
  uint32_t idx = wksp__addr_at(&op, gaddr);
  wksp__part_of(&op, idx, &is);
  if (!op.bad && !wksp__part_used(is.kind)) return 0;
  op.page[0] = op.page[1] = ~0UL;
  op.tx.vol = &notes;
  op.tx.at = notes.undo;
  op.tx.rec = 0;
  if (!op.bad) give(&op, idx);
  if (op.bad) return wksp__part_corrupt(wksp);
  for (uint32_t i = 0; i < 2; i++)
    if (op.page[i] != ~0UL) wksp__page_clear(op.head, wksp, op.page[i]);
  return 1;
}

int wksp__part_free(wksp__call_t *call, uint64_t timeout_ns, uint64_t gaddr, uint32_t kind,
                    uint64_t tag, wksp__part_also_t also, void *arg) {
  fd_wksp_t *wksp = call->wksp;
  if (!wksp__part_in_data(wksp, gaddr))
    return wksp__fail(WKSP_E_NOTFOUND,
                      "workspace %s: gaddr 0x%lx is outside the data region [0x%lx, 0x%lx)",
                      wksp->name, gaddr, wksp->data_lo, wksp->data_hi);
  int rc = wksp__lock_enter(call, timeout_ns);
  if (rc) return rc;

  fd_wksp_part_t is;
  int found = free_in(call, gaddr, kind, tag, also, arg, &is);
  wksp__lock_leave(call);

  if (found < 0) return wksp__part_corrupt(wksp);
  if (found) return 0;
  if (!wksp__part_used(is.kind))
    return wksp__fail(WKSP_E_NOTFOUND, "workspace %s: gaddr 0x%lx is not allocated", wksp->name,
                      gaddr);
  return wksp__fail(WKSP_E_NOTFOUND,
                    "workspace %s: gaddr 0x%lx is in a partition of kind %u and tag %lu, which %s",
                    wksp->name, gaddr, is.kind, is.tag,
                    kind == FD_WKSP_KIND_USER ? "belongs to an fd_alloc: free it there"
                                              : "is not what was to be freed");
}

/* New ------------------------------------------------------------------------------------------ */

void wksp__part_new(fd_wksp_t *wksp, uint64_t data_sz) {
  wksp__pop_t op;
  wksp__pop_begin(&op, wksp);
  /* The memory is zero and nobody else's: nothing to note. */
  wksp__ent_t *ent = wksp__pop_ent(&op);
  uint32_t beyond = data_sz < wksp->data_max ? 2 : 0;
  op.head->pool = (beyond ? 2UL : 1UL) << 32;
  op.head->cnt = (beyond ? 2UL : 1UL) | 1UL << 32;
  op.head->free_sz = data_sz;
  ent[1].w[WKSP_PART_ADDR] = wksp->data_lo | WKSP_PART_FREE;
  ent[1].w[WKSP_PART_SIZE] = data_sz;
  ent[1].w[WKSP_PART_NBR] = (uint64_t)beyond << 32;
  ent[1].w[WKSP_PART_LIST] = 1 | 1UL << 32;
  uint32_t bin = wksp__size_bin(data_sz), top = bin / WKSP_PART_BIN_SUBS;
  op.head->bin_top = 1UL << top;
  op.head->bin_map[top] = 1U << bin % WKSP_PART_BIN_SUBS;
  op.head->bins[bin] = 1;
  wksp__pop_pages(&op)[0] = 1;
  for (uint32_t i = 0; i < wksp->part.levels; i++) wksp__part_bits(&op, i)[0] = 1;
  if (!beyond) return;
  uint64_t page = data_sz >> WKSP_PART_PAGE_LG;
  ent[2].w[WKSP_PART_ADDR] = (wksp->data_lo + data_sz) | WKSP_PART_BEYOND;
  ent[2].w[WKSP_PART_SIZE] = wksp->data_max - data_sz;
  ent[2].w[WKSP_PART_NBR] = 1;
  wksp__pop_pages(&op)[page] = 2;
  wksp__page_bits_set(op.head, wksp, page);
}
