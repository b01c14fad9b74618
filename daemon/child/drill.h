/* drill: a checkpoint restored for trial, by a worker that has nothing but the store. */

#ifndef WKSPD_CHILD_DRILL_H
#define WKSPD_CHILD_DRILL_H

#include "wksp/ckpt.h"

/* Before the sandbox is entered: makes this process the first to go if memory runs out. Bytes of
   memory that the machine could give, 0: it does not say. */
ulong drill_prepare(void);

/* Restores checkpoint number into memory of this process's own, in which all of it is verified and
   which is then given back. opts: as of wksp_ckpt_restore; map_sz: what the checkpoint was said to
   take of addresses; shmem is not read. As wksp_ckpt_restore, and E_LIMIT if that would take more
   than seven eighths of what is available (0: not known). */
int drill_restore(wksp_ckpt_store_t *store, ulong number, ulong available,
                  wksp_ckpt_restore_opts_t const *opts, wksp_ckpt_restored_t *ret_restored);

#endif
