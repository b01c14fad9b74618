/* rpc_wire: requests to wkspd written by hand, for the benchmark of what they cost. */

#ifndef BENCH_RPC_WIRE_H
#define BENCH_RPC_WIRE_H

#include "bench.h"

#include <sys/types.h>

#define RPC_BUSY_MAX 64

typedef struct message {
  unsigned char bytes[256];
  size_t len;
} message_t;

typedef struct conn {
  int fd;
  uint32_t stream;
  size_t left;       /* bytes of the answer that are still to come */
  uint64_t asked_ns; /* when, last */
} conn_t;

/* Connections to one server that ask the same. */
typedef struct side {
  char const *path;
  message_t frame;
  size_t answer; /* bytes of each */
  conn_t conns[RPC_BUSY_MAX];
  int cnt, epoll;
} side_t;

/* A whole request frame; ask puts in its stream. */
message_t rpc_request(char const *service, char const *method, message_t const *payload);

/* One of Workspaces, about that name; a Create is of 1 MiB in pages of 4 KiB. */
message_t rpc_about(char const *method, char const *name);

/* A Create of so many bytes. */
message_t rpc_create(char const *name, uint64_t size);

/* A connection; until somebody listens. */
conn_t rpc_dial(char const *path);

void rpc_ask(conn_t *conn, message_t *frame);

/* One request and its whole answer; its length. The code of a failed one is not looked at: what was
 * made is what is there. */
size_t rpc_call(conn_t *conn, message_t frame);

void rpc_side_open(side_t *side, int cnt);
void rpc_side_close(side_t *side);

/* Requests for so long, one outstanding on each connection; how many a second. each (NULL: nobody)
   is told of every answer how long it took, ns. */
double rpc_slice(side_t *side, uint64_t ns, void (*each)(void *arg, uint64_t took_ns), void *arg);

/* KiB of memory that is the process's own. */
long rpc_resident(pid_t pid);

#endif
