/* The problem: taking gigabytes of pages takes seconds, and what was made must be with the service
   manager before anybody is told of it.

   The model: a make is a thread pool item; then its descriptor goes to the fd store under its own
   name, and once the manager confirms (or there is none) the engine hears of it. Without a manager
   memory is made all the same and does not outlive the daemon (Stats says so); but a daemon whose
   supervisor has gone refuses, for its users were promised more.

   Filling and punching pages of memory that is there is such an item as well, with a descriptor of
   its own; the manager has nothing to do with it, for the memfd stays the same.

   The way back is confirmed as well: the spec of what is removed stays on disk, in the state
   removing, until the manager has let go of the memory, so that a kill in between finds it and goes
   on. Drops go out in batches, one barrier for each:

     waiting  -> told to the manager, barrier under way -> confirmed: forgotten, the spec goes
                                                        -> not: failed, until it is asked for again

   The store takes back everything of a name. A found memory may have another one's name (recover.c
   says when); what remains of a name that was taken back is stored anew at once, before anything
   else is done.

   Refuses: to decide; a make that the engine no longer wants is dropped by the engine. */

#include "daemon/shell/wsmem.h"

#include "core/layout.h"
#include "daemon/shell/diskq.h"
#include "daemon/shell/fdnames.h"
#include "daemon/shell/topology.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct make {
  struct make *next; /* of those that wait */
  uv_work_t work;
  loop_t *loop;
  uint64_t ws_id;
  memory_want_t want;
  int resize; /* ENGINE_FX_MEMORY_FILL or _PUNCH: of got.fd; 0: a make */
  memory_fill_t fill;
  _Atomic int cancel;
  int bad;
  uint64_t held; /* of a punch: bytes after it */
  memory_got_t got;
  memory_fail_t fail;
} make_t;

enum { DROP_WAITING = 0, DROP_TOLD, DROP_FAILED };

typedef struct drop {
  struct drop *next; /* of those that wait, or of those that were told */
  uint64_t ws_id;
  int state;     /* DROP_* */
  char *name;    /* in the fd store; owned */
  int unpersist; /* its spec is wanted to go; to be answered */
  spec_t gone;   /* what is written in its place; ws_id 0: nothing */
} drop_t;

static void free_mem(wsmem_t *mem) {
  free(mem->name);
  free(mem);
}

int wsmem_add(loop_t *loop, uint64_t ws_id, int fd, uint64_t size, char const *name) {
  char own[FDNAMES_WS_MAX];
  if (idmap_get(&loop->memories, ws_id)) return 1;
  wsmem_t *mem = calloc(1, sizeof *mem);
  if (!mem) return 1;
  *mem = (wsmem_t){.fd = fd, .ws_id = ws_id, .size = size, .held = UINT64_MAX};
  fdnames_ws(ws_id, own);
  int foreign = strcmp(name, own) != 0;
  if (foreign) mem->name = strdup(name);
  if ((foreign && !mem->name) || idmap_add(&loop->memories, ws_id, mem)) {
    free_mem(mem);
    return 1;
  }
  loop->foreign_names |= foreign;
  return 0;
}

wsmem_t *wsmem_get(loop_t const *loop, uint64_t ws_id) {
  return idmap_get(&loop->memories, ws_id);
}

/* Dropping
 * --------------------------------------------------------------------------------------------- */

static void free_drop(drop_t *drop) {
  free(drop->name);
  free(drop);
}

static void drop_failed(loop_t *loop, drop_t *drop) {
  drop->state = DROP_FAILED;
  if (!drop->unpersist) return;
  drop->unpersist = 0;
  engine_event_t event = {.kind = ENGINE_EV_REMOVED};
  event.u.done.ws_id = drop->ws_id;
  event.u.done.err = ETIMEDOUT;
  event.u.done.detail = "the service manager did not confirm that it let the memory go";
  loop_post(loop, &event, NULL);
}

static void drop_confirmed(loop_t *loop, drop_t *drop) {
  idmap_remove(&loop->drops, drop->ws_id);
  if (drop->unpersist && diskq_remove(loop, drop->ws_id, drop->gone.ws_id ? &drop->gone : NULL)) {
    loop_break(loop, "no memory for the removal of a spec");
  }
  free_drop(drop);
}

static void start_drops(loop_t *loop);

static void on_dropped(void *arg, int ok) {
  loop_t *loop = arg;
  drop_t *drop = loop->drops_told;
  /* without a manager nobody keeps anything */
  ok = !notify_active(loop->notify) || (ok && !loop->drops_unsent);
  loop->drops_told = NULL;
  if (!ok) {
    /* those that wait would wait as long again: they fail with the others */
    drop_t **end = &drop;
    while (*end) end = &(*end)->next;
    *end = loop->drops_waiting;
    loop->drops_waiting = NULL;
  }
  while (drop) {
    drop_t *next = drop->next; /* what is posted may begin a drop anew */
    if (ok)
      drop_confirmed(loop, drop);
    else
      drop_failed(loop, drop);
    drop = next;
  }
  start_drops(loop);
}

/* Stores again what else was stored under this name. */
static void restore_others(loop_t *loop, char const *name) {
  size_t place = 0;
  wsmem_t const *mem;
  if (!loop->foreign_names) return;
  while ((mem = idmap_next(&loop->memories, &place))) {
    char own[FDNAMES_WS_MAX];
    fdnames_ws(mem->ws_id, own);
    if (strcmp(mem->name ? mem->name : own, name) != 0) continue;
    if (notify_send(loop->notify, mem->fd, "FDSTORE=1\nFDNAME=%s", name)) loop->drops_unsent = 1;
  }
}

/* Tells the manager of a batch, if none is under way. */
static void start_drops(loop_t *loop) {
  if (loop->drops_told || !loop->drops_waiting) return;
  drop_t *last = NULL;
  loop->drops_told = loop->drops_waiting;
  loop->drops_unsent = 0;
  for (unsigned i = 0; i < WSMEM_DROPS_MAX && loop->drops_waiting; i++) {
    last = loop->drops_waiting;
    loop->drops_waiting = last->next;
    last->state = DROP_TOLD;
    if (notify_send(loop->notify, -1, "FDSTOREREMOVE=1\nFDNAME=%s", last->name))
      loop->drops_unsent = 1;
    restore_others(loop, last->name);
  }
  last->next = NULL;
  notify_barrier(loop->notify, on_dropped, loop);
}

static void wait_drop(loop_t *loop, drop_t *drop) {
  drop_t **at = &loop->drops_waiting;
  while (*at) at = &(*at)->next;
  drop->state = DROP_WAITING;
  drop->next = NULL;
  *at = drop;
  start_drops(loop);
}

/* Takes the memory's name over. NULL: no memory. */
static drop_t *new_drop(loop_t *loop, uint64_t ws_id, wsmem_t *mem) {
  char own[FDNAMES_WS_MAX];
  drop_t *drop = calloc(1, sizeof *drop);
  if (!drop) return NULL;
  fdnames_ws(ws_id, own);
  drop->ws_id = ws_id;
  drop->name = mem->name ? mem->name : strdup(own);
  mem->name = NULL;
  if (drop->name && !idmap_add(&loop->drops, ws_id, drop)) return drop;
  free_drop(drop);
  return NULL;
}

void wsmem_drop(loop_t *loop, uint64_t ws_id) {
  wsmem_t *mem = wsmem_get(loop, ws_id);
  drop_t *drop = NULL;
  if (!mem) return;
  idmap_remove(&loop->memories, ws_id);
  int kept = notify_active(loop->notify);
  if (kept)
    close(mem->fd); /* not the last: the manager has one */
  else
    diskq_close(loop, mem->fd);
  if (kept) drop = new_drop(loop, ws_id, mem);
  free_mem(mem);
  if (drop)
    wait_drop(loop, drop);
  else if (kept)
    loop_break(loop, "no memory to give memory back");
}

int wsmem_unpersist(loop_t *loop, uint64_t ws_id, spec_t const *gone) {
  wsmem_drop(loop, ws_id);
  drop_t *drop = idmap_get(&loop->drops, ws_id);
  if (!drop) return diskq_remove(loop, ws_id, gone);
  if (gone) drop->gone = *gone;
  drop->unpersist = 1;
  if (drop->state == DROP_FAILED) wait_drop(loop, drop);
  return 0;
}

/* Two threads that touch one missing page at a time are both charged, until one of them finds that
   it came second: so the least of some looks counts. */
#define LOOKS 3

/* Bytes that a memory holds; UINT64_MAX: the kernel does not say. */
static uint64_t held_by(int fd) {
  uint64_t least = UINT64_MAX;
  for (int i = 0; i < LOOKS; i++) {
    struct stat st;
    if (fstat(fd, &st)) return UINT64_MAX;
    uint64_t held = (uint64_t)st.st_blocks * 512;
    if (held < least) least = held;
  }
  return least;
}

void wsmem_look(loop_t *loop, int force) {
  size_t place = 0;
  wsmem_t *mem;
  uint64_t slack = UINT64_MAX;
  while ((mem = idmap_next(&loop->memories, &place))) {
    uint64_t held = held_by(mem->fd), top = memory_top(mem->fd, mem->top);
    if (held == UINT64_MAX || (held == mem->held && top == mem->top && !force)) continue;
    if (slack == UINT64_MAX) slack = topology_slack_4k("/sys");
    mem->held = held;
    mem->top = top;
    engine_event_t event = {.kind = ENGINE_EV_HELD};
    event.u.held.ws_id = mem->ws_id;
    event.u.held.bytes = held;
    event.u.held.top = top;
    event.u.held.slack = slack;
    loop_post(loop, &event, NULL); /* which takes no memory away */
  }
}

/* Making
 * --------------------------------------------------------------------------------------------- */

void wsmem_free(loop_t *loop) {
  size_t place = 0;
  wsmem_t *mem;
  while ((mem = idmap_next(&loop->memories, &place))) {
    close(mem->fd);
    free_mem(mem);
  }
  idmap_clear(&loop->memories);
  drop_t *drop;
  for (place = 0; (drop = idmap_next(&loop->drops, &place));) free_drop(drop);
  idmap_clear(&loop->drops);
  idmap_clear(&loop->makes);
}

/* Answers and ends the make. */
static void answer(make_t *make) {
  engine_event_t event = {.kind = make->resize ? ENGINE_EV_MEMORY_RESIZED : ENGINE_EV_MEMORY_MADE};
  event.u.memory_made.ws_id = make->ws_id;
  event.u.memory_made.node = -1;
  event.u.memory_made.status = ENGINE_MEMORY_OK;
  event.u.memory_made.note = make->bad ? NULL : make->got.note;
  event.u.memory_made.held = make->held;
  if (!make->bad && !make->resize) {
    event.u.memory_made.size = make->got.size;
    event.u.memory_made.max_size = make->got.max_size;
    event.u.memory_made.size_min = make->got.size_min;
    event.u.memory_made.page_size = make->got.page_size;
    event.u.memory_made.data_max = make->got.data_max;
    event.u.memory_made.part_max = make->got.part_max;
    event.u.memory_made.layout_version = WKSP_LAYOUT_VERSION;
    event.u.memory_made.geometry_hash = wksp__geometry_hash();
  } else if (make->bad) {
    static int const status[] = {[MEMORY_FAIL_SIZE] = ENGINE_MEMORY_INVALID,
                                 [MEMORY_FAIL_PAGES] = ENGINE_MEMORY_SHORT,
                                 [MEMORY_FAIL_CANCELLED] = ENGINE_MEMORY_CANCELLED,
                                 [MEMORY_FAIL_SYS] = ENGINE_MEMORY_FAILED};
    event.u.memory_made.status = status[make->fail.kind];
    event.u.memory_made.wanted = make->fail.wanted;
    event.u.memory_made.free = make->fail.free;
    event.u.memory_made.node = make->fail.node;
    event.u.memory_made.page_size = make->fail.page_size;
    event.u.memory_made.hint = make->fail.hint[0] ? make->fail.hint : NULL;
    event.u.memory_made.detail = make->fail.text;
  }
  idmap_remove(&make->loop->makes, make->ws_id);
  loop_post(make->loop, &event, make);
}

static void refuse(make_t *make, char const *text, char const *hint) {
  make->bad = 1;
  make->fail = (memory_fail_t){.kind = MEMORY_FAIL_SYS, .node = -1};
  snprintf(make->fail.text, sizeof make->fail.text, "%s", text);
  snprintf(make->fail.hint, sizeof make->fail.hint, "%s", hint);
}

static void refuse_orphaned(make_t *make) {
  refuse(make, "the supervisor of this daemon is gone, new memory would not outlive it",
         "restart the daemon");
}

static void on_stored(void *arg, int ok) {
  make_t *make = arg;
  if (!ok) {
    wsmem_drop(make->loop, make->ws_id);
    if (make->loop->orphaned)
      refuse_orphaned(make);
    else
      refuse(make, "the service manager did not confirm that it keeps the memory", "try again");
  }
  answer(make);
}

static void on_work(uv_work_t *work) {
  make_t *make = work->data;
  memory_t *memory = &make->loop->memory;
  int fd = make->got.fd;
  if (make->resize == ENGINE_FX_MEMORY_FILL) {
    make->bad = memory_fill(memory, fd, &make->fill, &make->cancel, &make->got, &make->fail);
    make->got.fd = fd;
  } else if (make->resize) {
    make->bad = memory_punch(fd, make->fill.from, make->fill.to, &make->fail);
    make->held = held_by(fd);
    if (make->held == UINT64_MAX) make->held = 0;
  } else
    make->bad = memory_make(memory, &make->want, &make->cancel, &make->got, &make->fail);
}

static void on_made(uv_work_t *work, int status);

/* Gives threads to those that wait. */
static void start_makes(loop_t *loop) {
  while (loop->waiting && loop->making < WSMEM_MAKES_MAX) {
    make_t *make = loop->waiting;
    loop->waiting = make->next;
    if (uv_queue_work(&loop->uv, &make->work, on_work, on_made)) {
      if (make->resize) close(make->got.fd);
      refuse(make, "no thread to make it", "try again");
      answer(make);
    } else {
      loop->making++;
    }
  }
}

static void on_made(uv_work_t *work, int status) {
  make_t *make = work->data;
  loop_t *loop = make->loop;
  loop->making--;
  start_makes(loop);
  if (make->resize) {
    close(make->got.fd);
    answer(make);
    return;
  }
  char name[FDNAMES_WS_MAX];
  fdnames_ws(make->ws_id, name);
  if (!make->bad && wsmem_add(loop, make->ws_id, make->got.fd, make->got.max_size, name)) {
    close(make->got.fd);
    refuse(make, "no memory for the daemon's own list", "try again");
  }
  if (make->bad) {
    answer(make);
    return;
  }
  if (loop->orphaned) {
    on_stored(make, 0);
    return;
  }
  if (!notify_active(loop->notify)) {
    answer(make);
    return;
  }
  if (notify_send(loop->notify, make->got.fd, "FDSTORE=1\nFDNAME=%s", name))
    on_stored(make, 0);
  else
    notify_barrier(loop->notify, on_stored, make);
}

static void wait_make(make_t *make) {
  make_t **at = &make->loop->waiting;
  while (*at) at = &(*at)->next;
  *at = make;
  start_makes(make->loop);
}

int wsmem_make(loop_t *loop, spec_t const *spec, uint64_t part_min) {
  make_t *make = calloc(1, sizeof *make);
  if (!make) return 1;
  make->work.data = make;
  make->loop = loop;
  make->ws_id = spec->ws_id;
  memcpy(make->want.name, spec->name, sizeof make->want.name);
  memcpy(make->want.uuid, spec->uuid, sizeof make->want.uuid);
  make->want.size = spec->size;
  make->want.max_size = spec->max_size;
  make->want.page_size = spec->page_size;
  make->want.part_max = spec->part_max;
  make->want.data_max = spec->data_max;
  make->want.part_min = part_min;
  make->want.seed = spec->seed;
  make->want.strict = spec->strict;
  (void)place_read(spec->nodes, &make->want.policy); /* "": none */
  if (idmap_add(&loop->makes, spec->ws_id, make)) {
    free(make);
    return 1;
  }
  if (loop->orphaned) {
    refuse_orphaned(make);
    answer(make);
    return 0;
  }
  wait_make(make);
  return 0;
}

int wsmem_resize(loop_t *loop, engine_effect_t const *effect) {
  uint64_t ws_id = effect->u.memory_resize.ws_id;
  wsmem_t const *mem = wsmem_get(loop, ws_id);
  make_t *make = calloc(1, sizeof *make);
  if (!make || idmap_add(&loop->makes, ws_id, make)) {
    free(make);
    return 1;
  }
  make->work.data = make;
  make->loop = loop;
  make->ws_id = ws_id;
  make->resize = effect->kind;
  make->fill = (memory_fill_t){.page_size = effect->u.memory_resize.page_size,
                               .max_size = effect->u.memory_resize.max_size,
                               .from = effect->u.memory_resize.from,
                               .to = effect->u.memory_resize.to,
                               .keep = effect->u.memory_resize.keep,
                               .strict = effect->u.memory_resize.strict};
  (void)place_read(effect->u.memory_resize.nodes, &make->fill.policy); /* "": none */
  make->got.fd = mem ? fcntl(mem->fd, F_DUPFD_CLOEXEC, 3) : -1;
  if (make->got.fd < 0) {
    refuse(make, mem ? "no descriptor for it" : "its memory is not there", "try again");
    answer(make);
    return 0;
  }
  wait_make(make);
  return 0;
}

void wsmem_cancel(loop_t *loop, uint64_t ws_id) {
  make_t *make = idmap_get(&loop->makes, ws_id);
  if (make) atomic_store(&make->cancel, 1);
}
