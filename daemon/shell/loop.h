/* loop: the daemon as one event loop around the engine.

   Everything that happens becomes an engine_event_t and goes through loop_post; what the engine
   wants is carried out by effects.c. The struct is shared by the shell's own files; each touches
   what its comment says. */

#ifndef WKSPD_SHELL_LOOP_H
#define WKSPD_SHELL_LOOP_H

#include "daemon/core/engine.h"
#include "daemon/core/idmap.h"
#include "daemon/shell/config.h"
#include "daemon/shell/fair.h"
#include "daemon/shell/memory.h"
#include "daemon/shell/notify.h"
#include "daemon/shell/socket.h"
#include "daemon/shell/store.h"
#include "daemon/shell/watchdog.h"

#include <uv.h>

/* How long stopping may take, ms: an answer that does not come must not keep the process. */
#define LOOP_STOP_MS 8000

/* How long a stop waits for a checkpoint that makes no progress, ms, and asks the service manager
 * to wait: the last of the disk's writing may take its time. */
#define LOOP_STOP_STILL_MS 90000

typedef struct loop {
  config_t const *config;
  log_t const *log;
  log_t *own_log; /* the same, for who changes its level */
  uv_loop_t uv;

  /* loop.c */
  engine_t *engine;
  engine_update_t update;
  struct loop_pending *head, **tail; /* events that wait for the running step */
  int stepping;
  int broken;           /* 1: the engine or shell is in no state to go on; exit 1 */
  int stopping;         /* STOP was posted */
  int stopped;          /* leave */
  int stop_hurried;     /* a second STOP was posted: checkpoints are given up */
  uint64_t extended_ns; /* when the service manager was last asked for patience */
  uv_timer_t tick, stop_timer, ready_timer;
  uv_timer_t look_timer; /* what memories hold is looked at */
  uint64_t looked_ns;    /* when, last */
  unsigned look_cnt;
  int said_ready;
  uint64_t since_ns; /* uv_hrtime at the start of the process */
  uv_poll_t signals;
  int signal_fd; /* TERM and INT, which stay blocked from main to the end */
  uv_poll_t supervisor;
  int supervisor_fd; /* -1: none, or gone */
  int orphaned;      /* 1: the supervisor is gone: new memory would not outlive us */
  log_rate_t violations;
  log_rate_t warnings; /* of the engine: peers can provoke them */

  socket_at_t socket; /* ours, or passed (then without a lock) */
  notify_t *notify;
  watchdog_t watchdog;
  store_t store;

  fair_t fair;                /* who is to be served next: peer.c */
  struct listener *listener;  /* listener.c */
  idmap_t peers;              /* serve.c: conn -> conn_t */
  int pidfds_kept;            /* serve.c: the kernel keeps a pidfd with each connection */
  uint64_t conn_last;         /* serve.c: the highest number given to a connection */
  memory_t memory;            /* wsmem.c */
  idmap_t memories;           /* wsmem.c: ws_id -> wsmem_t */
  int foreign_names;          /* wsmem.c: 1: some memory is not stored under its own name */
  idmap_t makes;              /* wsmem.c: ws_id -> a make in progress */
  idmap_t drops;              /* wsmem.c: ws_id -> a memory that the fd store is to let go */
  struct drop *drops_waiting; /* wsmem.c: of these, not told to the manager yet, oldest first */
  struct drop *drops_told;    /* wsmem.c: those that a barrier is under way for */
  int drops_unsent;           /* wsmem.c: 1: the manager was not told of all of them */
  struct make *waiting;       /* wsmem.c: makes that wait for others, oldest first */
  unsigned making;            /* wsmem.c: makes that have a thread */
  idmap_t lifelines;          /* lifeline.c: lease_id -> lifeline_t */
  struct runner *runners;     /* runner.c: running workers */
  struct diskq *diskq;        /* diskq.c */
  struct ids *ids;            /* ids.c */
  struct survey *survey;      /* survey.c */
  struct declare *declare;    /* declare.c */
  uint32_t lost_cnt;          /* recover.c: workspaces whose memory nobody kept */

  /* declare.c: of the configuration, for which an older one is in force; "" none */
  char mistake[CONFIG_ERROR_MAX];
} loop_t;

/* Runs the daemon until it is stopped. since_ns: uv_hrtime at the start of the process. Returns the
 * exit status. */
int loop_run(config_t const *config, log_t *log, uint64_t since_ns);

/* What was declared has been tried: says that the daemon is ready, once. */
void loop_ready(loop_t *loop);

/* A look at what memories hold, unless that was done a moment ago. Not from within a step. */
void loop_look(loop_t *loop);

/* Takes an event: fills in the time, steps the engine and carries out what it wants, or, if a step
   is running, queues it. own (NULL: nothing) is what the event's pointers lead into; it is freed
   once the step is over. Events with other pointers must not be posted from within a step. */
void loop_post(loop_t *loop, engine_event_t const *event, void *own);

/* Something that takes long goes on: a stop waits for it, and so does the service manager. */
void loop_progress(loop_t *loop);

/* The shell cannot go on: logs, and the loop ends with status 1. */
void loop_break(loop_t *loop, char const *why);

#endif
