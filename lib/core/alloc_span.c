/* alloc_span: spans. alloc.h has the model; this file is how spans come and go, and how blocks go
   back to their pairs: by the owner, and by those who free from elsewhere.

   Lists. A heap keeps, for each class, the span in use, those with free blocks, and those set aside
   as full. They are caches: a kill may leave them in any state, and who takes the heap makes them
   anew.

   Setting a span aside and freeing in it from elsewhere meet like this (all four are sequentially
   consistent, so one of them sees the other):

     owner:  word OWNED -> FULL;  look through the pairs once more
     freer:  CAS of F;            load of the word: FULL?

   The freer who sees FULL makes it PENDING by CAS and pushes the span on the heap's inbox. He names
   it in his slot before, so that who rebuilds the heap can tell a push to come from one that a kill
   has swallowed. A swallowed push only delays: the owner looks through some of its full spans
   before it takes a new one. */

#include "core/alloc.h"
#include "core/alloc_give.h"
#include "core/alloc_hard.h"
#include "core/fail.h"
#include "core/private.h"
#include "core/seat.h"

/* Full spans that an owner looks through before it takes a new one. */
#define LOOK_FULL 2

/* Places for a wide span that are looked at before the workspace is asked for more. */
#define LOOK_WIDE 256U

void wksp__list_push(fd_wksp_t *wksp, uint32_t *head, uint32_t span, uint32_t list) {
  wksp__rec_t *rec = wksp__rec(wksp, span);
  wksp__st(&rec->list, list);
  wksp__st(&rec->prev, 0U);
  wksp__st(&rec->next, *head);
  if (*head) wksp__st(&wksp__rec(wksp, *head - 1)->prev, span + 1);
  wksp__st(head, span + 1);
}

void wksp__list_remove(fd_wksp_t *wksp, uint32_t *head, uint32_t span) {
  wksp__rec_t *rec = wksp__rec(wksp, span);
  if (rec->prev)
    wksp__st(&wksp__rec(wksp, rec->prev - 1)->next, rec->next);
  else
    wksp__st(head, rec->next);
  if (rec->next) wksp__st(&wksp__rec(wksp, rec->next - 1)->prev, rec->prev);
  wksp__st(&rec->list, (uint32_t)WKSP_LIST_NONE);
}

uint32_t wksp__span_used(fd_wksp_t const *wksp, uint32_t span, uint32_t cls) {
  wksp__pair_t const *pair = wksp__pairs(wksp, span, cls);
  uint32_t cnt = 0;
  for (uint32_t w = 0; w < wksp__class(wksp, cls)->word_cnt; w++) {
    uint64_t used = wksp__ld(&pair[w].a) ^ wksp__ld_acquire(&pair[w].f);
    cnt += (uint32_t)__builtin_popcountl(used & ~wksp__tail(wksp, cls, w));
  }
  return cnt;
}

static uint64_t *word_of(fd_wksp_t *wksp, uint32_t span) {
  return wksp__span_words(wksp) + span;
}

/* Which words have a free block, loaded in sequential consistency with what others do to F. */
static uint64_t look(fd_wksp_t *wksp, uint32_t span, uint32_t cls) {
  wksp__pair_t *pair = wksp__pairs(wksp, span, cls);
  uint64_t sum = 0;
  for (uint32_t w = 0; w < wksp__class(wksp, cls)->word_cnt; w++)
    if (~(wksp__ld(&pair[w].a) ^ wksp__ld_seq(&pair[w].f))) sum |= 1UL << w;
  return sum;
}

/* Sets a span of ours, in no list, aside as full. 1 done, 0 it has free blocks after all and is as
 * before. */
static int set_aside(wksp__op_t *op, uint32_t span, uint32_t cls) {
  wksp__heap_t *heap = op->heap;
  uint64_t *word = word_of(op->wksp, span);
  uint64_t owned = SPAN_WITH(wksp__ld(word), WKSP_SPAN_OWNED),
           full = SPAN_WITH(owned, WKSP_SPAN_FULL);
  wksp__list_push(op->wksp, &heap->mag[cls].full, span, WKSP_LIST_FULL);
  if (!wksp__cas(word, &owned, full))
    return 1; /* still PENDING: the inbox, or a look, brings it back */
  uint64_t sum = look(op->wksp, span, cls);
  if (!sum || !wksp__cas(word, &full, owned)) return 1;
  wksp__list_remove(op->wksp, &heap->mag[cls].full, span);
  wksp__st(&wksp__rec(op->wksp, span)->summary, sum);
  return 0;
}

/* Hints are stored plainly: two who meet, or a kill, may lose one, or give one to both. The span's
   word decides, and a look through the table finds what no hint names. */
static int hint_put(uint64_t *map, uint32_t *hint, uint32_t span) {
  uint64_t taken = wksp__ld(map);
  if (!~taken) return 0;
  uint32_t bit = (uint32_t)__builtin_ctzl(~taken);
  wksp__st(&hint[bit], span + 1);
  wksp__st(map, taken | 1UL << bit);
  return 1;
}

static uint32_t hint_get(uint64_t *map, uint32_t *hint) {
  uint64_t taken = wksp__ld(map);
  if (!taken) return UINT32_MAX;
  uint32_t at = wksp__ld(&hint[__builtin_ctzl(taken)]);
  wksp__st(map, taken & (taken - 1));
  return at - 1; /* none, if it never was there */
}

void wksp__pool_note(struct fd_alloc *alloc, uint32_t span, uint32_t lg) {
  wksp__fetch_add(&alloc->pool_cnt, 1U << lg);
  if (lg) {
    hint_put(&alloc->wide_map[lg], alloc->wide_hint[lg], span);
    return;
  }
  for (uint32_t i = 0; i < WKSP_POOL_HINTS / 64; i++)
    if (hint_put(&alloc->pool_map[i], &alloc->pool_hint[64 * i], span)) return;
}

/* A span that is perhaps in POOL; UINT32_MAX: none is known. */
static uint32_t pool_hint(struct fd_alloc *alloc) {
  for (uint32_t i = 0; i < WKSP_POOL_HINTS / 64; i++)
    if (wksp__ld(&alloc->pool_map[i]))
      return hint_get(&alloc->pool_map[i], &alloc->pool_hint[64 * i]);
  return UINT32_MAX;
}

/* Whether the rest of a wide span in SETUP is there. */
static int span_whole(wksp__op_t const *op, uint32_t span, uint32_t cls, uint32_t lg) {
  if (!lg || (1U << lg) > wksp__span_cnt(op->wksp) - span) return 0;
  for (uint32_t at = span + 1; at < span + (1U << lg); at++) {
    uint64_t tail = wksp__ld(word_of(op->wksp, at));
    if (SPAN_STATE(tail) != WKSP_SPAN_TAIL || SPAN_CLASS(tail) != cls ||
        SPAN_HEAP(tail) != op->alloc->home)
      return 0;
  }
  return 1;
}

/* A span in SETUP that the caller's heap has: all its 64 KiB go to the pool, its word's last, which
   says until then whose the others are. Of a wide one that is not complete, or was not yet when its
   owner was killed, some may be others' already. */
void wksp__span_drop(wksp__op_t *op, uint32_t span) {
  fd_wksp_t *wksp = op->wksp;
  uint64_t e = wksp__ld(word_of(wksp, span));
  uint32_t cls = SPAN_CLASS(e) - WKSP_SPAN_WIDE;
  uint32_t lg = cls < WKSP_CLASS_CNT ? wksp__class(wksp, cls)->lg : 0;
  if (op->call.seat) /* of a wide one only the first, should the rest be others' */
    wksp__own_idle(op->call.seat->map, fd_wksp_laddr_fast(wksp, wksp__span_gaddr(wksp, span)),
                   WKSP_SPAN_SZ << (span_whole(op, span, cls, lg) ? lg : 0));
  uint32_t got = 1;
  for (uint32_t at = span + (1U << lg) - 1; at > span; at--) {
    uint64_t tail = wksp__ld(word_of(wksp, at));
    if (SPAN_STATE(tail) != WKSP_SPAN_TAIL || SPAN_CLASS(tail) >= WKSP_CLASS_CNT ||
        wksp__class(wksp, SPAN_CLASS(tail))->lg != lg)
      continue;
    /* No CAS: only who has the span's head in SETUP changes a TAIL. */
    wksp__st_release(word_of(wksp, at), SPAN_NEXT(tail, op->alloc->home, 0, WKSP_SPAN_POOL));
    got++;
  }
  wksp__st_release(word_of(wksp, span), SPAN_NEXT(e, op->alloc->home, 0, WKSP_SPAN_POOL));
  if (got == 1U << lg)
    wksp__pool_note(op->alloc, span, lg);
  else
    wksp__fetch_add(&op->alloc->pool_cnt, got);
}

/* A wholly free OWNED span of the heap with that id, in no list, has no class any more. 1, or 0 if
   it is not OWNED. No CAS: nobody else changes the word of a span that is. */
static int undo(wksp__op_t *op, uint32_t span, uint32_t heap_id) {
  uint64_t e = wksp__ld(word_of(op->wksp, span));
  if (SPAN_STATE(e) != WKSP_SPAN_OWNED) return 0;
  uint32_t cls = SPAN_CLASS(e), wide = wksp__class(op->wksp, cls)->lg ? WKSP_SPAN_WIDE | cls : 0;
  wksp__lot_end(op->wksp, wksp__rec(op->wksp, span), span);
  wksp__st_release(word_of(op->wksp, span), SPAN_NEXT(e, heap_id, wide, WKSP_SPAN_SETUP));
  return 1;
}

/* No CAS: only who owns the span's heap changes a TAIL. */
void wksp__tails_set(wksp__op_t *op, uint32_t span, uint32_t cls, uint32_t id) {
  uint64_t *word = word_of(op->wksp, span);
  for (uint32_t at = 1; at < 1U << wksp__class(op->wksp, cls)->lg; at++)
    wksp__st(word + at, SPAN_NEXT(wksp__ld(word + at), id, cls, WKSP_SPAN_TAIL));
}

void wksp__span_retire(wksp__op_t *op, uint32_t span, uint32_t heap_id) {
  if (undo(op, span, heap_id)) wksp__span_drop(op, span);
}

/* A span of ours, in no list, has no live block: keeps it at hand for any class, if there are not
   enough of those, else gives it to the alloc's pool. Batches that come and go would otherwise take
   and give their spans each time, with half a dozen atomics for each. */
static void keep_or_retire(wksp__op_t *op, uint32_t span, uint32_t lg) {
  wksp__heap_t *heap = op->heap;
  if (!undo(op, span, op->heap_id)) return;
  if ((uint32_t)heap->spare_cnt[lg] << lg >= op->alloc->region_spans) {
    wksp__span_drop(op, span);
    return;
  }
  /* A free of a block there is none any more: it looks at the span's own word, and sees. */
  wksp__tails_set(op, span, SPAN_CLASS(wksp__ld(word_of(op->wksp, span))) & ~WKSP_SPAN_WIDE,
                  op->alloc->home);
  wksp__list_push(op->wksp, &heap->spare[lg], span, WKSP_LIST_NONE);
  wksp__st(&heap->spare_cnt[lg], (uint8_t)(heap->spare_cnt[lg] + 1));
}

/* A span of ours has no live block: gives it away unless it is the only one at hand of its class.
 */
static void maybe_retire(wksp__op_t *op, uint32_t span, uint32_t cls) {
  wksp__rec_t *rec = wksp__rec(op->wksp, span);
  if (rec->list != WKSP_LIST_PART || (!rec->next && !rec->prev)) return;
  wksp__list_remove(op->wksp, &op->heap->mag[cls].part, span);
  keep_or_retire(op, span, wksp__class(op->wksp, cls)->lg);
}

void wksp__span_drain(wksp__op_t *op, wksp__heap_t *heap, uint32_t heap_id) {
  uint32_t at = wksp__xchg(&heap->inbox, 0U);
  uint32_t span_cnt = wksp__span_cnt(op->wksp);
  for (uint32_t steps = 0; at && at <= span_cnt && steps < span_cnt; steps++) {
    uint32_t span = at - 1;
    wksp__rec_t *rec = wksp__rec(op->wksp, span);
    at = wksp__ld(&rec->inbox_next);
    uint64_t e = wksp__ld_acquire(word_of(op->wksp, span));
    if (SPAN_STATE(e) != WKSP_SPAN_PENDING || SPAN_HEAP(e) != heap_id) continue;
    if (!wksp__cas(word_of(op->wksp, span), &e, SPAN_WITH(e, WKSP_SPAN_OWNED))) continue;
    uint32_t cls = SPAN_CLASS(e);
    wksp__st(&rec->summary, wksp__all_words(op->wksp, cls));
    if (rec->list == WKSP_LIST_FULL) {
      wksp__list_remove(op->wksp, &heap->mag[cls].full, span);
      wksp__list_push(op->wksp, &heap->mag[cls].part, span, WKSP_LIST_PART);
    }
  }
}

/* Makes a span in SETUP, all of it ours, ready for the class. */
static void prepare(wksp__op_t *op, uint32_t span, uint32_t cls) {
  uint64_t *word = word_of(op->wksp, span);
  wksp__pair_t *pair = wksp__pairs(op->wksp, span, cls);
  for (uint32_t w = 0; w < wksp__class(op->wksp, cls)->word_cnt; w++) {
    wksp__st(&pair[w].a, wksp__tail(op->wksp, cls, w));
    wksp__st(&pair[w].f, 0UL);
  }
  wksp__hard_prepare(op->wksp, span, cls);
  wksp__rec_t *rec = wksp__rec(op->wksp, span);
  wksp__st(&rec->summary, wksp__all_words(op->wksp, cls));
  wksp__st(&rec->allfree, wksp__all_words(op->wksp, cls));
  wksp__st(&rec->list, (uint32_t)WKSP_LIST_CUR);
  /* release: who sees OWNED sees the pairs; pairs with the acquire of the word in free */
  wksp__st_release(word, SPAN_NEXT(wksp__ld(word), op->heap_id, cls, WKSP_SPAN_OWNED));
}

/* Makes a span in POOL ours and ready. 1, or 0 if it is not to be had. */
static int set_up(wksp__op_t *op, uint32_t span, uint32_t cls) {
  uint64_t *word = word_of(op->wksp, span);
  uint64_t e = wksp__ld_acquire(word);
  if (SPAN_STATE(e) != WKSP_SPAN_POOL || SPAN_HEAP(e) != op->alloc->home) return 0;
  uint32_t lg = wksp__class(op->wksp, cls)->lg, wide = lg ? WKSP_SPAN_WIDE | cls : 0;
  if (!wksp__cas(word, &e, SPAN_NEXT(e, op->heap_id, wide, WKSP_SPAN_SETUP))) return 0;
  uint32_t got = 1;
  for (; got < 1U << lg; got++) {
    uint64_t tail = wksp__ld_acquire(word + got);
    if (SPAN_STATE(tail) != WKSP_SPAN_POOL || SPAN_HEAP(tail) != op->alloc->home ||
        !wksp__cas(word + got, &tail, SPAN_NEXT(tail, op->heap_id, cls, WKSP_SPAN_TAIL)))
      break;
  }
  wksp__fetch_add(&op->alloc->pool_cnt, -got);
  if (got < 1U << lg) {
    wksp__span_drop(op, span);
    return 0;
  }
  if (op->call.seat) wksp__own_busy(op->call.seat->map, WKSP_SPAN_SZ << lg);
  prepare(op, span, cls);
  return 1;
}

/* One of the spans that the heap keeps for any class. */
static uint32_t take_spare(wksp__op_t *op, uint32_t cls) {
  wksp__heap_t *heap = op->heap;
  uint32_t lg = wksp__class(op->wksp, cls)->lg, span = heap->spare[lg] - 1;
  wksp__list_remove(op->wksp, &heap->spare[lg], span);
  wksp__st(&heap->spare_cnt[lg], (uint8_t)(heap->spare_cnt[lg] - 1));
  wksp__tails_set(op, span, cls, op->heap_id);
  prepare(op, span, cls);
  return span;
}

/* A span from the alloc's pool: through the hints, then by looking, as long as the count says that
 * there are some. */
static int from_pool_narrow(wksp__op_t *op, uint32_t cls, uint32_t *ret_span) {
  struct fd_alloc *alloc = op->alloc;
  for (uint32_t i = 0, span; i < WKSP_POOL_HINTS && (span = pool_hint(alloc)) != UINT32_MAX; i++) {
    if (span >= wksp__span_end(&op->call) || !set_up(op, span, cls)) continue;
    *ret_span = span;
    return 1;
  }
  uint32_t cnt = wksp__span_end(&op->call), from = wksp__ld(&alloc->pool_scan);
  if ((int32_t)wksp__ld(&alloc->pool_cnt) <= 0) return 0;
  for (uint32_t i = 0; i < cnt; i++) {
    uint32_t span = (uint32_t)(((uint64_t)from + i) % cnt);
    uint64_t e = wksp__ld(word_of(op->wksp, span));
    if (SPAN_STATE(e) != WKSP_SPAN_POOL || SPAN_HEAP(e) != alloc->home) continue;
    if (!set_up(op, span, cls)) continue;
    wksp__st(&alloc->pool_scan, span);
    *ret_span = span;
    return 1;
  }
  wksp__st(&alloc->pool_cnt, 0U);
  return 0;
}

/* A wide span: by looking where one can start, if the pool has as much; at some of the places each
   time, or at all. */
static int from_pool_wide(wksp__op_t *op, uint32_t cls, uint32_t lg, int all, uint32_t *ret_span) {
  struct fd_alloc *alloc = op->alloc;
  uint32_t cnt = wksp__span_end(&op->call), step = 1U << lg;
  uint32_t most = all || cnt < LOOK_WIDE << lg ? cnt + step : LOOK_WIDE << lg;
  if (!all && (int32_t)(wksp__ld(&alloc->pool_cnt) - step) < 0) return 0;
  for (uint32_t i = 0; i < 64; i++) {
    uint32_t hint = hint_get(&alloc->wide_map[lg], alloc->wide_hint[lg]);
    if (hint == UINT32_MAX) break;
    if (hint >= cnt || !wksp__span_fits(op->wksp, hint, lg) || !set_up(op, hint, cls)) continue;
    *ret_span = hint;
    return 1;
  }
  uint32_t from = wksp__ld(&alloc->wide_scan) % cnt, span = wksp__span_head(op->wksp, from, lg);
  for (uint32_t seen = 0; seen < most; seen += step, span += step) {
    if (span >= cnt) span = wksp__span_head(op->wksp, step - 1, lg);
    if (span >= cnt || !wksp__span_fits(op->wksp, span, lg)) continue;
    uint64_t e = wksp__ld(word_of(op->wksp, span)),
             last = wksp__ld(word_of(op->wksp, span + step - 1));
    if (SPAN_STATE(e) != WKSP_SPAN_POOL || SPAN_STATE(last) != WKSP_SPAN_POOL) continue;
    if (!set_up(op, span, cls)) continue;
    wksp__st(&alloc->wide_scan, span);
    *ret_span = span;
    return 1;
  }
  wksp__st(&alloc->wide_scan, span);
  return 0;
}

static int from_pool(wksp__op_t *op, uint32_t cls, int all, uint32_t *ret_span) {
  uint32_t lg = wksp__class(op->wksp, cls)->lg;
  return lg ? from_pool_wide(op, cls, lg, all, ret_span) : from_pool_narrow(op, cls, ret_span);
}

static int region_words(void *arg, wksp__tx_t *tx, uint64_t gaddr, uint64_t size) {
  wksp__op_t *op = arg;
  uint32_t span = wksp__span_of(op->wksp, gaddr), end = span + (uint32_t)(size >> WKSP_SPAN_LG);
  for (; span < end; span++) {
    uint64_t *word = word_of(op->wksp, span);
    wksp__tx_put64(tx, word, SPAN_NEXT(wksp__ld(word), op->alloc->home, 0, WKSP_SPAN_POOL));
  }
  return 0;
}

/* More spans for the pool, from the workspace: enough for one of 64 KiB << lg, and where it can
   start. 0, E_NOMEM, E_TIMEDOUT (reported). */
static int region_fetch(wksp__op_t *op, uint32_t lg) {
  int err = WKSP_E_NOMEM;
  uint64_t least = 1UL << lg, most = op->alloc->region_spans;
  for (uint64_t cnt = (most < least ? least : most) & -least; cnt && cnt <= WKSP_REGION_SPANS_MAX;
       cnt = cnt / 2 & -least) {
    uint64_t gaddr, size;
    err = wksp__op_part_alloc(op, WKSP_SPAN_SZ << lg, cnt << WKSP_SPAN_LG, FD_WKSP_KIND_SPANS,
                              region_words, op, &gaddr, &size);
    if (err == WKSP_E_NOMEM) continue;
    if (err) return err;
    uint32_t span = wksp__span_of(op->wksp, gaddr);
    for (uint32_t i = 0; i < size >> WKSP_SPAN_LG; i += 1U << lg)
      wksp__pool_note(op->alloc, span + i, lg);
    return 0;
  }
  return err;
}

/* Gives spans without a live block that the heap keeps for classes but cls to the pool. */
static void trim(wksp__op_t *op, uint32_t but) {
  for (uint32_t lg = 0; lg <= WKSP_SPAN_LG_MAX; lg++) {
    uint32_t *spare = &op->heap->spare[lg];
    while (*spare) {
      uint32_t span = *spare - 1;
      wksp__list_remove(op->wksp, spare, span);
      wksp__span_drop(op, span);
    }
    wksp__st(&op->heap->spare_cnt[lg], (uint8_t)0);
  }
  for (uint32_t cls = 0; cls < WKSP_CLASS_CNT; cls++) {
    uint32_t *part = &op->heap->mag[cls].part, cnt = wksp__span_cnt(op->wksp);
    uint32_t cur = op->heap->mag[cls].cur;
    if (cls != but && cur) { /* in part it is found below */
      wksp__st(&op->heap->mag[cls].cur, 0U);
      wksp__list_push(op->wksp, part, cur - 1, WKSP_LIST_PART);
    }
    for (uint32_t at = *part, next; at && cnt; at = next, cnt--) {
      next = wksp__rec(op->wksp, at - 1)->next;
      uint64_t e = wksp__ld_acquire(word_of(op->wksp, at - 1));
      if (SPAN_STATE(e) != WKSP_SPAN_OWNED || wksp__span_used(op->wksp, at - 1, cls)) continue;
      wksp__list_remove(op->wksp, part, at - 1);
      wksp__span_retire(op, at - 1, op->heap_id);
    }
  }
}

/* Looks through some of the full spans, each time further, for blocks of which a swallowed push
   does not tell. 1 if a span went to part. One that is PENDING remains so, which keeps it from
   being retired, until it is drained or rebuilt. */
static int look_full(wksp__op_t *op, uint32_t cls) {
  uint32_t *full = &op->heap->mag[cls].full;
  uint32_t at = op->heap->mag[cls].look, cnt = wksp__span_cnt(op->wksp);
  uint64_t mine = at && at <= cnt ? wksp__ld(word_of(op->wksp, at - 1)) : 0;
  if (SPAN_HEAP(mine) != op->heap_id || SPAN_CLASS(mine) != cls || !wksp__span_live(mine) ||
      wksp__rec(op->wksp, at - 1)->list != WKSP_LIST_FULL)
    at = *full;
  for (uint32_t i = 0; i < LOOK_FULL && at; i++) {
    uint32_t span = at - 1;
    wksp__rec_t *rec = wksp__rec(op->wksp, span);
    at = rec->next;
    uint64_t e = wksp__ld_acquire(word_of(op->wksp, span)), sum = look(op->wksp, span, cls);
    if (!sum) continue;
    if (SPAN_STATE(e) == WKSP_SPAN_FULL)
      wksp__cas(word_of(op->wksp, span), &e, SPAN_WITH(e, WKSP_SPAN_OWNED));
    wksp__st(&rec->summary, sum);
    wksp__list_remove(op->wksp, full, span);
    wksp__list_push(op->wksp, &op->heap->mag[cls].part, span, WKSP_LIST_PART);
    wksp__st(&op->heap->mag[cls].look, at);
    return 1;
  }
  wksp__st(&op->heap->mag[cls].look, at);
  return 0;
}

int wksp__span_next(wksp__op_t *op, uint32_t cls) {
  wksp__heap_t *heap = op->heap;
  int tried = 0, err = 0;
  for (;;) {
    uint32_t span;
    if (heap->mag[cls].part) {
      span = heap->mag[cls].part - 1;
      wksp__list_remove(op->wksp, &heap->mag[cls].part, span);
      wksp__st(&wksp__rec(op->wksp, span)->list, (uint32_t)WKSP_LIST_CUR);
    } else if (wksp__ld(&heap->inbox)) {
      wksp__span_drain(op, heap, op->heap_id);
      continue;
    } else if (heap->spare[wksp__class(op->wksp, cls)->lg]) {
      span = take_spare(op, cls);
    } else if (look_full(op, cls)) {
      continue;
    } else if (!from_pool(op, cls, tried, &span)) {
      if (wksp__heap_inherit(op)) continue;
      if (tried) return err ? err : wksp__fail(WKSP_E_NOMEM, "malloc: others took all new spans");
      err = region_fetch(op, wksp__class(op->wksp, cls)->lg);
      if (err == WKSP_E_NOMEM) {
        /* what our magazines hold may be the last live blocks of spans */
        wksp__mag_drain(op);
        trim(op, cls);
        /* A kill may have left spans in the pool that nobody counts: look once, whatever the count.
         */
        wksp__st(&op->alloc->pool_cnt, 1U);
        tried = 1;
      } else if (err) {
        return err;
      }
      continue;
    }
    wksp__st(&heap->mag[cls].cur, span + 1);
    return 0;
  }
}

int wksp__span_aside(wksp__op_t *op, uint32_t cls) {
  wksp__mag_t *mag = &op->heap->mag[cls];
  uint32_t cur = mag->cur;
  wksp__st(&mag->cur, 0U);
  if (set_aside(op, cur - 1, cls)) return 1;
  wksp__st(&wksp__rec(op->wksp, cur - 1)->list, (uint32_t)WKSP_LIST_CUR);
  wksp__st(&mag->cur, cur);
  return 0;
}

uint64_t wksp__span_give(wksp__op_t *op, uint32_t span, uint32_t w, uint64_t bits) {
  uint64_t e = wksp__ld(word_of(op->wksp, span));
  wksp__giver_t giver = wksp__giver(op->wksp, SPAN_CLASS(e));
  return wksp__giver_give(op, &giver, span, e, w, bits);
}

void wksp__span_again(wksp__op_t *op, uint32_t span, uint64_t e) {
  if (!wksp__cas(word_of(op->wksp, span), &e, SPAN_WITH(e, WKSP_SPAN_OWNED))) return;
  wksp__mag_t *mag = &op->heap->mag[SPAN_CLASS(e)];
  wksp__list_remove(op->wksp, &mag->full, span);
  wksp__list_push(op->wksp, &mag->part, span, WKSP_LIST_PART);
}

void wksp__span_given(wksp__op_t *op, uint32_t span) {
  wksp__rec_t *rec = wksp__rec(op->wksp, span);
  uint64_t e = wksp__ld(word_of(op->wksp, span));
  if (rec->allfree == wksp__all_words(op->wksp, SPAN_CLASS(e)) && SPAN_STATE(e) == WKSP_SPAN_OWNED)
    maybe_retire(op, span, SPAN_CLASS(e));
}

int wksp__span_give_elsewhere(wksp__op_t *op, uint64_t gaddr, uint32_t span, uint64_t e) {
  uint32_t blk = wksp__blk_of(op->wksp, gaddr, SPAN_CLASS(e));
  if (blk == UINT32_MAX) return WKSP_E_NOTFOUND;
  wksp__pair_t *pair = wksp__pairs(op->wksp, span, SPAN_CLASS(e)) + blk / 64;
  uint64_t bit = 1UL << (blk & 63U);
  /* A before F changes: afterwards its owner may hand the block out again. A CAS, not a blind XOR:
     of two who free the same block one finds its bit gone and has changed nothing. Its bit in A of
     a live block does not change, so whatever else A's owner does meanwhile does not matter.
     release: our use of the block comes before the next owner's; pairs with the acquire in fill
     (alloc_mag.c) */
  uint64_t f = wksp__ld(&pair->f);
  wksp__lot_pass(op->wksp, wksp__rec(op->wksp, span), span, blk / 64, bit, f);
  do {
    uint64_t a = wksp__ld_acquire(&pair->a);
    if (!((a ^ f) & bit)) return WKSP_E_NOTFOUND;
  } while (!wksp__cas(&pair->f, &f, f ^ bit));
  /* free: the next who gets it is no business of ours. realloc has its new block in flight. */
  if (wksp__ld(&op->call.slot->flight) == gaddr) wksp__st(&op->call.slot->flight, 0UL);
  wksp__span_tell(op, span);
  return 0;
}

void wksp__span_tell(wksp__op_t *op, uint32_t span) {
  uint64_t now = wksp__ld_seq(word_of(op->wksp, span));
  /* Should the span have another life by now, telling its owner does no harm. */
  if (SPAN_STATE(now) != WKSP_SPAN_FULL) return;
  wksp__heap_t *heap = wksp__heap_of(op->wksp, SPAN_HEAP(now), op->alloc_gaddr);
  if (!heap) return;
  wksp__st(&op->call.slot->announce, (uint64_t)span + 1);
  wksp__fence_seq(); /* announced before PENDING is seen; pairs with the loads in heap_rebuild */
  if (wksp__cas(word_of(op->wksp, span), &now, SPAN_WITH(now, WKSP_SPAN_PENDING))) {
    uint32_t head = wksp__ld(&heap->inbox);
    do wksp__st(&wksp__rec(op->wksp, span)->inbox_next, head);
    while (!wksp__cas(&heap->inbox, &head, span + 1));
  }
  wksp__st_release(&op->call.slot->announce, 0UL);
}
