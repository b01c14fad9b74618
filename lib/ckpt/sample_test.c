/* Tests of checkpoints of released formats, which lie in the folder $WKSP_CKPT_SAMPLES: each must
   restore for good. With --make FOLDER the program makes one of the present format instead, of a
   workspace whose contents follow from where they are; where they are stands in its spec, so that
   an fd_alloc may put blocks elsewhere one day. */

#include "ckpt/testing.h"

#include <dirent.h>
#include <unistd.h>

#define SEED 20261121UL

/* The workspace that all samples are of. */
static void original(sample_t *sample) {
  testing_rng_t rng = {SEED};
  sample_new(sample, 1UL << 20, 150, &rng);
}

/* What a spec lists. */
typedef struct place {
  ulong gaddr, size;
} place_t;

static int make(char const *folder) {
  sample_t sample;
  place_t places[256];
  ulong cnt = 0;
  wksp_ckpt_store_t *store;
  original(&sample);
  for (uint i = 0; i < 8; i++)
    if (sample.user[i]) places[cnt++] = (place_t){sample.user[i], sample.user_sz[i]};
  for (ulong i = 0; i < sample.block_cnt; i++)
    if (sample.block[i]) places[cnt++] = (place_t){sample.block[i], sample.size[i]};
  wksp_ckpt_opts_t opts = {.style = {WKSP_CKPT_ZSTD, 9},
                           .info = "a sample",
                           .host = "host",
                           .spec = places,
                           .spec_sz = cnt * sizeof *places,
                           .page_size = 4096,
                           .now_ns = 1795000000UL * 1000000000UL};
  wksp_ckpt_result_t result;
  if (wksp_ckpt_store_open(folder, &store) || wksp_ckpt_take(store, sample.wksp, &opts, &result)) {
    fprintf(stderr, "%s\n", wksp_last_error());
    return 1;
  }
  wksp_ckpt_store_close(store);
  sample_end(&sample);
  return 0;
}

static void contents_check(fd_wksp_t *wksp, place_t const *places, ulong cnt) {
  fd_wksp_root_t root;
  assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
  assert_int_equal(fd_wksp_root_find(wksp, "alloc", &root), 0);
  fd_alloc_t *join = fd_alloc_join(fd_wksp_laddr(wksp, root.gaddr), 0);
  assert_non_null(join);
  assert_true(cnt > 50);
  for (ulong i = 0; i < cnt; i++) {
    assert_true(sample_filled(wksp, places[i].gaddr, places[i].size));
    if (i >= 7) fd_alloc_free(join, fd_wksp_laddr(wksp, places[i].gaddr));
  }
  assert_int_equal(fd_alloc_is_empty(join), 1);
  fd_alloc_leave(join);
}

/* A folder of $WKSP_CKPT_SAMPLES is a store of one checkpoint, named after its format. */
static void restore_one(char const *path) {
  restored_t restored;
  wksp_ckpt_store_t *store;
  wksp_ckpt_t *ckpt;
  ulong sz;
  assert_int_equal(wksp_ckpt_store_open(path, &store), 0);
  assert_int_equal(wksp_ckpt_verify(store, 0, NULL, testing_sentence, NULL), 0);
  int err = sample_restore(store, 0, NULL, &restored);
  if (err) printf("# %s: %s\n", path, wksp_last_error());
  assert_int_equal(err, 0);
  assert_int_equal(wksp_ckpt_open(store, 0, &ckpt), 0);
  assert_string_equal(wksp_ckpt_info(ckpt)->info, "a sample");
  place_t const *places = wksp_ckpt_spec(ckpt, &sz);
  contents_check(restored.wksp, places, sz / sizeof *places);
  wksp_ckpt_close(ckpt);
  restored_end(&restored);
  wksp_ckpt_store_close(store);
}

/* Each checkpoint that was committed as a sample of a format restores to what it was taken of. */
static void samples(void **state) {
  char const *top = getenv("WKSP_CKPT_SAMPLES");
  assert_non_null(top);
  DIR *dir = opendir(top);
  assert_non_null(dir);
  uint cnt = 0;
  for (struct dirent const *entry; (entry = readdir(dir));) {
    char path[1024];
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%s", top, entry->d_name);
    restore_one(path);
    cnt++;
  }
  closedir(dir);
  assert_true(cnt > 0);
}

/* A store in a folder is the same as one in memory, and two writers of it exclude each other. */
static void folder(void **state) {
  char path[] = "/tmp/wksp-ckpt-XXXXXX", command[64];
  sample_t sample;
  restored_t restored;
  wksp_ckpt_store_t *store, *other;
  wksp_ckpt_writer_t *writer;
  original(&sample);
  assert_non_null(mkdtemp(path));
  assert_int_equal(wksp_ckpt_store_open(path, &store), 0);
  assert_int_equal(wksp_ckpt_store_open(path, &other), 0);
  wksp_ckpt_opts_t opts = {.still = 1};
  for (uint i = 0; i < 3; i++) {
    opts.style.codec = i;
    assert_int_equal(wksp_ckpt_take(i & 1 ? other : store, sample.wksp, &opts, NULL), 0);
    assert_int_equal(sample_restore(store, 0, NULL, &restored), 0);
    restored_end(&restored);
  }
  assert_int_equal(wksp_ckpt_begin(store, sample.wksp, NULL, &writer), 0);
  assert_int_equal(wksp_ckpt_gc(other, NULL), WKSP_E_BUSY);
  wksp_ckpt_cancel(writer);
  assert_int_equal(wksp_ckpt_verify(other, 0, NULL, testing_sentence, NULL), 0);
  wksp_ckpt_retention_t last = {.last = 1};
  wksp_ckpt_gone_t gone;
  assert_int_equal(wksp_ckpt_prune(other, &last, &gone), 0);
  assert_int_equal(gone.ckpt_cnt, 2);
  assert_int_equal(sample_restore(other, 0, NULL, &restored), 0);
  sample_same(&sample, restored.wksp);
  restored_end(&restored);
  wksp_ckpt_store_close(store);
  wksp_ckpt_store_close(other);
  snprintf(command, sizeof command, "rm -r %s", path);
  assert_int_equal(system(command), 0);
  sample_end(&sample);
}

int main(int argc, char **argv) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(samples), cmocka_unit_test(folder)};
  if (argc == 3 && !strcmp(argv[1], "--make")) return make(argv[2]);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
