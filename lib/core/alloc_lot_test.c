/* Lots: blocks of another process's span that go back to their pair together. Whoever gives them is
   killed at each store in turn, and before what he was at is settled they go through other hands:
   none is lost but the one that his flight names, none is free while somebody has it.

   Built with WKSP_CRASH_POINTS, so each store to shared memory calls wksp__crash_point first. The
   workspace is small, so that an array has eight places and the ninth block makes a lot of five. */

#include "core/alloc_testing.h"

#include <sys/mman.h>

enum { SIZE = 1000, OTHER_SIZE = 500, SPAN = 64, GIVEN = 9, LOT = 5, HELD = 8 * SPAN };

/* What all processes of a test know. */
typedef struct journal {
  long at;         /* store of the victim at which something happens, 0: none */
  long passed;     /* stores of the victim */
  void *blk[HELD]; /* whose blocks somebody has; a mapping is where it was in a child */
  ulong size[HELD];
  ulong used_sz; /* of the workspace at first */
} journal_t;

static journal_t *g_journal;
static fd_wksp_t *g_wksp;
static fd_alloc_t *g_alloc;
static int g_victim, g_child;
static uint g_kept; /* first of the blocks that stay in the victim's array */
static void (*g_hook)(void);

void wksp__crash_point(void) {
  if (!g_victim || ++g_journal->passed != g_journal->at) return;
  g_victim = 0;
  g_hook();
}

static void die(void) {
  kill(getpid(), SIGKILL);
}

/* In a child cmocka would go on with the next test. */
static void must(int holds) {
  if (!holds && g_child) _exit(9);
  assert_true(holds);
}

static void hold(void *blk, ulong size) {
  uint i = 0;
  must(blk != NULL);
  for (uint j = 0; j < HELD; j++) must(g_journal->blk[j] != blk); /* not twice */
  while (g_journal->blk[i]) i++;
  g_journal->blk[i] = blk;
  g_journal->size[i] = size;
  fill(blk, size, (ulong)blk);
}

static void take(uint cnt, ulong size) {
  while (cnt--) hold(fd_alloc_malloc(g_alloc, 0, size), size);
}

static void *drop(uint i) {
  void *blk = g_journal->blk[i];
  must(intact(blk, g_journal->size[i], (ulong)blk));
  g_journal->blk[i] = NULL;
  return blk;
}

static void give(uint from, uint to) {
  for (uint i = from; i < to; i++)
    if (g_journal->blk[i]) fd_alloc_free(g_alloc, drop(i));
}

/* Runs it in a process of its own. Whether that was killed. */
static int apart(void (*run)(void)) {
  int status;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    g_child = 1;
    run();
    _exit(0);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
  return WIFSIGNALED(status);
}

static void give_lot(void) {
  fd_alloc_free(g_alloc, fd_alloc_malloc(g_alloc, 0, 48)); /* for a heap */
  give(g_kept, g_kept + GIVEN - LOT);                      /* stay in the array */
  give(0, LOT - 1);
  g_victim = 1;
  give(LOT - 1, LOT);
  g_victim = 0;
}

typedef struct seen {
  ulong cnt, known;
} seen_t;

static int look(void *arg, fd_alloc_block_t const *block) {
  seen_t *seen = arg;
  seen->cnt++;
  for (uint i = 0; i < HELD; i++)
    seen->known += g_journal->blk[i] == fd_wksp_laddr_fast(g_wksp, block->gaddr);
  return 0;
}

/* All that somebody has is live and as it was, and nothing else but at most one block. */
static void check(uint lost) {
  seen_t seen = {0};
  ulong held = 0;
  for (uint i = 0; i < HELD; i++) {
    void *blk = g_journal->blk[i];
    held += blk != NULL;
    assert_true(!blk || intact(blk, g_journal->size[i], (ulong)blk));
  }
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
  assert_int_equal(fd_alloc_walk(g_alloc, look, &seen), 0);
  assert_int_equal(seen.known, held);
  assert_true(seen.cnt - held <= lost);
}

static int free_listed(void *arg, fd_alloc_block_t const *block) {
  *(ulong *)arg = block->gaddr;
  return 1;
}

/* After the death is settled: a span's blocks are handed out once, and all can go. */
static void end(uint lost) {
  ulong gaddr = 0;
  assert_int_equal(wksp__reap(g_wksp, 0), 0);
  check(lost);
  take(SPAN, SIZE);
  check(lost);
  give(0, HELD);
  if (fd_alloc_walk(g_alloc, free_listed, &gaddr)) /* the one of the flight */
    fd_alloc_free(g_alloc, fd_wksp_laddr_fast(g_wksp, gaddr));
  assert_int_equal(fd_alloc_is_empty(g_alloc), 1);
  assert_int_equal(fd_wksp_compact(g_wksp, NULL), 0);
  assert_int_equal(used_sz(g_wksp), g_journal->used_sz);
}

/* For each store of the free that makes a lot: the hook before it, then what comes after. */
static void each_store(void (*hook)(void), void (*then)(void), uint spans, uint lost) {
  ulong lots = 0;
  g_hook = hook;
  g_kept = (spans - 1) * SPAN + LOT;
  for (long at = 1;; at++) {
    memset(g_journal->blk, 0, sizeof g_journal->blk);
    g_journal->at = at;
    g_journal->passed = 0;
    take(spans * SPAN, SIZE);
    apart(give_lot);
    for (uint32_t i = 0; i < g_wksp->slot_max; i++) lots += wksp__slots(g_wksp)[i].lot != 0;
    check(lost);
    then();
    check(lost);
    end(lost);
    if (g_journal->passed < at) break;
  }
  if (hook == die) assert_true(lots >= 3); /* killed while there was one */
}

static void nothing(void) {
}

/* In a process without a heap, which so frees one by one and settles nothing. */
static void free_taken(void) {
  give(0, GIVEN);
}

/* The owner hands out what is free again, another process frees it from elsewhere, one by one, and
   the owner hands it out once more: F is as it was before the lot. */
static void round_trip(void) {
  take(LOT, SIZE);
  apart(free_taken);
  take(LOT, SIZE);
}

/* The span's life ends, and its place in the tables is another span's, with other blocks. */
static void span_goes(void) {
  give(SPAN, SPAN + 16); /* four of these stay in the owner's array */
  give(0, SPAN);
  give(SPAN + 16, 2 * SPAN);
  take(200, OTHER_SIZE);
}

/* Nothing comes between a death and its settling. */
static void test_killed(void **state) {
  (void)state;
  each_store(die, nothing, 1, 1);
}

/* Blocks of a dead one's lot go round before it is settled. */
static void test_round_trip(void **state) {
  (void)state;
  each_store(die, round_trip, 1, 1);
}

static void test_span_goes(void **state) {
  (void)state;
  each_store(die, span_goes, 3, 1);
}

static void give_others(void) {
  give(20, 20 + 2 * GIVEN);
}

/* Somebody else gives blocks of the span while a lot is on its way: he does not wait, and both are
   done. */
static void test_meanwhile(void **state) {
  (void)state;
  each_store(give_others, nothing, 1, 0);
}

/* Whoever settles is killed at each of his stores: the next settles the same. */
static void settle(void) {
  g_victim = 1;
  (void)wksp__reap(g_wksp, 0);
  g_victim = 0;
}

static void test_settler_killed(void **state) {
  (void)state;
  g_hook = die;
  g_kept = LOT;
  for (long at = 1;; at++) {
    int more = 0;
    for (long settle_at = 1;; settle_at++) {
      memset(g_journal->blk, 0, sizeof g_journal->blk);
      g_journal->at = at;
      g_journal->passed = 0;
      take(SPAN, SIZE);
      int killed = apart(give_lot);
      int lot = 0;
      for (uint32_t i = 0; i < g_wksp->slot_max; i++) lot |= wksp__slots(g_wksp)[i].lot != 0;
      more |= killed;
      g_journal->at = settle_at;
      g_journal->passed = 0;
      killed = lot && apart(settle);
      round_trip();
      check(1);
      end(1);
      if (!killed) break;
    }
    if (!more) break;
  }
}

static int setup_lot(void **state) {
  (void)state;
  g_wksp = fd_wksp_new_anon("lot", 960UL << 10, 0, 1, 0);
  if (!g_wksp) return 1;
  g_alloc = new_alloc(g_wksp, TAG);
  fd_alloc_free(g_alloc, fd_alloc_malloc(g_alloc, 0, SIZE));
  if (fd_alloc_compact(g_alloc, NULL)) return 1;
  g_journal->used_sz = used_sz(g_wksp);
  return 0;
}

static int teardown_lot(void **state) {
  (void)state;
  fd_wksp_delete_anon(g_wksp);
  return 0;
}

int main(void) {
  g_journal =
      mmap(NULL, sizeof *g_journal, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (g_journal == MAP_FAILED) return 1;
#define T(f) cmocka_unit_test_setup_teardown(f, setup_lot, teardown_lot)
  struct CMUnitTest const tests[] = {
      T(test_killed),    T(test_round_trip),     T(test_span_goes),
      T(test_meanwhile), T(test_settler_killed),
  };
  return cmocka_run_group_tests_name("core/alloc_lot", tests, NULL, NULL);
}
