/* effects: carries out what the engine wants. */

#ifndef WKSPD_SHELL_EFFECTS_H
#define WKSPD_SHELL_EFFECTS_H

#include "daemon/shell/loop.h"

/* All effects of loop->update, in order. Answers that are known at once are posted, not stepped. */
void effects_apply(loop_t *loop);

/* A MEMORY_MAKE or LEASE_MAKE that waited for its number (ids.c). Not from within a step. */
void effects_go_on(loop_t *loop, engine_effect_t const *effect);

#endif
