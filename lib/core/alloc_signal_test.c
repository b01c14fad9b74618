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
static ulong *g_dst;
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

/* Loads
 * --------------------------------------------------------------------------------------------- */

/* A signal comes before load or store number touch_at; 0: none does. */
static long touch_at;

void wksp__touch(void const volatile *place) {
  (void)place;
  if (touch_at && !--touch_at) raise(SIGUSR1);
}

static void *blk_of_another(void *arg) {
  fixture_t *fix = arg;
  return fd_alloc_malloc(fix->alloc, 0, 64);
}

/* A free of another heap's block goes on as if nothing had been, whichever load or store a handler
   that allocates comes before: the short form has been turned off meanwhile. */
static void test_malloc_before_loads(void **state) {
  fixture_t *fix = *state;
  g_handler = malloc_in_handler;
  for (long at = 1, through = 0; !through; at++) {
    assert_true(at < STORES_MAX);
    pthread_t thread;
    void *blk = NULL;
    fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 64)); /* the short form is on */
    assert_int_equal(pthread_create(&thread, NULL, blk_of_another, fix), 0);
    pthread_join(thread, &blk);
    assert_non_null(blk);
    uint32_t before = signals;
    g_inner = NULL;
    touch_at = at;
    fd_alloc_free(fix->alloc, blk);
    touch_at = 0;
    through = signals == before;
    fd_alloc_free(fix->alloc, g_inner);
  }
  assert_int_equal(refused, 0);
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
}

/* A handler that allocates from another workspace, or another fd_alloc, where it finds the thread
   outside, leaves what it interrupts its own: the block is of the workspace that was asked. */
static fd_alloc_t *g_other;
static void *g_from_other;

static int malloc_elsewhere(void) {
  g_from_other = fd_alloc_malloc(g_other, 0, 64);
  return 0;
}

static void elsewhere(fixture_t *fix, fd_alloc_t *other, int freeing) {
  g_other = other;
  g_handler = malloc_elsewhere;
  for (long at = 1, through = 0; !through; at++) {
    assert_true(at < STORES_MAX);
    uint32_t before = signals;
    g_from_other = NULL;
    void *blk = fd_alloc_malloc(fix->alloc, 0, 64), *more[70], *got = blk;
    for (uint i = 0; i < 70; i++) more[i] = fd_alloc_malloc(fix->alloc, 0, 64);
    for (uint i = 0; i < 70; i++) fd_alloc_free(fix->alloc, more[i]);
    touch_at = at;
    if (freeing)
      fd_alloc_free(fix->alloc, blk);
    else
      got = fd_alloc_malloc(fix->alloc, 0, 64);
    touch_at = 0;
    through = signals == before;
    if (!freeing) {
      assert_true((uintptr_t)got - (uintptr_t)fix->wksp < fix->wksp->footprint);
      fd_alloc_free(fix->alloc, got);
      fd_alloc_free(fix->alloc, blk);
    }
    fd_alloc_free(other, g_from_other);
    assert_sound(fix);
    assert_int_equal(fd_alloc_is_empty(fix->alloc), 1);
    assert_int_equal(fd_alloc_is_empty(other), 1);
  }
  assert_int_equal(bad_frees(fix), 0);
}

/* The other way round: the thread was in the other workspace last, and the handler turns to the one
   whose malloc it interrupts. The slot of the other does not come to stand for the heap of this
   one. */
static int malloc_here(void) {
  g_inner = fd_alloc_malloc(g_fix->alloc, 0, 64);
  return 0;
}

static void test_malloc_turned(void **state) {
  fixture_t *fix = *state, *other = NULL;
  assert_int_equal(setup_sized((void **)&other, 16UL << 20), 0);
  g_handler = malloc_here;
  for (long at = 1, through = 0; !through; at++) {
    assert_true(at < STORES_MAX);
    uint32_t before = signals;
    g_inner = NULL;
    fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 64));
    void *elsewhere = fd_alloc_malloc(other->alloc, 0, 64), *blk;
    wksp__slot_t const *slot = wksp__seat_find(other->wksp)->slot;
    touch_at = at;
    blk = fd_alloc_malloc(fix->alloc, 0, 64);
    touch_at = 0;
    through = signals == before;
    assert_non_null(blk);
    assert_ptr_not_equal(blk, g_inner);
    /* what was last in flight there, or nothing */
    uint64_t flight = wksp__ld(&slot->flight);
    assert_true(!flight || flight == fd_wksp_gaddr_fast(other->wksp, elsewhere));
    fd_alloc_free(fix->alloc, blk);
    fd_alloc_free(fix->alloc, g_inner);
    fd_alloc_free(other->alloc, elsewhere);
  }
  assert_clean(fix);
  assert_clean(other);
  teardown((void **)&other);
}

static void test_malloc_elsewhere(void **state) {
  fixture_t *fix = *state, *other = NULL;
  assert_int_equal(setup_sized((void **)&other, 16UL << 20), 0);
  for (int freeing = 0; freeing < 2; freeing++) elsewhere(fix, other->alloc, freeing);
  assert_clean(other);
  teardown((void **)&other);
  fd_alloc_t *second = new_alloc(fix->wksp, TAG + 2);
  for (int freeing = 0; freeing < 2; freeing++) elsewhere(fix, second, freeing);
}

/* A word that names a block names one that nobody else gets, though the call that put it there was
   left by longjmp, before whichever store, and the thread has ended. */
static void *exact_jump(void *arg) {
  fixture_t *fix = g_fix;
  fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 64));
  if (!sigsetjmp(g_out, 1)) {
    signal_at = *(long *)arg;
    fd_alloc_malloc_to(fix->alloc, 0, 64, g_dst);
  }
  signal_at = 0;
  return NULL;
}

static void test_jumps_of_exact(void **state) {
  fixture_t *fix = *state;
  g_handler = jump;
  g_dst = fd_wksp_alloc_laddr(fix->wksp, 64, 64, TAG + 1);
  assert_non_null(g_dst);
  for (long at = 1, through = 0; !through; at++) {
    assert_true(at < STORES_MAX);
    pthread_t thread;
    uint32_t before = signals;
    *g_dst = 0;
    assert_int_equal(pthread_create(&thread, NULL, exact_jump, &at), 0);
    pthread_join(thread, NULL);
    through = signals == before;
    assert_int_equal(wksp__reap(fix->wksp, 0), 0);
    void *blk[200];
    for (uint i = 0; i < 200; i++) {
      assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, 64));
      assert_true(fd_wksp_gaddr_fast(fix->wksp, blk[i]) != (*g_dst & FD_ALLOC_DST_GADDR));
    }
    for (uint i = 0; i < 200; i++) fd_alloc_free(fix->alloc, blk[i]);
    if (*g_dst) assert_int_equal(fd_alloc_free_from(fix->alloc, g_dst), 1);
    fd_alloc_leave(fix->alloc);
    assert_int_equal(fd_alloc_compact(fix->alloc, NULL), 0);
    uint32_t live = 0;
    assert_int_equal(fd_alloc_walk(fix->alloc, count_live, &live), 0);
    assert_int_equal(live, 0); /* exact: none is lost */
  }
  assert_true(signals > 5);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_signal, teardown)
  struct CMUnitTest const tests[] = {
      T(test_malloc_in_handlers),  T(test_jumps),
      T(test_jumps_after_malloc),  T(test_deep),
      T(test_malloc_before_loads), T(test_jumps_of_exact),
      T(test_malloc_elsewhere),    T(test_malloc_turned),
  };
  return cmocka_run_group_tests_name("core/alloc_signal", tests, NULL, NULL);
}
