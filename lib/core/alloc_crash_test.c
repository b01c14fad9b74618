/* Kills a process at the stores of a story that goes through everything fd_alloc does, one store a
   run, and checks what is left: nothing that was handed out is lost or damaged, at most the one
   block in flight is unknown, nobody is blocked, and after freeing all that is listed the workspace
   is as it was. The long form takes each store, the short one about half of them, the sanitized
   build, in which a process costs so much more, one of sixteen: others each time.

   Built with WKSP_CRASH_POINTS, so each store to shared memory calls wksp__crash_point first. */

#include "core/alloc.h"

#include "core/testing.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define TAG       77UL
#define TAG_OTHER 99UL

#ifdef __SANITIZE_ADDRESS__
enum { HELD_MAX = 1024, WIDE_ONE_OF = 2, SHORT_ONE_OF = 16 };
#else
enum { HELD_MAX = 1024, WIDE_ONE_OF = 2, SHORT_ONE_OF = 2 };
#endif

/* What the story's teller has done, as far as he could write it down. */
typedef struct journal {
  long countdown; /* crash points to go; negative: count only */
  long passed;
  ulong held[HELD_MAX]; /* gaddr of blocks handed out, 0: free place */
  ulong size[HELD_MAX];
  ulong freeing; /* gaddr of the block whose free is on its way, 0 */
  ulong cut;     /* what freeing was when the teller died */
} journal_t;

static journal_t *g_journal;
static fd_wksp_t *g_wksp;
static fd_alloc_t *g_alloc;
static pid_t g_teller;

void wksp__crash_point(void) {
  if (g_teller != getpid()) return;
  g_journal->passed++;
  if (g_journal->countdown >= 0 && !g_journal->countdown--) kill(getpid(), SIGKILL);
}

/* Each block carries its size and its address. */
static void take(ulong sz) {
  ulong max;
  ulong *blk = fd_alloc_malloc_at_least(g_alloc, 0, sz, &max);
  if (!blk) {
    fprintf(stderr, "malloc %lu: %s\n", sz, wksp_last_error());
    _exit(7);
  }
  ulong gaddr = fd_wksp_gaddr_fast(g_wksp, blk);
  blk[0] = gaddr;
  blk[max / 8 - 1] = gaddr;
  for (uint i = 0; i < HELD_MAX; i++) {
    if (g_journal->held[i]) continue;
    g_journal->size[i] = max;
    g_journal->held[i] = gaddr;
    return;
  }
  _exit(7);
}

static int intact(uint i) {
  ulong gaddr = g_journal->held[i], *blk = fd_wksp_laddr_fast(g_wksp, gaddr);
  return blk[0] == gaddr && blk[g_journal->size[i] / 8 - 1] == gaddr;
}

static void give(uint i) {
  ulong gaddr = g_journal->held[i];
  if (!gaddr) return;
  if (!intact(i)) _exit(7);
  g_journal->freeing = gaddr;
  g_journal->held[i] = 0;
  fd_alloc_free(g_alloc, fd_wksp_laddr_fast(g_wksp, gaddr));
  g_journal->freeing = 0;
}

/* A heap as a killed process leaves it, with a full span, an array and a mask, which the story
 * takes over. */
static void ghost(void) {
  uint first = 0;
  while (g_journal->held[first]) first++;
  for (uint i = 0; i < 40; i++) take(1024);
  for (uint i = 0; i < 20; i++) take(64);
  for (uint i = first; i < first + 60; i += 9) give(i);
  kill(getpid(), SIGKILL);
}

/* What is there before the story: full spans of two classes, a large block, all of the parent's
 * heap; and the ghost's. */
static void prologue(void) {
  for (uint i = 0; i < 70; i++) take(1024);
  for (uint i = 0; i < 9; i++) take(16384);
  take(100000);
  take(48);
  pid_t pid = fork();
  if (!pid) ghost();
  assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void story(void) {
  for (uint i = 0; i < 70; i++) take(1000); /* span claimed, filled, set aside; another */
  for (uint i = 0; i < 6; i++) take(16000);
  take(16);
  take(300);
  for (uint i = 2; i < 90; i += 3)
    give(i); /* the parent's, from elsewhere: FULL -> PENDING -> inbox; and its large block */
  for (uint i = 81; i < 170; i += 2) give(i); /* own: FULL -> OWNED, retirement */
  for (uint i = 0; i < 100; i++) take(64);    /* a whole word, and some of the next */
  for (uint i = 0; i < HELD_MAX; i++)
    if (g_journal->size[i] == 64 && i % 31) give(i); /* more than the array has room for */
  for (uint i = 0; i < 116; i++) take(64);
  for (uint i = 0; i < HELD_MAX; i++)
    if (g_journal->size[i] == 64 && !(i % 31)) give(i); /* a few of each word: see below */
  take(50000);
  take(16);
  fd_alloc_leave(g_alloc);
  take(200); /* takes a heap that was left */
  if (fd_alloc_compact(g_alloc, NULL)) _exit(7);
  take(5000);
  for (uint i = 0; i < 12; i++) take(64); /* from words with few free blocks */
  for (uint i = 0; i < HELD_MAX; i += 2) give(i);
  void *shmem = fd_wksp_alloc_laddr(g_wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, TAG_OTHER);
  if (!shmem || !fd_alloc_new(shmem, TAG_OTHER)) _exit(7);
  fd_alloc_t *other = fd_alloc_join(shmem, 3);
  if (!fd_alloc_malloc(other, 0, 100) || !fd_alloc_malloc(other, 0, 90000)) _exit(7);
  if (!fd_alloc_delete(shmem) || fd_wksp_free_laddr(g_wksp, shmem)) _exit(7);
}

/* Wide spans
 * ------------------------------------------------------------------------------------------- */

/* A dead process's heap with wide spans: full, in use, and kept without a block. */
static void wide_ghost(void) {
  uint first = 0;
  while (g_journal->held[first]) first++;
  for (uint i = 0; i < 70; i++) take(8192);
  for (uint i = 0; i < 20; i++) take(16384);
  for (uint i = first; i < first + 90; i++)
    if (i % 9) give(i);
  kill(getpid(), SIGKILL);
}

static void wide_prologue(void) {
  for (uint i = 0; i < 40; i++) take(8192);
  for (uint i = 0; i < 9; i++) take(16384);
  take(1024);
  pid_t pid = fork();
  if (!pid) wide_ghost();
  assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Wide spans are set up from regions and from the pool, filled, set aside, told of from elsewhere,
   kept, turned to another class, dropped, taken over from the ghost, and given back. */
static void wide_story(void) {
  for (uint i = 0; i < 75; i++) take(8192);
  for (uint i = 0; i < 20; i++) take(16000);
  for (uint i = 1; i < 48; i += 2) give(i);
  for (uint i = 50; i < HELD_MAX; i++)
    if (g_journal->size[i] == 8192) give(i);
  for (uint i = 0; i < 20; i++) take(12288); /* of what those left */
  for (uint i = 0; i < 70; i++) take(1024);
  fd_alloc_leave(g_alloc);
  take(8000);
  if (fd_alloc_compact(g_alloc, NULL)) _exit(7);
  for (uint i = 0; i < 40; i++) take(10000);
  for (uint i = 0; i < HELD_MAX; i += 2) give(i);
}

static void (*g_prologue)(void) = prologue, (*g_story)(void) = story;

/* Afterwards
 * --------------------------------------------------------------------------------------------- */

typedef struct listing {
  ulong cnt, unknown, unsuspected, listed[2 * HELD_MAX];
} listing_t;

static int list_block(void *arg, fd_alloc_block_t const *block) {
  listing_t *listing = arg;
  if (listing->cnt == 2 * HELD_MAX) return 1;
  listing->listed[listing->cnt++] = block->gaddr;
  int known = 0;
  for (uint i = 0; i < HELD_MAX && !known; i++) known = g_journal->held[i] == block->gaddr;
  listing->unknown += !known;
  listing->unsuspected +=
      !known && block->gaddr != g_journal->cut && block->kind != FD_ALLOC_BLOCK_SUSPECT;
  return 0;
}

/* What the survivor does; may itself be killed on the way and begun again by another. */
static void recover(void) {
  listing_t listing = {0};
  if (fd_alloc_walk(g_alloc, list_block, &listing)) _exit(6);
  for (ulong i = 0; i < listing.cnt; i++)
    fd_alloc_free(g_alloc, fd_wksp_laddr_fast(g_wksp, listing.listed[i]));
  if (fd_wksp_compact(g_wksp, NULL)) _exit(6);
  /* the other alloc (half made or deleted ones are cleared by now), if the story died while it was
   * there */
  fd_wksp_part_t part;
  for (ulong from = 0; fd_wksp_part_next(g_wksp, from, &part) == 1; from = part.gaddr + part.size) {
    if (part.tag != TAG_OTHER || part.kind != FD_WKSP_KIND_USER) continue;
    void *shmem = fd_wksp_laddr_fast(g_wksp, part.gaddr);
    if (fd_alloc_join(shmem, 0) && !fd_alloc_delete(shmem)) _exit(6);
    if (fd_wksp_free(g_wksp, part.gaddr)) _exit(6);
  }
  if (fd_wksp_compact(g_wksp, NULL)) _exit(6);
}

static ulong used_sz(void) {
  fd_wksp_usage_t usage;
  assert_int_equal(fd_wksp_usage(g_wksp, NULL, 0, &usage), 0);
  return usage.total_sz - usage.free_sz;
}

/* Runs part in a child that dies at its crash point number at (negative: it lives). Returns whether
 * it was killed. */
static int run_child(void (*part)(void), long at) {
  g_journal->countdown = at;
  g_journal->passed = 0;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    g_teller = getpid();
    part();
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
  return WIFSIGNALED(status);
}

static void check_after_kill(void) {
  listing_t listing = {0};
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
  assert_int_equal(fd_alloc_walk(g_alloc, list_block, &listing), 0);
  uint held = 0;
  for (uint i = 0; i < HELD_MAX; i++) {
    if (!g_journal->held[i]) continue;
    held++;
    assert_true(intact(i));
  }
  assert_int_equal(listing.unsuspected, 0);              /* its slot remembers it */
  assert_true(listing.unknown <= 1);                     /* the one in flight */
  assert_int_equal(listing.cnt - listing.unknown, held); /* and none of the others is lost */
}

/* What somebody does who knows nothing of the death: takes what the dead has freed, and frees. */
static void survivor(void) {
  for (uint i = 0; i < 40; i++) take(1024);
  for (uint i = 0; i < 10; i++) take(64);
  take(16384);
  if (g_story == wide_story)
    for (uint i = 0; i < 40; i++) take(8192);
  for (uint i = 1; i < HELD_MAX; i += 7) give(i);
}

static void one_run(long at, long recoverer_at, ulong base) {
  memset(g_journal, 0, sizeof *g_journal);
  g_prologue();
  int killed = run_child(g_story, at);
  g_journal->cut = g_journal->freeing;
  check_after_kill();
  long passed = g_journal->passed;
  survivor();
  check_after_kill();
  assert_int_equal(fd_alloc_compact(g_alloc, NULL), 0); /* flushes the dead one's magazines */
  check_after_kill();
  assert_int_equal(wksp__reap(g_wksp, 0), 0);
  check_after_kill(); /* the slot is another's now, the suspect is still known */
  assert_int_equal(killed, at >= 0 && passed > at);
  if (recoverer_at >= 0 && run_child(recover, recoverer_at))
    assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
  recover();
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
  assert_int_equal(fd_alloc_is_empty(g_alloc), 1);
  assert_int_equal(used_sz(), base);
}

/* Kills at the stores of the story, about one of so many in the long form. */
static void every_store(ulong one_of) {
  if (!getenv("WKSP_TEST_FULL")) one_of *= SHORT_ONE_OF;
  testing_rng_t rng = testing_rng();
  ulong base = used_sz(), cnt = 0;
  one_run(-1, -1, base);
  long points = g_journal->passed;
  assert_true(points > 1000);
  for (long at = 0; at < points; at++) {
    if (testing_below(&rng, one_of)) continue;
    cnt++;
    one_run(at, testing_below(&rng, 3) ? -1 : (long)testing_below(&rng, 400), base);
  }
  print_message("# %ld stores in the story, killed at %lu of them\n", points, cnt);
}

static int make(ulong size) {
  g_wksp = fd_wksp_new_anon("crash", size, 0, 1, 0);
  if (!g_wksp) return 1;
  void *shmem = fd_wksp_alloc_laddr(g_wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, TAG);
  g_alloc = fd_alloc_join(fd_alloc_new(shmem, TAG), 0);
  return !g_alloc;
}

static void test_every_store(void **state) {
  (void)state;
  assert_int_equal(make(16UL << 20), 0);
  every_store(1);
  fd_wksp_delete_anon(g_wksp);
}

static void wide(ulong size, uint32_t lg, ulong one_of) {
  g_prologue = wide_prologue;
  g_story = wide_story;
  assert_int_equal(make(size), 0);
  assert_int_equal(wksp__class(g_wksp, wksp__class_for(0, 8192))->lg, lg);
  every_store(one_of);
  fd_wksp_delete_anon(g_wksp);
}

/* The same where large blocks have spans of 256 KiB, and of 1 MiB. */
static void test_wide(void **state) {
  (void)state;
  wide(20UL << 20, 2, WIDE_ONE_OF);
}

static void test_wider(void **state) {
  (void)state;
  wide(260UL << 20, 4, 8 * WIDE_ONE_OF);
}

int main(void) {
  g_journal =
      mmap(NULL, sizeof *g_journal, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (g_journal == MAP_FAILED) return 1;
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_every_store),
      cmocka_unit_test(test_wide),
      cmocka_unit_test(test_wider),
  };
  return cmocka_run_group_tests_name("core/alloc_crash", tests, NULL, NULL);
}
