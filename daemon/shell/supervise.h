/* supervise: the small parent of `wkspd --supervise`.

   It does for one daemon what systemd does for its services: binds the socket, keeps the
   descriptors that the daemon stores with it (FDSTORE=1), starts the daemon with them
   (LISTEN_FDS), and starts it again when it ends. Memory and leases live here while no daemon
   runs, and clients that connect meanwhile wait in the socket's backlog. */

#ifndef WKSPD_SHELL_SUPERVISE_H
#define WKSPD_SHELL_SUPERVISE_H

#include "daemon/shell/config.h"

/* Runs until SIGTERM or SIGINT, or until the daemon fails before it was ever ready. Returns the
   exit status: the daemon's last, 1 if it did not end by itself. */
int supervise_run(config_t const *config, log_t const *log);

/* One message of the protocol, parsed. */
typedef struct supervise_message {
  int ready, stopping, fdstore, fdstore_remove, barrier;
  char fdname[32]; /* "stored" if none was given, as systemd has it */
} supervise_message_t;

/* text need not end with NUL. 1, or 0: an FDNAME that is empty, too long, or holds ':' or control
 * characters. */
int supervise_parse(char const *text, size_t len, supervise_message_t *ret_message);

#endif
