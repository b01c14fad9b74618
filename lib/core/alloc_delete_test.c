/* The end of an fd_alloc at its three levels, also killed at each store. Built with
   WKSP_CRASH_POINTS. */

#include "core/alloc_testing.h"

#define TAG_2 91UL

enum { BLOCKS = 60 };

static long *g_left; /* crash points that are left to the process named */
static pid_t g_doomed;

void wksp__crash_point(void) {
  if (g_doomed != getpid()) return;
  if (!(*g_left)--) kill(getpid(), SIGKILL);
}

/* An fd_alloc to be deleted, in memory of its own tag, beside one with the same tag and memory of
   the user with it. */
typedef struct victim {
  fd_alloc_t *alloc;
  void *shmem;
  uchar *blk[BLOCKS];
  ulong size[BLOCKS];
  ulong user; /* gaddr */
} victim_t;

static void victim_new(fixture_t *fix, victim_t *ret_victim) {
  victim_t victim = {.alloc = new_alloc(fix->wksp, TAG_2)};
  victim.shmem = (void *)victim.alloc;
  for (uint i = 0; i < BLOCKS; i++) {
    victim.size[i] = i % 10 == 9 ? 20000 + 3000 * i : 24 + 61 * i;
    victim.blk[i] = fd_alloc_malloc(victim.alloc, 0, victim.size[i]);
    assert_non_null(victim.blk[i]);
    fill(victim.blk[i], victim.size[i], i);
  }
  for (uint i = 0; i < BLOCKS; i += 3) { /* to magazines */
    fd_alloc_free(victim.alloc, victim.blk[i]);
    victim.blk[i] = NULL;
  }
  for (uint i = 0; i < 40; i++) { /* spans of another class, without a block */
    void *blk = fd_alloc_malloc(victim.alloc, 0, 9000);
    assert_non_null(blk);
    fd_alloc_free(victim.alloc, blk);
  }
  victim.user = fd_wksp_alloc(fix->wksp, 0, 10000, TAG_2);
  assert_true(victim.user != 0);
  *ret_victim = victim;
}

typedef struct kinds {
  ulong user, others;
} kinds_t;

/* Partitions with the tag, by kind. */
static kinds_t kinds_of(fixture_t *fix, ulong tag) {
  static fd_wksp_part_t part[1000];
  kinds_t kinds = {0, 0};
  long cnt = fd_wksp_tag_query(fix->wksp, &tag, 1, part, 1000);
  assert_true(cnt >= 0 && cnt <= 1000);
  for (long i = 0; i < cnt; i++) {
    kinds.user += part[i].kind == FD_WKSP_KIND_USER;
    kinds.others += part[i].kind != FD_WKSP_KIND_USER;
  }
  return kinds;
}

static void assert_intact(victim_t const *victim) {
  for (uint i = 0; i < BLOCKS; i++)
    if (victim->blk[i]) assert_true(intact(victim->blk[i], victim->size[i], i));
}

/* The live blocks are whole, and in memory of the user that has the tag. */
static void assert_left(fixture_t *fix, victim_t const *victim) {
  assert_intact(victim);
  for (uint i = 0; i < BLOCKS; i++) {
    fd_wksp_part_t part;
    if (!victim->blk[i]) continue;
    ulong gaddr = fd_wksp_gaddr_fast(fix->wksp, victim->blk[i]);
    assert_int_equal(wksp__part_find(fix->wksp, gaddr, &part), 1);
    assert_int_equal(part.kind, FD_WKSP_KIND_USER);
    assert_int_equal(part.tag, TAG_2);
  }
}

static int is_alloc(victim_t const *victim) {
  return wksp__ld(&((struct fd_alloc *)victim->shmem)->magic) == WKSP_ALLOC_MAGIC;
}

/* Left, its live blocks stay as they are in partitions of the user with its tag, what has none is
   given back, and freeing the tag gives back everything. */
static void test_leave(void **state) {
  fixture_t *fix = *state;
  victim_t victim;
  ulong before = used_sz(fix->wksp);
  victim_new(fix, &victim);
  ulong held = used_sz(fix->wksp);
  assert_ptr_equal(fd_alloc_delete_level(victim.shmem, FD_ALLOC_DELETE_LEAVE), victim.shmem);
  assert_sound(fix);
  assert_left(fix, &victim);
  assert_null(fd_alloc_malloc(victim.alloc, 0, 10));
  kinds_t kinds = kinds_of(fix, TAG_2);
  assert_int_equal(kinds.others, 0);
  assert_true(kinds.user > 2 + BLOCKS / 10 / 2);
  assert_true(used_sz(fix->wksp) < held);
  ulong live = 0;
  for (uint i = 0; i < BLOCKS; i++) live += victim.blk[i] ? victim.size[i] : 0;
  assert_true(used_sz(fix->wksp) - before >= live);
  assert_int_equal(fd_wksp_compact(fix->wksp, NULL), 0);
  assert_left(fix, &victim);
  ulong tag = TAG_2;
  assert_int_equal(fd_wksp_tag_free(fix->wksp, &tag, 1), kinds.user);
  assert_int_equal(used_sz(fix->wksp), before);
  assert_clean(fix);
}

/* Left without a live block there is nothing to be left but the memory that it was made in. */
static void test_leave_empty(void **state) {
  fixture_t *fix = *state;
  victim_t victim;
  victim_new(fix, &victim);
  for (uint i = 0; i < BLOCKS; i++) fd_alloc_free(victim.alloc, victim.blk[i]);
  assert_ptr_equal(fd_alloc_delete_level(victim.shmem, FD_ALLOC_DELETE_LEAVE), victim.shmem);
  kinds_t kinds = kinds_of(fix, TAG_2);
  assert_int_equal(kinds.user, 2);
  assert_int_equal(kinds.others, 0);
  assert_int_equal(fd_wksp_free_laddr(fix->wksp, victim.shmem), 0);
  assert_int_equal(fd_wksp_free(fix->wksp, victim.user), 0);
  assert_clean(fix);
}

/* Deleted quickly, all that it held is gone; other memory with its tag, another fd_alloc's too, is
   not touched. */
static void test_quick(void **state) {
  fixture_t *fix = *state;
  victim_t victim, other;
  victim_new(fix, &other);
  ulong before = used_sz(fix->wksp);
  victim_new(fix, &victim);
  assert_ptr_equal(fd_alloc_delete_level(victim.shmem, FD_ALLOC_DELETE_QUICK), victim.shmem);
  assert_sound(fix);
  assert_int_equal(fd_wksp_free_laddr(fix->wksp, victim.shmem), 0);
  assert_int_equal(fd_wksp_free(fix->wksp, victim.user), 0);
  assert_int_equal(used_sz(fix->wksp), before);
  assert_intact(&other);
  for (uint i = 0; i < BLOCKS; i++) fd_alloc_free(other.alloc, other.blk[i]);
  assert_int_equal(fd_alloc_is_empty(other.alloc), 1);
  assert_ptr_equal(fd_alloc_delete(other.shmem), other.shmem);
  assert_int_equal(fd_wksp_free_laddr(fix->wksp, other.shmem), 0);
  assert_int_equal(fd_wksp_free(fix->wksp, other.user), 0);
  assert_clean(fix);
}

/* Deleted with its tag, no partition of that is left, its own neither; memory of other tags is as
   it was. While another fd_alloc lies in memory of the tag nothing is done. */
static void test_tag(void **state) {
  fixture_t *fix = *state;
  victim_t victim, other;
  ulong before = used_sz(fix->wksp);
  uchar *keep = fd_alloc_malloc(fix->alloc, 0, 1000);
  fill(keep, 1000, 5);
  victim_new(fix, &victim);
  victim_new(fix, &other);
  assert_null(fd_alloc_delete_level(victim.shmem, FD_ALLOC_DELETE_TAG));
  assert_int_equal(wksp_last_error_code(), WKSP_E_BUSY);
  assert_intact(&victim);
  fd_alloc_free(victim.alloc, victim.blk[1]);
  assert_ptr_equal(fd_alloc_delete(other.shmem), other.shmem);
  assert_ptr_equal(fd_alloc_delete_level(victim.shmem, FD_ALLOC_DELETE_TAG), victim.shmem);
  kinds_t kinds = kinds_of(fix, TAG_2);
  assert_int_equal(kinds.user + kinds.others, 0);
  assert_true(intact(keep, 1000, 5));
  fd_alloc_free(fix->alloc, keep);
  assert_clean(fix);
  assert_int_equal(used_sz(fix->wksp), before);
  assert_null(fd_alloc_delete_level(NULL, FD_ALLOC_DELETE_TAG));
  assert_null(fd_alloc_delete_level((void *)fix->alloc, -1));
  assert_null(fd_alloc_delete_level((void *)fix->alloc, 3));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_clean(fix);
}

/* Kills
 * ------------------------------------------------------------------------------------------ */

/* One run: whether it was killed. */
static int killed_once(fixture_t *fix, int level, long point) {
  victim_t victim;
  ulong before = used_sz(fix->wksp), tag = TAG_2;
  victim_new(fix, &victim);
  *g_left = point;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    g_doomed = getpid();
    _exit(!fd_alloc_delete_level(victim.shmem, level));
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status) || !WEXITSTATUS(status));
  assert_int_equal(fd_wksp_compact(fix->wksp, NULL), 0);
  assert_sound(fix);
  kinds_t kinds = kinds_of(fix, TAG_2);
  if (kinds.user && is_alloc(&victim)) { /* killed before it was decided: nothing is lost */
    assert_true(WIFSIGNALED(status));
    assert_intact(&victim);
    for (uint i = 0; i < BLOCKS; i++) fd_alloc_free(victim.alloc, victim.blk[i]);
    assert_int_equal(fd_alloc_is_empty(victim.alloc), 1);
    assert_ptr_equal(fd_alloc_delete(victim.shmem), victim.shmem);
  } else {
    assert_int_equal(kinds.others, 0);
    if (level == FD_ALLOC_DELETE_LEAVE) assert_left(fix, &victim);
    if (level != FD_ALLOC_DELETE_LEAVE) assert_true(kinds.user <= 2);
  }
  assert_true(fd_wksp_tag_free(fix->wksp, &tag, 1) >= 0);
  assert_int_equal(used_sz(fix->wksp), before);
  return WIFSIGNALED(status);
}

/* Killed at any store of a delete, the fd_alloc is as it was or, once somebody has compacted the
   workspace, deleted at that level: nothing is lost that was to be left, nothing is left that was
   to go. */
static void test_killed(void **state) {
  fixture_t *fix = *state;
  g_left = testing_map(4096);
  ulong kills = 0;
  for (int level = FD_ALLOC_DELETE_LEAVE; level <= FD_ALLOC_DELETE_TAG; level++)
    for (long point = 0; killed_once(fix, level, point); point += 1 + point / 40) kills++;
  printf("# %lu kills\n", kills);
  assert_true(kills > 100);
  munmap(g_left, 4096);
  assert_clean(fix);
}

static int listed(fixture_t *fix, ulong gaddr) {
  int found = 0;
  for (uint32_t id = 1; id < fix->wksp->heap_max; id++)
    found |= wksp__ld(&wksp__heap_dir(fix->wksp)[id]) == (gaddr | DIR_HOME);
  return found;
}

/* An ephemeral fd_alloc whose delete was killed, at whichever store, has gone with its lease. */
static void test_killed_ephemeral(void **state) {
  fixture_t *fix = *state;
  ulong const lease = 5, before = used_sz(fix->wksp);
  ulong tag = TAG_2;
  g_left = testing_map(4096);
  for (long point = 0, killed = 1; killed; point++) {
    victim_t victim;
    victim_new(fix, &victim);
    wksp__st(&((struct fd_alloc *)victim.shmem)->lease, lease);
    ulong gaddr = fd_wksp_gaddr_fast(fix->wksp, victim.shmem);
    *g_left = point;
    pid_t pid = fork();
    if (!pid) {
      g_doomed = getpid();
      _exit(!fd_alloc_delete(victim.shmem));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    killed = WIFSIGNALED(status);
    assert_sound(fix);
    assert_int_equal(wksp__ephemeral_end(fix->wksp, lease), 0);
    assert_int_equal(fd_wksp_compact(fix->wksp, NULL), 0);
    assert_false(listed(fix, gaddr));
    assert_true(fd_wksp_tag_free(fix->wksp, &tag, 1) >= 0);
    assert_sound(fix);
    assert_int_equal(used_sz(fix->wksp), before);
  }
  munmap(g_left, 4096);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  struct CMUnitTest const tests[] = {
      T(test_leave), T(test_leave_empty), T(test_quick),
      T(test_tag),   T(test_killed),      T(test_killed_ephemeral),
  };
  return cmocka_run_group_tests_name("core/alloc_delete", tests, NULL, NULL);
}
