/* alloc_give: giving blocks of a heap's own spans back to their pairs, inline, for who gives many
   of one class. Part of alloc.h, which explains pairs and spans. */

#ifndef WKSP_CORE_ALLOC_GIVE_H
#define WKSP_CORE_ALLOC_GIVE_H

#include "core/alloc.h"

/* What is the same for all blocks of a class. */
typedef struct wksp__giver {
  uint64_t in_span;   /* a span's bytes - 1 */
  uint64_t in_word;   /* bytes of 64 blocks */
  uint64_t all, tail; /* every word's bit; the bits of the last word that are no blocks */
  uint32_t recip, pair_off, last; /* last word */
} wksp__giver_t;

static inline wksp__giver_t wksp__giver(fd_wksp_t const *wksp, uint32_t cls) {
  wksp__class_t const *info = wksp__class(wksp, cls);
  uint32_t last = info->word_cnt - 1;
  return (wksp__giver_t){.in_span = (WKSP_SPAN_SZ << info->lg) - 1,
                         .in_word = 64UL * info->size,
                         .all = wksp__all_words(wksp, cls),
                         .tail = wksp__tail(wksp, cls, last),
                         .recip = info->recip,
                         .pair_off = info->pair_off,
                         .last = last};
}

static inline wksp__pair_t *wksp__giver_pair(wksp__op_t const *op, wksp__giver_t const *giver,
                                             wksp__rec_t *rec, uint32_t span, uint32_t w) {
  if (!giver->pair_off) return rec->inl + w;
  uintptr_t at = (uintptr_t)op->wksp + wksp__span_gaddr(op->wksp, span) + giver->pair_off;
  return (wksp__pair_t *)at + w;
}

/* wksp__span_give for a span whose word is e. */
static inline uint64_t wksp__giver_give(wksp__op_t *op, wksp__giver_t const *giver, uint32_t span,
                                        uint64_t e, uint32_t w, uint64_t bits) {
  wksp__rec_t *rec = wksp__rec(op->wksp, span);
  wksp__pair_t *pair = wksp__giver_pair(op, giver, rec, span, w);
  uint64_t a = wksp__ld(&pair->a), f = wksp__ld(&pair->f), live = bits & (a ^ f);
  if (wksp__unlikely(!live)) return bits;
  wksp__st(&pair->a, a ^ live); /* free in the pair from here on */
  wksp__st(&rec->summary, rec->summary | 1UL << w);
  if (wksp__unlikely(SPAN_STATE(e) == WKSP_SPAN_FULL && rec->list == WKSP_LIST_FULL))
    wksp__span_again(op, span, e);
  if (wksp__unlikely((a ^ live ^ f) == (w == giver->last ? giver->tail : 0UL)))
    wksp__st(&rec->allfree, rec->allfree | 1UL << w);
  return bits & ~live;
}

/* wksp__span_given likewise. */
static inline void wksp__giver_given(wksp__op_t *op, wksp__giver_t const *giver, uint32_t span) {
  if (wksp__unlikely(wksp__rec(op->wksp, span)->allfree == giver->all)) wksp__span_given(op, span);
}

#endif
