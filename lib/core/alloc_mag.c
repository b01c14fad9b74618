/* alloc_mag: a heap's magazines: taking blocks from them, putting blocks in, and moving blocks
   between them and the pairs. alloc.h has the model.

   Problem: to take or give one block is a few plain stores; to find it in the pairs, or to tell the
   owner of another heap's span, is not. So it is done for many blocks at once.

   Model. An array of blocks, last in first out, and behind it a mask: the free blocks of one word
   of pairs, which one store to A takes. A refill looks through the current span's words: blocks of
   sparse ones go into the array, and a word that has enough becomes the mask. An overflow gives the
   upper half of the array back, so that nothing needs to be moved: neighbours in the array that are
   neighbours in a word go with one store to A, blocks of other heaps' spans as a lot with one CAS
   of F (alloc_lot.c), or one by one.

   Whoever is killed anywhere in this leaves every block but the one that his flight names in the
   pairs, in the array or in the mask; some of the heap's own in two of them. The stores of each
   function say why.

   What it refuses: to look at the pair of every block that is freed, which would cost a cache miss.
   A block that is freed twice is noticed if it is among the last four of its class, else when it
   goes back to its pair; if it was handed out twice before, it is too late. */

#include "core/alloc.h"
#include "core/alloc_give.h"
#include "core/seat.h"

#include <string.h>

/* A refill goes on to further words of the span until it has so many blocks. */
#define GATHER 16

/* An overflow asks so many entries ahead for the lines that it will need. */
#define AHEAD 8

void wksp__mag_init_class(fd_wksp_t const *wksp, wksp__heap_t *heap, uint32_t cls) {
  wksp__mag_t *mag = &heap->mag[cls];
  uint32_t lo = wksp__mag_lo(wksp, cls), size = wksp__class_size(cls);
  wksp__class_t const *info = wksp__class(wksp, cls);
  memset(wksp__mag_place(heap, lo - 8 * WKSP_MAG_BELOW), 0, 8UL * WKSP_MAG_BELOW);
  wksp__st(&mag->lo, lo);
  wksp__st(&mag->hi, wksp__mag_hi(wksp, cls));
  wksp__st(&mag->size, size);
  wksp__st(&mag->recip, wksp__recip64(size, info->blk_cnt));
  wksp__st(&mag->in_span, (uint32_t)(WKSP_SPAN_SZ << info->lg) - 1);
  wksp__st(&mag->mask, 0UL);
  wksp__st(&mag->top, lo);
}

void wksp__mag_init(fd_wksp_t const *wksp, wksp__heap_t *heap) {
  for (uint32_t cls = 0; cls < WKSP_CLASS_CNT; cls++) wksp__mag_init_class(wksp, heap, cls);
}

/* Refill
 * ----------------------------------------------------------------------------------------- */

/* As many blocks as make a refill worth its while. */
static uint32_t wanted(wksp__mag_t const *mag) {
  uint32_t half = (mag->hi - mag->lo) / 16;
  return half < GATHER ? half : GATHER;
}

/* Adds to the class's magazine, whose mask is empty, from the heap's current span: a mask, or what
   the span still has. Whether the magazine holds anything then. */
static int fill(wksp__op_t *op, uint32_t cls) {
  wksp__heap_t *heap = op->heap;
  wksp__mag_t *mag = &heap->mag[cls];
  uint32_t span = mag->cur - 1, top = mag->top;
  uint32_t want = wanted(mag), got = (top - mag->lo) / 8;
  wksp__rec_t *rec = wksp__rec(op->wksp, span);
  wksp__pair_t *pair = wksp__pairs(op->wksp, span, cls);
  for (uint64_t sum; (sum = rec->summary) != 0;) {
    uint32_t w = (uint32_t)__builtin_ctzl(sum);
    uint64_t a = wksp__ld(&pair[w].a);
    /* acquire: what the former holder of a block did to it comes before what the next does; pairs
       with the CAS in span_give_elsewhere */
    uint64_t bits = ~(a ^ wksp__ld_acquire(&pair[w].f));
    uint64_t base = wksp__span_gaddr(op->wksp, span) + (uint64_t)w * 64 * mag->size;
    uint32_t cnt = (uint32_t)__builtin_popcountl(bits);
    if (!bits) {
      wksp__st(&rec->summary, sum & (sum - 1));
      continue;
    }
    wksp__st(&rec->allfree, rec->allfree & ~(1UL << w));
    if (got + cnt >= want) {
      /* releases: who sees the place sees that the old mask was empty, who sees the mask sees its
         place; pair with the acquires in read_mask (alloc_held.c) */
      wksp__st_release(&mag->mbase, base);
      wksp__st_release(&mag->mask, bits); /* free in the mask as well as in the pair */
      wksp__st(&pair[w].a, a ^ bits);
      wksp__st(&rec->summary, sum & (sum - 1));
      return 1;
    }
    for (uint64_t rest = bits; rest; rest &= rest - 1, top += 8)
      wksp__st(wksp__mag_place(heap, top), base + (uint64_t)__builtin_ctzl(rest) * mag->size);
    got += cnt;
    wksp__st(&mag->top, top); /* free in the array as well as in the pair */
    wksp__st(&pair[w].a, a ^ bits);
    wksp__st(&rec->summary, sum & (sum - 1));
  }
  return got != 0;
}

/* Goes on to a further span if the heap has one at hand and the magazine has few blocks yet. */
static int enough(wksp__op_t *op, uint32_t cls) {
  wksp__mag_t const *mag = &op->heap->mag[cls];
  return mag->mask || (mag->top - mag->lo) / 8 >= wanted(mag) ||
         !(mag->part | op->heap->spare[wksp__class(op->wksp, cls)->lg]);
}

static int refill(wksp__op_t *op, uint32_t cls) {
  for (;;) {
    if (op->heap->mag[cls].cur) {
      if (fill(op, cls) && enough(op, cls)) return 0;
      if (!wksp__span_aside(op, cls)) continue;
    }
    int err = wksp__span_next(op, cls);
    if (err) return err;
  }
}

/* A block of the class that the magazine holds, 0 if it is empty. */
static uint64_t pop(wksp__op_t *op, uint32_t cls) {
  wksp__mag_t *mag = &op->heap->mag[cls];
  uint32_t top = mag->top;
  uint64_t gaddr;
  if (top > mag->lo) {
    gaddr = wksp__ld(wksp__mag_place(op->heap, top - 8));
    wksp__st(&op->call.slot->flight, gaddr);
    wksp__st(&mag->top, top - 8); /* taken from here on */
    return gaddr;
  }
  uint64_t mask = mag->mask;
  if (!mask) return 0;
  gaddr = mag->mbase + (uint64_t)__builtin_ctzl(mask) * mag->size;
  wksp__st(&op->call.slot->flight, gaddr);
  wksp__st(&mag->mask, mask & (mask - 1)); /* taken from here on */
  return gaddr;
}

uint64_t wksp__mag_malloc(wksp__op_t *op, uint32_t cls) {
  for (;;) {
    uint64_t gaddr = pop(op, cls);
    if (gaddr) return gaddr;
    if (refill(op, cls)) return pop(op, cls);
  }
}

uint64_t wksp__mag_peek(wksp__op_t *op, uint32_t cls) {
  wksp__mag_t const *mag = &op->heap->mag[cls];
  if (mag->top == mag->lo && !mag->mask) (void)refill(op, cls); /* may get some and report, too */
  if (mag->top > mag->lo) return wksp__ld(wksp__mag_place(op->heap, mag->top - 8));
  return mag->mask ? mag->mbase + (uint64_t)__builtin_ctzl(mag->mask) * mag->size : 0;
}

/* Overflow
 * --------------------------------------------------------------------------------------- */

/* A span of the workspace at gaddr and its word; 0 for an address that is none of a block. */
static uint64_t span_at(fd_wksp_t *wksp, uint64_t gaddr, uint32_t *ret_span) {
  if (gaddr < wksp->data_lo || gaddr >= wksp->data_hi) return 0;
  return wksp__span_look(wksp, gaddr, ret_span);
}

/* Entries of an array that are different blocks of one word. */
typedef struct run {
  uint32_t span, w;
  uint64_t bits;
  int own; /* the span is of the array's heap */
} run_t;

/* The topmost ones of the array, down to the one at `to`: how many bytes of the array they take, 0
   if the topmost is no block of the class. */
static uint32_t run_of(wksp__op_t *op, wksp__heap_t *heap, uint32_t id, uint32_t cls, uint32_t top,
                       uint32_t to, run_t *ret_run) {
  uint32_t len = 0, span = 0, w = 0;
  uint64_t bits = 0, in_span = (WKSP_SPAN_SZ << wksp__class(op->wksp, cls)->lg) - 1;
  while (top - len > to) {
    uint64_t gaddr = wksp__ld(wksp__mag_place(heap, top - len - 8));
    if (!len) {
      uint64_t e = span_at(op->wksp, gaddr, &span);
      if (!wksp__span_live(e) || SPAN_CLASS(e) != cls) return 0;
      ret_run->own = SPAN_HEAP(e) == id;
    } else if ((gaddr & ~in_span) != wksp__span_gaddr(op->wksp, span)) {
      break;
    }
    uint32_t blk = wksp__blk_of(op->wksp, gaddr, cls);
    if (blk == UINT32_MAX || (len && blk / 64 != w) || (bits & 1UL << (blk & 63U))) break;
    w = blk / 64;
    bits |= 1UL << (blk & 63U);
    len += 8;
  }
  ret_run->span = span;
  ret_run->w = w;
  ret_run->bits = bits;
  return len;
}

/* The topmost entry, which is no block of the heap's spans: off the array, then to its pair. It is
   in flight between the two, for its owner may hand it out once it is free in its pair. */
static int send(wksp__op_t *op, wksp__heap_t *heap, wksp__mag_t *mag, uint32_t top) {
  uint64_t gaddr = wksp__ld(wksp__mag_place(heap, top - 8));
  uint32_t span = 0;
  wksp__st(&op->call.slot->flight, gaddr);
  wksp__st(&mag->top, top - 8);
  uint64_t e = span_at(op->wksp, gaddr, &span);
  return wksp__span_live(e) ? wksp__span_give_elsewhere(op, gaddr, span, e) : WKSP_E_NOTFOUND;
}

/* The same for many, with one CAS of the pair: 1, or 0 if that cannot be now. */
static int send_lot(wksp__op_t *op, wksp__mag_t *mag, uint32_t to, run_t const *run,
                    uint64_t *ret_twice) {
  wksp__st(&op->call.slot->flight, 0UL); /* what was sent before */
  return wksp__lot_send(op, &mag->top, to, run->span, run->w, run->bits, ret_twice);
}

/* run_of for the operation's heap in good order, whose entries have been looked at when they were
   put in; *ret_e: the span's word. */
static inline uint32_t run_own(wksp__op_t *op, wksp__giver_t const *giver, uint32_t me,
                               uint32_t top, uint32_t to, run_t *ret_run, uint64_t *ret_e) {
  uint64_t const *entry = wksp__mag_place(op->heap, top), *end = wksp__mag_place(op->heap, to);
  uint64_t const *start = entry--;
  uint64_t gaddr = *entry, recip = giver->recip, off = gaddr & giver->in_span;
  uint32_t span = wksp__span_of(op->wksp, gaddr - off);
  uint64_t e = wksp__ld(&wksp__span_words(op->wksp)[span]);
  ret_run->own = (uint32_t)e - me <= WKSP_SPAN_PENDING - WKSP_SPAN_OWNED;
  if (wksp__unlikely(!ret_run->own && !(wksp__span_live(e) && !((e ^ me) >> 4 & 255U)))) return 0;
  uint64_t blk = off * recip >> 32, w = blk >> 6, bits = 1UL << (blk & 63U);
  /* The word's blocks, the last one's fewer: what is behind them in the span is none of one. */
  uint64_t first = gaddr - off + w * giver->in_word, in_word = giver->in_word;
  if (in_word > giver->in_span + 1 - w * in_word) in_word = giver->in_span + 1 - w * in_word;
  for (; entry != end && (off = entry[-1] - first) < in_word; entry--)
    bits |= 1UL << (off * recip >> 32 & 63U);
  if (start - entry > 1 && wksp__unlikely(__builtin_popcountl(bits) != start - entry)) {
    bits = 0; /* one is there twice: the run ends before it */
    for (entry = start;; entry--) {
      uint64_t bit = 1UL << ((entry[-1] - first) * recip >> 32 & 63U);
      if (bits & bit) break;
      bits |= bit;
    }
  }
  ret_run->span = span;
  ret_run->w = (uint32_t)w;
  ret_run->bits = bits;
  *ret_e = e;
  return top - (uint32_t)((uintptr_t)entry - (uintptr_t)op->heap);
}

/* What will be needed of the entries a little further down: blocks that were freed in no order have
   each another span, whose lines come one by one otherwise. */
static inline void look_ahead(wksp__op_t *op, wksp__giver_t const *giver, uint32_t top,
                              uint32_t to) {
  if (top < to + 8 * AHEAD) return;
  uint64_t gaddr = *wksp__mag_place(op->heap, top - 8 * AHEAD), off = gaddr & giver->in_span;
  uint32_t span = wksp__span_of(op->wksp, gaddr - off);
  wksp__rec_t *rec = wksp__rec(op->wksp, span);
  __builtin_prefetch(rec, 1);
  __builtin_prefetch(wksp__giver_pair(op, giver, rec, span, (uint32_t)(off * giver->recip >> 38)),
                     1);
}

/* Gives what the array of the operation's heap holds above `to` back. Blocks that were free already
   had been freed twice. */
static void give_back(wksp__op_t *op, uint32_t cls, uint32_t to) {
  wksp__mag_t *mag = &op->heap->mag[cls];
  wksp__giver_t giver = wksp__giver(op->wksp, cls);
  uint32_t top = mag->top, me = (uint32_t)SPAN_WORD(0, op->heap_id, cls, WKSP_SPAN_OWNED);
  while (top > to) {
    run_t run = {0};
    uint64_t twice = 0, e = 0;
    uint32_t len = run_own(op, &giver, me, top, to, &run, &e);
    if (len == 8) look_ahead(op, &giver, top, to);
    if (wksp__likely(len && run.own)) {
      twice = wksp__giver_give(op, &giver, run.span, e, run.w, run.bits);
      top -= len;
      wksp__st(&mag->top, top); /* till here free in the pair and in the array */
      wksp__giver_given(op, &giver, run.span);
    } else if (len >= 8 * WKSP_LOT_MIN && send_lot(op, mag, top - len, &run, &twice)) {
      top -= len;
    } else {
      uint64_t gaddr = *wksp__mag_place(op->heap, top - 8);
      if (wksp__unlikely(send(op, op->heap, mag, top))) wksp__bad_late(op, gaddr, cls);
      top -= 8;
    }
    if (wksp__unlikely(twice)) wksp__bad_late_word(op, run.span, cls, run.w, twice);
  }
  wksp__st(&op->call.slot->flight, 0UL);
}

void wksp__mag_drain(wksp__op_t *op) {
  for (uint32_t cls = 0; cls < WKSP_CLASS_CNT; cls++) {
    wksp__mag_t *mag = &op->heap->mag[cls];
    give_back(op, cls, mag->lo);
    uint64_t mask = mag->mask;
    if (!mask) continue;
    uint32_t span = wksp__span_of(op->wksp, mag->mbase & ~(uint64_t)mag->in_span);
    wksp__span_give(op, span, wksp__blk_of(op->wksp, mag->mbase, cls) / 64, mask);
    wksp__st(&mag->mask, 0UL); /* till here free in the pair and in the mask */
    wksp__span_given(op, span);
  }
}

/* Gives the better part of a full array back. */
static void overflow(wksp__op_t *op, uint32_t cls) {
  wksp__mag_t const *mag = &op->heap->mag[cls];
  give_back(op, cls, mag->lo + (mag->hi - mag->lo) / 16 * 8);
}

void wksp__mag_room(wksp__op_t *op, uint32_t cls) {
  wksp__mag_t const *mag = &op->heap->mag[cls];
  if (mag->top >= mag->hi) overflow(op, cls);
}

int wksp__mag_free(wksp__op_t *op, uint64_t gaddr, uint32_t span, uint64_t e) {
  uint32_t cls = SPAN_CLASS(e);
  wksp__heap_t *heap = op->heap;
  /* Before flight has it: an odd address there would read as a thread inside the short forms. */
  if (wksp__blk_of(op->wksp, gaddr, cls) == UINT32_MAX) return WKSP_E_NOTFOUND;
  if (!heap) {
    wksp__st(&op->call.slot->flight, gaddr);
    int err = wksp__span_give_elsewhere(op, gaddr, span, e);
    wksp__st(&op->call.slot->flight, 0UL); /* it may be another's from here on */
    return err;
  }
  wksp__mag_t *mag = &heap->mag[cls];
  uint32_t top = mag->top;
  if (wksp__mag_among_last(heap, top, gaddr)) return WKSP_E_NOTFOUND;
  wksp__st(&op->call.slot->flight, gaddr);
  wksp__st(wksp__mag_place(heap, top), gaddr);
  wksp__st(&mag->top, top + 8); /* free from here on */
  wksp__st(&op->call.slot->flight, 0UL);
  if (wksp__unlikely(top >= mag->hi)) overflow(op, cls);
  return 0;
}

/* Flush
 * ------------------------------------------------------------------------------------------ */

/* Clears those of the bits that are set. Not what files a span: whoever flushes files all anew. */
static void clear(wksp__op_t *op, uint32_t span, uint32_t cls, uint32_t w, uint64_t bits) {
  wksp__pair_t *pair = wksp__pairs(op->wksp, span, cls) + w;
  uint64_t a = wksp__ld(&pair->a);
  bits &= a ^ wksp__ld_acquire(&pair->f);
  wksp__st(&pair->a, a ^ bits);
}

static void flush_mask(wksp__op_t *op, wksp__mag_t *mag, uint32_t id, uint32_t cls) {
  uint64_t mask = wksp__ld(&mag->mask), base = wksp__ld(&mag->mbase);
  uint32_t span = 0;
  if (!mask) return;
  if (wksp__span_own(span_at(op->wksp, base, &span), id, cls)) {
    uint32_t blk = wksp__blk_of(op->wksp, base, cls);
    if (blk != UINT32_MAX && !(blk & 63U))
      clear(op, span, cls, blk / 64, mask & ~wksp__tail(op->wksp, cls, blk / 64));
  }
  wksp__st(&mag->mask, 0UL);
}

void wksp__mag_flush(wksp__op_t *op, wksp__heap_t *heap, uint32_t id) {
  uint32_t sent = 0;
  for (uint32_t cls = 0; cls < WKSP_CLASS_CNT; cls++) {
    wksp__mag_t *mag = &heap->mag[cls];
    flush_mask(op, mag, id, cls);
    uint32_t top = wksp__mag_top(op->wksp, heap, cls), to = wksp__mag_lo(op->wksp, cls);
    while (top > to) {
      run_t run;
      uint64_t twice;
      uint32_t len = run_of(op, heap, id, cls, top, to, &run);
      if (len && run.own) {
        clear(op, run.span, cls, run.w, run.bits);
        wksp__st(&mag->top, top - len);
        top -= len;
      } else if (len >= 8 * WKSP_LOT_MIN && send_lot(op, mag, top - len, &run, &twice)) {
        top -= len;
        sent += len / 8;
      } else {
        send(op, heap, mag, top);
        top -= 8;
        sent++;
      }
    }
  }
  if (sent) wksp__st(&op->call.slot->flight, 0UL);
  op->sent_cnt += sent;
  wksp__mag_init(op->wksp, heap);
}
