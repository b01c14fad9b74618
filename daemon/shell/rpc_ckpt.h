/* rpc_ckpt: the messages of wkspd.v1.Checkpoints; what rpc_methods.c has for the other services. */

#ifndef WKSPD_SHELL_RPC_CKPT_H
#define WKSPD_SHELL_RPC_CKPT_H

#include "daemon/shell/rpc.h"
#include "wkspd.pb-c.h"

/* The Workspace message (rpc_methods.c); points into from. */
void rpc_put_workspace(engine_workspace_t const *from, Wkspd__V1__Workspace *ret);

#define RPC_CKPT_FILL(name) \
  void rpc_fill_##name(ProtobufCMessage const *message, engine_request_t *ret_req)
#define RPC_CKPT_ENCODE(name) \
  uint8_t *rpc_encode_##name(engine_reply_t const *reply, size_t *ret_len)

RPC_CKPT_FILL(checkpoint);
RPC_CKPT_FILL(ckpt_list);
RPC_CKPT_FILL(ckpt_show);
RPC_CKPT_FILL(ckpt_id);
RPC_CKPT_FILL(restore);
RPC_CKPT_FILL(schedule_set);
RPC_CKPT_FILL(schedule_get);
RPC_CKPT_FILL(job);

RPC_CKPT_ENCODE(job_id);
RPC_CKPT_ENCODE(ckpt_list);
RPC_CKPT_ENCODE(ckpt_show);
RPC_CKPT_ENCODE(ckpt_remove);
RPC_CKPT_ENCODE(restore);
RPC_CKPT_ENCODE(schedule);
RPC_CKPT_ENCODE(tasks);
RPC_CKPT_ENCODE(cancelled);

#endif
