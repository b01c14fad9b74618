/* bench: what the parts of the benchmark share: random numbers, time, memory, kernels.

   A kernel is a thing to be measured: prepare makes what it works on, run does it cnt times, and
   the rest says what to print. Kernels know nothing of time; measure.c runs them in slices between
   slices of the unit, the lock and unlock of a robust process-shared mutex, so that what disturbs
   the machine disturbs both and the ratio stays.

   Only the public interface is used, as a program would. */

#ifndef WKSP_BENCH_H
#define WKSP_BENCH_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Ends the program with status 2: the benchmark itself could not be run. */
__attribute__((noreturn, format(printf, 1, 2))) void bench_die(char const *fmt, ...);

/* malloc and calloc that do not fail. */
void *bench_alloc(size_t cnt, size_t size);

/* Random numbers: xorshift64*, from the seed of the run and a name, so that what one kernel draws
   does not depend on which others run. */
typedef struct bench_rng {
  uint64_t state;
} bench_rng_t;

bench_rng_t bench_rng(uint64_t seed, char const *name);
uint64_t bench_next(bench_rng_t *rng);
uint64_t bench_below(bench_rng_t *rng, uint64_t cnt); /* in [0, cnt) */

/* Log-uniform in [lo, hi): as many between 64 and 128 as between 8 Ki and 16 Ki. */
uint64_t bench_size(bench_rng_t *rng, uint64_t lo, uint64_t hi);

/* Nanoseconds of the monotonic clock. */
uint64_t bench_now(void);

/* Zeroed memory that forks share, for owner (a word for bench_mem_say). The first head bytes, which
   are used much, in 2 MiB pages of hugetlbfs where there are enough; the rest, and all where there
   are not, is shared memory for which the kernel is asked for huge pages, which it may refuse.
   Never freed: the program's end does. */
void *bench_mem(char const *owner, size_t head, size_t size);

/* One line about which pages that gave. */
void bench_mem_say(char *buf, size_t size);

/* Sorts; the value below which a share p of them lies. */
double bench_quantile(double *values, size_t cnt, double p);

typedef struct bench_kernel bench_kernel_t;

struct bench_kernel {
  char const *name;
  uint64_t n;  /* partitions or whatever it scales with */
  double goal; /* in units of the mutex, 0 for none */
  void (*prepare)(bench_kernel_t *kernel, uint64_t seed);
  void (*run)(bench_kernel_t *kernel, uint64_t cnt);
  void *state;

  /* measure.c: */
  uint64_t cnt;       /* in a slice */
  double *ns, *units; /* of every slice: ns per op, and in units */
  size_t slice_cnt;
};

/* fd_wksp's kernels, and a peer's; each table ends with a NULL name. */
extern bench_kernel_t bench_wksp_kernels[];
extern bench_kernel_t bench_boost_kernels[];

/* Rows: what is printed. */
#define BENCH_ROW_MAX 64

/* Figures are the median, 10th and 90th percentile, in this order; -1: there is none. */
extern double const bench_quantiles[3];

typedef struct bench_row {
  char name[40];
  double ns[3], value[3]; /* value is what the goal is about, in unit */
  char const *unit;
  double goal; /* value[0] is to be at most this; 0: none */
  int zero;    /* 1: the goal is 0, and nothing but that */
  char note[120];
} bench_row_t;

typedef struct bench_rows {
  bench_row_t rows[BENCH_ROW_MAX];
  size_t cnt;
} bench_rows_t;

/* What the run was; printed above the rows. */
typedef struct bench_run {
  unsigned rounds;
  uint64_t seed;
  char pages[300];
} bench_run_t;

bench_row_t *bench_row(bench_rows_t *rows, char const *name);
int bench_row_missed(bench_row_t const *row);
void bench_report_text(bench_run_t const *run, bench_rows_t const *rows);
void bench_report_json(bench_run_t const *run, bench_rows_t const *rows);

/* What a slice of measuring is, in nanoseconds: short enough that most are not interrupted. */
#define BENCH_SLICE_NS 1000000UL
#define BENCH_SLICES   15 /* of each kernel in a round */

/* Prepares the kernels (pointers, cnt of them), measures them in rounds, in an order of its own in
   each, and adds a row for the unit and one for each. */
void bench_measure(bench_kernel_t **kernels, size_t cnt, bench_run_t const *run,
                   bench_rows_t *rows);

/* The population of fd_wksp that kernels measure on: sizes are log-uniform in this range. */
#define BENCH_SIZE_MIN  64UL
#define BENCH_SIZE_MAX  (16UL << 10)
#define BENCH_SIZE_MEAN 2943UL /* (hi - lo) / ln(hi / lo) */

/* That population of n live ones, with as many holes as there come to be. */
struct fd_wksp;
struct fd_wksp *bench_population(uint64_t n, uint64_t seed);

/* Adds rows: a call after a kill, and rebuilding, in that population. */
void bench_recover(bench_rows_t *rows, struct fd_wksp *wksp, uint64_t seed);
/* One row (idle.c). */
void bench_idle(bench_rows_t *rows, unsigned seconds);
void bench_rebuild(bench_rows_t *rows, struct fd_wksp *wksp);

#ifdef __cplusplus
}
#endif

#endif
