/* The record by itself, and looks without the lock. */

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

/* What is set is there at once, what is put once it is decided; dropped, neither ever was, and a
   word that was set twice has its first value again. */
static void test_set_and_put(void **state) {
  wksp__call_t call = locked();
  wksp__vol_t *vol = wksp__vol(g_wksp);
  wksp__tx_t tx;
  uint32_t *half = (uint32_t *)&g_words[5];
  uint64_t version = vol->version;
  for (int drop = 1; drop >= 0; drop--) {
    wksp__tx_begin_set(&tx, g_wksp);
    assert_int_equal(vol->version, version + 1);
    wksp__tx_set64(&tx, &g_words[0], 11);
    wksp__tx_set32(&tx, &half[1], 0xffffffffU);
    wksp__tx_put64(&tx, &g_words[7], 14);
    wksp__tx_set64(&tx, &g_words[0], 13);
    assert_true(tx.redo_cnt == 1 && vol->rec == (WKSP_REC_UNDO | 3));
    assert_true(g_words[0] == 13 && half[0] == 0 && half[1] == 0xffffffffU && g_words[7] == 0);
    if (drop) {
      wksp__tx_drop(&tx);
      assert_true(g_words[0] == 0 && g_words[5] == 0 && g_words[7] == 0);
    } else {
      wksp__tx_commit(&tx);
      assert_true(g_words[0] == 13 && half[1] == 0xffffffffU && g_words[7] == 14);
    }
    assert_true(vol->rec == 0 && vol->version == version + 2);
    version = vol->version;
  }
  unlocked(&call);
}

/* A full record works in both directions. */
static void test_full(void **state) {
  wksp__call_t call = locked();
  wksp__tx_t tx;
  for (int drop = 1; drop >= 0; drop--) {
    wksp__tx_begin_set(&tx, g_wksp);
    for (uint32_t i = 0; i < WKSP_UNDO_MAX; i++) wksp__tx_set64(&tx, &g_words[i], i + 1);
    for (uint32_t i = 0; i < WKSP_REDO_MAX; i++)
      wksp__tx_put64(&tx, &g_words[WKSP_UNDO_MAX + i], i + 100);
    if (drop)
      wksp__tx_drop(&tx);
    else
      wksp__tx_commit(&tx);
    for (uint32_t i = 0; i < WKSP_UNDO_MAX; i++) assert_int_equal(g_words[i], drop ? 0 : i + 1);
    for (uint32_t i = 0; i < WKSP_REDO_MAX; i++)
      assert_int_equal(g_words[WKSP_UNDO_MAX + i], drop ? 0 : i + 100);
  }
  unlocked(&call);
}

/* What a dead thread left is taken back or, once decided, stored, by whoever takes the lock,
   whatever the version said. */
static void test_recover(void **state) {
  wksp__vol_t *vol = wksp__vol(g_wksp);
  uint64_t off = (uint64_t)g_words - (uint64_t)g_wksp;
  for (uint64_t i = 0; i < 4; i++) {
    uint64_t odd = i & 1, redo = i & 2;
    wksp__note_t *notes = redo ? vol->redo : vol->undo;
    memcpy(vol->rec_head, wksp__tx_head(g_wksp), sizeof(vol->rec_head));
    notes[0] = (wksp__note_t){off, 77 + i};
    notes[1] = (wksp__note_t){off + 8, 88 + i};
    notes[2] = (wksp__note_t){off, 99}; /* of one word noted twice the first counts, */
    vol->version = 100 + odd;
    vol->rec = redo ? WKSP_REC_REDO | 2 : WKSP_REC_UNDO | 3; /* put is each but once */
    wksp__call_t call = locked();
    assert_true(g_words[0] == 77 + i && g_words[1] == 88 + i);
    assert_true(vol->rec == 0 && vol->version == 102);
    unlocked(&call);
  }
}

/* A record that points outside the metadata is refused, touches nothing, and the lock with it. */
static void test_recover_refuses(void **state) {
  wksp__vol_t *vol = wksp__vol(g_wksp);
  uint64_t good = (uint64_t)g_words - (uint64_t)g_wksp;
  uint64_t const bad[] = {0, 8, 4096, g_wksp->data_lo, g_wksp->data_lo - 4, 1UL << 50, good + 1};
  for (uint32_t i = 0; i < 2 * sizeof(bad) / sizeof(bad[0]); i++) {
    wksp__call_t call;
    wksp__note_t *notes = i % 2 ? vol->redo : vol->undo;
    notes[0] = (wksp__note_t){good, 5};
    notes[1] = (wksp__note_t){bad[i / 2], 5};
    vol->rec = (i % 2 ? WKSP_REC_REDO : WKSP_REC_UNDO) | 2;
    assert_int_equal(wksp__call_begin(g_wksp, &call), 0);
    assert_int_equal(wksp__lock(&call, 1000000), WKSP_E_CORRUPT);
    assert_int_equal(g_words[0], 0);
    assert_int_equal(vol->lock, 0);
    vol->rec = 0;
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
      CASE(test_set_and_put),     CASE(test_full),     CASE(test_recover),
      CASE(test_recover_refuses), CASE(test_read_run), CASE(test_lone_odd_version),
  };
  return cmocka_run_group_tests_name("tx", tests, NULL, NULL);
}
