/* The calls of wksp/client_ckpt.h: arguments into requests, replies, checked as far as others rely
   on them, into the structs that users see. What a newer daemon says and this library does not know
   is left out. */

#include "client/info.h"
#include "client/rpc.h"

#include "core/fail.h"
#include "core/layout.h"
#include "wksp/client_ckpt.h"
#include "wkspd.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define CHECKPOINTS "wkspd.v1.Checkpoints"

/* Checkpoints in a listing; a daemon keeps fewer. */
#define LIST_MAX (1UL << 20)

#define METHOD(word, text, response_type, ...)                                                \
  static wksp__method_t const method_##word = {.service = CHECKPOINTS,                        \
                                               .name = (text),                                \
                                               .response =                                    \
                                                   &wkspd__v1__##response_type##__descriptor, \
                                               __VA_ARGS__}
METHOD(checkpoint, "Checkpoint", job_response, .changing = 1);
METHOD(list, "ListCheckpoints", list_checkpoints_response, .stream = 0);
METHOD(show, "ShowCheckpoint", show_checkpoint_response, .stream = 0);
METHOD(verify, "VerifyCheckpoint", job_response, .changing = 1);
METHOD(remove, "RemoveCheckpoint", remove_checkpoint_response, .changing = 1);
METHOD(restore, "Restore", restore_response, .changing = 1);
METHOD(schedule_set, "SetSchedule", schedule_response, .stream = 0); /* again is the same */
METHOD(schedule_get, "GetSchedule", schedule_response, .stream = 0);
METHOD(jobs, "ListJobs", list_jobs_response, .stream = 0);
METHOD(watch, "WatchJob", job, .stream = 1);
METHOD(cancel, "CancelJob", cancel_job_response, .changing = 1);

static int id_check(char const *what, char const *id) {
  if (!id || !id[0] || strnlen(id, WKSP_CHECKPOINT_ID_MAX) == WKSP_CHECKPOINT_ID_MAX)
    return wksp__fail(WKSP_E_INVAL, "%s: a checkpoint's id is two numbers such as 17.1a1ff9b1d83",
                      what);
  return 0;
}

/* Checkpoints
 * ---------------------------------------------------------------------------------------------- */

int wksp_client_checkpoint(wksp_client_t *client, char const *name,
                           wksp_checkpoint_how_t const *how, char const *info, ulong *ret_job_id) {
  int err = wksp__name_check("checkpoint", name);
  if (err < 0) return err;
  if (!how || !ret_job_id)
    return wksp__fail(WKSP_E_INVAL, "checkpoint: how, or where the answer should go, is NULL");
  if (info && strnlen(info, WKSP_CHECKPOINT_INFO_MAX + 1) > WKSP_CHECKPOINT_INFO_MAX)
    return wksp__fail(WKSP_E_INVAL, "checkpoint: its text has more than %lu bytes",
                      WKSP_CHECKPOINT_INFO_MAX);
  Wkspd__V1__CheckpointRequest request = WKSPD__V1__CHECKPOINT_REQUEST__INIT;
  request.name = (char *)name;
  request.mode = (Wkspd__V1__CheckpointMode)how->mode;
  request.style = (Wkspd__V1__CheckpointStyle)how->style;
  request.level = how->level;
  if (info) request.info = (char *)info;
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_checkpoint, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  *ret_job_id = ((Wkspd__V1__JobResponse *)message)->job_id;
  protobuf_c_message_free_unpacked(message, NULL);
  return 0;
}

static void checkpoint_of(Wkspd__V1__Checkpoint const *from, wksp_checkpoint_t *ret) {
  memset(ret, 0, sizeof *ret);
  wksp__text_copy(ret->id, sizeof ret->id, from->id);
  wksp__text_copy(ret->name, sizeof ret->name, from->name);
  if (from->uuid.len == sizeof ret->uuid) memcpy(ret->uuid, from->uuid.data, sizeof ret->uuid);
  ret->uid = from->uid;
  ret->gid = from->gid;
  ret->mode = from->mode;
  ret->by = (uint)from->by;
  ret->mode_asked = (uint)from->mode_asked;
  ret->how = (wksp_checkpoint_how_t){(uint)from->mode_got, (uint)from->style, from->level};
  ret->created_ns = from->created_ns;
  ret->took_ns = from->took_ns;
  ret->pause_ns = from->pause_ns;
  ret->live_size = from->live_size;
  ret->scanned_size = from->scanned_size;
  ret->changed_size = from->changed_size;
  ret->written_size = from->written_size;
  ret->file_size = from->file_size;
  ret->part_cnt = from->part_cnt;
  ret->root_cnt = from->root_cnt;
  ret->alloc_cnt = from->alloc_cnt;
  ret->suspect_cnt = from->suspect_cnt;
  ret->silent_cnt = from->silent_cnt;
  ret->size = from->size;
  ret->page_size = from->page_size;
  ret->seed = from->seed;
  ret->verified_ns = from->verified_ns;
  ret->drilled_ns = from->drilled_ns;
  wksp__text_copy(ret->info, sizeof ret->info, from->info);
  wksp__text_copy(ret->bad, sizeof ret->bad, from->bad);
}

/* One page, and where the next begins. */
static int list_page(wksp_client_t *client, char const *name, char **token, size_t *told,
                     int (*on_one)(void *arg, wksp_checkpoint_t const *checkpoint), void *arg) {
  Wkspd__V1__ListCheckpointsRequest request = WKSPD__V1__LIST_CHECKPOINTS_REQUEST__INIT;
  if (name) request.name = (char *)name;
  if (*token) request.page_token = *token;
  ProtobufCMessage *message;
  int err = wksp__rpc_call(client, &method_list, WKSP__BASE(&request), &message);
  free(*token);
  *token = NULL;
  if (err < 0) return err;
  Wkspd__V1__ListCheckpointsResponse *page = (Wkspd__V1__ListCheckpointsResponse *)message;
  wksp_checkpoint_t *one = malloc(sizeof *one);
  if (!one) err = wksp__fail(WKSP_E_NOMEM, "checkpoints: no memory for one");
  for (size_t i = 0; i < page->n_checkpoints && !err; i++) {
    if (++*told > LIST_MAX)
      err = wksp__rpc_broken(client, &method_list, "more than %lu checkpoints", LIST_MAX);
    if (err) break;
    checkpoint_of(page->checkpoints[i], one);
    err = on_one(arg, one);
  }
  if (!err && page->next_page_token[0]) {
    *token = strdup(page->next_page_token);
    if (!*token) err = wksp__fail(WKSP_E_NOMEM, "checkpoints: no memory for the next page");
  }
  free(one);
  protobuf_c_message_free_unpacked(message, NULL);
  return err;
}

int wksp_client_checkpoints(wksp_client_t *client, char const *name,
                            int (*on_one)(void *arg, wksp_checkpoint_t const *checkpoint),
                            void *arg) {
  char *token = NULL;
  size_t told = 0;
  if (!on_one) return wksp__fail(WKSP_E_INVAL, "checkpoints: on_one is NULL");
  int err = name ? wksp__name_check("checkpoints", name) : 0;
  do {
    if (!err) err = list_page(client, name, &token, &told, on_one, arg);
  } while (!err && token);
  free(token);
  return err;
}

int wksp_client_checkpoint_show(wksp_client_t *client, char const *id, uint verbose,
                                wksp_checkpoint_t *ret_checkpoint, char **ret_text) {
  int err = id_check("checkpoint-show", id);
  if (err < 0) return err;
  Wkspd__V1__ShowCheckpointRequest request = WKSPD__V1__SHOW_CHECKPOINT_REQUEST__INIT;
  request.id = (char *)id;
  request.verbose = verbose;
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_show, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  Wkspd__V1__ShowCheckpointResponse *from = (Wkspd__V1__ShowCheckpointResponse *)message;
  char *text = ret_text ? strdup(from->text) : NULL;
  if (ret_text && !text) {
    err = wksp__fail(WKSP_E_NOMEM, "checkpoint-show: no memory for %zu bytes", strlen(from->text));
  } else if (!from->checkpoint) {
    free(text);
    err = wksp__rpc_broken(client, &method_show, "no checkpoint in it");
  } else {
    if (ret_text) *ret_text = text;
    if (ret_checkpoint) checkpoint_of(from->checkpoint, ret_checkpoint);
  }
  protobuf_c_message_free_unpacked(message, NULL);
  return err;
}

static int verify(wksp_client_t *client, char const *what, char const *id, int drill,
                  ulong *ret_job_id) {
  int err = id_check(what, id);
  if (err < 0) return err;
  if (!ret_job_id) return wksp__fail(WKSP_E_INVAL, "%s: where the answer should go is NULL", what);
  Wkspd__V1__CheckpointIdRequest request = WKSPD__V1__CHECKPOINT_ID_REQUEST__INIT;
  request.id = (char *)id;
  request.drill = drill;
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_verify, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  *ret_job_id = ((Wkspd__V1__JobResponse *)message)->job_id;
  protobuf_c_message_free_unpacked(message, NULL);
  return 0;
}

int wksp_client_checkpoint_verify(wksp_client_t *client, char const *id, ulong *ret_job_id) {
  return verify(client, "checkpoint-verify", id, 0, ret_job_id);
}

int wksp_client_checkpoint_drill(wksp_client_t *client, char const *id, ulong *ret_job_id) {
  return verify(client, "drill", id, 1, ret_job_id);
}

int wksp_client_checkpoint_remove(wksp_client_t *client, char const *id, ulong *ret_freed_size) {
  int err = id_check("checkpoint-rm", id);
  if (err < 0) return err;
  Wkspd__V1__CheckpointIdRequest request = WKSPD__V1__CHECKPOINT_ID_REQUEST__INIT;
  request.id = (char *)id;
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_remove, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  if (ret_freed_size)
    *ret_freed_size = ((Wkspd__V1__RemoveCheckpointResponse *)message)->freed_size;
  protobuf_c_message_free_unpacked(message, NULL);
  return 0;
}

int wksp_client_restore(wksp_client_t *client, wksp_restore_t const *restore, ulong *ret_job_id) {
  if (!restore || !ret_job_id)
    return wksp__fail(WKSP_E_INVAL, "restore: what, or where the answer should go, is NULL");
  int err = wksp__name_check("restore", restore->name);
  if (!err && restore->as) err = wksp__name_check("restore", restore->as);
  if (!err && restore->from) err = id_check("restore", restore->from);
  if (err < 0) return err;
  Wkspd__V1__RestoreRequest request = WKSPD__V1__RESTORE_REQUEST__INIT;
  request.name = (char *)restore->name;
  if (restore->from) request.from = (char *)restore->from;
  if (restore->as) request.as = (char *)restore->as;
  request.page_size = restore->page_size;
  request.tags = (uint64_t *)restore->tags;
  request.n_tags = restore->tag_cnt;
  request.seed_set = restore->seed_set != 0;
  request.seed = restore->seed;
  if (restore->numa) request.numa = (char *)restore->numa;
  request.preferred = restore->preferred != 0;
  request.in_place = restore->in_place != 0;
  request.size = restore->size;
  request.max_size = restore->max_size;
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_restore, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  *ret_job_id = ((Wkspd__V1__RestoreResponse *)message)->job_id;
  protobuf_c_message_free_unpacked(message, NULL);
  return 0;
}

/* Schedules
 * ---------------------------------------------------------------------------------------------- */

int wksp_client_schedule_set(wksp_client_t *client, char const *name,
                             wksp_schedule_t const *schedule) {
  int err = wksp__name_check("schedule", name);
  if (err < 0) return err;
  Wkspd__V1__SetScheduleRequest request = WKSPD__V1__SET_SCHEDULE_REQUEST__INIT;
  Wkspd__V1__Keep keep = WKSPD__V1__KEEP__INIT;
  request.name = (char *)name;
  request.drop = !schedule;
  if (schedule) {
    keep.last = schedule->keep.last;
    keep.hourly = schedule->keep.hourly;
    keep.daily = schedule->keep.daily;
    keep.weekly = schedule->keep.weekly;
    keep.monthly = schedule->keep.monthly;
    request.keep = &keep;
    request.every_ns = schedule->every_ns;
    request.jitter_ns = schedule->jitter_ns;
    request.mode = (Wkspd__V1__CheckpointMode)schedule->how.mode;
    request.style = (Wkspd__V1__CheckpointStyle)schedule->how.style;
    request.level = schedule->how.level;
    request.on_stop = (Wkspd__V1__OnStop)schedule->on_stop;
    request.on_start = (Wkspd__V1__OnStart)schedule->on_start;
    request.drill_ns = schedule->drill_ns;
  }
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_schedule_set, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  protobuf_c_message_free_unpacked(message, NULL);
  return 0;
}

static void schedule_of(Wkspd__V1__Schedule const *from, wksp_schedule_t *ret) {
  memset(ret, 0, sizeof *ret);
  ret->every_ns = from->every_ns;
  ret->jitter_ns = from->jitter_ns;
  ret->how = (wksp_checkpoint_how_t){(uint)from->mode, (uint)from->style, from->level};
  if (from->keep)
    ret->keep = (wksp_keep_t){from->keep->last, from->keep->hourly, from->keep->daily,
                              from->keep->weekly, from->keep->monthly};
  ret->on_stop = (uint)from->on_stop;
  ret->on_start = (uint)from->on_start;
  ret->due_ns = from->due_ns;
  ret->last_ok_ns = from->last_ok_ns;
  ret->fail_cnt = from->fail_cnt;
  ret->drill_ns = from->drill_ns;
  ret->drill_due_ns = from->drill_due_ns;
  ret->drill_ok_ns = from->drill_ok_ns;
  ret->drill_number = from->drill_number;
  ret->drill_fail_cnt = from->drill_fail_cnt;
  for (size_t i = 0; i < from->n_runs && i < WKSP_SCHEDULE_RUNS_MAX; i++) {
    Wkspd__V1__Run const *run = from->runs[i];
    ret->runs[ret->run_cnt++] = (wksp_run_t){run->begin_ns, run->end_ns, (uint)run->by,
                                             run->code,     run->number, run->written_size};
  }
}

int wksp_client_schedule_get(wksp_client_t *client, char const *name,
                             wksp_schedule_t *ret_schedule) {
  int err = wksp__name_check("schedule", name);
  if (err < 0) return err;
  if (!ret_schedule)
    return wksp__fail(WKSP_E_INVAL, "schedule: where the answer should go is NULL");
  Wkspd__V1__GetScheduleRequest request = WKSPD__V1__GET_SCHEDULE_REQUEST__INIT;
  request.name = (char *)name;
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_schedule_get, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  Wkspd__V1__ScheduleResponse *from = (Wkspd__V1__ScheduleResponse *)message;
  if (from->schedule) schedule_of(from->schedule, ret_schedule);
  err = !from->schedule;
  protobuf_c_message_free_unpacked(message, NULL);
  return err;
}

/* Jobs
 * ---------------------------------------------------------------------------------------------- */

static void job_of(Wkspd__V1__Job const *from, wksp_job_t *ret) {
  memset(ret, 0, sizeof *ret);
  ret->id = from->id;
  ret->kind = (uint)from->kind <= WKSP_JOB_DRILL ? (uint)from->kind : 0;
  ret->state = (uint)from->state;
  ret->by = (uint)from->by;
  wksp__text_copy(ret->name, sizeof ret->name, from->name);
  ret->uid = from->uid;
  wksp__text_copy(ret->checkpoint, sizeof ret->checkpoint, from->checkpoint);
  ret->asked_ns = from->asked_ns;
  ret->begun_ns = from->begun_ns;
  ret->ended_ns = from->ended_ns;
  ret->phase = from->phase;
  ret->done_size = from->done_size;
  ret->total_size = from->total_size;
  ret->written_size = from->written_size;
  ret->code = from->code ? wksp__rpc_code(from->code) : 0;
  wksp__text_copy(ret->sentence, sizeof ret->sentence, from->sentence);
  wksp__text_copy(ret->hint, sizeof ret->hint, from->hint);
}

static int job_order(void const *a, void const *b) {
  Wkspd__V1__Job const *x = *(Wkspd__V1__Job *const *)a, *y = *(Wkspd__V1__Job *const *)b;
  return x->id < y->id ? -1 : x->id > y->id;
}

int wksp_client_jobs(wksp_client_t *client, int (*on_job)(void *arg, wksp_job_t const *job),
                     void *arg) {
  if (!on_job) return wksp__fail(WKSP_E_INVAL, "jobs: on_job is NULL");
  Wkspd__V1__ListJobsRequest request = WKSPD__V1__LIST_JOBS_REQUEST__INIT;
  ProtobufCMessage *message;
  int err = wksp__rpc_call(client, &method_jobs, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  Wkspd__V1__ListJobsResponse *from = (Wkspd__V1__ListJobsResponse *)message;
  if (from->n_jobs) qsort(from->jobs, from->n_jobs, sizeof(*from->jobs), job_order);
  for (size_t i = 0; i < from->n_jobs && !err; i++) {
    wksp_job_t job;
    job_of(from->jobs[i], &job);
    err = on_job(arg, &job);
  }
  protobuf_c_message_free_unpacked(message, NULL);
  return err;
}

int wksp_client_job_watch(wksp_client_t *client, ulong job_id,
                          int (*on_job)(void *arg, wksp_job_t const *job), void *arg) {
  if (!on_job) return wksp__fail(WKSP_E_INVAL, "job watch: on_job is NULL");
  uint64_t deadline_ns;
  int ret = wksp__rpc_begin(client, &deadline_ns);
  if (ret < 0) return ret;
  Wkspd__V1__JobRequest request = WKSPD__V1__JOB_REQUEST__INIT;
  uint32_t stream;
  int ended = 0;
  request.id = job_id;
  ret = wksp__rpc_stream_begin(client, &method_watch, WKSP__BASE(&request), deadline_ns, &stream);
  while (ret == 0) {
    ProtobufCMessage *message;
    ret = wksp__rpc_stream_next(client, &method_watch, stream, deadline_ns, &message);
    if (ret < 0) break;
    wksp_job_t job;
    job_of((Wkspd__V1__Job *)message, &job);
    ended = job.ended_ns != 0;
    protobuf_c_message_free_unpacked(message, NULL);
    ret = on_job(arg, &job);
  }
  /* The stream has ended where it should, and the connection is as good as before. */
  if (ended && ret == WKSP_E_AGAIN)
    ret = 0;
  else
    wksp__rpc_cancel(client);
  wksp__rpc_end(client);
  return ret;
}

int wksp_client_job_cancel(wksp_client_t *client, ulong job_id) {
  Wkspd__V1__JobRequest request = WKSPD__V1__JOB_REQUEST__INIT;
  request.id = job_id;
  ProtobufCMessage *message;
  int err = wksp__rpc_call(client, &method_cancel, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  protobuf_c_message_free_unpacked(message, NULL);
  return 0;
}
