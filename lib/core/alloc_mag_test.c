/* Magazines and the short forms of malloc and free: what they hold is free for everybody who looks,
   and whoever comes in between two of their stores finds the heap whole.

   Built with WKSP_CRASH_POINTS: the hook before every store does what comes in between. */

#include "core/alloc_testing.h"
#include "core/fail.h"
#include "core/map.h"

#include <semaphore.h>

/* What a thread that set hook_at does before its store number hook_at. */
static __thread long hook_at;
static __thread void (*hook)(void);

void wksp__crash_point(void) {
  if (!hook_at || --hook_at) return;
  hook();
}

static fixture_t *g_fix;

static int setup_mag(void **state) {
  int rc = setup_sized(state, 16UL << 20);
  g_fix = *state;
  return rc;
}

static wksp__mag_t *mag_of(fixture_t *fix, uint32_t cls) {
  for (uint32_t id = 1; id < fix->wksp->heap_max; id++) {
    wksp__heap_t *heap = wksp__heap_of(fix->wksp, id, fix->alloc->self);
    if (heap) return &heap->mag[cls];
  }
  return NULL;
}

static uint32_t class_of(ulong sz) {
  return wksp__class_of[(sz + 15) >> 4];
}

static fd_alloc_stat_t stat_of(fixture_t *fix) {
  fd_alloc_stat_t stat;
  assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
  return stat;
}

/* Blocks in an array or a mask are live for nobody: not listed, not counted, and the alloc is empty
   when there are no others. */
static void test_held_blocks_are_free(void **state) {
  fixture_t *fix = *state;
  void *blk[40];
  for (uint i = 0; i < 40; i++) assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, 64));
  assert_true(mag_of(fix, class_of(64))->mask != 0);
  assert_int_equal(stat_of(fix).small_cnt, 40);
  for (uint i = 0; i < 40; i++) {
    fd_alloc_free(fix->alloc, blk[i]);
    assert_int_equal(stat_of(fix).small_cnt, 39 - i);
    assert_sound(fix);
  }
  wksp__mag_t const *mag = mag_of(fix, class_of(64));
  assert_true(mag->top > mag->lo);
  assert_int_equal(fd_alloc_is_empty(fix->alloc), 1);
  assert_clean(fix);
}

/* A block that is freed twice is refused at once if it is among the last four of its class; if not,
   it is found and counted when its magazine gives it back, and is free once. */
static void test_double_free(void **state) {
  fixture_t *fix = *state;
  void *blk[12];
  for (uint i = 0; i < 12; i++) assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, 64));
  for (uint i = 0; i < 6; i++) fd_alloc_free(fix->alloc, blk[i]);
  for (uint i = 2; i < 6; i++) {
    fd_alloc_free(fix->alloc, blk[i]);
    assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
    assert_int_equal(bad_frees(fix), i - 1);
  }
  fd_alloc_free(fix->alloc, blk[0]);
  assert_int_equal(bad_frees(fix), WKSP_FLAVOUR & WKSP_FLAVOUR_HARDENED ? 5 : 4);
  assert_int_equal(stat_of(fix).small_cnt, 6);
  void *many[200]; /* more than the array has room for */
  for (uint i = 0; i < 200; i++) assert_non_null(many[i] = fd_alloc_malloc(fix->alloc, 0, 80));
  for (uint i = 0; i < 7; i++) fd_alloc_free(fix->alloc, many[i]);
  fd_alloc_free(fix->alloc, many[0]);
  for (uint i = 7; i < 200; i++) fd_alloc_free(fix->alloc, many[i]);
  assert_int_equal(fd_alloc_compact(fix->alloc, NULL), 0);
  assert_int_equal(stat_of(fix).small_cnt, 6);
  for (uint i = 6; i < 12; i++) fd_alloc_free(fix->alloc, blk[i]);
  assert_clean(fix);
}

typedef struct helper {
  fixture_t *fix;
  void **blk;
  uint cnt;
  sem_t ready, end;
} helper_t;

static void *free_and_idle(void *arg) {
  helper_t *helper = arg;
  fd_alloc_free(helper->fix->alloc, fd_alloc_malloc(helper->fix->alloc, 0, 64)); /* has a heap */
  for (uint i = 0; i < helper->cnt; i++) fd_alloc_free(helper->fix->alloc, helper->blk[i]);
  sem_post(&helper->ready);
  while (sem_wait(&helper->end)) {
  }
  return NULL;
}

/* Blocks of others that an idle thread has freed and keeps are free, and one compact gives their
   spans back, whichever of the two heaps it comes to first. */
static void test_foreign_blocks(void **state) {
  fixture_t *fix = *state;
  for (uint turn = 0; turn < 2; turn++) {
    void *blk[30];
    helper_t helper = {.fix = fix, .blk = blk, .cnt = 30};
    pthread_t thread;
    sem_init(&helper.ready, 0, 0);
    sem_init(&helper.end, 0, 0);
    /* the first heap of the directory is ours, or the helper's */
    if (turn) fd_alloc_leave(fix->alloc);
    for (uint i = 0; i < 30; i++) assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, 2000));
    pthread_create(&thread, NULL, free_and_idle, &helper);
    while (sem_wait(&helper.ready)) {
    }
    assert_int_equal(bad_frees(fix), 0);
    assert_clean(fix);
    sem_post(&helper.end);
    pthread_join(thread, NULL);
  }
}

/* A thread that only frees gets a heap for its magazines, and what it keeps is found. */
static void *only_free(void *arg) {
  helper_t *helper = arg;
  for (uint i = 0; i < helper->cnt; i++) fd_alloc_free(helper->fix->alloc, helper->blk[i]);
  return NULL;
}

static void test_consumer(void **state) {
  fixture_t *fix = *state;
  void *blk[500];
  for (uint i = 0; i < 500; i++) assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, 48));
  helper_t helper = {.fix = fix, .blk = blk, .cnt = 500};
  pthread_t thread;
  pthread_create(&thread, NULL, only_free, &helper);
  pthread_join(thread, NULL);
  assert_int_equal(bad_frees(fix), 0);
  assert_int_equal(stat_of(fix).heap_cnt, 2);
  assert_clean(fix);
}

/* What a signal handler gets that comes at this moment. */
static void *inner[2];
static uint32_t nested;

static void malloc_inside(void) {
  inner[0] = fd_alloc_malloc(g_fix->alloc, 0, 64);
  inner[1] = fd_alloc_malloc(g_fix->alloc, 0, 64);
  fd_alloc_free(g_fix->alloc, inner[0]);
  nested++;
}

/* A signal handler may malloc and free before any store of the call that it interrupts: the two do
   not get the same block, and nothing is lost. */
static void test_handler_inside(void **state) {
  fixture_t *fix = *state;
  /* The long form, till it takes the workspace's lock, for which a handler would wait in vain; from
     the mask; from the array. */
  for (uint warm = 0; warm < 3; warm++)
    for (long at = 1; at < (warm ? 20 : 5); at++) {
      void *before = warm ? fd_alloc_malloc(fix->alloc, 0, 64) : NULL;
      if (warm == 2) fd_alloc_free(fix->alloc, before);
      inner[1] = NULL;
      hook = malloc_inside;
      hook_at = at;
      void *blk = fd_alloc_malloc(fix->alloc, 0, 64);
      fd_alloc_free(fix->alloc, blk);
      void *again = fd_alloc_malloc(fix->alloc, 0, 64);
      hook_at = 0;
      assert_non_null(blk);
      assert_non_null(again);
      if (inner[1]) {
        assert_ptr_not_equal(again, inner[1]);
        fd_alloc_free(fix->alloc, inner[1]);
      }
      fd_alloc_free(fix->alloc, again);
      if (warm == 1) fd_alloc_free(fix->alloc, before);
      assert_int_equal(fd_alloc_is_empty(fix->alloc), 1);
      if (!warm) assert_clean(fix);
    }
  assert_true(nested > 20);
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
}

static void call_inside(void) {
  wksp__call_t call; /* in and out go on by one */
  assert_int_equal(wksp__call_begin(g_fix->wksp, &call), 0);
  wksp__call_end(&call);
  nested++;
}

/* A signal handler's call that comes while the thread is about to say that it is inside does not
   leave it outside: not even between the load and the store that say so. */
static void test_handler_at_the_door(void **state) {
  fixture_t *fix = *state;
  fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 64));
  nested = 0;
  for (long at = 1; at < 4; at++) {
    wksp__call_t call;
    hook = call_inside;
    hook_at = at;
    assert_int_equal(wksp__call_begin(fix->wksp, &call), 0);
    hook_at = 0;
    assert_int_equal(wksp__slot_outside(call.slot), 0);
    wksp__call_end(&call);
    assert_int_equal(wksp__slot_outside(call.slot), 1);
  }
  assert_true(nested > 0);
}

/* A block that a process got last and somebody else has freed since is no suspect of that process's
   death, although it lies in a magazine and its pair does not tell. */
static void test_no_suspect_in_a_magazine(void **state) {
  fixture_t *fix = *state;
  int gaddr_pipe[2];
  ulong gaddr;
  fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 64));
  assert_int_equal(pipe(gaddr_pipe), 0);
  pid_t pid = fork();
  if (!pid) {
    gaddr = fd_wksp_gaddr_fast(fix->wksp, fd_alloc_malloc(fix->alloc, 0, 64));
    if (write(gaddr_pipe[1], &gaddr, sizeof gaddr) != sizeof gaddr) _exit(7);
    for (;;) pause();
  }
  assert_int_equal(read(gaddr_pipe[0], &gaddr, sizeof gaddr), sizeof gaddr);
  fd_alloc_free(fix->alloc, fd_wksp_laddr_fast(fix->wksp, gaddr));
  kill(pid, SIGKILL);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  assert_int_equal(wksp__reap(fix->wksp, 0), 0);
  void *blk = fd_alloc_malloc(fix->alloc, 0, 64);
  assert_ptr_equal(blk, fd_wksp_laddr_fast(fix->wksp, gaddr));
  assert_int_equal(stat_of(fix).suspect_cnt, 0);
  fd_alloc_free(fix->alloc, blk);
  assert_clean(fix);
  close(gaddr_pipe[0]);
  close(gaddr_pipe[1]);
}

typedef struct reader {
  fixture_t *fix;
  ulong gaddr, looks;
  _Atomic int done;
} reader_t;

static void *look_often(void *arg) {
  reader_t *reader = arg;
  ulong seen = 0;
  for (; reader->looks; reader->looks--)
    seen += (ulong)wksp__held_now(reader->fix->wksp, reader->fix->alloc->self, class_of(16384),
                                  reader->gaddr);
  reader->done = 1;
  return (void *)seen;
}

/* Who looks while the owner turns from word to word never takes a block for free that is live all
   the time. */
static void test_look_while_at_work(void **state) {
  fixture_t *fix = *state;
  void *blk[40];
  for (uint i = 0; i < 40; i++) assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, 16384));
  reader_t reader = {.fix = fix, .looks = 1500000};
  reader.gaddr = fd_wksp_gaddr_fast(fix->wksp, blk[6]);
  pthread_t thread;
  pthread_create(&thread, NULL, look_often, &reader);
  while (!reader.done) {
    for (uint i = 0; i < 40; i++)
      if (i != 6) fd_alloc_free(fix->alloc, blk[i]);
    for (uint i = 0; i < 40; i++)
      if (i != 6) assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, 16384));
  }
  void *seen;
  pthread_join(thread, &seen);
  assert_null(seen);
  for (uint i = 0; i < 40; i++) fd_alloc_free(fix->alloc, blk[i]);
  assert_clean(fix);
}

/* Compacting from another thread while this one is held before a store. */
static sem_t do_compact, compacted;
static ulong skipped, taken;
static int last_compact;

static void *compactor(void *arg) {
  fixture_t *fix = arg;
  for (;;) {
    while (sem_wait(&do_compact)) {
    }
    fd_alloc_compacted_t done;
    if (fd_alloc_compact(fix->alloc, &done)) return (void *)1;
    skipped += done.skipped_cnt;
    taken += !done.skipped_cnt;
    int last = last_compact;
    sem_post(&compacted);
    if (last) return NULL;
  }
}

static void compact_meanwhile(void) {
  sem_post(&do_compact);
  while (sem_wait(&compacted)) {
  }
}

/* Before whichever store of malloc or free a compact comes: it finds the thread inside, or takes
   the heap, and the thread goes on with another; no block is handed out twice or lost. */
static void test_compact_inside(void **state) {
  fixture_t *fix = *state;
  pthread_t thread;
  sem_init(&do_compact, 0, 0);
  sem_init(&compacted, 0, 0);
  pthread_create(&thread, NULL, compactor, fix);
  void *keep[20];
  for (uint i = 0; i < 20; i++) assert_non_null(keep[i] = fd_alloc_malloc(fix->alloc, 0, 64));
  for (long at = 1; at < 16; at++) {
    void *first = fd_alloc_malloc(fix->alloc, 0, 64); /* the short forms are on */
    hook = compact_meanwhile;
    hook_at = at;
    void *blk = fd_alloc_malloc(fix->alloc, 0, 64);
    fd_alloc_free(fix->alloc, first);
    void *again = fd_alloc_malloc(fix->alloc, 0, 64);
    hook_at = 0;
    assert_non_null(blk);
    assert_non_null(again);
    assert_ptr_not_equal(blk, again);
    for (uint i = 0; i < 20; i++) assert_true(keep[i] != blk && keep[i] != again);
    fd_alloc_free(fix->alloc, blk);
    fd_alloc_free(fix->alloc, again);
    assert_int_equal(stat_of(fix).small_cnt, 20);
    assert_sound(fix);
  }
  assert_true(skipped > 3);
  assert_true(taken >= 3);
  for (uint i = 0; i < 20; i++) fd_alloc_free(fix->alloc, keep[i]);
  assert_int_equal(bad_frees(fix), 0);
  last_compact = 1;
  compact_meanwhile();
  void *ret;
  pthread_join(thread, &ret);
  assert_null(ret);
  assert_clean(fix);
}

/* A compact frees the heap of a thread that is about to come in, and a signal handler there is the
   first to see it: the call that was interrupted does not go on with the heap that is gone. */
static uint32_t seen_first;

static void see_first(void) {
  ulong size = wksp__heap_size(g_fix->wksp);
  ulong was = fd_wksp_gaddr_fast(g_fix->wksp, mag_of(g_fix, 0)) - offsetof(wksp__heap_t, mag);
  compact_meanwhile();
  ulong gaddr = fd_wksp_alloc(g_fix->wksp, 128, size, 9);
  assert_true(gaddr != 0);
  memset(fd_wksp_laddr_fast(g_fix->wksp, gaddr), 0x55, size);
  seen_first += gaddr == was;
  inner[0] = (void *)gaddr;
}

static void test_handler_sees_first(void **state) {
  fixture_t *fix = *state;
  pthread_t thread;
  last_compact = 0;
  sem_init(&do_compact, 0, 0);
  sem_init(&compacted, 0, 0);
  pthread_create(&thread, NULL, compactor, fix);
  for (uint by_free = 0; by_free < 2; by_free++) {
    void *blk = fd_alloc_malloc(fix->alloc, 0, 64);
    if (!by_free) fd_alloc_free(fix->alloc, blk);
    hook = see_first;
    hook_at = 1;
    if (by_free)
      fd_alloc_free(fix->alloc, blk);
    else
      blk = fd_alloc_malloc(fix->alloc, 0, 64);
    assert_int_equal(hook_at, 0);
    assert_sound(fix);
    uchar const *bytes = fd_wksp_laddr_fast(fix->wksp, (ulong)inner[0]);
    for (ulong i = 0; i < wksp__heap_size(fix->wksp); i++) assert_int_equal(bytes[i], 0x55);
    assert_int_equal(fd_wksp_free(fix->wksp, (ulong)inner[0]), 0);
    if (!by_free) fd_alloc_free(fix->alloc, blk);
    assert_int_equal(fd_alloc_is_empty(fix->alloc), 1);
    assert_int_equal(fd_alloc_compact(fix->alloc, NULL), 0);
  }
  assert_true(seen_first > 0);
  last_compact = 1;
  compact_meanwhile();
  pthread_join(thread, NULL);
  assert_clean(fix);
}

/* While this thread holds the workspace's lock, or the memory is protected, malloc is refused
   although its magazine would have a block. */
static void test_refused(void **state) {
  fixture_t *fix = *state;
  void *blk = fd_alloc_malloc(fix->alloc, 0, 64);
  assert_int_equal(fd_wksp_lock(fix->wksp, 1000000000UL), 0);
  assert_null(fd_alloc_malloc(fix->alloc, 0, 64));
  assert_int_equal(wksp_last_error_code(), WKSP_E_BUSY);
  assert_int_equal(fd_wksp_unlock(fix->wksp), 0);
  fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, 64));
  assert_int_equal(fd_wksp_mprotect(fix->wksp, FD_WKSP_PROTECT_DATA, PROT_READ), 0);
  for (uint i = 0; i < 3; i++) {
    assert_null(fd_alloc_malloc(fix->alloc, 0, 64));
    assert_int_equal(wksp_last_error_code(), WKSP_E_RDONLY);
  }
  assert_int_equal(fd_wksp_mprotect(fix->wksp, FD_WKSP_PROTECT_DATA, PROT_READ | PROT_WRITE), 0);
  void *two = fd_alloc_malloc(fix->alloc, 0, 64);
  assert_non_null(two);
  fd_alloc_free(fix->alloc, two);
  fd_alloc_free(fix->alloc, blk);
  assert_clean(fix);
}

/* Verify names magazines that cannot be, and rebuild drops what is no block. */
static void test_damage(void **state) {
  fixture_t *fix = *state;
  void *blk[10];
  for (uint i = 0; i < 10; i++) blk[i] = fd_alloc_malloc(fix->alloc, 0, 100);
  for (uint i = 0; i < 9; i++) fd_alloc_free(fix->alloc, blk[i]);
  fd_alloc_leave(fix->alloc);
  wksp__mag_t *mag = mag_of(fix, class_of(100)), was = *mag;
  wksp__heap_t *heap =
      (wksp__heap_t *)((uintptr_t)(mag - class_of(100)) - offsetof(wksp__heap_t, mag));
  uint64_t *entry = wksp__mag_place(heap, mag->lo), gaddr = *entry;
#define DAMAGE(place, val)                                                 \
  (place) = (val);                                                         \
  assert_int_equal(fd_wksp_verify(fix->wksp, NULL, NULL), WKSP_E_CORRUPT); \
  *mag = was;                                                              \
  *entry = gaddr;                                                          \
  assert_sound(fix)
  DAMAGE(*entry, gaddr + 16);
  DAMAGE(*entry, 0);
  DAMAGE(*entry, ~0UL);
  DAMAGE(mag->top, mag->hi + 16);
  DAMAGE(mag->top, mag->top + 4);
  DAMAGE(mag->lo, mag->lo - 8);
  DAMAGE(mag->recip, 65536);
  DAMAGE(mag->mbase, mag->mbase + 16);
  *entry = gaddr + 16;
  mag->mbase += 16;
  assert_int_equal(fd_wksp_rebuild(fix->wksp, 1, NULL, NULL), 0);
  assert_sound(fix);
  assert_true(stat_of(fix).small_cnt >= 2); /* what was dropped is no longer known to be free */
  assert_int_equal(fd_alloc_compact(fix->alloc, NULL), 0);
  assert_sound(fix);
}

/* Atomics
 * ----------------------------------------------------------------------------------------- */

static ulong g_locked;

void wksp__locked(void) {
  __atomic_fetch_add(&g_locked, 1UL, __ATOMIC_RELAXED);
}

static int setup_large(void **state) {
  return setup_sized(state, 260UL << 20);
}

enum { SENT = 1000, SENT_ROUNDS = 40 };

typedef struct sent {
  fixture_t *fix;
  sem_t full, empty;
  void *blk[SENT];
} sent_t;

static void *free_sent(void *arg) {
  sent_t *sent = arg;
  fd_alloc_free(sent->fix->alloc, fd_alloc_malloc(sent->fix->alloc, 0, 48)); /* for a heap */
  for (uint round = 0; round < SENT_ROUNDS; round++) {
    sem_wait(&sent->full);
    for (uint i = 0; i < SENT; i++) fd_alloc_free(sent->fix->alloc, sent->blk[i]);
    sem_post(&sent->empty);
  }
  return NULL;
}

/* Blocks that another thread frees than the one that has allocated them cost a tenth to a third of
   an atomic each, with all that is done to tell their owner and to make the span serve again. */
static void test_atomics_of_remote_frees(void **state) {
  sent_t sent = {.fix = *state};
  struct {
    ulong size, most; /* per hundred */
  } const tries[] = {{64, 10}, {1024, 25}, {4096, 35}};
  for (uint try = 0; try < 3; try++) {
    sem_init(&sent.full, 0, 0);
    sem_init(&sent.empty, 0, 1);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, free_sent, &sent), 0);
    for (uint round = 0; round < SENT_ROUNDS; round++) {
      sem_wait(&sent.empty);
      if (round == 4) __atomic_store_n(&g_locked, 0UL, __ATOMIC_RELAXED);
      for (uint i = 0; i < SENT; i++)
        assert_non_null(sent.blk[i] = fd_alloc_malloc(sent.fix->alloc, 0, tries[try].size));
      sem_post(&sent.full);
    }
    sem_wait(&sent.empty);
    ulong locked = __atomic_load_n(&g_locked, __ATOMIC_RELAXED), frees = (SENT_ROUNDS - 4UL) * SENT;
    assert_int_equal(pthread_join(thread, NULL), 0);
    print_message("# %lu bytes: %lu atomics for %lu blocks that went to another thread\n",
                  tries[try].size, locked, frees);
    /* A hardened build marks each block when it is taken and when it is given. */
    ulong marks = WKSP_FLAVOUR & WKSP_FLAVOUR_HARDENED ? 200 : 0;
    assert_in_range(locked, 1, frees * (tries[try].most + marks) / 100);
    assert_int_equal(bad_frees(sent.fix), 0);
    sem_destroy(&sent.full);
    sem_destroy(&sent.empty);
  }
  assert_sound(sent.fix);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_mag, teardown)
  struct CMUnitTest const tests[] = {
      T(test_held_blocks_are_free),
      T(test_double_free),
      T(test_foreign_blocks),
      T(test_consumer),
      T(test_handler_inside),
      T(test_handler_at_the_door),
      T(test_no_suspect_in_a_magazine),
      T(test_look_while_at_work),
      T(test_compact_inside),
      T(test_handler_sees_first),
      T(test_refused),
      T(test_damage),
      cmocka_unit_test_setup_teardown(test_atomics_of_remote_frees, setup_large, teardown),
  };
  return cmocka_run_group_tests_name("core/alloc_mag", tests, NULL, NULL);
}
