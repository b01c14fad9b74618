/* survey: requests that are decided by what the machine has. */

#ifndef WKSPD_SHELL_SURVEY_H
#define WKSPD_SHELL_SURVEY_H

#include "daemon/shell/loop.h"
#include "daemon/shell/rpc.h"

/* NULL: no memory. */
struct survey *survey_new(loop_t *loop);

/* Nothing may be under way; requests that wait go unanswered. */
void survey_free(struct survey *survey);

/* The request waits for a look that begins from now on; serve_surveyed has it then. call, which the
   event points into, is taken over. A connection has one at most: it reads no further meanwhile.
   0, or 1: no memory, nothing is taken over. */
int survey_request(loop_t *loop, engine_event_t const *event, rpc_call_t const *call);

/* The engine is to be told the pools of huge pages, as they are soon. */
void survey_pools(loop_t *loop);

#endif
