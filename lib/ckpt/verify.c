/* verify: whether what the store has can be read, all of it.

   One checkpoint: its manifest, and each of its chunks from its frame's header on, decoded and
   digested. The whole store: each pack from its first byte to its last, each manifest, and that
   each chunk that a manifest names is one of the frames that were found good; so that a byte is
   read once however many checkpoints need it.

   What it does not say: whether a restore's structure is sound, which every restore verifies by
   itself; a drill is a restore into memory that is thrown away. */

#include "ckpt/store.h"
#include "ckpt/work.h"

#include "core/fail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct verify {
  wksp_ckpt_store_t *store;
  wksp_ckpt_read_opts_t opts;
  void (*on_finding)(void *arg, char const *sentence);
  void *arg;
  uint64_t found;
  pthread_mutex_t mutex; /* of the two above */
  /* One checkpoint. */
  wksp_ckpt_t *ckpt;
  wksp__ck_reader_t reader;
  wksp__ck_bench_t *benches;
  uint32_t thread_cnt;
} verify_t;

static void finding(verify_t *self, char const *sentence) {
  pthread_mutex_lock(&self->mutex);
  self->found++;
  if (self->on_finding) self->on_finding(self->arg, sentence);
  pthread_mutex_unlock(&self->mutex);
}

static int damage(int err) {
  return err == WKSP_E_CORRUPT || err == WKSP_E_NOTFOUND || err == WKSP_E_VERSION;
}

/* Whether somebody has removed it since it was read, or packed its chunks anew (repack.c): then it
   is no wonder what is missing. What was to be told stays. */
static int removed(verify_t const *self, wksp_ckpt_t const *was) {
  char why[600];
  int code = wksp_last_error_code();
  wksp_ckpt_t *now = NULL;
  snprintf(why, sizeof why, "%s", wksp_last_error());
  int err = wksp__ck_manifest_load(self->store, was->info.id, WKSP_CK_LOAD_REFS, &now);
  int other = err == WKSP_E_NOTFOUND;
  if (!err)
    other = now->info.pack_cnt != was->info.pack_cnt ||
            memcmp(now->packs, was->packs, now->info.pack_cnt * sizeof *now->packs) != 0;
  wksp_ckpt_close(now);
  (void)wksp__fail(code, "%s", why);
  return other;
}

/* One checkpoint
 * ---------------------------------------------------------------------------------------------- */

static int chunk_piece(void *arg, uint32_t thread, uint64_t idx, wksp__ck_work_t *work) {
  verify_t *self = arg;
  wksp__ck_bench_t *bench = &self->benches[thread];
  wksp__ck_ref_t const *ref = &self->ckpt->refs[idx];
  int err = wksp__ck_reader_get(&self->reader, bench->coder, ref, 1, bench->stored, bench->raw);
  wksp__ck_work_done(work, ref->raw_len, 0);
  if (!err || !damage(err)) return err;
  if (err == WKSP_E_NOTFOUND && removed(self, self->ckpt))
    return wksp__fail(err, "verify: checkpoint %016lx was removed, or packed anew, meanwhile",
                      self->ckpt->info.id);
  finding(self, wksp_last_error());
  return 0;
}

static int ckpt_verify(verify_t *self, ulong id) {
  int err = wksp_ckpt_open(self->store, id, &self->ckpt);
  if (err == WKSP_E_CORRUPT) {
    finding(self, wksp_last_error());
    return 0;
  }
  if (err) return err;
  wksp_ckpt_info_t const *info = &self->ckpt->info;
  self->thread_cnt = wksp__ck_threads(self->opts.threads, info->live_sz);
  err = wksp__ck_reader_begin(&self->reader, self->ckpt);
  if (!err) {
    err = wksp__ck_benches_new(self->thread_cnt, 1UL << WKSP_CK_CHUNK_LG_MAX, &self->benches);
    wksp__ck_job_t job = {.piece = chunk_piece,
                          .arg = self,
                          .cnt = info->chunk_cnt,
                          .threads = self->thread_cnt,
                          .phase = WKSP_CKPT_PHASE_READ,
                          .total_sz = info->live_sz,
                          .on_progress = self->opts.on_progress,
                          .progress_arg = self->opts.progress_arg};
    if (!err) err = wksp__ck_work(&job);
    wksp__ck_benches_free(self->benches, self->thread_cnt);
    self->benches = NULL;
    wksp__ck_reader_end(&self->reader);
  }
  wksp_ckpt_close(self->ckpt);
  return err;
}

/* The store
 * ---------------------------------------------------------------------------------------------- */

/* A pack that some manifest names, and what was found in it. */
typedef struct found_pack {
  ulong id;
  wksp__ck_ref_t *frames; /* ascending by off */
  uint64_t cnt, cap;
} found_pack_t;

typedef struct pack_file {
  wksp_ckpt_store_t *store;
  int file;
  char name[WKSP_CKPT_FILE_NAME_MAX + 1];
} pack_file_t;

static int pack_read(void *self, void *bytes, uint64_t len, uint64_t off) {
  pack_file_t *pack = self;
  return wksp__ck_read_all(pack->store, pack->file, pack->name, bytes, len, off);
}

static int on_frame(void *arg, wksp__ck_ref_t const *frame) {
  found_pack_t *pack = arg;
  int err = wksp__ck_grow(&pack->frames, pack->cnt, &pack->cap, sizeof *pack->frames);
  if (!err) pack->frames[pack->cnt++] = *frame;
  return err;
}

static void walk_finding(void *arg, char const *sentence) {
  finding(arg, sentence);
}

static int pack_verify(verify_t *self, found_pack_t *pack, wksp__ck_coder_t *coder) {
  wksp_ckpt_io_t const *io = &self->store->io;
  pack_file_t file = {.store = self->store};
  wksp__ck_source_t source = {.self = &file, .read = pack_read, .on_frame = on_frame, .arg = pack};
  wksp__ck_file_name(pack->id, WKSP_CK_FILE_PACK, 0, file.name);
  int err = io->open(io->self, file.name, WKSP_CKPT_OPEN_READ, &file.file);
  if (err) {
    err = wksp__ck_io_fail(err, "open", file.name);
  } else {
    err = io->size(io->self, file.file, &source.len);
    err = err ? wksp__ck_io_fail(err, "find the size of", file.name)
              : wksp__ck_pack_walk(&source, pack->id, coder, walk_finding, self);
    io->close(io->self, file.file);
  }
  if (err >= 0 || !damage(err)) return err < 0 ? err : 0;
  /* of one that is not there who needs it tells */
  if (err != WKSP_E_NOTFOUND) finding(self, wksp_last_error());
  return 0;
}

static int pack_order(void const *a, void const *b) {
  ulong one = ((found_pack_t const *)a)->id, two = ((found_pack_t const *)b)->id;
  return one < two ? -1 : one > two;
}

static int frame_order(void const *a, void const *b) {
  uint64_t one = ((wksp__ck_ref_t const *)a)->off, two = ((wksp__ck_ref_t const *)b)->off;
  return one < two ? -1 : one > two;
}

typedef struct packs {
  found_pack_t *packs;
  uint64_t cnt, cap;
} packs_t;

/* The pack with that id, walked when it is asked for first. */
static int pack_find(verify_t *self, packs_t *packs, ulong id, found_pack_t **ret_pack) {
  found_pack_t key = {.id = id};
  *ret_pack = packs->cnt ? bsearch(&key, packs->packs, packs->cnt, sizeof key, pack_order) : NULL;
  if (*ret_pack) return 0;
  int err = wksp__ck_grow(&packs->packs, packs->cnt, &packs->cap, sizeof key);
  if (!err) err = pack_verify(self, &key, self->benches[0].coder);
  if (err) {
    free(key.frames);
    return err;
  }
  packs->packs[packs->cnt++] = key;
  qsort(packs->packs, packs->cnt, sizeof key, pack_order);
  *ret_pack = bsearch(&key, packs->packs, packs->cnt, sizeof key, pack_order);
  return 0;
}

/* Whether each chunk is a good frame of its pack; one finding tells of all that are not. */
static int refs_verify(verify_t *self, packs_t *packs, wksp_ckpt_t const *ckpt) {
  uint64_t lost = 0;
  for (uint64_t p = 0; p < ckpt->info.pack_cnt; p++) {
    found_pack_t *pack;
    int err = pack_find(self, packs, ckpt->packs[p].id, &pack);
    if (err) return err;
    for (uint64_t i = 0; i < ckpt->info.chunk_cnt; i++) {
      wksp__ck_ref_t const *ref = &ckpt->refs[i];
      if (ref->pack != p) continue;
      wksp__ck_ref_t const *frame =
          pack->cnt ? bsearch(ref, pack->frames, pack->cnt, sizeof *ref, frame_order) : NULL;
      lost += !frame || frame->raw_len != ref->raw_len || frame->stored_len != ref->stored_len ||
              frame->codec != ref->codec || !wksp__ck_digest_same(frame->digest, ref->digest);
    }
  }
  if (!lost || removed(self, ckpt)) return 0;
  char sentence[128];
  snprintf(sentence, sizeof sentence, "checkpoint %016lx: %lu of its %lu chunks are lost",
           ckpt->info.id, lost, ckpt->info.chunk_cnt);
  finding(self, sentence);
  return 0;
}

static int manifest_verify(verify_t *self, packs_t *packs, ulong id) {
  wksp_ckpt_t *ckpt;
  int err = wksp__ck_manifest_load(self->store, id, WKSP_CK_LOAD_ALL, &ckpt);
  if (err == WKSP_E_NOTFOUND) return 0; /* removed since */
  if (err && damage(err)) {
    char sentence[600];
    snprintf(sentence, sizeof sentence, "checkpoint %016lx: %s", id, wksp_last_error());
    finding(self, sentence);
    return 0;
  }
  if (err) return err;
  err = refs_verify(self, packs, ckpt);
  wksp_ckpt_close(ckpt);
  return err;
}

static int tell(verify_t *self, uint64_t done, uint64_t total) {
  wksp_ckpt_progress_t progress = {
      .phase = WKSP_CKPT_PHASE_READ, .done_sz = done, .total_sz = total};
  if (!self->opts.on_progress || !self->opts.on_progress(self->opts.progress_arg, &progress))
    return 0;
  return wksp__fail(WKSP_E_AGAIN, "verify: cancelled after %lu of %lu checkpoints", done, total);
}

static int store_verify(verify_t *self) {
  packs_t packs = {0};
  ulong *ids;
  uint64_t cnt;
  int err = wksp__ck_ids(self->store, &ids, &cnt);
  if (err) return err;
  err = wksp__ck_benches_new(1, 64, &self->benches);
  for (uint64_t i = 0; i < cnt && !err; i++) {
    err = manifest_verify(self, &packs, ids[i]);
    if (!err) err = tell(self, i + 1, cnt);
  }
  wksp__ck_benches_free(self->benches, 1);
  for (uint64_t i = 0; i < packs.cnt; i++) free(packs.packs[i].frames);
  free(packs.packs);
  free(ids);
  return err;
}

int wksp_ckpt_verify(wksp_ckpt_store_t *store, ulong id, wksp_ckpt_read_opts_t const *opts,
                     void (*on_finding)(void *arg, char const *sentence), void *arg) {
  if (!store) return wksp__fail(WKSP_E_INVAL, "verify: store is NULL");
  verify_t self = {
      .store = store, .on_finding = on_finding, .arg = arg, .mutex = PTHREAD_MUTEX_INITIALIZER};
  if (opts) self.opts = *opts;
  int err = id ? ckpt_verify(&self, id) : store_verify(&self);
  pthread_mutex_destroy(&self.mutex);
  if (err) return err;
  return self.found ? wksp__fail(WKSP_E_CORRUPT, "verify: %lu findings", self.found) : 0;
}
