/* cmd_workspace: create, ls, show, resize, rm - workspaces as the daemon keeps them.

   All facts come from the daemon; no memory is mapped here. */

#include "cli.h"
#include "parse.h"
#include "render.h"
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>

static char const *state_of(wksp_info_t const *info) {
  return info->removing      ? "removing"
         : info->quarantined ? "quarantined"
         : info->damaged     ? "damaged"
         : info->read_only   ? "read-only"
                             : "ok";
}

static json_t *info_json(wksp_info_t const *info) {
  return json_pack(
      "{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:I, s:s, s:I, s:s, s:I, s:s, s:o, s:I, "
      "s:I, s:b, s:b, s:b, s:b, s:o, s:o, s:o}",
      "name", render_json_text(info->name), "uuid", render_uuid(info->uuid).s, "size",
      render_json_figure(info->size), "max_size", render_json_figure(info->max_size), "page_size",
      render_json_figure(info->page_size), "data_max", render_json_figure(info->data_max),
      "part_max", render_json_figure(info->part_max), "mode", render_mode(info->mode).s, "uid",
      (json_int_t)info->uid, "owner", render_user(info->uid).s, "gid", (json_int_t)info->gid,
      "group", render_group(info->gid).s, "seed", (json_int_t)info->seed, "created",
      render_time(info->created_ns).s, "created_ns", render_json_figure(info->created_ns),
      "attached_rw", (json_int_t)info->attached_rw, "attached_ro", (json_int_t)info->attached_ro,
      "removing", (int)info->removing, "quarantined", (int)info->quarantined, "read_only",
      (int)info->read_only, "damaged", (int)info->damaged, "reason",
      info->quarantined || info->read_only || info->damaged ? render_json_text(info->reason)
                                                            : json_null(),
      "excess", render_json_figure(info->excess), "tag",
      info->tag[0] ? render_json_text(info->tag) : json_null());
}

int cli_arg_sizes(cli_t const *cli, cli_args_t const *args, wksp_create_t *create) {
  char const *size = cli_arg(args, "size"), *page = cli_arg(args, "page");
  char const *max = cli_arg(args, "max-size");
  char const *why = parse_size(size, &create->size);
  if (why) return cli_fail_usage(cli, "--size '%s' %s", size, why);
  if (max && (why = parse_size(max, &create->max_size)))
    return cli_fail_usage(cli, "--max-size '%s' %s", max, why);
  if (max && create->max_size < create->size)
    return cli_fail_usage(cli, "--max-size '%s' is below --size '%s'; give at least as much", max,
                          size);
  if (page && (why = parse_page(page, &create->page_size))) {
    static char const *const pages[] = {"auto", "4k", "2M", "1G"};
    char const *nearest = parse_nearest(page, pages, sizeof pages / sizeof *pages);
    return nearest ? cli_fail_usage(cli, "--page '%s' %s; did you mean %s?", page, why, nearest)
                   : cli_fail_usage(cli, "--page '%s' %s", page, why);
  }
  create->numa = cli_arg(args, "numa");
  create->preferred = cli_arg(args, "preferred") != NULL;
  if (create->numa && !create->numa[0])
    return cli_fail_usage(cli, "--numa '' names no node; leave it out for any");
  return CLI_OK;
}

int cmd_create(cli_t *cli, cli_args_t const *args) {
  wksp_create_t create = {.name = args->operands[0], .tag = cli_arg(args, "tag")};
  char const *mode = cli_arg(args, "mode"), *seed = cli_arg(args, "seed"), *why;
  int status = cli_arg_sizes(cli, args, &create);
  if (status) return status;
  if (mode && (why = parse_mode(mode, &create.mode)))
    return cli_fail_usage(cli, "--mode '%s' %s", mode, why);
  if (seed && (why = parse_number32(seed, &create.seed)))
    return cli_fail_usage(cli, "--seed '%s' %s", seed, why);

  status = cli_connect(cli);
  if (status) return status;
  wksp_info_t info;
  int const err = wksp_client_create(cli->client, &create, &info);
  if (err) return cli_fail_wksp(cli, err);
  if (cli->json) {
    json_t *object = info_json(&info);
    if (json_object_set_new(object, "note", render_json_text(info.note))) {
      json_decref(object);
      object = NULL;
    }
    return render_json(cli, object);
  }
  printf("created %s: %s in pages of %s, mode %s", info.name, render_size_exact(info.size).s,
         render_size(info.page_size).s, render_mode(info.mode).s);
  if (info.max_size > info.size) printf(", at most %s", render_size_exact(info.max_size).s);
  if (info.note[0]) {
    char *note = render_safe(info.note);
    if (note) printf("; %s", note);
    free(note);
  }
  putchar('\n');
  return CLI_OK;
}

static int list_one(void *arg, wksp_info_t const *info) {
  render_listing_t *listing = arg;
  listing->cnt++;
  /* Non-zero ends the listing: only for want of memory. */
  if (listing->array) return json_array_append_new(listing->array, info_json(info)) ? 1 : 0;
  render_text_t const max = render_size(info->max_size);
  render_text_t const size = render_size(info->size), page = render_size(info->page_size);
  render_text_t const mode = render_mode(info->mode), user = render_user(info->uid);
  render_text_t const group = render_group(info->gid), created = render_time(info->created_ns);
  render_text_t const rw = render_number(info->attached_rw);
  render_text_t const ro = render_number(info->attached_ro);
  render_table_row(listing->table,
                   (char const *[]){info->name, size.s, max.s, page.s, mode.s, user.s, group.s,
                                    rw.s, ro.s, state_of(info), created.s});
  return 0;
}

int cmd_ls(cli_t *cli, cli_args_t const *args) {
  int const status = cli_connect(cli);
  if (status) return status;
  static render_column_t const columns[] = {{"NAME", 0}, {"SIZE", 1},  {"MAX", 1},    {"PAGE", 1},
                                            {"MODE", 0}, {"OWNER", 0}, {"GROUP", 0},  {"RW", 1},
                                            {"RO", 1},   {"STATE", 0}, {"CREATED", 0}};
  render_listing_t listing;
  int const made = render_listing_new(cli, columns, sizeof columns / sizeof *columns, &listing);
  if (made) return made;
  int const err = wksp_client_list(cli->client, list_one, &listing);
  return render_listing_end(cli, &listing, err, "workspaces",
                            "no workspaces; make one with wkspctl create NAME --size 64M");
}

/* Null if nobody has it. since: when somebody began to wait for it, null or 0 if nobody does. */
static json_t *holder_json(wksp_holder_t const *holder) {
  if (!holder->pid) return json_null();
  json_t *since = holder->since_ns ? json_string(render_time(holder->since_ns).s) : json_null();
  return json_pack("{s:I, s:I, s:o, s:o, s:o, s:b}", "pid", (json_int_t)holder->pid, "tid",
                   (json_int_t)holder->tid, "comm", render_json_text(holder->comm), "since", since,
                   "since_ns", render_json_figure(holder->since_ns), "dead", (int)holder->dead);
}

static void holder_fact(wksp_holder_t const *holder) {
  if (!holder->pid)
    render_fact("lock", "free");
  else
    render_fact("lock", "held by pid %u, thread %u (%s)%s%s%s", holder->pid, holder->tid,
                holder->comm, holder->since_ns ? ", waited for since " : "",
                holder->since_ns ? render_time(holder->since_ns).s : "",
                holder->dead ? "; it has ended, the next call takes over" : "");
}

/* holder NULL: not known. */
static int show_facts(cli_t const *cli, wksp_info_t const *info, wksp_holder_t const *holder) {
  render_fact("name", "%s", info->name);
  render_fact("size", "%s", render_size_exact(info->size).s);
  render_fact("max size", "%s", render_size_exact(info->max_size).s);
  render_fact("page size", "%s", render_size(info->page_size).s);
  render_fact(info->max_size > info->size ? "data at most" : "data", "%s",
              render_size_exact(info->data_max).s);
  render_fact("partitions", "at most %lu", info->part_max);
  render_fact("mode", "%s", render_mode(info->mode).s);
  render_fact("owner", "%s:%s (%u:%u)", render_user(info->uid).s, render_group(info->gid).s,
              info->uid, info->gid);
  if (info->tag[0]) render_fact("tag", "%s", info->tag);
  render_fact("uuid", "%s", render_uuid(info->uuid).s);
  render_fact("seed", "%u", info->seed);
  render_fact("created", "%s", render_time(info->created_ns).s);
  render_fact("attached", "%u read-write, %u read-only", info->attached_rw, info->attached_ro);
  if (holder) holder_fact(holder);
  if (info->excess) render_fact("excess", "%s", render_size_exact(info->excess).s);
  render_fact("state", "%s", state_of(info));
  if (info->quarantined || info->read_only || info->damaged) {
    char *reason = render_safe(info->reason);
    if (!reason) return cli_fail_memory(cli);
    render_fact("reason", "%s", reason);
    free(reason);
  }
  return CLI_OK;
}

/* Its newest checkpoint that was found sound; none, also of a daemon that knows none. */
static json_t *proven_json(sample_ckpt_t const *ckpt) {
  if (!ckpt->verified_ns) return json_null();
  return json_pack("{s:o, s:o, s:o, s:o, s:o}", "id", render_json_text(ckpt->verified_id),
                   "created_ns", render_json_figure(ckpt->verified_ns), "verified_ns",
                   render_json_figure(ckpt->found_ns), "age_ns",
                   render_json_figure(render_since(ckpt->verified_ns)), "drilled_ns",
                   render_json_figure(ckpt->drilled_ns));
}

static void proven_fact(sample_ckpt_t const *ckpt) {
  if (ckpt->verified_ns)
    render_fact("verified", "checkpoint %s, %s old", ckpt->verified_id,
                render_age(ckpt->verified_ns).s);
  else if (ckpt->cnt)
    render_fact("verified", "none of %lu checkpoints", ckpt->cnt);
}

int cmd_show(cli_t *cli, cli_args_t const *args) {
  int const status = cli_connect(cli);
  if (status) return status;
  wksp_info_t info;
  int err = wksp_client_get(cli->client, args->operands[0], &info);
  if (err) return cli_fail_wksp(cli, err);
  /* Who may not read it, or what is not served: then the holder is not known, and the rest is. */
  wksp_holder_t holder = {.pid = 0};
  err = info.quarantined ? WKSP_E_BUSY : wksp_client_holder(cli->client, info.name, &holder);
  wksp_placement_t placement = {.runs = NULL};
  int const unplaced =
      info.quarantined || wksp_client_placement(cli->client, info.name, &placement);
  sample_ckpt_t ckpt = {.good = NULL};
  (void)sample_checkpoints(cli->client, info.name, &ckpt);
  free(ckpt.good);
  if (cli->json) {
    json_t *object = info_json(&info), *placed = unplaced ? json_null() : place_json(&placement);
    wksp_placement_free(&placement);
    if (json_object_set_new(object, "lock_holder", holder_json(&holder)) ||
        json_object_set_new(object, "placement", placed) ||
        json_object_set_new(object, "verified_checkpoint", proven_json(&ckpt))) {
      json_decref(object);
      object = NULL;
    }
    return render_json(cli, object);
  }
  int const shown = show_facts(cli, &info, err ? NULL : &holder);
  if (!shown) proven_fact(&ckpt);
  if (!shown && !unplaced) err = place_print(cli, &placement);
  wksp_placement_free(&placement);
  return shown ? shown : unplaced ? CLI_OK : err;
}

int cmd_resize(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0], *size = cli_arg(args, "size");
  ulong bytes;
  char const *why = parse_size(size, &bytes);
  if (why) return cli_fail_usage(cli, "--size '%s' %s", size, why);
  int const status = cli_connect(cli);
  if (status) return status;
  wksp_info_t info;
  int const err = wksp_client_resize(cli->client, name, bytes, &info);
  if (err) return cli_fail_wksp(cli, err);
  if (cli->json) return render_json(cli, info_json(&info));
  printf("resized %s: %s, at most %s\n", info.name, render_size_exact(info.size).s,
         render_size_exact(info.max_size).s);
  return CLI_OK;
}

int cmd_rm(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0];
  int const force = cli_arg(args, "force") != NULL;
  int const status = cli_connect(cli);
  if (status) return status;
  int const err = wksp_client_remove(cli->client, name, force);
  if (err) return cli_fail_wksp(cli, err);
  if (cli->json)
    return render_json(cli,
                       json_pack("{s:o, s:b}", "removed", render_json_text(name), "force", force));
  printf("removed %s%s\n", name,
         force ? "; memory that is still attached goes with the last to detach" : "");
  return CLI_OK;
}
