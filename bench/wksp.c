/* wksp: what fd_wksp costs, in units of a robust process-shared mutex.

   Problem: the goals of this engine (README.md) are ratios, and somebody who changes it wants to
   know in a minute whether they still hold.

   Model. Kernels (kernels.c, peer_boost.cc) are measured by measure.c, kills by recover.c, room by
   frag.c; each becomes a row of a table for people or of JSON for machines.

   What it refuses: to judge by itself. A machine with neighbours has bad minutes, so the exit
   status is 0 unless --check asks. */

#include "bench.h"
#include "frag.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct options {
  unsigned rounds;
  uint64_t seed;
  char const *only, *traces;
  int json, check;
} options_t;

static char const usage_text[] =
    "usage: wksp [--rounds N] [--only TEXT] [--seed N] [--traces DIR] [--json] [--check]\n"
    "  --rounds N   rounds to measure (7)\n"
    "  --only TEXT  only the rows with TEXT in their name\n"
    "  --seed N     the seed of an earlier run, to draw the same\n"
    "  --traces DIR where the traces of fragmentation are\n"
    "  --json       one JSON object instead of the table\n"
    "  --check      exit status 1 if a goal is not reached\n";

static uint64_t number(char const *name, char const *text) {
  char *end;
  uint64_t value = strtoull(text, &end, 0);
  if (!*text || *end) bench_die("--%s wants a number, not '%s'", name, text);
  return value;
}

static options_t options(int argc, char **argv) {
  static struct option const known[] = {{"rounds", 1, NULL, 'r'}, {"only", 1, NULL, 'o'},
                                        {"seed", 1, NULL, 's'},   {"json", 0, NULL, 'j'},
                                        {"check", 0, NULL, 'c'},  {"traces", 1, NULL, 't'},
                                        {"help", 0, NULL, 'h'},   {NULL, 0, NULL, 0}};
  options_t opts = {.rounds = 7, .seed = (uint64_t)time(NULL), .traces = BENCH_TRACES};
  for (int opt; (opt = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    if (opt == 'r')
      opts.rounds = (unsigned)number("rounds", optarg);
    else if (opt == 'o')
      opts.only = optarg;
    else if (opt == 't')
      opts.traces = optarg;
    else if (opt == 's')
      opts.seed = number("seed", optarg);
    else if (opt == 'j')
      opts.json = 1;
    else if (opt == 'c')
      opts.check = 1;
    else {
      fputs(usage_text, opt == 'h' ? stdout : stderr);
      exit(opt == 'h' ? 0 : 2);
    }
  }
  if (optind < argc) bench_die("unknown argument '%s'; there is --help", argv[optind]);
  if (!opts.rounds || opts.rounds > 1000) bench_die("--rounds wants 1 to 1000");
  return opts;
}

static int wanted(options_t const *opts, char const *name) {
  return !opts->only || strstr(name, opts->only);
}

static void metadata(bench_rows_t *rows) {
  bench_row_t *row = bench_row(rows, "metadata");
  row->value[0] = frag_bytes_per_part();
  row->unit = "B";
  row->goal = 64;
  snprintf(row->note, sizeof(row->note), "bytes for each partition that there can be");
}

/* Two rows for a trace: how much more room than the model. */
static void fragmentation(bench_rows_t *rows, options_t const *opts, char const *name) {
  char path[512], why[600];
  frag_trace_t trace;
  frag_figures_t is;
  snprintf(path, sizeof(path), "%s/%s.trace", opts->traces, name);
  if (frag_trace_read(path, &trace, why, sizeof(why))) bench_die("%s", why);
  if (frag_measure(&trace, &is)) bench_die("%s needs more than twice its peak", path);
  for (int region = 0; region < 2; region++) {
    double ours = (double)(region ? is.wksp_region : is.wksp_high);
    double model = (double)(region ? is.model_region : is.model_high);
    double peak = (double)trace.live_sz_max;
    char row_name[64];
    snprintf(row_name, sizeof(row_name), "frag %s %s", name, region ? "region" : "highest");
    bench_row_t *row = bench_row(rows, row_name);
    row->value[0] = ours / model;
    row->unit = "model";
    row->goal = 1.02;
    snprintf(row->note, sizeof(row->note), "%.4f of peak live, exact best fit %.4f", ours / peak,
             model / peak);
  }
  frag_trace_free(&trace);
}

static void untimed(bench_rows_t *rows, options_t const *opts) {
  static char const *const traces[] = {"steady", "growing", "phases"};
  if (wanted(opts, "metadata")) metadata(rows);
  for (size_t t = 0; t < sizeof(traces) / sizeof(traces[0]); t++) {
    char name[64];
    snprintf(name, sizeof(name), "frag %s highest region", traces[t]);
    if (wanted(opts, name)) fragmentation(rows, opts, traces[t]);
  }
}

static void timed(bench_rows_t *rows, options_t const *opts, bench_run_t const *run) {
  bench_kernel_t *kernels[BENCH_ROW_MAX];
  bench_kernel_t *const tables[] = {
      bench_wksp_kernels,
#ifdef BENCH_WITH_BOOST
      bench_boost_kernels,
#endif
  };
  size_t cnt = 0;
  for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
    for (bench_kernel_t *k = tables[t]; k->name; k++)
      if (wanted(opts, k->name)) kernels[cnt++] = k;
  if (cnt) bench_measure(kernels, cnt, run, rows);
  int recover = wanted(opts, "recovery 1000000 max"), rebuild = wanted(opts, "rebuild 1000000");
  if (!recover && !rebuild) return;
  struct fd_wksp *wksp = bench_population(1000000, run->seed);
  if (recover) bench_recover(rows, wksp, run->seed);
  if (rebuild) bench_rebuild(rows, wksp);
}

int main(int argc, char **argv) {
  static bench_rows_t rows;
  options_t opts = options(argc, argv);
  bench_run_t run = {.rounds = opts.rounds, .seed = opts.seed};
  timed(&rows, &opts, &run);
  untimed(&rows, &opts);
  if (!rows.cnt) bench_die("no row has '%s' in its name", opts.only);
  bench_mem_say(run.pages, sizeof(run.pages));
  (opts.json ? bench_report_json : bench_report_text)(&run, &rows);
  int missed = 0;
  for (size_t r = 0; r < rows.cnt; r++) missed |= bench_row_missed(&rows.rows[r]);
  return opts.check && missed;
}
