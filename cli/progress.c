/* progress: see progress.h.

   The problem: most commands are one call, which says nothing until it is done, and may have
   gigabytes to zero or to read. So a thread looks at the clock meanwhile. What the command prints
   waits in stdout's buffer until the line is gone, since both go to one terminal. */

#include "progress.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define FIRST_MS 500L
#define STEP_MS  500L

/* What is printed beyond this appears at once. */
#define OUTPUT_MAX (1UL << 20)

static struct {
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t ended_cond;
  int running, ended;
  char const *command;
} progress = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *show(void *arg) {
  struct timespec at;
  long ms = FIRST_MS;
  int shown = 0;
  (void)arg;
  (void)pthread_mutex_lock(&progress.lock);
  clock_gettime(CLOCK_MONOTONIC, &at);
  while (!progress.ended) {
    long const step_ns = (shown ? STEP_MS : FIRST_MS) * 1000000L;
    at.tv_nsec += step_ns;
    at.tv_sec += at.tv_nsec / 1000000000L;
    at.tv_nsec %= 1000000000L;
    int err = 0;
    while (!progress.ended && err != ETIMEDOUT)
      err = pthread_cond_timedwait(&progress.ended_cond, &progress.lock, &at);
    if (progress.ended) break;
    fprintf(stderr, "\rwkspctl %s: %ld.%ld s\033[K", progress.command, ms / 1000, ms % 1000 / 100);
    fflush(stderr);
    shown = 1;
    ms += STEP_MS;
  }
  (void)pthread_mutex_unlock(&progress.lock);
  if (shown) fputs("\r\033[K", stderr);
  fflush(stderr);
  return NULL;
}

void progress_begin(char const *command) {
  pthread_condattr_t attr;
  sigset_t all, before;
  if (!isatty(STDERR_FILENO)) return;
  progress.command = command;
  if (pthread_condattr_init(&attr)) return;
  (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  int const made = !pthread_cond_init(&progress.ended_cond, &attr);
  (void)pthread_condattr_destroy(&attr);
  if (!made) return;
  (void)setvbuf(stdout, NULL, _IOFBF, OUTPUT_MAX);
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  progress.running = !pthread_create(&progress.thread, NULL, show, NULL);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void progress_end(void) {
  if (!progress.running) return;
  (void)pthread_mutex_lock(&progress.lock);
  progress.ended = 1;
  (void)pthread_cond_signal(&progress.ended_cond);
  (void)pthread_mutex_unlock(&progress.lock);
  (void)pthread_join(progress.thread, NULL);
  progress.running = 0;
}
