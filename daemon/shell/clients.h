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

/* Who is looked at. Where there is neither fd nor pidfd, pid counts. */
typedef struct clients_who {
  int fd;    /* a socket that it connected; -1: none */
  int pidfd; /* of it, where the kernel does not keep one with the socket; -1: none */
  int32_t pid;
} clients_who_t;

/* 1: the kernel keeps a pidfd with each connection (Linux 6.5). */
int clients_kept(void);

/* The pidfd of who has just connected, for a kernel that does not keep it: the caller's. -1: there
   is none, or the process is not that user's: the number has another owner by now. */
int clients_pidfd(int32_t pid, uint32_t uid);

/* What is said of one process. By its pid alone only if it began no later than since_ns (since
   1970; 0: not known, and nothing is said). */
void clients_look(clients_who_t const *who, uint64_t since_ns, clients_seen_t *ret_seen);

/* The cpu that it runs on, or ours where that cannot be said for certain. */
int clients_cpu(clients_who_t const *who);

/* Of all in the reply, for its encoding, to be freed. NULL: no memory. */
uint8_t *clients_answer(loop_t *loop, engine_reply_t const *reply, size_t *ret_len);

/* For the table of rpc_methods.c. The latter knows nothing of the kernel. */
void clients_fill(ProtobufCMessage const *message, engine_request_t *ret_req);
uint8_t *clients_encode(engine_reply_t const *reply, size_t *ret_len);

#endif
