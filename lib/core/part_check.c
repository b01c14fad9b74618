/* part_check: the invariants of part.c, each looked at from both sides.

   The order of addresses is walked first: it says which partitions there are. Then each index is
   walked and must hold as many entries as the walk has seen fit for it, each in its right place. An
   index cannot hold an entry twice without a link that disagrees with its opposite (rings are
   symmetrical, a tree's node has one parent, a chain's entry hashes to its bucket), so equal counts
   and agreeing links mean equal sets. No memory is needed but the counters.

   Damage must not stop the walk from ending: every loop is bounded by the number of entries, and
   indexes out of range end theirs. */

#include "core/fail.h"
#include "core/part_priv.h"
#include "core/part_ring.h"

/* Findings of one kind, after which the rest of its walk says nothing new. */
#define CHECK_MAX 16U

typedef struct check {
  wksp__pop_t op;
  wksp__finding_t finding;
  void *arg;
  uint32_t cnt;
  /* From the walk in the order of addresses. */
  uint64_t total, free_cnt, free_sz, first_cnt, beyond_cnt;
} check_t;

#define SAY(check, ...)                          \
  do {                                           \
    (check)->cnt++;                              \
    (check)->finding((check)->arg, __VA_ARGS__); \
  } while (0)

/* Whether the entry number can be one that is in use. */
static int known(check_t *check, uint32_t idx) {
  return idx && idx <= check->op.part_max && wksp__ent_kind(&check->op, idx);
}

static int is_free(check_t *check, uint32_t idx) {
  return wksp__ent_kind(&check->op, idx) == WKSP_PART_FREE;
}

/* One step of the walk: the entry idx, which should begin at want and come after before. Returns 0
   if one cannot go on from there. */
static int check_entry(check_t *check, uint32_t idx, uint32_t before, uint64_t want) {
  wksp__pop_t *op = &check->op;
  if (!known(check, idx)) {
    SAY(check, "partition %u, after %u: no such entry is in use", idx, before);
    return 0;
  }
  uint64_t gaddr = wksp__ent_gaddr(op, idx), size = wksp__ent_size(op, idx);
  uint32_t kind = wksp__ent_kind(op, idx);
  if (gaddr != want) {
    SAY(check, "partition %u: begins at 0x%lx, but the one before it ends at 0x%lx", idx, gaddr,
        want);
    return 0;
  }
  if (!size || size > op->tx.wksp->data_hi - gaddr) {
    SAY(check, "partition %u at 0x%lx: a size of %lu does not lie in the data region", idx, gaddr,
        size);
    return 0;
  }
  if (wksp__ent_lo(op, idx, WKSP_PART_NBR) != before)
    SAY(check, "partition %u at 0x%lx: its link back is to %u, not %u", idx, gaddr,
        wksp__ent_lo(op, idx, WKSP_PART_NBR), before);
  if (kind == WKSP_PART_FREE && before && is_free(check, before))
    SAY(check, "partition %u at 0x%lx: free, as is the one before it", idx, gaddr);
  if (kind == WKSP_PART_BEYOND) {
    if (wksp__ent_hi(op, idx, WKSP_PART_NBR) || !before)
      SAY(check, "partition %u at 0x%lx: what is beyond the end, but not the last or the first",
          idx, gaddr);
    if (wksp__ent_get(op, idx, WKSP_PART_TAG))
      SAY(check, "partition %u at 0x%lx: what is beyond the end has tag %lu", idx, gaddr,
          wksp__ent_get(op, idx, WKSP_PART_TAG));
    return 1;
  }
  if (kind != WKSP_PART_FREE &&
      ((kind & 0xff) < FD_WKSP_KIND_USER || (kind & 0xff) > FD_WKSP_KIND_LARGE))
    SAY(check, "partition %u at 0x%lx: unknown kind %u", idx, gaddr, kind & 0xff);
  if (kind != WKSP_PART_FREE && !wksp__ent_get(op, idx, WKSP_PART_TAG))
    SAY(check, "partition %u at 0x%lx: used, but its tag is 0", idx, gaddr);
  return 1;
}

static void check_order(check_t *check) {
  wksp__pop_t *op = &check->op;
  uint64_t want = op->tx.wksp->data_lo, page_before = ~0UL;
  uint32_t before = 0, idx = wksp__ld(&wksp__pop_pages(op)[0]);
  while (idx) {
    if (check->cnt > CHECK_MAX || !check_entry(check, idx, before, want)) return;
    uint64_t size = wksp__ent_size(op, idx), page = wksp__ent_page(op, idx);
    check->total++;
    check->first_cnt += page != page_before;
    if (is_free(check, idx)) {
      check->free_cnt++;
      check->free_sz += size;
    }
    check->beyond_cnt += wksp__ent_kind(op, idx) == WKSP_PART_BEYOND;
    page_before = page;
    want += size; /* grows, and stays in the data region: the walk ends */
    before = idx;
    idx = wksp__ent_hi(op, idx, WKSP_PART_NBR);
  }
  if (want != op->tx.wksp->data_hi)
    SAY(check, "partition %u is the last, but ends at 0x%lx, not at 0x%lx", before, want,
        op->tx.wksp->data_hi);
}

/* The counters, the pool, and that all entries in use have been met. */
static void check_head(check_t *check) {
  wksp__pop_t *op = &check->op;
  uint64_t cnt = wksp__ld(&op->head->cnt), pool = wksp__ld(&op->head->pool), in_use = 0;
  uint32_t top = wksp__hi32(pool), pooled = 0;
  if (wksp__lo32(cnt) != check->total || wksp__hi32(cnt) != check->free_cnt)
    SAY(check, "counters: %u partitions, %u free; there are %lu and %lu", wksp__lo32(cnt),
        wksp__hi32(cnt), check->total, check->free_cnt);
  if (wksp__ld(&op->head->free_sz) != check->free_sz)
    SAY(check, "counters: %lu bytes are free; there are %lu", wksp__ld(&op->head->free_sz),
        check->free_sz);
  if (top > op->part_max) {
    SAY(check, "pool: %u entries are said to have been used, but there are only %u", top,
        op->part_max);
    return;
  }
  for (uint32_t idx = wksp__lo32(pool); idx; idx = wksp__ent_lo(op, idx, WKSP_PART_IDX)) {
    if (idx > top || wksp__ent_kind(op, idx) || pooled == top) {
      SAY(check, "pool: entry %u is in use, out of range, or in it twice", idx);
      return;
    }
    pooled++;
  }
  for (uint32_t idx = 1; idx <= top; idx++) in_use += wksp__ent_kind(op, idx) != 0;
  if (in_use != check->total)
    SAY(check, "table: %lu entries are in use, but %lu partitions were met", in_use, check->total);
  if (in_use + pooled != top)
    SAY(check, "pool: %u entries, but %lu of %u are not in use", pooled, top - in_use, top);
}

/* The ring of idx, whose members must be of the same size (free) or tag (used); those but idx must
   be marked as not standing in the tree or chain. Returns how many there are. */
static uint64_t check_ring(check_t *check, uint32_t idx, char const *what) {
  wksp__pop_t *op = &check->op;
  uint32_t word = is_free(check, idx) ? WKSP_PART_SIZE : WKSP_PART_TAG;
  uint32_t kind_free = (uint32_t)is_free(check, idx), at = idx;
  uint64_t same = kind_free ? wksp__ent_size(op, idx) : wksp__ent_get(op, idx, word);
  for (uint64_t cnt = 1; cnt <= op->part_max; cnt++) {
    uint32_t next = wksp__ent_hi(op, at, WKSP_PART_LIST);
    if (!known(check, next) || wksp__ent_lo(op, next, WKSP_PART_LIST) != at) {
      SAY(check, "%s index: the ring of partition %u is broken between %u and %u", what, idx, at,
          next);
      return cnt;
    }
    if (next == idx) return cnt;
    uint64_t has = kind_free ? wksp__ent_size(op, next) : wksp__ent_get(op, next, word);
    if ((uint32_t)is_free(check, next) != kind_free || has != same ||
        wksp__ent_hi(op, next, WKSP_PART_IDX) != WKSP_PART_OFF) {
      SAY(check, "%s index: partition %u does not belong into the ring of %u", what, next, idx);
      return cnt;
    }
    at = next;
  }
  SAY(check, "%s index: the ring of partition %u does not close", what, idx);
  return 0;
}

/* The trie of one bin, from node to node by the links to the parents, children in order. */
static uint64_t check_bin(check_t *check, uint32_t bin, uint32_t root) {
  wksp__pop_t *op = &check->op;
  uint64_t met = 0, steps = 0, steps_max = 3UL * op->part_max + 3;
  uint32_t idx = root, from = 0; /* from: where the walk comes from */
  if (known(check, root) && wksp__ent_hi(op, root, WKSP_PART_IDX))
    SAY(check, "size index: the root %u of bin %u has a parent", root, bin);
  while (idx && check->cnt <= CHECK_MAX) {
    if (steps++ == steps_max || !known(check, idx) || !is_free(check, idx)) {
      SAY(check, "size index: bin %u leads to %u, which is not free, or does not end", bin, idx);
      return met;
    }
    uint32_t up = wksp__ent_hi(op, idx, WKSP_PART_IDX);
    uint64_t children = wksp__ent_get(op, idx, WKSP_PART_TAG);
    uint32_t left = wksp__lo32(children), right = wksp__hi32(children);
    if (from == up || (idx == root && !from)) { /* first visit */
      if (wksp__size_bin(wksp__ent_size(op, idx)) != bin)
        SAY(check, "size index: partition %u of %lu bytes is in bin %u", idx,
            wksp__ent_size(op, idx), bin);
      met += check_ring(check, idx, "size");
    }
    uint32_t next = up;
    if (left && from != left && (from != right || !right))
      next = left;
    else if (right && from != right)
      next = right;
    if (next != up && (next > op->part_max || wksp__ent_hi(op, next, WKSP_PART_IDX) != idx)) {
      SAY(check, "size index: partition %u has child %u, whose parent is another", idx, next);
      return met;
    }
    if (next == up && idx == root) return met;
    from = idx;
    idx = next;
  }
  return met;
}

/* Whether a search for its size finds the node: that it hangs where its bits say. */
static void check_sizes_found(check_t *check) {
  wksp__pop_t *op = &check->op;
  uint32_t idx = wksp__ld(&wksp__pop_pages(op)[0]);
  for (uint64_t n = 0; n < check->total && idx && check->cnt <= CHECK_MAX; n++) {
    if (is_free(check, idx) && wksp__ent_hi(op, idx, WKSP_PART_IDX) != WKSP_PART_OFF &&
        wksp__size_min(op, wksp__ent_size(op, idx), 0) != idx)
      SAY(check, "size index: a search for the %lu bytes of partition %u does not find it",
          wksp__ent_size(op, idx), idx);
    idx = wksp__ent_hi(op, idx, WKSP_PART_NBR);
  }
}

static void check_sizes(check_t *check) {
  wksp__part_head_t *head = check->op.head;
  uint64_t met = 0, tops = 0;
  for (uint32_t top = 0; top < WKSP_PART_BIN_TOPS; top++) {
    uint32_t map = 0;
    for (uint32_t sub = 0; sub < WKSP_PART_BIN_SUBS; sub++) {
      uint32_t bin = top * WKSP_PART_BIN_SUBS + sub, root = wksp__ld(&head->bins[bin]);
      if (!root) continue;
      map |= 1U << sub;
      met += check_bin(check, bin, root);
    }
    if (map & ~wksp__ld(&head->bin_map[top]))
      SAY(check, "size index: bitmap %u is 0x%x, its bins say 0x%x", top,
          wksp__ld(&head->bin_map[top]), map);
    if (map) tops |= 1UL << top;
  }
  if (tops & ~wksp__ld(&head->bin_top))
    SAY(check, "size index: the top bitmap is 0x%lx, those below it say 0x%lx",
        wksp__ld(&head->bin_top), tops);
  if (met != check->free_cnt)
    SAY(check, "size index: has %lu partitions, but %lu are free", met, check->free_cnt);
  check_sizes_found(check);
}

static void check_tags(check_t *check) {
  wksp__pop_t *op = &check->op;
  uint64_t met = 0, used = check->total - check->free_cnt - check->beyond_cnt;
  for (uint64_t b = 0; b < 1UL << op->tx.wksp->part.tag_lg && check->cnt <= CHECK_MAX; b++) {
    uint64_t steps = 0;
    uint32_t idx = wksp__ld(&wksp__pop_tags(op)[b]);
    for (; idx && check->cnt <= CHECK_MAX; idx = wksp__ent_hi(op, idx, WKSP_PART_IDX)) {
      if (!known(check, idx) || is_free(check, idx) || steps++ > op->part_max ||
          wksp__ent_kind(op, idx) == WKSP_PART_BEYOND) {
        SAY(check, "tag index: bucket %lu leads to %u, which is not used, or does not end", b, idx);
        break;
      }
      uint64_t tag = wksp__ent_get(op, idx, WKSP_PART_TAG);
      if (wksp__tag_bucket(op, tag) != b || wksp__tag_first(op, tag) != idx)
        SAY(check, "tag index: partition %u of tag %lu is in bucket %lu, or not its tag's first",
            idx, tag, b);
      met += check_ring(check, idx, "tag");
    }
  }
  if (met != used) SAY(check, "tag index: has %lu partitions, but %lu are used", met, used);
}

/* Summaries: no bit without those above it, and none beyond the last. */
static void check_bits(check_t *check) {
  wksp__pop_t *op = &check->op;
  uint64_t cnt = wksp__page_cnt(op);
  uint32_t levels = op->tx.wksp->part.levels;
  for (uint32_t level = 0; level < levels; level++) {
    uint64_t words = (cnt + 63) / 64;
    for (uint64_t w = 0; w < words && check->cnt <= CHECK_MAX; w++) {
      uint64_t word = wksp__ld(&wksp__part_bits(op, level)[w]);
      if (w == words - 1 && cnt % 64 && word >> cnt % 64)
        SAY(check, "page index: level %u has bits beyond its last", level);
      if (level + 1 == levels) continue;
      uint64_t above = wksp__ld(&wksp__part_bits(op, level + 1)[w >> 6]) >> (w & 63) & 1;
      if (word && !above)
        SAY(check, "page index: word %lu of level %u is 0x%lx, its summary %lu", w, level, word,
            above);
    }
    cnt = words;
  }
}

/* Each page's first, and its bit. */
static void check_pages(check_t *check) {
  wksp__pop_t *op = &check->op;
  uint64_t met = 0, page_cnt = wksp__page_cnt(op);
  check_bits(check);
  for (uint64_t page = 0; page < page_cnt && check->cnt <= CHECK_MAX; page++) {
    uint32_t idx = wksp__ld(&wksp__pop_pages(op)[page]);
    uint64_t bit = wksp__ld(&wksp__part_bits(op, 0)[page >> 6]) >> (page & 63) & 1;
    if (!idx) continue;
    if (!bit) SAY(check, "page index: page %lu has first partition %u, but no bit", page, idx);
    met++;
    if (!known(check, idx)) {
      SAY(check, "page index: page %lu leads to %u, which is not in use", page, idx);
      continue;
    }
    uint32_t before = wksp__ent_lo(op, idx, WKSP_PART_NBR);
    if (wksp__ent_page(op, idx) != page)
      SAY(check, "page index: page %lu has partition %u at 0x%lx", page, idx,
          wksp__ent_gaddr(op, idx));
    else if (before && wksp__ent_page(op, before) == page)
      SAY(check, "page index: partition %u at 0x%lx is not the first of its page", idx,
          wksp__ent_gaddr(op, idx));
  }
  if (met != check->first_cnt)
    SAY(check, "page index: %lu pages have a first partition, but partitions start in %lu", met,
        check->first_cnt);
}

/* Entry 0 is what index 0 reads as. */
static void check_null(check_t *check) {
  for (uint32_t w = 0; w < 6; w++)
    if (wksp__ld(&wksp__pop_ent(&check->op)[0].w[w]))
      SAY(check, "table: word %u of entry 0 is not 0", w);
}

uint32_t wksp__part_check(fd_wksp_t const *wksp, wksp__finding_t finding, void *arg) {
  check_t check = {.finding = finding, .arg = arg};
  wksp__pop_begin(&check.op, wksp);
  check_null(&check);
  check_order(&check);
  if (!check.cnt) check_head(&check);
  if (!check.cnt) check_sizes(&check);
  if (!check.cnt) check_tags(&check);
  if (!check.cnt) check_pages(&check);
  return check.cnt;
}
