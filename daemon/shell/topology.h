/* topology: reads what daemon/core/topology.h describes from this machine. */

#ifndef WKSPD_SHELL_TOPOLOGY_H
#define WKSPD_SHELL_TOPOLOGY_H

#include "daemon/core/topology.h"

/* The machine as it is now. What cannot be read counts as not being there; the result always
   satisfies topo_check. Any thread; some 20 small files for each node. */
void topology_read(topo_t *ret_topo);

/* The same, with other folders for /sys and /proc: what tests make up. */
void topology_read_at(char const *sys, char const *proc, topo_t *ret_topo);

/* Bytes of ordinary pages that may be taken before the kernel starts to kill: MemAvailable, less
   where a cgroup allows less, less a reserve. */
uint64_t topology_free_4k(char const *sys, char const *proc);

/* Bytes that the kernel may add to what is taken of shared ordinary pages, since it is set to make
   huge ones of them by itself: 0 or those of one of these. */
uint64_t topology_slack_4k(char const *sys);

/* The cpu that a process has run on last, or, if that is not known, the one that this thread runs
   on; -1: neither is. */
int topology_cpu_of(int32_t pid);

#endif
