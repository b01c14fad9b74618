/* fd_wksp_mprotect: stray accesses of this process fault, the library's calls say so instead, and
   deaths are still seen. */

#include "core/testing.h"

#include "core/map.h"
#include "core/protect.h"
#include "wksp/fd_alloc.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define PART_MAX 64UL
#define DATA_MAX (4UL << 20)
#define RW       (PROT_READ | PROT_WRITE)

static void on_fault(int sig) {
  _exit(100 + sig);
}

/* What becomes of a child that stores (or loads) at that offset of the workspace: 0, or the signal.
 */
static int touch(fd_wksp_t *wksp, ulong off, int store) {
  pid_t pid = fork();
  if (!pid) {
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    char volatile *at = (char volatile *)wksp + off;
    char byte = *at;
    if (store) *at = byte;
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status) ? WEXITSTATUS(status) - 100 : 0;
}

/* The signals of a store to the header, the volatile region, the first and last bytes of tables and
 * data, as a text of 0 and S. */
static char const *stores(fd_wksp_t *wksp, char text[8]) {
  ulong const at[] = {0,
                      wksp->vol_off,
                      wksp->root_off - 1,
                      wksp->root_off,
                      wksp->data_lo - 1,
                      wksp->data_lo,
                      wksp->data_hi - 1};
  for (uint32_t i = 0; i < 7; i++) {
    int sig = touch(wksp, at[i], 1);
    text[i] = sig == SIGSEGV ? 'S' : sig ? '?' : '0';
  }
  text[7] = 0;
  return text;
}

/* Tables, data or both fault on a store when they are protected and not otherwise, down to the
   byte; the volatile region never does; what is not named stays as it was. */
static void test_faults(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  char text[8];
  static struct {
    uint what;
    int prot;
    char const *stores;
  } const steps[] = {
      {FD_WKSP_PROTECT_TABLES, PROT_READ, "S00SS00"}, {FD_WKSP_PROTECT_DATA, PROT_READ, "S00SSSS"},
      {FD_WKSP_PROTECT_TABLES, RW, "00000SS"},        {FD_WKSP_PROTECT_DATA, PROT_NONE, "00000SS"},
      {FD_WKSP_PROTECT_DATA, RW, "0000000"},          {FD_WKSP_PROTECT_ALL, PROT_READ, "S00SSSS"},
      {FD_WKSP_PROTECT_ALL, PROT_READ, "S00SSSS"},    {FD_WKSP_PROTECT_ALL, RW, "0000000"},
  };
  assert_string_equal(stores(wksp, text), "0000000");
  for (uint32_t i = 0; i < sizeof steps / sizeof *steps; i++) {
    assert_int_equal(fd_wksp_mprotect(wksp, steps[i].what, steps[i].prot), 0);
    assert_string_equal(stores(wksp, text), steps[i].stores);
    int none = steps[i].prot == PROT_NONE;
    assert_int_equal(touch(wksp, wksp->data_lo, 0), none ? SIGSEGV : 0);
    assert_int_equal(touch(wksp, wksp->data_lo - 1, 0), 0);
  }
  testing_wksp_end(wksp);
}

/* While tables or data are protected, each call that changes something says E_RDONLY and does not
   fault, lookups work, and afterwards everything is as it was and works. */
static void test_calls(void **state) {
  static uint const whats[] = {FD_WKSP_PROTECT_TABLES, FD_WKSP_PROTECT_DATA, FD_WKSP_PROTECT_ALL};
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  ulong tag = 5, gaddr = fd_wksp_alloc(wksp, 64, 100, tag);
  void *shmem = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), 6);
  fd_alloc_t *alloc = fd_alloc_join(fd_alloc_new(shmem, 6), 0);
  void *block = fd_alloc_malloc(alloc, 0, 100);
  assert_true(gaddr && block);
  assert_int_equal(fd_wksp_root_set(wksp, "r", gaddr, 1), 0);
  fd_wksp_usage_t before, after;
  fd_wksp_root_t root;
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &before), 0);
  for (uint32_t i = 0; i < 3; i++) {
    assert_int_equal(fd_wksp_mprotect(wksp, whats[i], PROT_READ), 0);
    assert_int_equal(fd_wksp_alloc(wksp, 64, 100, 7), 0);
    assert_int_equal(wksp_last_error_code(), WKSP_E_RDONLY);
    assert_non_null(strstr(wksp_last_error(), "fd_wksp_mprotect"));
    assert_int_equal(fd_wksp_free(wksp, gaddr), WKSP_E_RDONLY);
    assert_int_equal(fd_wksp_tag_free(wksp, &tag, 1), WKSP_E_RDONLY);
    assert_int_equal(fd_wksp_memset(wksp, gaddr, 1), WKSP_E_RDONLY);
    assert_int_equal(fd_wksp_reset(wksp, 1), WKSP_E_RDONLY);
    assert_int_equal(fd_wksp_root_set(wksp, "s", gaddr, 1), WKSP_E_RDONLY);
    assert_int_equal(fd_wksp_root_remove(wksp, "r"), WKSP_E_RDONLY);
    assert_int_equal(fd_wksp_compact(wksp, NULL), WKSP_E_RDONLY);
    assert_int_equal(fd_wksp_lock(wksp, 0), WKSP_E_RDONLY);
    assert_null(fd_alloc_malloc(alloc, 0, 100));
    assert_int_equal(wksp_last_error_code(), WKSP_E_RDONLY);
    fd_alloc_free(alloc, block);
    assert_ptr_equal(fd_alloc_leave(alloc), shmem);
    assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &after), 0);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(fd_wksp_tag_query(wksp, &tag, 1, NULL, 0), 1);
    assert_int_equal(fd_wksp_root_find(wksp, "r", &root), 0);
    assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), 0);
    assert_int_equal(fd_alloc_is_empty(alloc), 0);
    assert_int_equal(fd_wksp_mprotect(wksp, whats[i], RW), 0);
    assert_int_equal(fd_wksp_root_set(wksp, "r", gaddr, 1), 0);
  }
  fd_alloc_free(alloc, block);
  assert_int_equal(fd_alloc_is_empty(alloc), 1);
  assert_ptr_equal(fd_alloc_delete(fd_alloc_leave(alloc)), shmem);
  assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), 0);
  testing_wksp_end(wksp);
}

/* What is no part or no protection is refused, as is what cannot be: tables out of reach, writing
   through a read-only join, protecting while this thread or another one is inside. */
static void test_refuses(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  assert_int_equal(fd_wksp_mprotect(NULL, FD_WKSP_PROTECT_ALL, RW), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_mprotect(wksp + 0, 0, RW), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_mprotect(wksp, 4, RW), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_mprotect(wksp, ~0U, RW), WKSP_E_INVAL);
  static int const prots[] = {-1, PROT_WRITE, PROT_EXEC, PROT_READ | PROT_EXEC, 8};
  for (uint32_t i = 0; i < 5; i++)
    assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_DATA, prots[i]), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_ALL, PROT_NONE), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_lock(wksp, 0), 0);
  assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_ALL, PROT_READ), WKSP_E_BUSY);
  assert_int_equal(fd_wksp_unlock(wksp), 0);
  wksp__map_t *map = wksp__map_of(wksp);
  assert_true(wksp__map_guard_begin(map));
  assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_ALL, PROT_READ), WKSP_E_BUSY);
  wksp__map_guard_end(map);
  assert_int_equal(munmap((char *)wksp + wksp->data_hi - 4096, 4096), 0);
  assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_ALL, PROT_READ), WKSP_E_NOMEM);
  assert_true(fd_wksp_alloc(wksp, 64, 64, 1) > 0); /* as it was */
  fd_wksp_leave(wksp);
  assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_ALL, PROT_READ), WKSP_E_INVAL);
  assert_ptr_equal(fd_wksp_join_ro(wksp), wksp);
  assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_ALL, RW), WKSP_E_RDONLY);
  assert_int_equal(fd_wksp_alloc(wksp, 64, 64, 1), 0);
  fd_wksp_leave(wksp);
  assert_int_equal(munmap(wksp, wksp->data_hi - 4096), 0);
}

typedef struct inside {
  fd_wksp_t *wksp;
  int told[2], over[2], rc;
} inside_t;

static void *hold_inside(void *arg) {
  inside_t *inside = arg;
  char byte;
  inside->rc = fd_wksp_lock(inside->wksp, 1000000000UL);
  assert_int_equal(write(inside->told[1], "h", 1), 1);
  assert_int_equal(read(inside->over[0], &byte, 1), 1);
  fd_wksp_unlock(inside->wksp);
  return NULL;
}

/* A thread inside a call is waited for and then named; nothing is protected. */
static void test_thread_inside(void **state) {
  inside_t inside = {.wksp = testing_wksp(PART_MAX, DATA_MAX)};
  pthread_t thread;
  char byte, text[8];
  assert_int_equal(pipe(inside.told) | pipe(inside.over), 0);
  assert_int_equal(pthread_create(&thread, NULL, hold_inside, &inside), 0);
  assert_int_equal(read(inside.told[0], &byte, 1), 1);
  assert_int_equal(inside.rc, 0);
  assert_int_equal(fd_wksp_mprotect(inside.wksp, FD_WKSP_PROTECT_ALL, PROT_READ), WKSP_E_BUSY);
  assert_non_null(strstr(wksp_last_error(), "thread"));
  assert_string_equal(stores(inside.wksp, text), "0000000");
  assert_int_equal(write(inside.over[1], "o", 1), 1);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(fd_wksp_mprotect(inside.wksp, FD_WKSP_PROTECT_ALL, PROT_READ), 0);
  for (int i = 0; i < 2; i++) assert_int_equal(close(inside.told[i]) | close(inside.over[i]), 0);
  testing_wksp_end(inside.wksp);
}

typedef struct churn {
  fd_wksp_t *wksp;
  fd_alloc_t *alloc;
  int stop;
  ulong did, refused, wrong;
} churn_t;

static void *churn_main(void *arg) {
  churn_t *churn = arg;
  while (!__atomic_load_n(&churn->stop, __ATOMIC_ACQUIRE)) {
    ulong gaddr = fd_wksp_alloc(churn->wksp, 64, 64, 1);
    if (gaddr) {
      churn->did++;
      while (fd_wksp_free(churn->wksp, gaddr) == WKSP_E_RDONLY) continue;
    } else if (wksp_last_error_code() == WKSP_E_RDONLY) {
      churn->refused++;
    } else {
      churn->wrong++;
    }
    void *block = fd_alloc_malloc(churn->alloc, 0, 40);
    if (block) fd_alloc_free(churn->alloc, block); /* may be refused: deleted with the alloc */
  }
  return NULL;
}

/* Threads that change the workspace without pause while it is protected and unprotected never
   fault; and threads that begin and end meanwhile neither. */
static void test_threads(void **state) {
  fd_wksp_t *wksp = testing_wksp(1024, DATA_MAX);
  void *shmem = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), 6);
  churn_t churn[2] = {{.wksp = wksp}, {.wksp = wksp}};
  pthread_t threads[2];
  churn[0].alloc = churn[1].alloc = fd_alloc_join(fd_alloc_new(shmem, 6), 0);
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, churn_main, &churn[i]), 0);
  for (int i = 0; i < 300; i++) {
    churn_t brief = {.wksp = wksp, .alloc = churn[0].alloc, .stop = 1};
    pthread_t thread;
    brief.stop = i & 1;
    assert_int_equal(pthread_create(&thread, NULL, churn_main, &brief), 0);
    int rc = fd_wksp_mprotect(wksp, 1U + (uint)i % 3, PROT_READ);
    assert_true(!rc || rc == WKSP_E_BUSY);
    __atomic_store_n(&brief.stop, 1, __ATOMIC_RELEASE);
    assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_ALL, RW), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(brief.wrong, 0);
  }
  for (int i = 0; i < 2; i++) __atomic_store_n(&churn[i].stop, 1, __ATOMIC_RELEASE);
  for (int i = 0; i < 2; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  assert_int_equal(churn[0].wrong + churn[1].wrong, 0);
  print_message("# did %lu, refused %lu\n", churn[0].did + churn[1].did,
                churn[0].refused + churn[1].refused);
  assert_ptr_equal(fd_alloc_delete(fd_alloc_leave(churn[0].alloc)), shmem);
  assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), 0);
  testing_wksp_end(wksp);
}

static void *end_protected(void *arg) {
  churn_t *churn = arg;
  churn->did = fd_alloc_malloc(churn->alloc, 0, 100) != NULL;
  churn->wrong = (ulong)-fd_wksp_mprotect(churn->wksp, FD_WKSP_PROTECT_ALL, PROT_READ);
  return NULL;
}

/* A thread that ends under protection leaves its heap for others, which take it over; a process
   that is killed under protection is seen to be dead; the last leave unprotects. */
static void test_ends(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  void *shmem = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), 6);
  churn_t churn = {.wksp = wksp, .alloc = fd_alloc_join(fd_alloc_new(shmem, 6), 0)};
  pthread_t thread;
  char text[8];
  assert_int_equal(pthread_create(&thread, NULL, end_protected, &churn), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(churn.did, 1);
  assert_int_equal(churn.wrong, 0);
  assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_ALL, RW), 0);
  assert_int_equal(fd_wksp_compact(wksp, NULL), 0);
  assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), 0);

  pid_t pid = fork();
  if (!pid) {
    if (!fd_wksp_alloc(wksp, 64, 64, 77)) _exit(1);
    if (fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_ALL, PROT_READ)) _exit(1);
    kill(getpid(), SIGKILL);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status));
  for (uint32_t i = 0; i < wksp->slot_max; i++) {
    wksp__slot_t *slot = &wksp__slots(wksp)[i];
    if (slot->pid == (uint32_t)pid && (slot->claim & 3) == WKSP_SLOT_HELD)
      assert_true(wksp__name_dead(wksp, wksp__name_of(i, slot->claim >> 32)));
  }
  assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_ALL, PROT_READ), 0);
  assert_ptr_equal(fd_wksp_leave(wksp), wksp);
  assert_string_equal(stores(wksp, text), "0000000");
  assert_ptr_equal(fd_wksp_join(wksp), wksp);
  assert_true(fd_wksp_alloc(wksp, 64, 64, 1) > 0);
  testing_wksp_end(wksp);
}

/* With pages of any size, every page gets exactly the union of what its bytes are to have, all
   pages are covered once, and no more runs come than there is room for. */
static void test_plan(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  static ulong const sizes[] = {4096, 65536, 2UL << 20, 1UL << 30};
  static int const prots[][2] = {
      {PROT_READ, RW}, {RW, PROT_READ}, {PROT_READ, PROT_READ}, {PROT_READ, PROT_NONE}};
  for (uint32_t s = 0; s < 4; s++)
    for (uint32_t p = 0; p < 4; p++) {
      wksp__prot_run_t runs[WKSP_PROT_RUNS_MAX];
      uint32_t cnt = wksp__protect_plan(wksp, sizes[s], prots[p], RW, runs);
      assert_true(cnt <= WKSP_PROT_RUNS_MAX);
      ulong at = 0;
      for (uint32_t i = 0; i < cnt; at = runs[i++].hi) {
        assert_int_equal(runs[i].lo, at);
        assert_true(runs[i].hi > at && runs[i].hi % sizes[s] == 0);
      }
      assert_true(at >= wksp->data_hi && at - wksp->data_hi < sizes[s]);
      for (ulong page = 0; page < at; page += sizes[s]) {
        int want = 0, got = -1;
        for (ulong off = page; off < page + sizes[s] && off < wksp->data_hi; off += 4096)
          want |= off < wksp->vol_off    ? prots[p][0]
                  : off < wksp->root_off ? RW
                  : off < wksp->data_lo  ? prots[p][0]
                                         : prots[p][1];
        for (uint32_t i = 0; i < cnt; i++)
          if (runs[i].lo <= page && page < runs[i].hi) got = runs[i].prot;
        assert_int_equal(got, want);
      }
    }
  testing_wksp_end(wksp);
}

/* On huge pages too: data is protected where a page holds nothing else; tables that share every
   page with something are refused. */
static void test_huge_pages(void **state) {
  fd_wksp_t *wksp = fd_wksp_new_anon("huge", 8UL << 20, 2UL << 20, 1, 0);
  if (!wksp) {
    print_message("# SKIP missing: 4 free huge pages of 2 MiB (vm.nr_hugepages)\n");
    skip();
  }
  assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_TABLES, PROT_READ), WKSP_E_UNSUPPORTED);
  assert_int_equal(touch(wksp, 0, 1), 0);
  assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_DATA, PROT_READ), 0);
  assert_int_equal(touch(wksp, wksp->data_hi - 1, 1), SIGSEGV);
  assert_int_equal(touch(wksp, 0, 1), 0);
  fd_wksp_delete_anon(wksp);
}

/* Verify reads heads and heaps, which lie in the data: where these are out of reach it says so, for
   a read-only join too, and does not fault. */
static void test_verify(void **state) {
  for (int ro = 0; ro < 2; ro++) {
    fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
    void *shmem = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), 6);
    assert_non_null(fd_alloc_new(shmem, 6));
    if (ro) {
      assert_ptr_equal(fd_wksp_leave(wksp), wksp);
      assert_int_equal(wksp__map_add(wksp, 1, 0, NULL, NULL), 0);
    }
    assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_DATA, PROT_NONE), 0);
    assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), WKSP_E_RDONLY);
    assert_int_equal(fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_DATA, ro ? PROT_READ : RW), 0);
    assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), 0);
    if (ro) {
      ulong footprint = wksp->footprint;
      assert_int_equal(wksp__map_drop(wksp), 0);
      assert_int_equal(mprotect(wksp, footprint, RW), 0); /* as it was mapped */
      assert_ptr_equal(fd_wksp_join(wksp), wksp);
    }
    testing_wksp_end(wksp);
  }
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_faults),  cmocka_unit_test(test_calls),
      cmocka_unit_test(test_refuses), cmocka_unit_test(test_thread_inside),
      cmocka_unit_test(test_threads), cmocka_unit_test(test_ends),
      cmocka_unit_test(test_plan),    cmocka_unit_test(test_huge_pages),
      cmocka_unit_test(test_verify),
  };
  return cmocka_run_group_tests_name("protect", tests, NULL, NULL);
}
