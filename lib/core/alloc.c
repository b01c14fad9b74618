/* alloc: fd_alloc's public calls: making one, joining it, malloc and free. The model is in alloc.h.

   A join handle is the address of the alloc's state with the cgroup hint in its low bits; the alloc
   says where it lies in the workspace (self), so the workspace follows from the handle. */

#include "core/alloc.h"
#include "core/alloc_hard.h"
#include "core/fail.h"
#include "core/map.h"
#include "core/private.h"

#include <errno.h>
#include <string.h>

#define HINT(join)  ((ulong)(join)&FD_ALLOC_JOIN_CGROUP_HINT_MAX)
#define LARGE_ALIGN 64UL

ulong fd_alloc_align(void) {
  return FD_ALLOC_ALIGN;
}

ulong fd_alloc_footprint(void) {
  return FD_ALLOC_FOOTPRINT;
}

struct fd_alloc *wksp__alloc_of(fd_alloc_t const *join) {
  struct fd_alloc *alloc = (struct fd_alloc *)((ulong)join & ~(FD_ALLOC_ALIGN - 1));
  if (!join) {
    wksp__fail(WKSP_E_INVAL, "fd_alloc: the join is NULL");
    return NULL;
  }
  if (wksp__ld_acquire(&alloc->magic) != WKSP_ALLOC_MAGIC) {
    wksp__fail(WKSP_E_INVAL, "fd_alloc: %p is not an fd_alloc", (void *)alloc);
    return NULL;
  }
  return alloc;
}

static fd_wksp_t *wksp_of(struct fd_alloc const *alloc) {
  return (fd_wksp_t *)((ulong)alloc - alloc->self);
}

/* The workspace among those that this process has joined in which laddr lies; *ret_gaddr where.
 * NULL if none. */
static fd_wksp_t *find_wksp(void const *laddr, uint64_t *ret_gaddr) {
  fd_wksp_t *wksp = wksp__map_containing(laddr);
  if (!wksp) return NULL;
  *ret_gaddr = fd_wksp_gaddr_fast(wksp, laddr);
  return wksp;
}

/* Gives the alloc an id of its own in the directory. */
static int enter_home(wksp__call_t const *call, struct fd_alloc *alloc) {
  fd_wksp_t *wksp = call->wksp;
  for (uint32_t id = 1; (id = wksp__dir_free(call, id)) != 0;) {
    uint64_t none = 0;
    wksp__st(&alloc->home, id);
    if (wksp__cas(&wksp__heap_dir(wksp)[id], &none, alloc->self | DIR_HOME)) return 0;
  }
  return wksp__fail(WKSP_E_LIMIT,
                    "fd_alloc_new: all %u entries of the workspace's heap directory are taken; "
                    "delete an fd_alloc or use a larger workspace",
                    wksp->heap_max - 1);
}

/* The directory may still list a former fd_alloc at this place, whose delete was killed or never
   called: what it holds is freed. 0, or E_BUSY for one that lives. */
static int clear_former(wksp__call_t *call, struct fd_alloc *alloc, uint64_t gaddr) {
  uint64_t *dir = wksp__heap_dir(call->wksp);
  uint32_t end = wksp__heap_end(wksp__call_own(call), call->wksp);
  for (uint32_t id = 1; id < end; id++) {
    if (wksp__ld_acquire(&dir[id]) != (gaddr | DIR_HOME)) continue;
    if (wksp__ld_acquire(&alloc->magic) == WKSP_ALLOC_MAGIC && alloc->home == id)
      return wksp__fail(
          WKSP_E_BUSY, "fd_alloc_new: gaddr %#lx is an fd_alloc (tag %lu) already; delete it first",
          gaddr, alloc->tag);
    int err = wksp__alloc_clear(call, id, alloc, 0, 0);
    if (err) return err;
  }
  return 0;
}

/* The lease to which an ephemeral alloc is bound; 0 (reported): there is none. */
static uint64_t lease_of(fd_wksp_t const *wksp) {
  wksp__map_t const *map = wksp__map_of(wksp);
  if (map && !map->own && map->lease && map->lease != WKSP_LEASE_FORKED) return map->lease;
  wksp__fail(WKSP_E_INVAL,
             "fd_alloc_new: nobody would see the end of this process, for it has not attached "
             "workspace %s from wkspd by itself: leave FD_ALLOC_FLAG_EPHEMERAL out",
             wksp->name);
  return 0;
}

void *fd_alloc_new(void *shmem, ulong tag) {
  return fd_alloc_new_flags(shmem, tag, 0);
}

void *fd_alloc_new_flags(void *shmem, ulong tag, ulong flags) {
  uint64_t gaddr = 0;
  fd_wksp_t *wksp = find_wksp(shmem, &gaddr);
  if (!wksp || ((ulong)shmem & (FD_ALLOC_ALIGN - 1)) || gaddr < wksp->data_lo ||
      gaddr + FD_ALLOC_FOOTPRINT > wksp->data_hi) {
    wksp__fail(
        WKSP_E_INVAL,
        "fd_alloc_new: %p is not %lu bytes, aligned to %lu, in the data of a joined workspace; "
        "get them from fd_wksp_alloc_laddr",
        shmem, FD_ALLOC_FOOTPRINT, FD_ALLOC_ALIGN);
    return NULL;
  }
  if (!tag) {
    wksp__fail(WKSP_E_INVAL, "fd_alloc_new: the tag is 0; take any other");
    return NULL;
  }
  if (flags & ~(FD_ALLOC_FLAG_ALIGNED | FD_ALLOC_FLAG_EPHEMERAL)) {
    wksp__fail(WKSP_E_INVAL, "fd_alloc_new: flags %#lx has others than %#lx", flags,
               FD_ALLOC_FLAG_ALIGNED | FD_ALLOC_FLAG_EPHEMERAL);
    return NULL;
  }
  uint64_t lease = flags & FD_ALLOC_FLAG_EPHEMERAL ? lease_of(wksp) : 0;
  if ((flags & FD_ALLOC_FLAG_EPHEMERAL) && !lease) return NULL;
  wksp__call_t call;
  if (wksp__call_begin(wksp, &call)) return NULL;
  struct fd_alloc *alloc = shmem;
  if (clear_former(&call, alloc, gaddr)) {
    wksp__call_end(&call);
    return NULL;
  }
  memset(alloc, 0, sizeof *alloc);
  alloc->self = gaddr;
  alloc->tag = tag;
  alloc->flags = flags;
  alloc->lease = lease;
  uint64_t spans = (wksp->data_max >> WKSP_SPAN_LG) / 64;
  alloc->region_spans = spans < 1                       ? 1
                        : spans > WKSP_REGION_SPANS_MAX ? WKSP_REGION_SPANS_MAX
                                                        : (uint32_t)spans;
  /* Half made looks like half deleted: should a kill come before the last store, a compact clears
     the directory. Until then the token says that somebody is at it. */
  wksp__st(&alloc->compactor, call.name);
  wksp__st(&alloc->magic, WKSP_ALLOC_DELETING);
  int err = enter_home(&call, alloc);
  if (!err) {
    /* release: who joins sees the rest; pairs with the acquire in wksp__alloc_of */
    wksp__st_release(&alloc->magic, WKSP_ALLOC_MAGIC);
  }
  wksp__st(&alloc->compactor, 0UL);
  wksp__call_end(&call);
  return err ? NULL : alloc;
}

fd_alloc_t *fd_alloc_join(void *shalloc, ulong cgroup_hint) {
  if (!shalloc) return NULL;
  if ((ulong)shalloc & (FD_ALLOC_ALIGN - 1)) {
    wksp__fail(WKSP_E_INVAL, "fd_alloc_join: %p is not aligned to %lu", shalloc, FD_ALLOC_ALIGN);
    return NULL;
  }
  uint64_t gaddr = 0;
  fd_wksp_t *wksp = find_wksp(shalloc, &gaddr);
  struct fd_alloc *alloc = shalloc;
  if (!wksp || gaddr < wksp->data_lo || gaddr + FD_ALLOC_FOOTPRINT > wksp->data_hi) {
    wksp__fail(WKSP_E_INVAL, "fd_alloc_join: %p does not lie in the data of a joined workspace",
               shalloc);
    return NULL;
  }
  if (!wksp__alloc_of(shalloc)) return NULL;
  if (alloc->self != gaddr) {
    wksp__fail(WKSP_E_CORRUPT,
               "fd_alloc_join: the fd_alloc at gaddr %#lx says that it lies at %#lx", gaddr,
               alloc->self);
    return NULL;
  }
  return fd_alloc_join_cgroup_hint_set(shalloc, cgroup_hint);
}

void *fd_alloc_leave(fd_alloc_t *join) {
  if (!join) return NULL;
  struct fd_alloc *alloc = wksp__alloc_of(join);
  if (!alloc) return NULL;
  wksp__seat_t *seat = wksp__seat_find(wksp_of(alloc));
  if (seat && wksp__map_busy(seat->map)) { /* else the heap is protected and stays */
    wksp__slot_mend(seat);
    wksp__seat_leave_heap(seat, alloc->self);
    wksp__map_idle(seat->map);
  }
  return alloc;
}

ulong fd_alloc_join_cgroup_hint(fd_alloc_t const *join) {
  return HINT(join);
}

fd_alloc_t *fd_alloc_join_cgroup_hint_set(fd_alloc_t *join, ulong cgroup_hint) {
  if (!join) return NULL;
  return (fd_alloc_t *)(((ulong)join & ~(FD_ALLOC_ALIGN - 1)) |
                        (cgroup_hint & FD_ALLOC_JOIN_CGROUP_HINT_MAX));
}

/* Not by `self`, which may be damaged: readers start here. */
fd_wksp_t *fd_alloc_wksp(fd_alloc_t const *join) {
  struct fd_alloc *alloc = join ? wksp__alloc_of(join) : NULL;
  return alloc ? wksp__map_containing(alloc) : NULL;
}

ulong fd_alloc_tag(fd_alloc_t const *join) {
  struct fd_alloc *alloc = join ? wksp__alloc_of(join) : NULL;
  return alloc ? alloc->tag : 0;
}

ulong fd_alloc_flags(fd_alloc_t const *join) {
  struct fd_alloc *alloc = join ? wksp__alloc_of(join) : NULL;
  return alloc ? alloc->flags : 0;
}

int wksp__op_begin(fd_alloc_t const *join, wksp__op_t *ret_op) {
  struct fd_alloc *alloc = wksp__alloc_of(join);
  if (!alloc) return WKSP_E_INVAL;
  wksp__op_t op = {
      .join = join, .alloc = alloc, .alloc_gaddr = alloc->self, .wksp = wksp_of(alloc)};
  int err = wksp__call_begin(op.wksp, &op.call);
  if (err) return err;
  wksp__fast_off();
  *ret_op = op;
  return 0;
}

/* Whether the operation's heap is its thread's to keep, who need not fence. */
static int keeps_heap(wksp__op_t const *op) {
  wksp__seat_t const *seat = op->call.seat;
  return op->heap && seat->heap_cnt && seat->heap[0].owner == &op->heap->owner &&
         !(wksp__ld(&op->call.slot->fenced) & WKSP_FENCED_CALLS);
}

/* From here on the short forms serve, if they can; else none is served, not even one that a signal
   handler of ours has interrupted on its way in: the gate names the join and the heap that fast
   is about, or none. */
static void fast_on(wksp__op_t const *op) {
  if (WKSP_FLAVOUR & WKSP_FLAVOUR_HARDENED) return; /* every call looks closely (alloc_hard.c) */
  wksp__seat_t *seat = op->call.seat;
  if (!seat) return; /* the slot is not the seat's */
  if (!keeps_heap(op)) {
    wksp__gate_serve_none(op->call.slot);
    return;
  }
  fd_wksp_t *wksp = op->wksp;
  wksp__fast_t *fast = &seat->fast;
  fast->heap = op->heap;
  /* Not a step of anything: it means something only with a flight that comes later. */
  op->call.slot->heap = fd_wksp_gaddr_fast(wksp, op->heap);
  fast->base = (uintptr_t)wksp;
  fast->words = wksp__span_words(wksp) - (wksp->data_lo >> WKSP_SPAN_LG);
  fast->me = (uint32_t)SPAN_WORD(0, op->heap_id, 0, WKSP_SPAN_OWNED);
  fast->data_hi = wksp->data_hi;
  fast->slot = op->call.slot;
  fast->join = (uintptr_t)op->join;
  if (wksp__gate_serve(op->call.slot, wksp__fast_key(fast->join, fast->heap))) wksp__fast_set(fast);
}

/* While the call still lasts: a call in a signal handler must not look at our gate in between. */
void wksp__op_end(wksp__op_t *op) {
  wksp__heap_put(op);
  fast_on(op);
  wksp__call_end(&op->call);
  if (wksp__unlikely(op->late_cnt)) wksp__bad_late_tell(op);
}

int wksp__op_part_alloc(wksp__op_t *op, uint64_t align, uint64_t size, uint32_t kind,
                        wksp__part_also_t also, void *arg, uint64_t *ret_gaddr,
                        uint64_t *ret_size) {
  sigset_t old;
  wksp__signals_off(&old);
  int err;
  do
    err = wksp__part_alloc(&op->call, WKSP_LOCK_FETCH_NS, align, size, op->alloc->tag,
                           kind | op->alloc->home << 8, also, arg, ret_gaddr, ret_size);
  while (err == WKSP_E_NOMEM && wksp__own_grow(&op->call, align, size));
  wksp__signals_on(&old);
  return err;
}

static int note_flight(void *arg, wksp__tx_t *tx, uint64_t gaddr, uint64_t size) {
  (void)size;
  wksp__tx_put64(tx, &((wksp__op_t *)arg)->call.slot->flight, gaddr);
  return 0;
}

static void *malloc_large(wksp__op_t *op, ulong align, ulong sz, ulong *ret_max) {
  uint64_t gaddr, size;
  if (align < LARGE_ALIGN) align = LARGE_ALIGN;
  if (wksp__op_part_alloc(op, align, sz, FD_WKSP_KIND_LARGE, note_flight, op, &gaddr, &size))
    return NULL;
  if (op->call.seat) wksp__own_busy(op->call.seat->map, size);
  *ret_max = size;
  return fd_wksp_laddr_fast(op->wksp, gaddr);
}

static void *malloc_small(wksp__op_t *op, uint32_t hint, uint32_t cls, ulong *ret_max) {
  if (wksp__heap_get(op, hint)) return NULL;
  uint64_t gaddr = wksp__mag_malloc(op, cls);
  if (!gaddr) return NULL;
  wksp__hard_take(op, gaddr, cls);
  *ret_max = wksp__class_size(cls);
  return fd_wksp_laddr_fast(op->wksp, gaddr);
}

static void *malloc_long(fd_alloc_t *join, ulong align, ulong sz, ulong *ret_max) {
  *ret_max = 0;
  if (!join || !sz) return NULL;
  if (!align) align = FD_ALLOC_MALLOC_ALIGN_DEFAULT;
  if (align & (align - 1)) {
    wksp__fail(WKSP_E_INVAL, "malloc: alignment %lu is no power of two", align);
    return NULL;
  }
  wksp__op_t op;
  if (wksp__op_begin(join, &op)) return NULL;
  if (op.alloc->flags & FD_ALLOC_FLAG_ALIGNED) align = wksp__align_up(align, sz);
  uint32_t cls = wksp__class_for(align, sz);
  void *ret = NULL;
  if (cls < WKSP_CLASS_CNT) ret = malloc_small(&op, (uint32_t)HINT(join), cls, ret_max);
  /* There may be no room for a wide span where there is some for a block. */
  if (cls == WKSP_CLASS_CNT || (!ret && wksp__class(op.wksp, cls)->lg))
    ret = malloc_large(&op, align, sz, ret_max);
  wksp__op_end(&op);
  return ret;
}

void *wksp__malloc(fd_alloc_t *join, ulong align, ulong sz, ulong *ret_max) {
  int saved = errno;
  void *ret = malloc_long(join, align, sz, ret_max);
  errno = saved;
  return ret;
}

/* Not before and not after the block is free: others may get it at once, and it would look as if it
   had been lost with us. */
static int forget_flight(void *arg, wksp__tx_t *tx, uint64_t gaddr, uint64_t size) {
  (void)gaddr;
  (void)size;
  wksp__tx_put64(tx, &((wksp__op_t *)arg)->call.slot->flight, 0UL);
  return 0;
}

static int free_large(wksp__op_t *op, uint64_t gaddr) {
  fd_wksp_part_t part;
  uint32_t kind = FD_WKSP_KIND_LARGE | op->alloc->home << 8;
  int found = wksp__part_find(op->wksp, gaddr, &part);
  if (found < 0) return found;
  if (!found || part.gaddr != gaddr || part.kind != kind) return WKSP_E_NOTFOUND;
  if (op->call.seat)
    wksp__own_idle(op->call.seat->map, fd_wksp_laddr_fast(op->wksp, gaddr), part.size);
  sigset_t old;
  wksp__signals_off(&old); /* as in op_part_alloc */
  wksp__st(&op->call.slot->flight, gaddr);
  int err =
      wksp__part_free(&op->call, WKSP_LOCK_CALL_NS, gaddr, kind, op->alloc->tag, forget_flight, op);
  wksp__signals_on(&old);
  return err;
}

/* A span may change hands between the look at its word and the look at its heap, which may leave
   the directory then; each turn takes another such change. */
#define FREE_TURNS 1000

static int free_at(wksp__op_t *op, uint64_t gaddr) {
  uint32_t span;
  uint64_t e = wksp__span_look(op->wksp, gaddr, &span);
  for (int turn = 0; turn < FREE_TURNS; turn++) {
    if (SPAN_STATE(e) == WKSP_SPAN_NONE) return free_large(op, gaddr);
    if (!wksp__span_live(e)) return WKSP_E_NOTFOUND;
    if ((op->heap && SPAN_HEAP(e) == op->heap_id) ||
        wksp__heap_of(op->wksp, SPAN_HEAP(e), op->alloc_gaddr)) {
      int err = wksp__hard_give(op, gaddr, SPAN_CLASS(e));
      return err ? err : wksp__mag_free(op, gaddr, span, e);
    }
    uint64_t now = wksp__span_look(op->wksp, gaddr, &span);
    if (now == e) return WKSP_E_NOTFOUND;
    e = now;
  }
  return WKSP_E_NOTFOUND;
}

static void free_long(fd_alloc_t *join, void *laddr) {
  if (!join || !laddr) return;
  wksp__op_t op;
  if (wksp__op_begin(join, &op)) return;
  uint64_t gaddr = fd_wksp_gaddr_fast(op.wksp, laddr);
  int err = WKSP_E_NOTFOUND;
  if (gaddr >= op.wksp->data_lo && gaddr < op.wksp->data_hi) {
    wksp__heap_peek(&op);
    err = free_at(&op, gaddr);
    /* Who frees much without a heap gets one, for its magazines; after the block is gone, since
       taking a dead thread's heap has blocks of its own in flight. */
    if (!op.heap && op.call.seat && ++op.call.seat->bare_frees >= WKSP_SEAT_BARE_FREES) {
      op.call.seat->bare_frees = 0;
      wksp__heap_get(&op, (uint32_t)HINT(join));
    }
  }
  fd_alloc_bad_free_t bad;
  if (wksp__unlikely(err == WKSP_E_NOTFOUND)) {
    wksp__st(&op.call.slot->flight, 0UL); /* none of ours */
    wksp__bad_free(&op, laddr, &bad);
  }
  wksp__op_end(&op);
  if (wksp__unlikely(err == WKSP_E_NOTFOUND)) wksp__bad_tell(&bad);
}

void wksp__free(fd_alloc_t *join, void *laddr) {
  int saved = errno;
  free_long(join, laddr);
  errno = saved;
}

static void *valloc_malloc(void *self, ulong align, ulong sz) {
  return fd_alloc_malloc(self, align, sz);
}

static void valloc_free(void *self, void *ptr) {
  fd_alloc_free(self, ptr);
}

fd_valloc_vtable_t const fd_alloc_vtable = {valloc_malloc, valloc_free};
