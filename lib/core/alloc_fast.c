/* alloc_fast: malloc and free as they usually go: the thread has a heap of this fd_alloc, and the
   magazine of the class has a block, or room for one.

   Problem: a pair should cost a few nanoseconds, and a kill at any of its instructions may lose
   nothing but the block that it is about.

   Model. What is needed lies in a line of the thread's seat (wksp__fast_t, seat.h) and in three
   lines of shared memory: the slot, the magazine's, and the array's top. The slot's flight is the
   bracket and the memory of the block at once, and no word is ever changed by more than one plain
   store:

     malloc   flight = BUSY | TOP      inside, about the array of a class; then the gate
              top                      the block is taken
              flight = block           outside; the suspect until the thread's next call

     from the mask, where the place above the array's top does not say which block it was:
              flight = block | BUSY    from here on a kill makes it a suspect
              mask                     the block is taken
              flight = block           outside

     free     flight = block | BUSY    inside; then the gate
              entry, top               the block is free
              flight = 0               outside

   The stores to flight and the loads of the gate pair with a closer's store to the gate, his
   barrier and his load of flight, as `in` and `out` do for other calls (call.h). An array is empty
   where the place below its top holds 0. A gate that does not name the join of the call and the
   heap, for it is closed, or has a notice, or is about another fd_alloc, a signal handler that
   finds its thread inside, a large or invalid request and everything unusual lead to the long forms
   in alloc.c, which begin anew. An empty or a full magazine leads out of the bracket and into an
   operation as the long forms are, only begun by what fast says; a full one gets the block, then
   gives back, so that a kill has nothing but one block in flight at any time.

   What a pair costs is the number of its instructions: some 85, four to five a cycle. Taking away
   the stores to flight saves nothing, each check what its instructions cost.

   Blocks of other heaps' spans go into the freer's own magazine, whatever their size: blocks below
   64 bytes may so come to share lines between threads, which costs less than an atomic each.

   What it refuses: to read the pair of a block that is freed, and a second span word. */

#include "core/alloc.h"
#include "core/map.h"

#include <stddef.h>

#define HANDLE(join) ((uintptr_t)(join) & ~(FD_ALLOC_ALIGN - 1))

#define INLINE   static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))

/* Once for a call: a signal handler may change it. */
#define FAST() __atomic_load_n(&wksp__fast, __ATOMIC_RELAXED)

/* Where the magazine of a class lies in a heap, and where its index stands in a span's word. */
#define MAG_AT(cls)   ((uint32_t)(offsetof(wksp__heap_t, mag) + (cls) * sizeof(wksp__mag_t)))
#define MAG(heap, at) ((wksp__mag_t *)((uintptr_t)(heap) + (at)))
#define BUSY_TOP      ((uint32_t)(WKSP_FLIGHT_BUSY | WKSP_FLIGHT_TOP))

static NOINLINE void *malloc_long(fd_alloc_t *join, ulong align, ulong sz) {
  ulong max;
  return wksp__malloc(join, align, sz, &max);
}

/* Comes in: 1 and the heap, or 0 if fast is off, the thread is inside a call already, or the gate
   does not name the join and the heap. A signal handler before the first store may have come
   through the gate in our place, and found that the heap is no longer ours, or turned to another
   fd_alloc; then the gate names none, or that. So what fast says is read inside, and the gate last:
   it does not come to name ours while we are inside. Only the seat's slot does not change. A child
   of fork finds no slot, or if a handler of ours forked, no heap, for its seats are wiped (live.h),
   and stays away from its parent's. Afterwards fast is not looked at any more.

   The plain loads of what others store: between two compiler fences it is one load, and may be part
   of the instruction that needs it. */
INLINE int enter(wksp__fast_t const *fast, uintptr_t join, uint64_t flight, wksp__slot_t **ret_slot,
                 wksp__heap_t **ret_heap, uintptr_t *ret_base) {
  wksp__slot_t *slot = fast->slot;
  if (wksp__unlikely(!slot) || wksp__unlikely(slot->flight & WKSP_FLIGHT_BUSY)) /* only we write */
    return 0;
  wksp__st(&slot->flight, flight);
  *ret_slot = slot;
  *ret_heap = fast->heap;
  *ret_base = fast->base;
  wksp__compiler_fence();
  if (wksp__likely(wksp__peek(&slot->gate) == wksp__fast_key(join, *ret_heap))) return 1;
  wksp__st_release(&slot->flight, 0UL);
  return 0;
}

/* release: what was done to the heap comes before; pairs with the acquire in slot_outside */
INLINE void leave(wksp__slot_t *slot, uint64_t flight) {
  wksp__st_release(&slot->flight, flight);
}

/* Keeps a value in its register: the compiler would compute it anew after every store. */
#define KEEP(x) __asm__("" : "+r"(x))

/* Begins an operation as wksp__op_begin and wksp__heap_peek do, if fast still is about the join,
   the thread outside and nothing unusual: 1, and op_end must follow; else 0. Fast does not change
   meanwhile: a call of a handler has another slot. */
static int op_begin(wksp__fast_t *fast, uintptr_t join, wksp__op_t *ret_op) {
  wksp__slot_t *slot = fast->slot;
  if (!slot || !wksp__slot_outside(slot)) return 0;
  wksp__slot_in(slot); /* then the gate, as in call_begin */
  if (wksp__ld(&slot->fenced) || wksp__ld(&slot->gate) != wksp__fast_key(join, fast->heap) ||
      fast->join != join) {
    wksp__st(&slot->in, wksp__ld(&slot->in) - 1);
    return 0;
  }
  wksp__seat_t *seat = (wksp__seat_t *)((uintptr_t)fast - offsetof(wksp__seat_t, fast));
  struct fd_alloc *alloc = (struct fd_alloc *)HANDLE(join);
  wksp__op_t *op = ret_op;
  op->call = (wksp__call_t){seat->wksp, slot, seat->name, seat};
  op->wksp = seat->wksp;
  op->join = (fd_alloc_t *)join;
  op->alloc = alloc;
  op->alloc_gaddr = (uintptr_t)alloc - fast->base;
  op->heap = fast->heap;
  op->heap_id = seat->heap[0].id; /* see fast_on (alloc.c) */
  op->sent_cnt = op->late_cnt = 0;
  wksp__fast_set(&wksp__fast_none);
  return 1;
}

/* The heap is still the thread's, which it would lose to a closed gate only: fast is as it was. */
static void op_end(wksp__fast_t *fast, wksp__op_t *op) {
  wksp__fast_set(fast);
  wksp__call_end(&op->call);
  if (wksp__unlikely(op->late_cnt)) wksp__bad_late_tell(op);
}

/* Both the array and the mask are empty. */
static NOINLINE void *malloc_refill(fd_alloc_t *join, ulong align, ulong sz) {
  wksp__op_t op;
  uint32_t cls = wksp__class_for(align, sz);
  wksp__fast_t *fast = FAST();
  if (!op_begin(fast, (uintptr_t)join, &op)) return malloc_long(join, align, sz);
  /* Its spans are of other classes. */
  uint64_t gaddr = op.alloc->flags & FD_ALLOC_FLAG_ALIGNED ? 0 : wksp__mag_malloc(&op, cls);
  op_end(fast, &op);
  return gaddr ? fd_wksp_laddr_fast(op.wksp, gaddr) : malloc_long(join, align, sz);
}

/* The array is full, or the block none. 1 free, 0 if that takes the long form. */
static int free_full(wksp__fast_t *fast, uintptr_t join, uint64_t gaddr, uint32_t span,
                     uint64_t e) {
  wksp__op_t op;
  if (!op_begin(fast, join, &op)) return 0;
  int err = WKSP_E_NOTFOUND;
  if (SPAN_HEAP(e) == op.heap_id || wksp__heap_of(op.wksp, SPAN_HEAP(e), op.alloc_gaddr))
    err = wksp__mag_free(&op, gaddr, span, e);
  op_end(fast, &op);
  return !err;
}

/* A block of the class whose magazine lies at `at` less the flight's bits in the heap. */
INLINE void *take(wksp__fast_t const *fast, fd_alloc_t *join, ulong align, ulong sz, uint32_t at) {
  wksp__slot_t *slot;
  wksp__heap_t *heap;
  uintptr_t base;
  if (wksp__unlikely(!enter(fast, (uintptr_t)join, at, &slot, &heap, &base)))
    return malloc_long(join, align, sz);
  wksp__mag_t *mag = MAG(heap, (uintptr_t)at - BUSY_TOP);
  uint32_t top = mag->top - 8;
  uint64_t gaddr = *(uint64_t *)((uintptr_t)heap + top);
  if (wksp__unlikely(!gaddr)) { /* the array is empty */
    uint64_t mask = mag->mask;
    if (wksp__unlikely(!mask)) {
      leave(slot, 0);
      return malloc_refill(join, align, sz);
    }
    gaddr = mag->mbase + (uint64_t)(uint32_t)__builtin_ctzl(mask) * mag->size;
    wksp__st(&slot->flight, gaddr | WKSP_FLIGHT_BUSY);
    wksp__st(&mag->mask, mask & (mask - 1));
    leave(slot, gaddr);
    return (void *)(base + gaddr);
  }
  wksp__st(&mag->top, top);
  leave(slot, gaddr);
  return (void *)(base + gaddr);
}

/* Alignments that every class has; the first two are what most programs ask for. */
INLINE int plain(ulong align) {
  return !(align & ~16UL) || (align <= 8 && (0x116UL >> align & 1UL));
}

/* Other alignments, another hint, and what the short form could not do. */
static NOINLINE void *malloc_other(fd_alloc_t *join, ulong align, ulong sz) {
  wksp__fast_t const *fast = FAST();
  uintptr_t own = wksp__ld(&fast->join); /* once: a signal handler may change it */
  if (HANDLE(join) == HANDLE(own) && sz && !(align & (align - 1)) &&
      ((uintptr_t)join != own || !plain(align))) {
    uint32_t cls = wksp__class_for(align, sz);
    if (cls < WKSP_CLASS_CNT)
      return take(fast, (fd_alloc_t *)own, align, sz, MAG_AT(cls) | BUSY_TOP);
  }
  return malloc_long(join, align, sz);
}

void *fd_alloc_malloc(fd_alloc_t *join, ulong align, ulong sz) {
  if (wksp__likely(sz - 1 < FD_ALLOC_SMALL_MAX && plain(align)))
    return take(FAST(), join, align, sz, wksp__mag_off[(sz - 1) >> 4]);
  return malloc_other(join, align, sz);
}

void *fd_alloc_malloc_at_least(fd_alloc_t *join, ulong align, ulong sz, ulong *ret_max) {
  if (wksp__likely(sz - 1 < FD_ALLOC_SMALL_MAX && plain(align))) {
    void *ret = take(FAST(), join, align, sz, wksp__mag_off[(sz - 1) >> 4]);
    *ret_max = ret ? wksp__class_size(wksp__class_of[(sz + 15) >> 4]) : 0;
    return ret;
  }
  return wksp__malloc(join, align, sz, ret_max);
}

/* Puts the block into the magazine of its class; inside. 1 free, 0 if that takes the long form;
   outside again. */
INLINE int put(wksp__slot_t *slot, wksp__heap_t *heap, wksp__mag_t *mag, uint64_t gaddr) {
  KEEP(mag);
  uint64_t top = mag->top, in_span = gaddr & mag->in_span;
  uint64_t *at = (uint64_t *)((uintptr_t)heap + top);
  if (wksp__likely(wksp__starts(in_span, mag->recip) && top < mag->hi && at[-1] != gaddr &&
                   at[-2] != gaddr && at[-3] != gaddr && at[-4] != gaddr)) {
    wksp__st(at, gaddr);
    wksp__st(&mag->top, (uint32_t)top + 8);
    leave(slot, 0);
    return 1;
  }
  leave(slot, 0);
  return 0;
}

/* Blocks of other heaps' spans, another hint, and full arrays. 1 free, 0 if that takes the long
   form. */
static int free_try(wksp__fast_t *fast, fd_alloc_t *join, void *laddr) {
  uintptr_t own = wksp__ld(&fast->join), base = wksp__ld(&fast->base), now;
  fd_wksp_t *wksp = (fd_wksp_t *)base;
  uint64_t gaddr = (uintptr_t)laddr - base;
  if (HANDLE(join) != HANDLE(own) || gaddr >= fast->data_hi || gaddr < wksp->data_lo) return 0;
  uint32_t span;
  uint64_t e = wksp__span_look(wksp, gaddr, &span);
  if (!wksp__span_live(e)) return 0;
  wksp__slot_t *slot;
  wksp__heap_t *heap;
  if ((uint32_t)e - fast->me >= WKSP_CLASS_CNT << 4 || (uintptr_t)join != own) {
    if (!enter(fast, own, gaddr | WKSP_FLIGHT_BUSY, &slot, &heap, &now)) return 0;
    /* Inside, so that the heap is there as long as we look at it. */
    if (now != base || !wksp__heap_of(wksp, SPAN_HEAP(e), HANDLE(own) - base)) {
      leave(slot, 0);
      return 0;
    }
    if (put(slot, heap, &heap->mag[SPAN_CLASS(e)], gaddr)) return 1;
  } /* else free_own has tried */
  return free_full(fast, own, gaddr, span, e);
}

/* Whether the directory lists a heap of the join's fd_alloc under that id; inside, so that it is
   there as long as we look at it. heap_of, but for what only a damaged directory has. */
INLINE int of_ours(uintptr_t base, uintptr_t join, uint64_t data_hi, uint32_t id) {
  fd_wksp_t const *wksp = (fd_wksp_t *)base;
  if (id >= wksp->heap_max) return 0;
  uint64_t dir = wksp__ld_acquire(&wksp__heap_dir(wksp)[id]), at = DIR_GADDR(dir);
  if (DIR_WHAT(dir) != DIR_HEAP || at >= data_hi) return 0;
  return wksp__ld(&((wksp__heap_t *)(base + at))->alloc) == HANDLE(join) - base;
}

static NOINLINE void free_other(fd_alloc_t *join, void *laddr) {
  if (!free_try(FAST(), join, laddr)) wksp__free(join, laddr);
}

/* A block of a span of another heap: whose, is said by one word, also of the rest of a wide span
   (docs/adr/0007). */
static NOINLINE void free_theirs(fd_alloc_t *join, void *laddr) {
  wksp__fast_t const *fast = FAST();
  uint64_t gaddr = (uintptr_t)laddr - fast->base, data_hi = fast->data_hi, e = 0;
  wksp__slot_t *slot;
  wksp__heap_t *heap;
  uintptr_t base;
  if (wksp__likely(gaddr < data_hi)) e = wksp__ld_acquire(&fast->words[gaddr >> WKSP_SPAN_LG]);
  /* One that is TAKEN names no heap. */
  if (wksp__likely(SPAN_STATE(e) >= WKSP_SPAN_OWNED && SPAN_CLASS(e) < WKSP_CLASS_CNT &&
                   enter(fast, (uintptr_t)join, gaddr | WKSP_FLIGHT_BUSY, &slot, &heap, &base))) {
    if (wksp__unlikely((uintptr_t)laddr - base != gaddr ||
                       !of_ours(base, (uintptr_t)join, data_hi, SPAN_HEAP(e))))
      leave(slot, 0);
    else if (wksp__likely(put(slot, heap, MAG(heap, MAG_AT(SPAN_CLASS(e))), gaddr)))
      return;
  }
  free_other(join, laddr);
}

/* A block of a span of ours, whose words all say so, also those of a wide one. 1 free, 0 if that
   takes another form. */
INLINE int free_own(fd_alloc_t *join, void *laddr) {
  wksp__fast_t const *fast = FAST();
  uint64_t gaddr = (uintptr_t)laddr - fast->base;
  if (wksp__unlikely(gaddr >= fast->data_hi)) return 0;
  /* No acquire: a span of ours is as we have made it. Where it is another's, or off, nothing has
     been done yet when enter finds out. */
  uint32_t mine = (uint32_t)wksp__peek(&fast->words[gaddr >> WKSP_SPAN_LG]) - fast->me;
  if (wksp__unlikely(mine >= WKSP_CLASS_CNT << 4)) return 0;
  wksp__slot_t *slot;
  wksp__heap_t *heap;
  uintptr_t base;
  if (wksp__unlikely(!enter(fast, (uintptr_t)join, gaddr | WKSP_FLIGHT_BUSY, &slot, &heap, &base)))
    return 0;
  return put(slot, heap, MAG(heap, MAG_AT(0) + (mine & ~15UL) * (sizeof(wksp__mag_t) / 16)), gaddr);
}

void fd_alloc_free(fd_alloc_t *join, void *laddr) {
  if (wksp__likely(free_own(join, laddr))) return;
  free_theirs(join, laddr);
}

/* The span's word is read all the same: it says whose the block is, and its class, which sz and an
   alignment that free does not know would not. So sz could only be checked, which costs a few
   instructions that free does not have, and the caller who says more would wait longer. */
void fd_alloc_free_sized(fd_alloc_t *join, void *laddr, ulong sz) {
#ifdef WKSP_HARDENED
  if (!wksp__sized_fits(join, laddr, sz)) return;
#else
  (void)sz;
#endif
  if (wksp__likely(free_own(join, laddr))) return;
  free_theirs(join, laddr);
}
