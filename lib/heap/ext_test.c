/* The typed helpers: sizes, overflow, copies, and the locked variant. */

#include "core/testing.h"
#include "wksp/ext.h"
#include "wksp/heap.h"

#include <pthread.h>

typedef struct point {
  double x, y;
  char name[9];
} point_t;

static wksp_heap_t *g_heap;

static int setup(void **state) {
  (void)state;
  wksp_heap_cfg_t cfg = {.size = 8UL << 20, .flags = WKSP_HEAP_NO_FALLBACK};
  g_heap = wksp_heap_init(&cfg);
  return !g_heap;
}

static int teardown(void **state) {
  (void)state;
  return wksp_heap_destroy(g_heap) != 0;
}

/* Objects and arrays have the size of their type, and zeroed ones are zero. */
static void test_objects(void **state) {
  (void)state;
  fd_valloc_t valloc = wksp_heap_virtual(g_heap);
  point_t *one = wksp_ext_new(valloc, point_t), *zero = wksp_ext_new_zero(valloc, point_t);
  assert_true(wksp_heap_usable_size(g_heap, one) >= sizeof *one);
  assert_int_equal((ulong)one % __alignof__(point_t), 0);
  assert_true(zero->x == 0.0 && !zero->name[8]);
  point_t *all = wksp_ext_array(valloc, point_t, 1000);
  assert_true(wksp_heap_usable_size(g_heap, all) >= 1000 * sizeof *all);
  point_t *zeros = wksp_ext_array_zero(valloc, point_t, 1000);
  for (uint i = 0; i < 1000; i++) assert_true(zeros[i].y == 0.0);
  for (uint i = 0; i < 1000; i++) all[i].x = i;
  all = wksp_ext_resize(valloc, all, point_t, 1000, 3000);
  for (uint i = 0; i < 1000; i++) assert_true(all[i].x == i);
  all = wksp_ext_resize(valloc, all, point_t, 3000, 10);
  for (uint i = 0; i < 10; i++) assert_true(all[i].x == i);
  assert_null(wksp_ext_resize(valloc, all, point_t, 10, 0));
  wksp_ext_free(valloc, zeros);
  wksp_ext_free(valloc, one);
  wksp_ext_free(valloc, zero);
}

/* Counts that overflow, and more than there is, are NULL, and leave what was there. */
static void test_overflow(void **state) {
  (void)state;
  fd_valloc_t valloc = wksp_heap_virtual(g_heap);
  ulong const many[] = {~0UL, ~0UL / sizeof(point_t) + 1, 1UL << 40};
  point_t *all = wksp_ext_array(valloc, point_t, 2);
  all[1].x = 5;
  for (uint i = 0; i < 3; i++) {
    assert_null(wksp_ext_array(valloc, point_t, many[i]));
    assert_null(wksp_ext_array_zero(valloc, point_t, many[i]));
    assert_null(wksp_ext_resize(valloc, all, point_t, 2, many[i]));
    assert_true(all[1].x == 5);
  }
  assert_null(wksp_ext_array(valloc, point_t, 0));
  wksp_ext_free(valloc, all);
}

/* Copies of strings and bytes. */
static void test_copies(void **state) {
  (void)state;
  fd_valloc_t valloc = wksp_heap_virtual(g_heap);
  char *all = wksp_ext_strdup(valloc, "workspace"), *some = wksp_ext_strndup(valloc, all, 4),
       *none = wksp_ext_strdup(valloc, ""), *bytes = wksp_ext_memdup(valloc, all, 5);
  assert_string_equal(all, "workspace");
  assert_string_equal(some, "work");
  assert_string_equal(none, "");
  assert_memory_equal(bytes, "works", 5);
  assert_null(wksp_ext_memdup(valloc, all, 0));
  wksp_ext_free(valloc, all);
  wksp_ext_free(valloc, some);
  wksp_ext_free(valloc, none);
  wksp_ext_free(valloc, bytes);
}

/* An allocator for one thread: it counts without care. */
typedef struct careless {
  fd_valloc_t of;
  ulong volatile live;
} careless_t;

static void *careless_malloc(void *self, ulong align, ulong sz) {
  careless_t *careless = self;
  void *ptr = fd_valloc_malloc(careless->of, align, sz);
  careless->live = careless->live + 1;
  return ptr;
}

static void careless_free(void *self, void *ptr) {
  careless_t *careless = self;
  careless->live = careless->live - 1;
  fd_valloc_free(careless->of, ptr);
}

static void *use(void *arg) {
  fd_valloc_t *valloc = arg;
  for (uint i = 0; i < 20000; i++) wksp_ext_free(*valloc, wksp_ext_new(*valloc, point_t));
  return NULL;
}

/* Behind a mutex an allocator for one thread serves several. */
static void test_locked(void **state) {
  (void)state;
  static fd_valloc_vtable_t const table = {careless_malloc, careless_free};
  careless_t careless = {.of = wksp_heap_virtual(g_heap)};
  wksp_ext_locked_t locked;
  assert_int_equal(wksp_ext_locked_init(&locked, (fd_valloc_t){&careless, &table}), 0);
  fd_valloc_t valloc = wksp_ext_locked(&locked);
  pthread_t threads[3];
  for (uint i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, use, &valloc), 0);
  for (uint i = 0; i < 3; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  assert_int_equal(careless.live, 0);
  wksp_ext_locked_destroy(&locked);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_objects),
      cmocka_unit_test(test_overflow),
      cmocka_unit_test(test_copies),
      cmocka_unit_test(test_locked),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
