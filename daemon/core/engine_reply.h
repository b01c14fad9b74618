/* engine_reply: what the engine answers, as plain structs; see engine.h. */

#ifndef WKSPD_CORE_ENGINE_REPLY_H
#define WKSPD_CORE_ENGINE_REPLY_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/engine_audit.h"
#include "daemon/core/engine_ckpt.h"
#include "daemon/core/limits.h"
#include "daemon/core/schedule.h"
#include "daemon/core/spec.h"

/* gRPC's codes, those that wkspd uses. */
enum engine_code {
  ENGINE_CODE_OK = 0,
  ENGINE_CODE_CANCELLED = 1,
  ENGINE_CODE_INVALID_ARGUMENT = 3,
  ENGINE_CODE_DEADLINE_EXCEEDED = 4,
  ENGINE_CODE_NOT_FOUND = 5,
  ENGINE_CODE_ALREADY_EXISTS = 6,
  ENGINE_CODE_PERMISSION_DENIED = 7,
  ENGINE_CODE_RESOURCE_EXHAUSTED = 8,
  ENGINE_CODE_FAILED_PRECONDITION = 9,
  ENGINE_CODE_INTERNAL = 13,
  ENGINE_CODE_UNAVAILABLE = 14,
  ENGINE_CODE_DATA_LOSS = 15
};

/* Why a worker ended. detail is the worker's or shell's sentence. */
enum engine_worker_status {
  ENGINE_WORKER_OK = 0,
  ENGINE_WORKER_INVALID,   /* an argument does not fit this workspace (INVALID_ARGUMENT) */
  ENGINE_WORKER_AGAIN,     /* a writer was in the way (UNAVAILABLE) */
  ENGINE_WORKER_DAMAGED,   /* it says that the workspace does not satisfy its format (DATA_LOSS) */
  ENGINE_WORKER_CRASHED,   /* SIGSEGV, SIGBUS, SIGILL, SIGABRT: it met damage (DATA_LOSS) */
  ENGINE_WORKER_KILLED,    /* another signal (INTERNAL) */
  ENGINE_WORKER_GARBAGE,   /* its answer was not one (INTERNAL) */
  ENGINE_WORKER_TIMEOUT,   /* the shell's own limit passed and it was killed (INTERNAL) */
  ENGINE_WORKER_NOT_BEGUN, /* no process could be started (INTERNAL) */
  ENGINE_WORKER_CANCELLED, /* after WORKER_CANCEL */
  /* Of checkpoints: */
  ENGINE_WORKER_MISSING, /* there is no such checkpoint (NOT_FOUND) */
  ENGINE_WORKER_NO_ROOM, /* the store, or what is to be restored into, is too small
                            (RESOURCE_EXHAUSTED) */
  ENGINE_WORKER_STAYED,  /* a client did not leave its bracket (FAILED_PRECONDITION) */
  ENGINE_WORKER_DISK,    /* a call to the system failed (INTERNAL) */
  ENGINE_WORKER_STATUSES
};

/* What people and programs may know of a workspace (message Workspace). */
typedef struct engine_workspace {
  spec_t spec;
  uint32_t attached_rw, attached_ro; /* leases */
  int removing, quarantined, read_only, damaged;
  uint64_t excess;                /* bytes held beyond its size */
  char reason[ENGINE_REASON_MAX]; /* why it is that, quarantined or read-only, else "" */
  char note[ENGINE_NOTE_MAX];     /* how its pages were taken, "" if another daemon has */
} engine_workspace_t;

/* What a create would take of a node, in pages of the plan's size. */
typedef struct engine_plan_node {
  uint32_t node;
  int allowed;
  uint64_t wanted; /* at first */
  uint64_t growth; /* more, when it has grown to its max-size */
  uint64_t free, total;
} engine_plan_node_t;

/* One rule of a quota for one user, or one tag. */
typedef struct engine_quota {
  uint32_t uid;
  char tag[SPEC_TAG_MAX + 1]; /* "": of the user */
  uint64_t page_size;         /* 0: all together */
  int32_t node;               /* -1: all together */
  int counts;                 /* 1: workspaces; 0: bytes */
  uint64_t limit, used;
} engine_quota_t;

typedef struct engine_stats {
  int32_t pid;
  uint64_t uptime_ns;
  int fd_store;
  uint32_t workspace_cnt; /* READY, quarantined and removing */
  uint32_t quarantined_cnt, damaged_cnt, lease_cnt, connection_cnt;
  uint32_t job_cnt; /* running or queued */
  uint64_t bytes;   /* of memory held by workspaces */
  uint64_t request_cnt;
  uint64_t refused_cnt; /* answered with an error */
  uint64_t violation_cnt;
  uint32_t fd_cnt;
  uint32_t lost_cnt;
  char const *mistake;   /* as asked */
  uint32_t unproven_cnt; /* workspaces that have a schedule, and no checkpoint found sound */
  uint64_t proven_ns;    /* of the others, when the oldest newest sound one was taken; 0: none */
  engine_quota_t const *quotas; /* quota_cnt of them; those of users who have workspaces */
  size_t quota_cnt;
  engine_limit_t limits[ENGINE_LIMITS_MAX];
  size_t limit_cnt;
} engine_stats_t;

typedef struct engine_reply {
  uint64_t conn;
  uint32_t stream;
  int method; /* ENGINE_CREATE ...: says which of the union is meant when code is OK */
  int code;   /* ENGINE_CODE_* */
  /* code != OK: message ErrorDetail and the Status' sentence */
  char sentence[ENGINE_SENTENCE_MAX];
  char const *detail_kind;                  /* a constant string, "" if none */
  char detail_workspace[SPEC_NAME_MAX + 1]; /* "" if none */
  int32_t detail_node;                      /* -1 if none */
  uint64_t detail_wanted, detail_free;
  char detail_hint[ENGINE_HINT_MAX]; /* "" if none */
  /* code == OK: */
  union {
    engine_workspace_t const *workspace; /* Create, Get, Resize, Verify */
    struct {
      int deferred;
    } del;
    struct {
      engine_workspace_t const *workspaces;
      size_t workspace_cnt;
      char next_page_token[ENGINE_TEXT_MAX];
    } list;
    struct {
      engine_workspace_t const *workspace; /* map_size is spec.max_size */
      uint64_t lease_id; /* its memory fd and client end of the lifeline ride along: fds = 2 */
      int mode;          /* ENGINE_OPEN_*: which memory fd to send */
    } open;
    struct {
      uint64_t page_size, size, max_size;
      int strict;
      char policy[SPEC_NUMA_MAX + 1]; /* the nodes, as place_text writes them */
      char why[ENGINE_NOTE_MAX];      /* why pages of this size */
      char lacking[ENGINE_NOTE_MAX];  /* "", or what is missing for it */
      char hint[ENGINE_HINT_MAX];
      engine_plan_node_t const *nodes;
      size_t node_cnt;
    } plan;
    struct {
      void *worker_result; /* WORKER_DONE's: where the pages lie */
      engine_workspace_t const *workspace;
    } placement;
    void *worker_result;  /* Query, Compact: WORKER_DONE's result */
    engine_stats_t stats; /* Stats */
    struct {
      engine_client_t const *clients;
      size_t client_cnt;
      uint64_t next_key; /* 0: no more */
    } clients;
    struct {
      uint64_t job_id;
    } job; /* Checkpoint, CkptVerify; Restore without wait */
    struct {
      engine_workspace_t const *workspace; /* NULL without wait */
      uint64_t job_id;
    } restore;
    struct {
      engine_ckpt_t const *ckpts;
      size_t ckpt_cnt;
      char next_page_token[ENGINE_TEXT_MAX];
    } ckpt_list;
    struct {
      engine_ckpt_t const *ckpt;
      void *worker_result; /* text for people */
    } ckpt_show;
    struct {
      uint64_t freed_size;
    } ckpt_remove;
    schedule_t const *schedule; /* ScheduleSet, ScheduleGet; NULL: there is none now */
    struct {
      engine_task_t const *tasks;
      size_t task_cnt;
    } tasks; /* JobList */
    struct {
      char daemon[32];
      uint32_t layout_version;
      uint64_t geometry_hash;
    } version;
  } u;
} engine_reply_t;

#endif
