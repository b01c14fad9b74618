/* Tests of brackets and pauses. */

#include "core/testing.h"
#include "wksp/pause.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static ulong const SECOND = 1000000000UL;

/* Waits for a byte of another process. */
static void await(int fd) {
  char byte;
  assert_int_equal(read(fd, &byte, 1), 1);
}

/* Brackets nest; a leave too many does nothing; NULL and a read-only join are refused. */
static void brackets(void **state) {
  fd_wksp_t *wksp = testing_wksp(64, 1UL << 20);
  for (uint i = 0; i < 3; i++) assert_int_equal(wksp_client_enter(wksp), 0);
  for (uint i = 0; i < 3; i++) {
    assert_int_equal(wksp_pause(wksp, 0, 0, NULL, 0, NULL), WKSP_E_INVAL);
    wksp_client_leave(wksp);
  }
  wksp_client_leave(wksp);
  assert_int_equal(wksp_client_enter(NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_pause(NULL, 0, 0, NULL, 0, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_resume(wksp), WKSP_E_INVAL);
  assert_int_equal(wksp_pause(wksp, SECOND, SECOND, NULL, 0, NULL), 0);
  assert_int_equal(wksp_pause(wksp, SECOND, SECOND, NULL, 0, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_client_enter(wksp), 0); /* who has paused does not wait for himself */
  wksp_client_leave(wksp);
  assert_int_equal(wksp_resume(wksp), 0);
  assert_int_equal(wksp_resume(wksp), WKSP_E_INVAL);
  void *copy = testing_map(wksp->footprint);
  memcpy(copy, wksp, wksp->footprint);
  fd_wksp_t *ro = fd_wksp_join_ro(copy);
  assert_non_null(ro);
  assert_int_equal(wksp_client_enter(ro), WKSP_E_RDONLY);
  assert_int_equal(wksp_pause(ro, 0, 0, NULL, 0, NULL), WKSP_E_RDONLY);
  fd_wksp_leave(ro);
  munmap(copy, wksp->footprint);
  testing_wksp_end(wksp);
}

/* A bracket without a call is the same: it nests with the others, a child of fork has to ask anew,
   and a read-only join is refused. */
static void without_a_call(void **state) {
  fd_wksp_t *wksp = testing_wksp(64, 1UL << 20);
  wksp_bracket_t *bracket;
  assert_int_equal(wksp_client_bracket(NULL, &bracket), WKSP_E_INVAL);
  assert_int_equal(wksp_client_bracket(wksp, NULL), WKSP_E_INVAL);
  assert_int_equal(wksp_client_bracket(wksp, &bracket), 0);
  for (uint i = 0; i < 4; i++)
    assert_int_equal(i & 1U ? wksp_client_enter(wksp) : wksp_bracket_enter(bracket), 0);
  for (uint i = 0; i < 4; i++) {
    assert_int_equal(wksp_pause(wksp, 0, 0, NULL, 0, NULL), WKSP_E_INVAL);
    if (i & 2U)
      wksp_client_leave(wksp);
    else
      wksp_bracket_leave(bracket);
  }
  wksp_bracket_leave(bracket); /* one too many */
  assert_int_equal(wksp_pause(wksp, SECOND, SECOND, NULL, 0, NULL), 0);
  assert_int_equal(wksp_bracket_enter(bracket), 0); /* he does not wait for himself */
  wksp_bracket_leave(bracket);
  assert_int_equal(wksp_resume(wksp), 0);
  pid_t child = fork();
  if (!child) {
    int bad = wksp_client_bracket(wksp, &bracket);
    if (!bad) bad = wksp_bracket_enter(bracket);
    if (!bad) wksp_bracket_leave(bracket);
    _exit(bad);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  assert_int_equal(wksp_bracket_enter(bracket), 0);
  wksp_bracket_leave(bracket);
  testing_wksp_end(wksp);
}

typedef struct teller {
  fd_wksp_t *wksp;
  uint64_t *a, *b;
  int call; /* 1: by calls, 0: without */
  uint64_t stop, turns;
} teller_t;

/* Two words that are equal outside of brackets. */
static void *teller(void *arg) {
  teller_t *self = arg;
  wksp_bracket_t *bracket;
  assert_int_equal(wksp_client_bracket(self->wksp, &bracket), 0);
  while (!__atomic_load_n(&self->stop, __ATOMIC_RELAXED)) {
    assert_int_equal(self->call ? wksp_client_enter(self->wksp) : wksp_bracket_enter(bracket), 0);
    __atomic_store_n(self->a, *self->a + 1, __ATOMIC_RELAXED);
    __atomic_store_n(self->b, *self->b + 1, __ATOMIC_RELAXED);
    if (self->call)
      wksp_client_leave(self->wksp);
    else
      wksp_bracket_leave(bracket);
    __atomic_fetch_add(&self->turns, 1UL, __ATOMIC_RELAXED);
  }
  return NULL;
}

/* Inside a pause nobody is inside a bracket: what brackets keep together is together, and stays as
   it is until the pause is over. */
static void nobody_inside(void **state) {
  fd_wksp_t *wksp = testing_wksp(64, 1UL << 20);
  uint64_t words[6] = {0};
  teller_t tellers[3];
  pthread_t threads[3];
  for (uint i = 0; i < 3; i++) {
    tellers[i] = (teller_t){.wksp = wksp, .a = &words[2 * i], .b = &words[2 * i + 1], .call = !i};
    assert_int_equal(pthread_create(&threads[i], NULL, teller, &tellers[i]), 0);
  }
  ulong moved = 0, last = 0;
  for (uint round = 0; round < 200 || moved < 20; round++) {
    assert_int_equal(wksp_pause(wksp, 60 * SECOND, 60 * SECOND, NULL, 0, NULL), 0);
    uint64_t sum = 0;
    for (uint i = 0; i < 6; i++) sum += __atomic_load_n(&words[i], __ATOMIC_RELAXED);
    for (uint i = 0; i < 6; i += 2) assert_int_equal(words[i], words[i + 1]);
    sched_yield(); /* whoever can, goes on */
    for (uint i = 0; i < 6; i++) sum -= __atomic_load_n(&words[i], __ATOMIC_RELAXED);
    assert_int_equal(sum, 0);
    moved += words[0] + words[2] + words[4] != last;
    last = words[0] + words[2] + words[4];
    assert_int_equal(wksp_resume(wksp), 0);
  }
  for (uint i = 0; i < 3; i++) __atomic_store_n(&tellers[i].stop, 1UL, __ATOMIC_RELAXED);
  for (uint i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  testing_wksp_end(wksp);
}

typedef struct stayer {
  fd_wksp_t *wksp;
  int in[2], out[2]; /* pipes */
  uint tid;
} stayer_t;

static void *stayer(void *arg) {
  stayer_t *self = arg;
  self->tid = (uint)syscall(SYS_gettid);
  assert_int_equal(wksp_client_enter(self->wksp), 0);
  assert_int_equal(write(self->out[1], "", 1), 1);
  await(self->in[0]);
  wksp_client_leave(self->wksp);
  return NULL;
}

/* Who stays inside is named, and the brackets are open again. */
static void who_stays(void **state) {
  fd_wksp_t *wksp = testing_wksp(64, 1UL << 20);
  stayer_t self = {.wksp = wksp};
  pthread_t thread;
  assert_int_equal(pipe(self.in), 0);
  assert_int_equal(pipe(self.out), 0);
  assert_int_equal(pthread_create(&thread, NULL, stayer, &self), 0);
  await(self.out[0]);
  wksp_inside_t inside[2];
  uint cnt = 0;
  assert_int_equal(wksp_pause(wksp, 1000000, SECOND, inside, 2, &cnt), WKSP_E_TIMEDOUT);
  assert_int_equal(cnt, 1);
  assert_int_equal(inside[0].tid, self.tid);
  assert_int_equal(inside[0].pid, getpid());
  assert_int_equal(wksp_client_enter(wksp), 0);
  wksp_client_leave(wksp);
  assert_int_equal(write(self.in[1], "", 1), 1);
  pthread_join(thread, NULL);
  assert_int_equal(wksp_pause(wksp, SECOND, SECOND, inside, 2, &cnt), 0);
  assert_int_equal(wksp_resume(wksp), 0);
  for (uint i = 0; i < 2; i++) {
    close(self.in[i]);
    close(self.out[i]);
  }
  testing_wksp_end(wksp);
}

static void *enter_once(void *arg) {
  assert_int_equal(wksp_client_enter(arg), 0);
  wksp_client_leave(arg);
  return NULL;
}

/* A pause that lasts longer than it said is over for who waits, and the one who made it is told. */
static void too_long(void **state) {
  fd_wksp_t *wksp = testing_wksp(64, 1UL << 20);
  pthread_t thread;
  assert_int_equal(wksp_pause(wksp, 1000000, 0, NULL, 0, NULL), 0);
  assert_int_equal(pthread_create(&thread, NULL, enter_once, wksp), 0);
  pthread_join(thread, NULL);
  assert_int_equal(wksp_resume(wksp), WKSP_E_TIMEDOUT);
  assert_int_equal(wksp_pause(wksp, SECOND, SECOND, NULL, 0, NULL), 0);
  assert_int_equal(wksp_resume(wksp), 0);
  testing_wksp_end(wksp);
}

/* A process that pauses, or is inside a bracket, and what becomes of it. */
static pid_t child_of(fd_wksp_t *wksp, int pauses, ulong hold_ns) {
  int out[2];
  assert_int_equal(pipe(out), 0);
  pid_t child = fork();
  if (!child) {
    int err = pauses ? wksp_pause(wksp, SECOND, hold_ns, NULL, 0, NULL) : wksp_client_enter(wksp);
    if (err || write(out[1], "", 1) != 1) _exit(1);
    for (;;) pause();
  }
  close(out[1]);
  await(out[0]);
  close(out[0]);
  return child;
}

static void end_child(pid_t child) {
  int status;
  kill(child, SIGKILL);
  assert_int_equal(waitpid(child, &status, 0), child);
}

/* Nobody waits for a dead pauser, nor for a stopped one beyond his time, nor is anybody who died in
   a bracket waited for. */
static void the_dead(void **state) {
  fd_wksp_t *wksp = testing_wksp(64, 1UL << 20);
  pid_t child = child_of(wksp, 1, 3600 * SECOND);
  uint cnt;
  assert_int_equal(wksp_pause(wksp, 0, 0, NULL, 0, &cnt), WKSP_E_BUSY);
  end_child(child);
  assert_int_equal(wksp_client_enter(wksp), 0);
  wksp_client_leave(wksp);

  child = child_of(wksp, 1, 1000000);
  assert_int_equal(kill(child, SIGSTOP), 0);
  assert_int_equal(wksp_client_enter(wksp), 0);
  wksp_client_leave(wksp);
  end_child(child);

  child = child_of(wksp, 1, 3600 * SECOND);
  end_child(child);
  assert_int_equal(wksp_pause(wksp, SECOND, SECOND, NULL, 0, NULL), 0);
  assert_int_equal(wksp_resume(wksp), 0);

  child = child_of(wksp, 0, 0);
  assert_int_equal(wksp_pause(wksp, 1000000, SECOND, NULL, 0, &cnt), WKSP_E_TIMEDOUT);
  end_child(child);
  assert_int_equal(wksp_pause(wksp, 10 * SECOND, SECOND, NULL, 0, NULL), 0);
  assert_int_equal(wksp_resume(wksp), 0);
  testing_wksp_end(wksp);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(brackets), cmocka_unit_test(nobody_inside), cmocka_unit_test(who_stays),
      cmocka_unit_test(too_long), cmocka_unit_test(the_dead),      cmocka_unit_test(without_a_call),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
