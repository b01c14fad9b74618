/* call: see call.h. A connection has at most ENGINE_STREAMS_MAX calls, so finding one by its stream
   is a walk. Refuses to reply; that is the engine's. */

#include "daemon/core/call.h"

#include <assert.h>
#include <stdlib.h>

#include "daemon/core/agenda.h"
#include "daemon/core/job.h"
#include "daemon/core/lease.h"
#include "daemon/core/registry.h"

user_t *calls_user(calls_t const *calls, uint32_t uid) {
  return idmap_get(&calls->users, (uint64_t)uid + 1);
}

static void user_leave(calls_t *calls, user_t *user) {
  if (--user->conn_cnt) return;
  idmap_remove(&calls->users, (uint64_t)user->uid + 1);
  free(user);
}

/* NULL: no memory. */
static user_t *user_enter(calls_t *calls, uint32_t uid) {
  user_t *user = calls_user(calls, uid);

  if (!user) {
    user = calloc(1, sizeof(*user));
    if (!user) return NULL;
    user->uid = uid;
    if (idmap_add(&calls->users, (uint64_t)uid + 1, user)) {
      free(user);
      return NULL;
    }
  }
  user->conn_cnt++;
  return user;
}

conn_t *calls_conn_add(calls_t *calls, uint64_t conn_id, uint32_t uid) {
  conn_t *conn = calloc(1, sizeof(*conn));
  if (!conn) return NULL;
  conn->conn = conn_id;
  conn->uid = uid;
  conn->user = user_enter(calls, uid);
  if (conn->user && !idmap_add(&calls->conns, conn_id, conn)) return conn;
  if (conn->user) user_leave(calls, conn->user);
  free(conn);
  return NULL;
}

conn_t *calls_conn(calls_t const *calls, uint64_t conn) {
  return idmap_get(&calls->conns, conn);
}

void calls_conn_remove(calls_t *calls, conn_t *conn) {
  assert(!conn->calls);
  idmap_remove(&calls->conns, conn->conn);
  user_leave(calls, conn->user);
  free(conn->gids);
  free(conn);
}

call_t *calls_add(calls_t *calls, conn_t *conn, uint32_t stream, int method) {
  call_t *call = calloc(1, sizeof(*call));
  if (!call) return NULL;
  call->conn = conn;
  call->stream = stream;
  call->method = method;
  call->next = conn->calls;
  if (conn->calls) conn->calls->prev = call;
  conn->calls = call;
  conn->call_cnt++;
  conn->user->call_cnt++;
  calls->call_cnt++;
  return call;
}

call_t *calls_find(conn_t const *conn, uint32_t stream) {
  call_t *call = conn->calls;
  while (call && call->stream != stream) call = call->next;
  return call;
}

void calls_watch(calls_t *calls, call_t *call) {
  assert(!call->watching);
  call->watching = 1;
  call->w_next = calls->watches;
  if (calls->watches) calls->watches->w_prev = call;
  calls->watches = call;
  calls->watch_cnt++;
  call->conn->watch_cnt++;
}

static void calls_unwatch(calls_t *calls, call_t *call) {
  if (call->w_prev)
    call->w_prev->w_next = call->w_next;
  else
    calls->watches = call->w_next;
  if (call->w_next) call->w_next->w_prev = call->w_prev;
  calls->watch_cnt--;
  call->conn->watch_cnt--;
}

void calls_remove(calls_t *calls, call_t *call) {
  conn_t *conn = call->conn;

  assert(!call->deadline.place);
  if (call->watching) calls_unwatch(calls, call);
  if (call->prev)
    call->prev->next = call->next;
  else
    conn->calls = call->next;
  if (call->next) call->next->prev = call->prev;
  conn->call_cnt--;
  conn->user->call_cnt--;
  calls->call_cnt--;
  free(call->later);
  free(call->fault);
  free(call);
}

static char const *call_check(call_t const *call) {
  int things = (call->ws != NULL) + (call->lease != NULL) + (call->job != NULL) +
               (call->plan != NULL) + (call->later != NULL) + call->watching;
  if (things != 1) return "a call waits for exactly one thing";
  if (call->waits && (!call->later || call->waits->waiter != call))
    return "a workspace that goes calls back to the call that waits";
  if (call->ws && call->ws->call != call) return "a workspace calls back to the call that waits";
  if (call->lease && call->lease->call != call) return "a lease calls back to the call that waits";
  if (call->job && call->job->call != call) return "a job calls back to the call that waits";
  if (call->plan && call->plan->call != call) return "a schedule calls back to the call that waits";
  if (call->next && call->next->prev != call) return "lists of calls are linked both ways";
  return NULL;
}

static char const *users_check(calls_t const *calls) {
  uint64_t conn_cnt = 0, call_cnt = 0;
  size_t place = 0;

  if (!idmap_check(&calls->users)) return "users by uid";
  for (user_t const *user; (user = idmap_next(&calls->users, &place));) {
    if (!user->conn_cnt) return "a user has connections";
    conn_cnt += user->conn_cnt;
    call_cnt += user->call_cnt;
  }
  return conn_cnt == calls->conns.cnt && call_cnt == calls->call_cnt
             ? NULL
             : "the counts of users agree with the connections";
}

char const *calls_check(calls_t const *calls) {
  uint32_t call_cnt = 0, watch_cnt = 0;
  size_t place = 0;
  char const *broken_user = users_check(calls);

  if (broken_user) return broken_user;

  if (!idmap_check(&calls->conns)) return "connections by number";
  for (conn_t const *conn; (conn = idmap_next(&calls->conns, &place));) {
    uint32_t conn_calls = 0, conn_watches = 0;
    for (call_t const *call = conn->calls; call; call = call->next) {
      if (call->conn != conn) return "a call in a connection's list belongs to it";
      if (calls_find(conn, call->stream) != call) return "streams of a connection differ";
      char const *broken = call_check(call);
      if (broken) return broken;
      conn_calls++;
      conn_watches += (uint32_t)call->watching;
    }
    if (conn->user != calls_user(calls, conn->uid)) return "a connection has its uid's user";
    if (conn_calls != conn->call_cnt || conn_watches != conn->watch_cnt)
      return "a connection's counts agree with its calls";
    if (conn_calls > ENGINE_STREAMS_MAX || conn_watches > ENGINE_CONN_WATCHES_MAX)
      return "a connection keeps its limits";
    call_cnt += conn_calls;
    watch_cnt += conn_watches;
  }
  if (call_cnt != calls->call_cnt || watch_cnt != calls->watch_cnt)
    return "the counts of calls agree with the connections";
  for (call_t const *call = calls->watches; call; call = call->w_next) {
    if (!call->watching) return "the list of watches has watches";
    watch_cnt--;
  }
  return watch_cnt ? "every watch is in the list of watches" : NULL;
}

void calls_clear(calls_t *calls) {
  size_t place = 0;
  for (conn_t *conn; (conn = idmap_next(&calls->conns, &place));) {
    while (conn->calls) {
      call_t *call = conn->calls;
      conn->calls = call->next;
      free(call->later);
      free(call->fault);
      free(call);
    }
    free(conn->gids);
    free(conn);
  }
  idmap_clear(&calls->conns);
  place = 0;
  for (user_t *user; (user = idmap_next(&calls->users, &place));) free(user);
  idmap_clear(&calls->users);
  *calls = (calls_t){0};
}
