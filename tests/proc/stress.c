/* stress: processes that allocate and free in one workspace while one of them, and the daemon, are
   killed again and again.

   The model. A board in the workspace holds places, each 0 or the gaddr of a block. Two workers
   take blocks out of places (checking every byte), free them, and put new ones in; blocks made by
   one are freed by the other. Worker 0 survives. Worker 1 is killed at a random moment and
   replaced; in every other round it is stopped first, so that the driver sees from its slot whether
   it stands inside an allocator call, and most of those kills are made to hit there.

   After each kill the driver measures how long worker 0 takes to go on (the time in which it, or
   the driver, was ready to run but had no processor is the machine's and is told apart), asks it to
   hold still outside of the allocator, and compares: what fd_alloc_walk finds is exactly what the
   places hold, but for at most one block, which either was in the dead one's hand or is a suspect;
   every block is as it was written; fd_wksp_verify finds nothing. In the end everything is freed
   and fd_alloc_is_empty.

   Refuses to: judge. It prints figures, and a sentence with exit status 1 when something is wrong
   that no figure shows; kv_kill.py says what is enough. */

#include "children.h"

#include "core/atomic.h"
#include "core/call.h"

#include "wksp/wksp.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TAG        77UL
#define PLACES     1024
#define LIVE_MAX   (4 * PLACES) /* blocks that a walk may find before it is taken for damage */
#define GO_ON_OPS  20           /* operations that count as going on */
#define LATE_NS    200000000UL
#define WAIT_NS    20000000000UL
#define AIM_MAX    2000 /* stops in search of a moment inside a call */
#define SURVIVOR   0
#define VICTIM     1
#define LOCKED_MAX 1000 /* a malloc that times out since the lock's holder is stopped: tries */

typedef struct board {
  ulong alloc;           /* gaddr */
  _Atomic ulong ops[2];  /* done by each worker */
  _Atomic ulong hand[2]; /* what a worker is about to take out of a place and free */
  _Atomic uint pause;    /* 1: worker 0 holds still */
  _Atomic uint paused;   /* 1: it does */
  _Atomic uint stop;     /* 1: workers end */
  _Atomic ulong place[PLACES];
} board_t;

typedef struct driver {
  char const *self, *name; /* this program, the workspace */
  wksp_client_t *client;
  fd_wksp_t *wksp;
  board_t *board;
  fd_alloc_t *alloc;
  ulong seed;
  pid_t pid[2];
  ulong kills, inside, daemon_kills, freed, suspects, late, slowest_ns, slowest_all_ns;
} driver_t;

static ulong now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (ulong)t.tv_sec * 1000000000UL + (ulong)t.tv_nsec;
}

/* Blocks -------------------------------------------------------------------------------------- */

static ulong random_size(void) {
  ulong kind = rnd(100);
  if (kind < 80) return 16 + rnd(1008);
  if (kind < 96) return 1024 + rnd(15 * 1024);
  return 16384 + rnd(240 * 1024);
}

static void block_check(fd_wksp_t *wksp, ulong gaddr, char const *when) {
  ulong const *block = fd_wksp_laddr(wksp, gaddr);
  if (!block) die("%s: place holds %lu, which is no address", when, gaddr);
  if (block[0] != gaddr || block[1] < 16 || block[1] > 1UL << 20)
    die("%s: block %lu says it is %lu of %lu bytes", when, gaddr, block[0], block[1]);
  uchar const *byte = (uchar const *)(block + 2);
  for (ulong i = 0; i < block[1] - 16; i++)
    if (byte[i] != (gaddr >> 4 & 0xff))
      die("%s: block %lu: byte %lu of %lu is %u", when, gaddr, i + 16, block[1], byte[i]);
}

/* Workers ------------------------------------------------------------------------------------- */

static void futex_wait(_Atomic uint *word, uint value) {
  syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint *word) {
  syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static ulong *worker_malloc(fd_alloc_t *alloc, ulong size) {
  for (int i = 0; i < LOCKED_MAX; i++) {
    ulong *block = fd_alloc_malloc(alloc, 0, size);
    if (block) return block;
    if (wksp_last_error_code() != WKSP_E_TIMEDOUT) break;
  }
  die("malloc of %lu bytes", size);
}

static board_t *board_of(fd_wksp_t *wksp) {
  fd_wksp_root_t root;
  if (fd_wksp_root_find(wksp, "stress", &root)) die("no board");
  return fd_wksp_laddr(wksp, root.gaddr);
}

static int work(char const *name, int who, ulong seed) {
  random_state = seed | 1;
  wksp_client_t *client = wksp_client_connect(NULL);
  fd_wksp_t *wksp = client ? wksp_client_attach(client, name, WKSP_ATTACH_RW) : NULL;
  if (!wksp) die("attach");
  board_t *board = board_of(wksp);
  fd_alloc_t *alloc = fd_alloc_join(fd_wksp_laddr(wksp, board->alloc), (ulong)who);
  if (!alloc) die("join");
  while (!board->stop) {
    if (who == SURVIVOR && board->pause) {
      board->paused = 1;
      futex_wake(&board->paused);
      while (board->pause) futex_wait(&board->pause, 1);
      board->paused = 0;
    }
    _Atomic ulong *place = &board->place[rnd(PLACES)];
    ulong gaddr = *place;
    if (gaddr) {
      board->hand[who] = gaddr;
      if (atomic_compare_exchange_strong(place, &gaddr, 0)) {
        block_check(wksp, gaddr, who == SURVIVOR ? "survivor" : "victim");
        fd_alloc_free(alloc, fd_wksp_laddr_fast(wksp, gaddr));
      }
      board->hand[who] = 0;
    } else {
      ulong size = random_size(), *block = worker_malloc(alloc, size);
      ulong made = fd_wksp_gaddr_fast(wksp, block);
      block_fill(block, made, size);
      if (!atomic_compare_exchange_strong(place, &gaddr, made)) fd_alloc_free(alloc, block);
    }
    board->ops[who]++;
  }
  fd_alloc_leave(alloc);
  fd_wksp_detach(wksp);
  wksp_client_close(client);
  return 0;
}

/* The driver ---------------------------------------------------------------------------------- */

static void start(driver_t *d, int who) {
  char who_text[8], seed_text[32];
  snprintf(who_text, sizeof who_text, "%d", who);
  snprintf(seed_text, sizeof seed_text, "%lu", rnd(ULONG_MAX >> 12) + 1);
  d->pid[who] = fork();
  if (d->pid[who] < 0) die("fork: %s", strerror(errno));
  if (d->pid[who]) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  execl(d->self, d->self, "work", d->name, who_text, seed_text, (char *)NULL);
  _exit(127);
}

/* Waits until the worker has done cnt more operations than base; returns when, in ns since t0. */
static ulong wait_ops(driver_t *d, int who, ulong base, ulong cnt, ulong t0) {
  while (d->board->ops[who] < base + cnt) {
    if (waitpid(d->pid[who], NULL, WNOHANG) == d->pid[who]) die("worker %d has ended", who);
    if (now_ns() - t0 > WAIT_NS) die("worker %d does not go on", who);
    sched_yield();
  }
  return now_ns() - t0;
}

/* Worker 0 and the driver at the moment of a kill. */
typedef struct moment {
  ulong ops, waited, t0;
} moment_t;

static moment_t moment_now(driver_t const *d) {
  return (moment_t){.ops = d->board->ops[SURVIVOR],
                    .waited = waited_ns(d->pid[SURVIVOR]) + waited_ns(getpid()),
                    .t0 = now_ns()};
}

/* Waits until worker 0 goes on, and notes how long it took. */
static void survivor_goes_on(driver_t *d, moment_t since) {
  ulong took = wait_ops(d, SURVIVOR, since.ops, GO_ON_OPS, since.t0);
  ulong waited = waited_ns(d->pid[SURVIVOR]) + waited_ns(getpid()) - since.waited;
  if (took > d->slowest_all_ns) d->slowest_all_ns = took;
  took = took > waited ? took - waited : 0;
  if (took > d->slowest_ns) d->slowest_ns = took;
  d->late += took > LATE_NS;
}

/* 1 if the process stands inside a call, by what its slot says. */
static int inside(driver_t const *d, pid_t pid) {
  for (uint i = 0; i < d->wksp->slot_max; i++) {
    wksp__slot_t const *slot = &wksp__slots(d->wksp)[i];
    if (__atomic_load_n(&slot->pid, __ATOMIC_ACQUIRE) != (uint)pid) continue;
    if (__atomic_load_n(&slot->in, __ATOMIC_ACQUIRE) !=
            __atomic_load_n(&slot->out, __ATOMIC_ACQUIRE) ||
        (__atomic_load_n(&slot->flight, __ATOMIC_ACQUIRE) & WKSP_FLIGHT_BUSY))
      return 1;
  }
  return 0;
}

/* Lets the victim run to a random moment. */
static void random_moment(driver_t *d, ulong ops) {
  wait_ops(d, VICTIM, d->board->ops[VICTIM], 1 + rnd(ops), now_ns());
  for (ulong i = rnd(5000); i; i--) wksp__compiler_fence();
}

/* Stops the victim until it is found inside a call, at most AIM_MAX times. */
static void aim(driver_t *d) {
  pid_t pid = d->pid[VICTIM];
  for (int i = 0; i < AIM_MAX; i++) {
    siginfo_t info;
    if (kill(pid, SIGSTOP) || waitid(P_PID, (id_t)pid, &info, WSTOPPED)) die("stop");
    if (inside(d, pid)) return;
    if (kill(pid, SIGCONT)) die("continue");
    random_moment(d, 3);
  }
}

static void kill_victim(driver_t *d, int aimed) {
  random_moment(d, 300);
  if (aimed) aim(d);
  moment_t before = moment_now(d);
  int status;
  if (kill(d->pid[VICTIM], SIGKILL) || waitpid(d->pid[VICTIM], &status, 0) < 0) die("kill");
  if (!WIFSIGNALED(status)) die("the victim ended by itself, status %d", status);
  d->inside += (ulong)inside(d, d->pid[VICTIM]);
  d->kills++;
  survivor_goes_on(d, before);
}

static void kill_daemon(driver_t *d) {
  static int last;
  wksp_status_t status;
  if (wksp_client_status(d->client, &status)) die("status");
  if (status.pid == last) die("the daemon has still the process id %d", last);
  last = status.pid;
  moment_t before = moment_now(d);
  if (kill(last, SIGKILL)) die("kill of the daemon, process %d: %s", last, strerror(errno));
  d->daemon_kills++;
  survivor_goes_on(d, before);
}

/* Checking ------------------------------------------------------------------------------------ */

typedef struct live {
  ulong cnt;
  fd_alloc_block_t block[LIVE_MAX];
} live_t;

static int live_add(void *arg, fd_alloc_block_t const *block) {
  live_t *live = arg;
  if (live->cnt == LIVE_MAX) return 1;
  live->block[live->cnt++] = *block;
  return 0;
}

static void tell_finding(void *arg, char const *sentence) {
  fprintf(stderr, "stress: verify: %s\n", sentence);
}

/* Nobody works: the places and the allocator agree. Frees what nobody has. */
static void check(driver_t *d) {
  static live_t live;
  static ulong held[PLACES];
  ulong held_cnt = 0, at = 0, extra = 0;
  for (int i = 0; i < PLACES; i++) {
    ulong gaddr = d->board->place[i];
    if (!gaddr) continue;
    block_check(d->wksp, gaddr, "check");
    held[held_cnt++] = gaddr;
  }
  qsort(held, held_cnt, sizeof *held, by_value);
  live.cnt = 0;
  if (fd_alloc_walk(d->alloc, live_add, &live)) die("walk");
  for (ulong i = 0; i < live.cnt; i++) {
    fd_alloc_block_t const *block = &live.block[i];
    if (at < held_cnt && held[at] == block->gaddr) {
      ulong const *words = fd_wksp_laddr_fast(d->wksp, block->gaddr);
      if (words[1] > block->size) die("block %lu: more than %lu bytes", block->gaddr, block->size);
      at++;
      continue;
    }
    if (at < held_cnt && held[at] < block->gaddr) break;
    int suspect = block->kind == FD_ALLOC_BLOCK_SUSPECT;
    if (!suspect && block->gaddr != d->board->hand[VICTIM])
      die("block %lu of %lu bytes is live, known to nobody, and no suspect", block->gaddr,
          block->size);
    d->suspects += (ulong)suspect;
    extra++;
    fd_alloc_free(d->alloc, fd_wksp_laddr_fast(d->wksp, block->gaddr));
  }
  if (at < held_cnt) die("block %lu is in a place, but not live", held[at]);
  if (extra > 1) die("one kill has lost %lu blocks", extra);
  d->freed += extra;
  d->board->hand[VICTIM] = 0;
  if (fd_wksp_verify(d->wksp, tell_finding, NULL)) die("verify");
}

static void hold_still(driver_t *d) {
  d->board->pause = 1;
  for (ulong t0 = now_ns(); !d->board->paused; sched_yield())
    if (now_ns() - t0 > WAIT_NS) die("worker 0 does not hold still");
}

static void go_on(driver_t *d) {
  d->board->pause = 0;
  futex_wake(&d->board->pause);
  for (ulong t0 = now_ns(); d->board->paused; sched_yield())
    if (now_ns() - t0 > WAIT_NS) die("worker 0 does not go on after a pause");
}

static void finish(driver_t *d) {
  d->board->stop = 1;
  for (int who = 0; who < 2; who++) {
    int status;
    if (waitpid(d->pid[who], &status, 0) < 0 || status) die("worker %d: status %d", who, status);
  }
  check(d);
  for (int i = 0; i < PLACES; i++) {
    ulong gaddr = d->board->place[i];
    if (gaddr) fd_alloc_free(d->alloc, fd_wksp_laddr_fast(d->wksp, gaddr));
    d->board->place[i] = 0;
  }
  if (!fd_alloc_is_empty(d->alloc)) die("everything is freed, but the alloc is not empty");
  fd_alloc_stat_t stat;
  if (fd_alloc_stat(d->alloc, &stat)) die("stat");
  if (stat.bad_free_cnt) die("%lu frees were refused", stat.bad_free_cnt);
  if (fd_wksp_verify(d->wksp, tell_finding, NULL)) die("verify in the end");
}

static int drive(char const *self, char const *name, ulong seed, ulong kills, ulong daemon_kills) {
  driver_t d = {.self = self, .name = name, .seed = seed};
  random_state = seed | 1;
  d.client = wksp_client_connect(NULL);
  d.wksp = d.client ? wksp_client_attach(d.client, name, WKSP_ATTACH_RW) : NULL;
  if (!d.wksp) die("attach");
  d.board = fd_wksp_alloc_laddr(d.wksp, 0, sizeof *d.board, TAG);
  void *shalloc = fd_wksp_alloc_laddr(d.wksp, fd_alloc_align(), fd_alloc_footprint(), TAG);
  if (!d.board || !shalloc) die("no room for the board");
  memset(d.board, 0, sizeof *d.board);
  d.board->alloc = fd_wksp_gaddr(d.wksp, shalloc);
  d.alloc = fd_alloc_join(fd_alloc_new(shalloc, TAG), 2);
  if (!d.alloc || fd_wksp_root_set(d.wksp, "stress", fd_wksp_gaddr(d.wksp, d.board), TAG))
    die("cannot make the board");
  start(&d, SURVIVOR);
  wait_ops(&d, SURVIVOR, 0, 100, now_ns());
  for (ulong i = 0; i < kills; i++) {
    start(&d, VICTIM);
    if (i * daemon_kills / kills != (i + 1) * daemon_kills / kills) kill_daemon(&d);
    kill_victim(&d, i & 1);
    hold_still(&d);
    check(&d);
    go_on(&d);
  }
  start(&d, VICTIM);
  random_moment(&d, 100);
  finish(&d);
  printf("kills=%lu inside=%lu daemon_kills=%lu lost_and_freed=%lu suspects=%lu late=%lu "
         "slowest_us=%lu "
         "slowest_with_scheduling_us=%lu ops=%lu\n",
         d.kills, d.inside, d.daemon_kills, d.freed, d.suspects, d.late, d.slowest_ns / 1000,
         d.slowest_all_ns / 1000, d.board->ops[SURVIVOR] + d.board->ops[VICTIM]);
  fd_alloc_leave(d.alloc);
  fd_wksp_detach(d.wksp);
  wksp_client_close(d.client);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 5 && !strcmp(argv[1], "work"))
    return work(argv[2], atoi(argv[3]), strtoul(argv[4], NULL, 10));
  if (argc == 6 && !strcmp(argv[1], "drive"))
    return drive(argv[0], argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10),
                 strtoul(argv[5], NULL, 10));
  fputs("usage: stress drive WORKSPACE SEED KILLS DAEMON_KILLS\n", stderr);
  return 2;
}
