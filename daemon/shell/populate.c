/* The problem: gigabytes are to be cleared, each page on its node, as fast as the machine can; and
   a node that runs dry in the middle has to be an error, not a kill.

   The model: threads for each node, on its cpus, under a policy of their own for it; they share the
   node's pieces (placement.h) by a counter. A thread's policy holds for ordinary and for huge pages
   alike, whatever mapping they are taken through, so that nothing has to be bound page by page.
   What runs short is an error code of madvise. Afterwards the kernel is asked where each page is.

   Of huge pages strict placement takes none elsewhere (MPOL_BIND). Of ordinary ones that would call
   the kernel's killer when the node is full: so they are taken as near as can be (MPOL_PREFERRED),
   and those that came from elsewhere are moved, for which the kernel kills nobody. Ordinary pages
   are then made huge where the kernel can.

   On a machine with one node there is nothing to choose and nothing to ask.

   Refuses: to touch what the pages hold. */

#include "daemon/shell/populate.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE 2097152UL

/* Bytes at a time: between two of these it can be cancelled, and threads share what is left. Large
   enough that the call costs nothing beside the clearing. */
#define PIECE (32UL << 20)

/* Threads of one node. What clears memory is limited by its channels, long before this. */
#define NODE_THREADS_MAX 16U

/* Bytes that are worth a thread. */
#define THREAD_BYTES (16UL << 20)

/* Failures to make huge pages, one after the other, after which no more are tried: memory is in
 * pieces, and finding that out costs time. */
#define COLLAPSE_TRIES_MAX 4

/* Pages that the kernel is asked about at a time. */
#define ASK_MAX 1024U

/* What the threads of one make share. */
typedef struct shared {
  populate_want_t const *want;
  int choose; /* there is more than one node to take pages of */
  uint64_t page_size;
  _Atomic int status; /* POPULATE_*: the first that went wrong */
  _Atomic int32_t node;
  _Atomic int err;
  _Atomic int collapse_tries; /* failures in a row */
  _Atomic uint64_t elsewhere, huge;
  char const *_Atomic call;
} shared_t;

/* What the threads of one node share. */
typedef struct home {
  shared_t *shared;
  uint32_t node;
  uint64_t wanted;         /* pages */
  _Atomic uint64_t number; /* of the next piece */
  _Atomic uint64_t taken;  /* pages */
} home_t;

static void stop(home_t *home, int status, int err, char const *call) {
  int none = POPULATE_OK;
  shared_t *shared = home->shared;
  if (!atomic_compare_exchange_strong(&shared->status, &none, status)) return;
  atomic_store(&shared->node, (int32_t)home->node);
  atomic_store(&shared->err, err);
  atomic_store(&shared->call, call);
}

/* The thread's policy
 * ------------------------------------------------------------------------------------------------
 */

/* Onto the node's cpus, as far as this process may use them. Failing costs speed, no more. */
static void pin(home_t const *home) {
  topo_t const *topo = home->shared->want->topo;
  size_t size = CPU_ALLOC_SIZE(TOPO_CPUS_MAX);
  cpu_set_t *set = CPU_ALLOC(TOPO_CPUS_MAX);
  if (!set) return;
  CPU_ZERO_S(size, set);
  if (!sched_getaffinity(0, size, set)) {
    for (uint32_t cpu = 0; cpu < TOPO_CPUS_MAX; cpu++)
      if (cpu >= topo->cpu_cnt || topo->cpu_node[cpu] != (int16_t)home->node)
        CPU_CLR_S(cpu, size, set);
    if (CPU_COUNT_S(size, set)) (void)sched_setaffinity(0, size, set);
  }
  CPU_FREE(set);
}

/* 0, or 1 and it has been told. */
static int bind_to(home_t *home) {
  shared_t const *shared = home->shared;
  int mode = shared->want->strict && shared->page_size > 4096 ? MPOL_BIND : MPOL_PREFERRED;
  struct bitmask *mask = numa_allocate_nodemask();
  if (!mask) {
    stop(home, POPULATE_SYS, ENOMEM, "numa_allocate_nodemask");
    return 1;
  }
  numa_bitmask_setbit(mask, home->node);
  int bad = set_mempolicy(mode, mask->maskp, mask->size + 1) != 0;
  if (bad && shared->want->strict) stop(home, POPULATE_SYS, errno, "set_mempolicy");
  numa_free_nodemask(mask);
  return bad && shared->want->strict;
}

/* Pieces
 * ------------------------------------------------------------------------------------------------
 */

/* Makes huge pages of what lies in [at, at + len). */
static void collapse(shared_t *shared, uint8_t *at, uint64_t len) {
  uintptr_t first = ((uintptr_t)at + HUGE - 1) & ~(HUGE - 1), end = (uintptr_t)at + len;
  for (; first + HUGE <= end; first += HUGE) {
    if (atomic_load_explicit(&shared->collapse_tries, memory_order_relaxed) >= COLLAPSE_TRIES_MAX)
      return;
    /* relaxed: figures and a guess of whether it is worth while */
    if (madvise((void *)first, HUGE, MADV_COLLAPSE)) {
      atomic_fetch_add_explicit(&shared->collapse_tries, 1, memory_order_relaxed);
      if (errno == EINVAL) atomic_store(&shared->collapse_tries, COLLAPSE_TRIES_MAX);
    } else {
      atomic_store_explicit(&shared->collapse_tries, 0, memory_order_relaxed);
      atomic_fetch_add_explicit(&shared->huge, HUGE, memory_order_relaxed);
    }
  }
}

/* Of cnt pages from mem on, those that are not on node; move: once more after asking the kernel to
   move them there. What the kernel does not say counts as elsewhere. */
static uint64_t astray(uint8_t *mem, uint64_t cnt, uint64_t page_size, int node, int move) {
  void *pages[ASK_MAX];
  int nodes[ASK_MAX], status[ASK_MAX];
  uint64_t found = 0;
  for (uint64_t done = 0; done < cnt;) {
    unsigned long n = 0, bad = 0;
    for (; n < ASK_MAX && done + n < cnt; n++) {
      pages[n] = mem + (done + n) * page_size;
      nodes[n] = node;
      status[n] = -1;
    }
    done += n;
    (void)move_pages(0, n, pages, NULL, status, 0);
    for (unsigned long i = 0; i < n; i++)
      if (status[i] != node) pages[bad++] = pages[i];
    if (bad && move) {
      (void)move_pages(0, bad, pages, nodes, status, MPOL_MF_MOVE);
      memset(status, -1, sizeof status);
      (void)move_pages(0, bad, pages, NULL, status, 0);
      unsigned long still = 0;
      for (unsigned long i = 0; i < bad; i++) still += status[i] != node;
      bad = still;
    }
    found += bad;
  }
  return found;
}

/* Takes one piece and looks where it lies. 0, or 1 and it has been told. */
static int take_piece(home_t *home, uint64_t first, uint64_t cnt) {
  shared_t *shared = home->shared;
  populate_want_t const *want = shared->want;
  uint64_t size = shared->page_size;
  uint8_t *at = want->mem + (first - want->from) * size;
  while (madvise(at, cnt * size, MADV_POPULATE_WRITE)) {
    int err = errno;
    if (err == EINTR || err == EAGAIN) continue;
    int dry = err == EFAULT || err == ENOMEM || err == ENOSPC;
    stop(home, dry ? POPULATE_SHORT : POPULATE_SYS, err, "madvise(MADV_POPULATE_WRITE)");
    return 1;
  }
  want->taken(want->arg, cnt * size);
  if (size == 4096) collapse(shared, at, cnt * size);
  uint64_t away = shared->choose ? astray(at, cnt, size, (int)home->node, size == 4096) : 0;
  atomic_fetch_add_explicit(&home->taken, cnt - away, memory_order_relaxed);
  atomic_fetch_add_explicit(&shared->elsewhere, away, memory_order_relaxed);
  if (!away || !want->strict) return 0;
  stop(home, POPULATE_SHORT, 0, "move_pages");
  return 1;
}

static void *work(void *arg) {
  home_t *home = arg;
  shared_t *shared = home->shared;
  populate_want_t const *want = shared->want;
  uint64_t first, cnt, piece = PIECE / shared->page_size;
  if (shared->choose) {
    pin(home);
    if (bind_to(home)) return NULL;
  }
  /* relaxed: each number is taken once, and the pages are the kernel's to order */
  while (place_piece(want->layout, home->node, want->from, want->to, piece ? piece : 1,
                     atomic_fetch_add_explicit(&home->number, 1, memory_order_relaxed), &first,
                     &cnt)) {
    if (atomic_load_explicit(&shared->status, memory_order_relaxed)) break;
    if (atomic_load_explicit(want->cancel, memory_order_relaxed)) {
      stop(home, POPULATE_CANCELLED, 0, NULL);
      break;
    }
    if (cnt && take_piece(home, first, cnt)) break;
  }
  return NULL;
}

/* Threads
 * ------------------------------------------------------------------------------------------------
 */

static uint32_t thread_cnt(home_t const *home) {
  topo_t const *topo = home->shared->want->topo;
  uint64_t cpus = 0, worth = home->wanted * home->shared->page_size / THREAD_BYTES;
  for (uint32_t cpu = 0; cpu < topo->cpu_cnt; cpu++)
    cpus += topo->cpu_node[cpu] == (int16_t)home->node;
  if (worth > cpus) worth = cpus;
  return worth < 1 ? 1 : worth > NODE_THREADS_MAX ? NODE_THREADS_MAX : (uint32_t)worth;
}

static int fail_of(shared_t *shared, home_t const *homes, uint32_t home_cnt,
                   populate_got_t *ret_got) {
  int status = atomic_load(&shared->status);
  *ret_got = (populate_got_t){.node = -1, .err = shared->err, .call = shared->call};
  for (uint32_t i = 0; status == POPULATE_SHORT && i < home_cnt; i++) {
    if ((int32_t)homes[i].node != shared->node) continue;
    ret_got->node = shared->want->strict ? shared->node : -1;
    ret_got->wanted = homes[i].wanted;
    ret_got->free = homes[i].taken;
  }
  return status;
}

/* Runs all of it; threads has room for cnt of them. */
static void run(home_t *homes, uint32_t home_cnt, pthread_t *threads) {
  uint32_t cnt = 0;
  for (uint32_t i = 0; i < home_cnt; i++) {
    uint32_t wanted = thread_cnt(&homes[i]), begun = 0;
    while (begun < wanted && !pthread_create(&threads[cnt], NULL, work, &homes[i])) {
      begun++;
      cnt++;
    }
    if (!begun) stop(&homes[i], POPULATE_SYS, EAGAIN, "pthread_create");
  }
  while (cnt) pthread_join(threads[--cnt], NULL);
}

int populate(populate_want_t const *want, populate_got_t *ret_got) {
  shared_t shared = {.want = want, .page_size = topo_page_size(want->layout->size)};
  home_t *homes = calloc(TOPO_NODES_MAX, sizeof *homes);
  pthread_t *threads = calloc((size_t)TOPO_NODES_MAX * NODE_THREADS_MAX, sizeof *threads);
  uint32_t cnt = 0, usable = 0;
  int status = POPULATE_SYS;
  *ret_got = (populate_got_t){.node = -1, .err = ENOMEM, .call = "malloc"};
  if (homes && threads) {
    for (uint32_t node = 0; node < TOPO_NODES_MAX; node++) {
      usable += node < want->topo->node_cnt && want->topo->node[node].online;
      uint64_t wanted = place_cnt(want->layout, node, want->from, want->to);
      if (wanted) homes[cnt++] = (home_t){.shared = &shared, .node = node, .wanted = wanted};
    }
    shared.choose = want->topo->numa && usable > 1;
    run(homes, cnt, threads);
    status = fail_of(&shared, homes, cnt, ret_got);
    ret_got->elsewhere = shared.elsewhere;
    ret_got->huge = shared.huge;
  }
  free(homes);
  free(threads);
  return status;
}
