/* log: one line for each event, key=value fields, on stderr.

   A line reads `2025-01-31T12:00:00.123Z info created workspace=a size=2097152`. When stderr is
   systemd's journal (JOURNAL_STREAM says which file that is) the level goes in front as <N> and the
   time is left to the journal. */

#ifndef WKSPD_SHELL_LOG_H
#define WKSPD_SHELL_LOG_H

#include <stddef.h>
#include <stdint.h>

typedef enum log_level {
  LOG_LEVEL_ERROR = 0,
  LOG_LEVEL_WARN = 1,
  LOG_LEVEL_INFO = 2,
  LOG_LEVEL_DEBUG = 3
} log_level_t;

typedef struct log {
  int fd;
  log_level_t level; /* lines above it are not written */
  int journal;       /* 1: <N> in front, no time */
} log_t;

/* On stderr at level; looks at $JOURNAL_STREAM. */
void log_init(log_t *log, log_level_t level);

/* "debug", "info", "warn", "error": 1 and *ret_level, else 0. */
int log_level_parse(char const *text, log_level_t *ret_level);

char const *log_level_name(log_level_t level);

/* Writes one line: event is a short constant word, the fields come from fmt. Control characters
   become '?', lines are cut at LOG_LINE_MAX. Any thread. */
void log_event(log_t const *log, log_level_t level, char const *event, char const *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define LOG_LINE_MAX 2048

#define log_error(log, event, ...) log_event(log, LOG_LEVEL_ERROR, event, __VA_ARGS__)
#define log_warn(log, event, ...)  log_event(log, LOG_LEVEL_WARN, event, __VA_ARGS__)
#define log_info(log, event, ...)  log_event(log, LOG_LEVEL_INFO, event, __VA_ARGS__)
#define log_debug(log, event, ...) log_event(log, LOG_LEVEL_DEBUG, event, __VA_ARGS__)

/* A sentence as the value of a field: in double quotes, its own quotes turned into single ones.
   Longer ones are cut. */
typedef struct log_text {
  char text[512];
} log_text_t;
log_text_t log_text(char const *sentence);

/* At most a burst of lines about a thing that a peer can cause: 1 if this one may be written.
 *ret_dropped: how many were not since the last that was. */
typedef struct log_rate {
  uint64_t window_ns; /* when the running window began */
  uint32_t used;
  uint32_t dropped;
} log_rate_t;

#define LOG_RATE_WINDOW_NS 10000000000UL
#define LOG_RATE_BURST     10U

int log_rate_ok(log_rate_t *rate, uint64_t now_ns, uint32_t *ret_dropped);

#endif
