/* named: workspaces made and removed by the names and measures of the fd_wksp interface.

   A program of that interface counts pages, in parts that are to lie near given CPUs. The daemon
   counts bytes and places pages itself, so parts are added up here and become one request.

   Refused: guessing a page size. Pages are what the caller counts in. */

#include "client/default.h"

#include "core/fail.h"

#define MODE_MAX 0777UL

/* The bytes of all parts. 0 or E_INVAL, reported. */
static int size_of(char const *name, ulong page_sz, ulong sub_cnt, ulong const *sub_page_cnt,
                   ulong *ret_size) {
  ulong pages = 0, size = 0;
  if (!sub_cnt || !sub_page_cnt)
    return wksp__fail(WKSP_E_INVAL, "new_named %.64s: %s", name,
                      sub_cnt ? "sub_page_cnt is NULL" : "sub_cnt is 0, so there are no pages");
  for (ulong i = 0; i < sub_cnt; i++)
    if (__builtin_add_overflow(pages, sub_page_cnt[i], &pages))
      return wksp__fail(WKSP_E_INVAL, "new_named %.64s: the parts add up to 2^64 pages or more",
                        name);
  if (__builtin_mul_overflow(pages, page_sz, &size) || !size)
    return wksp__fail(WKSP_E_INVAL,
                      "new_named %.64s: %lu pages of %lu bytes: that is nothing, or 2^64 bytes or "
                      "more",
                      name, pages, page_sz);
  *ret_size = size;
  return 0;
}

int fd_wksp_new_named(char const *name, ulong page_sz, ulong sub_cnt, ulong const *sub_page_cnt,
                      ulong const *sub_cpu_idx, ulong mode, uint seed, ulong part_max) {
  (void)sub_cpu_idx;
  wksp_create_t create = {.name = name, .page_size = page_sz, .seed = seed, .part_max = part_max};
  if (!name) return wksp__fail(WKSP_E_INVAL, "new_named: the name is NULL");
  if (page_sz != WKSP_PAGE_4K && page_sz != WKSP_PAGE_2M)
    return wksp__fail(WKSP_E_INVAL, "new_named %.64s: pages of %lu bytes: use %d or %d", name,
                      page_sz, WKSP_PAGE_4K, WKSP_PAGE_2M);
  if (mode > MODE_MAX)
    return wksp__fail(WKSP_E_INVAL, "new_named %.64s: mode 0%lo; permission bits are 0 to 0777",
                      name, mode);
  create.mode = (uint)mode;
  int err = size_of(name, page_sz, sub_cnt, sub_page_cnt, &create.size);
  if (err < 0) return err;
  wksp_client_t *client = wksp__client_default();
  return client ? wksp_client_create(client, &create, NULL) : wksp_last_error_code();
}

int fd_wksp_delete_named(char const *name) {
  if (!name) return wksp__fail(WKSP_E_INVAL, "delete_named: the name is NULL");
  wksp_client_t *client = wksp__client_default();
  return client ? wksp_client_remove(client, name, 0) : wksp_last_error_code();
}
