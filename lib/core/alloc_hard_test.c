/* What a hardened build (-Dhardened=true) finds beyond the others. */

#include "core/alloc_testing.h"

#ifndef WKSP_HARDENED
#error "part of hardened builds only"
#endif

static fd_alloc_stat_t stat_of(fixture_t *fix) {
  fd_alloc_stat_t stat;
  assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
  return stat;
}

typedef struct job {
  fixture_t *fix;
  void **blk;
  uint cnt;
  pthread_barrier_t *turn;
} job_t;

static void *free_them(void *arg) {
  job_t *job = arg;
  if (job->turn) pthread_barrier_wait(job->turn);
  for (uint i = 0; i < job->cnt; i++) fd_alloc_free(job->fix->alloc, job->blk[i]);
  return NULL;
}

static void in_thread(job_t *job) {
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, free_them, job), 0);
  pthread_join(thread, NULL);
}

/* A block that lies in a magazine, however deep, of this thread, of another, or of one that has
   ended, is refused when it is freed again, each time, and serves once. */
static void test_double_free_anywhere(void **state) {
  fixture_t *fix = *state;
  enum { CNT = 200 };
  void *blk[CNT];
  for (uint i = 0; i < CNT; i++) assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, 64));
  job_t job = {fix, blk, CNT, NULL};
  free_them(&job);
  ulong bad = 0;
  assert_int_equal(bad_frees(fix), bad);
  free_them(&job); /* from the thread that has them */
  assert_int_equal(bad_frees(fix), bad += CNT);
  in_thread(&job); /* from another */
  assert_int_equal(bad_frees(fix), bad += CNT);
  for (uint i = 0; i < CNT; i++) assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, 64));
  for (uint i = 0; i < CNT; i++)
    for (uint j = 0; j < i; j++) assert_ptr_not_equal(blk[i], blk[j]);
  in_thread(&job); /* into the magazines of one that has ended */
  assert_int_equal(bad_frees(fix), bad);
  free_them(&job);
  assert_int_equal(bad_frees(fix), bad += CNT);
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
  assert_clean(fix);
}

/* Two threads free the same blocks at once: each block goes once. */
static void test_double_free_at_once(void **state) {
  fixture_t *fix = *state;
  enum { CNT = 2000 };
  void *blk[CNT];
  pthread_barrier_t turn;
  pthread_barrier_init(&turn, NULL, 2);
  for (uint i = 0; i < CNT; i++)
    assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, 16 + i % 300));
  job_t job = {fix, blk, CNT, &turn};
  pthread_t thread[2];
  for (uint i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&thread[i], NULL, free_them, &job), 0);
  for (uint i = 0; i < 2; i++) pthread_join(thread[i], NULL);
  assert_int_equal(bad_frees(fix), CNT);
  assert_clean(fix);
  pthread_barrier_destroy(&turn);
}

/* Addresses inside of blocks, behind the last one, and of blocks that nobody has got, are refused.
 */
static void test_wild(void **state) {
  fixture_t *fix = *state;
  uchar *blk = fd_alloc_malloc(fix->alloc, 0, 100);
  ulong bad = 0;
  for (uint off = 1; off < 112; off++) {
    fd_alloc_free(fix->alloc, blk + off);
    assert_int_equal(bad_frees(fix), ++bad);
  }
  fd_alloc_free(fix->alloc, blk + 112); /* its neighbour, in a magazine at best */
  assert_int_equal(bad_frees(fix), ++bad);
  fd_alloc_free(fix->alloc, blk);
  assert_int_equal(bad_frees(fix), bad);
  assert_clean(fix);
}

/* A write to a freed block, wherever in it, is counted and told when the block is handed out;
   blocks that were left alone are not. */
static void test_write_after_free(void **state) {
  fixture_t *fix = *state;
  static ulong const sizes[] = {16, 48, 512, 16384};
  ulong found = 0;
  for (uint i = 0; i < 4; i++)
    for (uint at = 0; at < 3; at++) {
      uchar *blk = fd_alloc_malloc(fix->alloc, 0, sizes[i]);
      assert_int_equal(stat_of(fix).late_write_cnt, found);
      fd_alloc_free(fix->alloc, blk);
      blk[at == 0 ? 0 : at == 1 ? sizes[i] / 2 : sizes[i] - 1] ^= 1;
      assert_ptr_equal(fd_alloc_malloc(fix->alloc, 0, sizes[i]), blk);
      assert_int_equal(stat_of(fix).late_write_cnt, ++found);
      assert_int_equal(wksp_last_error_code(), WKSP_E_CORRUPT);
      assert_non_null(strstr(wksp_last_error(), "after he has freed it"));
      fd_alloc_free(fix->alloc, blk);
    }
  assert_clean(fix);
}

/* Random work that makes no mistake is told of none, with memory that changes its class. */
static void test_no_false_alarm(void **state) {
  fixture_t *fix = *state;
  testing_rng_t r = testing_rng();
  held_t *held = calloc(LIVE, sizeof *held);
  int failed = 0;
  for (uint turn = 0; turn < 4; turn++) {
    random_ops(fix->alloc, held, 20000, &r, &failed);
    free_all(fix->alloc, held, &failed);
    if (turn & 1) assert_clean(fix);
  }
  free(held);
  assert_int_equal(failed, 0);
  assert_int_equal(bad_frees(fix), 0);
  assert_int_equal(stat_of(fix).late_write_cnt, 0);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  struct CMUnitTest const tests[] = {
      T(test_double_free_anywhere), T(test_double_free_at_once), T(test_wild),
      T(test_write_after_free),     T(test_no_false_alarm),
  };
  return cmocka_run_group_tests_name("core/alloc_hard", tests, NULL, NULL);
}
