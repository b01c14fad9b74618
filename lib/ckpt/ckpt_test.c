/* Tests of taking, looking and restoring, over a store in memory. */

#include "ckpt/testing.h"

#include "core/remake.h"

static ulong const DATA = 8UL << 20;

static wksp_ckpt_result_t take(bed_t *bed, wksp_ckpt_opts_t const *opts) {
  wksp_ckpt_result_t result;
  int err = wksp_ckpt_take(bed->store, bed->sample.wksp, opts, &result);
  if (err) printf("# %s\n", wksp_last_error());
  assert_int_equal(err, 0);
  return result;
}

/* A checkpoint restores to the same partitions, roots and live blocks, in each style, with one
   thread and with three, and its fd_alloc works. */
static void round_trip(void **state) {
  static char const *const styles[] = {"raw", "lz4", "zstd", "zstd:9", "zstd:-3"};
  for (uint s = 0; s < 5; s++) {
    bed_t bed;
    bed_new(&bed, s == 2 ? 300UL << 20 : DATA << s, s == 2 ? 20000 : 3000);
    wksp_ckpt_opts_t opts = {.threads = s % 2 ? 3 : 1};
    assert_int_equal(wksp_ckpt_style_parse(styles[s], &opts.style), 0);
    wksp_ckpt_result_t result = take(&bed, &opts);
    assert_int_equal(result.mode, WKSP_CKPT_FUZZY);
    restored_t restored;
    wksp_ckpt_restore_opts_t how = {.threads = opts.threads};
    assert_int_equal(sample_restore(bed.store, result.id, &how, &restored), 0);
    assert_int_equal(restored.result.live_sz, result.live_sz);
    sample_same(&bed.sample, restored.wksp);
    restored_end(&restored);
    assert_int_equal(wksp_ckpt_verify(bed.store, 0, NULL, testing_sentence, NULL), 0);
    assert_int_equal(wksp_ckpt_verify(bed.store, result.id, NULL, testing_sentence, NULL), 0);
    bed_end(&bed);
  }
}

/* A read-only join can be checkpointed, too. */
static void read_only(void **state) {
  bed_t bed;
  bed_new(&bed, DATA, 500);
  fd_wksp_t *wksp = bed.sample.wksp;
  ulong size = wksp->footprint;
  void *copy = testing_map(size);
  memcpy(copy, wksp, size);
  assert_int_equal(mprotect(copy, size, PROT_READ), 0);
  fd_wksp_t *ro = fd_wksp_join_ro(copy);
  assert_non_null(ro);
  assert_int_equal(wksp_ckpt_take(bed.store, ro, NULL, NULL), 0);
  wksp_ckpt_opts_t opts = {.mode = WKSP_CKPT_QUIESCE};
  assert_int_equal(wksp_ckpt_take(bed.store, ro, &opts, NULL), WKSP_E_RDONLY);
  restored_t restored;
  assert_int_equal(sample_restore(bed.store, 0, NULL, &restored), 0);
  sample_same(&bed.sample, restored.wksp);
  restored_end(&restored);
  assert_ptr_equal(fd_wksp_leave(ro), copy);
  munmap(copy, size);
  bed_end(&bed);
}

static int add_block(void *arg, fd_alloc_block_t const *block) {
  *(ulong *)arg += block->size;
  return 0;
}

/* Of a chunk's ranges: those of two partitions may touch. */
typedef struct told {
  ulong len, cnt, end;
} told_t;

static void told_run(void *arg, uint64_t gaddr, uint64_t len) {
  told_t *told = arg;
  told->cnt += !told->len || gaddr != told->end;
  told->len += len;
  told->end = gaddr + len;
}

/* A chunk's length and number of ranges, which are counted by words of live bits, are those of the
   ranges that a walk meets, with spans that end in a window and such that go on in the next. */
static void counted(void **state) {
  bed_t bed;
  ulong runs = 0;
  bed_new(&bed, 64UL << 20, 6000);
  for (uint round = 0; round < 8; round++) {
    wksp__ck_tables_t tables = {0};
    ulong live = 0;
    sample_change(&bed.sample, 300 * round, &bed.rng);
    assert_int_equal(wksp__ck_capture(bed.sample.wksp, 0, &tables), 0);
    for (ulong i = 0; i < tables.chunk_cnt; i++) {
      told_t told = {0};
      wksp__ck_runs(&tables, &tables.chunks[i], told_run, &told);
      assert_int_equal(told.len, tables.chunks[i].raw_len);
      assert_int_equal(told.cnt, tables.chunks[i].run_cnt);
      live += told.len;
      runs += told.cnt;
    }
    assert_int_equal(live, tables.live_sz);
    wksp__ck_tables_free(&tables);
  }
  assert_true(runs > 1000);
  bed_end(&bed);
}

/* What is free contributes nothing: the live bytes are those of users' partitions and of live
   blocks. */
static void only_live(void **state) {
  bed_t bed;
  bed_new(&bed, 64UL << 20, 8000);
  ulong want = FD_ALLOC_FOOTPRINT;
  for (uint i = 0; i < 8; i++) want += bed.sample.user[i] ? bed.sample.user_sz[i] : 0;
  fd_alloc_t *join = fd_alloc_join(fd_wksp_laddr(bed.sample.wksp, bed.sample.alloc_gaddr), 0);
  assert_int_equal(fd_alloc_walk(join, add_block, &want), 0);
  fd_alloc_leave(join);
  wksp_ckpt_result_t result = take(&bed, NULL);
  assert_int_equal(result.live_sz, want);
  assert_int_equal(result.scanned_sz, want);
  bed_end(&bed);
}

/* What has not changed is not written again, and each checkpoint is complete by itself whichever
   others are removed. */
static void incremental(void **state) {
  bed_t bed;
  bed_new(&bed, DATA, 3000);
  wksp_ckpt_result_t one = take(&bed, NULL), two = take(&bed, NULL);
  assert_true(one.chunk_new_cnt > 0);
  assert_int_equal(one.changed_sz > 0, 1);
  assert_int_equal(two.chunk_new_cnt, 0);
  assert_int_equal(two.changed_sz, 0);
  assert_true(two.id > one.id);
  assert_null(mem_file(&bed.mem, "pack", 1)); /* no second pack */
  uint64_t before = sample_digest(&bed.sample, bed.sample.wksp);
  sample_change(&bed.sample, 5, &bed.rng);
  wksp_ckpt_result_t three = take(&bed, NULL);
  assert_in_range(three.chunk_new_cnt, 1, one.chunk_new_cnt - 1);
  wksp_ckpt_gone_t gone;
  assert_int_equal(wksp_ckpt_remove(bed.store, one.id, &gone), 0);
  assert_int_equal(gone.ckpt_cnt, 1);
  assert_int_equal(gone.file_cnt, 1); /* its pack is needed */
  restored_t restored;
  assert_int_equal(sample_restore(bed.store, two.id, NULL, &restored), 0);
  assert_int_equal(sample_digest(&bed.sample, restored.wksp), before);
  restored_end(&restored);
  assert_int_equal(wksp_ckpt_remove(bed.store, two.id, NULL), 0);
  assert_int_equal(wksp_ckpt_remove(bed.store, two.id, NULL), WKSP_E_NOTFOUND);
  assert_int_equal(sample_restore(bed.store, three.id, NULL, &restored), 0);
  sample_same(&bed.sample, restored.wksp);
  restored_end(&restored);
  assert_int_equal(wksp_ckpt_remove(bed.store, three.id, &gone), 0);
  assert_int_equal(gone.file_cnt, 3);
  assert_null(mem_file(&bed.mem, "pack", 0));
  assert_int_equal(wksp_ckpt_open(bed.store, 0, &(wksp_ckpt_t *){NULL}), WKSP_E_NOTFOUND);
  bed_end(&bed);
}

/* The block that a thread had in flight is suspect after the restore, and told of. */
static void on_suspect(void *arg, ulong alloc, ulong gaddr) {
  ulong *told = arg;
  told[0]++;
  told[1] = alloc;
  told[2] = gaddr;
}

static void suspects(void **state) {
  bed_t bed;
  bed_new(&bed, DATA, 100);
  fd_alloc_t *join = fd_alloc_join(fd_wksp_laddr(bed.sample.wksp, bed.sample.alloc_gaddr), 0);
  ulong block = fd_wksp_gaddr(bed.sample.wksp, fd_alloc_malloc(join, 0, 100));
  wksp_ckpt_result_t result = take(&bed, NULL);
  assert_int_equal(result.suspect_cnt, 1);
  ulong told[3] = {0};
  wksp_ckpt_restore_opts_t how = {.on_suspect = on_suspect, .suspect_arg = told};
  restored_t restored;
  assert_int_equal(sample_restore(bed.store, 0, &how, &restored), 0);
  assert_int_equal(told[0], 1);
  assert_int_equal(told[1], bed.sample.alloc_gaddr);
  assert_int_equal(told[2], block);
  fd_alloc_t *again = fd_alloc_join(fd_wksp_laddr(restored.wksp, bed.sample.alloc_gaddr), 0);
  fd_alloc_stat_t stat;
  assert_int_equal(fd_alloc_stat(again, &stat), 0);
  assert_int_equal(stat.suspect_cnt, 1);
  fd_alloc_leave(again);
  fd_alloc_leave(join);
  restored_end(&restored);
  bed_end(&bed);
}

/* Some tags alone: their partitions and roots, an fd_alloc with all that it has if its head's
   partition is among them, and nothing else. */
static void by_tag(void **state) {
  bed_t bed;
  bed_new(&bed, DATA, 3000);
  take(&bed, NULL);
  restored_t restored;
  ulong tags[2] = {101, 104};
  wksp_ckpt_restore_opts_t how = {.tags = tags, .tag_cnt = 2};
  assert_int_equal(sample_restore(bed.store, 0, &how, &restored), 0);
  assert_int_equal(restored.result.part_cnt, 2);
  assert_int_equal(restored.result.root_cnt, 1);
  assert_int_equal(restored.result.alloc_cnt, 0);
  assert_int_equal(restored.result.live_sz, bed.sample.user_sz[1] + bed.sample.user_sz[4]);
  fd_wksp_usage_t usage;
  assert_int_equal(fd_wksp_usage(restored.wksp, NULL, 0, &usage), 0);
  assert_int_equal(usage.used_cnt, 2);
  for (uint i = 1; i <= 4; i += 3)
    assert_memory_equal(fd_wksp_laddr(restored.wksp, bed.sample.user[i]),
                        fd_wksp_laddr(bed.sample.wksp, bed.sample.user[i]), bed.sample.user_sz[i]);
  assert_int_equal(fd_wksp_root_find(restored.wksp, "alloc", NULL), WKSP_E_NOTFOUND);
  restored_end(&restored);
  tags[0] = 77;
  for (uint i = 0; i < 8; i++) bed.sample.user[i] = 0;
  how.tag_cnt = 1;
  assert_int_equal(sample_restore(bed.store, 0, &how, &restored), 0);
  sample_same(&bed.sample, restored.wksp);
  restored_end(&restored);
  bed_end(&bed);
}

/* Under another name, with another uuid and seed; and with more or less memory than it had, but
   never with less than what lives needs. */
static void otherwise(void **state) {
  bed_t bed;
  bed_new(&bed, 32UL << 20, 200);
  take(&bed, NULL);
  uchar uuid[16] = "another uuid 16";
  restored_t restored;
  wksp_ckpt_restore_opts_t how = {.name = "other", .uuid = uuid, .seed_set = 1, .seed = 99};
  wksp_ckpt_t *ckpt;
  assert_int_equal(wksp_ckpt_open(bed.store, 0, &ckpt), 0);
  wksp_ckpt_info_t const *info = wksp_ckpt_info(ckpt);
  ulong meta = info->size - info->data_sz;
  assert_true(info->size_min < info->size);
  how.data_sz = info->size_min - meta;
  assert_int_equal(sample_restore(bed.store, 0, &how, &restored), 0);
  assert_string_equal(fd_wksp_name(restored.wksp), "other");
  assert_int_equal(fd_wksp_seed(restored.wksp), 99);
  assert_memory_equal(restored.wksp->uuid, uuid, 16);
  assert_int_equal(fd_wksp_data_sz(restored.wksp), how.data_sz);
  /* a checkpoint of that one knows that it is smaller, and it can have all of it again */
  assert_int_equal(wksp_ckpt_take(bed.store, restored.wksp, NULL, NULL), 0);
  restored_end(&restored);
  assert_int_equal(sample_restore(bed.store, 0, NULL, &restored), 0);
  assert_int_equal(fd_wksp_data_sz(restored.wksp), how.data_sz);
  restored_end(&restored);
  how.data_sz = info->data_max;
  assert_int_equal(sample_restore(bed.store, 0, &how, &restored), 0);
  assert_int_equal(fd_wksp_data_sz(restored.wksp), info->data_max);
  sample_same(&bed.sample, restored.wksp);
  restored_end(&restored);
  how.data_sz = info->size_min - meta - WKSP_SPAN_SZ;
  assert_int_equal(sample_restore(bed.store, 0, &how, &restored), WKSP_E_LIMIT);
  how.data_sz = info->data_max + WKSP_SPAN_SZ;
  assert_int_equal(sample_restore(bed.store, 0, &how, &restored), WKSP_E_INVAL);
  how = (wksp_ckpt_restore_opts_t){.name = "no name"};
  assert_int_equal(sample_restore(bed.store, 0, &how, &restored), WKSP_E_INVAL);
  wksp_ckpt_close(ckpt);
  bed_end(&bed);
}

static int count_info(void *arg, wksp_ckpt_info_t const *info, char const *bad) {
  ulong *seen = arg;
  assert_null(bad);
  assert_true(info->id > seen[1]);
  seen[0]++;
  seen[1] = info->id;
  return 0;
}

/* Into footprint bytes of addresses: 0, or E_LIMIT; whatever was in it is there and works. */
static int refitted(bed_t *bed, wksp_ckpt_info_t const *info, ulong footprint) {
  wksp_ckpt_restore_opts_t how = {0};
  restored_t restored;
  int err = wksp_ckpt_refit(info, footprint, &how.part_max, &how.data_max);
  if (!err) how.data_sz = how.data_max; /* all of it */
  if (!err) err = sample_restore(bed->store, info->id, &how, &restored);
  if (err) {
    assert_int_equal(err, WKSP_E_LIMIT);
    return err;
  }
  assert_true(fd_wksp_footprint(how.part_max, how.data_max) <= footprint);
  sample_same(&bed->sample, restored.wksp);
  /* its room is usable from the first byte to the last */
  fd_wksp_usage_t usage;
  do {
    assert_int_equal(fd_wksp_usage(restored.wksp, NULL, 0, &usage), 0);
    if (usage.free_sz) assert_true(fd_wksp_alloc(restored.wksp, 64, usage.free_sz_max, 9));
  } while (usage.free_sz);
  assert_int_equal(fd_wksp_verify(restored.wksp, testing_sentence, NULL), 0);
  restored_end(&restored);
  return 0;
}

/* A restore at other sizes: all that lie between what lives and what the tables leave room for; the
   partitions, roots, fd_allocs and bytes are as they were, at the addresses that they had. */
static void refit(void **state) {
  bed_t bed;
  bed_new(&bed, DATA, 600);
  wksp_ckpt_result_t result = take(&bed, NULL);
  wksp_ckpt_t *ckpt;
  assert_int_equal(wksp_ckpt_open(bed.store, result.id, &ckpt), 0);
  wksp_ckpt_info_t info = *wksp_ckpt_info(ckpt);
  wksp_ckpt_close(ckpt);
  ulong part_max, data_max, most = info.footprint;
  while (!wksp_ckpt_refit(&info, most + WKSP_SPAN_SZ, &part_max, &data_max)) most += WKSP_SPAN_SZ;
  assert_true(most > info.footprint + info.footprint / 4);
  assert_int_equal(refitted(&bed, &info, info.footprint), 0);
  assert_int_equal(refitted(&bed, &info, info.size_min), 0);
  assert_int_equal(refitted(&bed, &info, info.size_min - WKSP_SPAN_SZ), WKSP_E_LIMIT);
  assert_int_equal(refitted(&bed, &info, WKSP_SPAN_SZ), WKSP_E_LIMIT);
  for (uint i = 0; i < 12; i++) {
    ulong footprint = info.size_min + testing_below(&bed.rng, most - info.size_min);
    assert_int_equal(refitted(&bed, &info, footprint), 0);
  }
  assert_int_equal(refitted(&bed, &info, most + WKSP_SPAN_SZ), WKSP_E_LIMIT);
  bed_end(&bed);
}

/* A restore to so many bytes of addresses, whose header says which scale its heaps have if it is
   not that of its size; and a checkpoint of it, which restores at the old size to what there was.
 */
static void crossed(bed_t *bed, ulong data_max, ulong footprint) {
  wksp_ckpt_result_t result = take(bed, NULL);
  uint32_t scale = wksp__scale(bed->sample.wksp);
  wksp_ckpt_restore_opts_t how = {0};
  wksp_ckpt_t *ckpt;
  restored_t other, back;
  assert_int_equal(wksp_ckpt_open(bed->store, result.id, &ckpt), 0);
  assert_int_equal(wksp_ckpt_refit(wksp_ckpt_info(ckpt), footprint, &how.part_max, &how.data_max),
                   0);
  wksp_ckpt_close(ckpt);
  how.data_sz = how.data_max;
  assert_int_equal(sample_restore(bed->store, result.id, &how, &other), 0);
  assert_int_not_equal(wksp__scale_for(how.data_max), scale);
  assert_int_equal(wksp__scale(other.wksp), scale);
  assert_int_not_equal(other.wksp->incompat, 0);
  assert_int_equal(other.wksp->incompat & ~WKSP_INCOMPAT_KNOWN, 0);
  assert_int_equal(wksp_ckpt_take(bed->store, other.wksp, NULL, &result), 0);
  sample_same(&bed->sample, other.wksp);
  restored_end(&other);
  how.data_max = data_max;
  how.data_sz = 0;
  how.part_max = bed->sample.wksp->part_max;
  assert_int_equal(sample_restore(bed->store, result.id, &how, &back), 0);
  assert_int_equal(back.wksp->incompat, 0);
  sample_same(&bed->sample, back.wksp);
  restored_end(&back);
}

/* Heaps have smaller spans and magazines below 256 and below 16 MiB of data. Blocks stay where they
   are, so a workspace that is restored on the other side of these keeps the heaps that it had, and
   has them in its own checkpoints; restored at the old size it is as ever. */
static void across(void **state) {
  static struct {
    ulong data, other; /* MiB; of the latter all is the workspace's */
  } const cases[] = {{15, 18}, {20, 14}, {250, 264}, {300, 200}};
  for (uint c = 0; c < sizeof cases / sizeof cases[0]; c++) {
    bed_t bed;
    bed_new(&bed, cases[c].data << 20, 400);
    crossed(&bed, cases[c].data << 20, cases[c].other << 20);
    bed_end(&bed);
  }
}

/* With no fd_alloc among what is restored, or at a size of the same kind, the header says nothing
   of heaps, and every library of the layout can serve it. */
static void no_heaps(void **state) {
  bed_t bed;
  bed_new(&bed, 20UL << 20, 100);
  take(&bed, NULL);
  ulong tags[] = {101, 104};
  restored_t restored;
  ulong part_max = bed.sample.wksp->part_max;
  wksp_ckpt_restore_opts_t how = {.tags = tags,
                                  .tag_cnt = 2,
                                  .part_max = part_max,
                                  .data_max = 14UL << 20,
                                  .data_sz = 14UL << 20};
  assert_int_equal(sample_restore(bed.store, 0, &how, &restored), 0);
  assert_int_equal(restored.wksp->incompat, 0);
  restored_end(&restored);
  how = (wksp_ckpt_restore_opts_t){
      .part_max = part_max, .data_max = 17UL << 20, .data_sz = 17UL << 20};
  assert_int_equal(sample_restore(bed.store, 0, &how, &restored), 0);
  assert_int_equal(restored.wksp->incompat, 0);
  sample_same(&bed.sample, restored.wksp);
  restored_end(&restored);
  bed_end(&bed);
}

/* A preview says what was taken, with the caller's texts and spec, and the listing prints it. */
static void looking(void **state) {
  bed_t bed;
  bed_new(&bed, DATA, 1000);
  wksp_ckpt_opts_t opts = {.info = "before the\nmigration",
                           .host = "machine",
                           .spec = "spec",
                           .spec_sz = 4,
                           .page_size = 4096,
                           .now_ns = 1700000000UL * 1000000000UL};
  wksp_ckpt_result_t result = take(&bed, &opts);
  take(&bed, NULL);
  ulong seen[2] = {0}, sz;
  assert_int_equal(wksp_ckpt_list(bed.store, count_info, seen), 0);
  assert_int_equal(seen[0], 2);
  wksp_ckpt_t *ckpt;
  assert_int_equal(wksp_ckpt_open(bed.store, result.id, &ckpt), 0);
  wksp_ckpt_info_t const *info = wksp_ckpt_info(ckpt);
  assert_int_equal(info->id, result.id);
  assert_string_equal(info->name, "test");
  assert_string_equal(info->host, "machine");
  assert_string_equal(info->info, opts.info);
  assert_int_equal(info->created_ns, opts.now_ns);
  assert_int_equal(info->live_sz, result.live_sz);
  assert_int_equal(info->root_cnt, 2);
  assert_int_equal(info->alloc_cnt, 1);
  assert_memory_equal(wksp_ckpt_spec(ckpt, &sz), "spec", 4);
  assert_int_equal(sz, 4);
  fd_wksp_part_t part, want;
  ulong from = 0, idx = 0;
  for (; wksp_ckpt_part(ckpt, idx, &part); idx++) {
    assert_int_equal(fd_wksp_part_next(bed.sample.wksp, from, &want), 1);
    assert_int_equal(part.gaddr, want.gaddr);
    assert_int_equal(part.tag, want.tag);
    from = part.gaddr + part.size;
  }
  assert_int_equal(idx, info->part_cnt);
  fd_wksp_root_t root;
  assert_int_equal(wksp_ckpt_root(ckpt, 0, &root), 1);
  assert_int_equal(wksp_ckpt_root(ckpt, 2, &root), 0);
  char *text = NULL;
  size_t len = 0;
  FILE *file = open_memstream(&text, &len);
  int printed = wksp_ckpt_fprintf(file, ckpt, 2);
  fclose(file);
  assert_int_equal(printed, (int)len);
  assert_non_null(strstr(text, "2023-11-14T22:13:20Z"));
  assert_non_null(strstr(text, "before the\\x0amigration"));
  assert_non_null(strstr(text, "root user: 0x"));
  free(text);
  wksp_ckpt_close(ckpt);
  bed_end(&bed);
}

static int stop_at(void *arg, wksp_ckpt_progress_t const *progress) {
  return --*(int *)arg <= 0;
}

/* A checkpoint that is cancelled, by its progress or by the writer, leaves nothing, and another can
   be taken. */
static void cancelled(void **state) {
  bed_t bed;
  bed_new(&bed, 64UL << 20, 3000);
  int left = 1;
  wksp_ckpt_opts_t opts = {.on_progress = stop_at, .progress_arg = &left, .threads = 2};
  assert_int_equal(wksp_ckpt_take(bed.store, bed.sample.wksp, &opts, NULL), WKSP_E_AGAIN);
  wksp_ckpt_writer_t *writer;
  assert_int_equal(wksp_ckpt_begin(bed.store, bed.sample.wksp, NULL, &writer), 0);
  assert_int_equal(wksp_ckpt_begin(bed.store, bed.sample.wksp, NULL, &writer), WKSP_E_BUSY);
  assert_int_equal(wksp_ckpt_gc(bed.store, NULL), WKSP_E_BUSY);
  assert_int_equal(wksp_ckpt_finish(writer), WKSP_E_INVAL);
  assert_int_equal(wksp_ckpt_scan(writer), 0);
  assert_int_equal(wksp_ckpt_scan(writer), WKSP_E_INVAL);
  wksp_ckpt_cancel(writer);
  for (uint i = 0; i < MEM_FILES_MAX; i++) assert_false(bed.mem.files[i].name[0]);
  take(&bed, NULL);
  left = 1;
  wksp_ckpt_read_opts_t read = {.on_progress = stop_at, .progress_arg = &left};
  assert_int_equal(wksp_ckpt_verify(bed.store, 0, &read, NULL, NULL), WKSP_E_AGAIN);
  restored_t restored;
  left = 1;
  wksp_ckpt_restore_opts_t how = {.on_progress = stop_at, .progress_arg = &left};
  assert_int_equal(sample_restore(bed.store, 0, &how, &restored), WKSP_E_AGAIN);
  bed_end(&bed);
}

/* What changed between the passes is in the checkpoint as it was in the second. */
static void two_passes(void **state) {
  bed_t bed;
  bed_new(&bed, DATA, 3000);
  wksp_ckpt_opts_t opts = {.style = {WKSP_CKPT_LZ4, 0}, .mode = WKSP_CKPT_QUIESCE};
  wksp_ckpt_writer_t *writer;
  wksp_ckpt_result_t result;
  assert_int_equal(wksp_ckpt_begin(bed.store, bed.sample.wksp, &opts, &writer), 0);
  assert_int_equal(wksp_ckpt_scan(writer), 0);
  sample_change(&bed.sample, 500, &bed.rng);
  assert_int_equal(wksp_ckpt_finish(writer), 0);
  wksp_ckpt_finished(writer, WKSP_CKPT_QUIESCE, 1234, NULL, 0);
  assert_int_equal(wksp_ckpt_publish(writer, &result), 0);
  assert_int_equal(result.mode, WKSP_CKPT_QUIESCE);
  assert_int_equal(result.pause_ns, 1234);
  restored_t restored;
  assert_int_equal(sample_restore(bed.store, 0, NULL, &restored), 0);
  sample_same(&bed.sample, restored.wksp);
  restored_end(&restored);
  assert_int_equal(wksp_ckpt_verify(bed.store, 0, NULL, testing_sentence, NULL), 0);
  bed_end(&bed);
}

/* An ephemeral fd_alloc, whose client is gone after a restore, is gone, and the others are not. */
static void ephemeral(void **state) {
  bed_t bed;
  bed_new(&bed, DATA, 300);
  fd_wksp_t *wksp = bed.sample.wksp;
  ulong at = fd_wksp_alloc(wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, 300);
  void *mem = fd_wksp_laddr(wksp, at);
  assert_non_null(fd_alloc_new(mem, 301));
  ((struct fd_alloc *)mem)->lease = 4711; /* as the daemon's client has it */
  ((struct fd_alloc *)mem)->flags |= FD_ALLOC_FLAG_EPHEMERAL;
  fd_alloc_t *join = fd_alloc_join(mem, 0);
  for (uint i = 0; i < 100; i++) assert_non_null(fd_alloc_malloc(join, 0, 1000));
  fd_alloc_leave(join);
  take(&bed, NULL);
  restored_t restored;
  assert_int_equal(sample_restore(bed.store, 0, NULL, &restored), 0);
  ulong tags[2] = {300, 301};
  assert_int_equal(fd_wksp_tag_query(restored.wksp, tags, 2, NULL, 0), 0);
  sample_same(&bed.sample, restored.wksp);
  restored_end(&restored);
  bed_end(&bed);
}

/* A workspace in which there is nothing has a checkpoint, too. */
static void empty(void **state) {
  mem_store_t mem;
  mem_store_new(&mem);
  wksp_ckpt_store_t *store = mem_store_open(&mem);
  fd_wksp_t *wksp = testing_wksp(64, 1UL << 20);
  wksp_ckpt_opts_t opts = {.mode = WKSP_CKPT_QUIESCE};
  wksp_ckpt_result_t result;
  assert_int_equal(wksp_ckpt_take(store, wksp, &opts, &result), 0);
  assert_int_equal(result.live_sz, 0);
  assert_int_equal(result.chunk_cnt, 0);
  restored_t restored;
  assert_int_equal(sample_restore(store, 0, NULL, &restored), 0);
  assert_true(fd_wksp_alloc(restored.wksp, 64, 1000, 1));
  assert_int_equal(fd_wksp_verify(restored.wksp, testing_sentence, NULL), 0);
  restored_end(&restored);
  assert_int_equal(wksp_ckpt_verify(store, 0, NULL, testing_sentence, NULL), 0);
  testing_wksp_end(wksp);
  wksp_ckpt_store_close(store);
  mem_store_end(&mem);
}

/* Arguments outside their ranges are refused. */
static void arguments(void **state) {
  bed_t bed;
  bed_new(&bed, DATA, 10);
  fd_wksp_t *wksp = bed.sample.wksp;
  wksp_ckpt_style_t style;
  static char const *const bad[] = {"", "rawr", "zstd:", "zstd:0", "zstd:20", "zstd:-8", "zstd:1x"};
  for (uint i = 0; i < 7; i++)
    assert_int_equal(wksp_ckpt_style_parse(bad[i], &style), WKSP_E_INVAL);
  assert_int_equal(wksp_ckpt_style_parse(NULL, &style), WKSP_E_INVAL);
  assert_int_equal(wksp_ckpt_take(NULL, wksp, NULL, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_ckpt_take(bed.store, NULL, NULL, NULL), WKSP_E_INVAL);
  wksp_ckpt_opts_t opts = {.style = {3, 0}};
  assert_int_equal(wksp_ckpt_take(bed.store, wksp, &opts, NULL), WKSP_E_INVAL);
  opts = (wksp_ckpt_opts_t){.style = {WKSP_CKPT_LZ4, 1}};
  assert_int_equal(wksp_ckpt_take(bed.store, wksp, &opts, NULL), WKSP_E_INVAL);
  opts = (wksp_ckpt_opts_t){.mode = 3};
  assert_int_equal(wksp_ckpt_take(bed.store, wksp, &opts, NULL), WKSP_E_INVAL);
  opts = (wksp_ckpt_opts_t){.spec_sz = WKSP_CKPT_SPEC_MAX + 1, .spec = "x"};
  assert_int_equal(wksp_ckpt_take(bed.store, wksp, &opts, NULL), WKSP_E_INVAL);
  opts = (wksp_ckpt_opts_t){.map_sz = 4096};
  assert_int_equal(wksp_ckpt_take(bed.store, wksp, &opts, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_ckpt_store_open("/nonexistent", &(wksp_ckpt_store_t *){NULL}),
                   WKSP_E_NOTFOUND);
  assert_int_equal(wksp_ckpt_publish(NULL, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_ckpt_remove(bed.store, 0, NULL), WKSP_E_INVAL);
  wksp_ckpt_restore_opts_t how = {0};
  assert_int_equal(wksp_ckpt_restore(NULL, &how, NULL), WKSP_E_INVAL);
  wksp_ckpt_cancel(NULL);
  wksp_ckpt_close(NULL);
  wksp_ckpt_store_close(NULL);
  bed_end(&bed);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(round_trip),  cmocka_unit_test(read_only), cmocka_unit_test(only_live),
      cmocka_unit_test(incremental), cmocka_unit_test(suspects),  cmocka_unit_test(by_tag),
      cmocka_unit_test(otherwise),   cmocka_unit_test(looking),   cmocka_unit_test(cancelled),
      cmocka_unit_test(two_passes),  cmocka_unit_test(ephemeral), cmocka_unit_test(empty),
      cmocka_unit_test(arguments),   cmocka_unit_test(refit),     cmocka_unit_test(counted),
      cmocka_unit_test(across),      cmocka_unit_test(no_heaps),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
