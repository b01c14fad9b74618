/* part_priv: what part.c, part_index.c and part_check.c share: the words of the partition region,
   and an operation in the making.

   The region (wksp->part_off), each part at a multiple of 64 bytes:

     head            one, WKSP_PART_HEAD_SZ bytes: counters, the pool, the roots of the size tries
     entries         part_max + 1 of 48 bytes; number 0 is null and stays zero
     page buckets    part_hash_cnt words of 4 bytes: hash of page -> its first partition
     tag buckets     part_hash_cnt words of 4 bytes: hash of tag -> one partition of each tag
     page bits       one bit for each page of data, and 64-ary summaries of it up to one word

   That is 52 to 56 bytes for each partition that there can be, and 1 for each 32 KiB of data. Never
   used entries and empty parts are zero, so formatting writes a few words only. */

#ifndef WKSP_CORE_PART_PRIV_H
#define WKSP_CORE_PART_PRIV_H

#include "core/atomic.h"
#include "core/part.h"
#include "core/tx.h"

/* Pages in which partitions are looked up, as a power of two; nothing to do with the machine's. */
#define WKSP_PART_PAGE_LG 12

/* Starts of partitions in one page. */
#define WKSP_PART_PAGE_STARTS ((1UL << WKSP_PART_PAGE_LG) / FD_WKSP_PART_GRAIN)

/* Levels of page bits: 64^6 pages are more than 2^46 bytes have. */
#define WKSP_PART_LEVELS 6

/* Kinds of entries besides FD_WKSP_KIND_*: 0 is an entry that is not in use. */
#define WKSP_PART_FREE 8U

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
   tag    used: the tag. free: (child 0, child 1) in the size trie
   nbr    (the partition before it, the one after it) in the order of addresses
   list   (previous, next) in a ring: used: of the same tag. free: of the same size. Not in use:
          (-, next of the pool)
   idx    (chain, up). chain: the next first-of-its-page in the same page bucket.
          up: used: the next tag's representative in the same tag bucket; free: the parent in the
          size trie, null at the root; in both cases OFF if the ring's other member stands there */
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

typedef struct wksp__part_head {
  uint64_t pool;    /* (first entry of the pool, entries ever used: those above are zero) */
  uint64_t cnt;     /* (partitions, free ones among them) */
  uint64_t free_sz; /* bytes in free ones */
  uint64_t bin_top; /* bit t: bin_map[t] != 0 */
  uint64_t pad[4];
  uint32_t bin_map[40];          /* bit s of word t: bins[32 t + s] != 0 */
  uint32_t bins[WKSP_PART_BINS]; /* roots of the size tries */
} wksp__part_head_t;

#define WKSP_PART_HEAD_SZ 8192UL
_Static_assert(sizeof(wksp__part_head_t) <= WKSP_PART_HEAD_SZ, "the head is two pages");

/* Words that the largest change writes, a free that merges with both neighbours: three entries
   (6 each), four ring neighbours in lists of size and tag (1 each, for three lists: 6), size tries
   (taking out two: parent or root, stand-in's tag and idx, two children, the stand-in's parent, bin
   and top word: 8 each; putting in one: 4), the page index (taking out two starts: 6 levels, the
   chain's predecessor, the successor: 8 each), the tag chain 2, the neighbour 1, head 3. A sum of
   66; an alloc that leaves a rest on either side has less. */
#define WKSP_PART_TX_MAX 80

_Static_assert(WKSP_PART_TX_MAX + WKSP_PART_ALSO_MAX <= WKSP_REDO_MAX, "the largest change fits");

/* An operation in the making, or a look. bad: something that was read is impossible; from then on
   results mean nothing, and the operation must be dropped. Numbers of entries that are out of range
   are read as entry 0, so code need not test at every step. */
typedef struct wksp__pop {
  fd_wksp_t *wksp;
  wksp__part_head_t *head;
  wksp__ent_t *ent;
  uint32_t *page_hash, *tag_hash;
  uint64_t *bits[WKSP_PART_LEVELS];
  uint64_t page_cnt;
  uint32_t levels;
  uint32_t hash_lg;
  uint32_t part_max;
  int bad;
  wksp__tx_t tx;
} wksp__pop_t;

/* call NULL: to look only. */
void wksp__pop_begin(wksp__pop_t *op, fd_wksp_t const *wksp, wksp__call_t *call);

static inline uint32_t wksp__lo32(uint64_t word) {
  return (uint32_t)word;
}

static inline uint32_t wksp__hi32(uint64_t word) {
  return (uint32_t)(word >> 32);
}

static inline uint64_t *wksp__ent_word(wksp__pop_t *op, uint32_t idx, uint32_t w) {
  if (wksp__unlikely(idx > op->part_max)) {
    op->bad = 1;
    idx = 0;
  }
  return &op->ent[idx].w[w];
}

static inline uint64_t wksp__ent_get(wksp__pop_t *op, uint32_t idx, uint32_t w) {
  return wksp__tx_get64(&op->tx, wksp__ent_word(op, idx, w));
}

static inline void wksp__ent_put(wksp__pop_t *op, uint32_t idx, uint32_t w, uint64_t value) {
  uint64_t *place = wksp__ent_word(op, idx, w);
  if (wksp__unlikely(idx == WKSP_PART_NULL)) op->bad = 1;
  if (wksp__unlikely(op->bad)) return; /* will be dropped; keeps the list within its sum */
  wksp__tx_put64(&op->tx, place, value);
}

static inline uint32_t wksp__ent_lo(wksp__pop_t *op, uint32_t idx, uint32_t w) {
  return wksp__lo32(wksp__ent_get(op, idx, w));
}

static inline uint32_t wksp__ent_hi(wksp__pop_t *op, uint32_t idx, uint32_t w) {
  return wksp__hi32(wksp__ent_get(op, idx, w));
}

static inline void wksp__ent_put_lo(wksp__pop_t *op, uint32_t idx, uint32_t w, uint32_t value) {
  wksp__ent_put(op, idx, w, (wksp__ent_get(op, idx, w) & ~0xffffffffUL) | value);
}

static inline void wksp__ent_put_hi(wksp__pop_t *op, uint32_t idx, uint32_t w, uint32_t value) {
  wksp__ent_put(op, idx, w, (wksp__ent_get(op, idx, w) & 0xffffffffUL) | (uint64_t)value << 32);
}

static inline uint64_t wksp__ent_gaddr(wksp__pop_t *op, uint32_t idx) {
  return wksp__ent_get(op, idx, WKSP_PART_ADDR) & WKSP_PART_RANGE_MASK;
}

static inline uint64_t wksp__ent_size(wksp__pop_t *op, uint32_t idx) {
  return wksp__ent_get(op, idx, WKSP_PART_SIZE) & WKSP_PART_RANGE_MASK;
}

/* Kind and owner together. */
static inline uint32_t wksp__ent_kind(wksp__pop_t *op, uint32_t idx) {
  uint64_t addr = wksp__ent_get(op, idx, WKSP_PART_ADDR);
  uint64_t owner = addr >> WKSP_PART_OWNER_BIT |
                   wksp__ent_get(op, idx, WKSP_PART_SIZE) >> WKSP_PART_OWNER_BIT << 17;
  return (uint32_t)(addr % FD_WKSP_PART_GRAIN) | (uint32_t)(owner << 8);
}

/* Says what and where a partition is. */
static inline void wksp__ent_put_range(wksp__pop_t *op, uint32_t idx, uint64_t gaddr, uint64_t size,
                                       uint32_t kind) {
  uint64_t owner = kind >> 8;
  wksp__ent_put(op, idx, WKSP_PART_ADDR,
                gaddr | kind % FD_WKSP_PART_GRAIN | owner << WKSP_PART_OWNER_BIT);
  wksp__ent_put(op, idx, WKSP_PART_SIZE, size | owner >> 17 << WKSP_PART_OWNER_BIT);
}

static inline uint64_t wksp__ent_page(wksp__pop_t *op, uint32_t idx) {
  return (wksp__ent_gaddr(op, idx) - op->wksp->data_lo) >> WKSP_PART_PAGE_LG;
}

/* The bucket of a page or a tag. */
static inline uint32_t wksp__part_hash(wksp__pop_t const *op, uint64_t key) {
  return (uint32_t)(((key ^ key >> 32) * 0x9e3779b97f4a7c15UL) >> (64 - op->hash_lg));
}

/* Rings through WKSP_PART_LIST. */
void wksp__ring_alone(wksp__pop_t *op, uint32_t idx);
void wksp__ring_add(wksp__pop_t *op, uint32_t after, uint32_t idx);
void wksp__ring_cut(wksp__pop_t *op, uint32_t idx);

/* Free partitions by size. min: the tree member with the smallest size >= size, null if none; its
   ring has all of that size. max: one of the largest size. */
uint32_t wksp__size_bin(wksp__pop_t *op, uint64_t size);
uint32_t wksp__size_min(wksp__pop_t *op, uint64_t size);
uint32_t wksp__size_max(wksp__pop_t *op);
void wksp__size_add(wksp__pop_t *op, uint32_t idx);
void wksp__size_cut(wksp__pop_t *op, uint32_t idx);

/* Used partitions by tag. first: a member of the tag's ring, null if it has none. */
uint32_t wksp__tag_first(wksp__pop_t *op, uint64_t tag);
void wksp__tag_add(wksp__pop_t *op, uint32_t idx);
void wksp__tag_cut(wksp__pop_t *op, uint32_t idx);

/* All partitions by address; add and cut want the entry linked to its neighbours. at: the partition
   that contains gaddr, which must lie in the data region. */
uint32_t wksp__addr_at(wksp__pop_t *op, uint64_t gaddr);
void wksp__addr_add(wksp__pop_t *op, uint32_t idx);
void wksp__addr_cut(wksp__pop_t *op, uint32_t idx);

#endif
