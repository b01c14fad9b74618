/* frag_model: exact best fit, by brute force.

   What the workspace is measured against, so it is as plain as can be: the holes in an array in the
   order of addresses. An allocation looks at all of them and takes the smallest that holds it once
   it is aligned, of equal ones the lowest; what is before and behind stays a hole. A free merges
   with the holes beside it at once. Sizes are multiples of the grain. */

#include "bench.h"
#include "frag.h"

#include <stdlib.h>
#include <string.h>

typedef struct hole {
  uint64_t at, size;
} hole_t;

typedef struct model {
  frag_alloc_t alloc;
  hole_t *holes; /* by address, none touches the next */
  size_t cnt, max;
} model_t;

/* Replaces hole h by cnt others (0 to 2); holes behind move. */
static void replace(model_t *model, size_t h, hole_t const *with, size_t cnt) {
  if (model->cnt + cnt > model->max) bench_die("the model has more holes than allocations");
  memmove(&model->holes[h + cnt], &model->holes[h + 1],
          (model->cnt - h - 1) * sizeof(*model->holes));
  if (cnt) memcpy(&model->holes[h], with, cnt * sizeof(*with));
  model->cnt += cnt - 1;
}

static uint64_t model_take(frag_alloc_t *alloc, uint64_t size, uint64_t align) {
  model_t *model = (model_t *)alloc;
  size_t best = model->cnt;
  for (size_t h = 0; h < model->cnt; h++) {
    hole_t const *hole = &model->holes[h];
    uint64_t pad = -hole->at & (align - 1);
    if (hole->size < size || hole->size - size < pad) continue;
    if (best == model->cnt || hole->size < model->holes[best].size) best = h;
  }
  if (best == model->cnt) return FRAG_NONE;
  hole_t hole = model->holes[best], rest[2];
  uint64_t pad = -hole.at & (align - 1), at = hole.at + pad;
  size_t cnt = 0;
  if (pad) rest[cnt++] = (hole_t){hole.at, pad};
  if (hole.size > pad + size) rest[cnt++] = (hole_t){at + size, hole.size - pad - size};
  replace(model, best, rest, cnt);
  return at;
}

static void model_give(frag_alloc_t *alloc, uint64_t at, uint64_t size) {
  model_t *model = (model_t *)alloc;
  size_t h = 0; /* the first hole behind */
  while (h < model->cnt && model->holes[h].at < at) h++;
  int before = h > 0 && model->holes[h - 1].at + model->holes[h - 1].size == at;
  int behind = h < model->cnt && model->holes[h].at == at + size;
  if (before && behind) {
    model->holes[h - 1].size += size + model->holes[h].size;
    replace(model, h, NULL, 0);
  } else if (before) {
    model->holes[h - 1].size += size;
  } else if (behind) {
    model->holes[h] = (hole_t){at, size + model->holes[h].size};
  } else {
    if (model->cnt == model->max) bench_die("the model has more holes than allocations");
    memmove(&model->holes[h + 1], &model->holes[h], (model->cnt - h) * sizeof(*model->holes));
    model->holes[h] = (hole_t){at, size};
    model->cnt++;
  }
}

static void model_end(frag_alloc_t *alloc) {
  model_t *model = (model_t *)alloc;
  free(model->holes);
  free(model);
}

frag_alloc_t *frag_model_new(uint64_t region, uint64_t used_max) {
  model_t *model = bench_alloc(1, sizeof(*model));
  model->alloc = (frag_alloc_t){model_take, model_give, model_end};
  model->max = used_max + 4; /* between all, at both ends, and a spare one while one is replaced */
  model->holes = bench_alloc(model->max, sizeof(*model->holes));
  model->holes[model->cnt++] = (hole_t){0, region};
  return &model->alloc;
}
