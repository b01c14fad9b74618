/* attach: a workspace's memory in this process, and the lease that goes with it.

   The daemon answers an Open with two descriptors: the memory, and the lifeline, one end of a
   socketpair whose closing ends the lease. The memory is mapped, checked and joined; the lifeline
   lies in a hold, so a forked child never keeps it, until the mapping is gone. The mapping goes
   with the last detach, or after it, when the last thread that still holds a slot there has ended
   (core/map.c decides and calls back); the lease lasts as long, since until then this process can
   write.

   One mapping for each workspace and way (read-write, read-only): a further attach of the same uuid
   counts it once more and gives the second lease back. A child's inherited mappings have lost their
   lifelines and so are not shared with what it attaches itself.

   Two locks. The turn of attach and detach makes a record's count and lib/core's joins one step; it
   is not taken by fork, for lib/core's functions are called under it, but made anew in a child. The
   list of records changes under the hold lock, which fork takes.

   Refused: mapping what the daemon's word and the kernel's do not agree on. A memory smaller than
   the size to map, or one that can still shrink, would be a SIGBUS later. */

#include "client/attach.h"
#include "client/default.h"
#include "client/info.h"
#include "client/rpc.h"

#include "core/call.h"
#include "core/fail.h"
#include "core/layout.h"
#include "core/mapping.h"
#include "wkspd.pb-c.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MEMORY = 0, LIFELINE = 1 }; /* places in the record's hold */

#define OPEN_FDS 2U

/* The largest mapping: a workspace of WKSP_DATA_MAX_MAX and its tables. */
#define MAP_SIZE_MAX (1UL << 47)

static wksp__method_t const method_open = {.service = WKSP__WORKSPACES,
                                           .name = "Open",
                                           .response = &wkspd__v1__open_response__descriptor,
                                           .with_fds = 1};

typedef struct attached {
  struct attached *next;
  wksp__hold_t hold; /* the lifeline; the memory's descriptor until it is mapped */
  fd_wksp_t *wksp;   /* the mapping */
  ulong map_size;
  uint64_t lease;
  ulong attach_cnt; /* 0: only threads' slots keep it */
  int ro;
  uchar uuid[16];
} attached_t;

static attached_t *attached_list; /* under the hold lock */
static pthread_mutex_t attached_turn = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t attached_once = PTHREAD_ONCE_INIT;
static int attached_once_err;

static void fork_child(void) {
  /* The thread that held it is not here; what it was about is a mapping that nobody knows. */
  attached_turn = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

static void once(void) {
  attached_once_err = pthread_atfork(NULL, NULL, fork_child);
}

static void record_free(attached_t *record) {
  if (!record) return;
  wksp__hold_free(&record->hold);
  free(record);
}

/* Called by lib/core when nothing holds the mapping any more, from whichever thread was last. */
static void record_unmap(void *arg) {
  attached_t *record = arg;
  wksp__hold_lock();
  attached_t **at = &attached_list;
  while (*at && *at != record) at = &(*at)->next;
  if (*at) *at = record->next;
  wksp__hold_unlock();
  (void)munmap(record->wksp, record->map_size);
  record_free(record);
}

/* The record of a live attach at that address, or NULL. Under the turn. */
static attached_t *record_at(fd_wksp_t const *wksp) {
  wksp__hold_lock();
  attached_t *record = attached_list;
  while (record && (record->wksp != wksp || !record->attach_cnt)) record = record->next;
  wksp__hold_unlock();
  return record;
}

/* The record that an attach of this uuid can share, or NULL. Under the turn. */
static attached_t *record_shared(uchar const uuid[16], int ro) {
  wksp__hold_lock();
  attached_t *record = attached_list;
  while (record && !(record->attach_cnt && record->ro == ro && record->hold.fds[LIFELINE] >= 0 &&
                     memcmp(record->uuid, uuid, 16) == 0))
    record = record->next;
  wksp__hold_unlock();
  return record;
}

/* Opening
 * -------------------------------------------------------------------------------------------- */

/* What the daemon says about a workspace to map. NULL: it is sound, else what is wrong. */
static char const *open_wrong(Wkspd__V1__OpenResponse const *response, char const *name,
                              wksp_info_t *ret_info) {
  wksp_info_t info;
  char const *wrong = wksp__info_of(response->workspace, &info);
  if (wrong) return wrong;
  if (strcmp(info.name, name) != 0) return "another workspace than was asked for";
  if (info.quarantined) return "a workspace in quarantine, which cannot be opened";
  if (response->fds != OPEN_FDS) return "it does not declare 2 descriptors";
  if (!response->lease_id || response->lease_id >= WKSP_SLOT_PID) return "a lease id that is none";
  if (!response->map_size || response->map_size > MAP_SIZE_MAX ||
      response->map_size % info.page_size)
    return "a size to map that is 0, too large or not of whole pages";
  *ret_info = info;
  return NULL;
}

static int version_check(Wkspd__V1__OpenResponse const *response, char const *name) {
  if (wksp__layout_access(response->layout_version, response->geometry_hash)) return 0;
  if (response->layout_version != WKSP_LAYOUT_VERSION)
    return wksp__fail(WKSP_E_VERSION,
                      "workspace \"%s\" has layout version %u, this library (%s) knows version %u; "
                      "use the library that belongs to the daemon",
                      name, response->layout_version, wksp_library_version(), WKSP_LAYOUT_VERSION);
  return wksp__fail(WKSP_E_VERSION,
                    "workspace \"%s\" has geometry %016lx, this library (%s) was built for "
                    "%016lx; use the library that belongs to the daemon",
                    name, response->geometry_hash, wksp_library_version(), wksp__geometry_hash());
}

/* Checks the reply and takes its descriptors into record->hold. Under the client's turn. */
static int open_take(wksp_client_t *client, char const *name,
                     Wkspd__V1__OpenResponse const *response, attached_t *record) {
  wksp_info_t info;
  char const *wrong = open_wrong(response, name, &info);
  if (wrong) return wksp__rpc_broken(client, &method_open, "%s", wrong);
  int err = version_check(response, name);
  if (err < 0) return err;
  err = wksp__conn_fds_take(&client->conn, OPEN_FDS, &record->hold, MEMORY);
  if (err < 0)
    return wksp__fail(err, "Open of \"%s\" on %s: %s", name, client->path, client->conn.why);
  record->map_size = response->map_size;
  record->lease = response->lease_id;
  memcpy(record->uuid, info.uuid, sizeof record->uuid);
  return 0;
}

/* Asks for the workspace: the descriptors are in record->hold then. */
static int attach_open(wksp_client_t *client, char const *name, attached_t *record) {
  Wkspd__V1__OpenRequest request = WKSPD__V1__OPEN_REQUEST__INIT;
  request.name = (char *)name;
  request.mode =
      record->ro ? WKSPD__V1__OPEN_MODE__OPEN_READ_ONLY : WKSPD__V1__OPEN_MODE__OPEN_READ_WRITE;
  uint64_t deadline_ns;
  int err = wksp__rpc_begin(client, &deadline_ns);
  if (err < 0) return err;
  ProtobufCMessage *message;
  err = wksp__rpc_exchange(client, &method_open, WKSP__BASE(&request), deadline_ns, &message);
  if (!err) {
    err = open_take(client, name, (Wkspd__V1__OpenResponse *)message, record);
    protobuf_c_message_free_unpacked(message, NULL);
  }
  wksp__rpc_end(client);
  return err;
}

/* Mapping
 * -------------------------------------------------------------------------------------------- */

/* The kernel's word on what the daemon sent. 0 or E_PROTO, E_SYS, reported. */
static int memory_check(attached_t const *record, char const *name, int fd) {
  struct stat st;
  if (fstat(fd, &st) < 0)
    return wksp__fail(WKSP_E_SYS, "attach of \"%s\": fstat: %s", name, strerror(errno));
  if (!S_ISREG(st.st_mode) || st.st_size < 0 || (ulong)st.st_size < record->map_size)
    return wksp__fail(WKSP_E_PROTO,
                      "attach of \"%s\": the daemon sent a memory of %ld bytes and asks to map %lu",
                      name, (long)st.st_size, record->map_size);
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || !(seals & F_SEAL_SHRINK))
    return wksp__fail(WKSP_E_PROTO,
                      "attach of \"%s\": the memory that the daemon sent is not sealed against "
                      "shrinking, so its pages could vanish",
                      name);
  if (fstat(wksp__hold_fd(&record->hold, LIFELINE), &st) < 0 || !S_ISSOCK(st.st_mode))
    return wksp__fail(WKSP_E_PROTO,
                      "attach of \"%s\": the daemon sent a lifeline that is no socket", name);
  return 0;
}

/* Whether the memory is a workspace that this library can serve, and the one that was opened. Read
   with pread: a load from a page that is not there would be a SIGBUS. */
static int header_check(attached_t const *record, char const *name, int fd) {
  struct fd_wksp header;
  ssize_t n = pread(fd, &header, sizeof header, 0);
  if (n < 0) return wksp__fail(WKSP_E_SYS, "attach of \"%s\": pread: %s", name, strerror(errno));
  if (n != (ssize_t)sizeof header)
    return wksp__fail(WKSP_E_CORRUPT, "attach of \"%s\": the memory ends within its header", name);
  int err = wksp__header_check(&header, record->map_size);
  if (err < 0) return err;
  if (!record->ro && wksp__access(&header) != WKSP_ACCESS_FULL)
    return wksp__fail(WKSP_E_VERSION,
                      "attach of \"%s\": it has a layout (%u) or features (0x%lx) with which this "
                      "library can only read; attach it read-only, or use a newer library",
                      name, header.layout_version, header.ro_compat & ~WKSP_RO_COMPAT_KNOWN);
  if (memcmp(header.uuid, record->uuid, sizeof record->uuid) != 0)
    return wksp__fail(WKSP_E_CORRUPT,
                      "attach of \"%s\": its header has the uuid of another workspace", name);
  return 0;
}

/* Maps and joins what record describes, and enters it into the list. Under the turn. 0, or
 * reported; then the record is still the caller's. */
static int record_map(attached_t *record, char const *name) {
  int fd = wksp__hold_fd(&record->hold, MEMORY);
  int err = memory_check(record, name, fd);
  if (!err) err = header_check(record, name, fd);
  if (err < 0) return err;
  void *map = wksp__map_fd(fd, record->map_size, record->ro ? PROT_READ : PROT_READ | PROT_WRITE);
  if (!map)
    return wksp__fail(errno == ENOMEM ? WKSP_E_NOMEM : WKSP_E_SYS,
                      "attach of \"%s\": mmap of %lu bytes %s: %m", name, record->map_size,
                      record->ro ? "to read" : "to read and write");
  wksp__hold_close(&record->hold, MEMORY);
  record->wksp = map;
  err = wksp__map_add(record->wksp, record->ro, record->lease, record_unmap, record);
  if (err < 0) {
    (void)munmap(map, record->map_size);
    return err;
  }
  record->attach_cnt = 1;
  wksp__hold_lock();
  record->next = attached_list;
  attached_list = record;
  wksp__hold_unlock();
  return 0;
}

/* Attaching
 * ------------------------------------------------------------------------------------------ */

static void turn_begin(void) {
  int err = pthread_mutex_lock(&attached_turn);
  assert(!err);
  (void)err;
}

static void turn_end(void) {
  int err = pthread_mutex_unlock(&attached_turn);
  assert(!err);
  (void)err;
}

/* Shares a mapping that there is, or maps what was opened. NULL, reported. The record is taken
 * over, also on failure. */
static fd_wksp_t *record_attach(attached_t *record, char const *name) {
  turn_begin();
  attached_t *shared = record_shared(record->uuid, record->ro);
  int err;
  if (shared) {
    err = wksp__map_add(shared->wksp, shared->ro, shared->lease, NULL, NULL);
    if (!err) shared->attach_cnt++;
  } else {
    err = record_map(record, name);
  }
  fd_wksp_t *wksp = err < 0 ? NULL : shared ? shared->wksp : record->wksp;
  turn_end();
  if (shared || err < 0) record_free(record);
  return wksp;
}

fd_wksp_t *wksp_client_attach(wksp_client_t *client, char const *name, int how) {
  if (wksp__name_check("attach", name) < 0) return NULL;
  if (how != WKSP_ATTACH_RW && how != WKSP_ATTACH_RO) {
    (void)wksp__fail(WKSP_E_INVAL,
                     "attach of \"%s\": how is %d; it is WKSP_ATTACH_RW or WKSP_ATTACH_RO", name,
                     how);
    return NULL;
  }
  pthread_once(&attached_once, once);
  attached_t *record = attached_once_err ? NULL : calloc(1, sizeof *record);
  if (!record || wksp__hold_init(&record->hold) < 0) {
    (void)wksp__fail(WKSP_E_NOMEM, "attach of \"%s\": no memory for its record", name);
    free(record);
    return NULL;
  }
  record->ro = how == WKSP_ATTACH_RO;
  if (attach_open(client, name, record) < 0) {
    record_free(record);
    return NULL;
  }
  return record_attach(record, name);
}

fd_wksp_t *fd_wksp_attach(char const *name) {
  if (wksp__name_check("attach", name) < 0) return NULL;
  wksp_client_t *client = wksp__client_default();
  return client ? wksp_client_attach(client, name, WKSP_ATTACH_RW) : NULL;
}

int fd_wksp_detach(fd_wksp_t *wksp) {
  if (!wksp) return 0;
  turn_begin();
  attached_t *record = record_at(wksp);
  int err = 0;
  if (record) {
    record->attach_cnt--;
    /* With the last join the record may be gone after this. */
    err = wksp__map_drop(wksp);
  }
  turn_end();
  if (!record)
    return wksp__fail(WKSP_E_INVAL, "detach: no workspace is attached at %p", (void *)wksp);
  return err;
}

fd_wksp_t *wksp__attach_joined(char const *name, int rw) {
  fd_wksp_t *wksp = wksp__map_join_named(name, rw);
  if (!wksp) return NULL;
  /* An attached one is attached once more, so that leaving it is a detach like any other. If its
     last detach is just happening, our join keeps it, and is undone as a join. */
  turn_begin();
  attached_t *record = record_at(wksp);
  if (record) record->attach_cnt++;
  turn_end();
  return wksp;
}

int wksp__attach_undo(fd_wksp_t *wksp) {
  turn_begin();
  attached_t const *record = record_at(wksp);
  turn_end();
  return record ? fd_wksp_detach(wksp) : wksp__map_drop(wksp);
}

int wksp_attached_uuid(fd_wksp_t const *wksp, uchar ret_uuid[16]) {
  if (!wksp || !ret_uuid)
    return wksp__fail(WKSP_E_INVAL, "attached_uuid: %s is NULL", wksp ? "ret_uuid" : "the handle");
  turn_begin();
  attached_t const *record = record_at(wksp);
  if (record) memcpy(ret_uuid, record->uuid, sizeof record->uuid);
  turn_end();
  if (record) return 0;
  /* Joined without a daemon: the header says. */
  if (wksp__map_ro(wksp) < 0)
    return wksp__fail(WKSP_E_INVAL, "attached_uuid: no workspace is joined at %p",
                      (void const *)wksp);
  memcpy(ret_uuid, wksp->uuid, sizeof wksp->uuid);
  return 0;
}
