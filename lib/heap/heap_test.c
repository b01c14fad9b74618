/* Heaps: what each call does at its edges, what is counted, and that under threads no block is
   handed out twice and none is lost. */

#include "core/testing.h"
#include "wksp/error.h"
#include "wksp/fd_alloc.h"
#include "wksp/heap.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1UL << 20)

/* The system's malloc fails while this is 1. */
static int g_none;
void *__real_malloc(size_t sz);
void *__real_calloc(size_t cnt, size_t sz);
void *__wrap_malloc(size_t sz);
void *__wrap_calloc(size_t cnt, size_t sz);
void *__wrap_malloc(size_t sz) {
  return __atomic_load_n(&g_none, __ATOMIC_RELAXED) ? NULL : __real_malloc(sz);
}
void *__wrap_calloc(size_t cnt, size_t sz) {
  return __atomic_load_n(&g_none, __ATOMIC_RELAXED) ? NULL : __real_calloc(cnt, sz);
}

static wksp_heap_t *heap_of(ulong size, ulong flags) {
  wksp_heap_cfg_t cfg = {.size = size, .flags = flags};
  wksp_heap_t *heap = wksp_heap_init(&cfg);
  assert_non_null(heap);
  return heap;
}

static wksp_heap_status_t status_of(wksp_heap_t *heap) {
  wksp_heap_status_t status;
  assert_int_equal(wksp_heap_status(heap, &status), 0);
  return status;
}

/* Configurations that mean nothing, or something else than they seem to, are refused with a
   sentence. */
static void test_init_refuses(void **state) {
  (void)state;
  fd_wksp_t *wksp = testing_wksp(256, 8 * MIB);
  wksp_heap_cfg_t const bad[] = {
      {0},
      {.size = 4 * MIB - 1},
      {.size = 8 * MIB, .flags = 8},
      {.wksp = wksp},
      {.wksp = wksp, .tag = 1, .size = 8 * MIB},
      {.wksp = wksp, .tag = 1, .flags = WKSP_HEAP_THP},
  };
  assert_null(wksp_heap_init(NULL));
  for (uint i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_null(wksp_heap_init(&bad[i]));
    assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  }
  wksp_heap_cfg_t cfg = {.size = 8 * MIB};
  g_none = 1;
  assert_null(wksp_heap_init(&cfg));
  g_none = 0;
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  assert_int_equal(wksp_heap_destroy(NULL), 0);
  testing_wksp_end(wksp);
}

/* Null, zero, one, the largest, and what overflows. */
static void test_edges(void **state) {
  (void)state;
  wksp_heap_t *heap = heap_of(16 * MIB, 0);
  assert_null(wksp_heap_malloc(heap, 0));
  assert_null(wksp_heap_calloc(heap, 0, 8));
  assert_null(wksp_heap_calloc(heap, 8, 0));
  assert_null(wksp_heap_calloc(heap, 1UL << 32, 1UL << 32));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  assert_null(wksp_heap_malloc(heap, ~0UL));
  assert_null(wksp_heap_memalign(heap, 3, 8));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_null(wksp_heap_memalign(heap, 2 * WKSP_HEAP_ALIGN_MAX, 8));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_int_equal(wksp_heap_usable_size(heap, NULL), 0);
  wksp_heap_free(heap, NULL);
  assert_int_equal(status_of(heap).fail_cnt, 4);
  for (ulong align = 1; align <= WKSP_HEAP_ALIGN_MAX; align *= 2) {
    void *ptr = wksp_heap_memalign(heap, align, 100);
    assert_non_null(ptr);
    assert_int_equal((ulong)ptr % align, 0);
    wksp_heap_free(heap, ptr);
  }
  uchar *ptr = wksp_heap_calloc(heap, 1000, 30);
  for (uint i = 0; i < 30000; i++) assert_int_equal(ptr[i], 0);
  assert_true(wksp_heap_usable_size(heap, ptr) >= 30000);
  assert_int_equal(wksp_heap_usable_size(heap, ptr + 16), 0);
  wksp_heap_free(heap, ptr + 16);
  assert_int_equal(status_of(heap).bad_free_cnt, 1);
  wksp_heap_free(heap, ptr);
  wksp_heap_free(heap, ptr);
  assert_int_equal(status_of(heap).bad_free_cnt, 2);
  ulong no_header[32] = {0};
  wksp_heap_free(heap, &no_header[16]);
  assert_int_equal(status_of(heap).bad_free_cnt, 3);
  assert_int_equal(wksp_heap_destroy(heap), 0);
}

/* A block keeps its bytes as it grows and shrinks, between small, large and the system's malloc. */
static void test_realloc_migrates(void **state) {
  (void)state;
  ulong const flags[] = {0, WKSP_HEAP_ZERO_ON_FREE};
  ulong const sizes[] = {10, 100, 16000, 17000, 300000, 40 * MIB, 50 * MIB, 20000, 8, 40 * MIB, 64};
  for (uint f = 0; f < 2; f++) {
    wksp_heap_t *heap = heap_of(16 * MIB, flags[f]);
    uchar *ptr = wksp_heap_realloc(heap, NULL, 1);
    ulong had = 1;
    *ptr = 0;
    for (uint i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      ptr = wksp_heap_realloc(heap, ptr, sizes[i]);
      assert_non_null(ptr);
      for (ulong b = 0; b < had && b < sizes[i]; b++)
        if (ptr[b] != (uchar)(b * 7)) fail_msg("byte %lu of %lu is %u", b, sizes[i], ptr[b]);
      had = sizes[i];
      for (ulong b = 0; b < had; b++) ptr[b] = (uchar)(b * 7);
      wksp_heap_status_t status = status_of(heap);
      assert_int_equal(status.small_cnt, had <= 16384);
      assert_int_equal(status.large_cnt, had > 16384 && had < 16 * MIB);
      assert_int_equal(status.system_cnt, had > 16 * MIB);
      assert_int_equal(status.system_sz, had > 16 * MIB ? had : 0);
    }
    assert_null(wksp_heap_realloc(heap, ptr, ~0UL));
    for (ulong b = 0; b < had; b++) assert_int_equal(ptr[b], (uchar)(b * 7));
    assert_null(wksp_heap_realloc(heap, ptr, 0));
    ulong no_header[32] = {0};
    assert_null(wksp_heap_realloc(heap, &no_header[16], 10)); /* no block */
    assert_int_equal(wksp_heap_destroy(heap), 0);
  }
}

/* A pool that is used up: the system's malloc serves and is counted, or that is a failure. What it
   gave is found by destroy, too. */
static void count_leak(void *arg, void const *ptr, ulong sz) {
  ulong *sum = arg;
  assert_int_equal(*(uchar const *)ptr, 7);
  *sum += sz;
}

static void test_fallback_and_leaks(void **state) {
  (void)state;
  ulong leaked = 0;
  wksp_heap_cfg_t cfg = {.size = 8 * MIB, .on_leak = count_leak, .on_leak_arg = &leaked};
  wksp_heap_t *heap = wksp_heap_init(&cfg);
  assert_non_null(heap);
  static uchar *ptr[300];
  for (uint i = 0; i < 300; i++) {
    assert_non_null(ptr[i] = wksp_heap_malloc(heap, 100000));
    *ptr[i] = 7;
  }
  wksp_heap_status_t status = status_of(heap);
  assert_true(status.system_cnt > 200 && status.system_cnt < 300);
  assert_int_equal(status.system_cnt, status.system_all);
  assert_int_equal(status.large_cnt + status.system_cnt, 300);
  assert_true(wksp_heap_usable_size(heap, ptr[299]) == 100000);
  void *high = wksp_heap_memalign(heap, 65536, 10 * MIB);
  assert_int_equal((ulong)high % 65536, 0);
  g_none = 1;
  assert_null(wksp_heap_malloc(heap, 100000));
  assert_null(wksp_heap_realloc(heap, ptr[299], 200000));
  g_none = 0;
  assert_int_equal(*ptr[299], 7);
  assert_int_equal(status_of(heap).fail_cnt, 2);
  wksp_heap_free(heap, high);
  for (uint i = 0; i < 298; i++) wksp_heap_free(heap, ptr[i]);
  assert_int_equal(status_of(heap).system_cnt, 2);
  uchar *small = wksp_heap_malloc(heap, 16);
  *small = 7;
  assert_int_equal(wksp_heap_destroy(heap), 3);
  assert_int_equal(leaked, 200016);

  heap = heap_of(8 * MIB, WKSP_HEAP_NO_FALLBACK);
  ulong got = 0;
  while (wksp_heap_malloc(heap, 100000)) got++;
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  assert_true(got > 40 && got < 84);
  assert_int_equal(status_of(heap).fail_cnt, 1);
  assert_int_equal(wksp_heap_destroy(heap), got);
}

/* With the option, no byte of what was freed is left where it was. */
static void test_zero_on_free(void **state) {
  (void)state;
  ulong const sizes[] = {24, 3000, 50000, 40 * MIB};
  wksp_heap_t *heap = heap_of(16 * MIB, WKSP_HEAP_ZERO_ON_FREE);
  for (uint i = 0; i < 3; i++) {
    uchar *ptr = wksp_heap_malloc(heap, sizes[i]);
    ulong size = wksp_heap_usable_size(heap, ptr);
    memset(ptr, 0x5a, size);
    uchar *other = wksp_heap_realloc(heap, ptr, 3 * size);
    assert_ptr_not_equal(other, ptr);
    for (ulong b = 0; b < size; b++) assert_int_equal(ptr[b], 0);
    wksp_heap_free(heap, other);
  }
  wksp_heap_free(heap, wksp_heap_malloc(heap, sizes[3]));
  assert_int_equal(wksp_heap_destroy(heap), 0);
}

/* A heap in a workspace of the program's is an fd_alloc there, others see its blocks, and nothing
   of it is left when it ends; it never asks the system. */
static void test_in_a_workspace(void **state) {
  (void)state;
  fd_wksp_t *wksp = testing_wksp(1024, 16 * MIB);
  fd_wksp_usage_t before, after;
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &before), 0);
  wksp_heap_cfg_t cfg = {.wksp = wksp, .tag = 42};
  wksp_heap_t *heap = wksp_heap_init(&cfg);
  assert_non_null(heap);
  uchar *ptr = wksp_heap_malloc(heap, 5000), *large = wksp_heap_malloc(heap, 500000);
  assert_int_equal(fd_wksp_tag(wksp, fd_wksp_gaddr(wksp, ptr)), 42);
  assert_int_equal(fd_wksp_tag(wksp, fd_wksp_gaddr(wksp, large)), 42);
  assert_null(wksp_heap_malloc(heap, 40 * MIB));
  assert_int_equal(status_of(heap).system_all, 0);
  fflush(stdout);
  pid_t pid = fork();
  if (!pid) {
    *large = 99;
    _exit(0);
  }
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  assert_int_equal(*large, 99);
  wksp_heap_free(heap, ptr);
  assert_int_equal(wksp_heap_destroy(heap), 1);
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &after), 0);
  assert_int_equal(after.free_sz, before.free_sz);
  testing_wksp_end(wksp);
}

/* Storm: no block is handed out twice and none is lost. Each 16 bytes of the pool have a bit, set
   by who gets them and cleared by who frees them; a bit that is set already, or is not there any
   more, is a block in two hands. */
enum { STORM_THREADS = 4, STORM_BLOCKS = 400 };
typedef struct storm {
  wksp_heap_t *heap;
  pthread_t thread;
  uint64_t seed;
  uint turns, bad;
} storm_t;

static struct {
  pthread_mutex_t mutex;
  uint64_t *bits;
  ulong lo, sz;
  void *swap[64]; /* blocks that go from thread to thread */
} g_storm = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static uint mark(void const *ptr, ulong sz, int set) {
  uint bad = 0;
  if ((ulong)ptr - g_storm.lo >= g_storm.sz) return 0; /* the system's */
  for (ulong at = ((ulong)ptr - g_storm.lo) / 16, end = at + (sz + 15) / 16; at < end; at++) {
    uint64_t bit = 1UL << (at & 63);
    uint64_t was = set ? __atomic_fetch_or(&g_storm.bits[at / 64], bit, __ATOMIC_RELAXED)
                       : __atomic_fetch_and(&g_storm.bits[at / 64], ~bit, __ATOMIC_RELAXED);
    bad += set == !!(was & bit);
  }
  return bad;
}

static ulong storm_size(testing_rng_t *rng) {
  return 1 + testing_below(rng, testing_below(rng, 30) ? 2000 : 120000);
}

static void *get(storm_t *storm, ulong sz) {
  void *ptr = wksp_heap_malloc(storm->heap, sz);
  if (!ptr)
    storm->bad++;
  else
    storm->bad += mark(ptr, wksp_heap_usable_size(storm->heap, ptr), 1);
  return ptr;
}

static void put(storm_t *storm, void *ptr) {
  if (!ptr) return;
  storm->bad += mark(ptr, wksp_heap_usable_size(storm->heap, ptr), 0);
  wksp_heap_free(storm->heap, ptr);
}

static void *storm_run(void *arg) {
  storm_t *storm = arg;
  testing_rng_t rng = {storm->seed};
  void *blk[STORM_BLOCKS] = {0};
  for (uint turn = 0; turn < storm->turns; turn++) {
    void **at = &blk[testing_below(&rng, STORM_BLOCKS)];
    uint what = (uint)testing_below(&rng, 10);
    if (what == 0 && *at) {
      storm->bad += mark(*at, wksp_heap_usable_size(storm->heap, *at), 0);
      *at = wksp_heap_realloc(storm->heap, *at, storm_size(&rng));
      if (!*at || mark(*at, wksp_heap_usable_size(storm->heap, *at), 1)) storm->bad++;
    } else if (what == 1) {
      *at = __atomic_exchange_n(&g_storm.swap[testing_below(&rng, 64)], *at, __ATOMIC_ACQ_REL);
    } else {
      put(storm, *at);
      *at = get(storm, storm_size(&rng));
    }
  }
  for (uint i = 0; i < STORM_BLOCKS; i++) put(storm, blk[i]);
  return NULL;
}

static void storm(uint64_t seed, ulong size, uint turns) {
  wksp_heap_t *heap = heap_of(size, 0);
  static storm_t storms[STORM_THREADS];
  g_storm.sz = size;
  void *any = wksp_heap_malloc(heap, 1);
  g_storm.lo = (ulong)any & ~(2 * MIB - 1); /* blocks lie behind the pool's tables */
  wksp_heap_free(heap, any);
  g_storm.bits = calloc(size / 1024 + 1, 8);
  assert_non_null(g_storm.bits);
  for (uint i = 0; i < STORM_THREADS; i++) {
    storms[i] = (storm_t){.heap = heap, .seed = (seed + i) * 2 + 1, .turns = turns};
    assert_int_equal(pthread_create(&storms[i].thread, NULL, storm_run, &storms[i]), 0);
  }
  for (uint i = 0; i < STORM_THREADS; i++) {
    assert_int_equal(pthread_join(storms[i].thread, NULL), 0);
    assert_int_equal(storms[i].bad, 0);
  }
  for (uint i = 0; i < 64; i++) {
    put(&storms[0], g_storm.swap[i]);
    g_storm.swap[i] = NULL;
  }
  assert_int_equal(storms[0].bad, 0);
  for (ulong i = 0; i <= size / 1024; i++) assert_true(!g_storm.bits[i]);
  wksp_heap_status_t status = status_of(heap);
  assert_int_equal(status.small_cnt + status.large_cnt + status.system_cnt, 0);
  assert_int_equal(status.bad_free_cnt + status.fail_cnt, 0);
  free(g_storm.bits);
  assert_int_equal(wksp_heap_destroy(heap), 0);
}

static void test_storm(void **state) {
  (void)state;
  testing_rng_t rng = testing_rng();
  uint turns = getenv("WKSP_TEST_FULL") ? 400000 : 40000;
  storm(testing_next(&rng), 64 * MIB, turns);
  storm(testing_next(&rng), 6 * MIB, turns / 4); /* with the system's malloc, too */
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_init_refuses),
      cmocka_unit_test(test_edges),
      cmocka_unit_test(test_realloc_migrates),
      cmocka_unit_test(test_fallback_and_leaks),
      cmocka_unit_test(test_zero_on_free),
      cmocka_unit_test(test_in_a_workspace),
      cmocka_unit_test(test_storm),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
