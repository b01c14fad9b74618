/* cmd_doctor: collects what doctor's checks want to know, runs them, prints the lines.

   What can only be tried (system calls, the socket, the daemon, systemctl) is tried here; the rest
   the checks read by themselves. */

#include "cli.h"
#include "doctor.h"
#include "render.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define UNITS_TEXT_MAX 16384

static doctor_calls_t try_calls(void) {
  doctor_calls_t calls = {0, 0};
  long const can = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  if (can < 0)
    calls.membarrier = errno;
  else if (!(can & MEMBARRIER_CMD_GLOBAL_EXPEDITED))
    calls.membarrier = EOPNOTSUPP;
  long const fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
  if (fd < 0)
    calls.userfaultfd = errno;
  else
    close((int)fd);
  return calls;
}

/* 1 if that process was started as wkspd. The number that a daemon gives is its own: if it is in a
 * container, it is another's here. */
static int is_daemon(int pid) {
  char path[32], command[SYS_PATH_MAX];
  snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
  int const fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t const len = read(fd, command, sizeof command - 1);
  close(fd);
  if (len <= 0) return 0;
  command[len] = '\0';
  char const *slash = strrchr(command, '/');
  return !strcmp(slash ? slash + 1 : command, "wkspd");
}

/* Asks the daemon; *ret_pid is its process as this one sees it, 0: not known. The sentence `why` is
   to be freed. CLI_OK or told. */
static int ask_daemon(cli_t *cli, doctor_daemon_t *daemon, wksp_version_t *version, char **why,
                      int *ret_pid) {
  wksp_status_t status = {.pid = 0};
  cli->client = wksp_client_connect(cli->socket_path);
  int err = cli->client ? 0 : wksp_last_error_code();
  if (!err) err = wksp_client_deadline_set(cli->client, cli->timeout_ms ? cli->timeout_ms : 5000);
  if (!err) err = wksp_client_version(cli->client, version);
  if (!err) err = wksp_client_status(cli->client, &status);
  if (err) {
    *why = render_safe(wksp_last_error());
    daemon->why = *why;
    return *why ? CLI_OK : cli_fail_memory(cli);
  }
  *daemon = (doctor_daemon_t){.version = version->daemon,
                              .own_version = wksp_library_version(),
                              .layout = version->layout,
                              .geometry = version->geometry_hash,
                              .fd_store = status.fd_store,
                              .lost_cnt = status.lost_cnt,
                              .quarantined_cnt = status.quarantined_cnt,
                              .workspace_cnt = status.workspace_cnt};
  char *mistake = render_safe(status.config_mistake);
  snprintf(daemon->mistake, sizeof daemon->mistake, "%s", mistake ? mistake : "");
  free(mistake);
  daemon->own_layout = wksp_library_layout(&daemon->own_geometry);
  *ret_pid = is_daemon(status.pid) ? status.pid : 0;
  return CLI_OK;
}

static void look_at_socket(cli_t const *cli, doctor_t *doctor) {
  char const *path = cli->socket_path ? cli->socket_path : getenv("WKSPD_SOCKET");
  if (!path || !*path) path = WKSP_SOCKET_DEFAULT;
  char *safe = render_safe(path);
  render_text_t group = {""};
  render_text_t const user = render_user(geteuid());
  doctor_socket_t socket = {.path = safe ? safe : "", .user = user.s};
  struct stat st;
  if (stat(path, &st)) {
    socket.err = errno;
  } else {
    group = render_group(st.st_gid);
    socket.is_socket = S_ISSOCK(st.st_mode);
    socket.mode = st.st_mode & 0777;
    socket.may = !faccessat(AT_FDCWD, path, W_OK, AT_EACCESS);
  }
  socket.group = group.s;
  doctor_socket(doctor, &socket);
  free(safe);
}

/* What systemctl says about the units; NULL: systemd does not run this machine, or does not say. To
 * be freed. */
static char *show_units(void) {
  if (access("/run/systemd/system", F_OK)) return NULL;
  FILE *pipe =
      popen("systemctl --no-pager show -p Id,LoadState,ActiveState,UnitFileState,NRestarts "
            "wkspd.socket wkspd.service wkspd-hugepages.service 2>/dev/null",
            "re");
  char *text = pipe ? calloc(1, UNITS_TEXT_MAX) : NULL;
  size_t const len = text ? fread(text, 1, UNITS_TEXT_MAX - 1, pipe) : 0;
  if (pipe) (void)pclose(pipe);
  if (len) return text;
  free(text);
  return NULL;
}

static char const *state_word(int state) {
  return state == DOCTOR_OK ? "ok" : state == DOCTOR_WARN ? "warn" : "fail";
}

static int print_doctor(cli_t const *cli, doctor_t const *doctor) {
  uint cnt[3] = {0, 0, 0};
  json_t *checks = json_array();
  for (uint i = 0; i < doctor->cnt; i++) {
    doctor_line_t const *line = &doctor->line[i];
    cnt[line->state]++;
    if (cli->json) {
      json_array_append_new(
          checks, json_pack("{s:s, s:s, s:o, s:o}", "check", line->check, "state",
                            state_word(line->state), "what", render_json_text(line->what), "mend",
                            *line->mend ? render_json_text(line->mend) : json_null()));
      continue;
    }
    printf("%-4s  %-11s  %s\n", state_word(line->state), line->check, line->what);
    if (*line->mend) printf("%-17s  mend: %s\n", "", line->mend);
  }
  if (cli->json)
    return render_json(
        cli, json_pack("{s:o, s:I, s:I, s:I}", "checks", checks, "ok", (json_int_t)cnt[DOCTOR_OK],
                       "warn", (json_int_t)cnt[DOCTOR_WARN], "fail", (json_int_t)cnt[DOCTOR_FAIL]));
  json_decref(checks);
  return CLI_OK;
}

/* All checks, in the order in which one would look. */
static int look(cli_t *cli, doctor_t *doctor) {
  sys_t const this_machine = {.root = ""};
  doctor_daemon_t daemon = {.why = NULL};
  wksp_version_t version;
  host_t host;
  char error[HOST_ERROR_MAX], *why = NULL;
  doctor_process_t process = {0, "a program started here"};
  int const status = ask_daemon(cli, &daemon, &version, &why, &process.pid);
  if (status) return status;
  if (process.pid) process.name = "wkspd";
  look_at_socket(cli, doctor);
  doctor_daemon(doctor, &daemon);
  char *shown = show_units();
  doctor_units(doctor, shown, !daemon.why);
  free(shown);
  free(why);
  doctor_limits(doctor, &this_machine, process);
  if (host_read(&this_machine, &host, error)) {
    doctor_bad(doctor, "pools", DOCTOR_FAIL, "see that /sys and /proc are mounted", "%s", error);
    return CLI_OK;
  }
  doctor_nodes(doctor, &this_machine, &host, process);
  doctor_pools(doctor, &host);
  doctor_cgroups(doctor, &this_machine, &host, process);
  doctor_kernel(doctor, &this_machine, &host, try_calls());
  host_free(&host);
  return CLI_OK;
}

int cmd_doctor(cli_t *cli, cli_args_t const *args) {
  doctor_t *doctor = calloc(1, sizeof *doctor);
  if (!doctor) return cli_fail_memory(cli);
  int status = look(cli, doctor);
  if (!status) status = print_doctor(cli, doctor);
  uint failed = 0;
  for (uint i = 0; i < doctor->cnt; i++) failed += doctor->line[i].state == DOCTOR_FAIL;
  free(doctor);
  if (!status && failed)
    return cli_fail(cli, "unwell", "%u %s; what mends %s is said above", failed,
                    failed == 1 ? "check has failed" : "checks have failed",
                    failed == 1 ? "it" : "them");
  return status;
}
