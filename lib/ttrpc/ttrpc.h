/* ttrpc: the frames of the wire, bytes in and frames out.

   Both ends of a connection read bytes in whatever pieces the socket gives and want whole frames;
   both write frames and have to keep what the socket does not take yet. This file does the two, and
   nothing else: it knows neither sockets nor protobuf, reads no clock and never blocks. What goes
   into a frame (the Request and Response of proto/ttrpc.proto), which stream ids are in order and
   what a peer may do is the business of those who call it.

   A frame is a header of 10 bytes and up to 4 GiB - 1 bytes of data, of which a reader accepts as
   many as it was told to:

     offset 0  length of the data  u32, big endian
            4  stream              u32, big endian
            8  type                u8   TTRPC_REQUEST, TTRPC_RESPONSE, TTRPC_DATA
            9  flags               u8   TTRPC_FLAG_*

   Any header is a legal one here: unknown types and flags are handed over, for the protocol says
   who ignores them.

   Functions that can fail return a negative TTRPC_E_*. A reader or buffer is used by one thread at
   a time. */

#ifndef WKSP_TTRPC_TTRPC_H
#define WKSP_TTRPC_TTRPC_H

#include <stddef.h>
#include <stdint.h>

#define TTRPC_HEADER_SIZE 10U

/* What peers in other languages accept in one frame, bytes. */
#define TTRPC_DATA_MAX (4U << 20)

enum { TTRPC_REQUEST = 1, TTRPC_RESPONSE = 2, TTRPC_DATA = 3 };

enum {
  TTRPC_FLAG_REMOTE_CLOSED = 1, /* the sender sends nothing more on this stream */
  TTRPC_FLAG_REMOTE_OPEN = 2,   /* the sender will send Data on this stream */
  TTRPC_FLAG_NO_DATA = 4        /* there is no message in this frame; without it, no bytes are an
                                   empty message */
};

enum {
  TTRPC_E_NOMEM = -1, /* malloc failed; nothing has changed */
  TTRPC_E_LIMIT = -2 /* it would not fit in the buffer's limit or in a frame; nothing has changed */
};

typedef struct ttrpc_header {
  uint32_t length; /* bytes of data */
  uint32_t stream;
  uint8_t type;
  uint8_t flags;
} ttrpc_header_t;

void ttrpc_header_put(ttrpc_header_t const *header, uint8_t ret_bytes[TTRPC_HEADER_SIZE]);
void ttrpc_header_parse(uint8_t const bytes[TTRPC_HEADER_SIZE], ttrpc_header_t *ret_header);

/* Reading
 * --------------------------------------------------------------------------------------------- */

typedef struct ttrpc_frame {
  ttrpc_header_t header;
  uint8_t const *data; /* header.length bytes, the reader's, until the next call on it; NULL if
                          there are none or the frame is oversize */
  int oversize;        /* 1: the length was over the reader's limit and the data are gone */
} ttrpc_frame_t;

/* Between calls:
     head_len <= TTRPC_HEADER_SIZE
     head_len < TTRPC_HEADER_SIZE  =>  the frame's length is not known and body_len = 0
     head_len = TTRPC_HEADER_SIZE  =>  body_len < header.length, or a frame was just handed over
     header.length > data_max      =>  no byte of the body is kept
     data_cap <= data_max */
typedef struct ttrpc_reader {
  uint32_t data_max;
  uint32_t head_len;
  uint8_t head[TTRPC_HEADER_SIZE];
  ttrpc_header_t header; /* once head_len says that it is whole */
  uint32_t body_len;     /* bytes of the body seen so far */
  uint8_t *data;
  size_t data_cap;
} ttrpc_reader_t;

/* data_max: the largest frame that is accepted, bytes of data; 0 is a limit like any other. */
void ttrpc_reader_init(ttrpc_reader_t *reader, uint32_t data_max);

/* Frees what the reader holds; it may be initialised anew. All zero bytes may be freed too. */
void ttrpc_reader_free(ttrpc_reader_t *reader);

/* Takes bytes until a frame is whole. 1: *ret_frame is one and *ret_used bytes were taken, call
   again with the rest (a rest of 0 bytes is fine). 0: all bytes were taken and no frame is whole.
   TTRPC_E_NOMEM: none was taken, the same call may be made again.

   Memory grows as data arrive, to at most twice what has come (512 bytes at first) and never over
   data_max, so that a header alone costs nothing. A frame over data_max is read to its end without
   being kept and then handed over as oversize: so the caller can answer on its stream and the
   frames behind it are found. */
int ttrpc_reader_feed(ttrpc_reader_t *reader, uint8_t const *bytes, size_t bytes_len,
                      size_t *ret_used, ttrpc_frame_t *ret_frame);

/* 1: the peer stopped within a frame, 0: between two frames. What to hold against half a frame and
   silence. */
int ttrpc_reader_mid_frame(ttrpc_reader_t const *reader);

/* Bytes that are still to come of the frame being read, as far as is known: at least 1 within a
   frame, 0 between two. A reader that discards 4 GiB for a peer says so here. */
uint64_t ttrpc_reader_wanted(ttrpc_reader_t const *reader);

/* Invariants above; 1 if they hold. */
int ttrpc_reader_check(ttrpc_reader_t const *reader);

/* Writing
 * --------------------------------------------------------------------------------------------- */

/* Bytes that wait to be sent: at bytes + start, len of them.
     start + len <= cap,  len <= max,  bytes = NULL  <=>  cap = 0,  len = 0  =>  start = 0 */
typedef struct ttrpc_buf {
  uint8_t *bytes;
  size_t start, len, cap;
  size_t max;
} ttrpc_buf_t;

/* max: bytes that may wait at a time, headers included. */
void ttrpc_buf_init(ttrpc_buf_t *buf, size_t max);
void ttrpc_buf_free(ttrpc_buf_t *buf);

/* Appends a frame. data may be NULL if data_len is 0. 0, TTRPC_E_LIMIT (data_len over
   TTRPC_DATA_MAX, or no room within max), TTRPC_E_NOMEM. */
int ttrpc_buf_frame(ttrpc_buf_t *buf, uint32_t stream, uint8_t type, uint8_t flags,
                    void const *data, size_t data_len);

/* The same with the data to be written by the caller: data_len bytes at *ret_data, before the next
   call on buf. For packing a message without a copy. */
int ttrpc_buf_frame_place(ttrpc_buf_t *buf, uint32_t stream, uint8_t type, uint8_t flags,
                          size_t data_len, uint8_t **ret_data);

/* The first waiting byte; buf->len of them. NULL if there are none. */
static inline uint8_t const *ttrpc_buf_head(ttrpc_buf_t const *buf) {
  return buf->len ? buf->bytes + buf->start : NULL;
}

/* Forgets the first used_len <= buf->len bytes, for they are sent. An empty buffer gives large
   memory back. */
void ttrpc_buf_consume(ttrpc_buf_t *buf, size_t used_len);

/* Invariants above; 1 if they hold. */
int ttrpc_buf_check(ttrpc_buf_t const *buf);

#endif
