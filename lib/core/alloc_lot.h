/* alloc_lot: blocks of other heaps' spans that go to their pair many at a time. Part of alloc.h;
   alloc_lot.c explains it. */

#ifndef WKSP_CORE_ALLOC_LOT_H
#define WKSP_CORE_ALLOC_LOT_H

#include "core/call.h"

/* From here on a lot takes no more atomics than its blocks would one by one. */
#define WKSP_LOT_MIN 3U

/* The entries of an array between `to` and *top, all of them blocks of word w of that live span,
   which is not the heap's, leave the array and become free in their pair. bits: which they are.
   1, and *ret_twice: those that were free already and stay so; 0: a lot of somebody else's is about
   the span, nothing was done, and the blocks are to go one by one. */
int wksp__lot_send(wksp__op_t *op, uint32_t *top, uint32_t to, uint32_t span, uint32_t w,
                   uint64_t bits, uint64_t *ret_twice);

/* A span of the operation's heap that is set aside, with that word, has a free block: it serves
   again, unless somebody else has just told of another (alloc_span.c). */
void wksp__span_again(wksp__op_t *op, uint32_t span, uint64_t e);

/* F of the span was just changed: its owner is told if it has set the span aside (alloc_span.c). */
void wksp__span_tell(wksp__op_t *op, uint32_t span);

/* Before whoever does not own the span toggles one of those bits of F, which he has seen as f, or
   before the span's memory is another's (bits: all, f: none of what it was). */
void wksp__lot_pass_rest(fd_wksp_t *wksp, uint64_t ticket, uint32_t span, uint32_t w, uint64_t bits,
                         uint64_t f);
void wksp__lot_end_rest(fd_wksp_t *wksp, uint64_t ticket, uint32_t span);

static inline void wksp__lot_pass(fd_wksp_t *wksp, wksp__rec_t const *rec, uint32_t span,
                                  uint32_t w, uint64_t bits, uint64_t f) {
  /* acquire: a block of the lot came to us by the change of its pair, which is behind the ticket */
  uint64_t ticket = wksp__ld_acquire(&rec->ticket);
  if (wksp__unlikely(ticket)) wksp__lot_pass_rest(wksp, ticket, span, w, bits, f);
}

static inline void wksp__lot_end(fd_wksp_t *wksp, wksp__rec_t const *rec, uint32_t span) {
  wksp__fence_acquire(); /* that all is free was seen before; as in lot_pass */
  uint64_t ticket = wksp__ld(&rec->ticket);
  if (wksp__unlikely(ticket)) wksp__lot_end_rest(wksp, ticket, span);
}

/* Ends the lot of a slot's dead holder. The caller has the slot to himself, and nobody has touched
   the holder's magazines. */
void wksp__lot_settle(fd_wksp_t *wksp, wksp__slot_t *slot);

/* Blocks of the slot's lot that have left their array, perhaps, and are not free in their pair yet:
   bits of a word of a span of the class, whose first block is at *ret_gaddr. 0: there are none. */
uint64_t wksp__lot_look(fd_wksp_t const *wksp, wksp__slot_t const *slot, uint64_t *ret_gaddr,
                        uint32_t *ret_span, uint32_t *ret_cls);

#endif
