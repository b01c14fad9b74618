/* The problem: a checkpoint reads memory that strangers write and writes files that must not become
   theirs; a restore reads files that such a process wrote.

   The model: a worker like any other (worker.c), which besides the memory has the folder of one
   store and a pipe for telling how far it is. All of the format is lib/ckpt's; here the question
   becomes its options and what it says becomes the answer. Killed at any moment it leaves nothing
   that a store would show: lib/ckpt names a checkpoint when all of it is on disk.

   Refuses: to go on without its sandbox; to wait for who reads its progress. */

#include "daemon/child/ckptwork.h"

#include "core/alloc.h"
#include "core/fail.h"
#include "core/map.h"
#include "core/part.h"
#include "daemon/child/drill.h"
#include "daemon/child/sandbox.h"
#include "daemon/child/worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* How often progress is told at the most. */
#define STEP_NS 100000000UL

typedef struct work {
  result_ask_t const *ask;
  uint64_t const *tags;
  ckptask_t task;
  result_head_t *head;
  ckptanswer_t answer;
  ckptentry_t *entries;
  uint32_t entry_cap;
  uint64_t *gone;
  uint32_t gone_cap;
  char *text;
  size_t text_len;
  uint64_t told_ns;
  uint64_t available; /* DRILL: of drill_prepare */
} work_t;

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000UL + (uint64_t)now.tv_nsec;
}

/* A pipe that is full, or that nobody reads, is nothing to wait for. */
static int on_progress(void *arg, wksp_ckpt_progress_t const *progress) {
  work_t *work = arg;
  uint64_t now = now_ns();
  if (now - work->told_ns < STEP_NS && progress->done_sz != progress->total_sz) return 0;
  work->told_ns = now;
  ckptstep_t step = {.magic = CKPTASK_MAGIC,
                     .phase = progress->phase,
                     .done = progress->done_sz,
                     .total = progress->total_sz,
                     .written = progress->written_sz};
  ssize_t n = write(WORKER_FD_STEPS, &step, sizeof step);
  (void)n;
  return 0;
}

/* Entries and numbers
 * ------------------------------------------------------------------------------------------------
 */

/* A new entry, zeroed; NULL: no memory, or too many. */
static ckptentry_t *add_entry(work_t *work) {
  if (work->answer.entry_cnt == CKPTASK_ENTRIES_MAX) return NULL;
  if (work->answer.entry_cnt == work->entry_cap) {
    uint32_t cap = work->entry_cap ? work->entry_cap * 2 : 16;
    ckptentry_t *entries = reallocarray(work->entries, cap, sizeof *entries);
    if (!entries) return NULL;
    work->entries = entries;
    work->entry_cap = cap;
  }
  ckptentry_t *entry = &work->entries[work->answer.entry_cnt++];
  memset(entry, 0, sizeof *entry);
  return entry;
}

static int add_gone(work_t *work, uint64_t number) {
  if (work->answer.gone_cnt == CKPTASK_GONE_MAX) return WKSP_E_LIMIT;
  if (work->answer.gone_cnt == work->gone_cap) {
    uint32_t cap = work->gone_cap ? work->gone_cap * 2 : 16;
    uint64_t *gone = reallocarray(work->gone, cap, sizeof *gone);
    if (!gone) return WKSP_E_NOMEM;
    work->gone = gone;
    work->gone_cap = cap;
  }
  work->gone[work->answer.gone_cnt++] = number;
  return 0;
}

/* What a checkpoint says of itself. */
static int put_entry(work_t *work, uint64_t store_id, wksp_ckpt_t const *ckpt) {
  ckptentry_t *entry = add_entry(work);
  if (!entry) return wksp__fail(WKSP_E_NOMEM, "no memory for the list of checkpoints");
  ulong spec_len = 0;
  void const *spec = wksp_ckpt_spec(ckpt, &spec_len);
  entry->store_id = store_id;
  entry->info = *wksp_ckpt_info(ckpt);
  if (spec_len > sizeof entry->spec) spec_len = 0; /* none of ours */
  entry->spec_len = (uint32_t)spec_len;
  if (spec_len) memcpy(entry->spec, spec, spec_len);
  return 0;
}

static int put_bad(work_t *work, uint64_t store_id, uint64_t number, char const *why) {
  ckptentry_t *entry = add_entry(work);
  if (!entry) return wksp__fail(WKSP_E_NOMEM, "no memory for the list of checkpoints");
  entry->store_id = store_id;
  entry->info.id = number;
  entry->bad = 1;
  snprintf(entry->sentence, sizeof entry->sentence, "%s", why);
  return 0;
}

typedef struct numbers {
  uint64_t *items;
  size_t cnt, cap;
} numbers_t;

static int on_number(void *arg, wksp_ckpt_info_t const *info, char const *bad) {
  numbers_t *numbers = arg;
  (void)bad;
  if (numbers->cnt == CKPTASK_ENTRIES_MAX) return 1;
  if (numbers->cnt == numbers->cap) {
    size_t cap = numbers->cap ? numbers->cap * 2 : 64;
    uint64_t *items = reallocarray(numbers->items, cap, sizeof *items);
    if (!items) return 1;
    numbers->items = items;
    numbers->cap = cap;
  }
  numbers->items[numbers->cnt++] = info->id;
  return 0;
}

/* Each checkpoint of the store, as an entry. */
static int list_store(work_t *work, uint64_t store_id, wksp_ckpt_store_t *store) {
  numbers_t numbers = {0};
  int err = wksp_ckpt_list(store, on_number, &numbers);
  if (err > 0) err = wksp__fail(WKSP_E_NOMEM, "more checkpoints than can be told");
  for (size_t i = 0; i < numbers.cnt && !err; i++) {
    wksp_ckpt_t *ckpt = NULL;
    err = wksp_ckpt_open(store, numbers.items[i], &ckpt);
    if (!err) err = put_entry(work, store_id, ckpt);
    wksp_ckpt_close(ckpt);
    if (err == WKSP_E_CORRUPT || err == WKSP_E_VERSION)
      err = put_bad(work, store_id, numbers.items[i], wksp_last_error());
    if (err == WKSP_E_NOTFOUND) err = 0; /* gone meanwhile */
  }
  free(numbers.items);
  return err;
}

/* Stores
 * ------------------------------------------------------------------------------------------------
 */

/* "17": its number; 0: none of ours. */
static uint64_t folder_id(char const *name) {
  char again[24];
  if (name[0] < '1' || name[0] > '9') return 0;
  uint64_t id = strtoull(name, NULL, 10);
  snprintf(again, sizeof again, "%lu", id);
  return strcmp(again, name) ? 0 : id;
}

/* Tells of those entries from first on, all of one store, when they were found sound. What cannot
   be read was not. */
static void put_notes(work_t *work, uint64_t store_id, uint32_t first) {
  char name[40], line[CKPTASK_NOTE_MAX];
  snprintf(name, sizeof name, CKPTASK_NOTES_NAME, store_id);
  int fd = openat(WORKER_FD_STORE, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
  if (!file && fd >= 0) close(fd);
  for (uint32_t lines = 0;
       file && lines < 2 * CKPTASK_ENTRIES_MAX && fgets(line, sizeof line, file); lines++) {
    ulong number, at_ns, sum;
    int drilled = sscanf(line, CKPTASK_DRILL, &number, &at_ns, &sum) == 3;
    if (!drilled && sscanf(line, CKPTASK_NOTE, &number, &at_ns, &sum) != 3) continue;
    if (sum != (drilled ? CKPTASK_DRILL_SUM(number, at_ns) : CKPTASK_NOTE_SUM(number, at_ns)))
      continue;
    for (uint32_t i = first; i < work->answer.entry_cnt; i++) {
      if (work->entries[i].info.id != number) continue;
      *(drilled ? &work->entries[i].drilled_ns : &work->entries[i].verified_ns) = at_ns;
    }
  }
  if (file) fclose(file);
}

static int list_one(work_t *work, uint64_t store_id, int fd) {
  wksp_ckpt_store_t *store = NULL;
  int err = wksp_ckpt_store_open_at(fd, &store);
  if (!err) err = list_store(work, store_id, store);
  wksp_ckpt_store_close(store);
  return err;
}

static void note(work_t *work, char const *format, ...) __attribute__((format(printf, 2, 3)));
static void note(work_t *work, char const *format, ...) {
  va_list args;
  size_t len = strlen(work->head->sentence);
  va_start(args, format);
  vsnprintf(work->head->sentence + len, sizeof work->head->sentence - len, format, args);
  va_end(args);
}

/* The folder has one for each store. One that cannot be read is no reason not to list the others,
   but one to say so: who was taken over in one of them may have left there what nobody can list. */
static int list_all(work_t *work) {
  int fd = openat(WORKER_FD_STORE, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  struct dirent const *entry;
  if (!dir) {
    if (fd >= 0) close(fd);
    return wksp__fail(WKSP_E_SYS, "the folder of checkpoints cannot be read: %s", strerror(errno));
  }
  while ((errno = 0, entry = readdir(dir))) {
    uint64_t store_id = folder_id(entry->d_name);
    uint32_t before = work->answer.entry_cnt;
    if (!store_id) continue;
    int at =
        openat(WORKER_FD_STORE, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int err = at < 0 ? wksp__fail(WKSP_E_SYS, "%s", strerror(errno)) : list_one(work, store_id, at);
    if (at >= 0) close(at);
    if (!err) put_notes(work, store_id, before);
    if (!err) continue;
    work->answer.entry_cnt = before;
    note(work, "%sstore %lu cannot be listed: %.100s", work->head->sentence[0] ? "; " : "",
         store_id, wksp_last_error());
  }
  /* Those that were found are known, and that there may be more is said. */
  if (errno)
    note(work, "%sthe list of stores ends early: %s", work->head->sentence[0] ? "; " : "",
         strerror(errno));
  closedir(dir);
  return 0;
}

/* Whether a writer that was killed may have left it: a temporary file, or a pack without a manifest
   of its own, which others may need, too. */
static int left(char const *name) {
  char manifest[WKSP_CKPT_FILE_NAME_MAX + 1];
  char const *dot = strchr(name, '.');
  if (!dot) return 0;
  if (strcmp(dot, ".pack") != 0) return !strcmp(dot, ".pack.tmp") || !strcmp(dot, ".ckpt.tmp");
  if (snprintf(manifest, sizeof manifest, "%.*s.ckpt", (int)(dot - name), name) >=
      (int)sizeof manifest)
    return 0;
  int fd = openat(WORKER_FD_STORE, manifest, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd >= 0) close(fd);
  return fd < 0 && errno == ENOENT;
}

/* Whether there is anything like that. */
static int has_leftovers(void) {
  int fd = openat(WORKER_FD_STORE, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = 0;
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  struct dirent const *entry;
  if (!dir && fd >= 0) close(fd);
  while (dir && !found && (entry = readdir(dir))) found = left(entry->d_name);
  if (dir) closedir(dir);
  return found;
}

static int is_gone(wksp_ckpt_store_t *store, uint64_t number) {
  char why[RESULT_SENTENCE_MAX];
  wksp_ckpt_t *ckpt = NULL;
  int code = wksp_last_error_code();
  snprintf(why, sizeof why, "%s", wksp_last_error());
  int gone = wksp_ckpt_open(store, number, &ckpt) == WKSP_E_NOTFOUND;
  wksp_ckpt_close(ckpt);
  (void)wksp__fail(code, "%s", why); /* what is to be told stays what was */
  return gone;
}

/* What is needed of packs that have become mostly dead goes into a new one. */
static int repack(work_t *work, wksp_ckpt_store_t *store) {
  wksp_ckpt_repack_opts_t opts = {.threads = work->task.threads,
                                  .rate = work->task.rate,
                                  .on_progress = on_progress,
                                  .progress_arg = work};
  wksp_ckpt_repacked_t done = {0};
  int err = wksp_ckpt_repack(store, &opts, &done);
  if (done.freed_sz > done.written_sz) work->answer.freed += done.freed_sz - done.written_sz;
  return err;
}

/* Removes what the rules do not keep, of those that nobody took by hand. What fails here is said,
   and is no failure of the checkpoint that was taken. */
static int prune(work_t *work, wksp_ckpt_store_t *store) {
  wksp_ckpt_retention_t const *keep = &work->task.keep;
  wksp_ckpt_gone_t dead;
  if (has_leftovers() && wksp_ckpt_gc(store, &dead) == 0) work->answer.freed += dead.freed_sz;
  if (!keep->last && !keep->hourly && !keep->daily && !keep->weekly && !keep->monthly) return 0;
  work_t all = {.task = work->task};
  int err = list_store(&all, work->task.store_id, store);
  uint32_t cnt = 0;
  ulong *created = calloc(all.answer.entry_cnt + 1, sizeof *created);
  uint64_t *numbers = calloc(all.answer.entry_cnt + 1, sizeof *numbers);
  uchar *stays = calloc(all.answer.entry_cnt + 1, 1);
  if (!err && (!created || !numbers || !stays)) err = WKSP_E_NOMEM;
  for (uint32_t i = 0; i < all.answer.entry_cnt && !err; i++) {
    ckptentry_t const *entry = &all.entries[i];
    if (entry->bad || entry->spec_len < CKPTASK_BY_LEN ||
        memcmp(entry->spec, CKPTASK_BY_HAND, CKPTASK_BY_LEN) == 0)
      continue;
    created[cnt] = entry->info.created_ns;
    numbers[cnt++] = entry->info.id;
  }
  if (!err) wksp_ckpt_retain(keep, created, cnt, stays);
  for (uint32_t i = 0; i < cnt && !err; i++) {
    wksp_ckpt_gone_t gone = {0};
    if (stays[i]) continue;
    err = wksp_ckpt_remove(store, numbers[i], &gone);
    /* What failed behind its manifest, failed after it was gone. */
    if (!err || is_gone(store, numbers[i])) {
      int told = add_gone(work, numbers[i]);
      if (!err) err = told;
    }
    work->answer.freed += gone.freed_sz;
  }
  if (!err && work->answer.gone_cnt) err = repack(work, store);
  free(created);
  free(numbers);
  free(stays);
  free(all.entries);
  return err;
}

/* The memory
 * ------------------------------------------------------------------------------------------------
 */

/* Who did not leave a bracket in time: a fuzzy checkpoint was taken instead. */
static void note_silent(work_t *work, wksp_ckpt_result_t const *result) {
  if (!result->silent_cnt) return;
  note(work, "%u did not leave a bracket in time, the first pid %u thread %u (%.15s); it is fuzzy",
       result->silent_cnt, result->silent[0].pid, result->silent[0].tid, result->silent[0].comm);
}

static int take(work_t *work, wksp_ckpt_store_t *store, fd_wksp_t *wksp) {
  ckptask_t const *task = &work->task;
  wksp_ckpt_opts_t opts = {.style = {.codec = task->codec, .level = task->level},
                           .mode = task->mode,
                           .degrade = task->degrade,
                           .fresh = task->fresh,
                           .threads = task->threads,
                           .rate = task->rate,
                           .info = task->info,
                           .spec = task->spec,
                           .spec_sz = task->spec_len,
                           .page_size = task->page_bytes,
                           .map_sz = work->ask->size,
                           .on_progress = on_progress,
                           .progress_arg = work};
  wksp_ckpt_result_t result;
  wksp_ckpt_t *ckpt = NULL;
  int err = wksp_ckpt_take(store, wksp, &opts, &result);
  if (err) return err;
  work->answer.written = result.written_sz;
  note_silent(work, &result);
  err = wksp_ckpt_open(store, result.id, &ckpt);
  if (!err) err = put_entry(work, task->store_id, ckpt);
  wksp_ckpt_close(ckpt);
  if (err) return err;
  if (prune(work, store))
    note(work, "%sold ones could not be removed: %.120s", work->head->sentence[0] ? "; " : "",
         wksp_last_error());
  return 0;
}

/* Maps the memory and joins it, as worker.c does; reading suffices for a fuzzy one. */
static int checkpoint_as(work_t *work, wksp_ckpt_store_t *store, int read_only) {
  int prot = read_only ? PROT_READ : PROT_READ | PROT_WRITE;
  void *mem = mmap(NULL, work->ask->size, prot, MAP_SHARED | MAP_NORESERVE, WORKER_FD_MEMORY, 0);
  if (mem == MAP_FAILED) return wksp__fail(WKSP_E_SYS, "mmap: %s", strerror(errno));
  int err = wksp__header_check(mem, work->ask->size), joined = 0;
  if (!err) err = wksp__map_add(mem, read_only, read_only ? 0 : work->ask->lease, NULL, NULL);
  if (!err) {
    joined = 1;
    if (!read_only) err = wksp__reap(mem, work->ask->lease);
    if (!err) err = take(work, store, mem);
  }
  if (joined) wksp__map_drop(mem);
  munmap(mem, work->ask->size);
  return err;
}

static int checkpoint(work_t *work, wksp_ckpt_store_t *store) {
  if (work->task.mode != WKSP_CKPT_FUZZY) return checkpoint_as(work, store, 0);
  int err = checkpoint_as(work, store, 1);
  /* a dead writer's change is to be ended first, which takes rights to write */
  return err == WKSP_E_AGAIN ? checkpoint_as(work, store, 0) : err;
}

/* Bytes of data whose pages are there; what is behind the last whole span is of no use. 0: none. */
static ulong data_size(work_t const *work) {
  wksp__geom_t geom;
  uint64_t end = work->task.data_end & ~(WKSP_SPAN_SZ - 1);
  if (wksp__geom(&geom, work->task.part_max, work->task.data_max) || end <= geom.data_lo) return 0;
  return end < geom.data_hi ? end - geom.data_lo : geom.data_max;
}

static int restore(work_t *work, wksp_ckpt_store_t *store) {
  wksp_ckpt_t *ckpt = NULL;
  int err = wksp_ckpt_open(store, work->task.number, &ckpt);
  if (err) return err;
  void *mem = mmap(NULL, work->ask->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                   WORKER_FD_MEMORY, 0);
  if (mem == MAP_FAILED) {
    err = wksp__fail(WKSP_E_SYS, "mmap: %s", strerror(errno));
  } else {
    wksp_ckpt_restore_opts_t opts = {.shmem = mem,
                                     .map_sz = work->ask->size,
                                     .data_sz = data_size(work),
                                     .part_max = work->task.part_max,
                                     .data_max = work->task.data_max,
                                     .name = work->task.name,
                                     .uuid = work->task.uuid,
                                     .seed_set = work->task.seed_set,
                                     .seed = work->task.seed,
                                     .tags = (ulong const *)work->tags,
                                     .tag_cnt = work->ask->tag_cnt,
                                     .threads = work->task.threads,
                                     .on_progress = on_progress,
                                     .progress_arg = work};
    wksp_ckpt_restored_t restored;
    err = wksp_ckpt_restore(ckpt, &opts, &restored);
    if (!err && restored.suspect_cnt)
      note(work, "%lu blocks were in flight and may be lost", restored.suspect_cnt);
    munmap(mem, work->ask->size);
  }
  wksp_ckpt_close(ckpt);
  return err;
}

static int drill(work_t *work, wksp_ckpt_store_t *store) {
  wksp_ckpt_restore_opts_t opts = {.map_sz = work->ask->size,
                                   .threads = work->task.threads,
                                   .on_progress = on_progress,
                                   .progress_arg = work};
  wksp_ckpt_restored_t restored;
  int err = drill_restore(store, work->task.number, work->available, &opts, &restored);
  if (!err && restored.suspect_cnt)
    note(work, "%lu blocks were in flight and may be lost", restored.suspect_cnt);
  return err;
}

/* The rest
 * ------------------------------------------------------------------------------------------------
 */

static void on_finding(void *arg, char const *sentence) {
  work_t *work = arg;
  if (!work->head->sentence[0]) note(work, "%.200s", sentence);
}

static int verify(work_t *work, wksp_ckpt_store_t *store) {
  wksp_ckpt_read_opts_t opts = {
      .threads = work->task.threads, .on_progress = on_progress, .progress_arg = work};
  return wksp_ckpt_verify(store, work->task.number, &opts, on_finding, work);
}

static int show(work_t *work, wksp_ckpt_store_t *store) {
  wksp_ckpt_t *ckpt = NULL;
  int err = wksp_ckpt_open(store, work->task.number, &ckpt);
  FILE *file = err ? NULL : open_memstream(&work->text, &work->text_len);
  if (!err && !file) err = wksp__fail(WKSP_E_NOMEM, "no memory for the text");
  if (!err) {
    (void)wksp_ckpt_fprintf(file, ckpt, work->task.verbose);
    if (fclose(file)) err = wksp__fail(WKSP_E_NOMEM, "no memory for the text");
    if (work->text_len > CKPTASK_TEXT_MAX) work->text_len = CKPTASK_TEXT_MAX;
  }
  wksp_ckpt_close(ckpt);
  return err;
}

static int removal(work_t *work, wksp_ckpt_store_t *store) {
  wksp_ckpt_gone_t gone = {0};
  int err = wksp_ckpt_remove(store, work->task.number, &gone);
  if (err) return err;
  work->answer.freed = gone.freed_sz;
  return add_gone(work, work->task.number);
}

static int work_on(work_t *work, wksp_ckpt_store_t *store) {
  switch (work->ask->op) {
  case RESULT_CHECKPOINT:
    return checkpoint(work, store);
  case RESULT_RESTORE:
    return restore(work, store);
  case RESULT_CKPT_VERIFY:
    return verify(work, store);
  case RESULT_CKPT_DRILL:
    return drill(work, store);
  case RESULT_CKPT_REMOVE:
    return removal(work, store);
  case RESULT_CKPT_SHOW:
    return show(work, store);
  default:
    return list_store(work, work->task.store_id, store);
  }
}

static int run(work_t *work) {
  wksp_ckpt_store_t *store = NULL;
  if (work->ask->op == RESULT_CKPT_LIST && !work->task.store_id) return list_all(work);
  int err = wksp_ckpt_store_open_at(WORKER_FD_STORE, &store);
  if (!err) err = work_on(work, store);
  wksp_ckpt_store_close(store);
  return err;
}

static int write_answer(work_t *work) {
  int ok = worker_write(work->head, sizeof *work->head);
  if (work->head->status) return ok;
  work->answer.text_len = (uint32_t)work->text_len;
  return ok && worker_write(&work->answer, sizeof work->answer) &&
         worker_write(work->entries, work->answer.entry_cnt * sizeof *work->entries) &&
         worker_write(work->gone, work->answer.gone_cnt * sizeof *work->gone) &&
         worker_write(work->text, work->text_len);
}

static int is_task(result_ask_t const *ask, ckptask_t const *task) {
  return task->magic == CKPTASK_MAGIC && task->spec_len <= sizeof task->spec &&
         memchr(task->info, 0, sizeof task->info) && memchr(task->name, 0, sizeof task->name) &&
         ask->op <= RESULT_CKPT_DRILL;
}

int ckptwork_main(result_ask_t const *ask, uint64_t const *tags, result_head_t *head) {
  work_t work = {.ask = ask, .tags = tags, .head = head, .answer = {.magic = CKPTASK_MAGIC}};
  int writes = ask->op == RESULT_CHECKPOINT || ask->op == RESULT_CKPT_REMOVE;
  if (!worker_read(&work.task, sizeof work.task) || !is_task(ask, &work.task)) return 1;
  if (ask->op == RESULT_CKPT_DRILL) work.available = drill_prepare();
  tzset(); /* what it reads cannot be read later, and a date asks for it */
  char const *bad = sandbox_enter_store(WORKER_FD_STEPS + 1, ask->size, WORKER_FD_STORE, writes);
  if (bad) {
    head->status = WKSP_E_SYS;
    snprintf(head->sentence, sizeof head->sentence, "the worker's sandbox: %s failed", bad);
  } else {
    head->status = run(&work);
    if (head->status) {
      int told = wksp_last_error_code() == head->status;
      char const *why = told ? wksp_last_error() : wksp_strerror(head->status);
      if (ask->op != RESULT_CKPT_VERIFY || !head->sentence[0])
        snprintf(head->sentence, sizeof head->sentence, "%s", why);
    }
  }
  int ok = write_answer(&work);
  free(work.entries);
  free(work.gone);
  free(work.text);
  return ok ? 0 : 1;
}
