/* socket: the listening socket on a path, and who may have it.

   Who serves a path holds a lock on <path>.lock, so that of two daemons that start at once one
   wins; a socket file that nobody answers on is what a killed daemon left, and is replaced. */

#ifndef WKSPD_SHELL_SOCKET_H
#define WKSPD_SHELL_SOCKET_H

#include "daemon/shell/config.h"

#include <sys/stat.h>

/* Connections that wait to be accepted; the kernel cuts it to net.core.somaxconn. */
#define SOCKET_BACKLOG 1024

typedef struct socket_at {
  int fd;      /* listening, non-blocking, close-on-exec; -1 none */
  int lock_fd; /* holds the lock for as long as it is open; -1 none */
  char path[CONFIG_SOCKET_MAX + 1];
  dev_t dev; /* of the socket file: only this one is removed */
  ino_t ino;
} socket_at_t;

#define SOCKET_NONE ((socket_at_t){.fd = -1, .lock_fd = -1})

/* Binds and listens; a missing last folder is made. 0, or 1 and a sentence in error
 * (CONFIG_ERROR_MAX bytes). */
int socket_listen(socket_at_t *ret_at, char const *path, char *error);

/* Takes over the duty of removing the file of a socket that was passed to us, once whoever bound it
   is gone. fd stays the caller's and is not closed by socket_release. 0, or 1: somebody else's by
   now. */
int socket_adopt(socket_at_t *ret_at, char const *path);

/* Removes the file if it is still ours, the lock, and closes. */
void socket_release(socket_at_t *at);

#endif
