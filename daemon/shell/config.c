/* The problem: a daemon that starts with half of what it was told is worse than one that refuses.

   The model: defaults, then the file, then those of the folder beside it in the order of their
   names, then the command line; each may say again what one before it has said. Everything unknown,
   too long or malformed is an error that names where it stands, its value, and what would do. All
   of it can be read again at any time (declare.h).

   What a file says counts as a whole or not at all: a start that finds a mistake has the whole of
   what was read before it, or refuses.

   Refuses: includes, and environment variables but the one by which systemd names the folder. */

#include "daemon/shell/config.h"

#include "daemon/shell/config_keep.h"
#include "daemon/shell/declared.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_NAME "wkspd.conf"

typedef struct reader {
  config_t *config;
  unsigned seen_socket, seen_state_dir, seen_level, seen_workers, seen_admin, seen_uid_workspaces,
      seen_ckpts, seen_rate;
} reader_t;

static int set_path(char *ret_path, char const *value, size_t len_max) {
  size_t len = strlen(value);
  if (!len || len > len_max || value[0] != '/') return 0;
  memcpy(ret_path, value, len + 1);
  return 1;
}

static int set_number(unsigned *ret_number, char const *value, unsigned long max) {
  char *end;
  unsigned long number = strtoul(value, &end, 10);
  if (value[0] < '1' || value[0] > '9' || *end || number > max) return 0;
  *ret_number = (unsigned)number;
  return 1;
}

/* Who may do and have what. NULL, or what the value should have been; *ret_seen NULL: no such key.
 */
static char const *set_share(reader_t *reader, char const *name, char const *value,
                             unsigned **ret_seen) {
  config_t *config = reader->config;
  if (!strcmp(name, "admin_group")) {
    *ret_seen = &reader->seen_admin;
    return declared_group(value, &config->admin_gid) && config->admin_gid
               ? NULL
               : "a group or gid of this machine, but 0";
  }
  if (!strcmp(name, "uid_workspaces")) {
    *ret_seen = &reader->seen_uid_workspaces;
    return set_number(&config->uid_workspaces, value, CONFIG_UID_WORKSPACES_MAX)
               ? NULL
               : "a number from 1 to 10240";
  }
  return NULL;
}

/* A tag that members of one group alone may use. */
static void on_tag_group(confile_t *file, quota_t *quota, char const *tag, char const *value) {
  uint32_t gid, i = 0;
  if (!declared_group(value, &gid)) {
    confile_refuse(file, "tag.%s.group = '%.200s' is not a group or gid of this machine", tag,
                   value);
    return;
  }
  while (i < quota->tag_cnt && strcmp(quota->tag[i].tag, tag) != 0) i++;
  if (i == QUOTA_TAGS_MAX) {
    confile_refuse(file, "more than %u tags that are kept for a group", QUOTA_TAGS_MAX);
    return;
  }
  if (i == quota->tag_cnt) quota->tag_cnt++;
  quota->tag[i].gid = gid;
  memcpy(quota->tag[i].tag, tag, sizeof quota->tag[i].tag);
}

/* Rules of quotas: what a later file says about the same takes the place of what was said. */
static void on_quota(confile_t *file, quota_t *quota, char const *name, char const *value) {
  quota_rule_t rule;
  uint64_t bytes = 0;
  uint32_t i = 0;
  char tag[SPEC_TAG_MAX + 1];
  if (quota_read_tag(name, tag)) {
    on_tag_group(file, quota, tag, value);
    return;
  }
  if (strcmp(value, "0") != 0 && !declared_bytes(value, &bytes)) {
    confile_refuse(file, "%s = '%.200s' is not a size such as 4G, or 0", name, value);
    return;
  }
  if (quota_read(name, bytes, &rule)) {
    confile_refuse(file,
                   "'%.100s' is no quota (known: default.2M, uid1000.2M, tag.NAME.2M, "
                   "default.2M.node0, ... for pages of 4k, 2M, 1G; any of them with .workspaces; "
                   "tag.NAME.group)",
                   name);
    return;
  }
  while (i < quota->cnt && !quota_same(&quota->rule[i], &rule)) i++;
  if (i == QUOTA_RULES_MAX) {
    confile_refuse(file, "more than %u quotas", QUOTA_RULES_MAX);
    return;
  }
  if (i == quota->cnt) quota->cnt++;
  quota->rule[i] = rule;
}

/* Writes down what was said, in the place of what was said of the same before. */
static void note_said(config_t *config, char const *section, char const *name, char const *value) {
  char key[CONFIG_LINE_MAX * 2 + 8];
  size_t len = strlen(config->said);
  int key_len = snprintf(key, sizeof key, "[%s]\n%s=", section, name);
  for (char *at = config->said; (at = strstr(at, key)); at++) {
    if (at != config->said && at[-1] != '\n') continue;
    char *end = strchr(at + key_len, '\n') + 1;
    memmove(at, end, strlen(end) + 1);
    len -= (size_t)(end - at);
    break;
  }
  size_t room = sizeof config->said - len;
  int more = snprintf(config->said + len, room, "%s%s\n", key, value);
  if ((size_t)more < room) return;
  config->said[len] = '\0';
  config->said_cut = 1;
}

static void take_key(confile_t *file, char const *section, char const *name, char const *value) {
  reader_t *reader = file->arg;
  config_t *config = reader->config;
  unsigned *seen = NULL;
  char const *want = NULL;
  if (!strcmp(section, "quota")) {
    on_quota(file, &config->quota, name, value);
    return;
  }
  if (strcmp(section, "wkspd")) {
    confile_refuse(file, "unknown section [%.100s] (known: [wkspd], [quota])", section);
    return;
  }
  if (!strcmp(name, "socket")) {
    seen = &reader->seen_socket;
    if (!set_path(config->socket, value, CONFIG_SOCKET_MAX))
      want = "an absolute path of at most 107 bytes";
  } else if (!strcmp(name, "state_dir")) {
    seen = &reader->seen_state_dir;
    if (!set_path(config->state_dir, value, CONFIG_PATH_MAX - 64)) want = "an absolute path";
  } else if (!strcmp(name, "log_level")) {
    seen = &reader->seen_level;
    if (!log_level_parse(value, &config->log_level)) want = "debug, info, warn or error";
  } else if (!strcmp(name, "workers")) {
    seen = &reader->seen_workers;
    if (!set_number(&config->workers, value, CONFIG_WORKERS_MAX)) want = "a number from 1 to 64";
  } else if (!strcmp(name, "checkpoints")) {
    seen = &reader->seen_ckpts;
    if (!set_number(&config->checkpoints, value, CONFIG_CHECKPOINTS_MAX))
      want = "a number from 1 to 16";
  } else if (!strcmp(name, "checkpoint_rate")) {
    seen = &reader->seen_rate;
    if (!declared_bytes(value, &config->checkpoint_rate)) want = "bytes a second such as 200M";
  } else {
    want = set_share(reader, name, value, &seen);
  }
  if (!seen) {
    confile_refuse(file,
                   "unknown key '%.100s' (known: socket, state_dir, log_level, workers, "
                   "checkpoints, checkpoint_rate, admin_group, uid_workspaces)",
                   name);
    return;
  }
  if (want)
    confile_refuse(file, "%s = '%.200s' is not %s", name, value, want);
  else
    confile_twice(file, name, seen);
}

static void on_key(confile_t *file, char const *section, char const *name, char const *value) {
  reader_t *reader = file->arg;
  take_key(file, section, name, value);
  if (!file->error[0]) note_said(reader->config, section, name, value);
}

int config_file(config_t *config, char const *path, char *error) {
  reader_t reader = {.config = config};
  return confile_read(path, on_key, &reader, error);
}

/* The file and its folder. 0 or 2. */
static int read_files(config_t *config, char *error) {
  char folder[CONFIG_PATH_MAX + 8], path[CONFIG_PATH_MAX + 512];
  char **names = NULL;
  size_t cnt = 0;
  int there = !config->file_optional || !access(config->file, F_OK) || errno != ENOENT;
  int bad = there ? config_file(config, config->file, error) : 0;
  snprintf(folder, sizeof folder, "%s.d", config->file);
  if (!bad) bad = confile_folder(folder, &names, &cnt, error);
  for (size_t i = 0; i < cnt && !bad; i++) {
    snprintf(path, sizeof path, "%s/%s", folder, names[i]);
    bad = config_file(config, path, error);
  }
  confile_folder_free(names, cnt);
  return bad;
}

int config_declared(config_t const *config, char ret_path[CONFIG_PATH_MAX]) {
  char const *slash = strrchr(config->file, '/');
  if (!config->file[0]) return 0;
  int len = slash ? (int)(slash - config->file) + 1 : 0;
  return snprintf(ret_path, CONFIG_PATH_MAX, "%.*sworkspaces.d", len, config->file) <
         CONFIG_PATH_MAX;
}

enum {
  OPT_SOCKET = 256,
  OPT_STATE_DIR,
  OPT_CONFIG,
  OPT_LOG_LEVEL,
  OPT_SUPERVISE,
  OPT_CHECK,
  OPT_VERSION,
  OPT_HELP
};

static struct option const options[] = {
    {"socket", required_argument, NULL, OPT_SOCKET},
    {"state-dir", required_argument, NULL, OPT_STATE_DIR},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"supervise", no_argument, NULL, OPT_SUPERVISE},
    {"check-config", no_argument, NULL, OPT_CHECK},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* A path of the command line may be relative: it is kept as it is, the daemon never changes its
 * directory. */
static int arg_path(char *ret_path, size_t len_max, char const *option, char *error) {
  size_t len = strlen(optarg);
  if (!len || len > len_max) {
    snprintf(error, CONFIG_ERROR_MAX, "--%s '%.200s': a path is 1 to %zu bytes long, this is %zu",
             option, optarg, len_max, len);
    return 2;
  }
  memcpy(ret_path, optarg, len + 1);
  return 0;
}

static int read_args(config_t *over, int argc, char **argv, char *error) {
  int opt, bad = 0;
  optind = 0;
  opterr = 0;
  while (!bad && (opt = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
    switch (opt) {
    case OPT_SOCKET:
      bad = arg_path(over->socket, CONFIG_SOCKET_MAX, "socket", error);
      break;
    case OPT_STATE_DIR:
      bad = arg_path(over->state_dir, CONFIG_PATH_MAX - 64, "state-dir", error);
      break;
    case OPT_CONFIG:
      bad = arg_path(over->file, CONFIG_PATH_MAX - 1, "config", error);
      break;
    case OPT_LOG_LEVEL:
      if (!log_level_parse(optarg, &over->log_level)) {
        snprintf(error, CONFIG_ERROR_MAX, "--log-level '%.200s' is not debug, info, warn or error",
                 optarg);
        bad = 2;
      }
      over->log_level_given = 1;
      break;
    case OPT_SUPERVISE:
      over->supervise = 1;
      break;
    case OPT_CHECK:
      over->what = CONFIG_CHECK;
      break;
    case OPT_VERSION:
      over->what = CONFIG_VERSION;
      break;
    case OPT_HELP:
      over->what = CONFIG_HELP;
      break;
    case ':':
      snprintf(error, CONFIG_ERROR_MAX, "%.200s wants a value, see --help", argv[optind - 1]);
      bad = 2;
      break;
    default:
      snprintf(error, CONFIG_ERROR_MAX, "unknown option '%.200s', see --help", argv[optind - 1]);
      bad = 2;
    }
  }
  if (!bad && optind < argc) {
    snprintf(error, CONFIG_ERROR_MAX, "unexpected argument '%.200s', see --help", argv[optind]);
    bad = 2;
  }
  return bad;
}

/* Where systemd says that configuration is. */
static void default_file(config_t *config) {
  char const *folder = getenv("CONFIGURATION_DIRECTORY");
  if (!folder || folder[0] != '/' || strlen(folder) + sizeof "/" FILE_NAME > CONFIG_PATH_MAX - 64)
    return;
  snprintf(config->file, sizeof config->file, "%s/" FILE_NAME, folder);
  config->file_optional = 1;
}

static void set_defaults(config_t *config, config_t const *over) {
  static config_t const none;
  *config = none;
  strcpy(config->socket, CONFIG_SOCKET_DEFAULT);
  strcpy(config->state_dir, CONFIG_STATE_DIR_DEFAULT);
  config->log_level = LOG_LEVEL_INFO;
  if (!declared_group(CONFIG_ADMIN_GROUP_DEFAULT, &config->admin_gid)) config->admin_gid = 0;
  memcpy(config->file, over->file, sizeof config->file);
  if (!config->file[0]) default_file(config);
}

/* What was kept, instead of files with a mistake. 0, or 2: error is as before. */
static int recall(config_t *config, config_t const *over, char const *error) {
  char folder[CONFIG_PATH_MAX];
  if (over->what != CONFIG_RUN || over->supervise || !getenv("NOTIFY_SOCKET") ||
      !config_keep_folder(over->state_dir, folder))
    return 2;
  set_defaults(config, over);
  int bad = config_kept(config, folder);
  if (!bad) snprintf(config->mistake, sizeof config->mistake, "%s", error);
  return bad;
}

static int read_all(config_t *ret_config, int argc, char **argv, int starting, char *error) {
  config_t over = {.socket = ""}, config;
  error[0] = '\0';
  int bad = read_args(&over, argc, argv, error);
  if (bad) return bad;
  set_defaults(&config, &over);
  if (config.file[0] && (over.what == CONFIG_RUN || over.what == CONFIG_CHECK)) {
    bad = read_files(&config, error);
    if (bad && (!starting || recall(&config, &over, error))) return bad;
  }
  if (over.socket[0]) memcpy(config.socket, over.socket, sizeof config.socket);
  if (over.state_dir[0]) memcpy(config.state_dir, over.state_dir, sizeof config.state_dir);
  if (over.log_level_given) config.log_level = over.log_level;
  config.log_level_given = over.log_level_given;
  config.state_dir_given = over.state_dir[0] != '\0';
  config.supervise = over.supervise;
  config.what = over.what;
  config.argc = argc;
  config.argv = argv;
  *ret_config = config;
  return 0;
}

int config_read(config_t *ret_config, int argc, char **argv, char *error) {
  return read_all(ret_config, argc, argv, 0, error);
}

int config_start(config_t *ret_config, int argc, char **argv, char *error) {
  return read_all(ret_config, argc, argv, 1, error);
}

char const *config_help(void) {
  return "wkspd: owns shared-memory workspaces and hands them to clients (libwksp, wkspctl).\n"
         "\n"
         "usage: wkspd [--socket PATH] [--state-dir DIR] [--config FILE] [--log-level LEVEL]\n"
         "             [--supervise]\n"
         "       wkspd --check-config [--config FILE]\n"
         "       wkspd --version | --help\n"
         "\n"
         "  --socket PATH      listen here (" CONFIG_SOCKET_DEFAULT ")\n"
         "  --state-dir DIR    keep specs of workspaces here (" CONFIG_STATE_DIR_DEFAULT ")\n"
         "  --config FILE      section [wkspd], keys socket, state_dir, log_level, workers,\n"
         "                     checkpoints, checkpoint_rate, admin_group,\n"
         "                     uid_workspaces; then\n"
         "                     FILE.d/*.conf; options win. workspaces.d/NAME.conf beside it "
         "declares\n"
         "                     a workspace: [workspace], size, max_size, page_size, mode, owner, "
         "...\n"
         "  --check-config     read all of that, name each mistake by file and line, and end\n"
         "  --log-level LEVEL  debug, info (default), warn, error; lines go to stderr\n"
         "  --supervise        stay as a small parent that keeps memory and leases and restarts\n"
         "                     the daemon when it ends; not needed under systemd\n"
         "\n"
         "A private daemon:  wkspd --supervise --socket /tmp/w.sock --state-dir /tmp/w\n"
         "Signals: TERM and INT stop it (exit 0; memory goes with it, unless somebody keeps it).\n"
         "HUP reads the configuration again.\n"
         "Exit codes: 0 stopped, 1 could not start or broke, 2 wrong usage.\n";
}
