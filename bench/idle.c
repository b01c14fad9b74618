/* idle: what a daemon with a thousand schedules costs while none of them is due.

   Problem: a schedule is kept for months and is due once in hours, so what counts is what it costs
   in between. Model: a private wkspd with as many small workspaces, each with a schedule of its
   own; once all is set, the processor time that the process uses in some seconds, as the kernel
   counts it, beside the same without schedules. Refuses: to touch another daemon than its own. */

#include "bench.h"
#include "wksp/client.h"
#include "wksp/client_ckpt.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SCHEDULES 1000U
#define SIZE      (256UL << 10)

static pid_t daemon_start(char const *folder) {
  char path[128], state[128];
  snprintf(path, sizeof path, "%s/sock", folder);
  snprintf(state, sizeof state, "%s/state", folder);
  pid_t pid = fork();
  if (pid) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  execl(BENCH_WKSPD, BENCH_WKSPD, "--socket", path, "--state-dir", state, "--log-level", "error",
        NULL);
  bench_die("cannot start %s: %s", BENCH_WKSPD, strerror(errno));
}

static wksp_client_t *connect_to(char const *folder) {
  char path[128];
  snprintf(path, sizeof path, "%s/sock", folder);
  for (uint64_t until = bench_now() + 10000000000UL; bench_now() < until; poll(NULL, 0, 10)) {
    wksp_client_t *client = wksp_client_connect(path);
    if (client) return client;
  }
  bench_die("the daemon does not answer: %s", wksp_last_error());
}

static uint64_t cpu_of(pid_t pid) {
  clockid_t clock;
  struct timespec ts;
  if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &ts))
    bench_die("the daemon's processor time cannot be read");
  return (uint64_t)ts.tv_sec * 1000000000UL + (uint64_t)ts.tv_nsec;
}

/* Percent of a core. */
static double idle_share(pid_t pid, unsigned seconds) {
  uint64_t cpu = cpu_of(pid), clock = bench_now();
  poll(NULL, 0, (int)seconds * 1000);
  return 100.0 * (double)(cpu_of(pid) - cpu) / (double)(bench_now() - clock);
}

void bench_idle(bench_rows_t *rows, unsigned seconds) {
  char folder[64] = "/tmp/wksp-bench-XXXXXX", command[128];
  if (!mkdtemp(folder)) bench_die("%s: %s", folder, strerror(errno));
  pid_t pid = daemon_start(folder);
  wksp_client_t *client = connect_to(folder);
  char name[32];
  for (unsigned i = 0; i < SCHEDULES; i++) {
    snprintf(name, sizeof name, "w%u", i);
    wksp_create_t create = {.name = name, .size = SIZE, .page_size = WKSP_PAGE_4K, .part_max = 16};
    if (wksp_client_create(client, &create, NULL)) bench_die("create: %s", wksp_last_error());
  }
  double without = idle_share(pid, seconds);
  for (unsigned i = 0; i < SCHEDULES; i++) {
    snprintf(name, sizeof name, "w%u", i);
    wksp_schedule_t schedule = {.every_ns = 3600000000000UL + i * 1000000000UL};
    if (wksp_client_schedule_set(client, name, &schedule))
      bench_die("schedule: %s", wksp_last_error());
  }
  double with = idle_share(pid, seconds);
  wksp_client_close(client);
  kill(pid, SIGTERM);
  waitpid(pid, NULL, 0);
  snprintf(command, sizeof command, "rm -rf %s", folder);
  if (system(command)) bench_die("%s stays", folder);
  bench_row_t *row = bench_row(rows, "1000 schedules, idle");
  row->value[0] = with;
  row->unit = "% core";
  row->goal = 1;
  snprintf(row->note, sizeof row->note, "wkspd's processor time in %u s; without schedules %.4f",
           seconds, without);
}
