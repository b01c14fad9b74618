/* ckpt: checkpoints of workspaces: taken while they are in use, kept in a store, checked, restored.

   A checkpoint holds what lives in a workspace at about one time: its partitions, roots, fd_allocs
   and the bytes of live blocks. Free memory contributes nothing. It is restored into fresh memory
   of any page size; every gaddr stays what it was.

   A store is a folder, or whatever the caller's I/O callbacks make of one. Memory is stored in
   chunks, each once, by its digest: what has not changed since an earlier checkpoint of the store
   is not written again, and nevertheless each checkpoint is complete and any may be removed. A
   store belongs to those who trust one another: digests are checksums, no signatures.
   docs/format.md says what the files hold.

   Consistency is one of the modes below. In both, the allocator's state can always be recovered; of
   the program's own data a fuzzy checkpoint says only that each byte was so at some moment between
   begin and end, while one taken under a pause is of one moment for all updates that programs
   bracket (wksp/pause.h).

   A word that malloc_to, take_from or free_from (fd_alloc.h) is at while a fuzzy checkpoint is
   taken may come back with that call's mark, and is then of no use; not so in one that was taken
   under a pause, if these calls are made inside brackets.

   Nothing here needs a daemon. It lives in a library of its own, libwksp-ckpt, since programs that
   only use workspaces need neither codecs nor digests.

   What may overlap: calls on one store may be made from several threads, one at a time; several
   stores, of several threads or processes, may be open on one folder. Who writes (begin to publish
   or cancel, remove, prune, gc) has the store to itself: another gets E_BUSY. Readers are never in
   the way; who reads a checkpoint that is removed, or packed anew, meanwhile gets E_NOTFOUND.

   Functions return 0 or a negative WKSP_E_*; wksp_last_error() has the sentence. Outputs are
   untouched on failure. Sizes are in bytes, times in ns since 1970, durations in ns. */

#ifndef WKSP_CKPT_H
#define WKSP_CKPT_H

#include "error.h"
#include "fd_wksp.h"
#include "types.h"

#include <stdio.h>

WKSP_PROTOTYPES_BEGIN

/* Styles
 * ---------------------------------------------------------------------------------------------- */

enum { WKSP_CKPT_RAW = 0, WKSP_CKPT_LZ4 = 1, WKSP_CKPT_ZSTD = 2 };

/* How chunks are stored. level: of zstd, -7 to 19, not 0; 0: its default here, 1. Else 0. */
typedef struct wksp_ckpt_style {
  uint codec; /* WKSP_CKPT_* */
  int level;
} wksp_ckpt_style_t;

#define WKSP_CKPT_STYLE_MAX 16UL

/* Reads "raw", "lz4", "zstd" or "zstd:LEVEL". 0, E_INVAL. */
WKSP_API int wksp_ckpt_style_parse(char const *text, wksp_ckpt_style_t *ret_style);

/* Writes that form to text, which has room for WKSP_CKPT_STYLE_MAX bytes; returns text. */
WKSP_API char *wksp_ckpt_style_cstr(wksp_ckpt_style_t style, char *text);

/* Tells name and a line about each style that there is, until on_style returns non-zero, which is
   then returned; 0 at the end. */
WKSP_API int wksp_ckpt_styles(int (*on_style)(void *arg, char const *name, char const *about),
                              void *arg);

/* Stores
 * ---------------------------------------------------------------------------------------------- */

/* Names of files are at most this long, without NUL; all characters are letters, digits or '.'. */
#define WKSP_CKPT_FILE_NAME_MAX 31UL

enum { WKSP_CKPT_OPEN_READ = 0, WKSP_CKPT_OPEN_CREATE = 1 /* new, to write and read */ };

/* What a store needs of a folder. Each returns 0 (or a number of bytes) or a negative errno. A
   short write or read is an answer, not a failure; a read behind the end is 0 bytes. pwrite and
   pread of one file may be called by several threads at once, at different places. */
typedef struct wksp_ckpt_io {
  void *self;
  int (*open)(void *self, char const *name, uint how, int *ret_file); /* -ENOENT, -EEXIST */
  void (*close)(void *self, int file);
  long (*pwrite)(void *self, int file, void const *bytes, ulong len, ulong off);
  long (*pread)(void *self, int file, void *bytes, ulong len, ulong off);
  int (*size)(void *self, int file, ulong *ret_size);
  int (*fsync)(void *self, int file);
  int (*rename)(void *self, char const *from, char const *to); /* replaces */
  int (*unlink)(void *self, char const *name);                 /* -ENOENT */
  int (*fsync_folder)(void *self);
  int (*list)(void *self, int (*on_name)(void *arg, char const *name), void *arg);
  /* Keeps other writers out until unlock: -EBUSY. Both may be NULL: the caller sees to it. */
  int (*lock)(void *self);
  void (*unlock)(void *self);
  /* A hint that what was written so far up to off will be made durable soon. May be NULL. */
  void (*write_out)(void *self, int file, ulong off, ulong len);
  void (*end)(void *self); /* the store is closed. May be NULL */
} wksp_ckpt_io_t;

typedef struct wksp_ckpt_store wksp_ckpt_store_t;

/* The store in a folder, which must exist. E_NOTFOUND, E_PERM, E_SYS, E_NOMEM. */
WKSP_API int wksp_ckpt_store_open(char const *path, wksp_ckpt_store_t **ret_store);

/* The same for an open folder; the descriptor stays the caller's and must stay open. Nothing is
   looked up outside of it, so a process without other access to files can use it. */
WKSP_API int wksp_ckpt_store_open_at(int folder_fd, wksp_ckpt_store_t **ret_store);

/* The same over the caller's I/O, which is copied. */
WKSP_API int wksp_ckpt_store_open_io(wksp_ckpt_io_t const *io, wksp_ckpt_store_t **ret_store);

/* No writer of it may be open. NULL: nothing. */
WKSP_API void wksp_ckpt_store_close(wksp_ckpt_store_t *store);

/* Taking
 * ---------------------------------------------------------------------------------------------- */

enum {
  WKSP_CKPT_FUZZY = 1,  /* nobody cooperates, nobody waits */
  WKSP_CKPT_QUIESCE = 2 /* who brackets updates (wksp/pause.h) waits outside of them for the end */
};

enum {
  WKSP_CKPT_PHASE_SCAN = 1,
  WKSP_CKPT_PHASE_PAUSE,
  WKSP_CKPT_PHASE_WRITE,
  WKSP_CKPT_PHASE_SYNC,
  WKSP_CKPT_PHASE_READ,
  WKSP_CKPT_PHASE_CHECK
};

typedef struct wksp_ckpt_progress {
  uint phase;    /* WKSP_CKPT_PHASE_* */
  ulong done_sz; /* of total_sz live bytes in this phase; may be 0 of 0 */
  ulong total_sz;
  ulong written_sz; /* to the store, or to memory by a restore, so far */
} wksp_ckpt_progress_t;

/* Non-zero cancels: the call fails with E_AGAIN, and nothing is left of it. Called by the thread
   that made the call, now and then (at most every 8 MiB of its share), never inside a pause: it may
   wait, which slows the work down. */
typedef int (*wksp_ckpt_progress_fn)(void *arg, wksp_ckpt_progress_t const *progress);

#define WKSP_CKPT_INFO_MAX    1023UL /* bytes of the user's text, without NUL */
#define WKSP_CKPT_SPEC_MAX    (1UL << 20)
#define WKSP_CKPT_THREADS_MAX 64U
#define WKSP_CKPT_SILENT_MAX  16U
#define WKSP_CKPT_HOST_MAX    63UL

typedef struct wksp_ckpt_opts {
  wksp_ckpt_style_t style;
  uint mode;      /* WKSP_CKPT_FUZZY or _QUIESCE; 0: fuzzy */
  uint degrade;   /* quiesce: 1: if somebody stays in a bracket the checkpoint becomes a fuzzy one;
                     0: it fails with E_TIMEDOUT. Either names them */
  ulong wait_ns;  /* quiesce: how long to wait for brackets to end; 0: 100 ms */
  ulong pause_ns; /* quiesce: a client that waits longer goes on by itself; 0: 1 s */
  uint threads; /* that work, the caller's included; 0: as many as the process may use, at most 8 */
  ulong rate;   /* bytes a second to read at most; 0: unlimited. Not inside a pause */
  char const *info; /* the user's text; NULL: none */
  char const *host; /* NULL: as the kernel names it */
  void const *spec; /* of the caller's choice: what it needs to make the workspace again */
  ulong spec_sz;    /* at most WKSP_CKPT_SPEC_MAX */
  ulong page_size;  /* of the workspace's memory, noted for a restore; 0: unknown */
  ulong map_sz;     /* bytes that are mapped at the workspace; 0: all of its footprint. Nothing
                       outside is ever looked at */
  ulong now_ns;     /* 0: the clock's */
  uint still; /* 1: nobody changes the memory until publish (nobody is attached, say), so it is
                 written from where it is; were that wrong, a verify would find damage. 0: what
                 is written is copied first */
  uint fresh; /* 1: relies on no chunk that the store has, and writes all anew: after a verify has
                 found damage, which checkpoints that were made since may have a part in */
  wksp_ckpt_progress_fn on_progress; /* NULL: nobody */
  void *progress_arg;
} wksp_ckpt_opts_t;

/* A client that did not leave its bracket in time, as it sees itself. */
typedef struct wksp_ckpt_silent {
  uint pid, tid;
  char comm[16]; /* printable */
} wksp_ckpt_silent_t;

typedef struct wksp_ckpt_result {
  ulong id;
  uint mode;        /* that was got: WKSP_CKPT_* */
  ulong live_sz;    /* bytes that the checkpoint stands for */
  ulong scanned_sz; /* bytes that were read from memory, both passes together */
  ulong changed_sz; /* bytes of chunks that the store did not have */
  ulong written_sz; /* bytes of the files that were written */
  ulong chunk_cnt;  /* chunks it consists of */
  ulong chunk_new_cnt;
  ulong pause_ns;    /* how long brackets were closed */
  ulong took_ns;     /* from begin to publish */
  ulong suspect_cnt; /* blocks that were in flight */
  uint silent_cnt;   /* who did not answer; the first of them follow */
  wksp_ckpt_silent_t silent[WKSP_CKPT_SILENT_MAX];
} wksp_ckpt_result_t;

/* A checkpoint of a joined workspace, read-write or read-only, in one call: begin, scan, for
   quiesce the pause with finish inside, publish. A read-only join cannot pause anybody (E_RDONLY
   for quiesce). What is in the memory is not trusted: damage costs a failure (E_CORRUPT), never a
   fault. E_INVAL, E_BUSY, E_AGAIN (cancelled; or a change of the partitions was never at an end),
   E_NOMEM, E_TIMEDOUT, E_SYS (the sentence has the file and the reason), E_LIMIT (the store has no
   room). */
WKSP_API int wksp_ckpt_take(wksp_ckpt_store_t *store, fd_wksp_t *wksp, wksp_ckpt_opts_t const *opts,
                            wksp_ckpt_result_t *ret_result);

/* The same in steps. opts is copied, what it points to must stay until publish or cancel.

     begin     has the store to itself from here on
     scan      first pass: reads all that lives, writes what the store does not have
     finish    second pass, at most once, inside a pause that the caller makes: digests all again;
               what changed is kept in memory (up to 64 MiB, the rest is written at once)
     finished  says which mode that got the checkpoint, and how long the pause was
     publish   writes the rest, makes it durable, and only then names it. Ends the writer in any
   case cancel    ends it, leaves nothing. NULL: nothing

   Before a publish with 0 the checkpoint does not exist; afterwards it does, whatever happens.
   Without finish it is fuzzy. After a failure only cancel is left. */
typedef struct wksp_ckpt_writer wksp_ckpt_writer_t;

WKSP_API int wksp_ckpt_begin(wksp_ckpt_store_t *store, fd_wksp_t *wksp,
                             wksp_ckpt_opts_t const *opts, wksp_ckpt_writer_t **ret_writer);
WKSP_API int wksp_ckpt_scan(wksp_ckpt_writer_t *writer);
WKSP_API int wksp_ckpt_finish(wksp_ckpt_writer_t *writer);
WKSP_API void wksp_ckpt_finished(wksp_ckpt_writer_t *writer, uint mode, ulong pause_ns,
                                 wksp_ckpt_silent_t const *silent, uint silent_cnt);
WKSP_API int wksp_ckpt_publish(wksp_ckpt_writer_t *writer, wksp_ckpt_result_t *ret_result);
WKSP_API void wksp_ckpt_cancel(wksp_ckpt_writer_t *writer);

/* Looking
 * ---------------------------------------------------------------------------------------------- */

/* What a checkpoint says of itself: a preview; no memory is read for it. */
typedef struct wksp_ckpt_info {
  ulong id;
  char name[FD_WKSP_NAME_MAX + 1]; /* of the workspace */
  uchar uuid[16];                  /* of the workspace */
  uint seed;
  uint layout_version;
  ulong geometry_hash;
  ulong part_max, data_max;
  ulong data_sz;   /* bytes of data that it had at the time */
  ulong footprint; /* bytes of addresses that a restore needs */
  ulong size; /* bytes of memory that it needs: metadata and data_sz; whole pages are up to you */
  ulong size_min; /* the least that a restore can do with, by a smaller data_sz */
  ulong page_size;
  uint mode_asked, mode; /* WKSP_CKPT_* */
  wksp_ckpt_style_t style;
  ulong created_ns;
  ulong took_ns, pause_ns;
  ulong live_sz, scanned_sz, changed_sz, written_sz;
  ulong file_sz; /* of its own manifest and pack */
  ulong chunk_cnt, pack_cnt;
  ulong part_cnt, root_cnt, alloc_cnt, suspect_cnt;
  ulong part_sz; /* bytes in partitions */
  ulong spec_sz;
  uint silent_cnt; /* of those, min(silent_cnt, WKSP_CKPT_SILENT_MAX) follow */
  wksp_ckpt_silent_t silent[WKSP_CKPT_SILENT_MAX];
  char host[WKSP_CKPT_HOST_MAX + 1];
  char info[WKSP_CKPT_INFO_MAX + 1];
} wksp_ckpt_info_t;

/* Tells each checkpoint of the store, the oldest first, until on_info returns non-zero, which is
   then returned; 0 at the end. One whose manifest is damaged is told of with bad set, the sentence,
   and nothing but its id in info. */
WKSP_API int
wksp_ckpt_list(wksp_ckpt_store_t *store,
               int (*on_info)(void *arg, wksp_ckpt_info_t const *info, char const *bad), void *arg);

/* One of them, opened: its manifest is in memory. id 0: the newest. E_NOTFOUND, E_CORRUPT,
   E_VERSION, E_NOMEM, E_SYS. */
typedef struct wksp_ckpt wksp_ckpt_t;
WKSP_API int wksp_ckpt_open(wksp_ckpt_store_t *store, ulong id, wksp_ckpt_t **ret_ckpt);
WKSP_API void wksp_ckpt_close(wksp_ckpt_t *ckpt);

/* These live as long as ckpt does. */
WKSP_API wksp_ckpt_info_t const *wksp_ckpt_info(wksp_ckpt_t const *ckpt);
WKSP_API void const *wksp_ckpt_spec(wksp_ckpt_t const *ckpt, ulong *ret_sz);

/* Partition and root number idx, from 0, in the order of addresses and of names' places; 1, or 0 if
   there are no more. */
WKSP_API int wksp_ckpt_part(wksp_ckpt_t const *ckpt, ulong idx, fd_wksp_part_t *ret_part);
WKSP_API int wksp_ckpt_root(wksp_ckpt_t const *ckpt, ulong idx, fd_wksp_root_t *ret_root);

/* For people: the header and figures (verbose 0), and figures for each tag, fd_allocs and roots
   (1), and each partition (2). How many bytes were printed (INT_MAX if more), or E_SYS. */
WKSP_API int wksp_ckpt_fprintf(FILE *file, wksp_ckpt_t const *ckpt, uint verbose);

/* Checking
 * ---------------------------------------------------------------------------------------------- */

typedef struct wksp_ckpt_read_opts {
  uint threads;                      /* as above */
  wksp_ckpt_progress_fn on_progress; /* NULL: nobody */
  void *progress_arg;
} wksp_ckpt_read_opts_t;

/* Reads all that the checkpoint (id 0: each one of the store, and each pack from its first byte to
   its last) consists of and checks every checksum and digest. on_finding, if not NULL, is told each
   finding. 0, or E_CORRUPT with the number of findings in the sentence; E_AGAIN (cancelled), and as
   open. opts may be NULL. */
WKSP_API int wksp_ckpt_verify(wksp_ckpt_store_t *store, ulong id, wksp_ckpt_read_opts_t const *opts,
                              void (*on_finding)(void *arg, char const *sentence), void *arg);

/* Keeping
 * ---------------------------------------------------------------------------------------------- */

/* How many to keep: the last ones, and of each of the last so many hours, days, weeks (from Monday)
   and months, in UTC, in which there are any, the newest. All 0: all. */
typedef struct wksp_ckpt_retention {
  uint last, hourly, daily, weekly, monthly;
} wksp_ckpt_retention_t;

/* Which to keep of those taken at created_ns[0 .. cnt), in any order: sets keep[i] to 1 or 0. Pure.
   The newest is always kept. Returns how many are kept. */
WKSP_API ulong wksp_ckpt_retain(wksp_ckpt_retention_t const *retention, ulong const *created_ns,
                                ulong cnt, uchar *keep);

typedef struct wksp_ckpt_gone {
  ulong ckpt_cnt; /* checkpoints removed */
  ulong file_cnt; /* files removed */
  ulong freed_sz; /* bytes in them */
} wksp_ckpt_gone_t;

/* Removes checkpoint id, durably, and then what no other needs. E_NOTFOUND, E_BUSY, E_SYS. ret_gone
   may be NULL. */
WKSP_API int wksp_ckpt_remove(wksp_ckpt_store_t *store, ulong id, wksp_ckpt_gone_t *ret_gone);

/* Removes those that retention does not keep, and then what no other needs. A damaged manifest is
   never removed by this. */
WKSP_API int wksp_ckpt_prune(wksp_ckpt_store_t *store, wksp_ckpt_retention_t const *retention,
                             wksp_ckpt_gone_t *ret_gone);

/* Removes files that no checkpoint needs: packs of removed ones, and what a killed writer left.
   With a damaged manifest in the store no pack is removed, since it may need any. */
WKSP_API int wksp_ckpt_gc(wksp_ckpt_store_t *store, wksp_ckpt_gone_t *ret_gone);

typedef struct wksp_ckpt_repack_opts {
  uint percent;                      /* packs of which at most so much is needed: 1 to 99; 0: 50 */
  ulong least_sz;                    /* bytes that this must win, or nothing is done; 0: 1 MiB */
  uint threads;                      /* as above */
  ulong rate;                        /* bytes a second to copy at most; 0: unlimited */
  wksp_ckpt_progress_fn on_progress; /* NULL: nobody */
  void *progress_arg;
} wksp_ckpt_repack_opts_t;

typedef struct wksp_ckpt_repacked {
  ulong pack_cnt;   /* packs that went */
  ulong written_sz; /* bytes of the one that came */
  ulong freed_sz;   /* bytes of files that were removed */
} wksp_ckpt_repacked_t;

/* What is needed of packs that are mostly dead is copied into a new one, each chunk checked, and
   they are removed. Checkpoints are what they were, each complete at each moment, whatever fails. A
   pack whose own checkpoint is there is left alone. 0, also if nothing is worth it; E_CORRUPT,
   E_VERSION (a manifest that cannot be read, or a damaged chunk: nothing was done), E_AGAIN
   (cancelled), E_BUSY, E_LIMIT (no room), E_SYS, E_NOMEM. opts and ret_repacked may be NULL. */
WKSP_API int wksp_ckpt_repack(wksp_ckpt_store_t *store, wksp_ckpt_repack_opts_t const *opts,
                              wksp_ckpt_repacked_t *ret_repacked);

/* Restoring
 * ---------------------------------------------------------------------------------------------- */

typedef struct wksp_ckpt_restore_opts {
  void *shmem;    /* zeroed memory, FD_WKSP_ALIGN aligned, which nobody else has; mapped for info's
                     footprint. Behind data_sz it need not have pages */
  ulong map_sz;   /* bytes mapped there, >= footprint */
  ulong data_sz;  /* bytes of data that have memory, a multiple of 64 KiB up to data_max and not
                     below what is in use; 0: up to where it was */
  ulong part_max; /* dimensions: as it was (both 0), or as wksp_ckpt_refit says; then footprint, and
                   */
  ulong data_max; /* what data_sz counts from, are theirs */
  char const *name;  /* NULL: as it was */
  uchar const *uuid; /* of 16 bytes; NULL: as it was */
  uint seed_set;     /* 1: seed is the new one */
  uint seed;
  ulong const *tags; /* only partitions with one of these tags, fd_allocs whose head lies in one,
                        with all of their memory, and roots that lead there; tag_cnt 0: all */
  ulong tag_cnt;
  uint threads;
  wksp_ckpt_progress_fn on_progress;
  void *progress_arg;
  /* Told of each block that was in flight, if not NULL: alloc is the gaddr of its fd_alloc. */
  void (*on_suspect)(void *arg, ulong alloc, ulong gaddr);
  void *suspect_arg;
} wksp_ckpt_restore_opts_t;

/* Dimensions for a restore into at most footprint bytes of addresses, fewer or more than there
   were. Since no gaddr changes, tables can take no more room than they took: a larger workspace has
   a smaller part_max, and there is a most that can be. 0; E_LIMIT: the sentence has what can be. */
WKSP_API int wksp_ckpt_refit(wksp_ckpt_info_t const *info, ulong footprint, ulong *ret_part_max,
                             ulong *ret_data_max);

typedef struct wksp_ckpt_restored {
  ulong live_sz; /* bytes restored */
  ulong part_cnt, root_cnt, alloc_cnt, suspect_cnt;
  ulong took_ns;
} wksp_ckpt_restored_t;

/* Makes the workspace again in fresh memory, and verifies it: every digest, then its structure.
   Only then the memory is a workspace, ready to be joined or handed out; before, and after a
   failure, it is not recognisable as one, and must be thrown away. Fd_allocs go on: join them at
   their gaddr. What lay in magazines is free. Blocks that were in flight are suspect, as after a
   kill, and ephemeral fd_allocs are gone, as their clients are. All locks, slots and leases are
   new. E_INVAL, E_CORRUPT, E_VERSION (another layout), E_LIMIT (data_sz or a dimension is too
   small, the sentence says what is needed), E_AGAIN, E_NOTFOUND, E_NOMEM, E_SYS. ret_restored may
   be NULL. */
WKSP_API int wksp_ckpt_restore(wksp_ckpt_t const *ckpt, wksp_ckpt_restore_opts_t const *opts,
                               wksp_ckpt_restored_t *ret_restored);

WKSP_PROTOTYPES_END

#endif
