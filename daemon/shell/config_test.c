/* config: command lines and files. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/shell/config.h"
#include "daemon/shell/config_keep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARGS_MAX 8

/* What follows error, a NULL after the last, as argv; how many. */
static int args(char *argv[ARGS_MAX + 2], va_list ap) {
  int argc = 1;
  char *arg;
  memset(argv, 0, (ARGS_MAX + 2) * sizeof *argv);
  argv[0] = (char *)(uintptr_t) "wkspd";
  while (argc <= ARGS_MAX && (arg = va_arg(ap, char *))) argv[argc++] = arg;
  return argc;
}

/* config_read of these arguments, and config_start. */
static int read_args(config_t *ret_config, char *error, ...) {
  char *argv[ARGS_MAX + 2];
  va_list ap;
  va_start(ap, error);
  int argc = args(argv, ap);
  va_end(ap);
  return config_read(ret_config, argc, argv, error);
}

static int start(config_t *ret_config, char *error, ...) {
  char *argv[ARGS_MAX + 2];
  va_list ap;
  va_start(ap, error);
  int argc = args(argv, ap);
  va_end(ap);
  return config_start(ret_config, argc, argv, error);
}

static void write_file(char const *path, char const *text) {
  FILE *file = fopen(path, "we");
  assert_non_null(file);
  assert_true(fputs(text, file) >= 0);
  assert_int_equal(fclose(file), 0);
}

/* config_file of these bytes. */
static int read_bytes(config_t *config, char const *bytes, size_t len, char *error,
                      char ret_path[64]) {
  strcpy(ret_path, "/tmp/wkspd-config-XXXXXX");
  int fd = mkstemp(ret_path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, bytes, len), (ssize_t)len);
  close(fd);
  int bad = config_file(config, ret_path, error);
  unlink(ret_path);
  return bad;
}

static int read_text(config_t *config, char const *text, char *error, char ret_path[64]) {
  return read_bytes(config, text, strlen(text), error, ret_path);
}

/* Without arguments everything has its documented default. */
static void defaults(void **state) {
  config_t config;
  char error[CONFIG_ERROR_MAX];
  assert_int_equal(read_args(&config, error, NULL), 0);
  assert_string_equal(config.socket, "/run/wkspd/wkspd.sock");
  assert_string_equal(config.state_dir, "/var/lib/wkspd");
  assert_int_equal(config.log_level, LOG_LEVEL_INFO);
  assert_int_equal(config.supervise, 0);
  assert_int_equal(config.what, CONFIG_RUN);
}

/* Every option reaches its field. */
static void options(void **state) {
  config_t config;
  char error[CONFIG_ERROR_MAX];
  assert_int_equal(read_args(&config, error, "--socket", "s", "--state-dir=d", "--log-level",
                             "debug", "--supervise", NULL),
                   0);
  assert_string_equal(config.socket, "s");
  assert_string_equal(config.state_dir, "d");
  assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
  assert_int_equal(config.supervise, 1);
  assert_int_equal(read_args(&config, error, "--version", NULL), 0);
  assert_int_equal(config.what, CONFIG_VERSION);
  assert_int_equal(read_args(&config, error, "--help", NULL), 0);
  assert_int_equal(config.what, CONFIG_HELP);
}

/* Every mistake on the command line is 2 and a sentence with the value at fault. */
static void bad_options(void **state) {
  config_t config;
  char error[CONFIG_ERROR_MAX], path[200];
  memset(path, 'p', sizeof path - 1);
  path[sizeof path - 1] = '\0';
  assert_int_equal(read_args(&config, error, "--sokcet", "s", NULL), 2);
  assert_non_null(strstr(error, "--sokcet"));
  assert_int_equal(read_args(&config, error, "--socket", NULL), 2);
  assert_non_null(strstr(error, "--socket"));
  assert_int_equal(read_args(&config, error, "--socket", path, NULL), 2);
  assert_non_null(strstr(error, "107"));
  assert_int_equal(read_args(&config, error, "--state-dir", "", NULL), 2);
  assert_int_equal(read_args(&config, error, "--log-level", "loud", NULL), 2);
  assert_non_null(strstr(error, "loud"));
  assert_int_equal(read_args(&config, error, "extra", NULL), 2);
  assert_non_null(strstr(error, "extra"));
  assert_int_equal(read_args(&config, error, "--supervise=yes", NULL), 2);
  assert_int_equal(read_args(&config, error, "--config", "/nowhere/at/all", NULL), 2);
  assert_non_null(strstr(error, "/nowhere/at/all"));
}

/* A file sets what it says, comments and blank lines are fine, indentation means nothing. */
static void file(void **state) {
  config_t config = {0};
  char error[CONFIG_ERROR_MAX], path[64];
  assert_int_equal(read_text(&config,
                             "# a comment\n\n[wkspd]\n  socket = /a/b\nstate_dir=/c\n"
                             "log_level = warn ; why\n",
                             error, path),
                   0);
  assert_string_equal(config.socket, "/a/b");
  assert_string_equal(config.state_dir, "/c");
  assert_int_equal(config.log_level, LOG_LEVEL_WARN);
}

/* Every mistake in a file is 2 and a sentence with file, line and value. */
static void bad_files(void **state) {
  static struct {
    char const *text, *line, *value;
  } const cases[] = {
      {"[wkspd]\nsockets = /a\n", ":2:", "sockets"},
      {"[daemon]\nsocket = /a\n", ":2:", "daemon"},
      {"socket = /a\n", ":1:", "[]"},
      {"[wkspd]\n\nlog_level = loud\n", ":3:", "loud"},
      {"[wkspd]\nsocket = relative/path\n", ":2:", "relative/path"},
      {"[wkspd]\nsocket =\n", ":2:", "socket"},
      {"[wkspd]\nsocket = /a\nsocket = /b\n", ":3:", "twice"},
      {"[wkspd]\nnonsense\n", ":2:", "key = value"},
      {"[wkspd\n", ":1:", "section"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    config_t config = {0};
    char error[CONFIG_ERROR_MAX], path[64];
    assert_int_equal(read_text(&config, cases[i].text, error, path), 2);
    if (!strstr(error, path) || !strstr(error, cases[i].line) || !strstr(error, cases[i].value)) {
      fail_msg("case %zu: %s", i, error);
    }
  }
}

/* A line that inih would cut is an error, also as the last one without a newline; the longest that
 * it takes whole is not. */
static void long_lines(void **state) {
  char text[512], error[CONFIG_ERROR_MAX], path[64];
  config_t config = {0};
  for (int over = 0; over <= 1; over++) {
    for (int newline = 0; newline <= 1; newline++) {
      size_t len = (size_t)sprintf(text, "[wkspd]\nstate_dir = /");
      size_t line = len - strlen("[wkspd]\n");
      while (line < CONFIG_LINE_MAX + (size_t)over) {
        text[len++] = 'x';
        line++;
      }
      if (newline) text[len++] = '\n';
      text[len] = '\0';
      assert_int_equal(read_text(&config, text, error, path), over ? 2 : 0);
      if (over)
        assert_non_null(strstr(error, ":2:"));
      else
        assert_int_equal(strlen(config.state_dir), line - strlen("state_dir = "));
    }
  }
}

/* A NUL byte is an error with file and line, wherever it stands; nothing is cut at it. */
static void nul_bytes(void **state) {
  static char const at_end[] = "[wkspd]\nstate_dir = /a\0b\n", first[] = "[wkspd]\n\0socket = /a\n",
                    last[] = "[wkspd]\n\0", over_end[] = "[wkspd]\nsocket = /a\0";
  static struct {
    char const *bytes;
    size_t len;
  } const cases[] = {{at_end, sizeof at_end - 1},
                     {first, sizeof first - 1},
                     {last, sizeof last - 1},
                     {over_end, sizeof over_end - 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    config_t config = {0};
    char error[CONFIG_ERROR_MAX], path[64];
    assert_int_equal(read_bytes(&config, cases[i].bytes, cases[i].len, error, path), 2);
    if (!strstr(error, path) || !strstr(error, ":2:") || !strstr(error, "NUL")) {
      fail_msg("case %zu: %s", i, error);
    }
  }
}

/* What is not a regular file of bounded size is refused by name, at once. */
static void endless_files(void **state) {
  config_t config = {0};
  char error[CONFIG_ERROR_MAX], path[64];
  static char const *const others[] = {"/dev/zero", "/dev/null", "/tmp"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    assert_int_equal(config_file(&config, others[i], error), 2);
    if (!strstr(error, others[i]) || !strstr(error, "regular file")) fail_msg("%s", error);
  }
  strcpy(path, "/tmp/wkspd-config-XXXXXX");
  assert_non_null(mkdtemp(path));
  char fifo[80];
  snprintf(fifo, sizeof fifo, "%s/fifo", path);
  assert_int_equal(mkfifo(fifo, 0600), 0);
  assert_int_equal(config_file(&config, fifo, error), 2);
  assert_non_null(strstr(error, "regular file"));
  unlink(fifo);
  rmdir(path);

  char *text = malloc(CONFIG_FILE_MAX + 1);
  assert_non_null(text);
  for (size_t i = 0; i <= CONFIG_FILE_MAX; i++) text[i] = i % 64 ? '#' : '\n';
  assert_int_equal(read_bytes(&config, text, CONFIG_FILE_MAX, error, path), 0);
  assert_int_equal(read_bytes(&config, text, CONFIG_FILE_MAX + 1, error, path), 2);
  assert_non_null(strstr(error, path));
  assert_non_null(strstr(error, "1048576"));
  free(text);
}

/* The command line wins over the file. */
static void precedence(void **state) {
  config_t config;
  char error[CONFIG_ERROR_MAX], path[64] = "/tmp/wkspd-config-XXXXXX";
  char const text[] = "[wkspd]\nsocket=/file\nstate_dir=/file\nlog_level=error\n";
  int fd = mkstemp(path);
  assert_int_equal(write(fd, text, sizeof text - 1), (ssize_t)sizeof text - 1);
  close(fd);
  assert_int_equal(
      read_args(&config, error, "--socket", "/arg", "--config", path, "--log-level", "info", NULL),
      0);
  unlink(path);
  assert_string_equal(config.socket, "/arg");
  assert_string_equal(config.state_dir, "/file");
  assert_int_equal(config.log_level, LOG_LEVEL_INFO);
}

/* What is kept is what the files said, whatever they said, and counts for a start by a service
   manager alone, below the command line; a copy that is changed, or that others can change, does
   not count. */
static void kept(void **state) {
  config_t good, got;
  char error[CONFIG_ERROR_MAX], dir[] = "/tmp/wkspd-config-XXXXXX", file[64], copy[64], more[64];
  char const text[] = "[wkspd]\nsocket=/file\nlog_level=warn\nworkers=9\ncheckpoints=4\n"
                      "checkpoint_rate=200M\nadmin_group=77\nuid_workspaces=5\n[quota]\n"
                      "default.4k=1G\nuid0.2M.node0=0\nuid4294967294.1G.node63=64T\n"
                      "uid7.workspaces=3\n";
#define START(config, ...) start(&config, error, "--state-dir", dir, "--config", file, __VA_ARGS__)
  assert_non_null(mkdtemp(dir));
  snprintf(file, sizeof file, "%s/conf", dir);
  snprintf(copy, sizeof copy, "%s/wkspd.good", dir);
  write_file(file, text);
  snprintf(more, sizeof more, "%s/conf.d", dir);
  assert_int_equal(mkdir(more, 0700), 0);
  snprintf(more, sizeof more, "%s/conf.d/more.conf", dir);
  write_file(more, "[wkspd]\nworkers=3\n");
  assert_int_equal(setenv("NOTIFY_SOCKET", "/nowhere", 1), 0);
  assert_int_equal(START(good, NULL), 0);
  assert_int_equal(config_keep(&good, error), 0);
  write_file(file, "[wkspd]\nworkers=0\n");
  assert_int_equal(START(got, NULL), 0);
  assert_non_null(strstr(got.mistake, "/conf:2: workers = '0' is not"));
  assert_int_equal(got.quota.cnt, 4);
  assert_memory_equal(got.quota.rule, good.quota.rule, 4 * sizeof *good.quota.rule);
  assert_int_equal(got.workers, 3);
  assert_int_equal(got.checkpoints, 4);
  assert_int_equal(got.checkpoint_rate, 200UL << 20);
  assert_int_equal(got.admin_gid, 77);
  assert_int_equal(got.uid_workspaces, 5);
  assert_string_equal(got.socket, "/file");
  assert_int_equal(got.log_level, LOG_LEVEL_WARN);
  assert_int_equal(START(got, "--socket", "/arg", NULL), 0);
  assert_string_equal(got.socket, "/arg");
  assert_int_equal(START(got, "--check-config", NULL), 2);
  assert_int_equal(START(got, "--supervise", NULL), 2);
  assert_int_equal(START(got, "--wrong", NULL), 2);
  assert_int_equal(chmod(dir, 0777), 0);
  assert_int_equal(START(got, NULL), 2);
  assert_int_equal(chmod(dir, 0700), 0);
  assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
  assert_int_equal(START(got, NULL), 2);
  assert_int_equal(setenv("NOTIFY_SOCKET", "/nowhere", 1), 0);
  assert_int_equal(truncate(copy, 40), 0);
  assert_int_equal(START(got, NULL), 2);
  assert_non_null(strstr(error, "/conf:2: workers = '0' is not"));
  assert_int_equal(unlink(copy), 0);
  assert_int_equal(START(got, NULL), 2);
  assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
  unlink(file);
  unlink(more);
  *strrchr(more, '/') = '\0';
  assert_int_equal(rmdir(more), 0);
  assert_int_equal(rmdir(dir), 0);
#undef START
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(defaults),   cmocka_unit_test(options),   cmocka_unit_test(bad_options),
      cmocka_unit_test(file),       cmocka_unit_test(bad_files), cmocka_unit_test(long_lines),
      cmocka_unit_test(precedence), cmocka_unit_test(nul_bytes), cmocka_unit_test(endless_files),
      cmocka_unit_test(kept),
  };
  return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
