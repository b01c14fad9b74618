/* resize: a workspace that grows and shrinks while clients run.

   Three things say how large a workspace is: the pages that its memory holds, the end in its table,
   which clients believe, and the spec, which we believe. What either of the latter says must have
   its pages, or a client gets SIGBUS for an address that it was given. So the pages come first and
   go last:

     grow    FILL   pages of [size, to)        failing: they are given back, nothing has changed
             WORK   the table's end            by a worker, for strangers write that table
             SPEC   the new size on disk
             PUNCH  what is beyond the end     others may have touched pages there
     shrink  WORK   the end, as far down as what is there is free
             SPEC
             PUNCH  what was given up

   Killed, restarted or given up in between, nothing is lost, only some pages are held in vain:

     after FILL   pages beyond the end, which nobody uses
     after WORK   grow: clients use the room, the spec says less. shrink: pages beyond the end
     after SPEC   shrink: pages beyond the end

   A worker that did not live to answer has moved the end or not, and a client that rebuilds damaged
   tables can put it higher without our knowing. So what the spec says is never believed: each
   resize finds out first where the end is, by a worker that only tells (a further WORK, and FILL
   and SPEC if it is beyond), before anything beyond the spec's size is taken or given back. It
   ends, as all do, with a PUNCH of everything beyond the end. That mends what was left.

   The table is not ours. A worker's answer is within [size_min, max_size], which was looked at when
   the workspace was created; a table that lies about its end deceives those who write it.

   Refuses a second resize while one is under way, to shrink under a checkpoint that is being taken,
   and to move what is in use. */

#include <inttypes.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

/* Data ends at a multiple of this (a span of lib/core/layout.h), or of pages, if they are larger.
 */
#define RESIZE_UNIT 65536UL

/* What is asked for in whole units; what is beyond max_size is for the caller to refuse. */
static uint64_t resize_round(ws_t const *ws, uint64_t size) {
  uint64_t unit = ws->spec.page_size > RESIZE_UNIT ? ws->spec.page_size : RESIZE_UNIT;
  uint64_t rounded = (size + unit - 1) / unit * unit;
  return rounded > ws->spec.max_size ? ws->spec.max_size : rounded;
}

/* 1 if it is being mended and nobody waits for that: a resize takes it over. */
static int resize_idle(ws_t const *ws) {
  return ws->state == WS_RESIZING && ws->resize.mending && !ws->resize.aborted && !ws->call;
}

static int fault_resize(ws_t const *ws, uint64_t size, engine_reply_t *ret_fault) {
  if (size > ws->spec.max_size || size < ws->size_min) {
    int above = size > ws->spec.max_size;
    fault_set(
        ret_fault, ENGINE_CODE_INVALID_ARGUMENT, above ? "max_size" : "size",
        "workspace \"%s\" cannot be resized to %" PRIu64 " bytes: %s %" PRIu64, ws->spec.name, size,
        above ? "it was created with a max-size of" : "its tables take all of that; the least is",
        above ? ws->spec.max_size : ws->size_min);
    fault_figures(ret_fault, size, above ? ws->spec.max_size : ws->size_min);
    fault_workspace(ret_fault, ws->spec.name);
    fault_hint(ret_fault,
               above ? "ask for at most %" PRIu64 ", or create it anew with a larger max-size"
                     : "ask for at least %" PRIu64,
               above ? ws->spec.max_size : ws->size_min);
    return 1;
  }
  if (ws->state == WS_READY || resize_idle(ws)) return 0;
  fault_set(ret_fault, ENGINE_CODE_UNAVAILABLE, "busy",
            ws->state == WS_RESIZING
                ? "workspace \"%s\" is being resized already"
                : "an earlier change of workspace \"%s\" could not be written down yet",
            ws->spec.name);
  fault_workspace(ret_fault, ws->spec.name);
  fault_hint(ret_fault, "try again in a moment");
  return 1;
}

/* A checkpoint reads what was live when it began, also what has been freed since; of pages that
   were given back the kernel would make new ones for it. One that has not begun waits (job.c). */
static int fault_read(engine_t const *e, ws_t const *ws, uint64_t size, engine_reply_t *ret_fault) {
  job_t const *job = jobs_of(&e->jobs, ws, ENGINE_OP_CHECKPOINT);
  if (!job || !job->running || resize_round(ws, size) >= ws->spec.size) return 0;
  fault_set(
      ret_fault, ENGINE_CODE_UNAVAILABLE, "busy",
      "workspace \"%s\" cannot shrink while a checkpoint of it is being taken, as job %" PRIu64,
      ws->spec.name, job->job_id);
  fault_workspace(ret_fault, ws->spec.name);
  fault_hint(ret_fault, "wait for job %" PRIu64 ", or cancel it", job->job_id);
  return 1;
}

/* Steps
 * ------------------------------------------------------------------------------------------------
 */

static void step_memory(engine_t *e, ws_t *ws, int step, uint64_t from, uint64_t to) {
  engine_effect_t *effect =
      emit(e, step == RESIZE_FILL ? ENGINE_FX_MEMORY_FILL : ENGINE_FX_MEMORY_PUNCH);

  ws->resize.step = step;
  ws->awaiting = 1;
  e->await_cnt++;
  effect->u.memory_resize.ws_id = ws->spec.ws_id;
  effect->u.memory_resize.page_size = ws->spec.page_size;
  effect->u.memory_resize.from = from;
  effect->u.memory_resize.to = to;
  effect->u.memory_resize.keep = ws->resize.settling;
  effect->u.memory_resize.max_size = ws->spec.max_size;
  memcpy(effect->u.memory_resize.nodes, ws->spec.nodes, sizeof(ws->spec.nodes));
  effect->u.memory_resize.strict = ws->spec.strict;
}

static void step_work(engine_t *e, ws_t *ws, uint64_t to) {
  ws->resize.step = RESIZE_WORK;
  ws->resize.job_id = work_resize(e, ws, to, ws->resize.deadline_mono_ns);
}

/* code: what the call that wants it comes to. */
static void step_spec(engine_t *e, ws_t *ws, int code) {
  ws->resize.step = RESIZE_SPEC;
  ws->resize.same = ws->spec.size == ws->resize.reached;
  ws->spec.size = ws->resize.reached;
  if (!ws->resize.settling) spec_done_add(&ws->spec, ws->resize.call_id, SPEC_DONE_RESIZE, code);
  emit_persist(e, ws, SPEC_READY);
}

/* The end: answers whoever still waits. fault NULL: what was noted for the call, or success. */
static void resize_end(engine_t *e, ws_t *ws, int state, engine_reply_t const *fault) {
  call_t *call = ws->call;
  engine_reply_t noted;

  ws->state = state;
  memset(&ws->resize, 0, sizeof(ws->resize));
  if (!call) return;
  ws->call = NULL;
  call->ws = NULL;
  if (!fault && call->fault) {
    noted = *call->fault;
    fault = &noted;
  }
  if (fault) {
    call_fail(e, call, fault);
    return;
  }
  engine_workspace_t *view = browse_view(e, ws);
  call_answer(e, call)->u.workspace = view;
}

static void step_punch(engine_t *e, ws_t *ws, uint64_t from) {
  if (from < ws->spec.max_size)
    step_memory(e, ws, RESIZE_PUNCH, from, ws->spec.max_size);
  else
    resize_end(e, ws, WS_READY, NULL);
}

/* Begins what was asked for, once it is known where the end is. */
static void resize_settled(engine_t *e, ws_t *ws) {
  resize_t *resize = &ws->resize;

  resize->settling = 0;
  if (resize->aborted)
    resize_end(e, ws, WS_READY, NULL);
  else if (resize->mending)
    step_punch(e, ws, ws->spec.size);
  else if (resize->to > ws->spec.size)
    step_memory(e, ws, RESIZE_FILL, ws->spec.size, resize->to);
  else
    step_work(e, ws, resize->to);
}

void resize_begin(engine_t *e, call_t *call, engine_request_t const *req) {
  engine_reply_t fault;
  ws_t *ws = ws_lookup(e, req->u.resize.name, &fault);

  if (!ws || fault_rights(&ws->spec, call->conn, WANT_WRITE, &fault) ||
      fault_writable(ws, &fault) || fault_replaced(e, ws, &fault) ||
      fault_size(e, req->u.resize.size, &fault) || fault_resize(ws, req->u.resize.size, &fault) ||
      fault_read(e, ws, req->u.resize.size, &fault) || fault_share_job(e, call->conn, &fault)) {
    call_fail(e, call, &fault);
    return;
  }

  int taken_over = resize_idle(ws);
  call->ws = ws;
  ws->call = call;
  ws->state = WS_RESIZING;
  ws->resize.mending = 0;
  ws->resize.to = resize_round(ws, req->u.resize.size);
  ws->resize.deadline_mono_ns = call->deadline.place ? call->deadline.due_ns : 0;
  memcpy(ws->resize.call_id, req->call_id, sizeof(ws->resize.call_id));
  if (taken_over) {
    /* Where the end is is being found out already, or what is beyond it given back. */
    ws->resize.queued = !ws->resize.settling;
    return;
  }
  ws->resize.settling = 1;
  step_work(e, ws, 0);
}

void resize_mend(engine_t *e, ws_t *ws) {
  ws->state = WS_RESIZING;
  ws->resize.mending = 1;
  ws->resize.settling = 1;
  step_work(e, ws, 0);
}

/* Answers
 * ------------------------------------------------------------------------------------------------
 */

int resize_memory(engine_t *e, engine_event_t const *event) {
  ws_t *ws = registry_by_id(&e->registry, event->u.memory_resized.ws_id);
  int ok = event->u.memory_resized.status == ENGINE_MEMORY_OK;
  engine_reply_t fault;

  if (!ws || ws->state != WS_RESIZING || !ws->awaiting || ws->resize.step == RESIZE_SPEC)
    return WKSP_E_INVAL;
  ws->awaiting = 0;
  e->await_cnt--;
  if (ok) ws_note(ws, event->u.memory_resized.note);
  if (ok && ws->resize.step == RESIZE_PUNCH) charge_punched(ws, event->u.memory_resized.held);
  if (!ok) fault_memory(ws, ws->resize.step == RESIZE_FILL ? "taken" : "given back", event, &fault);
  if (!ok && !ws->resize.aborted)
    emit_log(e, ENGINE_LOG_WARN, "event=resize-failed workspace=%s id=%" PRIu64 " reason=\"%s\"",
             ws->spec.name, ws->spec.ws_id, fault.sentence);
  if (ok && ws->resize.queued) {
    ws->resize.queued = 0;
    resize_settled(e, ws);
    return 0;
  }
  if (!ok || ws->resize.step == RESIZE_PUNCH) {
    /* What a failed PUNCH leaves goes with the next. */
    resize_end(e, ws, WS_READY, ok || (ws->call && ws->call->fault) ? NULL : &fault);
    return 0;
  }
  if (ws->resize.settling) {
    step_spec(e, ws, ENGINE_CODE_OK);
    return 0;
  }
  ws->resize.filled = 1;
  if (ws->resize.aborted)
    step_punch(e, ws, ws->spec.size);
  else
    step_work(e, ws, ws->resize.to);
  return 0;
}

/* The end is somewhere else than was wanted. */
static void fault_blocked(ws_t const *ws, engine_resized_t const *resized,
                          engine_reply_t *ret_fault) {
  if (resized->why == ENGINE_RESIZED_TABLE) {
    fault_set(ret_fault, ENGINE_CODE_RESOURCE_EXHAUSTED, "partitions",
              "workspace \"%s\" stays at %" PRIu64 " bytes: all %" PRIu64
              " entries of its partition table are in use, and its new end needs one",
              ws->spec.name, resized->size, ws->spec.part_max);
    fault_hint(ret_fault, "free a partition and resize again");
  } else {
    fault_set(ret_fault, ENGINE_CODE_FAILED_PRECONDITION, "used",
              "workspace \"%s\" is of %" PRIu64 " bytes now, not %" PRIu64
              ": the partition at 0x%" PRIx64 " of %" PRIu64 " bytes with tag 0x%" PRIx64
              " is in the way",
              ws->spec.name, resized->size, ws->resize.to, resized->block_gaddr,
              resized->block_size, resized->block_tag);
    fault_hint(ret_fault, "free it (and what is before it, if need be) and resize again");
  }
  fault_figures(ret_fault, ws->resize.to, resized->size);
  fault_workspace(ret_fault, ws->spec.name);
}

/* Whether a worker that ended so has certainly not moved the end. */
static int unmoved(int status) {
  return status == ENGINE_WORKER_INVALID || status == ENGINE_WORKER_AGAIN ||
         status == ENGINE_WORKER_DAMAGED || status == ENGINE_WORKER_NOT_BEGUN;
}

static void resize_unworked(engine_t *e, ws_t *ws, engine_event_t const *event) {
  engine_reply_t fault;

  fault_worker(ws, event, &fault);
  if (!ws->resize.aborted)
    emit_log(e, ENGINE_LOG_WARN, "event=resize-failed workspace=%s id=%" PRIu64 " reason=\"%s\"",
             ws->spec.name, ws->spec.ws_id, fault.sentence);
  if (ws->resize.filled && unmoved(event->u.worker_done.status)) {
    if (ws->call) call_fault_later(e, ws->call, &fault);
    step_punch(e, ws, ws->spec.size);
  } else {
    resize_end(e, ws, WS_READY, &fault); /* the next finds out where the end is */
  }
}

void resize_worked(engine_t *e, ws_t *ws, engine_event_t const *event) {
  static uint8_t const none[SPEC_CALL_ID_SIZE];
  engine_resized_t const *resized = &event->u.worker_done.resized;
  engine_reply_t fault = {.code = ENGINE_CODE_OK};

  if (ws->resize.step != RESIZE_WORK || ws->resize.job_id != event->u.worker_done.job_id)
    return; /* of one that was given up before it ended */
  if (event->u.worker_done.status != ENGINE_WORKER_OK) {
    resize_unworked(e, ws, event);
    return;
  }
  if (resized->size < ws->size_min || resized->size > ws->spec.max_size ||
      (resized->size % ws->spec.page_size && resized->size != ws->spec.max_size)) {
    e->err = WKSP_E_INVAL;
    return;
  }
  ws->resize.reached = resized->size;
  if (ws->resize.settling) {
    /* Beyond the spec: where an interrupted resize left it, the pages are there, and this does
       nothing; where a rebuild put it they are not. */
    if (resized->size > ws->spec.size)
      step_memory(e, ws, RESIZE_FILL, ws->spec.size, resized->size);
    else
      resize_settled(e, ws);
    return;
  }
  if (resized->why != ENGINE_RESIZED_AS_WANTED || resized->size != ws->resize.to) {
    fault_blocked(ws, resized, &fault);
    if (ws->call) call_fault_later(e, ws->call, &fault);
  }
  /* One that changes nothing is remembered as well: made again later, it might. */
  if (resized->size != ws->spec.size || memcmp(ws->resize.call_id, none, sizeof(none)) != 0)
    step_spec(e, ws, fault.code);
  else
    step_punch(e, ws, ws->spec.size);
}

int resize_persisted(engine_t *e, ws_t *ws, engine_event_t const *event) {
  engine_reply_t fault;

  if (ws->resize.step != RESIZE_SPEC) return WKSP_E_INVAL;
  ws->awaiting = 0;
  e->await_cnt--;
  if (event->u.done.err) {
    /* The size is what it is; until the disk says so, what the old one said keeps its pages. */
    fault_disk(ws, "resized for good: its new size could not be written down", event, &fault);
    emit_log(e, ENGINE_LOG_ERROR, "event=resize-failed workspace=%s id=%" PRIu64 " reason=\"%s\"",
             ws->spec.name, ws->spec.ws_id, fault.sentence);
    resize_end(e, ws, WS_RESTORING, &fault);
    remove_restore(e, ws);
    return 0;
  }
  if (!ws->resize.same) {
    emit_log(e, ENGINE_LOG_INFO, "event=resized workspace=%s id=%" PRIu64 " size=%" PRIu64,
             ws->spec.name, ws->spec.ws_id, ws->spec.size);
    emit_event(e, ENGINE_EVENT_RESIZED, &ws->spec);
  }
  if (ws->resize.settling)
    resize_settled(e, ws);
  else
    step_punch(e, ws, ws->spec.size);
  return 0;
}

/* Giving up
 * ------------------------------------------------------------------------------------------------
 */

/* Ends it as soon as that leaves nothing half done. gone: its worker's answer will not come here,
   and the workspace is not served any more: pages that were taken go with it, or with the next
   PUNCH. */
static void resize_abort(engine_t *e, ws_t *ws, int gone) {
  int first = !ws->resize.aborted;

  ws->resize.aborted = 1;
  if (ws->resize.step == RESIZE_FILL && first) {
    emit(e, ENGINE_FX_MEMORY_CANCEL)->u.workspace.ws_id = ws->spec.ws_id;
  } else if (ws->resize.step == RESIZE_WORK && first && !work_resize_cancel(e, ws)) {
    if (ws->resize.filled && !gone)
      step_punch(e, ws, ws->spec.size);
    else
      resize_end(e, ws, WS_READY, NULL);
  } else if (ws->resize.step == RESIZE_WORK && gone) {
    resize_end(e, ws, WS_READY, NULL);
  }
}

void resize_abandon(engine_t *e, call_t *call) {
  ws_t *ws = call->ws;

  call->ws = NULL;
  ws->call = NULL;
  resize_abort(e, ws, 0);
}

void resize_stop(engine_t *e, ws_t *ws) {
  resize_abort(e, ws, 0);
}

void resize_quit(engine_t *e, ws_t *ws, engine_reply_t const *fault) {
  call_t *call = ws->call;

  if (ws->state != WS_RESIZING) return;
  if (call) {
    ws->call = NULL;
    call->ws = NULL;
    call_fail(e, call, fault);
  }
  resize_abort(e, ws, 1);
}
