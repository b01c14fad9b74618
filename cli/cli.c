/* cli: failing, connecting, attaching and finishing, as every command does them.

   The model: one process, one command, one connection. A failure is told once, where it is noticed,
   as one line on standard error ("wkspctl: ..."), or as one JSON object there under --json; from
   then on only its exit code travels.

   It refuses: to go on after output was lost (a full disk must not look like success), and to map
   memory of another user as root. */

#include "cli.h"

#include "parse.h"
#include "progress.h"
#include "render.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The one place that writes to standard error. usage may be NULL. What cannot be said there cannot
 * be said at all, so its failures are not looked at. */
static void tell(cli_t const *cli, char const *error, char const *message, char const *usage) {
  progress_end();
  (void)fflush(stdout);
  char *safe = render_safe(message);
  char const *text = safe ? safe : wksp_strerror(WKSP_E_NOMEM);
  if (cli->json) {
    json_t *object = json_pack("{s:s, s:o}", "error", error, "message", render_json_text(text));
    if (object && usage) json_object_set_new(object, "usage", render_json_text(usage));
    if (object) json_dumpf(object, stderr, JSON_COMPACT);
    fputc('\n', stderr);
    json_decref(object);
  } else {
    fprintf(stderr, "wkspctl: %s\n", text);
    if (usage) {
      fprintf(stderr, "usage: wkspctl %s\nexamples: wkspctl %s%s--help\n", usage, cli->command,
              *cli->command ? " " : "");
    }
  }
  free(safe);
}

/* The sentence of fmt, whatever its length; NULL: no memory. */
static char *sentence_of(char const *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

static char *sentence_of(char const *fmt, va_list ap) {
  char *sentence;
  return vasprintf(&sentence, fmt, ap) < 0 ? NULL : sentence;
}

int cli_fail(cli_t const *cli, char const *error, char const *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  char *sentence = sentence_of(fmt, ap);
  va_end(ap);
  tell(cli, error, sentence ? sentence : wksp_strerror(WKSP_E_NOMEM), NULL);
  free(sentence);
  return CLI_FAILED;
}

int cli_fail_memory(cli_t const *cli) {
  return cli_fail(cli, "WKSP_E_NOMEM", "this process has no memory left for the result");
}

int cli_fail_wksp(cli_t const *cli, int err) {
  static char const *const words[] = {
      [-WKSP_E_INVAL] = "WKSP_E_INVAL",     [-WKSP_E_NOMEM] = "WKSP_E_NOMEM",
      [-WKSP_E_CORRUPT] = "WKSP_E_CORRUPT", [-WKSP_E_NOTFOUND] = "WKSP_E_NOTFOUND",
      [-WKSP_E_EXISTS] = "WKSP_E_EXISTS",   [-WKSP_E_PERM] = "WKSP_E_PERM",
      [-WKSP_E_RDONLY] = "WKSP_E_RDONLY",   [-WKSP_E_TIMEDOUT] = "WKSP_E_TIMEDOUT",
      [-WKSP_E_AGAIN] = "WKSP_E_AGAIN",     [-WKSP_E_VERSION] = "WKSP_E_VERSION",
      [-WKSP_E_BUSY] = "WKSP_E_BUSY",       [-WKSP_E_NODAEMON] = "WKSP_E_NODAEMON",
      [-WKSP_E_PROTO] = "WKSP_E_PROTO",     [-WKSP_E_SYS] = "WKSP_E_SYS",
      [-WKSP_E_LIMIT] = "WKSP_E_LIMIT",     [-WKSP_E_UNSUPPORTED] = "WKSP_E_UNSUPPORTED",
  };
  int const code = err ? err : wksp_last_error_code();
  char const *word = "unknown";
  if (code < 0 && code >= -(int)(sizeof words / sizeof *words) + 1 && words[-code])
    word = words[-code];
  /* The sentence belongs to another failure if its code does. */
  char const *sentence = wksp_last_error_code() == code ? wksp_last_error() : "";
  if (!*sentence) sentence = wksp_strerror(code);
  (void)cli_fail(cli, word, "%s", sentence);
  return code == WKSP_E_NODAEMON ? CLI_NODAEMON : CLI_FAILED;
}

int cli_fail_usage(cli_t const *cli, char const *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  char *sentence = sentence_of(fmt, ap);
  va_end(ap);
  tell(cli, "usage", sentence ? sentence : wksp_strerror(WKSP_E_NOMEM), cli->usage);
  free(sentence);
  return CLI_USAGE;
}

int cli_connect(cli_t *cli) {
  if (cli->client) return CLI_OK;
  cli->client = wksp_client_connect(cli->socket_path);
  if (!cli->client) return cli_fail_wksp(cli, 0);
  if (cli->timeout_ms) {
    int const err = wksp_client_deadline_set(cli->client, cli->timeout_ms);
    if (err) return cli_fail_wksp(cli, err);
  }
  return CLI_OK;
}

/* Becomes the workspace's owner. Order matters: groups and gid while that is still permitted. */
static int become_owner(cli_t const *cli, wksp_info_t const *info) {
  if (setgroups(0, NULL) || setresgid(info->gid, info->gid, info->gid) ||
      setresuid(info->uid, info->uid, info->uid))
    return cli_fail(cli, "WKSP_E_SYS",
                    "cannot become uid %u, gid %u to look into %s: %s; root does not map "
                    "the memory of others, so run wkspctl as that user",
                    info->uid, info->gid, info->name, strerror(errno));
  return CLI_OK;
}

int cli_attach(cli_t *cli, char const *name, int how, int *ret_err, fd_wksp_t **ret_wksp) {
  int status = cli_connect(cli);
  if (status) return status;
  if (!geteuid()) {
    wksp_info_t info;
    int const err = wksp_client_get(cli->client, name, &info);
    if (err) return cli_fail_wksp(cli, err);
    if (info.uid && (status = become_owner(cli, &info))) return status;
  }
  fd_wksp_t *wksp = wksp_client_attach(cli->client, name, how);
  if (!wksp) {
    int const err = wksp_last_error_code();
    if (err == WKSP_E_CORRUPT && ret_err) {
      *ret_err = err;
      return CLI_FOUND;
    }
    return cli_fail_wksp(cli, err);
  }
  *ret_wksp = wksp;
  return CLI_OK;
}

int cli_attach_seed(cli_t *cli, cli_args_t const *args, fd_wksp_t **ret_wksp, uint *ret_seed) {
  char const *text = cli_arg(args, "seed");
  uint seed = 0;
  char const *why = text ? parse_number32(text, &seed) : NULL;
  if (why) return cli_fail_usage(cli, "--seed '%s' %s", text, why);
  int status = cli_attach(cli, args->operands[0], WKSP_ATTACH_RW, NULL, ret_wksp);
  if (!status) *ret_seed = text ? seed : fd_wksp_seed(*ret_wksp);
  return status;
}

int cli_flush(cli_t const *cli, int status) {
  errno = 0;
  int const failed = fflush(stdout);
  if (!failed && !ferror(stdout)) return status;
  /* glibc keeps what it could not write, so the flush above fails for the same reason again. */
  return cli_fail(cli, "output", "cannot write to standard output%s%s; part of the result is lost",
                  errno ? ": " : "", errno ? strerror(errno) : "");
}
