/* audit: who holds what, what is in use of each limit, and who was refused what.

   A client is a process here: its connections, found by their pid, and the leases that it asked
   for, which it may have handed on since and which live on when it has no connection. They are put
   together anew for each request: sorted by pid and uid, a page at a time, the key of the next page
   being what it begins with. Who does not administer sees those of his own uid.

   Refuses to look at processes: pids are numbers here. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

/* Refusals
 * ------------------------------------------------------------------------------------------------
 */

void audit_refusal(engine_t *e, conn_t const *conn, int method, engine_reply_t const *fault) {
  int code = fault->code, hidden = 0;

  if (!conn) return;
  if (code == ENGINE_CODE_NOT_FOUND && fault->detail_workspace[0]) {
    ws_t const *ws = registry_by_name(&e->registry, fault->detail_workspace);
    hidden = ws && !rights_sees(&ws->spec, conn);
  }
  int limit = code == ENGINE_CODE_RESOURCE_EXHAUSTED &&
              (!strcmp(fault->detail_kind, "limit") || !strcmp(fault->detail_kind, "quota"));
  if (code != ENGINE_CODE_PERMISSION_DENIED && !limit && !hidden) return;
  engine_effect_t *line =
      emit_log(e, ENGINE_LOG_WARN,
               "event=refused uid=%" PRIu32 " pid=%" PRId32 " conn=%" PRIu64
               " method=%d code=%d hidden=%d reason=\"%s\"",
               conn->uid, conn->pid, conn->conn, method, code, hidden, fault->sentence);
  line->u.log.by_peer = 1;
  line->u.log.uid = conn->uid;
}

/* Limits
 * ------------------------------------------------------------------------------------------------
 */

static void put(engine_stats_t *stats, char const *what, uint64_t used, uint64_t max,
                uint64_t user_used, uint64_t user_max) {
  if (stats->limit_cnt == ENGINE_LIMITS_MAX) return;
  stats->limits[stats->limit_cnt++] = (engine_limit_t){what, used, max, user_used, user_max};
}

void audit_limits(engine_t const *e, conn_t const *conn, engine_stats_t *stats) {
  engine_config_t const *config = &e->config;
  uint64_t leases = 0, bytes = 0;
  size_t place = 0;
  share_t share;

  share_of(e, conn->uid, &share);
  for (ws_t const *ws; (ws = idmap_next(&e->registry.by_id, &place));) bytes += ws->spec.max_size;
  place = 0;
  for (lease_t const *lease; (lease = idmap_next(&e->leases.by_id, &place));)
    leases += lease->uid == conn->uid;
  put(stats, "connections", e->calls.conns.cnt, config->conns_max, conn->user->conn_cnt,
      conn->admin ? config->conns_max : config->uid_conns_max);
  put(stats, "requests", e->calls.call_cnt, ENGINE_CALLS_MAX, conn->user->call_cnt,
      conn->admin ? ENGINE_CALLS_MAX : ENGINE_UID_CALLS_MAX);
  put(stats, "requests of a connection", conn->call_cnt, ENGINE_STREAMS_MAX, conn->call_cnt,
      ENGINE_STREAMS_MAX);
  put(stats, "watches", e->calls.watch_cnt, ENGINE_WATCHES_MAX, conn->watch_cnt,
      ENGINE_CONN_WATCHES_MAX);
  put(stats, "workspaces", e->registry.by_id.cnt, config->workspaces_max, share.workspace_cnt,
      conn->admin ? config->workspaces_max : config->uid_workspaces_max);
  put(stats, "bytes of workspaces", bytes, 0, share.bytes, 0);
  put(stats, "leases", e->leases.by_id.cnt, config->leases_max, leases, config->leases_max);
  put(stats, "workspaces, leases and connections",
      e->registry.by_id.cnt + e->leases.by_id.cnt + e->calls.conns.cnt, config->files_max, 0, 0);
  put(stats, "workers", e->jobs.running_cnt, config->jobs_running_max, 0, 0);
  put(stats, "requests that wait for a worker", e->jobs.queued_cnt, ENGINE_JOBS_QUEUED_MAX,
      jobs_queued_of(&e->jobs, conn->uid),
      conn->admin ? ENGINE_JOBS_QUEUED_MAX : ENGINE_UID_JOBS_QUEUED_MAX);
  put(stats, "checkpoint jobs", jobs_task_cnt(&e->jobs), ENGINE_TASKS_QUEUED_MAX,
      jobs_tasks_of(&e->jobs, conn->uid),
      conn->admin ? ENGINE_TASKS_QUEUED_MAX : ENGINE_UID_TASKS_QUEUED_MAX);
}

/* Clients
 * ------------------------------------------------------------------------------------------------
 */

/* A connection or a lease on its way into a client. */
typedef struct entry {
  uint64_t key; /* pid and uid; never 0 */
  conn_t const *conn;
  lease_t const *lease;
} entry_t;

static uint64_t key_of(int32_t pid, uint32_t uid) {
  return ((uint64_t)(uint32_t)pid << 32 | uid) + 1;
}

static int entry_order(void const *a, void const *b) {
  entry_t const *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  if (!x->lease != !y->lease) return x->lease ? 1 : -1;
  uint64_t i = x->lease ? x->lease->lease_id : x->conn->conn;
  uint64_t k = y->lease ? y->lease->lease_id : y->conn->conn;
  return i < k ? -1 : i > k;
}

static int shows(conn_t const *asker, uint32_t uid) {
  return asker->admin || asker->uid == uid;
}

/* All entries that the asker may see, from the key on, in order. */
static entry_t *entries(engine_t *e, conn_t const *asker, uint64_t from, size_t *ret_cnt) {
  size_t place = 0, cnt = 0;
  entry_t *list = emit_alloc(e, e->calls.conns.cnt + e->leases.by_id.cnt, sizeof(*list));

  if (!list) return NULL;
  for (conn_t const *conn; (conn = idmap_next(&e->calls.conns, &place));)
    if (shows(asker, conn->uid) && key_of(conn->pid, conn->uid) >= from)
      list[cnt++] = (entry_t){key_of(conn->pid, conn->uid), conn, NULL};
  place = 0;
  for (lease_t const *lease; (lease = idmap_next(&e->leases.by_id, &place));)
    if (shows(asker, lease->uid) && lease->state == LEASE_HELD &&
        key_of(lease->pid, lease->uid) >= from)
      list[cnt++] = (entry_t){key_of(lease->pid, lease->uid), NULL, lease};
  qsort(list, cnt, sizeof(*list), entry_order);
  *ret_cnt = cnt;
  return list;
}

static void client_conn(engine_client_t *client, conn_t const *conn) {
  client->pid = conn->pid;
  client->uid = conn->uid;
  client->gid = conn->gid;
  client->conn = conn->conn;
  client->connection_cnt++;
  client->call_cnt += conn->call_cnt;
  client->watch_cnt += conn->watch_cnt;
  if (!client->since_ns || conn->since_ns < client->since_ns) client->since_ns = conn->since_ns;
}

static void client_lease(engine_client_t *client, lease_t const *lease) {
  engine_held_t *held = &client->held[client->held_cnt++];

  client->pid = lease->pid;
  client->uid = lease->uid;
  client->gid = lease->gid;
  memcpy(held->workspace, lease->ws->spec.name, sizeof(held->workspace));
  held->lease_id = lease->lease_id;
  held->since_ns = lease->since_ns;
  held->mode = lease->mode;
  held->removing = lease->ws->state == WS_REMOVING;
  if (client->connection_cnt + client->held_cnt == 1 || lease->since_ns < client->since_ns)
    client->since_ns = lease->since_ns;
}

void audit_clients(engine_t *e, call_t *call, engine_request_t const *req) {
  size_t page = req->u.clients.page_size ? req->u.clients.page_size : ENGINE_CLIENTS_PAGE_DEFAULT;
  size_t entry_cnt = 0, cnt = 0, held_cnt = 0, at = 0;
  engine_reply_t fault;

  if (page > ENGINE_CLIENTS_PAGE_MAX) {
    fault_set(&fault, ENGINE_CODE_INVALID_ARGUMENT, "page_size",
              "%zu clients are too many for one answer: at most %u", page, ENGINE_CLIENTS_PAGE_MAX);
    fault_figures(&fault, page, ENGINE_CLIENTS_PAGE_MAX);
    fault_hint(&fault, "ask for pages of %u", ENGINE_CLIENTS_PAGE_DEFAULT);
    call_fail(e, call, &fault);
    return;
  }
  entry_t const *list = entries(e, call->conn, req->u.clients.page_key, &entry_cnt);
  engine_client_t *clients = emit_alloc(e, page, sizeof(*clients));
  engine_held_t *held = emit_alloc(e, ENGINE_CLIENTS_HELD_MAX, sizeof(*held));
  if (!list || !clients || !held) return;
  for (; at < entry_cnt; at++) {
    if (!at || list[at].key != list[at - 1].key) {
      if (cnt == page || held_cnt == ENGINE_CLIENTS_HELD_MAX) break;
      clients[cnt++].held = held + held_cnt;
    }
    if (list[at].conn) {
      client_conn(&clients[cnt - 1], list[at].conn);
    } else if (held_cnt < ENGINE_CLIENTS_HELD_MAX) {
      client_lease(&clients[cnt - 1], list[at].lease);
      held_cnt++;
    }
  }
  engine_reply_t *reply = call_answer(e, call);
  reply->u.clients.clients = clients;
  reply->u.clients.client_cnt = cnt;
  reply->u.clients.next_key = at < entry_cnt ? list[at].key : 0;
}
