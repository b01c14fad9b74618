/* part_resize: the present end of the data region.

   Problem: a workspace made for max-size has addresses and tables for all of it, but pages for a
   part only, and that part grows and shrinks while clients allocate.

   Model. What lies beyond the present end is one partition of a kind of its own, always the last:

       [data_lo, end) used and free partitions      [end, data_hi) beyond, if it is not empty

   So the table covers the whole region whatever its size is, lookups by address and verify need no
   second truth, and the end is a word that exists once: where that partition begins. It is neither
   used nor free: in no ring and no trie, without a tag, not listed, not counted. It cannot be freed
   or merged, since nothing else is of its kind. Growing moves its start up, and the room joins the
   free partition before it or becomes one; shrinking moves it down over the free partition before
   it. Both are one change under the lock, as an alloc is.

   Pages are others' business and must be there before the end passes them.

   What it refuses: to move a partition that is in use, or to look for room elsewhere. */

#include "core/fail.h"
#include "core/part_priv.h"
#include "core/part_ring.h"

uint32_t wksp__part_beyond(wksp__pop_t *op) {
  uint32_t last = wksp__addr_at(op, op->tx.wksp->data_hi - 1);
  return wksp__ent_kind(op, last) == WKSP_PART_BEYOND ? last : 0;
}

/* Where the data ends at present; beyond as wksp__part_beyond says. */
static uint64_t end_of(wksp__pop_t *op, uint32_t beyond) {
  uint64_t end = beyond ? wksp__ent_gaddr(op, beyond) : op->tx.wksp->data_hi;
  if (end <= op->tx.wksp->data_lo || end > op->tx.wksp->data_hi) op->bad = 1;
  return end;
}

/* Says where the partition beyond begins from now on. */
static void beyond_set(wksp__pop_t *op, uint32_t beyond, uint64_t end) {
  wksp__ent_set(op, beyond, WKSP_PART_ADDR, end | WKSP_PART_BEYOND);
  wksp__ent_set(op, beyond, WKSP_PART_SIZE, op->tx.wksp->data_hi - end);
}

/* Gives the entry back to the pool. */
static void entry_end(wksp__pop_t *op, uint32_t idx) {
  wksp__ent_t *ent = wksp__ent_rw(op, idx);
  wksp__tx_note(&op->tx, &ent->w[WKSP_PART_ADDR]);
  wksp__tx_arm(&op->tx);
  wksp__ent_give(op, idx, ent);
}

/* Moves the end up to `to`, into the free partition before it. */
static void grow_joined(wksp__pop_t *op, uint32_t beyond, uint32_t before, uint64_t end,
                        uint64_t to) {
  wksp__ent_t *before_ent = wksp__ent_rw(op, before);
  uint64_t lo = wksp__ent_gaddr(op, before);
  int all = to == op->tx.wksp->data_hi;
  wksp__addr_end(op, end, lo, 0);
  wksp__size_change(op, before, before_ent, wksp__ent_size(op, before) + (to - end));
  if (all) {
    wksp__ent_set_hi(op, before, WKSP_PART_NBR, 0);
    entry_end(op, beyond);
  } else {
    wksp__addr_begin(op, to, lo, beyond);
    beyond_set(op, beyond, to);
  }
  wksp__part_count(op, all ? -1U : 0, 0, to - end);
}

/* The same behind a used one. */
static void grow_new(wksp__pop_t *op, uint32_t beyond, uint32_t before, uint64_t end, uint64_t to) {
  if (to == op->tx.wksp->data_hi) { /* it becomes the free one, its size is the same */
    wksp__ent_set(op, beyond, WKSP_PART_ADDR, end | WKSP_PART_FREE);
    wksp__size_add(op, beyond, wksp__ent_rw(op, beyond), 0);
    wksp__part_count(op, 0, 1, to - end);
    return;
  }
  wksp__ent_t *ent;
  uint32_t fresh = wksp__ent_take(op, end | WKSP_PART_FREE, &ent);
  if (!fresh) return;
  wksp__st_kept(&ent->w[WKSP_PART_SIZE], to - end);
  wksp__st_kept(&ent->w[WKSP_PART_NBR], wksp__pair(before, beyond));
  wksp__size_add(op, fresh, ent, 1);
  wksp__addr_swap(op, end, beyond, fresh);
  wksp__addr_begin(op, to, end, beyond);
  beyond_set(op, beyond, to);
  wksp__ent_set_lo(op, beyond, WKSP_PART_NBR, fresh);
  wksp__ent_set_hi(op, before, WKSP_PART_NBR, fresh);
  wksp__part_count(op, 1, 1, to - end);
}

/* Moves the end down to where the free partition last begins, which so vanishes. */
static void shrink_all(wksp__pop_t *op, uint32_t beyond, uint32_t last, uint64_t end, uint64_t lo) {
  uint32_t before = wksp__ent_lo(op, last, WKSP_PART_NBR);
  wksp__size_cut(op, last, wksp__ent_rw(op, last));
  if (!beyond) { /* it becomes what is beyond, its size is the same */
    wksp__ent_set(op, last, WKSP_PART_ADDR, lo | WKSP_PART_BEYOND);
    wksp__ent_set(op, last, WKSP_PART_TAG, 0);
    wksp__part_count(op, 0, -1U, -(end - lo));
    return;
  }
  wksp__addr_end(op, end, lo, 0);
  wksp__addr_swap(op, lo, last, beyond);
  beyond_set(op, beyond, lo);
  wksp__ent_set_lo(op, beyond, WKSP_PART_NBR, before);
  wksp__ent_set_hi(op, before, WKSP_PART_NBR, beyond);
  entry_end(op, last);
  wksp__part_count(op, -1U, -1U, -(end - lo));
}

/* Moves the end down into it. */
static void shrink_part(wksp__pop_t *op, uint32_t beyond, uint32_t last, uint64_t end,
                        uint64_t to) {
  uint64_t lo = wksp__ent_gaddr(op, last);
  wksp__ent_t *ent;
  wksp__size_change(op, last, wksp__ent_rw(op, last), to - lo);
  if (beyond) {
    wksp__addr_end(op, end, lo, 0);
    wksp__addr_begin(op, to, lo, beyond);
    beyond_set(op, beyond, to);
    wksp__part_count(op, 0, 0, -(end - to));
    return;
  }
  uint32_t fresh = wksp__ent_take(op, to | WKSP_PART_BEYOND, &ent);
  if (!fresh) return;
  wksp__st_kept(&ent->w[WKSP_PART_SIZE], op->tx.wksp->data_hi - to);
  wksp__st_kept(&ent->w[WKSP_PART_TAG], 0UL);
  wksp__st_kept(&ent->w[WKSP_PART_NBR], wksp__pair(last, 0));
  wksp__addr_begin(op, to, lo, fresh);
  wksp__ent_set_hi(op, last, WKSP_PART_NBR, fresh);
  wksp__part_count(op, 1, 0, -(end - to));
}

static void block_of(wksp__pop_t *op, uint32_t idx, wksp__resized_t *resized) {
  resized->why = WKSP_RESIZED_USED;
  resized->block.gaddr = wksp__ent_gaddr(op, idx);
  resized->block.size = wksp__ent_size(op, idx);
  resized->block.tag = wksp__ent_get(op, idx, WKSP_PART_TAG);
  resized->block.kind = wksp__ent_kind(op, idx) & 0xff;
}

/* What is to be done: plain facts, found before anything is changed. */
typedef struct plan {
  uint32_t beyond, last; /* the partition beyond the end, 0 none; the one before the end */
  int last_free;
  uint64_t lo;  /* where last begins */
  uint64_t end; /* at present */
  uint64_t to;  /* after it */
} plan_t;

/* Finds out what can be done of what is wanted, and why not all of it. */
static void plan_make(wksp__pop_t *op, uint64_t want, uint64_t unit, plan_t *plan,
                      wksp__resized_t *resized) {
  plan->to = want;
  int entry = 0; /* whether it takes one */
  if (want > plan->end) {
    entry = !plan->last_free && want != op->tx.wksp->data_hi;
  } else if (want < plan->end) {
    uint64_t least = plan->last_free ? (plan->lo + unit - 1) & ~(unit - 1) : plan->end;
    if (least > plan->end) least = plan->end;
    if (least > want) {
      plan->to = least;
      block_of(op, plan->last_free ? wksp__ent_lo(op, plan->last, WKSP_PART_NBR) : plan->last,
               resized);
    }
    entry = !plan->beyond && plan->to != plan->lo && plan->to != plan->end;
  }
  if (entry && !wksp__ent_left(op)) {
    plan->to = plan->end;
    resized->why = WKSP_RESIZED_TABLE;
  }
}

static void plan_do(wksp__pop_t *op, plan_t const *plan) {
  wksp__pop_change(op);
  if (plan->to > plan->end && plan->last_free)
    grow_joined(op, plan->beyond, plan->last, plan->end, plan->to);
  else if (plan->to > plan->end)
    grow_new(op, plan->beyond, plan->last, plan->end, plan->to);
  else if (plan->to == plan->lo)
    shrink_all(op, plan->beyond, plan->last, plan->end, plan->to);
  else
    shrink_part(op, plan->beyond, plan->last, plan->end, plan->to);
  wksp__pop_end(op);
}

/* The lock is held. data_sz 0: nothing is to change. */
static void resize(wksp__pop_t *op, uint64_t data_sz, uint64_t unit, wksp__resized_t *resized) {
  plan_t plan = {.beyond = wksp__part_beyond(op)};
  plan.end = plan.to = end_of(op, plan.beyond);
  if (op->bad) return;
  plan.last =
      plan.beyond ? wksp__ent_lo(op, plan.beyond, WKSP_PART_NBR) : wksp__addr_at(op, plan.end - 1);
  plan.last_free = wksp__ent_kind(op, plan.last) == WKSP_PART_FREE;
  plan.lo = wksp__ent_gaddr(op, plan.last);
  if (!plan.last || plan.lo < op->tx.wksp->data_lo || plan.lo >= plan.end ||
      wksp__ent_size(op, plan.last) != plan.end - plan.lo)
    op->bad = 1;
  if (data_sz && !op->bad) plan_make(op, op->tx.wksp->data_lo + data_sz, unit, &plan, resized);
  if (plan.to != plan.end && !op->bad) plan_do(op, &plan);
  resized->data_sz = plan.to - op->tx.wksp->data_lo;
}

int wksp__part_resize(wksp__call_t *call, uint64_t timeout_ns, uint64_t data_sz, uint64_t unit,
                      wksp__resized_t *ret_resized) {
  fd_wksp_t *wksp = call->wksp;
  uint64_t want = wksp->data_lo + data_sz;
  int unit_ok = unit >= FD_WKSP_PART_GRAIN && !(unit & (unit - 1));
  int size_ok = data_sz >= WKSP_SPAN_SZ && data_sz <= wksp->data_max;
  if (!unit_ok || (data_sz && !(size_ok && (want % unit == 0 || want == wksp->data_hi))))
    return wksp__fail(
        WKSP_E_INVAL,
        "workspace %s: its data cannot be %lu bytes with an end at a multiple of %lu: "
        "it can be %lu to %lu",
        wksp->name, data_sz, unit, WKSP_SPAN_SZ, wksp->data_max);
  int rc = wksp__lock_enter(call, timeout_ns);
  if (rc) return rc;

  wksp__pop_t op;
  wksp__resized_t resized = {0};
  wksp__pop_begin(&op, wksp);
  resize(&op, data_sz, unit, &resized);
  wksp__lock_leave(call);

  if (op.bad) return wksp__part_corrupt(wksp);
  *ret_resized = resized;
  return 0;
}

/* Looks ---------------------------------------------------------------------------------------- */

typedef struct look {
  fd_wksp_t const *wksp;
  uint64_t data_sz;
} look_t;

static int look_end(void *arg) {
  look_t *look = arg;
  wksp__pop_t op;
  wksp__pop_begin(&op, look->wksp);
  look->data_sz = end_of(&op, wksp__part_beyond(&op)) - look->wksp->data_lo;
  return op.bad ? WKSP_E_CORRUPT : 0;
}

int wksp__part_data_sz(fd_wksp_t const *wksp, uint64_t *ret_data_sz) {
  look_t look = {.wksp = wksp};
  int rc = wksp__read_run(wksp, look_end, &look);
  if (rc == WKSP_E_CORRUPT) return wksp__part_corrupt(wksp);
  if (!rc) *ret_data_sz = look.data_sz;
  return rc;
}
