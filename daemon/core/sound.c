/* sound: whether checkpoints are good, as far as is known.

   A check, or a restore of all of one, says that it was at that moment; that is written down, and
   told by the next start's listing. One that is damaged makes all of its store doubtful, for they
   share files; so what is taken next relies on none of them. Refuses to look at any file. */

#include <string.h>

#include "daemon/core/engine_priv.h"

/* Those that share a damaged file are damaged, too, and who knows which. The next one relies on
   none of them; on that one, those after it (lib/ckpt/index.c). */
void ckpt_doubt(engine_t *e, uint64_t store_id) {
  for (size_t i = 0; i < e->catalog.cnt; i++)
    if (e->catalog.items[i]->store_id == store_id) e->catalog.items[i]->doubted = 1;
}

void ckpt_settle(engine_t const *e, task_t *task) {
  engine_ckpt_t const *last = NULL;
  for (size_t i = 0; i < e->catalog.cnt; i++) {
    engine_ckpt_t const *ckpt = e->catalog.items[i];
    if (ckpt->store_id == task->ask.store_id && (!last || ckpt->number > last->number)) last = ckpt;
  }
  task->ask.fresh = last && last->doubted;
  /* What would go is being read: it goes another time. */
  if (jobs_store_read(&e->jobs, task->ask.store_id)) task->ask.keep = (schedule_keep_t){0};
}

/* Wants a store's file to say what is so. */
static void note_down(engine_t *e, uint64_t store_id) {
  size_t cnt = 0;
  engine_ckpt_note_t *notes = emit_alloc(e, e->catalog.cnt + 1, sizeof(*notes));
  if (!notes) return;
  for (size_t i = 0; i < e->catalog.cnt; i++) {
    engine_ckpt_t const *ckpt = e->catalog.items[i];
    if (ckpt->store_id == store_id && ckpt->verified_ns)
      notes[cnt++] = (engine_ckpt_note_t){ckpt->number, ckpt->verified_ns, ckpt->drilled_ns};
  }
  engine_effect_t *effect = emit(e, ENGINE_FX_CKPT_NOTES);
  effect->u.ckpt_notes.store_id = store_id;
  effect->u.ckpt_notes.notes = notes;
  effect->u.ckpt_notes.note_cnt = cnt;
}

void ckpt_sound(engine_t *e, engine_ckpt_t *ckpt, int restored) {
  ckpt->verified_ns = e->now_real_ns ? e->now_real_ns : 1;
  if (restored) ckpt->drilled_ns = ckpt->verified_ns;
  ckpt->bad[0] = 0;
  note_down(e, ckpt->store_id);
}

void ckpt_verified(engine_t *e, task_t *task, engine_event_t const *event) {
  engine_ckpt_t *ckpt = catalog_find(&e->catalog, task->ask.store_id, task->ask.number);
  int status = event->u.worker_done.status;
  char const *detail = event->u.worker_done.detail;
  if (!ckpt) return;
  int drill = task->view.op == ENGINE_OP_CKPT_DRILL;
  if (status == ENGINE_WORKER_OK) {
    ckpt_sound(e, ckpt, drill);
  } else if (status == ENGINE_WORKER_DAMAGED || (drill && status == ENGINE_WORKER_CRASHED)) {
    text_printable(detail ? detail : "it is damaged", ckpt->bad, sizeof(ckpt->bad));
    ckpt_doubt(e, ckpt->store_id);
  }
}

void ckpt_proven(engine_t const *e, engine_stats_t *stats) {
  for (size_t i = 0; i < e->agenda.cnt; i++) {
    plan_t const *plan = e->agenda.plans[i];
    schedule_t const *schedule = &plan->schedule;
    uint64_t newest = 0;
    if (plan->dropped) continue;
    for (size_t k = catalog_place(&e->catalog, schedule->name);
         k < e->catalog.cnt && !strcmp(e->catalog.items[k]->spec.name, schedule->name); k++) {
      engine_ckpt_t const *ckpt = e->catalog.items[k];
      if (ckpt->verified_ns && !ckpt->bad[0] && ckpt->spec.uid == schedule->uid)
        newest = ckpt->created_ns; /* they come in the order of times */
    }
    if (!newest)
      stats->unproven_cnt++;
    else if (!stats->proven_ns || newest < stats->proven_ns)
      stats->proven_ns = newest;
  }
}
