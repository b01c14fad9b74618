/* The problem: a number that was given out must never be given out again, so it has to be on disk
   first, and the disk takes the time that it likes while the loop has other clients.

   The model: one write at a time, by a thread, reserves a block of numbers. It begins when half of
   the last block is used, so that mostly nobody waits for it; who comes to the end of the block
   before it is done waits in the order of coming. The file is no other's, so it is not queued
   behind specs (diskq.c).

     what is carried out has a number <= that of a write which is done

   Refuses: to try again. Who waits for a write that fails is told so, and who comes next begins
   another. */

#include "daemon/shell/ids.h"

#include "daemon/shell/effects.h"

#include <stdlib.h>
#include <string.h>

typedef struct waiter {
  struct waiter *next;
  int cancelled;
  engine_effect_t effect;
} waiter_t;

struct ids {
  loop_t *loop;
  uv_work_t work;
  int writing, err;
  uint64_t ws, lease; /* what is being reserved */
  waiter_t *head, **tail;
};

struct ids *ids_new(loop_t *loop) {
  struct ids *ids = calloc(1, sizeof *ids);
  if (!ids) return NULL;
  ids->loop = loop;
  ids->tail = &ids->head;
  ids->work.data = ids;
  return ids;
}

void ids_free(struct ids *ids) {
  if (!ids) return;
  for (waiter_t *waiter = ids->head, *next; waiter; waiter = next) {
    next = waiter->next;
    free(waiter);
  }
  free(ids);
}

static uint64_t lease_of(engine_effect_t const *effect) {
  return effect->kind == ENGINE_FX_LEASE_MAKE ? effect->u.lease_make.lease_id : 0;
}

static uint64_t ws_of(engine_effect_t const *effect) {
  return effect->kind == ENGINE_FX_MEMORY_MAKE ? effect->u.memory_make.spec.ws_id : 0;
}

static void answer(loop_t *loop, waiter_t const *waiter, int err) {
  char const *detail = waiter->cancelled
                           ? "it was not wanted any more"
                           : "the daemon cannot write its ids file: is the disk full?";
  uint64_t lease_id = lease_of(&waiter->effect);
  engine_event_t event = {.kind = lease_id ? ENGINE_EV_LEASE_MADE : ENGINE_EV_MEMORY_MADE};
  if (lease_id) {
    event.u.lease_made.lease_id = lease_id;
    event.u.lease_made.err = err;
    event.u.lease_made.detail = detail;
  } else {
    event.u.memory_made.ws_id = ws_of(&waiter->effect);
    event.u.memory_made.status = waiter->cancelled ? ENGINE_MEMORY_CANCELLED : ENGINE_MEMORY_FAILED;
    event.u.memory_made.node = -1;
    event.u.memory_made.detail = detail;
  }
  loop_post(loop, &event, NULL);
}

static void on_work(uv_work_t *work) {
  struct ids *ids = work->data;
  ids->err = store_ids_put(&ids->loop->store, ids->ws, ids->lease);
}

static void on_done(uv_work_t *work, int status);

/* A block behind these numbers. */
static void reserve(struct ids *ids, uint64_t ws_id, uint64_t lease_id) {
  store_t const *store = &ids->loop->store;
  if (ids->writing) return;
  ids->ws = store_ids_block(store->ws_reserved, ws_id, STORE_WS_BLOCK);
  ids->lease = store_ids_block(store->lease_reserved, lease_id, STORE_LEASE_BLOCK);
  if (ids->ws == store->ws_reserved && ids->lease == store->lease_reserved) return;
  ids->writing = 1;
  if (uv_queue_work(&ids->loop->uv, &ids->work, on_work, on_done))
    loop_break(ids->loop, "no thread for writing ids");
}

/* Carries out what is covered now; who came too late for this write waits for the next. */
static void on_done(uv_work_t *work, int status) {
  struct ids *ids = work->data;
  loop_t *loop = ids->loop;
  uint32_t dropped;
  int err = ids->err;
  size_t left = 0;
  ids->writing = 0;
  if (!err) {
    loop->store.ws_reserved = ids->ws;
    loop->store.lease_reserved = ids->lease;
  } else if (log_rate_ok(&loop->warnings, uv_hrtime(), &dropped)) {
    log_error(loop->log, "ids", "error=%s", log_text(strerror(err)).text);
  }
  for (waiter_t *waiter = ids->head; waiter; waiter = waiter->next) left++;
  while (left--) {
    waiter_t *waiter = ids->head;
    ids->head = waiter->next;
    if (!ids->head) ids->tail = &ids->head;
    if (err || waiter->cancelled)
      answer(loop, waiter, err);
    else
      effects_go_on(loop, &waiter->effect);
    free(waiter);
  }
}

int ids_take(loop_t *loop, engine_effect_t const *effect) {
  struct ids *ids = loop->ids;
  uint64_t ws_id = ws_of(effect), lease_id = lease_of(effect);
  store_t const *store = &loop->store;
  int covered = ws_id <= store->ws_reserved && lease_id <= store->lease_reserved;
  if (covered) {
    uint64_t half_ws = ws_id ? ws_id + STORE_WS_BLOCK / 2 : 0;
    uint64_t half_lease = lease_id ? lease_id + STORE_LEASE_BLOCK / 2 : 0;
    if (half_ws > store->ws_reserved || half_lease > store->lease_reserved)
      reserve(ids, half_ws, half_lease);
    return 1;
  }
  waiter_t *waiter = malloc(sizeof *waiter);
  if (!waiter) return -1;
  *waiter = (waiter_t){.effect = *effect};
  *ids->tail = waiter;
  ids->tail = &waiter->next;
  reserve(ids, ws_id, lease_id);
  return 0;
}

void ids_cancel(loop_t *loop, uint64_t ws_id) {
  for (waiter_t *waiter = loop->ids->head; waiter; waiter = waiter->next)
    if (ws_of(&waiter->effect) == ws_id) waiter->cancelled = 1;
}
