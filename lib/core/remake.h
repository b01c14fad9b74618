/* remake: a workspace made anew in fresh memory from what was known of an old one, for lib/ckpt.
   See remake.c. */

#ifndef WKSP_CORE_REMAKE_H
#define WKSP_CORE_REMAKE_H

#include "core/alloc.h"
#include "core/export.h"
#include "core/root.h"

/* What it shall be. uuid NULL: a new one. */
typedef struct wksp__remake {
  char const *name;
  uint8_t const *uuid;
  uint32_t seed;
  uint64_t part_max, data_max, data_sz;
  uint32_t scale; /* of its fd_allocs (wksp__scale) */
} wksp__remake_t;

/* Formats zeroed memory, but leaves it unrecognisable. As wksp__new. */
WKSP_PRIVATE fd_wksp_t *wksp__remake_begin(void *shmem, wksp__remake_t const *what);

/* Partition number idx, from 0; kind with its owner. Then, once all cnt are there, what follows
   from them. end: 0, or E_LIMIT, E_CORRUPT (reported: they contradict one another). */
WKSP_PRIVATE void wksp__remake_part(fd_wksp_t *wksp, uint64_t idx, uint64_t gaddr, uint64_t size,
                                    uint64_t tag, uint32_t kind);
WKSP_PRIVATE int wksp__remake_parts_end(fd_wksp_t *wksp, uint64_t cnt, uint64_t data_sz);

/* A root; a home; a heap of a home, empty, as one whose thread was killed. */
WKSP_PRIVATE void wksp__remake_root(fd_wksp_t *wksp, uint64_t place, wksp__root_t const *root);
WKSP_PRIVATE void wksp__remake_home(fd_wksp_t *wksp, uint32_t id, uint64_t gaddr);
WKSP_PRIVATE void wksp__remake_heap(fd_wksp_t *wksp, uint32_t id, uint64_t gaddr,
                                    uint64_t alloc_gaddr);

/* 64 KiB of a partition for spans, in its alloc's pool. A span of a heap with these live bits; all
   of it was in the pool. Before the blocks get their bytes. */
WKSP_PRIVATE void wksp__remake_pool(fd_wksp_t *wksp, uint32_t span, uint32_t home);
WKSP_PRIVATE void wksp__remake_span(fd_wksp_t *wksp, uint32_t span, uint32_t cls, uint32_t heap,
                                    uint32_t home, uint64_t const *bits);

/* The head of a home, over whatever bytes are there: what is constant in it, as it was; pool_cnt of
   its 64 KiB are in the pool. */
typedef struct wksp__remake_head {
  uint64_t gaddr, tag, flags, lease, bad_free_cnt, late_write_cnt;
  uint32_t id, region_spans, pool_cnt;
} wksp__remake_head_t;
WKSP_PRIVATE void wksp__remake_head(fd_wksp_t *wksp, wksp__remake_head_t const *head);

/* The block at gaddr was in flight: notes it with the fd_alloc. */
WKSP_PRIVATE void wksp__remake_suspect(fd_wksp_t *wksp, uint64_t alloc_gaddr, uint64_t gaddr);

/* Ends what ephemeral fd_allocs have, and verifies all of it: then it is a workspace. 0, or why not
   (reported): then it is none. */
WKSP_PRIVATE int wksp__remake_end(fd_wksp_t *wksp);

#endif
