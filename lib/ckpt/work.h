/* work: many like pieces of work, done by several threads. See work.c. */

#ifndef WKSP_CKPT_WORK_H
#define WKSP_CKPT_WORK_H

#include "wksp/ckpt.h"

#include <stdint.h>

typedef struct wksp__ck_work wksp__ck_work_t;

/* Piece idx of [0, cnt), by thread number `thread`, of [0, threads). Returns 0 or an error
   (reported). work_read: bytes it has read, for the rate and the progress; written likewise. */
typedef int (*wksp__ck_piece_t)(void *arg, uint32_t thread, uint64_t idx, wksp__ck_work_t *work);
void wksp__ck_work_done(wksp__ck_work_t *work, uint64_t read_sz, uint64_t written_sz);

typedef struct wksp__ck_job {
  wksp__ck_piece_t piece;
  void *arg;
  uint64_t cnt;
  uint32_t threads;                  /* as wksp__ck_threads gives them */
  uint32_t phase;                    /* WKSP_CKPT_PHASE_* */
  uint64_t total_sz, written_before; /* for the progress */
  uint64_t rate;                     /* bytes a second at most, 0 */
  wksp_ckpt_progress_fn on_progress; /* NULL: nobody */
  void *progress_arg;
} wksp__ck_job_t;

/* How many threads to work with, at most. */
uint32_t wksp__ck_threads(uint32_t wanted, uint64_t total_sz);

/* Does it. 0, or the first failure, as if it were the calling thread's; E_AGAIN: cancelled. */
int wksp__ck_work(wksp__ck_job_t const *job);

#endif
