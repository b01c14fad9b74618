/* lease: who holds which workspace.

   A lease is a lifeline in the shell's hands; here is the book-keeping. MAKING until the shell has
   its lifeline, HELD until it hangs up. A read-write lease is then ENDED until its workspace has
   been reaped, so that its lifeline stays where a restart would find it; all others are forgotten
   at once.

   Invariants (leases_check): every lease is in the list of its workspace that its state names; a
   lease has a call only in MAKING, and that call names it. */

#ifndef WKSPD_CORE_LEASE_H
#define WKSPD_CORE_LEASE_H

#include <stdint.h>

#include "daemon/core/idmap.h"

struct ws;
struct call;

enum { LEASE_MAKING = 1, LEASE_HELD, LEASE_ENDED };

typedef struct lease {
  uint64_t lease_id;
  struct ws *ws;
  int state;   /* LEASE_* */
  int mode;    /* ENGINE_OPEN_* */
  int reaping; /* ENDED: the running reap looks for it */
  int32_t pid;
  uint32_t uid, gid;
  uint64_t since_ns;         /* since 1970; 0: before this daemon's start */
  struct call *call;         /* MAKING: the Open that waits, or NULL if it has given up */
  struct lease *prev, *next; /* in ws->leases or ws->ended */
} lease_t;

typedef struct leases {
  idmap_t by_id;
} leases_t;

/* A new lease of ws in state MAKING or HELD; lease_id must be new. NULL: no memory. */
lease_t *leases_add(leases_t *leases, uint64_t lease_id, struct ws *ws, int mode, int state);

lease_t *leases_by_id(leases_t const *leases, uint64_t lease_id);

/* MAKING to HELD. */
void lease_hold(lease_t *lease);

/* HELD to ENDED. */
void lease_end(lease_t *lease);

/* Forgets it. */
void leases_remove(leases_t *leases, lease_t *lease);

/* NULL, or which invariant is broken. */
char const *leases_check(leases_t const *leases);

void leases_clear(leases_t *leases);

#endif
