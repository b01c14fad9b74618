/* ckpt: taking, listing, showing, checking and removing checkpoints.

   A request that takes as long as its bytes do is answered at once with the id of a job; what
   becomes of it is asked of that (watch.c). Of one workspace one checkpoint is taken at a time. All
   the reading and writing is a worker's, which gets the store's folder and no other: a store
   belongs to workspaces of one name and owner, one after the other.

   What is on disk is known from a listing at the start, unless there is no store; after that from
   what workers say that they have done. One that did not live to say it may have done it or not, so
   its store is listed again. Refuses to believe that a checkpoint is there before that. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

/* Levels of zstd that a store takes (wksp/ckpt.h). */
#define LEVEL_MIN (-7)
#define LEVEL_MAX 19

/* What is known
 * ------------------------------------------------------------------------------------------------
 */

static void fault_unknown_yet(engine_t const *e, engine_reply_t *ret_fault) {
  fault_set(ret_fault, ENGINE_CODE_UNAVAILABLE, "checkpoints",
            "it could not be read yet what checkpoints there are");
  fault_hint(ret_fault, "try again in %lu s; the daemon's log says what was in the way",
             ENGINE_DISK_RETRY_NS / 1000000000UL);
}

engine_request_t *request_copy(engine_request_t const *req) {
  char const *info = req->method == ENGINE_CHECKPOINT ? req->u.c.checkpoint.info : NULL;
  int restore = req->method == ENGINE_RESTORE;
  topo_t const *topo = restore ? req->u.c.restore.topo : NULL;
  size_t tags = restore ? req->u.c.restore.tag_cnt * sizeof(uint64_t) : 0;
  size_t text = info ? strnlen(info, ENGINE_INFO_MAX) + 1 : 0;
  engine_request_t *copy = malloc(sizeof(*copy) + text + tags + (topo ? sizeof(*topo) : 0));
  if (!copy) return NULL;
  *copy = *req;
  char *behind = (char *)(copy + 1);
  if (info) {
    memcpy(behind, info, text);
    behind[text - 1] = 0;
    copy->u.c.checkpoint.info = behind;
  }
  if (!restore) return copy;
  if (tags) memcpy(behind, req->u.c.restore.tags, tags);
  copy->u.c.restore.tags = (uint64_t const *)behind;
  if (topo) memcpy(behind + tags, topo, sizeof(*topo));
  if (topo) copy->u.c.restore.topo = (topo_t const *)(behind + tags);
  return copy;
}

int ckpt_not_yet(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  if (e->catalog_state == CATALOG_KNOWN) return 0;
  if (e->catalog_state == CATALOG_FAILED) {
    fault_unknown_yet(e, &fault);
    call_fail(e, call, &fault);
    return 1;
  }
  call->later = request_copy(req);
  if (!call->later) e->err = WKSP_E_NOMEM;
  return 1;
}

/* Begins, or fails, what has waited for the listing. */
static void wake_calls(engine_t *e, int known) {
  size_t place = 0;
  engine_reply_t fault;
  for (conn_t *conn; (conn = idmap_next(&e->calls.conns, &place));) {
    for (call_t *call = conn->calls, *next; call; call = next) {
      next = call->next;
      engine_request_t *req = call->later;
      if (!req || call->waits) continue;
      call->later = NULL;
      if (known) {
        engine_route(e, call, req);
      } else {
        fault_unknown_yet(e, &fault);
        call_fail(e, call, &fault);
      }
      free(req);
    }
  }
}

task_t *task_new(engine_t *e, int op, int by, spec_t const *of, uint32_t uid) {
  task_t *task = calloc(1, sizeof(*task));
  if (!task) {
    e->err = WKSP_E_NOMEM;
    return NULL;
  }
  task->view.op = op;
  task->view.by = by;
  task->view.state = ENGINE_TASK_QUEUED;
  task->view.uid = uid;
  task->view.asked_ns = e->now_real_ns;
  task->of = *of;
  memcpy(task->view.name, of->name, sizeof(task->view.name));
  return task;
}

/* Queues it. NULL (and err): no memory. */
static job_t *task_add(engine_t *e, ws_t *ws, task_t *task) {
  job_t *job = jobs_add_task(&e->jobs, ws, task);
  if (!job) e->err = WKSP_E_NOMEM;
  return job;
}

void ckpt_learn(engine_t *e, uint64_t store_id) {
  spec_t const all = {.ws_id = 0};
  task_t *task = task_new(e, ENGINE_OP_CKPT_LIST, SCHEDULE_BY_SLOT, &all, 0);
  if (!task) return;
  task->view.store_id = task->ask.store_id = store_id;
  task_add(e, NULL, task);
}

void ckpt_start(engine_t *e) {
  if (!e->config.no_ckpts) {
    ckpt_learn(e, 0);
    return;
  }
  e->catalog_state = CATALOG_KNOWN;
  cadence_start(e);
}

/* Those that a listing or a worker tells of. */
static void learn_all(engine_t *e, engine_event_t const *event) {
  size_t cnt = event->u.worker_done.ckpt_cnt;
  for (size_t i = 0; i < cnt && !e->err; i++) {
    engine_ckpt_t const *ckpt = &event->u.worker_done.ckpts[i];
    if (e->catalog.cnt >= ENGINE_CKPTS_MAX &&
        !catalog_find(&e->catalog, ckpt->store_id, ckpt->number)) {
      emit_log(e, ENGINE_LOG_WARN,
               "event=checkpoints-not-listed count=%zu reason=\"more than %u are too many\"",
               cnt - i, ENGINE_CKPTS_MAX);
      return;
    }
    engine_ckpt_t learned = *ckpt;
    engine_ckpt_t const *old = catalog_find(&e->catalog, ckpt->store_id, ckpt->number);
    if (old) { /* a listing reads manifests: of what they stand for less is known than before */
      learned.verified_ns = old->verified_ns;
      learned.drilled_ns = old->drilled_ns;
      learned.doubted = old->doubted;
      if (!learned.bad[0]) memcpy(learned.bad, old->bad, sizeof(learned.bad));
    }
    if (catalog_add(&e->catalog, &learned)) e->err = WKSP_E_NOMEM;
  }
}

static int order_of_numbers(void const *a, void const *b) {
  uint64_t one = *(uint64_t const *)a, two = *(uint64_t const *)b;
  return one < two ? -1 : one > two;
}

/* Forgets those of a store that a listing does not tell of. */
static void drop_unlisted(engine_t *e, uint64_t store_id, engine_event_t const *event) {
  size_t cnt = event->u.worker_done.ckpt_cnt;
  uint64_t *numbers = emit_alloc(e, cnt + 1, sizeof(*numbers));
  if (!numbers) return;
  for (size_t i = 0; i < cnt; i++) numbers[i] = event->u.worker_done.ckpts[i].number;
  qsort(numbers, cnt, sizeof(*numbers), order_of_numbers);
  for (size_t i = e->catalog.cnt; i-- > 0;) {
    engine_ckpt_t const *ckpt = e->catalog.items[i];
    if (ckpt->store_id == store_id &&
        !bsearch(&ckpt->number, numbers, cnt, sizeof(*numbers), order_of_numbers))
      catalog_remove(&e->catalog, store_id, ckpt->number);
  }
}

static void listed(engine_t *e, task_t const *task, engine_event_t const *event) {
  uint64_t store_id = task->ask.store_id;
  int ok = event->u.worker_done.status == ENGINE_WORKER_OK;
  if (ok) {
    if (!store_id) catalog_drop(&e->catalog, 0);
    if (store_id) drop_unlisted(e, store_id, event);
    learn_all(e, event);
    if (event->u.worker_done.detail)
      emit_log(e, ENGINE_LOG_ERROR, "event=checkpoints-unread reason=\"%s\"",
               event->u.worker_done.detail);
  } else {
    emit_log(e, ENGINE_LOG_ERROR, "event=checkpoints-unread store=%" PRIu64 " reason=\"%s\"",
             store_id, event->u.worker_done.detail ? event->u.worker_done.detail : "");
  }
  if (store_id || e->stopping) return;
  e->catalog_state = ok ? CATALOG_KNOWN : CATALOG_FAILED;
  wake_calls(e, ok);
  if (ok) {
    cadence_start(e);
    return;
  }
  e->catalog_timer.owner = e;
  e->catalog_timer.kind = TIMER_CATALOG;
  if (timers_start(&e->timers, &e->catalog_timer, e->now_mono_ns + ENGINE_DISK_RETRY_NS))
    e->err = WKSP_E_NOMEM;
}

/* Taking
 * ------------------------------------------------------------------------------------------------
 */

static int fault_how(engine_request_t const *req, engine_reply_t *ret_fault) {
  return fault_schedule_how(req->u.c.checkpoint.mode, req->u.c.checkpoint.style,
                            req->u.c.checkpoint.level, ret_fault);
}

int fault_schedule_how(int32_t mode, int32_t style, int32_t level, engine_reply_t *ret_fault) {
  if (mode < 0 || mode >= SCHEDULE_MODES) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "mode",
              "checkpoint mode %" PRId32 " is not one: it must be 0 (fuzzy) or 1 (quiesce)", mode);
    fault_hint(ret_fault, "say fuzzy or quiesce");
    return 1;
  }
  if (style < 0 || style >= SCHEDULE_STYLES) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "style",
              "style %" PRId32 " is not one: it must be 0 (raw), 1 (lz4) or 2 (zstd)", style);
    fault_hint(ret_fault, "say raw, lz4 or zstd");
    return 1;
  }
  if (level && (style != SCHEDULE_STYLE_ZSTD || level < LEVEL_MIN || level > LEVEL_MAX)) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "level",
              "level %" PRId32 " cannot be: only zstd has levels, from %d to %d, 0 for its own",
              level, LEVEL_MIN, LEVEL_MAX);
    fault_hint(ret_fault, "leave the level out");
    return 1;
  }
  return 0;
}

/* The store that a workspace's checkpoints go to: that of the last one of its name and owner, so
   that one which was restored goes on where it was. */
static uint64_t store_of(engine_t const *e, ws_t const *ws) {
  engine_ckpt_t const *last = catalog_newest(&e->catalog, ws->spec.name, 0, ws->spec.uid, NULL);
  return last ? last->store_id : ws->spec.ws_id;
}

job_t *ckpt_want(engine_t *e, ws_t *ws, int by, uint32_t uid, schedule_how_t how,
                 schedule_keep_t const *keep, char const *info) {
  task_t *task = task_new(e, ENGINE_OP_CHECKPOINT, by, &ws->spec, uid);
  if (!task) return NULL;
  size_t size = info ? strlen(info) + 1 : 1;
  task->info = calloc(1, size);
  if (task->info) memcpy(task->info, info ? info : "", size);
  if (!task->info) {
    e->err = WKSP_E_NOMEM;
    task_free(task);
    return NULL;
  }
  task->view.store_id = task->ask.store_id = store_of(e, ws);
  task->ask.how = how;
  task->ask.by = by;
  if (keep) task->ask.keep = *keep;
  task->ask.info = task->info;
  return task_add(e, ws, task);
}

static int fault_under_way(engine_t const *e, ws_t const *ws, engine_reply_t *ret_fault) {
  job_t const *job = jobs_of(&e->jobs, ws, ENGINE_OP_CHECKPOINT);
  if (!job) return 0;
  fault_set(ret_fault, ENGINE_CODE_UNAVAILABLE, "busy",
            "a checkpoint of workspace \"%s\" is being taken already, as job %" PRIu64,
            ws->spec.name, job->job_id);
  fault_workspace(ret_fault, ws->spec.name);
  fault_hint(ret_fault, "wait for job %" PRIu64 ", or cancel it", job->job_id);
  return 1;
}

static int fault_info(char const *info, engine_reply_t *ret_fault) {
  if (!info || strnlen(info, ENGINE_INFO_MAX) < ENGINE_INFO_MAX) return 0;
  fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "info",
            "the text of a checkpoint has at most %u bytes, and this one has more",
            ENGINE_INFO_MAX - 1);
  fault_hint(ret_fault, "give a shorter text");
  return 1;
}

void ckpt_begin(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  ws_t *ws = ws_lookup(e, req->u.c.checkpoint.name, &fault);
  schedule_how_t how = {req->u.c.checkpoint.mode, req->u.c.checkpoint.style,
                        req->u.c.checkpoint.level};

  if (!ws || fault_rights(&ws->spec, call->conn, WANT_READ | WANT_WRITE, &fault) ||
      fault_writable(ws, &fault) || fault_replaced(e, ws, &fault) || fault_how(req, &fault) ||
      fault_info(req->u.c.checkpoint.info, &fault) || fault_under_way(e, ws, &fault) ||
      fault_share_task(e, call->conn, &fault) ||
      fault_limit("checkpoints", e->catalog.cnt, ENGINE_CKPTS_MAX, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  job_t *job =
      ckpt_want(e, ws, SCHEDULE_BY_HAND, call->conn->uid, how, NULL, req->u.c.checkpoint.info);
  if (job) call_answer(e, call)->u.job.job_id = job->job_id;
}

/* A checkpoint has ended: for its schedule, and those who watch. */
static void taken(engine_t *e, job_t *job, engine_event_t const *event,
                  engine_reply_t const *fault) {
  engine_task_t *view = &job->task->view;
  schedule_run_t run = {.begin_ns = view->begun_ns ? view->begun_ns : e->now_real_ns,
                        .end_ns = e->now_real_ns,
                        .by = view->by,
                        .code = fault ? fault->code : 0,
                        .ckpt_id = view->number,
                        .bytes = event ? event->u.worker_done.written_size : 0};
  if (run.end_ns < run.begin_ns) run.end_ns = run.begin_ns; /* the clock was set back */
  emit_event(e, fault ? ENGINE_EVENT_CHECKPOINT_FAILED : ENGINE_EVENT_CHECKPOINTED, &job->task->of);
  if (fault)
    emit_log(e, ENGINE_LOG_WARN,
             "event=checkpoint-failed workspace=%s job=%" PRIu64 " by=%d reason=\"%s\"", view->name,
             job->job_id, view->by, fault->sentence);
  else
    emit_log(e, ENGINE_LOG_INFO,
             "event=checkpointed workspace=%s checkpoint=%" PRIu64 ".%" PRIx64 " job=%" PRIu64
             " by=%d written=%" PRIu64,
             view->name, view->store_id, view->number, job->job_id, view->by, run.bytes);
  if (job->ws) cadence_ended(e, view->name, job->ws->spec.uid, &run);
}

/* Looking
 * ------------------------------------------------------------------------------------------------
 */

/* A page token is NAME/ID of the last of the page before. 1, or 0. */
static int token_place(engine_t const *e, char const *token, size_t *ret_place) {
  char name[ENGINE_TEXT_MAX];
  uint64_t store_id, number;
  snprintf(name, sizeof(name), "%s", token);
  char *slash = strchr(name, '/');
  if (!slash) return 0;
  *slash = 0;
  if (!ckpt_id_parse(slash + 1, &store_id, &number)) return 0;
  *ret_place = catalog_after(&e->catalog, name, store_id, number);
  return 1;
}

static int fault_ckpt_list(engine_t const *e, engine_request_t const *req, size_t *ret_place,
                           engine_reply_t *ret_fault) {
  char const *name = req->u.c.ckpt_list.name, *token = req->u.c.ckpt_list.page_token;
  if (name[0] && fault_name(name, ret_fault)) return 1;
  if (req->u.c.ckpt_list.page_size > ENGINE_CKPTS_PAGE_MAX) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "page_size",
              "%" PRIu32 " checkpoints are too many for one answer: at most %u",
              req->u.c.ckpt_list.page_size, ENGINE_CKPTS_PAGE_MAX);
    fault_figures(ret_fault, req->u.c.ckpt_list.page_size, ENGINE_CKPTS_PAGE_MAX);
    fault_hint(ret_fault, "ask for pages of %u", ENGINE_CKPTS_PAGE_DEFAULT);
    return 1;
  }
  *ret_place = catalog_place(&e->catalog, name);
  if (!token[0] || token_place(e, token, ret_place)) return 0;
  fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "page_token",
            "\"%s\" is not a page token: it must be \"\" or the next_page_token of an answer",
            token);
  fault_hint(ret_fault, "start from the first page");
  return 1;
}

/* A copy in the update, its text too. */
static void ckpt_show(engine_t *e, engine_ckpt_t const *ckpt, engine_ckpt_t *ret_view) {
  size_t size = strlen(ckpt->info) + 1;
  char *info = emit_alloc(e, size, 1);
  *ret_view = *ckpt;
  if (info) memcpy(info, ckpt->info, size);
  ret_view->info = info ? info : "";
}

/* Of a bad one it is not known whose it is: that is for who administers. */
static int ckpt_sees(engine_ckpt_t const *ckpt, conn_t const *conn) {
  return ckpt->spec.name[0] ? rights_sees(&ckpt->spec, conn) : conn->admin;
}

void ckpt_list(engine_t *e, call_t *call, engine_request_t const *req) {
  char const *name = req->u.c.ckpt_list.name;
  size_t page = req->u.c.ckpt_list.page_size, place, cnt = 0;
  engine_reply_t fault;

  if (fault_ckpt_list(e, req, &place, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  if (!page) page = ENGINE_CKPTS_PAGE_DEFAULT;
  size_t left = e->catalog.cnt - place;
  engine_ckpt_t *views = emit_alloc(e, left < page ? left : page, sizeof(*views));
  if (!views) return;
  int more = 0;
  for (; place < e->catalog.cnt && !more; place++) {
    engine_ckpt_t const *ckpt = e->catalog.items[place];
    if (name[0] && strcmp(ckpt->spec.name, name) != 0) break;
    if (!ckpt_sees(ckpt, call->conn)) continue;
    if (cnt == page)
      more = 1;
    else
      ckpt_show(e, ckpt, &views[cnt++]);
  }
  engine_reply_t *reply = call_answer(e, call);
  reply->u.ckpt_list.ckpts = views;
  reply->u.ckpt_list.ckpt_cnt = cnt;
  if (more)
    snprintf(reply->u.ckpt_list.next_page_token, ENGINE_TEXT_MAX, "%s/%" PRIu64 ".%" PRIx64,
             views[cnt - 1].spec.name, views[cnt - 1].store_id, views[cnt - 1].number);
}

engine_ckpt_t *ckpt_lookup(engine_t *e, conn_t const *conn, char const *id, int want,
                           engine_reply_t *ret_fault) {
  uint64_t store_id, number;
  if (!ckpt_id_parse(id, &store_id, &number)) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "checkpoint",
              "\"%s\" is not the id of a checkpoint: it has two numbers, such as 17.1a1ff9b1d83",
              id);
    fault_hint(ret_fault, "list the checkpoints there are");
    return NULL;
  }
  engine_ckpt_t *ckpt = catalog_find(&e->catalog, store_id, number);
  if (ckpt && ckpt_sees(ckpt, conn))
    return ckpt->spec.name[0] && fault_rights(&ckpt->spec, conn, want, ret_fault) ? NULL : ckpt;
  fault_set(ret_fault, ENGINE_CODE_NOT_FOUND, "checkpoint", "there is no checkpoint %s", id);
  fault_hint(ret_fault, "list the checkpoints there are");
  return NULL;
}

void ckpt_look(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  int show = req->method == ENGINE_CKPT_SHOW, gone = req->method == ENGINE_CKPT_REMOVE;
  int drill = req->method == ENGINE_CKPT_VERIFY && req->u.c.ckpt.drill;
  engine_ckpt_t *ckpt =
      ckpt_lookup(e, call->conn, req->u.c.ckpt.id, gone ? WANT_DELETE : WANT_READ, &fault);

  if (!ckpt ||
      (show ? fault_share_job(e, call->conn, &fault) : fault_share_task(e, call->conn, &fault))) {
    call_fail(e, call, &fault);
    return;
  }
  if (drill) {
    job_t const *begun = drill_want(e, ckpt, SCHEDULE_BY_HAND, call->conn->uid);
    if (begun) call_answer(e, call)->u.job.job_id = begun->job_id;
    return;
  }
  task_t *task = task_new(e,
                          show   ? ENGINE_OP_CKPT_SHOW
                          : gone ? ENGINE_OP_CKPT_REMOVE
                                 : ENGINE_OP_CKPT_VERIFY,
                          SCHEDULE_BY_HAND, &ckpt->spec, call->conn->uid);
  if (!task) return;
  task->view.store_id = task->ask.store_id = ckpt->store_id;
  task->view.number = task->ask.number = ckpt->number;
  task->ask.verbose = req->u.c.ckpt.verbose;
  job_t *job = task_add(e, NULL, task);
  if (!job) return;
  if (!show && !gone) {
    call_answer(e, call)->u.job.job_id = job->job_id;
    return;
  }
  call->job = job;
  job->call = call;
  if (show) job->deadline_mono_ns = call->deadline.place ? call->deadline.due_ns : 0;
}

/* Ends
 * ------------------------------------------------------------------------------------------------
 */

void task_end(engine_t *e, job_t *job, int state, engine_reply_t const *fault) {
  task_t *task = job->task;
  task->view.state = state;
  task->view.ended_ns = e->now_real_ns;
  if (fault) {
    task->view.code = fault->code;
    snprintf(task->view.sentence, sizeof(task->view.sentence), "%s", fault->sentence);
    snprintf(task->view.hint, sizeof(task->view.hint), "%s", fault->detail_hint);
  }
  watch_end(e, task);
  if (task->view.op != ENGINE_OP_CKPT_LIST && task->view.op != ENGINE_OP_CKPT_SHOW)
    jobs_end_task(&e->jobs, job);
}

void ckpt_cancelled(engine_t *e, job_t *job) {
  engine_reply_t fault;
  fault_set(&fault, ENGINE_CODE_CANCELLED, "cancelled", "the job was cancelled%s",
            e->stopping ? ", for the daemon is stopping" : "");
  if (job->op == ENGINE_OP_CHECKPOINT) taken(e, job, NULL, &fault);
  if (job->op == ENGINE_OP_CKPT_DRILL) drill_ended(e, job, &fault);
  task_end(e, job, ENGINE_TASK_CANCELLED, &fault);
}

static void answer_look(engine_t *e, job_t *job, engine_event_t const *event) {
  call_t *call = job->call;
  engine_ckpt_t *view = NULL;
  if (job->op == ENGINE_OP_CKPT_REMOVE) {
    call_answer(e, call)->u.ckpt_remove.freed_size = event->u.worker_done.freed_size;
    return;
  }
  task_t const *task = job->task;
  engine_ckpt_t const *ckpt = catalog_find(&e->catalog, task->ask.store_id, task->ask.number);
  if (ckpt) view = emit_alloc(e, 1, sizeof(*view));
  if (view) ckpt_show(e, ckpt, view);
  engine_reply_t *reply = call_answer(e, call);
  reply->u.ckpt_show.ckpt = view;
  reply->u.ckpt_show.worker_result = event->u.worker_done.result;
}

/* What a worker has done to a store; also one that failed, for it may have done some. */
static void note_store(engine_t *e, job_t *job, engine_event_t const *event) {
  task_t *task = job->task;
  int ok = event->u.worker_done.status == ENGINE_WORKER_OK;
  if (job->op == ENGINE_OP_CKPT_VERIFY || job->op == ENGINE_OP_CKPT_DRILL)
    ckpt_verified(e, task, event);
  if (job->op != ENGINE_OP_CHECKPOINT && job->op != ENGINE_OP_CKPT_REMOVE) return;
  if (ok) {
    learn_all(e, event);
    if (event->u.worker_done.ckpt_cnt) task->view.number = event->u.worker_done.ckpts[0].number;
    for (size_t i = 0; i < event->u.worker_done.gone_cnt; i++)
      catalog_remove(&e->catalog, task->ask.store_id, event->u.worker_done.gone[i]);
  } else if (!e->stopping && e->catalog_state == CATALOG_KNOWN) {
    ckpt_learn(e, task->ask.store_id);
  }
}

void ckpt_done(engine_t *e, job_t *job, engine_event_t const *event) {
  task_t *task = job->task;
  call_t *call = job->call;
  engine_reply_t fault, *bad = NULL;

  if (call) call->job = NULL;
  if (job->op == ENGINE_OP_CKPT_LIST) {
    int cancelled = job->cancelled;
    job->task = NULL;
    jobs_remove(&e->jobs, job);
    if (!cancelled) listed(e, task, event);
    task_free(task);
    return;
  }
  note_store(e, job, event);
  if (job->op == ENGINE_OP_RESTORE) {
    restore_worked(e, job->ws, job, event);
    return;
  }
  if (event->u.worker_done.status != ENGINE_WORKER_OK) {
    fault_worker_of(task->view.name[0] ? task->view.name : "?", event, &fault);
    bad = &fault;
  }
  if (job->cancelled && bad) {
    ckpt_cancelled(e, job);
  } else {
    if (job->op == ENGINE_OP_CHECKPOINT) taken(e, job, event, bad);
    if (job->op == ENGINE_OP_CKPT_DRILL) drill_ended(e, job, bad);
    if (call && bad)
      call_fail(e, call, bad);
    else if (call)
      answer_look(e, job, event);
    if (!bad && event->u.worker_done.detail)
      snprintf(task->view.sentence, sizeof(task->view.sentence), "%s", event->u.worker_done.detail);
    task_end(e, job, bad ? ENGINE_TASK_FAILED : ENGINE_TASK_DONE, bad);
  }
  jobs_remove(&e->jobs, job);
}
