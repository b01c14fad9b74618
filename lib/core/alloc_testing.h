/* alloc_testing: an fd_alloc in a workspace of its own, and random work for tests. */

#ifndef WKSP_CORE_ALLOC_TESTING_H
#define WKSP_CORE_ALLOC_TESTING_H

#include "core/alloc.h"
#include "core/testing.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define TAG 77UL

typedef struct fixture {
  fd_wksp_t *wksp;
  fd_alloc_t *alloc;
  ulong used_sz; /* of the workspace, with the empty alloc */
} fixture_t;

static inline ulong used_sz(fd_wksp_t *wksp) {
  fd_wksp_usage_t usage;
  assert_int_equal(fd_wksp_usage(wksp, NULL, 0, &usage), 0);
  return usage.total_sz - usage.free_sz;
}

static inline fd_alloc_t *new_alloc(fd_wksp_t *wksp, ulong tag) {
  void *shmem = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), tag);
  assert_non_null(shmem);
  assert_ptr_equal(fd_alloc_new(shmem, tag), shmem);
  fd_alloc_t *alloc = fd_alloc_join(shmem, 0);
  assert_non_null(alloc);
  return alloc;
}

static inline int setup_sized(void **state, ulong size) {
  fixture_t *fix = calloc(1, sizeof *fix);
  fix->wksp = fd_wksp_new_anon("test", size, 0, 1, 0);
  if (!fix->wksp) {
    fprintf(stderr, "%s\n", wksp_last_error());
    return 1;
  }
  fix->alloc = new_alloc(fix->wksp, TAG);
  fix->used_sz = used_sz(fix->wksp);
  *state = fix;
  return 0;
}

static inline int setup(void **state) {
  return setup_sized(state, 64UL << 20);
}

static inline int setup_small(void **state) {
  return setup_sized(state, 2UL << 20);
}

static inline int teardown(void **state) {
  fixture_t *fix = *state;
  fd_wksp_delete_anon(fix->wksp);
  free(fix);
  return 0;
}

static inline void assert_sound(fixture_t *fix) {
  assert_int_equal(fd_wksp_verify(fix->wksp, testing_sentence, NULL), 0);
}

/* Empty, and after a compact as much memory in use as when the alloc was new. */
static inline void assert_clean(fixture_t *fix) {
  fd_alloc_compacted_t done;
  assert_int_equal(fd_alloc_is_empty(fix->alloc), 1);
  assert_int_equal(fd_alloc_compact(fix->alloc, &done), 0);
  assert_int_equal(done.skipped_cnt, 0);
  assert_int_equal(used_sz(fix->wksp), fix->used_sz);
  assert_sound(fix);
}

static inline ulong bad_frees(fixture_t *fix) {
  fd_alloc_stat_t stat;
  assert_int_equal(fd_alloc_stat(fix->alloc, &stat), 0);
  return stat.bad_free_cnt;
}

/* 16 B to 32 KiB, log-uniform. */
static inline ulong rnd_size(testing_rng_t *rng) {
  ulong lg = 4 + testing_below(rng, 11);
  return (1UL << lg) + testing_below(rng, 1UL << lg);
}

static inline void fill(uchar *blk, ulong size, ulong stamp) {
  memset(blk, (int)(stamp * 31 & 255), size);
  memcpy(blk, &stamp, sizeof stamp);
  memcpy(blk + size - sizeof stamp, &stamp, sizeof stamp);
}

static inline int intact(uchar const *blk, ulong size, ulong stamp) {
  uchar mid = size >= 3 * sizeof stamp ? blk[size / 2] : (uchar)(stamp * 31 & 255);
  return !memcmp(blk, &stamp, sizeof stamp) &&
         !memcmp(blk + size - sizeof stamp, &stamp, sizeof stamp) &&
         mid == (uchar)(stamp * 31 & 255);
}

enum { LIVE = 2000 };

typedef struct held {
  uchar *blk;
  ulong size, stamp;
} held_t;

static inline void random_ops(fd_alloc_t *alloc, held_t *held, ulong steps, testing_rng_t *r,
                              int *ret_failed) {
  for (ulong i = 0; i < steps; i++) {
    held_t *at = &held[testing_below(r, LIVE)];
    if (at->blk) {
      if (!intact(at->blk, at->size, at->stamp)) (*ret_failed)++;
      fd_alloc_free(alloc, at->blk);
      at->blk = NULL;
    } else {
      ulong max = 0;
      at->size = rnd_size(r);
      at->stamp = testing_next(r);
      at->blk = fd_alloc_malloc_at_least(alloc, 0, at->size, &max);
      if (!at->blk || max < at->size)
        (*ret_failed)++;
      else
        fill(at->blk, at->size, at->stamp);
    }
  }
}

static inline void free_all(fd_alloc_t *alloc, held_t *held, int *ret_failed) {
  for (uint i = 0; i < LIVE; i++) {
    if (!held[i].blk) continue;
    if (!intact(held[i].blk, held[i].size, held[i].stamp)) (*ret_failed)++;
    fd_alloc_free(alloc, held[i].blk);
    held[i].blk = NULL;
  }
}

#endif
