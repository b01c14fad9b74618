/* compat: for programs that were written against the published fd_wksp / fd_alloc interface.

   Include this in place of that interface's headers. Most of its calls are ours as they are; here
   is what is not: names that we spell otherwise, and calls whose arguments or return differ, as
   inlines that are put in the place of ours by macros. So a program either includes this header and
   sees the published forms, or does not and sees ours. docs/compat.md lists every call, and what no
   header can bridge.

   Needs nothing but the headers beside it. The contracts are those of fd_wksp.h and fd_alloc.h
   except for what is said here. */

#ifndef WKSP_COMPAT_H
#define WKSP_COMPAT_H

#include "wksp.h"

#include <stdlib.h>

/* Defined where the published forms are in effect. */
#define WKSP_COMPAT 1

/* The published codes. A bridge returns no others: what is neither bad arguments nor damage is
   FAIL. wksp_last_error_code() keeps ours. */
#define FD_WKSP_SUCCESS     (0)
#define FD_WKSP_ERR_INVAL   (-1)
#define FD_WKSP_ERR_FAIL    (-2)
#define FD_WKSP_ERR_CORRUPT (-3)

#define FD_WKSP_ALIGN_DEFAULT FD_WKSP_ALLOC_ALIGN_DEFAULT

/* A call, not a constant: how much metadata there is follows from a layout with a few steps. */
#define FD_WKSP_FOOTPRINT(part_max, data_max) fd_wksp_footprint((part_max), (data_max))

#define FD_ALLOC_JOIN_CGROUP_CNT (FD_ALLOC_JOIN_CGROUP_HINT_MAX + 1UL)

/* Of the published fd_shmem: a name's bytes with its NUL, and the sizes of pages. */
#define FD_SHMEM_NAME_MAX         (FD_WKSP_NAME_MAX + 1UL)
#define FD_SHMEM_NORMAL_PAGE_SZ   (4096UL)
#define FD_SHMEM_HUGE_PAGE_SZ     (2097152UL)
#define FD_SHMEM_GIGANTIC_PAGE_SZ (1073741824UL)

typedef struct fd_wksp_tag_query_info {
  ulong gaddr_lo; /* the partition is [gaddr_lo, gaddr_hi) */
  ulong gaddr_hi;
  ulong tag;
} fd_wksp_tag_query_info_t;

WKSP_PROTOTYPES_BEGIN

static inline int wksp_compat_err(int err) {
  if (!err || err == WKSP_E_INVAL || err == WKSP_E_CORRUPT) return err;
  return FD_WKSP_ERR_FAIL;
}

/* The holder of the lock, ULONG_MAX if there is none. */
static inline ulong wksp_compat_owner(fd_wksp_t const *wksp) {
  uint pid = fd_wksp_owner(wksp);
  return pid ? (ulong)pid : ~0UL;
}

static inline int wksp_compat_verify(fd_wksp_t *wksp) {
  return wksp_compat_err(fd_wksp_verify(wksp, NULL, NULL));
}

static inline int wksp_compat_rebuild(fd_wksp_t *wksp, uint seed) {
  return wksp_compat_err(fd_wksp_rebuild(wksp, seed, NULL, NULL));
}

static inline int wksp_compat_by_gaddr(void const *a, void const *b) {
  ulong lo = ((fd_wksp_part_t const *)a)->gaddr, hi = ((fd_wksp_part_t const *)b)->gaddr;
  return lo < hi ? -1 : lo > hi;
}

/* In the order of addresses, of one moment. Takes memory for all that are found. 0 on failure too.
 */
static inline ulong wksp_compat_tag_query(fd_wksp_t *wksp, ulong const *tag, ulong tag_cnt,
                                          fd_wksp_tag_query_info_t *info, ulong info_max) {
  long cnt = fd_wksp_tag_query(wksp, tag, tag_cnt, NULL, 0), room;
  if (cnt <= 0 || !info_max) return cnt > 0 ? (ulong)cnt : 0UL;
  if (!info) return 0;
  fd_wksp_part_t *part = NULL;
  do { /* until no more came in between: others would have to allocate faster than we look */
    room = cnt + cnt / 2;
    free(part);
    part = (fd_wksp_part_t *)calloc((size_t)room, sizeof *part);
    cnt = part ? fd_wksp_tag_query(wksp, tag, tag_cnt, part, (ulong)room) : 0;
  } while (cnt > room);
  if (cnt > 0) qsort(part, (size_t)cnt, sizeof *part, wksp_compat_by_gaddr);
  for (long i = 0; i < cnt && (ulong)i < info_max; i++) {
    info[i].gaddr_lo = part[i].gaddr;
    info[i].gaddr_hi = part[i].gaddr + part[i].size;
    info[i].tag = part[i].tag;
  }
  free(part);
  return cnt > 0 ? (ulong)cnt : 0UL;
}

/* No tags: nothing is counted as used; tag 0 counts what is free as used too. All 0 on failure.
   Returns usage. */
static inline fd_wksp_usage_t *wksp_compat_usage(fd_wksp_t *wksp, ulong const *tag, ulong tag_cnt,
                                                 fd_wksp_usage_t *usage) {
  fd_wksp_usage_t got = {0, 0, 0, 0, 0, 0, 0, 0}, none = got;
  ulong *some = tag_cnt && tag ? (ulong *)calloc(tag_cnt, sizeof *some) : NULL, cnt = 0;
  int with_free = 0, bad = tag_cnt && !some;
  for (ulong i = 0; i < tag_cnt && some; i++) {
    if (tag[i])
      some[cnt++] = tag[i];
    else
      with_free = 1;
  }
  if (bad || fd_wksp_usage(wksp, cnt ? some : NULL, cnt, &got)) {
    got = none;
  } else {
    if (!cnt) got.used_cnt = got.used_sz = 0;
    if (with_free) {
      got.used_cnt += got.free_cnt;
      got.used_sz += got.free_sz;
    }
  }
  free(some);
  if (usage) *usage = got;
  return usage;
}

static inline int wksp_compat_new_named(char const *name, ulong page_sz, ulong sub_cnt,
                                        ulong const *sub_page_cnt, ulong const *sub_cpu_idx,
                                        ulong mode, uint seed, ulong opt_part_max) {
  return wksp_compat_err(fd_wksp_new_named(name, page_sz, sub_cnt, sub_page_cnt, sub_cpu_idx, mode,
                                           seed, opt_part_max));
}

static inline int wksp_compat_delete_named(char const *name) {
  return wksp_compat_err(fd_wksp_delete_named(name));
}

static inline fd_wksp_t *wksp_compat_new_anon(char const *name, ulong page_sz, ulong sub_cnt,
                                              ulong const *sub_page_cnt, ulong const *sub_cpu_idx,
                                              uint seed, ulong opt_part_max) {
  return fd_wksp_new_anon_near(name, page_sz, sub_cnt, sub_page_cnt, sub_cpu_idx, seed,
                               opt_part_max);
}

static inline fd_wksp_t *fd_wksp_new_anonymous(ulong page_sz, ulong page_cnt, ulong cpu_idx,
                                               char const *name, ulong opt_part_max) {
  return wksp_compat_new_anon(name, page_sz, 1UL, &page_cnt, &cpu_idx, 0U, opt_part_max);
}

static inline void fd_wksp_delete_anonymous(fd_wksp_t *wksp) {
  fd_wksp_delete_anon(wksp);
}

static inline void wksp_compat_free_laddr(void *laddr) {
  fd_wksp_t *wksp = fd_wksp_containing(laddr);
  if (wksp) (void)fd_wksp_free_laddr(wksp, laddr);
}

/* flag 1: nothing of the workspace can be written by this process, 0: everything can; see
 * fd_wksp_mprotect for what else that means. */
static inline void wksp_compat_mprotect(fd_wksp_t *wksp, int flag) {
  (void)fd_wksp_mprotect(wksp, FD_WKSP_PROTECT_ALL, flag ? 1 : 3); /* PROT_READ, and PROT_WRITE */
}

static inline void wksp_compat_alloc_compact(fd_alloc_t *join) {
  (void)fd_alloc_compact(join, NULL);
}

WKSP_PROTOTYPES_END

/* From here on the names mean the published forms. */
#define fd_wksp_owner        wksp_compat_owner
#define fd_wksp_verify       wksp_compat_verify
#define fd_wksp_rebuild      wksp_compat_rebuild
#define fd_wksp_tag_query    wksp_compat_tag_query
#define fd_wksp_usage        wksp_compat_usage
#define fd_wksp_new_named    wksp_compat_new_named
#define fd_wksp_delete_named wksp_compat_delete_named
#define fd_wksp_new_anon     wksp_compat_new_anon
#define fd_wksp_free_laddr   wksp_compat_free_laddr
#define fd_wksp_mprotect     wksp_compat_mprotect
#define fd_alloc_compact     wksp_compat_alloc_compact

#endif
