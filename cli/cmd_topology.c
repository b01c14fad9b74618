/* cmd_topology: which nodes and cpus there are, how far apart, and which of them may be used here.

   Read from sysfs by this process; the daemon is not asked. */

#include "cli.h"
#include "host.h"
#include "render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A set as the kernel writes it, "" for the empty one. */
static json_t *set_json(sys_set_t const *set) {
  static char text[SYS_TEXT_MAX];
  return json_string(sys_set_cnt(set) ? sys_set_text(set, text, sizeof text) : "");
}

/* a without b. */
static sys_set_t without(sys_set_t const *a, sys_set_t const *b) {
  sys_set_t rest;
  for (uint i = 0; i < SYS_SET_MAX / 64; i++) rest.word[i] = a->word[i] & ~b->word[i];
  return rest;
}

static json_t *node_json(host_t const *host, uint at) {
  host_node_t const *node = &host->node[at];
  uint const first = sys_set_next(&node->cpus, 0);
  json_t *distances = json_array();
  for (uint i = 0; i < host->node_cnt; i++)
    json_array_append_new(distances,
                          json_pack("{s:I, s:I}", "node", (json_int_t)host->node[i].id, "distance",
                                    (json_int_t)host->distance[at * host->node_cnt + i]));
  return json_pack("{s:I, s:o, s:I, s:o, s:o, s:o, s:b, s:o}", "node", (json_int_t)node->id, "cpus",
                   set_json(&node->cpus), "cpu_cnt", (json_int_t)sys_set_cnt(&node->cpus),
                   "first_cpu", first < SYS_SET_MAX ? json_integer(first) : json_null(), "memory",
                   render_json_figure(node->mem), "free", render_json_figure(node->mem_free),
                   "allowed", node->allowed, "distances", distances);
}

static json_t *topology_json(host_t const *host) {
  json_t *nodes = json_array(), *cpus = json_array();
  for (uint i = 0; i < host->node_cnt; i++) json_array_append_new(nodes, node_json(host, i));
  for (uint cpu = sys_set_next(&host->cpus, 0); cpu < SYS_SET_MAX;
       cpu = sys_set_next(&host->cpus, cpu + 1)) {
    host_node_t const *node = host_node_of_cpu(host, cpu);
    json_array_append_new(cpus, json_pack("{s:I, s:o, s:b}", "cpu", (json_int_t)cpu, "node",
                                          node ? json_integer(node->id) : json_null(), "allowed",
                                          sys_set_has(&host->cpus_ok, cpu)));
  }
  sys_set_t const offline = without(&host->possible, &host->online);
  return json_pack("{s:b, s:o, s:o, s:o, s:o, s:o}", "numa", host->numa, "nodes", nodes, "cpus",
                   cpus, "offline_nodes", set_json(&offline), "allowed_nodes",
                   set_json(&host->mems_ok), "allowed_cpus", set_json(&host->cpus_ok));
}

static int print_nodes(cli_t const *cli, host_t const *host) {
  static render_column_t const columns[] = {{"NODE", 1},   {"FIRST CPU", 1}, {"CPUS", 0},
                                            {"MEMORY", 1}, {"FREE", 1},      {"ALLOWED", 0}};
  static char cpus[SYS_TEXT_MAX];
  render_table_t *table = render_table_new(columns, 6);
  for (uint i = 0; i < host->node_cnt; i++) {
    host_node_t const *node = &host->node[i];
    uint const first_cpu = sys_set_next(&node->cpus, 0);
    render_text_t const id = render_number(node->id), memory = render_size(node->mem),
                        unused = render_size(node->mem_free), first = render_number(first_cpu);
    char const *cells[] = {id.s,
                           first_cpu < SYS_SET_MAX ? first.s : "-",
                           sys_set_text(&node->cpus, cpus, sizeof cpus),
                           memory.s,
                           unused.s,
                           node->allowed ? "yes" : "no"};
    render_table_row(table, cells);
  }
  return render_table_print(table) ? cli_fail_memory(cli) : CLI_OK;
}

static int print_distances(cli_t const *cli, host_t const *host) {
  render_column_t *columns = calloc(host->node_cnt + 1, sizeof *columns);
  render_text_t *texts = calloc(host->node_cnt + 1, sizeof *texts);
  char const **cells = calloc(host->node_cnt + 1, sizeof *cells);
  int status = columns && texts && cells ? CLI_OK : cli_fail_memory(cli);
  if (!status) {
    columns[0] = (render_column_t){"DISTANCE", 1};
    for (uint i = 0; i < host->node_cnt; i++) {
      texts[i + 1] = render_number(host->node[i].id);
      columns[i + 1] = (render_column_t){texts[i + 1].s, 1};
    }
    render_table_t *table = render_table_new(columns, host->node_cnt + 1);
    for (uint i = 0; i < host->node_cnt; i++) {
      for (uint j = 0; j <= host->node_cnt; j++) {
        texts[j] = render_number(j ? host->distance[i * host->node_cnt + j - 1] : host->node[i].id);
        cells[j] = texts[j].s;
      }
      render_table_row(table, cells);
    }
    if (render_table_print(table)) status = cli_fail_memory(cli);
  }
  free(columns);
  free(texts);
  free(cells);
  return status;
}

/* Runs of cpus that are on one node. */
static int print_cpus(cli_t const *cli, host_t const *host) {
  static render_column_t const columns[] = {{"CPU", 0}, {"NODE", 1}};
  render_table_t *table = render_table_new(columns, 2);
  for (uint cpu = sys_set_next(&host->cpus, 0), last; cpu < SYS_SET_MAX;
       cpu = sys_set_next(&host->cpus, last + 1)) {
    host_node_t const *node = host_node_of_cpu(host, cpu);
    for (last = cpu;
         sys_set_has(&host->cpus, last + 1) && host_node_of_cpu(host, last + 1) == node;)
      last++;
    char run[32];
    snprintf(run, sizeof run, last > cpu ? "%u-%u" : "%u", cpu, last);
    render_text_t const id = render_number(node ? node->id : 0);
    char const *cells[] = {run, node ? id.s : "-"};
    render_table_row(table, cells);
  }
  return render_table_print(table) ? cli_fail_memory(cli) : CLI_OK;
}

static int print_topology(cli_t const *cli, host_t const *host) {
  static char text[SYS_TEXT_MAX];
  sys_set_t const offline = without(&host->possible, &host->online);
  int status = print_nodes(cli, host);
  putchar('\n');
  if (!status) status = print_distances(cli, host);
  putchar('\n');
  if (!status) status = print_cpus(cli, host);
  putchar('\n');
  if (!host->numa) render_fact("numa", "this kernel knows of no nodes; node 0 is the machine");
  render_fact("allowed nodes", "%s", sys_set_text(&host->mems_ok, text, sizeof text));
  render_fact("allowed cpus", "%s", sys_set_text(&host->cpus_ok, text, sizeof text));
  render_fact("offline nodes", "%s", sys_set_text(&offline, text, sizeof text));
  return status;
}

int cmd_topology(cli_t *cli, cli_args_t const *args) {
  sys_t const this_machine = {.root = ""};
  host_t host;
  char error[HOST_ERROR_MAX];
  if (host_read(&this_machine, &host, error)) return cli_fail(cli, "WKSP_E_SYS", "%s", error);
  int const status =
      cli->json ? render_json(cli, topology_json(&host)) : print_topology(cli, &host);
  host_free(&host);
  return status;
}
