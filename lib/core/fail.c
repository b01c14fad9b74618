/* fail: the reason of the calling thread's last failure.

   A library that does not log has to leave its reasons where the caller finds them. Each thread has
   one sentence and one code; a failure overwrites both, a success touches neither. The sentence is
   formatted at the moment of failure, since what it is about may be gone when somebody asks. */

#include "core/fail.h"

#include "wksp/fd_wksp.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

/* Long enough for a path of sun_path's length, two names and a sentence; longer ones are cut. */
#define FAIL_SENTENCE_MAX 512

static _Thread_local struct {
  int code;
  char sentence[FAIL_SENTENCE_MAX];
} fail_last;

int wksp__fail(int code, char const *fmt, ...) {
  int saved = errno;
  char sentence[FAIL_SENTENCE_MAX]; /* apart, since the old sentence may be among the arguments */
  va_list args;
  va_start(args, fmt);
  vsnprintf(sentence, sizeof(sentence), fmt, args);
  va_end(args);
  __builtin_memcpy(fail_last.sentence, sentence, sizeof(sentence));
  fail_last.code = code;
  errno = saved;
  return code;
}

char const *wksp_last_error(void) {
  return fail_last.sentence;
}

int wksp_last_error_code(void) {
  return fail_last.code;
}

char const *fd_wksp_strerror(int err) {
  return wksp_strerror(err);
}

char const *wksp_strerror(int err) {
  switch (err) {
  case WKSP_SUCCESS:
    return "WKSP_SUCCESS: no failure";
  case WKSP_E_INVAL:
    return "WKSP_E_INVAL: argument out of range";
  case WKSP_E_NOMEM:
    return "WKSP_E_NOMEM: no room";
  case WKSP_E_CORRUPT:
    return "WKSP_E_CORRUPT: shared memory is damaged";
  case WKSP_E_NOTFOUND:
    return "WKSP_E_NOTFOUND: not found";
  case WKSP_E_EXISTS:
    return "WKSP_E_EXISTS: name is taken";
  case WKSP_E_PERM:
    return "WKSP_E_PERM: not permitted";
  case WKSP_E_RDONLY:
    return "WKSP_E_RDONLY: joined read-only";
  case WKSP_E_TIMEDOUT:
    return "WKSP_E_TIMEDOUT: deadline passed";
  case WKSP_E_AGAIN:
    return "WKSP_E_AGAIN: interrupted, try again";
  case WKSP_E_VERSION:
    return "WKSP_E_VERSION: layout differs";
  case WKSP_E_BUSY:
    return "WKSP_E_BUSY: in use";
  case WKSP_E_NODAEMON:
    return "WKSP_E_NODAEMON: no daemon answers";
  case WKSP_E_PROTO:
    return "WKSP_E_PROTO: protocol violated";
  case WKSP_E_SYS:
    return "WKSP_E_SYS: system call failed";
  case WKSP_E_LIMIT:
    return "WKSP_E_LIMIT: limit reached";
  case WKSP_E_UNSUPPORTED:
    return "WKSP_E_UNSUPPORTED: operation unknown";
  default:
    return "unknown error code";
  }
}
