/* idmap_test: the map against a plain array, under random calls. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/core/idmap.h"

#define IDS   300
#define STEPS 20000

static uint64_t env_seed(void) {
  char const *text = getenv("WKSP_TEST_SEED");
  uint64_t seed = text && *text ? strtoull(text, NULL, 10) : 7;
  print_message("# WKSP_TEST_SEED=%lu\n", seed);
  return seed;
}

static uint64_t next_random(uint64_t *random) {
  *random = *random * 6364136223846793005UL + 1442695040888963407UL;
  return *random >> 33;
}

/* After any calls, the map finds exactly what is in it, and a walk meets each item once. */
static void test_against_array(void **state) {
  static int items[IDS];
  static uint64_t ids[IDS];
  char there[IDS] = {0};
  uint64_t random = env_seed();
  idmap_t map = {0};
  size_t cnt = 0;

  for (size_t i = 0; i < IDS; i++) ids[i] = i < IDS / 2 ? i : next_random(&random) << 32 | i;
  for (int step = 0; step < STEPS; step++) {
    size_t i = next_random(&random) % IDS;
    if (there[i])
      idmap_remove(&map, ids[i]);
    else
      assert_int_equal(idmap_add(&map, ids[i], &items[i]), 0);
    cnt += there[i] ? -1UL : 1UL;
    there[i] = !there[i];
    assert_int_equal(map.cnt, cnt);
    if (step % 100 == 0) {
      assert_true(idmap_check(&map));
      for (size_t k = 0; k < IDS; k++)
        assert_ptr_equal(idmap_get(&map, ids[k]), there[k] ? &items[k] : NULL);
      size_t place = 0, met = 0;
      while (idmap_next(&map, &place)) met++;
      assert_int_equal(met, cnt);
    }
  }
  idmap_clear(&map);
}

/* An empty map has nothing, and taking from it does nothing. */
static void test_empty(void **state) {
  idmap_t map = {0};
  size_t place = 0;
  assert_null(idmap_get(&map, 0));
  idmap_remove(&map, 5);
  assert_null(idmap_next(&map, &place));
  assert_true(idmap_check(&map));
  idmap_clear(&map);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_against_array),
      cmocka_unit_test(test_empty),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
