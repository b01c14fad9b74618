/* part_rebuild: the partition table made anew from the words that say what is allocated.

   Problem: damage. A stray store has hit the table, its indexes or the record, operations refuse to
   go on, and the memory in use must be saved.

   Model. The truth are the words addr, size and tag of entries in use, of which each tells its own
   story; all else follows. Entries that cannot be true are dropped: those outside the data region,
   and of two that overlap the one that begins later. Where the data ends at present (part_resize.c)
   is believed as far as no partition is beyond it; if it is lost, all of the region is taken to
   have memory, which the daemon's next resize sees to. Free partitions are forgotten and found
   again as the gaps. Order by address comes from the page index itself, used as buckets: at most 64
   can begin in a page, so this needs no memory and is linear.

   While it lasts vol->rec says REBUILD, so that after a kill nobody believes the tables; the words
   of truth are changed only to drop an entry, so to begin anew ends the same.

   What it refuses: to guess. What is dropped is told. */

#include "core/atomic.h"
#include "core/fail.h"
#include "core/part_priv.h"
#include "core/part_ring.h"

#include <stdlib.h>
#include <string.h>

/* What a partition has whose tag was lost. */
#define REBUILD_TAG (~0UL)

typedef struct rebuild {
  wksp__pop_t op; /* its notes go to a place of our own */
  wksp__ent_t *ent;
  uint32_t *firsts;
  uint64_t page_cnt;
  wksp__finding_t finding;
  void *arg;
  uint32_t cnt; /* findings */
  /* The partitions so far, in the order of addresses. */
  uint64_t at;      /* where the next has to begin */
  uint64_t page;    /* in which the last begins */
  uint32_t last;    /* 0: none yet */
  uint32_t unused;  /* entries up to here are in use, or in the list of those dropped since */
  uint32_t dropped; /* its first, 0 none; linked as the pool is */
  uint32_t top;     /* the highest that is */
  uint32_t total, free_cnt;
  uint64_t free_sz;
  uint64_t end;    /* of the data at present */
  uint32_t beyond; /* the entry of what is behind it, 0 if nothing is */
} rebuild_t;

#define SAY(self, ...)                         \
  do {                                         \
    (self)->cnt++;                             \
    (self)->finding((self)->arg, __VA_ARGS__); \
  } while (0)

static uint64_t gaddr_of(wksp__ent_t const *ent) {
  return wksp__ld(&ent->w[WKSP_PART_ADDR]) & WKSP_PART_RANGE_MASK;
}

static uint64_t size_of(wksp__ent_t const *ent) {
  return wksp__ld(&ent->w[WKSP_PART_SIZE]) & WKSP_PART_RANGE_MASK;
}

static void drop(rebuild_t *self, uint32_t idx) {
  wksp__st(&self->ent[idx].w[WKSP_PART_ADDR], 0UL);
}

/* Everything that follows from the entries. */
static void clear(rebuild_t *self) {
  fd_wksp_t const *wksp = self->op.tx.wksp;
  char *region = (char *)self->op.head;
  memset(region, 0, WKSP_PART_HEAD_SZ);
  memset(&self->ent[0], 0, sizeof(self->ent[0]));
  memset(region + wksp->part.tag_off, 0, wksp->part.size - wksp->part.tag_off);
}

/* Whether an entry in use can be true. */
static int plausible(rebuild_t *self, uint32_t idx) {
  fd_wksp_t const *wksp = self->op.tx.wksp;
  wksp__ent_t *ent = &self->ent[idx];
  uint64_t gaddr = gaddr_of(ent), size = size_of(ent), tag = wksp__ld(&ent->w[WKSP_PART_TAG]);
  uint64_t kind = wksp__ld(&ent->w[WKSP_PART_ADDR]) % FD_WKSP_PART_GRAIN;
  if (kind < FD_WKSP_KIND_USER || kind > FD_WKSP_KIND_LARGE) {
    SAY(self, "dropped: partition %u at 0x%lx of %lu bytes and tag %lu has unknown kind %lu", idx,
        gaddr, size, tag, kind);
    return 0;
  }
  if (gaddr < wksp->data_lo || gaddr >= wksp->data_hi || !size || size % FD_WKSP_PART_GRAIN ||
      size > wksp->data_hi - gaddr) {
    SAY(self,
        "dropped: partition %u at 0x%lx of %lu bytes and tag %lu lies outside the data region", idx,
        gaddr, size, tag);
    return 0;
  }
  if (tag) return 1;
  SAY(self, "changed: partition %u at 0x%lx of %lu bytes has lost its tag, which is now %lu", idx,
      gaddr, size, REBUILD_TAG);
  wksp__st(&ent->w[WKSP_PART_TAG], REBUILD_TAG);
  return 1;
}

/* Puts an entry into its page's list, which nbr's high half links in the order of addresses. */
static void bucket_add(rebuild_t *self, uint32_t idx) {
  wksp__ent_t *ent = &self->ent[idx];
  uint64_t gaddr = gaddr_of(ent), page = wksp__page_of(&self->op, gaddr);
  uint32_t before = 0, at = self->firsts[page];
  while (at && gaddr_of(&self->ent[at]) < gaddr) {
    before = at;
    at = wksp__hi32(self->ent[at].w[WKSP_PART_NBR]);
  }
  if (at && gaddr_of(&self->ent[at]) == gaddr) {
    SAY(self, "dropped: partition %u at 0x%lx of %lu bytes begins where partition %u does", idx,
        gaddr, size_of(ent), at);
    drop(self, idx);
    return;
  }
  ent->w[WKSP_PART_NBR] = (uint64_t)at << 32;
  if (before)
    self->ent[before].w[WKSP_PART_NBR] = (uint64_t)idx << 32;
  else
    self->firsts[page] = idx;
  wksp__page_bits_set(self->op.head, self->op.tx.wksp, page);
}

/* Takes down where the data ends; of several the lowest. What is behind it has a size that follows,
   so one word is the truth, and the entry stays as it is until all is done. */
static void beyond_take(rebuild_t *self, uint32_t idx) {
  fd_wksp_t const *wksp = self->op.tx.wksp;
  uint64_t gaddr = gaddr_of(&self->ent[idx]);
  if (gaddr <= wksp->data_lo || gaddr >= self->end) {
    SAY(self, "dropped: an end of the data at 0x%lx, which is not in it, or not the first", gaddr);
    drop(self, idx);
    return;
  }
  if (self->beyond) {
    SAY(self, "dropped: an end of the data at 0x%lx, for there is one at 0x%lx", self->end, gaddr);
    drop(self, self->beyond);
  }
  self->beyond = idx;
  self->end = gaddr;
}

static void entries_sort(rebuild_t *self) {
  self->end = self->op.tx.wksp->data_hi;
  for (uint32_t idx = 1; idx <= self->op.part_max; idx++) {
    uint64_t kind = wksp__ld(&self->ent[idx].w[WKSP_PART_ADDR]) % FD_WKSP_PART_GRAIN;
    if (kind == WKSP_PART_BEYOND)
      beyond_take(self, idx);
    else if (kind == WKSP_PART_FREE || !kind || !plausible(self, idx))
      drop(self, idx); /* a free one comes back as a gap */
    else
      bucket_add(self, idx);
  }
}

/* An entry that is not in use, 0 if there is none. */
static uint32_t entry_unused(rebuild_t *self) {
  uint32_t idx = self->dropped;
  if (idx) {
    self->dropped = wksp__lo32(self->ent[idx].w[WKSP_PART_IDX]);
    return idx;
  }
  while (++self->unused <= self->op.part_max)
    if (!wksp__ld(&self->ent[self->unused].w[WKSP_PART_ADDR])) return self->unused;
  self->unused = self->op.part_max;
  return 0;
}

/* Drops one while partitions are linked: its entry is for the next gap. */
static void drop_late(rebuild_t *self, uint32_t idx) {
  drop(self, idx);
  if (idx > self->unused) return; /* the search will come to it */
  self->ent[idx].w[WKSP_PART_IDX] = self->dropped;
  self->dropped = idx;
}

/* The next partition, used or free, behind the last. */
static void append(rebuild_t *self, uint32_t idx) {
  wksp__ent_t *ent = &self->ent[idx];
  uint64_t gaddr = gaddr_of(ent), page = wksp__page_of(&self->op, gaddr);
  if (self->last) self->ent[self->last].w[WKSP_PART_NBR] |= (uint64_t)idx << 32;
  ent->w[WKSP_PART_NBR] = self->last;
  if (!self->last || page != self->page) {
    self->firsts[page] = idx;
    wksp__page_bits_set(self->op.head, self->op.tx.wksp, page);
  }
  self->op.tx.at = self->op.tx.vol->undo; /* nobody reads what is noted */
  self->op.tx.rec = 0;
  if (wksp__ld(&ent->w[WKSP_PART_ADDR]) % FD_WKSP_PART_GRAIN == WKSP_PART_FREE) {
    wksp__size_add(&self->op, idx, ent, 1);
    self->free_cnt++;
    self->free_sz += size_of(ent);
  } else if (wksp__ld(&ent->w[WKSP_PART_ADDR]) % FD_WKSP_PART_GRAIN != WKSP_PART_BEYOND) {
    wksp__tag_add(&self->op, idx, ent, wksp__ld(&ent->w[WKSP_PART_TAG]), 1);
  }
  self->total++;
  if (idx > self->top) self->top = idx;
  self->last = idx;
  self->page = page;
  self->at = gaddr + size_of(ent);
}

/* The free partition up to end. 0 if there is no entry for it. */
static int append_gap(rebuild_t *self, uint64_t end) {
  if (self->at == end) return 1;
  uint32_t idx = entry_unused(self);
  if (!idx) return 0;
  self->ent[idx].w[WKSP_PART_SIZE] = end - self->at;
  wksp__st(&self->ent[idx].w[WKSP_PART_ADDR], self->at | WKSP_PART_FREE);
  append(self, idx);
  return 1;
}

static void append_used(rebuild_t *self, uint32_t idx) {
  wksp__ent_t *ent = &self->ent[idx];
  uint64_t gaddr = gaddr_of(ent);
  if (gaddr < self->at) {
    SAY(self, "dropped: partition %u at 0x%lx of %lu bytes and tag %lu overlaps partition %u", idx,
        gaddr, size_of(ent), wksp__ld(&ent->w[WKSP_PART_TAG]), self->last);
    drop_late(self, idx);
  } else if (!append_gap(self, gaddr)) {
    SAY(self,
        "dropped: partition %u at 0x%lx of %lu bytes and tag %lu: no entry is left for the "
        "free room before it",
        idx, gaddr, size_of(ent), wksp__ld(&ent->w[WKSP_PART_TAG]));
    drop_late(self, idx);
  } else {
    append(self, idx);
  }
}

/* What is behind the last used partition: free room, and what is beyond the end. */
static void end_append(rebuild_t *self) {
  fd_wksp_t const *wksp = self->op.tx.wksp;
  uint64_t least = (self->at + WKSP_SPAN_SZ - 1) & ~(WKSP_SPAN_SZ - 1);
  if (self->end < least) {
    SAY(self, "changed: the data ends at 0x%lx, not at 0x%lx: partition %u is there", least,
        self->end, self->last);
    self->end = least;
  }
  if (!append_gap(self, self->end)) {
    wksp__ent_t *ent = &self->ent[self->last];
    SAY(self,
        "changed: partition %u at 0x%lx takes the %lu free bytes behind it, as no entry is left",
        self->last, gaddr_of(ent), self->end - self->at);
    wksp__st(&ent->w[WKSP_PART_SIZE], (wksp__ld(&ent->w[WKSP_PART_SIZE]) & ~WKSP_PART_RANGE_MASK) |
                                          (self->end - gaddr_of(ent)));
  }
  if (!self->beyond) return;
  wksp__ent_t *ent = &self->ent[self->beyond];
  if (self->end == wksp->data_hi) {
    drop(self, self->beyond);
    return;
  }
  wksp__st(&ent->w[WKSP_PART_ADDR], self->end | WKSP_PART_BEYOND);
  ent->w[WKSP_PART_SIZE] = wksp->data_hi - self->end;
  ent->w[WKSP_PART_TAG] = 0;
  append(self, self->beyond);
}

/* All pages' lists, in order. A gap is appended with the used partition behind it, so it never
   begins in a page whose list is still to come. */
static void partitions_link(rebuild_t *self) {
  fd_wksp_t const *wksp = self->op.tx.wksp;
  uint64_t const *bits = wksp__part_bits(&self->op, 0);
  self->at = wksp->data_lo;
  for (uint64_t w = 0; w < (self->page_cnt + 63) / 64; w++) {
    for (uint64_t left = bits[w]; left; left &= left - 1) {
      uint64_t page = w * 64 + (uint64_t)__builtin_ctzl(left);
      uint32_t idx = self->firsts[page], next;
      self->firsts[page] = 0;
      for (; idx; idx = next) {
        next = wksp__hi32(self->ent[idx].w[WKSP_PART_NBR]);
        append_used(self, idx);
      }
    }
  }
  end_append(self);
}

/* What is not in use up to the highest that is, and the counters. */
static void head_fill(rebuild_t *self) {
  uint32_t pool = 0;
  for (uint32_t idx = self->top; idx > 0; idx--) {
    wksp__ent_t *ent = &self->ent[idx];
    if (wksp__ld(&ent->w[WKSP_PART_ADDR])) continue;
    ent->w[WKSP_PART_IDX] = pool;
    pool = idx;
  }
  self->op.head->pool = wksp__pair(pool, self->top);
  self->op.head->cnt = wksp__pair(self->total, self->free_cnt);
  self->op.head->free_sz = self->free_sz;
}

int wksp__part_rebuild(fd_wksp_t *wksp, wksp__finding_t finding, void *arg) {
  wksp__vol_t *vol = wksp__vol(wksp), *notes = malloc(sizeof(*notes));
  rebuild_t self = {.finding = finding, .arg = arg};
  if (!notes)
    return wksp__fail(WKSP_E_NOMEM, "rebuild: out of memory for %lu bytes", sizeof(*notes));
  wksp__pop_begin(&self.op, wksp);
  self.op.tx.vol = notes;
  self.ent = wksp__pop_ent(&self.op);
  self.firsts = wksp__pop_pages(&self.op);
  self.page_cnt = wksp__page_cnt(&self.op);

  wksp__st(&vol->version, wksp__ld(&vol->version) | 1);
  wksp__st(&vol->rec, WKSP_REC_REBUILD);
  wksp__fence_release(); /* as in wksp__tx_begin */
  clear(&self);
  entries_sort(&self);
  partitions_link(&self);
  head_fill(&self);
  free(notes);
  return (int)self.cnt;
}

void wksp__part_rebuilt(fd_wksp_t *wksp) {
  wksp__vol_t *vol = wksp__vol(wksp);
  wksp__st_release(&vol->rec,
                   0UL); /* whoever sees it sees the tables; pairs with recover's acquire */
  wksp__st_release(&vol->version, wksp__ld(&vol->version) + 1);
}
