/* Many partitions at once: found and freed by tag, cleared, all given back. */

#include "core/testing.h"

#include "core/alloc.h"
#include "core/part_priv.h"
#include "wksp/fd_alloc.h"

#define PART_MAX 256UL
#define DATA_MAX (4UL << 20)

static fd_wksp_t *g_wksp;

static int setup(void **state) {
  g_wksp = testing_wksp(PART_MAX, DATA_MAX);
  return 0;
}

static int teardown(void **state) {
  int damaged = fd_wksp_verify(g_wksp, testing_sentence, NULL);
  testing_wksp_end(g_wksp);
  return damaged;
}

/* For tests that damage the table. */
static int teardown_damaged(void **state) {
  testing_wksp_end(g_wksp);
  return 0;
}

static ulong part(ulong size, ulong tag) {
  ulong gaddr = fd_wksp_alloc(g_wksp, 64, size, tag);
  assert_true(gaddr > 0);
  return gaddr;
}

static ulong used_cnt(void) {
  fd_wksp_usage_t usage;
  assert_int_equal(fd_wksp_usage(g_wksp, NULL, 0, &usage), 0);
  return usage.used_cnt;
}

static fd_alloc_t *heap(ulong tag, void **ret_shmem) {
  void *shmem = fd_wksp_alloc_laddr(g_wksp, fd_alloc_align(), fd_alloc_footprint(), tag);
  assert_non_null(shmem);
  *ret_shmem = shmem;
  fd_alloc_t *alloc = fd_alloc_join(fd_alloc_new(shmem, tag), 0);
  assert_non_null(alloc);
  return alloc;
}

/* Random allocs and frees of few tags: a query of any tags finds what a plain list of them has, in
   full, each once, and never writes beyond what it was given room for. */
static void test_query_model(void **state) {
  testing_rng_t rng = testing_rng();
  struct {
    ulong gaddr, size, tag;
  } model[64] = {{0}};
  for (uint32_t step = 0; step < 3000; step++) {
    uint32_t at = (uint32_t)testing_below(&rng, 64);
    if (model[at].gaddr) {
      assert_int_equal(fd_wksp_free(g_wksp, model[at].gaddr), 0);
      model[at].gaddr = 0;
    } else {
      model[at].size = 64 * (1 + testing_below(&rng, 300));
      model[at].tag = 1 + testing_below(&rng, 5);
      model[at].gaddr = part(model[at].size, model[at].tag);
    }
    ulong tags[3];
    for (uint32_t i = 0; i < 3; i++) tags[i] = 1 + testing_below(&rng, 6);
    ulong tag_cnt = testing_below(&rng, 4), room = testing_below(&rng, 66);
    fd_wksp_part_t infos[66];
    memset(infos, 0x5a, sizeof(infos));
    long cnt = fd_wksp_tag_query(g_wksp, tags, tag_cnt, infos, room), want = 0;
    for (uint32_t i = 0; i < 64; i++) {
      int match = 0;
      for (ulong k = 0; k < tag_cnt; k++) match |= tags[k] == model[i].tag;
      if (!match || !model[i].gaddr) continue;
      want++;
      ulong seen = 0;
      for (ulong k = 0; k < room && k < (ulong)cnt; k++)
        seen += infos[k].gaddr == model[i].gaddr && infos[k].size == model[i].size &&
                infos[k].tag == model[i].tag && infos[k].kind == FD_WKSP_KIND_USER;
      assert_true(room >= (ulong)cnt ? seen == 1 : seen <= 1);
    }
    assert_int_equal(cnt, want);
    for (ulong k = (ulong)cnt < room ? (ulong)cnt : room; k < 66; k++)
      assert_int_equal(infos[k].gaddr, 0x5a5a5a5a5a5a5a5aUL);
  }
}

/* Null pointers, tag 0, counts without an array and workspaces that are not joined are E_INVAL, and
   nothing is changed by them. */
static void test_arguments(void **state) {
  ulong tags[] = {1, 0, 2}, gaddr = part(100, 1);
  fd_wksp_part_t info;
  assert_int_equal(fd_wksp_tag_query(NULL, tags, 1, &info, 1), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_tag_query(g_wksp, NULL, 1, &info, 1), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_tag_query(g_wksp, tags, 3, &info, 1), WKSP_E_INVAL);
  assert_non_null(strstr(wksp_last_error(), "tags[1]"));
  assert_int_equal(fd_wksp_tag_query(g_wksp, tags, 1, NULL, 1), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_tag_query(g_wksp, NULL, 0, NULL, 0), 0);
  assert_int_equal(fd_wksp_tag_query(g_wksp, tags, 1, NULL, 0), 1);
  assert_int_equal(fd_wksp_tag_query(g_wksp, tags, 1, &info, ~0UL), 1);
  assert_int_equal(info.gaddr, gaddr);
  ulong most[] = {~0UL, ~0UL};
  assert_int_equal(fd_wksp_tag_query(g_wksp, most, 2, &info, 1), 0);

  assert_int_equal(fd_wksp_tag_free(NULL, tags, 1), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_tag_free(g_wksp, NULL, 1), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_tag_free(g_wksp, tags, 2), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_tag_free(g_wksp, NULL, 0), 0);
  assert_int_equal(fd_wksp_tag_free(g_wksp, most, 2), 0);
  assert_int_equal(fd_wksp_memset(NULL, gaddr, 0), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_reset(NULL, 0), WKSP_E_INVAL);
  assert_int_equal(used_cnt(), 1);

  static _Alignas(4096) char stranger[8192];
  fd_wksp_t *not_joined = (fd_wksp_t *)stranger;
  assert_int_equal(fd_wksp_tag_free(not_joined, tags, 1), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_memset(not_joined, 4096, 1), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_reset(not_joined, 1), WKSP_E_INVAL);
}

/* tag_free frees all partitions of its tags, more than one hold of the lock takes, and no other. */
static void test_tag_free(void **state) {
  ulong keep[20], tags[] = {7, 9, 7};
  for (uint32_t i = 0; i < 20; i++) {
    keep[i] = part(64 * (i + 1), 8);
    part(64 * (i + 1), 7);
    part(64, 9);
  }
  assert_int_equal(fd_wksp_tag_free(g_wksp, tags, 3), 40);
  assert_int_equal(fd_wksp_tag_query(g_wksp, tags, 2, NULL, 0), 0);
  assert_int_equal(used_cnt(), 20);
  for (uint32_t i = 0; i < 20; i++) assert_int_equal(fd_wksp_tag(g_wksp, keep[i]), 8);
  assert_int_equal(fd_wksp_tag_free(g_wksp, tags, 3), 0);
}

/* What belongs to an fd_alloc is not freed by its tag, and an fd_alloc's own memory not before it
   is deleted; the same goes for memset and reset, which say so. */
static void test_fd_alloc(void **state) {
  void *shmem, *other_shmem;
  fd_alloc_t *alloc = heap(7, &shmem);
  heap(8, &other_shmem);
  void *small = fd_alloc_malloc(alloc, 0, 100), *large = fd_alloc_malloc(alloc, 0, 100000);
  assert_true(small && large);
  ulong mine = part(100, 7), tag = 7, before = used_cnt();
  ulong at = fd_wksp_gaddr(g_wksp, shmem);
  assert_int_equal(fd_wksp_tag_free(g_wksp, &tag, 1), WKSP_E_BUSY);
  assert_non_null(strstr(wksp_last_error(), "1 fd_alloc lies"));
  assert_int_equal(fd_wksp_memset(g_wksp, at + 8000, 0), WKSP_E_BUSY);
  assert_int_equal(fd_wksp_memset(g_wksp, fd_wksp_gaddr(g_wksp, small), 0), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_memset(g_wksp, fd_wksp_gaddr(g_wksp, large), 0), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_root_set(g_wksp, "r", mine, 1), 0);
  assert_int_equal(fd_wksp_reset(g_wksp, 99), WKSP_E_BUSY);
  assert_non_null(strstr(wksp_last_error(), "2 fd_allocs"));
  assert_int_equal(fd_wksp_root_find(g_wksp, "r", NULL), 0);
  assert_int_equal(fd_wksp_seed(g_wksp), 7);
  assert_int_equal(used_cnt(), before);
  fd_alloc_free(alloc, small);

  /* with the state under another tag only what is USER goes */
  ulong tag8 = 8;
  part(64, 8);
  assert_int_equal(fd_wksp_tag_free(g_wksp, &tag8, 1), WKSP_E_BUSY);
  assert_non_null(fd_alloc_delete(other_shmem));
  assert_int_equal(fd_wksp_tag_free(g_wksp, &tag8, 1), 2);
  fd_alloc_leave(alloc);
  assert_non_null(fd_alloc_delete(shmem));
  assert_int_equal(fd_wksp_reset(g_wksp, 99), 0);
  assert_int_equal(used_cnt(), 0);
  assert_int_equal(fd_wksp_seed(g_wksp), 99);
}

/* Spans and large blocks that carry the tag of an fd_alloc whose state has another stay. */
static void test_free_only_user(void **state) {
  void *shmem = fd_wksp_alloc_laddr(g_wksp, fd_alloc_align(), fd_alloc_footprint(), 3);
  fd_alloc_t *alloc = fd_alloc_join(fd_alloc_new(shmem, 4), 0);
  void *small = fd_alloc_malloc(alloc, 0, 100), *large = fd_alloc_malloc(alloc, 0, 100000);
  assert_true(small && large);
  ulong tag = 4;
  part(64, 4);
  long all = fd_wksp_tag_query(g_wksp, &tag, 1, NULL, 0);
  assert_true(all >= 3);
  fd_wksp_part_t infos[16];
  assert_int_equal(fd_wksp_tag_query(g_wksp, &tag, 1, infos, 16), all);
  for (long i = 0; i < all; i++) assert_in_range(infos[i].kind, 1, 4);
  assert_int_equal(fd_wksp_tag_free(g_wksp, &tag, 1), 1);
  assert_int_equal(fd_wksp_tag_query(g_wksp, &tag, 1, NULL, 0), all - 1);
  fd_alloc_free(alloc, small);
  fd_alloc_free(alloc, large);
  fd_alloc_leave(alloc);
  assert_non_null(fd_alloc_delete(shmem));
}

/* memset writes every byte of the partition, from any gaddr in it, and none beside it. */
static void test_memset(void **state) {
  ulong a = part(192, 1), b = part(128, 1), c = part(64, 1);
  uchar *mem = fd_wksp_laddr(g_wksp, a);
  assert_true(b == a + 192 && c == b + 128);
  memset(mem, 1, 192 + 128 + 64);
  assert_int_equal(fd_wksp_memset(g_wksp, b + 77, 0x1ab), 0);
  for (uint32_t i = 0; i < 384; i++) assert_int_equal(mem[i], i >= 192 && i < 320 ? 0xab : 1);
  assert_int_equal(fd_wksp_free(g_wksp, b), 0);
  ulong bad[] = {0, 1, b, g_wksp->data_lo - 1, g_wksp->data_hi, ~0UL};
  for (uint32_t i = 0; i < 6; i++) {
    assert_int_equal(fd_wksp_memset(g_wksp, bad[i], 0), WKSP_E_NOTFOUND);
    assert_non_null(strstr(wksp_last_error(), "not allocated"));
  }
  ulong all = part(DATA_MAX - 384, 2); /* one partition over all that is left */
  assert_int_equal(fd_wksp_memset(g_wksp, all, -1), 0);
  assert_int_equal(*(uchar *)fd_wksp_laddr(g_wksp, g_wksp->data_hi - 1), 0xff);
}

/* After a reset there are no partitions and roots, all the room is one piece, and the seed is new;
   also from a full table and directory, and of an empty workspace. */
static void test_reset(void **state) {
  assert_int_equal(fd_wksp_reset(g_wksp, 0), 0);
  assert_int_equal(fd_wksp_seed(g_wksp), 0);
  uint32_t cnt = 0;
  while (fd_wksp_alloc(g_wksp, 64, 64, 1 + cnt % 3)) cnt++;
  assert_true(cnt >= PART_MAX - 1);
  for (uint32_t i = 0; i < FD_WKSP_ROOT_MAX; i++) {
    char name[16];
    snprintf(name, sizeof(name), "r%u", i);
    assert_int_equal(fd_wksp_root_set(g_wksp, name, g_wksp->data_lo, 1), 0);
  }
  assert_int_equal(fd_wksp_reset(g_wksp, ~0U), 0);
  assert_int_equal(fd_wksp_seed(g_wksp), ~0U);
  fd_wksp_usage_t usage;
  fd_wksp_root_t root;
  uint place = 0;
  assert_int_equal(fd_wksp_usage(g_wksp, NULL, 0, &usage), 0);
  assert_true(usage.total_cnt == 1 && usage.free_sz_max == DATA_MAX && !usage.used_cnt);
  assert_int_equal(fd_wksp_root_next(g_wksp, &place, &root), 0);
  assert_true(part(DATA_MAX, 1) > 0);
}

/* A read-only join queries, and is refused every change with E_RDONLY. */
static void test_read_only(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  ulong gaddr = fd_wksp_alloc(wksp, 64, 64, 5), tag = 5, footprint = wksp->footprint;
  assert_ptr_equal(fd_wksp_leave(wksp), wksp);
  assert_int_equal(mprotect(wksp, footprint, PROT_READ), 0);
  fd_wksp_t *ro = fd_wksp_join_ro(wksp);
  fd_wksp_part_t info;
  assert_int_equal(fd_wksp_tag_query(ro, &tag, 1, &info, 1), 1);
  assert_int_equal(info.gaddr, gaddr);
  assert_int_equal(fd_wksp_tag_free(ro, &tag, 1), WKSP_E_RDONLY);
  assert_int_equal(fd_wksp_tag_free(ro, NULL, 0), WKSP_E_RDONLY);
  assert_int_equal(fd_wksp_memset(ro, gaddr, 1), WKSP_E_RDONLY);
  assert_int_equal(fd_wksp_reset(ro, 1), WKSP_E_RDONLY);
  assert_ptr_equal(fd_wksp_leave(ro), wksp);
  assert_int_equal(munmap(wksp, footprint), 0);
}

/* Rings and chains that lead astray or have no end, impossible sizes, a directory of nonsense: an
   error, in bounded time, and memory outside the data region stays as it was. */
static void test_damage(void **state) {
  wksp__pop_t op;
  ulong tag = 5, first = part(64, 5);
  part(64, 5);
  part(64, 5);
  part(64, 6);
  wksp__pop_begin(&op, g_wksp);
  uint32_t idx = wksp__tag_first(&op, 5), other = wksp__tag_first(&op, 6);
  uint32_t next = wksp__ent_hi(&op, idx, WKSP_PART_LIST);
  uint64_t *list = &wksp__pop_ent(&op)[next].w[WKSP_PART_LIST], was = *list;
  uint64_t const bad[] = {0, (uint64_t)next << 32, (uint64_t)other << 32, ~0UL, 40UL << 32};
  for (uint32_t i = 0; i < 5; i++) {
    fd_wksp_part_t infos[4];
    *list = bad[i];
    assert_int_equal(fd_wksp_tag_query(g_wksp, &tag, 1, infos, 4), WKSP_E_CORRUPT);
    assert_int_equal(fd_wksp_tag_free(g_wksp, &tag, 1), WKSP_E_CORRUPT);
    assert_non_null(strstr(wksp_last_error(), "verify"));
  }
  *list = was;
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);

  uint64_t *size = &wksp__pop_ent(&op)[other].w[WKSP_PART_SIZE], size_was = *size;
  ulong gaddr = wksp__ent_gaddr(&op, other);
  *size = WKSP_PART_RANGE_MASK;
  assert_int_equal(fd_wksp_memset(g_wksp, gaddr, 1), WKSP_E_CORRUPT);
  *size = size_was;

  for (uint32_t i = 1; i < g_wksp->heap_max; i++)
    wksp__heap_dir(g_wksp)[i] = (i % 2 ? ~0UL << 12 : first) | DIR_HOME;
  assert_int_equal(fd_wksp_tag_free(g_wksp, &tag, 1), WKSP_E_BUSY);
  assert_int_equal(fd_wksp_reset(g_wksp, 1), WKSP_E_BUSY);
  memset(wksp__heap_dir(g_wksp), 0, 8UL * g_wksp->heap_max);
  assert_int_equal(fd_wksp_tag_free(g_wksp, &tag, 1), 3);
}

/* Whatever a few words of the metadata are, all of these end and none faults. */
static void test_random_damage(void **state) {
  testing_rng_t rng = testing_rng();
  for (uint32_t i = 0; i < 40; i++) part(64 * (1 + i % 7), 1 + i % 3);
  for (uint32_t i = 0; i < 40; i += 5)
    fd_wksp_root_set(g_wksp, (char[]){(char)('a' + i), 0}, g_wksp->data_lo, i);
  size_t size = g_wksp->data_lo - g_wksp->root_off;
  uint64_t *live = (uint64_t *)((uintptr_t)g_wksp + g_wksp->root_off);
  uint64_t *ents = (uint64_t *)((uintptr_t)g_wksp + g_wksp->part_off + WKSP_PART_HEAD_SZ);
  void *copy = malloc(size);
  assert_non_null(copy);
  memcpy(copy, live, size);
  uint32_t errors = 0;
  for (uint32_t i = 0; i < 1500; i++) {
    for (uint64_t n = 1 + testing_below(&rng, 5); n; n--) {
      uint64_t *at = testing_below(&rng, 4) ? &ents[testing_below(&rng, 45 * 6)]
                                            : &live[testing_below(&rng, size / 8)];
      *at = testing_below(&rng, 2) ? testing_next(&rng)
                                   : testing_below(&rng, 64) | testing_below(&rng, 64) << 32;
    }
    ulong tags[] = {1, 2, 3};
    fd_wksp_part_t infos[8];
    errors += fd_wksp_tag_query(g_wksp, tags, 3, infos, 8) < 0;
    errors += fd_wksp_memset(g_wksp, g_wksp->data_lo + testing_below(&rng, 8192), 0) < 0;
    errors += fd_wksp_tag_free(g_wksp, &tags[1], 1) < 0;
    errors += fd_wksp_reset(g_wksp, 1) < 0;
    memcpy(live, copy, size);
  }
  free(copy);
  printf("# %u errors\n", errors);
  assert_true(errors > 500);
}

#define CASE(test, down) cmocka_unit_test_setup_teardown(test, setup, down)

int main(void) {
  struct CMUnitTest const tests[] = {
      CASE(test_query_model, teardown),    CASE(test_arguments, teardown),
      CASE(test_tag_free, teardown),       CASE(test_fd_alloc, teardown),
      CASE(test_free_only_user, teardown), CASE(test_memset, teardown),
      CASE(test_reset, teardown),          CASE(test_read_only, teardown),
      CASE(test_damage, teardown),         CASE(test_random_damage, teardown_damaged),
  };
  return cmocka_run_group_tests_name("tag", tests, NULL, NULL);
}
