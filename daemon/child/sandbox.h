/* sandbox: gives up everything that a worker does not need. */

#ifndef WKSPD_CHILD_SANDBOX_H
#define WKSPD_CHILD_SANDBOX_H

#include <stdint.h>

/* For the rest of this process: dies with its parent, no descriptors from first_fd on, no
   capabilities, no new privileges, cpu_s seconds of processor time, map_size bytes of addresses
   beyond what it has and a little more, no core dumps, and of the system calls only those that
   joining, locking, compacting and answering need. NULL, or the name of what could not be done. */
char const *sandbox_enter(int first_fd, uint64_t map_size, uint32_t cpu_s);

/* The same for a worker with the folder of a store, whose threads, files and processor time belong
   to it: files can be opened below folder_fd only, where the kernel has Landlock; written, renamed
   and removed only with writes. */
char const *sandbox_enter_store(int first_fd, uint64_t map_size, int folder_fd, int writes);

#endif
