/* Interleavings and kills that once broke something, each stepped through by hand: the hook before
   every store to shared memory (WKSP_CRASH_POINTS) stops or kills a thread at the one that matters.
 */

#include "core/alloc_testing.h"
#include "core/fail.h"
#include "core/map.h"

#include <semaphore.h>

/* A thread that set `stop_at` stops before its store number stop_at until it is told to go on. */
static __thread long stop_at;
static sem_t stopped, go;
/* A process that set `kill_at` dies before its store number kill_at. */
static long kill_at;

void wksp__crash_point(void) {
  if (kill_at && !--kill_at) kill(getpid(), SIGKILL);
  if (!stop_at || --stop_at) return;
  sem_post(&stopped);
  while (sem_wait(&go)) {
  }
}

static int setup_race(void **state) {
  sem_init(&stopped, 0, 0);
  sem_init(&go, 0, 0);
  return setup_sized(state, 16UL << 20);
}

typedef struct pair {
  fixture_t *fix;
  void *blk;
  long stop_at;
  pthread_barrier_t turn;
} pair_t;

static void *idle_between(void *arg) {
  pair_t *pair = arg;
  fd_alloc_free(pair->fix->alloc, fd_alloc_malloc(pair->fix->alloc, 0, 64));
  pthread_barrier_wait(&pair->turn); /* it has a heap, and is idle while the alloc is deleted */
  pthread_barrier_wait(&pair->turn);
  pair->blk = fd_alloc_malloc(pair->fix->alloc, 0, 64);
  if (pair->blk) memset(pair->blk, 0xaa, 64);
  return NULL;
}

/* After a delete no thread believes that it still has a heap of the alloc, nor of the next one at
 * the same place. */
static void test_delete_with_an_idle_thread(void **state) {
  fixture_t *fix = *state;
  pair_t pair = {.fix = fix};
  pthread_barrier_init(&pair.turn, NULL, 2);
  pthread_t thread;
  pthread_create(&thread, NULL, idle_between, &pair);
  pthread_barrier_wait(&pair.turn);
  void *shmem = fd_alloc_leave(fix->alloc);
  assert_ptr_equal(fd_alloc_delete(shmem), shmem);
  ulong heap = fd_wksp_alloc(fix->wksp, 64, sizeof(wksp__heap_t), 9);
  memset(fd_wksp_laddr(fix->wksp, heap), 0x55, sizeof(wksp__heap_t));
  assert_ptr_equal(fd_alloc_new(shmem, TAG), shmem);
  fix->alloc = fd_alloc_join(shmem, 0);
  void *mine = fd_alloc_malloc(fix->alloc, 0, 64);
  pthread_barrier_wait(&pair.turn);
  pthread_join(thread, NULL);
  assert_non_null(pair.blk);
  assert_ptr_not_equal(pair.blk, mine);
  uchar *bytes = fd_wksp_laddr(fix->wksp, heap);
  for (ulong i = 0; i < sizeof(wksp__heap_t); i++) assert_int_equal(bytes[i], 0x55);
  assert_sound(fix);
}

static void *free_and_stop(void *arg) {
  pair_t *pair = arg;
  fd_alloc_free(pair->fix->alloc, (void *)pair->fix->wksp); /* refused; it has a slot now */
  stop_at = pair->stop_at;
  fd_alloc_free(pair->fix->alloc, pair->blk);
  stop_at = 0;
  sem_post(&stopped);
  return NULL;
}

static void *free_only(void *arg) {
  pair_t *pair = arg;
  fd_alloc_free(pair->fix->alloc, pair->blk);
  return NULL;
}

/* Two threads free one block at once: at whichever store the one is overtaken, one is refused and
   the block is free, once. */
static void test_double_free_at_once(void **state) {
  fixture_t *fix = *state;
  for (long at = 1; at <= 6; at++) {
    pair_t pair = {.fix = fix, .stop_at = at};
    void *four[4];
    for (uint i = 0; i < 4; i++) four[i] = fd_alloc_malloc(fix->alloc, 0, 16384); /* a whole span */
    pair.blk = four[0];
    ulong bad = bad_frees(fix);
    pthread_t late, early;
    pthread_create(&late, NULL, free_and_stop, &pair);
    while (sem_wait(&stopped)) {
    }
    pthread_create(&early, NULL, free_only, &pair);
    pthread_join(early, NULL);
    sem_post(&go);
    pthread_join(late, NULL);
    fd_alloc_stat_t stat;
    assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
    assert_int_equal(stat.small_cnt, 3);
    assert_int_equal(stat.bad_free_cnt, bad + 2); /* with the one that got it a slot */
    for (uint i = 1; i < 4; i++) fd_alloc_free(fix->alloc, four[i]);
    assert_int_equal(fd_alloc_is_empty(fix->alloc), 1);
    while (!sem_trywait(&stopped)) {
    }
    while (!sem_trywait(&go)) {
    }
  }
  assert_clean(fix);
}

/* Whenever a process is killed in its first mallocs, others can have all the memory but its own
 * last block. */
static void test_killed_region_fetch(void **state) {
  fixture_t *fix = *state;
  ulong all = 0;
  for (long at = 0; at < 400; at += at ? 3 : 1) {
    if (at) {
      pid_t pid = fork();
      if (!pid) {
        kill_at = at;
        for (uint i = 0; i < 3; i++)
          if (!fd_alloc_malloc(fix->alloc, 0, 16384)) _exit(7);
        _exit(0);
      }
      int status;
      assert_int_equal(waitpid(pid, &status, 0), pid);
      if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
    }
    ulong cnt = 0;
    while (fd_alloc_malloc(fix->alloc, 0, 16384)) cnt++;
    assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
    ulong listed = 0;
    fd_alloc_stat_t stat;
    assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
    listed = stat.small_cnt;
    if (!at) all = listed;
    assert_int_equal(listed, all);
    assert_true(listed - cnt <= 3);
    assert_non_null(fd_alloc_delete((void *)fix->alloc));
    assert_non_null(fd_alloc_new((void *)fix->alloc, TAG));
  }
}

/* What an otherwise idle heap keeps for one class does not stand in the way of another. */
static void test_each_class_in_turn(void **state) {
  fixture_t *fix = *state;
  for (uint turn = 0; turn < 2; turn++)
    for (uint cls = 0; cls < WKSP_CLASS_CNT; cls++) {
      void *blk = fd_alloc_malloc(fix->alloc, 0, wksp__class_size(cls));
      assert_non_null(blk);
      fd_alloc_free(fix->alloc, blk);
    }
  assert_clean(fix);
}

static int kind_of(void *arg, fd_alloc_block_t const *block) {
  *(uint *)arg = block->kind;
  return 0;
}

static void hold_lock(fd_wksp_t *wksp, int fd) {
  wksp__call_t call;
  if (wksp__call_begin(wksp, &call) || wksp__lock(&call, 1000000000UL) || write(fd, "x", 1) != 1)
    _exit(7);
  for (;;) pause();
}

/* A large block in flight stays a suspect although the lock, which is needed to look at it, cannot
 * be had for a while. */
static void test_suspect_under_a_stopped_lock(void **state) {
  fixture_t *fix = *state;
  int fd[2], status;
  char byte;
  pid_t pid = fork();
  if (!pid) {
    if (!fd_alloc_malloc(fix->alloc, 0, 100000)) _exit(7);
    kill(getpid(), SIGKILL);
  }
  waitpid(pid, &status, 0);
  assert_true(WIFSIGNALED(status));
  assert_int_equal(pipe(fd), 0);
  pid = fork();
  if (!pid) hold_lock(fix->wksp, fd[1]);
  assert_int_equal(read(fd[0], &byte, 1), 1);
  assert_int_equal(wksp__reap(fix->wksp, 0), 0);
  uint kind = 0;
  assert_int_equal(fd_alloc_walk(fix->alloc, kind_of, &kind), 0);
  assert_int_equal(kind, FD_ALLOC_BLOCK_SUSPECT);
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  assert_int_equal(wksp__reap(fix->wksp, 0), 0);
  kind = 0;
  assert_int_equal(fd_alloc_walk(fix->alloc, kind_of, &kind), 0);
  assert_int_equal(kind, FD_ALLOC_BLOCK_SUSPECT);
  close(fd[0]);
  close(fd[1]);
}

/* A forked child does not claim with its parent's lease, whose end would take the slot from under
 * it. */
static void test_forked_lease(void **state) {
  (void)state;
  fd_wksp_t *wksp = testing_wksp(100, 1UL << 20);
  assert_ptr_equal(fd_wksp_leave(wksp), wksp);
  assert_int_equal(wksp__map_add(wksp, 0, 5, NULL, NULL), 0);
  wksp__call_t call;
  assert_int_equal(wksp__call_begin(wksp, &call), 0);
  assert_int_equal(call.slot->claim >> 2 & 0x3fffffff, 5);
  wksp__call_end(&call);
  pid_t pid = fork();
  if (!pid) {
    wksp__call_t own;
    if (wksp__call_begin(wksp, &own)) _exit(7);
    _exit((own.slot->claim >> 2 & 0x3fffffff) == WKSP_LEASE_FORKED ? 0 : 8);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  assert_int_equal(wksp__map_drop(wksp), 0);
}

/* Directory words whose bounds wrap, and an alloc that lies about where it is, are refused and do
 * not crash who reads. */
static void test_damaged_bounds(void **state) {
  fixture_t *fix = *state;
  fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 64));
  uint64_t *dir = wksp__heap_dir(fix->wksp);
  fd_alloc_stat_t stat;
  uint32_t last = fix->wksp->heap_max - 1;
  uint64_t const bad[] = {0xffffffffffffffc0UL | DIR_HEAP, 0xffffffffffffffc0UL | DIR_HOME,
                          64 | DIR_HEAP};
  for (uint i = 0; i < 3; i++) {
    dir[last] = bad[i];
    assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
    fd_wksp_compact(fix->wksp, NULL);
    assert_int_equal(fd_wksp_verify(fix->wksp, NULL, NULL), WKSP_E_CORRUPT);
    dir[last] = 0;
  }
  uint64_t self = fix->alloc->self;
  fix->alloc->self = self + (1UL << 40);
  assert_int_equal(fd_wksp_verify(fix->wksp, NULL, NULL), WKSP_E_CORRUPT);
  fd_alloc_stat(fix->alloc, &stat);
  fix->alloc->self = self;
  assert_clean(fix);
}

/* The child's part of the next test: a heap of its own, then killed before store `at` of a refill.
 */
static void killed_in_refill(fixture_t *fix, long at, int const *own_heap, int const *others_too) {
  char byte = 0;
  if (!fd_alloc_malloc(fix->alloc, 0, 64)) _exit(7);
  if (write(own_heap[1], &byte, 1) != 1 || read(others_too[0], &byte, 1) != 1) _exit(7);
  kill_at = at;
  for (uint i = 0; i < 8; i++)
    if (!fd_alloc_malloc(fix->alloc, 0, 1000)) _exit(7);
  _exit(7); /* fewer stores than that */
}

static void *heap_then_stop(void *arg) {
  pair_t *pair = arg;
  pair->blk = fd_alloc_malloc(pair->fix->alloc, 0, 64);
  pthread_barrier_wait(&pair->turn);
  pthread_barrier_wait(&pair->turn);
  stop_at = 2;
  fd_alloc_free(pair->fix->alloc, fd_alloc_malloc(pair->fix->alloc, 0, 64));
  stop_at = 0;
  return NULL;
}

/* A delete that is refused, because a thread is inside a call, has looked at a dead thread's heap
   before: that is still a dead thread's afterwards, and nothing of it is handed out twice. */
static void test_refused_delete_after_kill(void **state) {
  fixture_t *fix = NULL;
  (void)state;
  for (long at = 14; at <= 24; at++) {
    assert_int_equal(setup_race((void **)&fix), 0);
    int own_heap[2], others_too[2], status;
    char byte = 0;
    assert_int_equal(pipe(own_heap) | pipe(others_too), 0);
    pid_t pid = fork();
    if (!pid) killed_in_refill(fix, at, own_heap, others_too);
    assert_int_equal(read(own_heap[0], &byte, 1), 1);
    pair_t pair = {.fix = fix};
    pthread_t thread;
    pthread_barrier_init(&pair.turn, NULL, 2);
    pthread_create(&thread, NULL, heap_then_stop, &pair);
    pthread_barrier_wait(&pair.turn);
    assert_int_equal(write(others_too[1], &byte, 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    pthread_barrier_wait(&pair.turn);
    while (sem_wait(&stopped)) {
    }
    assert_null(fd_alloc_delete(fix->alloc));
    assert_int_equal(wksp_last_error_code(), WKSP_E_BUSY);
    sem_post(&go);
    pthread_join(thread, NULL);
    void *blk[200];
    for (uint i = 0; i < 200; i++) {
      assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, 1000));
      for (uint j = 0; j < i; j++) assert_ptr_not_equal(blk[i], blk[j]);
    }
    assert_sound(fix);
    for (uint i = 0; i < 2; i++) close(own_heap[i]), close(others_too[i]);
    teardown((void **)&fix);
  }
}

/* A workspace that is joined with a lease, as if wkspd had given it. */
static fd_wksp_t *leased_wksp(uint64_t lease) {
  fd_wksp_t *wksp = testing_wksp(1000, 8UL << 20);
  assert_ptr_equal(fd_wksp_leave(wksp), wksp);
  assert_int_equal(wksp__map_add(wksp, 0, lease, NULL, NULL), 0);
  return wksp;
}

static fd_alloc_t *ephemeral_alloc(fd_wksp_t *wksp, ulong tag) {
  void *shmem = fd_wksp_alloc_laddr(wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, tag);
  assert_ptr_equal(fd_alloc_new_flags(shmem, tag, FD_ALLOC_FLAG_EPHEMERAL), shmem);
  return fd_alloc_join(shmem, 0);
}

static void some_blocks(fd_alloc_t *alloc) {
  for (ulong i = 0; i < 60; i++) assert_non_null(fd_alloc_malloc(alloc, 0, 16 + i * 600));
}

/* With a lease end the ephemeral allocs that are bound to it, also in the hands of an idle thread,
   and no other; without one there are none. */
static void test_ephemeral(void **state) {
  (void)state;
  fixture_t *fix = NULL;
  assert_int_equal(setup_race((void **)&fix), 0);
  void *shmem = fd_wksp_alloc_laddr(fix->wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, 9);
  assert_null(fd_alloc_new_flags(shmem, 9, FD_ALLOC_FLAG_EPHEMERAL));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_null(fd_alloc_new_flags(shmem, 9, 1UL << 40));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  teardown((void **)&fix);

  fd_wksp_t *wksp = leased_wksp(5);
  fd_alloc_t *other = new_alloc(wksp, 3);
  some_blocks(other);
  ulong used = used_sz(wksp);
  fixture_t mine = {.wksp = wksp, .alloc = ephemeral_alloc(wksp, 4)};
  some_blocks(mine.alloc);
  pair_t pair = {.fix = &mine};
  pthread_t thread;
  pthread_barrier_init(&pair.turn, NULL, 2);
  pthread_create(&thread, NULL, heap_then_stop, &pair);
  pthread_barrier_wait(&pair.turn);
  ulong full = used_sz(wksp);
  assert_int_equal(wksp__ephemeral_end(wksp, 0), 0);
  assert_int_equal(wksp__ephemeral_end(wksp, 6), 0);
  assert_int_equal(used_sz(wksp), full);
  assert_int_equal(wksp__ephemeral_end(wksp, 5), 0);
  assert_int_equal(used_sz(wksp), used);
  assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
  mine.alloc = other;
  pthread_barrier_wait(&pair.turn);
  while (sem_wait(&stopped)) {
  }
  sem_post(&go);
  pthread_join(thread, NULL);
  /* deleted by its user it is as any other: the head stays his */
  fd_alloc_t *again = ephemeral_alloc(wksp, 4);
  assert_non_null(fd_alloc_delete(again));
  assert_int_equal(wksp__ephemeral_end(wksp, 5), 0);
  assert_int_equal(fd_wksp_tag(wksp, fd_wksp_gaddr_fast(wksp, again)), 4);
  assert_int_equal(wksp__map_drop(wksp), 0);
}

/* Whoever ends an ephemeral alloc may be killed anywhere: the next attempt, or a compact, goes on.
 */
static void test_ephemeral_killed(void **state) {
  (void)state;
  fd_wksp_t *wksp = leased_wksp(5);
  ulong used = used_sz(wksp);
  int through = 0;
  for (long at = 1; !through; at += 3) {
    assert_true(at < 100000);
    some_blocks(ephemeral_alloc(wksp, 4));
    pid_t pid = fork();
    if (!pid) {
      kill_at = at;
      _exit(wksp__ephemeral_end(wksp, 5) ? 7 : 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    through = WIFEXITED(status);
    if (through) assert_int_equal(WEXITSTATUS(status), 0);
    fd_wksp_verify(wksp, NULL, NULL);
    /* a compact first finishes what has begun, and leaves what has not */
    if (at & 1) assert_int_equal(fd_wksp_compact(wksp, NULL), 0);
    assert_int_equal(wksp__ephemeral_end(wksp, 5), 0);
    assert_int_equal(used_sz(wksp), used);
    assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
  }
  assert_int_equal(wksp__map_drop(wksp), 0);
}

/* A process that is killed at any store of a free, or long after it, has lost nothing once the
   block is free: another who has got it since is not told that it is suspect. */
static void free_and_die(fixture_t *fix, ulong size, ulong gaddr, long at, uint bare) {
  if (!bare) fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 1008));
  void *blk = bare ? fd_wksp_laddr_fast(fix->wksp, gaddr) : fd_alloc_malloc(fix->alloc, 0, size);
  kill_at = at;
  fd_alloc_free(fix->alloc, blk);
  kill_at = 0;
  kill(getpid(), SIGKILL);
}

static void test_freed_before_death(void **state) {
  fixture_t *fix = *state;
  ulong const sizes[] = {64, 16384, 100000};
  for (uint bare = 0; bare < 2; bare++)
    for (uint i = 0; i < 3; i++) {
      ulong late = 0;
      for (long at = 1; at < 140; at++) {
        void *one = bare ? fd_alloc_malloc(fix->alloc, 0, sizes[i]) : NULL;
        fd_alloc_leave(fix->alloc); /* for the child, and for its heap to be the next to be taken */
        pid_t pid = fork();
        if (!pid)
          free_and_die(fix, sizes[i], one ? fd_wksp_gaddr_fast(fix->wksp, one) : 0, at, bare);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        fd_alloc_stat_t stat;
        assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
        if (stat.small_cnt + stat.large_cnt) { /* killed before it was free */
          assert_int_equal(stat.small_cnt + stat.large_cnt, 1);
          assert_int_equal(wksp__reap(fix->wksp, 0), 0);
          assert_non_null(fd_alloc_delete((void *)fix->alloc));
          assert_non_null(fd_alloc_new((void *)fix->alloc, TAG));
          continue;
        }
        void *blk[6];
        for (uint j = 0; j < 6; j++)
          assert_non_null(blk[j] = fd_alloc_malloc(fix->alloc, 0, sizes[i]));
        for (uint reaped = 0; reaped < 2; reaped++) {
          assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
          late += !reaped && stat.suspect_cnt;
          assert_int_equal(wksp__reap(fix->wksp, 0), 0);
        }
        for (uint j = 0; j < 6; j++) fd_alloc_free(fix->alloc, blk[j]);
      }
      /* between the bit in F and the flight a kill cannot be told from one before */
      assert_true(late <= (bare && sizes[i] <= FD_ALLOC_SMALL_MAX));
    }
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_race, teardown)
  struct CMUnitTest const tests[] = {
      T(test_delete_with_an_idle_thread),
      T(test_double_free_at_once),
      cmocka_unit_test(test_refused_delete_after_kill),
      T(test_killed_region_fetch),
      cmocka_unit_test_setup_teardown(test_each_class_in_turn, setup_small, teardown),
      T(test_freed_before_death),
      T(test_suspect_under_a_stopped_lock),
      T(test_damaged_bounds),
      cmocka_unit_test(test_forked_lease),
      cmocka_unit_test(test_ephemeral),
      cmocka_unit_test(test_ephemeral_killed),
  };
  return cmocka_run_group_tests_name("core/alloc_race", tests, NULL, NULL);
}
