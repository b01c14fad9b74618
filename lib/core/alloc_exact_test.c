/* malloc_to, take_from and free_from: what they do, and that no kill at any of their stores, nor at
   any of those of who recovers, leaves a block that is neither named nor free.

   Built with WKSP_CRASH_POINTS: the hook before every store kills there. */

#include "core/alloc_testing.h"
#include "core/fail.h"

/* A process that set kill_at dies before its store number kill_at; all count them in passed. */
static long kill_at, passed;

void wksp__crash_point(void) {
  passed++;
  if (kill_at && !--kill_at) kill(getpid(), SIGKILL);
}

enum { MANY = 150 };

/* Kills fall on each store; in a sanitized build, where a process takes long to start, on some. */
#ifdef __SANITIZE_ADDRESS__
#define STRIDE 8
#else
#define STRIDE 1
#endif

static ulong *g_dst; /* in a partition of its own */

static int setup_exact(void **state) {
  if (setup_sized(state, 16UL << 20)) return 1;
  fixture_t *fix = *state;
  g_dst = fd_wksp_alloc_laddr(fix->wksp, 64, 4096, TAG);
  if (!g_dst) return 1;
  memset(g_dst, 0, 4096);
  fix->used_sz = used_sz(fix->wksp);
  return 0;
}

typedef struct live {
  ulong cnt, gaddr, suspects;
} live_t;

static int add_live(void *arg, fd_alloc_block_t const *block) {
  live_t *live = arg;
  live->cnt++;
  live->gaddr = block->gaddr;
  live->suspects += block->kind == FD_ALLOC_BLOCK_SUSPECT;
  return 0;
}

static live_t live_now(fixture_t *fix) {
  live_t live = {0};
  assert_int_equal(fd_alloc_walk(fix->alloc, add_live, &live), 0);
  return live;
}

/* A block goes into a word, is named by it, comes out, or is freed out of it; whatever its size. */
static void test_words(void **state) {
  fixture_t *fix = *state;
  ulong const sizes[] = {1, 16, 64, 1000, 16384, 16385, 300000};
  for (uint i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    assert_int_equal(fd_alloc_free_from(fix->alloc, g_dst), 0);
    assert_null(fd_alloc_take_from(fix->alloc, g_dst));
    assert_int_equal(fd_alloc_malloc_to(fix->alloc, 0, sizes[i], g_dst), 0);
    ulong gaddr = fd_alloc_named(g_dst);
    assert_int_equal(gaddr, *g_dst);
    assert_true(gaddr != 0);
    assert_int_equal(live_now(fix).cnt, 1);
    assert_int_equal(live_now(fix).gaddr, gaddr);
    assert_int_equal(fd_alloc_malloc_to(fix->alloc, 0, sizes[i], g_dst), WKSP_E_BUSY);
    uchar *blk = fd_alloc_take_from(fix->alloc, g_dst);
    assert_ptr_equal(blk, fd_wksp_laddr_fast(fix->wksp, gaddr));
    memset(blk, 0xff, sizes[i]);
    assert_int_equal(*g_dst, 0);
    assert_int_equal(live_now(fix).cnt, 1);
    *g_dst = gaddr; /* nobody else is at it */
    assert_int_equal(fd_alloc_free_from(fix->alloc, g_dst), 1);
    assert_int_equal(*g_dst, 0);
    assert_int_equal(fd_alloc_is_empty(fix->alloc), 1);
  }
  for (ulong align = 16; align <= 1UL << 17; align *= 2) {
    assert_int_equal(fd_alloc_malloc_to(fix->alloc, align, 24, g_dst), 0);
    assert_int_equal(*g_dst % align, 0);
    assert_int_equal(fd_alloc_free_from(fix->alloc, g_dst), 1);
  }
  for (uint i = 0; i < 500; i++)
    assert_int_equal(fd_alloc_malloc_to(fix->alloc, 0, 40, &g_dst[i]), 0);
  for (uint i = 0; i < 500; i++) assert_int_equal(fd_alloc_free_from(fix->alloc, &g_dst[i]), 1);
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
}

/* What cannot be is refused, and nothing is changed. */
static void test_refused(void **state) {
  fixture_t *fix = *state;
  ulong outside = 0;
  fd_alloc_t *alloc = fix->alloc;
  assert_int_equal(fd_alloc_malloc_to(NULL, 0, 8, g_dst), WKSP_E_INVAL);
  assert_int_equal(fd_alloc_malloc_to(alloc, 0, 8, NULL), WKSP_E_INVAL);
  assert_int_equal(fd_alloc_malloc_to(alloc, 0, 0, g_dst), WKSP_E_INVAL);
  assert_int_equal(fd_alloc_malloc_to(alloc, 3, 8, g_dst), WKSP_E_INVAL);
  assert_int_equal(fd_alloc_malloc_to(alloc, 0, 8, &outside), WKSP_E_INVAL);
  assert_int_equal(fd_alloc_malloc_to(alloc, 0, 8, (ulong *)((ulong)g_dst + 4)), WKSP_E_INVAL);
  assert_int_equal(fd_alloc_malloc_to(alloc, 0, 8, (ulong *)fix->wksp), WKSP_E_INVAL);
  assert_int_equal(fd_alloc_malloc_to(alloc, 0, ~0UL, g_dst), WKSP_E_NOMEM);
  assert_int_equal(fd_alloc_malloc_to(alloc, 0, 17UL << 20, g_dst), WKSP_E_NOMEM);
  assert_int_equal(fd_alloc_free_from(NULL, g_dst), WKSP_E_INVAL);
  assert_null(fd_alloc_take_from(alloc, NULL));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_int_equal(*g_dst, 0);
  ulong *blk = fd_alloc_malloc(alloc, 0, 64), gaddr = fd_wksp_gaddr_fast(fix->wksp, blk);
  fd_alloc_t *other = new_alloc(fix->wksp, TAG + 1);
  ulong const bad[] = {gaddr + 16,
                       16,
                       fd_wksp_gaddr_fast(fix->wksp, g_dst),
                       FD_ALLOC_DST_GADDR,
                       fix->wksp->data_hi - 16,
                       3,
                       ~0UL,
                       1,
                       gaddr | 8};
  for (uint i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    *g_dst = bad[i];
    assert_true(fd_alloc_free_from(alloc, g_dst) <= 0);
    assert_null(fd_alloc_take_from(alloc, g_dst));
    assert_int_equal(*g_dst, bad[i]);
  }
  *g_dst = gaddr;
  assert_int_equal(fd_alloc_free_from(other, g_dst), WKSP_E_NOTFOUND);
  assert_int_equal(*g_dst, gaddr);
  fd_alloc_free(alloc, blk);
  assert_int_equal(fd_alloc_free_from(alloc, g_dst), WKSP_E_NOTFOUND);
  assert_int_equal(*g_dst, gaddr);
  *g_dst = 0;
  assert_int_equal(fd_alloc_is_empty(alloc), 1);
  assert_non_null(fd_alloc_delete((void *)other));
  assert_sound(fix);
}

/* Kills
 * ---------------------------------------------------------------------------------------------- */

enum { MALLOC_TO, TAKE_FROM, FREE_FROM, CALLS };

typedef struct story {
  fixture_t *fix;
  int call;
  ulong size;
  uint warm; /* 0: no heap anywhere; 1: a mask; 2: an array; 3: the block is of another's span */
  char what[128];
} story_t;

/* What is there before the call; the last heap that is left is the caller's. */
static void *keep_heap(void *arg) {
  story_t *story = arg;
  fd_alloc_t *alloc = story->fix->alloc;
  if (fd_alloc_malloc_to(alloc, 0, story->size, g_dst)) return (void *)1;
  return NULL;
}

static void before(story_t *story) {
  fd_alloc_t *alloc = story->fix->alloc;
  void *blk = story->warm ? fd_alloc_malloc(alloc, 0, story->size) : NULL;
  if (story->warm == 3 && story->call != MALLOC_TO) {
    pthread_t thread; /* its heap is not ours, which lives */
    void *bad;
    pthread_create(&thread, NULL, keep_heap, story);
    pthread_join(thread, &bad);
    assert_null(bad);
  } else if (story->call != MALLOC_TO) {
    assert_int_equal(fd_alloc_malloc_to(alloc, 0, story->size, g_dst), 0);
  }
  void *two = story->warm == 2 ? fd_alloc_malloc(alloc, 0, story->size) : NULL;
  fd_alloc_free(alloc, two);
  fd_alloc_free(alloc, blk);
  fd_alloc_leave(alloc);
}

static int call_it(story_t *story) {
  fd_alloc_t *alloc = story->fix->alloc;
  if (story->call == MALLOC_TO) return fd_alloc_malloc_to(alloc, 0, story->size, g_dst);
  if (story->call == FREE_FROM) return fd_alloc_free_from(alloc, g_dst) - 1;
  return fd_alloc_take_from(alloc, g_dst) ? 0 : WKSP_E_NOTFOUND;
}

/* Whoever comes by afterwards, in one of several ways. */
enum { REAPS, COMPACTS, MALLOCS, FREES_FROM, MALLOCS_TO, WAYS };

static int come_by(story_t *story, int way) {
  fixture_t *fix = story->fix;
  int rc = 0;
  if (way == REAPS) rc = wksp__reap(fix->wksp, 0);
  if (way == COMPACTS) rc = fd_alloc_compact(fix->alloc, NULL);
  if (way == FREES_FROM) rc = fd_alloc_free_from(fix->alloc, g_dst) < 0;
  if (way == MALLOCS) fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, story->size));
  if (way == MALLOCS_TO) {
    rc = fd_alloc_malloc_to(fix->alloc, 0, story->size, g_dst);
    rc = rc && rc != WKSP_E_BUSY;
  }
  return rc;
}

/* Runs it in a process that dies at its store number at; whether it died. Counts its stores. */
static int run(story_t *story, int way, long at, long *ret_stores) {
  static long *count;
  if (!count) count = testing_map(sizeof *count);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    passed = 0;
    kill_at = at;
    int rc = way < 0 ? call_it(story) : come_by(story, way);
    kill_at = 0;
    *count = passed;
    if (rc) fprintf(stderr, "way %d: %d, %s\n", way, rc, wksp_last_error());
    _exit(rc ? 7 : 0);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
  if (ret_stores && WIFEXITED(status)) *ret_stores = *count;
  return WIFSIGNALED(status);
}

static int free_suspect(void *arg, fd_alloc_block_t const *block) {
  fixture_t *fix = arg;
  if (block->kind != FD_ALLOC_BLOCK_SUSPECT) return 0;
  fd_alloc_free(fix->alloc, fd_wksp_laddr_fast(fix->wksp, block->gaddr));
  return 0;
}

/* Every block is named or free, none is both, and none is suspect; but for one that was in the
   hands of somebody who died after a take_from, or in a malloc (in_hand). */
static void check_exact(story_t *story, int in_hand) {
  fixture_t *fix = story->fix;
  assert_int_equal(wksp__reap(fix->wksp, 0), 0);
  if (in_hand) {
    assert_int_equal(fd_alloc_walk(fix->alloc, free_suspect, fix), 0);
    memset(fix->alloc->suspect, 0, sizeof fix->alloc->suspect); /* which remembers them */
  }
  live_t live = live_now(fix);
  ulong gaddr = *g_dst;
  if (live.suspects || live.cnt != (gaddr != 0) || live.gaddr != gaddr)
    print_message("# %s: named %#lx, live %lu (%#lx), suspects %lu\n", story->what, gaddr, live.cnt,
                  live.gaddr, live.suspects);
  assert_int_equal(gaddr, fd_alloc_named(g_dst)); /* without marks */
  assert_int_equal(live.suspects, 0);
  assert_int_equal(live.cnt, gaddr != 0);
  assert_int_equal(live.gaddr, gaddr);
  assert_sound(fix);
  void *blk[MANY];
  uint cnt = story->size > 16384 ? 6 : MANY;
  for (uint i = 0; i < cnt; i++) {
    assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, story->size));
    assert_true(fd_wksp_gaddr_fast(fix->wksp, blk[i]) != gaddr);
    for (uint j = 0; j < i; j++) assert_ptr_not_equal(blk[i], blk[j]);
  }
  for (uint i = 0; i < cnt; i++) fd_alloc_free(fix->alloc, blk[i]);
  assert_int_equal(fd_alloc_free_from(fix->alloc, g_dst), gaddr != 0);
  assert_clean(fix);
}

/* Whether a kill at that store of a call of so many may come after all that decides it: at the
   store to the gate, from where on the short forms serve the heap, if there is one, or at that to
   `out`. Those were counted in another process: who takes a slot whose gate served somebody stores
   once more before all this. */
static int decided(story_t const *story, long at, long stores) {
  return at > stores - (story->size > 16384 ? 2 : 3);
}

/* One kill of the call, and for each of `turns` ways to come by one kill there. */
static void one_story(story_t *story, testing_rng_t *rng) {
  static long way_stores[WAYS];
  before(story);
  long stores = 0;
  assert_int_equal(run(story, -1, 0, &stores), 0);
  check_exact(story, story->call == TAKE_FROM);
  for (long at = 1; at <= stores; at += 1 + (long)testing_below(rng, STRIDE))
    for (int way = -1; way < WAYS; way++) {
      before(story);
      int died = run(story, -1, at, NULL);
      if (way >= 0) {
        long upto = way_stores[way] ? way_stores[way] : 60;
        long there = 1 + (long)testing_below(rng, (ulong)upto);
        run(story, way, there, &way_stores[way]);
      }
      snprintf(story->what, sizeof story->what, "call %d size %lu warm %u at %ld way %d died %d",
               story->call, story->size, story->warm, at, way, died);
      check_exact(story, (story->call == TAKE_FROM && (!died || decided(story, at, stores))) ||
                             way == MALLOCS);
    }
}

/* A kill at every store of each call, and of who recovers, leaves each block named or free. */
static void test_kills(void **state) {
  fixture_t *fix = *state;
  testing_rng_t rng = testing_rng();
  for (int call = 0; call < CALLS; call++)
    for (uint warm = 0; warm < 4; warm++) {
      story_t story = {.fix = fix, .call = call, .size = 1024, .warm = warm};
      one_story(&story, &rng);
    }
  for (int call = 0; call < CALLS; call++) {
    story_t story = {.fix = fix, .call = call, .size = 100000, .warm = 0};
    one_story(&story, &rng);
  }
}

/* Who recovers from a kill at the calls' own stores, killed at each of his first, and at some of
   all the others. */
static void test_kills_of_recovery(void **state) {
  fixture_t *fix = *state;
  testing_rng_t rng = testing_rng();
  ulong stride = getenv("WKSP_TEST_FULL") ? 1 : 25 * STRIDE;
  for (int call = 0; call < CALLS; call++)
    for (int way = 0; way < WAYS; way++) {
      story_t story = {.fix = fix, .call = call, .size = 1024, .warm = 2};
      long stores = 0, own = 12;
      before(&story);
      assert_int_equal(run(&story, -1, 0, &stores), 0);
      check_exact(&story, call == TAKE_FROM);
      for (long at = stores > own ? stores - own : 1; at <= stores;
           at += 1 + (long)testing_below(&rng, STRIDE)) {
        int died = 1;
        for (long there = 1; died;
             there += there < 25 / STRIDE ? 1 : 1 + (long)testing_below(&rng, stride)) {
          before(&story);
          run(&story, -1, at, NULL);
          died = run(&story, way, there, NULL);
          snprintf(story.what, sizeof story.what,
                   "call %d size %lu warm %u at %ld way %d there %ld", story.call, story.size,
                   story.warm, at, way, there);
          check_exact(&story, (call == TAKE_FROM && decided(&story, at, stores)) || way == MALLOCS);
        }
      }
    }
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_exact, teardown)
  struct CMUnitTest const tests[] = {
      T(test_words),
      T(test_refused),
      T(test_kills),
      T(test_kills_of_recovery),
  };
  return cmocka_run_group_tests_name("core/alloc_exact", tests, NULL, NULL);
}
