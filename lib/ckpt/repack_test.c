/* Tests of repacking: what it wins, what it leaves alone, and that checkpoints are what they were.
   What happens to it when the disk fails is disk_test.c's. */

#include "ckpt/testing.h"

#define TAKEN_MAX 8

typedef struct kept {
  sample_t sample;
  mem_store_t mem;
  wksp_ckpt_store_t *store;
  testing_rng_t rng;
  ulong id[TAKEN_MAX];
  uint64_t digest[TAKEN_MAX];
  uint cnt;
} kept_t;

static wksp_ckpt_repack_opts_t const all = {.percent = 99, .least_sz = 1};

static void kept_new(kept_t *bed) {
  memset(bed, 0, sizeof *bed);
  bed->rng = testing_rng();
  mem_store_new(&bed->mem);
  sample_new(&bed->sample, 4UL << 20, 200, &bed->rng);
  bed->store = mem_store_open(&bed->mem);
}

static void kept_end(kept_t *bed) {
  wksp_ckpt_store_close(bed->store);
  mem_store_end(&bed->mem);
  sample_end(&bed->sample);
}

static void take(kept_t *bed, uint codec, uint fresh) {
  wksp_ckpt_opts_t opts = {.style = {codec, 0}, .fresh = fresh, .info = "said by somebody"};
  wksp_ckpt_result_t result;
  opts.now_ns = (1700000000UL + bed->cnt) * 1000000000UL;
  assert_int_equal(wksp_ckpt_take(bed->store, bed->sample.wksp, &opts, &result), 0);
  bed->id[bed->cnt] = result.id;
  bed->digest[bed->cnt++] = sample_digest(&bed->sample, bed->sample.wksp);
}

/* Another user partition with other bytes. */
static void change(kept_t *bed, uint n) {
  uint i = n % 8;
  while (!bed->sample.user[i]) i = (i + 1) % 8;
  memset(fd_wksp_laddr_fast(bed->sample.wksp, bed->sample.user[i]), (int)n + 1,
         bed->sample.user_sz[i]);
}

/* Checkpoints of each style, of which the first is gone: what the others need of it is little. */
static void taken(kept_t *bed) {
  for (uint n = 0; n < 4; n++) {
    change(bed, n);
    take(bed, n % 3, 0);
  }
  assert_int_equal(wksp_ckpt_remove(bed->store, bed->id[0], NULL), 0);
}

static void restores(kept_t *bed, uint from) {
  for (uint i = from; i < bed->cnt; i++) {
    restored_t restored;
    assert_int_equal(sample_restore(bed->store, bed->id[i], NULL, &restored), 0);
    assert_int_equal(sample_digest(&bed->sample, restored.wksp), bed->digest[i]);
    restored_end(&restored);
  }
  assert_int_equal(wksp_ckpt_verify(bed->store, 0, NULL, testing_sentence, NULL), 0);
}

static ulong bytes_of(mem_store_t const *mem) {
  ulong sum = 0;
  for (uint i = 0; i < MEM_FILES_MAX; i++)
    if (mem->files[i].name[0]) sum += mem->files[i].len;
  return sum;
}

/* What is not needed goes, the figures are those of the disk, each checkpoint is what it was, and
   the store goes on with what it has. */
static void wins(void **state) {
  kept_t bed;
  kept_new(&bed);
  taken(&bed);
  ulong before = bytes_of(&bed.mem);
  wksp_ckpt_info_t was;
  wksp_ckpt_t *ckpt;
  wksp_ckpt_repacked_t done;
  assert_int_equal(wksp_ckpt_open(bed.store, bed.id[2], &ckpt), 0);
  was = *wksp_ckpt_info(ckpt);
  wksp_ckpt_close(ckpt);
  assert_int_equal(wksp_ckpt_repack(bed.store, &all, &done), 0);
  assert_int_equal(done.pack_cnt, 1);
  assert_true(done.written_sz && done.written_sz < done.freed_sz);
  ulong after = bytes_of(&bed.mem);
  assert_true(after < before);
  /* manifests have another section, of nearly the same length */
  assert_in_range(before - after, done.freed_sz - done.written_sz - 4096,
                  done.freed_sz - done.written_sz + 4096);
  restores(&bed, 1);
  assert_int_equal(wksp_ckpt_open(bed.store, bed.id[2], &ckpt), 0);
  assert_int_equal(wksp_ckpt_info(ckpt)->created_ns, was.created_ns);
  assert_int_equal(wksp_ckpt_info(ckpt)->live_sz, was.live_sz);
  assert_string_equal(wksp_ckpt_info(ckpt)->info, "said by somebody");
  wksp_ckpt_close(ckpt);
  assert_int_equal(wksp_ckpt_repack(bed.store, &all, &done), 0);
  assert_int_equal(done.pack_cnt, 0); /* there is nothing left to win */
  wksp_ckpt_result_t result;
  assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, NULL, &result), 0);
  assert_int_equal(result.chunk_new_cnt, 0); /* it knows chunks where they are now */
  kept_end(&bed);
}

/* Not worth it: too little to win, or too much of it needed. */
static void threshold(void **state) {
  kept_t bed;
  wksp_ckpt_repack_opts_t much = {.percent = 99, .least_sz = 1UL << 40},
                          rare = {.percent = 1, .least_sz = 1}, bad = {.percent = 100};
  wksp_ckpt_repacked_t done;
  kept_new(&bed);
  taken(&bed);
  ulong ops = bed.mem.op_cnt;
  assert_int_equal(wksp_ckpt_repack(bed.store, &much, &done), 0);
  assert_int_equal(done.pack_cnt, 0);
  assert_int_equal(wksp_ckpt_repack(bed.store, &rare, NULL), 0);
  assert_int_equal(wksp_ckpt_repack(bed.store, &bad, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_ckpt_repack(NULL, NULL, NULL), WKSP_E_INVAL);
  assert_int_equal(bed.mem.op_cnt, ops); /* the disk was not touched */
  kept_end(&bed);
}

/* The pack of a checkpoint that is there stays as it is: by it one is known that relies on nothing
   before it. */
static void own(void **state) {
  kept_t bed;
  wksp_ckpt_repacked_t done;
  kept_new(&bed);
  for (uint n = 0; n < 3; n++) {
    change(&bed, n);
    take(&bed, WKSP_CKPT_LZ4, n == 1);
  }
  assert_int_equal(wksp_ckpt_repack(bed.store, &all, &done), 0);
  assert_int_equal(done.pack_cnt, 0);
  restores(&bed, 0);
  kept_end(&bed);
}

/* A damaged chunk is not given a good name, and a manifest that cannot be read may need anything:
   nothing is done, and what was good is. */
static void damaged(void **state) {
  for (int manifest = 0; manifest < 2; manifest++) {
    kept_t bed;
    restored_t restored;
    kept_new(&bed);
    taken(&bed);
    take(&bed, WKSP_CKPT_RAW, 1);
    mem_file_t *file = mem_file(&bed.mem, manifest ? "ckpt" : "pack", 0);
    for (ulong i = 200; i < file->len; i += 40) file->bytes[i] ^= 1;
    ulong ops = bed.mem.op_cnt, before = bytes_of(&bed.mem);
    assert_int_equal(wksp_ckpt_repack(bed.store, &all, NULL), WKSP_E_CORRUPT);
    assert_true(!manifest || bed.mem.op_cnt == ops);
    assert_int_equal(bytes_of(&bed.mem), before);
    assert_int_equal(sample_restore(bed.store, bed.id[4], NULL, &restored), 0);
    restored_end(&restored);
    kept_end(&bed);
  }
}

static int cancel(void *arg, wksp_ckpt_progress_t const *progress) {
  assert_true(progress->total_sz > 0);
  return 1;
}

/* One that is cancelled leaves nothing, and can be made again. */
static void cancelled(void **state) {
  kept_t bed;
  wksp_ckpt_repack_opts_t opts = all;
  wksp_ckpt_repacked_t done;
  kept_new(&bed);
  taken(&bed);
  opts.on_progress = cancel;
  ulong before = bytes_of(&bed.mem);
  assert_int_equal(wksp_ckpt_repack(bed.store, &opts, NULL), WKSP_E_AGAIN);
  assert_int_equal(bytes_of(&bed.mem), before);
  assert_null(mem_file(&bed.mem, "pack.tmp", 0));
  assert_int_equal(wksp_ckpt_repack(bed.store, &all, &done), 0);
  assert_int_equal(done.pack_cnt, 1);
  restores(&bed, 1);
  kept_end(&bed);
}

/* A clock that was set back gives no new checkpoint the id of a pack that others need. */
static void clock_back(void **state) {
  kept_t bed;
  kept_new(&bed);
  taken(&bed);
  assert_int_equal(wksp_ckpt_repack(bed.store, &all, NULL), 0);
  for (uint n = 0; n < 3; n++) {
    bed.cnt = bed.cnt < TAKEN_MAX - 1 ? bed.cnt : TAKEN_MAX - 1;
    wksp_ckpt_opts_t opts = {.now_ns = 1000000UL};
    wksp_ckpt_result_t result;
    change(&bed, n + 5);
    assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, &opts, &result), 0);
    restores(&bed, 1);
  }
  kept_end(&bed);
}

/* However often, with whatever there is: checkpoints come, go and stay what they were. */
static void again(void **state) {
  kept_t bed;
  kept_new(&bed);
  ulong id[32];
  uint64_t digest[32];
  uint cnt = 0, packs = 0;
  for (uint n = 0; n < 40; n++) {
    wksp_ckpt_opts_t opts = {.style = {(uint)testing_below(&bed.rng, 3), 0},
                             .now_ns = (1700000000UL + n) * 1000000000UL};
    wksp_ckpt_repack_opts_t repack = {.percent = (uint)(1 + testing_below(&bed.rng, 99)),
                                      .least_sz = 1};
    wksp_ckpt_repacked_t done;
    wksp_ckpt_result_t result;
    sample_change(&bed.sample, 20, &bed.rng);
    assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, &opts, &result), 0);
    id[cnt] = result.id;
    digest[cnt++] = sample_digest(&bed.sample, bed.sample.wksp);
    while (cnt > 6 || (cnt && !testing_below(&bed.rng, 4))) {
      uint i = (uint)testing_below(&bed.rng, cnt);
      assert_int_equal(wksp_ckpt_remove(bed.store, id[i], NULL), 0);
      id[i] = id[--cnt];
      digest[i] = digest[cnt];
    }
    assert_int_equal(wksp_ckpt_repack(bed.store, &repack, &done), 0);
    packs += done.pack_cnt > 0;
    for (uint i = 0; i < cnt; i++) {
      wksp_ckpt_t *ckpt;
      assert_int_equal(wksp_ckpt_open(bed.store, id[i], &ckpt), 0);
      wksp_ckpt_close(ckpt);
    }
    assert_int_equal(wksp_ckpt_verify(bed.store, 0, NULL, testing_sentence, NULL), 0);
    if (!cnt) continue;
    restored_t restored;
    uint i = (uint)testing_below(&bed.rng, cnt);
    assert_int_equal(sample_restore(bed.store, id[i], NULL, &restored), 0);
    assert_int_equal(sample_digest(&bed.sample, restored.wksp), digest[i]);
    restored_end(&restored);
  }
  printf("# %u repacks of 40 had something to do\n", packs);
  kept_end(&bed);
}

int main(void) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(wins),      cmocka_unit_test(threshold),
                                     cmocka_unit_test(own),       cmocka_unit_test(damaged),
                                     cmocka_unit_test(cancelled), cmocka_unit_test(clock_back),
                                     cmocka_unit_test(again)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
