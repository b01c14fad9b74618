/* part_look: finding, listing and adding up partitions, without the lock.

   A look reads the words as they are while writers may change them, so it is bounded, checks every
   index, and is made again until the version says that nobody was in the way (wksp__read_run).

   What it refuses: to report what it has seen before that is sure. */

#include "core/part.h"

#include "core/fail.h"
#include "core/part_priv.h"

int wksp__part_corrupt(fd_wksp_t const *wksp) {
  return wksp__fail(WKSP_E_CORRUPT,
                    "workspace %s: the partition table is damaged, nothing was changed: verify "
                    "tells where",
                    wksp->name);
}

typedef struct part_look {
  fd_wksp_t const *wksp;
  uint64_t gaddr;
  ulong const *tags;
  uint64_t tag_cnt;
  fd_wksp_part_t part;
  fd_wksp_usage_t usage;
} part_look_t;

static int look_find(void *arg) {
  part_look_t *look = arg;
  wksp__pop_t op;
  wksp__pop_begin(&op, look->wksp);
  wksp__part_of(&op, wksp__addr_at(&op, look->gaddr), &look->part);
  if (op.bad) return WKSP_E_CORRUPT;
  return wksp__part_used(look->part.kind);
}

int wksp__part_find(fd_wksp_t const *wksp, uint64_t gaddr, fd_wksp_part_t *ret_part) {
  if (!wksp__part_in_data(wksp, gaddr)) return 0;
  part_look_t look = {.wksp = wksp, .gaddr = gaddr};
  int rc = wksp__read_run(wksp, look_find, &look);
  if (rc == WKSP_E_CORRUPT) return wksp__part_corrupt(wksp);
  if (rc == 1) *ret_part = look.part;
  return rc;
}

static int look_next(void *arg) {
  part_look_t *look = arg;
  wksp__pop_t op;
  wksp__pop_begin(&op, look->wksp);
  uint32_t idx = wksp__addr_at(&op, look->gaddr);
  if (wksp__ent_gaddr(&op, idx) < look->gaddr) idx = wksp__ent_hi(&op, idx, WKSP_PART_NBR);
  /* free ones have no free neighbour */
  if (idx && wksp__ent_kind(&op, idx) == WKSP_PART_FREE)
    idx = wksp__ent_hi(&op, idx, WKSP_PART_NBR);
  if (idx && wksp__ent_kind(&op, idx) == WKSP_PART_BEYOND) idx = 0; /* the last */
  if (idx) {
    wksp__part_of(&op, idx, &look->part);
    if (look->part.kind == WKSP_PART_FREE || look->part.gaddr < look->gaddr) op.bad = 1;
  }
  return op.bad ? WKSP_E_CORRUPT : idx != 0;
}

int wksp__part_next(fd_wksp_t const *wksp, uint64_t gaddr_from, fd_wksp_part_t *ret_part) {
  if (gaddr_from >= wksp->data_hi) return 0;
  part_look_t look = {.wksp = wksp,
                      .gaddr = gaddr_from < wksp->data_lo ? wksp->data_lo : gaddr_from};
  int rc = wksp__read_run(wksp, look_next, &look);
  if (rc == WKSP_E_CORRUPT) return wksp__part_corrupt(wksp);
  if (rc == 1) *ret_part = look.part;
  return rc;
}

int wksp__part_look(fd_wksp_t const *wksp, uint64_t gaddr, fd_wksp_part_t *ret_part) {
  if (!wksp__part_in_data(wksp, gaddr)) return 0;
  part_look_t look = {.wksp = wksp, .gaddr = gaddr};
  int rc = look_find(&look);
  if (rc == 1) *ret_part = look.part;
  return rc;
}

int wksp__part_look_next(fd_wksp_t const *wksp, uint64_t gaddr_from, fd_wksp_part_t *ret_part) {
  if (gaddr_from >= wksp->data_hi) return 0;
  part_look_t look = {.wksp = wksp,
                      .gaddr = gaddr_from < wksp->data_lo ? wksp->data_lo : gaddr_from};
  int rc = look_next(&look);
  if (rc == 1) *ret_part = look.part;
  return rc;
}

/* Adds the ring of one tag. */
static void usage_of_tag(wksp__pop_t *op, uint64_t tag, fd_wksp_usage_t *usage) {
  uint32_t first = wksp__tag_first(op, tag), idx = first;
  if (!first) return;
  for (uint64_t steps = 0; steps <= op->part_max && !op->bad; steps++) {
    usage->used_cnt++;
    usage->used_sz += wksp__ent_size(op, idx);
    idx = wksp__ent_hi(op, idx, WKSP_PART_LIST);
    if (idx == first) return;
  }
  op->bad = 1;
}

static int named_before(ulong const *tags, uint64_t cnt, ulong tag) {
  for (uint64_t i = 0; i < cnt; i++)
    if (tags[i] == tag) return 1;
  return 0;
}

static int look_usage(void *arg) {
  part_look_t *look = arg;
  wksp__pop_t op;
  wksp__pop_begin(&op, look->wksp);
  uint64_t cnt = wksp__ld(&op.head->cnt);
  uint32_t largest = wksp__size_max(&op), beyond = wksp__part_beyond(&op);
  fd_wksp_usage_t usage = {.total_max = look->wksp->part_max - !!beyond,
                           .total_cnt = wksp__lo32(cnt) - !!beyond,
                           .total_sz = look->wksp->data_max - wksp__ent_size(&op, beyond),
                           .free_cnt = wksp__hi32(cnt),
                           .free_sz = wksp__ld(&op.head->free_sz)};
  usage.free_sz_max = largest ? wksp__ent_size(&op, largest) : 0;
  if (usage.total_cnt > usage.total_max || usage.free_cnt > usage.total_cnt ||
      usage.free_sz > usage.total_sz || usage.free_sz_max > usage.free_sz)
    op.bad = 1;
  for (uint64_t i = 0; i < look->tag_cnt && !op.bad; i++)
    if (!named_before(look->tags, i, look->tags[i])) usage_of_tag(&op, look->tags[i], &usage);
  if (!look->tag_cnt) {
    usage.used_cnt = usage.total_cnt - usage.free_cnt;
    usage.used_sz = usage.total_sz - usage.free_sz;
  }
  look->usage = usage;
  return op.bad ? WKSP_E_CORRUPT : 0;
}

int wksp__part_usage(fd_wksp_t const *wksp, ulong const *tags, uint64_t tag_cnt,
                     fd_wksp_usage_t *ret_usage) {
  part_look_t look = {.wksp = wksp, .tags = tags, .tag_cnt = tag_cnt};
  int rc = wksp__read_run(wksp, look_usage, &look);
  if (rc == WKSP_E_CORRUPT) return wksp__part_corrupt(wksp);
  if (!rc) *ret_usage = look.usage;
  return rc;
}
