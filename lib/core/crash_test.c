/* Kills at every store. Built with WKSP_CRASH_POINTS, so that each store to shared memory first
   asks wksp__crash_point, which here can end the operation in the middle: by a jump out of it, for
   speed, with the lock then handed on as a takeover does; or by SIGKILL of a real process, who then
   is waited for, taken over from and cleaned up after by the library itself. */

#include "core/testing.h"

#include "core/atomic.h"
#include "core/call.h"
#include "core/part_priv.h"
#include "core/root.h"
#include "core/tx.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEST_SEQUENCES 300
#define TEST_KILLS     60
#define TEST_PART_MAX  48
#define TEST_DATA_MAX  (1UL << 20)

/* Crash points --------------------------------------------------------------------------------- */

enum { CRASH_COUNT, CRASH_JUMP, CRASH_KILL, CRASH_STOP };
static struct {
  int what;
  uint64_t met, at; /* the at-th point, from 1; 0: none */
  jmp_buf jump;
  int pipe_fd; /* CRASH_STOP: says that the point is reached */
} g_crash;

void wksp__crash_point(void) {
  if (++g_crash.met != g_crash.at) return;
  if (g_crash.what == CRASH_JUMP) longjmp(g_crash.jump, 1);
  if (g_crash.what == CRASH_KILL) raise(SIGKILL);
  if (g_crash.what == CRASH_STOP) {
    if (write(g_crash.pipe_fd, "x", 1) != 1) _exit(3);
    for (;;) pause();
  }
}

static void arm(int what, uint64_t at) {
  g_crash.what = what;
  g_crash.met = 0;
  g_crash.at = at;
}

/* Operations ----------------------------------------------------------------------------------- */

typedef struct op {
  uint32_t what; /* 0 alloc, 1 free, 2 root set, 3 root remove */
  ulong align, size, tag, gaddr;
  char name[16];
} op_t;

static uint32_t g_tx_max; /* words of the largest change so far */

static int also(void *arg, wksp__tx_t *tx, uint64_t gaddr, uint64_t size) {
  if (wksp__tx_undo_cnt(tx) > g_tx_max) g_tx_max = wksp__tx_undo_cnt(tx);
  uint64_t *words = wksp__span_words(tx->wksp);
  uint32_t span = wksp__span_of(tx->wksp, gaddr);
  wksp__tx_put64(tx, &words[span], (wksp__ld(&words[span]) ^ gaddr) & ~15UL);
  return 0;
}

static op_t op_random(fd_wksp_t *wksp, testing_rng_t *rng) {
  op_t op = {.what = (uint32_t)testing_below(rng, 10)};
  op.what = op.what < 5 ? 0 : op.what < 9 ? 1 : 2 + (uint32_t)testing_below(rng, 2);
  op.align = testing_below(rng, 2) ? 64 : 64UL << testing_below(rng, 12);
  op.size = testing_below(rng, 2) ? 64 * (1 + testing_below(rng, 4))
                                  : 1 + testing_below(rng, 1UL << testing_below(rng, 16));
  op.tag = 1 + testing_below(rng, 4);
  op.gaddr = fd_wksp_gaddr_lo(wksp) + testing_below(rng, TEST_DATA_MAX);
  fd_wksp_part_t part;
  if (op.what == 1 &&
      (fd_wksp_part_next(wksp, op.gaddr, &part) == 1 || fd_wksp_part_next(wksp, 0, &part) == 1))
    op.gaddr = part.gaddr;
  snprintf(op.name, sizeof(op.name), "root-%lu", testing_below(rng, 5));
  return op;
}

/* With the call already begun for partitions, so that a jump leaves only the lock behind. */
static void op_run(wksp__call_t *call, op_t const *op) {
  uint64_t gaddr, size;
  if (op->what == 0)
    wksp__part_alloc(call, WKSP_LOCK_CALL_NS, op->align, op->size, op->tag, FD_WKSP_KIND_USER, also,
                     NULL, &gaddr, &size);
  else
    wksp__part_free(call, WKSP_LOCK_CALL_NS, op->gaddr, FD_WKSP_KIND_USER, 0, also, NULL);
}

static void op_public(fd_wksp_t *wksp, op_t const *op) {
  switch (op->what) {
  case 0:
    fd_wksp_alloc(wksp, op->align, op->size, op->tag);
    break;
  case 1:
    fd_wksp_free(wksp, op->gaddr);
    break;
  case 2:
    fd_wksp_root_set(wksp, op->name, op->gaddr, op->size);
    break;
  default:
    fd_wksp_root_remove(wksp, op->name);
    break;
  }
}

/* All that persists: from the roots to the data. */
typedef struct image {
  size_t size;
  char *byte;
} image_t;

static image_t image_new(fd_wksp_t const *wksp) {
  image_t image = {.size = wksp->data_lo - wksp->root_off};
  image.byte = malloc(image.size);
  assert_non_null(image.byte);
  return image;
}

static void *persistent(fd_wksp_t *wksp) {
  return (char *)wksp + wksp->root_off;
}

static void image_take(image_t *image, fd_wksp_t *wksp) {
  memcpy(image->byte, persistent(wksp), image->size);
}

/* Whether the workspace says the same: bytes that mean nothing (part_priv.h) may differ. */
static int image_is(image_t const *image, fd_wksp_t *wksp) {
  image_t now = image_new(wksp), then = image_new(wksp);
  image_take(&now, wksp);
  memcpy(then.byte, image->byte, then.size);
  image_t *both[] = {&now, &then};
  for (uint32_t i = 0; i < 2; i++) {
    char *region = both[i]->byte + (wksp->part_off - wksp->root_off);
    wksp__part_head_t *head = (wksp__part_head_t *)region;
    wksp__ent_t *ent = (wksp__ent_t *)(region + WKSP_PART_HEAD_SZ);
    for (uint32_t idx = 1; idx <= wksp->part_max; idx++) {
      uint64_t *link = &ent[idx].w[WKSP_PART_IDX];
      int used = ent[idx].w[WKSP_PART_ADDR] != 0, pooled = idx <= wksp__hi32(head->pool);
      uint64_t keep = used ? *link & ~0xffffffffUL : pooled ? *link & 0xffffffffUL : 0;
      if (!used) memset(&ent[idx], 0, sizeof(ent[idx]));
      *link = keep;
    }
    head->bin_top = 0; /* hints, of which part_check sees that none is missing */
    memset(head->bin_map, 0, sizeof(head->bin_map));
    memset(region + wksp->part.bits_off[0], 0, wksp->part.size - wksp->part.bits_off[0]);
  }
  int same = !memcmp(now.byte, then.byte, now.size);
  free(now.byte);
  free(then.byte);
  return same;
}

/* Bits of pages that lead nowhere. */
static uint32_t bits_stale(fd_wksp_t const *wksp) {
  wksp__pop_t op;
  wksp__pop_begin(&op, wksp);
  uint32_t cnt = 0;
  for (uint64_t page = 0; page < wksp__page_cnt(&op); page++)
    cnt += wksp__part_bits(&op, 0)[page >> 6] >> (page & 63) & 1 && !wksp__pop_pages(&op)[page];
  return cnt;
}

/* Jumps ---------------------------------------------------------------------------------------- */

/* Runs the operation, or with op NULL only takes the lock and so recovers, until the at-th point;
   0 if it ended before. */
static int run_until(wksp__call_t *call, op_t const *op, uint64_t at) {
  arm(CRASH_JUMP, at);
  if (setjmp(g_crash.jump)) {
    arm(CRASH_COUNT, 0);
    wksp__vol(call->wksp)->lock = 0; /* what the takeover from a dead holder comes to */
    return 1;
  }
  if (op) {
    op_run(call, op);
  } else {
    assert_int_equal(wksp__lock(call, WKSP_LOCK_CALL_NS), 0);
    wksp__unlock(call);
  }
  arm(CRASH_COUNT, 0);
  return 0;
}

/* An alloc or free that is stopped at any store has happened wholly or not at all after whoever
   comes next has taken the lock, and so it is if that one is stopped at any store, too. Nor is a
   bit left of a page in which nothing begins: lookups pass only so many. */
static void test_every_store(void **state) {
  testing_rng_t rng = testing_rng();
  fd_wksp_t *wksp = testing_wksp(TEST_PART_MAX, TEST_DATA_MAX);
  image_t before = image_new(wksp), after = image_new(wksp);
  wksp__call_t call;
  uint64_t points = 0, changed = 0;
  assert_int_equal(wksp__call_begin(wksp, &call), 0);
  for (uint32_t seq = 0; seq < TEST_SEQUENCES; seq++) {
    op_t op = op_random(wksp, &rng);
    op.what &= 1;
    image_take(&before, wksp);
    op_run(&call, &op);
    image_take(&after, wksp);
    changed += !image_is(&before, wksp);

    for (uint64_t at = 1, decided = 0;; at++) {
      memcpy(persistent(wksp), before.byte, before.size);
      if (!run_until(&call, &op, at)) break;
      points++;
      for (uint32_t i = 0; i < 3; i++) /* recoverers that do not get through */
        run_until(&call, NULL, 1 + testing_below(&rng, 40));
      assert_int_equal(run_until(&call, NULL, 0), 0);
      assert_int_equal(wksp__part_check(wksp, testing_finding, NULL), 0);
      assert_int_equal(bits_stale(wksp), 0);
      /* once a later store finds it done, no later one finds it undone */
      int done = image_is(&after, wksp);
      assert_true(done || image_is(&before, wksp));
      assert_true(done || !decided);
      decided = (uint64_t)done;
    }
    assert_true(image_is(&after, wksp));
  }
  wksp__call_end(&call);
  printf("# %lu points, %lu operations that changed something, the largest %u words\n", points,
         changed, g_tx_max);
  assert_true(g_tx_max <= WKSP_PART_TX_MAX);
  assert_true(changed > TEST_SEQUENCES / 2 && points > TEST_SEQUENCES * 10);
  free(before.byte);
  free(after.byte);
  testing_wksp_end(wksp);
}

/* Processes ------------------------------------------------------------------------------------ */

/* Runs the operation in a process of its own that kills itself at the at-th point. Returns 1 if it
   was killed, 0 if it ended before. */
static int fork_until(fd_wksp_t *wksp, op_t const *op, uint64_t at) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    arm(CRASH_KILL, at);
    op_public(wksp, op);
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (WIFEXITED(status)) {
    assert_int_equal(WEXITSTATUS(status), 0);
    return 0;
  }
  assert_int_equal(WTERMSIG(status), SIGKILL);
  return 1;
}

/* A process killed at any store of any partition or root call, and those killed while they take
   over from it, leave a workspace that the next call finds whole and is not kept waiting for. */
static void test_killed_processes(void **state) {
  testing_rng_t rng = testing_rng();
  fd_wksp_t *wksp = testing_wksp(TEST_PART_MAX, TEST_DATA_MAX);
  uint32_t killed = 0;
  for (uint32_t i = 0; i < TEST_KILLS; i++) {
    op_t op = op_random(wksp, &rng), other = op_random(wksp, &rng), mine = op_random(wksp, &rng);
    killed += (uint32_t)fork_until(wksp, &op, 1 + testing_below(&rng, 50));
    killed += (uint32_t)fork_until(wksp, &other, 1 + testing_below(&rng, 50));
    uint64_t start = wksp__now_ns();
    op_public(wksp, &mine);
    assert_true(wksp__now_ns() - start < WKSP_LOCK_CALL_NS / 2); /* it did not wait for the dead */
    assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
  }
  printf("# %u killed\n", killed);
  assert_true(killed > TEST_KILLS / 2);
  testing_wksp_end(wksp);
}

/* How many points an alloc meets. */
static uint64_t point_of_decision(fd_wksp_t *wksp) {
  arm(CRASH_COUNT, 0);
  ulong gaddr = fd_wksp_alloc(wksp, 64, 5000, 1);
  uint64_t all = g_crash.met;
  assert_true(gaddr > 0);
  assert_int_equal(fd_wksp_free(wksp, gaddr), 0);
  return all;
}

/* In an anonymous workspace a child that was stopped with the lock held makes a read-only look and
   a bounded wait fail with its name; killed, it is taken over from, and its change made or taken
   back. */
static void test_anon_child(void **state) {
  fd_wksp_t *wksp = fd_wksp_new_anon("crash", 2UL << 20, 0, 1, TEST_PART_MAX);
  assert_non_null(wksp);
  ulong mine = fd_wksp_alloc(wksp, 64, 5000, 1);
  assert_true(mine > 0);
  fd_wksp_usage_t usage;
  uint32_t stopped_inside = 0, decided = 0;
  int ended = 0;
  for (uint64_t at = 1; !ended; at++) {
    int fds[2], status;
    char byte;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
      g_crash.pipe_fd = fds[1];
      close(fds[0]);
      arm(CRASH_STOP, at);
      fd_wksp_alloc(wksp, 64, 5000, 2);
      _exit(0);
    }
    close(fds[1]);
    ssize_t got = read(fds[0], &byte, 1); /* 0: the child ended before the point */
    uint32_t held = wksp__ld(&wksp__vol(wksp)->lock) != 0;
    ended = got != 1;
    if (got == 1 && held) {
      wksp__call_t call;
      stopped_inside++;
      assert_int_equal(wksp__call_begin(wksp, &call), 0);
      assert_int_equal(wksp__lock(&call, 1000000), WKSP_E_TIMEDOUT);
      wksp__call_end(&call);
      char pid_said[32];
      snprintf(pid_said, sizeof(pid_said), "%d", (int)pid);
      assert_non_null(strstr(wksp_last_error(), pid_said));
    }
    if (got == 1) assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(fds[0]);

    uint64_t start = wksp__now_ns();
    assert_int_equal(fd_wksp_free(wksp, mine), 0);
    mine = fd_wksp_alloc(wksp, 64, 5000, 1);
    assert_true(wksp__now_ns() - start < WKSP_LOCK_CALL_NS / 2); /* it did not wait for the dead */
    assert_true(mine > 0);
    assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
    ulong tag = 2;
    assert_int_equal(fd_wksp_usage(wksp, &tag, 1, &usage), 0);
    assert_true(usage.used_cnt <= 1);
    if (!ended) decided += (uint32_t)usage.used_cnt;
    fd_wksp_part_t part;
    for (ulong from = 0; fd_wksp_part_next(wksp, from, &part) == 1; from = part.gaddr + part.size)
      if (part.tag == 2) assert_int_equal(fd_wksp_free(wksp, part.gaddr), 0);
  }
  printf("# %u stopped with the lock, %u had decided\n", stopped_inside, decided);
  assert_true(stopped_inside > 5 && decided > 0 && decided < stopped_inside);
  fd_wksp_delete_anon(wksp);
}

/* While a writer is stopped in the middle of its stores a read-only join gets E_AGAIN with the
   writer's name, never a torn table; a read-write join goes on once the writer is dead. */
static void test_reader_and_stopped_writer(void **state) {
  fd_wksp_t *wksp = testing_wksp(TEST_PART_MAX, TEST_DATA_MAX);
  ulong footprint = wksp->footprint, gaddr = fd_wksp_alloc(wksp, 64, 5000, 1);
  void *view = mremap(wksp, 0, footprint, MREMAP_MAYMOVE); /* a second mapping of the same */
  assert_true(view != MAP_FAILED);
  assert_int_equal(mprotect(view, footprint, PROT_READ), 0);
  fd_wksp_t *ro = fd_wksp_join_ro(view);
  assert_non_null(ro);
  assert_int_equal(fd_wksp_tag(ro, gaddr), 1);
  uint64_t points = point_of_decision(wksp);
  uint32_t again = 0;
  for (uint64_t at = points; at > points / 2; at -= 2) {
    int fds[2], status;
    char byte, pid_said[32];
    fd_wksp_usage_t usage;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
      g_crash.pipe_fd = fds[1];
      arm(CRASH_STOP, at);
      fd_wksp_alloc(wksp, 64, 5000, 2);
      _exit(0);
    }
    close(fds[1]);
    ssize_t got = read(fds[0], &byte, 1);
    int rc = fd_wksp_usage(ro, NULL, 0, &usage);
    assert_true(rc == 0 || rc == WKSP_E_AGAIN);
    if (rc) {
      again++;
      snprintf(pid_said, sizeof(pid_said), "process %d", (int)pid);
      assert_non_null(strstr(wksp_last_error(), pid_said));
      assert_int_equal(fd_wksp_root_find(ro, "x", NULL), WKSP_E_AGAIN);
      assert_int_equal(fd_wksp_verify(ro, NULL, NULL), WKSP_E_AGAIN);
    }
    if (got == 1) assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(fds[0]);
    assert_int_equal(fd_wksp_tag(wksp, gaddr), 1); /* ends the change if need be */
    assert_int_equal(fd_wksp_usage(ro, NULL, 0, &usage), 0);
    assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
    fd_wksp_part_t part;
    for (ulong from = 0; fd_wksp_part_next(wksp, from, &part) == 1; from = part.gaddr + part.size)
      if (part.tag == 2) assert_int_equal(fd_wksp_free(wksp, part.gaddr), 0);
  }
  printf("# %u looks met a stopped writer\n", again);
  assert_true(again > 3);
  fd_wksp_leave(ro);
  assert_int_equal(munmap(view, footprint), 0);
  testing_wksp_end(wksp);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_every_store),
      cmocka_unit_test(test_killed_processes),
      cmocka_unit_test(test_anon_child),
      cmocka_unit_test(test_reader_and_stopped_writer),
  };
  return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
