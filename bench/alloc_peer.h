/* alloc_peer: one allocator under measurement. Which is chosen when the program is compiled: each
   is a program of its own, since most of them take malloc's name.

     ALLOC_PEER_WKSP    fd_alloc in an anonymous workspace, from the static library
     ALLOC_PEER_BOOST   Boost.Interprocess in shared memory (alloc_boost.cc)
     else               malloc and free, of whatever library the program is linked with */

#ifndef WKSP_BENCH_ALLOC_PEER_H
#define WKSP_BENCH_ALLOC_PEER_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Memory for the allocator, if it has some of its own: touched, in the largest pages there are; or,
   if touch is 0, untouched and in small ones, so that what is resident is what it has used. 0, or
   1: it cannot be had, *ret_why says why. */
int peer_open(size_t size, int touch, char const **ret_why);

/* Bytes that it has taken of that memory, 0 if it has none of its own. */
size_t peer_used(void);

#if defined(ALLOC_PEER_WKSP)

#include <wksp/wksp.h>

/* Blocks may be used and freed by a process forked later. */
#define PEER_SHARES 1
#define PEER_SLOW   1

extern fd_alloc_t *peer_alloc;

static inline void *peer_malloc(size_t size) {
  return fd_alloc_malloc(peer_alloc, 0, size);
}

static inline void peer_free(void *blk) {
  fd_alloc_free(peer_alloc, blk);
}

#elif defined(ALLOC_PEER_BOOST)

#define PEER_SHARES 1
#define PEER_SLOW   20 /* does so many times less of everything */

void *peer_malloc(size_t size);
void peer_free(void *blk);

#else

#include <stdlib.h>

#define PEER_SHARES 0
#define PEER_SLOW   1

static inline void *peer_malloc(size_t size) {
  return malloc(size);
}

static inline void peer_free(void *blk) {
  free(blk);
}

#endif

#ifdef __cplusplus
}
#endif

#endif
