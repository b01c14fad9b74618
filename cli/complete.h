/* complete: candidates for the last word of a command line, for the shells. */

#ifndef WKSPCTL_COMPLETE_H
#define WKSPCTL_COMPLETE_H

#include "cli.h"

/* Prints what words[word_cnt - 1] can become, in the form that complete.c describes. CLI_OK. */
int complete(cli_command_t const *table, int word_cnt, char *const *words);

#endif
