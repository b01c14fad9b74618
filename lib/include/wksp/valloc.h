/* fd_valloc: a virtual allocator, so that code which allocates need not know from where.

   A value of two pointers, passed by copy. malloc returns NULL on failure or for sz 0; align 0
   means the allocator's default; free of NULL does nothing. Whether calls may overlap is up to the
   allocator behind it. */

#ifndef WKSP_VALLOC_H
#define WKSP_VALLOC_H

#include "types.h"

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

WKSP_PROTOTYPES_END

#endif
