/* peer_boost: Boost.Interprocess beside fd_wksp.

   The same pairs and churn, with the same populations and draws, through rbtree_best_fit with
   process-shared mutexes: what managed_shared_memory uses unless told otherwise. It lies in
   anonymous memory here so that no name is left behind, which the algorithm does not see. Blocks
   are aligned to its default of 16 bytes; it has no tags, no lookup by address, and its mutex does
   not outlive a kill. */

#include "bench.h"

#include <boost/interprocess/indexes/iset_index.hpp>
#include <boost/interprocess/managed_external_buffer.hpp>
#include <boost/interprocess/mem_algo/rbtree_best_fit.hpp>
#include <boost/interprocess/sync/mutex_family.hpp>

#include <new>
#include <vector>

namespace {

namespace bi = boost::interprocess;

using segment_t =
    bi::basic_managed_external_buffer<char, bi::rbtree_best_fit<bi::mutex_family>, bi::iset_index>;

constexpr size_t draws = 65521, victims_cnt = 1UL << 20;
constexpr uint64_t pair_size = 1024;

struct peer {
  segment_t segment;
  std::vector<void *> live;
  std::vector<uint32_t> sizes, victims;
  size_t draw = 0, victim = 0;

  explicit peer(size_t size) : segment(bi::create_only, bench_mem("boost", size, size), size) {
  }

  void *take(size_t size) {
    void *addr = segment.allocate(size, std::nothrow);
    if (!addr) bench_die("boost: no room for %zu bytes", size);
    return addr;
  }

  size_t next_draw() {
    size_t at = draw;
    draw = at + 1 == draws ? 0 : at + 1;
    return at;
  }

  void draw_sizes(bench_rng_t *rng) {
    for (size_t i = 0; i < draws; i++)
      sizes.push_back(static_cast<uint32_t>(bench_size(rng, BENCH_SIZE_MIN, BENCH_SIZE_MAX)));
  }
};

peer *peer_of(bench_kernel_t *kernel) {
  return static_cast<peer *>(kernel->state);
}

void holes_prepare(bench_kernel_t *kernel, uint64_t seed) {
  uint64_t n = kernel->n;
  bench_rng_t rng = bench_rng(seed, "holes");
  peer *p = new peer(2 * n * (BENCH_SIZE_MEAN + 64) * 11 / 10 + (1UL << 20));
  for (uint64_t i = 0; i < 2 * n; i++)
    p->live.push_back(p->take(bench_size(&rng, BENCH_SIZE_MIN, BENCH_SIZE_MAX)));
  while (p->live.size() > n) {
    size_t victim = bench_below(&rng, p->live.size());
    p->segment.deallocate(p->live[victim]);
    p->live[victim] = p->live.back();
    p->live.pop_back();
  }
  kernel->state = p;
}

void pair_same_run(bench_kernel_t *kernel, uint64_t cnt) {
  peer *p = peer_of(kernel);
  for (uint64_t i = 0; i < cnt; i++) p->segment.deallocate(p->take(pair_size));
}

void churn_run(bench_kernel_t *kernel, uint64_t cnt) {
  peer *p = peer_of(kernel);
  for (uint64_t i = 0; i < cnt; i++) {
    void *&slot = p->live[p->victims[p->victim++ % victims_cnt]];
    p->segment.deallocate(slot);
    slot = p->take(p->sizes[p->next_draw()]);
  }
}

void churn_prepare(bench_kernel_t *kernel, uint64_t seed) {
  uint64_t n = kernel->n;
  bench_rng_t rng = bench_rng(seed, kernel->name + sizeof("boost"));
  peer *p = new peer(n * (BENCH_SIZE_MEAN + 32) * 10 / 7);
  for (uint64_t i = 0; i < n; i++)
    p->live.push_back(p->take(bench_size(&rng, BENCH_SIZE_MIN, BENCH_SIZE_MAX)));
  p->draw_sizes(&rng);
  for (size_t i = 0; i < victims_cnt; i++)
    p->victims.push_back(static_cast<uint32_t>(bench_below(&rng, n)));
  kernel->state = p;
  churn_run(kernel, 5 * n);
}

bench_kernel_t row(char const *name, uint64_t n, void (*prepare)(bench_kernel_t *, uint64_t),
                   void (*run)(bench_kernel_t *, uint64_t)) {
  bench_kernel_t kernel = {};
  kernel.name = name;
  kernel.n = n;
  kernel.prepare = prepare;
  kernel.run = run;
  return kernel;
}

} // namespace

extern "C" {
bench_kernel_t bench_boost_kernels[] = {
    row("boost pair same 10", 10, holes_prepare, pair_same_run),
    row("boost pair same 1000", 1000, holes_prepare, pair_same_run),
    row("boost pair same 100000", 100000, holes_prepare, pair_same_run),
    row("boost churn 1000", 1000, churn_prepare, churn_run),
    row("boost churn 100000", 100000, churn_prepare, churn_run),
    row(nullptr, 0, nullptr, nullptr),
};
}
