/* Tests of what is left: by checkpoints that failed or were killed, and for those who read while
   others remove. */

#include "ckpt/testing.h"

static uint file_cnt(mem_store_t *mem) {
  uint cnt = 0;
  for (uint i = 0; i < MEM_FILES_MAX; i++) cnt += mem->files[i].name[0] != 0;
  return cnt;
}

static void leave(bed_t *bed, char const *name) {
  wksp_ckpt_io_t const *io = &bed->store->io;
  int file;
  assert_int_equal(io->open(io->self, name, WKSP_CKPT_OPEN_CREATE, &file), 0);
  assert_int_equal(io->pwrite(io->self, file, "left", 4, 0), 4);
  io->close(io->self, file);
}

/* What a killed writer has left under the names that come next, since the clock was set back, is in
   nobody's way. */
static void same_names(void **state) {
  bed_t bed;
  bed_new(&bed, 1UL << 20, 60);
  wksp_ckpt_opts_t opts = {.now_ns = 1700000000UL * 1000000000UL};
  wksp_ckpt_result_t result;
  char name[WKSP_CKPT_FILE_NAME_MAX + 1];
  assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, &opts, &result), 0);
  opts.now_ns = 1;
  opts.fresh = 1;
  for (int kind = WKSP_CK_FILE_CKPT; kind <= WKSP_CK_FILE_PACK; kind++)
    leave(&bed, wksp__ck_file_name(result.id + 1, kind, 1, name));
  if (wksp_ckpt_take(bed.store, bed.sample.wksp, &opts, &result)) fail_msg("%s", wksp_last_error());
  assert_int_equal(file_cnt(&bed.mem), 4);
  /* a pack may be one to which chunks of others have moved: it is not replaced */
  ulong left = result.id + 1;
  leave(&bed, wksp__ck_file_name(left, WKSP_CK_FILE_PACK, 0, name));
  if (wksp_ckpt_take(bed.store, bed.sample.wksp, &opts, &result)) fail_msg("%s", wksp_last_error());
  assert_int_equal(result.id, left + 1);
  assert_int_equal(file_cnt(&bed.mem), 7);
  assert_int_equal(wksp_ckpt_verify(bed.store, 0, NULL, testing_sentence, NULL), 0);
  bed_end(&bed);
}

/* A checkpoint that fails at whatever call takes no room: on a full disk each try would take more
   of it. But for the very last call: the manifest had its name then, and may come back. */
static void failed(void **state) {
  bed_t bed;
  bed_new(&bed, 1UL << 20, 60);
  wksp_ckpt_opts_t opts = {.fresh = 1, .threads = 1};
  assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, &opts, NULL), 0);
  uint before = file_cnt(&bed.mem), tries = 0;
  for (ulong calls = 1;; calls++) {
    bed.mem.fault_at = bed.mem.call_cnt + calls;
    bed.mem.fault = MEM_FAULT_FULL;
    ulong upto = bed.mem.fault_at;
    int err = wksp_ckpt_take(bed.store, bed.sample.wksp, &opts, NULL);
    int last = bed.mem.call_cnt == upto + 1; /* and the unlink of the manifest */
    bed.mem.fault_at = 0;
    if (!err) break;
    tries++;
    assert_null(mem_file(&bed.mem, "ckpt", 1));
    assert_null(mem_file(&bed.mem, "ckpt.tmp", 0));
    assert_null(mem_file(&bed.mem, "pack.tmp", 0));
    if (!last || mem_file(&bed.mem, "pack", 1) == NULL)
      assert_int_equal(file_cnt(&bed.mem), before);
    wksp_ckpt_gc(bed.store, NULL);
    assert_int_equal(file_cnt(&bed.mem), before);
  }
  assert_true(tries > 8);
  bed_end(&bed);
}

/* A manifest that says what no writer says is damaged, though its checksums are right: who wrote it
   may have been taken over. A file with the id that means the newest is not of the store. */
static void impossible(void **state) {
  bed_t bed;
  bed_new(&bed, 1UL << 20, 60);
  wksp_ckpt_result_t result;
  assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, NULL, &result), 0);
  for (int what = 0; what < 3; what++) {
    wksp_ckpt_t *ckpt, *again;
    void *bytes;
    uint64_t len;
    assert_int_equal(wksp__ck_manifest_load(bed.store, result.id, WKSP_CK_LOAD_ALL, &ckpt), 0);
    if (what == 0) ckpt->wire.mode = 7;
    if (what == 1) ckpt->wire.mode_asked = 0;
    if (what == 2) ckpt->wire.codec = 3;
    assert_int_equal(wksp__ck_manifest_make(ckpt, &bytes, &len), 0);
    assert_int_equal(wksp__ck_manifest_parse(bytes, len, WKSP_CK_LOAD_INFO, &again),
                     WKSP_E_CORRUPT);
    free(bytes);
    wksp_ckpt_close(ckpt);
  }
  leave(&bed, "0000000000000000.ckpt");
  ulong *ids;
  uint64_t cnt;
  assert_int_equal(wksp__ck_ids(bed.store, &ids, &cnt), 0);
  assert_int_equal(cnt, 1);
  free(ids);
  bed_end(&bed);
}

/* A store in whose way somebody removes: at the first read of a pack. */
typedef struct remover {
  wksp_ckpt_io_t io;
  bed_t *bed;
  ulong id; /* 0: it is done */
} remover_t;

static int remover_open(void *self, char const *name, uint how, int *ret_file) {
  remover_t *remover = self;
  ulong id = remover->id;
  if (id && strstr(name, ".pack")) {
    remover->id = 0;
    assert_int_equal(wksp_ckpt_remove(remover->bed->store, id, NULL), 0);
  }
  return remover->io.open(remover->io.self, name, how, ret_file);
}
static void remover_close(void *self, int file) {
  remover_t *remover = self;
  remover->io.close(remover->io.self, file);
}
static long remover_pread(void *self, int file, void *bytes, ulong len, ulong off) {
  remover_t *remover = self;
  return remover->io.pread(remover->io.self, file, bytes, len, off);
}
static int remover_size(void *self, int file, ulong *ret_size) {
  remover_t *remover = self;
  return remover->io.size(remover->io.self, file, ret_size);
}
static int remover_list(void *self, int (*on_name)(void *arg, char const *name), void *arg) {
  remover_t *remover = self;
  return remover->io.list(remover->io.self, on_name, arg);
}

/* A checkpoint that is removed while it is verified is not called damaged: of one E_NOTFOUND says
   so, and a whole store is sound without it. */
static void removed(void **state) {
  for (int whole = 0; whole < 2; whole++) {
    bed_t bed;
    bed_new(&bed, 1UL << 20, 60);
    wksp_ckpt_result_t result;
    assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, NULL, &result), 0);
    remover_t remover = {.io = bed.store->io, .bed = &bed, .id = result.id};
    wksp_ckpt_store_t reading = {.io = bed.store->io};
    reading.io.self = &remover;
    reading.io.open = remover_open;
    reading.io.close = remover_close;
    reading.io.pread = remover_pread;
    reading.io.size = remover_size;
    reading.io.list = remover_list;
    wksp_ckpt_read_opts_t opts = {.threads = 1};
    assert_int_equal(
        wksp_ckpt_verify(&reading, whole ? 0 : result.id, &opts, testing_sentence, NULL),
        whole ? 0 : WKSP_E_NOTFOUND);
    assert_int_equal(remover.id, 0);
    bed_end(&bed);
  }
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(same_names),
      cmocka_unit_test(failed),
      cmocka_unit_test(impossible),
      cmocka_unit_test(removed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
