/* named: workspaces made and removed by the names and measures of the fd_wksp interface.

   A program of that interface counts pages, in parts that are to lie near given CPUs. The daemon
   counts bytes and divides them by a text, so parts are added up here and become one request.

   Refused: guessing a page size. Pages are what the caller counts in. */

#include "client/default.h"
#include "client/near.h"

#include "core/fail.h"

#include <stdio.h>

#define MODE_MAX 0777UL

/* Bytes of a placement's text, and shares that it may have in all: the daemon takes no more. */
#define NUMA_MAX   256U
#define SHARES_MAX 8192UL

static ulong gcd(ulong a, ulong b) {
  while (b) {
    ulong rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

/* What is wanted of the parts, in the language of wksp_create_t's numa: each cpu as often as its
   share of the pages says. Neighbours of one cpu are one part, empty parts are none. */
static int near_of(char const *name, ulong sub_cnt, ulong const *sub_page_cnt,
                   ulong const *sub_cpu_idx, char ret_numa[NUMA_MAX]) {
  ulong unit = 0, total = 0;
  size_t len = (size_t)snprintf(ret_numa, NUMA_MAX, "cpu:");
  for (int writes = 0; writes < 2; writes++) {
    for (ulong i = 0, next; i < sub_cnt; i = next) {
      ulong pages = 0;
      for (next = i; next < sub_cnt && (!sub_page_cnt[next] || sub_cpu_idx[next] == sub_cpu_idx[i]);
           next++)
        pages += sub_page_cnt[next];
      if (!pages) continue;
      if (!writes) {
        unit = gcd(unit, pages);
        total += pages; /* size_of has added them up before */
        continue;
      }
      char const *comma = ret_numa[len - 1] == ':' ? "" : ",";
      int more = pages == unit
                     ? snprintf(ret_numa + len, NUMA_MAX - len, "%s%lu", comma, sub_cpu_idx[i])
                     : snprintf(ret_numa + len, NUMA_MAX - len, "%s%lu*%lu", comma, sub_cpu_idx[i],
                                pages / unit);
      len += (size_t)more;
      if (len >= NUMA_MAX || total / unit > SHARES_MAX)
        return wksp__fail(
            WKSP_E_INVAL,
            "new_named %.64s: near which cpus its %lu parts are wanted is too long to "
            "say; use fewer parts, or page counts with a larger common divisor, or "
            "NULL for sub_cpu_idx",
            name, sub_cnt);
    }
  }
  return 0;
}

int fd_wksp_new_named(char const *name, ulong page_sz, ulong sub_cnt, ulong const *sub_page_cnt,
                      ulong const *sub_cpu_idx, ulong mode, uint seed, ulong part_max) {
  char numa[NUMA_MAX];
  wksp_create_t create = {.name = name, .page_size = page_sz, .seed = seed, .part_max = part_max};
  if (!name) return wksp__fail(WKSP_E_INVAL, "new_named: the name is NULL");
  if (page_sz != WKSP_PAGE_4K && page_sz != WKSP_PAGE_2M && page_sz != WKSP_PAGE_1G)
    return wksp__fail(WKSP_E_INVAL, "new_named %.64s: pages of %lu bytes: use %d, %d or %d", name,
                      page_sz, WKSP_PAGE_4K, WKSP_PAGE_2M, WKSP_PAGE_1G);
  if (mode > MODE_MAX)
    return wksp__fail(WKSP_E_INVAL, "new_named %.64s: mode 0%lo; permission bits are 0 to 0777",
                      name, mode);
  create.mode = (uint)mode;
  int err = wksp__near_size("new_named", name, page_sz, sub_cnt, sub_page_cnt, &create.size);
  if (!err && sub_cpu_idx) err = near_of(name, sub_cnt, sub_page_cnt, sub_cpu_idx, numa);
  if (err < 0) return err;
  if (sub_cpu_idx) create.numa = numa;
  wksp_client_t *client = wksp__client_default();
  return client ? wksp_client_create(client, &create, NULL) : wksp_last_error_code();
}

int fd_wksp_delete_named(char const *name) {
  if (!name) return wksp__fail(WKSP_E_INVAL, "delete_named: the name is NULL");
  wksp_client_t *client = wksp__client_default();
  return client ? wksp_client_remove(client, name, 0) : wksp_last_error_code();
}
