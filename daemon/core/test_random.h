/* test_random: numbers for the random tests of this folder: from WKSP_TEST_SEED, which is printed.
 */

#ifndef WKSPD_CORE_TEST_RANDOM_H
#define WKSPD_CORE_TEST_RANDOM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline uint64_t test_seed(void) {
  char const *text = getenv("WKSP_TEST_SEED");
  uint64_t seed = text && *text ? strtoull(text, NULL, 10) : 7;
  printf("# WKSP_TEST_SEED=%lu\n", seed);
  return seed;
}

static inline uint64_t test_random(uint64_t *random) {
  *random = *random * 6364136223846793005UL + 1442695040888963407UL;
  return *random >> 33;
}

#endif
