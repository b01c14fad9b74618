/* reserve: how many huge pages a node keeps, and why it could not be as many as asked for. */

#ifndef WKSPCTL_RESERVE_H
#define WKSPCTL_RESERVE_H

#include "host.h"

typedef struct reserve {
  uint node;
  ulong page_size; /* bytes */
  ulong wanted;    /* pages that the node is to keep in all: fewer than now gives some back */
  /* What may be done besides when the kernel finds too few: */
  int compact;     /* move what lies in the way */
  int drop_caches; /* forget what files are cached, on the whole machine */
  int demote;      /* split free pages of a larger size */
} reserve_t;

typedef struct reserved {
  ulong had, got;           /* pages that the node keeps, before and after */
  ulong surplus;            /* besides: in use, and gone when they are given back */
  ulong demoted;            /* pages of demoted_size that were split */
  ulong demoted_size;       /* bytes */
  char why[HOST_ERROR_MAX]; /* a sentence, if got is not what was wanted; else "" */
} reserved_t;

/* NULL, or a sentence in out why this cannot be asked of this machine: no such node or size, or
   more than the node has memory. Nothing is changed. */
char const *reserve_check(host_t const *host, reserve_t const *reserve, char out[HOST_ERROR_MAX]);

/* Does it. 0 and *ret_reserved, also when it got fewer; or -1 and a sentence: the machine does not
   let us, or refused. What was got by then stays. host: from before. */
int reserve_pages(sys_t const *sys, host_t const *host, reserve_t const *reserve,
                  reserved_t *ret_reserved, char ret_error[HOST_ERROR_MAX]);

#endif
