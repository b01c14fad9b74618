/* alloc_walk: reading an fd_alloc: its live blocks, its figures, its invariants.

   Works on read-only joins too. Nothing is locked: what is read while others allocate and free is
   true of each block at some moment, not of all at one. Everything is range-checked, since it may
   be damaged. */

#include "core/alloc.h"
#include "core/fail.h"

#include <stdlib.h>

/* Whether a span's live word names a heap of this alloc. */
static int span_is_of(fd_wksp_t const *wksp, uint64_t e, uint64_t alloc_gaddr) {
  return wksp__span_live(e) && wksp__heap_of(wksp, SPAN_HEAP(e), alloc_gaddr) != NULL;
}

typedef struct walk {
  fd_wksp_t const *wksp;
  struct fd_alloc const *alloc;
  wksp__held_blocks_t held; /* by magazines: free */
  uint64_t *suspect;        /* gaddrs */
  uint32_t suspect_cnt;
  int (*on_block)(void *, fd_alloc_block_t const *);
  void *arg;
} walk_t;

uint64_t wksp__slot_suspect(fd_wksp_t const *wksp, uint32_t idx) {
  wksp__slot_t const *slot = &wksp__slots(wksp)[idx];
  uint64_t flight = wksp__ld_acquire(&slot->flight), claim = wksp__ld_acquire(&slot->claim);
  if (!flight || wksp__ld_acquire(&slot->intent)) return 0; /* an intent's is not lost */
  /* only who holds a slot has something in flight himself */
  if (!(flight & WKSP_FLIGHT_DEAD) && (claim & 3UL) == WKSP_SLOT_HELD &&
      !wksp__name_dead(wksp, wksp__name_of(idx, claim >> 32)))
    return 0;
  return wksp__flight_block(wksp, slot, flight);
}

int wksp__is_suspect(struct fd_alloc const *alloc, fd_wksp_t const *wksp, uint64_t gaddr) {
  for (uint32_t i = 0; i < wksp->slot_max; i++)
    if (wksp__slot_suspect(wksp, i) == gaddr) return 1;
  for (uint32_t i = 0; i < WKSP_SUSPECTS; i++)
    if (wksp__ld_acquire(&alloc->suspect[i]) == gaddr) return 1;
  return 0;
}

/* Slots before the ring: a dead thread's block is noted in the ring before its slot forgets it. 0,
   E_NOMEM (reported). */
static int suspects(walk_t *walk) {
  fd_wksp_t const *wksp = walk->wksp;
  walk->suspect = calloc(wksp->slot_max + WKSP_SUSPECTS, sizeof *walk->suspect);
  if (!walk->suspect)
    return wksp__fail(WKSP_E_NOMEM, "fd_alloc: no memory for a list of %u suspect blocks",
                      wksp->slot_max + WKSP_SUSPECTS);
  for (uint32_t i = 0; i < wksp->slot_max + WKSP_SUSPECTS; i++) {
    uint64_t gaddr = i < wksp->slot_max
                         ? wksp__slot_suspect(wksp, i)
                         : wksp__ld_acquire(&walk->alloc->suspect[i - wksp->slot_max]);
    if (gaddr) walk->suspect[walk->suspect_cnt++] = gaddr;
  }
  return 0;
}

static int is_suspect(walk_t const *walk, uint64_t gaddr) {
  for (uint32_t i = 0; i < walk->suspect_cnt; i++)
    if (walk->suspect[i] == gaddr) return 1;
  return 0;
}

static int span_walk(walk_t *walk, uint32_t span, fd_alloc_block_t *block) {
  fd_wksp_t const *wksp = walk->wksp;
  struct fd_alloc const *alloc = walk->alloc;
  uint64_t e = wksp__ld_acquire(&wksp__span_words(wksp)[span]);
  if (!span_is_of(wksp, e, alloc->self)) return 0;
  uint32_t cls = SPAN_CLASS(e);
  wksp__pair_t const *pair = wksp__pairs(wksp, span, cls);
  block->size = wksp__class_size(cls);
  block->cls = cls;
  for (uint32_t w = 0; w < wksp__class(wksp, cls)->word_cnt; w++) {
    uint64_t used =
        (wksp__ld(&pair[w].a) ^ wksp__ld_acquire(&pair[w].f)) & ~wksp__tail(wksp, cls, w);
    for (; used; used &= used - 1) {
      block->gaddr =
          wksp__span_gaddr(wksp, span) + (w * 64UL + (ulong)__builtin_ctzl(used)) * block->size;
      if (wksp__held_has(&walk->held, block->gaddr)) continue;
      block->kind = is_suspect(walk, block->gaddr) ? FD_ALLOC_BLOCK_SUSPECT : FD_ALLOC_BLOCK_SMALL;
      int stop = walk->on_block(walk->arg, block);
      if (stop) return stop;
    }
  }
  return 0;
}

static int walk_parts(walk_t *walk) {
  fd_wksp_t const *wksp = walk->wksp;
  struct fd_alloc const *alloc = walk->alloc;
  fd_wksp_part_t part;
  int more;
  for (uint64_t from = 0; (more = wksp__part_next(wksp, from, &part)) == 1;
       from = part.gaddr + part.size) {
    /* after the first look: that may have ended a dead thread's change, which gives him a flight */
    int err = walk->suspect ? 0 : suspects(walk);
    if (err) return err;
    if (part.kind >> 8 != alloc->home) continue;
    fd_alloc_block_t block = {.gaddr = part.gaddr,
                              .size = part.size,
                              .kind = FD_ALLOC_BLOCK_LARGE,
                              .cls = FD_ALLOC_CLASS_LARGE,
                              .tag = part.tag};
    int stop = 0;
    if ((part.kind & 255U) == FD_WKSP_KIND_LARGE) {
      if (is_suspect(walk, part.gaddr)) block.kind = FD_ALLOC_BLOCK_SUSPECT;
      stop = walk->on_block(walk->arg, &block);
    } else if ((part.kind & 255U) == FD_WKSP_KIND_SPANS) {
      uint32_t span = wksp__span_of(wksp, part.gaddr),
               end = span + (uint32_t)(part.size >> WKSP_SPAN_LG);
      for (; span < end && !stop; span++) stop = span_walk(walk, span, &block);
    }
    if (stop) return stop;
  }
  return more;
}

int fd_alloc_walk(fd_alloc_t *join, int (*on_block)(void *arg, fd_alloc_block_t const *block),
                  void *arg) {
  struct fd_alloc *alloc = wksp__alloc_of(join);
  if (!alloc) return WKSP_E_INVAL;
  fd_wksp_t *wksp = fd_alloc_wksp(join);
  if (!wksp)
    return wksp__fail(WKSP_E_INVAL, "fd_alloc: %p lies in no joined workspace", (void *)join);
  walk_t walk = {.wksp = wksp, .alloc = alloc, .on_block = on_block, .arg = arg};
  int rc = wksp__held_blocks(wksp, alloc->self, &walk.held);
  if (!rc) rc = walk_parts(&walk);
  free(walk.suspect);
  wksp__held_free(&walk.held);
  return rc;
}

static int any_block(void *arg, fd_alloc_block_t const *block) {
  (void)arg;
  (void)block;
  return 1;
}

int fd_alloc_is_empty(fd_alloc_t *join) {
  if (!join) return 0;
  return fd_alloc_walk(join, any_block, NULL) == 0;
}

static int count_block(void *arg, fd_alloc_block_t const *block) {
  fd_alloc_stat_t *stat = arg;
  if (block->kind == FD_ALLOC_BLOCK_SUSPECT) stat->suspect_cnt++;
  if (block->size <= FD_ALLOC_SMALL_MAX) {
    stat->small_cnt++;
    stat->small_sz += block->size;
  } else {
    stat->large_cnt++;
    stat->large_sz += block->size;
  }
  return 0;
}

int fd_alloc_stat(fd_alloc_t *join, fd_alloc_stat_t *ret_stat) {
  fd_alloc_stat_t stat = {0};
  int err = fd_alloc_walk(join, count_block, &stat);
  if (err) return err;
  struct fd_alloc *alloc = wksp__alloc_of(join);
  fd_wksp_t *wksp = fd_alloc_wksp(join);
  for (uint32_t span = 0; span < wksp__span_cnt(wksp); span++) {
    uint32_t head = span;
    uint64_t e = wksp__ld_acquire(&wksp__span_words(wksp)[span]);
    int pooled = (SPAN_STATE(e) == WKSP_SPAN_POOL || SPAN_STATE(e) == WKSP_SPAN_TAKEN) &&
                 SPAN_HEAP(e) == alloc->home;
    pooled |= SPAN_STATE(e) == WKSP_SPAN_SETUP && wksp__heap_of(wksp, SPAN_HEAP(e), alloc->self);
    int tail =
        SPAN_STATE(e) == WKSP_SPAN_TAIL &&
        (SPAN_HEAP(e) == alloc->home || wksp__heap_of(wksp, SPAN_HEAP(e), alloc->self) != NULL);
    if (tail) e = wksp__span_look(wksp, wksp__span_gaddr(wksp, span), &head);
    int live = span_is_of(wksp, e, alloc->self);
    if (!pooled && !tail && !live) continue;
    stat.span_sz += WKSP_SPAN_SZ;
    if (!live || !wksp__span_used(wksp, head, SPAN_CLASS(e))) stat.span_free_sz += WKSP_SPAN_SZ;
  }
  for (uint32_t id = 1; id < wksp->heap_max; id++) {
    wksp__heap_t *heap = wksp__heap_of(wksp, id, alloc->self);
    if (!heap) continue;
    uint64_t owner = wksp__ld_acquire(&heap->owner);
    stat.heap_cnt++;
    stat.heap_left_cnt += !owner || wksp__name_dead(wksp, owner & ((1UL << 52) - 1));
  }
  stat.bad_free_cnt = wksp__ld(&alloc->bad_free_cnt);
  stat.late_write_cnt = wksp__ld(&alloc->late_write_cnt);
  *ret_stat = stat;
  return 0;
}

/* Check
 * ---------------------------------------------------------------------------------------------- */

/* Whether the word can be one of a span there that a heap has: in SETUP or live, and if it is wide
   where such a span can be. */
int wksp__span_possible(fd_wksp_t const *wksp, uint32_t span, uint64_t e) {
  uint32_t state = SPAN_STATE(e), cls = SPAN_CLASS(e);
  if (state == WKSP_SPAN_SETUP) cls = cls < WKSP_SPAN_WIDE ? 0 : cls - WKSP_SPAN_WIDE;
  return state >= WKSP_SPAN_SETUP && state <= WKSP_SPAN_PENDING && cls < WKSP_CLASS_CNT &&
         wksp__span_fits(wksp, span, wksp__class(wksp, cls)->lg);
}

/* Whether a word of TAIL of an alloc with that home is where its span can have it, and the span's
   own word is one of a span as wide: live and of that class, or in SETUP; and of the heap that the
   TAIL names. */
int wksp__tail_good(fd_wksp_t const *wksp, uint32_t span, uint32_t home, uint64_t e) {
  if (SPAN_CLASS(e) >= WKSP_CLASS_CNT) return 0;
  uint32_t lg = wksp__class(wksp, SPAN_CLASS(e))->lg, head = wksp__span_head(wksp, span, lg);
  if (head == span || head == UINT32_MAX) return 0;
  uint64_t first = wksp__ld_acquire(&wksp__span_words(wksp)[head]);
  if (!wksp__span_possible(wksp, head, first)) return 0;
  if (SPAN_HEAP(e) != home && SPAN_HEAP(e) != SPAN_HEAP(first)) return 0;
  if (wksp__span_live(first)) return SPAN_CLASS(first) == SPAN_CLASS(e);
  return SPAN_CLASS(first) >= WKSP_SPAN_WIDE &&
         wksp__class(wksp, SPAN_CLASS(first) - WKSP_SPAN_WIDE)->lg == lg;
}

static int tails_until(fd_wksp_t const *wksp, uint32_t span, uint32_t end, uint32_t home,
                       uint64_t e) {
  uint32_t size = wksp__span_live(e) ? 1U << wksp__class(wksp, SPAN_CLASS(e))->lg : 1;
  if (size > end - span) return 0;
  for (uint32_t at = 1; at < size; at++) {
    uint64_t tail = wksp__ld_acquire(&wksp__span_words(wksp)[span + at]);
    if (SPAN_STATE(tail) != WKSP_SPAN_TAIL || SPAN_CLASS(tail) != SPAN_CLASS(e) ||
        (SPAN_HEAP(tail) != home && SPAN_HEAP(tail) != SPAN_HEAP(e)))
      return 0;
  }
  return 1;
}

/* Where the alloc's partitions for spans that follow one another end, at least as far as a span
   that starts before `end`, the end of one of them, can go. */
static uint32_t spans_end(fd_wksp_t const *wksp, uint32_t end, uint32_t home) {
  uint32_t most = end + (1U << WKSP_SPAN_LG_MAX), cnt = wksp__span_cnt(wksp);
  fd_wksp_part_t part;
  while (end < most && end < cnt) {
    uint64_t gaddr = wksp__span_gaddr(wksp, end);
    if (wksp__part_look(wksp, gaddr, &part) != 1 || part.gaddr != gaddr ||
        part.kind != (FD_WKSP_KIND_SPANS | home << 8) || part.size & (WKSP_SPAN_SZ - 1) ||
        part.size > WKSP_REGION_SZ_MAX)
      break;
    end += (uint32_t)(part.size >> WKSP_SPAN_LG);
  }
  return end < cnt ? end : cnt;
}

int wksp__tails_there(fd_wksp_t const *wksp, uint32_t span, uint32_t end, uint32_t home,
                      uint64_t e) {
  return tails_until(wksp, span, end, home, e) ||
         tails_until(wksp, span, spans_end(wksp, end, home), home, e);
}

int wksp__home_ending(fd_wksp_t const *wksp, uint32_t home) {
  uint64_t dir = wksp__ld_acquire(&wksp__heap_dir(wksp)[home]), gaddr = DIR_GADDR(dir);
  return DIR_WHAT(dir) == DIR_HOME && gaddr >= wksp->data_lo &&
         gaddr <= wksp->data_hi - sizeof(struct fd_alloc) &&
         wksp__alloc_ending(fd_wksp_laddr_fast(wksp, gaddr));
}

/* A span's pairs: bits beyond the blocks are 1 in A and never toggled in F. */
static uint32_t check_pairs(fd_wksp_t const *wksp, uint32_t span, uint32_t cls,
                            wksp__finding_t finding, void *arg) {
  wksp__pair_t const *pair = wksp__pairs(wksp, span, cls);
  uint32_t last = wksp__class(wksp, cls)->word_cnt - 1;
  uint64_t tail = wksp__tail(wksp, cls, last);
  if ((wksp__ld(&pair[last].a) & tail) == tail && !(wksp__ld(&pair[last].f) & tail)) return 0;
  finding(arg, "span %u (class of %u bytes): blocks that do not exist are marked free", span,
          wksp__class_size(cls));
  return 1;
}

static uint32_t check_span(fd_wksp_t const *wksp, uint32_t span, uint32_t end, uint32_t home,
                           wksp__finding_t finding, void *arg) {
  uint64_t e = wksp__ld_acquire(&wksp__span_words(wksp)[span]);
  uint32_t state = SPAN_STATE(e);
  if (state == WKSP_SPAN_TAIL) {
    if (wksp__tail_good(wksp, span, home, e) || wksp__ld(&wksp__span_words(wksp)[span]) != e ||
        wksp__home_ending(wksp, home))
      return 0;
    finding(arg, "span %u: its word %#lx says that it is part of a span before it, which it is not",
            span, e);
    return 1;
  }
  if (state == WKSP_SPAN_POOL || state == WKSP_SPAN_TAKEN) {
    if (SPAN_HEAP(e) == home) return 0;
    finding(arg, "span %u: in the pool of id %u, but its partition is of id %u", span, SPAN_HEAP(e),
            home);
    return 1;
  }
  if (!wksp__span_possible(wksp, span, e)) {
    finding(arg, "span %u: its word %#lx is none that a span of a partition can have", span, e);
    return 1;
  }
  uint64_t alloc_gaddr = DIR_GADDR(wksp__ld(&wksp__heap_dir(wksp)[home]));
  if (!wksp__heap_of(wksp, SPAN_HEAP(e), alloc_gaddr)) {
    finding(arg, "span %u: heap %u is none of the fd_alloc at %#lx", span, SPAN_HEAP(e),
            alloc_gaddr);
    return 1;
  }
  if (!wksp__tails_there(wksp, span, end, home, e) && !wksp__home_ending(wksp, home) &&
      wksp__ld_acquire(&wksp__span_words(wksp)[span]) == e) { /* its owner has not given it up */
    finding(arg, "span %u (class of %u bytes): not all of its 64 KiB say that they are of it", span,
            wksp__class_size(SPAN_CLASS(e)));
    return 1;
  }
  return state == WKSP_SPAN_SETUP ? 0 : check_pairs(wksp, span, SPAN_CLASS(e), finding, arg);
}

/* An fd_alloc, or one half made or deleted, that says of itself what the directory says. */
int wksp__home_agrees(fd_wksp_t const *wksp, uint32_t id, uint64_t gaddr) {
  struct fd_alloc const *alloc = fd_wksp_laddr_fast(wksp, gaddr);
  if (wksp__alloc_ending(alloc)) return 1;
  return wksp__ld_acquire(&alloc->magic) == WKSP_ALLOC_MAGIC && alloc->self == gaddr &&
         alloc->home == id;
}

static uint32_t check_directory(fd_wksp_t const *wksp, wksp__finding_t finding, void *arg) {
  uint32_t found = 0;
  for (uint32_t id = 1; id < wksp->heap_max; id++) {
    uint64_t dir = wksp__ld_acquire(&wksp__heap_dir(wksp)[id]), gaddr = DIR_GADDR(dir);
    if (!dir) continue;
    uint64_t size = DIR_WHAT(dir) == DIR_HOME ? sizeof(struct fd_alloc) : wksp__heap_size(wksp);
    fd_wksp_part_t part;
    int bad = DIR_WHAT(dir) != DIR_HOME && DIR_WHAT(dir) != DIR_HEAP;
    bad = bad || gaddr < wksp->data_lo || gaddr > wksp->data_hi - size;
    bad = bad || wksp__part_look(wksp, gaddr, &part) != 1 || part.gaddr + part.size - gaddr < size;
    if (!bad && DIR_WHAT(dir) == DIR_HOME) bad = !wksp__home_agrees(wksp, id, gaddr);
    if (!bad && DIR_WHAT(dir) == DIR_HEAP)
      bad = (part.kind & 255U) != FD_WKSP_KIND_HEAP || part.gaddr != gaddr;
    if (!bad) continue;
    finding(arg, "heap directory: entry %u (%#lx) does not lead to a heap or fd_alloc", id, dir);
    found++;
  }
  return found;
}

uint32_t wksp__alloc_check(fd_wksp_t const *wksp, wksp__finding_t finding, void *arg) {
  uint32_t found = check_directory(wksp, finding, arg) + wksp__held_check(wksp, finding, arg);
  uint32_t span = 0, cnt = wksp__span_cnt(wksp);
  fd_wksp_part_t part;
  /* Partitions in address order, and the spans in them; between them none may be a span. */
  for (uint64_t from = 0; wksp__part_look_next(wksp, from, &part) == 1;
       from = part.gaddr + part.size) {
    uint32_t kind = part.kind & 255U, home = part.kind >> 8;
    if (kind == FD_WKSP_KIND_USER) continue;
    if (home >= wksp->heap_max || DIR_WHAT(wksp__ld(&wksp__heap_dir(wksp)[home])) != DIR_HOME) {
      finding(arg, "partition at %#lx: its fd_alloc, id %u, is not in the heap directory",
              part.gaddr, home);
      found++;
      continue;
    }
    if (kind != FD_WKSP_KIND_SPANS) continue;
    uint32_t first = wksp__span_of(wksp, part.gaddr),
             end = first + (uint32_t)(part.size >> WKSP_SPAN_LG);
    if (((part.gaddr - wksp->data_lo) | part.size) & (WKSP_SPAN_SZ - 1) || end > cnt ||
        part.size > WKSP_REGION_SZ_MAX) {
      finding(arg, "partition at %#lx: holds spans but is not made of whole ones, or of too many",
              part.gaddr);
      found++;
      continue;
    }
    for (; span < first; span++)
      if (SPAN_STATE(wksp__ld(&wksp__span_words(wksp)[span]))) {
        finding(arg, "span %u: in no partition for spans", span);
        found++;
      }
    for (; span < end; span++) found += check_span(wksp, span, end, home, finding, arg);
  }
  for (; span < cnt; span++)
    if (SPAN_STATE(wksp__ld(&wksp__span_words(wksp)[span]))) {
      finding(arg, "span %u: in no partition for spans", span);
      found++;
    }
  return found;
}
