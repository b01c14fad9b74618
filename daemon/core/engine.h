/* engine: every decision of wkspd, and nothing else.

   The engine is a deterministic state machine: events in, effects out. It opens no socket, reads no
   clock, maps no memory and knows no random number; time, identities of peers, randomness and the
   results of what it asked for come in as events, and what shall be done leaves as effects:

     shell:  something happened -> fill an engine_event_t
             engine_step(engine, &event, &update)
             carry out update.effects in order; answers become events of their own
             arm the timer for update.next_tick_mono_ns; when update.stopped, leave

   So the whole control plane runs in tests under virtual time and a virtual disk.

   Who owns what. The engine owns the registry, the leases' book-keeping, the calls in flight and
   the job queue. The shell owns every file descriptor, every byte of memory and disk, and carries
   things by the engine's ids: ws_id, lease_id, job_id. Ids of workspaces and leases are never used
   twice, also across restarts (START says which were). conn numbers are the shell's, never used
   twice while the process lives.

   Pointers. What an event points to must live until the effects of its step have been carried out,
   for effects may point at the same (a worker's result passes through to the reply). Other pointers
   in an update point into the update and live until the next engine_update_reset or
   engine_update_free. engine_step resets the update itself.

   Overlap: one thread. An effect must not be carried out by calling engine_step from within; its
   answer, even if known at once, is queued and stepped after the update has been applied.

   Exactly once. Every REQUEST gets exactly one ENGINE_FX_REPLY, unless its connection closes first;
   then it gets none. Streams (Watch) get any number of ENGINE_FX_STREAM_EVENT first; their REPLY,
   always with an error code, is their end. In the other direction each effect that says "answered
   by" must be answered by exactly one such event, whatever happens. Answers may come in any order.
 */

#ifndef WKSPD_CORE_ENGINE_H
#define WKSPD_CORE_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/engine_audit.h"
#include "daemon/core/engine_ckpt.h"
#include "daemon/core/engine_reply.h"
#include "daemon/core/engine_watch.h"
#include "daemon/core/limits.h"
#include "daemon/core/placement.h"
#include "daemon/core/quota.h"
#include "daemon/core/schedule.h"
#include "daemon/core/spec.h"

/* What engine_step returns beside 0 and negative WKSP_E_*. */
#define ENGINE_STALE 1

enum engine_method {
  ENGINE_CREATE = 1,
  ENGINE_DELETE,
  ENGINE_GET,
  ENGINE_LIST,
  ENGINE_OPEN,
  ENGINE_QUERY,
  ENGINE_COMPACT,
  ENGINE_WATCH,
  ENGINE_VERSION,
  ENGINE_STATS,
  ENGINE_RESIZE,
  ENGINE_PLAN,
  ENGINE_PLACEMENT,
  ENGINE_CLIENTS,
  /* Checkpoints */
  ENGINE_CHECKPOINT,
  ENGINE_CKPT_LIST,
  ENGINE_CKPT_SHOW,
  ENGINE_CKPT_VERIFY,
  ENGINE_CKPT_REMOVE,
  ENGINE_RESTORE,
  ENGINE_SCHEDULE_SET,
  ENGINE_SCHEDULE_GET,
  ENGINE_JOB_LIST,
  ENGINE_JOB_WATCH,
  ENGINE_JOB_CANCEL,
  /* Workspaces */
  ENGINE_VERIFY
};

/* Values of proto/wkspd.proto's OpenMode. */
enum { ENGINE_OPEN_RW = 0, ENGINE_OPEN_RO = 1 };

/* Requests
 * ------------------------------------------------------------------------------------------------
 */

/* One method's request, as it came from the peer: any value is allowed in any field of the peer's,
   the engine checks. */
typedef struct engine_request {
  int method; /* ENGINE_CREATE ...; anything else is the shell's mistake */
  /* Create, Delete, Resize: the client's id of this call, by which it is known when it is made
     again. call_id_len is what the peer sent: 0: none; SPEC_CALL_ID_SIZE, or it is refused. */
  uint32_t call_id_len;
  uint8_t call_id[SPEC_CALL_ID_SIZE];
  union {
    struct {
      char name[ENGINE_TEXT_MAX];
      uint64_t size, max_size, page_size, part_max; /* max_size 0: as size */
      uint32_t mode, seed;
      char numa[SPEC_NUMA_MAX + 2]; /* placement.h; one more than is allowed shows that it is */
      int preferred;                /* pages may be elsewhere than numa says */
      char tag[ENGINE_TEXT_MAX];    /* "": none */
      topo_t const *topo;           /* from the shell: the machine; NULL: not known, and pages are
                                       placed as the shell sees fit */
      int cpu;                      /* from the shell: that of the caller, -1: not known */
      uint8_t uuid[16]; /* from the shell: random, for the workspace that may come of it */
    } create;           /* Plan too, which has no name, id and uuid */
    struct {
      char name[ENGINE_TEXT_MAX];
      int force;
    } del;
    struct {
      char name[ENGINE_TEXT_MAX];
    } get;
    struct {
      uint32_t page_size;
      char page_token[ENGINE_TEXT_MAX];
      int all;
    } list;
    struct {
      char name[ENGINE_TEXT_MAX];
      int32_t mode; /* ENGINE_OPEN_*, or what the peer sent */
    } open;
    struct {
      char name[ENGINE_TEXT_MAX];
      uint64_t const *tags; /* tag_cnt of them; copied by the engine */
      size_t tag_cnt;
      uint64_t page_gaddr;
      uint32_t page_size;
      int holder_only;
    } query; /* Verify too, which has a name only */
    struct {
      char name[ENGINE_TEXT_MAX];
    } compact; /* Placement too */
    struct {
      char name[ENGINE_TEXT_MAX];
      uint64_t size;
    } resize;
    struct {
      char name[ENGINE_TEXT_MAX]; /* "": all */
      int pressure;               /* and what is nearly used up */
    } watch;
    engine_ckpt_request_t c; /* of checkpoints, schedules and jobs */
    struct {
      uint32_t page_size; /* 0: ENGINE_CLIENTS_PAGE_DEFAULT */
      uint64_t page_key;  /* 0, or next_key of the last answer */
    } clients;
    struct {                     /* all from the shell */
      int fd_store;              /* 1 if memory would survive this process */
      uint32_t fd_cnt, lost_cnt; /* its descriptors; workspaces whose memory nobody had kept */
      char const *mistake;       /* of the configuration, a string of its own; "" none */
    } stats;
  } u;
} engine_request_t;

/* Events
 * ------------------------------------------------------------------------------------------------
 */

/* Limits that the shell may lower for this machine (say from RLIMIT_NOFILE); 0 means the ENGINE_*
   constant of limits.h, and more than the constant is cut to it. */
typedef struct engine_config {
  uint32_t conns_max, workspaces_max, leases_max, jobs_running_max, tasks_running_max;
  uint32_t kept_max;      /* workspaces and leases together; 0: no bound but their own */
  uint32_t files_max;     /* these and connections together; 0: no bound but their own */
  uint64_t memory_bytes;  /* of the machine: larger creates are refused at once; 0: not known */
  uint64_t ws_id_high;    /* at least the highest ids ever given out, 0 if none: new ones are above;
                             a number that cannot have been reached will do */
  uint64_t lease_id_high; /* and above those of all RECOVERED_*. Opens end at
                             ENGINE_LEASE_ID_MAX */
  uint32_t uid_conns_max, uid_workspaces_max; /* of one uid; 0: the constant */
  uint32_t admin_gid;      /* members administer, as root does; 0: no group does */
  int no_ckpts;            /* 1: there is no store of checkpoints, so nothing to list */
  int32_t pid;             /* for Stats */
  uint32_t layout_version; /* for Version: what this daemon makes */
  uint64_t geometry_hash;
  char daemon_version[32];
} engine_config_t;

enum engine_event_kind {
  /* First, once: takes the configuration. Then RECOVERED_*; connections after RECOVERED_END only.
   */
  ENGINE_EV_START = 1,
  /* Between START and RECOVERED_END, once per workspace found (spec or memory), in any order; also
     those that are GONE. */
  ENGINE_EV_RECOVERED_WORKSPACE,
  /* After its workspace's, once per lifeline found. A lifeline without a workspace is dropped. */
  ENGINE_EV_RECOVERED_LEASE,
  /* Between START and RECOVERED_END, once per schedule found. */
  ENGINE_EV_RECOVERED_SCHEDULE,
  /* Unfinished makings and removals go on; connections may be accepted. */
  ENGINE_EV_RECOVERED_END,
  ENGINE_EV_CONN_OPEN,
  /* Closed, by whomever: nothing more is sent to it. Not answered to ENGINE_FX_CLOSE_CONN (which
     has closed it already for the engine), but harmless there. */
  ENGINE_EV_CONN_CLOSED,
  /* stream: not one that is in flight on this connection. */
  ENGINE_EV_REQUEST,
  /* The client wants no answer any more: it gets one nevertheless, CANCELLED, at once. */
  ENGINE_EV_CANCEL,
  /* Answers to effects; see there. */
  ENGINE_EV_PERSISTED,
  ENGINE_EV_MEMORY_MADE,
  ENGINE_EV_MEMORY_RESIZED,
  ENGINE_EV_REMOVED,
  ENGINE_EV_LEASE_MADE,
  ENGINE_EV_WORKER_DONE,
  ENGINE_EV_SCHEDULE_WRITTEN,
  /* A worker of a task says how far it is. Of one that has ended: harmless. */
  ENGINE_EV_WORKER_PROGRESS,
  /* The last holder of a lifeline is gone. Reported once; the shell then stops watching it but
     keeps it (fd store too) until LEASE_DROP, which comes in the same update or, after a read-write
     lease, once its workspace has been reaped: so a restart in between finds the hang-up again. */
  ENGINE_EV_LIFELINE_HUP,
  /* The shell has found that a workspace must not be served any longer (say its memfd was tampered
     with). Leases go on; opens are refused; its owner may delete it. */
  ENGINE_EV_QUARANTINE,
  /* The rules of quotas, which take the place of those before. After START, at any time. What is
     over them stays. */
  ENGINE_EV_QUOTA,
  /* What the memory of a workspace holds. At any time; the engine judges whether it may. */
  ENGINE_EV_HELD,
  /* The machine, whose pools of huge pages are looked at. At any time after START. */
  ENGINE_EV_POOLS,
  /* A peer broke the framing; counted. conn 0: from no known connection. The shell then closes it.
   */
  ENGINE_EV_VIOLATION,
  /* Not before next_tick_mono_ns is needed; earlier does no harm. */
  ENGINE_EV_TICK,
  /* New requests are refused, creates in flight rolled back, workers cancelled. Workspaces whose
     schedules say so are checkpointed. update.stopped is set with the last answer. Leases and
     workspaces stay for the next start. A second one gives up those checkpoints. */
  ENGINE_EV_STOP
};

enum engine_memory_status {
  ENGINE_MEMORY_OK = 0,
  ENGINE_MEMORY_SHORT,     /* not enough pages (RESOURCE_EXHAUSTED with figures) */
  ENGINE_MEMORY_INVALID,   /* size and part_max make no workspace (INVALID_ARGUMENT) */
  ENGINE_MEMORY_CANCELLED, /* after MEMORY_CANCEL */
  ENGINE_MEMORY_FAILED     /* a system call (INTERNAL) */
};

/* A worker's answer to ENGINE_OP_RESIZE. */
enum { ENGINE_RESIZED_AS_WANTED = 0, ENGINE_RESIZED_USED, ENGINE_RESIZED_TABLE };
typedef struct engine_resized {
  uint64_t size;                               /* bytes up to which the workspace can be used */
  int why;                                     /* it is not what was wanted: ENGINE_RESIZED_* */
  uint64_t block_gaddr, block_size, block_tag; /* USED: the partition that is in the way */
} engine_resized_t;

typedef struct engine_event {
  int kind;             /* ENGINE_EV_* */
  uint64_t now_mono_ns; /* of every event; never 0; going back is taken as standing still */
  uint64_t now_real_ns; /* of every event; since 1970, may jump */
  union {
    engine_config_t start;
    struct {
      spec_t spec; /* ws_id is set always. For memory without a spec the shell takes ids above all
                      that it has seen and raises START's ws_id_high accordingly */
      int spec_known;    /* 0: spec is unreadable or absent: only ws_id counts, and size, owner and
                            uuid     if they are known (the shell keeps the damaged file where
                            UNPERSIST     will remove it) */
      uint64_t size_min; /* bytes: as in MEMORY_MADE; 0 if spec_known is 0 */
      int memory;        /* 1: its memory was found and satisfies the spec (max_size, uuid) */
      int read_only; /* 1: it has, and this build can only read what is in it; reason says why */
      char const *reason; /* why memory is 0 or spec_known is 0, for people; else NULL. READY
                             without memory, or unknown, is quarantined for this reason */
    } recovered_workspace;
    struct {
      uint64_t lease_id, ws_id;
      int mode;    /* ENGINE_OPEN_* */
      int32_t pid; /* of the client, 0 if not known */
      uint32_t uid, gid;
    } recovered_lease;
    struct {
      uint64_t conn;     /* > 0 */
      uint32_t uid, gid; /* SO_PEERCRED */
      int32_t pid;
      uint32_t const *gids; /* SO_PEERGROUPS: gid_cnt further groups; copied by the engine */
      uint32_t gid_cnt;     /* at most ENGINE_GIDS_MAX */
      int admin;            /* 1: it speaks for who configures the daemon, whatever its uid */
    } conn_open;
    struct {
      uint64_t conn;
    } conn; /* CONN_CLOSED, VIOLATION */
    struct {
      uint64_t conn;
      uint32_t stream;
      uint64_t deadline_mono_ns; /* 0: none */
      engine_request_t req;
    } request;
    struct {
      uint64_t conn;
      uint32_t stream;
    } cancel;
    struct {
      uint64_t ws_id;
      int err;            /* 0, or an errno value */
      char const *detail; /* "rename /var/lib/wkspd/17.spec: No space left on device", or NULL */
    } done;               /* PERSISTED, REMOVED */
    struct {
      uint64_t ws_id;
      int status; /* ENGINE_MEMORY_* */
      /* OK: */
      uint64_t size, max_size, page_size, data_max, part_max;
      uint64_t size_min; /* the least that it can be resized to */
      uint64_t held;     /* of a PUNCH: bytes that it holds after it */
      uint32_t layout_version;
      uint64_t geometry_hash;
      /* SHORT: in pages of page_size; node -1: none in particular; hint: how to get more */
      uint64_t wanted, free;
      int32_t node;
      char const *hint;   /* or NULL */
      char const *note;   /* OK: what there is to say of how it went, or NULL */
      char const *detail; /* a sentence for SHORT, INVALID and FAILED, or NULL */
    } memory_made,
        memory_resized; /* of MEMORY_RESIZED: ws_id, status, held, page_size and the figures */
    struct {
      uint64_t lease_id;
      int err;
      char const *detail;
    } lease_made;
    struct {
      uint64_t lease_id;
    } lifeline_hup;
    struct {
      uint64_t job_id;
      int status;         /* ENGINE_WORKER_* */
      char const *detail; /* or NULL */
      void *result; /* OK: stays the shell's; passed to the reply (Query, Compact, CkptShow) if
                       there still is one */
      /* RESIZE, OK: what the table says now. From memory that strangers write: the shell has seen
         to it that it lies within [size_min, size_max] and is of whole pages, or is size_max */
      engine_resized_t resized;
      /* LIST: all that there are in the store or stores; CHECKPOINT: the new one. Copied. The spec
         of one that is not bad has passed spec_check */
      engine_ckpt_t const *ckpts;
      size_t ckpt_cnt;
      /* CHECKPOINT, REMOVE: numbers that are in the store no more */
      uint64_t const *gone;
      size_t gone_cnt;
      uint64_t written_size, freed_size;
    } worker_done;
    schedule_t const *recovered_schedule; /* has passed schedule_check; copied */
    struct {
      char name[SPEC_NAME_MAX + 1];
      int err; /* 0, or an errno value */
      char const *detail;
    } schedule_written;
    struct {
      uint64_t job_id;
      int phase;
      uint64_t done_size, total_size, written_size;
    } progress;
    struct {
      uint64_t ws_id;
      char const *reason;
    } quarantine;
    quota_t const *quota; /* copied by the engine */
    topo_t const *pools;  /* POOLS */
    struct {
      uint64_t ws_id, bytes;
      uint64_t top;   /* of ordinary pages: where the last one that is there ends */
      uint64_t slack; /* of ordinary pages: what the kernel may have added, making them huge */
    } held;
  } u;
} engine_event_t;

/* Effects
 * ------------------------------------------------------------------------------------------------
 */

enum engine_effect_kind {
  /* Write the spec durably (temp file, fsync, rename, fsync the directory), replacing the one of
     the same ws_id. Answered by PERSISTED. After a failure the engine takes either state to be on
     disk.
   */
  ENGINE_FX_PERSIST = 1,
  /* Remove the spec file of ws_id durably, once a MEMORY_DROP before it has been confirmed; not
     being there is success. Answered by REMOVED, with an error also if the fd store does not
     confirm; then all of it is asked for again. */
  ENGINE_FX_UNPERSIST,
  /* As UNPERSIST, but the spec, whose state is GONE, is written in the place of the old one, and
     stays for the next start. Answered by REMOVED. */
  ENGINE_FX_RETIRE,
  /* Remove the spec file of ws_id, which is GONE, some time. No answer: what is left is found at
     the next start. */
  ENGINE_FX_FORGET,
  /* Write the schedule durably, in the place of that of the same name, or remove it (drop).
     Answered by SCHEDULE_WRITTEN. */
  ENGINE_FX_SCHEDULE,
  /* Write down durably which checkpoints of a store have been found sound, and when, in the place
     of what was written before; a listing tells it again. No answer: a lost one is checked anew. */
  ENGINE_FX_CKPT_NOTES,
  /* Make memory of max_size bytes, take pages for size of them, format, check, seal, and put the
     memory in the fd store, all confirmed. With a data_max it is left blank
     instead, for a restore. Failing leaves nothing behind. Answered by MEMORY_MADE. */
  ENGINE_FX_MEMORY_MAKE,
  /* The making or filling of ws_id is not wanted any more: end it early if that is possible.
     MEMORY_MADE or MEMORY_RESIZED still comes, with any status; if it is OK the engine drops the
     memory, or punches it. No answer of its own. */
  ENGINE_FX_MEMORY_CANCEL,
  /* Take the pages of ws_id's memory in [from, to), placed as the others. Failing gives all of them
     back: nobody uses any of them then; unless keep says that somebody may. Answered by
     MEMORY_RESIZED. */
  ENGINE_FX_MEMORY_FILL,
  /* Give the pages of ws_id's memory in [from, to) back. Answered by MEMORY_RESIZED, OK or FAILED.
   */
  ENGINE_FX_MEMORY_PUNCH,
  /* Take ws_id's memory out of the fd store and close it, if there is any. Running workers of it
     have been cancelled and have their own descriptor. No answer. Unreaped pages are the kernel's.
   */
  ENGINE_FX_MEMORY_DROP,
  /* Make a lifeline, put the daemon's end in the fd store (confirmed) with what RECOVERED_LEASE
     will need, keep the client's end and watch ours for hang-up. Answered by LEASE_MADE. */
  ENGINE_FX_LEASE_MAKE,
  /* Close whatever there is of the lease, fd store included; forget it. No answer; a HUP that is
     under way already is stale and harmless. */
  ENGINE_FX_LEASE_DROP,
  /* Send the answer. With an open's reply the shell sends the fds and then closes its copy of the
     client's end, whether sending worked or not; if not, the hang-up follows by itself. A reply to
     a connection whose CONN_CLOSED is still queued is dropped, its fds closed. */
  ENGINE_FX_REPLY,
  /* Send one event on a Watch stream. A client that reads too slowly is the shell's to close. */
  ENGINE_FX_STREAM_EVENT,
  /* Send the present state of a job on a JobWatch stream. Its REPLY with OK is the end of it. */
  ENGINE_FX_STREAM_TASK,
  /* Start a sandboxed worker. Answered by WORKER_DONE. */
  ENGINE_FX_WORKER_START,
  /* Its result is not wanted any more: kill it. WORKER_DONE still comes. */
  ENGINE_FX_WORKER_CANCEL,
  /* Close the connection; nobody was told anything on it. */
  ENGINE_FX_CLOSE_CONN,
  /* One line for the log, key=value. */
  ENGINE_FX_LOG
};

enum {
  ENGINE_OP_QUERY = 1,
  ENGINE_OP_COMPACT = 2,
  ENGINE_OP_REAP = 3,
  ENGINE_OP_RESIZE = 4,
  ENGINE_OP_PLACE = 5,
  ENGINE_OP_CHECKPOINT = 6,
  ENGINE_OP_RESTORE = 7,
  ENGINE_OP_CKPT_VERIFY = 8,
  ENGINE_OP_CKPT_REMOVE = 9,
  ENGINE_OP_CKPT_LIST = 10,
  ENGINE_OP_CKPT_SHOW = 11,
  ENGINE_OP_CKPT_DRILL = 12 /* drill.c */
};

enum { ENGINE_LOG_ERROR = 1, ENGINE_LOG_WARN = 2, ENGINE_LOG_INFO = 3 };

typedef struct engine_effect {
  int kind; /* ENGINE_FX_* */
  union {
    spec_t persist; /* PERSIST, RETIRE: state is in it */
    struct {
      uint64_t ws_id;
    } workspace; /* UNPERSIST, FORGET, MEMORY_CANCEL, MEMORY_DROP */
    struct {
      spec_t spec; /* data_max not 0: blank, with exactly that data_max and part_max, unless */
      uint64_t part_min; /* is not 0: then it is of spec.max_size, with tables that take no more
                            room than those of that data_max and part_max would, and at least so
                            many partitions. What cannot be is INVALID */
    } memory_make;
    struct {
      schedule_t const *schedule;
      int drop;
    } schedule;
    struct {
      uint64_t store_id;
      engine_ckpt_note_t const *notes;
      size_t note_cnt;
    } ckpt_notes;
    struct {
      uint64_t conn;
      uint32_t stream;
      engine_task_t const *task;
    } stream_task;
    struct {
      uint64_t ws_id, page_size;
      uint64_t from, to; /* bytes, of whole pages */
      int keep;
      uint64_t max_size;
      char nodes[SPEC_NUMA_MAX + 1]; /* of its spec */
      int strict;
    } memory_resize; /* MEMORY_FILL, MEMORY_PUNCH */
    struct {
      uint64_t lease_id, ws_id;
      int mode; /* ENGINE_OPEN_* */
      int32_t pid;
      uint32_t uid, gid; /* of the client */
    } lease_make;
    struct {
      uint64_t lease_id, ws_id;
    } lease_drop;
    engine_reply_t const *reply;
    struct {
      uint64_t conn;
      uint32_t stream;
      int kind; /* ENGINE_EVENT_* */
      char name[SPEC_NAME_MAX + 1];
      uint64_t time_ns;                  /* since 1970 */
      engine_pressure_t const *pressure; /* PRESSURE, which has no name */
    } stream_event;
    struct {
      uint64_t job_id, ws_id;
      int op;                    /* ENGINE_OP_* */
      uint64_t deadline_mono_ns; /* 0: none but the shell's own */
      uint64_t const *tags;      /* QUERY: tag_cnt of them, in the update */
      size_t tag_cnt;
      uint64_t page_gaddr;
      uint32_t page_size; /* QUERY: 1 to ENGINE_QUERY_PAGE_MAX */
      int holder_only;    /* QUERY: only who holds the lock */
      int verify;         /* QUERY: all of it is checked instead, and nothing told */
      uint64_t const
          *leases; /* REAP: lease_cnt (1 to ENGINE_REAP_LEASES_MAX) leases that have ended */
      size_t lease_cnt;
      /* RESIZE: move the end of what can be used to this many bytes (0: only tell where it is), or,
         downwards, as far as what is there is free; at a multiple of page_bytes. What it comes to
         is in [size_min, map size]. PLACE: tell where the pages up to that many bytes lie.
       */
      uint64_t resize_to, size_min, page_bytes;
      /* Those of checkpoints; ws_id is 0 but for CHECKPOINT and RESTORE. No time limit, but that it
         goes on. */
      engine_ckpt_ask_t const *ckpt;
    } worker_start;
    struct {
      uint64_t job_id;
    } worker_cancel;
    struct {
      uint64_t conn;
      char const *why; /* a constant string */
    } close_conn;
    struct {
      int level;   /* ENGINE_LOG_* */
      int by_peer; /* 1: uid's doing; such lines are bounded for each uid */
      uint32_t uid;
      char text[ENGINE_LOG_MAX]; /* "event=created workspace=orders ..." */
    } log;
  } u;
} engine_effect_t;

/* Effects of one step. Owned by the caller; the engine fills and grows it. Start with zeroes. */
typedef struct engine_update {
  engine_effect_t *effects;
  size_t effect_cnt, effect_max;
  uint64_t next_tick_mono_ns;  /* when the engine wants a TICK at the latest; 0: not at all */
  int stopped;                 /* 1: STOP is complete, no answer is outstanding */
  struct engine_chunk *chunks; /* private: what effects point to */
} engine_update_t;

/* Drops the effects, keeps the array. */
void engine_update_reset(engine_update_t *update);

/* Gives back everything; the update is zeroes again and may be used again. */
void engine_update_free(engine_update_t *update);

/* The machine
 * ------------------------------------------------------------------------------------------------
 */

typedef struct engine engine_t;

/* An engine that wants START. NULL: no memory. */
engine_t *engine_new(void);

/* Everything it holds; NULL does nothing. Workspaces and leases live on in the shell's hands. */
void engine_free(engine_t *engine);

/* Takes one event; the update is reset and then filled. Returns
     0             done
     ENGINE_STALE  the event names a connection, stream, lease, workspace or job that the engine has
                   ended already; nothing was done (the update may still hold expired deadlines)
     WKSP_E_NOMEM  malloc failed: the engine is in no defined state. Free it and end the process;
                   the next start recovers from what is persisted. The update must not be applied.
     WKSP_E_INVAL  the shell broke this contract (kinds, order of events, an answer that nobody
   asked for): same consequence. A peer's mistake is never negative. */
int engine_step(engine_t *engine, engine_event_t const *event, engine_update_t *update);

/* Calls on_lease for each live lease of ws_id (any order); for the shell's own use. Returns how
   many. */
size_t engine_leases(engine_t const *engine, uint64_t ws_id,
                     void (*on_lease)(void *arg, uint64_t lease_id), void *arg);

/* Walks everything and proves the invariants that engine.c, registry.h, lease.h, call.h and job.h
   state. NULL, or a constant sentence that names the first one broken. For tests; linear. */
char const *engine_check(engine_t const *engine);

#endif
