/* frag: how much room a trace takes, in a workspace and in a plain model of exact best fit. */

#ifndef WKSP_BENCH_FRAG_H
#define WKSP_BENCH_FRAG_H

#include <stddef.h>
#include <stdint.h>

/* Larger numbers in a trace are a damaged file. */
#define FRAG_OP_MAX   (1UL << 20)
#define FRAG_SIZE_MAX (1UL << 30)

/* One step: frees allocation id (align 0), or makes it. */
typedef struct frag_op {
  uint32_t id, align;
  uint64_t size; /* of the allocation, in bytes; of a free: rounded up to the grain */
} frag_op_t;

typedef struct frag_trace {
  char name[32];
  frag_op_t *ops;
  uint64_t op_cnt, alloc_cnt;
  uint64_t live_cnt_max; /* allocations alive at once */
  uint64_t live_sz_max;  /* bytes in them, each rounded up to the grain */
} frag_trace_t;

/* Reads a trace (gen-traces says how it is written). 0, or -1 and a sentence in why; then there is
   nothing to free. */
int frag_trace_read(char const *path, frag_trace_t *ret_trace, char *why, size_t why_size);
void frag_trace_free(frag_trace_t *trace);

/* An allocator over offsets [0, region). */
#define FRAG_NONE (~0UL)
typedef struct frag_alloc frag_alloc_t;
struct frag_alloc {
  uint64_t (*take)(frag_alloc_t *alloc, uint64_t size, uint64_t align); /* FRAG_NONE: no room */
  void (*give)(frag_alloc_t *alloc, uint64_t at, uint64_t size);
  void (*end)(frag_alloc_t *alloc);
};

/* Each makes one, for at most used_max allocations at once. Ends the program if it cannot. */
typedef frag_alloc_t *(*frag_make_t)(uint64_t region, uint64_t used_max);
frag_alloc_t *frag_wksp_new(uint64_t region, uint64_t used_max);
frag_alloc_t *frag_model_new(uint64_t region, uint64_t used_max);

/* Runs the trace in a region. 0, and the highest address ever used, or -1 if there was no room. */
int frag_replay(frag_trace_t const *trace, frag_make_t make, uint64_t region, uint64_t *ret_high);

/* By bisection in steps of 64 KiB: the smallest region in which the trace runs; a multiple of that.
 */
uint64_t frag_region_min(frag_trace_t const *trace, frag_make_t make);

/* What a trace takes. */
typedef struct frag_figures {
  uint64_t wksp_high, model_high;     /* highest address used where there is twice the room */
  uint64_t wksp_region, model_region; /* smallest region */
} frag_figures_t;

/* 0, or -1 if the trace did not even run in twice the room. */
int frag_measure(frag_trace_t const *trace, frag_figures_t *ret_figures);

/* Bytes of tables for each partition that there can be, in workspaces of a million or so. */
double frag_bytes_per_part(void);

#endif
