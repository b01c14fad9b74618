/* Planted damage is found, named, and never a fault. */

#include "core/testing.h"

#include "core/part_priv.h"
#include "core/part_ring.h"
#include "core/root.h"
#include "core/tx.h"

static fd_wksp_t *g_wksp;
static wksp__pop_t g_op;

/* A workspace in which every structure has something: rings, trees, chains, a pool. */
static int setup(void **state) {
  ulong gaddr[24];
  g_wksp = testing_wksp(64, 1UL << 20);
  for (uint32_t i = 0; i < 24; i++) {
    /* holes of equal sizes (rings) and of different ones in one bin (tries) */
    ulong size = i % 4 == 1 ? 4096 : i % 4 == 3 ? 131072 / 2 + 64 * (i + 1) : 192;
    gaddr[i] = fd_wksp_alloc(g_wksp, 64, size, 1 + i % 3);
    assert_true(gaddr[i] > 0);
  }
  for (uint32_t i = 1; i < 24; i += 2) assert_int_equal(fd_wksp_free(g_wksp, gaddr[i]), 0);
  assert_int_equal(fd_wksp_free(g_wksp, gaddr[12]), 0); /* merges: two entries to the pool */
  assert_int_equal(fd_wksp_root_set(g_wksp, "a", gaddr[0], 1), 0);
  assert_int_equal(fd_wksp_root_set(g_wksp, "b", gaddr[2], 1), 0);
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
  wksp__pop_begin(&g_op, g_wksp);
  return 0;
}

static int teardown(void **state) {
  testing_wksp_end(g_wksp);
  return 0;
}

typedef struct told {
  char const *want;
  uint32_t cnt, matching;
} told_t;

static void on_finding(void *arg, char const *sentence) {
  told_t *told = arg;
  told->cnt++;
  told->matching += strstr(sentence, told->want) != NULL;
}

/* Verify says E_CORRUPT, and one of its sentences has the word. */
static void expect(char const *want) {
  told_t told = {.want = want};
  int rc = fd_wksp_verify(g_wksp, on_finding, &told);
  if (rc != WKSP_E_CORRUPT || !told.matching)
    print_error("verify returned %d with %u findings, none of \"%s\"; last: %s\n", rc, told.cnt,
                want, wksp_last_error());
  assert_true(rc == WKSP_E_CORRUPT && told.matching && told.cnt <= 64);
  assert_int_equal(fd_wksp_verify(g_wksp, NULL, NULL), WKSP_E_CORRUPT);
}

/* Changes a word, expects the finding, and puts it back. */
static void plant64(uint64_t *word, uint64_t value, char const *want) {
  uint64_t was = *word;
  assert_true(was != value);
  *word = value;
  expect(want);
  *word = was;
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
}

static void plant32(uint32_t *word, uint32_t value, char const *want) {
  uint32_t was = *word;
  assert_true(was != value);
  *word = value;
  expect(want);
  *word = was;
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
}

static uint64_t *word(uint32_t idx, uint32_t w) {
  return &wksp__pop_ent(&g_op)[idx].w[w];
}

/* The first partition, in the order of addresses, that is free (or not) and on its index's tree or
   chain (or not). */
static uint32_t some(int want_free, int want_off) {
  for (uint32_t idx = wksp__pop_pages(&g_op)[0]; idx; idx = wksp__hi32(*word(idx, WKSP_PART_NBR))) {
    int is_free = (*word(idx, WKSP_PART_ADDR) & 63) == WKSP_PART_FREE;
    int is_off = wksp__hi32(*word(idx, WKSP_PART_IDX)) == WKSP_PART_OFF;
    if (is_free == want_free && is_off == want_off) return idx;
  }
  fail();
  return 0;
}

/* Each kind of damage to an entry of the table. */
static void test_entries(void **state) {
  uint32_t used = some(0, 0), hole = some(1, 0), next = wksp__hi32(*word(used, WKSP_PART_NBR));
  uint64_t addr = *word(used, WKSP_PART_ADDR), nbr = *word(used, WKSP_PART_NBR);
  plant64(word(used, WKSP_PART_ADDR), addr + 64, "begins at");
  plant64(word(used, WKSP_PART_ADDR), addr & ~63UL, "no such entry");
  plant64(word(used, WKSP_PART_ADDR), (addr & ~63UL) | 7, "unknown kind");
  plant64(word(used, WKSP_PART_SIZE), 0, "does not lie in the data region");
  plant64(word(used, WKSP_PART_SIZE), 1UL << 40, "does not lie in the data region");
  plant64(word(used, WKSP_PART_SIZE), *word(used, WKSP_PART_SIZE) + 64, "begins at");
  plant64(word(used, WKSP_PART_TAG), 0, "tag is 0");
  plant64(word(used, WKSP_PART_NBR), nbr ^ 9, "link back");
  plant64(word(used, WKSP_PART_NBR), wksp__lo32(nbr), "is the last, but ends at");
  plant64(word(used, WKSP_PART_NBR), wksp__lo32(nbr) | 5000UL << 32, "no such entry");
  plant64(word(used, WKSP_PART_NBR), wksp__lo32(nbr) | (uint64_t)used << 32, "begins at");
  plant64(word(next, WKSP_PART_ADDR), *word(next, WKSP_PART_ADDR) ^ 1UL << 20, "begins at");
  plant64(word(hole, WKSP_PART_ADDR), *word(hole, WKSP_PART_ADDR) ^ WKSP_PART_FREE ^ 1, "tag");
  plant64(word(used, WKSP_PART_ADDR), (addr & ~63UL) | WKSP_PART_FREE,
          "free, as is the one before");
  plant64(word(0, WKSP_PART_LIST), 1, "entry 0");
}

/* Counters and pool. */
static void test_head(void **state) {
  plant64(&g_op.head->cnt, g_op.head->cnt + 1, "counters");
  plant64(&g_op.head->cnt, g_op.head->cnt + (1UL << 32), "counters");
  plant64(&g_op.head->free_sz, g_op.head->free_sz - 64, "counters");
  plant64(&g_op.head->pool, g_op.head->pool & ~0xffffffffUL, "pool");
  plant64(&g_op.head->pool, g_op.head->pool | 0xffffffffUL, "pool");
  plant64(&g_op.head->pool, wksp__lo32(g_op.head->pool) | 100000UL << 32, "pool");
  plant64(&g_op.head->pool, g_op.head->pool + (1UL << 32), "pool");
  uint32_t pooled = wksp__lo32(g_op.head->pool);
  assert_true(pooled > 0);
  plant64(word(pooled, WKSP_PART_IDX), pooled, "pool");
  plant64(word(pooled, WKSP_PART_IDX), wksp__pop_pages(&g_op)[0], "pool");
  plant64(word(pooled, WKSP_PART_ADDR), g_wksp->data_lo | 1, "pool");
}

/* The size index: bins, bitmaps, trees, rings. */
static void test_sizes(void **state) {
  uint32_t tree = some(1, 0), ring = some(1, 1);
  uint32_t bin = wksp__size_bin(*word(tree, WKSP_PART_SIZE)), child = 0, parent = 0;
  for (uint32_t b = 0; b < WKSP_PART_BINS && !child; b++)
    if (g_op.head->bins[b] && *word(g_op.head->bins[b], WKSP_PART_TAG)) {
      parent = g_op.head->bins[b];
      uint64_t both = *word(parent, WKSP_PART_TAG);
      child = wksp__lo32(both) ? wksp__lo32(both) : wksp__hi32(both);
    }
  assert_true(child > 0);
  plant64(&g_op.head->bin_top, 0, "top bitmap");
  plant32(&g_op.head->bin_map[bin / WKSP_PART_BIN_SUBS], 0, "bitmap");
  plant32(&g_op.head->bins[bin], 0, "size index");
  plant32(&g_op.head->bins[bin], 63, "size index");
  plant32(&g_op.head->bins[bin], ~0U, "size index");
  plant32(&g_op.head->bins[bin], some(0, 0), "size index");
  plant64(word(parent, WKSP_PART_TAG), 0, "size index");
  plant64(word(parent, WKSP_PART_TAG),
          *word(parent, WKSP_PART_TAG) << 32 | *word(parent, WKSP_PART_TAG) >> 32, "does not find");
  plant64(word(parent, WKSP_PART_TAG), (uint64_t)parent << 32 | parent, "size index");
  plant64(word(child, WKSP_PART_TAG), (uint64_t)child << 32 | child, "size index");
  plant64(word(child, WKSP_PART_IDX), *word(child, WKSP_PART_IDX) ^ 1UL << 35, "parent is another");
  plant64(word(parent, WKSP_PART_IDX), *word(parent, WKSP_PART_IDX) | 5UL << 32, "has a parent");
  plant64(word(ring, WKSP_PART_LIST), (uint64_t)ring << 32 | ring, "broken");
  plant64(word(ring, WKSP_PART_IDX), wksp__lo32(*word(ring, WKSP_PART_IDX)), "ring");
}

/* The tag index: buckets, chains, rings. */
static void test_tags(void **state) {
  uint32_t first = some(0, 0), ring = some(0, 1);
  uint32_t bucket = wksp__tag_bucket(&g_op, *word(first, WKSP_PART_TAG));
  plant32(&wksp__pop_tags(&g_op)[bucket], 0, "tag index");
  plant32(&wksp__pop_tags(&g_op)[bucket], 5000, "tag index");
  plant32(&wksp__pop_tags(&g_op)[bucket], some(1, 0), "tag index");
  plant32(&wksp__pop_tags(&g_op)[bucket], ring, "tag index");
  uint32_t empty = 0;
  while (wksp__pop_tags(&g_op)[empty]) empty++;
  plant32(&wksp__pop_tags(&g_op)[empty], first, "tag index");
  plant64(word(first, WKSP_PART_IDX), *word(first, WKSP_PART_IDX) ^ (uint64_t)first << 32,
          "tag index");
  plant64(word(ring, WKSP_PART_TAG), 77, "does not belong");
  plant64(word(ring, WKSP_PART_LIST), *word(ring, WKSP_PART_LIST) ^ 1, "broken");
  plant64(word(ring, WKSP_PART_LIST), ~0UL, "broken");
}

/* The page index: firsts, bits, summaries. */
static void test_pages(void **state) {
  uint64_t *bits = wksp__part_bits(&g_op, 0), *above = wksp__part_bits(&g_op, 1);
  plant64(&bits[0], bits[0] & ~1UL, "no bit");
  plant64(&above[0], above[0] ^ 1, "summary");
  plant64(&above[0], above[0] ^ 1UL << 60, "beyond its last");
  uint32_t lowest = wksp__pop_pages(&g_op)[0], page = 1;
  while (!wksp__pop_pages(&g_op)[page]) page++;
  plant32(&wksp__pop_pages(&g_op)[0], 0, "is the last, but ends at");
  plant32(&wksp__pop_pages(&g_op)[0], ~0U, "no such entry");
  plant32(&wksp__pop_pages(&g_op)[0], wksp__hi32(*word(lowest, WKSP_PART_NBR)), "begins at");
  plant32(&wksp__pop_pages(&g_op)[page], 0, "partitions start in");
  plant32(&wksp__pop_pages(&g_op)[page], ~0U, "not in use");
  plant32(&wksp__pop_pages(&g_op)[page], lowest, "page index");
  plant32(&wksp__pop_pages(&g_op)[page],
          wksp__hi32(*word(wksp__pop_pages(&g_op)[page], WKSP_PART_NBR)), "page index");
}

/* The root directory. */
static void test_roots(void **state) {
  wksp__root_t *root = (wksp__root_t *)((uintptr_t)g_wksp + g_wksp->root_off);
  plant64(&root[0].gaddr, 5, "outside the data region");
  plant64(&root[1].name[0], root[0].name[0], "bound twice");
  plant64(&root[1].name[4], 1, "not zero");
  plant64(&root[9].name[7], 1, "not zero");
  uint64_t was[8];
  memcpy(was, root[1].name, sizeof(was));
  memset(root[1].name, 'x', sizeof(was));
  expect("no end");
  memcpy(root[1].name, was, sizeof(was));
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
}

/* The header and the record, of either kind. */
static void test_header_and_record(void **state) {
  wksp__vol_t *vol = wksp__vol(g_wksp);
  plant64(&g_wksp->part_off, g_wksp->part_off + 4096, "header");
  plant64(&g_wksp->part.page_off, g_wksp->part.page_off + 64, "header");
  plant64(&g_wksp->data_max, 1UL << 45, "header");
  plant64(&g_wksp->geometry_hash, 1, "header");
  plant64(&vol->rec, WKSP_REC_UNDO | (WKSP_UNDO_MAX + 1), "its record begins with");
  plant64(&vol->rec, WKSP_REC_REDO | (WKSP_REDO_MAX + 1), "its record begins with");
  plant64(&vol->rec, WKSP_REC_REBUILD, "a rebuild was begun");
  plant64(&vol->rec, ~0UL, "its record begins with");
  uint64_t const bad[] = {8 /* in the header */, g_wksp->data_lo, g_wksp->root_off + 4};
  for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    vol->undo[0].where = vol->redo[0].where = bad[i];
    plant64(&vol->rec, WKSP_REC_UNDO | 1, "record entry 0");
    plant64(&vol->rec, WKSP_REC_REDO | 1, "record entry 0");
  }
}

/* An operation that meets damage says E_CORRUPT and changes nothing. */
static void test_operations_refuse(void **state) {
  uint32_t hole = some(1, 0);
  ulong used = *word(some(0, 0), WKSP_PART_ADDR) & ~63UL;
  uint64_t root = wksp__size_bin(*word(hole, WKSP_PART_SIZE));
  uint32_t was = g_op.head->bins[root];
  size_t size = g_wksp->data_lo - g_wksp->root_off;
  void *copy = malloc(size), *live = (char *)g_wksp + g_wksp->root_off;
  assert_non_null(copy);

  g_op.head->bins[root] = 12345678;
  memcpy(copy, live, size);
  assert_int_equal(fd_wksp_alloc(g_wksp, 64, *word(hole, WKSP_PART_SIZE), 5), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_CORRUPT);
  assert_memory_equal(copy, live, size);
  g_op.head->bins[root] = was;

  memset(wksp__pop_pages(&g_op), 0xff, 4UL * wksp__page_cnt(&g_op));
  memcpy(copy, live, size);
  fd_wksp_part_t part;
  assert_int_equal(fd_wksp_free(g_wksp, used), WKSP_E_CORRUPT);
  assert_int_equal(fd_wksp_part_next(g_wksp, used, &part), WKSP_E_CORRUPT);
  assert_int_equal(fd_wksp_tag(g_wksp, used), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_CORRUPT);
  assert_memory_equal(copy, live, size);
  free(copy);
}

/* Random damage anywhere behind the header: verify, listing, lookups, allocs and frees all end. */
static void test_random_damage(void **state) {
  testing_rng_t rng = testing_rng();
  size_t size = g_wksp->data_lo - g_wksp->root_off, part = g_wksp->span_off - g_wksp->part_off;
  uint64_t *live = (uint64_t *)((uintptr_t)g_wksp + g_wksp->root_off);
  uint64_t *parts = (uint64_t *)((uintptr_t)g_wksp + g_wksp->part_off);
  void *copy = malloc(size);
  assert_non_null(copy);
  memcpy(copy, live, size);
  uint32_t found = 0;
  for (uint32_t i = 0; i < 2000; i++) {
    for (uint64_t n = 1 + testing_below(&rng, 6); n; n--) {
      /* mostly where the entries and buckets are */
      uint64_t *at = testing_below(&rng, 8) ? &parts[testing_below(&rng, part / 8)]
                                            : &live[testing_below(&rng, size / 8)];
      if (testing_below(&rng, 3))
        at = word((uint32_t)testing_below(&rng, 40), (uint32_t)testing_below(&rng, 6));
      switch (testing_below(&rng, 4)) {
      case 0:
        *at = testing_next(&rng);
        break;
      case 1:
        *at ^= 1UL << testing_below(&rng, 64);
        break;
      case 2:
        *at = testing_below(&rng, 64) | testing_below(&rng, 64) << 32;
        break;
      default:
        *at = parts[testing_below(&rng, part / 8)];
        break;
      }
    }
    found += fd_wksp_verify(g_wksp, NULL, NULL) == WKSP_E_CORRUPT;
    fd_wksp_part_t at;
    fd_wksp_usage_t usage;
    ulong from = 0, tags[] = {1, 2, 3};
    for (uint32_t n = 0; n < 100 && fd_wksp_part_next(g_wksp, from, &at) == 1; n++)
      from = at.gaddr + at.size;
    fd_wksp_usage(g_wksp, tags, 3, &usage);
    for (uint32_t n = 0; n < 4; n++) {
      fd_wksp_free(g_wksp, g_wksp->data_lo + testing_below(&rng, g_wksp->data_max));
      fd_wksp_alloc(g_wksp, 64UL << testing_below(&rng, 10), 1 + testing_below(&rng, 70000), 1);
    }
    memcpy(live, copy, size);
  }
  free(copy);
  printf("# %u of 2000 found\n", found);
  assert_true(found > 1000);
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
  struct CMUnitTest const tests[] = {
      CASE(test_entries),
      CASE(test_head),
      CASE(test_sizes),
      CASE(test_tags),
      CASE(test_pages),
      CASE(test_roots),
      CASE(test_header_and_record),
      CASE(test_operations_refuse),
      CASE(test_random_damage),
  };
  return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
