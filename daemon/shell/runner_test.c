/* What the daemon makes of a worker's end and of its answer; and logs. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/shell/runner.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARTS = 3, ROOTS = 2 };

/* A good answer to a query. */
typedef struct answer {
  result_head_t head;
  fd_wksp_part_t parts[PARTS];
  fd_wksp_root_t roots[ROOTS];
} answer_t;

static result_ask_t const ask = {
    .magic = RESULT_MAGIC, .op = RESULT_QUERY, .page_size = 10, .size = 1 << 20};

static answer_t good(void) {
  answer_t answer = {0};
  answer.head.magic = RESULT_MAGIC;
  answer.head.op = RESULT_QUERY;
  answer.head.part_cnt = PARTS;
  answer.head.root_cnt = ROOTS;
  answer.head.usage = (fd_wksp_usage_t){100, 10, 1 << 19, 5, 1000, 900, 5, 2000};
  for (ulong i = 0; i < PARTS; i++) {
    answer.parts[i] = (fd_wksp_part_t){4096 * (i + 1), 4096, 7, FD_WKSP_KIND_USER};
  }
  for (ulong i = 0; i < ROOTS; i++) {
    strcpy(answer.roots[i].name, "root");
    answer.roots[i].gaddr = 4096;
  }
  return answer;
}

static int passes(answer_t const *answer, size_t len) {
  result_t result;
  char const *why = NULL;
  int ok = result_check(&ask, answer, len, &result, &why);
  assert_true(ok || why);
  return ok;
}

/* A good answer passes, and its parts are found. */
static void good_answer(void **state) {
  answer_t answer = good();
  result_t result;
  char const *why;
  assert_int_equal(result_check(&ask, &answer, sizeof answer, &result, &why), 1);
  assert_ptr_equal(result.parts, answer.parts);
  assert_ptr_equal(result.roots, answer.roots);
}

/* An answer that lies in any one field does not pass. */
static void lies(void **state) {
#define LIE(change)                                                   \
  do {                                                                \
    answer_t answer = good();                                         \
    change;                                                           \
    if (passes(&answer, sizeof answer)) fail_msg("passed: " #change); \
  } while (0)
  LIE(answer.head.magic++);
  LIE(answer.head.op = RESULT_COMPACT);
  LIE(answer.head.status = 1);
  LIE(answer.head.status = -1000);
  LIE(answer.head.part_cnt = PARTS + 1);
  LIE(answer.head.part_cnt = ~0U);
  LIE(answer.head.root_cnt = 0);
  LIE(answer.head.root_cnt = ~0U);
  LIE(memset(answer.head.sentence, 'x', sizeof answer.head.sentence));
  LIE(answer.head.usage.free_sz = 1UL << 40);
  LIE(answer.head.usage.free_sz_max = 1001);
  LIE(answer.head.usage.total_sz = 1UL << 40);
  LIE(answer.head.usage.total_cnt = 101);
  LIE(memset(answer.head.holder.comm, 'x', sizeof answer.head.holder.comm));
  LIE(answer.head.suspect_cnt = ~0UL);
  LIE(answer.head.next_page_gaddr = 4096);
  LIE(answer.head.next_page_gaddr = 1UL << 40);
  LIE(answer.parts[0].tag = 0);
  LIE(answer.parts[0].kind = 0);
  LIE(answer.parts[0].kind = 5);
  LIE(answer.parts[0].size = 0);
  LIE(answer.parts[0].size = 4097);
  LIE(answer.parts[2].size = 1UL << 40);
  LIE(answer.parts[2].size = ~0UL);
  LIE(answer.parts[1].gaddr = answer.parts[0].gaddr);
  LIE(answer.roots[1].name[0] = '\0');
  LIE(memset(answer.roots[0].name, 'x', sizeof answer.roots[0].name));
  LIE(answer.roots[0].gaddr = 0);
  LIE(answer.roots[0].gaddr = 1UL << 40);
#undef LIE
}

/* A resize's answer passes within what the daemon knows: sizes in bounds and of whole pages or all,
   a reason that is one, a partition that can be in the way. */
static void resized(void **state) {
  enum { USED = 1, TABLE = 2 }; /* WKSP_RESIZED_* of lib/core/part.h */
  result_ask_t const resize = {.magic = RESULT_MAGIC,
                               .op = RESULT_RESIZE,
                               .size = (16 << 20) + 4096,
                               .size_min = 1 << 20,
                               .page_bytes = 2 << 20};
  static struct {
    uint64_t to;
    uint32_t why;
    uint64_t gaddr;
    int ok;
  } const ways[] = {{4 << 20, 0, 0, 1},
                    {(16 << 20) + 4096, 0, 0, 1},
                    {0, 0, 0, 0},
                    {(1 << 20) - 4096, 0, 0, 0},
                    {3 << 20, 0, 0, 0},
                    {(18 << 20), 0, 0, 0},
                    {~0UL, 0, 0, 0},
                    {4 << 20, USED, 0, 0},
                    {4 << 20, USED, 4096, 1},
                    {4 << 20, USED, ~0UL - 4095, 0},
                    {4 << 20, TABLE, 0, 1},
                    {4 << 20, 3, 0, 0}};
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
    result_head_t head = {.magic = RESULT_MAGIC,
                          .op = RESULT_RESIZE,
                          .resized_to = ways[i].to,
                          .resized_why = ways[i].why,
                          .block = {ways[i].gaddr, 4096, 7, FD_WKSP_KIND_USER}};
    result_t result;
    char const *why;
    if (result_check(&resize, &head, sizeof head, &result, &why) != ways[i].ok)
      fail_msg("way %zu", i);
  }
}

/* Where pages are said to lie: figures that add up, and runs without gaps, of nodes that there can
   be. */
static void placed(void **state) {
  static result_ask_t const place = {.magic = RESULT_MAGIC,
                                     .op = RESULT_PLACE,
                                     .size = 64 << 20,
                                     .resize_to = 20 << 20,
                                     .page_bytes = 2 << 20};
  typedef struct places {
    result_head_t head;
    result_run_t runs[2];
  } places_t;
  places_t const sound = {.head = {.magic = RESULT_MAGIC,
                                   .op = RESULT_PLACE,
                                   .page_cnt = 10,
                                   .lost_cnt = 3,
                                   .node_cnt = {[1] = 7},
                                   .run_cnt = 2},
                          .runs = {{0, 7, 1, 0}, {7, 3, -1, 0}}};
  result_t result;
  char const *why;
  for (int way = 0; way < 14; way++) {
    places_t at = sound;
    size_t len = sizeof at;
    if (way == 1) at.head.page_cnt = 11;
    if (way == 2) at.head.lost_cnt = ~0UL;
    if (way == 3) at.head.node_cnt[63] = ~0UL - 2;
    if (way == 4) at.head.node_cnt[1] = 6;
    if (way == 5) at.runs[1].first = 8;
    if (way == 6) at.runs[1].cnt = 4;
    if (way == 7) at.runs[0].cnt = 0;
    if (way == 8) at.runs[0].node = 64;
    if (way == 9) at.runs[0].node = -2;
    if (way == 10) at.head.runs_cut = 2;
    if (way == 11) at.head.run_cnt = RESULT_RUNS_MAX + 1;
    if (way == 12) at.head.run_cnt = 1, len -= sizeof *at.runs; /* whole without being cut */
    if (way == 13) at.head.run_cnt = 1, at.head.runs_cut = 1, len -= sizeof *at.runs;
    int ok = way == 0 || way == 13;
    if (result_check(&place, &at, len, &result, &why) != ok) fail_msg("way %d", way);
    if (ok) assert_int_equal(result.runs[0].node, 1);
  }
}

/* An answer cut at any byte does not pass, nor does one with more behind it. */
static void cut(void **state) {
  answer_t answer[2] = {good(), good()};
  for (size_t len = 0; len < sizeof *answer; len++) assert_false(passes(answer, len));
  assert_false(passes(answer, sizeof *answer + 1));
}

/* Later pages carry no roots, and partitions begin where they were asked for. */
static void later_page(void **state) {
  answer_t answer = good();
  result_ask_t later = ask;
  result_t result;
  char const *why;
  later.page_gaddr = 4096;
  assert_int_equal(result_check(&later, &answer, sizeof answer, &result, &why), 0);
  answer.head.root_cnt = 0;
  size_t len = offsetof(answer_t, roots);
  assert_int_equal(result_check(&later, &answer, len, &result, &why), 1);
  later.page_gaddr = 4097;
  assert_int_equal(result_check(&later, &answer, len, &result, &why), 0);
}

/* Any bytes at all give a verdict. */
static void mutated(void **state) {
  char const *env = getenv("WKSP_TEST_SEED");
  unsigned seed = env ? (unsigned)strtoul(env, NULL, 0) : (unsigned)(uintptr_t)&env ^ 0x5bd1e995U;
  printf("# seed %u\n", seed);
  for (int i = 0; i < 20000; i++) {
    answer_t answer = good();
    uint8_t *bytes = (uint8_t *)&answer;
    size_t len =
        (unsigned)rand_r(&seed) % 8 ? sizeof answer : (unsigned)rand_r(&seed) % (sizeof answer + 1);
    for (int k = 0; k < 4; k++)
      bytes[(unsigned)rand_r(&seed) % sizeof answer] ^=
          (uint8_t)(1U << (unsigned)rand_r(&seed) % 8);
    passes(&answer, len);
  }
}

static int verdict(int64_t exit_status, int signal_number, int killed, answer_t const *answer,
                   char const **ret_detail) {
  result_t result;
  return runner_verdict(&ask, exit_status, signal_number, killed, answer,
                        answer ? sizeof *answer : 0, &result, ret_detail);
}

/* Every way in which a worker can end is told apart; all but success and cancelling say why. */
static void verdicts(void **state) {
  answer_t answer = good();
  char const *why;
  assert_int_equal(verdict(0, 0, 0, &answer, &why), ENGINE_WORKER_OK);
  assert_null(why);
  assert_int_equal(verdict(0, SIGKILL, RUNNER_KILLED_CANCEL, NULL, &why), ENGINE_WORKER_CANCELLED);
  static struct {
    int64_t status;
    int signal_number, killed, want;
  } const cases[] = {
      {0, SIGKILL, RUNNER_KILLED_LATE, ENGINE_WORKER_TIMEOUT},
      {0, SIGXCPU, 0, ENGINE_WORKER_TIMEOUT},
      {0, SIGKILL, RUNNER_KILLED_LONG, ENGINE_WORKER_GARBAGE},
      {0, SIGSEGV, 0, ENGINE_WORKER_CRASHED},
      {0, SIGBUS, 0, ENGINE_WORKER_CRASHED},
      {0, SIGABRT, 0, ENGINE_WORKER_CRASHED},
      {0, SIGSYS, 0, ENGINE_WORKER_KILLED},
      {0, SIGKILL, 0, ENGINE_WORKER_KILLED},
      {1, 0, 0, ENGINE_WORKER_GARBAGE},
      {0, 0, 0, ENGINE_WORKER_GARBAGE},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_int_equal(verdict(cases[i].status, cases[i].signal_number, cases[i].killed, NULL, &why),
                     cases[i].want);
    assert_true(why && *why);
  }
  static struct {
    int code, want;
  } const codes[] = {
      {WKSP_E_CORRUPT, ENGINE_WORKER_DAMAGED}, {WKSP_E_VERSION, ENGINE_WORKER_DAMAGED},
      {WKSP_E_AGAIN, ENGINE_WORKER_AGAIN},     {WKSP_E_TIMEDOUT, ENGINE_WORKER_AGAIN},
      {WKSP_E_INVAL, ENGINE_WORKER_INVALID},   {WKSP_E_SYS, ENGINE_WORKER_NOT_BEGUN},
  };
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
    result_head_t head = {.magic = RESULT_MAGIC, .op = RESULT_QUERY, .status = codes[i].code};
    result_t result;
    strcpy(head.sentence, "the worker's own words");
    assert_int_equal(runner_verdict(&ask, 0, 0, 0, &head, sizeof head, &result, &why),
                     codes[i].want);
    assert_string_equal(why, "the worker's own words");
  }
}

static void log_to(char *ret_line, size_t cap, log_level_t level, char const *value) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  log_t log = {.fd = ends[1], .level = LOG_LEVEL_INFO};
  log_event(&log, level, "event", "value=%s", value);
  close(ends[1]);
  ssize_t n = read(ends[0], ret_line, cap - 1);
  ret_line[n > 0 ? n : 0] = '\0';
  close(ends[0]);
}

/* One event is one line whatever a peer put into it; levels above the set one are silent. */
static void log_lines(void **state) {
  char line[2 * LOG_LINE_MAX], huge[2 * LOG_LINE_MAX];
  log_to(line, sizeof line, LOG_LEVEL_WARN, "a\nerror forged\x1b[2J");
  assert_non_null(strstr(line, "Z warn event value=a?error forged?[2J\n"));
  assert_int_equal(strchr(line, '\n') - line, (long)strlen(line) - 1);
  log_to(line, sizeof line, LOG_LEVEL_DEBUG, "x");
  assert_string_equal(line, "");
  memset(huge, 'h', sizeof huge - 1);
  huge[sizeof huge - 1] = '\0';
  log_to(line, sizeof line, LOG_LEVEL_ERROR, huge);
  assert_true(strlen(line) <= LOG_LINE_MAX);
  assert_int_equal(line[strlen(line) - 1], '\n');
  assert_string_equal(log_text("say \"hi\"").text, "\"say 'hi'\"");
  assert_int_equal(strlen(log_text(huge).text), sizeof(log_text_t) - 1);
}

/* What peers can provoke is logged at most LOG_RATE_BURST times in a window, and the rest is
 * counted. */
static void log_rates(void **state) {
  log_rate_t rate = {0};
  uint32_t dropped = 99;
  for (unsigned i = 0; i < LOG_RATE_BURST; i++) assert_true(log_rate_ok(&rate, 1000, &dropped));
  for (int i = 0; i < 7; i++) assert_false(log_rate_ok(&rate, 2000, &dropped));
  assert_int_equal(dropped, 0);
  assert_true(log_rate_ok(&rate, 1000 + LOG_RATE_WINDOW_NS, &dropped));
  assert_int_equal(dropped, 7);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(good_answer), cmocka_unit_test(lies),     cmocka_unit_test(resized),
      cmocka_unit_test(placed),      cmocka_unit_test(cut),      cmocka_unit_test(later_page),
      cmocka_unit_test(mutated),     cmocka_unit_test(verdicts), cmocka_unit_test(log_lines),
      cmocka_unit_test(log_rates),
  };
  return cmocka_run_group_tests_name("runner", tests, NULL, NULL);
}
