/* test_orders: steps two or three threads through the orders in which their accesses to shared
   memory can fall, and kills one of them at any.

   Problem: what is wrong only if B's load falls between two of A's stores is found by no storm of
   threads, or once a year.

   Model. The threads are real ones, of which one runs at a time: at each access (wksp__touch) the
   running one may have to hand over. Only accesses matter to words that two of them use, one of
   them writing; these are found while it runs. A schedule says who begins, and then at which of
   these accesses, counted over all, what happens: the next goes on, the one after that, or the one
   that runs dies there (its thread ends as a killed one does: the kernel marks its robust mutex,
   nothing else happens). Schedules are tried in order of their length; of a length of which there
   are too many, some, at random. After each the workspace's memory is as it was before.

   What it does not show: what only happens because stores are seen late (all is stepped in one
   order that all see); waiting (a thread that makes many steps by itself hands over). */

#ifndef WKSP_CORE_TEST_ORDERS_H
#define WKSP_CORE_TEST_ORDERS_H

#include "core/alloc_testing.h"
#include "core/map.h"

#include <semaphore.h>
#include <sys/syscall.h>

#define ORDERS_THREADS  3
#define ORDERS_EVENTS   5
#define ORDERS_PATIENCE 20000 /* accesses after which a thread is taken to wait for another */

enum { ORDERS_NEXT = 1, ORDERS_AFTER = 2, ORDERS_DIE = 3 };

typedef struct orders_case {
  char const *name;
  uint thread_cnt;
  uint switches;                         /* at most so many */
  int victim;                            /* the thread that may die, -1 none */
  void (*before)(fixture_t *, uint who); /* in thread who, one after the other; may be NULL */
  void (*run)(fixture_t *, uint who);    /* in thread who, stepped */
  void (*after)(fixture_t *, int died);  /* in the test's thread, when all have ended */
} orders_case_t;

typedef struct orders_schedule {
  uint first, cnt, switches, dies;
  struct {
    uint at, what;
  } event[ORDERS_EVENTS];
  uint steps; /* that it took */
} orders_schedule_t;

static struct {
  fixture_t *fix;
  orders_case_t const *test;
  orders_schedule_t const *schedule;
  orders_schedule_t failing; /* first + 1 */
  char const *name;
  sem_t go[ORDERS_THREADS], main;
  pthread_t thread[ORDERS_THREADS];
  int alive[ORDERS_THREADS], cur, dead; /* dead: to be joined by the test's thread; -1 none */
  uint steps, next_event, alone;
  int on, died;
  uint8_t *users;     /* for each word of the workspace: 1 << who reads, 16 << who writes */
  void *seats[65536]; /* of the dead, so that they are no leaks */
  uint seat_cnt;
} g_orders;

static __thread int orders_who = -1;

static inline void orders_wait(sem_t *sem) {
  while (sem_wait(sem)) {
  }
}

static inline void orders_hand_to(int who) {
  g_orders.cur = who;
  g_orders.alone = 0;
  sem_post(&g_orders.go[who]);
}

/* The living thread by how many places on from the one that runs; itself if it is the last. */
static inline int orders_other(uint by) {
  uint cnt = g_orders.test->thread_cnt, who = (uint)g_orders.cur;
  for (uint i = 0; by && i < 2 * cnt; i++) {
    who = (who + 1) % cnt;
    if (g_orders.alive[who] && (int)who != g_orders.cur) by--;
  }
  return (int)who;
}

static inline void orders_switch(uint by) {
  int self = orders_who, to = orders_other(by);
  if (!g_orders.alive[to] || to == self) return;
  orders_hand_to(to);
  orders_wait(&g_orders.go[self]);
}

static inline void orders_die(void) {
  int self = orders_who;
  g_orders.alive[self] = 0;
  g_orders.died = 1;
  if (g_orders.seat_cnt < 65536) g_orders.seats[g_orders.seat_cnt++] = wksp__seats;
  g_orders.dead = self;
  orders_who = -1;
  sem_post(&g_orders.main);
  for (;;) syscall(SYS_exit, 0);
}

/* Whether two use the word and one of them writes it. */
static inline int orders_shared(uint8_t users) {
  uint all = (users | users >> 4) & 15U, writers = users >> 4;
  return writers && (all & (all - 1));
}

static inline void orders_step(void const volatile *place, int writes) {
  if (orders_who < 0 || !g_orders.on) return;
  if (!place) orders_switch(1);
  uint64_t word = ((uintptr_t)place - (uintptr_t)g_orders.fix->wksp) / 8;
  if (word >= g_orders.fix->wksp->footprint / 8) return;
  g_orders.users[word] |= (uint8_t)((writes ? 17U : 1U) << orders_who);
  if (++g_orders.alone > ORDERS_PATIENCE) orders_switch(1);
  if (!orders_shared(g_orders.users[word])) return;
  g_orders.steps++;
  orders_schedule_t const *schedule = g_orders.schedule;
  uint next = g_orders.next_event;
  if (next == schedule->cnt || schedule->event[next].at != g_orders.steps) return;
  g_orders.next_event++;
  uint what = schedule->event[next].what;
  if (what != ORDERS_DIE)
    orders_switch(what);
  else if (orders_who == g_orders.test->victim)
    orders_die();
}

/* Loads come here only; stores come here first and then to the crash point, which says that it was
 * one. */
static __thread void const volatile *orders_place;
void wksp__touch(void const volatile *place) {
  orders_place = place;
  orders_step(place, 0);
}

void wksp__crash_point(void) {
  uint64_t word =
      ((uintptr_t)orders_place - (uintptr_t)(g_orders.fix ? g_orders.fix->wksp : NULL)) / 8;
  if (orders_who < 0 || !g_orders.on || word >= g_orders.fix->wksp->footprint / 8) return;
  g_orders.users[word] |= (uint8_t)(16U << orders_who);
}

static inline void *orders_thread(void *arg) {
  uint who = (uint)(uintptr_t)arg;
  orders_wait(&g_orders.go[who]);
  if (g_orders.test->before) g_orders.test->before(g_orders.fix, who);
  sem_post(&g_orders.main);
  orders_wait(&g_orders.go[who]);
  orders_who = (int)who;
  g_orders.test->run(g_orders.fix, who);
  orders_who = -1;
  g_orders.alive[who] = 0;
  int to = orders_other(1);
  if (g_orders.alive[to])
    orders_hand_to(to);
  else
    sem_post(&g_orders.main);
  orders_wait(&g_orders.go[who]); /* ends after the others */
  return NULL;
}

/* Runs one schedule, and says in it how many steps that took. */
static inline void orders_run(orders_schedule_t *schedule) {
  uint cnt = g_orders.test->thread_cnt;
  g_orders.schedule = schedule;
  g_orders.steps = g_orders.next_event = g_orders.alone = 0;
  g_orders.died = 0;
  g_orders.dead = -1;
  sem_init(&g_orders.main, 0, 0);
  for (uint i = 0; i < cnt; i++) {
    sem_init(&g_orders.go[i], 0, 0);
    g_orders.alive[i] = 1;
    assert_int_equal(pthread_create(&g_orders.thread[i], NULL, orders_thread, (void *)(uintptr_t)i),
                     0);
    sem_post(&g_orders.go[i]);
    orders_wait(&g_orders.main);
  }
  g_orders.on = 1;
  orders_hand_to((int)schedule->first);
  for (;;) {
    orders_wait(&g_orders.main);
    if (g_orders.dead < 0) break;
    int dead = g_orders.dead;
    pthread_join(g_orders.thread[dead], NULL); /* the kernel has marked its mutex */
    g_orders.dead = -1;
    int to = orders_other(1);
    if (!g_orders.alive[to]) break;
    orders_hand_to(to);
  }
  g_orders.on = 0;
  for (uint i = 0; i < cnt; i++) {
    if (g_orders.died && (int)i == g_orders.test->victim) continue;
    sem_post(&g_orders.go[i]);
    pthread_join(g_orders.thread[i], NULL);
  }
  schedule->steps = g_orders.steps;
}

static inline void orders_say(orders_schedule_t const *schedule) {
  print_message("# %s: thread %u begins;", g_orders.name, schedule->first);
  for (uint i = 0; i < schedule->cnt; i++)
    print_message(" at %u %s;", schedule->event[i].at,
                  schedule->event[i].what == ORDERS_DIE    ? "it dies"
                  : schedule->event[i].what == ORDERS_NEXT ? "the next"
                                                           : "the one after");
  print_message("\n");
}

/* Whether the schedule may go on with that event. */
static inline int orders_may(orders_schedule_t const *schedule, uint what) {
  orders_case_t const *test = g_orders.test;
  if (schedule->cnt == ORDERS_EVENTS) return 0;
  if (what == ORDERS_DIE) return test->victim >= 0 && !schedule->dies;
  return schedule->switches < test->switches && (what == ORDERS_NEXT || test->thread_cnt > 2);
}

/* Does to `each` of the schedules one event longer; how many there are. */
static inline uint64_t orders_extend(orders_schedule_t const *from,
                                     void (*each)(void *, orders_schedule_t const *), void *arg) {
  uint64_t cnt = 0;
  uint at = from->cnt ? from->event[from->cnt - 1].at + 1 : 1;
  for (; at <= from->steps; at++)
    for (uint what = ORDERS_NEXT; what <= ORDERS_DIE; what++) {
      if (!orders_may(from, what)) continue;
      orders_schedule_t to = *from;
      to.event[to.cnt].at = at;
      to.event[to.cnt++].what = what;
      to.switches += what != ORDERS_DIE;
      to.dies += what == ORDERS_DIE;
      if (each) each(arg, &to);
      cnt++;
    }
  return cnt;
}

typedef struct orders_level {
  orders_schedule_t *schedule;
  uint64_t cnt, room, max, of; /* about max of `of` are run */
  testing_rng_t *rng;
  uchar *image;
} orders_level_t;

static inline void orders_try(void *arg, orders_schedule_t const *wanted) {
  orders_level_t *level = arg;
  if (level->cnt == level->room) return;
  if (level->of > level->max && testing_below(level->rng, level->of) >= level->max) return;
  orders_schedule_t schedule = *wanted;
  fixture_t *fix = g_orders.fix;
  /* said before, for whoever fails inside */
  static char const *verbose;
  if (!verbose) verbose = getenv("ORDERS_VERBOSE") ? "1" : "";
  if (*verbose) orders_say(&schedule);
  orders_run(&schedule);
  g_orders.failing = schedule; /* unless after comes back */
  g_orders.failing.first++;
  g_orders.test->after(fix, g_orders.died);
  g_orders.failing.first = 0;
  fd_alloc_leave(fix->alloc);
  memcpy(fix->wksp, level->image, fix->wksp->footprint);
  level->schedule[level->cnt++] = schedule;
}

/* For a test's teardown. */
static inline void orders_tell(void) {
  if (!g_orders.failing.first) return;
  g_orders.failing.first--;
  orders_say(&g_orders.failing);
  g_orders.failing.first = 0;
}

/* All of a case: at most `budget` schedules of each length. */
static inline void orders_explore(fixture_t *fix, orders_case_t const *test, testing_rng_t *rng,
                                  uint64_t budget) {
  memset(g_orders.go, 0, sizeof g_orders.go);
  g_orders.fix = fix;
  g_orders.test = test;
  g_orders.name = test->name;
  g_orders.users = calloc(fix->wksp->footprint / 8, 1);
  fd_alloc_leave(fix->alloc);
  uchar *image = malloc(fix->wksp->footprint);
  assert_non_null(image);
  assert_non_null(g_orders.users);
  memcpy(image, fix->wksp, fix->wksp->footprint);
  orders_level_t was = {.rng = rng, .image = image, .max = budget};
  was.room = test->thread_cnt * 2;
  was.schedule = calloc(was.room, sizeof *was.schedule);
  /* twice, so that most of the words that are shared are known */
  for (uint i = 0; i < test->thread_cnt * 2; i++)
    orders_try(&was, &(orders_schedule_t){.first = i % test->thread_cnt});
  memmove(was.schedule, was.schedule + test->thread_cnt, test->thread_cnt * sizeof *was.schedule);
  was.cnt = test->thread_cnt;
  uint64_t runs = was.cnt * 2, whole = 0;
  int all = 1;
  for (uint length = 1; length <= ORDERS_EVENTS && was.cnt; length++) {
    orders_level_t now = {.rng = rng, .image = image, .max = budget};
    for (uint64_t i = 0; i < was.cnt; i++) now.of += orders_extend(&was.schedule[i], NULL, NULL);
    now.room = now.of < 2 * budget ? now.of : 2 * budget;
    now.schedule = calloc(now.room + 1, sizeof *now.schedule);
    assert_non_null(now.schedule);
    for (uint64_t i = 0; i < was.cnt; i++) orders_extend(&was.schedule[i], orders_try, &now);
    runs += now.cnt;
    all = all && now.of <= budget;
    if (all && now.of) whole = length;
    free(was.schedule);
    was = now;
  }
  free(was.schedule);
  free(image);
  free(g_orders.users);
  print_message("# %s: %lu orders; all of up to %lu turns\n", test->name, runs, whole);
  g_orders.fix = NULL;
}

#endif
