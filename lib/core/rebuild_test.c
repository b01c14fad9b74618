/* Rebuild: what is kept, what is dropped and said, and that it ends clean whatever was damaged.
   Built with WKSP_CRASH_POINTS. */

#include "core/testing.h"

#include "core/alloc.h"
#include "core/part_priv.h"
#include "core/root.h"
#include "core/tx.h"

#include "wksp/fd_alloc.h"

#include <sys/wait.h>
#include <unistd.h>

#define PARTS   24
#define DAMAGES 1500
#define DATA_SZ (2UL << 20)
#define MILLION 1000000UL

static uint64_t g_left; /* stores until the kill, 0: none */
void wksp__crash_point(void) {
  if (g_left && !--g_left) _exit(9);
}

static fd_wksp_t *g_wksp;
static ulong g_gaddr[PARTS]; /* 0: freed */

static ulong size_of(uint32_t i) {
  return i % 4 == 1 ? 4096 : 192 + 64 * i;
}

/* Holes, several tags, roots, and an fd_alloc with blocks of several classes. */
static int setup(void **state) {
  g_left = 0;
  g_wksp = testing_wksp(96, DATA_SZ);
  for (uint32_t i = 0; i < PARTS; i++) {
    g_gaddr[i] = fd_wksp_alloc(g_wksp, 64, size_of(i), 1 + i % 3);
    assert_true(g_gaddr[i] > 0);
    memset(fd_wksp_laddr(g_wksp, g_gaddr[i]), (int)i, size_of(i));
  }
  for (uint32_t i = 1; i < PARTS; i += 2) {
    assert_int_equal(fd_wksp_free(g_wksp, g_gaddr[i]), 0);
    g_gaddr[i] = 0;
  }
  assert_int_equal(fd_wksp_root_set(g_wksp, "first", g_gaddr[0], 1), 0);
  assert_int_equal(fd_wksp_root_set(g_wksp, "second", g_gaddr[2], 3), 0);
  return 0;
}

static int teardown(void **state) {
  testing_wksp_end(g_wksp);
  return 0;
}

static void on_loss(void *arg, char const *sentence) {
  uint32_t *cnt = arg;
  ++*cnt;
  printf("# %s\n", sentence);
}

/* Rebuilds, expects so many losses and a clean workspace. */
static void rebuild(uint32_t losses) {
  uint32_t cnt = 0;
  assert_int_equal(fd_wksp_rebuild(g_wksp, 77, on_loss, &cnt), 0);
  assert_int_equal(cnt, losses);
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
  assert_int_equal(fd_wksp_seed(g_wksp), 77);
}

/* All partitions but that of skip (PARTS: none) are there, with size, tag and contents. */
static void expect_all_but(uint32_t skip) {
  uint64_t used = 0, sz = 0;
  for (uint32_t i = 0; i < PARTS; i++) {
    if (!g_gaddr[i] || i == skip) continue;
    fd_wksp_part_t part;
    assert_int_equal(fd_wksp_part_next(g_wksp, g_gaddr[i], &part), 1);
    assert_true(part.gaddr == g_gaddr[i] && part.size == size_of(i) && part.tag == 1 + i % 3);
    unsigned char const *byte = fd_wksp_laddr(g_wksp, g_gaddr[i]);
    for (ulong b = 0; b < size_of(i); b++) assert_int_equal(byte[b], i);
    used++;
    sz += size_of(i);
  }
  fd_wksp_usage_t usage;
  assert_int_equal(fd_wksp_usage(g_wksp, NULL, 0, &usage), 0);
  assert_true(usage.used_cnt == used && usage.used_sz == sz);
}

static wksp__ent_t *entry_of(ulong gaddr) {
  wksp__pop_t op;
  wksp__pop_begin(&op, g_wksp);
  return &wksp__pop_ent(&op)[wksp__addr_at(&op, gaddr)];
}

/* A whole workspace stays what it is. */
static void test_whole(void **state) {
  rebuild(0);
  expect_all_but(PARTS);
  for (ulong free_sz = 64; free_sz < 9000; free_sz += 64) {
    ulong gaddr = fd_wksp_alloc(g_wksp, 64, free_sz, 9);
    assert_true(gaddr > 0);
    assert_int_equal(fd_wksp_free(g_wksp, gaddr), 0);
  }
  expect_all_but(PARTS);
}

/* Everything that follows from the entries may be gone: counters, indexes, links, the record, the
   lock's word. */
static void test_derived(void **state) {
  wksp__vol_t *vol = wksp__vol(g_wksp);
  char *region = (char *)g_wksp + g_wksp->part_off;
  for (int fill = 0; fill < 256; fill += 255) {
    wksp__ent_t *ent = (wksp__ent_t *)(region + WKSP_PART_HEAD_SZ);
    memset(region, fill, WKSP_PART_HEAD_SZ);
    memset(region + g_wksp->part.tag_off, fill, g_wksp->part.size - g_wksp->part.tag_off);
    for (uint32_t idx = 1; idx <= g_wksp->part_max; idx++)
      for (uint32_t w = WKSP_PART_NBR; w <= WKSP_PART_IDX; w++) ent[idx].w[w] = fill ? ~0UL : 0;
    vol->version = (uint64_t)fill;
    rebuild(0);
    expect_all_but(PARTS);
  }
  vol->rec = ~0UL;
  vol->lock = 0xfffffUL;
  assert_int_equal(fd_wksp_alloc(g_wksp, 64, 64, 1), 0);
  rebuild(1);
  expect_all_but(PARTS);
  vol->rec = WKSP_REC_REBUILD;
  assert_int_equal(fd_wksp_verify(g_wksp, NULL, NULL), WKSP_E_CORRUPT);
  rebuild(0);
}

/* Entries that cannot be true are dropped, and only they. */
static void test_entries(void **state) {
  uint64_t const sizes[] = {0, 1UL << 40, DATA_SZ, ~0UL};
  for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    entry_of(g_gaddr[4])->w[WKSP_PART_SIZE] = sizes[i];
    rebuild(1);
    expect_all_but(4);
    g_gaddr[4] = fd_wksp_alloc(g_wksp, 64, size_of(4), 1 + 4 % 3);
    memset(fd_wksp_laddr(g_wksp, g_gaddr[4]), 4, size_of(4));
  }
  entry_of(g_gaddr[6])->w[WKSP_PART_ADDR] ^= 7;
  rebuild(1);
  expect_all_but(6);
  g_gaddr[6] = 0;
  entry_of(g_gaddr[8])->w[WKSP_PART_ADDR] = g_gaddr[10] | FD_WKSP_KIND_USER; /* two at one place */
  rebuild(1);
  fd_wksp_part_t part;
  assert_int_equal(fd_wksp_part_next(g_wksp, g_gaddr[10], &part), 1);
  assert_int_equal(part.gaddr, g_gaddr[10]);
  ulong tag = fd_wksp_tag(g_wksp, g_gaddr[0]);
  entry_of(g_gaddr[0])->w[WKSP_PART_TAG] = 0;
  rebuild(1);
  assert_true(tag == 1 && fd_wksp_tag(g_wksp, g_gaddr[0]) == ~0UL);
  assert_int_equal(fd_wksp_root_find(g_wksp, "first", NULL), 0);
}

/* Roots without an end, to nowhere or twice are dropped; bytes behind a name's end go. */
static void test_roots(void **state) {
  wksp__root_t *root = (wksp__root_t *)((uintptr_t)g_wksp + g_wksp->root_off);
  root[0].gaddr = 5;
  rebuild(1);
  assert_int_equal(fd_wksp_root_find(g_wksp, "first", NULL), WKSP_E_NOTFOUND);
  root[1].name[5] = 1;
  rebuild(1);
  assert_int_equal(fd_wksp_root_find(g_wksp, "second", NULL), 0);
  root[9] = root[1];
  rebuild(1);
  assert_int_equal(fd_wksp_root_find(g_wksp, "second", NULL), 0);
  memset(root[1].name, 'x', sizeof(root[1].name));
  rebuild(1);
  assert_int_equal(fd_wksp_root_find(g_wksp, "second", NULL), WKSP_E_NOTFOUND);
}

/* A damaged span loses its blocks and only its; an fd_alloc whose head is gone is given back whole;
   while a living thread owns a heap of a damaged alloc nothing of it is touched. */
static void test_allocs(void **state) {
  ulong head = fd_wksp_alloc(g_wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, 5);
  fd_alloc_t *join = fd_alloc_join(fd_alloc_new(fd_wksp_laddr(g_wksp, head), 5), 0);
  assert_non_null(join);
  void *small = fd_alloc_malloc(join, 0, 64), *other = fd_alloc_malloc(join, 0, 2000);
  assert_true(small && other);
  uint64_t *word = &wksp__span_words(g_wksp)[wksp__span_of(g_wksp, fd_wksp_gaddr(g_wksp, small))];
  uint64_t was = *word;
  *word = SPAN_WORD(SPAN_VER(was), 4000, SPAN_CLASS(was), WKSP_SPAN_OWNED);
  uint32_t cnt = 0;
  assert_int_equal(fd_wksp_rebuild(g_wksp, 77, on_loss, &cnt), WKSP_E_BUSY);
  char pid[32];
  snprintf(pid, sizeof(pid), "process %d", (int)getpid());
  assert_non_null(strstr(wksp_last_error(), pid));
  /* another process, once this thread has left */
  assert_ptr_equal(fd_alloc_leave(join), join);
  ulong gaddr_other = fd_wksp_gaddr(g_wksp, other);
  ulong footprint = g_wksp->footprint;
  assert_ptr_equal(fd_wksp_leave(g_wksp), g_wksp);
  assert_ptr_equal(fd_wksp_join(g_wksp), g_wksp);
  assert_true(footprint > 0);
  rebuild(1);
  join = fd_alloc_join(fd_wksp_laddr(g_wksp, head), 0);
  fd_alloc_free(join, fd_wksp_laddr(g_wksp, gaddr_other));
  assert_true(fd_alloc_is_empty(join));
  assert_non_null(fd_alloc_malloc(join, 0, 64));
  assert_ptr_equal(fd_alloc_leave(join), join);
  assert_ptr_equal(fd_wksp_leave(g_wksp), g_wksp);
  assert_ptr_equal(fd_wksp_join(g_wksp), g_wksp);

  *(uint64_t *)fd_wksp_laddr(g_wksp, head) = 0; /* its magic */
  assert_int_equal(fd_wksp_rebuild(g_wksp, 77, on_loss, &cnt), 0);
  assert_true(cnt >= 2);
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
  fd_wksp_part_t part;
  for (ulong from = 0; fd_wksp_part_next(g_wksp, from, &part) == 1; from = part.gaddr + part.size)
    assert_int_equal(part.kind, FD_WKSP_KIND_USER);
  assert_int_equal(fd_wksp_free(g_wksp, head), 0);
  expect_all_but(PARTS);
}

/* Whatever words of the metadata behind the header are hit: it ends, and then verify is content. */
static void test_random_damage(void **state) {
  testing_rng_t rng = testing_rng();
  size_t size = g_wksp->data_lo - g_wksp->root_off;
  uint64_t *live = (uint64_t *)((uintptr_t)g_wksp + g_wksp->root_off);
  uint64_t *ents = (uint64_t *)((uintptr_t)g_wksp + g_wksp->part_off + WKSP_PART_HEAD_SZ);
  void *copy = malloc(size);
  assert_non_null(copy);
  memcpy(copy, live, size);
  uint64_t kept = 0;
  for (uint32_t i = 0; i < DAMAGES; i++) {
    for (uint64_t n = 1 + testing_below(&rng, 8); n; n--) {
      uint64_t *at = testing_below(&rng, 3) ? &ents[testing_below(&rng, 60 * 6)]
                                            : &live[testing_below(&rng, size / 8)];
      *at = testing_below(&rng, 2) ? testing_next(&rng) : *at ^ 1UL << testing_below(&rng, 64);
    }
    if (!testing_below(&rng, 4))
      wksp__vol(g_wksp)->rec = testing_next(&rng) >> testing_below(&rng, 64);
    assert_int_equal(fd_wksp_rebuild(g_wksp, i, NULL, NULL), 0);
    assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
    fd_wksp_usage_t usage;
    assert_int_equal(fd_wksp_usage(g_wksp, NULL, 0, &usage), 0);
    kept += usage.used_cnt;
    memcpy(live, copy, size);
  }
  printf("# %.2f of %u partitions kept\n", (double)kept / DAMAGES, PARTS / 2);
  assert_true(kept > DAMAGES * 6UL);
  free(copy);
}

/* Killed at any of its stores it leaves a workspace that refuses changes, and the next run ends as
   the first would have. */
static void test_killed(void **state) {
  uint32_t killed = 0;
  for (uint64_t at = 1;; at += at < 60 ? 1 : 7) {
    pid_t pid = fork();
    int status;
    assert_true(pid >= 0);
    if (!pid) {
      g_left = at;
      fd_wksp_rebuild(g_wksp, 3, NULL, NULL);
      _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && (!WEXITSTATUS(status) || WEXITSTATUS(status) == 9));
    if (!WEXITSTATUS(status)) break;
    killed++;
    int begun = wksp__vol(g_wksp)->rec == WKSP_REC_REBUILD;
    if (begun) assert_int_equal(fd_wksp_alloc(g_wksp, 64, 64, 1), 0);
    rebuild(0);
    expect_all_but(PARTS);
  }
  printf("# %u killed\n", killed);
  assert_true(killed > 60);
}

__attribute__((format(printf, 2, 3))) static void ignore(void *arg, char const *fmt, ...) {
  (void)arg;
  (void)fmt;
}

/* The same where fd_allocs have to be mended, which comes after the partitions: once it is begun
   nobody gets at a workspace of which a part is still damaged. */
static void test_killed_allocs(void **state) {
  uint32_t begun = 0;
  for (uint64_t at = 1;; at++) {
    testing_wksp_end(g_wksp);
    g_wksp = testing_wksp(64, 64UL << 16);
    void *shmem = fd_wksp_alloc_laddr(g_wksp, fd_alloc_align(), fd_alloc_footprint(), 9);
    int status;
    for (int mend = 0; mend < 2; mend++) {
      pid_t pid = fork(); /* whose heap is nobody's afterwards */
      assert_true(pid >= 0);
      if (!pid && mend) {
        g_left = at;
        fd_wksp_rebuild(g_wksp, 3, NULL, NULL);
        _exit(0);
      } else if (!pid) {
        fd_alloc_t *alloc = fd_alloc_join(fd_alloc_new(shmem, 9), 0);
        _exit(!fd_alloc_malloc(alloc, 0, 100) || !fd_alloc_malloc(alloc, 0, 100000));
      }
      assert_int_equal(waitpid(pid, &status, 0), pid);
      assert_true(WIFEXITED(status) &&
                  WEXITSTATUS(status) == (mend && WEXITSTATUS(status) ? 9 : 0));
      fd_wksp_part_t part;
      for (ulong from = 0; !mend && fd_wksp_part_next(g_wksp, from, &part) == 1;
           from = part.gaddr + part.size)
        if (part.kind == FD_WKSP_KIND_USER) /* the fd_alloc's head: now all of it is an orphan */
          entry_of(part.gaddr)->w[WKSP_PART_ADDR] = 0;
    }
    if (!WEXITSTATUS(status)) break;
    int open = wksp__vol(g_wksp)->rec != WKSP_REC_REBUILD;
    assert_int_equal(fd_wksp_alloc(g_wksp, 64, 64, 1) != 0, open);
    if (!open)
      begun++;
    else if (!wksp__part_check(g_wksp, ignore, NULL)) /* it has been at work, so it is done */
      assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
    assert_int_equal(fd_wksp_rebuild(g_wksp, 77, NULL, NULL), 0);
    assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
  }
  printf("# %u killed after it was begun\n", begun);
  assert_true(begun > 60);
  assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
}

/* The table may be full: then there is no entry for room that was never accounted for, and who is
   in the way is dropped, or takes it. */
static void test_full_table(void **state) {
  testing_wksp_end(g_wksp);
  g_wksp = testing_wksp(8, 1UL << 16);
  ulong gaddr[8];
  for (uint32_t i = 0; i < 7; i++) assert_true((gaddr[i] = fd_wksp_alloc(g_wksp, 64, 64, 1)) > 0);
  assert_true((gaddr[7] = fd_wksp_alloc(g_wksp, 64, (1UL << 16) - 7 * 64, 1)) > 0);
  for (uint32_t i = 0; i < 8; i += 7) {
    entry_of(gaddr[i])->w[WKSP_PART_SIZE] = 64;
    entry_of(gaddr[1])->w[WKSP_PART_ADDR] += 1UL << 12;
    uint32_t cnt = 0;
    assert_int_equal(fd_wksp_rebuild(g_wksp, 77, on_loss, &cnt), 0);
    assert_true(cnt > 0);
    assert_int_equal(fd_wksp_verify(g_wksp, testing_sentence, NULL), 0);
    if (!i) {
      testing_wksp_end(g_wksp);
      g_wksp = testing_wksp(8, 1UL << 16);
      for (uint32_t k = 0; k < 8; k++)
        assert_true((gaddr[k] = fd_wksp_alloc(g_wksp, 64, 64, 1)) > 0 || k == 7);
      gaddr[7] = gaddr[6];
    }
  }
}

static wksp__ent_t *entry_first(void) {
  wksp__pop_t op;
  wksp__pop_begin(&op, g_wksp);
  return &wksp__pop_ent(&op)[1];
}

/* The entry of one that is dropped serves for the room that it leaves, also if the search for
   unused entries has passed it: in a full table nothing else is changed for want of one. */
static void test_dropped_entry(void **state) {
  enum { CNT = 16, SZ = 4096 };
  ulong gaddr[CNT];
  testing_wksp_end(g_wksp);
  g_wksp = testing_wksp(CNT, CNT * SZ);
  for (uint32_t i = 0; i < CNT; i++) gaddr[i] = fd_wksp_alloc(g_wksp, 64, SZ, 1);
  assert_true(gaddr[0] == g_wksp->data_lo && gaddr[CNT - 1] == g_wksp->data_hi - SZ);
  /* the last has the first entry: it was cut from until it was as large as what was wanted */
  assert_ptr_equal(entry_of(gaddr[CNT - 1]), entry_first());
  assert_int_equal(fd_wksp_free(g_wksp, gaddr[0]),
                   0); /* the search comes to its entry, the second */
  entry_first()->w[WKSP_PART_ADDR] = (gaddr[5] + 64) | FD_WKSP_KIND_USER;
  rebuild(1);
  fd_wksp_part_t part;
  for (uint32_t i = 1; i < CNT - 1; i++)
    assert_true(fd_wksp_part_next(g_wksp, gaddr[i], &part) == 1 && part.gaddr == gaddr[i] &&
                part.size == SZ);
  assert_true(fd_wksp_alloc(g_wksp, 64, SZ, 2) && fd_wksp_alloc(g_wksp, 64, SZ, 2)); /* its room */
}

/* Bad arguments and a damaged header. */
static void test_refuses(void **state) {
  assert_int_equal(fd_wksp_rebuild(NULL, 0, NULL, NULL), WKSP_E_INVAL);
  uint64_t was = g_wksp->part_off;
  g_wksp->part_off += 4096;
  assert_int_equal(fd_wksp_rebuild(g_wksp, 1, NULL, NULL), WKSP_E_CORRUPT);
  g_wksp->part_off = was;
  assert_int_equal(fd_wksp_seed(g_wksp), 7);
}

/* A million partitions come through (bench/wksp.c measures how fast). */
static void test_million(void **state) {
  testing_wksp_end(g_wksp);
  g_wksp = testing_wksp(MILLION + 64, MILLION * 128);
  for (ulong i = 0; i < MILLION; i++)
    assert_true(fd_wksp_alloc(g_wksp, 64, 64 + 64 * (i % 2), 1 + i % 5) > 0);
  memset((char *)g_wksp + g_wksp->part_off, 0, WKSP_PART_HEAD_SZ);
  rebuild(0);
  fd_wksp_usage_t usage;
  assert_int_equal(fd_wksp_usage(g_wksp, NULL, 0, &usage), 0);
  assert_true(usage.used_cnt == MILLION && usage.used_sz == MILLION * 96);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
  struct CMUnitTest const tests[] = {
      CASE(test_whole),   CASE(test_derived),       CASE(test_entries),
      CASE(test_roots),   CASE(test_allocs),        CASE(test_random_damage),
      CASE(test_killed),  CASE(test_full_table),    CASE(test_refuses),
      CASE(test_million), CASE(test_dropped_entry), CASE(test_killed_allocs),
  };
  return cmocka_run_group_tests_name("rebuild", tests, NULL, NULL);
}
