/* recover: what a start finds, and what becomes of it.

     spec says    memory found   becomes
     making       any            thrown away, memory first
     ready        yes            served
     ready        read only      served to readers
     ready        no             quarantined: its name and its owner are kept for people to decide
     removing     any            removed when its last lease has ended
     gone         -              remembered for its calls (history.h)
     unreadable,  any            quarantined under the name quarantined-<id>, root's
      or none

   Nothing is thrown away that was ever published: only its owner or root removes it. Refuses to
   serve anything before RECOVERED_END. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/engine_priv.h"
#include "wksp/error.h"

/* A name that nobody has, for a workspace that cannot have its own. Of more candidates than there
   are workspaces one is free. */
static void recover_name(engine_t const *e, ws_t *ws) {
  char name[SPEC_NAME_MAX + 1];

  snprintf(name, sizeof(name), "quarantined-%" PRIu64, ws->spec.ws_id);
  for (size_t i = 0; i <= e->registry.by_name.cnt && registry_by_name(&e->registry, name); i++)
    snprintf(name, sizeof(name), "q-%" PRIu64 ".%zu", ws->spec.ws_id, i);
  memcpy(ws->spec.name, name, sizeof(name));
}

static void recover_quarantine(engine_t *e, ws_t *ws, char const *reason) {
  ws->quarantined = 1;
  text_printable(reason ? reason : "no reason was given", ws->reason, sizeof(ws->reason));
  emit_log(e, ENGINE_LOG_ERROR, "event=quarantined workspace=%s id=%" PRIu64 " reason=\"%s\"",
           ws->spec.name, ws->spec.ws_id, ws->reason);
}

static void recover_read_only(engine_t *e, ws_t *ws, char const *reason) {
  text_printable(reason ? reason : "no reason was given", ws->reason, sizeof(ws->reason));
  emit_log(e, ENGINE_LOG_WARN, "event=read-only workspace=%s id=%" PRIu64 " reason=\"%s\"",
           ws->spec.name, ws->spec.ws_id, ws->reason);
}

/* READY, or not known: gets a name and is served or quarantined. */
static void recover_named(engine_t *e, ws_t *ws, char const *reason) {
  char clash[ENGINE_REASON_MAX];
  int sound = ws->spec_known && ws->has_memory;

  ws->state = WS_READY;
  ws->maybe_ready = 1;
  if (!ws->spec_known) {
    recover_name(e, ws);
  } else if (registry_by_name(&e->registry, ws->spec.name)) {
    snprintf(clash, sizeof(clash), "another workspace has its name, \"%s\"", ws->spec.name);
    reason = clash;
    sound = 0;
    recover_name(e, ws);
  } else if (registry_by_uuid(&e->registry, ws->spec.uuid)) {
    reason = "another workspace has its uuid";
    sound = 0;
  }
  if (registry_list(&e->registry, ws, 1)) e->err = WKSP_E_NOMEM;
  if (!sound)
    recover_quarantine(e, ws, reason);
  else if (ws->read_only)
    recover_read_only(e, ws, reason);
}

int recover_workspace(engine_t *e, engine_event_t const *event) {
  spec_t const *spec = &event->u.recovered_workspace.spec;
  int spec_known = event->u.recovered_workspace.spec_known;

  if (e->phase != ENGINE_PHASE_RECOVERING || !spec->ws_id) return WKSP_E_INVAL;
  if (spec_known && spec_check(spec)) return WKSP_E_INVAL;
  if (registry_by_id(&e->registry, spec->ws_id)) return WKSP_E_INVAL;
  if (spec_known && spec->state == SPEC_GONE) {
    if (spec->ws_id > e->ws_id_high) e->ws_id_high = spec->ws_id;
    remove_remember(e, spec);
    return 0;
  }

  ws_t *ws = registry_add(&e->registry, spec->ws_id);
  if (!ws) return WKSP_E_NOMEM;
  if (spec->ws_id > e->ws_id_high) e->ws_id_high = spec->ws_id;
  ws->spec_known = spec_known;
  ws->has_memory = event->u.recovered_workspace.memory;
  ws->read_only = event->u.recovered_workspace.read_only;
  ws->size_min = event->u.recovered_workspace.size_min;
  if (spec_known) {
    ws->spec = *spec;
  } else {
    ws->spec.size = ws->spec.max_size = spec->size;
    ws->spec.uid = spec->uid; /* of the daemon: it is the operator's to judge */
    ws->spec.gid = spec->gid;
    memcpy(ws->spec.uuid, spec->uuid, sizeof(ws->spec.uuid)); /* what it claims: for people */
  }

  if (spec_known && spec->state == SPEC_REMOVING) {
    ws->state = WS_REMOVING;
    if (registry_list(&e->registry, ws, 0)) e->err = WKSP_E_NOMEM;
  } else if (spec_known && spec->state == SPEC_MAKING) {
    ws->state = WS_UNSPEC; /* undone at RECOVERED_END */
  } else {
    recover_named(e, ws, event->u.recovered_workspace.reason);
  }
  if (spec_known && !registry_by_uuid(&e->registry, spec->uuid) &&
      registry_add_uuid(&e->registry, ws))
    e->err = WKSP_E_NOMEM;
  return 0;
}

static void recover_drop_lease(engine_t *e, uint64_t lease_id, uint64_t ws_id) {
  engine_effect_t *drop = emit(e, ENGINE_FX_LEASE_DROP);

  drop->u.lease_drop.lease_id = lease_id;
  drop->u.lease_drop.ws_id = ws_id;
  emit_log(e, ENGINE_LOG_WARN, "event=lease-without-workspace lease=%" PRIu64 " id=%" PRIu64,
           lease_id, ws_id);
}

int recover_lease(engine_t *e, engine_event_t const *event) {
  uint64_t lease_id = event->u.recovered_lease.lease_id;
  ws_t *ws = registry_by_id(&e->registry, event->u.recovered_lease.ws_id);
  int mode = event->u.recovered_lease.mode;

  if (e->phase != ENGINE_PHASE_RECOVERING || !lease_id) return WKSP_E_INVAL;
  if (mode != ENGINE_OPEN_RW && mode != ENGINE_OPEN_RO) return WKSP_E_INVAL;
  if (leases_by_id(&e->leases, lease_id)) return WKSP_E_INVAL;
  if (lease_id > e->lease_id_high) e->lease_id_high = lease_id;
  if (!ws || ws->state == WS_UNSPEC) {
    recover_drop_lease(e, lease_id, event->u.recovered_lease.ws_id);
    return 0;
  }

  lease_t *lease = leases_add(&e->leases, lease_id, ws, mode, LEASE_HELD);
  if (!lease) return WKSP_E_NOMEM;
  lease->pid = event->u.recovered_lease.pid;
  lease->uid = event->u.recovered_lease.uid;
  lease->gid = event->u.recovered_lease.gid;
  return 0;
}

void recover_end(engine_t *e) {
  size_t place = 0;

  for (ws_t *ws; (ws = idmap_next(&e->registry.by_id, &place));) {
    if (ws->state == WS_UNSPEC)
      remove_rest(e, ws);
    else
      remove_if_unheld(e, ws);
  }
  e->phase = ENGINE_PHASE_SERVING;
  emit_log(e, ENGINE_LOG_INFO, "event=recovered workspaces=%zu leases=%zu", e->registry.by_id.cnt,
           e->leases.by_id.cnt);
}
