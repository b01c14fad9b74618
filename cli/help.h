/* help: what --help prints, from the table of commands. */

#ifndef WKSPCTL_HELP_H
#define WKSPCTL_HELP_H

#include "cli.h"

void help_overview(cli_command_t const *table);
void help_every(cli_command_t const *table); /* a line for each command */
void help_group(cli_command_t const *table, char const *group);
void help_command(cli_command_t const *table, cli_command_t const *command);

#endif
