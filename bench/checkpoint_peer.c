/* checkpoint_peer: what checkpoints are measured on and beside (checkpoint.c).

   The peers are the plain calls and codecs, as two threads use them best on bytes that lie in one
   piece. Refuses: to let a peer do less than ours does with the same bytes; what it decodes or
   reads goes to the same memory, and what it writes, to the same folder. */

#include "checkpoint.h"

#include "wksp/fd_alloc.h"

#define XXH_INLINE_ALL
#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#define BLOCKS_MAX (4UL << 20)
#define PARTS_MAX  (1UL << 16)

int peer_by_cpu;

uint64_t peer_now(void) {
  struct timespec ts;
  if (!peer_by_cpu) return bench_now();
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
  return (uint64_t)ts.tv_sec * 1000000000UL + (uint64_t)ts.tv_nsec;
}

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

void fixture_make(fixture_t *fix) {
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

void fixture_free(fixture_t *fix) {
  fd_wksp_delete_anon(fix->wksp);
  munmap(fix->target, fix->target_sz);
  free(fix->parts);
  free(fix->flat);
  free(fix->packed);
  free(fix->packed_len);
}

void fixture_change(fixture_t *fix) {
  for (ulong sum = 0; sum < fix->live / 100;) {
    ulong p = bench_below(&fix->rng, fix->part_cnt), size = fix->parts[2 * p + 1];
    if (size > fix->live / 100 - sum) size = fix->live / 100 - sum;
    memset(fd_wksp_laddr(fix->wksp, fix->parts[2 * p]), (int)(bench_next(&fix->rng) & 255U), size);
    fill(fix, fd_wksp_laddr(fix->wksp, fix->parts[2 * p]), size & ~63UL);
    sum += size;
  }
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
  ulong at; /* in the file: where the next piece goes that has no place of its own */
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

static double run(peer_t *peer) {
  pthread_t other[THREADS - 1];
  uint64_t began = peer_now();
  for (int i = 0; i < THREADS - 1; i++)
    if (pthread_create(&other[i], NULL, peer_run, peer)) bench_die("no thread");
  peer_run(peer);
  for (int i = 0; i < THREADS - 1; i++) pthread_join(other[i], NULL);
  return (double)(peer_now() - began);
}

static void write_all(int file, char const *bytes, ulong len, ulong off) {
  for (ulong done = 0; done < len;) {
    ssize_t got = pwrite(file, bytes + done, len - done, (off_t)(off + done));
    if (got <= 0) bench_die("pwrite: %s", strerror(errno));
    done += (ulong)got;
  }
}

#define PEER(name)                                                                 \
  static void name(peer_t *peer, ulong idx, char *bytes, ulong len, char *scratch, \
                   ZSTD_CCtx *cctx, ZSTD_DCtx *dctx)

PEER(do_write) {
  write_all(peer->file, bytes, len, idx * peer->piece_sz);
}
PEER(do_read) {
  if (pread(peer->file, peer->fix->target + idx * PIECE, len, (off_t)(idx * PIECE)) != (ssize_t)len)
    bench_die("pread: %s", strerror(errno));
}
PEER(do_digest) {
  XXH128_hash_t hash = XXH3_128bits(bytes, len);
  __atomic_fetch_xor(&peer->sink, hash.low64, __ATOMIC_RELAXED);
}
PEER(do_copy) {
  memcpy(peer->fix->target + idx * PIECE, bytes, len);
}

/* To a buffer, or behind what the file has already. */
static void packed(peer_t *peer, char const *scratch, ulong len) {
  if (peer->file >= 0)
    write_all(peer->file, scratch, len, __atomic_fetch_add(&peer->at, len, __ATOMIC_RELAXED));
}
PEER(do_lz4) {
  packed(peer, scratch, (ulong)LZ4_compress_default(bytes, scratch, (int)len, (int)(2 * PIECE)));
}
PEER(do_zstd) {
  packed(peer, scratch, ZSTD_compressCCtx(cctx, scratch, 2 * PIECE, bytes, len, 1));
}
PEER(do_pack_lz4) {
  peer->fix->packed_len[idx] = (ulong)LZ4_compress_default(
      bytes, peer->fix->packed + idx * 2 * PIECE, (int)len, (int)(2 * PIECE));
}
PEER(do_pack_zstd) {
  peer->fix->packed_len[idx] =
      ZSTD_compressCCtx(cctx, peer->fix->packed + idx * 2 * PIECE, 2 * PIECE, bytes, len, 1);
}
PEER(do_unlz4) {
  LZ4_decompress_safe(peer->fix->packed + idx * 2 * PIECE, peer->fix->target + idx * PIECE,
                      (int)peer->fix->packed_len[idx], (int)len);
}
PEER(do_unzstd) {
  ZSTD_decompressDCtx(dctx, peer->fix->target + idx * PIECE, len,
                      peer->fix->packed + idx * 2 * PIECE, peer->fix->packed_len[idx]);
}

static piece_fn const pieces[PEER_CNT] = {
    [PEER_DIGEST] = do_digest, [PEER_COPY] = do_copy,         [PEER_LZ4] = do_lz4,
    [PEER_ZSTD] = do_zstd,     [PEER_PACK_LZ4] = do_pack_lz4, [PEER_PACK_ZSTD] = do_pack_zstd,
    [PEER_UNLZ4] = do_unlz4,   [PEER_UNZSTD] = do_unzstd,
};

double peer_time(fixture_t *fix, int what) {
  peer_t peer = {.fix = fix, .piece = pieces[what], .piece_sz = PIECE, .file = -1};
  return run(&peer);
}

static int file_make(char const *folder) {
  char path[512];
  snprintf(path, sizeof path, "%s/plain", folder);
  int file = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) bench_die("%s: %s", path, strerror(errno));
  return file;
}

static void file_end(char const *folder, int file) {
  char path[512];
  snprintf(path, sizeof path, "%s/plain", folder);
  close(file);
  unlink(path);
}

double peer_write_time(fixture_t *fix, char const *folder, int durable) {
  peer_t peer = {.fix = fix, .piece = do_write, .piece_sz = WRITE, .file = file_make(folder)};
  uint64_t began = peer_now();
  run(&peer);
  if (durable && fsync(peer.file)) bench_die("fsync: %s", strerror(errno));
  double took = (double)(peer_now() - began);
  file_end(folder, peer.file);
  return took;
}

double peer_code_write_time(fixture_t *fix, char const *folder, int what) {
  peer_t peer = {.fix = fix, .piece = pieces[what], .piece_sz = PIECE, .file = file_make(folder)};
  double took = run(&peer);
  file_end(folder, peer.file);
  return took;
}

double peer_read_time(fixture_t *fix, char const *folder) {
  int file = file_make(folder);
  peer_t peer = {.fix = fix, .piece = do_write, .piece_sz = WRITE, .file = file};
  run(&peer);
  peer = (peer_t){.fix = fix, .piece = do_read, .piece_sz = PIECE, .file = file};
  double took = run(&peer);
  file_end(folder, file);
  return took;
}
