/* part_priv: what part.c, part_index.c and part_check.c share: the words of the partition region,
   and an operation in the making.

   The region (wksp->part_off), each part at a multiple of 64 bytes; wksp__part_dims_t says where:

     head            one, WKSP_PART_HEAD_SZ bytes: counters, the pool, the roots of the size tries
     entries         part_max + 1 of 48 bytes; number 0 is null and stays zero
     tag buckets     2^tag_lg words of 4 bytes, at most part_max: hash of tag -> one partition of
   each page firsts     4 bytes for each page of data: the first partition that starts in it, 0 none
     page bits       one bit for each page whose first is not 0, and 64-ary summaries up to one word

   That is 50 to 52 bytes for each partition that there can be, and 33 for each 32 KiB of data.
   Empty parts are zero, so formatting writes a few words only. */

#ifndef WKSP_CORE_PART_PRIV_H
#define WKSP_CORE_PART_PRIV_H

#include "core/atomic.h"
#include "core/enter.h"
#include "core/part.h"
#include "core/tx.h"

#include <stddef.h>

/* Pages in which partitions are looked up, as a power of two; nothing to do with the machine's. */
#define WKSP_PART_PAGE_LG 12

/* Starts of partitions in one page. */
#define WKSP_PART_PAGE_STARTS ((1UL << WKSP_PART_PAGE_LG) / FD_WKSP_PART_GRAIN)

/* Kinds of entries besides FD_WKSP_KIND_*: 0 is an entry that is not in use. */
#define WKSP_PART_FREE   8U
#define WKSP_PART_BEYOND 9U /* beyond the present end; one, the last: part_resize.c */

/* What may ride on the words addr and size: see there. The kind of a partition, as part.h has it,
 * is the kind proper in its low 8 bits (of which 6 are kept) and an owner id in the upper 24. */
#define WKSP_PART_RANGE_MASK ((1UL << 47) - FD_WKSP_PART_GRAIN)
#define WKSP_PART_OWNER_BIT  47

/* Entry numbers: null, and "not on the tree, not in the chain" in WKSP_PART_IDX's up half. */
#define WKSP_PART_NULL 0U
#define WKSP_PART_OFF  0xffffffffU

/* Size bins: sizes in grains below 32 each have their own; from there 32 to each power of two. */
#define WKSP_PART_BIN_SUBS 32U
#define WKSP_PART_BIN_TOPS 37U
#define WKSP_PART_BINS     (WKSP_PART_BIN_SUBS * WKSP_PART_BIN_TOPS)

/* Steps down a trie: one for each bit of a size in grains that its bin does not fix, and one. */
#define WKSP_PART_DEPTH_MAX 37U

/* The words of an entry. Halves are (low 32 bits, high 32 bits).

   addr   gaddr in bits 6 to 46, the kind below, the low 17 bits of the owner id above
   size   bytes in bits 6 to 46, the high 7 bits of the owner id above
   tag    used: the tag. free: (child 0, child 1) in the size trie. beyond: 0
   nbr    (the partition before it, the one after it) in the order of addresses
   list   (previous, next) in a ring: used: of the same tag. free: of the same size. beyond: -
   idx    (next, up). next: in the pool the entry after it; means nothing elsewhere.
          up: used: the next tag's representative in the same tag bucket; free: the parent in the
          size trie, null at the root; in both cases OFF if the ring's other member stands there

   An entry that is not in use has kind 0; of its other words only idx's next means something, and
   that only in the pool. So a fresh entry's words need no record while nothing leads to it. */
enum {
  WKSP_PART_ADDR,
  WKSP_PART_SIZE,
  WKSP_PART_TAG,
  WKSP_PART_NBR,
  WKSP_PART_LIST,
  WKSP_PART_IDX
};

typedef struct wksp__ent {
  uint64_t w[6];
} wksp__ent_t;

_Static_assert(sizeof(wksp__ent_t) == 48, "with its buckets at most 56 bytes");

/* The bits of bins and pages are hints: where something is, they are set, and so is every summary
   above; where nothing is they may be set, too, after a kill. So they need no note: they are set
   from the top down before what they lead to, and cleared from below once the change is decided;
   who meets one that leads nowhere goes on. Bins are few; of pages there are so many that such bits
   must not become more with each kill: what a page's bit leads to is noted before the bit is set,
   and whoever takes over clears the bits of noted pages that are empty. */
typedef struct wksp__part_head {
  uint64_t pool;    /* (first entry of the pool, entries ever used: those above have kind 0) */
  uint64_t cnt;     /* (partitions, free ones among them) */
  uint64_t free_sz; /* bytes in free ones */
  uint64_t bin_top; /* bit t: bin_map[t] != 0 */
  uint64_t pad[4];
  uint32_t bin_map[40];          /* bit s of word t: bins[32 t + s] != 0 */
  uint32_t bins[WKSP_PART_BINS]; /* roots of the size tries */
} wksp__part_head_t;

#define WKSP_PART_HEAD_SZ 8192UL
_Static_assert(sizeof(wksp__part_head_t) <= WKSP_PART_HEAD_SZ, "the head is two pages");

/* Words that the largest change notes, counted with repetitions, since each store notes its own: a
   free that merges with both neighbours. Tag index 4; size index: taking one out 7 (parent or root,
   a stand-in's two words and its old parent's, two children, a ring's neighbour), and one that
   moves 11; two pages' firsts 2; entries, neighbours and the pool 6. A sum of 30; an alloc that
   leaves a rest on either side has less. */
#define WKSP_PART_TX_MAX 40

_Static_assert(offsetof(wksp__part_head_t, bin_top) == 8 * WKSP_REC_HEAD, "noted together");
_Static_assert(WKSP_PART_TX_MAX <= WKSP_UNDO_MAX, "the largest change fits");
_Static_assert(WKSP_PART_ALSO_MAX <= WKSP_REDO_MAX, "and what rides along");

/* An operation in the making, or a look. bad: something that was read is impossible; from then on
   results mean nothing, and the operation must be dropped. Numbers of entries that are out of range
   are read as entry 0, so code need not test at every step; stores to entry 0 are taken back with
   the rest.

   The compiler can keep this in registers only as long as its address has not gone to another
   function, since from then on each store to shared memory might change it. So the common cases are
   inline, and the others work on a copy (WKSP__APART). */
typedef struct wksp__pop {
  wksp__part_head_t *head;
  uint32_t part_max;
  int bad;
  uint64_t
      page[2]; /* pages that this change has emptied: their bits go when it is decided; ~0: none */
  wksp__tx_t tx;
} wksp__pop_t;

/* Calls func(op, ...) on a copy. */
#define WKSP__APART(func, op, ...) \
  do {                             \
    wksp__pop_t apart_ = *(op);    \
    func(&apart_, __VA_ARGS__);    \
    *(op) = apart_;                \
  } while (0)

/* To look, or, after wksp__pop_change, to change. */
WKSP__INLINE void wksp__pop_begin(wksp__pop_t *op, fd_wksp_t const *wksp) {
  op->head = (wksp__part_head_t *)((uintptr_t)wksp + wksp->part_off);
  op->part_max = (uint32_t)wksp->part_max;
  op->bad = 0;
  op->tx.wksp = (fd_wksp_t *)(uintptr_t)wksp;
}

/* The lock is held. */
WKSP__INLINE void wksp__pop_change(wksp__pop_t *op) {
  op->page[0] = op->page[1] = ~0UL;
  wksp__tx_begin_set(&op->tx, op->tx.wksp);
}

WKSP__INLINE fd_wksp_t *wksp__pop_wksp(wksp__pop_t const *op) {
  return op->tx.wksp;
}

/* The parts of the region. */
WKSP__INLINE wksp__ent_t *wksp__pop_ent(wksp__pop_t const *op) {
  return (wksp__ent_t *)((uintptr_t)op->head + WKSP_PART_HEAD_SZ);
}

WKSP__INLINE uint32_t *wksp__pop_tags(wksp__pop_t const *op) {
  return (uint32_t *)((uintptr_t)op->head + op->tx.wksp->part.tag_off);
}

WKSP__INLINE uint32_t *wksp__pop_pages(wksp__pop_t const *op) {
  return (uint32_t *)((uintptr_t)op->head + op->tx.wksp->part.page_off);
}

/* Clears the bits of pages that are empty. */
void wksp__page_clear(wksp__part_head_t *head, fd_wksp_t const *wksp, uint64_t page);

/* Decides the change, or takes it back if something impossible was met. */
WKSP__INLINE void wksp__pop_end(wksp__pop_t *op) {
  if (wksp__unlikely(op->bad)) {
    wksp__tx_t tx = op->tx;
    wksp__tx_drop(&tx);
    return;
  }
  wksp__tx_decide(&op->tx);
  if (wksp__unlikely(op->page[0] != ~0UL)) wksp__page_clear(op->head, op->tx.wksp, op->page[0]);
  if (wksp__unlikely(op->page[1] != ~0UL)) wksp__page_clear(op->head, op->tx.wksp, op->page[1]);
  wksp__tx_end(&op->tx);
}

/* Page bits, level 0 the finest. */
WKSP__INLINE uint64_t *wksp__part_bits(wksp__pop_t const *op, uint32_t level) {
  return (uint64_t *)((uintptr_t)op->head + op->tx.wksp->part.bits_off[level]);
}

WKSP__INLINE uint32_t wksp__lo32(uint64_t word) {
  return (uint32_t)word;
}

WKSP__INLINE uint32_t wksp__hi32(uint64_t word) {
  return (uint32_t)(word >> 32);
}

/* Entry idx to read. */
WKSP__INLINE wksp__ent_t *wksp__ent(wksp__pop_t *op, uint32_t idx) {
  if (wksp__unlikely(idx > op->part_max)) {
    op->bad = 1;
    idx = 0;
  }
  return &wksp__pop_ent(op)[idx];
}

/* Entry idx to change: not null. */
WKSP__INLINE wksp__ent_t *wksp__ent_rw(wksp__pop_t *op, uint32_t idx) {
  if (wksp__unlikely(idx - 1 >= op->part_max)) {
    op->bad = 1;
    idx = 0;
  }
  return &wksp__pop_ent(op)[idx];
}

WKSP__INLINE uint64_t wksp__ent_get(wksp__pop_t *op, uint32_t idx, uint32_t w) {
  return wksp__ld(&wksp__ent(op, idx)->w[w]);
}

WKSP__INLINE uint32_t wksp__ent_lo(wksp__pop_t *op, uint32_t idx, uint32_t w) {
  return wksp__lo32(wksp__ent_get(op, idx, w));
}

WKSP__INLINE uint32_t wksp__ent_hi(wksp__pop_t *op, uint32_t idx, uint32_t w) {
  return wksp__hi32(wksp__ent_get(op, idx, w));
}

WKSP__INLINE void wksp__ent_set(wksp__pop_t *op, uint32_t idx, uint32_t w, uint64_t value) {
  wksp__tx_set64(&op->tx, &wksp__ent_rw(op, idx)->w[w], value);
}

/* One half of a word. */
WKSP__INLINE void wksp__ent_set_lo(wksp__pop_t *op, uint32_t idx, uint32_t w, uint32_t value) {
  uint64_t *word = &wksp__ent_rw(op, idx)->w[w];
  wksp__tx_set64(&op->tx, word, (wksp__ld(word) & ~0xffffffffUL) | value);
}

WKSP__INLINE void wksp__ent_set_hi(wksp__pop_t *op, uint32_t idx, uint32_t w, uint32_t value) {
  uint64_t *word = &wksp__ent_rw(op, idx)->w[w];
  wksp__tx_set64(&op->tx, word, (wksp__ld(word) & 0xffffffffUL) | (uint64_t)value << 32);
}

WKSP__INLINE uint64_t wksp__ent_gaddr(wksp__pop_t *op, uint32_t idx) {
  return wksp__ent_get(op, idx, WKSP_PART_ADDR) & WKSP_PART_RANGE_MASK;
}

WKSP__INLINE uint64_t wksp__ent_size(wksp__pop_t *op, uint32_t idx) {
  return wksp__ent_get(op, idx, WKSP_PART_SIZE) & WKSP_PART_RANGE_MASK;
}

/* Kind and owner together, from the words addr and size; 0: not in use. */
WKSP__INLINE uint32_t wksp__kind_of(uint64_t addr, uint64_t size) {
  if (!(addr % FD_WKSP_PART_GRAIN)) return 0;
  uint64_t owner = addr >> WKSP_PART_OWNER_BIT | size >> WKSP_PART_OWNER_BIT << 17;
  return (uint32_t)(addr % FD_WKSP_PART_GRAIN) | (uint32_t)(owner << 8);
}

WKSP__INLINE uint32_t wksp__ent_kind(wksp__pop_t *op, uint32_t idx) {
  wksp__ent_t const *ent = wksp__ent(op, idx);
  return wksp__kind_of(wksp__ld(&ent->w[WKSP_PART_ADDR]), wksp__ld(&ent->w[WKSP_PART_SIZE]));
}

/* The words addr and size. kind: with the owner. */
WKSP__INLINE uint64_t wksp__ent_addr_word(uint64_t gaddr, uint32_t kind) {
  uint64_t owner = kind >> 8;
  return gaddr | kind % FD_WKSP_PART_GRAIN | owner << WKSP_PART_OWNER_BIT;
}

WKSP__INLINE uint64_t wksp__ent_size_word(uint64_t size, uint32_t kind) {
  uint64_t owner = kind >> 8;
  return size | owner >> 17 << WKSP_PART_OWNER_BIT;
}

WKSP__INLINE uint64_t wksp__page_of(wksp__pop_t const *op, uint64_t gaddr) {
  return (gaddr - op->tx.wksp->data_lo) >> WKSP_PART_PAGE_LG;
}

WKSP__INLINE uint64_t wksp__ent_page(wksp__pop_t *op, uint32_t idx) {
  return wksp__page_of(op, wksp__ent_gaddr(op, idx));
}

WKSP__INLINE uint64_t wksp__page_cnt(wksp__pop_t const *op) {
  return op->tx.wksp->data_max >> WKSP_PART_PAGE_LG;
}

/* The bucket of a tag. */
WKSP__INLINE uint32_t wksp__tag_bucket(wksp__pop_t const *op, uint64_t tag) {
  return (uint32_t)(((tag ^ tag >> 32) * 0x9e3779b97f4a7c15UL) >> (64 - op->tx.wksp->part.tag_lg));
}

WKSP__INLINE int wksp__part_in_data(fd_wksp_t const *wksp, uint64_t gaddr) {
  return gaddr >= wksp->data_lo && gaddr < wksp->data_hi;
}

/* Whether a partition of this kind is somebody's. */
WKSP__INLINE int wksp__part_used(uint32_t kind) {
  return kind != WKSP_PART_FREE && kind != WKSP_PART_BEYOND;
}

/* What a partition's entry says; bad if that is impossible. */
WKSP__INLINE void wksp__part_of(wksp__pop_t *op, uint32_t idx, fd_wksp_part_t *ret_part) {
  wksp__ent_t const *ent = wksp__ent(op, idx);
  uint64_t addr = wksp__ld(&ent->w[WKSP_PART_ADDR]), size = wksp__ld(&ent->w[WKSP_PART_SIZE]);
  ret_part->gaddr = addr & WKSP_PART_RANGE_MASK;
  ret_part->size = size & WKSP_PART_RANGE_MASK;
  ret_part->tag = wksp__ld(&ent->w[WKSP_PART_TAG]);
  ret_part->kind = wksp__kind_of(addr, size);
  if (!ret_part->size || ret_part->gaddr < op->tx.wksp->data_lo ||
      ret_part->gaddr > op->tx.wksp->data_hi ||
      ret_part->size > op->tx.wksp->data_hi - ret_part->gaddr)
    op->bad = 1;
}

/* Reports E_CORRUPT and returns it. */
int wksp__part_corrupt(fd_wksp_t const *wksp);

/* Looks; what changes the indexes is in part_ring.h. */

/* Free partitions by size. min: the tree member with the smallest size >= size, null if none; its
   ring has all of that size. clear: the lock is held and no change is under way. max: one of the
   largest size. */
uint32_t wksp__size_min(wksp__pop_t *op, uint64_t size, int clear);
uint32_t wksp__size_max(wksp__pop_t *op);

/* A member of the tag's ring, null if it has none. */
uint32_t wksp__tag_first(wksp__pop_t *op, uint64_t tag);

/* The partition of kind BEYOND, null if there is none. */
uint32_t wksp__part_beyond(wksp__pop_t *op);

/* The partition that contains gaddr, which must lie in the data region. */
uint32_t wksp__addr_at(wksp__pop_t *op, uint64_t gaddr);

#endif
