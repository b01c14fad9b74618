/* result: what the daemon asks of a worker, and what it gets back.

   The question goes into the worker's standard input, the answer comes out of its standard output:
   a fixed head, then arrays, both in this process family's own byte order (worker and daemon are
   the same program). The worker has mapped memory that anybody may have written, so the daemon
   believes nothing of an answer before result_check has passed it. */

#ifndef WKSPD_CHILD_RESULT_H
#define WKSPD_CHILD_RESULT_H

#include "wksp/fd_alloc.h"
#include "wksp/fd_wksp.h"

#include <stddef.h>
#include <stdint.h>

#define RESULT_MAGIC 0x746c7573657277UL /* "wresult" */

/* Ended leases and tags that one question can carry (daemon/core/limits.h). Both fit a pipe, so the
 * daemon can write the whole question before the worker runs. */
#define RESULT_TAGS_MAX   1024U
#define RESULT_LEASES_MAX 256U

/* Partitions of one answer: 50,000 (wkspd.proto) of 32 bytes. */
#define RESULT_PARTS_MAX 50000U

#define RESULT_SENTENCE_MAX 256U

/* Leases of workers; those of clients are below. */
#define RESULT_LEASE_FIRST (1UL << 28)

/* Runs of pages on one node in one answer, and numbers of nodes. */
#define RESULT_RUNS_MAX  4096U
#define RESULT_NODES_MAX 64U

/* Those of ENGINE_OP_*; from RESULT_CHECKPOINT on ckptask.h has what follows. */
enum {
  RESULT_QUERY = 1,
  RESULT_COMPACT = 2,
  RESULT_REAP = 3,
  RESULT_RESIZE = 4,
  RESULT_PLACE = 5,
  RESULT_CHECKPOINT = 6,
  RESULT_RESTORE = 7,
  RESULT_CKPT_VERIFY = 8,
  RESULT_CKPT_REMOVE = 9,
  RESULT_CKPT_LIST = 10,
  RESULT_CKPT_SHOW = 11,
  RESULT_CKPT_DRILL = 12
};

/* The question: followed by tag_cnt tags and lease_cnt leases, 8 bytes each. */
typedef struct result_ask {
  uint64_t magic;
  uint32_t op;        /* RESULT_* */
  uint32_t page_size; /* QUERY: partitions, 1 to RESULT_PARTS_MAX */
  uint64_t page_gaddr;
  uint64_t size;  /* bytes to map, as the daemon knows it: the most that the workspace can have */
  uint64_t lease; /* what it joins with: RESULT_LEASE_FIRST and up. Of two workers that live at the
                     same time each has its own */
  uint32_t cpu_s; /* processor time that it may take */
  uint32_t tag_cnt, lease_cnt, pad;
  uint64_t resize_to; /* RESIZE: where it is to end, bytes; 0: only tell where it does. PLACE: where
                         the pages end that are asked about */
  uint64_t size_min;  /* RESIZE: bytes, the least */
  uint32_t holder_only; /* QUERY: nothing but the holder */
  uint32_t verify;      /* QUERY: all of it is checked, and nothing told */
  uint64_t page_bytes;  /* RESIZE: 4096 or more; it ends at a multiple of that, or of spans. PLACE:
                           of a page */
} result_ask_t;

#define RESULT_ASK_MAX (sizeof(result_ask_t) + 8UL * RESULT_TAGS_MAX + 8UL * RESULT_LEASES_MAX)

/* Who holds the lock, as lib/core/call.h has it; pid 0: nobody. */
typedef struct result_holder {
  uint64_t since_ns;
  uint32_t pid, tid, dead, pad;
  char comm[16];
} result_holder_t;

/* Pages on one node, one after the other; node -1: the kernel does not say where. */
typedef struct result_run {
  uint64_t first, cnt;
  int32_t node, pad;
} result_run_t;

/* The answer: followed, if status is 0, by part_cnt fd_wksp_part_t, root_cnt fd_wksp_root_t and
   run_cnt result_run_t. */
typedef struct result_head {
  uint64_t magic;
  uint32_t op;
  int32_t status; /* 0, or the library's negative code with its sentence */
  uint32_t part_cnt, root_cnt;
  uint64_t next_page_gaddr;       /* 0: at the end */
  fd_wksp_usage_t usage;          /* QUERY */
  result_holder_t holder;         /* QUERY */
  uint64_t suspect_cnt;           /* QUERY, first page: blocks */
  fd_alloc_compacted_t compacted; /* COMPACT */
  uint64_t resized_to;            /* RESIZE: where it ends, bytes, in [size_min, size] */
  uint32_t resized_why, pad;      /* RESIZE: 0 as wanted, or WKSP_RESIZED_* of lib/core/part.h */
  fd_wksp_part_t block;           /* RESIZE: what is in the way, or zeroes */
  uint32_t run_cnt, runs_cut;     /* PLACE: the runs; 1: there are more */
  uint64_t page_cnt;              /* PLACE: pages asked about */
  uint64_t lost_cnt;              /* of them, those that the kernel does not say anything of */
  uint64_t node_cnt[RESULT_NODES_MAX]; /* and those on each node */
  char sentence[RESULT_SENTENCE_MAX];
} result_head_t;

#define RESULT_MAX                                                     \
  (sizeof(result_head_t) + RESULT_PARTS_MAX * sizeof(fd_wksp_part_t) + \
   FD_WKSP_ROOT_MAX * sizeof(fd_wksp_root_t) + RESULT_RUNS_MAX * sizeof(result_run_t))

/* The parts of an answer that has passed. Pointers into the answer. */
typedef struct result {
  result_head_t const *head;
  fd_wksp_part_t const *parts;
  fd_wksp_root_t const *roots;
  result_run_t const *runs;
} result_t;

/* What is impossible about a query's figures, partitions and roots: a constant, NULL if nothing is.
 * The worker asks first: what it read of damaged tables is damage, not an answer. */
char const *result_query_why(result_ask_t const *ask, result_t const *result);

/* Whether bytes[0 .. len) is a whole answer to ask that makes sense: counts within what was asked,
   partitions in order, inside the workspace and apart, kinds and names legal, texts ended. bytes is
   aligned to 8. 1 and *ret_result, or 0 and a constant sentence. */
int result_check(result_ask_t const *ask, void const *bytes, size_t len, result_t *ret_result,
                 char const **ret_why);

#endif
