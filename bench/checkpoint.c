/* checkpoint: what checkpoints cost, beside the plain calls and codecs that they are made of.

   Problem: a checkpoint reads memory, digests, encodes and writes. What can be asked of it is to
   add little to what the machine takes for these alone, on the same bytes, with as many threads, in
   the same run.

   Model. A workspace is half full: partitions and the blocks of an fd_alloc, of which every second
   was freed again, filled with bytes of which about half can be compressed away. The peer has the
   same live bytes in one piece, which is the best case for it, and does with two threads what the
   row says: pwrite in pieces of 1 MiB; lz4, zstd and XXH3 in pieces of 128 KiB, which is also what
   a chunk is; memcpy. Both are measured in turn, a few times; a row is the median of the ratios of
   their times, ours by the peer's, with the least and the greatest.

   What it refuses: to compare with cold memory or a cold file. Both sides find pages that were
   touched and, where they read, files that were just written. */

#include "bench.h"
#include "wksp/ckpt.h"
#include "wksp/pause.h"
#include "wksp/wksp.h"

#define XXH_INLINE_ALL
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <lz4.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#define PIECE      (128UL << 10)
#define WRITE      (1UL << 20)
#define THREADS    2
#define ROUNDS_MAX 31
#define BLOCKS_MAX (4UL << 20)
#define PARTS_MAX  (1UL << 16)
#define SIZE_MIN   (16UL << 20) /* what is made for it has room */
#define BRACKETS   10000000UL

/* Time of the clock, or of the processors that this program has used: for a machine that others use
   at the same time. Both sides have as many threads, so the ratio is about the same. */
static int by_cpu;

static uint64_t now(void) {
  struct timespec ts;
  if (!by_cpu) return bench_now();
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
  return (uint64_t)ts.tv_sec * 1000000000UL + (uint64_t)ts.tv_nsec;
}

typedef struct fixture {
  fd_wksp_t *wksp;
  ulong size; /* of the workspace */
  ulong *parts, part_cnt;
  char *flat; /* the live bytes in one piece */
  ulong live;
  char *packed; /* encoded pieces, each at a fixed place */
  ulong *packed_len;
  void *target; /* of restores and copies */
  ulong target_sz;
  char const *tmpfs, *disk;
  unsigned rounds;
  uint still; /* checkpoints are told that nobody changes the memory, which is true */
  bench_rng_t rng;
} fixture_t;

/* The workspace
 * ---------------------------------------------------------------------------------------------- */

/* Pieces of 16 bytes: half of them of a small dictionary, half random. */
static void fill(fixture_t *fix, void *to, ulong size) {
  uint64_t *at = to;
  for (ulong i = 0; i + 2 <= size / 8; i += 2) {
    uint64_t word = bench_next(&fix->rng);
    if (word & 1U) {
      at[i] = word;
      at[i + 1] = bench_next(&fix->rng);
    } else {
      at[i] = (word >> 8 & 255U) * 0x0101010101010101UL;
      at[i + 1] = word >> 16 & 15U;
    }
  }
}

/* Blocks of 64 bytes to 4 KiB for a quarter of the memory, of which every second is freed. */
static void blocks_make(fixture_t *fix) {
  void *head = fd_wksp_alloc_laddr(fix->wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, 1);
  fd_alloc_t *join = fd_alloc_join(fd_alloc_new(head, 1), 0);
  if (!join) bench_die("fd_alloc: %s", wksp_last_error());
  void **block = bench_alloc(BLOCKS_MAX, sizeof *block);
  ulong cnt = 0;
  for (ulong sum = 0; sum < fix->size / 4 && cnt < BLOCKS_MAX; cnt++) {
    ulong size = bench_size(&fix->rng, 64, 4096) & ~15UL;
    block[cnt] = fd_alloc_malloc(join, 0, size);
    if (!block[cnt]) bench_die("malloc: %s", wksp_last_error());
    fill(fix, block[cnt], size);
    sum += size;
  }
  for (ulong i = 0; i < cnt; i += 2) fd_alloc_free(join, block[i]);
  free(block);
}

/* Partitions of 64 KiB to 1 MiB, until half of the memory is live. */
static void parts_make(fixture_t *fix) {
  fix->parts = bench_alloc(PARTS_MAX, 2 * sizeof *fix->parts);
  for (ulong sum = 0; sum < fix->size * 3 / 8 && fix->part_cnt < PARTS_MAX; fix->part_cnt++) {
    ulong size = bench_size(&fix->rng, 64UL << 10, 1UL << 20) & ~63UL;
    ulong gaddr = fd_wksp_alloc(fix->wksp, 64, size, 2);
    if (!gaddr) bench_die("alloc: %s", wksp_last_error());
    fill(fix, fd_wksp_laddr(fix->wksp, gaddr), size);
    fix->parts[2 * fix->part_cnt] = gaddr;
    fix->parts[2 * fix->part_cnt + 1] = size;
    sum += size;
  }
}

static int block_copy(void *arg, fd_alloc_block_t const *block) {
  fixture_t *fix = arg;
  memcpy(fix->flat + fix->live, fd_wksp_laddr(fix->wksp, block->gaddr), block->size);
  fix->live += block->size;
  return 0;
}

static void flat_make(fixture_t *fix) {
  fd_wksp_part_t part;
  fix->flat = bench_alloc(fix->size, 1);
  for (ulong from = 0; fd_wksp_part_next(fix->wksp, from, &part) == 1;
       from = part.gaddr + part.size) {
    if (part.kind != FD_WKSP_KIND_USER) continue;
    void *at = fd_wksp_laddr(fix->wksp, part.gaddr);
    memcpy(fix->flat + fix->live, at, part.size);
    fix->live += part.size;
    if (part.tag != 1) continue;
    fd_alloc_t *join = fd_alloc_join(at, 0);
    if (fd_alloc_walk(join, block_copy, fix)) bench_die("walk: %s", wksp_last_error());
  }
}

static void fixture_make(fixture_t *fix) {
  fix->wksp = fd_wksp_new_anon("bench", fix->size, 4096, 1, 0);
  if (!fix->wksp) bench_die("workspace: %s", wksp_last_error());
  blocks_make(fix);
  parts_make(fix);
  flat_make(fix);
  fix->packed = bench_alloc(2 * fix->live / PIECE + 2, PIECE);
  fix->packed_len = bench_alloc(fix->live / PIECE + 2, sizeof(ulong));
  memset(fix->packed, 1, fix->live);
  fix->target_sz = fix->size + (64UL << 20);
  fix->target = mmap(NULL, fix->target_sz, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (fix->target == MAP_FAILED) bench_die("mmap: %s", strerror(errno));
}

static void fixture_free(fixture_t *fix) {
  fd_wksp_delete_anon(fix->wksp);
  munmap(fix->target, fix->target_sz);
  free(fix->parts);
  free(fix->flat);
  free(fix->packed);
  free(fix->packed_len);
}

/* Peers
 * ---------------------------------------------------------------------------------------------- */

/* What two threads do to pieces of the live bytes. */
typedef struct peer peer_t;
typedef void (*piece_fn)(peer_t *peer, ulong idx, char *bytes, ulong len, char *scratch,
                         ZSTD_CCtx *cctx, ZSTD_DCtx *dctx);
struct peer {
  fixture_t *fix;
  piece_fn piece;
  ulong piece_sz, next;
  int file;
  uint64_t sink;
};

static void *peer_run(void *arg) {
  peer_t *peer = arg;
  ulong cnt = (peer->fix->live + peer->piece_sz - 1) / peer->piece_sz;
  char *scratch = bench_alloc(2 * PIECE, 1);
  ZSTD_CCtx *cctx = ZSTD_createCCtx();
  ZSTD_DCtx *dctx = ZSTD_createDCtx();
  for (ulong i; (i = __atomic_fetch_add(&peer->next, 1UL, __ATOMIC_RELAXED)) < cnt;) {
    ulong at = i * peer->piece_sz, left = peer->fix->live - at;
    peer->piece(peer, i, peer->fix->flat + at, left < peer->piece_sz ? left : peer->piece_sz,
                scratch, cctx, dctx);
  }
  ZSTD_freeCCtx(cctx);
  ZSTD_freeDCtx(dctx);
  free(scratch);
  return NULL;
}

static double peer_time(peer_t peer) {
  pthread_t other[THREADS - 1];
  uint64_t began = now();
  for (int i = 0; i < THREADS - 1; i++)
    if (pthread_create(&other[i], NULL, peer_run, &peer)) bench_die("no thread");
  peer_run(&peer);
  for (int i = 0; i < THREADS - 1; i++) pthread_join(other[i], NULL);
  return (double)(now() - began);
}

#define PEER(name)                                                                 \
  static void name(peer_t *peer, ulong idx, char *bytes, ulong len, char *scratch, \
                   ZSTD_CCtx *cctx, ZSTD_DCtx *dctx)

PEER(do_write) {
  for (ulong done = 0; done < len;) {
    ssize_t got = pwrite(peer->file, bytes + done, len - done, (off_t)(idx * WRITE + done));
    if (got <= 0) bench_die("pwrite: %s", strerror(errno));
    done += (ulong)got;
  }
}
PEER(do_digest) {
  XXH128_hash_t hash = XXH3_128bits(bytes, len);
  __atomic_fetch_xor(&peer->sink, hash.low64, __ATOMIC_RELAXED);
}
PEER(do_lz4) {
  LZ4_compress_default(bytes, scratch, (int)len, (int)(2 * PIECE));
}
PEER(do_zstd) {
  ZSTD_compressCCtx(cctx, scratch, 2 * PIECE, bytes, len, 1);
}
PEER(do_copy) {
  memcpy((char *)peer->fix->target + idx * PIECE, bytes, len);
}
PEER(do_unlz4) {
  LZ4_decompress_safe(peer->fix->packed + idx * 2 * PIECE, (char *)peer->fix->target + idx * PIECE,
                      (int)peer->fix->packed_len[idx], (int)len);
}
PEER(do_unzstd) {
  ZSTD_decompressDCtx(dctx, (char *)peer->fix->target + idx * PIECE, len,
                      peer->fix->packed + idx * 2 * PIECE, peer->fix->packed_len[idx]);
}
PEER(do_pack_lz4) {
  peer->fix->packed_len[idx] = (ulong)LZ4_compress_default(
      bytes, peer->fix->packed + idx * 2 * PIECE, (int)len, (int)(2 * PIECE));
}
PEER(do_pack_zstd) {
  peer->fix->packed_len[idx] =
      ZSTD_compressCCtx(cctx, peer->fix->packed + idx * 2 * PIECE, 2 * PIECE, bytes, len, 1);
}

static double codec_time(fixture_t *fix, piece_fn piece) {
  peer_t peer = {.fix = fix, .piece = piece, .piece_sz = PIECE};
  return peer_time(peer);
}

/* Into a new file, which is made durable if asked for, as the plain calls do it best. */
static double write_time(fixture_t *fix, char const *folder, int durable) {
  char path[512];
  snprintf(path, sizeof path, "%s/plain", folder);
  int file = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
  if (file < 0) bench_die("%s: %s", path, strerror(errno));
  peer_t peer = {.fix = fix, .piece = do_write, .piece_sz = WRITE, .file = file};
  uint64_t began = now();
  peer_time(peer);
  if (durable && fsync(file)) bench_die("fsync: %s", strerror(errno));
  double took = (double)(now() - began);
  close(file);
  unlink(path);
  return took;
}

/* Ours
 * ---------------------------------------------------------------------------------------------- */

static wksp_ckpt_store_t *store_in(char const *folder) {
  wksp_ckpt_store_t *store;
  char path[512];
  snprintf(path, sizeof path, "%s/store", folder);
  if (mkdir(path, 0700) && errno != EEXIST) bench_die("%s: %s", path, strerror(errno));
  if (wksp_ckpt_store_open(path, &store)) bench_die("%s", wksp_last_error());
  return store;
}

static void store_end(wksp_ckpt_store_t *store, char const *folder) {
  char path[512];
  wksp_ckpt_store_close(store);
  snprintf(path, sizeof path, "%s/store", folder);
  rmdir(path);
}

static wksp_ckpt_result_t take(fixture_t *fix, wksp_ckpt_store_t *store, uint codec, uint mode,
                               double *ret_ns) {
  wksp_ckpt_opts_t opts = {.style = {codec, 0},
                           .mode = mode,
                           .threads = THREADS,
                           .still = fix->still,
                           .pause_ns = 60000000000UL,
                           .wait_ns = 1000000000UL};
  wksp_ckpt_result_t result;
  uint64_t began = now();
  if (wksp_ckpt_take(store, fix->wksp, &opts, &result)) bench_die("take: %s", wksp_last_error());
  *ret_ns = (double)(now() - began);
  return result;
}

static void drop(wksp_ckpt_store_t *store, ulong id) {
  if (wksp_ckpt_remove(store, id, NULL)) bench_die("remove: %s", wksp_last_error());
}

static double restore_time(fixture_t *fix, wksp_ckpt_store_t *store) {
  wksp_ckpt_t *ckpt;
  memset(fix->target, 0, fix->target_sz);
  uint64_t began = now();
  if (wksp_ckpt_open(store, 0, &ckpt)) bench_die("open: %s", wksp_last_error());
  wksp_ckpt_restore_opts_t how = {
      .shmem = fix->target, .map_sz = fix->target_sz, .threads = THREADS};
  if (wksp_ckpt_restore(ckpt, &how, NULL)) bench_die("restore: %s", wksp_last_error());
  wksp_ckpt_close(ckpt);
  return (double)(now() - began);
}

/* Rows
 * ---------------------------------------------------------------------------------------------- */

typedef struct series {
  double ours[ROUNDS_MAX], peer[ROUNDS_MAX];
  unsigned cnt;
} series_t;

static void add(series_t *series, double ours, double peer) {
  series->ours[series->cnt] = ours;
  series->peer[series->cnt++] = peer;
}

/* The row of a ratio of times; the best time of each side stands beside it. */
static void ratio_row(bench_rows_t *rows, fixture_t *fix, char const *name, double goal,
                      series_t *series, char const *peer) {
  double ratios[ROUNDS_MAX], best_ours = series->ours[0], best_peer = series->peer[0];
  bench_row_t *row = bench_row(rows, name);
  for (unsigned i = 0; i < series->cnt; i++) {
    ratios[i] = series->ours[i] / series->peer[i];
    if (series->ours[i] < best_ours) best_ours = series->ours[i];
    if (series->peer[i] < best_peer) best_peer = series->peer[i];
  }
  row->unit = "x";
  row->goal = goal;
  for (int q = 0; q < 3; q++)
    row->value[q] = bench_quantile(ratios, series->cnt, q ? (double)(q - 1) : 0.5);
  snprintf(row->note, sizeof row->note, "%.2f GB/s, %s %.2f; best by best %.2f",
           (double)fix->live / best_ours, peer, (double)fix->live / best_peer,
           best_ours / best_peer);
}

static void figure_row(bench_rows_t *rows, char const *name, double goal, double value,
                       char const *unit, char const *note) {
  bench_row_t *row = bench_row(rows, name);
  row->value[0] = value;
  row->unit = unit;
  row->goal = goal;
  snprintf(row->note, sizeof row->note, "%s", note);
}

static void raw_rows(bench_rows_t *rows, fixture_t *fix, char const *folder, int durable) {
  wksp_ckpt_store_t *store = store_in(folder);
  series_t series = {.cnt = 0}, still = {.cnt = 0};
  for (unsigned r = 0; r < fix->rounds; r++) {
    double ours, peer = write_time(fix, folder, durable);
    drop(store, take(fix, store, WKSP_CKPT_RAW, WKSP_CKPT_FUZZY, &ours).id);
    add(&series, ours, peer);
    peer = write_time(fix, folder, durable);
    fix->still = 1;
    drop(store, take(fix, store, WKSP_CKPT_RAW, WKSP_CKPT_FUZZY, &ours).id);
    fix->still = 0;
    add(&still, ours, peer);
  }
  char const *peer = durable ? "pwrite and fsync" : "pwrite";
  ratio_row(rows, fix, durable ? "raw, disk, durable" : "raw, tmpfs", 1 / 0.9, &series, peer);
  ratio_row(rows, fix, durable ? "raw, still, disk, durable" : "raw, still, tmpfs", 1 / 0.9, &still,
            peer);
  store_end(store, folder);
}

static void codec_rows(bench_rows_t *rows, fixture_t *fix, char const *name, uint codec,
                       piece_fn encode, piece_fn pack, piece_fn decode) {
  wksp_ckpt_store_t *store = store_in(fix->tmpfs);
  series_t taken = {.cnt = 0}, restored = {.cnt = 0};
  char row[64];
  if (pack) codec_time(fix, pack);
  for (unsigned r = 0; r < fix->rounds; r++) {
    double ours, peer = encode ? codec_time(fix, encode) : 0;
    ulong id = take(fix, store, codec, WKSP_CKPT_FUZZY, &ours).id;
    if (encode) add(&taken, ours, peer);
    double back = restore_time(fix, store);
    add(&restored, back, codec_time(fix, decode));
    drop(store, id);
  }
  if (encode) ratio_row(rows, fix, name, 1 / 0.95, &taken, "codec alone");
  snprintf(row, sizeof row, "restore, %s", name);
  ratio_row(rows, fix, row, 1 / 0.85, &restored,
            codec == WKSP_CKPT_RAW ? "memcpy" : "decoder alone");
  store_end(store, fix->tmpfs);
}

/* Writes one percent of the live bytes anew, partition by partition. */
static void change(fixture_t *fix) {
  for (ulong sum = 0; sum < fix->live / 100;) {
    ulong p = bench_below(&fix->rng, fix->part_cnt), size = fix->parts[2 * p + 1];
    if (size > fix->live / 100 - sum) size = fix->live / 100 - sum;
    memset(fd_wksp_laddr(fix->wksp, fix->parts[2 * p]), (int)(bench_next(&fix->rng) & 255U), size);
    fill(fix, fd_wksp_laddr(fix->wksp, fix->parts[2 * p]), size & ~63UL);
    sum += size;
  }
}

static void again_rows(bench_rows_t *rows, fixture_t *fix) {
  wksp_ckpt_store_t *store = store_in(fix->tmpfs);
  series_t again = {.cnt = 0}, pauses = {.cnt = 0};
  double ours, peer, most = 0;
  ulong id = take(fix, store, WKSP_CKPT_RAW, WKSP_CKPT_FUZZY, &ours).id;
  for (unsigned r = 0; r < fix->rounds; r++) {
    change(fix);
    peer = codec_time(fix, do_digest);
    wksp_ckpt_result_t result = take(fix, store, WKSP_CKPT_RAW, WKSP_CKPT_FUZZY, &ours);
    add(&again, ours, peer);
    double wrote = (double)result.written_sz / (double)result.changed_sz;
    if (wrote > most) most = wrote;
    drop(store, id);
    peer = codec_time(fix, do_digest);
    id = take(fix, store, WKSP_CKPT_RAW, WKSP_CKPT_QUIESCE, &ours).id;
    drop(store, result.id);
    wksp_ckpt_t *ckpt;
    if (wksp_ckpt_open(store, id, &ckpt)) bench_die("open: %s", wksp_last_error());
    add(&pauses, (double)wksp_ckpt_info(ckpt)->pause_ns, peer);
    wksp_ckpt_close(ckpt);
  }
  ratio_row(rows, fix, "second, 1 % changed", 1.15, &again, "digest");
  figure_row(rows, "second, written by changed", 1.5, most, "x", "the greatest of all rounds");
  if (!by_cpu) /* how long others wait is a time of the clock */
    ratio_row(rows, fix, "pause, nothing changing", 1.2, &pauses, "digest");
  drop(store, id);
  store_end(store, fix->tmpfs);
}

/* The pause of a smaller workspace, in ms of the clock, to be plotted against its size: nobody is
   there who changes anything, so it is what the second pass costs. */
static void size_row(bench_rows_t *rows, fixture_t const *of, ulong size) {
  fixture_t fix = {.size = size, .tmpfs = of->tmpfs, .rng = of->rng};
  fixture_make(&fix);
  wksp_ckpt_store_t *store = store_in(fix.tmpfs);
  double pause[ROUNDS_MAX], digest[ROUNDS_MAX], ours;
  char name[64];
  for (unsigned r = 0; r < of->rounds; r++) {
    digest[r] = codec_time(&fix, do_digest);
    wksp_ckpt_result_t result = take(&fix, store, WKSP_CKPT_RAW, WKSP_CKPT_QUIESCE, &ours);
    pause[r] = (double)result.pause_ns / 1e6;
    drop(store, result.id);
  }
  store_end(store, fix.tmpfs);
  snprintf(name, sizeof name, "pause, %lu MiB live", fix.live >> 20);
  bench_row_t *row = bench_row(rows, name);
  row->unit = "ms";
  for (int q = 0; q < 3; q++)
    row->value[q] = bench_quantile(pause, of->rounds, q ? (double)(q - 1) : 0.5);
  snprintf(row->note, sizeof row->note, "the digest by %d threads %.2f%s", THREADS,
           bench_quantile(digest, of->rounds, 0.5) / 1e6, by_cpu ? " of the processor" : "");
  fixture_free(&fix);
}

static void pause_rows(bench_rows_t *rows, fixture_t *fix) {
  uint64_t began = now();
  for (ulong i = 0; i < BRACKETS; i++) {
    if (wksp_client_enter(fix->wksp)) bench_die("enter: %s", wksp_last_error());
    wksp_client_leave(fix->wksp);
  }
  double each = (double)(now() - began) / (double)BRACKETS;
  figure_row(rows, "brackets, a pair", 2, each, "ns", "wksp_client_enter and _leave");
}

/* The same inline. */
static void bracket_rows(bench_rows_t *rows, fixture_t *fix) {
  wksp_bracket_t *bracket;
  if (wksp_client_bracket(fix->wksp, &bracket)) bench_die("bracket: %s", wksp_last_error());
  uint64_t began = now();
  for (ulong i = 0; i < BRACKETS; i++) {
    if (wksp_bracket_enter(bracket)) bench_die("enter: %s", wksp_last_error());
    wksp_bracket_leave(bracket);
  }
  double each = (double)(now() - began) / (double)BRACKETS;
  figure_row(rows, "brackets inline, a pair", 2, each, "ns", "wksp_bracket_enter and _leave");
}

static void free_row(bench_rows_t *rows, fixture_t *fix) {
  wksp_ckpt_store_t *store = store_in(fix->tmpfs);
  double ours;
  wksp_ckpt_result_t result = take(fix, store, WKSP_CKPT_RAW, WKSP_CKPT_FUZZY, &ours);
  figure_row(rows, "free memory in it", 0, (double)result.live_sz - (double)fix->live, "bytes",
             "live bytes of the checkpoint less those of partitions and blocks");
  drop(store, result.id);
  store_end(store, fix->tmpfs);
}

static void usage(FILE *to) {
  fputs("usage: checkpoint [--size MiB] [--rounds N] [--tmpfs FOLDER] [--disk FOLDER] [--cpu] "
        "[--only tmpfs,disk,raw,lz4,zstd,second,free,size,brackets,idle] [--idle SECONDS] [--json] "
        "[--check]\n",
        to);
}

static ulong number(char const *text, char const *option, ulong lo, ulong hi) {
  char *end;
  ulong value = strtoul(text, &end, 0);
  if (!*text || *end || value < lo || value > hi)
    bench_die("%s '%s': a number from %lu to %lu", option, text, lo, hi);
  return value;
}

/* Whether these rows are among those that are wanted: a list of words, NULL: all. */
static int wanted(char const *only, char const *word) {
  return !only || strstr(only, word);
}

int main(int argc, char **argv) {
  static struct option const options[] = {
      {"size", 1, NULL, 's'}, {"rounds", 1, NULL, 'r'}, {"tmpfs", 1, NULL, 't'},
      {"disk", 1, NULL, 'd'}, {"json", 0, NULL, 'j'},   {"check", 0, NULL, 'c'},
      {"cpu", 0, NULL, 'u'},  {"only", 1, NULL, 'o'},   {"idle", 1, NULL, 'i'},
      {"help", 0, NULL, 'h'}, {NULL, 0, NULL, 0}};
  char tmpfs[64] = "/dev/shm/wksp-bench-XXXXXX", disk[64] = "/var/tmp/wksp-bench-XXXXXX";
  fixture_t fix = {.size = 2048UL << 20, .rounds = 5};
  char const *only = NULL;
  unsigned idle = 10;
  int json = 0, check = 0;
  for (int got; (got = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    if (got == 's')
      fix.size = number(optarg, "--size", 16, 1UL << 20) << 20;
    else if (got == 'r')
      fix.rounds = (unsigned)number(optarg, "--rounds", 1, ROUNDS_MAX);
    else if (got == 't')
      fix.tmpfs = optarg;
    else if (got == 'd')
      fix.disk = optarg;
    else if (got == 'o')
      only = optarg;
    else if (got == 'i')
      idle = (unsigned)number(optarg, "--idle", 0, 3600);
    else if (got == 'j')
      json = 1;
    else if (got == 'c')
      check = 1;
    else if (got == 'u')
      by_cpu = 1;
    else {
      usage(got == 'h' ? stdout : stderr);
      return got == 'h' ? 0 : 2;
    }
  }
  if (optind != argc) bench_die("unknown argument '%s'", argv[optind]);
  int own_tmpfs = !fix.tmpfs, own_disk = !fix.disk;
  if (own_tmpfs && !(fix.tmpfs = mkdtemp(tmpfs))) bench_die("%s: %s", tmpfs, strerror(errno));
  if (own_disk && !(fix.disk = mkdtemp(disk))) bench_die("%s: %s", disk, strerror(errno));
  bench_run_t run = {.rounds = fix.rounds, .seed = 1};
  bench_rows_t rows = {.cnt = 0};
  fix.rng = bench_rng(run.seed, "checkpoint");
  fixture_make(&fix);
  snprintf(run.pages, sizeof run.pages, "a workspace of %lu MiB with %lu MiB live, 2 threads%s",
           fix.size >> 20, fix.live >> 20, by_cpu ? "; times are of the processor" : "");
  if (wanted(only, "tmpfs")) raw_rows(&rows, &fix, fix.tmpfs, 0);
  if (wanted(only, "disk")) raw_rows(&rows, &fix, fix.disk, 1);
  if (wanted(only, "raw")) codec_rows(&rows, &fix, "raw", WKSP_CKPT_RAW, NULL, NULL, do_copy);
  if (wanted(only, "lz4"))
    codec_rows(&rows, &fix, "lz4", WKSP_CKPT_LZ4, do_lz4, do_pack_lz4, do_unlz4);
  if (wanted(only, "zstd"))
    codec_rows(&rows, &fix, "zstd -1", WKSP_CKPT_ZSTD, do_zstd, do_pack_zstd, do_unzstd);
  if (wanted(only, "second")) again_rows(&rows, &fix);
  if (wanted(only, "free")) free_row(&rows, &fix);
  for (uint part = 16; wanted(only, "size") && part >= 2; part /= 2)
    if (fix.size / part >= SIZE_MIN) size_row(&rows, &fix, fix.size / part);
  if (wanted(only, "brackets")) pause_rows(&rows, &fix);
  if (wanted(only, "brackets")) bracket_rows(&rows, &fix);
  fixture_free(&fix);
  if (wanted(only, "idle") && idle) bench_idle(&rows, idle);
  if (own_tmpfs) rmdir(tmpfs);
  if (own_disk) rmdir(disk);
  if (json)
    bench_report_json(&run, &rows);
  else
    bench_report_text(&run, &rows);
  for (size_t i = 0; check && i < rows.cnt; i++)
    if (bench_row_missed(&rows.rows[i])) return 1;
  return 0;
}
