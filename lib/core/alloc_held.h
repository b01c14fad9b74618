/* alloc_held: what lies in magazines is free, whatever its pair says. Part of alloc.h, which
   explains it. */

#ifndef WKSP_CORE_ALLOC_HELD_H
#define WKSP_CORE_ALLOC_HELD_H

#include "core/part.h"
#include "wksp/fd_alloc.h"

/* What the magazines of an alloc's heaps hold: gaddrs, ascending. */
typedef struct wksp__held_blocks {
  uint64_t *gaddr;
  uint64_t cnt;
} wksp__held_blocks_t;

/* Reads them, from read-only joins too; exact while nobody allocates or frees. 0, and
   wksp__held_free must follow, or E_NOMEM (reported). */
int wksp__held_blocks(fd_wksp_t const *wksp, uint64_t alloc_gaddr, wksp__held_blocks_t *ret_held);
int wksp__held_has(wksp__held_blocks_t const *held, uint64_t gaddr);
void wksp__held_free(wksp__held_blocks_t *held);

/* What a slot's thread had in flight when it died, a gaddr; 0: it lives, or there was nothing
   (alloc_walk.c). */
uint64_t wksp__slot_suspect(fd_wksp_t const *wksp, uint32_t slot_idx);

/* Whether the block was in flight when its thread died (alloc_walk.c). */
int wksp__is_suspect(struct fd_alloc const *alloc, fd_wksp_t const *wksp, uint64_t gaddr);

/* Live blocks of all fd_allocs of the workspace that fd_alloc_walk calls suspect; also of a
   read-only join (alloc_heap.c). One may count twice while a dead thread's slot is given back just
   then. 0, or E_AGAIN, E_CORRUPT of the partition table. */
int wksp__suspect_cnt(fd_wksp_t const *wksp, uint64_t *ret_cnt);

/* Whether a magazine of one of the alloc's heaps holds the block of the class at gaddr. */
int wksp__held_now(fd_wksp_t const *wksp, uint64_t alloc_gaddr, uint32_t cls, uint64_t gaddr);

/* The magazines' parts of wksp__alloc_check and wksp__alloc_repair. */
uint32_t wksp__held_check(fd_wksp_t const *wksp, wksp__finding_t finding, void *arg);
uint32_t wksp__held_repair(fd_wksp_t *wksp, wksp__finding_t finding, void *arg);

#endif
