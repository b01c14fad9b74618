/* doctor: what is in the way of workspaces on this machine, and how to mend it.

   Each check is a function from facts to lines; most facts are read through a sys_t, so that tests
   can make up a machine, the others come as arguments. */

#ifndef WKSPCTL_DOCTOR_H
#define WKSPCTL_DOCTOR_H

#include "host.h"

enum {
  DOCTOR_OK = 0,
  DOCTOR_WARN = 1, /* works, but worse than it could */
  DOCTOR_FAIL = 2  /* something does not work */
};

#define DOCTOR_TEXT_MAX  400
#define DOCTOR_LINES_MAX 64

typedef struct doctor_line {
  char const *check; /* what was looked at: "pools", "socket", ... */
  int state;
  char what[DOCTOR_TEXT_MAX];
  char mend[DOCTOR_TEXT_MAX]; /* "" if ok */
} doctor_line_t;

/* Lines in the order of the checks; what is beyond the bound is dropped, which the last line says.
 */
typedef struct doctor {
  doctor_line_t line[DOCTOR_LINES_MAX];
  uint cnt;
} doctor_t;

/* The worst state of all lines. */
int doctor_worst(doctor_t const *doctor);

/* A line that is ok, and one that is not; mend says what to do. */
void doctor_ok(doctor_t *doctor, char const *check, char const *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void doctor_bad(doctor_t *doctor, char const *check, int state, char const *mend, char const *fmt,
                ...) __attribute__((format(printf, 5, 6)));

/* The pools of 2M and 1G: whether there are any, whether pages are left, whether nodes have alike.
 */
void doctor_pools(doctor_t *doctor, host_t const *host);

/* A process: wkspd, or this one. */
typedef struct doctor_process {
  int pid;          /* 0: this one */
  char const *name; /* how to call it: "wkspd", "a program started here" */
} doctor_process_t;

/* Its limits of descriptors and locked memory. */
void doctor_limits(doctor_t *doctor, sys_t const *sys, doctor_process_t process);

/* The nodes that its cpuset leaves it. */
void doctor_nodes(doctor_t *doctor, sys_t const *sys, host_t const *host, doctor_process_t process);

/* What its control groups leave of the pools. */
void doctor_cgroups(doctor_t *doctor, sys_t const *sys, host_t const *host,
                    doctor_process_t process);

/* System calls that were tried: 0 or errno. */
typedef struct doctor_calls {
  int membarrier;
  int userfaultfd;
} doctor_calls_t;

/* Settings of the kernel. */
void doctor_kernel(doctor_t *doctor, sys_t const *sys, host_t const *host, doctor_calls_t calls);

/* The socket's file. */
typedef struct doctor_socket {
  char const *path;
  int err; /* errno of finding it; the rest counts if 0 */
  int is_socket;
  int may;   /* this user may connect */
  uint mode; /* permission bits */
  char const *group;
  char const *user; /* who runs this */
} doctor_socket_t;

void doctor_socket(doctor_t *doctor, doctor_socket_t const *socket);

/* What `systemctl show` says about the units, one block of KEY=VALUE lines each with Id, LoadState,
   ActiveState, UnitFileState, NRestarts; NULL: systemd does not run this machine. reached: a daemon
   answers. */
void doctor_units(doctor_t *doctor, char const *shown, int reached);

/* The daemon's answers. */
typedef struct doctor_daemon {
  char const *why; /* NULL: it answers; else why it does not */
  char const *version;
  char const *own_version;
  uint layout, own_layout;
  ulong geometry, own_geometry;
  char mistake[1024]; /* of its configuration, as it may be shown; "" none */
  uint fd_store, lost_cnt, quarantined_cnt, workspace_cnt;
} doctor_daemon_t;

void doctor_daemon(doctor_t *doctor, doctor_daemon_t const *daemon);

#endif
