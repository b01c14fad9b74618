/* sandbox_store: what a worker with a store of checkpoints may do besides what all workers may. */

#ifndef WKSPD_CHILD_SANDBOX_STORE_H
#define WKSPD_CHILD_SANDBOX_STORE_H

#include <seccomp.h>

/* For the rest of this process: no files but below folder_fd. NULL, also where the kernel has no
   Landlock; or the name of what could not be done. Before the filter, which allows no such thing.
 */
char const *sandbox_store_fence(int folder_fd, int writes);

/* Adds to the filter. NULL, or the name of what could not be done. */
char const *sandbox_store_rules(scmp_filter_ctx ctx, int writes);

#endif
