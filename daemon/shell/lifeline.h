/* lifeline: how the daemon knows that a client is still there: a socketpair whose client end goes
   with every copy of the client's descriptor.

   What a lease is stands in a record that waits in the receive queue of the daemon's end, written
   through the client's end before that was handed out: whoever holds the daemon's end, also after a
   restart, can look at it (MSG_PEEK), and nobody else can read it or write before it. */

#ifndef WKSPD_SHELL_LIFELINE_H
#define WKSPD_SHELL_LIFELINE_H

#include "daemon/shell/loop.h"

#define LIFELINE_MAGIC 0x656e696c6566696cUL /* "lifeline" */

typedef struct lifeline_record {
  uint64_t magic;
  uint64_t lease_id, ws_id;
  int32_t mode; /* ENGINE_OPEN_* */
  int32_t pid;
  uint32_t uid, gid;
} lifeline_record_t;

/* A pair with the record waiting at ends[0], the daemon's; both close-on-exec, ours non-blocking. 0
 * or errno. */
int lifeline_pair(lifeline_record_t const *record, int ret_ends[2]);

/* The record that waits at fd. 1, or 0: not a lifeline. */
int lifeline_peek(int fd, lifeline_record_t *ret_record);

/* Makes one, hands our end to the fd store, watches it. Answered by LEASE_MADE. */
void lifeline_make(loop_t *loop, lifeline_record_t const *record);

/* Takes over a found one and watches it. 1: there is one of that lease already, or no memory; fd is
 * not taken. */
int lifeline_add(loop_t *loop, int fd, lifeline_record_t const *record);

/* The client's end, now the caller's; -1 none. Also its workspace. */
int lifeline_take_client_end(loop_t *loop, uint64_t lease_id, uint64_t *ret_ws_id);

/* For all copies of the daemon's end: hung up, and nothing to read any more. The latter tells our
   supervisor that the lease has been dealt with, and it drops its copy; one with the record still
   in it goes to the next daemon, however it hung up. */
void lifeline_end(int fd);

/* Ends and closes whatever there is of it. */
void lifeline_drop(loop_t *loop, uint64_t lease_id);

/* Reports those that have hung up by now, before their turn in the loop comes: for a request whose
 * sender may have ended leases just before it. */
void lifeline_sweep(loop_t *loop);

/* Closes all; the fd store keeps its own. */
void lifeline_free(loop_t *loop);

#endif
