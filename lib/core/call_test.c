/* Slots, the lock and the gate: who lives, who is waited for, and who is not. */

#include "core/alloc.h"
#include "core/call.h"
#include "core/fail.h"
#include "core/map.h"

#include "core/testing.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS 1000000UL

static int setup(void **state) {
  fd_wksp_t *wksp = fd_wksp_new_anon("test", 4UL << 20, 0, 1, 0);
  *state = wksp;
  return !wksp;
}

static int teardown(void **state) {
  fd_wksp_delete_anon(*state);
  return 0;
}

/* A number that processes and threads step through together. */
static _Atomic int *g_step;

static void step_to(int step) {
  atomic_store(g_step, step);
}

static void step_wait(int step) {
  uint64_t until = wksp__now_ns() + 20000 * MS;
  while (atomic_load(g_step) < step) {
    if (wksp__now_ns() > until) {
      fprintf(stderr, "waited 20 s for step %d\n", step);
      _exit(9);
    }
    sched_yield();
  }
}

static uint32_t slots_held(fd_wksp_t *wksp) {
  uint32_t cnt = 0;
  for (uint32_t i = 0; i < wksp->slot_max; i++)
    cnt += (wksp__slots(wksp)[i].claim & 3) == WKSP_SLOT_HELD;
  return cnt;
}

/* A thread keeps its slot from call to call, and a call says in its slot that it is inside. */
static void test_same_slot(void **state) {
  wksp__call_t a, b;
  assert_int_equal(wksp__call_begin(*state, &a), 0);
  assert_int_not_equal(a.slot->in, a.slot->out);
  wksp__call_end(&a);
  assert_int_equal(a.slot->in, a.slot->out);
  assert_int_equal(wksp__call_begin(*state, &b), 0);
  assert_ptr_equal(a.slot, b.slot);
  assert_int_equal(a.name, b.name);
  wksp__call_end(&b);
  assert_int_equal(a.slot->pid, getpid());
  assert_false(wksp__name_dead(*state, a.name));
}

static void *one_call(void *arg) {
  wksp__call_t call;
  if (wksp__call_begin(arg, &call)) return NULL;
  wksp__call_end(&call);
  return (void *)call.name;
}

/* A thread that ends gives its slot back, and its name is dead for ever. */
static void test_thread_end(void **state) {
  pthread_t thread;
  void *name, *other;
  pthread_create(&thread, NULL, one_call, *state);
  pthread_join(thread, &name);
  assert_non_null(name);
  assert_true(wksp__name_dead(*state, (uint64_t)name));
  assert_int_equal(slots_held(*state), 0);
  pthread_create(&thread, NULL, one_call, *state);
  pthread_join(thread, &other);
  assert_true(name != other);
}

typedef struct crowd {
  fd_wksp_t *wksp;
  pthread_barrier_t all;
  _Atomic int shared, failed;
} crowd_t;

static void *crowd_member(void *arg) {
  crowd_t *crowd = arg;
  wksp__call_t call;
  int err = wksp__call_begin(crowd->wksp, &call);
  if (err)
    crowd->failed++;
  else {
    if (!call.seat) crowd->shared++;
    wksp__call_end(&call);
  }
  pthread_barrier_wait(&crowd->all);
  if (wksp__call_begin(crowd->wksp, &call))
    crowd->failed++;
  else
    wksp__call_end(&call);
  return NULL;
}

/* More threads than slots: the shared slot serves those that got none. */
static void test_slots_run_out(void **state) {
  crowd_t crowd = {.wksp = *state};
  enum { EXTRA = 8 };
  uint32_t cnt = crowd.wksp->slot_max - 1 + EXTRA;
  pthread_t *thread = calloc(cnt, sizeof *thread);
  pthread_barrier_init(&crowd.all, NULL, cnt);
  for (uint32_t i = 0; i < cnt; i++)
    assert_int_equal(pthread_create(&thread[i], NULL, crowd_member, &crowd), 0);
  for (uint32_t i = 0; i < cnt; i++) pthread_join(thread[i], NULL);
  assert_int_equal(crowd.failed, 0);
  assert_int_equal(crowd.shared, EXTRA);
  assert_int_equal(slots_held(*state), 0);
  pthread_barrier_destroy(&crowd.all);
  free(thread);
}

/* A call that finds its thread inside a call (a signal handler's) has a slot of its own while it
 * lasts. */
static void test_nested(void **state) {
  wksp__call_t outer, inner;
  assert_int_equal(wksp__call_begin(*state, &outer), 0);
  assert_int_equal(wksp__call_begin(*state, &inner), 0);
  assert_ptr_not_equal(inner.slot, outer.slot);
  assert_ptr_not_equal(inner.slot, wksp__slots(*state));
  assert_null(inner.seat);
  assert_int_equal(outer.slot->nested_cnt, 1);
  wksp__call_end(&inner);
  wksp__call_end(&outer);
  assert_int_equal(slots_held(*state), 1);
}

/* Runs `part` in a child that then waits to be killed. */
static pid_t child(fd_wksp_t *wksp, void (*part)(fd_wksp_t *wksp)) {
  step_to(0);
  pid_t pid = fork();
  if (!pid) {
    part(wksp);
    step_to(1);
    for (;;) pause();
  }
  return pid;
}

static void end(pid_t pid) {
  kill(pid, SIGKILL);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void *keeps_slot(void *arg) {
  crowd_t *crowd = arg;
  one_call(crowd->wksp);
  pthread_barrier_wait(&crowd->all);
  pthread_barrier_wait(&crowd->all);
  return NULL;
}

static void hold_shared(fd_wksp_t *wksp) {
  wksp__call_t call;
  if (wksp__call_begin(wksp, &call) || call.slot != wksp__slots(wksp)) _exit(8);
}

/* Who sleeps for the shared slot goes on when the process that has it is killed, and so do those
   whom a killed waiter was to wake: nobody waits for the dead. */
static void test_shared_of_the_dead(void **state) {
  enum { WAITERS = 6 };
  crowd_t crowd = {.wksp = *state};
  wksp__slot_t *shared = wksp__slots(*state);
  uint32_t cnt = crowd.wksp->slot_max - 1;
  pthread_t *keeper = calloc(cnt, sizeof *keeper), waiter[WAITERS];
  pthread_barrier_init(&crowd.all, NULL, cnt + 1);
  for (uint32_t i = 0; i < cnt; i++)
    assert_int_equal(pthread_create(&keeper[i], NULL, keeps_slot, &crowd), 0);
  pthread_barrier_wait(&crowd.all);
  pid_t pid = child(*state, hold_shared);
  step_wait(1);
  for (uint32_t i = 0; i < WAITERS; i++)
    assert_int_equal(pthread_create(&waiter[i], NULL, one_call, *state), 0);
  while (!wksp__ld_acquire(&shared->queue.waiters)) sched_yield();
  end(pid);
  wksp__st(&shared->queue.waiters, 0U); /* as if one had been woken, and killed at once */
  for (uint32_t i = 0; i < WAITERS; i++) {
    void *name;
    pthread_join(waiter[i], &name);
    assert_non_null(name);
  }
  pthread_barrier_wait(&crowd.all);
  for (uint32_t i = 0; i < cnt; i++) pthread_join(keeper[i], NULL);
  assert_int_equal(slots_held(*state), 0);
  pthread_barrier_destroy(&crowd.all);
  free(keeper);
}

static void hold_lock(fd_wksp_t *wksp) {
  wksp__call_t call;
  if (wksp__call_begin(wksp, &call) || wksp__lock(&call, MS)) _exit(8);
}

/* A killed holder of the lock is found dead and the lock taken over. */
static void test_lock_of_the_dead(void **state) {
  pid_t pid = child(*state, hold_lock);
  step_wait(1);
  uint64_t holder = wksp__vol(*state)->lock;
  assert_false(wksp__name_dead(*state, holder));
  end(pid);
  assert_true(wksp__name_dead(*state, holder));
  wksp__call_t call;
  assert_int_equal(wksp__call_begin(*state, &call), 0);
  assert_int_equal(wksp__lock(&call, 1000 * MS), 0);
  wksp__unlock(&call);
  wksp__call_end(&call);
}

/* The holder is told by name, as long as he lives and after; words that name no slot are nobody. */
static void test_holder(void **state) {
  fd_wksp_t *wksp = *state;
  wksp__call_t call;
  wksp__holder_t holder;
  wksp__lock_holder(wksp, &holder);
  assert_int_equal(holder.pid, 0);
  assert_int_equal(wksp__call_begin(wksp, &call), 0);
  assert_int_equal(wksp__lock(&call, WKSP_LOCK_CALL_NS), 0);
  wksp__lock_holder(wksp, &holder);
  assert_int_equal(holder.pid, call.slot->pid);
  assert_int_equal(holder.tid, call.slot->tid);
  assert_int_equal(holder.dead, 0);
  assert_int_equal(holder.since_ns, 0); /* nobody waits */
  assert_string_equal(holder.comm, call.slot->comm);
  char comm[16];
  memcpy(comm, call.slot->comm, sizeof comm);
  memset(call.slot->comm, '\n', sizeof call.slot->comm);
  wksp__lock_holder(wksp, &holder);
  assert_string_equal(holder.comm, "???????????????");
  memcpy(call.slot->comm, comm, sizeof comm);
  wksp__unlock(&call);
  wksp__call_end(&call);
  uint64_t none = 0xfffffUL;
  memcpy(&wksp__vol(wksp)->lock, &none, sizeof none);
  wksp__lock_holder(wksp, &holder);
  assert_int_equal(holder.pid, 0);
  wksp__vol(wksp)->lock = 0;
}

/* A stopped holder makes a call with a deadline return, naming him; once he goes on the lock is to
 * be had. */
static void test_lock_of_the_stopped(void **state) {
  pid_t pid = child(*state, hold_lock);
  step_wait(1);
  wksp__call_t call;
  char want[32];
  snprintf(want, sizeof want, "pid %d", pid);
  assert_int_equal(wksp__call_begin(*state, &call), 0);
  assert_int_equal(wksp__lock(&call, 20 * MS), WKSP_E_TIMEDOUT);
  assert_non_null(strstr(wksp_last_error(), want));
  end(pid);
  assert_int_equal(wksp__lock(&call, 1000 * MS), 0);
  wksp__unlock(&call);
  wksp__call_end(&call);
}

static void one_call_only(fd_wksp_t *wksp) {
  one_call(wksp);
}

/* A child of fork has a slot of its own, and its death does not touch its parent's. */
static void test_fork(void **state) {
  uint64_t mine = (uint64_t)one_call(*state);
  pid_t pid = child(*state, one_call_only);
  step_wait(1);
  assert_int_equal(slots_held(*state), 2);
  end(pid);
  assert_false(wksp__name_dead(*state, mine));
  wksp__call_t call;
  assert_int_equal(wksp__call_begin(*state, &call), 0);
  assert_int_equal(call.name, mine);
  assert_int_equal(wksp__slots_reap(&call, 0), 1);
  wksp__call_end(&call);
  assert_int_equal(slots_held(*state), 1);
}

static void stay_inside(fd_wksp_t *wksp) {
  wksp__call_t call;
  if (wksp__call_begin(wksp, &call)) _exit(8);
}

/* A thread that stays inside a call is not waited for: its gate is open again and the closer told.
 */
static void test_gate_of_one_inside(void **state) {
  pid_t pid = child(*state, stay_inside);
  step_wait(1);
  wksp__call_t call;
  assert_int_equal(wksp__call_begin(*state, &call), 0);
  uint32_t idx = 0;
  while (wksp__slots(*state)[idx].pid != (uint32_t)pid) idx++;
  assert_int_equal(wksp__gate_close(&call, idx, 5 * MS, MS), 0);
  assert_true(wksp__slots(*state)[idx].gate <= WKSP_GATE_NOTICE);
  end(pid);
  /* dead inside: it holds still */
  assert_int_equal(wksp__gate_close(&call, idx, 5 * MS, MS), 1);
  wksp__gate_open(&call, idx);
  wksp__call_end(&call);
}

typedef struct gated {
  fd_wksp_t *wksp;
  uint32_t idx;
  uint64_t closed_ns;
} gated_t;

static void *gated_thread(void *arg) {
  gated_t *gated = arg;
  wksp__call_t call;
  if (wksp__call_begin(gated->wksp, &call)) return NULL;
  gated->idx = wksp__name_slot(call.name);
  wksp__call_end(&call);
  step_to(1);
  step_wait(2);
  if (wksp__call_begin(gated->wksp, &call)) return NULL;
  uint64_t passed = wksp__now_ns();
  wksp__call_end(&call);
  step_to(3);
  return (void *)passed;
}

/* An owner waits at a closed gate and goes on when it opens. */
static void test_gate_opens(void **state) {
  gated_t gated = {.wksp = *state};
  pthread_t thread;
  void *passed;
  wksp__call_t call;
  step_to(0);
  pthread_create(&thread, NULL, gated_thread, &gated);
  step_wait(1);
  assert_int_equal(wksp__call_begin(*state, &call), 0);
  assert_int_equal(wksp__gate_close(&call, gated.idx, 1000 * MS, 20000 * MS), 1);
  wksp__slot_t *slot = &wksp__slots(*state)[gated.idx];
  uint64_t in = slot->in; /* he comes in, sees the gate, and is outside again */
  step_to(2);
  while (__atomic_load_n(&slot->in, __ATOMIC_ACQUIRE) == in) sched_yield();
  assert_int_equal(atomic_load(g_step), 2);
  uint64_t opened = wksp__now_ns();
  wksp__gate_open(&call, gated.idx);
  wksp__call_end(&call);
  pthread_join(thread, &passed);
  assert_true((uint64_t)passed >= opened);
}

/* An owner does not wait for a closer that is late: it opens the gate itself. */
static void test_gate_late(void **state) {
  gated_t gated = {.wksp = *state};
  pthread_t thread;
  void *passed;
  wksp__call_t call;
  step_to(0);
  pthread_create(&thread, NULL, gated_thread, &gated);
  step_wait(1);
  assert_int_equal(wksp__call_begin(*state, &call), 0);
  uint64_t closed = wksp__now_ns();
  assert_int_equal(wksp__gate_close(&call, gated.idx, 10 * MS, 30 * MS), 1);
  step_to(2);
  pthread_join(thread, &passed);
  assert_true((uint64_t)passed >= closed + 30 * MS);
  wksp__call_end(&call);
}

static void close_gate_of_one(fd_wksp_t *wksp) {
  wksp__call_t call;
  if (wksp__call_begin(wksp, &call)) _exit(8);
  for (uint32_t i = 1; i < wksp->slot_max; i++)
    if (wksp__slots(wksp)[i].pid == (uint32_t)getppid() &&
        !wksp__gate_close(&call, i, 1000 * MS, 3600000 * MS))
      _exit(8);
}

/* An owner does not wait for a closer that is dead. */
static void test_gate_of_the_dead(void **state) {
  one_call(*state);
  pid_t pid = child(*state, close_gate_of_one);
  step_wait(1);
  end(pid);
  wksp__call_t call;
  assert_int_equal(wksp__call_begin(*state, &call), 0);
  assert_int_equal(call.slot->gate, 0);
  wksp__call_end(&call);
}

/* A slot whose claimant was killed before his lock comes back with the end of his lease. */
static void test_claiming_reaped(void **state) {
  fd_wksp_t *wksp = *state;
  wksp__call_t call;
  assert_int_equal(wksp__call_begin(wksp, &call), 0);
  uint32_t idx = wksp__name_slot(call.name) == 5 ? 6 : 5;
  wksp__slot_t *slot = &wksp__slots(wksp)[idx];
  slot->claim = 7UL << 32 | 1234UL << 2 | WKSP_SLOT_CLAIMING;
  assert_int_equal(wksp__slots_reap(&call, 0), 0);
  assert_int_equal(wksp__slots_reap(&call, 99), 0);
  assert_int_equal(wksp__slots_reap(&call, 1234), 1);
  assert_int_equal(slot->claim & 3, WKSP_SLOT_FREE);
  /* without a daemon: when the kernel knows no such process */
  pid_t pid = fork();
  if (!pid) _exit(0);
  waitpid(pid, NULL, 0);
  slot->claim = 9UL << 32 | ((uint64_t)WKSP_SLOT_PID | (uint64_t)pid) << 2 | WKSP_SLOT_CLAIMING;
  assert_int_equal(wksp__slots_reap(&call, 0), 1);
  wksp__call_end(&call);
}

/* A join that is not there, and one that is read-only, get an error, not a slot. */
static void test_refused(void **state) {
  wksp__call_t call;
  char page[4096];
  assert_int_equal(wksp__call_begin((fd_wksp_t *)page, &call), WKSP_E_INVAL);
  assert_int_equal(wksp__map_drop((fd_wksp_t *)page), WKSP_E_INVAL);
  assert_int_equal(wksp__map_ro((fd_wksp_t *)page), WKSP_E_INVAL);
  assert_int_equal(wksp__map_ro(*state), 0);
  assert_int_equal(wksp__map_add(*state, 1, 0, NULL, NULL), WKSP_E_INVAL);
}

int main(void) {
  g_step = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (g_step == MAP_FAILED) return 1;
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  struct CMUnitTest const tests[] = {
      T(test_holder),
      T(test_same_slot),
      T(test_thread_end),
      T(test_slots_run_out),
      T(test_shared_of_the_dead),
      T(test_nested),
      T(test_lock_of_the_dead),
      T(test_lock_of_the_stopped),
      T(test_fork),
      T(test_gate_of_one_inside),
      T(test_gate_opens),
      T(test_gate_late),
      T(test_gate_of_the_dead),
      T(test_claiming_reaped),
      T(test_refused),
  };
  return cmocka_run_group_tests_name("core/call", tests, NULL, NULL);
}
