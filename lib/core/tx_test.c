/* The redo record by itself, and looks without the lock. */

#include "core/testing.h"

#include "core/fail.h"
#include "core/tx.h"

static fd_wksp_t *g_wksp;
static uint64_t *g_words; /* scratch: span words of a region in which nothing is allocated */

static int setup(void **state) {
  g_wksp = testing_wksp(64, 16UL << 20);
  g_words = wksp__span_words(g_wksp);
  return 0;
}

static int teardown(void **state) {
  testing_wksp_end(g_wksp);
  return 0;
}

static wksp__call_t locked(void) {
  wksp__call_t call;
  assert_int_equal(wksp__call_begin(g_wksp, &call), 0);
  assert_int_equal(wksp__lock(&call, WKSP_LOCK_CALL_NS), 0);
  return call;
}

static void unlocked(wksp__call_t *call) {
  wksp__unlock(call);
  wksp__call_end(call);
}

/* What is put is got at once and stored at commit; a place that is put twice has the last value and
   one entry; a change that is not committed never was. */
static void test_puts(void **state) {
  wksp__call_t call = locked();
  wksp__tx_t tx;
  uint32_t *half = (uint32_t *)&g_words[5];
  wksp__tx_begin(&tx, &call);
  wksp__tx_put64(&tx, &g_words[0], 11);
  wksp__tx_put32(&tx, &half[1], 12);
  wksp__tx_put64(&tx, &g_words[0], 13);
  assert_int_equal(tx.cnt, 2);
  assert_int_equal(wksp__tx_get64(&tx, &g_words[0]), 13);
  assert_int_equal(wksp__tx_get32(&tx, &half[1]), 12);
  assert_int_equal(wksp__tx_get32(&tx, &half[0]), 0);
  assert_true(g_words[0] == 0 && half[1] == 0);

  wksp__tx_begin(&tx, &call); /* drops it */
  assert_int_equal(wksp__tx_get64(&tx, &g_words[0]), 0);
  wksp__tx_commit(&tx);
  assert_int_equal(g_words[0], 0);

  uint64_t version = wksp__vol(g_wksp)->version;
  wksp__tx_put64(&tx, &g_words[0], 21);
  wksp__tx_put32(&tx, &half[1], 0xffffffffU);
  wksp__tx_commit(&tx);
  assert_true(g_words[0] == 21 && half[0] == 0 && half[1] == 0xffffffffU);
  assert_int_equal(wksp__vol(g_wksp)->version, version + 2);
  assert_int_equal(wksp__vol(g_wksp)->redo_cnt, 0);
  unlocked(&call);
}

/* A full record works, and each of its places is found again. */
static void test_full(void **state) {
  wksp__call_t call = locked();
  wksp__tx_t tx;
  wksp__tx_begin(&tx, &call);
  for (uint32_t i = 0; i < WKSP_REDO_MAX; i++) wksp__tx_put64(&tx, &g_words[i], i + 1);
  for (uint32_t i = 0; i < WKSP_REDO_MAX; i++) {
    assert_int_equal(wksp__tx_get64(&tx, &g_words[i]), i + 1);
    wksp__tx_put64(&tx, &g_words[i], i + 100);
  }
  assert_int_equal(tx.cnt, WKSP_REDO_MAX);
  assert_int_equal(wksp__tx_get64(&tx, &g_words[WKSP_REDO_MAX]), 0);
  wksp__tx_commit(&tx);
  for (uint32_t i = 0; i < WKSP_REDO_MAX; i++) assert_int_equal(g_words[i], i + 100);
  unlocked(&call);
}

/* A decided record is finished by whoever takes the lock, whether its stores had begun or not. */
static void test_recover(void **state) {
  wksp__vol_t *vol = wksp__vol(g_wksp);
  uint64_t off = (uint64_t)g_words - (uint64_t)g_wksp;
  for (uint64_t odd = 0; odd < 2; odd++) {
    vol->redo[0].where = off << 4 | 8;
    vol->redo[0].value = 77 + odd;
    vol->redo[1].where = (off + 12) << 4 | 4;
    vol->redo[1].value = 88 + odd;
    vol->version = 100 + odd;
    vol->redo_cnt = 2;
    wksp__call_t call = locked();
    assert_true(g_words[0] == 77 + odd && g_words[1] == (88 + odd) << 32);
    assert_true(vol->redo_cnt == 0 && vol->version == 102);
    unlocked(&call);
  }
}

/* A record that points outside the metadata is refused, touches nothing, and the lock with it. */
static void test_recover_refuses(void **state) {
  wksp__vol_t *vol = wksp__vol(g_wksp);
  uint64_t good = (uint64_t)g_words - (uint64_t)g_wksp;
  uint64_t const bad[] = {0, 8, 4096, g_wksp->data_lo, g_wksp->data_lo - 4, 1UL << 50, good + 1};
  for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    wksp__call_t call;
    vol->redo[0].where = good << 4 | 8;
    vol->redo[0].value = 5;
    vol->redo[1].where = bad[i] << 4 | 8;
    vol->redo_cnt = 2;
    assert_int_equal(wksp__call_begin(g_wksp, &call), 0);
    assert_int_equal(wksp__lock(&call, 1000000), WKSP_E_CORRUPT);
    assert_int_equal(g_words[0], 0);
    assert_int_equal(vol->lock, 0);
    vol->redo_cnt = 0;
    assert_int_equal(wksp__lock(&call, 1000000), 0);
    unlocked(&call);
  }
}

typedef struct look {
  uint32_t cnt;   /* times called */
  uint32_t spoil; /* in so many of them somebody changes something */
} look_t;

static int look(void *arg) {
  look_t *self = arg;
  if (self->cnt++ < self->spoil) wksp__vol(g_wksp)->version += 2;
  return 1234;
}

/* A look is repeated while writers are in its way, then made under the lock; its sentence stays out
   of the caller's last error. */
static void test_read_run(void **state) {
  wksp__fail(WKSP_E_EXISTS, "before");
  look_t undisturbed = {0}, once = {.spoil = 1}, always = {.spoil = 10 * WKSP_READ_TRIES};
  assert_int_equal(wksp__read_run(g_wksp, look, &undisturbed), 1234);
  assert_int_equal(undisturbed.cnt, 1);
  assert_int_equal(wksp__read_run(g_wksp, look, &once), 1234);
  assert_int_equal(once.cnt, 2);
  assert_int_equal(wksp__read_run(g_wksp, look, &always), 1234);
  assert_int_equal(always.cnt, WKSP_READ_TRIES + 1);
  assert_int_equal(wksp_last_error_code(), WKSP_E_EXISTS);
  assert_int_equal(wksp__vol(g_wksp)->lock, 0);
}

/* An odd version that nobody's record explains is evened out by the next who locks. */
static void test_lone_odd_version(void **state) {
  uint64_t version;
  look_t seen = {0};
  wksp__vol(g_wksp)->version = 7;
  assert_int_equal(wksp__read_begin(g_wksp, &version), WKSP_E_AGAIN);
  assert_int_equal(wksp__read_run(g_wksp, look, &seen), 1234);
  assert_int_equal(wksp__read_begin(g_wksp, &version), 0);
  assert_int_equal(version, 8);
  assert_int_equal(wksp__read_ok(g_wksp, version), 1);
  assert_int_equal(wksp__read_ok(g_wksp, version - 2), 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
  struct CMUnitTest const tests[] = {
      CASE(test_puts),     CASE(test_full),
      CASE(test_recover),  CASE(test_recover_refuses),
      CASE(test_read_run), CASE(test_lone_odd_version),
  };
  return cmocka_run_group_tests_name("tx", tests, NULL, NULL);
}
