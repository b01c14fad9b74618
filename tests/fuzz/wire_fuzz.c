/* A fuzzer's bytes as what a client sends: frames, envelopes, requests, and the engine that takes
   them.

   The first byte says in which pieces the rest comes. The frame reader gives whole frames; each is
   decoded as the daemon does it, and what is understood goes to an engine in which some users have
   some workspaces. What the engine wants done is answered at once, well or badly as the bytes say,
   so that each request runs to its end. After each frame the reader's invariants hold, after each
   input the engine's; every request has exactly one answer, whose text can be encoded.

   Built by clang with libFuzzer: wire_fuzz [options] CORPUS runs it, wire_fuzz FILE... replays. */

#include "daemon/core/engine.h"
#include "daemon/shell/rpc.h"
#include "ttrpc/ttrpc.h"
#include "wksp/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNS     3U
#define STEPS_MAX 512U /* answers of one input */

static void must(int holds, char const *what) {
  if (holds) return;
  fprintf(stderr, "not so: %s\n", what);
  abort();
}

typedef struct pending {
  int kind; /* of the effect */
  uint64_t id;
  uint64_t page_size;
  spec_t spec;
} pending_t;

typedef struct world {
  engine_t *engine;
  engine_update_t update;
  uint64_t now;
  pending_t pending[STEPS_MAX];
  size_t pending_cnt;
  unsigned asked, answered;
  uint8_t fate; /* how the next answer turns out */
} world_t;

static int answered_later(int kind) {
  return kind == ENGINE_FX_PERSIST || kind == ENGINE_FX_UNPERSIST || kind == ENGINE_FX_RETIRE ||
         kind == ENGINE_FX_MEMORY_MAKE || kind == ENGINE_FX_MEMORY_FILL ||
         kind == ENGINE_FX_MEMORY_PUNCH || kind == ENGINE_FX_LEASE_MAKE ||
         kind == ENGINE_FX_WORKER_START || kind == ENGINE_FX_SCHEDULE;
}

static void note(world_t *world, engine_effect_t const *effect) {
  pending_t *pending = &world->pending[world->pending_cnt];
  if (!answered_later(effect->kind)) return;
  must(world->pending_cnt < STEPS_MAX, "there are few effects");
  world->pending_cnt++;
  *pending = (pending_t){.kind = effect->kind};
  switch (effect->kind) {
  case ENGINE_FX_PERSIST:
  case ENGINE_FX_RETIRE:
    pending->id = effect->u.persist.ws_id;
    break;
  case ENGINE_FX_MEMORY_MAKE:
    pending->spec = effect->u.memory_make.spec;
    pending->id = pending->spec.ws_id;
    break;
  case ENGINE_FX_MEMORY_FILL:
  case ENGINE_FX_MEMORY_PUNCH:
    pending->id = effect->u.memory_resize.ws_id;
    pending->page_size = effect->u.memory_resize.page_size;
    break;
  case ENGINE_FX_LEASE_MAKE:
    pending->id = effect->u.lease_make.lease_id;
    break;
  case ENGINE_FX_WORKER_START:
    pending->id = effect->u.worker_start.job_id;
    break;
  case ENGINE_FX_SCHEDULE:
    memcpy(pending->spec.name, effect->u.schedule.schedule->name, sizeof(pending->spec.name));
    break;
  default:
    pending->id = effect->u.workspace.ws_id;
  }
}

static int printable(char const *text) {
  for (; *text; text++)
    if (*text < 0x20 || *text > 0x7e) return 0;
  return 1;
}

/* An answer as it is sent: every refusal can be encoded, and says something. */
static void reply(world_t *world, engine_reply_t const *reply) {
  size_t len;
  world->answered++;
  if (reply->code == ENGINE_CODE_OK) return;
  must(reply->sentence[0] && reply->detail_kind && reply->detail_kind[0], "a refusal says why");
  must(printable(reply->sentence) && printable(reply->detail_hint) &&
           printable(reply->detail_workspace),
       "a refusal is text in every language");
  uint8_t *bytes = rpc_encode_reply(reply, &len);
  must(bytes != NULL, "a refusal can be encoded");
  free(bytes);
}

static void step(world_t *world, engine_event_t *event) {
  event->now_mono_ns = world->now += 1000;
  event->now_real_ns = world->now;
  int outcome = engine_step(world->engine, event, &world->update);
  must(outcome >= 0, "no peer and no answer breaks the engine");
  for (size_t i = 0; i < world->update.effect_cnt; i++) {
    engine_effect_t const *effect = &world->update.effects[i];
    if (effect->kind == ENGINE_FX_REPLY) reply(world, effect->u.reply);
    note(world, effect);
  }
}

static void memory_made(pending_t const *pending, int fail, engine_event_t *event) {
  spec_t const *spec = &pending->spec;
  uint64_t page = spec->page_size ? spec->page_size : 4096;
  event->kind = ENGINE_EV_MEMORY_MADE;
  event->u.memory_made.ws_id = pending->id;
  event->u.memory_made.status = fail ? ENGINE_MEMORY_SHORT : ENGINE_MEMORY_OK;
  event->u.memory_made.node = -1;
  if (fail || spec->max_size > SPEC_SIZE_MAX - page) {
    event->u.memory_made.status = fail ? ENGINE_MEMORY_SHORT : ENGINE_MEMORY_FAILED;
    return;
  }
  event->u.memory_made.page_size = page;
  event->u.memory_made.size = (spec->size + page - 1) / page * page;
  event->u.memory_made.max_size = (spec->max_size + page - 1) / page * page;
  event->u.memory_made.data_max = page;
  event->u.memory_made.part_max = spec->part_max ? spec->part_max : SPEC_PART_MIN;
  event->u.memory_made.size_min = page;
  event->u.memory_made.layout_version = 1;
  event->u.memory_made.geometry_hash = 1;
}

/* The oldest effect that wants an answer gets one. */
static void answer(world_t *world) {
  pending_t pending = world->pending[0];
  engine_event_t event = {0};
  int fail = world->fate & 1;
  world->fate = (uint8_t)(world->fate >> 1);
  memmove(world->pending, world->pending + 1, --world->pending_cnt * sizeof(pending));
  switch (pending.kind) {
  case ENGINE_FX_PERSIST:
    event.kind = ENGINE_EV_PERSISTED;
    event.u.done.ws_id = pending.id;
    event.u.done.err = fail ? 28 : 0;
    break;
  case ENGINE_FX_MEMORY_MAKE:
    memory_made(&pending, fail, &event);
    break;
  case ENGINE_FX_MEMORY_FILL:
  case ENGINE_FX_MEMORY_PUNCH:
    event.kind = ENGINE_EV_MEMORY_RESIZED;
    event.u.memory_resized.ws_id = pending.id;
    event.u.memory_resized.page_size = pending.page_size;
    event.u.memory_resized.status = fail ? ENGINE_MEMORY_FAILED : ENGINE_MEMORY_OK;
    break;
  case ENGINE_FX_LEASE_MAKE:
    event.kind = ENGINE_EV_LEASE_MADE;
    event.u.lease_made.lease_id = pending.id;
    event.u.lease_made.err = fail ? 24 : 0;
    break;
  case ENGINE_FX_WORKER_START:
    event.kind = ENGINE_EV_WORKER_DONE;
    event.u.worker_done.job_id = pending.id;
    event.u.worker_done.status = fail ? ENGINE_WORKER_CRASHED : ENGINE_WORKER_TIMEOUT;
    break;
  case ENGINE_FX_SCHEDULE:
    event.kind = ENGINE_EV_SCHEDULE_WRITTEN;
    memcpy(event.u.schedule_written.name, pending.spec.name, sizeof(pending.spec.name));
    event.u.schedule_written.err = fail ? 28 : 0;
    break;
  default:
    event.kind = ENGINE_EV_REMOVED;
    event.u.done.ws_id = pending.id;
    event.u.done.err = fail ? 5 : 0;
  }
  step(world, &event);
}

static void settle(world_t *world) {
  for (unsigned i = 0; world->pending_cnt && i < STEPS_MAX; i++) answer(world);
}

static void request(world_t *world, uint64_t conn, uint32_t stream, engine_request_t const *req) {
  engine_event_t event = {.kind = ENGINE_EV_REQUEST};
  event.u.request.conn = conn;
  event.u.request.stream = stream;
  event.u.request.req = *req;
  if (req->method == ENGINE_CREATE)
    memcpy(event.u.request.req.u.create.uuid, &world->now, sizeof(world->now));
  world->asked++;
  step(world, &event);
}

/* Two users and root, each with a connection; the first has a workspace that the second may read.
 */
static void begin(world_t *world) {
  engine_event_t start = {.kind = ENGINE_EV_START}, end = {.kind = ENGINE_EV_RECOVERED_END};
  engine_request_t req = {.method = ENGINE_CREATE};
  *world = (world_t){.engine = engine_new(), .now = 1};
  must(world->engine != NULL, "there is memory");
  start.u.start.memory_bytes = 1UL << 40;
  step(world, &start);
  step(world, &end);
  for (uint32_t i = 0; i < CONNS; i++) {
    engine_event_t event = {.kind = ENGINE_EV_CONN_OPEN};
    event.u.conn_open.conn = i + 1;
    event.u.conn_open.uid = event.u.conn_open.gid = i * 1000;
    event.u.conn_open.pid = 1;
    step(world, &event);
  }
  strcpy(req.u.create.name, "w");
  req.u.create.size = 1 << 20;
  req.u.create.mode = 0644;
  request(world, 2, 1, &req);
  settle(world);
}

static void frame(world_t *world, ttrpc_frame_t const *got, uint64_t conn, uint32_t stream) {
  rpc_call_t call;
  rpc_refusal_t refusal;
  size_t len;
  if (got->oversize || got->header.type != TTRPC_REQUEST) return;
  if (rpc_decode(got->data, got->header.length, &call, &refusal)) {
    must(refusal.sentence[0] && printable(refusal.sentence), "a refusal says why, as text");
    uint8_t *bytes = rpc_encode_refusal(&refusal, &len);
    must(bytes != NULL, "a refusal can be encoded");
    free(bytes);
    return;
  }
  if (call.req.method != RPC_RELOAD) request(world, conn, stream, &call.req);
  rpc_call_free(&call);
}

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size);

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size) {
  world_t world;
  ttrpc_reader_t reader;
  uint32_t stream = 1;
  if (size < 2) return 0;
  size_t piece = data[0] % 64 ? data[0] % 64 : size;
  uint64_t conn = 1 + (data[0] >> 6) % CONNS;
  begin(&world);
  world.fate = data[1];
  ttrpc_reader_init(&reader, 4096);
  for (size_t at = 2; at < size;) {
    size_t left = size - at < piece ? size - at : piece;
    while (left) {
      ttrpc_frame_t got;
      size_t used;
      int whole = ttrpc_reader_feed(&reader, data + at, left, &used, &got);
      must(whole >= 0 && ttrpc_reader_check(&reader), "the frame reader is sound");
      if (!whole) used = left;
      at += used;
      left -= used;
      if (!whole) continue;
      frame(&world, &got, conn, stream += 2);
      if (stream & 2) settle(&world);
      if (world.pending_cnt > STEPS_MAX / 2) settle(&world);
    }
  }
  must(!engine_check(world.engine), "the engine is sound");
  settle(&world);
  for (uint64_t i = 1; i <= CONNS; i++) {
    engine_event_t event = {.kind = ENGINE_EV_CONN_CLOSED};
    event.u.conn.conn = i;
    step(&world, &event);
  }
  must(!engine_check(world.engine), "the engine is sound at the end");
  must(world.answered <= world.asked, "no request is answered twice");
  ttrpc_reader_free(&reader);
  engine_update_free(&world.update);
  engine_free(world.engine);
  return 0;
}
