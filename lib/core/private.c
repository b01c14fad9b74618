/* private: a workspace in memory of one process alone, as a heap is.

   Problem. What malloc gives must be copied when the process forks, must not count before it is
   used, may become as large as the machine's memory, and should go back to the system when it is
   free. A memfd does none of that.

   Model. The addresses are reserved at once and without access; the tables are made accessible at
   once, the data step by step, as they are needed (part_resize.c), so that nothing counts as memory
   which was never asked for, and a mlockall takes what is there and not all addresses.

   Fork. Private memory is copied with all that is in it: the child has its parent's slots, whose
   threads it has not. It is as if they had been killed at that instant, and this is what the
   workspace is made for: their slots are marked dead, what they were at is ended by whoever needs
   it. Only the thread that forked is there, and goes on with its slot and its heaps: its seat is
   not wiped (map.c). So no lock has to be taken before a fork, and it does not matter by which call
   it is made.

   Back to the system. Memory that becomes free is given back at once if more than `keep` bytes of
   free memory are resident already, by who frees it and before others can have it. The count of
   these is a guess: who takes free memory does not know whether it was resident.

   What it refuses: a join by others, and to shrink. */

#include "core/private.h"

#include "core/alloc.h"
#include "core/atomic.h"
#include "core/fail.h"
#include "core/map.h"
#include "core/mapping.h"
#include "core/part.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/mempolicy.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UNIT_2M (2UL << 20)

/* The data grow by this, or by an eighth if that is more. */
#define STEP_MIN (32UL << 20)

/* How long to wait for another thread that moves the end; ns. */
#define GROW_WAIT_NS 10000000000UL

/* Holes are looked for under the lock, and so much is given back before it is given up: malloc of
   others waits meanwhile. */
#define TRIM_HOLD_SZ (16UL << 20)

/* From this size on there is room for many slots, which take so much more at most. */
#define MANY_MIN  (1UL << 30)
#define MANY_ROOM (4UL << 20)

/* Slots and entries of the heap directory that are looked at, at first. */
#define LOOK_MIN 64U

#define FLAGS_PAGES (FD_WKSP_PRIVATE_THP | FD_WKSP_PRIVATE_HUGETLB)
#define FLAGS_ALL   (FLAGS_PAGES | FD_WKSP_PRIVATE_THREADS)

/* Memory
 * ----------------------------------------------------------------------------------------- */

static int bind_nodes(wksp__own_t const *own, void *addr, uint64_t size) {
  if (!own->nodes) return 0;
  return (int)syscall(SYS_mbind, addr, size, MPOL_BIND, &own->nodes, 65UL, 0U);
}

/* Pages of the pool for whole ones of [lo, hi). Reserved by the mmap, so that their lack shows here
   and not as a signal later. */
static int map_huge(wksp__own_t const *own, uintptr_t lo, uintptr_t hi) {
  lo = (lo + UNIT_2M - 1) & -UNIT_2M;
  hi &= -UNIT_2M;
  if (lo >= hi) return 0;
  void *at =
      mmap((void *)lo, hi - lo, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB | (21 << MAP_HUGE_SHIFT), -1, 0);
  return at == MAP_FAILED ? -1 : bind_nodes(own, at, hi - lo);
}

/* Makes [lo, hi) accessible. 0, or -1 and errno. */
static int open_up(wksp__own_t const *own, char *lo, char *hi) {
  if (mprotect(lo, (size_t)(hi - lo), PROT_READ | PROT_WRITE)) return -1;
  /* Without pages in the pool there are ordinary ones. mmap may have taken the place down before it
     failed. */
  if ((own->flags & FD_WKSP_PRIVATE_HUGETLB) && map_huge(own, (uintptr_t)lo, (uintptr_t)hi)) {
    void *at = mmap(lo, (size_t)(hi - lo), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return -1;
    (void)madvise(lo, (size_t)(hi - lo), MADV_HUGEPAGE);
    return bind_nodes(own, lo, (uint64_t)(hi - lo));
  }
  return 0;
}

static void give_back(wksp__own_t const *own, uintptr_t lo, uintptr_t hi) {
  lo = (lo + own->page - 1) & -own->page;
  hi &= -own->page;
  if (lo < hi && !(own->flags & FD_WKSP_PRIVATE_HUGETLB)) /* those would lose their reservation */
    (void)madvise((void *)lo, hi - lo, MADV_DONTNEED);
}

/* Making one
 * --------------------------------------------------------------------------------------- */

static void unmap(void *arg) {
  wksp__own_t *own = arg;
  munmap(own->addr, own->size);
  free(own);
}

/* Where the data end at first. */
static uint64_t first_end(wksp__geom_t const *geom, uint64_t unit) {
  uint64_t end = (geom->data_lo + STEP_MIN) & -unit;
  return end > geom->data_hi ? geom->data_hi : end;
}

static int dims(char const *name, fd_wksp_private_t const *how, wksp__geom_t *ret_geom) {
  if (!wksp__name_ok(name))
    return wksp__fail(WKSP_E_INVAL, "new_private: \"%.64s\" is no name for a workspace",
                      name ? name : "");
  if (how->flags & ~FLAGS_ALL)
    return wksp__fail(WKSP_E_INVAL, "new_private %s: unknown flags %#lx", name,
                      how->flags & ~FLAGS_ALL);
  ulong part_max = how->part_max ? how->part_max : fd_wksp_part_max_est(how->size, 0);
  int many = (how->flags & FD_WKSP_PRIVATE_THREADS) && how->size >= MANY_MIN;
  ulong data_max = fd_wksp_data_max_est(many ? how->size - MANY_ROOM : how->size, part_max);
  if (!data_max || (many ? wksp__geom_many(ret_geom, part_max, data_max)
                         : wksp__geom(ret_geom, part_max, data_max)))
    return wksp__fail(WKSP_E_INVAL,
                      "new_private %s: a size of %lu with part_max %lu leaves no room for data",
                      name, how->size, part_max);
  return 0;
}

static int no_memory(char const *name, uint64_t size, char const *call) {
  int code = errno == ENOMEM || errno == EAGAIN ? WKSP_E_NOMEM : WKSP_E_SYS;
  return wksp__fail(code, "new_private %s: %s for %lu bytes: %m%s", name, call, size,
                    code == WKSP_E_NOMEM ? ": ask for less, or raise ulimit -v" : "");
}

/* The addresses, with the tables and the first of the data accessible; NULL (reported). */
static void *reserve(char const *name, wksp__own_t const *own, wksp__geom_t const *geom) {
  char *addr = wksp__map_none(own->size, WKSP_MAP_ALIGN_MIN);
  if (!addr) {
    no_memory(name, own->size, "mmap");
    return NULL;
  }
  char const *call = "mbind";
  char *data = addr + geom->data_lo;
  int rc = bind_nodes(own, data, geom->data_max);
  if (!rc && (own->flags & FD_WKSP_PRIVATE_THP))
    (void)madvise(data, geom->data_max, MADV_HUGEPAGE); /* without them there are ordinary pages */
  if (!rc) {
    call = "mprotect";
    rc = mprotect(addr, geom->data_lo, PROT_READ | PROT_WRITE);
  }
  if (!rc) rc = open_up(own, data, addr + first_end(geom, own->unit));
  if (!rc) return addr;
  no_memory(name, own->size, call);
  munmap(addr, own->size);
  return NULL;
}

fd_wksp_t *fd_wksp_new_private(char const *name, fd_wksp_private_t const *how) {
  wksp__geom_t geom;
  fd_wksp_private_t const none = {0};
  if (dims(name, how ? how : &none, &geom)) return NULL;
  wksp__own_t *own = malloc(sizeof *own);
  if (!own) {
    wksp__fail(WKSP_E_NOMEM, "new_private %s: the process is out of memory", name);
    return NULL;
  }
  *own = (wksp__own_t){.size = (geom.footprint + UNIT_2M - 1) & -UNIT_2M,
                       .unit = how->flags & FLAGS_PAGES ? UNIT_2M : WKSP_SPAN_SZ,
                       .page = how->flags & FLAGS_PAGES ? UNIT_2M : (uint64_t)sysconf(_SC_PAGESIZE),
                       .keep = how->keep,
                       .nodes = how->nodes,
                       .flags = (uint32_t)how->flags,
                       .slot_end = geom.slot_max < LOOK_MIN ? geom.slot_max : LOOK_MIN,
                       .heap_end = geom.heap_max < LOOK_MIN ? geom.heap_max : LOOK_MIN};
  char *addr = reserve(name, own, &geom);
  if (!addr) {
    free(own);
    return NULL;
  }
  own->addr = addr;
  own->end = first_end(&geom, own->unit);
  uint64_t data_sz = first_end(&geom, own->unit) - geom.data_lo;
  if (!wksp__new_as(addr, name, how->seed, &geom, data_sz) ||
      wksp__map_add_own((fd_wksp_t *)addr, own, unmap)) {
    unmap(own);
    return NULL;
  }
  return (fd_wksp_t *)addr;
}

/* Growing
 * ------------------------------------------------------------------------------------------ */

wksp__own_t *wksp__call_own(wksp__call_t const *call) {
  wksp__map_t const *map = call->seat ? call->seat->map : wksp__map_of(call->wksp);
  return map ? map->own : NULL;
}

/* Moves an end of what is looked at up to twice as far. 1, or 0: it was at `most`. */
static int look_further(uint32_t *look, uint32_t end, uint32_t most) {
  if (end >= most) return 0;
  wksp__cas(look, &end, end < most / 2 ? 2 * end : most); /* else somebody else has */
  return 1;
}

int wksp__slot_more(wksp__own_t *own, fd_wksp_t const *wksp, uint32_t end) {
  return own && look_further(&own->slot_end, end, wksp->slot_max);
}

int wksp__heap_more(wksp__own_t *own, fd_wksp_t const *wksp, uint32_t end) {
  return own && look_further(&own->heap_end, end, wksp->heap_max);
}

/* The right to move the end, if it is to be had now. */
static int grower_try(wksp__call_t *call, wksp__own_t *own) {
  uint64_t cur = wksp__ld_acquire(&own->grower);
  return (!cur || wksp__name_dead(call->wksp, cur)) && wksp__cas(&own->grower, &cur, call->name);
}

static int grower_get(wksp__call_t *call, wksp__own_t *own) {
  if (grower_try(call, own)) return 1;
  uint64_t until = wksp__now_ns() + GROW_WAIT_NS;
  int got = 0;
  for (uint32_t sleep = 0; !got && wksp__now_ns() < until; sleep++) {
    uint32_t word = wksp__queue_enter(&own->growing);
    if ((got = grower_try(call, own))) break;
    wksp__queue_wait(&own->growing, word, sleep);
    got = grower_try(call, own);
  }
  wksp__queue_left(&own->growing);
  return got;
}

/* Moves the end so far that least bytes more are free; rather further, for the next. */
static int grow_by(wksp__call_t *call, wksp__own_t *own, uint64_t data_sz, uint64_t least) {
  fd_wksp_t *wksp = call->wksp;
  uint64_t end = wksp->data_lo + data_sz, more = data_sz / 8 > STEP_MIN ? data_sz / 8 : STEP_MIN;
  if (more < least) more = least;
  for (int turn = 0; turn < 2; turn++, more = least) {
    uint64_t to =
        more > wksp->data_hi - end ? wksp->data_hi : (end + more + own->unit - 1) & -own->unit;
    if (to > wksp->data_hi) to = wksp->data_hi;
    if (to == end) return 0;
    if (open_up(own, (char *)wksp + end, (char *)wksp + to)) continue;
    wksp__resized_t resized;
    wksp__st(&own->end, to);
    return !wksp__part_resize(call, WKSP_LOCK_CALL_NS, to - wksp->data_lo, own->unit, &resized);
  }
  return 0;
}

int wksp__own_grow(wksp__call_t *call, uint64_t align, uint64_t size) {
  wksp__own_t *own = wksp__call_own(call);
  fd_wksp_usage_t before, now;
  uint64_t least;
  if (!own || __builtin_add_overflow(size, align, &least)) return 0;
  if (fd_wksp_usage(call->wksp, NULL, 0, &before)) return 0;
  if (before.total_cnt >= before.total_max) return 0; /* not room is what lacks */
  if (!grower_get(call, own)) return 0;
  int grown = 0;
  if (!fd_wksp_usage(call->wksp, NULL, 0, &now))
    grown = now.total_sz > before.total_sz /* somebody else has grown it */
            || grow_by(call, own, now.total_sz, least);
  wksp__st_release(&own->grower, 0UL); /* pairs with the acquire in grower_try */
  wksp__queue_next(&own->growing);
  return grown;
}

/* Fork
 * --------------------------------------------------------------------------------------------- */

static int slot_of_seat(wksp__slot_t const *slot, wksp__seat_t const *seat) {
  if (!seat) return 0;
  int of = slot == seat->slot || (seat->shared && slot == wksp__slots(seat->wksp));
  for (uint32_t i = 0; i < WKSP_SEAT_NESTED; i++) of |= slot == seat->nested[i];
  return of;
}

/* A slot whose thread is between its CAS and its lock is given another generation, since nothing
   would tell that it is dead: a process of the name that it has does live. */
void wksp__slots_orphan(wksp__map_t const *map, wksp__seat_t const *seat) {
  fd_wksp_t *wksp = map->wksp;
  uint32_t owner = (uint32_t)map->lease;
  for (uint32_t i = 0; i < map->own->slot_end; i++) {
    wksp__slot_t *slot = &wksp__slots(wksp)[i];
    uint64_t claim = wksp__ld(&slot->claim), gen = CLAIM_GEN(claim);
    if (CLAIM_STATE(claim) == WKSP_SLOT_FREE || CLAIM_OWNER(claim) == owner) continue;
    if (slot_of_seat(slot, seat)) {
      wksp__st(&slot->pid, wksp__pid());
      wksp__st(&slot->tid, (uint32_t)syscall(SYS_gettid));
      wksp__st(&slot->claim, CLAIM(gen, owner, CLAIM_STATE(claim)));
    } else if (CLAIM_STATE(claim) == WKSP_SLOT_HELD) {
      wksp__st(&slot->live.__data.__lock, (int)FUTEX_OWNER_DIED);
    } else {
      wksp__st(&slot->claim, CLAIM(gen == 0xffffffffUL ? 1 : gen + 1, 0, WKSP_SLOT_FREE));
    }
  }
}

/* Giving back
 * -------------------------------------------------------------------------------------- */

void wksp__own_idle(wksp__map_t *map, void *addr, uint64_t size) {
  wksp__own_t *own = map ? map->own : NULL;
  if (!own) return;
  if (wksp__ld(&own->idle) + size <= own->keep || size < own->page) {
    wksp__fetch_add(&own->idle, size);
    return;
  }
  int saved = errno;
  give_back(own, (uintptr_t)addr, (uintptr_t)addr + size);
  errno = saved;
}

void wksp__own_busy(wksp__map_t *map, uint64_t size) {
  wksp__own_t *own = map ? map->own : NULL;
  if (!own) return;
  uint64_t idle = wksp__ld(&own->idle);
  while (idle && !wksp__cas(&own->idle, &idle, idle > size ? idle - size : 0UL)) {
  }
}

/* Gives free memory from gaddr on back, at most TRIM_HOLD_SZ. The lock is held. Where to go on; 0
   at the end. */
static uint64_t trim_some(fd_wksp_t *wksp, wksp__own_t const *own, uint64_t gaddr, uint64_t end,
                          uint64_t *sum) {
  for (uint64_t seen = 0; gaddr < end && seen < TRIM_HOLD_SZ;) {
    fd_wksp_part_t part;
    int found = wksp__part_look_next(wksp, gaddr, &part);
    if (found < 0) return 0;
    uint64_t hi = found ? part.gaddr : end;
    if (hi > gaddr) {
      if (hi - gaddr > TRIM_HOLD_SZ) hi = (gaddr + TRIM_HOLD_SZ) & -own->page;
      give_back(own, (uintptr_t)wksp + gaddr, (uintptr_t)wksp + hi);
      *sum += hi - gaddr;
      seen += hi - gaddr;
    }
    gaddr = found && hi == part.gaddr ? part.gaddr + part.size : hi;
  }
  return gaddr < end ? gaddr : 0;
}

int fd_wksp_trim(fd_wksp_t *wksp, ulong *ret_free_sz) {
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "trim: the workspace is NULL");
  wksp__map_t *map = wksp__map_of(wksp);
  wksp__call_t call;
  int err;
  if (!map || !map->own)
    return wksp__fail(WKSP_E_UNSUPPORTED,
                      "trim: workspace %s is not private: its memory is wkspd's, or all others'",
                      wksp->name);
  if ((err = wksp__call_begin(wksp, &call))) return err;
  uint64_t sum = 0;
  for (uint64_t gaddr = wksp->data_lo; gaddr && !err;) {
    sigset_t old;
    wksp__signals_off(&old);
    err = wksp__lock(&call, WKSP_LOCK_CALL_NS);
    uint64_t data_sz = 0;
    if (!err) {
      gaddr = wksp__part_data_sz(wksp, &data_sz)
                  ? 0
                  : trim_some(wksp, map->own, gaddr, wksp->data_lo + data_sz, &sum);
      wksp__unlock(&call);
    }
    wksp__signals_on(&old);
  }
  wksp__call_end(&call);
  if (err) return err;
  wksp__st(&map->own->idle, 0UL);
  if (ret_free_sz) *ret_free_sz = sum;
  return 0;
}
