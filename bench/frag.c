/* frag: how much room a trace takes.

   Problem: memory that is free but in pieces is lost as surely as memory that is leaked, and no
   time shows it.

   Model. Recorded traces of allocations and frees (traces/) are run in a workspace and in
   frag_model.c, exact best fit by brute force. Two figures: the highest address used where there
   is room enough, and the smallest region in which the trace runs at all. Nothing here depends on
   time or chance, so what is found can be asserted (bench_test.c).

   What it refuses: traces that free what is not allocated, and numbers that are out of range. */

#include "frag.h"

#include "bench.h"
#include "wksp/wksp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define STEP (64UL << 10)

static uint64_t up(uint64_t value, uint64_t align) {
  return (value + align - 1) & ~(align - 1);
}

/* Traces ------------------------------------------------------------------------------------- */

typedef struct bytes {
  unsigned char const *at, *end;
} bytes_t;

/* The next number, or ~0 at the end or if it is longer than 9 bytes. */
static uint64_t number(bytes_t *bytes) {
  uint64_t value = 0;
  for (unsigned shift = 0; bytes->at < bytes->end && shift < 63; shift += 7) {
    unsigned char byte = *bytes->at++;
    value |= (uint64_t)(byte & 127) << shift;
    if (!(byte & 128)) return value;
  }
  return ~0UL;
}

/* Fills ops from the numbers; sizes[id] is 0 for what is freed or not there yet. 0 or -1. */
static int decode(frag_trace_t *trace, bytes_t bytes, uint64_t *sizes) {
  uint64_t next = 0, live_cnt = 0, live_sz = 0;
  for (uint64_t o = 0; o < trace->op_cnt; o++) {
    uint64_t value = number(&bytes);
    frag_op_t *op = &trace->ops[o];
    if (value == ~0UL) return -1;
    if (value & 1) {
      uint64_t back = value >> 1;
      if (back >= next || !sizes[next - 1 - back]) return -1;
      uint64_t id = next - 1 - back;
      *op = (frag_op_t){(uint32_t)id, 0, sizes[id]};
      live_cnt--;
      live_sz -= sizes[id];
      sizes[id] = 0;
      continue;
    }
    uint64_t size = value >> 2, lg = value & 2 ? number(&bytes) : 6;
    if (!size || size > FRAG_SIZE_MAX || lg < 6 || lg > 16 || next == trace->alloc_cnt) return -1;
    *op = (frag_op_t){(uint32_t)next, 1U << lg, size};
    sizes[next] = up(size, FD_WKSP_PART_GRAIN);
    live_sz += sizes[next++];
    if (++live_cnt > trace->live_cnt_max) trace->live_cnt_max = live_cnt;
    if (live_sz > trace->live_sz_max) trace->live_sz_max = live_sz;
  }
  return bytes.at == bytes.end && next == trace->alloc_cnt ? 0 : -1;
}

static int trace_parse(FILE *file, frag_trace_t *trace) {
  size_t const size_max = 16 * FRAG_OP_MAX; /* a step takes fewer bytes */
  char line[128];
  if (!fgets(line, sizeof(line), file) ||
      sscanf(line, "wksp-trace 1 %31s %lu %lu\n", trace->name, &trace->op_cnt, &trace->alloc_cnt) !=
          3 ||
      trace->op_cnt > FRAG_OP_MAX || trace->alloc_cnt > trace->op_cnt)
    return -1;
  unsigned char *text = bench_alloc(size_max, 1);
  uint64_t *sizes = bench_alloc(trace->alloc_cnt, sizeof(*sizes));
  trace->ops = bench_alloc(trace->op_cnt, sizeof(*trace->ops));
  bytes_t bytes = {text, text + fread(text, 1, size_max, file)};
  int rc = ferror(file) ? -1 : decode(trace, bytes, sizes);
  if (rc) free(trace->ops);
  free(sizes);
  free(text);
  return rc;
}

int frag_trace_read(char const *path, frag_trace_t *ret_trace, char *why, size_t why_size) {
  frag_trace_t trace = {0};
  FILE *file = fopen(path, "re");
  if (!file) {
    snprintf(why, why_size, "%s: %s", path, strerror(errno));
    return -1;
  }
  int rc = trace_parse(file, &trace);
  fclose(file);
  if (rc)
    snprintf(why, why_size, "%s is no trace, or damaged; bench/gen-traces makes it anew", path);
  else
    *ret_trace = trace;
  return rc;
}

void frag_trace_free(frag_trace_t *trace) {
  free(trace->ops);
  trace->ops = NULL;
}

/* A workspace -------------------------------------------------------------------------------- */

typedef struct wksp_alloc {
  frag_alloc_t alloc;
  fd_wksp_t *wksp;
  size_t map_size;
} wksp_alloc_t;

static uint64_t wksp_take(frag_alloc_t *alloc, uint64_t size, uint64_t align) {
  fd_wksp_t *wksp = ((wksp_alloc_t *)alloc)->wksp;
  ulong gaddr = fd_wksp_alloc(wksp, align, size, 1);
  if (!gaddr && wksp_last_error_code() != WKSP_E_NOMEM) bench_die("alloc: %s", wksp_last_error());
  return gaddr ? gaddr - fd_wksp_gaddr_lo(wksp) : FRAG_NONE;
}

static void wksp_give(frag_alloc_t *alloc, uint64_t at, uint64_t size) {
  fd_wksp_t *wksp = ((wksp_alloc_t *)alloc)->wksp;
  (void)size;
  if (fd_wksp_free(wksp, fd_wksp_gaddr_lo(wksp) + at)) bench_die("free: %s", wksp_last_error());
}

static void wksp_end(frag_alloc_t *alloc) {
  wksp_alloc_t *self = (wksp_alloc_t *)alloc;
  munmap(fd_wksp_delete(fd_wksp_leave(self->wksp)), self->map_size);
  free(self);
}

frag_alloc_t *frag_wksp_new(uint64_t region, uint64_t used_max) {
  wksp_alloc_t *self = bench_alloc(1, sizeof(*self));
  /* A free one beside each and at the end. */
  uint64_t part_max = 2 * used_max + 8;
  self->alloc = (frag_alloc_t){wksp_take, wksp_give, wksp_end};
  self->map_size = fd_wksp_footprint(part_max, region);
  void *mem = mmap(NULL, self->map_size, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mem == MAP_FAILED) bench_die("mmap of %zu bytes: %s", self->map_size, strerror(errno));
  if (!fd_wksp_new(mem, "frag", 0, part_max, region) || !(self->wksp = fd_wksp_join(mem)))
    bench_die("a workspace of %lu bytes: %s", region, wksp_last_error());
  return &self->alloc;
}

/* Figures ------------------------------------------------------------------------------------ */

int frag_replay(frag_trace_t const *trace, frag_make_t make, uint64_t region, uint64_t *ret_high) {
  frag_alloc_t *alloc = make(region, trace->live_cnt_max);
  uint64_t *places = bench_alloc(trace->alloc_cnt, sizeof(*places));
  uint64_t high = 0;
  int rc = 0;
  for (uint64_t o = 0; !rc && o < trace->op_cnt; o++) {
    frag_op_t const *op = &trace->ops[o];
    if (!op->align) {
      alloc->give(alloc, places[op->id], op->size);
      continue;
    }
    uint64_t size = up(op->size, FD_WKSP_PART_GRAIN);
    uint64_t at = places[op->id] = alloc->take(alloc, size, op->align);
    if (at == FRAG_NONE)
      rc = -1;
    else if (at % op->align || at + size > region)
      bench_die("%s: [%lu, +%lu) is misplaced", trace->name, at, size);
    else if (at + size > high)
      high = at + size;
  }
  alloc->end(alloc);
  free(places);
  if (!rc) *ret_high = high;
  return rc;
}

uint64_t frag_region_min(frag_trace_t const *trace, frag_make_t make) {
  uint64_t lo = trace->live_sz_max / STEP, hi = 2 * lo + 2, high; /* in steps: hi is enough */
  while (lo < hi) {
    uint64_t mid = lo + (hi - lo) / 2;
    if (mid && !frag_replay(trace, make, mid * STEP, &high))
      hi = mid;
    else
      lo = mid + 1;
  }
  return lo * STEP;
}

int frag_measure(frag_trace_t const *trace, frag_figures_t *ret_figures) {
  frag_figures_t figures;
  uint64_t room = up(2 * trace->live_sz_max, STEP);
  if (frag_replay(trace, frag_wksp_new, room, &figures.wksp_high) ||
      frag_replay(trace, frag_model_new, room, &figures.model_high))
    return -1;
  figures.wksp_region = frag_region_min(trace, frag_wksp_new);
  figures.model_region = frag_region_min(trace, frag_model_new);
  *ret_figures = figures;
  return 0;
}

double frag_bytes_per_part(void) {
  /* The same data, so that the difference is the partitions' alone; some tables grow by doubling,
     so over a whole doubling. */
  uint64_t const cnt = 1UL << 20, data_max = 1UL << 36;
  return (double)(fd_wksp_footprint(2 * cnt, data_max) - fd_wksp_footprint(cnt, data_max)) /
         (double)cnt;
}
