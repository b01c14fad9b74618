/* wksp_client: calls to wkspd, the daemon that owns workspaces.

   A client is a connection that mends itself: when the daemon has been restarted the next call
   connects anew. What is mapped stays mapped and what is attached stays attached meanwhile; malloc,
   free, reads and writes never come here.

   Every call takes the client's deadline (30 s unless set). A call that loses its daemon is sent
   again until the deadline. Those that create, remove or resize carry an id by which the daemon
   knows them again, also after a restart, so they are not done twice; the answer is that of the
   first. If there is none by the deadline, such a call returns E_AGAIN (or E_TIMEDOUT): it may or
   may not have happened. So does a compact at once, and any of them if the daemon was replaced by
   one that does not know calls again.

   A client may be used by any number of threads; calls on one client take turns. A forked child
   must connect anew: its calls on an inherited client fail with E_INVAL.

   The default socket is $WKSPD_SOCKET if set and not empty, else /run/wkspd/wkspd.sock. */

#ifndef WKSP_CLIENT_H
#define WKSP_CLIENT_H

#include "error.h"
#include "fd_wksp.h"
#include "types.h"

WKSP_PROTOTYPES_BEGIN

#define WKSP_SOCKET_DEFAULT      "/run/wkspd/wkspd.sock"
#define WKSP_DEADLINE_DEFAULT_MS 30000L

/* Page sizes in a create. */
enum { WKSP_PAGE_AUTO = 0, WKSP_PAGE_4K = 4096, WKSP_PAGE_2M = 2097152, WKSP_PAGE_1G = 1073741824 };

/* socket_path NULL: the default socket. NULL on failure (E_NODAEMON: the sentence says which path
 * and why; E_NOMEM). */
WKSP_API wksp_client_t *wksp_client_connect(char const *socket_path);

/* Attached workspaces stay attached. NULL: nothing. */
WKSP_API void wksp_client_close(wksp_client_t *client);

/* For later calls; 1 to 3,600,000 ms. 0 or E_INVAL. */
WKSP_API int wksp_client_deadline_set(wksp_client_t *client, long deadline_ms);

typedef struct wksp_info {
  char name[FD_WKSP_NAME_MAX + 1];
  uchar uuid[16];
  ulong size;      /* bytes that the workspace takes in all, at present */
  ulong page_size; /* bytes */
  ulong data_max;  /* bytes for data at max_size */
  ulong part_max;  /* partitions there can be */
  uint mode;       /* permission bits, 0 to 0777 */
  uint uid, gid;   /* owner */
  uint seed;
  ulong created_ns; /* since 1970 */
  uint attached_rw; /* leases */
  uint attached_ro;
  uint removing;    /* 1: removed by force, memory stays until the last lease ends */
  uint quarantined; /* 1: kept but not served, for reason */
  char reason[160];
  ulong max_size; /* bytes that it can be resized to; size if it cannot grow */
  uint read_only; /* 1: by its layout the daemon can only read it, for reason */
  ulong excess;   /* bytes that it holds beyond its size: pages that were not given to it */
  char note[256]; /* how its pages were taken: why of this size, how many are elsewhere than wanted;
                     "" in a list, and if a daemon before the present one took them */
  uint damaged; /* 1: a worker of the daemon has met damage in it, as reason says; it is served all
                   the same. A verify that finds nothing takes it back */
  char tag[32]; /* what it is for, by which quotas may count it; "": none */
} wksp_info_t;

typedef struct wksp_create {
  char const *name;
  ulong size;      /* bytes, > 0, rounded up to pages */
  ulong page_size; /* WKSP_PAGE_*; auto: the largest that fit the size, are free and waste at most
                      1/8 of what they take */
  uint mode;       /* 0: 0660 */
  uint seed;
  ulong part_max;   /* 0: an estimate */
  ulong max_size;   /* bytes that it can grow to, rounded up to pages; 0: size. Addresses and tables
                       are made for all of it, pages taken for size alone */
  char const *numa; /* where its pages are to be; NULL or "": near the caller if possible. "local":
                       on the node of the caller's cpu; "0" or "0,1": on these nodes, in turn;
                       "split:0,1,1": in contiguous parts, as even as possible; "cpu:0-4:2,10": in
                       parts on the nodes of these cpus */
  int preferred;    /* 1: pages may be elsewhere if there are none; 0: that is an error */
  char const *tag;  /* what it is for, by which quotas may count it: 1 to 31 letters, digits, '_',
                       '-', the first a letter or digit; NULL or "": none */
} wksp_create_t;

/* Creates a workspace: its pages are taken and it is formatted when this returns. ret_info may be
   NULL. 0, E_INVAL, E_EXISTS, E_LIMIT (not enough pages; the sentence has figures), E_AGAIN,
   E_TIMEDOUT, E_NODAEMON, ... */
WKSP_API int wksp_client_create(wksp_client_t *client, wksp_create_t const *create,
                                wksp_info_t *ret_info);

/* Removes it. Fails with E_BUSY while anybody is attached, unless force: then the name goes at once
   and the memory when the last has detached or ended. E_NOTFOUND, E_PERM. */
WKSP_API int wksp_client_remove(wksp_client_t *client, char const *name, int force);

/* Resizes it to size bytes (rounded up to pages and to 64 KiB), at most its max_size, while it is
   in use: clients that are attached see the room at once, where it is, and what is given up goes
   back to the system. Downwards only what is free at the end can go. ret_info may be NULL. 0;
   E_LIMIT (not enough pages: nothing has changed); E_BUSY (a partition that is in use is in the
   way: it has become as small as it can be, the sentence says what it is and which partition),
   E_AGAIN (also while another resize of it is under way), E_INVAL (beyond max_size, or too small
   for its tables), E_NOTFOUND, E_PERM, E_CORRUPT, ... */
WKSP_API int wksp_client_resize(wksp_client_t *client, char const *name, ulong size,
                                wksp_info_t *ret_info);

/* Nodes have the numbers below this. */
#define WKSP_NODES_MAX 64

/* What a create would take of a node, in pages of the plan's size. */
typedef struct wksp_plan_node {
  uint node;
  uint allowed; /* 1: the daemon may take memory there */
  ulong wanted; /* at first */
  ulong growth; /* more, when it has grown to its max_size */
  ulong free, total;
} wksp_plan_node_t;

typedef struct wksp_plan {
  ulong page_size, size, max_size; /* bytes; sizes of whole pages */
  uint strict;                     /* 1: pages elsewhere would be an error */
  char nodes[256];                 /* "0", "0,1" or "split:0,1*2" */
  char why[256];                   /* why pages of this size */
  char lacking[256];               /* "": it can be had now; else what is missing, and: */
  char hint[256];                  /* what to do about it */
  uint node_cnt;
  wksp_plan_node_t node[WKSP_NODES_MAX]; /* those that are online */
} wksp_plan_t;

/* What a create would come to at this moment, without doing it; name, mode, seed and part_max do
   not count. That pages are short is no failure here. 0, E_INVAL, ... */
WKSP_API int wksp_client_plan(wksp_client_t *client, wksp_create_t const *create,
                              wksp_plan_t *ret_plan);

/* Where the pages of a workspace are wanted, and where they are. */
typedef struct wksp_place_node {
  int node;          /* -1: the kernel does not say, or there is no page */
  ulong wanted, got; /* pages */
} wksp_place_node_t;

typedef struct wksp_page_run {
  ulong first, cnt; /* pages */
  int node;
} wksp_page_run_t;

typedef struct wksp_placement {
  wksp_info_t info;
  char numa[256];  /* what was asked for */
  char nodes[256]; /* what it came to: "0", "0,1" or "split:0,1*2"; "": none in particular */
  uint strict;
  uint node_cnt;
  wksp_place_node_t node[WKSP_NODES_MAX + 1];
  ulong elsewhere; /* pages of the runs that are on other nodes than wanted */
  ulong run_cnt;
  wksp_page_run_t *runs; /* from page 0 on, without gaps */
  uint runs_cut;         /* 1: there are more, which are not here */
} wksp_placement_t;

/* As the kernel tells it at this moment. 0 and *ret_placement, to be given to wksp_placement_free;
   E_NOTFOUND, E_PERM, ... */
WKSP_API int wksp_client_placement(wksp_client_t *client, char const *name,
                                   wksp_placement_t *ret_placement);

/* NULL: nothing. */
WKSP_API void wksp_placement_free(wksp_placement_t *placement);

WKSP_API int wksp_client_get(wksp_client_t *client, char const *name, wksp_info_t *ret_info);

/* Calls on_info for each workspace in the order of names, until it returns non-zero (which is then
 * returned). */
WKSP_API int wksp_client_list(wksp_client_t *client,
                              int (*on_info)(void *arg, wksp_info_t const *info), void *arg);

enum { WKSP_ATTACH_RW = 0, WKSP_ATTACH_RO = 1 };

/* Opens, maps and joins. The lease ends with the last detach in this process, or when the process
   ends however it does. A child of fork has no lease: it attaches for itself. NULL on failure. */
WKSP_API fd_wksp_t *wksp_client_attach(wksp_client_t *client, char const *name, int how);

/* The workspace that a joined handle belongs to: its name as attached, and its uuid. 0 or E_INVAL.
 */
WKSP_API int wksp_attached_uuid(fd_wksp_t const *wksp, uchar ret_uuid[16]);

/* Who holds a workspace's lock, at that moment. */
typedef struct wksp_holder {
  uint pid, tid;  /* as it sees itself; pid 0: nobody */
  char comm[16];  /* printable */
  ulong since_ns; /* since 1970: since when somebody has been waiting for it; 0: nobody has */
  uint dead;      /* 1: it has ended; the next call takes over from it */
} wksp_holder_t;

typedef struct wksp_query {
  fd_wksp_usage_t usage;
  fd_wksp_part_t *parts; /* part_cnt of them, in address order; freed by wksp_query_free */
  ulong part_cnt;
  fd_wksp_root_t *roots;
  ulong root_cnt;
  wksp_holder_t holder;
  ulong suspect_cnt; /* blocks in flight when their thread was killed (fd_alloc_walk) */
} wksp_query_t;

/* What is in it, read by the daemon's sandboxed worker: figures over the tags asked for (tag_cnt 0:
 * all), partitions with these tags, roots. */
WKSP_API int wksp_client_query(wksp_client_t *client, char const *name, ulong const *tags,
                               ulong tag_cnt, wksp_query_t *ret_query);

/* Just who holds its lock; also while that is stopped in the middle of a change, which a query has
   to wait for. 0, E_NOTFOUND, E_PERM, E_CORRUPT, ... */
WKSP_API int wksp_client_holder(wksp_client_t *client, char const *name, wksp_holder_t *ret_holder);
WKSP_API void wksp_query_free(wksp_query_t *query);

/* Has the daemon's worker check all of it. If nothing is wrong, damaged goes. 0; E_CORRUPT: it is
   damaged, and marked as that; the sentence has the first finding. E_NOTFOUND, E_PERM, E_AGAIN (a
   writer was in the way), E_TIMEDOUT, ... fd_wksp_verify tells all findings to who has it attached.
 */
WKSP_API int wksp_client_verify(wksp_client_t *client, char const *name);

typedef struct wksp_compacted {
  ulong freed_sz;    /* bytes given back to the workspace by its fd_allocs */
  ulong skipped_cnt; /* threads stopped inside a call */
  int skipped_pid;   /* one of them, as the daemon sees it, 0 if none */
  int skipped_tid;
} wksp_compacted_t;

WKSP_API int wksp_client_compact(wksp_client_t *client, char const *name,
                                 wksp_compacted_t *ret_compacted);

enum {
  WKSP_EVENT_CREATED = 1,
  WKSP_EVENT_REMOVED = 2,
  WKSP_EVENT_ATTACHED = 3,
  WKSP_EVENT_DETACHED = 4,
  WKSP_EVENT_QUARANTINED = 5,
  WKSP_EVENT_RESIZED = 6,
  WKSP_EVENT_CHECKPOINTED = 7,
  WKSP_EVENT_CHECKPOINT_FAILED = 8,
  WKSP_EVENT_RESTORED = 9, /* after its CREATED */
  WKSP_EVENT_RESTORE_FAILED = 10,
  WKSP_EVENT_SCHEDULED = 11,
  WKSP_EVENT_DAMAGED = 12, /* a worker of the daemon has met damage in it */
  WKSP_EVENT_SOUND = 13,   /* it was damaged, and a verify has found nothing */
  WKSP_EVENT_PRESSURE = 14 /* of no workspace: wksp_client_watch_pressure */
};

enum { WKSP_PRESSURE_OF_ALL = 0, WKSP_PRESSURE_OF_UID, WKSP_PRESSURE_OF_TAG };

/* A bound of the daemon's that is nearly used up, or was. */
typedef struct wksp_pressure {
  char what[48]; /* "connections", "workspaces", "quota of bytes", "pages" (of a pool), ... */
  uint high;     /* 1: nine tenths of it are used; 0: they were, and less than eight are now */
  int of;        /* WKSP_PRESSURE_OF_*: of all users together, of uid, of tag */
  uint uid;
  char tag[32];
  ulong page_size; /* 0: not of concern, or all together */
  int node;        /* -1: likewise */
  ulong used, limit;
} wksp_pressure_t;

typedef struct wksp_event {
  uint kind;
  char name[FD_WKSP_NAME_MAX + 1];
  ulong time_ns;                   /* since 1970 */
  wksp_pressure_t const *pressure; /* PRESSURE, which has no name; valid during the call */
} wksp_event_t;

/* Streams events to on_event until it returns non-zero (which is then returned), the client's
   deadline has passed since the call (E_TIMEDOUT), or the daemon goes away (E_AGAIN). Other calls
   on this client wait meanwhile: use one of its own. */
WKSP_API int wksp_client_watch(wksp_client_t *client,
                               int (*on_event)(void *arg, wksp_event_t const *event), void *arg);

/* The same, and PRESSURE too: first for each bound that is nearly used up now, then whenever one
   comes to that or is so no more, at most once a second. Told are bounds of all, of this process's
   uid, and of tags with workspaces that it may know of; to who administers wkspd, all. */
WKSP_API int wksp_client_watch_pressure(wksp_client_t *client,
                                        int (*on_event)(void *arg, wksp_event_t const *event),
                                        void *arg);

typedef struct wksp_version {
  char daemon[32];     /* "0.1.0" */
  uint layout;         /* layout version of workspaces it makes */
  ulong geometry_hash; /* of what it serves */
} wksp_version_t;

WKSP_API int wksp_client_version(wksp_client_t *client, wksp_version_t *ret_version);

/* This library's own version, "0.1.0". */
WKSP_API char const *wksp_library_version(void);

/* The layout version of workspaces that this library makes and attaches, and their geometry
   (ret_geometry_hash may be NULL); to be compared with a daemon's. */
WKSP_API uint wksp_library_layout(ulong *ret_geometry_hash);

/* A rule about what a user's workspaces, or those of a tag, may take. */
typedef struct wksp_quota {
  uint uid;
  ulong page_size;
  int node;          /* -1: all nodes together */
  ulong limit, used; /* bytes; used: what they can grow to */
  char tag[32];      /* not "": it is about workspaces of this tag, whosesoever; page_size 0: all */
  uint workspaces;   /* 1: limit and used are numbers of workspaces */
} wksp_quota_t;

#define WKSP_QUOTAS_MAX 64

/* Bytes of a sentence about a mistake, the NUL included; what is longer is cut. */
#define WKSP_MISTAKE_MAX 1024

typedef struct wksp_status {
  int pid; /* of the daemon, as it sees itself */
  ulong uptime_ns;
  uint fd_store; /* 1: memory outlives the daemon (systemd or --supervise) */
  uint workspace_cnt;
  uint quarantined_cnt;
  uint lease_cnt;
  uint connection_cnt;
  uint job_cnt;        /* workers running */
  ulong bytes;         /* held in workspaces */
  ulong request_cnt;   /* served since start */
  ulong refused_cnt;   /* of them answered with an error */
  ulong violation_cnt; /* connections closed for breaking the protocol */
  uint fd_cnt;         /* descriptors open in the daemon */
  uint lost_cnt;       /* workspaces whose memory nobody had kept when it started */
  char config_mistake[WKSP_MISTAKE_MAX]; /* of its configuration, for which what it has read before
                                            is in force; "" none */
  uint unproven_cnt; /* workspaces with a schedule, and no checkpoint that was found sound */
  ulong proven_ns;   /* of the others: when the oldest of their newest sound checkpoints was taken,
                        since 1970; 0: there are none */
  uint quota_cnt;    /* rules that count for users who have workspaces: the first of them */
  wksp_quota_t quota[WKSP_QUOTAS_MAX];
  uint damaged_cnt; /* workspaces in which a worker has met damage */
} wksp_status_t;

WKSP_API int wksp_client_status(wksp_client_t *client, wksp_status_t *ret_status);

/* Has the daemon read its configuration again and make what that declares, and tells on_note, one
   after the other, sentences about what was done, what could not be, and each mistake with its file
   and line, until it returns non-zero, which is then returned. *opt_ret_mistake_cnt, if not NULL:
   how much could not be done or was a mistake. 0, E_PERM (only root and the daemon's own user
   may). */
WKSP_API int wksp_client_reload(wksp_client_t *client, int (*on_note)(void *arg, char const *note),
                                void *arg, uint *opt_ret_mistake_cnt);

/* One bound of the daemon's: what is in use of it, in all and by this process's uid. */
typedef struct wksp_limit {
  char what[48]; /* "connections", "workspaces", ... */
  ulong used;
  ulong max; /* 0: no bound */
  ulong user_used;
  ulong user_max; /* of one uid; 0: no bound but max */
} wksp_limit_t;

/* Tells on_limit of each, until it returns non-zero, which is then returned. 0 or an error. */
WKSP_API int wksp_client_limits(wksp_client_t *client,
                                int (*on_limit)(void *arg, wksp_limit_t const *limit), void *arg);

/* What a process has open. */
typedef struct wksp_held {
  char name[FD_WKSP_NAME_MAX + 1];
  ulong lease_id;
  ulong since_ns; /* since 1970; 0: since before the daemon's start */
  uint read_only;
  uint removing; /* it has been removed, and its memory stays for this */
} wksp_held_t;

/* A process that is connected to the daemon, or holds what it opened. */
typedef struct wksp_process {
  int pid; /* as the daemon sees it */
  uint uid, gid;
  char comm[17];    /* printable ASCII; "" if it has ended or cannot be told for certain */
  char cgroup[256]; /* likewise */
  ulong since_ns;   /* of the oldest of what it has; 0: since before the daemon's start */
  uint connection_cnt;
  uint request_cnt; /* in flight */
  uint watch_cnt;
  uint ended;              /* it has ended, and another process holds what it opened */
  ulong queued;            /* bytes that wait in the daemon on one of its connections */
  wksp_held_t const *held; /* held_cnt of them, valid during the call */
  ulong held_cnt;
} wksp_process_t;

/* Tells on_process of each, in the order of pids, until it returns non-zero, which is then
   returned: of all users for those who administer wkspd, else of those of this process's uid. 0 or
   an error. */
WKSP_API int wksp_client_processes(wksp_client_t *client,
                                   int (*on_process)(void *arg, wksp_process_t const *process),
                                   void *arg);

WKSP_PROTOTYPES_END

#endif
