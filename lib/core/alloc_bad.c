/* alloc_bad: frees that are refused, and who is told of them.

   Problem: free returns nothing, and a wrong one shows the fault of code that is somewhere else. It
   must do no harm, and somebody should hear of it with all that is known.

   Model. What an address is follows from the span table, the pairs and the partition table, looked
   at inside the call that refused it. Of blocks that were freed twice while they lay in a magazine
   the call that empties it knows. Each is counted in the alloc at once; the process's listener is
   called when the call is over, so that it may do anything, use the fd_alloc included. What it
   frees wrongly itself is counted and not told, or there would be no end.

   One listener for the process, not one for each join: joins are plain values without a place to
   keep one, and whoever wants to hear of bad frees wants to hear of all; the alloc is among what is
   told.

   What it refuses: to guess. A block that has been freed and whose memory is part of no block any
   more looks like any wild address. */

#include "core/alloc.h"
#include "core/fail.h"
#include "core/map.h"

/* This thread is in the listener. */
static WKSP__TLS int telling;

static char const *of_large(wksp__op_t const *op, uint64_t gaddr, fd_alloc_bad_free_t *bad) {
  fd_wksp_part_t part;
  bad->what = FD_ALLOC_BAD_FREE_NOWHERE;
  if (wksp__part_find(op->wksp, gaddr, &part) != 1 || (part.kind & 255U) != FD_WKSP_KIND_LARGE)
    return "no block of an fd_alloc is there: wild, or freed before";
  bad->size = part.size;
  if (part.kind >> 8 != op->alloc->home) {
    bad->what = FD_ALLOC_BAD_FREE_OTHERS;
    return "it is of another fd_alloc";
  }
  bad->what = FD_ALLOC_BAD_FREE_INTERIOR;
  return "no block starts there";
}

/* What is there; in words. */
static char const *what_is(wksp__op_t const *op, uint64_t gaddr, fd_alloc_bad_free_t *bad) {
  uint64_t e = 0;
  uint32_t span;
  if (gaddr >= op->wksp->data_lo && gaddr < op->wksp->data_hi)
    e = wksp__span_look(op->wksp, gaddr, &span);
  if (!wksp__span_live(e)) return of_large(op, gaddr, bad);
  bad->size = wksp__class_size(SPAN_CLASS(e));
  if (!wksp__heap_of(op->wksp, SPAN_HEAP(e), op->alloc_gaddr)) {
    bad->what = FD_ALLOC_BAD_FREE_OTHERS;
    return "it is of another fd_alloc";
  }
  if (wksp__blk_of(op->wksp, gaddr, SPAN_CLASS(e)) == UINT32_MAX) {
    bad->what = FD_ALLOC_BAD_FREE_INTERIOR;
    return "no block starts there";
  }
  bad->what = FD_ALLOC_BAD_FREE_TWICE;
  return "freed before";
}

static fd_alloc_bad_free_t bad_of(wksp__op_t const *op, uint64_t gaddr) {
  fd_alloc_bad_free_t bad = {.wksp = op->wksp,
                             .laddr = fd_wksp_laddr_fast(op->wksp, gaddr),
                             .gaddr = gaddr,
                             .alloc_gaddr = op->alloc_gaddr,
                             .tag = op->alloc->tag};
  return bad;
}

void wksp__bad_free(wksp__op_t *op, void const *laddr, fd_alloc_bad_free_t *ret_bad) {
  uint64_t gaddr = fd_wksp_gaddr_fast(op->wksp, laddr);
  fd_alloc_bad_free_t bad = bad_of(op, gaddr);
  char const *why = what_is(op, gaddr, &bad);
  wksp__fetch_add(&op->alloc->bad_free_cnt, 1UL);
  wksp__fail(WKSP_E_NOTFOUND,
             "free: gaddr %#lx (%p) is no live block of the fd_alloc at %#lx (tag %lu): %s; it was "
             "left alone",
             gaddr, laddr, op->alloc_gaddr, op->alloc->tag, why);
  *ret_bad = bad;
}

void wksp__bad_size(wksp__op_t *op, void const *laddr, ulong size, ulong sz,
                    fd_alloc_bad_free_t *ret_bad) {
  uint64_t gaddr = fd_wksp_gaddr_fast(op->wksp, laddr);
  fd_alloc_bad_free_t bad = bad_of(op, gaddr);
  bad.what = FD_ALLOC_BAD_FREE_SIZE;
  bad.size = size;
  wksp__fetch_add(&op->alloc->bad_free_cnt, 1UL);
  wksp__fail(WKSP_E_INVAL,
             "free_sized: the block at gaddr %#lx of the fd_alloc at %#lx (tag %lu) has %lu bytes, "
             "not %lu; it was left alone",
             gaddr, op->alloc_gaddr, op->alloc->tag, size, sz);
  *ret_bad = bad;
}

void wksp__bad_tell(fd_alloc_bad_free_t const *bad) {
  wksp__listener_t listener = wksp__listener();
  if (!listener.on_bad_free || telling) return;
  telling = 1;
  listener.on_bad_free(listener.arg, bad);
  telling = 0;
}

/* No gaddr of a block reaches the byte in which its class is kept. */
#define LATE_CLASS 56

void wksp__bad_late(wksp__op_t *op, uint64_t gaddr, uint32_t cls) {
  wksp__fetch_add(&op->alloc->bad_free_cnt, 1UL);
  if (op->late_cnt < WKSP_OP_LATE_MAX)
    op->late[op->late_cnt++] = gaddr | (uint64_t)cls << LATE_CLASS;
}

void wksp__bad_late_word(wksp__op_t *op, uint32_t span, uint32_t cls, uint32_t w, uint64_t bits) {
  for (; bits; bits &= bits - 1)
    wksp__bad_late(op,
                   wksp__span_gaddr(op->wksp, span) +
                       (w * 64UL + (ulong)__builtin_ctzl(bits)) * wksp__class_size(cls),
                   cls);
}

void wksp__bad_late_tell(wksp__op_t const *op) {
  for (uint32_t i = 0; i < op->late_cnt; i++) {
    fd_alloc_bad_free_t bad = bad_of(op, op->late[i] & ((1UL << LATE_CLASS) - 1));
    bad.what = FD_ALLOC_BAD_FREE_TWICE;
    bad.size = wksp__class_size((uint32_t)(op->late[i] >> LATE_CLASS));
    bad.late = 1;
    wksp__bad_tell(&bad);
  }
}

int wksp_on_bad_free(void (*on_bad_free)(void *arg, fd_alloc_bad_free_t const *bad), void *arg) {
  wksp__listener_t listener = {on_bad_free, arg};
  return wksp__listener_set(&listener);
}
