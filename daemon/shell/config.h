/* config: what the daemon is told at start: the command line, and a file for what that leaves out.
 */

#ifndef WKSPD_SHELL_CONFIG_H
#define WKSPD_SHELL_CONFIG_H

#include "conf/confile.h"
#include "daemon/core/quota.h"
#include "daemon/shell/log.h"

#define CONFIG_SOCKET_DEFAULT    "/run/wkspd/wkspd.sock"
#define CONFIG_STATE_DIR_DEFAULT "/var/lib/wkspd"

/* A unix socket's address holds 108 bytes, the last a NUL. */
#define CONFIG_SOCKET_MAX 107

typedef enum config_do {
  CONFIG_RUN = 0,
  CONFIG_VERSION,
  CONFIG_HELP,
  CONFIG_CHECK,
} config_do_t;

/* The group whose members administer, unless another is named. It need not exist. */
#define CONFIG_ADMIN_GROUP_DEFAULT "wkspd-admin"

/* Workspaces of one uid, the most that can be asked for (ENGINE_WORKSPACES_MAX). */
#define CONFIG_UID_WORKSPACES_MAX 10240U

/* Workers at a time, the most that can be asked for (ENGINE_JOBS_RUNNING_MAX). */
#define CONFIG_WORKERS_MAX 64U

/* Bytes of all that files have said that counts: each rule of quotas, and each tag, by a line of
 * the longest. */
#define CONFIG_SAID_MAX ((QUOTA_RULES_MAX + QUOTA_TAGS_MAX + 16U) * 256U)

/* Checkpoints and restores at a time, the most that can be asked for (ENGINE_TASKS_RUNNING_MAX). */
#define CONFIG_CHECKPOINTS_MAX 16U

typedef struct config {
  char socket[CONFIG_PATH_MAX];
  char state_dir[CONFIG_PATH_MAX];
  char file[CONFIG_PATH_MAX]; /* "" none */
  int file_optional;          /* nobody named it: it need not be there */
  log_level_t log_level;
  int log_level_given, state_dir_given; /* on the command line */
  unsigned workers;                     /* 0: as many as is usual */
  uint32_t admin_gid;                   /* of admin_group; 0: none */
  uint32_t uid_workspaces;              /* of one uid; 0: as many as is usual */
  quota_t quota;
  unsigned checkpoints;     /* at a time, restores included; 0: as many as is usual */
  uint64_t checkpoint_rate; /* bytes a second that all of them read; 0: any */
  int supervise;
  config_do_t what;
  char said[CONFIG_SAID_MAX];     /* what the files say, as a file: each key with its last value */
  int said_cut;                   /* there was no room for all of it */
  char mistake[CONFIG_ERROR_MAX]; /* of the files, for which an older configuration is in force */
  int argc;                       /* of the command line, for reading all of it again */
  char **argv;
} config_t;

/* Reads argv, then the file that it names, or else wkspd.conf in $CONFIGURATION_DIRECTORY if that
   is set, and all of FILE.d; what is read later wins, and the command line over all. 0, or 2 and a
   sentence in error (CONFIG_ERROR_MAX bytes): names the argument, or the file and line, the value,
   and what is allowed. argv must live as long as the config. */
int config_read(config_t *ret_config, int argc, char **argv, char *error);

/* The same for a start. A daemon that a service manager has started ($NOTIFY_SOCKET) goes on with
   what it has read last without a mistake (config_keep.h), if there is such a thing, where it is a
   file that has one: 0 then, and `mistake` is the sentence. */
int config_start(config_t *ret_config, int argc, char **argv, char *error);

/* One file, into a config that holds defaults; 0 or 2. */
int config_file(config_t *config, char const *path, char *error);

/* The folder beside the file whose files declare workspaces; 1, or 0: there is no file. */
int config_declared(config_t const *config, char ret_path[CONFIG_PATH_MAX]);

char const *config_help(void);

#endif
