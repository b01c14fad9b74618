/* Calls on a connection that mends itself; the contract, and the rules of what is sent again, are
   in rpc.h.

   A request goes out in one frame with an odd stream id; ids rise as long as a connection lives.
   Frames for other streams are replies to calls that have given up (their deadline passed) and are
   skipped. When a deadline passes the connection is kept if the wire is between two frames and
   nothing else can follow but one reply to skip; otherwise it is closed, which also tells the
   daemon to stop.

   Refused: pipelining. Calls on one client take turns; who wants more at a time makes more
   clients. */

#include "client/rpc.h"

#include "core/call.h"
#include "core/fail.h"
#include "ttrpc.pb-c.h"
#include "wkspd.pb-c.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* A request, envelope and header: names, at most 1,024 tags of 10 bytes, and room. */
#define REQUEST_MAX (64UL << 10)

/* What unpacking one message may allocate, bytes: a full page of a listing takes about 8 MiB; small
 * submessages would let 4 MiB of foreign bytes become far more. */
#define UNPACK_MAX (64UL << 20)

/* Allocations there, each being counted as this many bytes more: the allocator's own cost. */
#define UNPACK_OVERHEAD 16UL

/* Between two attempts to connect, ns: grows from the first to the last. The first is below what a
 * restart takes, the last bounds how often a daemon is asked that dies of the request. */
#define BACKOFF_FIRST_NS 1000000UL
#define BACKOFF_LAST_NS  200000000UL

/* What of a daemon's sentence is kept, bytes. */
#define SENTENCE_MAX 480U

void wksp__text_copy(char *ret_dst, size_t dst_size, char const *src) {
  size_t i = 0;
  for (; src && src[i] && i + 1 < dst_size; i++) {
    unsigned char c = (unsigned char)src[i];
    ret_dst[i] = c < 0x20 || c == 0x7f ? '?' : src[i];
  }
  ret_dst[i] = '\0';
}

/* A daemon that answers calls that were made before from what it remembers. */
#define FEATURE_IDS "request-id"

static wksp__method_t const method_version = {
    .service = WKSP__HOST, .name = "Version", .response = &wkspd__v1__version_response__descriptor};

/* What becomes of one exchange. */
typedef struct attempt {
  uint64_t deadline_ns;
  uint64_t backoff_ns; /* the last wait; 0: there was none */
  int unsure;          /* it has been sent, and may have happened */
} attempt_t;

int wksp__call_id(uint8_t ret_id[WKSP__CALL_ID_SIZE]) {
  if (getrandom(ret_id, WKSP__CALL_ID_SIZE, 0) == WKSP__CALL_ID_SIZE) return 0;
  return wksp__fail(WKSP_E_SYS, "getrandom gave no %d bytes for the id of a call: %m",
                    WKSP__CALL_ID_SIZE);
}

typedef struct unpack {
  size_t left;
  int out_of_memory;
} unpack_t;

static void *unpack_alloc(void *data, size_t size) {
  unpack_t *unpack = data;
  size_t cost;
  if (__builtin_add_overflow(size, UNPACK_OVERHEAD, &cost) || cost > unpack->left) return NULL;
  unpack->left -= cost;
  void *ptr = malloc(size);
  if (!ptr) unpack->out_of_memory = 1;
  return ptr;
}

static void unpack_free(void *data, void *ptr) {
  (void)data;
  free(ptr);
}

/* Unpacks foreign bytes with bounded memory. 0, E_PROTO (they are no such message, or need more
   than any honest one), E_NOMEM; not reported. */
static int unpack_message(ProtobufCMessageDescriptor const *descriptor, uint8_t const *bytes,
                          size_t bytes_len, ProtobufCMessage **ret_message) {
  unpack_t unpack = {.left = UNPACK_MAX};
  ProtobufCAllocator allocator = {
      .alloc = unpack_alloc, .free = unpack_free, .allocator_data = &unpack};
  ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &allocator, bytes_len, bytes);
  if (!message) return unpack.out_of_memory ? WKSP_E_NOMEM : WKSP_E_PROTO;
  *ret_message = message;
  return 0;
}

/* Errors of these are impossible but for broken memory. */
static void turn_check(int err) {
  assert(!err);
  (void)err;
}

/* 0, EDEADLK (the calling thread has it), ETIMEDOUT. */
static int turn_take(wksp__turn_t *turn, struct timespec const *until) {
  turn_check(pthread_mutex_lock(&turn->mutex));
  int err = turn->held && pthread_equal(turn->holder, pthread_self()) ? EDEADLK : 0;
  while (!err && turn->held) err = pthread_cond_timedwait(&turn->ended, &turn->mutex, until);
  /* The turn may have come together with the deadline. */
  if (err == ETIMEDOUT && !turn->held) err = 0;
  if (!err) {
    turn->held = 1;
    turn->holder = pthread_self();
  }
  turn_check(pthread_mutex_unlock(&turn->mutex));
  return err;
}

int wksp__rpc_begin(wksp_client_t *client, uint64_t *ret_deadline_ns) {
  if (!client) return wksp__fail(WKSP_E_INVAL, "the client is NULL; connect one first");
  if (client->pid != getpid())
    return wksp__fail(WKSP_E_INVAL,
                      "this client was connected by process %d, the parent of this one; a forked "
                      "child connects its own",
                      (int)client->pid);
  long deadline_ms = __atomic_load_n(&client->deadline_ms, __ATOMIC_RELAXED);
  uint64_t deadline_ns = wksp__now_ns() + (uint64_t)deadline_ms * 1000000UL;
  struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000UL),
                           .tv_nsec = (long)(deadline_ns % 1000000000UL)};
  int err = turn_take(&client->turn, &until);
  if (err == EDEADLK)
    return wksp__fail(WKSP_E_INVAL, "a callback of wksp_client_watch cannot use the client that it "
                                    "is called by; use another one");
  if (err)
    return wksp__fail(WKSP_E_TIMEDOUT,
                      "the client was busy with another thread's call for %ld ms; use a client for "
                      "each thread, or a longer deadline",
                      deadline_ms);
  *ret_deadline_ns = deadline_ns;
  return 0;
}

void wksp__rpc_end(wksp_client_t *client) {
  wksp__conn_fds_drop(&client->conn);
  wksp__turn_t *turn = &client->turn;
  turn_check(pthread_mutex_lock(&turn->mutex));
  turn->held = 0;
  turn_check(pthread_cond_signal(&turn->ended));
  turn_check(pthread_mutex_unlock(&turn->mutex));
}

void wksp__rpc_cancel(wksp_client_t *client) {
  wksp__conn_close(&client->conn);
}

/* Reports what conn->why says about a call that has failed for good. */
static int rpc_fail(wksp_client_t *client, wksp__method_t const *method, int code) {
  return wksp__fail(code, "%s on %s: %s", method->name, client->path, client->conn.why);
}

int wksp__rpc_broken(wksp_client_t *client, wksp__method_t const *method, char const *fmt, ...) {
  char text[200];
  va_list args;
  va_start(args, fmt);
  (void)vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  wksp__conn_close(&client->conn);
  return wksp__fail(WKSP_E_PROTO, "%s on %s: the daemon's reply is wrong: %s", method->name,
                    client->path, text);
}

/* The frame of a request: *ret_buf holds it, to be freed by the caller also on failure. */
static int request_frame(wksp__conn_t *conn, wksp__method_t const *method,
                         ProtobufCMessage const *message, uint64_t deadline_ns, uint32_t stream,
                         ttrpc_buf_t *ret_buf) {
  uint64_t now = wksp__now_ns();
  size_t payload_len = protobuf_c_message_get_packed_size(message);
  if (payload_len > REQUEST_MAX)
    return wksp__conn_why(conn, WKSP_E_INVAL, "a request of %zu bytes, at most %lu are allowed",
                          payload_len, REQUEST_MAX);
  uint8_t *payload = malloc(payload_len ? payload_len : 1);
  if (!payload) return wksp__conn_why(conn, WKSP_E_NOMEM, "no memory for the request");
  protobuf_c_message_pack(message, payload);

  Wkspd__Ttrpc__Request envelope = WKSPD__TTRPC__REQUEST__INIT;
  envelope.service = (char *)method->service;
  envelope.method = (char *)method->name;
  envelope.payload = (ProtobufCBinaryData){.len = payload_len, .data = payload};
  /* 0 would mean no timeout; what is late already ends at once. */
  envelope.timeout_nano = deadline_ns > now ? (int64_t)(deadline_ns - now) : 1;
  uint8_t *place;
  int err = ttrpc_buf_frame_place(ret_buf, stream, TTRPC_REQUEST,
                                  method->stream ? TTRPC_FLAG_REMOTE_CLOSED : 0,
                                  wkspd__ttrpc__request__get_packed_size(&envelope), &place);
  if (!err) wkspd__ttrpc__request__pack(&envelope, place);
  free(payload);
  if (err) return wksp__conn_why(conn, WKSP_E_NOMEM, "no memory for the request");
  return 0;
}

/* Sends a request on the open connection. *ret_whole: all of it was taken by the kernel. */
static int request_send(wksp_client_t *client, wksp__method_t const *method,
                        ProtobufCMessage const *message, uint64_t deadline_ns, uint32_t *ret_stream,
                        int *ret_whole) {
  wksp__conn_t *conn = &client->conn;
  ttrpc_buf_t buf;
  ttrpc_buf_init(&buf, 2 * REQUEST_MAX);
  *ret_whole = 0;
  *ret_stream = conn->stream_next;
  int err = request_frame(conn, method, message, deadline_ns, *ret_stream, &buf);
  if (!err) {
    conn->stream_next += 2;
    size_t sent;
    err = wksp__conn_send(conn, ttrpc_buf_head(&buf), buf.len, deadline_ns, &sent);
    *ret_whole = sent == buf.len;
    /* The rest of half a frame can never be sent now. */
    if (err < 0 && sent) wksp__conn_close(conn);
  }
  ttrpc_buf_free(&buf);
  return err;
}

/* A pause before something is tried again, each longer than the last. */
static void attempt_pause(attempt_t *attempt) {
  attempt->backoff_ns = attempt->backoff_ns ? attempt->backoff_ns * 2 : BACKOFF_FIRST_NS;
  if (attempt->backoff_ns > BACKOFF_LAST_NS) attempt->backoff_ns = BACKOFF_LAST_NS;
  uint64_t until = wksp__now_ns() + attempt->backoff_ns;
  (void)wksp__conn_wait(-1, 0, until < attempt->deadline_ns ? until : attempt->deadline_ns);
}

static int attempt_over(attempt_t const *attempt) {
  return wksp__now_ns() >= attempt->deadline_ns;
}

/* Makes sure that there is a connection, trying until the deadline. The wait between attempts is a
 * plain pause: nothing tells when a daemon has come back. */
static int rpc_connect(wksp_client_t *client, attempt_t *attempt) {
  wksp__conn_t *conn = &client->conn;
  if (wksp__conn_is_open(conn) && conn->stream_next < UINT32_MAX - 2) return 0;
  for (;;) {
    int err = wksp__conn_open(conn, client->path, attempt->deadline_ns);
    if (err != WKSP_E_NODAEMON) return err;
    if (attempt_over(attempt)) return err;
    attempt_pause(attempt);
  }
}

/* The next frame of a stream, others being skipped. */
static int rpc_frame(wksp__conn_t *conn, uint32_t stream, uint64_t deadline_ns,
                     ttrpc_frame_t *ret_frame) {
  for (;;) {
    ttrpc_frame_t frame;
    int err = wksp__conn_frame(conn, deadline_ns, &frame);
    if (err < 0) return err;
    if (frame.header.stream != stream) continue;
    if (frame.header.type != TTRPC_RESPONSE && frame.header.type != TTRPC_DATA) continue;
    *ret_frame = frame;
    return 0;
  }
}

/* Whether the daemon at the other end knows calls by their ids: 1, 0, or a code with its sentence.
 */
static int rpc_knows_ids(wksp_client_t *client, attempt_t const *attempt) {
  Wkspd__V1__VersionRequest request = WKSPD__V1__VERSION_REQUEST__INIT;
  ProtobufCMessage *message = NULL;
  ttrpc_frame_t frame;
  uint32_t stream;
  int whole, known = 0;
  if (client->knows_ids == client->conn.opened) return 1;
  int err = request_send(client, &method_version, WKSP__BASE(&request), attempt->deadline_ns,
                         &stream, &whole);
  if (!err) err = rpc_frame(&client->conn, stream, attempt->deadline_ns, &frame);
  if (!err)
    err = unpack_message(&wkspd__ttrpc__response__descriptor, frame.data, frame.header.length,
                         &message);
  if (err < 0) return err;
  Wkspd__Ttrpc__Response *envelope = (Wkspd__Ttrpc__Response *)message;
  ProtobufCMessage *inner = NULL;
  if (!envelope->status || !envelope->status->code)
    err = unpack_message(method_version.response, envelope->payload.data, envelope->payload.len,
                         &inner);
  protobuf_c_message_free_unpacked(message, NULL);
  if (!inner) return err;
  Wkspd__V1__VersionResponse const *version = (Wkspd__V1__VersionResponse const *)inner;
  for (size_t i = 0; i < version->n_features; i++)
    known |= !strcmp(version->features[i], FEATURE_IDS);
  protobuf_c_message_free_unpacked(inner, NULL);
  if (known) client->knows_ids = client->conn.opened;
  return known;
}

/* Connects and sends until a request has gone out whole. 0 or a code with its sentence. */
static int rpc_send(wksp_client_t *client, wksp__method_t const *method,
                    ProtobufCMessage const *message, attempt_t *attempt, uint32_t *ret_stream) {
  for (;;) {
    int whole = 0, err = rpc_connect(client, attempt);
    if (err < 0) return err;
    int known = attempt->unsure && method->changing ? rpc_knows_ids(client, attempt) : 1;
    if (!known)
      return wksp__conn_why(&client->conn, WKSP_E_UNSUPPORTED,
                            "the daemon was lost, and the one that came in its place does not know "
                            "calls again");
    err = known < 0
              ? known
              : request_send(client, method, message, attempt->deadline_ns, ret_stream, &whole);
    if (err == 0) return 0;
    if (err != WKSP_E_AGAIN) return err;
    wksp__conn_close(&client->conn);
    if (attempt_over(attempt)) return err;
    attempt_pause(attempt);
  }
}

/* Whether a connection on which an exchange failed can be used again. */
static int rpc_keep(wksp__conn_t const *conn, wksp__method_t const *method, int code) {
  if (!wksp__conn_is_open(conn)) return 0;
  if (code != WKSP_E_TIMEDOUT && code != WKSP_E_INVAL) return 0;
  return !method->with_fds && !method->stream && !ttrpc_reader_mid_frame(&conn->reader);
}

/* A request that changes something has gone out whole, and what became of it is not known. */
static int rpc_lost(wksp_client_t *client, wksp__method_t const *method, int code) {
  if (!rpc_keep(&client->conn, method, code)) wksp__conn_close(&client->conn);
  return wksp__fail(code == WKSP_E_TIMEDOUT ? code : WKSP_E_AGAIN,
                    "%s on %s: %s; it may or may not have happened, look before trying again",
                    method->name, client->path, client->conn.why);
}

/* Sends and waits for the first frame of the reply, by the rules of rpc.h. */
static int rpc_reply(wksp_client_t *client, wksp__method_t const *method,
                     ProtobufCMessage const *message, attempt_t *attempt,
                     ttrpc_frame_t *ret_frame) {
  int err;
  for (;;) {
    uint32_t stream;
    err = rpc_send(client, method, message, attempt, &stream);
    if (err < 0) break;
    attempt->unsure = method->changing;
    err = rpc_frame(&client->conn, stream, attempt->deadline_ns, ret_frame);
    if (err == 0) return 0;
    if (err != WKSP_E_AGAIN) break;
    wksp__conn_close(&client->conn);
    if ((method->changing && !method->with_id) || attempt_over(attempt)) break;
    attempt_pause(attempt); /* it may have died of the request */
  }
  if (attempt->unsure && (err == WKSP_E_AGAIN || err == WKSP_E_TIMEDOUT || err == WKSP_E_NODAEMON ||
                          err == WKSP_E_UNSUPPORTED))
    return rpc_lost(client, method, err);
  if (!rpc_keep(&client->conn, method, err)) wksp__conn_close(&client->conn);
  return rpc_fail(client, method, err);
}

/* gRPC's codes as ours. */
int wksp__rpc_code(int32_t code) {
  switch (code) {
  case 3:
    return WKSP_E_INVAL; /* INVALID_ARGUMENT */
  case 4:
    return WKSP_E_TIMEDOUT; /* DEADLINE_EXCEEDED */
  case 5:
    return WKSP_E_NOTFOUND; /* NOT_FOUND */
  case 6:
    return WKSP_E_EXISTS; /* ALREADY_EXISTS */
  case 7:
    return WKSP_E_PERM; /* PERMISSION_DENIED */
  case 8:
    return WKSP_E_LIMIT; /* RESOURCE_EXHAUSTED */
  case 9:
    return WKSP_E_BUSY; /* FAILED_PRECONDITION */
  case 10:
    return WKSP_E_AGAIN; /* ABORTED */
  case 12:
    return WKSP_E_UNSUPPORTED; /* UNIMPLEMENTED */
  case 14:
    return WKSP_E_AGAIN; /* UNAVAILABLE */
  case 15:
    return WKSP_E_CORRUPT; /* DATA_LOSS */
  default:
    return WKSP_E_PROTO;
  }
}

#define DETAIL_TYPE_URL "type.googleapis.com/wkspd.v1.ErrorDetail"

/* The detail that the daemon sends along with a refusal, to be freed; NULL: none that can be read.
 */
static Wkspd__V1__ErrorDetail *detail_of(Wkspd__Ttrpc__Status const *status) {
  ProtobufCMessage *message = NULL;
  if (!status->n_details || strcmp(status->details[0]->type_url, DETAIL_TYPE_URL)) return NULL;
  (void)unpack_message(&wkspd__v1__error_detail__descriptor, status->details[0]->value.data,
                       status->details[0]->value.len, &message);
  return (Wkspd__V1__ErrorDetail *)message;
}

/* Whether it was refused for a reason that passes by itself: then nothing was done for it, or the
 * same call is under way. */
static int refused_for_now(Wkspd__Ttrpc__Status const *status) {
  Wkspd__V1__ErrorDetail *detail = status->code == 14 ? detail_of(status) : NULL;
  if (!detail) return 0;
  int passes = !strcmp(detail->kind, "stopping") || !strcmp(detail->kind, "repeat");
  wkspd__v1__error_detail__free_unpacked(detail, NULL);
  return passes;
}

/* What the daemon says one can do about it; "" if it says nothing: the sentence stands without it.
 */
static void hint_of(Wkspd__Ttrpc__Status const *status, char *ret_hint, size_t hint_max) {
  Wkspd__V1__ErrorDetail *detail = detail_of(status);
  ret_hint[0] = 0;
  if (!detail) return;
  wksp__text_copy(ret_hint, hint_max, detail->hint);
  wkspd__v1__error_detail__free_unpacked(detail, NULL);
}

/* Reports the daemon's refusal: its sentence, for it knows best. */
static int rpc_refused(wksp__method_t const *method, Wkspd__Ttrpc__Status const *status) {
  char sentence[SENTENCE_MAX], hint[SENTENCE_MAX];
  wksp__text_copy(sentence, sizeof sentence, status->message);
  hint_of(status, hint, sizeof hint);
  if (sentence[0])
    return wksp__fail(wksp__rpc_code(status->code), "%s%s%s", sentence, hint[0] ? "; " : "", hint);
  return wksp__fail(wksp__rpc_code(status->code),
                    "%s: the daemon refused with code %d and no reason", method->name,
                    status->code);
}

/* Unpacks a part of a reply; failures are reported. */
static int reply_unpack(wksp_client_t *client, wksp__method_t const *method,
                        ProtobufCMessageDescriptor const *descriptor, uint8_t const *bytes,
                        size_t bytes_len, ProtobufCMessage **ret_message) {
  int err = unpack_message(descriptor, bytes, bytes_len, ret_message);
  if (err == WKSP_E_NOMEM)
    return wksp__fail(err, "%s on %s: no memory for a reply of %zu bytes", method->name,
                      client->path, bytes_len);
  if (err < 0)
    return wksp__rpc_broken(client, method, "%zu bytes that are no %s", bytes_len,
                            descriptor->short_name);
  return 0;
}

/* Takes a Response apart. *ret_for_now (NULL: not asked for): 1 if it was refused for a reason that
 * passes; nothing is reported then. */
static int rpc_response(wksp_client_t *client, wksp__method_t const *method,
                        ttrpc_frame_t const *frame, int *ret_for_now,
                        ProtobufCMessage **ret_response) {
  ProtobufCMessage *message = NULL;
  int err = reply_unpack(client, method, &wkspd__ttrpc__response__descriptor, frame->data,
                         frame->header.length, &message);
  if (err < 0) return err;
  Wkspd__Ttrpc__Response *envelope = (Wkspd__Ttrpc__Response *)message;
  int refused = envelope->status && envelope->status->code;
  if (ret_for_now) *ret_for_now = refused && refused_for_now(envelope->status);
  if (ret_for_now && *ret_for_now)
    err = WKSP_E_AGAIN;
  else if (refused)
    err = rpc_refused(method, envelope->status);
  else
    err = reply_unpack(client, method, method->response, envelope->payload.data,
                       envelope->payload.len, ret_response);
  protobuf_c_message_free_unpacked(message, NULL);
  return err;
}

int wksp__rpc_exchange(wksp_client_t *client, wksp__method_t const *method,
                       ProtobufCMessage const *request, uint64_t deadline_ns,
                       ProtobufCMessage **ret_response) {
  attempt_t attempt = {.deadline_ns = deadline_ns};
  int repeatable = !method->changing || method->with_id;
  for (;;) {
    ttrpc_frame_t frame = {.data = NULL};
    int err = rpc_reply(client, method, request, &attempt, &frame), for_now = 0;
    if (err < 0) return err;
    if (frame.header.type != TTRPC_RESPONSE)
      return wksp__rpc_broken(client, method, "a frame of type %u where a Response is due",
                              frame.header.type);
    int again = repeatable && !attempt_over(&attempt);
    err = rpc_response(client, method, &frame, again ? &for_now : NULL, ret_response);
    if (!for_now) return err;
    attempt_pause(&attempt);
  }
}

int wksp__rpc_call(wksp_client_t *client, wksp__method_t const *method,
                   ProtobufCMessage const *request, ProtobufCMessage **ret_response) {
  uint64_t deadline_ns;
  int err = wksp__rpc_begin(client, &deadline_ns);
  if (err < 0) return err;
  err = wksp__rpc_exchange(client, method, request, deadline_ns, ret_response);
  wksp__rpc_end(client);
  return err;
}

int wksp__rpc_stream_begin(wksp_client_t *client, wksp__method_t const *method,
                           ProtobufCMessage const *request, uint64_t deadline_ns,
                           uint32_t *ret_stream) {
  attempt_t attempt = {.deadline_ns = deadline_ns};
  int err = rpc_send(client, method, request, &attempt, ret_stream);
  if (err == 0) return 0;
  if (!rpc_keep(&client->conn, method, err)) wksp__conn_close(&client->conn);
  return rpc_fail(client, method, err);
}

int wksp__rpc_stream_next(wksp_client_t *client, wksp__method_t const *method, uint32_t stream,
                          uint64_t deadline_ns, ProtobufCMessage **ret_response) {
  ttrpc_frame_t frame = {.data = NULL};
  int err = rpc_frame(&client->conn, stream, deadline_ns, &frame);
  if (err < 0) return rpc_fail(client, method, err);
  if (frame.header.type == TTRPC_RESPONSE) {
    /* An error, or the end: a stream's Response carries no message of its own. */
    ProtobufCMessage *last;
    err = rpc_response(client, method, &frame, NULL, &last);
    if (err < 0) return err;
    protobuf_c_message_free_unpacked(last, NULL);
  } else if (!(frame.header.flags & TTRPC_FLAG_NO_DATA)) {
    return reply_unpack(client, method, method->response, frame.data, frame.header.length,
                        ret_response);
  } else if (!(frame.header.flags & TTRPC_FLAG_REMOTE_CLOSED)) {
    return wksp__rpc_broken(client, method,
                            "a frame that neither carries data nor ends the stream");
  }
  return wksp__fail(WKSP_E_AGAIN, "%s on %s: the daemon ended the stream", method->name,
                    client->path);
}
