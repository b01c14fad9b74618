/* checkpoint: what its two files share: the workspace, the same bytes in one piece, and the peers.
 */

#ifndef WKSP_BENCH_CHECKPOINT_H
#define WKSP_BENCH_CHECKPOINT_H

#include "bench.h"
#include "wksp/wksp.h"

#define PIECE   (128UL << 10)
#define WRITE   (1UL << 20)
#define THREADS 2

typedef struct fixture {
  fd_wksp_t *wksp;
  ulong size; /* of the workspace */
  ulong *parts, part_cnt;
  char *flat; /* the live bytes in one piece */
  ulong live;
  char *packed; /* encoded pieces, each at a fixed place */
  ulong *packed_len;
  char *target; /* of restores and copies */
  ulong target_sz;
  char const *tmpfs, *disk;
  unsigned rounds;
  uint64_t end, until; /* of all groups of rows, and of the present one; by bench_now */
  uint still;          /* checkpoints are told that nobody changes the memory, which is true */
  bench_rng_t rng;
} fixture_t;

/* A workspace of fix->size bytes, half of which live. */
void fixture_make(fixture_t *fix);
void fixture_free(fixture_t *fix);

/* Writes one percent of the live bytes anew, partition by partition. */
void fixture_change(fixture_t *fix);

/* Time of the clock, or of the processors that this program has used: for a machine that others use
   at the same time. Both sides have as many threads, so the ratio is about the same. */
extern int peer_by_cpu;
uint64_t peer_now(void);

/* What two threads do to the live bytes, a piece of PIECE or WRITE bytes at a time. PACK_* make
   what UN* then decode. */
enum {
  PEER_DIGEST = 0,
  PEER_COPY,
  PEER_LZ4,
  PEER_ZSTD,
  PEER_PACK_LZ4,
  PEER_PACK_ZSTD,
  PEER_UNLZ4,
  PEER_UNZSTD,
  PEER_CNT
};
double peer_time(fixture_t *fix, int what);

/* Into a new file of the folder, in pieces of WRITE bytes, made durable if asked for. */
double peer_write_time(fixture_t *fix, char const *folder, int durable);

/* What PEER_LZ4 or PEER_ZSTD gives, written to a new file of the folder as well. */
double peer_code_write_time(fixture_t *fix, char const *folder, int what);

/* From a file of the folder that was just written to where restores go. */
double peer_read_time(fixture_t *fix, char const *folder);

#endif
