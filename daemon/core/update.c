/* update: how effects are written down. Effects stand in one growing array; what they point to (the
   replies, lists of workspaces, tags) in chunks that are freed with the next reset, so a pointer in
   an effect stays good while the array grows. Refuses to merge or reorder: the shell sees effects
   in the order in which the rules decided them. */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

#define EFFECTS_CAP_MIN 16UL

/* An update that grew beyond this for a burst of events is given back with the next reset: 1,024
   effects are what one event to all watches takes. */
#define EFFECTS_CAP_KEEP 1024UL

struct engine_chunk {
  struct engine_chunk *next;
  _Alignas(max_align_t) unsigned char bytes[];
};

void engine_update_reset(engine_update_t *update) {
  while (update->chunks) {
    struct engine_chunk *chunk = update->chunks;
    update->chunks = chunk->next;
    free(chunk);
  }
  if (update->effect_max > EFFECTS_CAP_KEEP) {
    free(update->effects);
    update->effects = NULL;
    update->effect_max = 0;
  }
  update->effect_cnt = 0;
  update->next_tick_mono_ns = 0;
  update->stopped = 0;
}

void engine_update_free(engine_update_t *update) {
  engine_update_reset(update);
  free(update->effects);
  *update = (engine_update_t){0};
}

engine_effect_t *emit(engine_t *e, int kind) {
  engine_update_t *update = e->update;

  if (update->effect_cnt == update->effect_max) {
    size_t max = update->effect_max ? update->effect_max * 2 : EFFECTS_CAP_MIN;
    engine_effect_t *effects = realloc(update->effects, max * sizeof(*effects));
    if (!effects) {
      e->err = WKSP_E_NOMEM;
      return &e->scratch_effect;
    }
    update->effects = effects;
    update->effect_max = max;
  }
  engine_effect_t *effect = &update->effects[update->effect_cnt++];
  memset(effect, 0, sizeof(*effect));
  effect->kind = kind;
  return effect;
}

void *emit_alloc(engine_t *e, size_t cnt, size_t size) {
  size_t bytes;
  struct engine_chunk *chunk = NULL;

  if (!__builtin_mul_overflow(cnt, size, &bytes) &&
      !__builtin_add_overflow(bytes, sizeof(*chunk), &bytes))
    chunk = calloc(1, bytes);
  if (!chunk) {
    e->err = WKSP_E_NOMEM;
    return NULL;
  }
  chunk->next = e->update->chunks;
  e->update->chunks = chunk;
  return chunk->bytes;
}

void emit_persist(engine_t *e, ws_t *ws, int state) {
  ws->spec.state = state;
  ws->awaiting = 1;
  e->await_cnt++;
  emit(e, ENGINE_FX_PERSIST)->u.persist = ws->spec;
}

void emit_unpersist(engine_t *e, ws_t *ws) {
  ws->awaiting = 1;
  e->await_cnt++;
  if (ws->spec.state == SPEC_GONE)
    emit(e, ENGINE_FX_RETIRE)->u.persist = ws->spec;
  else
    emit(e, ENGINE_FX_UNPERSIST)->u.workspace.ws_id = ws->spec.ws_id;
}

void emit_memory_drop(engine_t *e, ws_t *ws) {
  if (!ws->has_memory) return;
  ws->has_memory = 0;
  emit(e, ENGINE_FX_MEMORY_DROP)->u.workspace.ws_id = ws->spec.ws_id;
}

void emit_lease_drop(engine_t *e, lease_t const *lease) {
  engine_effect_t *effect = emit(e, ENGINE_FX_LEASE_DROP);
  effect->u.lease_drop.lease_id = lease->lease_id;
  effect->u.lease_drop.ws_id = lease->ws->spec.ws_id;
}

/* The last field of a line may be quoted: what it quotes must not end it, and a cut line must. */
static void keep_quoted(char *text) {
  char *value = strstr(text, "=\"");
  if (!value) return;
  char *end = text + strlen(text) - 1;
  for (char *at = value + 2; at < end; at++) {
    if (*at == '"') *at = '\'';
  }
  if (end > value + 1) *end = '"';
}

engine_effect_t *emit_log(engine_t *e, int level, char const *format, ...) {
  engine_effect_t *effect = emit(e, ENGINE_FX_LOG);
  char text[ENGINE_LOG_MAX];
  va_list args;

  va_start(args, format);
  vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  effect->u.log.level = level;
  text_printable(text, effect->u.log.text, sizeof(effect->u.log.text));
  keep_quoted(effect->u.log.text);
  return effect;
}

void emit_event(engine_t *e, int kind, spec_t const *spec) {
  char const *name = spec->name;

  for (call_t const *watch = e->calls.watches; watch; watch = watch->w_next) {
    if (watch->method != ENGINE_WATCH) continue;
    if (watch->name[0] && strcmp(watch->name, name) != 0) continue;
    if (!rights_sees(spec, watch->conn)) continue;
    engine_effect_t *effect = emit(e, ENGINE_FX_STREAM_EVENT);
    effect->u.stream_event.conn = watch->conn->conn;
    effect->u.stream_event.stream = watch->stream;
    effect->u.stream_event.kind = kind;
    snprintf(effect->u.stream_event.name, sizeof(effect->u.stream_event.name), "%s", name);
    effect->u.stream_event.time_ns = e->now_real_ns;
  }
}

/* The effect and the reply it points to, which the caller fills. Never NULL. */
static engine_reply_t *emit_reply(engine_t *e) {
  engine_reply_t *reply = emit_alloc(e, 1, sizeof(*reply));
  if (!reply) reply = &e->scratch_reply;
  emit(e, ENGINE_FX_REPLY)->u.reply = reply;
  return reply;
}

engine_reply_t *call_answer(engine_t *e, call_t *call) {
  engine_reply_t *reply = emit_reply(e);

  reply->conn = call->conn->conn;
  reply->stream = call->stream;
  reply->method = call->method;
  reply->detail_kind = "";
  reply->detail_node = -1;
  timers_stop(&e->timers, &call->deadline);
  calls_remove(&e->calls, call);
  return reply;
}

void call_fail(engine_t *e, call_t *call, engine_reply_t const *fault) {
  engine_reply_t *reply = emit_reply(e);

  *reply = *fault;
  reply->conn = call->conn->conn;
  reply->stream = call->stream;
  reply->method = call->method;
  e->refused_cnt++;
  audit_refusal(e, call->conn, call->method, fault);
  timers_stop(&e->timers, &call->deadline);
  calls_remove(&e->calls, call);
}

void request_refuse(engine_t *e, engine_event_t const *event, engine_reply_t const *fault) {
  engine_reply_t *reply = emit_reply(e);

  *reply = *fault;
  reply->conn = event->u.request.conn;
  reply->stream = event->u.request.stream;
  reply->method = event->u.request.req.method;
  e->refused_cnt++;
  audit_refusal(e, calls_conn(&e->calls, event->u.request.conn), reply->method, fault);
}

void call_fault_later(engine_t *e, call_t *call, engine_reply_t const *fault) {
  if (!call->fault) call->fault = malloc(sizeof(*call->fault));
  if (call->fault)
    *call->fault = *fault;
  else
    e->err = WKSP_E_NOMEM;
}
