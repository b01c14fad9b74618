/* fd_alloc under storm: threads that free each other's blocks, compacts in between, threads that
   come and go, and processes that are killed. */

#include "core/alloc_testing.h"

typedef struct worker {
  fixture_t *fix;
  ulong seed;
  void **ring; /* RING places that all exchange blocks through */
  int failed;
} worker_t;

enum { RING = 512 };

/* Counts a failure and says what the library says of it. */
static void failed(worker_t *worker, char const *what) {
  worker->failed++;
  print_message("# %s: %s\n", what, wksp_last_error());
}

static void *exchange(void *arg) {
  worker_t *worker = arg;
  testing_rng_t r = {worker->seed | 1};
  for (uint i = 0; i < 40000; i++) {
    ulong size = rnd_size(&r), *blk = fd_alloc_malloc(worker->fix->alloc, 0, size);
    if (!blk) {
      failed(worker, "malloc");
      continue;
    }
    fill((uchar *)blk, size, size);
    blk = __atomic_exchange_n(&worker->ring[testing_below(&r, RING)], blk, __ATOMIC_ACQ_REL);
    if (!blk) continue;
    if (!intact((uchar *)blk, *blk, *blk)) failed(worker, "a block's pattern");
    fd_alloc_free(worker->fix->alloc, blk);
  }
  return NULL;
}

static void run_threads(fixture_t *fix, void *(*part)(void *), void **ring, uint cnt) {
  testing_rng_t r = testing_rng();
  pthread_t thread[8];
  worker_t worker[8];
  for (uint i = 0; i < cnt; i++) {
    worker[i] = (worker_t){fix, testing_next(&r), ring, 0};
    assert_int_equal(pthread_create(&thread[i], NULL, part, &worker[i]), 0);
  }
  for (uint i = 0; i < cnt; i++) {
    pthread_join(thread[i], NULL);
    assert_int_equal(worker[i].failed, 0);
  }
}

/* Threads free each other's blocks; nothing is lost, doubled or left. */
static void test_threads(void **state) {
  fixture_t *fix = *state;
  void *ring[RING] = {0};
  run_threads(fix, exchange, ring, 4);
  for (uint i = 0; i < RING; i++) fd_alloc_free(fix->alloc, ring[i]);
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
}

static void *compact_often(void *arg) {
  worker_t *worker = arg;
  if (worker->seed & 1) return exchange(arg);
  for (uint i = 0; i < 60; i++)
    if (fd_alloc_compact(worker->fix->alloc, NULL)) failed(worker, "compact");
  return NULL;
}

/* Compacting while others allocate and free takes nothing that is live. */
static void test_compact_under_load(void **state) {
  fixture_t *fix = *state;
  void *ring[RING] = {0};
  pthread_t thread[4];
  worker_t worker[4];
  testing_rng_t r = testing_rng();
  for (uint i = 0; i < 4; i++) {
    worker[i] = (worker_t){fix, (testing_next(&r) & ~1UL) | (i & 1), ring, 0};
    assert_int_equal(pthread_create(&thread[i], NULL, compact_often, &worker[i]), 0);
  }
  for (uint i = 0; i < 4; i++) {
    pthread_join(thread[i], NULL);
    assert_int_equal(worker[i].failed, 0);
  }
  for (uint i = 0; i < RING; i++) fd_alloc_free(fix->alloc, ring[i]);
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
}

static void *few_blocks(void *arg) {
  worker_t *worker = arg;
  void *blk[40];
  for (uint i = 0; i < 40; i++) blk[i] = fd_alloc_malloc(worker->fix->alloc, 0, 16 + i * 100);
  for (uint i = 0; i < 40; i++) {
    if (!blk[i]) worker->failed++;
    fd_alloc_free(worker->fix->alloc, blk[i]);
  }
  return NULL;
}

/* Threads born and ended one after the other inherit each other's memory: use does not grow. */
static void test_thread_turnover(void **state) {
  fixture_t *fix = *state;
  run_threads(fix, few_blocks, NULL, 1);
  ulong used = used_sz(fix->wksp);
  for (uint i = 0; i < 500; i++) {
    pthread_t thread;
    worker_t worker = {fix, 0, NULL, 0};
    assert_int_equal(pthread_create(&thread, NULL, few_blocks, &worker), 0);
    pthread_join(thread, NULL);
    assert_int_equal(worker.failed, 0);
  }
  assert_int_equal(used_sz(fix->wksp), used);
  fd_alloc_stat_t stat;
  assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
  assert_int_equal(stat.heap_cnt, 1);
  assert_clean(fix);
}

static void *idle_with_memory(void *arg) {
  worker_t *worker = arg;
  few_blocks(arg);
  pthread_barrier_wait((void *)worker->ring);
  pthread_barrier_wait((void *)worker->ring); /* idle between the two: the compact happens here */
  few_blocks(arg);
  return NULL;
}

/* What an idle living thread keeps without need is given back too, and the thread goes on. */
static void test_compact_idle(void **state) {
  fixture_t *fix = *state;
  pthread_barrier_t turn;
  pthread_barrier_init(&turn, NULL, 2);
  pthread_t thread;
  worker_t worker = {fix, 0, (void *)&turn, 0};
  pthread_create(&thread, NULL, idle_with_memory, &worker);
  pthread_barrier_wait(&turn);
  assert_true(used_sz(fix->wksp) > fix->used_sz);
  assert_clean(fix);
  pthread_barrier_wait(&turn);
  pthread_join(thread, NULL);
  assert_int_equal(worker.failed, 0);
  assert_clean(fix);
}

/* Processes that are killed at any moment in a storm of calls break nothing: what they held can be
 * listed and freed. */
static int free_listed(void *arg, fd_alloc_block_t const *block) {
  fixture_t *fix = arg;
  fd_alloc_free(fix->alloc, fd_wksp_laddr_fast(fix->wksp, block->gaddr));
  return 0;
}

static void storm(fixture_t *fix, testing_rng_t rng, _Atomic ulong *steps) {
  held_t *held = calloc(LIVE, sizeof *held);
  int bad = 0;
  while (!bad) {
    random_ops(fix->alloc, held, 1, &rng, &bad);
    ++*steps;
  }
  _exit(7);
}

static void test_kills(void **state) {
  fixture_t *fix = *state;
  testing_rng_t r = testing_rng();
  _Atomic ulong *steps =
      mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(steps, MAP_FAILED);
  for (uint i = 0; i < 60; i++) {
    testing_rng_t child_rng = {testing_next(&r) | 1};
    ulong moment = *steps + testing_below(&r, 20000);
    pid_t pid = fork();
    if (!pid) storm(fix, child_rng, steps);
    int status = 0;
    while (*steps < moment && !waitpid(pid, &status, WNOHANG)) sched_yield();
    assert_int_equal(status, 0); /* it found nothing wrong, and was not refused */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_sound(fix);
    void *blk = fd_alloc_malloc(fix->alloc, 0, rnd_size(&r));
    assert_non_null(blk);
    fd_alloc_free(fix->alloc, blk);
    assert_int_equal(fd_alloc_walk(fix->alloc, free_listed, fix), 0);
  }
  munmap((void *)steps, 4096);
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
}

/* A killed process's last block, small or large, is listed and counted as suspect until it is
   freed; that of one who lives is not. */
static void check_suspect(fixture_t *fix, ulong size) {
  pid_t pid = fork();
  if (!pid) {
    if (!fd_alloc_malloc(fix->alloc, 0, size)) _exit(7);
    kill(getpid(), SIGKILL);
  }
  waitpid(pid, NULL, 0);
  fd_alloc_stat_t stat;
  uint64_t cnt;
  for (uint turn = 0; turn < 2; turn++) { /* before and after its slot is reaped */
    assert_int_equal(wksp__suspect_cnt(fix->wksp, &cnt), 0);
    assert_int_equal(cnt, 1);
    assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
    assert_int_equal(stat.small_cnt + stat.large_cnt, 1);
    assert_int_equal(stat.suspect_cnt, 1);
    assert_int_equal(wksp__reap(fix->wksp, 0), 0);
  }
  assert_int_equal(fd_alloc_walk(fix->alloc, free_listed, fix), 0);
  assert_int_equal(wksp__suspect_cnt(fix->wksp, &cnt), 0);
  assert_int_equal(cnt, 0);
}

static void test_suspect(void **state) {
  fixture_t *fix = *state;
  void *block = fd_alloc_malloc(fix->alloc, 0, 3000);
  uint64_t cnt;
  assert_int_equal(wksp__suspect_cnt(fix->wksp, &cnt), 0);
  assert_int_equal(cnt, 0);
  fd_alloc_free(fix->alloc, block);
  check_suspect(fix, 100);
  check_suspect(fix, FD_ALLOC_SMALL_MAX + 1);
  assert_clean(fix);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  struct CMUnitTest const tests[] = {
      T(test_threads),         T(test_compact_under_load),
      T(test_thread_turnover), T(test_compact_idle),
      T(test_kills),           T(test_suspect),
  };
  return cmocka_run_group_tests_name("core/alloc_storm", tests, NULL, NULL);
}
