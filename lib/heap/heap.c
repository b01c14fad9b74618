/* heap: see wksp/heap.h.

   Model. The pool is a private workspace of a fixed size with one fd_alloc, or an fd_alloc in the
   caller's workspace; where a block lies says which it is of. Blocks of the system's malloc have a
   header before them and are in one list, so that destroy can name and free them.

   What it refuses: to lend out a pool's memory by more than one heap, and to be faster than
   fd_alloc where that is used directly. */

#include "wksp/heap.h"

#include "core/fail.h"
#include "wksp/error.h"
#include "wksp/fd_alloc.h"
#include "wksp/fd_wksp.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_MIN (4UL << 20)
#define FLAGS    (WKSP_HEAP_ZERO_ON_FREE | WKSP_HEAP_NO_FALLBACK | WKSP_HEAP_THP)
#define ALIGN    16UL

/* Before each block of the system's malloc. */
typedef struct outer {
  struct outer *next, *prev;
  void *base; /* what malloc gave */
  ulong size; /* as asked for */
  ulong magic;
  ulong pad;
} outer_t;
_Static_assert(sizeof(outer_t) % ALIGN == 0, "the block behind it is aligned");

#define OUTER_MAGIC 0x7265747561656877UL

struct wksp_heap {
  wksp_heap_cfg_t cfg;
  fd_wksp_t *wksp;
  fd_alloc_t *join;
  void *shmem;
  ulong lo, hi;          /* addresses of the pool */
  pthread_mutex_t mutex; /* of what follows */
  outer_t outer;         /* a ring */
  ulong outer_cnt, outer_sz, outer_all, bad_free_cnt;
  ulong fail_cnt; /* atomic */
};

static int in_pool(wksp_heap_t const *heap, void const *ptr) {
  return (ulong)ptr - heap->lo < heap->hi - heap->lo;
}

/* Life
 * --------------------------------------------------------------------------------------------- */

static int cfg_check(wksp_heap_cfg_t const *cfg) {
  if (!cfg) return wksp__fail(WKSP_E_INVAL, "heap_init: no configuration");
  if (cfg->flags & ~FLAGS)
    return wksp__fail(WKSP_E_INVAL, "heap_init: unknown flags %#lx", cfg->flags & ~FLAGS);
  if (!cfg->wksp && cfg->size < SIZE_MIN)
    return wksp__fail(WKSP_E_INVAL, "heap_init: a pool of %lu bytes: it takes %lu at least",
                      cfg->size, SIZE_MIN);
  if (cfg->wksp && (cfg->size || !cfg->tag || (cfg->flags & WKSP_HEAP_THP)))
    return wksp__fail(WKSP_E_INVAL,
                      "heap_init: in a workspace the heap has a tag, and neither a size (%lu) nor "
                      "pages of its own",
                      cfg->size);
  return 0;
}

static fd_wksp_t *pool_new(wksp_heap_cfg_t const *cfg) {
  fd_wksp_private_t how = {.size = cfg->size, .keep = cfg->size};
  if (cfg->flags & WKSP_HEAP_THP) how.flags = FD_WKSP_PRIVATE_THP;
  return fd_wksp_new_private("heap", &how);
}

wksp_heap_t *wksp_heap_init(wksp_heap_cfg_t const *cfg) {
  if (cfg_check(cfg)) return NULL;
  wksp_heap_t *heap = calloc(1, sizeof *heap);
  if (!heap) {
    wksp__fail(WKSP_E_NOMEM, "heap_init: the process is out of memory");
    return NULL;
  }
  heap->cfg = *cfg;
  heap->wksp = cfg->wksp ? cfg->wksp : pool_new(cfg);
  if (!heap->cfg.tag) heap->cfg.tag = 1;
  if (heap->wksp)
    heap->shmem =
        fd_wksp_alloc_laddr(heap->wksp, fd_alloc_align(), fd_alloc_footprint(), heap->cfg.tag);
  if (heap->shmem && fd_alloc_new(heap->shmem, heap->cfg.tag))
    heap->join = fd_alloc_join(heap->shmem, 0);
  if (!heap->join) {
    if (heap->shmem) fd_wksp_free_laddr(heap->wksp, heap->shmem);
    if (heap->wksp && !cfg->wksp) fd_wksp_delete_anon(heap->wksp);
    free(heap);
    return NULL;
  }
  heap->lo = (ulong)heap->wksp + fd_wksp_gaddr_lo(heap->wksp);
  heap->hi = (ulong)heap->wksp + fd_wksp_gaddr_hi(heap->wksp);
  heap->outer.next = heap->outer.prev = &heap->outer;
  pthread_mutex_init(&heap->mutex, NULL);
  return heap;
}

typedef struct leaks {
  wksp_heap_t *heap;
  ulong cnt;
} leaks_t;

static void leak(leaks_t *leaks, void const *ptr, ulong size) {
  wksp_heap_cfg_t const *cfg = &leaks->heap->cfg;
  leaks->cnt++;
  if (cfg->on_leak) cfg->on_leak(cfg->on_leak_arg, ptr, size);
}

static int on_block(void *arg, fd_alloc_block_t const *block) {
  leaks_t *leaks = arg;
  leak(leaks, fd_wksp_laddr_fast(leaks->heap->wksp, block->gaddr), block->size);
  return 0;
}

ulong wksp_heap_destroy(wksp_heap_t *heap) {
  if (!heap) return 0;
  leaks_t leaks = {.heap = heap};
  fd_alloc_walk(heap->join, on_block, &leaks);
  for (outer_t *at = heap->outer.next, *next; at != &heap->outer; at = next) {
    next = at->next;
    leak(&leaks, at + 1, at->size);
    free(at->base);
  }
  fd_alloc_leave(heap->join);
  if (heap->cfg.wksp) {
    fd_alloc_delete(heap->shmem);
    fd_wksp_free_laddr(heap->wksp, heap->shmem);
  } else {
    fd_wksp_delete_anon(heap->wksp);
  }
  pthread_mutex_destroy(&heap->mutex);
  free(heap);
  return leaks.cnt;
}

/* The system's malloc
 * ------------------------------------------------------------------------------ */

static void *outer_malloc(wksp_heap_t *heap, ulong align, ulong sz) {
  ulong room;
  if (__builtin_add_overflow(sz, sizeof(outer_t) + align, &room)) return NULL;
  void *base = malloc(room);
  if (!base) return NULL;
  outer_t *outer = (outer_t *)(((ulong)base + sizeof *outer + align - 1) & -align) - 1;
  outer->base = base;
  outer->size = sz;
  outer->magic = OUTER_MAGIC;
  pthread_mutex_lock(&heap->mutex);
  outer->next = heap->outer.next;
  outer->prev = &heap->outer;
  outer->next->prev = outer->prev->next = outer;
  heap->outer_cnt++;
  heap->outer_all++;
  heap->outer_sz += sz;
  pthread_mutex_unlock(&heap->mutex);
  return outer + 1;
}

/* The header of a block of ours; NULL if it is none. */
static outer_t *outer_of(void const *ptr) {
  outer_t *outer = (outer_t *)ptr - 1;
  return (ulong)ptr % ALIGN || outer->magic != OUTER_MAGIC ? NULL : outer;
}

static void outer_free(wksp_heap_t *heap, void *ptr) {
  outer_t *outer = outer_of(ptr);
  pthread_mutex_lock(&heap->mutex);
  if (outer) {
    outer->next->prev = outer->prev;
    outer->prev->next = outer->next;
    outer->magic = 0;
    heap->outer_cnt--;
    heap->outer_sz -= outer->size;
  } else {
    heap->bad_free_cnt++;
  }
  pthread_mutex_unlock(&heap->mutex);
  if (!outer) return;
  if (heap->cfg.flags & WKSP_HEAP_ZERO_ON_FREE) explicit_bzero(ptr, outer->size);
  free(outer->base);
}

/* Blocks
 * ------------------------------------------------------------------------------------------- */

static void *failed(wksp_heap_t *heap) {
  __atomic_fetch_add(&heap->fail_cnt, 1UL, __ATOMIC_RELAXED);
  return NULL;
}

/* The pool has none. Only its end leads to the system's malloc. */
static void *elsewhere(wksp_heap_t *heap, ulong align, ulong sz) {
  int end = wksp_last_error_code() == WKSP_E_NOMEM;
  void *ptr = NULL;
  if (end && !heap->cfg.wksp && !(heap->cfg.flags & WKSP_HEAP_NO_FALLBACK))
    ptr = outer_malloc(heap, align, sz);
  return ptr ? ptr : failed(heap);
}

void *wksp_heap_malloc(wksp_heap_t *heap, ulong sz) {
  void *ptr = fd_alloc_malloc(heap->join, 0, sz);
  return ptr || !sz ? ptr : elsewhere(heap, ALIGN, sz);
}

void *wksp_heap_memalign(wksp_heap_t *heap, ulong align, ulong sz) {
  if (align > WKSP_HEAP_ALIGN_MAX) {
    wksp__fail(WKSP_E_INVAL, "heap_memalign: alignment %lu is above %lu", align,
               WKSP_HEAP_ALIGN_MAX);
    return failed(heap);
  }
  void *ptr = fd_alloc_malloc(heap->join, align, sz);
  return ptr || !sz ? ptr : elsewhere(heap, align < ALIGN ? ALIGN : align, sz);
}

void *wksp_heap_calloc(wksp_heap_t *heap, ulong cnt, ulong sz) {
  ulong all;
  if (__builtin_mul_overflow(cnt, sz, &all)) {
    wksp__fail(WKSP_E_NOMEM, "heap_calloc: %lu objects of %lu bytes are more than there are", cnt,
               sz);
    return failed(heap);
  }
  void *ptr = wksp_heap_malloc(heap, all);
  return ptr ? memset(ptr, 0, all) : NULL;
}

void wksp_heap_free(wksp_heap_t *heap, void *ptr) {
  if (!ptr) return;
  if (!in_pool(heap, ptr)) {
    outer_free(heap, ptr);
    return;
  }
  if (heap->cfg.flags & WKSP_HEAP_ZERO_ON_FREE) {
    ulong size = fd_alloc_usable_size(heap->join, ptr); /* 0 if it is no live block */
    if (size) explicit_bzero(ptr, size);
  }
  fd_alloc_free(heap->join, ptr);
}

ulong wksp_heap_usable_size(wksp_heap_t *heap, void const *ptr) {
  if (!ptr) return 0;
  if (in_pool(heap, ptr)) return fd_alloc_usable_size(heap->join, ptr);
  outer_t const *outer = outer_of(ptr);
  return outer ? outer->size : 0;
}

void *wksp_heap_realloc(wksp_heap_t *heap, void *ptr, ulong sz) {
  if (!ptr) return wksp_heap_malloc(heap, sz);
  if (!sz) {
    wksp_heap_free(heap, ptr);
    return NULL;
  }
  int inside = in_pool(heap, ptr);
  if (inside && !(heap->cfg.flags & WKSP_HEAP_ZERO_ON_FREE)) {
    void *same = fd_alloc_realloc(heap->join, ptr, 0, sz);
    if (same || wksp_last_error_code() != WKSP_E_NOMEM) return same ? same : failed(heap);
  }
  ulong has = wksp_heap_usable_size(heap, ptr);
  if (!has) return failed(heap); /* no block: usable_size has said so */
  if (sz <= has && sz >= has - has / 4) return ptr;
  void *to = wksp_heap_malloc(heap, sz);
  if (!to) return NULL;
  memcpy(to, ptr, has < sz ? has : sz);
  wksp_heap_free(heap, ptr);
  return to;
}

int wksp_heap_status(wksp_heap_t *heap, wksp_heap_status_t *ret_status) {
  fd_alloc_stat_t stat;
  int err = fd_alloc_stat(heap->join, &stat);
  if (err) return err;
  pthread_mutex_lock(&heap->mutex);
  wksp_heap_status_t status = {.pool_sz = fd_wksp_data_max(heap->wksp),
                               .small_cnt = stat.small_cnt,
                               .small_sz = stat.small_sz,
                               .large_cnt = stat.large_cnt,
                               .large_sz = stat.large_sz,
                               .span_sz = stat.span_sz,
                               .system_cnt = heap->outer_cnt,
                               .system_sz = heap->outer_sz,
                               .system_all = heap->outer_all,
                               .fail_cnt = __atomic_load_n(&heap->fail_cnt, __ATOMIC_RELAXED),
                               .bad_free_cnt = heap->bad_free_cnt + stat.bad_free_cnt};
  pthread_mutex_unlock(&heap->mutex);
  *ret_status = status;
  return 0;
}

static void *table_malloc(void *self, ulong align, ulong sz) {
  return wksp_heap_memalign(self, align, sz);
}

static void table_free(void *self, void *ptr) {
  wksp_heap_free(self, ptr);
}

fd_valloc_vtable_t const wksp_heap_vtable = {table_malloc, table_free};
