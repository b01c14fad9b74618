/* The public calls of a workspace: life, facts, addresses, arguments, read-only joins, processes.
 */

#include "core/testing.h"

#include "core/call.h"
#include "wksp/wksp.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define PART_MAX 64UL
#define DATA_MAX (1UL << 20)

/* A workspace is made, joined more than once, left as often, and then no longer one. */
static void test_life(void **state) {
  ulong footprint = fd_wksp_footprint(PART_MAX, DATA_MAX - 5);
  void *mem = testing_map(footprint);
  assert_null(fd_wksp_join(mem));
  assert_int_equal(wksp_last_error_code(), WKSP_E_CORRUPT);
  assert_null(fd_wksp_delete(mem));
  assert_ptr_equal(fd_wksp_new(mem, "one", 42, PART_MAX, DATA_MAX - 5), mem);
  assert_null(fd_wksp_new(mem, "one", 42, PART_MAX, DATA_MAX));
  assert_non_null(strstr(wksp_last_error(), "delete it first"));

  fd_wksp_t *wksp = fd_wksp_join(mem);
  assert_ptr_equal(fd_wksp_join(mem), wksp);
  assert_string_equal(fd_wksp_name(wksp), "one");
  assert_int_equal(fd_wksp_seed(wksp), 42);
  assert_int_equal(fd_wksp_part_max(wksp), PART_MAX);
  assert_int_equal(fd_wksp_data_max(wksp), DATA_MAX);
  assert_int_equal(fd_wksp_gaddr_hi(wksp) - fd_wksp_gaddr_lo(wksp), DATA_MAX);
  assert_int_equal(fd_wksp_gaddr_hi(wksp), footprint);
  assert_null(fd_wksp_delete(mem));
  assert_int_equal(wksp_last_error_code(), WKSP_E_BUSY);
  assert_null(fd_wksp_join_ro(mem)); /* joined read-write at this address already */
  assert_ptr_equal(fd_wksp_leave(wksp), mem);
  ulong gaddr = fd_wksp_alloc(wksp, 0, 1, 1);
  assert_true(gaddr > 0);
  assert_ptr_equal(fd_wksp_leave(wksp), mem);
  assert_null(fd_wksp_leave(wksp));
  assert_int_equal(fd_wksp_alloc(wksp, 0, 1, 1), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), WKSP_E_INVAL);

  wksp = fd_wksp_join(mem); /* what was allocated is still there */
  assert_int_equal(fd_wksp_tag(wksp, gaddr), 1);
  assert_ptr_equal(fd_wksp_leave(wksp), mem);
  assert_ptr_equal(fd_wksp_delete(mem), mem);
  assert_null(fd_wksp_delete(mem));
  assert_null(fd_wksp_join(mem));
  assert_null(fd_wksp_new(mem, "two", 42, PART_MAX, DATA_MAX)); /* what is left is not zero */
  assert_non_null(strstr(wksp_last_error(), "clear"));
  memset(mem, 0, footprint);
  assert_ptr_equal(fd_wksp_new(mem, "two", 42, PART_MAX, DATA_MAX), mem);
  assert_int_equal(munmap(mem, footprint), 0);
}

/* Two workspaces have two uuids, which are random ones by their format. */
static void test_uuid(void **state) {
  fd_wksp_t *one = testing_wksp(PART_MAX, DATA_MAX), *two = testing_wksp(PART_MAX, DATA_MAX);
  assert_memory_not_equal(one->uuid, two->uuid, 16);
  assert_true(one->uuid[6] >> 4 == 4 && two->uuid[8] >> 6 == 2);
  testing_wksp_end(one);
  testing_wksp_end(two);
}

/* new refuses what it cannot format, and says which argument it was. */
static void test_new_refuses(void **state) {
  char *mem = testing_map(fd_wksp_footprint(PART_MAX, DATA_MAX));
  struct {
    void *mem;
    char const *name;
    ulong part_max, data_max;
    char const *says;
  } const bad[] = {
      {NULL, "a", PART_MAX, DATA_MAX, "not NULL"},
      {mem + 64, "a", PART_MAX, DATA_MAX, "multiple of 4096"},
      {mem, NULL, PART_MAX, DATA_MAX, "name"},
      {mem, "", PART_MAX, DATA_MAX, "name"},
      {mem, ".hidden", PART_MAX, DATA_MAX, ".hidden"},
      {mem, "a", 7, DATA_MAX, "part_max 7"},
      {mem, "a", ~0UL, DATA_MAX, "part_max"},
      {mem, "a", PART_MAX, 0, "data_max 0"},
      {mem, "a", PART_MAX, ~0UL, "data_max"},
  };
  for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    assert_null(fd_wksp_new(bad[i].mem, bad[i].name, 0, bad[i].part_max, bad[i].data_max));
    assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
    assert_non_null(strstr(wksp_last_error(), bad[i].says));
  }
  assert_null(fd_wksp_join(NULL));
  assert_null(fd_wksp_join(mem + 8));
  assert_null(fd_wksp_leave(NULL));
  assert_null(fd_wksp_delete(NULL));
  assert_int_equal(munmap(mem, fd_wksp_footprint(PART_MAX, DATA_MAX)), 0);
}

/* Local and global addresses convert into each other inside the data region, its end included, and
   nowhere else. */
static void test_addresses(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  ulong lo = fd_wksp_gaddr_lo(wksp), hi = fd_wksp_gaddr_hi(wksp);
  ulong good[] = {lo, lo + 1, hi - 1, hi}, bad[] = {1, lo - 1, hi + 1, ~0UL};
  for (uint32_t i = 0; i < 4; i++) {
    void *laddr = fd_wksp_laddr(wksp, good[i]);
    assert_ptr_equal(laddr, (char *)wksp + good[i]);
    assert_int_equal(fd_wksp_gaddr(wksp, laddr), good[i]);
    assert_null(fd_wksp_laddr(wksp, bad[i]));
    assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
    assert_int_equal(fd_wksp_gaddr(wksp, (char *)wksp + bad[i]), 0);
  }
  assert_null(fd_wksp_laddr(wksp, 0));
  assert_int_equal(fd_wksp_gaddr(wksp, NULL), 0);
  assert_null(fd_wksp_laddr(NULL, lo));
  assert_int_equal(fd_wksp_gaddr(NULL, wksp), 0);

  char *laddr = fd_wksp_alloc_laddr(wksp, 0, 100, 5);
  assert_non_null(laddr);
  memset(laddr, 1, 100);
  assert_int_equal(fd_wksp_free_laddr(wksp, laddr + 99), 0);
  assert_int_equal(fd_wksp_free_laddr(wksp, laddr), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_free_laddr(wksp, NULL), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_free_laddr(wksp, wksp), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_free(wksp, 0), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_free(wksp, ~0UL), WKSP_E_NOTFOUND);
  assert_null(fd_wksp_alloc_laddr(wksp, 0, 0, 5));
  assert_null(fd_wksp_alloc_laddr(wksp, 0, DATA_MAX + 1, 5));
  testing_wksp_end(wksp);
}

/* Every call takes NULL for a workspace and says so. */
static void test_null(void **state) {
  fd_wksp_usage_t usage;
  fd_wksp_part_t part;
  ulong tag = 1;
  assert_string_equal(fd_wksp_name(NULL), "");
  assert_int_equal(fd_wksp_seed(NULL) + fd_wksp_part_max(NULL) + fd_wksp_data_max(NULL), 0);
  assert_int_equal(fd_wksp_gaddr_lo(NULL) + fd_wksp_gaddr_hi(NULL), 0);
  assert_int_equal(fd_wksp_alloc(NULL, 0, 1, 1), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_free(NULL, 1), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_free_laddr(NULL, &tag), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_tag(NULL, 1), 0);
  assert_int_equal(fd_wksp_usage(NULL, &tag, 1, &usage), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_part_next(NULL, 0, &part), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_verify(NULL, NULL, NULL), WKSP_E_INVAL);
  fd_wksp_delete_anon(NULL);

  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  assert_int_equal(fd_wksp_usage(wksp, NULL, 1, &usage), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_usage(wksp, &tag, 1, NULL), WKSP_E_INVAL);
  tag = 0;
  assert_int_equal(fd_wksp_usage(wksp, &tag, 1, &usage), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_part_next(wksp, 0, NULL), WKSP_E_INVAL);
  testing_wksp_end(wksp);
}

/* A read-only join reads everything and changes nothing, with E_RDONLY and without a fault. */
static void test_read_only(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  ulong footprint = fd_wksp_gaddr_hi(wksp), gaddr = fd_wksp_alloc(wksp, 0, 100, 9);
  assert_int_equal(fd_wksp_root_set(wksp, "here", gaddr, 9), 0);
  void *view = mremap(wksp, 0, footprint, MREMAP_MAYMOVE); /* a second mapping of the same */
  assert_true(view != MAP_FAILED);
  assert_int_equal(mprotect(view, footprint, PROT_READ), 0);
  fd_wksp_t *ro = fd_wksp_join_ro(view);
  assert_non_null(ro);

  fd_wksp_usage_t usage;
  fd_wksp_part_t part;
  fd_wksp_root_t root;
  uint place = 0;
  assert_int_equal(fd_wksp_tag(ro, gaddr), 9);
  assert_int_equal(fd_wksp_usage(ro, NULL, 0, &usage), 0);
  assert_int_equal(usage.used_cnt, 1);
  assert_int_equal(fd_wksp_part_next(ro, 0, &part), 1);
  assert_int_equal(part.gaddr, gaddr);
  assert_int_equal(fd_wksp_root_find(ro, "here", &root), 0);
  assert_int_equal(fd_wksp_root_next(ro, &place, &root), 1);
  assert_int_equal(fd_wksp_verify(ro, testing_sentence, NULL), 0);

  assert_int_equal(fd_wksp_alloc(ro, 0, 1, 1), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_RDONLY);
  assert_int_equal(fd_wksp_free(ro, gaddr), WKSP_E_RDONLY);
  assert_int_equal(fd_wksp_root_set(ro, "x", gaddr, 1), WKSP_E_RDONLY);
  assert_int_equal(fd_wksp_root_add(ro, "x", gaddr, 1), WKSP_E_RDONLY);
  assert_int_equal(fd_wksp_root_remove(ro, "here"), WKSP_E_RDONLY);
  assert_ptr_equal(fd_wksp_leave(ro), view);
  assert_int_equal(munmap(view, footprint), 0);
  testing_wksp_end(wksp);
}

/* A feature bit that is read-only compatible keeps writers out and lets readers in. */
static void test_ro_compat(void **state) {
  ulong footprint = fd_wksp_footprint(PART_MAX, DATA_MAX);
  struct fd_wksp *hdr = testing_map(footprint);
  assert_non_null(fd_wksp_new(hdr, "a", 0, PART_MAX, DATA_MAX));
  hdr->ro_compat = 1UL << 63;
  assert_null(fd_wksp_join(hdr));
  assert_int_equal(wksp_last_error_code(), WKSP_E_VERSION);
  fd_wksp_t *ro = fd_wksp_join_ro(hdr);
  assert_non_null(ro);
  assert_ptr_equal(fd_wksp_leave(ro), hdr);
  assert_int_equal(munmap(hdr, footprint), 0);
}

/* An anonymous workspace of a megabyte is possible, is shared with forks, and outlives them. */
static void test_anon(void **state) {
  fd_wksp_t *wksp = fd_wksp_new_anon("anon", 1UL << 20, 0, 3, 0);
  assert_non_null(wksp);
  assert_true(fd_wksp_data_max(wksp) >= 3UL << 18);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    ulong gaddr = fd_wksp_alloc(wksp, 0, 1000, 5);
    if (!gaddr) _exit(2);
    strcpy(fd_wksp_laddr_fast(wksp, gaddr), "from the child");
    _exit(fd_wksp_root_set(wksp, "greeting", gaddr, 5) ? 3 : 0);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  fd_wksp_root_t root;
  assert_int_equal(fd_wksp_root_find(wksp, "greeting", &root), 0);
  assert_string_equal(fd_wksp_laddr(wksp, root.gaddr), "from the child");
  assert_int_equal(fd_wksp_free(wksp, root.gaddr), 0);
  assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
  fd_wksp_delete_anon(wksp);
}

/* new_anon refuses impossible dimensions with a reason, and knows three sizes of pages. */
static void test_anon_refuses(void **state) {
  struct {
    char const *name;
    ulong size, page_size, part_max;
  } const bad[] = {{"a b", 1UL << 20, 0, 0},
                   {NULL, 1UL << 20, 0, 0},
                   {"a", 0, 0, 0},
                   {"a", 1, 0, 0},
                   {"a", ~0UL, 0, 0},
                   {"a", ~0UL - 4095, 4096, 1UL << 31},
                   {"a", 1UL << 20, 8192, 0},
                   {"a", 1UL << 20, 1UL << 31, 0},
                   {"a", 1UL << 20, 0, 7},
                   {"a", 1UL << 20, 0, 1UL << 20}};
  for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    assert_null(fd_wksp_new_anon(bad[i].name, bad[i].size, bad[i].page_size, 0, bad[i].part_max));
    assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  }
}

/* A huge page is had, or its lack is an error that says what to do, and not a signal later. */
static void test_anon_huge(void **state) {
  fd_wksp_t *wksp = fd_wksp_new_anon("huge", 1, 2UL << 20, 0, 0);
  if (!wksp) {
    printf("# no free 2 MiB page here: %s\n", wksp_last_error());
    assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
    assert_non_null(strstr(wksp_last_error(), "nr_hugepages"));
    return;
  }
  assert_true(fd_wksp_gaddr_hi(wksp) > 1UL << 20 && fd_wksp_gaddr_hi(wksp) <= 2UL << 20);
  char *all = fd_wksp_alloc_laddr(wksp, 0, fd_wksp_data_max(wksp), 1);
  assert_non_null(all);
  memset(all, 1, fd_wksp_data_max(wksp));
  fd_wksp_delete_anon(wksp);
}

/* Threads that alloc, free, look and list at once leave the table whole, and each sees its own. */
#define THREADS      3
#define THREAD_STEPS 8000

typedef struct worker {
  fd_wksp_t *wksp;
  uint64_t seed;
  char const *failed;
} worker_t;

static char const *work(worker_t *worker) {
  testing_rng_t rng = {worker->seed};
  fd_wksp_t *wksp = worker->wksp;
  ulong mine[8] = {0}, tag = worker->seed;
  for (uint32_t i = 0; i < THREAD_STEPS; i++) {
    ulong *at = &mine[testing_below(&rng, 8)];
    if (*at) {
      if (fd_wksp_tag(wksp, *at) != tag) return "tag of a live partition";
      if (*(ulong *)fd_wksp_laddr_fast(wksp, *at) != (*at ^ tag)) return "content";
      if (fd_wksp_free(wksp, *at)) return "free";
      *at = 0;
    } else {
      *at = fd_wksp_alloc(wksp, 64, 8 + testing_below(&rng, 9000), tag);
      if (!*at) return "alloc";
      *(ulong *)fd_wksp_laddr_fast(wksp, *at) = *at ^ tag;
    }
    fd_wksp_usage_t usage;
    ulong held = 0;
    for (uint32_t k = 0; k < 8; k++) held += mine[k] != 0;
    if (fd_wksp_usage(wksp, &tag, 1, &usage) || usage.used_cnt != held) return "usage";
    fd_wksp_part_t part;
    if (fd_wksp_part_next(wksp, testing_below(&rng, wksp->data_hi), &part) < 0) return "next";
  }
  for (uint32_t k = 0; k < 8; k++)
    if (mine[k] && fd_wksp_free(wksp, mine[k])) return "last free";
  return NULL;
}

static void *worker_main(void *arg) {
  worker_t *worker = arg;
  worker->failed = work(worker);
  return NULL;
}

static void test_threads(void **state) {
  testing_rng_t rng = testing_rng();
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  pthread_t thread[THREADS];
  worker_t worker[THREADS];
  for (uint32_t i = 0; i < THREADS; i++) {
    worker[i] = (worker_t){.wksp = wksp, .seed = testing_next(&rng) | 1};
    assert_int_equal(pthread_create(&thread[i], NULL, worker_main, &worker[i]), 0);
  }
  for (uint32_t i = 0; i < THREADS; i++) {
    assert_int_equal(pthread_join(thread[i], NULL), 0);
    if (worker[i].failed)
      print_error("thread %u: %s: %s\n", i, worker[i].failed, wksp_last_error());
    assert_null(worker[i].failed);
  }
  assert_int_equal(fd_wksp_verify(wksp, testing_sentence, NULL), 0);
  fd_wksp_usage_t usage;
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &usage), 0);
  assert_true(usage.total_cnt == 1 && usage.free_sz == DATA_MAX);
  testing_wksp_end(wksp);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_life),         cmocka_unit_test(test_uuid),
      cmocka_unit_test(test_new_refuses),  cmocka_unit_test(test_addresses),
      cmocka_unit_test(test_null),         cmocka_unit_test(test_read_only),
      cmocka_unit_test(test_ro_compat),    cmocka_unit_test(test_anon),
      cmocka_unit_test(test_anon_refuses), cmocka_unit_test(test_anon_huge),
      cmocka_unit_test(test_threads),
  };
  return cmocka_run_group_tests_name("wksp", tests, NULL, NULL);
}
