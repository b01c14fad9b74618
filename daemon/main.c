/* main: argv and configuration to one of the three things that this program is: the daemon, its
   small supervising parent, or a short-lived worker of the daemon's. */

#include "daemon/child/worker.h"
#include "daemon/shell/config.h"
#include "daemon/shell/declared.h"
#include "daemon/shell/log.h"
#include "daemon/shell/loop.h"
#include "daemon/shell/supervise.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_bad(void *arg, char const *sentence) {
  (void)arg;
  fprintf(stderr, "wkspd: %s\n", sentence);
}

/* --check-config: the configuration itself has been read; what it declares is read here. */
static int check(config_t const *config) {
  char folder[CONFIG_PATH_MAX];
  declared_list_t list = {0};
  size_t bad_cnt = 0;
  if (config_declared(config, folder)) bad_cnt = declared_read(folder, print_bad, NULL, &list);
  if (!bad_cnt)
    printf("%s is sound; it declares %zu workspaces\n",
           config->file[0] ? config->file : "the command line", list.cnt);
  declared_free(&list);
  return bad_cnt ? 2 : 0;
}

int main(int argc, char **argv) {
  uint64_t since_ns = uv_hrtime();
  char error[CONFIG_ERROR_MAX];
  config_t config;
  log_t log;
  sigset_t stop;

  /* _exit: a worker has nothing to flush, and its sandbox no room for what others do at exit */
  if (argc == 2 && !strcmp(argv[1], WORKER_ARG)) _exit(worker_main());

  int bad = config_start(&config, argc, argv, error);
  if (bad) {
    fprintf(stderr, "wkspd: %s\n", error);
    return bad;
  }
  if (config.what == CONFIG_HELP) {
    fputs(config_help(), stdout);
    return 0;
  }
  if (config.what == CONFIG_CHECK) return check(&config);
  if (config.what == CONFIG_VERSION) {
    puts("wkspd " WKSP_VERSION);
    return 0;
  }
  /* For good, in every thread: they are read from a descriptor, so that an early or a second one
   * stops in order instead of killing. */
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  sigaddset(&stop, SIGHUP); /* also when the terminal that it was started from closes */
  sigprocmask(SIG_BLOCK, &stop, NULL);
  log_init(&log, config.log_level);
  return config.supervise ? supervise_run(&config, &log) : loop_run(&config, &log, since_ns);
}
