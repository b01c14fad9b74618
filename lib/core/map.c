/* map: which workspaces this process has joined, and which slots its threads hold there.

   A slot contains a robust mutex that is on its thread's robust list: were the page unmapped while
   the thread lives, the kernel could not walk the list behind it when the thread dies. So a mapping
   goes only when the last join and the last slot are gone; a thread gives its slots back when it
   ends (a pthread key's destructor) or when it drops the last join itself.

   A child of fork has none of its parent's slots: the thread that forked forgets them, in a handler
   at fork, or, where there was none, when it looks (live.h). The joins remain, for the memory is
   mapped in the child too; but it does not claim with its parent's lease, whose end is not its own.

   Signals are off while the mutex is held, and seats are no memory of malloc's: a signal handler
   that allocates must find neither itself nor the C library in its way.

   Refuses: to know where memory comes from (anon.c and the client do), or to touch a workspace's
   content. */

#include "core/map.h"
#include "core/atomic.h"
#include "core/fail.h"
#include "core/private.h"
#include "core/protect.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The process's state: what file-scope variables there are in lib/core. All under the mutex. */
static pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;
static wksp__map_t *g_maps;
static wksp__listener_t g_listener;
static uint64_t g_id;
static pthread_once_t g_once = PTHREAD_ONCE_INIT;
static pthread_key_t g_key;
static int g_key_err;
static int g_begun; /* 1: there has been a join */
static sigset_t g_fork_mask;

WKSP__TLS wksp__seat_t *wksp__seats;
wksp__fast_t wksp__fast_none = {.join = WKSP_FAST_OFF};
WKSP__TLS wksp__fast_t *wksp__fast = &wksp__fast_none;

#ifdef WKSP_SEAT_IN_TLS
/* The first seat of a thread in private memory, where all threads of a program have one: it costs
   no mapping, and a thread that allocates after its destructors have run leaves none behind. One in
   memory that others share has a page, which the kernel wipes in a child; it cannot wipe this.
   Others have no memory of malloc's, for a signal handler must not find the C library in its way.
 */
static WKSP__TLS wksp__seat_t g_seat;
static WKSP__TLS int g_seat_taken;
#endif

/* Zeroed; NULL: there is no memory. own: of the workspace. */
static wksp__seat_t *seat_memory(struct wksp__own const *own) {
#ifdef WKSP_SEAT_IN_TLS
  if (own && !wksp__xchg(&g_seat_taken, 1)) { /* a signal handler may ask in between */
    memset(&g_seat, 0, sizeof g_seat);
    return &g_seat;
  }
#endif
  void *at =
      mmap(NULL, sizeof(wksp__seat_t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

static void seat_free(wksp__seat_t *seat) {
#ifdef WKSP_SEAT_IN_TLS
  if (seat == &g_seat) {
    wksp__st_release(&g_seat_taken, 0);
    return;
  }
#endif
  munmap(seat, sizeof *seat);
}

/* What the calling thread knows of slots is its parent's, but of private memory it has a copy.
   Seats behind the first are lost with it, where the kernel has wiped it: a page each that nobody
   has touched. */
static void forget_seats(void) {
  wksp__seat_t *kept = NULL;
  wksp__fast_off();
  for (wksp__seat_t *seat = wksp__seats, *next; seat; seat = next) {
    next = seat->next;
    if (seat->map && seat->map->own) {
      seat->next = kept;
      kept = seat;
    } else {
      seat_free(seat);
    }
  }
  wksp__seats = kept;
}

static wksp__seat_t *seat_in(fd_wksp_t const *wksp) {
  wksp__seat_t *seat = wksp__seats;
  while (seat && seat->wksp != wksp) seat = seat->next;
  return seat;
}

/* The thread that forked goes on in the child with its seats in private memory, if it has any
   (private.c). The mutex is held, or there is no other thread yet. */
static void inherit(void) {
  for (wksp__map_t *map = g_maps; map; map = map->next) {
    if (!map->own) continue;
    wksp__seat_t *seat = seat_in(map->wksp);
    map->leased += seat != NULL;
    if (seat) seat->life = map->lease;
    wksp__slots_orphan(map, seat);
  }
  (void)wksp__life_barrier();
}

/* In a child: none of the parent's threads is here but the one that forked. */
static void forget_parent(void) {
  forget_seats();
  for (wksp__map_t *map = g_maps; map; map = map->next) {
    map->leased = map->busy = map->guarding = 0;
    if (map->own) /* not by process ids: another namespace may have the parent's */
      map->lease = map->lease % (WKSP_LEASE_FORKED - 1) + 1;
    else if (map->lease)
      map->lease = WKSP_LEASE_FORKED;
  }
  wksp__life_begin();
  if (syscall(SYS_gettid) == getpid()) inherit(); /* else another one asks before it does */
}

void wksp__life_check(void) {
  /* acquire: pairs with the release in life_begin, of another thread of such a child */
  if (wksp__unlikely(!wksp__ld_acquire(&wksp__life.pid) && wksp__ld(&g_begun))) {
    uint32_t nobody = 0;
    if (wksp__cas(&wksp__life.at_it, &nobody, 1U)) {
      pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
      g_mutex = fresh; /* who held it is not here */
      forget_parent();
    }
    while (!wksp__ld_acquire(&wksp__life.pid)) sched_yield();
  }
  if (wksp__unlikely(wksp__seats && !wksp__seats->map)) forget_seats();
  if (wksp__unlikely(wksp__seats && wksp__seats->map->own &&
                     wksp__seats->life != wksp__seats->map->lease)) {
    pthread_mutex_lock(&g_mutex);
    inherit();
    pthread_mutex_unlock(&g_mutex);
  }
}

static void maps_lock(sigset_t *ret_old) {
  wksp__signals_off(ret_old);
  wksp__life_check();
  pthread_mutex_lock(&g_mutex);
}

static void maps_unlock(sigset_t const *old) {
  pthread_mutex_unlock(&g_mutex);
  wksp__signals_on(old);
}

static void fork_before(void) {
  sigset_t old = {0}; /* only a part of it is written; the rest would be what the stack held */
  maps_lock(&old);
  g_fork_mask = old;
}

static void fork_parent(void) {
  sigset_t old = g_fork_mask;
  maps_unlock(&old);
}

static void fork_child(void) {
  forget_parent();
  fork_parent();
}

static void thread_end(void *arg) {
  (void)arg;
  wksp__life_check();
  while (wksp__seats) wksp__seat_drop(wksp__seats);
}

static void init_once(void) {
  wksp__life_begin();
  wksp__st(&g_begun, 1);
  g_key_err = pthread_key_create(&g_key, thread_end);
  if (!g_key_err) g_key_err = pthread_atfork(fork_before, fork_parent, fork_child);
}

static wksp__map_t **find(fd_wksp_t const *wksp) {
  wksp__map_t **at = &g_maps;
  while (*at && (*at)->wksp != wksp) at = &(*at)->next;
  return at;
}

/* Takes the map out and destroys it if nothing holds it; the mutex is held and given up. */
static void unlock_and_sweep(wksp__map_t **at, sigset_t const *old) {
  wksp__map_t *map = *at;
  if (map->joins || map->leased)
    map = NULL;
  else
    *at = map->next;
  maps_unlock(old);
  if (!map) return;
  if (map->unmap) map->unmap(map->unmap_arg);
  free(map);
}

int wksp__map_add(fd_wksp_t *wksp, int ro, uint64_t lease, void (*unmap)(void *arg), void *arg) {
  pthread_once(&g_once, init_once);
  if (g_key_err)
    return wksp__fail(WKSP_E_NOMEM, "join: no thread-specific key left in this process");
  sigset_t old;
  maps_lock(&old);
  wksp__map_t **at = find(wksp);
  wksp__map_t *map = *at;
  if (map && map->joins && map->ro != ro) {
    maps_unlock(&old);
    return wksp__fail(WKSP_E_INVAL,
                      "join: this mapping is already joined %s; map it again to join it %s",
                      map->ro ? "read-only" : "read-write", ro ? "read-only" : "read-write");
  }
  if (!map) {
    map = calloc(1, sizeof *map);
    if (!map) {
      maps_unlock(&old);
      return wksp__fail(WKSP_E_NOMEM, "join: out of memory");
    }
    map->wksp = wksp;
    map->id = ++g_id;
    *at = map;
  }
  if (!map->joins) {
    map->ro = ro;
    map->lease = lease;
    map->unmap = unmap;
    map->unmap_arg = arg;
    map->prot[0] = map->prot[1] = ro ? PROT_READ : PROT_READ | PROT_WRITE;
  }
  map->joins++;
  maps_unlock(&old);
  return 0;
}

int wksp__map_add_own(fd_wksp_t *wksp, wksp__own_t *own, void (*unmap)(void *arg)) {
  int err = wksp__map_add(wksp, 0, 1, unmap, own);
  if (!err) wksp__map_of(wksp)->own = own;
  return err;
}

int wksp__map_drop(fd_wksp_t *wksp) {
  sigset_t old;
  maps_lock(&old);
  wksp__map_t *map = *find(wksp);
  if (!map || !map->joins) {
    maps_unlock(&old);
    return wksp__fail(WKSP_E_INVAL, "leave: no workspace is joined at %p", (void *)wksp);
  }
  map->joins--;
  int last = !map->joins;
  map->leased += (uint32_t)last; /* keeps it while our own seat goes */
  maps_unlock(&old);
  if (!last) return 0;
  wksp__protect_end(map);
  wksp__seat_t *seat = wksp__seat_find(wksp);
  if (seat) wksp__seat_drop(seat);
  maps_lock(&old);
  map->leased--;
  unlock_and_sweep(find(wksp), &old);
  return 0;
}

int wksp__map_ro(fd_wksp_t const *wksp) {
  sigset_t old;
  maps_lock(&old);
  wksp__map_t const *map = *find(wksp);
  int ret = map && map->joins ? map->ro : WKSP_E_INVAL;
  maps_unlock(&old);
  return ret;
}

wksp__map_t *wksp__map_of(fd_wksp_t const *wksp) {
  sigset_t old;
  maps_lock(&old);
  wksp__map_t *map = *find(wksp);
  if (map && !map->joins) map = NULL;
  maps_unlock(&old);
  return map;
}

int wksp__map_busy(wksp__map_t *map) {
  sigset_t old;
  maps_lock(&old);
  int may = !wksp__ld(&map->guarded);
  map->busy += (uint32_t)may;
  maps_unlock(&old);
  return may;
}

void wksp__map_idle(wksp__map_t *map) {
  sigset_t old;
  maps_lock(&old);
  map->busy--;
  maps_unlock(&old);
}

int wksp__map_guard_begin(wksp__map_t *map) {
  sigset_t old;
  maps_lock(&old);
  int may = !map->guarding;
  map->guarding = 1;
  maps_unlock(&old);
  return may;
}

int wksp__map_guard_set(wksp__map_t *map, int guarded) {
  sigset_t old;
  maps_lock(&old);
  wksp__st_seq(&map->guarded, (uint32_t)guarded);
  int busy = map->busy != 0;
  maps_unlock(&old);
  return busy;
}

void wksp__map_guard_end(wksp__map_t *map) {
  sigset_t old;
  maps_lock(&old);
  map->guarding = 0;
  maps_unlock(&old);
}

fd_wksp_t *wksp__map_join_named(char const *name, int rw) {
  sigset_t old;
  maps_lock(&old);
  wksp__map_t *best = NULL;
  for (wksp__map_t *map = g_maps; map && !(best && !best->ro); map = map->next)
    if (map->joins && !(map->ro && (rw || best)) &&
        !strncmp(map->wksp->name, name, sizeof map->wksp->name))
      best = map;
  if (best) best->joins++;
  fd_wksp_t *wksp = best ? best->wksp : NULL;
  maps_unlock(&old);
  return wksp;
}

fd_wksp_t *wksp__map_containing(void const *laddr) {
  fd_wksp_t *wksp = NULL;
  sigset_t old;
  maps_lock(&old);
  for (wksp__map_t *map = g_maps; map && !wksp; map = map->next) {
    uintptr_t off = (uintptr_t)laddr - (uintptr_t)map->wksp;
    if (map->joins && off < map->wksp->footprint) wksp = map->wksp;
  }
  maps_unlock(&old);
  return wksp;
}

int wksp__listener_set(wksp__listener_t const *listener) {
  pthread_once(&g_once, init_once); /* from here on a fork finds the mutex free */
  if (g_key_err)
    return wksp__fail(WKSP_E_NOMEM, "on_bad_free: no thread-specific key left in this process");
  pthread_mutex_lock(&g_mutex);
  g_listener.arg = listener->arg;
  __atomic_store_n(&g_listener.on_bad_free, listener->on_bad_free, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&g_mutex);
  return 0;
}

wksp__listener_t wksp__listener(void) {
  wksp__listener_t none = {NULL, NULL};
  if (!wksp__ld(&g_listener.on_bad_free)) return none; /* without the mutex in most processes */
  pthread_mutex_lock(&g_mutex);
  wksp__listener_t listener = g_listener;
  pthread_mutex_unlock(&g_mutex);
  return listener;
}

wksp__seat_t *wksp__seat_find(fd_wksp_t const *wksp) {
  wksp__life_check();
  return seat_in(wksp);
}

int wksp__seat_new(fd_wksp_t *wksp, wksp__seat_t **ret_seat) {
  sigset_t old;
  maps_lock(&old);
  wksp__map_t *map = *find(wksp);
  int err = !map || !map->joins ? WKSP_E_INVAL : map->ro ? WKSP_E_RDONLY : 0;
  if (!err) map->leased++;
  maps_unlock(&old);
  wksp__seat_t *seat = err ? NULL : seat_memory(map->own);
  if (!err && (!seat || pthread_setspecific(g_key, seat))) {
    if (seat) seat_free(seat);
    maps_lock(&old);
    map->leased--;
    maps_unlock(&old);
    err = WKSP_E_NOMEM;
  }
  if (err)
    return wksp__fail(
        err, err == WKSP_E_RDONLY
                 ? "call: the workspace is joined read-only; attach it read-write to change it"
             : err == WKSP_E_INVAL ? "call: no workspace is joined at this address"
                                   : "call: out of memory for a thread's record");
  if (!map->own) wksp__life_wipe(seat, sizeof *seat);
  seat->map = map;
  seat->life = map->lease;
  seat->wksp = wksp;
  seat->fenced = !wksp__life_barrier();
  seat->next = wksp__seats;
  wksp__seats = seat;
  *ret_seat = seat;
  return 0;
}

void wksp__seat_drop(wksp__seat_t *seat) {
  wksp__fast_off();
  if (seat->slot) wksp__slot_release(seat);
  wksp__seat_t **at = &wksp__seats;
  while (*at != seat) at = &(*at)->next;
  *at = seat->next;
  sigset_t old;
  maps_lock(&old);
  seat->map->leased--;
  unlock_and_sweep(find(seat->wksp), &old);
  seat_free(seat);
}
