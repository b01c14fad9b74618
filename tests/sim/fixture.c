/* fixture: see fixture.h. The model is that of daemon/shell with every table open to view; an
   effect is checked when it is carried out, its answer made up when it is due. */

#include "fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Appends a zeroed item and returns it. */
#define PUSH(list)                                                                              \
  ((list)->items = list_room((list)->items, (list)->cnt, &(list)->cap, sizeof(*(list)->items)), \
   memset(&(list)->items[(list)->cnt], 0, sizeof(*(list)->items)), &(list)->items[(list)->cnt++])

/* Takes item i out, keeping the order. */
#define TAKE(list, i)                                 \
  memmove(&(list)->items[i], &(list)->items[(i) + 1], \
          (--(list)->cnt - (i)) * sizeof(*(list)->items))

static void *list_room(void *items, size_t cnt, size_t *cap, size_t size) {
  if (cnt < *cap) return items;
  *cap = *cap ? *cap * 2 : 32;
  items = realloc(items, *cap * size);
  assert_non_null(items);
  return items;
}

uint64_t sim_random(sim_t *sim) {
  sim->random += 0x9e3779b97f4a7c15UL;
  uint64_t z = sim->random;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9UL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebUL;
  return z ^ (z >> 31);
}

int sim_chance(sim_t *sim, uint64_t n) {
  return sim_random(sim) % n == 0;
}

/* The virtual store
 * ------------------------------------------------------------------------------------------------
 */

static sim_disk_t *disk_find(sim_t *sim, uint64_t ws_id) {
  for (size_t i = 0; i < sim->disk.cnt; i++)
    if (sim->disk.items[i].ws_id == ws_id) return &sim->disk.items[i];
  return NULL;
}

static void disk_write(sim_t *sim, spec_t const *spec) {
  sim_disk_t *disk = disk_find(sim, spec->ws_id);
  if (!disk) disk = PUSH(&sim->disk);
  disk->ws_id = spec->ws_id;
  int len = spec_encode(spec, disk->text);
  if (len < 0) sim_broken(sim, "a spec cannot be encoded: line %d", spec_check(spec));
  disk->len = (size_t)len;
  assert_int_equal(spec_decode(disk->text, disk->len, &disk->spec), 0);
}

static void disk_remove(sim_t *sim, uint64_t ws_id) {
  for (size_t i = 0; i < sim->disk.cnt; i++)
    if (sim->disk.items[i].ws_id == ws_id) {
      TAKE(&sim->disk, i);
      return;
    }
}

static void sim_forget(sim_t *sim, uint64_t ws_id) {
  disk_remove(sim, ws_id);
  if (sim->hooks.remove) sim->hooks.remove(sim->hooks.arg, ws_id);
}

/* What a write or a removal does when it reaches the disk. */
static void disk_carry_out(sim_t *sim, sim_pending_t const *pending) {
  if (pending->effect.kind == ENGINE_FX_UNPERSIST) {
    sim_forget(sim, pending->id);
    return;
  }
  disk_write(sim, &pending->effect.u.persist);
  if (sim->hooks.persist) sim->hooks.persist(sim->hooks.arg, &pending->effect.u.persist);
}

static void lifeline_add(sim_t *sim, engine_effect_t const *make) {
  sim_lifeline_t *line = PUSH(&sim->lifelines);
  line->lease_id = make->u.lease_make.lease_id;
  line->ws_id = make->u.lease_make.ws_id;
  line->mode = make->u.lease_make.mode;
  line->pid = make->u.lease_make.pid;
  line->uid = make->u.lease_make.uid;
  line->gid = make->u.lease_make.gid;
}

spec_t const *sim_on_disk(sim_t *sim, uint64_t ws_id) {
  sim_disk_t *disk = disk_find(sim, ws_id);
  return disk && disk->spec.state ? &disk->spec : NULL;
}

sim_lifeline_t *sim_lifeline(sim_t *sim, uint64_t lease_id) {
  for (size_t i = 0; i < sim->lifelines.cnt; i++)
    if (sim->lifelines.items[i].lease_id == lease_id) return &sim->lifelines.items[i];
  return NULL;
}

/* Effects
 * ------------------------------------------------------------------------------------------------
 */

static sim_request_t *request_find(sim_t *sim, uint64_t conn, uint32_t stream) {
  for (size_t i = 0; i < sim->requests.cnt; i++)
    if (sim->requests.items[i].conn == conn && sim->requests.items[i].stream == stream)
      return &sim->requests.items[i];
  return NULL;
}

sim_pending_t *sim_pend(sim_t *sim, int answer, uint64_t id, engine_effect_t const *effect) {
  for (size_t i = 0; i < sim->pending.cnt; i++) {
    sim_pending_t const *other = &sim->pending.items[i];
    int same = other->answer == answer || (other->answer <= SIM_REMOVED && answer <= SIM_REMOVED);
    if (same && other->id == id) sim_broken(sim, "answer %d for %lu is under way", answer, id);
  }
  sim_pending_t *pending = PUSH(&sim->pending);
  pending->answer = answer;
  pending->id = id;
  pending->effect = *effect;
  return pending;
}

static void published_add(sim_t *sim, engine_workspace_t const *view) {
  sim_published_t *published = PUSH(&sim->published);
  published->ws_id = view->spec.ws_id;
  memcpy(published->name, view->spec.name, sizeof(published->name));
}

/* What a reply means for what the client believes. */
static void believe(sim_t *sim, sim_request_t *request) {
  if (request->reply.code != ENGINE_CODE_OK) return;
  if (request->req.method == ENGINE_CREATE && !request->repeated)
    published_add(sim, &request->view);
  if (request->req.method == ENGINE_DELETE && !request->repeated)
    for (size_t i = 0; i < sim->published.cnt; i++)
      if (sim->published.items[i].ws_id == request->target) sim->published.items[i].gone = 1;
  if (request->req.method == ENGINE_OPEN) {
    sim_lifeline_t *line = sim_lifeline(sim, request->reply.u.open.lease_id);
    if (!line) sim_broken(sim, "an open's lifeline was never made");
    line->with_client = 1;
  }
}

static void fx_reply(sim_t *sim, engine_reply_t const *reply) {
  sim_request_t *request = request_find(sim, reply->conn, reply->stream);

  if (!request) sim_broken(sim, "a reply to %lu/%u, which did not ask", reply->conn, reply->stream);
  if (request->answered) sim_broken(sim, "a second reply to %lu/%u", reply->conn, reply->stream);
  if (reply->method != request->req.method) sim_broken(sim, "a reply of another method");
  request->answered = 1;
  request->reply = *reply;
  sim->reply_cnt[reply->code & 15]++;
  if (reply->code == ENGINE_CODE_OK) {
    if (reply->method == ENGINE_CREATE || reply->method == ENGINE_GET ||
        reply->method == ENGINE_RESIZE)
      request->view = *reply->u.workspace;
    if (reply->method == ENGINE_RESTORE && reply->u.restore.workspace)
      request->view = *reply->u.restore.workspace;
    if (reply->method == ENGINE_OPEN) request->view = *reply->u.open.workspace;
    if (reply->method == ENGINE_LIST && reply->u.list.workspace_cnt) {
      size_t size = reply->u.list.workspace_cnt * sizeof(*request->views);
      request->views = malloc(size);
      assert_non_null(request->views);
      memcpy(request->views, reply->u.list.workspaces, size);
    }
  }
  believe(sim, request);
  sim_check_reply(sim, request);
  if (sim->hooks.reply) sim->hooks.reply(sim->hooks.arg, request);
}

static void fx_stream_event(sim_t *sim, engine_effect_t const *effect) {
  sim_request_t *request =
      request_find(sim, effect->u.stream_event.conn, effect->u.stream_event.stream);
  char const *name = effect->u.stream_event.name;

  if (!request || request->answered || request->req.method != ENGINE_WATCH)
    sim_broken(sim, "an event on a stream that does not watch");
  if (request->req.u.watch.name[0] && strcmp(request->req.u.watch.name, name) != 0)
    sim_broken(sim, "an event of \"%s\" for a watch of \"%s\"", name, request->req.u.watch.name);
  if (!sim->keep_events) return;
  sim_event_t *event = PUSH(&sim->events);
  event->conn = effect->u.stream_event.conn;
  event->stream = effect->u.stream_event.stream;
  event->kind = effect->u.stream_event.kind;
  memcpy(event->name, name, sizeof(event->name));
}

static void fx_worker_start(sim_t *sim, engine_effect_t const *effect) {
  if (effect->u.worker_start.op >= ENGINE_OP_CHECKPOINT) {
    sim_task_start(sim, effect);
    return;
  }
  sim_check_worker(sim, effect);
  sim_pending_t *pending = sim_pend(sim, SIM_WORKER, effect->u.worker_start.job_id, effect);
  pending->effect.u.worker_start.tags = NULL;
  pending->effect.u.worker_start.leases = NULL;
  if (effect->u.worker_start.op != ENGINE_OP_REAP) return;
  sim->reap_cnt++;
  pending->lease_cnt = effect->u.worker_start.lease_cnt;
  pending->lease_ids = malloc(pending->lease_cnt * sizeof(uint64_t));
  assert_non_null(pending->lease_ids);
  memcpy(pending->lease_ids, effect->u.worker_start.leases, pending->lease_cnt * sizeof(uint64_t));
}

static void fx_cancel(sim_t *sim, int answer, uint64_t id) {
  for (size_t i = 0; i < sim->pending.cnt; i++) {
    sim_pending_t *pending = &sim->pending.items[i];
    int same = pending->answer == answer || (answer == SIM_WORKER && pending->answer == SIM_TASK);
    if (!same || pending->id != id) continue;
    if (pending->cancelled) sim_broken(sim, "%lu was cancelled twice", id);
    pending->cancelled = 1;
    sim->cancel_cnt++;
    return;
  }
  sim_broken(sim, "%lu was cancelled and is not under way", id);
}

static void fx_drop(sim_t *sim, engine_effect_t const *effect) {
  sim_check_drop(sim, effect);
  if (effect->kind == ENGINE_FX_MEMORY_DROP) {
    size_t i = sim_memory_find(sim, effect->u.workspace.ws_id);
    TAKE(&sim->memory, i);
  } else {
    size_t i = (size_t)(sim_lifeline(sim, effect->u.lease_drop.lease_id) - sim->lifelines.items);
    TAKE(&sim->lifelines, i);
  }
}

static void fx_close(sim_t *sim, uint64_t conn) {
  for (size_t i = 0; i < sim->conns.cnt; i++)
    if (sim->conns.items[i].conn == conn) {
      TAKE(&sim->conns, i);
      sim->closed_cnt++;
      return;
    }
  sim_broken(sim, "connection %lu is closed and was not open", conn);
}

static void fx_make(sim_t *sim, engine_effect_t const *effect) {
  uint64_t ws_id = effect->u.memory_make.spec.ws_id;
  spec_t const *spec = sim_on_disk(sim, ws_id);

  if (!spec || spec->state != SPEC_MAKING) sim_broken(sim, "memory is made without an intent");
  if (sim_in_memory(sim, ws_id)) sim_broken(sim, "memory is made twice");
  if (sim->hooks.ids) sim->hooks.ids(sim->hooks.arg, ws_id, 0);
  sim_pend(sim, SIM_MEMORY, ws_id, effect);
}

static void fx_lease(sim_t *sim, engine_effect_t const *effect) {
  uint64_t lease_id = effect->u.lease_make.lease_id;

  if (lease_id <= sim->lease_id_high) sim_broken(sim, "lease %lu was given out before", lease_id);
  sim->lease_id_high = lease_id;
  if (!sim_in_memory(sim, effect->u.lease_make.ws_id)) sim_broken(sim, "a lease of no memory");
  if (sim->hooks.ids) sim->hooks.ids(sim->hooks.arg, 0, lease_id);
  sim_pend(sim, SIM_LEASE, lease_id, effect);
}

static void fx_persist(sim_t *sim, engine_effect_t const *effect) {
  spec_t const *spec = &effect->u.persist;

  if (spec_check(spec)) sim_broken(sim, "a spec is wrong in line %d", spec_check(spec));
  if (!disk_find(sim, spec->ws_id) && spec->state == SPEC_MAKING) {
    if (spec->ws_id <= sim->ws_id_high)
      sim_broken(sim, "workspace %lu was given out before", spec->ws_id);
    sim->ws_id_high = spec->ws_id;
  }
  sim_pend(sim, SIM_PERSISTED, spec->ws_id, effect);
}

static void apply(sim_t *sim, engine_effect_t const *effect) {
  switch (effect->kind) {
  case ENGINE_FX_PERSIST:
    fx_persist(sim, effect);
    break;
  case ENGINE_FX_UNPERSIST:
    sim_pend(sim, SIM_REMOVED, effect->u.workspace.ws_id, effect);
    break;
  case ENGINE_FX_RETIRE:
    if (effect->u.persist.state != SPEC_GONE) sim_broken(sim, "what has not gone is retired");
    sim_pend(sim, SIM_REMOVED, effect->u.persist.ws_id, effect);
    break;
  case ENGINE_FX_FORGET:
    sim_forget(sim, effect->u.workspace.ws_id);
    break;
  case ENGINE_FX_CKPT_NOTES:
    sim_notes(sim, effect);
    break;
  case ENGINE_FX_SCHEDULE:
    sim_schedule_begin(sim, effect);
    break;
  case ENGINE_FX_STREAM_TASK:
    sim_task_told(sim, effect);
    break;
  case ENGINE_FX_MEMORY_MAKE:
    fx_make(sim, effect);
    break;
  case ENGINE_FX_MEMORY_CANCEL:
    fx_cancel(sim, sim_in_memory(sim, effect->u.workspace.ws_id) ? SIM_RESIZED : SIM_MEMORY,
              effect->u.workspace.ws_id);
    break;
  case ENGINE_FX_MEMORY_FILL:
  case ENGINE_FX_MEMORY_PUNCH:
    sim_resize_begin(sim, effect);
    break;
  case ENGINE_FX_MEMORY_DROP:
  case ENGINE_FX_LEASE_DROP:
    fx_drop(sim, effect);
    break;
  case ENGINE_FX_LEASE_MAKE:
    fx_lease(sim, effect);
    break;
  case ENGINE_FX_REPLY:
    fx_reply(sim, effect->u.reply);
    break;
  case ENGINE_FX_STREAM_EVENT:
    fx_stream_event(sim, effect);
    break;
  case ENGINE_FX_WORKER_START:
    fx_worker_start(sim, effect);
    break;
  case ENGINE_FX_WORKER_CANCEL:
    fx_cancel(sim, SIM_WORKER, effect->u.worker_cancel.job_id);
    break;
  case ENGINE_FX_CLOSE_CONN:
    fx_close(sim, effect->u.close_conn.conn);
    break;
  case ENGINE_FX_LOG:
    assert_in_range(effect->u.log.level, ENGINE_LOG_ERROR, ENGINE_LOG_INFO);
    assert_int_equal(strncmp(effect->u.log.text, "event=", 6), 0);
    sim->log_cnt[effect->u.log.level]++;
    break;
  default:
    sim_broken(sim, "effect %d is none", effect->kind);
  }
}

int sim_step(sim_t *sim, engine_event_t *event) {
  event->now_mono_ns = sim->mono_ns;
  event->now_real_ns = sim->real_ns;
  sim->step_cnt++;
  int outcome = engine_step(sim->engine, event, &sim->update);
  if (outcome < 0) sim_broken(sim, "event %d ended with %d", event->kind, outcome);
  for (size_t i = 0; i < sim->update.effect_cnt; i++) apply(sim, &sim->update.effects[i]);
  if (sim->update.stopped && sim->pending.cnt) sim_broken(sim, "stopped with answers under way");
  if (sim->update.stopped) sim->stopped = 1;
  if (sim->step_cnt % (uint64_t)sim->check_every == 0) sim_check(sim);
  return outcome;
}

int sim_step_kind(sim_t *sim, int kind) {
  engine_event_t event = {.kind = kind};
  return sim_step(sim, &event);
}

/* Answers
 * ------------------------------------------------------------------------------------------------
 */

static void done_event(sim_t *sim, sim_pending_t const *pending, int fail, engine_event_t *event) {
  int removed = pending->answer == SIM_REMOVED;
  sim_disk_t *disk = disk_find(sim, pending->id);
  int through = !fail || sim->fail_writes || (sim->wild && sim_chance(sim, 2));

  if (through) disk_carry_out(sim, pending);
  if (fail && (disk = disk_find(sim, pending->id))) disk->doubtful = 1;
  event->kind = removed ? ENGINE_EV_REMOVED : ENGINE_EV_PERSISTED;
  event->u.done.ws_id = pending->id;
  event->u.done.err = fail ? ENOSPC : 0;
  event->u.done.detail = fail ? "write of the spec: No space left on device" : NULL;
}

static void worker_event(sim_t *sim, sim_pending_t const *pending, int fail,
                         engine_event_t *event) {
  int status = sim->worker_status ? sim->worker_status : ENGINE_WORKER_KILLED;

  if (fail && sim->wild) status = 1 + (int)(sim_random(sim) % ENGINE_WORKER_CANCELLED);
  if (pending->cancelled) status = ENGINE_WORKER_CANCELLED;
  event->kind = ENGINE_EV_WORKER_DONE;
  event->u.worker_done.job_id = pending->id;
  event->u.worker_done.status = fail || pending->cancelled ? status : ENGINE_WORKER_OK;
  event->u.worker_done.detail = fail ? "signal 9" : NULL;
  event->u.worker_done.result = (void *)(uintptr_t)pending->id;
  if (pending->effect.u.worker_start.op == ENGINE_OP_RESIZE) sim_resize_work(sim, pending, event);
}

void sim_answer(sim_t *sim, size_t index, int fail) {
  engine_event_t event = {0};
  assert_true(index < sim->pending.cnt);
  sim_pending_t pending = sim->pending.items[index];

  TAKE(&sim->pending, index);
  switch (pending.answer) {
  case SIM_PERSISTED:
  case SIM_REMOVED:
    done_event(sim, &pending, fail, &event);
    break;
  case SIM_MEMORY:
    sim_memory_event(sim, &pending, fail, &event);
    break;
  case SIM_RESIZED:
    sim_resized_event(sim, &pending, fail, &event);
    break;
  case SIM_WORKER:
    worker_event(sim, &pending, fail, &event);
    break;
  case SIM_TASK:
    sim_task_event(sim, &pending, fail, &event);
    break;
  case SIM_SCHEDULE:
    sim_schedule_event(sim, &pending, fail, &event);
    break;
  default:
    event.kind = ENGINE_EV_LEASE_MADE;
    event.u.lease_made.lease_id = pending.id;
    event.u.lease_made.err = fail ? EMFILE : 0;
    if (!fail) lifeline_add(sim, &pending.effect);
  }
  assert_int_equal(sim_step(sim, &event), 0);
  free(pending.lease_ids);
}

void sim_settle(sim_t *sim) {
  for (size_t i = 0; i < sim->pending.cnt;) {
    int answer = sim->pending.items[i].answer;
    if (sim->hold[answer]) {
      i++;
      continue;
    }
    int fail = sim->fail_next[answer] > 0;
    sim->fail_next[answer] -= fail;
    sim_answer(sim, i, fail);
    i = 0;
  }
}

/* Life
 * ------------------------------------------------------------------------------------------------
 */

static void drop_request(sim_t *sim, size_t i) {
  free(sim->requests.items[i].views);
  TAKE(&sim->requests, i);
}

/* Damage that the machine or an operator does while the daemon is away. */
static void mishap(sim_t *sim) {
  if (!sim->disk.cnt) return;
  sim_disk_t *disk = &sim->disk.items[sim_random(sim) % sim->disk.cnt];
  size_t memory = sim_memory_find(sim, disk->ws_id), bit;
  for (size_t i = 0; i < sim->published.cnt; i++)
    if (sim->published.items[i].ws_id == disk->ws_id) sim->published.items[i].doomed = 1;
  for (size_t i = 0; i < sim->called.cnt; i++) /* what was known of its calls may be lost */
    if (sim->called.items[i].ws_id == disk->ws_id) sim->called.items[i].ws_id = 0;

  switch (sim_random(sim) % 3) {
  case 0:
    bit = sim_random(sim) % (disk->len * 8);
    disk->text[bit / 8] ^= (char)(1 << bit % 8);
    disk->spec.state = 0;
    if (!spec_decode(disk->text, disk->len, &disk->spec)) sim_broken(sim, "damage is not seen");
    break;
  case 1:
    disk->doubtful = 1;
    if (memory < sim->memory.cnt) TAKE(&sim->memory, memory);
    break;
  default:
    if (memory < sim->memory.cnt) sim->memory.items[memory].orphan = 1;
    disk_remove(sim, disk->ws_id);
  }
}

static void recover(sim_t *sim) {
  spec_t *specs = sim_settled(sim);
  for (size_t i = 0; i < sim->disk.cnt; i++) {
    sim_disk_t *disk = &sim->disk.items[i];
    engine_event_t event = {.kind = ENGINE_EV_RECOVERED_WORKSPACE};
    event.u.recovered_workspace.spec_known = disk->spec.state != 0;
    if (disk->spec.state) event.u.recovered_workspace.spec = specs[i];
    event.u.recovered_workspace.spec.ws_id = disk->ws_id;
    event.u.recovered_workspace.memory = sim_in_memory(sim, disk->ws_id);
    event.u.recovered_workspace.read_only = sim->read_only;
    event.u.recovered_workspace.size_min = disk->spec.state ? SIM_SIZE_MIN : 0;
    event.u.recovered_workspace.reason =
        disk->spec.state ? "its memory is gone" : "its spec cannot be read";
    sim_step(sim, &event);
  }
  free(specs);
  for (size_t i = 0; i < sim->memory.cnt; i++) {
    if (!sim->memory.items[i].orphan) continue;
    engine_event_t event = {.kind = ENGINE_EV_RECOVERED_WORKSPACE};
    event.u.recovered_workspace.spec.ws_id = sim->memory.items[i].ws_id;
    event.u.recovered_workspace.spec.size = sim->memory.items[i].size;
    event.u.recovered_workspace.memory = 1;
    event.u.recovered_workspace.reason = "there is no spec for this memory";
    sim_step(sim, &event);
  }
  /* Leases without a workspace are dropped at once: walk backwards. */
  for (size_t i = sim->lifelines.cnt; i--;) {
    sim_lifeline_t const *line = &sim->lifelines.items[i];
    engine_event_t event = {.kind = ENGINE_EV_RECOVERED_LEASE};
    event.u.recovered_lease.lease_id = line->lease_id;
    event.u.recovered_lease.ws_id = line->ws_id;
    event.u.recovered_lease.mode = line->mode;
    event.u.recovered_lease.pid = line->pid;
    event.u.recovered_lease.uid = line->uid;
    event.u.recovered_lease.gid = line->gid;
    sim_step(sim, &event);
  }
}

static void start(sim_t *sim) {
  engine_event_t event = {.kind = ENGINE_EV_START};

  sim->engine = engine_new();
  assert_non_null(sim->engine);
  event.u.start = sim->config;
  event.u.start.ws_id_high = sim->ws_id_high;
  event.u.start.lease_id_high = sim->lease_id_high;
  event.u.start.no_ckpts = sim->wild && !sim->ckpts.cnt;
  if (!sim->wild) event.u.start.no_ckpts = sim->config.no_ckpts;
  sim->stopped = 0;
  sim_step(sim, &event);
  recover(sim);
  sim_schedules_recover(sim);
  sim_step_kind(sim, ENGINE_EV_RECOVERED_END);
  /* What checkpoints there are is told at once, unless a test wants to see the time before that. */
  size_t i = 0;
  while (i < sim->pending.cnt && sim->pending.items[i].answer != SIM_TASK) i++;
  if (!sim->hold_list && !sim->wild && i < sim->pending.cnt) sim_answer(sim, i, 0);
}

/* What was under way when the process was killed may have happened or not. */
static void interrupt(sim_t *sim, sim_pending_t *pending) {
  int happened = sim->kill_done ? sim->kill_done > 0 : sim_chance(sim, 2);

  if (happened && pending->answer <= SIM_REMOVED) disk_carry_out(sim, pending);
  if (happened && pending->answer == SIM_MEMORY)
    sim_memory_add(sim, &pending->effect.u.memory_make.spec);
  if (happened && pending->answer == SIM_LEASE) lifeline_add(sim, &pending->effect);
  if (happened && pending->answer == SIM_SCHEDULE) sim_schedule_write(sim, pending);
  if (happened) sim_task_interrupted(sim, pending);
  if (happened) sim_resize_interrupted(sim, pending);
  free(pending->lease_ids);
}

void sim_restart(sim_t *sim) {
  for (size_t i = 0; i < sim->pending.cnt; i++) interrupt(sim, &sim->pending.items[i]);
  sim->pending.cnt = 0;
  while (sim->requests.cnt) drop_request(sim, sim->requests.cnt - 1);
  sim->conns.cnt = 0;
  sim->restart_cnt++;
  engine_free(sim->engine);
  for (size_t i = 0; i < sim->lifelines.cnt; i++) {
    sim_lifeline_t *line = &sim->lifelines.items[i];
    if (!line->with_client) line->hung_up = 1;
    line->reported = 0;
  }
  if (sim->wild && sim_chance(sim, 3)) mishap(sim);
  start(sim);
}

sim_t *sim_new(uint64_t seed, engine_config_t const *config) {
  sim_t *sim = calloc(1, sizeof(*sim));
  assert_non_null(sim);
  sim->seed = sim->random = seed;
  if (config) sim->config = *config;
  sim->mono_ns = SIM_SEC;
  sim->real_ns = 1700000000UL * SIM_SEC;
  sim->check_every = 1;
  start(sim);
  return sim;
}

void sim_free(sim_t *sim) {
  if (!sim) return;
  engine_free(sim->engine);
  engine_update_free(&sim->update);
  while (sim->requests.cnt) drop_request(sim, sim->requests.cnt - 1);
  for (size_t i = 0; i < sim->pending.cnt; i++) free(sim->pending.items[i].lease_ids);
  free(sim->disk.items);
  free(sim->memory.items);
  free(sim->lifelines.items);
  free(sim->pending.items);
  free(sim->conns.items);
  free(sim->requests.items);
  free(sim->events.items);
  free(sim->published.items);
  free(sim->called.items);
  sim_ckpts_free(sim);
  free(sim);
}
