/* catalog: the checkpoints that there are, by whose they are and when they were taken.

   What lies on disk is read by workers; here is what they said, so that lists and the choice of a
   checkpoint need no disk.

   Invariants (catalog_check): sorted by name, then time, then id; no id is there twice. */

#ifndef WKSPD_CORE_CATALOG_H
#define WKSPD_CORE_CATALOG_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/engine.h"

/* Zeroes are an empty catalog. */
typedef struct catalog {
  engine_ckpt_t **items; /* owned, as are their texts */
  size_t cnt, cap;
} catalog_t;

/* Adds a copy, in the place of the one of that id if there is one. 0 or WKSP_E_NOMEM. */
int catalog_add(catalog_t *catalog, engine_ckpt_t const *ckpt);

/* NULL: none of that id. Linear. */
engine_ckpt_t *catalog_find(catalog_t const *catalog, uint64_t store_id, uint64_t number);

/* Forgets it, if it is there. */
void catalog_remove(catalog_t *catalog, uint64_t store_id, uint64_t number);

/* Forgets all of a store; 0: of all. */
void catalog_drop(catalog_t *catalog, uint64_t store_id);

/* The newest that is not known to be bad of workspaces of that name and owner, older than before
   if that is not NULL. NULL: none. any_uid: whoever the owner was. */
engine_ckpt_t *catalog_newest(catalog_t const *catalog, char const *name, int any_uid, uint32_t uid,
                              engine_ckpt_t const *before);

/* The place of the first with that name, or after where it would stand. */
size_t catalog_place(catalog_t const *catalog, char const *name);

/* The place behind one of that name and id; that of the first of the name if it is not there. */
size_t catalog_after(catalog_t const *catalog, char const *name, uint64_t store_id,
                     uint64_t number);

/* Reads "STORE.NUMBER", the latter in hexadecimal. 1, or 0: it is none. */
int ckpt_id_parse(char const *text, uint64_t *ret_store_id, uint64_t *ret_number);

/* NULL, or which invariant is broken. */
char const *catalog_check(catalog_t const *catalog);

void catalog_clear(catalog_t *catalog);

#endif
