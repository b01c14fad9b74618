/* cmd_metrics: metrics - the daemon and its workspaces as metrics for a monitoring system.

   The problem: two text formats are about that differ in little. OpenMetrics names a counter's
   family without the _total that its sample ends in, knows the type info, and ends with # EOF;
   Prometheus' own older format, which promtool and node_exporter's textfile collector read, has the
   sample's name everywhere and no such type. Both are written from one table here.

   A metric's name is part of the interface: they are added, never renamed. docs/metrics.md says
   what each means; names, types and help come from here. */

#include "ckpt.h"
#include "host.h"
#include "metrics.h"
#include "render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum metric_type { GAUGE, COUNTER, INFO } metric_type_t;

static char const *const type_words[] = {[GAUGE] = "gauge", [COUNTER] = "counter", [INFO] = "info"};

typedef struct writer {
  int format;
  FILE *out;     /* the others */
  json_t *array; /* FORMAT_JSON */
  int failed;    /* no memory */
  char const *name;
  metric_type_t type;
} writer_t;

/* name: without _total or _info. */
static void family(writer_t *w, metric_type_t type, char const *name, char const *help) {
  w->name = name;
  w->type = type;
  if (w->format == FORMAT_JSON) return;
  char const *suffix = "", *word = type_words[type];
  if (w->format == FORMAT_PROMETHEUS) {
    suffix = type == COUNTER ? "_total" : type == INFO ? "_info" : "";
    if (type == INFO) word = type_words[GAUGE];
  }
  fprintf(w->out, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, suffix, help, name, suffix, word);
}

typedef struct label {
  char const *name, *value; /* name NULL: none */
} label_t;

/* With '\', '"' and line ends written as the formats want them. */
static void print_label(FILE *out, label_t const *label, char before) {
  fprintf(out, "%c%s=\"", before, label->name);
  for (char const *c = label->value; *c; c++) {
    if (*c == '\\' || *c == '"') fputc('\\', out);
    if (*c == '\n')
      fputs("\\n", out);
    else
      fputc(*c, out);
  }
  fputc('"', out);
}

#define LABELS_MAX 3

/* A sample of the family. */
static void sample(writer_t *w, label_t const labels[LABELS_MAX], double value) {
  char const *suffix = w->type == COUNTER ? "_total" : w->type == INFO ? "_info" : "";
  if (w->format == FORMAT_JSON) {
    json_t *named = json_object();
    for (int i = 0; i < LABELS_MAX && labels[i].name; i++)
      w->failed |= json_object_set_new(named, labels[i].name, render_json_text(labels[i].value));
    json_t *object = json_pack("{s:s+, s:s, s:o, s:f}", "name", w->name, suffix, "type",
                               type_words[w->type], "labels", named, "value", value);
    w->failed |= json_array_append_new(w->array, object);
    return;
  }
  fprintf(w->out, "%s%s", w->name, suffix);
  for (int i = 0; i < LABELS_MAX && labels[i].name; i++)
    print_label(w->out, &labels[i], i ? ',' : '{');
  if (labels[0].name) fputc('}', w->out);
  fprintf(w->out, " %.17g\n", value); /* bytes below 2^53 are whole */
}

static label_t const no_labels[LABELS_MAX];

static void write_daemon(writer_t *w, sample_t const *s) {
  char layout[16];
  snprintf(layout, sizeof layout, "%u", s->version.layout);
  family(w, INFO, "wkspd", "The daemon's version and the layout version of workspaces it makes.");
  sample(w, (label_t[LABELS_MAX]){{"version", s->version.daemon}, {"layout", layout}}, 1);

  wksp_status_t const *t = &s->status;
  struct {
    char const *name;
    metric_type_t type;
    double value;
    char const *help;
  } const rows[] = {
      {"wkspd_uptime_seconds", GAUGE, (double)t->uptime_ns / 1e9, "Time since the daemon started."},
      {"wkspd_memory_outlives_daemon", GAUGE, t->fd_store,
       "1 if systemd or a supervisor keeps the memory over a restart of the daemon."},
      {"wkspd_workspaces", GAUGE, t->workspace_cnt, "Workspaces that there are."},
      {"wkspd_workspaces_quarantined", GAUGE, t->quarantined_cnt,
       "Workspaces that are kept and not served."},
      {"wkspd_workspaces_damaged", GAUGE, t->damaged_cnt,
       "Workspaces in which a worker of the daemon has met damage."},
      {"wkspd_workspaces_removing", GAUGE, (double)s->removing_cnt,
       "Workspaces that were removed by force while in use."},
      {"wkspd_workspaces_lost", GAUGE, t->lost_cnt,
       "Workspaces whose memory nobody had kept when this daemon started."},
      {"wkspd_configuration_sound", GAUGE, !t->config_mistake[0],
       "0 if the configuration has a mistake, and an older one is in force for it."},
      {"wkspd_workspaces_bytes", GAUGE, (double)t->bytes, "Memory held in workspaces."},
      {"wkspd_leases", GAUGE, t->lease_cnt, "Leases that are held."},
      {"wkspd_connections", GAUGE, t->connection_cnt, "Connections of clients."},
      {"wkspd_jobs", GAUGE, t->job_cnt, "Workers running."},
      {"wkspd_open_fds", GAUGE, t->fd_cnt, "Descriptors open in the daemon."},
      {"wkspd_requests", COUNTER, (double)t->request_cnt, "Requests served since the start."},
      {"wkspd_requests_refused", COUNTER, (double)t->refused_cnt,
       "Requests answered with an error since the start."},
      {"wkspd_violations", COUNTER, (double)t->violation_cnt,
       "Connections closed for breaking the protocol since the start."},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    family(w, rows[i].type, rows[i].name, rows[i].help);
    sample(w, no_labels, rows[i].value);
  }
}

/* Of a workspace. */
typedef enum fact {
  SIZE,
  MAX_SIZE,
  PAGE_SIZE,
  CREATED,
  QUARANTINED,
  DAMAGED,
  ATTACHED_RW,
  ATTACHED_RO,
  READABLE,
  DATA, /* this and what follows: only if it is readable */
  USED,
  FREE,
  FREE_MAX,
  FRAGMENTATION,
  PARTS,
  PARTS_MAX,
  LOCK_WAIT,
  SUSPECTS
} fact_t;

static double value_of(sample_t const *s, sample_wksp_t const *wksp, fact_t fact) {
  wksp_info_t const *info = &wksp->info;
  fd_wksp_usage_t const *usage = &wksp->usage;
  ulong const since = wksp->holder.since_ns;
  switch (fact) {
  case SIZE:
    return (double)info->size;
  case MAX_SIZE:
    return (double)info->max_size;
  case PAGE_SIZE:
    return (double)info->page_size;
  case CREATED:
    return (double)info->created_ns / 1e9;
  case QUARANTINED:
    return info->quarantined;
  case DAMAGED:
    return info->damaged;
  case ATTACHED_RW:
    return info->attached_rw;
  case ATTACHED_RO:
    return info->attached_ro;
  case READABLE:
    return !wksp->err;
  case DATA:
    return (double)usage->total_sz;
  case USED:
    return (double)usage->used_sz;
  case FREE:
    return (double)usage->free_sz;
  case FREE_MAX:
    return (double)usage->free_sz_max;
  case FRAGMENTATION:
    return sample_fragmentation(usage);
  case PARTS:
    return (double)usage->total_cnt;
  case PARTS_MAX:
    return (double)usage->total_max;
  case LOCK_WAIT:
    return since && s->time_ns > since ? (double)(s->time_ns - since) / 1e9 : 0;
  case SUSPECTS:
    return (double)wksp->suspect_cnt;
  }
  return 0;
}

static void write_workspaces(writer_t *w, sample_t const *s) {
  static struct {
    char const *name;
    fact_t fact;
    char const *help, *mode;
  } const rows[] = {
      {"wkspd_workspace_size_bytes", SIZE, "Bytes that the workspace takes at present.", NULL},
      {"wkspd_workspace_max_size_bytes", MAX_SIZE, "Bytes that it can be resized to.", NULL},
      {"wkspd_workspace_page_size_bytes", PAGE_SIZE, "Size of its pages.", NULL},
      {"wkspd_workspace_created_timestamp_seconds", CREATED, "When it was made.", NULL},
      {"wkspd_workspace_quarantined", QUARANTINED, "1 if it is kept and not served.", NULL},
      {"wkspd_workspace_damaged", DAMAGED,
       "1 if a worker of the daemon has met damage in it, until a verify finds none.", NULL},
      {"wkspd_workspace_leases", ATTACHED_RW, "Leases by what they allow.", "rw"},
      {"wkspd_workspace_leases", ATTACHED_RO, NULL, "ro"},
      {"wkspd_workspace_readable", READABLE,
       "1 if what follows could be read, 0 if it is damaged or not served.", NULL},
      {"wkspd_workspace_data_bytes", DATA, "Bytes for data at present.", NULL},
      {"wkspd_workspace_used_bytes", USED, "Bytes in used partitions.", NULL},
      {"wkspd_workspace_free_bytes", FREE, "Bytes in free partitions.", NULL},
      {"wkspd_workspace_largest_free_bytes", FREE_MAX, "Bytes in the largest free partition.",
       NULL},
      {"wkspd_workspace_fragmentation_ratio", FRAGMENTATION,
       "Part of the free bytes that does not lie in the largest free partition.", NULL},
      {"wkspd_workspace_partitions", PARTS, "Partitions, free ones included.", NULL},
      {"wkspd_workspace_partitions_max", PARTS_MAX, "Partitions that there can be.", NULL},
      {"wkspd_workspace_lock_wait_seconds", LOCK_WAIT,
       "For how long somebody has been waiting for its lock, 0 if nobody has.", NULL},
      {"wkspd_workspace_suspects", SUSPECTS,
       "Live blocks that were in flight when their thread was killed.", NULL},
  };
  /* A family's samples stand together, so those of one name follow each other by workspace. */
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    if (rows[i].help) family(w, GAUGE, rows[i].name, rows[i].help);
    for (ulong k = 0; k < s->cnt; k++) {
      sample_wksp_t const *wksp = &s->wksps[k];
      if (rows[i].fact >= DATA && wksp->err) continue;
      sample(w,
             (label_t[LABELS_MAX]){{"workspace", wksp->info.name},
                                   {rows[i].mode ? "mode" : NULL, rows[i].mode}},
             value_of(s, wksp, rows[i].fact));
    }
  }
}

/* Checkpoints
 * ---------------------------------------------------------------------------------------------- */

typedef enum ckpt_fact {
  CKPT_CNT,
  CKPT_BAD,
  CKPT_FILES,
  CKPT_GOOD, /* this and up to SUSPECTS: only if there is a good one */
  CKPT_LIVE,
  CKPT_TOOK,
  CKPT_SUSPECTS,
  CKPT_VERIFIED, /* only if one is */
  CKPT_DRILLED,  /* only if one was */
  CKPT_DRILL,    /* this and the next: only with a schedule that has drills */
  CKPT_DRILL_FAILED,
  CKPT_EVERY, /* this and what follows: only with a schedule */
  CKPT_DUE,
  CKPT_FAILED
} ckpt_fact_t;

/* 1 and *ret_value if there is that fact about it. */
static int ckpt_value(sample_ckpt_t const *ckpt, ckpt_fact_t fact, double *ret_value) {
  wksp_checkpoint_t const *good = ckpt->good;
  wksp_schedule_t const *schedule = &ckpt->schedule;
  if (fact >= CKPT_GOOD && fact <= CKPT_SUSPECTS && !good) return 0;
  if (fact == CKPT_VERIFIED && !ckpt->verified_ns) return 0;
  if (fact == CKPT_DRILLED && !ckpt->drilled_ns) return 0;
  int const drills = ckpt->scheduled && schedule->drill_ns;
  if ((fact == CKPT_DRILL || fact == CKPT_DRILL_FAILED) && !drills) return 0;
  if (fact >= CKPT_EVERY && !(ckpt->scheduled && schedule->every_ns)) return 0;
  double const values[] = {
      [CKPT_CNT] = (double)ckpt->cnt,
      [CKPT_BAD] = (double)ckpt->bad_cnt,
      [CKPT_FILES] = (double)ckpt->file_size,
      [CKPT_GOOD] = good ? (double)good->created_ns / 1e9 : 0,
      [CKPT_LIVE] = good ? (double)good->live_size : 0,
      [CKPT_TOOK] = good ? (double)good->took_ns / 1e9 : 0,
      [CKPT_SUSPECTS] = good ? (double)good->suspect_cnt : 0,
      [CKPT_VERIFIED] = (double)ckpt->verified_ns / 1e9,
      [CKPT_DRILLED] = (double)ckpt->drilled_ns / 1e9,
      [CKPT_DRILL] = (double)schedule->drill_ns / 1e9,
      [CKPT_DRILL_FAILED] = schedule->drill_fail_cnt,
      [CKPT_EVERY] = (double)schedule->every_ns / 1e9,
      [CKPT_DUE] = (double)schedule->due_ns / 1e9,
      [CKPT_FAILED] = schedule->fail_cnt,
  };
  *ret_value = values[fact];
  return 1;
}

static void write_checkpoints(writer_t *w, sample_t const *s) {
  static struct {
    char const *name;
    ckpt_fact_t fact;
    char const *help;
  } const rows[] = {
      {"wkspd_checkpoints", CKPT_CNT, "Checkpoints that there are."},
      {"wkspd_checkpoints_bad", CKPT_BAD, "Checkpoints that are known to be bad."},
      {"wkspd_checkpoint_files_bytes", CKPT_FILES, "Bytes of files that checkpoints have added."},
      {"wkspd_checkpoint_last_good_timestamp_seconds", CKPT_GOOD,
       "When the newest checkpoint was taken that is not known to be bad."},
      {"wkspd_checkpoint_last_good_live_bytes", CKPT_LIVE, "Bytes that that one stands for."},
      {"wkspd_checkpoint_last_good_duration_seconds", CKPT_TOOK, "How long it took."},
      {"wkspd_checkpoint_last_good_suspects", CKPT_SUSPECTS,
       "Blocks that were in flight in it: of threads that were killed, or were in a call."},
      {"wkspd_checkpoint_last_verified_timestamp_seconds", CKPT_VERIFIED,
       "When the newest checkpoint was taken that has been found sound."},
      {"wkspd_checkpoint_last_drill_timestamp_seconds", CKPT_DRILLED,
       "When a checkpoint was last restored, in earnest or for trial, and found sound."},
      {"wkspd_checkpoint_drill_interval_seconds", CKPT_DRILL,
       "How often the newest is to be restored for trial."},
      {"wkspd_checkpoint_drill_failures", CKPT_DRILL_FAILED,
       "Drills of the schedule that have failed since one did not."},
      {"wkspd_checkpoint_schedule_interval_seconds", CKPT_EVERY, "How often one is to be taken."},
      {"wkspd_checkpoint_schedule_due_timestamp_seconds", CKPT_DUE,
       "When the next is to be taken."},
      {"wkspd_checkpoint_schedule_failures", CKPT_FAILED,
       "Runs of the schedule that have failed since one did not."},
  };
  double value;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    family(w, GAUGE, rows[i].name, rows[i].help);
    for (ulong k = 0; k < s->ckpt_cnt; k++)
      if (ckpt_value(&s->ckpts[k], rows[i].fact, &value))
        sample(w, (label_t[LABELS_MAX]){{"workspace", s->ckpts[k].name}}, value);
  }
}

static void write_jobs(writer_t *w, sample_t const *s) {
  family(w, GAUGE, "wkspd_checkpoint_jobs",
         "Jobs that wait, that run, and of the last that have ended.");
  for (int kind = WKSP_JOB_CHECKPOINT; kind < SAMPLE_KINDS; kind++)
    for (int state = WKSP_JOB_QUEUED; state < SAMPLE_STATES; state++)
      sample(w,
             (label_t[LABELS_MAX]){{"kind", ckpt_job_kind((uint)kind)},
                                   {"state", ckpt_job_state((uint)state)}},
             s->jobs[kind][state]);
}

/* Quotas and pages
 * ---------------------------------------------------------------------------------------------- */

static void write_quota(writer_t *w, wksp_quota_t const *quota, ulong figure) {
  render_text_t const uid = render_number(quota->uid), page = render_number(quota->page_size);
  render_text_t const node =
      quota->node < 0 ? (render_text_t){"all"} : render_number((ulong)quota->node);
  label_t const whose = quota->tag[0] ? (label_t){"tag", quota->tag} : (label_t){"uid", uid.s};
  sample(w,
         (label_t[LABELS_MAX]){
             whose, {"page_size", quota->page_size ? page.s : "all"}, {"node", node.s}},
         (double)figure);
}

static void write_quotas(writer_t *w, sample_t const *s) {
  static char const *const names[2][2] = {
      {"wkspd_quota_used_bytes", "wkspd_quota_limit_bytes"},
      {"wkspd_quota_used_workspaces", "wkspd_quota_limit_workspaces"}};
  static char const *const helps[2][2] = {
      {"What workspaces of a user, or of a tag, can grow to.", "What they may by a quota."},
      {"Workspaces of a user, or of a tag.", "How many there may be of them by a quota."}};
  for (int i = 0; i < 4; i++) {
    uint const workspaces = (uint)i / 2;
    int const limit = i % 2;
    family(w, GAUGE, names[workspaces][limit], helps[workspaces][limit]);
    for (uint k = 0; k < s->status.quota_cnt; k++) {
      wksp_quota_t const *quota = &s->status.quota[k];
      if (quota->workspaces == workspaces)
        write_quota(w, quota, limit ? quota->limit : quota->used);
    }
  }
}

static void write_pages(writer_t *w, sample_t const *s) {
  family(w, GAUGE, "wkspd_workspace_node_pages", "Pages of a workspace, by the node they are on.");
  for (ulong i = 0; i < s->page_cnt; i++) {
    sample_pages_t const *pages = &s->pages[i];
    render_text_t const node =
        pages->node < 0 ? (render_text_t){"none"} : render_number((ulong)pages->node);
    sample(w, (label_t[LABELS_MAX]){{"workspace", pages->name}, {"node", node.s}},
           (double)pages->cnt);
  }
}

/* Of the machine that this runs on. What it does not say is left out. */
static void write_pools(writer_t *w) {
  static sys_t const this_machine = {.root = ""};
  char error[HOST_ERROR_MAX];
  host_t host;
  int const have = !host_read(&this_machine, &host, error);
  for (int unused = 0; unused < 2; unused++) {
    if (unused)
      family(w, GAUGE, "wkspd_node_huge_pages_free", "Of these, those that nobody has taken.");
    else
      family(w, GAUGE, "wkspd_node_huge_pages", "Huge pages in a node's pool.");
    for (uint at = 0; have && at < host.size_cnt; at++) {
      render_text_t const page = render_number(host.size[at].size);
      for (uint i = 0; i < host.node_cnt; i++) {
        host_pool_t const *pool = &host.node[i].pool[at];
        render_text_t const node = render_number(host.node[i].id);
        if (host.node[i].pooled)
          sample(w, (label_t[LABELS_MAX]){{"node", node.s}, {"page_size", page.s}},
                 (double)(unused ? pool->free : pool->total));
      }
    }
  }
  if (have) host_free(&host);
}

static void write_all(writer_t *w, sample_t const *s) {
  write_daemon(w, s);
  write_workspaces(w, s);
  write_pages(w, s);
  write_pools(w);
  write_quotas(w, s);
  write_checkpoints(w, s);
  write_jobs(w, s);
}

/* FORMAT_*, or -1. */
static int format_of(cli_t const *cli, char const *format) {
  int const prometheus = format && !strcmp(format, "prometheus");
  if (format && !prometheus && strcmp(format, "openmetrics")) return -1;
  return cli->json ? FORMAT_JSON : prometheus ? FORMAT_PROMETHEUS : FORMAT_OPENMETRICS;
}

void metrics_write(sample_t const *s, int format, FILE *out) {
  writer_t w = {.format = format, .out = out};
  write_all(&w, s);
  if (format == FORMAT_OPENMETRICS) fputs("# EOF\n", out);
}

int cmd_metrics(cli_t *cli, cli_args_t const *args) {
  int const format = format_of(cli, cli_arg(args, "format"));
  char const *listen_at = cli_arg(args, "listen");
  if (format < 0)
    return cli_fail_usage(cli, "--format '%s' is neither openmetrics nor prometheus",
                          cli_arg(args, "format"));
  if (listen_at) return serve_metrics(cli, listen_at);
  int const status = cli_connect(cli);
  if (status) return status;
  sample_t s;
  int const err = sample_take(cli->client, 1, &s);
  if (err) return cli_fail_wksp(cli, err);
  if (format != FORMAT_JSON) {
    metrics_write(&s, format, stdout);
    sample_free(&s);
    return CLI_OK;
  }
  writer_t w = {.format = format, .array = json_array()};
  write_all(&w, &s);
  sample_free(&s);
  json_t *object = w.failed ? NULL : json_pack("{s:O}", "metrics", w.array);
  json_decref(w.array);
  return render_json(cli, object);
}
