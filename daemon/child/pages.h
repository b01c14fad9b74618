/* pages: where the pages of a mapping lie. */

#ifndef WKSPD_CHILD_PAGES_H
#define WKSPD_CHILD_PAGES_H

#include "daemon/child/result.h"

/* Asks the kernel about the pages of ask, of which mem is a mapping that may be read. Fills the
   head's figures and runs (room for RESULT_RUNS_MAX). Reads nothing of what they hold. */
void pages_ask(result_ask_t const *ask, void *mem, result_head_t *head, result_run_t *runs);

#endif
