/* engine_ckpt: what the engine and its shell say to one another about checkpoints: one of them,
   what a worker is to do to them, and the job that people look after. */

#ifndef WKSPD_CORE_ENGINE_CKPT_H
#define WKSPD_CORE_ENGINE_CKPT_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/limits.h"
#include "daemon/core/schedule.h"
#include "daemon/core/spec.h"
#include "daemon/core/topology.h"

/* A checkpoint is told of as STORE.NUMBER, the latter in hexadecimal (it is a time). A store is a
   folder of checkpoints that share what did not change between them; it has the id of the workspace
   that began it, which nothing else ever gets. Number: the store's own, from 1. */
#define ENGINE_CKPT_ID_TEXT_MAX 44

typedef struct engine_ckpt {
  uint64_t store_id, number;
  spec_t spec;         /* of the workspace at the time; name "": bad, and not known */
  int by;              /* SCHEDULE_BY_* */
  schedule_how_t how;  /* mode: what it got */
  int mode_asked;      /* SCHEDULE_MODE_* */
  uint64_t created_ns; /* since 1970 */
  uint64_t took_ns, pause_ns;
  uint64_t live_size, scanned_size, changed_size, written_size, file_size; /* bytes */
  uint64_t chunk_cnt, part_cnt, root_cnt, alloc_cnt, suspect_cnt;
  uint32_t silent_cnt;         /* clients that did not leave their brackets in time */
  uint64_t part_max, data_max; /* dimensions that a restore must have */
  uint64_t footprint;          /* bytes of addresses for these */
  uint64_t size, size_min;     /* bytes of memory that it had, and could do with */
  uint64_t verified_ns;        /* when it was last found sound, 0: never */
  uint64_t drilled_ns;         /* when all of it was last restored and found sound, 0: never */
  char const *info;            /* the text that it was given, never NULL */
  char bad[ENGINE_REASON_MAX]; /* what is wrong with it, "": nothing that is known */
  int doubted; /* damage was found in its store since it was taken: nothing new relies on it */
} engine_ckpt_t;

/* When a checkpoint was last found sound, by whatever means; and by restoring all of it. */
typedef struct engine_ckpt_note {
  uint64_t number, verified_ns; /* not 0 */
  uint64_t drilled_ns;          /* 0: never */
} engine_ckpt_note_t;

/* What a worker is to do to checkpoints. */
typedef struct engine_ckpt_ask {
  uint64_t store_id; /* 0: LIST: all of them */
  uint64_t number;   /* SHOW, VERIFY, REMOVE, RESTORE, DRILL */
  /* DRILL: bytes of addresses that it takes, as the checkpoint says */
  uint64_t footprint;
  /* CHECKPOINT */
  schedule_how_t how;
  int by;
  schedule_keep_t keep; /* afterwards, of those that nobody took by hand */
  int fresh;            /* relies on nothing that the store has */
  char const *info;
  spec_t spec; /* of the workspace */
  /* SHOW */
  uint32_t verbose;
  /* RESTORE: into memory of spec, which has been made blank */
  int seed_set;
  uint32_t seed;
  uint64_t const *tags;
  size_t tag_cnt;
} engine_ckpt_ask_t;

enum engine_task_state {
  ENGINE_TASK_QUEUED = 1,
  ENGINE_TASK_RUNNING = 2,
  ENGINE_TASK_DONE = 3,
  ENGINE_TASK_FAILED = 4,
  ENGINE_TASK_CANCELLED = 5
};

/* Job that people look after. Ids count from 1 at each start of the daemon. */
typedef struct engine_task {
  uint64_t job_id;
  int op;                                /* ENGINE_OP_* */
  int state;                             /* ENGINE_TASK_* */
  int by;                                /* SCHEDULE_BY_* */
  char name[SPEC_NAME_MAX + 1];          /* of the workspace */
  uint32_t uid;                          /* who wanted it */
  uint64_t store_id, number;             /* the checkpoint, 0: none yet */
  uint64_t asked_ns, begun_ns, ended_ns; /* since 1970, 0: not yet */
  int phase;                             /* wksp/ckpt.h, WKSP_CKPT_PHASE_* */
  uint64_t done_size, total_size, written_size;
  int code;                           /* FAILED: ENGINE_CODE_* */
  char sentence[ENGINE_SENTENCE_MAX]; /* FAILED: what happened; DONE: what there is to say */
  char hint[ENGINE_HINT_MAX];
} engine_task_t;

/* Their requests, as they came from the peer. */
typedef union engine_ckpt_request {
  struct {
    char name[ENGINE_TEXT_MAX];
    int32_t mode, style, level;
    char const *info; /* copied by the engine; longer than ENGINE_INFO_MAX - 1 is refused */
  } checkpoint;
  struct {
    char name[ENGINE_TEXT_MAX]; /* "": of all */
    uint32_t page_size;
    char page_token[ENGINE_TEXT_MAX];
  } ckpt_list;
  struct {
    char id[ENGINE_TEXT_MAX];
    uint32_t verbose;
    int drill; /* CKPT_VERIFY: by restoring it for trial */
  } ckpt;      /* CKPT_SHOW, CKPT_VERIFY, CKPT_REMOVE */
  struct {
    char name[ENGINE_TEXT_MAX]; /* whose checkpoint */
    char from[ENGINE_TEXT_MAX]; /* "": the newest of name */
    char as[ENGINE_TEXT_MAX];   /* "": name */
    uint64_t page_size;         /* 0: as it was */
    uint64_t const *tags;       /* tag_cnt of them; copied by the engine */
    size_t tag_cnt;
    int seed_set;
    uint32_t seed;
    char numa[SPEC_NUMA_MAX + 2]; /* as of create; "": as it was */
    int preferred;
    int own_only;       /* from the shell: without an id, only one of the peer's own uid */
    topo_t const *topo; /* from the shell, as of create */
    int cpu;
    int wait;          /* answer when it is done, not when it has begun */
    uint64_t size;     /* 0: as it was */
    uint64_t max_size; /* 0: as it was, or size */
    int in_place;      /* into the workspace that is there, to which nobody is attached */
    uint8_t uuid[16];  /* from the shell, as of create */
  } restore;
  struct {
    char name[ENGINE_TEXT_MAX];
    int drop; /* there is to be none */
    uint64_t every_ns, jitter_ns;
    int32_t mode, style, level;
    schedule_keep_t keep;
    int32_t on_stop, on_start;
    uint64_t drill_ns;
    int declared; /* from the shell: by the configuration, also for what is not there yet */
  } schedule;
  struct {
    char name[ENGINE_TEXT_MAX];
  } schedule_get;
  struct {
    uint64_t job_id;
  } job; /* JOB_WATCH, JOB_CANCEL */
} engine_ckpt_request_t;

#endif
