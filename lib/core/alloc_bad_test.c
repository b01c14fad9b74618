/* Bad frees, and the listener that is told of them. */

#include "core/alloc_testing.h"
#include "core/map.h"

enum { TOLD_MAX = 64 };

typedef struct told {
  ulong cnt;
  fd_alloc_bad_free_t bad[TOLD_MAX];
} told_t;

static void note(void *arg, fd_alloc_bad_free_t const *bad) {
  told_t *told = arg;
  if (told->cnt < TOLD_MAX) told->bad[told->cnt] = *bad;
  told->cnt++;
}

static int teardown_quiet(void **state) {
  wksp_on_bad_free(NULL, NULL);
  return teardown(state);
}

/* The last one told is this. */
static void assert_told(fixture_t *fix, told_t const *told, void const *laddr, uint what,
                        ulong size) {
  assert_true(told->cnt && told->cnt <= TOLD_MAX);
  fd_alloc_bad_free_t const *bad = &told->bad[told->cnt - 1];
  assert_ptr_equal(bad->laddr, laddr);
  assert_ptr_equal(bad->wksp, fix->wksp);
  assert_int_equal(bad->gaddr, (ulong)laddr - (ulong)fix->wksp);
  assert_int_equal(bad->tag, TAG);
  assert_int_equal(bad->what, what);
  assert_int_equal(bad->size, size);
  assert_int_equal(bad->late, 0);
  assert_int_equal(bad_frees(fix), told->cnt);
}

/* The listener hears of each kind of bad free, once, with what the workspace shows of it. */
static void test_kinds(void **state) {
  fixture_t *fix = *state;
  told_t told = {0};
  fd_alloc_t *other = new_alloc(fix->wksp, 5);
  assert_int_equal(wksp_on_bad_free(note, &told), 0);
  char *blk = fd_alloc_malloc(fix->alloc, 0, 100), *keep = fd_alloc_malloc(fix->alloc, 0, 100);
  char *large = fd_alloc_malloc(fix->alloc, 0, 1 << 20);
  char *theirs = fd_alloc_malloc(other, 0, 100), *large_theirs = fd_alloc_malloc(other, 0, 1 << 20);
  char *user = fd_wksp_alloc_laddr(fix->wksp, 0, 10000, 9);
  ulong large_sz = fd_alloc_usable_size(fix->alloc, large);
  fd_alloc_free(fix->alloc, blk);
  assert_int_equal(told.cnt, 0);
  struct {
    void *laddr;
    uint what;
    ulong size;
  } const frees[] = {
      {blk, FD_ALLOC_BAD_FREE_TWICE, 112},
      {keep + 16, FD_ALLOC_BAD_FREE_INTERIOR, 112},
      {large + 64, FD_ALLOC_BAD_FREE_INTERIOR, large_sz},
      {large + large_sz - 1, FD_ALLOC_BAD_FREE_INTERIOR, large_sz},
      {theirs, FD_ALLOC_BAD_FREE_OTHERS, 112},
      {large_theirs, FD_ALLOC_BAD_FREE_OTHERS, large_sz},
      {user, FD_ALLOC_BAD_FREE_NOWHERE, 0},
      {fix->wksp, FD_ALLOC_BAD_FREE_NOWHERE, 0},
      {(char *)fix->wksp - 4096, FD_ALLOC_BAD_FREE_NOWHERE, 0},
      {(void *)8, FD_ALLOC_BAD_FREE_NOWHERE, 0},
      {&told, FD_ALLOC_BAD_FREE_NOWHERE, 0},
  };
  for (uint i = 0; i < sizeof frees / sizeof frees[0]; i++) {
    fd_alloc_free(fix->alloc, frees[i].laddr);
    assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
    assert_int_equal(told.cnt, 2 * i + 1);
    assert_told(fix, &told, frees[i].laddr, frees[i].what, frees[i].size);
    assert_null(fd_alloc_realloc(fix->alloc, frees[i].laddr, 0, 7));
    assert_told(fix, &told, frees[i].laddr, frees[i].what, frees[i].size);
  }
  ulong cnt = told.cnt;
#ifdef WKSP_HARDENED
  fd_alloc_free_sized(fix->alloc, keep, 200);
  assert_told(fix, &told, keep, FD_ALLOC_BAD_FREE_SIZE, 112);
  cnt++;
#endif
  fd_alloc_free(fix->alloc, large);
  assert_int_equal(told.cnt, cnt);
  fd_alloc_free(fix->alloc, large);
  assert_told(fix, &told, large, FD_ALLOC_BAD_FREE_NOWHERE, 0);
  /* nothing was harmed, and who is not asked for is not told */
  assert_int_equal(wksp_on_bad_free(NULL, NULL), 0);
  fd_alloc_free(fix->alloc, blk);
  assert_int_equal(told.cnt, cnt + 1);
  fd_alloc_free(fix->alloc, keep);
  assert_int_equal(fd_wksp_free_laddr(fix->wksp, user), 0);
  fd_alloc_free(other, theirs);
  fd_alloc_free(other, large_theirs);
  assert_int_equal(fd_alloc_is_empty(other), 1);
  assert_non_null(fd_alloc_delete((void *)other));
  assert_int_equal(fd_wksp_free_laddr(fix->wksp, (void *)other), 0);
  assert_clean(fix);
}

/* A refused free of whatever address leaves its thread outside of calls, so that others find its
   heap, and no block that others have under suspicion. */
static void *compact_elsewhere(void *arg) {
  fixture_t *fix = arg;
  fd_alloc_compacted_t done = {.skipped_cnt = 99};
  fd_alloc_compact(fix->alloc, &done);
  return (void *)done.skipped_cnt;
}

static void test_refused_leaves_nothing(void **state) {
  fixture_t *fix = *state;
  char *blk = fd_alloc_malloc(fix->alloc, 0, 100), *large = fd_alloc_malloc(fix->alloc, 0, 1 << 20);
  char *const bad[] = {blk + 1, blk + 7, large + 1, (char *)fix->wksp + 1, (char *)1};
  for (uint i = 0; i < sizeof bad / sizeof bad[0]; i++)
    for (uint own_heap = 0; own_heap < 2; own_heap++) {
      if (own_heap) fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 100));
      fd_alloc_free(fix->alloc, bad[i]);
      assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
      wksp__slot_t const *slot = wksp__seat_find(fix->wksp)->slot;
      assert_true(wksp__slot_outside(slot));
      pthread_t thread;
      void *skipped;
      assert_int_equal(pthread_create(&thread, NULL, compact_elsewhere, fix), 0);
      assert_int_equal(pthread_join(thread, &skipped), 0);
      assert_ptr_equal(skipped, NULL);
    }
  fd_alloc_free(fix->alloc, large);
  assert_int_equal(wksp__seat_find(fix->wksp)->slot->flight, 0);
  fd_alloc_leave(fix->alloc);
  fd_alloc_free(fix->alloc, blk);
  assert_int_equal(wksp__seat_find(fix->wksp)->slot->flight, 0);
  assert_clean(fix);
}

#ifndef WKSP_HARDENED /* which refuses them at once */
/* A block that was freed twice while it lay deep in a magazine is told of when it leaves that, with
   its address; of a crowd of them four, but all are counted. */
static void test_late(void **state) {
  fixture_t *fix = *state;
  enum { CNT = 3000 };
  void **blk = calloc(CNT, sizeof *blk);
  told_t told = {0};
  for (uint i = 0; i < CNT; i++) blk[i] = fd_alloc_malloc(fix->alloc, 0, 64);
  assert_int_equal(wksp_on_bad_free(note, &told), 0);
  for (uint i = 0; i < 10; i++) fd_alloc_free(fix->alloc, blk[i]);
  fd_alloc_free(fix->alloc, blk[2]);
  assert_int_equal(told.cnt, 0);
  for (uint i = 10; i < CNT; i++) fd_alloc_free(fix->alloc, blk[i]);
  fd_alloc_leave(fix->alloc);
  assert_int_equal(fd_alloc_compact(fix->alloc, NULL), 0); /* ends with an empty magazine */
  assert_int_equal(fd_alloc_is_empty(fix->alloc), 1);
  assert_true(told.cnt <= 1);
  /* many at once, and on to where the magazine gives back from the top */
  for (uint i = 0; i < CNT; i++) blk[i] = fd_alloc_malloc(fix->alloc, 0, 64);
  ulong before = bad_frees(fix);
  told.cnt = 0;
  for (uint turn = 0; turn < 2; turn++)
    for (uint i = 0; i < 200; i++) fd_alloc_free(fix->alloc, blk[i]);
  ulong cnt = told.cnt;
  for (uint i = 200; i < CNT && told.cnt == cnt; i++) fd_alloc_free(fix->alloc, blk[i]);
  assert_true(told.cnt > 0);
  fd_alloc_bad_free_t const *bad = &told.bad[told.cnt - 1];
  assert_int_equal(bad->late, 1);
  assert_int_equal(bad->what, FD_ALLOC_BAD_FREE_TWICE);
  assert_int_equal(bad->size, 64);
  uint hits = 0;
  for (uint i = 0; i < 200; i++) hits += bad->laddr == blk[i];
  assert_int_equal(hits, 1);
  assert_true(bad_frees(fix) - before >= told.cnt);
  free(blk);
}
#endif

/* The listener may use the fd_alloc; what it frees wrongly itself is counted and not told. */
typedef struct busy {
  fd_alloc_t *alloc;
  void *blk;
  ulong calls, max;
} busy_t;

static void use_it(void *arg, fd_alloc_bad_free_t const *bad) {
  busy_t *busy = arg;
  fd_alloc_stat_t stat;
  busy->calls++;
  void *blk = fd_alloc_malloc(busy->alloc, 0, 100);
  busy->max = fd_alloc_usable_size(busy->alloc, blk);
  fd_alloc_free(busy->alloc, blk);
  fd_alloc_free(busy->alloc, (char *)bad->laddr + 1);
  if (fd_alloc_stat(busy->alloc, &stat) || fd_alloc_compact(busy->alloc, NULL)) busy->max = 0;
}

static void test_listener_may_call(void **state) {
  fixture_t *fix = *state;
  busy_t busy = {.alloc = fix->alloc};
  assert_int_equal(wksp_on_bad_free(use_it, &busy), 0);
  void *blk = fd_alloc_malloc(fix->alloc, 0, 100);
  for (ulong i = 1; i <= 5; i++) {
    fd_alloc_free(fix->alloc, (char *)blk + 16);
    assert_int_equal(busy.calls, i);
    assert_int_equal(busy.max, 112);
    assert_int_equal(bad_frees(fix), 2 * i);
  }
  fd_alloc_free(fix->alloc, blk);
  assert_clean(fix);
}

/* While one thread changes the listener and others free wrongly, a listener is always called with
   its own argument, each bad free is counted once, and told at most once. */
typedef struct ear {
  ulong heard, wrong, own;
} ear_t;

static ear_t g_ears[2];

static void hear(ear_t *self, ear_t const *arg) {
  __atomic_fetch_add(&self->heard, 1, __ATOMIC_RELAXED);
  if (self != arg) __atomic_fetch_add(&self->wrong, 1, __ATOMIC_RELAXED);
}

static void hear_0(void *arg, fd_alloc_bad_free_t const *bad) {
  (void)bad;
  hear(&g_ears[0], arg);
}

static void hear_1(void *arg, fd_alloc_bad_free_t const *bad) {
  (void)bad;
  hear(&g_ears[1], arg);
}

enum { BAD_FREES = 20000 };

static void *free_wrongly(void *arg) {
  for (uint i = 0; i < BAD_FREES; i++) fd_alloc_free(arg, (char *)arg + 64);
  return NULL;
}

static void test_threads(void **state) {
  fixture_t *fix = *state;
  pthread_t thread[2];
  memset(g_ears, 0, sizeof g_ears);
  assert_int_equal(wksp_on_bad_free(hear_0, &g_ears[0]), 0);
  for (uint i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&thread[i], NULL, free_wrongly, fix->alloc), 0);
  for (uint i = 0; i < 20000; i++)
    assert_int_equal(wksp_on_bad_free(i & 1 ? hear_0 : hear_1, &g_ears[!(i & 1)]), 0);
  for (uint i = 0; i < 2; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
  assert_int_equal(bad_frees(fix), 2 * BAD_FREES);
  assert_int_equal(g_ears[0].heard + g_ears[1].heard, 2 * BAD_FREES);
  assert_int_equal(g_ears[0].wrong + g_ears[1].wrong, 0);
  assert_clean(fix);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown_quiet)
  struct CMUnitTest const tests[] = {
      T(test_kinds),
      T(test_refused_leaves_nothing),
#ifndef WKSP_HARDENED
      T(test_late),
#endif
      T(test_listener_may_call),
      T(test_threads),
  };
  return cmocka_run_group_tests_name("core/alloc_bad", tests, NULL, NULL);
}
