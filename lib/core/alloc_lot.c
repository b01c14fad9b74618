/* alloc_lot: blocks of other heaps' spans on their way back to a pair, many with one atomic.

   Problem: a block of another heap's span that leaves an array is not free before its bit of F is
   toggled, and may be handed out from then on; so a kill between the two may be about one block,
   the one that flight names. Toggling many bits of a word with one CAS takes a note of all of them,
   and whoever finds the note of a dead thread has to know whether that CAS was made. The bits of F
   alone do not say: a block that has become free may since have been handed out, and freed from
   elsewhere, and F is as it was.

   Model. A lot is some blocks of one word. Its thread writes into its slot which they are, what F
   was, and where the array's top will be; then

     ticket of the span = name     by CAS from 0: one lot of a span at a time
     lot = number                  from here on a kill is settled
     top                           the blocks have left the array
     CAS of F                      they are free
     lot = 0;  ticket = 0

   Whoever else frees a block of the span from elsewhere looks at the ticket first. If it leads to a
   lot that his block is in, that lot's CAS has been made, for he has got the block since: he marks
   the lot as DONE, by CAS, before he toggles F. So does the owner before the span's life ends, for
   then all its blocks are free. So of a lot without the mark

     F has in the lot's bits what it was before  <=>  its CAS was not made

   and what is settled for the dead is, each time the same however often it is begun: nothing, if
   the top has not moved; else the CAS, unless it was made. A dead thread's ticket is another's once
   its lot is settled or DONE. Who finds a living or unsettled one there sends his blocks one by
   one: nobody waits.

   A lot is two atomics, whatever it holds, so three blocks are the least that gain.

   What it refuses: to merge blocks of several words, for which one CAS decides nothing. */

#include "core/alloc.h"

/* Times that a lot is looked at again because its thread has gone on; each takes another lot. */
#define TURNS_MAX 1000

static wksp__slot_t *slot_of(fd_wksp_t *wksp, uint64_t ticket) {
  uint32_t idx = wksp__name_slot(ticket);
  return idx < wksp->slot_max ? &wksp__slots(wksp)[idx] : NULL;
}

/* Whether the span's ticket may be taken from that thread. What is in its slot is its own lot, or
   that of a later holder, which is about no span with this ticket. */
static int forsaken(fd_wksp_t *wksp, uint64_t ticket, uint32_t span) {
  if (!wksp__name_dead(wksp, ticket)) return 0;
  wksp__slot_t const *slot = slot_of(wksp, ticket);
  uint64_t lot = slot ? wksp__ld_acquire(&slot->lot) : 0;
  return !lot || (lot & WKSP_LOT_DONE) || wksp__ld(&slot->lot_span) != span;
}

int wksp__lot_send(wksp__op_t *op, uint32_t *top, uint32_t to, uint32_t span, uint32_t w,
                   uint64_t bits, uint64_t *ret_twice) {
  wksp__slot_t *slot = op->call.slot;
  wksp__rec_t *rec = wksp__rec(op->wksp, span);
  uint64_t *word = wksp__span_words(op->wksp) + span, ticket = wksp__ld(&rec->ticket);
  if (ticket && !forsaken(op->wksp, ticket, span)) return 0;
  if (!wksp__cas(&rec->ticket, &ticket, op->call.name)) return 0;
  wksp__pair_t *pair = wksp__pairs(op->wksp, span, SPAN_CLASS(wksp__ld(word))) + w;
  uint64_t f = wksp__ld(&pair->f), live = bits & (wksp__ld_acquire(&pair->a) ^ f);
  uint64_t number = wksp__ld(&slot->lot_last) + WKSP_LOT_STEP;
  wksp__st(&slot->lot_last, number); /* never again, wherever we are killed */
  wksp__st(&slot->lot_span, span);
  wksp__st(&slot->lot_w, w);
  wksp__st(&slot->lot_bits, live);
  wksp__st(&slot->lot_f, f);
  wksp__st(&slot->lot_at, fd_wksp_gaddr_fast(op->wksp, top));
  wksp__st(&slot->lot_top, (uint64_t)to);
  /* release: who sees the lot sees what it is; pairs with the acquires below */
  wksp__st_release(&slot->lot, number);
  wksp__st(top, to);
  /* As in span_give_elsewhere. Other bits of the word may change; one of these that does is being
     freed twice at this moment. */
  while (live && !wksp__cas(&pair->f, &f, f ^ live)) {
    uint64_t still = live & (wksp__ld_acquire(&pair->a) ^ f);
    if (still != live) wksp__st(&slot->lot_bits, live = still);
  }
  wksp__st_release(&slot->lot, 0UL);
  wksp__st_release(&rec->ticket, 0UL);
  wksp__span_tell(op, span);
  *ret_twice = bits & ~live;
  return 1;
}

/* Marks the slot's lot if it is about the span and one of those bits of word w, or if w is
   UINT32_MAX about the span at all. */
static void mark(wksp__slot_t *slot, uint32_t span, uint32_t w, uint64_t bits, uint64_t f) {
  for (uint32_t turn = 0; turn < TURNS_MAX; turn++) {
    uint64_t lot = wksp__ld_acquire(&slot->lot);
    if (!lot || (lot & WKSP_LOT_DONE) || wksp__ld(&slot->lot_span) != span) return;
    if (w != UINT32_MAX) {
      /* Only a bit that has changed since: else an earlier one has marked it, or the block is being
         freed for the second time. */
      uint64_t changed = wksp__ld(&slot->lot_bits) & bits & (wksp__ld(&slot->lot_f) ^ f);
      if (wksp__ld(&slot->lot_w) != w || !changed) return;
    }
    /* It is the one that we have looked at: its number does not come again. */
    if (wksp__cas(&slot->lot, &lot, lot | WKSP_LOT_DONE)) return;
  }
}

void wksp__lot_pass_rest(fd_wksp_t *wksp, uint64_t ticket, uint32_t span, uint32_t w, uint64_t bits,
                         uint64_t f) {
  wksp__slot_t *slot = slot_of(wksp, ticket);
  if (slot) mark(slot, span, w, bits, f);
}

void wksp__lot_end_rest(fd_wksp_t *wksp, uint64_t ticket, uint32_t span) {
  wksp__slot_t *slot = slot_of(wksp, ticket);
  if (slot) mark(slot, span, UINT32_MAX, 0, 0);
}

/* The pair that a slot's lot is about, NULL if there is none in a span with blocks. */
static wksp__pair_t *pair_of(fd_wksp_t const *wksp, wksp__slot_t const *slot, uint32_t *ret_span,
                             uint32_t *ret_cls, uint32_t *ret_w) {
  uint64_t span = wksp__ld(&slot->lot_span), w = wksp__ld(&slot->lot_w);
  if (span >= wksp__span_cnt(wksp)) return NULL;
  uint64_t e = wksp__ld_acquire(&wksp__span_words(wksp)[span]);
  uint32_t cls = SPAN_CLASS(e);
  if (!wksp__span_live(e) || w >= wksp__class(wksp, cls)->word_cnt ||
      !wksp__span_fits(wksp, (uint32_t)span, wksp__class(wksp, cls)->lg))
    return NULL;
  *ret_span = (uint32_t)span;
  *ret_cls = cls;
  *ret_w = (uint32_t)w;
  return wksp__pairs(wksp, (uint32_t)span, cls) + w;
}

/* Whether the array of the lot is without its blocks. */
static int begun(fd_wksp_t const *wksp, wksp__slot_t const *slot) {
  uint64_t at = wksp__ld(&slot->lot_at);
  if (at < wksp->data_lo || at >= wksp->data_hi || (at & 3U)) return 0;
  return wksp__ld((uint32_t const *)fd_wksp_laddr_fast(wksp, at)) == wksp__ld(&slot->lot_top);
}

/* Makes the CAS of a dead thread's lot unless it was made. F before the mark: whoever has toggled
   one of the bits back has set that first. */
static void finish(fd_wksp_t *wksp, wksp__slot_t *slot) {
  uint32_t span, cls, w;
  wksp__pair_t *pair = pair_of(wksp, slot, &span, &cls, &w);
  if (!pair) return; /* its blocks were free, or the span would still be one */
  uint64_t was = wksp__ld(&slot->lot_f);
  uint64_t bits = wksp__ld(&slot->lot_bits) & ~wksp__tail(wksp, cls, w);
  uint64_t f = wksp__ld_seq(&pair->f), live;
  do {
    if ((f ^ was) & bits || wksp__ld_seq(&slot->lot) & WKSP_LOT_DONE) return;
    live = bits & (wksp__ld_acquire(&pair->a) ^ f);
  } while (live && !wksp__cas(&pair->f, &f, f ^ live));
}

void wksp__lot_settle(fd_wksp_t *wksp, wksp__slot_t *slot) {
  uint64_t lot = wksp__ld_acquire(&slot->lot), span = wksp__ld(&slot->lot_span);
  if (!lot) return;
  if (!(lot & WKSP_LOT_DONE) && begun(wksp, slot)) finish(wksp, slot);
  wksp__st_release(&slot->lot, 0UL);
  if (span >= wksp__span_cnt(wksp)) return;
  /* Others would ask after it with each block. */
  uint64_t *ticket = &wksp__rec(wksp, (uint32_t)span)->ticket, name = wksp__ld(ticket);
  if (slot_of(wksp, name) == slot && wksp__name_dead(wksp, name)) wksp__cas(ticket, &name, 0UL);
}

uint64_t wksp__lot_look(fd_wksp_t const *wksp, wksp__slot_t const *slot, uint64_t *ret_gaddr,
                        uint32_t *ret_span, uint32_t *ret_cls) {
  uint64_t lot = wksp__ld_acquire(&slot->lot);
  uint32_t span, cls, w;
  if (!lot || (lot & WKSP_LOT_DONE)) return 0;
  wksp__pair_t const *pair = pair_of(wksp, slot, &span, &cls, &w);
  if (!pair) return 0;
  uint64_t bits = wksp__ld(&slot->lot_bits) & ~wksp__tail(wksp, cls, w);
  if ((wksp__ld_acquire(&pair->f) ^ wksp__ld(&slot->lot_f)) & bits) return 0;
  wksp__fence_acquire(); /* all of it is of this lot, and it was not DONE after F */
  if (wksp__ld(&slot->lot) != lot) return 0;
  *ret_gaddr = wksp__span_gaddr(wksp, span) + 64UL * w * wksp__class_size(cls);
  *ret_span = span;
  *ret_cls = cls;
  return bits;
}
