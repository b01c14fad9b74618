/* Tests of a disk that fails: an error, a short write or a full disk at each call, and a power
   failure behind each, with any part of what was not durable.

   One story is told each time: checkpoints are taken while the workspace changes, one is removed,
   retention, garbage collection and the repacking of what is left run. At each place it is cut, and
   then: each checkpoint that was reported good, and whose removal had not begun, restores to what
   the workspace was; whatever else the store lists verifies; and the store goes on: what is
   nobody's is collected, a new checkpoint is taken and restores. */

#include "ckpt/testing.h"

#include <limits.h>

#define STORY_MAX 8

/* What the story has done. */
typedef struct told {
  ulong id;         /* of a checkpoint, 0: it was not taken */
  uint64_t digest;  /* of what it must restore to */
  ulong good_at;    /* operations of the disk before it was reported good */
  ulong removed_at; /* before somebody began to remove it; ULONG_MAX: nobody has */
} told_t;

typedef struct story {
  sample_t sample;
  mem_store_t mem;
  told_t told[STORY_MAX];
  uint told_cnt;
  ulong repacked; /* packs */
  testing_rng_t rng;
} story_t;

static void step_take(story_t *story, wksp_ckpt_store_t *store, uint codec) {
  wksp_ckpt_opts_t opts = {.style = {codec, 0}, .threads = 1};
  wksp_ckpt_result_t result;
  told_t *told = &story->told[story->told_cnt];
  told->digest = sample_digest(&story->sample, story->sample.wksp);
  opts.now_ns = (1700000000UL + 100000UL * story->told_cnt) * 1000000000UL;
  if (wksp_ckpt_take(store, story->sample.wksp, &opts, &result)) return;
  *told = (told_t){result.id, told->digest, story->mem.op_cnt, ULONG_MAX};
  story->told_cnt++;
}

static void step_remove(story_t *story, wksp_ckpt_store_t *store, uint idx) {
  if (idx >= story->told_cnt || story->told[idx].removed_at != ULONG_MAX) return;
  story->told[idx].removed_at = story->mem.op_cnt;
  wksp_ckpt_remove(store, story->told[idx].id, NULL);
}

/* All but the last two, and whichever of these is not wanted. */
static void step_prune(story_t *story, wksp_ckpt_store_t *store) {
  wksp_ckpt_retention_t two = {.last = 2};
  for (uint i = 0; i + 2 < story->told_cnt; i++)
    if (story->told[i].removed_at == ULONG_MAX) story->told[i].removed_at = story->mem.op_cnt;
  wksp_ckpt_prune(store, &two, NULL);
}

/* Whatever is not all needed. */
static void step_repack(story_t *story, wksp_ckpt_store_t *store) {
  wksp_ckpt_repack_opts_t opts = {.percent = 99, .least_sz = 1, .threads = 1};
  wksp_ckpt_repacked_t done = {0};
  wksp_ckpt_repack(store, &opts, &done);
  story->repacked += done.pack_cnt;
}

/* Changes that are the same in each telling: memory is set back first. */
static void change(story_t *story, ulong n) {
  for (uint i = 0; i < 8; i++) {
    if (!story->sample.user[i]) continue;
    uchar *at = fd_wksp_laddr_fast(story->sample.wksp, story->sample.user[i]);
    if (!n || i == n) memset(at, (int)(n + 1), story->sample.user_sz[i] / 2);
  }
}

static void tell(story_t *story, ulong fault_at, int fault) {
  mem_store_end(&story->mem);
  mem_store_new(&story->mem);
  story->mem.fault_at = fault_at;
  story->mem.fault = fault;
  story->told_cnt = 0;
  story->repacked = 0;
  wksp_ckpt_store_t *store = mem_store_open(&story->mem);
  change(story, 0);
  step_take(story, store, WKSP_CKPT_RAW);
  change(story, 1);
  step_take(story, store, WKSP_CKPT_LZ4);
  change(story, 2);
  step_take(story, store, WKSP_CKPT_ZSTD);
  step_remove(story, store, 0);
  step_repack(story, store);
  change(story, 4);
  step_take(story, store, WKSP_CKPT_RAW);
  step_prune(story, store);
  step_repack(story, store);
  wksp_ckpt_gc(store, NULL);
  step_take(story, store, WKSP_CKPT_RAW);
  wksp_ckpt_store_close(store);
}

static void complain(char const *what, ulong cnt, int how, ulong fault_at, int kind) {
  printf("# %s: power failure %d behind operation %lu, fault %d at call %lu: %s\n", what, how, cnt,
         kind, fault_at, wksp_last_error());
  fail();
}

/* What was said to be good is; cnt: operations of the disk that have happened. */
static void check(story_t *story, mem_store_t *mem, ulong cnt, int how, ulong fault_at, int kind) {
  wksp_ckpt_store_t *store = mem_store_open(mem);
  restored_t restored;
  ulong *ids = NULL;
  uint64_t id_cnt = 0;
  for (uint i = 0; i < story->told_cnt; i++) {
    told_t const *told = &story->told[i];
    if (told->good_at > cnt || told->removed_at < cnt) continue;
    if (sample_restore(store, told->id, NULL, &restored))
      complain("not restored", cnt, how, fault_at, kind);
    assert_int_equal(sample_digest(&story->sample, restored.wksp), told->digest);
    restored_end(&restored);
  }
  if (wksp_ckpt_verify(store, 0, NULL, testing_sentence, NULL))
    complain("not verified", cnt, how, fault_at, kind);
  assert_int_equal(wksp__ck_ids(store, &ids, &id_cnt), 0);
  free(ids);
  if (wksp_ckpt_gc(store, NULL)) complain("not collected", cnt, how, fault_at, kind);
  assert_null(mem_file(mem, "ckpt.tmp", 0));
  assert_null(mem_file(mem, "pack.tmp", 0));
  /* one each, one that a removed one had, and one to which its chunks have moved for some */
  assert_null(mem_file(mem, "pack", (uint)(id_cnt + 2)));
  wksp_ckpt_result_t result;
  if (wksp_ckpt_take(store, story->sample.wksp, NULL, &result))
    complain("not taken", cnt, how, fault_at, kind);
  assert_int_equal(sample_restore(store, result.id, NULL, &restored), 0);
  assert_int_equal(sample_digest(&story->sample, restored.wksp),
                   sample_digest(&story->sample, story->sample.wksp));
  restored_end(&restored);
  if (wksp_ckpt_verify(store, 0, NULL, testing_sentence, NULL))
    complain("not verified at last", cnt, how, fault_at, kind);
  wksp_ckpt_store_close(store);
}

static void story_new(story_t *story) {
  memset(story, 0, sizeof *story);
  story->rng = testing_rng();
  mem_store_new(&story->mem);
  sample_new(&story->sample, 1UL << 20, 60, &story->rng);
}

static void story_end(story_t *story) {
  mem_store_end(&story->mem);
  sample_end(&story->sample);
}

/* Told without a fault, the story ends well: else the others show nothing. */
static void plain(void **state) {
  story_t story;
  story_new(&story);
  tell(&story, 0, 0);
  assert_int_equal(story.told_cnt, 5);
  printf("# %lu packs went\n", story.repacked);
  assert_true(story.repacked >= 1);
  printf("# %lu calls, %lu of them operations\n", story.mem.call_cnt, story.mem.op_cnt);
  check(&story, &story.mem, story.mem.op_cnt, POWER_KEPT, 0, 0);
  story_end(&story);
}

/* A power failure behind each operation. */
static void power(void **state) {
  story_t story;
  story_new(&story);
  tell(&story, 0, 0);
  for (ulong cnt = 0; cnt <= story.mem.op_cnt; cnt++)
    for (int how = 0; how < POWER_HOWS + 4; how++) { /* MIXED several times */
      mem_store_t after;
      mem_store_power(&story.mem, cnt, how < POWER_HOWS ? how : POWER_MIXED, &story.rng, &after);
      check(&story, &after, cnt, how, 0, 0);
      mem_store_end(&after);
    }
  story_end(&story);
}

/* A fault at each call, of each kind; and a power failure at the end. */
static void faults(void **state) {
  story_t story;
  story_new(&story);
  tell(&story, 0, 0);
  ulong calls = story.mem.call_cnt;
  for (ulong at = 1; at <= calls; at++)
    for (int kind = MEM_FAULT_ERROR; kind <= MEM_FAULT_FULL; kind++) {
      mem_store_t after;
      tell(&story, at, kind);
      story.mem.fault_at = 0;
      mem_store_power(&story.mem, story.mem.op_cnt, POWER_MIXED, &story.rng, &after);
      check(&story, &after, story.mem.op_cnt, POWER_MIXED, at, kind);
      mem_store_end(&after);
    }
  story_end(&story);
}

/* Repacking that fails at the k-th of its calls, and a garbage collection; how many calls that was,
   without a fault, and *ret_op_cnt, what had happened on the disk when it returned. */
static ulong tell_unsynced(story_t *story, ulong k, ulong *ret_op_cnt) {
  mem_store_end(&story->mem);
  mem_store_new(&story->mem);
  story->told_cnt = 0;
  wksp_ckpt_store_t *store = mem_store_open(&story->mem);
  for (ulong n = 0; n < 3; n++) {
    change(story, n);
    step_take(story, store, WKSP_CKPT_LZ4);
  }
  step_remove(story, store, 0);
  ulong before = story->mem.call_cnt;
  story->mem.fault_at = k ? before + k : 0;
  story->mem.fault = MEM_FAULT_ERROR;
  step_repack(story, store);
  ulong calls = story->mem.call_cnt - before;
  *ret_op_cnt = story->mem.op_cnt;
  wksp_ckpt_gc(store, NULL);
  story->mem.fault_at = 0;
  wksp_ckpt_store_close(store);
  return calls;
}

/* What a failed repacking has left half done is not relied on by a garbage collection: a power
   failure behind any of its operations may take back what was never durable. */
static void unsynced(void **state) {
  story_t story;
  story_new(&story);
  ulong from, calls = tell_unsynced(&story, 0, &from);
  for (ulong k = 1; k <= calls; k++) {
    tell_unsynced(&story, k, &from);
    for (ulong cnt = from; cnt <= story.mem.op_cnt; cnt++)
      for (int how = 0; how < 3; how++) {
        mem_store_t after;
        mem_store_power(&story.mem, cnt, how ? POWER_MIXED : POWER_GONE, &story.rng, &after);
        check(&story, &after, cnt, how, k, MEM_FAULT_ERROR);
        mem_store_end(&after);
      }
  }
  story_end(&story);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(plain),
      cmocka_unit_test(power),
      cmocka_unit_test(faults),
      cmocka_unit_test(unsynced),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
