/* sandbox: gives up everything that a worker does not need. */

#ifndef WKSPD_CHILD_SANDBOX_H
#define WKSPD_CHILD_SANDBOX_H

#include <stdint.h>

/* For the rest of this process: dies with its parent, no descriptors from first_fd on, no
   capabilities, no new privileges, cpu_s seconds of processor time, map_size bytes of addresses
   beyond what it has and a little more, no core dumps, and of the system calls only those that
   joining, locking, compacting and answering need. NULL, or the name of what could not be done. */
char const *sandbox_enter(int first_fd, uint64_t map_size, uint32_t cpu_s);

#endif
