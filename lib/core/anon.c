/* anon: a workspace without a daemon, for a process and its later forks.

   The memory is a memfd of which only the mapping is kept: it lives as long as anybody maps it, and
   nobody else can open it. Huge pages are taken before the workspace exists, so that their lack is
   an error here and not a signal later; ordinary ones come as they are touched, as with malloc.

   This file and mapping.c are the only ones of lib/core that ask the kernel for memory. */

#include "core/call.h"
#include "core/fail.h"
#include "core/layout.h"
#include "core/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define ANON_PAGE_4K 4096UL
#define ANON_PAGE_2M (2UL << 20)

typedef struct anon {
  void *addr;
  size_t size;
} anon_t;

static void unmap(void *arg) {
  anon_t *anon = arg;
  munmap(anon->addr, anon->size);
  free(anon);
}

/* Maps size bytes of new zeroed memory. */
static int map(char const *name, size_t size, ulong page_size, void **ret_addr) {
  unsigned flags = MFD_CLOEXEC;
  if (page_size == ANON_PAGE_2M) flags |= MFD_HUGETLB | MFD_HUGE_2MB;
  int fd = memfd_create(name, flags);
  if (fd < 0)
    return wksp__fail(WKSP_E_SYS, "new_anon %s: memfd_create for pages of %lu bytes: %m", name,
                      page_size);
  void *addr = NULL;
  char const *call = "ftruncate";
  int rc = ftruncate(fd, (off_t)size);
  if (!rc && page_size == ANON_PAGE_2M) {
    call = "fallocate";
    rc = fallocate(fd, 0, 0, (off_t)size);
  }
  if (!rc) {
    call = "mmap";
    addr = wksp__map_fd(fd, size, PROT_READ | PROT_WRITE);
  }
  int err = errno;
  close(fd);
  errno = err;
  if (addr) {
    *ret_addr = addr;
    return 0;
  }
  if (err == ENOSPC || err == ENOMEM)
    return wksp__fail(
        WKSP_E_NOMEM, "new_anon %s: no memory for %lu bytes in pages of %lu (%s: %m)%s", name, size,
        page_size, call,
        page_size == ANON_PAGE_2M ? ": raise /proc/sys/vm/nr_hugepages, or use pages of 4096" : "");
  return wksp__fail(WKSP_E_SYS, "new_anon %s: %s of %lu bytes: %m", name, call, size);
}

/* What of the arguments decides the memory. */
static int dims(char const *name, ulong size, ulong *page_size, ulong *part_max, ulong *ret_bytes,
                ulong *ret_data_max) {
  if (!wksp__name_ok(name))
    return wksp__fail(WKSP_E_INVAL, "new_anon: \"%.64s\" is no name for a workspace",
                      name ? name : "");
  if (!*page_size) *page_size = ANON_PAGE_4K;
  if (*page_size != ANON_PAGE_4K && *page_size != ANON_PAGE_2M)
    return wksp__fail(WKSP_E_INVAL, "new_anon %s: pages of %lu bytes: use %lu or %lu", name,
                      *page_size, ANON_PAGE_4K, ANON_PAGE_2M);
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

fd_wksp_t *fd_wksp_new_anon(char const *name, ulong size, ulong page_size, uint seed,
                            ulong part_max) {
  ulong bytes = 0, data_max = 0;
  void *addr = NULL;
  if (dims(name, size, &page_size, &part_max, &bytes, &data_max)) return NULL;
  if (map(name, bytes, page_size, &addr)) return NULL;

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

void fd_wksp_delete_anon(fd_wksp_t *wksp) {
  if (wksp) fd_wksp_leave(wksp);
}
