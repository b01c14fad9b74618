/* life_forks: what a child does to its memory, its parent does not see: byte for byte.

   Problem: a heap under fork is right only if it is private all through: one page that parent and
   child share, one word that the library changes in the parent while a child lives, and two
   processes have the same block.

   Model: a copy of every page of the heap that is in memory. The heap is what lies in anonymous
   mappings of 1 MiB or more; the smaller ones are the variables of the program and the libraries,
   and the mapping with the thread's own block is left out too: the kernel writes there by itself
   (the processor's number). The copy lies in shared memory, which is not compared. Later each page
   is looked at again; a page of zeros counts as one that is not in memory. The first difference is
   told, with its place.

   With pages from the pool the kernel ends a child for which there is none (wksp-run(1) says so);
   the parent's memory stays as it is all the same. */

#include "life.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 1 << 15, HEAP_MIN = 1 << 20 };

typedef struct {
  char maps[1 << 18];  /* /proc/self/maps, as it is now */
  uintptr_t at[PAGES]; /* the copied pages' addresses, rising */
  unsigned char copy[PAGES][PAGE];
  unsigned cnt, seen; /* seen: of the copied pages, those that were met again */
} snap_t;

static snap_t *g_snap;

static int zeros(unsigned char const *page) {
  return !page[0] && !memcmp(page, page + 1, PAGE - 1);
}

static int resident(uintptr_t at) {
  unsigned char in[1];
  return !mincore((void *)at, PAGE, in) && (in[0] & 1);
}

/* The mapping of line, if it is one to be compared. */
static int wanted(char const *line, uintptr_t *ret_lo, uintptr_t *ret_hi) {
  unsigned long lo, hi;
  char mode[5], path = 0;
  if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %c", &lo, &hi, mode, &path) < 3) return 0;
  if (mode[0] != 'r' || mode[1] != 'w' || mode[3] != 'p' || path == '[') return 0;
  size_t len = strcspn(line, "\n");
  if (path == '/' && !memmem(line, len, "/anon_hugepage", 14)) return 0;
  uintptr_t own = (uintptr_t)pthread_self();
  if (hi - lo < HEAP_MIN || (lo <= own && own < hi)) return 0;
  *ret_lo = lo;
  *ret_hi = hi;
  return 1;
}

static void read_maps(void) {
  int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  WANT(fd >= 0);
  size_t len = 0;
  ssize_t got;
  while ((got = read(fd, g_snap->maps + len, sizeof g_snap->maps - 1 - len)) > 0)
    len += (size_t)got;
  WANT(!got && len < sizeof g_snap->maps - 1);
  g_snap->maps[len] = 0;
  close(fd);
}

/* Calls on_page for each page to be compared that is in memory. */
static void each_page(void (*on_page)(uintptr_t at, char const *line)) {
  read_maps();
  uintptr_t lo, hi;
  for (char *line = g_snap->maps; *line; line = strchr(line, '\n') + 1) {
    if (!wanted(line, &lo, &hi)) continue;
    for (uintptr_t at = lo; at < hi; at += PAGE)
      if (resident(at)) on_page(at, line);
  }
}

static void keep(uintptr_t at, char const *line) {
  (void)line;
  if (zeros((unsigned char *)at)) return; /* may come into memory by itself */
  WANT(g_snap->cnt < PAGES);
  memcpy(g_snap->copy[g_snap->cnt], (void *)at, PAGE);
  g_snap->at[g_snap->cnt++] = at;
}

static void changed(uintptr_t at, char const *line, unsigned char const *want) {
  unsigned char const *now = (unsigned char *)at;
  unsigned off = 0;
  while (want[off] == now[off]) off++;
  off &= ~7U;
  uint64_t was, is;
  memcpy(&was, want + off, 8);
  memcpy(&is, now + off, 8);
  dprintf(1, "%#lx is %#lx, was %#lx, in %.*s\n", at + off, is, was, (int)strcspn(line, "\n"),
          line);
  wrong("the parent's memory changed");
}

static void compare(uintptr_t at, char const *line) {
  static unsigned char const none[PAGE];
  unsigned char const *want = none;
  WANT(g_snap->seen == g_snap->cnt || g_snap->at[g_snap->seen] >= at); /* else one has gone */
  if (g_snap->seen < g_snap->cnt && g_snap->at[g_snap->seen] == at)
    want = g_snap->copy[g_snap->seen++];
  if (memcmp(want, (void *)at, PAGE)) changed(at, line, want);
}

static void take(void) {
  g_snap->cnt = 0;
  each_page(keep);
  WANT(g_snap->cnt > 1000);
}

static void same(void) {
  g_snap->seen = 0;
  each_page(compare);
  WANT(g_snap->seen == g_snap->cnt);
}

pid_t child_of(int how) {
  return how == 0 ? fork() : how == 1 ? _Fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/* A child changes all that it has; the parent's memory stays as it is, byte for byte. */
static void child_does(int how, void (*what)(void), int of_pool) {
  pid_t pid = child_of(how);
  if (!pid) {
    what();
    _exit(0);
  }
  int status;
  WANT(waitpid(pid, &status, 0) == pid);
  WANT(!status || (of_pool && WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS));
  same();
  look();
}

void forks(void) {
  g_snap = mmap(NULL, sizeof *g_snap, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  WANT(g_snap != MAP_FAILED);
  char const *huge = getenv("WKSP_MALLOC_HUGE");
  int of_pool = huge && !strcmp(huge, "hugetlb");
  fill();
  for (int how = 0; how < 3; how++) {
    take();
    child_does(how, invert, of_pool);
    child_does(how, mutate, of_pool);
  }
  mutate();
}
