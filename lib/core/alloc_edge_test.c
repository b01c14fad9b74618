/* fd_alloc at the edges of a thread's and a process's life: births, ends, forks of every kind,
   signal handlers, and more threads than slots. */

#include "core/alloc_testing.h"
#include "core/fail.h"
#include "core/map.h"

#include <limits.h>
#include <sched.h>
#include <sys/syscall.h>

enum { BLKS = 300 };

typedef struct shared {
  uint64_t parent, child; /* names */
  void *blk[BLKS];        /* the child's */
  uint32_t failed;
} shared_t;

static uint64_t my_name(fd_wksp_t *wksp) {
  wksp__call_t call;
  if (wksp__call_begin(wksp, &call)) return 0;
  wksp__call_end(&call);
  return call.name;
}

static uint32_t slots_held(fd_wksp_t *wksp) {
  uint32_t cnt = 0;
  for (uint32_t i = 0; i < wksp->slot_max; i++)
    cnt += (wksp__slots(wksp)[i].claim & 3) == WKSP_SLOT_HELD;
  return cnt;
}

/* Forks
 * --------------------------------------------------------------------------------------------- */

static pid_t by_fork(void) {
  return fork();
}

static pid_t by_bare_fork(void) {
  return _Fork();
}

static pid_t by_clone(void) {
  return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static pid_t (*const forks[])(void) = {by_fork, by_bare_fork, by_clone};
enum { FORKS = 3 };

/* Mallocs, first of all by the short form that the parent would use. */
static void use_in_child(fixture_t *fix, shared_t *shared) {
  for (uint i = 0; i < BLKS; i++) {
    shared->blk[i] = fd_alloc_malloc(fix->alloc, 0, 64);
    if (!shared->blk[i]) shared->failed++;
    if (shared->blk[i]) memset(shared->blk[i], 0xcc, 64);
  }
  shared->child = my_name(fix->wksp);
}

/* However a process is forked, with handlers or without, the child works from a slot of its own: it
   gets no block that its parent gets, and writes nothing in its parent's slot. */
static void test_forks(void **state) {
  fixture_t *fix = *state;
  for (uint how = 0; how < FORKS; how++) {
    shared_t *shared = testing_map(sizeof *shared);
    void *blk[BLKS];
    for (uint i = 0; i < BLKS; i++) blk[i] = fd_alloc_malloc(fix->alloc, 0, 64);
    for (uint i = 0; i < BLKS; i++) fd_alloc_free(fix->alloc, blk[i]); /* in the magazine */
    shared->parent = my_name(fix->wksp);
    wksp__slot_t *mine = &wksp__slots(fix->wksp)[wksp__name_slot(shared->parent)], before = *mine;
    pid_t pid = forks[how]();
    assert_true(pid >= 0);
    if (!pid) {
      use_in_child(fix, shared);
      _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_memory_equal(mine, &before, sizeof before);
    assert_int_equal(shared->failed, 0);
    assert_true(shared->child && shared->child != shared->parent);
    assert_true(wksp__name_dead(fix->wksp, shared->child));
    for (uint i = 0; i < BLKS; i++) {
      blk[i] = fd_alloc_malloc(fix->alloc, 0, 64);
      for (uint j = 0; j < BLKS; j++) assert_ptr_not_equal(blk[i], shared->blk[j]);
    }
    assert_true(my_name(fix->wksp) == shared->parent);
    for (uint i = 0; i < BLKS; i++) fd_alloc_free(fix->alloc, blk[i]);
    for (uint i = 0; i < BLKS; i++) fd_alloc_free(fix->alloc, shared->blk[i]);
    assert_int_equal(wksp__reap(fix->wksp, 0), 0);
    assert_clean(fix);
    munmap(shared, sizeof *shared);
  }
  assert_int_equal(bad_frees(fix), 0);
}

/* A child's child, again without handlers, and its thread are others than it is. */
static void *name_of_thread(void *arg) {
  return (void *)my_name(arg);
}

static void test_forks_of_forks(void **state) {
  fixture_t *fix = *state;
  shared_t *shared = testing_map(2 * sizeof *shared);
  shared->parent = my_name(fix->wksp);
  pid_t pid = by_bare_fork();
  if (!pid) {
    use_in_child(fix, shared);
    pthread_t thread;
    void *name = NULL;
    if (pthread_create(&thread, NULL, name_of_thread, fix->wksp)) _exit(7);
    pthread_join(thread, &name);
    if (!name || (uint64_t)name == shared->child) _exit(7);
    pid_t grand = by_clone();
    if (!grand) {
      use_in_child(fix, &shared[1]);
      _exit(shared[1].child == shared->child || shared[1].child == shared->parent);
    }
    int status;
    if (waitpid(grand, &status, 0) != grand || status) _exit(7);
    _exit(my_name(fix->wksp) != shared->child);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  for (uint i = 0; i < BLKS; i++)
    for (uint j = 0; j < BLKS; j++) assert_ptr_not_equal(shared[0].blk[i], shared[1].blk[j]);
  assert_sound(fix);
  munmap(shared, 2 * sizeof *shared);
}

/* The death of a child that was forked without the C library is seen as any other's: the lock that
   it held is taken over, its heap too. */
static void test_clone_killed(void **state) {
  fixture_t *fix = *state;
  shared_t *shared = testing_map(sizeof *shared);
  int fd[2], status;
  char byte;
  assert_int_equal(pipe(fd), 0);
  fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 64));
  pid_t pid = by_clone();
  if (!pid) {
    use_in_child(fix, shared);
    wksp__call_t call;
    if (wksp__call_begin(fix->wksp, &call) || wksp__lock(&call, 1000000000UL)) _exit(7);
    if (write(fd[1], "x", 1) != 1) _exit(7);
    for (;;) pause();
  }
  assert_int_equal(read(fd[0], &byte, 1), 1);
  assert_false(wksp__name_dead(fix->wksp, shared->child));
  assert_int_equal(wksp__vol(fix->wksp)->lock, shared->child);
  kill(pid, SIGKILL);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(wksp__name_dead(fix->wksp, shared->child));
  void *large = fd_alloc_malloc(fix->alloc, 0, 100000); /* takes the lock */
  assert_non_null(large);
  fd_alloc_free(fix->alloc, large);
  for (uint i = 0; i < BLKS; i++) fd_alloc_free(fix->alloc, shared->blk[i]);
  assert_clean(fix);
  close(fd[0]);
  close(fd[1]);
  munmap(shared, sizeof *shared);
}

#define NO_VFORK "missing: a vfork that shares memory; the thread sanitizer replaces it"

static void *reap_by_another(void *arg) {
  return wksp__reap(arg, 0) ? arg : NULL;
}

static void *vforker(void *arg) {
  fixture_t *fix = arg;
  static void *volatile blk;
  static volatile uint64_t name;
  static volatile int shares;
  pid_t pid = vfork();
  if (!pid) {
    shares = 1;
    blk = fd_alloc_malloc(fix->alloc, 0, 64);
    name = my_name(fix->wksp);
    _exit(0);
  }
  int status;
  char const *said = NULL;
  pthread_t other;
  void *err = NULL;
  if (waitpid(pid, &status, 0) != pid || status || (shares && (!blk || !name)))
    said = "the child failed";
  else if (!shares)
    said = NO_VFORK;
  else if (wksp__name_dead(fix->wksp, name))
    said = "the slot died with the child";
  else if (pthread_create(&other, NULL, reap_by_another, fix->wksp) || pthread_join(other, &err) ||
           err || wksp__name_dead(fix->wksp, name))
    said = "the slot was reaped";
  else if (my_name(fix->wksp) != name)
    said = "the slot was lost";
  fd_alloc_free(fix->alloc, blk);
  return (void *)(uintptr_t)said;
}

/* A child of vfork is its parent's thread as far as the allocator goes: the slot that it leases
   there lives on with the parent, also once the child is gone. */
static void test_vfork(void **state) {
  fixture_t *fix = *state;
  pthread_t thread;
  void *said = NULL;
  assert_int_equal(pthread_create(&thread, NULL, vforker, fix), 0);
  pthread_join(thread, &said);
  if (said && !strcmp(said, NO_VFORK)) {
    printf("# %s\n", (char *)said);
    skip();
  }
  if (said) fail_msg("%s", (char *)said);
  assert_int_equal(slots_held(fix->wksp), 1);
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
}

/* Ends of threads
 * ------------------------------------------------------------------------------------- */

/* The thread sanitizer ends what it knows of a thread in the last round. */
#ifdef __SANITIZE_THREAD__
#define ROUNDS 2
#else
#define ROUNDS PTHREAD_DESTRUCTOR_ITERATIONS
#endif

static pthread_key_t g_key;
static _Atomic uint g_rounds, g_refused;

typedef struct late {
  fixture_t *fix;
  uint rounds;
} late_t;

static void malloc_late(void *arg) {
  late_t *late = arg;
  void *blk = fd_alloc_malloc(late->fix->alloc, 0, 100);
  if (!blk) g_refused++;
  fd_alloc_free(late->fix->alloc, blk);
  g_rounds++;
  if (--late->rounds) pthread_setspecific(g_key, late);
}

static void *end_with_destructor(void *arg) {
  late_t *late = arg;
  fd_alloc_free(late->fix->alloc, fd_alloc_malloc(late->fix->alloc, 0, 100));
  pthread_setspecific(g_key, late);
  return NULL;
}

/* A malloc in another destructor, after the one that gave the thread's slot back, leases again; the
   slot comes back in the next round, and after the last round by the kernel's word. */
static void test_malloc_after_the_end(void **state) {
  fixture_t *fix = *state;
  g_rounds = g_refused = 0;
  uint want = 0;
  for (uint rounds = 1; rounds <= ROUNDS; want += 20 * rounds++)
    for (uint turn = 0; turn < 20; turn++) {
      late_t late = {fix, rounds};
      pthread_t thread;
      assert_int_equal(pthread_create(&thread, NULL, end_with_destructor, &late), 0);
      pthread_join(thread, NULL);
      if (rounds < PTHREAD_DESTRUCTOR_ITERATIONS) assert_int_equal(slots_held(fix->wksp), 1);
    }
  assert_int_equal(g_rounds, want);
  assert_int_equal(g_refused, 0);
  assert_int_equal(wksp__reap(fix->wksp, 0), 0);
  assert_int_equal(slots_held(fix->wksp), 1);
  assert_clean(fix);
}

static void *end_without_leave(void *arg) {
  fixture_t *fix = arg;
  void *blk = fd_alloc_malloc(fd_alloc_join(fix->alloc, 3), 0, 100);
  return blk;
}

/* A thread that ends without leaving gives its slot and its heap back; what it allocated stays. */
static void test_end_without_leave(void **state) {
  fixture_t *fix = *state;
  void *blk[100];
  for (uint i = 0; i < 100; i++) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, end_without_leave, fix), 0);
    pthread_join(thread, &blk[i]);
    assert_non_null(blk[i]);
    for (uint j = 0; j < i; j++) assert_ptr_not_equal(blk[i], blk[j]);
  }
  fd_alloc_stat_t stat;
  assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
  assert_int_equal(stat.heap_cnt, 1);
  assert_int_equal(stat.small_cnt, 100);
  assert_int_equal(stat.suspect_cnt, 0);
  for (uint i = 0; i < 100; i++) fd_alloc_free(fix->alloc, blk[i]);
  assert_int_equal(slots_held(fix->wksp), 1);
  assert_clean(fix);
}

typedef struct crowd {
  fixture_t *fix;
  pthread_barrier_t all;
  _Atomic uint refused, wrong;
} crowd_t;

static void *one_of_many(void *arg) {
  crowd_t *crowd = arg;
  void *first = fd_alloc_malloc(crowd->fix->alloc, 0, 64);
  pthread_barrier_wait(&crowd->all); /* every slot is taken from here on */
  for (uint i = 0; i < 10; i++) {
    ulong *blk = fd_alloc_malloc(crowd->fix->alloc, 0, 64);
    if (!blk) {
      crowd->refused++;
      continue;
    }
    *blk = (ulong)&first;
    sched_yield();
    if (*blk != (ulong)&first) crowd->wrong++;
    fd_alloc_free(crowd->fix->alloc, blk);
  }
  if (!first) crowd->refused++;
  fd_alloc_free(crowd->fix->alloc, first);
  pthread_barrier_wait(&crowd->all);
  return NULL;
}

/* Of more threads than there are slots, each gets its blocks. */
static void test_more_threads_than_slots(void **state) {
  fixture_t *fix = *state;
  enum { MORE = 8 };
  crowd_t crowd = {.fix = fix};
  uint cnt = fix->wksp->slot_max + MORE;
  pthread_t *thread = calloc(cnt, sizeof *thread);
  pthread_barrier_init(&crowd.all, NULL, cnt);
  for (uint i = 0; i < cnt; i++)
    assert_int_equal(pthread_create(&thread[i], NULL, one_of_many, &crowd), 0);
  for (uint i = 0; i < cnt; i++) pthread_join(thread[i], NULL);
  assert_int_equal(crowd.refused, 0);
  assert_int_equal(crowd.wrong, 0);
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
  pthread_barrier_destroy(&crowd.all);
  free(thread);
}

/* The gate of the thread's slot as it is to be if the short forms serve that join. */
static void assert_serves(wksp__seat_t const *seat, fd_alloc_t const *join) {
  assert_ptr_equal(wksp__fast, &seat->fast);
  assert_int_equal(seat->fast.join, (uintptr_t)join);
  assert_int_equal(seat->slot->gate, wksp__fast_key((uintptr_t)join, seat->fast.heap));
}

static void *compact_now(void *alloc) {
  return fd_alloc_compact(alloc, NULL) ? alloc : NULL;
}

/* The gate names the join that the thread has used last, for as long as it has that heap: not once
   it has left it, nor after another thread has taken it. */
static void test_gate_names(void **state) {
  fixture_t *fix = *state;
  fd_alloc_t *alloc = fix->alloc;
  void *mem = fd_wksp_alloc_laddr(fix->wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, TAG + 1);
  fd_alloc_t *other = fd_alloc_join(fd_alloc_new(mem, TAG + 1), 0);
  assert_non_null(other);
  fd_alloc_free(alloc, fd_alloc_malloc(alloc, 0, 64));
  wksp__seat_t *seat = wksp__seat_find(fix->wksp);
  if ((WKSP_FLAVOUR & WKSP_FLAVOUR_HARDENED) || seat->fenced) {
    print_message(
        "# SKIP missing: short forms of malloc, which want membarrier and a build that is "
        "not hardened\n");
    skip();
  }
  assert_serves(seat, alloc);
  fd_alloc_free(other, fd_alloc_malloc(other, 0, 64));
  assert_serves(seat, other);
  fd_alloc_leave(other);
  assert_int_equal(seat->slot->gate, 0);
  fd_alloc_free(alloc, fd_alloc_malloc(alloc, 0, 64));
  assert_serves(seat, alloc);
  pthread_t thread;
  void *bad;
  assert_int_equal(pthread_create(&thread, NULL, compact_now, alloc), 0);
  pthread_join(thread, &bad);
  assert_null(bad);
  assert_int_equal(seat->slot->gate, WKSP_GATE_NOTICE);
  fd_alloc_free(alloc, fd_alloc_malloc(alloc, 0, 64));
  assert_serves(seat, alloc);
  assert_int_equal(fd_wksp_lock(fix->wksp, 1000000000UL), 0);
  assert_int_equal(seat->slot->gate, 0);
  assert_int_equal(fd_wksp_unlock(fix->wksp), 0);
  assert_ptr_equal(fd_alloc_delete((void *)other), mem);
  assert_int_equal(fd_wksp_free_laddr(fix->wksp, mem), 0);
  assert_clean(fix);
}

int main(void) {
  if (pthread_key_create(&g_key, malloc_late)) return 1;
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  struct CMUnitTest const tests[] = {
      T(test_forks),
      T(test_forks_of_forks),
      T(test_clone_killed),
      T(test_vfork),
      T(test_malloc_after_the_end),
      T(test_end_without_leave),
      T(test_more_threads_than_slots),
      T(test_gate_names),
  };
  return cmocka_run_group_tests_name("core/alloc_edge", tests, NULL, NULL);
}
