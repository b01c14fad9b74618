/* measure: kernels in slices between slices of the unit.

   Problem: machines that are shared differ by a factor of two from one second to the next, and a
   figure in nanoseconds then says more about the neighbours than about the code.

   Model. The unit is the lock and unlock of an uncontended robust process-shared mutex: what any
   allocator in shared memory that survives a kill has to pay, and which scales with the core as the
   rest does. Each slice of a kernel, about a millisecond, has a slice of the unit before and one
   after it, and yields one ratio. The median over all rounds is the figure; the spread is from the
   10th to the 90th percentile. A round takes the kernels in a new random order and throws each
   kernel's first slice away, which warms the caches that another has used.

   What it refuses: to subtract anything (loops and drawn numbers are in the figures), and to name a
   best case. */

#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Unit --------------------------------------------------------------------------------------- */

static pthread_mutex_t *unit_new(void) {
  pthread_mutex_t *mutex =
      mmap(NULL, sizeof(*mutex), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (mutex == MAP_FAILED) bench_die("mmap: %s", strerror(errno));
  pthread_mutexattr_t attr;
  if (pthread_mutexattr_init(&attr) ||
      pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) ||
      pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) || pthread_mutex_init(mutex, &attr))
    bench_die("a robust process-shared mutex cannot be made");
  pthread_mutexattr_destroy(&attr);
  return mutex;
}

#define UNIT_CNT 20000

static double unit_slice(pthread_mutex_t *mutex) {
  uint64_t began = bench_now();
  for (unsigned i = 0; i < UNIT_CNT; i++) {
    if (pthread_mutex_lock(mutex)) bench_die("a mutex could not be locked");
    pthread_mutex_unlock(mutex);
  }
  return (double)(bench_now() - began) / UNIT_CNT;
}

/* Rounds ------------------------------------------------------------------------------------- */

/* How many make a slice. */
static void calibrate(bench_kernel_t *kernel) {
  for (kernel->cnt = 1; kernel->cnt < 1UL << 30; kernel->cnt *= 2) {
    uint64_t began = bench_now();
    kernel->run(kernel, kernel->cnt);
    if (bench_now() - began >= BENCH_SLICE_NS / 2) break;
  }
}

static void shuffle(bench_kernel_t **kernels, size_t cnt, bench_rng_t *rng) {
  for (size_t k = cnt; k > 1; k--) {
    size_t other = bench_below(rng, k);
    bench_kernel_t *swap = kernels[k - 1];
    kernels[k - 1] = kernels[other];
    kernels[other] = swap;
  }
}

/* One kernel in one round. units: a slice of the unit after each. */
static void round_of(bench_kernel_t *kernel, pthread_mutex_t *mutex, double *units) {
  kernel->run(kernel, kernel->cnt);
  double before = unit_slice(mutex);
  for (unsigned s = 0; s < BENCH_SLICES; s++) {
    uint64_t began = bench_now();
    kernel->run(kernel, kernel->cnt);
    double ns = (double)(bench_now() - began) / (double)kernel->cnt, after = unit_slice(mutex);
    kernel->ns[kernel->slice_cnt] = ns;
    kernel->units[kernel->slice_cnt++] = ns / ((before + after) / 2);
    units[s] = before = after;
  }
}

void bench_measure(bench_kernel_t **kernels, size_t cnt, bench_run_t const *run,
                   bench_rows_t *rows) {
  bench_rng_t rng = bench_rng(run->seed, "order");
  pthread_mutex_t *mutex = unit_new();
  size_t slice_cnt = (size_t)run->rounds * BENCH_SLICES, unit_cnt = 0;
  double *units = bench_alloc(slice_cnt * cnt, sizeof(double));
  bench_kernel_t **order = bench_alloc(cnt, sizeof(*order));
  for (size_t k = 0; k < cnt; k++) {
    order[k] = kernels[k];
    kernels[k]->prepare(kernels[k], run->seed);
    kernels[k]->ns = bench_alloc(slice_cnt, sizeof(double));
    kernels[k]->units = bench_alloc(slice_cnt, sizeof(double));
    calibrate(kernels[k]);
  }
  for (unsigned round = 0; round < run->rounds; round++) {
    shuffle(order, cnt, &rng);
    for (size_t k = 0; k < cnt; k++, unit_cnt += BENCH_SLICES)
      round_of(order[k], mutex, units + unit_cnt);
  }
  bench_row_t *row = bench_row(rows, "unit");
  for (int q = 0; q < 3; q++) row->ns[q] = bench_quantile(units, unit_cnt, bench_quantiles[q]);
  for (size_t k = 0; k < cnt; k++) {
    bench_kernel_t *kernel = kernels[k];
    row = bench_row(rows, kernel->name);
    row->unit = "units";
    row->goal = kernel->goal;
    for (int q = 0; q < 3; q++) {
      row->ns[q] = bench_quantile(kernel->ns, kernel->slice_cnt, bench_quantiles[q]);
      row->value[q] = bench_quantile(kernel->units, kernel->slice_cnt, bench_quantiles[q]);
    }
  }
  free(order);
  free(units);
}
