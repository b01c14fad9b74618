/* test_hostile: damages a workspace and then does everything with it that can be done to partitions
   and roots. What to damage and what to do is picked by whoever includes this: a random generator
   (part_hostile_test.c) or the bytes of a fuzzer (tests/fuzz/part_fuzz.c).

   What must be: no access outside the workspace (no memory for 4 GiB on either side), no call that
   does not end, and nothing handed out that lies outside the data region. Anything else may come of
   it: an error, or an answer that is as wrong as the damage.

   What is spared, and why: the header while somebody is joined (it is checked at each join and by
   verify, and constant in between, so it is damaged before the join only, but for verify); the slot
   that the calling thread holds, for the C library follows the pointers of its robust mutexes; a
   lock that is the caller's own or a gate that the caller itself has closed, which are waited for
   as long as their deadlines say. Writers of a workspace are one trust domain. */

#ifndef WKSP_CORE_TEST_HOSTILE_H
#define WKSP_CORE_TEST_HOSTILE_H

#include "core/atomic.h"
#include "core/call.h"
#include "core/layout.h"
#include "core/part.h"
#include "core/root.h"
#include "wksp/wksp.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOSTILE_GUARD    (4UL << 30)
#define HOSTILE_PART_MAX 48UL
#define HOSTILE_DATA_MAX (5UL << 16)
#define HOSTILE_TAGS     4UL
#define HOSTILE_REGIONS  9U
#define HOSTILE_DAMAGE   12U /* words at most */
#define HOSTILE_OPS      24U /* operations at most, after those that are always done */

/* A number in [0, cnt); of all, if cnt is 0. */
typedef uint64_t (*hostile_pick_t)(void *arg, uint64_t cnt);

typedef struct hostile_region {
  uint64_t lo, hi;   /* offsets */
  uint32_t used_cnt; /* words that are not 0 */
  uint32_t *used;    /* their places, in words from the start of the workspace */
} hostile_region_t;

typedef struct hostile {
  fd_wksp_t *wksp; /* where it is mapped */
  uint64_t footprint;
  ulong home;  /* the fd_alloc's gaddr */
  char *image; /* the whole of it before any damage, with nobody joined */
  hostile_region_t region[HOSTILE_REGIONS];
  hostile_pick_t pick;
  void *arg;
  uint64_t rounds, refused, found, held, rebuilt;
} hostile_t;

/* What must be, is. */
#define HOSTILE_CHECK(condition)                                              \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                \
    }                                                                         \
  } while (0)

static inline uint64_t hostile_pick(hostile_t *hostile, uint64_t cnt) {
  return hostile->pick(hostile->arg, cnt);
}

/* A workspace in which every structure has something --------------------------------------------
 */

/* A slot of a dead process, which holds the lock. */
static inline void hostile_dead_holder(fd_wksp_t *wksp) {
  wksp__call_t call;
  pid_t pid = fork();
  HOSTILE_CHECK(pid >= 0);
  if (!pid) _exit(wksp__call_begin(wksp, &call) || wksp__lock(&call, WKSP_LOCK_CALL_NS));
  int status;
  HOSTILE_CHECK(waitpid(pid, &status, 0) == pid && !status);
}

/* Returns where the fd_alloc is. */
static inline ulong hostile_fill(fd_wksp_t *wksp) {
  ulong gaddr[20];
  char name[16];
  for (uint32_t i = 0; i < 20; i++) {
    ulong size = i % 4 == 1 ? 4096 : i % 4 == 3 ? 8192 + 64 * i : 192;
    gaddr[i] = fd_wksp_alloc(wksp, 64, size, 1 + i % HOSTILE_TAGS);
    HOSTILE_CHECK(gaddr[i]);
  }
  void *shalloc = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), 9);
  fd_alloc_t *alloc = fd_alloc_join(fd_alloc_new(shalloc, 9), 0);
  HOSTILE_CHECK(alloc);
  for (uint32_t i = 0; i < 40; i++) HOSTILE_CHECK(fd_alloc_malloc(alloc, 0, 100));
  fd_alloc_leave(alloc);
  for (uint32_t i = 1; i < 20; i += 2) HOSTILE_CHECK(!fd_wksp_free(wksp, gaddr[i]));
  HOSTILE_CHECK(!fd_wksp_free(wksp, gaddr[12]));
  for (uint32_t i = 0; i < 5; i++) {
    snprintf(name, sizeof name, "root-%u", i);
    HOSTILE_CHECK(!fd_wksp_root_set(wksp, name, gaddr[2 * (i % 6)], 1 + i));
  }
  HOSTILE_CHECK(!fd_wksp_verify(wksp, NULL, NULL));
  return fd_wksp_gaddr(wksp, shalloc);
}

static inline void hostile_region_new(hostile_t *hostile, uint32_t i, uint64_t lo, uint64_t hi) {
  hostile_region_t *region = &hostile->region[i];
  uint64_t const *words = (uint64_t const *)hostile->image;
  *region = (hostile_region_t){.lo = lo, .hi = hi};
  for (int fill = 0; fill < 2; fill++) {
    region->used_cnt = 0;
    for (uint64_t at = lo / 8; at < hi / 8; at++) {
      if (!words[at]) continue;
      if (fill) region->used[region->used_cnt] = (uint32_t)at;
      region->used_cnt++;
    }
    if (!fill) region->used = calloc(region->used_cnt + 1UL, sizeof(uint32_t));
    HOSTILE_CHECK(region->used);
  }
}

static inline void hostile_new(hostile_t *hostile, hostile_pick_t pick, void *arg) {
  uint64_t footprint = fd_wksp_footprint(HOSTILE_PART_MAX, HOSTILE_DATA_MAX);
  HOSTILE_CHECK(footprint);
  char *at = mmap(NULL, footprint + 2 * HOSTILE_GUARD, PROT_NONE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  HOSTILE_CHECK(at != MAP_FAILED);
  at = mmap(at + HOSTILE_GUARD, footprint, PROT_READ | PROT_WRITE,
            MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  HOSTILE_CHECK(at != MAP_FAILED);
  *hostile = (hostile_t){.footprint = footprint, .pick = pick, .arg = arg};
  fd_wksp_t *wksp = fd_wksp_join(fd_wksp_new(at, "hostile", 7, HOSTILE_PART_MAX, HOSTILE_DATA_MAX));
  HOSTILE_CHECK(wksp);
  hostile->wksp = wksp;
  hostile->home = hostile_fill(wksp);
  hostile_dead_holder(wksp);
  HOSTILE_CHECK(fd_wksp_leave(wksp));
  hostile->image = malloc(footprint);
  HOSTILE_CHECK(hostile->image);
  memcpy(hostile->image, wksp, footprint);

  uint64_t slots = (uint64_t)wksp__slots(wksp) - (uint64_t)wksp;
  uint64_t const bounds[HOSTILE_REGIONS + 1] = {
      0,                  /* header */
      wksp->vol_off,      /* lock, version, what the record means */
      wksp->vol_off + 64, /* the record */
      slots,              /* slots */
      wksp->root_off,     /* roots */
      wksp->heap_off,     /* heap directory */
      wksp->part_off,     /* partitions */
      wksp->span_off,     /* spans */
      wksp->data_lo,      /* data */
      footprint};
  for (uint32_t i = 0; i < HOSTILE_REGIONS; i++)
    hostile_region_new(hostile, i, bounds[i], bounds[i + 1]);
  hostile->region[1].used_cnt = 0; /* few words, all of them worth it */
}

/* Damage --------------------------------------------------------------------------------------- */

static inline uint64_t *hostile_word(hostile_t *hostile, uint32_t region_at) {
  hostile_region_t const *region = &hostile->region[region_at];
  uint64_t *words = (uint64_t *)hostile->wksp;
  if (region->used_cnt && hostile_pick(hostile, 4))
    return &words[region->used[hostile_pick(hostile, region->used_cnt)]];
  return &words[region->lo / 8 + hostile_pick(hostile, (region->hi - region->lo) / 8)];
}

static inline void hostile_damage_word(hostile_t *hostile, uint32_t region) {
  uint64_t *at = hostile_word(hostile, region), is = *at;
  switch (hostile_pick(hostile, 10)) {
  case 0:
    *at = hostile_pick(hostile, 0);
    break;
  case 1:
    *at = is ^ 1UL << hostile_pick(hostile, 64);
    break;
  case 2:
    *at = hostile_pick(hostile, 64);
    break;
  case 3:
    *at = hostile_pick(hostile, 64) | hostile_pick(hostile, 64) << 32;
    break;
  case 4:
    *at = *hostile_word(hostile, region); /* another of the same */
    break;
  case 5:
    *at = is + 64 * (1 + hostile_pick(hostile, 8)) - 256;
    break;
  case 6:
    *at = hostile_pick(hostile, 2) ? 0 : ~0UL;
    break;
  case 7:
    *at = 1UL << hostile_pick(hostile, 64) | hostile_pick(hostile, 64);
    break;
  case 8:
    *at = is + 1 - 2 * hostile_pick(hostile, 2);
    break;
  default:
    *at = (is & ~0xffffffffUL) | hostile_pick(hostile, 1UL << 32);
    break;
  }
}

static inline void hostile_damage(hostile_t *hostile) {
  /* of 32: what is most looked at gets most */
  static uint8_t const region[32] = {0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5,
                                     6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 7, 7, 8, 8};
  for (uint64_t n = hostile_pick(hostile, HOSTILE_DAMAGE + 1); n; n--)
    hostile_damage_word(hostile, region[hostile_pick(hostile, 32)]);
}

/* Operations ----------------------------------------------------------------------------------- */

static inline int hostile_inside(hostile_t *hostile, ulong gaddr, ulong size) {
  fd_wksp_t *wksp = hostile->wksp;
  return gaddr >= wksp->data_lo && gaddr < wksp->data_hi && size <= wksp->data_hi - gaddr;
}

static inline ulong hostile_gaddr(hostile_t *hostile) {
  fd_wksp_t *wksp = hostile->wksp;
  if (!hostile_pick(hostile, 16)) return hostile_pick(hostile, 0);
  return wksp->data_lo + hostile_pick(hostile, wksp->data_hi - wksp->data_lo);
}

static inline void hostile_finding(void *arg, char const *sentence) {
  HOSTILE_CHECK(strlen(sentence) > 0);
  ++*(uint32_t *)arg;
}

static inline int hostile_verify(hostile_t *hostile) {
  uint32_t cnt = 0;
  int rc = fd_wksp_verify(hostile->wksp, hostile_finding, &cnt);
  HOSTILE_CHECK(rc <= 0 && (rc == WKSP_E_CORRUPT) == (cnt > 0) && cnt <= 64);
  return rc;
}

/* A walk as users do it: ends, since each partition has a size. */
static inline void hostile_walk(hostile_t *hostile) {
  fd_wksp_part_t part;
  int rc;
  for (ulong from = 0; (rc = fd_wksp_part_next(hostile->wksp, from, &part)) == 1;
       from = part.gaddr + part.size)
    HOSTILE_CHECK(part.size && part.gaddr >= from &&
                  hostile_inside(hostile, part.gaddr, part.size));
  HOSTILE_CHECK(rc <= 0);
}

static inline void hostile_tags(hostile_t *hostile) {
  fd_wksp_part_t info[8];
  ulong const tags[] = {1, 2, 3, 4, 9, 77};
  long cnt = fd_wksp_tag_query(hostile->wksp, tags, 6, info, 8);
  HOSTILE_CHECK(cnt <= (long)HOSTILE_PART_MAX);
  fd_wksp_usage_t usage;
  if (!fd_wksp_usage(hostile->wksp, tags, 6, &usage))
    HOSTILE_CHECK(usage.total_cnt <= usage.total_max && usage.free_cnt <= usage.total_cnt &&
                  usage.free_sz <= usage.total_sz);
  fd_wksp_usage(hostile->wksp, NULL, 0, &usage);
}

static inline char const *hostile_name(hostile_t *hostile, char *ret_name) {
  snprintf(ret_name, 16, "root-%lu", hostile_pick(hostile, 7));
  return ret_name;
}

static inline void hostile_roots(hostile_t *hostile) {
  char name[16];
  fd_wksp_root_t root;
  uint place = 0;
  for (uint32_t cnt = 0; fd_wksp_root_next(hostile->wksp, &place, &root) == 1; cnt++)
    HOSTILE_CHECK(cnt < FD_WKSP_ROOT_MAX && strlen(root.name) <= FD_WKSP_ROOT_NAME_MAX);
  fd_wksp_root_find(hostile->wksp, hostile_name(hostile, name), &root);
}

static inline int hostile_line(void *arg, char const *line) {
  HOSTILE_CHECK(strlen(line) < 4096);
  return ++*(uint32_t *)arg > 10000; /* a listing that goes on and on is as bad as a loop */
}

static inline void hostile_list(hostile_t *hostile) {
  uint32_t lines = 0;
  fd_wksp_list(hostile->wksp, hostile_line, &lines);
  HOSTILE_CHECK(lines <= HOSTILE_PART_MAX + FD_WKSP_ROOT_MAX + 100);
}

static inline void hostile_alloc(hostile_t *hostile) {
  ulong align = hostile_pick(hostile, 2) ? 64 : 1UL << hostile_pick(hostile, 20);
  ulong size = 1 + hostile_pick(hostile, 1UL << hostile_pick(hostile, 19)), lo = 0, hi = 0;
  ulong gaddr = fd_wksp_alloc_at_least(hostile->wksp, align, size,
                                       1 + hostile_pick(hostile, HOSTILE_TAGS), &lo, &hi);
  if (gaddr)
    HOSTILE_CHECK(gaddr % align == 0 && lo == gaddr && hi - lo >= size &&
                  hostile_inside(hostile, lo, hi - lo));
}

/* Not what the fd_alloc stands in: that would be a mistake of the caller's, and nobody's but his.
 */
static inline void hostile_free(hostile_t *hostile) {
  ulong gaddr = hostile_gaddr(hostile);
  fd_wksp_part_t part;
  int found = wksp__part_find(hostile->wksp, gaddr, &part);
  if (found != 1 || hostile->home < part.gaddr || hostile->home - part.gaddr >= part.size)
    fd_wksp_free(hostile->wksp, gaddr);
}

static inline void hostile_op(hostile_t *hostile) {
  fd_wksp_t *wksp = hostile->wksp;
  ulong tag = 1 + hostile_pick(hostile, HOSTILE_TAGS);
  char name[16];
  switch (hostile_pick(hostile, 16)) {
  case 0:
    hostile_verify(hostile);
    break;
  case 1:
    hostile_walk(hostile);
    break;
  case 2:
    hostile_tags(hostile);
    break;
  case 3:
    hostile_roots(hostile);
    break;
  case 4:
    fd_wksp_tag(wksp, hostile_gaddr(hostile));
    break;
  case 5:
    fd_wksp_tag_free(wksp, &tag, 1);
    break;
  case 6:
    fd_wksp_root_set(wksp, hostile_name(hostile, name), hostile_gaddr(hostile), tag);
    break;
  case 7:
    fd_wksp_root_remove(wksp, hostile_name(hostile, name));
    break;
  case 8:
    fd_wksp_reset(wksp, (uint)tag);
    break;
  case 9:
    fd_wksp_memset(wksp, hostile_gaddr(hostile), 0xee);
    break;
  case 10:
  case 11:
  case 12:
    hostile_alloc(hostile);
    break;
  default:
    hostile_free(hostile);
    break;
  }
}

/* A round -------------------------------------------------------------------------------------- */

/* Takes this thread's slot. 0, or an error: then none is to be had. A lock whose word names
   somebody who seems to live (a damaged slot can say that of the dead, and a damaged lock can name
   us) is waited for as long as the caller wants and no longer; that once, and it is put right, or
   each operation would take its ten seconds. */
static inline int hostile_slot(hostile_t *hostile) {
  wksp__call_t call;
  int rc = wksp__call_begin(hostile->wksp, &call);
  if (rc) return rc;
  wksp__vol_t *vol = wksp__vol(hostile->wksp);
  uint64_t name = vol->lock;
  if (name && !wksp__name_dead(hostile->wksp, name)) {
    rc = wksp__lock(&call, 1000000);
    /* E_BUSY: it names us. Who seemed to live may be a process by its number alone, which has
       ended meanwhile. */
    if (rc == WKSP_E_BUSY)
      HOSTILE_CHECK(name == call.name);
    else
      HOSTILE_CHECK(rc == WKSP_E_TIMEDOUT || wksp__name_dead(hostile->wksp, name));
    if (!rc) wksp__unlock(&call);
    vol->lock = 0;
    rc = 0;
    hostile->held++;
  }
  wksp__call_end(&call);
  return 0;
}

/* What a read-only join can do, in memory that cannot be written. */
static inline void hostile_readonly(hostile_t *hostile) {
  HOSTILE_CHECK(!mprotect(hostile->wksp, hostile->footprint, PROT_READ));
  fd_wksp_t *wksp = fd_wksp_join_ro(hostile->wksp);
  if (wksp) {
    hostile_walk(hostile);
    hostile_tags(hostile);
    hostile_roots(hostile);
    hostile_list(hostile);
    hostile_verify(hostile);
    fd_wksp_tag(wksp, hostile_gaddr(hostile));
    HOSTILE_CHECK(!fd_wksp_alloc(wksp, 64, 64, 1));
    HOSTILE_CHECK(fd_wksp_free(wksp, hostile_gaddr(hostile)) == WKSP_E_RDONLY);
    HOSTILE_CHECK(fd_wksp_reset(wksp, 1) == WKSP_E_RDONLY);
    HOSTILE_CHECK(fd_wksp_leave(wksp) == wksp);
  }
  HOSTILE_CHECK(!mprotect(hostile->wksp, hostile->footprint, PROT_READ | PROT_WRITE));
}

static inline void hostile_loss(void *arg, char const *sentence) {
  HOSTILE_CHECK(strlen(sentence) > 0);
  ++*(uint32_t *)arg;
}

static inline void hostile_sound(hostile_t *hostile, char const *when) {
  if (!hostile_verify(hostile)) return;
  fprintf(stderr, "%s: %s\n", when, wksp_last_error());
  abort();
}

/* Rebuilds: then there is nothing left to find, and partitions can be used. It may not be possible:
   a damaged slot can seem to be a living thread's that owns a heap. */
static inline void hostile_rebuild(hostile_t *hostile) {
  uint32_t lost = 0;
  int rc = fd_wksp_rebuild(hostile->wksp, 5, hostile_loss, &lost);
  HOSTILE_CHECK(rc == 0 || rc == WKSP_E_BUSY);
  HOSTILE_CHECK(lost <= 257);
  if (rc) return;
  hostile->rebuilt++;
  hostile_sound(hostile, "after a rebuild");
  HOSTILE_CHECK(fd_wksp_seed(hostile->wksp) == 5);
  hostile_walk(hostile);
  hostile_roots(hostile);
  for (uint64_t n = hostile_pick(hostile, HOSTILE_OPS + 1); n; n--) hostile_op(hostile);
  hostile_sound(hostile, "after use of what was rebuilt");
}

/* Damages, joins, does everything once and some of it again, leaves, and puts the memory back. */
static inline void hostile_round(hostile_t *hostile) {
  hostile->rounds++;
  hostile_damage(hostile);
  if (!hostile_pick(hostile, 4)) hostile_readonly(hostile);
  fd_wksp_t *wksp = fd_wksp_join(hostile->wksp);
  if (!wksp) hostile->refused++;
  if (wksp && !hostile_slot(hostile)) {
    fd_wksp_owner(wksp);
    hostile_walk(hostile); /* before anybody has taken the lock and recovered */
    hostile_tags(hostile);
    hostile_roots(hostile);
    hostile->found += hostile_verify(hostile) == WKSP_E_CORRUPT;
    hostile_list(hostile);
    hostile_walk(hostile);
    hostile_tags(hostile);
    for (uint64_t n = hostile_pick(hostile, HOSTILE_OPS + 1); n; n--) hostile_op(hostile);
    hostile_verify(hostile);
    if (hostile_pick(hostile, 2)) hostile_rebuild(hostile);
    if (!hostile_pick(hostile, 8)) { /* a header that goes bad under those who are joined */
      hostile_damage_word(hostile, 0);
      hostile_verify(hostile);
      memcpy(wksp, hostile->image, sizeof(struct fd_wksp));
    }
  }
  if (wksp) HOSTILE_CHECK(fd_wksp_leave(wksp) == wksp);
  memcpy(hostile->wksp, hostile->image, hostile->footprint);
}

#endif
