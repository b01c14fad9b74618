/* cmd_root: root ls, set, rm - the names by which programs find their objects.

   Like cmd_part these work on the memory itself; ls maps it read-only. A root's name may be any
   bytes, so what is printed of it is made safe. */

#include "cli.h"
#include "parse.h"
#include "render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Detaches. status, or told. */
static int root_close(cli_t const *cli, fd_wksp_t *wksp, int status) {
  if (fd_wksp_detach(wksp) && !status) status = cli_fail_wksp(cli, 0);
  return status;
}

static int ls_json(cli_t const *cli, char const *name, fd_wksp_root_t const *roots, uint cnt) {
  json_t *array = json_array();
  int failed = !array;
  for (uint i = 0; i < cnt && !failed; i++)
    failed = json_array_append_new(array, render_json_root(&roots[i]));
  if (failed) {
    json_decref(array);
    array = NULL;
  }
  return render_json(cli, json_pack("{s:s, s:o}", "name", name, "roots", array));
}

static int ls_table(cli_t const *cli, char const *name, fd_wksp_root_t const *roots, uint cnt) {
  static render_column_t const columns[] = {{"ROOT", 0}, {"GADDR", 1}, {"TAG", 1}};
  if (!cnt) {
    printf("no roots in %s; make one with wkspctl root set\n", name);
    return CLI_OK;
  }
  render_table_t *table = render_table_new(columns, sizeof columns / sizeof *columns);
  for (uint i = 0; i < cnt; i++) {
    char *safe = render_safe(roots[i].name);
    if (!safe) {
      render_table_free(table);
      return cli_fail_memory(cli);
    }
    render_text_t const gaddr = render_hex(roots[i].gaddr), tag = render_hex(roots[i].tag);
    render_table_row(table, (char const *[]){safe, gaddr.s, tag.s});
    free(safe);
  }
  return render_table_print(table) ? cli_fail_memory(cli) : CLI_OK;
}

int cmd_root_ls(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0];
  fd_wksp_t *wksp;
  int status = cli_attach(cli, name, WKSP_ATTACH_RO, NULL, &wksp);
  if (status) return status;
  fd_wksp_root_t roots[FD_WKSP_ROOT_MAX];
  uint cnt = 0, place = 0;
  int more = 0;
  while (cnt < FD_WKSP_ROOT_MAX && (more = fd_wksp_root_next(wksp, &place, &roots[cnt])) == 1)
    cnt++;
  if (more < 0)
    status = cli_fail_wksp(cli, more);
  else
    status = cli->json ? ls_json(cli, name, roots, cnt) : ls_table(cli, name, roots, cnt);
  return root_close(cli, wksp, status);
}

/* Says what was done to a root, under `key` in JSON. */
static int done(cli_t const *cli, char const *key, char const *root, char const *text) {
  if (cli->json) return render_json(cli, json_pack("{s:o}", key, render_json_text(root)));
  char *safe = render_safe(root);
  if (!safe) return cli_fail_memory(cli);
  printf("%s %s%s\n", key, safe, text);
  free(safe);
  return CLI_OK;
}

int cmd_root_set(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0], *root = args->operands[1], *text = args->operands[2];
  char const *tag_text = cli_arg(args, "tag");
  parse_place_t place = {.name = ""};
  ulong tag = 0;
  int const is_place = strchr(text, ':') != NULL;
  char const *why = is_place ? parse_place(text, &place) : parse_number(text, &place.gaddr);
  if (!why && is_place && strcmp(place.name, name)) why = "is in another workspace than NAME";
  if (why) return cli_fail_usage(cli, "GADDR '%s' %s", text, why);
  if (tag_text && (why = parse_number(tag_text, &tag)))
    return cli_fail_usage(cli, "--tag '%s' %s", tag_text, why);
  fd_wksp_t *wksp;
  int status = cli_attach(cli, name, WKSP_ATTACH_RW, NULL, &wksp);
  if (status) return status;
  if (!tag_text) tag = fd_wksp_tag(wksp, place.gaddr);
  int const err = fd_wksp_root_set(wksp, root, place.gaddr, tag);
  char where[RENDER_TEXT_MAX + 4];
  snprintf(where, sizeof where, " to %s", render_place(name, place.gaddr).s);
  status = err ? cli_fail_wksp(cli, err) : done(cli, "bound", root, where);
  return root_close(cli, wksp, status);
}

int cmd_root_rm(cli_t *cli, cli_args_t const *args) {
  fd_wksp_t *wksp;
  int status = cli_attach(cli, args->operands[0], WKSP_ATTACH_RW, NULL, &wksp);
  if (status) return status;
  int const err = fd_wksp_root_remove(wksp, args->operands[1]);
  status = err ? cli_fail_wksp(cli, err) : done(cli, "unbound", args->operands[1], "");
  return root_close(cli, wksp, status);
}
