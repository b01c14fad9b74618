/* wsmem: the memory of each workspace, by its id: made, filled and punched off the loop, kept with
   the service manager, given back. */

#ifndef WKSPD_SHELL_WSMEM_H
#define WKSPD_SHELL_WSMEM_H

#include "daemon/shell/loop.h"

/* Memories that one barrier is about: their messages fit the queue to the manager
 * (NOTIFY_QUEUE_MAX) many times over, so that a start with thousands of removals leaves room for
 * others. */
#define WSMEM_DROPS_MAX 256U

/* Makes at a time. libuv has four threads, and the others are for writing specs: a long make must
 * not hold up every short one. */
#define WSMEM_MAKES_MAX 2U

typedef struct wsmem {
  int fd;
  uint64_t ws_id;
  uint64_t size; /* bytes to map, as the daemon knows it: of its max-size */
  uint64_t held; /* bytes that it held when the engine was last told; UINT64_MAX: never */
  uint64_t top;  /* where its last page ended then (memory_top) */
  char *name;    /* in the fd store; NULL: the one that fdnames_ws gives. Owned */
} wsmem_t;

/* Starts making it; part_min: engine.h says what. Answered by MEMORY_MADE, whatever happens; 1: no
 * memory, no answer. */
int wsmem_make(loop_t *loop, spec_t const *spec, uint64_t part_min);

/* Starts taking or giving back pages: effect is ENGINE_FX_MEMORY_FILL or _PUNCH. Answered by
   MEMORY_RESIZED, whatever happens; 1: no memory, no answer. */
int wsmem_resize(loop_t *loop, engine_effect_t const *effect);

/* A make or fill of ws_id in progress ends early; it is answered as always. */
void wsmem_cancel(loop_t *loop, uint64_t ws_id);

/* Takes a found memory over; name: what it is called in the fd store. 1: there is one already, or
   no memory; fd is not taken. */
int wsmem_add(loop_t *loop, uint64_t ws_id, int fd, uint64_t size, char const *name);

/* NULL: none. */
wsmem_t *wsmem_get(loop_t const *loop, uint64_t ws_id);

/* Closes it and begins to take it out of the fd store; nothing if there is none. */
void wsmem_drop(loop_t *loop, uint64_t ws_id);

/* Removes the spec of ws_id, but not before the manager has confirmed that the store let go of its
   memory (which is dropped, if it has not been): a restart that found the memory without the spec
   would bring a removed workspace back. Answered by REMOVED, within NOTIFY_BARRIER_MS with an error
   if the manager does not confirm; the spec then stays, and the next call tells the manager again.
   gone, unless it is NULL, is written in its place. 1: no memory, no answer. */
int wsmem_unpersist(loop_t *loop, uint64_t ws_id, spec_t const *gone);

/* Tells the engine what each memory holds; without force only of those where that has changed. Not
   from within a step. */
void wsmem_look(loop_t *loop, int force);

/* Closes all; the fd store keeps its own. */
void wsmem_free(loop_t *loop);

#endif
