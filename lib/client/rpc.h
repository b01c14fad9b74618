/* rpc: calls of wkspd's methods on a connection that mends itself.

   A caller takes its turn on the client, makes one or more exchanges under one deadline, and ends
   its turn. An exchange connects when there is no connection, sends a request, and waits for its
   reply. What is lost on the way is decided here, once:

     - what was not sent whole cannot have been served: it is sent again on a new connection
     - what was sent whole and got no reply is sent again if the method only reads, or if the
       request carries an id by which the daemon knows it again (and says among its features that it
       does: it may be another one than the first); else a changing method fails with E_AGAIN, for
   it may or may not have happened
     - what is refused because the daemon is stopping, or the same call still under way, is sent
       again as well
     - a connection is mended as long as the deadline allows: daemons restart. A call that may have
       happened and got no reply by then fails with E_AGAIN or E_TIMEDOUT

   Failures are reported here (wksp__fail) and only when a call has failed for good.

   may use: conn, core, ttrpc, proto.  used by: workspaces, attach, watch. */

#ifndef WKSP_CLIENT_RPC_H
#define WKSP_CLIENT_RPC_H

#include "client/conn.h"
#include "wksp/client.h"

#include <protobuf-c/protobuf-c.h>
#include <pthread.h>
#include <sys/types.h>

#define WKSP__WORKSPACES "wkspd.v1.Workspaces"
#define WKSP__HOST       "wkspd.v1.Host"

/* A message as its base. */
#define WKSP__BASE(message) (&(message)->base)

#define WKSP__PATH_MAX 107U /* of a socket, without the NUL: sun_path */

/* held: holder is whose turn it is. The mutex is for these three alone and never kept. (Not one
   mutex that is kept for the whole turn: a callback that calls its own client is to be told,
   waiting has a deadline on the monotonic clock, and thread checkers do not know
   pthread_mutex_clocklock.) */
typedef struct wksp__turn {
  pthread_mutex_t mutex;
  pthread_cond_t ended; /* on the monotonic clock */
  pthread_t holder;
  int held;
} wksp__turn_t;

struct wksp_client {
  wksp__turn_t turn;
  pid_t pid;          /* of the process that connected */
  long deadline_ms;   /* atomic */
  wksp__conn_t conn;  /* by whose turn it is */
  uint64_t knows_ids; /* conn.opened of the last connection whose daemon knows calls by their ids */
  char path[WKSP__PATH_MAX + 1];
};

typedef struct wksp__method {
  char const *service, *name;
  ProtobufCMessageDescriptor const *response;
  int changing; /* 1: must not be sent twice, unless */
  int with_id;  /* 1: requests carry an id (wksp__call_id) */
  int with_fds; /* 1: descriptors come with the response */
  int stream;   /* 1: the reply is a stream of response messages */
} wksp__method_t;

#define WKSP__CALL_ID_SIZE 16

/* A new id for a call. 0 or a reported E_SYS. */
int wksp__call_id(uint8_t ret_id[WKSP__CALL_ID_SIZE]);

/* Waits for the client's turn. 0 and *ret_deadline_ns, the end of the call that begins; E_INVAL
   (NULL, an inherited client, called from a callback of the same client), E_TIMEDOUT. */
int wksp__rpc_begin(wksp_client_t *client, uint64_t *ret_deadline_ns);

/* Ends the turn; descriptors that nobody took are closed. */
void wksp__rpc_end(wksp_client_t *client);

/* One exchange. On success *ret_response is the unpacked message, to be freed with
   protobuf_c_message_free_unpacked(.., NULL), and its descriptors wait in client->conn. */
int wksp__rpc_exchange(wksp_client_t *client, wksp__method_t const *method,
                       ProtobufCMessage const *request, uint64_t deadline_ns,
                       ProtobufCMessage **ret_response);

/* A turn with one exchange. */
int wksp__rpc_call(wksp_client_t *client, wksp__method_t const *method,
                   ProtobufCMessage const *request, ProtobufCMessage **ret_response);

/* Starts a stream of responses: the request is sent. 0 and *ret_stream, or as exchange. */
int wksp__rpc_stream_begin(wksp_client_t *client, wksp__method_t const *method,
                           ProtobufCMessage const *request, uint64_t deadline_ns,
                           uint32_t *ret_stream);

/* The next message of the stream. 0; E_TIMEDOUT, E_AGAIN when it has ended or the daemon is gone,
   or the error that the daemon ended it with. */
int wksp__rpc_stream_next(wksp_client_t *client, wksp__method_t const *method, uint32_t stream,
                          uint64_t deadline_ns, ProtobufCMessage **ret_response);

/* Cancels whatever is under way, by closing the connection; the next call connects anew. */
void wksp__rpc_cancel(wksp_client_t *client);

/* The daemon broke the protocol: reports "METHOD on PATH: ...", closes the connection, returns
   E_PROTO. */
int wksp__rpc_broken(wksp_client_t *client, wksp__method_t const *method, char const *fmt, ...)
    __attribute__((format(printf, 3, 4), cold));

/* What one of gRPC's codes is to users: WKSP_E_*. */
int wksp__rpc_code(int32_t code);

/* Copies foreign text that goes to people: cut to what fits, control characters become '?'. src may
   be NULL. */
void wksp__text_copy(char *ret_dst, size_t dst_size, char const *src);

#endif
