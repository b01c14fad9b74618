/* root: names by which programs find their objects after they, or the daemon, have come back.

   Model: a directory of FD_WKSP_ROOT_MAX places, each a name and what it is bound to. A place is
   ten words, changed in one transaction, so a name is bound to the old or to the new, never to half
   of each, whoever is killed. Names are compared by words. The directory is looked through from the
   front: it has five pages, and its users ask once at their start. Rejected: a hash table, whose
   deletions would move places, so that a listing could miss names that were there all the time.

   What it refuses: to know whether the gaddr is alive. */

#include "core/root.h"

#include "core/atomic.h"
#include "core/call.h"
#include "core/fail.h"
#include "core/tx.h"

#include <string.h>

#define ROOT_NAME_WORDS ((FD_WKSP_ROOT_NAME_MAX + 1) / 8)
#define ROOT_NONE       ((uint32_t)FD_WKSP_ROOT_MAX)

typedef struct root_name {
  uint64_t w[ROOT_NAME_WORDS];
} root_name_t;

static wksp__root_t *roots(fd_wksp_t const *wksp) {
  return (wksp__root_t *)((uintptr_t)wksp + wksp->root_off);
}

static int name_read(char const *what, char const *name, root_name_t *ret_name) {
  size_t len = name ? strnlen(name, FD_WKSP_ROOT_NAME_MAX + 1) : 0;
  if (!len)
    return wksp__fail(WKSP_E_INVAL, "%s: a root needs a name of 1 to %lu bytes", what,
                      FD_WKSP_ROOT_NAME_MAX);
  if (len > FD_WKSP_ROOT_NAME_MAX)
    return wksp__fail(WKSP_E_INVAL, "%s: the name %.20s... is longer than %lu bytes", what, name,
                      FD_WKSP_ROOT_NAME_MAX);
  memset(ret_name, 0, sizeof(*ret_name));
  memcpy(ret_name, name, len);
  return 0;
}

static int place_free(wksp__root_t const *root) {
  return !wksp__ld(&root->name[0]);
}

static int place_is(wksp__root_t const *root, root_name_t const *name) {
  for (uint32_t i = 0; i < ROOT_NAME_WORDS; i++)
    if (wksp__ld(&root->name[i]) != name->w[i]) return 0;
  return 1;
}

/* The place of a name, ROOT_NONE if it has none. */
static uint32_t place_of(fd_wksp_t const *wksp, root_name_t const *name) {
  uint32_t i = 0;
  while (i < FD_WKSP_ROOT_MAX && !place_is(&roots(wksp)[i], name)) i++;
  return i;
}

static uint32_t place_empty(fd_wksp_t const *wksp) {
  uint32_t i = 0;
  while (i < FD_WKSP_ROOT_MAX && !place_free(&roots(wksp)[i])) i++;
  return i;
}

static void place_copy(wksp__root_t const *root, fd_wksp_root_t *ret_root) {
  root_name_t name;
  for (uint32_t i = 0; i < ROOT_NAME_WORDS; i++) name.w[i] = wksp__ld(&root->name[i]);
  memcpy(ret_root->name, &name, sizeof(ret_root->name));
  ret_root->name[FD_WKSP_ROOT_NAME_MAX] = 0; /* damaged memory may lack it */
  ret_root->gaddr = wksp__ld(&root->gaddr);
  ret_root->tag = wksp__ld(&root->tag);
}

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

static int bind(fd_wksp_t *wksp, char const *what, char const *name_cstr, ulong gaddr, ulong tag,
                int replace) {
  root_name_t name;
  wksp__call_t call;
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "%s: the workspace is NULL", what);
  int rc = name_read(what, name_cstr, &name);
  if (rc) return rc;
  if (gaddr < wksp->data_lo || gaddr >= wksp->data_hi)
    return wksp__fail(WKSP_E_INVAL,
                      "%s: gaddr 0x%lx for root %s is outside the data region [0x%lx, 0x%lx)", what,
                      gaddr, name_cstr, wksp->data_lo, wksp->data_hi);
  rc = begin(wksp, &call);
  if (rc) return rc;

  uint32_t place = place_of(wksp, &name), bound = place != ROOT_NONE;
  if (!bound) place = place_empty(wksp);
  if (place != ROOT_NONE && (!bound || replace)) {
    wksp__root_t *root = &roots(wksp)[place];
    wksp__tx_t tx;
    wksp__tx_begin(&tx, wksp);
    for (uint32_t i = 0; i < ROOT_NAME_WORDS; i++) wksp__tx_put64(&tx, &root->name[i], name.w[i]);
    wksp__tx_put64(&tx, &root->gaddr, gaddr);
    wksp__tx_put64(&tx, &root->tag, tag);
    wksp__tx_commit(&tx);
  }
  end(&call);
  if (bound && !replace)
    return wksp__fail(WKSP_E_EXISTS, "%s: workspace %s has a root %s already", what, wksp->name,
                      name_cstr);
  if (place == ROOT_NONE)
    return wksp__fail(WKSP_E_NOMEM,
                      "%s: workspace %s has its %lu roots already: remove one to bind %s", what,
                      wksp->name, FD_WKSP_ROOT_MAX, name_cstr);
  return 0;
}

int fd_wksp_root_set(fd_wksp_t *wksp, char const *name, ulong gaddr, ulong tag) {
  return bind(wksp, "root_set", name, gaddr, tag, 1);
}

int fd_wksp_root_add(fd_wksp_t *wksp, char const *name, ulong gaddr, ulong tag) {
  return bind(wksp, "root_add", name, gaddr, tag, 0);
}

static int report_notfound(fd_wksp_t const *wksp, char const *what, char const *name) {
  return wksp__fail(WKSP_E_NOTFOUND, "%s: workspace %s has no root %s", what, wksp->name, name);
}

int fd_wksp_root_remove(fd_wksp_t *wksp, char const *name_cstr) {
  root_name_t name;
  wksp__call_t call;
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "root_remove: the workspace is NULL");
  int rc = name_read("root_remove", name_cstr, &name);
  if (!rc) rc = begin(wksp, &call);
  if (rc) return rc;
  uint32_t place = place_of(wksp, &name);
  if (place != ROOT_NONE) {
    uint64_t *words = (uint64_t *)&roots(wksp)[place];
    wksp__tx_t tx;
    wksp__tx_begin(&tx, wksp);
    for (uint32_t i = 0; i < WKSP_ROOT_TX_MAX; i++) wksp__tx_put64(&tx, &words[i], 0);
    wksp__tx_commit(&tx);
  }
  end(&call);
  return place == ROOT_NONE ? report_notfound(wksp, "root_remove", name_cstr) : 0;
}

typedef struct root_look {
  fd_wksp_t const *wksp;
  root_name_t name;
  uint32_t from, place; /* next: place found */
  fd_wksp_root_t root;
} root_look_t;

static int look_find(void *arg) {
  root_look_t *look = arg;
  uint32_t place = place_of(look->wksp, &look->name);
  if (place == ROOT_NONE) return WKSP_E_NOTFOUND;
  place_copy(&roots(look->wksp)[place], &look->root);
  return 0;
}

int fd_wksp_root_find(fd_wksp_t *wksp, char const *name, fd_wksp_root_t *ret_root) {
  root_look_t look = {.wksp = wksp};
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "root_find: the workspace is NULL");
  int rc = name_read("root_find", name, &look.name);
  if (!rc) rc = wksp__read_run(wksp, look_find, &look);
  if (rc == WKSP_E_NOTFOUND) return report_notfound(wksp, "root_find", name);
  if (!rc && ret_root) *ret_root = look.root;
  return rc;
}

static int look_next(void *arg) {
  root_look_t *look = arg;
  uint32_t i = look->from;
  while (i < FD_WKSP_ROOT_MAX && place_free(&roots(look->wksp)[i])) i++;
  if (i >= FD_WKSP_ROOT_MAX) return 0;
  place_copy(&roots(look->wksp)[i], &look->root);
  look->place = i;
  return 1;
}

int fd_wksp_root_next(fd_wksp_t *wksp, uint *place, fd_wksp_root_t *ret_root) {
  if (!wksp || !place || !ret_root)
    return wksp__fail(WKSP_E_INVAL, "root_next: workspace, place or ret_root is NULL");
  root_look_t look = {.wksp = wksp, .from = *place};
  int rc = wksp__read_run(wksp, look_next, &look);
  if (rc != 1) return rc;
  *place = look.place + 1;
  *ret_root = look.root;
  return 1;
}

/* What is wrong with place i: tells, and says what to do about it. */
enum { PLACE_GOOD, PLACE_PAD, PLACE_DROP };
static int place_check(fd_wksp_t const *wksp, uint32_t i, wksp__finding_t finding, void *arg) {
  wksp__root_t const *root = &roots(wksp)[i];
  root_name_t name, padded = {{0}};
  for (uint32_t k = 0; k < ROOT_NAME_WORDS; k++) name.w[k] = wksp__ld(&root->name[k]);
  size_t len = strnlen((char const *)&name, sizeof(name));
  memcpy(&padded, &name, len);
  if (len == sizeof(name)) {
    finding(arg, "root place %u: the name has no end", i);
    return PLACE_DROP;
  }
  if (memcmp(&padded, &name, sizeof(name))) {
    finding(arg, "root place %u: bytes after the name's end are not zero", i);
    return len ? PLACE_PAD : PLACE_DROP;
  }
  if (!len) return PLACE_GOOD;
  uint64_t gaddr = wksp__ld(&root->gaddr);
  if (gaddr < wksp->data_lo || gaddr >= wksp->data_hi) {
    finding(arg, "root %s: gaddr 0x%lx is outside the data region", (char const *)&name, gaddr);
    return PLACE_DROP;
  }
  if (place_of(wksp, &name) == i) return PLACE_GOOD;
  finding(arg, "root %s: is bound twice, in places %u and %u", (char const *)&name,
          place_of(wksp, &name), i);
  return PLACE_DROP;
}

uint32_t wksp__root_check(fd_wksp_t const *wksp, wksp__finding_t finding, void *arg) {
  uint32_t cnt = 0;
  for (uint32_t i = 0; i < FD_WKSP_ROOT_MAX; i++)
    cnt += place_check(wksp, i, finding, arg) != PLACE_GOOD;
  return cnt;
}

uint32_t wksp__root_repair(fd_wksp_t *wksp, wksp__finding_t finding, void *arg) {
  uint32_t cnt = 0;
  for (uint32_t i = 0; i < FD_WKSP_ROOT_MAX; i++) {
    wksp__root_t *root = &roots(wksp)[i];
    int verdict = place_check(wksp, i, finding, arg);
    if (verdict == PLACE_GOOD) continue;
    cnt++;
    /* Word by word: who is killed here leaves less damage than there was. */
    root_name_t name = {{0}};
    if (verdict == PLACE_PAD)
      memcpy(&name, root->name, strnlen((char const *)root->name, sizeof(name)));
    for (uint32_t k = 0; k < ROOT_NAME_WORDS; k++) wksp__st(&root->name[k], name.w[k]);
    if (verdict == PLACE_PAD) {
      i--; /* what remains may be bound twice, or to nowhere */
    } else {
      wksp__st(&root->gaddr, 0UL);
      wksp__st(&root->tag, 0UL);
    }
  }
  return cnt;
}
