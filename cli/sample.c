/* sample: see sample.h.

   The problem: usage is asked of each workspace for itself, and looking at one can fail, since it
   is not ours, is damaged or was removed in between. That must not hide the others, so what failed
   is a fact about that workspace. Only a daemon that does not answer is a failure of the whole. One
   before this version knows no checkpoints, which is as if there were none.

   Where pages lie is found by walking all of them, so it is asked of workspaces of
   SAMPLE_PAGES_MAX at most. */

#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Figures only: no partition has this tag, so none is listed, however many there are. */
#define NO_TAG (~0UL)

/* Room for one more item of an array. The array, moved perhaps, or NULL: as it was. */
static void *more(void *items, size_t size, ulong cnt, ulong *max) {
  if (items && cnt < *max) return items;
  ulong const wanted = *max ? 2 * *max : 16;
  void *moved = reallocarray(items, wanted, size);
  if (moved) *max = wanted;
  return moved;
}

static int add(void *arg, wksp_info_t const *info) {
  sample_t *sample = arg;
  if (info->removing) {
    sample->removing_cnt++;
    return 0;
  }
  sample_wksp_t *wksps = more(sample->wksps, sizeof *wksps, sample->cnt, &sample->max);
  if (!wksps) return WKSP_E_NOMEM;
  sample->wksps = wksps;
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
  wksp->suspect_cnt = query.suspect_cnt;
  wksp_query_free(&query);
  return 0;
}

/* Checkpoints
 * ---------------------------------------------------------------------------------------------- */

static int ckpt_add(sample_ckpt_t *ckpt, wksp_checkpoint_t const *one) {
  ckpt->cnt++;
  ckpt->file_size += one->file_size;
  if (one->bad[0]) {
    ckpt->bad_cnt++;
    return 0;
  }
  if (one->verified_ns && one->created_ns > ckpt->verified_ns) {
    ckpt->verified_ns = one->created_ns;
    ckpt->found_ns = one->verified_ns;
    memcpy(ckpt->verified_id, one->id, sizeof ckpt->verified_id);
  }
  if (one->drilled_ns > ckpt->drilled_ns) ckpt->drilled_ns = one->drilled_ns;
  if (ckpt->good && ckpt->good->created_ns > one->created_ns) return 0;
  if (!ckpt->good && !(ckpt->good = malloc(sizeof *ckpt->good))) return WKSP_E_NOMEM;
  *ckpt->good = *one;
  return 0;
}

/* A new one for that name, at the end; NULL: no memory. */
static sample_ckpt_t *ckpt_new(sample_t *sample, char const *name) {
  sample_ckpt_t *ckpts = more(sample->ckpts, sizeof *ckpts, sample->ckpt_cnt, &sample->ckpt_max);
  if (!ckpts) return NULL;
  sample->ckpts = ckpts;
  sample_ckpt_t *ckpt = &ckpts[sample->ckpt_cnt++];
  memset(ckpt, 0, sizeof *ckpt);
  snprintf(ckpt->name, sizeof ckpt->name, "%s", name);
  return ckpt;
}

/* They come in the order of names. */
static int on_checkpoint(void *arg, wksp_checkpoint_t const *one) {
  sample_t *sample = arg;
  sample_ckpt_t *last = sample->ckpt_cnt ? &sample->ckpts[sample->ckpt_cnt - 1] : NULL;
  if (!last || strcmp(last->name, one->name)) last = ckpt_new(sample, one->name);
  return last ? ckpt_add(last, one) : WKSP_E_NOMEM;
}

static int on_own(void *arg, wksp_checkpoint_t const *one) {
  return ckpt_add(arg, one);
}

int sample_checkpoints(wksp_client_t *client, char const *name, sample_ckpt_t *ret_ckpt) {
  sample_ckpt_t ckpt = {.cnt = 0};
  snprintf(ckpt.name, sizeof ckpt.name, "%s", name);
  int const err = wksp_client_checkpoints(client, name, on_own, &ckpt);
  if (err)
    free(ckpt.good);
  else
    *ret_ckpt = ckpt;
  return err;
}

static int by_name(void const *a, void const *b) {
  return strcmp(((sample_ckpt_t const *)a)->name, ((sample_ckpt_t const *)b)->name);
}

/* Not to be had, by an older daemon or for us: as if there were none. */
static int none_of(int err) {
  return err == WKSP_E_NOTFOUND || err == WKSP_E_PERM || err == WKSP_E_UNSUPPORTED;
}

static int take_schedules(wksp_client_t *client, sample_t *sample) {
  ulong const with = sample->ckpt_cnt;
  if (with) qsort(sample->ckpts, with, sizeof *sample->ckpts, by_name);
  for (ulong i = 0; i < sample->cnt; i++) {
    sample_ckpt_t key;
    snprintf(key.name, sizeof key.name, "%s", sample->wksps[i].info.name);
    if (with && bsearch(&key, sample->ckpts, with, sizeof key, by_name)) continue;
    if (!ckpt_new(sample, key.name)) return WKSP_E_NOMEM;
  }
  for (ulong i = 0; i < sample->ckpt_cnt; i++) {
    sample_ckpt_t *ckpt = &sample->ckpts[i];
    if (!ckpt->name[0]) continue;
    int const err = wksp_client_schedule_get(client, ckpt->name, &ckpt->schedule);
    if (err < 0 && !none_of(err)) return err;
    ckpt->scheduled = !err;
  }
  return 0;
}

static int on_job(void *arg, wksp_job_t const *job) {
  sample_t *sample = arg;
  if (job->state < SAMPLE_STATES)
    sample->jobs[job->kind < SAMPLE_KINDS ? job->kind : 0][job->state]++;
  return 0;
}

/* Pages of one workspace, by node. */
static int take_pages(wksp_client_t *client, sample_t *sample, wksp_info_t const *info) {
  wksp_placement_t placement;
  if (info->quarantined || info->size / info->page_size > SAMPLE_PAGES_MAX) return 0;
  int err = wksp_client_placement(client, info->name, &placement);
  if (err) return err == WKSP_E_NODAEMON ? err : 0;
  for (uint i = 0; i < placement.node_cnt && !err; i++) {
    sample_pages_t *pages = more(sample->pages, sizeof *pages, sample->page_cnt, &sample->page_max);
    err = pages ? 0 : WKSP_E_NOMEM;
    if (err) break;
    sample->pages = pages;
    pages[sample->page_cnt] =
        (sample_pages_t){.node = placement.node[i].node, .cnt = placement.node[i].got};
    memcpy(pages[sample->page_cnt++].name, info->name, sizeof info->name);
  }
  wksp_placement_free(&placement);
  return err;
}

static int take_more(wksp_client_t *client, sample_t *sample) {
  int err = wksp_client_checkpoints(client, NULL, on_checkpoint, sample);
  if (none_of(err)) err = 0;
  if (!err) err = take_schedules(client, sample);
  if (!err) err = wksp_client_jobs(client, on_job, sample);
  if (none_of(err)) err = 0;
  for (ulong i = 0; i < sample->cnt && !err; i++)
    err = take_pages(client, sample, &sample->wksps[i].info);
  return err;
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
  if (!err && look) err = take_more(client, &sample);
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
  for (ulong i = 0; i < sample->ckpt_cnt; i++) free(sample->ckpts[i].good);
  free(sample->ckpts);
  free(sample->pages);
  free(sample->wksps);
  memset(sample, 0, sizeof *sample);
}

double sample_fragmentation(fd_wksp_usage_t const *usage) {
  if (!usage->free_sz) return 0;
  return 1 - (double)usage->free_sz_max / (double)usage->free_sz;
}
