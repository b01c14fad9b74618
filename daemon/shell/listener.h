/* listener: accepts connections and says who they are. */

#ifndef WKSPD_SHELL_LISTENER_H
#define WKSPD_SHELL_LISTENER_H

#include "daemon/shell/loop.h"

/* Connections accepted in one turn of the loop. */
#define LISTENER_ACCEPTS_MAX 16

/* How long accepting pauses when the process or system has no descriptor left, ms. */
#define LISTENER_PAUSE_MS 100

/* Starts accepting on fd, which stays the caller's. NULL: no memory. */
struct listener *listener_start(loop_t *loop, int fd);

/* Stops; its memory goes with a later turn of the loop. NULL: nothing. */
void listener_stop(struct listener *listener);

#endif
