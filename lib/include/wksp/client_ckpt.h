/* wksp_client: checkpoints by way of wkspd, which takes, keeps and restores them, by hand and on
   schedules. (wksp/ckpt.h does so in the process itself, without a daemon.)

   What takes as long as its bytes do is a job: begun by one call, followed by
   wksp_client_job_watch, and gone on with if nobody follows. Calls fail as those of client.h do.
   One that begins a job and gets no answer returns E_AGAIN: look at the jobs whether it was begun.

   A checkpoint has an id of two numbers, such as "17.1a1ff9b1d83". */

#ifndef WKSP_CLIENT_CKPT_H
#define WKSP_CLIENT_CKPT_H

#include "client.h"
#include "error.h"
#include "fd_wksp.h"
#include "types.h"

WKSP_PROTOTYPES_BEGIN

#define WKSP_CHECKPOINT_ID_MAX   44UL   /* bytes of an id, with the NUL */
#define WKSP_CHECKPOINT_INFO_MAX 1023UL /* bytes of a text, without NUL */

/* How it is taken: fuzzy: nobody waits, each byte as it was at some moment between begin and end;
   quiesce: one moment, for updates that programs bracket (wksp/pause.h). */
enum { WKSP_MODE_FUZZY = 0, WKSP_MODE_QUIESCE = 1 };
enum { WKSP_STYLE_RAW = 0, WKSP_STYLE_LZ4 = 1, WKSP_STYLE_ZSTD = 2 };
enum { WKSP_BY_HAND = 0, WKSP_BY_SLOT = 1, WKSP_BY_STOP = 2 };

typedef struct wksp_checkpoint_how {
  uint mode;  /* WKSP_MODE_* */
  uint style; /* WKSP_STYLE_* */
  int level;  /* of zstd, -7 to 19; 0: its own */
} wksp_checkpoint_how_t;

/* Begins a checkpoint; info may be NULL. 0 and *ret_job_id; E_BUSY or E_AGAIN while another of it
   is being taken, E_NOTFOUND, E_PERM, E_LIMIT, ... */
WKSP_API int wksp_client_checkpoint(wksp_client_t *client, char const *name,
                                    wksp_checkpoint_how_t const *how, char const *info,
                                    ulong *ret_job_id);

typedef struct wksp_checkpoint {
  char id[WKSP_CHECKPOINT_ID_MAX];
  char name[FD_WKSP_NAME_MAX + 1]; /* of the workspace; "": bad, and not known */
  uchar uuid[16];
  uint uid, gid, mode;       /* owner and permission bits of the workspace */
  uint by;                   /* WKSP_BY_* */
  uint mode_asked;           /* WKSP_MODE_* */
  wksp_checkpoint_how_t how; /* mode: what it got */
  ulong created_ns;          /* since 1970 */
  ulong took_ns, pause_ns;
  ulong live_size, scanned_size, changed_size, written_size, file_size; /* bytes */
  ulong part_cnt, root_cnt, alloc_cnt;
  ulong suspect_cnt; /* blocks that were in flight */
  uint silent_cnt;   /* clients that did not leave their brackets in time */
  ulong size;        /* bytes of memory that a restore takes */
  ulong page_size;
  uint seed;
  ulong verified_ns; /* when it was last found sound; 0: never */
  ulong drilled_ns;  /* when all of it was last restored, in earnest or for trial, and found sound;
                        0: never */
  char info[WKSP_CHECKPOINT_INFO_MAX + 1];
  char bad[160]; /* what is wrong with it; "": nothing that is known */
} wksp_checkpoint_t;

/* Tells the checkpoints of a workspace, or (NULL) of all that one may know of, in the order of
   names and times, until on_one returns non-zero, which is then returned. */
WKSP_API int wksp_client_checkpoints(wksp_client_t *client, char const *name,
                                     int (*on_one)(void *arg, wksp_checkpoint_t const *checkpoint),
                                     void *arg);

/* What one says of itself, for people: *ret_text is to be freed. verbose: 0 to 2. Either ret_x may
   be NULL. E_NOTFOUND, E_PERM, E_CORRUPT. */
WKSP_API int wksp_client_checkpoint_show(wksp_client_t *client, char const *id, uint verbose,
                                         wksp_checkpoint_t *ret_checkpoint, char **ret_text);

/* Begins to check every digest of it; the job fails with E_CORRUPT if it is damaged. */
WKSP_API int wksp_client_checkpoint_verify(wksp_client_t *client, char const *id,
                                           ulong *ret_job_id);

/* Begins to restore it for trial: into memory that nobody else sees, where what came of it is
   verified, and which is then thrown away. The job fails with E_CORRUPT if it is damaged, with
   E_LIMIT if there is too little memory. A daemon before this version checks digests only, and says
   so by the job's kind. */
WKSP_API int wksp_client_checkpoint_drill(wksp_client_t *client, char const *id, ulong *ret_job_id);

/* Removes it and what no other needs; bytes of files that went, unless NULL. */
WKSP_API int wksp_client_checkpoint_remove(wksp_client_t *client, char const *id,
                                           ulong *ret_freed_size);

typedef struct wksp_restore {
  char const *name;  /* whose checkpoint */
  char const *from;  /* its id; NULL: the newest that is not known to be bad */
  char const *as;    /* what to call what comes of it; NULL: name */
  ulong page_size;   /* WKSP_PAGE_*; 0: as it was */
  ulong const *tags; /* only partitions with these; tag_cnt 0: all */
  ulong tag_cnt;
  uint seed_set, seed; /* 1: a new seed */
  char const *numa;    /* as of wksp_create_t; NULL or "": as it was */
  int preferred;
  int in_place;   /* 1: into the workspace that is there, under the name that is to come of it: it
                     stays as it is until all of the new one is there, which then takes its place with
                     its owner, mode and, unless something else is said, pages. Nobody may be attached
                     (E_BUSY, naming who is); meanwhile nobody can */
  ulong size;     /* bytes, 0: as it was. What lives in it must fit (E_LIMIT) */
  ulong max_size; /* bytes, 0: as it was, or size if that is more. Addresses stay, so tables can
                     take no more room than they took; what can be is said with figures (E_LIMIT) */
} wksp_restore_t;

/* Begins to make a workspace from a checkpoint. It is there when the job is done. 0 and
 *ret_job_id; E_EXISTS, E_NOTFOUND, E_PERM, E_LIMIT, E_CORRUPT, ... */
WKSP_API int wksp_client_restore(wksp_client_t *client, wksp_restore_t const *restore,
                                 ulong *ret_job_id);

/* Schedules
 * ---------------------------------------------------------------------------------------------- */

#define WKSP_SCHEDULE_RUNS_MAX 16UL

/* How many are kept, of those that nobody took by hand: the last ones, and the newest of each of
   the last so many hours, days, weeks (from Monday) and months, in UTC, with one. All 0: all. */
typedef struct wksp_keep {
  uint last, hourly, daily, weekly, monthly;
} wksp_keep_t;

typedef struct wksp_run {
  ulong begin_ns, end_ns; /* since 1970 */
  uint by;                /* WKSP_BY_* */
  int code;               /* 0, or what failed: one of gRPC's codes */
  ulong number;           /* the second number of the checkpoint's id; 0: none */
  ulong written_size;
} wksp_run_t;

typedef struct wksp_schedule {
  ulong every_ns;  /* 0: only by hand, and on_stop; else 1 s to 366 days */
  ulong jitter_ns; /* each run is up to so much late; below every_ns */
  wksp_checkpoint_how_t how;
  wksp_keep_t keep;
  uint on_stop;   /* 1: a checkpoint when the daemon is stopped */
  uint on_start;  /* 1: if it is not there when the daemon starts, it is restored */
  ulong drill_ns; /* how often the newest checkpoint is restored for trial; 0: never, else 1 s to
                     366 days */
  /* from here on told, not set */
  ulong due_ns;        /* since 1970: the next run, 0: none */
  ulong last_ok_ns;    /* since 1970: the end of the last that made one, 0: none has */
  uint fail_cnt;       /* in a row */
  ulong drill_due_ns;  /* since 1970: the next drill, which waits for a checkpoint; 0: none */
  ulong drill_ok_ns;   /* since 1970: the end of the last good one, 0: none was */
  ulong drill_number;  /* what that one restored: the second number of its id */
  uint drill_fail_cnt; /* in a row */
  uint run_cnt;
  wksp_run_t runs[WKSP_SCHEDULE_RUNS_MAX]; /* oldest first */
} wksp_schedule_t;

/* Sets it, or (NULL) drops it, durably. E_NOTFOUND, E_PERM, E_INVAL. */
WKSP_API int wksp_client_schedule_set(wksp_client_t *client, char const *name,
                                      wksp_schedule_t const *schedule);

/* 0 and *ret_schedule; E_NOTFOUND: there is neither a schedule nor such a workspace; 1: there is
   such a workspace, and no schedule of it. */
WKSP_API int wksp_client_schedule_get(wksp_client_t *client, char const *name,
                                      wksp_schedule_t *ret_schedule);

/* Jobs
 * ---------------------------------------------------------------------------------------------- */

enum {
  WKSP_JOB_CHECKPOINT = 1,
  WKSP_JOB_RESTORE = 2,
  WKSP_JOB_VERIFY = 3,
  WKSP_JOB_REMOVE = 4,
  WKSP_JOB_DRILL = 5
};
enum {
  WKSP_JOB_QUEUED = 1,
  WKSP_JOB_RUNNING = 2,
  WKSP_JOB_DONE = 3,
  WKSP_JOB_FAILED = 4,
  WKSP_JOB_CANCELLED = 5
};

typedef struct wksp_job {
  ulong id;   /* counts from 1 at each start of the daemon */
  uint kind;  /* WKSP_JOB_*, 0: one that this library does not know */
  uint state; /* WKSP_JOB_* */
  uint by;
  char name[FD_WKSP_NAME_MAX + 1];
  uint uid;
  char checkpoint[WKSP_CHECKPOINT_ID_MAX]; /* "": none yet */
  ulong asked_ns, begun_ns, ended_ns;      /* since 1970, 0: not yet */
  uint phase;                              /* wksp/ckpt.h, WKSP_CKPT_PHASE_* */
  ulong done_size, total_size;             /* bytes, in this phase */
  ulong written_size;
  int code; /* FAILED, CANCELLED: what it comes to, a WKSP_E_* */
  char sentence[400];
  char hint[200];
} wksp_job_t;

/* Tells all that wait and run, and the last that have ended, in the order of ids, until on_job
   returns non-zero. */
WKSP_API int wksp_client_jobs(wksp_client_t *client,
                              int (*on_job)(void *arg, wksp_job_t const *job), void *arg);

/* Tells the state of a job now and whenever it changes, up to its last; or until on_job returns
   non-zero, which is then returned. 0 at the end; E_NOTFOUND, E_TIMEDOUT (the client's deadline),
   or E_AGAIN (the daemon is gone). */
WKSP_API int wksp_client_job_watch(wksp_client_t *client, ulong job_id,
                                   int (*on_job)(void *arg, wksp_job_t const *job), void *arg);

/* E_NOTFOUND, E_PERM, E_BUSY (it has ended). */
WKSP_API int wksp_client_job_cancel(wksp_client_t *client, ulong job_id);

WKSP_PROTOTYPES_END

#endif
