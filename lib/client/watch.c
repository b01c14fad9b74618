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

/* NULL, or what is wrong with it. */
static char const *pressure_of(Wkspd__V1__Pressure const *message, wksp_pressure_t *ret_pressure) {
  if (!message) return "an event of pressure without any";
  *ret_pressure = (wksp_pressure_t){.high = message->high ? 1 : 0,
                                    .of = message->of_uid   ? WKSP_PRESSURE_OF_UID
                                          : message->tag[0] ? WKSP_PRESSURE_OF_TAG
                                                            : WKSP_PRESSURE_OF_ALL,
                                    .uid = message->uid,
                                    .page_size = message->page_size,
                                    .node = message->node,
                                    .used = message->used,
                                    .limit = message->limit};
  wksp__text_copy(ret_pressure->what, sizeof ret_pressure->what, message->what);
  wksp__text_copy(ret_pressure->tag, sizeof ret_pressure->tag, message->tag);
  return NULL;
}

/* 1: *ret_event is it, leading into *ret_pressure; 0: a kind that this library does not know, from
   a newer daemon; or a code. */
static int event_of(wksp_client_t *client, Wkspd__V1__Event const *message,
                    wksp_pressure_t *ret_pressure, wksp_event_t *ret_event) {
  wksp_event_t event = {.kind = (uint)message->kind, .time_ns = message->time_ns};
  if (message->kind == (int)WKSP_EVENT_PRESSURE) {
    char const *wrong = pressure_of(message->pressure, ret_pressure);
    if (wrong) return wksp__rpc_broken(client, &method_watch, "%s", wrong);
    event.pressure = ret_pressure;
    *ret_event = event;
    return 1;
  }
  if (strnlen(message->name, FD_WKSP_NAME_MAX + 1) > FD_WKSP_NAME_MAX ||
      !wksp__name_ok(message->name))
    return wksp__rpc_broken(client, &method_watch, "an event of a workspace whose name is none");
  if (message->kind < (int)WKSP_EVENT_CREATED || message->kind > (int)WKSP_EVENT_SOUND) return 0;
  wksp__text_copy(event.name, sizeof event.name, message->name);
  *ret_event = event;
  return 1;
}

static int watch(wksp_client_t *client, int pressure,
                 int (*on_event)(void *arg, wksp_event_t const *event), void *arg) {
  if (!on_event) return wksp__fail(WKSP_E_INVAL, "watch: on_event is NULL");
  uint64_t deadline_ns;
  int ret = wksp__rpc_begin(client, &deadline_ns);
  if (ret < 0) return ret;
  Wkspd__V1__WatchRequest request = WKSPD__V1__WATCH_REQUEST__INIT;
  request.pressure = pressure;
  uint32_t stream;
  ret = wksp__rpc_stream_begin(client, &method_watch, WKSP__BASE(&request), deadline_ns, &stream);
  while (ret == 0) {
    ProtobufCMessage *message;
    ret = wksp__rpc_stream_next(client, &method_watch, stream, deadline_ns, &message);
    if (ret < 0) break;
    wksp_event_t event;
    wksp_pressure_t of;
    ret = event_of(client, (Wkspd__V1__Event *)message, &of, &event);
    protobuf_c_message_free_unpacked(message, NULL);
    if (ret > 0) ret = on_event(arg, &event);
  }
  wksp__rpc_cancel(client);
  wksp__rpc_end(client);
  return ret;
}

int wksp_client_watch(wksp_client_t *client, int (*on_event)(void *arg, wksp_event_t const *event),
                      void *arg) {
  return watch(client, 0, on_event, arg);
}

int wksp_client_watch_pressure(wksp_client_t *client,
                               int (*on_event)(void *arg, wksp_event_t const *event), void *arg) {
  return watch(client, 1, on_event, arg);
}
