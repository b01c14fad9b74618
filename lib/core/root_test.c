/* Named roots. */

#include "core/testing.h"

#include "core/root.h"
#include "core/tx.h"

#include <pthread.h>

static fd_wksp_t *g_wksp;
static ulong g_lo;

static int setup(void **state) {
  g_wksp = testing_wksp(64, 1UL << 20);
  g_lo = fd_wksp_gaddr_lo(g_wksp);
  return 0;
}

static int teardown(void **state) {
  int damaged = fd_wksp_verify(g_wksp, testing_sentence, NULL);
  testing_wksp_end(g_wksp);
  return damaged;
}

/* What is bound is found, rebound, listed and removed; what is not is E_NOTFOUND. */
static void test_life(void **state) {
  fd_wksp_root_t root;
  assert_int_equal(fd_wksp_root_find(g_wksp, "table", &root), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_root_remove(g_wksp, "table"), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_root_set(g_wksp, "table", g_lo, 7), 0);
  assert_int_equal(fd_wksp_root_add(g_wksp, "table", g_lo + 64, 8), WKSP_E_EXISTS);
  assert_int_equal(fd_wksp_root_find(g_wksp, "table", &root), 0);
  assert_true(!strcmp(root.name, "table") && root.gaddr == g_lo && root.tag == 7);
  assert_int_equal(fd_wksp_root_set(g_wksp, "table", g_lo + 128, 9), 0);
  assert_int_equal(fd_wksp_root_add(g_wksp, "tabl", g_lo + 1, 0), 0);
  assert_int_equal(fd_wksp_root_find(g_wksp, "table", NULL), 0);
  uint place = 0;
  assert_int_equal(fd_wksp_root_next(g_wksp, &place, &root), 1);
  assert_true(!strcmp(root.name, "table") && root.gaddr == g_lo + 128 && root.tag == 9);
  assert_int_equal(fd_wksp_root_next(g_wksp, &place, &root), 1);
  assert_true(!strcmp(root.name, "tabl") && root.gaddr == g_lo + 1 && root.tag == 0);
  assert_int_equal(fd_wksp_root_next(g_wksp, &place, &root), 0);
  assert_int_equal(fd_wksp_root_remove(g_wksp, "table"), 0);
  assert_int_equal(fd_wksp_root_find(g_wksp, "table", &root), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_root_find(g_wksp, "tabl", &root), 0);
}

/* Names may have any bytes and up to 63 of them, no more and not none. */
static void test_names(void **state) {
  char name[256];
  fd_wksp_root_t root;
  memset(name, 0xff, sizeof(name));
  name[255] = 0;
  assert_int_equal(fd_wksp_root_set(g_wksp, name, g_lo, 1), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_root_find(g_wksp, name, &root), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_root_remove(g_wksp, name), WKSP_E_INVAL);
  name[64] = 0;
  assert_int_equal(fd_wksp_root_set(g_wksp, name, g_lo, 1), WKSP_E_INVAL);
  name[63] = 0;
  assert_int_equal(fd_wksp_root_set(g_wksp, name, g_lo, 1), 0);
  assert_int_equal(fd_wksp_root_find(g_wksp, name, &root), 0);
  assert_string_equal(root.name, name);
  name[62] = 0;
  assert_int_equal(fd_wksp_root_find(g_wksp, name, &root), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_root_set(g_wksp, "", g_lo, 1), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_root_set(g_wksp, NULL, g_lo, 1), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_root_find(g_wksp, NULL, &root), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_root_set(NULL, "a", g_lo, 1), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_root_find(NULL, "a", &root), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_root_remove(NULL, "a"), WKSP_E_INVAL);
  uint place = 0;
  assert_int_equal(fd_wksp_root_next(NULL, &place, &root), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_root_next(g_wksp, NULL, &root), WKSP_E_INVAL);
  place = ~0U;
  assert_int_equal(fd_wksp_root_next(g_wksp, &place, &root), 0);
}

/* A root may point to any byte of the data region and to nothing else. */
static void test_gaddrs(void **state) {
  ulong hi = fd_wksp_gaddr_hi(g_wksp);
  ulong bad[] = {0, 1, g_lo - 1, hi, ~0UL};
  for (uint32_t i = 0; i < 5; i++) {
    assert_int_equal(fd_wksp_root_set(g_wksp, "a", bad[i], 1), WKSP_E_INVAL);
    assert_int_equal(fd_wksp_root_add(g_wksp, "a", bad[i], 1), WKSP_E_INVAL);
  }
  assert_int_equal(fd_wksp_root_find(g_wksp, "a", NULL), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_root_set(g_wksp, "a", hi - 1, 1), 0);
}

/* A full directory refuses one more name with E_NOMEM, still rebinds those it has, and gives a
   place that was freed to the next. */
static void test_full(void **state) {
  char name[32];
  fd_wksp_root_t root;
  for (uint32_t i = 0; i < FD_WKSP_ROOT_MAX; i++) {
    snprintf(name, sizeof(name), "root-%u", i);
    assert_int_equal(fd_wksp_root_add(g_wksp, name, g_lo + i, i), 0);
  }
  assert_int_equal(fd_wksp_root_add(g_wksp, "more", g_lo, 1), WKSP_E_NOMEM);
  assert_int_equal(fd_wksp_root_set(g_wksp, "more", g_lo, 1), WKSP_E_NOMEM);
  assert_int_equal(fd_wksp_root_set(g_wksp, "root-255", g_lo + 5, 1), 0);
  assert_int_equal(fd_wksp_root_remove(g_wksp, "root-100"), 0);
  assert_int_equal(fd_wksp_root_add(g_wksp, "more", g_lo, 1), 0);
  uint place = 0, cnt = 0;
  while (fd_wksp_root_next(g_wksp, &place, &root) == 1) cnt++;
  assert_int_equal(cnt, FD_WKSP_ROOT_MAX);
}

/* Words of one long name and another's gaddr must never be seen together. */
#define RACE_SETS 20000

typedef struct race {
  int done;
  char const *failed;
} race_t;

static char const *race_write(void) {
  char name[2][64];
  memset(name, 0, sizeof(name));
  memset(name[0], 'a', 63);
  memset(name[1], 'b', 63);
  for (uint32_t i = 0; i < RACE_SETS; i++) {
    if (fd_wksp_root_remove(g_wksp, name[i & 1]) != (i ? 0 : WKSP_E_NOTFOUND)) return "remove";
    if (fd_wksp_root_set(g_wksp, name[~i & 1], g_lo + (~i & 1), ~i & 1)) return "set";
  }
  return NULL;
}

static void *race_main(void *arg) {
  race_t *race = arg;
  race->failed = race_write();
  __atomic_store_n(&race->done, 1, __ATOMIC_RELEASE);
  return NULL;
}

/* Readers without the lock see a root as it was at one moment. */
static void test_race(void **state) {
  pthread_t thread;
  race_t race = {0};
  uint32_t seen = 0;
  assert_int_equal(pthread_create(&thread, NULL, race_main, &race), 0);
  while (!__atomic_load_n(&race.done, __ATOMIC_ACQUIRE)) {
    fd_wksp_root_t root;
    uint place = 0;
    if (fd_wksp_root_next(g_wksp, &place, &root) != 1) continue;
    seen++;
    uint which = (uint)(root.name[0] - 'a');
    assert_true(which < 2 && root.tag == which && root.gaddr == g_lo + which);
    for (uint32_t i = 0; i < 63; i++) assert_int_equal(root.name[i], root.name[0]);
    assert_int_equal(root.name[63], 0);
  }
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_null(race.failed);
  assert_true(seen > 0);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(test_life, setup, teardown),
      cmocka_unit_test_setup_teardown(test_names, setup, teardown),
      cmocka_unit_test_setup_teardown(test_gaddrs, setup, teardown),
      cmocka_unit_test_setup_teardown(test_full, setup, teardown),
      cmocka_unit_test_setup_teardown(test_race, setup, teardown),
  };
  return cmocka_run_group_tests_name("root", tests, NULL, NULL);
}
