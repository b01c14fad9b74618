/* testing: what the tests of lib/core share: memory for workspaces, seeds, findings. */

#ifndef WKSP_CORE_TESTING_H
#define WKSP_CORE_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/layout.h"
#include "core/part.h"
#include "wksp/fd_wksp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* A test's random numbers: xorshift64*, from WKSP_TEST_SEED or the clock; the seed is printed. */
typedef struct testing_rng {
  uint64_t state;
} testing_rng_t;

static inline testing_rng_t testing_rng(void) {
  char const *given = getenv("WKSP_TEST_SEED");
  struct timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  uint64_t seed = given && *given ? strtoull(given, NULL, 0)
                                  : (uint64_t)ts.tv_sec * 1000003UL + (uint64_t)ts.tv_nsec;
  printf("# WKSP_TEST_SEED=%lu\n", seed);
  fflush(stdout);
  testing_rng_t rng = {seed * 2 + 1};
  return rng;
}

static inline uint64_t testing_next(testing_rng_t *rng) {
  rng->state ^= rng->state >> 12;
  rng->state ^= rng->state << 25;
  rng->state ^= rng->state >> 27;
  return rng->state * 0x2545f4914f6cdd1dUL;
}

/* In [0, cnt). */
static inline uint64_t testing_below(testing_rng_t *rng, uint64_t cnt) {
  return (testing_next(rng) >> 11) % cnt;
}

/* Zeroed memory that forks share. */
static inline void *testing_map(size_t size) {
  void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(addr != MAP_FAILED);
  return addr;
}

/* A joined workspace of these dimensions in such memory. */
static inline fd_wksp_t *testing_wksp(ulong part_max, ulong data_max) {
  ulong footprint = fd_wksp_footprint(part_max, data_max);
  assert_true(footprint > 0);
  void *addr = testing_map(footprint);
  assert_ptr_equal(fd_wksp_new(addr, "test", 7, part_max, data_max), addr);
  fd_wksp_t *wksp = fd_wksp_join(addr);
  assert_non_null(wksp);
  return wksp;
}

static inline void testing_wksp_end(fd_wksp_t *wksp) {
  ulong footprint = wksp->footprint;
  assert_ptr_equal(fd_wksp_leave(wksp), wksp);
  assert_ptr_equal(fd_wksp_delete(wksp), wksp);
  assert_int_equal(munmap(wksp, footprint), 0);
}

/* For wksp__part_check and its like: prints. */
__attribute__((format(printf, 2, 3))) static inline void testing_finding(void *arg, char const *fmt,
                                                                         ...) {
  va_list args;
  va_start(args, fmt);
  printf("# ");
  vprintf(fmt, args);
  printf("\n");
  va_end(args);
}

/* For fd_wksp_verify: counts into *arg and prints if it is NULL. */
static inline void testing_sentence(void *arg, char const *sentence) {
  if (arg)
    ++*(uint32_t *)arg;
  else
    printf("# %s\n", sentence);
}

#endif
