/* wksp: what fd_wksp costs, in units of a robust process-shared mutex.

   Problem: the goals of this engine (README.md) are ratios, and somebody who changes it wants to
   know in a minute whether they still hold.

   Model. Kernels (kernels.c, peer_boost.cc) are measured by measure.c; each becomes a row of a
   table for people or of JSON for machines.

   What it refuses: to judge by itself. A machine with neighbours has bad minutes, so the exit
   status is 0 unless --check asks. */

#include "bench.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KERNEL_MAX 64

typedef struct options {
  unsigned rounds;
  uint64_t seed;
  char const *only;
  int json, check;
} options_t;

static char const usage_text[] =
    "usage: bench-wksp [--rounds N] [--only TEXT] [--seed N] [--json] [--check]\n"
    "  --rounds N   rounds to measure (7)\n"
    "  --only TEXT  only the rows with TEXT in their name\n"
    "  --seed N     the seed of an earlier run, to draw the same\n"
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
                                        {"check", 0, NULL, 'c'},  {"help", 0, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  options_t opts = {.rounds = 7, .seed = (uint64_t)time(NULL)};
  for (int opt; (opt = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    if (opt == 'r')
      opts.rounds = (unsigned)number("rounds", optarg);
    else if (opt == 'o')
      opts.only = optarg;
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

int main(int argc, char **argv) {
  options_t opts = options(argc, argv);
  bench_kernel_t *kernels[KERNEL_MAX];
  size_t cnt = 0;
  for (bench_kernel_t *k = bench_wksp_kernels; k->name; k++)
    if (!opts.only || strstr(k->name, opts.only)) kernels[cnt++] = k;
  double unit_ns;
  int missed = 0;
  bench_measure(kernels, cnt, opts.rounds, opts.seed, &unit_ns);
  printf("seed %lu, %u rounds\n", opts.seed, opts.rounds);
  printf("%-24s %9s %19s %8s %17s %6s  %s\n", "measure", "ns", "p10..p90", "units", "p10..p90",
         "goal", "reached");
  printf("%-24s %9.1f\n", "unit", unit_ns);
  for (size_t k = 0; k < cnt; k++) {
    bench_kernel_t *kernel = kernels[k];
    double ns[3], unit[3];
    for (int q = 0; q < 3; q++) {
      ns[q] = bench_quantile(kernel->ns, kernel->slice_cnt, q == 0 ? 0.1 : q == 1 ? 0.5 : 0.9);
      unit[q] = bench_quantile(kernel->unit, kernel->slice_cnt, q == 0 ? 0.1 : q == 1 ? 0.5 : 0.9);
    }
    int bad = kernel->goal > 0 && unit[1] > kernel->goal;
    missed |= bad;
    printf("%-24s %9.1f %9.1f..%-8.1f %8.2f %8.2f..%-7.2f ", kernel->name, ns[1], ns[0], ns[2],
           unit[1], unit[0], unit[2]);
    if (kernel->goal > 0)
      printf("%6.0f  %s\n", kernel->goal, bad ? "no" : "yes");
    else
      printf("%6s  %s\n", "-", "-");
  }
  char pages[256];
  bench_mem_say(pages, sizeof(pages));
  printf("pages: %s\n", pages);
  return opts.check && missed;
}
