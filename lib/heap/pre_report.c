/* pre_report: what the heap says of itself: the report at exit, and lines on standard error.

   Problem: by the time of the report the program has closed what it likes, and stdio allocates. So
   the descriptor was kept aside at the start, and lines are made on the stack and written whole.

   What it refuses: to be exact while threads still run. */

#include "heap/preload.h"
#include "wksp/fd_wksp.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LINE_MAX_SZ 512

static void write_all(int fd, char const *text, ulong len) {
  while (len) {
    ssize_t done = write(fd, text, len);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return;
    text += done;
    len -= (ulong)done;
  }
}

__attribute__((format(printf, 2, 0))) static void say(int fd, char const *fmt, va_list args) {
  char line[LINE_MAX_SZ];
  int saved = errno, at = snprintf(line, sizeof line, "libwksp_malloc[%d]: ", (int)getpid());
  int len = vsnprintf(line + at, sizeof line - (ulong)at - 1, fmt, args);
  ulong end = (ulong)at + (len < 0 ? 0UL : (ulong)len);
  if (end > sizeof line - 2) end = sizeof line - 2;
  line[end++] = '\n';
  write_all(fd, line, end);
  errno = saved;
}

void pre_say(char const *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  say(STDERR_FILENO, fmt, args);
  va_end(args);
}

__attribute__((format(printf, 2, 3))) static void line(int fd, char const *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  say(fd, fmt, args);
  va_end(args);
}

void pre_report(int fd) {
  struct rusage usage;
  fd_alloc_stat_t stat = {0};
  getrusage(RUSAGE_SELF, &usage);
  line(fd, "peak resident %ld KiB", usage.ru_maxrss);
  if (pre.join && !fd_alloc_stat(pre.join, &stat)) {
    line(fd, "workspace: %lu of at most %lu bytes; spans %lu, of them free %lu",
         fd_wksp_data_sz(pre.wksp), fd_wksp_data_max(pre.wksp), stat.span_sz, stat.span_free_sz);
    line(fd, "live: %lu small blocks (%lu bytes), %lu large (%lu bytes)", stat.small_cnt,
         stat.small_sz, stat.large_cnt, stat.large_sz);
    line(fd, "heaps %lu, of them left behind %lu; blocks lost in children %lu", stat.heap_cnt,
         stat.heap_left_cnt, stat.suspect_cnt);
  } else {
    line(fd, "no workspace: every block is a mapping of its own");
  }
  line(fd, "mappings: %lu live (%lu bytes), %lu ever, for requests from %lu bytes on",
       pre.direct_cnt, pre.direct_sz, pre.direct_all, pre.limit);
  line(fd, "refused frees: %lu bad, %lu of what others gave", stat.bad_free_cnt, pre.foreign_cnt);
}
