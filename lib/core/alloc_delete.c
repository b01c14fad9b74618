/* alloc_delete: the end of an fd_alloc.

   Problem: what it has taken from the workspace has to go, or to become somebody else's, while a
   kill may come at any time and threads may still believe that they have heaps of it.

   Model. Every heap is taken from its thread first. Then the head says what is to become of the
   rest (DELETING: it goes, LEAVING: what holds live blocks stays as memory of the tag), by one
   store, and whoever compacts the workspace finishes that. Partitions go one by one, spans before
   the heaps that they name, all before the home in the directory: at each step what is left is
   sound. No block is looked at.

   The alloc's partitions are found by its tag, in proportion to how many there are; who finishes
   after a kill does not trust the head so far, and looks at all partitions of the workspace.

   What it refuses: to delete while a thread is inside a call. */

#include "core/alloc.h"
#include "core/fail.h"
#include "core/map.h"

#include <stdlib.h>

int wksp__alloc_ending(struct fd_alloc const *alloc) {
  uint64_t magic = wksp__ld_acquire(&alloc->magic);
  return magic == WKSP_ALLOC_DELETING || magic == WKSP_ALLOC_LEAVING;
}

/* What an end is about. */
typedef struct ending {
  wksp__call_t *call;
  uint32_t home;
  int leave;    /* what holds blocks stays, as the user's */
  uint64_t tag; /* by which to look for partitions, 0: look at all */
} ending_t;

/* Frees a partition of the alloc, or gives it to the user. heaps: if it is one of its heaps, else
   if it is any other. */
static int part_end(ending_t const *ending, fd_wksp_part_t const *part, int heaps) {
  uint32_t kind = part->kind & 255U;
  if (part->kind >> 8 != ending->home || (kind == FD_WKSP_KIND_HEAP) != heaps) return 0;
  wksp__part_also_t also = kind == FD_WKSP_KIND_SPANS ? wksp__region_gone : NULL;
  int (*end)(wksp__call_t *, uint64_t, uint64_t, uint32_t, uint64_t, wksp__part_also_t, void *) =
      ending->leave && !heaps ? wksp__part_to_user : wksp__part_free;
  return end(ending->call, WKSP_LOCK_CALL_NS, part->gaddr, part->kind, 0, also, ending->call->wksp);
}

static int parts_end_all(ending_t const *ending, int heaps) {
  fd_wksp_part_t part;
  int more;
  for (uint64_t from = 0; (more = wksp__part_next(ending->call->wksp, from, &part)) == 1;
       from = part.gaddr + part.size) {
    int err = part_end(ending, &part, heaps);
    if (err) return err;
  }
  return more;
}

static int parts_end(ending_t const *ending, int heaps) {
  fd_wksp_t *wksp = ending->call->wksp;
  ulong tag = ending->tag;
  if (!tag) return parts_end_all(ending, heaps);
  long cnt = fd_wksp_tag_query(wksp, &tag, 1, NULL, 0);
  if (cnt <= 0) return (int)cnt;
  fd_wksp_part_t *list = calloc((size_t)cnt, sizeof *list), part;
  if (!list) return parts_end_all(ending, heaps);
  long listed = fd_wksp_tag_query(wksp, &tag, 1, list, (ulong)cnt);
  int err = listed < 0 ? (int)listed : 0;
  for (long i = 0; !err && i < listed && i < cnt; i++) {
    if (list[i].kind == FD_WKSP_KIND_USER) continue;
    /* again, since a listed kind is without its owner */
    int found = wksp__part_find(wksp, list[i].gaddr, &part);
    err = found == 1 && part.gaddr == list[i].gaddr ? part_end(ending, &part, heaps)
          : found < 0                               ? found
                                                    : 0;
  }
  free(list);
  return err;
}

static int home_gone(void *arg, wksp__tx_t *tx, uint64_t gaddr, uint64_t size) {
  (void)gaddr;
  (void)size;
  wksp__tx_put64(tx, arg, 0UL); /* the word in the directory */
  return 0;
}

/* The home leaves the directory and the head's own partition is freed, in one change. 1, or 0 if
   the head is no partition by itself, so that neither was done. */
static int head_free(wksp__call_t *call, uint64_t *dir_word, uint64_t gaddr) {
  fd_wksp_part_t part;
  int found = wksp__part_find(call->wksp, gaddr, &part);
  if (found < 0) return found;
  if (!found || part.gaddr != gaddr || part.kind != FD_WKSP_KIND_USER) return 0;
  /* Compacts look at heads that the directory lists, and may wait for our token. */
  if (!wksp__grace(call))
    return wksp__fail(
        WKSP_E_BUSY,
        "the fd_alloc at %#lx is empty, but a thread stays inside a call and may look "
        "at its head; try again",
        gaddr);
  int err =
      wksp__part_free(call, WKSP_LOCK_CALL_NS, gaddr, FD_WKSP_KIND_USER, 0, home_gone, dir_word);
  return err ? err : 1;
}

int wksp__alloc_clear(wksp__call_t *call, uint32_t home, struct fd_alloc const *alloc, uint64_t tag,
                      int with_head) {
  uint64_t *dir = wksp__heap_dir(call->wksp), alloc_gaddr = DIR_GADDR(wksp__ld(&dir[home]));
  ending_t ending = {.call = call, .home = home, .tag = tag};
  ending.leave = wksp__ld(&alloc->magic) == WKSP_ALLOC_LEAVING;
  int err = parts_end(&ending, 0);
  if (err) return err;
  for (uint32_t id = 1; id < call->wksp->heap_max; id++)
    if (wksp__heap_of(call->wksp, id, alloc_gaddr)) wksp__st(&dir[id], 0UL);
  err = parts_end(&ending, 1);
  if (!err && with_head) err = head_free(call, &dir[home], alloc_gaddr);
  if (!err) wksp__st(&dir[home], 0UL);
  return err;
}

/* Takes every heap from its thread, so that no thread believes afterwards that it has one. 0, or
   E_BUSY naming a thread that is inside a call; then all are left again, as a dead thread leaves
   them: some were, and their magazines hold what is free in its pair as well. */
static int take_all(wksp__op_t *op) {
  fd_alloc_compacted_t sum = {0};
  uint64_t word;
  for (uint32_t id = 1; id < op->wksp->heap_max && !sum.skipped_cnt; id++) {
    wksp__heap_t *heap = wksp__heap_of(op->wksp, id, op->alloc_gaddr);
    if (heap && !wksp__heap_take(op, heap, &word, &sum)) sum.skipped_cnt = 1;
  }
  if (!sum.skipped_cnt) return 0;
  for (uint32_t id = 1; id < op->wksp->heap_max; id++) {
    wksp__heap_t *heap = wksp__heap_of(op->wksp, id, op->alloc_gaddr);
    if (heap && WKSP_OWNER_NAME(wksp__ld(&heap->owner)) == op->call.name)
      wksp__st_release(&heap->owner, WKSP_OWNER_DEAD);
  }
  return wksp__fail(
      WKSP_E_BUSY,
      "fd_alloc_delete: thread %d of process %d is inside a call of it; nothing was deleted",
      sum.skipped_tid, sum.skipped_pid);
}

/* With the token. */
static int end_it(wksp__op_t *op, int level) {
  if (op->call.seat) wksp__seat_leave_heap(op->call.seat, op->alloc_gaddr);
  int err = take_all(op);
  if (err) return err;
  /* from here on whoever compacts finishes it */
  wksp__st_release(&op->alloc->magic,
                   level == FD_ALLOC_DELETE_LEAVE ? WKSP_ALLOC_LEAVING : WKSP_ALLOC_DELETING);
  /* The head is its user's. Not before: killed between the two, an ephemeral alloc would be one
     that nobody ends; now its head goes with it, which nobody knows any more. */
  wksp__st(&op->alloc->lease, 0UL);
  err = wksp__alloc_clear(&op->call, op->alloc->home, op->alloc, op->alloc->tag, 0);
  if (!err) wksp__st(&op->alloc->magic, 0UL);
  return err;
}

void *fd_alloc_delete_level(void *shalloc, int level) {
  if (!shalloc) return NULL;
  if (level < FD_ALLOC_DELETE_LEAVE || level > FD_ALLOC_DELETE_TAG) {
    wksp__fail(WKSP_E_INVAL, "fd_alloc_delete: level %d is none of 0 to %d", level,
               FD_ALLOC_DELETE_TAG);
    return NULL;
  }
  wksp__op_t op;
  if (wksp__op_begin(shalloc, &op)) return NULL;
  fd_alloc_compacted_t sum = {0};
  ulong tag = op.alloc->tag;
  int err = 0;
  if (level == FD_ALLOC_DELETE_TAG) err = wksp__tag_homes_none(op.wksp, tag, op.alloc_gaddr);
  /* what holds no block goes even so */
  if (level == FD_ALLOC_DELETE_LEAVE) err = wksp__compact(&op, &sum);
  if (!err) err = wksp__token_get(&op, 1);
  if (!err) {
    err = end_it(&op, level);
    wksp__token_put(&op);
  }
  wksp__call_end(&op.call);
  if (!err && level == FD_ALLOC_DELETE_TAG && fd_wksp_tag_free(op.wksp, &tag, 1) < 0) return NULL;
  return err ? NULL : shalloc;
}

void *fd_alloc_delete(void *shalloc) {
  return fd_alloc_delete_level(shalloc, FD_ALLOC_DELETE_QUICK);
}

/* Ephemeral
 * ------------------------------------------------------------------------------------------ */

/* As fd_alloc_delete, but the head goes too. Killed on the way, the next attempt or compact goes
 * on. */
static int ephemeral_end(wksp__op_t *op, uint64_t lease) {
  int err = wksp__token_get(op, 0);
  if (err) return err;
  uint64_t magic = wksp__ld_acquire(&op->alloc->magic);
  /* While we waited somebody may have deleted it, and made another here. */
  if (wksp__ld(&op->alloc->lease) != lease ||
      (magic != WKSP_ALLOC_MAGIC && magic != WKSP_ALLOC_DELETING)) {
    wksp__token_put(op);
    return 0;
  }
  if (magic == WKSP_ALLOC_MAGIC) {
    if (op->call.seat) wksp__seat_leave_heap(op->call.seat, op->alloc_gaddr);
    err = take_all(op);
    if (!err) wksp__st_release(&op->alloc->magic, WKSP_ALLOC_DELETING);
  }
  if (!err) err = wksp__alloc_clear(&op->call, op->alloc->home, op->alloc, op->alloc->tag, 1);
  if (err == 1) return 0;
  if (!err) wksp__st(&op->alloc->magic, 0UL);
  wksp__token_put(op);
  return err;
}

int wksp__ephemeral_end(fd_wksp_t *wksp, uint64_t lease) {
  wksp__call_t call;
  int err = wksp__call_begin(wksp, &call);
  if (err) return err;
  for (uint32_t id = 1; lease && id < wksp->heap_max && !err; id++) {
    uint64_t dir = wksp__ld_acquire(&wksp__heap_dir(wksp)[id]), gaddr = DIR_GADDR(dir);
    if (DIR_WHAT(dir) != DIR_HOME || gaddr < wksp->data_lo ||
        gaddr > wksp->data_hi - sizeof(struct fd_alloc))
      continue;
    struct fd_alloc *alloc = fd_wksp_laddr_fast(wksp, gaddr);
    uint64_t magic = wksp__ld_acquire(&alloc->magic);
    if ((magic != WKSP_ALLOC_MAGIC && magic != WKSP_ALLOC_DELETING) || alloc->self != gaddr ||
        alloc->home != id || wksp__ld(&alloc->lease) != lease)
      continue;
    wksp__op_t op = {.call = call, .wksp = wksp, .alloc = alloc, .alloc_gaddr = gaddr};
    err = ephemeral_end(&op, lease);
  }
  wksp__call_end(&call);
  return err;
}
