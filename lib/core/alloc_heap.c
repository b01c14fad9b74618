/* alloc_heap: who owns which heap, and making a heap's caches anew.

   A heap is the caches of one thread at a time for one alloc; the spans name the heap, the heap's
   owner word names the thread. So a thread's death, its end, and the theft of an idle thread's heap
   by a compactor are one CAS each, whatever the heap holds:

     thread ends or leaves     owner -> 0         in good order: caches may be used as they are
     thread is killed          (nothing)          its name is dead: who takes the heap rebuilds it
     compactor                 under the gate: owner -> compactor, later -> 0

   Heaps go from one thread to the next, so there are never more than there were threads at once. */

#include "core/alloc.h"
#include "core/alloc_hard.h"
#include "core/fail.h"
#include "core/map.h"
#include "core/private.h"

#include <string.h>

uint64_t wksp__heap_owner_word(wksp__call_t *call) {
  uint64_t epoch = call->seat ? call->seat->epoch++ : 0;
  return call->name | epoch << WKSP_OWNER_EPOCH_SHIFT;
}

wksp__heap_t *wksp__heap_of(fd_wksp_t const *wksp, uint32_t id, uint64_t alloc_gaddr) {
  if (!id || id >= wksp->heap_max) return NULL;
  uint64_t dir = wksp__ld_acquire(&wksp__heap_dir(wksp)[id]);
  uint64_t gaddr = DIR_GADDR(dir);
  if (DIR_WHAT(dir) != DIR_HEAP || gaddr < wksp->data_lo ||
      gaddr > wksp->data_hi - wksp__heap_size(wksp))
    return NULL;
  wksp__heap_t *heap = fd_wksp_laddr_fast(wksp, gaddr);
  return wksp__ld(&heap->alloc) == alloc_gaddr ? heap : NULL;
}

int wksp__heap_listed(fd_wksp_t const *wksp, uint32_t id, uint64_t const *owner) {
  uint64_t dir = wksp__ld_acquire(&wksp__heap_dir(wksp)[id]);
  return dir == (fd_wksp_gaddr_fast(wksp, owner) | DIR_HEAP);
}

_Static_assert(offsetof(wksp__heap_t, owner) == 0, "the address of the owner word is the heap's");

/* Seats
 * ---------------------------------------------------------------------------------------------- */

int wksp__gate_serve(wksp__slot_t *slot, uint64_t key) {
  for (uint64_t gate = wksp__ld(&slot->gate); gate != key;)
    if (wksp__gate_bars(gate))
      return 0;
    else if (wksp__cas(&slot->gate, &gate, key))
      break; /* not by a store: a closer may come */
  return 1;
}

void wksp__gate_serve_none(wksp__slot_t *slot) {
  wksp__gate_serve(slot, 0);
}

/* Also for a short form that a signal handler of ours has interrupted on its way in. */
void wksp__seat_short_off(wksp__seat_t *seat) {
  wksp__fast_off();
  if (seat->slot) wksp__gate_serve_none(seat->slot);
}

static void seat_remove(wksp__seat_t *seat, uint32_t at) {
  wksp__seat_short_off(seat);
  seat->heap_cnt--;
  memmove(&seat->heap[at], &seat->heap[at + 1], (seat->heap_cnt - at) * sizeof seat->heap[0]);
}

static int still_ours(wksp__seat_t *seat, uint32_t at) {
  return wksp__heap_listed(seat->wksp, seat->heap[at].id, seat->heap[at].owner) &&
         wksp__ld_acquire(seat->heap[at].owner) == seat->heap[at].owner_val;
}

/* Leaves the heap in good order. Out of the seat first: a signal handler must not find it there
   when it is another's. */
static void leave(wksp__seat_t *seat, uint32_t at) {
  uint64_t mine = seat->heap[at].owner_val, *owner = seat->heap[at].owner;
  int ours = still_ours(seat, at);
  seat_remove(seat, at);
  if (ours) wksp__cas(owner, &mine, 0UL);
}

void wksp__seat_leave_heaps(wksp__seat_t *seat) {
  while (seat->heap_cnt) leave(seat, seat->heap_cnt - 1);
}

/* Their owner words keep our name, which dies with the slot: what it has in flight, or intends, is
   settled before anybody takes them, and finds its heap by that name. */
void wksp__seat_abandon_heaps(wksp__seat_t *seat) {
  wksp__seat_short_off(seat);
  seat->heap_cnt = 0;
}

void wksp__seat_leave_heap(wksp__seat_t *seat, uint64_t alloc_gaddr) {
  for (uint32_t at = 0; at < seat->heap_cnt; at++)
    if (seat->heap[at].alloc == alloc_gaddr) {
      leave(seat, at);
      return;
    }
}

void wksp__seat_review(wksp__seat_t *seat, int bump) {
  wksp__seat_short_off(seat);
  for (uint32_t at = seat->heap_cnt; at-- > 0;) {
    int ours = still_ours(seat, at);
    if (ours && bump) {
      uint64_t old = seat->heap[at].owner_val;
      uint64_t val = seat->name | (uint64_t)seat->epoch++ << WKSP_OWNER_EPOCH_SHIFT;
      ours = wksp__cas(seat->heap[at].owner, &old, val);
      if (ours) seat->heap[at].owner_val = val;
    }
    if (!ours) seat_remove(seat, at);
  }
}

void wksp__heap_peek(wksp__op_t *op) {
  wksp__seat_t *seat = op->call.seat;
  if (!seat) return;
  for (uint32_t at = 0; at < seat->heap_cnt; at++) {
    if (seat->heap[at].alloc != op->alloc_gaddr) continue;
    if (at) {
      __typeof__(seat->heap[0]) hit = seat->heap[at];
      memmove(&seat->heap[1], &seat->heap[0], at * sizeof hit);
      seat->heap[0] = hit;
    }
    op->heap = (wksp__heap_t *)seat->heap[0].owner;
    op->heap_id = seat->heap[0].id;
    return;
  }
}

static void seat_add(wksp__op_t *op, uint64_t owner_val) {
  wksp__seat_t *seat = op->call.seat;
  if (!seat) return;
  if (seat->heap_cnt == WKSP_SEAT_HEAPS) leave(seat, WKSP_SEAT_HEAPS - 1);
  memmove(&seat->heap[1], &seat->heap[0], seat->heap_cnt * sizeof seat->heap[0]);
  seat->heap_cnt++;
  seat->heap[0].alloc = op->alloc_gaddr;
  seat->heap[0].id = op->heap_id;
  seat->heap[0].owner = &op->heap->owner;
  seat->heap[0].owner_val = owner_val;
}

/* Taking
 * --------------------------------------------------------------------------------------------- */

/* Whether the heap may be taken: by a good end, or its owner is dead and what he had in flight is
   noted. */
static int left_behind(wksp__op_t *op, uint64_t owner) {
  if (!owner) return 1;
  uint64_t name = WKSP_OWNER_NAME(owner);
  return wksp__name_dead(op->wksp, name) && wksp__slot_settle(&op->call, name);
}

/* Takes the heap of that id if it is the alloc's and nobody has it, and has the hint, if that is
   not NULL. 1 taken. */
static int take_one(wksp__op_t *op, uint32_t id, uint32_t const *hint, uint64_t word) {
  wksp__heap_t *heap = wksp__heap_of(op->wksp, id, op->alloc_gaddr);
  if (!heap || (hint && wksp__ld(&heap->hint) != *hint)) return 0;
  uint64_t owner = wksp__ld_acquire(&heap->owner);
  /* acquire within the CAS: the caches as the former owner left them; pairs with the release of
     his owner word, or with the kernel's mark that he is dead */
  if (!left_behind(op, owner) || !wksp__cas(&heap->owner, &owner, word)) return 0;
  if (!wksp__heap_listed(op->wksp, id,
                         &heap->owner)) { /* a compactor was about to free it, and will */
    wksp__st(&heap->owner, 0UL);
    return 0;
  }
  op->heap = heap;
  op->heap_id = id;
  wksp__st(&heap->id, id);
  if (owner) wksp__heap_rebuild(op, heap, id);
  return 1;
}

/* Takes a heap of the alloc that nobody has, rather one with the hint. 1 taken. */
static int take_left(wksp__op_t *op, uint32_t hint, uint64_t word) {
  uint32_t end = wksp__heap_end(wksp__call_own(&op->call), op->wksp);
  for (int any = 0; any < 2; any++)
    for (uint32_t id = 1; id < end; id++)
      if (take_one(op, id, any ? NULL : &hint, word)) return 1;
  return 0;
}

/* A call through the shared slot gives its heap back at its end. The next one rather takes that
   than look at a thousand others; the slot remembers it. */
static int take_lent(wksp__op_t *op, uint32_t hint, uint64_t word) {
  uint32_t id = op->call.seat ? 0 : wksp__ld(&op->call.slot->lent_id);
  return id && take_one(op, id, &hint, word);
}

uint32_t wksp__dir_free(wksp__call_t const *call, uint32_t id) {
  uint64_t *dir = wksp__heap_dir(call->wksp);
  wksp__own_t *own = wksp__call_own(call);
  uint32_t end;
  do {
    end = wksp__heap_end(own, call->wksp);
    while (id < end && wksp__ld(&dir[id])) id++;
    if (id < end) return id;
  } while (wksp__heap_more(own, call->wksp, end));
  return 0;
}

static int dir_full(fd_wksp_t *wksp) {
  return wksp__fail(WKSP_E_LIMIT,
                    "malloc: all %u entries of the workspace's heap directory are taken; "
                    "use fewer fd_allocs or threads, or a larger workspace",
                    wksp->heap_max - 1);
}

/* Should the directory fill up meanwhile the partition is left: only a compactor frees heaps, for
   only he knows that nobody is about to enter one. */
static int make_new(wksp__op_t *op, uint64_t word) {
  uint64_t gaddr, size;
  uint32_t id = wksp__dir_free(&op->call, 1);
  if (!id) return dir_full(op->wksp);
  int err = wksp__op_part_alloc(op, 128, wksp__heap_size(op->wksp), FD_WKSP_KIND_HEAP, NULL, NULL,
                                &gaddr, &size);
  if (err) return err;
  wksp__heap_t *heap = fd_wksp_laddr_fast(op->wksp, gaddr);
  memset(heap, 0, sizeof *heap);
  wksp__mag_init(op->wksp, heap);
  wksp__st(&heap->alloc, op->alloc_gaddr);
  wksp__st(&heap->owner, word);
  for (; id; id = wksp__dir_free(&op->call, id)) {
    uint64_t none = 0;
    wksp__st(&heap->id, id);
    if (!wksp__cas(&wksp__heap_dir(op->wksp)[id], &none, gaddr | DIR_HEAP)) continue;
    op->heap = heap;
    op->heap_id = id;
    return 0;
  }
  return dir_full(op->wksp);
}

int wksp__heap_get(wksp__op_t *op, uint32_t hint) {
  wksp__heap_peek(op);
  if (wksp__likely(op->heap != NULL)) return 0;
  uint64_t word = wksp__heap_owner_word(&op->call);
  if (!take_lent(op, hint, word) && !take_left(op, hint, word)) {
    int err = make_new(op, word);
    if (err) return err;
  }
  wksp__st(&op->heap->hint, hint);
  seat_add(op, word);
  if (!op->call.seat) wksp__st(&op->call.slot->lent_id, op->heap_id);
  return 0;
}

void wksp__heap_put(wksp__op_t *op) {
  /* release; pairs with the acquire in take_left */
  if (op->heap && !op->call.seat) wksp__st_release(&op->heap->owner, 0UL);
}

/* Rebuilding
 * ----------------------------------------------------------------------------------------- */

static int announced(wksp__op_t *op, uint32_t span) {
  fd_wksp_t *wksp = op->wksp;
  uint32_t end = wksp__slot_end(wksp__call_own(&op->call), wksp);
  for (uint32_t i = 0; i < end; i++) {
    wksp__slot_t *slot = &wksp__slots(wksp)[i];
    if (wksp__ld_acquire(&slot->announce) != (uint64_t)span + 1) continue;
    uint64_t claim = wksp__ld_acquire(&slot->claim);
    if (!wksp__name_dead(wksp, wksp__name_of(i, claim >> 32))) return 1;
  }
  return 0;
}

/* A PENDING span that neither the inbox nor a living thread will bring: its push was swallowed. */
static void mend_pending(wksp__op_t *op, wksp__heap_t *heap, uint32_t id, uint32_t span) {
  uint64_t *word = wksp__span_words(op->wksp) + span;
  uint64_t e = wksp__ld_acquire(word);
  if (SPAN_STATE(e) != WKSP_SPAN_PENDING || announced(op, span)) return;
  /* Whoever made it PENDING announced that before, and is through: the span is on the inbox, or
   * lost. */
  wksp__span_drain(op, heap, id);
  if (wksp__ld_acquire(word) == e) wksp__cas(word, &e, SPAN_WITH(e, WKSP_SPAN_OWNED));
}

/* Files a live span of the heap under what the pairs say. 1 if it stays with the heap. */
static int refile(wksp__op_t *op, wksp__heap_t *heap, uint32_t span) {
  uint64_t *word = wksp__span_words(op->wksp) + span;
  uint64_t e = wksp__ld_acquire(word);
  uint32_t cls = SPAN_CLASS(e);
  wksp__rec_t *rec = wksp__rec(op->wksp, span);
  while (SPAN_STATE(e) == WKSP_SPAN_FULL && !wksp__cas(word, &e, SPAN_WITH(e, WKSP_SPAN_OWNED))) {
  }
  e = wksp__ld_acquire(word);
  wksp__st(&rec->summary, wksp__all_words(op->wksp, cls));
  wksp__st(&rec->allfree, 0UL);
  wksp__st(&rec->list, (uint32_t)WKSP_LIST_NONE);
  if (SPAN_STATE(e) == WKSP_SPAN_OWNED && !wksp__span_used(op->wksp, span, cls)) {
    wksp__span_retire(op, span, SPAN_HEAP(e));
    return 0;
  }
  wksp__tails_set(op, span, cls, SPAN_HEAP(e)); /* a merge may have been killed */
  wksp__list_push(op->wksp, &heap->mag[cls].part, span, WKSP_LIST_PART);
  return 1;
}

uint32_t wksp__heap_rebuild(wksp__op_t *op, wksp__heap_t *heap, uint32_t id) {
  uint64_t *words = wksp__span_words(op->wksp);
  uint32_t cnt = wksp__span_end(&op->call), kept = 0;
  wksp__mag_flush(op, heap, id);
  for (uint32_t cls = 0; cls < WKSP_CLASS_CNT; cls++) {
    wksp__st(&heap->mag[cls].cur, 0U);
    wksp__st(&heap->mag[cls].part, 0U);
    wksp__st(&heap->mag[cls].full, 0U);
    wksp__st(&heap->mag[cls].look, 0U);
  }
  for (uint32_t lg = 0; lg <= WKSP_SPAN_LG_MAX; lg++) {
    wksp__st(&heap->spare[lg], 0U);
    wksp__st(&heap->spare_cnt[lg], (uint8_t)0);
  }
  /* No span is in a list before the inbox is drained: drain moves only spans that are in the full
   * list. */
  for (uint32_t span = 0; span < cnt; span++)
    if (SPAN_HEAP(wksp__ld(&words[span])) == id && wksp__span_live(wksp__ld(&words[span])))
      wksp__st(&wksp__rec(op->wksp, span)->list, (uint32_t)WKSP_LIST_NONE);
  wksp__span_drain(op, heap, id);
  for (uint32_t span = 0; span < cnt; span++) {
    uint64_t e = wksp__ld_acquire(&words[span]);
    if (SPAN_HEAP(e) != id) continue;
    if (SPAN_STATE(e) == WKSP_SPAN_SETUP) { /* kept, or its owner was killed while he prepared it */
      wksp__span_drop(op, span);
    } else if (wksp__span_live(e)) {
      mend_pending(op, heap, id, span);
      kept += (uint32_t)refile(op, heap, span);
    }
  }
  return kept;
}

/* Inheriting
 * ----------------------------------------------------------------------------------------- */

/* Moves the spans of a heap that the caller has just taken to his own. Returns how many. */
static uint32_t merge(wksp__op_t *op, wksp__heap_t *from, uint32_t from_id) {
  uint64_t *words = wksp__span_words(op->wksp);
  uint32_t cnt = wksp__span_end(&op->call), moved = 0;
  if (!wksp__heap_rebuild(op, from, from_id)) return 0; /* flushes its magazines, too */
  for (uint32_t span = 0; span < cnt; span++) {
    uint64_t e = wksp__ld_acquire(&words[span]);
    if (SPAN_HEAP(e) != from_id || SPAN_STATE(e) != WKSP_SPAN_OWNED) continue;
    uint32_t cls = SPAN_CLASS(e);
    wksp__list_remove(op->wksp, &from->mag[cls].part, span);
    wksp__tails_set(op, span, cls, op->alloc->home); /* no moment at which they name a wrong heap */
    if (!wksp__cas(&words[span], &e, SPAN_NEXT(e, op->heap_id, cls, WKSP_SPAN_OWNED))) continue;
    wksp__tails_set(op, span, cls, op->heap_id);
    wksp__list_push(op->wksp, &op->heap->mag[cls].part, span, WKSP_LIST_PART);
    moved++;
  }
  return moved;
}

int wksp__heap_inherit(wksp__op_t *op) {
  uint32_t before = wksp__ld(&op->alloc->pool_cnt), moved = 0;
  uint32_t end = wksp__heap_end(wksp__call_own(&op->call), op->wksp);
  for (uint32_t id = 1; id < end; id++) {
    wksp__heap_t *heap = id == op->heap_id ? NULL : wksp__heap_of(op->wksp, id, op->alloc_gaddr);
    if (!heap) continue;
    uint64_t owner = wksp__ld_acquire(&heap->owner);
    if (!left_behind(op, owner)) continue;
    if (!owner && !wksp__ld(&heap->inbox)) { /* in good order: empty if its lists are */
      uint32_t any = 0;
      for (uint32_t lg = 0; lg <= WKSP_SPAN_LG_MAX; lg++) any |= wksp__ld(&heap->spare[lg]);
      for (uint32_t cls = 0; cls < WKSP_CLASS_CNT; cls++) { /* somebody may just have taken it */
        wksp__mag_t const *mag = &heap->mag[cls];
        any |= wksp__ld(&mag->cur) | wksp__ld(&mag->part) | wksp__ld(&mag->full);
        any |= wksp__ld(&mag->top) != wksp__ld(&mag->lo) || wksp__ld(&mag->mask);
      }
      if (!any) continue;
    }
    if (!wksp__cas(&heap->owner, &owner, wksp__heap_owner_word(&op->call))) continue;
    if (wksp__heap_listed(op->wksp, id, &heap->owner)) moved += merge(op, heap, id);
    wksp__st_release(&heap->owner, 0UL);
  }
  return moved || wksp__ld(&op->alloc->pool_cnt) != before;
}

/* The dead
 * ------------------------------------------------------------------------------------------- */

/* The alloc of the live block that starts at gaddr: in the span of that word, */
static uint64_t small_alloc(fd_wksp_t const *wksp, uint64_t e, uint32_t span, uint64_t gaddr) {
  if (!wksp__span_live(e) || SPAN_HEAP(e) >= wksp->heap_max) return 0;
  uint32_t cls = SPAN_CLASS(e), blk = wksp__blk_of(wksp, gaddr, cls);
  if (blk == UINT32_MAX) return 0;
  wksp__pair_t const *pair = wksp__pairs(wksp, span, cls) + blk / 64;
  if (!((wksp__ld(&pair->a) ^ wksp__ld(&pair->f)) >> (blk & 63U) & 1UL)) return 0;
  uint64_t heap = wksp__ld(&wksp__heap_dir(wksp)[SPAN_HEAP(e)]), at = DIR_GADDR(heap);
  if (DIR_WHAT(heap) != DIR_HEAP || at < wksp->data_lo ||
      at > wksp->data_hi - wksp__heap_size(wksp))
    return 0;
  at = wksp__ld(&((wksp__heap_t const *)fd_wksp_laddr_fast(wksp, at))->alloc);
  return wksp__held_now(wksp, at, cls, gaddr) ? 0 : at;
}

/* or of that partition, which contains gaddr. 0: there is none. */
static uint64_t large_alloc(fd_wksp_t const *wksp, fd_wksp_part_t const *part, uint64_t gaddr) {
  uint32_t home = part->kind >> 8;
  if (part->gaddr != gaddr || (part->kind & 255U) != FD_WKSP_KIND_LARGE || home >= wksp->heap_max)
    return 0;
  uint64_t dir_word = wksp__ld(&wksp__heap_dir(wksp)[home]);
  return DIR_WHAT(dir_word) == DIR_HOME ? DIR_GADDR(dir_word) : 0;
}

/* The alloc to which the live block at gaddr belongs: *ret_alloc, 0 if there is no such block. 0,
 * or E_TIMEDOUT for the lock. */
static int block_alloc(wksp__call_t *call, uint64_t gaddr, uint64_t wait_ns, uint64_t *ret_alloc) {
  fd_wksp_t *wksp = call->wksp;
  *ret_alloc = 0;
  if (gaddr < wksp->data_lo || gaddr >= wksp->data_hi) return 0;
  uint32_t span;
  uint64_t e = wksp__span_look(wksp, gaddr, &span);
  if (SPAN_STATE(e) == WKSP_SPAN_NONE) {
    fd_wksp_part_t part;
    int err = wksp__lock(call, wait_ns);
    if (err) return err;
    if (wksp__part_look(wksp, gaddr, &part) == 1) *ret_alloc = large_alloc(wksp, &part, gaddr);
    wksp__unlock(call);
    return 0;
  }
  *ret_alloc = small_alloc(wksp, e, span, gaddr);
  return 0;
}

uint64_t wksp__flight_block(fd_wksp_t const *wksp, wksp__slot_t const *slot, uint64_t flight) {
  flight &= ~(WKSP_FLIGHT_DEAD | WKSP_FLIGHT_BUSY);
  if (!(flight & WKSP_FLIGHT_TOP)) return flight;
  uint64_t at = (flight & ~WKSP_FLIGHT_TOP) - offsetof(wksp__heap_t, mag);
  uint64_t gaddr = wksp__ld(&slot->heap), cls = at / sizeof(wksp__mag_t);
  if (cls >= WKSP_CLASS_CNT || (gaddr & 7U) || gaddr < wksp->data_lo ||
      gaddr > wksp->data_hi - wksp__heap_size(wksp))
    return 0;
  wksp__heap_t const *heap = fd_wksp_laddr_fast(wksp, gaddr);
  uint64_t block = wksp__ld(wksp__mag_place(heap, wksp__mag_top(wksp, heap, (uint32_t)cls)));
  return block & 15U ? 0 : block;
}

int wksp__alloc_bury(wksp__call_t *call, uint64_t gaddr, uint64_t wait_ns) {
  fd_wksp_t *wksp = call->wksp;
  uint64_t at = 0;
  int err = gaddr ? block_alloc(call, gaddr, wait_ns, &at) : 0;
  if (err) return err;
  if (at < wksp->data_lo || at > wksp->data_hi - sizeof(struct fd_alloc) || (at & 7U)) return 0;
  struct fd_alloc *alloc = fd_wksp_laddr_fast(wksp, at);
  if (wksp__ld(&alloc->magic) != WKSP_ALLOC_MAGIC) return 0;
  wksp__hard_bury(wksp, gaddr);
  for (uint32_t i = 0; i < WKSP_SUSPECTS; i++)
    if (wksp__ld(&alloc->suspect[i]) == gaddr) return 0;
  uint32_t place = wksp__fetch_add(&alloc->suspect_at, 1U);
  wksp__st(&alloc->suspect[place % WKSP_SUSPECTS], gaddr);
  return 0;
}

/* As block_alloc without the lock: 0, E_AGAIN, E_CORRUPT. */
static int block_alloc_now(fd_wksp_t const *wksp, uint64_t gaddr, uint64_t *ret_alloc) {
  uint32_t span;
  fd_wksp_part_t part;
  *ret_alloc = 0;
  if (gaddr < wksp->data_lo || gaddr >= wksp->data_hi) return 0;
  uint64_t e = wksp__span_look(wksp, gaddr, &span);
  if (SPAN_STATE(e) != WKSP_SPAN_NONE) {
    *ret_alloc = small_alloc(wksp, e, span, gaddr);
    return 0;
  }
  int found = wksp__part_find(wksp, gaddr, &part);
  if (found == 1) *ret_alloc = large_alloc(wksp, &part, gaddr);
  return found < 0 ? found : 0;
}

/* Whether the ring of the alloc names gaddr at `before` places from its first. */
static int ring_has(struct fd_alloc const *alloc, uint64_t gaddr, uint32_t before) {
  for (uint32_t i = 0; i < before; i++)
    if (wksp__ld_acquire(&alloc->suspect[i]) == gaddr) return 1;
  return 0;
}

int wksp__suspect_cnt(fd_wksp_t const *wksp, uint64_t *ret_cnt) {
  uint64_t cnt = 0, at, gaddr;
  int err = 0;
  /* Slots before the rings, as in alloc_walk.c: what a slot has forgotten meanwhile is in a ring.
   */
  for (uint32_t slot = 0; !err && slot < wksp->slot_max; slot++) {
    gaddr = wksp__slot_suspect(wksp, slot);
    if (gaddr) err = block_alloc_now(wksp, gaddr, &at);
    if (err || !gaddr || at < wksp->data_lo || at > wksp->data_hi - sizeof(struct fd_alloc))
      continue;
    cnt += !ring_has(fd_wksp_laddr_fast(wksp, at), gaddr, WKSP_SUSPECTS);
  }
  for (uint32_t id = 1; !err && id < wksp->heap_max; id++) {
    uint64_t dir = wksp__ld_acquire(&wksp__heap_dir(wksp)[id]), home = DIR_GADDR(dir);
    if (DIR_WHAT(dir) != DIR_HOME || home < wksp->data_lo || (home & 7U) ||
        home > wksp->data_hi - sizeof(struct fd_alloc))
      continue;
    struct fd_alloc const *alloc = fd_wksp_laddr_fast(wksp, home);
    for (uint32_t i = 0; !err && i < WKSP_SUSPECTS; i++) {
      gaddr = wksp__ld_acquire(&alloc->suspect[i]);
      if (!gaddr || ring_has(alloc, gaddr, i)) continue;
      err = block_alloc_now(wksp, gaddr, &at);
      cnt += !err && at == home;
    }
  }
  if (!err) *ret_cnt = cnt;
  return err;
}

int wksp__reap(fd_wksp_t *wksp, uint64_t lease) {
  wksp__call_t call;
  int err = wksp__call_begin(wksp, &call);
  if (err) return err;
  wksp__slots_reap(&call, lease);
  wksp__call_end(&call);
  return 0;
}
