/* part_kill: processes that change partitions and roots in one workspace, one of them SIGKILLed
   every few milliseconds and replaced.

   The model. Each worker has a journal in memory that outlives it: places, each a partition that it
   holds, by a tag that is given once only; and what it is about to do. When a worker is killed at
   most that one operation is uncertain, and the workspace says whether it happened: its tag is
   there or not. The driver asks, right after the kill and while all others go on, and starts
   another worker with the same journal. In the end the journals together say exactly which
   partitions and roots there are.

   The driver is also what wkspd is to its clients: each worker has a lease of its own, and when it
   is dead its slots are reaped. With `namespaces` the workers live in two pid namespaces, in which
   the same thread ids come up at the same time.

   Judged here: that every operation has happened wholly or not at all, that after each kill the
   others go on, that nobody stands still. Printed, for part_kill_test.py to judge: how many kills,
   what they hit, and how many calls of workers took longer than LATE_NS, less the time in which the
   worker or another was ready to run but had no processor.

   Exit status 0, 1 with a sentence, or 77 if it may not make pid namespaces. */

#include "children.h"

#include "core/alloc.h"
#include "core/atomic.h"
#include "core/call.h"

#include "wksp/wksp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
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

#define WORKERS   8
#define PLACES    48
#define PART_MAX  700UL /* all places, a free one beside each, and some */
#define DATA_MAX  (3UL << 20)
#define KILL_NS   5000000UL
#define KILLS_MIN 200UL         /* as long as it takes, on a machine that is busy with others */
#define WAIT_NS   20000000000UL /* whoever needs longer has been forgotten */
#define LOOK_BACK 100           /* kills between two looks at whether each worker goes on */
#define SAMPLE_NS 5000000UL     /* how old a worker's knowledge of waiting times may be */
#define LONG_NS   20000000UL    /* a call that long is worth asking who had no processor */
#define LATE_NS   200000000UL

enum { IDLE, ALLOC, FREE, BIND };

typedef struct place {
  ulong tag; /* 0: nothing held; stored last and cleared first */
  ulong gaddr, size;
} place_t;

typedef struct journal {
  _Atomic ulong changes; /* done */
  _Atomic ulong late, slowest_ns;
  _Atomic ulong waited_ns; /* as the worker last knew it */
  _Atomic pid_t pid;       /* as the driver sees it */
  ulong what;              /* IDLE, or what is on its way; stored last, cleared last */
  ulong places;            /* ALLOC: the place's number. FREE: a bit for each place */
  ulong tag, size;         /* ALLOC */
  ulong bound, bind;       /* what the worker's root leads to, and will; 0: not bound */
  ulong tags_given;
  place_t place[PLACES];
} journal_t;

typedef struct board {
  _Atomic uint stop;
  journal_t journal[WORKERS];
} board_t;

typedef struct driver {
  fd_wksp_t *wksp, *view; /* the driver's mapping, and the workers' */
  board_t *board;
  ulong lease[WORKERS], leases;
  uint starts[WORKERS]; /* how often each was started */
  int namespaces, ns_fd[2], own_fd;
  ulong kills, in_flight, happened, holding, same_tid;
  ulong seen[WORKERS];
  uint seen_starts[WORKERS];
} driver_t;

static ulong now_ns(void) {
  return wksp__now_ns();
}

static char const *root_name(uint who, char *ret_name) {
  snprintf(ret_name, 16, "worker-%u", who);
  return ret_name;
}

/* Workers -------------------------------------------------------------------------------------- */

typedef struct worker {
  uint who;
  fd_wksp_t *wksp;
  board_t *board;
  journal_t *journal;
  ulong began; /* the call */
  struct {
    ulong at, own, other[WORKERS];
    pid_t pid[WORKERS];
  } sample;
} worker_t;

static void call_begins(worker_t *w) {
  w->began = now_ns();
  if (w->began - w->sample.at <= SAMPLE_NS) return;
  w->sample.own = waited_ns(0);
  w->journal->waited_ns = w->sample.own;
  for (uint i = 0; i < WORKERS; i++) {
    w->sample.pid[i] = w->board->journal[i].pid;
    w->sample.other[i] = w->board->journal[i].waited_ns;
  }
  w->began = w->sample.at = now_ns();
}

/* A long call: less what this process waited for a processor, and what that other did which waited
   for longest: it may have had the lock. */
static ulong without_waiting(worker_t *w, ulong took) {
  ulong own = waited_ns(0) - w->sample.own, longest = 0;
  for (uint i = 0; i < WORKERS; i++) {
    pid_t pid = w->board->journal[i].pid;
    ulong waited = pid && i != w->who ? waited_ns(pid) : 0;
    if (pid == w->sample.pid[i])
      waited -= waited > w->sample.other[i] ? w->sample.other[i] : waited;
    if (waited > longest) longest = waited;
  }
  return took > own + longest ? took - own - longest : 0;
}

static void call_ends(worker_t *w) {
  ulong took = now_ns() - w->began;
  if (took > LONG_NS) {
    took = without_waiting(w, took);
    w->sample.at = 0;
  }
  if (took > w->journal->slowest_ns) w->journal->slowest_ns = took;
  w->journal->late += took > LATE_NS;
}

/* The partition's first and last word are its tag. */
static void stamp(fd_wksp_t *wksp, place_t const *place) {
  ulong *words = fd_wksp_laddr(wksp, place->gaddr);
  if (!words) die("the partition at 0x%lx is not in the data region", place->gaddr);
  words[0] = words[place->size / 8 - 1] = place->tag;
}

static void check_stamp(fd_wksp_t *wksp, place_t const *place) {
  ulong const *words = fd_wksp_laddr(wksp, place->gaddr);
  if (words[0] != place->tag || words[place->size / 8 - 1] != place->tag)
    die("the partition at 0x%lx of %lu bytes and tag 0x%lx has been written over: 0x%lx, 0x%lx",
        place->gaddr, place->size, place->tag, words[0], words[place->size / 8 - 1]);
}

/* From here until IDLE a kill leaves one question open. */
static void intend(journal_t *j, ulong what) {
  wksp__st_release(&j->what, what);
}

static void place_fill(place_t *place, ulong tag, ulong gaddr, ulong size) {
  wksp__st(&place->gaddr, gaddr);
  wksp__st(&place->size, size);
  wksp__st(&place->tag, tag);
}

static void do_alloc(worker_t *w, uint at) {
  journal_t *j = w->journal;
  ulong size = 1 + rnd(1UL << (6 + rnd(11))), align = 1UL << rnd(14), lo, hi;
  j->places = at;
  j->size = (size + 63) & ~63UL;
  j->tag = (w->who + 1UL) << 48 | ++j->tags_given;
  intend(j, ALLOC);
  call_begins(w);
  ulong gaddr = fd_wksp_alloc_at_least(w->wksp, align, size, j->tag, &lo, &hi);
  call_ends(w);
  if (gaddr) {
    if (gaddr % align || lo != gaddr || hi - lo != j->size) die("alloc gave 0x%lx", gaddr);
    place_t place = {j->tag, gaddr, j->size};
    stamp(w->wksp, &place);
    place_fill(&j->place[at], j->tag, gaddr, j->size);
  } else if (wksp_last_error_code() != WKSP_E_NOMEM)
    die("alloc of %lu bytes", size);
  intend(j, IDLE);
}

/* One by its address, or several by their tags. */
static void do_free(worker_t *w, uint at, uint cnt) {
  journal_t *j = w->journal;
  ulong tags[4], places = 0;
  uint n = 0;
  for (uint i = at; i < PLACES && n < cnt; i++) {
    if (!j->place[i].tag) continue;
    check_stamp(w->wksp, &j->place[i]);
    tags[n++] = j->place[i].tag;
    places |= 1UL << i;
  }
  j->places = places;
  intend(j, FREE);
  call_begins(w);
  long freed = 1;
  if (cnt > 1)
    freed = fd_wksp_tag_free(w->wksp, tags, n);
  else if (fd_wksp_free(w->wksp, j->place[at].gaddr + rnd(j->place[at].size)))
    die("free of the partition at 0x%lx", j->place[at].gaddr);
  call_ends(w);
  if (freed != n) die("tag_free freed %ld of %u", freed, n);
  for (uint i = at; i < PLACES; i++)
    if (places >> i & 1) wksp__st(&j->place[i].tag, 0UL);
  intend(j, IDLE);
}

static void do_bind(worker_t *w) {
  journal_t *j = w->journal;
  char name[16];
  root_name(w->who, name);
  j->bind = j->bound && !rnd(3) ? 0 : fd_wksp_gaddr_lo(w->wksp) + rnd(DATA_MAX);
  intend(j, BIND);
  call_begins(w);
  int rc = j->bind ? fd_wksp_root_set(w->wksp, name, j->bind, j->bind + w->who)
                   : fd_wksp_root_remove(w->wksp, name);
  call_ends(w);
  if (rc) die("root %s", name);
  wksp__st(&j->bound, j->bind);
  intend(j, IDLE);
}

/* What only looks must be right while others change things. */
static void do_look(worker_t *w) {
  fd_wksp_usage_t usage;
  fd_wksp_part_t part;
  journal_t const *j = w->journal;
  place_t const *place = &j->place[rnd(PLACES)];
  ulong tag = place->tag;
  call_begins(w);
  if (fd_wksp_usage(w->wksp, &tag, tag != 0, &usage)) die("usage");
  call_ends(w);
  if (usage.total_cnt > PART_MAX || usage.free_cnt > usage.total_cnt ||
      usage.free_sz > usage.total_sz || usage.free_sz_max > usage.free_sz)
    die("usage: %lu partitions, %lu free, %lu bytes in them", usage.total_cnt, usage.free_cnt,
        usage.free_sz);
  if (!tag) return;
  if (usage.used_cnt != 1 || usage.used_sz != place->size)
    die("usage: %lu partitions of tag 0x%lx", usage.used_cnt, tag);
  if (fd_wksp_tag_query(w->wksp, &tag, 1, &part, 1) != 1 || part.gaddr != place->gaddr)
    die("tag_query: tag 0x%lx is not where it was put", tag);
  if (fd_wksp_part_next(w->wksp, place->gaddr, &part) != 1 || part.tag != tag ||
      part.size != place->size)
    die("part_next: found tag 0x%lx at 0x%lx", part.tag, part.gaddr);
  if (fd_wksp_tag(w->wksp, place->gaddr + place->size - 1) != tag) die("tag 0x%lx", tag);
}

static int work(worker_t w) {
  while (!w.board->stop) {
    uint at = (uint)rnd(PLACES);
    ulong what = rnd(100);
    if (what < 8) {
      do_look(&w);
      continue;
    }
    if (what < 14)
      do_bind(&w);
    else if (!w.journal->place[at].tag)
      do_alloc(&w, at);
    else
      do_free(&w, at, what < 25 ? 4 : 1);
    w.journal->changes++;
  }
  return 0;
}

/* Starting and killing ------------------------------------------------------------------------- */

static pid_t child(void) {
  pid_t pid = fork();
  if (pid < 0) die("fork: %s", strerror(errno));
  if (!pid) prctl(PR_SET_PDEATHSIG, SIGKILL);
  return pid;
}

static void start(driver_t *d, uint who) {
  journal_t *j = &d->board->journal[who];
  ulong lease = ++d->leases, seed = rnd(~0UL >> 12) | 1;
  if (d->namespaces && setns(d->ns_fd[who % 2], CLONE_NEWPID)) die("setns: %s", strerror(errno));
  j->waited_ns = 0;
  pid_t pid = child();
  if (!pid) {
    random_state = seed;
    if (wksp__map_add(d->view, 0, lease, NULL, NULL)) die("join");
    _exit(work((worker_t){.who = who, .wksp = d->view, .board = d->board, .journal = j}));
  }
  if (d->namespaces && setns(d->own_fd, CLONE_NEWPID)) die("setns: %s", strerror(errno));
  j->pid = pid;
  d->lease[who] = lease;
  d->starts[who]++;
}

/* Whether a partition with this tag is there, and nothing but it. */
static int there(driver_t *d, ulong tag, fd_wksp_part_t *ret_part) {
  long cnt = fd_wksp_tag_query(d->wksp, &tag, 1, ret_part, 1);
  if (cnt < 0 || cnt > 1) die("%ld partitions of tag 0x%lx", cnt, tag);
  return (int)cnt;
}

/* What root_find says of the worker's root: its gaddr, 0 if it is not bound. */
static ulong root_of(driver_t *d, uint who) {
  char name[16];
  fd_wksp_root_t root;
  int rc = fd_wksp_root_find(d->wksp, root_name(who, name), &root);
  if (rc && rc != WKSP_E_NOTFOUND) die("root_find %s", name);
  if (!rc && root.tag != root.gaddr + who) die("root %s has another's tag", name);
  return rc ? 0 : root.gaddr;
}

/* Answers the question that the dead one left open, and checks that all else is as he wrote it. */
static void resolve(driver_t *d, uint who) {
  journal_t *j = &d->board->journal[who];
  ulong what = j->what, happened = 0;
  fd_wksp_part_t part;
  if (what == ALLOC) {
    place_t *place = &j->place[j->places];
    happened = (ulong)there(d, j->tag, &part);
    if (place->tag && !happened) die("the partition of tag 0x%lx is lost", j->tag);
    if (happened && part.size != j->size) die("tag 0x%lx has %lu bytes", j->tag, part.size);
    if (happened) {
      place_fill(place, j->tag, part.gaddr, part.size);
      stamp(d->wksp, place);
    }
  } else if (what == FREE) {
    for (uint i = 0; i < PLACES; i++) {
      if (!(j->places >> i & 1) || !j->place[i].tag || there(d, j->place[i].tag, &part)) continue;
      j->place[i].tag = 0;
      happened = 1;
    }
  } else if (what == BIND) {
    ulong is = root_of(d, who);
    if (is != j->bound && is != j->bind)
      die("root of worker %u leads to 0x%lx, not to 0x%lx or 0x%lx", who, is, j->bound, j->bind);
    happened = is != j->bound;
    j->bound = is;
  }
  j->what = IDLE;
  d->in_flight += what != IDLE;
  d->happened += happened;
  for (uint i = 0; i < PLACES; i++) {
    place_t const *place = &j->place[i];
    if (!place->tag) continue;
    if (!there(d, place->tag, &part) || part.gaddr != place->gaddr || part.size != place->size)
      die("the partition of tag 0x%lx is gone or has moved", place->tag);
    check_stamp(d->wksp, place);
  }
}

static ulong changes_of_others(driver_t const *d, uint who) {
  ulong sum = 0;
  for (uint i = 0; i < WORKERS; i++)
    if (i != who) sum += d->board->journal[i].changes;
  return sum;
}

/* Waits until *changes is above base. */
static void goes_on(driver_t *d, uint who, ulong (*count)(driver_t const *, uint), ulong base) {
  ulong until = now_ns() + WAIT_NS;
  while (count(d, who) <= base) {
    for (uint i = 0; i < WORKERS; i++) {
      int status;
      if (waitpid(d->board->journal[i].pid, &status, WNOHANG) > 0)
        die("worker %u has ended by itself, status 0x%x", i, (uint)status);
    }
    if (now_ns() > until) die("worker %u, or all but it, do not go on", who);
    sched_yield();
  }
}

static ulong changes_of(driver_t const *d, uint who) {
  return d->board->journal[who].changes;
}

/* Everybody who has lived since the last look has done something since. */
static void everybody_goes_on(driver_t *d) {
  for (uint i = 0; i < WORKERS; i++) {
    if (d->seen_starts[i] == d->starts[i]) goes_on(d, i, changes_of, d->seen[i]);
    d->seen_starts[i] = d->starts[i];
    d->seen[i] = changes_of(d, i);
  }
}

/* Whether two living threads in different slots have the same id, each in its own namespace. */
static int same_tids(driver_t const *d) {
  uint tid[256], cnt = 0;
  for (uint i = 0; i < d->wksp->slot_max && cnt < 256; i++) {
    wksp__slot_t const *slot = &wksp__slots(d->wksp)[i];
    uint word = (uint)wksp__ld_acquire(&slot->live.__data.__lock);
    if ((wksp__ld(&slot->claim) & 3) != WKSP_SLOT_HELD || !word || (word & FUTEX_OWNER_DIED))
      continue;
    tid[cnt++] = word & FUTEX_TID_MASK;
    for (uint k = 0; k + 1 < cnt; k++)
      if (tid[k] == tid[cnt - 1]) return 1;
  }
  return 0;
}

static void kill_one(driver_t *d) {
  /* in turn from the two namespaces, so that both count thread ids at one pace */
  uint who = d->namespaces ? (uint)(2 * rnd(WORKERS / 2) + d->kills % 2) : (uint)rnd(WORKERS);
  pid_t pid = d->board->journal[who].pid;
  int status;
  d->same_tid += (ulong)same_tids(d);
  if (kill(pid, SIGKILL) || waitpid(pid, &status, 0) != pid) die("kill: %s", strerror(errno));
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
    die("worker %u has ended by itself, status 0x%x", who, (uint)status);
  ulong others = changes_of_others(d, who), holder = wksp__ld(&wksp__vol(d->wksp)->lock);
  d->holding += holder && wksp__name_dead(d->wksp, holder);
  d->kills++;
  goes_on(d, who, changes_of_others, others);
  resolve(d, who);
  if (wksp__reap(d->wksp, d->lease[who])) die("reap");
  start(d, who);
  if (d->kills % LOOK_BACK == 0) everybody_goes_on(d);
}

/* The end -------------------------------------------------------------------------------------- */

static void tell_finding(void *arg, char const *sentence) {
  fprintf(stderr, "part_kill: verify: %s\n", sentence);
}

/* All have ended in good order: the workspace is what the journals say. */
static void compare(driver_t *d) {
  ulong cnt = 0, sz = 0, found = 0;
  fd_wksp_part_t part;
  fd_wksp_usage_t usage;
  if (fd_wksp_verify(d->wksp, tell_finding, NULL)) die("verify");
  for (uint who = 0; who < WORKERS; who++) {
    journal_t const *j = &d->board->journal[who];
    if (j->what != IDLE) die("worker %u has ended in the middle", who);
    if (root_of(d, who) != j->bound) die("root of worker %u", who);
    for (uint i = 0; i < PLACES; i++) {
      place_t const *place = &j->place[i];
      if (!place->tag) continue;
      cnt++;
      sz += place->size;
      if (!there(d, place->tag, &part) || part.gaddr != place->gaddr || part.size != place->size)
        die("the partition of tag 0x%lx is gone or has moved", place->tag);
      check_stamp(d->wksp, place);
    }
  }
  for (ulong from = 0; fd_wksp_part_next(d->wksp, from, &part) == 1; from = part.gaddr + part.size)
    found++;
  if (fd_wksp_usage(d->wksp, NULL, 0, &usage)) die("usage");
  if (found != cnt || usage.used_cnt != cnt || usage.used_sz != sz)
    die("the journals hold %lu partitions of %lu bytes; there are %lu, of %lu bytes, and %lu "
        "listed",
        cnt, sz, usage.used_cnt, usage.used_sz, found);
}

static void finish(driver_t *d) {
  fd_wksp_usage_t usage;
  d->board->stop = 1;
  for (uint who = 0; who < WORKERS; who++) {
    int status;
    if (waitpid(d->board->journal[who].pid, &status, 0) < 0 || status)
      die("worker %u: status 0x%x", who, (uint)status);
  }
  compare(d);
  if (fd_wksp_reset(d->wksp, 1) || fd_wksp_usage(d->wksp, NULL, 0, &usage)) die("reset");
  if (usage.total_cnt != 1 || usage.free_sz_max != usage.total_sz) die("reset left something");
}

/* Two namespaces, each with a first process that does nothing. */
static void make_namespaces(driver_t *d) {
  d->own_fd = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
  for (uint i = 0; i < 2; i++) {
    char path[64];
    if (d->own_fd < 0 || unshare(CLONE_NEWPID)) {
      printf("no pid namespace: %s\n", strerror(errno));
      exit(77);
    }
    pid_t pid = child();
    if (!pid)
      for (;;) pause();
    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
    d->ns_fd[i] = open(path, O_RDONLY | O_CLOEXEC);
    if (d->ns_fd[i] < 0 || setns(d->own_fd, CLONE_NEWPID)) die("%s: %s", path, strerror(errno));
  }
}

static void make_workspace(driver_t *d) {
  ulong footprint = fd_wksp_footprint(PART_MAX, DATA_MAX);
  int fd = memfd_create("part_kill", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, (off_t)footprint)) die("memfd: %s", strerror(errno));
  void *at = mmap(NULL, footprint, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  d->view = mmap(NULL, footprint, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  d->board =
      mmap(NULL, sizeof *d->board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED || d->view == MAP_FAILED || d->board == MAP_FAILED) die("mmap");
  d->wksp = fd_wksp_join(fd_wksp_new(at, "part_kill", 0, PART_MAX, DATA_MAX));
  if (!d->wksp) die("join");
}

static int drive(ulong seconds, ulong seed, int namespaces) {
  driver_t d = {.namespaces = namespaces};
  ulong slowest = 0, late = 0, changes = 0, expired;
  random_state = seed * 2 + 1;
  if (namespaces) make_namespaces(&d);
  make_workspace(&d);
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  struct itimerspec every = {{0, (long)KILL_NS}, {0, (long)KILL_NS}};
  if (timer < 0 || timerfd_settime(timer, 0, &every, NULL)) die("timer: %s", strerror(errno));
  for (uint who = 0; who < WORKERS; who++) start(&d, who);
  for (ulong end = now_ns() + seconds * 1000000000UL; now_ns() < end || d.kills < KILLS_MIN;) {
    if (read(timer, &expired, sizeof expired) != (ssize_t)sizeof expired) die("timer");
    kill_one(&d);
  }
  everybody_goes_on(&d);
  finish(&d);
  for (uint who = 0; who < WORKERS; who++) {
    journal_t const *j = &d.board->journal[who];
    changes += j->changes;
    late += j->late;
    if (j->slowest_ns > slowest) slowest = j->slowest_ns;
  }
  printf("kills=%lu in_flight=%lu happened=%lu holding=%lu same_tid=%lu late=%lu slowest_us=%lu "
         "changes=%lu\n",
         d.kills, d.in_flight, d.happened, d.holding, d.same_tid, late, slowest / 1000, changes);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && (!strcmp(argv[3], "plain") || !strcmp(argv[3], "namespaces")))
    return drive(strtoul(argv[1], NULL, 10), strtoul(argv[2], NULL, 10), argv[3][0] == 'n');
  fputs("usage: part_kill SECONDS SEED plain|namespaces\n", stderr);
  return 2;
}
