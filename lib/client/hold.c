/* Descriptors and fork; the contract is in hold.h.

   One list of all holds, one mutex. fork takes the mutex first, so the child sees a list and
   numbers that are true, closes all of them and goes on with empty holds. That is the whole of what
   a child needs here: a connection without a socket connects anew if it may, an attachment without
   a lifeline is known not to be a lease. */

#include "client/hold.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

static pthread_mutex_t hold_mutex = PTHREAD_MUTEX_INITIALIZER;
static wksp__hold_t *hold_list;
static int hold_registered;

void wksp__hold_lock(void) {
  int err = pthread_mutex_lock(&hold_mutex);
  assert(!err);
  (void)err;
}

void wksp__hold_unlock(void) {
  int err = pthread_mutex_unlock(&hold_mutex);
  assert(!err);
  (void)err;
}

/* close on Linux has closed the descriptor whatever it returns, and what it could report is of no
 * use for sockets and memory. */
static void slot_close(int *fd) {
  if (*fd >= 0) (void)close(*fd);
  *fd = -1;
}

static void fork_child(void) {
  for (wksp__hold_t *hold = hold_list; hold; hold = hold->next) {
    for (uint32_t i = 0; i < WKSP__HOLD_MAX; i++) slot_close(&hold->fds[i]);
  }
  wksp__hold_unlock();
}

int wksp__hold_init(wksp__hold_t *hold) {
  for (uint32_t i = 0; i < WKSP__HOLD_MAX; i++) hold->fds[i] = -1;
  wksp__hold_lock();
  int err = 0;
  if (!hold_registered) err = pthread_atfork(wksp__hold_lock, wksp__hold_unlock, fork_child);
  if (!err) {
    hold_registered = 1;
    hold->next = hold_list;
    hold->link = &hold_list;
    if (hold_list) hold_list->link = &hold->next;
    hold_list = hold;
  }
  wksp__hold_unlock();
  if (!err) return 0;
  errno = err;
  return -1;
}

void wksp__hold_free(wksp__hold_t *hold) {
  wksp__hold_lock();
  if (hold->link) { /* under the lock: neighbours that come and go change it */
    for (uint32_t i = 0; i < WKSP__HOLD_MAX; i++) slot_close(&hold->fds[i]);
    *hold->link = hold->next;
    if (hold->next) hold->next->link = hold->link;
    hold->link = NULL;
  }
  wksp__hold_unlock();
}

void wksp__hold_close(wksp__hold_t *hold, uint32_t idx) {
  wksp__hold_lock();
  slot_close(&hold->fds[idx]);
  wksp__hold_unlock();
}

void wksp__hold_move(wksp__hold_t *from, uint32_t from_idx, wksp__hold_t *to, uint32_t to_idx) {
  wksp__hold_lock();
  assert(to->fds[to_idx] < 0);
  to->fds[to_idx] = from->fds[from_idx];
  from->fds[from_idx] = -1;
  wksp__hold_unlock();
}

int wksp__hold_fd(wksp__hold_t const *hold, uint32_t idx) {
  wksp__hold_lock();
  int fd = hold->fds[idx];
  wksp__hold_unlock();
  return fd;
}
