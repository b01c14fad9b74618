/* pause: a point in time, for programs whose updates span more than one word.

   A checkpoint of a running workspace sees each byte at another moment. A program that wants its
   updates in one whole, or not at all, brackets them:

     wksp_client_enter(wksp);
     from->amount -= 5;
     to->amount += 5;
     wksp_client_leave(wksp);

   Whoever takes a checkpoint closes the brackets of all threads of all processes for a moment
   (wksp_pause, wksp_resume): it waits until none is inside, and whoever wants in waits for the end.
   While nobody pauses, a pair of brackets is a few plain loads and stores, no atomic instruction
   and no system call.

   Nobody waits for the dead, nor for long: if the one who pauses ends, or his time is over, whoever
   waits goes on, and wksp_resume says that the pause did not hold.

   Not for: keeping threads from one another. Brackets exclude a pause, nothing else. */

#ifndef WKSP_PAUSE_H
#define WKSP_PAUSE_H

#include "error.h"
#include "fd_wksp.h"
#include "types.h"

WKSP_PROTOTYPES_BEGIN

/* Enters a bracket of the calling thread; brackets nest. It should be short: microseconds, no
   waiting for others inside. 0, and wksp_client_leave must follow in the same thread; or E_RDONLY,
   E_LIMIT (every slot of the workspace is taken), E_INVAL, E_SYS: then it is not entered. A thread
   that is killed inside counts as outside. */
WKSP_API int wksp_client_enter(fd_wksp_t *wksp);
WKSP_API void wksp_client_leave(fd_wksp_t *wksp);

/* The same without a call, where two calls are what a bracket costs: a thread asks for its bracket
   of the workspace once, and keeps it until it leaves the workspace or ends. A child of fork asks
   anew: what its parent had is gone there. The fields are the library's. The two kinds may be mixed
   and nested. */
typedef struct wksp_bracket {
  fd_wksp_t *wksp;
  ulong *depth; /* NULL: ask the library */
  uint const *fenced;
  ulong const *pause;
} wksp_bracket_t;

/* 0 and *ret_bracket, or as wksp_client_enter. */
WKSP_API int wksp_client_bracket(fd_wksp_t *wksp, wksp_bracket_t **ret_bracket);

/* What is left to the library when others pause, or when the bracket is an inner one. */
WKSP_API int wksp_client_enter_rest(wksp_bracket_t *bracket);
WKSP_API void wksp_client_leave_rest(wksp_bracket_t *bracket);

/* As wksp_client_enter and wksp_client_leave. The stores and loads are those of pause.c, and so are
   their partners. */
static inline int wksp_bracket_enter(wksp_bracket_t *bracket) {
  ulong *depth = bracket->depth;
  if (__builtin_expect(!depth || __atomic_load_n(depth, __ATOMIC_RELAXED), 0))
    return wksp_client_enter_rest(bracket);
  __atomic_store_n(depth, 1UL, __ATOMIC_RELAXED);
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  if (__builtin_expect((__atomic_load_n(bracket->fenced, __ATOMIC_RELAXED) |
                        __atomic_load_n(bracket->pause, __ATOMIC_RELAXED)) != 0,
                       0)) {
    __atomic_store_n(depth, 0UL, __ATOMIC_RELAXED);
    return wksp_client_enter_rest(bracket);
  }
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  return 0;
}

static inline void wksp_bracket_leave(wksp_bracket_t *bracket) {
  ulong *depth = bracket->depth;
  if (__builtin_expect(!depth || __atomic_load_n(depth, __ATOMIC_RELAXED) != 1, 0))
    wksp_client_leave_rest(bracket);
  else
    __atomic_store_n(depth, 0UL, __ATOMIC_RELEASE);
}

/* Who is inside a bracket. */
typedef struct wksp_inside {
  uint pid, tid; /* as it sees itself */
  char comm[16]; /* printable */
} wksp_inside_t;

/* Closes the brackets of the workspace, the calling thread's excepted, which must be outside, and
   waits at most wait_ns until every living thread is outside. hold_ns: from then on whoever wants
   in goes on by himself. 0, and wksp_resume must follow in the same thread; E_TIMEDOUT: somebody
   stayed inside, brackets are open again, and up to inside_max of those are told in inside[], their
   number in *ret_inside_cnt; E_BUSY: another has paused it; E_INVAL, E_RDONLY, ... */
WKSP_API int wksp_pause(fd_wksp_t *wksp, ulong wait_ns, ulong hold_ns, wksp_inside_t *inside,
                        uint inside_max, uint *ret_inside_cnt);

/* Opens them. 0: nobody was inside since the pause began; E_TIMEDOUT: the pause had come to its end
   before. E_INVAL: the calling thread has not paused it. */
WKSP_API int wksp_resume(fd_wksp_t *wksp);

WKSP_PROTOTYPES_END

#endif
