/* wksp: the public face of a workspace: making and joining one, its facts, addresses, partitions.

   Everything here checks arguments, brackets the call and hands on; what can go wrong is said in
   terms of what the caller passed. The header is constant after new (but for the seed, see reset)
   and trusted after join; a process that maps a workspace from others checks it once
   (wksp__header_check).

   What it refuses: getting memory (anon.c, the client), and keeping anything of its own. */

#include "core/atomic.h"
#include "core/call.h"
#include "core/enter.h"
#include "core/fail.h"
#include "core/layout.h"
#include "core/part.h"
#include "core/private.h"

#include <string.h>
#include <sys/random.h>

/* Life ----------------------------------------------------------------------------------------- */

/* A random uuid (RFC 4122, version 4). */
static int uuid_make(uint8_t *ret_uuid) {
  uint8_t uuid[16];
  if (getrandom(uuid, sizeof(uuid), 0) != (ssize_t)sizeof(uuid))
    return wksp__fail(WKSP_E_SYS, "new: getrandom gave no 16 bytes: %m");
  uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
  uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
  memcpy(ret_uuid, uuid, sizeof(uuid));
  return 0;
}

static void header_fill(struct fd_wksp *hdr, char const *name, uint seed,
                        wksp__geom_t const *geom) {
  hdr->layout_version = WKSP_LAYOUT_VERSION;
  hdr->seed = seed;
  hdr->geometry_hash = wksp__geometry_hash();
  memcpy(hdr->name, name, strlen(name) + 1);
  hdr->part_max = geom->part_max;
  hdr->data_max = geom->data_max;
  hdr->footprint = geom->footprint;
  hdr->vol_off = geom->vol_off;
  hdr->root_off = geom->root_off;
  hdr->heap_off = geom->heap_off;
  hdr->part_off = geom->part_off;
  hdr->span_off = geom->span_off;
  hdr->rec_off = geom->rec_off;
  hdr->data_lo = geom->data_lo;
  hdr->data_hi = geom->data_hi;
  hdr->slot_max = geom->slot_max;
  hdr->heap_max = geom->heap_max;
  hdr->part = geom->part;
}

/* Formatting relies on zeros and writes little else; a used header page gives away memory that is
 * not as promised. */
static int page_is_zero(void const *page) {
  uint64_t const *words = page;
  for (uint32_t i = 0; i < FD_WKSP_ALIGN / 8; i++)
    if (words[i]) return 0;
  return 1;
}

/* Without the magic number. */
static void *format(void *shmem, char const *name, uint seed, wksp__geom_t const *geom,
                    ulong data_sz) {
  struct fd_wksp *hdr = shmem;
  if (!shmem || (uintptr_t)shmem % FD_WKSP_ALIGN) {
    wksp__fail(WKSP_E_INVAL, "new: memory at %p, which must be a multiple of %lu and not NULL",
               shmem, FD_WKSP_ALIGN);
    return NULL;
  }
  if (!wksp__name_ok(name)) {
    wksp__fail(WKSP_E_INVAL,
               "new: \"%.64s\" is no name for a workspace: 1 to %lu letters, digits, '.', '_', "
               "'-', the first a letter or digit",
               name ? name : "", FD_WKSP_NAME_MAX);
    return NULL;
  }
  if (data_sz < WKSP_SPAN_SZ || data_sz > geom->data_max || data_sz % WKSP_SPAN_SZ) {
    wksp__fail(WKSP_E_INVAL, "new: %lu bytes of data at first: a multiple of %lu up to %lu",
               data_sz, WKSP_SPAN_SZ, geom->data_max);
    return NULL;
  }
  if (!page_is_zero(shmem)) {
    wksp__fail(WKSP_E_INVAL, "new: the memory at %p is not zero%s", shmem,
               hdr->magic == WKSP_MAGIC ? ", a workspace is there: delete it first"
                                        : ": clear all of it first");
    return NULL;
  }
  if (uuid_make(hdr->uuid)) return NULL;
  header_fill(hdr, name, seed, geom);
  /* they are zero, but so their pages are there; thousands of slots take pages as they are used */
  if (geom->slot_max != WKSP_SLOTS_MANY) wksp__slots_new(hdr);
  wksp__part_new(hdr, data_sz);
  return shmem;
}

static void *show(struct fd_wksp *hdr) {
  if (hdr) /* pairs with the acquire in wksp__header_check */
    wksp__st_release(&hdr->magic, WKSP_MAGIC);
  return hdr;
}

void *wksp__new_as(void *shmem, char const *name, uint seed, wksp__geom_t const *geom,
                   ulong data_sz) {
  return show(format(shmem, name, seed, geom, data_sz));
}

void *wksp__new_hidden(void *shmem, char const *name, uint seed, ulong part_max, ulong data_max,
                       ulong data_sz) {
  wksp__geom_t geom;
  if (!wksp__geom(&geom, part_max, data_max)) return format(shmem, name, seed, &geom, data_sz);
  wksp__fail(WKSP_E_INVAL,
             "new: part_max %lu and data_max %lu: they must lie in [%lu, %lu) and [%lu, %lu]",
             part_max, data_max, WKSP_PART_MAX_MIN, WKSP_PART_MAX_MAX, WKSP_SPAN_SZ,
             WKSP_DATA_MAX_MAX);
  return NULL;
}

void *wksp__new(void *shmem, char const *name, uint seed, ulong part_max, ulong data_max,
                ulong data_sz) {
  return show(wksp__new_hidden(shmem, name, seed, part_max, data_max, data_sz));
}

void *fd_wksp_new(void *shmem, char const *name, uint seed, ulong part_max, ulong data_max) {
  wksp__geom_t geom;
  ulong data_sz = wksp__geom(&geom, part_max, data_max) ? WKSP_SPAN_SZ : geom.data_max;
  return wksp__new(shmem, name, seed, part_max, data_max, data_sz);
}

static fd_wksp_t *join(void *shwksp, int ro) {
  struct fd_wksp *hdr = shwksp;
  if (!shwksp || (uintptr_t)shwksp % FD_WKSP_ALIGN) {
    wksp__fail(WKSP_E_INVAL, "join: memory at %p, which must be a multiple of %lu and not NULL",
               shwksp, FD_WKSP_ALIGN);
    return NULL;
  }
  if (wksp__header_check(hdr, 0)) return NULL;
  if (!ro && wksp__access(hdr) != WKSP_ACCESS_FULL) {
    wksp__fail(
        WKSP_E_VERSION,
        "join: workspace %s has a layout (%u) or features (0x%lx) with which this library can "
        "only read: join it read-only, or use a newer library",
        hdr->name, hdr->layout_version, hdr->ro_compat & ~WKSP_RO_COMPAT_KNOWN);
    return NULL;
  }
  return wksp__map_add(hdr, ro, 0, NULL, NULL) ? NULL : hdr;
}

fd_wksp_t *fd_wksp_join(void *shwksp) {
  return join(shwksp, 0);
}

fd_wksp_t *fd_wksp_join_ro(void const *shwksp) {
  return join((void *)(uintptr_t)shwksp, 1);
}

void *fd_wksp_leave(fd_wksp_t *wksp) {
  if (!wksp) {
    wksp__fail(WKSP_E_INVAL, "leave: the workspace is NULL");
    return NULL;
  }
  return wksp__map_drop(wksp) ? NULL : (void *)wksp;
}

void *fd_wksp_delete(void *shwksp) {
  struct fd_wksp *hdr = shwksp;
  if (!shwksp || (uintptr_t)shwksp % FD_WKSP_ALIGN || wksp__ld(&hdr->magic) != WKSP_MAGIC) {
    wksp__fail(WKSP_E_INVAL, "delete: there is no workspace at %p", shwksp);
    return NULL;
  }
  if (wksp__map_ro(hdr) >= 0) {
    wksp__fail(WKSP_E_BUSY, "delete: this process is joined to workspace %s: leave it first",
               hdr->name);
    return NULL;
  }
  wksp__st(&hdr->magic, 0UL);
  return shwksp;
}

/* Facts ---------------------------------------------------------------------------------------- */

char const *fd_wksp_name(fd_wksp_t const *wksp) {
  return wksp ? wksp->name : "";
}

uint fd_wksp_seed(fd_wksp_t const *wksp) {
  return wksp ? wksp__ld(&wksp->seed) : 0; /* reset changes it */
}

ulong fd_wksp_part_max(fd_wksp_t const *wksp) {
  return wksp ? wksp->part_max : 0;
}

ulong fd_wksp_gaddr_lo(fd_wksp_t const *wksp) {
  return wksp ? wksp->data_lo : 0;
}

ulong fd_wksp_gaddr_hi(fd_wksp_t const *wksp) {
  return wksp ? wksp->data_hi : 0;
}

ulong fd_wksp_data_max(fd_wksp_t const *wksp) {
  return wksp ? wksp->data_max : 0;
}

ulong fd_wksp_data_sz(fd_wksp_t const *wksp) {
  uint64_t data_sz;
  return wksp && !wksp__part_data_sz(wksp, &data_sz) ? data_sz : 0;
}

uint fd_wksp_owner(fd_wksp_t const *wksp) {
  if (!wksp) return 0;
  uint64_t name = wksp__ld(&wksp__vol(wksp)->lock);
  uint32_t idx = wksp__name_slot(name);
  if (!name || idx >= wksp->slot_max) return 0;
  return wksp__ld(&wksp__slots(wksp)[idx].pid);
}

/* Addresses ------------------------------------------------------------------------------------ */

void *fd_wksp_laddr(fd_wksp_t const *wksp, ulong gaddr) {
  if (!gaddr) return NULL;
  if (!wksp || gaddr < wksp->data_lo || gaddr > wksp->data_hi) {
    wksp__fail(WKSP_E_INVAL, "laddr: gaddr 0x%lx is outside the data region of workspace %s", gaddr,
               wksp ? wksp->name : "NULL");
    return NULL;
  }
  return fd_wksp_laddr_fast(wksp, gaddr);
}

ulong fd_wksp_gaddr(fd_wksp_t const *wksp, void const *laddr) {
  if (!laddr) return 0;
  ulong gaddr = wksp ? fd_wksp_gaddr_fast(wksp, laddr) : 0; /* below the workspace: wraps, large */
  if (!wksp || gaddr < wksp->data_lo || gaddr > wksp->data_hi) {
    wksp__fail(WKSP_E_INVAL, "gaddr: %p is outside the data region of workspace %s", laddr,
               wksp ? wksp->name : "NULL");
    return 0;
  }
  return gaddr;
}

fd_wksp_t *fd_wksp_containing(void const *laddr) {
  if (!laddr) return NULL;
  fd_wksp_t *wksp = wksp__map_containing(laddr);
  if (!wksp) wksp__fail(WKSP_E_NOTFOUND, "containing: %p is in no joined workspace", laddr);
  return wksp;
}

/* Partitions ----------------------------------------------------------------------------------- */

static int null_wksp(char const *what) {
  return wksp__fail(WKSP_E_INVAL, "%s: the workspace is NULL", what);
}

ulong fd_wksp_alloc_at_least(fd_wksp_t *wksp, ulong align, ulong sz, ulong tag, ulong *ret_lo,
                             ulong *ret_hi) {
  wksp__call_t call;
  uint64_t gaddr, size;
  if (!wksp) return null_wksp("alloc"), 0UL;
  if (!sz) return 0;
  if (!align) align = FD_WKSP_ALLOC_ALIGN_DEFAULT;
  if (align & (align - 1)) {
    wksp__fail(WKSP_E_INVAL, "alloc: alignment %lu is not a power of two", align);
    return 0;
  }
  if (!tag) {
    wksp__fail(WKSP_E_INVAL, "alloc: tag 0 is kept for free memory: use another");
    return 0;
  }
  if (align < FD_WKSP_PART_GRAIN) align = FD_WKSP_PART_GRAIN;
  if (wksp__call_enter(wksp, &call)) return 0;
  int rc;
  do
    rc = wksp__part_alloc(&call, WKSP_LOCK_CALL_NS, align, sz, tag, FD_WKSP_KIND_USER, NULL, NULL,
                          &gaddr, &size);
  while (rc == WKSP_E_NOMEM && wksp__own_grow(&call, align, sz));
  wksp__call_leave(&call);
  if (rc) return 0;
  if (ret_lo) *ret_lo = gaddr;
  if (ret_hi) *ret_hi = gaddr + size;
  return gaddr;
}

ulong fd_wksp_alloc(fd_wksp_t *wksp, ulong align, ulong sz, ulong tag) {
  return fd_wksp_alloc_at_least(wksp, align, sz, tag, NULL, NULL);
}

int fd_wksp_free(fd_wksp_t *wksp, ulong gaddr) {
  wksp__call_t call;
  if (!wksp) return null_wksp("free");
  int rc = wksp__call_enter(wksp, &call);
  if (rc) return rc;
  rc = wksp__part_free(&call, WKSP_LOCK_CALL_NS, gaddr, FD_WKSP_KIND_USER, 0, NULL, NULL);
  wksp__call_leave(&call);
  return rc;
}

void *fd_wksp_alloc_laddr(fd_wksp_t *wksp, ulong align, ulong sz, ulong tag) {
  ulong gaddr = fd_wksp_alloc(wksp, align, sz, tag);
  return gaddr ? fd_wksp_laddr_fast(wksp, gaddr) : NULL;
}

int fd_wksp_free_laddr(fd_wksp_t *wksp, void *laddr) {
  if (!wksp) return null_wksp("free_laddr");
  if (!laddr) return wksp__fail(WKSP_E_NOTFOUND, "free_laddr: NULL is in no partition");
  return fd_wksp_free(wksp, fd_wksp_gaddr_fast(wksp, laddr));
}

ulong fd_wksp_tag(fd_wksp_t *wksp, ulong gaddr) {
  fd_wksp_part_t part;
  if (!wksp) return null_wksp("tag"), 0UL;
  return wksp__part_find(wksp, gaddr, &part) == 1 ? part.tag : 0;
}

int fd_wksp_usage(fd_wksp_t *wksp, ulong const *tags, ulong tag_cnt, fd_wksp_usage_t *ret_usage) {
  if (!wksp) return null_wksp("usage");
  if (!ret_usage || (tag_cnt && !tags))
    return wksp__fail(WKSP_E_INVAL, "usage: ret_usage, or tags for a tag_cnt of %lu, is NULL",
                      tag_cnt);
  for (ulong i = 0; i < tag_cnt; i++)
    if (!tags[i])
      return wksp__fail(WKSP_E_INVAL, "usage: tags[%lu] is 0, which no partition has", i);
  return wksp__part_usage(wksp, tags, tag_cnt, ret_usage);
}

int fd_wksp_part_next(fd_wksp_t *wksp, ulong gaddr_from, fd_wksp_part_t *ret_part) {
  fd_wksp_part_t part;
  if (!wksp) return null_wksp("part_next");
  if (!ret_part) return wksp__fail(WKSP_E_INVAL, "part_next: ret_part is NULL");
  int rc = wksp__part_next(wksp, gaddr_from, &part);
  if (rc != 1) return rc;
  part.kind &= 0xff; /* what is above is fd_alloc's own */
  *ret_part = part;
  return 1;
}
