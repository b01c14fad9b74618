/* checkpoint: what checkpoints cost, beside the plain calls and codecs that they are made of.

   Problem: a checkpoint reads memory, digests, encodes and writes. What can be asked of it is to
   add little to what the machine takes for these alone, on the same bytes, with as many threads, in
   the same run.

   Model. A workspace is half full: partitions and the blocks of an fd_alloc, of which every second
   was freed again, filled with bytes of which about half can be compressed away. The peer has the
   same live bytes in one piece, which is the best case for it, and does with two threads what the
   row says: pwrite in pieces of 1 MiB; lz4, zstd and XXH3 in pieces of 128 KiB, which is also what
   a chunk is; memcpy. Both are measured in turn, a few times; a row is the median of the ratios of
   their times, ours by the peer's, with the least and the greatest.

   What it refuses: to compare with cold memory or a cold file. Both sides find pages that were
   touched and, where they read, files that were just written. */

#include "checkpoint.h"

#include "wksp/ckpt.h"
#include "wksp/pause.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROUNDS_MAX 31
#define ROUNDS_MIN 3            /* however long they take */
#define SIZE_MIN   (16UL << 20) /* what is made for it has room */
#define BRACKETS   10000000UL
#define SECONDS    200 /* that groups of rows share, unless told otherwise */
#define GROUPS     6   /* of rows that go round */

/* Ours
 * ---------------------------------------------------------------------------------------------- */

static wksp_ckpt_store_t *store_in(char const *folder) {
  wksp_ckpt_store_t *store;
  char path[512];
  snprintf(path, sizeof path, "%s/store", folder);
  if (mkdir(path, 0700) && errno != EEXIST) bench_die("%s: %s", path, strerror(errno));
  if (wksp_ckpt_store_open(path, &store)) bench_die("%s", wksp_last_error());
  return store;
}

static void store_end(wksp_ckpt_store_t *store, char const *folder) {
  char path[512];
  wksp_ckpt_store_close(store);
  snprintf(path, sizeof path, "%s/store", folder);
  rmdir(path);
}

static wksp_ckpt_result_t take(fixture_t *fix, wksp_ckpt_store_t *store, uint codec, uint mode,
                               double *ret_ns) {
  wksp_ckpt_opts_t opts = {.style = {codec, 0},
                           .mode = mode,
                           .threads = THREADS,
                           .still = fix->still,
                           .pause_ns = 60000000000UL,
                           .wait_ns = 1000000000UL};
  wksp_ckpt_result_t result;
  uint64_t began = peer_now();
  if (wksp_ckpt_take(store, fix->wksp, &opts, &result)) bench_die("take: %s", wksp_last_error());
  *ret_ns = (double)(peer_now() - began);
  return result;
}

static void drop(wksp_ckpt_store_t *store, ulong id) {
  if (wksp_ckpt_remove(store, id, NULL)) bench_die("remove: %s", wksp_last_error());
}

static double restore_time(fixture_t *fix, wksp_ckpt_store_t *store) {
  wksp_ckpt_t *ckpt;
  memset(fix->target, 0, fix->target_sz);
  uint64_t began = peer_now();
  if (wksp_ckpt_open(store, 0, &ckpt)) bench_die("open: %s", wksp_last_error());
  wksp_ckpt_restore_opts_t how = {
      .shmem = fix->target, .map_sz = fix->target_sz, .threads = THREADS};
  if (wksp_ckpt_restore(ckpt, &how, NULL)) bench_die("restore: %s", wksp_last_error());
  wksp_ckpt_close(ckpt);
  return (double)(peer_now() - began);
}

/* Rows
 * ---------------------------------------------------------------------------------------------- */

typedef struct series {
  double ours[ROUNDS_MAX], peer[ROUNDS_MAX];
  unsigned cnt;
} series_t;

static void add(series_t *series, double ours, double peer) {
  series->ours[series->cnt] = ours;
  series->peer[series->cnt++] = peer;
}

/* The row of a ratio of times; the best time of each side stands beside it. */
static void ratio_row(bench_rows_t *rows, fixture_t *fix, char const *name, double goal,
                      series_t *series, char const *peer) {
  double ratios[ROUNDS_MAX], best_ours = series->ours[0], best_peer = series->peer[0];
  bench_row_t *row = bench_row(rows, name);
  for (unsigned i = 0; i < series->cnt; i++) {
    ratios[i] = series->ours[i] / series->peer[i];
    if (series->ours[i] < best_ours) best_ours = series->ours[i];
    if (series->peer[i] < best_peer) best_peer = series->peer[i];
  }
  row->unit = "x";
  row->goal = goal;
  for (int q = 0; q < 3; q++)
    row->value[q] = bench_quantile(ratios, series->cnt, bench_quantiles[q]);
  snprintf(row->note, sizeof row->note, "%.2f GB/s, %s %.2f; best by best %.2f",
           (double)fix->live / best_ours, peer, (double)fix->live / best_peer,
           best_ours / best_peer);
}

static void figure_row(bench_rows_t *rows, char const *name, double goal, double value,
                       char const *unit, char const *note) {
  bench_row_t *row = bench_row(rows, name);
  row->value[0] = value;
  row->unit = unit;
  row->goal = goal;
  snprintf(row->note, sizeof row->note, "%s", note);
}

/* Whether there is a further round: as many as were asked for, fewer if they take too long. */
static int another(fixture_t const *fix, series_t const *series) {
  return series->cnt < fix->rounds && (series->cnt < ROUNDS_MIN || bench_now() < fix->until);
}

/* Of the groups that are left each may take the same share of the time that is left. */
static void share(fixture_t *fix, unsigned left) {
  uint64_t at = bench_now();
  fix->until = at < fix->end ? at + (fix->end - at) / left : at;
}

static void raw_rows(bench_rows_t *rows, fixture_t *fix, char const *folder, int durable) {
  wksp_ckpt_store_t *store = store_in(folder);
  series_t series = {.cnt = 0}, still = {.cnt = 0};
  while (another(fix, &still)) {
    double ours, peer = peer_write_time(fix, folder, durable);
    drop(store, take(fix, store, WKSP_CKPT_RAW, WKSP_CKPT_FUZZY, &ours).id);
    add(&series, ours, peer);
    peer = peer_write_time(fix, folder, durable);
    fix->still = 1;
    drop(store, take(fix, store, WKSP_CKPT_RAW, WKSP_CKPT_FUZZY, &ours).id);
    fix->still = 0;
    add(&still, ours, peer);
  }
  char const *peer = durable ? "pwrite and fsync" : "pwrite";
  ratio_row(rows, fix, durable ? "raw, disk, durable" : "raw, tmpfs", 1 / 0.9, &series, peer);
  ratio_row(rows, fix, durable ? "raw, still, disk, durable" : "raw, still, tmpfs", 1 / 0.9, &still,
            peer);
  store_end(store, folder);
}

/* Taken in a style and restored. The goals are about memory and codecs alone; what cannot be had
   without the calls that write and read files stands in the rows behind them. */
typedef struct codec {
  char const *name, *word; /* word: of --only */
  uint style;
  int encode, pack, decode; /* PEER_* */
} codec_t;

static codec_t const codecs[] = {
    {"raw", "raw", WKSP_CKPT_RAW, -1, -1, PEER_COPY},
    {"lz4", "lz4", WKSP_CKPT_LZ4, PEER_LZ4, PEER_PACK_LZ4, PEER_UNLZ4},
    {"zstd -1", "zstd", WKSP_CKPT_ZSTD, PEER_ZSTD, PEER_PACK_ZSTD, PEER_UNZSTD},
};

static void codec_rows(bench_rows_t *rows, fixture_t *fix, codec_t const *codec) {
  wksp_ckpt_store_t *store = store_in(fix->tmpfs);
  series_t taken = {.cnt = 0}, written = {.cnt = 0}, restored = {.cnt = 0}, read = {.cnt = 0};
  int plain = codec->style == WKSP_CKPT_RAW;
  char row[64];
  if (!plain) peer_time(fix, codec->pack);
  while (another(fix, &restored)) {
    double ours, peer = plain ? 0 : peer_time(fix, codec->encode);
    ulong id = take(fix, store, codec->style, WKSP_CKPT_FUZZY, &ours).id;
    if (!plain) add(&taken, ours, peer);
    if (!plain) add(&written, ours, peer_code_write_time(fix, fix->tmpfs, codec->encode));
    double back = restore_time(fix, store);
    add(&restored, back, peer_time(fix, codec->decode));
    if (plain) add(&read, back, peer_read_time(fix, fix->tmpfs));
    drop(store, id);
  }
  if (!plain) {
    ratio_row(rows, fix, codec->name, 1 / 0.95, &taken, "codec alone");
    snprintf(row, sizeof row, "%s, by both", codec->name);
    ratio_row(rows, fix, row, 0, &written, "codec and pwrite");
  }
  snprintf(row, sizeof row, "restore, %s", codec->name);
  ratio_row(rows, fix, row, 1 / 0.85, &restored, plain ? "memcpy" : "decoder alone");
  if (plain) ratio_row(rows, fix, "restore, raw, by pread", 0, &read, "pread");
  store_end(store, fix->tmpfs);
}

static void again_rows(bench_rows_t *rows, fixture_t *fix) {
  wksp_ckpt_store_t *store = store_in(fix->tmpfs);
  series_t again = {.cnt = 0}, pauses = {.cnt = 0};
  double ours, peer, most = 0;
  ulong id = take(fix, store, WKSP_CKPT_RAW, WKSP_CKPT_FUZZY, &ours).id;
  while (another(fix, &pauses)) {
    fixture_change(fix);
    peer = peer_time(fix, PEER_DIGEST);
    wksp_ckpt_result_t result = take(fix, store, WKSP_CKPT_RAW, WKSP_CKPT_FUZZY, &ours);
    add(&again, ours, peer);
    double wrote = (double)result.written_sz / (double)result.changed_sz;
    if (wrote > most) most = wrote;
    drop(store, id);
    peer = peer_time(fix, PEER_DIGEST);
    id = take(fix, store, WKSP_CKPT_RAW, WKSP_CKPT_QUIESCE, &ours).id;
    drop(store, result.id);
    wksp_ckpt_t *ckpt;
    if (wksp_ckpt_open(store, id, &ckpt)) bench_die("open: %s", wksp_last_error());
    add(&pauses, (double)wksp_ckpt_info(ckpt)->pause_ns, peer);
    wksp_ckpt_close(ckpt);
  }
  ratio_row(rows, fix, "second, 1 % changed", 1.15, &again, "digest");
  figure_row(rows, "second, written by changed", 1.5, most, "x", "the greatest of all rounds");
  if (!peer_by_cpu) /* how long others wait is a time of the clock */
    ratio_row(rows, fix, "pause, nothing changing", 1.2, &pauses, "digest");
  drop(store, id);
  store_end(store, fix->tmpfs);
}

/* The pause of a smaller workspace, to be plotted against its size: nobody is there who changes
   anything, so it is what the second pass costs. Both are times of the clock, always. */
static void size_row(bench_rows_t *rows, fixture_t const *of, ulong size) {
  fixture_t fix = {.size = size,
                   .tmpfs = of->tmpfs,
                   .rounds = of->rounds,
                   .until = of->until,
                   .rng = bench_rng(1, "size")};
  fixture_make(&fix);
  wksp_ckpt_store_t *store = store_in(fix.tmpfs);
  series_t series = {.cnt = 0};
  double ours;
  char name[64];
  int by_cpu = peer_by_cpu;
  peer_by_cpu = 0;
  while (another(&fix, &series)) {
    double digest = peer_time(&fix, PEER_DIGEST);
    wksp_ckpt_result_t result = take(&fix, store, WKSP_CKPT_RAW, WKSP_CKPT_QUIESCE, &ours);
    add(&series, (double)result.pause_ns, digest);
    drop(store, result.id);
  }
  peer_by_cpu = by_cpu;
  store_end(store, fix.tmpfs);
  snprintf(name, sizeof name, "pause, of %lu MiB", size >> 20);
  ratio_row(rows, &fix, name, 0, &series, "digest");
  bench_row_t *row = &rows->rows[rows->cnt - 1];
  for (int q = 0; q < 3; q++)
    row->ns[q] = bench_quantile(series.ours, series.cnt, bench_quantiles[q]);
  fixture_free(&fix);
}

static void pause_rows(bench_rows_t *rows, fixture_t *fix) {
  uint64_t began = peer_now();
  for (ulong i = 0; i < BRACKETS; i++) {
    if (wksp_client_enter(fix->wksp)) bench_die("enter: %s", wksp_last_error());
    wksp_client_leave(fix->wksp);
  }
  double each = (double)(peer_now() - began) / (double)BRACKETS;
  figure_row(rows, "brackets, a pair", 2, each, "ns", "wksp_client_enter and _leave");
}

/* The same inline. */
static void bracket_rows(bench_rows_t *rows, fixture_t *fix) {
  wksp_bracket_t *bracket;
  if (wksp_client_bracket(fix->wksp, &bracket)) bench_die("bracket: %s", wksp_last_error());
  uint64_t began = peer_now();
  for (ulong i = 0; i < BRACKETS; i++) {
    if (wksp_bracket_enter(bracket)) bench_die("enter: %s", wksp_last_error());
    wksp_bracket_leave(bracket);
  }
  double each = (double)(peer_now() - began) / (double)BRACKETS;
  figure_row(rows, "brackets inline, a pair", 2, each, "ns", "wksp_bracket_enter and _leave");
}

static void free_row(bench_rows_t *rows, fixture_t *fix) {
  wksp_ckpt_store_t *store = store_in(fix->tmpfs);
  double ours;
  wksp_ckpt_result_t result = take(fix, store, WKSP_CKPT_RAW, WKSP_CKPT_FUZZY, &ours);
  figure_row(rows, "free memory in it", 0, (double)result.live_sz - (double)fix->live, "bytes",
             "live bytes of the checkpoint less those of partitions and blocks");
  rows->rows[rows->cnt - 1].zero = 1;
  drop(store, result.id);
  store_end(store, fix->tmpfs);
}

static void usage(FILE *to) {
  fputs("usage: checkpoint [--size MiB] [--rounds N] [--tmpfs FOLDER] [--disk FOLDER] [--cpu] "
        "[--only tmpfs,disk,raw,lz4,zstd,second,free,size,brackets,idle] [--seconds N] [--idle "
        "SECONDS] [--json] "
        "[--check]\n",
        to);
}

static ulong number(char const *text, char const *option, ulong lo, ulong hi) {
  char *end;
  ulong value = strtoul(text, &end, 0);
  if (!*text || *end || value < lo || value > hi)
    bench_die("%s '%s': a number from %lu to %lu", option, text, lo, hi);
  return value;
}

/* Whether these rows are among those that are wanted: a list of words, NULL: all. */
static int wanted(char const *only, char const *word) {
  return !only || strstr(only, word);
}

int main(int argc, char **argv) {
  static struct option const options[] = {
      {"size", 1, NULL, 's'},    {"rounds", 1, NULL, 'r'}, {"tmpfs", 1, NULL, 't'},
      {"disk", 1, NULL, 'd'},    {"json", 0, NULL, 'j'},   {"check", 0, NULL, 'c'},
      {"cpu", 0, NULL, 'u'},     {"only", 1, NULL, 'o'},   {"idle", 1, NULL, 'i'},
      {"seconds", 1, NULL, 'S'}, {"help", 0, NULL, 'h'},   {NULL, 0, NULL, 0}};
  char tmpfs[64] = "/dev/shm/wksp-bench-XXXXXX", disk[64] = "/var/tmp/wksp-bench-XXXXXX";
  fixture_t fix = {.size = 2048UL << 20, .rounds = 5};
  char const *only = NULL;
  unsigned idle = 10;
  ulong seconds = SECONDS;
  int json = 0, check = 0;
  for (int got; (got = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    if (got == 's')
      fix.size = number(optarg, "--size", 16, 1UL << 20) << 20;
    else if (got == 'r')
      fix.rounds = (unsigned)number(optarg, "--rounds", 1, ROUNDS_MAX);
    else if (got == 't')
      fix.tmpfs = optarg;
    else if (got == 'd')
      fix.disk = optarg;
    else if (got == 'o')
      only = optarg;
    else if (got == 'i')
      idle = (unsigned)number(optarg, "--idle", 0, 3600);
    else if (got == 'S')
      seconds = number(optarg, "--seconds", 1, 86400);
    else if (got == 'j')
      json = 1;
    else if (got == 'c')
      check = 1;
    else if (got == 'u')
      peer_by_cpu = 1;
    else {
      usage(got == 'h' ? stdout : stderr);
      return got == 'h' ? 0 : 2;
    }
  }
  if (optind != argc) bench_die("unknown argument '%s'", argv[optind]);
  int own_tmpfs = !fix.tmpfs, own_disk = !fix.disk;
  if (own_tmpfs && !(fix.tmpfs = mkdtemp(tmpfs))) bench_die("%s: %s", tmpfs, strerror(errno));
  if (own_disk && !(fix.disk = mkdtemp(disk))) bench_die("%s: %s", disk, strerror(errno));
  bench_run_t run = {.rounds = fix.rounds, .seed = 1};
  bench_rows_t rows = {.cnt = 0};
  fix.rng = bench_rng(run.seed, "checkpoint");
  fixture_make(&fix);
  snprintf(run.pages, sizeof run.pages, "a workspace of %lu MiB with %lu MiB live, 2 threads%s",
           fix.size >> 20, fix.live >> 20, peer_by_cpu ? "; times are of the processor" : "");
  fix.end = bench_now() + seconds * 1000000000UL;
  share(&fix, GROUPS);
  if (wanted(only, "tmpfs")) raw_rows(&rows, &fix, fix.tmpfs, 0);
  share(&fix, GROUPS - 1);
  if (wanted(only, "disk")) raw_rows(&rows, &fix, fix.disk, 1);
  for (unsigned i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
    share(&fix, GROUPS - 2 - i);
    if (wanted(only, codecs[i].word)) codec_rows(&rows, &fix, &codecs[i]);
  }
  share(&fix, 1);
  if (wanted(only, "second")) again_rows(&rows, &fix);
  if (wanted(only, "free")) free_row(&rows, &fix);
  for (uint part = 16; wanted(only, "size") && part >= 2; part /= 2)
    if (fix.size / part >= SIZE_MIN) size_row(&rows, &fix, fix.size / part);
  if (wanted(only, "brackets")) pause_rows(&rows, &fix);
  if (wanted(only, "brackets")) bracket_rows(&rows, &fix);
  fixture_free(&fix);
  if (wanted(only, "idle") && idle) bench_idle(&rows, idle);
  if (own_tmpfs) rmdir(tmpfs);
  if (own_disk) rmdir(disk);
  if (json)
    bench_report_json(&run, &rows);
  else
    bench_report_text(&run, &rows);
  for (size_t i = 0; check && i < rows.cnt; i++)
    if (bench_row_missed(&rows.rows[i])) return 1;
  return 0;
}
