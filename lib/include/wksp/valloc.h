/* fd_valloc: a virtual allocator, so that code which allocates need not know from where.

   A value of two pointers, passed by copy. malloc returns NULL on failure or for sz 0; align 0
   means the allocator's default; free of NULL does nothing. Whether calls may overlap is up to the
   allocator behind it.

   The table has two functions and no more, so that tables which others have written stay whole. The
   further calls are made of these two, and so do not know how large a block is: the caller says. */

#ifndef WKSP_VALLOC_H
#define WKSP_VALLOC_H

#include "types.h"

#include <string.h>

WKSP_PROTOTYPES_BEGIN

typedef struct fd_valloc_vtable {
  void *(*malloc)(void *self, ulong align, ulong sz);
  void (*free)(void *self, void *ptr);
} fd_valloc_vtable_t;

typedef struct fd_valloc {
  void *self;
  fd_valloc_vtable_t const *vt;
} fd_valloc_t;

static inline void *fd_valloc_malloc(fd_valloc_t valloc, ulong align, ulong sz) {
  return valloc.vt->malloc(valloc.self, align, sz);
}

static inline void fd_valloc_free(fd_valloc_t valloc, void *ptr) {
  valloc.vt->free(valloc.self, ptr);
}

/* sz: what was asked for. */
static inline void fd_valloc_free_sized(fd_valloc_t valloc, void *ptr, ulong sz) {
  (void)sz;
  valloc.vt->free(valloc.self, ptr);
}

/* cnt objects of sz bytes, all 0. NULL if there are none, on failure, and if the product has no
   ulong. */
static inline void *fd_valloc_calloc(fd_valloc_t valloc, ulong align, ulong cnt, ulong sz) {
  ulong all = cnt * sz;
  void *ptr = sz && all / sz != cnt ? NULL : valloc.vt->malloc(valloc.self, align, all);
  return ptr ? memset(ptr, 0, all) : NULL;
}

/* A block of sz bytes with the bytes of the one at ptr, which has old_sz bytes and is freed; of the
   same alignment, if it is to stay. ptr NULL: malloc. sz 0: free, and NULL. NULL on failure, and
   then the old one is as it was. fd_alloc_realloc, which knows sizes, is better where there is an
   fd_alloc. */
static inline void *fd_valloc_realloc(fd_valloc_t valloc, void *ptr, ulong align, ulong old_sz,
                                      ulong sz) {
  void *to;
  if (ptr && sz == old_sz && sz) return ptr;
  to = sz ? valloc.vt->malloc(valloc.self, align, sz) : NULL;
  if (sz && !to) return NULL;
  if (to && ptr) memcpy(to, ptr, old_sz < sz ? old_sz : sz);
  valloc.vt->free(valloc.self, ptr);
  return to;
}

WKSP_PROTOTYPES_END

#endif
