/* walk: a random walk over small objects, whose time is that of their pages' translations.

     walk MIB STEPS

   Allocates objects of 64 bytes that take MIB together, links all into one random ring, and follows
   it for STEPS. Prints nanoseconds per step, of its processor, since others may be at work. The
   allocator is whichever the program has. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct node {
  struct node *next;
  uint64_t pad[7];
} node_t;

static uint64_t g_state = 88172645463325252UL;
static uint64_t draw(uint64_t below) {
  g_state ^= g_state << 13;
  g_state ^= g_state >> 7;
  g_state ^= g_state << 17;
  return g_state % below;
}

static double now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  uint64_t cnt = strtoull(argv[1], NULL, 0) * 1048576 / sizeof(node_t);
  uint64_t steps = strtoull(argv[2], NULL, 0);
  node_t **all = malloc(cnt * sizeof *all);
  if (!all || !cnt) return 1;
  for (uint64_t i = 0; i < cnt; i++) {
    if (!(all[i] = malloc(sizeof **all))) return 1;
    all[i]->pad[0] = i;
  }
  for (uint64_t i = cnt - 1; i; i--) { /* a random order, which the ring follows */
    uint64_t j = draw(i + 1);
    node_t *at = all[i];
    all[i] = all[j];
    all[j] = at;
  }
  for (uint64_t i = 0; i < cnt; i++) all[i]->next = all[(i + 1) % cnt];
  node_t *at = all[0];
  free(all);
  uint64_t sum = 0;
  double began = now_ns();
  for (uint64_t i = 0; i < steps; i++) {
    at = at->next;
    sum += at->pad[0];
  }
  printf("%.2f %lu\n", (now_ns() - began) / (double)steps, (unsigned long)(sum & 1));
  return 0;
}
