/* cli: what every command of wkspctl has in common: its description, its arguments, its way to the
   daemon and its ways to fail.

   A command is a row of the table in main.c. It gets its arguments checked against that row, prints
   its result through render.h, and returns one of the exit codes. Whoever returns an exit code
   other than CLI_OK or CLI_FOUND has told the reason by cli_fail* before. */

#ifndef WKSPCTL_CLI_H
#define WKSPCTL_CLI_H

#include "wksp/client.h"

enum {
  CLI_OK = 0,
  CLI_FAILED = 1,   /* the reason is on standard error */
  CLI_USAGE = 2,    /* the command line is wrong */
  CLI_NODAEMON = 3, /* nobody answers on the socket */
  CLI_FOUND = 4     /* done, and something is wrong with the workspace: leaks, damage */
};

#define CLI_USAGE_MAX 384

typedef struct cli {
  char const *socket_path; /* NULL: the library's default */
  int json;
  long timeout_ms;           /* 0: not given */
  char command[32];          /* "heap new": what is running, "" before it is known */
  char usage[CLI_USAGE_MAX]; /* how that is used: "heap new NAME --tag TAG" */
  wksp_client_t *client;     /* NULL until cli_connect */
} cli_t;

/* Told what is wrong with the command line: prints it, and how the command is used. CLI_USAGE. */
int cli_fail_usage(cli_t const *cli, char const *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Tells a failure with code `error` (a word for programs). CLI_FAILED. */
int cli_fail(cli_t const *cli, char const *error, char const *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Tells the library's last failure, whose code the caller has in hand (0: ask for the last).
 * CLI_NODAEMON for E_NODAEMON, else CLI_FAILED. */
int cli_fail_wksp(cli_t const *cli, int err);

int cli_fail_memory(cli_t const *cli);

/* Connects (once). CLI_OK or told. */
int cli_connect(cli_t *cli);

/* Connects and attaches. When root runs this for somebody else's workspace, the process becomes its
   owner first and for good: the memory may say anything, and what reads it must not be root. CLI_OK
   and *ret_wksp, to be given to fd_wksp_detach; or told. E_CORRUPT is told only if ret_err is NULL;
   else *ret_err is that code and the return CLI_FOUND. */
int cli_attach(cli_t *cli, char const *name, int how, int *ret_err, fd_wksp_t **ret_wksp);

/* Sees to it that all that was printed has arrived. status, or CLI_FAILED (told). */
int cli_flush(cli_t const *cli, int status);

/* Commands
 * -------------------------------------------------------------------------------------- */

#define CLI_OPERANDS_MAX 3
#define CLI_OPTIONS_MAX  13

typedef struct cli_option {
  char const *name;  /* without the dashes; NULL ends a list */
  char const *value; /* what to call its value, NULL: it has none */
  char const *what;  /* one line for --help */
  int required;
  int repeats;
} cli_option_t;

struct cli_args;

typedef struct cli_command {
  char const *topic;                      /* of it and those after it, NULL: as before */
  char const *group;                      /* "heap", NULL: none */
  char const *name;                       /* NULL ends the table */
  char const *operands[CLI_OPERANDS_MAX]; /* "NAME", or "[NAME]" if it may be left out */
  cli_option_t options[CLI_OPTIONS_MAX];  /* besides the global ones */
  char const *what;                       /* one line for the list of commands */
  char const *text;                       /* more, for its own --help; lines end in \n */
  char const *examples;                   /* "  wkspctl ...\n", one line each */
  int shows;                              /* 1: it says by itself how far it is, or has no end */
  int (*run)(cli_t *cli, struct cli_args const *args);
} cli_command_t;

/* A command line, read. */
typedef struct cli_args {
  cli_command_t const *command;           /* NULL: none was named */
  char const *group;                      /* of the table, if only that was named; else NULL */
  char const *operands[CLI_OPERANDS_MAX]; /* NULL: not given */
  struct cli_given {
    cli_option_t const *option;
    char const *value;
  } * given; /* options in the order given */
  int given_cnt;
  int help;
  int every; /* with help: a line for each command */
  int version;
} cli_args_t;

/* The value of an option, "" for a flag that was given, NULL if it was not. */
char const *cli_arg(cli_args_t const *args, char const *option);

/* The tags that an option which may be repeated gives, into ret_tags, room for CLI_TAGS_MAX (as
 * many as one request can name). CLI_OK and *ret_cnt, or told. */
#define CLI_TAGS_MAX 1024
int cli_arg_tags(cli_t const *cli, cli_args_t const *args, ulong *ret_tags, ulong *ret_cnt);

/* Reads argv against the table, sets the global options in cli. CLI_OK and *ret_args (to be freed
   by cli_args_free), or told. */
int cli_args_read(cli_t *cli, cli_command_t const *table, int argc, char **argv,
                  cli_args_t *ret_args);
void cli_args_free(cli_args_t *args);

/* "create NAME --size SIZE [--page P]": how a command is used, into out, cut at out_cap bytes. */
void cli_usage_line(cli_command_t const *command, char *out, size_t out_cap);

extern cli_option_t const cli_global_options[];

/* cli_attach of operand 0, to write, for commands that take --seed: *ret_seed is that, or what it
 * is.
 */
int cli_attach_seed(cli_t *cli, cli_args_t const *args, fd_wksp_t **ret_wksp, uint *ret_seed);

/* The commands' own run functions, by file. */
int cmd_create(cli_t *cli, cli_args_t const *args);
int cmd_ls(cli_t *cli, cli_args_t const *args);
int cmd_show(cli_t *cli, cli_args_t const *args);
int cmd_resize(cli_t *cli, cli_args_t const *args);
int cmd_plan(cli_t *cli, cli_args_t const *args);
int cmd_map(cli_t *cli, cli_args_t const *args);

/* What --size, --max-size, --page, --numa and --preferred say. CLI_OK or told. */
int cli_arg_sizes(cli_t const *cli, cli_args_t const *args, wksp_create_t *create);

/* Where the pages of a workspace are: as an object (NULL: no memory), as facts and a table (CLI_OK
   or told). */
struct json_t *place_json(wksp_placement_t const *placement);
int place_print(cli_t const *cli, wksp_placement_t const *placement);
int cmd_rm(cli_t *cli, cli_args_t const *args);

int cmd_usage(cli_t *cli, cli_args_t const *args);
int cmd_query(cli_t *cli, cli_args_t const *args);
int cmd_compact(cli_t *cli, cli_args_t const *args);
int cmd_verify(cli_t *cli, cli_args_t const *args);

int cmd_alloc(cli_t *cli, cli_args_t const *args);
int cmd_free(cli_t *cli, cli_args_t const *args);
int cmd_info(cli_t *cli, cli_args_t const *args);
int cmd_tag_query(cli_t *cli, cli_args_t const *args);
int cmd_tag_free(cli_t *cli, cli_args_t const *args);
int cmd_memset(cli_t *cli, cli_args_t const *args);
int cmd_rebuild(cli_t *cli, cli_args_t const *args);
int cmd_reset(cli_t *cli, cli_args_t const *args);

int cmd_root_ls(cli_t *cli, cli_args_t const *args);
int cmd_root_set(cli_t *cli, cli_args_t const *args);
int cmd_root_rm(cli_t *cli, cli_args_t const *args);

int cmd_heap_new(cli_t *cli, cli_args_t const *args);
int cmd_heap_malloc(cli_t *cli, cli_args_t const *args);
int cmd_heap_free(cli_t *cli, cli_args_t const *args);
int cmd_heap_compact(cli_t *cli, cli_args_t const *args);
int cmd_heap_leaks(cli_t *cli, cli_args_t const *args);
int cmd_heap_query(cli_t *cli, cli_args_t const *args);
int cmd_heap_rm(cli_t *cli, cli_args_t const *args);

int cmd_checkpoint(cli_t *cli, cli_args_t const *args);
int cmd_checkpoints(cli_t *cli, cli_args_t const *args);
int cmd_checkpoint_show(cli_t *cli, cli_args_t const *args);
int cmd_checkpoint_verify(cli_t *cli, cli_args_t const *args);
int cmd_drill(cli_t *cli, cli_args_t const *args);
int cmd_checkpoint_rm(cli_t *cli, cli_args_t const *args);
int cmd_styles(cli_t *cli, cli_args_t const *args);
int cmd_restore(cli_t *cli, cli_args_t const *args);
int cmd_schedule(cli_t *cli, cli_args_t const *args);
int cmd_jobs(cli_t *cli, cli_args_t const *args);
int cmd_cancel(cli_t *cli, cli_args_t const *args);

int cmd_status(cli_t *cli, cli_args_t const *args);
int cmd_clients(cli_t *cli, cli_args_t const *args);
int cmd_reload(cli_t *cli, cli_args_t const *args);
int cmd_version(cli_t *cli, cli_args_t const *args);
int cmd_watch(cli_t *cli, cli_args_t const *args);
int cmd_metrics(cli_t *cli, cli_args_t const *args);
int cmd_top(cli_t *cli, cli_args_t const *args);

int cmd_topology(cli_t *cli, cli_args_t const *args);
int cmd_hugepages(cli_t *cli, cli_args_t const *args);
int cmd_hugepages_reserve(cli_t *cli, cli_args_t const *args);
int cmd_hugepages_apply(cli_t *cli, cli_args_t const *args);
int cmd_doctor(cli_t *cli, cli_args_t const *args);

#endif
