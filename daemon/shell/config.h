/* config: what the daemon is told at start: the command line, and a file for what that leaves out.
 */

#ifndef WKSPD_SHELL_CONFIG_H
#define WKSPD_SHELL_CONFIG_H

#include "daemon/shell/log.h"

#define CONFIG_SOCKET_DEFAULT    "/run/wkspd/wkspd.sock"
#define CONFIG_STATE_DIR_DEFAULT "/var/lib/wkspd"

/* A path of the configuration; PATH_MAX of Linux. */
#define CONFIG_PATH_MAX 4096

/* Bytes of a line of the file, without its end: inih would cut what is longer, so it is refused. */
#define CONFIG_LINE_MAX 198

/* Bytes of the file: some 5,000 of the longest lines, for three keys and as many comments as
 * anybody likes. */
#define CONFIG_FILE_MAX (1U << 20)

/* A unix socket's address holds 108 bytes, the last a NUL. */
#define CONFIG_SOCKET_MAX 107

typedef enum config_do {
  CONFIG_RUN = 0,
  CONFIG_VERSION,
  CONFIG_HELP,
} config_do_t;

typedef struct config {
  char socket[CONFIG_PATH_MAX];
  char state_dir[CONFIG_PATH_MAX];
  char file[CONFIG_PATH_MAX]; /* "" none */
  log_level_t log_level;
  int supervise;
  config_do_t what;
} config_t;

/* Room for a sentence about a mistake. */
#define CONFIG_ERROR_MAX 1024

/* Reads argv, then the file it names, if any; what the command line says wins. 0, or 2 and a
   sentence in error (CONFIG_ERROR_MAX bytes): names the argument, or the file and line, the value,
   and what is allowed. */
int config_read(config_t *ret_config, int argc, char **argv, char *error);

/* The file alone, into a config that holds defaults; 0 or 2. */
int config_file(config_t *config, char const *path, char *error);

char const *config_help(void);

#endif
