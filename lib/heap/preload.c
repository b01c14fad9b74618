/* preload: malloc and its family for a whole program, on an fd_alloc in private memory.

   Problem. A program that knows nothing of us gets its blocks from us when LD_PRELOAD names this
   library: from the first instruction to the last, in all threads, in children of fork, in signal
   handlers, in destructors of thread-local data and after them.

   Model. What an address is follows from where it lies:

     in the workspace's data     a block of the fd_alloc, small or large
     in a first workspace        likewise, of the time before the heap went to a workspace of
   wkspd's in g_boot (pre_start.c)     given while the workspace was made; freeing it does nothing
     behind a header that says   a mapping of its own (pre_direct.c): for requests from pre.limit
   on, for alignments above 2 MiB, and when the workspace has no room else others'; freeing it does
   nothing but count

   Large blocks. From 1 MiB on a block is a mapping, until one of up to 32 MiB was freed: then such
   blocks come from the workspace, which keeps some of what is free at hand; a program that takes
   and gives such blocks all the time does not wait for the kernel each time. One that grows further
   by realloc is a mapping again, since a mapping grows without being copied.

   Fork. All is private memory, and the fd_alloc needs no lock for a fork (lib/core/private.c).
   There is no state here but a few words that are written once.

   errno is ENOMEM after a failure and as it was after anything else.

   What it refuses: to trust the C library before it is there. No dlsym, no stdio, no thread-local
   data that has to be made. */

#include "heap/preload.h"
#include "wksp/error.h"
#include "wksp/fd_wksp.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API        __attribute__((visibility("default")))
#define NOINLINE   __attribute__((noinline))
#define ALIGN      16UL
#define ALIGN_MOST (2UL << 20) /* of blocks in the workspace */
#define LIMIT_MOST (32UL << 20)
#define SIZE_MOST  ((ulong)PTRDIFF_MAX)

/* Not by the compiler's idea of what these do. */
API void *reallocarray(void *ptr, size_t cnt, size_t sz);

static inline int in_wksp(void const *ptr) {
  return PRE_LIKELY((ulong)ptr - pre.lo < pre.sz);
}

static inline int in_first(void const *ptr) {
  return PRE_UNLIKELY((ulong)ptr - pre.first_lo < pre.first_sz);
}

/* A block of the fd_alloc. Where its lock could not be had in time, others hold it: again. */
static void *from_wksp(ulong align, ulong sz) {
  for (;;) {
    void *ptr = fd_alloc_malloc(pre.join, align, sz);
    if (ptr || wksp_last_error_code() != WKSP_E_TIMEDOUT) return ptr;
  }
}

/* Everything that the short form could not do. zeroed: told whether the block is all 0. */
static NOINLINE void *malloc_other(ulong align, ulong sz, int *ret_zeroed) {
  void *ptr = NULL;
  *ret_zeroed = 0;
  if (!sz) sz = 1;
  if (sz <= SIZE_MOST) {
    if (PRE_UNLIKELY(pre.state == PRE_REFUSED)) pre_shared_refuse();
    if (pre.first) { /* only there do others see it */
      ptr = from_wksp(align, sz);
      if (!ptr) errno = ENOMEM;
      return ptr;
    }
    if (pre.join || pre_start()) {
      if (sz < pre.limit && align <= ALIGN_MOST) ptr = from_wksp(align, sz);
    } else if (pre.state == PRE_STARTING) {
      ptr = pre_boot_malloc(align, sz);
    }
    if (!ptr) {
      ptr = pre_direct_malloc(align, sz);
      *ret_zeroed = 1;
    }
  }
  if (!ptr) errno = ENOMEM;
  return ptr;
}

static NOINLINE void *malloc_slow(ulong align, ulong sz) {
  int zeroed;
  return malloc_other(align, sz, &zeroed);
}

static inline void *malloc_aligned(ulong align, ulong sz) {
  if (PRE_LIKELY(sz - 1 < FD_ALLOC_SMALL_MAX && align <= ALIGN_MOST)) {
    void *ptr = fd_alloc_malloc(pre.join, align, sz);
    if (PRE_LIKELY(ptr != NULL)) return ptr;
  }
  return malloc_slow(align, sz);
}

/* What is not in the workspace. */
static NOINLINE void free_other(void *ptr) {
  if (!ptr || pre_boot_size(ptr)) return;
  if (in_first(ptr)) {
    fd_alloc_free(pre.first, ptr);
    return;
  }
  ulong size = pre_direct_size(ptr);
  if (!size) {
    __atomic_fetch_add(&pre.foreign_cnt, 1UL, __ATOMIC_RELAXED);
    return;
  }
  if (size > pre.limit && size <= LIMIT_MOST && pre.join)
    __atomic_store_n(&pre.limit, size, __ATOMIC_RELAXED);
  pre_direct_free(ptr);
}

static NOINLINE ulong size_other(void const *ptr) {
  if (in_first(ptr)) return fd_alloc_usable_size_fast(pre.first, ptr);
  ulong size = ptr ? pre_boot_size(ptr) : 0;
  return size || !ptr ? size : pre_direct_size(ptr);
}

static inline ulong size_of(void const *ptr) {
  return in_wksp(ptr) ? fd_alloc_usable_size_fast(pre.join, ptr) : size_other(ptr);
}

/* The calls
 * ---------------------------------------------------------------------------------------- */

API void *malloc(size_t sz) {
  return malloc_aligned(0, sz);
}

API void free(void *ptr) {
  if (in_wksp(ptr))
    fd_alloc_free(pre.join, ptr);
  else
    free_other(ptr);
}

API void *calloc(size_t cnt, size_t sz) {
  ulong all;
  if (__builtin_mul_overflow(cnt, sz, &all)) {
    errno = ENOMEM;
    return NULL;
  }
  if (PRE_LIKELY(all - 1 < FD_ALLOC_SMALL_MAX)) {
    void *ptr = fd_alloc_malloc(pre.join, 0, all);
    if (PRE_LIKELY(ptr != NULL)) return memset(ptr, 0, all);
  }
  int zeroed;
  void *ptr = malloc_other(ALIGN, all, &zeroed);
  return ptr && !zeroed ? memset(ptr, 0, all) : ptr;
}

/* A block that grows may grow again, by little each time: one of 1 MiB becomes a mapping, which the
   kernel makes larger without a copy; a large one below that gets an eighth more than was asked
   for. So what is copied stays in proportion to what is reached. */
static void *malloc_grown(ulong has, ulong sz) {
  if (has >= PRE_LIMIT_FIRST && !pre.first) {
    void *to = pre_direct_malloc(0, sz);
    if (to) return to;
  }
  void *to = has > FD_ALLOC_SMALL_MAX ? malloc_aligned(0, sz + sz / 8) : NULL;
  return to ? to : malloc_aligned(0, sz);
}

/* A block of another size, elsewhere. */
static void *move(void *ptr, ulong has, ulong sz) {
  void *to = sz > has ? malloc_grown(has, sz) : malloc_aligned(0, sz);
  if (!to) return NULL;
  memcpy(to, ptr, has < sz ? has : sz);
  free(ptr);
  return to;
}

API void *realloc(void *ptr, size_t sz) {
  if (!ptr) return malloc(sz);
  if (!sz) {
    free(ptr);
    return NULL;
  }
  ulong has = size_of(ptr);
  if (PRE_UNLIKELY(!has || sz > SIZE_MOST)) { /* others': nobody knows how much of it to copy */
    errno = ENOMEM;
    return NULL;
  }
  if (in_wksp(ptr)) return sz <= has && sz >= has - has / 2 ? ptr : move(ptr, has, sz);
  if (!pre_boot_size(ptr) && !in_first(ptr) && sz >= PRE_LIMIT_FIRST / 2) {
    void *to = pre_direct_realloc(ptr, sz);
    if (!to) errno = ENOMEM;
    return to;
  }
  return move(ptr, has, sz);
}

API void *reallocarray(void *ptr, size_t cnt, size_t sz) {
  ulong all;
  if (!__builtin_mul_overflow(cnt, sz, &all)) return realloc(ptr, all);
  errno = ENOMEM;
  return NULL;
}

/* As the C library has it: an alignment that is no power of two is made one. */
API void *memalign(size_t align, size_t sz) {
  if (align > 1UL << 62) {
    errno = EINVAL;
    return NULL;
  }
  ulong up = ALIGN;
  while (up < align) up *= 2;
  return malloc_aligned(up, sz);
}

API void *aligned_alloc(size_t align, size_t sz) {
  if (!align || (align & (align - 1))) {
    errno = EINVAL;
    return NULL;
  }
  return memalign(align, sz);
}

API int posix_memalign(void **ret_ptr, size_t align, size_t sz) {
  if (align % sizeof(void *) || !align || (align & (align - 1))) return EINVAL;
  int saved = errno;
  void *ptr = memalign(align, sz);
  errno = saved;
  if (!ptr) return ENOMEM;
  *ret_ptr = ptr;
  return 0;
}

API void *valloc(size_t sz) {
  return memalign((ulong)sysconf(_SC_PAGESIZE), sz);
}

API void *pvalloc(size_t sz) {
  ulong page = (ulong)sysconf(_SC_PAGESIZE), up;
  if (__builtin_add_overflow(sz, page - 1, &up)) {
    errno = ENOMEM;
    return NULL;
  }
  up &= -page;
  return memalign(page, up ? up : page);
}

API size_t malloc_usable_size(void *ptr) {
  return size_of(ptr);
}

/* Figures, and memory back to the system
 * ----------------------------------------------------------------- */

API int malloc_trim(size_t pad) {
  fd_alloc_compacted_t done = {0};
  (void)pad;
  if (!pre.join) return 0;
  int saved = errno, err = fd_wksp_compact(pre.wksp, &done);
  ulong before = fd_wksp_trim(pre.wksp, NULL) ? 0 : 1;
  errno = saved;
  return !err && before;
}

API struct mallinfo2 mallinfo2(void) {
  struct mallinfo2 info = {.hblks = pre.direct_cnt, .hblkhd = pre.direct_sz};
  fd_alloc_stat_t stat;
  int saved = errno;
  if (pre.join && !fd_alloc_stat(pre.join, &stat)) {
    info.arena = stat.span_sz + stat.large_sz;
    info.ordblks = stat.heap_cnt;
    info.uordblks = stat.small_sz + stat.large_sz;
    info.fordblks = info.arena - info.uordblks;
  }
  errno = saved;
  return info;
}

API struct mallinfo mallinfo(void) {
  struct mallinfo2 wide = mallinfo2();
  return (struct mallinfo){.arena = (int)wide.arena,
                           .ordblks = (int)wide.ordblks,
                           .hblks = (int)wide.hblks,
                           .hblkhd = (int)wide.hblkhd,
                           .uordblks = (int)wide.uordblks,
                           .fordblks = (int)wide.fordblks};
}

API void malloc_stats(void) {
  pre_report(STDERR_FILENO);
}
