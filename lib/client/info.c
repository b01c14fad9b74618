/* Workspaces as the daemon tells them, checked: what comes over the socket is foreign data, and
   programs will use these numbers as sizes and these names as arguments. */

#include "client/info.h"

#include "client/rpc.h"
#include "core/fail.h"
#include "core/layout.h"

#include <stdio.h>
#include <string.h>

#define MODE_MAX 0777U

/* No page of any machine is larger, bytes. */
#define PAGE_SIZE_MAX (1UL << 34)

int wksp__name_check(char const *what, char const *name) {
  if (!name) return wksp__fail(WKSP_E_INVAL, "%s: the name is NULL", what);
  if (strnlen(name, FD_WKSP_NAME_MAX + 1) <= FD_WKSP_NAME_MAX && wksp__name_ok(name)) return 0;
  char shown[FD_WKSP_NAME_MAX + 1];
  wksp__text_copy(shown, sizeof shown, name);
  return wksp__fail(WKSP_E_INVAL,
                    "%s: \"%s%s\" is no workspace name; it has 1 to %lu characters of letters, "
                    "digits, '.', '_', '-', the first a letter or digit",
                    what, shown,
                    strnlen(name, FD_WKSP_NAME_MAX + 1) > FD_WKSP_NAME_MAX ? "..." : "",
                    FD_WKSP_NAME_MAX);
}

char const *wksp__info_of(Wkspd__V1__Workspace const *message, wksp_info_t *ret_info) {
  if (!message) return "no workspace in it";
  if (strnlen(message->name, FD_WKSP_NAME_MAX + 1) > FD_WKSP_NAME_MAX ||
      !wksp__name_ok(message->name))
    return "a workspace name that is none";
  if (message->uuid.len != sizeof ret_info->uuid) return "a uuid that has not 16 bytes";
  if (message->mode > MODE_MAX) return "a mode over 0777";
  if (!message->quarantined) {
    /* What is quarantined may be so because these are not known. */
    if (!message->size) return "a size of 0";
    if (message->max_size && message->max_size < message->size) return "a size over its max-size";
    if (message->page_size < WKSP_PAGE_4K || message->page_size > PAGE_SIZE_MAX ||
        (message->page_size & (message->page_size - 1)))
      return "a page size that is none";
  }
  wksp_info_t info = {
      .size = message->size,
      .max_size = message->max_size ? message->max_size : message->size, /* 0: an older daemon */
      .page_size = message->page_size,
      .data_max = message->data_max,
      .part_max = message->part_max,
      .mode = message->mode,
      .uid = message->uid,
      .gid = message->gid,
      .seed = message->seed,
      .created_ns = message->created_ns,
      .attached_rw = message->attached_rw,
      .attached_ro = message->attached_ro,
      .removing = message->removing ? 1 : 0,
      .quarantined = message->quarantined ? 1 : 0,
      .read_only = message->read_only ? 1 : 0,
      .excess = message->excess,
      .damaged = message->damaged ? 1 : 0,
  };
  memcpy(info.uuid, message->uuid.data, sizeof info.uuid);
  wksp__text_copy(info.name, sizeof info.name, message->name);
  wksp__text_copy(info.reason, sizeof info.reason, message->reason);
  wksp__text_copy(info.note, sizeof info.note, message->note);
  wksp__text_copy(info.tag, sizeof info.tag, message->tag);
  *ret_info = info;
  return NULL;
}
