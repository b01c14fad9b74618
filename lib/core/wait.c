/* wait: what time it is, and short waits for another thread's store.

   Problem: who waits for a thread that has just lost its core should give it one, and a library
   must not be a place at which a thread can be cancelled.

   What it refuses: to be used where many may wait at once; they sleep on a queue (futex.h). */

#include "core/atomic.h"
#include "core/call.h"

#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint64_t wksp__now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000UL + (uint64_t)ts.tv_nsec;
}

uint64_t wksp__real_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  return (uint64_t)ts.tv_sec * 1000000000UL + (uint64_t)ts.tv_nsec;
}

void wksp__relax(uint32_t turn) {
  WKSP__WAITS();
  if (turn < 64) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    wksp__compiler_fence();
#endif
  } else if (turn < 72) {
    sched_yield();
  } else {
    struct timespec nap = {0, turn < 100 ? 20000 : 100000};
    /* not the C library's, at which a thread may be cancelled: malloc must not be such a place */
    (void)syscall(SYS_nanosleep, &nap, NULL);
  }
}
