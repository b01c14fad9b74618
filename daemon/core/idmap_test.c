/* idmap_test: the map against a plain array, under random calls. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/core/idmap.h"
#include "daemon/core/test_random.h"

#define IDS   300
#define STEPS 20000

/* After any calls, the map finds exactly what is in it, and a walk meets each item once. */
static void test_against_array(void **state) {
  static int items[IDS];
  static uint64_t ids[IDS];
  char there[IDS] = {0};
  uint64_t random = test_seed();
  idmap_t map = {0};
  size_t cnt = 0;

  for (size_t i = 0; i < IDS; i++) ids[i] = i < IDS / 2 ? i : test_random(&random) << 32 | i;
  for (int step = 0; step < STEPS; step++) {
    size_t i = test_random(&random) % IDS;
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
