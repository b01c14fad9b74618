/* Errors of libwksp: one negative code each, and a sentence for people.

   Functions that return int return 0 or one of the codes below. Functions that return a pointer or
   a gaddr return NULL or 0 on failure. In both cases wksp_last_error() gives a sentence about the
   last failure of the calling thread: what was attempted, which value was at fault, what to do. */

#ifndef WKSP_ERROR_H
#define WKSP_ERROR_H

#include "types.h"

WKSP_PROTOTYPES_BEGIN

enum {
  WKSP_SUCCESS = 0,
  WKSP_E_INVAL = -1,    /* an argument is outside its documented range */
  WKSP_E_NOMEM = -2,    /* the workspace, its partition table or the process has no room */
  WKSP_E_CORRUPT = -3,  /* shared memory does not satisfy the format's invariants */
  WKSP_E_NOTFOUND = -4, /* no such workspace, partition, root or block */
  WKSP_E_EXISTS = -5,   /* the name is taken */
  WKSP_E_PERM = -6,     /* the caller's uid or gid may not do this */
  WKSP_E_RDONLY = -7,   /* the join is read-only */
  WKSP_E_TIMEDOUT = -8, /* the deadline passed; the operation may not have happened */
  WKSP_E_AGAIN = -9, /* a writer was in the way, or the daemon went away in mid-call: try again */
  WKSP_E_VERSION = -10,    /* layout version, feature bits or geometry hash differ */
  WKSP_E_BUSY = -11,       /* still attached, or held by another */
  WKSP_E_NODAEMON = -12,   /* nobody answers on the socket */
  WKSP_E_PROTO = -13,      /* the peer broke the protocol */
  WKSP_E_SYS = -14,        /* a system call failed; the sentence names it and errno */
  WKSP_E_LIMIT = -15,      /* a documented limit (connections, bytes, pages, quota) is reached */
  WKSP_E_UNSUPPORTED = -16 /* the peer or the kernel does not know this operation */
};

/* A constant string for a code ("WKSP_E_NOMEM: no room"); never NULL, also for unknown codes. */
WKSP_API char const *wksp_strerror(int err);

/* The sentence about the calling thread's last failure, "" if there was none. Valid until the
   thread's next failing call. Successful calls leave it alone. */
WKSP_API char const *wksp_last_error(void);

/* The code that belongs to wksp_last_error(), 0 if there was no failure. */
WKSP_API int wksp_last_error_code(void);

WKSP_PROTOTYPES_END

#endif
