/* cmd_pages: hugepages, hugepages reserve, hugepages apply - the pools of huge pages.

   The pools are the kernel's: they are read from and set in sysfs by this process itself. Only what
   of ours lies in them is asked of the daemon, and without one that is left open. */

#include "cli.h"
#include "host.h"
#include "pages_conf.h"
#include "parse.h"
#include "render.h"
#include "reserve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sys_t const this_machine = {.root = ""};

static int read_host(cli_t const *cli, host_t *ret_host) {
  char error[HOST_ERROR_MAX];
  return host_read(&this_machine, ret_host, error) ? cli_fail(cli, "WKSP_E_SYS", "%s", error)
                                                   : CLI_OK;
}

/* A workspace in huge pages, and how many it holds. */
typedef struct holder {
  char name[FD_WKSP_NAME_MAX + 1];
  ulong page_size;
  ulong pages;
  int removing;   /* its name may be another's already */
  ulong *by_node; /* of them, on host->node[i]; NULL: not known */
} holder_t;

/* What of ours is in the pools. */
typedef struct holders {
  holder_t *holder;
  size_t cnt, cap;
  char *why; /* NULL: known; else why it is not */
} holders_t;

static int add_holder(void *arg, wksp_info_t const *info) {
  holders_t *holders = arg;
  if (info->page_size <= WKSP_PAGE_4K) return 0;
  if (holders->cnt == holders->cap) {
    size_t const cap = holders->cap ? 2 * holders->cap : 64;
    holder_t *moved = reallocarray(holders->holder, cap, sizeof *moved);
    if (!moved) return WKSP_E_NOMEM;
    holders->holder = moved;
    holders->cap = cap;
  }
  holder_t *holder = &holders->holder[holders->cnt++];
  snprintf(holder->name, sizeof holder->name, "%s", info->name);
  holder->page_size = info->page_size;
  holder->pages = (info->size + info->excess) / info->page_size;
  holder->removing = (int)info->removing;
  holder->by_node = NULL;
  return 0;
}

/* Which of the nodes with memory is the only one, NULL: there are several. */
static host_node_t const *only_node(host_t const *host) {
  host_node_t const *only = NULL;
  for (uint i = 0; i < host->node_cnt; i++) {
    if (!host->node[i].pooled) continue;
    if (only) return NULL;
    only = &host->node[i];
  }
  return only;
}

/* Asks on which nodes the pages of a workspace are. 0, also if the daemon does not say; or -1: no
 * memory. */
static int place_holder(cli_t const *cli, host_t const *host, holder_t *holder) {
  host_node_t const *only = only_node(host);
  wksp_placement_t placement;
  if (!only && holder->removing) return 0;
  if (!only && wksp_client_placement(cli->client, holder->name, &placement)) return 0;
  holder->by_node = calloc(host->node_cnt, sizeof *holder->by_node);
  if (holder->by_node && only) holder->by_node[only - host->node] = holder->pages;
  for (uint i = 0; !only && holder->by_node && i < placement.node_cnt; i++)
    for (uint j = 0; j < host->node_cnt; j++)
      if (placement.node[i].node >= 0 && (uint)placement.node[i].node == host->node[j].id)
        holder->by_node[j] += placement.node[i].got;
  if (!only) wksp_placement_free(&placement);
  return holder->by_node ? 0 : -1;
}

/* Asks the daemon. CLI_OK also when it does not answer: then `why` says so. */
static int ask_holders(cli_t *cli, host_t const *host, holders_t *holders) {
  cli->client = wksp_client_connect(cli->socket_path);
  int err = cli->client ? 0 : wksp_last_error_code();
  if (!err && cli->timeout_ms) err = wksp_client_deadline_set(cli->client, cli->timeout_ms);
  if (!err) err = wksp_client_list(cli->client, add_holder, holders);
  for (size_t i = 0; !err && i < holders->cnt; i++)
    if (place_holder(cli, host, &holders->holder[i])) err = WKSP_E_NOMEM;
  if (!err) return CLI_OK;
  if (err == WKSP_E_NOMEM) return cli_fail_memory(cli);
  holders->why = render_safe(wksp_last_error());
  return holders->why ? CLI_OK : cli_fail_memory(cli);
}

static ulong held(holders_t const *holders, ulong page_size) {
  ulong pages = 0;
  for (size_t i = 0; i < holders->cnt; i++)
    if (holders->holder[i].page_size == page_size) pages += holders->holder[i].pages;
  return pages;
}

/* The same on host->node[at]. 1 and *ret_pages; 0: it is not known of all. */
static int held_on(holders_t const *holders, ulong page_size, uint at, ulong *ret_pages) {
  ulong pages = 0;
  for (size_t i = 0; i < holders->cnt; i++) {
    if (holders->holder[i].page_size != page_size) continue;
    if (!holders->holder[i].by_node) return 0;
    pages += holders->holder[i].by_node[at];
  }
  *ret_pages = pages;
  return !holders->why;
}

static json_t *pool_json(host_pool_t const *pool, json_t *ours) {
  return json_pack("{s:o, s:o, s:o, s:o}", "total", render_json_figure(pool->total), "free",
                   render_json_figure(pool->free), "surplus", render_json_figure(pool->surplus),
                   "ours", ours);
}

static json_t *size_json(host_t const *host, uint at, holders_t const *holders) {
  host_size_t const *size = &host->size[at];
  ulong const ours = held(holders, size->size);
  json_t *object = pool_json(&size->all, holders->why ? json_null() : render_json_figure(ours));
  json_t *nodes = json_array();
  for (uint i = 0; i < host->node_cnt; i++) {
    host_node_t const *node = &host->node[i];
    if (!node->pooled) continue;
    ulong here;
    int const known = held_on(holders, size->size, i, &here);
    json_t *entry = pool_json(&node->pool[at], known ? render_json_figure(here) : json_null());
    json_object_set_new(entry, "node", json_integer(node->id));
    json_object_set_new(entry, "allowed", json_boolean(node->allowed));
    json_array_append_new(nodes, entry);
  }
  json_object_set_new(object, "page_size", render_json_figure(size->size));
  json_object_set_new(object, "reserved", render_json_figure(size->reserved));
  json_object_set_new(object, "overcommit", render_json_figure(size->overcommit));
  if (json_object_set_new(object, "nodes", nodes)) {
    json_decref(object);
    return NULL;
  }
  return object;
}

static json_t *holder_json(host_t const *host, holder_t const *holder) {
  json_t *nodes = holder->by_node ? json_array() : json_null();
  for (uint i = 0; holder->by_node && i < host->node_cnt; i++)
    if (holder->by_node[i])
      json_array_append_new(nodes, json_pack("{s:I, s:o}", "node", (json_int_t)host->node[i].id,
                                             "pages", render_json_figure(holder->by_node[i])));
  return json_pack("{s:o, s:o, s:o, s:o}", "name", render_json_text(holder->name), "page_size",
                   render_json_figure(holder->page_size), "pages",
                   render_json_figure(holder->pages), "nodes", nodes);
}

static json_t *pools_json(host_t const *host, holders_t const *holders) {
  json_t *pools = json_array(), *ours = json_array();
  for (uint i = 0; i < host->size_cnt; i++)
    json_array_append_new(pools, size_json(host, i, holders));
  for (size_t i = 0; i < holders->cnt; i++)
    json_array_append_new(ours, holder_json(host, &holders->holder[i]));
  if (holders->why) {
    json_decref(ours);
    ours = json_null();
  }
  return json_pack("{s:o, s:o, s:o}", "pools", pools, "workspaces", ours, "not_known",
                   holders->why ? json_string(holders->why) : json_null());
}

static void pool_row(render_table_t *table, char const *node, ulong page_size,
                     host_pool_t const *pool, char const *reserved, char const *ours) {
  render_text_t const size = render_size(page_size), total = render_number(pool->total),
                      unused = render_number(pool->free), surplus = render_number(pool->surplus);
  char const *cells[] = {node, size.s, total.s, unused.s, reserved, surplus.s, ours};
  render_table_row(table, cells);
}

static int print_pools(cli_t const *cli, host_t const *host, holders_t const *holders) {
  static render_column_t const columns[] = {{"NODE", 1}, {"PAGE", 1},     {"TOTAL", 1},
                                            {"FREE", 1}, {"RESERVED", 1}, {"SURPLUS", 1},
                                            {"OURS", 1}};
  render_table_t *table = render_table_new(columns, 7);
  for (uint at = 0; at < host->size_cnt; at++) {
    host_size_t const *size = &host->size[at];
    ulong const ours = held(holders, size->size);
    render_text_t const ours_text = render_number(ours), reserved = render_number(size->reserved);
    for (uint i = 0; i < host->node_cnt; i++) {
      host_node_t const *node = &host->node[i];
      ulong here = 0;
      int const known = held_on(holders, size->size, i, &here);
      render_text_t const id = render_number(node->id), here_text = render_number(here);
      if (node->pooled)
        pool_row(table, id.s, size->size, &node->pool[at], "", known ? here_text.s : "?");
    }
    pool_row(table, "all", size->size, &size->all, reserved.s, holders->why ? "?" : ours_text.s);
  }
  if (render_table_print(table)) return cli_fail_memory(cli);
  if (!host->size_cnt) printf("this kernel has no huge pages\n");
  for (uint i = 0; i < host->node_cnt; i++)
    if (!host->node[i].allowed)
      printf("node %u may not be used here: this process's cpuset leaves it out\n",
             host->node[i].id);
  if (holders->why) printf("what is ours is not known: %s\n", holders->why);
  return CLI_OK;
}

/* "0:12 1:4", "?" if it is not known; cut at cap bytes. */
static char const *holder_nodes(host_t const *host, holder_t const *holder, char *out, size_t cap) {
  size_t len = 0;
  snprintf(out, cap, "?");
  for (uint i = 0; holder->by_node && i < host->node_cnt && len < cap; i++)
    if (holder->by_node[i])
      len += (size_t)snprintf(out + len, cap - len, "%s%u:%lu", len ? " " : "", host->node[i].id,
                              holder->by_node[i]);
  return out;
}

static int print_holders(cli_t const *cli, host_t const *host, holders_t const *holders) {
  static render_column_t const columns[] = {
      {"WORKSPACE", 0}, {"PAGE", 1}, {"PAGES", 1}, {"NODE:PAGES", 0}};
  char nodes[256];
  if (!holders->cnt) return CLI_OK;
  putchar('\n');
  render_table_t *table = render_table_new(columns, 4);
  for (size_t i = 0; i < holders->cnt; i++) {
    render_text_t const size = render_size(holders->holder[i].page_size),
                        pages = render_number(holders->holder[i].pages);
    char const *cells[] = {holders->holder[i].name, size.s, pages.s,
                           holder_nodes(host, &holders->holder[i], nodes, sizeof nodes)};
    render_table_row(table, cells);
  }
  return render_table_print(table) ? cli_fail_memory(cli) : CLI_OK;
}

int cmd_hugepages(cli_t *cli, cli_args_t const *args) {
  host_t host;
  holders_t holders = {.cnt = 0};
  int status = read_host(cli, &host);
  if (status) return status;
  status = ask_holders(cli, &host, &holders);
  if (!status && cli->json) {
    status = render_json(cli, pools_json(&host, &holders));
  } else if (!status) {
    status = print_pools(cli, &host, &holders);
    if (!status) status = print_holders(cli, &host, &holders);
  }
  for (size_t i = 0; i < holders.cnt; i++) free(holders.holder[i].by_node);
  free(holders.holder);
  free(holders.why);
  host_free(&host);
  return status;
}

/* One pool, set: as a line, or into the array. */
static void tell_pool(json_t *array, reserve_t const *asked, reserved_t const *done) {
  if (array) {
    json_array_append_new(
        array,
        json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "node", (json_int_t)asked->node,
                  "page_size", render_json_figure(asked->page_size), "wanted",
                  render_json_figure(asked->wanted), "had", render_json_figure(done->had), "got",
                  render_json_figure(done->got), "surplus", render_json_figure(done->surplus),
                  "demoted", render_json_figure(done->demoted), "why",
                  *done->why ? json_string(done->why) : json_null()));
    return;
  }
  printf("node %u has %lu of %lu pages of %s, had %lu", asked->node, done->got, asked->wanted,
         render_size(asked->page_size).s, done->had);
  if (done->demoted)
    printf(", split %lu pages of %s", done->demoted, render_size(done->demoted_size).s);
  if (done->surplus) printf(", and %lu in use that go when they are given back", done->surplus);
  putchar('\n');
}

/* Sets the pools one after the other, prints what came of each, and fails if one is not as asked
 * for. */
static int set_pools(cli_t *cli, host_t const *host, reserve_t const *pools, uint cnt) {
  json_t *array = cli->json ? json_array() : NULL;
  char error[HOST_ERROR_MAX] = "";
  reserved_t short_done = {.why = ""};
  reserve_t const *short_of = NULL;
  uint done_cnt = 0, short_cnt = 0;
  for (; done_cnt < cnt; done_cnt++) {
    reserved_t done;
    if (reserve_pages(&this_machine, host, &pools[done_cnt], &done, error)) break;
    tell_pool(array, &pools[done_cnt], &done);
    if (*done.why && !short_cnt++) {
      short_of = &pools[done_cnt];
      short_done = done;
    }
  }
  int status = cli->json ? render_json(cli, json_pack("{s:o}", "pools", array)) : CLI_OK;
  if (!status && done_cnt < cnt)
    return cli_fail(cli, "WKSP_E_SYS", "node %u, pages of %s: %s", pools[done_cnt].node,
                    render_size(pools[done_cnt].page_size).s, error);
  if (!status && short_cnt)
    return cli_fail(cli, "WKSP_E_LIMIT", "node %u has %lu of %lu pages of %s: %s", short_of->node,
                    short_done.got, short_of->wanted, render_size(short_of->page_size).s,
                    short_done.why);
  return status;
}

int cmd_hugepages_reserve(cli_t *cli, cli_args_t const *args) {
  char const *node = cli_arg(args, "node"), *size = cli_arg(args, "size");
  char const *count = cli_arg(args, "count");
  reserve_t pool = {.compact = cli_arg(args, "compact") != NULL,
                    .drop_caches = cli_arg(args, "drop-caches") != NULL,
                    .demote = cli_arg(args, "demote") != NULL};
  char const *why = parse_number32(node, &pool.node);
  if (why) return cli_fail_usage(cli, "--node '%s' %s", node, why);
  why = parse_size(size, &pool.page_size);
  if (why) return cli_fail_usage(cli, "--size '%s' %s", size, why);
  why = parse_number(count, &pool.wanted);
  if (why) return cli_fail_usage(cli, "--count '%s' %s", count, why);

  host_t host;
  char error[HOST_ERROR_MAX];
  int status = read_host(cli, &host);
  if (status) return status;
  if (reserve_check(&host, &pool, error))
    status = cli_fail(cli, "WKSP_E_INVAL", "%s", error);
  else
    status = set_pools(cli, &host, &pool, 1);
  host_free(&host);
  return status;
}

int cmd_hugepages_apply(cli_t *cli, cli_args_t const *args) {
  char const *path = cli_arg(args, "file");
  host_t host;
  pages_conf_t conf;
  char error[PAGES_CONF_ERROR_MAX];
  int status = read_host(cli, &host);
  if (status) return status;
  if (pages_conf_read(path ? path : PAGES_CONF_DEFAULT, &host, &conf, error)) {
    status = cli_fail(cli, "WKSP_E_INVAL", "%s", error);
  } else {
    status = set_pools(cli, &host, conf.pool, conf.cnt);
    pages_conf_free(&conf);
  }
  host_free(&host);
  return status;
}
