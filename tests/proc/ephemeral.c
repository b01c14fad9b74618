/* ephemeral: processes with an ephemeral fd_alloc that end in several ways, and how long it takes
   until everything is back in the workspace.

     ephemeral NAME TURNS

   For each way, TURNS times: a child attaches NAME, makes such an fd_alloc, fills it, and ends: it
   is killed while it waits, killed while it allocates and frees, or detaches and lives on. This
   process watches the workspace. Prints "WAY MS" for the longest time of each way, from the kill or
   the detach on. The socket is $WKSPD_SOCKET. Exit 1 with a sentence on failure. */

#include "wksp/wksp.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BACK_S 20.0 /* given up after that */
#define TAG    4242UL

enum { IDLE, BUSY, DETACH, WAYS };
static char const *const g_ways[WAYS] = {"killed-idle", "killed-busy", "detached"};

static void fail(char const *what) {
  fprintf(stderr, "ephemeral: %s: %s\n", what, wksp_last_error());
  exit(1);
}

static double now_s(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void tell(int fd) {
  if (write(fd, "x", 1) != 1) exit(1);
}

/* Blocks of many sizes, some large; every third is freed again. */
static void fill(fd_alloc_t *alloc) {
  for (ulong i = 0; i < 3000; i++) {
    ulong size = 16 + i * 37 % 5000 + (i % 500 ? 0 : 100000);
    void *blk = fd_alloc_malloc(alloc, 0, size);
    if (!blk) fail("malloc");
    memset(blk, 0x5a, size);
    if (i % 3 == 0) fd_alloc_free(alloc, blk);
  }
}

/* A program of its own: standard input says go on, standard output is told that all is there. */
static int child(char const *name, int way) {
  fd_wksp_t *wksp = fd_wksp_attach(name);
  if (!wksp) fail("attach");
  void *shmem = fd_wksp_alloc_laddr(wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, TAG);
  void *made = shmem ? fd_alloc_new_flags(shmem, TAG, FD_ALLOC_FLAG_EPHEMERAL) : NULL;
  if (!made) fail("new");
  fd_alloc_t *alloc = fd_alloc_join(made, 0);
  fill(alloc);
  tell(STDOUT_FILENO);
  char byte;
  if (way == BUSY)
    for (;;) fd_alloc_free(alloc, fd_alloc_malloc(alloc, 0, 16 + (ulong)rand() % 60000));
  if (read(STDIN_FILENO, &byte, 1) != 1) exit(1);
  if (fd_wksp_detach(wksp)) fail("detach");
  for (;;) pause();
}

static pid_t start(char const *name, int way, int ready, int go) {
  pid_t pid = fork();
  if (pid) return pid;
  char text[2] = {(char)('0' + way), 0};
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (dup2(go, STDIN_FILENO) < 0 || dup2(ready, STDOUT_FILENO) < 0) _exit(1);
  execl("/proc/self/exe", "ephemeral", name, text, "child", (char *)NULL);
  _exit(1);
}

static ulong used_of(fd_wksp_t *wksp) {
  fd_wksp_usage_t usage;
  int err;
  while ((err = fd_wksp_usage(wksp, NULL, 0, &usage)) == WKSP_E_AGAIN) {
  }
  if (err) fail("usage");
  return usage.total_sz - usage.free_sz;
}

/* Milliseconds from the child's end on. */
static double turn(fd_wksp_t *wksp, char const *name, int way) {
  int ready[2], go[2];
  char byte;
  ulong before = used_of(wksp);
  if (pipe(ready) || pipe(go)) fail("pipe");
  pid_t pid = start(name, way, ready[1], go[0]);
  close(ready[1]);
  if (read(ready[0], &byte, 1) != 1) {
    fprintf(stderr, "ephemeral: the child has failed\n");
    exit(1);
  }
  if (used_of(wksp) < before + 3000000) fail("the child has taken nothing");
  double began = now_s();
  if (way == DETACH)
    tell(go[1]);
  else
    kill(pid, SIGKILL);
  while (used_of(wksp) != before)
    if (now_s() - began > BACK_S) {
      fprintf(stderr, "ephemeral: %s: %lu bytes are in use after %.0f s, not %lu\n", g_ways[way],
              used_of(wksp), BACK_S, before);
      exit(1);
    }
  double took = (now_s() - began) * 1000;
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  close(ready[0]);
  close(go[0]);
  close(go[1]);
  return took;
}

int main(int argc, char **argv) {
  if (argc == 4 && !strcmp(argv[3], "child")) return child(argv[1], atoi(argv[2]));
  if (argc != 3) {
    fprintf(stderr, "usage: ephemeral NAME TURNS\n");
    return 2;
  }
  fd_wksp_t *wksp = fd_wksp_attach(argv[1]);
  if (!wksp) fail("attach");
  for (int way = 0; way < WAYS; way++) {
    double most = 0;
    for (int i = 0; i < atoi(argv[2]); i++) {
      double took = turn(wksp, argv[1], way);
      if (took > most) most = took;
    }
    printf("%s %.1f\n", g_ways[way], most);
    fflush(stdout);
  }
  return 0;
}
