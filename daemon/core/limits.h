/* limits: everything that the engine holds is bounded, and this is by how much and why.

   What a limit refuses is answered RESOURCE_EXHAUSTED with kind "limit"; wanted is what it would
   have come to, free is what is left (0), and the sentence names the limit. */

#ifndef WKSPD_CORE_LIMITS_H
#define WKSPD_CORE_LIMITS_H

/* Connections. One descriptor each, or two on a kernel before 6.5, and little memory while they are
   idle (bench/README.md); what they may hold when they are not is bounded for each uid. */
#define ENGINE_CONNS_MAX 16384U

/* Of these, what only those who administer get, so that an operator can always look. */
#define ENGINE_CONNS_ROOT 64U

/* Connections of one uid that does not administer: so that no user locks out the others. */
#define ENGINE_UID_CONNS_MAX 10240U

/* Further groups of a peer that count. The kernel allows 65,536; nobody uses them. */
#define ENGINE_GIDS_MAX 256U

/* Requests in flight on one connection. A client library has one per thread that calls. */
#define ENGINE_STREAMS_MAX 64U

/* Requests in flight in all: 16,384 of some 200 bytes, and 4 for each connection. */
#define ENGINE_CALLS_MAX 16384U

/* Of these, those of one uid: 64 busy connections. */
#define ENGINE_UID_CALLS_MAX 4096U

/* Workspaces of one uid: half. */
#define ENGINE_UID_WORKSPACES_MAX 5120U

/* Workspaces, those being made and removed included. One descriptor each in the fd store, whose
   names share one environment string of an exec (128 KiB): 10,240 short names fit. */
#define ENGINE_WORKSPACES_MAX 10240U

/* Leases. One descriptor each, in the fd store as well, whose string and the limit of open files
   may allow fewer (daemon/shell/loop.c): beside 10,240 workspaces 19,008. */
#define ENGINE_LEASES_MAX 32768U

/* Watch streams of a connection (one for all and a few by name), and in all: an event costs one
   message for each of them. */
#define ENGINE_CONN_WATCHES_MAX 8U
#define ENGINE_WATCHES_MAX      1024U

/* Workers at a time: each maps a whole workspace and may keep a core busy. The default serves small
   machines; the shell may raise it by configuration up to the maximum. */
#define ENGINE_JOBS_RUNNING_DEFAULT 2U
#define ENGINE_JOBS_RUNNING_MAX     64U

/* Requests that wait for a worker. At 10 ms each and two at a time it is 2.5 s of waiting; more
   would only wait to be too late. Reaps do not count: there is at most one waiting per workspace.
 */
#define ENGINE_JOBS_QUEUED_MAX 512U

/* Of these, those of one uid: half, so that nobody who floods keeps others from asking. */
#define ENGINE_UID_JOBS_QUEUED_MAX 256U

/* Checkpoints, restores and the like at a time: each reads or writes as fast as memory and disk let
   it, with threads of its own. The default leaves a small machine its disk; the shell may raise it
   by configuration up to the maximum. */
#define ENGINE_TASKS_RUNNING_DEFAULT 2U
#define ENGINE_TASKS_RUNNING_MAX     16U

/* Of these, what waits because somebody asked for it by hand. What a schedule or a stop wants does
   not count: there is at most one of a workspace. */
#define ENGINE_TASKS_QUEUED_MAX 256U

/* Of all tasks, those of one uid that asks for one more by hand: half, for the same reason. */
#define ENGINE_UID_TASKS_QUEUED_MAX 128U

/* Tasks that have ended and can still be asked for: whoever began one looks within seconds. */
#define ENGINE_TASKS_ENDED_MAX 64U

/* Checkpoints that are known, some 700 bytes each: one an hour of each of 100 workspaces for a
   week, and most schedules keep far fewer. */
#define ENGINE_CKPTS_MAX 20000U

/* Checkpoints in one answer (wkspd.proto), bounded by the frame: at most 1,800 bytes each. */
#define ENGINE_CKPTS_PAGE_DEFAULT 500U
#define ENGINE_CKPTS_PAGE_MAX     2000U

/* Schedules: one for each workspace that there can be. */
#define ENGINE_SCHEDULES_MAX 10240U

/* Attempts of a start to bring a workspace back, each from an older checkpoint, when the newer ones
   turn out to be damaged. */
#define ENGINE_RESTORE_TRIES_MAX 3U

/* Attempts of a reap whose worker failed, before it is left to the next hang-up. */
#define ENGINE_REAP_TRIES_MAX 3U

/* Ended leases that one reap looks for: the worker walks every slot for each. More take another. */
#define ENGINE_REAP_LEASES_MAX 256U

/* The highest lease id: what slots in shared memory keep of their owner is 29 bits
   (lib/core/call.h), of which the upper half is the workers' (daemon/child/result.h). At one open a
   millisecond it is three days of nothing but opens. */
#define ENGINE_LEASE_ID_MAX ((1UL << 28) - 1UL)

/* Tags in a Query (wkspd.proto). */
#define ENGINE_TAGS_MAX 1024U

/* Partitions in one answer to Query (wkspd.proto), bounded by the frame. */
#define ENGINE_QUERY_PAGE_DEFAULT 10000U
#define ENGINE_QUERY_PAGE_MAX     50000U

/* Workspaces in one answer to List (wkspd.proto), bounded by the frame: at most 300 bytes each. */
#define ENGINE_LIST_PAGE_DEFAULT 1000U
#define ENGINE_LIST_PAGE_MAX     10000U

/* Rows of quotas in one answer to Stats. */
#define ENGINE_QUOTA_ROWS_MAX 1024U

/* Processes in one answer to Clients, with what they hold: /proc is looked into for each. */
#define ENGINE_CLIENTS_PAGE_DEFAULT 200U
#define ENGINE_CLIENTS_PAGE_MAX     500U

/* Leases that one answer to Clients tells of, bounded by the frame: at most 100 bytes each. A
   process with more is told of with so many. */
#define ENGINE_CLIENTS_HELD_MAX 20000U

/* How long after a failed write or removal of a spec the engine tries again: long enough that a
   full disk is not hammered, short enough that nobody wonders. */
#define ENGINE_DISK_RETRY_NS 10000000000UL

/* A string field of a request. Names that are too long for ENGINE_TEXT_MAX are cut there by the
   shell: no valid value is that long, and the engine refuses it with what it got. Never without a
   NUL. */
#define ENGINE_TEXT_MAX 80U

/* Texts, their NUL included. A reason is what a client's wksp_info_t keeps. */
#define ENGINE_REASON_MAX   160U
#define ENGINE_SENTENCE_MAX 400U
#define ENGINE_HINT_MAX     200U
#define ENGINE_NOTE_MAX     320U
#define ENGINE_LOG_MAX      400U
#define ENGINE_INFO_MAX     1024U /* of a checkpoint's text (wksp/ckpt.h) */

#endif
