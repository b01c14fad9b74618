/* registry: see registry.h. The two ordered indexes are sorted arrays of pointers: a page of List
   is a walk along one, and with at most 10,240 entries an insertion moves 80 KiB at the worst, once
   per create. Refuses to know what the states mean; that is the engine's. */

#include "daemon/core/registry.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/lease.h"
#include "wksp/error.h"

#define INDEX_CAP_MIN 16UL

static int name_order(char const *name_a, int named_a, uint64_t id_a, ws_t const *ws) {
  int order = strcmp(name_a, ws->spec.name);
  if (order) return order;
  if (named_a != ws->named) return named_a ? -1 : 1;
  if (id_a != ws->spec.ws_id) return id_a < ws->spec.ws_id ? -1 : 1;
  return 0;
}

static int uuid_order(uint8_t const uuid[16], ws_t const *ws) {
  return memcmp(uuid, ws->spec.uuid, 16);
}

/* The first place whose workspace is not before (name, named, id). */
static size_t name_place(ws_index_t const *index, char const *name, int named, uint64_t id) {
  size_t lo = 0, hi = index->cnt;
  while (lo < hi) {
    size_t mid = lo + (hi - lo) / 2;
    if (name_order(name, named, id, index->items[mid]) > 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

static size_t uuid_place(ws_index_t const *index, uint8_t const uuid[16]) {
  size_t lo = 0, hi = index->cnt;
  while (lo < hi) {
    size_t mid = lo + (hi - lo) / 2;
    if (uuid_order(uuid, index->items[mid]) > 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

static int index_insert(ws_index_t *index, size_t place, ws_t *ws) {
  if (index->cnt == index->cap) {
    size_t cap = index->cap ? index->cap * 2 : INDEX_CAP_MIN;
    ws_t **items = realloc(index->items, cap * sizeof(*items));
    if (!items) return WKSP_E_NOMEM;
    index->items = items;
    index->cap = cap;
  }
  memmove(index->items + place + 1, index->items + place,
          (index->cnt - place) * sizeof(*index->items));
  index->items[place] = ws;
  index->cnt++;
  return 0;
}

static void index_delete(ws_index_t *index, size_t place) {
  index->cnt--;
  memmove(index->items + place, index->items + place + 1,
          (index->cnt - place) * sizeof(*index->items));
}

ws_t *registry_add(registry_t *registry, uint64_t ws_id) {
  ws_t *ws = calloc(1, sizeof(*ws));
  if (!ws) return NULL;
  ws->spec.ws_id = ws_id;
  if (idmap_add(&registry->by_id, ws_id, ws)) {
    free(ws);
    return NULL;
  }
  return ws;
}

/* The place of ws itself in by_name, or cnt. */
static size_t registry_listed(registry_t const *registry, ws_t const *ws) {
  size_t place = name_place(&registry->by_name, ws->spec.name, ws->named, ws->spec.ws_id);
  if (place < registry->by_name.cnt && registry->by_name.items[place] == ws) return place;
  return registry->by_name.cnt;
}

void registry_unlist(registry_t *registry, ws_t *ws) {
  size_t place = registry_listed(registry, ws);
  if (place < registry->by_name.cnt) index_delete(&registry->by_name, place);
  ws->named = 0;
}

void registry_remove(registry_t *registry, ws_t *ws) {
  assert(!ws->leases && !ws->ended && !ws->retry.place);
  registry_unlist(registry, ws);
  size_t place = uuid_place(&registry->by_uuid, ws->spec.uuid);
  if (place < registry->by_uuid.cnt && registry->by_uuid.items[place] == ws)
    index_delete(&registry->by_uuid, place);
  idmap_remove(&registry->by_id, ws->spec.ws_id);
  free(ws);
}

ws_t *registry_by_id(registry_t const *registry, uint64_t ws_id) {
  return idmap_get(&registry->by_id, ws_id);
}

ws_t *registry_by_name(registry_t const *registry, char const *name) {
  size_t place = name_place(&registry->by_name, name, 1, 0);
  if (place == registry->by_name.cnt) return NULL;
  ws_t *ws = registry->by_name.items[place];
  return ws->named && !strcmp(ws->spec.name, name) ? ws : NULL;
}

ws_t *registry_by_uuid(registry_t const *registry, uint8_t const uuid[16]) {
  size_t place = uuid_place(&registry->by_uuid, uuid);
  if (place == registry->by_uuid.cnt) return NULL;
  ws_t *ws = registry->by_uuid.items[place];
  return uuid_order(uuid, ws) ? NULL : ws;
}

int registry_list(registry_t *registry, ws_t *ws, int named) {
  assert(!named || !registry_by_name(registry, ws->spec.name));
  size_t place = name_place(&registry->by_name, ws->spec.name, named, ws->spec.ws_id);
  int err = index_insert(&registry->by_name, place, ws);
  if (!err) ws->named = named;
  return err;
}

int registry_add_uuid(registry_t *registry, ws_t *ws) {
  assert(!registry_by_uuid(registry, ws->spec.uuid));
  return index_insert(&registry->by_uuid, uuid_place(&registry->by_uuid, ws->spec.uuid), ws);
}

size_t registry_after(registry_t const *registry, char const *name, int named, uint64_t ws_id) {
  size_t place = name_place(&registry->by_name, name, named, ws_id);
  if (place < registry->by_name.cnt &&
      !name_order(name, named, ws_id, registry->by_name.items[place]))
    place++;
  return place;
}

uint32_t ws_lease_cnt(ws_t const *ws) {
  return ws->rw_cnt + ws->ro_cnt + ws->making_cnt;
}

int ws_visible(ws_t const *ws) {
  return ws->named && (ws->state == WS_READY || ws->state == WS_RESIZING ||
                       ws->state == WS_RESTORING || ws->state == WS_SPEC_REMOVING);
}

void ws_note(ws_t *ws, char const *note) {
  if (note && note[0]) snprintf(ws->note, sizeof(ws->note), "%s", note);
}

int ws_undone(ws_t const *ws) {
  return ws->aborted || ws->state == WS_SPEC_UNMAKING || ws->state == WS_UNSPEC;
}

static char const *ws_check(ws_t const *ws) {
  int served = ws->state == WS_READY || ws->state == WS_RESIZING || ws->state == WS_RESTORING;
  uint32_t rw_cnt = 0, ro_cnt = 0, making_cnt = 0;
  for (lease_t const *lease = ws->leases; lease; lease = lease->next) {
    if (lease->ws != ws) return "a lease in a workspace's list belongs to it";
    if (lease->state == LEASE_MAKING)
      making_cnt++;
    else if (lease->state != LEASE_HELD)
      return "a workspace's leases are in the making or held";
    else if (lease->mode)
      ro_cnt++;
    else
      rw_cnt++;
  }
  if (rw_cnt != ws->rw_cnt || ro_cnt != ws->ro_cnt || making_cnt != ws->making_cnt)
    return "a workspace's lease counts agree with its list";
  for (lease_t const *lease = ws->ended; lease; lease = lease->next)
    if (lease->ws != ws || lease->state != LEASE_ENDED || lease->mode)
      return "leases that wait for a reap were read-write and have ended";
  if (ws->ended && !served && ws->state != WS_SPEC_REMOVING)
    return "only a served workspace has leases that wait for a reap";
  if (ws->leases && !served && ws->state != WS_SPEC_REMOVING && ws->state != WS_REMOVING)
    return "only a published or removed workspace has leases";

  int must = ws->state == WS_SPEC_MAKING || ws->state == WS_MEMORY || ws->state == WS_SPEC_READY ||
             ws->state == WS_SPEC_UNMAKING || ws->state == WS_SPEC_REMOVING ||
             (ws->state == WS_RESIZING && ws->resize.step != RESIZE_WORK);
  int may = must || ws->state == WS_RESTORING || ws->state == WS_UNSPEC;
  if ((must && !ws->awaiting) || (!may && ws->awaiting))
    return "a workspace awaits an answer exactly in the states that have one";
  if ((ws->state == WS_RESIZING) != (ws->resize.step != RESIZE_NONE))
    return "a workspace is in a step of a resize exactly while it is resized";
  if (ws->state == WS_FILLING && !ws->restore_job) return "what is filled is filled by a restore";
  if (ws->retry.place && (ws->awaiting || !may)) return "a retry waits when nothing else does";
  return NULL;
}

char const *registry_check(registry_t const *registry) {
  ws_index_t const *names = &registry->by_name, *uuids = &registry->by_uuid;
  size_t place = 0, listed = 0;

  if (!idmap_check(&registry->by_id)) return "workspaces by id";
  for (ws_t const *ws; (ws = idmap_next(&registry->by_id, &place));) {
    char const *broken = ws_check(ws);
    if (broken) return broken;
    if (registry_by_id(registry, ws->spec.ws_id) != ws)
      return "by id finds the workspace of the id";
    int in_names = registry_listed(registry, ws) < names->cnt;
    if (in_names != (ws->named || ws->state == WS_REMOVING))
      return "by name has exactly the workspaces that are named or being removed";
    if (ws->named && registry_by_name(registry, ws->spec.name) != ws)
      return "by name finds the holder of the name";
    listed += (size_t)in_names;
  }
  if (listed != names->cnt) return "by name has only workspaces that by id has";
  for (size_t i = 1; i < names->cnt; i++) {
    ws_t const *ws = names->items[i - 1];
    if (name_order(ws->spec.name, ws->named, ws->spec.ws_id, names->items[i]) >= 0)
      return "by name is sorted";
    if (ws->named && names->items[i]->named && !strcmp(ws->spec.name, names->items[i]->spec.name))
      return "a name has one holder";
  }
  for (size_t i = 0; i < uuids->cnt; i++) {
    ws_t const *ws = uuids->items[i];
    if (registry_by_id(registry, ws->spec.ws_id) != ws) return "by uuid has workspaces of by id";
    if (i && uuid_order(uuids->items[i - 1]->spec.uuid, ws) >= 0)
      return "by uuid is sorted and has none twice";
  }
  return NULL;
}

void registry_clear(registry_t *registry) {
  size_t place = 0;
  for (ws_t *ws; (ws = idmap_next(&registry->by_id, &place));) free(ws);
  idmap_clear(&registry->by_id);
  free(registry->by_name.items);
  free(registry->by_uuid.items);
  *registry = (registry_t){0};
}
