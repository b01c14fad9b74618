/* The layout of a workspace: which bytes are what.

   One file says where everything is, so that the library, the daemon and a reader of docs/format.md
   agree. Everything is derived from two numbers, part_max and data_max (wksp__geom); the header
   repeats the results and a join checks that they agree. All regions start at multiples of 4096.

     offset 0   header          written by new, constant afterwards
     vol_off    volatile        lock, record, slots: made anew at restore, never checkpointed
     root_off   root directory  FD_WKSP_ROOT_MAX entries
     heap_off   heap directory  heap_max words: gaddr of each fd_alloc and of its heaps
     part_off   partitions      table and its indexes; part_priv.h divides it
                zeros           8 bytes for each 64 KiB before data_lo, up to span_off
     span_off   span words      8 bytes for each 64 KiB of data: the truth about who owns it
     rec_off    span records    128 bytes for each: pairs (truth) and caches
                live bits       of a hardened build: 512 bytes for each 64 KiB, up to data_lo
     data_lo    data            a multiple of 64 KiB, as is data_hi

   may be used by: lib/core, lib/ckpt, the daemon's worker. */

#ifndef WKSP_CORE_LAYOUT_H
#define WKSP_CORE_LAYOUT_H

#include "core/export.h"
#include "wksp/fd_wksp.h"

#include <stdint.h>

#define WKSP_MAGIC          0x317073776b646677UL /* "wfdkwsp1" in memory */
#define WKSP_LAYOUT_VERSION 1U

/* Feature bits: one that a library does not know makes a workspace unusable (incompat), readable
 * only (ro_compat), or does not matter (compat). */
/* The scale of its fd_allocs plus 1 (wksp__scale), where it is not that of its data_max: a restore
   at another size leaves blocks where they are. 0: it follows from data_max. */
#define WKSP_INCOMPAT_SCALE  (3UL << 8)
#define WKSP_INCOMPAT_KNOWN  WKSP_INCOMPAT_SCALE
#define WKSP_RO_COMPAT_KNOWN 0UL

#define WKSP_SPAN_LG      16
#define WKSP_SPAN_SZ      (1UL << WKSP_SPAN_LG)
#define WKSP_DATA_MAX_MAX (1UL << 46)
#define WKSP_PART_MAX_MIN 8UL
#define WKSP_PART_MAX_MAX (1UL << 31)

/* Levels of page bits: 64^6 pages are more than 2^46 bytes have. */
#define WKSP_PART_LEVELS 6

/* Where the parts of the partition region lie, as offsets in it (part_priv.h). */
typedef struct wksp__part_dims {
  uint64_t tag_off, page_off, bits_off[WKSP_PART_LEVELS], size;
  uint32_t levels, tag_lg;
} wksp__part_dims_t;

struct fd_wksp {
  uint64_t magic; /* written last by new, cleared first by delete */
  uint32_t layout_version;
  uint32_t seed;
  uint64_t geometry_hash;
  uint64_t compat, ro_compat, incompat;
  uint8_t uuid[16];
  char name[FD_WKSP_NAME_MAX + 1];
  uint64_t part_max, data_max;
  uint64_t footprint;
  uint64_t vol_off, root_off, heap_off, part_off, span_off, rec_off;
  uint64_t data_lo, data_hi;
  uint32_t slot_max; /* slots, slot 0 (the shared one) included */
  uint32_t heap_max; /* words in the heap directory; word 0 is not used */
  wksp__part_dims_t part;
};

_Static_assert(sizeof(struct fd_wksp) <= 4096, "the header is one page");
_Static_assert(sizeof(ulong) == 8, "LP64");

/* Which of the tables in alloc_class.h, for fd_allocs: that of its data_max, unless the header says
 * another. */
static inline uint32_t wksp__scale_for(uint64_t data_max) {
  return data_max >= 256UL << 20 ? 0 : data_max >= 16UL << 20 ? 1 : 2;
}

static inline uint32_t wksp__scale(struct fd_wksp const *hdr) {
  uint32_t said = (uint32_t)(hdr->incompat / (WKSP_INCOMPAT_SCALE / 3)) & 3U;
  return said ? said - 1 : wksp__scale_for(hdr->data_max);
}

/* Everything that follows from part_max and data_max (data_max is rounded up to spans). */
typedef struct wksp__geom {
  uint64_t part_max, data_max, footprint;
  uint64_t vol_off, root_off, heap_off, part_off, span_off, rec_off, data_lo, data_hi;
  uint32_t slot_max, heap_max;
  wksp__part_dims_t part;
} wksp__geom_t;

/* 0, or WKSP_E_INVAL for numbers outside their ranges (nothing reported). */
WKSP_PRIVATE int wksp__geom(wksp__geom_t *ret_geom, uint64_t part_max, uint64_t data_max);

/* The same with slots for thousands of threads, for memory of one process alone (private.h), where
   one fd_alloc serves all of them. Not for malloc_to and its like, whose words have no room for
   such a slot's number. */
#define WKSP_SLOTS_MANY 8192U
int wksp__geom_many(wksp__geom_t *ret_geom, uint64_t part_max, uint64_t data_max);

/* The numbers of a workspace that takes at most footprint bytes, with the most data that it can
   have and its data from data_lo on or before: part_max as it is if that can be, else the largest
   below it, but not below part_min. 0; or WKSP_E_LIMIT (nothing reported) if its tables would lie
   beyond data_lo, *ret_footprint: the most that can be, 0: none can. */
WKSP_PRIVATE int wksp__geom_refit(uint64_t footprint, uint64_t data_lo, uint64_t part_max,
                                  uint64_t part_min, wksp__geom_t *ret_geom,
                                  uint64_t *ret_footprint);

/* The fewest partitions that a restore leaves room for: each that there is may have a free one
   beside it, and a few more can come. */
#define WKSP_REFIT_PARTS(part_cnt) (2 * (part_cnt) + 64)

/* Over what must agree between all who map a workspace: size classes, span, record, slot and lock
 * layout, sizeof of the C library's mutex. */
uint64_t wksp__geometry_hash(void);

/* How far this build can serve a workspace. */
enum { WKSP_ACCESS_NONE = 0, WKSP_ACCESS_RO, WKSP_ACCESS_FULL };

/* A layout that a build knows, by what tells it from all others. */
typedef struct wksp__known {
  uint32_t layout_version;
  int access; /* WKSP_ACCESS_* */
  uint64_t geometry_hash;
} wksp__known_t;

/* That of a layout: of our own FULL, of an older one what layout.c's table says, else NONE. */
WKSP_PRIVATE int wksp__layout_access(uint32_t layout_version, uint64_t geometry_hash);

/* By a table of cnt others beside our own; for tests, and for the above. */
int wksp__layout_access_by(uint32_t layout_version, uint64_t geometry_hash,
                           wksp__known_t const *known, uint32_t cnt);

/* That of a workspace with this header: by its layout, and by the features that it uses; nothing
   else of the header is looked at. */
WKSP_PRIVATE int wksp__access(struct fd_wksp const *hdr);

/* That of a library of this version that was built otherwise. Those cannot share workspaces:
   without threads nothing is atomic, and what a hardened one finds in a free block another must
   have put there. */
#define WKSP_FLAVOUR_NO_THREADS 1U
#define WKSP_FLAVOUR_HARDENED   2U
#ifdef WKSP_NO_THREADS
#define WKSP_FLAVOUR_THREADS_ WKSP_FLAVOUR_NO_THREADS
#else
#define WKSP_FLAVOUR_THREADS_ 0U
#endif
#ifdef WKSP_HARDENED
#define WKSP_FLAVOUR (WKSP_FLAVOUR_THREADS_ | WKSP_FLAVOUR_HARDENED)
#else
#define WKSP_FLAVOUR WKSP_FLAVOUR_THREADS_
#endif
uint64_t wksp__geometry_hash_of(uint32_t flavour);

/* Whether a header that can be read says what this library can serve: 0, E_CORRUPT or E_VERSION
 * (reported). map_size: bytes that are mapped, 0 if unknown. */
WKSP_PRIVATE int wksp__header_check(struct fd_wksp const *hdr, uint64_t map_size);

/* As fd_wksp_new, but of the data only the first data_sz bytes, a multiple of spans, are usable
   until a resize: the pages behind these need not be there, or be mapped. */
void *wksp__new(void *shmem, char const *name, uint seed, ulong part_max, ulong data_max,
                ulong data_sz);

/* The same, but without the magic number: nobody can join it yet. */
void *wksp__new_hidden(void *shmem, char const *name, uint seed, ulong part_max, ulong data_max,
                       ulong data_sz);

/* As wksp__new, with any geometry that a header can have. */
void *wksp__new_as(void *shmem, char const *name, uint seed, wksp__geom_t const *geom,
                   ulong data_sz);

/* 1 if name is a legal workspace name. */
int wksp__name_ok(char const *name);

static inline uint64_t *wksp__span_words(fd_wksp_t const *wksp) {
  return (uint64_t *)((uintptr_t)wksp + wksp->span_off);
}

static inline uint64_t *wksp__heap_dir(fd_wksp_t const *wksp) {
  return (uint64_t *)((uintptr_t)wksp + wksp->heap_off);
}

/* The index of the span that holds gaddr; gaddr must lie in the data region. */
static inline uint32_t wksp__span_of(fd_wksp_t const *wksp, uint64_t gaddr) {
  return (uint32_t)((gaddr - wksp->data_lo) >> WKSP_SPAN_LG);
}

static inline uint64_t wksp__span_gaddr(fd_wksp_t const *wksp, uint32_t span) {
  return wksp->data_lo + ((uint64_t)span << WKSP_SPAN_LG);
}

static inline uint32_t wksp__span_cnt(fd_wksp_t const *wksp) {
  return (uint32_t)(wksp->data_max >> WKSP_SPAN_LG);
}

#endif
