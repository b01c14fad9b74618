/* pause: a moment in which no bracketed update is under way (wksp/pause.h).

   Model, as the gate of a slot (call.h), for all slots at once. Who enters a bracket counts up in
   his slot, by a plain store, and loads the workspace's pause word. Who pauses stores his name
   there, makes the kernel run a barrier on every core, and looks at all slots: so either he sees a
   bracket or its thread sees the pause. The store and load of the one, the store and loads of the
   other, and the barrier between are partners.

     word 0       brackets are open
     word NAME    whoever wants in waits, at most until until_ns, and only while NAME lives

   The pause ends by one CAS of the word to 0, by whoever comes first: who has paused, or a waiter
   who finds him dead or late. So a pause that was broken is noticed by the one whose CAS fails.

   Brackets of one thread nest, and the inner ones never wait: the outer one has the pause wait for
   it. A bracket's count belongs to the holder of the slot, so it goes with him.

   The pause word lies behind the record, in room that the layout has there anyhow; a library that
   does not know of it has no brackets.

   Refuses: a thread that has no slot to itself; waiting for the dead. */

#include "wksp/pause.h"

#include "core/atomic.h"
#include "core/call.h"
#include "core/enter.h"
#include "core/fail.h"
#include "core/futex.h"
#include "core/map.h"

#include <string.h>

/* What a waiter sleeps at most before it looks again whether the one who paused lives; ns. */
#define RECHECK_NS    2000000UL
#define CLAIM_HELD(c) (((c)&3UL) == WKSP_SLOT_HELD)

typedef struct pause_word {
  uint64_t word;     /* 0, or the name of who has paused: the truth */
  uint64_t until_ns; /* CLOCK_MONOTONIC */
  uint32_t futex;    /* changes when brackets open */
  uint32_t pad[11];
} pause_word_t;

#define PAUSE_OFF ((sizeof(wksp__vol_t) + 63UL) & ~63UL)
_Static_assert(PAUSE_OFF + sizeof(pause_word_t) <= ((sizeof(wksp__vol_t) + 255UL) & ~255UL),
               "there is room before the slots");

WKSP__INLINE pause_word_t *pause_of(fd_wksp_t const *wksp) {
  return (pause_word_t *)((uintptr_t)wksp + wksp->vol_off + PAUSE_OFF);
}

/* Ends a pause if it is still that of `name`. 1 it was. */
static int open_brackets(pause_word_t *pause, uint64_t name) {
  if (!wksp__cas(&pause->word, &name, 0UL)) return 0;
  wksp__fetch_add(&pause->futex, 1U);
  wksp__futex_wake(&pause->futex, INT32_MAX);
  return 1;
}

/* The calling thread's seat with a slot of its own. 0, or an error (reported). */
static int seat_get(fd_wksp_t *wksp, char const *what, wksp__seat_t **ret_seat) {
  wksp__call_t call;
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "%s: the workspace is NULL", what);
  int err = wksp__call_begin(wksp, &call);
  if (err) return err;
  wksp__call_end(&call);
  wksp__seat_t *seat = wksp__seat_find(wksp);
  if (!seat || !seat->slot)
    return wksp__fail(WKSP_E_LIMIT,
                      "%s: all %u slots of workspace %s are taken, and this needs one of its own",
                      what, wksp->slot_max, wksp->name);
  *ret_seat = seat;
  return 0;
}

/* In a bracket of depth 1, while there is a pause: out of it, until the pause is over, and in. */
static void wait_outside(fd_wksp_t *wksp, wksp__seat_t *seat) {
  wksp__slot_t *slot = seat->slot;
  pause_word_t *pause = pause_of(wksp);
  for (;;) {
    wksp__fence_seq(); /* the count, then the word: this path is rare enough for a fence */
    uint32_t turn = wksp__ld_acquire(&pause->futex);
    uint64_t word = wksp__ld_acquire(&pause->word);
    if (!word || word == seat->name) return;
    /* release: all that was done in brackets before; pairs with the acquire in inside() */
    wksp__st_release(&slot->bracket, 0UL);
    uint64_t now = wksp__now_ns(), until = wksp__ld(&pause->until_ns);
    if (now >= until || wksp__name_dead(wksp, word))
      open_brackets(pause, word);
    else
      wksp__futex_wait(&pause->futex, turn, until - now < RECHECK_NS ? until - now : RECHECK_NS);
    wksp__st(&slot->bracket, 1UL);
  }
}

__attribute__((noinline, cold)) static int enter_rest(fd_wksp_t *wksp) {
  wksp__seat_t *seat = NULL;
  int err = seat_get(wksp, "enter", &seat);
  if (err) return err;
  uint64_t depth = wksp__ld(&seat->slot->bracket);
  wksp__st(&seat->slot->bracket, depth + 1);
  if (!depth) wait_outside(wksp, seat);
  return 0;
}

/* The count is only compared, and what is stored is constant, so that the processor need not wait
   for its own store before. */
int wksp_client_enter(fd_wksp_t *wksp) {
  wksp__seat_t *seat = wksp__seats;
  if (wksp__unlikely(!seat || seat->wksp != wksp || !seat->slot)) return enter_rest(wksp);
  wksp__slot_t *slot = seat->slot;
  if (wksp__unlikely(wksp__ld(&slot->bracket))) return enter_rest(wksp);
  wksp__st(&slot->bracket, 1UL); /* then the word; pairs with the barrier in wksp_pause */
  if (wksp__unlikely(wksp__ld(&slot->fenced) | wksp__ld(&pause_of(wksp)->word)))
    wait_outside(wksp, seat);
  wksp__fence_acquire(); /* what is done inside comes after; pairs with the CAS that opens */
  return 0;
}

/* Brackets without a call
 * ---------------------------------------------------------------------------------------------- */

void wksp__bracket_set(wksp__seat_t *seat) {
  seat->bracket = (wksp_bracket_t){.wksp = seat->wksp,
                                   .depth = &seat->slot->bracket,
                                   .fenced = &seat->slot->fenced,
                                   .pause = &pause_of(seat->wksp)->word};
}

int wksp_client_bracket(fd_wksp_t *wksp, wksp_bracket_t **ret_bracket) {
  wksp__seat_t *seat = NULL;
  if (!ret_bracket) return wksp__fail(WKSP_E_INVAL, "bracket: ret_bracket is NULL");
  int err = seat_get(wksp, "bracket", &seat);
  if (!err) *ret_bracket = &seat->bracket;
  return err;
}

int wksp_client_enter_rest(wksp_bracket_t *bracket) {
  return wksp_client_enter(bracket->wksp);
}

void wksp_client_leave_rest(wksp_bracket_t *bracket) {
  if (bracket->wksp) wksp_client_leave(bracket->wksp);
}

__attribute__((noinline, cold)) static void leave_rest(fd_wksp_t *wksp) {
  wksp__seat_t *seat = wksp__seat_find(wksp);
  uint64_t depth = seat && seat->slot ? wksp__ld(&seat->slot->bracket) : 0;
  if (depth) wksp__st_release(&seat->slot->bracket, depth - 1); /* as below */
}

void wksp_client_leave(fd_wksp_t *wksp) {
  wksp__seat_t *seat = wksp__seats;
  if (wksp__unlikely(!seat || seat->wksp != wksp || !seat->slot ||
                     wksp__ld(&seat->slot->bracket) != 1)) {
    leave_rest(wksp);
    return;
  }
  /* release: what was done inside is seen by who sees us outside; pairs with the acquire in
     inside() */
  wksp__st_release(&seat->slot->bracket, 0UL);
}

/* Whether a living thread is in a bracket of that slot. */
static int inside(fd_wksp_t const *wksp, uint32_t idx, int sure) {
  wksp__slot_t const *slot = &wksp__slots(wksp)[idx];
  uint64_t claim = wksp__ld_acquire(&slot->claim);
  if (!CLAIM_HELD(claim)) return 0;
  if (!wksp__ld_acquire(&slot->bracket) && (sure || (wksp__ld(&slot->fenced) & WKSP_FENCED_CALLS)))
    return 0;
  return !wksp__name_dead(wksp, wksp__name_of(idx, claim >> 32));
}

static void who(wksp__slot_t const *slot, wksp_inside_t *ret_inside) {
  wksp_inside_t one = {.pid = wksp__ld(&slot->pid), .tid = wksp__ld(&slot->tid)};
  for (uint32_t i = 0; i < sizeof one.comm - 1 && slot->comm[i]; i++)
    one.comm[i] = slot->comm[i] >= ' ' && slot->comm[i] <= '~' ? slot->comm[i] : '?';
  *ret_inside = one;
}

/* Takes the pause word: 0, or E_BUSY (reported). */
static int take_word(fd_wksp_t *wksp, uint64_t name, uint64_t until) {
  pause_word_t *pause = pause_of(wksp);
  uint64_t word = wksp__ld_acquire(&pause->word);
  if (word && wksp__now_ns() < wksp__ld(&pause->until_ns) && !wksp__name_dead(wksp, word))
    return wksp__fail(WKSP_E_BUSY, "pause: workspace %s is paused by another thread", wksp->name);
  /* Before the word, so that no waiter finds one that has passed; and after it, should another have
     tried at the same time. */
  wksp__st(&pause->until_ns, until);
  if (!wksp__cas(&pause->word, &word, name))
    return wksp__fail(WKSP_E_BUSY, "pause: workspace %s is paused by another thread", wksp->name);
  wksp__st(&pause->until_ns, until);
  return 0;
}

int wksp_pause(fd_wksp_t *wksp, ulong wait_ns, ulong hold_ns, wksp_inside_t *ret_inside,
               uint inside_max, uint *ret_inside_cnt) {
  wksp__seat_t *seat = NULL;
  int err = seat_get(wksp, "pause", &seat);
  if (err) return err;
  if (wksp__ld(&seat->slot->bracket) || seat->paused)
    return wksp__fail(WKSP_E_INVAL, "pause: the calling thread %s workspace %s",
                      seat->paused ? "has paused" : "is inside a bracket of", wksp->name);
  uint64_t now = wksp__now_ns(), wait_until;
  uint64_t most = 1UL << 60; /* so that sums stay sums */
  wait_until = now + (wait_ns < most ? wait_ns : most);
  err = take_word(wksp, seat->name, wait_until + (hold_ns < most ? hold_ns : most));
  if (err) return err;
  int sure = wksp__barrier();
  uint32_t cnt = 0;
  for (uint32_t idx = 0; idx < wksp->slot_max; idx++) {
    for (uint32_t turn = 0; inside(wksp, idx, sure); turn++) {
      if (wksp__now_ns() > wait_until) {
        if (ret_inside && cnt < inside_max) who(&wksp__slots(wksp)[idx], &ret_inside[cnt]);
        cnt++;
        break;
      }
      wksp__relax(turn);
    }
  }
  if (!cnt) {
    seat->paused = 1;
    return 0;
  }
  open_brackets(pause_of(wksp), seat->name);
  if (ret_inside_cnt) *ret_inside_cnt = cnt;
  return wksp__fail(WKSP_E_TIMEDOUT,
                    "pause: %u threads stayed inside brackets of workspace %s for %lu ns", cnt,
                    wksp->name, wait_ns);
}

int wksp_resume(fd_wksp_t *wksp) {
  wksp__seat_t *seat = wksp__seat_find(wksp);
  if (!seat || !seat->paused)
    return wksp__fail(WKSP_E_INVAL, "resume: the calling thread has not paused the workspace");
  seat->paused = 0;
  if (seat->slot && open_brackets(pause_of(wksp), seat->name)) return 0;
  return wksp__fail(WKSP_E_TIMEDOUT, "resume: the pause of workspace %s had come to its end before",
                    wksp->name);
}
