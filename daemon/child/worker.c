/* The problem: queries and compaction walk memory that clients write at the same time and may have
   damaged on purpose; a load from it can raise SIGBUS, a walk may never end, a bug may be
   exploited.

   The model: such work is done here, in a process of its own that has given up everything else
   (sandbox.h), and that the daemon bounds in time and kills without regret: every operation is safe
   against a kill at any instruction, as it has to be for clients. A query maps read-only first;
   only if a dead writer's change has to be finished does it join like a client.

   Refuses: to run for people (its question comes from the daemon), to keep state. */

#include "daemon/child/worker.h"

#include "core/alloc.h"
#include "core/fail.h"
#include "core/part.h"
#include "daemon/child/ckptwork.h"
#include "daemon/child/pages.h"
#include "daemon/child/result.h"
#include "daemon/child/sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct job {
  result_ask_t ask;
  uint64_t tags[RESULT_TAGS_MAX];
  uint64_t leases[RESULT_LEASES_MAX];
  result_head_t head;
  fd_wksp_part_t *parts;
  fd_wksp_root_t roots[FD_WKSP_ROOT_MAX];
  result_run_t runs[RESULT_RUNS_MAX];
} job_t;

/* 1 if len bytes came. */
int worker_read(void *ret_bytes, size_t len) {
  char *at = ret_bytes;
  while (len) {
    ssize_t n = read(STDIN_FILENO, at, len);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    at += n;
    len -= (size_t)n;
  }
  return 1;
}

int worker_write(void const *bytes, size_t len) {
  char const *at = bytes;
  while (len) {
    ssize_t n = write(STDOUT_FILENO, at, len);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return 0;
    at += n;
    len -= (size_t)n;
  }
  return 1;
}

static int read_ask(job_t *job) {
  result_ask_t *ask = &job->ask;
  return worker_read(ask, sizeof *ask) && ask->magic == RESULT_MAGIC && ask->op >= RESULT_QUERY &&
         ask->op <= RESULT_CKPT_DRILL && ask->tag_cnt <= RESULT_TAGS_MAX &&
         ask->lease_cnt <= RESULT_LEASES_MAX &&
         (ask->op != RESULT_PLACE || (ask->page_bytes && ask->resize_to <= ask->size)) &&
         ask->page_size <= RESULT_PARTS_MAX &&
         worker_read(job->tags, ask->tag_cnt * sizeof *job->tags) &&
         worker_read(job->leases, ask->lease_cnt * sizeof *job->leases);
}

static int tag_wanted(job_t const *job, uint64_t tag) {
  if (!job->ask.tag_cnt) return 1;
  for (uint32_t i = 0; i < job->ask.tag_cnt; i++) {
    if (job->tags[i] == tag) return 1;
  }
  return 0;
}

static int query_parts(job_t *job, fd_wksp_t *wksp) {
  uint64_t from = job->ask.page_gaddr;
  /* Partitions advance and lie inside the workspace, so this ends; see too that the daemon's time
   * limit applies. */
  for (;;) {
    fd_wksp_part_t part;
    int got = fd_wksp_part_next(wksp, from, &part);
    if (got <= 0) return got;
    if (part.gaddr < from || !part.size || part.gaddr + part.size < part.gaddr) {
      return WKSP_E_CORRUPT;
    }
    if (tag_wanted(job, part.tag)) {
      if (job->head.part_cnt == job->ask.page_size) {
        job->head.next_page_gaddr = part.gaddr;
        return 0;
      }
      job->parts[job->head.part_cnt++] = part;
    }
    from = part.gaddr + part.size;
  }
}

static int query_roots(job_t *job, fd_wksp_t *wksp) {
  uint place = 0;
  while (job->head.root_cnt < FD_WKSP_ROOT_MAX) {
    memset(&job->roots[job->head.root_cnt], 0, sizeof *job->roots);
    int got = fd_wksp_root_next(wksp, &place, &job->roots[job->head.root_cnt]);
    if (got <= 0) return got;
    job->head.root_cnt++;
  }
  return 0;
}

static void query_holder(job_t *job, fd_wksp_t *wksp) {
  wksp__holder_t is;
  wksp__lock_holder(wksp, &is);
  result_holder_t holder = {.since_ns = is.since_ns, .pid = is.pid, .tid = is.tid, .dead = is.dead};
  memcpy(holder.comm, is.comm, sizeof holder.comm);
  job->head.holder = holder;
}

/* The first of what is wrong is what is told. */
static void on_finding(void *arg, char const *sentence) {
  job_t *job = arg;
  if (!job->head.sentence[0])
    snprintf(job->head.sentence, sizeof job->head.sentence, "%s", sentence);
}

static int verify(job_t *job, fd_wksp_t *wksp) {
  int err = fd_wksp_verify(wksp, on_finding, job);
  if (err != WKSP_E_CORRUPT || !job->head.sentence[0]) return err;
  char said[sizeof job->head.sentence];
  memcpy(said, job->head.sentence, sizeof said);
  return wksp__fail(err, "%s", said);
}

static int query(job_t *job, fd_wksp_t *wksp) {
  job->head.part_cnt = job->head.root_cnt = 0;
  job->head.next_page_gaddr = job->head.suspect_cnt = 0;
  query_holder(job, wksp);
  if (job->ask.holder_only) return 0; /* also while he is stopped in the middle of a change */
  int err =
      fd_wksp_usage(wksp, job->ask.tag_cnt ? job->tags : NULL, job->ask.tag_cnt, &job->head.usage);
  if (!err) err = query_parts(job, wksp);
  if (!err && !job->ask.page_gaddr) err = query_roots(job, wksp);
  if (!err && !job->ask.page_gaddr) err = wksp__suspect_cnt(wksp, &job->head.suspect_cnt);
  result_t result = {&job->head, job->parts, job->roots, job->runs};
  char const *why = err ? NULL : result_query_why(&job->ask, &result);
  if (why) err = wksp__fail(WKSP_E_CORRUPT, "query: its tables hold %s", why);
  return err;
}

static int reap(job_t *job, fd_wksp_t *wksp) {
  int err = 0;
  for (uint32_t i = 0; i < job->ask.lease_cnt && !err; i++) {
    err = wksp__reap(wksp, job->leases[i]);
    if (!err) err = wksp__ephemeral_end(wksp, job->leases[i]);
  }
  return err;
}

/* How long a resize waits for the lock: less than the daemon waits for us, so that it is told who
 * holds it. */
#define RESIZE_LOCK_NS 2000000000UL

/* Size and end of the data: spans are whole, and what is behind the last is of no use. */
static int resize(job_t *job, fd_wksp_t *wksp) {
  result_ask_t const *ask = &job->ask;
  uint64_t unit = ask->page_bytes > WKSP_SPAN_SZ ? ask->page_bytes : WKSP_SPAN_SZ;
  uint64_t end = ask->resize_to & ~(WKSP_SPAN_SZ - 1);
  if (end > wksp->data_hi) end = wksp->data_hi;
  if (ask->resize_to && end < wksp->data_lo + WKSP_SPAN_SZ)
    return wksp__fail(WKSP_E_INVAL, "resize: %lu bytes do not hold its tables", ask->resize_to);

  wksp__call_t call;
  wksp__resized_t resized;
  int err = wksp__call_begin(wksp, &call);
  if (err) return err;
  err = wksp__part_resize(&call, RESIZE_LOCK_NS, ask->resize_to ? end - wksp->data_lo : 0, unit,
                          &resized);
  wksp__call_end(&call);
  if (err) return err;
  uint64_t at = wksp->data_lo + resized.data_sz;
  uint64_t size =
      at == wksp->data_hi ? ask->size : (at + ask->page_bytes - 1) & ~(ask->page_bytes - 1);
  job->head.resized_to = ask->resize_to && at == end ? ask->resize_to : size;
  job->head.resized_why = (uint32_t)resized.why;
  job->head.block = resized.block;
  return 0;
}

static int work(job_t *job, fd_wksp_t *wksp) {
  switch (job->ask.op) {
  case RESULT_QUERY:
    return job->ask.verify ? verify(job, wksp) : query(job, wksp);
  case RESULT_COMPACT:
    return fd_wksp_compact(wksp, &job->head.compacted);
  case RESULT_RESIZE:
    return resize(job, wksp);
  default:
    return reap(job, wksp);
  }
}

/* One attempt, reading or writing. */
static int attempt(job_t *job, int read_only) {
  int prot = read_only ? PROT_READ : PROT_READ | PROT_WRITE;
  void *mem = mmap(NULL, job->ask.size, prot, MAP_SHARED | MAP_NORESERVE, WORKER_FD_MEMORY, 0);
  if (mem == MAP_FAILED) {
    snprintf(job->head.sentence, sizeof job->head.sentence, "mmap: %s", strerror(errno));
    return WKSP_E_SYS;
  }
  if (job->ask.op == RESULT_PLACE) { /* whatever is in it */
    pages_ask(&job->ask, mem, &job->head, job->runs);
    munmap(mem, job->ask.size);
    return 0;
  }
  /* The daemon's figure counts: what the header says must lie inside what is mapped. */
  int err = wksp__header_check(mem, job->ask.size);
  fd_wksp_t *wksp = NULL;
  /* Joined under a lease of the daemon's, as clients are: a process id would mean nothing in a
   * client's pid namespace. */
  if (!err) err = wksp__map_add(mem, read_only, read_only ? 0 : job->ask.lease, NULL, NULL);
  if (!err) {
    wksp = mem;
    /* A worker that was killed while it claimed a slot had this lease too, and is gone. */
    if (!read_only) err = wksp__reap(wksp, job->ask.lease);
    if (!err) err = work(job, wksp);
  }
  if (err) {
    int told = wksp_last_error_code() == err;
    snprintf(job->head.sentence, sizeof job->head.sentence, "%s",
             told ? wksp_last_error() : wksp_strerror(err));
  }
  if (wksp) wksp__map_drop(wksp);
  munmap(mem, job->ask.size);
  return err;
}

int worker_main(void) {
  job_t *job = calloc(1, sizeof *job);
  if (!job || !read_ask(job)) return 1;
  if (job->ask.op >= RESULT_CHECKPOINT) {
    job->head.magic = RESULT_MAGIC;
    job->head.op = job->ask.op;
    int status = ckptwork_main(&job->ask, job->tags, &job->head);
    free(job);
    return status;
  }
  job->parts = calloc(job->ask.page_size ? job->ask.page_size : 1, sizeof *job->parts);
  if (!job->parts) return 1;
  job->head.magic = RESULT_MAGIC;
  job->head.op = job->ask.op;
  char const *bad = sandbox_enter(WORKER_FD_MEMORY + 1, job->ask.size, job->ask.cpu_s);
  if (bad) {
    job->head.status = WKSP_E_SYS;
    snprintf(job->head.sentence, sizeof job->head.sentence, "the worker's sandbox: %s failed", bad);
  } else {
    int read_only = job->ask.op == RESULT_QUERY || job->ask.op == RESULT_PLACE;
    job->head.status = attempt(job, read_only);
    if (read_only && job->head.status == WKSP_E_AGAIN) {
      job->head.sentence[0] = '\0';
      job->head.status = attempt(job, 0);
    }
  }
  if (job->head.status) job->head.part_cnt = job->head.root_cnt = job->head.run_cnt = 0;
  int ok = worker_write(&job->head, sizeof job->head) &&
           worker_write(job->parts, job->head.part_cnt * sizeof *job->parts) &&
           worker_write(job->roots, job->head.root_cnt * sizeof *job->roots) &&
           worker_write(job->runs, job->head.run_cnt * sizeof *job->runs);
  free(job->parts);
  free(job);
  return ok ? 0 : 1;
}
