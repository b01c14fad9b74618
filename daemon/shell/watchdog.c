/* The problem: a daemon that lives but serves nobody is worse than a dead one, for that would be
   restarted.

   The model: the keep-alive is sent from a timer of the loop that does everything else. Whatever
   keeps the loop from turning keeps the message from being sent, and the manager restarts us;
   memory and leases are with it.

   Refuses: a thread of its own, which would go on telling that all is well. */

#include "daemon/shell/watchdog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A day, ms: far more than anybody waits. Larger values of the environment count as this. */
#define PERIOD_MAX_MS 86400000UL

/* 1 and the number, or 0: not decimal digits alone, 0, or too large. */
static int parse(char const *text, unsigned long *ret_number) {
  char *end;
  if (*text < '0' || *text > '9') return 0;
  errno = 0;
  unsigned long number = strtoul(text, &end, 10);
  if (errno || *end || !number) return 0;
  *ret_number = number;
  return 1;
}

long watchdog_period_ms(char const *usec, char const *pid, pid_t own) {
  unsigned long number, whose;
  if (!usec || !*usec) return 0;
  if (pid && *pid) {
    if (!parse(pid, &whose)) return -1;
    if (whose != (unsigned long)own) return 0;
  }
  if (!parse(usec, &number) || number < 2000) return -1;
  number /= 2000;
  return (long)(number < PERIOD_MAX_MS ? number : PERIOD_MAX_MS);
}

static void on_timer(uv_timer_t *timer) {
  watchdog_t *watchdog = timer->data;
  /* What cannot be queued now is overtaken by the next one. */
  notify_send(watchdog->notify, -1, "WATCHDOG=1");
}

void watchdog_start(watchdog_t *watchdog, uv_loop_t *uv, notify_t *notify, log_t const *log) {
  char const *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
  long period_ms = watchdog_period_ms(usec, pid, getpid());
  watchdog->notify = notify;
  watchdog->timer.data = watchdog;
  uv_timer_init(uv, &watchdog->timer);
  if (period_ms < 0) {
    log_warn(log, "watchdog", "usec=%.40s pid=%.40s error=%s", usec, pid ? pid : "",
             log_text("WATCHDOG_USEC or WATCHDOG_PID is no number that can be used: no keep-alive "
                      "is sent")
                 .text);
    return;
  }
  if (period_ms) uv_timer_start(&watchdog->timer, on_timer, 0, (uint64_t)period_ms);
}
