/* engine_audit: what the engine says of limits and of who holds what (audit.c); engine.h has the
   rest. */

#ifndef WKSPD_CORE_ENGINE_AUDIT_H
#define WKSPD_CORE_ENGINE_AUDIT_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/spec.h"

/* One bound: what is in use of it, in all and by the uid that asks; max 0: there is none. */
typedef struct engine_limit {
  char const *what; /* a constant */
  uint64_t used, max, user_used, user_max;
} engine_limit_t;
#define ENGINE_LIMITS_MAX 16U

/* What a process holds of a workspace. */
typedef struct engine_held {
  char workspace[SPEC_NAME_MAX + 1];
  uint64_t lease_id;
  uint64_t since_ns; /* since 1970; 0: since before this daemon's start */
  int mode;          /* ENGINE_OPEN_* */
  int removing;
} engine_held_t;

/* A process: its connections, and the leases that it asked for. What the kernel says of it is the
   shell's to find out, through conn if that is not 0. */
typedef struct engine_client {
  int32_t pid;
  uint32_t uid, gid;
  uint64_t conn;     /* one of its connections, 0 if it has none */
  uint64_t since_ns; /* since 1970, of the oldest of what it has; 0: before this daemon's start */
  uint32_t connection_cnt, call_cnt, watch_cnt;
  engine_held_t *held; /* held_cnt of them */
  size_t held_cnt;
} engine_client_t;

#endif
