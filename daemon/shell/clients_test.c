/* clients: who a process is, looked at through a pidfd, on kernels that keep one with the socket
   and on those that do not. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/shell/clients.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A process called "somebody" that waits to be killed. */
static pid_t somebody(void) {
  int ready[2];
  char byte = 0;
  assert_int_equal(pipe(ready), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "somebody");
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    for (;;) pause();
  }
  assert_int_equal(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  close(ready[1]);
  return pid;
}

static void end(pid_t pid) {
  kill(pid, SIGKILL);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static uint64_t now_ns(void) {
  struct timespec real;
  clock_gettime(CLOCK_REALTIME, &real);
  return (uint64_t)real.tv_sec * 1000000000UL + (uint64_t)real.tv_nsec;
}

/* Without a kernel that keeps them a pidfd is got by number for who has the uid that connected, and
   for nobody else; it says what the process is, and that it has ended, whoever has its number. */
static void by_number(void **state) {
  pid_t pid = somebody();
  assert_int_equal(clients_pidfd(pid, getuid() + 1), -1);
  assert_int_equal(clients_pidfd(-1, getuid()), -1);
  assert_int_equal(clients_pidfd(0, getuid()), -1);
  clients_who_t who = {-1, clients_pidfd(pid, getuid()), pid};
  assert_true(who.pidfd >= 0);
  clients_seen_t seen;
  clients_look(&who, 0, &seen);
  assert_string_equal(seen.comm, "somebody");
  assert_int_equal(seen.ended, 0);
  assert_true(clients_cpu(&who) >= 0);
  end(pid);
  who.pid = getpid(); /* as if the number were another's by now */
  clients_look(&who, 0, &seen);
  assert_int_equal(seen.ended, 1);
  assert_string_equal(seen.comm, "");
  assert_true(clients_cpu(&who) >= 0);
  close(who.pidfd);
}

/* A number alone says something only of a process that had begun by then. */
static void number_alone(void **state) {
  uint64_t before = now_ns() - 10000000000UL;
  pid_t pid = somebody();
  clients_who_t who = {-1, -1, pid};
  clients_seen_t seen;
  clients_look(&who, now_ns(), &seen);
  assert_string_equal(seen.comm, "somebody");
  clients_look(&who, before, &seen);
  assert_string_equal(seen.comm, "");
  assert_int_equal(seen.ended, 0);
  clients_look(&who, 0, &seen);
  assert_string_equal(seen.comm, "");
  end(pid);
  clients_look(&who, now_ns(), &seen);
  assert_int_equal(seen.ended, 1);
}

/* The kernel's own, where it keeps one: it is of who connected. */
static void by_socket(void **state) {
  int ends[2];
  clients_seen_t seen;
  if (!clients_kept()) {
    print_message("# missing: a kernel that keeps a pidfd with each connection (Linux 6.5)\n");
    skip();
  }
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  clients_who_t who = {ends[0], -1, getpid()};
  clients_look(&who, 0, &seen);
  assert_int_equal(seen.ended, 0);
  assert_true(seen.comm[0] != 0);
  close(ends[0]);
  close(ends[1]);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(by_number),
      cmocka_unit_test(number_alone),
      cmocka_unit_test(by_socket),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
