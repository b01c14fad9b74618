/* sample: what metrics and top know of the daemon at one time: its figures, its workspaces, and for
   each that lets us what is used of it.

   Workspaces that are being removed are counted, not listed: another may have their name by now. */

#ifndef WKSPCTL_SAMPLE_H
#define WKSPCTL_SAMPLE_H

#include "cli.h"

typedef struct sample_wksp {
  wksp_info_t info;
  fd_wksp_usage_t usage; /* if err is 0 */
  wksp_holder_t holder;
  int err; /* of the query: E_PERM, E_CORRUPT, ...; E_UNSUPPORTED if it is not served */
} sample_wksp_t;

typedef struct sample {
  wksp_version_t version;
  wksp_status_t status;
  ulong time_ns; /* since 1970 */
  sample_wksp_t *wksps;
  ulong cnt, max;
  ulong removing_cnt;
} sample_t;

/* Asks the daemon. look: into each workspace, too; else usage and holder are all 0. 0 and
   *ret_sample, to be given to sample_free; or a WKSP_E_*, with its sentence. The client is
   connected. */
int sample_take(wksp_client_t *client, int look, sample_t *ret_sample);

/* Looks into one. 0, also if that failed, for which wksp->err is; or E_NODAEMON. */
int sample_look(wksp_client_t *client, sample_wksp_t *wksp);

void sample_free(sample_t *sample);

/* How much of what is free does not lie in the largest free piece: 0 to 1. */
double sample_fragmentation(fd_wksp_usage_t const *usage);

#endif
