/* doctor: the checks of pools, kernel settings, socket, units and daemon.

   The problem: a workspace on small pages, a client that may not connect, memory that does not
   outlive a restart each have a cause in one of a dozen places, and who looks for it knows none of
   them.

   The model: every place has a check, which says what stands there, and if that is in the way what
   to do. ok: nothing to do. warn: all works, but not as well as it could, or not for long. fail:
   something that people want does not work.

   It refuses: to change anything, and to warn of what does no harm. */

#include "doctor.h"

#include "wksp/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MIB2 (2UL << 20)
#define GIB1 (1UL << 30)

/* The next line, NULL: there is no room. */
static doctor_line_t *next_line(doctor_t *doctor, char const *check, int state) {
  if (doctor->cnt == DOCTOR_LINES_MAX) {
    doctor_line_t *last = &doctor->line[DOCTOR_LINES_MAX - 1];
    if (state > last->state) last->state = state;
    snprintf(last->what, sizeof last->what, "there is more than %d lines tell", DOCTOR_LINES_MAX);
    return NULL;
  }
  doctor_line_t *line = &doctor->line[doctor->cnt++];
  *line = (doctor_line_t){.check = check, .state = state};
  return line;
}

void doctor_ok(doctor_t *doctor, char const *check, char const *fmt, ...) {
  doctor_line_t *line = next_line(doctor, check, DOCTOR_OK);
  if (!line) return;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(line->what, sizeof line->what, fmt, ap);
  va_end(ap);
}

void doctor_bad(doctor_t *doctor, char const *check, int state, char const *mend, char const *fmt,
                ...) {
  doctor_line_t *line = next_line(doctor, check, state);
  if (!line) return;
  snprintf(line->mend, sizeof line->mend, "%s", mend);
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(line->what, sizeof line->what, fmt, ap);
  va_end(ap);
}

int doctor_worst(doctor_t const *doctor) {
  int worst = DOCTOR_OK;
  for (uint i = 0; i < doctor->cnt; i++)
    if (doctor->line[i].state > worst) worst = doctor->line[i].state;
  return worst;
}

/* Pools
 * ---------------------------------------------------------------------------------------- */

/* The first node that has memory and no page of that size, while others have; NULL: none. */
static host_node_t const *bare_node(host_t const *host, uint size) {
  for (uint i = 0; host->size[size].all.total && i < host->node_cnt; i++)
    if (host->node[i].pooled && host->node[i].mem && !host->node[i].pool[size].total)
      return &host->node[i];
  return NULL;
}

static void check_pool(doctor_t *doctor, host_t const *host, uint at) {
  host_size_t const *size = &host->size[at];
  char const *name = size->size == MIB2 ? "2M" : "1G";
  ulong const left = size->all.free > size->reserved ? size->all.free - size->reserved : 0;
  host_node_t const *bare = bare_node(host, at);
  char mend[DOCTOR_TEXT_MAX];
  if (!size->all.total && !size->overcommit) {
    if (size->size == MIB2)
      doctor_bad(doctor, "pools", DOCTOR_WARN,
                 "sudo wkspctl hugepages reserve --node 0 --size 2M --count 512; to have them from "
                 "the boot on: /etc/wkspd/hugepages.conf",
                 "no pages of 2M are kept: workspaces get pages of 4k");
    else
      doctor_ok(doctor, "pools", "no pages of %s are kept, which is well unless they are wanted",
                name);
    return;
  }
  if (!left && !size->overcommit) {
    snprintf(mend, sizeof mend,
             "wkspctl hugepages shows who has them; sudo wkspctl hugepages reserve --node N --size "
             "%s --count MORE",
             name);
    doctor_bad(doctor, "pools", DOCTOR_WARN, mend,
               "all %lu pages of %s are taken or promised: nothing more can be made of them",
               size->all.total, name);
  } else {
    doctor_ok(doctor, "pools", "%lu of %lu pages of %s are left, %lu more may be taken beyond them",
              left, size->all.total, name, size->overcommit);
  }
  if (bare) {
    snprintf(
        mend, sizeof mend,
        "sudo wkspctl hugepages reserve --node %u --size %s --count N, if programs are to have "
        "memory there",
        bare->id, name);
    doctor_bad(doctor, "pools", DOCTOR_WARN, mend, "node %u has no pages of %s, others have",
               bare->id, name);
  }
}

void doctor_pools(doctor_t *doctor, host_t const *host) {
  if (host_size_of(host, MIB2) < 0)
    doctor_bad(doctor, "pools", DOCTOR_WARN, "use a kernel with CONFIG_HUGETLBFS",
               "this kernel has no huge pages of 2M: workspaces get pages of 4k");
  for (uint i = 0; i < host->size_cnt; i++)
    if (host->size[i].size == MIB2 || host->size[i].size == GIB1) check_pool(doctor, host, i);
}

/* Kernel
 * --------------------------------------------------------------------------------------- */

/* What every program of a usual size can have mapped; the kernel's default. */
#define MAPS_WANTED 65530UL

static void check_shmem(doctor_t *doctor, sys_t const *sys) {
  static char const path[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
  char text[256];
  if (sys_read(sys, text, sizeof text, "%s", path))
    doctor_bad(doctor, "shmem", DOCTOR_WARN, "use pages of 2M, or a kernel with transparent ones",
               "this kernel makes no huge pages of small ones: workspaces of 4k pages stay so");
  else if (strstr(text, "[deny]"))
    doctor_bad(doctor, "shmem", DOCTOR_WARN,
               "echo never | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled",
               "shmem_enabled is deny: the small pages of a workspace are never made huge ones");
  else
    doctor_ok(doctor, "shmem", "shmem_enabled (%s) allows small pages to be made huge ones", text);
}

static void check_maps(doctor_t *doctor, sys_t const *sys) {
  ulong maps;
  if (sys_number(sys, &maps, "/proc/sys/vm/max_map_count"))
    doctor_ok(doctor, "mappings", "this kernel tells no vm.max_map_count");
  else if (maps < MAPS_WANTED)
    doctor_bad(doctor, "mappings", DOCTOR_WARN, "sudo sysctl vm.max_map_count=65530",
               "vm.max_map_count is %lu, below the usual 65530: a program may be refused to map",
               maps);
  else
    doctor_ok(doctor, "mappings", "a program may have %lu mappings (vm.max_map_count)", maps);
}

static void check_calls(doctor_t *doctor, sys_t const *sys, doctor_calls_t calls) {
  if (calls.membarrier)
    doctor_bad(doctor, "membarrier", DOCTOR_WARN,
               "use a kernel with CONFIG_MEMBARRIER; in a container, allow the system call",
               "membarrier: %s: each call that allocates pays for a barrier of its own",
               strerror(calls.membarrier));
  else
    doctor_ok(doctor, "membarrier", "expedited barriers work: allocating needs none of its own");
  ulong everybody = 0;
  int const told = !sys_number(sys, &everybody, "/proc/sys/vm/unprivileged_userfaultfd");
  if (calls.userfaultfd == ENOSYS)
    doctor_ok(doctor, "userfaultfd", "this kernel has none; workspaces do without");
  else if (calls.userfaultfd)
    doctor_ok(doctor, "userfaultfd", "refused here (%s); workspaces do without",
              strerror(calls.userfaultfd));
  else
    doctor_ok(doctor, "userfaultfd", "there%s",
              !told       ? ""
              : everybody ? ", for everybody"
                          : ", faults in the kernel for root only (vm.unprivileged_userfaultfd)");
}

void doctor_kernel(doctor_t *doctor, sys_t const *sys, host_t const *host, doctor_calls_t calls) {
  for (uint i = 0; i < host->size_cnt; i++)
    if (host->size[i].overcommit)
      doctor_ok(doctor, "overcommit",
                "up to %lu pages of %lu MiB are made when the pool is empty, if there is memory",
                host->size[i].overcommit, host->size[i].size >> 20);
  check_shmem(doctor, sys);
  check_maps(doctor, sys);
  check_calls(doctor, sys, calls);
}

/* Socket, units, daemon
 * ------------------------------------------------------------------------ */

void doctor_socket(doctor_t *doctor, doctor_socket_t const *socket) {
  char mend[DOCTOR_TEXT_MAX];
  if (socket->err == EACCES) {
    doctor_bad(doctor, "socket", DOCTOR_FAIL, "let this user into the folders above it",
               "%s: a folder above it cannot be entered", socket->path);
  } else if (socket->err) {
    doctor_bad(doctor, "socket", DOCTOR_FAIL,
               "start wkspd: sudo systemctl start wkspd.socket wkspd; or say where it listens: "
               "WKSPD_SOCKET, --socket",
               "%s: %s", socket->path, strerror(socket->err));
  } else if (!socket->is_socket) {
    doctor_bad(doctor, "socket", DOCTOR_FAIL, "remove it and start wkspd again", "%s is no socket",
               socket->path);
  } else if (!socket->may) {
    if (socket->mode & 0020)
      snprintf(mend, sizeof mend, "sudo usermod -aG %s %s, then log in anew", socket->group,
               socket->user);
    else
      snprintf(mend, sizeof mend, "sudo chmod g+w %s, or SocketMode=0660 in wkspd.socket",
               socket->path);
    doctor_bad(doctor, "socket", DOCTOR_FAIL, mend, "%s (%04o, group %s) is not open to %s",
               socket->path, socket->mode, socket->group, socket->user);
  } else {
    doctor_ok(doctor, "socket", "%s (%04o, group %s) is open to %s", socket->path, socket->mode,
              socket->group, socket->user);
  }
}

/* The value of a key in the block of a unit, "" if it is not there. */
typedef struct value {
  char s[64];
} value_t;

static value_t value_of(char const *block, char const *key) {
  value_t value = {""};
  size_t const len = strlen(key);
  for (char const *line = block; line && *line && *line != '\n';
       line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
    if (strncmp(line, key, len) || line[len] != '=') continue;
    snprintf(value.s, sizeof value.s, "%.*s", (int)strcspn(line + len + 1, "\n"), line + len + 1);
    break;
  }
  return value;
}

static int is(value_t value, char const *text) {
  return !strcmp(value.s, text);
}

static void check_unit(doctor_t *doctor, char const *block, int reached) {
  value_t const id = value_of(block, "Id"), load = value_of(block, "LoadState"),
                active = value_of(block, "ActiveState"), file = value_of(block, "UnitFileState"),
                restarts = value_of(block, "NRestarts");
  char mend[DOCTOR_TEXT_MAX];
  if (is(load, "not-found")) {
    doctor_bad(doctor, "units", DOCTOR_WARN,
               reached ? "install the package wkspd to have systemd keep its memory"
                       : "install the package wkspd, or run wkspd --supervise",
               "%s is not installed", id.s);
  } else if (!is(load, "loaded")) {
    snprintf(mend, sizeof mend, "systemctl status %s", id.s);
    doctor_bad(doctor, "units", DOCTOR_FAIL, mend, "%s is %s", id.s, load.s);
  } else if (is(active, "failed")) {
    snprintf(mend, sizeof mend, "journalctl -b -u %s says why", id.s);
    doctor_bad(doctor, "units", DOCTOR_FAIL, mend, "%s has failed", id.s);
  } else if (is(file, "disabled")) {
    snprintf(mend, sizeof mend, "sudo systemctl enable %s", id.s);
    doctor_bad(doctor, "units", DOCTOR_WARN, mend, "%s (%s) is not started at boot", id.s,
               active.s);
  } else if (*restarts.s && !is(restarts, "0")) {
    snprintf(mend, sizeof mend, "journalctl -b -u %s says why", id.s);
    doctor_bad(doctor, "units", DOCTOR_WARN, mend, "%s (%s) was restarted %s times by systemd",
               id.s, active.s, restarts.s);
  } else {
    doctor_ok(doctor, "units", "%s is %s, %s", id.s, active.s, file.s);
  }
}

void doctor_units(doctor_t *doctor, char const *shown, int reached) {
  if (!shown) {
    doctor_ok(doctor, "units",
              "systemd does not run this machine; wkspd --supervise keeps memory over restarts");
    return;
  }
  for (char const *block = shown; block && *block;
       block = strstr(block, "\n\n"), block = block ? block + 2 : NULL)
    if (*value_of(block, "Id").s) check_unit(doctor, block, reached);
}

void doctor_daemon(doctor_t *doctor, doctor_daemon_t const *daemon) {
  if (daemon->why) {
    doctor_bad(doctor, "daemon", DOCTOR_FAIL,
               "systemctl status wkspd, journalctl -b -u wkspd; without systemd: wkspd --supervise",
               "%s", daemon->why);
    return;
  }
  if (daemon->layout != daemon->own_layout || daemon->geometry != daemon->own_geometry)
    doctor_bad(doctor, "daemon", DOCTOR_FAIL,
               "upgrade wkspd and libwksp to the same version, then systemctl restart wkspd",
               "wkspd %s makes workspaces of layout %u (geometry 0x%lx), libwksp %s attaches those "
               "of layout %u (geometry 0x%lx)",
               daemon->version, daemon->layout, daemon->geometry, daemon->own_version,
               daemon->own_layout, daemon->own_geometry);
  else
    doctor_ok(doctor, "daemon", "wkspd %s answers, layout %u as libwksp %s; %u workspaces",
              daemon->version, daemon->layout, daemon->own_version, daemon->workspace_cnt);
  if (!daemon->fd_store)
    doctor_bad(doctor, "daemon", DOCTOR_WARN, "run it by systemd or with --supervise",
               "memory ends with the daemon: nobody keeps its descriptors");
  if (daemon->mistake[0])
    doctor_bad(doctor, "daemon", DOCTOR_WARN,
               "mend it (wkspd --check-config names each mistake), then wkspctl reload",
               "its configuration has a mistake, and what it has read before is in force: %s",
               daemon->mistake);
  if (daemon->lost_cnt)
    doctor_bad(doctor, "daemon", DOCTOR_WARN,
               "specs/*.lost in the state folder say which; make them again",
               "the memory of %u workspaces had not been kept when it started", daemon->lost_cnt);
  if (daemon->quarantined_cnt)
    doctor_bad(doctor, "daemon", DOCTOR_WARN,
               "wkspctl ls, and wkspctl show NAME, say which and why",
               "%u workspaces are kept but not served", daemon->quarantined_cnt);
}
