/* bench: what all parts stand on: random numbers, time, memory. See bench.h. */

#include "bench.h"

#include <errno.h>
#include <math.h>
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
#define MEM_MAX 32

typedef struct mem {
  char const *owner;
  char *addr;
  size_t head, size;
  int huge; /* whether the head is in hugetlbfs */
} mem_t;

static struct {
  mem_t mems[MEM_MAX];
  size_t cnt;
} given;

static size_t up(size_t size) {
  return (size + HUGE_SZ - 1) & ~(HUGE_SZ - 1);
}

void *bench_mem(char const *owner, size_t head, size_t size) {
  int const prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_ANONYMOUS;
  if (given.cnt == MEM_MAX) bench_die("memory was asked for more than %d times", MEM_MAX);
  mem_t *mem = &given.mems[given.cnt++];
  *mem = (mem_t){.owner = owner, .head = up(head), .size = up(size)};
  /* A place for both parts to lie side by side, aligned to huge pages. */
  char *place = mmap(NULL, mem->size + HUGE_SZ, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) bench_die("mmap of %zu bytes: %s", mem->size, strerror(errno));
  mem->addr = place + (-(uintptr_t)place & (HUGE_SZ - 1));
  if (mmap(mem->addr, mem->size, prot, flags | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
    bench_die("mmap of %zu bytes: %s", mem->size, strerror(errno));
  (void)madvise(mem->addr, mem->size, MADV_HUGEPAGE);
  /* The pages of hugetlbfs are reserved by mmap, so there is no SIGBUS later. A failure may have
     unmapped what was there. */
  mem->huge =
      mmap(mem->addr, mem->head, prot, flags | MAP_FIXED | MAP_HUGETLB, -1, 0) != MAP_FAILED;
  if (!mem->huge) {
    if (mmap(mem->addr, mem->head, prot, flags | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
      bench_die("mmap of %zu bytes: %s", mem->head, strerror(errno));
    (void)madvise(mem->addr, mem->head, MADV_HUGEPAGE);
  }
  return mem->addr;
}

/* How much of memory that was given out lies in huge pages because the kernel took the advice, in
   KiB. */
static unsigned long thp_kib(void) {
  unsigned long kib, lo, sum = 0;
  int ours = 0;
  char line[512];
  FILE *smaps = fopen("/proc/self/smaps", "re");
  while (smaps && fgets(line, sizeof(line), smaps)) {
    if (sscanf(line, "%lx-", &lo) == 1 && strchr(line, '-')) {
      ours = 0;
      for (size_t m = 0; m < given.cnt; m++)
        ours |= lo - (uintptr_t)given.mems[m].addr < given.mems[m].size;
    } else if (ours && sscanf(line, "ShmemPmdMapped: %lu kB", &kib) == 1) {
      sum += kib;
    }
  }
  if (smaps) fclose(smaps);
  return sum;
}

void bench_mem_say(char *buf, size_t size) {
  int len = snprintf(buf, size, "pages:");
  for (size_t m = 0; m < given.cnt; m++) {
    mem_t const *mem = &given.mems[m];
    size_t huge = 0, all = 0;
    int seen = 0;
    for (size_t o = 0; o < given.cnt; o++) {
      if (strcmp(given.mems[o].owner, mem->owner)) continue;
      seen |= o < m;
      all++;
      huge += (size_t)given.mems[o].huge;
    }
    if (seen || len < 0 || (size_t)len >= size) continue;
    len += snprintf(buf + len, size - (size_t)len, " %s: %zu of %zu in hugetlbfs (2 MiB);",
                    mem->owner, huge, all);
  }
  if (len > 0 && (size_t)len < size)
    snprintf(buf + len, size - (size_t)len, " %lu MiB in transparent huge pages, the rest in 4 KiB",
             thp_kib() >> 10);
}
