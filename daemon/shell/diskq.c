/* The problem: an fsync takes as long as the disk likes, and the end of a large memory as long as
   the kernel does, and the loop has other clients.

   The model: a queue and one thread pool item at a time, so that a removal never overtakes a write
   of the same spec.

   Refuses: to retry; that is the engine's decision. */

#include "daemon/shell/diskq.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct item {
  struct item *next;
  int put;                   /* else remove */
  int answer;                /* ENGINE_EV_PERSISTED, _REMOVED; 0: none */
  spec_t spec;               /* put; remove: ws_id alone */
  schedule_t *schedule;      /* NULL: it is about a spec; put, or else remove. Owned */
  engine_ckpt_note_t *notes; /* NULL: it is not about these. Owned */
  size_t note_cnt;
  uint64_t store_id;
  int fd; /* to be closed, and nothing else; -1: none */
  int err;
  char detail[STORE_DETAIL_MAX];
} item_t;

struct diskq {
  loop_t *loop;
  uv_work_t work;
  item_t *head, **tail;
  int running;
};

static void start(struct diskq *diskq);

struct diskq *diskq_new(loop_t *loop) {
  struct diskq *diskq = calloc(1, sizeof *diskq);
  if (!diskq) return NULL;
  diskq->loop = loop;
  diskq->tail = &diskq->head;
  diskq->work.data = diskq;
  return diskq;
}

void diskq_free(struct diskq *diskq) {
  free(diskq);
}

static void on_work(uv_work_t *work) {
  struct diskq *diskq = work->data;
  item_t *item = diskq->head;
  store_t const *store = &diskq->loop->store;
  if (item->fd >= 0) {
    close(item->fd);
    return;
  }
  if (item->schedule) {
    item->err = item->put ? store_schedule_put(store, item->schedule, item->detail)
                          : store_schedule_remove(store, item->schedule->name, item->detail);
    return;
  }
  if (item->notes) {
    item->err = store_notes_put(store, item->store_id, item->notes, item->note_cnt, item->detail);
    return;
  }
  item->err = item->put ? store_put(store, &item->spec, item->detail)
                        : store_remove(store, item->spec.ws_id, item->detail);
}

static void on_done(uv_work_t *work, int status) {
  struct diskq *diskq = work->data;
  item_t *item = diskq->head;
  diskq->head = item->next;
  if (!diskq->head) diskq->tail = &diskq->head;
  diskq->running = 0;
  start(diskq);
  if (!item->answer) {
    if (item->err)
      log_warn(diskq->loop->log, item->notes ? "checkpoint-notes" : "spec", "error=%s",
               log_text(item->detail).text);
    free(item->notes);
    free(item);
    return;
  }
  engine_event_t event = {.kind = item->answer};
  if (item->schedule) {
    memcpy(event.u.schedule_written.name, item->schedule->name, SPEC_NAME_MAX + 1);
    event.u.schedule_written.err = item->err;
    event.u.schedule_written.detail = item->err ? item->detail : NULL;
    free(item->schedule);
    loop_post(diskq->loop, &event, item);
    return;
  }
  event.u.done.ws_id = item->spec.ws_id;
  event.u.done.err = item->err;
  event.u.done.detail = item->err ? item->detail : NULL;
  loop_post(diskq->loop, &event, item);
}

static void start(struct diskq *diskq) {
  if (diskq->running || !diskq->head) return;
  diskq->running = 1;
  if (uv_queue_work(&diskq->loop->uv, &diskq->work, on_work, on_done)) {
    loop_break(diskq->loop, "no thread for writing specs");
  }
}

static void queue(loop_t *loop, item_t *item) {
  *loop->diskq->tail = item;
  loop->diskq->tail = &item->next;
  start(loop->diskq);
}

static int add(loop_t *loop, uint64_t ws_id, spec_t const *put, int answer) {
  item_t *item = calloc(1, sizeof *item);
  if (!item) return 1;
  item->fd = -1;
  item->answer = answer;
  item->put = put != NULL;
  if (put) item->spec = *put;
  item->spec.ws_id = ws_id;
  queue(loop, item);
  return 0;
}

int diskq_schedule(loop_t *loop, schedule_t const *schedule, int drop) {
  item_t *item = calloc(1, sizeof *item);
  schedule_t *copy = malloc(sizeof *copy);
  if (!item || !copy) {
    free(item);
    free(copy);
    return 1;
  }
  *copy = *schedule;
  item->fd = -1;
  item->answer = ENGINE_EV_SCHEDULE_WRITTEN;
  item->put = !drop;
  item->schedule = copy;
  queue(loop, item);
  return 0;
}

void diskq_close(loop_t *loop, int fd) {
  item_t *item = calloc(1, sizeof *item);
  if (!item) {
    close(fd); /* it takes as long as it takes */
    return;
  }
  item->fd = fd;
  queue(loop, item);
}

int diskq_notes(loop_t *loop, engine_effect_t const *effect) {
  size_t cnt = effect->u.ckpt_notes.note_cnt;
  item_t *item = calloc(1, sizeof *item);
  engine_ckpt_note_t *copy = malloc((cnt + 1) * sizeof *copy);
  if (!item || !copy) {
    free(item);
    free(copy);
    return 1;
  }
  if (cnt) memcpy(copy, effect->u.ckpt_notes.notes, cnt * sizeof *copy);
  item->fd = -1;
  item->notes = copy;
  item->note_cnt = cnt;
  item->store_id = effect->u.ckpt_notes.store_id;
  queue(loop, item);
  return 0;
}

int diskq_put(loop_t *loop, spec_t const *spec) {
  return add(loop, spec->ws_id, spec, ENGINE_EV_PERSISTED);
}

int diskq_remove(loop_t *loop, uint64_t ws_id, spec_t const *gone) {
  return add(loop, ws_id, gone, ENGINE_EV_REMOVED);
}

int diskq_forget(loop_t *loop, uint64_t ws_id) {
  return add(loop, ws_id, NULL, 0);
}
