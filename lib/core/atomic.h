/* Loads, stores and atomics on shared memory, with the order in the name, and the crash points.

   A kill stops a thread between two instructions: stores it has executed become visible, those it
   has not never do. So what survives a kill is decided by program order, and the compiler must keep
   it: every store of a protocol goes through one of these (all are volatile-strength for the
   compiler). What another *running* thread sees is decided by the orders named here, on arm64 as on
   x86.

   In a build with WKSP_CRASH_POINTS every store calls wksp__crash_point() first, so that a test can
   stop the world at each in turn; and every load and store calls wksp__touch() with its place, so
   that one can put the accesses of several threads in any order. */

#ifndef WKSP_CORE_ATOMIC_H
#define WKSP_CORE_ATOMIC_H

#include <stdint.h>

#ifdef WKSP_CRASH_POINTS
void wksp__crash_point(void);
void wksp__touch(void const volatile *place); /* does nothing but in tests that have their own */
#define WKSP__POINT(p) (wksp__touch(p), wksp__crash_point())
#define WKSP__WAITS()  wksp__touch((void *)0) /* for somebody else's store */
#define WKSP__LD(p, order)       \
  ({                             \
    wksp__touch(p);              \
    __atomic_load_n((p), order); \
  })
#else
#define WKSP__POINT(p)     ((void)0)
#define WKSP__WAITS()      ((void)0)
#define WKSP__LD(p, order) __atomic_load_n((p), order)
#endif

/* Orders only the compiler. */
#define wksp__compiler_fence() __asm__ volatile("" ::: "memory")

/* A full barrier between this thread's accesses. */
#define wksp__fence_seq()     __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define wksp__fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define wksp__fence_release() __atomic_thread_fence(__ATOMIC_RELEASE)

#define wksp__ld(p)         WKSP__LD(p, __ATOMIC_RELAXED)
#define wksp__ld_acquire(p) WKSP__LD(p, __ATOMIC_ACQUIRE)
#define wksp__ld_seq(p)     WKSP__LD(p, __ATOMIC_SEQ_CST)

/* The compiler fences keep program order among these stores, which is what a kill sees. */
#define wksp__st(p, v)                            \
  do {                                            \
    WKSP__POINT(p);                               \
    wksp__compiler_fence();                       \
    __atomic_store_n((p), (v), __ATOMIC_RELAXED); \
    wksp__compiler_fence();                       \
  } while (0)
/* The same for code that does nothing but such accesses: keeps their order among each other and
 * with the rest of this file (volatile accesses stay in order), not with plain stores to other
 * memory, which so may stay in registers. */
#define wksp__st_kept(p, v)                                                    \
  do {                                                                         \
    WKSP__POINT(p);                                                            \
    __atomic_store_n((volatile __typeof__(*(p)) *)(p), (v), __ATOMIC_RELAXED); \
  } while (0)
#define wksp__st_release(p, v)                    \
  do {                                            \
    WKSP__POINT(p);                               \
    __atomic_store_n((p), (v), __ATOMIC_RELEASE); \
    wksp__compiler_fence();                       \
  } while (0)

/* Read-modify-writes; all sequentially consistent, since none is on a fast path. cas: non-zero on
 * success, *exp becomes what was found. */
#define wksp__cas(p, exp, des)                                                             \
  ({                                                                                       \
    WKSP__POINT(p);                                                                        \
    __atomic_compare_exchange_n((p), (exp), (des), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  })
#define wksp__fetch_add(p, v)                       \
  ({                                                \
    WKSP__POINT(p);                                 \
    __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST); \
  })
#define wksp__fetch_or(p, v)                       \
  ({                                               \
    WKSP__POINT(p);                                \
    __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST); \
  })
#define wksp__fetch_and(p, v)                       \
  ({                                                \
    WKSP__POINT(p);                                 \
    __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST); \
  })
#define wksp__xchg(p, v)                             \
  ({                                                 \
    WKSP__POINT(p);                                  \
    __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST); \
  })

#define wksp__likely(x)   __builtin_expect(!!(x), 1)
#define wksp__unlikely(x) __builtin_expect(!!(x), 0)

#endif
