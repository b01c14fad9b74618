/* alloc: fd_alloc inside the library. The model of spans and pairs is explained here, once.

   Span. 64 KiB of the data region, divided into equal blocks of a class. The truth about a span is
   its word in the span table: {version, heap, class, state}, changed by CAS only. For large blocks
   a span has 4 or 16 times 64 KiB, at a multiple of its size: its word is that of the first 64 KiB,
   the others have that class too and the state TAIL. The span holds them from before its first
   block until after its last: while they are taken, and until all are given back, its own word says
   SETUP, with 128 more than a class.

     NONE     not a span: the memory is the workspace's, or another partition's
     POOL     belongs to the alloc whose home id is in the heap field; nobody uses it
     SETUP    a heap's, without a live block: its owner prepares it, or keeps it for any class
     OWNED    a heap's; its owner knows that it may have free blocks
     FULL     a heap's; its owner has set it aside: whoever frees a block in it tells
     PENDING  as FULL, and somebody who freed a block has told the owner, or is about to
     TAKEN    on its way back to the workspace, by whoever has the alloc's compactor token
     TAIL     part of a span that starts before it and is of the heap in the heap field, or, with a
              home id there, of whichever heap of that alloc the span's own word says

     NONE  -> POOL           with the partition, in one change; TAKEN -> NONE likewise
     POOL  -> SETUP -> OWNED the heap's owner
     OWNED -> SETUP, POOL    the heap's owner, when no block is live; SETUP -> POOL likewise
     OWNED <-> FULL          the heap's owner
     FULL  -> PENDING        who frees from elsewhere
     PENDING -> OWNED        the heap's owner
     POOL <-> TAKEN          who compacts
     POOL <-> TAIL           the owner of the heap that has the span's first 64 KiB in SETUP
     TAIL's heap <-> home    the owner of the span's heap: never another's, before or after

   The version goes up whenever a span changes hands.

   Pairs. Each 64 blocks have two words: A, written by the heap's owner only, and F, toggled by
   everybody else with one atomic. A block is allocated <=> its bit in A ^ F is 1. Bits beyond
   the last block are 1 in A and 0 in F.

     an owner takes, gives back   one plain store to A, for many blocks of the word at once
     everybody else gives back    one CAS for each block, or lot of blocks, which toggles F

   Magazines. In front of the pairs each heap has, for each class, an array of blocks and behind it
   the mask of one word. What they hold is free, whatever its pair says, and only the heap's owner
   takes it:

     a block is free  <=>  its bit in A ^ F is 0, or it is in a heap's array or mask

   Malloc takes from the array, then from the mask; both are refilled from the pairs of the heap's
   spans. Free puts into the array, also blocks of other heaps' spans; half of a full one goes back
   to the pairs. What a kill leaves, by the order of the stores (alloc_mag.c):

     malloc     flight; top or mask                       one block, which the flight leads to
     free       flight; entry; top                        likewise
     refill     entries; top; A       mbase; mask; A      in the magazine and free in its pair: once
     overflow   own: A; top; then the span may retire      foreign: flight or lot; top; F

   So a block of the heap's own spans can be free twice, which flushing a dead owner's magazines
   takes for once: it clears bits that are set. A block of another heap's span never is, for that
   owner may hand it out as soon as F says so. A heap's magazines are flushed before its spans
   change hands (docs/adr/0006). A block that is freed twice while it lies in a magazine is noticed
   if it is among the last four of its class, or when the magazine is flushed.

   Heap. What one thread at a time allocates from in one alloc: magazines, caches, and its owner
   word {name, epoch}, changed by CAS. 0: left behind in good order. The name of a dead thread: left
   behind anyhow, so whoever takes it rebuilds its caches from the span table and the pairs. A heap
   outlives its threads; taking one over is one CAS (docs/adr/0002).

   Heap directory. A word for each id: gaddr | what. Id 0 is not used. An alloc has an id of its own
   (its home). */

#ifndef WKSP_CORE_ALLOC_H
#define WKSP_CORE_ALLOC_H

#include "core/alloc_class.h"
#include "core/atomic.h"
#include "core/call.h"
#include "core/part.h"
#include "wksp/fd_alloc.h"

enum {
  WKSP_SPAN_NONE = 0,
  WKSP_SPAN_POOL = 1,
  WKSP_SPAN_SETUP = 2,
  WKSP_SPAN_OWNED = 3,
  WKSP_SPAN_FULL = 4,
  WKSP_SPAN_PENDING = 5,
  WKSP_SPAN_TAKEN = 6,
  WKSP_SPAN_TAIL = 7
};

/* In the class field of a SETUP: the span is a wide one of that class, or becomes or was one. */
#define WKSP_SPAN_WIDE 128U

#define SPAN_STATE(e) ((uint32_t)((e)&15UL))
#define SPAN_CLASS(e) ((uint32_t)((e) >> 4 & 255UL))
#define SPAN_HEAP(e)  ((uint32_t)((e) >> 12 & 0xfffffUL))
#define SPAN_VER(e)   ((e) >> 32)
#define SPAN_WORD(ver, heap, cls, state) \
  ((uint64_t)(ver) << 32 | (uint64_t)(heap) << 12 | (uint64_t)(cls) << 4 | (uint64_t)(state))
/* The same span word in another state; and one version up. */
#define SPAN_WITH(e, state)            (((e) & ~15UL) | (uint64_t)(state))
#define SPAN_NEXT(e, heap, cls, state) SPAN_WORD((SPAN_VER(e) + 1) & 0xffffffffUL, heap, cls, state)

/* Heap directory words. */
#define DIR_HOME     1UL
#define DIR_HEAP     2UL
#define DIR_WHAT(d)  ((d)&63UL)
#define DIR_GADDR(d) ((d) & ~63UL)

/* Spans that a workspace gives at once: its lock is taken once for so many. */
#define WKSP_REGION_SPANS_MAX 16U
#define WKSP_SPAN_LG_MAX      4U
_Static_assert(WKSP_REGION_SPANS_MAX <= WKSP_PART_ALSO_MAX, "a region's words go into one record");

/* A partition for spans is given back in one change, so one that reads larger is damaged. None is
   made larger than REGION_SPANS_MAX, but a rebuild without an entry left may add what is behind. */
#define WKSP_REGION_SZ_MAX ((uint64_t)WKSP_PART_ALSO_MAX << WKSP_SPAN_LG)

typedef struct wksp__pair {
  uint64_t a, f;
} wksp__pair_t;

#define WKSP_REC_INLINE 3
enum { WKSP_LIST_NONE = 0, WKSP_LIST_CUR = 1, WKSP_LIST_PART = 2, WKSP_LIST_FULL = 3 };

typedef struct wksp__rec {
  /* Caches of the owner. A word's bit in summary is 0 => its owner saw no free block there and
     freed none since. A word's bit in allfree is 1 => it has no live block. */
  uint64_t summary, allfree;
  uint32_t next, prev; /* span index + 1, in the heap's list */
  uint32_t list;       /* WKSP_LIST_* */
  uint32_t pad[9];
  /* What others write. */
  uint32_t inbox_next; /* span index + 1 */
  uint32_t pad2;
  uint64_t ticket; /* name of the thread whose lot may be about the span, 0 (alloc_lot.c) */
  wksp__pair_t inl[WKSP_REC_INLINE];
} wksp__rec_t;
_Static_assert(sizeof(wksp__rec_t) == 128, "two lines a span");

/* What a heap has of one class. The array's places lie behind the heap; top, lo and hi are offsets
   from the heap in bytes.

     lo <= top <= hi, but for a call on its way; lo, hi, size, recip, in_span are constant
     the places [lo, top) hold gaddrs of free blocks of the class, in spans of the alloc
     the WKSP_MAG_BELOW places below lo hold 0
     bit i of mask is 1 => mbase + i * size is a free block; all of one word of a span of the heap
 */
typedef struct wksp__mag {
  uint32_t top, lo, hi;
  uint32_t size;
  uint64_t mask, mbase;
  uint64_t recip; /* wksp__recip64 */
  uint32_t pad;
  uint32_t in_span;         /* a span's size - 1 */
  uint32_t cur, part, full; /* span index + 1: in use, having free blocks, set aside */
  uint32_t look;            /* where the next look through full goes on */
} wksp__mag_t;
_Static_assert(sizeof(wksp__mag_t) == 64, "a line");

typedef struct wksp__heap {
  uint64_t owner; /* name | epoch << WKSP_OWNER_EPOCH_SHIFT, or 0: the truth */
  uint64_t alloc; /* gaddr; constant */
  uint32_t id;    /* its place in the directory, noted by whoever takes it */
  uint32_t hint;  /* cgroup hint of the last owner */
  /* By the logarithm of their 64 KiB: spans in SETUP, index + 1, kept for any class; how many. */
  uint32_t spare[WKSP_SPAN_LG_MAX + 1];
  uint8_t spare_cnt[WKSP_SPAN_LG_MAX + 1];
  uint8_t pad[15];
  uint32_t inbox; /* span index + 1: spans whose state went FULL -> PENDING */
  uint32_t pad2[15];
  wksp__mag_t mag[WKSP_CLASS_CNT];
} wksp__heap_t;

#define WKSP_ALLOC_MAGIC    0x31636f6c6c616466UL /* "fdalloc1" in memory */
#define WKSP_ALLOC_DELETING 0x3064656c6c616466UL
#define WKSP_ALLOC_LEAVING  0x317666656c616466UL
#define WKSP_POOL_HINTS     512
#define WKSP_SUSPECTS       64

struct fd_alloc {
  uint64_t magic;
  uint64_t self; /* gaddr of this: where it is tells where the workspace is */
  uint64_t tag;
  uint32_t home; /* id in the directory */
  uint32_t region_spans;
  uint64_t compactor;      /* name of the thread that compacts, 0 */
  uint64_t bad_free_cnt;   /* refused frees */
  uint64_t lease;          /* ephemeral: the daemon's, with which it ends; 0 */
  uint64_t late_write_cnt; /* free blocks that were written to; a hardened build counts them */
  uint32_t pool_cnt;       /* about how many spans are in POOL */
  uint32_t pool_scan;      /* where the next look through the span table starts */
  uint32_t wide_scan;      /* likewise for as much as a wide span */
  uint32_t suspect_at;
  uint32_t compact_cnt;            /* compacts done: who waits for the token sees that it goes on */
  uint64_t suspect[WKSP_SUSPECTS]; /* gaddr of blocks in flight when their thread died; a ring */
  /* Hints: a bit for each place that is perhaps taken; span index + 1, perhaps in POOL. */
  uint64_t pool_map[WKSP_POOL_HINTS / 64];
  uint32_t pool_hint[WKSP_POOL_HINTS];
  /* The same where as much as a wide span is perhaps in POOL, by the logarithm of its 64 KiB. */
  uint64_t wide_map[WKSP_SPAN_LG_MAX + 1];
  uint32_t wide_hint[WKSP_SPAN_LG_MAX + 1][64];
  uint64_t flags; /* FD_ALLOC_FLAG_*; constant */
};
_Static_assert(sizeof(struct fd_alloc) <= FD_ALLOC_FOOTPRINT, "footprint");

/* Double frees found late of which one operation tells; they come in crowds. */
#define WKSP_OP_LATE_MAX 4

/* One operation of one thread on one alloc. */
typedef struct wksp__op {
  wksp__call_t call;
  fd_wksp_t *wksp;
  fd_alloc_t const *join;
  struct fd_alloc *alloc;
  uint64_t alloc_gaddr;
  wksp__heap_t *heap; /* NULL until wksp__heap_get */
  uint32_t heap_id;
  uint32_t sent_cnt; /* blocks that flushing a heap has given to spans of others */
  uint32_t late_cnt; /* blocks that were found to have been freed twice before, to be told of */
  uint64_t late[WKSP_OP_LATE_MAX];
} wksp__op_t;

/* The allocator behind a join handle, NULL (reported) if it is none. */
struct fd_alloc *wksp__alloc_of(fd_alloc_t const *join);

/* Starts and ends an operation of the calling thread. 0 or why not (reported). */
int wksp__op_begin(fd_alloc_t const *join, wksp__op_t *ret_op);
void wksp__op_end(wksp__op_t *op);

/* wksp__part_alloc with the alloc's tag, waiting as malloc does. Signals are off meanwhile: a
   handler that leaves by longjmp must not leave the workspace's lock taken. */
int wksp__op_part_alloc(wksp__op_t *op, uint64_t align, uint64_t size, uint32_t kind,
                        wksp__part_also_t also, void *arg, uint64_t *ret_gaddr, uint64_t *ret_size);

/* fd_alloc_malloc_at_least and fd_alloc_free, all cases; the usual ones are in alloc_fast.c. Like
   those they leave errno as it was. */
void *wksp__malloc(fd_alloc_t *join, ulong align, ulong sz, ulong *ret_max);
void wksp__free(fd_alloc_t *join, void *laddr);

/* Bad frees (alloc_bad.c)
 * ----------------------------------------------------------------------------- */

/* Counts and reports a free of what is no live block, and one with a size that the block has not:
   inside the operation. bad_tell must follow once it is over. */
void wksp__bad_free(wksp__op_t *op, void const *laddr, fd_alloc_bad_free_t *ret_bad);
void wksp__bad_size(wksp__op_t *op, void const *laddr, ulong size, ulong sz,
                    fd_alloc_bad_free_t *ret_bad);

/* Calls the process's listener, outside of operations. */
void wksp__bad_tell(fd_alloc_bad_free_t const *bad);

/* Counts blocks that were freed twice before and are free in their pair; op_end tells. */
void wksp__bad_late(wksp__op_t *op, uint64_t gaddr, uint32_t cls);
void wksp__bad_late_word(wksp__op_t *op, uint32_t span, uint32_t cls, uint32_t w, uint64_t bits);
void wksp__bad_late_tell(wksp__op_t const *op);

/* Whether fd_alloc_free_sized may free the block, as far as its class goes: 1, or 0 it is smaller
   than sz, which was counted and reported (alloc_more.c). */
int wksp__sized_fits(fd_alloc_t *join, void *laddr, ulong sz);

static inline wksp__class_t const *wksp__class(fd_wksp_t const *wksp, uint32_t cls) {
  return &wksp__classes[wksp__scale(wksp)][cls];
}

/* Bytes of a block; the same in all workspaces. */
static inline uint32_t wksp__class_size(uint32_t cls) {
  return wksp__classes[0][cls].size;
}

/* The smallest class for the request, WKSP_CLASS_CNT if it is a large one. Blocks lie at multiples
   of their size from a multiple of 64 KiB, so a class is aligned to what divides its size. */
static inline uint32_t wksp__class_for(ulong align, ulong sz) {
  if (sz > FD_ALLOC_SMALL_MAX || align > FD_ALLOC_SMALL_MAX) return WKSP_CLASS_CNT;
  uint32_t cls = wksp__class_of[(sz + 15) >> 4];
  if (wksp__likely(align <= 16)) return cls;
  while (cls < WKSP_CLASS_CNT && (wksp__class_size(cls) & (align - 1))) cls++;
  return cls;
}

/* The alignment of a request to an alloc with FD_ALLOC_FLAG_ALIGNED. Its spans are all of classes
   that are powers of two. So the short form of malloc, which knows nothing of this, either finds a
   block of the right class or an empty magazine. */
static inline ulong wksp__align_up(ulong align, ulong sz) {
  ulong next = sz > 1UL << 62 ? 1UL << 63 : sz < 2 ? 1UL : 2UL << (63 - __builtin_clzl(sz - 1));
  return align < next ? next : align;
}

/* Spans (alloc_span.c)
 * ------------------------------------------------------------------------------- */

static inline wksp__rec_t *wksp__rec(fd_wksp_t const *wksp, uint32_t span) {
  return (wksp__rec_t *)((uintptr_t)wksp + wksp->rec_off) + span;
}

static inline wksp__pair_t *wksp__pairs(fd_wksp_t const *wksp, uint32_t span, uint32_t cls) {
  uint32_t off = wksp__class(wksp, cls)->pair_off;
  if (!off) return wksp__rec(wksp, span)->inl;
  return (wksp__pair_t *)((uintptr_t)wksp + wksp__span_gaddr(wksp, span) + off);
}

/* The bits of word w that are no blocks. */
static inline uint64_t wksp__tail(fd_wksp_t const *wksp, uint32_t cls, uint32_t w) {
  wksp__class_t const *info = wksp__class(wksp, cls);
  uint32_t cnt = info->blk_cnt;
  return w == info->word_cnt - 1 && (cnt & 63U) ? ~0UL << (cnt & 63U) : 0UL;
}

static inline uint64_t wksp__all_words(fd_wksp_t const *wksp, uint32_t cls) {
  uint32_t cnt = wksp__class(wksp, cls)->word_cnt;
  return cnt == 64 ? ~0UL : (1UL << cnt) - 1UL;
}

/* Whether a span of that word has blocks: OWNED, FULL or PENDING, of a known class. */
static inline int wksp__span_live(uint64_t e) {
  uint32_t state = SPAN_STATE(e);
  return state >= WKSP_SPAN_OWNED && state <= WKSP_SPAN_PENDING && SPAN_CLASS(e) < WKSP_CLASS_CNT;
}

/* Where a span of 64 KiB << lg starts that has the 64 KiB with that index. UINT32_MAX: before the
   data, so there is none. */
static inline uint32_t wksp__span_head(fd_wksp_t const *wksp, uint32_t span, uint32_t lg) {
  uint32_t before = (uint32_t)(wksp->data_lo >> WKSP_SPAN_LG);
  uint32_t head = (span + before) & ~((1U << lg) - 1U);
  return head < before ? UINT32_MAX : head - before;
}

/* Whether a span of that size can start there. */
static inline int wksp__span_fits(fd_wksp_t const *wksp, uint32_t span, uint32_t lg) {
  return wksp__span_head(wksp, span, lg) == span && (1U << lg) <= wksp__span_cnt(wksp) - span;
}

/* The span that has gaddr, a place in the data: its index, and its word, which need not be one of a
   span with blocks. */
static inline uint64_t wksp__span_look(fd_wksp_t const *wksp, uint64_t gaddr, uint32_t *ret_span) {
  uint32_t span = wksp__span_of(wksp, gaddr);
  /* acquire: pairs with the release that made the span OWNED */
  uint64_t e = wksp__ld_acquire(&wksp__span_words(wksp)[span]);
  *ret_span = span;
  uint32_t lg = SPAN_CLASS(e) < WKSP_CLASS_CNT ? wksp__class(wksp, SPAN_CLASS(e))->lg : 0;
  if (wksp__unlikely(lg)) {
    uint32_t head = wksp__span_head(wksp, span, lg);
    if (head == span) return e;
    if (head == UINT32_MAX || SPAN_STATE(e) != WKSP_SPAN_TAIL) return 0;
    *ret_span = head;
    uint64_t first = wksp__ld_acquire(&wksp__span_words(wksp)[head]);
    return wksp__span_live(first) && SPAN_CLASS(first) == SPAN_CLASS(e) ? first : 0;
  }
  return e;
}

/* Live blocks in a span. */
uint32_t wksp__span_used(fd_wksp_t const *wksp, uint32_t span, uint32_t cls);

/* Number of the block of a span of the class at gaddr, or UINT32_MAX if none starts there. */
static inline uint32_t wksp__blk_of(fd_wksp_t const *wksp, uint64_t gaddr, uint32_t cls) {
  wksp__class_t const *info = wksp__class(wksp, cls);
  uint32_t off = (uint32_t)(gaddr & ((WKSP_SPAN_SZ << info->lg) - 1));
  uint32_t blk = (uint32_t)((uint64_t)off * info->recip >> 32);
  return blk * info->size == off && blk < info->blk_cnt ? blk : UINT32_MAX;
}

/* Whether a span's word says that it is the heap's and has blocks of the class. */
static inline int wksp__span_own(uint64_t e, uint32_t heap_id, uint32_t cls) {
  return SPAN_HEAP(e) == heap_id && SPAN_CLASS(e) == cls && wksp__span_live(e);
}

/* A span for the class as the heap's current one. 0, or why there is none (reported). */
int wksp__span_next(wksp__op_t *op, uint32_t cls);

/* The heap's current span of the class has no free block as far as its summary knows: sets it aside
   as full, unless the pairs say otherwise. 1 set aside, 0 it is still the current one. */
int wksp__span_aside(wksp__op_t *op, uint32_t cls);

/* Blocks of one word of a span of the operation's heap become free. Returns those of them that were
   free already, which stay so. */
uint64_t wksp__span_give(wksp__op_t *op, uint32_t span, uint32_t w, uint64_t bits);

/* Must follow it once no magazine holds these blocks any more: the span may change hands now. */
void wksp__span_given(wksp__op_t *op, uint32_t span);

/* The same for a block of any heap's span, which span_look finds. 0, or E_NOTFOUND: not live. */
int wksp__span_give_elsewhere(wksp__op_t *op, uint64_t gaddr, uint32_t span, uint64_t e);

/* The rest of a wide span of a heap that the caller owns says that it is of the heap with that id,
   or says the alloc's home. Afterwards free needs one look for a block there, or two. */
void wksp__tails_set(wksp__op_t *op, uint32_t span, uint32_t cls, uint32_t id);

/* Brings what others have told into the heap's lists. */
void wksp__span_drain(wksp__op_t *op, wksp__heap_t *heap, uint32_t heap_id);

/* Gives a wholly free OWNED span in no list, of a heap of the caller's, to the alloc's pool. */
void wksp__span_retire(wksp__op_t *op, uint32_t span, uint32_t heap_id);

/* The same for one that is in SETUP, whatever its former owner was about when he was killed. */
void wksp__span_drop(wksp__op_t *op, uint32_t span);

/* Notes 64 KiB << lg in POOL where the next who needs them looks. */
void wksp__pool_note(struct fd_alloc *alloc, uint32_t span, uint32_t lg);

void wksp__list_push(fd_wksp_t *wksp, uint32_t *head, uint32_t span, uint32_t list);
void wksp__list_remove(fd_wksp_t *wksp, uint32_t *head, uint32_t span);

/* Magazines (alloc_mag.c)
 * ----------------------------------------------------------------------------- */

/* Bytes of a heap with its places. */
static inline uint64_t wksp__heap_size(fd_wksp_t const *wksp) {
  return sizeof(wksp__heap_t) + 8UL * wksp__mag_at[wksp__scale(wksp)][WKSP_CLASS_CNT];
}

/* Where the places of a class begin and end, offsets from the heap; not read from the heap. */
static inline uint32_t wksp__mag_lo(fd_wksp_t const *wksp, uint32_t cls) {
  return (uint32_t)sizeof(wksp__heap_t) +
         8 * (wksp__mag_at[wksp__scale(wksp)][cls] + WKSP_MAG_BELOW);
}

static inline uint32_t wksp__mag_hi(fd_wksp_t const *wksp, uint32_t cls) {
  return (uint32_t)sizeof(wksp__heap_t) +
         8 * (wksp__mag_at[wksp__scale(wksp)][cls + 1] - WKSP_MAG_ABOVE);
}

/* Where the array of a heap that may be damaged or in use ends: its top if that can be one, else
   its floor. */
static inline uint32_t wksp__mag_top(fd_wksp_t const *wksp, wksp__heap_t const *heap,
                                     uint32_t cls) {
  uint32_t top = wksp__ld(&heap->mag[cls].top), lo = wksp__mag_lo(wksp, cls);
  return top < lo || top > wksp__mag_hi(wksp, cls) + 8 * WKSP_MAG_ABOVE || (top & 7U) ? lo : top;
}

/* Whether a block starts x bytes from the start of a span of the class, in one multiplication:

     wksp__starts(x, recip) <=> x is a multiple of size below cnt * size, for x < 2^20

   recip = (2^64 + e) / size with the least e that makes this a whole number and cnt * e >= 2^40. So
   x * recip mod 2^64 is q * e for x = q * size, which is below 2^40 if q < cnt: (cnt - 1) * e is,
   for cnt * cnt * size < 2^40. For x = q * size + r it is q * e + r * recip, which lies between
   recip, beyond 2^49, and 2^64 - recip + (q + 1) * e. */
#define WKSP_RECIP_LG 40
static inline uint64_t wksp__recip64(uint32_t size, uint32_t cnt) {
  uint64_t e = ((1UL << WKSP_RECIP_LG) + cnt - 1) / cnt, over = ~0UL % size + 1;
  e += (size - (over + e) % size) % size;
  return ~0UL / size + (over + e) / size;
}

static inline int wksp__starts(uint64_t x, uint64_t recip) {
  return !(x * recip >> WKSP_RECIP_LG);
}

static inline uint64_t *wksp__mag_place(wksp__heap_t const *heap, uint32_t at) {
  return (uint64_t *)((uintptr_t)heap + at);
}

/* Whether the block is among the last four of the array. */
static inline int wksp__mag_among_last(wksp__heap_t const *heap, uint32_t top, uint64_t gaddr) {
  uint64_t const *at = wksp__mag_place(heap, top);
  return at[-1] == gaddr || at[-2] == gaddr || at[-3] == gaddr || at[-4] == gaddr;
}
_Static_assert(WKSP_MAG_BELOW >= 4, "these places can be read whatever top is");

/* All magazines of a heap become empty, whatever they held. */
void wksp__mag_init(fd_wksp_t const *wksp, wksp__heap_t *heap);
void wksp__mag_init_class(fd_wksp_t const *wksp, wksp__heap_t *heap, uint32_t cls);

/* A block of the class from the operation's heap, 0 if there is no memory (reported). */
uint64_t wksp__mag_malloc(wksp__op_t *op, uint32_t cls);

/* Frees the block at gaddr in a live span of the alloc, as wksp__span_look finds it: into the
   operation's heap's magazine, or if it has no heap into the pair. 0, or E_NOTFOUND if it is no
   live block (not reported). */
int wksp__mag_free(wksp__op_t *op, uint64_t gaddr, uint32_t span, uint64_t e);

/* What the next malloc of the class would give, which stays there; 0: no memory (reported). */
uint64_t wksp__mag_peek(wksp__op_t *op, uint32_t cls);

/* Afterwards the class's array has room for a further block. */
void wksp__mag_room(wksp__op_t *op, uint32_t cls);

/* Gives all that the magazines of the operation's heap hold back to the pairs. */
void wksp__mag_drain(wksp__op_t *op);

/* The same for any heap of the caller's in any state; he files its spans anew afterwards. */
void wksp__mag_flush(wksp__op_t *op, wksp__heap_t *heap, uint32_t id);

/* Heaps (alloc_heap.c)
 * -------------------------------------------------------------------------------- */

/* The calling thread's heap: its own, one left behind, or a new one. 0 and op->heap, or E_NOMEM,
 * E_LIMIT, E_TIMEDOUT (reported). */
int wksp__heap_get(wksp__op_t *op, uint32_t hint);

/* The calling thread's heap if it has one: op->heap, or it stays NULL. */
void wksp__heap_peek(wksp__op_t *op);

/* After the operation: a heap that was taken for one call only is left again. */
void wksp__heap_put(wksp__op_t *op);

/* The heap of a directory id if it is one of this alloc, else NULL. */
wksp__heap_t *wksp__heap_of(fd_wksp_t const *wksp, uint32_t id, uint64_t alloc_gaddr);

/* Makes all caches of a heap of the caller's from the truth. Wholly free spans go to the pool.
   Returns how many spans it has then. */
uint32_t wksp__heap_rebuild(wksp__op_t *op, wksp__heap_t *heap, uint32_t id);

/* Moves spans of heaps that were left behind to the operation's heap. 1 if any came. */
int wksp__heap_inherit(wksp__op_t *op);

/* What makes a heap the caller's; 4,096 times different for a slot's generation. */
uint64_t wksp__heap_owner_word(wksp__call_t *call);

/* Takes a heap from whoever owns it, a living thread under its gate: 1 and its owner word, 0 if
   that thread is inside a call and could not be waited for (alloc_compact.c). */
int wksp__heap_take(wksp__op_t *op, wksp__heap_t *heap, uint64_t *ret_word,
                    fd_alloc_compacted_t *sum);

/* Whether the directory still lists the heap whose owner word is at owner. */
int wksp__heap_listed(fd_wksp_t const *wksp, uint32_t id, uint64_t const *owner);

/* Compacting, for who deletes (alloc_compact.c). The token: who has it is the only one to compact
   or delete the alloc; 0, E_TIMEDOUT, or if it is to be alive E_NOTFOUND (reported). grace waits
   until every other thread that is now inside a call has been outside: 1, or 0 if one stays there
   too long. region_gone (arg: the workspace) makes the spans of a partition that goes NONE. */
int wksp__compact(wksp__op_t *op, fd_alloc_compacted_t *sum);
int wksp__token_get(wksp__op_t *op, int alive);
void wksp__token_put(wksp__op_t *op);
int wksp__grace(wksp__call_t *call);
int wksp__region_gone(void *arg, wksp__tx_t *tx, uint64_t gaddr, uint64_t size);

/* Ends what the alloc with that home holds, as its head says, then the home, and with it, if
   with_head, the alloc's own partition, if it is one by itself: then 1, and the memory is
   another's. tag: its tag, if the head is to be trusted, else 0 (alloc_delete.c). 0, 1 or an error
   (reported). */
int wksp__alloc_clear(wksp__call_t *call, uint32_t home, struct fd_alloc const *alloc, uint64_t tag,
                      int with_head);

/* Whether it is half made or half deleted. */
int wksp__alloc_ending(struct fd_alloc const *alloc);

/* 0 if no fd_alloc but that at gaddr `but` lies in a partition of the user with the tag, E_BUSY
   (reported), or why that cannot be told (tag.c). */
int wksp__tag_homes_none(fd_wksp_t const *wksp, ulong tag, uint64_t but);

/* Ends the ephemeral fd_allocs of a lease that has ended. 0, or E_BUSY (a thread of another process
   is inside a call of one), E_TIMEDOUT, E_CORRUPT: reported, try again. */
int wksp__ephemeral_end(fd_wksp_t *wksp, uint64_t lease);

#include "core/alloc_held.h"
#include "core/alloc_lot.h"

/* For the slots (alloc_heap.c)
 * ------------------------------------------------------------------------ */

/* The block that a slot's flight, as the caller has read it, says is in flight, 0 none; unless its
   thread lives, nobody may have taken the heap since. */
uint64_t wksp__flight_block(fd_wksp_t const *wksp, wksp__slot_t const *slot, uint64_t flight);

/* Notes the block at gaddr, which a dead thread had in flight, as suspect of its alloc, if it is a
   live block. The caller has a name; the lock may be taken. 0, or E_TIMEDOUT for the lock after at
   most wait_ns: not noted yet. */
int wksp__alloc_bury(wksp__call_t *call, uint64_t gaddr, uint64_t wait_ns);

/* Gives back slots of the dead; lease: an ended one, 0 none. 0 or an error of call_begin. */
int wksp__reap(fd_wksp_t *wksp, uint64_t lease);

/* Whether the 64 KiB with that index can have that word: of a span that a heap has; of the rest of
   one. */
int wksp__span_possible(fd_wksp_t const *wksp, uint32_t span, uint64_t e);
int wksp__tail_good(fd_wksp_t const *wksp, uint32_t span, uint32_t home, uint64_t e);

/* Whether a span with that word has the rest that it must have if it is wide and live, before the
   end of its partition, or in those of the same alloc that follow it without a gap: the pool does
   not know which of its 64 KiB came together. One in SETUP need not have all of it. */
int wksp__tails_there(fd_wksp_t const *wksp, uint32_t span, uint32_t end, uint32_t home,
                      uint64_t e);

/* Whether the alloc with that home, which the directory has, is being deleted: its partitions go
   one by one, so a wide span that lies in two may have lost the one or the other. */
int wksp__home_ending(fd_wksp_t const *wksp, uint32_t home);

/* Invariants of spans, heaps and the directory; as wksp__part_check. */
uint32_t wksp__alloc_check(fd_wksp_t const *wksp, wksp__finding_t finding, void *arg);

/* Whether the fd_alloc at gaddr, or one half made or deleted, says of itself what entry id does. */
int wksp__home_agrees(fd_wksp_t const *wksp, uint32_t id, uint64_t gaddr);

/* Drops or changes what alloc_check would find (alloc_repair.c). Tells each; their number. The lock
 * is held, the partitions are whole, and no living thread owns a heap. */
uint32_t wksp__alloc_repair(wksp__call_t *call, wksp__finding_t finding, void *arg);

/* The slot + 1 of a living thread that owns a heap, 0: there is none. */
uint32_t wksp__alloc_owner_living(fd_wksp_t const *wksp);

#endif
