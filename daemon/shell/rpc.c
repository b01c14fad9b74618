/* The problem: what comes from a client is bytes that claim to be a request.

   The model: the envelope names service and method, the table says which message its payload is and
   how it becomes an engine_request_t. Values are passed on as they are: whether they are allowed is
   the engine's business. Answers go the other way; errors carry a sentence for people and an
   ErrorDetail for programs.

   Refuses: to know connections and descriptors. */

#include "daemon/shell/rpc.h"

#include "ttrpc.pb-c.h"
#include "wkspd.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DETAIL_TYPE_URL "type.googleapis.com/wkspd.v1.ErrorDetail"

rpc_method_t const *rpc_find(char const *service, char const *name) {
  for (unsigned i = 0; i < rpc_method_cnt; i++) {
    if (!strcmp(rpc_methods[i].service, service) && !strcmp(rpc_methods[i].name, name)) {
      return &rpc_methods[i];
    }
  }
  return NULL;
}

uint8_t *rpc_pack(ProtobufCMessage const *message, size_t *ret_len) {
  size_t len = protobuf_c_message_get_packed_size(message);
  uint8_t *bytes = malloc(len ? len : 1);
  if (!bytes) return NULL;
  *ret_len = protobuf_c_message_pack(message, bytes);
  return bytes;
}

/* What came from a peer may be any bytes, and a text that is not UTF-8 is none to protobuf: a
 * client in another language could not read the refusal. */
static int refuse(rpc_refusal_t *ret_refusal, int code, char const *kind, char const *sentence,
                  char const *hint) {
  *ret_refusal = (rpc_refusal_t){.code = code, .kind = kind};
  snprintf(ret_refusal->sentence, sizeof ret_refusal->sentence, "%s", sentence);
  snprintf(ret_refusal->hint, sizeof ret_refusal->hint, "%s", hint);
  for (char *at = ret_refusal->sentence; *at; at++)
    if (*at < 0x20 || *at > 0x7e) *at = '?';
  return 1;
}

/* What unpacking one request may allocate, each allocation counted as UNPACK_OVERHEAD more. The
 * largest that any method needs is below 32 KiB; without a bound 4 MiB of empty submessages become
 * two million allocations, for which everybody else waits. */
#define UNPACK_MAX      (1UL << 20)
#define UNPACK_OVERHEAD 32UL

static void *unpack_alloc(void *data, size_t size) {
  size_t *left = data, cost;
  if (__builtin_add_overflow(size, UNPACK_OVERHEAD, &cost) || cost > *left) {
    *left = 0; /* says why the message does not unpack */
    return NULL;
  }
  *left -= cost;
  return malloc(size);
}

static void unpack_free(void *data, void *pointer) {
  (void)data;
  free(pointer);
}

/* NULL: it is none, or takes too much (then *left is 0). Freed with the default allocator. */
static ProtobufCMessage *unpack(ProtobufCMessageDescriptor const *descriptor, size_t *left,
                                size_t len, uint8_t const *data) {
  ProtobufCAllocator allocator = {
      .alloc = unpack_alloc, .free = unpack_free, .allocator_data = left};
  return protobuf_c_message_unpack(descriptor, &allocator, len, data);
}

static int refuse_size(rpc_refusal_t *ret_refusal, size_t len) {
  char sentence[ENGINE_SENTENCE_MAX];
  snprintf(sentence, sizeof sentence,
           "the request of %zu bytes takes more than %lu bytes when it is unpacked", len,
           UNPACK_MAX);
  return refuse(ret_refusal, ENGINE_CODE_RESOURCE_EXHAUSTED, "limit", sentence,
                "send less at once");
}

int rpc_decode(uint8_t const *data, size_t len, rpc_call_t *ret_call, rpc_refusal_t *ret_refusal) {
  rpc_call_t call = {0};
  int bad = 0;
  size_t left = UNPACK_MAX;
  Wkspd__Ttrpc__Request *request =
      (Wkspd__Ttrpc__Request *)unpack(&wkspd__ttrpc__request__descriptor, &left, len, data);
  if (!request && !left) return refuse_size(ret_refusal, len);
  if (!request) {
    return refuse(ret_refusal, ENGINE_CODE_INVALID_ARGUMENT, "request",
                  "the request is not a ttrpc Request message", "see proto/ttrpc.proto");
  }
  call.method = rpc_find(request->service, request->method);
  if (!call.method) {
    char sentence[ENGINE_SENTENCE_MAX];
    snprintf(sentence, sizeof sentence, "there is no method '%.80s' in service '%.80s'",
             request->method, request->service);
    bad = refuse(ret_refusal, RPC_UNIMPLEMENTED, "method", sentence,
                 "the daemon may be older than the client; compare their versions");
  }
  if (!bad) {
    call.message = unpack(call.method->request, &left, request->payload.len, request->payload.data);
    if (!call.message && !left) {
      bad = refuse_size(ret_refusal, len);
    } else if (!call.message) {
      char sentence[ENGINE_SENTENCE_MAX];
      snprintf(sentence, sizeof sentence, "the payload of %s is not a %s message",
               call.method->name, call.method->request->short_name);
      bad = refuse(ret_refusal, ENGINE_CODE_INVALID_ARGUMENT, "payload", sentence,
                   "see proto/wkspd.proto");
    }
  }
  if (!bad) {
    call.req.method = call.method->method;
    call.method->fill(call.message, &call.req);
    call.timeout_ns = request->timeout_nano > 0 ? (uint64_t)request->timeout_nano : 0;
    *ret_call = call;
  }
  wkspd__ttrpc__request__free_unpacked(request, NULL);
  return bad;
}

void rpc_call_free(rpc_call_t *call) {
  if (call->message) protobuf_c_message_free_unpacked(call->message, NULL);
  call->message = NULL;
}

static uint8_t *encode_error(int code, char const *sentence, Wkspd__V1__ErrorDetail const *detail,
                             size_t *ret_len) {
  Wkspd__Ttrpc__Response response = WKSPD__TTRPC__RESPONSE__INIT;
  Wkspd__Ttrpc__Status status = WKSPD__TTRPC__STATUS__INIT;
  Wkspd__Ttrpc__Any any = WKSPD__TTRPC__ANY__INIT, *details[1] = {&any};
  size_t len;
  uint8_t *packed = rpc_pack(&detail->base, &len);
  if (!packed) return NULL;
  any.type_url = (char *)(uintptr_t)DETAIL_TYPE_URL;
  any.value.data = packed;
  any.value.len = len;
  status.code = code;
  status.message = (char *)(uintptr_t)sentence;
  status.n_details = 1;
  status.details = details;
  response.status = &status;
  uint8_t *bytes = rpc_pack(&response.base, ret_len);
  free(packed);
  return bytes;
}

uint8_t *rpc_encode_refusal(rpc_refusal_t const *refusal, size_t *ret_len) {
  Wkspd__V1__ErrorDetail detail = WKSPD__V1__ERROR_DETAIL__INIT;
  detail.kind = (char *)(uintptr_t)refusal->kind;
  detail.node = -1;
  detail.hint = (char *)(uintptr_t)refusal->hint;
  return encode_error(refusal->code, refusal->sentence, &detail, ret_len);
}

uint8_t *rpc_encode_reply(engine_reply_t const *reply, size_t *ret_len) {
  if (reply->code != ENGINE_CODE_OK) {
    Wkspd__V1__ErrorDetail detail = WKSPD__V1__ERROR_DETAIL__INIT;
    detail.kind = (char *)(uintptr_t)reply->detail_kind;
    detail.workspace = (char *)(uintptr_t)reply->detail_workspace;
    detail.node = reply->detail_node;
    detail.wanted = reply->detail_wanted;
    detail.free = reply->detail_free;
    detail.hint = (char *)(uintptr_t)reply->detail_hint;
    return encode_error(reply->code, reply->sentence, &detail, ret_len);
  }
  Wkspd__Ttrpc__Response response = WKSPD__TTRPC__RESPONSE__INIT;
  size_t len = 0;
  uint8_t *payload = NULL;
  for (unsigned i = 0; i < rpc_method_cnt && !payload; i++) {
    if (rpc_methods[i].method == reply->method && rpc_methods[i].encode) {
      payload = rpc_methods[i].encode(reply, &len);
    }
  }
  if (!payload) return NULL;
  response.payload.data = payload;
  response.payload.len = len;
  uint8_t *bytes = rpc_pack(&response.base, ret_len);
  free(payload);
  return bytes;
}

uint8_t *rpc_encode_payload(uint8_t *payload, size_t len, size_t *ret_len) {
  Wkspd__Ttrpc__Response response = WKSPD__TTRPC__RESPONSE__INIT;
  response.payload.data = payload;
  response.payload.len = len;
  return rpc_pack(&response.base, ret_len);
}

uint8_t *rpc_encode_reload(char **notes, size_t note_cnt, uint32_t mistake_cnt, size_t *ret_len) {
  Wkspd__V1__ReloadResponse reload = WKSPD__V1__RELOAD_RESPONSE__INIT;
  size_t len = 0;
  reload.n_notes = note_cnt;
  reload.notes = notes;
  reload.mistake_count = mistake_cnt;
  uint8_t *payload = rpc_pack(&reload.base, &len);
  if (!payload) return NULL;
  uint8_t *bytes = rpc_encode_payload(payload, len, ret_len);
  free(payload);
  return bytes;
}

uint8_t *rpc_encode_event(engine_effect_t const *effect, size_t *ret_len) {
  engine_pressure_t const *from = effect->u.stream_event.pressure;
  Wkspd__V1__Event event = WKSPD__V1__EVENT__INIT;
  Wkspd__V1__Pressure pressure = WKSPD__V1__PRESSURE__INIT;
  event.kind = (Wkspd__V1__EventKind)effect->u.stream_event.kind;
  event.name = (char *)(uintptr_t)effect->u.stream_event.name;
  event.time_ns = effect->u.stream_event.time_ns;
  if (!from) return rpc_pack(&event.base, ret_len);
  pressure.what = (char *)(uintptr_t)from->what;
  pressure.high = from->high;
  pressure.used = from->used;
  pressure.limit = from->limit;
  pressure.of_uid = from->of == ENGINE_PRESSURE_OF_UID;
  pressure.uid = from->uid;
  pressure.tag = (char *)(uintptr_t)from->tag;
  pressure.page_size = from->page_size;
  pressure.node = from->node;
  event.pressure = &pressure;
  return rpc_pack(&event.base, ret_len);
}
