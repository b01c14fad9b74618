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
