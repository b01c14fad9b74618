/* tables: what lives in a workspace at a time: its partitions, roots, fd_allocs and live blocks.

   Filled from memory (capture.c) or from a manifest (manifest.c), and then the same to all others:
   which bytes live, chunk by chunk (tables.c), and how a workspace is made of it (restore.c).

   may use: lib/core. */

#ifndef WKSP_CKPT_TABLES_H
#define WKSP_CKPT_TABLES_H

#include "core/alloc.h"
#include "core/layout.h"
#include "core/root.h"

#include <stdint.h>

/* A kind as in part.h, with the owner. */
typedef struct wksp__ck_part {
  uint64_t gaddr, size, tag;
  uint32_t kind, pad;
} wksp__ck_part_t;

typedef struct wksp__ck_root {
  uint64_t place;
  wksp__root_t root;
} wksp__ck_root_t;

/* A word of the heap directory. what: DIR_HOME or DIR_HEAP. The rest is of a home's head, which may
   have changed by the time its memory is read: struct fd_alloc. */
typedef struct wksp__ck_dir {
  uint32_t id, what;
  uint64_t gaddr;
  uint64_t tag, flags, lease, bad_free_cnt, late_write_cnt;
  uint32_t region_spans, pad;
} wksp__ck_dir_t;

/* A span with blocks. Its live bits are words bits[first .. first + word_cnt). */
typedef struct wksp__ck_span {
  uint32_t span, cls, heap, word_cnt;
  uint64_t first;
} wksp__ck_span_t;

typedef struct wksp__ck_suspect {
  uint64_t alloc, gaddr;
} wksp__ck_suspect_t;

/* A range of which something lives: all of it, or the blocks of a span. */
#define WKSP_CK_ALL UINT32_MAX
typedef struct wksp__ck_extent {
  uint64_t gaddr, size;
  uint32_t span; /* number in spans, or WKSP_CK_ALL */
  uint32_t pad;
} wksp__ck_extent_t;

/* The live bytes of an aligned window of addresses, one behind the other. raw_len > 0. */
typedef struct wksp__ck_chunk {
  uint64_t window;
  uint64_t extent; /* the first that reaches into it */
  uint32_t raw_len;
  uint32_t run_cnt; /* ranges that it consists of; of two that touch, one */
} wksp__ck_chunk_t;

/* Parts, extents, spans and chunks ascend and do not overlap. */
typedef struct wksp__ck_tables {
  struct fd_wksp hdr; /* a checked copy; its magic means nothing */
  uint64_t data_sz;   /* bytes of data at the time */
  wksp__ck_part_t *parts;
  uint64_t part_cnt, part_cap;
  wksp__ck_root_t *roots;
  uint64_t root_cnt, root_cap;
  wksp__ck_dir_t *dir;
  uint64_t dir_cnt, dir_cap;
  wksp__ck_span_t *spans;
  uint64_t span_cnt, span_cap;
  uint64_t *bits;
  uint64_t bit_cnt, bit_cap; /* in words */
  wksp__ck_suspect_t *suspects;
  uint64_t suspect_cnt, suspect_cap;
  wksp__ck_extent_t *extents;
  uint64_t extent_cnt, extent_cap;
  wksp__ck_chunk_t *chunks;
  uint64_t chunk_cnt, chunk_cap;
  uint64_t live_sz;
  uint32_t chunk_lg; /* windows are 2^chunk_lg bytes */
} wksp__ck_tables_t;

/* Windows: as small as incremental checkpoints like them, as large as codecs do. */
#define WKSP_CK_CHUNK_LG_MIN 16U
#define WKSP_CK_CHUNK_LG     17U
#define WKSP_CK_CHUNK_LG_MAX 22U

/* That of a workspace; the same for all of its checkpoints. */
uint32_t wksp__ck_chunk_lg(uint64_t data_max);

/* Everything that it holds; it is zero then. */
void wksp__ck_tables_free(wksp__ck_tables_t *tables);

/* Room for one more at the end of an array: 0, or E_NOMEM (reported). */
int wksp__ck_grow(void *array, uint64_t cnt, uint64_t *cap, uint64_t item_sz);
#define WKSP_CK_ADD(tables, name)                                                \
  wksp__ck_grow(&(tables)->name##s, (tables)->name##_cnt, &(tables)->name##_cap, \
                sizeof *(tables)->name##s)

/* The part that has gaddr, NULL if none has. */
wksp__ck_part_t const *wksp__ck_part_at(wksp__ck_tables_t const *tables, uint64_t gaddr);

/* The span among spans that has gaddr, and the block that begins there; NULL if none does. likely:
   a span that is looked at first, or NULL. */
wksp__ck_span_t const *wksp__ck_block_at(wksp__ck_tables_t const *tables, uint64_t gaddr,
                                         wksp__ck_span_t const *likely, uint32_t *ret_blk);

/* The home with that id: gaddr of its head, 0 if the directory has none. The heap with that id of
   that home, likewise. dir ascends by id. */
uint64_t wksp__ck_home(wksp__ck_tables_t const *tables, uint32_t id);
uint64_t wksp__ck_heap(wksp__ck_tables_t const *tables, uint32_t id, uint32_t home);

/* From parts, spans and bits: extents, chunks and live_sz. At most chunk_max chunks: else
   E_CORRUPT. 0, E_NOMEM (reported). */
int wksp__ck_chunks_make(wksp__ck_tables_t *tables, uint64_t chunk_max);

/* Calls on_run for each range of live bytes of a chunk, in the order of addresses; together they
   are raw_len bytes. Ranges of two partitions are told apart, though they may touch. */
typedef void (*wksp__ck_run_t)(void *arg, uint64_t gaddr, uint64_t len);
void wksp__ck_runs(wksp__ck_tables_t const *tables, wksp__ck_chunk_t const *chunk,
                   wksp__ck_run_t on_run, void *arg);

/* Whether everything in them is possible, in the order promised above: 0, or E_CORRUPT (reported).
   For what comes from a file. */
int wksp__ck_tables_check(wksp__ck_tables_t const *tables);

/* Fills tables, which are zero, from a joined workspace that others may change meanwhile, and makes
   the chunks. map_sz: bytes that may be looked at, 0: the footprint. 0, E_CORRUPT, E_AGAIN,
   E_TIMEDOUT, E_NOMEM (reported). */
int wksp__ck_capture(fd_wksp_t *wksp, uint64_t map_sz, wksp__ck_tables_t *tables);

#endif
