/* The workspace's lock, killed at each of its own stores: taking, waiting, giving up, taking over.
   Built with WKSP_CRASH_POINTS; every actor is a process, so that its death is the kernel's word.

   What must be: who comes next gets the lock, at once or after the millisecond in which waiters
   look again; never two at a time; and nothing is left in the lock's word. */

#include "core/testing.h"

#include "core/atomic.h"
#include "core/call.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS      1000000UL
#define LONG_NS (20000UL * MS) /* whoever waits longer has been forgotten */

#if defined(__SANITIZE_ADDRESS__)
#define TEST_RACES 40
#else
#define TEST_RACES 300
#endif

/* Stores until the end of this process, the one at which it ends included; 0: none. */
static uint64_t g_left;

/* Not 0: before some stores the others get a turn, so that what was looked at is no longer so. */
static uint32_t g_turn;

void wksp__crash_point(void) {
  if (g_turn && g_turn++ % 3 == 0) sched_yield();
  if (g_left && !--g_left) _exit(9);
}

static fd_wksp_t *g_wksp;

static int setup(void **state) {
  g_wksp = testing_wksp(16, 65536);
  return 0;
}

static int teardown(void **state) {
  testing_wksp_end(g_wksp);
  return 0;
}

/* Actors --------------------------------------------------------------------------------------- */

/* A process that takes the lock, says so, waits for a word, and gives it up; both ends are ours. */
typedef struct actor {
  pid_t pid;
  int says, hears;
} actor_t;

/* Takes the lock within timeout_ns and does nothing with it. */
static int take_and_give(uint64_t timeout_ns) {
  wksp__call_t call;
  int rc = wksp__call_begin(g_wksp, &call);
  if (rc) return rc;
  rc = wksp__lock(&call, timeout_ns);
  if (!rc) wksp__unlock(&call);
  wksp__call_end(&call);
  return rc;
}

static void hold(int says, int hears) {
  wksp__call_t call;
  uint64_t at;
  if (wksp__call_begin(g_wksp, &call) || wksp__lock(&call, LONG_NS)) _exit(7);
  if (write(says, "x", 1) != 1 || read(hears, &at, sizeof at) != (ssize_t)sizeof at) _exit(8);
  g_left = at;
  wksp__unlock(&call);
  wksp__call_end(&call);
}

static actor_t holder(void) {
  int down[2], up[2];
  char byte;
  assert_int_equal(pipe(down), 0);
  assert_int_equal(pipe(up), 0);
  actor_t actor = {.says = up[0], .hears = down[1], .pid = fork()};
  assert_true(actor.pid >= 0);
  if (!actor.pid) {
    close(up[0]);
    close(down[1]);
    hold(up[1], down[0]);
    _exit(0);
  }
  close(up[1]);
  close(down[0]);
  assert_int_equal(read(actor.says, &byte, 1), 1);
  return actor;
}

/* How it ended: 0 by itself, 9 at its store, another number by itself with that number. */
static int ended(pid_t pid) {
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

/* Makes the holder give up the lock and end at the at-th store of that; 0: go through. */
static int holder_gives(actor_t *actor, uint64_t at) {
  assert_int_equal(write(actor->hears, &at, sizeof at), (ssize_t)sizeof at);
  close(actor->hears);
  close(actor->says);
  return ended(actor->pid);
}

static void holder_dies(actor_t *actor) {
  assert_int_equal(kill(actor->pid, SIGKILL), 0);
  assert_int_equal(waitpid(actor->pid, NULL, 0), actor->pid);
  close(actor->hears);
  close(actor->says);
}

/* A process that takes the lock and gives it, ending at its at-th store (0: none). It ends with 1
   if it did not get it in time. */
static pid_t taker(uint64_t at, uint64_t timeout_ns) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    g_left = at;
    _exit(take_and_give(timeout_ns) ? 1 : 0);
  }
  return pid;
}

static void wait_for_waiters(void) {
  uint64_t until = wksp__now_ns() + LONG_NS;
  while (!wksp__ld(&wksp__vol(g_wksp)->lock_waiters)) {
    assert_true(wksp__now_ns() < until);
    sched_yield();
  }
}

/* The lock is to be had, and nobody's afterwards. */
static void expect_sound(void) {
  assert_int_equal(take_and_give(LONG_NS), 0);
  assert_int_equal(wksp__ld(&wksp__vol(g_wksp)->lock), 0);
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
}

/* Tests ---------------------------------------------------------------------------------------- */

/* Who ends at any store of taking and giving the lock leaves it to the next. */
static void test_take(void **state) {
  uint64_t at = 1;
  while (ended(taker(at, LONG_NS)) == 9) {
    expect_sound();
    at++;
  }
  expect_sound();
  assert_true(at > 5);
}

/* Who ends at any store of waiting leaves holder and lock as they were; the holder is named as long
   as he lives. */
static void test_wait(void **state) {
  actor_t actor = holder();
  char said[32];
  uint64_t at = 1;
  snprintf(said, sizeof said, "%d", (int)actor.pid);
  for (int how = 9; how == 9; at++) {
    how = ended(taker(at, 5 * MS));
    assert_true(how == 9 || how == 1);
    assert_int_equal(take_and_give(MS), WKSP_E_TIMEDOUT);
    assert_non_null(strstr(wksp_last_error(), said));
  }
  assert_true(at > 5);
  assert_int_equal(holder_gives(&actor, 0), 0);
  expect_sound();
}

/* Who ends at any store of giving up the lock, after which he would have woken the waiters, does
   not leave them asleep. */
static void test_give_to_waiters(void **state) {
  int how = 9;
  uint64_t at = 1;
  for (; how == 9; at++) {
    actor_t actor = holder();
    pid_t waiter[2] = {taker(0, LONG_NS), taker(0, LONG_NS)};
    wait_for_waiters();
    how = holder_gives(&actor, at);
    assert_true(how == 9 || how == 0);
    assert_int_equal(ended(waiter[0]), 0);
    assert_int_equal(ended(waiter[1]), 0);
    expect_sound();
  }
  assert_true(at > 2);
}

/* Who ends at any store of taking over from the dead, waiters or none, is taken over from. */
static void test_take_over(void **state) {
  for (uint32_t waited = 0; waited < 2; waited++) {
    int how = 9;
    uint64_t at = 1;
    for (; how == 9; at++) {
      actor_t actor = holder();
      if (waited) assert_int_equal(ended(taker(0, 3 * MS)), 1); /* leaves his mark */
      holder_dies(&actor);
      how = ended(taker(at, LONG_NS));
      assert_true(how == 9 || how == 0);
      if (at % 2) assert_int_equal(ended(taker(0, LONG_NS)), 0);
      expect_sound();
    }
    assert_true(at > 5);
  }
}

/* A race's members: inside the lock, inside is the member's number + 1. */
enum { RACERS = 4, RACE_TURNS = 40, RACE_VICTIM = 0 };

static void race(_Atomic uint32_t *inside, uint32_t me, uint64_t at) {
  wksp__call_t call;
  g_left = at;
  g_turn = 1 + me;
  for (uint32_t i = 0; i < RACE_TURNS; i++) {
    if (wksp__call_begin(g_wksp, &call) || wksp__lock(&call, LONG_NS)) _exit(7);
    uint32_t was = *inside;
    if (was && was != RACE_VICTIM + 1)
      _exit(6); /* only the one that ends inside leaves its number */
    *inside = me + 1;
    for (uint32_t k = i % 4 * 20; k; k--) wksp__compiler_fence();
    if (i % 16 == 3) sched_yield();
    if (*inside != me + 1) _exit(5);
    *inside = 0;
    wksp__unlock(&call);
    wksp__call_end(&call);
  }
}

/* Of several processes that want the lock all the time, one ends at a random store, also just when
   another has ended with the lock: the others all come through, and one at a time. */
static void test_race(void **state) {
  testing_rng_t rng = testing_rng();
  _Atomic uint32_t *inside = testing_map(4096);
  uint32_t ends = 0;
  for (uint32_t i = 0; i < TEST_RACES; i++) {
    actor_t actor = holder();
    uint64_t at = 1 + testing_below(&rng, 250);
    pid_t pid[RACERS];
    *inside = 0;
    for (uint32_t k = 0; k < RACERS; k++) {
      pid[k] = fork();
      assert_true(pid[k] >= 0);
      if (!pid[k]) {
        race(inside, k, k == RACE_VICTIM ? at : 0);
        _exit(0);
      }
    }
    if (i % 2) wait_for_waiters();
    holder_dies(&actor);
    for (uint32_t k = 0; k < RACERS; k++) {
      int how = ended(pid[k]);
      ends += how == 9;
      assert_int_equal(how == 9 && k == RACE_VICTIM ? 0 : how, 0);
    }
    expect_sound();
  }
  printf("# %u of %u ended in the race\n", ends, TEST_RACES);
  assert_true(ends > TEST_RACES / 2);
  assert_int_equal(munmap((void *)inside, 4096), 0);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  struct CMUnitTest const tests[] = {
      T(test_take), T(test_wait), T(test_give_to_waiters), T(test_take_over), T(test_race),
  };
  return cmocka_run_group_tests_name("lock_crash", tests, NULL, NULL);
}
