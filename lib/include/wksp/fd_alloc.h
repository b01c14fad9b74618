/* fd_alloc: many small objects in a workspace, from any thread of any process, and no kill can
   break it.

   An fd_alloc is a heap whose whole state lies in a workspace. Threads of different processes,
   which map the workspace at different addresses, allocate from it and free each other's blocks. A
   block has no header; its size is that of its class. Small blocks (up to FD_ALLOC_SMALL_MAX bytes)
   come from spans of equal blocks, larger ones are partitions of the workspace with the alloc's
   tag.

   Kill a thread or process at any instruction: all others go on at once, and of the dead thread at
   most one block that it was just allocating or freeing is unaccounted for; its slot remembers
   which, and the leak listing shows it.

   Typical use:

     void *shmem = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), tag);
     fd_alloc_t *alloc = fd_alloc_join(fd_alloc_new(shmem, tag), cgroup_hint);
     void *obj = fd_alloc_malloc(alloc, 0, sz);
     fd_alloc_free(alloc, obj);

   What may overlap with what (join handles are values; "any": from any thread of any process):

                     malloc/free   compact   is_empty/walk   join/leave   delete
     malloc/free     any           any       any (inexact)   any          never
     compact                       any       any (inexact)   any          never
     is_empty/walk                           any             any          never
     join/leave                                              any          never

   A block may be freed by any thread, once.

   Threads need not leave: what a thread holds to allocate from goes to others when it ends, also if
   a destructor of its own still allocates then. A child of fork may go on with its parent's joins,
   whether it was forked by fork, _Fork or clone; a child of vfork until it calls exec or _exit. Of
   more threads than the workspace has slots for, those that came late share one: slower, not
   refused. libwksp stays loaded after dlclose.

   Nothing here is async-signal-safe as POSIX has it, but malloc and free in a handler work, also
   when they interrupt malloc or free of the same thread: such calls are slower and counted. They
   fail where they would need the workspace's lock from a thread that holds it. A handler may leave
   by longjmp; what it interrupted is then as if the thread had been killed there, and the thread's
   calls stay slow until it calls fd_alloc_leave.

   Freed blocks are kept at hand by the thread that freed them, up to 128 KiB of each size (less in
   small workspaces), for its next malloc; compact takes them from it, also from an idle one. */

#ifndef WKSP_FD_ALLOC_H
#define WKSP_FD_ALLOC_H

#include "fd_wksp.h"
#include "types.h"
#include "valloc.h"

WKSP_PROTOTYPES_BEGIN

#define FD_ALLOC_ALIGN     4096UL
#define FD_ALLOC_FOOTPRINT 8192UL

/* Alignment of blocks when 0 is asked for, in bytes. */
#define FD_ALLOC_MALLOC_ALIGN_DEFAULT 16UL

/* Largest cgroup hint. */
#define FD_ALLOC_JOIN_CGROUP_HINT_MAX 15UL

/* Requests above this many bytes become partitions of the workspace. */
#define FD_ALLOC_SMALL_MAX 16384UL

WKSP_API ulong fd_alloc_align(void);
WKSP_API ulong fd_alloc_footprint(void);

/* Formats the memory at shmem (aligned and sized as above, inside a joined workspace) as an
   fd_alloc. tag: non-zero; every partition that the alloc takes from the workspace carries it.
   What a former fd_alloc at this place still holds is freed, should its delete have been killed.
   Returns shmem, or NULL (E_INVAL, E_RDONLY, E_BUSY: one lives here already, E_LIMIT: the
   workspace's heap directory is full). */
WKSP_API void *fd_alloc_new(void *shmem, ulong tag);

/* Bound to this process's lifeline, so that nothing of it outlives the process: once the workspace
   is detached everywhere in it, or it has ended or was killed, wkspd gives everything that the
   alloc holds back to the workspace, live blocks too, and shmem, if that is a partition by itself.
   Other processes may use it till then; afterwards their joins and blocks are nothing, so they have
   to know by other means. fd_alloc_delete ends it as any other. */
#define FD_ALLOC_FLAG_EPHEMERAL 2UL

/* The same with flags, a sum of FD_ALLOC_FLAG_*. E_INVAL also: others; EPHEMERAL where the
   workspace was not attached from wkspd by this very process. */
WKSP_API void *fd_alloc_new_flags(void *shmem, ulong tag, ulong flags);

/* Joins. cgroup_hint: which of the heaps that others have left behind a thread should rather take
   over; taken modulo FD_ALLOC_JOIN_CGROUP_HINT_MAX+1. Threads of one join get heaps of their own
   whatever the hint. NULL shalloc: NULL. */
WKSP_API fd_alloc_t *fd_alloc_join(void *shalloc, ulong cgroup_hint);

/* Ends the join for the calling thread; its heap is left for others. Not from a signal handler:
   what the thread was in, should a handler have left it by longjmp, ends too. Returns the address
   that was joined. */
WKSP_API void *fd_alloc_leave(fd_alloc_t *join);

/* Gives everything that the alloc holds back to the workspace, live blocks too, and makes shmem
   free for other use. Other threads may still have used it, but may not be inside a call: then, or
   if one stays stopped there, NULL (E_BUSY) and nothing is deleted. Killed on the way, it is
   finished by the next fd_wksp_compact. Returns shalloc. */
WKSP_API void *fd_alloc_delete(void *shalloc);

WKSP_API ulong fd_alloc_join_cgroup_hint(fd_alloc_t const *join);

/* The same join with another hint. */
WKSP_API fd_alloc_t *fd_alloc_join_cgroup_hint_set(fd_alloc_t *join, ulong cgroup_hint);

WKSP_API fd_wksp_t *fd_alloc_wksp(fd_alloc_t const *join);
WKSP_API ulong fd_alloc_tag(fd_alloc_t const *join);

/* A block of at least sz bytes, aligned to align (a power of two; 0:
   FD_ALLOC_MALLOC_ALIGN_DEFAULT). *ret_max: bytes that may be used, >= sz. sz 0 or a NULL join:
   NULL and *ret_max 0. NULL on failure too (E_INVAL, E_NOMEM, E_TIMEDOUT, E_RDONLY). */
WKSP_API void *fd_alloc_malloc_at_least(fd_alloc_t *join, ulong align, ulong sz, ulong *ret_max);

WKSP_API void *fd_alloc_malloc(fd_alloc_t *join, ulong align, ulong sz);

/* Frees a block of this alloc. NULL: nothing. An address where no block of this alloc starts, or a
   block that is among the last four of its size which this thread has freed, is left alone, counted
   (fd_alloc_stat) and told to wksp_last_error(). Other double frees are counted when the thread
   that kept the block gives it back; if it was handed out twice before, harm is done. A libwksp
   that was built with -Dhardened=true refuses every double free. */
WKSP_API void fd_alloc_free(fd_alloc_t *join, void *laddr);

/* Words that name blocks
   ------------------------------------------------------------------------------------------

   malloc and free leave, when their thread is killed at the wrong instruction, one block that
   nobody knows (a suspect, see fd_alloc_walk). The following three do not: a block is named by a
   word in the workspace, and at every instruction it is either named by it or free.

   dst: 8 bytes, aligned to 8, in the data of the alloc's workspace: in a block or in a partition.
   0: empty; to begin with, the user stores that. Otherwise it holds the gaddr of a block of the
   alloc, and, while one of these calls is at it (or was, in a thread that has been killed), marks
   in the other bits. Nobody may change it by other means, but plainly before it is first used and
   after it is last; fd_alloc_named reads it.

                     malloc_to    take_from / free_from    fd_alloc_named
     malloc_to       one gets it  any                      any
     take_from       any          one gets it              any

   "Any": from any thread of any process at once, also with all calls above, and whoever else is
   stopped or killed in between. Of two who take or fill one word at once one succeeds. The block's
   memory is not initialised when the word names it. Like malloc they are not async-signal-safe.

   Killed inside    what follows, once somebody takes the dead thread's place, looks at the word by
                    one of these calls, compacts, or its process is seen to be gone
     malloc_to      the word is empty, or it names a block
     take_from      the word names the block, or is empty and the block is free
     free_from      the word names the block, or is empty and the block is free

   After take_from has returned the block is like one of malloc: a suspect, if the thread is killed
   before its next call. */

/* The bits of such a word that are a gaddr. */
#define FD_ALLOC_DST_GADDR 0x00007ffffffffff0UL

/* A block of at least sz bytes, aligned to align (as malloc), into the empty word at dst. 0;
   E_BUSY: the word is not empty (or the one who is emptying it is stopped in that);
   E_INVAL (sz 0, align, dst), E_NOMEM, E_LIMIT, E_TIMEDOUT, E_RDONLY. The word is as it was
   then. */
WKSP_API int fd_alloc_malloc_to(fd_alloc_t *join, ulong align, ulong sz, ulong *dst);

/* Takes the block out of the word, which is empty afterwards. The block, or NULL: the word is
   empty (nothing reported), or an error, after which the word is as it was: E_NOTFOUND (it names
   no live block of this alloc), E_INVAL, E_AGAIN, and as malloc, since the thread needs a heap. */
WKSP_API void *fd_alloc_take_from(fd_alloc_t *join, ulong *dst);

/* The same, and frees it. 1, 0: the word is empty, or one of take_from's errors (negative; a large
   block: E_TIMEDOUT too). */
WKSP_API int fd_alloc_free_from(fd_alloc_t *join, ulong *dst);

/* The gaddr of the block that the word names, 0 if none: of one moment, and the block may be taken
   and freed in the next, unless the caller has means to know better. */
static inline ulong fd_alloc_named(ulong const *dst) {
  ulong v = __atomic_load_n(dst, __ATOMIC_ACQUIRE);
  return (v & 3UL) == 2UL ? 0UL : v & FD_ALLOC_DST_GADDR;
}

typedef struct fd_alloc_compacted {
  ulong freed_sz;    /* bytes given back to the workspace */
  ulong skipped_cnt; /* threads that were stopped inside a call and could not be waited for */
  int skipped_pid;   /* one of them, 0 if none */
  int skipped_tid;
} fd_alloc_compacted_t;

/* Gives back to the workspace all memory that holds no live block, also what idle threads of other
   processes keep, while others run. A thread that is stopped inside a call is skipped. ret may be
   NULL. 0, E_RDONLY, E_TIMEDOUT. */
WKSP_API int fd_alloc_compact(fd_alloc_t *join, fd_alloc_compacted_t *ret);

/* fd_alloc_compact for every fd_alloc in the workspace, and frees the slots of dead threads.
 * Figures are summed. */
WKSP_API int fd_wksp_compact(fd_wksp_t *wksp, fd_alloc_compacted_t *ret);

/* 1 if there is no live block, else 0. Exact only while nobody allocates or frees. */
WKSP_API int fd_alloc_is_empty(fd_alloc_t *join);

enum {
  FD_ALLOC_BLOCK_SMALL = 1,
  FD_ALLOC_BLOCK_LARGE = 2,
  FD_ALLOC_BLOCK_SUSPECT = 3 /* in flight when its thread was killed: perhaps known to nobody */
};

typedef struct fd_alloc_block {
  ulong gaddr;
  ulong size; /* usable bytes */
  uint kind;  /* FD_ALLOC_BLOCK_* */
} fd_alloc_block_t;

/* Tells on_block each live block, in address order, until it returns non-zero (which is then
   returned). 0 at the end. E_CORRUPT. Exact only while nobody allocates or frees. */
WKSP_API int fd_alloc_walk(fd_alloc_t *join,
                           int (*on_block)(void *arg, fd_alloc_block_t const *block), void *arg);

/* Figures. Sizes in bytes. Exact only while nobody allocates or frees. */
typedef struct fd_alloc_stat {
  ulong small_cnt, small_sz; /* live small blocks */
  ulong large_cnt, large_sz; /* live large blocks */
  ulong span_sz;             /* memory in spans, live or not */
  ulong span_free_sz;        /* of it in spans without a live block */
  ulong heap_cnt;            /* per-thread heaps, and those of them left behind by their thread */
  ulong heap_left_cnt;
  ulong suspect_cnt;    /* blocks in flight when their thread was killed */
  ulong bad_free_cnt;   /* refused frees, and double frees found later */
  ulong late_write_cnt; /* free blocks that malloc found written to; 0 unless libwksp was built with
                           -Dhardened=true, which also refuses every double free */
} fd_alloc_stat_t;

WKSP_API int fd_alloc_stat(fd_alloc_t *join, fd_alloc_stat_t *ret_stat);

/* For an array of max elements that has to grow to at least req: the new max; grows by at least
   delta and by about a quarter. Saturates at ULONG_MAX. max, delta and req in elements. */
static inline ulong fd_alloc_max_expand(ulong max, ulong delta, ulong req) {
  ulong quarter = max + (max >> 2);
  ulong grown = max + delta;
  if (grown < max) grown = ~0UL;
  if (quarter < max) quarter = ~0UL;
  ulong best = grown > quarter ? grown : quarter;
  return best > req ? best : req;
}

/* The join as a virtual allocator. */
WKSP_API extern fd_valloc_vtable_t const fd_alloc_vtable;

static inline fd_valloc_t fd_alloc_virtual(fd_alloc_t *join) {
  fd_valloc_t valloc = {(void *)join, &fd_alloc_vtable};
  return valloc;
}

WKSP_PROTOTYPES_END

#endif
