/* The problem: an operator changes the configuration of a daemon that serves, and wants what it
   says to be so, as far as that can be, and to hear about the rest.

   The model: the configuration is read anew as a whole. If it has a mistake nothing of it is taken.
   Else the level of the log changes at once; what takes a restart is said. Then the workspaces of
   workspaces.d are looked at one after the other, by requests to the engine like any client's, from
   a connection without a socket that has the owner's identity:

     SetSchedule, if its file has one
     Get -> not there: Restore, if its file says so; Create, if there is no checkpoint
            there:     what cannot be changed and differs is said; another size: Resize

   Each file is tried by itself: what is wrong with one is said, and the others go on. A workspace
   whose file has gone stays.

   Refuses: to remove anything, or to change what clients may be using but for the size. */

#include "daemon/shell/declare.h"

#include "daemon/shell/config_keep.h"
#include "daemon/shell/declared.h"
#include "daemon/shell/serve.h"
#include "daemon/shell/topology.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STEP_NONE = 0, STEP_SCHEDULE, STEP_GET, STEP_RESTORE, STEP_CREATE, STEP_RESIZE };

typedef struct waiter {
  uint64_t conn;
  uint32_t stream;
} waiter_t;

struct declare {
  loop_t *loop;
  declared_list_t list;
  size_t at;     /* in the list */
  int running;   /* the list is being worked on */
  int again;     /* asked for once more meanwhile */
  int reloading; /* the service manager was told */
  int step;      /* STEP_* */
  uint64_t conn; /* of the request under way */
  uint32_t stream;
  char *notes[DECLARE_NOTES_MAX];
  size_t note_cnt;
  uint32_t mistake_cnt; /* notes of level error, also those for which there was no room */
  waiter_t waiters[DECLARE_WAITERS_MAX];      /* of this reading */
  waiter_t next_waiters[DECLARE_WAITERS_MAX]; /* of the one after it */
  size_t waiter_cnt, next_waiter_cnt;
};

struct declare *declare_new(loop_t *loop) {
  struct declare *declare = calloc(1, sizeof *declare);
  if (declare) declare->loop = loop;
  return declare;
}

static void drop_notes(struct declare *declare) {
  for (size_t i = 0; i < declare->note_cnt; i++) free(declare->notes[i]);
  declare->note_cnt = 0;
  declare->mistake_cnt = 0;
}

void declare_free(struct declare *declare) {
  if (!declare) return;
  drop_notes(declare);
  declared_free(&declare->list);
  free(declare);
}

/* To the log, and to who asked. */
static void note(struct declare *declare, log_level_t level, char const *format, ...)
    __attribute__((format(printf, 3, 4)));
static void note(struct declare *declare, log_level_t level, char const *format, ...) {
  char text[CONFIG_ERROR_MAX];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  log_event(declare->loop->log, level, "configuration", "note=%s", log_text(text).text);
  declare->mistake_cnt += level == LOG_LEVEL_ERROR;
  if (declare->note_cnt == DECLARE_NOTES_MAX) return;
  char *copy = strdup(text);
  if (copy) declare->notes[declare->note_cnt++] = copy;
}

static void note_bad(void *arg, char const *sentence) {
  note(arg, LOG_LEVEL_ERROR, "%s", sentence);
}

/* One workspace
 * --------------------------------------------------------------------------------------------- */

static void next(struct declare *declare);

static declared_t const *current(struct declare const *declare) {
  return &declare->list.items[declare->at];
}

/* own: what the request points into, freed after it; NULL: nothing. */
static void post(struct declare *declare, int step, engine_request_t const *req, void *own) {
  engine_event_t event = {.kind = ENGINE_EV_REQUEST};
  declare->step = step;
  event.u.request.conn = declare->conn;
  event.u.request.stream = declare->stream += 2;
  event.u.request.req = *req;
  loop_post(declare->loop, &event, own);
}

static void end_item(struct declare *declare) {
  engine_event_t event = {.kind = ENGINE_EV_CONN_CLOSED};
  event.u.conn.conn = declare->conn;
  declare->step = STEP_NONE;
  declare->conn = 0;
  declare->at++;
  loop_post(declare->loop, &event, NULL);
  next(declare);
}

static void look(struct declare *declare) {
  engine_request_t req = {.method = ENGINE_GET};
  snprintf(req.u.get.name, sizeof req.u.get.name, "%s", current(declare)->name);
  post(declare, STEP_GET, &req, NULL);
}

static void schedule(struct declare *declare) {
  declared_t const *item = current(declare);
  engine_request_t req = {.method = ENGINE_SCHEDULE_SET};
  snprintf(req.u.c.schedule.name, sizeof req.u.c.schedule.name, "%s", item->name);
  req.u.c.schedule.every_ns = item->every_ns;
  req.u.c.schedule.jitter_ns = item->jitter_ns;
  req.u.c.schedule.mode = item->how.mode;
  req.u.c.schedule.style = item->how.style;
  req.u.c.schedule.level = item->how.level;
  req.u.c.schedule.keep = item->keep;
  req.u.c.schedule.on_stop = item->on_stop;
  req.u.c.schedule.on_start = item->on_start == DECLARED_START_RESTORE;
  req.u.c.schedule.drill_ns = item->drill_ns;
  req.u.c.schedule.declared = 1;
  post(declare, STEP_SCHEDULE, &req, NULL);
}

static void begin_item(struct declare *declare) {
  declared_t const *item = current(declare);
  engine_event_t event = {.kind = ENGINE_EV_CONN_OPEN};
  uint64_t conn = declare->conn = ++declare->loop->conn_last;
  declare->stream = 1;
  event.u.conn_open.conn = declare->conn;
  event.u.conn_open.uid = item->uid;
  event.u.conn_open.gid = item->gid;
  event.u.conn_open.admin = 1; /* what is there of that name is looked at, whosesoever it is */
  loop_post(declare->loop, &event, NULL);
  if (declare->conn != conn) return; /* it was refused */
  if (item->scheduled)
    schedule(declare);
  else
    look(declare);
}

static void create(struct declare *declare) {
  declared_t const *item = current(declare);
  engine_request_t req = {.method = ENGINE_CREATE};
  snprintf(req.u.create.name, sizeof req.u.create.name, "%s", item->name);
  req.u.create.size = item->size;
  req.u.create.max_size = item->max_size;
  req.u.create.page_size = item->page_size;
  req.u.create.part_max = item->part_max;
  req.u.create.mode = item->mode;
  req.u.create.seed = item->seed;
  snprintf(req.u.create.numa, sizeof req.u.create.numa, "%s", item->numa);
  req.u.create.preferred = item->preferred;
  memcpy(req.u.create.tag, item->tag, sizeof item->tag);
  void *own = NULL;
  if (serve_uuid(req.u.create.uuid) || serve_topology(&req, topology_cpu_of(0), &own))
    loop_break(declare->loop, "no random numbers, or no memory for the machine's topology");
  else
    post(declare, STEP_CREATE, &req, own);
}

/* From its owner's newest checkpoint; who has begun that already is waited for. */
static void restore(struct declare *declare) {
  declared_t const *item = current(declare);
  engine_request_t req = {.method = ENGINE_RESTORE};
  void *own = NULL;
  snprintf(req.u.c.restore.name, sizeof req.u.c.restore.name, "%s", item->name);
  req.u.c.restore.wait = 1;
  req.u.c.restore.own_only = 1;
  if (serve_uuid(req.u.c.restore.uuid) || serve_topology(&req, topology_cpu_of(0), &own))
    loop_break(declare->loop, "no random numbers, or no memory for the machine's topology");
  else
    post(declare, STEP_RESTORE, &req, own);
}

/* It is not there. 1: something is done about it. */
static int missing(struct declare *declare) {
  switch (current(declare)->on_start) {
  case DECLARED_START_RESTORE:
    restore(declare);
    return 1;
  case DECLARED_START_EMPTY:
    create(declare);
    return 1;
  default:
    return 0;
  }
}

static uint64_t up(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

/* Says one difference that stays. */
static void note_kept(struct declare *declare, char const *what, uint64_t is, uint64_t wanted,
                      int octal) {
  note(declare, LOG_LEVEL_WARN,
       octal ? "%s: %s is %04lo and cannot become %04lo: create it anew for that"
             : "%s: %s is %lu and cannot become %lu: create it anew for that",
       current(declare)->name, what, is, wanted);
}

static void compare(struct declare *declare, spec_t const *spec) {
  declared_t const *item = current(declare);
  uint64_t page = spec->page_size ? spec->page_size : 4096, unit = page > 65536 ? page : 65536;
  if (item->page_size && item->page_size != spec->page_size)
    note_kept(declare, "page_size", spec->page_size, item->page_size, 0);
  if (up(item->max_size, page) != spec->max_size)
    note_kept(declare, "max_size", spec->max_size, up(item->max_size, page), 0);
  if (strcmp(item->numa, spec->numa) != 0)
    note(declare, LOG_LEVEL_WARN,
         "%s: numa is '%s' and cannot become '%s': create it anew for that", item->name, spec->numa,
         item->numa);
  if (strcmp(item->tag, spec->tag) != 0)
    note(declare, LOG_LEVEL_WARN, "%s: tag is '%s' and cannot become '%s': create it anew for that",
         item->name, spec->tag, item->tag);
  if (item->mode != spec->mode) note_kept(declare, "mode", spec->mode, item->mode, 1);
  if (item->uid != spec->uid) note_kept(declare, "owner", spec->uid, item->uid, 0);
  if (item->gid != spec->gid) note_kept(declare, "group", spec->gid, item->gid, 0);
  if (item->seed != spec->seed) note_kept(declare, "seed", spec->seed, item->seed, 0);
  if (item->part_max && item->part_max != spec->part_max)
    note_kept(declare, "part_max", spec->part_max, item->part_max, 0);

  uint64_t size = up(item->size, unit);
  if (size > spec->max_size && item->size <= spec->max_size) size = spec->max_size;
  if (spec->size == size || spec->size == up(item->size, page)) {
    end_item(declare);
    return;
  }
  engine_request_t req = {.method = ENGINE_RESIZE};
  snprintf(req.u.resize.name, sizeof req.u.resize.name, "%s", item->name);
  req.u.resize.size = item->size;
  post(declare, STEP_RESIZE, &req, NULL);
}

int declare_reply(loop_t *loop, engine_reply_t const *reply) {
  struct declare *declare = loop->declare;
  if (!declare || !declare->conn || reply->conn != declare->conn) return 0;
  declared_t const *item = current(declare);
  int step = declare->step;
  int unknown = reply->code == ENGINE_CODE_NOT_FOUND;
  if (unknown && step == STEP_GET && missing(declare)) return 1;
  if (unknown && step == STEP_RESTORE) { /* there is no checkpoint of it yet */
    create(declare);
    return 1;
  }
  if (step == STEP_SCHEDULE && reply->code == ENGINE_CODE_OK) {
    look(declare);
    return 1;
  }
  if (unknown && step == STEP_GET) {
    note(declare, LOG_LEVEL_INFO, "%s: it is not there, and on_start is none", item->name);
  } else if (reply->code != ENGINE_CODE_OK) {
    note(declare, LOG_LEVEL_ERROR, "%s: %s%s%s", item->name, reply->sentence,
         reply->detail_hint[0] ? "; " : "", reply->detail_hint);
  } else if (step == STEP_GET && reply->u.workspace->quarantined) {
    note(declare, LOG_LEVEL_ERROR, "%s: it is quarantined: %s", item->name,
         reply->u.workspace->reason);
  } else if (step == STEP_GET) {
    compare(declare, &reply->u.workspace->spec);
    return 1;
  } else if (step == STEP_RESTORE) {
    note(declare, LOG_LEVEL_INFO, "%s: restored from its checkpoint", item->name);
  } else {
    note(declare, LOG_LEVEL_INFO, "%s: %s, it has %lu bytes", item->name,
         step == STEP_CREATE ? "created" : "resized", reply->u.workspace->spec.size);
  }
  end_item(declare);
  return 1;
}

int declare_closed(loop_t *loop, uint64_t conn, char const *why) {
  struct declare *declare = loop->declare;
  if (!declare || !declare->conn || conn != declare->conn) return 0;
  note(declare, LOG_LEVEL_ERROR, "%s: not looked at: %s", current(declare)->name, why);
  end_item(declare);
  return 1;
}

/* All of them
 * --------------------------------------------------------------------------------------------- */

static void answer(struct declare *declare) {
  for (size_t i = 0; i < declare->waiter_cnt; i++)
    serve_reloaded(declare->loop, declare->waiters[i].conn, declare->waiters[i].stream,
                   declare->notes, declare->note_cnt, declare->mistake_cnt);
  declare->waiter_cnt = 0;
  drop_notes(declare);
}

static void finish(struct declare *declare) {
  declared_free(&declare->list);
  declare->running = 0;
  answer(declare);
  if (declare->reloading) notify_send(declare->loop->notify, -1, "READY=1");
  declare->reloading = 0;
  loop_ready(declare->loop);
  if (!declare->again) return;
  declare->again = 0;
  memcpy(declare->waiters, declare->next_waiters, sizeof declare->waiters);
  declare->waiter_cnt = declare->next_waiter_cnt;
  declare->next_waiter_cnt = 0;
  declare_reload(declare->loop);
}

static void next(struct declare *declare) {
  if (declare->loop->stopping || declare->loop->broken) return;
  if (declare->at < declare->list.cnt)
    begin_item(declare);
  else
    finish(declare);
}

/* For a start that cannot read one. That it cannot be kept is no reason to do without it. */
static void keep(loop_t *loop, config_t const *config) {
  char detail[CONFIG_ERROR_MAX];
  loop->mistake[0] = '\0';
  if (config_keep(config, detail))
    log_warn(loop->log, "configuration", "note=%s error=%s",
             log_text("it could not be kept for later starts").text, log_text(detail).text);
}

void declare_begin(loop_t *loop) {
  config_t const *config = loop->config;
  if (!config->mistake[0]) {
    keep(loop, config);
    return;
  }
  memcpy(loop->mistake, config->mistake, sizeof loop->mistake);
  log_error(loop->log, "configuration", "note=%s error=%s",
            log_text("in force is what was read last without a mistake; mend it, then wkspctl "
                     "reload, or restart the daemon")
                .text,
            log_text(config->mistake).text);
}

void declare_start(loop_t *loop) {
  struct declare *declare = loop->declare;
  char folder[CONFIG_PATH_MAX];
  declare->running = 1;
  declare->at = 0;
  if (config_declared(loop->config, folder))
    declared_read(folder, note_bad, declare, &declare->list);
  next(declare);
}

static void note_restart(struct declare *declare, char const *key, int differs) {
  if (differs) note(declare, LOG_LEVEL_WARN, "%s takes a restart of the daemon to change", key);
}

/* 0, or 1: it has a mistake. */
static int read_again(struct declare *declare) {
  loop_t *loop = declare->loop;
  config_t const *old = loop->config;
  char error[CONFIG_ERROR_MAX];
  config_t *config = malloc(sizeof *config);
  int bad = config ? config_read(config, old->argc, old->argv, error) : 1;
  if (!config) snprintf(error, sizeof error, "no memory to read the configuration");
  if (bad) {
    note(declare, LOG_LEVEL_ERROR, "%s; nothing has been changed", error);
    memcpy(loop->mistake, error, sizeof loop->mistake);
  } else {
    keep(loop, config);
    if (config->log_level != loop->own_log->level)
      note(declare, LOG_LEVEL_INFO, "log_level has changed");
    loop->own_log->level = config->log_level;
    quota_t *quota = malloc(sizeof *quota);
    if (quota) {
      engine_event_t event = {.kind = ENGINE_EV_QUOTA};
      *quota = config->quota;
      event.u.quota = quota;
      loop_post(loop, &event, quota);
    } else {
      note(declare, LOG_LEVEL_ERROR, "no memory for the quotas; they are as before");
    }
    note_restart(declare, "socket", strcmp(config->socket, old->socket) != 0);
    note_restart(declare, "state_dir", strcmp(config->state_dir, old->state_dir) != 0);
    note_restart(declare, "workers", config->workers != old->workers);
    note_restart(declare, "admin_group", config->admin_gid != old->admin_gid);
    note_restart(declare, "uid_workspaces", config->uid_workspaces != old->uid_workspaces);
    note_restart(declare, "checkpoints", config->checkpoints != old->checkpoints);
    note_restart(declare, "checkpoint_rate", config->checkpoint_rate != old->checkpoint_rate);
  }
  free(config);
  return bad;
}

void declare_reload(loop_t *loop) {
  struct declare *declare = loop->declare;
  struct timespec now;
  if (declare->running) {
    declare->again = 1;
    return;
  }
  clock_gettime(CLOCK_MONOTONIC, &now);
  notify_send(loop->notify, -1, "RELOADING=1\nMONOTONIC_USEC=%lu",
              (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
  declare->reloading = 1;
  if (read_again(declare))
    finish(declare);
  else
    declare_start(loop);
}

void declare_reload_for(loop_t *loop, uint64_t conn, uint32_t stream) {
  struct declare *declare = loop->declare;
  waiter_t *waiters = declare->running ? declare->next_waiters : declare->waiters;
  size_t *cnt = declare->running ? &declare->next_waiter_cnt : &declare->waiter_cnt;
  if (*cnt == DECLARE_WAITERS_MAX) {
    serve_reload_refused(loop, conn, stream, ENGINE_CODE_RESOURCE_EXHAUSTED, "limit",
                         "so many reloads are waiting already");
    return;
  }
  waiters[(*cnt)++] = (waiter_t){conn, stream};
  declare_reload(loop);
}
