/* alloc_held: what magazines hold, for those who only read.

   Problem: a block in a magazine is free although its pair says otherwise, so who lists live blocks
   has to know what all heaps of the alloc hold.

   Model. All of it is read once, sorted, and looked up. A block may be held twice by its own heap
   (after a kill) or in its pair be free already; once is enough for it to be free. Heaps are read
   as they are, while their owners may go on: what is told is then true of no one moment, as with
   pairs.

   What it refuses: to trust. A heap's top, masks and entries are checked before they are used. */

#include "core/alloc.h"
#include "core/fail.h"

#include <stdlib.h>

/* Places of the largest array, and a mask. */
#define PER_CLASS_MAX (1024U + WKSP_MAG_ABOVE + 64U)

/* A mask with its place: an owner at work may turn to another word between the two loads, and the
   bits of the one at the place of the other would be live blocks. Acquires: pair with the releases
   in fill (alloc_mag.c). 0 if it never stays. */
static uint64_t read_mask(wksp__mag_t const *mag, uint64_t *ret_base) {
  for (uint32_t turn = 0; turn < 64; turn++) {
    uint64_t base = wksp__ld_acquire(&mag->mbase), mask = wksp__ld_acquire(&mag->mask);
    if (wksp__ld(&mag->mbase) != base) continue;
    *ret_base = base;
    return mask;
  }
  *ret_base = 0;
  return 0;
}

/* What one class of a heap holds: at most PER_CLASS_MAX. */
static uint32_t read_class(fd_wksp_t const *wksp, wksp__heap_t const *heap, uint32_t cls,
                           uint64_t *ret_gaddr) {
  uint32_t cnt = 0, top = wksp__mag_top(wksp, heap, cls);
  for (uint32_t at = wksp__mag_lo(wksp, cls); at < top; at += 8)
    ret_gaddr[cnt++] = wksp__ld(wksp__mag_place(heap, at));
  uint64_t base;
  for (uint64_t mask = read_mask(&heap->mag[cls], &base); mask; mask &= mask - 1)
    ret_gaddr[cnt++] = base + (uint64_t)__builtin_ctzl(mask) * wksp__class_size(cls);
  return cnt;
}

static int by_gaddr(void const *left, void const *right) {
  uint64_t a = *(uint64_t const *)left, b = *(uint64_t const *)right;
  return (a > b) - (a < b);
}

/* Room for what one more heap can hold. */
static int grow(wksp__held_blocks_t *held, uint64_t *cap) {
  uint64_t need = held->cnt + (uint64_t)WKSP_CLASS_CNT * PER_CLASS_MAX;
  if (need <= *cap) return 0;
  uint64_t want = 2 * need, *more = realloc(held->gaddr, want * sizeof *more);
  if (!more)
    return wksp__fail(WKSP_E_NOMEM, "fd_alloc: no memory for a list of %lu free blocks", want);
  held->gaddr = more;
  *cap = want;
  return 0;
}

/* The lot of a slot if it is of the alloc. */
static uint64_t read_lot(fd_wksp_t const *wksp, uint32_t idx, uint64_t alloc_gaddr,
                         uint64_t *ret_base, uint32_t *ret_size) {
  uint32_t span, cls;
  uint64_t bits = wksp__lot_look(wksp, &wksp__slots(wksp)[idx], ret_base, &span, &cls);
  if (!bits ||
      !wksp__heap_of(wksp, SPAN_HEAP(wksp__ld(&wksp__span_words(wksp)[span])), alloc_gaddr))
    return 0;
  *ret_size = wksp__class_size(cls);
  return bits;
}

int wksp__held_blocks(fd_wksp_t const *wksp, uint64_t alloc_gaddr, wksp__held_blocks_t *ret_held) {
  wksp__held_blocks_t held = {0};
  uint64_t cap = 0;
  uint32_t size;
  int err = 0;
  for (uint32_t id = 1; id < wksp->heap_max && !err; id++) {
    wksp__heap_t const *heap = wksp__heap_of(wksp, id, alloc_gaddr);
    err = heap ? grow(&held, &cap) : 0;
    for (uint32_t cls = 0; heap && !err && cls < WKSP_CLASS_CNT; cls++)
      held.cnt += read_class(wksp, heap, cls, held.gaddr + held.cnt);
  }
  /* Arrays first: what leaves one is in a lot before. */
  for (uint32_t idx = 0; idx < wksp->slot_max && !err; idx++) {
    uint64_t base, bits = read_lot(wksp, idx, alloc_gaddr, &base, &size);
    err = bits ? grow(&held, &cap) : 0;
    for (; bits && !err; bits &= bits - 1)
      held.gaddr[held.cnt++] = base + (uint64_t)__builtin_ctzl(bits) * size;
  }
  if (err) {
    wksp__held_free(&held);
    return err;
  }
  if (held.cnt) qsort(held.gaddr, held.cnt, sizeof *held.gaddr, by_gaddr);
  *ret_held = held;
  return 0;
}

int wksp__held_has(wksp__held_blocks_t const *held, uint64_t gaddr) {
  return held->cnt &&
         bsearch(&gaddr, held->gaddr, held->cnt, sizeof *held->gaddr, by_gaddr) != NULL;
}

void wksp__held_free(wksp__held_blocks_t *held) {
  free(held->gaddr);
  *held = (wksp__held_blocks_t){0};
}

int wksp__held_now(fd_wksp_t const *wksp, uint64_t alloc_gaddr, uint32_t cls, uint64_t gaddr) {
  uint64_t held[PER_CLASS_MAX];
  for (uint32_t id = 1; id < wksp->heap_max; id++) {
    wksp__heap_t const *heap = wksp__heap_of(wksp, id, alloc_gaddr);
    for (uint32_t cnt = heap ? read_class(wksp, heap, cls, held) : 0; cnt--;)
      if (held[cnt] == gaddr) return 1;
  }
  return 0;
}

/* Check
 * ------------------------------------------------------------------------------------------ */

/* Whether a block of the class of a span of this alloc lies at gaddr. */
static int is_block(fd_wksp_t const *wksp, uint64_t alloc_gaddr, uint64_t gaddr, uint32_t cls) {
  if (gaddr < wksp->data_lo || gaddr >= wksp->data_hi) return 0;
  uint32_t span;
  uint64_t e = wksp__span_look(wksp, gaddr, &span);
  return wksp__span_live(e) && SPAN_CLASS(e) == cls &&
         wksp__heap_of(wksp, SPAN_HEAP(e), alloc_gaddr) &&
         wksp__blk_of(wksp, gaddr, cls) != UINT32_MAX;
}

/* Whether the array lies where it must. */
static int in_place(fd_wksp_t const *wksp, wksp__heap_t const *heap, uint32_t cls) {
  wksp__mag_t const *mag = &heap->mag[cls];
  wksp__class_t const *info = wksp__class(wksp, cls);
  uint32_t size = info->size;
  return wksp__ld(&mag->lo) == wksp__mag_lo(wksp, cls) &&
         wksp__ld(&mag->hi) == wksp__mag_hi(wksp, cls) && wksp__ld(&mag->size) == size &&
         wksp__ld(&mag->recip) == wksp__recip64(size, info->blk_cnt) &&
         wksp__ld(&mag->in_span) == (uint32_t)(WKSP_SPAN_SZ << info->lg) - 1 &&
         wksp__mag_top(wksp, heap, cls) == wksp__ld(&mag->top);
}

static uint32_t check_class(fd_wksp_t const *wksp, uint32_t id, wksp__heap_t const *heap,
                            uint32_t cls, wksp__finding_t finding, void *arg) {
  uint64_t held[PER_CLASS_MAX], now[PER_CLASS_MAX], alloc_gaddr = wksp__ld(&heap->alloc);
  if (!in_place(wksp, heap, cls)) {
    finding(arg, "heap %u: its magazine for blocks of %u bytes lies where none can be", id,
            wksp__class_size(cls));
    return 1;
  }
  uint32_t cnt = read_class(wksp, heap, cls, held);
  for (uint32_t i = 0; i < cnt; i++) {
    if (is_block(wksp, alloc_gaddr, held[i], cls)) continue;
    /* its owner may have taken it, and the span may be another's by now */
    uint32_t again = read_class(wksp, heap, cls, now), still = 0;
    for (uint32_t j = 0; j < again && !still; j++) still = now[j] == held[i];
    if (!still || is_block(wksp, alloc_gaddr, held[i], cls)) continue;
    finding(arg, "heap %u: its magazine holds %#lx, where no block of %u bytes is", id, held[i],
            wksp__class_size(cls));
    return 1;
  }
  return 0;
}

/* Whether gaddr lies in a span that holds blocks. */
static int in_live_span(fd_wksp_t const *wksp, uint64_t gaddr) {
  uint32_t span;
  return gaddr >= wksp->data_lo && gaddr < wksp->data_hi &&
         wksp__span_live(wksp__span_look(wksp, gaddr, &span));
}

/* Keeps of a class what is a block. How many were not, but for those in spans that have just been
   dropped, of which has been told. */
static uint32_t repair_class(fd_wksp_t *wksp, wksp__heap_t *heap, uint32_t cls) {
  wksp__mag_t *mag = &heap->mag[cls];
  uint64_t alloc_gaddr = wksp__ld(&heap->alloc), mask = wksp__ld(&mag->mask), keep = 0;
  uint32_t bad = 0, at = wksp__mag_lo(wksp, cls), top = wksp__mag_top(wksp, heap, cls), to = at;
  for (; at < top; at += 8) {
    uint64_t gaddr = wksp__ld(wksp__mag_place(heap, at));
    if (!is_block(wksp, alloc_gaddr, gaddr, cls)) {
      bad += (uint32_t)in_live_span(wksp, gaddr);
      continue;
    }
    wksp__st(wksp__mag_place(heap, to), gaddr);
    to += 8;
  }
  for (uint64_t rest = mask; rest; rest &= rest - 1) {
    uint64_t gaddr = wksp__ld(&mag->mbase) + (uint64_t)__builtin_ctzl(rest) * wksp__class_size(cls);
    if (is_block(wksp, alloc_gaddr, gaddr, cls))
      keep |= rest & -rest;
    else
      bad += (uint32_t)in_live_span(wksp, gaddr);
  }
  if (to != top) wksp__st(&mag->top, to);
  if (keep != mask) wksp__st(&mag->mask, keep);
  return bad;
}

/* Whether the heap's alloc is being deleted: then its spans go before its heaps. */
static int deleting(fd_wksp_t const *wksp, wksp__heap_t const *heap) {
  uint64_t gaddr = wksp__ld(&heap->alloc);
  if (gaddr < wksp->data_lo || gaddr > wksp->data_hi - sizeof(struct fd_alloc) || (gaddr & 7U))
    return 0;
  struct fd_alloc const *alloc = fd_wksp_laddr_fast(wksp, gaddr);
  return wksp__alloc_ending(alloc);
}

/* The heap of directory entry id, NULL if that leads to none, or to one whose spans are going. */
static wksp__heap_t *heap_at(fd_wksp_t const *wksp, uint32_t id) {
  uint64_t dir = wksp__ld_acquire(&wksp__heap_dir(wksp)[id]), gaddr = DIR_GADDR(dir);
  if (DIR_WHAT(dir) != DIR_HEAP || gaddr < wksp->data_lo ||
      gaddr > wksp->data_hi - wksp__heap_size(wksp))
    return NULL; /* the directory's check tells of it */
  wksp__heap_t *heap = fd_wksp_laddr_fast(wksp, gaddr);
  return deleting(wksp, heap) ? NULL : heap;
}

uint32_t wksp__held_check(fd_wksp_t const *wksp, wksp__finding_t finding, void *arg) {
  uint32_t found = 0;
  for (uint32_t id = 1; id < wksp->heap_max; id++) {
    wksp__heap_t const *heap = heap_at(wksp, id);
    for (uint32_t cls = 0; heap && cls < WKSP_CLASS_CNT; cls++)
      found += check_class(wksp, id, heap, cls, finding, arg);
  }
  return found;
}

uint32_t wksp__held_repair(fd_wksp_t *wksp, wksp__finding_t finding, void *arg) {
  uint32_t cnt = 0;
  for (uint32_t id = 1; id < wksp->heap_max; id++) {
    wksp__heap_t *heap = heap_at(wksp, id);
    for (uint32_t cls = 0; heap && cls < WKSP_CLASS_CNT; cls++) {
      int moved = !in_place(wksp, heap, cls);
      if (moved) wksp__mag_init_class(wksp, heap, cls);
      uint32_t bad = repair_class(wksp, heap, cls);
      if (!moved && !bad) continue;
      finding(arg, "dropped: what the magazine of heap %u for blocks of %u bytes held%s", id,
              wksp__class_size(cls), moved ? "" : " that was none");
      cnt++;
    }
  }
  return cnt;
}
