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

                     malloc/free   usable_size   compact   is_empty/walk   join/leave   delete
     malloc/free     any           any           any       any (inexact)   any          never
     usable_size                   any           any       any             any          never
     compact                                     any       any (inexact)   any          never
     is_empty/walk                                         any             any          never
     join/leave                                                            any          never

   malloc stands for malloc_at_least, malloc and calloc, free for free, free_sized and realloc, walk
   for stat too. Of two calls about one block, which free or realloc it or ask for its size, one
   must have returned before the other begins: a block is freed by any thread, once. new is for one
   thread at a time, before anybody joins.

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

/* Every block is aligned to the next power of two of the size that was asked for, large ones too:
   one of 1,000 bytes to 1,024, one of 3 MiB to 4 MiB. Some requests get a larger class for that. */
#define FD_ALLOC_FLAG_ALIGNED 1UL

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

/* What becomes of what the alloc holds. Each takes time in proportion to the partitions with its
   tag, not to the blocks. */
enum {
  /* Partitions without a live block go. The others stay where they are, of kind user and with the
     alloc's tag, and with them the live blocks: who knows these may go on using them, but no more
     free them one by one; fd_wksp_tag_free frees all. */
  FD_ALLOC_DELETE_LEAVE = 0,
  FD_ALLOC_DELETE_QUICK = 1, /* all of it goes, as fd_alloc_delete does it */
  /* All of it goes, and all partitions of kind user with the alloc's tag, whoever took them: that
     of the alloc itself, if it has the tag, too. E_BUSY, and nothing is deleted, if another
     fd_alloc lies in one of them. Killed on the way the alloc is finished by the next
     fd_wksp_compact, such partitions may be left. */
  FD_ALLOC_DELETE_TAG = 2
};

/* fd_alloc_delete at a level of these; E_INVAL for others. */
WKSP_API void *fd_alloc_delete_level(void *shalloc, int level);

WKSP_API ulong fd_alloc_join_cgroup_hint(fd_alloc_t const *join);

/* The same join with another hint. */
WKSP_API fd_alloc_t *fd_alloc_join_cgroup_hint_set(fd_alloc_t *join, ulong cgroup_hint);

WKSP_API fd_wksp_t *fd_alloc_wksp(fd_alloc_t const *join);
WKSP_API ulong fd_alloc_tag(fd_alloc_t const *join);
WKSP_API ulong fd_alloc_flags(fd_alloc_t const *join);

/* A block of at least sz bytes, aligned to align (any power of two; 0:
   FD_ALLOC_MALLOC_ALIGN_DEFAULT; what is less counts as that). *ret_max: bytes that may be used, >=
   sz. sz 0 or a NULL join: NULL and *ret_max 0. NULL on failure too (E_INVAL, E_NOMEM, E_TIMEDOUT,
   E_RDONLY). A power-of-two sz up to FD_ALLOC_SMALL_MAX is aligned to itself, at no extra cost.

   Gaddrs are aligned so, and addresses as far as the workspace's mapping is: to its size, up to 1
   GiB, at least, where libwksp has mapped it. */
WKSP_API void *fd_alloc_malloc_at_least(fd_alloc_t *join, ulong align, ulong sz, ulong *ret_max);

WKSP_API void *fd_alloc_malloc(fd_alloc_t *join, ulong align, ulong sz);

/* A block for cnt objects of sz bytes, aligned to align as for malloc; all cnt * sz bytes are 0. As
   malloc else; E_NOMEM too if that product has no ulong. */
WKSP_API void *fd_alloc_calloc(fd_alloc_t *join, ulong align, ulong cnt, ulong sz);

/* Frees a block of this alloc. NULL: nothing. An address where no block of this alloc starts, or a
   block that is among the last four of its size which this thread has freed, is left alone, counted
   (fd_alloc_stat), and told to wksp_last_error() and wksp_on_bad_free. Other double frees are
   counted and told when the thread that kept the block gives it back; if it was handed out twice
   before, harm is done. A libwksp that was built with -Dhardened=true refuses every double free. */
WKSP_API void fd_alloc_free(fd_alloc_t *join, void *laddr);

/* The same for who knows the size: sz is what was asked for, or anything up to what may be used.
   Not slower than free, and not faster: the size alone does not tell the block's class. A hardened
   libwksp leaves a small block with less than sz bytes alone, counts and tells it (E_INVAL): one of
   the two is another's. */
WKSP_API void fd_alloc_free_sized(fd_alloc_t *join, void *laddr, ulong sz);

/* A block of at least sz bytes, aligned as for malloc, that begins with the bytes of the one at
   laddr (as many as both have). Returns laddr if that block is large and aligned enough, and either
   a new one would be of the same class or at most a quarter of it is too much; else a new block,
   and the old one is freed. Killed meanwhile, a thread leaves the old block live or freed, and one
   new block as the suspect at most.

   laddr NULL: malloc. sz 0: free, and NULL. NULL join: NULL. NULL on failure too, and then the old
   block is as it was: as malloc, and E_NOTFOUND if no live block of this alloc starts at laddr,
   which counts as a free of it. */
WKSP_API void *fd_alloc_realloc(fd_alloc_t *join, void *laddr, ulong align, ulong sz);

/* Bytes of the block at laddr that may be used: all of its class, or of its partition; what
   malloc_at_least said. Read-only joins may ask, too. NULL: 0. Also 0, told (E_NOTFOUND), if no
   live block of this alloc starts there; of those that were freed before only what another thread
   keeps at hand for its next malloc is not noticed. 0 as well if it cannot be told (E_AGAIN,
   E_CORRUPT, E_RDONLY: the memory is protected at present). */
WKSP_API ulong fd_alloc_usable_size(fd_alloc_t *join, void const *laddr);

/* The same, unchecked and quick, for a live block of this alloc, which the caller knows it to be;
   for others any number. 0 too, if a large block's partition cannot be looked up (E_AGAIN,
   E_CORRUPT). */
WKSP_API ulong fd_alloc_usable_size_fast(fd_alloc_t const *join, void const *laddr);

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

/* What a refused free was about, as far as the workspace shows it. */
enum {
  FD_ALLOC_BAD_FREE_TWICE = 1,    /* a block starts there and is free: freed before */
  FD_ALLOC_BAD_FREE_INTERIOR = 2, /* memory of this alloc where no block starts */
  FD_ALLOC_BAD_FREE_OTHERS = 3,   /* memory of another fd_alloc of the workspace */
  FD_ALLOC_BAD_FREE_NOWHERE = 4,  /* no fd_alloc's block: wild; or freed before, and its memory has
                                     been given back since, as is that of large blocks at once */
  FD_ALLOC_BAD_FREE_SIZE = 5      /* free_sized, hardened: the block has not so many bytes */
};

typedef struct fd_alloc_bad_free {
  fd_wksp_t *wksp;
  void const *laddr; /* what was to be freed; may lie outside of the workspace */
  ulong gaddr;       /* laddr less the workspace's start */
  ulong alloc_gaddr; /* the alloc to which it was given, and its tag */
  ulong tag;
  ulong size; /* usable bytes of the block there, or of that in which it lies; 0: there is none */
  uint what;  /* FD_ALLOC_BAD_FREE_* */
  uint late;  /* 1: refused now, but freed twice before this call, by this thread */
} fd_alloc_bad_free_t;

/* From now on on_bad_free is called for each bad free of this process, in any alloc: by the thread
   that frees, in the call that finds it, once that has done its work. So it may call whatever it
   likes, print a stack, or abort; wksp_last_error() has the sentence already, but for late ones.
   Bad frees of its own are counted, not told. It may be called by several threads at once, and once
   or so more after it was replaced. Of many late ones found by one call four are told.

   One for the process, which replaces the one before; NULL: none. A forked child keeps it. Any
   thread, at any time. 0, E_NOMEM. */
WKSP_API int wksp_on_bad_free(void (*on_bad_free)(void *arg, fd_alloc_bad_free_t const *bad),
                              void *arg);

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
  /* In flight when its thread was killed: perhaps known to nobody. Perhaps known after all: who
     frees one asks his own books first. One that was freed and handed out again is still told as a
     suspect, until 64 others have been noted. */
  FD_ALLOC_BLOCK_SUSPECT = 3
};

typedef struct fd_alloc_block {
  ulong gaddr;
  ulong size; /* usable bytes */
  uint kind;  /* FD_ALLOC_BLOCK_* */
  uint cls;   /* its size class, 0 the smallest; FD_ALLOC_CLASS_LARGE: a partition */
  ulong tag;  /* of the partition in which it lies: the alloc's */
} fd_alloc_block_t;

#define FD_ALLOC_CLASS_LARGE 255U

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
