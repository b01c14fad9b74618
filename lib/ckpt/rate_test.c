/* Tests of the bound on bytes a second, by a clock of our own: naps make it go on, and nothing
   else does but what pieces say that they take. */

#include "ckpt/testing.h"

#include "ckpt/work.h"
#include "core/call.h"

#include <time.h>

#define PIECE_SZ (1UL << 20)

static uint64_t clock_ns, nap_cnt, piece_ns, piece_cnt;

uint64_t __wrap_wksp__now_ns(void);
int __wrap_nanosleep(struct timespec const *nap, struct timespec *left);

uint64_t __wrap_wksp__now_ns(void) {
  return clock_ns;
}

int __wrap_nanosleep(struct timespec const *nap, struct timespec *left) {
  uint64_t ns = (uint64_t)nap->tv_sec * 1000000000UL + (uint64_t)nap->tv_nsec;
  assert_true(ns > 0);
  clock_ns += ns;
  nap_cnt++;
  return 0;
}

static int piece(void *arg, uint32_t thread, uint64_t idx, wksp__ck_work_t *work) {
  clock_ns += piece_ns;
  piece_cnt++;
  wksp__ck_work_done(work, PIECE_SZ, 0);
  return 0;
}

/* Bytes a second that cnt pieces came to, with that bound, each of them taking take_ns. */
static double rate_of(uint64_t rate, uint64_t cnt, uint64_t take_ns) {
  wksp__ck_job_t job = {
      .piece = piece, .cnt = cnt, .threads = 1, .phase = WKSP_CKPT_PHASE_SCAN, .rate = rate};
  uint64_t begin = clock_ns;
  piece_ns = take_ns;
  piece_cnt = nap_cnt = 0;
  assert_int_equal(wksp__ck_work(&job), 0);
  assert_int_equal(piece_cnt, cnt);
  return (double)(cnt * PIECE_SZ) / ((double)(clock_ns - begin) / 1e9);
}

/* What takes no time by itself comes to the rate that is wanted, whatever that is, and not to more
   by a thousandth; nor to less. */
static void bound(void **state) {
  static uint64_t const rates[] = {PIECE_SZ, 100UL << 20, 3000000007UL, 20UL << 30};
  clock_ns = 5000000000UL;
  for (uint i = 0; i < sizeof rates / sizeof rates[0]; i++) {
    double got = rate_of(rates[i], 256, 0);
    assert_true(got < (double)rates[i] * 1.001 && got > (double)rates[i] * 0.999);
    assert_true(nap_cnt > 0);
  }
}

/* What is slower by itself is not held back at all; and without a bound nothing is. */
static void slow(void **state) {
  uint64_t before = clock_ns;
  (void)rate_of(100UL << 20, 64, 20000000);
  assert_int_equal(clock_ns - before, 64 * 20000000UL);
  assert_int_equal(nap_cnt, 0);
  before = clock_ns;
  (void)rate_of(0, 64, 0);
  assert_int_equal(clock_ns, before);
  assert_int_equal(nap_cnt, 0);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(bound),
      cmocka_unit_test(slow),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
