/* engine_priv: what the files of the engine share. Each of them is the rules of one subject:

     engine.c   events, connections, deadlines, stop; the invariants
     recover.c  what a start finds
     create.c   making a workspace, and unmaking it
     charge.c   quotas of users and tags; memory held beyond what was given
     plan.c     where it is to be placed; a create that is only tried
     remove.c   removing one, quarantine
     repeat.c   calls that were made before
     open.c     leases, from the open to the reap
     resize.c   growing and shrinking a workspace
     work.c     jobs: query, verify, compact, reap, resize
     mark.c     those in which a worker has met damage
     ckpt.c     tasks: taking, listing, checking and removing checkpoints
     sound.c    which checkpoints are known to be good
     drill.c    checkpoints that are restored for trial
     restore.c  a workspace from a checkpoint
     replace.c  one that takes the place of another
     cadence.c  schedules: setting them, what they make happen
     watch.c    tasks that are looked at and cancelled
     browse.c   get, list, watch, version, stats
     audit.c    who holds what, what is used of each limit, who was refused
     share.c    what one user may have; connections that come
     press.c    what is nearly used up
     rights.c   who may do what, and know what
     fault.c    what is wrong with a request, in words
     update.c   the effects of a step

   Failing allocations. A function that cannot have memory notes it in engine->err and returns; the
   step then ends negative and the caller ends the process. So no function here undoes anything on
   that path, but every structure stays fit to be freed. */

#ifndef WKSPD_CORE_ENGINE_PRIV_H
#define WKSPD_CORE_ENGINE_PRIV_H

#include "daemon/core/agenda.h"
#include "daemon/core/call.h"
#include "daemon/core/catalog.h"
#include "daemon/core/engine.h"
#include "daemon/core/history.h"
#include "daemon/core/job.h"
#include "daemon/core/lease.h"
#include "daemon/core/pressure.h"
#include "daemon/core/quota.h"
#include "daemon/core/registry.h"
#include "daemon/core/timers.h"

enum { ENGINE_PHASE_NEW = 0, ENGINE_PHASE_RECOVERING, ENGINE_PHASE_SERVING };

/* Timer kinds; the owner is a call_t, a ws_t, a plan_t or the engine. */
enum {
  TIMER_DEADLINE = 1,
  TIMER_RETRY,
  TIMER_SCHEDULE,
  TIMER_CATALOG,
  TIMER_PRESSURE,
  TIMER_DRILL
};

/* Whether it is known what checkpoints there are. */
enum { CATALOG_UNKNOWN = 0, CATALOG_KNOWN, CATALOG_FAILED };

struct engine {
  engine_config_t config; /* limits are final */
  int phase;              /* ENGINE_PHASE_* */
  int stopping;
  int err; /* sticky: 0 or negative */
  uint64_t now_mono_ns, now_real_ns, started_mono_ns;
  uint64_t ws_id_high, lease_id_high;
  registry_t registry;
  leases_t leases;
  calls_t calls;
  jobs_t jobs;
  timers_t timers;
  history_t history;
  quota_t *quota; /* owned; NULL: none */
  catalog_t catalog;
  int catalog_state;          /* CATALOG_* */
  timer_node_t catalog_timer; /* FAILED: when it is tried again */
  agenda_t agenda;
  uint64_t await_cnt; /* answers under way: PERSISTED, REMOVED, MEMORY_MADE, MEMORY_RESIZED,
                         LEASE_MADE, SCHEDULE_WRITTEN */
  uint64_t request_cnt, refused_cnt, violation_cnt, repeat_cnt;
  uint64_t refused_conn_cnt;
  pressure_t pressure;
  timer_node_t press_timer;
  int press_stale; /* something has changed since it was looked at */
  uint64_t pressed_ns,
      pressed_cnt; /* when it was last looked at; what there was at the last step */
  topo_pool_t pools[TOPO_NODES_MAX][TOPO_SIZE_CNT];
  engine_update_t *update;        /* of the step */
  engine_effect_t scratch_effect; /* where effects go that had no memory */
  engine_reply_t scratch_reply;
};

/* update.c
 * ------------------------------------------------------------------------------------------------
 */

/* A new effect of the step, zeroed but for its kind. Never NULL. */
engine_effect_t *emit(engine_t *e, int kind);

/* Memory that lives as long as the update, zeroed; NULL (and err): none. cnt * size bytes. */
void *emit_alloc(engine_t *e, size_t cnt, size_t size);

void emit_persist(engine_t *e, ws_t *ws, int state); /* sets the state in ws->spec, awaits */
void emit_unpersist(engine_t *e, ws_t *ws);          /* or retires it; awaits */
void emit_memory_drop(engine_t *e, ws_t *ws);        /* if it has memory */
void emit_lease_drop(engine_t *e, lease_t const *lease);
engine_effect_t *emit_log(engine_t *e, int level, char const *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Tells the watches of this name, those that may know of it. */
void emit_event(engine_t *e, int kind, spec_t const *spec);

/* Forgets the call and returns its reply, code OK, to be filled in. Never NULL. */
engine_reply_t *call_answer(engine_t *e, call_t *call);

/* Forgets the call and answers with the fault. */
void call_fail(engine_t *e, call_t *call, engine_reply_t const *fault);

/* Answers a request that never became a call. */
void request_refuse(engine_t *e, engine_event_t const *event, engine_reply_t const *fault);

/* Takes note of a fault that is to be sent later. */
void call_fault_later(engine_t *e, call_t *call, engine_reply_t const *fault);

/* fault.c
 * ------------------------------------------------------------------------------------------------
 */

/* Starts a fault: code, kind (a constant) and sentence; no figures, no hint. Text that came from
   outside is made printable. */
void fault_set(engine_reply_t *ret_fault, int code, char const *kind, char const *format, ...)
    __attribute__((format(printf, 4, 5)));
void fault_hint(engine_reply_t *fault, char const *format, ...)
    __attribute__((format(printf, 2, 3)));
void fault_figures(engine_reply_t *fault, uint64_t wanted, uint64_t free);
void fault_workspace(engine_reply_t *fault, char const *name);

/* Writes in to out with everything that is not printable ASCII as '?', cut to out_size - 1. */
void text_printable(char const *in, char *out, size_t out_size);

/* Checks of requests: 1 and *ret_fault if there is something wrong, else 0. */
int fault_name(char const *name, engine_reply_t *ret_fault);
int fault_size(engine_t const *e, uint64_t size, engine_reply_t *ret_fault);
int fault_create(engine_t const *e, engine_request_t const *req, engine_reply_t *ret_fault);
int fault_dimensions(engine_t const *e, engine_request_t const *req, engine_reply_t *ret_fault);
int fault_limit(char const *what, uint64_t in_use, uint64_t limit, engine_reply_t *ret_fault);

/* The same for what is kept for us, workspaces and leases together. */
int fault_kept(engine_t const *e, engine_reply_t *ret_fault);

/* Refuses what cannot be served: being removed, quarantined. */
int fault_served(ws_t const *ws, engine_reply_t *ret_fault);

/* Refuses what cannot be written, as well. */
int fault_writable(ws_t const *ws, engine_reply_t *ret_fault);

/* rights.c
 * ------------------------------------------------------------------------------------------------
 */

/* Finds a published workspace by the name in a request. NULL and *ret_fault. Whether the peer may
   know of it is for fault_rights, which has to be next. */
ws_t *ws_lookup(engine_t *e, char const *name, engine_reply_t *ret_fault);

/* What the peer wants to do with a workspace. Who may not read it is told that it is not there. */
enum { WANT_READ = 1, WANT_WRITE = 2, WANT_DELETE = 4 };
int fault_rights(spec_t const *spec, conn_t const *conn, int want, engine_reply_t *ret_fault);

/* 1 if the peer may know of it. */
int rights_sees(spec_t const *spec, conn_t const *conn);

/* 1 if the peer is in that group; 1 if it may do everything. */
int rights_member(conn_t const *conn, uint32_t gid);
int rights_admin(engine_config_t const *config, conn_t const *conn);

/* share.c
 * ------------------------------------------------------------------------------------------------
 */

/* What a uid has; bytes as max_size. */
typedef struct share {
  uint32_t workspace_cnt;
  uint64_t bytes;
} share_t;

int share_conn_open(engine_t *e, engine_event_t const *event); /* CONN_OPEN */
void share_of(engine_t const *e, uint32_t uid, share_t *ret_share);

/* 1 and *ret_fault if one more is too much: a request, a workspace. */
int fault_share_call(engine_t const *e, conn_t const *conn, engine_reply_t *ret_fault);
int fault_share_job(engine_t const *e, conn_t const *conn, engine_reply_t *ret_fault);
int fault_share_task(engine_t const *e, conn_t const *conn, engine_reply_t *ret_fault);
int fault_share_create(engine_t const *e, conn_t const *conn, engine_reply_t *ret_fault);

/* audit.c
 * ------------------------------------------------------------------------------------------------
 */

/* A line for the log if the peer was refused for want of rights or for a limit. */
void audit_refusal(engine_t *e, conn_t const *conn, int method, engine_reply_t const *fault);
void audit_limits(engine_t const *e, conn_t const *conn, engine_stats_t *stats);
void audit_clients(engine_t *e, call_t *call, engine_request_t const *req);

/* Rules
 * ------------------------------------------------------------------------------------------------
 */

/* A call that was made before: takes it over, or leaves it alone. 1 or 0. */
int repeat_answer(engine_t *e, call_t *call, engine_request_t const *req);

/* Remembers what was done to a workspace that goes. */
void remove_remember(engine_t *e, spec_t const *spec);

/* Where a create wants its pages; kind 0: the machine is not known. 0, or 1 and *ret_fault. */
int plan_policy(engine_request_t const *req, place_policy_t *ret_policy, engine_reply_t *ret_fault);
int plan_strict(engine_request_t const *req);

/* The rules of quotas, anew. */
int charge_rules(engine_t *e, engine_event_t const *event);

/* A workspace of that spec beside all others of its owner, and of its tag: 1 and *ret_fault if that
   is more than there may be. Of one whose page size is not known yet, that it is one more counts.
 */
int charge_fault(engine_t const *e, spec_t const *spec, engine_reply_t *ret_fault);

/* 1 and *ret_fault if it is no tag, or not for that peer. */
int charge_tag(engine_t const *e, conn_t const *conn, char const *tag, engine_reply_t *ret_fault);

/* What Stats says of quotas, in the update. */
size_t charge_rows(engine_t *e, engine_quota_t const **ret_rows);

/* What a memory holds: HELD. */
int charge_held(engine_t *e, engine_event_t const *event);

/* Bytes that ws held beyond its size when it was last looked at. */
uint64_t charge_excess(ws_t const *ws);

/* What was beyond the end has been given back, and so many bytes are held after it. */
void charge_punched(ws_t *ws, uint64_t held);

/* Finds out where the end of ws is, which is READY, and gives back what is held beyond it. */
void resize_mend(engine_t *e, ws_t *ws);

/* Each takes over the call: answers it now or when what it waits for has come. */
void create_begin(engine_t *e, call_t *call, engine_request_t const *req);
void plan_begin(engine_t *e, call_t *call, engine_request_t const *req);
void remove_begin(engine_t *e, call_t *call, engine_request_t const *req);
void open_begin(engine_t *e, call_t *call, engine_request_t const *req);
void work_begin(engine_t *e, call_t *call, engine_request_t const *req);
void resize_begin(engine_t *e, call_t *call, engine_request_t const *req);
void browse_get(engine_t *e, call_t *call, engine_request_t const *req);
void browse_list(engine_t *e, call_t *call, engine_request_t const *req);
void browse_watch(engine_t *e, call_t *call, engine_request_t const *req);
void browse_version(engine_t *e, call_t *call);
void browse_stats(engine_t *e, call_t *call, engine_request_t const *req);
void ckpt_begin(engine_t *e, call_t *call, engine_request_t const *req);
void ckpt_list(engine_t *e, call_t *call, engine_request_t const *req);
void ckpt_look(engine_t *e, call_t *call, engine_request_t const *req); /* show, verify, remove */
void restore_begin(engine_t *e, call_t *call, engine_request_t const *req);
void cadence_set(engine_t *e, call_t *call, engine_request_t const *req);
void cadence_get(engine_t *e, call_t *call, engine_request_t const *req);
void watch_list(engine_t *e, call_t *call);
void watch_begin(engine_t *e, call_t *call, engine_request_t const *req);
void watch_cancel(engine_t *e, call_t *call, engine_request_t const *req);

/* The caller of these is gone or out of time: undo or let go, without answering. */
void create_abandon(engine_t *e, call_t *call);
void remove_abandon(engine_t *e, call_t *call);
void open_abandon(engine_t *e, call_t *call);
void work_abandon(engine_t *e, call_t *call);
void resize_abandon(engine_t *e, call_t *call);

/* Answers from the shell. 0, ENGINE_STALE or negative. */
int create_persisted(engine_t *e, ws_t *ws, engine_event_t const *event);
int create_memory_made(engine_t *e, engine_event_t const *event);
int resize_persisted(engine_t *e, ws_t *ws, engine_event_t const *event);
int resize_memory(engine_t *e, engine_event_t const *event); /* MEMORY_RESIZED */
int remove_persisted(engine_t *e, ws_t *ws, engine_event_t const *event);
int remove_done(engine_t *e, engine_event_t const *event); /* REMOVED */
int remove_quarantine(engine_t *e, engine_event_t const *event);
int open_made(engine_t *e, engine_event_t const *event);
int open_hangup(engine_t *e, engine_event_t const *event);
int work_done(engine_t *e, engine_event_t const *event);

/* A RESTORING or UNSPEC workspace whose disk failed is due again. */
void remove_retry(engine_t *e, ws_t *ws);

/* Takes the name away and the memory too, or once the last lease has ended. ws is not used after it
   unless it is still there (it stays until REMOVED). */
void remove_commit(engine_t *e, ws_t *ws);

/* A REMOVING workspace may have lost its last lease. */
void remove_if_unheld(engine_t *e, ws_t *ws);

/* Drops memory and spec of a workspace that nobody holds. */
void remove_rest(engine_t *e, ws_t *ws);

/* Wants leases of ws that have ended to be reaped. */
void work_reap(engine_t *e, ws_t *ws);

/* A worker for the resize of ws. It is resize_worked's when it ends, unless it was cancelled with
 * its workspace. */
uint64_t work_resize(engine_t *e, ws_t *ws, uint64_t to, uint64_t deadline_mono_ns);
/* It, unless it is cancelled; NULL: none. */
job_t *work_resize_job(engine_t const *e, ws_t const *ws);

/* Cancels it: 1 if it runs, and will end; 0 if there is none any more. */
int work_resize_cancel(engine_t *e, ws_t *ws);
/* The daemon stops: the resize of ws, whose worker is queued or runs, is given up. */
void resize_stop(engine_t *e, ws_t *ws);
void resize_worked(engine_t *e, ws_t *ws, engine_event_t const *event);

/* What a worker's failure is to a caller. */
void fault_worker(ws_t const *ws, engine_event_t const *event, engine_reply_t *ret_fault);

/* What the shell's MEMORY_MADE or MEMORY_RESIZED, not OK, is to a caller; what: "made", "resized".
 */
void fault_memory(ws_t const *ws, char const *what, engine_event_t const *event,
                  engine_reply_t *ret_fault);

/* What a failed PERSISTED is to a caller; what: "written down", ... */
void fault_disk(ws_t const *ws, char const *what, engine_event_t const *event,
                engine_reply_t *ret_fault);

/* ws is not served any longer: the call of its resize, if there is one, gets the fault, and it ends
 * as soon as it can; at once if its worker had it. */
void resize_quit(engine_t *e, ws_t *ws, engine_reply_t const *fault);

/* ws says in memory what the disk may not: tried again until it is written. */
void remove_restore(engine_t *e, ws_t *ws);

/* Ends all jobs of ws; their calls get the fault. Leases that waited for a reap are dropped. */
void work_cancel_workspace(engine_t *e, ws_t *ws, engine_reply_t const *fault);

/* No more work: queued reaps are forgotten, running workers cancelled. */
void work_stop(engine_t *e);

/* A worker has ended: what that says of its workspace. */
void mark_worked(engine_t *e, job_t const *job, engine_event_t const *event);

/* press.c: after a step; the timer's; a watch that wants to know begins; POOLS. */
void press_stepped(engine_t *e, int kind);
void press_due(engine_t *e);
void press_watch(engine_t *e, call_t *call);
int press_pools(engine_t *e, engine_event_t const *event);

/* Starts what there is room for. */
void work_dispatch(engine_t *e);

/* Takes a job's worker back: out of the queue, its task ended as cancelled, or its worker is
 * killed.
 */
void work_cancel(engine_t *e, job_t *job);

/* ckpt.c
 * ------------------------------------------------------------------------------------------------
 */

/* A copy of the request with what it points to behind it: a text; or tags and the machine. NULL: no
   memory. */
engine_request_t *request_copy(engine_request_t const *req);

/* A request that wants to know what checkpoints there are, before that is known: keeps it, or
   refuses it. 1: so; 0: it is known. */
int ckpt_not_yet(engine_t *e, call_t *call, engine_request_t const *req);

/* All of it has been read and found sound (sound.c); the worker that was to do that has ended. */
void ckpt_sound(engine_t *e, engine_ckpt_t *ckpt, int restored);
void ckpt_verified(engine_t *e, task_t *task, engine_event_t const *event);

/* Of workspaces with a schedule: how many have nothing that was found sound, and how old the oldest
   of what the others have is. */
void ckpt_proven(engine_t const *e, engine_stats_t *stats);

/* Wants to know what checkpoints there are in a store, or (0) in all. */
void ckpt_learn(engine_t *e, uint64_t store_id);

/* The same at the start, when the shell may have seen that there is no store. */
void ckpt_start(engine_t *e);

/* A task of an operation on what is of that workspace. NULL (and err): no memory. */
task_t *task_new(engine_t *e, int op, int by, spec_t const *of, uint32_t uid);

/* Wants a checkpoint of ws; info may be NULL. Its job, or NULL (and err). */
job_t *ckpt_want(engine_t *e, ws_t *ws, int by, uint32_t uid, schedule_how_t how,
                 schedule_keep_t const *keep, char const *info);

/* The worker of a job with a task has ended: which goes. */
void ckpt_done(engine_t *e, job_t *job, engine_event_t const *event);

/* What of a checkpoint's question follows from what is so at its start. */
void ckpt_settle(engine_t const *e, task_t *task);

/* A worker has found damage in a store. */
void ckpt_doubt(engine_t *e, uint64_t store_id);

/* The checkpoint of an id in a request, with which the peer may do what it wants (WANT_*). NULL and
 *ret_fault. */
engine_ckpt_t *ckpt_lookup(engine_t *e, conn_t const *conn, char const *id, int want,
                           engine_reply_t *ret_fault);
int fault_schedule_how(int32_t mode, int32_t style, int32_t level, engine_reply_t *ret_fault);

/* A job with a task, no restore, was taken back: ends the task. */
void ckpt_cancelled(engine_t *e, job_t *job);

/* Begins what a call wants: 0, or WKSP_E_INVAL for a method that is none (engine.c). */
int engine_route(engine_t *e, call_t *call, engine_request_t const *req);

/* Ends the task of a job, which is then to be removed. fault: why it failed; NULL: DONE. */
void task_end(engine_t *e, job_t *job, int state, engine_reply_t const *fault);

/* watch.c
 * ------------------------------------------------------------------------------------------------
 */

/* Tells those who watch a task. */
void watch_tell(engine_t *e, task_t const *task);

/* The same for one that has ended: and that this was all. */
void watch_end(engine_t *e, task_t const *task);

int watch_progress(engine_t *e, engine_event_t const *event); /* WORKER_PROGRESS */

/* restore.c
 * ------------------------------------------------------------------------------------------------
 */

/* The memory of a restore has been made: it is filled. */
void restore_fill(engine_t *e, ws_t *ws);

/* What a restore's workspace is to be called. */
char const *restore_name(engine_request_t const *req);

/* The worker of a restore has ended. */
void restore_worked(engine_t *e, ws_t *ws, job_t *job, engine_event_t const *event);

/* ws is published; or all of it is undone, for this reason (NULL: it was not wanted any more). */
void restore_published(engine_t *e, ws_t *ws);
void restore_undone(engine_t *e, ws_t *ws, engine_reply_t const *fault);

/* The name of one that has been undone is free: a schedule that wants it back tries the next. */
void restore_again(engine_t *e, char const *name);

/* Nobody wants it any more. */
void restore_abort(engine_t *e, ws_t *ws);

/* The name's workspace is gone and its schedule wants it back: from the newest checkpoint that is
   older than before (NULL: of all). */
void restore_plan(engine_t *e, plan_t *plan, engine_ckpt_t const *before);

/* replace.c
 * ------------------------------------------------------------------------------------------------
 */

/* 1 and *ret_fault if ws is being restored in place; if what it was before has not gone yet; if the
   peer may not put another one in its place, or nobody can. */
int fault_replaced(engine_t const *e, ws_t const *ws, engine_reply_t *ret_fault);
int fault_replacing(engine_t const *e, ws_t const *ws, engine_reply_t *ret_fault);
int fault_replace(engine_t const *e, conn_t const *conn, ws_t const *old,
                  engine_reply_t *ret_fault);

/* A removal or restore of ws, whose predecessor is just going: begins when that has gone. 1: so; 0:
   it has gone, or it is not known when it will, or another one waits already. */
int replace_not_yet(engine_t *e, call_t *call, ws_t const *ws, engine_request_t const *req);

/* What waits for ws does so no more: NULL, or it; to be begun since ws has gone, or refused since
   it could not go. */
call_t *replace_waiter(ws_t *ws);
void replace_wake(engine_t *e, call_t *call, int gone);

/* ws, in the making and without a name, is to take the place of old. */
void replace_begin(ws_t *ws, ws_t *old);

/* The disk says that it has: if it is to replace one, it gets the name and that one goes. */
void replace_publish(engine_t *e, ws_t *ws);

/* ws has been undone, and the disk does not say otherwise: who it was to replace is served again.
 */
void replace_undone(engine_t *e, ws_t const *ws);

/* drill.c
 * ------------------------------------------------------------------------------------------------
 */

/* Wants that checkpoint to be restored for trial. Its job, or NULL (and err). */
job_t *drill_want(engine_t *e, engine_ckpt_t const *ckpt, int by, uint32_t uid);

/* What is drilled for a schedule is the newest at the start: what was when it was due may be gone.
 */
void drill_settle(engine_t const *e, task_t *task);

/* Starts a plan's timer anew for its next drill. */
void drill_arm(engine_t *e, plan_t *plan);

/* A plan's drill has come. */
void drill_due(engine_t *e, plan_t *plan);

/* One has ended; its job is still there. fault: why it failed, or NULL. */
void drill_ended(engine_t *e, job_t *job, engine_reply_t const *fault);

/* cadence.c
 * ------------------------------------------------------------------------------------------------
 */

int cadence_recovered(engine_t *e, engine_event_t const *event); /* RECOVERED_SCHEDULE */
int cadence_written(engine_t *e, engine_event_t const *event);   /* SCHEDULE_WRITTEN */
void cadence_abandon(engine_t *e, call_t *call);

/* It is known what checkpoints there are: schedules begin, and workspaces that are to come back do.
 */
void cadence_start(engine_t *e);

/* A plan's slot has come. */
void cadence_due(engine_t *e, plan_t *plan);

/* Wants a plan's file to say what is so. */
void cadence_write(engine_t *e, plan_t *plan);

/* A checkpoint of this name has ended. */
void cadence_ended(engine_t *e, char const *name, uint32_t uid, schedule_run_t const *run);

/* Its workspace has been removed; or another's has its name now. */
void cadence_forget(engine_t *e, spec_t const *spec);
void cadence_settle_owner(engine_t *e, spec_t const *spec);

/* The daemon stops: what is to be checkpointed is. */
void cadence_stop(engine_t *e);

/* Undoes what a create has made, and answers its caller with the fault when that is done. */
void create_undo(engine_t *e, ws_t *ws, engine_reply_t const *fault);

/* What a worker's failure is, of work on the workspace of that name. */
void fault_worker_of(char const *name, engine_event_t const *event, engine_reply_t *ret_fault);

/* A create's or restore's admission: name, uuid, limits. */
int fault_admission(engine_t const *e, conn_t const *conn, char const *name, uint8_t const uuid[16],
                    engine_reply_t *ret_fault);

int recover_workspace(engine_t *e, engine_event_t const *event);
int recover_lease(engine_t *e, engine_event_t const *event);
void recover_end(engine_t *e);

/* A copy of what is known of ws, in the update. NULL: no memory. */
engine_workspace_t *browse_view(engine_t *e, ws_t const *ws);

#endif
