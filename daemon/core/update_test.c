/* update_test: log lines that can be taken apart, whatever peers put into them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/core/engine_priv.h"

/* What the last effect says to the log. */
static char const *logged(engine_t *e, char const *reason) {
  emit_log(e, ENGINE_LOG_WARN, "event=refused workspace=%s reason=\"%s\"", "a", reason);
  return e->update->effects[e->update->effect_cnt - 1].u.log.text;
}

/* A quoted value is ended by its own quote and by nothing in it. */
static void test_quoted(void **state) {
  engine_t *e = engine_new();
  engine_update_t update = {0};
  assert_non_null(e);
  e->update = &update;
  assert_string_equal(logged(e, "plain"), "event=refused workspace=a reason=\"plain\"");
  assert_string_equal(logged(e, "workspace \"b\" uid=0"),
                      "event=refused workspace=a reason=\"workspace 'b' uid=0\"");
  assert_string_equal(logged(e, "two\nlines"), "event=refused workspace=a reason=\"two?lines\"");
  assert_string_equal(logged(e, ""), "event=refused workspace=a reason=\"\"");
  char much[2 * ENGINE_LOG_MAX];
  memset(much, '"', sizeof(much) - 1);
  much[sizeof(much) - 1] = 0;
  char const *cut = logged(e, much);
  assert_int_equal(cut[strlen(cut) - 1], '"');
  char const *value = strstr(cut, "=\"") + 2;
  assert_ptr_equal(strchr(value, '"'), cut + strlen(cut) - 1);
  engine_update_free(&update);
  engine_free(e);
}

int main(void) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(test_quoted)};
  return cmocka_run_group_tests_name("daemon/core/update", tests, NULL, NULL);
}
