/* Geometry and headers. */

#include "core/testing.h"

#include "core/root.h"
#include "wksp/wksp.h"

/* All regions follow one another without overlap, at their alignments, for dimensions across the
   whole range; and the footprint grows with both numbers. */
static void test_geometry(void **state) {
  static uint64_t const part_max[] = {8, 9, 100, 4096, 1000000, (1UL << 31) - 1};
  uint64_t last = 0;
  for (uint32_t lg = 16; lg <= 46; lg++) {
    for (uint32_t i = 0; i < sizeof(part_max) / sizeof(part_max[0]); i++) {
      wksp__geom_t geom, more;
      uint64_t data = lg < 46 ? (1UL << lg) + 1 : 1UL << lg;
      assert_int_equal(wksp__geom(&geom, part_max[i], data), 0);
      assert_true(geom.data_max >= data && geom.data_max % WKSP_SPAN_SZ == 0);
      assert_true(geom.data_max - data < WKSP_SPAN_SZ);
      assert_true(geom.slot_max >= 16 && geom.heap_max >= geom.slot_max);
      assert_true(4096 <= geom.vol_off &&
                  geom.vol_off + wksp__vol_size(geom.slot_max) <= geom.root_off &&
                  geom.root_off + WKSP_ROOT_REGION_SZ <= geom.heap_off &&
                  geom.heap_off + 8UL * geom.heap_max <= geom.part_off &&
                  geom.part_off + 48 * part_max[i] + (geom.data_lo >> 13) <= geom.span_off &&
                  geom.part_off + geom.part.size + (geom.data_lo >> 13) <= geom.span_off &&
                  geom.span_off + (geom.data_max >> 13) <= geom.rec_off &&
                  geom.rec_off + (geom.data_max >> 9) <= geom.data_lo &&
                  geom.data_lo + geom.data_max == geom.data_hi && geom.data_hi == geom.footprint);
      assert_int_equal((geom.vol_off | geom.root_off | geom.heap_off | geom.part_off |
                        geom.span_off | geom.rec_off) %
                           4096,
                       0);
      assert_int_equal(geom.data_lo % WKSP_SPAN_SZ, 0);
      assert_true(geom.footprint < 1UL << 47);
      assert_int_equal(fd_wksp_footprint(part_max[i], data), geom.footprint);
      if (part_max[i] == 8) {
        assert_true(geom.footprint > last);
        last = geom.footprint;
      }
      if (!wksp__geom(&more, part_max[i] + 1000, data))
        assert_true(more.footprint >= geom.footprint);
    }
  }
}

/* Other dimensions with the data where they were: those of the same footprint are the same; smaller
   ones always are; larger ones have fewer partitions, not fewer than are asked for; and what is
   said to be the most is, and one span more is not. */
static void test_refit(void **state) {
  testing_rng_t rng = testing_rng();
  for (uint32_t i = 0; i < 400; i++) {
    uint64_t part_max = 64 + testing_below(&rng, 100000);
    wksp__geom_t was, geom;
    assert_int_equal(wksp__geom(&was, part_max, (1 + testing_below(&rng, 20000)) << 16), 0);
    uint64_t part_min = 8 + testing_below(&rng, part_max / 2), most = 0, none = 0;
    assert_int_equal(wksp__geom_refit(was.footprint, was.data_lo, part_max, part_min, &geom, &most),
                     0);
    assert_true(geom.part_max == part_max && geom.data_max == was.data_max);
    uint64_t least = was.data_lo + WKSP_SPAN_SZ;
    uint64_t less = least + testing_below(&rng, was.footprint - least + 1);
    assert_int_equal(wksp__geom_refit(less, was.data_lo, part_max, part_min, &geom, &most), 0);
    assert_true(geom.data_lo <= was.data_lo && geom.footprint <= less &&
                geom.footprint + WKSP_SPAN_SZ > less - WKSP_SPAN_SZ);
    assert_int_equal(wksp__geom_refit(1UL << 40, was.data_lo, part_max, part_min, &geom, &most),
                     WKSP_E_LIMIT);
    assert_true(most >= was.footprint - WKSP_SPAN_SZ);
    assert_int_equal(wksp__geom_refit(most, was.data_lo, part_max, part_min, &geom, &none), 0);
    assert_true(geom.part_max >= part_min && geom.part_max <= part_max &&
                geom.data_lo <= was.data_lo && geom.data_max >= was.data_max - WKSP_SPAN_SZ);
    assert_int_equal(
        wksp__geom_refit(most + WKSP_SPAN_SZ, was.data_lo, part_max, part_min, &geom, &none),
        WKSP_E_LIMIT);
  }
}

/* Metadata is at most 64 bytes for each partition there can be, beyond what the data itself needs.
 */
static void test_metadata(void **state) {
  for (uint64_t part_max = 1000; part_max < 1UL << 31; part_max *= 3) {
    ulong few = fd_wksp_footprint(8, 1UL << 34), many = fd_wksp_footprint(part_max, 1UL << 34);
    assert_true(many - few <= 64 * part_max + WKSP_SPAN_SZ);
  }
}

/* Impossible dimensions have footprint 0, whatever they would overflow. */
static void test_impossible(void **state) {
  static ulong const part_bad[] = {0, 7, 1UL << 31, 1UL << 32, ~0UL};
  static ulong const data_bad[] = {0, 1, 65535, (1UL << 46) + 1, 1UL << 63, ~0UL};
  for (uint32_t i = 0; i < 5; i++) {
    assert_int_equal(fd_wksp_footprint(part_bad[i], 1UL << 20), 0);
    assert_int_equal(fd_wksp_data_max_est(~0UL, part_bad[i]), 0);
  }
  for (uint32_t i = 0; i < 6; i++) assert_int_equal(fd_wksp_footprint(8, data_bad[i]), 0);
  assert_int_equal(fd_wksp_align(), FD_WKSP_ALIGN);
}

/* Estimates fit, are the largest that fit, and are 0 where nothing does; a megabyte has room. */
static void test_estimates(void **state) {
  for (ulong footprint = 1; footprint < 1UL << 45; footprint += footprint / 3 + 4000) {
    for (ulong sz = 0; sz < 1UL << 40; sz = sz * 1000 + 1) {
      ulong part_max = fd_wksp_part_max_est(footprint, sz);
      if (!part_max) {
        assert_true(fd_wksp_footprint(8, 65536) > footprint);
        assert_int_equal(fd_wksp_data_max_est(footprint, 8), 0);
        continue;
      }
      ulong data_max = fd_wksp_data_max_est(footprint, part_max);
      assert_true(data_max >= 65536 && fd_wksp_footprint(part_max, data_max) <= footprint);
      ulong next = fd_wksp_footprint(part_max, data_max + 65536);
      assert_true(!next || next > footprint);
    }
  }
  ulong part_max = fd_wksp_part_max_est(1UL << 20, 0);
  assert_true(part_max >= 64);
  assert_true(fd_wksp_data_max_est(1UL << 20, part_max) >= 3UL << 18);
  assert_int_equal(fd_wksp_part_max_est(0, 0), 0);
  assert_true(fd_wksp_part_max_est(~0UL, 1) < 1UL << 31);
  assert_true(fd_wksp_part_max_est(1UL << 30, ~0UL) >= 8);
  assert_int_equal(fd_wksp_data_max_est(~0UL, 8), 1UL << 46);
}

/* Names are 1 to 39 of the allowed characters and begin with a letter or digit. */
static void test_names(void **state) {
  char longest[FD_WKSP_NAME_MAX + 2];
  memset(longest, 'a', sizeof(longest));
  longest[FD_WKSP_NAME_MAX + 1] = 0;
  assert_false(wksp__name_ok(longest));
  longest[FD_WKSP_NAME_MAX] = 0;
  assert_true(wksp__name_ok(longest));
  static char const *const good[] = {"a", "0", "Z.9_-", "a..b", "wk-1.tmp"};
  static char const *const bad[] = {"", ".", "-a", "_a", "a b", "a/b", "\xc3\xa4", "a\n", "a:b"};
  for (uint32_t i = 0; i < 5; i++) assert_true(wksp__name_ok(good[i]));
  for (uint32_t i = 0; i < 9; i++) assert_false(wksp__name_ok(bad[i]));
  assert_false(wksp__name_ok(NULL));
}

/* Our own layout is served in full, an older one as the table says, any other not at all; a feature
   that is not known takes away writing, or everything, or nothing, by its kind. */
static void test_access(void **state) {
  uint64_t own = wksp__geometry_hash();
  wksp__known_t const known[] = {
      {.layout_version = 7, .access = WKSP_ACCESS_RO, .geometry_hash = 70},
      {.layout_version = 7, .access = WKSP_ACCESS_FULL, .geometry_hash = 71}};
  assert_int_equal(wksp__layout_access(WKSP_LAYOUT_VERSION, own), WKSP_ACCESS_FULL);
  assert_int_equal(wksp__layout_access(WKSP_LAYOUT_VERSION + 1, own), WKSP_ACCESS_NONE);
  assert_int_equal(wksp__layout_access(WKSP_LAYOUT_VERSION, own + 1), WKSP_ACCESS_NONE);
  assert_int_equal(wksp__layout_access_by(WKSP_LAYOUT_VERSION, own, known, 2), WKSP_ACCESS_FULL);
  assert_int_equal(wksp__layout_access_by(7, 70, known, 2), WKSP_ACCESS_RO);
  assert_int_equal(wksp__layout_access_by(7, 71, known, 2), WKSP_ACCESS_FULL);
  assert_int_equal(wksp__layout_access_by(7, 72, known, 2), WKSP_ACCESS_NONE);
  assert_int_equal(wksp__layout_access_by(8, 70, known, 2), WKSP_ACCESS_NONE);

  struct fd_wksp hdr = *testing_wksp(64, 1UL << 20);
  hdr.compat = ~0UL;
  assert_int_equal(wksp__access(&hdr), WKSP_ACCESS_FULL);
  hdr.ro_compat = 1UL << 63;
  assert_int_equal(wksp__access(&hdr), WKSP_ACCESS_RO);
  hdr.incompat = 1UL << 63;
  assert_int_equal(wksp__access(&hdr), WKSP_ACCESS_NONE);
}

/* Each byte of the header that has a meaning is missed when it changes (but the seed, the uuid and
   features that need not be known), and the error says what kind of mismatch it is. */
static void test_header_check(void **state) {
  fd_wksp_t *wksp = testing_wksp(64, 1UL << 20);
  struct fd_wksp good = *wksp;
  assert_int_equal(wksp__header_check(&good, 0), 0);
  assert_int_equal(wksp__header_check(&good, good.footprint), 0);
  assert_int_equal(wksp__header_check(&good, good.footprint - 1), WKSP_E_CORRUPT);
  assert_int_equal(wksp__header_check(&good, 100), WKSP_E_CORRUPT);
  for (size_t at = 0; at < sizeof(good); at++) {
    struct fd_wksp hdr = good;
    ((uint8_t *)&hdr)[at] ^= 0x80;
    int rc = wksp__header_check(&hdr, 0);
    int version =
        (at >= offsetof(struct fd_wksp, layout_version) && at < offsetof(struct fd_wksp, seed)) ||
        (at >= offsetof(struct fd_wksp, geometry_hash) && at < offsetof(struct fd_wksp, compat)) ||
        (at >= offsetof(struct fd_wksp, incompat) && at < offsetof(struct fd_wksp, uuid));
    int free_to_be =
        (at >= offsetof(struct fd_wksp, seed) && at < offsetof(struct fd_wksp, geometry_hash)) ||
        (at >= offsetof(struct fd_wksp, compat) && at < offsetof(struct fd_wksp, incompat)) ||
        (at >= offsetof(struct fd_wksp, uuid) && at < offsetof(struct fd_wksp, name));
    int in_name = at >= offsetof(struct fd_wksp, name) && at < offsetof(struct fd_wksp, part_max);
    int behind_name = in_name && at > offsetof(struct fd_wksp, name) + strlen(good.name);
    int padding = at >= offsetof(struct fd_wksp, heap_max) + sizeof(good.heap_max);
    if (!behind_name && !padding)
      assert_int_equal(rc, version ? WKSP_E_VERSION : free_to_be ? 0 : WKSP_E_CORRUPT);
  }
  struct fd_wksp hdr = good;
  memset(hdr.name, 'a', sizeof(hdr.name));
  assert_int_equal(wksp__header_check(&hdr, 0), WKSP_E_CORRUPT);
  hdr = good;
  hdr.part_max = ~0UL;
  assert_int_equal(wksp__header_check(&hdr, 0), WKSP_E_CORRUPT);
  testing_wksp_end(wksp);
}

/* A workspace of a library that was built with other options is refused, and the sentence names
   both builds and both hashes. */
static void test_other_builds(void **state) {
  (void)state;
  fd_wksp_t *wksp = testing_wksp(100, 1UL << 20);
  struct fd_wksp hdr = *wksp;
  static char const *const options[] = {"usual options", "-Dthreads=false", "-Dhardened=true",
                                        "-Dthreads=false -Dhardened=true"};
  for (uint32_t i = 0; i < 4; i++) {
    char hash[2][32];
    hdr.geometry_hash = wksp__geometry_hash_of(i);
    snprintf(hash[0], sizeof hash[0], "0x%016lx", hdr.geometry_hash);
    snprintf(hash[1], sizeof hash[1], "0x%016lx", wksp__geometry_hash());
    if (i == WKSP_FLAVOUR) {
      assert_int_equal(wksp__header_check(&hdr, 0), 0);
      continue;
    }
    assert_int_equal(wksp__header_check(&hdr, 0), WKSP_E_VERSION);
    assert_non_null(strstr(wksp_last_error(), options[i]));
    assert_non_null(strstr(wksp_last_error(), options[WKSP_FLAVOUR]));
    assert_non_null(strstr(wksp_last_error(), hash[0]));
    assert_non_null(strstr(wksp_last_error(), hash[1]));
    for (uint32_t j = 0; j < i; j++)
      assert_true(wksp__geometry_hash_of(j) != wksp__geometry_hash_of(i));
  }
  testing_wksp_end(wksp);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_geometry),     cmocka_unit_test(test_refit),
      cmocka_unit_test(test_metadata),     cmocka_unit_test(test_impossible),
      cmocka_unit_test(test_estimates),    cmocka_unit_test(test_names),
      cmocka_unit_test(test_access),       cmocka_unit_test(test_header_check),
      cmocka_unit_test(test_other_builds),
  };
  return cmocka_run_group_tests_name("layout", tests, NULL, NULL);
}
