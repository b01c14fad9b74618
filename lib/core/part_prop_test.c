/* Random operations of every kind against the plain model, a million of them: small workspaces with
   the invariants checked and everything compared after each step, larger ones every now and then.
   Lives are short, so that the first and the last free partition, a full table and a full region
   come up all the time.

   The sanitized build takes a tenth of the steps, the long form ten times as many. */

#include "core/test_model.h"

#if defined(__SANITIZE_ADDRESS__)
#define TEST_SCALE 1UL
#else
#define TEST_SCALE 10UL
#endif

#define TEST_TAGS 10

/* What a run has met: what is 0 in the end has not been tested. */
typedef struct met {
  uint64_t steps, lives, taken, given, no_hole, no_entry, exact, tag_freed, queried, resets,
      rebuilds, roots;
} met_t;

typedef struct life {
  fd_wksp_t *wksp;
  testing_rng_t *rng;
  met_t *met;
  model_t model;
  ulong unit; /* sizes are mostly around so much */
} life_t;

static ulong below(life_t *life, ulong cnt) {
  return testing_below(life->rng, cnt);
}

/* Few tags, so that rings grow; some of them far out. */
static ulong random_tag(life_t *life) {
  static ulong const tags[TEST_TAGS] = {1, 2, 3, 4, 5, 64, 1UL << 32, 1UL << 63, ~1UL, ~0UL};
  return tags[below(life, TEST_TAGS)];
}

static ulong random_size(life_t *life) {
  ulong data = life->model.hi - life->model.lo;
  switch (below(life, 16)) {
  case 0:
    return 1 + below(life, data);
  case 1:
    return data - below(life, 3);
  case 2: {
    ulong const odd[] = {data + 1, 1UL << 46, 1UL << 63, ~0UL - 63, ~0UL - 62, ~0UL};
    return odd[below(life, 6)];
  }
  case 3:
  case 4:
    return 1 + below(life, 64);
  case 5:
  case 6: { /* of a hole, exactly or about */
    model_range_t const *range = &life->model.range[below(life, life->model.cnt)];
    return range->size - below(life, 2) * below(life, range->size);
  }
  case 7:
  case 8:
  case 9:
    return 1 + below(life, 16 * life->unit);
  default:
    return 64 * (1 + below(life, 1 + life->unit / 64));
  }
}

static ulong random_align(life_t *life) {
  switch (below(life, 8)) {
  case 0:
    return 0;
  case 1:
    return 1UL << below(life, 64);
  case 2:
  case 3:
    return 1UL << below(life, 17);
  default:
    return 1UL << below(life, 7);
  }
}

/* Any byte: mostly of a used partition, now and then of a hole or from outside. */
static ulong random_gaddr(life_t *life) {
  model_t *model = &life->model;
  ulong const outside[] = {0, 1, model->lo - 1, model->hi, model->hi + 64, ~0UL};
  if (!below(life, 24)) return outside[below(life, 6)];
  uint32_t i = (uint32_t)below(life, model->cnt);
  if (!model->range[i].tag && below(life, 8)) i = (i + 1) % model->cnt;
  return model->range[i].gaddr + below(life, model->range[i].size);
}

/* Fails with the sentence, if there is one. */
static void expect(life_t *life, char const *differs) {
  if (!differs) return;
  print_error("step %lu in life %lu: %s (last error: %s)\n", life->met->steps, life->met->lives,
              differs, wksp_last_error());
  fail();
}

/* Operations ----------------------------------------------------------------------------------- */

static void do_alloc(life_t *life) {
  ulong align = random_align(life), sz = random_size(life), tag = random_tag(life);
  ulong lo = 3, hi = 5, size = model_size(sz), aligned = model_align(align);
  ulong gaddr = fd_wksp_alloc_at_least(life->wksp, align, sz, tag, &lo, &hi);
  if (gaddr) {
    uint32_t cnt = life->model.cnt;
    expect(life, lo == gaddr && hi == gaddr + size ? NULL : "alloc: the range is not what it gave");
    expect(life, model_take(&life->model, gaddr, aligned, size, tag));
    life->met->taken++;
    life->met->exact += cnt == life->model.cnt;
    return;
  }
  int why = model_refuses(&life->model, aligned, size);
  expect(life, why == MODEL_FITS ? "alloc was refused although there is room" : NULL);
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  assert_true(lo == 3 && hi == 5);
  life->met->no_hole += why == MODEL_NO_HOLE;
  life->met->no_entry += why == MODEL_NO_ENTRY;
}

static void do_free(life_t *life) {
  ulong gaddr = random_gaddr(life);
  uint32_t i = model_inside(&life->model, gaddr) ? model_at(&life->model, gaddr) : 0;
  int used = model_inside(&life->model, gaddr) && life->model.range[i].tag;
  assert_int_equal(fd_wksp_free(life->wksp, gaddr), used ? 0 : WKSP_E_NOTFOUND);
  if (used) model_give(&life->model, i);
  life->met->given += (uint64_t)used;
}

static void do_tag(life_t *life) {
  ulong gaddr = random_gaddr(life);
  ulong want =
      model_inside(&life->model, gaddr) ? life->model.range[model_at(&life->model, gaddr)].tag : 0;
  assert_int_equal(fd_wksp_tag(life->wksp, gaddr), want);
}

static ulong random_tags(life_t *life, ulong *ret_tags) {
  ulong cnt = below(life, 5);
  for (ulong i = 0; i < cnt; i++) ret_tags[i] = below(life, 8) ? random_tag(life) : 1000 + i;
  return cnt;
}

static void do_tag_free(life_t *life) {
  ulong tags[4], cnt = random_tags(life, tags);
  if (cnt > 2 && below(life, 4)) cnt = 1; /* else too little is left */
  long want = model_tag_free(&life->model, tags, cnt);
  assert_int_equal(fd_wksp_tag_free(life->wksp, tags, cnt), want);
  life->met->tag_freed += (uint64_t)want;
}

static int by_gaddr(void const *a, void const *b) {
  ulong x = ((fd_wksp_part_t const *)a)->gaddr, y = ((fd_wksp_part_t const *)b)->gaddr;
  return (x > y) - (x < y);
}

static void do_tag_query(life_t *life) {
  enum { INFOS = 100 };
  fd_wksp_part_t info[INFOS + 1];
  ulong tags[4], cnt = random_tags(life, tags), max = below(life, INFOS + 1);
  fd_wksp_usage_t usage = model_usage(&life->model, tags, cnt);
  if (!cnt) usage.used_cnt = 0; /* here no tag finds nothing */
  info[max].gaddr = 77;
  assert_int_equal(fd_wksp_tag_query(life->wksp, tags, cnt, info, max), (long)usage.used_cnt);
  assert_int_equal(info[max].gaddr, 77);
  if (max > usage.used_cnt) max = usage.used_cnt;
  qsort(info, max, sizeof *info, by_gaddr);
  for (ulong i = 0; i < max; i++) {
    model_range_t const *range = &life->model.range[model_at(&life->model, info[i].gaddr)];
    assert_true(info[i].gaddr == range->gaddr && info[i].size == range->size &&
                info[i].tag == range->tag && info[i].kind == FD_WKSP_KIND_USER);
    assert_true(model_among(tags, cnt, range->tag));
    assert_true(!i || info[i].gaddr != info[i - 1].gaddr);
  }
  life->met->queried += max;
}

static void do_usage(life_t *life) {
  ulong tags[4], cnt = random_tags(life, tags);
  fd_wksp_usage_t is, want = model_usage(&life->model, tags, cnt);
  assert_int_equal(fd_wksp_usage(life->wksp, tags, cnt, &is), 0);
  assert_memory_equal(&is, &want, sizeof is);
}

static void do_root(life_t *life) {
  char name[FD_WKSP_ROOT_NAME_MAX + 1];
  uint32_t i = (uint32_t)below(life, MODEL_ROOTS);
  model_root_t *root = &life->model.root[i];
  ulong gaddr = random_gaddr(life), tag = testing_next(life->rng);
  int legal = model_inside(&life->model, gaddr), rc;
  model_root_name(i, name);
  life->met->roots++;
  if (!below(life, 3)) {
    assert_int_equal(fd_wksp_root_remove(life->wksp, name), root->gaddr ? 0 : WKSP_E_NOTFOUND);
    *root = (model_root_t){0};
    return;
  }
  if (below(life, 2)) {
    rc = fd_wksp_root_add(life->wksp, name, gaddr, tag);
    assert_int_equal(rc, !legal ? WKSP_E_INVAL : root->gaddr ? WKSP_E_EXISTS : 0);
  } else {
    rc = fd_wksp_root_set(life->wksp, name, gaddr, tag);
    assert_int_equal(rc, legal ? 0 : WKSP_E_INVAL);
  }
  if (!rc) *root = (model_root_t){gaddr, tag};
}

static void do_reset(life_t *life) {
  uint seed = (uint)testing_next(life->rng);
  assert_int_equal(fd_wksp_reset(life->wksp, seed), 0);
  model_reset(&life->model, seed);
  life->met->resets++;
}

static void on_loss(void *arg, char const *sentence) {
  print_error("lost: %s\n", sentence);
  fail();
}

/* Of what is not damaged nothing is lost, and nothing moves. */
static void do_rebuild(life_t *life) {
  life->model.seed = (uint)testing_next(life->rng);
  assert_int_equal(fd_wksp_rebuild(life->wksp, life->model.seed, on_loss, NULL), 0);
  life->met->rebuilds++;
}

/* Clears a small partition and nothing beside it. */
static void do_memset(life_t *life) {
  model_t *model = &life->model;
  uint32_t i = (uint32_t)below(life, model->cnt);
  model_range_t const *range = &model->range[i];
  ulong byte = range->gaddr + below(life, range->size), end = range->gaddr + range->size;
  if (range->tag && range->size > 4096) return;
  uchar *at = fd_wksp_laddr(life->wksp, range->gaddr), c = (uchar)testing_next(life->rng);
  uchar before = range->gaddr == model->lo ? 0 : at[-1],
        after = end == model->hi ? 0 : at[range->size];
  assert_int_equal(fd_wksp_memset(life->wksp, byte, c), range->tag ? 0 : WKSP_E_NOTFOUND);
  if (range->tag) assert_true(at[0] == c && at[range->size - 1] == c && at[range->size / 2] == c);
  assert_true(range->gaddr == model->lo || at[-1] == before);
  assert_true(end == model->hi || at[range->size] == after);
}

/* One operation. bias: of 100, how many are allocs and how many, at most, frees. */
static void step(life_t *life, ulong bias) {
  ulong what = below(life, 1000);
  life->met->steps++;
  if (what < 800) {
    if (below(life, 100) < bias)
      do_alloc(life);
    else
      do_free(life);
  } else if (what < 850)
    do_tag(life);
  else if (what < 870)
    do_tag_free(life);
  else if (what < 910)
    do_tag_query(life);
  else if (what < 930)
    do_usage(life);
  else if (what < 980)
    do_root(life);
  else if (what < 996)
    do_memset(life);
  else if (what < 998)
    do_rebuild(life);
  else
    do_reset(life);
}

/* Lives ---------------------------------------------------------------------------------------- */

static void compare(life_t *life) {
  if (wksp__part_check(life->wksp, testing_finding, NULL)) expect(life, "the invariants are hurt");
  expect(life, model_differs(&life->model, life->wksp));
}

/* A workspace from its making to its end; check_every: steps between two comparisons. */
static void live(testing_rng_t *rng, met_t *met, ulong part_max, ulong data_max, ulong steps,
                 ulong check_every) {
  static uint32_t const bias[] = {92, 55, 50, 20};
  life_t life = {.wksp = testing_wksp(part_max, data_max), .rng = rng, .met = met};
  model_new(&life.model, life.wksp);
  met->lives++;
  /* either the table is full first or the region */
  life.unit = data_max / part_max * (below(&life, 2) ? 1 : 3) / (1 + below(&life, 4));
  ulong phase = steps / 4 + 1, turn = below(&life, 4);
  for (ulong i = 0; i < steps; i++) {
    step(&life, bias[(turn + i / phase) % 4]);
    if (i % check_every == 0) compare(&life);
  }
  compare(&life);
  while (life.model.cnt > 1 || life.model.range[0].tag) {
    uint32_t i = 0;
    while (!life.model.range[i].tag) i++;
    assert_int_equal(fd_wksp_free(life.wksp, life.model.range[i].gaddr), 0);
    model_give(&life.model, i);
  }
  compare(&life);
  model_end(&life.model);
  testing_wksp_end(life.wksp);
}

static ulong scale(void) {
  char const *full = getenv("WKSP_TEST_FULL");
  return full && !strcmp(full, "1") ? 10 * TEST_SCALE : TEST_SCALE;
}

static void tell(met_t const *met) {
  printf(
      "# %lu steps in %lu lives: %lu allocs (%lu exact), %lu refused for want of room and %lu of "
      "entries; %lu freed, %lu by tag; %lu queried, %lu root calls, %lu resets, %lu rebuilds\n",
      met->steps, met->lives, met->taken, met->exact, met->no_hole, met->no_entry, met->given,
      met->tag_freed, met->queried, met->roots, met->resets, met->rebuilds);
  assert_true(met->taken && met->exact && met->no_hole && met->given && met->tag_freed &&
              met->queried && met->roots && met->resets && met->rebuilds);
}

/* In small workspaces the table equals the model and its indexes are whole after every step. */
static void test_small(void **state) {
  static ulong const part_max[] = {8, 9, 16, 24, 31, 32, 33, 64, 120};
  testing_rng_t rng = testing_rng();
  met_t met = {0};
  while (met.steps < 80000 * scale()) {
    ulong parts = part_max[testing_below(&rng, 9)];
    ulong data = testing_below(&rng, 8) ? 65536 : 65536UL << testing_below(&rng, 6);
    live(&rng, &met, parts, data, 40 + testing_below(&rng, 600), 1);
  }
  tell(&met);
  assert_true(met.no_entry > 0);
}

/* In workspaces of some hundred partitions it does so every eighth step, in those of thousands
   every 512th. */
static void test_larger(void **state) {
  testing_rng_t rng = testing_rng();
  met_t met = {0};
  while (met.steps < 12000 * scale())
    live(&rng, &met, 200 + testing_below(&rng, 800), 1UL << (18 + testing_below(&rng, 6)), 4000, 8);
  while (met.steps < 20000 * scale()) live(&rng, &met, 20000, 16UL << 20, 20000, 512);
  tell(&met);
}

/* Edges ---------------------------------------------------------------------------------------- */

/* With every second of 16,384 partitions of one grain freed nothing larger than a grain can be had
   though half of the region is free; each hole can, and merging gives all of it back. */
static void test_fragmented(void **state) {
  enum { GRAINS = 16384 };
  ulong const tags[] = {1, 2};
  fd_wksp_t *wksp = testing_wksp(GRAINS, GRAINS * FD_WKSP_PART_GRAIN);
  fd_wksp_usage_t usage;
  for (uint32_t i = 0; i < GRAINS; i++)
    assert_true(fd_wksp_alloc(wksp, 64, 1 + i % 64, 1 + i % 2) > 0);
  assert_int_equal(fd_wksp_alloc(wksp, 1, 1, 3), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  for (ulong at = fd_wksp_gaddr_lo(wksp) + 127; at < fd_wksp_gaddr_hi(wksp); at += 128)
    assert_int_equal(fd_wksp_free(wksp, at), 0);
  assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
  assert_int_equal(fd_wksp_usage(wksp, tags, 2, &usage), 0);
  assert_true(usage.used_cnt == GRAINS / 2 && usage.free_cnt == GRAINS / 2 &&
              usage.free_sz == GRAINS * 32 && usage.free_sz_max == 64);
  assert_int_equal(fd_wksp_alloc(wksp, 64, 65, 3), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  assert_int_equal(fd_wksp_alloc(wksp, 128, 64, 3), 0); /* all holes are at odd grains */
  for (uint32_t i = 0; i < GRAINS / 2; i++) assert_true(fd_wksp_alloc(wksp, 64, 64, 2) > 0);
  assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
  assert_int_equal(fd_wksp_tag_free(wksp, &tags[1], 1), GRAINS / 2);
  assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
  assert_int_equal(fd_wksp_tag_free(wksp, tags, 1), GRAINS / 2);
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &usage), 0);
  assert_true(usage.total_cnt == 1 && usage.free_sz_max == GRAINS * FD_WKSP_PART_GRAIN);
  testing_wksp_end(wksp);
}

/* What cannot be asked for is refused for what it is, changes nothing, and leaves outputs alone. */
static void test_refused(void **state) {
  fd_wksp_t *wksp = testing_wksp(8, 65536);
  ulong lo = 3, hi = 5, zero[] = {4, 0};
  model_t model;
  fd_wksp_usage_t usage;
  model_new(&model, wksp);
  for (uint32_t lg = 2; lg < 64; lg++) {
    assert_int_equal(fd_wksp_alloc_at_least(wksp, (1UL << lg) - 1, 64, 1, &lo, &hi), 0);
    assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  }
  assert_int_equal(fd_wksp_alloc_at_least(wksp, ~0UL, 64, 1, &lo, &hi), 0);
  assert_int_equal(fd_wksp_alloc_at_least(wksp, 64, 64, 0, &lo, &hi), 0);
  assert_int_equal(fd_wksp_alloc_at_least(wksp, 64, 0, 1, &lo, &hi), 0);
  assert_int_equal(fd_wksp_alloc_at_least(wksp, 1UL << 63, ~0UL, 1, &lo, &hi), 0);
  assert_true(lo == 3 && hi == 5);
  assert_int_equal(fd_wksp_tag_free(wksp, zero, 2), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_tag_query(wksp, zero, 2, NULL, 0), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_usage(wksp, zero, 2, &usage), WKSP_E_INVAL);
  assert_null(model_differs(&model, wksp));
  assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
  model_end(&model);
  testing_wksp_end(wksp);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_small),
      cmocka_unit_test(test_larger),
      cmocka_unit_test(test_fragmented),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests_name("part_prop", tests, NULL, NULL);
}
