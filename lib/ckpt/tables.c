/* tables: which bytes live, chunk by chunk.

   Memory is cut into windows at fixed addresses. A chunk is what lives in a window, one range
   behind the other without what is between; so what is free costs nothing, and a chunk's bytes stay
   the same as long as what lives there does, wherever in the checkpoint it comes.

   The ranges are not listed: spans of small blocks have as many as half their blocks. They are read
   from the bits each time, by one walk (wksp__ck_runs) for all who gather, scatter or count.

   Refuses: to trust tables from a file before wksp__ck_tables_check has seen them. */

#include "ckpt/tables.h"

#include "core/fail.h"

#include <stdlib.h>
#include <string.h>

uint32_t wksp__ck_chunk_lg(uint64_t data_max) {
  uint32_t lg = WKSP_CK_CHUNK_LG;
  /* about as many chunks, whatever the size, once there are a million */
  while (lg < WKSP_CK_CHUNK_LG_MAX && data_max >> lg > (1UL << 20)) lg++;
  return lg;
}

void wksp__ck_tables_free(wksp__ck_tables_t *tables) {
  free(tables->parts);
  free(tables->roots);
  free(tables->dir);
  free(tables->spans);
  free(tables->bits);
  free(tables->suspects);
  free(tables->extents);
  free(tables->chunks);
  memset(tables, 0, sizeof *tables);
}

int wksp__ck_grow(void *array, uint64_t cnt, uint64_t *cap, uint64_t item_sz) {
  if (cnt < *cap) return 0;
  uint64_t more = *cap ? 2 * *cap : 64;
  void *old, *bigger;
  memcpy(&old, array, sizeof old);
  bigger = realloc(old, more * item_sz);
  if (!bigger)
    return wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for %lu bytes of tables",
                      more * item_sz);
  memcpy(array, &bigger, sizeof bigger);
  *cap = more;
  return 0;
}

/* Looking
 * ---------------------------------------------------------------------------------------------- */

wksp__ck_part_t const *wksp__ck_part_at(wksp__ck_tables_t const *tables, uint64_t gaddr) {
  uint64_t lo = 0, hi = tables->part_cnt; /* parts before lo begin at or before gaddr */
  while (lo < hi) {
    uint64_t mid = lo + (hi - lo) / 2;
    if (tables->parts[mid].gaddr <= gaddr)
      lo = mid + 1;
    else
      hi = mid;
  }
  if (!lo) return NULL;
  wksp__ck_part_t const *part = &tables->parts[lo - 1];
  return gaddr - part->gaddr < part->size ? part : NULL;
}

/* Whether the span has those 64 KiB. */
static int span_has(wksp__ck_tables_t const *tables, wksp__ck_span_t const *span, uint32_t idx) {
  return idx - span->span < 1U << wksp__class(&tables->hdr, span->cls)->lg;
}

wksp__ck_span_t const *wksp__ck_block_at(wksp__ck_tables_t const *tables, uint64_t gaddr,
                                         wksp__ck_span_t const *likely, uint32_t *ret_blk) {
  if (gaddr < tables->hdr.data_lo || gaddr >= tables->hdr.data_hi) return NULL;
  uint32_t idx = wksp__span_of(&tables->hdr, gaddr);
  uint64_t lo = 0, hi = tables->span_cnt;
  if (likely && span_has(tables, likely, idx)) {
    lo = (uint64_t)(likely - tables->spans) + 1;
    hi = lo;
  }
  while (lo < hi) {
    uint64_t mid = lo + (hi - lo) / 2;
    if (tables->spans[mid].span <= idx)
      lo = mid + 1;
    else
      hi = mid;
  }
  if (!lo) return NULL;
  wksp__ck_span_t const *span = &tables->spans[lo - 1];
  if (!span_has(tables, span, idx)) return NULL;
  uint32_t blk = wksp__blk_of(&tables->hdr, gaddr, span->cls);
  if (blk == UINT32_MAX) return NULL;
  *ret_blk = blk;
  return span;
}

static wksp__ck_dir_t const *dir_at(wksp__ck_tables_t const *tables, uint32_t id) {
  uint64_t lo = 0, hi = tables->dir_cnt;
  while (lo < hi) {
    uint64_t mid = lo + (hi - lo) / 2;
    if (tables->dir[mid].id < id)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo < tables->dir_cnt && tables->dir[lo].id == id ? &tables->dir[lo] : NULL;
}

uint64_t wksp__ck_home(wksp__ck_tables_t const *tables, uint32_t id) {
  wksp__ck_dir_t const *dir = dir_at(tables, id);
  return dir && dir->what == DIR_HOME ? dir->gaddr : 0;
}

uint64_t wksp__ck_heap(wksp__ck_tables_t const *tables, uint32_t id, uint32_t home) {
  wksp__ck_dir_t const *dir = dir_at(tables, id);
  if (!dir || dir->what != DIR_HEAP) return 0;
  wksp__ck_part_t const *part = wksp__ck_part_at(tables, dir->gaddr);
  return part && part->gaddr == dir->gaddr && part->kind == (FD_WKSP_KIND_HEAP | home << 8)
             ? dir->gaddr
             : 0;
}

/* Runs
 * ---------------------------------------------------------------------------------------------- */

/* The first block from blk on, before end, whose bit is `bit`; end if there is none. */
static uint32_t bit_next(uint64_t const *bits, uint32_t blk, uint32_t end, int bit) {
  while (blk < end) {
    uint64_t word = (bit ? bits[blk / 64] : ~bits[blk / 64]) >> (blk % 64);
    if (word) {
      blk += (uint32_t)__builtin_ctzl(word);
      return blk < end ? blk : end;
    }
    blk = (blk | 63U) + 1;
  }
  return end;
}

/* The live ranges of a span within [lo, hi). */
static void span_runs(wksp__ck_tables_t const *tables, wksp__ck_span_t const *span, uint64_t lo,
                      uint64_t hi, wksp__ck_run_t on_run, void *arg) {
  wksp__class_t const *info = wksp__class(&tables->hdr, span->cls);
  uint64_t const *bits = tables->bits + span->first;
  uint64_t base = wksp__span_gaddr(&tables->hdr, span->span), size = info->size;
  uint32_t blk = lo > base ? (uint32_t)((lo - base) / size) : 0, end = info->blk_cnt;
  if (hi - base < end * size) end = (uint32_t)((hi - base + size - 1) / size);
  for (blk = bit_next(bits, blk, end, 1); blk < end;) {
    uint32_t after = bit_next(bits, blk, end, 0), next = bit_next(bits, after, end, 1);
    uint64_t from = base + blk * size, to = base + after * size;
    if (from < lo) from = lo;
    if (to > hi) to = hi;
    if (from < to) on_run(arg, from, to - from);
    blk = next;
  }
}

static void extent_runs(wksp__ck_tables_t const *tables, wksp__ck_extent_t const *ext, uint64_t lo,
                        uint64_t hi, wksp__ck_run_t on_run, void *arg) {
  uint64_t from = ext->gaddr < lo ? lo : ext->gaddr;
  uint64_t to = ext->gaddr + ext->size < hi ? ext->gaddr + ext->size : hi;
  if (from >= to) return;
  if (ext->span == WKSP_CK_ALL)
    on_run(arg, from, to - from);
  else
    span_runs(tables, &tables->spans[ext->span], from, to, on_run, arg);
}

void wksp__ck_runs(wksp__ck_tables_t const *tables, wksp__ck_chunk_t const *chunk,
                   wksp__ck_run_t on_run, void *arg) {
  uint64_t lo = chunk->window << tables->chunk_lg, hi = lo + (1UL << tables->chunk_lg);
  for (uint64_t i = chunk->extent; i < tables->extent_cnt && tables->extents[i].gaddr < hi; i++)
    extent_runs(tables, &tables->extents[i], lo, hi, on_run, arg);
}

/* Chunks
 * ---------------------------------------------------------------------------------------------- */

static int extent_add(wksp__ck_tables_t *tables, uint64_t gaddr, uint64_t size, uint32_t span) {
  int err = WKSP_CK_ADD(tables, extent);
  if (err) return err;
  tables->extents[tables->extent_cnt++] =
      (wksp__ck_extent_t){.gaddr = gaddr, .size = size, .span = span};
  return 0;
}

/* Partitions of users and large blocks live as they are; of those for spans, the spans. A span may
   reach from one partition into the next, so spans are merged by address. */
static int extents_make(wksp__ck_tables_t *tables) {
  uint64_t span = 0;
  int err = 0;
  for (uint64_t i = 0; i <= tables->part_cnt && !err; i++) {
    uint64_t upto = i < tables->part_cnt ? tables->parts[i].gaddr : UINT64_MAX;
    for (; span < tables->span_cnt && !err; span++) {
      uint64_t gaddr = wksp__span_gaddr(&tables->hdr, tables->spans[span].span);
      if (gaddr >= upto) break;
      err = extent_add(tables, gaddr,
                       WKSP_SPAN_SZ << wksp__class(&tables->hdr, tables->spans[span].cls)->lg,
                       (uint32_t)span);
    }
    if (i == tables->part_cnt || err) break;
    uint32_t kind = tables->parts[i].kind & 255U;
    if (kind == FD_WKSP_KIND_USER || kind == FD_WKSP_KIND_LARGE)
      err = extent_add(tables, upto, tables->parts[i].size, WKSP_CK_ALL);
  }
  return err;
}

typedef struct counted {
  uint64_t len, end;
  uint32_t run_cnt;
} counted_t;

static void count(void *arg, uint64_t gaddr, uint64_t len) {
  counted_t *counted = arg;
  counted->run_cnt += !counted->len || gaddr != counted->end;
  counted->len += len;
  counted->end = gaddr + len;
}

/* The same for all of a span, by words instead of runs. */
static void span_count(wksp__ck_tables_t const *tables, wksp__ck_span_t const *span,
                       counted_t *counted) {
  wksp__class_t const *info = wksp__class(&tables->hdr, span->cls);
  uint64_t const *bits = tables->bits + span->first;
  uint64_t base = wksp__span_gaddr(&tables->hdr, span->span), live = 0, before = 0, last = 0;
  uint32_t run_cnt = 0, first = bit_next(bits, 0, info->blk_cnt, 1);
  if (first == info->blk_cnt) return;
  for (uint32_t w = first / 64; w < span->word_cnt; w++) {
    live += (uint64_t)__builtin_popcountl(bits[w]);
    run_cnt += (uint32_t)__builtin_popcountl(bits[w] & ~(bits[w] << 1 | before));
    before = bits[w] >> 63;
    if (bits[w]) last = w * 64UL + 63UL - (uint64_t)__builtin_clzl(bits[w]);
  }
  counted->run_cnt += run_cnt - (counted->len && counted->end == base + first * info->size);
  counted->len += live * info->size;
  counted->end = base + (last + 1) * info->size;
}

static counted_t window_count(wksp__ck_tables_t const *tables, uint64_t extent, uint64_t lo,
                              uint64_t hi) {
  counted_t counted = {0};
  for (; extent < tables->extent_cnt && tables->extents[extent].gaddr < hi; extent++) {
    wksp__ck_extent_t const *ext = &tables->extents[extent];
    if (ext->span != WKSP_CK_ALL && ext->gaddr >= lo && ext->gaddr + ext->size <= hi)
      span_count(tables, &tables->spans[ext->span], &counted);
    else
      extent_runs(tables, ext, lo, hi, count, &counted);
  }
  return counted;
}

int wksp__ck_chunks_make(wksp__ck_tables_t *tables, uint64_t chunk_max) {
  int err = extents_make(tables);
  if (err) return err;
  uint64_t from = 0, lg = tables->chunk_lg;
  for (uint64_t extent = 0; extent < tables->extent_cnt;) {
    wksp__ck_extent_t const *ext = &tables->extents[extent];
    uint64_t window = ext->gaddr >> lg;
    if (window < from) window = from;
    if (window << lg >= ext->gaddr + ext->size) {
      extent++;
      continue;
    }
    counted_t all = window_count(tables, extent, window << lg, (window + 1) << lg);
    if (all.len) {
      if (tables->chunk_cnt == chunk_max)
        return wksp__fail(WKSP_E_CORRUPT, "checkpoint: more lives than its %lu chunks can hold",
                          chunk_max);
      err = WKSP_CK_ADD(tables, chunk);
      if (err) return err;
      tables->chunks[tables->chunk_cnt++] = (wksp__ck_chunk_t){
          .window = window, .extent = extent, .raw_len = (uint32_t)all.len, .run_cnt = all.run_cnt};
      tables->live_sz += all.len;
    }
    from = window + 1;
  }
  return 0;
}

/* Checking what a file says
 * ---------------------------------------------------------------------------------------------- */

static int bad(char const *what, uint64_t idx) {
  return wksp__fail(WKSP_E_CORRUPT, "checkpoint: %s %lu is impossible", what, idx);
}

static int parts_check(wksp__ck_tables_t const *tables) {
  uint64_t at = tables->hdr.data_lo, end = at + tables->data_sz;
  for (uint64_t i = 0; i < tables->part_cnt; i++) {
    wksp__ck_part_t const *part = &tables->parts[i];
    uint32_t kind = part->kind & 255U;
    if (part->gaddr < at || part->gaddr >= end || !part->size || part->size > end - part->gaddr ||
        (part->gaddr | part->size) % FD_WKSP_PART_GRAIN || !part->tag || kind < FD_WKSP_KIND_USER ||
        kind > FD_WKSP_KIND_LARGE)
      return bad("partition", i);
    if (kind != FD_WKSP_KIND_USER && !wksp__ck_home(tables, part->kind >> 8))
      return bad("the owner of partition", i);
    if (kind == FD_WKSP_KIND_USER && part->kind >> 8) return bad("the owner of partition", i);
    if (kind == FD_WKSP_KIND_SPANS &&
        (((part->gaddr - tables->hdr.data_lo) | part->size) & (WKSP_SPAN_SZ - 1) ||
         part->size > WKSP_REGION_SZ_MAX))
      return bad("partition", i);
    at = part->gaddr + part->size;
  }
  return 0;
}

static int dir_check(wksp__ck_tables_t const *tables) {
  uint32_t last = 0;
  for (uint64_t i = 0; i < tables->dir_cnt; i++) {
    wksp__ck_dir_t const *dir = &tables->dir[i];
    wksp__ck_part_t const *part = wksp__ck_part_at(tables, dir->gaddr);
    uint64_t size = dir->what == DIR_HOME ? sizeof(struct fd_alloc) : wksp__heap_size(&tables->hdr);
    if (dir->id <= last || dir->id >= tables->hdr.heap_max || !part || dir->gaddr % 64 ||
        (dir->what != DIR_HOME && dir->what != DIR_HEAP) ||
        part->size - (dir->gaddr - part->gaddr) < size)
      return bad("entry of the heap directory", i);
    if (dir->what == DIR_HOME && (part->kind & 255U) != FD_WKSP_KIND_USER)
      return bad("entry of the heap directory", i);
    if (dir->what == DIR_HEAP && !wksp__ck_heap(tables, dir->id, part->kind >> 8))
      return bad("entry of the heap directory", i);
    last = dir->id;
  }
  return 0;
}

/* All 64 KiB of a span lie in partitions for spans of one home, and its heap is of that. */
static int span_check(wksp__ck_tables_t const *tables, uint64_t i) {
  wksp__ck_span_t const *span = &tables->spans[i];
  wksp__class_t const *info = wksp__class(&tables->hdr, span->cls);
  uint32_t home = 0;
  for (uint32_t at = 0; at < 1U << info->lg; at++) {
    wksp__ck_part_t const *part =
        wksp__ck_part_at(tables, wksp__span_gaddr(&tables->hdr, span->span + at));
    if (!part || (part->kind & 255U) != FD_WKSP_KIND_SPANS || (at && part->kind >> 8 != home))
      return bad("span", i);
    home = part->kind >> 8;
  }
  uint64_t tail = wksp__tail(&tables->hdr, span->cls, info->word_cnt - 1);
  if (!wksp__ck_heap(tables, span->heap, home) || span->word_cnt != info->word_cnt ||
      tables->bits[span->first + span->word_cnt - 1] & tail)
    return bad("span", i);
  return 0;
}

static int spans_check(wksp__ck_tables_t const *tables) {
  uint64_t first = 0, from = 0;
  for (uint64_t i = 0; i < tables->span_cnt; i++) {
    wksp__ck_span_t const *span = &tables->spans[i];
    if (span->cls >= WKSP_CLASS_CNT || span->span < from ||
        span->span >= wksp__span_cnt(&tables->hdr) || span->first != first ||
        span->word_cnt > tables->bit_cnt - first)
      return bad("span", i);
    uint32_t lg = wksp__class(&tables->hdr, span->cls)->lg;
    if (!span->word_cnt || !wksp__span_fits(&tables->hdr, span->span, lg)) return bad("span", i);
    int err = span_check(tables, i);
    if (err) return err;
    first += span->word_cnt;
    from = (uint64_t)span->span + (1U << lg);
  }
  return first == tables->bit_cnt ? 0 : bad("word of live bits", first);
}

static int roots_check(wksp__ck_tables_t const *tables) {
  uint64_t from = 0;
  for (uint64_t i = 0; i < tables->root_cnt; i++) {
    wksp__ck_root_t const *root = &tables->roots[i];
    char const *name = (char const *)root->root.name;
    if (root->place < from || root->place >= FD_WKSP_ROOT_MAX || !name[0] ||
        name[FD_WKSP_ROOT_NAME_MAX] || root->root.gaddr < tables->hdr.data_lo ||
        root->root.gaddr >= tables->hdr.data_hi)
      return bad("root", i);
    from = root->place + 1;
  }
  return 0;
}

int wksp__ck_tables_check(wksp__ck_tables_t const *tables) {
  int err = 0;
  if (!tables->data_sz || tables->data_sz > tables->hdr.data_max ||
      tables->data_sz % WKSP_SPAN_SZ || tables->chunk_lg < WKSP_CK_CHUNK_LG_MIN ||
      tables->chunk_lg > WKSP_CK_CHUNK_LG_MAX || tables->part_cnt >= tables->hdr.part_max + 1)
    return wksp__fail(WKSP_E_CORRUPT, "checkpoint: its header has impossible sizes");
  /* homes are looked up for parts, so the directory's order is looked at before its entries */
  for (uint64_t i = 1; i < tables->dir_cnt; i++)
    if (tables->dir[i].id <= tables->dir[i - 1].id) return bad("entry of the heap directory", i);
  err = parts_check(tables);
  if (!err) err = dir_check(tables);
  if (!err) err = spans_check(tables);
  if (!err) err = roots_check(tables);
  return err;
}
