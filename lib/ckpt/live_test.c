/* Tests of checkpoints while threads work in the workspace. */

#include "ckpt/testing.h"

#include "wksp/pause.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static ulong const SECOND = 1000000000UL;

typedef struct worker {
  fd_wksp_t *wksp;
  ulong alloc_gaddr;
  uint64_t seed;
  uint64_t stop, turns;
} worker_t;

/* Allocates, writes and frees, small and large, and makes and frees partitions. */
static void *churn(void *arg) {
  worker_t *self = arg;
  testing_rng_t rng = {self->seed * 2 + 1};
  void *block[256] = {0};
  ulong part[8] = {0};
  fd_alloc_t *join = fd_alloc_join(fd_wksp_laddr(self->wksp, self->alloc_gaddr), 0);
  while (!__atomic_load_n(&self->stop, __ATOMIC_RELAXED)) {
    ulong i = testing_below(&rng, 256), size = 1 + testing_below(&rng, 3000);
    if (testing_below(&rng, 200) == 0) size *= 20;
    fd_alloc_free(join, block[i]);
    block[i] = fd_alloc_malloc(join, 0, size);
    if (block[i]) memset(block[i], (int)i, size);
    if (testing_below(&rng, 50) == 0) {
      i &= 7U;
      fd_wksp_free(self->wksp, part[i]);
      part[i] = fd_wksp_alloc(self->wksp, 64, 64 * (1 + testing_below(&rng, 300)), 500 + i);
    }
    __atomic_fetch_add(&self->turns, 1UL, __ATOMIC_RELAXED);
  }
  fd_alloc_leave(join);
  return NULL;
}

static void begin(worker_t *workers, pthread_t *threads, uint cnt, void *(*work)(void *)) {
  for (uint i = 0; i < cnt; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
  for (uint i = 0; i < cnt; i++)
    while (!__atomic_load_n(&workers[i].turns, __ATOMIC_RELAXED)) sched_yield();
}

static void end(worker_t *workers, pthread_t *threads, uint cnt) {
  for (uint i = 0; i < cnt; i++) __atomic_store_n(&workers[i].stop, 1UL, __ATOMIC_RELAXED);
  for (uint i = 0; i < cnt; i++) pthread_join(threads[i], NULL);
}

static int free_block(void *arg, fd_alloc_block_t const *block) {
  ulong *list = arg;
  if (list[0] < 100000) list[++list[0]] = block->gaddr;
  return 0;
}

/* Whatever threads do to fd_allocs and partitions meanwhile, a fuzzy checkpoint restores to a
   workspace that verifies, whose fd_allocs work, and in which each live block can be freed. */
static void fuzzy(void **state) {
  testing_rng_t rng = testing_rng();
  sample_t sample;
  mem_store_t mem;
  mem_store_new(&mem);
  wksp_ckpt_store_t *store = mem_store_open(&mem);
  sample_new(&sample, 32UL << 20, 500, &rng);
  worker_t workers[2];
  pthread_t threads[2];
  for (uint i = 0; i < 2; i++)
    workers[i] = (worker_t){
        .wksp = sample.wksp, .alloc_gaddr = sample.alloc_gaddr, .seed = testing_next(&rng)};
  begin(workers, threads, 2, churn);
  ulong *list = malloc(100001 * sizeof *list);
  assert_non_null(list);
  for (uint round = 0; round < 25; round++) {
    wksp_ckpt_result_t result;
    wksp_ckpt_opts_t opts = {.threads = 1 + round % 2};
    int err = wksp_ckpt_take(store, sample.wksp, &opts, &result);
    if (err) printf("# %s\n", wksp_last_error());
    assert_int_equal(err, 0);
    restored_t restored;
    err = sample_restore(store, result.id, NULL, &restored);
    if (err) printf("# %s\n", wksp_last_error());
    assert_int_equal(err, 0);
    fd_alloc_t *join = fd_alloc_join(fd_wksp_laddr(restored.wksp, sample.alloc_gaddr), 0);
    assert_non_null(join);
    list[0] = 0;
    assert_int_equal(fd_alloc_walk(join, free_block, list), 0);
    assert_true(list[0] >= 250); /* those of the sample, which nobody touches */
    for (ulong i = 0; i < 300; i++) fd_alloc_free(join, fd_alloc_malloc(join, 0, 10 * i));
    for (ulong i = 1; i <= list[0]; i++) fd_alloc_free(join, fd_wksp_laddr(restored.wksp, list[i]));
    assert_int_equal(fd_alloc_is_empty(join), 1);
    fd_alloc_leave(join);
    assert_int_equal(fd_wksp_verify(restored.wksp, testing_sentence, NULL), 0);
    restored_end(&restored);
    assert_int_equal(wksp_ckpt_remove(store, result.id, NULL), 0);
  }
  end(workers, threads, 2);
  free(list);
  sample_end(&sample);
  wksp_ckpt_store_close(store);
  mem_store_end(&mem);
}

/* As many as fill some chunks, each account a page of its own. */
#define ACCOUNTS 512
#define APART    512UL
#define MONEY    1000UL
#define ROUNDS   100
/* On a machine that others use, too, as many rounds as that allows, but some; ns. */
#define ROUNDS_MIN 20
#define ROUNDS_NS  10000000000UL

/* Moves money between accounts that lie far apart; the sum stays. */
static void *transfer(void *arg) {
  worker_t *self = arg;
  testing_rng_t rng = {self->seed * 2 + 1};
  uint64_t *accounts = fd_wksp_laddr(self->wksp, self->alloc_gaddr);
  wksp_bracket_t *bracket;
  assert_int_equal(wksp_client_bracket(self->wksp, &bracket), 0);
  for (uint call = 0; !__atomic_load_n(&self->stop, __ATOMIC_RELAXED); call ^= 1U) {
    ulong from = APART * testing_below(&rng, ACCOUNTS), to = APART * testing_below(&rng, ACCOUNTS);
    assert_int_equal(call ? wksp_client_enter(self->wksp) : wksp_bracket_enter(bracket), 0);
    __atomic_fetch_sub(&accounts[from], 1UL, __ATOMIC_RELAXED);
    __atomic_fetch_add(&accounts[to], 1UL, __ATOMIC_RELAXED);
    if (call)
      wksp_client_leave(self->wksp);
    else
      wksp_bracket_leave(bracket);
    __atomic_fetch_add(&self->turns, 1UL, __ATOMIC_RELAXED);
  }
  return NULL;
}

/* Transfers between accounts keep their sum; so does each checkpoint that was taken in a pause. */
static void quiesce(void **state) {
  testing_rng_t rng = testing_rng();
  mem_store_t mem;
  mem_store_new(&mem);
  wksp_ckpt_store_t *store = mem_store_open(&mem);
  fd_wksp_t *wksp = testing_wksp(64, 4UL << 20);
  ulong at = fd_wksp_alloc(wksp, 4096, ACCOUNTS * APART * 8, 5);
  uint64_t *accounts = fd_wksp_laddr(wksp, at);
  for (uint i = 0; i < ACCOUNTS; i++) accounts[APART * i] = MONEY;
  worker_t workers[2];
  pthread_t threads[2];
  for (uint i = 0; i < 2; i++)
    workers[i] = (worker_t){.wksp = wksp, .alloc_gaddr = at, .seed = testing_next(&rng)};
  begin(workers, threads, 2, transfer);
  char const *full = getenv("WKSP_TEST_FULL");
  ulong until = full && !strcmp(full, "1") ? ULONG_MAX : wksp__now_ns() + ROUNDS_NS;
  uint round = 0;
  for (; round < ROUNDS && (round < ROUNDS_MIN || wksp__now_ns() < until); round++) {
    wksp_ckpt_opts_t opts = {
        .mode = WKSP_CKPT_QUIESCE, .wait_ns = 60 * SECOND, .pause_ns = 60 * SECOND, .threads = 2};
    wksp_ckpt_result_t result;
    int err = wksp_ckpt_take(store, wksp, &opts, &result);
    if (err) printf("# %s\n", wksp_last_error());
    assert_int_equal(err, 0);
    assert_int_equal(result.mode, WKSP_CKPT_QUIESCE);
    assert_true(result.pause_ns > 0);
    restored_t restored;
    assert_int_equal(sample_restore(store, result.id, NULL, &restored), 0);
    uint64_t sum = 0, *copy = fd_wksp_laddr(restored.wksp, at);
    for (uint i = 0; i < ACCOUNTS; i++) sum += copy[APART * i];
    assert_int_equal(sum, ACCOUNTS * MONEY);
    restored_end(&restored);
    assert_int_equal(wksp_ckpt_remove(store, result.id, NULL), 0);
  }
  printf("# %u checkpoints\n", round);
  end(workers, threads, 2);
  testing_wksp_end(wksp);
  wksp_ckpt_store_close(store);
  mem_store_end(&mem);
}

/* What a checkpoint meets between its two looks at two words: with nobody's cooperation they need
   not agree. Shown in one thread: the change is made between the windows that hold them. */
typedef struct between {
  uint64_t *a, *b;
  ulong calls;
} between_t;

static int move_between(void *arg, wksp_ckpt_progress_t const *progress) {
  between_t *self = arg;
  if (progress->phase == WKSP_CKPT_PHASE_SCAN && !self->calls++) {
    --*self->a;
    ++*self->b;
  }
  return 0;
}

/* A fuzzy checkpoint does not promise what one in a pause does. */
static void fuzzy_promises_less(void **state) {
  mem_store_t mem;
  mem_store_new(&mem);
  wksp_ckpt_store_t *store = mem_store_open(&mem);
  fd_wksp_t *wksp = testing_wksp(64, 64UL << 20);
  ulong size = 48UL << 20, at = fd_wksp_alloc(wksp, 4096, size, 5);
  uint64_t *words = fd_wksp_laddr(wksp, at), *last = words + size / 8 - 1;
  words[0] = *last = MONEY;
  between_t between = {.a = words, .b = last};
  wksp_ckpt_opts_t opts = {.threads = 1, .on_progress = move_between, .progress_arg = &between};
  assert_int_equal(wksp_ckpt_take(store, wksp, &opts, NULL), 0);
  assert_true(between.calls > 1);
  restored_t restored;
  assert_int_equal(sample_restore(store, 0, NULL, &restored), 0);
  uint64_t *copy = fd_wksp_laddr(restored.wksp, at);
  assert_int_equal(copy[0], MONEY);
  assert_int_equal(copy[size / 8 - 1], MONEY + 1);
  restored_end(&restored);
  testing_wksp_end(wksp);
  wksp_ckpt_store_close(store);
  mem_store_end(&mem);
}

typedef struct stayer {
  fd_wksp_t *wksp;
  int in[2], out[2]; /* pipes */
} stayer_t;

static void *stay_inside(void *arg) {
  stayer_t *self = arg;
  char byte = 0;
  assert_int_equal(wksp_client_enter(self->wksp), 0);
  assert_int_equal(write(self->out[1], &byte, 1), 1);
  assert_int_equal(read(self->in[0], &byte, 1), 1);
  wksp_client_leave(self->wksp);
  return NULL;
}

/* A client that stays in its bracket costs the checkpoint, or its mode, as was asked; it is named.
 */
static void silent(void **state) {
  mem_store_t mem;
  mem_store_new(&mem);
  wksp_ckpt_store_t *store = mem_store_open(&mem);
  stayer_t self = {.wksp = testing_wksp(64, 1UL << 20)};
  pthread_t thread;
  char byte = 0;
  assert_int_equal(pipe(self.in), 0);
  assert_int_equal(pipe(self.out), 0);
  assert_int_equal(pthread_create(&thread, NULL, stay_inside, &self), 0);
  assert_int_equal(read(self.out[0], &byte, 1), 1);
  wksp_ckpt_opts_t opts = {.mode = WKSP_CKPT_QUIESCE, .wait_ns = 1000000};
  wksp_ckpt_result_t result;
  assert_int_equal(wksp_ckpt_take(store, self.wksp, &opts, &result), WKSP_E_TIMEDOUT);
  assert_null(mem_file(&mem, "ckpt", 0));
  opts.degrade = 1;
  assert_int_equal(wksp_ckpt_take(store, self.wksp, &opts, &result), 0);
  assert_int_equal(result.mode, WKSP_CKPT_FUZZY);
  assert_int_equal(result.silent_cnt, 1);
  assert_int_equal(result.silent[0].pid, getpid());
  wksp_ckpt_t *ckpt;
  assert_int_equal(wksp_ckpt_open(store, 0, &ckpt), 0);
  assert_int_equal(wksp_ckpt_info(ckpt)->mode_asked, WKSP_CKPT_QUIESCE);
  assert_int_equal(wksp_ckpt_info(ckpt)->mode, WKSP_CKPT_FUZZY);
  assert_int_equal(wksp_ckpt_info(ckpt)->silent_cnt, 1);
  assert_int_equal(wksp_ckpt_info(ckpt)->silent[0].tid, result.silent[0].tid);
  wksp_ckpt_close(ckpt);
  assert_int_equal(write(self.in[1], &byte, 1), 1);
  pthread_join(thread, NULL);
  for (uint i = 0; i < 2; i++) {
    close(self.in[i]);
    close(self.out[i]);
  }
  testing_wksp_end(self.wksp);
  wksp_ckpt_store_close(store);
  mem_store_end(&mem);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(fuzzy),
      cmocka_unit_test(quiesce),
      cmocka_unit_test(fuzzy_promises_less),
      cmocka_unit_test(silent),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
