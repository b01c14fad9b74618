/* work: many like pieces of work, done by several threads.

   The caller's thread is one of them, and the only one that tells of progress; the others are begun
   for the job and joined at its end, so nobody else has to know that there are threads, and they
   run where the caller may run. Pieces are taken a few at a time, in order. The first failure stops
   all, and becomes the caller's.

   If a thread cannot be had the others do its share. Refuses to go on after a failure. */

#include "ckpt/work.h"

#include "core/atomic.h"
#include "core/call.h"
#include "core/fail.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WORK_BATCH    4
#define WORK_THREADS  8U          /* unless the caller wants more */
#define WORK_SHARE_SZ (1UL << 20) /* a thread for less than that is not worth its while */
#define WORK_TELL_SZ  (4UL << 20) /* of the caller's own share */
#define WORK_NAP_NS   50000000UL  /* longest nap for a rate */

struct wksp__ck_work {
  wksp__ck_job_t const *job;
  uint64_t next;          /* piece */
  uint64_t done, written; /* bytes */
  uint64_t begin_ns;
  uint32_t stop; /* 1: somebody has failed */
  uint32_t failed;
  int code;
  char sentence[512];
};

typedef struct worker {
  wksp__ck_work_t *work;
  uint32_t number;
  int begun;
  pthread_t thread;
} worker_t;

uint32_t wksp__ck_threads(uint32_t wanted, uint64_t total_sz) {
  cpu_set_t set;
  uint32_t cnt = wanted;
  if (!cnt) cnt = sched_getaffinity(0, sizeof set, &set) ? 1 : (uint32_t)CPU_COUNT(&set);
  if (!wanted && cnt > WORK_THREADS) cnt = WORK_THREADS;
  if (cnt > WKSP_CKPT_THREADS_MAX) cnt = WKSP_CKPT_THREADS_MAX;
  uint64_t most = total_sz / WORK_SHARE_SZ + 1;
  return cnt > most ? (uint32_t)most : cnt;
}

void wksp__ck_work_done(wksp__ck_work_t *work, uint64_t read_sz, uint64_t written_sz) {
  __atomic_fetch_add(&work->done, read_sz, __ATOMIC_RELAXED);
  __atomic_fetch_add(&work->written, written_sz, __ATOMIC_RELAXED);
}

/* The calling thread's failure becomes the job's, unless there is one. */
static void fail(wksp__ck_work_t *work, int code) {
  if (!__atomic_exchange_n(&work->failed, 1U, __ATOMIC_ACQ_REL)) {
    work->code = code;
    snprintf(work->sentence, sizeof work->sentence, "%s", wksp_last_error());
  }
  __atomic_store_n(&work->stop, 1U, __ATOMIC_RELEASE);
}

/* Waits until so many bytes may have been read, a nap at most. */
static void hold_back(wksp__ck_work_t *work) {
  uint64_t done = __atomic_load_n(&work->done, __ATOMIC_RELAXED);
  uint64_t due = (uint64_t)((double)done / (double)work->job->rate * 1e9);
  while (!__atomic_load_n(&work->stop, __ATOMIC_RELAXED)) {
    uint64_t now = wksp__now_ns() - work->begin_ns;
    if (now >= due) return;
    uint64_t left = due - now < WORK_NAP_NS ? due - now : WORK_NAP_NS;
    struct timespec nap = {(time_t)(left / 1000000000UL), (long)(left % 1000000000UL)};
    nanosleep(&nap, NULL);
  }
}

static int tell(wksp__ck_work_t *work) {
  wksp__ck_job_t const *job = work->job;
  if (!job->on_progress) return 0;
  wksp_ckpt_progress_t progress = {.phase = job->phase,
                                   .done_sz = __atomic_load_n(&work->done, __ATOMIC_RELAXED),
                                   .total_sz = job->total_sz,
                                   .written_sz = job->written_before +
                                                 __atomic_load_n(&work->written, __ATOMIC_RELAXED)};
  if (!job->on_progress(job->progress_arg, &progress)) return 0;
  return wksp__fail(WKSP_E_AGAIN, "checkpoint: cancelled after %lu of %lu bytes", progress.done_sz,
                    progress.total_sz);
}

static void *worker(void *arg) {
  worker_t *self = arg;
  wksp__ck_work_t *work = self->work;
  wksp__ck_job_t const *job = work->job;
  uint64_t told = 0;
  int err = 0;
  while (!err && !__atomic_load_n(&work->stop, __ATOMIC_RELAXED)) {
    uint64_t from = __atomic_fetch_add(&work->next, WORK_BATCH, __ATOMIC_RELAXED);
    if (from >= job->cnt) break;
    uint64_t to = from + WORK_BATCH < job->cnt ? from + WORK_BATCH : job->cnt;
    for (uint64_t i = from; i < to && !err; i++) err = job->piece(job->arg, self->number, i, work);
    if (!err && job->rate) hold_back(work);
    uint64_t done = __atomic_load_n(&work->done, __ATOMIC_RELAXED) / job->threads;
    if (err || self->number || done - told < WORK_TELL_SZ) continue;
    told = done;
    err = tell(work);
  }
  if (err) fail(work, err);
  return NULL;
}

int wksp__ck_work(wksp__ck_job_t const *job) {
  wksp__ck_work_t work = {.job = job, .begin_ns = wksp__now_ns()};
  worker_t workers[WKSP_CKPT_THREADS_MAX];
  for (uint32_t i = 1; i < job->threads; i++) {
    workers[i] = (worker_t){.work = &work, .number = i};
    workers[i].begun = !pthread_create(&workers[i].thread, NULL, worker, &workers[i]);
  }
  workers[0] = (worker_t){.work = &work};
  worker(&workers[0]);
  for (uint32_t i = 1; i < job->threads; i++)
    if (workers[i].begun) pthread_join(workers[i].thread, NULL);
  if (!work.failed && tell(&work)) return WKSP_E_AGAIN;
  return work.failed ? wksp__fail(work.code, "%s", work.sentence) : 0;
}
