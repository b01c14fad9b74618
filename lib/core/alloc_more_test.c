/* The calls around malloc and free: calloc, realloc, sized free, usable size; and realloc killed at
   each of its stores. Built with WKSP_CRASH_POINTS. */

#include "core/alloc_testing.h"

/* Crash points that are left to the process named, negative: no end. */
static long *g_left;
static pid_t g_doomed;

void wksp__crash_point(void) {
  if (g_doomed != getpid()) return;
  if (!(*g_left)--) kill(getpid(), SIGKILL);
}

static ulong at(fixture_t *fix, void const *blk) {
  return fd_wksp_gaddr_fast(fix->wksp, blk);
}

/* Memory from calloc is zero over all objects, also where a block was used before; a product that
   has no ulong is refused. */
static void test_zeroed(void **state) {
  fixture_t *fix = *state;
  ulong const counts[] = {1, 3, 100, 1000, 10000};
  for (uint i = 0; i < 5; i++) {
    ulong max, sz = 7 * counts[i];
    void *used = fd_alloc_malloc_at_least(fix->alloc, 0, sz, &max);
    memset(used, 0xa5, max);
    fd_alloc_free(fix->alloc, used);
    uchar *blk = fd_alloc_calloc(fix->alloc, 64, counts[i], 7);
    assert_non_null(blk);
    assert_int_equal((ulong)blk % 64, 0);
    for (ulong j = 0; j < sz; j++) assert_int_equal(blk[j], 0);
    fd_alloc_free(fix->alloc, blk);
  }
  assert_null(fd_alloc_calloc(fix->alloc, 0, 0, 7));
  assert_null(fd_alloc_calloc(fix->alloc, 0, 7, 0));
  assert_null(fd_alloc_calloc(NULL, 0, 7, 7));
  assert_null(fd_alloc_calloc(fix->alloc, 0, 1UL << 33, 1UL << 31));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  assert_clean(fix);
}

/* A block stays where it is while its class stays or it loses a quarter, and moves with its bytes
   otherwise: to other classes, to a partition, and back; alignment is kept if asked for again. */
static void test_realloc_moves(void **state) {
  fixture_t *fix = *state;
  uchar *blk = fd_alloc_realloc(fix->alloc, NULL, 0, 100), *was = blk;
  assert_non_null(blk);
  memset(blk, 1, 100);
  assert_ptr_equal(fd_alloc_realloc(fix->alloc, blk, 0, 112), was); /* the class of 112 bytes */
  assert_ptr_equal(fd_alloc_realloc(fix->alloc, blk, 0, 84), was);
  ulong const steps[] = {113, 5000, 16384, 16385, 300000, 200000, 20000, 3000, 17};
  ulong had = 84;
  memset(blk, 0x5a, had);
  for (uint i = 0; i < sizeof steps / sizeof steps[0]; i++) {
    blk = fd_alloc_realloc(fix->alloc, was = blk, 128, steps[i]);
    assert_non_null(blk);
    assert_ptr_not_equal(blk, was);
    assert_int_equal((ulong)blk % 128, 0);
    assert_true(fd_alloc_usable_size(fix->alloc, blk) >= steps[i]);
    for (ulong j = 0; j < had && j < steps[i]; j++) assert_int_equal(blk[j], 0x5a);
    memset(blk, 0x5a, steps[i]);
    had = steps[i];
  }
  blk =
      fd_alloc_realloc(fix->alloc, was = blk, 128, 1); /* 128 bytes: the least that is aligned so */
  assert_ptr_equal(blk, was);
  assert_int_equal(blk[0], 0x5a);
  uchar *large = fd_alloc_malloc(fix->alloc, 0, 1 << 20);
  assert_ptr_equal(fd_alloc_realloc(fix->alloc, large, 0, 800 << 10), large);
  fd_alloc_free(fix->alloc, large);
  assert_null(fd_alloc_realloc(fix->alloc, blk, 0, 0)); /* a free */
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
}

/* What realloc cannot do leaves the old block and its bytes as they were. */
static void test_realloc_refused(void **state) {
  fixture_t *fix = *state;
  uchar *blk = fd_alloc_malloc(fix->alloc, 0, 1000), *other = fd_alloc_malloc(fix->alloc, 0, 1000);
  memset(blk, 7, 1000);
  assert_null(fd_alloc_realloc(fix->alloc, blk, 0, 1UL << 40));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  assert_null(fd_alloc_realloc(fix->alloc, blk, 24, 2000));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_null(fd_alloc_realloc(NULL, blk, 0, 2000));
  for (uint i = 0; i < 1000; i++) assert_int_equal(blk[i], 7);
  assert_int_equal(bad_frees(fix), 0);
  assert_null(fd_alloc_realloc(fix->alloc, blk + 16, 0, 2000));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
  fd_alloc_free(fix->alloc, other);
  assert_null(fd_alloc_realloc(fix->alloc, other, 0, 2000));
  assert_null(fd_alloc_realloc(fix->alloc, other, 0, 1000));
  assert_null(fd_alloc_realloc(fix->alloc, state, 0, 2000));
  assert_int_equal(bad_frees(fix), 4);
  fd_alloc_free(fix->alloc, blk);
  assert_clean(fix);
}

/* Random mallocs, callocs, reallocs and frees of all kinds, of blocks that another thread has made
   as well: no byte is lost, and nothing else is left at the end. */
static void *make_blocks(void *arg) {
  held_t *held = arg;
  for (uint i = 0; i < LIVE; i += 2) {
    held[i].size = 16 + i % 3000;
    held[i].stamp = i;
    if (!(held[i].blk = fd_alloc_malloc((fd_alloc_t *)held[LIVE].blk, 0, held[i].size)))
      return held;
    fill(held[i].blk, held[i].size, i);
  }
  return NULL;
}

static void resize_one(fd_alloc_t *alloc, held_t *one, ulong size, int *ret_failed) {
  ulong keep = one->size < size ? one->size : size;
  uchar *copy = malloc(keep), *blk;
  memcpy(copy, one->blk, keep);
  blk = fd_alloc_realloc(alloc, one->blk, 0, size);
  if (!blk || memcmp(blk, copy, keep)) ++*ret_failed;
  free(copy);
  if (!blk) return;
  one->blk = blk;
  one->size = size;
  fill(blk, size, one->stamp);
}

static void test_realloc_random(void **state) {
  fixture_t *fix = *state;
  testing_rng_t r = testing_rng();
  held_t *held = calloc(LIVE + 1, sizeof *held);
  pthread_t maker;
  void *ret;
  held[LIVE].blk = (void *)fix->alloc;
  assert_int_equal(pthread_create(&maker, NULL, make_blocks, held), 0);
  assert_int_equal(pthread_join(maker, &ret), 0);
  assert_null(ret);
  int failed = 0;
  for (uint i = 0; i < 30000; i++) {
    held_t *one = &held[testing_below(&r, LIVE)];
    ulong size = rnd_size(&r);
    if (!one->blk) {
      one->size = size;
      one->stamp = testing_next(&r);
      one->blk = fd_alloc_calloc(fix->alloc, 0, 1, size);
      if (!one->blk || one->blk[size - 1])
        failed++;
      else
        fill(one->blk, size, one->stamp);
      continue;
    }
    if (!intact(one->blk, one->size, one->stamp)) failed++;
    if (testing_below(&r, 3)) {
      resize_one(fix->alloc, one, size, &failed);
    } else {
      fd_alloc_free_sized(fix->alloc, one->blk, one->size);
      one->blk = NULL;
    }
  }
  assert_sound(fix);
  free_all(fix->alloc, held, &failed);
  assert_int_equal(failed, 0);
  assert_int_equal(bad_frees(fix), 0);
  free(held);
  assert_clean(fix);
}

/* Sized free frees with the size that was asked for and with all that may be used; a small block
   that cannot have the size is left alone by a hardened library. */
static void test_free_sized(void **state) {
  fixture_t *fix = *state;
  ulong const sizes[] = {1, 16, 100, 5000, 16384, 16385, 100000};
  for (uint i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
    for (uint whole = 0; whole < 2; whole++) {
      ulong max;
      void *blk = fd_alloc_malloc_at_least(fix->alloc, i % 2 ? 256 : 0, sizes[i], &max);
      fd_alloc_free_sized(fix->alloc, blk, whole ? max : sizes[i]);
      assert_int_equal(fd_alloc_is_empty(fix->alloc), 1);
    }
  assert_int_equal(bad_frees(fix), 0);
  void *blk = fd_alloc_malloc(fix->alloc, 0, 100);
  ulong bad = 0;
#ifdef WKSP_HARDENED
  for (uint i = 1; i <= 2; i++) {
    bad = i;
    fd_alloc_free_sized(fix->alloc, blk, 113);
    assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
    assert_int_equal(bad_frees(fix), i);
    assert_int_equal(fd_alloc_usable_size(fix->alloc, blk), 112);
    /* the second time without a heap at hand, by the long form */
    fd_alloc_leave(fix->alloc);
  }
#endif
  fd_alloc_free_sized(fix->alloc, blk, 112);
  fd_alloc_free_sized(fix->alloc, blk, 112);
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
  fd_alloc_free_sized(fix->alloc, state, 8);
  assert_int_equal(bad_frees(fix), bad + 2);
  fd_alloc_free_sized(fix->alloc, NULL, 8);
  fd_alloc_free_sized(NULL, blk, 8);
  assert_int_equal(bad_frees(fix), bad + 2);
  assert_clean(fix);
}

/* The usable size is what malloc_at_least said, for every size; 0 and a reason for what is no live
   block: freed, however long ago, interior, wild, or another alloc's. No bad free is counted. */
static void test_usable_size(void **state) {
  fixture_t *fix = *state;
  enum { CNT = 40 };
  void *blk[CNT];
  for (ulong sz = 1; sz < 70000; sz += sz < 2100 ? 1 : 997) {
    ulong max;
    void *one = fd_alloc_malloc_at_least(fix->alloc, 0, sz, &max);
    assert_int_equal(fd_alloc_usable_size(fix->alloc, one), max);
    fd_alloc_free(fix->alloc, one);
    assert_int_equal(fd_alloc_usable_size(fix->alloc, one), 0);
  }
  fd_alloc_t *other = new_alloc(fix->wksp, TAG);
  for (uint i = 0; i < CNT; i++) blk[i] = fd_alloc_malloc(fix->alloc, 0, 64);
  for (uint i = 0; i < CNT; i++) assert_int_equal(fd_alloc_usable_size(fix->alloc, blk[i]), 64);
  for (uint i = 0; i < CNT; i += 2) fd_alloc_free(fix->alloc, blk[i]);
  for (uint i = 0; i < CNT; i++)
    assert_int_equal(fd_alloc_usable_size(fix->alloc, blk[i]), i % 2 ? 64 : 0);
  char *large = fd_alloc_malloc(fix->alloc, 0, 100000);
  void *bad[] = {
      (char *)blk[1] + 16, (char *)blk[1] + 1, (char *)blk[CNT - 1] + 64, large + 64, state,
      fix->wksp,           (void *)fix->alloc};
  for (uint i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    assert_int_equal(fd_alloc_usable_size(fix->alloc, bad[i]), 0);
    assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
  }
  assert_int_equal(fd_alloc_usable_size(other, blk[1]), 0);
  assert_int_equal(fd_alloc_usable_size(other, large), 0);
  assert_int_equal(fd_alloc_usable_size(fix->alloc, NULL), 0);
  assert_int_equal(fd_alloc_usable_size(NULL, blk[1]), 0);
  assert_int_equal(bad_frees(fix), 0);
  for (uint i = 1; i < CNT; i += 2) fd_alloc_free(fix->alloc, blk[i]);
  fd_alloc_free(fix->alloc, large);
  assert_non_null(fd_alloc_delete((void *)other));
  assert_int_equal(fd_wksp_free_laddr(fix->wksp, (void *)other), 0);
  assert_clean(fix);
}

/* A read-only join may ask for sizes. */
static void test_usable_size_read_only(void **state) {
  (void)state;
  ulong data_max = 16UL << 20, footprint = fd_wksp_footprint(100, data_max);
  char *mem = testing_map(footprint);
  assert_ptr_equal(fd_wksp_new(mem, "test", 7, 100, data_max), mem);
  fd_wksp_t *wksp = fd_wksp_join(mem);
  fd_alloc_t *alloc = new_alloc(wksp, TAG);
  void *small = fd_alloc_malloc(alloc, 0, 100), *large = fd_alloc_malloc(alloc, 0, 100000);
  /* the old length 0: a second mapping of the same shared memory */
  char *view = mremap(mem, 0, footprint, MREMAP_MAYMOVE);
  assert_true(view != MAP_FAILED);
  assert_int_equal(mprotect(view, footprint, PROT_READ), 0);
  fd_wksp_t *ro = fd_wksp_join_ro(view);
  assert_non_null(ro);
  fd_alloc_t *join = fd_alloc_join(view + fd_wksp_gaddr_fast(wksp, (void *)alloc), 0);
  assert_non_null(join);
  assert_int_equal(fd_alloc_usable_size(join, view + fd_wksp_gaddr_fast(wksp, small)), 112);
  assert_int_equal(fd_alloc_usable_size(join, view + fd_wksp_gaddr_fast(wksp, large)),
                   fd_alloc_usable_size(alloc, large));
  assert_int_equal(fd_alloc_usable_size(join, view + fd_wksp_gaddr_fast(wksp, small) + 16), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
  assert_null(fd_alloc_realloc(join, view + fd_wksp_gaddr_fast(wksp, small), 0, 5000));
  assert_int_equal(wksp_last_error_code(), WKSP_E_RDONLY);
  assert_ptr_equal(fd_wksp_leave(ro), view);
  assert_int_equal(munmap(view, footprint), 0);
  assert_non_null(fd_alloc_delete(fd_alloc_leave(alloc)));
  testing_wksp_end(wksp);
}

/* The calls of valloc.h that are made of malloc and free do the same over any table. */
static void test_valloc(void **state) {
  fixture_t *fix = *state;
  fd_valloc_t valloc = fd_alloc_virtual(fix->alloc);
  uchar *blk = fd_valloc_calloc(valloc, 32, 50, 6);
  for (uint i = 0; i < 300; i++) assert_int_equal(blk[i], 0);
  memset(blk, 9, 300);
  assert_ptr_equal(fd_valloc_realloc(valloc, blk, 32, 300, 300), blk);
  blk = fd_valloc_realloc(valloc, blk, 32, 300, 3000);
  assert_int_equal((ulong)blk % 32, 0);
  for (uint i = 0; i < 300; i++) assert_int_equal(blk[i], 9);
  assert_null(fd_valloc_realloc(valloc, blk, 32, 3000, 1UL << 40));
  blk = fd_valloc_realloc(valloc, blk, 0, 3000, 10);
  assert_int_equal(blk[9], 9);
  assert_null(fd_valloc_realloc(valloc, blk, 0, 10, 0));
  blk = fd_valloc_realloc(valloc, NULL, 0, 0, 10);
  fd_valloc_free_sized(valloc, blk, 10);
  assert_null(fd_valloc_calloc(valloc, 0, 1UL << 33, 1UL << 31));
  assert_null(fd_valloc_calloc(valloc, 0, 0, 8));
  assert_null(fd_valloc_calloc(valloc, 0, 8, 0));
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
}

/* Threads resize, ask for sizes of and free with sizes blocks that they pass on to each other,
   while spans go from heap to heap under them, as threads end and a compactor takes what it can:
   all are found, with their bytes. */
enum { PASSED = 64, PASSERS = 3, STEPS = 6000 };

typedef struct passing {
  fixture_t *fix;
  uchar *blk[PASSED]; /* each begins with its size */
  uint failed, running;
} passing_t;

typedef struct passer {
  passing_t *all;
  testing_rng_t rng;
} passer_t;

static int whole(uchar const *blk, ulong size) {
  ulong told;
  memcpy(&told, blk, sizeof told);
  return told == size && blk[sizeof told] == (uchar)size && blk[size - 1] == (uchar)size;
}

static uchar *stamp_size(uchar *blk, ulong size) {
  memset(blk, (uchar)size, size);
  memcpy(blk, &size, sizeof size);
  return blk;
}

/* What becomes of a block that was passed on. NULL: it is gone. */
static uchar *pass_one(passer_t *self, uchar *blk) {
  fd_alloc_t *alloc = self->all->fix->alloc;
  ulong size = 0, want = 16 + rnd_size(&self->rng);
  if (!blk) {
    blk = fd_alloc_calloc(alloc, 0, want, 1);
    return blk ? stamp_size(blk, want) : NULL;
  }
  memcpy(&size, blk, sizeof size);
  if (fd_alloc_usable_size(alloc, blk) < size || !whole(blk, size))
    __atomic_fetch_add(&self->all->failed, 1, __ATOMIC_RELAXED);
  if (testing_below(&self->rng, 3)) {
    uchar *moved = fd_alloc_realloc(alloc, blk, 0, want);
    if (moved && !memcmp(moved, &size, sizeof size)) return stamp_size(moved, want);
    /* the lock's holder had lost its core for long: the block is as it was */
    if (!moved && wksp_last_error_code() == WKSP_E_TIMEDOUT) return blk;
    __atomic_fetch_add(&self->all->failed, 1, __ATOMIC_RELAXED);
    return moved;
  }
  fd_alloc_free_sized(alloc, blk, size);
  return NULL;
}

static void *passer(void *arg) {
  passer_t *self = arg;
  for (uint i = 0; i < STEPS; i++) {
    uchar **at = &self->all->blk[testing_below(&self->rng, PASSED)];
    uchar *blk = pass_one(self, __atomic_exchange_n(at, NULL, __ATOMIC_ACQ_REL));
    blk = __atomic_exchange_n(at, blk, __ATOMIC_ACQ_REL);
    fd_alloc_free(self->all->fix->alloc, blk); /* another came in between */
    if (i % 1000 == 999) fd_alloc_leave(self->all->fix->alloc);
  }
  __atomic_fetch_sub(&self->all->running, 1, __ATOMIC_RELAXED);
  return NULL;
}

static void test_passed_on(void **state) {
  passing_t all = {.fix = *state, .running = PASSERS};
  passer_t self[PASSERS];
  pthread_t thread[PASSERS];
  testing_rng_t r = testing_rng();
  for (uint i = 0; i < PASSERS; i++) {
    self[i] = (passer_t){&all, {testing_next(&r) | 1}};
    assert_int_equal(pthread_create(&thread[i], NULL, passer, &self[i]), 0);
  }
  while (__atomic_load_n(&all.running, __ATOMIC_RELAXED)) {
    assert_int_equal(fd_alloc_compact(all.fix->alloc, NULL), 0);
    sched_yield();
  }
  for (uint i = 0; i < PASSERS; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
  for (uint i = 0; i < PASSED; i++) fd_alloc_free(all.fix->alloc, all.blk[i]);
  assert_int_equal(all.failed, 0);
  assert_int_equal(bad_frees(all.fix), 0);
  assert_clean(all.fix);
}

/* Alignment
 * -------------------------------------------------------------------------------------- */

/* A block whose size is a power of two up to 16 KiB is aligned to it, wherever in how many spans.
 */
static void test_powers_of_two(void **state) {
  fixture_t *fix = *state;
  for (ulong sz = 1; sz <= FD_ALLOC_SMALL_MAX; sz *= 2) {
    void *blk[100];
    for (uint i = 0; i < 100; i++) {
      assert_non_null(blk[i] = fd_alloc_malloc(fix->alloc, 0, sz));
      assert_int_equal((ulong)blk[i] % sz, 0);
      assert_int_equal(fd_alloc_usable_size(fix->alloc, blk[i]), sz < 16 ? 16 : sz);
    }
    for (uint i = 0; i < 100; i++) fd_alloc_free(fix->alloc, blk[i]);
  }
  assert_clean(fix);
}

/* One block of the size, aligned: from the long form or a span, and once more from the magazine. */
static void take_aligned(fixture_t *fix, fd_alloc_t *join, ulong align, ulong sz, ulong want) {
  for (uint turn = 0; turn < 2; turn++) {
    ulong max = sz;
    uchar *blk =
        turn ? fd_alloc_malloc(join, align, sz) : fd_alloc_malloc_at_least(join, align, sz, &max);
    if (!blk) fprintf(stderr, "%lu aligned to %lu: %s\n", sz, align, wksp_last_error());
    assert_non_null(blk);
    assert_int_equal(at(fix, blk) & (want - 1), 0);
    assert_true(max >= sz && fd_alloc_usable_size(join, blk) >= max);
    blk[0] = blk[max - 1] = 1;
    fd_alloc_free(join, blk);
  }
}

static ulong next_power(ulong sz) {
  ulong next = 1;
  while (next < sz) next *= 2;
  return next;
}

/* Every size at every alignment that the workspace has room for; what it has none for is told, up
   to the largest powers of two that there are. */
static void test_any_alignment(void **state) {
  fixture_t *fix = *state;
  testing_rng_t r = testing_rng();
  for (ulong sz = 1; sz < 40000; sz += sz < 300 ? 1 : 1 + testing_below(&r, sz / 8))
    for (ulong align = 1; align <= 4UL << 20; align *= 2)
      take_aligned(fix, fix->alloc, align, sz, align);
  assert_int_equal((ulong)fix->wksp % (32UL << 20), 0); /* addresses are aligned as gaddrs are */
  for (ulong align = 64UL << 20; align; align *= 2)
    for (ulong sz = 1; sz; sz *= 16) {
      assert_null(fd_alloc_malloc(fix->alloc, align, sz < align ? sz : align));
      assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
    }
  assert_clean(fix);
}

/* In an alloc that was made so, every block is aligned to the next power of two of its request,
   from whatever join, and after a realloc; else it is like any other. */
static void test_aligned_alloc(void **state) {
  fixture_t *fix = *state;
  void *shmem = fd_wksp_alloc_laddr(fix->wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, 5);
  assert_null(fd_alloc_new_flags(shmem, 5, 2));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_ptr_equal(fd_alloc_new_flags(shmem, 5, FD_ALLOC_FLAG_ALIGNED), shmem);
  fd_alloc_t *join = fd_alloc_join(shmem, 21);
  assert_int_equal(fd_alloc_join_cgroup_hint(join), 5);
  join = fd_alloc_join_cgroup_hint_set(join, 9);
  assert_int_equal(fd_alloc_join_cgroup_hint(join), 9);
  assert_int_equal(fd_alloc_flags(join), FD_ALLOC_FLAG_ALIGNED);
  assert_int_equal(fd_alloc_flags(fix->alloc), 0);
  for (ulong sz = 1; sz < 4UL << 20; sz += sz < 20000 ? 1 : sz / 7) {
    take_aligned(fix, join, 0, sz, next_power(sz));
    if (sz % 10 == 0) take_aligned(fix, join, 4096, sz, sz < 4096 ? 4096 : next_power(sz));
  }
  ulong *dst = fd_alloc_calloc(fix->alloc, 0, 1, sizeof *dst);
  for (ulong sz = 1; sz < 1UL << 20; sz += 1 + sz / 3) {
    assert_int_equal(fd_alloc_malloc_to(join, 0, sz, dst), 0);
    assert_int_equal(fd_alloc_named(dst) & (next_power(sz) - 1), 0);
    assert_int_equal(fd_alloc_free_from(join, dst), 1);
  }
  fd_alloc_free(fix->alloc, dst);
  assert_null(fd_alloc_malloc(join, 0, (1UL << 62) + 1));
  assert_null(fd_alloc_malloc(join, 0, ~0UL));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  uchar *blk = fd_alloc_calloc(join, 0, 3, 11), *was;
  for (ulong sz = 34; sz < 1UL << 20; sz += sz / 3) {
    blk = fd_alloc_realloc(join, was = blk, 0, sz);
    assert_non_null(blk);
    assert_int_equal(at(fix, blk) & (next_power(sz) - 1), 0);
  }
  fd_alloc_free(join, blk);
  assert_int_equal(fd_alloc_is_empty(join), 1);
  assert_ptr_equal(fd_alloc_leave(join), shmem);
  assert_ptr_equal(fd_alloc_delete(shmem), shmem);
  assert_int_equal(fd_wksp_free_laddr(fix->wksp, shmem), 0);
  assert_clean(fix);
}

#ifndef WKSP_HARDENED
/* Kills
 * ------------------------------------------------------------------------------------------ */

typedef struct found {
  ulong old, old_cnt, cnt, suspects, other;
} found_t;

static int look(void *arg, fd_alloc_block_t const *block) {
  found_t *found = arg;
  found->cnt++;
  if (block->gaddr == found->old) {
    found->old_cnt++;
  } else {
    found->other = block->gaddr;
    found->suspects += block->kind == FD_ALLOC_BLOCK_SUSPECT;
  }
  return 0;
}

/* The one whose realloc is killed has made the block himself, or found it. */
static int doomed(fixture_t *fix, uchar *blk, ulong from, ulong to, int own, ulong *made) {
  if (own) {
    blk = fd_alloc_malloc(fix->alloc, 0, from);
    if (!blk) return 1;
    memset(blk, 0x77, from);
    *made = at(fix, blk);
  } else {
    fd_alloc_free(fix->alloc, fd_alloc_malloc(fix->alloc, 0, from)); /* so that it has a heap */
  }
  g_doomed = getpid();
  return !fd_alloc_realloc(fix->alloc, blk, 0, to);
}

/* One run: 0 when it went through without a kill. */
static int killed_once(fixture_t *fix, ulong from, ulong to, int own, long point) {
  ulong *made = (ulong *)(g_left + 1);
  uchar *blk = own ? NULL : fd_alloc_malloc(fix->alloc, 0, from);
  if (blk) memset(blk, 0x77, from);
  *made = blk ? at(fix, blk) : 0;
  *g_left = point;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) _exit(doomed(fix, blk, from, to, own, made));
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status) || !WEXITSTATUS(status));
  found_t found = {.old = *made};
  assert_int_equal(fd_alloc_walk(fix->alloc, look, &found), 0);
  ulong unknown = found.cnt - found.old_cnt;
  assert_true(unknown <= 1);
  assert_int_equal(found.suspects, unknown);
  assert_true(found.old_cnt || unknown); /* else the bytes would be lost */
  ulong keep = from < to ? from : to, gaddr = found.old_cnt ? *made : found.other;
  uchar const *bytes = fd_wksp_laddr_fast(fix->wksp, gaddr);
  for (ulong i = 0; i < keep; i++) assert_int_equal(bytes[i], 0x77);
  if (found.old_cnt) fd_alloc_free(fix->alloc, fd_wksp_laddr_fast(fix->wksp, *made));
  if (unknown) fd_alloc_free(fix->alloc, fd_wksp_laddr_fast(fix->wksp, found.other));
  assert_int_equal(bad_frees(fix), 0);
  assert_clean(fix);
  return WIFSIGNALED(status);
}

/* Killed at any store of a realloc that moves, a thread leaves the old block with its bytes, or a
   new one with them, or both; what nobody can know is one block, and it is the suspect. */
static void test_realloc_killed(void **state) {
  fixture_t *fix = *state;
  struct {
    ulong from, to;
  } const moves[] = {{100, 1000}, {5000, 200}, {1000, 50000}, {50000, 1000}, {50000, 100000}};
  g_left = testing_map(4096);
  ulong kills = 0;
  for (uint i = 0; i < sizeof moves / sizeof moves[0]; i++)
    for (int own = 0; own < 2; own++)
      for (long point = 0; killed_once(fix, moves[i].from, moves[i].to, own, point); point++)
        kills++;
  printf("# %lu kills\n", kills);
  assert_true(kills > 100);
  munmap(g_left, 4096);
}
#endif

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  struct CMUnitTest const tests[] = {
      T(test_zeroed),         T(test_realloc_moves), T(test_realloc_refused),
      T(test_realloc_random), T(test_passed_on),     T(test_free_sized),
      T(test_usable_size),    T(test_valloc),        cmocka_unit_test(test_usable_size_read_only),
      T(test_powers_of_two),  T(test_any_alignment), T(test_aligned_alloc),
#ifndef WKSP_HARDENED /* there the old block is named while its bit goes, and the new one is not \
                       */
      T(test_realloc_killed),
#endif
  };
  return cmocka_run_group_tests_name("core/alloc_more", tests, NULL, NULL);
}
