/* Tests of the bench, and of what it can say without a clock: room for tables, fragmentation. */

#include "bench.h"
#include "frag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* 2 % over exact best fit is what the engine may take. */
#define WITHIN(figure, model) assert_true((figure)*100 <= (model)*102)

static frag_trace_t trace_of(char const *name) {
  char path[512], why[600];
  frag_trace_t trace;
  snprintf(path, sizeof(path), "%s/%s.trace", getenv("WKSP_TRACES"), name);
  if (frag_trace_read(path, &trace, why, sizeof(why))) fail_msg("%s", why);
  return trace;
}

static void trace_within(char const *name) {
  frag_trace_t trace = trace_of(name);
  frag_figures_t is;
  assert_int_equal(frag_measure(&trace, &is), 0);
  printf("# %s: peak %lu bytes in %lu; highest %.4f of it, model %.4f; region %.4f, model %.4f\n",
         name, trace.live_sz_max, trace.live_cnt_max,
         (double)is.wksp_high / (double)trace.live_sz_max,
         (double)is.model_high / (double)trace.live_sz_max,
         (double)is.wksp_region / (double)trace.live_sz_max,
         (double)is.model_region / (double)trace.live_sz_max);
  frag_trace_free(&trace);
  WITHIN(is.wksp_high, is.model_high);
  WITHIN(is.wksp_region, is.model_region);
}

/* Under steady churn a workspace needs at most 2 % more room than exact best fit. */
static void steady(void **state) {
  (void)state;
  trace_within("steady");
}

/* So it does with buffers that grow. */
static void growing(void **state) {
  (void)state;
  trace_within("growing");
}

/* And with sizes that change from phase to phase. */
static void phases(void **state) {
  (void)state;
  trace_within("phases");
}

/* The tables take at most 64 bytes for each partition that there can be. */
static void metadata(void **state) {
  (void)state;
  assert_true(frag_bytes_per_part() <= 64);
}

/* The model takes the smallest hole that fits, of equal ones the lowest, and merges what is freed
   with the holes on both sides. */
static void model(void **state) {
  (void)state;
  frag_alloc_t *alloc = frag_model_new(4096, 16);
  /* Full; then four holes. */
  uint64_t const sizes[] = {64, 192, 64, 128, 64, 64, 64, 64, 64, 3328};
  uint64_t at[10], sum = 0;
  for (int i = 0; i < 10; i++) {
    at[i] = alloc->take(alloc, sizes[i], 64);
    assert_int_equal(at[i], sum);
    sum += sizes[i];
  }
  assert_int_equal(alloc->take(alloc, 64, 64), FRAG_NONE);
  alloc->give(alloc, at[1], 192); /* [64, 256) */
  alloc->give(alloc, at[3], 128); /* [320, 448) */
  alloc->give(alloc, at[5], 64);  /* [512, 576) */
  alloc->give(alloc, at[7], 64);  /* [640, 704) */
  assert_int_equal(alloc->take(alloc, 128, 64), 320);
  assert_int_equal(alloc->take(alloc, 64, 64), 512);
  assert_int_equal(alloc->take(alloc, 64, 128), 640);
  assert_int_equal(alloc->take(alloc, 64, 128), 128); /* from the middle of the one left */
  assert_int_equal(alloc->take(alloc, 128, 64), FRAG_NONE);
  alloc->give(alloc, 640, 64);
  alloc->give(alloc, 512, 64);
  alloc->give(alloc, 576, 64); /* between the two */
  assert_int_equal(alloc->take(alloc, 192, 64), 512);
  assert_int_equal(alloc->take(alloc, 64, 64), 64);
  assert_int_equal(alloc->take(alloc, 64, 64), 192);
  assert_int_equal(alloc->take(alloc, 64, 64), FRAG_NONE);
  alloc->end(alloc);
}

/* A file with these bytes after the header; how reading it ends. */
static int read_of(char const *header, void const *bytes, size_t size) {
  char path[] = "/tmp/wksp-trace-XXXXXX", why[600];
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, header, strlen(header)), strlen(header));
  assert_int_equal(write(fd, bytes, size), size);
  close(fd);
  frag_trace_t trace;
  int rc = frag_trace_read(path, &trace, why, sizeof(why));
  unlink(path);
  if (!rc) {
    assert_int_equal(trace.live_cnt_max, 1);
    assert_int_equal(trace.live_sz_max, 64);
    frag_trace_free(&trace);
  } else {
    assert_non_null(strstr(why, path));
  }
  return rc;
}

/* A trace that ends early or late, frees what is not there, or has a number out of range is
   refused. */
static void damaged(void **state) {
  (void)state;
  char const *two = "wksp-trace 1 t 2 1\n";
  assert_int_equal(read_of(two, "\x04\x01", 2), 0); /* one byte, and freed */
  assert_int_equal(read_of(two, "\x04", 1), -1);
  assert_int_equal(read_of(two, "\x04\x01\x01", 3), -1);
  assert_int_equal(read_of(two, "\x01\x04", 2), -1);
  assert_int_equal(read_of(two, "\x04\x03", 2), -1);
  assert_int_equal(read_of(two, "\x04\x04", 2), -1);
  assert_int_equal(read_of(two, "\x00\x01", 2), -1);
  assert_int_equal(read_of(two, "\x06\x11\x01", 3), -1);
  assert_int_equal(read_of(two, "\x84\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00\x01", 12), -1);
  assert_int_equal(read_of("wksp-trace 1 t 3 1\n", "\x04\x01\x01", 3), -1);
  assert_int_equal(read_of("wksp-trace 1 t 2 2\n", "\x04\x01", 2), -1);
  assert_int_equal(read_of("wksp-trace 1 t 99999999999 1\n", "\x04\x01", 2), -1);
  assert_int_equal(read_of("something else\n", "\x04\x01", 2), -1);
  char why[600];
  frag_trace_t trace;
  assert_int_equal(frag_trace_read("/nonexistent/t", &trace, why, sizeof(why)), -1);
}

/* A quantile is the value below which that share of the others lies. */
static void quantiles(void **state) {
  (void)state;
  double values[11] = {5, 1, 9, 3, 7, 10, 0, 2, 8, 4, 6};
  assert_true(bench_quantile(values, 11, 0.5) == 5);
  assert_true(bench_quantile(values, 11, 0.1) == 1);
  assert_true(bench_quantile(values, 11, 1) == 10);
  assert_true(bench_quantile(values, 1, 0.9) == 0);
}

/* A goal is missed by a figure above it and by one that is not there; without a goal nothing is. */
static void goals(void **state) {
  (void)state;
  static bench_rows_t rows;
  bench_row_t *row = bench_row(&rows, "x");
  assert_int_equal(bench_row_missed(row), 0);
  row->goal = 2;
  assert_int_equal(bench_row_missed(row), 1);
  row->value[0] = 2;
  assert_int_equal(bench_row_missed(row), 0);
  row->value[0] = 2.01;
  assert_int_equal(bench_row_missed(row), 1);
}

/* What is drawn depends on the seed and the name, and sizes are as often in one doubling as in
   another. */
static void drawn(void **state) {
  (void)state;
  bench_rng_t a = bench_rng(7, "x"), b = bench_rng(7, "x"), c = bench_rng(7, "y"),
              d = bench_rng(8, "x");
  uint64_t first = bench_next(&a);
  assert_int_equal(first, bench_next(&b));
  assert_int_not_equal(first, bench_next(&c));
  assert_int_not_equal(first, bench_next(&d));
  uint64_t sum = 0;
  unsigned small = 0;
  for (unsigned i = 0; i < 100000; i++) {
    uint64_t size = bench_size(&a, BENCH_SIZE_MIN, BENCH_SIZE_MAX);
    assert_in_range(size, BENCH_SIZE_MIN, BENCH_SIZE_MAX - 1);
    sum += size;
    small += size < 2 * BENCH_SIZE_MIN;
  }
  assert_in_range(sum / 100000, BENCH_SIZE_MEAN * 97 / 100, BENCH_SIZE_MEAN * 103 / 100);
  assert_in_range(small, 12000, 13000);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(quantiles), cmocka_unit_test(goals),   cmocka_unit_test(drawn),
      cmocka_unit_test(metadata),  cmocka_unit_test(model),   cmocka_unit_test(damaged),
      cmocka_unit_test(steady),    cmocka_unit_test(growing), cmocka_unit_test(phases)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
