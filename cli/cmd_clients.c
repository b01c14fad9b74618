/* cmd_clients: clients - who is connected, and what they hold. */

#include "cli.h"
#include "render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "orders (read-only), prices (removed)"; to be freed. NULL: no memory. */
static char *held_text(wksp_process_t const *process) {
  size_t const each = FD_WKSP_NAME_MAX + sizeof " (read-only) (removed), ";
  char *text = malloc(process->held_cnt * each + 2);
  if (!text) return NULL;
  size_t len = 0;
  for (ulong i = 0; i < process->held_cnt; i++) {
    wksp_held_t const *held = &process->held[i];
    len +=
        (size_t)snprintf(text + len, each, "%s%s%s%s", i ? ", " : "", held->name,
                         held->read_only ? " (read-only)" : "", held->removing ? " (removed)" : "");
  }
  if (!len) memcpy(text, "-", 2);
  return text;
}

static json_t *held_json(wksp_process_t const *process) {
  json_t *array = json_array();
  for (ulong i = 0; i < process->held_cnt; i++) {
    wksp_held_t const *held = &process->held[i];
    json_array_append_new(array, json_pack("{s:o, s:o, s:b, s:b, s:o}", "name",
                                           render_json_text(held->name), "lease_id",
                                           render_json_figure(held->lease_id), "read_only",
                                           (int)held->read_only, "removing", (int)held->removing,
                                           "since_ns", render_json_figure(held->since_ns)));
  }
  return array;
}

static json_t *process_json(wksp_process_t const *process) {
  return json_pack("{s:i, s:I, s:I, s:o, s:o, s:s, s:o, s:I, s:I, s:I, s:o, s:b, s:o}", "pid",
                   process->pid, "uid", (json_int_t)process->uid, "gid", (json_int_t)process->gid,
                   "comm", render_json_text(process->comm), "cgroup",
                   render_json_text(process->cgroup), "since", render_time(process->since_ns).s,
                   "since_ns", render_json_figure(process->since_ns), "connection_cnt",
                   (json_int_t)process->connection_cnt, "request_cnt",
                   (json_int_t)process->request_cnt, "watch_cnt", (json_int_t)process->watch_cnt,
                   "queued", render_json_figure(process->queued), "ended", (int)process->ended,
                   "held", held_json(process));
}

static int list_one(void *arg, wksp_process_t const *process) {
  render_listing_t *listing = arg;
  listing->cnt++;
  if (listing->array) return json_array_append_new(listing->array, process_json(process));
  char *held = held_text(process);
  if (!held) return 1;
  char const *cells[] = {render_number((ulong)process->pid).s,
                         process->ended     ? "(ended)"
                         : process->comm[0] ? process->comm
                                            : "?",
                         render_user(process->uid).s,
                         process->since_ns ? render_time(process->since_ns).s : "before the daemon",
                         render_number(process->connection_cnt).s,
                         render_number(process->request_cnt).s,
                         process->cgroup[0] ? process->cgroup : "-",
                         held};
  render_table_row(listing->table, cells);
  free(held);
  return 0;
}

int cmd_clients(cli_t *cli, cli_args_t const *args) {
  int const status = cli_connect(cli);
  if (status) return status;
  static render_column_t const columns[] = {{"PID", 1},    {"COMMAND", 0},     {"USER", 0},
                                            {"SINCE", 0},  {"CONNECTIONS", 1}, {"REQUESTS", 1},
                                            {"CGROUP", 0}, {"HOLDS", 0}};
  render_listing_t listing;
  int const made = render_listing_new(cli, columns, sizeof columns / sizeof *columns, &listing);
  if (made) return made;
  int const err = wksp_client_processes(cli->client, list_one, &listing);
  return render_listing_end(cli, &listing, err, "clients", NULL);
}
