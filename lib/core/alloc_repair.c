/* alloc_repair: what damage has left of the fd_allocs of a workspace, made to agree.

   Model: a partition of an fd_alloc names its alloc; the directory names allocs and heaps; a span's
   word names its heap; the pairs say what is live. Where one of these cannot be true it is dropped,
   from the top: entries of the directory that lead nowhere, partitions whose alloc is gone, span
   words that no span of their partition can have (the span goes to its alloc's pool, its blocks are
   lost), bits of blocks that do not exist, and what magazines hold that is no block. Heaps of an
   alloc of which something was changed are marked as left behind by a dead thread, so that whoever
   takes one makes its caches from the truth.

   What it refuses: to change the spans of a living thread's heap. The caller looks first. */

#include "core/alloc.h"
#include "core/seat.h"

typedef struct repair {
  fd_wksp_t *wksp;
  wksp__finding_t finding;
  void *arg;
  uint32_t cnt;
} repair_t;

#define SAY(self, ...)                         \
  do {                                         \
    (self)->cnt++;                             \
    (self)->finding((self)->arg, __VA_ARGS__); \
  } while (0)

static void span_set(repair_t *self, uint32_t span, uint32_t home, uint32_t state) {
  uint64_t *word = &wksp__span_words(self->wksp)[span];
  wksp__st(word, SPAN_NEXT(wksp__ld(word), home, 0, state));
}

/* The partition in which size bytes at gaddr lie, if there is one. */
static int lies_in(fd_wksp_t const *wksp, uint64_t gaddr, uint64_t size, fd_wksp_part_t *ret_part) {
  if (gaddr < wksp->data_lo || gaddr > wksp->data_hi - size) return 0;
  return wksp__part_look(wksp, gaddr, ret_part) == 1 &&
         ret_part->gaddr + ret_part->size - gaddr >= size;
}

/* A head lies in its user's memory. In any other kind of partition it would go with that. */
static int home_good(fd_wksp_t const *wksp, uint32_t id, uint64_t dir) {
  fd_wksp_part_t part;
  return DIR_WHAT(dir) == DIR_HOME &&
         lies_in(wksp, DIR_GADDR(dir), sizeof(struct fd_alloc), &part) &&
         (part.kind & 255U) == FD_WKSP_KIND_USER && wksp__home_agrees(wksp, id, DIR_GADDR(dir));
}

/* Whether it leads to memory that can be a heap; *ret_home: whose. */
static int heap_good(fd_wksp_t const *wksp, uint64_t dir, uint32_t *ret_home) {
  fd_wksp_part_t part;
  if (DIR_WHAT(dir) != DIR_HEAP || !lies_in(wksp, DIR_GADDR(dir), wksp__heap_size(wksp), &part) ||
      (part.kind & 255U) != FD_WKSP_KIND_HEAP || part.gaddr != DIR_GADDR(dir))
    return 0;
  *ret_home = part.kind >> 8;
  return 1;
}

static int home_there(fd_wksp_t const *wksp, uint32_t home) {
  return home < wksp->heap_max && DIR_WHAT(wksp__ld(&wksp__heap_dir(wksp)[home])) == DIR_HOME;
}

/* Homes first: what is kept afterwards, heap or partition, is kept for a home that stays. */
static void directory(repair_t *self) {
  fd_wksp_t *wksp = self->wksp;
  for (uint32_t heaps = 0; heaps < 2; heaps++)
    for (uint32_t id = 1; id < wksp->heap_max; id++) {
      uint64_t *word = &wksp__heap_dir(wksp)[id], dir = wksp__ld_acquire(word);
      uint32_t home;
      if (!dir || (DIR_WHAT(dir) == DIR_HEAP) != heaps) continue;
      if (heaps ? heap_good(wksp, dir, &home) && home_there(wksp, home) : home_good(wksp, id, dir))
        continue;
      SAY(self,
          "dropped: entry %u of the heap directory (%#lx) does not lead to a heap or fd_alloc", id,
          dir);
      wksp__st(word, 0UL);
    }
}

/* One span of a partition for spans, up to `end`, of the alloc with that home. */
static void span_mend(repair_t *self, uint32_t span, uint32_t end, uint32_t home) {
  fd_wksp_t *wksp = self->wksp;
  uint64_t e = wksp__ld_acquire(&wksp__span_words(wksp)[span]);
  uint64_t alloc_gaddr = DIR_GADDR(wksp__ld(&wksp__heap_dir(wksp)[home]));
  uint32_t state = SPAN_STATE(e), cls = SPAN_CLASS(e);
  int pooled = state == WKSP_SPAN_POOL || state == WKSP_SPAN_TAKEN;
  if (pooled && SPAN_HEAP(e) == home) return;
  /* What it is part of comes before it, so that is in order. */
  if (state == WKSP_SPAN_TAIL &&
      (wksp__tail_good(wksp, span, home, e) || wksp__home_ending(wksp, home)))
    return;
  if (!wksp__span_possible(wksp, span, e) || !wksp__heap_of(wksp, SPAN_HEAP(e), alloc_gaddr) ||
      !(wksp__tails_there(wksp, span, end, home, e) || wksp__home_ending(wksp, home))) {
    SAY(self, "dropped: the blocks of span %u at %#lx, whose word was %#lx", span,
        wksp__span_gaddr(wksp, span), e);
    span_set(self, span, home, WKSP_SPAN_POOL);
    return;
  }
  if (state == WKSP_SPAN_SETUP) return;
  uint32_t last = wksp__class(wksp, cls)->word_cnt - 1;
  wksp__pair_t *pair = &wksp__pairs(wksp, span, cls)[last];
  uint64_t tail = wksp__tail(wksp, cls, last);
  uint64_t a = wksp__ld(&pair->a), f = wksp__ld(&pair->f);
  if ((a & tail) == tail && !(f & tail)) return;
  SAY(self, "changed: span %u at %#lx had marks for blocks that do not exist", span,
      wksp__span_gaddr(wksp, span));
  wksp__st(&pair->a, a | tail);
  wksp__st(&pair->f, f & ~tail);
}

/* Partitions of fd_allocs. */
static void partitions(repair_t *self) {
  fd_wksp_t *wksp = self->wksp;
  fd_wksp_part_t part;
  for (uint64_t from = 0; wksp__part_look_next(wksp, from, &part) == 1;
       from = part.gaddr + part.size) {
    uint32_t kind = part.kind & 255U, home = part.kind >> 8;
    if (kind == FD_WKSP_KIND_USER) continue;
    int orphan = !home_there(wksp, home);
    int broken = kind == FD_WKSP_KIND_SPANS &&
                 (((part.gaddr - wksp->data_lo) | part.size) & (WKSP_SPAN_SZ - 1) ||
                  part.size > WKSP_REGION_SZ_MAX);
    uint32_t span = wksp__span_of(wksp, part.gaddr);
    uint32_t end = span + (uint32_t)(part.size >> WKSP_SPAN_LG);
    if (orphan || broken) {
      SAY(self, "dropped: partition at %#lx of %lu bytes and tag %lu: %s", part.gaddr, part.size,
          part.tag,
          orphan ? "its fd_alloc is gone"
                 : "it holds spans, but is not made of whole ones, or of too many");
      if (kind == FD_WKSP_KIND_SPANS)
        for (; span < end; span++) span_set(self, span, 0, WKSP_SPAN_NONE);
      wksp__part_drop(wksp, part.gaddr);
      continue;
    }
    for (; kind == FD_WKSP_KIND_SPANS && span < end; span++) span_mend(self, span, end, home);
  }
}

/* Spans in no partition for spans. */
static void strays(repair_t *self) {
  fd_wksp_t *wksp = self->wksp;
  uint32_t cnt = wksp__span_cnt(wksp), end = 0;
  fd_wksp_part_t part;
  for (uint32_t span = 0; span < cnt; span++) {
    if (span < end || !SPAN_STATE(wksp__ld(&wksp__span_words(wksp)[span]))) continue;
    if (wksp__part_look(wksp, wksp__span_gaddr(wksp, span), &part) == 1 &&
        (part.kind & 255U) == FD_WKSP_KIND_SPANS) {
      end = wksp__span_of(wksp, part.gaddr) + (uint32_t)(part.size >> WKSP_SPAN_LG);
      continue;
    }
    SAY(self, "dropped: span %u at %#lx, which is in no partition for spans", span,
        wksp__span_gaddr(wksp, span));
    span_set(self, span, 0, WKSP_SPAN_NONE);
  }
}

uint32_t wksp__alloc_owner_living(fd_wksp_t const *wksp) {
  for (uint32_t id = 1; id < wksp->heap_max; id++) {
    uint64_t dir = wksp__ld_acquire(&wksp__heap_dir(wksp)[id]);
    uint32_t home;
    if (!heap_good(wksp, dir, &home)) continue; /* whether or not its home is there */
    wksp__heap_t const *heap = fd_wksp_laddr_fast(wksp, DIR_GADDR(dir));
    uint64_t owner = wksp__ld_acquire(&heap->owner);
    uint64_t name = owner & ((1UL << 52) - 1);
    if (owner && !wksp__name_dead(wksp, name)) return wksp__name_slot(name) + 1;
  }
  return 0;
}

uint32_t wksp__alloc_repair(wksp__call_t *call, wksp__finding_t finding, void *arg) {
  repair_t self = {.wksp = call->wksp, .finding = finding, .arg = arg};
  for (uint32_t i = 0; i < call->wksp->slot_max; i++) { /* before what they are about changes */
    wksp__slot_t *slot = &wksp__slots(call->wksp)[i];
    uint64_t claim = wksp__ld_acquire(&slot->claim);
    if (wksp__name_dead(call->wksp, wksp__name_of(i, CLAIM_GEN(claim))))
      wksp__lot_settle(call->wksp, slot);
  }
  directory(&self);
  partitions(&self);
  strays(&self);
  self.cnt += wksp__held_repair(call->wksp, finding, arg); /* what spans are is settled now */
  for (uint32_t id = 1; id < call->wksp->heap_max; id++) {
    uint64_t dir = wksp__ld(&wksp__heap_dir(call->wksp)[id]);
    if (DIR_WHAT(dir) != DIR_HEAP) continue;
    wksp__heap_t *heap = fd_wksp_laddr_fast(call->wksp, DIR_GADDR(dir));
    /* One that has an owner has a dead one: what he had in flight is settled by his name. */
    if (!wksp__ld(&heap->owner))
      wksp__st_release(&heap->owner, WKSP_OWNER_DEAD); /* pairs with the acquire of who takes it */
  }
  return self.cnt;
}
