/* cmd_host: status, reload, version - the daemon itself. */

#include "cli.h"
#include "render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *quota_json(wksp_quota_t const *quota) {
  return json_pack("{s:o, s:o, s:o, s:o, s:b, s:o, s:o}", "uid",
                   quota->tag[0] ? json_null() : json_integer(quota->uid), "tag",
                   quota->tag[0] ? render_json_text(quota->tag) : json_null(), "page_size",
                   quota->page_size ? render_json_figure(quota->page_size) : json_null(), "node",
                   quota->node < 0 ? json_null() : json_integer(quota->node), "workspaces",
                   (int)quota->workspaces, "limit", render_json_figure(quota->limit), "used",
                   render_json_figure(quota->used));
}

static json_t *quotas_json(wksp_status_t const *s) {
  json_t *quotas = json_array();
  for (uint i = 0; quotas && i < s->quota_cnt; i++) {
    if (!json_array_append_new(quotas, quota_json(&s->quota[i]))) continue;
    json_decref(quotas);
    quotas = NULL;
  }
  return quotas;
}

/* Bytes, or so many workspaces. */
static render_text_t quota_figure(wksp_quota_t const *quota, ulong figure) {
  if (!quota->workspaces) return render_size(figure);
  render_text_t text = render_number(figure);
  size_t const len = strlen(text.s);
  snprintf(text.s + len, sizeof text.s - len, " workspace%s", figure == 1 ? "" : "s");
  return text;
}

static int quotas_print(cli_t const *cli, wksp_status_t const *s) {
  static render_column_t const columns[] = {
      {"WHOSE", 0}, {"PAGE", 1}, {"NODE", 1}, {"MAY HAVE", 1}, {"HAS", 1}};
  if (!s->quota_cnt) return CLI_OK;
  putchar('\n');
  render_table_t *table = render_table_new(columns, sizeof columns / sizeof *columns);
  for (uint i = 0; i < s->quota_cnt; i++) {
    wksp_quota_t const *quota = &s->quota[i];
    char whose[96];
    if (quota->tag[0])
      snprintf(whose, sizeof whose, "tag %s", quota->tag);
    else
      snprintf(whose, sizeof whose, "%s", render_user(quota->uid).s);
    render_table_row(
        table,
        (char const *[]){whose, quota->page_size ? render_size(quota->page_size).s : "all",
                         quota->node < 0 ? "all" : render_number((ulong)quota->node).s,
                         quota_figure(quota, quota->limit).s, quota_figure(quota, quota->used).s});
  }
  return render_table_print(table) ? cli_fail_memory(cli) : CLI_OK;
}

static int limit_json(void *arg, wksp_limit_t const *limit) {
  return json_array_append_new(
      arg, json_pack("{s:o, s:o, s:o, s:o, s:o}", "what", render_json_text(limit->what), "used",
                     render_json_figure(limit->used), "max", render_json_figure(limit->max),
                     "user_used", render_json_figure(limit->user_used), "user_max",
                     render_json_figure(limit->user_max)));
}

/* "connections 3 of 16384", and what this user has of it if he may not have all. */
static int limit_fact(void *arg, wksp_limit_t const *limit) {
  char user[128] = "";
  (void)arg;
  if (limit->user_max && limit->user_max != limit->max)
    snprintf(user, sizeof user, "; yours %lu of %lu", limit->user_used, limit->user_max);
  if (limit->max)
    render_fact("limit", "%s: %lu of %lu%s", limit->what, limit->used, limit->max, user);
  else
    render_fact("limit", "%s: %lu%s", limit->what, limit->used, user);
  return 0;
}

/* Of workspaces that have a schedule. */
static void proven_facts(wksp_status_t const *s) {
  if (s->proven_ns)
    render_fact("checkpoints", "each workspace with a schedule has a verified one %s old at most",
                render_age(s->proven_ns).s);
  if (s->unproven_cnt)
    render_fact(s->proven_ns ? "" : "checkpoints",
                "%u workspaces with a schedule have none that was verified", s->unproven_cnt);
}

int cmd_status(cli_t *cli, cli_args_t const *args) {
  int const status = cli_connect(cli);
  if (status) return status;
  wksp_status_t s;
  int const err = wksp_client_status(cli->client, &s);
  if (err) return cli_fail_wksp(cli, err);
  json_t *limits = cli->json ? json_array() : NULL;
  int const told = limits ? wksp_client_limits(cli->client, limit_json, limits) : 0;
  if (told < 0) {
    json_decref(limits);
    return cli_fail_wksp(cli, told);
  }
  if (cli->json)
    return render_json(
        cli,
        json_pack("{s:i, s:o, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:I, s:I, "
                  "s:o, s:o, s:o, "
                  "s:I, s:o}",
                  "pid", s.pid, "uptime_ns", render_json_figure(s.uptime_ns), "fd_store",
                  (int)s.fd_store, "workspace_cnt", (json_int_t)s.workspace_cnt, "quarantined_cnt",
                  (json_int_t)s.quarantined_cnt, "damaged_cnt", (json_int_t)s.damaged_cnt,
                  "lease_cnt", (json_int_t)s.lease_cnt, "connection_cnt",
                  (json_int_t)s.connection_cnt, "job_cnt", (json_int_t)s.job_cnt, "bytes",
                  render_json_figure(s.bytes), "request_cnt", render_json_figure(s.request_cnt),
                  "refused_cnt", render_json_figure(s.refused_cnt), "violation_cnt",
                  render_json_figure(s.violation_cnt), "fd_cnt", (json_int_t)s.fd_cnt, "lost_cnt",
                  (json_int_t)s.lost_cnt, "config_mistake", render_json_text(s.config_mistake),
                  "quotas", quotas_json(&s), "limits", limits, "unproven_cnt",
                  (json_int_t)s.unproven_cnt, "proven_ns",
                  s.proven_ns ? render_json_figure(s.proven_ns) : json_null()));
  render_fact("daemon", "pid %d, up %s", s.pid, render_span(s.uptime_ns).s);
  render_fact("memory", "%s",
              s.fd_store ? "outlives the daemon"
                         : "ends with the daemon; run it by systemd or with --supervise");
  render_fact("restart", "%s", s.fd_store ? "keeps all" : "loses all workspaces");
  render_fact("stop", "%s",
              s.fd_store
                  ? "loses all workspaces, unless systemd (254 or later) is told to keep them"
                  : "loses all workspaces");
  if (s.lost_cnt)
    render_fact("lost",
                "%u workspaces, when this daemon was started: specs/*.lost in its state "
                "folder say which",
                s.lost_cnt);
  if (s.config_mistake[0]) {
    char *safe = render_safe(s.config_mistake);
    render_fact("mistake", "%s: what was read before it is in force", safe ? safe : "");
    free(safe);
  }
  render_fact("workspaces", "%u, %s", s.workspace_cnt, render_size_exact(s.bytes).s);
  render_fact("quarantined", "%u", s.quarantined_cnt);
  render_fact("damaged", "%u", s.damaged_cnt);
  render_fact("leases", "%u", s.lease_cnt);
  render_fact("connections", "%u", s.connection_cnt);
  render_fact("jobs", "%u", s.job_cnt);
  proven_facts(&s);
  render_fact("requests", "%lu, of them %lu refused", s.request_cnt, s.refused_cnt);
  render_fact("violations", "%lu connections closed for breaking the protocol", s.violation_cnt);
  render_fact("descriptors", "%u", s.fd_cnt);
  int const err_limits = wksp_client_limits(cli->client, limit_fact, NULL);
  return err_limits ? cli_fail_wksp(cli, err_limits) : quotas_print(cli, &s);
}

static int print_note(void *arg, char const *note) {
  json_t *notes = arg;
  if (!notes) printf("%s\n", note);
  return notes && json_array_append_new(notes, render_json_text(note)) ? WKSP_E_NOMEM : 0;
}

int cmd_reload(cli_t *cli, cli_args_t const *args) {
  int const status = cli_connect(cli);
  if (status) return status;
  json_t *notes = cli->json ? json_array() : NULL;
  uint mistake_cnt = 0;
  int const err = wksp_client_reload(cli->client, print_note, notes, &mistake_cnt);
  if (err) {
    json_decref(notes);
    return cli_fail_wksp(cli, err);
  }
  if (cli->json) {
    int const told = render_json(
        cli, json_pack("{s:o, s:I}", "notes", notes, "mistakes", (json_int_t)mistake_cnt));
    if (told) return told;
  }
  if (!mistake_cnt) return CLI_OK;
  return cli_fail(cli, "mistakes",
                  "%u of what the configuration says could not be done: mend what is named above "
                  "and reload again",
                  mistake_cnt);
}

int cmd_version(cli_t *cli, cli_args_t const *args) {
  int const status = cli_connect(cli);
  if (status) return status;
  wksp_version_t version;
  int const err = wksp_client_version(cli->client, &version);
  if (err) return cli_fail_wksp(cli, err);
  if (cli->json)
    return render_json(cli,
                       json_pack("{s:s, s:s, s:o, s:I, s:o}", "wkspctl", WKSP_VERSION, "library",
                                 wksp_library_version(), "daemon", render_json_text(version.daemon),
                                 "layout", (json_int_t)version.layout, "geometry_hash",
                                 render_json_hex(version.geometry_hash)));
  render_fact("wkspctl", "%s", WKSP_VERSION);
  render_fact("library", "%s", wksp_library_version());
  render_fact("daemon", "%s", version.daemon);
  render_fact("layout", "%u, geometry %s", version.layout, render_hex(version.geometry_hash).s);
  return CLI_OK;
}
