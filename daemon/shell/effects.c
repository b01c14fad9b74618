/* The problem: the engine's effects are data; somebody must do them.

   The model: one case for each kind, one call each. An effect that must be answered and cannot even
   be begun for want of memory breaks the daemon: the next start recovers from what is persisted.

   Refuses: to decide anything. */

#include "daemon/shell/effects.h"

#include "daemon/shell/diskq.h"
#include "daemon/shell/ids.h"
#include "daemon/shell/lifeline.h"
#include "daemon/shell/runner.h"
#include "daemon/shell/serve.h"
#include "daemon/shell/wsmem.h"

#include <string.h>

/* The engine's line begins with event=<word>. */
static void put_log(loop_t *loop, engine_effect_t const *effect) {
  char const *text = effect->u.log.text;
  char word[48] = "engine";
  log_level_t level = effect->u.log.level == ENGINE_LOG_ERROR  ? LOG_LEVEL_ERROR
                      : effect->u.log.level == ENGINE_LOG_WARN ? LOG_LEVEL_WARN
                                                               : LOG_LEVEL_INFO;
  if (!strncmp(text, "event=", 6)) {
    size_t len = strcspn(text + 6, " ");
    if (len && len < sizeof word) {
      memcpy(word, text + 6, len);
      word[len] = '\0';
      text += 6 + len;
      if (*text) text++;
    }
  }
  if (effect->u.log.by_peer) {
    serve_log(loop, effect->u.log.uid, word, text);
    return;
  }
  uint32_t dropped = 0;
  if (level == LOG_LEVEL_WARN && !log_rate_ok(&loop->warnings, uv_hrtime(), &dropped)) return;
  if (dropped) log_warn(loop->log, "warnings-dropped", "count=%u", dropped);
  log_event(loop->log, level, word, "%s", text);
}

static int make_lease(loop_t *loop, engine_effect_t const *effect) {
  lifeline_record_t record = {.magic = LIFELINE_MAGIC,
                              .lease_id = effect->u.lease_make.lease_id,
                              .ws_id = effect->u.lease_make.ws_id,
                              .mode = effect->u.lease_make.mode,
                              .pid = effect->u.lease_make.pid,
                              .uid = effect->u.lease_make.uid,
                              .gid = effect->u.lease_make.gid};
  lifeline_make(loop, &record);
  return 0;
}

static int make_memory(loop_t *loop, engine_effect_t const *effect) {
  return wsmem_make(loop, &effect->u.memory_make.spec, effect->u.memory_make.part_min);
}

static int go_on(loop_t *loop, engine_effect_t const *effect) {
  return effect->kind == ENGINE_FX_LEASE_MAKE ? make_lease(loop, effect)
                                              : make_memory(loop, effect);
}

void effects_go_on(loop_t *loop, engine_effect_t const *effect) {
  if (go_on(loop, effect)) loop_break(loop, "no memory to carry out what was decided");
}

/* Ids must be known to be used before anybody sees them. */
static int number(loop_t *loop, engine_effect_t const *effect) {
  int took = ids_take(loop, effect);
  return took > 0 ? go_on(loop, effect) : took < 0;
}

/* 0, or 1: it cannot be answered. */
static int apply(loop_t *loop, engine_effect_t const *effect) {
  switch ((enum engine_effect_kind)effect->kind) {
  case ENGINE_FX_PERSIST:
    return diskq_put(loop, &effect->u.persist);
  case ENGINE_FX_UNPERSIST:
    return wsmem_unpersist(loop, effect->u.workspace.ws_id, NULL);
  case ENGINE_FX_RETIRE:
    return wsmem_unpersist(loop, effect->u.persist.ws_id, &effect->u.persist);
  case ENGINE_FX_FORGET:
    return diskq_forget(loop, effect->u.workspace.ws_id);
  case ENGINE_FX_SCHEDULE:
    return diskq_schedule(loop, effect->u.schedule.schedule, effect->u.schedule.drop);
  case ENGINE_FX_CKPT_NOTES:
    return diskq_notes(loop, effect);
  case ENGINE_FX_STREAM_TASK:
    serve_task(loop, effect);
    return 0;
  case ENGINE_FX_MEMORY_MAKE:
  case ENGINE_FX_LEASE_MAKE:
    return number(loop, effect);
  case ENGINE_FX_MEMORY_CANCEL:
    ids_cancel(loop, effect->u.workspace.ws_id);
    wsmem_cancel(loop, effect->u.workspace.ws_id);
    return 0;
  case ENGINE_FX_MEMORY_FILL:
  case ENGINE_FX_MEMORY_PUNCH:
    return wsmem_resize(loop, effect);
  case ENGINE_FX_MEMORY_DROP:
    wsmem_drop(loop, effect->u.workspace.ws_id);
    return 0;
  case ENGINE_FX_LEASE_DROP:
    lifeline_drop(loop, effect->u.lease_drop.lease_id);
    return 0;
  case ENGINE_FX_REPLY:
    serve_reply(loop, effect->u.reply);
    return 0;
  case ENGINE_FX_STREAM_EVENT:
    serve_event(loop, effect);
    return 0;
  case ENGINE_FX_WORKER_START:
    return runner_start(loop, effect);
  case ENGINE_FX_WORKER_CANCEL:
    runner_cancel(loop, effect->u.worker_cancel.job_id);
    return 0;
  case ENGINE_FX_CLOSE_CONN:
    serve_close(loop, effect->u.close_conn.conn, effect->u.close_conn.why);
    return 0;
  case ENGINE_FX_LOG:
    put_log(loop, effect);
    return 0;
  }
  return 1;
}

void effects_apply(loop_t *loop) {
  for (size_t i = 0; i < loop->update.effect_cnt; i++) {
    if (apply(loop, &loop->update.effects[i])) {
      loop_break(loop, "no memory to carry out what was decided");
      return;
    }
  }
}
