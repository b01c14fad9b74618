/* protect: a workspace's memory made read-only or unreachable for this process, for debugging.

   Problem: a stray store of a program into the tables is found by verify much later, by a fault at
   once. But the library itself stores there, and the kernel does when a thread dies.

   Model. Three parts: the volatile region (lock, record, slots), the tables (the header
   included), and the data. The volatile region is never protected: the robust mutexes of slots lie
   in it, to which the kernel and the C library write when this process dies or locks another one,
   and nobody would learn of a death whose mark could not be stored. While a part of the rest is
   not writable, every call of this process that would change something is refused before it
   touches anything:

     guarded = 1          new slots, and heaps outside of calls, are refused (map_busy)
     slots marked, barrier, wait until no thread of ours is inside a call (slots_still)
     mprotect

   A call stores `in`, then loads the mark, as it does for the gate (call.h); so this costs calls
   nothing. The marks are hints that are taken away by the first call that finds no protection.

   Pages are what the kernel protects by. Which size they have the memory knows and we do not: we
   try, from small to large, and the kernel refuses what is no whole page. A page in which different
   parts meet gets the union of what they are to have, so that nothing faults that was not meant to.

   What it refuses: protection against other processes (it is ours alone), and to take the tables
   out of reach, for lookups read them. */

#include "core/protect.h"

#include "core/atomic.h"
#include "core/fail.h"
#include "core/held.h"

#include <errno.h>
#include <sys/mman.h>

#define RW (PROT_READ | PROT_WRITE)

/* How long to wait for threads of this process to leave their calls; ns. */
#define STILL_WAIT_NS 1000000000UL

/* Pages there can be: small ones of all machines, huge ones. */
static uint64_t const page_sizes[] = {4096, 16384, 65536, 2UL << 20, 1UL << 30};
#define PAGE_SIZES (sizeof page_sizes / sizeof *page_sizes)

/* Where parts begin, and the end. */
#define PART_CNT 4U

static void parts_of(fd_wksp_t const *wksp, uint64_t at[PART_CNT + 1]) {
  at[0] = 0;
  at[1] = wksp->vol_off;
  at[2] = wksp->root_off;
  at[3] = wksp->data_lo;
  at[4] = wksp->data_hi;
}

uint32_t wksp__protect_plan(fd_wksp_t const *wksp, uint64_t page_size, int const prot[2], int vol,
                            wksp__prot_run_t *ret_runs) {
  uint64_t at[PART_CNT + 1], mask = page_size - 1;
  int const part_prot[PART_CNT] = {prot[0], vol, prot[0], prot[1]};
  uint32_t cnt = 0;
  parts_of(wksp, at);
  uint64_t end = (at[PART_CNT] + mask) & ~mask;
  for (uint64_t lo = 0; lo < end;) {
    uint64_t hi = end;
    for (uint32_t i = 0; i <= PART_CNT; i++) { /* the next page boundary at or around a part's */
      uint64_t down = at[i] & ~mask, up = (at[i] + mask) & ~mask;
      if (down > lo && down < hi) hi = down;
      if (up > lo && up < hi) hi = up;
    }
    int run = 0;
    for (uint32_t i = 0; i < PART_CNT; i++)
      if (at[i] < hi && at[i + 1] > lo) run |= part_prot[i];
    ret_runs[cnt++] = (wksp__prot_run_t){.lo = lo, .hi = hi, .prot = run};
    lo = hi;
  }
  return cnt;
}

/* Whether the plan does anything of what was asked for: a part of it lies in a run as asked. */
static int plan_does(fd_wksp_t const *wksp, wksp__prot_run_t const *runs, uint32_t cnt, uint what,
                     int prot) {
  for (uint32_t i = 0; i < cnt; i++) {
    int in_data = runs[i].hi > wksp->data_lo;
    int in_tables =
        runs[i].lo < wksp->vol_off || (runs[i].lo < wksp->data_lo && runs[i].hi > wksp->root_off);
    if (runs[i].prot == prot && (((what & FD_WKSP_PROTECT_DATA) && in_data) ||
                                 ((what & FD_WKSP_PROTECT_TABLES) && in_tables)))
      return 1;
  }
  return 0;
}

/* Protects by pages of one size. 0, or an errno. */
static int apply_at(fd_wksp_t const *wksp, wksp__prot_run_t const *runs, uint32_t cnt) {
  for (uint32_t i = 0; i < cnt; i++)
    if (mprotect((char *)wksp + runs[i].lo, runs[i].hi - runs[i].lo, runs[i].prot)) return errno;
  return 0;
}

/* What the map's prot says becomes the memory's. what 0: of no matter whether it does anything. 0
 * or reported. */
static int apply(wksp__map_t const *map, int const prot[2], uint what, int asked) {
  fd_wksp_t const *wksp = map->wksp;
  wksp__prot_run_t runs[WKSP_PROT_RUNS_MAX];
  int err = 0;
  for (uint32_t i = 0; i < PAGE_SIZES; i++) {
    uint32_t cnt = wksp__protect_plan(wksp, page_sizes[i], prot, map->ro ? PROT_READ : RW, runs);
    /* Whether this is the size is known only from trying, and only from a run that changes
       something: the kernel lets others pass. Sizes that are too small change nothing. */
    err = apply_at(wksp, runs, cnt);
    if (err == EINVAL) continue;
    if (!err && what && !plan_does(wksp, runs, cnt, what, asked))
      return wksp__fail(
          WKSP_E_UNSUPPORTED,
          "mprotect: workspace %s has pages of %lu bytes, and none of them holds "
          "only what is to be protected; use smaller pages, or protect tables and data "
          "together",
          wksp->name, page_sizes[i]);
    break;
  }
  if (!err) return 0;
  errno = err;
  return wksp__fail(err == ENOMEM ? WKSP_E_NOMEM : WKSP_E_SYS, "mprotect: workspace %s: %m",
                    wksp->name);
}

int wksp__protected(fd_wksp_t const *wksp) {
  wksp__map_t const *map = wksp__map_of(wksp);
  return map && wksp__ld_seq(&map->guarded);
}

int wksp__protected_loads(fd_wksp_t const *wksp) {
  wksp__map_t const *map = wksp__map_of(wksp);
  return map && wksp__ld(&map->prot[1]) == PROT_NONE;
}

int wksp__protect_refuse(fd_wksp_t const *wksp) {
  return wksp__fail(WKSP_E_RDONLY,
                    "call: the memory of workspace %s is protected in this process; give it back "
                    "with fd_wksp_mprotect to change the workspace",
                    wksp->name);
}

/* No thread of this process is, or comes, inside a call that changes. 0 or E_BUSY, reported. */
static int keep_out(wksp__map_t *map) {
  uint64_t until = wksp__now_ns() + STILL_WAIT_NS;
  uint32_t tid = 0;
  int busy = wksp__map_guard_set(map, 1);
  for (uint32_t turn = 0; busy && wksp__now_ns() <= until; turn++) {
    wksp__relax(turn);
    busy = wksp__map_guard_set(map, 1);
  }
  if (!busy && wksp__slots_still(map, STILL_WAIT_NS, &tid)) return 0;
  wksp__map_guard_set(map, 0);
  return wksp__fail(WKSP_E_BUSY,
                    "mprotect: thread %u of this process stays inside a call on workspace %s, or "
                    "holds its lock",
                    tid, map->wksp->name);
}

static int change(wksp__map_t *map, uint what, int prot) {
  int want[2] = {what & FD_WKSP_PROTECT_TABLES ? prot : map->prot[0],
                 what & FD_WKSP_PROTECT_DATA ? prot : map->prot[1]};
  int was_guarded = wksp__ld(&map->guarded) != 0;
  int guard = !map->ro && (want[0] != RW || want[1] != RW);
  int rc = guard && !was_guarded ? keep_out(map) : 0;
  if (rc) return rc;
  rc = apply(map, want, what, prot);
  if (rc) {
    /* What was: the kernel has let it be so before. The reason of the failure is kept. */
    wksp__prot_run_t runs[WKSP_PROT_RUNS_MAX];
    for (uint32_t i = 0; i < PAGE_SIZES; i++)
      if (!apply_at(map->wksp, runs,
                    wksp__protect_plan(map->wksp, page_sizes[i], map->prot,
                                       map->ro ? PROT_READ : RW, runs)))
        break;
    guard = was_guarded;
  } else {
    map->prot[0] = want[0];
    map->prot[1] = want[1];
  }
  wksp__map_guard_set(map, guard);
  return rc;
}

int fd_wksp_mprotect(fd_wksp_t *wksp, uint what, int prot) {
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "mprotect: the workspace is NULL");
  if (!what || (what & ~FD_WKSP_PROTECT_ALL))
    return wksp__fail(WKSP_E_INVAL,
                      "mprotect: what is 0x%x; it is FD_WKSP_PROTECT_TABLES, _DATA, or both", what);
  if (prot != PROT_NONE && prot != PROT_READ && prot != RW)
    return wksp__fail(WKSP_E_INVAL,
                      "mprotect: prot is 0x%x; it is PROT_NONE, PROT_READ or PROT_READ|PROT_WRITE",
                      (uint)prot);
  if (prot == PROT_NONE && (what & FD_WKSP_PROTECT_TABLES))
    return wksp__fail(WKSP_E_INVAL,
                      "mprotect: PROT_NONE for the tables, which lookups read; PROT_READ is the "
                      "least that they can have");
  wksp__map_t *map = wksp__map_of(wksp);
  if (!map) return wksp__fail(WKSP_E_INVAL, "mprotect: no workspace is joined at %p", (void *)wksp);
  if (map->ro && prot == RW)
    return wksp__fail(WKSP_E_RDONLY,
                      "mprotect: workspace %s is joined read-only; attach it read-write to write",
                      wksp->name);
  if (wksp__held(wksp)) return wksp__held_refuse(wksp);
  if (!wksp__map_guard_begin(map))
    return wksp__fail(WKSP_E_BUSY,
                      "mprotect: another thread is changing the protection of workspace %s",
                      wksp->name);
  int rc = change(map, what, prot);
  wksp__map_guard_end(map);
  return rc;
}

void wksp__protect_end(wksp__map_t *map) {
  int const prot = map->ro ? PROT_READ : RW;
  if (map->prot[0] == prot && map->prot[1] == prot) return;
  int const whole[2] = {prot, prot};
  (void)apply(map, whole, 0, prot);
  map->prot[0] = map->prot[1] = prot;
  wksp__map_guard_set(map, 0);
}
