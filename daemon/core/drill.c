/* drill: checkpoints that are restored for trial.

   A verify says that what was written is what is there; a restore, that a workspace comes of it.
   So a worker restores one into memory of its own, which nobody else ever sees and which ends with
   it, and has the allocators verify what came of it, every digest on the way. What that says is
   kept with the checkpoint (sound.c), when it was with its schedule.

   A schedule's drill takes the newest checkpoint that is not known to be bad. If that turns out to
   be damaged, the next drill, which comes soon, takes the one before it. Refuses to publish
   anything, and to run two at a time (job.c): each takes as much memory as what lives in the
   checkpoint. */

#include <inttypes.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

job_t *drill_want(engine_t *e, engine_ckpt_t const *ckpt, int by, uint32_t uid) {
  task_t *task = task_new(e, ENGINE_OP_CKPT_DRILL, by, &ckpt->spec, uid);
  if (!task) return NULL;
  task->view.store_id = task->ask.store_id = ckpt->store_id;
  task->view.number = task->ask.number = ckpt->number;
  task->ask.footprint = ckpt->footprint;
  job_t *job = jobs_add_task(&e->jobs, NULL, task);
  if (!job) e->err = WKSP_E_NOMEM;
  return job;
}

void drill_settle(engine_t const *e, task_t *task) {
  if (task->view.by != SCHEDULE_BY_SLOT) return;
  engine_ckpt_t const *ckpt = catalog_newest(&e->catalog, task->of.name, 0, task->of.uid, NULL);
  if (!ckpt || ckpt->store_id != task->ask.store_id) return;
  task->view.number = task->ask.number = ckpt->number;
  task->ask.footprint = ckpt->footprint;
}

void drill_arm(engine_t *e, plan_t *plan) {
  uint64_t due = plan->schedule.drill_due_ns, now = e->now_real_ns;
  timers_stop(&e->timers, &plan->drill_timer);
  if (plan->dropped || !due || plan->drill_job || e->stopping || e->catalog_state != CATALOG_KNOWN)
    return;
  plan->drill_timer.owner = plan;
  plan->drill_timer.kind = TIMER_DRILL;
  if (timers_start(&e->timers, &plan->drill_timer, e->now_mono_ns + (due > now ? due - now : 1)))
    e->err = WKSP_E_NOMEM;
}

void drill_due(engine_t *e, plan_t *plan) {
  schedule_t const *schedule = &plan->schedule;
  engine_ckpt_t const *ckpt = catalog_newest(&e->catalog, schedule->name, 0, schedule->uid, NULL);
  if (!ckpt) return; /* with the end of the next checkpoint the timer starts again */
  job_t const *job = drill_want(e, ckpt, SCHEDULE_BY_SLOT, 0);
  if (job) plan->drill_job = job->job_id;
}

void drill_ended(engine_t *e, job_t *job, engine_reply_t const *fault) {
  engine_task_t const *view = &job->task->view;
  plan_t *plan = agenda_find(&e->agenda, view->name);
  if (fault && fault->code != ENGINE_CODE_CANCELLED)
    emit_log(e, ENGINE_LOG_ERROR,
             "event=drill-failed workspace=%s checkpoint=%" PRIu64 ".%" PRIx64 " job=%" PRIu64
             " by=%d reason=\"%s\"",
             view->name, view->store_id, view->number, job->job_id, view->by, fault->sentence);
  else if (!fault)
    emit_log(e, ENGINE_LOG_INFO,
             "event=drilled workspace=%s checkpoint=%" PRIu64 ".%" PRIx64 " job=%" PRIu64 " by=%d",
             view->name, view->store_id, view->number, job->job_id, view->by);
  if (!plan) return;
  int own = plan->drill_job == job->job_id;
  if (own) plan->drill_job = 0;
  if (plan->dropped || plan->schedule.uid != job->task->of.uid) return;
  /* One that a stop has cancelled is due at the next start. */
  if ((e->stopping && fault) || (!own && fault)) return;
  schedule_drill_note(&plan->schedule, e->now_real_ns, own ? SCHEDULE_BY_SLOT : SCHEDULE_BY_HAND,
                      fault ? fault->code : 0, view->number);
  drill_arm(e, plan);
  cadence_write(e, plan);
}
