/* call: connections, and the requests in flight on them.

   A request is a call from the moment it is accepted until its one reply; being answered and being
   forgotten are the same act (calls_remove), so there is no way to answer twice. A call waits for
   at most one thing: a workspace (Create, Delete), a lease (Open), a job (Query, Compact), or
   events (Watch).

   Invariants (calls_check):
     a call is in the list of its connection; call_cnt is the sum of those of all connections
     a call that waits for a thing is what that thing calls back
     watch_cnt counts calls in the list of watches, per connection and in all */

#ifndef WKSPD_CORE_CALL_H
#define WKSPD_CORE_CALL_H

#include <stdint.h>

#include "daemon/core/engine.h"
#include "daemon/core/idmap.h"
#include "daemon/core/timers.h"

struct ws;
struct lease;
struct job;

typedef struct conn {
  uint64_t conn;
  uint32_t uid, gid;
  int32_t pid;
  struct call *calls;
  uint32_t call_cnt, watch_cnt;
} conn_t;

typedef struct call {
  conn_t *conn;
  uint32_t stream;
  int method; /* ENGINE_CREATE ... */
  timer_node_t deadline;
  struct ws *ws;
  struct lease *lease;
  struct job *job;
  engine_reply_t *fault; /* decided already, to be sent once what was begun is undone; owned */
  int watching;
  char name[SPEC_NAME_MAX + 1]; /* Watch: "" all */
  struct call *prev, *next;     /* in conn->calls */
  struct call *w_prev, *w_next; /* in calls->watches */
} call_t;

typedef struct calls {
  idmap_t conns;
  call_t *watches;
  uint32_t call_cnt, watch_cnt;
} calls_t;

/* A new connection; its number must be new. NULL: no memory. */
conn_t *calls_conn_add(calls_t *calls, uint64_t conn);

conn_t *calls_conn(calls_t const *calls, uint64_t conn);

/* It must have no calls. */
void calls_conn_remove(calls_t *calls, conn_t *conn);

/* How many connections this uid has. Linear. */
uint32_t calls_uid_cnt(calls_t const *calls, uint32_t uid);

/* A new call; NULL: no memory. */
call_t *calls_add(calls_t *calls, conn_t *conn, uint32_t stream, int method);

call_t *calls_find(conn_t const *conn, uint32_t stream);

/* Makes it one of the watches. */
void calls_watch(calls_t *calls, call_t *call);

/* Forgets it. Nothing may call back to it, its timer must be stopped. */
void calls_remove(calls_t *calls, call_t *call);

/* NULL, or which invariant is broken. */
char const *calls_check(calls_t const *calls);

void calls_clear(calls_t *calls);

#endif
