/* jitter: what an expedited membarrier does to a thread on another core that has nothing to do with
   it but that its process has registered.

   Problem: whoever closes a gate (compact, delete) makes the kernel run a barrier on every core
   that runs a registered process, by an interrupt. The threads there pay for it.

   Model. One thread reads the clock over and over and notes the longest gap of each millisecond;
   another one, on another core, calls membarrier(GLOBAL_EXPEDITED) so many times a second, or not
   at all. The two are measured in turn, several times, so that what else happens on the machine
   happens to both.

   What it refuses: to run with one core, where there is no other. */

#include "bench.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROUNDS      5U
#define SLICES_MAX  1000U /* milliseconds of each measurement, unless another number is given */
#define SLICE_NS    1000000UL
#define RATE_CNT    3U
#define SECOND_NS   1000000000UL
#define REGISTER_OP MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED

static uint64_t const rates[RATE_CNT] = {0, 100, 10000}; /* barriers a second */

typedef struct barriers {
  uint64_t rate;
  _Atomic int stop;
  uint64_t cnt, ns; /* made, and how long they took their caller */
} barriers_t;

static int pin(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  return sched_setaffinity(0, sizeof set, &set);
}

static void *make_barriers(void *arg) {
  barriers_t *self = arg;
  if (pin(1)) bench_die("there is no second core");
  uint64_t next = bench_now();
  while (!self->stop) {
    if (!self->rate) {
      sched_yield();
      continue;
    }
    uint64_t from = bench_now();
    if (from < next) continue;
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0))
      bench_die("membarrier was refused");
    self->ns += bench_now() - from;
    self->cnt++;
    next += SECOND_NS / self->rate;
  }
  return NULL;
}

/* The longest gap of each slice between two looks at the clock. */
static void compute(double *gap, size_t slices) {
  for (size_t i = 0; i < slices; i++) {
    uint64_t last = bench_now(), end = last + SLICE_NS, longest = 0;
    while (last < end) {
      uint64_t now = bench_now();
      if (now - last > longest) longest = now - last;
      last = now;
    }
    gap[i] = (double)longest;
  }
}

int main(int argc, char **argv) {
  static double gap[RATE_CNT][ROUNDS * SLICES_MAX];
  uint64_t cnt[RATE_CNT] = {0}, ns[RATE_CNT] = {0};
  size_t slices = argc > 1 ? strtoul(argv[1], NULL, 10) : SLICES_MAX;
  if (argc > 2 || !slices || slices > SLICES_MAX)
    bench_die("usage: jitter [MILLISECONDS of each measurement, 1 to %u]", SLICES_MAX);
  if (sysconf(_SC_NPROCESSORS_ONLN) < 2) bench_die("one core: there is no other to disturb");
  if (syscall(SYS_membarrier, REGISTER_OP, 0, 0)) bench_die("membarrier cannot be registered");
  if (pin(0)) bench_die("the first core is not ours");
  for (uint32_t round = 0; round < ROUNDS; round++)
    for (uint32_t i = 0; i < RATE_CNT; i++) {
      barriers_t barriers = {.rate = rates[i]};
      pthread_t thread;
      if (pthread_create(&thread, NULL, make_barriers, &barriers)) bench_die("no second thread");
      compute(&gap[i][round * slices], slices);
      barriers.stop = 1;
      pthread_join(thread, NULL);
      cnt[i] += barriers.cnt;
      ns[i] += barriers.ns;
    }
  printf("longest gap in a millisecond of a computing thread, ns; barriers on another core\n\n");
  printf("barriers/s     50 %%     90 %%     99 %%  a barrier takes\n");
  for (uint32_t i = 0; i < RATE_CNT; i++) {
    size_t all = ROUNDS * slices;
    printf("%10lu %8.0f %8.0f %8.0f", rates[i], bench_quantile(gap[i], all, 0.5),
           bench_quantile(gap[i], all, 0.9), bench_quantile(gap[i], all, 0.99));
    printf(cnt[i] ? " %16.0f\n" : "                -\n",
           cnt[i] ? (double)ns[i] / (double)cnt[i] : 0);
  }
  return 0;
}
