/* complete: what may stand at the end of a command line, for the shells' completion.

   The problem: a completion that lists commands and options itself is wrong as soon as one is
   added. So the shells ask: wkspctl __complete WORD... prints what the last word, which may be
   empty, can become, a candidate and its description a line, with a tab between. The answer comes
   from the table of commands, and names of workspaces, partitions, roots, checkpoints and jobs from
   the daemon, if it answers within DEADLINE_MS. A line ":files" says that file names are wanted, a
   candidate that ends in ':' that more is to follow it.

   It refuses: to fail. Who presses a key wants no message; what is not known is not offered. */

#include "complete.h"

#include "ckpt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEADLINE_MS 1000

/* What a value can be, by what the table calls it, and where that says too little by its option;
   NULL: file names. */
static struct {
  char const *value, *option, *words;
} const choices[] = {
    {"PAGE", NULL, "auto 4k 2M"},
    {"WHAT", "what", "test tag leak full"},
    {"WHAT", "on-stop", "checkpoint nothing"},
    {"WHAT", "on-start", "restore nothing"},
    {"LEVEL", NULL, "leave quick tag"},
    {"FORMAT", NULL, "openmetrics prometheus"},
    {"SIZE", NULL, "1M 64M 256M 1G"},
    {"STYLE", NULL, "raw lz4 zstd"},
    {"TIME", "every", "5m 1h 1d never"},
    {"TIME", "drill", "1d 1w never"},
    {"PATH", NULL, NULL},
    {"FILE", NULL, NULL},
};

typedef struct line {
  cli_command_t const *table;
  char const *last;                        /* the word to complete */
  char const *words[CLI_OPERANDS_MAX + 3]; /* before it, without options */
  int word_cnt;
  char const *given[32]; /* options before it, without dashes; more are not remembered */
  int given_cnt;
  cli_option_t const *open; /* the option whose value the last word is, NULL: none */
  char const *socket_path;
} line_t;

static void offer(line_t const *line, char const *word, char const *what) {
  if (!strncmp(word, line->last, strlen(line->last))) printf("%s\t%s\n", word, what ? what : "");
}

static cli_option_t const *option_in(cli_option_t const *options, size_t cap, char const *name) {
  for (size_t i = 0; i < cap && options[i].name; i++)
    if (!strcmp(options[i].name, name)) return &options[i];
  return NULL;
}

#define GLOBALS_MAX 16

/* The option of that name, in any command: whether it has a value is the same in all. */
static cli_option_t const *option_of(cli_command_t const *table, char const *name) {
  cli_option_t const *option = option_in(cli_global_options, GLOBALS_MAX, name);
  for (cli_command_t const *c = table; !option && c->name; c++)
    option = option_in(c->options, CLI_OPTIONS_MAX, name);
  return option;
}

/* Tells words from options, as args.c does, but whatever the line looks like. */
static void read_line(line_t *line, int cnt, char *const *words) {
  for (int i = 0; i + 1 < cnt; i++) {
    char const *word = words[i];
    if (strncmp(word, "--", 2)) {
      if (line->word_cnt < CLI_OPERANDS_MAX + 3) line->words[line->word_cnt++] = word;
      continue;
    }
    cli_option_t const *option = option_of(line->table, word + 2);
    if (line->given_cnt < 32) line->given[line->given_cnt++] = word + 2;
    if (!option || !option->value) continue;
    if (i + 2 == cnt)
      line->open = option;
    else if (!strcmp(option->name, "socket"))
      line->socket_path = words[i + 1];
    i++;
  }
  line->last = cnt ? words[cnt - 1] : "";
  /* "wkspctl help heap new" */
  if (line->word_cnt && !strcmp(line->words[0], "help"))
    memmove(line->words, line->words + 1, (size_t)--line->word_cnt * sizeof *line->words);
}

/* The command that the words name, and how many of them do; NULL: none, or only its group. */
static cli_command_t const *command_of(line_t const *line, int *ret_named) {
  cli_command_t const *found = NULL;
  *ret_named = 0;
  for (cli_command_t const *c = line->table; c->name && line->word_cnt; c++) {
    if (strcmp(c->group ? c->group : c->name, line->words[0])) continue;
    if (!c->group && !*ret_named) {
      found = c;
      *ret_named = 1;
    } else if (c->group && line->word_cnt > 1 && !strcmp(c->name, line->words[1])) {
      found = c;
      *ret_named = 2;
    }
  }
  return found;
}

static void offer_commands(line_t const *line) {
  char const *group = NULL;
  for (cli_command_t const *c = line->table; c->name; c++) {
    if (!c->group) {
      offer(line, c->name, c->what);
    } else if (!group || strcmp(group, c->group)) {
      group = c->group;
      int alone = 0; /* a command has the group's name and has been offered */
      for (cli_command_t const *d = line->table; d->name; d++)
        alone |= !d->group && !strcmp(d->name, group);
      if (!alone) offer(line, group, "a group of commands");
    }
  }
  offer(line, "help", "print help");
}

static void offer_group(line_t const *line) {
  for (cli_command_t const *c = line->table; c->name; c++)
    if (c->group && !strcmp(c->group, line->words[0])) offer(line, c->name, c->what);
}

static void offer_options(line_t const *line, cli_option_t const *options, size_t cap) {
  for (size_t i = 0; i < cap && options[i].name; i++) {
    int given = 0;
    for (int k = 0; k < line->given_cnt; k++) given |= !strcmp(line->given[k], options[i].name);
    char word[40];
    snprintf(word, sizeof word, "--%s", options[i].name);
    if (!given || options[i].repeats) offer(line, word, options[i].what);
  }
}

/* option: whose value it is, "": an operand. */
static void offer_value(line_t const *line, char const *option, char const *value) {
  for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
    if (strcmp(choices[i].value, value)) continue;
    if (choices[i].option && strcmp(choices[i].option, option) != 0) continue;
    if (!choices[i].words) puts(":files");
    for (char const *at = choices[i].words; at && *at;) {
      int const len = (int)strcspn(at, " ");
      char word[24];
      snprintf(word, sizeof word, "%.*s", len, at);
      offer(line, word, NULL);
      at += len + (at[len] == ' ');
    }
  }
}

/* NULL: nobody answers. */
static wksp_client_t *connect_to(line_t const *line) {
  wksp_client_t *client = wksp_client_connect(line->socket_path);
  if (client) (void)wksp_client_deadline_set(client, DEADLINE_MS);
  return client;
}

typedef struct naming {
  line_t const *line;
  char const *suffix;
} naming_t;

static int offer_name(void *arg, wksp_info_t const *info) {
  naming_t const *naming = arg;
  char word[sizeof info->name + 1];
  snprintf(word, sizeof word, "%s%s", info->name, naming->suffix);
  if (!info->removing) offer(naming->line, word, NULL);
  return 0;
}

static void offer_names(line_t const *line, char const *suffix) {
  wksp_client_t *client = connect_to(line);
  naming_t naming = {line, suffix};
  if (client) (void)wksp_client_list(client, offer_name, &naming);
  wksp_client_close(client);
}

/* NAME:GADDR of the partitions that programs took; before a ':' there are names only. */
static void offer_places(line_t const *line) {
  char const *colon = strchr(line->last, ':');
  char name[FD_WKSP_NAME_MAX + 1];
  wksp_query_t query;
  if (!colon) {
    offer_names(line, ":");
    return;
  }
  if ((size_t)(colon - line->last) >= sizeof name) return;
  snprintf(name, sizeof name, "%.*s", (int)(colon - line->last), line->last);
  wksp_client_t *client = connect_to(line);
  if (client && !wksp_client_query(client, name, NULL, 0, &query)) {
    for (ulong i = 0; i < query.part_cnt; i++) {
      char word[80], what[64];
      snprintf(word, sizeof word, "%s:0x%lx", name, query.parts[i].gaddr);
      snprintf(what, sizeof what, "tag 0x%lx, %lu bytes", query.parts[i].tag, query.parts[i].size);
      if (query.parts[i].kind == FD_WKSP_KIND_USER) offer(line, word, what);
    }
    wksp_query_free(&query);
  }
  wksp_client_close(client);
}

/* Names of roots of the workspace that is named before, those that a shell takes as they are. */
static void offer_roots(line_t const *line, char const *name) {
  wksp_query_t query;
  wksp_client_t *client = connect_to(line);
  if (client && !wksp_client_query(client, name, NULL, 0, &query)) {
    for (ulong i = 0; i < query.root_cnt; i++)
      if (!query.roots[i].name[strspn(query.roots[i].name, "abcdefghijklmnopqrstuvwxyz0123456789"
                                                           "ABCDEFGHIJKLMNOPQRSTUVWXYZ._+/-")])
        offer(line, query.roots[i].name, NULL);
    wksp_query_free(&query);
  }
  wksp_client_close(client);
}

static int offer_checkpoint(void *arg, wksp_checkpoint_t const *one) {
  char what[WKSP_CHECKPOINT_INFO_MAX + FD_WKSP_NAME_MAX + 128];
  char *safe = render_safe(one->bad[0] ? one->bad : one->info);
  snprintf(what, sizeof what, "%s, %s, %s%s", one->name, render_time(one->created_ns).s,
           one->bad[0] ? "bad: " : "", safe ? safe : "");
  free(safe);
  offer(arg, one->id, what);
  return 0;
}

/* Ids of checkpoints, of that workspace or (NULL) of all. */
static void offer_checkpoints(line_t const *line, char const *name) {
  wksp_client_t *client = connect_to(line);
  if (client) (void)wksp_client_checkpoints(client, name, offer_checkpoint, (void *)line);
  wksp_client_close(client);
}

typedef struct restoring {
  line_t const *line;
  char last[FD_WKSP_NAME_MAX + 1];
} restoring_t;

static int offer_restorable(void *arg, wksp_checkpoint_t const *one) {
  restoring_t *restoring = arg;
  if (one->name[0] && strcmp(one->name, restoring->last) != 0)
    offer(restoring->line, one->name, NULL);
  snprintf(restoring->last, sizeof restoring->last, "%s", one->name);
  return 0;
}

/* Names that checkpoints have, also of workspaces that are gone. */
static void offer_restorables(line_t const *line) {
  restoring_t restoring = {.line = line};
  wksp_client_t *client = connect_to(line);
  if (client) (void)wksp_client_checkpoints(client, NULL, offer_restorable, &restoring);
  wksp_client_close(client);
}

static int offer_job(void *arg, wksp_job_t const *job) {
  char word[24], what[80];
  snprintf(word, sizeof word, "%lu", job->id);
  snprintf(what, sizeof what, "%s of %s", ckpt_job_kind(job->kind), job->name);
  if (job->state == WKSP_JOB_QUEUED || job->state == WKSP_JOB_RUNNING) offer(arg, word, what);
  return 0;
}

static void offer_jobs(line_t const *line) {
  wksp_client_t *client = connect_to(line);
  if (client) (void)wksp_client_jobs(client, offer_job, (void *)line);
  wksp_client_close(client);
}

static void offer_operand(line_t const *line, cli_command_t const *command, int named) {
  int const nth = line->word_cnt - named;
  char const *operand = nth < CLI_OPERANDS_MAX ? command->operands[nth] : NULL;
  if (!operand) return;
  if (!strcmp(operand, "PLACE") || !strcmp(operand, "HEAP"))
    offer_places(line);
  else if (!strcmp(operand, "ROOT") && nth > 0)
    offer_roots(line, line->words[line->word_cnt - 1]);
  else if (!strcmp(operand, "ID") || !strcmp(operand, "[ID]"))
    offer_checkpoints(line, NULL);
  else if (!strcmp(operand, "JOB"))
    offer_jobs(line);
  else if (!strcmp(command->name, "restore") || !strcmp(command->name, "checkpoints"))
    offer_restorables(line);
  else if (strcmp(command->name, "create") &&
           (!strcmp(operand, "NAME") || !strcmp(operand, "[NAME]")))
    offer_names(line, "");
  else
    offer_value(line, "", operand);
}

int complete(cli_command_t const *table, int word_cnt, char *const *words) {
  line_t line = {.table = table};
  read_line(&line, word_cnt, words);
  int named;
  cli_command_t const *command = command_of(&line, &named);
  if (line.open && !strcmp(line.open->value, "ID")) {
    offer_checkpoints(&line, line.word_cnt > named ? line.words[named] : NULL);
    return CLI_OK;
  }
  if (line.open) {
    offer_value(&line, line.open->name, line.open->value);
    return CLI_OK;
  }
  if (*line.last == '-') {
    if (command) offer_options(&line, command->options, CLI_OPTIONS_MAX);
    offer_options(&line, cli_global_options, GLOBALS_MAX);
    return CLI_OK;
  }
  if (!line.word_cnt)
    offer_commands(&line);
  else if (line.word_cnt == 1 && (!command || !command->operands[0]))
    offer_group(&line);
  else if (command)
    offer_operand(&line, command, named);
  return CLI_OK;
}
