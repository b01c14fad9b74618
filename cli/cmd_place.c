/* cmd_place: plan, map, and what show says of placement - on which nodes pages are wanted, and are.

   The daemon asks the kernel; no memory is mapped here. */

#include "cli.h"
#include "render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Plan
 * ------------------------------------------------------------------------------------------------
 */

static json_t *plan_json(wksp_plan_t const *plan) {
  json_t *nodes = json_array();
  for (uint i = 0; nodes && i < plan->node_cnt; i++) {
    wksp_plan_node_t const *node = &plan->node[i];
    if (!json_array_append_new(
            nodes,
            json_pack("{s:I, s:b, s:o, s:o, s:o, s:o}", "node", (json_int_t)node->node, "allowed",
                      (int)node->allowed, "wanted", render_json_figure(node->wanted), "growth",
                      render_json_figure(node->growth), "free", render_json_figure(node->free),
                      "total", render_json_figure(node->total))))
      continue;
    json_decref(nodes);
    nodes = NULL;
  }
  return json_pack("{s:o, s:o, s:o, s:b, s:o, s:o, s:b, s:o, s:o, s:o}", "page_size",
                   render_json_figure(plan->page_size), "size", render_json_figure(plan->size),
                   "max_size", render_json_figure(plan->max_size), "strict", (int)plan->strict,
                   "policy", render_json_text(plan->nodes), "why", render_json_text(plan->why),
                   "possible", !plan->lacking[0], "lacking",
                   plan->lacking[0] ? render_json_text(plan->lacking) : json_null(), "hint",
                   plan->hint[0] ? render_json_text(plan->hint) : json_null(), "nodes", nodes);
}

static int plan_print(cli_t const *cli, wksp_plan_t const *plan) {
  static render_column_t const columns[] = {{"NODE", 1},   {"PAGE", 1}, {"WANTED", 1},
                                            {"GROWTH", 1}, {"FREE", 1}, {"TOTAL", 1}};
  char *why = render_safe(plan->why), *nodes = render_safe(plan->nodes);
  if (why && nodes) {
    render_fact("size", "%s", render_size_exact(plan->size).s);
    if (plan->max_size > plan->size)
      render_fact("max size", "%s", render_size_exact(plan->max_size).s);
    render_fact("nodes", "%s%s", nodes, plan->strict ? "" : ", or elsewhere");
    if (why[0]) render_fact("pages", "%s", why);
    putchar('\n');
  }
  int const bad = !why || !nodes;
  free(why);
  free(nodes);
  if (bad) return cli_fail_memory(cli);
  render_table_t *table = render_table_new(columns, sizeof columns / sizeof *columns);
  for (uint i = 0; i < plan->node_cnt; i++) {
    wksp_plan_node_t const *node = &plan->node[i];
    render_table_row(table,
                     (char const *[]){render_number(node->node).s, render_size(plan->page_size).s,
                                      render_number(node->wanted).s, render_number(node->growth).s,
                                      node->allowed ? render_number(node->free).s : "hidden",
                                      render_number(node->total).s});
  }
  return render_table_print(table) ? cli_fail_memory(cli) : CLI_OK;
}

int cmd_plan(cli_t *cli, cli_args_t const *args) {
  wksp_create_t create = {.name = NULL};
  int status = cli_arg_sizes(cli, args, &create);
  if (!status) status = cli_connect(cli);
  if (status) return status;
  wksp_plan_t plan;
  int const err = wksp_client_plan(cli->client, &create, &plan);
  if (err) return cli_fail_wksp(cli, err);
  status = cli->json ? render_json(cli, plan_json(&plan)) : plan_print(cli, &plan);
  if (status || !plan.lacking[0]) return status;
  if (cli->json) return CLI_FAILED; /* the object says what is missing */
  fflush(stdout);
  return cli_fail(cli, "pages", "%s; %s", plan.lacking, plan.hint);
}

/* Placement
 * ------------------------------------------------------------------------------------------------
 */

json_t *place_json(wksp_placement_t const *placement) {
  json_t *nodes = json_array(), *runs = json_array();
  int failed = !nodes || !runs;
  for (uint i = 0; !failed && i < placement->node_cnt; i++) {
    wksp_place_node_t const *node = &placement->node[i];
    failed = json_array_append_new(
        nodes, json_pack("{s:o, s:o, s:o, s:o}", "node",
                         node->node < 0 ? json_null() : json_integer(node->node), "page_size",
                         render_json_figure(placement->info.page_size), "wanted",
                         render_json_figure(node->wanted), "got", render_json_figure(node->got)));
  }
  for (ulong i = 0; !failed && i < placement->run_cnt; i++) {
    wksp_page_run_t const *run = &placement->runs[i];
    failed = json_array_append_new(
        runs, json_pack("{s:o, s:o, s:o}", "first", render_json_figure(run->first), "cnt",
                        render_json_figure(run->cnt), "node",
                        run->node < 0 ? json_null() : json_integer(run->node)));
  }
  if (failed) {
    json_decref(nodes);
    json_decref(runs);
    return NULL;
  }
  return json_pack("{s:o, s:o, s:b, s:o, s:o, s:o, s:b}", "numa", render_json_text(placement->numa),
                   "policy", render_json_text(placement->nodes), "strict", (int)placement->strict,
                   "elsewhere", render_json_figure(placement->elsewhere), "nodes", nodes, "runs",
                   runs, "runs_cut", (int)placement->runs_cut);
}

/* "1", or what stands for a page that the kernel says nothing of. */
static render_text_t node_text(int node) {
  render_text_t text = {"none"};
  return node < 0 ? text : render_number((ulong)node);
}

int place_print(cli_t const *cli, wksp_placement_t const *placement) {
  static render_column_t const columns[] = {
      {"NODE", 1}, {"PAGE", 1}, {"WANTED", 1}, {"GOT", 1}, {"BYTES", 1}};
  char *numa = render_safe(placement->numa), *nodes = render_safe(placement->nodes);
  int const bad = !numa || !nodes;
  if (!bad && placement->nodes[0])
    render_fact("placement", "%s%s%s%s%s", nodes, numa[0] ? " (asked for " : "", numa,
                numa[0] ? ")" : "", placement->strict ? "" : ", or elsewhere");
  free(numa);
  free(nodes);
  if (bad) return cli_fail_memory(cli);
  if (placement->elsewhere)
    render_fact("elsewhere", "%s%lu pages are on other nodes than wanted",
                placement->runs_cut ? "at least " : "", placement->elsewhere);
  putchar('\n');
  render_table_t *table = render_table_new(columns, sizeof columns / sizeof *columns);
  for (uint i = 0; i < placement->node_cnt; i++) {
    wksp_place_node_t const *node = &placement->node[i];
    render_table_row(
        table, (char const *[]){node_text(node->node).s, render_size(placement->info.page_size).s,
                                placement->nodes[0] ? render_number(node->wanted).s : "-",
                                render_number(node->got).s,
                                render_size(node->got * placement->info.page_size).s});
  }
  return render_table_print(table) ? cli_fail_memory(cli) : CLI_OK;
}

/* Map
 * ------------------------------------------------------------------------------------------------
 */

/* Columns of a strip: those of the terminal but for its frame, within these. */
#define CELLS_MIN 16
#define CELLS_MAX 512
#define FRAME     10

enum { NODE_NONE = -1, NODE_SEVERAL = -2, NODE_UNKNOWN = -3 };

typedef struct strip {
  uint cnt;
  ulong size, cell; /* bytes: of all, and of a cell but for the last */
  int node[CELLS_MAX];
  ulong used[CELLS_MAX]; /* bytes in partitions */
} strip_t;

static uint columns(void) {
  struct winsize size;
  int const known = !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col;
  uint const wide = known ? size.ws_col : 80;
  return wide < CELLS_MIN + FRAME ? CELLS_MIN : wide > CELLS_MAX + FRAME ? CELLS_MAX : wide - FRAME;
}

/* The end of a cell, bytes. */
static ulong cell_end(strip_t const *strip, uint i) {
  return i + 1 == strip->cnt ? strip->size : (i + 1) * strip->cell;
}

static void strip_nodes(strip_t *strip, wksp_placement_t const *placement) {
  for (uint i = 0; i < strip->cnt; i++) strip->node[i] = NODE_UNKNOWN;
  for (ulong r = 0; r < placement->run_cnt; r++) {
    wksp_page_run_t const *run = &placement->runs[r];
    ulong from = run->first * placement->info.page_size;
    ulong to = (run->first + run->cnt) * placement->info.page_size;
    if (from >= strip->size) break;
    for (uint i = (uint)(from / strip->cell); i < strip->cnt && i * strip->cell < to; i++)
      strip->node[i] =
          strip->node[i] == NODE_UNKNOWN || strip->node[i] == run->node ? run->node : NODE_SEVERAL;
  }
}

static void strip_parts(strip_t *strip, wksp_query_t const *query) {
  for (ulong p = 0; p < query->part_cnt; p++) {
    ulong at = query->parts[p].gaddr, end = at + query->parts[p].size;
    if (end > strip->size) end = strip->size;
    while (at < end) {
      uint i = (uint)(at / strip->cell);
      ulong to = cell_end(strip, i);
      if (to > end) to = end;
      strip->used[i] += to - at;
      at = to;
    }
  }
}

static char node_char(int node) {
  return node == NODE_SEVERAL || node > 35 ? '*'
         : node < 0                        ? '?'
         : node < 10                       ? (char)('0' + node)
                                           : (char)('a' + node - 10);
}

static char used_char(strip_t const *strip, uint i) {
  ulong const all = cell_end(strip, i) - i * strip->cell;
  return !strip->used[i]             ? '.'
         : strip->used[i] >= all     ? '#'
         : strip->used[i] * 2 >= all ? '+'
                                     : '-';
}

static void strip_print(strip_t const *strip, wksp_placement_t const *placement) {
  char const *no_color = getenv("NO_COLOR");
  int const colour = isatty(STDOUT_FILENO) && (!no_color || !no_color[0]);
  printf("%s: %s in pages of %s, %s a column\n", placement->info.name,
         render_size_exact(strip->size).s, render_size(placement->info.page_size).s,
         render_size(strip->cell).s);
  printf("%-8s|", "node");
  for (uint i = 0; i < strip->cnt; i++) {
    int const node = strip->node[i];
    if (colour && node >= 0)
      printf("\033[3%dm%c\033[0m", 1 + node % 6, node_char(node));
    else
      putchar(node_char(node));
  }
  printf("|\n%-8s|", "in use");
  for (uint i = 0; i < strip->cnt; i++) putchar(used_char(strip, i));
  printf("|\n\n# in use, + half or more, - less, . nothing%s\n",
         placement->runs_cut || placement->info.page_size < strip->cell
             ? "; * several nodes, ? not known"
             : "");
}

static int map_print(cli_t const *cli, wksp_placement_t const *placement,
                     wksp_query_t const *query) {
  strip_t *strip = calloc(1, sizeof *strip);
  if (!strip) return cli_fail_memory(cli);
  strip->size = placement->info.size;
  strip->cnt = columns();
  strip->cell = (strip->size + strip->cnt - 1) / strip->cnt;
  if (strip->cell < placement->info.page_size) strip->cell = placement->info.page_size;
  strip->cnt = (uint)((strip->size + strip->cell - 1) / strip->cell);
  strip_nodes(strip, placement);
  strip_parts(strip, query);
  strip_print(strip, placement);
  free(strip);
  return CLI_OK;
}

static json_t *map_json(wksp_placement_t const *placement, wksp_query_t const *query) {
  json_t *parts = json_array(), *placed = place_json(placement);
  int failed = !parts || !placed;
  for (ulong i = 0; !failed && i < query->part_cnt; i++)
    failed = json_array_append_new(parts, render_json_part(&query->parts[i]));
  if (failed) {
    json_decref(parts);
    json_decref(placed);
    return NULL;
  }
  return json_pack("{s:o, s:o, s:o, s:o, s:o}", "name", render_json_text(placement->info.name),
                   "size", render_json_figure(placement->info.size), "page_size",
                   render_json_figure(placement->info.page_size), "placement", placed, "partitions",
                   parts);
}

int cmd_map(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0];
  int status = cli_connect(cli);
  if (status) return status;
  wksp_placement_t placement;
  wksp_query_t query;
  int err = wksp_client_placement(cli->client, name, &placement);
  if (err) return cli_fail_wksp(cli, err);
  err = wksp_client_query(cli->client, name, NULL, 0, &query);
  if (err) {
    wksp_placement_free(&placement);
    return cli_fail_wksp(cli, err);
  }
  status = cli->json ? render_json(cli, map_json(&placement, &query))
                     : map_print(cli, &placement, &query);
  wksp_query_free(&query);
  wksp_placement_free(&placement);
  return status;
}
