/* fdnames: what the descriptors are called that whoever starts the daemon keeps for it.

   systemd and our own supervisor speak the same language: descriptors from 3 on, LISTEN_PID,
   LISTEN_FDS and, separated by ':', LISTEN_FDNAMES. All names together are one environment string
   of at most 128 KiB, so they are short:

     w<id>       a workspace's memory; id in base 36. Its own, so that it can be taken back alone
     l           a lifeline; they all share it, for a stored socket that hangs up drops out by
   itself supervisor  the reading end of a pipe that our supervisor holds: hangs up when it is gone
     else        a listening socket, whatever the unit calls it */

#ifndef WKSPD_SHELL_FDNAMES_H
#define WKSPD_SHELL_FDNAMES_H

#include <stddef.h>
#include <stdint.h>

#define FDNAMES_FIRST      3
#define FDNAMES_LIFELINE   "l"
#define FDNAMES_SUPERVISOR "supervisor"

/* 'w', 13 digits of base 36, NUL */
#define FDNAMES_WS_MAX 16

/* Descriptors passed at a start: all that an environment string of 128 KiB can name at two bytes
 * each is less than this. */
#define FDNAMES_MAX 65536

/* Bytes of any name in the store, the NUL included: systemd's limit. */
#define FDNAMES_NAME_MAX 256

/* Bytes of names that our supervisor passes; execve allows 131,072 for one string. */
#define FDNAMES_BYTES_MAX 120000U

typedef enum fdnames_kind {
  FDNAMES_IS_OTHER = 0,
  FDNAMES_IS_WORKSPACE,
  FDNAMES_IS_LIFELINE,
  FDNAMES_IS_SUPERVISOR,
} fdnames_kind_t;

/* The name of workspace ws_id's memory. */
void fdnames_ws(uint64_t ws_id, char ret_name[FDNAMES_WS_MAX]);

/* What a name of len bytes says; *ret_ws_id for a workspace. "w" names that are not exactly what
 * fdnames_ws gives are OTHER. */
fdnames_kind_t fdnames_parse(char const *name, size_t len, uint64_t *ret_ws_id);

/* One passed descriptor: called with each in turn. name: its first name_len bytes, without a NUL.
 */
typedef void (*fdnames_each_t)(void *arg, int fd, fdnames_kind_t kind, uint64_t ws_id,
                               char const *name, size_t name_len);

/* Reads the values of LISTEN_* (NULL: unset): makes each descriptor close-on-exec and tells it. To
   be called before anything else is opened, for what we open ourselves cannot be told from what was
   passed. Returns how many there are; 0 when they are not meant for pid; -1 and a sentence in error
   when they are malformed or one of them is not open (nothing is told then). */
int fdnames_each(char const *listen_pid, char const *listen_fds, char const *listen_fdnames,
                 int pid, fdnames_each_t each, void *arg, char *error, size_t error_cap);

#endif
