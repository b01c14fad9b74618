/* registry_test: the indexes agree, and a place in the order of names is found whoever is there. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/core/registry.h"

static ws_t *add(registry_t *registry, uint64_t id, char const *name, int named) {
  ws_t *ws = registry_add(registry, id);
  assert_non_null(ws);
  snprintf(ws->spec.name, sizeof(ws->spec.name), "%s", name);
  ws->spec.uuid[0] = (uint8_t)id;
  ws->state = named ? WS_READY : WS_REMOVING;
  assert_int_equal(registry_list(registry, ws, named), 0);
  assert_int_equal(registry_add_uuid(registry, ws), 0);
  assert_null(registry_check(registry));
  return ws;
}

/* The order is by name, then the holder of the name, then removed ones by id. */
static void test_order(void **state) {
  registry_t registry = {0};
  add(&registry, 5, "b", 0);
  add(&registry, 1, "c", 1);
  add(&registry, 9, "b", 1);
  add(&registry, 4, "b", 0);
  add(&registry, 7, "a", 1);
  uint64_t const order[] = {7, 9, 4, 5, 1};
  assert_int_equal(registry.by_name.cnt, 5);
  for (size_t i = 0; i < 5; i++) assert_int_equal(registry.by_name.items[i]->spec.ws_id, order[i]);

  assert_int_equal(registry_after(&registry, "a", 1, UINT64_MAX), 1);
  assert_int_equal(registry_after(&registry, "aa", 1, UINT64_MAX), 1);
  assert_int_equal(registry_after(&registry, "b", 1, UINT64_MAX), 2);
  assert_int_equal(registry_after(&registry, "b", 0, 4), 3);
  assert_int_equal(registry_after(&registry, "b", 0, 6), 4);
  assert_int_equal(registry_after(&registry, "c", 1, UINT64_MAX), 5);
  assert_int_equal(registry_after(&registry, "0", 1, UINT64_MAX), 0);
  registry_clear(&registry);
}

/* A name finds its holder, never a removed one, and can be taken again when it is free. */
static void test_names(void **state) {
  registry_t registry = {0};
  ws_t *removed = add(&registry, 1, "a", 0);
  assert_null(registry_by_name(&registry, "a"));
  ws_t *holder = add(&registry, 2, "a", 1);
  assert_ptr_equal(registry_by_name(&registry, "a"), holder);
  registry_remove(&registry, holder);
  assert_null(registry_by_name(&registry, "a"));
  assert_null(registry_by_id(&registry, 2));
  assert_ptr_equal(registry_by_id(&registry, 1), removed);
  assert_null(registry_check(&registry));
  registry_clear(&registry);
}

/* A uuid finds its workspace. */
static void test_uuid(void **state) {
  registry_t registry = {0};
  uint8_t uuid[16] = {3};
  assert_null(registry_by_uuid(&registry, uuid));
  add(&registry, 2, "a", 1);
  ws_t *ws = add(&registry, 3, "b", 1);
  add(&registry, 4, "c", 1);
  assert_ptr_equal(registry_by_uuid(&registry, uuid), ws);
  registry_remove(&registry, ws);
  assert_null(registry_by_uuid(&registry, uuid));
  assert_null(registry_check(&registry));
  registry_clear(&registry);
}

/* The check sees each thing that can be wrong with what it walks. */
static void test_check(void **state) {
  registry_t registry = {0};
  ws_t *a = add(&registry, 1, "a", 1), *b = add(&registry, 2, "b", 1);
  a->rw_cnt = 1;
  assert_non_null(registry_check(&registry));
  a->rw_cnt = 0;
  a->awaiting = 1;
  assert_non_null(registry_check(&registry));
  a->awaiting = 0;
  a->state = WS_MEMORY;
  assert_non_null(registry_check(&registry));
  a->state = WS_READY;
  a->spec.name[0] = 'z';
  assert_non_null(registry_check(&registry));
  a->spec.name[0] = 'b';
  assert_non_null(registry_check(&registry));
  a->spec.name[0] = 'a';
  b->spec.uuid[0] = 1;
  assert_non_null(registry_check(&registry));
  b->spec.uuid[0] = 2;
  assert_null(registry_check(&registry));
  registry_clear(&registry);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_order),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_uuid),
      cmocka_unit_test(test_check),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
