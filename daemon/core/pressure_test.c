/* pressure_test: what is told, and how often. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/core/pressure.h"

static engine_pressure_t of_uid(uint32_t uid, uint64_t used) {
  return (engine_pressure_t){.what = "things",
                             .of = ENGINE_PRESSURE_OF_UID,
                             .uid = uid,
                             .node = -1,
                             .used = used,
                             .limit = 100};
}

/* High from nine tenths on, low below eight; no bound is too large to be judged. */
static void test_judge(void **state) {
  for (uint64_t used = 0; used <= 200; used++) {
    assert_int_equal(pressure_judge(0, used, 100), used >= 90);
    assert_int_equal(pressure_judge(1, used, 100), used >= 80);
  }
  assert_true(pressure_judge(0, UINT64_MAX, UINT64_MAX));
  assert_false(pressure_judge(0, UINT64_MAX / 2, UINT64_MAX));
  assert_true(pressure_judge(0, 1, 1));
  assert_false(pressure_judge(1, 0, 1));
  assert_true(pressure_judge(0, 0, 0));
}

/* Each rise is told once and each fall once, whatever it does in between, and of each by itself. */
static void test_edges(void **state) {
  static pressure_t pressure;
  static struct {
    uint64_t used;
    int told, high;
  } const course[] = {{89, 0, 0}, {90, 1, 1}, {100, 0, 1}, {85, 0, 1}, {95, 0, 1},
                      {80, 0, 1}, {79, 1, 0}, {89, 0, 0},  {91, 1, 1}};
  for (size_t i = 0; i < sizeof(course) / sizeof(*course); i++) {
    engine_pressure_t one = of_uid(1, course[i].used), other = of_uid(2, 50);
    pressure_begin(&pressure);
    assert_int_equal(pressure_gauge(&pressure, &one), course[i].told);
    assert_int_equal(one.high, course[i].high);
    assert_int_equal(pressure_gauge(&pressure, &other), 0);
    assert_int_equal(pressure.cnt, course[i].high);
    assert_int_equal(pressure_gone(&pressure, &one), 0);
  }
}

/* What differs in any part of what it is about is another one. */
static void test_keys(void **state) {
  static pressure_t pressure;
  engine_pressure_t first = of_uid(1, 95);
  pressure_begin(&pressure);
  assert_int_equal(pressure_gauge(&pressure, &first), 1);
  for (int part = 0; part < 6; part++) {
    engine_pressure_t other = of_uid(1, 95);
    if (part == 0) other.what = "others";
    if (part == 1) other.of = ENGINE_PRESSURE_OF_ALL;
    if (part == 2) other.uid = 2;
    if (part == 3) memcpy(other.tag, "red", 4);
    if (part == 4) other.page_size = 4096;
    if (part == 5) other.node = 0;
    assert_int_equal(pressure_gauge(&pressure, &other), 1);
    assert_int_equal(pressure_gauge(&pressure, &other), 0);
  }
  assert_int_equal(pressure.cnt, 7);
}

/* One that is looked at no more, its user gone or its rule, is low: told once. */
static void test_gone(void **state) {
  static pressure_t pressure;
  engine_pressure_t gone;
  pressure_begin(&pressure);
  for (uint32_t uid = 1; uid < 4; uid++) {
    engine_pressure_t gauge = of_uid(uid, 95);
    assert_int_equal(pressure_gauge(&pressure, &gauge), 1);
  }
  engine_pressure_t two = of_uid(2, 99);
  pressure_begin(&pressure);
  assert_int_equal(pressure_gauge(&pressure, &two), 0);
  uint32_t told = 0;
  while (pressure_gone(&pressure, &gone)) {
    assert_int_equal(gone.high, 0);
    told += gone.uid;
  }
  assert_int_equal(told, 1 + 3);
  assert_int_equal(pressure.cnt, 1);
  assert_int_equal(pressure.high[0].used, 99);
}

/* More than can be kept are not told, and those that are kept go on. */
static void test_full(void **state) {
  static pressure_t pressure;
  engine_pressure_t gauge, gone;
  pressure_begin(&pressure);
  for (uint32_t uid = 0; uid < PRESSURE_MAX + 10; uid++) {
    gauge = of_uid(uid, 95);
    assert_int_equal(pressure_gauge(&pressure, &gauge), uid < PRESSURE_MAX);
  }
  gauge = of_uid(0, 0);
  assert_int_equal(pressure_gauge(&pressure, &gauge), 1);
  gauge = of_uid(PRESSURE_MAX, 95);
  assert_int_equal(pressure_gauge(&pressure, &gauge), 1);
  assert_int_equal(pressure_gone(&pressure, &gone), 0);
}

int main(void) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(test_judge), cmocka_unit_test(test_edges),
                                     cmocka_unit_test(test_keys), cmocka_unit_test(test_gone),
                                     cmocka_unit_test(test_full)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
