/* The problem: many things happen at once, and the engine takes them one at a time.

   The model: a uv callback builds an event and posts it; posting steps the engine and carries out
   the update, then takes what was posted meanwhile. Between two turns of the loop nothing waits.
   Start: take over what was passed (before anything is opened that could be mistaken for it), lock
   the state folder, get the socket, tell the engine what was found, then listen and say
   READY, once what is declared has been tried (declare.c). Stop: STOP goes to the engine; when its
   last answer has come everything is closed and the process leaves; what the service manager keeps
   stays.

   Refuses: threads of its own. */

#include "daemon/shell/loop.h"

#include "core/layout.h"
#include "daemon/shell/clients.h"
#include "daemon/shell/declare.h"
#include "daemon/shell/diskq.h"
#include "daemon/shell/effects.h"
#include "daemon/shell/fdnames.h"
#include "daemon/shell/ids.h"
#include "daemon/shell/lifeline.h"
#include "daemon/shell/listener.h"
#include "daemon/shell/recover.h"
#include "daemon/shell/runner.h"
#include "daemon/shell/serve.h"
#include "daemon/shell/survey.h"
#include "daemon/shell/wsmem.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

typedef struct loop_pending {
  struct loop_pending *next;
  engine_event_t event;
  void *own;
} loop_pending_t;

/* Events
 * -------------------------------------------------------------------------------------------- */

void loop_break(loop_t *loop, char const *why) {
  if (!loop->broken) log_error(loop->log, "broken", "error=%s", log_text(why).text);
  loop->broken = 1;
  uv_stop(&loop->uv);
}

static void on_tick(uv_timer_t *timer) {
  engine_event_t event = {.kind = ENGINE_EV_TICK};
  loop_post(timer->data, &event, NULL);
}

static void arm(loop_t *loop) {
  uint64_t at = loop->update.next_tick_mono_ns, now = uv_hrtime();
  if (!at) {
    uv_timer_stop(&loop->tick);
    return;
  }
  uv_update_time(&loop->uv);
  uv_timer_start(&loop->tick, on_tick, at > now ? (at - now) / 1000000 + 1 : 0, 0);
}

static void step(loop_t *loop, engine_event_t *event) {
  struct timespec real;
  clock_gettime(CLOCK_REALTIME, &real);
  event->now_mono_ns = uv_hrtime();
  event->now_real_ns = (uint64_t)real.tv_sec * 1000000000UL + (uint64_t)real.tv_nsec;
  int outcome = engine_step(loop->engine, event, &loop->update);
  if (outcome < 0) {
    log_error(loop->log, "engine", "event=%d code=%d error=%s", event->kind, outcome,
              log_text(wksp_strerror(outcome)).text);
    loop_break(loop, "the engine cannot go on");
    return;
  }
  effects_apply(loop);
  arm(loop);
  if (loop->update.stopped) {
    loop->stopped = 1;
    uv_stop(&loop->uv);
  }
}

void loop_post(loop_t *loop, engine_event_t const *event, void *own) {
  loop_pending_t *pending = malloc(sizeof *pending);
  if (!pending || loop->broken) {
    free(pending);
    free(own);
    if (!loop->broken) loop_break(loop, "no memory for an event");
    return;
  }
  *pending = (loop_pending_t){NULL, *event, own};
  *loop->tail = pending;
  loop->tail = &pending->next;
  if (loop->stepping) return;
  loop->stepping = 1;
  while ((pending = loop->head)) {
    loop->head = pending->next;
    if (!loop->head) loop->tail = &loop->head;
    if (!loop->broken) step(loop, &pending->event);
    free(pending->own);
    free(pending);
  }
  loop->stepping = 0;
}

/* What memories hold
 * ------------------------------------------------------------------------------------------- */

/* Between two looks: a memory that holds too much hurts others' creates, not their work. */
#define LOOK_MS 5000

/* Those that a client can cause are not nearer than this. */
#define LOOK_NEAR_NS 100000000UL

/* Each so many looks tell of all memories, also of what has not changed. */
#define LOOK_ALL 12U

static void look(loop_t *loop) {
  loop->looked_ns = uv_hrtime();
  wsmem_look(loop, ++loop->look_cnt % LOOK_ALL == 0);
}

static void on_look(uv_timer_t *timer) {
  look(timer->data);
  survey_pools(timer->data);
}

void loop_look(loop_t *loop) {
  if (uv_hrtime() - loop->looked_ns >= LOOK_NEAR_NS) look(loop);
}

/* Signals and the supervisor
 * ------------------------------------------------------------------------ */

/* What a stop has begun to checkpoint is given up first. */
static void on_stop_late(uv_timer_t *timer) {
  loop_t *loop = timer->data;
  if (loop->stop_hurried) {
    loop_break(loop, "stopping took too long");
    return;
  }
  loop->stop_hurried = 1;
  uv_timer_start(timer, on_stop_late, LOOP_STOP_MS, 0);
  engine_event_t event = {.kind = ENGINE_EV_STOP};
  loop_post(loop, &event, NULL);
}

void loop_progress(loop_t *loop) {
  uint64_t now = uv_hrtime();
  if (!loop->stopping || loop->stop_hurried) return;
  uv_timer_start(&loop->stop_timer, on_stop_late, LOOP_STOP_STILL_MS, 0);
  if (now - loop->extended_ns < 1000000000UL) return;
  loop->extended_ns = now;
  notify_send(loop->notify, -1, "EXTEND_TIMEOUT_USEC=%lu\nSTATUS=taking checkpoints",
              (LOOP_STOP_STILL_MS + 2UL * LOOP_STOP_MS) * 1000UL);
}

/* What is there at the end, and what becomes of it. */
static void say_loss(loop_t *loop) {
  size_t place = 0, cnt = 0;
  uint64_t bytes = 0;
  wsmem_t const *mem;
  while ((mem = idmap_next(&loop->memories, &place))) {
    cnt++;
    bytes += mem->size;
  }
  if (!cnt) return;
  if (!notify_active(loop->notify))
    log_warn(loop->log, "stop-loses", "workspaces=%zu bytes=%lu note=%s", cnt, bytes,
             log_text("nobody keeps their memory: they end with this process").text);
  else
    log_info(loop->log, "stop-keeps", "workspaces=%zu bytes=%lu note=%s", cnt, bytes,
             log_text(loop->supervisor_fd >= 0
                          ? "a restart keeps their memory; when the supervisor is stopped they end"
                          : "a restart keeps their memory; a stop ends it, but with "
                            "FileDescriptorStorePreserve=yes (systemd 254 and later); so does a "
                            "reboot")
                 .text);
}

static void on_signal(uv_poll_t *poll, int status, int events) {
  loop_t *loop = poll->data;
  struct signalfd_siginfo info;
  if (read(loop->signal_fd, &info, sizeof info) != (ssize_t)sizeof info || loop->stopping) return;
  log_info(loop->log, "signal", "number=%u", info.ssi_signo);
  if (info.ssi_signo == SIGHUP) {
    declare_reload(loop);
    return;
  }
  loop->stopping = 1;
  say_loss(loop);
  notify_send(loop->notify, -1, "STOPPING=1");
  listener_stop(loop->listener);
  loop->listener = NULL;
  uv_timer_start(&loop->stop_timer, on_stop_late, LOOP_STOP_MS, 0);
  engine_event_t event = {.kind = ENGINE_EV_STOP};
  loop_post(loop, &event, NULL);
}

static void on_supervisor(uv_poll_t *poll, int status, int events) {
  loop_t *loop = poll->data;
  uv_poll_stop(poll);
  loop->orphaned = 1;
  /* The socket file is ours to remove from now on. */
  int fd = loop->socket.fd;
  if (!socket_adopt(&loop->socket, loop->config->socket)) loop->socket.fd = fd;
  log_error(loop->log, "supervisor-gone", "error=%s",
            log_text("memory would not outlive this daemon: new workspaces are refused, the others "
                     "are served on; restart wkspd --supervise")
                .text);
  notify_lost(loop->notify);
}

/* TERM, INT and HUP are blocked in every thread and come through a descriptor, so that there is no
 * moment at which they kill us: not before there is a handler, not when it is gone. */
static int start_handles(loop_t *loop) {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  sigaddset(&stop, SIGHUP);
  uv_timer_init(&loop->uv, &loop->tick);
  uv_timer_init(&loop->uv, &loop->stop_timer);
  uv_timer_init(&loop->uv, &loop->ready_timer);
  uv_timer_init(&loop->uv, &loop->look_timer);
  loop->signal_fd = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
  if (loop->signal_fd < 0) return -errno;
  int err = uv_poll_init(&loop->uv, &loop->signals, loop->signal_fd);
  if (err) return err;
  loop->look_timer.data = loop;
  uv_timer_start(&loop->look_timer, on_look, LOOK_MS, LOOK_MS);
  loop->tick.data = loop->stop_timer.data = loop->ready_timer.data = loop->signals.data = loop;
  return uv_poll_start(&loop->signals, UV_READABLE, on_signal);
}

/* Start and end
 * ------------------------------------------------------------------------------------- */

/* All descriptors that the kernel allows: a workspace and a lease cost one each. Returns how many.
 */
static rlim_t raise_files(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit)) return 1024;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit)) getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

/* Workspaces, leases and connections cost a descriptor each, the former also with whoever keeps
 * them for us. They share what there is, so that a limit of 20,000 allows 10,000 of either, and
 * none can shut out the others: a fifth is certain for connections, which get 11 twentieths at
 * most; of what is kept a third is certain for leases and one for workspaces. FILES_OWN is for what
 * is open for a moment: workers, barriers, the clients' ends of new leases. Kept names share one
 * string: NAME_BYTES each for workspaces, with the separator (an id of six digits of base 36, two
 * thousand millions), two for leases, besides those of the socket and the like. */
enum {
  FILES_OWN = 128,
  FILES_MIN = 256,
  NAME_BYTES = 8,
  LEASE_NAME_BYTES = 2,
  OWN_NAME_BYTES = 64
};

static void share_files(engine_config_t *config, rlim_t files, int pidfds_kept) {
  rlim_t all = files - FILES_OWN, conns = all / 20 * 11, certain = files / 5;
  if (conns > ENGINE_CONNS_MAX) conns = ENGINE_CONNS_MAX;
  if (certain > ENGINE_CONNS_MAX) certain = ENGINE_CONNS_MAX;
  rlim_t kept = all - certain, third = kept / 3, workspaces = kept - third;
  if (workspaces > ENGINE_WORKSPACES_MAX) workspaces = ENGINE_WORKSPACES_MAX;
  if (third > ENGINE_WORKSPACES_MAX) third = ENGINE_WORKSPACES_MAX;
  rlim_t leases = kept - third;
  rlim_t named = (FDNAMES_BYTES_MAX - OWN_NAME_BYTES - workspaces * NAME_BYTES) / LEASE_NAME_BYTES;
  if (leases > named) leases = named;
  config->workspaces_max = (uint32_t)workspaces;
  config->leases_max = (uint32_t)leases;
  config->kept_max = (uint32_t)kept;
  config->conns_max = (uint32_t)conns;
  config->files_max = (uint32_t)all;
  if (pidfds_kept) return;
  /* Each connection takes two: half as many, and their second ones are set aside. */
  config->conns_max /= 2;
  config->files_max -= config->conns_max;
  if (config->kept_max > config->files_max - config->conns_max)
    config->kept_max = config->files_max - config->conns_max;
}

static engine_config_t engine_config(loop_t const *loop, rlim_t files) {
  engine_config_t config = {.pid = getpid(),
                            .layout_version = WKSP_LAYOUT_VERSION,
                            .geometry_hash = wksp__geometry_hash(),
                            .daemon_version = WKSP_VERSION,
                            .jobs_running_max = loop->config->workers,
                            .tasks_running_max = loop->config->checkpoints,
                            .admin_gid = loop->config->admin_gid,
                            .uid_workspaces_max = loop->config->uid_workspaces};
  struct sysinfo info;
  if (files > 1U << 20) files = 1U << 20;
  share_files(&config, files, loop->pidfds_kept);
  if (!sysinfo(&info)) config.memory_bytes = (uint64_t)info.totalram * info.mem_unit;
  return config;
}

static int open_socket(loop_t *loop, recover_t const *recover) {
  char error[CONFIG_ERROR_MAX];
  if (recover->socket_fd >= 0) {
    int fd = recover->socket_fd;
    loop->socket = SOCKET_NONE;
    loop->socket.fd = fd;
    return 0;
  }
  if (!socket_listen(&loop->socket, loop->config->socket, error)) return 0;
  log_error(loop->log, "start", "error=%s", log_text(error).text);
  return 1;
}

static int watch_supervisor(loop_t *loop, int fd) {
  loop->supervisor_fd = fd;
  if (fd < 0) return 0;
  if (uv_poll_init(&loop->uv, &loop->supervisor, fd)) return 1;
  loop->supervisor.data = loop;
  return uv_poll_start(&loop->supervisor, UV_READABLE | UV_DISCONNECT, on_supervisor);
}

/* What must come before anything else is opened, then the event loop. 0, or 1 and it has been
 * logged: there is nothing to close yet. */
static int take_passed(loop_t *loop, recover_t *recover) {
  char error[CONFIG_ERROR_MAX];
  if (fdnames_each(getenv("LISTEN_PID"), getenv("LISTEN_FDS"), getenv("LISTEN_FDNAMES"), getpid(),
                   recover_fd, recover, error, sizeof error) < 0) {
    log_error(loop->log, "start", "error=%s", log_text(error).text);
    return 1;
  }
  int err = uv_loop_init(&loop->uv);
  if (!err) return 0;
  log_error(loop->log, "start", "error=%s", log_text(uv_strerror(err)).text);
  return 1;
}

/* 0, or 1 and it has been logged. */
static int open_all(loop_t *loop, recover_t *recover) {
  char error[CONFIG_ERROR_MAX];
  rlim_t files = raise_files();
  if (files < FILES_MIN) {
    snprintf(error, sizeof error,
             "the limit of open files is %lu and at least %d are needed: raise it (ulimit -n, "
             "LimitNOFILE=)",
             files, FILES_MIN);
    log_error(loop->log, "start", "error=%s", log_text(error).text);
    return 1;
  }
  loop->pidfds_kept = clients_kept();
  int err = start_handles(loop);
  if (!err) err = fair_start(&loop->fair, &loop->uv);
  if (err) {
    log_error(loop->log, "start", "error=%s", log_text(uv_strerror(err)).text);
    return 1;
  }
  if (open_socket(loop, recover)) return 1;
  if (store_open(&loop->store, loop->config->state_dir, error)) {
    log_error(loop->log, "start", "error=%s", log_text(error).text);
    return 1;
  }
  loop->notify = notify_open(&loop->uv, loop->log, getenv("NOTIFY_SOCKET"));
  if (loop->notify && recover->supervisor_fd >= 0) notify_answers(loop->notify);
  loop->diskq = diskq_new(loop);
  loop->ids = ids_new(loop);
  loop->survey = survey_new(loop);
  loop->declare = declare_new(loop);
  loop->engine = engine_new();
  if (!loop->notify || !loop->diskq || !loop->ids || !loop->survey || !loop->declare ||
      !loop->engine || watch_supervisor(loop, recover->supervisor_fd)) {
    log_error(loop->log, "start", "error=%s", log_text("no memory").text);
    return 1;
  }
  engine_config_t config = engine_config(loop, files);
  config.no_ckpts = store_ckpts_none(&loop->store);
  if (recover_run(recover, &config)) return 1;
  loop->listener = listener_start(loop, loop->socket.fd);
  if (loop->listener) return 0;
  log_error(loop->log, "start", "error=%s", log_text("the socket cannot be watched").text);
  return 1;
}

/* What is still open is a handle of this file; the others close their own. */
static void close_handle(uv_handle_t *handle, void *arg) {
  if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

static void close_all(loop_t *loop) {
  listener_stop(loop->listener);
  serve_free(loop);
  runner_free(loop);
  lifeline_free(loop);
  notify_close(loop->notify);
  uv_walk(&loop->uv, close_handle, NULL);
  uv_run(&loop->uv, UV_RUN_DEFAULT);
  uv_loop_close(&loop->uv);
  wsmem_free(loop);
  diskq_free(loop->diskq);
  ids_free(loop->ids);
  survey_free(loop->survey);
  declare_free(loop->declare);
  engine_free(loop->engine);
  fair_free(&loop->fair);
  engine_update_free(&loop->update);
  store_close(&loop->store);
  socket_release(&loop->socket);
  if (loop->supervisor_fd >= 0) close(loop->supervisor_fd);
  if (loop->signal_fd >= 0) close(loop->signal_fd);
}

void loop_ready(loop_t *loop) {
  if (loop->said_ready) return;
  loop->said_ready = 1;
  uv_timer_stop(&loop->ready_timer);
  int fd_store = notify_active(loop->notify);
  notify_send(loop->notify, -1, "READY=1\nSTATUS=serving %s", loop->config->socket);
  log_info(loop->log, "ready", "pid=%d version=%s socket=%s state_dir=%s fd_store=%d start_us=%lu",
           (int)getpid(), WKSP_VERSION, loop->config->socket, loop->config->state_dir, fd_store,
           (uv_hrtime() - loop->since_ns) / 1000);
}

static void on_ready_late(uv_timer_t *timer) {
  loop_ready(timer->data);
}

int loop_run(config_t const *config, log_t *log, uint64_t since_ns) {
  loop_t loop = {.config = config,
                 .log = log,
                 .own_log = log,
                 .since_ns = since_ns,
                 .socket = SOCKET_NONE,
                 .store = STORE_NONE,
                 .signal_fd = -1,
                 .supervisor_fd = -1};
  recover_t recover;
  loop.tail = &loop.head;
  recover_init(&recover, &loop);
  signal(SIGPIPE, SIG_IGN);
  if (take_passed(&loop, &recover)) {
    recover_free(&recover);
    return 1;
  }
  int bad = open_all(&loop, &recover);
  recover_free(&recover);
  if (!bad) {
    watchdog_start(&loop.watchdog, &loop.uv, loop.notify, log);
    uv_timer_start(&loop.ready_timer, on_ready_late, DECLARE_READY_MS, 0);
    declare_begin(&loop);
    declare_start(&loop);
    while (!loop.stopped && !loop.broken) uv_run(&loop.uv, UV_RUN_DEFAULT);
    if (!loop.broken) log_info(log, "stopped", "pid=%d", (int)getpid());
  }
  close_all(&loop);
  if (loop.broken) _exit(1); /* its threads may still be at work, on what exit would take away */
  return bad;
}
