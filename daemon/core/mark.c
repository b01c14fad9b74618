/* mark: workspaces in which a worker has met damage.

   A worker says that what it finds is no workspace, or dies of it: pages were punched out under it,
   or its tables lead it astray. That harms nobody but itself. The workspace is marked, so that it
   is seen, and served on: who may write it rebuilds it, or takes out what he still wants, for which
   he has to open it. Only a verify that reads all of it, and finds nothing, takes the mark away; a
   query that went well has seen too little. A mark is about memory, which others write: it is not
   written down, and a new daemon's first worker finds it again.

   Refuses to judge: that a worker was late, was killed, or could not be started says nothing of the
   workspace. Nor does a restore that fails, for what it fills is nobody's yet. */

#include <inttypes.h>
#include <string.h>

#include "daemon/core/engine_priv.h"

static void set(engine_t *e, ws_t *ws, char const *detail) {
  int told = ws->damaged;

  ws->damaged = 1;
  if (!ws->quarantined && !ws->read_only)
    text_printable(detail ? detail : "its worker does not say what is wrong", ws->reason,
                   sizeof(ws->reason));
  if (told) return;
  emit_log(e, ENGINE_LOG_WARN, "event=damaged workspace=%s id=%" PRIu64 " reason=\"%s\"",
           ws->spec.name, ws->spec.ws_id, detail ? detail : "");
  emit_event(e, ENGINE_EVENT_DAMAGED, &ws->spec);
}

static void clear(engine_t *e, ws_t *ws) {
  if (!ws->damaged) return;
  ws->damaged = 0;
  if (!ws->quarantined && !ws->read_only) ws->reason[0] = 0;
  emit_log(e, ENGINE_LOG_INFO, "event=sound workspace=%s id=%" PRIu64, ws->spec.name,
           ws->spec.ws_id);
  emit_event(e, ENGINE_EVENT_SOUND, &ws->spec);
}

void mark_worked(engine_t *e, job_t const *job, engine_event_t const *event) {
  int status = event->u.worker_done.status;
  ws_t *ws = job->ws;

  if (!ws || !ws_visible(ws) || job->cancelled) return;
  /* What a checkpoint's worker calls damage may be its store's; what it dies of is the memory. */
  if (status == ENGINE_WORKER_CRASHED ||
      (status == ENGINE_WORKER_DAMAGED && !job->task && job->op != ENGINE_OP_PLACE))
    set(e, ws, event->u.worker_done.detail);
  else if (status == ENGINE_WORKER_OK && job->verify)
    clear(e, ws);
}
