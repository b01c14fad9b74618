/* place: the calls on "name:gaddr".

   A name means a workspace that this process has, else one that the daemon has. What is opened for
   a call is closed at its end, so that a program which only uses these holds no lease in between.

   Refused: to know whether a place is allocated; the calls that this leads to do. */

#include "client/attach.h"
#include "client/default.h"

#include "core/fail.h"
#include "core/layout.h"

#include <stdio.h>

/* The workspace of that name; wksp__attach_undo must follow. NULL, reported. */
static fd_wksp_t *open_named(char const *name, int rw) {
  fd_wksp_t *wksp = wksp__attach_joined(name, rw);
  if (wksp) return wksp;
  wksp_client_t *client = wksp__client_default();
  return client ? wksp_client_attach(client, name, rw ? WKSP_ATTACH_RW : WKSP_ATTACH_RO) : NULL;
}

/* The same for a place. */
static fd_wksp_t *open_place(char const *cstr, int rw, ulong *ret_gaddr) {
  char name[FD_WKSP_NAME_MAX + 1];
  if (fd_wksp_cstr_parse(cstr, name, ret_gaddr) < 0) return NULL;
  return open_named(name, rw);
}

char *fd_wksp_cstr_alloc(char const *name, ulong align, ulong sz, ulong tag, char *cstr) {
  if (!wksp__name_ok(name)) {
    wksp__fail(WKSP_E_INVAL, "cstr_alloc: \"%.64s\" is no name for a workspace", name ? name : "");
    return NULL;
  }
  if (!cstr) {
    wksp__fail(WKSP_E_INVAL, "cstr_alloc: the buffer is NULL");
    return NULL;
  }
  fd_wksp_t *wksp = open_named(name, 1);
  if (!wksp) return NULL;
  ulong gaddr = fd_wksp_alloc(wksp, align, sz, tag);
  /* By the name that was asked for: it is what finds the workspace again. */
  if (gaddr) snprintf(cstr, FD_WKSP_CSTR_MAX, "%s:0x%lx", name, gaddr);
  (void)wksp__attach_undo(wksp);
  return gaddr ? cstr : NULL;
}

int fd_wksp_cstr_free(char const *cstr) {
  ulong gaddr = 0;
  fd_wksp_t *wksp = open_place(cstr, 1, &gaddr);
  if (!wksp) return wksp_last_error_code();
  int err = fd_wksp_free(wksp, gaddr);
  (void)wksp__attach_undo(wksp);
  return err;
}

int fd_wksp_cstr_memset(char const *cstr, int c) {
  ulong gaddr = 0;
  fd_wksp_t *wksp = open_place(cstr, 1, &gaddr);
  if (!wksp) return wksp_last_error_code();
  int err = fd_wksp_memset(wksp, gaddr, c);
  (void)wksp__attach_undo(wksp);
  return err;
}

ulong fd_wksp_cstr_tag(char const *cstr) {
  ulong gaddr = 0;
  fd_wksp_t *wksp = open_place(cstr, 0, &gaddr);
  if (!wksp) return 0;
  ulong tag = fd_wksp_tag(wksp, gaddr);
  (void)wksp__attach_undo(wksp);
  return tag;
}

void *fd_wksp_map(char const *cstr) {
  ulong gaddr = 0;
  fd_wksp_t *wksp = open_place(cstr, 1, &gaddr);
  if (!wksp) return NULL;
  if (gaddr >= wksp->data_lo && gaddr < wksp->data_hi) return fd_wksp_laddr_fast(wksp, gaddr);
  wksp__fail(WKSP_E_INVAL, "map: %.64s is outside the data region [0x%lx, 0x%lx)", cstr,
             wksp->data_lo, wksp->data_hi);
  (void)wksp__attach_undo(wksp);
  return NULL;
}

int fd_wksp_unmap(void const *laddr) {
  if (!laddr) return 0;
  fd_wksp_t *wksp = fd_wksp_containing(laddr);
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "unmap: %p is in no joined workspace", laddr);
  return wksp__attach_undo(wksp);
}
