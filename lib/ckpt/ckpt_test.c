/* Tests of taking, looking, keeping and restoring, over a store in memory. */

#include "ckpt/testing.h"

#include "wksp/pause.h"

#include <unistd.h>

static ulong const DATA = 8UL << 20;

static wksp_ckpt_opts_t const RAW = {.style = {WKSP_CKPT_RAW, 0}, .host = "host", .info = "text"};

static ulong take(wksp_ckpt_store_t *store, fd_wksp_t *wksp, wksp_ckpt_opts_t const *opts) {
  wksp_ckpt_result_t result;
  assert_int_equal(wksp_ckpt_take(store, wksp, opts, &result), 0);
  return result.id;
}

/* A checkpoint restores to the same partitions, roots and live blocks, in each style, with one
   thread and with three, and its fd_alloc works. */
static void round_trip(void **state) {
  testing_rng_t rng = testing_rng();
  static char const *const styles[] = {"raw", "lz4", "zstd", "zstd:9", "zstd:-3"};
  for (uint s = 0; s < 5; s++) {
    sample_t sample;
    mem_store_t mem;
    mem_store_new(&mem);
    wksp_ckpt_store_t *store = mem_store_open(&mem);
    sample_new(&sample, DATA << (s % 2 ? 1 : 0), 3000, &rng);
    wksp_ckpt_opts_t opts = {.threads = s % 2 ? 3 : 1};
    assert_int_equal(wksp_ckpt_style_parse(styles[s], &opts.style), 0);
    take(store, sample.wksp, &opts);
    restored_t restored;
    assert_int_equal(sample_restore(store, 0, NULL, &restored), 0);
    sample_same(&sample, restored.wksp);
    restored_end(&restored);
    assert_int_equal(wksp_ckpt_verify(store, 0, NULL, testing_sentence, NULL), 0);
    sample_end(&sample);
    wksp_ckpt_store_close(store);
    mem_store_end(&mem);
  }
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(round_trip),
  };
  (void)RAW;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
