/* alloc_exact: malloc_to, take_from and free_from: blocks that a word in the workspace names, so
   that no kill can leave one that nobody knows.

   Problem: a block is taken off a magazine by one store and named somewhere by another. Whoever is
   killed in between leaves it to his slot's flight, as a suspect: perhaps lost, perhaps not.

   Model. The word, *dst, says who is at it: gaddr | mark | slot and number of the call. Before a
   call changes anything it writes its intent into its slot: which word, what for, and how far it
   has come. A block is handed out, or back, in the order that makes what a kill leaves harmless,
   since nobody touches a dead thread's magazines before its intent is settled (wksp__slot_settle):

     malloc_to   flight = block           which is the next of the magazine: still free in it
                 intent = OPEN
                 *dst: 0 -> PENDING       decided: it is named, and no longer the magazine's
                 the block leaves the magazine
                 intent -> DONE;  *dst: PENDING -> block;  flight = 0;  intent = 0

     take_from   flight = block;  intent = OPEN
     free_from   *dst: block -> TAKEN     decided: for others the word is empty
                 intent = DONE;  *dst: TAKEN -> 0
                 free_from: the block goes into the magazine
                 intent = 0

   A PENDING word's call is helped by who wants the block: its intent becomes DONE before the word
   changes. So OPEN with a word that does not bear the call's mark means: nothing was decided. What
   is settled for the dead, each time the same however often it is begun:

     malloc_to, OPEN, no mark    nothing; a large block, which is not of a magazine, is freed
     malloc_to, OPEN with mark,  the block leaves the dead one's magazine if it is still there; the
       or DONE                   mark goes
     the others, OPEN            the mark goes, and with it what had been decided: the word names
                                 the block as before
     the others, DONE            the mark goes with the block, which is put into the dead one's
                                 magazine if it is not there yet; a large one is freed

   Large blocks come and go in a change of their own, which changes the flight with them.

   Two calls of one slot have different numbers in their marks, modulo 512: a helper would have to
   stand still for so many of them between two of its instructions, and the same block go through
   the same word at its end, for a mark to be taken for another.

   What it refuses: words that hold anything but 0 or what these calls have put there. */

#include "core/alloc.h"
#include "core/alloc_hard.h"
#include "core/fail.h"
#include "core/seat.h"

/* *dst. A gaddr has 47 bits, the low four 0; there are at most 1,024 slots, so nine bits are left
   for the call's number: two between the mark and the gaddr, seven above the slot. */
#define DST_PENDING 1UL
#define DST_TAKEN   2UL
#define DST_MARK(v) ((v)&3UL)

/* An intent: gaddr of dst | state | kind | number. WKSP_INTENT_DEAD is among the low bits. */
#define STATE(i)  ((i)&3UL)
#define OPEN      1UL
#define DONE      2UL
#define KIND(i)   ((i) >> 47 & 3UL)
#define MALLOC    1UL
#define TAKE      2UL
#define FREE      3UL
#define SEQ(i)    ((i) >> 49)
#define SEQ_MAX   (1UL << 15)
#define PLACE(i)  ((i) & ((1UL << 47) - 8))
#define TO(i, st) (((i) & ~3UL) | (st))

/* Turns of a loop that somebody else's progress begins anew. */
#define TURNS_MAX 1000

_Static_assert((FD_ALLOC_DST_GADDR & 15UL) == 0, "marks are below");

typedef struct exact {
  wksp__op_t *op;
  uint64_t *dst, at; /* where, and its gaddr */
  uint64_t open;     /* the intent while it is open */
} exact_t;

#define SLOTS_MOST 1024U /* that a mark has room for */

static uint64_t mark_of(uint32_t slot_idx, uint64_t intent, uint64_t gaddr, uint64_t mark) {
  uint64_t seq = SEQ(intent);
  return gaddr | mark | (seq & 3UL) << 2 | (uint64_t)slot_idx << 47 | (seq >> 2 & 127UL) << 57;
}

static uint32_t dst_slot(uint64_t v) {
  return (uint32_t)(v >> 47 & 1023UL);
}

/* Whether the mark in v is that of the call with this intent, of slot idx. */
static int bears(uint64_t v, uint32_t idx, uint64_t intent, uint64_t mark) {
  return DST_MARK(v) == mark && v == mark_of(idx, intent, v & FD_ALLOC_DST_GADDR, mark);
}

static uint32_t idx_of(wksp__op_t const *op) {
  return (uint32_t)(op->call.slot - wksp__slots(op->wksp));
}

/* Begins: from here on a kill is settled. gaddr: the block, 0 if there is none yet. */
static void intend(exact_t *x, uint64_t kind, uint64_t gaddr) {
  wksp__slot_t *slot = x->op->call.slot;
  uint32_t seq = wksp__ld(&slot->intent_seq) + 1;
  wksp__st(&slot->intent_seq, seq);
  wksp__st(&slot->intent_heap, x->op->heap_id);
  x->open = x->at | OPEN | kind << 47 | (seq & (SEQ_MAX - 1)) << 49;
  /* A block that is free so far may be in flight before that, one that is named may not: without an
     intent it would be a suspect. */
  if (kind == MALLOC) wksp__st(&slot->flight, gaddr);
  wksp__st_release(&slot->intent, x->open);
  if (kind != MALLOC) wksp__st(&slot->flight, gaddr);
}

/* Ends. in_hand: the block is the caller's from here on, else it is named, or free. */
static void ended(exact_t *x, int in_hand) {
  wksp__slot_t *slot = x->op->call.slot;
  if (!in_hand) wksp__st(&slot->flight, 0UL);
  wksp__st_release(&slot->intent, 0UL);
}

/* The word is another call's: what it wants done comes first. 1: look again; 0: it is as good as
   empty for the moment, its call goes on by itself. */
static int help(exact_t *x, uint64_t v) {
  fd_wksp_t *wksp = x->op->wksp;
  if (dst_slot(v) >= wksp->slot_max) return 0;
  wksp__slot_t *slot = &wksp__slots(wksp)[dst_slot(v)];
  uint64_t claim = wksp__ld_acquire(&slot->claim);
  uint64_t name = wksp__name_of(dst_slot(v), claim >> 32);
  uint64_t intent = wksp__ld_acquire(&slot->intent);
  if (slot != x->op->call.slot && wksp__name_dead(wksp, name)) {
    if (wksp__slot_settle(&x->op->call, name)) return 1;
  }
  if (DST_MARK(v) == DST_TAKEN) return 0;
  if (PLACE(intent) != x->at || KIND(intent) != MALLOC ||
      !bears(v, dst_slot(v), intent, DST_PENDING))
    return 1; /* the call has gone on meanwhile, and so has the word */
  if (STATE(intent) == OPEN && !wksp__cas(&slot->intent, &intent, TO(intent, DONE))) return 1;
  wksp__cas(x->dst, &v, v & FD_ALLOC_DST_GADDR);
  return 1;
}

/* Magazines
 * ------------------------------------------------------------------------------------------ */

/* Takes the block off the class's magazine if it is the next one there. */
static void drop(wksp__heap_t *heap, uint32_t cls, uint64_t gaddr) {
  wksp__mag_t *mag = &heap->mag[cls];
  uint32_t top = wksp__ld(&mag->top);
  uint64_t mask = wksp__ld(&mag->mask);
  if (top > mag->lo) {
    if (wksp__ld(wksp__mag_place(heap, top - 8)) == gaddr) wksp__st(&mag->top, top - 8);
  } else if (mask && mag->mbase + (uint64_t)__builtin_ctzl(mask) * mag->size == gaddr) {
    wksp__st(&mag->mask, mask & (mask - 1));
  }
}

/* Puts the block on it, for which there is room. */
static void put(wksp__heap_t *heap, uint32_t cls, uint64_t gaddr) {
  wksp__mag_t *mag = &heap->mag[cls];
  uint32_t top = wksp__ld(&mag->top);
  wksp__st(wksp__mag_place(heap, top), gaddr);
  wksp__st(&mag->top, top + 8);
}

/* The class of the live block at gaddr, of a heap of this alloc; WKSP_CLASS_CNT if it is none. */
static uint32_t class_at(fd_wksp_t *wksp, uint64_t alloc_gaddr, uint64_t gaddr) {
  uint32_t span;
  uint64_t e = wksp__span_look(wksp, gaddr, &span);
  uint32_t cls = SPAN_CLASS(e);
  if (!wksp__span_live(e) || !wksp__heap_of(wksp, SPAN_HEAP(e), alloc_gaddr)) return WKSP_CLASS_CNT;
  uint32_t blk = wksp__blk_of(wksp, gaddr, cls);
  if (blk == UINT32_MAX) return WKSP_CLASS_CNT;
  wksp__pair_t const *pair = wksp__pairs(wksp, span, cls) + blk / 64;
  uint64_t a = wksp__ld_acquire(&pair->a);
  return (a ^ wksp__ld(&pair->f)) >> (blk & 63U) & 1UL ? cls : WKSP_CLASS_CNT;
}

/* Large blocks
 * --------------------------------------------------------------------------------------- */

static int flight_is(void *arg, wksp__tx_t *tx, uint64_t gaddr, uint64_t size) {
  (void)size;
  wksp__tx_put64(tx, arg, gaddr);
  return 0;
}

static int flight_ends(void *arg, wksp__tx_t *tx, uint64_t gaddr, uint64_t size) {
  (void)gaddr;
  (void)size;
  wksp__tx_put64(tx, arg, 0UL);
  return 0;
}

/* The kind of a large block's partition at gaddr, 0 if there is none, or E_AGAIN, E_CORRUPT
 * (reported). */
static int large_at(fd_wksp_t const *wksp, uint64_t gaddr) {
  fd_wksp_part_t part;
  if (gaddr < wksp->data_lo || gaddr >= wksp->data_hi) return 0;
  int found = wksp__part_find(wksp, gaddr, &part);
  if (found < 0) return found;
  return found && part.gaddr == gaddr && (part.kind & 255U) == FD_WKSP_KIND_LARGE ? (int)part.kind
                                                                                  : 0;
}

/* Frees the block in flight in the slot, and with it the flight, if it is a large one. 0, or
 * E_TIMEDOUT. */
static int free_flight(wksp__call_t *call, wksp__slot_t *slot, uint64_t wait_ns) {
  fd_wksp_t *wksp = call->wksp;
  uint64_t gaddr = wksp__ld(&slot->flight) & ~WKSP_FLIGHT_DEAD;
  fd_wksp_part_t part;
  if (gaddr < wksp->data_lo || gaddr >= wksp->data_hi) return 0;
  uint32_t span;
  if (SPAN_STATE(wksp__span_look(wksp, gaddr, &span)) != WKSP_SPAN_NONE) return 0;
  int err = wksp__lock(call, wait_ns);
  if (err) return err;
  /* Again, now that nobody ends a change that empties it. */
  int still = (wksp__ld(&slot->flight) & ~WKSP_FLIGHT_DEAD) == gaddr;
  if (still && wksp__part_look(wksp, gaddr, &part) == 1 && part.gaddr == gaddr &&
      (part.kind & 255U) == FD_WKSP_KIND_LARGE)
    err = wksp__part_free_locked(call, gaddr, part.kind, 0, flight_ends, &slot->flight);
  wksp__unlock(call);
  return err < 0 ? err : 0;
}

/* Settling
 * ---------------------------------------------------------------------------------------- */

/* The heap of a slot's dead holder, NULL if it is not his any more. */
static wksp__heap_t *dead_heap(fd_wksp_t *wksp, uint32_t idx, uint32_t id) {
  uint64_t dir = id && id < wksp->heap_max ? wksp__ld_acquire(&wksp__heap_dir(wksp)[id]) : 0;
  uint64_t gaddr = DIR_GADDR(dir);
  if (DIR_WHAT(dir) != DIR_HEAP || gaddr < wksp->data_lo ||
      gaddr > wksp->data_hi - wksp__heap_size(wksp))
    return NULL;
  wksp__heap_t *heap = fd_wksp_laddr_fast(wksp, gaddr);
  uint64_t name = WKSP_OWNER_NAME(wksp__ld_acquire(&heap->owner));
  return wksp__name_slot(name) == idx && wksp__name_dead(wksp, name) ? heap : NULL;
}

static void settle_malloc(fd_wksp_t *wksp, wksp__slot_t *slot, uint32_t idx) {
  uint64_t gaddr = wksp__ld(&slot->flight) & ~WKSP_FLIGHT_DEAD;
  wksp__heap_t *heap = dead_heap(wksp, idx, wksp__ld(&slot->intent_heap));
  for (uint32_t cls = 0; gaddr && heap && cls < WKSP_CLASS_CNT; cls++) drop(heap, cls, gaddr);
  if (gaddr && heap) wksp__hard_bury(wksp, gaddr); /* its word names it: live */
}

/* The block has left its word and is nobody's: into the dead one's magazine unless it is there. */
static int settle_taken(wksp__call_t *call, wksp__slot_t *slot, uint32_t idx, uint64_t wait_ns) {
  fd_wksp_t *wksp = call->wksp;
  uint64_t gaddr = wksp__ld(&slot->flight) & ~WKSP_FLIGHT_DEAD;
  if (gaddr < wksp->data_lo || gaddr >= wksp->data_hi) return 0;
  uint32_t span;
  if (SPAN_STATE(wksp__span_look(wksp, gaddr, &span)) == WKSP_SPAN_NONE)
    return free_flight(call, slot, wait_ns);
  wksp__heap_t *heap = dead_heap(wksp, idx, wksp__ld(&slot->intent_heap));
  uint32_t cls = heap ? class_at(wksp, wksp__ld(&heap->alloc), gaddr) : WKSP_CLASS_CNT;
  if (cls == WKSP_CLASS_CNT) return 0;
  uint32_t top = wksp__mag_top(wksp, heap, cls);
  int there = wksp__ld(wksp__mag_place(heap, top - 8)) == gaddr; /* below lo are places of 0 */
  if (!there && top <= wksp__mag_hi(wksp, cls)) {
    wksp__hard_lay(wksp, gaddr, cls);
    put(heap, cls, gaddr);
  }
  return 0;
}

/* The word that the intent names, NULL if none can be there. */
static uint64_t *place_of(fd_wksp_t *wksp, uint64_t intent) {
  uint64_t at = PLACE(intent);
  return at < wksp->data_lo || at > wksp->data_hi - 8 ? NULL : fd_wksp_laddr_fast(wksp, at);
}

int wksp__exact_settle(wksp__call_t *call, wksp__slot_t *slot, uint64_t wait_ns) {
  fd_wksp_t *wksp = call->wksp;
  uint32_t idx = (uint32_t)(slot - wksp__slots(wksp));
  uint64_t intent = wksp__ld_acquire(&slot->intent), *dst = place_of(wksp, intent), v = 0;
  int err = 0;
  if (!intent) return 0;
  if (dst) v = wksp__ld_seq(dst);
  intent = wksp__ld_seq(&slot->intent); /* a helper changes it before the word */
  uint64_t mark = KIND(intent) == MALLOC ? DST_PENDING : DST_TAKEN;
  int marked = dst && bears(v, idx, intent, mark), is_open = STATE(intent) == OPEN;
  if (KIND(intent) == MALLOC && is_open && !marked)
    err = free_flight(call, slot, wait_ns);
  else if (KIND(intent) == MALLOC)
    settle_malloc(wksp, slot, idx);
  else if (!is_open)
    err = settle_taken(call, slot, idx, wait_ns);
  if (err) return err;
  /* One whose intent was open gets back what its word named, one that was done keeps nothing. */
  if (KIND(intent) == MALLOC && is_open && marked) /* so that a kill here finds it decided */
    wksp__cas(&slot->intent, &intent, TO(intent, DONE));
  if (marked) wksp__cas(dst, &v, KIND(intent) == MALLOC || is_open ? v & FD_ALLOC_DST_GADDR : 0UL);
  wksp__st(&slot->flight, 0UL);
  wksp__st_release(&slot->intent, 0UL);
  return 0;
}

/* The calls
 * --------------------------------------------------------------------------------------- */

/* Starts a call at a word. 0 or why not (reported). */
static int begin(fd_alloc_t *join, ulong *dst, char const *what, wksp__op_t *op, exact_t *ret_x) {
  if (!join || !dst)
    return wksp__fail(WKSP_E_INVAL, "%s: the %s is NULL", what, join ? "word" : "join");
  int err = wksp__op_begin(join, op);
  if (err) return err;
  if (op->wksp->slot_max > SLOTS_MOST) {
    wksp__op_end(op);
    return wksp__fail(WKSP_E_UNSUPPORTED, "%s: workspace %s has slots for too many threads", what,
                      op->wksp->name);
  }
  uint64_t at = (uintptr_t)dst - (uintptr_t)op->wksp;
  if ((uintptr_t)dst % 8 || at < op->wksp->data_lo || at > op->wksp->data_hi - 8) {
    wksp__op_end(op);
    return wksp__fail(WKSP_E_INVAL,
                      "%s: the word at %p is not one of 8 bytes, aligned, in the data of the "
                      "alloc's workspace %s",
                      what, (void *)dst, op->wksp->name);
  }
  *ret_x = (exact_t){.op = op, .dst = dst, .at = at};
  return 0;
}

static int holds_something(uint64_t v, uint64_t at) {
  return wksp__fail(WKSP_E_BUSY,
                    "malloc_to: the word at gaddr %#lx holds %#lx already: take_from or free_from "
                    "it first",
                    at, v);
}

/* Waits, a little, for the word to be empty. 0, or E_BUSY. */
static int empty_word(exact_t *x) {
  uint64_t v = 0;
  for (uint32_t turn = 0; turn < TURNS_MAX; turn++) {
    v = wksp__ld_acquire(x->dst);
    if (!v) return 0;
    if (DST_MARK(v) != DST_TAKEN) break;
    if (!help(x, v)) wksp__relax(turn < 80 ? turn : 80);
  }
  return holds_something(v, x->at);
}

/* The word names the block, of which the intent tells: decided. 0, or E_BUSY. */
static int publish(exact_t *x, uint64_t gaddr) {
  uint64_t v = 0;
  /* within the CAS, release: the intent comes first; pairs with the acquire of *dst in help */
  if (wksp__cas(x->dst, &v, mark_of(idx_of(x->op), x->open, gaddr, DST_PENDING))) return 0;
  return holds_something(v, x->at);
}

/* After the decision, and once the block is no magazine's. */
static void published(exact_t *x, uint64_t gaddr) {
  wksp__slot_t *slot = x->op->call.slot;
  uint64_t mine = mark_of(idx_of(x->op), x->open, gaddr, DST_PENDING), open = x->open;
  wksp__cas(&slot->intent, &open, TO(x->open, DONE)); /* else a helper has */
  wksp__cas(x->dst, &mine, gaddr);                    /* likewise */
  ended(x, 0);
}

static int malloc_small_to(exact_t *x, uint32_t hint, uint32_t cls) {
  int err = wksp__heap_get(x->op, hint);
  if (err) return err;
  uint64_t gaddr = wksp__mag_peek(x->op, cls);
  if (!gaddr) return wksp_last_error_code();
  intend(x, MALLOC, gaddr);
  err = publish(x, gaddr);
  if (err) {
    ended(x, 0); /* the block has not left its magazine */
    return err;
  }
  drop(x->op->heap, cls, gaddr);
  wksp__hard_take(x->op, gaddr, cls);
  published(x, gaddr);
  return 0;
}

static int malloc_large_to(exact_t *x, ulong align, ulong sz) {
  wksp__op_t *op = x->op;
  wksp__slot_t *slot = op->call.slot;
  uint64_t gaddr, size;
  intend(x, MALLOC, 0);
  int err = wksp__part_alloc(&op->call, WKSP_LOCK_FETCH_NS, align < 64 ? 64 : align, sz,
                             op->alloc->tag, FD_WKSP_KIND_LARGE | op->alloc->home << 8, flight_is,
                             &slot->flight, &gaddr, &size);
  if (!err) {
    err = publish(x, gaddr);
    if (!err) {
      published(x, gaddr);
      return 0;
    }
    /* Should the lock not be had: it remains in flight, a suspect. */
    free_flight(&op->call, slot, WKSP_LOCK_CALL_NS);
  }
  ended(x, 1);
  return err;
}

int fd_alloc_malloc_to(fd_alloc_t *join, ulong align, ulong sz, ulong *dst) {
  wksp__op_t op;
  exact_t x;
  if (!align) align = FD_ALLOC_MALLOC_ALIGN_DEFAULT;
  if (!sz || (align & (align - 1)))
    return wksp__fail(WKSP_E_INVAL, "malloc_to: %lu bytes aligned to %lu: there is no such block",
                      sz, align);
  int err = begin(join, dst, "malloc_to", &op, &x);
  if (err) return err;
  err = empty_word(&x);
  if (op.alloc->flags & FD_ALLOC_FLAG_ALIGNED) align = wksp__align_up(align, sz);
  uint32_t cls = wksp__class_for(align, sz), hint = (uint32_t)fd_alloc_join_cgroup_hint(join);
  if (!err)
    err = cls == WKSP_CLASS_CNT ? malloc_large_to(&x, align, sz) : malloc_small_to(&x, hint, cls);
  wksp__op_end(&op);
  return err;
}

/* The block that the word names, so that it can be taken: 1 and it, 0: none. */
static int named(exact_t *x, uint64_t *ret_gaddr) {
  for (uint32_t turn = 0; turn < TURNS_MAX; turn++) {
    uint64_t v = wksp__ld_acquire(x->dst);
    if (!v) return 0;
    if (!(v & ~FD_ALLOC_DST_GADDR)) {
      *ret_gaddr = v;
      return 1;
    }
    if (!help(x, v)) return 0;
  }
  return 0;
}

/* Takes the block, which is of that class or none, out of the word: 1 it is ours, 0 it was not
   there any more. The intent is DONE then, and a kill frees the block. */
static int taken(exact_t *x, uint64_t kind, uint64_t gaddr, uint32_t cls) {
  wksp__slot_t *slot = x->op->call.slot;
  intend(x, kind, gaddr);
  uint64_t v = gaddr, mine = mark_of(idx_of(x->op), x->open, gaddr, DST_TAKEN);
  if (!wksp__cas(x->dst, &v, mine)) {
    ended(x, 0);
    return 0;
  }
  /* Another block of the same address, of another class, may have come into the word since its
     class was looked up: back with it, to be looked up again. */
  int same = class_at(x->op->wksp, x->op->alloc_gaddr, gaddr) == cls;
  if (same) wksp__st(&slot->intent, TO(x->open, DONE));
  wksp__cas(x->dst, &mine, same ? 0UL : gaddr);
  if (!same) ended(x, 0);
  return same;
}

static int no_block(exact_t *x, char const *what, uint64_t gaddr) {
  wksp__fetch_add(&x->op->alloc->bad_free_cnt, 1UL);
  return wksp__fail(WKSP_E_NOTFOUND,
                    "%s: the word at gaddr %#lx names %#lx, where no live block of the fd_alloc at "
                    "%#lx (tag %lu) starts; both were left alone",
                    what, x->at, gaddr, x->op->alloc_gaddr, x->op->alloc->tag);
}

/* 1 the block of a class is ours and, by free_from, free; 0 it is gone; negative errors. */
static int small_from(exact_t *x, uint32_t hint, uint64_t kind, uint32_t cls, uint64_t gaddr) {
  /* a heap in any case: what a kill leaves goes into its magazine */
  int err = wksp__heap_get(x->op, hint);
  if (err) return err;
  wksp__mag_room(x->op, cls);
  wksp__heap_t *heap = x->op->heap;
  if (wksp__mag_among_last(heap, heap->mag[cls].top, gaddr))
    return no_block(x, kind == FREE ? "free_from" : "take_from", gaddr);
  if (!taken(x, kind, gaddr, cls)) return 0;
  if (kind == FREE) {
    (void)wksp__hard_give(x->op, gaddr, cls); /* the word has named it: it is live */
    put(heap, cls, gaddr);
  }
  ended(x, kind == TAKE);
  return 1;
}

/* The same for a large one, under the lock, so that it can be freed once it is taken. */
static int large_from(exact_t *x, uint64_t kind, uint64_t gaddr) {
  wksp__op_t *op = x->op;
  wksp__slot_t *slot = op->call.slot;
  if (kind == TAKE) {
    int got = taken(x, kind, gaddr, WKSP_CLASS_CNT);
    if (got) ended(x, 1);
    return got;
  }
  int err = wksp__lock(&op->call, WKSP_LOCK_CALL_NS);
  if (err) return err;
  int got = taken(x, kind, gaddr, WKSP_CLASS_CNT);
  if (got)
    err = wksp__part_free_locked(&op->call, gaddr, FD_WKSP_KIND_LARGE | op->alloc->home << 8, 0,
                                 flight_ends, &slot->flight);
  wksp__unlock(&op->call);
  if (got) ended(x, 1); /* the flight has gone with the block */
  return err < 0 ? err : got;
}

static int from(fd_alloc_t *join, ulong *dst, uint64_t kind, uint64_t *ret_gaddr) {
  char const *what = kind == FREE ? "free_from" : "take_from";
  wksp__op_t op;
  exact_t x;
  int rc = begin(join, dst, what, &op, &x);
  if (rc) return rc;
  for (uint32_t turn = 0; turn < TURNS_MAX && !rc; turn++) {
    uint64_t gaddr = 0;
    if (!named(&x, &gaddr)) break;
    uint32_t cls = WKSP_CLASS_CNT;
    if (gaddr >= op.wksp->data_lo && gaddr < op.wksp->data_hi)
      cls = class_at(op.wksp, op.alloc_gaddr, gaddr);
    int large = cls < WKSP_CLASS_CNT ? 0 : large_at(op.wksp, gaddr);
    if (cls < WKSP_CLASS_CNT)
      rc = small_from(&x, (uint32_t)fd_alloc_join_cgroup_hint(join), kind, cls, gaddr);
    else if (large == (int)(FD_WKSP_KIND_LARGE | op.alloc->home << 8))
      rc = large_from(&x, kind, gaddr);
    else if (large < 0)
      rc = large;
    else if (wksp__ld_acquire(dst) == gaddr) /* else it was freed meanwhile */
      rc = no_block(&x, what, gaddr);
    if (rc > 0) *ret_gaddr = gaddr;
  }
  wksp__op_end(&op);
  return rc;
}

void *fd_alloc_take_from(fd_alloc_t *join, ulong *dst) {
  uint64_t gaddr = 0;
  if (from(join, dst, TAKE, &gaddr) <= 0) return NULL;
  return fd_wksp_laddr_fast(fd_alloc_wksp(join), gaddr);
}

int fd_alloc_free_from(fd_alloc_t *join, ulong *dst) {
  uint64_t gaddr;
  return from(join, dst, FREE, &gaddr);
}
