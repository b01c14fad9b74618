/* A fuzzer's bytes as a list of damages and a list of operations on a workspace. What is damaged,
   what is done and what must be is said in core/test_hostile.h; here are only the numbers, taken
   from the bytes in the order in which they are asked for. When there are no more, all further ones
   are 0.

   Built by clang with libFuzzer: part_fuzz [options] CORPUS runs it, part_fuzz FILE... replays. */

#include "core/test_hostile.h"

typedef struct bytes {
  uint8_t const *at;
  size_t left;
} bytes_t;

static hostile_t g_hostile;
static bytes_t g_bytes;

/* As many bytes as the range needs, so that a byte more or less moves little. */
static uint64_t pick(void *arg, uint64_t cnt) {
  bytes_t *bytes = arg;
  uint64_t value = 0;
  for (uint64_t range = cnt - 1; range; range >>= 8) {
    if (!bytes->left) break;
    value = value << 8 | *bytes->at++;
    bytes->left--;
  }
  return cnt ? value % cnt : value;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  hostile_new(&g_hostile, pick, &g_bytes);
  return 0;
}

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size) {
  g_bytes = (bytes_t){data, size};
  hostile_round(&g_hostile);
  return 0;
}
