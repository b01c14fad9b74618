/* alloc: what malloc and free cost, of one allocator: the kernels, once each. bench/alloc-table
   runs the programs of all allocators in turn and puts the figures side by side.

   Problem: an allocator is fast in the pattern that it was made for. So there are many: the same
   block over and over; batches first in first out, smaller and larger than what is kept at hand;
   random sizes that come and go among few and many live blocks; memory that grows and is freed in
   no order; two threads, alone, as producer and consumer, and exchanging; two processes likewise.

   Model. A kernel does its pattern a fixed number of times, in slices of a millisecond or less, and
   prints the median of the slices in nanoseconds for a pair of malloc and free: what else runs on
   the machine takes a core for longer than that, and spoils a few slices of each row and not a row.
   Every block is written to once. Random sizes are log-uniform from 16 bytes to
   8 KiB, drawn before. Threads and processes are put on two cores if there are two.

   What it refuses: to take medians or compare; and to be quick enough for a test. */

#include "alloc_peer.h"
#include "bench.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HEAP_SZ    (900UL << 20)
#define PAIRS      400000UL
#define SLICES     20U
#define SPINS_MAX  4096U /* that a thread waits for the other before it lends its core */
#define SIZES      65536U
#define SIZE_LO    16UL
#define SIZE_HI    8192UL
#define BATCH_MAX  20000U
#define RING       512U
#define EXCHANGE   64U /* blocks that each sends before it takes */
#define GROW       500000U
#define LAT_BLOCKS 10000U
#define LAT_OPS    500000U

typedef struct slot {
  void *blk;
} slot_t;

/* One producer, one consumer. */
typedef struct ring {
  _Alignas(64) _Atomic size_t head;
  _Alignas(64) _Atomic size_t tail;
  _Alignas(64) void *blk[RING];
} ring_t;

/* What two threads or processes share. */
typedef struct pair {
  ring_t ring[2];
  _Alignas(64) _Atomic uint32_t here; /* who has come to the start */
  double ns[2];
} pair_t;

typedef struct kernel {
  char const *name;
  double (*run)(struct kernel const *kernel, int who);
  size_t size;  /* of blocks, 0: random */
  size_t batch; /* blocks in a batch, or live ones */
  size_t pairs; /* 0: PAIRS */
  int two;      /* 2 threads, 3 processes: run is called by both, with who 0 and 1 */
} kernel_t;

/* What each slice of a kernel took. */
typedef struct meter {
  double ns[SLICES], from;
  size_t cnt;
} meter_t;

static uint32_t g_size[SIZES];
static pair_t *g_pair;

static double now(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* For single calls: the clock takes as long as a malloc. */
static uint64_t ticks(void) {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return (uint64_t)now();
#endif
}

static void pin(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  sched_setaffinity(0, sizeof set, &set); /* with one core both run there */
}

static inline void *take(size_t size) {
  void *blk = peer_malloc(size);
  if (__builtin_expect(!blk, 0)) bench_die("no memory for %zu bytes", size);
  *(volatile char *)blk = 1;
  return blk;
}

static inline size_t size_at(kernel_t const *kernel, uint64_t drawn) {
  return kernel->size ? kernel->size : g_size[drawn % SIZES];
}

static size_t pairs_of(kernel_t const *kernel) {
  return (kernel->pairs ? kernel->pairs : PAIRS) / PEER_SLOW;
}

static void slice_begin(meter_t *meter) {
  meter->from = now();
}

/* pairs: how many it had. */
static void slice_end(meter_t *meter, size_t pairs) {
  meter->ns[meter->cnt++] = (now() - meter->from) / (double)pairs;
}

static double typical(meter_t *meter) {
  return bench_quantile(meter->ns, meter->cnt, 0.5);
}

/* For one
 * ------------------------------------------------------------------------------------------------
 */

static double same(kernel_t const *kernel, int who) {
  meter_t meter = {.cnt = 0};
  size_t cnt = pairs_of(kernel) / SLICES;
  (void)who;
  for (size_t i = 0; i < 1000; i++) peer_free(take(kernel->size));
  for (unsigned slice = 0; slice < SLICES; slice++) {
    slice_begin(&meter);
    for (size_t i = 0; i < cnt; i++) peer_free(take(kernel->size));
    slice_end(&meter, cnt);
  }
  return typical(&meter);
}

static void batch_once(kernel_t const *kernel, void **blk) {
  for (size_t i = 0; i < kernel->batch; i++) blk[i] = take(kernel->size);
  for (size_t i = 0; i < kernel->batch; i++) peer_free(blk[i]);
}

static double batch(kernel_t const *kernel, int who) {
  meter_t meter = {.cnt = 0};
  void **blk = bench_alloc(kernel->batch, sizeof *blk);
  size_t rounds = pairs_of(kernel) / kernel->batch / SLICES;
  (void)who;
  if (!rounds) rounds = 1;
  for (int warm = 0; warm < 2; warm++) batch_once(kernel, blk);
  for (unsigned slice = 0; slice < SLICES; slice++) {
    slice_begin(&meter);
    for (size_t round = 0; round < rounds; round++) batch_once(kernel, blk);
    slice_end(&meter, rounds * kernel->batch);
  }
  free(blk);
  return typical(&meter);
}

static slot_t *fill(kernel_t const *kernel, bench_rng_t *rng) {
  slot_t *slot = bench_alloc(kernel->batch, sizeof *slot);
  for (size_t i = 0; i < kernel->batch; i++) slot[i].blk = take(size_at(kernel, bench_next(rng)));
  return slot;
}

static void empty(kernel_t const *kernel, slot_t *slot) {
  for (size_t i = 0; i < kernel->batch; i++) peer_free(slot[i].blk);
  free(slot);
}

static void turn_over(kernel_t const *kernel, slot_t *slot, size_t cnt, bench_rng_t *rng) {
  for (size_t i = 0; i < cnt; i++) {
    uint64_t drawn = bench_next(rng);
    slot_t *at = &slot[((drawn & 0xffffffffUL) * kernel->batch) >> 32];
    peer_free(at->blk);
    at->blk = take(size_at(kernel, drawn >> 40));
  }
}

static double churn(kernel_t const *kernel, int who) {
  meter_t meter = {.cnt = 0};
  bench_rng_t rng = bench_rng((uint64_t)who, "churn");
  slot_t *slot = fill(kernel, &rng);
  size_t cnt = pairs_of(kernel) / SLICES;
  turn_over(kernel, slot, cnt * SLICES / 4, &rng);
  for (unsigned slice = 0; slice < SLICES; slice++) {
    slice_begin(&meter);
    turn_over(kernel, slot, cnt, &rng);
    slice_end(&meter, cnt);
  }
  empty(kernel, slot);
  return typical(&meter);
}

/* Blocks of one size, freed in random order. A pair is a typical malloc and a typical free. */
static double grow(kernel_t const *kernel, int who) {
  meter_t mallocs = {.cnt = 0}, frees = {.cnt = 0};
  size_t part = GROW / PEER_SLOW / SLICES, cnt = part * SLICES;
  void **blk = bench_alloc(cnt, sizeof *blk);
  bench_rng_t rng = bench_rng(1, "grow");
  (void)who;
  memset(blk, 1, cnt * sizeof *blk);
  for (size_t at = 0; at < cnt; at += part) {
    slice_begin(&mallocs);
    for (size_t i = at; i < at + part; i++) blk[i] = take(kernel->size);
    slice_end(&mallocs, part);
  }
  for (size_t i = cnt - 1; i > 0; i--) {
    size_t j = bench_below(&rng, i + 1);
    void *swap = blk[i];
    blk[i] = blk[j];
    blk[j] = swap;
  }
  for (size_t at = 0; at < cnt; at += part) {
    slice_begin(&frees);
    for (size_t i = at; i < at + part; i++) peer_free(blk[i]);
    slice_end(&frees, part);
  }
  free(blk);
  return typical(&mallocs) + typical(&frees);
}

/* For two
 * ------------------------------------------------------------------------------------------------
 */

/* turn counts from 0 in each wait. */
static void pause_once(size_t turn) {
  if (turn % SPINS_MAX == SPINS_MAX - 1) sched_yield(); /* the other may wait for our core */
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  __asm__ volatile("" ::: "memory");
#endif
}

static void push(ring_t *ring, void *blk) {
  size_t head = ring->head;
  for (size_t turn = 0; head - ring->tail >= RING; turn++) pause_once(turn);
  ring->blk[head % RING] = blk;
  atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}

static void *pop(ring_t *ring) {
  size_t tail = ring->tail;
  for (size_t turn = 0; atomic_load_explicit(&ring->head, memory_order_acquire) == tail; turn++)
    pause_once(turn);
  void *blk = ring->blk[tail % RING];
  atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
  return blk;
}

static double produce(kernel_t const *kernel, int who) {
  meter_t meter = {.cnt = 0};
  size_t cnt = pairs_of(kernel) / SLICES;
  bench_rng_t rng = bench_rng(2, "produce");
  for (unsigned slice = 0; slice < SLICES; slice++) {
    slice_begin(&meter);
    for (size_t i = 0; i < cnt; i++) {
      if (who)
        peer_free(pop(&g_pair->ring[0]));
      else
        push(&g_pair->ring[0], take(size_at(kernel, bench_next(&rng))));
    }
    slice_end(&meter, cnt);
  }
  return typical(&meter);
}

static double exchange(kernel_t const *kernel, int who) {
  meter_t meter = {.cnt = 0};
  size_t turns = pairs_of(kernel) / SLICES / EXCHANGE;
  bench_rng_t rng = bench_rng((uint64_t)who, "exchange");
  for (unsigned slice = 0; slice < SLICES; slice++) {
    slice_begin(&meter);
    for (size_t turn = 0; turn < turns; turn++) {
      for (size_t i = 0; i < EXCHANGE; i++)
        push(&g_pair->ring[who], take(size_at(kernel, bench_next(&rng))));
      for (size_t i = 0; i < EXCHANGE; i++) peer_free(pop(&g_pair->ring[!who]));
    }
    slice_end(&meter, turns * EXCHANGE);
  }
  return typical(&meter);
}

static void meet(uint32_t cnt) {
  atomic_fetch_add(&g_pair->here, 1);
  while (g_pair->here < cnt) sched_yield();
}

static void part(kernel_t const *kernel, int who) {
  pin(who);
  meet(2);
  g_pair->ns[who] = kernel->run(kernel, who);
  meet(4);
}

static void *part_of_thread(void *kernel) {
  part(kernel, 1);
  return NULL;
}

static double run(kernel_t *kernel) {
  if (!kernel->two) return kernel->run(kernel, 0);
  memset(g_pair, 0, sizeof *g_pair);
  pthread_t thread;
  pid_t child = 0;
  int status = 0;
  if (kernel->two == 3) {
    child = fork();
    if (child < 0) bench_die("fork failed");
    if (!child) {
      part(kernel, 1);
      _exit(0);
    }
  } else if (pthread_create(&thread, NULL, part_of_thread, kernel)) {
    bench_die("no second thread");
  }
  part(kernel, 0);
  if (child)
    waitpid(child, &status, 0);
  else
    pthread_join(thread, NULL);
  if (status) bench_die("%s: the second process failed", kernel->name);
  return (g_pair->ns[0] + g_pair->ns[1]) / 2;
}

/* Latency and memory
 * ------------------------------------------------------------------------------------- */

static void latency(void) {
  kernel_t kernel = {.batch = LAT_BLOCKS};
  bench_rng_t rng = bench_rng(3, "latency");
  slot_t *slot = fill(&kernel, &rng);
  size_t cnt = LAT_OPS / PEER_SLOW;
  double *ns = bench_alloc(cnt, sizeof *ns);
  turn_over(&kernel, slot, cnt / 2, &rng);
  double began = now();
  uint64_t first = ticks();
  for (size_t i = 0; i < cnt; i++) {
    uint64_t drawn = bench_next(&rng);
    slot_t *at = &slot[((drawn & 0xffffffffUL) * LAT_BLOCKS) >> 32];
    peer_free(at->blk);
    size_t size = size_at(&kernel, drawn >> 40);
    uint64_t from = ticks();
    at->blk = peer_malloc(size);
    ns[i] = (double)(ticks() - from);
    if (!at->blk) bench_die("no memory");
  }
  double tick_ns = (now() - began) / (double)(ticks() - first);
  empty(&kernel, slot);
  printf("latency 99 %%\t%.1f\n", bench_quantile(ns, cnt, 0.99) * tick_ns);
  printf("latency 99.9 %%\t%.1f\n", bench_quantile(ns, cnt, 0.999) * tick_ns);
  printf("latency 99.99 %%\t%.1f\n", bench_quantile(ns, cnt, 0.9999) * tick_ns);
  free(ns);
}

static size_t resident(void) {
  size_t pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%*s %zu", &pages) != 1) bench_die("what is resident cannot be read");
  fclose(file);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Bytes resident for each live one after a churn, in memory that nobody has touched before; and of
   those with memory of their own the bytes taken of it, touched or not. */
static void memory(char const *live_cnt) {
  size_t live = strtoul(live_cnt, NULL, 10), turns = (PEER_SLOW > 1 ? 2 : 10) * live, bytes = 0;
  kernel_t kernel = {.batch = live};
  bench_rng_t rng = bench_rng(4, "memory");
  slot_t *slot = bench_alloc(live, sizeof *slot);
  uint32_t *size = bench_alloc(live, sizeof *size);
  memset(slot, 0, live * sizeof *slot);
  memset(size, 0, live * sizeof *size);
  size_t before = resident(), had = peer_used();
  for (size_t i = 0; i < live + turns; i++) {
    size_t at = i < live ? i : bench_below(&rng, live);
    if (slot[at].blk) peer_free(slot[at].blk);
    bytes -= size[at];
    size[at] = (uint32_t)size_at(&kernel, bench_next(&rng));
    bytes += size[at];
    slot[at].blk = take(size[at]);
    memset(slot[at].blk, 1, size[at]);
  }
  printf("memory %s\t%.3f\n", live_cnt, (double)(resident() - before) / (double)bytes);
  if (peer_used())
    printf("memory taken %s\t%.3f\n", live_cnt, (double)(peer_used() - had) / (double)bytes);
}

/* In a process of its own, whose memory is untouched. */
static void memory_apart(char const *live_cnt) {
  char const *why = "";
  int status;
  fflush(stdout);
  pid_t child = fork();
  if (child < 0) bench_die("fork failed");
  if (!child) {
    if (peer_open(HEAP_SZ, 0, &why)) bench_die("%s", why);
    memory(live_cnt);
    fflush(stdout);
    _exit(0);
  }
  waitpid(child, &status, 0);
  if (status) bench_die("memory %s: the process failed", live_cnt);
}

static kernel_t kernels[] = {
    {.name = "same 16", .run = same, .size = 16},
    {.name = "same 64", .run = same, .size = 64},
    {.name = "same 256", .run = same, .size = 256},
    {.name = "same 1024", .run = same, .size = 1024},
    {.name = "same 4096", .run = same, .size = 4096},
    {.name = "same 16384", .run = same, .size = 16384},
    {.name = "batch 1000 of 16", .run = batch, .size = 16, .batch = 1000},
    {.name = "batch 1000 of 64", .run = batch, .size = 64, .batch = 1000},
    {.name = "batch 1000 of 256", .run = batch, .size = 256, .batch = 1000},
    {.name = "batch 1000 of 1024", .run = batch, .size = 1024, .batch = 1000},
    {.name = "batch 1000 of 4096", .run = batch, .size = 4096, .batch = 1000},
    {.name = "batch 1000 of 16384", .run = batch, .size = 16384, .batch = 1000},
    {.name = "batch 20000 of 16", .run = batch, .size = 16, .batch = BATCH_MAX},
    {.name = "batch 20000 of 64", .run = batch, .size = 64, .batch = BATCH_MAX},
    {.name = "churn 10000", .run = churn, .batch = 10000},
    {.name = "churn 200000", .run = churn, .batch = 200000},
    {.name = "grow", .run = grow, .size = 64},
    {.name = "grow again", .run = grow, .size = 64},
    {.name = "2 threads same 64", .run = same, .size = 64, .two = 2},
    {.name = "2 threads batch 64", .run = batch, .size = 64, .batch = 1000, .two = 2},
    {.name = "2 threads batch 1024", .run = batch, .size = 1024, .batch = 1000, .two = 2},
    {.name = "2 threads churn 10000", .run = churn, .batch = 10000, .two = 2},
    {.name = "2 threads produce 64", .run = produce, .size = 64, .two = 2},
    {.name = "2 threads produce", .run = produce, .two = 2},
    {.name = "2 threads exchange", .run = exchange, .two = 2},
    {.name = "2 processes same 64", .run = same, .size = 64, .two = 3},
    {.name = "2 processes churn 10000", .run = churn, .batch = 10000, .two = 3},
    {.name = "2 processes produce 64", .run = produce, .size = 64, .two = 3},
    {.name = "2 processes produce", .run = produce, .two = 3},
    {.name = "2 processes exchange", .run = exchange, .two = 3},
};

static int wanted(char const *name, char const *only) {
  return !only || strstr(name, only) != NULL;
}

int main(int argc, char **argv) {
  char const *only = argc > 1 ? argv[1] : NULL, *why = "";
  if (argc > 2) {
    fprintf(stderr, "usage: %s [PART-OF-A-ROW'S-NAME]\n", argv[0]);
    return 2;
  }
  pin(0);
  bench_rng_t rng = bench_rng(0, "sizes");
  for (uint32_t i = 0; i < SIZES; i++) g_size[i] = (uint32_t)bench_size(&rng, SIZE_LO, SIZE_HI);
  g_pair = mmap(NULL, sizeof *g_pair, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (g_pair == MAP_FAILED) bench_die("no shared memory");
  if (wanted("memory 10000", only)) memory_apart("10000");
  if (wanted("memory 200000", only)) memory_apart("200000");
  if (peer_open(HEAP_SZ, 1, &why)) bench_die("%s", why);
  for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
    if (!wanted(kernels[i].name, only) || (kernels[i].two == 3 && !PEER_SHARES)) continue;
    printf("%s\t%.2f\n", kernels[i].name, run(&kernels[i]));
    fflush(stdout);
  }
  if (wanted("latency", only)) latency();
  return 0;
}
