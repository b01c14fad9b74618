/* The problem: a worker reads memory that strangers write; it may crash, hang, lie or talk for
   ever, and the daemon must not care.

   The model: the question is written into a pipe before the worker starts, the answer is read from
   another as it comes. A worker has ended when it is reaped and its pipe is at the end; then what
   came is judged once (runner_verdict) and posted.

   Refuses: to reuse workers. A new process costs a millisecond and starts clean. */

#include "daemon/shell/runner.h"

#include "core/part.h"
#include "daemon/child/worker.h"
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
  int open; /* handles not closed yet */
  int fd;   /* reading end of the answer */
  int exited, at_end;
  int killed; /* RUNNER_KILLED_* */
  int64_t exit_status;
  int term_signal;
  answer_t *answer;
  size_t len, cap;
} runner_t;

int runner_verdict(result_ask_t const *ask, int64_t exit_status, int term_signal, int killed,
                   void const *bytes, size_t len, result_t *ret_result, char const **ret_detail) {
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
  char const *why;
  if (exit_status || !result_check(ask, bytes, len, ret_result, &why)) {
    *ret_detail = exit_status ? "it ended without an answer" : why;
    return ENGINE_WORKER_GARBAGE;
  }
  result_head_t const *head = ret_result->head;
  if (head->status) *ret_detail = head->sentence;
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

static void end_if_done(runner_t *runner) {
  if (!runner->exited || !runner->at_end) return;
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
    if (runner->len <= RESULT_MAX) return;
    kill_it(runner, RUNNER_KILLED_LONG);
  }
  uv_poll_stop(&runner->poll);
  runner->at_end = 1;
  end_if_done(runner);
}

static void on_late(uv_timer_t *timer) {
  kill_it(timer->data, RUNNER_KILLED_LATE);
}

/* The question into a new pipe; its reading end, or -1. It fits (RESULT_ASK_MAX is far below a
 * pipe's 64 KiB), so this does not block. */
static int write_ask(result_ask_t const *ask, uint64_t const *tags, uint64_t const *leases) {
  int ends[2];
  uint8_t bytes[RESULT_ASK_MAX];
  size_t len = sizeof *ask;
  memcpy(bytes, ask, len);
  if (ask->tag_cnt) memcpy(bytes + len, tags, ask->tag_cnt * sizeof *tags);
  len += ask->tag_cnt * sizeof *tags;
  if (ask->lease_cnt) memcpy(bytes + len, leases, ask->lease_cnt * sizeof *leases);
  len += ask->lease_cnt * sizeof *leases;
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

/* 0 or a negative uv error. in, out: the worker's ends of the pipes. */
static int spawn(runner_t *runner, int in, int out, int memory_fd) {
  static char const name[] = "wkspd", arg[] = WORKER_ARG;
  char *args[] = {(char *)(uintptr_t)name, (char *)(uintptr_t)arg, NULL};
  uv_stdio_container_t stdio[4] = {
    {.flags = UV_INHERIT_FD, .data.fd = in},
    {.flags = UV_INHERIT_FD, .data.fd = out},
#if defined(__SANITIZE_ADDRESS__)
    {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO}, /* for its reports */
#else
    {.flags = UV_IGNORE}, /* /dev/null */
#endif
    {.flags = UV_INHERIT_FD, .data.fd = memory_fd},
  };
  _Static_assert(WORKER_FD_MEMORY == 3, "stdio is indexed by descriptor");
  uv_process_options_t options = {.exit_cb = on_exit_of,
                                  .file = "/proc/self/exe",
                                  .args = args,
                                  .stdio_count = 4,
                                  .stdio = stdio};
  return uv_spawn(&runner->loop->uv, &runner->process, &options);
}

int runner_start(loop_t *loop, engine_effect_t const *effect) {
  wsmem_t const *mem = wsmem_get(loop, effect->u.worker_start.ws_id);
  uint64_t job_id = effect->u.worker_start.job_id;
  if (!mem) {
    not_begun(loop, job_id, "its memory is not there");
    return 0;
  }
  runner_t *runner = calloc(1, sizeof *runner);
  if (!runner || grow(runner)) {
    free(runner);
    return 1;
  }
  unsigned ms = time_ms(effect);
  runner->loop = loop;
  runner->job_id = job_id;
  runner->ask = (result_ask_t){.magic = RESULT_MAGIC,
                               .op = (uint32_t)effect->u.worker_start.op,
                               .page_size = effect->u.worker_start.page_size,
                               .page_gaddr = effect->u.worker_start.page_gaddr,
                               .size = mem->size,
                               .lease = free_lease(loop),
                               .cpu_s = ms / 1000 + 2,
                               .tag_cnt = (uint32_t)effect->u.worker_start.tag_cnt,
                               .lease_cnt = (uint32_t)effect->u.worker_start.lease_cnt,
                               .holder_only = (uint32_t)effect->u.worker_start.holder_only,
                               .resize_to = effect->u.worker_start.resize_to,
                               .size_min = effect->u.worker_start.size_min,
                               .page_bytes = effect->u.worker_start.page_bytes};
  int in = write_ask(&runner->ask, effect->u.worker_start.tags, effect->u.worker_start.leases);
  int ends[2] = {-1, -1};
  if (in < 0 || pipe2(ends, O_CLOEXEC)) {
    if (in >= 0) close(in);
    free(runner->answer);
    free(runner);
    not_begun(loop, job_id, "no descriptors for its pipes");
    return 0;
  }
  runner->fd = ends[0];
  fcntl(runner->fd, F_SETFL, O_NONBLOCK);
  runner->process.data = runner->poll.data = runner->timer.data = runner;
  uv_poll_init(&loop->uv, &runner->poll, runner->fd);
  uv_timer_init(&loop->uv, &runner->timer);
  runner->open = 3;
  runner->next = loop->runners;
  loop->runners = runner;
  int err = spawn(runner, in, ends[1], mem->fd);
  close(in);
  close(ends[1]);
  if (err) {
    log_error(loop->log, "worker", "job=%lu error=%s", job_id, log_text(uv_strerror(err)).text);
    close_all(runner);
    not_begun(loop, job_id, "no process could be started for it");
    return 0;
  }
  uv_poll_start(&runner->poll, UV_READABLE | UV_DISCONNECT, on_answer);
  uv_timer_start(&runner->timer, on_late, ms, 0);
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
