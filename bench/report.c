/* report: rows, as a table for people and as JSON for machines. */

#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

double const bench_quantiles[3] = {0.5, 0.1, 0.9};

bench_row_t *bench_row(bench_rows_t *rows, char const *name) {
  if (rows->cnt == BENCH_ROW_MAX) bench_die("more than %d rows", BENCH_ROW_MAX);
  bench_row_t *row = &rows->rows[rows->cnt++];
  memset(row, 0, sizeof(*row));
  snprintf(row->name, sizeof(row->name), "%s", name);
  for (int q = 0; q < 3; q++) row->ns[q] = row->value[q] = -1;
  row->unit = "";
  return row;
}

int bench_row_missed(bench_row_t const *row) {
  if (row->zero) return row->value[0] != 0;
  return row->goal > 0 && !(row->value[0] >= 0 && row->value[0] <= row->goal);
}

/* The first value of a key in a file of lines `key : value`, "?" if there is none. */
static void fact_of(char const *path, char const *key, char *ret, size_t size) {
  char line[512];
  FILE *file = fopen(path, "re");
  snprintf(ret, size, "?");
  while (file && fgets(line, sizeof(line), file)) {
    char *colon = strchr(line, ':');
    if (strncmp(line, key, strlen(key)) || !colon) continue;
    line[strcspn(line, "\n\"\\")] = 0;
    snprintf(ret, size, "%s", colon + 1 + strspn(colon + 1, " \t"));
    break;
  }
  if (file) fclose(file);
}

static void machine(char *ret, size_t size) {
  char cpu[128];
  struct utsname os;
  fact_of("/proc/cpuinfo", "model name", cpu, sizeof(cpu));
  if (uname(&os)) memset(&os, 0, sizeof(os));
  snprintf(ret, size, "%s, %s %s, compiler %s", cpu, os.sysname, os.release, __VERSION__);
}

/* Three numbers, or '-'. */
static void figures(char *ret, size_t size, double const *values, int digits) {
  char spread[48];
  if (values[0] < 0) {
    snprintf(ret, size, "%9s %19s", "-", "");
    return;
  }
  snprintf(spread, sizeof(spread), "%.*f..%.*f", digits, values[1], digits, values[2]);
  snprintf(ret, size, "%9.*f %19s", digits, values[0], values[1] < 0 ? "" : spread);
}

void bench_report_text(bench_run_t const *run, bench_rows_t const *rows) {
  char facts[400], ns[64], value[64];
  machine(facts, sizeof(facts));
  printf("%s\n%s\nseed %lu, %u rounds; unit: lock and unlock of a robust process-shared mutex\n\n",
         facts, run->pages, run->seed, run->rounds);
  printf("%-26s %9s %19s %9s %19s %-6s %6s  %s\n", "measure", "ns median", "p10..p90", "figure",
         "p10..p90", "unit", "goal", "reached");
  for (size_t r = 0; r < rows->cnt; r++) {
    bench_row_t const *row = &rows->rows[r];
    char goal[16] = "-";
    if (row->goal > 0 || row->zero) snprintf(goal, sizeof(goal), "%g", row->goal);
    figures(ns, sizeof(ns), row->ns, row->ns[0] < 10000 ? 1 : 0);
    figures(value, sizeof(value), row->value, row->value[0] < 2 ? 3 : 2);
    printf("%-26s %s %s %-6s %6s  %-7s %s\n", row->name, ns, value, row->unit, goal,
           row->goal <= 0 && !row->zero ? "-"
           : bench_row_missed(row)      ? "no"
                                        : "yes",
           row->note);
  }
}

static void json_figures(char const *key, double const *values) {
  static char const *const names[3] = {"median", "p10", "p90"};
  printf(", \"%s\": ", key);
  if (values[0] < 0) {
    printf("null");
    return;
  }
  printf("{");
  for (int q = 0; q < 3 && values[q] >= 0; q++)
    printf("%s\"%s\": %.6g", q ? ", " : "", names[q], values[q]);
  printf("}");
}

void bench_report_json(bench_run_t const *run, bench_rows_t const *rows) {
  char facts[400];
  machine(facts, sizeof(facts));
  printf("{\"machine\": \"%s\", \"pages\": \"%s\", \"seed\": %lu, \"rounds\": %u, \"rows\": [\n",
         facts, run->pages, run->seed, run->rounds);
  for (size_t r = 0; r < rows->cnt; r++) {
    bench_row_t const *row = &rows->rows[r];
    printf("  {\"measure\": \"%s\"", row->name);
    json_figures("ns", row->ns);
    json_figures("figure", row->value);
    printf(", \"unit\": \"%s\", \"goal\": ", row->unit);
    if (row->goal > 0 || row->zero)
      printf("%g, \"reached\": %s", row->goal, bench_row_missed(row) ? "false" : "true");
    else
      printf("null, \"reached\": null");
    printf(", \"note\": \"%s\"}%s\n", row->note, r + 1 < rows->cnt ? "," : "");
  }
  printf("]}\n");
}
