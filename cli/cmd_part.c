/* cmd_part: alloc, free, info, tag-query, tag-free, memset, reset - partitions, worked on by hand.

   These map the memory and work on it in this process, as any program does that uses the workspace;
   those that only look map it read-only. What was allocated is freed again if its address could not
   be printed, for nobody would know it.

   They refuse to know what a partition is used for: the library does, and refuses what would break
   an fd_alloc. */

#include "cli.h"
#include "parse.h"
#include "render.h"

#include <stdio.h>
#include <stdlib.h>

/* Detaches. status, or told. */
static int part_close(cli_t const *cli, fd_wksp_t *wksp, int status) {
  if (fd_wksp_detach(wksp) && !status) status = cli_fail_wksp(cli, 0);
  return status;
}

/* Attaches where operand 0 says. CLI_OK, *ret_place and *ret_wksp, or told. */
static int place_open(cli_t *cli, cli_args_t const *args, int how, parse_place_t *ret_place,
                      fd_wksp_t **ret_wksp) {
  char const *text = args->operands[0];
  char const *why = parse_place(text, ret_place);
  if (why) return cli_fail_usage(cli, "PLACE '%s' %s", text, why);
  return cli_attach(cli, ret_place->name, how, NULL, ret_wksp);
}

int cmd_alloc(cli_t *cli, cli_args_t const *args) {
  char const *size_text = cli_arg(args, "size"), *align_text = cli_arg(args, "align");
  char const *tag_text = cli_arg(args, "tag"), *name = args->operands[0];
  ulong size, align = 0, tag = 1, lo, hi;
  char const *why = parse_size(size_text, &size);
  if (!why && !size) why = "is no size for a partition; ask for 1 byte or more";
  if (why) return cli_fail_usage(cli, "--size '%s' %s", size_text, why);
  if (align_text && (why = parse_size(align_text, &align)))
    return cli_fail_usage(cli, "--align '%s' %s", align_text, why);
  if (tag_text && (why = parse_tag(tag_text, &tag)))
    return cli_fail_usage(cli, "--tag '%s' %s", tag_text, why);

  fd_wksp_t *wksp;
  int status = cli_attach(cli, name, WKSP_ATTACH_RW, NULL, &wksp);
  if (status) return status;
  ulong const gaddr = fd_wksp_alloc_at_least(wksp, align, size, tag, &lo, &hi);
  if (!gaddr) return part_close(cli, wksp, cli_fail_wksp(cli, 0));
  status = render_placed(cli, "partition", name, gaddr, hi - lo);
  if (status && fd_wksp_free(wksp, gaddr)) (void)cli_fail_wksp(cli, 0);
  return part_close(cli, wksp, status);
}

int cmd_free(cli_t *cli, cli_args_t const *args) {
  parse_place_t place;
  fd_wksp_t *wksp;
  int status = place_open(cli, args, WKSP_ATTACH_RW, &place, &wksp);
  if (status) return status;
  int const err = fd_wksp_free(wksp, place.gaddr);
  render_text_t const text = render_place(place.name, place.gaddr);
  if (err)
    status = cli_fail_wksp(cli, err);
  else if (cli->json)
    status = render_json(cli, json_pack("{s:s}", "freed", text.s));
  else
    printf("freed %s\n", text.s);
  return part_close(cli, wksp, status);
}

/* The partition of that tag with the lowest address, size 0 if there is none. CLI_OK or told. */
static int first_of(cli_t const *cli, fd_wksp_t *wksp, ulong tag, fd_wksp_part_t *ret_part) {
  fd_wksp_part_t first = {.size = 0};
  long const cnt = fd_wksp_tag_query(wksp, &tag, 1, NULL, 0);
  if (cnt < 0) return cli_fail_wksp(cli, (int)cnt);
  if (cnt) {
    fd_wksp_part_t *parts = calloc((size_t)cnt, sizeof *parts);
    if (!parts) return cli_fail_memory(cli);
    long const got = fd_wksp_tag_query(wksp, &tag, 1, parts, (ulong)cnt);
    for (long i = 0; i < got && i < cnt; i++)
      if (!first.size || parts[i].gaddr < first.gaddr) first = parts[i];
    free(parts);
    if (got < 0) return cli_fail_wksp(cli, (int)got);
  }
  *ret_part = first;
  return CLI_OK;
}

int cmd_info(cli_t *cli, cli_args_t const *args) {
  char const *tag_text = cli_arg(args, "tag"), *name = args->operands[0];
  ulong tag;
  char const *why = parse_tag(tag_text, &tag);
  if (why) return cli_fail_usage(cli, "--tag '%s' %s", tag_text, why);
  fd_wksp_t *wksp;
  int status = cli_attach(cli, name, WKSP_ATTACH_RO, NULL, &wksp);
  if (status) return status;
  fd_wksp_part_t part = {.size = 0};
  status = first_of(cli, wksp, tag, &part);
  if (status) return part_close(cli, wksp, status);
  render_text_t const text = part.size ? render_place(name, part.gaddr) : (render_text_t){"-"};
  if (cli->json)
    status =
        render_json(cli, part.size ? json_pack("{s:s, s:o, s:o, s:o, s:s}", "partition", text.s,
                                               "gaddr", render_json_hex(part.gaddr), "size",
                                               render_json_figure(part.size), "tag",
                                               render_json_hex(tag), "kind", render_kind(part.kind))
                                   : json_pack("{s:n, s:n, s:i, s:o, s:n}", "partition", "gaddr",
                                               "size", 0, "tag", render_json_hex(tag), "kind"));
  else
    printf("%s %lu\n", text.s, part.size);
  return part_close(cli, wksp, status);
}

int cmd_tag_query(cli_t *cli, cli_args_t const *args) {
  parse_place_t place;
  fd_wksp_t *wksp;
  int status = place_open(cli, args, WKSP_ATTACH_RO, &place, &wksp);
  if (status) return status;
  ulong const tag = fd_wksp_tag(wksp, place.gaddr);
  /* 0 is also what damage looks like; this says which it is. */
  fd_wksp_part_t part;
  int const err = tag ? 0 : fd_wksp_part_next(wksp, place.gaddr, &part);
  if (err < 0)
    status = cli_fail_wksp(cli, err);
  else if (cli->json)
    status =
        render_json(cli, json_pack("{s:s, s:o}", "place", render_place(place.name, place.gaddr).s,
                                   "tag", render_json_hex(tag)));
  else
    puts(render_hex(tag).s);
  return part_close(cli, wksp, status);
}

int cmd_tag_free(cli_t *cli, cli_args_t const *args) {
  ulong tags[CLI_TAGS_MAX], tag_cnt;
  char const *name = args->operands[0];
  fd_wksp_t *wksp;
  int status = cli_arg_tags(cli, args, tags, &tag_cnt);
  if (!status) status = cli_attach(cli, name, WKSP_ATTACH_RW, NULL, &wksp);
  if (status) return status;
  long const freed = fd_wksp_tag_free(wksp, tags, tag_cnt);
  if (freed < 0)
    status = cli_fail_wksp(cli, (int)freed);
  else if (cli->json)
    status = render_json(
        cli, json_pack("{s:s, s:o}", "name", name, "freed_cnt", render_json_figure((ulong)freed)));
  else
    printf("freed %ld partition%s of %s\n", freed, freed == 1 ? "" : "s", name);
  return part_close(cli, wksp, status);
}

int cmd_memset(cli_t *cli, cli_args_t const *args) {
  char const *byte_text = args->operands[1];
  ulong byte;
  char const *why = parse_number(byte_text, &byte);
  if (!why && byte > 255) why = "is no byte; 0 to 255 are";
  if (why) return cli_fail_usage(cli, "BYTE '%s' %s", byte_text, why);
  parse_place_t place;
  fd_wksp_t *wksp;
  int status = place_open(cli, args, WKSP_ATTACH_RW, &place, &wksp);
  if (status) return status;
  int const err = fd_wksp_memset(wksp, place.gaddr, (int)byte);
  render_text_t const text = render_place(place.name, place.gaddr);
  if (err)
    status = cli_fail_wksp(cli, err);
  else if (cli->json)
    status = render_json(cli, json_pack("{s:s, s:i}", "set", text.s, "byte", (int)byte));
  else
    printf("set the partition at %s to 0x%02lx\n", text.s, byte);
  return part_close(cli, wksp, status);
}

int cmd_reset(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0];
  uint seed;
  fd_wksp_t *wksp;
  int status = cli_attach_seed(cli, args, &wksp, &seed);
  if (status) return status;
  int const err = fd_wksp_reset(wksp, seed);
  if (err)
    status = cli_fail_wksp(cli, err);
  else if (cli->json)
    status =
        render_json(cli, json_pack("{s:s, s:o}", "reset", name, "seed", render_json_figure(seed)));
  else
    printf("reset %s, seed %u\n", name, seed);
  return part_close(cli, wksp, status);
}
