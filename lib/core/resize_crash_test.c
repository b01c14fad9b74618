/* Kills at every store of a resize. Built with WKSP_CRASH_POINTS: the operation ends by a jump in
   the middle, the lock is handed on as a takeover does, and whoever comes next must find the end
   where it was or where it was to be, with the tables to it. */

#include "core/testing.h"

#include "core/atomic.h"
#include "core/call.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAN      WKSP_SPAN_SZ
#define SPANS     16UL
#define PART_MAX  24
#define SEQUENCES 150

static struct {
  uint64_t met, at; /* the at-th point, from 1; 0: none */
  int kill;
  jmp_buf jump;
} g_crash;

void wksp__crash_point(void) {
  if (++g_crash.met != g_crash.at) return;
  if (g_crash.kill) raise(SIGKILL);
  longjmp(g_crash.jump, 1);
}

static void arm(uint64_t at) {
  g_crash.met = 0;
  g_crash.at = at;
}

/* Resizes, or with spans 0 only takes the lock and so recovers; 1 if it was stopped at that point.
 */
static int run_until(wksp__call_t *call, ulong spans, uint64_t at) {
  wksp__resized_t resized;
  arm(at);
  if (setjmp(g_crash.jump)) {
    arm(0);
    wksp__vol(call->wksp)->lock = 0; /* what the takeover from a dead holder comes to */
    return 1;
  }
  if (spans) {
    wksp__part_resize(call, WKSP_LOCK_CALL_NS, spans * SPAN, SPAN, &resized);
  } else {
    assert_int_equal(wksp__lock(call, WKSP_LOCK_CALL_NS), 0);
    wksp__unlock(call);
  }
  arm(0);
  return 0;
}

static void shuffle(fd_wksp_t *wksp, testing_rng_t *rng) {
  fd_wksp_part_t part;
  for (uint32_t i = 0; i < 6; i++) {
    if (testing_below(rng, 2))
      fd_wksp_alloc(wksp, 64, 1 + testing_below(rng, 2 * SPAN), 1 + testing_below(rng, 3));
    else if (fd_wksp_part_next(wksp, fd_wksp_gaddr_lo(wksp) + testing_below(rng, SPANS * SPAN),
                               &part) == 1)
      fd_wksp_free(wksp, part.gaddr);
  }
}

static fd_wksp_t *wksp_of(void) {
  ulong footprint = fd_wksp_footprint(PART_MAX, SPANS * SPAN);
  void *addr = testing_map(footprint);
  assert_ptr_equal(wksp__new(addr, "test", 7, PART_MAX, SPANS * SPAN, 3 * SPAN), addr);
  fd_wksp_t *wksp = fd_wksp_join(addr);
  assert_non_null(wksp);
  return wksp;
}

/* What the workspace says: its end, its figures and its partitions. Bytes that mean nothing do not
   count, and that the indexes agree is part_check's. */
typedef struct said {
  ulong data_sz;
  fd_wksp_usage_t usage;
  fd_wksp_part_t part[PART_MAX];
} said_t;

static said_t says(fd_wksp_t *wksp) {
  said_t said;
  memset(&said, 0, sizeof(said));
  said.data_sz = fd_wksp_data_sz(wksp);
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &said.usage), 0);
  ulong from = 0;
  for (uint32_t i = 0; i < PART_MAX && fd_wksp_part_next(wksp, from, &said.part[i]) == 1; i++)
    from = said.part[i].gaddr + said.part[i].size;
  return said;
}

/* A resize that is stopped at any store has happened wholly or not at all after whoever comes next
   has taken the lock, also if some of those are stopped at any store, too. */
static void test_every_store(void **state) {
  testing_rng_t rng = testing_rng();
  fd_wksp_t *wksp = wksp_of();
  size_t size = wksp->data_lo - wksp->root_off;
  char *now = (char *)wksp + wksp->root_off, *before = malloc(size);
  assert_non_null(before);
  uint64_t points = 0;
  uint32_t grown = 0, shrunk = 0;
  for (uint32_t seq = 0; seq < SEQUENCES; seq++) {
    ulong spans = 1 + testing_below(&rng, SPANS);
    wksp__call_t call;
    shuffle(wksp, &rng);
    said_t from = says(wksp);
    assert_int_equal(wksp__call_begin(wksp, &call), 0);
    memcpy(before, now, size);
    run_until(&call, spans, 0);
    said_t to = says(wksp);
    grown += to.data_sz > from.data_sz;
    shrunk += to.data_sz < from.data_sz;
    for (uint64_t at = 1, decided = 0;; at++) {
      memcpy(now, before, size);
      if (!run_until(&call, spans, at)) break;
      points++;
      for (uint32_t i = 0; i < 3; i++) run_until(&call, 0, 1 + testing_below(&rng, 40));
      assert_int_equal(run_until(&call, 0, 0), 0);
      assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
      /* once a later store finds it done, no later one finds it undone */
      said_t is = says(wksp);
      int done = !memcmp(&is, &to, sizeof(is));
      assert_true(done || !memcmp(&is, &from, sizeof(is)));
      assert_true(done || !decided);
      decided = (uint64_t)done;
    }
    said_t is = says(wksp);
    assert_memory_equal(&is, &to, sizeof(is));
    wksp__call_end(&call);
  }
  printf("# %lu points, %u grown, %u shrunk\n", points, grown, shrunk);
  assert_true(grown > SEQUENCES / 16 && shrunk > SEQUENCES / 16 && points > SEQUENCES * 5);
  free(before);
  testing_wksp_end(wksp);
}

/* A process that is killed at any store of a resize leaves a sound workspace, whose end the next
   resize moves wherever it wants. */
static void test_killed_processes(void **state) {
  fd_wksp_t *wksp = wksp_of();
  uint32_t kills = 0;
  for (uint64_t at = 1;; at += 3) {
    wksp__call_t call;
    assert_int_equal(wksp__call_begin(wksp, &call), 0);
    assert_int_equal(run_until(&call, 3, 0), 0);
    wksp__call_end(&call);
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
      g_crash.kill = 1;
      arm(at);
      wksp__resized_t resized;
      if (wksp__call_begin(wksp, &call)) _exit(1);
      wksp__part_resize(&call, WKSP_LOCK_CALL_NS, 9 * SPAN, SPAN, &resized);
      _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
    ulong is = fd_wksp_data_sz(wksp);
    assert_true(is == 3 * SPAN || is == 9 * SPAN);
    if (!WIFSIGNALED(status)) {
      assert_int_equal(is, 9 * SPAN);
      break;
    }
    kills++;
  }
  printf("# %u kills\n", kills);
  assert_true(kills > 5);
  testing_wksp_end(wksp);
}

/* A rebuild that is killed at any store has not lost where the data ends: the next one has it. */
static void test_killed_rebuild(void **state) {
  testing_rng_t rng = testing_rng();
  uint32_t kills = 0;
  for (uint64_t at = 1;; at += 1 + testing_below(&rng, 3)) {
    fd_wksp_t *wksp = wksp_of();
    int status;
    assert_true(fd_wksp_alloc(wksp, 64, SPAN, 1) && fd_wksp_alloc(wksp, 64, SPAN / 2, 2));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
      g_crash.kill = 1;
      arm(at);
      fd_wksp_rebuild(wksp, 7, NULL, NULL);
      _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(fd_wksp_rebuild(wksp, 7, NULL, NULL), 0);
    assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
    assert_int_equal(fd_wksp_data_sz(wksp), 3 * SPAN);
    testing_wksp_end(wksp);
    if (!WIFSIGNALED(status)) break;
    kills++;
  }
  printf("# %u kills\n", kills);
  assert_true(kills > 5);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_every_store),
      cmocka_unit_test(test_killed_processes),
      cmocka_unit_test(test_killed_rebuild),
  };
  return cmocka_run_group_tests_name("resize_crash", tests, NULL, NULL);
}
