/* cmd_jobs: jobs, cancel; and how the other commands follow a job.

   The bar is made from what the daemon says: bytes done of this phase, and the time since the phase
   began here. It goes to standard error, so that what a command prints can be piped. */

#include "ckpt.h"
#include "parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The longest that a watch may last before it is begun anew. */
#define FOLLOW_MS 3600000L

#define BAR_WIDTH 24

static char const *const kinds[] = {"?", "checkpoint", "restore", "verify", "remove", "drill"};
static char const *const states[] = {"?", "queued", "running", "done", "failed", "cancelled"};
static char const *const phases[] = {"begin", "scan", "pause", "write", "sync", "read", "check"};

static char const *word(char const *const *words, size_t cnt, uint number) {
  return number < cnt ? words[number] : words[0];
}

char const *ckpt_job_kind(uint kind) {
  return word(kinds, sizeof kinds / sizeof *kinds, kind);
}

char const *ckpt_job_state(uint state) {
  return word(states, sizeof states / sizeof *states, state);
}

static char const *phase_of(wksp_job_t const *job) {
  return word(phases, sizeof phases / sizeof *phases, job->phase);
}

json_t *ckpt_job_json(wksp_job_t const *job) {
  return json_pack(
      "{s:I, s:s, s:s, s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "id",
      (json_int_t)job->id, "kind", ckpt_job_kind(job->kind), "state", ckpt_job_state(job->state),
      "by", ckpt_by(job->by), "name", render_json_text(job->name), "uid", (json_int_t)job->uid,
      "checkpoint", job->checkpoint[0] ? render_json_text(job->checkpoint) : json_null(),
      "asked_ns", render_json_figure(job->asked_ns), "begun_ns", render_json_figure(job->begun_ns),
      "ended_ns", render_json_figure(job->ended_ns), "phase", phase_of(job), "done_size",
      render_json_figure(job->done_size), "total_size", render_json_figure(job->total_size),
      "written_size", render_json_figure(job->written_size), "error",
      job->code ? json_string(wksp_strerror(job->code)) : json_null(), "message",
      job->sentence[0] ? render_json_text(job->sentence) : json_null());
}

/* Following
 * ---------------------------------------------------------------------------------------------- */

typedef struct follow {
  wksp_job_t last;
  int seen;
  int bar, lines; /* how it is shown; neither: not at all */
  uint phase;     /* that the rate is of */
  ulong since_ns; /* of its first state here */
  ulong since_done;
  uint told_phase; /* lines: the last that was told */
} follow_t;

static ulong now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (ulong)now.tv_sec * 1000000000UL + (ulong)now.tv_nsec;
}

static void show_bar(follow_t *follow, wksp_job_t const *job) {
  char bar[BAR_WIDTH + 1];
  ulong now = now_ns();
  if (job->phase != follow->phase || !follow->since_ns) {
    follow->phase = job->phase;
    follow->since_ns = now;
    follow->since_done = job->done_size;
  }
  ulong total = job->total_size, done = job->done_size < total ? job->done_size : total;
  ulong full = total ? done / (total / BAR_WIDTH + 1) : 0;
  memset(bar, '.', BAR_WIDTH);
  memset(bar, '#', full < BAR_WIDTH ? full : BAR_WIDTH);
  if (total && done == total) memset(bar, '#', BAR_WIDTH);
  bar[BAR_WIDTH] = '\0';
  double s = (double)(now - follow->since_ns) / 1e9;
  double rate = s > 0.05 ? (double)(done - follow->since_done) / s : 0;
  fprintf(stderr, "\r%s %s %-5s [%s] %s of %s", ckpt_job_kind(job->kind), job->name, phase_of(job),
          bar, render_size(done).s, render_size(total).s);
  if (rate > 1)
    fprintf(stderr, ", %s/s, %.0f s left", render_size((ulong)rate).s,
            (double)(total - done) / rate);
  fputs("\033[K", stderr);
  fflush(stderr);
}

static void show_line(follow_t *follow, wksp_job_t const *job) {
  if (job->phase == follow->told_phase && follow->seen) return;
  follow->told_phase = job->phase;
  fprintf(stderr, "job %lu: %s %s, %s, %s of %s\n", job->id, ckpt_job_kind(job->kind), job->name,
          phase_of(job), render_size(job->done_size).s, render_size(job->total_size).s);
}

static int on_job(void *arg, wksp_job_t const *job) {
  follow_t *follow = arg;
  if (job->state == WKSP_JOB_RUNNING && follow->bar) show_bar(follow, job);
  if (job->state == WKSP_JOB_RUNNING && follow->lines) show_line(follow, job);
  follow->seen = 1;
  follow->last = *job;
  return 0;
}

int ckpt_follow(cli_t *cli, ulong job_id, wksp_job_t *ret_job) {
  follow_t follow = {.bar = !cli->json && isatty(STDERR_FILENO)};
  follow.lines = !cli->json && !follow.bar;
  int err = cli->timeout_ms ? 0 : wksp_client_deadline_set(cli->client, FOLLOW_MS);
  do {
    if (!err || err == WKSP_E_TIMEDOUT)
      err = wksp_client_job_watch(cli->client, job_id, on_job, &follow);
  } while (err == WKSP_E_TIMEDOUT && !cli->timeout_ms);
  if (follow.bar && follow.seen) fputs("\r\033[K", stderr);
  if (err == WKSP_E_TIMEDOUT)
    return cli_fail(cli, "WKSP_E_TIMEDOUT",
                    "job %lu goes on, and the time to wait for it is over; see wkspctl jobs",
                    job_id);
  if (err) return cli_fail_wksp(cli, err);
  *ret_job = follow.last;
  return CLI_OK;
}

int ckpt_ended(cli_t *cli, wksp_job_t const *job) {
  if (job->state == WKSP_JOB_DONE) {
    if (job->sentence[0] && !cli->json) printf("note: %s\n", job->sentence);
    return CLI_OK;
  }
  int const checked = job->kind == WKSP_JOB_VERIFY || job->kind == WKSP_JOB_DRILL;
  int const damaged = checked && job->code == WKSP_E_CORRUPT;
  int const status =
      cli_fail(cli, job->state == WKSP_JOB_CANCELLED ? "cancelled" : "job",
               "job %lu, %s of %s, %s: %s%s%s", job->id, ckpt_job_kind(job->kind), job->name,
               ckpt_job_state(job->state), job->sentence, job->hint[0] ? "; " : "", job->hint);
  return damaged ? CLI_FOUND : status;
}

/* Commands
 * ---------------------------------------------------------------------------------------------- */

static int list_job(void *arg, wksp_job_t const *job) {
  render_listing_t *listing = arg;
  listing->cnt++;
  if (listing->array) return json_array_append_new(listing->array, ckpt_job_json(job)) ? 1 : 0;
  render_text_t const id = render_number(job->id), asked = render_time(job->asked_ns);
  render_text_t const done = render_size(job->done_size), total = render_size(job->total_size);
  char how_far[2 * RENDER_TEXT_MAX + 16];
  snprintf(how_far, sizeof how_far, "%s %s of %s", phase_of(job), done.s, total.s);
  render_table_row(listing->table,
                   (char const *[]){id.s, ckpt_job_kind(job->kind), job->name,
                                    job->checkpoint[0] ? job->checkpoint : "-",
                                    ckpt_job_state(job->state), ckpt_by(job->by), asked.s,
                                    job->state == WKSP_JOB_RUNNING ? how_far : job->sentence});
  return 0;
}

int cmd_jobs(cli_t *cli, cli_args_t const *args) {
  int const status = cli_connect(cli);
  if (status) return status;
  static render_column_t const columns[] = {{"JOB", 1},        {"KIND", 0},  {"WORKSPACE", 0},
                                            {"CHECKPOINT", 0}, {"STATE", 0}, {"BY", 0},
                                            {"ASKED", 0},      {"NOTE", 0}};
  render_listing_t listing;
  int const made = render_listing_new(cli, columns, sizeof columns / sizeof *columns, &listing);
  if (made) return made;
  int const err = wksp_client_jobs(cli->client, list_job, &listing);
  return render_listing_end(cli, &listing, err, "jobs", "no jobs");
}

int cmd_cancel(cli_t *cli, cli_args_t const *args) {
  char const *text = args->operands[0];
  ulong job_id;
  char const *why = parse_number(text, &job_id);
  if (why) return cli_fail_usage(cli, "JOB '%s' %s", text, why);
  int const status = cli_connect(cli);
  if (status) return status;
  int const err = wksp_client_job_cancel(cli->client, job_id);
  if (err) return cli_fail_wksp(cli, err);
  if (cli->json) return render_json(cli, json_pack("{s:I}", "job", (json_int_t)job_id));
  printf("job %lu is being cancelled\n", job_id);
  return CLI_OK;
}
