/* futex: waiting on a 32-bit word in shared memory, across processes. */

#ifndef WKSP_CORE_FUTEX_H
#define WKSP_CORE_FUTEX_H

#include "core/atomic.h"
#include <limits.h>

#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Returns when woken, when *word is not val, after timeout_ns, or for no reason: callers look
 * again. */
static inline void wksp__futex_wait(uint32_t *word, uint32_t val, uint64_t timeout_ns) {
  WKSP__WAITS();
  struct timespec ts = {(time_t)(timeout_ns / 1000000000UL), (long)(timeout_ns % 1000000000UL)};
  syscall(SYS_futex, word, FUTEX_WAIT, val, &ts, NULL, 0);
}

static inline void wksp__futex_wake(uint32_t *word, int cnt) {
  syscall(SYS_futex, word, FUTEX_WAKE, cnt, NULL, NULL, 0);
}

/* Who waits for a word that somebody else holds, and sleeps meanwhile: two words beside it. A
   waiter notes that there is one, then looks at the word once more; who gives the word back looks
   for waiters afterwards: so one of the two sees the other. One is woken at a time, so that a
   thousand waiters do not run all at once to find the word taken; the woken one says again that
   there may be others. Who is killed wakes nobody, so nobody sleeps for longer than
   WKSP_QUEUE_NAP_MOST_NS, and the newest waiters look most often. */
typedef struct wksp__queue {
  uint32_t futex;   /* changes at each waking */
  uint32_t waiters; /* 1: somebody may sleep */
} wksp__queue_t;

#define WKSP_QUEUE_NAP_NS      1000000UL
#define WKSP_QUEUE_NAP_MOST_NS 16000000UL

/* How long the sleep of that number, from 0, lasts at most; ns. */
static inline uint64_t wksp__nap_ns(uint32_t sleep) {
  return sleep < 4 ? WKSP_QUEUE_NAP_NS << sleep : WKSP_QUEUE_NAP_MOST_NS;
}

/* Before the last look at the word. Returns what queue_wait wants. */
static inline uint32_t wksp__queue_enter(wksp__queue_t *queue) {
  /* The futex's word before the flag: a waking that clears the flag changes the word afterwards. */
  uint32_t word = wksp__ld_acquire(&queue->futex);
  wksp__xchg(&queue->waiters, 1U);
  return word;
}

/* Sleeps, for the sleep-th time. */
static inline void wksp__queue_wait(wksp__queue_t *queue, uint32_t word, uint32_t sleep) {
  wksp__futex_wait(&queue->futex, word, wksp__nap_ns(sleep));
}

/* Who has slept has got the word, or gives up: the waking has forgotten the others. */
static inline void wksp__queue_left(wksp__queue_t *queue) {
  wksp__st(&queue->waiters, 1U);
}

/* After the word was given back. */
static inline void wksp__queue_next(wksp__queue_t *queue) {
  wksp__fence_seq();
  if (wksp__likely(!wksp__ld(&queue->waiters))) return;
  wksp__xchg(&queue->waiters, 0U);
  wksp__fetch_add(&queue->futex, 1U);
  wksp__futex_wake(&queue->futex, 1);
}

#endif
