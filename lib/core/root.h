/* root: the directory of named roots, by which programs find what they left behind. See root.c. */

#ifndef WKSP_CORE_ROOT_H
#define WKSP_CORE_ROOT_H

#include "core/layout.h"
#include "core/part.h"

/* One place of the directory. Free <=> name[0] == 0. The name is padded with NULs to its last
 * byte, so that equal names are equal words. */
typedef struct wksp__root {
  uint64_t name[(FD_WKSP_ROOT_NAME_MAX + 1) / 8];
  uint64_t gaddr;
  uint64_t tag;
} wksp__root_t;

_Static_assert(sizeof(wksp__root_t) == 80, "256 roots are five pages");

#define WKSP_ROOT_REGION_SZ (FD_WKSP_ROOT_MAX * sizeof(wksp__root_t))

/* Largest change: one place. */
#define WKSP_ROOT_TX_MAX 10

/* Invariants: names are terminated, padded and bound once, gaddrs lie in the data region. Tells
 * each violation; 0 or their number. The lock is held, or the memory is still. */
uint32_t wksp__root_check(fd_wksp_t const *wksp, wksp__finding_t finding, void *arg);

/* Removes what root_check would find. Tells each; their number. The lock is held. */
uint32_t wksp__root_repair(fd_wksp_t *wksp, wksp__finding_t finding, void *arg);

#endif
