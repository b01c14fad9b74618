/* Private workspaces: copied by fork, growing, giving back. */

#include "core/alloc_testing.h"
#include "core/map.h"
#include "core/private.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1UL << 20)

/* The thread sanitizer sees fork, and starts anew in the child; of a child that came otherwise it
   thinks that its parent's threads are there, and calls what they did a race with it. */
#ifdef __SANITIZE_THREAD__
#define WAYS 1
#else
#define WAYS BYS
#endif

typedef struct bed {
  fd_wksp_t *wksp;
  fd_alloc_t *alloc;
} bed_t;

static bed_t bed_new(fd_wksp_private_t how) {
  bed_t bed;
  if (!how.size) how.size = 1024 * MIB;
  bed.wksp = fd_wksp_new_private("private", &how);
  assert_non_null(bed.wksp);
  void *shmem = fd_wksp_alloc_laddr(bed.wksp, fd_alloc_align(), fd_alloc_footprint(), 1);
  bed.alloc = fd_alloc_join(fd_alloc_new(shmem, 1), 0);
  assert_non_null(bed.alloc);
  return bed;
}

static void bed_end(bed_t *bed) {
  assert_int_equal(fd_wksp_verify(bed->wksp, testing_sentence, NULL), 0);
  fd_alloc_leave(bed->alloc);
  fd_wksp_delete_anon(bed->wksp);
}

/* Resident bytes of this process. */
static ulong resident(void) {
  char line[128];
  ulong pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  assert_non_null(file);
  assert_non_null(fgets(line, sizeof line, file));
  fclose(file);
  assert_int_equal(sscanf(line, "%*u %lu", &pages), 1);
  return pages * (ulong)sysconf(_SC_PAGESIZE);
}

/* Runs in a child that fork, _Fork or the system call makes, and wants 0 of it. */
enum { BY_FORK, BY_UNDER_FORK, BY_CLONE, BYS };
static void in_child(int by, int (*run)(void *arg), void *arg) {
  fflush(stdout);
  pid_t pid = by == BY_FORK         ? fork()
              : by == BY_UNDER_FORK ? _Fork()
                                    : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  assert_true(pid >= 0);
  if (!pid) _exit(run(arg));
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (WIFSIGNALED(status)) fail_msg("the child was ended by signal %d", WTERMSIG(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

enum { BLOCKS = 3000 };
typedef struct blocks {
  bed_t *bed;
  uchar *blk[BLOCKS];
  ulong sz[BLOCKS];
} blocks_t;

static void blocks_fill(blocks_t *blocks, testing_rng_t *rng) {
  for (uint i = 0; i < BLOCKS; i++) {
    ulong sz = 1 + testing_below(rng, i % 50 ? 2000 : 100000);
    blocks->sz[i] = sz;
    blocks->blk[i] = fd_alloc_malloc(blocks->bed->alloc, 0, sz);
    assert_non_null(blocks->blk[i]);
    memset(blocks->blk[i], (int)(i & 255U), sz);
  }
}

static int wrong(blocks_t const *blocks) {
  for (uint i = 0; i < BLOCKS; i++)
    for (ulong b = 0; blocks->blk[i] && b < blocks->sz[i]; b++)
      if (blocks->blk[i][b] != (uchar)i) return 1;
  return 0;
}

/* Frees half, allocates, writes all that it has; then all is whole. */
static int mutate(void *arg) {
  blocks_t *blocks = arg;
  fd_alloc_t *alloc = blocks->bed->alloc;
  if (wrong(blocks)) return 2;
  for (uint i = 0; i < BLOCKS; i += 2) {
    fd_alloc_free(alloc, blocks->blk[i]);
    blocks->blk[i] = NULL;
  }
  for (uint i = 0; i < BLOCKS; i += 2) {
    if (!(blocks->blk[i] = fd_alloc_malloc(alloc, 0, blocks->sz[i]))) return 3;
    memset(blocks->blk[i], (int)(i & 255U), blocks->sz[i]);
  }
  if (wrong(blocks)) return 4;
  for (uint i = 0; i < BLOCKS; i++) fd_alloc_free(alloc, blocks->blk[i]);
  if (!fd_alloc_is_empty(alloc)) return 5;
  fd_alloc_stat_t stat;
  if (fd_alloc_stat(alloc, &stat) || stat.bad_free_cnt) return 6;
  return fd_wksp_verify(blocks->bed->wksp, testing_sentence, NULL) ? 7 : 0;
}

static uint64_t hash_of(fd_wksp_t *wksp) {
  uint64_t hash = 1, data_sz = fd_wksp_data_sz(wksp);
  for (uint64_t const *at = (uint64_t *)((uintptr_t)wksp),
                      *end = (uint64_t *)((uintptr_t)wksp + wksp->data_lo + data_sz);
       at < end; at++)
    hash = (hash ^ *at) * 0x9e3779b97f4a7c15UL;
  return hash;
}

/* A child, however it is forked, finds all that its parent has allocated, and changes it without
   the parent noticing: not a byte of its memory is another afterwards. */
static void test_fork_copies(void **state) {
  (void)state;
  testing_rng_t rng = testing_rng();
  bed_t bed = bed_new((fd_wksp_private_t){.size = 64 * MIB});
  blocks_t *blocks = calloc(1, sizeof *blocks);
  assert_non_null(blocks);
  blocks->bed = &bed;
  blocks_fill(blocks, &rng);
  for (int by = 0; by < BYS; by++) {
    uint64_t before = hash_of(bed.wksp);
    in_child(by, mutate, blocks);
    assert_true(hash_of(bed.wksp) == before);
  }
  assert_int_equal(mutate(blocks), 0);
  free(blocks);
  bed_end(&bed);
}

/* Threads that allocate all the time. */
typedef struct busy {
  bed_t *bed;
  pthread_t thread;
  uint64_t seed;
  uint stop, turns;
} busy_t;

static void *busy_run(void *arg) {
  busy_t *busy = arg;
  testing_rng_t rng = {busy->seed};
  void *blk[200] = {0};
  while (!__atomic_load_n(&busy->stop, __ATOMIC_RELAXED)) {
    uint at = (uint)testing_below(&rng, 200);
    fd_alloc_free(busy->bed->alloc, blk[at]);
    blk[at] = fd_alloc_malloc(busy->bed->alloc, 0,
                              1 + testing_below(&rng, testing_below(&rng, 20) ? 3000 : 200000));
    if (!blk[at]) return busy;
    __atomic_fetch_add(&busy->turns, 1U, __ATOMIC_RELAXED);
  }
  for (uint at = 0; at < 200; at++) fd_alloc_free(busy->bed->alloc, blk[at]);
  return NULL;
}

/* In a child of a process with busy threads: whatever they were at, the child can take more than
   any heap has at hand, forks in turn, and finds a workspace that is whole. */
static int child_works(void *arg) {
  bed_t *bed = arg;
  static void *blk[2000];
  for (uint i = 0; i < 2000; i++) {
    if (!(blk[i] = fd_alloc_malloc(bed->alloc, 0, i % 100 ? 1000 : 100000))) return 10;
    memset(blk[i], 1, 1000);
  }
  pid_t pid = fork();
  if (pid < 0) return 11;
  if (!pid) {
    for (uint i = 0; i < 2000; i++) fd_alloc_free(bed->alloc, blk[i]);
    _exit(fd_wksp_verify(bed->wksp, testing_sentence, NULL) ? 12 : 0);
  }
  int status;
  if (waitpid(pid, &status, 0) != pid || status) return 13;
  for (uint i = 0; i < 2000; i++) fd_alloc_free(bed->alloc, blk[i]);
  return fd_wksp_verify(bed->wksp, testing_sentence, NULL) ? 14 : 0;
}

static void test_fork_under_threads(void **state) {
  (void)state;
  testing_rng_t rng = testing_rng();
  bed_t bed = bed_new((fd_wksp_private_t){.keep = 8 * MIB});
  static busy_t busy[3];
  memset(busy, 0, sizeof busy);
  for (uint i = 0; i < 3; i++) {
    busy[i].bed = &bed;
    busy[i].seed = testing_next(&rng) | 1;
    assert_int_equal(pthread_create(&busy[i].thread, NULL, busy_run, &busy[i]), 0);
  }
  for (int turn = 0; turn < 24; turn++) in_child(turn % WAYS, child_works, &bed);
  for (uint i = 0; i < 3; i++) {
    void *failed;
    __atomic_store_n(&busy[i].stop, 1U, __ATOMIC_RELAXED);
    assert_int_equal(pthread_join(busy[i].thread, &failed), 0);
    assert_null(failed);
    assert_true(busy[i].turns > 0);
  }
  assert_true(fd_alloc_is_empty(bed.alloc));
  bed_end(&bed);
}

/* A chain of children, each a child of the one before, does not use up slots: there are as many as
   threads live. */
static int descend(void *arg) {
  bed_t *bed = arg;
  static int depth;
  void *blk = fd_alloc_malloc(bed->alloc, 0, 100);
  if (!blk) return 20;
  fd_alloc_free(bed->alloc, blk);
  if (++depth == 40) return 0;
  pid_t pid = fork();
  if (pid < 0) return 21;
  if (!pid) _exit(descend(arg));
  int status;
  return waitpid(pid, &status, 0) == pid && !status ? 0 : 22;
}

static uint held_slots(fd_wksp_t *wksp) {
  uint cnt = 0;
  for (uint i = 0; i < wksp->slot_max; i++) {
    uint64_t claim = wksp__slots(wksp)[i].claim;
    cnt += CLAIM_STATE(claim) != WKSP_SLOT_FREE &&
           !wksp__name_dead(wksp, wksp__name_of(i, claim >> 32));
  }
  return cnt;
}

static void *one_block(void *arg) {
  bed_t *bed = arg;
  fd_alloc_free(bed->alloc, fd_alloc_malloc(bed->alloc, 0, 10));
  return NULL;
}

static int few_slots(void *arg) {
  bed_t *bed = arg;
  pthread_t thread;
  for (int i = 0; i < 10; i++)
    if (pthread_create(&thread, NULL, one_block, bed) || pthread_join(thread, NULL)) return 30;
  return held_slots(bed->wksp) == 1 ? 0 : 31;
}

static void test_slots_of_children(void **state) {
  (void)state;
  bed_t bed = bed_new((fd_wksp_private_t){.size = 32 * MIB});
  assert_true(bed.wksp->slot_max < 80);
  fd_alloc_free(bed.alloc, fd_alloc_malloc(bed.alloc, 0, 10));
  assert_int_equal(held_slots(bed.wksp), 1);
  in_child(BY_FORK, descend, &bed);
  for (int by = 0; by < BYS - 1; by++) in_child(by, few_slots, &bed);
  bed_end(&bed);
}

typedef struct many {
  bed_t bed;
  pthread_barrier_t all;
  uint refused; /* atomic */
} many_t;

static void *one_of_many(void *arg) {
  many_t *many = arg;
  void *blk = fd_alloc_malloc(many->bed.alloc, 0, 100);
  if (!blk) __atomic_fetch_add(&many->refused, 1U, __ATOMIC_RELAXED);
  pthread_barrier_wait(&many->all);
  pthread_barrier_wait(&many->all);
  fd_alloc_free(many->bed.alloc, blk);
  return NULL;
}

static int one_is_left(void *arg) {
  many_t *many = arg;
  if (held_slots(many->bed.wksp) != 1) return 70;
  fd_alloc_free(many->bed.alloc, fd_alloc_malloc(many->bed.alloc, 0, 10));
  return fd_wksp_verify(many->bed.wksp, NULL, NULL) ? 71 : 0;
}

/* Where one process's threads alone are served there are slots for thousands of them, each has its
   own, and a child finds those of the others dead. Words with a mark, which have no room for the
   number of such a slot, are refused. */
static void test_many_threads(void **state) {
  (void)state;
  enum { CNT = 1100 };
  fd_wksp_private_t how = {.size = 1024 * MIB, .flags = FD_WKSP_PRIVATE_THREADS};
  many_t many = {.bed.wksp = fd_wksp_new_private("private", &how)};
  fd_wksp_t *wksp = many.bed.wksp;
  assert_non_null(wksp);
  assert_int_equal(wksp->slot_max, WKSP_SLOTS_MANY);
  assert_true(wksp->footprint <= how.size);
  many.bed.alloc = fd_alloc_join(
      fd_alloc_new(fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), 1), 1), 0);
  static pthread_t thread[CNT];
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 128 << 10);
  pthread_barrier_init(&many.all, NULL, CNT + 1);
  for (uint i = 0; i < CNT; i++)
    assert_int_equal(pthread_create(&thread[i], &attr, one_of_many, &many), 0);
  pthread_barrier_wait(&many.all);
  assert_int_equal(held_slots(wksp), CNT + 1);
  in_child(BY_FORK, one_is_left, &many);
  pthread_barrier_wait(&many.all);
  for (uint i = 0; i < CNT; i++) pthread_join(thread[i], NULL);
  assert_int_equal(many.refused, 0);
  assert_int_equal(held_slots(wksp), 1);
  ulong *word = fd_alloc_malloc(many.bed.alloc, 8, sizeof *word);
  *word = 0;
  assert_int_equal(fd_alloc_malloc_to(many.bed.alloc, 0, 10, word), WKSP_E_UNSUPPORTED);
  fd_alloc_free(many.bed.alloc, word);
  pthread_barrier_destroy(&many.all);
  pthread_attr_destroy(&attr);
  bed_end(&many.bed);
}

/* The data grow until the addresses are used up, and not beyond: then malloc says so. What is not
   yet part of the data cannot be touched, and counts as nothing. */
static void test_grows(void **state) {
  (void)state;
  bed_t bed = bed_new((fd_wksp_private_t){.size = 256 * MIB});
  ulong first = fd_wksp_data_sz(bed.wksp), max = fd_wksp_data_max(bed.wksp);
  assert_true(first < max / 4);
  ulong got = 0, prev = first;
  for (; fd_alloc_malloc(bed.alloc, 0, MIB); got += MIB) {
    ulong now = fd_wksp_data_sz(bed.wksp);
    assert_true(now >= prev);
    prev = now;
  }
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  assert_true(prev == max);
  assert_true(got > max - 4 * MIB && got <= max);
  assert_non_null(fd_alloc_malloc(bed.alloc, 0, 100)); /* of what is left */
  bed_end(&bed);
  assert_null(fd_wksp_new_private("private", NULL));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  fd_wksp_private_t bad = {.size = 64 * MIB, .flags = 8};
  assert_null(fd_wksp_new_private("private", &bad));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  bad = (fd_wksp_private_t){.size = 64 * MIB};
  assert_null(fd_wksp_new_private("no name", &bad));
  bad.nodes = 1UL << 63;
  assert_null(fd_wksp_new_private("private", &bad));
  assert_int_equal(wksp_last_error_code(), WKSP_E_SYS);
}

/* Where the process may not have so many addresses, or not so much data, that is an error that says
   so, or growth ends. */
static int limited(void *arg) {
  (void)arg;
  struct rlimit limit = {1024 * MIB, 1024 * MIB};
  fd_wksp_private_t how = {.size = 8192 * MIB};
  if (setrlimit(RLIMIT_AS, &limit)) return 40;
  if (fd_wksp_new_private("private", &how) || wksp_last_error_code() != WKSP_E_NOMEM) return 41;
  how.size = 256 * MIB;
  bed_t bed = {.wksp = fd_wksp_new_private("private", &how)};
  if (!bed.wksp) return 42;
  struct rlimit data = {96 * MIB, 96 * MIB};
  if (setrlimit(RLIMIT_DATA, &data)) return 43;
  ulong got = 0;
  while (fd_wksp_alloc(bed.wksp, 64, MIB, 1)) got += MIB;
  return got > 20 * MIB && got < 100 * MIB ? 0 : 44;
}

static void test_limits(void **state) {
  (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  print_message("# this build's sanitizer takes more addresses than the test allows\n");
  skip();
#endif
  in_child(BY_FORK, limited, NULL);
}

/* Memory that is free goes back to the system as it becomes free, but for what is to be kept; and
   all of it by trim. */
static void test_gives_back(void **state) {
  (void)state;
#ifdef __SANITIZE_THREAD__
  print_message("# this build's sanitizer has memory of its own for what is given back\n");
  skip();
#endif
  bed_t bed = bed_new((fd_wksp_private_t){.keep = 16 * MIB});
  static void *blk[120 * MIB / 600];
  ulong before = resident();
  for (int turn = 0; turn < 2; turn++) {
    ulong sz = turn ? 400000 : 600, cnt = 120 * MIB / sz;
    for (ulong i = 0; i < cnt; i++) {
      assert_non_null(blk[i] = fd_alloc_malloc(bed.alloc, 0, sz));
      memset(blk[i], 1, sz);
    }
    ulong full = resident();
    assert_true(full > before + 100 * MIB);
    for (ulong i = 0; i < cnt; i++) fd_alloc_free(bed.alloc, blk[i]);
    assert_true(resident() < before + 56 * MIB);
  }
  ulong freed = 0;
  assert_int_equal(fd_alloc_compact(bed.alloc, NULL), 0);
  assert_int_equal(fd_wksp_trim(bed.wksp, &freed), 0);
  assert_true(freed > 100 * MIB);
  assert_true(resident() < before + 8 * MIB);
  bed_end(&bed);
  fd_wksp_t *other = fd_wksp_new_anon("shared", 4 * MIB, 0, 1, 0);
  assert_non_null(other);
  assert_int_equal(fd_wksp_trim(other, NULL), WKSP_E_UNSUPPORTED);
  assert_int_equal(fd_wksp_trim(NULL, NULL), WKSP_E_INVAL);
  fd_wksp_delete_anon(other);
}

/* The quick size of a live block is what usable_size says. */
static void test_size_fast(void **state) {
  (void)state;
  bed_t bed = bed_new((fd_wksp_private_t){0});
  for (ulong sz = 1; sz < 300000; sz += 1 + sz / 7) {
    void *blk = fd_alloc_malloc(bed.alloc, 0, sz);
    assert_non_null(blk);
    assert_int_equal(fd_alloc_usable_size_fast(bed.alloc, blk),
                     fd_alloc_usable_size(bed.alloc, blk));
    fd_alloc_free(bed.alloc, blk);
  }
  assert_int_equal(fd_alloc_usable_size_fast(bed.alloc, &bed), 0);
  bed_end(&bed);
}

/* With either kind of huge pages all is the same, also where there are none. */
static void test_huge(void **state) {
  (void)state;
  ulong const flags[] = {FD_WKSP_PRIVATE_THP, FD_WKSP_PRIVATE_HUGETLB};
  for (int i = 0; i < 2; i++) {
    bed_t bed = bed_new((fd_wksp_private_t){.flags = flags[i], .keep = MIB});
    void *blk[100];
    for (uint at = 0; at < 100; at++) {
      assert_non_null(blk[at] = fd_alloc_malloc(bed.alloc, 0, 700000));
      memset(blk[at], 1, 700000);
    }
    for (uint at = 0; at < 100; at++) fd_alloc_free(bed.alloc, blk[at]);
    assert_int_equal(fd_wksp_trim(bed.wksp, NULL), 0);
    bed_end(&bed);
  }
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_fork_copies),
      cmocka_unit_test(test_fork_under_threads),
      cmocka_unit_test(test_slots_of_children),
      cmocka_unit_test(test_many_threads),
      cmocka_unit_test(test_grows),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_gives_back),
      cmocka_unit_test(test_size_fast),
      cmocka_unit_test(test_huge),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
