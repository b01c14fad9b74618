/* part_ring: rings through WKSP_PART_LIST, for the indexes by size and by tag. fresh: nothing leads
   to idx yet, its own words need no record. */

#ifndef WKSP_CORE_PART_RING_H
#define WKSP_CORE_PART_RING_H

#include "core/part_priv.h"

static inline uint64_t wksp__pair(uint32_t lo, uint32_t hi) {
  return lo | (uint64_t)hi << 32;
}

static inline void wksp__ent_write(wksp__pop_t *op, uint32_t idx, uint32_t w, uint64_t value,
                                   int fresh) {
  if (fresh)
    wksp__ent_fill(op, idx, w, value);
  else
    wksp__ent_set(op, idx, w, value);
}

/* The up half of idx's WKSP_PART_IDX. */
static inline void wksp__up_write(wksp__pop_t *op, uint32_t idx, uint32_t up, int fresh) {
  uint32_t next = wksp__ent_lo(op, idx, WKSP_PART_IDX); /* kept: the pool's link, if it is fresh */
  wksp__ent_write(op, idx, WKSP_PART_IDX, wksp__pair(next, up), fresh);
}

static inline void wksp__ring_alone(wksp__pop_t *op, uint32_t idx, int fresh) {
  wksp__ent_write(op, idx, WKSP_PART_LIST, wksp__pair(idx, idx), fresh);
}

static inline void wksp__ring_add(wksp__pop_t *op, uint32_t after, uint32_t idx, int fresh) {
  uint64_t *list = &wksp__ent_rw(op, after)->w[WKSP_PART_LIST];
  uint64_t was = wksp__ld(list);
  uint32_t next = wksp__hi32(was);
  wksp__ent_write(op, idx, WKSP_PART_LIST, wksp__pair(after, next), fresh);
  if (next == after) {
    wksp__tx_set64(&op->tx, list, wksp__pair(idx, idx));
    return;
  }
  wksp__tx_set64(&op->tx, list, wksp__pair(wksp__lo32(was), idx));
  wksp__ent_set_lo(op, next, WKSP_PART_LIST, idx);
}

static inline void wksp__ring_cut(wksp__pop_t *op, uint32_t idx) {
  uint64_t list = wksp__ent_get(op, idx, WKSP_PART_LIST);
  uint32_t before = wksp__lo32(list), after = wksp__hi32(list);
  if (before == after) {
    wksp__ent_set(op, before, WKSP_PART_LIST, wksp__pair(before, before));
    return;
  }
  wksp__ent_set_hi(op, before, WKSP_PART_LIST, after);
  wksp__ent_set_lo(op, after, WKSP_PART_LIST, before);
}

#endif
