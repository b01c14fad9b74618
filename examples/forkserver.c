/* forkserver: a parent that forks workers, which take jobs from a board in a workspace and leave
   their results there.

   A word for each job says who has it. A worker claims one by a CAS from 0 to its pid, puts the
   result into a block from fd_alloc, and publishes it by one store. When it is killed, at whatever
   instruction, the parent sets what it had claimed back to 0 and forks another; nothing else has to
   be done, for the allocator needs no mending. At most the one block that it was at has no owner.

   A child of fork inherits the mapping but no lease, so each worker attaches for itself: by that
   wkspd learns of its death. Each forkserver makes a board of its own. */

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wksp/wksp.h>

#define SERVER_TAG  9UL
#define WORKERS_MAX 64UL
#define JOBS_MAX    100000UL
#define DONE        (1UL << 63) /* else 0: nobody has it, or the pid of who has */

typedef struct job {
  _Atomic ulong state;
  atomic_uint tries;
  uint len;     /* steps of the result */
  ulong result; /* gaddr of len numbers */
} job_t;

typedef struct board {
  ulong alloc; /* gaddr of the fd_alloc that results come from */
  ulong job_cnt;
  ulong kill_each; /* each such job kills the first worker that takes it; 0: none does */
  job_t job[];
} board_t;

static char const *path; /* of the socket, NULL: the default */

static void die(char const *what, char const *why) {
  fprintf(stderr, "forkserver: %s: %s\n", what, why);
  exit(1);
}

/* The job: how a number comes down to 1. Returns the number of steps, writes as many if to. */
static uint collatz(ulong n, ulong *to) {
  uint len = 0;
  for (; n != 1; n = n % 2 ? 3 * n + 1 : n / 2, len++)
    if (to) to[len] = n;
  return len;
}

static void work(fd_wksp_t *wksp, board_t *board, fd_alloc_t *alloc) {
  for (ulong i = 0; i < board->job_cnt; i++) {
    job_t *job = &board->job[i];
    ulong nobody = 0;
    if (!atomic_compare_exchange_strong(&job->state, &nobody, (ulong)getpid())) continue;
    if (!atomic_fetch_add(&job->tries, 1) && board->kill_each && i % board->kill_each == 0)
      raise(SIGKILL);
    uint len = collatz(i + 2, NULL);
    ulong *result = fd_alloc_malloc(alloc, 0, len * sizeof *result);
    if (!result) die("no room for a result", wksp_last_error());
    collatz(i + 2, result);
    job->len = len;
    job->result = fd_wksp_gaddr(wksp, result);
    /* Publishes the two; pairs with the acquire in collect. */
    atomic_store_explicit(&job->state, DONE, memory_order_release);
  }
}

static void start_worker(char const *name, ulong board_gaddr) {
  pid_t const pid = fork();
  if (pid < 0) die("cannot fork", strerror(errno));
  if (pid) return;
  wksp_client_t *client = wksp_client_connect(path);
  fd_wksp_t *wksp = client ? wksp_client_attach(client, name, WKSP_ATTACH_RW) : NULL;
  if (!wksp) die("a worker cannot attach", wksp_last_error());
  board_t *board = fd_wksp_laddr(wksp, board_gaddr);
  fd_alloc_t *alloc = fd_alloc_join(fd_wksp_laddr(wksp, board->alloc), (ulong)getpid());
  if (!alloc) die("a worker cannot join the allocator", wksp_last_error());
  work(wksp, board, alloc);
  fd_alloc_leave(alloc);
  fd_wksp_detach(wksp);
  _exit(0);
}

/* Runs workers until all have ended by themselves. Returns how many were killed. */
static ulong serve(char const *name, ulong worker_cnt, fd_wksp_t *wksp, board_t *board) {
  ulong killed = 0, gaddr = fd_wksp_gaddr(wksp, board);
  for (ulong i = 0; i < worker_cnt; i++) start_worker(name, gaddr);
  int status;
  for (pid_t pid; (pid = wait(&status)) > 0;) { /* until there are none */
    if (WIFEXITED(status) && WEXITSTATUS(status)) die("a worker failed", "see above");
    if (!WIFSIGNALED(status)) continue;
    killed++;
    for (ulong i = 0; i < board->job_cnt; i++)
      if (atomic_load(&board->job[i].state) == (ulong)pid) atomic_store(&board->job[i].state, 0);
    start_worker(name, gaddr);
  }
  return killed;
}

/* Looks at each result and frees it. Returns the steps of all. */
static ulong collect(fd_wksp_t *wksp, board_t *board, fd_alloc_t *alloc) {
  ulong steps = 0;
  for (ulong i = 0; i < board->job_cnt; i++) {
    job_t *job = &board->job[i];
    if (atomic_load_explicit(&job->state, memory_order_acquire) != DONE)
      die("a job is lost", "nobody has done it");
    ulong *result = fd_wksp_laddr(wksp, job->result);
    if (job->len != collatz(i + 2, NULL) || result[0] != i + 2) die("a result", "is wrong");
    steps += job->len;
    fd_alloc_free(alloc, result);
  }
  return steps;
}

int main(int argc, char **argv) {
  if (argc > 2 && !strcmp(argv[1], "--socket")) path = argv[2], argv += 2, argc -= 2;
  ulong const worker_cnt = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
  ulong const job_cnt = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
  if (!worker_cnt || worker_cnt > WORKERS_MAX || !job_cnt || job_cnt > JOBS_MAX || argc > 5) {
    fputs("usage: forkserver [--socket PATH] WORKSPACE WORKERS JOBS [KILL_EACH]\n", stderr);
    return 2;
  }
  wksp_client_t *client = wksp_client_connect(path);
  fd_wksp_t *wksp = client ? wksp_client_attach(client, argv[1], WKSP_ATTACH_RW) : NULL;
  if (!wksp) die("cannot attach", wksp_last_error());
  ulong const size = sizeof(board_t) + job_cnt * sizeof(job_t);
  board_t *board = fd_wksp_alloc_laddr(wksp, 0, size, SERVER_TAG);
  void *shalloc = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), SERVER_TAG);
  fd_alloc_t *alloc = fd_alloc_join(fd_alloc_new(shalloc, SERVER_TAG), 0);
  if (!board || !alloc) die("cannot make a board", wksp_last_error());
  memset(board, 0, size);
  board->alloc = fd_wksp_gaddr(wksp, shalloc);
  board->job_cnt = job_cnt;
  board->kill_each = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
  ulong const killed = serve(argv[1], worker_cnt, wksp, board);
  ulong const steps = collect(wksp, board, alloc);
  printf("%lu jobs done, %lu steps; %lu workers were killed\n", job_cnt, steps, killed);
  fd_alloc_leave(alloc);
  if (!fd_alloc_delete(shalloc)) die("cannot delete the allocator", wksp_last_error());
  fd_wksp_free_laddr(wksp, shalloc);
  fd_wksp_free_laddr(wksp, board);
  fd_wksp_detach(wksp);
  wksp_client_close(client);
  return 0;
}
