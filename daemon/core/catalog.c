/* catalog: see catalog.h. A sorted array of pointers; new ones come last among those of their name.
   Refuses to judge what may be looked at by whom. */

#include "daemon/core/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "wksp/error.h"

#define CAP_MIN 64UL

static int ckpt_order(engine_ckpt_t const *a, engine_ckpt_t const *b) {
  int order = strcmp(a->spec.name, b->spec.name);
  if (order) return order;
  if (a->created_ns != b->created_ns) return a->created_ns < b->created_ns ? -1 : 1;
  if (a->store_id != b->store_id) return a->store_id < b->store_id ? -1 : 1;
  return a->number < b->number ? -1 : a->number > b->number;
}

static engine_ckpt_t *ckpt_copy(engine_ckpt_t const *ckpt) {
  size_t len = strlen(ckpt->info);
  engine_ckpt_t *copy = malloc(sizeof(*copy) + len + 1);
  if (!copy) return NULL;
  *copy = *ckpt;
  char *info = (char *)(copy + 1);
  memcpy(info, ckpt->info, len + 1);
  copy->info = info;
  return copy;
}

int catalog_add(catalog_t *catalog, engine_ckpt_t const *ckpt) {
  if (catalog->cnt == catalog->cap) {
    size_t cap = catalog->cap ? catalog->cap * 2 : CAP_MIN;
    engine_ckpt_t **items = realloc(catalog->items, cap * sizeof(engine_ckpt_t *));
    if (!items) return WKSP_E_NOMEM;
    catalog->items = items;
    catalog->cap = cap;
  }
  engine_ckpt_t *copy = ckpt_copy(ckpt);
  if (!copy) return WKSP_E_NOMEM;
  catalog_remove(catalog, ckpt->store_id, ckpt->number);
  size_t low = 0, high = catalog->cnt;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (ckpt_order(catalog->items[middle], copy) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  memmove(catalog->items + low + 1, catalog->items + low,
          (catalog->cnt - low) * sizeof(engine_ckpt_t *));
  catalog->items[low] = copy;
  catalog->cnt++;
  return 0;
}

engine_ckpt_t *catalog_find(catalog_t const *catalog, uint64_t store_id, uint64_t number) {
  for (size_t i = 0; i < catalog->cnt; i++)
    if (catalog->items[i]->store_id == store_id && catalog->items[i]->number == number)
      return catalog->items[i];
  return NULL;
}

/* Forgets those for which it holds. */
static void drop_if(catalog_t *catalog, uint64_t store_id, uint64_t number) {
  size_t kept = 0;
  for (size_t i = 0; i < catalog->cnt; i++) {
    engine_ckpt_t *item = catalog->items[i];
    if ((!store_id || item->store_id == store_id) && (!number || item->number == number))
      free(item);
    else
      catalog->items[kept++] = item;
  }
  catalog->cnt = kept;
}

void catalog_remove(catalog_t *catalog, uint64_t store_id, uint64_t number) {
  if (catalog_find(catalog, store_id, number)) drop_if(catalog, store_id, number);
}

void catalog_drop(catalog_t *catalog, uint64_t store_id) {
  drop_if(catalog, store_id, 0);
}

size_t catalog_place(catalog_t const *catalog, char const *name) {
  size_t low = 0, high = catalog->cnt;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (strcmp(catalog->items[middle]->spec.name, name) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

size_t catalog_after(catalog_t const *catalog, char const *name, uint64_t store_id,
                     uint64_t number) {
  size_t first = catalog_place(catalog, name);
  for (size_t i = first; i < catalog->cnt && !strcmp(catalog->items[i]->spec.name, name); i++)
    if (catalog->items[i]->store_id == store_id && catalog->items[i]->number == number)
      return i + 1;
  return first;
}

engine_ckpt_t *catalog_newest(catalog_t const *catalog, char const *name, int any_uid, uint32_t uid,
                              engine_ckpt_t const *before) {
  engine_ckpt_t *newest = NULL;
  for (size_t i = catalog_place(catalog, name);
       i < catalog->cnt && !strcmp(catalog->items[i]->spec.name, name); i++) {
    engine_ckpt_t *item = catalog->items[i];
    if (before && ckpt_order(item, before) >= 0) break;
    if (!item->bad[0] && (any_uid || item->spec.uid == uid)) newest = item;
  }
  return newest;
}

/* A number at *text in its one spelling, then end. 1 and *text behind that, or 0. */
static int take_number(char const **text, unsigned base, char end, uint64_t *ret_number) {
  uint64_t number = 0;
  char const *at = *text;
  if (*at == '0') return 0;
  for (; *at != end; at++) {
    unsigned digit = *at >= '0' && *at <= '9'   ? (unsigned)(*at - '0')
                     : *at >= 'a' && *at <= 'f' ? (unsigned)(*at - 'a') + 10
                                                : 99;
    if (digit >= base || __builtin_mul_overflow(number, base, &number) ||
        __builtin_add_overflow(number, digit, &number))
      return 0;
  }
  *text = at + 1;
  *ret_number = number;
  return number != 0;
}

int ckpt_id_parse(char const *text, uint64_t *ret_store_id, uint64_t *ret_number) {
  uint64_t store_id, number;
  if (!take_number(&text, 10, '.', &store_id) || !take_number(&text, 16, '\0', &number)) return 0;
  *ret_store_id = store_id;
  *ret_number = number;
  return 1;
}

char const *catalog_check(catalog_t const *catalog) {
  for (size_t i = 0; i < catalog->cnt; i++) {
    engine_ckpt_t const *item = catalog->items[i];
    if (!item->store_id || !item->number || !item->info) return "a checkpoint has an id and a text";
    if (i && ckpt_order(catalog->items[i - 1], item) >= 0) return "the catalog is sorted";
    if (!item->bad[0] && !item->spec.name[0]) return "a checkpoint that is not bad has a workspace";
  }
  return catalog->cnt > ENGINE_CKPTS_MAX ? "the catalog is bounded" : NULL;
}

void catalog_clear(catalog_t *catalog) {
  catalog_drop(catalog, 0);
  free(catalog->items);
  *catalog = (catalog_t){0};
}
