/* children: what programs have in common that start others on a workspace, kill or stop them, and
   look at what they have left. The program's own sentences begin with its name and process id. */

#ifndef WKSP_TESTS_CHILDREN_H
#define WKSP_TESTS_CHILDREN_H

#include "wksp/wksp.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of rnd; set once, never to 0. */
static ulong random_state;

/* A number below `below`. */
static inline ulong rnd(ulong below) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (random_state >> 11) % below;
}

/* Says what is wrong, with the library's last failure, and ends with status 1. */
static inline void die(char const *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static inline void die(char const *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  fprintf(stderr, "%s[%d]: ", program_invocation_short_name, (int)getpid());
  vfprintf(stderr, fmt, ap);
  fprintf(stderr, " (last error: %s)\n", wksp_last_error());
  va_end(ap);
  exit(1);
}

/* How long a process has been ready to run without a processor, ns; 0 where the kernel does not
   say. who 0: this process, in whatever namespace it is. */
static inline ulong waited_ns(pid_t who) {
  char path[64] = "/proc/self/schedstat";
  ulong ran, waited = 0;
  if (who) snprintf(path, sizeof path, "/proc/%d/schedstat", (int)who);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  if (fscanf(file, "%lu %lu", &ran, &waited) != 2) waited = 0;
  fclose(file);
  return waited;
}

/* A block says where it is and how large, and the rest of it is of one byte. */
static inline void block_fill(ulong *block, ulong gaddr, ulong size) {
  block[0] = gaddr;
  block[1] = size;
  memset(block + 2, (int)(gaddr >> 4 & 0xff), size - 16);
}

/* For qsort of ulongs. */
static inline int by_value(void const *a, void const *b) {
  ulong const x = *(ulong const *)a, y = *(ulong const *)b;
  return (x > y) - (x < y);
}

#endif
