/* store: opening one, its names, and removing what nobody needs.

   The order in which a checkpoint is removed is store.h's: its manifest, durably, then packs that
   no other names. gc is the second half by itself, so that a kill between the two costs room, and
   that only until the next gc.

   Refuses: to remove a pack as long as a manifest cannot be read, since that may need it. */

#include "ckpt/store.h"

#include "core/fail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char const *const suffixes[] = {"ckpt", "pack"};

char *wksp__ck_file_name(ulong id, int kind, int tmp, char *name) {
  snprintf(name, WKSP_CKPT_FILE_NAME_MAX + 1, "%016lx.%s%s", id, suffixes[kind], tmp ? ".tmp" : "");
  return name;
}

/* What a name means: its kind and *ret_id; -1: not one of ours; 2 + kind: temporary. An id of 0
   means the newest, so nothing has it. */
static int name_kind(char const *name, ulong *ret_id) {
  char again[WKSP_CKPT_FILE_NAME_MAX + 1];
  ulong id = strtoul(name, NULL, 16);
  for (int kind = 0; id && kind < 4; kind++)
    if (!strcmp(name, wksp__ck_file_name(id, kind & 1, kind >> 1, again))) {
      *ret_id = id;
      return kind;
    }
  return -1;
}

int wksp__ck_io_fail(long err, char const *what, char const *name) {
  int code = err == -ENOENT                     ? WKSP_E_NOTFOUND
             : err == -EACCES || err == -EPERM  ? WKSP_E_PERM
             : err == -ENOSPC || err == -EDQUOT ? WKSP_E_LIMIT
             : err == -EBUSY                    ? WKSP_E_BUSY
             : err == -ENOMEM                   ? WKSP_E_NOMEM
                                                : WKSP_E_SYS;
  return wksp__fail(code, "checkpoint store: cannot %s %s: %s", what, name, strerror((int)-err));
}

int wksp__ck_write_all(wksp_ckpt_store_t *store, int file, char const *name, void const *bytes,
                       uint64_t len, uint64_t off) {
  for (uint64_t done = 0; done < len;) {
    long got =
        store->io.pwrite(store->io.self, file, (char const *)bytes + done, len - done, off + done);
    if (got <= 0) return wksp__ck_io_fail(got ? got : -ENOSPC, "write", name);
    done += (uint64_t)got;
  }
  return 0;
}

int wksp__ck_read_all(wksp_ckpt_store_t *store, int file, char const *name, void *bytes,
                      uint64_t len, uint64_t off) {
  for (uint64_t done = 0; done < len;) {
    long got = store->io.pread(store->io.self, file, (char *)bytes + done, len - done, off + done);
    if (got < 0) return wksp__ck_io_fail(got, "read", name);
    if (!got)
      return wksp__fail(WKSP_E_CORRUPT, "checkpoint store: %s ends after %lu bytes, before %lu",
                        name, off + done, off + len);
    done += (uint64_t)got;
  }
  return 0;
}

int wksp__ck_make(wksp_ckpt_store_t *store, char const *tmp, int *ret_file) {
  int err = store->io.open(store->io.self, tmp, WKSP_CKPT_OPEN_CREATE, ret_file);
  if (err == -EEXIST) {
    err = store->io.unlink(store->io.self, tmp);
    if (!err) err = store->io.open(store->io.self, tmp, WKSP_CKPT_OPEN_CREATE, ret_file);
  }
  return err ? wksp__ck_io_fail(err, "make", tmp) : 0;
}

int wksp_ckpt_store_open_io(wksp_ckpt_io_t const *io, wksp_ckpt_store_t **ret_store) {
  if (!io || !ret_store || !io->open || !io->close || !io->pwrite || !io->pread || !io->size ||
      !io->fsync || !io->rename || !io->unlink || !io->fsync_folder || !io->list ||
      !io->lock != !io->unlock)
    return wksp__fail(WKSP_E_INVAL, "store: io, ret_store or a callback is NULL");
  wksp_ckpt_store_t *store = calloc(1, sizeof *store);
  if (!store) return wksp__fail(WKSP_E_NOMEM, "store: no memory");
  store->io = *io;
  *ret_store = store;
  return 0;
}

void wksp_ckpt_store_close(wksp_ckpt_store_t *store) {
  if (!store) return;
  if (store->io.end) store->io.end(store->io.self);
  free(store);
}

int wksp__ck_lock(wksp_ckpt_store_t *store) {
  int err = store->writing ? -EBUSY : store->io.lock ? store->io.lock(store->io.self) : 0;
  if (err) return wksp__ck_io_fail(err, "lock", "it: another writer is at work in it");
  store->writing = 1;
  return 0;
}

void wksp__ck_unlock(wksp_ckpt_store_t *store) {
  store->writing = 0;
  if (store->io.unlock) store->io.unlock(store->io.self);
}

/* Listing
 * ---------------------------------------------------------------------------------------------- */

/* Files of the store by kind, as name_kind has it. */
typedef struct listing {
  ulong *ids[4];
  uint64_t cnt[4], cap[4];
} listing_t;

static int list_one(void *arg, char const *name) {
  listing_t *listing = arg;
  ulong id;
  int kind = name_kind(name, &id);
  if (kind < 0) return 0;
  int err =
      wksp__ck_grow(&listing->ids[kind], listing->cnt[kind], &listing->cap[kind], sizeof(ulong));
  if (!err) listing->ids[kind][listing->cnt[kind]++] = id;
  return err;
}

static int id_order(void const *a, void const *b) {
  ulong one = *(ulong const *)a, two = *(ulong const *)b;
  return one < two ? -1 : one > two;
}

static void listing_free(listing_t *listing) {
  for (int kind = 0; kind < 4; kind++) free(listing->ids[kind]);
}

/* 0, E_SYS, E_NOMEM (reported). */
static int list(wksp_ckpt_store_t *store, listing_t *ret_listing) {
  memset(ret_listing, 0, sizeof *ret_listing);
  /* our own errors come through as they are; what the folder answers has to be reported */
  int err = store->io.list(store->io.self, list_one, ret_listing);
  if (err && err != WKSP_E_NOMEM) err = wksp__ck_io_fail(err, "list", "the folder");
  if (err) {
    listing_free(ret_listing);
    return err;
  }
  for (int kind = 0; kind < 4; kind++)
    if (ret_listing->cnt[kind])
      qsort(ret_listing->ids[kind], ret_listing->cnt[kind], sizeof(ulong), id_order);
  return 0;
}

int wksp__ck_ids(wksp_ckpt_store_t *store, ulong **ret_ids, uint64_t *ret_cnt) {
  listing_t listing;
  int err = list(store, &listing);
  if (err) return err;
  *ret_ids = listing.ids[WKSP_CK_FILE_CKPT];
  *ret_cnt = listing.cnt[WKSP_CK_FILE_CKPT];
  listing.ids[WKSP_CK_FILE_CKPT] = NULL;
  listing_free(&listing);
  return 0;
}

int wksp__ck_id_next(wksp_ckpt_store_t *store, ulong from, ulong *ret_id) {
  listing_t listing;
  int err = list(store, &listing);
  if (err) return err;
  for (int kind = 0; kind < 2; kind++)
    for (uint64_t i = 0; i < listing.cnt[kind]; i++)
      if (listing.ids[kind][i] >= from) from = listing.ids[kind][i] + 1;
  listing_free(&listing);
  *ret_id = from ? from : 1;
  return 0;
}

/* Removing
 * ---------------------------------------------------------------------------------------------- */

/* Removes a file, adds it to gone. 0, also if it is not there; E_SYS (reported). */
static int file_remove(wksp_ckpt_store_t *store, ulong id, int kind, int tmp,
                       wksp_ckpt_gone_t *gone) {
  char name[WKSP_CKPT_FILE_NAME_MAX + 1];
  wksp__ck_file_name(id, kind, tmp, name);
  ulong size = 0;
  int file, err = store->io.open(store->io.self, name, WKSP_CKPT_OPEN_READ, &file);
  if (!err) {
    if (store->io.size(store->io.self, file, &size)) size = 0;
    store->io.close(store->io.self, file);
  }
  err = store->io.unlink(store->io.self, name);
  if (err == -ENOENT) return 0;
  if (err) return wksp__ck_io_fail(err, "remove", name);
  gone->file_cnt++;
  gone->freed_sz += size;
  return 0;
}

/* Marks in needed[] the packs that manifest id names. */
static int packs_mark(wksp_ckpt_store_t *store, ulong id, listing_t const *listing, uchar *needed) {
  wksp_ckpt_t *ckpt;
  int err = wksp__ck_manifest_load(store, id, WKSP_CK_LOAD_REFS, &ckpt);
  if (err) return err;
  for (uint64_t i = 0; i < ckpt->info.pack_cnt; i++) {
    ulong const *at = bsearch(&ckpt->packs[i].id, listing->ids[WKSP_CK_FILE_PACK],
                              listing->cnt[WKSP_CK_FILE_PACK], sizeof(ulong), id_order);
    if (at) needed[at - listing->ids[WKSP_CK_FILE_PACK]] = 1;
  }
  wksp_ckpt_close(ckpt);
  return 0;
}

static int packs_gc(wksp_ckpt_store_t *store, listing_t const *listing, wksp_ckpt_gone_t *gone) {
  uint64_t cnt = listing->cnt[WKSP_CK_FILE_PACK];
  if (!cnt) return 0;
  uchar *needed = calloc(cnt, 1);
  if (!needed) return wksp__fail(WKSP_E_NOMEM, "store: no memory for a list of %lu packs", cnt);
  int err = 0, damaged = 0;
  for (uint64_t i = 0; i < listing->cnt[WKSP_CK_FILE_CKPT] && !err; i++) {
    err = packs_mark(store, listing->ids[WKSP_CK_FILE_CKPT][i], listing, needed);
    if (err == WKSP_E_CORRUPT || err == WKSP_E_VERSION) {
      damaged = 1;
      err = 0;
    }
  }
  /* Manifests may have been replaced, and that may not be durable: what a power failure brings back
     needs other packs. */
  uint64_t dead_cnt = 0;
  for (uint64_t i = 0; i < cnt; i++) dead_cnt += !needed[i];
  if (!err && !damaged && dead_cnt && store->io.fsync_folder(store->io.self))
    err = wksp__ck_io_fail(-EIO, "make durable", "the folder");
  for (uint64_t i = 0; i < cnt && !err && !damaged; i++)
    if (!needed[i])
      err = file_remove(store, listing->ids[WKSP_CK_FILE_PACK][i], WKSP_CK_FILE_PACK, 0, gone);
  free(needed);
  return err;
}

int wksp__ck_gc(wksp_ckpt_store_t *store, wksp_ckpt_gone_t *gone) {
  listing_t listing;
  int err = list(store, &listing);
  if (err) return err;
  for (int kind = 2; kind < 4; kind++)
    for (uint64_t i = 0; i < listing.cnt[kind] && !err; i++)
      err = file_remove(store, listing.ids[kind][i], kind & 1, 1, gone);
  if (!err) err = packs_gc(store, &listing, gone);
  listing_free(&listing);
  return err;
}

int wksp_ckpt_gc(wksp_ckpt_store_t *store, wksp_ckpt_gone_t *ret_gone) {
  wksp_ckpt_gone_t gone = {0};
  if (!store) return wksp__fail(WKSP_E_INVAL, "gc: store is NULL");
  int err = wksp__ck_lock(store);
  if (err) return err;
  err = wksp__ck_gc(store, &gone);
  wksp__ck_unlock(store);
  if (!err && ret_gone) *ret_gone = gone;
  return err;
}

/* Removes the manifests ids[i] with !keep[i], durably, then what nobody needs. */
static int manifests_remove(wksp_ckpt_store_t *store, ulong const *ids, uchar const *keep,
                            uint64_t cnt, wksp_ckpt_gone_t *gone) {
  int err = 0;
  for (uint64_t i = 0; i < cnt && !err; i++) {
    if (keep[i]) continue;
    err = file_remove(store, ids[i], WKSP_CK_FILE_CKPT, 0, gone);
    gone->ckpt_cnt += !err;
  }
  if (!err && gone->ckpt_cnt) {
    err = store->io.fsync_folder(store->io.self);
    if (err) return wksp__ck_io_fail(err, "make durable", "the folder");
  }
  return err ? err : wksp__ck_gc(store, gone);
}

int wksp_ckpt_remove(wksp_ckpt_store_t *store, ulong id, wksp_ckpt_gone_t *ret_gone) {
  wksp_ckpt_gone_t gone = {0};
  uchar keep = 0;
  char name[WKSP_CKPT_FILE_NAME_MAX + 1];
  if (!store || !id) return wksp__fail(WKSP_E_INVAL, "remove: store is NULL or id is 0");
  int file, err = wksp__ck_lock(store);
  if (err) return err;
  err = store->io.open(store->io.self, wksp__ck_file_name(id, WKSP_CK_FILE_CKPT, 0, name),
                       WKSP_CKPT_OPEN_READ, &file);
  if (!err) {
    store->io.close(store->io.self, file);
    err = manifests_remove(store, &id, &keep, 1, &gone);
  } else {
    err = wksp__ck_io_fail(err, "find", name);
  }
  wksp__ck_unlock(store);
  if (!err && ret_gone) *ret_gone = gone;
  return err;
}

/* When each was taken; a damaged one is kept whatever retention says. */
static int prune_plan(wksp_ckpt_store_t *store, wksp_ckpt_retention_t const *retention,
                      ulong const *ids, uint64_t cnt, uchar *keep) {
  ulong *created = calloc(cnt, sizeof *created), good = 0;
  uint64_t *which = calloc(cnt, sizeof *which);
  uchar *wanted = calloc(cnt, 1);
  int err = created && which && wanted
                ? 0
                : wksp__fail(WKSP_E_NOMEM, "prune: no memory for a list of %lu checkpoints", cnt);
  for (uint64_t i = 0; i < cnt && !err; i++) {
    wksp_ckpt_t *ckpt;
    keep[i] = 1;
    err = wksp__ck_manifest_load(store, ids[i], WKSP_CK_LOAD_INFO, &ckpt);
    if (err == WKSP_E_CORRUPT || err == WKSP_E_VERSION) {
      err = 0;
      continue;
    }
    if (err) break;
    created[good] = ckpt->info.created_ns;
    which[good++] = i;
    wksp_ckpt_close(ckpt);
  }
  if (!err && good) {
    wksp_ckpt_retain(retention, created, good, wanted);
    for (uint64_t i = 0; i < good; i++) keep[which[i]] = wanted[i];
  }
  free(created);
  free(which);
  free(wanted);
  return err;
}

int wksp_ckpt_prune(wksp_ckpt_store_t *store, wksp_ckpt_retention_t const *retention,
                    wksp_ckpt_gone_t *ret_gone) {
  wksp_ckpt_gone_t gone = {0};
  ulong *ids = NULL;
  uint64_t cnt = 0;
  if (!store || !retention) return wksp__fail(WKSP_E_INVAL, "prune: store or retention is NULL");
  int err = wksp__ck_lock(store);
  if (err) return err;
  err = wksp__ck_ids(store, &ids, &cnt);
  uchar *keep = err || !cnt ? NULL : calloc(cnt, 1);
  if (!err && cnt && !keep) err = wksp__fail(WKSP_E_NOMEM, "prune: no memory");
  if (!err && cnt) err = prune_plan(store, retention, ids, cnt, keep);
  if (!err) err = manifests_remove(store, ids, keep, cnt, &gone);
  free(keep);
  free(ids);
  wksp__ck_unlock(store);
  if (!err && ret_gone) *ret_gone = gone;
  return err;
}
