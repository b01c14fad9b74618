/* ranges: the bytes of a chunk where they are, each fetched before it is wanted.

   What lives in a span of small blocks lies in thousands of short ranges, and the processor does
   not guess where the next one begins: whoever walks them one by one waits for memory at each. So
   they are collected, a few dozen at a time, and fetched some ahead of the one that is looked at.
 */

#ifndef WKSP_CKPT_RANGES_H
#define WKSP_CKPT_RANGES_H

#include "ckpt/tables.h"

#include <string.h>

/* The smallest pages that a workspace has; where one ends the processor does not fetch ahead. */
#define WKSP_CK_PAGE 4096UL

/* Copies from memory that is not in the caches: one line of each page is asked for a page ahead. */
static inline void wksp__ck_copy(char *to, char const *from, uint64_t len) {
  for (; len > WKSP_CK_PAGE; to += WKSP_CK_PAGE, from += WKSP_CK_PAGE, len -= WKSP_CK_PAGE) {
    __builtin_prefetch(from + WKSP_CK_PAGE);
    memcpy(to, from, WKSP_CK_PAGE);
  }
  memcpy(to, from, len);
}

/* Calls on_range for the ranges of a chunk, in the order of addresses; ranges that touch are one.
   base: where the workspace is, or is to be. */
typedef void (*wksp__ck_range_t)(void *arg, char *at, uint64_t len);
void wksp__ck_ranges(wksp__ck_tables_t const *tables, wksp__ck_chunk_t const *chunk, void *base,
                     wksp__ck_range_t on_range, void *arg);

#endif
