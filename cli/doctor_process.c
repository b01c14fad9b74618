/* doctor_process: the checks of what one process may use - limits, nodes, control groups.

   The problem: wkspd may be held to less than the machine has by its unit, its container or a
   control group, and what refuses then is a system call without a reason.

   The model: what counts for wkspd is read of wkspd, if it can be found, else of this process. Both
   kinds of control groups are understood, and each group up to the root can be the one that limits.

   It refuses: to call a limit bad that lies above what the machine has. */

#include "doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What wkspd.service asks for: room for all that the daemon serves. */
#define FILES_WANTED 65536UL

/* Groups above a process. */
#define GROUPS_MAX 64

/* A file of the process. 0 or errno. */
static int read_own(sys_t const *sys, doctor_process_t process, char const *file, char *text,
                    size_t cap) {
  return process.pid ? sys_read(sys, text, cap, "/proc/%d/%s", process.pid, file)
                     : sys_read(sys, text, cap, "/proc/self/%s", file);
}

/* The hard limit in /proc/PID/limits; ~0UL: unlimited. 0 or -1. */
static int hard_limit(char const *text, char const *name, ulong *ret_limit) {
  char const *line = strstr(text, name);
  if (!line) return -1;
  char soft[32], hard[32];
  if (sscanf(line + strlen(name), "%31s %31s", soft, hard) != 2) return -1;
  if (!strcmp(hard, "unlimited")) {
    *ret_limit = ~0UL;
    return 0;
  }
  char *end;
  errno = 0;
  ulong const limit = strtoul(hard, &end, 10);
  if (errno || end == hard || *end) return -1;
  *ret_limit = limit;
  return 0;
}

void doctor_limits(doctor_t *doctor, sys_t const *sys, doctor_process_t process) {
  char text[SYS_TEXT_MAX];
  ulong files, locked;
  if (read_own(sys, process, "limits", text, sizeof text) ||
      hard_limit(text, "Max open files", &files) ||
      hard_limit(text, "Max locked memory", &locked)) {
    doctor_bad(doctor, "nofile", DOCTOR_WARN, "run wkspctl doctor as root",
               "the limits of %s cannot be read", process.name);
    return;
  }
  if (process.pid && files < FILES_WANTED)
    doctor_bad(doctor, "nofile", DOCTOR_WARN, "LimitNOFILE=65536 in its unit, or ulimit -n 65536",
               "%s may open %lu descriptors, one for each workspace and each lease", process.name,
               files);
  else if (files == ~0UL)
    doctor_ok(doctor, "nofile", "%s may open any number of descriptors", process.name);
  else
    doctor_ok(doctor, "nofile", "%s may open %lu descriptors", process.name, files);
  if (locked == ~0UL)
    doctor_ok(doctor, "memlock", "%s may lock any memory", process.name);
  else
    doctor_ok(doctor, "memlock", "%s may lock %lu KiB; huge pages do not count", process.name,
              locked >> 10);
}

void doctor_nodes(doctor_t *doctor, sys_t const *sys, host_t const *host,
                  doctor_process_t process) {
  char text[SYS_TEXT_MAX], names[256];
  static char const key[] = "Mems_allowed_list:";
  sys_set_t allowed, hidden = {{0}};
  int const err = read_own(sys, process, "status", text, sizeof text);
  char *at = err ? NULL : strstr(text, key);
  if (at) {
    at += sizeof key - 1;
    at += strspn(at, " \t");
    at[strcspn(at, "\n")] = '\0';
  }
  if (!at || sys_set_read(at, &allowed)) {
    doctor_ok(doctor, "nodes", "this kernel does not say which nodes %s may use", process.name);
    return;
  }
  for (uint i = 0; i < host->node_cnt; i++)
    if (host->node[i].mem && !sys_set_has(&allowed, host->node[i].id))
      sys_set_add(&hidden, host->node[i].id);
  if (sys_set_cnt(&hidden))
    doctor_bad(doctor, "nodes", DOCTOR_WARN,
               "AllowedMemoryNodes= in its unit, --cpuset-mems of its container, or cpuset.mems of "
               "its control group",
               "%s may not use memory of node %s", process.name,
               sys_set_text(&hidden, names, sizeof names));
  else
    doctor_ok(doctor, "nodes", "%s may use memory of every node (%u)", process.name,
              host->node_cnt);
}

/* How control groups call a page size: "2MB". */
typedef struct size_name {
  char s[32];
} size_name_t;

static size_name_t size_name(ulong size) {
  size_name_t name;
  uint const shift = size >= 1UL << 30 ? 30 : size >= 1UL << 20 ? 20 : 10;
  snprintf(name.s, sizeof name.s, "%lu%s", size >> shift,
           shift == 30   ? "GB"
           : shift == 20 ? "MB"
                         : "KB");
  return name;
}

/* The kind of control groups that can limit huge pages: where they are mounted, what the files are
 * called. */
typedef struct hierarchy {
  char const *mount;
  char const *line; /* what stands before the path in /proc/PID/cgroup */
  char const *files[2];
} hierarchy_t;

static hierarchy_t const hierarchies[] = {
    {"/sys/fs/cgroup", "\n0::", {"max", "rsvd.max"}},
    {"/sys/fs/cgroup/unified", "\n0::", {"max", "rsvd.max"}},
    {"/sys/fs/cgroup/hugetlb", ":hugetlb:", {"limit_in_bytes", "rsvd.limit_in_bytes"}},
};

/* A limit below the pool. */
typedef struct found {
  ulong limit;
  char group[256];
} found_t;

/* Looks at the file in the group and all above it; the least limit stays in *found. */
static void least_limit(sys_t const *sys, char const *mount, char const *group, char const *file,
                        found_t *found) {
  char path[SYS_PATH_MAX / 2];
  snprintf(path, sizeof path, "%s", group);
  for (uint i = 0; i < GROUPS_MAX; i++) {
    ulong limit;
    /* "max" is no number. */
    if (!sys_number(sys, &limit, "%s%s/%s", mount, path, file) && limit < found->limit) {
      found->limit = limit;
      snprintf(found->group, sizeof found->group, "%.200s", *path ? path : "/");
    }
    char *slash = strrchr(path, '/');
    if (!slash) return;
    *slash = '\0';
  }
}

static void check_size(doctor_t *doctor, sys_t const *sys, char const *groups,
                       host_size_t const *size, doctor_process_t process) {
  found_t found = {.limit = ~0UL};
  size_name_t const name = size_name(size->size);
  for (size_t i = 0; i < sizeof hierarchies / sizeof *hierarchies; i++) {
    char const *at = strstr(groups, hierarchies[i].line);
    char group[SYS_PATH_MAX / 2], file[64];
    if (!at) continue;
    at += strlen(hierarchies[i].line);
    snprintf(group, sizeof group, "%.*s", (int)strcspn(at, "\n"), at);
    if (!strcmp(group, "/")) *group = '\0';
    for (int kind = 0; kind < 2; kind++) {
      snprintf(file, sizeof file, "hugetlb.%s.%s", name.s, hierarchies[i].files[kind]);
      least_limit(sys, hierarchies[i].mount, group, file, &found);
    }
  }
  ulong pool;
  if (__builtin_mul_overflow(size->all.total + size->overcommit, size->size, &pool)) pool = ~0UL;
  if (!pool) return;
  char mend[DOCTOR_TEXT_MAX];
  snprintf(mend, sizeof mend, "write max to hugetlb.%s.max and hugetlb.%s.rsvd.max there", name.s,
           name.s);
  if (found.limit < pool)
    doctor_bad(doctor, "cgroups", found.limit < size->size ? DOCTOR_FAIL : DOCTOR_WARN, mend,
               "the control group %s lets %s have %lu MiB in pages of %s, the pools have %lu MiB",
               found.group, process.name, found.limit >> 20, name.s, pool >> 20);
  else
    doctor_ok(doctor, "cgroups", "no control group keeps %s from pages of %s", process.name,
              name.s);
}

void doctor_cgroups(doctor_t *doctor, sys_t const *sys, host_t const *host,
                    doctor_process_t process) {
  /* A line end in front, so that every line begins alike. */
  char text[SYS_TEXT_MAX] = "\n";
  int const err = read_own(sys, process, "cgroup", text + 1, sizeof text - 1);
  if (err == ENOENT) {
    doctor_ok(doctor, "cgroups", "this kernel has no control groups");
    return;
  }
  if (err) {
    doctor_bad(doctor, "cgroups", DOCTOR_WARN, "run wkspctl doctor as root",
               "the control groups of %s cannot be read: %s", process.name, strerror(err));
    return;
  }
  for (uint i = 0; i < host->size_cnt; i++) check_size(doctor, sys, text, &host->size[i], process);
}
