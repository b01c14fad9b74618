/* alloc_boost: Boost.Interprocess as a peer: rbtree_best_fit with process-shared mutexes, what
   managed_shared_memory uses unless told otherwise, in anonymous shared memory. */

#include "alloc_peer.h"

#include <boost/interprocess/indexes/iset_index.hpp>
#include <boost/interprocess/managed_external_buffer.hpp>
#include <boost/interprocess/mem_algo/rbtree_best_fit.hpp>
#include <boost/interprocess/sync/mutex_family.hpp>

#include <new>
#include <sys/mman.h>

namespace {

namespace bi = boost::interprocess;

using segment_t =
    bi::basic_managed_external_buffer<char, bi::rbtree_best_fit<bi::mutex_family>, bi::iset_index>;

segment_t *g_segment;

} // namespace

int peer_open(size_t size, int touch, char const **ret_why) {
  int flags = MAP_SHARED | MAP_ANONYMOUS | (touch ? MAP_POPULATE : MAP_NORESERVE);
  void *addr = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
  *ret_why = "no shared memory";
  if (addr == MAP_FAILED) return 1;
  g_segment = new segment_t(bi::create_only, addr, size);
  return 0;
}

void *peer_malloc(size_t size) {
  return g_segment->allocate(size, std::nothrow);
}

void peer_free(void *blk) {
  g_segment->deallocate(blk);
}

size_t peer_used(void) {
  return g_segment->get_size() - g_segment->get_free_memory();
}
