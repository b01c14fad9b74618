/* notify: what the daemon tells whoever started it, in systemd's notify protocol.

   A datagram of lines to $NOTIFY_SOCKET: READY=1, STATUS=..., STOPPING=1; FDSTORE=1 with FDNAME and
   descriptors that are to be kept over a restart; FDSTOREREMOVE=1; BARRIER=1 with the end of a pipe
   that is closed once everything before it has been dealt with. Our supervisor understands the same
   (supervise.h), and does two things better: it writes into a barrier's pipe whether everything
   before it was stored (systemd only logs that it was not), and it keeps a socket that has hung up
   until the daemon has read what waits in it (systemd drops it at once, so that a lease that ends
   and whose daemon dies before it has cleaned up after it is forgotten there).

   Messages leave in the order in which they were given. Nothing here blocks: what the socket does
   not take waits in a queue, and a barrier is a callback. */

#ifndef WKSPD_SHELL_NOTIFY_H
#define WKSPD_SHELL_NOTIFY_H

#include "daemon/shell/log.h"

#include <uv.h>

/* Longest message that we send. */
#define NOTIFY_TEXT_MAX 512

/* Messages that wait for a slow manager; more are refused (the socket itself holds some 10 to 500).
 */
#define NOTIFY_QUEUE_MAX 4096

/* How long a barrier may take before it counts as failed: systemd may be busy reloading. */
#define NOTIFY_BARRIER_MS 10000

/* What our supervisor writes into a barrier's pipe: all was stored, or not. */
#define NOTIFY_STORED     '+'
#define NOTIFY_NOT_STORED '!'

typedef struct notify notify_t;

/* Opens the way to $NOTIFY_SOCKET (path, or '@' and an abstract name). Always succeeds but for
   memory: without the variable, or when it cannot be used (logged), messages go nowhere. NULL: no
   memory. */
notify_t *notify_open(uv_loop_t *loop, log_t const *log, char const *notify_socket);

/* From now on a barrier has succeeded when NOTIFY_STORED is read, for the manager is our
   supervisor; without this when the pipe is closed with nothing in it. The kernel closes it, too,
   when a manager short of descriptors cannot take the message. */
void notify_answers(notify_t *notify);

/* 1 if somebody listens. */
int notify_active(notify_t const *notify);

/* The supervisor is gone: nothing is sent from now on, waiting barriers fail. */
void notify_lost(notify_t *notify);

/* Queues a message; fd -1: none. The descriptor is duplicated if it cannot be sent at once. 0, or
   1: not sent and will not be (nobody listens, queue full, text over the maximum). */
int notify_send(notify_t *notify, int fd, char const *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Calls done once the manager has dealt with everything sent before: ok 1, or 0 when there is none,
   it went away, could not store something, or NOTIFY_BARRIER_MS passed. done may be called before
   this returns. */
typedef void (*notify_done_t)(void *arg, int ok);
void notify_barrier(notify_t *notify, notify_done_t done, void *arg);

/* Tries to send what waits, then closes the handles; the memory is freed by the loop's close
 * callbacks. done callbacks still waiting are called with 0. */
void notify_close(notify_t *notify);

#endif
