/* recover: what a kill costs the next caller, and what it takes to make all anew.

   Problem: a workspace's lock may be held by a process that is killed in the middle of a change.
   Whoever comes next ends the change; how long that takes must not depend on how many partitions
   there are.

   Model. A child allocates and frees in a loop until it is killed at a random moment, some hundred
   times; after each the parent times one alloc and free, which takes the lock over if the child
   held it. Only those kills count for which fd_wksp_owner still names the child; how many is in the
   row. What the child held is found by its tag and freed before the next.

   What it refuses: to wait by the clock. The child counts what it has done in shared memory, and
   the parent kills it at a count drawn in advance, a few hundred steps of a loop later. */

#include "bench.h"
#include "wksp/wksp.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILLS      200
#define CHILD_TAG  77UL
#define CHILD_HELD 64
#define OPS_MAX    2000 /* the child is killed before it has done so many and a few */
#define STEPS_MAX  400  /* of the loop after them; an alloc takes about as long */
#define REBUILDS   3

/* Never returns. */
static void child_churn(fd_wksp_t *wksp, bench_rng_t rng, _Atomic uint64_t *done) {
  uint64_t held[CHILD_HELD] = {0};
  for (uint64_t i = 0;; i = (i + 1) % CHILD_HELD) {
    if (held[i] && fd_wksp_free(wksp, held[i])) _exit(3);
    held[i] = fd_wksp_alloc(wksp, FD_WKSP_PART_GRAIN,
                            bench_size(&rng, BENCH_SIZE_MIN, BENCH_SIZE_MAX), CHILD_TAG);
    if (!held[i]) _exit(4);
    atomic_fetch_add_explicit(done, 1, memory_order_relaxed);
  }
}

static pid_t child_new(fd_wksp_t *wksp, bench_rng_t rng, _Atomic uint64_t *done) {
  pid_t parent = getpid(), pid = fork();
  if (pid < 0) bench_die("fork: %s", strerror(errno));
  if (pid) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(5);
  child_churn(wksp, rng, done);
  _exit(6);
}

/* Kills a child in the middle of something. */
static void kill_one(fd_wksp_t *wksp, bench_rng_t *rng, _Atomic uint64_t *done) {
  uint64_t ops = 1 + bench_below(rng, OPS_MAX), steps = bench_below(rng, STEPS_MAX);
  bench_rng_t childs = {bench_next(rng) | 1};
  atomic_store(done, 0);
  pid_t pid = child_new(wksp, childs, done);
  int status;
  while (atomic_load_explicit(done, memory_order_relaxed) < ops) {
    pid_t ended = waitpid(pid, &status, WNOHANG);
    if (ended) bench_die("a child that should have gone on ended with status 0x%x", status);
    sched_yield();
  }
  for (uint64_t i = 0; i < steps; i++) atomic_load_explicit(done, memory_order_relaxed);
  kill(pid, SIGKILL);
  if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
    bench_die("a child ended with status 0x%x before it was killed", status);
}

static uint64_t own_time(void) {
  struct timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return (uint64_t)ts.tv_sec * 1000000000UL + (uint64_t)ts.tv_nsec;
}

static void verify(fd_wksp_t *wksp, char const *when) {
  if (fd_wksp_verify(wksp, NULL, NULL)) bench_die("verify %s: %s", when, wksp_last_error());
}

void bench_recover(bench_rows_t *rows, fd_wksp_t *wksp, uint64_t seed) {
  static double wall[KILLS], own[KILLS];
  bench_rng_t rng = bench_rng(seed, "kills");
  size_t inside = 0;
  ulong const tag = CHILD_TAG;
  _Atomic uint64_t *done =
      mmap(NULL, sizeof(*done), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (done == MAP_FAILED) bench_die("mmap: %s", strerror(errno));
  fflush(NULL);
  for (unsigned k = 0; k < KILLS; k++) {
    kill_one(wksp, &rng, done);
    int held = fd_wksp_owner(wksp) != 0;
    uint64_t began_own = own_time(), began = bench_now();
    ulong gaddr = fd_wksp_alloc(wksp, FD_WKSP_PART_GRAIN, 1024, 1);
    int rc = gaddr ? fd_wksp_free(wksp, gaddr) : -1;
    uint64_t took = bench_now() - began, took_own = own_time() - began_own;
    if (rc) bench_die("the call after a kill: %s", wksp_last_error());
    if (held) {
      wall[inside] = (double)took;
      own[inside++] = (double)took_own;
    }
    if (fd_wksp_tag_free(wksp, &tag, 1) < 0) bench_die("tag_free: %s", wksp_last_error());
  }
  munmap(done, sizeof(*done));
  verify(wksp, "after the kills");

  bench_row_t *row = bench_row(rows, "recovery 1000000");
  row->unit = "ms";
  row->goal = 1;
  snprintf(row->note, sizeof(row->note),
           "first alloc and free after a kill; in a change: %zu of %d", inside, KILLS);
  bench_row_t *max = bench_row(rows, "recovery 1000000 max");
  max->unit = "ms";
  max->goal = 1;
  if (!inside) return;
  for (int q = 0; q < 3; q++) {
    double at = bench_quantile(wall, inside, bench_quantiles[q]);
    row->ns[q] = at;
    row->value[q] = at / 1e6;
  }
  max->ns[0] = bench_quantile(wall, inside, 1);
  max->value[0] = max->ns[0] / 1e6;
  snprintf(max->note, sizeof(max->note), "at most %.3f ms of the caller's own time",
           bench_quantile(own, inside, 1) / 1e6);
}

void bench_rebuild(bench_rows_t *rows, fd_wksp_t *wksp) {
  double took[REBUILDS];
  for (unsigned r = 0; r < REBUILDS; r++) {
    uint64_t began = bench_now();
    if (fd_wksp_rebuild(wksp, r, NULL, NULL)) bench_die("rebuild: %s", wksp_last_error());
    took[r] = (double)(bench_now() - began);
  }
  verify(wksp, "after the rebuilds");
  bench_row_t *row = bench_row(rows, "rebuild 1000000");
  row->unit = "s";
  row->goal = 1;
  for (int q = 0; q < 3; q++) {
    double at = bench_quantile(took, REBUILDS, bench_quantiles[q]);
    row->ns[q] = at;
    row->value[q] = at / 1e9;
  }
}
