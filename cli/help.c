/* help: what --help prints, all of it from the table of commands.

   The overview fits a screen of 24 lines and 80 columns, so it has names only, by topic; `help
   commands` has a line for each, and each command's own help all about it. */

#include "help.h"

#include <stdio.h>
#include <string.h>

/* What the commands of a group have in common. */
static struct {
  char const *name, *what, *examples;
} const groups[] = {
    {"root", "work on the named roots in a workspace",
     "  wkspctl root set demo words 0x22000\n"
     "  wkspctl root ls demo\n"},
    {"heap", "work on the fd_alloc heaps in a workspace",
     "  wkspctl heap new demo --tag 7\n"
     "  wkspctl heap malloc demo:0x22000 --size 100\n"},
    {"hugepages", "show and set the pools of huge pages",
     "  wkspctl hugepages\n"
     "  wkspctl hugepages reserve --node 0 --size 2M --count 512\n"},
};

/* The number of a group in there; every group of the table has one. */
static size_t group_of(char const *name) {
  size_t i = 0;
  while (i < sizeof groups / sizeof *groups - 1 && strcmp(groups[i].name, name)) i++;
  return i;
}

#define HELP_WIDTH 80

static void print_examples_head(void) {
  fputs("\nExamples:\n", stdout);
}

/* 1 if there is a command of that name that is in no group. */
static int stands_alone(cli_command_t const *table, char const *name) {
  for (cli_command_t const *c = table; c->name; c++)
    if (!c->group && !strcmp(c->name, name)) return 1;
  return 0;
}

static void list_group(cli_command_t const *table, char const *group) {
  for (cli_command_t const *c = table; c->name; c++)
    if (c->group && !strcmp(c->group, group)) printf("  %-9s %s\n", c->name, c->what);
}

void help_group(cli_command_t const *table, char const *group) {
  printf("usage: wkspctl %s COMMAND ...\n\n", group);
  list_group(table, group);
  print_examples_head();
  fputs(groups[group_of(group)].examples, stdout);
}

/* 1: a group is named where its first command stands, unless a command has its name. */
static int names_group(cli_command_t const *table, cli_command_t const *command) {
  if (stands_alone(table, command->group)) return 0;
  return command == table || !command[-1].group || strcmp(command[-1].group, command->group) != 0;
}

/* What one types first for it: the command's or its group's name; NULL: it has been named. */
static char const *first_word(cli_command_t const *table, cli_command_t const *command) {
  if (!command->group) return command->name;
  return names_group(table, command) ? command->group : NULL;
}

#define TOPIC_WIDTH 15

void help_overview(cli_command_t const *table) {
  fputs("usage: wkspctl COMMAND ... [--socket PATH] [--json] [--timeout TIME]\n", stdout);
  int width = 0;
  for (cli_command_t const *c = table; c->name; c++) {
    char const *word = first_word(table, c);
    if (c->topic) printf("\n  %-*s", TOPIC_WIDTH - 3, c->topic);
    if (c->topic) width = TOPIC_WIDTH - 1;
    if (!word) continue;
    if (width + 1 + (int)strlen(word) > HELP_WIDTH)
      width = printf("\n%*s", TOPIC_WIDTH - 1, "") - 1;
    width += printf(" %s", word);
  }
  fputs("\n\nwkspctl help COMMAND: all about one; wkspctl help commands: a line about each\n"
        "Socket: --socket, else $WKSPD_SOCKET, else " WKSP_SOCKET_DEFAULT "\n"
        "Exit: 0 ok, 1 failed, 2 wrong usage, 3 no daemon, 4 found leaks or damage\n"
        "JSON: addresses and tags are strings \"0x...\", other figures integers\n",
        stdout);
  print_examples_head();
  fputs("  wkspctl create demo --size 64M\n"
        "  wkspctl usage demo --json\n",
        stdout);
}

void help_every(cli_command_t const *table) {
  for (cli_command_t const *c = table; c->name; c++) {
    char const *word = first_word(table, c);
    if (c->group && word) printf("  %-17s %s\n", word, groups[group_of(word)].what);
    if (c->group)
      printf("  %s %-*s %s\n", c->group, 16 - (int)strlen(c->group), c->name, c->what);
    else
      printf("  %-17s %s\n", c->name, c->what);
  }
  fputs("  help              print help\n", stdout);
}

static void help_option(cli_option_t const *option) {
  char head[32];
  snprintf(head, sizeof head, "--%s%s%s", option->name, option->value ? " " : "",
           option->value ? option->value : "");
  printf("  %-15s %s\n", head, option->what);
}

/* As many of a usage line's options in each line as fit a screen. */
static void help_usage(char *usage) {
  int width = printf("usage: wkspctl ");
  int const indent = width;
  for (char *at = usage, *end; at; at = end ? end + 1 : NULL) {
    end = strstr(at, " [");
    if (!end) end = strstr(at, " --");
    if (end) *end = '\0';
    int const len = (int)strlen(at);
    if (width > indent && width + 1 + len > HELP_WIDTH) width = printf("\n%*s", indent, "") - 1;
    width += printf("%s%s", width > indent ? " " : "", at);
  }
  putchar('\n');
}

void help_command(cli_command_t const *table, cli_command_t const *command) {
  char usage[CLI_USAGE_MAX];
  cli_usage_line(command, usage, sizeof usage);
  help_usage(usage);
  int is_group = 0;
  for (cli_command_t const *c = table; c->name; c++)
    is_group |= !command->group && c->group && !strcmp(c->group, command->name);
  if (is_group) printf("       wkspctl %s COMMAND ...\n\n", command->name);
  if (is_group) list_group(table, command->name);
  printf("\n%c%s.\n%s\n", command->what[0] - 'a' + 'A', command->what + 1, command->text);
  for (int i = 0; i < CLI_OPTIONS_MAX && command->options[i].name; i++)
    help_option(&command->options[i]);
  for (cli_option_t const *option = cli_global_options; option->name; option++)
    if (strcmp(option->name, "version")) help_option(option);
  print_examples_head();
  fputs(command->examples, stdout);
}
