/* anon: a workspace without a daemon, for a process and its later forks.

   The memory is a memfd of which only the mapping is kept: it lives as long as anybody maps it, and
   nobody else can open it. Huge pages are taken before the workspace exists, so that their lack is
   an error here and not a signal later; ordinary ones come as they are touched, as with malloc.

   Parts of it can be wanted on memory nodes. Huge pages are bound, for there is a pool: what the
   node lacks is an error, and all go back. Ordinary ones are only preferred there: to bind them
   would have the kernel kill somebody when the node is full. Their policy stays with the memory;
   that of huge pages with this mapping alone, by which they are all taken.

   This file and mapping.c are the only ones of lib/core that ask the kernel for memory. */

#include "core/anon.h"

#include "core/call.h"
#include "core/fail.h"
#include "core/layout.h"
#include "core/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ANON_PAGE_4K 4096UL
#define ANON_PAGE_2M (2UL << 20)
#define ANON_PAGE_1G (1UL << 30)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

typedef struct anon {
  void *addr;
  size_t size;
} anon_t;

/* What is wanted; bytes and page_size are consistent with each other. */
typedef struct want {
  char const *name;
  size_t size;
  ulong page_size;
  wksp__anon_part_t const *parts;
  ulong part_cnt; /* 0: anywhere */
} want_t;

static void unmap(void *arg) {
  anon_t *anon = arg;
  munmap(anon->addr, anon->size);
  free(anon);
}

/* The failure errno of a call that takes pages. */
static int fail_taking(want_t const *want, char const *call) {
  char const *hint = want->page_size == ANON_PAGE_4K ? ""
                     : want->page_size == ANON_PAGE_2M
                         ? ": raise /proc/sys/vm/nr_hugepages, or use pages of 4096"
                         : ": raise nr_hugepages in "
                           "/sys/kernel/mm/hugepages/hugepages-1048576kB, or use smaller pages";
  if (errno == ENOSPC || errno == ENOMEM)
    return wksp__fail(WKSP_E_NOMEM,
                      "new_anon %s: no memory for %lu bytes in pages of %lu (%s: %m)%s", want->name,
                      want->size, want->page_size, call, hint);
  return wksp__fail(WKSP_E_SYS, "new_anon %s: %s of %lu bytes: %m", want->name, call, want->size);
}

/* The pages of a part are not there. */
static int fail_part(want_t const *want, wksp__anon_part_t const *part) {
  if (part->node < 0)
    return wksp__fail(WKSP_E_NOMEM,
                      "new_anon %s: %lu pages of %lu bytes are wanted and not to be had: raise "
                      "nr_hugepages in /sys/kernel/mm/hugepages, or use pages of 4096",
                      want->name, part->page_cnt, want->page_size);
  return wksp__fail(WKSP_E_NOMEM,
                    "new_anon %s: %lu pages of %lu bytes are wanted on node %d and not to be had "
                    "there: raise nr_hugepages in /sys/devices/system/node/node%d/hugepages, or "
                    "use other cpus, or pages of 4096",
                    want->name, part->page_cnt, want->page_size, part->node, part->node);
}

/* Wants len bytes at `at` on the node of a part, and takes them if they are huge pages. */
static int place(want_t const *want, wksp__anon_part_t const *part, char *at, size_t len) {
  int huge = want->page_size != ANON_PAGE_4K;
  ulong mask = part->node < 0 ? 0 : 1UL << part->node;
  /* one bit more than there are: the kernel takes one off */
  if (mask && syscall(SYS_mbind, at, len, huge ? MPOL_BIND : MPOL_PREFERRED, &mask,
                      WKSP__ANON_NODES_MAX + 1UL, 0U))
    return wksp__fail(errno == EINVAL ? WKSP_E_INVAL : WKSP_E_SYS,
                      "new_anon %s: this process cannot have memory on node %d (mbind: %m); "
                      "Mems_allowed in /proc/self/status says where it can",
                      want->name, part->node);
  while (huge && madvise(at, len, MADV_POPULATE_WRITE)) {
    if (errno == EINTR || errno == EAGAIN) continue;
    if (errno == EFAULT || errno == ENOMEM) return fail_part(want, part); /* or it were SIGBUS */
    return fail_taking(want, "madvise(MADV_POPULATE_WRITE)");
  }
  return 0;
}

/* All parts, in order. */
static int place_all(want_t const *want, char *addr) {
  int rc = 0;
  for (ulong i = 0, at = 0; !rc && i < want->part_cnt; i++) {
    size_t len = want->parts[i].page_cnt * want->page_size;
    if (len) rc = place(want, &want->parts[i], addr + at, len);
    at += len;
  }
  return rc;
}

/* Takes all of the huge pages; or, if they are to lie on nodes, has the kernel set as many apart,
   so that a lack of them is found before any has been taken. 0, or -1 with errno and *ret_call. */
static int reserve(want_t const *want, int fd, char const **ret_call) {
  if (!want->part_cnt) {
    *ret_call = "fallocate";
    return fallocate(fd, 0, 0, (off_t)want->size);
  }
  *ret_call = "mmap";
  void *addr = mmap(NULL, want->size, PROT_NONE, MAP_SHARED, fd, 0);
  return addr == MAP_FAILED ? -1 : munmap(addr, want->size); /* what is set apart is the file's */
}

/* Maps new zeroed memory. */
static int map(want_t const *want, void **ret_addr) {
  unsigned flags = MFD_CLOEXEC;
  if (want->page_size == ANON_PAGE_2M) flags |= MFD_HUGETLB | MFD_HUGE_2MB;
  if (want->page_size == ANON_PAGE_1G) flags |= MFD_HUGETLB | MFD_HUGE_1GB;
  int fd = memfd_create(want->name, flags);
  if (fd < 0)
    return wksp__fail(WKSP_E_SYS, "new_anon %s: memfd_create for pages of %lu bytes: %m",
                      want->name, want->page_size);
  void *addr = NULL;
  char const *call = "ftruncate";
  int rc = ftruncate(fd, (off_t)want->size);
  if (!rc && want->page_size != ANON_PAGE_4K) rc = reserve(want, fd, &call);
  if (!rc) {
    call = "mmap";
    addr = wksp__map_fd(fd, want->size, PROT_READ | PROT_WRITE);
  }
  rc = addr ? 0 : fail_taking(want, call);
  close(fd);
  if (!rc) rc = place_all(want, addr);
  if (!rc)
    *ret_addr = addr;
  else if (addr)
    munmap(addr, want->size);
  return rc;
}

/* What of the arguments decides the memory. */
static int dims(char const *name, ulong size, ulong *page_size, ulong *part_max, ulong *ret_bytes,
                ulong *ret_data_max) {
  if (!wksp__name_ok(name))
    return wksp__fail(WKSP_E_INVAL, "new_anon: \"%.64s\" is no name for a workspace",
                      name ? name : "");
  if (!*page_size) *page_size = ANON_PAGE_4K;
  if (*page_size != ANON_PAGE_4K && *page_size != ANON_PAGE_2M && *page_size != ANON_PAGE_1G)
    return wksp__fail(WKSP_E_INVAL, "new_anon %s: pages of %lu bytes: use %lu, %lu or %lu", name,
                      *page_size, ANON_PAGE_4K, ANON_PAGE_2M, ANON_PAGE_1G);
  ulong bytes;
  if (__builtin_add_overflow(size, *page_size - 1, &bytes))
    return wksp__fail(WKSP_E_INVAL, "new_anon %s: a size of %lu is beyond any memory", name, size);
  bytes &= ~(*page_size - 1);
  if (!*part_max) *part_max = fd_wksp_part_max_est(bytes, 0);
  *ret_data_max = fd_wksp_data_max_est(bytes, *part_max);
  *ret_bytes = bytes;
  if (!*ret_data_max)
    return wksp__fail(WKSP_E_INVAL,
                      "new_anon %s: a size of %lu with part_max %lu leaves no room for data; the "
                      "smallest workspace takes %lu",
                      name, size, *part_max, fd_wksp_footprint(WKSP_PART_MAX_MIN, WKSP_SPAN_SZ));
  return 0;
}

fd_wksp_t *wksp__anon_new(char const *name, ulong size, ulong page_size, uint seed, ulong part_max,
                          wksp__anon_part_t const *parts, ulong part_cnt) {
  ulong bytes = 0, data_max = 0;
  void *addr = NULL;
  if (dims(name, size, &page_size, &part_max, &bytes, &data_max)) return NULL;
  want_t want = {name, bytes, page_size, parts, part_cnt};
  if (map(&want, &addr)) return NULL;

  anon_t *anon = malloc(sizeof(*anon));
  if (!anon) {
    munmap(addr, bytes);
    wksp__fail(WKSP_E_NOMEM, "new_anon %s: the process is out of memory", name);
    return NULL;
  }
  *anon = (anon_t){.addr = addr, .size = bytes};
  if (!fd_wksp_new(addr, name, seed, part_max, data_max) ||
      wksp__map_add(addr, 0, 0, unmap, anon)) {
    unmap(anon);
    return NULL;
  }
  return addr;
}

fd_wksp_t *fd_wksp_new_anon(char const *name, ulong size, ulong page_size, uint seed,
                            ulong part_max) {
  return wksp__anon_new(name, size, page_size, seed, part_max, NULL, 0);
}

void fd_wksp_delete_anon(fd_wksp_t *wksp) {
  if (wksp) fd_wksp_leave(wksp);
}
