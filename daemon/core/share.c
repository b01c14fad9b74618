/* share: what one user may have of what there is.

   Every bound of limits.h is one for all; by itself it would let the first who comes take
   everything. So there is a second one for each uid: connections, requests in flight, jobs,
   workspaces. (What memory they may take is for quotas: charge.c.) Who administers is not bound by
   the second, and the last connections are his, so that he can always look.

   Workspaces are counted anew from the registry at each create: a sum that is kept beside it could
   come to differ. What is being made counts, and what is removed until its memory has gone.

   Refuses to take away what somebody has already. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

/* Connections
 * ------------------------------------------------------------------------------------------------
 */

static char const *conn_refusal(engine_t const *e, conn_t const *who) {
  uint32_t max = e->config.conns_max;
  uint32_t kept = max > ENGINE_CONNS_ROOT * 2 ? ENGINE_CONNS_ROOT : 0;
  uint64_t cnt = e->calls.conns.cnt, used = cnt + e->registry.by_id.cnt + e->leases.by_id.cnt;
  user_t const *user = calls_user(&e->calls, who->uid);

  if (e->stopping) return "the daemon is stopping";
  if (cnt >= max) return "the limit of connections is reached";
  if (used >= e->config.files_max) return "workspaces and leases leave no descriptor for it";
  if (who->admin) return NULL;
  if (cnt >= max - kept || used >= e->config.files_max - kept)
    return "the last connections are kept for root";
  if (user && user->conn_cnt >= e->config.uid_conns_max)
    return "the limit of connections of one user is reached";
  return NULL;
}

static void conn_refuse(engine_t *e, engine_event_t const *event, char const *why) {
  engine_effect_t *effect = emit(e, ENGINE_FX_CLOSE_CONN);
  user_t const *user = calls_user(&e->calls, event->u.conn_open.uid);

  effect->u.close_conn.conn = event->u.conn_open.conn;
  effect->u.close_conn.why = why;
  e->refused_conn_cnt++;
  engine_effect_t *line = emit_log(
      e, ENGINE_LOG_WARN,
      "event=connection-refused conn=%" PRIu64 " uid=%" PRIu32 " pid=%" PRId32
      " connections=%zu limit=%" PRIu32 " of_uid=%" PRIu32 " uid_limit=%" PRIu32 " reason=\"%s\"",
      event->u.conn_open.conn, event->u.conn_open.uid, event->u.conn_open.pid, e->calls.conns.cnt,
      e->config.conns_max, user ? user->conn_cnt : 0, e->config.uid_conns_max, why);
  line->u.log.by_peer = 1;
  line->u.log.uid = event->u.conn_open.uid;
}

int share_conn_open(engine_t *e, engine_event_t const *event) {
  uint64_t number = event->u.conn_open.conn;
  uint32_t *gids = NULL, gid_cnt = event->u.conn_open.gid_cnt;
  /* As it would be: who administers is not refused as others are. */
  conn_t who = {.uid = event->u.conn_open.uid,
                .gid = event->u.conn_open.gid,
                .gids = (uint32_t *)(uintptr_t)event->u.conn_open.gids,
                .gid_cnt = gid_cnt};

  if (e->phase != ENGINE_PHASE_SERVING || !number || calls_conn(&e->calls, number) ||
      gid_cnt > ENGINE_GIDS_MAX)
    return WKSP_E_INVAL;
  who.admin = event->u.conn_open.admin || rights_admin(&e->config, &who);
  char const *why = conn_refusal(e, &who);
  if (why) {
    conn_refuse(e, event, why);
    return 0;
  }
  if (gid_cnt) {
    gids = malloc(gid_cnt * sizeof(*gids));
    if (!gids) return WKSP_E_NOMEM;
    memcpy(gids, who.gids, gid_cnt * sizeof(*gids));
  }
  conn_t *conn = calls_conn_add(&e->calls, number, who.uid);
  if (!conn) {
    free(gids);
    return WKSP_E_NOMEM;
  }
  conn->gid = who.gid;
  conn->gids = gids;
  conn->gid_cnt = gid_cnt;
  conn->admin = who.admin;
  conn->pid = event->u.conn_open.pid;
  conn->since_ns = e->now_real_ns;
  return 0;
}

/* Requests and workspaces
 * ------------------------------------------------------------------------------------------------
 */

int fault_share_call(engine_t const *e, conn_t const *conn, engine_reply_t *ret_fault) {
  if (fault_limit("requests of this connection", conn->call_cnt, ENGINE_STREAMS_MAX, ret_fault) ||
      fault_limit("requests", e->calls.call_cnt, ENGINE_CALLS_MAX, ret_fault))
    return 1;
  return !conn->admin && fault_limit("requests of this user", conn->user->call_cnt,
                                     ENGINE_UID_CALLS_MAX, ret_fault);
}

int fault_share_job(engine_t const *e, conn_t const *conn, engine_reply_t *ret_fault) {
  if (fault_limit("requests that wait for a worker", e->jobs.queued_cnt, ENGINE_JOBS_QUEUED_MAX,
                  ret_fault))
    return 1;
  return !conn->admin &&
         fault_limit("requests of this user that wait for a worker",
                     jobs_queued_of(&e->jobs, conn->uid), ENGINE_UID_JOBS_QUEUED_MAX, ret_fault);
}

int fault_share_task(engine_t const *e, conn_t const *conn, engine_reply_t *ret_fault) {
  if (fault_limit("checkpoint jobs", jobs_task_cnt(&e->jobs), ENGINE_TASKS_QUEUED_MAX, ret_fault))
    return 1;
  return !conn->admin &&
         fault_limit("checkpoint jobs of this user", jobs_tasks_of(&e->jobs, conn->uid),
                     ENGINE_UID_TASKS_QUEUED_MAX, ret_fault);
}

void share_of(engine_t const *e, uint32_t uid, share_t *ret_share) {
  share_t share = {0};
  size_t place = 0;

  for (ws_t const *ws; (ws = idmap_next(&e->registry.by_id, &place));) {
    if (ws->spec.uid != uid || (ws->state == WS_UNSPEC && !ws->has_memory)) continue;
    share.workspace_cnt++;
    share.bytes += ws->spec.max_size;
  }
  *ret_share = share;
}

int fault_share_create(engine_t const *e, conn_t const *conn, engine_reply_t *ret_fault) {
  share_t share;

  if (conn->admin) return 0;
  share_of(e, conn->uid, &share);
  return fault_limit("workspaces of this user", share.workspace_cnt, e->config.uid_workspaces_max,
                     ret_fault);
}
