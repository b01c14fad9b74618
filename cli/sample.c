/* sample: see sample.h.

   The problem: usage is asked of each workspace for itself, and looking at one can fail, since it
   is not ours, is damaged or was removed in between. That must not hide the others, so what failed
   is a fact about that workspace. Only a daemon that does not answer is a failure of the whole. */

#include "sample.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Figures only: no partition has this tag, so none is listed, however many there are. */
#define NO_TAG (~0UL)

static int add(void *arg, wksp_info_t const *info) {
  sample_t *sample = arg;
  if (info->removing) {
    sample->removing_cnt++;
    return 0;
  }
  if (sample->cnt == sample->max) {
    ulong const max = sample->max ? 2 * sample->max : 16;
    sample_wksp_t *wksps = reallocarray(sample->wksps, max, sizeof *wksps);
    if (!wksps) return WKSP_E_NOMEM;
    sample->wksps = wksps;
    sample->max = max;
  }
  sample_wksp_t *wksp = &sample->wksps[sample->cnt++];
  memset(wksp, 0, sizeof *wksp);
  wksp->info = *info;
  return 0;
}

int sample_look(wksp_client_t *client, sample_wksp_t *wksp) {
  static ulong const no_tag = NO_TAG;
  wksp_query_t query;
  if (wksp->info.quarantined) {
    wksp->err = WKSP_E_UNSUPPORTED;
    return 0;
  }
  wksp->err = wksp_client_query(client, wksp->info.name, &no_tag, 1, &query);
  if (wksp->err) return wksp->err == WKSP_E_NODAEMON ? wksp->err : 0;
  wksp->usage = query.usage;
  wksp->usage.used_cnt = query.usage.total_cnt - query.usage.free_cnt;
  wksp->usage.used_sz = query.usage.total_sz - query.usage.free_sz;
  wksp->holder = query.holder;
  wksp_query_free(&query);
  return 0;
}

int sample_take(wksp_client_t *client, int look, sample_t *ret_sample) {
  sample_t sample = {.wksps = NULL};
  int err = wksp_client_version(client, &sample.version);
  if (!err) err = wksp_client_status(client, &sample.status);
  if (!err) err = wksp_client_list(client, add, &sample);
  ulong kept = 0;
  for (ulong i = 0; i < sample.cnt && !err; i++) {
    err = look ? sample_look(client, &sample.wksps[i]) : 0;
    /* One that was removed meanwhile has nothing to be told of. */
    if (sample.wksps[i].err != WKSP_E_NOTFOUND) sample.wksps[kept++] = sample.wksps[i];
  }
  sample.cnt = kept;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  sample.time_ns = (ulong)now.tv_sec * 1000000000UL + (ulong)now.tv_nsec;
  if (err)
    sample_free(&sample);
  else
    *ret_sample = sample;
  return err;
}

void sample_free(sample_t *sample) {
  free(sample->wksps);
  sample->wksps = NULL;
  sample->cnt = sample->max = 0;
}

double sample_fragmentation(fd_wksp_usage_t const *usage) {
  if (!usage->free_sz) return 0;
  return 1 - (double)usage->free_sz_max / (double)usage->free_sz;
}
