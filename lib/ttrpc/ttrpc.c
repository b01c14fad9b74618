/* Frames of ttrpc; the contract is in ttrpc.h.

   The reader is a state of two numbers, head_len and body_len: how much of the header and how much
   of the body has come. A frame that is handed over stays in that state (its bytes are the
   reader's) and is forgotten when the next byte is fed. The buffer is a window on one block of
   memory: bytes are appended behind it and consumed at its start, and the window moves to the front
   when the space there would spare an allocation.

   Refused: keeping anything on the word of a header. A peer that announces 4 MiB and sends one byte
   costs one small block. */

#include "ttrpc/ttrpc.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The first block, bytes: most messages fit. */
#define BLOCK_MIN 512U

/* Memory up to this size is kept for the next frame, bytes: more would let every idle peer hold a
   full frame's worth. */
#define KEEP_MAX (64U << 10)

static uint32_t u32_get(uint8_t const *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void u32_put(uint8_t *p, uint32_t v) {
  p[0] = (uint8_t)(v >> 24);
  p[1] = (uint8_t)(v >> 16);
  p[2] = (uint8_t)(v >> 8);
  p[3] = (uint8_t)v;
}

void ttrpc_header_put(ttrpc_header_t const *header, uint8_t ret_bytes[TTRPC_HEADER_SIZE]) {
  u32_put(ret_bytes, header->length);
  u32_put(ret_bytes + 4, header->stream);
  ret_bytes[8] = header->type;
  ret_bytes[9] = header->flags;
}

void ttrpc_header_parse(uint8_t const bytes[TTRPC_HEADER_SIZE], ttrpc_header_t *ret_header) {
  ret_header->length = u32_get(bytes);
  ret_header->stream = u32_get(bytes + 4);
  ret_header->type = bytes[8];
  ret_header->flags = bytes[9];
}

/* Makes *block at least need bytes large, doubling it and never making it larger than max; need <=
   max. 0 or TTRPC_E_NOMEM. */
static int block_grow(uint8_t **block, size_t *cap, size_t need, size_t max) {
  assert(need <= max);
  if (need <= *cap) return 0;
  size_t grown = *cap ? *cap : BLOCK_MIN;
  while (grown < need) {
    if (__builtin_mul_overflow(grown, (size_t)2, &grown)) grown = need;
  }
  if (grown > max) grown = max;
  uint8_t *moved = realloc(*block, grown);
  if (!moved) return TTRPC_E_NOMEM;
  *block = moved;
  *cap = grown;
  return 0;
}

/* Reading
 * --------------------------------------------------------------------------------------------- */

void ttrpc_reader_init(ttrpc_reader_t *reader, uint32_t data_max) {
  *reader = (ttrpc_reader_t){.data_max = data_max};
}

void ttrpc_reader_free(ttrpc_reader_t *reader) {
  free(reader->data);
  *reader = (ttrpc_reader_t){.data_max = reader->data_max};
}

static int reader_whole(ttrpc_reader_t const *reader) {
  return reader->head_len == TTRPC_HEADER_SIZE && reader->body_len == reader->header.length;
}

/* Forgets the frame that was handed over. */
static void reader_next(ttrpc_reader_t *reader) {
  reader->head_len = 0;
  reader->body_len = 0;
  if (reader->data_cap > KEEP_MAX) {
    free(reader->data);
    reader->data = NULL;
    reader->data_cap = 0;
  }
}

/* Takes as much of the header as there is; returns the bytes taken. */
static size_t reader_head(ttrpc_reader_t *reader, uint8_t const *bytes, size_t bytes_len) {
  size_t take = TTRPC_HEADER_SIZE - reader->head_len;
  if (take > bytes_len) take = bytes_len;
  if (take) memcpy(reader->head + reader->head_len, bytes, take);
  reader->head_len += (uint32_t)take;
  if (reader->head_len == TTRPC_HEADER_SIZE) ttrpc_header_parse(reader->head, &reader->header);
  return take;
}

int ttrpc_reader_feed(ttrpc_reader_t *reader, uint8_t const *bytes, size_t bytes_len,
                      size_t *ret_used, ttrpc_frame_t *ret_frame) {
  if (reader_whole(reader)) reader_next(reader);
  uint32_t head_len_before = reader->head_len;
  size_t used = reader_head(reader, bytes, bytes_len);
  if (reader->head_len < TTRPC_HEADER_SIZE) {
    *ret_used = used;
    return 0;
  }

  size_t take = reader->header.length - reader->body_len;
  if (take > bytes_len - used) take = bytes_len - used;
  int oversize = reader->header.length > reader->data_max;
  if (take && !oversize) {
    size_t need = (size_t)reader->body_len + take;
    if (block_grow(&reader->data, &reader->data_cap, need, reader->data_max) < 0) {
      reader->head_len = head_len_before;
      return TTRPC_E_NOMEM;
    }
    memcpy(reader->data + reader->body_len, bytes + used, take);
  }
  reader->body_len += (uint32_t)take;
  *ret_used = used + take;
  if (!reader_whole(reader)) return 0;

  ret_frame->header = reader->header;
  ret_frame->data = oversize || !reader->header.length ? NULL : reader->data;
  ret_frame->oversize = oversize;
  return 1;
}

int ttrpc_reader_mid_frame(ttrpc_reader_t const *reader) {
  return reader->head_len > 0 && !reader_whole(reader);
}

uint64_t ttrpc_reader_wanted(ttrpc_reader_t const *reader) {
  if (!ttrpc_reader_mid_frame(reader)) return 0;
  if (reader->head_len < TTRPC_HEADER_SIZE) return TTRPC_HEADER_SIZE - reader->head_len;
  return reader->header.length - reader->body_len;
}

int ttrpc_reader_check(ttrpc_reader_t const *reader) {
  if (reader->head_len > TTRPC_HEADER_SIZE) return 0;
  if (reader->head_len < TTRPC_HEADER_SIZE && reader->body_len) return 0;
  if (reader->head_len == TTRPC_HEADER_SIZE && reader->body_len > reader->header.length) return 0;
  if (!reader->data != !reader->data_cap) return 0;
  return reader->data_cap <= reader->data_max;
}

/* Writing
 * --------------------------------------------------------------------------------------------- */

void ttrpc_buf_init(ttrpc_buf_t *buf, size_t max) {
  *buf = (ttrpc_buf_t){.max = max};
}

void ttrpc_buf_free(ttrpc_buf_t *buf) {
  free(buf->bytes);
  *buf = (ttrpc_buf_t){.max = buf->max};
}

int ttrpc_buf_frame_place(ttrpc_buf_t *buf, uint32_t stream, uint8_t type, uint8_t flags,
                          size_t data_len, uint8_t **ret_data) {
  if (data_len > TTRPC_DATA_MAX) return TTRPC_E_LIMIT;
  size_t frame_len = TTRPC_HEADER_SIZE + data_len;
  size_t len;
  if (__builtin_add_overflow(buf->len, frame_len, &len) || len > buf->max) return TTRPC_E_LIMIT;
  if (buf->start && len > buf->cap - buf->start) {
    memmove(buf->bytes, buf->bytes + buf->start, buf->len);
    buf->start = 0;
  }
  if (block_grow(&buf->bytes, &buf->cap, buf->start + len, buf->max) < 0) return TTRPC_E_NOMEM;
  ttrpc_header_t header = {
      .length = (uint32_t)data_len, .stream = stream, .type = type, .flags = flags};
  uint8_t *end = buf->bytes + buf->start + buf->len;
  ttrpc_header_put(&header, end);
  buf->len = len;
  *ret_data = end + TTRPC_HEADER_SIZE;
  return 0;
}

int ttrpc_buf_frame(ttrpc_buf_t *buf, uint32_t stream, uint8_t type, uint8_t flags,
                    void const *data, size_t data_len) {
  uint8_t *place;
  int err = ttrpc_buf_frame_place(buf, stream, type, flags, data_len, &place);
  if (err < 0) return err;
  if (data_len) memcpy(place, data, data_len);
  return 0;
}

void ttrpc_buf_consume(ttrpc_buf_t *buf, size_t used_len) {
  assert(used_len <= buf->len);
  buf->start += used_len;
  buf->len -= used_len;
  if (buf->len) return;
  buf->start = 0;
  if (buf->cap <= KEEP_MAX) return;
  free(buf->bytes);
  buf->bytes = NULL;
  buf->cap = 0;
}

int ttrpc_buf_check(ttrpc_buf_t const *buf) {
  if (!buf->bytes != !buf->cap) return 0;
  if (buf->start > buf->cap || buf->len > buf->cap - buf->start) return 0;
  if (!buf->len && buf->start) return 0;
  return buf->len <= buf->max;
}
