/* What ended and killed threads leave behind serves others at once, and does not add up. */

#include "core/alloc_testing.h"

#include <sys/prctl.h>

enum { BLKS = 40, BATCH = 16, THREADS = 10000, PROCESSES = 200 };

typedef struct life {
  fixture_t *fix;
  pthread_barrier_t all;
  _Atomic uint failed;
} life_t;

/* 16 B to 4 KiB, so that a life touches a good part of the classes. */
static int few_blocks(fixture_t *fix) {
  void *blk[BLKS];
  int missing = 0;
  for (uint i = 0; i < BLKS; i++)
    missing += !(blk[i] = fd_alloc_malloc(fix->alloc, 0, 16 + i * 100));
  for (uint i = 0; i < BLKS; i++) fd_alloc_free(fix->alloc, blk[i]);
  return missing;
}

static void *short_life(void *arg) {
  life_t *life = arg;
  /* All of a batch have a heap at the same time, so that there are as many in each batch. */
  if (few_blocks(life->fix)) life->failed++;
  pthread_barrier_wait(&life->all);
  if (few_blocks(life->fix)) life->failed++;
  return NULL;
}

/* Ten thousand threads, some at a time, use as much memory as the first of them. */
static void test_threads(void **state) {
  fixture_t *fix = *state;
  life_t life = {.fix = fix};
  pthread_barrier_init(&life.all, NULL, BATCH);
  ulong used = 0;
  for (uint at = 0; at < THREADS / BATCH; at++) {
    pthread_t thread[BATCH];
    for (uint i = 0; i < BATCH; i++)
      assert_int_equal(pthread_create(&thread[i], NULL, short_life, &life), 0);
    for (uint i = 0; i < BATCH; i++) pthread_join(thread[i], NULL);
    assert_int_equal(life.failed, 0);
    /* Who meets whom decides how many spans the first batches take. */
    if (at < 20) used = used_sz(fix->wksp) > used ? used_sz(fix->wksp) : used;
    assert_true(used_sz(fix->wksp) <= used);
  }
  fd_alloc_stat_t stat;
  assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
  assert_int_equal(stat.heap_cnt, BATCH);
  assert_int_equal(stat.suspect_cnt, 0);
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
  pthread_barrier_destroy(&life.all);
}

/* A process that has heard from its parent goes on; killed otherwise. */
static pid_t start(fixture_t *fix, int (*part)(fixture_t *fix)) {
  int fd[2];
  char said = 0;
  assert_int_equal(pipe(fd), 0);
  pid_t parent = getpid(), pid = fork();
  if (!pid) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(7);
    said = part(fix) ? 'n' : 'y';
    if (write(fd[1], &said, 1) != 1) _exit(7);
    for (;;) pause();
  }
  close(fd[1]);
  assert_int_equal(read(fd[0], &said, 1), 1);
  close(fd[0]);
  assert_int_equal(said, 'y');
  return pid;
}

static void end(pid_t pid) {
  kill(pid, SIGKILL);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static int free_listed(void *arg, fd_alloc_block_t const *block) {
  fixture_t *fix = arg;
  fd_alloc_free(fix->alloc, fd_wksp_laddr_fast(fix->wksp, block->gaddr));
  return 0;
}

/* The same of processes that are killed with memory in their hands. */
static void test_processes(void **state) {
  fixture_t *fix = *state;
  ulong used = 0;
  for (uint i = 0; i < PROCESSES; i++) {
    end(start(fix, few_blocks));
    if (i < 5) used = used_sz(fix->wksp) > used ? used_sz(fix->wksp) : used;
    assert_true(used_sz(fix->wksp) <= used);
  }
  fd_alloc_stat_t stat;
  assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
  assert_int_equal(stat.heap_cnt, 1);
  assert_int_equal(fd_alloc_walk(fix->alloc, free_listed, fix), 0);
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
}

/* Takes all the memory that there is in blocks of one size, and frees it. Their number in *ret_cnt.
 */
static int take_all(fixture_t *fix, ulong size, ulong *ret_cnt) {
  void **blk = NULL, *one;
  ulong cnt = 0;
  while ((one = fd_alloc_malloc(fix->alloc, 0, size))) {
    *(void **)one = blk;
    blk = one;
    cnt++;
  }
  while (blk) {
    one = blk;
    blk = *blk;
    fd_alloc_free(fix->alloc, one);
  }
  *ret_cnt = cnt;
  return 0;
}

static int take_all_small(fixture_t *fix) {
  ulong cnt;
  return take_all(fix, 64, &cnt) || !cnt;
}

static void *take_all_thread(void *arg) {
  return take_all_small(arg) ? arg : NULL;
}

/* A thread that had all the memory, in its magazines and spans, and ended or was killed: the next
   one gets as much, of the same size and of another, without a compact in between. */
static void test_all_at_once(void **state) {
  fixture_t *fix = *state;
  ulong all[2], cnt;
  assert_int_equal(take_all(fix, 64, &all[0]), 0);
  assert_int_equal(take_all(fix, 3000, &all[1]), 0);
  fd_alloc_leave(fix->alloc);
  for (uint turn = 0; turn < 6; turn++) {
    pthread_t thread;
    void *err = NULL;
    if (turn & 1) {
      end(start(fix, take_all_small));
    } else {
      assert_int_equal(pthread_create(&thread, NULL, take_all_thread, fix), 0);
      pthread_join(thread, &err);
      assert_null(err);
    }
    ulong size = turn < 3 ? 64 : 3000;
    assert_int_equal(take_all(fix, size, &cnt), 0);
    assert_int_equal(cnt, all[turn < 3 ? 0 : 1]);
    fd_alloc_leave(fix->alloc);
  }
  assert_clean(fix);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
      cmocka_unit_test_setup_teardown(test_processes, setup, teardown),
      cmocka_unit_test_setup_teardown(test_all_at_once, setup_small, teardown),
  };
  return cmocka_run_group_tests_name("core/alloc_adopt", tests, NULL, NULL);
}
