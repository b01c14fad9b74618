/* oracle: what must hold outside the engine, whatever it thinks.

   After every step:
     memory in the fd store has a spec on disk, so no start finds memory that nobody knows
     a spec on disk that says ready has its memory, and no two of these have one name
     what the disk or the table of a workspace says that it has, has its pages
     no request is past its deadline, and the engine wants a tick in time for each
   With an effect: a reply says what is so; a worker works on memory that is there, and within the
   limits; nothing is dropped that a client still holds. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

void sim_broken(sim_t const *sim, char const *format, ...) {
  char text[512];
  va_list args;

  va_start(args, format);
  vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  fail_msg("step %lu: %s (WKSP_TEST_SEED=%lu)", sim->step_cnt, text, sim->seed);
  abort(); /* not reached: fail_msg jumps */
}

/* Whether one of them was restored in place, and the other came of it: a start knows which it is.
 */
static int are_one(spec_t const *a, spec_t const *b) {
  return a->replaces == b->ws_id || b->replaces == a->ws_id;
}

/* Whether one that is ready, and has its memory, says that it has taken its place. */
static int was_replaced(sim_t const *sim, uint64_t ws_id) {
  for (size_t i = 0; i < sim->disk.cnt; i++) {
    spec_t const *spec = &sim->disk.items[i].spec;
    if (spec->state == SPEC_READY && spec->replaces == ws_id && sim_in_memory(sim, spec->ws_id))
      return 1;
  }
  return 0;
}

static void check_store(sim_t *sim) {
  for (size_t i = 0; i < sim->memory.cnt; i++) {
    sim_memory_t const *memory = &sim->memory.items[i];
    size_t k = 0;
    while (k < sim->disk.cnt && sim->disk.items[k].ws_id != memory->ws_id) k++;
    if (k == sim->disk.cnt && !memory->orphan)
      sim_broken(sim, "memory of %lu has no spec", memory->ws_id);
  }
  for (size_t i = 0; i < sim->disk.cnt; i++) {
    sim_disk_t const *disk = &sim->disk.items[i];
    if (disk->spec.state != SPEC_READY || was_replaced(sim, disk->ws_id)) continue;
    if (!disk->doubtful && !sim_in_memory(sim, disk->ws_id))
      sim_broken(sim, "the disk says that %lu is ready, and its memory is gone", disk->ws_id);
    for (size_t k = 0; k < i; k++)
      if (sim->disk.items[k].spec.state == SPEC_READY &&
          !are_one(&sim->disk.items[k].spec, &disk->spec) &&
          !strcmp(sim->disk.items[k].spec.name, disk->spec.name))
        sim_broken(sim, "two on disk are called \"%s\"", disk->spec.name);
  }
}

static void check_deadlines(sim_t *sim) {
  uint64_t tick = sim->update.next_tick_mono_ns;
  for (size_t i = 0; i < sim->requests.cnt; i++) {
    sim_request_t const *request = &sim->requests.items[i];
    if (request->answered || !request->deadline_ns) continue;
    if (request->deadline_ns <= sim->mono_ns)
      sim_broken(sim, "%lu/%u is past its deadline", request->conn, request->stream);
    if (!tick || tick > request->deadline_ns)
      sim_broken(sim, "no tick is wanted for %lu/%u", request->conn, request->stream);
  }
}

void sim_check(sim_t *sim) {
  char const *broken = engine_check(sim->engine);
  if (broken) sim_broken(sim, "not so: %s", broken);
  check_store(sim);
  sim_check_sizes(sim);
  check_deadlines(sim);
}

static void check_refusal(sim_t *sim, engine_reply_t const *reply) {
  if (strlen(reply->sentence) < 10) sim_broken(sim, "a refusal without a sentence");
  if (!reply->detail_kind || !reply->detail_kind[0]) sim_broken(sim, "a refusal without a kind");
  for (char const *at = reply->sentence; *at; at++)
    if (*at < 0x20 || *at > 0x7e) sim_broken(sim, "a sentence that cannot be printed");
  if (!strchr("\1\3\4\5\6\7\10\11\15\16\17", reply->code))
    sim_broken(sim, "code %d is not one of ours", reply->code);
}

static void check_open(sim_t *sim, sim_request_t const *request) {
  sim_lifeline_t const *line = sim_lifeline(sim, request->reply.u.open.lease_id);
  spec_t const *spec = &request->view.spec;
  uint32_t uid = ~0U;
  int member = 0;

  for (size_t i = 0; i < sim->conns.cnt; i++) {
    sim_conn_t const *conn = &sim->conns.items[i];
    if (conn->conn != request->conn) continue;
    uid = conn->uid;
    member = conn->gid == spec->gid;
    for (uint32_t k = 0; k < conn->gid_cnt; k++) member |= conn->gids[k] == spec->gid;
  }
  uint32_t need = request->reply.u.open.mode == ENGINE_OPEN_RO ? 4 : 6;
  uint32_t have = member ? spec->mode >> 3 : spec->mode;
  if (uid && uid != spec->uid && (have & need) != need)
    sim_broken(sim, "uid %u opened \"%s\" of uid %u mode %o", uid, spec->name, spec->uid,
               spec->mode);
  if (!line || line->ws_id != spec->ws_id || line->mode != request->reply.u.open.mode)
    sim_broken(sim, "an open's lifeline is another's");
  if (!sim_in_memory(sim, spec->ws_id)) sim_broken(sim, "an open of no memory");
  if (request->view.quarantined || request->view.removing)
    sim_broken(sim, "an open of what is not served");
}

/* An answer to a call with an id: whatever became of the workspace since, it is about the one that
   the first good answer was about. 1: it was made before, and what it found may have been changed
   by others. */
static int check_repeat(sim_t *sim, sim_request_t const *request) {
  sim_call_t *called = request->req.call_id_len ? sim_called(sim, request->req.call_id) : NULL;
  uint64_t ws_id = request->view.spec.ws_id;

  if (!called || request->req.method == ENGINE_DELETE) return request->repeated;
  /* One that was restored in place goes on as another one. */
  int replaced = request->view.spec.replaces && called->ws_id < ws_id;
  if (called->ws_id && called->ws_id != ws_id && !replaced)
    sim_broken(sim, "a call was done to %lu, and again to %lu", called->ws_id, ws_id);
  called->ws_id = ws_id;
  return request->repeated;
}

void sim_check_reply(sim_t *sim, sim_request_t const *request) {
  engine_reply_t const *reply = &request->reply;

  if (reply->code != ENGINE_CODE_OK) {
    check_refusal(sim, reply);
    return;
  }
  if (check_repeat(sim, request)) return;
  if (request->deadline_ns && request->deadline_ns <= sim->mono_ns)
    sim_broken(sim, "success after the deadline");
  if (request->req.method == ENGINE_CREATE) {
    spec_t const *spec = sim_on_disk(sim, request->view.spec.ws_id);
    if (!spec || spec->state != SPEC_READY || !sim_in_memory(sim, spec->ws_id))
      sim_broken(sim, "a create was answered before it was done");
    if (memcmp(spec, &request->view.spec, sizeof(*spec)) != 0)
      sim_broken(sim, "a create's answer is not what is on disk");
  }
  if (request->req.method == ENGINE_DELETE && request->target && !reply->u.del.deferred) {
    spec_t const *spec = sim_on_disk(sim, request->target);
    if (sim_in_memory(sim, request->target)) sim_broken(sim, "a removed one's memory is there");
    if (spec && spec->state == SPEC_READY) sim_broken(sim, "a removed one is ready on disk");
  }
  if (request->req.method == ENGINE_RESIZE) {
    spec_t const *spec = sim_on_disk(sim, request->view.spec.ws_id);
    sim_memory_t const *memory = sim_memory(sim, request->view.spec.ws_id);
    uint64_t wanted = request->req.u.resize.size, size = request->view.spec.size;
    if (!spec || memcmp(spec, &request->view.spec, sizeof(*spec)) != 0)
      sim_broken(sim, "a resize's answer is not what is on disk");
    if (size < wanted || (size != spec->max_size && size - wanted >= 2097152))
      sim_broken(sim, "a resize to %lu came to %lu", wanted, size);
    if (memory->end != size || memory->filled != size)
      sim_broken(sim, "a resize to %lu left the end at %lu, pages up to %lu", size, memory->end,
                 memory->filled);
  }
  if (request->req.method == ENGINE_OPEN) check_open(sim, request);
  if (request->req.method == ENGINE_LIST)
    for (size_t i = 1; i < reply->u.list.workspace_cnt; i++)
      if (strcmp(request->views[i - 1].spec.name, request->views[i].spec.name) > 0)
        sim_broken(sim, "a list is not in the order of names");
}

void sim_check_worker(sim_t *sim, engine_effect_t const *effect) {
  uint64_t ws_id = effect->u.worker_start.ws_id;
  int op = effect->u.worker_start.op;
  uint32_t running_max =
      sim->config.jobs_running_max ? sim->config.jobs_running_max : ENGINE_JOBS_RUNNING_DEFAULT;

  if (!sim_in_memory(sim, ws_id)) sim_broken(sim, "a worker for memory that is gone");
  if (sim_waiting(sim, SIM_WORKER) >= running_max) sim_broken(sim, "too many workers");
  for (size_t i = 0; i < sim->pending.cnt; i++) {
    sim_pending_t const *other = &sim->pending.items[i];
    if (other->answer != SIM_WORKER || op == ENGINE_OP_QUERY) continue;
    int other_op = other->effect.u.worker_start.op;
    int turns = (op == ENGINE_OP_COMPACT || op == ENGINE_OP_RESIZE) &&
                (other_op == ENGINE_OP_COMPACT || other_op == ENGINE_OP_RESIZE);
    if (other->effect.u.worker_start.ws_id == ws_id && (other_op == op || turns) &&
        !other->cancelled)
      sim_broken(sim, "two workers do %d and %d on %lu", op, other_op, ws_id);
  }
  if (op == ENGINE_OP_QUERY && (!effect->u.worker_start.page_size ||
                                effect->u.worker_start.page_size > ENGINE_QUERY_PAGE_MAX))
    sim_broken(sim, "a query for %u partitions", effect->u.worker_start.page_size);
  if (op != ENGINE_OP_REAP) return;
  size_t cnt = effect->u.worker_start.lease_cnt;
  if (!cnt || cnt > ENGINE_REAP_LEASES_MAX) sim_broken(sim, "a reap of %zu leases", cnt);
  for (size_t i = 0; i < cnt; i++) {
    sim_lifeline_t const *line = sim_lifeline(sim, effect->u.worker_start.leases[i]);
    if (!line || !line->hung_up || line->ws_id != ws_id || line->mode != ENGINE_OPEN_RW)
      sim_broken(sim, "a reap of a lease that has not ended");
  }
}

void sim_check_drop(sim_t *sim, engine_effect_t const *effect) {
  if (effect->kind == ENGINE_FX_LEASE_DROP) {
    sim_lifeline_t const *line = sim_lifeline(sim, effect->u.lease_drop.lease_id);
    if (!line) sim_broken(sim, "a lease is dropped that is not there");
    if (line->with_client && sim_in_memory(sim, line->ws_id))
      sim_broken(sim, "lease %lu is dropped while its client holds it", line->lease_id);
    return;
  }
  uint64_t ws_id = effect->u.workspace.ws_id;
  if (!sim_in_memory(sim, ws_id)) sim_broken(sim, "memory is dropped that is not there");
  for (size_t i = 0; i < sim->lifelines.cnt; i++)
    if (sim->lifelines.items[i].ws_id == ws_id && sim->lifelines.items[i].with_client)
      sim_broken(sim, "memory of %lu is dropped while lease %lu is held", ws_id,
                 sim->lifelines.items[i].lease_id);
}
