/* live: the mutex in a slot, by which the kernel tells everybody that a thread has died; and which
   process this is. See live.c. */

#ifndef WKSP_CORE_LIVE_H
#define WKSP_CORE_LIVE_H

#include <pthread.h>
#include <signal.h>
#include <stdint.h>

/* A page of its own, which the kernel gives a forked child zeroed, however it was forked. */
#if defined(__x86_64__)
#define WKSP_LIFE_PAGE 4096
#else
#define WKSP_LIFE_PAGE 65536
#endif

typedef union wksp__life {
  struct {
    uint32_t pid;   /* 0: nothing is joined, or this is a child that does not know that it is one */
    uint32_t at_it; /* 1: a thread of such a child is making that good */
    uint32_t barrier; /* of others reaches this process: 0 not asked, 1 yes, 2 refused */
  };
  char page[WKSP_LIFE_PAGE];
} wksp__life_t;

extern wksp__life_t wksp__life;

/* This process is the one that it takes itself for: at the first join, and in a child. */
void wksp__life_begin(void);

/* The same for other private memory: zero in a child. */
void wksp__life_wipe(void *addr, uint64_t size);

/* Asks the kernel to run others' barriers on this process's cores, for closers of gates. 1, or 0:
   refused. */
int wksp__life_barrier(void);

/* The process, as its threads agree; a child of vfork counts as its parent, whose memory, threads
   and locks it works with. */
uint32_t wksp__pid(void);

/* Makes the mutex anew and locks it for as long as the calling thread lives. Nobody else locks it,
   others load its word meanwhile. 0 or an errno. */
int wksp__live_lock(pthread_mutex_t *live);
void wksp__live_unlock(pthread_mutex_t *live);

/* What is done to a thread's slots and to the process's maps must not be found half done by a
   signal handler. Pairs may nest. */
void wksp__signals_off(sigset_t *ret_old);
void wksp__signals_on(sigset_t const *old);

#endif
