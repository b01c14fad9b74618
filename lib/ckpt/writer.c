/* writer: a checkpoint in the making.

   Model. One pass over all that lives: each chunk is copied, since its bytes may change under our
   eyes, then digested; one that the store does not know is encoded and added to the pack. That is
   all of a fuzzy checkpoint. For one with a pause the second pass, inside it, captures the tables
   anew, copies and digests again, and keeps in memory what is not as it was: the pause costs what
   memory gives, not what codec and disk take. What the first pass wrote in vain stays in the pack
   until the pack goes.

   Memory is bounded: two buffers of a chunk for each thread, KEEP_MAX for what changed, and the
   tables. What has changed beyond KEEP_MAX is written inside the pause.

   Published is: the pack durable and named, then the manifest (store.h). Before the second rename
   there is no checkpoint; whatever fails, or is killed, leaves files that a gc removes. */

#include "ckpt/ranges.h"
#include "ckpt/store.h"
#include "ckpt/work.h"

#include "core/call.h"
#include "core/fail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEEP_MAX (64UL << 20)
/* Ranges that are shorter on average are copied and then digested, in one piece. */
#define IN_PLACE_MIN 512UL

enum { BEGUN = 0, SCANNED, FINISHED, FAILED };

/* What a thread works with. */
typedef struct bench {
  wksp__ck_coder_t *coder;
  char *raw;   /* a chunk */
  char *frame; /* a frame's header, and a chunk as stored */
  void *digest;
  uint64_t hits, misses; /* chunks that were known, and not */
} bench_t;

struct wksp_ckpt_writer {
  wksp_ckpt_store_t *store;
  fd_wksp_t *wksp;
  wksp_ckpt_opts_t opts;
  int state;
  wksp__ck_index_t index;
  wksp__ck_pack_t pack;
  pthread_mutex_t mutex;   /* of the pack's beginning and the list of kept */
  wksp_ckpt_t ckpt;        /* what the manifest will say; its tables are the last pass's */
  uint64_t *numbers;       /* of each chunk of them, in the index */
  wksp__ck_tables_t first; /* in the second pass: those of the first */
  uint64_t *first_numbers;
  bench_t *benches;
  uint32_t thread_cnt;
  uint64_t *kept; /* numbers of chunks whose bytes are kept */
  uint64_t kept_cnt, kept_cap, kept_sz;
  uint64_t new_cnt, begin_ns;
  int known_before; /* the store has chunks */
};

/* Begin
 * ---------------------------------------------------------------------------------------------- */

static int opts_check(wksp_ckpt_opts_t const *opts) {
  wksp_ckpt_style_t style = opts->style;
  char text[WKSP_CKPT_STYLE_MAX];
  if (style.codec > WKSP_CKPT_ZSTD || (style.codec != WKSP_CKPT_ZSTD && style.level) ||
      (style.codec == WKSP_CKPT_ZSTD && style.level &&
       wksp_ckpt_style_parse(wksp_ckpt_style_cstr(style, text), &style)))
    return wksp__fail(WKSP_E_INVAL, "checkpoint: codec %u with level %d is no style",
                      opts->style.codec, opts->style.level);
  if (opts->mode > WKSP_CKPT_QUIESCE)
    return wksp__fail(WKSP_E_INVAL, "checkpoint: mode %u is none", opts->mode);
  if (opts->spec_sz > WKSP_CKPT_SPEC_MAX || (opts->spec_sz && !opts->spec))
    return wksp__fail(WKSP_E_INVAL, "checkpoint: a spec of %lu bytes: at most %lu", opts->spec_sz,
                      WKSP_CKPT_SPEC_MAX);
  if (opts->info && strlen(opts->info) > WKSP_CKPT_INFO_MAX)
    return wksp__fail(WKSP_E_INVAL, "checkpoint: a text of %lu bytes: at most %lu",
                      strlen(opts->info), WKSP_CKPT_INFO_MAX);
  if (opts->host && strlen(opts->host) > WKSP_CKPT_HOST_MAX)
    return wksp__fail(WKSP_E_INVAL, "checkpoint: a host name of %lu bytes: at most %lu",
                      strlen(opts->host), WKSP_CKPT_HOST_MAX);
  return 0;
}

/* The id of a new checkpoint: after all there are, and telling about when. */
static int id_make(wksp_ckpt_writer_t *writer) {
  ulong *ids = NULL;
  uint64_t cnt = 0;
  int err = wksp__ck_ids(writer->store, &ids, &cnt);
  if (err) return err;
  err = wksp__ck_id_next(writer->store, writer->ckpt.info.created_ns / 1000000UL,
                         &writer->ckpt.info.id);
  if (!err)
    err = wksp__ck_index_begin(&writer->index, writer->store, ids, writer->opts.fresh ? 0 : cnt);
  free(ids);
  writer->known_before = !err && writer->index.cnt > 0;
  if (!err) wksp__ck_pack_new(writer->store, writer->ckpt.info.id, &writer->pack);
  return err;
}

static void info_begin(wksp_ckpt_writer_t *writer) {
  wksp_ckpt_info_t *info = &writer->ckpt.info;
  wksp_ckpt_opts_t const *opts = &writer->opts;
  info->created_ns = opts->now_ns ? opts->now_ns : wksp__real_ns();
  if (opts->host)
    snprintf(info->host, sizeof info->host, "%s", opts->host);
  else if (gethostname(info->host, sizeof info->host - 1))
    info->host[0] = 0;
  if (opts->info) snprintf(info->info, sizeof info->info, "%s", opts->info);
  writer->ckpt.spec = (void *)(uintptr_t)opts->spec;
  info->spec_sz = opts->spec_sz;
}

int wksp_ckpt_begin(wksp_ckpt_store_t *store, fd_wksp_t *wksp, wksp_ckpt_opts_t const *opts,
                    wksp_ckpt_writer_t **ret_writer) {
  if (!store || !wksp || !ret_writer)
    return wksp__fail(WKSP_E_INVAL, "checkpoint: store, wksp or ret_writer is NULL");
  wksp_ckpt_writer_t *writer = calloc(1, sizeof *writer);
  if (!writer) return wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory");
  writer->store = store;
  writer->wksp = wksp;
  if (opts) writer->opts = *opts;
  if (!writer->opts.mode) writer->opts.mode = WKSP_CKPT_FUZZY;
  writer->begin_ns = wksp__now_ns();
  writer->pack.file = -1;
  pthread_mutex_init(&writer->mutex, NULL);
  writer->ckpt.wire.mode = WKSP_CKPT_FUZZY;
  int err = opts_check(&writer->opts);
  if (!err) err = wksp__ck_lock(store);
  if (err) {
    pthread_mutex_destroy(&writer->mutex);
    free(writer);
    return err;
  }
  info_begin(writer);
  err = id_make(writer);
  if (err) {
    wksp_ckpt_cancel(writer);
    return err;
  }
  *ret_writer = writer;
  return 0;
}

static void benches_free(wksp_ckpt_writer_t *writer) {
  for (uint32_t i = 0; writer->benches && i < writer->thread_cnt; i++) {
    wksp__ck_coder_free(writer->benches[i].coder);
    free(writer->benches[i].raw);
    free(writer->benches[i].frame);
    free(writer->benches[i].digest);
  }
  free(writer->benches);
  writer->benches = NULL;
}

static int benches_make(wksp_ckpt_writer_t *writer, uint32_t cnt) {
  if (writer->benches) return 0;
  uint64_t chunk = 1UL << writer->ckpt.tables.chunk_lg;
  writer->thread_cnt = cnt;
  writer->benches = calloc(cnt, sizeof *writer->benches);
  int err = writer->benches ? 0 : wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for its threads");
  for (uint32_t i = 0; i < cnt && !err; i++) {
    bench_t *bench = &writer->benches[i];
    err = wksp__ck_coder_new(&bench->coder);
    bench->raw = malloc(chunk);
    bench->frame = malloc(sizeof(wksp__ck_frame_t) + wksp__ck_coder_bound(chunk));
    bench->digest = aligned_alloc(64, (wksp__ck_digest_state_sz + 63) & ~63UL);
    if (!err && (!bench->raw || !bench->frame || !bench->digest))
      err = wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for buffers of %lu bytes", chunk);
  }
  return err;
}

/* Chunks
 * ---------------------------------------------------------------------------------------------- */

typedef struct gather {
  char *to;
  char const *at; /* of the first range */
  void *state;    /* of a digest */
} gather_t;

static void gather_range(void *arg, char *at, uint64_t len) {
  gather_t *gather = arg;
  wksp__ck_copy(gather->to, at, len);
  gather->to += len;
}

/* The chunk's bytes, and their digest. */
static wksp__ck_digest_t chunk_read(wksp_ckpt_writer_t *writer, wksp__ck_chunk_t const *chunk,
                                    char *to) {
  gather_t gather = {.to = to};
  wksp__ck_ranges(&writer->ckpt.tables, chunk, writer->wksp, gather_range, &gather);
  return wksp__ck_digest(to, chunk->raw_len);
}

static void first_range(void *arg, char *at, uint64_t len) {
  gather_t *gather = arg;
  (void)len;
  if (!gather->at) gather->at = at;
}

static void digest_range(void *arg, char *at, uint64_t len) {
  gather_t *gather = arg;
  wksp__ck_digest_add(gather->state, at, len);
}

/* The digest of the chunk where it is, *ret_at: its bytes, if they are one range, else NULL. 1, or
   0: its ranges are so short that to copy them is cheaper. */
static int chunk_look(wksp_ckpt_writer_t *writer, bench_t *bench, wksp__ck_chunk_t const *chunk,
                      wksp__ck_digest_t *ret_digest, char const **ret_at) {
  gather_t gather = {.state = bench->digest};
  *ret_at = NULL;
  if (chunk->run_cnt == 1) {
    wksp__ck_ranges(&writer->ckpt.tables, chunk, writer->wksp, first_range, &gather);
    *ret_at = gather.at;
    wksp__ck_digest_begin(bench->digest);
    wksp__ck_digest_add(bench->digest, gather.at, chunk->raw_len);
    *ret_digest = wksp__ck_digest_end(bench->digest);
    return 1;
  }
  if (chunk->raw_len / chunk->run_cnt < IN_PLACE_MIN) return 0;
  wksp__ck_digest_begin(bench->digest);
  wksp__ck_ranges(&writer->ckpt.tables, chunk, writer->wksp, digest_range, &gather);
  *ret_digest = wksp__ck_digest_end(bench->digest);
  return 1;
}

static int pack_begin(wksp_ckpt_writer_t *writer) {
  int err = 0;
  pthread_mutex_lock(&writer->mutex);
  if (writer->pack.file < 0) err = wksp__ck_pack_begin(&writer->pack, writer->ckpt.info.created_ns);
  pthread_mutex_unlock(&writer->mutex);
  return err;
}

/* Writes raw_len bytes as a frame; raw may be in the frame already, behind its header. */
static int chunk_write(wksp_ckpt_writer_t *writer, bench_t *bench, wksp__ck_known_t *known,
                       char const *raw, wksp__ck_work_t *work) {
  char *payload = bench->frame + sizeof(wksp__ck_frame_t);
  uint32_t codec;
  int err = pack_begin(writer);
  if (err) return err;
  long len =
      wksp__ck_encode(bench->coder, writer->opts.style, raw, known->ref.raw_len, payload, &codec);
  if (len < 0) return (int)len;
  int apart = codec == WKSP_CKPT_RAW && raw != payload;
  known->ref.pack = 0;
  known->ref.codec = codec;
  known->ref.stored_len = (uint32_t)len;
  err = wksp__ck_pack_add(&writer->pack, bench->frame, apart ? raw : NULL, codec,
                          known->ref.raw_len, (uint32_t)len, known->ref.digest, &known->ref.off);
  if (err) return err;
  __atomic_fetch_add(&writer->new_cnt, 1UL, __ATOMIC_RELAXED);
  __atomic_fetch_add(&writer->ckpt.wire.changed_sz, (uint64_t)known->ref.raw_len, __ATOMIC_RELAXED);
  if (work) wksp__ck_work_done(work, 0, sizeof(wksp__ck_frame_t) + (uint64_t)len);
  return 0;
}

/* A chunk that may well be known is digested where it is, and copied only if it is not; of others
   the copy comes first. In either case what is digested and what is written are the same bytes. */
static int scan_piece(void *arg, uint32_t thread, uint64_t idx, wksp__ck_work_t *work) {
  wksp_ckpt_writer_t *writer = arg;
  bench_t *bench = &writer->benches[thread];
  wksp__ck_chunk_t const *chunk = &writer->ckpt.tables.chunks[idx];
  uint64_t *number = &writer->numbers[idx];
  /* Raw bytes are copied to where they are written from. */
  char *copy = writer->opts.style.codec == WKSP_CKPT_RAW ? bench->frame + sizeof(wksp__ck_frame_t)
                                                         : bench->raw;
  char const *from = NULL;
  wksp__ck_digest_t digest;
  int likely = bench->hits * 2 + 32 >= bench->misses && writer->known_before;
  int looked = (likely || writer->opts.still) && chunk_look(writer, bench, chunk, &digest, &from);
  wksp__ck_work_done(work, chunk->raw_len, 0);
  if (looked && !writer->opts.still) {
    int has = wksp__ck_index_has(&writer->index, digest, chunk->raw_len, number);
    bench->hits += (uint64_t)has;
    bench->misses += (uint64_t)!has;
    if (has) return 0;
  }
  if (!looked || !from || !writer->opts.still) {
    digest = chunk_read(writer, chunk, copy);
    from = copy;
  }
  int known = wksp__ck_index_add(&writer->index, digest, chunk->raw_len, number);
  if (!looked && known == 1) bench->hits++;
  if (known) return known < 0 ? known : 0;
  return chunk_write(writer, bench, wksp__ck_known(&writer->index, *number), from, work);
}

/* Whether the first pass has seen the chunk as it is now: *ret_number. */
static int seen(wksp_ckpt_writer_t *writer, wksp__ck_chunk_t const *chunk, wksp__ck_digest_t digest,
                uint64_t *ret_number) {
  wksp__ck_tables_t const *first = &writer->first;
  uint64_t lo = 0, hi = first->chunk_cnt;
  while (lo < hi) {
    uint64_t mid = lo + (hi - lo) / 2;
    if (first->chunks[mid].window < chunk->window)
      lo = mid + 1;
    else
      hi = mid;
  }
  if (lo == first->chunk_cnt || first->chunks[lo].window != chunk->window) return 0;
  wksp__ck_ref_t const *ref = &wksp__ck_known(&writer->index, writer->first_numbers[lo])->ref;
  if (ref->raw_len != chunk->raw_len || !wksp__ck_digest_same(ref->digest, digest)) return 0;
  *ret_number = writer->first_numbers[lo];
  return 1;
}

/* 1 kept, 0 there is no room for it, or an error. */
static int keep(wksp_ckpt_writer_t *writer, uint64_t number, char const *raw, uint32_t len) {
  if (__atomic_add_fetch(&writer->kept_sz, len, __ATOMIC_RELAXED) > KEEP_MAX) return 0;
  char *kept = malloc(len);
  if (!kept) return 0;
  memcpy(kept, raw, len);
  wksp__ck_known(&writer->index, number)->kept = kept;
  pthread_mutex_lock(&writer->mutex);
  int err = wksp__ck_grow(&writer->kept, writer->kept_cnt, &writer->kept_cap, sizeof(uint64_t));
  if (!err) writer->kept[writer->kept_cnt++] = number;
  pthread_mutex_unlock(&writer->mutex);
  return err ? err : 1;
}

static int finish_piece(void *arg, uint32_t thread, uint64_t idx, wksp__ck_work_t *work) {
  wksp_ckpt_writer_t *writer = arg;
  bench_t *bench = &writer->benches[thread];
  wksp__ck_chunk_t const *chunk = &writer->ckpt.tables.chunks[idx];
  uint64_t *number = &writer->numbers[idx];
  char const *from;
  wksp__ck_digest_t digest;
  wksp__ck_work_done(work, chunk->raw_len, 0);
  if (chunk_look(writer, bench, chunk, &digest, &from) && seen(writer, chunk, digest, number))
    return 0;
  digest = chunk_read(writer, chunk, bench->raw);
  if (seen(writer, chunk, digest, number)) return 0;
  int rc = wksp__ck_index_add(&writer->index, digest, chunk->raw_len, number);
  if (rc) return rc < 0 ? rc : 0;
  rc = keep(writer, *number, bench->raw, chunk->raw_len);
  if (rc) return rc < 0 ? rc : 0;
  return chunk_write(writer, bench, wksp__ck_known(&writer->index, *number), bench->raw, NULL);
}

/* Passes
 * ---------------------------------------------------------------------------------------------- */

static int pass(wksp_ckpt_writer_t *writer, wksp__ck_piece_t piece, uint32_t phase) {
  wksp__ck_tables_t *tables = &writer->ckpt.tables;
  int err = wksp__ck_capture(writer->wksp, writer->opts.map_sz, tables);
  if (err) return err;
  uint32_t threads = wksp__ck_threads(writer->opts.threads, tables->live_sz);
  err = benches_make(writer, threads);
  if (err) return err;
  writer->numbers = calloc(tables->chunk_cnt + 1, sizeof *writer->numbers);
  if (!writer->numbers)
    return wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for %lu chunks", tables->chunk_cnt);
  writer->ckpt.wire.scanned_sz += tables->live_sz;
  int quiet = phase == WKSP_CKPT_PHASE_PAUSE;
  wksp__ck_job_t job = {.piece = piece,
                        .arg = writer,
                        .cnt = tables->chunk_cnt,
                        .threads = threads < writer->thread_cnt ? threads : writer->thread_cnt,
                        .phase = phase,
                        .total_sz = tables->live_sz,
                        .rate = quiet ? 0 : writer->opts.rate,
                        .on_progress = quiet ? NULL : writer->opts.on_progress,
                        .progress_arg = writer->opts.progress_arg};
  return wksp__ck_work(&job);
}

static int step(wksp_ckpt_writer_t *writer, int from, int to, char const *what) {
  if (!writer) return wksp__fail(WKSP_E_INVAL, "checkpoint: the writer is NULL");
  if (writer->state != from)
    return wksp__fail(WKSP_E_INVAL, "checkpoint: %s is not what comes next", what);
  writer->state = to;
  return 0;
}

int wksp_ckpt_scan(wksp_ckpt_writer_t *writer) {
  int err = step(writer, BEGUN, SCANNED, "scan");
  if (err) return err;
  err = pass(writer, scan_piece, WKSP_CKPT_PHASE_SCAN);
  if (err) writer->state = FAILED;
  return err;
}

int wksp_ckpt_finish(wksp_ckpt_writer_t *writer) {
  int err = step(writer, SCANNED, FINISHED, "finish");
  if (err) return err;
  writer->first = writer->ckpt.tables;
  writer->first_numbers = writer->numbers;
  memset(&writer->ckpt.tables, 0, sizeof writer->ckpt.tables);
  writer->numbers = NULL;
  err = pass(writer, finish_piece, WKSP_CKPT_PHASE_PAUSE);
  if (err) writer->state = FAILED;
  return err;
}

void wksp_ckpt_finished(wksp_ckpt_writer_t *writer, uint mode, ulong pause_ns,
                        wksp_ckpt_silent_t const *silent, uint silent_cnt) {
  wksp_ckpt_info_t *info = &writer->ckpt.info;
  writer->ckpt.wire.mode = mode;
  writer->ckpt.wire.pause_ns = pause_ns;
  writer->ckpt.wire.silent_cnt = silent_cnt;
  info->silent_cnt = silent_cnt;
  for (uint i = 0; silent && i < silent_cnt && i < WKSP_CKPT_SILENT_MAX; i++)
    info->silent[i] = silent[i];
}

/* Publish
 * ---------------------------------------------------------------------------------------------- */

static int kept_piece(void *arg, uint32_t thread, uint64_t idx, wksp__ck_work_t *work) {
  wksp_ckpt_writer_t *writer = arg;
  wksp__ck_known_t *known = wksp__ck_known(&writer->index, writer->kept[idx]);
  int err = chunk_write(writer, &writer->benches[thread], known, known->kept, work);
  wksp__ck_work_done(work, known->ref.raw_len, 0);
  free(known->kept);
  known->kept = NULL;
  return err;
}

static int kept_write(wksp_ckpt_writer_t *writer) {
  wksp__ck_job_t job = {.piece = kept_piece,
                        .arg = writer,
                        .cnt = writer->kept_cnt,
                        .threads = writer->thread_cnt,
                        .phase = WKSP_CKPT_PHASE_WRITE,
                        .total_sz = writer->kept_sz,
                        .rate = writer->opts.rate,
                        .on_progress = writer->opts.on_progress,
                        .progress_arg = writer->opts.progress_arg};
  return writer->kept_cnt ? wksp__ck_work(&job) : 0;
}

/* Where the chunks are: refs, and of the packs of the index those that they name. */
static int refs_make(wksp_ckpt_writer_t *writer, uint64_t pack_sz) {
  wksp_ckpt_t *ckpt = &writer->ckpt;
  wksp__ck_index_t *index = &writer->index;
  uint64_t cnt = ckpt->tables.chunk_cnt;
  index->packs[0] = (wksp__ck_wire_pack_t){ckpt->info.id, pack_sz};
  uint32_t *number_of = calloc(index->pack_cnt, sizeof *number_of);
  ckpt->packs = calloc(index->pack_cnt, sizeof *ckpt->packs);
  ckpt->refs = calloc(cnt + 1, sizeof *ckpt->refs);
  if (!number_of || !ckpt->packs || !ckpt->refs) {
    free(number_of);
    return wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for the places of %lu chunks", cnt);
  }
  for (uint64_t i = 0; i < cnt; i++) {
    wksp__ck_ref_t ref = wksp__ck_known(index, writer->numbers[i])->ref;
    if (!number_of[ref.pack]) {
      ckpt->packs[ckpt->info.pack_cnt++] = index->packs[ref.pack];
      number_of[ref.pack] = (uint32_t)ckpt->info.pack_cnt;
    }
    ref.pack = number_of[ref.pack] - 1;
    ckpt->refs[i] = ref;
  }
  ckpt->info.chunk_cnt = cnt;
  free(number_of);
  return 0;
}

static void wire_make(wksp_ckpt_writer_t *writer, uint64_t pack_sz) {
  wksp__ck_wire_info_t *wire = &writer->ckpt.wire;
  wksp__ck_tables_t const *tables = &writer->ckpt.tables;
  memcpy(wire->uuid, tables->hdr.uuid, sizeof wire->uuid);
  snprintf(wire->name, sizeof wire->name, "%s", tables->hdr.name);
  wire->seed = tables->hdr.seed;
  wire->layout_version = tables->hdr.layout_version;
  wire->geometry_hash = tables->hdr.geometry_hash;
  wire->compat = tables->hdr.compat;
  wire->ro_compat = tables->hdr.ro_compat;
  wire->incompat = tables->hdr.incompat;
  wire->part_max = tables->hdr.part_max;
  wire->data_max = tables->hdr.data_max;
  wire->data_sz = tables->data_sz;
  wire->page_size = writer->opts.page_size;
  wire->mode_asked = writer->opts.mode;
  wire->codec = writer->opts.style.codec;
  wire->level = writer->opts.style.level;
  wire->took_ns = wksp__now_ns() - writer->begin_ns;
  wire->live_sz = tables->live_sz;
  wire->written_sz = pack_sz;
  wire->chunk_lg = tables->chunk_lg;
}

/* Writes the manifest under its temporary name, makes it durable, names it. *ret_named: it had its
   name for a moment, so a power failure may bring it back. */
static int manifest_publish(wksp_ckpt_writer_t *writer, uint64_t *ret_len, int *ret_named) {
  wksp_ckpt_store_t *store = writer->store;
  char tmp[WKSP_CKPT_FILE_NAME_MAX + 1], name[WKSP_CKPT_FILE_NAME_MAX + 1];
  void *bytes;
  int file, err = wksp__ck_manifest_make(&writer->ckpt, &bytes, ret_len);
  if (err) return err;
  wksp__ck_file_name(writer->ckpt.info.id, WKSP_CK_FILE_CKPT, 1, tmp);
  wksp__ck_file_name(writer->ckpt.info.id, WKSP_CK_FILE_CKPT, 0, name);
  err = wksp__ck_make(store, tmp, &file);
  if (err) {
    free(bytes);
    return err;
  }
  err = wksp__ck_write_all(store, file, tmp, bytes, *ret_len, 0);
  free(bytes);
  if (!err) {
    err = store->io.fsync(store->io.self, file);
    if (err) err = wksp__ck_io_fail(err, "make durable", tmp);
  }
  store->io.close(store->io.self, file);
  int named = 0;
  if (!err) {
    err = store->io.rename(store->io.self, tmp, name);
    if (err) err = wksp__ck_io_fail(err, "name", name);
    named = !err;
  }
  if (!err) {
    err = store->io.fsync_folder(store->io.self);
    if (err) err = wksp__ck_io_fail(err, "make durable", "the folder");
  }
  /* One that was not said to be there shall not be: as far as the disk lets us. */
  if (err) store->io.unlink(store->io.self, named ? name : tmp);
  *ret_named = named;
  return err;
}

static void result_make(wksp_ckpt_writer_t *writer, uint64_t manifest_sz,
                        wksp_ckpt_result_t *result) {
  wksp__ck_wire_info_t const *wire = &writer->ckpt.wire;
  wksp_ckpt_info_t const *info = &writer->ckpt.info;
  *result = (wksp_ckpt_result_t){.id = info->id,
                                 .mode = wire->mode,
                                 .live_sz = wire->live_sz,
                                 .scanned_sz = wire->scanned_sz,
                                 .changed_sz = wire->changed_sz,
                                 .written_sz = wire->written_sz + manifest_sz,
                                 .chunk_cnt = info->chunk_cnt,
                                 .chunk_new_cnt = writer->new_cnt,
                                 .pause_ns = wire->pause_ns,
                                 .took_ns = wksp__now_ns() - writer->begin_ns,
                                 .suspect_cnt = writer->ckpt.tables.suspect_cnt,
                                 .silent_cnt = wire->silent_cnt};
  memcpy(result->silent, info->silent, sizeof result->silent);
}

int wksp_ckpt_publish(wksp_ckpt_writer_t *writer, wksp_ckpt_result_t *ret_result) {
  uint64_t pack_sz = 0, manifest_sz = 0;
  int named = 0;
  if (!writer) return wksp__fail(WKSP_E_INVAL, "checkpoint: the writer is NULL");
  int err = writer->state == SCANNED || writer->state == FINISHED
                ? kept_write(writer)
                : wksp__fail(WKSP_E_INVAL, "checkpoint: publish is not what comes next");
  if (!err) err = wksp__ck_pack_publish(&writer->pack, &pack_sz);
  if (!err) err = refs_make(writer, pack_sz);
  if (!err) {
    wire_make(writer, pack_sz);
    err = manifest_publish(writer, &manifest_sz, &named);
  }
  if (err && pack_sz && !named) wksp__ck_pack_take_back(&writer->pack);
  wksp_ckpt_result_t result;
  if (!err) result_make(writer, manifest_sz, &result);
  wksp_ckpt_cancel(writer); /* what is left of it */
  if (!err && ret_result) *ret_result = result;
  return err;
}

void wksp_ckpt_cancel(wksp_ckpt_writer_t *writer) {
  if (!writer) return;
  wksp__ck_pack_cancel(&writer->pack);
  wksp__ck_index_end(&writer->index);
  wksp__ck_tables_free(&writer->ckpt.tables);
  wksp__ck_tables_free(&writer->first);
  benches_free(writer);
  free(writer->ckpt.packs);
  free(writer->ckpt.refs);
  free(writer->numbers);
  free(writer->first_numbers);
  free(writer->kept);
  pthread_mutex_destroy(&writer->mutex);
  wksp__ck_unlock(writer->store);
  free(writer);
}
