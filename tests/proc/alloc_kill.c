/* alloc_kill: processes that allocate and free in one fd_alloc, of which one is SIGKILLed and
   replaced, or SIGSTOPped for a while, every few milliseconds.

   The model. Places on a board outside of the workspace hold blocks that anybody takes out, checks
   byte by byte and frees, whoever made them. Words in the workspace hold blocks of malloc_to, which
   anybody takes out by take_from or frees by free_from. A worker says on the board which block it
   has in its hand. When one is killed that block, the one in its slot's flight, and what the
   allocator has noted as suspect are written down: nothing but these, and at most one for each
   kill, may be live in the end without being in a place or a word.

   Judged here: that every block is as it was written, that all go on, that in the end exactly what
   is in places and words is live, but for what was written down, and that nothing is left when all
   is freed. Printed, for alloc_kill_test.py to judge: how many kills and stops, what they hit, and
   how many calls of survivors took longer than LATE_NS, less the time in which a worker was ready
   to run but had no processor, or was stopped.

   Exit status 0, or 1 with a sentence. */

#include "children.h"

#include "core/alloc.h"
#include "core/atomic.h"
#include "core/call.h"

#include "wksp/wksp.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS   6
#define PLACES    1500
#define WORDS     40
#define TAG       77UL
#define DATA_MAX  (96UL << 20)
#define TICK_NS   10000000UL
#define KILLS_MIN 150UL         /* as long as it takes, on a machine that is busy with others */
#define WAIT_NS   30000000000UL /* whoever needs longer has been forgotten */
#define LATE_NS   200000000UL
#define LOOK_BACK 50         /* ticks between two looks at whether each worker goes on */
#define SAMPLE_NS 5000000UL  /* how old a worker's knowledge of waiting times may be */
#define LONG_NS   20000000UL /* a call that long is worth asking who had no processor */
#define AIM_MAX   4
#define TRIES     1000 /* of a call that times out since the lock's holder is stopped */

typedef struct seen {
  _Atomic ulong ops, hand; /* done; gaddr of the block in its hand, 0 */
  _Atomic ulong late, slowest_ns;
  _Atomic ulong waited_ns; /* as the worker last knew it */
  _Atomic pid_t pid;
} seen_t;

typedef struct board {
  _Atomic uint stop;
  _Atomic ulong stopped_ns; /* for which a worker was stopped, together */
  _Atomic ulong stopped_at; /* one has been since then; 0 none is */
  seen_t seen[WORKERS];
  _Atomic ulong place[PLACES];
} board_t;

typedef struct driver {
  fd_wksp_t *wksp;
  board_t *board;
  fd_alloc_t *alloc;
  ulong *word;
  uchar *noted; /* one for each 16 bytes of the data: may be lost */
  ulong seen_ops[WORKERS];
  uint starts[WORKERS], seen_starts[WORKERS];
  int stopped; /* who is, -1 nobody */
  ulong kills, stops, inside, intents;
} driver_t;

typedef struct worker {
  uint who;
  fd_wksp_t *wksp;
  board_t *board;
  seen_t *seen;
  fd_alloc_t *alloc;
  ulong *word;
  ulong began, sample_at, own, stopped, other[WORKERS];
  pid_t pid[WORKERS];
} worker_t;

static ulong stopped_ns(board_t const *board) {
  ulong at = board->stopped_at, sum = board->stopped_ns, now = wksp__now_ns();
  return sum + (at && now > at ? now - at : 0);
}

/* Workers -------------------------------------------------------------------------------------- */

static void call_begins(worker_t *w) {
  w->began = wksp__now_ns();
  if (w->began - w->sample_at <= SAMPLE_NS) return;
  w->own = waited_ns(0);
  w->seen->waited_ns = w->own;
  w->stopped = stopped_ns(w->board);
  for (uint i = 0; i < WORKERS; i++) {
    w->pid[i] = w->board->seen[i].pid;
    w->other[i] = w->board->seen[i].waited_ns;
  }
  w->began = w->sample_at = wksp__now_ns();
}

/* A long call: less what this process waited for a processor, what that other did which waited for
   longest (it may have had the lock), and for how long any was stopped. */
static ulong without_waiting(worker_t const *w, ulong took) {
  ulong less = waited_ns(0) - w->own + stopped_ns(w->board) - w->stopped, longest = 0;
  for (uint i = 0; i < WORKERS; i++) {
    pid_t pid = w->board->seen[i].pid;
    ulong waited = pid && i != w->who ? waited_ns(pid) : 0;
    if (pid == w->pid[i]) waited -= waited > w->other[i] ? w->other[i] : waited;
    if (waited > longest) longest = waited;
  }
  return took > less + longest ? took - less - longest : 0;
}

static void call_ends(worker_t *w) {
  ulong took = wksp__now_ns() - w->began;
  if (took > LONG_NS) {
    took = without_waiting(w, took);
    w->sample_at = 0;
  }
  if (took > w->seen->slowest_ns) w->seen->slowest_ns = took;
  w->seen->late += took > LATE_NS;
}

static ulong random_size(void) {
  ulong kind = rnd(100);
  if (kind < 90) return 16 + rnd(240); /* mostly small ones: to check takes longer than to malloc */
  if (kind < 99) return 256 + rnd(16129);
  return 16385 + rnd(100 * 1024);
}

static void block_check(fd_wksp_t *wksp, ulong gaddr) {
  ulong const *block = fd_wksp_laddr(wksp, gaddr);
  if (!block) die("a place holds %#lx, which is no address", gaddr);
  if (block[0] != gaddr || block[1] < 16 || block[1] > 1UL << 20)
    die("block %#lx says it is %#lx of %lu bytes", gaddr, block[0], block[1]);
  uchar const *byte = (uchar const *)(block + 2);
  for (ulong i = 0; i < block[1] - 16; i++)
    if (byte[i] != (gaddr >> 4 & 0xff))
      die("block %#lx: byte %lu of %lu is %u", gaddr, i + 16, block[1], byte[i]);
}

static void give(worker_t *w, ulong gaddr) {
  call_begins(w);
  fd_alloc_free(w->alloc, fd_wksp_laddr_fast(w->wksp, gaddr));
  call_ends(w);
}

static void do_place(worker_t *w, _Atomic ulong *place) {
  ulong gaddr = *place;
  if (gaddr) {
    w->seen->hand = gaddr;
    if (atomic_compare_exchange_strong(place, &gaddr, 0)) {
      block_check(w->wksp, gaddr);
      give(w, gaddr);
    }
    w->seen->hand = 0;
    return;
  }
  ulong size = random_size(), *block = NULL;
  for (uint i = 0; i < TRIES && !block; i++) {
    call_begins(w);
    block = fd_alloc_malloc(w->alloc, 0, size);
    call_ends(w);
    if (!block && wksp_last_error_code() != WKSP_E_TIMEDOUT) break;
  }
  /* What kills lose is given back at the end only, and may be much. */
  if (!block && wksp_last_error_code() == WKSP_E_NOMEM) return;
  if (!block) die("malloc of %lu bytes", size);
  ulong made = fd_wksp_gaddr_fast(w->wksp, block);
  block_fill(block, made, size);
  if (atomic_compare_exchange_strong(place, &gaddr, made)) return;
  w->seen->hand = made;
  give(w, made);
  w->seen->hand = 0;
}

static void do_word(worker_t *w, ulong *word) {
  ulong kind = rnd(4), size = random_size(), gaddr;
  int rc = 0;
  call_begins(w);
  if (kind == 0) {
    rc = fd_alloc_free_from(w->alloc, word);
    call_ends(w);
  } else if (kind == 1) {
    ulong *block = fd_alloc_take_from(w->alloc, word);
    call_ends(w);
    if (!block) return;
    gaddr = fd_wksp_gaddr_fast(w->wksp, block);
    w->seen->hand = gaddr;
    block_fill(block, gaddr, 16);
    block_check(w->wksp, gaddr);
    give(w, gaddr);
    w->seen->hand = 0;
  } else {
    rc = fd_alloc_malloc_to(w->alloc, 0, size, word);
    call_ends(w);
  }
  if (rc < 0 && rc != WKSP_E_BUSY && rc != WKSP_E_TIMEDOUT && rc != WKSP_E_AGAIN &&
      rc != WKSP_E_NOMEM)
    die("call %lu at a word that names %#lx: %d", kind, *word, rc);
}

static int work(worker_t w) {
  while (!w.board->stop) {
    ulong kind = rnd(1000);
    if (kind == 0 && !w.who) { /* others who compact would wait for their turn, inside a call */
      int rc = fd_alloc_compact(w.alloc, NULL);
      if (rc && rc != WKSP_E_TIMEDOUT && rc != WKSP_E_AGAIN) die("compact");
    } else if (kind < 400) {
      do_word(&w, &w.word[rnd(WORDS)]);
    } else {
      do_place(&w, &w.board->place[rnd(PLACES)]);
    }
    w.seen->ops++;
  }
  fd_alloc_leave(w.alloc);
  return 0;
}

/* The driver ----------------------------------------------------------------------------------- */

static void start(driver_t *d, uint who) {
  seen_t *seen = &d->board->seen[who];
  ulong seed = rnd(~0UL >> 12) | 1;
  seen->waited_ns = 0;
  pid_t pid = fork();
  if (pid < 0) die("fork: %s", strerror(errno));
  if (!pid) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    random_state = seed;
    _exit(work((worker_t){.who = who,
                          .wksp = d->wksp,
                          .board = d->board,
                          .seen = seen,
                          .alloc = d->alloc,
                          .word = d->word}));
  }
  seen->pid = pid;
  d->starts[who]++;
}

static void note(driver_t *d, ulong gaddr) {
  gaddr &= ~15UL & ~WKSP_FLIGHT_DEAD;
  if (gaddr >= d->wksp->data_lo && gaddr < d->wksp->data_hi)
    d->noted[(gaddr - d->wksp->data_lo) / 16] = 1;
}

/* What a dead worker may have left that nobody knows; also what others have settled meanwhile. */
static void note_dead(driver_t *d, uint who, pid_t pid) {
  seen_t *seen = &d->board->seen[who];
  for (uint i = 0; i < d->wksp->slot_max; i++) {
    wksp__slot_t const *slot = &wksp__slots(d->wksp)[i];
    if (wksp__ld(&slot->pid) != (uint)pid) continue;
    note(d, wksp__ld_acquire(&slot->flight));
  }
  for (uint i = 0; i < WKSP_SUSPECTS; i++)
    note(d, wksp__ld(&((struct fd_alloc *)d->alloc)->suspect[i]));
  note(d, seen->hand);
  seen->hand = 0;
}

static void check_child(driver_t *d, uint who) {
  int status;
  if (waitpid(d->board->seen[who].pid, &status, WNOHANG) > 0)
    die("worker %u has ended by itself, status 0x%x", who, (uint)status);
}

/* Everybody who has lived since the last look has done something since. */
static void everybody_goes_on(driver_t *d) {
  for (uint who = 0; who < WORKERS; who++) {
    ulong until = wksp__now_ns() + WAIT_NS;
    while (d->seen_starts[who] == d->starts[who] && d->board->seen[who].ops == d->seen_ops[who]) {
      check_child(d, who);
      if (wksp__now_ns() > until) die("worker %u does not go on", who);
      sched_yield();
    }
    d->seen_starts[who] = d->starts[who];
    d->seen_ops[who] = d->board->seen[who].ops;
  }
}

static void stop_one(driver_t *d, uint who) {
  siginfo_t info;
  pid_t pid = d->board->seen[who].pid;
  d->board->stopped_at = wksp__now_ns();
  if (kill(pid, SIGSTOP) || waitid(P_PID, (id_t)pid, &info, WSTOPPED)) die("stop");
  d->stopped = (int)who;
}

/* Ends the stop, if there is one; the count goes up before the mark goes, so that who reads both
   finds too much at worst. */
static void stop_ends(driver_t *d) {
  if (d->stopped < 0) return;
  d->board->stopped_ns += wksp__now_ns() - d->board->stopped_at;
  d->board->stopped_at = 0;
  d->stopped = -1;
}

/* Whether the process stands inside a call: 1, 2 in one at a word. */
static int inside(driver_t const *d, pid_t pid) {
  int got = 0;
  for (uint i = 0; i < d->wksp->slot_max; i++) {
    wksp__slot_t const *slot = &wksp__slots(d->wksp)[i];
    if (wksp__ld(&slot->pid) != (uint)pid || wksp__slot_outside(slot)) continue;
    got = wksp__ld(&slot->intent) ? 2 : 1;
  }
  return got;
}

/* Stops it again and again until it stands inside a call, or the patience is at an end. */
static void aim(driver_t *d, uint who) {
  pid_t pid = d->board->seen[who].pid;
  int wanted = 1 + (int)rnd(2);
  for (uint i = 0; i < AIM_MAX; i++) {
    stop_one(d, who);
    if (inside(d, pid) >= wanted) return;
    if (kill(pid, SIGCONT)) die("continue");
    stop_ends(d);
    ulong ops = d->board->seen[who].ops;
    for (uint k = 0; k < 1000 && d->board->seen[who].ops == ops; i++) sched_yield();
    for (ulong spin = rnd(3000); spin; spin--) wksp__compiler_fence();
  }
}

static void kill_one(driver_t *d, uint who) {
  pid_t pid = d->board->seen[who].pid;
  int status;
  if (d->stopped < 0 && rnd(2)) aim(d, who);
  if (kill(pid, SIGKILL) || waitpid(pid, &status, 0) != pid) die("kill: %s", strerror(errno));
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
    die("worker %u has ended by itself, status 0x%x", who, (uint)status);
  if (d->stopped == (int)who) stop_ends(d);
  int stood = inside(d, pid);
  d->inside += stood > 0;
  d->intents += stood > 1;
  note_dead(d, who, pid);
  d->kills++;
  if (rnd(2) && wksp__reap(d->wksp, 0)) die("reap");
  start(d, who);
}

static void tick(driver_t *d) {
  if (d->stopped >= 0 && rnd(3)) { /* goes on, or is killed where it stands */
    uint who = (uint)d->stopped;
    if (rnd(3)) {
      if (kill(d->board->seen[who].pid, SIGCONT)) die("continue");
      stop_ends(d);
    } else {
      kill_one(d, who);
    }
  } else if (d->stopped < 0 && !rnd(3)) {
    stop_one(d, (uint)rnd(WORKERS));
    d->stops++;
  } else {
    kill_one(d, (uint)rnd(WORKERS));
  }
}

/* The end -------------------------------------------------------------------------------------- */

typedef struct sum {
  driver_t *d;
  ulong live, lost, known_cnt, cap, *known, *extra;
} sum_t;

static int add_live(void *arg, fd_alloc_block_t const *block) {
  sum_t *sum = arg;
  sum->live++;
  if (bsearch(&block->gaddr, sum->known, sum->known_cnt, sizeof(ulong), by_value)) return 0;
  if (!sum->d->noted[(block->gaddr - sum->d->wksp->data_lo) / 16])
    die("block %#lx of %lu bytes is live and known to nobody, and no dead one had it", block->gaddr,
        block->size);
  if (sum->lost == sum->d->kills) die("more than one block for each of %lu kills", sum->lost);
  sum->extra[sum->lost++] = block->gaddr;
  return 0;
}

static void tell_finding(void *arg, char const *sentence) {
  (void)arg;
  fprintf(stderr, "alloc_kill: verify: %s\n", sentence);
}

/* All have ended in good order. Returns how many blocks were lost to kills. */
static ulong finish(driver_t *d) {
  d->board->stop = 1;
  for (uint who = 0; who < WORKERS; who++) {
    int status;
    if (waitpid(d->board->seen[who].pid, &status, 0) < 0 || status)
      die("worker %u: status 0x%x", who, (uint)status);
  }
  if (wksp__reap(d->wksp, 0) || fd_wksp_verify(d->wksp, tell_finding, NULL)) die("verify");
  static ulong known[PLACES + WORDS];
  sum_t sum = {.d = d, .known = known, .extra = calloc(d->kills + 1, sizeof(ulong))};
  for (uint i = 0; i < PLACES; i++) {
    ulong gaddr = d->board->place[i];
    if (!gaddr) continue;
    block_check(d->wksp, gaddr);
    known[sum.known_cnt++] = gaddr;
  }
  for (uint i = 0; i < WORDS; i++) {
    if (d->word[i] != fd_alloc_named(&d->word[i])) die("word %u: %#lx", i, d->word[i]);
    if (d->word[i]) known[sum.known_cnt++] = d->word[i];
  }
  qsort(known, sum.known_cnt, sizeof *known, by_value);
  for (ulong i = 1; i < sum.known_cnt; i++)
    if (known[i] == known[i - 1]) die("block %#lx is there twice", known[i]);
  if (!sum.extra || fd_alloc_walk(d->alloc, add_live, &sum)) die("walk");
  if (sum.live - sum.lost != sum.known_cnt)
    die("%lu blocks are in places and words, of which %lu are live", sum.known_cnt,
        sum.live - sum.lost);
  for (uint i = 0; i < WORDS; i++)
    if (fd_alloc_free_from(d->alloc, &d->word[i]) < 0) die("free_from");
  for (uint i = 0; i < PLACES; i++)
    if (d->board->place[i])
      fd_alloc_free(d->alloc, fd_wksp_laddr_fast(d->wksp, d->board->place[i]));
  for (ulong i = 0; i < sum.lost; i++)
    fd_alloc_free(d->alloc, fd_wksp_laddr_fast(d->wksp, sum.extra[i]));
  free(sum.extra);
  fd_alloc_stat_t stat;
  if (!fd_alloc_is_empty(d->alloc)) die("all is freed, but the alloc is not empty");
  if (fd_alloc_compact(d->alloc, NULL) || fd_alloc_stat(d->alloc, &stat)) die("compact");
  if (stat.bad_free_cnt) die("%lu frees were refused", stat.bad_free_cnt);
  if (stat.span_sz) die("%lu bytes are left in spans", stat.span_sz);
  if (fd_wksp_verify(d->wksp, tell_finding, NULL)) die("verify in the end");
  return sum.lost;
}

static void make_all(driver_t *d) {
  d->wksp = fd_wksp_new_anon("alloc_kill", DATA_MAX, 0, 1, 0);
  d->board =
      mmap(NULL, sizeof *d->board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (!d->wksp || d->board == MAP_FAILED) die("no memory");
  d->word = fd_wksp_alloc_laddr(d->wksp, 64, WORDS * sizeof(ulong), TAG);
  void *shalloc = fd_wksp_alloc_laddr(d->wksp, fd_alloc_align(), fd_alloc_footprint(), TAG);
  d->noted = calloc((d->wksp->data_hi - d->wksp->data_lo) / 16, 1);
  if (!d->word || !shalloc || !d->noted) die("no memory");
  memset(d->word, 0, WORDS * sizeof(ulong));
  d->alloc = fd_alloc_join(fd_alloc_new(shalloc, TAG), 0);
  if (!d->alloc) die("join");
}

static int drive(ulong seconds, ulong seed) {
  driver_t d = {.stopped = -1};
  ulong slowest = 0, late = 0, ops = 0, expired, ticks = 0;
  random_state = seed * 2 + 1;
  make_all(&d);
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  struct itimerspec every = {{0, (long)TICK_NS}, {0, (long)TICK_NS}};
  if (timer < 0 || timerfd_settime(timer, 0, &every, NULL)) die("timer: %s", strerror(errno));
  for (uint who = 0; who < WORKERS; who++) start(&d, who);
  ulong end = wksp__now_ns() + seconds * 1000000000UL;
  while (wksp__now_ns() < end || d.kills < KILLS_MIN) {
    if (read(timer, &expired, sizeof expired) != (ssize_t)sizeof expired) die("timer");
    tick(&d);
    if (++ticks % LOOK_BACK || d.stopped >= 0) continue;
    everybody_goes_on(&d);
  }
  if (d.stopped >= 0 && kill(d.board->seen[d.stopped].pid, SIGCONT)) die("continue");
  stop_ends(&d);
  everybody_goes_on(&d);
  ulong lost = finish(&d);
  free(d.noted);
  for (uint who = 0; who < WORKERS; who++) {
    seen_t const *seen = &d.board->seen[who];
    ops += seen->ops;
    late += seen->late;
    if (seen->slowest_ns > slowest) slowest = seen->slowest_ns;
  }
  printf("kills=%lu stops=%lu inside=%lu intents=%lu lost_and_freed=%lu late=%lu slowest_us=%lu "
         "ops=%lu\n",
         d.kills, d.stops, d.inside, d.intents, lost, late, slowest / 1000, ops);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 3) return drive(strtoul(argv[1], NULL, 10), strtoul(argv[2], NULL, 10));
  fputs("usage: alloc_kill SECONDS SEED\n", stderr);
  return 2;
}
