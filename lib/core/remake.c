/* remake: a workspace made anew in fresh memory from what was known of an old one.

   Problem: a checkpoint says which partitions, roots, fd_allocs and live blocks there were, and not
   what the indexes, caches and magazines looked like: these belonged to threads that are no more.

   Model. Only what is the truth is put into place: the words of partitions, from which a rebuild
   makes the table (part_rebuild.c); roots; the directory; span words and pairs. Heaps are empty and
   owned by somebody dead, so whoever takes one makes its caches from spans and pairs, as after a
   kill. The magic number is written last but one: a verify has to see a workspace; if it finds
   anything the number goes again.

   What it refuses: to judge what it is told. Callers have checked ranges; whether all of it agrees
   is for the verify. The memory is the caller's alone meanwhile. */

#include "core/remake.h"

#include "core/alloc_hard.h"
#include "core/fail.h"
#include "core/part.h"
#include "core/part_priv.h"
#include "core/seat.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

fd_wksp_t *wksp__remake_begin(void *shmem, wksp__remake_t const *what) {
  fd_wksp_t *wksp = wksp__new_hidden(shmem, what->name, what->seed, what->part_max, what->data_max,
                                     what->data_sz);
  if (!wksp) return NULL;
  if (what->scale != wksp__scale(wksp))
    wksp->incompat |= (what->scale + 1) * (WKSP_INCOMPAT_SCALE / 3);
  if (what->uuid) memcpy(wksp->uuid, what->uuid, sizeof wksp->uuid);
  return wksp;
}

static wksp__ent_t *entry(fd_wksp_t *wksp, uint64_t idx) {
  wksp__pop_t op;
  wksp__pop_begin(&op, wksp);
  return &wksp__pop_ent(&op)[idx];
}

void wksp__remake_part(fd_wksp_t *wksp, uint64_t idx, uint64_t gaddr, uint64_t size, uint64_t tag,
                       uint32_t kind) {
  wksp__ent_t *ent = entry(wksp, idx + 1);
  wksp__st(&ent->w[WKSP_PART_ADDR], wksp__ent_addr_word(gaddr, kind));
  wksp__st(&ent->w[WKSP_PART_SIZE], wksp__ent_size_word(size, kind));
  wksp__st(&ent->w[WKSP_PART_TAG], tag);
}

/* Keeps the first of what a rebuild would have to drop or change. */
__attribute__((format(printf, 2, 3))) static void contradiction(void *arg, char const *fmt, ...) {
  char *sentence = arg;
  if (*sentence) return;
  va_list args;
  va_start(args, fmt);
  vsnprintf(sentence, 200, fmt, args);
  va_end(args);
}

int wksp__remake_parts_end(fd_wksp_t *wksp, uint64_t cnt, uint64_t data_sz) {
  /* What new has put there is forgotten: free partitions are found again as gaps. */
  for (uint64_t idx = cnt + 1; idx <= cnt + 2 && idx <= wksp->part_max; idx++)
    wksp__st(&entry(wksp, idx)->w[WKSP_PART_ADDR], 0UL);
  uint64_t end = wksp->data_lo + data_sz;
  if (end < wksp->data_hi) {
    if (cnt >= wksp->part_max)
      return wksp__fail(WKSP_E_LIMIT,
                        "restore: all %lu entries of the partition table are in use, so none is "
                        "left for where the data ends: restore with all %lu bytes of data",
                        wksp->part_max, wksp->data_max);
    wksp__remake_part(wksp, cnt, end, wksp->data_hi - end, 0, WKSP_PART_BEYOND);
  }
  char sentence[200] = "";
  int found = wksp__part_rebuild(wksp, contradiction, sentence);
  if (found < 0) return found;
  wksp__part_rebuilt(wksp);
  return found ? wksp__fail(WKSP_E_CORRUPT, "restore: the partitions do not fit together: %s",
                            sentence)
               : 0;
}

void wksp__remake_root(fd_wksp_t *wksp, uint64_t place, wksp__root_t const *root) {
  wksp__root_t *to = (wksp__root_t *)((uintptr_t)wksp + wksp->root_off) + place;
  memset(to, 0, sizeof *to);
  memcpy(to->name, root->name, strnlen((char const *)root->name, FD_WKSP_ROOT_NAME_MAX));
  to->gaddr = root->gaddr;
  to->tag = root->tag;
}

void wksp__remake_home(fd_wksp_t *wksp, uint32_t id, uint64_t gaddr) {
  wksp__st(&wksp__heap_dir(wksp)[id], gaddr | DIR_HOME);
}

void wksp__remake_heap(fd_wksp_t *wksp, uint32_t id, uint64_t gaddr, uint64_t alloc_gaddr) {
  wksp__heap_t *heap = fd_wksp_laddr_fast(wksp, gaddr);
  memset(heap, 0, wksp__heap_size(wksp));
  wksp__mag_init(wksp, heap);
  wksp__st(&heap->alloc, alloc_gaddr);
  wksp__st(&heap->id, id);
  wksp__st(&heap->owner, WKSP_OWNER_DEAD);
  wksp__st(&wksp__heap_dir(wksp)[id], gaddr | DIR_HEAP);
}

void wksp__remake_pool(fd_wksp_t *wksp, uint32_t span, uint32_t home) {
  wksp__st(&wksp__span_words(wksp)[span], SPAN_WORD(1, home, 0, WKSP_SPAN_POOL));
}

void wksp__remake_span(fd_wksp_t *wksp, uint32_t span, uint32_t cls, uint32_t heap, uint32_t home,
                       uint64_t const *bits) {
  uint64_t *word = &wksp__span_words(wksp)[span];
  wksp__class_t const *info = wksp__class(wksp, cls);
  wksp__hard_prepare(wksp, span, cls);
  wksp__pair_t *pair = wksp__pairs(wksp, span, cls);
  for (uint32_t w = 0; w < info->word_cnt; w++) {
    wksp__st(&pair[w].a, bits[w] | wksp__tail(wksp, cls, w));
    wksp__st(&pair[w].f, 0UL);
  }
  wksp__st(&word[0], SPAN_WORD(1, heap, cls, WKSP_SPAN_OWNED));
  for (uint32_t at = 1; at < 1U << info->lg; at++)
    wksp__st(&word[at], SPAN_WORD(1, home, cls, WKSP_SPAN_TAIL));
#ifdef WKSP_HARDENED
  for (uint32_t blk = 0; blk < info->blk_cnt; blk++)
    if (bits[blk / 64] >> (blk % 64) & 1UL)
      wksp__hard_bury(wksp, wksp__span_gaddr(wksp, span) + (uint64_t)blk * info->size);
#endif
}

void wksp__remake_head(fd_wksp_t *wksp, wksp__remake_head_t const *head) {
  struct fd_alloc *alloc = fd_wksp_laddr_fast(wksp, head->gaddr);
  memset(alloc, 0, sizeof *alloc);
  alloc->self = head->gaddr;
  alloc->tag = head->tag;
  alloc->home = head->id;
  alloc->region_spans = head->region_spans;
  alloc->flags = head->flags;
  alloc->lease = head->lease;
  alloc->bad_free_cnt = head->bad_free_cnt;
  alloc->late_write_cnt = head->late_write_cnt;
  alloc->pool_cnt = head->pool_cnt;
  wksp__st(&alloc->magic, WKSP_ALLOC_MAGIC);
}

void wksp__remake_suspect(fd_wksp_t *wksp, uint64_t alloc_gaddr, uint64_t gaddr) {
  struct fd_alloc *alloc = fd_wksp_laddr_fast(wksp, alloc_gaddr);
  for (uint32_t i = 0; i < WKSP_SUSPECTS; i++)
    if (alloc->suspect[i] == gaddr) return;
  alloc->suspect[alloc->suspect_at++ % WKSP_SUSPECTS] = gaddr;
}

/* Their clients are gone, and with them their leases. */
static int ephemerals_end(fd_wksp_t *wksp) {
  int err = 0;
  for (uint32_t id = 1; id < wksp->heap_max && !err; id++) {
    uint64_t dir = wksp__ld(&wksp__heap_dir(wksp)[id]), gaddr = DIR_GADDR(dir);
    if (DIR_WHAT(dir) != DIR_HOME || gaddr < wksp->data_lo ||
        gaddr > wksp->data_hi - sizeof(struct fd_alloc))
      continue; /* it was damaged when it was written down: verify says so */
    struct fd_alloc const *alloc = fd_wksp_laddr_fast(wksp, gaddr);
    if (alloc->lease && alloc->self == gaddr) err = wksp__ephemeral_end(wksp, alloc->lease);
  }
  return err;
}

int wksp__remake_end(fd_wksp_t *wksp) {
  wksp__st_release(&wksp->magic, WKSP_MAGIC); /* pairs with the acquire in wksp__header_check */
  fd_wksp_t *join = fd_wksp_join(wksp);
  int err = join ? ephemerals_end(wksp) : wksp_last_error_code();
  if (!err) err = fd_wksp_verify(wksp, NULL, NULL);
  if (err) wksp__st(&wksp->magic, 0UL);
  if (join) fd_wksp_leave(wksp);
  if (!err) wksp__slots_new(wksp);
  return err;
}
