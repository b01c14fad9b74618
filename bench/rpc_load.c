/* What many clients do to one: connections that are held, requests while the daemon is at something
   large, a user who floods, and workspaces by the thousands. Each measure is of pairs taken in
   turn, quiet and loaded, so that what else the machine does is in both. */

#include "rpc_load.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wksp/wksp.h"

/* Connections of one process: its own limit of descriptors is as low as the daemon's. */
#define HELD_MAX 4000

#define TAIL_ROUNDS  5
#define TAIL_IDLE    1000
#define TAIL_NS      1000000000UL
#define TAIL_STEP_NS 50000000UL
#define TAIL_CREATE  (1UL << 30)   /* bytes that are made meanwhile */
#define TAIL_DATA    (128UL << 20) /* that are checkpointed meanwhile */

#define FLOOD_ROUNDS 11
#define FLOOD_NS     300000000UL
#define FLOOD_CONNS  64
#define FLOOD_DEPTH  30 /* requests outstanding on each */

#define MANY_SIZE (128UL << 10)
#define MANY_PART 10 /* the first and last tenth are compared */
#define MANY_NS   90000000000UL

#define LEASE_ROUNDS 31
#define LEASE_MAX_MS 1000 /* the goal is 100; what is beyond this is broken, not slow */

enum { EVENT_ATTACHED = 3, EVENT_DETACHED = 4 }; /* proto/wkspd.proto */

/* Connections held
 * -----------------------------------------------------------------------------------------------
 */

typedef struct holder {
  pid_t pid;
  int end; /* closed: it lets go */
} holder_t;

static holder_t hold(char const *path, int cnt) {
  static struct pollfd fds[HELD_MAX];
  int ready[2], end[2];
  char byte = 0;
  if (pipe(ready) || pipe(end)) bench_die("pipe: %s", strerror(errno));
  holder_t holder = {fork(), end[1]};
  if (holder.pid) {
    close(ready[1]);
    close(end[0]);
    if (read(ready[0], &byte, 1) != 1) bench_die("%d connections are not held", cnt);
    close(ready[0]);
    return holder;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  close(end[1]);
  conn_t last = {.fd = -1};
  for (int i = 0; i < cnt; i++) {
    last = rpc_dial(path);
    fds[i] = (struct pollfd){.fd = last.fd, .events = POLLIN};
  }
  rpc_call(&last, rpc_about("Get", "bench")); /* so all before it have been accepted, or closed */
  if (poll(fds, (nfds_t)cnt, 0)) bench_die("connections are refused");
  if (write(ready[1], &byte, 1) != 1 || read(end[0], &byte, 1)) _exit(2);
  _exit(0);
}

static void let_go(holder_t holder) {
  close(holder.end);
  waitpid(holder.pid, NULL, 0);
}

void rpc_idle(char const *path, pid_t daemon, int cnt) {
  holder_t holders[8];
  int holder_cnt = 0;
  conn_t conn = rpc_dial(path);
  rpc_call(&conn, rpc_about("Get", "bench"));
  long before = rpc_resident(daemon);
  for (int left = cnt; left > 0; left -= HELD_MAX)
    holders[holder_cnt++] = hold(path, left < HELD_MAX ? left : HELD_MAX);
  long after = rpc_resident(daemon);
  printf("%d idle connections of %d processes: %.2f KiB of the daemon's memory each (%ld KiB "
         "before, %ld after)\n",
         cnt, holder_cnt, (double)(after - before) / cnt, before, after);
  while (holder_cnt) let_go(holders[--holder_cnt]);
  rpc_call(&conn, rpc_about("Get", "bench"));
  close(conn.fd);
}

/* The slowest of a thousand
 * -----------------------------------------------------------------------------------------------
 */

typedef struct times {
  double *ns;
  size_t cnt, cap;
} times_t;

static void on_answer(void *arg, uint64_t took_ns) {
  times_t *times = arg;
  if (times->cnt == times->cap) {
    times->cap = times->cap ? 2 * times->cap : 1 << 16;
    times->ns = realloc(times->ns, times->cap * sizeof *times->ns);
    if (!times->ns) bench_die("no memory");
  }
  times->ns[times->cnt++] = (double)took_ns;
}

/* In microseconds; empties them. */
static double slowest(times_t *times, double share) {
  double us = times->cnt ? bench_quantile(times->ns, times->cnt, share) / 1000 : 0;
  times->cnt = 0;
  return us;
}

static pid_t ctl(char const *path, char const *const *args) {
  char const *argv[16] = {"wkspctl", "--socket", path, "--timeout", "10m"};
  int cnt = 5;
  while (*args) argv[cnt++] = *args++;
  argv[cnt] = NULL;
  pid_t pid = fork();
  if (pid) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(2);
  execv(BENCH_WKSPCTL, (char **)(uintptr_t)argv);
  _exit(2);
}

static void must_end(pid_t pid, char const *what) {
  int status;
  if (waitpid(pid, &status, 0) != pid || status) bench_die("%s failed", what);
}

/* A workspace with room for so many bytes; where they are. */
static uint64_t *data_make(char const *path, fd_wksp_t **ret_wksp) {
  wksp_client_t *client = wksp_client_connect(path);
  wksp_create_t create = {.name = "tail-data", .size = TAIL_DATA + (16UL << 20), .page_size = 4096};
  if (!client || wksp_client_create(client, &create, NULL)) bench_die("%s", wksp_last_error());
  *ret_wksp = wksp_client_attach(client, "tail-data", WKSP_ATTACH_RW);
  ulong gaddr = *ret_wksp ? fd_wksp_alloc(*ret_wksp, 4096, TAIL_DATA, 1) : 0;
  if (!gaddr) bench_die("%s", wksp_last_error());
  wksp_client_close(client);
  return fd_wksp_laddr(*ret_wksp, gaddr);
}

/* What no codec makes small, and no checkpoint before has. */
static void data_change(uint64_t *words, int round) {
  bench_rng_t rng = bench_rng((uint64_t)round + 1, "tail");
  for (size_t i = 0; i < TAIL_DATA / sizeof *words; i++) words[i] = bench_next(&rng);
}

/* Something large is made and something large checkpointed; the slices go on until both are done.
 */
static double loaded(side_t *side, times_t *times) {
  static char const *const create[] = {"create", "tail-big", "--size", "1G", "--page", "4k", NULL};
  static char const *const take[] = {"checkpoint", "tail-data", "--wait", NULL};
  pid_t made = ctl(side->path, create), taken = ctl(side->path, take);
  int status = 0, bad = 0;
  for (int left = 2; left;) {
    rpc_slice(side, TAIL_STEP_NS, on_answer, times);
    for (pid_t pid; left && (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      left -= pid == made || pid == taken;
      bad |= status;
    }
  }
  if (bad) bench_die("wkspctl failed");
  must_end(ctl(side->path, (char const *[]){"rm", "tail-big", NULL}), "wkspctl rm");
  return slowest(times, 0.999);
}

void rpc_tail(side_t *side) {
  double ratios[TAIL_ROUNDS], quiet[TAIL_ROUNDS], busy[TAIL_ROUNDS];
  times_t times = {0};
  fd_wksp_t *wksp;
  uint64_t *words = data_make(side->path, &wksp);
  holder_t holder = hold(side->path, TAIL_IDLE);
  rpc_side_open(side, RPC_BUSY_MAX);
  rpc_slice(side, TAIL_NS, NULL, NULL);
  for (int i = 0; i < TAIL_ROUNDS; i++) {
    data_change(words, i);
    rpc_slice(side, TAIL_NS, on_answer, &times);
    quiet[i] = slowest(&times, 0.999);
    busy[i] = loaded(side, &times);
    ratios[i] = busy[i] / quiet[i];
  }
  rpc_side_close(side);
  let_go(holder);
  fd_wksp_detach(wksp);
  must_end(ctl(side->path, (char const *[]){"rm", "tail-data", NULL}), "wkspctl rm");
  printf(
      "Get at 99.9 %%, %d idle and %d busy connections: %.0f us; while 1 GiB is made and 128 MiB "
      "are checkpointed %.0f us; ratio %.2f (%.2f to %.2f)\n",
      TAIL_IDLE, RPC_BUSY_MAX, bench_quantile(quiet, TAIL_ROUNDS, 0.5),
      bench_quantile(busy, TAIL_ROUNDS, 0.5), bench_quantile(ratios, TAIL_ROUNDS, 0.5),
      bench_quantile(ratios, TAIL_ROUNDS, 0.0), bench_quantile(ratios, TAIL_ROUNDS, 1.0));
  free(times.ns);
}

/* A user who floods
 * -----------------------------------------------------------------------------------------------
 */

/* What the two users and their parent share. */
typedef struct flood {
  _Atomic int wanted, is_on;
  _Atomic uint64_t cnt;
} flood_t;

static void become(uid_t uid) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
    bench_die("cannot become user %u: %s", uid, strerror(errno));
}

static void flood_send(conn_t *conn, message_t *frame, size_t answer) {
  for (int i = 0; i < FLOOD_DEPTH; i++) rpc_ask(conn, frame);
  conn->left = FLOOD_DEPTH * answer;
}

/* Requests without an end while they are wanted. */
static void flood(side_t *side, flood_t *shared) {
  unsigned char bytes[16384];
  rpc_side_open(side, FLOOD_CONNS);
  for (;;) {
    while (!shared->wanted) poll(NULL, 0, 1);
    int open = side->cnt;
    for (int i = 0; i < side->cnt; i++) flood_send(&side->conns[i], &side->frame, side->answer);
    shared->is_on = 1;
    while (open) {
      struct epoll_event events[FLOOD_CONNS];
      int cnt = epoll_wait(side->epoll, events, FLOOD_CONNS, -1);
      for (int i = 0; i < cnt; i++) {
        conn_t *conn = &side->conns[events[i].data.u32];
        ssize_t n = recv(conn->fd, bytes, sizeof bytes, 0);
        if (n <= 0) bench_die("the flood was cut off");
        conn->left -= (size_t)n;
        if (conn->left) continue;
        shared->cnt += FLOOD_DEPTH;
        if (shared->wanted)
          flood_send(conn, &side->frame, side->answer);
        else
          open--;
      }
    }
    shared->is_on = 0;
  }
}

static void flooded(side_t *side, flood_t *shared) {
  double ratios[FLOOD_ROUNDS], alone[FLOOD_ROUNDS], beside[FLOOD_ROUNDS], flood_rate[FLOOD_ROUNDS];
  rpc_side_open(side, 1);
  rpc_slice(side, FLOOD_NS, NULL, NULL);
  for (int i = 0; i < FLOOD_ROUNDS; i++) {
    alone[i] = 1e6 / rpc_slice(side, FLOOD_NS, NULL, NULL);
    shared->wanted = 1;
    while (!shared->is_on) poll(NULL, 0, 1);
    uint64_t cnt = shared->cnt, since = bench_now();
    beside[i] = 1e6 / rpc_slice(side, FLOOD_NS, NULL, NULL);
    flood_rate[i] = (double)(shared->cnt - cnt) * 1e9 / (double)(bench_now() - since);
    shared->wanted = 0;
    while (shared->is_on) poll(NULL, 0, 1);
    ratios[i] = beside[i] / alone[i];
  }
  printf("Get of one user %.1f us; beside another's flood of %.0f/s %.1f us; ratio %.2f (%.2f to "
         "%.2f)\n",
         bench_quantile(alone, FLOOD_ROUNDS, 0.5), bench_quantile(flood_rate, FLOOD_ROUNDS, 0.5),
         bench_quantile(beside, FLOOD_ROUNDS, 0.5), bench_quantile(ratios, FLOOD_ROUNDS, 0.5),
         bench_quantile(ratios, FLOOD_ROUNDS, 0.0), bench_quantile(ratios, FLOOD_ROUNDS, 1.0));
  fflush(stdout);
}

void rpc_flood(side_t *side) {
  if (geteuid()) {
    puts("a user who floods: only root can be two users");
    return;
  }
  flood_t *shared =
      mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) bench_die("mmap: %s", strerror(errno));
  fflush(stdout);
  pid_t one = fork();
  if (!one) {
    become(61101);
    flood(side, shared);
  }
  pid_t other = fork();
  if (!other) {
    become(61102);
    flooded(side, shared);
    _exit(0);
  }
  must_end(other, "the user beside the flood");
  kill(one, SIGKILL);
  waitpid(one, NULL, 0);
  munmap(shared, sizeof *shared);
}

/* Leases of the dead
 * -----------------------------------------------------------------------------------------------
 */

/* Reads events until one of that kind; each is a frame whose first field is the kind. */
static void until_event(conn_t *watch, int kind) {
  unsigned char bytes[256];
  do {
    if (recv(watch->fd, bytes, 10, MSG_WAITALL) != 10) bench_die("the watch has ended");
    size_t len = (size_t)bytes[2] << 8 | bytes[3];
    if (len < 2 || len > sizeof bytes || recv(watch->fd, bytes, len, MSG_WAITALL) != (ssize_t)len)
      bench_die("an event of %zu bytes", len);
  } while (bytes[0] != 8 || bytes[1] != kind);
}

/* A process that has attached; its end is not waited for. */
static pid_t attached(char const *path) {
  pid_t pid = fork();
  if (pid) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  wksp_client_t *client = wksp_client_connect(path);
  if (!client || !wksp_client_attach(client, "bench", WKSP_ATTACH_RW))
    bench_die("%s", wksp_last_error());
  for (;;) pause();
}

void rpc_lease(char const *path) {
  double ms[LEASE_ROUNDS];
  conn_t watch = rpc_dial(path);
  message_t frame = rpc_about("Watch", "bench");
  frame.bytes[9] = 1; /* it is asked once */
  rpc_ask(&watch, &frame);
  for (int i = 0; i < LEASE_ROUNDS; i++) {
    pid_t pid = attached(path);
    until_event(&watch, EVENT_ATTACHED);
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    if (end.fd < 0) bench_die("pidfd_open: %s", strerror(errno));
    kill(pid, SIGKILL);
    poll(&end, 1, -1);
    uint64_t since = bench_now();
    until_event(&watch, EVENT_DETACHED);
    ms[i] = (double)(bench_now() - since) / 1e6;
    close(end.fd);
    waitpid(pid, NULL, 0);
  }
  close(watch.fd);
  double most = bench_quantile(ms, LEASE_ROUNDS, 1.0);
  printf(
      "lease of a killed process ends after its death: %.2f ms, at most %.2f ms of %d (goal 100)\n",
      bench_quantile(ms, LEASE_ROUNDS, 0.5), most, LEASE_ROUNDS);
  if (most > LEASE_MAX_MS) bench_die("a lease outlived its process by %.0f ms", most);
}

/* Workspaces by the thousands
 * -----------------------------------------------------------------------------------------------
 */

/* Time of an operation in the last part, by that in the first. */
static double growth(double *us, int cnt) {
  int part = cnt / MANY_PART;
  double first = bench_quantile(us, (size_t)part, 0.5);
  return bench_quantile(us + cnt - part, (size_t)part, 0.5) / first;
}

void rpc_many(char const *path, int cnt) {
  static char const *const methods[] = {"Create", "Get", "Delete"};
  double *us = bench_alloc((size_t)cnt, sizeof *us);
  conn_t conn = rpc_dial(path);
  int wanted = cnt;
  uint64_t begun = bench_now();
  for (int k = 0; k < 3; k++) {
    for (int i = 0; i < cnt; i++) {
      char name[24];
      snprintf(name, sizeof name, "many-%d", i);
      uint64_t since = bench_now();
      rpc_call(&conn, k ? rpc_about(methods[k], name) : rpc_create(name, MANY_SIZE));
      us[i] = (double)(bench_now() - since) / 1000;
      if (!k && i >= MANY_PART * MANY_PART && since - begun > MANY_NS) cnt = i + 1;
    }
    if (!k) printf("%d workspaces%s:", cnt, cnt < wanted ? " (the time was over)" : "");
    double last = growth(us, cnt), all = bench_quantile(us, (size_t)cnt, 0.5);
    printf("%s %s %.0f us each, the last tenth %.2f of the first", k ? ";" : "", methods[k], all,
           last);
  }
  printf("\n");
  close(conn.fd);
  free(us);
}
