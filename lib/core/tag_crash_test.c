/* Kills in the middle of what frees many partitions. Built with WKSP_CRASH_POINTS: a process of its
   own runs the operation and kills itself at a store; the next call finds a sound workspace. */

#include "core/testing.h"

#include "core/atomic.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define PARTS 24 /* more than one hold of the lock frees */

static uint64_t g_left; /* stores until the kill, 0: none */

void wksp__crash_point(void) {
  if (g_left && !--g_left) raise(SIGKILL);
}

/* Partitions of tag 5 with gaps and of tag 6 between them, and a root to one of each. */
static fd_wksp_t *full_wksp(void) {
  fd_wksp_t *wksp = testing_wksp(128, 1UL << 20);
  ulong five = 0, six = 0;
  for (uint32_t i = 0; i < PARTS; i++) {
    five = fd_wksp_alloc(wksp, 64, 64 * (1 + i % 5), 5);
    if (i % 3 == 0) six = fd_wksp_alloc(wksp, 64, 128, 6);
    assert_true(five && six);
  }
  assert_int_equal(fd_wksp_root_set(wksp, "five", five, 5), 0);
  assert_int_equal(fd_wksp_root_set(wksp, "six", six, 6), 0);
  return wksp;
}

static void operate(fd_wksp_t *wksp, int reset) {
  ulong tag = 5;
  if (reset)
    fd_wksp_reset(wksp, 9);
  else
    fd_wksp_tag_free(wksp, &tag, 1);
}

/* 1 if it was killed at the at-th store, 0 if it ended before. */
static int killed_at(fd_wksp_t *wksp, int reset, uint64_t at) {
  int status;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    g_left = at;
    operate(wksp, reset);
    _exit(0);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (WIFSIGNALED(status)) assert_int_equal(WTERMSIG(status), SIGKILL);
  return WIFSIGNALED(status);
}

/* A tag_free killed at any store has freed some of its partitions, the more the later, and nothing
   else; another call frees the rest. */
static void test_tag_free(void **state) {
  long last = PARTS;
  uint32_t kills = 0, between = 0;
  for (uint64_t at = 1;; at += 5, kills++) {
    ulong tags[] = {5, 6};
    fd_wksp_t *wksp = full_wksp();
    int killed = killed_at(wksp, 0, at);
    /* takes the lock: a change that the dead had decided is made */
    assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
    long left = fd_wksp_tag_query(wksp, tags, 1, NULL, 0);
    assert_true(left >= 0 && left <= last);
    between += left > 0 && left < PARTS;
    last = left;
    assert_int_equal(fd_wksp_tag_query(wksp, &tags[1], 1, NULL, 0), PARTS / 3);
    long more = fd_wksp_tag_free(wksp, tags, 1);
    assert_int_equal(more, left);
    assert_int_equal(fd_wksp_tag_query(wksp, tags, 2, NULL, 0), PARTS / 3);
    testing_wksp_end(wksp);
    if (!killed) break;
  }
  printf("# %u kills, %u with some freed\n", kills, between);
  assert_int_equal(last, 0);
  assert_true(kills > PARTS * 5 && between > PARTS);
}

/* A reset killed at any store leaves no root to what is freed, and the old seed until all is done;
   another call ends it. */
static void test_reset(void **state) {
  uint32_t kills = 0, between = 0;
  for (uint64_t at = 1;; at += 7, kills++) {
    fd_wksp_t *wksp = full_wksp();
    fd_wksp_usage_t usage;
    fd_wksp_root_t root;
    uint place = 0;
    int killed = killed_at(wksp, 1, at);
    assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
    assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &usage), 0);
    while (fd_wksp_root_next(wksp, &place, &root) == 1)
      assert_int_equal(fd_wksp_tag(wksp, root.gaddr), root.tag);
    if (usage.used_cnt) assert_int_equal(fd_wksp_seed(wksp), 7);
    between += usage.used_cnt > 0 && usage.used_cnt < PARTS + PARTS / 3;
    assert_int_equal(fd_wksp_reset(wksp, 9), 0);
    assert_int_equal(fd_wksp_seed(wksp), 9);
    assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &usage), 0);
    assert_int_equal(usage.used_cnt, 0);
    testing_wksp_end(wksp);
    if (!killed) break;
  }
  printf("# %u kills, %u with some freed\n", kills, between);
  assert_true(kills > PARTS * 5 && between > PARTS);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_tag_free),
      cmocka_unit_test(test_reset),
  };
  return cmocka_run_group_tests_name("tag_crash", tests, NULL, NULL);
}
