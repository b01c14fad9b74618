/* fd_alloc: what its header promises to one thread. */

#include "core/alloc_testing.h"

#include "core/part_priv.h"

/* Every size gets a block at least as large, aligned by its class, that can be written whole. */
static void test_sizes(void **state) {
  fixture_t *fix = *state;
  for (ulong sz = 1; sz < 70000; sz += sz < 2100 ? 1 : 997) {
    ulong max = 0;
    uchar *blk = fd_alloc_malloc_at_least(fix->alloc, 0, sz, &max);
    assert_non_null(blk);
    assert_true(max >= sz);
    assert_true(sz < 96 || max <= sz + sz / 4 + 64);
    assert_int_equal((ulong)blk % 16, 0);
    if (sz <= 16384 && !(sz & (sz - 1))) assert_int_equal((ulong)blk % sz, 0);
    memset(blk, (int)sz, max);
    fd_alloc_free(fix->alloc, blk);
  }
  assert_clean(fix);
}

/* Any power-of-two alignment is kept, for small and large blocks. */
static void test_alignments(void **state) {
  fixture_t *fix = *state;
  ulong const sizes[] = {1, 16, 24, 100, 700, 5000, 16384, 16385, 100000};
  for (ulong align = 1; align <= 1UL << 20; align *= 2)
    for (uint i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
      void *blk = fd_alloc_malloc(fix->alloc, align, sizes[i]);
      assert_non_null(blk);
      assert_int_equal((ulong)blk % align, 0);
      memset(blk, 1, sizes[i]);
      fd_alloc_free(fix->alloc, blk);
    }
  assert_null(fd_alloc_malloc(fix->alloc, 3, 10));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_clean(fix);
}

/* Size 0, NULL joins and NULL blocks do nothing. */
static void test_nothing(void **state) {
  fixture_t *fix = *state;
  ulong max = 1;
  assert_null(fd_alloc_malloc_at_least(fix->alloc, 0, 0, &max));
  assert_int_equal(max, 0);
  assert_null(fd_alloc_malloc(NULL, 0, 10));
  fd_alloc_free(fix->alloc, NULL);
  fd_alloc_free(NULL, &max);
  assert_null(fd_alloc_join(NULL, 0));
  assert_null(fd_alloc_leave(NULL));
  assert_null(fd_alloc_delete(NULL));
  assert_int_equal(fd_alloc_compact(NULL, NULL), 0);
  assert_null(fd_alloc_wksp(NULL));
  assert_int_equal(fd_alloc_is_empty(NULL), 0);
  assert_null(fd_alloc_malloc(fix->alloc, 0, ~0UL));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  assert_clean(fix);
}

/* What cannot be an fd_alloc is refused with a reason. */
static void test_bad_new_and_join(void **state) {
  fixture_t *fix = *state;
  char *part = fd_wksp_alloc_laddr(fix->wksp, 4096, 3 * FD_ALLOC_FOOTPRINT, 5);
  assert_null(fd_alloc_new(NULL, 1));
  assert_null(fd_alloc_new(part + 16, 1));
  assert_null(fd_alloc_new(part, 0));
  assert_null(fd_alloc_new(fix->wksp, 1));
  assert_null(fd_alloc_join(part, 0));
  assert_null(fd_alloc_join(part + 64, 0));
  assert_null(fd_alloc_join(fix->wksp, 0));
  static char own[2 * FD_ALLOC_FOOTPRINT] __attribute__((aligned(4096)));
  assert_null(fd_alloc_new(own, 1));
  assert_null(fd_alloc_join(own, 0));
  /* a copy elsewhere is not the alloc */
  memcpy(part, (void *)fix->alloc, FD_ALLOC_FOOTPRINT);
  assert_null(fd_alloc_join(part, 0));
  assert_int_equal(wksp_last_error_code(), WKSP_E_CORRUPT);
}

/* A join is a value: alloc and hint; hints are taken modulo 16. */
static void test_join_values(void **state) {
  fixture_t *fix = *state;
  fd_alloc_t *join = fd_alloc_join_cgroup_hint_set(fix->alloc, 21);
  assert_int_equal(fd_alloc_join_cgroup_hint(join), 5);
  assert_ptr_equal(fd_alloc_wksp(join), fix->wksp);
  assert_int_equal(fd_alloc_tag(join), TAG);
  void *blk = fd_alloc_malloc(join, 0, 100);
  fd_alloc_free(fix->alloc, blk);
  assert_ptr_equal(fd_alloc_leave(join), (void *)fix->alloc);
  assert_int_equal(fd_alloc_max_expand(100, 10, 5), 125);
  assert_int_equal(fd_alloc_max_expand(100, 50, 5), 150);
  assert_int_equal(fd_alloc_max_expand(100, 50, 500), 500);
  assert_int_equal(fd_alloc_max_expand(~0UL, 50, 5), ~0UL);
  fd_valloc_t valloc = fd_alloc_virtual(join);
  blk = fd_valloc_malloc(valloc, 64, 64);
  assert_int_equal((ulong)blk % 64, 0);
  fd_valloc_free(valloc, blk);
  assert_clean(fix);
}

/* A double, wild, interior or foreign free is refused, counted, told, and harms nothing. */
static void test_bad_frees(void **state) {
  fixture_t *fix = *state;
  fd_alloc_t *other = new_alloc(fix->wksp, TAG); /* the same tag: told apart all the same */
  ulong const sizes[] = {16, 100, 5000, 50000};
  ulong want = 0;
  for (uint i = 0; i < 4; i++) {
    char *blk = fd_alloc_malloc(fix->alloc, 0, sizes[i]),
         *keep = fd_alloc_malloc(fix->alloc, 0, sizes[i]);
    fd_alloc_free(fix->alloc, blk);
    char *bad[] = {blk,
                   keep + 8,
                   keep + 16 * (sizes[i] > 16),
                   (char *)fix->wksp,
                   (char *)fix->wksp - 1,
                   (char *)state,
                   (char *)fd_wksp_laddr_fast(fix->wksp, fd_wksp_gaddr_hi(fix->wksp))};
    if (sizes[i] == 16) bad[2] = blk;
    for (uint j = 0; j < sizeof bad / sizeof bad[0]; j++) {
      fd_alloc_free(fix->alloc, bad[j]);
      assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
      assert_int_equal(bad_frees(fix), ++want);
    }
    ulong max;
    fd_alloc_free(other, keep);
    assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
    (void)max;
    fd_alloc_free(fix->alloc, keep);
    assert_int_equal(bad_frees(fix), want);
  }
  assert_int_equal(fd_alloc_is_empty(other), 1);
  assert_non_null(fd_alloc_delete((void *)other));
  assert_int_equal(fd_wksp_free_laddr(fix->wksp, (void *)other), 0);
  assert_clean(fix);
}

/* Random mallocs and frees never overlap, the walk lists exactly what is live, and nothing is left
 * at the end. */
static int count_listed(void *arg, fd_alloc_block_t const *block) {
  (void)block;
  ++*(ulong *)arg;
  return 0;
}

static void test_random(void **state) {
  fixture_t *fix = *state;
  testing_rng_t r = testing_rng();
  held_t *held = calloc(LIVE, sizeof *held);
  int failed = 0;
  for (uint round = 0; round < 20; round++) {
    random_ops(fix->alloc, held, 5000, &r, &failed);
    assert_sound(fix);
    ulong live = 0, listed = 0;
    for (uint i = 0; i < LIVE; i++) live += held[i].blk != NULL;
    assert_int_equal(fd_alloc_walk(fix->alloc, count_listed, &listed), 0);
    assert_int_equal(listed, live);
    assert_int_equal(fd_alloc_is_empty(fix->alloc), !live);
    if (round % 5 == 4) assert_int_equal(fd_alloc_compact(fix->alloc, NULL), 0);
  }
  free_all(fix->alloc, held, &failed);
  assert_int_equal(failed, 0);
  assert_int_equal(bad_frees(fix), 0);
  free(held);
  assert_clean(fix);
}

/* A full workspace says so with NULL and a reason, and what is freed can be had again. */
static void test_full(void **state) {
  fixture_t *fix = *state;
  ulong const sizes[] = {32, 1000, 16384, 40000};
  for (uint i = 0; i < 4; i++) {
    ulong cnt = 0, again = 0;
    void **list = NULL;
    for (void *blk; (blk = fd_alloc_malloc(fix->alloc, 0, sizes[i]));) {
      *(void ***)blk = list;
      list = blk;
      cnt++;
    }
    assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
    assert_true(cnt > 10);
    for (void **next; list; list = next) {
      next = *list;
      fd_alloc_free(fix->alloc, list);
    }
    for (void *blk; (blk = fd_alloc_malloc(fix->alloc, 0, sizes[i]));) {
      *(void ***)blk = list;
      list = blk;
      again++;
    }
    assert_int_equal(again, cnt);
    for (void **next; list; list = next) {
      next = *list;
      fd_alloc_free(fix->alloc, list);
    }
    assert_clean(fix);
  }
}

/* Deleting gives everything back, live blocks too, and the handle is an fd_alloc no more. */
static void test_delete(void **state) {
  fixture_t *fix = *state;
  ulong before = used_sz(fix->wksp);
  fd_alloc_t *other = new_alloc(fix->wksp, 99);
  for (uint i = 0; i < 500; i++) assert_non_null(fd_alloc_malloc(other, 0, 100 + i * 50));
  void *keep = fd_alloc_malloc(fix->alloc, 0, 1000);
  assert_ptr_equal(fd_alloc_delete((void *)other), (void *)other);
  assert_null(fd_alloc_malloc(other, 0, 10));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_free_laddr(fix->wksp, (void *)other), 0);
  fd_alloc_free(fix->alloc, keep);
  assert_clean(fix);
  assert_int_equal(used_sz(fix->wksp), before);
}

/* fd_wksp_compact does it for every fd_alloc. */
static void test_wksp_compact(void **state) {
  fixture_t *fix = *state;
  fd_alloc_t *other = new_alloc(fix->wksp, 99);
  ulong before = used_sz(fix->wksp);
  fd_alloc_free(other, fd_alloc_malloc(other, 0, 100));
  fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 100));
  ulong grown = used_sz(fix->wksp);
  assert_true(grown > before);
  fd_alloc_compacted_t done;
  assert_int_equal(fd_wksp_compact(fix->wksp, &done), 0);
  assert_int_equal(done.freed_sz, grown - before);
  assert_int_equal(used_sz(fix->wksp), before);
  assert_sound(fix);
}

/* Verify names spans, pairs and directory entries that cannot be. */
static void test_damage(void **state) {
  fixture_t *fix = *state;
  void *blk = fd_alloc_malloc(fix->alloc, 0, 100);
  uint32_t span = wksp__span_of(fix->wksp, fd_wksp_gaddr_fast(fix->wksp, blk));
  uint64_t *word = &wksp__span_words(fix->wksp)[span], e = *word;
  uint64_t *dir = wksp__heap_dir(fix->wksp), entry = dir[SPAN_HEAP(e)];
  uint64_t *a = &wksp__pairs(fix->wksp, span,
                             SPAN_CLASS(e))[wksp__class(fix->wksp, SPAN_CLASS(e))->word_cnt - 1]
                     .a,
           tail = *a;
  assert_sound(fix);
#define DAMAGE(place, val, old)                                            \
  (place) = (val);                                                         \
  assert_int_equal(fd_wksp_verify(fix->wksp, NULL, NULL), WKSP_E_CORRUPT); \
  (place) = (old);                                                         \
  assert_sound(fix)
  DAMAGE(*word, 0, e);
  DAMAGE(*word, SPAN_WITH(e, 9), e);
  DAMAGE(*word, SPAN_WORD(1, SPAN_HEAP(e), 200, WKSP_SPAN_OWNED), e);
  DAMAGE(*word, SPAN_WORD(1, fix->wksp->heap_max - 1, 3, WKSP_SPAN_OWNED), e);
  DAMAGE(*word, SPAN_WORD(1, SPAN_HEAP(e), 0, WKSP_SPAN_POOL), e);
  DAMAGE(wksp__span_words(fix->wksp)[wksp__span_cnt(fix->wksp) - 1], e, 0);
  DAMAGE(dir[SPAN_HEAP(e)], 0, entry);
  DAMAGE(dir[SPAN_HEAP(e)], ~0UL, entry);
  DAMAGE(dir[fix->wksp->heap_max - 1], fix->wksp->data_hi | DIR_HOME, 0);
  DAMAGE(*a, 0, tail);
  fd_alloc_free(fix->alloc, blk);
  assert_clean(fix);
}

/* A partition of spans that reads larger than a change can give back is refused when its fd_alloc
   is deleted, and does not end the process; verify finds it, and a rebuild drops it. */
static void test_region_too_large(void **state) {
  fixture_t *fix = *state;
  wksp__pop_t op;
  fd_alloc_t *alloc = new_alloc(fix->wksp, 5);
  assert_non_null(fd_alloc_malloc(alloc, 0, 100));
  void *shmem = fd_alloc_leave(alloc);
  wksp__pop_begin(&op, fix->wksp);
  uint32_t cnt = 0;
  for (uint32_t idx = 1; idx <= 16; idx++) {
    if ((wksp__ent_kind(&op, idx) & 255U) != FD_WKSP_KIND_SPANS) continue;
    wksp__pop_ent(&op)[idx].w[WKSP_PART_SIZE] = (WKSP_REDO_MAX + 1UL) << WKSP_SPAN_LG;
    cnt++;
  }
  assert_int_equal(cnt, 1);
  pid_t pid = fork(); /* whose heaps are nobody's afterwards */
  assert_true(pid >= 0);
  if (!pid) _exit(fd_alloc_delete(shmem) || wksp_last_error_code() != WKSP_E_CORRUPT);
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  assert_int_equal(fd_wksp_compact(fix->wksp, NULL), WKSP_E_CORRUPT);
  assert_int_equal(fd_wksp_verify(fix->wksp, NULL, NULL), WKSP_E_CORRUPT);
  assert_int_equal(fd_wksp_rebuild(fix->wksp, 7, testing_sentence, NULL), 0);
  assert_int_equal(fd_wksp_verify(fix->wksp, testing_sentence, NULL), 0);
  assert_int_equal(fd_wksp_compact(fix->wksp, NULL), 0);
}

/* Free's one multiplication tells where a block starts from where none does, at each place of a
   span of each class. */
static void test_starts(void **state) {
  (void)state;
  for (uint scale = 0; scale < WKSP_SCALES; scale++)
    for (uint cls = 0; cls < WKSP_CLASS_CNT; cls++) {
      wksp__class_t const *info = &wksp__classes[scale][cls];
      uint64_t recip = wksp__recip64(info->size, info->blk_cnt), starts = 0;
      for (uint64_t x = 0; x < WKSP_SPAN_SZ << info->lg; x++)
        starts += (uint64_t)wksp__starts(x, recip);
      assert_int_equal(starts, info->blk_cnt);
      for (uint64_t blk = 0; blk < info->blk_cnt; blk++)
        assert_true(wksp__starts(blk * info->size, recip));
    }
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  struct CMUnitTest const tests[] = {
      T(test_sizes),       T(test_alignments),
      T(test_nothing),     T(test_bad_new_and_join),
      T(test_join_values), T(test_bad_frees),
      T(test_random),      cmocka_unit_test_setup_teardown(test_full, setup_small, teardown),
      T(test_delete),      T(test_wksp_compact),
      T(test_damage),      T(test_region_too_large),
      T(test_starts),
  };
  return cmocka_run_group_tests_name("core/alloc", tests, NULL, NULL);
}
