/* restore: a workspace that comes from a checkpoint.

   It is made like any other (create.c), with one step more:

     1. name, uuid, dimensions of the checkpoint; PERSIST state making
     2. MEMORY_MAKE, blank
     3. a worker puts the checkpoint in, and verifies what came of it
     4. PERSIST state ready
     5. published

   Nobody sees it before 5; whatever fails, or a restart before 4, undoes all of it, and the
   checkpoint is as it was. Its job exists from 1 on, so that it can be looked after and cancelled.

   A workspace whose memory was lost comes back by itself if its schedule says so: from its newest
   checkpoint, or, if that turns out to be damaged, from the one before it. Refuses to put anything
   into a workspace that there is: a restore in place is made beside it (replace.c). */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

/* The fewest partitions of a workspace that gets another max-size: each that there is may have a
   free one beside it, and a few more can come. */
#define REFIT_PARTS(part_cnt) (2 * (part_cnt) + 64)

/* What a restore is asked for, by a request or by a schedule. */
typedef struct want {
  engine_ckpt_t const *ckpt;
  char const *name; /* of what comes of it */
  uint8_t const *uuid;
  uint32_t uid, gid; /* its owner */
  uint64_t page_size;
  uint64_t size, max_size; /* 0: as it was */
  uint64_t const *tags;
  size_t tag_cnt;
  int seed_set;
  uint32_t seed;
  int by;
  char const *numa; /* where its pages are to be */
  char nodes[SPEC_NUMA_MAX + 1];
  int strict;
  ws_t *old; /* in whose place it comes; NULL: none */
} want_t;

/* The sizes that it is to have. */
typedef struct sizes {
  uint64_t size, max_size;
  int other; /* its max-size is another one than it was */
} sizes_t;

static sizes_t sizes_of(want_t const *want) {
  engine_ckpt_t const *ckpt = want->ckpt;
  sizes_t sizes = {.size = want->size ? want->size : ckpt->size, .max_size = want->max_size};
  if (!sizes.max_size) {
    sizes.max_size = ckpt->spec.max_size > ckpt->footprint ? ckpt->spec.max_size : ckpt->footprint;
    if (sizes.max_size < sizes.size) sizes.max_size = sizes.size;
    sizes.other = want->size > ckpt->spec.max_size && want->size > ckpt->footprint;
    return sizes;
  }
  sizes.other = want->max_size != ckpt->spec.max_size;
  if (!want->size && sizes.size > sizes.max_size) sizes.size = sizes.max_size;
  return sizes;
}

/* What lives ends at some address, below which nothing can be. Of some tags only it may be less,
   which is seen when they are looked at. */
static int fault_too_small(want_t const *want, sizes_t const *sizes, engine_reply_t *ret_fault) {
  if (sizes->size > sizes->max_size) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "max_size",
              "a workspace of %" PRIu64 " bytes cannot have a max-size of %" PRIu64, sizes->size,
              sizes->max_size);
    fault_figures(ret_fault, sizes->max_size, sizes->size);
    fault_hint(ret_fault, "give a larger max-size, or leave it out");
    return 1;
  }
  if (want->tag_cnt || sizes->size >= want->ckpt->size_min) return 0;
  fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "size",
            "checkpoint %" PRIu64 ".%" PRIx64 " cannot be restored into %" PRIu64
            " bytes: what lives in it ends at %" PRIu64,
            want->ckpt->store_id, want->ckpt->number, sizes->size, want->ckpt->size_min);
  fault_figures(ret_fault, sizes->size, want->ckpt->size_min);
  fault_hint(ret_fault, "ask for at least %" PRIu64 ", or restore some tags only",
             want->ckpt->size_min);
  return 1;
}

static int fault_wanted(engine_t const *e, want_t const *want, engine_reply_t *ret_fault) {
  uint64_t page = want->page_size;
  if (page && page != 4096 && page != 2097152 && page != 1073741824) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "page_size",
              "there are no pages of %" PRIu64 " bytes: the page size must be 4096, 2097152, "
              "1073741824 or 0 for that of the checkpoint",
              page);
    fault_hint(ret_fault, "leave the page size out");
    return 1;
  }
  if (want->tag_cnt > ENGINE_TAGS_MAX) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "tags",
              "%zu tags are too many for one restore: at most %u", want->tag_cnt, ENGINE_TAGS_MAX);
    fault_figures(ret_fault, want->tag_cnt, ENGINE_TAGS_MAX);
    fault_hint(ret_fault, "restore without tags and free what is not wanted");
    return 1;
  }
  if (want->ckpt->bad[0]) {
    fault_set(ret_fault, ENGINE_CODE_DATA_LOSS, "damaged",
              "checkpoint %" PRIu64 ".%" PRIx64 " is damaged: %s", want->ckpt->store_id,
              want->ckpt->number, want->ckpt->bad);
    fault_hint(ret_fault, "restore an older one");
    return 1;
  }
  sizes_t sizes = sizes_of(want);
  return fault_too_small(want, &sizes, ret_fault) || fault_size(e, sizes.size, ret_fault) ||
         fault_size(e, sizes.max_size, ret_fault);
}

static int task_tags(task_t *task, want_t const *want) {
  if (!want->tag_cnt) return 0;
  task->tags = malloc(want->tag_cnt * sizeof(*task->tags));
  if (!task->tags) return WKSP_E_NOMEM;
  memcpy(task->tags, want->tags, want->tag_cnt * sizeof(*task->tags));
  task->ask.tags = task->tags;
  task->ask.tag_cnt = want->tag_cnt;
  return 0;
}

static job_t *job_of(engine_t *e, ws_t *ws, want_t const *want) {
  task_t *task = task_new(e, ENGINE_OP_RESTORE, want->by, &ws->spec, want->uid);
  if (!task) return NULL;
  task->view.store_id = task->ask.store_id = want->ckpt->store_id;
  task->view.number = task->ask.number = want->ckpt->number;
  task->ask.seed_set = want->seed_set;
  task->ask.seed = want->seed;
  if (task_tags(task, want)) {
    e->err = WKSP_E_NOMEM;
    task_free(task);
    return NULL;
  }
  job_t *job = jobs_add_task(&e->jobs, ws, task);
  if (!job)
    e->err = WKSP_E_NOMEM;
  else
    job->held = 1;
  return job;
}

/* That of the one whose place it takes; else that of the one that was checkpointed. */
static char const *tag_of(want_t const *want) {
  return want->old ? want->old->spec.tag : want->ckpt->spec.tag;
}

/* Begins it; all has been checked. Its workspace, or NULL (and err). */
static ws_t *begin(engine_t *e, want_t const *want) {
  engine_ckpt_t const *ckpt = want->ckpt;
  ws_t *ws = registry_add(&e->registry, e->ws_id_high + 1);
  if (!ws) {
    e->err = WKSP_E_NOMEM;
    return NULL;
  }
  ws->spec.ws_id = ++e->ws_id_high;
  memcpy(ws->spec.name, want->name, strlen(want->name) + 1);
  memcpy(ws->spec.uuid, want->uuid, sizeof(ws->spec.uuid));
  sizes_t sizes = sizes_of(want);
  ws->spec.size = sizes.size;
  ws->spec.max_size = sizes.max_size;
  ws->restore_part_min = sizes.other ? REFIT_PARTS(ckpt->part_cnt) : 0;
  ws->spec.page_size = want->page_size ? want->page_size : ckpt->spec.page_size;
  ws->spec.part_max = ckpt->part_max;
  ws->spec.mode = want->old ? want->old->spec.mode : ckpt->spec.mode;
  ws->spec.seed = want->seed_set ? want->seed : ckpt->spec.seed;
  ws->spec.uid = want->uid;
  ws->spec.gid = want->gid;
  ws->spec.created_ns = e->now_real_ns;
  memcpy(ws->spec.numa, want->numa, strlen(want->numa) + 1);
  memcpy(ws->spec.nodes, want->nodes, sizeof(ws->spec.nodes));
  ws->spec.strict = want->strict;
  memcpy(ws->spec.tag, tag_of(want), sizeof(ws->spec.tag));
  ws->spec_known = 1;
  ws->state = WS_SPEC_MAKING;
  ws->restore_data_max = ckpt->data_max;
  if (want->old) replace_begin(ws, want->old);
  if ((!want->old && registry_list(&e->registry, ws, 1)) || registry_add_uuid(&e->registry, ws)) {
    e->err = WKSP_E_NOMEM;
    return NULL;
  }
  job_t *job = job_of(e, ws, want);
  if (!job) return NULL;
  ws->restore_job = job->job_id;
  emit_persist(e, ws, SPEC_MAKING);
  return ws;
}

/* The checkpoint that a request is about. NULL and *ret_fault. */
static engine_ckpt_t *pick(engine_t *e, conn_t const *conn, engine_request_t const *req,
                           engine_reply_t *ret_fault) {
  char const *name = req->u.c.restore.name, *from = req->u.c.restore.from;
  if (fault_name(name, ret_fault)) return NULL;
  engine_ckpt_t *ckpt =
      from[0] ? ckpt_lookup(e, conn, from, WANT_READ, ret_fault)
              : catalog_newest(&e->catalog, name, !req->u.c.restore.own_only, conn->uid, NULL);
  if (ckpt && !rights_sees(&ckpt->spec, conn)) ckpt = NULL; /* another's */
  if (!ckpt && !from[0]) {
    fault_set(ret_fault, ENGINE_CODE_NOT_FOUND, "checkpoint",
              "there is no checkpoint of a workspace \"%s\" that could be restored", name);
    fault_workspace(ret_fault, name);
    fault_hint(ret_fault, "list the checkpoints there are");
  } else if (ckpt && strcmp(ckpt->spec.name, name) != 0) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "checkpoint",
              "checkpoint %s is of workspace \"%s\", not of \"%s\"", from, ckpt->spec.name, name);
    fault_workspace(ret_fault, name);
    fault_hint(ret_fault, "name the workspace that it is of, and with --as what is to come of it");
    return NULL;
  }
  return ckpt;
}

/* Somebody else's restore of it is under way, and nobody waits for that: then this call does. */
static int adopt(engine_t *e, call_t *call, engine_request_t const *req) {
  char const *name = req->u.c.restore.as[0] ? req->u.c.restore.as : req->u.c.restore.name;
  ws_t *ws = spec_name_ok(name) ? registry_by_name(&e->registry, name) : NULL;
  if (!req->u.c.restore.wait || !ws || !ws->restore_job || ws->call || ws_undone(ws) ||
      ws_visible(ws) || (!call->conn->admin && ws->spec.uid != call->conn->uid))
    return 0;
  call->ws = ws;
  ws->call = call;
  return 1;
}

/* Where its pages are to be: as it was, unless something else is said. */
static int fault_placement(engine_request_t const *req, want_t *want, engine_reply_t *ret_fault) {
  int given = req->u.c.restore.numa[0] != 0;
  engine_request_t as_create = {.method = ENGINE_CREATE};
  spec_t const *was = want->old ? &want->old->spec : &want->ckpt->spec;
  place_policy_t policy;

  want->numa = given ? req->u.c.restore.numa : was->numa;
  memcpy(as_create.u.create.numa, want->numa, strlen(want->numa) + 1);
  as_create.u.create.topo = req->u.c.restore.topo;
  as_create.u.create.cpu = req->u.c.restore.cpu;
  as_create.u.create.preferred = given ? req->u.c.restore.preferred : !was->strict;
  if (plan_policy(&as_create, &policy, ret_fault)) {
    if (!given)
      fault_hint(ret_fault, "this machine may have other nodes than the one that it is from: say "
                            "where its pages are to be, such as --numa local");
    return 1;
  }
  (void)place_text(&policy, want->nodes);
  want->strict = plan_strict(&as_create);
  return 0;
}

/* What it would be charged for, as far as that is known already. */
static int fault_charge(engine_t const *e, want_t const *want, engine_reply_t *ret_fault) {
  spec_t spec = want->ckpt->spec;
  spec.ws_id = 0; /* beside all that there is */
  spec.replaces = want->old ? want->old->spec.ws_id : 0;
  spec.uid = want->uid;
  if (want->page_size) spec.page_size = want->page_size;
  spec.max_size = sizes_of(want).max_size;
  memcpy(spec.tag, tag_of(want), sizeof(spec.tag));
  memcpy(spec.name, want->name, strlen(want->name) + 1);
  memcpy(spec.nodes, want->nodes, sizeof(spec.nodes));
  return charge_fault(e, &spec, ret_fault);
}

/* In whose place it is to come, and what it has of that one. */
static int fault_in_place(engine_t *e, conn_t const *conn, want_t *want,
                          engine_reply_t *ret_fault) {
  ws_t *old = ws_lookup(e, want->name, ret_fault);
  if (!old || fault_replace(e, conn, old, ret_fault)) return 1;
  if (registry_by_uuid(&e->registry, want->uuid))
    return fault_admission(e, conn, want->name, want->uuid, ret_fault);
  want->old = old;
  want->uid = old->spec.uid;
  want->gid = old->spec.gid;
  if (!want->page_size) want->page_size = old->spec.page_size;
  return fault_limit("workspaces", e->registry.by_id.cnt, e->config.workspaces_max, ret_fault) ||
         fault_kept(e, ret_fault);
}

char const *restore_name(engine_request_t const *req) {
  return req->u.c.restore.as[0] ? req->u.c.restore.as : req->u.c.restore.name;
}

/* What is there was restored in place itself, and the one before it is just going. */
static int not_yet(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  ws_t const *ws = ws_lookup(e, restore_name(req), &fault);
  return ws && !fault_rights(&ws->spec, call->conn, WANT_READ | WANT_DELETE, &fault) &&
         replace_not_yet(e, call, ws, req);
}

void restore_begin(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  int in_place = req->u.c.restore.in_place;
  if (in_place ? not_yet(e, call, req) : adopt(e, call, req)) return;
  engine_ckpt_t *ckpt = pick(e, call->conn, req, &fault);
  want_t want = {.ckpt = ckpt,
                 .name = restore_name(req),
                 .uuid = req->u.c.restore.uuid,
                 .uid = call->conn->uid,
                 .gid = call->conn->gid,
                 .page_size = req->u.c.restore.page_size,
                 .size = req->u.c.restore.size,
                 .max_size = req->u.c.restore.max_size,
                 .tags = req->u.c.restore.tags,
                 .tag_cnt = req->u.c.restore.tag_cnt,
                 .seed_set = req->u.c.restore.seed_set,
                 .seed = req->u.c.restore.seed,
                 .by = SCHEDULE_BY_HAND};
  if (!ckpt ||
      (in_place ? fault_in_place(e, call->conn, &want, &fault)
                : fault_admission(e, call->conn, want.name, want.uuid, &fault)) ||
      fault_wanted(e, &want, &fault) || fault_placement(req, &want, &fault) ||
      fault_share_task(e, call->conn, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  if (call->conn->admin && !in_place) { /* who administers restores for whom it was */
    want.uid = ckpt->spec.uid;
    want.gid = ckpt->spec.gid;
  }
  if ((!in_place && charge_tag(e, call->conn, tag_of(&want), &fault)) ||
      fault_charge(e, &want, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  ws_t *ws = begin(e, &want);
  if (!ws) return;
  if (req->u.c.restore.wait) {
    call->ws = ws;
    ws->call = call;
  } else {
    call_answer(e, call)->u.restore.job_id = ws->restore_job;
  }
}

/* No random numbers here: the uuid follows from what nobody else has, the id of the workspace, and
   from the checkpoint's. Marked as a random one, as all are. */
static void uuid_of(engine_t const *e, engine_ckpt_t const *ckpt, uint8_t ret_uuid[16]) {
  uint64_t mix[2] = {e->ws_id_high + 1, e->now_real_ns};
  for (size_t i = 0; i < 16; i++) {
    uint64_t z = (mix[i / 8] + (i + 1) * 0x9e3779b97f4a7c15UL) * 0xbf58476d1ce4e5b9UL;
    ret_uuid[i] = (uint8_t)(ckpt->spec.uuid[i] ^ (z >> 56));
  }
  ret_uuid[6] = (uint8_t)((ret_uuid[6] & 0x0f) | 0x40);
  ret_uuid[8] = (uint8_t)((ret_uuid[8] & 0x3f) | 0x80);
}

void restore_plan(engine_t *e, plan_t *plan, engine_ckpt_t const *before) {
  schedule_t const *schedule = &plan->schedule;
  engine_ckpt_t *ckpt = catalog_newest(&e->catalog, schedule->name, 0, schedule->uid, before);
  engine_reply_t fault;
  uint8_t uuid[16];

  if (!ckpt || plan->tries >= ENGINE_RESTORE_TRIES_MAX || e->stopping) {
    if (before)
      emit_log(e, ENGINE_LOG_ERROR, "event=restore-given-up workspace=%s tries=%" PRIu32,
               schedule->name, plan->tries);
    return;
  }
  plan->tries++;
  uuid_of(e, ckpt, uuid);
  want_t want = {.ckpt = ckpt,
                 .name = schedule->name,
                 .uuid = uuid,
                 .uid = ckpt->spec.uid,
                 .gid = ckpt->spec.gid,
                 .by = SCHEDULE_BY_STOP,
                 .numa = ckpt->spec.numa};
  conn_t const self = {.admin = 1};
  memcpy(want.nodes, ckpt->spec.nodes, sizeof(want.nodes)); /* it is the machine that it was */
  if (fault_admission(e, &self, want.name, uuid, &fault) || fault_wanted(e, &want, &fault)) {
    emit_log(e, ENGINE_LOG_ERROR, "event=restore-failed workspace=%s reason=\"%s\"", want.name,
             fault.sentence);
    return;
  }
  (void)begin(e, &want);
}

/* Steps
 * ------------------------------------------------------------------------------------------------
 */

void restore_fill(engine_t *e, ws_t *ws) {
  job_t *job = jobs_by_id(&e->jobs, ws->restore_job);
  ws->state = WS_FILLING;
  job->held = 0;
}

void restore_worked(engine_t *e, ws_t *ws, job_t *job, engine_event_t const *event) {
  engine_reply_t fault;
  int ok = event->u.worker_done.status == ENGINE_WORKER_OK;
  engine_ckpt_t *from = catalog_find(&e->catalog, job->task->ask.store_id, job->task->ask.number);
  if (ok && from && !job->task->ask.tag_cnt) ckpt_sound(e, from, 1); /* there is no better check */
  if (ok && event->u.worker_done.detail)
    snprintf(job->task->view.sentence, sizeof(job->task->view.sentence), "%s",
             event->u.worker_done.detail);
  if (ws->aborted) {
    create_undo(e, ws, NULL);
  } else if (!ok) {
    fault_worker_of(ws->spec.name, event, &fault);
    if (event->u.worker_done.status == ENGINE_WORKER_DAMAGED ||
        event->u.worker_done.status == ENGINE_WORKER_CRASHED) {
      engine_ckpt_t *ckpt =
          catalog_find(&e->catalog, job->task->ask.store_id, job->task->ask.number);
      if (ckpt) text_printable(fault.sentence, ckpt->bad, sizeof(ckpt->bad));
      ckpt_doubt(e, job->task->ask.store_id);
    }
    create_undo(e, ws, &fault);
  } else {
    /* Its place is free; the job stays until the workspace is there. */
    jobs_rest(&e->jobs, job);
    ws->state = WS_SPEC_READY;
    ws->maybe_ready = 1;
    emit_persist(e, ws, SPEC_READY);
  }
}

void restore_published(engine_t *e, ws_t *ws) {
  job_t *job = jobs_by_id(&e->jobs, ws->restore_job);
  ws->restore_job = 0;
  task_end(e, job, ENGINE_TASK_DONE, NULL);
  jobs_remove(&e->jobs, job);
}

void restore_undone(engine_t *e, ws_t *ws, engine_reply_t const *fault) {
  job_t *job = jobs_by_id(&e->jobs, ws->restore_job);
  engine_reply_t cancelled;
  if (!job) return;
  uint64_t store_id = job->task->ask.store_id, number = job->task->ask.number;
  int by = job->task->view.by;
  ws->restore_job = 0;
  fault_set(&cancelled, ENGINE_CODE_CANCELLED, "cancelled", "the restore was cancelled%s",
            e->stopping ? ", for the daemon is stopping" : "");
  task_end(e, job, fault ? ENGINE_TASK_FAILED : ENGINE_TASK_CANCELLED, fault ? fault : &cancelled);
  jobs_remove(&e->jobs, job);
  emit_event(e, ENGINE_EVENT_RESTORE_FAILED, &ws->spec);
  plan_t *plan = by == SCHEDULE_BY_STOP && fault ? agenda_find(&e->agenda, ws->spec.name) : NULL;
  if (!plan) return;
  plan->failed_store = store_id; /* the next is tried once the name is free */
  plan->failed_number = number;
}

void restore_again(engine_t *e, char const *name) {
  plan_t *plan = agenda_find(&e->agenda, name);
  if (!plan || plan->dropped || !plan->failed_store) return;
  engine_ckpt_t *failed = catalog_find(&e->catalog, plan->failed_store, plan->failed_number);
  plan->failed_store = 0;
  if (failed) restore_plan(e, plan, failed);
}

void restore_abort(engine_t *e, ws_t *ws) {
  job_t *job = jobs_by_id(&e->jobs, ws->restore_job);
  if (ws_undone(ws)) return;
  ws->aborted = 1;
  if (ws->state == WS_MEMORY) {
    emit(e, ENGINE_FX_MEMORY_CANCEL)->u.workspace.ws_id = ws->spec.ws_id;
  } else if (ws->state == WS_FILLING && job->running) {
    work_cancel(e, job);
  } else if (ws->state == WS_FILLING) {
    create_undo(e, ws, NULL);
  }
}
