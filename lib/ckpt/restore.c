/* restore: a workspace from a checkpoint, in fresh memory.

   Order: metadata from the tables (lib/core/remake.c knows how), then the bytes of chunks, by
   several threads, each chunk digested on the way; then the heads of fd_allocs, over the bytes that
   were read for them; then the verify of the whole. The magic number is written by that, so
   whatever fails before leaves memory that nobody takes for a workspace.

   Some tags only: partitions with these; an fd_alloc with the partition in which its head lies, and
   with it all that it has, whatever its tag; roots that lead into what is kept. Addresses stay, so
   the rest is free.

   Other dimensions: since addresses stay, what is kept must lie between where the new tables end
   and where the new data does, and must have the same ids of heaps. What the size of a workspace
   says of spans and heaps stays as it was, too: the header of the new one says so then. Spans have
   other numbers, so here they are known by their gaddrs.

   What it refuses: another layout than this library's; memory that is too small; to guess at
   anything that is missing. */

#include "ckpt/ranges.h"
#include "ckpt/store.h"
#include "ckpt/work.h"

#include "core/call.h"
#include "core/fail.h"
#include "core/remake.h"

#include <stdlib.h>
#include <string.h>

typedef struct restore {
  wksp_ckpt_t const *ckpt;
  wksp_ckpt_restore_opts_t const *opts;
  fd_wksp_t *wksp;
  wksp__geom_t geom;
  uint64_t data_sz;
  uchar *keep; /* of each part: 1; NULL: all */
  uint64_t part_cnt, root_cnt, alloc_cnt, suspect_cnt, live_sz;
  wksp__ck_reader_t reader;
  wksp__ck_bench_t *benches;
  uint32_t thread_cnt;
} restore_t;

/* What is kept
 * ---------------------------------------------------------------------------------------------- */

static int kept_at(restore_t const *self, uint64_t gaddr) {
  wksp__ck_tables_t const *tables = &self->ckpt->tables;
  wksp__ck_part_t const *part = self->keep ? wksp__ck_part_at(tables, gaddr) : NULL;
  return !self->keep || (part && self->keep[part - tables->parts]);
}

static int tagged(wksp_ckpt_restore_opts_t const *opts, uint64_t tag) {
  for (uint64_t i = 0; i < opts->tag_cnt; i++)
    if (opts->tags[i] == tag) return 1;
  return 0;
}

static int keep_make(restore_t *self) {
  wksp__ck_tables_t const *tables = &self->ckpt->tables;
  if (!self->opts->tag_cnt) return 0;
  self->keep = calloc(tables->part_cnt + 1, 1);
  if (!self->keep) return wksp__fail(WKSP_E_NOMEM, "restore: no memory");
  for (uint64_t i = 0; i < tables->part_cnt; i++)
    self->keep[i] = (tables->parts[i].kind & 255U) == FD_WKSP_KIND_USER &&
                    tagged(self->opts, tables->parts[i].tag);
  for (uint64_t i = 0; i < tables->part_cnt; i++) {
    uint64_t home = wksp__ck_home(tables, tables->parts[i].kind >> 8);
    if ((tables->parts[i].kind & 255U) != FD_WKSP_KIND_USER)
      self->keep[i] = (uchar)kept_at(self, home);
  }
  return 0;
}

/* Metadata
 * ---------------------------------------------------------------------------------------------- */

static int parts_make(restore_t *self) {
  wksp__ck_tables_t const *tables = &self->ckpt->tables;
  for (uint64_t i = 0; i < tables->part_cnt; i++) {
    wksp__ck_part_t const *part = &tables->parts[i];
    if (self->keep && !self->keep[i]) continue;
    wksp__remake_part(self->wksp, self->part_cnt++, part->gaddr, part->size, part->tag, part->kind);
  }
  int err = wksp__remake_parts_end(self->wksp, self->part_cnt, self->data_sz);
  for (uint64_t i = 0; i < tables->root_cnt && !err; i++) {
    if (!kept_at(self, tables->roots[i].root.gaddr)) continue;
    wksp__remake_root(self->wksp, tables->roots[i].place, &tables->roots[i].root);
    self->root_cnt++;
  }
  return err;
}

/* Homes before heaps: the directory is in the order of ids, which says nothing about that. */
static void dir_make(restore_t *self) {
  wksp__ck_tables_t const *tables = &self->ckpt->tables;
  for (uint64_t i = 0; i < tables->dir_cnt; i++) {
    wksp__ck_dir_t const *dir = &tables->dir[i];
    if (!kept_at(self, dir->gaddr)) continue;
    if (dir->what == DIR_HOME) {
      wksp__remake_home(self->wksp, dir->id, dir->gaddr);
      self->alloc_cnt++;
    } else {
      wksp__ck_part_t const *part = wksp__ck_part_at(tables, dir->gaddr);
      wksp__remake_heap(self->wksp, dir->id, dir->gaddr, wksp__ck_home(tables, part->kind >> 8));
    }
  }
}

/* Its number is that of where it was taken. */
static uint64_t span_gaddr(wksp__ck_tables_t const *tables, wksp__ck_span_t const *span) {
  return tables->hdr.data_lo + ((uint64_t)span->span << WKSP_SPAN_LG);
}

static void spans_make(restore_t *self) {
  wksp__ck_tables_t const *tables = &self->ckpt->tables;
  for (uint64_t i = 0; i < tables->part_cnt; i++) {
    wksp__ck_part_t const *part = &tables->parts[i];
    if ((part->kind & 255U) != FD_WKSP_KIND_SPANS || (self->keep && !self->keep[i])) continue;
    for (uint64_t at = 0; at < part->size; at += WKSP_SPAN_SZ)
      wksp__remake_pool(self->wksp, wksp__span_of(self->wksp, part->gaddr + at), part->kind >> 8);
  }
  for (uint64_t i = 0; i < tables->span_cnt; i++) {
    wksp__ck_span_t const *span = &tables->spans[i];
    uint64_t gaddr = span_gaddr(tables, span);
    if (!kept_at(self, gaddr)) continue;
    wksp__remake_span(self->wksp, wksp__span_of(self->wksp, gaddr), span->cls, span->heap,
                      wksp__ck_part_at(tables, gaddr)->kind >> 8, tables->bits + span->first);
  }
}

/* How many of a home's 64 KiB are in its pool. */
static uint32_t pool_cnt(restore_t const *self, uint32_t home) {
  wksp__ck_tables_t const *tables = &self->ckpt->tables;
  uint64_t cnt = 0;
  for (uint64_t i = 0; i < tables->part_cnt; i++)
    if (tables->parts[i].kind == (FD_WKSP_KIND_SPANS | home << 8))
      cnt += tables->parts[i].size >> WKSP_SPAN_LG;
  for (uint64_t i = 0; i < tables->span_cnt; i++) {
    uint64_t gaddr = span_gaddr(tables, &tables->spans[i]);
    if (wksp__ck_part_at(tables, gaddr)->kind >> 8 == home)
      cnt -= 1UL << wksp__class(self->wksp, tables->spans[i].cls)->lg;
  }
  return (uint32_t)cnt;
}

static void heads_make(restore_t *self) {
  wksp__ck_tables_t const *tables = &self->ckpt->tables;
  for (uint64_t i = 0; i < tables->dir_cnt; i++) {
    wksp__ck_dir_t const *dir = &tables->dir[i];
    if (dir->what != DIR_HOME || !kept_at(self, dir->gaddr)) continue;
    wksp__remake_head_t head = {.gaddr = dir->gaddr,
                                .tag = dir->tag,
                                .flags = dir->flags,
                                .lease = dir->lease,
                                .bad_free_cnt = dir->bad_free_cnt,
                                .late_write_cnt = dir->late_write_cnt,
                                .id = dir->id,
                                .region_spans = dir->region_spans,
                                .pool_cnt = pool_cnt(self, dir->id)};
    wksp__remake_head(self->wksp, &head);
  }
  for (uint64_t i = 0; i < tables->suspect_cnt; i++) {
    wksp__ck_suspect_t const *suspect = &tables->suspects[i];
    if (!kept_at(self, suspect->alloc)) continue;
    wksp__remake_suspect(self->wksp, suspect->alloc, suspect->gaddr);
    self->suspect_cnt++;
  }
}

/* Bytes
 * ---------------------------------------------------------------------------------------------- */

/* Of a chunk: what it consists of, as far as it is kept. */
typedef struct scatter {
  restore_t *self;
  char const *from;
  uint64_t runs, len;  /* counted: how many that do not touch, bytes */
  uint64_t gaddr, end; /* where the first begins, and the last ends */
} scatter_t;

static void count_run(void *arg, uint64_t gaddr, uint64_t len) {
  scatter_t *scatter = arg;
  if (!kept_at(scatter->self, gaddr)) return;
  if (!scatter->runs) scatter->gaddr = gaddr;
  scatter->runs += !scatter->runs || gaddr != scatter->end;
  scatter->len += len;
  scatter->end = gaddr + len;
}

static void scatter_run(void *arg, uint64_t gaddr, uint64_t len) {
  scatter_t *scatter = arg;
  if (kept_at(scatter->self, gaddr))
    memcpy(fd_wksp_laddr_fast(scatter->self->wksp, gaddr), scatter->from, len);
  scatter->from += len;
}

static void scatter_range(void *arg, char *at, uint64_t len) {
  scatter_t *scatter = arg;
  memcpy(at, scatter->from, len);
  scatter->from += len;
}

/* Whole chunks of one range are decoded to where they belong. */
static int chunk_piece(void *arg, uint32_t thread, uint64_t idx, wksp__ck_work_t *work) {
  restore_t *self = arg;
  wksp__ck_bench_t *bench = &self->benches[thread];
  wksp__ck_tables_t const *tables = &self->ckpt->tables;
  wksp__ck_chunk_t const *chunk = &tables->chunks[idx];
  wksp__ck_ref_t const *ref = &self->ckpt->refs[idx];
  scatter_t scatter = {.self = self};
  if (self->keep || chunk->run_cnt == 1)
    wksp__ck_runs(tables, chunk, count_run, &scatter);
  else
    scatter = (scatter_t){.self = self, .runs = chunk->run_cnt, .len = chunk->raw_len};
  int err = 0, straight = scatter.runs == 1 && scatter.len == chunk->raw_len;
  char *to = straight ? fd_wksp_laddr_fast(self->wksp, scatter.gaddr) : bench->raw;
  if (scatter.runs)
    err = wksp__ck_reader_get(&self->reader, bench->coder, ref, 0, bench->stored, to);
  if (err) return err;
  scatter.from = bench->raw;
  if (scatter.runs && !straight && self->keep)
    wksp__ck_runs(tables, chunk, scatter_run, &scatter);
  else if (scatter.runs && !straight)
    wksp__ck_ranges(tables, chunk, self->wksp, scatter_range, &scatter);
  __atomic_fetch_add(&self->live_sz, scatter.len, __ATOMIC_RELAXED);
  wksp__ck_work_done(work, chunk->raw_len, scatter.len);
  return 0;
}

static int bytes_make(restore_t *self) {
  wksp_ckpt_info_t const *info = &self->ckpt->info;
  self->thread_cnt = wksp__ck_threads(self->opts->threads, info->live_sz);
  int err = wksp__ck_reader_begin(&self->reader, self->ckpt);
  if (err) return err;
  err = wksp__ck_benches_new(self->thread_cnt, 1UL << self->ckpt->tables.chunk_lg, &self->benches);
  wksp__ck_job_t job = {.piece = chunk_piece,
                        .arg = self,
                        .cnt = info->chunk_cnt,
                        .threads = self->thread_cnt,
                        .phase = WKSP_CKPT_PHASE_READ,
                        .total_sz = info->live_sz,
                        .on_progress = self->opts->on_progress,
                        .progress_arg = self->opts->progress_arg};
  if (!err) err = wksp__ck_work(&job);
  wksp__ck_benches_free(self->benches, self->thread_cnt);
  wksp__ck_reader_end(&self->reader);
  return err;
}

/* All of it
 * ---------------------------------------------------------------------------------------------- */

/* What is kept of the partitions, and how many entries that takes. */
typedef struct extent {
  uint64_t lo, hi, entries; /* bytes; 0 if there are none */
} extent_t;

static extent_t extent_of(restore_t const *self) {
  wksp__ck_tables_t const *tables = &self->ckpt->tables;
  extent_t extent = {0};
  uint64_t end = self->geom.data_lo;
  for (uint64_t i = 0; i < tables->part_cnt; i++) {
    if (self->keep && !self->keep[i]) continue;
    if (!extent.hi) extent.lo = tables->parts[i].gaddr;
    extent.entries += 1 + (tables->parts[i].gaddr > end); /* what is free before it is one, too */
    end = extent.hi = tables->parts[i].gaddr + tables->parts[i].size;
  }
  uint64_t data_end = self->geom.data_lo + self->data_sz;
  extent.entries += (end < data_end) + (data_end < self->geom.data_hi);
  return extent;
}

/* The scale of fd_allocs: blocks stay where they are, so if there are any it is as it was. */
static uint32_t scale_of(restore_t const *self) {
  wksp__ck_tables_t const *tables = &self->ckpt->tables;
  for (uint64_t i = 0; i < tables->dir_cnt; i++)
    if (kept_at(self, tables->dir[i].gaddr)) return wksp__scale(&tables->hdr);
  return wksp__scale_for(self->geom.data_max);
}

/* Other numbers of partitions, spans and ids than there were: whether what is kept can have them.
 */
static int dimensions_fit(restore_t const *self) {
  wksp__ck_tables_t const *tables = &self->ckpt->tables;
  extent_t extent = extent_of(self);
  if (extent.hi && extent.lo < self->geom.data_lo)
    return wksp__fail(
        WKSP_E_LIMIT,
        "restore: tables for %lu partitions and %lu bytes of data end at %lu, and what "
        "is to be restored begins at %lu already: a smaller size, or fewer partitions",
        self->geom.part_max, self->geom.data_max, self->geom.data_lo, extent.lo);
  if (extent.entries > self->geom.part_max)
    return wksp__fail(WKSP_E_LIMIT,
                      "restore: what is to be restored takes %lu entries of the partition table, "
                      "which would have %lu: a smaller size leaves it more",
                      extent.entries, self->geom.part_max);
  for (uint64_t i = 0; i < tables->dir_cnt; i++) {
    if (!kept_at(self, tables->dir[i].gaddr)) continue;
    if (tables->dir[i].id >= self->geom.heap_max)
      return wksp__fail(
          WKSP_E_LIMIT,
          "restore: a workspace of %lu bytes of data has room for %u heaps, and there "
          "is one with number %u",
          self->geom.data_max, self->geom.heap_max, tables->dir[i].id);
  }
  return 0;
}

static int preflight(restore_t *self) {
  wksp_ckpt_restore_opts_t const *opts = self->opts;
  wksp__ck_tables_t const *tables = &self->ckpt->tables;
  struct fd_wksp const *hdr = &tables->hdr;
  if (!opts->shmem || (opts->tag_cnt && !opts->tags))
    return wksp__fail(WKSP_E_INVAL, "restore: shmem or tags is NULL");
  if (wksp__geom(&self->geom, opts->part_max ? opts->part_max : hdr->part_max,
                 opts->data_max ? opts->data_max : hdr->data_max))
    return wksp__fail(WKSP_E_INVAL,
                      "restore: no workspace has %lu partitions and %lu bytes of data",
                      opts->part_max, opts->data_max);
  if (opts->map_sz < self->geom.footprint)
    return wksp__fail(WKSP_E_LIMIT,
                      "restore: %lu bytes are mapped, the workspace takes %lu bytes of addresses",
                      opts->map_sz, self->geom.footprint);
  if (wksp__layout_access(hdr->layout_version, hdr->geometry_hash) != WKSP_ACCESS_FULL)
    return wksp__fail(WKSP_E_VERSION, "restore: this library can only read layout %u",
                      hdr->layout_version);
  uint64_t was = hdr->data_lo + tables->data_sz;
  was = was < self->geom.data_hi ? was : self->geom.data_hi;
  was = was > self->geom.data_lo ? was - self->geom.data_lo : WKSP_SPAN_SZ; /* refused below */
  self->data_sz = opts->data_sz ? opts->data_sz : was;
  int err = keep_make(self);
  if (err) return err;
  if (self->data_sz % WKSP_SPAN_SZ || self->data_sz > self->geom.data_max)
    return wksp__fail(WKSP_E_INVAL, "restore: %lu bytes of data: a multiple of %lu up to %lu",
                      self->data_sz, WKSP_SPAN_SZ, self->geom.data_max);
  uint64_t need = extent_of(self).hi;
  if (self->geom.data_lo + self->data_sz < need)
    return wksp__fail(WKSP_E_LIMIT,
                      "restore: %lu bytes of data are too few: what is to be restored ends at %lu, "
                      "so %lu bytes of memory are needed in all",
                      self->data_sz, need, (need + WKSP_SPAN_SZ - 1) & ~(WKSP_SPAN_SZ - 1));
  return dimensions_fit(self);
}

static int run(restore_t *self) {
  wksp_ckpt_restore_opts_t const *opts = self->opts;
  wksp_ckpt_info_t const *info = &self->ckpt->info;
  int err = preflight(self);
  if (err) return err;
  wksp__remake_t what = {.name = opts->name ? opts->name : info->name,
                         .uuid = opts->uuid ? opts->uuid : info->uuid,
                         .seed = opts->seed_set ? opts->seed : info->seed,
                         .part_max = self->geom.part_max,
                         .data_max = self->geom.data_max,
                         .data_sz = self->data_sz,
                         .scale = scale_of(self)};
  self->wksp = wksp__remake_begin(opts->shmem, &what);
  if (!self->wksp) return wksp_last_error_code();
  err = parts_make(self);
  if (err) return err;
  dir_make(self);
  spans_make(self);
  err = bytes_make(self);
  if (err) return err;
  heads_make(self);
  return wksp__remake_end(self->wksp);
}

int wksp_ckpt_refit(wksp_ckpt_info_t const *info, ulong footprint, ulong *ret_part_max,
                    ulong *ret_data_max) {
  wksp__geom_t was, geom;
  uint64_t most = 0;
  if (!info || !ret_part_max || !ret_data_max)
    return wksp__fail(WKSP_E_INVAL, "refit: info or an output is NULL");
  if (wksp__geom(&was, info->part_max, info->data_max))
    return wksp__fail(WKSP_E_INVAL, "refit: no workspace has %lu partitions and %lu bytes of data",
                      info->part_max, info->data_max);
  if (wksp__geom_refit(footprint, was.data_lo, was.part_max, WKSP_REFIT_PARTS(info->part_cnt),
                       &geom, &most))
    return wksp__fail(WKSP_E_LIMIT,
                      "refit: %lu bytes cannot be, for no address changes, so tables have room for "
                      "%lu bytes at the most%s",
                      footprint, most,
                      footprint < was.data_lo + WKSP_SPAN_SZ ? ", and take most of that" : "");
  *ret_part_max = geom.part_max;
  *ret_data_max = geom.data_max;
  return 0;
}

int wksp_ckpt_restore(wksp_ckpt_t const *ckpt, wksp_ckpt_restore_opts_t const *opts,
                      wksp_ckpt_restored_t *ret_restored) {
  if (!ckpt || !opts) return wksp__fail(WKSP_E_INVAL, "restore: ckpt or opts is NULL");
  restore_t self = {.ckpt = ckpt, .opts = opts};
  uint64_t begin = wksp__now_ns();
  int err = run(&self);
  for (uint64_t i = 0; !err && opts->on_suspect && i < ckpt->tables.suspect_cnt; i++)
    if (kept_at(&self, ckpt->tables.suspects[i].alloc))
      opts->on_suspect(opts->suspect_arg, ckpt->tables.suspects[i].alloc,
                       ckpt->tables.suspects[i].gaddr);
  free(self.keep);
  if (!err && ret_restored)
    *ret_restored = (wksp_ckpt_restored_t){.live_sz = self.live_sz,
                                           .part_cnt = self.part_cnt,
                                           .root_cnt = self.root_cnt,
                                           .alloc_cnt = self.alloc_cnt,
                                           .suspect_cnt = self.suspect_cnt,
                                           .took_ns = wksp__now_ns() - begin};
  return err;
}
