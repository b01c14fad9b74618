/* idmap: ids come from peers' connections and from counters, so the hash has to spread neighbours,
   and need not resist an attacker: every id is chosen by us. It refuses id collisions (asserted)
   and never shrinks: the limits of limits.h bound it. */

#include "daemon/core/idmap.h"

#include <assert.h>
#include <stdlib.h>

#include "wksp/error.h"

#define IDMAP_CAP_MIN 16UL

static size_t idmap_home(idmap_t const *map, uint64_t id) {
  uint64_t hash = id * 0x9e3779b97f4a7c15UL;
  return (size_t)(hash >> 32) & (map->cap - 1);
}

static size_t idmap_place(idmap_t const *map, uint64_t id) {
  size_t place = idmap_home(map, id);
  while (map->entries[place].item && map->entries[place].id != id)
    place = (place + 1) & (map->cap - 1);
  return place;
}

void *idmap_get(idmap_t const *map, uint64_t id) {
  if (!map->cap) return NULL;
  return map->entries[idmap_place(map, id)].item;
}

static int idmap_grow(idmap_t *map) {
  size_t cap = map->cap ? map->cap * 2 : IDMAP_CAP_MIN;
  idmap_t grown = {.entries = calloc(cap, sizeof(idmap_entry_t)), .cap = cap, .cnt = map->cnt};
  if (!grown.entries) return WKSP_E_NOMEM;

  for (size_t i = 0; i < map->cap; i++) {
    if (!map->entries[i].item) continue;
    grown.entries[idmap_place(&grown, map->entries[i].id)] = map->entries[i];
  }
  free(map->entries);
  *map = grown;
  return 0;
}

int idmap_add(idmap_t *map, uint64_t id, void *item) {
  assert(item);
  if ((map->cnt + 1) * 2 > map->cap) {
    int err = idmap_grow(map);
    if (err) return err;
  }
  size_t place = idmap_place(map, id);
  assert(!map->entries[place].item);
  map->entries[place] = (idmap_entry_t){.id = id, .item = item};
  map->cnt++;
  return 0;
}

void idmap_remove(idmap_t *map, uint64_t id) {
  if (!map->cap) return;
  size_t hole = idmap_place(map, id);
  if (!map->entries[hole].item) return;

  /* Close the hole: whoever behind it could live there moves up, or its probe would stop short. */
  for (size_t i = (hole + 1) & (map->cap - 1); map->entries[i].item; i = (i + 1) & (map->cap - 1)) {
    size_t home = idmap_home(map, map->entries[i].id);
    if (((i - home) & (map->cap - 1)) >= ((i - hole) & (map->cap - 1))) {
      map->entries[hole] = map->entries[i];
      hole = i;
    }
  }
  map->entries[hole] = (idmap_entry_t){0};
  map->cnt--;
}

void *idmap_next(idmap_t const *map, size_t *place) {
  while (*place < map->cap) {
    void *item = map->entries[(*place)++].item;
    if (item) return item;
  }
  return NULL;
}

int idmap_check(idmap_t const *map) {
  size_t cnt = 0;
  if (map->cap & (map->cap - 1)) return 0;
  for (size_t i = 0; i < map->cap; i++) {
    if (!map->entries[i].item) continue;
    if (idmap_place(map, map->entries[i].id) != i) return 0;
    cnt++;
  }
  return cnt == map->cnt && map->cnt * 2 <= map->cap;
}

void idmap_clear(idmap_t *map) {
  free(map->entries);
  *map = (idmap_t){0};
}
