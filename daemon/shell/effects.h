/* effects: carries out what the engine wants. */

#ifndef WKSPD_SHELL_EFFECTS_H
#define WKSPD_SHELL_EFFECTS_H

#include "daemon/shell/loop.h"

/* All effects of loop->update, in order. Answers that are known at once are posted, not stepped. */
void effects_apply(loop_t *loop);

#endif
