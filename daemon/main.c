/* main: argv and configuration to one of the three things that this program is: the daemon, its
   small supervising parent, or a short-lived worker of the daemon's. */

#include "daemon/child/worker.h"
#include "daemon/shell/config.h"
#include "daemon/shell/log.h"
#include "daemon/shell/loop.h"
#include "daemon/shell/supervise.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  uint64_t since_ns = uv_hrtime();
  char error[CONFIG_ERROR_MAX];
  config_t config;
  log_t log;
  sigset_t stop;

  /* _exit: a worker has nothing to flush, and its sandbox no room for what others do at exit */
  if (argc == 2 && !strcmp(argv[1], WORKER_ARG)) _exit(worker_main());

  int bad = config_read(&config, argc, argv, error);
  if (bad) {
    fprintf(stderr, "wkspd: %s\n", error);
    return bad;
  }
  if (config.what == CONFIG_HELP) {
    fputs(config_help(), stdout);
    return 0;
  }
  if (config.what == CONFIG_VERSION) {
    puts("wkspd " WKSP_VERSION);
    return 0;
  }
  /* For good, in every thread: both are read from a descriptor, so that an early or a second one
   * stops in order instead of killing. */
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  sigprocmask(SIG_BLOCK, &stop, NULL);
  signal(SIGHUP, SIG_IGN); /* the terminal that it was started from may close */
  log_init(&log, config.log_level);
  return config.supervise ? supervise_run(&config, &log) : loop_run(&config, &log, since_ns);
}
