/* The problem: what the daemon did must be readable by people and by grep, and a peer must not be
   able to forge lines or fill the disk.

   The model: an event is formatted into one buffer, made printable, and written with one write, so
   that lines of several threads never mix. What peers can provoke goes through a log_rate first.

   Refuses: several sinks, files, levels per subsystem. */

#include "daemon/shell/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char const *const level_names[] = {"error", "warn", "info", "debug"};

/* syslog's numbers */
static int const level_syslog[] = {3, 4, 6, 7};

void log_init(log_t *log, log_level_t level) {
  /* The variable is inherited by what the journal does not read, so it names the file: dev:ino. */
  char const *journal = getenv("JOURNAL_STREAM");
  char here[64] = "";
  struct stat st;
  if (!fstat(STDERR_FILENO, &st)) {
    snprintf(here, sizeof here, "%lu:%lu", (unsigned long)st.st_dev, (unsigned long)st.st_ino);
  }
  log->fd = STDERR_FILENO;
  log->level = level;
  log->journal = journal && here[0] && !strcmp(journal, here);
}

char const *log_level_name(log_level_t level) {
  return level_names[level];
}

int log_level_parse(char const *text, log_level_t *ret_level) {
  for (unsigned i = 0; i < sizeof level_names / sizeof *level_names; i++) {
    if (!strcmp(text, level_names[i])) {
      *ret_level = (log_level_t)i;
      return 1;
    }
  }
  return 0;
}

/* "2025-01-31T12:00:00.123Z " */
static size_t put_time(char *buf, size_t cap) {
  struct timespec now;
  struct tm tm;
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &tm);
  size_t len = strftime(buf, cap, "%Y-%m-%dT%H:%M:%S", &tm);
  return len + (size_t)snprintf(buf + len, cap - len, ".%03ldZ ", now.tv_nsec / 1000000);
}

void log_event(log_t const *log, log_level_t level, char const *event, char const *fmt, ...) {
  if (level > log->level) return;
  char line[LOG_LINE_MAX];
  size_t cap = sizeof line - 1; /* room for the newline */
  size_t len = 0;
  if (log->journal)
    len = (size_t)snprintf(line, cap, "<%d>", level_syslog[level]);
  else
    len = put_time(line, cap);
  len += (size_t)snprintf(line + len, cap - len, "%s %s ", level_names[level], event);
  if (len > cap - 1) len = cap - 1;

  va_list ap;
  va_start(ap, fmt);
  int more = vsnprintf(line + len, cap - len, fmt, ap);
  va_end(ap);
  if (more > 0) len += (size_t)more;
  if (len > cap - 1) len = cap - 1;

  for (size_t i = 0; i < len; i++) {
    if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) line[i] = '?';
  }
  while (len && line[len - 1] == ' ') len--;
  line[len++] = '\n';
  /* stderr is all there is: nothing can be said about a failure to write to it */
  ssize_t ignored = write(log->fd, line, len);
  (void)ignored;
}

log_text_t log_text(char const *sentence) {
  log_text_t out;
  size_t len = 0;
  out.text[len++] = '"';
  for (; *sentence && len < sizeof out.text - 2; sentence++) {
    out.text[len++] = *sentence == '"' ? '\'' : *sentence;
  }
  out.text[len++] = '"';
  out.text[len] = '\0';
  return out;
}

int log_rate_ok(log_rate_t *rate, uint64_t now_ns, uint32_t *ret_dropped) {
  if (!rate->window_ns || now_ns - rate->window_ns >= LOG_RATE_WINDOW_NS) {
    rate->window_ns = now_ns;
    rate->used = 0;
  }
  if (rate->used >= LOG_RATE_BURST) {
    rate->dropped++;
    return 0;
  }
  rate->used++;
  *ret_dropped = rate->dropped;
  rate->dropped = 0;
  return 1;
}
