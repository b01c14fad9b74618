/* look: into the fd_allocs of a workspace, from a process of its own. */

#ifndef WKSPCTL_LOOK_H
#define WKSPCTL_LOOK_H

#include "cli.h"

#include "wksp/fd_alloc.h"

#define LOOK_ALLOCS_MAX  64
#define LOOK_CLASSES_MAX 256

typedef struct look_alloc {
  ulong gaddr, tag;
  fd_alloc_stat_t stat;
} look_alloc_t;

typedef struct look {
  uint alloc_cnt; /* of those that are kept; more_cnt: others */
  uint more_cnt;
  uint cut;       /* 1: there are more blocks than were counted into classes */
  uint class_max; /* classes are [0, class_max) */
  look_alloc_t alloc[LOOK_ALLOCS_MAX];
  struct {
    ulong cnt, bytes;      /* live blocks of the size class, and what they may use */
  } cls[LOOK_CLASSES_MAX]; /* the last is what is large */
} look_t;

/* Finds the fd_allocs among these partitions and what they hold. CLI_OK and *ret_look; CLI_FAILED
   if that cannot be had, within LOOK_S seconds: not ours to read, damaged, gone. Nothing is told.
 */
#define LOOK_S 3
int look(cli_t const *cli, char const *name, fd_wksp_part_t const *parts, ulong part_cnt,
         look_t *ret_look);

#endif
