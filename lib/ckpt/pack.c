/* pack: the chunks that were new with a checkpoint, one frame behind the other.

   Threads add frames as they come: each takes its place by one atomic and writes there by itself,
   so the order in a pack means nothing. The end, written last, says how many there are and how long
   the file is; what has no end was never published.

   A frame says all that is needed to check and decode it, so a pack can be verified, and searched,
   without any manifest. */

#include "ckpt/store.h"

#include "core/fail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How much is written before the disk is asked to begin with it. */
#define PACK_FLUSH_SZ (8UL << 20)
/* Files that a reader keeps open; of further packs each read opens the file anew. */
#define READER_OPEN_MAX 128U

static void seal(void *header, uint64_t size) {
  uint64_t sum = wksp__ck_sum(header, size - 8);
  memcpy((char *)header + size - 8, &sum, 8);
}

static int sealed(void const *header, uint64_t size) {
  uint64_t sum;
  memcpy(&sum, (char const *)header + size - 8, 8);
  return wksp__ck_sum_ok(header, size - 8, sum);
}

/* Writing
 * ---------------------------------------------------------------------------------------------- */

void wksp__ck_pack_new(wksp_ckpt_store_t *store, ulong id, wksp__ck_pack_t *pack) {
  *pack = (wksp__ck_pack_t){.store = store, .file = -1, .id = id, .at = sizeof(wksp__ck_head_t)};
  wksp__ck_file_name(id, WKSP_CK_FILE_PACK, 1, pack->tmp);
}

int wksp__ck_pack_begin(wksp__ck_pack_t *pack, uint64_t created_ns) {
  wksp_ckpt_store_t *store = pack->store;
  wksp__ck_head_t head = {.magic = WKSP_CK_PACK_MAGIC,
                          .version = WKSP_CK_VERSION,
                          .id = pack->id,
                          .created_ns = created_ns};
  seal(&head, sizeof head);
  int file, err = wksp__ck_make(store, pack->tmp, &file);
  if (err) return err;
  pack->file = file;
  return wksp__ck_write_all(store, file, pack->tmp, &head, sizeof head, 0);
}

int wksp__ck_pack_add(wksp__ck_pack_t *pack, void *frame, void const *apart, uint32_t codec,
                      uint32_t raw_len, uint32_t stored_len, wksp__ck_digest_t digest,
                      uint64_t *ret_off) {
  wksp_ckpt_store_t *store = pack->store;
  uint64_t len = sizeof(wksp__ck_frame_t) + stored_len;
  wksp__ck_frame_t header = {.magic = WKSP_CK_FRAME_MAGIC,
                             .codec = codec,
                             .raw_len = raw_len,
                             .stored_len = stored_len,
                             .digest = digest};
  if (codec != WKSP_CKPT_RAW)
    header.payload_sum = wksp__ck_sum((char *)frame + sizeof header, stored_len);
  seal(&header, sizeof header);
  memcpy(frame, &header, sizeof header);
  uint64_t off = __atomic_fetch_add(&pack->at, len, __ATOMIC_RELAXED);
  int err =
      wksp__ck_write_all(store, pack->file, pack->tmp, frame, apart ? sizeof header : len, off);
  if (!err && apart)
    err = wksp__ck_write_all(store, pack->file, pack->tmp, apart, stored_len, off + sizeof header);
  if (err) return err;
  __atomic_fetch_add(&pack->frame_cnt, 1UL, __ATOMIC_RELAXED);
  uint64_t before = __atomic_load_n(&pack->flushed, __ATOMIC_RELAXED);
  /* What is close behind us another thread may still be writing: not yet. */
  if (store->io.write_out && off > before + 2 * PACK_FLUSH_SZ &&
      __atomic_compare_exchange_n(&pack->flushed, &before, off - PACK_FLUSH_SZ, 0, __ATOMIC_RELAXED,
                                  __ATOMIC_RELAXED))
    store->io.write_out(store->io.self, pack->file, before, off - PACK_FLUSH_SZ - before);
  *ret_off = off;
  return 0;
}

static int pack_end(wksp__ck_pack_t *pack) {
  wksp__ck_end_t end = {
      .magic = WKSP_CK_END_MAGIC, .frame_cnt = pack->frame_cnt, .file_sz = pack->at + sizeof end};
  seal(&end, sizeof end);
  int err = wksp__ck_write_all(pack->store, pack->file, pack->tmp, &end, sizeof end, pack->at);
  if (err) return err;
  err = pack->store->io.fsync(pack->store->io.self, pack->file);
  return err ? wksp__ck_io_fail(err, "make durable", pack->tmp) : 0;
}

int wksp__ck_pack_publish(wksp__ck_pack_t *pack, uint64_t *ret_sz) {
  wksp_ckpt_store_t *store = pack->store;
  char name[WKSP_CKPT_FILE_NAME_MAX + 1];
  if (pack->file < 0) {
    *ret_sz = 0;
    return 0;
  }
  int err = pack_end(pack);
  if (!err) {
    wksp__ck_file_name(pack->id, WKSP_CK_FILE_PACK, 0, name);
    err = store->io.rename(store->io.self, pack->tmp, name);
    if (err) err = wksp__ck_io_fail(err, "name", name);
  }
  if (err) {
    wksp__ck_pack_cancel(pack);
    return err;
  }
  store->io.close(store->io.self, pack->file);
  pack->file = -1;
  err = store->io.fsync_folder(store->io.self);
  if (err) {
    err = wksp__ck_io_fail(err, "make durable", "the folder");
    wksp__ck_pack_take_back(pack);
    return err;
  }
  *ret_sz = pack->at + sizeof(wksp__ck_end_t);
  return 0;
}

void wksp__ck_pack_cancel(wksp__ck_pack_t *pack) {
  if (pack->file < 0) return;
  pack->store->io.close(pack->store->io.self, pack->file);
  pack->store->io.unlink(pack->store->io.self, pack->tmp);
  pack->file = -1;
}

void wksp__ck_pack_take_back(wksp__ck_pack_t *pack) {
  char name[WKSP_CKPT_FILE_NAME_MAX + 1];
  wksp__ck_file_name(pack->id, WKSP_CK_FILE_PACK, 0, name);
  pack->store->io.unlink(pack->store->io.self, name);
}

/* Reading
 * ---------------------------------------------------------------------------------------------- */

int wksp__ck_reader_begin(wksp__ck_reader_t *reader, wksp_ckpt_t const *ckpt) {
  *reader = (wksp__ck_reader_t){.ckpt = ckpt, .mutex = PTHREAD_MUTEX_INITIALIZER};
  reader->files = malloc((ckpt->info.pack_cnt + 1) * sizeof *reader->files);
  if (!reader->files) return wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory to read packs");
  for (uint64_t i = 0; i < ckpt->info.pack_cnt; i++) reader->files[i] = -1;
  return 0;
}

void wksp__ck_reader_end(wksp__ck_reader_t *reader) {
  wksp_ckpt_io_t const *io = &reader->ckpt->store->io;
  for (uint64_t i = 0; reader->files && i < reader->ckpt->info.pack_cnt; i++)
    if (reader->files[i] >= 0) io->close(io->self, reader->files[i]);
  free(reader->files);
  pthread_mutex_destroy(&reader->mutex);
}

/* The file of a pack: *ret_own 1: the caller closes it. */
static int file_get(wksp__ck_reader_t *reader, uint32_t pack, char const *name, int *ret_file,
                    int *ret_own) {
  wksp_ckpt_io_t const *io = &reader->ckpt->store->io;
  int err = 0;
  pthread_mutex_lock(&reader->mutex);
  int file = reader->files[pack];
  *ret_own = 0;
  if (file < 0) {
    err = io->open(io->self, name, WKSP_CKPT_OPEN_READ, &file);
    *ret_own = !err && reader->open_cnt >= READER_OPEN_MAX;
    if (!err && !*ret_own) {
      reader->files[pack] = file;
      reader->open_cnt++;
    }
  }
  pthread_mutex_unlock(&reader->mutex);
  if (err) return wksp__ck_io_fail(err, "open", name);
  *ret_file = file;
  return 0;
}

static int damaged(char const *name, uint64_t off, char const *what) {
  return wksp__fail(WKSP_E_CORRUPT, "checkpoint store: %s: the frame at %lu %s", name, off, what);
}

static int frame_check(wksp__ck_frame_t const *frame, wksp__ck_ref_t const *ref, char const *name) {
  if (!sealed(frame, sizeof *frame)) return damaged(name, ref->off, "has a damaged header");
  if (frame->magic != WKSP_CK_FRAME_MAGIC || frame->codec != ref->codec ||
      frame->raw_len != ref->raw_len || frame->stored_len != ref->stored_len ||
      !wksp__ck_digest_same(frame->digest, ref->digest))
    return damaged(name, ref->off, "is not the one that the manifest means");
  return 0;
}

/* Raw bytes are read to where they belong. */
static int get(wksp__ck_reader_t *reader, wksp__ck_coder_t *coder, wksp__ck_ref_t const *ref,
               char const *name, int file, int frame, char *stored, void *raw) {
  wksp_ckpt_store_t *store = reader->ckpt->store;
  int plain = ref->codec == WKSP_CKPT_RAW;
  char *to = plain ? raw : stored + sizeof(wksp__ck_frame_t);
  int err = 0;
  if (frame) {
    err = wksp__ck_read_all(store, file, name, stored, sizeof(wksp__ck_frame_t), ref->off);
    if (!err) err = frame_check((wksp__ck_frame_t const *)(void *)stored, ref, name);
  }
  if (!err)
    err = wksp__ck_read_all(store, file, name, to, ref->stored_len,
                            ref->off + sizeof(wksp__ck_frame_t));
  if (err) return err;
  if (frame && !plain &&
      !wksp__ck_sum_ok(to, ref->stored_len, ((wksp__ck_frame_t *)(void *)stored)->payload_sum))
    return damaged(name, ref->off, "has damaged bytes");
  if (!wksp__ck_decode(coder, ref->codec, to, ref->stored_len, raw, ref->raw_len))
    return damaged(name, ref->off, "cannot be decoded");
  if (!wksp__ck_digest_same(wksp__ck_digest(raw, ref->raw_len), ref->digest))
    return damaged(name, ref->off, "has another digest than it should have");
  return 0;
}

void wksp__ck_benches_free(wksp__ck_bench_t *benches, uint32_t cnt) {
  for (uint32_t i = 0; benches && i < cnt; i++) {
    wksp__ck_coder_free(benches[i].coder);
    free(benches[i].raw);
    free(benches[i].stored);
  }
  free(benches);
}

int wksp__ck_benches_new(uint32_t cnt, uint64_t chunk, wksp__ck_bench_t **ret_benches) {
  wksp__ck_bench_t *benches = calloc(cnt, sizeof *benches);
  int err = benches ? 0 : wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory");
  for (uint32_t i = 0; i < cnt && !err; i++) {
    err = wksp__ck_coder_new(&benches[i].coder);
    benches[i].raw = malloc(chunk);
    benches[i].stored = malloc(sizeof(wksp__ck_frame_t) + chunk);
    if (!err && (!benches[i].raw || !benches[i].stored))
      err = wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for buffers of %lu bytes", chunk);
  }
  if (err)
    wksp__ck_benches_free(benches, cnt);
  else
    *ret_benches = benches;
  return err;
}

int wksp__ck_reader_get(wksp__ck_reader_t *reader, wksp__ck_coder_t *coder,
                        wksp__ck_ref_t const *ref, int frame, void *stored, void *raw) {
  wksp_ckpt_io_t const *io = &reader->ckpt->store->io;
  char name[WKSP_CKPT_FILE_NAME_MAX + 1];
  int file = -1, own = 0;
  wksp__ck_file_name(reader->ckpt->packs[ref->pack].id, WKSP_CK_FILE_PACK, 0, name);
  int err = file_get(reader, ref->pack, name, &file, &own);
  if (err) return err;
  err = get(reader, coder, ref, name, file, frame, stored, raw);
  if (own) io->close(io->self, file);
  return err;
}

/* Walking
 * ---------------------------------------------------------------------------------------------- */

typedef struct walk {
  wksp__ck_source_t const *source;
  wksp__ck_coder_t *coder;
  char *stored, *raw; /* room for a chunk of cap bytes each */
  uint64_t cap;
  uint64_t at, frame_cnt;
  char const *what; /* is wrong */
} walk_t;

static int head_walk(walk_t *walk, ulong id) {
  wksp__ck_head_t head;
  if (walk->source->len < sizeof head + sizeof(wksp__ck_end_t)) {
    walk->what = "it is too short";
    return 0;
  }
  int err = walk->source->read(walk->source->self, &head, sizeof head, 0);
  if (err) return err;
  if (head.magic != WKSP_CK_PACK_MAGIC || !sealed(&head, sizeof head))
    walk->what = "its header is damaged";
  else if (head.version != WKSP_CK_VERSION || head.incompat & ~WKSP_CK_INCOMPAT_KNOWN)
    walk->what = "a newer version has written it";
  else if (head.id != id || head.pad || head.file_sz)
    walk->what = "its header is another's";
  walk->at = sizeof head;
  return 0;
}

/* Room for so many bytes, stored and decoded. */
static int walk_room(walk_t *walk, uint64_t len) {
  if (len <= walk->cap) return 0;
  free(walk->stored);
  free(walk->raw);
  walk->stored = malloc(len);
  walk->raw = malloc(len);
  walk->cap = walk->stored && walk->raw ? len : 0;
  return walk->cap ? 0 : wksp__fail(WKSP_E_NOMEM, "verify: no memory for a chunk");
}

/* One frame. */
static int frame_walk(walk_t *walk) {
  wksp__ck_frame_t frame;
  uint64_t max = 1UL << WKSP_CK_CHUNK_LG_MAX, left = walk->source->len - walk->at;
  int err = walk->source->read(walk->source->self, &frame, sizeof frame, walk->at);
  if (err) return err;
  if (frame.magic != WKSP_CK_FRAME_MAGIC || !sealed(&frame, sizeof frame))
    walk->what = "a frame's header is damaged";
  else if (!frame.raw_len || frame.raw_len > max || frame.stored_len > frame.raw_len ||
           frame.stored_len > left - sizeof frame)
    walk->what = "a frame has an impossible length";
  if (walk->what) return 0;
  err = walk_room(walk, frame.raw_len);
  if (err) return err;
  err = walk->source->read(walk->source->self, walk->stored, frame.stored_len,
                           walk->at + sizeof frame);
  if (err) return err;
  if (frame.codec == WKSP_CKPT_RAW
          ? frame.payload_sum != 0
          : !wksp__ck_sum_ok(walk->stored, frame.stored_len, frame.payload_sum))
    walk->what = "a frame's bytes are damaged";
  else if (!wksp__ck_decode(walk->coder, frame.codec, walk->stored, frame.stored_len, walk->raw,
                            frame.raw_len))
    walk->what = "a frame cannot be decoded";
  else if (!wksp__ck_digest_same(wksp__ck_digest(walk->raw, frame.raw_len), frame.digest))
    walk->what = "a frame's digest is wrong";
  if (walk->what) return 0;
  wksp__ck_ref_t good = {.digest = frame.digest,
                         .off = walk->at,
                         .raw_len = frame.raw_len,
                         .stored_len = frame.stored_len,
                         .codec = frame.codec};
  walk->at += sizeof frame + frame.stored_len;
  walk->frame_cnt++;
  return walk->source->on_frame ? walk->source->on_frame(walk->source->arg, &good) : 0;
}

static int end_walk(walk_t *walk) {
  wksp__ck_end_t end;
  int err = walk->source->read(walk->source->self, &end, sizeof end, walk->at);
  if (!err && (end.magic != WKSP_CK_END_MAGIC || end.pad || !sealed(&end, sizeof end) ||
               end.frame_cnt != walk->frame_cnt || end.file_sz != walk->source->len))
    walk->what = "its end is damaged";
  return err;
}

int wksp__ck_pack_walk(wksp__ck_source_t const *source, ulong id, wksp__ck_coder_t *coder,
                       void (*on_finding)(void *arg, char const *sentence), void *arg) {
  walk_t walk = {.source = source, .coder = coder};
  int err = head_walk(&walk, id);
  /* From the first thing that is wrong on nothing behind can be told apart. */
  while (!err && !walk.what && source->len - walk.at > sizeof(wksp__ck_end_t)) {
    if (source->len - walk.at < sizeof(wksp__ck_frame_t) + sizeof(wksp__ck_end_t))
      walk.what = "its end is damaged";
    else
      err = frame_walk(&walk);
  }
  if (!err && !walk.what)
    err = source->len - walk.at == sizeof(wksp__ck_end_t) ? end_walk(&walk)
                                                          : (walk.what = "its end is damaged", 0);
  if (!err && walk.what) {
    char sentence[160];
    snprintf(sentence, sizeof sentence, "pack %016lx, at %lu of %lu bytes: %s", id, walk.at,
             source->len, walk.what);
    if (on_finding) on_finding(arg, sentence);
    err = 1;
  }
  free(walk.stored);
  free(walk.raw);
  return err;
}
