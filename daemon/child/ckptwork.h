/* ckptwork: a worker's part in checkpoints: taking, restoring, checking, showing, listing,
 * removing.
 */

#ifndef WKSPD_CHILD_CKPTWORK_H
#define WKSPD_CHILD_CKPTWORK_H

#include "daemon/child/ckptask.h"

/* The question's rest is read, the sandbox entered, the work done and answered. head: magic and
   operation are set. The exit status. */
int ckptwork_main(result_ask_t const *ask, uint64_t const *tags, result_head_t *head);

#endif
