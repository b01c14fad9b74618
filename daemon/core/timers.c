/* timers: every call with a deadline has one, so starting and stopping must not be linear. Equal
   moments come in an order that depends on the calls alone, which keeps replays exact. */

#include "daemon/core/timers.h"

#include <assert.h>
#include <stdlib.h>

#include "wksp/error.h"

#define TIMERS_CAP_MIN 64UL

static void timers_put(timers_t *timers, size_t index, timer_node_t *node) {
  timers->heap[index] = node;
  node->place = index + 1;
}

static void timers_up(timers_t *timers, size_t index, timer_node_t *node) {
  while (index && node->due_ns < timers->heap[(index - 1) / 2]->due_ns) {
    timers_put(timers, index, timers->heap[(index - 1) / 2]);
    index = (index - 1) / 2;
  }
  timers_put(timers, index, node);
}

static void timers_down(timers_t *timers, size_t index, timer_node_t *node) {
  for (;;) {
    size_t child = index * 2 + 1;
    if (child >= timers->cnt) break;
    if (child + 1 < timers->cnt && timers->heap[child + 1]->due_ns < timers->heap[child]->due_ns)
      child++;
    if (node->due_ns <= timers->heap[child]->due_ns) break;
    timers_put(timers, index, timers->heap[child]);
    index = child;
  }
  timers_put(timers, index, node);
}

int timers_start(timers_t *timers, timer_node_t *node, uint64_t due_ns) {
  assert(!node->place && due_ns);
  if (timers->cnt == timers->cap) {
    size_t cap = timers->cap ? timers->cap * 2 : TIMERS_CAP_MIN;
    timer_node_t **heap = realloc(timers->heap, cap * sizeof(*heap));
    if (!heap) return WKSP_E_NOMEM;
    timers->heap = heap;
    timers->cap = cap;
  }
  node->due_ns = due_ns;
  timers_up(timers, timers->cnt++, node);
  return 0;
}

void timers_stop(timers_t *timers, timer_node_t *node) {
  if (!node->place) return;
  size_t index = node->place - 1;
  timer_node_t *last = timers->heap[--timers->cnt];

  node->place = 0;
  if (last == node) return;
  if (index && last->due_ns < timers->heap[(index - 1) / 2]->due_ns)
    timers_up(timers, index, last);
  else
    timers_down(timers, index, last);
}

timer_node_t *timers_first(timers_t const *timers) {
  return timers->cnt ? timers->heap[0] : NULL;
}

int timers_check(timers_t const *timers) {
  for (size_t i = 0; i < timers->cnt; i++) {
    if (timers->heap[i]->place != i + 1) return 0;
    if (i && timers->heap[i]->due_ns < timers->heap[(i - 1) / 2]->due_ns) return 0;
  }
  return 1;
}

void timers_clear(timers_t *timers) {
  free(timers->heap);
  *timers = (timers_t){0};
}
