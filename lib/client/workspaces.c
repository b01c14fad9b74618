/* The calls about workspaces and the host: arguments into a request, the reply, checked, into the
   struct that users see. What may be sent again after a daemon was lost is said in the methods'
   tables. */

#include "client/info.h"
#include "client/rpc.h"

#include "core/fail.h"
#include "wkspd.pb-c.h"

#include <stdlib.h>
#include <string.h>

/* Workspaces in a listing; far more than one machine can hold pages for, and 600 MB of infos. */
#define LIST_MAX (1UL << 20)

/* A sentence of a reload that is handed on, bytes with the NUL. */
#define NOTE_SIZE 1024U

static wksp__method_t const method_create = {.service = WKSP__WORKSPACES,
                                             .name = "Create",
                                             .response = &wkspd__v1__create_response__descriptor,
                                             .changing = 1,
                                             .with_id = 1};
static wksp__method_t const method_delete = {.service = WKSP__WORKSPACES,
                                             .name = "Delete",
                                             .response = &wkspd__v1__delete_response__descriptor,
                                             .changing = 1,
                                             .with_id = 1};
static wksp__method_t const method_get = {
    .service = WKSP__WORKSPACES, .name = "Get", .response = &wkspd__v1__get_response__descriptor};
static wksp__method_t const method_list = {
    .service = WKSP__WORKSPACES, .name = "List", .response = &wkspd__v1__list_response__descriptor};
static wksp__method_t const method_compact = {.service = WKSP__WORKSPACES,
                                              .name = "Compact",
                                              .response = &wkspd__v1__compact_response__descriptor,
                                              .changing = 1};
static wksp__method_t const method_resize = {.service = WKSP__WORKSPACES,
                                             .name = "Resize",
                                             .response = &wkspd__v1__resize_response__descriptor,
                                             .changing = 1,
                                             .with_id = 1};
static wksp__method_t const method_verify = {.service = WKSP__WORKSPACES,
                                             .name = "Verify",
                                             .response = &wkspd__v1__verify_response__descriptor};
static wksp__method_t const method_version = {
    .service = WKSP__HOST, .name = "Version", .response = &wkspd__v1__version_response__descriptor};
static wksp__method_t const method_stats = {
    .service = WKSP__HOST, .name = "Stats", .response = &wkspd__v1__stats_response__descriptor};

static wksp__method_t const method_reload = {
    .service = WKSP__HOST, .name = "Reload", .response = &wkspd__v1__reload_response__descriptor};

/* The Workspace of a reply that is about one. wrong: what is wrong with it otherwise, or NULL. */
static int info_reply(wksp_client_t *client, wksp__method_t const *method, char const *name,
                      Wkspd__V1__Workspace const *workspace, wksp_info_t *ret_info) {
  wksp_info_t info;
  char const *wrong = wksp__info_of(workspace, &info);
  if (!wrong && strcmp(info.name, name) != 0) wrong = "another workspace than was asked for";
  if (wrong)
    return wksp__fail(WKSP_E_PROTO, "%s on %s: the daemon's reply is wrong: %s", method->name,
                      client->path, wrong);
  *ret_info = info;
  return 0;
}

int wksp_client_create(wksp_client_t *client, wksp_create_t const *create, wksp_info_t *ret_info) {
  if (!create) return wksp__fail(WKSP_E_INVAL, "create: what to create is NULL");
  int err = wksp__name_check("create", create->name);
  if (err < 0) return err;
  Wkspd__V1__CreateRequest request = WKSPD__V1__CREATE_REQUEST__INIT;
  request.name = (char *)create->name;
  request.size = create->size;
  request.max_size = create->max_size;
  request.page_size = create->page_size;
  request.mode = create->mode;
  request.seed = create->seed;
  request.part_max = create->part_max;
  if (create->numa) request.numa = (char *)create->numa;
  request.preferred = create->preferred != 0;
  if (create->tag) request.tag = (char *)create->tag;
  uint8_t id[WKSP__CALL_ID_SIZE];
  err = wksp__call_id(id);
  if (err < 0) return err;
  request.request_id = (ProtobufCBinaryData){.len = sizeof id, .data = id};
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_create, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  Wkspd__V1__CreateResponse *response = (Wkspd__V1__CreateResponse *)message;
  wksp_info_t info;
  err = info_reply(client, &method_create, create->name, response->workspace, &info);
  if (!err && ret_info) *ret_info = info;
  wkspd__v1__create_response__free_unpacked(response, NULL);
  return err;
}

int wksp_client_remove(wksp_client_t *client, char const *name, int force) {
  int err = wksp__name_check("remove", name);
  if (err < 0) return err;
  Wkspd__V1__DeleteRequest request = WKSPD__V1__DELETE_REQUEST__INIT;
  request.name = (char *)name;
  request.force = force != 0;
  uint8_t id[WKSP__CALL_ID_SIZE];
  err = wksp__call_id(id);
  if (err < 0) return err;
  request.request_id = (ProtobufCBinaryData){.len = sizeof id, .data = id};
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_delete, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  protobuf_c_message_free_unpacked(message, NULL);
  return 0;
}

int wksp_client_get(wksp_client_t *client, char const *name, wksp_info_t *ret_info) {
  int err = wksp__name_check("get", name);
  if (err < 0) return err;
  if (!ret_info) return wksp__fail(WKSP_E_INVAL, "get: where the answer should go is NULL");
  Wkspd__V1__GetRequest request = WKSPD__V1__GET_REQUEST__INIT;
  request.name = (char *)name;
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_get, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  Wkspd__V1__GetResponse *response = (Wkspd__V1__GetResponse *)message;
  err = info_reply(client, &method_get, name, response->workspace, ret_info);
  wkspd__v1__get_response__free_unpacked(response, NULL);
  return err;
}

/* A listing that grows. */
typedef struct list {
  wksp_info_t *infos;
  size_t cnt, cap;
} list_t;

/* Adds a page. 0 or a reported code. Names rise, so that a listing comes to an end; those of
 * removed workspaces may be taken again, and then stand beside their successor. */
static int list_add(wksp_client_t *client, list_t *list, Wkspd__V1__ListResponse const *page) {
  size_t cnt;
  if (__builtin_add_overflow(list->cnt, page->n_workspaces, &cnt) || cnt > LIST_MAX)
    return wksp__rpc_broken(client, &method_list, "more than %lu workspaces", LIST_MAX);
  if (cnt > list->cap) {
    size_t cap = cnt + cnt / 2;
    wksp_info_t *infos = realloc(list->infos, cap * sizeof *infos);
    if (!infos) return wksp__fail(WKSP_E_NOMEM, "list: no memory for %zu workspaces", cap);
    list->infos = infos;
    list->cap = cap;
  }
  for (size_t i = 0; i < page->n_workspaces; i++) {
    wksp_info_t *info = &list->infos[list->cnt];
    char const *wrong = wksp__info_of(page->workspaces[i], info);
    if (!wrong && list->cnt && strcmp(info[-1].name, info->name) > 0)
      wrong = "workspaces that are not in the order of their names";
    if (wrong) return wksp__rpc_broken(client, &method_list, "%s", wrong);
    list->cnt++;
  }
  return 0;
}

/* All pages, under one turn and deadline. The caller frees list->infos. */
static int list_fetch(wksp_client_t *client, uint64_t deadline_ns, list_t *list) {
  Wkspd__V1__ListResponse *page = NULL;
  int err;
  do {
    Wkspd__V1__ListRequest request = WKSPD__V1__LIST_REQUEST__INIT;
    request.all = 1;
    if (page) request.page_token = page->next_page_token;
    ProtobufCMessage *message;
    err = wksp__rpc_exchange(client, &method_list, WKSP__BASE(&request), deadline_ns, &message);
    if (page) wkspd__v1__list_response__free_unpacked(page, NULL);
    page = NULL;
    if (err < 0) return err;
    page = (Wkspd__V1__ListResponse *)message;
    err = list_add(client, list, page);
    if (!err && page->next_page_token[0] && !page->n_workspaces)
      err = wksp__rpc_broken(client, &method_list, "an empty page before the last");
  } while (!err && page->next_page_token[0]);
  wkspd__v1__list_response__free_unpacked(page, NULL);
  return err;
}

int wksp_client_list(wksp_client_t *client, int (*on_info)(void *arg, wksp_info_t const *info),
                     void *arg) {
  if (!on_info) return wksp__fail(WKSP_E_INVAL, "list: on_info is NULL");
  uint64_t deadline_ns;
  int err = wksp__rpc_begin(client, &deadline_ns);
  if (err < 0) return err;
  list_t list = {.infos = NULL};
  err = list_fetch(client, deadline_ns, &list);
  wksp__rpc_end(client);
  /* The turn is over: on_info may use the client. */
  for (size_t i = 0; !err && i < list.cnt; i++) err = on_info(arg, &list.infos[i]);
  free(list.infos);
  return err;
}

int wksp_client_compact(wksp_client_t *client, char const *name, wksp_compacted_t *ret_compacted) {
  int err = wksp__name_check("compact", name);
  if (err < 0) return err;
  Wkspd__V1__CompactRequest request = WKSPD__V1__COMPACT_REQUEST__INIT;
  request.name = (char *)name;
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_compact, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  Wkspd__V1__CompactResponse *response = (Wkspd__V1__CompactResponse *)message;
  if (ret_compacted) {
    *ret_compacted = (wksp_compacted_t){
        .freed_sz = response->freed_size,
        .skipped_cnt = response->skipped_cnt,
        .skipped_pid = response->skipped_pid,
        .skipped_tid = response->skipped_tid,
    };
  }
  wkspd__v1__compact_response__free_unpacked(response, NULL);
  return 0;
}

int wksp_client_resize(wksp_client_t *client, char const *name, ulong size, wksp_info_t *ret_info) {
  int err = wksp__name_check("resize", name);
  if (err < 0) return err;
  Wkspd__V1__ResizeRequest request = WKSPD__V1__RESIZE_REQUEST__INIT;
  request.name = (char *)name;
  request.size = size;
  uint8_t id[WKSP__CALL_ID_SIZE];
  err = wksp__call_id(id);
  if (err < 0) return err;
  request.request_id = (ProtobufCBinaryData){.len = sizeof id, .data = id};
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_resize, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  Wkspd__V1__ResizeResponse *response = (Wkspd__V1__ResizeResponse *)message;
  wksp_info_t info;
  err = info_reply(client, &method_resize, name, response->workspace, &info);
  if (!err && ret_info) *ret_info = info;
  wkspd__v1__resize_response__free_unpacked(response, NULL);
  return err;
}

int wksp_client_verify(wksp_client_t *client, char const *name) {
  int err = wksp__name_check("verify", name);
  if (err < 0) return err;
  Wkspd__V1__VerifyRequest request = WKSPD__V1__VERIFY_REQUEST__INIT;
  request.name = (char *)name;
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_verify, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  protobuf_c_message_free_unpacked(message, NULL);
  return 0;
}

int wksp_client_version(wksp_client_t *client, wksp_version_t *ret_version) {
  if (!ret_version) return wksp__fail(WKSP_E_INVAL, "version: where the answer should go is NULL");
  Wkspd__V1__VersionRequest request = WKSPD__V1__VERSION_REQUEST__INIT;
  ProtobufCMessage *message;
  int err = wksp__rpc_call(client, &method_version, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  Wkspd__V1__VersionResponse *response = (Wkspd__V1__VersionResponse *)message;
  wksp_version_t version = {.layout = response->layout_version,
                            .geometry_hash = response->geometry_hash};
  wksp__text_copy(version.daemon, sizeof version.daemon, response->daemon);
  *ret_version = version;
  wkspd__v1__version_response__free_unpacked(response, NULL);
  return 0;
}

int wksp_client_status(wksp_client_t *client, wksp_status_t *ret_status) {
  if (!ret_status) return wksp__fail(WKSP_E_INVAL, "status: where the answer should go is NULL");
  Wkspd__V1__StatsRequest request = WKSPD__V1__STATS_REQUEST__INIT;
  ProtobufCMessage *message;
  int err = wksp__rpc_call(client, &method_stats, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  Wkspd__V1__StatsResponse *response = (Wkspd__V1__StatsResponse *)message;
  *ret_status = (wksp_status_t){
      .pid = response->pid,
      .uptime_ns = response->uptime_ns,
      .fd_store = response->fd_store ? 1 : 0,
      .workspace_cnt = response->workspace_cnt,
      .quarantined_cnt = response->quarantined_cnt,
      .lease_cnt = response->lease_cnt,
      .connection_cnt = response->connection_cnt,
      .job_cnt = response->job_cnt,
      .bytes = response->bytes,
      .request_cnt = response->request_cnt,
      .refused_cnt = response->refused_cnt,
      .violation_cnt = response->violation_cnt,
      .fd_cnt = response->fd_cnt,
      .lost_cnt = response->lost_cnt,
      .damaged_cnt = response->damaged_cnt,
      .unproven_cnt = response->unproven_cnt,
      .proven_ns = response->proven_ns,
  };
  wksp__text_copy(ret_status->config_mistake, sizeof ret_status->config_mistake,
                  response->config_mistake);
  for (size_t i = 0; i < response->n_quota && ret_status->quota_cnt < WKSP_QUOTAS_MAX; i++) {
    Wkspd__V1__Quota const *from = response->quota[i];
    wksp_quota_t *to = &ret_status->quota[ret_status->quota_cnt++];
    *to = (wksp_quota_t){.uid = from->uid,
                         .page_size = from->page_size,
                         .node = from->node,
                         .limit = from->limit,
                         .used = from->used,
                         .workspaces = from->workspaces ? 1 : 0};
    wksp__text_copy(to->tag, sizeof to->tag, from->tag);
  }
  wkspd__v1__stats_response__free_unpacked(response, NULL);
  return 0;
}

int wksp_client_reload(wksp_client_t *client, int (*on_note)(void *arg, char const *note),
                       void *arg, uint *opt_ret_mistake_cnt) {
  if (!on_note) return wksp__fail(WKSP_E_INVAL, "reload: on_note is NULL");
  Wkspd__V1__ReloadRequest request = WKSPD__V1__RELOAD_REQUEST__INIT;
  ProtobufCMessage *message;
  int err = wksp__rpc_call(client, &method_reload, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  Wkspd__V1__ReloadResponse *response = (Wkspd__V1__ReloadResponse *)message;
  if (opt_ret_mistake_cnt) *opt_ret_mistake_cnt = response->mistake_count;
  for (size_t i = 0; !err && i < response->n_notes; i++) {
    char note[NOTE_SIZE];
    wksp__text_copy(note, sizeof note, response->notes[i]);
    err = on_note(arg, note);
  }
  wkspd__v1__reload_response__free_unpacked(response, NULL);
  return err;
}
