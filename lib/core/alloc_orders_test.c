/* The orders in which what several threads do to one span, heap or word can fall (test_orders.h):
   in each nothing is handed out twice, lost, or left behind.

   The first tests are the meetings of which alloc.h and alloc_span.c say why they go well: a free
   from elsewhere with all that an owner does, two of them, adoption, and a closing gate. The others
   are those of malloc_to, take_from and free_from (alloc_exact.c), also when one of them dies. */

#include "core/alloc_testing.h"
#include "core/fail.h"
#include "core/futex.h"
#include "core/test_orders.h"

#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

enum { SIZE = 1000, WORD = 64, BLOCKS = 4 * WORD };

static ulong *g_dst;
static void *g_blk[BLOCKS]; /* live ones */
static void *g_got[ORDERS_THREADS];
static int g_rc[ORDERS_THREADS];
static ulong g_bad; /* refused frees that are right */
static ulong g_budget;

static int setup_orders(void **state) {
  if (setup_sized(state, 960UL << 10)) return 1;
  memset(g_blk, 0, sizeof g_blk); /* should a test have failed */
  memset(g_got, 0, sizeof g_got);
  g_bad = 0;
  fixture_t *fix = *state;
  g_dst = fd_wksp_alloc_laddr(fix->wksp, 64, 4096, TAG);
  if (!g_dst) return 1;
  memset(g_dst, 0, 4096);
  fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, SIZE));
  if (fd_alloc_compact(fix->alloc, NULL)) return 1;
  fix->used_sz = used_sz(fix->wksp);
  g_budget = getenv("WKSP_TEST_FULL") ? 4000 : SANITIZED ? 100 : 400;
  return 0;
}

static int teardown_orders(void **state) {
  orders_tell();
  return teardown(state);
}

static void explore(fixture_t *fix, orders_case_t const *test) {
  static testing_rng_t rng;
  if (!rng.state) rng = testing_rng();
  orders_explore(fix, test, &rng, g_budget);
}

/* Afterwards
 * ------------------------------------------------------------------------------------------ */

typedef struct live {
  fixture_t *fix;
  ulong cnt, known, suspects;
  void *unknown;
} live_t;

static int is_known(fixture_t *fix, void *blk) {
  if (fd_alloc_named(g_dst) && blk == fd_wksp_laddr_fast(fix->wksp, fd_alloc_named(g_dst)))
    return 1;
  for (uint i = 0; i < BLOCKS; i++)
    if (g_blk[i] == blk) return 1;
  for (uint i = 0; i < ORDERS_THREADS; i++)
    if (g_got[i] == blk) return 1;
  return 0;
}

static int look_at(void *arg, fd_alloc_block_t const *block) {
  live_t *live = arg;
  void *blk = fd_wksp_laddr_fast(live->fix->wksp, block->gaddr);
  live->cnt++;
  live->suspects += block->kind == FD_ALLOC_BLOCK_SUSPECT;
  if (is_known(live->fix, blk))
    live->known++;
  else
    live->unknown = blk;
  return 0;
}

static ulong known_cnt(void) {
  ulong cnt = *g_dst != 0;
  for (uint i = 0; i < BLOCKS; i++) cnt += g_blk[i] != NULL;
  for (uint i = 0; i < ORDERS_THREADS; i++) cnt += g_got[i] != NULL;
  return cnt;
}

/* What is known is live, and nothing else but at most `lost` blocks; the rest is handed out once;
   afterwards all can be freed. */
static void check_all(fixture_t *fix, ulong lost) {
  assert_int_equal(wksp__reap(fix->wksp, 0), 0);
  assert_sound(fix);
  live_t live = {.fix = fix};
  assert_int_equal(fd_alloc_walk(fix->alloc, look_at, &live), 0);
  assert_int_equal(*g_dst, fd_alloc_named(g_dst));
  assert_int_equal(live.known, known_cnt());
  assert_true(live.cnt - live.known <= lost);
  if (!lost) assert_int_equal(live.suspects, 0);
  static void *more[BLOCKS];
  uint cnt = 0;
  while (cnt < 2 * WORD + 8 && (more[cnt] = fd_alloc_malloc(fix->alloc, 0, SIZE)) != NULL) cnt++;
  assert_true(cnt > WORD);
  for (uint i = 0; i < cnt; i++) {
    assert_false(is_known(fix, more[i]));
    for (uint j = 0; j < i; j++) assert_ptr_not_equal(more[i], more[j]);
  }
  for (uint i = 0; i < cnt; i++) fd_alloc_free(fix->alloc, more[i]);
  for (uint i = 0; i < BLOCKS; i++) fd_alloc_free(fix->alloc, g_blk[i]);
  for (uint i = 0; i < ORDERS_THREADS; i++) fd_alloc_free(fix->alloc, g_got[i]);
  if (*g_dst) assert_int_equal(fd_alloc_free_from(fix->alloc, g_dst), 1);
  fd_alloc_free(fix->alloc, live.unknown);
  assert_int_equal(bad_frees(fix), g_bad);
  assert_clean(fix);
  memset(g_blk, 0, sizeof g_blk);
  memset(g_got, 0, sizeof g_got);
  g_bad = 0;
}

static void after_all(fixture_t *fix, int died) {
  (void)died;
  check_all(fix, 0);
}

static void after_loss(fixture_t *fix, int died) {
  check_all(fix, (ulong)died);
}

/* Spans
 * ---------------------------------------------------------------------------------------------- */

static void mallocs(fixture_t *fix, uint from, uint to) {
  for (uint i = from; i < to; i++) g_blk[i] = fd_alloc_malloc(fix->alloc, 0, SIZE);
}

/* Each knows of his own block at once, and of one that he frees no more. */
static void give(fixture_t *fix, uint i) {
  void *blk = g_blk[i];
  g_blk[i] = NULL;
  fd_alloc_free(fix->alloc, blk);
}

static void one_full_span(fixture_t *fix, uint who) {
  if (!who) mallocs(fix, 0, WORD);
}

static void malloc_or_give(fixture_t *fix, uint who) {
  if (!who)
    g_got[0] = fd_alloc_malloc(fix->alloc, 0, SIZE);
  else
    give(fix, who);
}

/* A free from elsewhere in a span that its owner sets aside at that moment. */
static void test_free_and_set_aside(void **state) {
  explore(*state,
          &(orders_case_t){"free, set aside", 2, 4, -1, one_full_span, malloc_or_give, after_all});
  explore(*state, &(orders_case_t){"two frees, set aside", 3, 3, -1, one_full_span, malloc_or_give,
                                   after_all});
}

static void three_full_spans(fixture_t *fix, uint who) {
  if (!who) mallocs(fix, 0, 3 * WORD);
}

static void drain_or_give(fixture_t *fix, uint who) {
  if (!who) { /* sets the third aside, drains or looks through the others */
    g_got[0] = fd_alloc_malloc(fix->alloc, 0, SIZE);
    g_got[1] = fd_alloc_malloc(fix->alloc, 0, SIZE);
  } else {
    give(fix, who * WORD - 1);
  }
}

/* Frees from elsewhere in full spans while their owner drains what he is told. */
static void test_free_and_drain(void **state) {
  explore(*state,
          &(orders_case_t){"free, drain", 2, 4, -1, three_full_spans, drain_or_give, after_all});
  explore(*state, &(orders_case_t){"two frees, drain", 3, 3, -1, three_full_spans, drain_or_give,
                                   after_all});
}

/* The same when the one who frees is killed: what he has freed is free, and found. */
static void test_push_lost(void **state) {
  explore(*state, &(orders_case_t){"push lost, set aside", 2, 2, 1, one_full_span, malloc_or_give,
                                   after_loss});
  explore(*state, &(orders_case_t){"push lost, drain", 3, 1, 1, three_full_spans, drain_or_give,
                                   after_loss});
}

static void nearly_free_span(fixture_t *fix, uint who) {
  if (who) return;
  mallocs(fix, 0, 2 * WORD + 1);
  for (uint i = 10; i < WORD; i++) give(fix, i);
}

static void retire_or_give(fixture_t *fix, uint who) {
  if (who)
    give(fix, who - 1);
  else
    for (uint i = 2; i < 10; i++) give(fix, i); /* more than the array has room for */
}

/* A free from elsewhere in a span of which the owner gives the last blocks back. */
static void test_free_and_retire(void **state) {
  explore(*state,
          &(orders_case_t){"free, retire", 2, 3, -1, nearly_free_span, retire_or_give, after_all});
  explore(*state, &(orders_case_t){"two frees, retire", 3, 2, -1, nearly_free_span, retire_or_give,
                                   after_all});
}

/* Thread 1's array is full: the next that it frees makes a lot of five. */
static void full_array(fixture_t *fix, uint who) {
  if (!who) mallocs(fix, 0, WORD);
  if (who != 1) return;
  fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 48)); /* for a heap */
  for (uint i = 0; i < 8; i++) give(fix, i);
}

static void lot_round(fixture_t *fix, uint who) {
  void *blk = g_got[0];
  if (!who)
    g_got[0] = fd_alloc_malloc(fix->alloc, 0, SIZE);
  else if (who == 1)
    give(fix, 8);
  else if (blk) { /* without a heap: to its pair at once */
    g_got[0] = NULL;
    fd_alloc_free(fix->alloc, blk);
  }
}

/* A lot whose blocks the owner hands out and somebody frees meanwhile, also when its thread dies.
 */
static void test_lot(void **state) {
  explore(*state, &(orders_case_t){"lot", 3, 3, -1, full_array, lot_round, after_all});
  explore(*state, &(orders_case_t){"lot, dies", 2, 3, 1, full_array, lot_round, after_loss});
  explore(*state, &(orders_case_t){"lot, dies, round", 3, 2, 1, full_array, lot_round, after_loss});
}

static void leave_full_spans(fixture_t *fix, uint who) {
  if (who) return;
  mallocs(fix, 0, 2 * WORD);
  fd_alloc_leave(fix->alloc);
}

static void free_one(fixture_t *fix, uint who) {
  (void)who;
  fd_alloc_free(fix->alloc, g_blk[3]);
}

static void after_double(fixture_t *fix, int died) {
  g_blk[3] = NULL;
  g_bad = 1;
  after_all(fix, died);
}

/* Of two who free one block from elsewhere one is refused, and the block is free once. */
static void test_double_free(void **state) {
  explore(*state,
          &(orders_case_t){"double free", 2, 5, -1, leave_full_spans, free_one, after_double});
}

/* A heap as a killed thread leaves it, with magazines and full spans. */
static void leave_dead(fixture_t *fix, uint who) {
  if (who) return;
  mallocs(fix, 0, 2 * WORD + 2);
  give(fix, WORD + 5);
  for (uint32_t id = 1; id < fix->wksp->heap_max; id++) {
    wksp__heap_t *heap = wksp__heap_of(fix->wksp, id, fix->alloc->self);
    if (!heap || !heap->owner) continue;
    fd_alloc_leave(fix->alloc);
    heap->owner = WKSP_OWNER_DEAD;
    return;
  }
}

/* A free from elsewhere in a span whose heap is taken over. */
static void test_free_and_adopt(void **state) {
  explore(*state, &(orders_case_t){"free, adopt", 2, 3, -1, leave_dead, malloc_or_give, after_all});
  explore(*state,
          &(orders_case_t){"free, adopt, dies", 2, 1, 0, leave_dead, malloc_or_give, after_loss});
  explore(*state,
          &(orders_case_t){"two frees, adopt", 3, 2, -1, leave_dead, malloc_or_give, after_all});
}

static void malloc_one(fixture_t *fix, uint who) {
  g_got[who] = fd_alloc_malloc(fix->alloc, 0, SIZE);
}

/* Two who want the heap of a dead thread, and one of them dies. */
static void test_two_adopt(void **state) {
  explore(*state, &(orders_case_t){"two adopt", 2, 2, -1, leave_dead, malloc_one, after_all});
  explore(*state,
          &(orders_case_t){"two adopt, one dies", 2, 1, 0, leave_dead, malloc_one, after_loss});
}

static void few_blocks(fixture_t *fix, uint who) {
  if (!who) mallocs(fix, 0, 10);
  if (!who) give(fix, 1);
}

static void work_or_compact(fixture_t *fix, uint who) {
  if (who) {
    g_rc[who] = fd_alloc_compact(fix->alloc, NULL);
  } else {
    give(fix, 2);
    g_got[0] = fd_alloc_malloc(fix->alloc, 0, SIZE);
  }
}

/* A compact takes a thread's heap, or is too late for it, whatever the thread is about to do. */
static void test_gate(void **state) {
  explore(*state, &(orders_case_t){"gate", 2, 2, -1, few_blocks, work_or_compact, after_all});
  explore(*state,
          &(orders_case_t){"gate, closer dies", 2, 1, 1, few_blocks, work_or_compact, after_loss});
  explore(*state,
          &(orders_case_t){"gate, owner dies", 2, 1, 0, few_blocks, work_or_compact, after_loss});
}

/* Words
 * ---------------------------------------------------------------------------------------------- */

/* All have heaps, and an array with a block. */
static void with_heaps(fixture_t *fix, uint who) {
  (void)who;
  fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, SIZE));
}

static void with_word(fixture_t *fix, uint who) {
  with_heaps(fix, who);
  if (!who) (void)fd_alloc_malloc_to(fix->alloc, 0, SIZE, g_dst);
}

static void fill_word(fixture_t *fix, uint who) {
  g_rc[who] = fd_alloc_malloc_to(fix->alloc, 0, SIZE, g_dst);
}

static void take_word(fixture_t *fix, uint who) {
  g_got[who] = fd_alloc_take_from(fix->alloc, g_dst);
}

static void free_word(fixture_t *fix, uint who) {
  g_rc[who] = fd_alloc_free_from(fix->alloc, g_dst);
}

static void after_two_fill(fixture_t *fix, int died) {
  assert_true(*g_dst != 0);
  if (!died) assert_int_equal(g_rc[0] + g_rc[1], WKSP_E_BUSY);
  after_all(fix, died);
}

/* Of two who fill one word one is refused. */
static void test_fill_fill(void **state) {
  explore(*state, &(orders_case_t){"fill, fill", 2, 4, -1, with_heaps, fill_word, after_two_fill});
  explore(*state,
          &(orders_case_t){"fill, fill, one dies", 2, 2, 0, with_heaps, fill_word, after_all});
}

static void fill_or_free(fixture_t *fix, uint who) {
  if (!who)
    fill_word(fix, who);
  else if (who == 1)
    free_word(fix, who);
  else
    take_word(fix, who);
}

static void after_fill_free(fixture_t *fix, int died) {
  if (!died) {
    assert_int_equal(g_rc[0], 0);
    assert_int_equal((g_rc[1] == 1) + (*g_dst != 0) + (g_got[2] != NULL), 1);
  }
  after_all(fix, died);
}

/* A word that is filled is taken before or after, whole; so it is if the one who fills it dies. */
static void test_fill_take(void **state) {
  explore(*state,
          &(orders_case_t){"fill, free", 2, 4, -1, with_heaps, fill_or_free, after_fill_free});
  explore(*state, &(orders_case_t){"fill, free, take", 3, 3, -1, with_heaps, fill_or_free,
                                   after_fill_free});
  explore(*state, &(orders_case_t){"fill, free, filler dies", 2, 3, 0, with_heaps, fill_or_free,
                                   after_fill_free});
  explore(*state, &(orders_case_t){"fill, free, take, filler dies", 3, 2, 0, with_heaps,
                                   fill_or_free, after_fill_free});
  explore(*state, &(orders_case_t){"fill, free, freer dies", 2, 3, 1, with_heaps, fill_or_free,
                                   after_fill_free});
}

static void take_or_free(fixture_t *fix, uint who) {
  if (who == 1)
    free_word(fix, who);
  else
    take_word(fix, who);
}

static void after_take_free(fixture_t *fix, int died) {
  if (!died) assert_int_equal((g_rc[1] == 1) + (g_got[0] != NULL) + (g_got[2] != NULL), 1);
  check_all(fix, 0);
}

/* Of those who want the block of a word one gets it. */
static void test_take_free(void **state) {
  explore(*state,
          &(orders_case_t){"take, free", 2, 4, -1, with_word, take_or_free, after_take_free});
  explore(*state,
          &(orders_case_t){"take, free, take", 3, 3, -1, with_word, take_or_free, after_take_free});
  explore(*state, &(orders_case_t){"take, free, freer dies", 2, 3, 1, with_word, take_or_free,
                                   after_take_free});
}

static void after_taker_dies(fixture_t *fix, int died) {
  check_all(fix, (ulong)died); /* he may have had it in his hands already */
}

static void take_or_refill(fixture_t *fix, uint who) {
  if (!who)
    take_word(fix, who);
  else
    fill_word(fix, who);
}

/* A word that is emptied and filled again holds the new block, or the old one, never both. */
static void test_take_refill(void **state) {
  explore(*state, &(orders_case_t){"take, fill", 2, 4, -1, with_word, take_or_refill, after_all});
  explore(*state, &(orders_case_t){"take, fill, taker dies", 2, 3, 0, with_word, take_or_refill,
                                   after_taker_dies});
}

static void dies_or_comes_by(fixture_t *fix, uint who) {
  if (who == 1)
    g_got[1] = fd_alloc_malloc(fix->alloc, 0, SIZE); /* may have to take a heap */
  else if (who == 2)
    free_word(fix, who);
  else if (*g_dst)
    free_word(fix, who);
  else
    fill_word(fix, who);
}

static void no_heap_but_mine(fixture_t *fix, uint who) {
  if (!who) with_heaps(fix, who);
}

static void no_heap_with_word(fixture_t *fix, uint who) {
  if (!who) with_word(fix, who);
}

/* What a dead thread was at is settled before his heap is taken, whoever else is at his word. */
static void test_settle(void **state) {
  explore(*state, &(orders_case_t){"fill, adopt, free", 3, 2, 0, no_heap_but_mine, dies_or_comes_by,
                                   after_all});
  explore(*state, &(orders_case_t){"free, adopt, free", 3, 2, 0, no_heap_with_word,
                                   dies_or_comes_by, after_all});
}

static void fill_free_or_compact(fixture_t *fix, uint who) {
  if (who)
    g_rc[who] = fd_alloc_compact(fix->alloc, NULL);
  else if (*g_dst)
    free_word(fix, who);
  else
    fill_word(fix, who);
}

/* A compact that waits at the gate of a thread which dies inside settles what that was at before it
   takes the heap. */
static void test_gate_settles(void **state) {
  explore(*state, &(orders_case_t){"gate, filler dies", 2, 2, 0, with_heaps, fill_free_or_compact,
                                   after_all});
  explore(*state, &(orders_case_t){"gate, freer dies", 2, 2, 0, with_word, fill_free_or_compact,
                                   after_all});
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_orders, teardown_orders)
  struct CMUnitTest const tests[] = {
      T(test_free_and_set_aside),
      T(test_free_and_drain),
      T(test_push_lost),
      T(test_free_and_retire),
      T(test_lot),
      T(test_double_free),
      T(test_free_and_adopt),
      T(test_two_adopt),
      T(test_gate),
      T(test_fill_fill),
      T(test_fill_take),
      T(test_take_free),
      T(test_take_refill),
      T(test_settle),
      T(test_gate_settles),
  };
  return cmocka_run_group_tests_name("core/alloc_orders", tests, NULL, NULL);
}
