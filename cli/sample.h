/* sample: what metrics and top know of the daemon at one time: its figures, its workspaces, and for
   each that lets us what is used of it; its checkpoints, schedules and jobs.

   Workspaces that are being removed are counted, not listed: another may have their name by now. */

#ifndef WKSPCTL_SAMPLE_H
#define WKSPCTL_SAMPLE_H

#include "cli.h"

#include "wksp/client_ckpt.h"

typedef struct sample_wksp {
  wksp_info_t info;
  fd_wksp_usage_t usage; /* if err is 0 */
  wksp_holder_t holder;
  ulong suspect_cnt; /* blocks */
  int err;           /* of the query: E_PERM, E_CORRUPT, ...; E_UNSUPPORTED if it is not served */
  ulong verified_ns; /* set by who lists: as of sample_ckpt_t */
} sample_wksp_t;

/* The checkpoints of one name, and its schedule. */
typedef struct sample_ckpt {
  char name[FD_WKSP_NAME_MAX + 1]; /* "": of bad ones whose workspace is not known */
  ulong cnt, bad_cnt;
  ulong file_size;   /* bytes, of all */
  ulong verified_ns; /* when the newest was taken that has been verified; 0: none has */
  ulong found_ns;    /* when that one was last found sound */
  char verified_id[WKSP_CHECKPOINT_ID_MAX];
  ulong drilled_ns;        /* when one was last restored, in earnest or for trial; 0: none was */
  wksp_checkpoint_t *good; /* the newest that is not known to be bad; NULL: none */
  int scheduled;           /* schedule is one */
  wksp_schedule_t schedule;
} sample_ckpt_t;

/* Pages of one workspace on one node. */
typedef struct sample_pages {
  char name[FD_WKSP_NAME_MAX + 1];
  int node; /* -1: not known */
  ulong cnt;
} sample_pages_t;

/* Pages of a workspace that are looked at: 1 GiB of 4 KiB each, 512 GiB of 2 MiB each. */
#define SAMPLE_PAGES_MAX 262144UL

#define SAMPLE_KINDS  6 /* WKSP_JOB_CHECKPOINT and so on; 0: others */
#define SAMPLE_STATES 6 /* WKSP_JOB_QUEUED and so on */

typedef struct sample {
  wksp_version_t version;
  wksp_status_t status;
  ulong time_ns; /* since 1970 */
  sample_wksp_t *wksps;
  ulong cnt, max;
  ulong removing_cnt;
  sample_ckpt_t *ckpts; /* by name; of workspaces that are gone, too */
  ulong ckpt_cnt, ckpt_max;
  sample_pages_t *pages; /* a workspace's follow each other */
  ulong page_cnt, page_max;
  uint jobs[SAMPLE_KINDS][SAMPLE_STATES];
} sample_t;

/* Asks the daemon. look: into each workspace, too, and for checkpoints, pages and jobs; else these
   are all 0. 0 and *ret_sample, to be given to sample_free; or a WKSP_E_*, with its sentence. The
   client is connected. */
int sample_take(wksp_client_t *client, int look, sample_t *ret_sample);

/* Looks into one. 0, also if that failed, for which wksp->err is; or E_NODAEMON. */
int sample_look(wksp_client_t *client, sample_wksp_t *wksp);

/* The checkpoints of a name, without its schedule. 0 and *ret_ckpt, whose `good` is to be freed; or
 * a WKSP_E_*. */
int sample_checkpoints(wksp_client_t *client, char const *name, sample_ckpt_t *ret_ckpt);

void sample_free(sample_t *sample);

/* How much of what is free does not lie in the largest free piece: 0 to 1. */
double sample_fragmentation(fd_wksp_usage_t const *usage);

#endif
