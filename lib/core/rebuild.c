/* rebuild: a damaged workspace made to satisfy its format again.

   Model: under the lock, whatever the record said: partitions from the entries in use
   (part_rebuild.c), then roots, then the fd_allocs (alloc_repair.c), each dropping what cannot be
   true and saying so. Killed anywhere, it is begun anew and ends the same; a workspace whose
   rebuild was begun refuses other calls until then.

   What it refuses: a damaged header, by which nothing could be believed; and to mend fd_allocs
   under living threads that own heaps in them: these have caches of their own. */

#include "core/alloc.h"
#include "core/call.h"
#include "core/fail.h"
#include "core/held.h"
#include "core/layout.h"
#include "core/part.h"
#include "core/root.h"
#include "core/tx.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define REBUILD_SENTENCES_MAX 256
#define REBUILD_SENTENCE_MAX  200

typedef struct report {
  uint32_t cnt; /* beyond the maximum, too */
  char sentence[REBUILD_SENTENCES_MAX][REBUILD_SENTENCE_MAX];
} report_t;

__attribute__((format(printf, 2, 3))) static void note(void *arg, char const *fmt, ...) {
  report_t *report = arg;
  if (report->cnt < REBUILD_SENTENCES_MAX) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(report->sentence[report->cnt], REBUILD_SENTENCE_MAX, fmt, args);
    va_end(args);
  }
  report->cnt++;
}

__attribute__((format(printf, 2, 3))) static void ignore(void *arg, char const *fmt, ...) {
  (void)arg;
  (void)fmt;
}

static int allocs_mend(wksp__call_t *call, report_t *report) {
  fd_wksp_t *wksp = call->wksp;
  if (!wksp__alloc_check(wksp, ignore, NULL)) return 0;
  uint32_t living = wksp__alloc_owner_living(wksp);
  if (!living) {
    wksp__alloc_repair(call, note, report);
    return 0;
  }
  wksp__slot_t const *slot = &wksp__slots(wksp)[living - 1];
  return wksp__fail(WKSP_E_BUSY,
                    "rebuild: workspace %s: its partitions are whole now, but its fd_allocs are "
                    "damaged, and thread %u of process %u (%.16s) uses one: let it leave, then "
                    "rebuild again",
                    wksp->name, wksp__ld(&slot->tid), wksp__ld(&slot->pid), slot->comm);
}

static int mend(wksp__call_t *call, uint seed, report_t *report) {
  int rc = wksp__lock_mend(call, WKSP_LOCK_CALL_NS);
  if (rc < 0) return rc;
  if (rc && wksp__vol(call->wksp)->rec != WKSP_REC_REBUILD) /* that is being made good */
    note(report, "dropped: the record of an unfinished change: %s", wksp_last_error());
  rc = wksp__part_rebuild(call->wksp, note, report);
  if (rc >= 0) {
    wksp__root_repair(call->wksp, note, report);
    rc = allocs_mend(call, report);
    wksp__st(&call->wksp->seed, seed);
    wksp__part_rebuilt(call->wksp);
  }
  wksp__unlock(call);
  return rc;
}

int fd_wksp_rebuild(fd_wksp_t *wksp, uint seed, void (*on_loss)(void *arg, char const *sentence),
                    void *arg) {
  wksp__call_t call;
  if (!wksp) return wksp__fail(WKSP_E_INVAL, "rebuild: the workspace is NULL");
  int rc = wksp__call_begin(wksp, &call);
  if (rc) return rc;
  report_t *report = malloc(sizeof(*report));
  if (!report) rc = wksp__fail(WKSP_E_NOMEM, "rebuild: out of memory for its report");
  if (!rc) rc = wksp__header_check(wksp, 0);
  if (!rc) {
    report->cnt = 0;
    rc = mend(&call, seed, report);
  }
  wksp__call_end(&call);
  uint32_t cnt = rc ? 0 : report->cnt;
  for (uint32_t i = 0; !rc && on_loss && i < cnt && i < REBUILD_SENTENCES_MAX; i++)
    on_loss(arg, report->sentence[i]);
  if (!rc && on_loss && cnt > REBUILD_SENTENCES_MAX) {
    snprintf(report->sentence[0], REBUILD_SENTENCE_MAX, "and %u more", cnt - REBUILD_SENTENCES_MAX);
    on_loss(arg, report->sentence[0]);
  }
  free(report);
  return rc;
}
