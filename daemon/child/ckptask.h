/* ckptask: what the daemon asks of a worker about checkpoints, and what it gets back; beside
   result.h, whose question and answer heads these follow.

   question: result_ask_t, tags, then ckptask_t. answer: result_head_t, then, if its status is 0,
   ckptanswer_t, entries, numbers that are gone, and text. Meanwhile the worker writes ckptstep_t,
   one at a time, into a pipe of its own, which nobody has to read.

   A worker has mapped memory, or read files, that others may have written: the daemon believes
   nothing of an answer before ckptask_check has passed it. */

#ifndef WKSPD_CHILD_CKPTASK_H
#define WKSPD_CHILD_CKPTASK_H

#include "daemon/child/result.h"
#include "wksp/ckpt.h"

#define CKPTASK_MAGIC 0x6b736174706b63UL /* "ckptask" */

/* What a checkpoint keeps for us: a line that says who wanted it, then its workspace's spec as text
   (daemon/core/spec.h). */
#define CKPTASK_SPEC_MAX 2048U
#define CKPTASK_BY       "wkspd-by="
#define CKPTASK_BY_HAND  CKPTASK_BY "0\n" /* SCHEDULE_BY_HAND */
#define CKPTASK_BY_LEN   (sizeof CKPTASK_BY_HAND - 1)

/* Entries of one answer (ENGINE_CKPTS_MAX), and bytes of text. */
#define CKPTASK_ENTRIES_MAX 20000U
#define CKPTASK_GONE_MAX    20000U
#define CKPTASK_TEXT_MAX    (1U << 20)

typedef struct ckptask {
  uint64_t magic;
  uint64_t store_id; /* what entries are of; LIST: 0: each folder is one */
  uint64_t number;   /* SHOW, VERIFY, REMOVE, RESTORE, DRILL */
  /* CHECKPOINT */
  uint32_t mode, codec; /* WKSP_CKPT_* */
  int32_t level;
  uint32_t degrade;
  wksp_ckpt_retention_t keep; /* of those that are not by hand */
  uint32_t threads;           /* 0: as many as there may be */
  uint64_t rate;              /* bytes a second to read, 0: any */
  uint64_t page_bytes;
  /* SHOW */
  uint32_t verbose;
  /* RESTORE */
  uint32_t seed_set, seed;
  uint32_t fresh;              /* CHECKPOINT: relies on nothing that the store has */
  uint64_t data_end;           /* bytes that have pages */
  uint64_t part_max, data_max; /* dimensions */
  char name[FD_WKSP_NAME_MAX + 1];
  uint8_t uuid[16];
  uint32_t spec_len, pad2;
  char spec[CKPTASK_SPEC_MAX];
  char info[WKSP_CKPT_INFO_MAX + 1];
} ckptask_t;

#define CKPTASK_ASK_MAX (RESULT_ASK_MAX + sizeof(ckptask_t))

/* When checkpoints of a store were found sound: in a file beside the store's folder, out of reach
   of those who write it. A line for each, with a sum by which a damaged one is known. */
#define CKPTASK_NOTES_NAME     "%lu.verified"
#define CKPTASK_NOTE           "%lx %lu %lx\n"
#define CKPTASK_NOTE_MAX       64U
#define CKPTASK_NOTE_SUM(n, t) ((n)*0x9e3779b97f4a7c15UL + (t))

/* The same for those that all of was restored. Who knows the former only passes over them. */
#define CKPTASK_DRILL           "restored %lx %lu %lx\n"
#define CKPTASK_DRILL_SUM(n, t) (~CKPTASK_NOTE_SUM(n, t))

typedef struct ckptentry {
  uint64_t store_id;
  uint64_t verified_ns;  /* LIST: as the file says; 0: never */
  uint64_t drilled_ns;   /* LIST: as the file says; 0: never */
  wksp_ckpt_info_t info; /* bad: the id alone counts */
  uint32_t bad, spec_len;
  char spec[CKPTASK_SPEC_MAX];
  char sentence[RESULT_SENTENCE_MAX]; /* bad: why */
} ckptentry_t;

typedef struct ckptanswer {
  uint64_t magic;
  uint32_t entry_cnt, gone_cnt, text_len, pad;
  uint64_t written, freed; /* bytes of files */
} ckptanswer_t;

#define CKPTASK_ANSWER_MAX                        \
  (sizeof(result_head_t) + sizeof(ckptanswer_t) + \
   (size_t)CKPTASK_ENTRIES_MAX * sizeof(ckptentry_t) + 8UL * CKPTASK_GONE_MAX + CKPTASK_TEXT_MAX)

typedef struct ckptstep {
  uint64_t magic;
  uint32_t phase, pad;
  uint64_t done, total, written;
} ckptstep_t;

/* The parts of an answer that has passed. Pointers into the answer. */
typedef struct ckptresult {
  result_head_t const *head;
  ckptanswer_t const *answer;
  ckptentry_t const *entries;
  uint64_t const *gone;
  char const *text; /* text_len bytes, no NUL among them */
} ckptresult_t;

/* Whether bytes[0 .. len) is a whole answer to that operation, as far as counts, lengths, ranges
   and ends of texts go; aligned to 8. 1 and *ret_result, or 0 and a constant sentence. */
int ckptask_check(uint32_t op, ckptask_t const *ask, void const *bytes, size_t len,
                  ckptresult_t *ret_result, char const **ret_why);

#endif
