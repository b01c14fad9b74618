/* alloc_wksp: fd_alloc as a peer of the others. The memory is touched before, as for the others
   that have memory of their own: the first touch of a page is the kernel's to answer for. */

#include "alloc_peer.h"

#include <sys/mman.h>

fd_alloc_t *peer_alloc;
static fd_wksp_t *g_wksp;

int peer_open(size_t size, int touch, char const **ret_why) {
  /* 2 MiB pages if there are enough of them, else the small ones */
  g_wksp = touch ? fd_wksp_new_anon("bench", size, 2UL << 20, 1, 0) : NULL;
  if (!g_wksp) g_wksp = fd_wksp_new_anon("bench", size, 4096, 1, 0);
  *ret_why = wksp_last_error();
  if (!g_wksp) return 1;
  if (touch) madvise(g_wksp, size, MADV_POPULATE_WRITE);
  void *shmem = fd_wksp_alloc_laddr(g_wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, 1);
  peer_alloc = fd_alloc_join(fd_alloc_new(shmem, 1), 0);
  *ret_why = wksp_last_error();
  return !peer_alloc;
}

size_t peer_used(void) {
  fd_wksp_usage_t usage;
  return fd_wksp_usage(g_wksp, NULL, 0, &usage) ? 0 : usage.total_sz - usage.free_sz;
}
