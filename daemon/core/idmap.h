/* idmap: from a 64-bit id to the thing that has it. Open addressing with linear probing; at most
   half full, so a probe ends. Deterministic: the same calls give the same order of walks.

   Invariants (idmap_check): cnt <= cap / 2; cap is 0 or a power of two; every entry is found by its
   id. */

#ifndef WKSPD_CORE_IDMAP_H
#define WKSPD_CORE_IDMAP_H

#include <stddef.h>
#include <stdint.h>

typedef struct idmap_entry {
  uint64_t id;
  void *item; /* NULL: the place is empty */
} idmap_entry_t;

/* Zeroes are an empty map. */
typedef struct idmap {
  idmap_entry_t *entries;
  size_t cap, cnt;
} idmap_t;

/* The item of id, NULL if there is none. */
void *idmap_get(idmap_t const *map, uint64_t id);

/* Adds it; id must not be there, item not be NULL. 0, or WKSP_E_NOMEM and nothing has changed. */
int idmap_add(idmap_t *map, uint64_t id, void *item);

/* Takes id out, if it is there. Items may move: not within a walk. */
void idmap_remove(idmap_t *map, uint64_t id);

/* The first item in place *place or after it, NULL at the end; *place becomes the next place to ask
   for. Start with 0. */
void *idmap_next(idmap_t const *map, size_t *place);

/* 1 if the invariants hold. */
int idmap_check(idmap_t const *map);

/* Frees the map, not the items; it is empty then. */
void idmap_clear(idmap_t *map);

#endif
