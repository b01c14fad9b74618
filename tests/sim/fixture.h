/* fixture: a shell that is not there. It drives the engine as daemon/shell does, but its clock,
   disk, fd store, workers and peers are tables, and it watches over every effect:

     disk       specs as text, by spec_encode and spec_decode; a write is on disk when it is
                answered, or perhaps before if the process is killed meanwhile; a failed write
                perhaps too
     memory     what is in the fd store; as long as the machine runs it outlives the engine
     lifelines  the daemon's ends in the fd store; whether a client holds the other end
     stores     checkpoints, and the files of schedules
     peers      connections with what they have asked and what they were told

   Two ways to use it. Scenarios call sim_request and friends and sim_settle, with sim->hold and
   sim->fail_next to stop or spoil chosen answers. The random test answers late, out of order
   and wrongly by itself. In both every step is followed by engine_check and by the fixture's own
   rules (sim_check in oracle.c), and a broken one fails the test with the seed. */

#ifndef TESTS_SIM_FIXTURE_H
#define TESTS_SIM_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/core/engine.h"

#define SIM_SEC 1000000000UL

/* The answers that effects ask for. */
enum sim_answer {
  SIM_PERSISTED = 0,
  SIM_REMOVED,
  SIM_MEMORY,
  SIM_RESIZED,
  SIM_LEASE,
  SIM_WORKER,
  SIM_TASK, /* of checkpoints */
  SIM_SCHEDULE,
  SIM_ANSWERS
};

typedef struct sim_disk {
  uint64_t ws_id;
  char text[SPEC_TEXT_MAX];
  size_t len;
  spec_t spec;  /* what the text says; state 0 if it is not one */
  int doubtful; /* a write or removal of it has failed, or its memory was lost */
} sim_disk_t;

/* The least size of any workspace here. */
#define SIM_SIZE_MIN 4096UL

typedef struct sim_memory {
  uint64_t ws_id;
  uint64_t size, page_size; /* as made */
  uint64_t max_size;
  uint64_t filled; /* pages are held up to here at least */
  uint64_t stuck;  /* bytes of pages that no punch gives back */
  uint64_t end;    /* where its table says that it ends; the rest is beyond */
  uint64_t used;   /* the end cannot be below this */
  int orphan;      /* its spec was taken away behind the daemon's back */
} sim_memory_t;

typedef struct sim_lifeline {
  uint64_t lease_id, ws_id;
  int mode;
  int32_t pid;
  uint32_t uid, gid;
  int with_client; /* the client has its end */
  int hung_up;
  int reported; /* to the engine that runs now */
} sim_lifeline_t;

typedef struct sim_pending {
  int answer; /* SIM_* */
  uint64_t id;
  engine_effect_t effect; /* worker: pointers are not kept, but for leases: see lease_ids */
  uint64_t *lease_ids;
  size_t lease_cnt;
  int cancelled;
  engine_ckpt_ask_t ask; /* task: texts and tags not kept */
  schedule_t schedule;
} sim_pending_t;

/* A schedule's file. */
typedef struct sim_schedule {
  char name[SPEC_NAME_MAX + 1];
  char text[SCHEDULE_TEXT_MAX];
  size_t len;
} sim_schedule_t;

/* What somebody who follows a job was told. */
typedef struct sim_task {
  uint64_t conn;
  uint32_t stream;
  engine_task_t task;
} sim_task_t;

#define SIM_GONE_MAX 64

typedef struct sim_conn {
  uint64_t conn;
  uint32_t uid, gid;
  uint32_t gids[4], gid_cnt; /* further groups */
  uint32_t stream_high;
} sim_conn_t;

typedef struct sim_event {
  uint64_t conn;
  uint32_t stream;
  int kind;
  char name[SPEC_NAME_MAX + 1];
} sim_event_t;

typedef struct sim_request {
  uint64_t conn;
  uint32_t stream;
  engine_request_t req; /* tags not kept */
  uint64_t deadline_ns;
  uint64_t target; /* Delete: the published workspace that had the name, 0 if none */
  int repeated;    /* its call id was sent before */
  int answered;
  engine_reply_t reply;      /* pointers not valid */
  engine_workspace_t view;   /* Create, Get, Open */
  engine_workspace_t *views; /* List; owned */
} sim_request_t;

/* A workspace that a client was told of. */
typedef struct sim_published {
  uint64_t ws_id;
  char name[SPEC_NAME_MAX + 1];
  int doomed; /* a removal was asked for, or damage done: it may go */
  int gone;   /* a removal was confirmed: it must not come back */
} sim_published_t;

/* A call id that was sent, and the workspace that its first good answer was about (0: none yet). */
typedef struct sim_call {
  uint8_t id[SPEC_CALL_ID_SIZE];
  engine_request_t req;
  uint64_t ws_id;
} sim_call_t;

/* Told of what reaches the disk, at the moment that it does, and of answers that leave. Any may be
   NULL. */
typedef struct sim_hooks {
  void *arg;
  void (*persist)(void *arg, spec_t const *spec);
  void (*remove)(void *arg, uint64_t ws_id);
  void (*ids)(void *arg, uint64_t ws_id, uint64_t lease_id); /* 0: not of concern */
  void (*sent)(void *arg, engine_request_t const *req);      /* before the engine has it */
  void (*reply)(void *arg, struct sim_request const *request);
} sim_hooks_t;

#define SIM_LIST(type) \
  struct {             \
    type *items;       \
    size_t cnt, cap;   \
  }

typedef struct sim {
  engine_t *engine;
  engine_update_t update;
  engine_config_t config;
  uint64_t seed, random;
  uint64_t mono_ns, real_ns;
  int stopped;
  int check_every; /* steps between checks; 1 unless a test has very many things */
  uint64_t step_cnt;

  SIM_LIST(sim_disk_t) disk;
  SIM_LIST(sim_memory_t) memory;
  SIM_LIST(sim_lifeline_t) lifelines;
  SIM_LIST(sim_pending_t) pending;
  SIM_LIST(sim_conn_t) conns;
  SIM_LIST(sim_request_t) requests;
  SIM_LIST(sim_event_t) events;
  SIM_LIST(sim_published_t) published;
  SIM_LIST(sim_call_t) called;

  SIM_LIST(engine_ckpt_t) ckpts; /* in all stores; info is a constant */
  SIM_LIST(sim_schedule_t) schedules;
  SIM_LIST(sim_task_t) tasks; /* with keep_events */
  uint64_t ckpt_high;
  engine_ckpt_t told, *listed; /* what an answer leads into */
  engine_ckpt_ask_t asked;     /* of the last worker that takes a checkpoint; no pointers */
  uint64_t gone[SIM_GONE_MAX];
  uint64_t task_cnt[ENGINE_OP_CKPT_DRILL + 1]; /* workers started, by operation */

  uint64_t conn_high, ws_id_high, lease_id_high;
  uint8_t uuid_next;

  sim_hooks_t hooks;

  /* for scenarios */
  int hold[SIM_ANSWERS];      /* sim_settle leaves these unanswered */
  int fail_next[SIM_ANSWERS]; /* how many of the next answers fail */
  int fail_writes;            /* a failing write reaches the disk nevertheless */
  int memory_status;          /* what a failing MEMORY_MADE says; 0: ENGINE_MEMORY_SHORT */
  int kill_done;              /* what is under way when the process is killed: 1 has happened, -1
                                 has not, 0 either */
  int read_only;     /* a restart finds all memory to be of a layout that can only be read */
  int hold_list;     /* a start does not wait for the listing of checkpoints */
  int worker_status; /* what a failing WORKER_DONE says; 0: ENGINE_WORKER_KILLED */

  /* for the random test */
  int wild;            /* answers fail at random */
  int keep_events;     /* keep sim->events */
  uint64_t log_cnt[4]; /* by level */
  uint64_t closed_cnt;
  uint64_t reply_cnt[16]; /* by code */
  uint64_t restart_cnt, quarantine_cnt, reap_cnt, cancel_cnt, grow_cnt, shrink_cnt, blocked_cnt;
} sim_t;

/* config NULL: all zeroes. It has been started, nothing was found. */
sim_t *sim_new(uint64_t seed, engine_config_t const *config);
void sim_free(sim_t *sim);

uint64_t sim_random(sim_t *sim);
/* 1 in n. */
int sim_chance(sim_t *sim, uint64_t n);

/* Steps the engine with the event at the present moment and carries out what it says. Returns what
   engine_step returned, which must not be negative. */
int sim_step(sim_t *sim, engine_event_t *event);
/* The same by a kind without arguments. */
int sim_step_kind(sim_t *sim, int kind);

/* Peers. A refused connection is 0. */
uint64_t sim_conn(sim_t *sim, uint32_t uid, uint32_t gid);
/* The same with further groups, cnt of them. */
uint64_t sim_conn_groups(sim_t *sim, uint32_t uid, uint32_t gid, uint32_t const *gids,
                         uint32_t cnt);
void sim_close(sim_t *sim, uint64_t conn);
/* Returns the stream. timeout_ns 0: none. */
uint32_t sim_send(sim_t *sim, uint64_t conn, engine_request_t const *req, uint64_t timeout_ns);
/* The request of this stream; it must be there. */
sim_request_t *sim_request(sim_t *sim, uint64_t conn, uint32_t stream);
/* Its reply; it must have come, or (sim_unanswered) not. */
engine_reply_t const *sim_reply(sim_t *sim, uint64_t conn, uint32_t stream);
void sim_unanswered(sim_t *sim, uint64_t conn, uint32_t stream);
void sim_hangup(sim_t *sim, uint64_t lease_id);

/* Answers pending number index of sim->pending, well or, if so chosen, badly. */
void sim_answer(sim_t *sim, size_t index, int fail);
/* Answers everything that is not on hold, oldest first, until nothing is left. */
void sim_settle(sim_t *sim);
/* How many effects wait for this answer. */
size_t sim_waiting(sim_t const *sim, int answer);
/* Lets time pass, with a TICK whenever the engine wants one. */
void sim_advance(sim_t *sim, uint64_t ns);

/* The process is killed and started anew. */
void sim_restart(sim_t *sim);

/* Requests in one line; each sends, settles and returns the request, which stays until it is asked
   for the next time. */
sim_request_t *sim_create(sim_t *sim, uint64_t conn, char const *name);
sim_request_t *sim_delete(sim_t *sim, uint64_t conn, char const *name, int force);
sim_request_t *sim_get(sim_t *sim, uint64_t conn, char const *name);
sim_request_t *sim_open(sim_t *sim, uint64_t conn, char const *name, int mode);
/* Only send; the stream. */
uint32_t sim_send_create(sim_t *sim, uint64_t conn, char const *name, uint64_t timeout_ns);
uint32_t sim_send_named(sim_t *sim, uint64_t conn, int method, char const *name,
                        uint64_t timeout_ns);

/* What is on disk of this id, decoded; NULL if nothing is. Valid until the next call. */
spec_t const *sim_on_disk(sim_t *sim, uint64_t ws_id);
int sim_in_memory(sim_t const *sim, uint64_t ws_id);
sim_lifeline_t *sim_lifeline(sim_t *sim, uint64_t lease_id);
/* How many events of this kind and name a stream has got; sim->keep_events must be set. */
size_t sim_events(sim_t const *sim, uint64_t conn, uint32_t stream, int kind, char const *name);

sim_request_t *sim_resize(sim_t *sim, uint64_t conn, char const *name, uint64_t size);
uint32_t sim_send_resize(sim_t *sim, uint64_t conn, char const *name, uint64_t size,
                         uint64_t timeout_ns);

/* memories.c: making, filling and punching memory, and the worker that moves the end of what is in
   it. */
sim_memory_t *sim_memory(sim_t *sim, uint64_t ws_id);     /* NULL: none */
size_t sim_memory_find(sim_t const *sim, uint64_t ws_id); /* its place; their number: none */
void sim_memory_add(sim_t *sim, spec_t const *spec);
void sim_memory_event(sim_t *sim, sim_pending_t const *pending, int fail, engine_event_t *event);
void sim_resize_begin(sim_t *sim, engine_effect_t const *effect);
void sim_resized_event(sim_t *sim, sim_pending_t const *pending, int fail, engine_event_t *event);
void sim_resize_work(sim_t *sim, sim_pending_t const *pending, engine_event_t *event);
void sim_resize_interrupted(sim_t *sim, sim_pending_t const *pending);
void sim_check_sizes(sim_t *sim);
sim_pending_t *sim_pend(sim_t *sim, int answer, uint64_t id, engine_effect_t const *effect);

/* ckpts.c: stores of checkpoints, files of schedules. */
engine_ckpt_t *sim_ckpt(sim_t *sim, uint64_t store_id, uint64_t number); /* NULL: none */
void sim_task_start(sim_t *sim, engine_effect_t const *effect);
void sim_task_event(sim_t *sim, sim_pending_t const *pending, int fail, engine_event_t *event);
void sim_task_interrupted(sim_t *sim, sim_pending_t const *pending);
void sim_task_told(sim_t *sim, engine_effect_t const *effect);
void sim_progress(sim_t *sim, uint64_t job_id, uint64_t done, uint64_t total);
/* The specs that a start tells, in the order of the disk; freed by the caller. */
spec_t *sim_settled(sim_t *sim);
void sim_notes(sim_t *sim, engine_effect_t const *effect);
void sim_schedule_begin(sim_t *sim, engine_effect_t const *effect);
void sim_schedule_event(sim_t *sim, sim_pending_t const *pending, int fail, engine_event_t *event);
void sim_schedule_write(sim_t *sim, sim_pending_t const *pending);
int sim_schedule(sim_t const *sim, char const *name, schedule_t *ret_schedule); /* 1: on disk */
void sim_schedules_recover(sim_t *sim);
void sim_ckpts_free(sim_t *sim);

/* Requests about checkpoints. */
engine_request_t sim_checkpoint_of(char const *name);
engine_request_t sim_restore_of(sim_t *sim, char const *name, char const *as, int wait);
engine_request_t sim_schedule_of(char const *name, uint64_t every_ns);
engine_request_t sim_job_of(int method, uint64_t job_id);
/* Sends, settles, and returns the request. */
sim_request_t *sim_ask(sim_t *sim, uint64_t conn, engine_request_t const *req);
/* The code of its answer, which must have come. */
int sim_code(sim_request_t const *request);
/* Asks for a checkpoint, which may be; its job. */
uint64_t sim_take(sim_t *sim, uint64_t conn, char const *name);
/* Sets a schedule, which may be. */
void sim_set(sim_t *sim, uint64_t conn, engine_request_t const *req);
/* The last state that somebody who follows a job was told; keep_events must be set. */
engine_task_t const *sim_told(sim_t *sim, uint64_t job_id);

/* oracle.c: rules over the tables, after every step. Fails the test. */
void sim_check(sim_t *sim);
void sim_check_reply(sim_t *sim, sim_request_t const *request);
/* NULL: none of this id. */
sim_call_t *sim_called(sim_t *sim, uint8_t const id[SPEC_CALL_ID_SIZE]);
void sim_check_worker(sim_t *sim, engine_effect_t const *effect);
void sim_check_drop(sim_t *sim, engine_effect_t const *effect);
/* Fails the test with this sentence, the seed and the step. */
void sim_broken(sim_t const *sim, char const *format, ...) __attribute__((format(printf, 2, 3)));

#endif
