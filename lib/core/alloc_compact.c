/* alloc_compact: giving back what holds no live block, while others run.

   1. Each heap of the alloc is taken for a moment: one left behind as it is, a living thread's
   under its gate, by one CAS; a thread that is stopped inside a call is skipped and named.
   Rebuilding a heap puts its empty spans in the pool. Then it is left; its thread takes it again
   when it comes.
   2. Regions all of whose spans are in the pool are TAKEN, span by span, and freed: the partition
   goes and the spans become NONE in one change.
   3. Heaps without a span leave the directory. Their memory is freed after every thread that was
   inside a call has left it (those who had looked the heap up): only then can nobody touch it. Heap
   partitions that are in no directory, because a kill came between, are found in the same way.

   One thread compacts an alloc at a time: the token is its name, so a dead one's is taken over. */

#include "core/alloc.h"
#include "core/fail.h"
#include "core/map.h"
#include "core/private.h"

#define GATE_WAIT_NS \
  20000000UL /* for a thread to leave its call: a thousand times what a call takes */
#define GATE_HOLD_NS  50000000UL /* for one CAS under the gate */
#define TOKEN_WAIT_NS 5000000000UL
#define GRACE_WAIT_NS 100000000UL /* for all to leave the calls they are in */
#define ORPHANS_MAX   256         /* heaps freed by one compact; the next frees more */

/* The token
 * ------------------------------------------------------------------------------------------ */

int wksp__token_get(wksp__op_t *op, int alive) {
  uint64_t until = wksp__now_ns() + TOKEN_WAIT_NS;
  uint32_t seen = wksp__ld(&op->alloc->compact_cnt);
  for (uint32_t turn = 0;; turn++) {
    /* Whoever ends it has the token until its head is gone, after all who wait here have left. */
    if (alive && wksp__ld_acquire(&op->alloc->magic) != WKSP_ALLOC_MAGIC)
      return wksp__fail(WKSP_E_NOTFOUND, "the fd_alloc at %#lx is being deleted", op->alloc_gaddr);
    uint64_t cur = wksp__ld_acquire(&op->alloc->compactor);
    if (!cur || wksp__name_dead(op->wksp, cur)) {
      if (wksp__cas(&op->alloc->compactor, &cur, op->call.name)) return 0;
      continue;
    }
    uint32_t done = wksp__ld(&op->alloc->compact_cnt);
    if (done != seen) { /* somebody else's turn has come and gone; ours will */
      seen = done;
      until = wksp__now_ns() + TOKEN_WAIT_NS;
    } else if (wksp__now_ns() > until) {
      wksp__slot_t const *slot = &wksp__slots(op->wksp)[wksp__name_slot(cur)];
      return wksp__fail(
          WKSP_E_TIMEDOUT,
          "compact: pid %u, thread %u (%.16s) compacts this fd_alloc and has not finished in 5 s",
          slot->pid, slot->tid, slot->comm);
    }
    wksp__relax(turn);
  }
}

void wksp__token_put(wksp__op_t *op) {
  uint64_t mine = op->call.name;
  wksp__st(&op->alloc->compact_cnt, wksp__ld(&op->alloc->compact_cnt) + 1);
  wksp__cas(&op->alloc->compactor, &mine, 0UL);
}

/* Heaps
 * ---------------------------------------------------------------------------------------------- */

static int skip(wksp__op_t const *op, uint32_t idx, fd_alloc_compacted_t *sum) {
  wksp__slot_t const *slot = &wksp__slots(op->wksp)[idx];
  sum->skipped_cnt++;
  sum->skipped_pid = (int)slot->pid;
  sum->skipped_tid = (int)slot->tid;
  return 0;
}

/* Takes the heap for the caller: 1 and its word, 0 if its thread could not be waited for. */
int wksp__heap_take(wksp__op_t *op, wksp__heap_t *heap, uint64_t *ret_word,
                    fd_alloc_compacted_t *sum) {
  for (int turn = 0; turn < 8; turn++) {
    uint64_t owner = wksp__ld_acquire(&heap->owner);
    uint64_t name = WKSP_OWNER_NAME(owner), word = wksp__heap_owner_word(&op->call);
    if (name == op->call.name) { /* our own */
      *ret_word = owner;
      return 1;
    }
    int dead = owner && wksp__name_dead(op->wksp, name);
    if (dead && !wksp__slot_settle(&op->call, name)) return skip(op, wksp__name_slot(name), sum);
    if (!owner || dead) {
      if (!wksp__cas(&heap->owner, &owner, word)) continue;
      *ret_word = word;
      return 1;
    }
    uint32_t idx = wksp__name_slot(name);
    if (!wksp__gate_close(&op->call, idx, GATE_WAIT_NS, GATE_HOLD_NS)) {
      if (wksp__name_dead(op->wksp, name)) continue;
      return skip(op, idx, sum);
    }
    /* Killed inside, while we waited: what he was at comes first. Who is outside behind a closed
       gate begins nothing any more. */
    if (wksp__name_dead(op->wksp, name)) {
      wksp__gate_open(&op->call, idx);
      continue;
    }
    int got = wksp__cas(&heap->owner, &owner, word);
    /* Were we late the owner has reopened the gate and changed the word; a word that came round
     * again is given back. */
    if (got && wksp__ld_seq(&wksp__slots(op->wksp)[idx].gate) != WKSP_GATE_CLOSED(op->call.name)) {
      wksp__cas(&heap->owner, &word, owner);
      got = 0;
    }
    wksp__gate_open(&op->call, idx);
    if (!got) continue;
    *ret_word = word;
    return 1;
  }
  return 0;
}

static void compact_heaps(wksp__op_t *op, fd_alloc_compacted_t *sum) {
  uint64_t *dir = wksp__heap_dir(op->wksp);
  for (uint32_t id = 1; id < op->wksp->heap_max; id++) {
    wksp__heap_t *heap = wksp__heap_of(op->wksp, id, op->alloc_gaddr);
    uint64_t word;
    if (!heap || !wksp__heap_take(op, heap, &word, sum)) continue;
    if (!wksp__heap_listed(op->wksp, id, &heap->owner)) continue;
    uint32_t kept = wksp__heap_rebuild(op, heap, id);
    int own = op->heap == heap;
    if (!kept && !wksp__ld(&heap->inbox)) {
      if (own) {
        wksp__seat_leave_heap(op->call.seat, op->alloc_gaddr);
        op->heap = NULL;
        uint64_t none = 0;
        if (!wksp__cas(&heap->owner, &none, word)) continue;
      }
      wksp__st(&dir[id],
               0UL); /* out of the directory; the owner word stays ours, so nobody takes it */
    } else if (!own) {
      wksp__st_release(&heap->owner, 0UL); /* release; pairs with the acquire of who takes it */
    }
  }
}

/* Regions
 * -------------------------------------------------------------------------------------------- */

int wksp__region_gone(void *arg, wksp__tx_t *tx, uint64_t gaddr, uint64_t size) {
  fd_wksp_t *wksp = arg;
  uint64_t *words = wksp__span_words(wksp);
  uint32_t span = wksp__span_of(wksp, gaddr), end = span + (uint32_t)(size >> WKSP_SPAN_LG);
  if (size > WKSP_REGION_SZ_MAX) return 1;
  for (; span < end; span++)
    wksp__tx_put64(tx, &words[span], SPAN_NEXT(wksp__ld(&words[span]), 0, 0, WKSP_SPAN_NONE));
  return 0;
}

/* Only who has the alloc's token takes spans, so one that is TAKEN already is a dead compactor's.
 */
static int take_span(wksp__op_t *op, uint32_t span) {
  uint64_t *word = wksp__span_words(op->wksp) + span;
  uint64_t e = wksp__ld_acquire(word);
  if (SPAN_STATE(e) == WKSP_SPAN_TAKEN) return 1;
  if (SPAN_STATE(e) != WKSP_SPAN_POOL || SPAN_HEAP(e) != op->alloc->home) return 0;
  return wksp__cas(word, &e, SPAN_NEXT(e, op->alloc->home, 0, WKSP_SPAN_TAKEN));
}

static int region_free(wksp__op_t *op, fd_wksp_part_t const *part, uint64_t *freed) {
  uint64_t *words = wksp__span_words(op->wksp);
  uint32_t first = wksp__span_of(op->wksp, part->gaddr),
           cnt = (uint32_t)(part->size >> WKSP_SPAN_LG), got = 0;
  while (got < cnt && take_span(op, first + got)) got++;
  if (got == cnt) {
    int err = wksp__part_free(&op->call, WKSP_LOCK_CALL_NS, part->gaddr, part->kind, op->alloc->tag,
                              wksp__region_gone, op->wksp);
    if (!err) {
      *freed += part->size;
      return 0;
    }
    got = cnt;
    for (uint32_t i = 0; i < got; i++)
      wksp__st(&words[first + i], SPAN_NEXT(words[first + i], op->alloc->home, 0, WKSP_SPAN_POOL));
    return err;
  }
  /* not all: those that are TAKEN, also by one who was killed, go back */
  for (uint32_t i = 0; i < cnt; i++) {
    uint64_t e = wksp__ld_acquire(&words[first + i]);
    if (SPAN_STATE(e) == WKSP_SPAN_TAKEN)
      wksp__cas(&words[first + i], &e, SPAN_NEXT(e, op->alloc->home, 0, WKSP_SPAN_POOL));
  }
  return 0;
}

/* What a kill left uncounted is counted again; what others do meanwhile makes the count a little
   wrong, which costs a look. */
static void recount_pool(wksp__op_t *op) {
  uint32_t cnt = 0;
  for (uint32_t span = 0, end = wksp__span_end(&op->call); span < end; span++) {
    uint64_t e = wksp__ld(&wksp__span_words(op->wksp)[span]);
    cnt += SPAN_STATE(e) == WKSP_SPAN_POOL && SPAN_HEAP(e) == op->alloc->home;
  }
  wksp__st(&op->alloc->pool_cnt, cnt);
}

/* Orphans
 * -------------------------------------------------------------------------------------------- */

static int in_directory(fd_wksp_t *wksp, uint64_t gaddr) {
  uint64_t *dir = wksp__heap_dir(wksp);
  for (uint32_t id = 1; id < wksp->heap_max; id++)
    if (wksp__ld_acquire(&dir[id]) == (gaddr | DIR_HEAP)) return 1;
  return 0;
}

int wksp__grace(wksp__call_t *call) {
  uint64_t until = wksp__now_ns() + GRACE_WAIT_NS;
  if (!wksp__barrier()) return 0;
  for (uint32_t i = 0; i < call->wksp->slot_max; i++) {
    wksp__slot_t *slot = &wksp__slots(call->wksp)[i];
    if (slot == call->slot) continue;
    uint64_t in = wksp__ld_acquire(&slot->in);
    for (uint32_t turn = 0; !wksp__slot_outside(slot) && wksp__ld_acquire(&slot->in) == in;
         turn++) {
      uint64_t claim = wksp__ld_acquire(&slot->claim);
      if (wksp__name_dead(call->wksp, wksp__name_of(i, claim >> 32))) break;
      if (wksp__now_ns() > until) return 0;
      wksp__relax(turn);
    }
  }
  return 1;
}

static int orphans_free(wksp__op_t *op, uint64_t *freed) {
  uint64_t orphan[ORPHANS_MAX], size[ORPHANS_MAX];
  uint32_t cnt = 0, kind = FD_WKSP_KIND_HEAP | op->alloc->home << 8;
  fd_wksp_part_t part;
  int more;
  for (uint64_t from = 0; (more = wksp__part_next(op->wksp, from, &part)) == 1;
       from = part.gaddr + part.size) {
    if (part.kind != kind || in_directory(op->wksp, part.gaddr)) continue;
    orphan[cnt] = part.gaddr;
    size[cnt++] = part.size;
    if (cnt == ORPHANS_MAX) break;
  }
  if (more < 0 || !cnt || !wksp__grace(&op->call)) return more < 0 ? more : 0;
  for (uint32_t i = 0; i < cnt; i++) {
    if (in_directory(op->wksp, orphan[i])) continue; /* its maker was just about to enter it */
    int err =
        wksp__part_free(&op->call, WKSP_LOCK_CALL_NS, orphan[i], kind, op->alloc->tag, NULL, NULL);
    if (err) return err;
    *freed += size[i];
  }
  return 0;
}

/* The whole
 * ------------------------------------------------------------------------------------------ */

int wksp__compact(wksp__op_t *op, fd_alloc_compacted_t *sum) {
  uint64_t freed = 0;
  uint32_t kind = FD_WKSP_KIND_SPANS | op->alloc->home << 8;
  fd_wksp_part_t part;
  int err = wksp__token_get(op, 1);
  if (err) return err;
  wksp__fast_off();
  wksp__heap_peek(op);
  op->sent_cnt = 0;
  compact_heaps(op, sum);
  if (op->sent_cnt) { /* to heaps that may have been looked at before */
    fd_alloc_compacted_t again = {0};
    compact_heaps(op, &again);
  }
  int more = 0;
  for (uint64_t from = 0; !err && (more = wksp__part_next(op->wksp, from, &part)) == 1;
       from = part.gaddr + part.size)
    if (part.kind == kind) err = region_free(op, &part, &freed);
  if (more < 0) err = more;
  recount_pool(op);
  if (!err) err = orphans_free(op, &freed);
  wksp__token_put(op);
  sum->freed_sz += freed;
  return err;
}

int fd_alloc_compact(fd_alloc_t *join, fd_alloc_compacted_t *ret) {
  fd_alloc_compacted_t sum = {0};
  wksp__op_t op;
  if (!join) return 0;
  int err = wksp__op_begin(join, &op);
  if (err) return err;
  wksp__slots_reap(&op.call, 0);
  err = wksp__compact(&op, &sum);
  wksp__op_end(&op);
  if (!err && ret) *ret = sum;
  return err;
}

/* Clears what a killed new or delete has left; not while somebody is at it, and one at a time. */
static int finish_delete(wksp__call_t *call, struct fd_alloc *alloc, uint32_t id, uint64_t dir) {
  uint64_t token = wksp__ld_acquire(&alloc->compactor), mine = call->name;
  if (token && !wksp__name_dead(call->wksp, token)) return 0;
  if (!wksp__cas(&alloc->compactor, &token, mine)) return 0;
  int err = 0;
  if (wksp__ld_acquire(&wksp__heap_dir(call->wksp)[id]) == dir && wksp__alloc_ending(alloc))
    err = wksp__alloc_clear(call, id, alloc, 0, alloc->lease != 0);
  if (err == 1) return 0; /* the token went with it */
  wksp__cas(&alloc->compactor, &mine, 0UL);
  return err;
}

int fd_wksp_compact(fd_wksp_t *wksp, fd_alloc_compacted_t *ret) {
  fd_alloc_compacted_t sum = {0};
  wksp__call_t call;
  int err = wksp__call_begin(wksp, &call);
  if (err) return err;
  wksp__slots_reap(&call, 0);
  for (uint32_t id = 1; id < wksp->heap_max && !err; id++) {
    uint64_t dir = wksp__ld_acquire(&wksp__heap_dir(wksp)[id]), gaddr = DIR_GADDR(dir);
    if (DIR_WHAT(dir) != DIR_HOME || gaddr < wksp->data_lo ||
        gaddr > wksp->data_hi - sizeof(struct fd_alloc))
      continue;
    struct fd_alloc *alloc = fd_wksp_laddr_fast(wksp, gaddr);
    uint64_t magic = wksp__ld_acquire(&alloc->magic);
    if (wksp__alloc_ending(alloc)) {
      err = finish_delete(&call, alloc, id, dir);
      if (err == WKSP_E_BUSY) err = 0; /* the next compact may find nobody at it */
    } else if (magic == WKSP_ALLOC_MAGIC && alloc->self == gaddr) {
      wksp__op_t op = {.call = call, .wksp = wksp, .alloc = alloc, .alloc_gaddr = gaddr};
      err = wksp__compact(&op, &sum);
      if (err == WKSP_E_NOTFOUND) err = 0; /* somebody ends it */
    }
  }
  wksp__call_end(&call);
  if (!err && ret) *ret = sum;
  return err;
}
