/* call: connections, and the requests in flight on them.

   A request is a call from the moment it is accepted until its one reply; being answered and being
   forgotten are the same act (calls_remove), so there is no way to answer twice. A call waits for
   at most one thing: a workspace (Create, Delete, Restore), a lease (Open), a job (Query, Compact,
   CkptShow, CkptRemove), the writing of a schedule, the list of checkpoints, or events (Watch,
   JobWatch).

   Invariants (calls_check):
     a call is in the list of its connection; call_cnt is the sum of those of all connections
     a call that waits for a thing is what that thing calls back
     a user is there as long as it has connections; its counts are theirs
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
struct plan;

/* A uid that has connections, and what it has. */
typedef struct user {
  uint32_t uid, conn_cnt, call_cnt;
} user_t;

typedef struct conn {
  uint64_t conn;
  user_t *user;
  uint64_t since_ns; /* since 1970 */
  uint32_t uid, gid;
  uint32_t *gids; /* gid_cnt further groups; owned */
  uint32_t gid_cnt;
  int admin; /* may do everything */
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
  struct plan *plan;
  engine_request_t
      *later;            /* to be begun when it is known what checkpoints there are, or that ws has
                            gone; owned, and what it points to is in the same piece of memory */
  struct ws *waits;      /* later: NULL, or this */
  engine_reply_t *fault; /* decided already, to be sent once what was begun is undone; owned */
  int watching;
  int pressed;                  /* Watch: pressure is told too */
  uint64_t watched_job;         /* JobWatch */
  char name[SPEC_NAME_MAX + 1]; /* Watch: "" all */
  struct call *prev, *next;     /* in conn->calls */
  struct call *w_prev, *w_next; /* in calls->watches */
} call_t;

typedef struct calls {
  idmap_t conns;
  idmap_t users; /* uid + 1 -> user_t, those that have connections */
  call_t *watches;
  uint32_t call_cnt, watch_cnt;
} calls_t;

/* A new connection; its number must be new. NULL: no memory. */
conn_t *calls_conn_add(calls_t *calls, uint64_t conn, uint32_t uid);

conn_t *calls_conn(calls_t const *calls, uint64_t conn);

/* It must have no calls. */
void calls_conn_remove(calls_t *calls, conn_t *conn);

/* NULL: it has no connection. */
user_t *calls_user(calls_t const *calls, uint32_t uid);

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
