/* sandbox: what a worker can still do, tried out in processes that entered it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/child/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAP_SIZE (16UL << 20)

/* Runs attempt in a sandboxed process: its wait status. */
static int sandboxed(int (*attempt)(void)) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    if (sandbox_enter(4, MAP_SIZE, 5)) _exit(99);
    _exit(attempt());
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return status;
}

static int is_killed(int (*attempt)(void)) {
  int status = sandboxed(attempt);
  if (WIFEXITED(status)) printf("# it went on, status %d\n", WEXITSTATUS(status));
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static int try_nothing(void) {
  return 0;
}
static int try_connect(void) {
  return socket(AF_UNIX, SOCK_STREAM, 0) < 0;
}
static int try_exec(void) {
  return execl("/bin/true", "true", NULL);
}
static int try_kill(void) {
  return kill(getppid(), SIGUSR1);
}
static int try_tgkill(void) {
  return (int)syscall(SYS_tgkill, getppid(), getppid(), 0);
}
static int try_code(void) {
  return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}
static int try_setuid(void) {
  return (int)syscall(SYS_setuid, 0);
}
static int try_unshare(void) {
  return (int)syscall(SYS_unshare, 0);
}
static int try_fork(void) {
  return (int)syscall(SYS_fork) < 0;
}

#if !defined(__SANITIZE_ADDRESS__) /* which needs these two itself */
static int try_open(void) {
  return open("/dev/null", O_RDONLY | O_CLOEXEC) < 0;
}
static int try_outlive(void) {
  return prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
}
static int try_mprotect(void) {
  static _Alignas(4096) char page[4096];
  return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}
#endif

/* What would reach beyond the workspace kills the worker. */
static void forbidden(void **state) {
  assert_int_equal(sandboxed(try_nothing), 0);
  assert_true(is_killed(try_connect));
  assert_true(is_killed(try_exec));
  assert_true(is_killed(try_kill));
  assert_true(is_killed(try_tgkill));
  assert_true(is_killed(try_code));
  assert_true(is_killed(try_setuid));
  assert_true(is_killed(try_unshare));
  assert_true(is_killed(try_fork));
#if !defined(__SANITIZE_ADDRESS__)
  assert_true(is_killed(try_open));
  assert_true(is_killed(try_outlive));
  assert_true(is_killed(try_mprotect));
#endif
}

static int try_work(void) {
  char *mem = mmap(NULL, MAP_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (mem == MAP_FAILED) return 1;
  memset(mem, 1, MAP_SIZE);
  char *heap = malloc(2UL << 20);
  if (!heap) return 2;
  memset(heap, 2, 2UL << 20);
  if (kill(getppid(), 0)) return 3;
  return munmap(mem, MAP_SIZE) ? 4 : 0;
}

/* What a worker needs works: mapping its workspace, memory for its answer, asking for a process. */
static void allowed(void **state) {
  assert_int_equal(sandboxed(try_work), 0);
}

static int try_descriptors(void) {
  /* 10 was open before; write is allowed, so this tells */
  return write(10, "x", 1) == -1 && errno == EBADF ? 0 : 1;
}

/* No descriptor from the first on is left. */
static void descriptors(void **state) {
  assert_int_equal(dup2(1, 10), 10);
  assert_int_equal(sandboxed(try_descriptors), 0);
  close(10);
}

static int try_privileges(void) {
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return 1;
  if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) return 3;
  int signal_number = 0;
  prctl(PR_GET_PDEATHSIG, &signal_number, 0, 0, 0);
  return signal_number == SIGKILL ? 0 : 4;
}

/* It has no new privileges to hope for, dumps no core and dies with its parent. */
static void privileges(void **state) {
  assert_int_equal(sandboxed(try_privileges), 0);
}

/* Capabilities are gone, as the kernel tells a bystander. */
static void capabilities(void **state) {
  int in[2], out[2];
  char byte;
  assert_int_equal(pipe(in), 0);
  assert_int_equal(pipe(out), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    if (sandbox_enter(4, MAP_SIZE, 5)) _exit(99);
    _exit(write(1, "i", 1) == 1 && read(0, &byte, 1) == 1 ? 0 : 1);
  }
  assert_int_equal(read(out[0], &byte, 1), 1); /* it is inside now */
  struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = pid};
  struct __user_cap_data_struct caps[2];
  assert_int_equal(syscall(SYS_capget, &head, caps), 0);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(caps[i].effective | caps[i].permitted | caps[i].inheritable, 0);
  }
  int status;
  assert_int_equal(write(in[1], "o", 1), 1);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  for (int i = 0; i < 2; i++) {
    close(in[i]);
    close(out[i]);
  }
}

#if !defined(__SANITIZE_ADDRESS__)
static int try_too_much(void) {
  size_t much = 4 * MAP_SIZE + (1UL << 30);
  return mmap(NULL, much, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
             ? 0
             : 1;
}

/* Addresses are limited to what the workspace needs. */
static void addresses(void **state) {
  assert_int_equal(sandboxed(try_too_much), 0);
}
#endif

/* Processor time is limited, whatever the daemon does. */
static void processor_time(void **state) {
  pid_t pid = fork();
  if (!pid) {
    if (sandbox_enter(4, MAP_SIZE, 1)) _exit(99);
    for (volatile unsigned long i = 0;; i++) {
    }
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status));
  assert_true(WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL);
}

int main(void) {
  struct CMUnitTest const tests[] = {
    cmocka_unit_test(forbidden),
    cmocka_unit_test(allowed),
    cmocka_unit_test(descriptors),
    cmocka_unit_test(privileges),
    cmocka_unit_test(capabilities),
#if !defined(__SANITIZE_ADDRESS__)
    cmocka_unit_test(addresses),
#endif
    cmocka_unit_test(processor_time),
  };
  return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
