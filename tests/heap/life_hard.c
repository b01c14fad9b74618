/* life_hard: what life.c asks of malloc in programs that are rare: threads that free after their
   destructors, namespaces of processes, filters of system calls, blocks that grow by little. */

#include "life.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Thousands of threads whose C library frees something after all destructors have run. */
static void *frees_late(void *arg) {
  (void)arg;
  (void)strerror(12345); /* in a block of the thread's, which goes with it */
  free(malloc(10));
  return NULL;
}

void late(void) {
  for (unsigned i = 0; i < 200; i++) pthread_join(start(frees_late, NULL), NULL);
  long before = size_kib();
  for (unsigned i = 0; i < 3000; i++) pthread_join(start(frees_late, NULL), NULL);
  WANT(size_kib() < before + 4000); /* a page each would be 12,000 */
}

/* The first process of a namespace, with threads, and a child that is the first of another: both
   have the id 1. Not everybody may make one: then nothing is asked. */
void namespaces(void) {
  pid_t first = (pid_t)syscall(SYS_clone, SIGCHLD | CLONE_NEWPID, 0, 0, 0, 0);
  if (first < 0) return;
  if (first) {
    wait_for(first);
    return;
  }
  pthread_t threads[3];
  for (uintptr_t i = 0; i < 3; i++) threads[i] = start(busy, (void *)(i + 1));
  for (int i = 0; i < 30; i++) {
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD | CLONE_NEWPID, 0, 0, 0, 0);
    if (!pid) {
      WANT(getpid() == 1);
      alarm(60); /* it would wait for its parent's threads */
      worker((void *)(uintptr_t)(i + 100));
      _exit(0);
    }
    wait_for(pid);
  }
  g_stop = 1;
  for (unsigned i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  _exit(0);
}

static void *busy_large(void *arg) {
  void *blk[64] = {0};
  for (uint64_t i = (uintptr_t)arg; !g_stop;
       i = i * 6364136223846793005UL + 1442695040888963407UL) {
    free(blk[i >> 58]);
    WANT(blk[i >> 58] = malloc(17000 + (i >> 32) % 60000));
  }
  for (unsigned i = 0; i < 64; i++) free(blk[i]);
  return NULL;
}

/* A process that has forbidden itself all that malloc can do without: barriers, advice about
   memory, and to ask who and what it is. */
void sandbox(void) {
  enum { CNT = 6 };
  static int const without[CNT] = {SYS_membarrier, SYS_madvise, SYS_kill,
                                   SYS_prctl,      SYS_mincore, SYS_gettid};
  struct sock_filter filter[CNT + 3] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
  for (unsigned i = 0; i < CNT; i++)
    filter[i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)without[i],
                                                 (unsigned char)(CNT - i), 0);
  filter[CNT + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  filter[CNT + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  struct sock_fprog program = {CNT + 3, filter};
  WANT(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  WANT(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
  pthread_t threads[3];
  for (uintptr_t i = 0; i < 3; i++) threads[i] = start(busy_large, (void *)(i + 1));
  for (int i = 0; i < 20; i++) {
    pid_t pid = fork();
    if (!pid) {
      worker((void *)(uintptr_t)(i + 100));
      pthread_join(start(worker, (void *)7), NULL);
      _exit(0);
    }
    wait_for(pid);
  }
  g_stop = 1;
  for (unsigned i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  fill();
  mutate();
}

/* A block that grows by a little each time is not copied each time: not as a mapping, and not where
   such blocks have been freed, so that they come from the heap. */
void grows(void) {
  enum { MOST = 24 << 20, STEP = 32 << 10 };
  for (int turn = 0; turn < 2; turn++) {
    size_t none = mallinfo2().hblks, moved = 0;
    char *blk = malloc(1);
    WANT(blk);
    for (size_t size = STEP; size <= MOST; size += STEP) {
      uintptr_t was = (uintptr_t)blk;
      WANT(blk = realloc(blk, size));
      if ((uintptr_t)blk != was && mallinfo2().hblks == none) moved += size;
      blk[size - 1] = (char)(size / STEP);
    }
    for (size_t size = STEP; size <= MOST; size += STEP) WANT(blk[size - 1] == (char)(size / STEP));
    WANT(moved < 100UL << 20);
    free(blk);
    void *big = malloc(30 << 20);
    free(big);
  }
}
