/* mapping: see mapping.h. Addresses are reserved with room to spare, the memory is mapped over the
   aligned part, and the rest is given back. */

#include "core/mapping.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

void *wksp__map_none(size_t size, size_t align) {
  size_t room;
  if (__builtin_add_overflow(size, align, &room)) {
    errno = ENOMEM;
    return NULL;
  }
  char *reserve = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserve == MAP_FAILED) return NULL;
  char *at = (char *)(((uintptr_t)reserve + align - 1) & ~(align - 1));
  if (at > reserve) munmap(reserve, (size_t)(at - reserve));
  munmap(at + size, (size_t)(reserve + room - (at + size)));
  return at;
}

void *wksp__map_fd(int fd, size_t size, int prot) {
  size_t align = WKSP_MAP_ALIGN_MIN;
  while (align < size && align < WKSP_MAP_ALIGN_MAX) align *= 2;
  void *at = wksp__map_none(size, align);
  if (!at) return NULL;
  /* NORESERVE: on huge pages a plain mapping would reserve its whole length in the pool again. */
  void *map = mmap(at, size, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0);
  /* On failure the reservation is left: the kernel may have taken it down before it failed, and
     another thread may have mapped something there since. Only addresses are lost. */
  return map == MAP_FAILED ? NULL : map;
}
