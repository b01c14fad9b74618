/* Codes, constant strings and the last sentence of a thread. */

#include "core/testing.h"

#include "core/fail.h"

#include <errno.h>
#include <pthread.h>

/* Every code has a string of its own that begins with its name; unknown codes have one too. */
static void test_strerror(void **state) {
  for (int err = WKSP_E_UNSUPPORTED; err <= 0; err++) {
    assert_int_equal(strncmp(wksp_strerror(err), err ? "WKSP_E_" : "WKSP_SUCCESS", 7), 0);
    for (int other = WKSP_E_UNSUPPORTED; other < err; other++)
      assert_string_not_equal(wksp_strerror(err), wksp_strerror(other));
  }
  assert_string_equal(wksp_strerror(1), wksp_strerror(WKSP_E_UNSUPPORTED - 1));
  assert_string_equal(wksp_strerror(1), "unknown error code");
}

static void *other_thread(void *arg) {
  *(int *)arg = wksp_last_error_code() == 0 && !*wksp_last_error();
  wksp__fail(WKSP_E_AGAIN, "mine");
  return NULL;
}

/* The sentence is the thread's own, may be made from the one before, is cut where it ends, and
   leaves errno alone. */
static void test_last_error(void **state) {
  errno = ENOSPC;
  assert_int_equal(wksp__fail(WKSP_E_SYS, "write: %m"), WKSP_E_SYS);
  assert_int_equal(errno, ENOSPC);
  assert_string_equal(wksp_last_error(), "write: No space left on device");
  assert_int_equal(wksp__fail(WKSP_E_INVAL, "save: %s", wksp_last_error()), WKSP_E_INVAL);
  assert_string_equal(wksp_last_error(), "save: write: No space left on device");

  pthread_t thread;
  int was_empty = 0;
  assert_int_equal(pthread_create(&thread, NULL, other_thread, &was_empty), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_true(was_empty);
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);

  wksp__fail(WKSP_E_INVAL, "%0*d", 5000, 1);
  assert_true(strlen(wksp_last_error()) > 300 && strlen(wksp_last_error()) < 1000);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_strerror),
      cmocka_unit_test(test_last_error),
  };
  return cmocka_run_group_tests_name("fail", tests, NULL, NULL);
}
