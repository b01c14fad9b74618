/* The problem: at a start there are specs, memory and lifelines, each from another place and each
   perhaps missing, damaged or not what its name says.

   The model: all are collected, then matched. A memfd is looked for by the name of its workspace
   and must then be what the spec says: size, pages, seals, and in its header uuid, layout, geometry
   and dimensions. If it is not, one under any other name that is takes its place, for the uuid says
   who it is and the name only where to look. What becomes of memory:

     spec     its memory        becomes
     ready    agrees            served, or read only, or quarantined, by its layout (core/layout.h)
     ready    does not          quarantined under its name
     making   has its uuid      thrown away, it was never published
     making   no header yet     thrown away likewise, if it has the name of that workspace
     making   another uuid      a stranger: it is not of that create
     removing any               removed when its last lease has ended
     none     any               a stranger

   A stranger is kept, in the store and here, and listed as a quarantined workspace whose reason
   says what its header claims; it goes when its owner, the operator, removes it. So is memory that
   has lost its seals, comes under a name that is not ours, or is the second of one name.

   A published workspace whose memory is gone altogether (the daemon was stopped, or ran without a
   store) is not served any more: an error line says so, and its spec stays as specs/<id>.lost (the
   last 100), so that people can see what there was. A removal that was under way is finished,
   whether its memory is still there, has gone already or has been written over meanwhile.

   A descriptor that is not memory and not of the kind that its name says is closed with a warning;
   the store keeps its own.

   Refuses: to delete memory, or specs that cannot be read. */

#include "daemon/shell/recover.h"

#include "core/layout.h"
#include "daemon/shell/lifeline.h"
#include "daemon/shell/wsmem.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* A memory that was passed. */
typedef struct recover_mem {
  int fd;
  int told;         /* to the engine, which has it now */
  uint64_t ws_id;   /* by its name; of a stranger: a new one, once it is told */
  char const *why;  /* a stranger: why it is one */
  uint8_t uuid[16]; /* a stranger: what its header claims; zeroes: nothing */
  char name[];      /* in the store */
} recover_mem_t;

void recover_init(recover_t *ret_recover, loop_t *loop) {
  *ret_recover = (recover_t){.loop = loop, .socket_fd = -1, .supervisor_fd = -1};
}

static void refuse(recover_t *recover, int fd, char const *why) {
  log_warn(recover->loop->log, "passed-descriptor", "fd=%d error=%s", fd, log_text(why).text);
  close(fd);
}

/* Room for one more; 1: no memory. */
static int grow(void **at, size_t cnt, size_t *cap, size_t size) {
  if (cnt < *cap) return 0;
  size_t bigger = *cap ? *cap * 2 : 64;
  void *moved = realloc(*at, bigger * size);
  if (!moved) return 1;
  *at = moved;
  *cap = bigger;
  return 0;
}

/* Sealed or not: what nobody but a memory daemon has stored. */
static int is_memory(int fd) {
  struct stat st;
  return !fstat(fd, &st) && S_ISREG(st.st_mode) && fcntl(fd, F_GET_SEALS) >= 0;
}

/* An int option of a socket; -1: it is none. */
static int socket_option(int fd, int option) {
  int value = -1;
  socklen_t len = sizeof value;
  return getsockopt(fd, SOL_SOCKET, option, &value, &len) ? -1 : value;
}

static int is_lifeline(int fd) {
  return socket_option(fd, SO_DOMAIN) == AF_UNIX && socket_option(fd, SO_TYPE) == SOCK_STREAM &&
         !socket_option(fd, SO_ACCEPTCONN);
}

static int is_pipe(int fd) {
  struct stat st;
  return !fstat(fd, &st) && S_ISFIFO(st.st_mode);
}

static void add_stranger(recover_t *recover, recover_mem_t *mem, char const *why) {
  char name[SPEC_NAME_MAX + 1];
  mem->why = why;
  memory_claims(mem->fd, name, mem->uuid);
  if (grow((void **)&recover->strangers, recover->stranger_cnt, &recover->stranger_cap,
           sizeof(recover_mem_t *))) {
    refuse(recover, mem->fd, "no memory");
    free(mem);
    return;
  }
  recover->strangers[recover->stranger_cnt++] = mem;
}

/* ws_id 0: under a name that is not ours. */
static void take_memory(recover_t *recover, int fd, uint64_t ws_id, char const *name, size_t len) {
  recover_mem_t *mem = len < FDNAMES_NAME_MAX ? calloc(1, sizeof *mem + len + 1) : NULL;
  if (!mem) {
    refuse(recover, fd, "no memory");
    return;
  }
  mem->fd = fd;
  mem->ws_id = ws_id;
  memcpy(mem->name, name, len);
  if (ws_id > recover->ws_high) recover->ws_high = ws_id;
  if (!ws_id) {
    add_stranger(recover, mem, "its name in the fd store is not one of ours");
  } else if (idmap_get(&recover->memories, ws_id)) {
    add_stranger(recover, mem, "it is the second memory of its name in the fd store");
  } else if (idmap_add(&recover->memories, ws_id, mem)) {
    refuse(recover, fd, "no memory");
    free(mem);
  }
}

static void take_lifeline(recover_t *recover, int fd) {
  if (!is_lifeline(fd)) {
    refuse(recover, fd, "its name is a lease's, and it is no connected unix socket");
    return;
  }
  if (grow((void **)&recover->lifelines, recover->lifeline_cnt, &recover->lifeline_cap,
           sizeof *recover->lifelines)) {
    refuse(recover, fd, "no memory");
    return;
  }
  recover->lifelines[recover->lifeline_cnt++] = fd;
}

static void take_socket(recover_t *recover, int fd) {
  if (socket_option(fd, SO_ACCEPTCONN) != 1 || socket_option(fd, SO_DOMAIN) != AF_UNIX) {
    refuse(recover, fd, "it has no name of ours and is not a listening unix socket");
  } else if (recover->socket_fd >= 0) {
    refuse(recover, fd, "a second listening socket");
  } else {
    recover->socket_fd = fd;
  }
}

void recover_fd(void *arg, int fd, fdnames_kind_t kind, uint64_t ws_id, char const *name,
                size_t name_len) {
  recover_t *recover = arg;
  switch (kind) {
  case FDNAMES_IS_WORKSPACE:
    if (is_memory(fd))
      take_memory(recover, fd, ws_id, name, name_len);
    else
      refuse(recover, fd, "its name is a workspace's, and it is no memory");
    break;
  case FDNAMES_IS_LIFELINE:
    take_lifeline(recover, fd);
    break;
  case FDNAMES_IS_SUPERVISOR:
    if (!is_pipe(fd))
      refuse(recover, fd, "its name is the supervisor's, and it is no pipe");
    else if (recover->supervisor_fd >= 0)
      refuse(recover, fd, "a second supervisor");
    else
      recover->supervisor_fd = fd;
    break;
  case FDNAMES_IS_OTHER:
    if (is_memory(fd))
      take_memory(recover, fd, 0, name, name_len);
    else
      take_socket(recover, fd);
    break;
  }
}

static void on_spec(void *arg, uint64_t ws_id, spec_t const *spec, int bad_line) {
  recover_t *recover = arg;
  if (ws_id > recover->ws_high) recover->ws_high = ws_id;
  if (!spec) {
    log_error(recover->loop->log, "spec-damaged", "id=%lu line=%d error=%s", ws_id, bad_line,
              log_text("set aside as specs/<id>.bad; its memory, if any, is quarantined").text);
    return;
  }
  if (grow((void **)&recover->specs, recover->spec_cnt, &recover->spec_cap,
           sizeof *recover->specs)) {
    loop_break(recover->loop, "no memory for the list of specs");
    return;
  }
  recover->specs[recover->spec_cnt++] = *spec;
}

/* Matching
 * ------------------------------------------------------------------------------------------------
 */

/* NULL, or in what the memory is not that of the spec. What a create has not come to yet is not
 * compared. */
static char const *disagrees(recover_mem_t const *mem, spec_t const *spec) {
  memory_is_t is = {.page_size = spec->page_size,
                    .data_max = spec->data_max,
                    .part_max = spec->part_max,
                    .layout_version = spec->layout_version,
                    .geometry_hash = spec->geometry_hash};
  memcpy(is.uuid, spec->uuid, sizeof is.uuid);
  if (spec->state != SPEC_MAKING) is.max_size = spec->max_size;
  return memory_check(mem->fd, &is);
}

/* The stranger that is the memory of this spec takes the place of the one that has its name. */
static void find_by_uuid(recover_t *recover, spec_t const *spec) {
  for (size_t i = 0; i < recover->stranger_cnt; i++) {
    recover_mem_t *mem = recover->strangers[i], *named;
    /* the uuid first: there may be thousands of both */
    if (memcmp(mem->uuid, spec->uuid, sizeof mem->uuid) != 0 || disagrees(mem, spec)) continue;
    recover->strangers[i] = recover->strangers[--recover->stranger_cnt];
    named = idmap_get(&recover->memories, spec->ws_id);
    if (named) {
      idmap_remove(&recover->memories, spec->ws_id);
      add_stranger(recover, named, "another memory is that of the workspace whose name it has");
    }
    log_warn(recover->loop->log, "memory-matched", "workspace=%s id=%lu stored_as=%s", spec->name,
             spec->ws_id, log_text(mem->name).text);
    mem->ws_id = spec->ws_id;
    mem->why = NULL;
    if (idmap_add(&recover->memories, spec->ws_id, mem)) {
      loop_break(recover->loop, "no memory for the list of memories");
      add_stranger(recover, mem, "no memory");
    }
    return;
  }
}

/* What lies under the name of the spec's workspace is its memory. */
static int is_its_own(recover_mem_t const *mem, spec_t const *spec) {
  if (!mem) return 0;
  return !disagrees(mem, spec) || (spec->state == SPEC_MAKING && memory_unfinished(mem->fd));
}

static void match(recover_t *recover, spec_t const *spec) {
  recover_mem_t *mem = idmap_get(&recover->memories, spec->ws_id);
  if (spec->state == SPEC_REMOVING || spec->state == SPEC_GONE) return;
  if (is_its_own(mem, spec)) return;
  find_by_uuid(recover, spec);
  mem = idmap_get(&recover->memories, spec->ws_id);
  if (!mem || spec->state != SPEC_MAKING || is_its_own(mem, spec)) return;
  idmap_remove(&recover->memories, spec->ws_id);
  add_stranger(recover, mem, "a create that was never finished has its name in the fd store");
}

/* Two of one workspace that was being restored in place: one of them is it. */
static int settle_replaced(recover_t *recover) {
  uint8_t *has_memory = calloc(recover->spec_cnt + 1, 1);
  if (!has_memory) return 1;
  for (size_t i = 0; i < recover->spec_cnt; i++)
    has_memory[i] = idmap_get(&recover->memories, recover->specs[i].ws_id) != NULL;
  spec_settle(recover->specs, has_memory, recover->spec_cnt);
  free(has_memory);
  return 0;
}

/* Telling
 * ------------------------------------------------------------------------------------------------
 */

/* Our own copy, for as long as the daemon serves it; the entry stays as a mark. */
static void hold(recover_t *recover, recover_mem_t *mem, uint64_t size) {
  mem->told = 1;
  if (wsmem_add(recover->loop, mem->ws_id, mem->fd, size, mem->name)) {
    loop_break(recover->loop, "no memory for the list of memories");
  }
}

static void memory_lost(recover_t *recover, spec_t const *spec) {
  char detail[STORE_DETAIL_MAX];
  log_error(recover->loop->log, "memory-lost", "workspace=%s id=%lu size=%lu error=%s", spec->name,
            spec->ws_id, spec->size,
            log_text("nobody kept its memory while no daemon ran; the workspace is gone, its spec "
                     "is kept as specs/<id>.lost")
                .text);
  recover->lost_cnt++;
  recover->loop->lost_cnt++;
  if (store_lose(&recover->loop->store, spec->ws_id, detail)) {
    log_error(recover->loop->log, "spec", "error=%s", log_text(detail).text);
  }
}

static void tell_spec(recover_t *recover, spec_t const *spec) {
  recover_mem_t *mem = spec->state == SPEC_GONE ? NULL : idmap_get(&recover->memories, spec->ws_id);
  char const *why = NULL;
  if (!mem && spec->state == SPEC_READY) {
    memory_lost(recover, spec);
    return;
  }
  if (spec->state == SPEC_REMOVING) {
    log_info(recover->loop->log, "removal-resumed", "workspace=%s id=%lu memory=%d", spec->name,
             spec->ws_id, mem != NULL);
  }
  char cannot[ENGINE_REASON_MAX];
  int access = WKSP_ACCESS_FULL;
  if (mem && spec->state == SPEC_READY) why = disagrees(mem, spec);
  if (mem && spec->state == SPEC_READY && !why)
    access = memory_access(mem->fd, cannot, sizeof cannot);
  if (access != WKSP_ACCESS_FULL) why = cannot;
  if (mem) hold(recover, mem, spec->max_size);
  engine_event_t event = {.kind = ENGINE_EV_RECOVERED_WORKSPACE};
  event.u.recovered_workspace.spec = *spec;
  event.u.recovered_workspace.spec_known = 1;
  event.u.recovered_workspace.memory = mem && (!why || access == WKSP_ACCESS_RO);
  event.u.recovered_workspace.read_only = access == WKSP_ACCESS_RO;
  event.u.recovered_workspace.size_min =
      memory_size_min(spec->part_max, spec->data_max, spec->page_size);
  event.u.recovered_workspace.reason = why;
  loop_post(recover->loop, &event, NULL);
}

/* Memory that no spec knows: whose it was is not known, so it is the operator's. */
static void tell_stranger(recover_t *recover, recover_mem_t *mem, char const *why) {
  struct stat st = {0};
  char reason[ENGINE_REASON_MAX], name[SPEC_NAME_MAX + 1], uuid[33];
  engine_event_t event = {.kind = ENGINE_EV_RECOVERED_WORKSPACE};
  spec_t *spec = &event.u.recovered_workspace.spec;
  fstat(mem->fd, &st);
  hold(recover, mem, (uint64_t)st.st_size);
  if (memory_claims(mem->fd, name, spec->uuid)) {
    for (size_t i = 0; i < 16; i++) snprintf(uuid + 2 * i, 3, "%02x", spec->uuid[i]);
    snprintf(reason, sizeof reason, "%s; its header says '%s' uuid %s", why, name, uuid);
  } else {
    snprintf(reason, sizeof reason, "%s; it has no header of a workspace", why);
  }
  spec->ws_id = mem->ws_id;
  spec->size = (uint64_t)st.st_size;
  spec->uid = geteuid();
  spec->gid = getegid();
  event.u.recovered_workspace.memory = 1;
  event.u.recovered_workspace.reason = reason;
  loop_post(recover->loop, &event, NULL);
}

static void tell_strangers(recover_t *recover) {
  size_t place = 0;
  recover_mem_t *mem;
  while ((mem = idmap_next(&recover->memories, &place))) {
    if (!mem->told) tell_stranger(recover, mem, "its spec is missing or damaged");
  }
  for (size_t i = 0; i < recover->stranger_cnt; i++) {
    mem = recover->strangers[i];
    mem->ws_id = ++recover->ws_high; /* START has left room for them */
    tell_stranger(recover, mem, mem->why);
  }
}

static void tell_lifeline(recover_t *recover, int fd, lifeline_record_t const *record) {
  if (lifeline_add(recover->loop, fd, record)) {
    refuse(recover, fd, "a second lifeline of one lease");
    return;
  }
  engine_event_t event = {.kind = ENGINE_EV_RECOVERED_LEASE};
  event.u.recovered_lease.lease_id = record->lease_id;
  event.u.recovered_lease.ws_id = record->ws_id;
  event.u.recovered_lease.mode = record->mode;
  event.u.recovered_lease.pid = record->pid;
  event.u.recovered_lease.uid = record->uid;
  event.u.recovered_lease.gid = record->gid;
  loop_post(recover->loop, &event, NULL);
}

/* Ids go on above those that a former daemon may have given out. */
static void settle_ids(recover_t *recover) {
  store_t const *store = &recover->loop->store;
  if (store->ids_lost == STORE_IDS_DAMAGED)
    log_error(recover->loop->log, "ids-damaged", "file=%s/ids error=%s", store->path,
              log_text("set aside as ids.bad; new ids begin far above those that were found").text);
  if (store->ids_lost && (recover->ws_high || recover->lease_high)) {
    recover->ws_high += STORE_IDS_LEAP;
    recover->lease_high += STORE_IDS_LEAP;
  }
  if (store->ws_reserved > recover->ws_high) recover->ws_high = store->ws_reserved;
  if (store->lease_reserved > recover->lease_high) recover->lease_high = store->lease_reserved;
}

static void tell_schedule(void *arg, char const *name, schedule_t const *schedule) {
  recover_t *recover = arg;
  engine_event_t event = {.kind = ENGINE_EV_RECOVERED_SCHEDULE};
  if (!schedule) {
    log_error(recover->loop->log, "schedule-damaged", "workspace=%s error=%s", name,
              log_text("its schedule cannot be read and is kept as schedules/<name>.bad; set it "
                       "again")
                  .text);
    return;
  }
  event.u.recovered_schedule = schedule;
  loop_post(recover->loop, &event, NULL);
}

static void tell_schedules(recover_t *recover) {
  int err = store_schedules_each(&recover->loop->store, tell_schedule, recover);
  if (!err) return;
  log_error(recover->loop->log, "schedules", "error=%s", log_text(strerror(err)).text);
  loop_break(recover->loop,
             "schedules cannot be read: without them it would do less than it is to");
}

int recover_run(recover_t *recover, engine_config_t const *start) {
  loop_t *loop = recover->loop;
  lifeline_record_t *records = calloc(recover->lifeline_cnt + 1, sizeof *records);
  int err = store_each(&loop->store, on_spec, recover);
  if (err || !records) {
    log_error(loop->log, "start", "error=%s",
              log_text(err ? strerror(err) : "no memory for lifelines").text);
    free(records);
    return 1;
  }
  engine_event_t event = {.kind = ENGINE_EV_START};
  event.u.start = *start;
  for (size_t i = 0; i < recover->lifeline_cnt; i++) {
    if (!lifeline_peek(recover->lifelines[i], &records[i])) {
      lifeline_end(recover->lifelines[i]); /* so that whoever keeps it lets it go */
      refuse(recover, recover->lifelines[i], "a kept socket holds no record of a lease");
      records[i].magic = 0;
    } else if (records[i].lease_id > recover->lease_high) {
      recover->lease_high = records[i].lease_id;
    }
  }
  settle_ids(recover);
  for (size_t i = 0; i < recover->spec_cnt; i++) match(recover, &recover->specs[i]);
  if (settle_replaced(recover)) {
    log_error(loop->log, "start", "error=%s", log_text("no memory for the list of specs").text);
    free(records);
    return 1;
  }
  event.u.start.ws_id_high = recover->ws_high + recover->stranger_cnt;
  event.u.start.lease_id_high = recover->lease_high;
  loop_post(loop, &event, NULL);

  for (size_t i = 0; i < recover->spec_cnt; i++) tell_spec(recover, &recover->specs[i]);
  char detail[STORE_DETAIL_MAX];
  if (recover->lost_cnt && store_lost_end(&loop->store, detail)) {
    log_error(loop->log, "spec", "error=%s", log_text(detail).text);
  }
  tell_strangers(recover);
  for (size_t i = 0; i < recover->lifeline_cnt; i++) {
    if (records[i].magic) tell_lifeline(recover, recover->lifelines[i], &records[i]);
  }
  free(records);
  event = (engine_event_t){.kind = ENGINE_EV_QUOTA};
  event.u.quota = &loop->config->quota;
  loop_post(loop, &event, NULL);
  tell_schedules(recover);
  event = (engine_event_t){.kind = ENGINE_EV_RECOVERED_END};
  loop_post(loop, &event, NULL);
  return loop->broken;
}

static void free_mem(recover_mem_t *mem) {
  if (!mem->told) close(mem->fd);
  free(mem);
}

void recover_free(recover_t *recover) {
  size_t place = 0;
  recover_mem_t *mem;
  while ((mem = idmap_next(&recover->memories, &place))) free_mem(mem);
  idmap_clear(&recover->memories);
  for (size_t i = 0; i < recover->stranger_cnt; i++) free_mem(recover->strangers[i]);
  free(recover->strangers);
  free(recover->lifelines);
  free(recover->specs);
}
