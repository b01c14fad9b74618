/* layout: from two numbers to the place of every byte, and back to whether a header tells the
   truth.

   A workspace is described by part_max and data_max alone; everything else (slots, heap directory,
   offsets) follows, so that two who agree on the numbers agree on the layout, and a header that has
   been damaged contradicts itself. All arithmetic is done on numbers that were range-checked first:
   the largest workspace, 2^46 bytes of data with 2^31 partitions, needs less than 2^47 bytes.

   Nothing here writes shared memory, and nothing trusts a header further than its own page. */

#include "core/layout.h"

#include "core/alloc.h"
#include "core/alloc_hard.h"
#include "core/call.h"
#include "core/fail.h"
#include "core/part.h"
#include "core/part_priv.h"
#include "core/root.h"

#include <stddef.h>
#include <string.h>

#define LAYOUT_PAGE 4096UL

/* Slots are cheap (256 bytes) but each is looked at by whoever wants all: as many as threads can
 * reasonably share memory of that size. */
static uint32_t slot_max_for(uint64_t data_max) {
  if (data_max < (1UL << 20)) return 16;
  if (data_max < (64UL << 20)) return 64;
  if (data_max < (1UL << 30)) return 256;
  return 1024;
}

static uint64_t up(uint64_t value, uint64_t align) {
  return (value + align - 1) & ~(align - 1);
}

static int geom_of(wksp__geom_t *ret_geom, uint64_t part_max, uint64_t data_max, uint32_t slot_max,
                   uint32_t heap_max) {
  if (part_max < WKSP_PART_MAX_MIN || part_max >= WKSP_PART_MAX_MAX) return WKSP_E_INVAL;
  if (data_max < WKSP_SPAN_SZ || data_max > WKSP_DATA_MAX_MAX) return WKSP_E_INVAL;

  wksp__geom_t geom = {.part_max = part_max, .data_max = up(data_max, WKSP_SPAN_SZ)};
  uint64_t span_cnt = geom.data_max >> WKSP_SPAN_LG;
  geom.slot_max = slot_max;
  geom.heap_max = heap_max;
  geom.vol_off = LAYOUT_PAGE;
  geom.root_off = geom.vol_off + up(wksp__vol_size(geom.slot_max), LAYOUT_PAGE);
  geom.heap_off = geom.root_off + up(WKSP_ROOT_REGION_SZ, LAYOUT_PAGE);
  geom.part_off = geom.heap_off + up(8UL * geom.heap_max, LAYOUT_PAGE);
  wksp__part_dims(part_max, geom.data_max, &geom.part);
  /* Before the span words lie as many that stay 0 for what lies before the data: the short form of
     free looks at the word of any gaddr. */
  uint64_t part_end = geom.part_off + geom.part.size, lie = up(8 * span_cnt, LAYOUT_PAGE);
  uint64_t below = (part_end + lie + (128 + WKSP_HARD_SPAN_SZ) * span_cnt) >>
                   WKSP_SPAN_LG; /* but for the words themselves */
  geom.span_off = part_end + up(8 * (below + (below >> 12) + 2), LAYOUT_PAGE);
  geom.rec_off = geom.span_off + lie;
  /* a hardened build's live bits end where the data begin */
  geom.data_lo = up(geom.rec_off + (128 + WKSP_HARD_SPAN_SZ) * span_cnt, WKSP_SPAN_SZ);
  geom.data_hi = geom.data_lo + geom.data_max;
  geom.footprint = geom.data_hi;
  *ret_geom = geom;
  return 0;
}

int wksp__geom(wksp__geom_t *ret_geom, uint64_t part_max, uint64_t data_max) {
  uint32_t slot_max = slot_max_for(up(data_max, WKSP_SPAN_SZ));
  return geom_of(ret_geom, part_max, data_max, slot_max, 4 * slot_max);
}

int wksp__geom_many(wksp__geom_t *ret_geom, uint64_t part_max, uint64_t data_max) {
  return geom_of(ret_geom, part_max, data_max, WKSP_SLOTS_MANY, WKSP_SLOTS_MANY + 1024U);
}

/* FNV-1a over the bytes of a number, least significant first, whatever the machine's order. */
static uint64_t mix(uint64_t hash, uint64_t fact) {
  for (uint32_t b = 0; b < 64; b += 8) hash = (hash ^ ((fact >> b) & 0xff)) * 0x100000001b3UL;
  return hash;
}

uint64_t wksp__geometry_hash_of(uint32_t flavour) {
  uint64_t const facts[] = {
      /* the workspace */
      WKSP_LAYOUT_VERSION, sizeof(struct fd_wksp), slot_max_for(0), slot_max_for(1UL << 20),
      slot_max_for(64UL << 20), slot_max_for(1UL << 30),
      /* lock, record, slots */
      sizeof(wksp__vol_t), sizeof(wksp__slot_t), offsetof(wksp__slot_t, lot_top),
      sizeof(pthread_mutex_t), WKSP_UNDO_MAX, WKSP_REDO_MAX,
      /* roots and partitions */
      sizeof(wksp__root_t), FD_WKSP_ROOT_MAX, sizeof(wksp__ent_t), WKSP_PART_HEAD_SZ,
      WKSP_PART_LEVELS, FD_WKSP_PART_GRAIN, WKSP_PART_PAGE_LG, WKSP_PART_BINS,
      /* spans and heaps */
      WKSP_SPAN_LG, sizeof(wksp__rec_t), offsetof(wksp__rec_t, ticket), sizeof(wksp__heap_t),
      sizeof(struct fd_alloc), FD_ALLOC_FOOTPRINT, FD_ALLOC_SMALL_MAX, WKSP_CLASS_CNT,
      sizeof(wksp__mag_t), WKSP_MAG_BELOW, WKSP_MAG_ABOVE};
  uint64_t hash = 0xcbf29ce484222325UL;
  if (flavour) hash = mix(hash, flavour);
  for (uint32_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) hash = mix(hash, facts[i]);
  for (uint32_t i = 0; i < WKSP_SCALES * WKSP_CLASS_CNT; i++) {
    wksp__class_t const *cls = &wksp__classes[0][0] + i;
    hash = mix(mix(mix(mix(hash, cls->size), cls->blk_cnt), cls->pair_off), cls->lg);
  }
  for (uint32_t i = 0; i < WKSP_SCALES; i++)
    for (uint32_t j = 0; j <= WKSP_CLASS_CNT; j++) hash = mix(hash, wksp__mag_at[i][j]);
  return hash;
}

/* Each attach asks for it more than once, and it takes microseconds. Who finds 0 works it out, to
   the same as anybody else. */
uint64_t wksp__geometry_hash(void) {
  static uint64_t known;
  uint64_t hash = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (!hash) {
    hash = wksp__geometry_hash_of(WKSP_FLAVOUR);
    __atomic_store_n(&known, hash, __ATOMIC_RELAXED);
  }
  return hash;
}

/* Layouts of before that are still served, and how far. There are none yet; whoever changes the
   layout or the geometry of a released version adds the old one here if it can be served, and an
   image of it to tests/upgrade in any case. */
static wksp__known_t const *const older;
#define OLDER_CNT 0U

int wksp__layout_access_by(uint32_t layout_version, uint64_t geometry_hash,
                           wksp__known_t const *known, uint32_t cnt) {
  if (layout_version == WKSP_LAYOUT_VERSION && geometry_hash == wksp__geometry_hash())
    return WKSP_ACCESS_FULL;
  for (uint32_t i = 0; i < cnt; i++)
    if (known[i].layout_version == layout_version && known[i].geometry_hash == geometry_hash)
      return known[i].access;
  return WKSP_ACCESS_NONE;
}

int wksp__layout_access(uint32_t layout_version, uint64_t geometry_hash) {
  return wksp__layout_access_by(layout_version, geometry_hash, older, OLDER_CNT);
}

int wksp__access(struct fd_wksp const *hdr) {
  int access = wksp__layout_access(hdr->layout_version, hdr->geometry_hash);
  if (hdr->incompat & ~WKSP_INCOMPAT_KNOWN) return WKSP_ACCESS_NONE;
  if (access == WKSP_ACCESS_FULL && hdr->ro_compat & ~WKSP_RO_COMPAT_KNOWN) return WKSP_ACCESS_RO;
  return access;
}

static char const *const flavours[] = {"the usual options", "-Dthreads=false", "-Dhardened=true",
                                       "-Dthreads=false -Dhardened=true"};

/* Whose workspace it is that has another hash than ours. */
static int other_geometry(struct fd_wksp const *hdr) {
  for (uint32_t i = 0; i < sizeof flavours / sizeof flavours[0]; i++)
    if (hdr->geometry_hash == wksp__geometry_hash_of(i))
      return wksp__fail(WKSP_E_VERSION,
                        "the workspace was made by a library that was built with %s (geometry "
                        "0x%016lx), this one was built with %s (0x%016lx): use the same build",
                        flavours[i], hdr->geometry_hash, flavours[WKSP_FLAVOUR],
                        wksp__geometry_hash());
  return wksp__fail(WKSP_E_VERSION,
                    "the workspace was made by a library with other sizes of its tables "
                    "(geometry 0x%016lx, here 0x%016lx): use the same build",
                    hdr->geometry_hash, wksp__geometry_hash());
}

int wksp__name_ok(char const *name) {
  if (!name) return 0;
  uint32_t len = 0;
  for (; len <= FD_WKSP_NAME_MAX && name[len]; len++) {
    char c = name[len];
    int alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!alnum && (len == 0 || (c != '.' && c != '_' && c != '-'))) return 0;
  }
  return len >= 1 && len <= FD_WKSP_NAME_MAX;
}

static int geom_agrees(struct fd_wksp const *hdr, wksp__geom_t const *geom) {
  return hdr->data_max == geom->data_max && hdr->footprint == geom->footprint &&
         hdr->vol_off == geom->vol_off && hdr->root_off == geom->root_off &&
         hdr->heap_off == geom->heap_off && hdr->part_off == geom->part_off &&
         hdr->span_off == geom->span_off && hdr->rec_off == geom->rec_off &&
         hdr->data_lo == geom->data_lo && hdr->data_hi == geom->data_hi &&
         hdr->slot_max == geom->slot_max && hdr->heap_max == geom->heap_max &&
         !memcmp(&hdr->part, &geom->part, sizeof(hdr->part));
}

int wksp__header_check(struct fd_wksp const *hdr, uint64_t map_size) {
  if (map_size && map_size < LAYOUT_PAGE)
    return wksp__fail(WKSP_E_CORRUPT, "%lu bytes are too few for a workspace", map_size);
  uint64_t magic = wksp__ld_acquire(&hdr->magic);
  if (magic != WKSP_MAGIC)
    return wksp__fail(WKSP_E_CORRUPT,
                      "this memory is not a workspace: its first word is 0x%016lx, not 0x%016lx",
                      magic, WKSP_MAGIC);
  int known = wksp__layout_access(hdr->layout_version, hdr->geometry_hash);
  if (!known && hdr->layout_version != WKSP_LAYOUT_VERSION)
    return wksp__fail(WKSP_E_VERSION,
                      "the workspace has layout version %u, this library knows version %u only",
                      hdr->layout_version, WKSP_LAYOUT_VERSION);
  if (hdr->incompat & ~WKSP_INCOMPAT_KNOWN)
    return wksp__fail(WKSP_E_VERSION,
                      "the workspace uses features 0x%lx that this library does not know: use a "
                      "newer one",
                      hdr->incompat & ~WKSP_INCOMPAT_KNOWN);
  if (!known) return other_geometry(hdr);
  if (!memchr(hdr->name, 0, sizeof(hdr->name)) || !wksp__name_ok(hdr->name))
    return wksp__fail(WKSP_E_CORRUPT, "the header's name is not a legal name");

  wksp__geom_t geom;
  int many = hdr->slot_max == WKSP_SLOTS_MANY;
  if (many ? wksp__geom_many(&geom, hdr->part_max, hdr->data_max)
           : wksp__geom(&geom, hdr->part_max, hdr->data_max))
    return wksp__fail(WKSP_E_CORRUPT, "workspace %s: part_max %lu and data_max %lu are impossible",
                      hdr->name, hdr->part_max, hdr->data_max);
  if (!geom_agrees(hdr, &geom))
    return wksp__fail(WKSP_E_CORRUPT,
                      "workspace %s: the header's offsets do not follow from part_max %lu and "
                      "data_max %lu",
                      hdr->name, hdr->part_max, hdr->data_max);
  if (map_size && map_size < hdr->footprint)
    return wksp__fail(WKSP_E_CORRUPT, "workspace %s takes %lu bytes, but only %lu are mapped",
                      hdr->name, hdr->footprint, map_size);
  return 0;
}

/* Public geometry: thin forms of the above. */

ulong fd_wksp_align(void) {
  return FD_WKSP_ALIGN;
}

ulong fd_wksp_footprint(ulong part_max, ulong data_max) {
  wksp__geom_t geom;
  return wksp__geom(&geom, part_max, data_max) ? 0 : geom.footprint;
}

/* footprint grows with data_max, so halving finds the largest that fits. */
ulong fd_wksp_data_max_est(ulong footprint, ulong part_max) {
  uint64_t lo = 0, hi = WKSP_DATA_MAX_MAX >> WKSP_SPAN_LG; /* in spans: lo fits, hi + 1 does not */
  while (lo < hi) {
    uint64_t mid = lo + (hi - lo + 1) / 2;
    ulong takes = fd_wksp_footprint(part_max, mid << WKSP_SPAN_LG);
    if (takes && takes <= footprint)
      lo = mid;
    else
      hi = mid - 1;
  }
  return lo << WKSP_SPAN_LG;
}

/* Of these dimensions: 1 if it has data that begin at data_lo or before. */
static int refits(uint64_t footprint, uint64_t data_lo, uint64_t part_max, wksp__geom_t *ret_geom) {
  return !wksp__geom(ret_geom, part_max, fd_wksp_data_max_est(footprint, part_max)) &&
         ret_geom->data_lo <= data_lo;
}

int wksp__geom_refit(uint64_t footprint, uint64_t data_lo, uint64_t part_max, uint64_t part_min,
                     wksp__geom_t *ret_geom, uint64_t *ret_footprint) {
  wksp__geom_t geom;
  if (part_min < WKSP_PART_MAX_MIN) part_min = WKSP_PART_MAX_MIN;
  if (part_min > part_max) part_min = part_max;
  /* fewer partitions, smaller tables, whatever the data: halving finds the most */
  if (refits(footprint, data_lo, part_min, &geom)) {
    uint64_t lo = part_min, hi = part_max;
    if (refits(footprint, data_lo, hi, &geom)) lo = hi;
    while (lo < hi) {
      uint64_t mid = lo + (hi - lo + 1) / 2;
      if (refits(footprint, data_lo, mid, &geom))
        lo = mid;
      else
        hi = mid - 1;
    }
    (void)refits(footprint, data_lo, lo, ret_geom);
    return 0;
  }
  /* below, there is no room for data */
  uint64_t lo = (data_lo >> WKSP_SPAN_LG) + 1, hi = footprint >> WKSP_SPAN_LG;
  if (!refits(lo << WKSP_SPAN_LG, data_lo, part_min, &geom)) lo = hi = 0;
  while (lo < hi) {
    uint64_t mid = lo + (hi - lo + 1) / 2;
    if (refits(mid << WKSP_SPAN_LG, data_lo, part_min, &geom))
      lo = mid;
    else
      hi = mid - 1;
  }
  *ret_footprint = lo << WKSP_SPAN_LG;
  return WKSP_E_LIMIT;
}

/* Each used partition may have a free one beside it, and whatever the sizes a handful is needed for
 * programs' own objects: so two for each of sz_typical, and 64. */
#define EST_PART_MAX(used_cnt) (2 * (used_cnt) + 64)

static int est_fits(ulong footprint, uint64_t part_max, uint64_t data_max) {
  ulong takes = fd_wksp_footprint(part_max, data_max < WKSP_SPAN_SZ ? WKSP_SPAN_SZ : data_max);
  return takes && takes <= footprint;
}

ulong fd_wksp_part_max_est(ulong footprint, ulong sz_typical) {
  if (!sz_typical) sz_typical = 64UL << 10;
  uint64_t lo = 0, hi = (WKSP_PART_MAX_MAX - 65) / 2; /* lo fits if EST_PART_MAX(0) does */
  while (lo < hi) {
    uint64_t mid = lo + (hi - lo + 1) / 2, data;
    if (!__builtin_mul_overflow(mid, sz_typical, &data) &&
        est_fits(footprint, EST_PART_MAX(mid), data))
      lo = mid;
    else
      hi = mid - 1;
  }
  for (uint64_t part_max = EST_PART_MAX(lo); part_max >= WKSP_PART_MAX_MIN; part_max /= 2)
    if (est_fits(footprint, part_max, WKSP_SPAN_SZ)) return part_max;
  return 0;
}
