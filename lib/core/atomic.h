/* Loads, stores and atomics on shared memory, with the order in the name, and the crash points.

   A kill stops a thread between two instructions: stores it has executed become visible, those it
   has not never do. So what survives a kill is decided by program order, and the compiler must keep
   it: every store of a protocol goes through one of these (all are volatile-strength for the
   compiler). What another *running* thread sees is decided by the orders named here, on arm64 as on
   x86.

   In a build with WKSP_NO_THREADS (-Dthreads=false) nobody else runs, no signal handler either, and
   none of this is an atomic instruction; its workspaces are no others' (layout.c).

   In a build with WKSP_CRASH_POINTS every store calls wksp__crash_point() first, so that a test can
   stop the world at each in turn; and every load and store calls wksp__touch() with its place, so
   that one can put the accesses of several threads in any order; and every atomic that other cores
   have to wait for, and every full barrier, calls wksp__locked(), so that one can count them. */

#ifndef WKSP_CORE_ATOMIC_H
#define WKSP_CORE_ATOMIC_H

#include <stdint.h>

#ifdef WKSP_CRASH_POINTS
void wksp__crash_point(void);
void wksp__touch(void const volatile *place); /* does nothing but in tests that have their own */
void wksp__locked(void);                      /* likewise */
#define WKSP__POINT(p) (wksp__touch(p), wksp__crash_point())
#define WKSP__LOCKED() wksp__locked()
#define WKSP__WAITS()  wksp__touch((void *)0) /* for somebody else's store */
#define WKSP__LD(p, order)       \
  ({                             \
    wksp__touch(p);              \
    __atomic_load_n((p), order); \
  })
#else
#define WKSP__POINT(p)     ((void)0)
#define WKSP__LOCKED()     ((void)0)
#define WKSP__WAITS()      ((void)0)
#define WKSP__LD(p, order) __atomic_load_n((p), order)
#endif

/* Orders only the compiler. */
#define wksp__compiler_fence() __asm__ volatile("" ::: "memory")

#ifndef WKSP_NO_THREADS

/* A full barrier between this thread's accesses. */
#define wksp__fence_seq()     (WKSP__LOCKED(), __atomic_thread_fence(__ATOMIC_SEQ_CST))
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
    WKSP__LOCKED();                                                                        \
    __atomic_compare_exchange_n((p), (exp), (des), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  })
#define wksp__fetch_add(p, v)                       \
  ({                                                \
    WKSP__POINT(p);                                 \
    WKSP__LOCKED();                                 \
    __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST); \
  })
#define wksp__fetch_or(p, v)                       \
  ({                                               \
    WKSP__POINT(p);                                \
    WKSP__LOCKED();                                \
    __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST); \
  })
#define wksp__fetch_and(p, v)                       \
  ({                                                \
    WKSP__POINT(p);                                 \
    WKSP__LOCKED();                                 \
    __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST); \
  })
#define wksp__xchg(p, v)                             \
  ({                                                 \
    WKSP__POINT(p);                                  \
    WKSP__LOCKED();                                  \
    __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST); \
  })
#define wksp__st_seq(p, v)                        \
  do {                                            \
    WKSP__POINT(p);                               \
    WKSP__LOCKED();                               \
    __atomic_store_n((p), (v), __ATOMIC_SEQ_CST); \
  } while (0)

#else /* one thread of one process at a time: what a kill leaves is all that matters */

#define wksp__fence_seq()     wksp__compiler_fence()
#define wksp__fence_acquire() wksp__compiler_fence()
#define wksp__fence_release() wksp__compiler_fence()

#define wksp__ld(p)         __atomic_load_n((p), __ATOMIC_RELAXED)
#define wksp__ld_acquire(p) wksp__ld(p)
#define wksp__ld_seq(p)     wksp__ld(p)

#define wksp__st(p, v)                            \
  do {                                            \
    WKSP__POINT(p);                               \
    wksp__compiler_fence();                       \
    __atomic_store_n((p), (v), __ATOMIC_RELAXED); \
    wksp__compiler_fence();                       \
  } while (0)
#define wksp__st_kept(p, v)                                                    \
  do {                                                                         \
    WKSP__POINT(p);                                                            \
    __atomic_store_n((volatile __typeof__(*(p)) *)(p), (v), __ATOMIC_RELAXED); \
  } while (0)
#define wksp__st_release(p, v) wksp__st(p, v)
#define wksp__st_seq(p, v)     wksp__st(p, v)

#define wksp__cas(p, exp, des)                        \
  ({                                                  \
    WKSP__POINT(p);                                   \
    __typeof__(*(p)) was_ = wksp__ld(p);              \
    int same_ = was_ == *(exp);                       \
    if (same_)                                        \
      __atomic_store_n((p), (des), __ATOMIC_RELAXED); \
    else                                              \
      *(exp) = was_;                                  \
    wksp__compiler_fence();                           \
    same_;                                            \
  })
#define wksp__change_(p, new)            \
  ({                                     \
    __typeof__(*(p)) old_ = wksp__ld(p); \
    wksp__st(p, new);                    \
    old_;                                \
  })
#define wksp__fetch_add(p, v) wksp__change_(p, old_ + (v))
#define wksp__fetch_or(p, v)  wksp__change_(p, old_ | (v))
#define wksp__fetch_and(p, v) wksp__change_(p, old_ &(v))
#define wksp__xchg(p, v)      wksp__change_(p, v)

#endif

/* A relaxed load that may be part of the instruction that needs it, which compilers do not do with
   atomic ones: for a word that others store, between two compiler fences. The thread sanitizer is
   told what it is. */
#if defined(__SANITIZE_THREAD__)
#define wksp__peek(p) wksp__ld(p)
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define wksp__peek(p) wksp__ld(p)
#endif
#endif
#ifndef wksp__peek
#define wksp__peek(p) (*(p))
#endif

#define wksp__likely(x)   __builtin_expect(!!(x), 1)
#define wksp__unlikely(x) __builtin_expect(!!(x), 0)

#endif
