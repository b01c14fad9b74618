/* The problem: at a start there are specs, memory and lifelines, each from another place and each
   perhaps missing, damaged or not what its name says.

   The model: all are collected, then matched by workspace id. A descriptor that is not of the kind
   that its name says is closed with a warning. Memory is believed if size, seals and the uuid in
   its header are those of the spec; if not it is kept and the workspace quarantined. A published
   workspace whose memory is gone altogether (the daemon was stopped, or ran without a store) is not
   served any more: an error line says so, and its spec stays as specs/<id>.lost (the last 100), so
   that people can see what there was. A removal that was under way is finished, whether its memory
   is still there, has gone already or has been written over meanwhile.

   Refuses: to delete memory, or specs that cannot be read. */

#include "daemon/shell/recover.h"

#include "daemon/shell/lifeline.h"
#include "daemon/shell/wsmem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* A descriptor by workspace; used: told to the engine. */
typedef struct recover_mem {
  int fd;
  int used;
  uint64_t ws_id;
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

/* What every memory of ours is: a memfd that nobody can resize. */
static int is_memory(int fd) {
  int seals = fcntl(fd, F_GET_SEALS), resize = F_SEAL_SHRINK | F_SEAL_GROW;
  return seals >= 0 && (seals & resize) == resize;
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

static void take_memory(recover_t *recover, int fd, uint64_t ws_id) {
  if (!is_memory(fd)) {
    refuse(recover, fd, "its name is a workspace's, and it is no sealed memory");
    return;
  }
  recover_mem_t *mem = malloc(sizeof *mem);
  if (!mem || !ws_id || idmap_get(&recover->memories, ws_id)) {
    free(mem);
    refuse(recover, fd, "a second memory of one workspace");
    return;
  }
  *mem = (recover_mem_t){.fd = fd, .ws_id = ws_id};
  if (idmap_add(&recover->memories, ws_id, mem)) {
    free(mem);
    refuse(recover, fd, "no memory");
    return;
  }
  if (ws_id > recover->ws_high) recover->ws_high = ws_id;
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

void recover_fd(void *arg, int fd, fdnames_kind_t kind, uint64_t ws_id) {
  recover_t *recover = arg;
  switch (kind) {
  case FDNAMES_IS_WORKSPACE:
    take_memory(recover, fd, ws_id);
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

/* Our own copy, for as long as the daemon serves it; the map's entry stays as a mark. */
static void hold(recover_t *recover, recover_mem_t *mem, uint64_t size) {
  mem->used = 1;
  if (wsmem_add(recover->loop, mem->ws_id, mem->fd, size)) {
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
  if (store_lose(&recover->loop->store, spec->ws_id, detail)) {
    log_error(recover->loop->log, "spec", "error=%s", log_text(detail).text);
  }
}

static void tell_spec(recover_t *recover, spec_t const *spec) {
  recover_mem_t *mem = idmap_get(&recover->memories, spec->ws_id);
  char const *why = NULL;
  if (!mem && spec->state == SPEC_READY) {
    memory_lost(recover, spec);
    return;
  }
  if (spec->state == SPEC_REMOVING) {
    log_info(recover->loop->log, "removal-resumed", "workspace=%s id=%lu memory=%d", spec->name,
             spec->ws_id, mem != NULL);
  }
  if (mem && spec->state == SPEC_READY) why = memory_check(mem->fd, spec->max_size, 0, spec->uuid);
  if (mem) hold(recover, mem, spec->max_size);
  engine_event_t event = {.kind = ENGINE_EV_RECOVERED_WORKSPACE};
  event.u.recovered_workspace.spec = *spec;
  event.u.recovered_workspace.spec_known = 1;
  event.u.recovered_workspace.memory = mem && !why;
  event.u.recovered_workspace.size_min =
      memory_size_min(spec->part_max, spec->data_max, spec->page_size);
  event.u.recovered_workspace.reason = why;
  loop_post(recover->loop, &event, NULL);
}

static void tell_memory(recover_t *recover, recover_mem_t *mem) {
  struct stat st = {0};
  if (mem->used) return;
  fstat(mem->fd, &st);
  hold(recover, mem, (uint64_t)st.st_size);
  engine_event_t event = {.kind = ENGINE_EV_RECOVERED_WORKSPACE};
  event.u.recovered_workspace.spec.ws_id = mem->ws_id;
  event.u.recovered_workspace.spec.size = (uint64_t)st.st_size;
  event.u.recovered_workspace.spec.uid = geteuid(); /* whose it was is not known: the operator's */
  event.u.recovered_workspace.spec.gid = getegid();
  event.u.recovered_workspace.memory = 1;
  event.u.recovered_workspace.reason = "its spec is missing or damaged";
  loop_post(recover->loop, &event, NULL);
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
  /* Ids that a former daemon may have given out are not given out again. */
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
  if (loop->store.ws_reserved > recover->ws_high) recover->ws_high = loop->store.ws_reserved;
  if (loop->store.lease_reserved > recover->lease_high) {
    recover->lease_high = loop->store.lease_reserved;
  }
  event.u.start.ws_id_high = recover->ws_high;
  event.u.start.lease_id_high = recover->lease_high;
  loop_post(loop, &event, NULL);

  for (size_t i = 0; i < recover->spec_cnt; i++) tell_spec(recover, &recover->specs[i]);
  char detail[STORE_DETAIL_MAX];
  if (recover->lost_cnt && store_lost_end(&loop->store, detail)) {
    log_error(loop->log, "spec", "error=%s", log_text(detail).text);
  }
  size_t place = 0;
  recover_mem_t *mem;
  while ((mem = idmap_next(&recover->memories, &place))) tell_memory(recover, mem);
  for (size_t i = 0; i < recover->lifeline_cnt; i++) {
    if (records[i].magic) tell_lifeline(recover, recover->lifelines[i], &records[i]);
  }
  free(records);
  event = (engine_event_t){.kind = ENGINE_EV_RECOVERED_END};
  loop_post(loop, &event, NULL);
  return loop->broken;
}

void recover_free(recover_t *recover) {
  size_t place = 0;
  recover_mem_t *mem;
  while ((mem = idmap_next(&recover->memories, &place))) {
    if (!mem->used) close(mem->fd);
    free(mem);
  }
  idmap_clear(&recover->memories);
  free(recover->lifelines);
  free(recover->specs);
}
