/* alloc: fd_alloc inside the library. The model of spans and pairs is explained here, once.

   Span. 64 KiB of the data region, divided into equal blocks of a class. The truth about a span is
   its word in the span table: {version, heap, class, state}, changed by CAS only.

     NONE     not a span: the memory is the workspace's, or another partition's
     POOL     belongs to the alloc whose home id is in the heap field; nobody uses it
     SETUP    a heap's owner prepares it: no block is live
     OWNED    a heap's; its owner knows that it may have free blocks
     FULL     a heap's; its owner has set it aside: whoever frees a block in it tells
     PENDING  as FULL, and somebody who freed a block has told the owner, or is about to
     TAKEN    on its way back to the workspace, by whoever has the alloc's compactor token

     NONE  -> POOL           with the partition, in one change; TAKEN -> NONE likewise
     POOL  -> SETUP -> OWNED the heap's owner
     OWNED -> POOL           the heap's owner, when no block is live
     OWNED <-> FULL          the heap's owner
     FULL  -> PENDING        who frees from elsewhere
     PENDING -> OWNED        the heap's owner
     POOL <-> TAKEN          who compacts

   The version goes up whenever a span changes hands.

   Pairs. Each 64 blocks have two words: A, written by the heap's owner only, and F, toggled by
   everybody else with one atomic. A block is allocated <=> its bit in A ^ F is 1. Bits beyond
   the last block are 1 in A and 0 in F.

     own malloc, own free   one plain store to A
     free from elsewhere    one CAS that toggles F: the linearisation point

   Heap. What one thread at a time allocates from in one alloc: caches only, but for its owner word
   {name, epoch}, changed by CAS. 0: left behind in good order. The name of a dead thread: left
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
  WKSP_SPAN_TAKEN = 6
};

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
  uint32_t pad2[3];
  wksp__pair_t inl[WKSP_REC_INLINE];
} wksp__rec_t;
_Static_assert(sizeof(wksp__rec_t) == 128, "two lines a span");

typedef struct wksp__heap {
  uint64_t owner; /* name | epoch << WKSP_OWNER_EPOCH_SHIFT, or 0: the truth */
  uint64_t alloc; /* gaddr; constant */
  uint32_t id;    /* its place in the directory, noted by whoever takes it */
  uint32_t hint;  /* cgroup hint of the last owner */
  uint32_t pad[10];
  uint32_t inbox; /* span index + 1: spans whose state went FULL -> PENDING */
  uint32_t pad2[15];
  struct {
    uint32_t cur, part, full; /* span index + 1: in use, having free blocks, set aside */
    uint32_t look;            /* where the next look through full goes on */
  } cls[WKSP_CLASS_CNT];
} wksp__heap_t;

#define WKSP_ALLOC_MAGIC    0x31636f6c6c616466UL /* "fdalloc1" in memory */
#define WKSP_ALLOC_DELETING 0x3064656c6c616466UL
#define WKSP_POOL_HINTS     128
#define WKSP_SUSPECTS       64

struct fd_alloc {
  uint64_t magic;
  uint64_t self; /* gaddr of this: where it is tells where the workspace is */
  uint64_t tag;
  uint32_t home; /* id in the directory */
  uint32_t region_spans;
  uint64_t compactor;    /* name of the thread that compacts, 0 */
  uint64_t bad_free_cnt; /* refused frees */
  uint32_t pool_cnt;     /* about how many spans are in POOL */
  uint32_t pool_scan;    /* where the next look through the span table starts */
  uint32_t suspect_at;
  uint32_t compact_cnt;            /* compacts done: who waits for the token sees that it goes on */
  uint64_t suspect[WKSP_SUSPECTS]; /* gaddr of blocks in flight when their thread died; a ring */
  uint32_t pool_hint[WKSP_POOL_HINTS]; /* span index + 1, perhaps in POOL */
};
_Static_assert(sizeof(struct fd_alloc) <= FD_ALLOC_FOOTPRINT, "footprint");

/* One operation of one thread on one alloc. */
typedef struct wksp__op {
  wksp__call_t call;
  fd_wksp_t *wksp;
  struct fd_alloc *alloc;
  uint64_t alloc_gaddr;
  wksp__heap_t *heap; /* NULL until wksp__heap_get */
  uint32_t heap_id;
} wksp__op_t;

/* The allocator behind a join handle, NULL (reported) if it is none. */
struct fd_alloc *wksp__alloc_of(fd_alloc_t const *join);

/* Starts and ends an operation of the calling thread. 0 or why not (reported). */
int wksp__op_begin(fd_alloc_t const *join, wksp__op_t *ret_op);
void wksp__op_end(wksp__op_t *op);

/* Spans (alloc_span.c)
 * ------------------------------------------------------------------------------- */

static inline wksp__rec_t *wksp__rec(fd_wksp_t const *wksp, uint32_t span) {
  return (wksp__rec_t *)((uintptr_t)wksp + wksp->rec_off) + span;
}

static inline wksp__pair_t *wksp__pairs(fd_wksp_t const *wksp, uint32_t span, uint32_t cls) {
  uint32_t off = wksp__classes[cls].pair_off;
  if (!off) return wksp__rec(wksp, span)->inl;
  return (wksp__pair_t *)((uintptr_t)wksp + wksp__span_gaddr(wksp, span) + off);
}

/* The bits of word w that are no blocks. */
static inline uint64_t wksp__tail(uint32_t cls, uint32_t w) {
  uint32_t cnt = wksp__classes[cls].blk_cnt;
  return w == wksp__classes[cls].word_cnt - 1 && (cnt & 63U) ? ~0UL << (cnt & 63U) : 0UL;
}

static inline uint64_t wksp__all_words(uint32_t cls) {
  uint32_t cnt = wksp__classes[cls].word_cnt;
  return cnt == 64 ? ~0UL : (1UL << cnt) - 1UL;
}

/* Whether a span of that word has blocks: OWNED, FULL or PENDING, of a known class. */
static inline int wksp__span_live(uint64_t e) {
  uint32_t state = SPAN_STATE(e);
  return state >= WKSP_SPAN_OWNED && state <= WKSP_SPAN_PENDING && SPAN_CLASS(e) < WKSP_CLASS_CNT;
}

/* Live blocks in a span. */
uint32_t wksp__span_used(fd_wksp_t const *wksp, uint32_t span, uint32_t cls);

/* A block of the class from the operation's heap, 0 if there is no memory (reported). */
uint64_t wksp__span_malloc(wksp__op_t *op, uint32_t cls);

/* Frees the block at gaddr, whose span's word is e. 0, or E_NOTFOUND if it is no live block (not
 * reported). */
int wksp__span_free(wksp__op_t *op, uint64_t gaddr, uint64_t e);

/* Brings what others have told into the heap's lists. */
void wksp__span_drain(wksp__op_t *op, wksp__heap_t *heap, uint32_t heap_id);

/* Gives a wholly free OWNED span in no list back to the alloc's pool. */
void wksp__span_retire(wksp__op_t *op, uint32_t span, uint64_t e);

/* Notes a span in POOL where the next who needs one looks. */
void wksp__pool_note(struct fd_alloc *alloc, uint32_t span);

void wksp__list_push(fd_wksp_t *wksp, uint32_t *head, uint32_t span, uint32_t list);
void wksp__list_remove(fd_wksp_t *wksp, uint32_t *head, uint32_t span);

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

/* Makes all caches of a heap that the caller owns from the truth. Wholly free spans go to the pool.
 * Returns how many spans it has then. */
uint32_t wksp__heap_rebuild(wksp__op_t *op, wksp__heap_t *heap, uint32_t id);

/* Moves spans of heaps that were left behind to the operation's heap. 1 if any came. */
int wksp__heap_inherit(wksp__op_t *op);

/* The word that makes a heap the caller's; never the same twice for a slot's generation, up to
 * 4,096 times. */
uint64_t wksp__heap_owner_word(wksp__call_t *call);

/* Takes a heap from whoever owns it, a living thread under its gate: 1 and its owner word, 0 if
   that thread is inside a call and could not be waited for (alloc_compact.c). */
int wksp__heap_take(wksp__op_t *op, wksp__heap_t *heap, uint64_t *ret_word,
                    fd_alloc_compacted_t *sum);

/* Whether the directory still lists the heap whose owner word is at owner, for that alloc. */
int wksp__heap_listed(fd_wksp_t const *wksp, uint32_t id, uint64_t const *owner);

/* Frees everything of the alloc with that home, then the home (alloc_compact.c). */
int wksp__alloc_clear(wksp__call_t *call, uint32_t home);

/* For the slots (alloc_heap.c)
 * ------------------------------------------------------------------------ */

/* Notes the block at gaddr, which a dead thread had in flight, as suspect of its alloc, if it is a
   live block. The caller has a name; the lock may be taken. 0, or E_TIMEDOUT: not noted yet. */
int wksp__alloc_bury(wksp__call_t *call, uint64_t gaddr);

/* Gives back slots of the dead; lease: an ended one, 0 none. 0 or an error of call_begin. */
int wksp__reap(fd_wksp_t *wksp, uint64_t lease);

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
