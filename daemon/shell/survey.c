/* The problem: what is to be made is decided by what the machine has free at that moment, and to
   read that takes dozens of files of the kernel, most of a millisecond on a small machine, in which
   the loop could have answered fifty others.

   The model: one look at a time, by a thread, and all that wait when it begins are decided by it;
   who comes meanwhile waits for the next. A connection whose request waits is not read on, so its
   requests keep their order and one of each connection waits at most.

   Refuses: to keep a look. What is free changes with each request that it decides. */

#include "daemon/shell/survey.h"

#include "daemon/shell/serve.h"
#include "daemon/shell/topology.h"

#include <stdlib.h>

typedef struct waiter {
  struct waiter *next;
  engine_event_t event;
  rpc_call_t call;
} waiter_t;

struct survey {
  loop_t *loop;
  uv_work_t work;
  int looking;
  int pools_wanted, pools; /* the engine is to be told: by the next look; by the one under way */
  waiter_t *head, **tail;  /* for the next look */
  waiter_t *decided;       /* by the one under way */
  topo_t topo;
};

struct survey *survey_new(loop_t *loop) {
  struct survey *survey = calloc(1, sizeof *survey);
  if (!survey) return NULL;
  survey->loop = loop;
  survey->tail = &survey->head;
  survey->work.data = survey;
  return survey;
}

static void drop(waiter_t *waiter) {
  for (waiter_t *next; waiter; waiter = next) {
    next = waiter->next;
    rpc_call_free(&waiter->call);
    free(waiter);
  }
}

void survey_free(struct survey *survey) {
  if (!survey) return;
  drop(survey->head);
  drop(survey->decided);
  free(survey);
}

static void on_work(uv_work_t *work) {
  struct survey *survey = work->data;
  topology_read(&survey->topo);
}

static void start(struct survey *survey);

static void on_done(uv_work_t *work, int status) {
  struct survey *survey = work->data;
  for (waiter_t *waiter; (waiter = survey->decided);) {
    survey->decided = waiter->next;
    waiter->next = NULL;
    serve_surveyed(survey->loop, &waiter->event, &survey->topo);
    drop(waiter);
  }
  if (survey->pools) {
    engine_event_t event = {.kind = ENGINE_EV_POOLS};
    event.u.pools = &survey->topo;
    if (!survey->loop->stopped) loop_post(survey->loop, &event, NULL);
  }
  survey->looking = 0;
  start(survey);
}

static void start(struct survey *survey) {
  if (survey->looking || (!survey->head && !survey->pools_wanted)) return;
  survey->pools = survey->pools_wanted;
  survey->pools_wanted = 0;
  survey->decided = survey->head;
  survey->head = NULL;
  survey->tail = &survey->head;
  survey->looking = 1;
  if (uv_queue_work(&survey->loop->uv, &survey->work, on_work, on_done))
    loop_break(survey->loop, "no thread for a look at the machine");
}

int survey_request(loop_t *loop, engine_event_t const *event, rpc_call_t const *call) {
  struct survey *survey = loop->survey;
  waiter_t *waiter = malloc(sizeof *waiter);
  if (!waiter) return 1;
  *waiter = (waiter_t){.event = *event, .call = *call};
  *survey->tail = waiter;
  survey->tail = &waiter->next;
  start(survey);
  return 0;
}

void survey_pools(loop_t *loop) {
  loop->survey->pools_wanted = 1;
  start(loop->survey);
}
