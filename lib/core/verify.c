/* verify: whether a workspace satisfies its format, in sentences.

   Model: header first, since all else depends on it; then partitions, roots, spans and heaps, each
   by the file that knows them. Findings are collected and told when the walk is over: not under the
   lock, and for a read-only join, which cannot lock, only if no writer was in the way.

   Every walk is bounded by what the header says, and every index is checked before it is used, so
   damage costs time and never a fault. What it refuses: to repair. */

#include "core/alloc.h"
#include "core/call.h"
#include "core/fail.h"
#include "core/held.h"
#include "core/layout.h"
#include "core/part.h"
#include "core/protect.h"
#include "core/root.h"
#include "core/tx.h"

#include <stdarg.h>
#include <stdio.h>

#define VERIFY_FINDINGS_MAX 64
#define VERIFY_SENTENCE_MAX 200

/* A read-only verify of a busy workspace that was disturbed so often gives up. */
#define VERIFY_TRIES 8

typedef struct verify {
  uint32_t cnt; /* findings, those beyond the maximum too */
  char sentence[VERIFY_FINDINGS_MAX][VERIFY_SENTENCE_MAX];
} verify_t;

__attribute__((format(printf, 2, 3))) static void finding(void *arg, char const *fmt, ...) {
  verify_t *verify = arg;
  if (verify->cnt < VERIFY_FINDINGS_MAX) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(verify->sentence[verify->cnt], VERIFY_SENTENCE_MAX, fmt, args);
    va_end(args);
  }
  verify->cnt++;
}

static void walk(fd_wksp_t const *wksp, verify_t *verify) {
  wksp__part_check(wksp, finding, verify);
  wksp__root_check(wksp, finding, verify);
  wksp__alloc_check(wksp, finding, verify);
}

/* The lock keeps partitions and roots still; it also finishes what a dead writer has left, or says
 * that the record of that is damaged. */
static int walk_locked(fd_wksp_t *wksp, verify_t *verify) {
  wksp__call_t call;
  int rc = wksp__call_begin(wksp, &call);
  if (rc) return rc;
  rc = wksp__lock(&call, WKSP_LOCK_CALL_NS);
  if (!rc) {
    walk(wksp, verify);
    wksp__unlock(&call);
  } else if (rc == WKSP_E_CORRUPT) {
    finding(verify, "%s", wksp_last_error());
    rc = 0;
  }
  wksp__call_end(&call);
  return rc;
}

static int walk_unlocked(fd_wksp_t const *wksp, verify_t *verify) {
  for (uint32_t i = 0; i < VERIFY_TRIES; i++) {
    uint64_t version;
    int rc = wksp__read_begin(wksp, &version);
    if (rc) return rc;
    verify->cnt = 0;
    walk(wksp, verify);
    if (wksp__read_ok(wksp, version)) return 0;
  }
  return wksp__fail(WKSP_E_AGAIN,
                    "verify: workspace %s was changed during each of %d walks: try again, or join "
                    "it read-write",
                    wksp->name, VERIFY_TRIES);
}

int fd_wksp_verify(fd_wksp_t *wksp, void (*on_finding)(void *arg, char const *sentence),
                   void *arg) {
  verify_t verify;
  verify.cnt = 0;
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "verify: the workspace is NULL");
  /* Who holds the lock already, or may not write, goes without taking it. */
  int rc = 0, ro = wksp__map_ro(wksp);
  if (ro < 0) return wksp__fail(WKSP_E_INVAL, "verify: no workspace is joined at %p", (void *)wksp);
  if (wksp__protected_loads(wksp)) /* heads and heaps lie there */
    return wksp__fail(
        WKSP_E_RDONLY,
        "verify: the data of workspace %s are out of reach in this process; give them "
        "back with fd_wksp_mprotect",
        wksp->name);
  if (wksp__header_check(wksp, 0))
    finding(&verify, "header: %s", wksp_last_error());
  else
    rc = ro || wksp__held(wksp) || wksp__protected(wksp) ? walk_unlocked(wksp, &verify)
                                                         : walk_locked(wksp, &verify);
  if (rc) return rc;
  if (!verify.cnt) return 0;
  for (uint32_t i = 0; on_finding && i < verify.cnt && i < VERIFY_FINDINGS_MAX; i++)
    on_finding(arg, verify.sentence[i]);
  return wksp__fail(WKSP_E_CORRUPT, "verify: %u findings, the first: %s", verify.cnt,
                    verify.sentence[0]);
}
