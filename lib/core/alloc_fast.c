/* alloc_fast: malloc and free as they usually go: the thread has a heap of this fd_alloc, and the
   magazine of the class has a block, or room for one.

   Problem: a pair should cost a few nanoseconds, and a kill at any of its instructions may lose
   nothing but the block that it is about.

   Model. What is needed lies in thread-local memory (wksp__fast, map.h) and in three lines of
   shared memory: the slot, the magazine's, and the array's top. The slot's flight is the bracket
   and the memory of the block at once, and no word is ever changed by more than one plain store:

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
   barrier and his load of flight, as `in` and `out` do for other calls (call.h). A closed gate, a
   notice in it, a signal handler that finds its thread inside, an empty or a full magazine, a large
   or invalid request and everything unusual lead to the long forms in alloc.c, which begin anew.

   Blocks of other heaps' spans go into the freer's own magazine, whatever their size: blocks below
   64 bytes may so come to share lines between threads, which costs less than an atomic each.

   What it refuses: to read the pair of a block that is freed. */

#include "core/alloc.h"
#include "core/map.h"

#include <stddef.h>

#define HANDLE(join) ((uintptr_t)(join) & ~(FD_ALLOC_ALIGN - 1))

/* The thread's slot, or one that is always busy: also in a child of fork, whose seats are wiped
   (live.h), so that it stays away from its parent's. */
#define SLOT(off) ((wksp__slot_t *)((uintptr_t)&wksp__no_slot + *(off)))
#define INLINE    static inline __attribute__((always_inline))
#define NOINLINE  __attribute__((noinline))

/* Where the magazine of a class lies in a heap, and where its index stands in a span's word. */
#define MAG_AT(cls)   ((uint32_t)(offsetof(wksp__heap_t, mag) + (cls) * sizeof(wksp__mag_t)))
#define MAG(heap, at) ((wksp__mag_t *)((uintptr_t)(heap) + (at)))
#define BUSY_TOP      ((uint32_t)(WKSP_FLIGHT_BUSY | WKSP_FLIGHT_TOP))

static NOINLINE void *malloc_long(fd_alloc_t *join, ulong align, ulong sz) {
  ulong max;
  return wksp__malloc(join, align, sz, &max);
}

/* Comes in: the heap, or NULL if fast is off, the thread is inside a call already, the gate is not
   open, or fast is about another join. A signal handler before the first store may have come
   through the gate in our place, and found that the heap is no longer ours, or turned to another
   fd_alloc; later on it may turn to one of another workspace, where it finds the thread outside. So
   what fast says is read inside, and the join last: it does not come back to ours while we are
   inside. Nor may the slot be another workspace's, from which a handler has turned to ours.
   Afterwards fast is not looked at any more: it may be off, or about another.

   The plain loads of what others store: between two compiler fences it is one load, and may be part
   of the instruction that needs it. */
INLINE wksp__heap_t *enter(wksp__fast_t const *fast, uintptr_t join, uint64_t flight,
                           wksp__slot_t **ret_slot, uintptr_t *ret_base) {
  uintptr_t const *slot_off = fast->slot_off;
  wksp__slot_t *slot = SLOT(slot_off);
  if (wksp__unlikely(slot->flight & WKSP_FLIGHT_BUSY)) return NULL; /* only we write it */
  wksp__st(&slot->flight, flight);
  wksp__heap_t *heap = fast->heap;
  uintptr_t base = fast->base;
  wksp__compiler_fence();
  if (wksp__likely(!wksp__peek(&slot->gate)) && wksp__likely(fast->slot_off == slot_off) &&
      wksp__likely(fast->join == join)) {
    *ret_slot = slot;
    *ret_base = base;
    return heap;
  }
  wksp__st_release(&slot->flight, 0UL);
  return NULL;
}

/* release: what was done to the heap comes before; pairs with the acquire in slot_outside */
INLINE void leave(wksp__slot_t *slot, uint64_t flight) {
  wksp__st_release(&slot->flight, flight);
}

/* Keeps a value in its register: the compiler would compute it anew after every store. */
#define KEEP(x) __asm__("" : "+r"(x))

/* In a build by gcc with its sanitizers the address is hidden from it: its check for NULL, of a
   thread-local variable's address, can branch on flags that are not about it (gcc 12.2). */
#ifdef __SANITIZE_ADDRESS__
#define FAST()                            \
  ({                                      \
    wksp__fast_t const *at = &wksp__fast; \
    KEEP(at);                             \
    at;                                   \
  })
#else
#define FAST() (&wksp__fast)
#endif

/* From the mask, inside; else the long form. */
static NOINLINE void *malloc_masked(fd_alloc_t *join, ulong align, ulong sz, wksp__slot_t *slot,
                                    wksp__mag_t *mag, uintptr_t base) {
  uint64_t mask = mag->mask;
  if (wksp__likely(mask)) {
    uint64_t gaddr = mag->mbase + (uint64_t)(uint32_t)__builtin_ctzl(mask) * mag->size;
    wksp__st(&slot->flight, gaddr | WKSP_FLIGHT_BUSY);
    wksp__st(&mag->mask, mask & (mask - 1));
    leave(slot, gaddr);
    return (void *)(base + gaddr);
  }
  leave(slot, 0);
  return malloc_long(join, align, sz);
}

/* A block of the class whose magazine lies at `at` less the flight's bits in the heap. */
INLINE void *take(wksp__fast_t const *fast, fd_alloc_t *join, ulong align, ulong sz, uint32_t at) {
  wksp__slot_t *slot;
  uintptr_t base;
  wksp__heap_t *heap = enter(fast, (uintptr_t)join, at, &slot, &base);
  if (wksp__unlikely(!heap)) return malloc_long(join, align, sz);
  wksp__mag_t *mag = MAG(heap, at - BUSY_TOP);
  KEEP(mag);
  uint32_t top = mag->top;
  if (wksp__unlikely(top <= mag->lo)) return malloc_masked(join, align, sz, slot, mag, base);
  top -= 8;
  uint64_t gaddr = *(uint64_t *)((uintptr_t)heap + top);
  wksp__st(&mag->top, top);
  leave(slot, gaddr);
  return (void *)(base + gaddr);
}

/* Alignments that every class has. */
INLINE int plain(ulong align) {
  return align <= 16 && (0x10117UL >> align & 1UL);
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
  uint64_t in_span = gaddr & mag->in_span, top = mag->top, recip = mag->recip;
  uint64_t *at = (uint64_t *)((uintptr_t)heap + top);
  if (wksp__likely(in_span * recip < recip && (uint32_t)in_span < mag->limit && top < mag->hi &&
                   at[-1] != gaddr && at[-2] != gaddr && at[-3] != gaddr && at[-4] != gaddr)) {
    wksp__st(at, gaddr);
    wksp__st(&mag->top, (uint32_t)top + 8);
    leave(slot, 0);
    return 1;
  }
  leave(slot, 0);
  return 0;
}

/* Blocks of other heaps' spans, another hint, and what the short form could not do. */
static NOINLINE void free_other(fd_alloc_t *join, void *laddr) {
  wksp__fast_t const *fast = FAST();
  uintptr_t own = wksp__ld(&fast->join), base = wksp__ld(&fast->base), now;
  fd_wksp_t *wksp = (fd_wksp_t *)base;
  uint64_t gaddr = (uintptr_t)laddr - base;
  wksp__slot_t *slot;
  if (HANDLE(join) == HANDLE(own) && gaddr < fast->data_hi) {
    uint32_t span;
    uint64_t e = gaddr < wksp->data_lo ? 0 : wksp__span_look(wksp, gaddr, &span);
    int mine = (uint32_t)e - fast->me < WKSP_CLASS_CNT << 4;
    wksp__heap_t *heap = wksp__span_live(e) && (!mine || (uintptr_t)join != own)
                             ? enter(fast, own, gaddr | WKSP_FLIGHT_BUSY, &slot, &now)
                             : NULL;
    if (heap) {
      /* Inside, so that the heap is there as long as we look at it. */
      if (now != base || !wksp__heap_of(wksp, SPAN_HEAP(e), HANDLE(own) - base))
        leave(slot, 0);
      else if (put(slot, heap, &heap->mag[SPAN_CLASS(e)], gaddr))
        return;
    }
  }
  wksp__free(join, laddr);
}

/* The same for the rest of a wide span: what the word of its head says. */
INLINE uint64_t mine_of_tail(wksp__fast_t const *fast, uint64_t gaddr, uint32_t word) {
  uint32_t cls = (word - fast->tails) >> 4;
  if (wksp__unlikely(cls >= WKSP_CLASS_CNT || (word & 15U) != WKSP_SPAN_TAIL)) return ~0UL;
  uint32_t at = (uint32_t)(gaddr >> WKSP_SPAN_LG) & ~0U << fast->classes[cls].lg;
  uint32_t mine = (uint32_t)wksp__peek(&fast->words[at]) - fast->me;
  return mine >> 4 == cls ? mine : ~0UL;
}

/* A block of a span of ours. 1 free, 0 if that takes another form. */
INLINE int free_own(fd_alloc_t *join, void *laddr) {
  wksp__fast_t const *fast = FAST();
  uint64_t gaddr = (uintptr_t)laddr - fast->base;
  if (wksp__likely(gaddr < fast->data_hi)) {
    /* No acquire: a span of ours is as we have made it. Where it is another's, or off, nothing has
       been done yet when enter finds out. */
    uint32_t word = (uint32_t)wksp__peek(&fast->words[gaddr >> WKSP_SPAN_LG]);
    uint64_t mine = word - fast->me;
    if (wksp__unlikely(mine >= WKSP_CLASS_CNT << 4)) mine = mine_of_tail(fast, gaddr, word);
    if (wksp__likely(mine < WKSP_CLASS_CNT << 4)) {
      wksp__slot_t *slot;
      uintptr_t base;
      wksp__heap_t *heap = enter(fast, (uintptr_t)join, gaddr | WKSP_FLIGHT_BUSY, &slot, &base);
      if (wksp__likely(heap)) {
        wksp__mag_t *mag = MAG(heap, MAG_AT(0) + (mine & ~15UL) * (sizeof(wksp__mag_t) / 16));
        KEEP(mag);
        return put(slot, heap, mag, gaddr);
      }
    }
  }
  return 0;
}

void fd_alloc_free(fd_alloc_t *join, void *laddr) {
  if (wksp__likely(free_own(join, laddr))) return;
  free_other(join, laddr);
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
  free_other(join, laddr);
}
