/* pre_direct: blocks that are mappings of their own.

   Problem: a very large block should go back to the system when it is freed, and grow without being
   copied; and when the workspace has no room, or there is none, there must still be memory.

   Model. Before the block, in the same mapping, lies a header. Whether an address is such a block
   is seen by a word there that says so and is of that address: for other addresses the page before
   theirs is read only if it is there. So what others have allocated is recognised as not ours.

   What it refuses: to keep freed mappings. Blocks up to 32 MiB that were freed once come from the
   workspace from then on (preload.c), which does keep them. */

#include "heap/preload.h"
#include "wksp/fd_wksp.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAGIC  0x7463657269646b77UL
#define HUGE   (2UL << 20)
#define OFFSET 64UL /* of a block without an alignment of its own */

typedef struct direct {
  ulong magic; /* ^ address of the block */
  char *base;
  ulong size; /* of the mapping */
  ulong pad;
} direct_t;

static ulong page_size(void) {
  static ulong page;
  if (!page) page = (ulong)sysconf(_SC_PAGESIZE);
  return page;
}

/* On the nodes that the environment names. */
static void bind_nodes(void *addr, ulong size) {
  (void)syscall(SYS_mbind, addr, size, MPOL_BIND, &pre.env.nodes, 65UL, 0U);
}

static void count(ulong cnt, ulong sz) {
  __atomic_fetch_add(&pre.direct_cnt, cnt, __ATOMIC_RELAXED);
  __atomic_fetch_add(&pre.direct_sz, sz, __ATOMIC_RELAXED);
}

/* Makes size bytes at base a block at ptr. */
static void *made(char *base, ulong size, char *ptr) {
  direct_t *head = (direct_t *)ptr - 1;
  *head = (direct_t){.magic = MAGIC ^ (ulong)ptr, .base = base, .size = size};
  return ptr;
}

/* Maps size bytes at a multiple of align, which is at least a page. */
static char *map(ulong align, ulong size) {
  ulong room = align > page_size() ? size + align : size;
  char *base = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return NULL;
  char *at = (char *)(((ulong)base + align - 1) & -align);
  if (room == size) return base;
  if (at > base) munmap(base, (ulong)(at - base));
  munmap(at + size, (ulong)(base + room - (at + size)));
  return at;
}

void *pre_direct_malloc(ulong align, ulong sz) {
  int saved = errno;
  ulong page = page_size(), before = align <= OFFSET ? OFFSET : align, size;
  int huge = (pre.env.flags & (FD_WKSP_PRIVATE_THP | FD_WKSP_PRIVATE_HUGETLB)) && sz >= HUGE;
  if (before > page) before = page; /* the header's page; the block is aligned behind it */
  if (__builtin_add_overflow(sz, before + page - 1, &size)) return NULL;
  size &= -page;
  ulong room = align > page ? size + align : size;
  if (room < size || room > (ulong)PTRDIFF_MAX) return NULL;
  char *base = map(huge && align <= page ? HUGE : page, room);
  if (!base) return NULL;
  char *ptr = base + before;
  if (align > page) { /* what is before the header and behind the block goes */
    ptr = (char *)(((ulong)base + page + align - 1) & -align);
    char *from = ptr - page, *to = base + room;
    if (from > base) munmap(base, (ulong)(from - base));
    base = from;
    size = (ulong)(to - from);
  }
  if (huge) (void)madvise(base, size, MADV_HUGEPAGE);
  if (pre.env.nodes) bind_nodes(base, size);
  count(1, size);
  __atomic_fetch_add(&pre.direct_all, 1UL, __ATOMIC_RELAXED);
  errno = saved;
  return made(base, size, ptr);
}

/* The header of a block of ours, NULL if it is none. */
static direct_t *head_of(void const *ptr) {
  ulong page = page_size(), at = (ulong)ptr & (page - 1);
  if ((ulong)ptr % 16 || !ptr) return NULL;
  if (at < sizeof(direct_t)) {
    unsigned char there;
    int saved = errno, gone = mincore((char *)ptr - at - page, page, &there);
    errno = saved;
    if (gone) return NULL;
  }
  direct_t *head = (direct_t *)ptr - 1;
  return head->magic == (MAGIC ^ (ulong)ptr) ? head : NULL;
}

ulong pre_direct_size(void const *ptr) {
  direct_t const *head = head_of(ptr);
  return head ? (ulong)(head->base + head->size - (char const *)ptr) : 0;
}

void pre_direct_free(void *ptr) {
  direct_t head = *head_of(ptr);
  int saved = errno;
  count(-1UL, -head.size);
  munmap(head.base, head.size);
  errno = saved;
}

void *pre_direct_realloc(void *ptr, ulong sz) {
  direct_t head = *head_of(ptr);
  ulong off = (ulong)((char *)ptr - head.base), size;
  if (__builtin_add_overflow(sz, off + page_size() - 1, &size) || size > (ulong)PTRDIFF_MAX)
    return NULL;
  size &= -page_size();
  if (size == head.size) return ptr;
  int saved = errno;
  char *base = mremap(head.base, head.size, size, MREMAP_MAYMOVE);
  if (base == MAP_FAILED) return NULL;
  errno = saved;
  count(0, size - head.size);
  return made(base, size, base + off);
}
