/* The problem: inih cuts long lines, does not tell the line to its handler, and stops unheard at a
   NUL; and whoever wrote the file wants to be told where the mistake is.

   The model: lines are fed to inih one by one by a reader that counts and measures them. The file
   is a regular one of bounded size, so that reading it ends. The first mistake ends the reading.

   Refuses: includes, continued lines, to know what the keys mean. */

#include "conf/confile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void confile_refuse(confile_t *file, char const *format, ...) {
  va_list args;
  if (file->error[0]) return;
  int len = snprintf(file->error, CONFIG_ERROR_MAX, "%.700s:%d: ", file->path, file->line);
  va_start(args, format);
  vsnprintf(file->error + len, CONFIG_ERROR_MAX - (size_t)len, format, args);
  va_end(args);
}

int confile_twice(confile_t *file, char const *name, unsigned *seen) {
  if (!(*seen)++) return 0;
  confile_refuse(file, "%s is given twice", name);
  return 1;
}

/* inih's: 0 stops at this line. */
static int on_key(void *arg, char const *section, char const *name, char const *value) {
  confile_t *file = arg;
  if (!file->error[0]) file->key(file, section, name, value);
  return !file->error[0];
}

/* fgets that counts: up to cap - 1 bytes, which may be NULs, and a NUL. 0: the end. */
static size_t get_line(FILE *stream, char *ret_line, size_t cap) {
  size_t len = 0;
  int byte = 0;
  while (byte != '\n' && len + 1 < cap && (byte = getc(stream)) != EOF)
    ret_line[len++] = (char)byte;
  ret_line[len] = '\0';
  return len;
}

/* inih's reader: one line into str. After an error the file is at its end. */
static char *next_line(char *str, int cap, void *arg) {
  confile_t *file = arg;
  char line[CONFIG_LINE_MAX + 3];
  size_t len = file->error[0] ? 0 : get_line(file->stream, line, sizeof line);
  if (!len) return NULL;
  file->line++;
  file->bytes += len;
  size_t end = line[len - 1] == '\n' ? 1 : 0;
  if (file->bytes > CONFIG_FILE_MAX) {
    snprintf(file->error, CONFIG_ERROR_MAX, "%.900s is longer than %u bytes, shorten it",
             file->path, CONFIG_FILE_MAX);
  } else if (strlen(line) != len) {
    confile_refuse(file, "the line beginning '%.40s' has a NUL byte after it, remove that", line);
  } else if (len - end > CONFIG_LINE_MAX || len >= (size_t)cap) {
    confile_refuse(file, "the line beginning '%.40s' is longer than %d bytes, shorten it", line,
                   CONFIG_LINE_MAX);
  }
  if (file->error[0]) return NULL;
  /* inih would take a line that begins with a blank as the continuation of the one before */
  size_t blank = line[0] == ' ' || line[0] == '\t' ? strspn(line, " \t\r\n") : 0;
  memcpy(str, line + blank, len - blank + 1);
  return str;
}

/* NULL and a sentence. */
static FILE *open_file(char const *path, char *error) {
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe's opening must not wait */
  FILE *stream = NULL;
  int bad = fd < 0 || fstat(fd, &st);
  if (!bad && !S_ISREG(st.st_mode)) {
    snprintf(error, CONFIG_ERROR_MAX,
             "the configuration file '%.900s' is not a regular file, give one that is", path);
  } else if (!bad && (uint64_t)st.st_size > CONFIG_FILE_MAX) {
    snprintf(error, CONFIG_ERROR_MAX,
             "the configuration file '%.900s' has %ld bytes, at most %u are allowed", path,
             (long)st.st_size, CONFIG_FILE_MAX);
  } else if (bad || !(stream = fdopen(fd, "r"))) {
    snprintf(error, CONFIG_ERROR_MAX, "cannot read the configuration file '%.900s': %s", path,
             strerror(errno));
  }
  if (!stream && fd >= 0) close(fd);
  return stream;
}

int confile_read(char const *path, confile_key_t key, void *arg, char *ret_error) {
  confile_t file = {.arg = arg, .path = path, .error = ret_error, .key = key};
  ret_error[0] = '\0';
  file.stream = open_file(path, ret_error);
  if (!file.stream) return 2;
  int bad = ini_parse_stream(next_line, &file, on_key, &file);
  int io = ferror((FILE *)file.stream);
  fclose(file.stream);
  if (ret_error[0]) return 2;
  if (io) {
    snprintf(ret_error, CONFIG_ERROR_MAX, "reading '%.900s' failed", path);
    return 2;
  }
  if (bad) {
    file.line = bad;
    confile_refuse(&file, "not a section, a key = value or a comment");
    return 2;
  }
  return 0;
}

static int name_order(void const *a, void const *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* 0 or errno. */
static int add_name(char const *name, char ***names, size_t *cnt) {
  size_t len = strlen(name);
  if (name[0] == '.' || len <= 5 || strcmp(name + len - 5, ".conf") != 0) return 0;
  if (*cnt == CONFILE_FOLDER_MAX) return EFBIG;
  if (!(*cnt & (*cnt - 1))) { /* at powers of two there is no room left */
    char **moved = reallocarray(*names, *cnt ? *cnt * 2 : 1, sizeof(char *));
    if (!moved) return ENOMEM;
    *names = moved;
  }
  (*names)[*cnt] = strdup(name);
  if (!(*names)[*cnt]) return ENOMEM;
  ++*cnt;
  return 0;
}

int confile_folder(char const *path, char ***ret_names, size_t *ret_cnt, char *ret_error) {
  char **names = NULL;
  size_t cnt = 0;
  struct dirent *entry;
  DIR *dir = opendir(path);
  int err = !dir && errno != ENOENT ? errno : 0;
  while (dir && !err && (errno = 0, entry = readdir(dir)))
    err = add_name(entry->d_name, &names, &cnt);
  if (dir && !err) err = errno;
  if (dir) closedir(dir);
  if (err) {
    confile_folder_free(names, cnt);
    snprintf(ret_error, CONFIG_ERROR_MAX, "cannot read the folder '%.900s': %s", path,
             strerror(err));
    return 2;
  }
  if (cnt) qsort(names, cnt, sizeof(char *), name_order);
  *ret_names = names;
  *ret_cnt = cnt;
  return 0;
}

void confile_folder_free(char **names, size_t cnt) {
  for (size_t i = 0; i < cnt; i++) free(names[i]);
  free(names);
}
