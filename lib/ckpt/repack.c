/* repack: packs of which little is needed any more are written anew, without the rest.

   A pack stays as long as one chunk of it is needed, so after years of retention a store consists
   of packs that are mostly dead. Here all that is needed of such packs goes into one new pack, and
   each manifest that names them is replaced by one that says the same and names that. Order:

     1. the new pack is durable, under its name
     2. manifests, one by one: written, durable, renamed over what they replace
     3. the folder is durable
     4. packs that no manifest names any more are removed

   A failure, a kill or a power failure leaves at each moment, for each checkpoint, a manifest whose
   packs are there: before 3 some name the old packs and some the new, and all of these stay. What
   is left over is gc's. Every chunk is checked when it is copied, so damage is not carried along
   under a good name: then nothing is done.

   Refuses: stores with a manifest that cannot be read, which may need any pack; packs of
   checkpoints that are still there, for a new checkpoint knows one that relies on nothing but
   itself by its pack (index.c). */

#include "ckpt/store.h"
#include "ckpt/work.h"

#include "core/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PERCENT_DEFAULT 50U
#define LEAST_DEFAULT   (1UL << 20)

/* Bytes of manifests that are read as a whole; larger ones are of no store that is worth it. */
#define MANIFEST_MAX (1UL << 32)

typedef struct repack {
  wksp_ckpt_store_t *store;
  wksp_ckpt_repack_opts_t opts;
  ulong *ids; /* of manifests, ascending */
  uint64_t id_cnt;
  wksp_ckpt_t from;     /* its packs: those to be written anew, ascending by id */
  uint64_t pack_cap;    /* of from.packs */
  uint64_t *needed_sz;  /* bytes of each that are needed */
  wksp__ck_ref_t *refs; /* frames of these that are needed, by pack and place */
  uint64_t *to;         /* where each of them is in the new pack */
  uint64_t ref_cnt, ref_cap, ref_unique;
  wksp__ck_pack_t pack;
  wksp__ck_reader_t reader;
  wksp__ck_bench_t *benches;
  uint64_t pack_sz;
  int named; /* a manifest that names the new pack may have got its name */
} repack_t;

static int id_order(void const *a, void const *b) {
  ulong one = *(ulong const *)a, two = *(ulong const *)b;
  return one < two ? -1 : one > two;
}

/* wksp__ck_wire_pack_t begins with its id. */
static wksp__ck_wire_pack_t *pack_find(repack_t const *self, ulong id) {
  wksp_ckpt_t const *from = &self->from;
  return from->info.pack_cnt
             ? bsearch(&id, from->packs, from->info.pack_cnt, sizeof *from->packs, id_order)
             : NULL;
}

static int ref_order(void const *a, void const *b) {
  wksp__ck_ref_t const *one = a, *two = b;
  if (one->pack != two->pack) return one->pack < two->pack ? -1 : 1;
  return one->off < two->off ? -1 : one->off > two->off;
}

/* What is needed
 * ---------------------------------------------------------------------------------------------- */

/* Each frame once, in order. */
static void refs_settle(repack_t *self) {
  uint64_t kept = 0;
  if (self->ref_cnt) qsort(self->refs, self->ref_cnt, sizeof *self->refs, ref_order);
  for (uint64_t i = 0; i < self->ref_cnt; i++)
    if (!kept || ref_order(&self->refs[kept - 1], &self->refs[i]))
      self->refs[kept++] = self->refs[i];
  self->ref_cnt = self->ref_unique = kept;
}

/* Whether it is there, as long as it should be. */
static int whole(repack_t const *self, wksp__ck_wire_pack_t const *pack) {
  wksp_ckpt_io_t const *io = &self->store->io;
  char name[WKSP_CKPT_FILE_NAME_MAX + 1];
  ulong size = 0;
  int file;
  if (io->open(io->self, wksp__ck_file_name(pack->id, WKSP_CK_FILE_PACK, 0, name),
               WKSP_CKPT_OPEN_READ, &file))
    return 0;
  int err = io->size(io->self, file, &size);
  io->close(io->self, file);
  return !err && size == pack->file_sz;
}

/* Packs that it names, that are there and have no checkpoint of their own, as candidates. */
static int packs_add(repack_t *self, wksp_ckpt_t const *ckpt) {
  wksp_ckpt_t *from = &self->from;
  for (uint64_t i = 0; i < ckpt->info.pack_cnt; i++) {
    wksp__ck_wire_pack_t const *pack = &ckpt->packs[i];
    if (pack_find(self, pack->id) ||
        bsearch(&pack->id, self->ids, self->id_cnt, sizeof *self->ids, id_order) ||
        !whole(self, pack))
      continue;
    int err =
        wksp__ck_grow(&from->packs, from->info.pack_cnt, &self->pack_cap, sizeof *from->packs);
    if (err) return err;
    from->packs[from->info.pack_cnt++] = *pack;
    qsort(from->packs, from->info.pack_cnt, sizeof *from->packs, id_order);
  }
  return 0;
}

static int refs_add(repack_t *self, wksp_ckpt_t const *ckpt) {
  for (uint64_t i = 0; i < ckpt->info.chunk_cnt; i++) {
    wksp__ck_ref_t ref = ckpt->refs[i];
    wksp__ck_wire_pack_t const *pack = pack_find(self, ckpt->packs[ref.pack].id);
    if (!pack) continue;
    /* most are those that another manifest had: twice as many as there are, at most */
    if (self->ref_cnt > 2 * self->ref_unique + 4096) refs_settle(self);
    int err = wksp__ck_grow(&self->refs, self->ref_cnt, &self->ref_cap, sizeof *self->refs);
    if (err) return err;
    ref.pack = (uint32_t)(pack - self->from.packs);
    self->refs[self->ref_cnt++] = ref;
  }
  return 0;
}

/* Calls each with each checkpoint. */
static int each_ckpt(repack_t *self, int (*each)(repack_t *self, wksp_ckpt_t const *ckpt)) {
  int err = 0;
  for (uint64_t i = 0; i < self->id_cnt && !err; i++) {
    wksp_ckpt_t *ckpt;
    err = wksp__ck_manifest_load(self->store, self->ids[i], WKSP_CK_LOAD_REFS, &ckpt);
    if (err) break;
    err = each(self, ckpt);
    wksp_ckpt_close(ckpt);
  }
  return err;
}

/* Of the candidates those of which little is needed, and their frames, stay. 1: nothing is worth
   it; 0; E_NOMEM (reported). */
static int choose(repack_t *self) {
  wksp_ckpt_t *from = &self->from;
  uint64_t cnt = from->info.pack_cnt, kept = 0, ref_kept = 0, win_sz = 0;
  uint32_t *now = calloc(cnt + 1, sizeof *now);
  self->needed_sz = calloc(cnt + 1, sizeof *self->needed_sz);
  if (!now || !self->needed_sz) {
    free(now);
    return wksp__fail(WKSP_E_NOMEM, "repack: no memory for a list of %lu packs", cnt);
  }
  for (uint64_t i = 0; i < self->ref_cnt; i++)
    self->needed_sz[self->refs[i].pack] += sizeof(wksp__ck_frame_t) + self->refs[i].stored_len;
  for (uint64_t i = 0; i < cnt; i++) {
    uint64_t needed = self->needed_sz[i], size = from->packs[i].file_sz;
    now[i] = UINT32_MAX;
    if (!needed || needed > size / 100 * self->opts.percent + size % 100) continue;
    now[i] = (uint32_t)kept;
    win_sz += size - needed;
    from->packs[kept++] = from->packs[i];
  }
  from->info.pack_cnt = kept;
  for (uint64_t i = 0; i < self->ref_cnt; i++) {
    wksp__ck_ref_t ref = self->refs[i];
    ref.pack = now[ref.pack];
    if (ref.pack != UINT32_MAX) self->refs[ref_kept++] = ref;
  }
  self->ref_cnt = ref_kept;
  free(now);
  return !kept || win_sz < self->opts.least_sz;
}

/* The new pack
 * ---------------------------------------------------------------------------------------------- */

static int copy_piece(void *arg, uint32_t thread, uint64_t idx, wksp__ck_work_t *work) {
  repack_t *self = arg;
  wksp__ck_bench_t *bench = &self->benches[thread];
  wksp__ck_ref_t const *ref = &self->refs[idx];
  int err = wksp__ck_reader_get(&self->reader, bench->coder, ref, 1, bench->stored, bench->raw);
  if (err) return err;
  void const *apart = ref->codec == WKSP_CKPT_RAW ? bench->raw : NULL;
  err = wksp__ck_pack_add(&self->pack, bench->stored, apart, ref->codec, ref->raw_len,
                          ref->stored_len, ref->digest, &self->to[idx]);
  wksp__ck_work_done(work, ref->stored_len, ref->stored_len);
  return err;
}

static int copy(repack_t *self) {
  ulong id = 0;
  uint64_t total = 0;
  for (uint64_t i = 0; i < self->ref_cnt; i++) total += self->refs[i].stored_len;
  uint32_t threads = wksp__ck_threads(self->opts.threads, total);
  self->to = calloc(self->ref_cnt + 1, sizeof *self->to);
  if (!self->to) return wksp__fail(WKSP_E_NOMEM, "repack: no memory for %lu places", self->ref_cnt);
  int err = wksp__ck_benches_new(threads, 1UL << WKSP_CK_CHUNK_LG_MAX, &self->benches);
  if (!err) err = wksp__ck_id_next(self->store, 0, &id);
  if (!err) err = wksp__ck_reader_begin(&self->reader, &self->from);
  if (err) {
    wksp__ck_benches_free(self->benches, threads);
    return err;
  }
  wksp__ck_job_t job = {.piece = copy_piece,
                        .arg = self,
                        .cnt = self->ref_cnt,
                        .threads = threads,
                        .phase = WKSP_CKPT_PHASE_WRITE,
                        .total_sz = total,
                        .rate = self->opts.rate,
                        .on_progress = self->opts.on_progress,
                        .progress_arg = self->opts.progress_arg};
  wksp__ck_pack_new(self->store, id, &self->pack);
  err = wksp__ck_pack_begin(&self->pack, wksp__real_ns());
  if (!err) err = wksp__ck_work(&job);
  if (err)
    wksp__ck_pack_cancel(&self->pack);
  else
    err = wksp__ck_pack_publish(&self->pack, &self->pack_sz);
  wksp__ck_reader_end(&self->reader);
  wksp__ck_benches_free(self->benches, threads);
  return err;
}

/* Manifests
 * ---------------------------------------------------------------------------------------------- */

/* Of a manifest that names packs which have gone anew: what it is to say instead. 1 if it does not,
   0, E_NOMEM (reported). */
static int moved_refs(repack_t const *self, wksp_ckpt_t *ckpt) {
  uint64_t cnt = ckpt->info.pack_cnt, kept = 0, named = 0;
  for (uint64_t i = 0; i < cnt; i++) named += pack_find(self, ckpt->packs[i].id) != NULL;
  if (!named) return 1;
  wksp__ck_wire_pack_t *packs = calloc(cnt + 1, sizeof *packs);
  uint32_t *now = calloc(cnt + 1, sizeof *now);
  if (!packs || !now) {
    free(packs);
    free(now);
    return wksp__fail(WKSP_E_NOMEM, "repack: no memory for a list of packs");
  }
  for (uint64_t i = 0; i < cnt; i++) {
    now[i] = pack_find(self, ckpt->packs[i].id) ? UINT32_MAX : (uint32_t)kept;
    if (now[i] != UINT32_MAX) packs[kept++] = ckpt->packs[i];
  }
  packs[kept] = (wksp__ck_wire_pack_t){self->pack.id, self->pack_sz};
  for (uint64_t i = 0; i < ckpt->info.chunk_cnt; i++) {
    wksp__ck_ref_t *ref = &ckpt->refs[i], key = *ref;
    if (now[ref->pack] != UINT32_MAX) {
      ref->pack = now[ref->pack];
      continue;
    }
    key.pack = (uint32_t)(pack_find(self, ckpt->packs[ref->pack].id) - self->from.packs);
    wksp__ck_ref_t const *at = bsearch(&key, self->refs, self->ref_cnt, sizeof key, ref_order);
    ref->pack = (uint32_t)kept;
    ref->off = self->to[at - self->refs];
  }
  free(now);
  free(ckpt->packs);
  ckpt->packs = packs;
  ckpt->info.pack_cnt = kept + 1;
  return 0;
}

/* Writes bytes, durably, under the name of a manifest that is there. */
static int manifest_put(repack_t *self, ulong id, void const *bytes, uint64_t len) {
  wksp_ckpt_store_t *store = self->store;
  char tmp[WKSP_CKPT_FILE_NAME_MAX + 1], name[WKSP_CKPT_FILE_NAME_MAX + 1];
  int file;
  wksp__ck_file_name(id, WKSP_CK_FILE_CKPT, 1, tmp);
  wksp__ck_file_name(id, WKSP_CK_FILE_CKPT, 0, name);
  int err = wksp__ck_make(store, tmp, &file);
  if (err) return err;
  err = wksp__ck_write_all(store, file, tmp, bytes, len, 0);
  if (!err) {
    err = store->io.fsync(store->io.self, file);
    if (err) err = wksp__ck_io_fail(err, "make durable", tmp);
  }
  store->io.close(store->io.self, file);
  if (!err) {
    self->named = 1;
    err = store->io.rename(store->io.self, tmp, name);
    if (err) err = wksp__ck_io_fail(err, "replace", name);
  }
  if (err) store->io.unlink(store->io.self, tmp);
  return err;
}

static int manifest_move(repack_t *self, ulong id) {
  char name[WKSP_CKPT_FILE_NAME_MAX + 1];
  wksp_ckpt_io_t const *io = &self->store->io;
  wksp_ckpt_t *ckpt = NULL;
  void *bytes = NULL, *moved = NULL;
  uint64_t moved_len;
  ulong size = 0;
  int file;
  int err = io->open(io->self, wksp__ck_file_name(id, WKSP_CK_FILE_CKPT, 0, name),
                     WKSP_CKPT_OPEN_READ, &file);
  if (err) return wksp__ck_io_fail(err, "open", name);
  err = io->size(io->self, file, &size);
  if (err) err = wksp__ck_io_fail(err, "find the size of", name);
  if (!err && (size > MANIFEST_MAX || !(bytes = malloc(size + 1))))
    err = wksp__fail(WKSP_E_NOMEM, "repack: no memory for a manifest of %lu bytes", size);
  if (!err) err = wksp__ck_read_all(self->store, file, name, bytes, size, 0);
  io->close(io->self, file);
  if (!err) err = wksp__ck_manifest_parse(bytes, size, WKSP_CK_LOAD_REFS, &ckpt);
  if (!err) err = moved_refs(self, ckpt);
  if (!err) err = wksp__ck_manifest_move(ckpt, bytes, size, &moved, &moved_len);
  if (!err) err = manifest_put(self, id, moved, moved_len);
  wksp_ckpt_close(ckpt);
  free(bytes);
  free(moved);
  return err < 0 ? err : 0;
}

/* All
 * ---------------------------------------------------------------------------------------------- */

static int replace(repack_t *self, wksp_ckpt_repacked_t *done) {
  wksp_ckpt_io_t const *io = &self->store->io;
  int err = 0;
  for (uint64_t i = 0; i < self->id_cnt && !err; i++) err = manifest_move(self, self->ids[i]);
  if (err) {
    /* Nobody needs it; or else those that do have it. */
    if (!self->named) wksp__ck_pack_take_back(&self->pack);
    return err;
  }
  err = io->fsync_folder(io->self);
  if (err) return wksp__ck_io_fail(err, "make durable", "the folder");
  wksp_ckpt_gone_t gone = {0};
  err = wksp__ck_gc(self->store, &gone);
  done->pack_cnt = self->from.info.pack_cnt;
  done->freed_sz = gone.freed_sz;
  done->written_sz = self->pack_sz;
  return err;
}

static int run(repack_t *self, wksp_ckpt_repacked_t *done) {
  int err = wksp__ck_ids(self->store, &self->ids, &self->id_cnt);
  if (!err) err = each_ckpt(self, packs_add);
  if (!err && self->from.info.pack_cnt) err = each_ckpt(self, refs_add);
  if (err) return err;
  refs_settle(self);
  err = choose(self);
  if (err) return err < 0 ? err : 0;
  err = copy(self);
  return err ? err : replace(self, done);
}

int wksp_ckpt_repack(wksp_ckpt_store_t *store, wksp_ckpt_repack_opts_t const *opts,
                     wksp_ckpt_repacked_t *ret_repacked) {
  wksp_ckpt_repacked_t done = {0};
  repack_t self = {.store = store};
  if (!store) return wksp__fail(WKSP_E_INVAL, "repack: store is NULL");
  if (opts) self.opts = *opts;
  if (!self.opts.percent) self.opts.percent = PERCENT_DEFAULT;
  if (!self.opts.least_sz) self.opts.least_sz = LEAST_DEFAULT;
  if (self.opts.percent > 99)
    return wksp__fail(WKSP_E_INVAL, "repack: %u per cent: it must be 1 to 99, or 0 for %u",
                      self.opts.percent, PERCENT_DEFAULT);
  int err = wksp__ck_lock(store);
  if (err) return err;
  self.from.store = store;
  err = run(&self, &done);
  free(self.ids);
  free(self.from.packs);
  free(self.needed_sz);
  free(self.refs);
  free(self.to);
  wksp__ck_unlock(store);
  if (!err && ret_repacked) *ret_repacked = done;
  return err;
}
