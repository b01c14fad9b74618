/* testing: what the tests of lib/ckpt share: a workspace with something in it, what it looked like,
   a store in memory, and its restore. */

#ifndef WKSP_CKPT_TESTING_H
#define WKSP_CKPT_TESTING_H

#include "ckpt/store.h"
#include "core/testing.h"
#include "wksp/ckpt.h"
#include "wksp/fd_alloc.h"

#include <errno.h>

/* A store in memory, that can be told to fail: the Nth call from now on, in a way. */
#define MEM_FILES_MAX 256
enum { MEM_FAULT_NONE = 0, MEM_FAULT_ERROR, MEM_FAULT_SHORT, MEM_FAULT_FULL };

typedef struct mem_file {
  char name[WKSP_CKPT_FILE_NAME_MAX + 1]; /* "": none */
  uchar *bytes;
  ulong len, cap;
  uint serial; /* which file it is, whatever its name */
} mem_file_t;

/* What was done to the store, in order. */
enum { MEM_MAKE = 1, MEM_WRITE, MEM_SYNC, MEM_RENAME, MEM_UNLINK, MEM_SYNC_FOLDER };
typedef struct mem_op {
  int kind;
  uint serial;
  char name[WKSP_CKPT_FILE_NAME_MAX + 1], to[WKSP_CKPT_FILE_NAME_MAX + 1];
  uchar *bytes;
  ulong len, off;
} mem_op_t;

typedef struct mem_store {
  mem_file_t files[MEM_FILES_MAX];
  ulong call_cnt;
  ulong fault_at; /* number of the call, from 1; 0: none */
  int fault;      /* MEM_FAULT_* */
  pthread_mutex_t mutex;
  mem_op_t *ops;
  ulong op_cnt, op_cap;
  uint serial;
} mem_store_t;

void mem_store_new(mem_store_t *mem);
void mem_store_end(mem_store_t *mem);
wksp_ckpt_store_t *mem_store_open(mem_store_t *mem);
/* What is left in *ret after a power failure behind the first cnt of mem's operations. A name is as
   it was when the folder was last synced, and each later change of it has happened or not, by
   itself; a file has what was written before it was last synced, and of the rest nothing (GONE),
   all (KEPT), a prefix (PREFIX: names and writes in order), or any part (MIXED). */
enum { POWER_GONE = 0, POWER_KEPT, POWER_PREFIX, POWER_MIXED, POWER_HOWS };
void mem_store_power(mem_store_t const *mem, ulong cnt, int how, testing_rng_t *rng,
                     mem_store_t *ret);
mem_file_t *mem_file(mem_store_t *mem, char const *suffix, uint idx); /* NULL: no more */

/* A workspace with user partitions, roots and an fd_alloc with small and large blocks, all filled
   with bytes that follow from where they are. */
typedef struct sample {
  fd_wksp_t *wksp;
  ulong alloc_gaddr;
  ulong *block; /* gaddrs that live; 0: freed again */
  ulong *size;
  ulong block_cnt;
  ulong user[8], user_sz[8];
} sample_t;

void sample_new(sample_t *sample, ulong data_max, ulong block_cnt, testing_rng_t *rng);
void sample_end(sample_t *sample);

/* Whether the bytes there are those that a sample has at that gaddr. */
int sample_filled(fd_wksp_t const *wksp, ulong gaddr, ulong size);

/* Frees and allocates and writes some more. */
void sample_change(sample_t *sample, ulong cnt, testing_rng_t *rng);

/* A restore of checkpoint id (0: the newest), joined; its memory. */
typedef struct restored {
  fd_wksp_t *wksp;
  void *shmem;
  ulong map_sz;
  wksp_ckpt_restored_t result;
} restored_t;
int sample_restore(wksp_ckpt_store_t *store, ulong id, wksp_ckpt_restore_opts_t const *opts,
                   restored_t *ret);
void restored_end(restored_t *restored);

/* Everything in it is as it is in sample, and its fd_alloc works. */
void sample_same(sample_t const *sample, fd_wksp_t *wksp);

/* A sample, and a store in memory for it. */
typedef struct bed {
  sample_t sample;
  mem_store_t mem;
  wksp_ckpt_store_t *store;
  testing_rng_t rng;
} bed_t;

void bed_new(bed_t *bed, ulong data_max, ulong block_cnt);
void bed_end(bed_t *bed);

/* A number that stands for what lives in it: partitions, roots, bytes of live blocks; but for the
   head of its fd_alloc, which has caches. */
uint64_t sample_digest(sample_t const *sample, fd_wksp_t *wksp);

#endif
