/* rpc_load: what many clients do to one. Each prints its row. */

#ifndef BENCH_RPC_LOAD_H
#define BENCH_RPC_LOAD_H

#include "rpc_wire.h"

/* So many connections that say nothing, of as many processes as they take. */
void rpc_idle(char const *path, pid_t daemon, int cnt);

/* How long the slowest of a thousand requests takes, quiet and while the daemon has large things to
   do. */
void rpc_tail(side_t *side);

/* Requests of one user while another floods. */
void rpc_flood(side_t *side);

/* From the death of a process until it is told that the lease that it held has ended. */
void rpc_lease(char const *path);

/* So many workspaces are made, asked for and removed; fewer, which is said, if the making takes
   longer than some time. */
void rpc_many(char const *path, int cnt);

#endif
