/* Random sequences of operations whose last one is killed at each of its stores in turn.

   Built with WKSP_CRASH_POINTS, so that each store to shared memory first asks
   wksp__crash_point. A run is a process of its own that ends there, as by SIGKILL: the kernel marks
   its slot, and whoever comes next takes over from it by the library's own means. Before each run
   the workspace's memory is put back to what it was before the last operation. After each run
   another process comes and recovers, is killed at one of its stores (of every fiftieth of
   the long form: at each), and then the test itself looks.

   What must be: the state is the one before the operation or the one after it, never the former
   again once an earlier store had decided for the latter; tag_free and reset, which are many
   changes, may stand in between, with less left the later the kill.

   The short form has 150 sequences, the long one 5,000; the sanitized build, in which a process
   costs four times as much, 30 and 300. Their last operations go in turn, so that each is there. */

#include "core/test_model.h"

#include "core/atomic.h"
#include "core/call.h"

#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define TEST_SEQUENCES      30U
#define TEST_SEQUENCES_FULL 300U
#else
#define TEST_SEQUENCES      150U
#define TEST_SEQUENCES_FULL 5000U
#endif

#define TEST_PART_MAX 32
#define TEST_DATA_MAX (1UL << 17)
#define TEST_TAGS     4
#define TEST_OPS_MAX  40   /* operations of a sequence before the last */
#define TEST_AT_MAX   5000 /* stores of one operation; more are taken for an endless loop */

/* Crash points --------------------------------------------------------------------------------- */

static uint64_t g_left; /* stores until the end of this process, the one at which it ends included;
                           0: none */
static uint64_t g_met;  /* so many have been passed */

void wksp__crash_point(void) {
  g_met++;
  if (g_left && !--g_left) _exit(9);
}

/* Operations ----------------------------------------------------------------------------------- */

enum { OP_ALLOC, OP_FREE, OP_TAG_FREE, OP_ROOT_SET, OP_ROOT_REMOVE, OP_RESET, OP_REBUILD, OP_CNT };
static char const *const g_op_name[OP_CNT] = {"alloc",       "free",  "tag_free", "root_set",
                                              "root_remove", "reset", "rebuild"};

typedef struct op {
  uint32_t what, root;
  uint seed; /* of a rebuild: not the one before */
  ulong align, size, tag, gaddr, tags[2], tag_cnt;
} op_t;

static op_t op_random(model_t const *model, testing_rng_t *rng, uint32_t what) {
  model_range_t const *range = &model->range[testing_below(rng, model->cnt)];
  for (uint32_t i = 0; i < 4 && !range->tag; i++)
    range = &model->range[testing_below(rng, model->cnt)];
  op_t op = {
      .what = what, .seed = model->seed + 1, .root = (uint32_t)testing_below(rng, MODEL_ROOTS)};
  op.align = testing_below(rng, 2) ? 64 : 64UL << testing_below(rng, 10);
  op.size = testing_below(rng, 2) ? 64 * (1 + testing_below(rng, 4))
                                  : 1 + testing_below(rng, 1UL << testing_below(rng, 16));
  op.tag = 1 + testing_below(rng, TEST_TAGS);
  op.gaddr = range->gaddr + testing_below(rng, range->size);
  op.tag_cnt = 1 + testing_below(rng, 2);
  for (ulong i = 0; i < op.tag_cnt; i++) op.tags[i] = 1 + testing_below(rng, TEST_TAGS);
  return op;
}

/* Of what is not damaged a rebuild loses nothing, begun anew as often as may be. */
static void on_loss(void *arg, char const *sentence) {
  print_error("lost: %s\n", sentence);
  _exit(8);
}

/* Takes the lock and changes nothing; 1. 0 if a rebuild was begun and not ended: then that is done
   again, which op says how. */
static int recover(fd_wksp_t *wksp, op_t const *op) {
  int rc = fd_wksp_root_remove(wksp, "no such root");
  if (rc == WKSP_E_NOTFOUND) return 1;
  if (rc != WKSP_E_CORRUPT || op->what != OP_REBUILD ||
      fd_wksp_rebuild(wksp, op->seed, on_loss, NULL)) {
    print_error("recovery failed: %s\n", wksp_last_error());
    _exit(8);
  }
  return 0;
}

/* Does it; returns what an alloc gave. */
static ulong op_run(fd_wksp_t *wksp, op_t const *op) {
  char name[FD_WKSP_ROOT_NAME_MAX + 1];
  model_root_name(op->root, name);
  switch (op->what) {
  case OP_ALLOC:
    return fd_wksp_alloc(wksp, op->align, op->size, op->tag);
  case OP_FREE:
    fd_wksp_free(wksp, op->gaddr);
    break;
  case OP_TAG_FREE:
    fd_wksp_tag_free(wksp, op->tags, op->tag_cnt);
    break;
  case OP_ROOT_SET:
    fd_wksp_root_set(wksp, name, op->gaddr, op->tag);
    break;
  case OP_ROOT_REMOVE:
    fd_wksp_root_remove(wksp, name);
    break;
  case OP_RESET:
    fd_wksp_reset(wksp, (uint)op->size);
    break;
  default:
    fd_wksp_rebuild(wksp, op->seed, on_loss, NULL);
    break;
  }
  return 0;
}

/* Does it to the model; gave: what the alloc has to have given. */
static void op_model(model_t *model, op_t const *op, ulong gave) {
  switch (op->what) {
  case OP_ALLOC:
    if (gave)
      assert_null(model_take(model, gave, op->align, model_size(op->size), op->tag));
    else
      assert_true(model_refuses(model, op->align, model_size(op->size)) != MODEL_FITS);
    break;
  case OP_FREE: {
    uint32_t i = model_at(model, op->gaddr);
    if (model->range[i].tag) model_give(model, i);
    break;
  }
  case OP_TAG_FREE:
    model_tag_free(model, op->tags, op->tag_cnt);
    break;
  case OP_ROOT_SET:
    model->root[op->root] = (model_root_t){op->gaddr, op->tag};
    break;
  case OP_ROOT_REMOVE:
    model->root[op->root] = (model_root_t){0};
    break;
  case OP_RESET:
    model_reset(model, (uint)op->size);
    break;
  default:
    model->seed = op->seed;
    break;
  }
}

/* Processes ------------------------------------------------------------------------------------ */

/* Runs it in a process that ends at its at-th store, or has a process recover from it, which ends
   there. 1 if it ended there, 0 if it came to its end. */
static int end_at(fd_wksp_t *wksp, op_t const *op, int recovers, uint64_t at) {
  int status;
  fflush(stdout); /* or the child's end would say it twice */
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    g_left = at;
    if (recovers)
      recover(wksp, op);
    else
      op_run(wksp, op);
    _exit(0);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 9));
  return WEXITSTATUS(status) == 9;
}

/* All but the data. The test's own slot is in it: it is taken before the first image is made, and
   its words are the same in each. */
typedef struct image {
  size_t size;
  char *byte;
} image_t;

static image_t image_of(fd_wksp_t *wksp) {
  image_t image = {.size = wksp->data_lo};
  image.byte = malloc(image.size);
  assert_non_null(image.byte);
  memcpy(image.byte, wksp, image.size);
  return image;
}

/* Between ------------------------------------------------------------------------------------- */

/* How much of what the operation takes away is still there; -1 if anything else has changed. after
   has a part of what before has, and so must the workspace. */
static long left_between(fd_wksp_t *wksp, model_t const *before, model_t const *after) {
  char name[FD_WKSP_ROOT_NAME_MAX + 1];
  fd_wksp_part_t part;
  fd_wksp_root_t root;
  long left = 0, kept = 0, kept_want = 0;
  for (ulong from = 0; fd_wksp_part_next(wksp, from, &part) == 1; from = part.gaddr + part.size) {
    model_range_t const *was = &before->range[model_at(before, part.gaddr)];
    model_range_t const *will = &after->range[model_at(after, part.gaddr)];
    if (was->gaddr != part.gaddr || was->size != part.size || was->tag != part.tag) return -1;
    kept += will->tag != 0;
    left += !will->tag;
  }
  for (uint32_t i = 0; i < after->cnt; i++) kept_want += after->range[i].tag != 0;
  for (uint32_t i = 0; i < MODEL_ROOTS; i++) {
    int found = !fd_wksp_root_find(wksp, model_root_name(i, name), &root);
    if (found && (root.gaddr != before->root[i].gaddr || root.tag != before->root[i].tag))
      return -1;
    if (!found && after->root[i].gaddr) return -1;
    left += found && !after->root[i].gaddr;
  }
  if (kept != kept_want || wksp__part_check(wksp, testing_finding, NULL)) return -1;
  if (fd_wksp_seed(wksp) == before->seed) return left + (before->seed != after->seed);
  return left || fd_wksp_seed(wksp) != after->seed ? -1
                                                   : 0; /* the new seed says that all is done */
}

/* Takes the lock, and with it over from the dead. Then as above; for one change: 1 before, 0 after.
   A rebuild that was begun has to be done again, which counts as before. */
static long left_of(fd_wksp_t *wksp, op_t const *op, model_t const *before, model_t const *after) {
  int begun = !recover(wksp, op); /* a rebuild, which has been done now */
  if (wksp__part_check(wksp, testing_finding, NULL)) return -1;
  if (begun) return model_differs(after, wksp) ? -1 : 1;
  if (op->what == OP_TAG_FREE || op->what == OP_RESET) return left_between(wksp, before, after);
  if (!model_differs(after, wksp)) return 0;
  return model_differs(before, wksp) ? -1 : 1;
}

/* Sequences ------------------------------------------------------------------------------------ */

typedef struct story {
  fd_wksp_t *wksp;
  testing_rng_t *rng;
  model_t before, after;
  op_t op;
  int all; /* kill the recoverer at each store, after each kill */
  uint64_t points, recoverers, between;
} story_t;

/* Nothing of what is between has been done by the look, which is told apart from a failure. */
static long look(story_t *story, uint64_t at, uint64_t recover_at, long left_max) {
  long left = left_of(story->wksp, &story->op, &story->before, &story->after);
  if (left < 0 || left > left_max) {
    print_error(
        "%s killed at store %lu, who recovered at %lu: %s; %ld left, at most %ld expected\n",
        g_op_name[story->op.what], at, recover_at,
        left < 0 ? "neither before nor after" : "undone again", left, left_max);
    fail();
  }
  return left;
}

/* The dead one's memory as he left it, once for each recoverer. */
static long kill_recoverers(story_t *story, uint64_t at, long left_max) {
  image_t dead = image_of(story->wksp);
  long first = -1, left = -1;
  uint64_t points = 0;
  for (uint64_t m = 1;; m++) {
    memcpy(story->wksp, dead.byte, dead.size);
    int ended = end_at(story->wksp, &story->op, 1, m);
    points += (uint64_t)ended;
    left = look(story, at, m, first < 0 ? left_max : first);
    /* once decided it is decided, however far the recoverer came; who does a rebuild again ends it
     */
    if (first < 0) first = left;
    assert_true(left == first || story->op.what == OP_REBUILD);
    if (!ended) break;
    assert_true(m < TEST_AT_MAX);
  }
  story->recoverers += points;
  free(dead.byte);
  return first;
}

/* The last operation, killed at each of its stores; chosen: the one after which all recoverers are
   killed, if it is not every one. */
static void kill_at_each(story_t *story, uint64_t chosen) {
  image_t start = image_of(story->wksp);
  long left = end_at(story->wksp, &story->op, 0, 0), total; /* to its end */
  assert_int_equal(left, 0);
  left = look(story, 0, 0, 0);
  memcpy(story->wksp, start.byte, start.size);
  total = left_of(story->wksp, &story->op, &story->before, &story->after);
  assert_true(total >= 0);
  left = total;
  for (uint64_t at = 1;; at++) {
    memcpy(story->wksp, start.byte, start.size);
    if (!end_at(story->wksp, &story->op, 0, at)) break;
    assert_true(at < TEST_AT_MAX);
    story->points++;
    if (story->all || at == chosen)
      left = kill_recoverers(story, at, left);
    else {
      uint64_t m = 1 + testing_below(story->rng, 60);
      if (at % 3 == 0) story->recoverers += (uint64_t)end_at(story->wksp, &story->op, 1, m);
      left = look(story, at, at % 3 ? 0 : m, left);
    }
    if (story->op.what == OP_REBUILD) left = total; /* a recoverer may have ended it */
    story->between += left > 0 && left < total;
  }
  look(story, 0, 0, 0);
  free(start.byte);
}

/* A sequence; afterwards the workspace is as after it. number: which one. */
static void sequence(story_t *story, uint32_t number) {
  uint32_t const last[] = {OP_REBUILD,  OP_ALLOC,    OP_ALLOC,       OP_ALLOC,
                           OP_FREE,     OP_FREE,     OP_FREE,        OP_TAG_FREE,
                           OP_TAG_FREE, OP_ROOT_SET, OP_ROOT_REMOVE, OP_RESET};
  for (uint64_t n = testing_below(story->rng, TEST_OPS_MAX); n; n--) {
    uint32_t what = testing_below(story->rng, 100) < 90
                        ? (testing_below(story->rng, 5) < 3 ? OP_ALLOC : OP_FREE)
                        : (uint32_t)testing_below(story->rng, OP_RESET);
    op_t op = op_random(&story->before, story->rng, what);
    op_model(&story->before, &op, op_run(story->wksp, &op));
  }
  assert_null(model_differs(&story->before, story->wksp));
  story->op = op_random(&story->before, story->rng, last[number % (sizeof last / sizeof *last)]);

  image_t start = image_of(story->wksp);
  g_met = 0;
  ulong gave = op_run(story->wksp, &story->op);
  uint64_t points = g_met + 10; /* another process takes a slot first */
  memcpy(story->wksp, start.byte, start.size);
  free(start.byte);
  model_copy(&story->after, &story->before);
  op_model(&story->after, &story->op, gave);
  kill_at_each(story, 1 + testing_below(story->rng, points));
  model_copy(&story->before, &story->after);
}

/* An operation that ends at any store has happened wholly or not at all for who comes next, also if
   those who came in between ended at any of theirs. */
static void test_sequences(void **state) {
  testing_rng_t rng = testing_rng();
  char const *full = getenv("WKSP_TEST_FULL");
  int is_full = full && !strcmp(full, "1");
  uint32_t cnt = is_full ? TEST_SEQUENCES_FULL : TEST_SEQUENCES;
  story_t story = {.wksp = testing_wksp(TEST_PART_MAX, TEST_DATA_MAX), .rng = &rng};
  model_new(&story.before, story.wksp);
  model_new(&story.after, story.wksp);
  /* the test's own slot, before any image */
  assert_int_equal(fd_wksp_root_remove(story.wksp, "none"), WKSP_E_NOTFOUND);
  for (uint32_t i = 0; i < cnt; i++) {
    story.all = is_full && i % 50 == 0;
    sequence(&story, i);
  }
  printf("# %u sequences, ended at %lu stores, %lu who recovered ended too; %lu were half done\n",
         cnt, story.points, story.recoverers, story.between);
  assert_true(story.points > 20UL * cnt && story.recoverers > 5UL * cnt &&
              story.between > cnt / 10);
  model_end(&story.before);
  model_end(&story.after);
  testing_wksp_end(story.wksp);
}

int main(void) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(test_sequences)};
  return cmocka_run_group_tests_name("part_crash_seq", tests, NULL, NULL);
}
