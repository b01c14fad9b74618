/* cmd_content: usage, query, compact, verify, rebuild - what is inside a workspace.

   usage, query and compact let the daemon's sandboxed worker look, so the memory is not mapped
   here. verify looks for itself, through a read-only mapping, and trusts nothing that it finds. */

#include "cli.h"
#include "parse.h"
#include "render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the partitions of one tag come to. */
typedef struct tag_sum {
  ulong tag, cnt, size;
} tag_sum_t;

static int by_tag(void const *a, void const *b) {
  ulong const x = ((tag_sum_t const *)a)->tag, y = ((tag_sum_t const *)b)->tag;
  return x < y ? -1 : x > y;
}

/* Sums in the order of tags, to be freed; *ret_cnt of them. NULL: no memory. */
static tag_sum_t *sum_tags(wksp_query_t const *query, ulong *ret_cnt) {
  tag_sum_t *sums = calloc(query->part_cnt ? query->part_cnt : 1, sizeof *sums);
  if (!sums) return NULL;
  for (ulong i = 0; i < query->part_cnt; i++)
    sums[i] = (tag_sum_t){query->parts[i].tag, 1, query->parts[i].size};
  qsort(sums, query->part_cnt, sizeof *sums, by_tag);
  ulong cnt = 0;
  for (ulong i = 0; i < query->part_cnt; i++) {
    if (cnt && sums[cnt - 1].tag == sums[i].tag) {
      sums[cnt - 1].cnt++;
      sums[cnt - 1].size += sums[i].size;
    } else {
      sums[cnt++] = sums[i];
    }
  }
  *ret_cnt = cnt;
  return sums;
}

static json_t *usage_json(fd_wksp_usage_t const *usage) {
  return json_pack(
      "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "total_max", render_json_figure(usage->total_max),
      "total_cnt", render_json_figure(usage->total_cnt), "total_size",
      render_json_figure(usage->total_sz), "free_cnt", render_json_figure(usage->free_cnt),
      "free_size", render_json_figure(usage->free_sz), "free_size_max",
      render_json_figure(usage->free_sz_max), "used_cnt", render_json_figure(usage->used_cnt),
      "used_size", render_json_figure(usage->used_sz));
}

static void usage_facts(char const *name, fd_wksp_usage_t const *usage, ulong tag_cnt) {
  render_fact("workspace", "%s", name);
  render_fact("data", "%s", render_size_exact(usage->total_sz).s);
  render_fact(tag_cnt ? "used by these" : "used", "%s in %lu partition%s",
              render_size_exact(usage->used_sz).s, usage->used_cnt,
              usage->used_cnt == 1 ? "" : "s");
  render_fact("free", "%s in %lu, the largest %s", render_size_exact(usage->free_sz).s,
              usage->free_cnt, render_size_exact(usage->free_sz_max).s);
  render_fact("partitions", "%lu of at most %lu", usage->total_cnt, usage->total_max);
}

static int usage_print(cli_t const *cli, char const *name, ulong tag_cnt,
                       wksp_query_t const *query) {
  ulong sum_cnt;
  tag_sum_t *sums = sum_tags(query, &sum_cnt);
  if (!sums) return cli_fail_memory(cli);
  int status;
  if (cli->json) {
    json_t *tags = json_array();
    int failed = !tags;
    for (ulong i = 0; i < sum_cnt && !failed; i++)
      failed = json_array_append_new(tags, json_pack("{s:o, s:o, s:o}", "tag",
                                                     render_json_hex(sums[i].tag), "partitions",
                                                     render_json_figure(sums[i].cnt), "size",
                                                     render_json_figure(sums[i].size)));
    if (failed) {
      json_decref(tags);
      tags = NULL;
    }
    status = render_json(cli, json_pack("{s:o, s:o, s:o}", "name", render_json_text(name), "usage",
                                        usage_json(&query->usage), "tags", tags));
  } else {
    static render_column_t const columns[] = {
        {"TAG", 1}, {"PARTITIONS", 1}, {"SIZE", 1}, {"BYTES", 1}};
    usage_facts(name, &query->usage, tag_cnt);
    putchar('\n');
    render_table_t *table = render_table_new(columns, sizeof columns / sizeof *columns);
    for (ulong i = 0; i < sum_cnt; i++) {
      render_text_t const tag = render_hex(sums[i].tag), cnt = render_number(sums[i].cnt);
      render_text_t const size = render_size(sums[i].size), bytes = render_number(sums[i].size);
      render_table_row(table, (char const *[]){tag.s, cnt.s, size.s, bytes.s});
    }
    status = render_table_print(table) ? cli_fail_memory(cli) : CLI_OK;
  }
  free(sums);
  return status;
}

int cmd_usage(cli_t *cli, cli_args_t const *args) {
  ulong tags[CLI_TAGS_MAX], tag_cnt;
  int status = cli_arg_tags(cli, args, tags, &tag_cnt);
  if (!status) status = cli_connect(cli);
  if (status) return status;
  wksp_query_t query;
  int const err = wksp_client_query(cli->client, args->operands[0], tags, tag_cnt, &query);
  if (err) return cli_fail_wksp(cli, err);
  status = usage_print(cli, args->operands[0], tag_cnt, &query);
  wksp_query_free(&query);
  return status;
}

static json_t *query_json(char const *name, wksp_query_t const *query) {
  json_t *parts = json_array(), *roots = json_array();
  int failed = !parts || !roots;
  for (ulong i = 0; i < query->part_cnt && !failed; i++)
    failed = json_array_append_new(parts, render_json_part(&query->parts[i]));
  for (ulong i = 0; i < query->root_cnt && !failed; i++)
    failed = json_array_append_new(roots, render_json_root(&query->roots[i]));
  if (failed) {
    json_decref(parts);
    json_decref(roots);
    return NULL;
  }
  return json_pack("{s:o, s:o, s:o, s:o}", "name", render_json_text(name), "usage",
                   usage_json(&query->usage), "partitions", parts, "roots", roots);
}

static int query_print(cli_t const *cli, char const *name, wksp_query_t const *query) {
  static render_column_t const part_columns[] = {
      {"GADDR", 1}, {"SIZE", 1}, {"BYTES", 1}, {"TAG", 1}, {"KIND", 0}};
  static render_column_t const root_columns[] = {{"ROOT", 0}, {"GADDR", 1}, {"TAG", 1}};

  usage_facts(name, &query->usage, 0);
  putchar('\n');
  render_table_t *table =
      render_table_new(part_columns, sizeof part_columns / sizeof *part_columns);
  for (ulong i = 0; i < query->part_cnt; i++) {
    fd_wksp_part_t const *part = &query->parts[i];
    render_text_t const gaddr = render_hex(part->gaddr), size = render_size(part->size);
    render_text_t const bytes = render_number(part->size), tag = render_hex(part->tag);
    render_table_row(table,
                     (char const *[]){gaddr.s, size.s, bytes.s, tag.s, render_kind(part->kind)});
  }
  if (render_table_print(table)) return cli_fail_memory(cli);

  if (!query->root_cnt) return CLI_OK;
  putchar('\n');
  table = render_table_new(root_columns, sizeof root_columns / sizeof *root_columns);
  for (ulong i = 0; i < query->root_cnt; i++) {
    fd_wksp_root_t const *root = &query->roots[i];
    char *safe = render_safe(root->name);
    if (!safe) {
      render_table_free(table);
      return cli_fail_memory(cli);
    }
    render_text_t const gaddr = render_hex(root->gaddr), tag = render_hex(root->tag);
    render_table_row(table, (char const *[]){safe, gaddr.s, tag.s});
    free(safe);
  }
  return render_table_print(table) ? cli_fail_memory(cli) : CLI_OK;
}

int cmd_query(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0];
  int status = cli_connect(cli);
  if (status) return status;
  wksp_query_t query;
  int const err = wksp_client_query(cli->client, name, NULL, 0, &query);
  if (err) return cli_fail_wksp(cli, err);
  status = cli->json ? render_json(cli, query_json(name, &query)) : query_print(cli, name, &query);
  wksp_query_free(&query);
  return status;
}

int cmd_compact(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0];
  int const status = cli_connect(cli);
  if (status) return status;
  wksp_compacted_t compacted;
  int const err = wksp_client_compact(cli->client, name, &compacted);
  if (err) return cli_fail_wksp(cli, err);
  return render_compacted(cli, name, compacted.freed_sz, compacted.skipped_cnt,
                          compacted.skipped_pid, compacted.skipped_tid);
}

/* fd_wksp_verify tells 64, fd_wksp_rebuild 256 and how many more there were. */
#define FINDINGS_MAX 257
#define VERIFY_MAX   64

typedef struct findings {
  char *sentences[FINDINGS_MAX];
  int cnt;
  int failed; /* no memory for one */
} findings_t;

static void findings_add(void *arg, char const *sentence) {
  findings_t *findings = arg;
  if (findings->cnt == FINDINGS_MAX) return;
  char *safe = render_safe(sentence);
  if (safe)
    findings->sentences[findings->cnt++] = safe;
  else
    findings->failed = 1;
}

static void findings_free(findings_t *findings) {
  for (int i = 0; i < findings->cnt; i++) free(findings->sentences[i]);
}

/* NULL: no memory. */
static json_t *findings_json(findings_t const *findings) {
  json_t *array = json_array();
  int failed = !array;
  for (int i = 0; i < findings->cnt && !failed; i++)
    failed = json_array_append_new(array, render_json_text(findings->sentences[i]));
  if (!failed) return array;
  json_decref(array);
  return NULL;
}

static int findings_print(cli_t const *cli, char const *name, findings_t const *findings) {
  if (cli->json)
    return render_json(cli, json_pack("{s:o, s:b, s:o}", "name", render_json_text(name), "damaged",
                                      findings->cnt > 0, "findings", findings_json(findings)));
  if (!findings->cnt) printf("%s is sound\n", name);
  for (int i = 0; i < findings->cnt; i++) printf("%s: %s\n", name, findings->sentences[i]);
  if (findings->cnt == VERIFY_MAX)
    printf("%s: there may be more; %d is the most\n", name, VERIFY_MAX);
  return CLI_OK;
}

/* Looks into the workspace; findings get what is wrong. CLI_OK or told. */
static int verify_inside(cli_t *cli, char const *name, findings_t *findings) {
  fd_wksp_t *wksp = NULL;
  int err = 0;
  int status = cli_attach(cli, name, WKSP_ATTACH_RO, &err, &wksp);
  if (status && status != CLI_FOUND) return status;
  if (wksp) err = fd_wksp_verify(wksp, findings_add, findings);
  /* Damage that does not even let it be joined, or that was met outside a check. */
  if (err == WKSP_E_CORRUPT && !findings->cnt) findings_add(findings, wksp_last_error());
  status = err && err != WKSP_E_CORRUPT ? cli_fail_wksp(cli, err) : CLI_OK;
  if (wksp && fd_wksp_detach(wksp) && !status) status = cli_fail_wksp(cli, 0);
  return status;
}

/* What the daemon says of it goes by what its own worker finds: a mark is to go, or to come. What
   that finds beside us is told as well. CLI_OK or told. */
static int verify_outside(cli_t *cli, char const *name, findings_t *findings) {
  int const err = wksp_client_verify(cli->client, name);
  if (err == WKSP_E_CORRUPT && !findings->cnt) findings_add(findings, wksp_last_error());
  return err && err != WKSP_E_CORRUPT && !findings->cnt ? cli_fail_wksp(cli, err) : CLI_OK;
}

int cmd_verify(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0];
  findings_t findings = {.cnt = 0};
  int status = cli_connect(cli);
  if (status) return status;
  wksp_info_t info;
  int const err = wksp_client_get(cli->client, name, &info);
  if (err) return cli_fail_wksp(cli, err);
  if (info.quarantined) {
    char sentence[sizeof info.reason + 32];
    snprintf(sentence, sizeof sentence, "quarantined by the daemon: %s", info.reason);
    findings_add(&findings, sentence);
  } else {
    status = verify_inside(cli, name, &findings);
    if (!status && (info.damaged || findings.cnt)) status = verify_outside(cli, name, &findings);
  }
  if (!status && findings.failed) status = cli_fail_memory(cli);
  if (!status) status = findings_print(cli, name, &findings);
  if (!status && findings.cnt) status = CLI_FOUND;
  findings_free(&findings);
  return status;
}

static int losses_print(cli_t const *cli, char const *name, uint seed, findings_t const *losses) {
  if (cli->json) {
    json_t *array = findings_json(losses);
    return render_json(cli, json_pack("{s:o, s:o, s:o}", "rebuilt", render_json_text(name), "seed",
                                      render_json_figure(seed), "losses", array));
  }
  printf("rebuilt %s, seed %u: %s\n", name, seed,
         losses->cnt ? "this was dropped or changed" : "nothing was lost");
  for (int i = 0; i < losses->cnt; i++) printf("%s: %s\n", name, losses->sentences[i]);
  return CLI_OK;
}

int cmd_rebuild(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0];
  uint seed;
  fd_wksp_t *wksp;
  int status = cli_attach_seed(cli, args, &wksp, &seed);
  if (status) return status;
  findings_t losses = {.cnt = 0};
  int const err = fd_wksp_rebuild(wksp, seed, findings_add, &losses);
  if (err) status = cli_fail_wksp(cli, err);
  if (fd_wksp_detach(wksp) && !status) status = cli_fail_wksp(cli, 0);
  if (!status && losses.failed) status = cli_fail_memory(cli);
  if (!status) status = losses_print(cli, name, seed, &losses);
  if (!status && losses.cnt) status = CLI_FOUND;
  findings_free(&losses);
  return status;
}
