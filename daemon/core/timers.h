/* timers: moments at which the engine wants to be woken, the earliest first. A binary heap of
   pointers to timers that stand inside what they belong to; each knows its place, so it can be
   stopped at any time.

   Invariants (timers_check): no timer is due before its parent (place - 1) / 2; timer i says that
   it is at place i. */

#ifndef WKSPD_CORE_TIMERS_H
#define WKSPD_CORE_TIMERS_H

#include <stddef.h>
#include <stdint.h>

/* Zeroes are a stopped timer. */
typedef struct timer_node {
  uint64_t due_ns; /* monotonic */
  size_t place;    /* 1 + index in the heap; 0: stopped */
  void *owner;     /* not read here */
  int kind;        /* not read here */
} timer_node_t;

/* Zeroes are no timers. */
typedef struct timers {
  timer_node_t **heap;
  size_t cnt, cap;
} timers_t;

/* Starts a stopped timer; due_ns > 0. It must stay where it is until stopped. 0 or WKSP_E_NOMEM. */
int timers_start(timers_t *timers, timer_node_t *node, uint64_t due_ns);

/* Stops it; a stopped one: nothing. */
void timers_stop(timers_t *timers, timer_node_t *node);

/* The earliest, NULL if there is none. */
timer_node_t *timers_first(timers_t const *timers);

/* 1 if the invariants hold. */
int timers_check(timers_t const *timers);

/* Forgets all timers (whose nodes are not touched) and frees the heap. */
void timers_clear(timers_t *timers);

#endif
