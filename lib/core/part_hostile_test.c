/* Ten thousand workspaces, each damaged at some random words, and everything that can be done with
   them: test_hostile.h says what must be. Built with the address sanitizer too.

   The long form has ten times as many. A round that crashes, or takes a minute, names itself and
   the seed. */

#include "core/testing.h"

#include "core/alloc.h"
#include "core/test_hostile.h"

#define TEST_ROUNDS  10000U
#define TEST_ROUND_S 60

static char g_where[160]; /* what a crash says, made before it */

static void say_where(void) {
  ssize_t wrote = write(STDERR_FILENO, g_where, strlen(g_where));
  (void)wrote;
}

/* The address sanitizer calls this before it ends the process. */
void __asan_on_error(void);
void __asan_on_error(void) {
  say_where();
}

static void on_signal(int sig) {
  say_where();
  if (sig == SIGALRM) _exit(1);
  signal(sig, SIG_DFL);
  raise(sig);
}

static void catch_crashes(void) {
  signal(SIGALRM, on_signal);
  signal(SIGABRT, on_signal);
#if !defined(__SANITIZE_ADDRESS__)
  signal(SIGSEGV, on_signal);
  signal(SIGBUS, on_signal);
  signal(SIGILL, on_signal);
  signal(SIGFPE, on_signal);
#endif
}

static uint64_t pick(void *arg, uint64_t cnt) {
  return cnt ? testing_below(arg, cnt) : testing_next(arg);
}

/* Random damage anywhere is found or harmless, and never a fault, a loop, or memory given out that
   is not the workspace's. */
static void test_damaged(void **state) {
  char const *full = getenv("WKSP_TEST_FULL");
  uint32_t rounds = full && !strcmp(full, "1") ? 10 * TEST_ROUNDS : TEST_ROUNDS;
  testing_rng_t rng = testing_rng(), own;
  uint64_t seed = rng.state / 2;
  static hostile_t hostile;
  hostile_new(&hostile, pick, &own);
  catch_crashes();
  for (uint32_t i = 0; i < rounds; i++) {
    snprintf(g_where, sizeof g_where, "# it was in round %u of WKSP_TEST_SEED=%lu\n", i, seed);
    /* each round its own numbers: a change in one does not move the rest */
    own.state = testing_next(&rng) | 1;
    alarm(TEST_ROUND_S);
    hostile_round(&hostile);
  }
  alarm(0);
  printf(
      "# %lu rounds: %lu not joined, damage found in %lu, %lu locks held by nobody who dies, %lu "
      "rebuilt\n",
      hostile.rounds, hostile.refused, hostile.found, hostile.held, hostile.rebuilt);
  assert_true(hostile.refused > rounds / 50 && hostile.found > rounds / 3 &&
              hostile.rebuilt > rounds / 4);
}

/* What was found so -----------------------------------------------------------------------------
 */

/* Puts to in the place of from wherever a word of the tables has it, but for its low six bits. */
static uint32_t replace(fd_wksp_t *wksp, uint64_t from, uint64_t to) {
  uint32_t cnt = 0;
  for (uint64_t off = wksp->part_off; off < wksp->span_off; off += 8) {
    uint64_t *word = (uint64_t *)((uintptr_t)wksp + off);
    if ((*word & ~63UL) != from) continue;
    *word = to | (*word & 63);
    cnt++;
  }
  return cnt;
}

/* A partition whose size reads 0 is not handed out, for whoever walks on by its size would never
   come to an end; verify does not either. */
static void test_size_0(void **state) {
  enum { SIZE = 64 * 77 };
  fd_wksp_t *wksp = testing_wksp(16, 65536);
  fd_wksp_part_t part;
  ulong before = fd_wksp_alloc(wksp, 64, 128, 5), gaddr = fd_wksp_alloc(wksp, 64, SIZE, 5);
  assert_int_equal(gaddr, before + 128);
  assert_true(replace(wksp, SIZE, 0) > 0);
  assert_int_equal(fd_wksp_part_next(wksp, before + 1, &part), WKSP_E_CORRUPT);
  assert_int_equal(fd_wksp_part_next(wksp, gaddr, &part), WKSP_E_CORRUPT);
  assert_int_equal(fd_wksp_tag(wksp, gaddr), 0);
  assert_int_equal(fd_wksp_free(wksp, gaddr), WKSP_E_CORRUPT);
  assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), WKSP_E_CORRUPT);
  testing_wksp_end(wksp);
}

/* A hole that reads as if it lay behind the data region is not given out. */
static void test_hole_outside(void **state) {
  fd_wksp_t *wksp = testing_wksp(16, 65536);
  ulong first = fd_wksp_alloc(wksp, 64, 4096, 5), hi = fd_wksp_gaddr_hi(wksp);
  assert_true(replace(wksp, first + 4096, hi + 4096) > 0);
  ulong const size[] = {64, 4096, 65536 - 4096}; /* the last: all of it */
  for (uint32_t i = 0; i < 6; i++) {
    assert_int_equal(fd_wksp_alloc(wksp, i < 3 ? 64 : 4096, size[i % 3], 5), 0);
    assert_int_equal(wksp_last_error_code(), WKSP_E_CORRUPT);
  }
  testing_wksp_end(wksp);

  wksp = testing_wksp(16, 65536);
  ulong small = fd_wksp_alloc(wksp, 64, 320, 5); /* exact fits are found in another way */
  assert_true(small > 0 && fd_wksp_alloc(wksp, 64, 64, 5) > 0);
  assert_int_equal(fd_wksp_free(wksp, small), 0);
  assert_true(replace(wksp, small, 1UL << 37) > 0);
  assert_int_equal(fd_wksp_alloc(wksp, 64, 320, 5), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_CORRUPT);
  testing_wksp_end(wksp);
}

/* A part of a span whose first has gone, of an fd_alloc that the directory has elsewhere: verify
   does not look there, nor does rebuild. */
static void test_home_outside(void **state) {
  fd_wksp_t *wksp = testing_wksp(64, 16UL << 20);
  void *shmem = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), 6);
  fd_alloc_t *join = fd_alloc_join(fd_alloc_new(shmem, 7), 0);
  for (ulong sz = 1024; sz <= FD_ALLOC_SMALL_MAX; sz += sz / 4) /* some spans are wide */
    assert_non_null(fd_alloc_malloc(join, 0, sz));
  fd_alloc_leave(join);
  uint64_t *words = wksp__span_words(wksp), *dir = wksp__heap_dir(wksp);
  uint32_t span = 1, home = 1;
  while (span < wksp__span_cnt(wksp) && SPAN_STATE(words[span]) != WKSP_SPAN_TAIL) span++;
  while (home < wksp->heap_max && DIR_WHAT(dir[home]) != DIR_HOME) home++;
  assert_true(span < wksp__span_cnt(wksp) && home < wksp->heap_max);
  words[span - 1] = 0;
  dir[home] = 1UL << 56 | DIR_HOME;
  assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), WKSP_E_CORRUPT);
  int err = fd_wksp_rebuild(wksp, 1, NULL, NULL); /* this thread has a heap there */
  assert_true(!err || err == WKSP_E_BUSY);
  testing_wksp_end(wksp);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_size_0),
      cmocka_unit_test(test_hole_outside),
      cmocka_unit_test(test_home_outside),
      cmocka_unit_test(test_damaged),
  };
  return cmocka_run_group_tests_name("part_hostile", tests, NULL, NULL);
}
