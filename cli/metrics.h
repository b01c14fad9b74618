/* metrics: the daemon and its workspaces as metrics, printed once (cmd_metrics.c) or served over
   HTTP (serve.c). */

#ifndef WKSPCTL_METRICS_H
#define WKSPCTL_METRICS_H

#include "sample.h"

#include <stdio.h>

enum { FORMAT_OPENMETRICS, FORMAT_PROMETHEUS, FORMAT_JSON };

/* All samples in a text format, to out. */
void metrics_write(sample_t const *s, int format, FILE *out);

/* Serves them until SIGINT or SIGTERM: at a loopback address with a port, or at the path of a unix
   socket, which begins with '/'. CLI_OK or told. */
int serve_metrics(cli_t *cli, char const *where);

#endif
