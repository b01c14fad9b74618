/* alloc_more: the calls around malloc and free: calloc, realloc, sized free, usable size.

   Problem: these are given an address and have to know what lies there. Blocks have no header, so
   the span table, the pairs and the partition table are asked; what is in the caller's own
   magazines is free although its pair says otherwise.

   Model. A block that is live for its owner stays where and what it is: its span's word may change
   hands, but not its class, and its bit may not change. So nothing is locked. Realloc that moves is
   three steps, each a call of its own, so that no thread is inside a call while it copies: the new
   block is taken, which the slot's flight names from then on; the bytes are copied; the old block
   goes straight to its pair, by one store or one CAS, past the magazine, so that flight goes on to
   name the new one. A kill anywhere leaves the old block live or free, as its pair says, and the
   new one as the suspect: one block that nobody knows, as with malloc.

   What it refuses: to search the magazines of other threads for a block that was freed before. */

#include "core/alloc.h"
#include "core/alloc_hard.h"
#include "core/fail.h"
#include "core/map.h"

#include <string.h>

/* Finding
 * ---------------------------------------------------------------------------------------- */

typedef struct block {
  uint64_t gaddr, size;
  uint64_t e; /* its span's word when it was looked at; large: none */
  uint32_t span;
  uint32_t cls; /* WKSP_CLASS_CNT: large */
} block_t;

/* A span may change hands between the look at its word and the look at its heap; each turn takes
   another such change. */
#define FIND_TURNS 1000

static int find_large(fd_wksp_t const *wksp, struct fd_alloc const *alloc, block_t *block) {
  fd_wksp_part_t part;
  int found = wksp__part_find(wksp, block->gaddr, &part);
  if (found < 0) return found;
  if (!found || part.gaddr != block->gaddr || part.kind != (FD_WKSP_KIND_LARGE | alloc->home << 8))
    return WKSP_E_NOTFOUND;
  block->size = part.size;
  block->cls = WKSP_CLASS_CNT;
  return 0;
}

/* The block of the alloc at gaddr, as its pair or the partition table says. 0, E_NOTFOUND (not
   reported) if none that is live starts there, or why that cannot be told. */
static int find(fd_wksp_t const *wksp, struct fd_alloc const *alloc, uint64_t gaddr,
                block_t *ret_block) {
  block_t block = {.gaddr = gaddr};
  if (gaddr < wksp->data_lo || gaddr >= wksp->data_hi) return WKSP_E_NOTFOUND;
  block.e = wksp__span_look(wksp, gaddr, &block.span);
  for (int turn = 0;; turn++) {
    if (SPAN_STATE(block.e) == WKSP_SPAN_NONE) {
      int err = find_large(wksp, alloc, &block);
      if (!err) *ret_block = block;
      return err;
    }
    if (!wksp__span_live(block.e) || turn == FIND_TURNS) return WKSP_E_NOTFOUND;
    if (wksp__heap_of(wksp, SPAN_HEAP(block.e), alloc->self)) break;
    uint64_t now = wksp__span_look(wksp, gaddr, &block.span);
    if (now == block.e) return WKSP_E_NOTFOUND;
    block.e = now;
  }
  block.cls = SPAN_CLASS(block.e);
  block.size = wksp__class_size(block.cls);
  uint32_t blk = wksp__blk_of(wksp, gaddr, block.cls);
  if (blk == UINT32_MAX) return WKSP_E_NOTFOUND;
  wksp__pair_t const *pair = wksp__pairs(wksp, block.span, block.cls) + blk / 64;
  if (!((wksp__ld(&pair->a) ^ wksp__ld_acquire(&pair->f)) >> (blk & 63U) & 1UL))
    return WKSP_E_NOTFOUND;
  *ret_block = block;
  return 0;
}

/* Whether the operation's heap holds the block in its magazine: looks at the mask and the last four
   of the array, deep: at all of it. */
static int kept(wksp__op_t const *op, block_t const *block, int deep) {
  if (!op->heap || block->cls == WKSP_CLASS_CNT) return 0;
  wksp__mag_t const *mag = &op->heap->mag[block->cls];
  uint32_t top = mag->top, hits = 0;
  uint64_t off = block->gaddr - mag->mbase;
  if (off < 64 * block->size && mag->mask >> (off / block->size) & 1UL) return 1;
  if (!deep) return wksp__mag_among_last(op->heap, top, block->gaddr);
  for (uint32_t at = mag->lo; at < top; at += 8)
    hits += *wksp__mag_place(op->heap, at) == block->gaddr;
  return hits != 0;
}

/* find for a call of the join's thread. 0; an error of op_begin or of the table (reported);
   E_NOTFOUND (counted if it is a bad free, and reported). */
static int find_called(wksp__op_t *op, void const *laddr, int deep, block_t *ret_block) {
  wksp__heap_peek(op);
  int err = find(op->wksp, op->alloc, fd_wksp_gaddr_fast(op->wksp, laddr), ret_block);
  if (!err && kept(op, ret_block, deep)) err = WKSP_E_NOTFOUND;
  return err;
}

static ulong not_live(struct fd_alloc const *alloc, void const *laddr) {
  wksp__fail(WKSP_E_NOTFOUND,
             "usable_size: %p is no live block of the fd_alloc at gaddr %#lx (tag %lu): freed "
             "before, interior, or another's",
             laddr, alloc->self, alloc->tag);
  return 0;
}

ulong fd_alloc_usable_size(fd_alloc_t *join, void const *laddr) {
  if (!join || !laddr) return 0;
  struct fd_alloc *alloc = wksp__alloc_of(join);
  if (!alloc) return 0;
  /* Only who may write has a seat. Else not by `self`, which may be damaged: readers start here. */
  fd_wksp_t *wksp = (fd_wksp_t *)((ulong)alloc - alloc->self), *ro = NULL;
  if (!wksp__seat_find(wksp)) ro = fd_alloc_wksp(join);
  block_t block;
  int err;
  if (ro && wksp__map_ro(ro) == 1) {
    err = find(ro, alloc, fd_wksp_gaddr_fast(ro, laddr), &block);
  } else {
    wksp__op_t op;
    if (wksp__op_begin(join, &op)) return 0;
    err = find_called(&op, laddr, 1, &block);
    wksp__op_end(&op);
  }
  if (err == WKSP_E_NOTFOUND) return not_live(alloc, laddr);
  return err ? 0 : block.size;
}

ulong fd_alloc_usable_size_fast(fd_alloc_t const *join, void const *laddr) {
  struct fd_alloc const *alloc = (struct fd_alloc *)((ulong)join & ~(FD_ALLOC_ALIGN - 1));
  fd_wksp_t *wksp = (fd_wksp_t *)((ulong)alloc - alloc->self);
  ulong gaddr = fd_wksp_gaddr_fast(wksp, laddr);
  fd_wksp_part_t part;
  uint32_t span;
  if (gaddr < wksp->data_lo || gaddr >= wksp->data_hi) return 0;
  uint64_t e = wksp__span_look(wksp, gaddr, &span);
  if (wksp__likely(wksp__span_live(e))) return wksp__class_size(SPAN_CLASS(e));
  return wksp__part_find(wksp, gaddr, &part) == 1 ? part.gaddr + part.size - gaddr : 0;
}

/* Calloc
 * ----------------------------------------------------------------------------------------- */

void *fd_alloc_calloc(fd_alloc_t *join, ulong align, ulong cnt, ulong sz) {
  ulong all;
  if (__builtin_mul_overflow(cnt, sz, &all)) {
    wksp__fail(WKSP_E_NOMEM, "calloc: %lu objects of %lu bytes are more than there are addresses",
               cnt, sz);
    return NULL;
  }
  void *ret = fd_alloc_malloc(join, align, all);
  return ret ? memset(ret, 0, all) : NULL;
}

/* Realloc
 * ---------------------------------------------------------------------------------------- */

/* A block stays where it is if it is of the class that a new one would have, or at most a quarter
   of it is too much. */
static int stays(block_t const *block, ulong align, ulong sz) {
  if (sz > block->size || (block->gaddr & (align - 1))) return 0;
  if (block->size - sz <= block->size / 4) return 1;
  return block->cls < WKSP_CLASS_CNT && wksp__class_for(align, sz) == block->cls;
}

/* Frees a block past the magazine: what flight names is not touched. 0, E_NOTFOUND if it is not
   live any more, or why a large one could not be freed (reported). */
static int free_direct(wksp__op_t *op, block_t const *block) {
  if (block->cls == WKSP_CLASS_CNT) {
    sigset_t old;
    wksp__signals_off(&old); /* as in op_part_alloc */
    int err =
        wksp__part_free(&op->call, WKSP_LOCK_CALL_NS, block->gaddr,
                        FD_WKSP_KIND_LARGE | op->alloc->home << 8, op->alloc->tag, NULL, NULL);
    wksp__signals_on(&old);
    return err;
  }
  int err = wksp__hard_give(op, block->gaddr, block->cls);
  if (err) return err;
  if (!op->heap || !wksp__span_own(block->e, op->heap_id, block->cls))
    return wksp__span_give_elsewhere(op, block->gaddr, block->span, block->e);
  uint32_t blk = wksp__blk_of(op->wksp, block->gaddr, block->cls);
  if (wksp__span_give(op, block->span, blk / 64, 1UL << (blk & 63U))) return WKSP_E_NOTFOUND;
  wksp__span_given(op, block->span);
  return 0;
}

/* The bytes of the block at laddr in a new one, and the old one freed. NULL: why not is reported,
   and the old one is as it was. */
static void *move(fd_alloc_t *join, void *laddr, ulong old_sz, ulong align, ulong sz) {
  ulong max;
  void *ret = fd_alloc_malloc_at_least(join, align, sz, &max);
  if (!ret) return NULL;
  memcpy(ret, laddr, old_sz < sz ? old_sz : sz);
  wksp__op_t op;
  block_t block;
  fd_alloc_bad_free_t bad;
  int err = wksp__op_begin(join, &op);
  if (!err) {
    wksp__st(&op.call.slot->flight, fd_wksp_gaddr_fast(op.wksp, ret));
    err = find_called(&op, laddr, 0, &block);
    if (!err) err = free_direct(&op, &block);
    if (err == WKSP_E_NOTFOUND) wksp__bad_free(&op, laddr, &bad);
    wksp__op_end(&op);
    if (err == WKSP_E_NOTFOUND) wksp__bad_tell(&bad);
  }
  if (!err) return ret;
  fd_alloc_free(join, ret); /* the lock or a slot was not to be had: the old one stays */
  return NULL;
}

void *fd_alloc_realloc(fd_alloc_t *join, void *laddr, ulong align, ulong sz) {
  if (!laddr) return fd_alloc_malloc(join, align, sz);
  if (!join) return NULL;
  if (!sz) {
    fd_alloc_free(join, laddr);
    return NULL;
  }
  if (!align) align = FD_ALLOC_MALLOC_ALIGN_DEFAULT;
  if (align & (align - 1)) {
    wksp__fail(WKSP_E_INVAL, "realloc: alignment %lu is no power of two", align);
    return NULL;
  }
  wksp__op_t op;
  block_t block;
  fd_alloc_bad_free_t bad;
  if (wksp__op_begin(join, &op)) return NULL;
  int err = find_called(&op, laddr, 0, &block);
  if (err == WKSP_E_NOTFOUND) wksp__bad_free(&op, laddr, &bad);
  wksp__op_end(&op);
  if (err == WKSP_E_NOTFOUND) wksp__bad_tell(&bad);
  if (err) return NULL;
  if (op.alloc->flags & FD_ALLOC_FLAG_ALIGNED) align = wksp__align_up(align, sz);
  return stays(&block, align, sz) ? laddr : move(join, laddr, block.size, align, sz);
}

/* Sized free
 * ------------------------------------------------------------------------------------- */

int wksp__sized_fits(fd_alloc_t *join, void *laddr, ulong sz) {
  wksp__op_t op;
  if (!join || !laddr || wksp__op_begin(join, &op)) return 1; /* free says what is wrong */
  uint64_t gaddr = fd_wksp_gaddr_fast(op.wksp, laddr), e = 0;
  uint32_t span;
  if (gaddr >= op.wksp->data_lo && gaddr < op.wksp->data_hi)
    e = wksp__span_look(op.wksp, gaddr, &span);
  int fits = !wksp__span_live(e) || sz <= wksp__class_size(SPAN_CLASS(e));
  fd_alloc_bad_free_t bad;
  if (!fits) wksp__bad_size(&op, laddr, wksp__class_size(SPAN_CLASS(e)), sz, &bad);
  wksp__op_end(&op);
  if (!fits) wksp__bad_tell(&bad);
  return fits;
}
