/* timers_test: the earliest first, under random starts and stops. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/core/test_random.h"
#include "daemon/core/timers.h"

#define NODES 200
#define STEPS 20000

/* After any calls, the first is one that no other is before. */
static void test_first(void **state) {
  static timer_node_t nodes[NODES];
  uint64_t random = test_seed();
  timers_t timers = {0};

  for (int step = 0; step < STEPS; step++) {
    timer_node_t *node = &nodes[test_random(&random) % NODES];
    if (node->place)
      timers_stop(&timers, node);
    else
      assert_int_equal(timers_start(&timers, node, 1 + test_random(&random) % 500), 0);
    assert_true(timers_check(&timers));

    uint64_t earliest = UINT64_MAX;
    size_t cnt = 0;
    for (size_t i = 0; i < NODES; i++) {
      if (!nodes[i].place) continue;
      cnt++;
      if (nodes[i].due_ns < earliest) earliest = nodes[i].due_ns;
    }
    assert_int_equal(timers.cnt, cnt);
    if (cnt)
      assert_int_equal(timers_first(&timers)->due_ns, earliest);
    else
      assert_null(timers_first(&timers));
  }

  uint64_t before = 0;
  for (timer_node_t *node; (node = timers_first(&timers));) {
    assert_true(node->due_ns >= before);
    before = node->due_ns;
    timers_stop(&timers, node);
  }
  timers_clear(&timers);
}

/* Stopping a stopped one does nothing. */
static void test_stopped(void **state) {
  timers_t timers = {0};
  timer_node_t node = {0};
  timers_stop(&timers, &node);
  assert_null(timers_first(&timers));
  timers_clear(&timers);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_first),
      cmocka_unit_test(test_stopped),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
