/* fd_wksp_fprintf: the listing in a file. */

#include "wksp/wksp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The allocations of other tests of this folder fail by a countdown; here none does. */
#include "client/test_peer.h"

static int one_line(void *arg, char const *line) {
  return strlen(strcat(strcat(arg, line), "\n")) < 4000 ? 0 : 1;
}

/* What is printed is the listing, line by line, and its bytes are counted. */
static void prints_the_listing(void **state) {
  (void)state;
  fd_wksp_t *wksp = fd_wksp_new_anon("paper", 4UL << 20, 0, 7, 0);
  assert_non_null(wksp);
  ulong gaddr = fd_wksp_alloc(wksp, 64, 100, 0xab);
  assert_int_equal(fd_wksp_root_set(wksp, "r", gaddr, 3), 0);
  char want[4096] = "", *got = NULL, line[128];
  size_t got_sz = 0;
  assert_int_equal(fd_wksp_list(wksp, one_line, want), 0);
  FILE *file = open_memstream(&got, &got_sz);
  assert_non_null(file);
  assert_int_equal(fd_wksp_fprintf(file, wksp), strlen(want));
  assert_int_equal(fclose(file), 0);
  assert_string_equal(got, want);
  snprintf(line, sizeof line, "partition 0x%lx, 128 bytes, tag 0xab, user\n", gaddr);
  assert_non_null(strstr(got, line));
  free(got);
  fd_wksp_delete_anon(wksp);
}

/* A file that takes nothing, and arguments that are nothing, are errors. */
static void says_why_not(void **state) {
  (void)state;
  fd_wksp_t *wksp = fd_wksp_new_anon("paper", 4UL << 20, 0, 7, 0);
  assert_non_null(wksp);
  FILE *full = fopen("/dev/full", "w");
  assert_non_null(full);
  assert_int_equal(setvbuf(full, NULL, _IONBF, 0), 0);
  assert_int_equal(fd_wksp_fprintf(full, wksp), WKSP_E_SYS);
  assert_non_null(strstr(wksp_last_error(), "No space left"));
  (void)fclose(full);
  assert_int_equal(fd_wksp_fprintf(NULL, wksp), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_fprintf(stdout, NULL), WKSP_E_INVAL);
  fd_wksp_delete_anon(wksp);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(prints_the_listing),
      cmocka_unit_test(says_why_not),
  };
  return cmocka_run_group_tests_name("print", tests, NULL, NULL);
}
