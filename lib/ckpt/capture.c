/* capture: what lives in a workspace that others may be changing, or may have damaged.

   Model. Three steps, each of which makes sense of what the one before has found:

     header    one copy, checked; everything else is looked up by the copy
     tables    partitions, roots, heap directory, of one moment: as a reader without the
               lock (the version before and after), and if writers are always in the way under the
               lock
     blocks    a span's word, its pairs, its word again, and anew if it has changed hands meanwhile;
               what magazines hold is free, and they are read before the pairs and behind them

   So partitions are as at the moment of the tables; each live bit is as it was at some moment from
   then on. What has since become a span of a heap that is younger had no block that lived at the
   moment of the tables, and counts as free. A block that goes from a magazine to
   its pair and back between the three looks counts as allocated though it is free; it takes another
   thread a few hundred calls to do that within the microseconds in which a heap is looked at.

   The walks are over what the copy says, and every index is checked, so damage costs an error and
   never a fault. Refuses: a workspace under repair, or one whose tables contradict themselves:
   verify tells where. */

#include "ckpt/tables.h"

#include "core/fail.h"
#include "core/part_priv.h"

#include <stdlib.h>
#include <string.h>

/* Looks without the lock before it is taken. */
#define CAPTURE_TRIES 16
/* How long to wait for a writer to end its change at each of these; for the lock; ns. */
#define CAPTURE_WAIT_NS 2000000UL
#define CAPTURE_LOCK_NS 10000000000UL
/* A span that changes hands more often than that while it is read counts as free. */
#define CAPTURE_SPAN_TRIES 64

typedef struct capture {
  wksp__ck_tables_t *tables;
  uintptr_t base;
  uint64_t end;   /* gaddrs from here on are not looked at */
  uint64_t *held; /* what magazines held at first */
  uint64_t held_cnt, held_cap;
  wksp__ck_span_t const *near; /* a magazine's blocks are often of the span of the one before */
} capture_t;

static void *at(capture_t const *self, uint64_t gaddr) {
  return (void *)(self->base + gaddr);
}

static int corrupt(capture_t const *self, char const *what) {
  return wksp__fail(WKSP_E_CORRUPT, "checkpoint: workspace %s: %s: verify tells where",
                    self->tables->hdr.name, what);
}

/* Tables
 * ---------------------------------------------------------------------------------------------- */

static int part_order(void const *a, void const *b) {
  uint64_t one = ((wksp__ck_part_t const *)a)->gaddr, two = ((wksp__ck_part_t const *)b)->gaddr;
  return one < two ? -1 : one > two;
}

/* Entries as they are; what is impossible is found later, once it is known that they are of one
   moment. */
static int parts_read(capture_t *self) {
  wksp__ck_tables_t *tables = self->tables;
  struct fd_wksp const *hdr = &tables->hdr;
  wksp__part_head_t const *head = at(self, hdr->part_off);
  wksp__ent_t const *ent = at(self, hdr->part_off + WKSP_PART_HEAD_SZ);
  uint64_t used = wksp__hi32(wksp__ld(&head->pool));
  if (used > hdr->part_max) used = hdr->part_max;
  tables->part_cnt = 0;
  tables->data_sz = hdr->data_max;
  for (uint64_t idx = 1; idx <= used; idx++) {
    uint64_t addr = wksp__ld(&ent[idx].w[WKSP_PART_ADDR]);
    uint64_t size = wksp__ld(&ent[idx].w[WKSP_PART_SIZE]);
    uint32_t kind = wksp__kind_of(addr, size);
    uint64_t gaddr = addr & WKSP_PART_RANGE_MASK;
    if ((kind & 255U) == WKSP_PART_BEYOND && gaddr > hdr->data_lo && gaddr <= hdr->data_hi)
      tables->data_sz = gaddr - hdr->data_lo;
    if (!kind || !wksp__part_used(kind)) continue;
    int err = WKSP_CK_ADD(tables, part);
    if (err) return err;
    tables->parts[tables->part_cnt++] =
        (wksp__ck_part_t){.gaddr = gaddr,
                          .size = size & WKSP_PART_RANGE_MASK,
                          .tag = wksp__ld(&ent[idx].w[WKSP_PART_TAG]),
                          .kind = kind};
  }
  return 0;
}

static int roots_read(capture_t *self) {
  wksp__ck_tables_t *tables = self->tables;
  wksp__root_t const *roots = at(self, tables->hdr.root_off);
  tables->root_cnt = 0;
  for (uint32_t place = 0; place < FD_WKSP_ROOT_MAX; place++) {
    wksp__ck_root_t root = {.place = place};
    for (uint32_t w = 0; w < sizeof root.root.name / 8; w++)
      root.root.name[w] = wksp__ld(&roots[place].name[w]);
    root.root.gaddr = wksp__ld(&roots[place].gaddr);
    root.root.tag = wksp__ld(&roots[place].tag);
    if (!*(char const *)root.root.name) continue;
    int err = WKSP_CK_ADD(tables, root);
    if (err) return err;
    tables->roots[tables->root_cnt++] = root;
  }
  return 0;
}

/* What is constant in a head; one half made or half deleted is none, nor is what it has. */
static void head_read(capture_t const *self, wksp__ck_dir_t *entry) {
  struct fd_wksp const *hdr = &self->tables->hdr;
  struct fd_alloc const *head = at(self, entry->gaddr);
  entry->what = 0;
  if (entry->gaddr < hdr->data_lo || entry->gaddr > self->end - sizeof *head ||
      wksp__ld_acquire(&head->magic) != WKSP_ALLOC_MAGIC || wksp__ld(&head->self) != entry->gaddr ||
      wksp__ld(&head->home) != entry->id)
    return;
  entry->tag = wksp__ld(&head->tag);
  entry->flags = wksp__ld(&head->flags);
  entry->lease = wksp__ld(&head->lease);
  entry->bad_free_cnt = wksp__ld(&head->bad_free_cnt);
  entry->late_write_cnt = wksp__ld(&head->late_write_cnt);
  entry->region_spans = wksp__ld(&head->region_spans);
  entry->what = DIR_HOME;
}

static int dir_read(capture_t *self) {
  wksp__ck_tables_t *tables = self->tables;
  uint64_t const *dir = at(self, tables->hdr.heap_off);
  tables->dir_cnt = 0;
  for (uint32_t id = 1; id < tables->hdr.heap_max; id++) {
    uint64_t word = wksp__ld_acquire(&dir[id]);
    if (!word) continue;
    int err = wksp__ck_grow(&tables->dir, tables->dir_cnt, &tables->dir_cap, sizeof *tables->dir);
    if (err) return err;
    wksp__ck_dir_t *entry = &tables->dir[tables->dir_cnt++];
    *entry = (wksp__ck_dir_t){.id = id, .what = (uint32_t)DIR_WHAT(word), .gaddr = DIR_GADDR(word)};
    if (entry->what == DIR_HOME) head_read(self, entry);
  }
  return 0;
}

static int tables_read(capture_t *self) {
  int err = parts_read(self);
  if (!err) err = roots_read(self);
  if (!err) err = dir_read(self);
  return err;
}

/* 1 read at one moment, 0 a writer was in the way, or an error. */
static int tables_try(capture_t *self) {
  wksp__vol_t const *vol = at(self, self->tables->hdr.vol_off);
  uint64_t until = wksp__now_ns() + CAPTURE_WAIT_NS, version;
  /* acquire; pairs with the release in tx_end */
  for (uint32_t turn = 0; (version = wksp__ld_acquire(&vol->version)) & 1UL; turn++) {
    if (wksp__now_ns() > until) return 0;
    wksp__relax(turn);
  }
  if (wksp__ld_acquire(&vol->rec)) return 0;
  int err = tables_read(self);
  wksp__fence_acquire(); /* the version again, after all that was read */
  return err ? err : wksp__ld(&vol->version) == version;
}

static int tables_locked(capture_t *self, fd_wksp_t *wksp) {
  int err = fd_wksp_lock(wksp, CAPTURE_LOCK_NS);
  if (err == WKSP_E_RDONLY)
    return wksp__fail(WKSP_E_AGAIN,
                      "checkpoint: workspace %s: its partitions were being changed at each of %d "
                      "looks: try again, or join it read-write",
                      self->tables->hdr.name, CAPTURE_TRIES);
  int held = err == WKSP_E_BUSY; /* by this thread: it changes nothing meanwhile */
  if (err && !held) return err;
  err = tables_read(self);
  if (!held) fd_wksp_unlock(wksp);
  return err;
}

/* What is wanted of the others once they are of one moment: sorted, possible, and memory that is
   there. Partitions whose fd_alloc is gone, which a rebuild would drop, are left out. */
static int tables_settle(capture_t *self) {
  wksp__ck_tables_t *tables = self->tables;
  struct fd_wksp const *hdr = &tables->hdr;
  uint64_t to = 0, end = hdr->data_lo;
  if (tables->data_sz > self->end - hdr->data_lo)
    tables->data_sz = (self->end - hdr->data_lo) & ~(WKSP_SPAN_SZ - 1);
  if (tables->part_cnt) /* else there is no list */
    qsort(tables->parts, tables->part_cnt, sizeof *tables->parts, part_order);
  for (uint64_t i = 0; i < tables->part_cnt; i++) {
    wksp__ck_part_t part = tables->parts[i];
    uint32_t kind = part.kind & 255U;
    if (part.gaddr < end || part.gaddr >= hdr->data_lo + tables->data_sz || !part.size ||
        part.size > hdr->data_lo + tables->data_sz - part.gaddr || !part.tag ||
        kind > FD_WKSP_KIND_LARGE)
      return corrupt(self, "its partitions overlap, or lie where it has no memory");
    end = part.gaddr + part.size;
    if (kind != FD_WKSP_KIND_USER && !wksp__ck_home(tables, part.kind >> 8)) continue;
    if (kind == FD_WKSP_KIND_USER && part.kind >> 8)
      return corrupt(self, "a partition has an owner that it cannot have");
    tables->parts[to++] = part;
  }
  tables->part_cnt = to;
  for (uint64_t i = to = 0; i < tables->dir_cnt; i++) {
    wksp__ck_dir_t dir = tables->dir[i];
    wksp__ck_part_t const *part = wksp__ck_part_at(tables, dir.gaddr);
    uint64_t size = dir.what == DIR_HOME ? sizeof(struct fd_alloc) : wksp__heap_size(hdr);
    int good = part && part->size - (dir.gaddr - part->gaddr) >= size && !(dir.gaddr % 64);
    /* a heap that is younger than the tables, or on its way out, has no span here */
    if (good && dir.what == DIR_HEAP)
      good = part->gaddr == dir.gaddr && (part->kind & 255U) == FD_WKSP_KIND_HEAP;
    if (good && dir.what == DIR_HOME) good = (part->kind & 255U) == FD_WKSP_KIND_USER;
    if (good) tables->dir[to++] = dir;
  }
  int homes_gone = to != tables->dir_cnt;
  tables->dir_cnt = to;
  if (homes_gone)
    for (uint64_t i = to = 0; i <= tables->part_cnt; i++) {
      if (i == tables->part_cnt)
        tables->part_cnt = to;
      else if (!(tables->parts[i].kind >> 8) || wksp__ck_home(tables, tables->parts[i].kind >> 8))
        tables->parts[to++] = tables->parts[i];
    }
  for (uint64_t i = to = 0; i < tables->root_cnt; i++) {
    wksp__ck_root_t root = tables->roots[i];
    if (((char const *)root.root.name)[FD_WKSP_ROOT_NAME_MAX] || root.root.gaddr < hdr->data_lo ||
        root.root.gaddr >= hdr->data_hi)
      return corrupt(self, "a root is damaged");
    tables->roots[to++] = root;
  }
  return 0;
}

/* Spans
 * ---------------------------------------------------------------------------------------------- */

/* Whether the word can be that of a span with blocks there, all of whose 64 KiB the tables give to
   that home. */
static int span_good(capture_t const *self, uint32_t span, uint64_t e, uint32_t home) {
  struct fd_wksp const *hdr = &self->tables->hdr;
  if (!wksp__span_live(e) || !wksp__ck_heap(self->tables, SPAN_HEAP(e), home)) return 0;
  uint32_t lg = wksp__class(hdr, SPAN_CLASS(e))->lg;
  if (!wksp__span_fits(hdr, span, lg)) return 0;
  for (uint32_t i = 1; i < 1U << lg; i++) {
    wksp__ck_part_t const *part = wksp__ck_part_at(self->tables, wksp__span_gaddr(hdr, span + i));
    if (!part || part->kind != (FD_WKSP_KIND_SPANS | home << 8)) return 0;
  }
  return 1;
}

static wksp__pair_t const *pairs_at(capture_t const *self, uint32_t span, uint32_t cls) {
  struct fd_wksp const *hdr = &self->tables->hdr;
  uint32_t off = wksp__class(hdr, cls)->pair_off;
  wksp__rec_t const *recs = at(self, hdr->rec_off);
  return off ? (wksp__pair_t const *)at(self, wksp__span_gaddr(hdr, span) + off) : recs[span].inl;
}

/* Adds the span with its live bits if it has any. *ret_lg: its size, if it is one. */
static int span_read(capture_t *self, uint32_t span, uint32_t home, uint32_t *ret_lg) {
  wksp__ck_tables_t *tables = self->tables;
  uint64_t const *word = (uint64_t const *)at(self, tables->hdr.span_off) + span;
  uint64_t bits[64], some = 0;
  *ret_lg = 0;
  for (uint32_t turn = 0; turn < CAPTURE_SPAN_TRIES; turn++) {
    /* acquire: pairs with the release that made it OWNED */
    uint64_t e = wksp__ld_acquire(word);
    if (!span_good(self, span, e, home)) return 0;
    uint32_t cls = SPAN_CLASS(e), cnt = wksp__class(&tables->hdr, cls)->word_cnt;
    wksp__pair_t const *pair = pairs_at(self, span, cls);
    for (uint32_t w = some = 0; w < cnt; w++) {
      bits[w] =
          (wksp__ld(&pair[w].a) ^ wksp__ld_acquire(&pair[w].f)) & ~wksp__tail(&tables->hdr, cls, w);
      some |= bits[w];
    }
    wksp__fence_acquire(); /* the word again, after its pairs */
    uint64_t again = wksp__ld(word);
    if (!wksp__span_live(again) || SPAN_WITH(again, 0) != SPAN_WITH(e, 0)) continue;
    *ret_lg = wksp__class(&tables->hdr, cls)->lg;
    if (!some) return 0; /* nothing lives: as good as free */
    int err = WKSP_CK_ADD(tables, span);
    for (uint32_t w = 0; w < cnt && !err; w++) {
      err = WKSP_CK_ADD(tables, bit);
      if (!err) tables->bits[tables->bit_cnt++] = bits[w];
    }
    if (err) return err;
    tables->spans[tables->span_cnt++] = (wksp__ck_span_t){.span = span,
                                                          .cls = cls,
                                                          .heap = SPAN_HEAP(e),
                                                          .word_cnt = cnt,
                                                          .first = tables->bit_cnt - cnt};
    return 0;
  }
  return 0;
}

/* Which of a partition's 64 KiB there are; a partition that is none of whole spans has none. */
static void spans_of(capture_t const *self, wksp__ck_part_t const *part, uint32_t *ret_first,
                     uint32_t *ret_end) {
  struct fd_wksp const *hdr = &self->tables->hdr;
  *ret_first = *ret_end = 0;
  if ((part->kind & 255U) != FD_WKSP_KIND_SPANS || part->gaddr < hdr->data_lo ||
      part->gaddr >= hdr->data_hi || part->size > hdr->data_hi - part->gaddr ||
      ((part->gaddr - hdr->data_lo) | part->size) & (WKSP_SPAN_SZ - 1))
    return;
  *ret_first = wksp__span_of(hdr, part->gaddr);
  *ret_end = *ret_first + (uint32_t)(part->size >> WKSP_SPAN_LG);
}

/* In the order of addresses; a wide span may go on in the partition behind. */
static int spans_read(capture_t *self) {
  wksp__ck_tables_t *tables = self->tables;
  uint32_t next = 0;
  for (uint64_t i = 0; i < tables->part_cnt; i++) {
    uint32_t span, end;
    spans_of(self, &tables->parts[i], &span, &end);
    if (span < next) span = next;
    while (span < end) {
      uint32_t lg;
      int err = span_read(self, span, tables->parts[i].kind >> 8, &lg);
      if (err) return err;
      span += 1U << lg;
    }
    next = span;
  }
  return 0;
}

/* Magazines
 * ---------------------------------------------------------------------------------------------- */

/* A free block, whatever its pair says. */
static void bit_clear(capture_t *self, uint64_t gaddr) {
  uint32_t blk;
  wksp__ck_span_t const *span = wksp__ck_block_at(self->tables, gaddr, self->near, &blk);
  if (!span) return;
  self->near = span;
  self->tables->bits[span->first + blk / 64] &= ~(1UL << (blk % 64));
}

static int held_note(void *arg, uint64_t gaddr) {
  capture_t *self = arg;
  int err = wksp__ck_grow(&self->held, self->held_cnt, &self->held_cap, sizeof *self->held);
  if (!err) self->held[self->held_cnt++] = gaddr;
  return err;
}

static int held_clear(void *arg, uint64_t gaddr) {
  bit_clear(arg, gaddr);
  return 0;
}

static int magazine_read(capture_t *self, wksp__heap_t const *heap, uint32_t cls,
                         int (*on_block)(void *, uint64_t)) {
  struct fd_wksp const *hdr = &self->tables->hdr;
  wksp__mag_t const *mag = &heap->mag[cls];
  uint32_t size = wksp__class_size(cls);
  int err = 0;
  for (uint32_t i = wksp__mag_lo(hdr, cls), top = wksp__mag_top(hdr, heap, cls); i < top && !err;
       i += 8)
    err = on_block(self, wksp__ld(wksp__mag_place(heap, i)));
  uint64_t mbase = wksp__ld(&mag->mbase), mask = wksp__ld_acquire(&mag->mask);
  for (; mask && !err; mask &= mask - 1)
    err = on_block(self, mbase + (uint64_t)__builtin_ctzl(mask) * size);
  return err;
}

/* Blocks of lots: on their way from an array to their pair (lib/core/alloc_lot.c, lot_look). */
static int lots_read(capture_t *self, int (*on_block)(void *, uint64_t)) {
  struct fd_wksp const *hdr = &self->tables->hdr;
  wksp__slot_t const *slots = at(self, hdr->vol_off + ((sizeof(wksp__vol_t) + 255UL) & ~255UL));
  int err = 0;
  for (uint32_t i = 0; i < hdr->slot_max && !err; i++) {
    uint64_t lot = wksp__ld_acquire(&slots[i].lot);
    uint64_t span = wksp__ld(&slots[i].lot_span), w = wksp__ld(&slots[i].lot_w);
    if (!lot || (lot & WKSP_LOT_DONE) || span >= wksp__span_cnt(hdr) || w >= 64) continue;
    uint64_t gaddr = wksp__span_gaddr(hdr, (uint32_t)span);
    wksp__ck_part_t const *part = wksp__ck_part_at(self->tables, gaddr);
    uint64_t e = wksp__ld_acquire((uint64_t const *)at(self, hdr->span_off) + span);
    uint32_t cls = SPAN_CLASS(e);
    if (!part || (part->kind & 255U) != FD_WKSP_KIND_SPANS ||
        !span_good(self, (uint32_t)span, e, part->kind >> 8) ||
        w >= wksp__class(hdr, cls)->word_cnt)
      continue;
    uint64_t bits = wksp__ld(&slots[i].lot_bits) & ~wksp__tail(hdr, cls, (uint32_t)w);
    uint64_t f = wksp__ld_acquire(&pairs_at(self, (uint32_t)span, cls)[w].f);
    if ((f ^ wksp__ld(&slots[i].lot_f)) & bits) continue; /* their pair says what they are */
    wksp__fence_acquire();
    if (wksp__ld(&slots[i].lot) != lot) continue;
    for (; bits && !err; bits &= bits - 1) {
      uint64_t blk = w * 64 + (uint64_t)__builtin_ctzl(bits);
      err = on_block(self, gaddr + blk * wksp__class_size(cls));
    }
  }
  return err;
}

static int magazines_read(capture_t *self, int (*on_block)(void *, uint64_t)) {
  int err = 0;
  for (uint64_t i = 0; i < self->tables->dir_cnt && !err; i++) {
    wksp__ck_dir_t const *dir = &self->tables->dir[i];
    if (dir->what != DIR_HEAP) continue;
    wksp__heap_t const *heap = at(self, dir->gaddr);
    for (uint32_t cls = 0; cls < WKSP_CLASS_CNT && !err; cls++)
      err = magazine_read(self, heap, cls, on_block);
  }
  return err ? err
             : lots_read(self, on_block); /* arrays first: what leaves one is in a lot before */
}

/* In flight
 * ---------------------------------------------------------------------------------------------- */

static int lives(capture_t const *self, uint64_t gaddr, uint32_t *ret_home) {
  wksp__ck_part_t const *part = wksp__ck_part_at(self->tables, gaddr);
  uint32_t blk;
  if (!part) return 0;
  *ret_home = part->kind >> 8;
  if ((part->kind & 255U) == FD_WKSP_KIND_LARGE) return part->gaddr == gaddr;
  wksp__ck_span_t const *span = wksp__ck_block_at(self->tables, gaddr, NULL, &blk);
  return span && (self->tables->bits[span->first + blk / 64] >> (blk % 64) & 1UL);
}

static int suspect_add(capture_t *self, uint64_t gaddr) {
  wksp__ck_tables_t *tables = self->tables;
  uint32_t home;
  if (!gaddr || gaddr & 15U || !lives(self, gaddr, &home)) return 0;
  for (uint64_t i = 0; i < tables->suspect_cnt; i++)
    if (tables->suspects[i].gaddr == gaddr) return 0;
  int err = WKSP_CK_ADD(tables, suspect);
  if (!err)
    tables->suspects[tables->suspect_cnt++] =
        (wksp__ck_suspect_t){.alloc = wksp__ck_home(tables, home), .gaddr = gaddr};
  return err;
}

/* Those of before; in the order in which the ring has them. */
static int rings_read(capture_t *self) {
  int err = 0;
  for (uint64_t i = 0; i < self->tables->dir_cnt; i++) {
    if (self->tables->dir[i].what != DIR_HOME) continue;
    struct fd_alloc const *head = at(self, self->tables->dir[i].gaddr);
    for (uint32_t s = 0, from = wksp__ld(&head->suspect_at); s < WKSP_SUSPECTS && !err; s++)
      err = suspect_add(self, wksp__ld(&head->suspect[(from + s) % WKSP_SUSPECTS]));
  }
  return err;
}

static int suspects_read(capture_t *self) {
  wksp__ck_tables_t *tables = self->tables;
  struct fd_wksp const *hdr = &tables->hdr;
  wksp__slot_t const *slots = at(self, hdr->vol_off + ((sizeof(wksp__vol_t) + 255UL) & ~255UL));
  for (uint32_t i = 0; i < hdr->slot_max; i++) {
    uint64_t flight = wksp__ld_acquire(&slots[i].flight);
    uint64_t heap_at = wksp__ld(&slots[i].heap);
    if (flight & WKSP_FLIGHT_TOP) { /* as wksp__flight_block, in memory that is there */
      uint64_t cls = ((flight & ~(WKSP_FLIGHT_DEAD | WKSP_FLIGHT_BUSY | WKSP_FLIGHT_TOP)) -
                      offsetof(wksp__heap_t, mag)) /
                     sizeof(wksp__mag_t);
      wksp__ck_part_t const *part = wksp__ck_part_at(tables, heap_at);
      if (cls >= WKSP_CLASS_CNT || !part || part->gaddr != heap_at ||
          (part->kind & 255U) != FD_WKSP_KIND_HEAP || part->size < wksp__heap_size(hdr))
        continue;
      wksp__heap_t const *heap = at(self, heap_at);
      flight = wksp__ld(wksp__mag_place(heap, wksp__mag_top(hdr, heap, (uint32_t)cls)));
    }
    flight &= ~(WKSP_FLIGHT_DEAD | WKSP_FLIGHT_BUSY);
    int err = suspect_add(self, flight);
    if (err) return err;
  }
  return 0;
}

/* All of it
 * ---------------------------------------------------------------------------------------------- */

static int blocks_read(capture_t *self) {
  int err = magazines_read(self, held_note);
  if (!err) err = spans_read(self);
  if (err) return err;
  for (uint64_t i = 0; i < self->held_cnt; i++) bit_clear(self, self->held[i]);
  err = magazines_read(self, held_clear);
  if (!err) err = rings_read(self);
  return err ? err : suspects_read(self);
}

static int header_read(capture_t *self, uint64_t map_sz) {
  struct fd_wksp *hdr = &self->tables->hdr;
  memcpy(hdr, at(self, 0), sizeof *hdr);
  int err = wksp__header_check(hdr, 0);
  if (err) return err;
  if (wksp__access(hdr) != WKSP_ACCESS_FULL)
    return wksp__fail(WKSP_E_VERSION,
                      "checkpoint: workspace %s has a layout (%u) of which this library takes none",
                      hdr->name, hdr->layout_version);
  self->end = map_sz && map_sz < hdr->footprint ? map_sz : hdr->footprint;
  if (self->end < hdr->data_lo + WKSP_SPAN_SZ)
    return wksp__fail(WKSP_E_INVAL,
                      "checkpoint: workspace %s: %lu bytes are mapped, its tables alone take %lu",
                      hdr->name, self->end, hdr->data_lo);
  return 0;
}

int wksp__ck_capture(fd_wksp_t *wksp, uint64_t map_sz, wksp__ck_tables_t *tables) {
  capture_t self = {.tables = tables, .base = (uintptr_t)wksp};
  int got = 0, err = header_read(&self, map_sz);
  if (err) return err;
  tables->chunk_lg = wksp__ck_chunk_lg(tables->hdr.data_max);
  for (uint32_t i = 0; i < CAPTURE_TRIES && !got; i++) got = tables_try(&self);
  err = got < 0 ? got : got ? 0 : tables_locked(&self, wksp);
  if (!err) err = tables_settle(&self);
  if (!err) err = blocks_read(&self);
  free(self.held);
  return err ? err : wksp__ck_chunks_make(tables, UINT64_MAX);
}
