/* live: what dies with a thread, and what a child of fork must not take for its own.

   Problem. A thread's death is told by a robust mutex that only it ever locks (call.h). Two things
   break that, and both come from a child that was made without the C library: by clone, by the
   system call fork, or by _Fork, which runs no handlers. It finds its parent's slots in its memory
   and would write them. And the C library, which keeps the thread's id and the list that the kernel
   walks at its death, knows nothing of it: a mutex that it locks there carries the parent's id.

   Model. A page that the kernel wipes at fork says which process this is. Where it is zero nothing
   of what the process knows about its threads is true: map.c forgets it before anything else is
   done. Seats are wiped as well, and with them what the short forms of malloc and free go by. A
   thread whose mutex turns out to carry another's id does by hand what the C library does: its own
   id in the word, and a list of its own, told to the kernel.

   A child of vfork has its parent's memory, and the parent's thread waits for it: it is that
   thread, as far as a slot is concerned, and the page still says so.

   Refuses: clone with shared memory but as another process, beside its parent. Such a child has its
   parent's thread-local memory, with which nothing in the C library works either. */

#include "core/live.h"

#include "core/atomic.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OWN_TLS __thread __attribute__((tls_model("initial-exec")))

/* More than that many locked mutexes the kernel does not look at. */
#define OWN_MAX 2048

__attribute__((aligned(WKSP_LIFE_PAGE))) wksp__life_t wksp__life;

/* The calling thread's list, where the C library's is not the kernel's; next NULL: not in use. */
static OWN_TLS struct robust_list_head g_own;

/* Where it is refused, handlers at fork are all there is. */
void wksp__life_wipe(void *addr, uint64_t size) {
  (void)madvise(addr, size, MADV_WIPEONFORK);
}

void wksp__life_begin(void) {
  wksp__life_wipe(&wksp__life, sizeof wksp__life);
  g_own.list.next = NULL;
  wksp__st(&wksp__life.barrier, 0U);
  /* release: who sees it sees what the caller made good; pairs with the acquire in life_check */
  wksp__st_release(&wksp__life.pid, (uint32_t)getpid());
}

/* Once in a process, so that a filter of system calls which comes later does not matter, and a
   thread begins without it. */
int wksp__life_barrier(void) {
  uint32_t known = wksp__ld(&wksp__life.barrier);
  if (!known) {
    known = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) ? 2 : 1;
    wksp__st(&wksp__life.barrier, known);
  }
  return known == 1;
}

uint32_t wksp__pid(void) {
  uint32_t pid = wksp__ld(&wksp__life.pid);
  return pid ? pid : (uint32_t)getpid();
}

/* A new mutex. Others load its word at any time, so it is not made in place: glibc's init stores
   plainly. A mutex that was never locked is nothing but its words, so they can be copied. */
static int make(pthread_mutex_t *live) {
  union {
    pthread_mutex_t mutex;
    uint64_t words[sizeof(pthread_mutex_t) / 8];
  } fresh;
  _Static_assert(sizeof fresh.words == sizeof fresh.mutex, "a mutex is made of whole words");
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  int err = pthread_mutex_init(&fresh.mutex, &attr);
  pthread_mutexattr_destroy(&attr);
  if (err) return err;
  uint64_t *to = (uint64_t *)(void *)live;
  for (uint32_t i = 0; i < sizeof fresh.words / 8; i++) wksp__st(&to[i], fresh.words[i]);
  pthread_mutex_destroy(&fresh.mutex);
  return 0;
}

/* What the kernel takes for the mutex in its list: the place of the pointer to the next. */
static struct robust_list *node_of(pthread_mutex_t *live) {
  return (struct robust_list *)(void *)&live->__data.__list.__next;
}

static int *word_of(pthread_mutex_t *live) {
  return &live->__data.__lock;
}

/* Whether the C library has locked the mutex with the id of another thread: our parent's. Where the
   kernel does not tell (a filter of system calls), the C library is believed: a wrong word would
   make a living thread look dead. */
static int misnamed(pthread_mutex_t *live) {
  int tid = (int)syscall(SYS_gettid);
  return tid > 0 && (wksp__ld(word_of(live)) & FUTEX_TID_MASK) != tid &&
         wksp__pid() == (uint32_t)getpid();
}

/* Killed between any two stores, the kernel finds the mutex pending, in the list, or not locked. */
static int lock_by_hand(pthread_mutex_t *live) {
  struct robust_list *node = node_of(live);
  if (!g_own.list.next) {
    g_own.list.next = &g_own.list;
    g_own.list_op_pending = NULL;
    g_own.futex_offset = (long)offsetof(pthread_mutex_t, __data.__lock) -
                         (long)offsetof(pthread_mutex_t, __data.__list.__next);
    if (syscall(SYS_set_robust_list, &g_own, sizeof g_own)) return errno;
  }
  wksp__st(&g_own.list_op_pending, node);
  wksp__st(word_of(live), (int)syscall(SYS_gettid));
  wksp__st(&node->next, g_own.list.next);
  wksp__st(&g_own.list.next, node);
  wksp__st(&g_own.list_op_pending, (struct robust_list *)NULL);
  return 0;
}

static void unlock_by_hand(pthread_mutex_t *live) {
  struct robust_list *node = node_of(live), *at = &g_own.list;
  if (!at->next) return;
  for (uint32_t i = 0; i < OWN_MAX && at->next != node; i++) {
    at = at->next;
    if (at == &g_own.list) return; /* not ours */
  }
  wksp__st(&g_own.list_op_pending, node);
  wksp__st(&at->next, node->next);
  wksp__st_release(word_of(live), 0); /* pairs with the acquire in mutex_word (slot.c) */
  wksp__st(&g_own.list_op_pending, (struct robust_list *)NULL);
}

int wksp__live_lock(pthread_mutex_t *live) {
  int err = make(live);
  if (!err) err = pthread_mutex_lock(live);
  if (err || !misnamed(live)) return err;
  pthread_mutex_unlock(live);
  return lock_by_hand(live);
}

void wksp__live_unlock(pthread_mutex_t *live) {
  /* EPERM: it does not carry the id that the C library takes for ours */
  if (pthread_mutex_unlock(live)) unlock_by_hand(live);
}

void wksp__signals_off(sigset_t *ret_old) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, ret_old);
}

void wksp__signals_on(sigset_t const *old) {
  pthread_sigmask(SIG_SETMASK, old, NULL);
}
