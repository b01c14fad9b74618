/* anon: workspaces without a daemon, with their parts on memory nodes. See anon.c. */

#ifndef WKSP_CORE_ANON_H
#define WKSP_CORE_ANON_H

#include "wksp/fd_wksp.h"

/* Nodes have numbers below this, as many as a word has bits; the daemon knows no more either. */
#define WKSP__ANON_NODES_MAX 64

typedef struct wksp__anon_part {
  ulong page_cnt;
  int node; /* -1: any */
} wksp__anon_part_t;

/* As fd_wksp_new_anon; its first pages are those of the first part, and so on. The parts have as
   many pages as size says, or part_cnt is 0. Besides E_INVAL: a node has no memory for this
   process. */
fd_wksp_t *wksp__anon_new(char const *name, ulong size, ulong page_size, uint seed, ulong part_max,
                          wksp__anon_part_t const *parts, ulong part_cnt);

#endif
