/* The problem: one loop serves all, in the order in which the kernel names what is readable; a uid
   with a thousand busy connections would get a thousand turns for another's one.

   The model: deficit round robin over uids. on_check runs once in each iteration of the loop, after
   the sockets have been looked at, and gives each uid in the ring one turn; while somebody is left
   over an idle handle keeps the loop from waiting. Within a uid its items take turns.

   Refuses: weights, and to know what a turn does. */

#include "daemon/shell/fair.h"

#include <stdlib.h>
#include <time.h>

static void ring_remove(fair_t *fair, fair_user_t *user) {
  if (user->prev)
    user->prev->next = user->next;
  else
    fair->first = user->next;
  if (user->next)
    user->next->prev = user->prev;
  else
    fair->last = user->prev;
  user->prev = user->next = NULL;
  user->queued = 0;
  fair->queued_cnt--;
}

static void ring_add(fair_t *fair, fair_user_t *user, int first) {
  user->prev = first ? NULL : fair->last;
  user->next = first ? fair->first : NULL;
  if (user->prev)
    user->prev->next = user;
  else
    fair->first = user;
  if (user->next)
    user->next->prev = user;
  else
    fair->last = user;
  user->queued = 1;
  fair->queued_cnt++;
}

static void item_remove(fair_item_t *item) {
  fair_user_t *user = item->user;
  if (item->prev)
    item->prev->next = item->next;
  else
    user->first = item->next;
  if (item->next)
    item->next->prev = item->prev;
  else
    user->last = item->prev;
  item->prev = item->next = NULL;
  item->queued = 0;
}

void fair_ready(fair_t *fair, fair_item_t *item) {
  fair_user_t *user = item->user;
  if (item->queued) return;
  item->prev = user->last;
  item->next = NULL;
  if (user->last)
    user->last->next = item;
  else
    user->first = item;
  user->last = item;
  item->queued = 1;
  if (!user->queued) ring_add(fair, user, user != fair->serving);
}

void fair_drop(fair_t *fair, fair_item_t *item) {
  if (fair->running == item) fair->running = NULL;
  if (!item->queued) return;
  item_remove(item);
  if (!item->user->first) ring_remove(fair, item->user);
}

int fair_over(fair_t const *fair) {
  return fair->now() >= fair->until_ns;
}

/* The first items of the user, until its time is over. The user may go with its last item. */
static void turn(fair_t *fair, fair_user_t *user) {
  uint64_t since = fair->worked(), took;
  uint64_t turn_ns = fair->users.cnt > 1 ? FAIR_TURN_NS : FAIR_ALONE_NS;
  fair->until_ns = fair->now() + turn_ns;
  fair->serving = user;
  user->refs++;
  do {
    fair_item_t *item = user->first;
    item_remove(item);
    fair->running = item;
    int more = item->turn(item);
    if (more && fair->running == item) fair_ready(fair, item);
    fair->running = NULL;
  } while (user->first && !fair_over(fair));
  took = fair->worked() - since;
  if (took > turn_ns) user->debt_ns += took - turn_ns;
  if (user->debt_ns > FAIR_DEBT_MAX_NS) user->debt_ns = FAIR_DEBT_MAX_NS;
  if (user->queued) ring_remove(fair, user);
  if (user->first) ring_add(fair, user, 0);
  fair->serving = NULL;
  fair_user_give(fair, user);
}

/* What this thread has worked: that others had its processor in a turn is not the user's doing. */
static uint64_t worked(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return (uint64_t)time.tv_sec * 1000000000UL + (uint64_t)time.tv_nsec;
}

/* Its being there is all: the loop does not wait. */
static void on_idle(uv_idle_t *idle) {
}

/* One turn for each that is in the ring now; who comes to it meanwhile is behind the last. */
static void on_check(uv_check_t *check) {
  fair_t *fair = check->data;
  for (size_t left = fair->queued_cnt; left && fair->first; left--) {
    fair_user_t *user = fair->first;
    if (user == fair->last) user->debt_ns = 0; /* nobody waits for it */
    if (user->debt_ns > FAIR_TURN_NS) {
      user->debt_ns -= FAIR_TURN_NS;
      ring_remove(fair, user);
      ring_add(fair, user, 0);
    } else {
      user->debt_ns = 0;
      turn(fair, user);
    }
  }
  if (fair->first)
    uv_idle_start(&fair->idle, on_idle);
  else
    uv_idle_stop(&fair->idle);
}

int fair_start(fair_t *fair, uv_loop_t *loop) {
  *fair = (fair_t){.now = uv_hrtime, .worked = worked};
  uv_idle_init(loop, &fair->idle);
  uv_check_init(loop, &fair->check);
  fair->check.data = fair;
  int err = uv_check_start(&fair->check, on_check);
  uv_unref((uv_handle_t *)&fair->check);
  return err;
}

void fair_stop(fair_t *fair) {
  if (!uv_is_closing((uv_handle_t *)&fair->check)) uv_close((uv_handle_t *)&fair->check, NULL);
  if (!uv_is_closing((uv_handle_t *)&fair->idle)) uv_close((uv_handle_t *)&fair->idle, NULL);
}

void fair_free(fair_t *fair) {
  size_t place = 0;
  for (fair_user_t *user; (user = idmap_next(&fair->users, &place));) free(user);
  idmap_clear(&fair->users);
}

fair_user_t *fair_user(fair_t const *fair, uint32_t uid) {
  return idmap_get(&fair->users, (uint64_t)uid + 1);
}

fair_user_t *fair_user_take(fair_t *fair, uint32_t uid) {
  fair_user_t *user = fair_user(fair, uid);
  if (!user) {
    user = calloc(1, sizeof *user);
    if (!user || idmap_add(&fair->users, (uint64_t)uid + 1, user)) {
      free(user);
      return NULL;
    }
    user->uid = uid;
  }
  user->refs++;
  return user;
}

void fair_user_give(fair_t *fair, fair_user_t *user) {
  if (--user->refs) return;
  idmap_remove(&fair->users, (uint64_t)user->uid + 1);
  free(user);
}

void fair_hold(fair_t *fair, fair_user_t *user, uint64_t *held, uint64_t now) {
  user->held += now - *held;
  fair->held += now - *held;
  *held = now;
}
