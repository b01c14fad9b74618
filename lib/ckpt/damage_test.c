/* Tests of what is damaged: files with flipped bits or cut short, and memory that lies. */

#include "ckpt/testing.h"

#include <unistd.h>

/* Two checkpoints in the style, the second on top of the first. */
static void two_new(bed_t *bed, uint codec) {
  wksp_ckpt_opts_t opts = {.style = {codec, 0}, .info = "a text", .spec = "spec", .spec_sz = 4};
  bed_new(bed, 1UL << 20, 200);
  assert_int_equal(wksp_ckpt_take(bed->store, bed->sample.wksp, &opts, NULL), 0);
  sample_change(&bed->sample, 20, &bed->rng);
  assert_int_equal(wksp_ckpt_take(bed->store, bed->sample.wksp, &opts, NULL), 0);
}

/* Each of many single flipped bits, wherever in whatever file, is found by a verify; and a restore
   either fails or gives what it should. */
static void flips(void **state) {
  for (uint codec = WKSP_CKPT_RAW; codec <= WKSP_CKPT_ZSTD; codec++) {
    bed_t bed;
    two_new(&bed, codec);
    uint64_t want = sample_digest(&bed.sample, bed.sample.wksp);
    static char const *const suffixes[] = {"ckpt", "pack"};
    for (uint f = 0; f < 4; f++) {
      mem_file_t *file = mem_file(&bed.mem, suffixes[f & 1], f >> 1);
      assert_non_null(file);
      for (uint n = 0; n < 150; n++) {
        /* the first and last bytes each, others by chance */
        ulong at = n < 40   ? n
                   : n < 60 ? file->len - 1 - (n - 40)
                            : testing_below(&bed.rng, file->len);
        if (at >= file->len) continue;
        uchar bit = (uchar)(1U << testing_below(&bed.rng, 8));
        file->bytes[at] ^= bit;
        int err = wksp_ckpt_verify(bed.store, 0, NULL, NULL, NULL);
        if (err != WKSP_E_CORRUPT) {
          printf("# %s: byte %lu of %lu, bit %#x: verify returns %d\n", file->name, at, file->len,
                 bit, err);
          fail();
        }
        restored_t restored;
        if (n % 10 == 0 && !sample_restore(bed.store, 0, NULL, &restored)) {
          assert_int_equal(sample_digest(&bed.sample, restored.wksp), want);
          restored_end(&restored);
        }
        file->bytes[at] ^= bit;
      }
    }
    assert_int_equal(wksp_ckpt_verify(bed.store, 0, NULL, testing_sentence, NULL), 0);
    bed_end(&bed);
  }
}

/* A verify of one checkpoint finds a flipped bit in each byte that it needs. */
static void flips_of_one(void **state) {
  bed_t bed;
  two_new(&bed, WKSP_CKPT_LZ4);
  wksp_ckpt_t *ckpt;
  assert_int_equal(wksp_ckpt_open(bed.store, 0, &ckpt), 0);
  for (ulong i = 0; i < wksp_ckpt_info(ckpt)->chunk_cnt; i++) {
    wksp__ck_ref_t const *ref = &ckpt->refs[i];
    char name[WKSP_CKPT_FILE_NAME_MAX + 1];
    wksp__ck_file_name(ckpt->packs[ref->pack].id, WKSP_CK_FILE_PACK, 0, name);
    mem_file_t *file = mem_file(&bed.mem, "pack", 0);
    if (strcmp(file->name, name) != 0) file = mem_file(&bed.mem, "pack", 1);
    uchar *at = file->bytes + ref->off +
                testing_below(&bed.rng, sizeof(wksp__ck_frame_t) + ref->stored_len);
    uchar bit = (uchar)(1U << testing_below(&bed.rng, 8));
    *at ^= bit;
    assert_int_equal(wksp_ckpt_verify(bed.store, wksp_ckpt_info(ckpt)->id, NULL, NULL, NULL),
                     WKSP_E_CORRUPT);
    *at ^= bit;
  }
  wksp_ckpt_close(ckpt);
  bed_end(&bed);
}

/* A file that is cut short, anywhere, or has more at its end, is found. */
static void cuts(void **state) {
  bed_t bed;
  two_new(&bed, WKSP_CKPT_ZSTD);
  static char const *const suffixes[] = {"ckpt", "pack"};
  for (uint f = 0; f < 2; f++) {
    mem_file_t *file = mem_file(&bed.mem, suffixes[f], 0);
    ulong len = file->len;
    for (uint n = 0; n < 200; n++) {
      file->len = n < 100 ? n * len / 100 : len - 1 - (n - 100);
      assert_int_equal(wksp_ckpt_verify(bed.store, 0, NULL, NULL, NULL), WKSP_E_CORRUPT);
    }
    file->len = len + 1;
    file->bytes = realloc(file->bytes, len + 1);
    file->bytes[len] = 0;
    assert_int_equal(wksp_ckpt_verify(bed.store, 0, NULL, NULL, NULL), WKSP_E_CORRUPT);
    file->len = len;
  }
  bed_end(&bed);
}

/* With a damaged manifest no pack is removed, since it may need any; with a pack that is shorter
   than it was, what was in it is written anew. */
static void kept(void **state) {
  bed_t bed;
  two_new(&bed, WKSP_CKPT_RAW);
  mem_file_t *manifest = mem_file(&bed.mem, "ckpt", 0), *pack = mem_file(&bed.mem, "pack", 0);
  manifest->bytes[100] ^= 1;
  wksp_ckpt_retention_t one = {.last = 1};
  wksp_ckpt_gone_t gone;
  assert_int_equal(wksp_ckpt_prune(bed.store, &one, &gone), 0);
  assert_int_equal(gone.file_cnt, 0);
  manifest->bytes[100] ^= 1;
  pack->len--;
  mem_file(&bed.mem, "pack", 1)
      ->len--; /* which of the two has what is needed depends on the seed */
  wksp_ckpt_result_t result;
  assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, NULL, &result), 0);
  assert_true(result.chunk_new_cnt > 0);
  assert_int_equal(wksp_ckpt_verify(bed.store, result.id, NULL, testing_sentence, NULL), 0);
  restored_t restored;
  assert_int_equal(sample_restore(bed.store, 0, NULL, &restored), 0);
  sample_same(&bed.sample, restored.wksp);
  restored_end(&restored);
  bed_end(&bed);
}

/* Whatever words of a workspace are damaged, taking a checkpoint ends, with one or an error, and
   what it takes is a checkpoint that restores or says why not. No access is outside the memory. */
static void hostile(void **state) {
  bed_t bed;
  two_new(&bed, WKSP_CKPT_RAW);
  fd_wksp_t *wksp = bed.sample.wksp;
  ulong size = wksp->footprint, took = 0, restored_cnt = 0;
  char *area = mmap(NULL, size + 2 * 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(area != MAP_FAILED);
  assert_int_equal(mprotect(area + 65536, size, PROT_READ | PROT_WRITE), 0);
  uint64_t *copy = (uint64_t *)(void *)(area + 65536);
  for (uint round = 0; round < 400; round++) {
    memcpy(copy, wksp, size);
    fd_wksp_t *join = fd_wksp_join_ro(copy);
    assert_non_null(join);
    ulong words = wksp->data_lo / 8, cnt = 1 + testing_below(&bed.rng, 6);
    for (ulong n = 0; n < cnt; n++) {
      /* often where something is: the header, the directory, used entries, span words, heaps */
      ulong at;
      switch (testing_below(&bed.rng, 6)) {
      case 0:
        at = testing_below(&bed.rng, 40);
        break;
      case 1:
        at = wksp->heap_off / 8 + testing_below(&bed.rng, 8);
        break;
      case 2:
        at = (wksp->part_off + 8192) / 8 + testing_below(&bed.rng, 300);
        break;
      case 3:
        at = wksp->span_off / 8 + testing_below(&bed.rng, 16);
        break;
      case 4:
        at = testing_below(&bed.rng, size / 8);
        break;
      default:
        at = testing_below(&bed.rng, words);
        break;
      }
      /* the version and the record would only make it wait */
      if (at * 8 >= wksp->vol_off && at * 8 < wksp->vol_off + sizeof(wksp__vol_t)) continue;
      switch (testing_below(&bed.rng, 4)) {
      case 0:
        copy[at] = testing_next(&bed.rng);
        break;
      case 1:
        copy[at] ^= 1UL << testing_below(&bed.rng, 64);
        break;
      case 2:
        copy[at] = copy[testing_below(&bed.rng, size / 8)];
        break;
      default:
        copy[at] += 64 * testing_below(&bed.rng, 4096);
        break;
      }
    }
    wksp_ckpt_result_t result;
    int err = wksp_ckpt_take(bed.store, join, NULL, &result);
    if (!err) {
      restored_t restored;
      took++;
      if (!sample_restore(bed.store, result.id, NULL, &restored)) {
        restored_cnt++;
        restored_end(&restored);
      }
      assert_int_equal(wksp_ckpt_remove(bed.store, result.id, NULL), 0);
    } else {
      assert_true(err == WKSP_E_CORRUPT || err == WKSP_E_VERSION || err == WKSP_E_INVAL);
    }
    ((struct fd_wksp *)copy)->footprint = wksp->footprint;
    assert_ptr_equal(fd_wksp_leave(join), copy);
  }
  printf("# %lu of 400 taken, %lu of these restored\n", took, restored_cnt);
  assert_true(took > 40);
  munmap(area, size + 2 * 65536);
  bed_end(&bed);
}

/* A damaged chunk that has not changed since is damaged in the next checkpoint, too, but not in one
   that relies on nothing of before. */
static void fresh(void **state) {
  bed_t bed;
  two_new(&bed, WKSP_CKPT_RAW);
  uchar *at = fd_wksp_laddr_fast(bed.sample.wksp, bed.sample.user[0]);
  ulong size = bed.sample.user_sz[0];
  void *was = malloc(size);
  memcpy(was, at, size);
  memset(at, 1, size);
  assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, NULL, NULL), 0);
  memcpy(at, was, size);
  free(was);
  for (uint i = 0; i < 3; i++) {
    mem_file_t *pack = mem_file(&bed.mem, "pack", i);
    for (ulong off = 0; off < pack->len; off += 64) pack->bytes[off] ^= 1;
  }
  wksp_ckpt_result_t result;
  wksp_ckpt_opts_t opts = {.fresh = 0};
  assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, &opts, &result), 0);
  assert_int_equal(result.chunk_new_cnt, 0);
  assert_int_equal(wksp_ckpt_verify(bed.store, result.id, NULL, NULL, NULL), WKSP_E_CORRUPT);
  opts.fresh = 1;
  assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, &opts, &result), 0);
  assert_int_equal(wksp_ckpt_verify(bed.store, result.id, NULL, testing_sentence, NULL), 0);
  restored_t restored;
  assert_int_equal(sample_restore(bed.store, 0, NULL, &restored), 0);
  sample_same(&bed.sample, restored.wksp);
  restored_end(&restored);
  /* What is as it was once before: the damaged bytes of then are not taken for it. */
  memset(at, 1, size);
  opts.fresh = 0;
  assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, &opts, &result), 0);
  assert_int_equal(wksp_ckpt_verify(bed.store, result.id, NULL, testing_sentence, NULL), 0);
  bed_end(&bed);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(flips), cmocka_unit_test(flips_of_one), cmocka_unit_test(cuts),
      cmocka_unit_test(kept),  cmocka_unit_test(fresh),        cmocka_unit_test(hostile),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
