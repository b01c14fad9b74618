/* Ten thousand workspaces, each damaged at some random words, and everything that can be done with
   them: test_hostile.h says what must be. Built with the address sanitizer too.

   The long form has ten times as many. A round that crashes, or takes a minute, names itself and
   the seed. */

#include "core/testing.h"

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
  printf("# %lu rounds: %lu not joined, damage found in %lu, %lu locks held by nobody who dies\n",
         hostile.rounds, hostile.refused, hostile.found, hostile.held);
  assert_true(hostile.refused > rounds / 50 && hostile.found > rounds / 3);
}

int main(void) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(test_damaged)};
  return cmocka_run_group_tests_name("part_hostile", tests, NULL, NULL);
}
