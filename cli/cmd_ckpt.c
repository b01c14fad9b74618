/* cmd_ckpt: checkpoint, checkpoints, checkpoint-show, -verify, -rm, styles, restore, drill. All
   that is read and written is the daemon's business. */

#include "ckpt.h"
#include "parse.h"
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char const *const modes[] = {"fuzzy", "quiesce"};
static char const *const styles[] = {"raw", "lz4", "zstd"};
static char const *const bys[] = {"hand", "schedule", "daemon"};

char const *ckpt_mode(uint mode) {
  return mode < sizeof modes / sizeof *modes ? modes[mode] : "?";
}

char const *ckpt_by(uint by) {
  return by < sizeof bys / sizeof *bys ? bys[by] : "?";
}

render_text_t ckpt_style(wksp_checkpoint_how_t const *how) {
  render_text_t text;
  char const *style = how->style < sizeof styles / sizeof *styles ? styles[how->style] : "?";
  if (how->style == WKSP_STYLE_ZSTD && how->level)
    snprintf(text.s, sizeof text.s, "%s:%d", style, how->level);
  else
    snprintf(text.s, sizeof text.s, "%s", style);
  return text;
}

/* "zstd:LEVEL". NULL, or what is wrong. */
static char const *parse_style(char const *text, wksp_checkpoint_how_t *ret_how) {
  size_t const len = strcspn(text, ":");
  uint style = 0;
  while (style < sizeof styles / sizeof *styles &&
         (strlen(styles[style]) != len || memcmp(styles[style], text, len) != 0))
    style++;
  if (style == sizeof styles / sizeof *styles)
    return "is no style; say raw, lz4, zstd or zstd:LEVEL";
  long level = 0;
  if (text[len]) {
    char *end;
    level = strtol(text + len + 1, &end, 10);
    if (style != WKSP_STYLE_ZSTD || end == text + len + 1 || *end || level < -7 || level > 19 ||
        !level)
      return "has a level that cannot be; only zstd has one, from -7 to 19 and not 0";
  }
  ret_how->style = style;
  ret_how->level = (int)level;
  return NULL;
}

int ckpt_how(cli_t const *cli, cli_args_t const *args, wksp_checkpoint_how_t *ret_how) {
  char const *mode = cli_arg(args, "mode"), *style = cli_arg(args, "style"), *why = NULL;
  wksp_checkpoint_how_t how = {.mode = WKSP_MODE_FUZZY, .style = WKSP_STYLE_LZ4};
  if (mode && strcmp(mode, "fuzzy") != 0 && strcmp(mode, "quiesce") != 0)
    return cli_fail_usage(cli, "--mode '%s' is none; say fuzzy or quiesce", mode);
  if (mode && !strcmp(mode, "quiesce")) how.mode = WKSP_MODE_QUIESCE;
  if (style && (why = parse_style(style, &how)))
    return cli_fail_usage(cli, "--style '%s' %s", style, why);
  *ret_how = how;
  return CLI_OK;
}

/* Taking
 * ---------------------------------------------------------------------------------------------- */

/* One that was begun: what is said of it, at once or at its end. */
static int begun(cli_t *cli, ulong job_id, int wait, char const *what, char const *name) {
  wksp_job_t job;
  if (!wait && cli->json) return render_json(cli, json_pack("{s:I}", "job", (json_int_t)job_id));
  if (!wait) {
    printf("%s of %s is job %lu; see wkspctl jobs\n", what, name, job_id);
    return CLI_OK;
  }
  int const status = ckpt_follow(cli, job_id, &job);
  if (status) return status;
  int const end = ckpt_ended(cli, &job);
  if (end) return end;
  if (cli->json) return render_json(cli, ckpt_job_json(&job));
  if (job.kind == WKSP_JOB_RESTORE)
    printf("restored %s from checkpoint %s\n", job.name, job.checkpoint);
  else if (job.kind == WKSP_JOB_DRILL)
    printf("checkpoint %s of %s can be restored: %s of it were, and are sound\n", job.checkpoint,
           job.name, render_size(job.total_size).s);
  else if (job.kind == WKSP_JOB_VERIFY)
    printf("checkpoint %s of %s is sound\n", job.checkpoint, job.name);
  else
    printf("checkpoint %s of %s, %s written\n", job.checkpoint, job.name,
           render_size(job.written_size).s);
  return CLI_OK;
}

int cmd_checkpoint(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0];
  wksp_checkpoint_how_t how;
  ulong job_id;
  int status = ckpt_how(cli, args, &how);
  if (!status) status = cli_connect(cli);
  if (status) return status;
  int const err = wksp_client_checkpoint(cli->client, name, &how, cli_arg(args, "info"), &job_id);
  if (err) return cli_fail_wksp(cli, err);
  return begun(cli, job_id, cli_arg(args, "wait") != NULL, "checkpoint", name);
}

/* Looking
 * ---------------------------------------------------------------------------------------------- */

static json_t *checkpoint_json(wksp_checkpoint_t const *one) {
  json_t *object =
      json_pack("{s:o, s:o, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "id",
                render_json_text(one->id), "name", render_json_text(one->name), "uuid",
                render_uuid(one->uuid).s, "uid", (json_int_t)one->uid, "gid", (json_int_t)one->gid,
                "permissions", render_mode(one->mode).s, "by", ckpt_by(one->by), "mode",
                ckpt_mode(one->how.mode), "mode_asked", ckpt_mode(one->mode_asked), "style",
                ckpt_style(&one->how).s, "created", render_time(one->created_ns).s, "created_ns",
                render_json_figure(one->created_ns), "took_ns", render_json_figure(one->took_ns),
                "pause_ns", render_json_figure(one->pause_ns));
  json_t *more = json_pack(
      "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:I, s:o, s:o, s:o, s:o}",
      "live_size", render_json_figure(one->live_size), "scanned_size",
      render_json_figure(one->scanned_size), "changed_size", render_json_figure(one->changed_size),
      "written_size", render_json_figure(one->written_size), "file_size",
      render_json_figure(one->file_size), "part_cnt", render_json_figure(one->part_cnt), "root_cnt",
      render_json_figure(one->root_cnt), "alloc_cnt", render_json_figure(one->alloc_cnt),
      "suspect_cnt", render_json_figure(one->suspect_cnt), "silent_cnt",
      (json_int_t)one->silent_cnt, "size", render_json_figure(one->size), "page_size",
      render_json_figure(one->page_size), "seed", (json_int_t)one->seed, "verified_ns",
      render_json_figure(one->verified_ns), "drilled_ns", render_json_figure(one->drilled_ns),
      "info", render_json_text(one->info), "bad",
      one->bad[0] ? render_json_text(one->bad) : json_null());
  if (object && more && !json_object_update(object, more)) {
    json_decref(more);
    return object;
  }
  json_decref(object);
  json_decref(more);
  return NULL;
}

static int list_one(void *arg, wksp_checkpoint_t const *one) {
  render_listing_t *listing = arg;
  listing->cnt++;
  if (listing->array) return json_array_append_new(listing->array, checkpoint_json(one)) ? 1 : 0;
  render_text_t const created = render_time(one->created_ns), style = ckpt_style(&one->how);
  render_text_t const live = render_size(one->live_size), written = render_size(one->file_size);
  render_text_t const verified = render_time(one->verified_ns);
  render_text_t const drilled = render_time(one->drilled_ns);
  char *info = render_safe(one->bad[0] ? one->bad : one->info);
  if (!info) return 1;
  render_table_row(listing->table,
                   (char const *[]){one->id, one->name[0] ? one->name : "?", created.s,
                                    ckpt_mode(one->how.mode), style.s, live.s, written.s,
                                    ckpt_by(one->by), one->bad[0] ? "bad" : "ok",
                                    one->verified_ns ? verified.s : "never",
                                    one->drilled_ns ? drilled.s : "never", info});
  free(info);
  return 0;
}

int cmd_checkpoints(cli_t *cli, cli_args_t const *args) {
  int const status = cli_connect(cli);
  if (status) return status;
  static render_column_t const columns[] = {{"CHECKPOINT", 0}, {"WORKSPACE", 0}, {"CREATED", 0},
                                            {"MODE", 0},       {"STYLE", 0},     {"LIVE", 1},
                                            {"FILES", 1},      {"BY", 0},        {"STATE", 0},
                                            {"VERIFIED", 0},   {"RESTORED", 0},  {"INFO", 0}};
  render_listing_t listing;
  int const made = render_listing_new(cli, columns, sizeof columns / sizeof *columns, &listing);
  if (made) return made;
  int const err = wksp_client_checkpoints(cli->client, args->operands[0], list_one, &listing);
  return render_listing_end(cli, &listing, err, "checkpoints",
                            "no checkpoints; take one with wkspctl checkpoint NAME");
}

int cmd_checkpoint_show(cli_t *cli, cli_args_t const *args) {
  char const *text = cli_arg(args, "verbose");
  uint verbose = 0;
  char const *why = text ? parse_number32(text, &verbose) : NULL;
  if (!why && verbose > 2) why = "is more than there is to say; 0 to 2";
  if (why) return cli_fail_usage(cli, "--verbose '%s' %s", text, why);
  int const status = cli_connect(cli);
  if (status) return status;
  wksp_checkpoint_t one;
  char *told = NULL;
  int const err = wksp_client_checkpoint_show(cli->client, args->operands[0], verbose, &one, &told);
  if (err) return cli_fail_wksp(cli, err);
  int end = CLI_OK;
  if (cli->json)
    end = render_json(cli, checkpoint_json(&one));
  else
    fputs(told, stdout);
  free(told);
  return end;
}

/* Checking and removing
 * ---------------------------------------------------------------------------------------------- */

typedef struct ids {
  char (*items)[WKSP_CHECKPOINT_ID_MAX];
  size_t cnt, cap;
} ids_t;

static int add_id(void *arg, wksp_checkpoint_t const *one) {
  ids_t *ids = arg;
  if (ids->cnt == ids->cap) {
    size_t const cap = ids->cap ? ids->cap * 2 : 64;
    void *items = reallocarray(ids->items, cap, sizeof *ids->items);
    if (!items) return 1;
    ids->items = items;
    ids->cap = cap;
  }
  memcpy(ids->items[ids->cnt++], one->id, WKSP_CHECKPOINT_ID_MAX);
  return 0;
}

static int verify_one(cli_t *cli, char const *id) {
  ulong job_id;
  int const err = wksp_client_checkpoint_verify(cli->client, id, &job_id);
  if (err) return cli_fail_wksp(cli, err);
  return begun(cli, job_id, 1, "verify", id);
}

/* All of them, whatever is wrong with some; the worst of what they came to. */
static int verify_all(cli_t *cli) {
  ids_t ids = {0};
  int const err = wksp_client_checkpoints(cli->client, NULL, add_id, &ids);
  int status = err > 0 ? cli_fail_memory(cli) : err ? cli_fail_wksp(cli, err) : CLI_OK;
  for (size_t i = 0; i < ids.cnt && !err; i++) {
    int const one = verify_one(cli, ids.items[i]);
    if (one && status != CLI_FAILED) status = one;
  }
  if (!err && !ids.cnt && !cli->json) puts("no checkpoints");
  free(ids.items);
  return status;
}

int cmd_checkpoint_verify(cli_t *cli, cli_args_t const *args) {
  int const all = cli_arg(args, "all") != NULL;
  if (all == (args->operands[0] != NULL))
    return cli_fail_usage(
        cli, all ? "ID '%s' and --all: give one of them" : "ID%s is missing; give it, or --all",
        all ? args->operands[0] : "");
  int const status = cli_connect(cli);
  if (status) return status;
  return all ? verify_all(cli) : verify_one(cli, args->operands[0]);
}

int cmd_checkpoint_rm(cli_t *cli, cli_args_t const *args) {
  int const status = cli_connect(cli);
  if (status) return status;
  ulong freed = 0;
  int const err = wksp_client_checkpoint_remove(cli->client, args->operands[0], &freed);
  if (err) return cli_fail_wksp(cli, err);
  if (cli->json)
    return render_json(cli, json_pack("{s:s, s:o}", "removed", args->operands[0], "freed_size",
                                      render_json_figure(freed)));
  printf("removed checkpoint %s, %s of files are free\n", args->operands[0], render_size(freed).s);
  return CLI_OK;
}

int cmd_styles(cli_t *cli, cli_args_t const *args) {
  static char const *const what[] = {"as it is: the fastest to a fast disk, the largest",
                                     "compressed as fast as it is read; the default here",
                                     "smaller; zstd:LEVEL, -7 (fastest) to 19 (smallest)"};
  json_t *array = cli->json ? json_array() : NULL;
  for (size_t i = 0; i < sizeof styles / sizeof *styles; i++) {
    if (array)
      json_array_append_new(array, json_pack("{s:s, s:s}", "style", styles[i], "about", what[i]));
    else
      printf("%-5s %s\n", styles[i], what[i]);
  }
  return cli->json ? render_json(cli, json_pack("{s:o}", "styles", array)) : CLI_OK;
}

/* Restoring
 * ---------------------------------------------------------------------------------------------- */

int cmd_restore(cli_t *cli, cli_args_t const *args) {
  char const *page = cli_arg(args, "page"), *seed = cli_arg(args, "seed"), *why = NULL;
  ulong tags[CLI_TAGS_MAX], job_id;
  wksp_restore_t restore = {.name = args->operands[0],
                            .from = cli_arg(args, "from"),
                            .as = cli_arg(args, "as"),
                            .tags = tags,
                            .numa = cli_arg(args, "numa"),
                            .in_place = cli_arg(args, "in-place") != NULL};
  if (page && (why = parse_page(page, &restore.page_size)))
    return cli_fail_usage(cli, "--page '%s' %s", page, why);
  if (seed && (why = parse_number32(seed, &restore.seed)))
    return cli_fail_usage(cli, "--seed '%s' %s", seed, why);
  restore.seed_set = seed != NULL;
  char const *size = cli_arg(args, "size"), *max = cli_arg(args, "max-size");
  if (size && (why = parse_size(size, &restore.size)))
    return cli_fail_usage(cli, "--size '%s' %s", size, why);
  if (max && (why = parse_size(max, &restore.max_size)))
    return cli_fail_usage(cli, "--max-size '%s' %s", max, why);
  int status = cli_arg_tags(cli, args, tags, &restore.tag_cnt);
  if (!status) status = cli_connect(cli);
  if (status) return status;
  int const err = wksp_client_restore(cli->client, &restore, &job_id);
  if (err) return cli_fail_wksp(cli, err);
  return begun(cli, job_id, 1, "restore", restore.as ? restore.as : restore.name);
}

/* Trying
 * ---------------------------------------------------------------------------------------------- */

int cmd_drill(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0], *from = cli_arg(args, "from");
  int const status = cli_connect(cli);
  if (status) return status;
  sample_ckpt_t ckpt = {.good = NULL};
  int err = from ? 0 : sample_checkpoints(cli->client, name, &ckpt);
  if (err) return cli_fail_wksp(cli, err);
  if (!from && !ckpt.good)
    return cli_fail(cli, "WKSP_E_NOTFOUND",
                    "there is no checkpoint of %s that could be restored; take one with wkspctl "
                    "checkpoint %s",
                    name, name);
  ulong job_id;
  char id[WKSP_CHECKPOINT_ID_MAX];
  snprintf(id, sizeof id, "%s", from ? from : ckpt.good->id);
  free(ckpt.good);
  err = wksp_client_checkpoint_drill(cli->client, id, &job_id);
  return err ? cli_fail_wksp(cli, err) : begun(cli, job_id, 1, "drill", id);
}
