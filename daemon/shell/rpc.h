/* rpc: ttrpc envelopes and the messages of wkspd.v1 on one side, the engine's plain structs on the
   other.

   A method is one line of a table: its service and name, what the engine calls it, its messages,
   and two functions. */

#ifndef WKSPD_SHELL_RPC_H
#define WKSPD_SHELL_RPC_H

#include "daemon/core/engine.h"

#include <protobuf-c/protobuf-c.h>

/* gRPC's UNIMPLEMENTED, which the engine has no use for. */
#define RPC_UNIMPLEMENTED 12

/* A method that the engine does not know: none of ENGINE_*. */
#define RPC_RELOAD 1000

typedef struct rpc_method {
  char const *service, *name;
  int method; /* ENGINE_* */
  ProtobufCMessageDescriptor const *request;
  /* Fills the engine's request from the message; pointers in it may lead into the message. */
  void (*fill)(ProtobufCMessage const *message, engine_request_t *ret_req);
  /* Packs the response of an OK reply (rpc_pack); NULL: no memory. */
  uint8_t *(*encode)(engine_reply_t const *reply, size_t *ret_len);
} rpc_method_t;

/* The table: rpc_method_cnt lines. */
extern rpc_method_t const rpc_methods[];
extern unsigned const rpc_method_cnt;

/* NULL: none of that name. */
rpc_method_t const *rpc_find(char const *service, char const *name);

/* A request that was understood as far as its method. */
typedef struct rpc_call {
  rpc_method_t const *method;
  ProtobufCMessage *message; /* what req points into; rpc_call_free */
  engine_request_t req;
  uint64_t timeout_ns; /* 0: none */
} rpc_call_t;

/* Why a request was not understood. */
typedef struct rpc_refusal {
  int code;
  char const *kind;
  char sentence[ENGINE_SENTENCE_MAX];
  char hint[ENGINE_HINT_MAX];
} rpc_refusal_t;

/* Reads a Request. 0 and *ret_call (free it), or 1 and *ret_refusal. */
int rpc_decode(uint8_t const *data, size_t len, rpc_call_t *ret_call, rpc_refusal_t *ret_refusal);
void rpc_call_free(rpc_call_t *call);

/* The Response to a reply, malloc'ed; NULL: no memory. */
uint8_t *rpc_encode_reply(engine_reply_t const *reply, size_t *ret_len);
uint8_t *rpc_encode_refusal(rpc_refusal_t const *refusal, size_t *ret_len);

/* The Response that holds a packed message. */
uint8_t *rpc_encode_payload(uint8_t *payload, size_t len, size_t *ret_len);

/* The Response to a Reload. */
uint8_t *rpc_encode_reload(char **notes, size_t note_cnt, uint32_t mistake_cnt, size_t *ret_len);

/* The bare Job message of a stream. */
uint8_t *rpc_encode_task(engine_task_t const *task, size_t *ret_len);

/* The bare Event message of a stream. */
uint8_t *rpc_encode_event(engine_effect_t const *effect, size_t *ret_len);

/* Packs any message, malloc'ed. */
uint8_t *rpc_pack(ProtobufCMessage const *message, size_t *ret_len);

#endif
