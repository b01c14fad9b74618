/* near: workspaces without a daemon whose parts lie near cpus, as programs of the fd_wksp interface
   ask for.

   Which node a cpu is on is said by a name in a folder of the cpu, so nothing has to be read, and
   no library is needed for it. A machine without nodes has no such names, and nothing to choose.

   Refused: cpus that are not there, since nothing says where they would be. One that is offline has
   its memory all the same. */

#include "client/near.h"

#include "core/anon.h"
#include "core/fail.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PATH_MAX_LEN 512

int wksp__near_size(char const *call, char const *name, ulong page_sz, ulong sub_cnt,
                    ulong const *sub_page_cnt, ulong *ret_size) {
  ulong pages = 0, size = 0;
  if (!sub_cnt || !sub_page_cnt)
    return wksp__fail(WKSP_E_INVAL, "%s %.64s: %s", call, name,
                      sub_cnt ? "sub_page_cnt is NULL" : "sub_cnt is 0, so there are no pages");
  for (ulong i = 0; i < sub_cnt; i++)
    if (__builtin_add_overflow(pages, sub_page_cnt[i], &pages))
      return wksp__fail(WKSP_E_INVAL, "%s %.64s: the parts add up to 2^64 pages or more", call,
                        name);
  if (__builtin_mul_overflow(pages, page_sz, &size) || !size)
    return wksp__fail(WKSP_E_INVAL,
                      "%s %.64s: %lu pages of %lu bytes: that is nothing, or 2^64 bytes or more",
                      call, name, pages, page_sz);
  *ret_size = size;
  return 0;
}

int wksp__near_node(char const *sys, ulong cpu, int *ret_node) {
  char path[PATH_MAX_LEN];
  for (int node = 0; node < WKSP__ANON_NODES_MAX; node++) {
    snprintf(path, sizeof path, "%.400s/devices/system/cpu/cpu%lu/node%d", sys, cpu, node);
    if (access(path, F_OK)) continue;
    *ret_node = node;
    return 0;
  }
  snprintf(path, sizeof path, "%.400s/devices/system/node", sys);
  if (!access(path, F_OK)) return 1;
  snprintf(path, sizeof path, "%.400s/devices/system/cpu/cpu%lu", sys, cpu);
  if (access(path, F_OK)) return 1;
  *ret_node = -1;
  return 0;
}

/* The node of each part that has pages. 0 or E_INVAL, reported. */
static int nodes_of(char const *name, ulong sub_cnt, ulong const *sub_page_cnt,
                    ulong const *sub_cpu_idx, wksp__anon_part_t *ret_parts) {
  for (ulong i = 0; i < sub_cnt; i++) {
    ret_parts[i] = (wksp__anon_part_t){.page_cnt = sub_page_cnt[i], .node = -1};
    /* most parts are near the cpu of the one before */
    if (i && sub_cpu_idx[i] == sub_cpu_idx[i - 1] && sub_page_cnt[i - 1])
      ret_parts[i].node = ret_parts[i - 1].node;
    else if (sub_page_cnt[i] && wksp__near_node("/sys", sub_cpu_idx[i], &ret_parts[i].node))
      return wksp__fail(WKSP_E_INVAL,
                        "new_anon_near %.64s: cpu %lu of part %lu is not there; lscpu lists those "
                        "that are",
                        name, sub_cpu_idx[i], i);
  }
  return 0;
}

fd_wksp_t *fd_wksp_new_anon_near(char const *name, ulong page_sz, ulong sub_cnt,
                                 ulong const *sub_page_cnt, ulong const *sub_cpu_idx, uint seed,
                                 ulong part_max) {
  ulong size = 0;
  if (!name) {
    wksp__fail(WKSP_E_INVAL, "new_anon_near: the name is NULL");
    return NULL;
  }
  if (wksp__near_size("new_anon_near", name, page_sz, sub_cnt, sub_page_cnt, &size)) return NULL;
  if (!sub_cpu_idx) return fd_wksp_new_anon(name, size, page_sz, seed, part_max);
  wksp__anon_part_t *parts = calloc(sub_cnt, sizeof *parts);
  fd_wksp_t *wksp = NULL;
  if (!parts)
    wksp__fail(WKSP_E_NOMEM, "new_anon_near %.64s: no memory for %lu parts", name, sub_cnt);
  else if (!nodes_of(name, sub_cnt, sub_page_cnt, sub_cpu_idx, parts))
    wksp = wksp__anon_new(name, size, page_sz, seed, part_max, parts, sub_cnt);
  free(parts);
  return wksp;
}
