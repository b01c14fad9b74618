/* watchdog: tells the service manager that the loop still turns. */

#ifndef WKSPD_SHELL_WATCHDOG_H
#define WKSPD_SHELL_WATCHDOG_H

#include "daemon/shell/log.h"
#include "daemon/shell/notify.h"

#include <sys/types.h>
#include <uv.h>

typedef struct watchdog {
  uv_timer_t timer;
  notify_t *notify;
} watchdog_t;

/* From $WATCHDOG_USEC and $WATCHDOG_PID (NULL: not set) how often to tell, ms: half of the time
   after which the manager acts. 0: nobody wants to be told, or a process other than pid is meant.
   -1: one of them is no positive number, or the time is under 2 ms. */
long watchdog_period_ms(char const *usec, char const *pid, pid_t own);

/* Initialises the timer, and from now on, if the environment asks for it, sends WATCHDOG=1 now and
   every so often from the loop's own thread. A malformed environment is logged and counts as none.
   notify must live until the timer is closed, which is the caller's: uv_close on
   watchdog->timer. */
void watchdog_start(watchdog_t *watchdog, uv_loop_t *uv, notify_t *notify, log_t const *log);

#endif
