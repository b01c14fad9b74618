/* store: a folder of packs and manifests, and what all who work on it share.

   Files, ID being 16 hexadecimal digits:

     ID.ckpt       a manifest: there is a checkpoint <=> there is this file
     ID.pack       the chunks that were new with it, or (repack.c) what is needed of older packs;
                   stays as long as a manifest names it
     ID.*.tmp      what a writer is at; anything of that name that is left is nobody's

   Order of what makes and unmakes a checkpoint: a pack is durable, under its name, before its
   manifest gets one; a manifest is gone, durably, before a pack goes that it named. So at each
   moment, whatever of the last calls a power failure takes back, what a manifest needs is there. */

#ifndef WKSP_CKPT_STORE_H
#define WKSP_CKPT_STORE_H

#include "ckpt/format.h"
#include "ckpt/tables.h"

#include <pthread.h>

struct wksp_ckpt_store {
  wksp_ckpt_io_t io;
  int writing; /* 1: a writer of this store has it locked */
};

enum { WKSP_CK_FILE_CKPT = 0, WKSP_CK_FILE_PACK = 1 };

/* Writes the name of a file to name, which has room for WKSP_CKPT_FILE_NAME_MAX + 1 bytes; returns
   it. tmp: under which it is written. */
char *wksp__ck_file_name(ulong id, int kind, int tmp, char *name);

/* Reports what an I/O call has answered, a negative errno, as one of ours. */
int wksp__ck_io_fail(long err, char const *what, char const *name);

/* All of it, or an error (reported); a file that ends before is E_CORRUPT. */
int wksp__ck_write_all(wksp_ckpt_store_t *store, int file, char const *name, void const *bytes,
                       uint64_t len, uint64_t off);
int wksp__ck_read_all(wksp_ckpt_store_t *store, int file, char const *name, void *bytes,
                      uint64_t len, uint64_t off);

/* Makes a file under a temporary name. The store is locked, so one that is there is nobody's: what
   a writer left that was killed, if the clock has been set back since. 0, or an error (reported).
 */
int wksp__ck_make(wksp_ckpt_store_t *store, char const *tmp, int *ret_file);

/* To have it to oneself: 0, E_BUSY, E_SYS (reported). */
int wksp__ck_lock(wksp_ckpt_store_t *store);
void wksp__ck_unlock(wksp_ckpt_store_t *store);

/* The checkpoints, ascending: freed by the caller. 0, E_SYS, E_NOMEM (reported). */
int wksp__ck_ids(wksp_ckpt_store_t *store, ulong **ret_ids, uint64_t *ret_cnt);

/* An id that no checkpoint and no pack has: from, or after all there are. What is left under a
   temporary name is nobody's (wksp__ck_make). 0, E_SYS, E_NOMEM (reported). */
int wksp__ck_id_next(wksp_ckpt_store_t *store, ulong from, ulong *ret_id);

/* Removes packs that no manifest names, and what is nobody's; the store is locked. */
int wksp__ck_gc(wksp_ckpt_store_t *store, wksp_ckpt_gone_t *gone);

/* Manifests (manifest.c)
 * ----------------------------------------------------------------------------------- */

/* How much of one: what it says of itself; where its chunks are; all. */
enum { WKSP_CK_LOAD_INFO = 0, WKSP_CK_LOAD_REFS = 1, WKSP_CK_LOAD_ALL = 2 };

struct wksp_ckpt {
  wksp_ckpt_store_t *store;
  wksp_ckpt_info_t info;
  wksp__ck_wire_info_t wire;
  void *spec;
  wksp__ck_wire_pack_t *packs;
  wksp__ck_ref_t *refs; /* info.chunk_cnt of them, as tables.chunks */
  wksp__ck_tables_t tables;
};

/* Makes sense of the bytes of a file: 0, E_CORRUPT, E_VERSION, E_NOMEM (reported). */
int wksp__ck_manifest_parse(void const *bytes, uint64_t len, int level, wksp_ckpt_t **ret_ckpt);

/* The same for the file of checkpoint id. */
int wksp__ck_manifest_load(wksp_ckpt_store_t *store, ulong id, int level, wksp_ckpt_t **ret_ckpt);

/* The bytes of a file: ckpt as load would give it, freed by the caller. 0, E_NOMEM (reported). */
int wksp__ck_manifest_make(wksp_ckpt_t const *ckpt, void **ret_bytes, uint64_t *ret_len);

/* The same for one that was loaded from those bytes, and whose packs and refs alone have changed
   since: whatever else is there stays, also what this library does not know. */
int wksp__ck_manifest_move(wksp_ckpt_t const *ckpt, void const *bytes, uint64_t len,
                           void **ret_bytes, uint64_t *ret_len);

/* Packs (pack.c)
 * --------------------------------------------------------------------------------------- */

/* A pack in the making; several threads may add to it. */
typedef struct wksp__ck_pack {
  wksp_ckpt_store_t *store;
  int file; /* -1: not begun */
  ulong id;
  char tmp[WKSP_CKPT_FILE_NAME_MAX + 1];
  uint64_t at; /* where the next frame goes */
  uint64_t frame_cnt;
  uint64_t flushed; /* up to here the disk was asked to begin */
} wksp__ck_pack_t;

/* The pack of checkpoint id, whose file is made with its first frame. */
void wksp__ck_pack_new(wksp_ckpt_store_t *store, ulong id, wksp__ck_pack_t *pack);
int wksp__ck_pack_begin(wksp__ck_pack_t *pack, uint64_t created_ns);

/* Adds a frame: room for a header, and behind it the stored_len bytes, unless they are apart. */
int wksp__ck_pack_add(wksp__ck_pack_t *pack, void *frame, void const *apart, uint32_t codec,
                      uint32_t raw_len, uint32_t stored_len, wksp__ck_digest_t digest,
                      uint64_t *ret_off);

/* Ends it, makes it durable and names it; or leaves nothing. *ret_sz: of the file. */
int wksp__ck_pack_publish(wksp__ck_pack_t *pack, uint64_t *ret_sz);
void wksp__ck_pack_cancel(wksp__ck_pack_t *pack);

/* Removes one that was published, for no manifest has come to name it: a full disk would get fuller
   with each try. */
void wksp__ck_pack_take_back(wksp__ck_pack_t *pack);

/* Packs of a checkpoint, open for reading by several threads. */
typedef struct wksp__ck_reader {
  wksp_ckpt_t const *ckpt;
  int *files; /* -1: not open */
  uint32_t open_cnt;
  pthread_mutex_t mutex;
} wksp__ck_reader_t;

int wksp__ck_reader_begin(wksp__ck_reader_t *reader, wksp_ckpt_t const *ckpt);
void wksp__ck_reader_end(wksp__ck_reader_t *reader);

/* What a thread reads chunks with: a coder, and room for a chunk of `chunk` bytes, raw and stored.
 */
typedef struct wksp__ck_bench {
  wksp__ck_coder_t *coder;
  char *raw, *stored;
} wksp__ck_bench_t;

/* cnt of them. 0 and *ret_benches; or E_NOMEM (reported). */
int wksp__ck_benches_new(uint32_t cnt, uint64_t chunk, wksp__ck_bench_t **ret_benches);

/* NULL: nothing. */
void wksp__ck_benches_free(wksp__ck_bench_t *benches, uint32_t cnt);

/* The chunk of a ref, of raw_len bytes, to raw, decoded and with the right digest. stored: room for
   its stored_len and a frame's header, which is read and checked if frame is set. 0, E_CORRUPT,
   E_NOTFOUND, E_SYS (reported). */
int wksp__ck_reader_get(wksp__ck_reader_t *reader, wksp__ck_coder_t *coder,
                        wksp__ck_ref_t const *ref, int frame, void *stored, void *raw);

/* Walks a pack from its first byte to its last and tells of what is wrong, which ends the walk: 0,
   1, or E_SYS, E_NOMEM (reported). source: the bytes of a file of len, by read; on_frame, if not
   NULL, is told of each good frame (pack is not set): 0 or an error. */
typedef struct wksp__ck_source {
  void *self;
  uint64_t len;
  int (*read)(void *self, void *bytes, uint64_t len, uint64_t off); /* 0 or an error */
  int (*on_frame)(void *arg, wksp__ck_ref_t const *frame);
  void *arg;
} wksp__ck_source_t;
int wksp__ck_pack_walk(wksp__ck_source_t const *source, ulong id, wksp__ck_coder_t *coder,
                       void (*on_finding)(void *arg, char const *sentence), void *arg);

/* What the store has (index.c)
 * -------------------------------------------------------------------------- */

/* A chunk that the store has, or that this checkpoint brings. */
typedef struct wksp__ck_known {
  wksp__ck_ref_t ref; /* pack: number among those of the index */
  void *kept;         /* its raw bytes, to be written after the pause */
} wksp__ck_known_t;

typedef struct wksp__ck_index {
  wksp__ck_known_t **known; /* by number, in blocks */
  uint64_t cnt, block_cap;
  uint32_t *slots; /* number + 1 */
  uint64_t slot_cnt;
  wksp__ck_wire_pack_t *packs;
  uint64_t pack_cnt, pack_cap;
  pthread_mutex_t mutex;
} wksp__ck_index_t;

/* From the newest manifests of the store, those that can be read; chunks in packs that are not
   there whole are not known. Number 0 among the packs is that of the new checkpoint. */
int wksp__ck_index_begin(wksp__ck_index_t *index, wksp_ckpt_store_t *store, ulong const *ids,
                         uint64_t id_cnt);
void wksp__ck_index_end(wksp__ck_index_t *index);

/* The chunk with that digest and length: 1 it is known, 0 it is now, and the caller brings it; or
   E_NOMEM (reported). *ret_number: its number. Threads may call this at once. */
int wksp__ck_index_add(wksp__ck_index_t *index, wksp__ck_digest_t digest, uint32_t raw_len,
                       uint64_t *ret_number);

/* The same, but it is not added: 1 it is known, 0. */
int wksp__ck_index_has(wksp__ck_index_t *index, wksp__ck_digest_t digest, uint32_t raw_len,
                       uint64_t *ret_number);

static inline wksp__ck_known_t *wksp__ck_known(wksp__ck_index_t *index, uint64_t number) {
  return &index->known[number >> 12][number & 4095U];
}

#endif
