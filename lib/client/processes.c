/* What the daemon says of its limits, and of the processes that use it. Text is made safe by the
   daemon and cut here; figures are passed on as they are. */

#include "client/rpc.h"

#include "core/fail.h"
#include "wkspd.pb-c.h"

#include <stdlib.h>
#include <string.h>

/* Pages of processes: more than there can be connections and leases. */
#define PAGES_MAX 100000U

static wksp__method_t const method_stats = {
    .service = WKSP__HOST, .name = "Stats", .response = &wkspd__v1__stats_response__descriptor};
static wksp__method_t const method_clients = {
    .service = WKSP__HOST, .name = "Clients", .response = &wkspd__v1__clients_response__descriptor};

int wksp_client_limits(wksp_client_t *client, int (*on_limit)(void *arg, wksp_limit_t const *limit),
                       void *arg) {
  if (!on_limit) return wksp__fail(WKSP_E_INVAL, "limits: on_limit is NULL");
  Wkspd__V1__StatsRequest request = WKSPD__V1__STATS_REQUEST__INIT;
  ProtobufCMessage *message;
  int err = wksp__rpc_call(client, &method_stats, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  Wkspd__V1__StatsResponse *response = (Wkspd__V1__StatsResponse *)message;
  for (size_t i = 0; !err && i < response->n_limits; i++) {
    Wkspd__V1__Limit const *from = response->limits[i];
    wksp_limit_t limit = {.used = from->used,
                          .max = from->max,
                          .user_used = from->user_used,
                          .user_max = from->user_max};
    wksp__text_copy(limit.what, sizeof limit.what, from->what);
    err = on_limit(arg, &limit);
  }
  wkspd__v1__stats_response__free_unpacked(response, NULL);
  return err;
}

/* Tells of one. What on_process returned, or WKSP_E_NOMEM. */
static int process_tell(Wkspd__V1__Client const *from,
                        int (*on_process)(void *arg, wksp_process_t const *process), void *arg) {
  wksp_held_t *held = calloc(from->n_held + 1, sizeof *held);
  if (!held) return wksp__fail(WKSP_E_NOMEM, "no memory for what process %d holds", from->pid);
  wksp_process_t process = {.pid = from->pid,
                            .uid = from->uid,
                            .gid = from->gid,
                            .since_ns = from->since_ns,
                            .connection_cnt = from->connection_cnt,
                            .request_cnt = from->request_cnt,
                            .watch_cnt = from->watch_cnt,
                            .ended = from->ended ? 1 : 0,
                            .queued = from->queued,
                            .held = held,
                            .held_cnt = from->n_held};
  wksp__text_copy(process.comm, sizeof process.comm, from->comm);
  wksp__text_copy(process.cgroup, sizeof process.cgroup, from->cgroup);
  for (size_t i = 0; i < from->n_held; i++) {
    held[i] =
        (wksp_held_t){.lease_id = from->held[i]->lease_id,
                      .since_ns = from->held[i]->since_ns,
                      .read_only = from->held[i]->mode == WKSPD__V1__OPEN_MODE__OPEN_READ_ONLY,
                      .removing = from->held[i]->removing ? 1 : 0};
    wksp__text_copy(held[i].name, sizeof held[i].name, from->held[i]->workspace);
  }
  int err = on_process(arg, &process);
  free(held);
  return err;
}

int wksp_client_processes(wksp_client_t *client,
                          int (*on_process)(void *arg, wksp_process_t const *process), void *arg) {
  if (!on_process) return wksp__fail(WKSP_E_INVAL, "processes: on_process is NULL");
  Wkspd__V1__ClientsRequest request = WKSPD__V1__CLIENTS_REQUEST__INIT;
  int err = 0;
  for (unsigned page = 0; !err && page < PAGES_MAX; page++) {
    ProtobufCMessage *message;
    err = wksp__rpc_call(client, &method_clients, WKSP__BASE(&request), &message);
    if (err < 0) return err;
    Wkspd__V1__ClientsResponse *response = (Wkspd__V1__ClientsResponse *)message;
    for (size_t i = 0; !err && i < response->n_clients; i++)
      err = process_tell(response->clients[i], on_process, arg);
    int more = response->next_key > request.page_key;
    request.page_key = response->next_key;
    wkspd__v1__clients_response__free_unpacked(response, NULL);
    if (!more) break;
  }
  return err;
}
