/* clients: what the kernel says of the processes that an answer to Clients names. */

#ifndef WKSPD_SHELL_CLIENTS_H
#define WKSPD_SHELL_CLIENTS_H

#include "daemon/core/engine.h"
#include "daemon/shell/loop.h"

#include <protobuf-c/protobuf-c.h>

#define CLIENTS_COMM_MAX   16U
#define CLIENTS_CGROUP_MAX 256U

typedef struct clients_seen {
  char comm[CLIENTS_COMM_MAX + 1];
  char cgroup[CLIENTS_CGROUP_MAX];
  int ended;
} clients_seen_t;

/* What is said of one process. fd: a socket that it connected, or -1; then pid counts, if the
   process began no later than since_ns (since 1970; 0: not known, and nothing is said). */
void clients_look(int fd, int32_t pid, uint64_t since_ns, clients_seen_t *ret_seen);

/* Of all in the reply, for its encoding, to be freed. NULL: no memory. */
uint8_t *clients_answer(loop_t *loop, engine_reply_t const *reply, size_t *ret_len);

/* For the table of rpc_methods.c. The latter knows nothing of the kernel. */
void clients_fill(ProtobufCMessage const *message, engine_request_t *ret_req);
uint8_t *clients_encode(engine_reply_t const *reply, size_t *ret_len);

#endif
