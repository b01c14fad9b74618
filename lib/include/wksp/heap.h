/* heap: malloc for a part of a program, over a pool of its own size.

   A heap has its memory to itself: a pool of private memory, of the size that is asked for, or an
   fd_alloc in a workspace that the program has joined. Small blocks come from spans of equal blocks
   with a cache of freed ones for each thread, large ones are partitions (wksp/fd_alloc.h); a
   realloc moves a block between the two as it grows or shrinks. When a private pool is used up the
   system's malloc serves, which wksp_heap_status counts, unless that is not wanted. destroy says
   what was never freed.

     wksp_heap_cfg_t cfg = {.size = 64UL << 20};
     wksp_heap_t *heap = wksp_heap_init(&cfg);
     void *ptr = wksp_heap_malloc(heap, 100);
     wksp_heap_free(heap, ptr);
     ulong leaked = wksp_heap_destroy(heap);

   malloc, calloc, memalign, realloc, free, usable_size and status of one heap may overlap, from any
   thread; of two calls about one block one must have returned before the other begins. init and
   destroy are for one thread, before and after all others. A child of fork goes on with a copy of a
   private heap, and with a shared one beside its parent. None is async-signal-safe.

   Failures set wksp_last_error(), but those of the system's malloc. */

#ifndef WKSP_HEAP_H
#define WKSP_HEAP_H

#include "types.h"
#include "valloc.h"

WKSP_PROTOTYPES_BEGIN

/* Opaque. */
typedef struct wksp_heap wksp_heap_t;

/* Largest alignment of a block in a pool, in bytes. */
#define WKSP_HEAP_ALIGN_MAX (2UL << 20)

/* What is freed is set to 0 first. */
#define WKSP_HEAP_ZERO_ON_FREE 1UL
/* A pool that is used up is a failure; the system's malloc is not asked. */
#define WKSP_HEAP_NO_FALLBACK 2UL
/* 2 MiB pages for a private pool, where the kernel finds some. */
#define WKSP_HEAP_THP 4UL

/* All 0 but size, or but wksp and tag, is a good choice. */
typedef struct wksp_heap_cfg {
  ulong size;      /* bytes of a private pool, tables included; from 4 MiB on. 0 if wksp is given */
  fd_wksp_t *wksp; /* joined read-write: the heap is an fd_alloc in it. NULL: a private pool */
  ulong tag;       /* of what it takes there, not 0 */
  ulong flags;     /* a sum of WKSP_HEAP_* */
  /* Told by destroy of each block that was never freed. It may read the block. NULL: nobody. */
  void (*on_leak)(void *arg, void const *ptr, ulong sz);
  void *on_leak_arg;
} wksp_heap_cfg_t;

/* A new heap. NULL: E_INVAL (a size below 4 MiB, both or neither of size and wksp, no tag, unknown
   flags), E_NOMEM, or as fd_alloc_new. */
WKSP_API wksp_heap_t *wksp_heap_init(wksp_heap_cfg_t const *cfg);

/* Ends it, with all blocks that are still there. Returns how many there were. NULL: 0. */
WKSP_API ulong wksp_heap_destroy(wksp_heap_t *heap);

/* A block of at least sz bytes, aligned to 16. NULL for sz 0 and on failure. */
WKSP_API void *wksp_heap_malloc(wksp_heap_t *heap, ulong sz);

/* A block for cnt objects of sz bytes, all 0. NULL if there are none, on failure, and if that
   product has no ulong. */
WKSP_API void *wksp_heap_calloc(wksp_heap_t *heap, ulong cnt, ulong sz);

/* align: a power of two up to WKSP_HEAP_ALIGN_MAX, 0: 16. */
WKSP_API void *wksp_heap_memalign(wksp_heap_t *heap, ulong align, ulong sz);

/* A block of at least sz bytes, aligned to 16, that begins as the one at ptr; that is freed, unless
   it is large enough and stays. ptr NULL: malloc. sz 0: free, and NULL. NULL on failure, and then
   the old block is as it was. */
WKSP_API void *wksp_heap_realloc(wksp_heap_t *heap, void *ptr, ulong sz);

/* NULL: nothing. What is no block of the heap is left alone and counted; outside of the pool the 48
   bytes before it say so, which are read. */
WKSP_API void wksp_heap_free(wksp_heap_t *heap, void *ptr);

/* Bytes that may be used. 0 for NULL, and for what is no live block in the pool. */
WKSP_API ulong wksp_heap_usable_size(wksp_heap_t *heap, void const *ptr);

/* Figures; sizes in bytes. Exact while nobody allocates or frees. */
typedef struct wksp_heap_status {
  ulong pool_sz;             /* what there is at most for blocks and their administration */
  ulong small_cnt, small_sz; /* live blocks in the pool */
  ulong large_cnt, large_sz; /* likewise */
  ulong span_sz;             /* memory in spans, live or not */
  ulong system_cnt;          /* live blocks of the system's malloc */
  ulong system_sz;           /* bytes that were asked for in them */
  ulong system_all;          /* how often it was asked, ever */
  ulong fail_cnt;            /* requests that failed */
  ulong bad_free_cnt;        /* frees of what was no block */
} wksp_heap_status_t;

/* 0, or as fd_alloc_stat. */
WKSP_API int wksp_heap_status(wksp_heap_t *heap, wksp_heap_status_t *ret_status);

/* The heap as a virtual allocator. */
WKSP_API extern fd_valloc_vtable_t const wksp_heap_vtable;

static inline fd_valloc_t wksp_heap_virtual(wksp_heap_t *heap) {
  fd_valloc_t valloc = {(void *)heap, &wksp_heap_vtable};
  return valloc;
}

WKSP_PROTOTYPES_END

#endif
