/* The problem: a daemon that starts with half of what it was told is worse than one that refuses.

   The model: defaults, then the file, then the command line. Everything unknown, too long or
   malformed is an error that names where it stands, its value, and what would do. inih splits the
   file; since it cuts long lines and does not tell the line to its handler, lines are fed to it one
   by one by a reader that counts and measures them, and refuses a NUL, at which inih would stop
   unheard. The file is a regular one of bounded size, so that reading it ends.

   Refuses: includes, environment variables, reloading. */

#include "daemon/shell/config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct reader {
  config_t *config;
  FILE *file;
  char const *path;
  char *error; /* "" as long as all is well */
  int line;
  size_t bytes; /* read so far */
  int duplicate_socket, duplicate_state_dir, duplicate_level;
} reader_t;

static int set_path(char *ret_path, char const *value, size_t len_max) {
  size_t len = strlen(value);
  if (!len || len > len_max || value[0] != '/') return 0;
  memcpy(ret_path, value, len + 1);
  return 1;
}

/* inih's: 0 stops at this line. */
static int on_key(void *arg, char const *section, char const *name, char const *value) {
  reader_t *reader = arg;
  config_t *config = reader->config;
  int *seen = NULL;
  char const *want = NULL;
  if (reader->error[0]) return 0;
  if (strcmp(section, "wkspd")) {
    snprintf(reader->error, CONFIG_ERROR_MAX,
             "%s:%d: unknown section [%.100s] (the only one is [wkspd])", reader->path,
             reader->line, section);
    return 0;
  }
  if (!strcmp(name, "socket")) {
    seen = &reader->duplicate_socket;
    if (!set_path(config->socket, value, CONFIG_SOCKET_MAX)) {
      want = "an absolute path of at most 107 bytes";
    }
  } else if (!strcmp(name, "state_dir")) {
    seen = &reader->duplicate_state_dir;
    if (!set_path(config->state_dir, value, CONFIG_PATH_MAX - 64)) want = "an absolute path";
  } else if (!strcmp(name, "log_level")) {
    seen = &reader->duplicate_level;
    if (!log_level_parse(value, &config->log_level)) want = "debug, info, warn or error";
  } else {
    snprintf(reader->error, CONFIG_ERROR_MAX,
             "%s:%d: unknown key '%.100s' (known: socket, state_dir, log_level)", reader->path,
             reader->line, name);
    return 0;
  }
  if (want) {
    snprintf(reader->error, CONFIG_ERROR_MAX, "%s:%d: %s = '%.200s' is not %s", reader->path,
             reader->line, name, value, want);
    return 0;
  }
  if ((*seen)++) {
    snprintf(reader->error, CONFIG_ERROR_MAX, "%s:%d: %s is given twice", reader->path,
             reader->line, name);
    return 0;
  }
  return 1;
}

/* fgets that counts: up to cap - 1 bytes, which may be NULs, and a NUL. 0: the end. */
static size_t get_line(FILE *file, char *ret_line, size_t cap) {
  size_t len = 0;
  int byte = 0;
  while (byte != '\n' && len + 1 < cap && (byte = getc(file)) != EOF) ret_line[len++] = (char)byte;
  ret_line[len] = '\0';
  return len;
}

/* inih's reader: one line into str. After an error the file is at its end. */
static char *next_line(char *str, int cap, void *arg) {
  reader_t *reader = arg;
  char line[CONFIG_LINE_MAX + 3];
  size_t len = reader->error[0] ? 0 : get_line(reader->file, line, sizeof line);
  if (!len) return NULL;
  reader->line++;
  reader->bytes += len;
  if (reader->bytes > CONFIG_FILE_MAX) {
    snprintf(reader->error, CONFIG_ERROR_MAX, "%.900s is longer than %u bytes, shorten it",
             reader->path, CONFIG_FILE_MAX);
    return NULL;
  }
  if (strlen(line) != len) {
    snprintf(reader->error, CONFIG_ERROR_MAX,
             "%.900s:%d: the line beginning '%.40s' has a NUL byte after it, remove that",
             reader->path, reader->line, line);
    return NULL;
  }
  size_t end = len && line[len - 1] == '\n' ? 1 : 0;
  if (len - end > CONFIG_LINE_MAX || len >= (size_t)cap) {
    snprintf(reader->error, CONFIG_ERROR_MAX,
             "%s:%d: the line beginning '%.40s' is longer than %d bytes, shorten it", reader->path,
             reader->line, line, CONFIG_LINE_MAX);
    return NULL;
  }
  if (line[0] == ' ' || line[0] == '\t') {
    /* inih would take it as the continuation of the line before */
    size_t blank = strspn(line, " \t\r\n");
    memmove(line, line + blank, strlen(line + blank) + 1);
  }
  memcpy(str, line, strlen(line) + 1);
  return str;
}

/* NULL and a sentence. */
static FILE *open_file(char const *path, char *error) {
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe's opening must not wait */
  FILE *file = NULL;
  int bad = fd < 0 || fstat(fd, &st);
  if (!bad && !S_ISREG(st.st_mode)) {
    snprintf(error, CONFIG_ERROR_MAX,
             "the configuration file '%.900s' is not a regular file, give one that is", path);
  } else if (!bad && (uint64_t)st.st_size > CONFIG_FILE_MAX) {
    snprintf(error, CONFIG_ERROR_MAX,
             "the configuration file '%.900s' has %ld bytes, at most %u are allowed", path,
             (long)st.st_size, CONFIG_FILE_MAX);
  } else if (bad || !(file = fdopen(fd, "r"))) {
    snprintf(error, CONFIG_ERROR_MAX, "cannot read the configuration file '%.900s': %s", path,
             strerror(errno));
  }
  if (!file && fd >= 0) close(fd);
  return file;
}

int config_file(config_t *config, char const *path, char *error) {
  reader_t reader = {.config = config, .path = path, .error = error};
  error[0] = '\0';
  reader.file = open_file(path, error);
  if (!reader.file) return 2;
  int bad = ini_parse_stream(next_line, &reader, on_key, &reader);
  int io = ferror(reader.file);
  fclose(reader.file);
  if (error[0]) return 2;
  if (io) {
    snprintf(error, CONFIG_ERROR_MAX, "reading '%.900s' failed", path);
    return 2;
  }
  if (bad) {
    snprintf(error, CONFIG_ERROR_MAX, "%.900s:%d: not a section, a key = value or a comment", path,
             bad);
    return 2;
  }
  return 0;
}

enum {
  OPT_SOCKET = 256,
  OPT_STATE_DIR,
  OPT_CONFIG,
  OPT_LOG_LEVEL,
  OPT_SUPERVISE,
  OPT_VERSION,
  OPT_HELP
};

static struct option const options[] = {
    {"socket", required_argument, NULL, OPT_SOCKET},
    {"state-dir", required_argument, NULL, OPT_STATE_DIR},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"supervise", no_argument, NULL, OPT_SUPERVISE},
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

static int read_args(config_t *over, int *ret_level_set, int argc, char **argv, char *error) {
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
      *ret_level_set = 1;
      break;
    case OPT_SUPERVISE:
      over->supervise = 1;
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

int config_read(config_t *ret_config, int argc, char **argv, char *error) {
  static config_t const none;
  config_t over = none, config = none;
  int level_set = 0;
  error[0] = '\0';
  int bad = read_args(&over, &level_set, argc, argv, error);
  if (bad) return bad;
  strcpy(config.socket, CONFIG_SOCKET_DEFAULT);
  strcpy(config.state_dir, CONFIG_STATE_DIR_DEFAULT);
  config.log_level = LOG_LEVEL_INFO;
  if (over.file[0] && over.what == CONFIG_RUN) {
    bad = config_file(&config, over.file, error);
    if (bad) return bad;
  }
  memcpy(config.file, over.file, sizeof config.file);
  if (over.socket[0]) memcpy(config.socket, over.socket, sizeof config.socket);
  if (over.state_dir[0]) memcpy(config.state_dir, over.state_dir, sizeof config.state_dir);
  if (level_set) config.log_level = over.log_level;
  config.supervise = over.supervise;
  config.what = over.what;
  *ret_config = config;
  return 0;
}

char const *config_help(void) {
  return "wkspd: owns shared-memory workspaces and hands them to clients (libwksp, wkspctl).\n"
         "\n"
         "usage: wkspd [--socket PATH] [--state-dir DIR] [--config FILE] [--log-level LEVEL]\n"
         "             [--supervise]\n"
         "       wkspd --version | --help\n"
         "\n"
         "  --socket PATH      listen here (" CONFIG_SOCKET_DEFAULT ")\n"
         "  --state-dir DIR    keep specs of workspaces here (" CONFIG_STATE_DIR_DEFAULT ")\n"
         "  --config FILE      section [wkspd], keys socket, state_dir, log_level; options win\n"
         "  --log-level LEVEL  debug, info (default), warn, error; lines go to stderr\n"
         "  --supervise        stay as a small parent that keeps memory and leases and restarts\n"
         "                     the daemon when it ends; not needed under systemd\n"
         "\n"
         "A private daemon:  wkspd --supervise --socket /tmp/w.sock --state-dir /tmp/w\n"
         "Signals: TERM and INT stop it (exit 0; memory goes with it).\n"
         "Exit codes: 0 stopped, 1 could not start or broke, 2 wrong usage.\n";
}
