/* ranges: see ranges.h. */

#include "ckpt/ranges.h"

#define BATCH 64U
/* How many ranges ahead, and how much of each: the processor's own prefetching does the rest. */
#define AHEAD     8U
#define AHEAD_MAX 1024UL

typedef struct range {
  char *at;
  uint64_t len;
} range_t;

typedef struct batch {
  range_t ranges[BATCH];
  uint32_t cnt;
  char *base;
  wksp__ck_range_t on_range;
  void *arg;
} batch_t;

static void fetch(range_t const *range) {
  uint64_t len = range->len < AHEAD_MAX ? range->len : AHEAD_MAX;
  for (uint64_t off = 0; off < len; off += 64) __builtin_prefetch(range->at + off);
}

static void flush(batch_t *batch) {
  for (uint32_t i = 0; i < batch->cnt && i < AHEAD; i++) fetch(&batch->ranges[i]);
  for (uint32_t i = 0; i < batch->cnt; i++) {
    if (i + AHEAD < batch->cnt) fetch(&batch->ranges[i + AHEAD]);
    batch->on_range(batch->arg, batch->ranges[i].at, batch->ranges[i].len);
  }
  batch->cnt = 0;
}

static void add(void *arg, uint64_t gaddr, uint64_t len) {
  batch_t *batch = arg;
  range_t *last = batch->cnt ? &batch->ranges[batch->cnt - 1] : NULL;
  if (last && last->at + last->len == batch->base + gaddr) {
    last->len += len;
    return;
  }
  if (batch->cnt == BATCH) flush(batch);
  batch->ranges[batch->cnt++] = (range_t){batch->base + gaddr, len};
}

void wksp__ck_ranges(wksp__ck_tables_t const *tables, wksp__ck_chunk_t const *chunk, void *base,
                     wksp__ck_range_t on_range, void *arg) {
  batch_t batch;
  batch.cnt = 0; /* the ranges need not be zero */
  batch.base = base;
  batch.on_range = on_range;
  batch.arg = arg;
  wksp__ck_runs(tables, chunk, add, &batch);
  flush(&batch);
}
