/* config_keep: the last configuration that could be read, kept for a start that cannot read one.

   wkspd.good in the state folder has what the files said, in their own form, and ends with a
   checksum in a comment. It is about the files alone: the command line counts anew. */

#ifndef WKSPD_SHELL_CONFIG_KEEP_H
#define WKSPD_SHELL_CONFIG_KEEP_H

#include "daemon/shell/config.h"

/* Where: the state folder as far as no file has to be read to know it, that is --state-dir, or else
   the first of $STATE_DIRECTORY. 1 and *ret_path, or 0: not known, and nothing is kept. state_dir:
   the option's, "" if it was not given. */
int config_keep_folder(char const *state_dir, char ret_path[CONFIG_PATH_MAX]);

/* Makes it hold this configuration; writes only what is not there yet. 0, or errno and a sentence
   in ret_detail (CONFIG_ERROR_MAX). The folder must be ours and nobody else's to write. */
int config_keep(config_t const *config, char *ret_detail);

/* Reads it into a config that holds defaults. 0, or 2: there is none, or it is damaged. */
int config_kept(config_t *config, char const *folder);

#endif
