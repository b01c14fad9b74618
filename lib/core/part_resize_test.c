/* The present end of the data: moved up and down between allocs and frees, against what a walk over
   the partitions says must come of it. */

#include "core/testing.h"

#include "core/call.h"
#include "core/part_priv.h"

#define SPAN  WKSP_SPAN_SZ
#define UNIT  SPAN
#define SPANS 16UL

static fd_wksp_t *wksp_of(ulong part_max, ulong spans) {
  ulong footprint = fd_wksp_footprint(part_max, SPANS * SPAN);
  void *addr = testing_map(footprint);
  assert_ptr_equal(wksp__new(addr, "test", 7, part_max, SPANS * SPAN, spans * SPAN), addr);
  fd_wksp_t *wksp = fd_wksp_join(addr);
  assert_non_null(wksp);
  return wksp;
}

static int resize(fd_wksp_t *wksp, ulong spans, wksp__resized_t *ret) {
  wksp__call_t call;
  assert_int_equal(wksp__call_begin(wksp, &call), 0);
  int rc = wksp__part_resize(&call, WKSP_LOCK_CALL_NS, spans * SPAN, UNIT, ret);
  wksp__call_end(&call);
  assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
  return rc;
}

/* Resizes; it must come to exactly that. */
static void resize_to(fd_wksp_t *wksp, ulong spans) {
  wksp__resized_t resized;
  assert_int_equal(resize(wksp, spans, &resized), 0);
  assert_int_equal(resized.why, 0);
  assert_int_equal(resized.data_sz, spans * SPAN);
  assert_int_equal(fd_wksp_data_sz(wksp), spans * SPAN);
}

/* What a new one has is what it was told; fd_wksp_new gives all. */
static void test_new(void **state) {
  fd_wksp_t *wksp = wksp_of(16, 3);
  fd_wksp_usage_t usage;
  assert_int_equal(fd_wksp_data_sz(wksp), 3 * SPAN);
  assert_int_equal(fd_wksp_data_max(wksp), SPANS * SPAN);
  assert_int_equal(fd_wksp_gaddr_hi(wksp), fd_wksp_gaddr_lo(wksp) + SPANS * SPAN);
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &usage), 0);
  assert_int_equal(usage.total_max, 15);
  assert_int_equal(usage.total_cnt, 1);
  assert_int_equal(usage.total_sz, 3 * SPAN);
  assert_int_equal(usage.free_sz_max, 3 * SPAN);
  assert_int_equal(usage.used_cnt + usage.used_sz, 0);
  assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
  assert_int_equal(fd_wksp_alloc(wksp, 64, 3 * SPAN + 1, 1), 0);
  assert_non_null(strstr(wksp_last_error(), "resize it"));
  assert_true(fd_wksp_alloc(wksp, 64, 3 * SPAN, 1) > 0);
  testing_wksp_end(wksp);
  wksp = testing_wksp(16, SPANS * SPAN);
  assert_int_equal(fd_wksp_data_sz(wksp), SPANS * SPAN);
  testing_wksp_end(wksp);
  assert_int_equal(fd_wksp_data_sz(NULL), 0);
  void *addr = testing_map(1UL << 20);
  assert_null(wksp__new(addr, "test", 7, 16, SPAN, 0));
  assert_null(wksp__new(addr, "test", 7, 16, SPAN, 2 * SPAN));
  assert_null(wksp__new(addr, "test", 7, 16, 2 * SPAN, SPAN + 64));
  munmap(addr, 1UL << 20);
}

/* Growth joins the free partition at the end, or makes one, and can be used at once; to all of it
   nothing is left beyond. */
static void test_grow(void **state) {
  fd_wksp_t *wksp = wksp_of(16, 2);
  ulong first = fd_wksp_alloc(wksp, 64, 2 * SPAN, 1);
  resize_to(wksp, 3); /* one used before the end: a new free one */
  ulong second = fd_wksp_alloc(wksp, 64, SPAN / 2, 1);
  assert_int_equal(second, first + 2 * SPAN);
  resize_to(wksp, 5); /* joins */
  assert_int_equal(fd_wksp_alloc(wksp, 64, 2 * SPAN + SPAN / 2, 1), second + SPAN / 2);
  resize_to(wksp, SPANS); /* becomes one, all of it */
  fd_wksp_usage_t usage;
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &usage), 0);
  assert_int_equal(usage.total_max, 16);
  assert_int_equal(usage.total_sz, SPANS * SPAN);
  assert_int_equal(usage.free_sz_max, (SPANS - 5) * SPAN);
  assert_int_equal(fd_wksp_reset(wksp, 1), 0);
  resize_to(wksp, 1);
  resize_to(wksp, SPANS); /* joins, all of it */
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &usage), 0);
  assert_int_equal(usage.total_cnt, 1);
  testing_wksp_end(wksp);
}

/* Shrinking goes as far as nothing is in use, to a multiple of the unit, and names what is in the
   way. */
static void test_shrink(void **state) {
  fd_wksp_t *wksp = testing_wksp(16, SPANS * SPAN);
  wksp__resized_t resized;
  ulong low = fd_wksp_alloc(wksp, 64, SPAN, 3), high = fd_wksp_alloc(wksp, 64, SPAN + 64, 7);
  resize_to(wksp, 8);
  assert_int_equal(resize(wksp, 2, &resized), 0);
  assert_int_equal(resized.why, WKSP_RESIZED_USED);
  assert_int_equal(resized.data_sz, 3 * SPAN); /* 2 spans and 64 bytes, in units */
  assert_int_equal(resized.block.gaddr, high);
  assert_int_equal(resized.block.size, SPAN + 64);
  assert_int_equal(resized.block.tag, 7);
  assert_int_equal(resized.block.kind, FD_WKSP_KIND_USER);
  assert_int_equal(fd_wksp_data_sz(wksp), 3 * SPAN);
  /* again: nothing to do, and the same is in the way */
  assert_int_equal(resize(wksp, 2, &resized), 0);
  assert_int_equal(resized.why, WKSP_RESIZED_USED);
  assert_int_equal(resized.data_sz, 3 * SPAN);
  assert_int_equal(fd_wksp_free(wksp, high), 0);
  resize_to(wksp, 1); /* what was free vanishes */
  assert_int_equal(resize(wksp, 1, &resized), 0);
  assert_int_equal(fd_wksp_free(wksp, low), 0);
  resize_to(wksp, SPANS);
  low = fd_wksp_alloc(wksp, 64, SPAN, 3);
  resize_to(wksp, 1); /* all of the free one becomes what is beyond */
  testing_wksp_end(wksp);
}

/* What lies beyond the end can be met by no call: it is not listed, found, freed, tagged, set,
   reset. */
static void test_beyond_is_nobodys(void **state) {
  fd_wksp_t *wksp = wksp_of(16, 2);
  fd_wksp_part_t part;
  ulong all[] = {1, 2}, beyond = fd_wksp_gaddr_lo(wksp) + 2 * SPAN;
  ulong mine = fd_wksp_alloc(wksp, 64, 2 * SPAN, 1);
  assert_int_equal(fd_wksp_part_next(wksp, 0, &part), 1);
  assert_int_equal(part.gaddr, mine);
  assert_int_equal(fd_wksp_part_next(wksp, beyond, &part), 0);
  assert_int_equal(fd_wksp_part_next(wksp, fd_wksp_gaddr_hi(wksp) - 1, &part), 0);
  assert_int_equal(fd_wksp_tag(wksp, beyond), 0);
  assert_int_equal(fd_wksp_free(wksp, beyond), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_free(wksp, fd_wksp_gaddr_hi(wksp) - 64), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_memset(wksp, beyond, 1), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_tag_query(wksp, all, 2, NULL, 0), 1);
  assert_int_equal(fd_wksp_tag_free(wksp, all, 2), 1);
  assert_true(fd_wksp_alloc(wksp, 64, SPAN, 1) > 0);
  assert_int_equal(fd_wksp_reset(wksp, 9), 0);
  assert_int_equal(fd_wksp_data_sz(wksp), 2 * SPAN);
  assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
  testing_wksp_end(wksp);
}

/* Sizes that cannot be are refused, and a table without an entry for the room says so; nothing is
   changed by either. */
static void test_refused(void **state) {
  fd_wksp_t *wksp = wksp_of(8, 1);
  wksp__resized_t resized;
  wksp__call_t call;
  assert_int_equal(wksp__call_begin(wksp, &call), 0);
  static struct {
    ulong data_sz, unit;
  } const bad[] = {{SPAN - 1, 64}, {SPANS * SPAN + SPAN, UNIT}, {~0UL, UNIT}, {SPAN, 0},
                   {SPAN, 96},     {SPAN + 64, UNIT},           {SPAN, 32}};
  for (uint32_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
    assert_int_equal(
        wksp__part_resize(&call, WKSP_LOCK_CALL_NS, bad[i].data_sz, bad[i].unit, &resized),
        WKSP_E_INVAL);
  assert_int_equal(wksp__part_resize(&call, WKSP_LOCK_CALL_NS, 0, UNIT, &resized), 0);
  assert_int_equal(resized.data_sz, SPAN); /* only tells */
  /* the end of all is allowed whatever the unit; else the end is a multiple of it as a gaddr */
  assert_int_equal(wksp__part_resize(&call, WKSP_LOCK_CALL_NS, SPANS * SPAN, 1UL << 30, &resized),
                   0);
  assert_int_equal(wksp__part_resize(&call, WKSP_LOCK_CALL_NS, SPAN, 64, &resized), 0);
  wksp__call_end(&call);
  /* what is beyond takes one of the 8 entries, and usage says so */
  for (uint32_t i = 0; i < 6; i++) assert_true(fd_wksp_alloc(wksp, 64, SPAN / 8, 1) > 0);
  assert_int_equal(fd_wksp_alloc(wksp, 64, SPAN / 8, 1), 0);
  fd_wksp_usage_t usage;
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &usage), 0);
  assert_int_equal(usage.total_cnt, usage.total_max);
  testing_wksp_end(wksp);
}

/* With every entry in use, an end after a used partition cannot move but to the end of all. */
static void test_table_full(void **state) {
  fd_wksp_t *wksp = wksp_of(8, 1);
  wksp__resized_t resized;
  for (uint32_t i = 0; i < 7; i++)
    assert_true(fd_wksp_alloc(wksp, 64, i < 6 ? 64 : SPAN - 6 * 64, 1) > 0);
  assert_int_equal(resize(wksp, 2, &resized), 0);
  assert_int_equal(resized.why, WKSP_RESIZED_TABLE);
  assert_int_equal(resized.data_sz, SPAN);
  resize_to(wksp, SPANS);
  assert_int_equal(resize(wksp, 2, &resized), 0); /* and back: an entry for what is beyond lacks */
  assert_int_equal(resized.why, WKSP_RESIZED_TABLE);
  assert_int_equal(resized.data_sz, SPANS * SPAN);
  resize_to(wksp, 1);
  testing_wksp_end(wksp);
}

/* The end of the last used partition in units, from the start of the data. */
static ulong used_end(fd_wksp_t *wksp) {
  fd_wksp_part_t part;
  ulong end = fd_wksp_gaddr_lo(wksp);
  for (ulong from = 0; fd_wksp_part_next(wksp, from, &part) == 1; from = end)
    end = part.gaddr + part.size;
  return (end - fd_wksp_gaddr_lo(wksp) + UNIT - 1) / UNIT;
}

/* Random allocs, frees and resizes: a resize ends where it was told or at what is used, no
   partition is ever beyond the end, figures add up, the table stays sound. */
static void test_random(void **state) {
  testing_rng_t rng = testing_rng();
  uint32_t grown = 0, shrunk = 0, blocked = 0, full = 0;
  for (uint32_t round = 0; round < 20; round++) {
    fd_wksp_t *wksp = wksp_of(12 + testing_below(&rng, 60), 1 + testing_below(&rng, SPANS));
    for (uint32_t step = 0; step < 1000; step++) {
      ulong was = fd_wksp_data_sz(wksp) / SPAN, at = fd_wksp_gaddr_lo(wksp);
      uint64_t dice = testing_below(&rng, 8);
      fd_wksp_part_t part;
      if (dice < 3) {
        fd_wksp_alloc(wksp, 64UL << testing_below(&rng, 13),
                      1 + testing_below(&rng, 1UL << testing_below(&rng, 18)),
                      1 + testing_below(&rng, 4));
      } else if (dice < 6) {
        if (fd_wksp_part_next(wksp, at + testing_below(&rng, was * SPAN), &part) == 1)
          assert_int_equal(fd_wksp_free(wksp, part.gaddr), 0);
      } else {
        wksp__resized_t resized;
        ulong to = 1 + testing_below(&rng, SPANS), end = used_end(wksp), need = end > to ? end : to;
        assert_int_equal(resize(wksp, to, &resized), 0);
        if (resized.why == WKSP_RESIZED_TABLE) {
          assert_int_equal(resized.data_sz, was * SPAN);
          full++;
        } else {
          assert_int_equal(resized.data_sz, (to > was || need < was ? need : was) * SPAN);
          assert_int_equal(resized.why, to < end ? WKSP_RESIZED_USED : 0);
        }
        grown += resized.data_sz > was * SPAN;
        shrunk += resized.data_sz < was * SPAN;
        blocked += resized.why == WKSP_RESIZED_USED;
      }
      fd_wksp_usage_t usage;
      assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &usage), 0);
      assert_int_equal(usage.total_sz, fd_wksp_data_sz(wksp));
      assert_true(used_end(wksp) * SPAN <= usage.total_sz);
    }
    assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
    testing_wksp_end(wksp);
  }
  printf("# %u grown, %u shrunk, %u blocked, %u without an entry\n", grown, shrunk, blocked, full);
  assert_true(grown > 100 && shrunk > 100 && blocked > 100 && full > 10);
}

/* A rebuild keeps the end where it was, whatever else is damaged, and moves it up to what is in
   use; where it is lost, or of nonsense, all has to be taken for usable. */
static void test_rebuild(void **state) {
  for (uint32_t way = 0; way < 6; way++) {
    fd_wksp_t *wksp = wksp_of(16, 4);
    wksp__pop_t op;
    assert_true(fd_wksp_alloc(wksp, 64, SPAN, 1) > 0);
    ulong gaddr = fd_wksp_alloc(wksp, 64, SPAN, 2);
    assert_true(gaddr > 0);
    wksp__pop_begin(&op, wksp);
    wksp__ent_t *beyond = &wksp__pop_ent(&op)[wksp__part_beyond(&op)];
    if (way == 1) memset(op.head, 0xff, WKSP_PART_HEAD_SZ);
    if (way == 2) beyond->w[WKSP_PART_SIZE] = 64;
    if (way == 3) beyond->w[WKSP_PART_ADDR] -= 3 * SPAN; /* among what is in use */
    if (way == 4) beyond->w[WKSP_PART_ADDR] = 64 | WKSP_PART_BEYOND;
    if (way == 5) beyond->w[WKSP_PART_ADDR] = 0;
    assert_int_equal(fd_wksp_rebuild(wksp, 7, NULL, NULL), 0);
    assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
    assert_int_equal(fd_wksp_data_sz(wksp), (way < 3 ? 4 : way == 3 ? 2 : SPANS) * SPAN);
    assert_int_equal(fd_wksp_tag(wksp, gaddr), 2);
    resize_to(wksp, 2);
    resize_to(wksp, SPANS);
    testing_wksp_end(wksp);
  }
}

/* Verify sees what is wrong with what lies beyond the end. */
static void test_damage(void **state) {
  for (uint32_t way = 0; way < 4; way++) {
    fd_wksp_t *wksp = wksp_of(16, 2);
    wksp__pop_t op;
    uint32_t findings = 0;
    wksp__pop_begin(&op, wksp);
    wksp__ent_t *beyond = &wksp__pop_ent(&op)[wksp__part_beyond(&op)];
    if (way == 0) beyond->w[WKSP_PART_TAG] = 7;
    if (way == 1) beyond->w[WKSP_PART_ADDR] -= SPAN;
    if (way == 2) beyond->w[WKSP_PART_SIZE] -= SPAN;
    if (way == 3) wksp__pop_ent(&op)[1].w[WKSP_PART_ADDR] += WKSP_PART_BEYOND - WKSP_PART_FREE;
    assert_int_equal(fd_wksp_verify(wksp, testing_sentence, &findings), WKSP_E_CORRUPT);
    assert_true(findings > 0);
    testing_wksp_end(wksp);
  }
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_new),     cmocka_unit_test(test_grow),
      cmocka_unit_test(test_shrink),  cmocka_unit_test(test_beyond_is_nobodys),
      cmocka_unit_test(test_refused), cmocka_unit_test(test_table_full),
      cmocka_unit_test(test_random),  cmocka_unit_test(test_damage),
      cmocka_unit_test(test_rebuild),
  };
  return cmocka_run_group_tests_name("part_resize", tests, NULL, NULL);
}
