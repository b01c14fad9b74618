/* Partitions against a plain model: a sorted array of ranges. The model decides what is right; the
   invariants are checked from within after every step. */

#include "core/testing.h"

#include "core/call.h"

#define TEST_PART_MAX 160
#define TEST_DATA_MAX (1UL << 20)
#define TEST_STEPS    20000
#define TEST_TAGS     9

typedef struct range {
  ulong gaddr, size, tag; /* tag 0: free */
} range_t;

typedef struct model {
  fd_wksp_t *wksp;
  range_t range[TEST_PART_MAX];
  uint32_t cnt;
} model_t;

static void model_new(model_t *model, fd_wksp_t *wksp) {
  model->wksp = wksp;
  model->cnt = 1;
  model->range[0] = (range_t){fd_wksp_gaddr_lo(wksp), fd_wksp_data_max(wksp), 0};
}

static ulong aligned(ulong gaddr, ulong align) {
  return (gaddr + align - 1) & ~(align - 1);
}

/* Whether so much fits into the range, and how many ranges it becomes. */
static int model_fits(range_t const *range, ulong align, ulong size, uint32_t *ret_pieces) {
  ulong at = aligned(range->gaddr, align);
  if (range->tag || at < range->gaddr || at - range->gaddr > range->size ||
      range->size - (at - range->gaddr) < size)
    return 0;
  *ret_pieces = 1 + (at != range->gaddr) + (at + size != range->gaddr + range->size);
  return 1;
}

static void model_insert(model_t *model, uint32_t i, range_t range) {
  assert_true(model->cnt < TEST_PART_MAX);
  memmove(&model->range[i + 1], &model->range[i], (model->cnt - i) * sizeof(range_t));
  model->range[i] = range;
  model->cnt++;
}

static void model_remove(model_t *model, uint32_t i) {
  memmove(&model->range[i], &model->range[i + 1], (model->cnt - i - 1) * sizeof(range_t));
  model->cnt--;
}

/* The engine says it gave [gaddr, gaddr + size): must be a legal, and, if alignment plays no part,
   the best choice. */
static void model_alloc(model_t *model, ulong gaddr, ulong align, ulong size, ulong tag) {
  uint32_t i = 0;
  while (model->range[i].gaddr + model->range[i].size <= gaddr) i++;
  range_t *range = &model->range[i];
  assert_true(!range->tag && gaddr >= range->gaddr && gaddr + size <= range->gaddr + range->size);
  assert_int_equal(gaddr, aligned(range->gaddr, align));
  if (align == FD_WKSP_PART_GRAIN)
    for (uint32_t k = 0; k < model->cnt; k++)
      assert_false(!model->range[k].tag && model->range[k].size >= size &&
                   model->range[k].size < range->size);
  range_t hole = *range;
  *range = (range_t){gaddr, size, tag};
  if (gaddr + size != hole.gaddr + hole.size)
    model_insert(model, i + 1, (range_t){gaddr + size, hole.gaddr + hole.size - gaddr - size, 0});
  if (gaddr != hole.gaddr) model_insert(model, i, (range_t){hole.gaddr, gaddr - hole.gaddr, 0});
}

/* The engine says there is no room: there must be none, or not enough entries for the pieces. */
static void model_no_room(model_t const *model, ulong align, ulong size) {
  for (uint32_t i = 0; i < model->cnt; i++) {
    uint32_t pieces;
    if (model_fits(&model->range[i], align, size, &pieces))
      assert_true(model->cnt + pieces - 1 > TEST_PART_MAX);
  }
}

static void model_free(model_t *model, uint32_t i) {
  model->range[i].tag = 0;
  if (i + 1 < model->cnt && !model->range[i + 1].tag) {
    model->range[i].size += model->range[i + 1].size;
    model_remove(model, i + 1);
  }
  if (i && !model->range[i - 1].tag) {
    model->range[i - 1].size += model->range[i].size;
    model_remove(model, i);
  }
}

/* Everything that can be asked gives what the model says. */
static void compare(model_t const *model, testing_rng_t *rng) {
  fd_wksp_t *wksp = model->wksp;
  ulong from = 0, free_sz = 0, free_cnt = 0, free_max = 0, used_cnt = 0, used_sz = 0;
  ulong tag = 1 + testing_below(rng, TEST_TAGS);
  fd_wksp_part_t part;
  for (uint32_t i = 0; i < model->cnt; i++) {
    range_t const *range = &model->range[i];
    if (!range->tag) {
      free_cnt++;
      free_sz += range->size;
      if (range->size > free_max) free_max = range->size;
      continue;
    }
    assert_int_equal(fd_wksp_part_next(wksp, from, &part), 1);
    assert_true(part.gaddr == range->gaddr && part.size == range->size && part.tag == range->tag &&
                part.kind == FD_WKSP_KIND_USER);
    from = part.gaddr + part.size;
    used_cnt += range->tag == tag;
    used_sz += range->tag == tag ? range->size : 0;
  }
  assert_int_equal(fd_wksp_part_next(wksp, from, &part), 0);

  ulong tags[] = {tag, TEST_TAGS + 5, tag}; /* one that nobody has, and one twice */
  fd_wksp_usage_t usage;
  assert_int_equal(fd_wksp_usage(wksp, tags, 3, &usage), 0);
  assert_true(usage.total_max == TEST_PART_MAX && usage.total_cnt == model->cnt &&
              usage.total_sz == TEST_DATA_MAX && usage.free_cnt == free_cnt &&
              usage.free_sz == free_sz && usage.free_sz_max == free_max &&
              usage.used_cnt == used_cnt && usage.used_sz == used_sz);

  range_t const *range = &model->range[testing_below(rng, model->cnt)];
  ulong byte = range->gaddr + testing_below(rng, range->size);
  assert_int_equal(fd_wksp_tag(wksp, byte), range->tag);
}

/* Sizes of all magnitudes, many alike, so that rings, tries and exact fits all occur. */
static ulong random_size(testing_rng_t *rng) {
  switch (testing_below(rng, 4)) {
  case 0:
    return 1 + testing_below(rng, 64);
  case 1:
    return 64 * (1 + testing_below(rng, 8));
  case 2:
    return 4096 + 64 * testing_below(rng, 300);
  default:
    return 1 + testing_below(rng, 1UL << testing_below(rng, 20));
  }
}

static void step(model_t *model, testing_rng_t *rng, uint32_t bias) {
  if (testing_below(rng, 100) < bias) {
    ulong align = testing_below(rng, 2) ? 64 : 1UL << testing_below(rng, 18);
    ulong size = random_size(rng), tag = 1 + testing_below(rng, TEST_TAGS), lo = 0, hi = 0;
    ulong gaddr = fd_wksp_alloc_at_least(model->wksp, align, size, tag, &lo, &hi);
    if (align < 64) align = align > 1 || align == 1 ? 64 : 4096;
    ulong took = aligned(size, FD_WKSP_PART_GRAIN);
    if (gaddr) {
      assert_true(lo == gaddr && hi == gaddr + took);
      model_alloc(model, gaddr, align, took, tag);
    } else {
      assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
      assert_true(lo == 0 && hi == 0);
      model_no_room(model, align, took);
    }
    return;
  }
  uint32_t i = (uint32_t)testing_below(rng, model->cnt);
  ulong byte = model->range[i].gaddr + testing_below(rng, model->range[i].size);
  int rc = fd_wksp_free(model->wksp, byte);
  assert_int_equal(rc, model->range[i].tag ? 0 : WKSP_E_NOTFOUND);
  if (!rc) model_free(model, i);
}

/* Random allocs and frees keep the table equal to the model and its indexes whole at every step. */
static void test_model(void **state) {
  testing_rng_t rng = testing_rng();
  fd_wksp_t *wksp = testing_wksp(TEST_PART_MAX, TEST_DATA_MAX);
  model_t model;
  model_new(&model, wksp);
  for (uint32_t i = 0; i < TEST_STEPS; i++) {
    /* phases: growing until something is full, steady, shrinking */
    static uint32_t const bias[] = {90, 55, 50, 20};
    step(&model, &rng, bias[i / 400 % 4]);
    assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
    if (i % 4 == 0) compare(&model, &rng);
  }
  while (model.cnt > 1 || model.range[0].tag) {
    uint32_t i = 0;
    while (!model.range[i].tag) i++;
    assert_int_equal(fd_wksp_free(wksp, model.range[i].gaddr), 0);
    model_free(&model, i);
  }
  assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
  compare(&model, &rng);
  testing_wksp_end(wksp);
}

/* One byte takes one grain; the whole region can be one partition, and then nothing more. */
static void test_size_edges(void **state) {
  fd_wksp_t *wksp = testing_wksp(8, 65536);
  ulong data = fd_wksp_data_max(wksp), lo = 1, hi = 1;
  ulong small = fd_wksp_alloc_at_least(wksp, 0, 1, 5, &lo, &hi);
  assert_int_equal(small % FD_WKSP_ALLOC_ALIGN_DEFAULT, 0);
  assert_int_equal(hi - lo, FD_WKSP_PART_GRAIN);
  assert_int_equal(fd_wksp_free(wksp, small + 63), 0);

  ulong all = fd_wksp_alloc(wksp, 0, data, 5);
  assert_int_equal(all, fd_wksp_gaddr_lo(wksp));
  assert_int_equal(fd_wksp_alloc(wksp, 64, 1, 5), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  assert_int_equal(fd_wksp_tag(wksp, all + data - 1), 5);
  assert_int_equal(fd_wksp_free(wksp, all + data - 1), 0);
  assert_int_equal(fd_wksp_free(wksp, all), WKSP_E_NOTFOUND);

  ulong too_large[] = {data + 1, 1UL << 46, 1UL << 63, ~0UL - 63, ~0UL};
  for (uint32_t i = 0; i < 5; i++) {
    assert_int_equal(fd_wksp_alloc(wksp, 64, too_large[i], 5), 0);
    assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  }
  assert_int_equal(fd_wksp_alloc(wksp, 0, 0, 5), 0);
  assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
  testing_wksp_end(wksp);
}

/* Every power of two is obeyed as an alignment if the region has such a gaddr, and else refused. */
static void test_alignments(void **state) {
  fd_wksp_t *wksp = testing_wksp(64, 4UL << 20);
  ulong lo = fd_wksp_gaddr_lo(wksp), hi = fd_wksp_gaddr_hi(wksp);
  assert_true(fd_wksp_alloc(wksp, 64, 64, 1) > 0); /* so that the free range is misaligned */
  for (uint32_t lg = 0; lg < 64; lg++) {
    ulong align = 1UL << lg, gaddr = fd_wksp_alloc(wksp, align, 128, 2);
    ulong first = aligned(lo + 64, align < 64 ? 64 : align);
    if (first > lo && first + 128 <= hi) {
      assert_true(gaddr > 0);
      assert_int_equal(gaddr % align, 0);
      assert_int_equal(fd_wksp_free(wksp, gaddr), 0);
    } else {
      assert_int_equal(gaddr, 0);
      assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
    }
    assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
  }
  assert_int_equal(fd_wksp_alloc(wksp, 3, 64, 1), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_alloc(wksp, 64, 64, 0), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  testing_wksp_end(wksp);
}

/* A well-aligned block of just the right size is found although many misplaced ones of that size
   and none that is surely large enough exist. */
static void test_aligned_needle(void **state) {
  fd_wksp_t *wksp = testing_wksp(4096, 8UL << 20);
  ulong hole[300];
  assert_true(fd_wksp_alloc(wksp, 64, 64, 1) > 0);
  for (uint32_t i = 0; i < 300; i++) { /* of one range, one behind the other: all misplaced */
    hole[i] = fd_wksp_alloc(wksp, 64, 8192, 2);
    assert_int_equal(hole[i] % 8192, 64);
    assert_true(fd_wksp_alloc(wksp, 64, 8192, 1) > 0);
  }
  ulong needle = fd_wksp_alloc(wksp, 8192, 8192, 3);
  assert_true(needle > 0);
  fd_wksp_usage_t usage;
  for (;;) { /* nothing else is free */
    assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &usage), 0);
    if (!usage.free_cnt) break;
    assert_true(fd_wksp_alloc(wksp, 64, usage.free_sz_max, 1) > 0);
  }
  assert_int_equal(fd_wksp_free(wksp, needle), 0);
  for (uint32_t i = 0; i < 300; i++) assert_int_equal(fd_wksp_free(wksp, hole[i]), 0);
  assert_int_equal(fd_wksp_alloc(wksp, 8192, 8192, 3), needle);
  testing_wksp_end(wksp);
}

/* With all entries in use what needs one more is refused, an exact fit is served, and nothing is
   lost. */
static void test_table_full(void **state) {
  fd_wksp_t *wksp = testing_wksp(16, 1UL << 20);
  ulong block[16];
  uint32_t cnt = 0;
  while (cnt < 16 && (block[cnt] = fd_wksp_alloc(wksp, 64, 128, 1)) != 0) cnt++;
  assert_int_equal(cnt, 15); /* and the free rest */
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  assert_non_null(strstr(wksp_last_error(), "part_max"));
  assert_int_equal(fd_wksp_free(wksp, block[7]), 0);
  assert_int_equal(fd_wksp_alloc(wksp, 64, 64, 1), 0); /* would split */
  assert_int_equal(fd_wksp_alloc(wksp, 64, 128, 1), block[7]);
  assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
  for (uint32_t i = 0; i < cnt; i++) assert_int_equal(fd_wksp_free(wksp, block[i]), 0);
  fd_wksp_usage_t usage;
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &usage), 0);
  assert_true(usage.total_cnt == 1 && usage.free_cnt == 1 && usage.free_sz_max == 1UL << 20);
  testing_wksp_end(wksp);
}

/* A partition's kind is kept with all its bits, compared whole by free, and never shown to users
   beyond its low byte. */
static void test_kinds(void **state) {
  fd_wksp_t *wksp = testing_wksp(64, 1UL << 20);
  wksp__call_t call;
  uint64_t gaddr, size;
  fd_wksp_part_t part;
  uint32_t kind = FD_WKSP_KIND_SPANS | 0xabcdefU << 8;
  assert_int_equal(wksp__call_begin(wksp, &call), 0);
  assert_int_equal(
      wksp__part_alloc(&call, WKSP_LOCK_CALL_NS, 64, 100, 9, kind, NULL, NULL, &gaddr, &size), 0);
  assert_int_equal(size, 128);
  assert_int_equal(wksp__part_find(wksp, gaddr + 5, &part), 1);
  assert_true(part.kind == kind && part.size == 128 && part.gaddr == gaddr && part.tag == 9);
  assert_int_equal(fd_wksp_part_next(wksp, 0, &part), 1);
  assert_int_equal(part.kind, FD_WKSP_KIND_SPANS);
  assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
  assert_int_equal(
      wksp__part_free(&call, WKSP_LOCK_CALL_NS, gaddr, FD_WKSP_KIND_SPANS, 0, NULL, NULL),
      WKSP_E_NOTFOUND);
  assert_int_equal(wksp__part_free(&call, WKSP_LOCK_CALL_NS, gaddr, kind, 8, NULL, NULL),
                   WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_free(wksp, gaddr), WKSP_E_NOTFOUND);
  assert_non_null(strstr(wksp_last_error(), "fd_alloc"));
  assert_int_equal(wksp__part_free(&call, WKSP_LOCK_CALL_NS, gaddr, kind, 9, NULL, NULL), 0);
  assert_int_equal(wksp__part_free(&call, WKSP_LOCK_CALL_NS, gaddr, kind, 9, NULL, NULL),
                   WKSP_E_NOTFOUND);
  wksp__call_end(&call);
  assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
  testing_wksp_end(wksp);
}

static int also_max(void *arg, wksp__tx_t *tx, uint64_t gaddr, uint64_t size) {
  uint64_t *words = wksp__span_words(tx->wksp);
  for (uint32_t i = 0; i < WKSP_PART_ALSO_MAX; i++)
    wksp__tx_put64(tx, &words[i], *(uint64_t *)arg + i);
  return 0;
}

/* What rides along with an alloc or free happens with it, up to the promised number of words. */
static void test_also(void **state) {
  fd_wksp_t *wksp = testing_wksp(64, 16UL << 20);
  wksp__call_t call;
  uint64_t gaddr, size, base = 1000;
  assert_int_equal(wksp__call_begin(wksp, &call), 0);
  assert_int_equal(wksp__part_alloc(&call, WKSP_LOCK_CALL_NS, 1UL << 18, 100, 9, 2, also_max, &base,
                                    &gaddr, &size),
                   0);
  for (uint32_t i = 0; i < WKSP_PART_ALSO_MAX; i++)
    assert_int_equal(wksp__span_words(wksp)[i], 1000 + i);
  base = 2000;
  assert_int_equal(wksp__part_free(&call, WKSP_LOCK_CALL_NS, gaddr, 3, 9, also_max, &base),
                   WKSP_E_NOTFOUND);
  assert_int_equal(wksp__span_words(wksp)[0], 1000);
  assert_int_equal(wksp__part_free(&call, WKSP_LOCK_CALL_NS, gaddr, 2, 9, also_max, &base), 0);
  assert_int_equal(wksp__span_words(wksp)[WKSP_PART_ALSO_MAX - 1], 2000 + WKSP_PART_ALSO_MAX - 1);
  wksp__call_end(&call);
  testing_wksp_end(wksp);
}

/* A region with several levels of page bits works at its far ends, and so does a lookup across a
   terabyte without a partition. */
static void test_sparse(void **state) {
  ulong data_max = 1UL << 40, footprint = fd_wksp_footprint(64, data_max);
  void *addr = mmap(NULL, footprint, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (addr == MAP_FAILED) {
    printf("# missing: 1 TiB of address space (ulimit -v)\n");
    skip();
  }
  fd_wksp_new(addr, "sparse", 0, 64, data_max);
  fd_wksp_t *wksp = fd_wksp_join(addr);
  assert_non_null(wksp);
  ulong hi = fd_wksp_gaddr_hi(wksp), lo = fd_wksp_gaddr_lo(wksp), cnt = 0;
  ulong half = fd_wksp_alloc(wksp, 1UL << 39, 64, 3);
  assert_int_equal(half % (1UL << 39), 0);
  ulong rest = fd_wksp_alloc(wksp, 64, hi - half - 128, 4); /* all behind it but one grain */
  assert_int_equal(rest, half + 64);
  ulong last = fd_wksp_alloc(wksp, 64, 64, 5);
  assert_int_equal(last, hi - 64);
  assert_int_equal(fd_wksp_tag(wksp, hi - 1), 5);
  assert_int_equal(fd_wksp_tag(wksp, hi - 65), 4);
  assert_int_equal(fd_wksp_tag(wksp, half + 64 + (1UL << 38)), 4);
  assert_int_equal(fd_wksp_tag(wksp, half + 63), 3);
  assert_int_equal(fd_wksp_tag(wksp, half - 1), 0);
  assert_int_equal(fd_wksp_tag(wksp, lo), 0);
  fd_wksp_part_t part;
  for (ulong from = 0; fd_wksp_part_next(wksp, from, &part) == 1; from = part.gaddr + part.size)
    cnt++;
  assert_int_equal(cnt, 3);
  assert_int_equal(fd_wksp_free(wksp, half), 0);
  assert_int_equal(fd_wksp_free(wksp, last), 0);
  assert_int_equal(fd_wksp_free(wksp, hi - 100), 0);
  assert_int_equal(fd_wksp_alloc(wksp, 64, data_max, 6), lo);
  fd_wksp_leave(wksp);
  assert_int_equal(munmap(addr, footprint), 0);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_model),      cmocka_unit_test(test_size_edges),
      cmocka_unit_test(test_alignments), cmocka_unit_test(test_aligned_needle),
      cmocka_unit_test(test_table_full), cmocka_unit_test(test_kinds),
      cmocka_unit_test(test_also),       cmocka_unit_test(test_sparse),
  };
  return cmocka_run_group_tests_name("part", tests, NULL, NULL);
}
