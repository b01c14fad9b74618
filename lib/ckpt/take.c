/* take: a checkpoint in one call, with the pause that its mode wants.

   Quiesce: the first pass while everybody works; then brackets are closed, and inside that pause
   the second pass; then they are opened, and the rest is written. Whoever stays inside a bracket,
   and a pause that came to its end before we did, cost the mode: by the caller's choice the
   checkpoint is then a fuzzy one, and says so, or there is none. */

#include "core/call.h"
#include "core/fail.h"
#include "wksp/ckpt.h"
#include "wksp/pause.h"

#include <string.h>

#define WAIT_NS 100000000UL
#define HOLD_NS 1000000000UL

typedef struct taken {
  uint mode;
  ulong pause_ns;
  uint silent_cnt;
  wksp_ckpt_silent_t silent[WKSP_CKPT_SILENT_MAX];
} taken_t;

_Static_assert(sizeof(wksp_ckpt_silent_t) == sizeof(wksp_inside_t), "one and the same");

/* The second pass in a pause. */
static int finish_paused(wksp_ckpt_writer_t *writer, fd_wksp_t *wksp, wksp_ckpt_opts_t const *opts,
                         taken_t *taken) {
  wksp_inside_t inside[WKSP_CKPT_SILENT_MAX];
  uint64_t begin = wksp__now_ns();
  int err = wksp_pause(wksp, opts->wait_ns ? opts->wait_ns : WAIT_NS,
                       opts->pause_ns ? opts->pause_ns : HOLD_NS, inside, WKSP_CKPT_SILENT_MAX,
                       &taken->silent_cnt);
  if (err == WKSP_E_TIMEDOUT) memcpy(taken->silent, inside, sizeof inside);
  if (err) return err;
  err = wksp_ckpt_finish(writer);
  int held = wksp_resume(wksp);
  taken->pause_ns = wksp__now_ns() - begin;
  if (!err && !held) taken->mode = WKSP_CKPT_QUIESCE;
  return err ? err : held;
}

int wksp_ckpt_take(wksp_ckpt_store_t *store, fd_wksp_t *wksp, wksp_ckpt_opts_t const *opts,
                   wksp_ckpt_result_t *ret_result) {
  wksp_ckpt_writer_t *writer;
  wksp_ckpt_opts_t none = {0};
  taken_t taken = {.mode = WKSP_CKPT_FUZZY};
  if (!opts) opts = &none;
  int err = wksp_ckpt_begin(store, wksp, opts, &writer);
  if (err) return err;
  err = wksp_ckpt_scan(writer);
  if (!err && opts->mode == WKSP_CKPT_QUIESCE) {
    err = finish_paused(writer, wksp, opts, &taken);
    if (err == WKSP_E_TIMEDOUT && opts->degrade) err = 0;
  }
  if (err) {
    wksp_ckpt_cancel(writer);
    return err;
  }
  wksp_ckpt_finished(writer, taken.mode, taken.pause_ns, taken.silent, taken.silent_cnt);
  return wksp_ckpt_publish(writer, ret_result);
}
