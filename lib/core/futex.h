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

#endif
