/* same: one long sequence of calls of malloc's family, the same for every allocator, and what can
   be seen of it: which fail, with which errno, and whether each block is aligned, large enough, of
   its own as far as its usable size says, as it was left, and zero where it must be. heap_test.py
   runs it under several allocators and compares what they print.

   What allocators may do as they like is not looked at: addresses, usable sizes beyond what was
   asked for, realloc to 0, alignments that are no powers of two. */

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCKS = 700 };

/* What is not looked at, since an allocator that is compared does it otherwise than the C library's
   manual has it: a: alignments beyond 8, e: errno of sizes that cannot be, f:
   errno after free, p: pvalloc. */
static char const *g_out = "";
static int leave_out(char what) {
  return strchr(g_out, what) != NULL;
}

static uint64_t g_state;
static struct {
  unsigned char *ptr;
  size_t sz, usable;
  unsigned char fill;
} g_blk[BLOCKS];

static uint64_t draw(uint64_t below) {
  g_state ^= g_state >> 12;
  g_state ^= g_state << 25;
  g_state ^= g_state >> 27;
  return (g_state * 0x2545f4914f6cdd1dUL >> 11) % below;
}

static size_t draw_size(void) {
  unsigned lg = (unsigned)draw(100) < 90 ? 4 + (unsigned)draw(9) : 13 + (unsigned)draw(9);
  return (size_t)draw(1UL << lg);
}

static void wrong(char const *what, size_t sz) {
  printf("WRONG: %s (%zu bytes)\n", what, sz);
  exit(1);
}

/* Looks at all bytes of small blocks, at the ends of large ones. */
static int holds(unsigned char const *ptr, size_t sz, unsigned char fill) {
  for (size_t i = 0; i < sz; i += i < 4096 || i + 4096 > sz ? 1 : 509)
    if (ptr[i] != fill) return 0;
  return 1;
}

/* By name, so that the compiler does not know what these do. */
static void *(*volatile g_calloc)(size_t, size_t) = calloc;
static void *(*volatile g_reallocarray)(void *, size_t, size_t) = reallocarray;

static void give(unsigned i, void *ptr, size_t sz, size_t align) {
  if (!ptr) wrong("no block", sz);
  if ((uintptr_t)ptr % (leave_out('a') && align > 8 ? 8 : align)) wrong("alignment", sz);
  size_t usable = malloc_usable_size(ptr);
  if (usable < sz) wrong("usable size", sz);
  g_blk[i].ptr = ptr;
  g_blk[i].sz = sz;
  g_blk[i].usable = usable;
  g_blk[i].fill = (unsigned char)draw(256);
  memset(ptr, g_blk[i].fill, usable);
}

static void take(unsigned i) {
  if (g_blk[i].ptr && !holds(g_blk[i].ptr, g_blk[i].usable, g_blk[i].fill))
    wrong("a block has changed", g_blk[i].sz);
  if (g_blk[i].ptr && malloc_usable_size(g_blk[i].ptr) != g_blk[i].usable)
    wrong("the usable size has changed", g_blk[i].sz);
  errno = 123;
  free(g_blk[i].ptr);
  if (errno != 123 && !leave_out('f')) wrong("free changes errno", g_blk[i].sz);
  g_blk[i].ptr = NULL;
}

static void resize(unsigned i) {
  size_t sz = 1 + draw_size(), had = g_blk[i].ptr ? g_blk[i].sz : 0;
  unsigned char *ptr = realloc(g_blk[i].ptr, sz);
  if (ptr && !holds(ptr, had < sz ? had : sz, g_blk[i].fill)) wrong("realloc loses bytes", sz);
  give(i, ptr, sz, sz < 16 ? 8 : 16);
}

static void step(unsigned i) {
  size_t sz = draw_size() + 1, align = 16UL << draw(9);
  void *ptr = NULL;
  switch (draw(9)) {
  case 0:
    resize(i);
    return;
  case 1:
    take(i);
    ptr = calloc(sz / 3 + 1, 3);
    if (ptr && !holds(ptr, sz / 3 * 3 + 3, 0)) wrong("calloc is not zero", sz);
    give(i, ptr, sz, sz < 16 ? 8 : 16);
    return;
  case 2:
    take(i);
    printf("%d", posix_memalign(&ptr, align, sz));
    give(i, ptr, sz, align);
    return;
  case 3:
    take(i);
    give(i, aligned_alloc(align, (sz + align - 1) & -align), sz, align);
    return;
  case 4:
    take(i);
    give(i, memalign(align, sz), sz, align);
    return;
  case 5:
    take(i);
    return;
  default:
    take(i);
    give(i, malloc(sz), sz, sz < 16 ? 8 : 16);
  }
}

/* What fails, and how. */
static void failures(void) {
  size_t const most[] = {SIZE_MAX, SIZE_MAX - 4096, (size_t)PTRDIFF_MAX + 1, SIZE_MAX / 2 + 2};
  char *keep = malloc(100);
  memset(keep, 7, 100);
  for (unsigned i = 0; i < sizeof most / sizeof *most; i++) {
    void *ptr = &ptr;
    errno = 0;
    printf("malloc %d", malloc(most[i]) != NULL);
    printf(" %d;", errno == ENOMEM || leave_out('e'));
    errno = 0;
    printf("calloc %d", calloc(most[i], 1) != NULL);
    printf(" %d;", errno == ENOMEM || leave_out('e'));
    errno = 0;
    printf("realloc %d", realloc(keep, most[i]) != NULL);
    printf(" %d;", errno == ENOMEM || leave_out('e'));
    printf("posix_memalign %d;", posix_memalign(&ptr, 64, most[i]) == ENOMEM);
    printf("%d\n", ptr == (void *)&ptr);
  }
  errno = 0;
  printf("calloc product %d", g_calloc(SIZE_MAX / 2, 3) != NULL);
  printf(" %d\n", errno == ENOMEM || leave_out('e'));
  errno = 0;
  printf("reallocarray product %d", g_reallocarray(keep, SIZE_MAX / 2, 3) != NULL);
  printf(" %d %d\n", errno == ENOMEM || leave_out('e'), keep[99]);
  void *ptr = &ptr;
  printf("posix_memalign of 3, 4, 24: %d %d %d\n", posix_memalign(&ptr, 3, 8) == EINVAL,
         posix_memalign(&ptr, 4, 8) == EINVAL, posix_memalign(&ptr, 24, 8) == EINVAL);
  free(keep);
  free(NULL);
  printf("usable size of NULL: %zu\n", malloc_usable_size(NULL));
}

/* What lies at the edges of sizes. */
static void edges(void) {
  void *a = malloc(0), *b = malloc(0);
  printf("malloc(0): %d, another: %d\n", a != NULL, a != b);
  free(a);
  free(b);
  a = calloc(0, 10);
  printf("calloc(0): %d\n", a != NULL);
  free(a);
  a = realloc(NULL, 0);
  printf("realloc(NULL, 0): %d\n", a != NULL);
  free(a);
  a = valloc(10);
  b = leave_out('p') ? malloc((size_t)sysconf(_SC_PAGESIZE)) : pvalloc(10);
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  printf("valloc %d, pvalloc %d %d\n", (uintptr_t)a % page == 0,
         leave_out('p') || (uintptr_t)b % page == 0, malloc_usable_size(b) >= page);
  free(a);
  free(b);
  a = reallocarray(NULL, 10, 20);
  printf("reallocarray: %d\n", a != NULL && malloc_usable_size(a) >= 200);
  free(a);
  for (size_t align = 8; align <= 1UL << 24; align *= 2) {
    int err = posix_memalign(&a, align, 3);
    printf("%d %d ", err, (uintptr_t)a % align == 0 || leave_out('a'));
    memset(a, 1, 3);
    free(a);
  }
  printf("\n");
}

/* A block that grows to 80 MiB and shrinks again keeps its bytes. */
static void grow(void) {
  size_t sz = 1;
  unsigned char *ptr = malloc(sz);
  *ptr = 3;
  while (sz < 80UL << 20) {
    size_t to = sz + sz / 3 + 1;
    ptr = realloc(ptr, to);
    if (!ptr || ptr[sz - 1] != (unsigned char)(sz + 2)) wrong("growing", to);
    for (size_t i = sz; i < to; i += i + 4096 < to ? 4096 : 1) ptr[i] = (unsigned char)(i + 3);
    sz = to;
  }
  for (; sz > 10; sz /= 3) {
    ptr = realloc(ptr, sz);
    if (!ptr || *ptr != 3) wrong("shrinking", sz);
  }
  free(ptr);
  printf("grown and shrunk\n");
}

int main(int argc, char **argv) {
  g_state = (argc > 1 ? strtoull(argv[1], NULL, 0) : 1) * 2 + 1;
  unsigned steps = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 20000;
  if (argc > 3) g_out = argv[3];
  edges();
  failures();
  for (unsigned i = 0; i < steps; i++) step((unsigned)draw(BLOCKS));
  for (unsigned i = 0; i < BLOCKS; i++) take(i);
  grow();
  printf("\ndone\n");
  return 0;
}
