/* args: a command line, read against the table of commands.

   Why not getopt: options may stand anywhere, also before the command that knows them; what is
   missing or misspelt is to be named together with what would be right; and help is to be had
   however broken the rest of the line is. So the line is read in two steps: first words are told
   from options, which works because an option has a value, or has none, in all commands alike; then
   the command is found and judges what it was given.

   It refuses: abbreviations and bundles (they turn into something else when options are added). */

#include "cli.h"

#include "parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cli_option_t const cli_global_options[] = {
    {"socket", "PATH", "the daemon's ($WKSPD_SOCKET, else " WKSP_SOCKET_DEFAULT ")", 0, 0},
    {"json", NULL, "print JSON", 0, 0},
    {"timeout", "TIME", "how long to wait for the daemon (30s)", 0, 0},
    {"help", NULL, "print help", 0, 0},
    {"version", NULL, "print the version of wkspctl", 0, 0},
    {NULL, NULL, NULL, 0, 0},
};

/* As many names as the table has, for suggestions. */
#define CANDIDATES_MAX 160

/* The option of that name (len bytes) in a list that may have cap entries; NULL: none. */
static cli_option_t const *option_in(cli_option_t const *options, size_t cap, char const *name,
                                     size_t len) {
  for (size_t i = 0; i < cap && options[i].name; i++)
    if (strlen(options[i].name) == len && !memcmp(options[i].name, name, len)) return &options[i];
  return NULL;
}

#define GLOBAL_OPTIONS_CAP (sizeof cli_global_options / sizeof *cli_global_options)

static int is_global(cli_option_t const *option) {
  return option >= cli_global_options && option < cli_global_options + GLOBAL_OPTIONS_CAP;
}

/* The option of that name, in any command. */
static cli_option_t const *option_anywhere(cli_command_t const *table, char const *name,
                                           size_t len) {
  cli_option_t const *option = option_in(cli_global_options, GLOBAL_OPTIONS_CAP, name, len);
  for (cli_command_t const *command = table; !option && command->name; command++)
    option = option_in(command->options, CLI_OPTIONS_MAX, name, len);
  return option;
}

/* The value of its n-th occurrence, n from 0 on; NULL: there are not so many. */
static char const *arg_nth(cli_args_t const *args, char const *option, int n) {
  for (int i = 0; i < args->given_cnt; i++)
    if (!strcmp(args->given[i].option->name, option) && !n--) return args->given[i].value;
  return NULL;
}

char const *cli_arg(cli_args_t const *args, char const *option) {
  return arg_nth(args, option, 0);
}

int cli_arg_tags(cli_t const *cli, cli_args_t const *args, ulong *ret_tags, ulong *ret_cnt) {
  ulong cnt = 0;
  char const *text;
  while ((text = arg_nth(args, "tag", (int)cnt))) {
    if (cnt == CLI_TAGS_MAX)
      return cli_fail_usage(cli, "more than %d --tag; ask in several calls", CLI_TAGS_MAX);
    char const *why = parse_tag(text, &ret_tags[cnt]);
    if (why) return cli_fail_usage(cli, "--tag '%s' %s", text, why);
    cnt++;
  }
  *ret_cnt = cnt;
  return CLI_OK;
}

void cli_usage_line(cli_command_t const *command, char *out, size_t out_cap) {
  size_t at = 0;
#define ADD(...)                                                           \
  do {                                                                     \
    int const n = snprintf(out + at, out_cap - at, __VA_ARGS__);           \
    at = n > 0 && (size_t)n < out_cap - at ? at + (size_t)n : out_cap - 1; \
  } while (0)
  ADD("%s%s%s", command->group ? command->group : "", command->group ? " " : "", command->name);
  for (int i = 0; i < CLI_OPERANDS_MAX && command->operands[i]; i++)
    ADD(" %s", command->operands[i]);
  for (cli_option_t const *o = command->options; o < command->options + CLI_OPTIONS_MAX && o->name;
       o++)
    ADD(o->required ? " --%s%s%s" : " [--%s%s%s]", o->name, o->value ? " " : "",
        o->value ? o->value : "");
#undef ADD
}

/* "; did you mean X?" or "". */
typedef struct hint {
  char s[64];
} hint_t;

static hint_t hint_of(char const *text, char const *const *words, size_t cnt, char const *prefix) {
  hint_t hint = {""};
  char const *nearest = parse_nearest(text, words, cnt);
  if (nearest) snprintf(hint.s, sizeof hint.s, "; did you mean %s%s?", prefix, nearest);
  return hint;
}

/* word names no command in the group, or at the top if that is NULL. */
static int fail_unknown_command(cli_t const *cli, cli_command_t const *table, char const *group,
                                char const *word) {
  char const *words[CANDIDATES_MAX];
  size_t cnt = 0;
  if (!group) words[cnt++] = "help";
  for (cli_command_t const *c = table; c->name && cnt < CANDIDATES_MAX; c++) {
    int const same_group = group ? c->group && !strcmp(c->group, group) : 1;
    if (same_group) words[cnt++] = group || !c->group ? c->name : c->group;
  }
  char prefix[24] = "";
  if (group) snprintf(prefix, sizeof prefix, "%s ", group);
  hint_t const hint = hint_of(word, words, cnt, prefix);
  return cli_fail_usage(cli, "there is no command '%s%s'%s", prefix, word,
                        *hint.s ? hint.s : "; see wkspctl help");
}

/* An option that the command does not have; command NULL: that none has. */
static int fail_unknown_option(cli_t const *cli, cli_command_t const *table,
                               cli_command_t const *command, char const *name) {
  char const *words[CANDIDATES_MAX];
  size_t cnt = 0;
  for (size_t i = 0; cli_global_options[i].name; i++) words[cnt++] = cli_global_options[i].name;
  for (cli_command_t const *c = command ? command : table; c->name; c++) {
    for (int i = 0; i < CLI_OPTIONS_MAX && c->options[i].name && cnt < CANDIDATES_MAX; i++)
      words[cnt++] = c->options[i].name;
    if (command) break;
  }
  hint_t const hint = hint_of(name, words, cnt, "--");
  if (command) return cli_fail_usage(cli, "%s has no option --%s%s", cli->command, name, hint.s);
  return cli_fail_usage(cli, "there is no option --%s%s", name, hint.s);
}

/* One option at argv[*at]; its value, if it has one, may be the next argument, then *at moves.
 * Lenient: what is wrong is passed over. */
static int read_option(cli_t const *cli, cli_command_t const *table, int argc, char **argv, int *at,
                       int lenient, cli_args_t *args) {
  char const *text = argv[*at];
  if (!strcmp(text, "-h") || (text[1] != '-' && lenient)) return CLI_OK;
  if (text[1] != '-')
    return cli_fail_usage(
        cli, "there is no option %s; options are written in full, with two dashes", text);
  char const *name = text + 2;
  size_t const len = strcspn(name, "=");
  cli_option_t const *option = option_anywhere(table, name, len);
  if (!option && lenient) return CLI_OK;
  if (!option) {
    argv[*at][2 + len] = '\0';
    return fail_unknown_option(cli, table, args->command, name);
  }
  char const *value = name[len] ? name + len + 1 : NULL;
  if (!option->value && value && !lenient)
    return cli_fail_usage(cli, "--%s takes no value, but was given '%s'", option->name, value);
  if (option->value && !value) {
    /* A further option is no value: the value was forgotten. */
    int const forgotten = *at + 1 >= argc || !strncmp(argv[*at + 1], "--", 2);
    if (forgotten && lenient) return CLI_OK;
    if (forgotten)
      return cli_fail_usage(cli, "--%s needs a value: --%s %s", option->name, option->name,
                            option->value);
    value = argv[++*at];
  }
  if (!lenient) args->given[args->given_cnt++] = (struct cli_given){option, value ? value : ""};
  return CLI_OK;
}

/* Tells words from options; words and args->given have room for all of argv. Lenient: only the
 * words. */
static int split(cli_t const *cli, cli_command_t const *table, int argc, char **argv, int lenient,
                 cli_args_t *args, char const **words, int *ret_word_cnt) {
  int word_cnt = 0, only_words = 0;
  for (int at = 1; at < argc; at++) {
    if (only_words || argv[at][0] != '-' || !argv[at][1]) {
      words[word_cnt++] = argv[at];
    } else if (!strcmp(argv[at], "--")) {
      only_words = 1;
    } else {
      int const status = read_option(cli, table, argc, argv, &at, lenient, args);
      if (status) return status;
    }
  }
  *ret_word_cnt = word_cnt;
  return CLI_OK;
}

/* The command that the words name: args->command, or args->group for a bare group, and in
 *ret_word_cnt how many words that took; an unknown one is left at NULL with 0 or 1 words. A group
 may have the name of a command, which has no operands then: further words are of the group. */
static void find_command(cli_command_t const *table, char const *const *words, int word_cnt,
                         cli_args_t *args, int *ret_word_cnt) {
  *ret_word_cnt = 0;
  for (cli_command_t const *c = table; c->name && word_cnt; c++) {
    if (!c->group && !strcmp(c->name, words[0])) {
      args->command = c;
      *ret_word_cnt = 1;
      if (word_cnt == 1) return;
      continue;
    }
    if (!c->group || strcmp(c->group, words[0])) continue;
    args->command = NULL;
    args->group = c->group;
    *ret_word_cnt = 1;
    if (word_cnt > 1 && !strcmp(c->name, words[1])) {
      args->command = c;
      args->group = NULL;
      *ret_word_cnt = 2;
      return;
    }
  }
}

/* What the command asks of its line. words: those after its name. */
static int check_command(cli_t const *cli, cli_command_t const *table, char const *const *words,
                         int word_cnt, cli_args_t *args) {
  cli_command_t const *command = args->command;
  for (int i = 0; i < args->given_cnt; i++) {
    cli_option_t const *option = args->given[i].option;
    if (!is_global(option))
      option = option_in(command->options, CLI_OPTIONS_MAX, option->name, strlen(option->name));
    if (!option) return fail_unknown_option(cli, table, command, args->given[i].option->name);
    char const *again = arg_nth(args, option->name, 1);
    if (again && option->value && !option->repeats)
      return cli_fail_usage(cli, "--%s is given twice: '%s' and '%s'", option->name,
                            cli_arg(args, option->name), again);
  }
  for (int i = 0; i < CLI_OPERANDS_MAX && command->operands[i]; i++) {
    if (i < word_cnt)
      args->operands[i] = words[i];
    else if (*command->operands[i] != '[')
      return cli_fail_usage(cli, "%s: %s is missing", cli->command, command->operands[i]);
  }
  int operand_cnt = 0;
  while (operand_cnt < CLI_OPERANDS_MAX && command->operands[operand_cnt]) operand_cnt++;
  if (word_cnt > operand_cnt)
    return cli_fail_usage(cli, "%s: '%s' is one word too many", cli->command, words[operand_cnt]);
  for (int i = 0; i < CLI_OPTIONS_MAX && command->options[i].name; i++)
    if (command->options[i].required && !cli_arg(args, command->options[i].name))
      return cli_fail_usage(cli, "%s: --%s %s is missing", cli->command, command->options[i].name,
                            command->options[i].value);
  return CLI_OK;
}

/* Takes the global options over into cli. */
static int take_globals(cli_t *cli, cli_args_t const *args) {
  cli->socket_path = cli_arg(args, "socket");
  if (cli->socket_path && !*cli->socket_path)
    return cli_fail_usage(cli, "--socket '' names no socket; give its path");
  char const *timeout = cli_arg(args, "timeout");
  if (timeout) {
    char const *why = parse_duration(timeout, &cli->timeout_ms);
    if (why) return cli_fail_usage(cli, "--timeout '%s' %s", timeout, why);
  }
  return CLI_OK;
}

/* Options before words: what must be known even if the rest of the line is wrong. */
static void look_ahead(cli_t *cli, int argc, char **argv, cli_args_t *args) {
  for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
    if (!strcmp(argv[i], "--json")) cli->json = 1;
    if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) args->help = 1;
    if (!strcmp(argv[i], "--version")) args->version = 1;
  }
}

static int read_words(cli_t *cli, cli_command_t const *table, int argc, char **argv,
                      cli_args_t *args, char const **words) {
  /* First the words, so that what is wrong with the options can be told with the command's usage.
   */
  int word_cnt;
  int status = split(cli, table, argc, argv, 1, args, words, &word_cnt);
  if (status) return status;
  /* "wkspctl help heap new" is "wkspctl heap new --help". */
  if (word_cnt && !strcmp(words[0], "help")) {
    args->help = 1;
    words++;
    word_cnt--;
    args->every = word_cnt == 1 && !strcmp(words[0], "commands");
    if (args->every) return CLI_OK;
  }
  int name_cnt;
  find_command(table, words, word_cnt, args, &name_cnt);
  if (args->command) {
    snprintf(cli->command, sizeof cli->command, "%s%s%s",
             args->command->group ? args->command->group : "", args->command->group ? " " : "",
             args->command->name);
    cli_usage_line(args->command, cli->usage, sizeof cli->usage);
  } else if (args->group) {
    snprintf(cli->command, sizeof cli->command, "%s", args->group);
    snprintf(cli->usage, sizeof cli->usage, "%s COMMAND ...", args->group);
  }
  if (!args->command && word_cnt > name_cnt)
    return fail_unknown_command(cli, table, args->group, words[name_cnt]);
  if (args->help) return CLI_OK;

  status = split(cli, table, argc, argv, 0, args, words, &word_cnt);
  if (!status) status = take_globals(cli, args);
  if (status || (args->version && !word_cnt)) return status;
  if (!args->command && args->group)
    return cli_fail_usage(cli, "%s: COMMAND is missing", args->group);
  if (!args->command) return cli_fail_usage(cli, "COMMAND is missing");
  return check_command(cli, table, words + name_cnt, word_cnt - name_cnt, args);
}

int cli_args_read(cli_t *cli, cli_command_t const *table, int argc, char **argv,
                  cli_args_t *ret_args) {
  cli_args_t args = {0};
  snprintf(cli->usage, sizeof cli->usage, "COMMAND ... [--socket PATH] [--json] [--timeout TIME]");
  look_ahead(cli, argc, argv, &args);
  size_t const cap = argc > 0 ? (size_t)argc : 1;
  char const **words = calloc(cap, sizeof *words);
  args.given = calloc(cap, sizeof *args.given);
  int status =
      words && args.given ? read_words(cli, table, argc, argv, &args, words) : cli_fail_memory(cli);
  free(words);
  if (status)
    cli_args_free(&args);
  else
    *ret_args = args;
  return status;
}

void cli_args_free(cli_args_t *args) {
  free(args->given);
  args->given = NULL;
  args->given_cnt = 0;
}
