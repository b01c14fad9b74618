/* fd_alloc's wide spans: where they lie, and what is left of them when memory is short. */

#include "core/alloc_testing.h"

enum { SMALL = 1024, WIDE = 8192, SMALLS = 8000, WIDES = 500 };

static void *g_small[SMALLS], *g_wide[WIDES];

/* The tables are not data: the middle scale begins a little above 16 MiB, the large one above 256.
 */
static int setup_20m(void **state) {
  return setup_sized(state, 20UL << 20);
}

static int setup_260m(void **state) {
  return setup_sized(state, 260UL << 20);
}

/* Narrow spans from regions that begin anywhere, all back in the pool but what the heap keeps. */
static void fill_pool(fixture_t *fix, uint cnt) {
  for (uint i = 0; i < cnt; i++)
    assert_non_null(g_small[i] = fd_alloc_malloc(fix->alloc, 0, SMALL));
  for (uint i = 0; i < cnt; i++) fd_alloc_free(fix->alloc, g_small[i]);
}

/* A wide span of what several regions gave to the pool is as sound as one of a single region:
   verify finds nothing, a rebuild drops nothing, and its end gives the regions back. */
static void test_wide_of_several_regions(void **state) {
  fixture_t *fix = *state;
  for (uint shift = 1; shift < 16; shift *= 2) {
    ulong pad = fd_wksp_alloc(fix->wksp, WKSP_SPAN_SZ, shift * WKSP_SPAN_SZ, TAG + 1);
    assert_true(pad != 0);
    fill_pool(fix, SMALLS);
    for (uint i = 0; i < WIDES; i++) {
      assert_non_null(g_wide[i] = fd_alloc_malloc(fix->alloc, 0, WIDE));
      fill(g_wide[i], WIDE, i);
    }
    assert_sound(fix);
    fd_alloc_leave(fix->alloc);
    assert_int_equal(fd_wksp_rebuild(fix->wksp, 1, testing_sentence, NULL), 0);
    for (uint i = 0; i < WIDES; i++) assert_true(intact(g_wide[i], WIDE, i));
    for (uint i = 0; i < WIDES; i++) fd_alloc_free(fix->alloc, g_wide[i]);
    assert_int_equal(bad_frees(fix), 0);
    ulong other = TAG + 1;
    assert_true(fd_wksp_tag_free(fix->wksp, &other, 1) >= 0);
    assert_clean(fix);
  }
}

/* A heap that keeps all the memory there is for narrow spans has it for a wide one. */
static void test_trimmed_for_wide(void **state) {
  fixture_t *fix = *state;
  uint32_t span = 1, lg = wksp__class(fix->wksp, wksp__class_for(0, WIDE))->lg;
  void *first = NULL;
  for (uint turn = 0; turn < 16; turn++) { /* one region, where a wide span can start */
    first = fd_alloc_malloc(fix->alloc, 0, SMALL);
    assert_non_null(first);
    span = wksp__span_of(fix->wksp, fd_wksp_gaddr_fast(fix->wksp, first));
    if (wksp__span_fits(fix->wksp, span, lg)) break;
    fd_alloc_free(fix->alloc, first);
    assert_int_equal(fd_alloc_compact(fix->alloc, NULL), 0);
    assert_true(fd_wksp_alloc(fix->wksp, WKSP_SPAN_SZ, WKSP_SPAN_SZ, TAG + 1) != 0);
  }
  assert_true(wksp__span_fits(fix->wksp, span, lg));
  for (ulong size = 1UL << 20; size >= 4096; size /= 2)
    while (fd_wksp_alloc(fix->wksp, 64, size, TAG + 1)) {
    }
  uint blks = 0;
  while (blks < SMALLS && (g_small[blks] = fd_alloc_malloc(fix->alloc, 0, SMALL))) blks++;
  assert_int_equal(blks + 1, 4 * 64);
  assert_null(fd_alloc_malloc(fix->alloc, 0, WIDE));
  for (uint i = 0; i < blks; i++) fd_alloc_free(fix->alloc, g_small[i]);
  fd_alloc_free(fix->alloc, first);
  assert_non_null(fd_alloc_malloc(fix->alloc, 0, WIDE));
  assert_sound(fix);
}

/* The words of the span in which the block lies: one for each of its 64 KiB. */
static uint64_t *words_at(fixture_t *fix, void *blk, uint32_t *ret_cnt) {
  uint32_t span, lg = wksp__class(fix->wksp, wksp__class_for(0, WIDE))->lg;
  (void)wksp__span_look(fix->wksp, fd_wksp_gaddr_fast(fix->wksp, blk), &span);
  *ret_cnt = 1U << lg;
  return wksp__span_words(fix->wksp) + span;
}

static void assert_named(fixture_t *fix, void *blk, int live) {
  uint32_t cnt;
  uint64_t const *word = words_at(fix, blk, &cnt);
  for (uint32_t i = 1; i < cnt; i++) {
    assert_int_equal(SPAN_STATE(word[i]), WKSP_SPAN_TAIL);
    assert_int_equal(SPAN_HEAP(word[i]), live ? SPAN_HEAP(word[0]) : fix->alloc->home);
  }
}

static void *malloc_all(void *arg) {
  fixture_t *fix = arg;
  for (uint i = 0; i < WIDES; i++) g_wide[i] = fd_alloc_malloc(fix->alloc, 0, WIDE);
  return NULL;
}

/* All words of a wide span name the heap that its first one names, so that a free there looks at
   one; also after another heap has taken the span over. Without a live block they name none, and a
   block there that is freed again is refused. */
static void test_words_name_the_heap(void **state) {
  fixture_t *fix = *state;
  fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, SMALL)); /* a heap of our own */
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, malloc_all, fix), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  for (uint i = 0; i < WIDES; i++) assert_named(fix, g_wide[i], 1);
  uint32_t cnt, theirs = SPAN_HEAP(*words_at(fix, g_wide[0], &cnt));
  fd_alloc_free(fix->alloc, g_wide[0]); /* so that the span has room, and is not set aside */
  assert_non_null(g_wide[0] = fd_alloc_malloc(fix->alloc, 0, WIDE));
  for (uint i = 0; i < SMALLS && SPAN_HEAP(*words_at(fix, g_wide[0], &cnt)) == theirs; i++)
    assert_non_null(g_small[i] = fd_alloc_malloc(fix->alloc, 0, SMALL));
  assert_true(SPAN_HEAP(*words_at(fix, g_wide[0], &cnt)) != theirs);
  for (uint i = 0; i < WIDES; i++) assert_named(fix, g_wide[i], 1);
  assert_sound(fix);
  for (uint i = 0; i < WIDES; i++) fd_alloc_free(fix->alloc, g_wide[i]);
  assert_int_equal(bad_frees(fix), 0);
  uint kept = 0, refused = 0;
  for (uint i = 0; i < WIDES; i++) {
    uint64_t const *word = words_at(fix, g_wide[i], &cnt);
    if (SPAN_STATE(*word) != WKSP_SPAN_SETUP) continue;
    assert_named(fix, g_wide[i], 0);
    fd_alloc_free(fix->alloc, g_wide[i]);
    assert_int_equal(bad_frees(fix), ++refused);
    kept++;
  }
  assert_true(kept > 0);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(test_wide_of_several_regions, setup_20m, teardown),
      cmocka_unit_test_setup_teardown(test_wide_of_several_regions, setup, teardown),
      cmocka_unit_test_setup_teardown(test_wide_of_several_regions, setup_260m, teardown),
      cmocka_unit_test_setup_teardown(test_trimmed_for_wide, setup_20m, teardown),
      cmocka_unit_test_setup_teardown(test_words_name_the_heap, setup_20m, teardown),
      cmocka_unit_test_setup_teardown(test_words_name_the_heap, setup_260m, teardown),
  };
  return cmocka_run_group_tests_name("core/alloc_wide", tests, NULL, NULL);
}
