/* lease: see lease.h. Refuses to decide anything: when a lease ends, is reaped or dropped is the
   engine's. */

#include "daemon/core/lease.h"

#include <assert.h>
#include <stdlib.h>

#include "daemon/core/call.h"
#include "daemon/core/engine.h"
#include "daemon/core/registry.h"

/* The count of its workspace that a lease in the list leases stands in. */
static uint32_t *lease_counter(lease_t const *lease) {
  if (lease->state == LEASE_MAKING) return &lease->ws->making_cnt;
  return lease->mode == ENGINE_OPEN_RO ? &lease->ws->ro_cnt : &lease->ws->rw_cnt;
}

static void lease_unlink(lease_t *lease) {
  lease_t **head = lease->state == LEASE_ENDED ? &lease->ws->ended : &lease->ws->leases;
  if (lease->prev)
    lease->prev->next = lease->next;
  else
    *head = lease->next;
  if (lease->next) lease->next->prev = lease->prev;
  lease->prev = lease->next = NULL;
  if (lease->state != LEASE_ENDED) --*lease_counter(lease);
}

lease_t *leases_add(leases_t *leases, uint64_t lease_id, ws_t *ws, int mode, int state) {
  lease_t *lease = calloc(1, sizeof(*lease));
  if (!lease) return NULL;
  if (idmap_add(&leases->by_id, lease_id, lease)) {
    free(lease);
    return NULL;
  }
  lease->lease_id = lease_id;
  lease->ws = ws;
  lease->mode = mode;
  lease->state = state;
  lease->next = ws->leases;
  if (ws->leases) ws->leases->prev = lease;
  ws->leases = lease;
  ++*lease_counter(lease);
  return lease;
}

lease_t *leases_by_id(leases_t const *leases, uint64_t lease_id) {
  return idmap_get(&leases->by_id, lease_id);
}

void lease_hold(lease_t *lease) {
  assert(lease->state == LEASE_MAKING);
  --*lease_counter(lease);
  lease->state = LEASE_HELD;
  ++*lease_counter(lease);
}

void lease_end(lease_t *lease) {
  assert(lease->state == LEASE_HELD);
  lease_unlink(lease);
  lease->state = LEASE_ENDED;
  lease->next = lease->ws->ended;
  if (lease->ws->ended) lease->ws->ended->prev = lease;
  lease->ws->ended = lease;
}

void leases_remove(leases_t *leases, lease_t *lease) {
  lease_unlink(lease);
  idmap_remove(&leases->by_id, lease->lease_id);
  free(lease);
}

char const *leases_check(leases_t const *leases) {
  size_t place = 0;

  if (!idmap_check(&leases->by_id)) return "leases by id";
  for (lease_t const *lease; (lease = idmap_next(&leases->by_id, &place));) {
    if (leases_by_id(leases, lease->lease_id) != lease) return "by id finds the lease of the id";
    if (!lease->ws) return "every lease has a workspace";
    if (lease->call && (lease->state != LEASE_MAKING || lease->call->lease != lease))
      return "a lease's call waits for it";

    lease_t const *at = lease->state == LEASE_ENDED ? lease->ws->ended : lease->ws->leases;
    if (!lease->prev && at != lease) return "every lease is in a list of its workspace";
    if (lease->prev && lease->prev->next != lease) return "lists of leases are linked both ways";
    if (lease->next && lease->next->prev != lease) return "lists of leases are linked both ways";
  }
  return NULL;
}

void leases_clear(leases_t *leases) {
  size_t place = 0;
  for (lease_t *lease; (lease = idmap_next(&leases->by_id, &place));) free(lease);
  idmap_clear(&leases->by_id);
}
