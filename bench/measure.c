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
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

void bench_die(char const *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  fputs("bench: ", stderr);
  vfprintf(stderr, fmt, args);
  fputc('\n', stderr);
  va_end(args);
  exit(2);
}

void *bench_alloc(size_t cnt, size_t size) {
  void *addr = calloc(cnt ? cnt : 1, size);
  if (!addr) bench_die("no memory for %zu times %zu bytes", cnt, size);
  return addr;
}

bench_rng_t bench_rng(uint64_t seed, char const *name) {
  uint64_t hash = 0xcbf29ce484222325UL ^ seed;
  for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3UL;
  bench_rng_t rng = {hash | 1};
  for (int i = 0; i < 8; i++) bench_next(&rng);
  return rng;
}

uint64_t bench_next(bench_rng_t *rng) {
  rng->state ^= rng->state >> 12;
  rng->state ^= rng->state << 25;
  rng->state ^= rng->state >> 27;
  return rng->state * 0x2545f4914f6cdd1dUL;
}

uint64_t bench_below(bench_rng_t *rng, uint64_t cnt) {
  return (bench_next(rng) >> 11) % cnt;
}

uint64_t bench_size(bench_rng_t *rng, uint64_t lo, uint64_t hi) {
  double at = (double)(bench_next(rng) >> 11) * 0x1p-53;
  return (uint64_t)((double)lo * exp2(at * log2((double)hi / (double)lo)));
}

uint64_t bench_now(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000UL + (uint64_t)ts.tv_nsec;
}

static int ascending(void const *a, void const *b) {
  double x = *(double const *)a, y = *(double const *)b;
  return x < y ? -1 : x > y;
}

double bench_quantile(double *values, size_t cnt, double p) {
  if (!cnt) return 0;
  qsort(values, cnt, sizeof(*values), ascending);
  return values[(size_t)(p * (double)(cnt - 1) + 0.5)];
}

/* Memory ------------------------------------------------------------------------------------- */

#define HUGE_SZ (2UL << 20)

static size_t mem_hugetlb, mem_other; /* bytes given out */

void *bench_mem(size_t size) {
  size = (size + HUGE_SZ - 1) & ~(HUGE_SZ - 1);
  int flags = MAP_SHARED | MAP_ANONYMOUS;
  /* The pages of hugetlbfs are reserved by mmap, so there is no SIGBUS later. */
  void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0);
  if (addr != MAP_FAILED) {
    mem_hugetlb += size;
    return addr;
  }
  addr = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, -1, 0);
  if (addr == MAP_FAILED) bench_die("mmap of %zu bytes: %s", size, strerror(errno));
  (void)madvise(addr, size, MADV_HUGEPAGE);
  mem_other += size;
  return addr;
}

void bench_mem_say(char *buf, size_t size) {
  /* What the kernel made of the advice: it says per mapping how much lies in huge pages. */
  unsigned long kib, thp_kib = 0;
  char line[256];
  FILE *smaps = fopen("/proc/self/smaps", "re");
  while (smaps && fgets(line, sizeof(line), smaps))
    if (sscanf(line, "ShmemPmdMapped: %lu kB", &kib) == 1) thp_kib += kib;
  if (smaps) fclose(smaps);
  snprintf(buf, size,
           "%zu MiB in 2 MiB pages of hugetlbfs, %zu MiB of shared memory of which "
           "%lu MiB are in transparent huge pages and the rest in 4 KiB pages",
           mem_hugetlb >> 20, mem_other >> 20, thp_kib >> 10);
}

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
  uint64_t cnt = kernel->batch_min ? kernel->batch_min : 1;
  for (;;) {
    uint64_t began = bench_now();
    kernel->run(kernel, cnt);
    uint64_t took = bench_now() - began;
    if (took >= BENCH_SLICE_NS / 2 || cnt > 1UL << 30) break;
    cnt *= 2;
  }
  kernel->cnt = cnt;
}

void bench_measure(bench_kernel_t **kernels, size_t cnt, unsigned round_cnt, uint64_t seed,
                   double *ret_unit_ns) {
  bench_rng_t rng = bench_rng(seed, "order");
  pthread_mutex_t *mutex = unit_new();
  size_t slice_cnt = (size_t)round_cnt * BENCH_SLICES, unit_cnt = 0;
  double *units = bench_alloc(slice_cnt * cnt + 1, sizeof(double));
  for (size_t k = 0; k < cnt; k++) {
    kernels[k]->prepare(kernels[k], seed);
    kernels[k]->ns = bench_alloc(slice_cnt, sizeof(double));
    kernels[k]->unit = bench_alloc(slice_cnt, sizeof(double));
    calibrate(kernels[k]);
  }
  bench_kernel_t **order = bench_alloc(cnt, sizeof(*order));
  for (size_t k = 0; k < cnt; k++) order[k] = kernels[k];
  for (unsigned round = 0; round < round_cnt; round++) {
    for (size_t k = cnt; k > 1; k--) {
      size_t other = bench_below(&rng, k);
      bench_kernel_t *swap = order[k - 1];
      order[k - 1] = order[other];
      order[other] = swap;
    }
    for (size_t k = 0; k < cnt; k++) {
      bench_kernel_t *kernel = order[k];
      kernel->run(kernel, kernel->cnt);
      double before = unit_slice(mutex);
      for (unsigned s = 0; s < BENCH_SLICES; s++) {
        uint64_t began = bench_now();
        kernel->run(kernel, kernel->cnt);
        double ns = (double)(bench_now() - began) / (double)kernel->cnt;
        double after = unit_slice(mutex);
        kernel->ns[kernel->slice_cnt] = ns;
        kernel->unit[kernel->slice_cnt++] = ns / ((before + after) / 2);
        units[unit_cnt++] = after;
        before = after;
      }
    }
  }
  *ret_unit_ns = bench_quantile(units, unit_cnt, 0.5);
  free(order);
  free(units);
}
