/* tag: what is done to many partitions at once: found or freed by tag, cleared, all given back.

   Problem: these touch as many partitions as there are, and the lock is everybody's. So what only
   looks goes without it (wksp__read_run), and what frees holds it for a few partitions at a time,
   each in a change of its own: a kill in between leaves fewer partitions and a sound table.

   Model. A tag's partitions are a ring, found by the tag's hash. tag_free takes down a list of it
   first and then frees each that is still there and still so tagged: the ring also has partitions
   which are not ours to free, and starting over from its first after each hold would look at these
   again and again. reset goes by address, which needs no list.

   What it refuses: to free or overwrite memory in which an fd_alloc lies. Its directory entry would
   stay, and its spans would belong to nobody. */

#include "core/alloc.h"
#include "core/atomic.h"
#include "core/call.h"
#include "core/fail.h"
#include "core/layout.h"
#include "core/part.h"
#include "core/part_priv.h"

#include <stdlib.h>
#include <string.h>

/* Partitions in one hold of the lock: some ten microseconds. */
#define TAG_BATCH_MAX 16U

static int tags_check(char const *what, fd_wksp_t const *wksp, ulong const *tags, ulong tag_cnt) {
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "%s: the workspace is NULL", what);
  if (tag_cnt && !tags)
    return wksp__fail(WKSP_E_INVAL, "%s: tags for a tag_cnt of %lu is NULL", what, tag_cnt);
  for (ulong i = 0; i < tag_cnt; i++)
    if (!tags[i])
      return wksp__fail(WKSP_E_INVAL, "%s: tags[%lu] is 0, which no partition has", what, i);
  return 0;
}

static int among(ulong const *tags, ulong cnt, ulong tag) {
  for (ulong i = 0; i < cnt; i++)
    if (tags[i] == tag) return 1;
  return 0;
}

static int report_damaged(char const *what, fd_wksp_t const *wksp) {
  return wksp__fail(WKSP_E_CORRUPT,
                    "%s: workspace %s: the partition table is damaged: verify tells where", what,
                    wksp->name);
}

/* That this process may change it, before anything else is tried. */
static int writable(fd_wksp_t *wksp) {
  wksp__call_t call;
  int rc = wksp__call_begin(wksp, &call);
  if (!rc) wksp__call_end(&call);
  return rc;
}

/* Looks ---------------------------------------------------------------------------------------- */

typedef struct tag_look {
  fd_wksp_t const *wksp;
  ulong const *tags;
  ulong tag_cnt;
  fd_wksp_part_t *infos;
  ulong info_max;
  ulong cnt;
} tag_look_t;

/* Takes down one tag's ring. Every member is checked to be of this tag, so that all rings together
 * have no more members than there are partitions, whatever the memory says. */
static void look_ring(wksp__pop_t *op, ulong tag, tag_look_t *look) {
  uint32_t first = wksp__tag_first(op, tag), idx = first;
  if (!first) return;
  for (uint64_t steps = 0; steps <= op->part_max && !op->bad; steps++) {
    fd_wksp_part_t part = {.gaddr = wksp__ent_gaddr(op, idx),
                           .size = wksp__ent_size(op, idx),
                           .tag = wksp__ent_get(op, idx, WKSP_PART_TAG),
                           .kind = wksp__ent_kind(op, idx) & 0xff};
    if (part.tag != tag || !part.kind || part.kind == WKSP_PART_FREE) break;
    if (look->cnt < look->info_max) look->infos[look->cnt] = part;
    look->cnt++;
    idx = wksp__ent_hi(op, idx, WKSP_PART_LIST);
    if (idx == first) return;
  }
  op->bad = 1;
}

static int look_tags(void *arg) {
  tag_look_t *look = arg;
  wksp__pop_t op;
  wksp__pop_begin(&op, look->wksp);
  look->cnt = 0;
  for (ulong i = 0; i < look->tag_cnt && !op.bad; i++)
    if (!among(look->tags, i, look->tags[i])) look_ring(&op, look->tags[i], look);
  return op.bad ? WKSP_E_CORRUPT : 0;
}

long fd_wksp_tag_query(fd_wksp_t *wksp, ulong const *tags, ulong tag_cnt, fd_wksp_part_t *infos,
                       ulong info_max) {
  int rc = tags_check("tag_query", wksp, tags, tag_cnt);
  if (rc) return rc;
  if (info_max && !infos)
    return wksp__fail(WKSP_E_INVAL, "tag_query: infos for an info_max of %lu is NULL", info_max);
  tag_look_t look = {
      .wksp = wksp, .tags = tags, .tag_cnt = tag_cnt, .infos = infos, .info_max = info_max};
  rc = wksp__read_run(wksp, look_tags, &look);
  if (rc == WKSP_E_CORRUPT) return report_damaged("tag_query", wksp);
  return rc ? rc : (long)look.cnt;
}

/* fd_allocs ------------------------------------------------------------------------------------ */

/* The next fd_alloc's gaddr after place *at of the directory, 0 at its end. Start with 0. */
static uint64_t home_next(fd_wksp_t const *wksp, uint32_t *at) {
  while (++*at < wksp->heap_max) {
    uint64_t dir = wksp__ld_acquire(&wksp__heap_dir(wksp)[*at]);
    if (DIR_WHAT(dir) == DIR_HOME && DIR_GADDR(dir)) return DIR_GADDR(dir);
  }
  return 0;
}

/* How many there are in [lo, hi). */
static uint32_t homes_in(fd_wksp_t const *wksp, uint64_t lo, uint64_t hi) {
  uint32_t cnt = 0, at = 0;
  for (uint64_t gaddr; (gaddr = home_next(wksp, &at));) cnt += gaddr >= lo && gaddr < hi;
  return cnt;
}

/* How many there are in partitions with these tags: 0 or E_BUSY (reported), or why that cannot be
 * told. */
static int homes_none(fd_wksp_t const *wksp, ulong const *tags, ulong tag_cnt) {
  uint32_t cnt = 0, at = 0;
  for (uint64_t gaddr; (gaddr = home_next(wksp, &at));) {
    fd_wksp_part_t part;
    int rc = wksp__part_find(wksp, gaddr, &part);
    if (rc < 0) return rc;
    cnt += rc && part.kind == FD_WKSP_KIND_USER && among(tags, tag_cnt, part.tag);
  }
  if (!cnt) return 0;
  return wksp__fail(WKSP_E_BUSY,
                    "tag_free: workspace %s: %u fd_alloc%s in partitions with these tags: delete "
                    "%s first",
                    wksp->name, cnt, cnt == 1 ? " lies" : "s lie", cnt == 1 ? "it" : "them");
}

/* Changes -------------------------------------------------------------------------------------- */

/* Starts a changing call with the lock held. */
static int begin(fd_wksp_t *wksp, wksp__call_t *ret_call) {
  int rc = wksp__call_begin(wksp, ret_call);
  if (rc) return rc;
  rc = wksp__lock(ret_call, WKSP_LOCK_CALL_NS);
  if (rc) wksp__call_end(ret_call);
  return rc;
}

static void end(wksp__call_t *call) {
  wksp__unlock(call);
  wksp__call_end(call);
}

/* Frees those of the list that are still as they were. How many, or E_*. */
static long free_listed(fd_wksp_t *wksp, fd_wksp_part_t const *parts, ulong cnt) {
  long freed = 0;
  int rc = 0;
  for (ulong i = 0; i < cnt;) {
    wksp__call_t call;
    rc = begin(wksp, &call);
    if (rc) return rc;
    for (uint32_t n = 0; n < TAG_BATCH_MAX && i < cnt && rc >= 0; n++, i++) {
      if (parts[i].kind != FD_WKSP_KIND_USER) continue;
      rc = wksp__part_free_locked(&call, parts[i].gaddr, FD_WKSP_KIND_USER, parts[i].tag, NULL,
                                  NULL);
      freed += rc == 1;
    }
    end(&call);
    if (rc < 0) return rc;
  }
  return freed;
}

long fd_wksp_tag_free(fd_wksp_t *wksp, ulong const *tags, ulong tag_cnt) {
  int rc = tags_check("tag_free", wksp, tags, tag_cnt);
  if (!rc) rc = writable(wksp);
  if (!rc) rc = homes_none(wksp, tags, tag_cnt);
  if (rc) return rc;
  long cnt = fd_wksp_tag_query(wksp, tags, tag_cnt, NULL, 0);
  if (cnt <= 0) return cnt;
  fd_wksp_part_t *parts = calloc((size_t)cnt, sizeof *parts);
  if (!parts)
    return wksp__fail(WKSP_E_NOMEM, "tag_free: out of memory for a list of %ld partitions", cnt);
  long listed = fd_wksp_tag_query(wksp, tags, tag_cnt, parts, (ulong)cnt);
  if (listed > cnt) listed = cnt; /* some are newer than this call */
  long ret = listed > 0 ? free_listed(wksp, parts, (ulong)listed) : listed;
  free(parts);
  return ret;
}

int fd_wksp_memset(fd_wksp_t *wksp, ulong gaddr, int c) {
  fd_wksp_part_t part = {0};
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "memset: the workspace is NULL");
  int rc = writable(wksp);
  if (rc) return rc;
  rc = wksp__part_find(wksp, gaddr, &part);
  if (rc < 0) return rc;
  if (!rc || part.kind != FD_WKSP_KIND_USER)
    return wksp__fail(WKSP_E_NOTFOUND, "memset: workspace %s: gaddr 0x%lx is %s", wksp->name, gaddr,
                      rc ? "in a partition that belongs to an fd_alloc" : "not allocated");
  if (part.gaddr < wksp->data_lo || part.gaddr > wksp->data_hi ||
      part.size > wksp->data_hi - part.gaddr)
    return report_damaged("memset", wksp);
  uint32_t homes = homes_in(wksp, part.gaddr, part.gaddr + part.size);
  if (homes)
    return wksp__fail(WKSP_E_BUSY,
                      "memset: workspace %s: %u fd_alloc%s in the partition at 0x%lx: delete %s "
                      "first",
                      wksp->name, homes, homes == 1 ? " lies" : "s lie", part.gaddr,
                      homes == 1 ? "it" : "them");
  memset(fd_wksp_laddr_fast(wksp, part.gaddr), c, part.size);
  return 0;
}

/* Each by its name, so each in its own change. A root is taken from the directory once, so this
 * ends even if its words are damaged. */
static int roots_remove(fd_wksp_t *wksp) {
  fd_wksp_root_t root;
  uint place = 0;
  int rc;
  while ((rc = fd_wksp_root_next(wksp, &place, &root)) == 1) {
    rc = fd_wksp_root_remove(wksp, root.name);
    if (rc == WKSP_E_INVAL || rc == WKSP_E_NOTFOUND)
      return wksp__fail(WKSP_E_CORRUPT,
                        "reset: workspace %s: the root directory is damaged at place %u: verify "
                        "tells more",
                        wksp->name, place - 1);
    if (rc) return rc;
  }
  return rc;
}

/* Frees what is of kind USER. Addresses only go up, so this ends whatever the table says. */
static int parts_free(fd_wksp_t *wksp) {
  uint64_t from = wksp->data_lo;
  int more = 1;
  while (more == 1) {
    wksp__call_t call;
    int rc = begin(wksp, &call);
    if (rc) return rc;
    for (uint32_t n = 0; n < TAG_BATCH_MAX && rc >= 0; n++) {
      fd_wksp_part_t part;
      more = wksp__part_look_next(wksp, from, &part);
      if (more != 1) break;
      if (!part.size || part.gaddr < from || part.size > wksp->data_hi - part.gaddr) {
        more = WKSP_E_CORRUPT;
        break;
      }
      from = part.gaddr + part.size;
      if (part.kind == FD_WKSP_KIND_USER)
        rc = wksp__part_free_locked(&call, part.gaddr, FD_WKSP_KIND_USER, 0, NULL, NULL);
    }
    end(&call);
    if (rc < 0) return rc;
  }
  return more == WKSP_E_CORRUPT ? report_damaged("reset", wksp) : 0;
}

int fd_wksp_reset(fd_wksp_t *wksp, uint seed) {
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "reset: the workspace is NULL");
  int rc = writable(wksp);
  if (rc) return rc;
  uint32_t homes = homes_in(wksp, wksp->data_lo, wksp->data_hi);
  if (homes)
    return wksp__fail(WKSP_E_BUSY,
                      "reset: workspace %s has %u fd_alloc%s, which would lose what they stand in: "
                      "delete %s first",
                      wksp->name, homes, homes == 1 ? "" : "s", homes == 1 ? "it" : "them");
  rc = roots_remove(wksp);
  if (!rc) rc = parts_free(wksp);
  if (!rc) wksp__st(&wksp->seed, seed);
  return rc;
}
