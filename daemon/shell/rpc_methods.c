/* The methods of wkspd.v1, each a line of the table and its two functions: the request message into
   the engine's struct, the engine's reply into the response message.

   Refuses: to judge values; a name that is too long for the engine's field is cut, and the engine
   refuses what is left. */

#include "daemon/shell/rpc.h"

#include "daemon/child/result.h"
#include "daemon/shell/clients.h"
#include "daemon/shell/rpc_ckpt.h"
#include "wkspd.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKSPACES "wkspd.v1.Workspaces"
#define HOST       "wkspd.v1.Host"
#define CKPTS      "wkspd.v1.Checkpoints"

#define FEATURES_MAX    64 /* the methods in the table, and others */
#define FEATURE_LEN_MAX 64 /* "service.Method" */

#define FEATURE_REQUEST_ID "request-id"

static char *text(char const *constant) {
  return (char *)(uintptr_t)constant;
}

static void put_text(char ret_text[ENGINE_TEXT_MAX], char const *from) {
  snprintf(ret_text, ENGINE_TEXT_MAX, "%s", from);
}

/* What is too long is refused by the engine by its length. */
static void put_call_id(engine_request_t *ret_req, ProtobufCBinaryData from) {
  size_t len = from.len < UINT32_MAX ? from.len : UINT32_MAX;
  ret_req->call_id_len = (uint32_t)len;
  if (len == sizeof ret_req->call_id) memcpy(ret_req->call_id, from.data, len);
}

/* Points into from. */
void rpc_put_workspace(engine_workspace_t const *from, Wkspd__V1__Workspace *ret) {
  wkspd__v1__workspace__init(ret);
  ret->name = text(from->spec.name);
  ret->uuid.data = (uint8_t *)(uintptr_t)from->spec.uuid;
  ret->uuid.len = sizeof from->spec.uuid;
  ret->size = from->spec.size;
  ret->page_size = from->spec.page_size;
  ret->data_max = from->spec.data_max;
  ret->part_max = from->spec.part_max;
  ret->mode = from->spec.mode;
  ret->uid = from->spec.uid;
  ret->gid = from->spec.gid;
  ret->seed = from->spec.seed;
  ret->created_ns = from->spec.created_ns;
  ret->attached_rw = from->attached_rw;
  ret->attached_ro = from->attached_ro;
  ret->removing = from->removing;
  ret->quarantined = from->quarantined;
  ret->read_only = from->read_only;
  ret->reason = text(from->reason);
  ret->max_size = from->spec.max_size;
  ret->excess = from->excess;
  ret->damaged = from->damaged;
  ret->tag = text(from->spec.tag);
}

/* What is left out where there are thousands of them. */
static void put_placed(engine_workspace_t const *from, Wkspd__V1__Workspace *ret) {
  rpc_put_workspace(from, ret);
  ret->numa = text(from->spec.numa);
  ret->nodes = text(from->spec.nodes);
  ret->strict = from->spec.strict;
  ret->note = text(from->note);
}

/* Workspaces
 * ---------------------------------------------------------------------------------------- */

static void fill_create(ProtobufCMessage const *message, engine_request_t *ret_req) {
  Wkspd__V1__CreateRequest const *from = (Wkspd__V1__CreateRequest const *)message;
  put_text(ret_req->u.create.name, from->name);
  put_call_id(ret_req, from->request_id);
  ret_req->u.create.size = from->size;
  ret_req->u.create.max_size = from->max_size;
  ret_req->u.create.page_size = from->page_size;
  ret_req->u.create.part_max = from->part_max;
  ret_req->u.create.mode = from->mode;
  ret_req->u.create.seed = from->seed;
  snprintf(ret_req->u.create.numa, sizeof ret_req->u.create.numa, "%s", from->numa);
  ret_req->u.create.preferred = from->preferred;
  put_text(ret_req->u.create.tag, from->tag);
}

static uint8_t *encode_create(engine_reply_t const *reply, size_t *ret_len) {
  Wkspd__V1__CreateResponse to = WKSPD__V1__CREATE_RESPONSE__INIT;
  Wkspd__V1__Workspace workspace;
  put_placed(reply->u.workspace, &workspace);
  to.workspace = &workspace;
  return rpc_pack(&to.base, ret_len);
}

static void fill_delete(ProtobufCMessage const *message, engine_request_t *ret_req) {
  Wkspd__V1__DeleteRequest const *from = (Wkspd__V1__DeleteRequest const *)message;
  put_text(ret_req->u.del.name, from->name);
  put_call_id(ret_req, from->request_id);
  ret_req->u.del.force = from->force;
}

static uint8_t *encode_delete(engine_reply_t const *reply, size_t *ret_len) {
  Wkspd__V1__DeleteResponse to = WKSPD__V1__DELETE_RESPONSE__INIT;
  to.deferred = reply->u.del.deferred;
  return rpc_pack(&to.base, ret_len);
}

static void fill_get(ProtobufCMessage const *message, engine_request_t *ret_req) {
  put_text(ret_req->u.get.name, ((Wkspd__V1__GetRequest const *)message)->name);
}

static uint8_t *encode_get(engine_reply_t const *reply, size_t *ret_len) {
  Wkspd__V1__GetResponse to = WKSPD__V1__GET_RESPONSE__INIT;
  Wkspd__V1__Workspace workspace;
  put_placed(reply->u.workspace, &workspace);
  to.workspace = &workspace;
  return rpc_pack(&to.base, ret_len);
}

static void fill_list(ProtobufCMessage const *message, engine_request_t *ret_req) {
  Wkspd__V1__ListRequest const *from = (Wkspd__V1__ListRequest const *)message;
  ret_req->u.list.page_size = from->page_size;
  put_text(ret_req->u.list.page_token, from->page_token);
  ret_req->u.list.all = from->all;
}

static uint8_t *encode_list(engine_reply_t const *reply, size_t *ret_len) {
  Wkspd__V1__ListResponse to = WKSPD__V1__LIST_RESPONSE__INIT;
  size_t cnt = reply->u.list.workspace_cnt;
  Wkspd__V1__Workspace *workspaces = calloc(cnt ? cnt : 1, sizeof *workspaces);
  Wkspd__V1__Workspace **at = calloc(cnt ? cnt : 1, sizeof *at);
  uint8_t *bytes = NULL;
  if (workspaces && at) {
    for (size_t i = 0; i < cnt; i++) {
      rpc_put_workspace(&reply->u.list.workspaces[i], &workspaces[i]);
      at[i] = &workspaces[i];
    }
    to.n_workspaces = cnt;
    to.workspaces = at;
    to.next_page_token = text(reply->u.list.next_page_token);
    bytes = rpc_pack(&to.base, ret_len);
  }
  free(workspaces);
  free(at);
  return bytes;
}

static void fill_open(ProtobufCMessage const *message, engine_request_t *ret_req) {
  Wkspd__V1__OpenRequest const *from = (Wkspd__V1__OpenRequest const *)message;
  put_text(ret_req->u.open.name, from->name);
  ret_req->u.open.mode = (int32_t)from->mode;
}

static uint8_t *encode_open(engine_reply_t const *reply, size_t *ret_len) {
  Wkspd__V1__OpenResponse to = WKSPD__V1__OPEN_RESPONSE__INIT;
  Wkspd__V1__Workspace workspace;
  spec_t const *spec = &reply->u.open.workspace->spec;
  put_placed(reply->u.open.workspace, &workspace);
  to.workspace = &workspace;
  to.lease_id = reply->u.open.lease_id;
  to.map_size = spec->max_size;
  to.layout_version = spec->layout_version;
  to.geometry_hash = spec->geometry_hash;
  to.fds = 2;
  return rpc_pack(&to.base, ret_len);
}

static void fill_query(ProtobufCMessage const *message, engine_request_t *ret_req) {
  Wkspd__V1__QueryRequest const *from = (Wkspd__V1__QueryRequest const *)message;
  put_text(ret_req->u.query.name, from->name);
  ret_req->u.query.tags = from->tags;
  ret_req->u.query.tag_cnt = from->n_tags;
  ret_req->u.query.page_gaddr = from->page_gaddr;
  ret_req->u.query.page_size = from->page_size;
  ret_req->u.query.holder_only = from->holder_only;
}

static void put_usage(fd_wksp_usage_t const *from, Wkspd__V1__Usage *ret) {
  wkspd__v1__usage__init(ret);
  ret->total_max = from->total_max;
  ret->total_cnt = from->total_cnt;
  ret->total_size = from->total_sz;
  ret->free_cnt = from->free_cnt;
  ret->free_size = from->free_sz;
  ret->free_size_max = from->free_sz_max;
  ret->used_cnt = from->used_cnt;
  ret->used_size = from->used_sz;
}

static void put_part(fd_wksp_part_t const *from, Wkspd__V1__Partition *ret) {
  wkspd__v1__partition__init(ret);
  ret->gaddr = from->gaddr;
  ret->size = from->size;
  ret->tag = from->tag;
  ret->kind = (Wkspd__V1__PartitionKind)from->kind;
}

static void put_root(fd_wksp_root_t const *from, Wkspd__V1__Root *ret) {
  wkspd__v1__root__init(ret);
  ret->name = text(from->name);
  ret->gaddr = from->gaddr;
  ret->tag = from->tag;
}

static void put_holder(result_holder_t const *from, Wkspd__V1__Holder *ret) {
  wkspd__v1__holder__init(ret);
  ret->pid = from->pid;
  ret->tid = from->tid;
  ret->comm = text(from->comm);
  ret->since_ns = from->since_ns;
  ret->dead = from->dead != 0;
}

/* worker_result is a result_t that has passed result_check. */
static uint8_t *encode_query(engine_reply_t const *reply, size_t *ret_len) {
  result_t const *from = reply->u.worker_result;
  Wkspd__V1__QueryResponse to = WKSPD__V1__QUERY_RESPONSE__INIT;
  Wkspd__V1__Usage usage;
  Wkspd__V1__Holder holder;
  size_t parts = from->head->part_cnt, roots = from->head->root_cnt;
  Wkspd__V1__Partition *part = calloc(parts + 1, sizeof *part);
  Wkspd__V1__Root *root = calloc(roots + 1, sizeof *root);
  void **at = calloc(parts + roots + 1, sizeof *at);
  uint8_t *bytes = NULL;
  if (part && root && at) {
    put_usage(&from->head->usage, &usage);
    put_holder(&from->head->holder, &holder);
    if (from->head->holder.pid) to.holder = &holder;
    for (size_t i = 0; i < parts; i++) {
      put_part(&from->parts[i], &part[i]);
      at[i] = &part[i];
    }
    for (size_t i = 0; i < roots; i++) {
      put_root(&from->roots[i], &root[i]);
      at[parts + i] = &root[i];
    }
    to.usage = &usage;
    to.n_partitions = parts;
    to.partitions = (Wkspd__V1__Partition **)at;
    to.n_roots = roots;
    to.roots = (Wkspd__V1__Root **)(at + parts);
    to.next_page_gaddr = from->head->next_page_gaddr;
    to.suspect_cnt = from->head->suspect_cnt;
    bytes = rpc_pack(&to.base, ret_len);
  }
  free(part);
  free(root);
  free(at);
  return bytes;
}

static void fill_compact(ProtobufCMessage const *message, engine_request_t *ret_req) {
  put_text(ret_req->u.compact.name, ((Wkspd__V1__CompactRequest const *)message)->name);
}

static uint8_t *encode_compact(engine_reply_t const *reply, size_t *ret_len) {
  result_t const *from = reply->u.worker_result;
  Wkspd__V1__CompactResponse to = WKSPD__V1__COMPACT_RESPONSE__INIT;
  to.freed_size = from->head->compacted.freed_sz;
  to.skipped_cnt = from->head->compacted.skipped_cnt;
  to.skipped_pid = from->head->compacted.skipped_pid;
  to.skipped_tid = from->head->compacted.skipped_tid;
  return rpc_pack(&to.base, ret_len);
}

static void fill_resize(ProtobufCMessage const *message, engine_request_t *ret_req) {
  Wkspd__V1__ResizeRequest const *from = (Wkspd__V1__ResizeRequest const *)message;
  put_text(ret_req->u.resize.name, from->name);
  put_call_id(ret_req, from->request_id);
  ret_req->u.resize.size = from->size;
}

static uint8_t *encode_resize(engine_reply_t const *reply, size_t *ret_len) {
  Wkspd__V1__ResizeResponse to = WKSPD__V1__RESIZE_RESPONSE__INIT;
  Wkspd__V1__Workspace workspace;
  put_placed(reply->u.workspace, &workspace);
  to.workspace = &workspace;
  return rpc_pack(&to.base, ret_len);
}

static uint8_t *encode_plan(engine_reply_t const *reply, size_t *ret_len) {
  Wkspd__V1__PlanResponse to = WKSPD__V1__PLAN_RESPONSE__INIT;
  size_t cnt = reply->u.plan.node_cnt;
  Wkspd__V1__PlanNode *node = calloc(cnt + 1, sizeof *node);
  Wkspd__V1__PlanNode **at = calloc(cnt + 1, sizeof *at);
  uint8_t *bytes = NULL;
  for (size_t i = 0; node && at && i < cnt; i++) {
    engine_plan_node_t const *from = &reply->u.plan.nodes[i];
    wkspd__v1__plan_node__init(&node[i]);
    node[i].node = from->node;
    node[i].allowed = from->allowed;
    node[i].wanted = from->wanted;
    node[i].growth = from->growth;
    node[i].free = from->free;
    node[i].total = from->total;
    at[i] = &node[i];
  }
  if (node && at) {
    to.page_size = reply->u.plan.page_size;
    to.size = reply->u.plan.size;
    to.max_size = reply->u.plan.max_size;
    to.strict = reply->u.plan.strict;
    to.nodes = text(reply->u.plan.policy);
    to.why = text(reply->u.plan.why);
    to.lacking = text(reply->u.plan.lacking);
    to.hint = text(reply->u.plan.hint);
    to.n_node = cnt;
    to.node = at;
    bytes = rpc_pack(&to.base, ret_len);
  }
  free(node);
  free(at);
  return bytes;
}

static void fill_placement(ProtobufCMessage const *message, engine_request_t *ret_req) {
  put_text(ret_req->u.compact.name, ((Wkspd__V1__PlacementRequest const *)message)->name);
}

/* Figures and runs of a placement, as messages. */
typedef struct placed {
  Wkspd__V1__PlacementNode node[TOPO_NODES_MAX + 1], *node_at[TOPO_NODES_MAX + 1];
  Wkspd__V1__PlacementRun run[RESULT_RUNS_MAX], *run_at[RESULT_RUNS_MAX];
} placed_t;

/* The nodes that have or should have pages of it; layout NULL: it is not known which should. */
static size_t put_nodes(result_head_t const *head, place_layout_t const *layout, placed_t *to) {
  size_t cnt = 0;
  _Static_assert(RESULT_NODES_MAX == TOPO_NODES_MAX, "numbers of nodes");
  for (int32_t node = -1; node < (int32_t)TOPO_NODES_MAX; node++) {
    uint64_t wanted =
        layout && node >= 0 ? place_cnt(layout, (uint32_t)node, 0, head->page_cnt) : 0;
    uint64_t got = node < 0 ? head->lost_cnt : head->node_cnt[node];
    if (!wanted && !got) continue;
    Wkspd__V1__PlacementNode *at = to->node_at[cnt] = &to->node[cnt];
    wkspd__v1__placement_node__init(at);
    at->node = node;
    at->wanted = wanted;
    at->got = got;
    cnt++;
  }
  return cnt;
}

/* Of a run's pages, those that are wanted on another node. */
static uint64_t astray(result_run_t const *run, place_layout_t const *layout) {
  uint64_t cnt = 0, end = run->first + run->cnt;
  for (uint64_t page = run->first; page < end;) {
    uint64_t same = place_run(layout, page, end);
    if ((int32_t)place_node(layout, page) != run->node) cnt += same;
    page += same;
  }
  return cnt;
}

static uint8_t *encode_placement(engine_reply_t const *reply, size_t *ret_len) {
  Wkspd__V1__PlacementResponse to = WKSPD__V1__PLACEMENT_RESPONSE__INIT;
  result_t const *from = reply->u.placement.worker_result;
  spec_t const *spec = &reply->u.placement.workspace->spec;
  place_layout_t layout = {.size = topo_size_of(spec->page_size),
                           .total = spec->max_size / spec->page_size};
  int known = !place_read(spec->nodes, &layout.policy);
  placed_t *placed = calloc(1, sizeof *placed);
  uint8_t *bytes = NULL;
  if (placed) {
    Wkspd__V1__Workspace workspace;
    put_placed(reply->u.placement.workspace, &workspace);
    to.workspace = &workspace;
    to.n_node = put_nodes(from->head, known ? &layout : NULL, placed);
    to.node = placed->node_at;
    for (uint32_t i = 0; i < from->head->run_cnt; i++) {
      Wkspd__V1__PlacementRun *at = placed->run_at[i] = &placed->run[i];
      wkspd__v1__placement_run__init(at);
      at->first = from->runs[i].first;
      at->cnt = from->runs[i].cnt;
      at->node = from->runs[i].node;
      if (known) to.elsewhere += astray(&from->runs[i], &layout);
    }
    to.n_runs = from->head->run_cnt;
    to.runs = placed->run_at;
    to.runs_cut = from->head->runs_cut;
    bytes = rpc_pack(&to.base, ret_len);
  }
  free(placed);
  return bytes;
}

static void fill_verify(ProtobufCMessage const *message, engine_request_t *ret_req) {
  put_text(ret_req->u.query.name, ((Wkspd__V1__VerifyRequest const *)message)->name);
}

static uint8_t *encode_verify(engine_reply_t const *reply, size_t *ret_len) {
  Wkspd__V1__VerifyResponse to = WKSPD__V1__VERIFY_RESPONSE__INIT;
  Wkspd__V1__Workspace workspace;
  put_placed(reply->u.workspace, &workspace);
  to.workspace = &workspace;
  return rpc_pack(&to.base, ret_len);
}

static void fill_watch(ProtobufCMessage const *message, engine_request_t *ret_req) {
  Wkspd__V1__WatchRequest const *from = (Wkspd__V1__WatchRequest const *)message;
  put_text(ret_req->u.watch.name, from->name);
  ret_req->u.watch.pressure = from->pressure;
}

/* Host
 * ---------------------------------------------------------------------------------------------- */

static void fill_nothing(ProtobufCMessage const *message, engine_request_t *ret_req) {
}

/* The features are the methods that are served, as the table below has them, and what is not a
 * method. */
static uint8_t *encode_version(engine_reply_t const *reply, size_t *ret_len) {
  Wkspd__V1__VersionResponse to = WKSPD__V1__VERSION_RESPONSE__INIT;
  char names[FEATURES_MAX][FEATURE_LEN_MAX], *features[FEATURES_MAX];
  for (to.n_features = 0; to.n_features < rpc_method_cnt; to.n_features++) {
    rpc_method_t const *method = &rpc_methods[to.n_features];
    features[to.n_features] = names[to.n_features];
    snprintf(names[to.n_features], FEATURE_LEN_MAX, "%s.%s", method->service, method->name);
  }
  features[to.n_features++] = text(FEATURE_REQUEST_ID);
  to.features = features;
  to.daemon = text(reply->u.version.daemon);
  to.layout_version = reply->u.version.layout_version;
  to.geometry_hash = reply->u.version.geometry_hash;
  return rpc_pack(&to.base, ret_len);
}

static uint8_t *encode_stats(engine_reply_t const *reply, size_t *ret_len) {
  engine_stats_t const *from = &reply->u.stats;
  Wkspd__V1__StatsResponse to = WKSPD__V1__STATS_RESPONSE__INIT;
  to.pid = from->pid;
  to.uptime_ns = from->uptime_ns;
  to.fd_store = from->fd_store;
  to.workspace_cnt = from->workspace_cnt;
  to.quarantined_cnt = from->quarantined_cnt;
  to.lease_cnt = from->lease_cnt;
  to.connection_cnt = from->connection_cnt;
  to.job_cnt = from->job_cnt;
  to.bytes = from->bytes;
  to.request_cnt = from->request_cnt;
  to.refused_cnt = from->refused_cnt;
  to.violation_cnt = from->violation_cnt;
  to.fd_cnt = from->fd_cnt;
  to.lost_cnt = from->lost_cnt;
  to.damaged_cnt = from->damaged_cnt;
  if (from->mistake) to.config_mistake = text(from->mistake);
  to.unproven_cnt = from->unproven_cnt;
  to.proven_ns = from->proven_ns;
  Wkspd__V1__Limit limits[ENGINE_LIMITS_MAX], *limit_at[ENGINE_LIMITS_MAX];
  for (size_t i = 0; i < from->limit_cnt; i++) {
    limit_at[i] = &limits[i];
    wkspd__v1__limit__init(limit_at[i]);
    limits[i].what = text(from->limits[i].what);
    limits[i].used = from->limits[i].used;
    limits[i].max = from->limits[i].max;
    limits[i].user_used = from->limits[i].user_used;
    limits[i].user_max = from->limits[i].user_max;
  }
  to.limits = limit_at;
  to.n_limits = from->limit_cnt;
  Wkspd__V1__Quota *quota = calloc(from->quota_cnt + 1, sizeof *quota);
  Wkspd__V1__Quota **at = calloc(from->quota_cnt + 1, sizeof *at);
  uint8_t *bytes = NULL;
  for (size_t i = 0; quota && at && i < from->quota_cnt; i++) {
    wkspd__v1__quota__init(&quota[i]);
    quota[i].uid = from->quotas[i].uid;
    quota[i].page_size = from->quotas[i].page_size;
    quota[i].node = from->quotas[i].node;
    quota[i].limit = from->quotas[i].limit;
    quota[i].used = from->quotas[i].used;
    quota[i].tag = text(from->quotas[i].tag);
    quota[i].workspaces = from->quotas[i].counts;
    at[i] = &quota[i];
  }
  if (quota && at) {
    to.n_quota = from->quota_cnt;
    to.quota = at;
    bytes = rpc_pack(&to.base, ret_len);
  }
  free(quota);
  free(at);
  return bytes;
}

/* clang-format off */
rpc_method_t const rpc_methods[] = {
    {WORKSPACES, "Create",  ENGINE_CREATE,  &wkspd__v1__create_request__descriptor,  fill_create,  encode_create},
    {WORKSPACES, "Delete",  ENGINE_DELETE,  &wkspd__v1__delete_request__descriptor,  fill_delete,  encode_delete},
    {WORKSPACES, "Get",     ENGINE_GET,     &wkspd__v1__get_request__descriptor,     fill_get,     encode_get},
    {WORKSPACES, "List",    ENGINE_LIST,    &wkspd__v1__list_request__descriptor,    fill_list,    encode_list},
    {WORKSPACES, "Open",    ENGINE_OPEN,    &wkspd__v1__open_request__descriptor,    fill_open,    encode_open},
    {WORKSPACES, "Query",   ENGINE_QUERY,   &wkspd__v1__query_request__descriptor,   fill_query,   encode_query},
    {WORKSPACES, "Verify",  ENGINE_VERIFY,  &wkspd__v1__verify_request__descriptor,  fill_verify,  encode_verify},
    {WORKSPACES, "Compact", ENGINE_COMPACT, &wkspd__v1__compact_request__descriptor, fill_compact, encode_compact},
    {WORKSPACES, "Resize",  ENGINE_RESIZE,  &wkspd__v1__resize_request__descriptor,  fill_resize,  encode_resize},
    {WORKSPACES, "Plan",    ENGINE_PLAN,    &wkspd__v1__create_request__descriptor,  fill_create,  encode_plan},
    {WORKSPACES, "Placement", ENGINE_PLACEMENT, &wkspd__v1__placement_request__descriptor,
     fill_placement, encode_placement},
    {WORKSPACES, "Watch",   ENGINE_WATCH,   &wkspd__v1__watch_request__descriptor,   fill_watch,   NULL},
    {HOST,       "Version", ENGINE_VERSION, &wkspd__v1__version_request__descriptor, fill_nothing, encode_version},
    {HOST,       "Stats",   ENGINE_STATS,   &wkspd__v1__stats_request__descriptor,   fill_nothing, encode_stats},
    {HOST,       "Clients", ENGINE_CLIENTS, &wkspd__v1__clients_request__descriptor, clients_fill, clients_encode},
    {CKPTS, "Checkpoint", ENGINE_CHECKPOINT, &wkspd__v1__checkpoint_request__descriptor,
     rpc_fill_checkpoint, rpc_encode_job_id},
    {CKPTS, "ListCheckpoints", ENGINE_CKPT_LIST, &wkspd__v1__list_checkpoints_request__descriptor,
     rpc_fill_ckpt_list, rpc_encode_ckpt_list},
    {CKPTS, "ShowCheckpoint", ENGINE_CKPT_SHOW, &wkspd__v1__show_checkpoint_request__descriptor,
     rpc_fill_ckpt_show, rpc_encode_ckpt_show},
    {CKPTS, "VerifyCheckpoint", ENGINE_CKPT_VERIFY, &wkspd__v1__checkpoint_id_request__descriptor,
     rpc_fill_ckpt_id, rpc_encode_job_id},
    {CKPTS, "RemoveCheckpoint", ENGINE_CKPT_REMOVE, &wkspd__v1__checkpoint_id_request__descriptor,
     rpc_fill_ckpt_id, rpc_encode_ckpt_remove},
    {CKPTS, "Restore", ENGINE_RESTORE, &wkspd__v1__restore_request__descriptor,
     rpc_fill_restore, rpc_encode_restore},
    {CKPTS, "SetSchedule", ENGINE_SCHEDULE_SET, &wkspd__v1__set_schedule_request__descriptor,
     rpc_fill_schedule_set, rpc_encode_schedule},
    {CKPTS, "GetSchedule", ENGINE_SCHEDULE_GET, &wkspd__v1__get_schedule_request__descriptor,
     rpc_fill_schedule_get, rpc_encode_schedule},
    {CKPTS, "ListJobs", ENGINE_JOB_LIST, &wkspd__v1__list_jobs_request__descriptor,
     fill_nothing, rpc_encode_tasks},
    {CKPTS, "WatchJob", ENGINE_JOB_WATCH, &wkspd__v1__job_request__descriptor,
     rpc_fill_job, NULL},
    {CKPTS, "CancelJob", ENGINE_JOB_CANCEL, &wkspd__v1__job_request__descriptor,
     rpc_fill_job, rpc_encode_cancelled},
    {HOST,       "Reload",  RPC_RELOAD,     &wkspd__v1__reload_request__descriptor,  fill_nothing, NULL},
};
/* clang-format on */
unsigned const rpc_method_cnt = sizeof rpc_methods / sizeof *rpc_methods;
_Static_assert(sizeof rpc_methods / sizeof *rpc_methods < FEATURES_MAX, "each is a feature");
