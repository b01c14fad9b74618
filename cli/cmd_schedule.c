/* cmd_schedule: when a workspace is checkpointed by itself. What is not given on the command line
   is as it is set; without anything the schedule is shown. */

#include "ckpt.h"
#include "parse.h"

#include <stdio.h>
#include <string.h>

static json_t *run_json(wksp_run_t const *run) {
  return json_pack("{s:o, s:o, s:s, s:i, s:o, s:o}", "begin_ns", render_json_figure(run->begin_ns),
                   "end_ns", render_json_figure(run->end_ns), "by", ckpt_by(run->by), "code",
                   run->code, "number", run->number ? render_json_figure(run->number) : json_null(),
                   "written_size", render_json_figure(run->written_size));
}

static json_t *schedule_json(char const *name, wksp_schedule_t const *is) {
  json_t *runs = json_array();
  for (uint i = 0; i < is->run_cnt && runs; i++)
    json_array_append_new(runs, run_json(&is->runs[i]));
  return json_pack(
      "{s:o, s:o, s:o, s:s, s:s, s:{s:I, s:I, s:I, s:I, s:I}, s:s, s:s, s:o, s:o, s:I, s:o, s:o, "
      "s:o, s:o, s:o, s:I}",
      "name", render_json_text(name), "every_ns", render_json_figure(is->every_ns), "jitter_ns",
      render_json_figure(is->jitter_ns), "mode", ckpt_mode(is->how.mode), "style",
      ckpt_style(&is->how).s, "keep", "last", (json_int_t)is->keep.last, "hourly",
      (json_int_t)is->keep.hourly, "daily", (json_int_t)is->keep.daily, "weekly",
      (json_int_t)is->keep.weekly, "monthly", (json_int_t)is->keep.monthly, "on_stop",
      is->on_stop ? "checkpoint" : "nothing", "on_start", is->on_start ? "restore" : "nothing",
      "due_ns", render_json_figure(is->due_ns), "last_ok_ns", render_json_figure(is->last_ok_ns),
      "fail_cnt", (json_int_t)is->fail_cnt, "runs", runs, "drill_ns",
      render_json_figure(is->drill_ns), "drill_due_ns", render_json_figure(is->drill_due_ns),
      "drill_ok_ns", render_json_figure(is->drill_ok_ns), "drill_number",
      is->drill_number ? render_json_figure(is->drill_number) : json_null(), "drill_fail_cnt",
      (json_int_t)is->drill_fail_cnt);
}

static int show(cli_t *cli, char const *name, wksp_schedule_t const *is) {
  if (cli->json) return render_json(cli, json_pack("{s:o}", "schedule", schedule_json(name, is)));
  render_fact("workspace", "%s", name);
  render_fact("every", "%s", is->every_ns ? render_span(is->every_ns).s : "never by itself");
  if (is->jitter_ns) render_fact("jitter", "up to %s", render_span(is->jitter_ns).s);
  render_fact("mode", "%s", ckpt_mode(is->how.mode));
  render_fact("style", "%s", ckpt_style(&is->how).s);
  wksp_keep_t const *keep = &is->keep;
  if (keep->last || keep->hourly || keep->daily || keep->weekly || keep->monthly)
    render_fact("keep", "last %u, hourly %u, daily %u, weekly %u, monthly %u", keep->last,
                keep->hourly, keep->daily, keep->weekly, keep->monthly);
  else
    render_fact("keep", "all");
  render_fact("on stop", "%s", is->on_stop ? "checkpoint" : "nothing");
  render_fact("on start", "%s", is->on_start ? "restore" : "nothing");
  if (is->due_ns) render_fact("next", "%s", render_time(is->due_ns).s);
  render_fact("last good", "%s", is->last_ok_ns ? render_time(is->last_ok_ns).s : "none");
  if (is->fail_cnt) render_fact("failures", "%u in a row", is->fail_cnt);
  if (is->drill_ns) {
    render_fact("drill", "every %s, next %s", render_span(is->drill_ns).s,
                render_time(is->drill_due_ns).s);
    if (is->drill_fail_cnt) render_fact("", "%u failures in a row", is->drill_fail_cnt);
  }
  if (is->drill_ok_ns)
    render_fact("last drill", "%s, of number %lx", render_time(is->drill_ok_ns).s,
                is->drill_number);
  for (uint i = 0; i < is->run_cnt; i++) {
    wksp_run_t const *run = &is->runs[i];
    render_fact(i ? "" : "runs", "%s by %s: %s, %s written", render_time(run->begin_ns).s,
                ckpt_by(run->by), run->code ? "failed" : "ok", render_size(run->written_size).s);
  }
  return CLI_OK;
}

/* A span of time, with s, m, h, d or w behind its number. NULL, or what is wrong. */
static char const *parse_span(char const *text, ulong *ret_ns) {
  static struct {
    char unit;
    ulong s;
  } const units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
  char digits[24];
  size_t const len = strlen(text);
  ulong number;
  if (len < 2 || len > sizeof digits) return "is no time; say 30s, 5m, 2h, 1d or 1w";
  memcpy(digits, text, len - 1);
  digits[len - 1] = '\0';
  if (parse_number(digits, &number)) return "is no time; say 30s, 5m, 2h, 1d or 1w";
  for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
    if (units[i].unit != text[len - 1]) continue;
    return __builtin_mul_overflow(number, units[i].s * 1000000000UL, ret_ns) ? "is too long" : NULL;
  }
  return "has no unit; say 30s, 5m, 2h, 1d or 1w";
}

/* What is given, over what is. How many options that were; -1: told. */
static int put_given(cli_t const *cli, cli_args_t const *args, wksp_schedule_t *to) {
  struct {
    char const *option;
    ulong *span;
    uint *number;
  } const given[] = {{"every", &to->every_ns, NULL},
                     {"jitter", &to->jitter_ns, NULL},
                     {"keep-last", NULL, &to->keep.last},
                     {"keep-hourly", NULL, &to->keep.hourly},
                     {"keep-daily", NULL, &to->keep.daily},
                     {"keep-weekly", NULL, &to->keep.weekly},
                     {"keep-monthly", NULL, &to->keep.monthly},
                     {"drill", &to->drill_ns, NULL}};
  int cnt = 0;
  for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
    char const *text = cli_arg(args, given[i].option), *why;
    if (!text) continue;
    why = given[i].span && !strcmp(text, "never") ? (*given[i].span = 0, NULL)
          : given[i].span                         ? parse_span(text, given[i].span)
                                                  : parse_number32(text, given[i].number);
    if (why) return cli_fail_usage(cli, "--%s '%s' %s", given[i].option, text, why), -1;
    cnt++;
  }
  char const *stop = cli_arg(args, "on-stop"), *start = cli_arg(args, "on-start");
  if (stop && strcmp(stop, "checkpoint") != 0 && strcmp(stop, "nothing") != 0)
    return cli_fail_usage(cli, "--on-stop '%s' is none; say checkpoint or nothing", stop), -1;
  if (start && strcmp(start, "restore") != 0 && strcmp(start, "nothing") != 0)
    return cli_fail_usage(cli, "--on-start '%s' is none; say restore or nothing", start), -1;
  if (stop) to->on_stop = !strcmp(stop, "checkpoint");
  if (start) to->on_start = !strcmp(start, "restore");
  wksp_checkpoint_how_t how;
  if (ckpt_how(cli, args, &how)) return -1;
  if (cli_arg(args, "mode")) to->how.mode = how.mode;
  if (cli_arg(args, "style")) to->how.style = how.style, to->how.level = how.level;
  return cnt + !!stop + !!start + !!cli_arg(args, "mode") + !!cli_arg(args, "style");
}

int cmd_schedule(cli_t *cli, cli_args_t const *args) {
  char const *name = args->operands[0];
  int const drop = cli_arg(args, "drop") != NULL;
  wksp_schedule_t is = {.how = {.style = WKSP_STYLE_LZ4}};
  wksp_schedule_t checked = is;
  if (put_given(cli, args, &checked) < 0) return CLI_USAGE; /* before anybody is asked */
  int const status = cli_connect(cli);
  if (status) return status;
  int err = wksp_client_schedule_get(cli->client, name, &is);
  if (err < 0) return cli_fail_wksp(cli, err);
  int const none = err;
  int const given = put_given(cli, args, &is);
  if (drop && given) return cli_fail_usage(cli, "--drop goes with no other option of schedule");
  if (!drop && !given && none) {
    if (cli->json) return render_json(cli, json_pack("{s:n}", "schedule"));
    printf("%s has no schedule; set one with wkspctl schedule %s --every 5m\n", name, name);
    return CLI_OK;
  }
  if (drop || given) {
    err = wksp_client_schedule_set(cli->client, name, drop ? NULL : &is);
    if (err) return cli_fail_wksp(cli, err);
  }
  if (drop) {
    if (cli->json) return render_json(cli, json_pack("{s:n}", "schedule"));
    printf("%s has no schedule any more\n", name);
    return CLI_OK;
  }
  if (given) err = wksp_client_schedule_get(cli->client, name, &is);
  return err < 0 ? cli_fail_wksp(cli, err) : show(cli, name, &is);
}
