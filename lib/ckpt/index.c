/* index: the chunks that the store has, by digest, so that none is written twice.

   Filled from the newest manifests: what has not changed since the last checkpoint is in its, and
   what has come back, likely in one of those before. Chunks of this checkpoint are added as they
   are met, so that what is many times in memory is once in the pack. The first who adds one brings
   it; others only name it, and where it lies is settled before the manifest is written.

   What is older than a checkpoint that relies on nothing but itself is not looked at: it may have
   been taken so because what was there before is damaged.

   Two chunks are the same if digest and length are. Refuses: packs that are not there, or shorter
   than they were: their chunks are written anew. */

#include "ckpt/store.h"

#include "core/fail.h"

#include <stdlib.h>
#include <string.h>

/* Manifests that are read. */
#define INDEX_MANIFESTS 4U
#define INDEX_BLOCK     4096UL
/* Numbers of chunks are 32 bits in the table. */
#define INDEX_CNT_MAX (UINT32_MAX - 1UL)

static uint64_t slot_of(wksp__ck_index_t const *index, wksp__ck_digest_t digest) {
  return digest.lo & (index->slot_cnt - 1);
}

/* Where the chunk is, or where it would be. */
static uint64_t find(wksp__ck_index_t *index, wksp__ck_digest_t digest, uint32_t raw_len) {
  uint64_t at = slot_of(index, digest);
  for (; index->slots[at]; at = (at + 1) & (index->slot_cnt - 1)) {
    wksp__ck_ref_t const *ref = &wksp__ck_known(index, index->slots[at] - 1UL)->ref;
    if (ref->raw_len == raw_len && wksp__ck_digest_same(ref->digest, digest)) break;
  }
  return at;
}

/* Half full at most. */
static int slots_grow(wksp__ck_index_t *index) {
  if (2 * (index->cnt + 1) <= index->slot_cnt) return 0;
  uint64_t cnt = index->slot_cnt ? 2 * index->slot_cnt : 4096;
  uint32_t *old = index->slots,
           *slots = index->cnt < INDEX_CNT_MAX ? calloc(cnt, sizeof *slots) : NULL;
  if (!slots)
    return wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for an index of %lu chunks", cnt / 2);
  index->slots = slots;
  index->slot_cnt = cnt;
  for (uint64_t i = 0; i < index->cnt; i++) {
    wksp__ck_ref_t const *ref = &wksp__ck_known(index, i)->ref;
    slots[find(index, ref->digest, ref->raw_len)] = (uint32_t)i + 1;
  }
  free(old);
  return 0;
}

/* Numbers stay where they are, since threads hold pointers to them: so blocks, and the list of
   blocks is made for all at once. */
static int block_add(wksp__ck_index_t *index) {
  if (index->cnt % INDEX_BLOCK) return 0;
  uint64_t at = index->cnt / INDEX_BLOCK;
  if (!index->known) {
    index->block_cap = 1UL << 16; /* 256 million chunks */
    index->known = calloc(index->block_cap, sizeof *index->known);
  }
  if (index->known && at < index->block_cap)
    index->known[at] = calloc(INDEX_BLOCK, sizeof **index->known);
  return index->known && at < index->block_cap && index->known[at]
             ? 0
             : wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for more than %lu chunks",
                          index->cnt);
}

static int add(wksp__ck_index_t *index, wksp__ck_ref_t const *ref, uint64_t *ret_number) {
  int err = slots_grow(index);
  if (err) return err;
  uint64_t at = find(index, ref->digest, ref->raw_len);
  if (index->slots[at]) {
    *ret_number = index->slots[at] - 1UL;
    return 1;
  }
  err = block_add(index);
  if (err) return err;
  *ret_number = index->cnt++;
  *wksp__ck_known(index, *ret_number) = (wksp__ck_known_t){.ref = *ref};
  index->slots[at] = (uint32_t)*ret_number + 1;
  return 0;
}

int wksp__ck_index_add(wksp__ck_index_t *index, wksp__ck_digest_t digest, uint32_t raw_len,
                       uint64_t *ret_number) {
  wksp__ck_ref_t ref = {.digest = digest, .raw_len = raw_len};
  pthread_mutex_lock(&index->mutex);
  int rc = add(index, &ref, ret_number);
  pthread_mutex_unlock(&index->mutex);
  return rc;
}

int wksp__ck_index_has(wksp__ck_index_t *index, wksp__ck_digest_t digest, uint32_t raw_len,
                       uint64_t *ret_number) {
  pthread_mutex_lock(&index->mutex);
  uint64_t at = find(index, digest, raw_len);
  int has = index->slots[at] != 0;
  if (has) *ret_number = index->slots[at] - 1UL;
  pthread_mutex_unlock(&index->mutex);
  return has;
}

/* The number of a pack among those of the index: *ret_pack, UINT32_MAX if it is not whole. */
static int pack_add(wksp__ck_index_t *index, wksp_ckpt_store_t *store,
                    wksp__ck_wire_pack_t const *pack, uint32_t *ret_pack) {
  char name[WKSP_CKPT_FILE_NAME_MAX + 1];
  ulong size = 0;
  int file, err;
  for (uint64_t i = 1; i < index->pack_cnt; i++)
    if (index->packs[i].id == pack->id) {
      *ret_pack = (uint32_t)i;
      return 0;
    }
  *ret_pack = UINT32_MAX;
  if (store->io.open(store->io.self, wksp__ck_file_name(pack->id, WKSP_CK_FILE_PACK, 0, name),
                     WKSP_CKPT_OPEN_READ, &file))
    return 0;
  err = store->io.size(store->io.self, file, &size);
  store->io.close(store->io.self, file);
  if (err || size != pack->file_sz) return 0;
  err = wksp__ck_grow(&index->packs, index->pack_cnt, &index->pack_cap, sizeof *index->packs);
  if (err) return err;
  *ret_pack = (uint32_t)index->pack_cnt;
  index->packs[index->pack_cnt++] = *pack;
  return 0;
}

static int manifest_add(wksp__ck_index_t *index, wksp_ckpt_store_t *store,
                        wksp_ckpt_t const *ckpt) {
  uint32_t *packs = calloc(ckpt->info.pack_cnt + 1, sizeof *packs);
  if (!packs) return wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for a list of packs");
  int err = 0;
  for (uint64_t i = 0; i < ckpt->info.pack_cnt && !err; i++)
    err = pack_add(index, store, &ckpt->packs[i], &packs[i]);
  for (uint64_t i = 0; i < ckpt->info.chunk_cnt && !err; i++) {
    wksp__ck_ref_t ref = ckpt->refs[i];
    uint64_t number;
    ref.pack = packs[ref.pack];
    if (ref.pack != UINT32_MAX && add(index, &ref, &number) < 0) err = WKSP_E_NOMEM;
  }
  free(packs);
  return err;
}

int wksp__ck_index_begin(wksp__ck_index_t *index, wksp_ckpt_store_t *store, ulong const *ids,
                         uint64_t id_cnt) {
  *index = (wksp__ck_index_t){.pack_cnt = 1, .mutex = PTHREAD_MUTEX_INITIALIZER};
  index->packs = calloc(16, sizeof *index->packs);
  index->pack_cap = 16;
  int err = index->packs ? slots_grow(index)
                         : wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for a list of packs");
  for (uint64_t i = 0, whole = 0; i < id_cnt && i < INDEX_MANIFESTS && !err && !whole; i++) {
    wksp_ckpt_t *ckpt;
    /* One that cannot be read is not relied on. */
    err = wksp__ck_manifest_load(store, ids[id_cnt - 1 - i], WKSP_CK_LOAD_REFS, &ckpt);
    if (!err) {
      err = manifest_add(index, store, ckpt);
      whole = ckpt->info.pack_cnt == 1 && ckpt->packs[0].id == ckpt->info.id;
      wksp_ckpt_close(ckpt);
    } else if (err == WKSP_E_CORRUPT || err == WKSP_E_VERSION) {
      err = 0;
    }
  }
  if (err) wksp__ck_index_end(index);
  return err;
}

void wksp__ck_index_end(wksp__ck_index_t *index) {
  for (uint64_t i = 0; i < index->cnt; i++) free(wksp__ck_known(index, i)->kept);
  for (uint64_t b = 0; index->known && b < index->block_cap && index->known[b]; b++)
    free(index->known[b]);
  free(index->known);
  free(index->slots);
  free(index->packs);
  pthread_mutex_destroy(&index->mutex);
  memset(index, 0, sizeof *index);
}
