/* ckpts: stores of checkpoints and files of schedules, and the workers that work on the former.

   A checkpoint is there when its worker's answer comes, or perhaps before if the process is killed
   meanwhile, or if the worker fails. A schedule's file is kept as its text. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define ROOM(list)                                                                  \
  do {                                                                              \
    if ((list)->cnt == (list)->cap) {                                               \
      (list)->cap = (list)->cap ? (list)->cap * 2 : 32;                             \
      (list)->items = realloc((list)->items, (list)->cap * sizeof(*(list)->items)); \
      assert_non_null((list)->items);                                               \
    }                                                                               \
  } while (0)

/* Stores
 * ------------------------------------------------------------------------------------------------
 */

static size_t ckpt_find(sim_t const *sim, uint64_t store_id, uint64_t number) {
  size_t i = 0;
  while (i < sim->ckpts.cnt &&
         (sim->ckpts.items[i].store_id != store_id || sim->ckpts.items[i].number != number))
    i++;
  return i;
}

engine_ckpt_t *sim_ckpt(sim_t *sim, uint64_t store_id, uint64_t number) {
  size_t i = ckpt_find(sim, store_id, number);
  return i < sim->ckpts.cnt ? &sim->ckpts.items[i] : NULL;
}

static void ckpt_remove(sim_t *sim, uint64_t store_id, uint64_t number) {
  size_t i = ckpt_find(sim, store_id, number);
  if (i < sim->ckpts.cnt) sim->ckpts.items[i] = sim->ckpts.items[--sim->ckpts.cnt];
}

static engine_ckpt_t *ckpt_take(sim_t *sim, engine_ckpt_ask_t const *ask) {
  ROOM(&sim->ckpts);
  engine_ckpt_t *ckpt = &sim->ckpts.items[sim->ckpts.cnt++];
  *ckpt = (engine_ckpt_t){.store_id = ask->store_id,
                          .number = ++sim->ckpt_high,
                          .spec = ask->spec,
                          .by = ask->by,
                          .how = ask->how,
                          .mode_asked = ask->how.mode,
                          .created_ns = sim->real_ns,
                          .part_max = ask->spec.part_max,
                          .data_max = ask->spec.data_max,
                          .footprint = ask->spec.max_size,
                          .size = ask->spec.size,
                          .size_min = SIM_SIZE_MIN,
                          .info = "as it was"};
  return ckpt;
}

/* Of those that nobody took by hand the last keep.last stay. Returns how many go. */
static size_t prune(sim_t *sim, engine_ckpt_ask_t const *ask, uint64_t *ret_gone) {
  size_t cnt = 0, gone = 0;
  if (!ask->keep.last) return 0;
  for (size_t i = 0; i < sim->ckpts.cnt; i++)
    cnt += sim->ckpts.items[i].store_id == ask->store_id && sim->ckpts.items[i].by;
  while (cnt - gone > ask->keep.last && gone < SIM_GONE_MAX) {
    engine_ckpt_t const *oldest = NULL;
    for (size_t i = 0; i < sim->ckpts.cnt; i++) {
      engine_ckpt_t const *item = &sim->ckpts.items[i];
      if (item->store_id != ask->store_id || !item->by) continue;
      if (!oldest || item->number < oldest->number) oldest = item;
    }
    ret_gone[gone++] = oldest->number;
    ckpt_remove(sim, oldest->store_id, oldest->number);
  }
  return gone;
}

static int writes(int op) {
  return op == ENGINE_OP_CHECKPOINT || op == ENGINE_OP_CKPT_REMOVE || op == ENGINE_OP_CKPT_LIST;
}

static int reads(int op) {
  return op == ENGINE_OP_RESTORE || op == ENGINE_OP_CKPT_VERIFY || op == ENGINE_OP_CKPT_DRILL;
}

static int thins(int op, engine_ckpt_ask_t const *ask) {
  return op == ENGINE_OP_CKPT_REMOVE || (op == ENGINE_OP_CHECKPOINT && ask->keep.last);
}

static void check_task(sim_t *sim, engine_effect_t const *effect) {
  int op = effect->u.worker_start.op;
  uint64_t ws_id = effect->u.worker_start.ws_id;
  engine_ckpt_ask_t const *ask = effect->u.worker_start.ckpt;
  uint32_t max =
      sim->config.tasks_running_max ? sim->config.tasks_running_max : ENGINE_TASKS_RUNNING_DEFAULT;

  if (!ask) sim_broken(sim, "a task without a question");
  if ((op == ENGINE_OP_CHECKPOINT || op == ENGINE_OP_RESTORE) && !sim_in_memory(sim, ws_id))
    sim_broken(sim, "operation %d on memory that is gone", op);
  if (op == ENGINE_OP_CHECKPOINT && sim_on_disk(sim, ws_id)->state == SPEC_MAKING)
    sim_broken(sim, "a checkpoint of what is being made");
  if (op == ENGINE_OP_RESTORE && sim_on_disk(sim, ws_id)->state != SPEC_MAKING)
    sim_broken(sim, "a restore into what is there");
  uint32_t running = 0;
  for (size_t i = 0; i < sim->pending.cnt; i++) {
    sim_pending_t const *other = &sim->pending.items[i];
    int other_op = other->effect.u.worker_start.op;
    if (other->answer != SIM_TASK) continue;
    running += other_op != ENGINE_OP_CKPT_SHOW;
    if (writes(op) && writes(other_op) && other->ask.store_id == ask->store_id)
      sim_broken(sim, "two workers write store %lu", ask->store_id);
    if (other->ask.store_id == ask->store_id &&
        ((reads(op) && thins(other_op, &other->ask)) || (thins(op, ask) && reads(other_op))))
      sim_broken(sim, "store %lu is thinned out while it is read", ask->store_id);
    if (op == ENGINE_OP_CKPT_DRILL && other_op == op) sim_broken(sim, "two drills at a time");
    if (op == ENGINE_OP_CHECKPOINT && other_op == op && !other->cancelled &&
        other->effect.u.worker_start.ws_id == ws_id)
      sim_broken(sim, "two checkpoints of %lu at a time", ws_id);
  }
  if (op != ENGINE_OP_CKPT_SHOW && running >= max) sim_broken(sim, "too many tasks");
}

void sim_task_start(sim_t *sim, engine_effect_t const *effect) {
  check_task(sim, effect);
  sim_pending_t *pending = sim_pend(sim, SIM_TASK, effect->u.worker_start.job_id, effect);
  pending->ask = *effect->u.worker_start.ckpt;
  pending->ask.info = NULL;
  pending->ask.tags = NULL;
  if (effect->u.worker_start.op == ENGINE_OP_CHECKPOINT) sim->asked = pending->ask;
  pending->effect.u.worker_start.ckpt = NULL;
  sim->task_cnt[effect->u.worker_start.op]++;
}

/* What a worker has done when it answers, or perhaps when it is killed. */
static void carry_out(sim_t *sim, sim_pending_t const *pending, engine_event_t *event) {
  engine_ckpt_ask_t const *ask = &pending->ask;
  switch (pending->effect.u.worker_start.op) {
  case ENGINE_OP_CHECKPOINT:
    sim->told = *ckpt_take(sim, ask);
    event->u.worker_done.ckpts = &sim->told;
    event->u.worker_done.ckpt_cnt = 1;
    event->u.worker_done.gone = sim->gone;
    event->u.worker_done.gone_cnt = prune(sim, ask, sim->gone);
    event->u.worker_done.written_size = 4096;
    break;
  case ENGINE_OP_CKPT_REMOVE:
    sim->gone[0] = ask->number;
    ckpt_remove(sim, ask->store_id, ask->number);
    event->u.worker_done.gone = sim->gone;
    event->u.worker_done.gone_cnt = 1;
    break;
  default:
    break;
  }
}

/* A listing tells what is there when it answers: nothing writes the store meanwhile. */
static void list(sim_t *sim, uint64_t store_id, engine_event_t *event) {
  size_t cnt = 0;
  free(sim->listed);
  sim->listed = malloc((sim->ckpts.cnt + 1) * sizeof(*sim->listed));
  assert_non_null(sim->listed);
  for (size_t i = 0; i < sim->ckpts.cnt; i++)
    if (!store_id || sim->ckpts.items[i].store_id == store_id)
      sim->listed[cnt++] = sim->ckpts.items[i];
  event->u.worker_done.ckpts = sim->listed;
  event->u.worker_done.ckpt_cnt = cnt;
}

void sim_task_event(sim_t *sim, sim_pending_t const *pending, int fail, engine_event_t *event) {
  int op = pending->effect.u.worker_start.op;
  engine_event_t undone = {.kind = 0};
  int status = sim->worker_status ? sim->worker_status : ENGINE_WORKER_KILLED;
  int missing = (reads(op) || op == ENGINE_OP_CKPT_REMOVE || op == ENGINE_OP_CKPT_SHOW) &&
                !sim_ckpt(sim, pending->ask.store_id, pending->ask.number);

  if (fail && sim->wild) status = 1 + (int)(sim_random(sim) % (ENGINE_WORKER_STATUSES - 1));
  if (status == ENGINE_WORKER_CANCELLED) status = ENGINE_WORKER_KILLED;
  if (pending->cancelled) status = ENGINE_WORKER_CANCELLED;
  fail |= pending->cancelled;
  event->kind = ENGINE_EV_WORKER_DONE;
  event->u.worker_done.job_id = pending->id;
  event->u.worker_done.status = fail ? status : missing ? ENGINE_WORKER_MISSING : ENGINE_WORKER_OK;
  event->u.worker_done.detail = fail ? "signal 9" : NULL;
  event->u.worker_done.result = (void *)(uintptr_t)pending->id;
  if (fail && (sim->wild ? sim_chance(sim, 2) : sim->fail_writes))
    carry_out(sim, pending, &undone); /* nobody lived to tell it */
  if (event->u.worker_done.status != ENGINE_WORKER_OK) return;
  if (op == ENGINE_OP_CKPT_LIST)
    list(sim, pending->ask.store_id, event);
  else
    carry_out(sim, pending, event);
}

void sim_task_interrupted(sim_t *sim, sim_pending_t const *pending) {
  engine_event_t unseen = {.kind = 0};
  if (pending->answer == SIM_TASK) carry_out(sim, pending, &unseen);
}

void sim_progress(sim_t *sim, uint64_t job_id, uint64_t done, uint64_t total) {
  engine_event_t event = {.kind = ENGINE_EV_WORKER_PROGRESS};
  event.u.progress.job_id = job_id;
  event.u.progress.phase = 1;
  event.u.progress.done_size = done;
  event.u.progress.total_size = total;
  sim_step(sim, &event);
}

/* What has been found sound is written down, and told by the next listing. */
void sim_notes(sim_t *sim, engine_effect_t const *effect) {
  for (size_t i = 0; i < effect->u.ckpt_notes.note_cnt; i++) {
    engine_ckpt_note_t const *note = &effect->u.ckpt_notes.notes[i];
    engine_ckpt_t *ckpt = sim_ckpt(sim, effect->u.ckpt_notes.store_id, note->number);
    if (!note->verified_ns) sim_broken(sim, "a note of nothing");
    if (note->drilled_ns > note->verified_ns) sim_broken(sim, "restored, and not found sound");
    if (ckpt) ckpt->verified_ns = note->verified_ns;
    if (ckpt) ckpt->drilled_ns = note->drilled_ns;
  }
}

/* Schedules
 * ------------------------------------------------------------------------------------------------
 */

static uint64_t hash_of(char const *name) {
  uint64_t hash = 1;
  while (*name) hash = hash * 131 + (unsigned char)*name++;
  return hash;
}

void sim_schedule_begin(sim_t *sim, engine_effect_t const *effect) {
  schedule_t const *schedule = effect->u.schedule.schedule;
  if (schedule_check(schedule))
    sim_broken(sim, "a schedule is wrong: %s", schedule_check(schedule));
  sim_pending_t *pending = sim_pend(sim, SIM_SCHEDULE, hash_of(schedule->name), effect);
  pending->schedule = *schedule;
}

void sim_schedule_write(sim_t *sim, sim_pending_t const *pending) {
  size_t i = 0;
  while (i < sim->schedules.cnt &&
         strcmp(sim->schedules.items[i].name, pending->schedule.name) != 0)
    i++;
  if (pending->effect.u.schedule.drop) {
    if (i < sim->schedules.cnt)
      sim->schedules.items[i] = sim->schedules.items[--sim->schedules.cnt];
    return;
  }
  if (i == sim->schedules.cnt) {
    ROOM(&sim->schedules);
    sim->schedules.cnt++;
  }
  sim_schedule_t *at = &sim->schedules.items[i];
  snprintf(at->name, sizeof(at->name), "%s", pending->schedule.name);
  at->len = (size_t)schedule_encode(&pending->schedule, at->text);
}

void sim_schedule_event(sim_t *sim, sim_pending_t const *pending, int fail, engine_event_t *event) {
  if (!fail || (sim->wild && sim_chance(sim, 2))) sim_schedule_write(sim, pending);
  event->kind = ENGINE_EV_SCHEDULE_WRITTEN;
  snprintf(event->u.schedule_written.name, sizeof(event->u.schedule_written.name), "%s",
           pending->schedule.name);
  event->u.schedule_written.err = fail ? ENOSPC : 0;
}

int sim_schedule(sim_t const *sim, char const *name, schedule_t *ret_schedule) {
  for (size_t i = 0; i < sim->schedules.cnt; i++) {
    sim_schedule_t const *at = &sim->schedules.items[i];
    if (strcmp(at->name, name) != 0) continue;
    assert_int_equal(schedule_decode(at->text, at->len, ret_schedule), 0);
    return 1;
  }
  return 0;
}

void sim_schedules_recover(sim_t *sim) {
  for (size_t i = 0; i < sim->schedules.cnt; i++) {
    schedule_t schedule;
    engine_event_t event = {.kind = ENGINE_EV_RECOVERED_SCHEDULE};
    assert_int_equal(
        schedule_decode(sim->schedules.items[i].text, sim->schedules.items[i].len, &schedule), 0);
    event.u.recovered_schedule = &schedule;
    sim_step(sim, &event);
  }
}

void sim_ckpts_free(sim_t *sim) {
  free(sim->ckpts.items);
  free(sim->schedules.items);
  free(sim->tasks.items);
  free(sim->listed);
}

/* Streams
 * ------------------------------------------------------------------------------------------------
 */

void sim_task_told(sim_t *sim, engine_effect_t const *effect) {
  engine_task_t const *task = effect->u.stream_task.task;
  sim_request_t const *request =
      sim_request(sim, effect->u.stream_task.conn, effect->u.stream_task.stream);
  if (request->answered || request->req.method != ENGINE_JOB_WATCH)
    sim_broken(sim, "a job is told on a stream that does not follow one");
  if (request->req.u.c.job.job_id != task->job_id)
    sim_broken(sim, "another job is told than is followed");
  if (task->state < ENGINE_TASK_QUEUED || task->state > ENGINE_TASK_CANCELLED)
    sim_broken(sim, "job %lu is in no state", task->job_id);
  if ((task->state >= ENGINE_TASK_DONE) != (task->ended_ns != 0))
    sim_broken(sim, "job %lu has ended and has no end", task->job_id);
  if (!sim->keep_events) return;
  ROOM(&sim->tasks);
  sim->tasks.items[sim->tasks.cnt++] = (sim_task_t){
      .conn = effect->u.stream_task.conn, .stream = effect->u.stream_task.stream, .task = *task};
}

/* Requests
 * ------------------------------------------------------------------------------------------------
 */

sim_request_t *sim_ask(sim_t *sim, uint64_t conn, engine_request_t const *req) {
  uint32_t stream = sim_send(sim, conn, req, 0);
  sim_settle(sim);
  return sim_request(sim, conn, stream);
}

engine_request_t sim_checkpoint_of(char const *name) {
  engine_request_t req = {.method = ENGINE_CHECKPOINT};
  snprintf(req.u.c.checkpoint.name, ENGINE_TEXT_MAX, "%s", name);
  return req;
}

engine_request_t sim_restore_of(sim_t *sim, char const *name, char const *as, int wait) {
  engine_request_t req = {.method = ENGINE_RESTORE};
  snprintf(req.u.c.restore.name, ENGINE_TEXT_MAX, "%s", name);
  snprintf(req.u.c.restore.as, ENGINE_TEXT_MAX, "%s", as);
  uint64_t uuid = sim_random(sim);
  memcpy(req.u.c.restore.uuid, &uuid, sizeof(uuid));
  req.u.c.restore.wait = wait;
  return req;
}

engine_request_t sim_schedule_of(char const *name, uint64_t every_ns) {
  engine_request_t req = {.method = ENGINE_SCHEDULE_SET};
  snprintf(req.u.c.schedule.name, ENGINE_TEXT_MAX, "%s", name);
  req.u.c.schedule.every_ns = every_ns;
  return req;
}

engine_request_t sim_job_of(int method, uint64_t job_id) {
  engine_request_t req = {.method = method};
  req.u.c.job.job_id = job_id;
  return req;
}

int sim_code(sim_request_t const *request) {
  assert_true(request->answered);
  return request->reply.code;
}

/* Asks for a checkpoint, which is taken; its job. */
uint64_t sim_take(sim_t *sim, uint64_t conn, char const *name) {
  engine_request_t req = sim_checkpoint_of(name);
  sim_request_t *request = sim_ask(sim, conn, &req);
  assert_int_equal(sim_code(request), ENGINE_CODE_OK);
  return request->reply.u.job.job_id;
}

void sim_set(sim_t *sim, uint64_t conn, engine_request_t const *req) {
  assert_int_equal(sim_code(sim_ask(sim, conn, req)), ENGINE_CODE_OK);
}

/* The last state that somebody who follows a job was told. */
engine_task_t const *sim_told(sim_t *sim, uint64_t job_id) {
  for (size_t i = sim->tasks.cnt; i--;)
    if (sim->tasks.items[i].task.job_id == job_id) return &sim->tasks.items[i].task;
  return NULL;
}
