/* The problem: a worker reads memory that strangers write; it may crash, hang, lie or talk for
   ever, and the daemon must not care.

   The model: the question is written into a pipe before the worker starts, the answer is read from
   another as it comes. A worker has ended when it is reaped and its pipe is at the end; then what
   came is judged once (runner_verdict) and posted.

   Refuses: to reuse workers. A new process costs a millisecond and starts clean. */

#include "daemon/shell/runner.h"

#include "core/part.h"
#include "daemon/child/worker.h"
#include "daemon/shell/ckptjob.h"
#include "daemon/shell/wsmem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A worker's answer, with room for what result_check finds in it; own of WORKER_DONE. */
typedef struct answer {
  result_t result;
  _Alignas(8) uint8_t bytes[];
} answer_t;

#define READ_SIZE 65536

typedef struct runner {
  struct runner *next;
  loop_t *loop;
  uint64_t job_id;
  result_ask_t ask;
  uv_process_t process;
  uv_poll_t poll;
  uv_timer_t timer;
  ckptask_t *task; /* of checkpoints; NULL: it is not */
  uv_poll_t steps; /* task */
  int steps_fd;    /* task: reading end of its progress */
  int open;        /* handles not closed yet */
  int fd;          /* reading end of the answer */
  int exited, at_end;
  int killed; /* RUNNER_KILLED_* */
  int64_t exit_status;
  int term_signal;
  answer_t *answer;
  size_t len, cap;
} runner_t;

/* How it ended, if it did not end by itself: ENGINE_WORKER_*, with a sentence; OK: there is an
 * answer to judge. */
static int fate(int64_t exit_status, int term_signal, int killed, char const **ret_detail) {
  *ret_detail = NULL;
  if (killed == RUNNER_KILLED_CANCEL) return ENGINE_WORKER_CANCELLED;
  if (killed == RUNNER_KILLED_LATE || term_signal == SIGXCPU) {
    *ret_detail = "it took longer than it may";
    return ENGINE_WORKER_TIMEOUT;
  }
  if (killed == RUNNER_KILLED_LONG) {
    *ret_detail = "its answer is longer than any can be";
    return ENGINE_WORKER_GARBAGE;
  }
  switch (term_signal) {
  case 0:
    break;
  case SIGSEGV:
    *ret_detail = "it met damage and ended with SIGSEGV";
    return ENGINE_WORKER_CRASHED;
  case SIGBUS:
    *ret_detail = "pages of it are gone: SIGBUS";
    return ENGINE_WORKER_CRASHED;
  case SIGFPE:
  case SIGILL:
  case SIGABRT:
    *ret_detail = "it met damage and aborted";
    return ENGINE_WORKER_CRASHED;
  case SIGSYS:
    *ret_detail = "it made a system call that it may not make";
    return ENGINE_WORKER_KILLED;
  default:
    *ret_detail = "a signal ended it";
    return ENGINE_WORKER_KILLED;
  }
  if (!exit_status) return ENGINE_WORKER_OK;
  *ret_detail = "it ended without an answer";
  return ENGINE_WORKER_GARBAGE;
}

int runner_verdict(result_ask_t const *ask, int64_t exit_status, int term_signal, int killed,
                   void const *bytes, size_t len, result_t *ret_result, char const **ret_detail) {
  int status = fate(exit_status, term_signal, killed, ret_detail);
  if (status != ENGINE_WORKER_OK) return status;
  if (!result_check(ask, bytes, len, ret_result, ret_detail)) return ENGINE_WORKER_GARBAGE;
  result_head_t const *head = ret_result->head;
  *ret_detail = head->status ? head->sentence : NULL;
  switch (head->status) {
  case WKSP_SUCCESS:
    return ENGINE_WORKER_OK;
  case WKSP_E_INVAL:
    return ENGINE_WORKER_INVALID;
  case WKSP_E_AGAIN:
  case WKSP_E_TIMEDOUT:
    return ENGINE_WORKER_AGAIN;
  case WKSP_E_CORRUPT:
  case WKSP_E_VERSION:
    return ENGINE_WORKER_DAMAGED;
  case WKSP_E_SYS:
  case WKSP_E_NOMEM:
    return ENGINE_WORKER_NOT_BEGUN;
  default:
    return ENGINE_WORKER_GARBAGE;
  }
}

int runner_ckpt_status(int32_t code) {
  switch (code) {
  case WKSP_SUCCESS:
    return ENGINE_WORKER_OK;
  case WKSP_E_INVAL:
    return ENGINE_WORKER_INVALID;
  case WKSP_E_AGAIN:
  case WKSP_E_BUSY:
    return ENGINE_WORKER_AGAIN;
  case WKSP_E_CORRUPT:
  case WKSP_E_VERSION:
    return ENGINE_WORKER_DAMAGED;
  case WKSP_E_NOTFOUND:
    return ENGINE_WORKER_MISSING;
  case WKSP_E_LIMIT:
    return ENGINE_WORKER_NO_ROOM;
  case WKSP_E_TIMEDOUT:
    return ENGINE_WORKER_STAYED;
  case WKSP_E_SYS:
  case WKSP_E_PERM:
    return ENGINE_WORKER_DISK;
  case WKSP_E_NOMEM:
    return ENGINE_WORKER_NOT_BEGUN;
  default:
    return ENGINE_WORKER_GARBAGE;
  }
}

/* Answers of workers that could not be started. */
static void not_begun(loop_t *loop, uint64_t job_id, char const *why) {
  engine_event_t event = {.kind = ENGINE_EV_WORKER_DONE};
  event.u.worker_done.job_id = job_id;
  event.u.worker_done.status = ENGINE_WORKER_NOT_BEGUN;
  event.u.worker_done.detail = why;
  loop_post(loop, &event, NULL);
}

static void on_closed(uv_handle_t *handle) {
  runner_t *runner = handle->data;
  if (--runner->open) return;
  free(runner->answer);
  free(runner->task);
  free(runner);
}

static void unlink_runner(runner_t *runner) {
  for (runner_t **at = &runner->loop->runners; *at; at = &(*at)->next) {
    if (*at == runner) {
      *at = runner->next;
      return;
    }
  }
}

static void close_all(runner_t *runner) {
  unlink_runner(runner);
  uv_poll_stop(&runner->poll);
  close(runner->fd);
  uv_close((uv_handle_t *)&runner->process, on_closed);
  uv_close((uv_handle_t *)&runner->poll, on_closed);
  uv_close((uv_handle_t *)&runner->timer, on_closed);
  if (!runner->task) return;
  uv_poll_stop(&runner->steps);
  close(runner->steps_fd);
  uv_close((uv_handle_t *)&runner->steps, on_closed);
}

static void kill_it(runner_t *runner, int why) {
  if (!runner->killed) runner->killed = why;
  if (!runner->exited) uv_process_kill(&runner->process, SIGKILL);
}

static void put_resized(result_head_t const *head, engine_resized_t *ret) {
  static int const why[] = {[0] = ENGINE_RESIZED_AS_WANTED,
                            [WKSP_RESIZED_USED] = ENGINE_RESIZED_USED,
                            [WKSP_RESIZED_TABLE] = ENGINE_RESIZED_TABLE};
  *ret = (engine_resized_t){.size = head->resized_to,
                            .why = why[head->resized_why],
                            .block_gaddr = head->block.gaddr,
                            .block_size = head->block.size,
                            .block_tag = head->block.tag};
}

/* The same for one about checkpoints; its answer is copied. */
static void end_task(runner_t *runner) {
  engine_event_t event = {.kind = ENGINE_EV_WORKER_DONE};
  void *own = NULL;
  event.u.worker_done.job_id = runner->job_id;
  event.u.worker_done.status =
      fate(runner->exit_status, runner->term_signal, runner->killed, &event.u.worker_done.detail);
  if (event.u.worker_done.status == ENGINE_WORKER_OK)
    ckptjob_done(runner->task, runner->ask.op, runner->answer->bytes, runner->len, &event, &own);
  loop_t *loop = runner->loop;
  close_all(runner);
  loop_post(loop, &event, own);
}

static void end_if_done(runner_t *runner) {
  if (!runner->exited || !runner->at_end) return;
  if (runner->task) {
    end_task(runner);
    return;
  }
  engine_event_t event = {.kind = ENGINE_EV_WORKER_DONE};
  answer_t *answer = runner->answer;
  event.u.worker_done.job_id = runner->job_id;
  event.u.worker_done.status =
      runner_verdict(&runner->ask, runner->exit_status, runner->term_signal, runner->killed,
                     answer->bytes, runner->len, &answer->result, &event.u.worker_done.detail);
  event.u.worker_done.result = &answer->result;
  if (runner->ask.op == RESULT_RESIZE && event.u.worker_done.status == ENGINE_WORKER_OK)
    put_resized(answer->result.head, &event.u.worker_done.resized);
  runner->answer = NULL;
  loop_t *loop = runner->loop;
  close_all(runner);
  loop_post(loop, &event, answer);
}

static void on_exit_of(uv_process_t *process, int64_t exit_status, int term_signal) {
  runner_t *runner = process->data;
  runner->exited = 1;
  runner->exit_status = exit_status;
  runner->term_signal = term_signal;
  end_if_done(runner);
}

/* Room for more of the answer: 0, or 1. */
static int grow(runner_t *runner) {
  if (runner->cap - runner->len >= READ_SIZE) return 0;
  size_t cap = runner->cap ? runner->cap * 2 : 2 * READ_SIZE;
  answer_t *bigger = realloc(runner->answer, sizeof *bigger + cap);
  if (!bigger) return 1;
  runner->answer = bigger;
  runner->cap = cap;
  return 0;
}

static void on_answer(uv_poll_t *poll, int status, int events) {
  runner_t *runner = poll->data;
  ssize_t n = -1;
  if (grow(runner)) {
    kill_it(runner, RUNNER_KILLED_LONG);
    n = 0;
  } else {
    n = read(runner->fd, runner->answer->bytes + runner->len, READ_SIZE);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  }
  if (n > 0) {
    runner->len += (size_t)n;
    if (runner->len <= (runner->task ? CKPTASK_ANSWER_MAX : RESULT_MAX)) return;
    kill_it(runner, RUNNER_KILLED_LONG);
  }
  uv_poll_stop(&runner->poll);
  runner->at_end = 1;
  end_if_done(runner);
}

static void on_late(uv_timer_t *timer) {
  kill_it(timer->data, RUNNER_KILLED_LATE);
}

/* It has done something: so it may go on. Of all that came only the last counts. */
static void on_step(uv_poll_t *poll, int status, int events) {
  runner_t *runner = poll->data;
  ckptstep_t steps[64];
  ssize_t n = read(runner->steps_fd, steps, sizeof steps);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < (ssize_t)sizeof *steps) {
    uv_poll_stop(poll);
    return;
  }
  ckptstep_t const *last = &steps[(size_t)n / sizeof *steps - 1];
  if (last->magic != CKPTASK_MAGIC || last->phase > WKSP_CKPT_PHASE_CHECK) return;
  if (!runner->killed) uv_timer_again(&runner->timer);
  engine_event_t event = {.kind = ENGINE_EV_WORKER_PROGRESS};
  event.u.progress.job_id = runner->job_id;
  event.u.progress.phase = (int)last->phase;
  event.u.progress.done_size = last->done;
  event.u.progress.total_size = last->total;
  event.u.progress.written_size = last->written;
  loop_progress(runner->loop);
  loop_post(runner->loop, &event, NULL);
}

/* The question into a new pipe; its reading end, or -1. It fits (CKPTASK_ASK_MAX is far below a
 * pipe's 64 KiB), so this does not block. */
static int write_ask(result_ask_t const *ask, uint64_t const *tags, uint64_t const *leases,
                     ckptask_t const *task) {
  int ends[2];
  uint8_t bytes[CKPTASK_ASK_MAX];
  size_t len = sizeof *ask;
  memcpy(bytes, ask, len);
  if (ask->tag_cnt) memcpy(bytes + len, tags, ask->tag_cnt * sizeof *tags);
  len += ask->tag_cnt * sizeof *tags;
  if (ask->lease_cnt) memcpy(bytes + len, leases, ask->lease_cnt * sizeof *leases);
  len += ask->lease_cnt * sizeof *leases;
  if (task) memcpy(bytes + len, task, sizeof *task);
  if (task) len += sizeof *task;
  if (pipe2(ends, O_CLOEXEC)) return -1;
  ssize_t n = write(ends[1], bytes, len);
  close(ends[1]);
  if (n == (ssize_t)len) return ends[0];
  close(ends[0]);
  return -1;
}

/* A lease that no running worker has. */
static uint64_t free_lease(loop_t const *loop) {
  for (uint64_t lease = RESULT_LEASE_FIRST;; lease++) {
    runner_t const *runner = loop->runners;
    while (runner && runner->ask.lease != lease) runner = runner->next;
    if (!runner) return lease;
  }
}

static unsigned time_ms(engine_effect_t const *effect) {
  uint64_t deadline = effect->u.worker_start.deadline_mono_ns, now = uv_hrtime();
  if (!deadline) return RUNNER_TIME_MS;
  uint64_t ms = deadline > now ? (deadline - now) / 1000000 + 1 : 1;
  return ms < RUNNER_TIME_MAX_MS ? (unsigned)ms : RUNNER_TIME_MAX_MS;
}

/* A worker's ends of what it gets; -1: nothing. */
typedef struct ends {
  int in, out, memory, folder, steps;
} ends_t;

static void close_ends(ends_t const *ends) {
  int const fds[] = {ends->in, ends->out, ends->folder, ends->steps}; /* the memory stays */
  for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
    if (fds[i] >= 0) close(fds[i]);
}

/* 0 or a negative uv error. */
static int spawn(runner_t *runner, ends_t const *ends) {
  static char const name[] = "wkspd", arg[] = WORKER_ARG;
  char *args[] = {(char *)(uintptr_t)name, (char *)(uintptr_t)arg, NULL};
  uv_stdio_container_t stdio[6] = {
    {.flags = UV_INHERIT_FD, .data.fd = ends->in},
    {.flags = UV_INHERIT_FD, .data.fd = ends->out},
#if defined(__SANITIZE_ADDRESS__)
    {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO}, /* for its reports */
#else
    {.flags = UV_IGNORE}, /* /dev/null */
#endif
    {.flags = ends->memory < 0 ? UV_IGNORE : UV_INHERIT_FD, .data.fd = ends->memory},
    {.flags = UV_INHERIT_FD, .data.fd = ends->folder},
    {.flags = UV_INHERIT_FD, .data.fd = ends->steps},
  };
  _Static_assert(WORKER_FD_MEMORY == 3 && WORKER_FD_STORE == 4 && WORKER_FD_STEPS == 5,
                 "stdio is indexed by descriptor");
  uv_process_options_t options = {.exit_cb = on_exit_of,
                                  .file = "/proc/self/exe",
                                  .args = args,
                                  .stdio_count = runner->task ? 6 : 4,
                                  .stdio = stdio};
  return uv_spawn(&runner->loop->uv, &runner->process, &options);
}

/* The question. mem NULL: it is about no memory. */
static void put_ask(runner_t *runner, engine_effect_t const *effect, wsmem_t const *mem,
                    unsigned ms) {
  runner->ask = (result_ask_t){.magic = RESULT_MAGIC,
                               .op = (uint32_t)effect->u.worker_start.op,
                               .page_size = effect->u.worker_start.page_size,
                               .page_gaddr = effect->u.worker_start.page_gaddr,
                               .size = mem ? mem->size : 0,
                               .lease = free_lease(runner->loop),
                               .cpu_s = ms / 1000 + 2,
                               .tag_cnt = (uint32_t)effect->u.worker_start.tag_cnt,
                               .lease_cnt = (uint32_t)effect->u.worker_start.lease_cnt,
                               .holder_only = (uint32_t)effect->u.worker_start.holder_only,
                               .verify = (uint32_t)effect->u.worker_start.verify,
                               .resize_to = effect->u.worker_start.resize_to,
                               .size_min = effect->u.worker_start.size_min,
                               .page_bytes = effect->u.worker_start.page_bytes};
  if (!effect->u.worker_start.ckpt) return;
  runner->ask.tag_cnt = (uint32_t)effect->u.worker_start.ckpt->tag_cnt;
  if (runner->ask.op == RESULT_CKPT_DRILL)
    runner->ask.size = effect->u.worker_start.ckpt->footprint;
}

/* What a worker of checkpoints gets besides. 0, or 1 and why not. */
static int open_task(runner_t *runner, engine_effect_t const *effect, ends_t *ends,
                     char const **ret_why) {
  int steps[2];
  ends->folder = ckptjob_folder(runner->loop, effect, ret_why);
  if (ends->folder < 0) return 1;
  if (pipe2(steps, O_CLOEXEC | O_NONBLOCK)) {
    *ret_why = "no descriptors for its pipes";
    return 1;
  }
  runner->steps_fd = steps[0];
  ends->steps = steps[1];
  return 0;
}

/* The pipes: 0, or 1 and why not; what has been opened is in ends and runner->fd, steps_fd. */
static int open_ends(runner_t *runner, engine_effect_t const *effect, ends_t *ends,
                     char const **ret_why) {
  engine_ckpt_ask_t const *ckpt = effect->u.worker_start.ckpt;
  uint64_t const *tags = ckpt ? ckpt->tags : effect->u.worker_start.tags;
  int out[2];
  if (runner->task && open_task(runner, effect, ends, ret_why)) return 1;
  *ret_why = "no descriptors for its pipes";
  ends->in = write_ask(&runner->ask, tags, effect->u.worker_start.leases, runner->task);
  if (ends->in < 0 || pipe2(out, O_CLOEXEC)) return 1;
  runner->fd = out[0];
  ends->out = out[1];
  fcntl(runner->fd, F_SETFL, O_NONBLOCK);
  return 0;
}

/* Without a descriptor that anybody waits for. */
static void drop_runner(runner_t *runner) {
  if (runner->fd >= 0) close(runner->fd);
  if (runner->steps_fd >= 0) close(runner->steps_fd);
  free(runner->task);
  free(runner->answer);
  free(runner);
}

/* The handles; from here on close_all is the way to end it. 0, or 1 and it is dropped: the kernel
   has no room to watch its pipes. */
static int add_runner(runner_t *runner) {
  loop_t *loop = runner->loop;
  runner->process.data = runner->poll.data = runner->timer.data = runner->steps.data = runner;
  if (uv_poll_init(&loop->uv, &runner->poll, runner->fd)) {
    drop_runner(runner);
    return 1;
  }
  if (runner->task && uv_poll_init(&loop->uv, &runner->steps, runner->steps_fd)) {
    close(runner->fd);
    close(runner->steps_fd);
    runner->open = 1;
    uv_close((uv_handle_t *)&runner->poll, on_closed);
    return 1;
  }
  uv_timer_init(&loop->uv, &runner->timer);
  runner->open = runner->task ? 4 : 3;
  runner->next = loop->runners;
  loop->runners = runner;
  return 0;
}

static void watch(runner_t *runner, unsigned ms) {
  uv_poll_start(&runner->poll, UV_READABLE | UV_DISCONNECT, on_answer);
  if (runner->task) {
    uv_poll_start(&runner->steps, UV_READABLE | UV_DISCONNECT, on_step);
    uv_timer_start(&runner->timer, on_late, RUNNER_STILL_MS, RUNNER_STILL_MS);
  } else {
    uv_timer_start(&runner->timer, on_late, ms, 0);
  }
}

static runner_t *new_runner(loop_t *loop, engine_effect_t const *effect) {
  int is_task = effect->u.worker_start.ckpt != NULL;
  runner_t *runner = calloc(1, sizeof *runner);
  if (!runner) return NULL;
  *runner =
      (runner_t){.loop = loop, .job_id = effect->u.worker_start.job_id, .fd = -1, .steps_fd = -1};
  if (is_task) runner->task = malloc(sizeof *runner->task);
  if (grow(runner) || (is_task && !runner->task)) {
    drop_runner(runner);
    return NULL;
  }
  if (is_task) ckptjob_ask(loop, effect, runner->task);
  return runner;
}

int runner_start(loop_t *loop, engine_effect_t const *effect) {
  uint64_t job_id = effect->u.worker_start.job_id, ws_id = effect->u.worker_start.ws_id;
  wsmem_t const *mem = ws_id ? wsmem_get(loop, ws_id) : NULL;
  ends_t ends = {-1, -1, mem ? mem->fd : -1, -1, -1};
  char const *why;
  if (ws_id && !mem) {
    not_begun(loop, job_id, "its memory is not there");
    return 0;
  }
  runner_t *runner = new_runner(loop, effect);
  if (!runner) return 1;
  unsigned ms = time_ms(effect);
  put_ask(runner, effect, mem, ms);
  if (open_ends(runner, effect, &ends, &why)) {
    close_ends(&ends);
    drop_runner(runner);
    not_begun(loop, job_id, why);
    return 0;
  }
  if (add_runner(runner)) {
    close_ends(&ends);
    not_begun(loop, job_id, "its pipes cannot be watched");
    return 0;
  }
  int err = spawn(runner, &ends);
  close_ends(&ends);
  if (err) {
    log_error(loop->log, "worker", "job=%lu error=%s", job_id, log_text(uv_strerror(err)).text);
    close_all(runner);
    not_begun(loop, job_id, "no process could be started for it");
    return 0;
  }
  watch(runner, ms);
  return 0;
}

void runner_cancel(loop_t *loop, uint64_t job_id) {
  for (runner_t *runner = loop->runners; runner; runner = runner->next) {
    if (runner->job_id == job_id) kill_it(runner, RUNNER_KILLED_CANCEL);
  }
}

void runner_free(loop_t *loop) {
  while (loop->runners) {
    kill_it(loop->runners, RUNNER_KILLED_CANCEL);
    close_all(loop->runners);
  }
}
