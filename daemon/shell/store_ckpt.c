/* The problem: schedules and checkpoints outlive the daemon, as specs do.

   The model: a schedule is a file named after its workspace; a store of checkpoints is a folder
   with a number, of which this file only opens the door: what is in it is lib/ckpt's, in a worker.

   Refuses: what store.c refuses. */

#include "daemon/shell/store.h"

#include "daemon/child/ckptask.h"
#include "daemon/shell/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCHEDULE_SUFFIX ".schedule"
#define BAD_SUFFIX      ".bad"

static int fail(store_t const *store, char const *call, char const *name, int err,
                char *ret_detail) {
  if (err)
    snprintf(ret_detail, STORE_DETAIL_MAX, "%s %s/schedules/%s: %s", call, store->path, name,
             strerror(err));
  return err;
}

int store_schedule_put(store_t const *store, schedule_t const *schedule, char *ret_detail) {
  char text[SCHEDULE_TEXT_MAX], name[FILE_NAME_MAX];
  char const *call = "encode";
  snprintf(name, sizeof name, "%s" SCHEDULE_SUFFIX, schedule->name);
  int len = schedule_encode(schedule, text);
  int err = len < 0 ? EINVAL : file_put(store->schedules_fd, name, text, (size_t)len, &call);
  return fail(store, call, name, err, ret_detail);
}

int store_schedule_remove(store_t const *store, char const *name, char *ret_detail) {
  char file[FILE_NAME_MAX];
  char const *call = "unlink";
  int err = 0;
  snprintf(file, sizeof file, "%s" SCHEDULE_SUFFIX, name);
  if (unlinkat(store->schedules_fd, file, 0)) {
    err = errno == ENOENT ? 0 : errno;
  } else if (fsync(store->schedules_fd)) {
    call = "fsync of the folder of";
    err = errno;
  }
  return fail(store, call, file, err, ret_detail);
}

/* "<name><suffix>" of a workspace's name: 1 and the name, or 0. */
static int name_of(char const *file, char const *suffix, char ret_name[SPEC_NAME_MAX + 1]) {
  size_t len = strlen(file), end = strlen(suffix);
  if (len <= end || len - end > SPEC_NAME_MAX || strcmp(file + len - end, suffix) != 0) return 0;
  memcpy(ret_name, file, len - end);
  ret_name[len - end] = 0;
  return spec_name_ok(ret_name);
}

/* 0, or errno: it cannot be read now. */
static int tell(store_t const *store, char const *file, char const *name,
                store_schedule_each_t each, void *arg) {
  char text[SCHEDULE_TEXT_MAX + 1], bad[FILE_NAME_MAX];
  schedule_t schedule;
  ssize_t len = file_get(store->schedules_fd, file, text, sizeof text);
  if (len < 0 && file_short(errno)) return errno;
  if (len >= 0 && !schedule_decode(text, (size_t)len, &schedule) && !strcmp(schedule.name, name)) {
    each(arg, name, &schedule);
    return 0;
  }
  snprintf(bad, sizeof bad, "%s" BAD_SUFFIX, name);
  renameat(store->schedules_fd, file, store->schedules_fd, bad);
  each(arg, name, NULL);
  return 0;
}

int store_schedules_each(store_t const *store, store_schedule_each_t each, void *arg) {
  int fd = openat(store->schedules_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  if (!dir) {
    int err = errno;
    if (fd >= 0) close(fd);
    return err;
  }
  struct dirent *entry;
  char name[SPEC_NAME_MAX + 1];
  int err = 0;
  while (!err && (errno = 0, (entry = readdir(dir)))) {
    if (name_of(entry->d_name, SCHEDULE_SUFFIX, name))
      err = tell(store, entry->d_name, name, each, arg);
    else if (name_of(entry->d_name, SCHEDULE_SUFFIX FILE_TEMP_SUFFIX, name))
      unlinkat(store->schedules_fd, entry->d_name, 0);
  }
  if (!err) err = errno;
  closedir(dir);
  return err;
}

int store_ckpts(store_t const *store, uint64_t store_id, int make) {
  char name[24];
  if (!store_id) return fcntl(store->ckpts_fd, F_DUPFD_CLOEXEC, 3);
  snprintf(name, sizeof name, "%lu", store_id);
  /* What is put into a folder is of no use if the folder goes. */
  if (make && !mkdirat(store->ckpts_fd, name, 0700) && fsync(store->ckpts_fd)) return -1;
  return openat(store->ckpts_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

int store_notes_put(store_t const *store, uint64_t store_id, engine_ckpt_note_t const *notes,
                    size_t note_cnt, char *ret_detail) {
  char name[FILE_NAME_MAX], *text = malloc(2 * note_cnt * CKPTASK_NOTE_MAX + 1);
  char const *call = "malloc";
  size_t len = 0;
  int err = text ? 0 : ENOMEM;
  snprintf(name, sizeof name, CKPTASK_NOTES_NAME, store_id);
  for (size_t i = 0; text && i < note_cnt; i++) {
    engine_ckpt_note_t const *note = &notes[i];
    len += (size_t)snprintf(text + len, CKPTASK_NOTE_MAX, CKPTASK_NOTE, note->number,
                            note->verified_ns, CKPTASK_NOTE_SUM(note->number, note->verified_ns));
    if (note->drilled_ns)
      len += (size_t)snprintf(text + len, CKPTASK_NOTE_MAX, CKPTASK_DRILL, note->number,
                              note->drilled_ns, CKPTASK_DRILL_SUM(note->number, note->drilled_ns));
  }
  if (!err) err = file_put(store->ckpts_fd, name, text, len, &call);
  free(text);
  if (err)
    snprintf(ret_detail, STORE_DETAIL_MAX, "%s %s/checkpoints/%s: %s", call, store->path, name,
             strerror(err));
  return err;
}

int store_ckpts_none(store_t const *store) {
  int fd = store_ckpts(store, 0, 0);
  int at = fd < 0 ? -1 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = at < 0 ? NULL : fdopendir(at);
  struct dirent const *entry;
  int none = dir != NULL;
  while (none && (errno = 0, (entry = readdir(dir)))) none = entry->d_name[0] == '.';
  none = none && !errno;
  if (dir) closedir(dir);
  if (!dir && at >= 0) close(at);
  if (fd >= 0) close(fd);
  return none;
}
