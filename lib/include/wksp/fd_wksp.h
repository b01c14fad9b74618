/* fd_wksp: a region of shared memory divided into tagged partitions.

   A workspace is a block of memory that any number of processes map, each wherever it likes. Inside
   are partitions: ranges of any size and alignment, each with a non-zero tag that says what it is
   for. Partitions are for large or long-lived things; small objects come from fd_alloc, which takes
   its memory from here. Programs find what they left behind through named roots.

   All state lives in the workspace, so whoever maps it can carry on, and a process that is killed
   at any instruction blocks nobody and breaks nothing: a change of the partition table is written
   down whole before it is begun, and whoever comes next finishes it.

   Not for: messages (there is no notification), or security between writers: all who may write a
   workspace trust one another.

   What may overlap with what: every function below may be called from any thread of any process at
   any time, except new and delete, which want the memory to themselves, and leave / delete_anon /
   detach, after which the handle is dead for all threads of the process. */

#ifndef WKSP_FD_WKSP_H
#define WKSP_FD_WKSP_H

#include "error.h"
#include "types.h"

#include <stdio.h>

WKSP_PROTOTYPES_BEGIN

/* A workspace's name: 1 to 39 characters of letters, digits, '.', '_', '-', the first a letter or
 * digit. */
#define FD_WKSP_NAME_MAX 39UL

/* Where fd_wksp_new wants its memory: at least this alignment, in bytes. */
#define FD_WKSP_ALIGN 4096UL

/* Alignment of partitions when 0 is asked for, in bytes. */
#define FD_WKSP_ALLOC_ALIGN_DEFAULT 4096UL

/* A partition's size is rounded up to a multiple of this, and its alignment is at least this; in
 * bytes. */
#define FD_WKSP_PART_GRAIN 64UL

/* A root's name: 1 to 63 bytes, any but NUL. */
#define FD_WKSP_ROOT_NAME_MAX 63UL

/* How many roots a workspace can hold. */
#define FD_WKSP_ROOT_MAX 256UL

/* What a partition is used for. */
enum {
  FD_WKSP_KIND_USER = 1,  /* fd_wksp_alloc */
  FD_WKSP_KIND_SPANS = 2, /* spans of an fd_alloc */
  FD_WKSP_KIND_HEAP = 3,  /* per-thread state of an fd_alloc */
  FD_WKSP_KIND_LARGE = 4  /* one large fd_alloc_malloc */
};

typedef struct fd_wksp_part {
  ulong gaddr; /* first byte */
  ulong size;  /* bytes, a multiple of FD_WKSP_PART_GRAIN */
  ulong tag;   /* non-zero */
  uint kind;   /* FD_WKSP_KIND_* */
} fd_wksp_part_t;

typedef struct fd_wksp_root {
  char name[FD_WKSP_ROOT_NAME_MAX + 1];
  ulong gaddr;
  ulong tag;
} fd_wksp_root_t;

/* Figures of a workspace, or of some of its tags. Sizes are in bytes. */
typedef struct fd_wksp_usage {
  ulong total_max;   /* partitions, free ones included, that there can be at all (part_max, or one
                        less while a part of the data region has no memory) */
  ulong total_cnt;   /* partitions, free ones included */
  ulong total_sz;    /* size of the data region at present: fd_wksp_data_sz */
  ulong free_cnt;    /* free partitions */
  ulong free_sz;     /* bytes in them */
  ulong free_sz_max; /* the largest of them */
  ulong used_cnt;    /* partitions with one of the tags asked for */
  ulong used_sz;     /* bytes in them */
} fd_wksp_usage_t;

/* Geometry
 * -------------------------------------------------------------------------------------------- */

WKSP_API ulong fd_wksp_align(void);

/* Bytes that a workspace of these dimensions takes, 0 if they are impossible. part_max: partitions,
   free ones included, in [8, 2^31). data_max: bytes for data, in [64 KiB, 2^46], rounded up to 64
   KiB. */
WKSP_API ulong fd_wksp_footprint(ulong part_max, ulong data_max);

/* The part_max that suits a workspace of footprint bytes whose partitions are sz_typical bytes
   large (0: 64 KiB); 0 if nothing fits. */
WKSP_API ulong fd_wksp_part_max_est(ulong footprint, ulong sz_typical);

/* The largest data_max with fd_wksp_footprint(part_max, data_max) <= footprint; 0 if nothing fits.
 */
WKSP_API ulong fd_wksp_data_max_est(ulong footprint, ulong part_max);

/* Life
 * ------------------------------------------------------------------------------------------------
 */

/* Formats footprint bytes of zeroed, FD_WKSP_ALIGN aligned memory. Every page that is formatted is
   written; the data region is not touched. seed: any, kept for the caller. Returns shmem, or NULL
   (E_INVAL). */
WKSP_API void *fd_wksp_new(void *shmem, char const *name, uint seed, ulong part_max,
                           ulong data_max);

/* Joins this process to the workspace mapped at shwksp, whose whole footprint must be mapped
   readable and writable. Joins nest. Returns the handle, or NULL (E_CORRUPT, E_VERSION, E_NOMEM).
 */
WKSP_API fd_wksp_t *fd_wksp_join(void *shwksp);

/* The same for memory that is mapped read-only: lookups, usage and listing work, all else fails
 * with E_RDONLY. */
WKSP_API fd_wksp_t *fd_wksp_join_ro(void const *shwksp);

/* Undoes one join. Returns the address that was joined. While other threads of this process still
   hold a slot in the workspace the memory must stay mapped until they have ended; detach and
   delete_anon see to that. */
WKSP_API void *fd_wksp_leave(fd_wksp_t *wksp);

/* Makes the memory unrecognisable as a workspace. Nobody may be joined. Returns shwksp or NULL. */
WKSP_API void *fd_wksp_delete(void *shwksp);

/* A workspace without a daemon, in a memfd that this process and its later forks share. size: bytes
   in all, rounded up to pages. page_size: 0 (4096), 4096, 2 MiB or 1 GiB. part_max: 0 for an
   estimate. Joined. NULL: E_INVAL, E_NOMEM, E_SYS. */
WKSP_API fd_wksp_t *fd_wksp_new_anon(char const *name, ulong size, ulong page_size, uint seed,
                                     ulong part_max);

/* The same in parts: sub_page_cnt[i] pages of page_sz bytes on the memory node of cpu
   sub_cpu_idx[i], one part after the other; sub_cpu_idx NULL: anywhere. Huge pages are taken there,
   or it fails (E_NOMEM); pages of 4096 come as they are touched, from there while the node has
   room. E_INVAL also for a cpu that is not there, or whose node has no memory for this process. */
WKSP_API fd_wksp_t *fd_wksp_new_anon_near(char const *name, ulong page_sz, ulong sub_cnt,
                                          ulong const *sub_page_cnt, ulong const *sub_cpu_idx,
                                          uint seed, ulong part_max);

/* Where memory of one process alone comes from; all 0 but size is a good choice. */
typedef struct fd_wksp_private {
  ulong size;     /* bytes of addresses at most, tables included; memory is taken as it is used */
  ulong part_max; /* 0 for an estimate */
  ulong keep;     /* so many bytes, about, that are free again stay at hand; more go back to the
                     system as they become free */
  ulong nodes;    /* a bit for each memory node on which it may lie; 0: any */
  ulong flags;    /* a sum of FD_WKSP_PRIVATE_* */
  uint seed;
} fd_wksp_private_t;

/* 2 MiB pages: as the kernel finds them (MADV_HUGEPAGE); or of the pool, whole ones, taken as the
   data grow, and ordinary ones where the pool has no more. Of the pool, a child of fork may be
   killed by the kernel when it writes and the pool is empty. */
#define FD_WKSP_PRIVATE_THP     1UL
#define FD_WKSP_PRIVATE_HUGETLB 2UL

/* With a size of 1 GiB or more: up to 8,191 threads at once each have a slot of their own, in place
   of 1,023; those beyond take turns. Not for malloc_to, take_from and free_from, which fail there
   (E_UNSUPPORTED), nor for many fd_allocs. */
#define FD_WKSP_PRIVATE_THREADS 4UL

/* A workspace without a daemon in memory of this process alone, which is copied, as malloc's is,
   when the process forks: the child goes on with its copy, and threads that were not forked count
   as killed at that instant. It has addresses for its whole size and grows by itself, by steps of
   32 MiB or an eighth (fd_wksp_data_sz). It lies at a multiple of 2 MiB: larger alignments of
   blocks are those of their gaddrs only. In a child of vfork it is its parent's. Joined;
   fd_wksp_delete_anon ends it. NULL: E_INVAL, E_NOMEM (more addresses than ulimit -v allows), E_SYS
   (no such node). */
WKSP_API fd_wksp_t *fd_wksp_new_private(char const *name, fd_wksp_private_t const *how);

/* Gives the free memory of a private workspace back to the system, whatever its `keep`: after
   fd_wksp_compact all that can be. *ret_free_sz (may be NULL): bytes in free partitions, resident
   before or not. Others work meanwhile. 0, E_UNSUPPORTED (not private), E_TIMEDOUT, E_INVAL. */
WKSP_API int fd_wksp_trim(fd_wksp_t *wksp, ulong *ret_free_sz);

/* Leaves and unmaps it; the memory is freed when the last process that maps it has done so or
 * ended. */
WKSP_API void fd_wksp_delete_anon(fd_wksp_t *wksp);

/* Facts
 * -----------------------------------------------------------------------------------------------
 */

WKSP_API char const *fd_wksp_name(fd_wksp_t const *wksp);
WKSP_API uint fd_wksp_seed(fd_wksp_t const *wksp); /* as given to new, or to the last reset */
WKSP_API ulong fd_wksp_part_max(fd_wksp_t const *wksp);
WKSP_API ulong fd_wksp_data_max(fd_wksp_t const *wksp);
WKSP_API ulong fd_wksp_gaddr_lo(fd_wksp_t const *wksp); /* first gaddr of the data region */
WKSP_API ulong
fd_wksp_gaddr_hi(fd_wksp_t const *wksp); /* one past its last, as large as it can be */

/* Bytes of data at present, from fd_wksp_gaddr_lo on; 0 on failure (E_AGAIN, E_CORRUPT). Of a
   workspace that the daemon made with a max-size this is less than data_max until it has been
   resized to all of that; what lies behind has no memory and must not be touched. It may change at
   any time, upwards, and downwards as far as nothing is allocated. */
WKSP_API ulong fd_wksp_data_sz(fd_wksp_t const *wksp);

/* The pid, as it sees itself, of the process that holds the workspace's lock, 0 if nobody does. For
   people: a moment later it may be another. A dead holder is named until the next call takes over
   from it. */
WKSP_API uint fd_wksp_owner(fd_wksp_t const *wksp);

/* wksp_strerror (error.h) under the name that users of this interface know. */
WKSP_API char const *fd_wksp_strerror(int err);

/* Lock and protection
 * ---------------------------------------------------------------------------------
 */

/* Takes the workspace's lock for the calling thread, until fd_wksp_unlock, for looking at several
   things of one moment or to keep partitions and roots as they are for a while. timeout_ns: how
   long to wait at most for a holder that lives; 0: not at all, ULONG_MAX: for as long as it lives.
   0, or E_TIMEDOUT (the sentence names the holder), E_BUSY (this thread holds it already),
   E_RDONLY, E_LIMIT (every slot of the workspace is taken, so none is left to hold it from),
   E_INVAL, E_CORRUPT.

   While it is held, this thread's lookups work (usage, part_next, tag_query, list, root_find,
   verify, addresses): nothing that they see can change. Its calls that change the workspace fail
   with E_BUSY: alloc, free, tag_free, memset, reset, root_set and _remove, and every call of an
   fd_alloc in it that takes, frees or compacts (fd_alloc_free leaves the block alone: free it again
   after the unlock). Other threads and processes read, write, malloc and free small blocks as ever;
   what needs the lock waits, and fails with E_TIMEDOUT naming this thread if that takes too long
   (10 s; a malloc that needs new memory 0.25 s). A compact skips the holder. If the holder dies,
   whoever wants the lock next has it within milliseconds; a thread that ends, or leaves the
   workspace for the last time, gives it back. */
WKSP_API int fd_wksp_lock(fd_wksp_t *wksp, ulong timeout_ns);

/* Gives it back. 0. E_INVAL: the calling thread does not hold it (another's lock is left alone; a
   forked child holds nothing). E_CORRUPT: it was no longer this thread's. */
WKSP_API int fd_wksp_unlock(fd_wksp_t *wksp);

/* What fd_wksp_mprotect protects: all before gaddr_lo but for the lock, record and slots; from
 * gaddr_lo to gaddr_hi; both. */
#define FD_WKSP_PROTECT_TABLES 1U
#define FD_WKSP_PROTECT_DATA   2U
#define FD_WKSP_PROTECT_ALL    3U

/* Protects memory of the workspace from this process, to find stray accesses: from now on they are
   a SIGSEGV. what: FD_WKSP_PROTECT_*. prot, of <sys/mman.h>: PROT_READ|PROT_WRITE takes protection
   away, PROT_READ makes stores fault, PROT_NONE (data only) loads too. For this mapping, all
   threads of this process, and children that it forks from now on; other processes are not
   concerned.

   Whole pages are protected. The lock, record and slots stay writable, so a process that is
   killed is still recognised as dead; and so does a page that holds a part of them or of what was
   not named, which only happens with pages larger than 4096 bytes.

   While any part is not writable, calls of this process that change the workspace, of fd_allocs
   too, fail with E_RDONLY and do not fault; so does a lookup that would have to finish what a
   killed writer began. Lookups work; with PROT_NONE, those that read the data fault (fd_alloc_walk,
   _stat, _is_empty). fd_alloc_leave, and threads that end, leave their heaps as a killed thread
   does. The last leave or detach takes the protection away.

   Threads of this process inside a call are waited for, at most 1 s: E_BUSY, also if one holds the
   lock. 0, E_BUSY, E_INVAL, E_RDONLY (PROT_WRITE for a read-only join), E_UNSUPPORTED (no page of
   this workspace holds only what was named), E_NOMEM, E_SYS; then it is as it was. */
WKSP_API int fd_wksp_mprotect(fd_wksp_t *wksp, uint what, int prot);

/* Addresses
 * ------------------------------------------------------------------------------------------- */

/* Unchecked. gaddr 0 is not null here. */
static inline void *fd_wksp_laddr_fast(fd_wksp_t const *wksp, ulong gaddr) {
  return (void *)((ulong)wksp + gaddr);
}

static inline ulong fd_wksp_gaddr_fast(fd_wksp_t const *wksp, void const *laddr) {
  return (ulong)laddr - (ulong)wksp;
}

/* Checked: NULL for gaddr 0 (no error) or outside the data region (E_INVAL); one past the end is
 * inside. */
WKSP_API void *fd_wksp_laddr(fd_wksp_t const *wksp, ulong gaddr);

/* Checked: 0 for NULL (no error) or an address outside the data region (E_INVAL). */
WKSP_API ulong fd_wksp_gaddr(fd_wksp_t const *wksp, void const *laddr);

/* The workspace joined by this process in whose memory laddr lies, metadata included; NULL for NULL
   (no error) or if there is none (E_NOTFOUND). */
WKSP_API fd_wksp_t *fd_wksp_containing(void const *laddr);

/* Room for "name:gaddr" and its NUL, in bytes. */
#define FD_WKSP_CSTR_MAX 64UL

/* Writes "name:0x1f000" for gaddr, which must lie in the data region (one past its end is inside),
   to cstr, which has room for FD_WKSP_CSTR_MAX bytes. Returns cstr, or NULL (E_INVAL, cstr is
   untouched). */
WKSP_API char *fd_wksp_cstr(fd_wksp_t const *wksp, ulong gaddr, char *cstr);

/* The same for an address in a joined workspace. NULL: E_INVAL (NULL, or in its metadata),
   E_NOTFOUND (in no joined workspace). */
WKSP_API char *fd_wksp_cstr_laddr(void const *laddr, char *cstr);

/* Reads that form: a workspace's name, ':', and a gaddr in decimal or in hexadecimal after 0x, not
   0, and nothing else. ret_name has room for FD_WKSP_NAME_MAX+1 bytes; it or ret_gaddr may be NULL.
   Nobody is asked whether there is such a workspace. 0, E_INVAL. */
WKSP_API int fd_wksp_cstr_parse(char const *cstr, char *ret_name, ulong *ret_gaddr);

/* Partitions
 * ------------------------------------------------------------------------------------------ */

/* Takes a partition of at least sz bytes, aligned to align (a power of two, 0 for
   FD_WKSP_ALLOC_ALIGN_DEFAULT), for tag (non-zero). Returns its gaddr and sets [*ret_lo, *ret_hi)
   to the range that the caller got. sz 0 returns 0, no error. 0 on failure: E_INVAL, E_NOMEM,
   E_RDONLY, E_TIMEDOUT, E_CORRUPT; then *ret_lo and *ret_hi are untouched. */
WKSP_API ulong fd_wksp_alloc_at_least(fd_wksp_t *wksp, ulong align, ulong sz, ulong tag,
                                      ulong *ret_lo, ulong *ret_hi);

WKSP_API ulong fd_wksp_alloc(fd_wksp_t *wksp, ulong align, ulong sz, ulong tag);

/* Frees the partition that contains gaddr (any byte of it). 0: nothing. E_NOTFOUND if no partition
   of kind USER contains it (memory of an fd_alloc goes back through the fd_alloc), E_RDONLY,
   E_TIMEDOUT. */
WKSP_API int fd_wksp_free(fd_wksp_t *wksp, ulong gaddr);

/* The same with local addresses; NULL on failure. */
WKSP_API void *fd_wksp_alloc_laddr(fd_wksp_t *wksp, ulong align, ulong sz, ulong tag);
WKSP_API int fd_wksp_free_laddr(fd_wksp_t *wksp, void *laddr);

/* The tag of the partition that contains gaddr, 0 if none does. */
WKSP_API ulong fd_wksp_tag(fd_wksp_t *wksp, ulong gaddr);

/* Finds the partitions, of whatever kind, whose tag is among tags[0 .. tag_cnt), none of them 0;
   tags named twice count once, tag_cnt 0 finds nothing. Returns how many there are, and fills
   infos[0 .. min(info_max, that)), in no particular order; all of one moment. infos may be NULL if
   info_max is 0. Takes time in proportion to what is found. E_INVAL, E_AGAIN, E_CORRUPT; then what
   infos holds is undefined. */
WKSP_API long fd_wksp_tag_query(fd_wksp_t *wksp, ulong const *tags, ulong tag_cnt,
                                fd_wksp_part_t *infos, ulong info_max);

/* Frees the partitions of kind USER which had one of these tags (as above) when the call began.
   Returns how many it freed. Each is freed for itself and the lock is given up now and then: a kill
   in between, or a failure, leaves some freed and the rest as they were; call again to go on. With
   E_BUSY nothing was freed: an fd_alloc lies in one of them, which fd_alloc_delete ends. E_INVAL,
   E_NOMEM, E_RDONLY, E_TIMEDOUT, E_AGAIN, E_CORRUPT. */
WKSP_API long fd_wksp_tag_free(fd_wksp_t *wksp, ulong const *tags, ulong tag_cnt);

/* Sets every byte of the partition that contains gaddr (any byte of it) to (uchar)c. It must not be
   freed meanwhile; the workspace is not locked. 0. E_NOTFOUND if no partition of kind USER contains
   gaddr, E_BUSY if an fd_alloc lies in it, E_INVAL, E_RDONLY, E_AGAIN, E_CORRUPT; then nothing was
   written. */
WKSP_API int fd_wksp_memset(fd_wksp_t *wksp, ulong gaddr, int c);

/* Unbinds all named roots, frees all partitions of kind USER, and sets the seed, in this order: a
   root never points to what was freed, and the new seed says that all is done. A kill in between,
   or a failure, leaves some of it done; call again to go on. The bytes are not cleared. Nobody else
   may be using the workspace. 0. With E_BUSY nothing was done: there are fd_allocs, the sentence
   says how many; fd_alloc_delete ends them. E_INVAL, E_RDONLY, E_TIMEDOUT, E_AGAIN, E_CORRUPT. */
WKSP_API int fd_wksp_reset(fd_wksp_t *wksp, uint seed);

/* A listing for people: tells on_line each line, without its line end, until it returns non-zero,
   which is then returned; 0 at the end. First the workspace and its figures, then its partitions in
   the order of addresses, then its roots; bytes of a root's name that are not printable ASCII come
   as \xNN. (The library does no I/O: to print it, let on_line call puts.) No lock is held while
   on_line runs; like fd_wksp_part_next this is no snapshot. E_INVAL, E_AGAIN, E_CORRUPT. */
WKSP_API int fd_wksp_list(fd_wksp_t *wksp, int (*on_line)(void *arg, char const *line), void *arg);

/* Prints that listing, a line each, to file. Returns how many bytes were printed (INT_MAX if more),
   or E_SYS (file took no more; the sentence has the reason), E_INVAL, E_AGAIN, E_CORRUPT; then a
   part has been printed. What file buffers is not flushed. */
WKSP_API int fd_wksp_fprintf(FILE *file, fd_wksp_t *wksp);

/* Fills *ret_usage with figures over the partitions whose tag is among tags[0 .. tag_cnt); tag_cnt
   0: over all. 0, E_INVAL, E_AGAIN (a read-only join met a writer that did not finish),
   E_CORRUPT. */
WKSP_API int fd_wksp_usage(fd_wksp_t *wksp, ulong const *tags, ulong tag_cnt,
                           fd_wksp_usage_t *ret_usage);

/* The first used partition at or after gaddr_from, in address order. 1 and *ret_part, 0 if there is
   none, E_AGAIN, E_CORRUPT. Walk with gaddr_from = part.gaddr + part.size; a walk sees each
   moment's table, not one snapshot. */
WKSP_API int fd_wksp_part_next(fd_wksp_t *wksp, ulong gaddr_from, fd_wksp_part_t *ret_part);

/* Walks everything that the format lets one check. 0 or E_CORRUPT; on_finding, if not NULL, is told
   each finding (at most 64). E_AGAIN when a read-only join met a writer that did not finish,
   E_RDONLY while the data are PROT_NONE (fd_wksp_mprotect), E_INVAL. */
WKSP_API int fd_wksp_verify(fd_wksp_t *wksp, void (*on_finding)(void *arg, char const *sentence),
                            void *arg);

/* Makes a damaged workspace satisfy its format again, from what its entries, roots and spans say by
   themselves, and gives it the seed. on_loss, if not NULL, is told what had to be dropped or
   changed, one sentence each (at most 256, then how many more): partitions that lie outside the
   data region or overlap one that begins before, roots to nowhere, fd_allocs whose head is gone and
   what they held. What is not told of is kept, with its contents, address, size and tag. Under the
   lock; others may be attached, and wait. 0, also when something was dropped; E_CORRUPT if the
   header is damaged, E_BUSY if an fd_alloc is damaged that living threads own heaps in, E_TIMEDOUT,
   E_RDONLY, E_NOMEM. Linear in part_max and data_max; killed, it is to be run again, and other
   calls say so. */
WKSP_API int fd_wksp_rebuild(fd_wksp_t *wksp, uint seed,
                             void (*on_loss)(void *arg, char const *sentence), void *arg);

/* Named roots
 * ----------------------------------------------------------------------------------------- */

/* Binds name to (gaddr, tag), atomically replacing what it was bound to. gaddr must lie in the data
   region. E_INVAL, E_NOMEM (FD_WKSP_ROOT_MAX), E_RDONLY, E_TIMEDOUT. */
WKSP_API int fd_wksp_root_set(fd_wksp_t *wksp, char const *name, ulong gaddr, ulong tag);

/* The same, but fails with E_EXISTS if the name is bound: of several processes that try, one wins.
 */
WKSP_API int fd_wksp_root_add(fd_wksp_t *wksp, char const *name, ulong gaddr, ulong tag);

/* Finds it. 0 and *ret_root (may be NULL), or E_NOTFOUND, E_INVAL, E_AGAIN. */
WKSP_API int fd_wksp_root_find(fd_wksp_t *wksp, char const *name, fd_wksp_root_t *ret_root);

/* The root in directory place *place or the first after it; *place becomes the next place to ask
 *for. Start with 0. 1 and ret_root, or 0 at the end, E_AGAIN. */
WKSP_API int fd_wksp_root_next(fd_wksp_t *wksp, uint *place, fd_wksp_root_t *ret_root);

/* Unbinds it. E_NOTFOUND, E_RDONLY, E_TIMEDOUT. What it pointed to is not freed. */
WKSP_API int fd_wksp_root_remove(fd_wksp_t *wksp, char const *name);

/* Through the daemon
 * ---------------------------------------------------------------------------------- */

/* Opens the workspace called name at the daemon on the default socket (wksp/client.h), maps it and
   joins. NULL on failure: E_NODAEMON, E_NOTFOUND, E_PERM, E_VERSION, ... */
WKSP_API fd_wksp_t *fd_wksp_attach(char const *name);

/* Undoes one attach (also wksp_client_attach) and unmaps with the last; NULL does nothing. */
WKSP_API int fd_wksp_detach(fd_wksp_t *wksp);

/* Creates a workspace of sub_page_cnt[0] + ... + sub_page_cnt[sub_cnt-1] pages of page_sz bytes
   (WKSP_PAGE_4K, 2M or 1G). sub_cpu_idx[i]: on the memory node of that cpu the part's pages have to
   be, else it is an error; ordinary pages are divided in units of 2 MiB. NULL: near the caller, if
   they can be. mode: permission bits, 0: 0660. part_max: 0 for an estimate. 0, or what
   wksp_client_create returns. */
WKSP_API int fd_wksp_new_named(char const *name, ulong page_sz, ulong sub_cnt,
                               ulong const *sub_page_cnt, ulong const *sub_cpu_idx, ulong mode,
                               uint seed, ulong part_max);

/* Removes it. 0, E_BUSY (attached somewhere, here too), E_NOTFOUND, E_PERM, E_INVAL, E_NODAEMON...
 */
WKSP_API int fd_wksp_delete_named(char const *name);

/* By name
 * ---------------------------------------------------------------------------------------------
 */

/* These take a workspace's name, or a place "name:gaddr" (as fd_wksp_cstr_parse), and find the
   workspace: if this process has joined one of that name, that one (the first if there are several;
   one joined read-write where something changes), else the daemon is asked and the workspace
   attached for the time of the call. So all may fail with what fd_wksp_attach says. For a start, a
   tool or a test; in a loop, attach once and use the calls above. */

/* fd_wksp_alloc; the place goes to cstr, which has room for FD_WKSP_CSTR_MAX bytes and is untouched
   on failure. Returns cstr. NULL on failure, or for sz 0 (no error). */
WKSP_API char *fd_wksp_cstr_alloc(char const *name, ulong align, ulong sz, ulong tag, char *cstr);

/* fd_wksp_free, fd_wksp_memset, fd_wksp_tag. */
WKSP_API int fd_wksp_cstr_free(char const *cstr);
WKSP_API int fd_wksp_cstr_memset(char const *cstr, int c);
WKSP_API ulong fd_wksp_cstr_tag(char const *cstr);

/* The address of that place in this process, which is joined to the workspace, read-write, until
   fd_wksp_unmap was called as often. The place must lie in the data region; nobody is asked whether
   it is allocated. NULL: E_INVAL, or as fd_wksp_attach. */
WKSP_API void *fd_wksp_map(char const *cstr);

/* Undoes one fd_wksp_map; laddr: that address or any other in the workspace. NULL does nothing. 0,
   E_INVAL. */
WKSP_API int fd_wksp_unmap(void const *laddr);

WKSP_PROTOTYPES_END

#endif
