/* populate: takes the pages of a mapping, each on the node where it is wanted. */

#ifndef WKSPD_SHELL_POPULATE_H
#define WKSPD_SHELL_POPULATE_H

#include "daemon/core/placement.h"

#include <stdatomic.h>

typedef struct populate_want {
  uint8_t *mem; /* where page `from` is mapped, read-write; of ordinary pages, 2 MiB of the file lie
                   at multiples of 2 MiB */
  place_layout_t const *layout;
  uint64_t from, to; /* pages */
  topo_t const *topo;
  int strict;                               /* a page elsewhere than wanted is a failure */
  _Atomic int const *cancel;                /* becoming non-zero ends it early */
  void (*taken)(void *arg, uint64_t bytes); /* told of each piece, by several threads */
  void *arg;
} populate_want_t;

enum { POPULATE_OK = 0, POPULATE_SHORT, POPULATE_CANCELLED, POPULATE_SYS };

typedef struct populate_got {
  int32_t node;          /* SHORT: the node that ran dry, -1: none in particular */
  uint64_t wanted, free; /* SHORT: pages wanted there, and those that could be had there */
  int err;               /* SYS: errno, of call */
  char const *call;      /* a constant string */
  uint64_t elsewhere;    /* OK: pages on other nodes than wanted */
  uint64_t huge;         /* OK: bytes of ordinary pages that the kernel has made huge */
} populate_got_t;

/* Takes them: any thread, takes as long as clearing the pages takes; it starts threads of its own,
   on the cpus of each node, and ends them. POPULATE_*; unless it is OK some pages have been taken
   and some not. Neither reads nor writes what is there already. */
int populate(populate_want_t const *want, populate_got_t *ret_got);

#endif
