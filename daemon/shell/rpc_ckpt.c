/* The messages of wkspd.v1.Checkpoints: requests into the engine's structs, replies into responses.

   Refuses: to judge values, as rpc_methods.c does. Texts that came from files of checkpoints were
   made fit for a message where they were read (ckptjob.c). */

#include "daemon/shell/rpc_ckpt.h"

#include "daemon/shell/ckptjob.h"
#include "wkspd.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *text(char const *constant) {
  return (char *)(uintptr_t)constant;
}

static void put_text(char ret_text[ENGINE_TEXT_MAX], char const *from) {
  snprintf(ret_text, ENGINE_TEXT_MAX, "%s", from);
}

/* Requests
 * ------------------------------------------------------------------------------------------------
 */

RPC_CKPT_FILL(checkpoint) {
  Wkspd__V1__CheckpointRequest const *from = (Wkspd__V1__CheckpointRequest const *)message;
  put_text(ret_req->u.c.checkpoint.name, from->name);
  ret_req->u.c.checkpoint.mode = (int32_t)from->mode;
  ret_req->u.c.checkpoint.style = (int32_t)from->style;
  ret_req->u.c.checkpoint.level = from->level;
  ret_req->u.c.checkpoint.info = from->info;
}

RPC_CKPT_FILL(ckpt_list) {
  Wkspd__V1__ListCheckpointsRequest const *from =
      (Wkspd__V1__ListCheckpointsRequest const *)message;
  put_text(ret_req->u.c.ckpt_list.name, from->name);
  ret_req->u.c.ckpt_list.page_size = from->page_size;
  put_text(ret_req->u.c.ckpt_list.page_token, from->page_token);
}

RPC_CKPT_FILL(ckpt_show) {
  Wkspd__V1__ShowCheckpointRequest const *from = (Wkspd__V1__ShowCheckpointRequest const *)message;
  put_text(ret_req->u.c.ckpt.id, from->id);
  ret_req->u.c.ckpt.verbose = from->verbose;
}

RPC_CKPT_FILL(ckpt_id) {
  Wkspd__V1__CheckpointIdRequest const *from = (Wkspd__V1__CheckpointIdRequest const *)message;
  put_text(ret_req->u.c.ckpt.id, from->id);
  ret_req->u.c.ckpt.drill = from->drill;
}

RPC_CKPT_FILL(restore) {
  Wkspd__V1__RestoreRequest const *from = (Wkspd__V1__RestoreRequest const *)message;
  put_text(ret_req->u.c.restore.name, from->name);
  put_text(ret_req->u.c.restore.from, from->from);
  put_text(ret_req->u.c.restore.as, from->as);
  ret_req->u.c.restore.page_size = from->page_size;
  ret_req->u.c.restore.tags = from->tags;
  ret_req->u.c.restore.tag_cnt = from->n_tags;
  ret_req->u.c.restore.seed_set = from->seed_set;
  ret_req->u.c.restore.seed = from->seed;
  ret_req->u.c.restore.wait = from->wait;
  snprintf(ret_req->u.c.restore.numa, sizeof ret_req->u.c.restore.numa, "%s", from->numa);
  ret_req->u.c.restore.preferred = from->preferred;
  ret_req->u.c.restore.in_place = from->in_place;
  ret_req->u.c.restore.size = from->size;
  ret_req->u.c.restore.max_size = from->max_size;
}

RPC_CKPT_FILL(schedule_set) {
  Wkspd__V1__SetScheduleRequest const *from = (Wkspd__V1__SetScheduleRequest const *)message;
  put_text(ret_req->u.c.schedule.name, from->name);
  ret_req->u.c.schedule.drop = from->drop;
  ret_req->u.c.schedule.every_ns = from->every_ns;
  ret_req->u.c.schedule.jitter_ns = from->jitter_ns;
  ret_req->u.c.schedule.mode = (int32_t)from->mode;
  ret_req->u.c.schedule.style = (int32_t)from->style;
  ret_req->u.c.schedule.level = from->level;
  ret_req->u.c.schedule.on_stop = (int32_t)from->on_stop;
  ret_req->u.c.schedule.on_start = (int32_t)from->on_start;
  ret_req->u.c.schedule.drill_ns = from->drill_ns;
  if (!from->keep) return;
  ret_req->u.c.schedule.keep =
      (schedule_keep_t){from->keep->last, from->keep->hourly, from->keep->daily, from->keep->weekly,
                        from->keep->monthly};
}

RPC_CKPT_FILL(schedule_get) {
  put_text(ret_req->u.c.schedule_get.name, ((Wkspd__V1__GetScheduleRequest const *)message)->name);
}

RPC_CKPT_FILL(job) {
  ret_req->u.c.job.job_id = ((Wkspd__V1__JobRequest const *)message)->id;
}

/* Answers
 * ------------------------------------------------------------------------------------------------
 */

typedef struct ckpt_id {
  char s[ENGINE_CKPT_ID_TEXT_MAX];
} ckpt_id_t;

/* "": none. */
static ckpt_id_t id_of(uint64_t store_id, uint64_t number) {
  ckpt_id_t id = {""};
  if (store_id && number) snprintf(id.s, sizeof id.s, "%lu.%lx", store_id, number);
  return id;
}

RPC_CKPT_ENCODE(job_id) {
  Wkspd__V1__JobResponse to = WKSPD__V1__JOB_RESPONSE__INIT;
  to.job_id = reply->u.job.job_id;
  return rpc_pack(&to.base, ret_len);
}

/* Points into from and id. */
static void put_ckpt(engine_ckpt_t const *from, ckpt_id_t *id, Wkspd__V1__Checkpoint *ret) {
  wkspd__v1__checkpoint__init(ret);
  *id = id_of(from->store_id, from->number);
  ret->id = id->s;
  ret->name = text(from->spec.name);
  ret->uuid.data = (uint8_t *)(uintptr_t)from->spec.uuid;
  ret->uuid.len = sizeof from->spec.uuid;
  ret->uid = from->spec.uid;
  ret->gid = from->spec.gid;
  ret->mode = from->spec.mode;
  ret->by = (Wkspd__V1__CheckpointBy)from->by;
  ret->mode_asked = (Wkspd__V1__CheckpointMode)from->mode_asked;
  ret->mode_got = (Wkspd__V1__CheckpointMode)from->how.mode;
  ret->style = (Wkspd__V1__CheckpointStyle)from->how.style;
  ret->level = from->how.level;
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
  ret->page_size = from->spec.page_size;
  ret->seed = from->spec.seed;
  ret->verified_ns = from->verified_ns;
  ret->drilled_ns = from->drilled_ns;
  ret->info = text(from->info);
  ret->bad = text(from->bad);
}

RPC_CKPT_ENCODE(ckpt_list) {
  Wkspd__V1__ListCheckpointsResponse to = WKSPD__V1__LIST_CHECKPOINTS_RESPONSE__INIT;
  size_t cnt = reply->u.ckpt_list.ckpt_cnt;
  Wkspd__V1__Checkpoint *ckpts = calloc(cnt + 1, sizeof *ckpts);
  Wkspd__V1__Checkpoint **at = calloc(cnt + 1, sizeof *at);
  ckpt_id_t *ids = calloc(cnt + 1, sizeof *ids);
  uint8_t *bytes = NULL;
  if (ckpts && at && ids) {
    for (size_t i = 0; i < cnt; i++) {
      put_ckpt(&reply->u.ckpt_list.ckpts[i], &ids[i], &ckpts[i]);
      at[i] = &ckpts[i];
    }
    to.n_checkpoints = cnt;
    to.checkpoints = at;
    to.next_page_token = text(reply->u.ckpt_list.next_page_token);
    bytes = rpc_pack(&to.base, ret_len);
  }
  free(ckpts);
  free(at);
  free(ids);
  return bytes;
}

RPC_CKPT_ENCODE(ckpt_show) {
  Wkspd__V1__ShowCheckpointResponse to = WKSPD__V1__SHOW_CHECKPOINT_RESPONSE__INIT;
  Wkspd__V1__Checkpoint ckpt;
  ckpt_id_t id;
  if (reply->u.ckpt_show.ckpt) {
    put_ckpt(reply->u.ckpt_show.ckpt, &id, &ckpt);
    to.checkpoint = &ckpt;
  }
  to.text = text(ckptjob_text(reply->u.ckpt_show.worker_result));
  return rpc_pack(&to.base, ret_len);
}

RPC_CKPT_ENCODE(ckpt_remove) {
  Wkspd__V1__RemoveCheckpointResponse to = WKSPD__V1__REMOVE_CHECKPOINT_RESPONSE__INIT;
  to.freed_size = reply->u.ckpt_remove.freed_size;
  return rpc_pack(&to.base, ret_len);
}

RPC_CKPT_ENCODE(restore) {
  Wkspd__V1__RestoreResponse to = WKSPD__V1__RESTORE_RESPONSE__INIT;
  Wkspd__V1__Workspace workspace;
  to.job_id = reply->u.restore.job_id;
  if (reply->u.restore.workspace) {
    rpc_put_workspace(reply->u.restore.workspace, &workspace);
    to.workspace = &workspace;
  }
  return rpc_pack(&to.base, ret_len);
}

static void put_run(schedule_run_t const *from, Wkspd__V1__Run *ret) {
  wkspd__v1__run__init(ret);
  ret->begin_ns = from->begin_ns;
  ret->end_ns = from->end_ns;
  ret->by = (Wkspd__V1__CheckpointBy)from->by;
  ret->code = from->code;
  ret->number = from->ckpt_id;
  ret->written_size = from->bytes;
}

RPC_CKPT_ENCODE(schedule) {
  Wkspd__V1__ScheduleResponse to = WKSPD__V1__SCHEDULE_RESPONSE__INIT;
  Wkspd__V1__Schedule schedule = WKSPD__V1__SCHEDULE__INIT;
  Wkspd__V1__Keep keep = WKSPD__V1__KEEP__INIT;
  Wkspd__V1__Run runs[SCHEDULE_RUNS_MAX], *at[SCHEDULE_RUNS_MAX];
  schedule_t const *from = reply->u.schedule;
  if (!from) return rpc_pack(&to.base, ret_len);
  keep.last = from->keep.last;
  keep.hourly = from->keep.hourly;
  keep.daily = from->keep.daily;
  keep.weekly = from->keep.weekly;
  keep.monthly = from->keep.monthly;
  schedule.name = text(from->name);
  schedule.every_ns = from->every_ns;
  schedule.jitter_ns = from->jitter_ns;
  schedule.mode = (Wkspd__V1__CheckpointMode)from->how.mode;
  schedule.style = (Wkspd__V1__CheckpointStyle)from->how.style;
  schedule.level = from->how.level;
  schedule.keep = &keep;
  schedule.on_stop = (Wkspd__V1__OnStop)from->on_stop;
  schedule.on_start = (Wkspd__V1__OnStart)from->on_start;
  schedule.due_ns = from->due_ns;
  schedule.last_ok_ns = from->last_ok_ns;
  schedule.fail_cnt = from->fail_cnt;
  schedule.drill_ns = from->drill_ns;
  schedule.drill_due_ns = from->drill_due_ns;
  schedule.drill_ok_ns = from->drill_ok_ns;
  schedule.drill_number = from->drill_ckpt_id;
  schedule.drill_fail_cnt = from->drill_fail_cnt;
  for (uint32_t i = 0; i < from->run_cnt; i++) {
    put_run(&from->runs[i], &runs[i]);
    at[i] = &runs[i];
  }
  schedule.n_runs = from->run_cnt;
  schedule.runs = at;
  to.schedule = &schedule;
  return rpc_pack(&to.base, ret_len);
}

static void put_task(engine_task_t const *from, ckpt_id_t *id, Wkspd__V1__Job *ret) {
  static Wkspd__V1__JobKind const kinds[] = {
      [ENGINE_OP_CHECKPOINT] = WKSPD__V1__JOB_KIND__JOB_CHECKPOINT,
      [ENGINE_OP_RESTORE] = WKSPD__V1__JOB_KIND__JOB_RESTORE,
      [ENGINE_OP_CKPT_VERIFY] = WKSPD__V1__JOB_KIND__JOB_VERIFY,
      [ENGINE_OP_CKPT_REMOVE] = WKSPD__V1__JOB_KIND__JOB_REMOVE,
      [ENGINE_OP_CKPT_DRILL] = WKSPD__V1__JOB_KIND__JOB_DRILL};
  wkspd__v1__job__init(ret);
  *id = id_of(from->store_id, from->number);
  ret->id = from->job_id;
  ret->kind = kinds[from->op];
  ret->state = (Wkspd__V1__JobState)from->state;
  ret->by = (Wkspd__V1__CheckpointBy)from->by;
  ret->name = text(from->name);
  ret->uid = from->uid;
  ret->checkpoint = id->s;
  ret->asked_ns = from->asked_ns;
  ret->begun_ns = from->begun_ns;
  ret->ended_ns = from->ended_ns;
  ret->phase = (uint32_t)from->phase;
  ret->done_size = from->done_size;
  ret->total_size = from->total_size;
  ret->written_size = from->written_size;
  ret->code = from->code;
  ret->sentence = text(from->sentence);
  ret->hint = text(from->hint);
}

RPC_CKPT_ENCODE(tasks) {
  Wkspd__V1__ListJobsResponse to = WKSPD__V1__LIST_JOBS_RESPONSE__INIT;
  size_t cnt = reply->u.tasks.task_cnt;
  Wkspd__V1__Job *jobs = calloc(cnt + 1, sizeof *jobs), **at = calloc(cnt + 1, sizeof *at);
  ckpt_id_t *ids = calloc(cnt + 1, sizeof *ids);
  uint8_t *bytes = NULL;
  if (jobs && at && ids) {
    for (size_t i = 0; i < cnt; i++) {
      put_task(&reply->u.tasks.tasks[i], &ids[i], &jobs[i]);
      at[i] = &jobs[i];
    }
    to.n_jobs = cnt;
    to.jobs = at;
    bytes = rpc_pack(&to.base, ret_len);
  }
  free(jobs);
  free(at);
  free(ids);
  return bytes;
}

RPC_CKPT_ENCODE(cancelled) {
  Wkspd__V1__CancelJobResponse to = WKSPD__V1__CANCEL_JOB_RESPONSE__INIT;
  return rpc_pack(&to.base, ret_len);
}

uint8_t *rpc_encode_task(engine_task_t const *task, size_t *ret_len) {
  Wkspd__V1__Job job;
  ckpt_id_t id;
  put_task(task, &id, &job);
  return rpc_pack(&job.base, ret_len);
}
