/* fd_alloc under signals: a handler that allocates, or never returns, comes before any store to
   shared memory of the call that it interrupts. */

#include "core/alloc_testing.h"
#include "core/fail.h"
#include "core/map.h"

/* A signal comes before store number signal_at; 0: none does. */
static long signal_at;
static uint32_t signals, refused;
static fixture_t *g_fix;
static sigjmp_buf g_out;
static void *g_inner;
static int (*g_handler)(void); /* whether it leaves by longjmp */

void wksp__crash_point(void) {
  if (signal_at && !--signal_at) raise(SIGUSR1);
}

static void on_signal(int sig) {
  (void)sig;
  signals++;
  if (g_handler()) siglongjmp(g_out, 1);
}

/* Of sizes that are at hand, or need a span, or the workspace's lock. */
static int malloc_in_handler(void) {
  g_inner = fd_alloc_malloc(g_fix->alloc, 0, 64);
  void *other = fd_alloc_malloc(g_fix->alloc, 0, 3000);
  void *large = fd_alloc_malloc(g_fix->alloc, 0, 70000);
  if (!g_inner || !other || !large) refused++;
  fd_alloc_free(g_fix->alloc, other);
  fd_alloc_free(g_fix->alloc, large);
  return 0;
}

static int jump(void) {
  return 1;
}

static int malloc_and_jump(void) {
  malloc_in_handler();
  return 1;
}

static int setup_signal(void **state) {
  struct sigaction action = {.sa_handler = on_signal};
  if (sigaction(SIGUSR1, &action, NULL)) return 1;
  int err = setup_sized(state, 16UL << 20);
  g_fix = *state;
  signals = refused = 0;
  signal_at = 0;
  return err;
}

static uint64_t nested_cnt(fixture_t *fix) {
  uint64_t cnt = 0;
  for (uint32_t i = 0; i < fix->wksp->slot_max; i++) cnt += wksp__slots(fix->wksp)[i].nested_cnt;
  return cnt;
}

/* The interrupted calls: malloc and free of each of these. 5000: of a class that nobody has used.
 */
static ulong const g_sizes[] = {64, 5000, 90000};
enum { SIZES = 3, STORES_MAX = 2000 };

/* One call that a signal interrupts before its store number `at`: a malloc to *blk, or if there is
   one its free. 1 if no signal came, for the call has fewer stores. */
static int interrupted(fixture_t *fix, ulong size, long at, void **blk) {
  uint32_t before = signals;
  g_inner = NULL;
  if (!sigsetjmp(g_out, 1)) {
    signal_at = at;
    if (*blk) {
      void *mine = *blk;
      *blk = NULL;
      fd_alloc_free(fix->alloc, mine);
    } else {
      *blk = fd_alloc_malloc(fix->alloc, 0, size);
    }
  }
  signal_at = 0;
  return signals == before;
}

/* A handler gets what it asks for, whichever store of a malloc or free it comes before; what it
   interrupts goes on as if nothing had been, and its calls are counted as nested. */
static void test_malloc_in_handlers(void **state) {
  fixture_t *fix = *state;
  g_handler = malloc_in_handler;
  for (uint i = 0; i < SIZES; i++)
    for (int freeing = 0; freeing < 2; freeing++)
      for (long at = 1, through = 0; !through; at++) {
        assert_true(at < STORES_MAX);
        void *blk = NULL;
        if (freeing) assert_non_null(blk = fd_alloc_malloc(fix->alloc, 0, g_sizes[i]));
        through = interrupted(fix, g_sizes[i], at, &blk);
        if (!freeing) assert_non_null(blk);
        if (g_inner) assert_ptr_not_equal(g_inner, blk);
        fd_alloc_free(fix->alloc, blk);
        fd_alloc_free(fix->alloc, g_inner);
        assert_int_equal(fd_alloc_is_empty(fix->alloc), 1);
        assert_clean(fix); /* so that the next one needs spans again */
      }
  assert_int_equal(refused, 0);
  assert_true(signals > 100);
  assert_true(nested_cnt(fix) >= signals);
  assert_int_equal(bad_frees(fix), 0);
}

static int count_live(void *arg, fd_alloc_block_t const *block) {
  fixture_t *fix = g_fix;
  ++*(uint32_t *)arg;
  fd_alloc_free(fix->alloc, fd_wksp_laddr_fast(fix->wksp, block->gaddr));
  return 0;
}

static void *few_of_another(void *arg) {
  fixture_t *fix = arg;
  for (uint i = 0; i < SIZES; i++) {
    void *blk = fd_alloc_malloc(fix->alloc, 0, g_sizes[i]);
    if (!blk) return fix;
    fd_alloc_free(fix->alloc, blk);
  }
  return NULL;
}

/* Blocks of one size are different ones. */
static void assert_distinct(fixture_t *fix, ulong size) {
  enum { CNT = 70 };
  ulong *blk[CNT];
  if (size > FD_ALLOC_SMALL_MAX) return;
  for (ulong i = 0; i < CNT; i++) {
    assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, size));
    *blk[i] = i;
  }
  for (ulong i = 0; i < CNT; i++) assert_int_equal(*blk[i], i);
  for (ulong i = 0; i < CNT; i++) fd_alloc_free(fix->alloc, blk[i]);
}

/* After a longjmp out of a handler, before whichever store of a malloc or free, the thread and
   others go on, nobody waits, and at most the block in flight is left over; fd_alloc_leave makes
   the thread as quick as before. */
static void jumps(fixture_t *fix, int (*handler)(void)) {
  g_handler = handler;
  for (uint i = 0; i < SIZES; i++)
    for (int freeing = 0; freeing < 2; freeing++)
      for (volatile long at = 1, through = 0; !through; at++) {
        assert_true(at < STORES_MAX);
        static void *volatile blk;
        blk = freeing ? fd_alloc_malloc(fix->alloc, 0, g_sizes[i]) : NULL;
        through = interrupted(fix, g_sizes[i], at, (void **)(uintptr_t)&blk);
        pthread_t thread;
        void *err = NULL;
        assert_int_equal(pthread_create(&thread, NULL, few_of_another, fix), 0);
        pthread_join(thread, &err);
        assert_null(err);
        assert_null(few_of_another(fix));
        fd_alloc_free(fix->alloc, blk);
        fd_alloc_free(fix->alloc, g_inner);
        fd_alloc_leave(fix->alloc);
        uint64_t nested = nested_cnt(fix);
        assert_null(few_of_another(fix));
        for (uint j = 0; j < 10; j++) fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 64));
        assert_int_equal(nested_cnt(fix), nested);
        assert_distinct(fix, g_sizes[i]);
        uint32_t live = 0;
        assert_int_equal(fd_alloc_walk(fix->alloc, count_live, &live), 0);
        assert_true(live <= 1);
        assert_clean(fix);
      }
  assert_int_equal(refused, 0);
  assert_true(signals > 100);
}

static void test_jumps(void **state) {
  jumps(*state, jump);
}

static void test_jumps_after_malloc(void **state) {
  jumps(*state, malloc_and_jump);
}

/* Handlers that jump out of a handler that has interrupted a handler: the slots that this leaves
   are given back with the thread. */
static int jump_deeper(void) {
  signal_at = signals < 3 ? 4 : 0;
  malloc_in_handler();
  return 1;
}

static void *deep(void *arg) {
  fixture_t *fix = arg;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  signals = 0;
  if (!sigsetjmp(g_out, 1)) {
    signal_at = 3;
    fd_alloc_malloc(fix->alloc, 0, 64);
  }
  signal_at = 0;
  return few_of_another(fix);
}

static void test_deep(void **state) {
  fixture_t *fix = *state;
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
  assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
  g_handler = jump_deeper;
  for (uint turn = 0; turn < 30; turn++) {
    pthread_t thread;
    void *err = NULL;
    assert_int_equal(pthread_create(&thread, NULL, deep, fix), 0);
    pthread_join(thread, &err);
    assert_null(err);
    assert_true(signals >= 2);
  }
  uint32_t held = 0;
  for (uint32_t i = 0; i < fix->wksp->slot_max; i++)
    held += (wksp__slots(fix->wksp)[i].claim & 3) == WKSP_SLOT_HELD;
  assert_int_equal(held, 1);
  uint32_t live = 0;
  assert_int_equal(fd_alloc_walk(fix->alloc, count_live, &live), 0);
  assert_true(live <= 30 * 4);
  assert_clean(fix);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_signal, teardown)
  struct CMUnitTest const tests[] = {
      T(test_malloc_in_handlers),
      T(test_jumps),
      T(test_jumps_after_malloc),
      T(test_deep),
  };
  return cmocka_run_group_tests_name("core/alloc_signal", tests, NULL, NULL);
}
