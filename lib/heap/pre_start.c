/* pre_start: the heap is made, by the first call that wants a block.

   Problem. That call comes from the dynamic linker or from a library's constructor, with one
   thread, when nothing but system calls can be relied on; and making a workspace allocates itself.

   Model. The thread that is first makes it; what is allocated by that comes from a small array of
   ours, and is never given back. If there are not as many addresses as wanted, there are less:
   half, and half again; and without any workspace each block is a mapping. So ulimit -v makes
   programs slower and then fail with ENOMEM, as it does with any malloc.

   What it refuses: a pthread_once, which would wait for itself. */

#include "heap/preload.h"
#include "wksp/error.h"
#include "wksp/fd_wksp.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define TAG                1UL
#define SIZE_MIN           (16UL << 20)
#define SIZE_LEAST_DEFAULT (1UL << 30)
#define SIZE_MOST_DEFAULT  (1UL << 40)
#define BOOT_SZ            65536UL
#define BAD_TOLD_MAX       10

pre_t pre = {.stats_fd = -1, .limit = PRE_LIMIT_FIRST};

static __thread __attribute__((tls_model("initial-exec"))) int g_inside;

/* Boot memory
 * -------------------------------------------------------------------------------------- */

static __attribute__((aligned(4096))) char g_boot[BOOT_SZ];
static ulong g_boot_at;

void *pre_boot_malloc(ulong align, ulong sz) {
  if (align < 16) align = 16;
  ulong at = __atomic_load_n(&g_boot_at, __ATOMIC_RELAXED), from, to;
  do {
    from = ((ulong)g_boot + at + 16 + align - 1) & -align;
    if (sz > BOOT_SZ || from + sz > (ulong)g_boot + BOOT_SZ) return NULL;
    to = ((from + sz + 15) & -16UL) - (ulong)g_boot;
  } while (
      !__atomic_compare_exchange_n(&g_boot_at, &at, to, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  ((ulong *)from)[-1] = sz;
  return (void *)from;
}

ulong pre_boot_size(void const *ptr) {
  return (ulong)ptr - (ulong)g_boot < BOOT_SZ ? ((ulong const *)ptr)[-1] : 0;
}

/* The workspace
 * ------------------------------------------------------------------------------------ */

/* Twice the memory that the machine has. */
static ulong size_wanted(void) {
  struct sysinfo info;
  if (pre.env.size) return pre.env.size < SIZE_MIN ? SIZE_MIN : pre.env.size;
  if (sysinfo(&info)) return SIZE_LEAST_DEFAULT;
  ulong size = 2 * (info.totalram + info.totalswap) * info.mem_unit;
  return size < SIZE_LEAST_DEFAULT  ? SIZE_LEAST_DEFAULT
         : size > SIZE_MOST_DEFAULT ? SIZE_MOST_DEFAULT
                                    : size;
}

/* Where addresses are limited, half of them are left for stacks, libraries and mappings. */
static ulong size_allowed(ulong size) {
  struct rlimit limit;
  if (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY && size > limit.rlim_cur / 2)
    size = limit.rlim_cur / 2;
  return size;
}

static fd_wksp_t *wksp_make(void) {
  fd_wksp_private_t how = {.keep = pre.env.keep,
                           .nodes = pre.env.nodes,
                           .flags = pre.env.flags | FD_WKSP_PRIVATE_THREADS};
  for (how.size = size_allowed(size_wanted()); how.size >= SIZE_MIN; how.size /= 2) {
    fd_wksp_t *wksp = fd_wksp_new_private("malloc", &how);
    if (wksp) return wksp;
    if (wksp_last_error_code() == WKSP_E_SYS && how.nodes) { /* no such node */
      pre_say("%s; any node will do", wksp_last_error());
      how.nodes = pre.env.nodes = 0;
      how.size *= 2;
    }
  }
  return NULL;
}

static void on_bad_free(void *arg, fd_alloc_bad_free_t const *bad) {
  static char const *const what[] = {"",
                                     "was freed before",
                                     "lies inside a block, or between blocks",
                                     "is another allocator's",
                                     "is in memory without blocks: freed before, or wild",
                                     "has another size"};
  (void)arg;
  ulong cnt = __atomic_add_fetch(&pre.bad_cnt, 1UL, __ATOMIC_RELAXED);
  if (cnt <= BAD_TOLD_MAX)
    pre_say("free(%p): it %s%s", bad->laddr, what[bad->what < 6 ? bad->what : 0],
            bad->late ? ", found late" : "");
  if (pre.env.bad == PRE_BAD_ABORT) abort();
}

static void make(void) {
  pre_env_read(&pre.env);
  if (pre.env.stats) pre.stats_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100);
  fd_wksp_t *wksp = wksp_make();
  void *shmem =
      wksp ? fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), TAG) : NULL;
  fd_alloc_t *join = shmem ? fd_alloc_join(fd_alloc_new(shmem, TAG), 0) : NULL;
  if (!join) return;
  if (pre.env.bad != PRE_BAD_IGNORE) wksp_on_bad_free(on_bad_free, NULL);
  pre.wksp = wksp;
  pre.lo = (ulong)wksp + fd_wksp_gaddr_lo(wksp);
  pre.sz = fd_wksp_data_max(wksp);
  __atomic_store_n(&pre.join, join, __ATOMIC_RELEASE); /* others then find the rest */
}

int pre_start(void) {
  int saved = errno, none = PRE_NONE;
  if (g_inside) return 0;
  if (__atomic_compare_exchange_n(&pre.state, &none, PRE_STARTING, 0, __ATOMIC_ACQUIRE,
                                  __ATOMIC_ACQUIRE)) {
    g_inside = 1;
    make();
    g_inside = 0;
    __atomic_store_n(&pre.state, PRE_READY, __ATOMIC_RELEASE); /* pairs with the load below */
  }
  while (__atomic_load_n(&pre.state, __ATOMIC_ACQUIRE) < PRE_READY) sched_yield();
  errno = saved;
  return pre.join != NULL;
}

/* A program that never allocates has its report as well. */
__attribute__((constructor)) static void at_start(void) {
  pre_start();
  if (pre.env.workspace) pre_shared_start();
}

__attribute__((destructor)) static void at_exit(void) {
  if (pre.stats_fd >= 0) pre_report(pre.stats_fd);
}
