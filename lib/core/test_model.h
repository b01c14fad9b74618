/* test_model: what a workspace's partitions, roots and seed must be, as plain as can be: a sorted
   array of ranges and a handful of names. Tests do to the model what they do to the workspace and
   compare; what is legal is decided here, by looking at everything.

   Refuses: to know how the library does it. */

#ifndef WKSP_CORE_TEST_MODEL_H
#define WKSP_CORE_TEST_MODEL_H

#include "core/testing.h"

#define MODEL_ROOTS 6

typedef struct model_range {
  ulong gaddr, size, tag; /* tag 0: free */
} model_range_t;

typedef struct model_root {
  ulong gaddr, tag; /* gaddr 0: not bound */
} model_root_t;

/* range[0 .. cnt) cover [lo, hi) without gaps, in order, no two free ones side by side. */
typedef struct model {
  ulong lo, hi;
  uint32_t cnt, max; /* max: the workspace's part_max */
  uint seed;
  model_root_t root[MODEL_ROOTS];
  model_range_t *range;
} model_t;

static inline ulong model_up(ulong value, ulong align) {
  return (value + align - 1) & ~(align - 1);
}

/* Of a workspace in which nothing has been done yet. */
static inline void model_new(model_t *model, fd_wksp_t *wksp) {
  *model = (model_t){.lo = fd_wksp_gaddr_lo(wksp),
                     .hi = fd_wksp_gaddr_hi(wksp),
                     .cnt = 1,
                     .max = (uint32_t)fd_wksp_part_max(wksp),
                     .seed = fd_wksp_seed(wksp)};
  model->range = malloc((model->max + 2) * sizeof(model_range_t));
  assert_non_null(model->range);
  model->range[0] = (model_range_t){model->lo, model->hi - model->lo, 0};
}

static inline void model_end(model_t *model) {
  free(model->range);
}

/* Both of the same workspace. */
static inline void model_copy(model_t *to, model_t const *from) {
  model_range_t *range = to->range;
  *to = *from;
  to->range = range;
  memcpy(range, from->range, from->cnt * sizeof(*range));
}

/* The range that contains gaddr, which lies in the data region. */
static inline uint32_t model_at(model_t const *model, ulong gaddr) {
  uint32_t lo = 0, hi = model->cnt - 1;
  while (lo < hi) {
    uint32_t mid = hi - (hi - lo) / 2;
    if (model->range[mid].gaddr <= gaddr)
      lo = mid;
    else
      hi = mid - 1;
  }
  return lo;
}

static inline int model_inside(model_t const *model, ulong gaddr) {
  return gaddr >= model->lo && gaddr < model->hi;
}

/* The size that a request takes; 0 if that is beyond 64 bits. */
static inline ulong model_size(ulong sz) {
  return model_up(sz, FD_WKSP_PART_GRAIN) < sz ? 0 : model_up(sz, FD_WKSP_PART_GRAIN);
}

/* The alignment that a request gets. */
static inline ulong model_align(ulong align) {
  if (!align) return FD_WKSP_ALLOC_ALIGN_DEFAULT;
  return align < FD_WKSP_PART_GRAIN ? FD_WKSP_PART_GRAIN : align;
}

/* Whether so much fits into the range; *ret_more: how many more ranges there are then. */
static inline int model_fits(model_range_t const *range, ulong align, ulong size,
                             uint32_t *ret_more) {
  ulong at = model_up(range->gaddr, align);
  if (range->tag || at < range->gaddr || at - range->gaddr > range->size ||
      range->size - (at - range->gaddr) < size)
    return 0;
  *ret_more = (uint32_t)(at != range->gaddr) + (at + size != range->gaddr + range->size);
  return 1;
}

static inline void model_insert(model_t *model, uint32_t i, model_range_t range) {
  assert_true(model->cnt <= model->max);
  memmove(&model->range[i + 1], &model->range[i], (model->cnt - i) * sizeof(range));
  model->range[i] = range;
  model->cnt++;
}

static inline void model_remove(model_t *model, uint32_t i) {
  memmove(&model->range[i], &model->range[i + 1], (model->cnt - i - 1) * sizeof(model->range[i]));
  model->cnt--;
}

/* The workspace says it gave [gaddr, gaddr + size): NULL, or why it must not have. With an
   alignment of one grain it must be in the smallest hole that is large enough. */
static inline char const *model_take(model_t *model, ulong gaddr, ulong align, ulong size,
                                     ulong tag) {
  if (gaddr % align) return "not aligned as asked";
  if (!size || !model_inside(model, gaddr) || size > model->hi - gaddr)
    return "not in the data region";
  uint32_t i = model_at(model, gaddr);
  model_range_t hole = model->range[i];
  if (hole.tag || size > hole.gaddr + hole.size - gaddr) return "overlaps another partition";
  if (align == FD_WKSP_PART_GRAIN)
    for (uint32_t k = 0; k < model->cnt; k++)
      if (!model->range[k].tag && model->range[k].size >= size && model->range[k].size < hole.size)
        return "a smaller hole was large enough";
  model->range[i] = (model_range_t){gaddr, size, tag};
  if (gaddr + size != hole.gaddr + hole.size)
    model_insert(model, i + 1,
                 (model_range_t){gaddr + size, hole.gaddr + hole.size - gaddr - size, 0});
  if (gaddr != hole.gaddr)
    model_insert(model, i, (model_range_t){hole.gaddr, gaddr - hole.gaddr, 0});
  return model->cnt > model->max ? "more partitions than part_max" : NULL;
}

/* Why an alloc that was refused had to be. */
enum { MODEL_FITS = 0, MODEL_NO_HOLE = 1, MODEL_NO_ENTRY = 2 };
static inline int model_refuses(model_t const *model, ulong align, ulong size) {
  int ret = MODEL_NO_HOLE;
  for (uint32_t i = 0; size && i < model->cnt; i++) {
    uint32_t more;
    if (!model_fits(&model->range[i], align, size, &more)) continue;
    if (model->cnt + more <= model->max) return MODEL_FITS;
    ret = MODEL_NO_ENTRY;
  }
  return ret;
}

/* Frees range i and merges it with its neighbours; returns the place of what comes of it. */
static inline uint32_t model_give(model_t *model, uint32_t i) {
  model->range[i].tag = 0;
  if (i + 1 < model->cnt && !model->range[i + 1].tag) {
    model->range[i].size += model->range[i + 1].size;
    model_remove(model, i + 1);
  }
  if (!i || model->range[i - 1].tag) return i;
  model->range[i - 1].size += model->range[i].size;
  model_remove(model, i);
  return i - 1;
}

static inline int model_among(ulong const *tags, ulong cnt, ulong tag) {
  for (ulong i = 0; i < cnt; i++)
    if (tags[i] == tag) return 1;
  return 0;
}

/* Frees what has one of the tags, none of them 0; returns how many. */
static inline long model_tag_free(model_t *model, ulong const *tags, ulong cnt) {
  long freed = 0;
  for (uint32_t i = 0; i < model->cnt; i++) {
    if (!model->range[i].tag || !model_among(tags, cnt, model->range[i].tag)) continue;
    freed++;
    i = model_give(model, i);
  }
  return freed;
}

static inline void model_reset(model_t *model, uint seed) {
  memset(model->root, 0, sizeof(model->root));
  model->cnt = 1;
  model->range[0] = (model_range_t){model->lo, model->hi - model->lo, 0};
  model->seed = seed;
}

/* A root's name: of different lengths, the longest of 63 bytes, all of which begin alike. */
static inline char const *model_root_name(uint32_t i, char *ret_name) {
  size_t len = i ? 1 + i * (FD_WKSP_ROOT_NAME_MAX - 1) / (MODEL_ROOTS - 1) : 1;
  memset(ret_name, 'r', len);
  ret_name[len - 1] = (char)('a' + i);
  ret_name[len] = 0;
  return ret_name;
}

/* The figures that fd_wksp_usage must give. */
static inline fd_wksp_usage_t model_usage(model_t const *model, ulong const *tags, ulong cnt) {
  fd_wksp_usage_t usage = {
      .total_max = model->max, .total_cnt = model->cnt, .total_sz = model->hi - model->lo};
  for (uint32_t i = 0; i < model->cnt; i++) {
    model_range_t const *range = &model->range[i];
    if (!range->tag) {
      usage.free_cnt++;
      usage.free_sz += range->size;
      if (range->size > usage.free_sz_max) usage.free_sz_max = range->size;
    } else if (!cnt || model_among(tags, cnt, range->tag)) {
      usage.used_cnt++;
      usage.used_sz += range->size;
    }
  }
  return usage;
}

/* Roots and seed: NULL, or what differs. */
static inline char const *model_differs_roots(model_t const *model, fd_wksp_t *wksp) {
  char name[FD_WKSP_ROOT_NAME_MAX + 1];
  fd_wksp_root_t root;
  uint32_t bound = 0;
  for (uint32_t i = 0; i < MODEL_ROOTS; i++) {
    model_root_t const *want = &model->root[i];
    int rc = fd_wksp_root_find(wksp, model_root_name(i, name), &root);
    if (rc != (want->gaddr ? 0 : WKSP_E_NOTFOUND)) return "a root is bound that was not, or gone";
    if (!rc && (root.gaddr != want->gaddr || root.tag != want->tag || strcmp(root.name, name)))
      return "a root is bound to something else";
    bound += want->gaddr != 0;
  }
  for (uint place = 0; fd_wksp_root_next(wksp, &place, &root) == 1; bound--)
    if (!bound) return "there are roots that nobody bound";
  if (bound) return "a root is found by name but not listed";
  return fd_wksp_seed(wksp) == model->seed ? NULL : "the seed differs";
}

/* Everything that can be asked without arguments: NULL, or what differs. */
static inline char const *model_differs(model_t const *model, fd_wksp_t *wksp) {
  fd_wksp_part_t part;
  ulong from = 0;
  for (uint32_t i = 0; i < model->cnt; i++) {
    model_range_t const *range = &model->range[i];
    if (!range->tag) continue;
    if (fd_wksp_part_next(wksp, from, &part) != 1) return "a partition is missing at the end";
    if (part.gaddr != range->gaddr) return "a partition is missing, or there is one too many";
    if (part.size != range->size) return "a partition has another size";
    if (part.tag != range->tag) return "a partition has another tag";
    if (part.kind != FD_WKSP_KIND_USER) return "a partition is of another kind";
    from = part.gaddr + part.size;
  }
  if (fd_wksp_part_next(wksp, from, &part)) return "there is a partition too many at the end";
  fd_wksp_usage_t is, want = model_usage(model, NULL, 0);
  if (fd_wksp_usage(wksp, NULL, 0, &is)) return "usage failed";
  if (memcmp(&is, &want, sizeof(is))) return "usage gives other figures";
  return model_differs_roots(model, wksp);
}

#endif
