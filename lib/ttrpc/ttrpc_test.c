/* The frames of ttrpc on bytes: every way to cut a conversation into pieces, limits, garbage, and
   allocations that fail. */

#include "ttrpc/ttrpc.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* Allocations that succeed before one fails; negative: none fails. */
static long realloc_left = -1;

void *__real_realloc(void *ptr, size_t size);
void *__wrap_realloc(void *ptr, size_t size);

void *__wrap_realloc(void *ptr, size_t size) {
  if (realloc_left == 0) {
    realloc_left = -1;
    errno = ENOMEM;
    return NULL;
  }
  if (realloc_left > 0) realloc_left--;
  return __real_realloc(ptr, size);
}

/* A frame as the tests write it down. */
typedef struct said {
  uint32_t stream;
  uint8_t type, flags;
  uint32_t length;
  int oversize;
} said_t;

/* Limit of the readers below: one of the frames is over it, one exactly at it. */
#define SMALL_MAX 40U

static said_t const talk[] = {
    {.stream = 1, .type = TTRPC_REQUEST, .flags = 0, .length = 7},
    {.stream = 3, .type = TTRPC_REQUEST, .flags = TTRPC_FLAG_REMOTE_CLOSED, .length = 0},
    {.stream = 3, .type = TTRPC_DATA, .flags = 0, .length = 0},
    {.stream = 0xfffffffe, .type = TTRPC_RESPONSE, .flags = 0xff, .length = SMALL_MAX},
    {.stream = 5, .type = TTRPC_REQUEST, .flags = 0, .length = SMALL_MAX + 1, .oversize = 1},
    {.stream = 3, .type = TTRPC_DATA, .flags = 5, .length = 0},
    {.stream = 7, .type = 200, .flags = 2, .length = 1},
};
#define TALK_CNT (sizeof talk / sizeof *talk)

static uint8_t byte_of(said_t const *said, size_t i) {
  return (uint8_t)(said->stream * 31 + i * 7 + 3);
}

/* The talk as bytes, by a buffer. */
static void talk_write(ttrpc_buf_t *buf) {
  for (size_t t = 0; t < TALK_CNT; t++) {
    uint8_t *data;
    assert_int_equal(ttrpc_buf_frame_place(buf, talk[t].stream, talk[t].type, talk[t].flags,
                                           talk[t].length, &data),
                     0);
    for (size_t i = 0; i < talk[t].length; i++) data[i] = byte_of(&talk[t], i);
    assert_true(ttrpc_buf_check(buf));
  }
}

/* Feeds one piece and compares what comes out with the talk from frame *at on. */
static void feed_piece(ttrpc_reader_t *reader, uint8_t const *bytes, size_t bytes_len, size_t *at) {
  for (;;) {
    size_t used = SIZE_MAX;
    ttrpc_frame_t frame;
    int got = ttrpc_reader_feed(reader, bytes, bytes_len, &used, &frame);
    assert_true(got == 0 || got == 1);
    assert_true(used <= bytes_len);
    assert_true(ttrpc_reader_check(reader));
    bytes += used;
    bytes_len -= used;
    if (!got) {
      assert_int_equal(bytes_len, 0);
      return;
    }
    assert_true(*at < TALK_CNT);
    said_t const *said = &talk[*at];
    assert_int_equal(frame.header.stream, said->stream);
    assert_int_equal(frame.header.type, said->type);
    assert_int_equal(frame.header.flags, said->flags);
    assert_int_equal(frame.header.length, said->length);
    assert_int_equal(frame.oversize, said->oversize);
    assert_int_equal(!frame.data, said->oversize || !said->length);
    if (frame.data) {
      for (size_t i = 0; i < said->length; i++) assert_int_equal(frame.data[i], byte_of(said, i));
    }
    assert_false(ttrpc_reader_mid_frame(reader));
    (*at)++;
  }
}

/* A header has the bytes that the protocol says, and reads back. */
static void header_bytes(void **state) {
  ttrpc_header_t in = {.length = 0x01020304, .stream = 0xa1b2c3d4, .type = 2, .flags = 5};
  uint8_t const want[TTRPC_HEADER_SIZE] = {1, 2, 3, 4, 0xa1, 0xb2, 0xc3, 0xd4, 2, 5};
  uint8_t bytes[TTRPC_HEADER_SIZE];
  ttrpc_header_put(&in, bytes);
  assert_memory_equal(bytes, want, sizeof want);
  ttrpc_header_t out;
  ttrpc_header_parse(bytes, &out);
  assert_int_equal(out.length, in.length);
  assert_int_equal(out.stream, in.stream);
  assert_int_equal(out.type, in.type);
  assert_int_equal(out.flags, in.flags);
}

/* However a conversation is cut in three, the same frames come out. */
static void every_split(void **state) {
  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, 4096);
  talk_write(&buf);
  uint8_t const *bytes = ttrpc_buf_head(&buf);
  for (size_t a = 0; a <= buf.len; a++) {
    for (size_t b = a; b <= buf.len; b++) {
      ttrpc_reader_t reader;
      ttrpc_reader_init(&reader, SMALL_MAX);
      size_t at = 0;
      feed_piece(&reader, bytes, a, &at);
      feed_piece(&reader, bytes + a, b - a, &at);
      feed_piece(&reader, bytes + b, buf.len - b, &at);
      assert_int_equal(at, TALK_CNT);
      ttrpc_reader_free(&reader);
    }
  }
  ttrpc_buf_free(&buf);
}

/* Byte by byte the same frames come out, and at each byte the reader knows whether it is within a
 * frame and how much of it is missing. */
static void byte_by_byte(void **state) {
  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, 4096);
  talk_write(&buf);
  uint8_t const *bytes = ttrpc_buf_head(&buf);
  ttrpc_reader_t reader;
  ttrpc_reader_init(&reader, SMALL_MAX);
  size_t at = 0;
  size_t frame_start = 0;
  for (size_t i = 0; i < buf.len; i++) {
    size_t in_frame = i - frame_start;
    uint64_t wanted = 0;
    if (in_frame && in_frame < TTRPC_HEADER_SIZE) wanted = TTRPC_HEADER_SIZE - in_frame;
    if (in_frame >= TTRPC_HEADER_SIZE) wanted = TTRPC_HEADER_SIZE + talk[at].length - in_frame;
    assert_int_equal(ttrpc_reader_mid_frame(&reader), in_frame > 0);
    assert_int_equal(ttrpc_reader_wanted(&reader), wanted);
    size_t before = at;
    feed_piece(&reader, bytes + i, 1, &at);
    if (at > before) frame_start = i + 1;
  }
  assert_int_equal(at, TALK_CNT);
  ttrpc_reader_free(&reader);
  ttrpc_buf_free(&buf);
}

/* A frame of the protocol's largest size goes through; memory for it is not kept afterwards, and
 * never was more than twice what had come. */
static void largest_frame(void **state) {
  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, TTRPC_DATA_MAX + 2 * TTRPC_HEADER_SIZE);
  uint8_t *data;
  assert_int_equal(ttrpc_buf_frame_place(&buf, 9, TTRPC_DATA, 0, TTRPC_DATA_MAX, &data), 0);
  for (size_t i = 0; i < TTRPC_DATA_MAX; i++) data[i] = (uint8_t)(i * 2654435761U >> 24);
  assert_int_equal(ttrpc_buf_frame(&buf, 11, TTRPC_DATA, 0, NULL, 0), 0);

  ttrpc_reader_t reader;
  ttrpc_reader_init(&reader, TTRPC_DATA_MAX);
  size_t fed = 0;
  size_t used;
  ttrpc_frame_t frame;
  int got = 0;
  while (!got) {
    size_t piece = buf.len - fed < 60000 ? buf.len - fed : 60000;
    got = ttrpc_reader_feed(&reader, ttrpc_buf_head(&buf) + fed, piece, &used, &frame);
    assert_true(got >= 0);
    fed += used;
    assert_true(reader.data_cap <= TTRPC_DATA_MAX);
    assert_true(reader.data_cap <= 2 * fed);
  }
  assert_int_equal(frame.header.length, TTRPC_DATA_MAX);
  for (size_t i = 0; i < TTRPC_DATA_MAX; i++)
    assert_int_equal(frame.data[i], (uint8_t)(i * 2654435761U >> 24));

  ttrpc_buf_consume(&buf, fed);
  assert_int_equal(ttrpc_reader_feed(&reader, ttrpc_buf_head(&buf), buf.len, &used, &frame), 1);
  assert_int_equal(frame.header.stream, 11);
  assert_int_equal(reader.data_cap, 0);
  ttrpc_buf_consume(&buf, used);
  assert_int_equal(buf.len, 0);
  assert_int_equal(buf.cap, 0);
  ttrpc_reader_free(&reader);
  ttrpc_buf_free(&buf);
}

/* A header that announces 4 MiB, or 4 GiB, takes no memory by itself. */
static void header_costs_nothing(void **state) {
  uint32_t const lengths[] = {TTRPC_DATA_MAX, UINT32_MAX};
  for (size_t i = 0; i < 2; i++) {
    uint8_t bytes[TTRPC_HEADER_SIZE];
    ttrpc_header_put(&(ttrpc_header_t){.length = lengths[i], .stream = 1, .type = 1}, bytes);
    ttrpc_reader_t reader;
    ttrpc_reader_init(&reader, TTRPC_DATA_MAX);
    size_t used;
    ttrpc_frame_t frame;
    assert_int_equal(ttrpc_reader_feed(&reader, bytes, sizeof bytes, &used, &frame), 0);
    assert_int_equal(used, sizeof bytes);
    assert_int_equal(reader.data_cap, 0);
    assert_int_equal(ttrpc_reader_wanted(&reader), lengths[i]);
    ttrpc_reader_free(&reader);
  }
}

/* A frame over the limit is discarded to its last byte, named by its stream, and the frame behind
 * it is read; also when the limit is 0. */
static void oversize(void **state) {
  uint32_t const limits[] = {0, 1, 99};
  for (size_t l = 0; l < 3; l++) {
    ttrpc_buf_t buf;
    ttrpc_buf_init(&buf, 1000);
    uint8_t body[100];
    memset(body, 0x5a, sizeof body);
    assert_int_equal(ttrpc_buf_frame(&buf, 21, TTRPC_REQUEST, 0, body, 100), 0);
    assert_int_equal(ttrpc_buf_frame(&buf, 23, TTRPC_REQUEST, 0, body, limits[l]), 0);
    ttrpc_reader_t reader;
    ttrpc_reader_init(&reader, limits[l]);
    size_t used;
    ttrpc_frame_t frame;
    assert_int_equal(ttrpc_reader_feed(&reader, ttrpc_buf_head(&buf), 109, &used, &frame), 0);
    assert_int_equal(used, 109);
    assert_int_equal(ttrpc_reader_wanted(&reader), 1);
    ttrpc_buf_consume(&buf, used);
    assert_int_equal(ttrpc_reader_feed(&reader, ttrpc_buf_head(&buf), buf.len, &used, &frame), 1);
    assert_int_equal(used, 1);
    assert_true(frame.oversize);
    assert_null(frame.data);
    assert_int_equal(frame.header.stream, 21);
    assert_int_equal(frame.header.length, 100);
    assert_int_equal(reader.data_cap, 0);
    ttrpc_buf_consume(&buf, used);
    assert_int_equal(ttrpc_reader_feed(&reader, ttrpc_buf_head(&buf), buf.len, &used, &frame), 1);
    assert_false(frame.oversize);
    assert_int_equal(frame.header.stream, 23);
    assert_int_equal(frame.header.length, limits[l]);
    ttrpc_reader_free(&reader);
    ttrpc_buf_free(&buf);
  }
}

/* Whatever bytes come, in whatever pieces, the reader keeps its invariants, takes every byte, and
 * holds no more than its limit. */
static void garbage(void **state) {
  char const *given = getenv("WKSP_TEST_SEED");
  uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
  print_message("# WKSP_TEST_SEED=%" PRIu64 "\n", seed);
  uint64_t rnd = seed * 2 + 1;
  for (int round = 0; round < 300; round++) {
    ttrpc_reader_t reader;
    ttrpc_reader_init(&reader, 1U << (round % 20));
    for (int piece = 0; piece < 50; piece++) {
      uint8_t bytes[700];
      rnd = rnd * 6364136223846793005UL + 1442695040888963407UL;
      size_t left = (rnd >> 33) % sizeof bytes;
      for (size_t i = 0; i < left; i++) {
        rnd = rnd * 6364136223846793005UL + 1442695040888963407UL;
        /* Mostly small numbers, so that lengths are often short. */
        bytes[i] = (rnd >> 40) % 4 ? 0 : (uint8_t)(rnd >> 33);
      }
      uint8_t const *at = bytes;
      int got = 1;
      while (got) {
        size_t used;
        ttrpc_frame_t frame;
        got = ttrpc_reader_feed(&reader, at, left, &used, &frame);
        assert_true(got >= 0);
        assert_true(used <= left);
        assert_true(ttrpc_reader_check(&reader));
        if (got) assert_int_equal(frame.oversize, frame.header.length > reader.data_max);
        at += used;
        left -= used;
      }
      assert_int_equal(left, 0);
    }
    ttrpc_reader_free(&reader);
  }
}

/* When memory is short feed takes nothing, and the same call succeeds later, at each allocation of
 * a conversation. */
static void reader_without_memory(void **state) {
  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, 10000);
  uint8_t body[5000];
  memset(body, 0x77, sizeof body);
  assert_int_equal(ttrpc_buf_frame(&buf, 1, TTRPC_REQUEST, 0, body, sizeof body), 0);
  long fails = 0;
  for (long n = 0; n < 10; n++) {
    ttrpc_reader_t reader;
    ttrpc_reader_init(&reader, 5000);
    size_t fed = 0;
    ttrpc_frame_t frame = {.data = NULL};
    int got = 0;
    realloc_left = n;
    while (!got) {
      size_t piece = buf.len - fed < 300 ? buf.len - fed : 300;
      ttrpc_reader_t before = reader;
      size_t used = SIZE_MAX;
      got = ttrpc_reader_feed(&reader, ttrpc_buf_head(&buf) + fed, piece, &used, &frame);
      assert_true(ttrpc_reader_check(&reader));
      if (got == TTRPC_E_NOMEM) {
        fails++;
        assert_int_equal(used, SIZE_MAX);
        assert_int_equal(ttrpc_reader_wanted(&reader), ttrpc_reader_wanted(&before));
        got = 0;
        continue;
      }
      fed += used;
    }
    assert_int_equal(got, 1);
    assert_int_equal(fed, buf.len);
    assert_memory_equal(frame.data, body, sizeof body);
    ttrpc_reader_free(&reader);
  }
  realloc_left = -1;
  assert_int_equal(fails, 5); /* blocks of 512, 1024, 2048, 4096, 5000 */
  ttrpc_buf_free(&buf);
}

/* A buffer that finds no memory, or no room within its limit, is as it was. */
static void buffer_limits(void **state) {
  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, 50);
  realloc_left = 0;
  assert_int_equal(ttrpc_buf_frame(&buf, 1, TTRPC_DATA, 0, "abc", 3), TTRPC_E_NOMEM);
  assert_true(ttrpc_buf_check(&buf));
  assert_int_equal(buf.len, 0);
  assert_null(ttrpc_buf_head(&buf));
  assert_int_equal(ttrpc_buf_frame(&buf, 1, TTRPC_DATA, 0, "abc", 3), 0);
  assert_int_equal(buf.len, 13);
  uint8_t body[28] = {0};
  assert_int_equal(ttrpc_buf_frame(&buf, 1, TTRPC_DATA, 0, body, 28), TTRPC_E_LIMIT);
  assert_int_equal(buf.len, 13);
  assert_int_equal(ttrpc_buf_frame(&buf, 1, TTRPC_DATA, 0, body, 27), 0);
  assert_int_equal(buf.len, 50);
  assert_int_equal(ttrpc_buf_frame(&buf, 1, TTRPC_DATA, 0, NULL, 0), TTRPC_E_LIMIT);
  assert_memory_equal(ttrpc_buf_head(&buf), "\0\0\0\3\0\0\0\1\3\0abc\0\0\0\33", 17);
  assert_true(ttrpc_buf_check(&buf));
  ttrpc_buf_free(&buf);

  ttrpc_buf_init(&buf, SIZE_MAX);
  assert_int_equal(ttrpc_buf_frame(&buf, 1, TTRPC_DATA, 0, NULL, TTRPC_DATA_MAX + 1UL),
                   TTRPC_E_LIMIT);
  assert_int_equal(ttrpc_buf_frame(&buf, 1, TTRPC_DATA, 0, NULL, SIZE_MAX), TTRPC_E_LIMIT);
  ttrpc_buf_free(&buf);
}

/* Bytes come out of a buffer in the order they went in, however they are consumed, and the room of
 * those consumed is used again. */
static void buffer_consume(void **state) {
  for (size_t step = 1; step < 60; step++) {
    ttrpc_buf_t buf;
    ttrpc_buf_init(&buf, 600);
    ttrpc_reader_t reader;
    ttrpc_reader_init(&reader, 100);
    uint32_t put = 0;
    uint32_t got = 0;
    while (got < 200) {
      uint8_t body[37];
      memset(body, (int)(put & 0xff), sizeof body);
      while (put < 200 && ttrpc_buf_frame(&buf, put, TTRPC_DATA, 0, body, put % 38) == 0) {
        put++;
        memset(body, (int)(put & 0xff), sizeof body);
      }
      assert_true(ttrpc_buf_check(&buf));
      assert_true(buf.cap <= 600);
      size_t piece = step < buf.len ? step : buf.len;
      ttrpc_frame_t frame;
      size_t used;
      if (ttrpc_reader_feed(&reader, ttrpc_buf_head(&buf), piece, &used, &frame)) {
        assert_int_equal(frame.header.stream, got);
        assert_int_equal(frame.header.length, got % 38);
        for (size_t i = 0; i < got % 38; i++) assert_int_equal(frame.data[i], got & 0xff);
        got++;
      }
      ttrpc_buf_consume(&buf, used);
    }
    assert_int_equal(buf.len, 0);
    assert_int_equal(buf.start, 0);
    ttrpc_reader_free(&reader);
    ttrpc_buf_free(&buf);
  }
}

/* What was never used, or freed already, can be freed. */
static void free_nothing(void **state) {
  ttrpc_reader_t reader = {0};
  ttrpc_reader_free(&reader);
  ttrpc_reader_free(&reader);
  assert_true(ttrpc_reader_check(&reader));
  ttrpc_buf_t buf = {0};
  ttrpc_buf_free(&buf);
  ttrpc_buf_free(&buf);
  ttrpc_buf_consume(&buf, 0);
  assert_true(ttrpc_buf_check(&buf));
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(header_bytes),
      cmocka_unit_test(every_split),
      cmocka_unit_test(byte_by_byte),
      cmocka_unit_test(largest_frame),
      cmocka_unit_test(header_costs_nothing),
      cmocka_unit_test(oversize),
      cmocka_unit_test(garbage),
      cmocka_unit_test(reader_without_memory),
      cmocka_unit_test(buffer_limits),
      cmocka_unit_test(buffer_consume),
      cmocka_unit_test(free_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
