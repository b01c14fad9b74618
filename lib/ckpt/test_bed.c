/* test_bed: see testing.h. */

#include "ckpt/testing.h"

#include "core/layout.h"

/* A store in memory
 * ---------------------------------------------------------------------------------------------- */

/* 0, or how this call fails: *len is cut for a short one. */
static int fault(mem_store_t *mem, ulong *len) {
  if (++mem->call_cnt != mem->fault_at) return 0;
  if (mem->fault == MEM_FAULT_SHORT && len && *len > 1) {
    *len /= 2;
    return 0;
  }
  return mem->fault == MEM_FAULT_FULL ? -ENOSPC : -EIO;
}

static mem_file_t *find(mem_store_t *mem, char const *name) {
  for (uint i = 0; i < MEM_FILES_MAX; i++)
    if (!strcmp(mem->files[i].name, name)) return &mem->files[i];
  return NULL;
}

static mem_op_t *record(mem_store_t *mem, int kind, uint serial, char const *name) {
  if (mem->op_cnt == mem->op_cap) {
    mem->op_cap = mem->op_cap ? 2 * mem->op_cap : 64;
    mem->ops = realloc(mem->ops, mem->op_cap * sizeof *mem->ops);
    assert_non_null(mem->ops);
  }
  mem_op_t *op = &mem->ops[mem->op_cnt++];
  memset(op, 0, sizeof *op);
  op->kind = kind;
  op->serial = serial;
  if (name) snprintf(op->name, sizeof op->name, "%s", name);
  return op;
}

#define ENTER(mem) pthread_mutex_lock(&(mem)->mutex)
#define LEAVE(mem) pthread_mutex_unlock(&(mem)->mutex)

static int mem_open(void *self, char const *name, uint how, int *ret_file) {
  mem_store_t *mem = self;
  ENTER(mem);
  int err = fault(mem, NULL);
  mem_file_t *file = find(mem, name);
  if (!err && how == WKSP_CKPT_OPEN_CREATE) {
    if (file) err = -EEXIST;
    file = find(mem, "");
    if (!err && !file) err = -ENOSPC;
    if (!err) {
      snprintf(file->name, sizeof file->name, "%s", name);
      file->serial = ++mem->serial;
      record(mem, MEM_MAKE, file->serial, name);
    }
  }
  if (!err && !file) err = -ENOENT;
  if (!err) *ret_file = (int)(file - mem->files);
  LEAVE(mem);
  return err;
}

static void mem_close(void *self, int file) {
  (void)self;
  (void)file;
}

static void put(mem_file_t *file, void const *bytes, ulong len, ulong off) {
  if (!len) return; /* a short write may be none at all */
  if (off + len > file->cap) {
    file->cap = 2 * (off + len);
    file->bytes = realloc(file->bytes, file->cap);
    assert_non_null(file->bytes);
  }
  if (off > file->len) memset(file->bytes + file->len, 0, off - file->len);
  memcpy(file->bytes + off, bytes, len);
  if (off + len > file->len) file->len = off + len;
}

static long mem_pwrite(void *self, int at, void const *bytes, ulong len, ulong off) {
  mem_store_t *mem = self;
  mem_file_t *file = &mem->files[at];
  ENTER(mem);
  long rc = fault(mem, &len);
  if (!rc) {
    put(file, bytes, len, off);
    mem_op_t *op = record(mem, MEM_WRITE, file->serial, NULL);
    op->bytes = malloc(len + 1);
    assert_non_null(op->bytes);
    memcpy(op->bytes, bytes, len);
    op->len = len;
    op->off = off;
  }
  LEAVE(mem);
  return rc ? rc : (long)len;
}

static long mem_pread(void *self, int at, void *bytes, ulong len, ulong off) {
  mem_store_t *mem = self;
  mem_file_t *file = &mem->files[at];
  ENTER(mem);
  long rc = fault(mem, &len);
  if (off >= file->len)
    len = 0;
  else if (len > file->len - off)
    len = file->len - off;
  if (!rc && len) memcpy(bytes, file->bytes + off, len);
  LEAVE(mem);
  return rc ? rc : (long)len;
}

static int mem_size(void *self, int at, ulong *ret_size) {
  mem_store_t *mem = self;
  ENTER(mem);
  int err = fault(mem, NULL);
  if (!err) *ret_size = mem->files[at].len;
  LEAVE(mem);
  return err;
}

static int mem_fsync(void *self, int at) {
  mem_store_t *mem = self;
  ENTER(mem);
  int err = fault(mem, NULL);
  if (!err) record(mem, MEM_SYNC, mem->files[at].serial, NULL);
  LEAVE(mem);
  return err;
}

static void drop(mem_file_t *file) {
  free(file->bytes);
  memset(file, 0, sizeof *file);
}

static int mem_rename(void *self, char const *from, char const *to) {
  mem_store_t *mem = self;
  ENTER(mem);
  int err = fault(mem, NULL);
  mem_file_t *file = find(mem, from), *old = find(mem, to);
  if (!err && !file) err = -ENOENT;
  if (!err && old) drop(old);
  if (!err) {
    snprintf(file->name, sizeof file->name, "%s", to);
    mem_op_t *op = record(mem, MEM_RENAME, file->serial, from);
    snprintf(op->to, sizeof op->to, "%s", to);
  }
  LEAVE(mem);
  return err;
}

static int mem_unlink(void *self, char const *name) {
  mem_store_t *mem = self;
  ENTER(mem);
  int err = fault(mem, NULL);
  mem_file_t *file = find(mem, name);
  if (!err && !file) err = -ENOENT;
  if (!err) {
    record(mem, MEM_UNLINK, file->serial, name);
    drop(file);
  }
  LEAVE(mem);
  return err;
}

static int mem_fsync_folder(void *self) {
  mem_store_t *mem = self;
  ENTER(mem);
  int err = fault(mem, NULL);
  if (!err) record(mem, MEM_SYNC_FOLDER, 0, NULL);
  LEAVE(mem);
  return err;
}

static int mem_list(void *self, int (*on_name)(void *arg, char const *name), void *arg) {
  mem_store_t *mem = self;
  ENTER(mem);
  int err = fault(mem, NULL);
  LEAVE(mem);
  for (uint i = 0; i < MEM_FILES_MAX && !err; i++)
    if (mem->files[i].name[0]) err = on_name(arg, mem->files[i].name);
  return err;
}

void mem_store_new(mem_store_t *mem) {
  memset(mem, 0, sizeof *mem);
  pthread_mutex_init(&mem->mutex, NULL);
}

void mem_store_end(mem_store_t *mem) {
  for (uint i = 0; i < MEM_FILES_MAX; i++) drop(&mem->files[i]);
  for (ulong i = 0; i < mem->op_cnt; i++) free(mem->ops[i].bytes);
  free(mem->ops);
  pthread_mutex_destroy(&mem->mutex);
}

wksp_ckpt_store_t *mem_store_open(mem_store_t *mem) {
  wksp_ckpt_io_t io = {.self = mem,
                       .open = mem_open,
                       .close = mem_close,
                       .pwrite = mem_pwrite,
                       .pread = mem_pread,
                       .size = mem_size,
                       .fsync = mem_fsync,
                       .rename = mem_rename,
                       .unlink = mem_unlink,
                       .fsync_folder = mem_fsync_folder,
                       .list = mem_list};
  wksp_ckpt_store_t *store;
  assert_int_equal(wksp_ckpt_store_open_io(&io, &store), 0);
  return store;
}

mem_file_t *mem_file(mem_store_t *mem, char const *suffix, uint idx) {
  for (uint i = 0; i < MEM_FILES_MAX; i++) {
    char const *dot = strchr(mem->files[i].name, '.');
    if (dot && !strcmp(dot + 1, suffix) && !idx--) return &mem->files[i];
  }
  return NULL;
}

/* A power failure
 * ---------------------------------------------------------------------------------------------- */

/* Where the last sync of a file (serial), or of the folder (0), among the first cnt is; 0: none. */
static ulong last_sync(mem_store_t const *mem, ulong cnt, uint serial) {
  while (cnt && (mem->ops[cnt - 1].kind != (serial ? MEM_SYNC : MEM_SYNC_FOLDER) ||
                 mem->ops[cnt - 1].serial != serial))
    cnt--;
  return cnt;
}

/* What a change of names does to a table of them. */
static void rename_apply(mem_store_t *to, mem_op_t const *op) {
  mem_file_t *old = find(to, op->name);
  if (op->kind != MEM_MAKE && old) drop(old);
  if (op->kind == MEM_UNLINK) return;
  char const *name = op->kind == MEM_RENAME ? op->to : op->name;
  mem_file_t *file = find(to, name);
  if (file) drop(file);
  file = find(to, "");
  if (!file) abort();
  snprintf(file->name, sizeof file->name, "%s", name);
  file->serial = op->serial;
}

/* Whether an operation that was not durable has happened. *prefix: none does from the first that
   has not. */
static int happened(int how, testing_rng_t *rng, int *prefix) {
  if (how == POWER_GONE || how == POWER_KEPT) return how == POWER_KEPT;
  if (how == POWER_PREFIX && !*prefix) return 0;
  *prefix = (int)testing_below(rng, how == POWER_PREFIX ? 4 : 2) != 0;
  return *prefix;
}

static void file_power(mem_store_t const *mem, ulong cnt, int how, testing_rng_t *rng,
                       mem_file_t *file) {
  ulong synced = last_sync(mem, cnt, file->serial);
  int prefix = 1;
  for (ulong i = 0; i < cnt; i++) {
    mem_op_t const *op = &mem->ops[i];
    if (op->kind != MEM_WRITE || op->serial != file->serial) continue;
    ulong len = op->len;
    if (i >= synced && !happened(how, rng, &prefix)) {
      if (how != POWER_MIXED || testing_below(rng, 2)) continue;
      len = testing_below(rng, len + 1); /* a part of it */
    }
    put(file, op->bytes, len, op->off);
  }
}

void mem_store_power(mem_store_t const *mem, ulong cnt, int how, testing_rng_t *rng,
                     mem_store_t *ret) {
  ulong synced = last_sync(mem, cnt, 0);
  int prefix = 1;
  mem_store_new(ret);
  for (ulong i = 0; i < cnt; i++) {
    mem_op_t const *op = &mem->ops[i];
    if (op->kind != MEM_MAKE && op->kind != MEM_RENAME && op->kind != MEM_UNLINK) continue;
    if (i < synced || happened(how, rng, &prefix)) rename_apply(ret, op);
  }
  for (uint i = 0; i < MEM_FILES_MAX; i++)
    if (ret->files[i].name[0]) file_power(mem, cnt, how, rng, &ret->files[i]);
  ret->serial = mem->serial;
}

/* A workspace with something in it
 * ---------------------------------------------------------------------------------------------- */

/* Bytes that follow from a gaddr: half of them compressible. */
static void expect(uchar *to, ulong gaddr, ulong size) {
  uint64_t state = gaddr * 0x9e3779b97f4a7c15UL + 1;
  for (ulong i = 0; i < size; i++) {
    if (!(i & 7U)) state = state * 6364136223846793005UL + 1442695040888963407UL;
    to[i] = i & 4U ? (uchar)(state >> (8 * (i & 3U))) : (uchar)(gaddr >> 12);
  }
}

static void fill(fd_wksp_t *wksp, ulong gaddr, ulong size) {
  expect(fd_wksp_laddr_fast(wksp, gaddr), gaddr, size);
}

int sample_filled(fd_wksp_t const *wksp, ulong gaddr, ulong size) {
  uchar *want = malloc(size + 1);
  assert_non_null(want);
  expect(want, gaddr, size);
  int same = !memcmp(want, fd_wksp_laddr_fast(wksp, gaddr), size);
  free(want);
  return same;
}

static int filled(fd_wksp_t const *wksp, fd_wksp_t const *by, ulong gaddr, ulong size) {
  return !memcmp(fd_wksp_laddr_fast(wksp, gaddr), fd_wksp_laddr_fast(by, gaddr), size);
}

static fd_alloc_t *alloc_of(sample_t const *sample, fd_wksp_t *wksp) {
  fd_alloc_t *join = fd_alloc_join(fd_wksp_laddr_fast(wksp, sample->alloc_gaddr), 0);
  assert_non_null(join);
  return join;
}

static void block_new(sample_t *sample, fd_alloc_t *join, ulong i, testing_rng_t *rng) {
  static ulong const sizes[] = {16, 24, 64, 200, 500, 1500, 4000, 9000, 16384, 40000};
  ulong most = testing_below(rng, 40) ? 7 : 10;
  sample->size[i] = sizes[testing_below(rng, most)] - testing_below(rng, 8);
  void *block = fd_alloc_malloc(join, 0, sample->size[i]);
  sample->block[i] = block ? fd_wksp_gaddr_fast(sample->wksp, block) : 0;
  if (block) fill(sample->wksp, sample->block[i], sample->size[i]);
}

void sample_new(sample_t *sample, ulong data_max, ulong block_cnt, testing_rng_t *rng) {
  memset(sample, 0, sizeof *sample);
  sample->wksp = testing_wksp(1024, data_max);
  sample->block_cnt = block_cnt;
  sample->block = calloc(block_cnt + 1, sizeof(ulong));
  sample->size = calloc(block_cnt + 1, sizeof(ulong));
  assert_true(sample->block && sample->size);
  sample->alloc_gaddr = fd_wksp_alloc(sample->wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, 77);
  assert_true(sample->alloc_gaddr);
  assert_non_null(fd_alloc_new(fd_wksp_laddr_fast(sample->wksp, sample->alloc_gaddr), 78));
  for (uint i = 0; i < 8; i++) {
    sample->user_sz[i] = 64 * (1 + testing_below(rng, data_max / 64 / 64));
    sample->user[i] = fd_wksp_alloc(sample->wksp, 64, sample->user_sz[i], 100 + i);
    assert_true(sample->user[i]);
    fill(sample->wksp, sample->user[i], sample->user_sz[i]);
  }
  assert_int_equal(fd_wksp_free(sample->wksp, sample->user[3]), 0);
  sample->user[3] = 0;
  assert_int_equal(fd_wksp_root_set(sample->wksp, "alloc", sample->alloc_gaddr, 77), 0);
  assert_int_equal(fd_wksp_root_set(sample->wksp, "user", sample->user[1], 101), 0);
  fd_alloc_t *join = alloc_of(sample, sample->wksp);
  for (ulong i = 0; i < block_cnt; i++) block_new(sample, join, i, rng);
  for (ulong i = 0; i < block_cnt; i += 2) {
    fd_alloc_free(join, fd_wksp_laddr(sample->wksp, sample->block[i]));
    sample->block[i] = 0;
  }
  fd_alloc_leave(join);
}

void sample_change(sample_t *sample, ulong cnt, testing_rng_t *rng) {
  fd_alloc_t *join = alloc_of(sample, sample->wksp);
  for (ulong n = 0; n < cnt; n++) {
    ulong i = testing_below(rng, sample->block_cnt);
    if (sample->block[i]) {
      fd_alloc_free(join, fd_wksp_laddr(sample->wksp, sample->block[i]));
      sample->block[i] = 0;
    } else {
      block_new(sample, join, i, rng);
    }
  }
  fd_alloc_leave(join);
  uchar *user = fd_wksp_laddr_fast(sample->wksp, sample->user[2]);
  user[testing_below(rng, sample->user_sz[2])] ^= 1;
}

void sample_end(sample_t *sample) {
  free(sample->block);
  free(sample->size);
  testing_wksp_end(sample->wksp);
}

int sample_restore(wksp_ckpt_store_t *store, ulong id, wksp_ckpt_restore_opts_t const *opts,
                   restored_t *ret) {
  wksp_ckpt_t *ckpt;
  wksp_ckpt_restore_opts_t some = {0};
  memset(ret, 0, sizeof *ret);
  if (opts) some = *opts;
  int err = wksp_ckpt_open(store, id, &ckpt);
  if (err) return err;
  some.map_sz = ret->map_sz = some.data_max ? fd_wksp_footprint(some.part_max, some.data_max)
                                            : wksp_ckpt_info(ckpt)->footprint;
  some.shmem = ret->shmem = testing_map(ret->map_sz);
  err = wksp_ckpt_restore(ckpt, &some, &ret->result);
  wksp_ckpt_close(ckpt);
  if (err) {
    uint64_t magic = ((struct fd_wksp *)ret->shmem)->magic;
    munmap(ret->shmem, ret->map_sz);
    assert_int_not_equal(magic, WKSP_MAGIC);
    return err;
  }
  ret->wksp = fd_wksp_join(ret->shmem);
  assert_non_null(ret->wksp);
  return 0;
}

void restored_end(restored_t *restored) {
  assert_ptr_equal(fd_wksp_leave(restored->wksp), restored->shmem);
  munmap(restored->shmem, restored->map_sz);
}

void sample_same(sample_t const *sample, fd_wksp_t *wksp) {
  fd_wksp_root_t root;
  assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
  assert_int_equal(fd_wksp_root_find(wksp, "alloc", &root), 0);
  assert_int_equal(root.gaddr, sample->alloc_gaddr);
  assert_int_equal(root.tag, 77);
  for (uint i = 0; i < 8; i++) {
    if (!sample->user[i]) continue;
    assert_int_equal(fd_wksp_tag(wksp, sample->user[i]), 100 + i);
    assert_true(filled(wksp, sample->wksp, sample->user[i], sample->user_sz[i]));
  }
  fd_alloc_t *join = alloc_of(sample, wksp);
  fd_alloc_stat_t was, is;
  fd_alloc_t *old = alloc_of(sample, sample->wksp);
  assert_int_equal(fd_alloc_stat(old, &was), 0);
  assert_int_equal(fd_alloc_stat(join, &is), 0);
  assert_int_equal(was.small_cnt, is.small_cnt);
  assert_int_equal(was.large_cnt, is.large_cnt);
  fd_alloc_leave(old);
  for (ulong i = 0; i < sample->block_cnt; i++)
    if (sample->block[i])
      assert_true(filled(wksp, sample->wksp, sample->block[i], sample->size[i]));
  /* It works: what lives can be freed, and then nothing is left. */
  for (ulong i = 0; i < sample->block_cnt; i++) {
    void *more = fd_alloc_malloc(join, 0, sample->size[i]);
    if (more) memset(more, 0x5a, sample->size[i]);
    fd_alloc_free(join, more);
    if (sample->block[i]) fd_alloc_free(join, fd_wksp_laddr(wksp, sample->block[i]));
  }
  assert_int_equal(fd_alloc_is_empty(join), 1);
  fd_alloc_leave(join);
  assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
}

/* What lives
 * ---------------------------------------------------------------------------------------------- */

typedef struct folding {
  sample_t const *sample;
  fd_wksp_t *wksp;
  uint64_t sum;
} folding_t;

static void fold(folding_t *folding, void const *bytes, ulong len) {
  folding->sum = (folding->sum ^ wksp__ck_sum(bytes, len)) * 0x9e3779b97f4a7c15UL + len;
}

static void fold_run(void *arg, uint64_t gaddr, uint64_t len) {
  folding_t *folding = arg;
  fold(folding, &gaddr, sizeof gaddr);
  if (gaddr - folding->sample->alloc_gaddr < FD_ALLOC_FOOTPRINT) return;
  fold(folding, fd_wksp_laddr_fast(folding->wksp, gaddr), len);
}

uint64_t sample_digest(sample_t const *sample, fd_wksp_t *wksp) {
  folding_t folding = {.sample = sample, .wksp = wksp};
  wksp__ck_tables_t tables = {0};
  assert_int_equal(wksp__ck_capture(wksp, 0, &tables), 0);
  for (uint64_t i = 0; i < tables.part_cnt; i++)
    fold(&folding, &tables.parts[i], sizeof tables.parts[i]);
  for (uint64_t i = 0; i < tables.root_cnt; i++)
    fold(&folding, &tables.roots[i], sizeof tables.roots[i]);
  for (uint64_t i = 0; i < tables.chunk_cnt; i++)
    wksp__ck_runs(&tables, &tables.chunks[i], fold_run, &folding);
  wksp__ck_tables_free(&tables);
  return folding.sum;
}

/* A sample and its store
 * ---------------------------------------------------------------------------------------------- */

void bed_new(bed_t *bed, ulong data_max, ulong block_cnt) {
  bed->rng = testing_rng();
  mem_store_new(&bed->mem);
  bed->store = mem_store_open(&bed->mem);
  sample_new(&bed->sample, data_max, block_cnt, &bed->rng);
}

void bed_end(bed_t *bed) {
  sample_end(&bed->sample);
  wksp_ckpt_store_close(bed->store);
  mem_store_end(&bed->mem);
}
