/* placement_priv: what placement.c and afford.c share. */

#ifndef WKSPD_CORE_PLACEMENT_PRIV_H
#define WKSPD_CORE_PLACEMENT_PRIV_H

#include "daemon/core/placement.h"

/* A failure of the kind BAD with its sentence; no figures, no hint. */
void place_refuse(place_fail_t *ret_fail, int node, char const *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
