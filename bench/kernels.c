/* kernels: what is measured of fd_wksp by the slice.

   Two populations. For pairs and lookups: about twice n partitions of one tag are allocated in turn
   and a random half freed, so that holes of all sizes lie between those that live. For churn: n of
   eight tags, in memory that they fill to 70 %. Sizes are log-uniform from 64 bytes to 16 KiB,
   aligned to 64. The data is never touched.

   All that is random is drawn before the clock runs; reading it, in order, is in the figures. */

#include "bench.h"

#include "wksp/wksp.h"

#include <stdlib.h>
#include <string.h>

#define ALIGN     FD_WKSP_PART_GRAIN
#define TAG       1UL
#define TAG_FEW   99UL
#define FEW       10
#define DRAWS     65521UL /* sizes and places: a prime, so that no victim meets one size always */
#define VICTIMS   (1UL << 20) /* a multiple of the largest n or so, or some would never go */
#define PAIR_SIZE 1024UL

typedef struct population {
  fd_wksp_t *wksp;
  uint64_t n;
  uint64_t *gaddrs, live_cnt; /* those that live */
  uint32_t *sizes;            /* drawn: DRAWS of them */
  uint64_t *places;           /* addresses to look up: DRAWS */
  uint32_t *victims;          /* indexes into gaddrs: VICTIMS */
  uint64_t draw, victim;      /* next to be used of sizes or places, of victims */
} population_t;

static population_t *population_new(uint64_t part_max, uint64_t data_max, uint64_t n) {
  population_t *pop = bench_alloc(1, sizeof(*pop));
  ulong footprint = fd_wksp_footprint(part_max, data_max);
  void *mem = footprint ? bench_mem("tables", footprint - data_max, footprint) : NULL;
  if (!mem || !fd_wksp_new(mem, "bench", 0, part_max, data_max) || !(pop->wksp = fd_wksp_join(mem)))
    bench_die("a workspace of %lu partitions and %lu bytes: %s", part_max, data_max,
              wksp_last_error());
  pop->gaddrs = bench_alloc(2 * n, sizeof(*pop->gaddrs));
  pop->n = n;
  return pop;
}

static uint64_t take(population_t *pop, uint64_t size, uint64_t tag) {
  ulong gaddr = fd_wksp_alloc(pop->wksp, ALIGN, size, tag);
  if (!gaddr) bench_die("alloc of %lu bytes: %s", size, wksp_last_error());
  return gaddr;
}

static void give(population_t *pop, uint64_t gaddr) {
  if (fd_wksp_free(pop->wksp, gaddr)) bench_die("free of 0x%lx: %s", gaddr, wksp_last_error());
}

static void draw_sizes(population_t *pop, bench_rng_t *rng) {
  pop->sizes = bench_alloc(DRAWS, sizeof(*pop->sizes));
  for (uint64_t i = 0; i < DRAWS; i++)
    pop->sizes[i] = (uint32_t)bench_size(rng, BENCH_SIZE_MIN, BENCH_SIZE_MAX);
}

/* The index of the next draw. */
static uint64_t next_draw(population_t *pop) {
  uint64_t at = pop->draw;
  pop->draw = at + 1 == DRAWS ? 0 : at + 1;
  return at;
}

/* Twice n, and a random half of them freed; the same for all kernels of this n. */
static population_t *holes_of(uint64_t n, uint64_t seed) {
  static population_t *made[8];
  size_t m = 0;
  for (; m < sizeof(made) / sizeof(made[0]) && made[m]; m++)
    if (made[m]->n == n) return made[m];
  if (m == sizeof(made) / sizeof(made[0])) bench_die("too many populations");
  bench_rng_t rng = bench_rng(seed, "holes");
  population_t *pop =
      population_new(3 * n + 64, 2 * n * (BENCH_SIZE_MEAN + 64) * 11 / 10 + (1UL << 20), n);
  for (uint64_t i = 0; i < 2 * n; i++)
    pop->gaddrs[i] = take(pop, bench_size(&rng, BENCH_SIZE_MIN, BENCH_SIZE_MAX), TAG);
  for (pop->live_cnt = 2 * n; pop->live_cnt > n;) {
    uint64_t victim = bench_below(&rng, pop->live_cnt);
    give(pop, pop->gaddrs[victim]);
    pop->gaddrs[victim] = pop->gaddrs[--pop->live_cnt];
  }
  draw_sizes(pop, &rng);
  return made[m] = pop;
}

static void holes_prepare(bench_kernel_t *kernel, uint64_t seed) {
  kernel->state = holes_of(kernel->n, seed);
}

fd_wksp_t *bench_population(uint64_t n, uint64_t seed) {
  return holes_of(n, seed)->wksp;
}

static void pair_same_run(bench_kernel_t *kernel, uint64_t cnt) {
  population_t *pop = kernel->state;
  for (uint64_t i = 0; i < cnt; i++) give(pop, take(pop, PAIR_SIZE, TAG));
}

static void pair_mixed_run(bench_kernel_t *kernel, uint64_t cnt) {
  population_t *pop = kernel->state;
  for (uint64_t i = 0; i < cnt; i++) give(pop, take(pop, pop->sizes[next_draw(pop)], TAG));
}

/* As programs ask that leave the alignment to the library, which takes 4096. */
static void pair_aligned_run(bench_kernel_t *kernel, uint64_t cnt) {
  population_t *pop = kernel->state;
  for (uint64_t i = 0; i < cnt; i++) {
    ulong gaddr = fd_wksp_alloc(pop->wksp, 0, pop->sizes[next_draw(pop)], TAG);
    if (!gaddr) bench_die("alloc: %s", wksp_last_error());
    give(pop, gaddr);
  }
}

static void churn_run(bench_kernel_t *kernel, uint64_t cnt) {
  population_t *pop = kernel->state;
  for (uint64_t i = 0; i < cnt; i++) {
    uint64_t *slot = &pop->gaddrs[pop->victims[pop->victim++ % VICTIMS]];
    give(pop, *slot);
    *slot = take(pop, pop->sizes[next_draw(pop)], 1 + i % 8);
  }
}

static void churn_prepare(bench_kernel_t *kernel, uint64_t seed) {
  uint64_t n = kernel->n;
  bench_rng_t rng = bench_rng(seed, kernel->name);
  population_t *pop = population_new(3 * n + 64, n * (BENCH_SIZE_MEAN + 32) * 10 / 7, n);
  for (; pop->live_cnt < n; pop->live_cnt++)
    pop->gaddrs[pop->live_cnt] =
        take(pop, bench_size(&rng, BENCH_SIZE_MIN, BENCH_SIZE_MAX), 1 + pop->live_cnt % 8);
  draw_sizes(pop, &rng);
  pop->victims = bench_alloc(VICTIMS, sizeof(*pop->victims));
  for (uint64_t i = 0; i < VICTIMS; i++) pop->victims[i] = (uint32_t)bench_below(&rng, n);
  kernel->state = pop;
  churn_run(kernel, 5 * n); /* until the free memory is in pieces as it will stay */
}

static void usage_run(bench_kernel_t *kernel, uint64_t cnt) {
  population_t *pop = kernel->state;
  fd_wksp_usage_t usage;
  for (uint64_t i = 0; i < cnt; i++)
    if (fd_wksp_usage(pop->wksp, NULL, 0, &usage) || usage.used_cnt < pop->live_cnt)
      bench_die("usage: %s", wksp_last_error());
}

static void query_prepare(bench_kernel_t *kernel, uint64_t seed) {
  population_t *pop = kernel->state = holes_of(kernel->n, seed);
  for (uint64_t i = 0; i < FEW; i++) {
    uint64_t *slot = &pop->gaddrs[i * (pop->live_cnt / FEW)];
    give(pop, *slot);
    *slot = take(pop, pop->sizes[i], TAG_FEW);
  }
}

static void query_run(bench_kernel_t *kernel, uint64_t cnt) {
  population_t *pop = kernel->state;
  fd_wksp_part_t infos[FEW];
  ulong tag = TAG_FEW;
  for (uint64_t i = 0; i < cnt; i++)
    if (fd_wksp_tag_query(pop->wksp, &tag, 1, infos, FEW) != FEW)
      bench_die("tag_query: %s", wksp_last_error());
}

static void lookup_prepare(bench_kernel_t *kernel, uint64_t seed) {
  bench_rng_t rng = bench_rng(seed, kernel->name);
  population_t *pop = kernel->state = holes_of(kernel->n, seed);
  pop->places = bench_alloc(DRAWS, sizeof(*pop->places));
  for (uint64_t i = 0; i < DRAWS; i++) {
    fd_wksp_part_t part;
    uint64_t gaddr = pop->gaddrs[bench_below(&rng, pop->live_cnt)];
    if (fd_wksp_part_next(pop->wksp, gaddr, &part) != 1 || part.gaddr != gaddr)
      bench_die("the partition at 0x%lx is gone", gaddr);
    pop->places[i] = gaddr + bench_below(&rng, part.size);
  }
}

static void lookup_run(bench_kernel_t *kernel, uint64_t cnt) {
  population_t *pop = kernel->state;
  for (uint64_t i = 0; i < cnt; i++)
    if (!fd_wksp_tag(pop->wksp, pop->places[next_draw(pop)]))
      bench_die("tag: %s", wksp_last_error());
}

/* clang-format off */
bench_kernel_t bench_wksp_kernels[] = {
  {.name = "pair same 10",      .n = 10,     .goal = 5,  .prepare = holes_prepare,  .run = pair_same_run},
  {.name = "pair same 1000",    .n = 1000,   .goal = 8,  .prepare = holes_prepare,  .run = pair_same_run},
  {.name = "pair same 100000",  .n = 100000, .goal = 12, .prepare = holes_prepare,  .run = pair_same_run},
  {.name = "pair mixed 10",     .n = 10,                 .prepare = holes_prepare,  .run = pair_mixed_run},
  {.name = "pair mixed 1000",   .n = 1000,               .prepare = holes_prepare,  .run = pair_mixed_run},
  {.name = "pair mixed 100000", .n = 100000,             .prepare = holes_prepare,  .run = pair_mixed_run},
  {.name = "pair aligned 100000", .n = 100000,           .prepare = holes_prepare,  .run = pair_aligned_run},
  {.name = "churn 1000",        .n = 1000,   .goal = 20, .prepare = churn_prepare,  .run = churn_run},
  {.name = "churn 100000",      .n = 100000, .goal = 55, .prepare = churn_prepare,  .run = churn_run},
  {.name = "usage 100000",      .n = 100000,             .prepare = holes_prepare,  .run = usage_run},
  {.name = "tag_query 10 of 100000", .n = 100000,        .prepare = query_prepare,  .run = query_run},
  {.name = "lookup 100000",     .n = 100000,             .prepare = lookup_prepare, .run = lookup_run},
  {0}};
/* clang-format on */
