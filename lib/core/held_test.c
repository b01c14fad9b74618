/* fd_wksp_lock and fd_wksp_unlock: who holds the lock, what goes on under it, and who is waited
 * for.
 */

#include "core/testing.h"

#include "core/held.h"
#include "core/map.h"
#include "core/tx.h"
#include "wksp/fd_alloc.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define PART_MAX 64UL
#define DATA_MAX (4UL << 20)
#define MS       1000000UL

/* Runs fn(wksp) in a thread of its own and gives what it returns. */
typedef struct other {
  fd_wksp_t *wksp;
  int (*fn)(fd_wksp_t *wksp);
  int ret;
} other_t;

static void *other_main(void *arg) {
  other_t *other = arg;
  other->ret = other->fn(other->wksp);
  return NULL;
}

static int in_other(fd_wksp_t *wksp, int (*fn)(fd_wksp_t *wksp)) {
  other_t other = {.wksp = wksp, .fn = fn};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, other_main, &other), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  return other.ret;
}

static int try_lock(fd_wksp_t *wksp) {
  int rc = fd_wksp_lock(wksp, MS);
  if (rc == WKSP_E_TIMEDOUT) {
    char pid[32];
    snprintf(pid, sizeof pid, "pid %d,", (int)getpid());
    assert_non_null(strstr(wksp_last_error(), pid));
  }
  if (!rc) assert_int_equal(fd_wksp_unlock(wksp), 0);
  return rc;
}

/* Another thread does not get the lock while it is held, is told by whom, and gets it afterwards.
 */
static void test_excludes(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  assert_int_equal(fd_wksp_lock(wksp, 0), 0);
  assert_int_equal(fd_wksp_owner(wksp), getpid());
  assert_int_equal(in_other(wksp, try_lock), WKSP_E_TIMEDOUT);
  assert_int_equal(fd_wksp_unlock(wksp), 0);
  assert_int_equal(fd_wksp_owner(wksp), 0);
  assert_int_equal(in_other(wksp, try_lock), 0);
  assert_int_equal(fd_wksp_lock(wksp, ~0UL), 0);
  assert_int_equal(fd_wksp_unlock(wksp), 0);
  testing_wksp_end(wksp);
}

static int unlock(fd_wksp_t *wksp) {
  return fd_wksp_unlock(wksp);
}

/* A lock that the thread does not hold is not given back: never taken, given back already, or
 * another thread's; and one that it holds is not taken twice. */
static void test_refuses(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  assert_int_equal(fd_wksp_unlock(wksp), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_lock(wksp, MS), 0);
  assert_int_equal(in_other(wksp, unlock), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_owner(wksp), getpid());
  assert_int_equal(fd_wksp_lock(wksp, MS), WKSP_E_BUSY);
  assert_non_null(strstr(wksp_last_error(), "fd_wksp_unlock"));
  assert_int_equal(fd_wksp_unlock(wksp), 0);
  assert_int_equal(fd_wksp_unlock(wksp), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_lock(NULL, MS), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_unlock(NULL), WKSP_E_INVAL);
  fd_wksp_t *ro_or_not = testing_map(4096);
  assert_int_equal(fd_wksp_lock(ro_or_not, MS), WKSP_E_INVAL); /* not joined */
  assert_int_equal(munmap(ro_or_not, 4096), 0);
  fd_wksp_leave(wksp);
  assert_ptr_equal(fd_wksp_join_ro(wksp), wksp);
  assert_int_equal(fd_wksp_lock(wksp, MS), WKSP_E_RDONLY);
  testing_wksp_end(wksp);
}

/* Under the lock the holder's lookups work, and each of its calls that would change something is
   E_BUSY and changes nothing; after the unlock they work. */
static void test_own_calls(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  ulong tag = 5, gaddr = fd_wksp_alloc(wksp, 64, 100, tag);
  void *shmem = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), 6);
  fd_alloc_t *alloc = fd_alloc_join(fd_alloc_new(shmem, 6), 0);
  void *block = fd_alloc_malloc(alloc, 0, 100), *large = fd_alloc_malloc(alloc, 0, 100000);
  assert_true(gaddr && block && large);
  assert_int_equal(fd_wksp_root_set(wksp, "r", gaddr, 1), 0);
  fd_wksp_usage_t before, after;
  fd_wksp_part_t part;
  fd_wksp_root_t root;
  uint place = 0;
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &before), 0);

  assert_int_equal(fd_wksp_lock(wksp, MS), 0);
  assert_int_equal(fd_wksp_alloc(wksp, 64, 100, 7), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_BUSY);
  assert_int_equal(fd_wksp_free(wksp, gaddr), WKSP_E_BUSY);
  assert_int_equal(fd_wksp_tag_free(wksp, &tag, 1), WKSP_E_BUSY);
  assert_int_equal(fd_wksp_memset(wksp, gaddr, 1), WKSP_E_BUSY);
  assert_int_equal(fd_wksp_reset(wksp, 1), WKSP_E_BUSY);
  assert_int_equal(fd_wksp_root_set(wksp, "s", gaddr, 1), WKSP_E_BUSY);
  assert_int_equal(fd_wksp_root_add(wksp, "s", gaddr, 1), WKSP_E_BUSY);
  assert_int_equal(fd_wksp_root_remove(wksp, "r"), WKSP_E_BUSY);
  assert_int_equal(fd_wksp_compact(wksp, NULL), WKSP_E_BUSY);
  assert_null(fd_alloc_malloc(alloc, 0, 100));
  assert_int_equal(wksp_last_error_code(), WKSP_E_BUSY);
  fd_alloc_free(alloc, block);
  fd_alloc_free(alloc, large);
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &after), 0);
  assert_memory_equal(&before, &after, sizeof before);
  assert_int_equal(fd_wksp_part_next(wksp, 0, &part), 1);
  assert_int_equal(fd_wksp_tag_query(wksp, &tag, 1, NULL, 0), 1);
  assert_int_equal(fd_wksp_tag(wksp, gaddr), tag);
  assert_int_equal(fd_wksp_root_find(wksp, "r", &root), 0);
  assert_int_equal(fd_wksp_root_next(wksp, &place, &root), 1);
  assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), 0);
  assert_int_equal(fd_alloc_is_empty(alloc), 0); /* the two blocks are still there */
  assert_int_equal(fd_wksp_unlock(wksp), 0);

  fd_alloc_free(alloc, block);
  fd_alloc_free(alloc, large);
  assert_int_equal(fd_alloc_is_empty(alloc), 1);
  assert_ptr_equal(fd_alloc_delete(fd_alloc_leave(alloc)), shmem);
  assert_int_equal(fd_wksp_free(wksp, gaddr), 0);
  assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), 0);
  testing_wksp_end(wksp);
}

/* A process that is killed while it holds the lock is taken over by the next call, which does not
 * wait for it. */
static void test_killed_holder(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  int told[2];
  char byte;
  assert_int_equal(pipe(told), 0);
  pid_t pid = fork();
  if (!pid) {
    if (!fd_wksp_lock(wksp, MS) && write(told[1], "h", 1) == 1) pause();
    _exit(1);
  }
  assert_int_equal(read(told[0], &byte, 1), 1);
  assert_int_equal(fd_wksp_lock(wksp, MS), WKSP_E_TIMEDOUT);
  assert_int_equal(fd_wksp_owner(wksp), pid);
  assert_int_equal(kill(pid, SIGKILL), 0);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  assert_int_equal(fd_wksp_lock(wksp, 0), 0);
  assert_int_equal(fd_wksp_unlock(wksp), 0);
  assert_true(fd_wksp_alloc(wksp, 64, 64, 1) > 0);
  close(told[0]);
  close(told[1]);
  testing_wksp_end(wksp);
}

static int lock_and_end(fd_wksp_t *wksp) {
  return fd_wksp_lock(wksp, MS);
}

/* A thread that ends, and a last leave, give the lock back; a forked child holds nothing, and its
 * parent still does. */
static void test_ends(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  assert_int_equal(in_other(wksp, lock_and_end), 0);
  assert_int_equal(fd_wksp_owner(wksp), 0);
  assert_int_equal(fd_wksp_lock(wksp, 0), 0);
  pid_t pid = fork();
  if (!pid)
    _exit(fd_wksp_unlock(wksp) == WKSP_E_INVAL && fd_wksp_lock(wksp, MS) == WKSP_E_TIMEDOUT ? 0
                                                                                            : 1);
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  assert_ptr_equal(fd_wksp_leave(wksp), wksp);
  assert_ptr_equal(fd_wksp_join(wksp), wksp);
  assert_int_equal(fd_wksp_owner(wksp), 0);
  assert_int_equal(fd_wksp_lock(wksp, 0), 0);
  assert_int_equal(fd_wksp_unlock(wksp), 0);
  testing_wksp_end(wksp);
}

/* A lock word that has become another's is left as it is, and the thread is told. */
static void test_taken_away(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  assert_int_equal(fd_wksp_lock(wksp, 0), 0);
  uint64_t own = wksp__vol(wksp)->lock;
  wksp__vol(wksp)->lock = wksp__name_of(wksp->slot_max - 1, 9);
  assert_int_equal(fd_wksp_unlock(wksp), WKSP_E_CORRUPT);
  assert_int_equal(wksp__vol(wksp)->lock, wksp__name_of(wksp->slot_max - 1, 9));
  assert_int_equal(fd_wksp_unlock(wksp), WKSP_E_INVAL);
  assert_int_not_equal(own, 0);
  assert_true(fd_wksp_alloc(wksp, 64, 64, 1) > 0); /* the name is nobody's, so it is taken over */
  wksp__vol(wksp)->rec = WKSP_REC_REDO | (WKSP_REDO_MAX + 1UL);
  assert_int_equal(fd_wksp_lock(wksp, MS), WKSP_E_CORRUPT);
  assert_int_equal(fd_wksp_owner(wksp), 0);
  wksp__vol(wksp)->rec = 0;
  testing_wksp_end(wksp);
}

/* Without a slot of its own a thread cannot hold the lock, and is told so at once. */
static void test_no_slot(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  int told[2], over[2], status;
  char byte;
  assert_int_equal(pipe(told), 0);
  assert_int_equal(pipe(over), 0);
  pid_t pid = fork(); /* its slot, and claims of its pid in all others, live as long as it does */
  if (!pid) {
    close(over[1]);
    _exit(fd_wksp_lock(wksp, MS) || fd_wksp_unlock(wksp) || write(told[1], "h", 1) != 1 ||
          read(over[0], &byte, 1) != 0);
  }
  assert_int_equal(read(told[0], &byte, 1), 1);
  for (uint32_t i = 1; i < wksp->slot_max; i++) {
    wksp__slot_t *slot = &wksp__slots(wksp)[i];
    if ((slot->claim & 3) == WKSP_SLOT_FREE)
      slot->claim = 1UL << 32 | (uint64_t)(WKSP_SLOT_PID | (uint32_t)pid) << 2 | WKSP_SLOT_CLAIMING;
  }
  assert_int_equal(fd_wksp_lock(wksp, MS), WKSP_E_LIMIT);
  assert_int_equal(fd_wksp_owner(wksp), 0);
  assert_true(fd_wksp_alloc(wksp, 64, 64, 1) > 0); /* calls go on from the shared slot */
  close(over[1]);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  assert_int_equal(fd_wksp_lock(wksp, MS), 0);
  assert_int_equal(fd_wksp_unlock(wksp), 0);
  close(told[0]);
  close(told[1]);
  close(over[0]);
  testing_wksp_end(wksp);
}

/* Every code has its word under either name. */
static void test_strerror(void **state) {
  for (int err = WKSP_E_UNSUPPORTED - 1; err <= 1; err++)
    assert_ptr_equal(fd_wksp_strerror(err), wksp_strerror(err));
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_excludes),  cmocka_unit_test(test_refuses),
      cmocka_unit_test(test_own_calls), cmocka_unit_test(test_killed_holder),
      cmocka_unit_test(test_ends),      cmocka_unit_test(test_taken_away),
      cmocka_unit_test(test_no_slot),   cmocka_unit_test(test_strerror),
  };
  return cmocka_run_group_tests_name("held", tests, NULL, NULL);
}
