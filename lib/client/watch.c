/* Events as a stream. The client's turn is held as long as it runs; when it ends for whatever
   reason the connection is closed, for that is how a stream is cancelled, and the next call
   connects anew. */

#include "client/rpc.h"

#include "core/fail.h"
#include "core/layout.h"
#include "wkspd.pb-c.h"

#include <string.h>

static wksp__method_t const method_watch = {.service = WKSP__WORKSPACES,
                                            .name = "Watch",
                                            .response = &wkspd__v1__event__descriptor,
                                            .stream = 1};

/* 1: *ret_event is it; 0: a kind that this library does not know, from a newer daemon; or a code.
 */
static int event_of(wksp_client_t *client, Wkspd__V1__Event const *message,
                    wksp_event_t *ret_event) {
  if (strnlen(message->name, FD_WKSP_NAME_MAX + 1) > FD_WKSP_NAME_MAX ||
      !wksp__name_ok(message->name))
    return wksp__rpc_broken(client, &method_watch, "an event of a workspace whose name is none");
  if (message->kind < (int)WKSP_EVENT_CREATED || message->kind > (int)WKSP_EVENT_SOUND) return 0;
  wksp_event_t event = {.kind = (uint)message->kind, .time_ns = message->time_ns};
  wksp__text_copy(event.name, sizeof event.name, message->name);
  *ret_event = event;
  return 1;
}

int wksp_client_watch(wksp_client_t *client, int (*on_event)(void *arg, wksp_event_t const *event),
                      void *arg) {
  if (!on_event) return wksp__fail(WKSP_E_INVAL, "watch: on_event is NULL");
  uint64_t deadline_ns;
  int ret = wksp__rpc_begin(client, &deadline_ns);
  if (ret < 0) return ret;
  Wkspd__V1__WatchRequest request = WKSPD__V1__WATCH_REQUEST__INIT;
  uint32_t stream;
  ret = wksp__rpc_stream_begin(client, &method_watch, WKSP__BASE(&request), deadline_ns, &stream);
  while (ret == 0) {
    ProtobufCMessage *message;
    ret = wksp__rpc_stream_next(client, &method_watch, stream, deadline_ns, &message);
    if (ret < 0) break;
    wksp_event_t event;
    ret = event_of(client, (Wkspd__V1__Event *)message, &event);
    protobuf_c_message_free_unpacked(message, NULL);
    if (ret > 0) ret = on_event(arg, &event);
  }
  wksp__rpc_cancel(client);
  wksp__rpc_end(client);
  return ret;
}
