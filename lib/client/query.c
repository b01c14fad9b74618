/* What is in a workspace, as the daemon's worker has read it: pages of partitions are joined into
   one answer. Partitions come in address order and do not overlap; a reply that says otherwise is
   refused, so that the pages come to an end and users can rely on it. The table may change between
   two pages, as it may between two calls of a walk in the process. */

#include "client/info.h"
#include "client/rpc.h"

#include "core/fail.h"
#include "core/layout.h"
#include "wkspd.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define TAG_MAX 1024UL /* as the protocol says */

static wksp__method_t const method_query = {.service = WKSP__WORKSPACES,
                                            .name = "Query",
                                            .response = &wkspd__v1__query_response__descriptor};

static fd_wksp_usage_t usage_of(Wkspd__V1__Usage const *usage) {
  return (fd_wksp_usage_t){
      .total_max = usage->total_max,
      .total_cnt = usage->total_cnt,
      .total_sz = usage->total_size,
      .free_cnt = usage->free_cnt,
      .free_sz = usage->free_size,
      .free_sz_max = usage->free_size_max,
      .used_cnt = usage->used_cnt,
      .used_sz = usage->used_size,
  };
}

/* A newer daemon may know kinds that this library does not: they are shown as 0. */
static uint kind_of(Wkspd__V1__PartitionKind kind) {
  switch (kind) {
  case WKSPD__V1__PARTITION_KIND__PARTITION_USER:
    return FD_WKSP_KIND_USER;
  case WKSPD__V1__PARTITION_KIND__PARTITION_SPANS:
    return FD_WKSP_KIND_SPANS;
  case WKSPD__V1__PARTITION_KIND__PARTITION_HEAP:
    return FD_WKSP_KIND_HEAP;
  case WKSPD__V1__PARTITION_KIND__PARTITION_LARGE:
    return FD_WKSP_KIND_LARGE;
  default:
    return 0;
  }
}

/* Adds a page's partitions, *gaddr_end being where the last one ended. */
static int parts_add(wksp_client_t *client, wksp_query_t *query, ulong *cap, ulong *gaddr_end,
                     Wkspd__V1__QueryResponse const *page) {
  ulong cnt = query->part_cnt + page->n_partitions;
  if (cnt > WKSP_PART_MAX_MAX)
    return wksp__rpc_broken(client, &method_query, "more than %lu partitions", WKSP_PART_MAX_MAX);
  if (cnt > *cap) {
    ulong grown = cnt + cnt / 2;
    fd_wksp_part_t *parts = realloc(query->parts, grown * sizeof *parts);
    if (!parts) return wksp__fail(WKSP_E_NOMEM, "query: no memory for %lu partitions", grown);
    query->parts = parts;
    *cap = grown;
  }
  for (size_t i = 0; i < page->n_partitions; i++) {
    Wkspd__V1__Partition const *partition = page->partitions[i];
    ulong end;
    if (!partition->gaddr || !partition->size || partition->gaddr < *gaddr_end ||
        __builtin_add_overflow(partition->gaddr, partition->size, &end))
      return wksp__rpc_broken(client, &method_query, "partitions that overlap or are in no order");
    query->parts[query->part_cnt++] = (fd_wksp_part_t){.gaddr = partition->gaddr,
                                                       .size = partition->size,
                                                       .tag = partition->tag,
                                                       .kind = kind_of(partition->kind)};
    *gaddr_end = end;
  }
  return 0;
}

static int roots_set(wksp_client_t *client, wksp_query_t *query,
                     Wkspd__V1__QueryResponse const *page) {
  if (!page->n_roots) return 0;
  if (page->n_roots > FD_WKSP_ROOT_MAX)
    return wksp__rpc_broken(client, &method_query, "%zu roots, there can be %lu", page->n_roots,
                            FD_WKSP_ROOT_MAX);
  query->roots = calloc(page->n_roots, sizeof *query->roots);
  if (!query->roots)
    return wksp__fail(WKSP_E_NOMEM, "query: no memory for %zu roots", page->n_roots);
  for (size_t i = 0; i < page->n_roots; i++) {
    Wkspd__V1__Root const *root = page->roots[i];
    size_t name_len = strnlen(root->name, FD_WKSP_ROOT_NAME_MAX + 1);
    if (!name_len || name_len > FD_WKSP_ROOT_NAME_MAX)
      return wksp__rpc_broken(client, &method_query, "a root name that has not 1 to %lu bytes",
                              FD_WKSP_ROOT_NAME_MAX);
    memcpy(query->roots[i].name, root->name, name_len);
    query->roots[i].gaddr = root->gaddr;
    query->roots[i].tag = root->tag;
  }
  query->root_cnt = page->n_roots;
  return 0;
}

/* The text is foreign: it is made to end. */
static wksp_holder_t holder_of(Wkspd__V1__Holder const *holder) {
  wksp_holder_t ret = {.pid = 0};
  if (!holder) return ret;
  ret = (wksp_holder_t){.pid = holder->pid,
                        .tid = holder->tid,
                        .since_ns = holder->since_ns,
                        .dead = holder->dead ? 1 : 0};
  wksp__text_copy(ret.comm, sizeof ret.comm, holder->comm);
  return ret;
}

/* All pages, under one turn and deadline. *query is the caller's to free, also on failure. */
static int query_fetch(wksp_client_t *client, Wkspd__V1__QueryRequest *request,
                       uint64_t deadline_ns, wksp_query_t *query) {
  ulong cap = 0;
  ulong gaddr_end = 0;
  int first = 1;
  do {
    ProtobufCMessage *message;
    int err = wksp__rpc_exchange(client, &method_query, WKSP__BASE(request), deadline_ns, &message);
    if (err < 0) return err;
    Wkspd__V1__QueryResponse *page = (Wkspd__V1__QueryResponse *)message;
    if (first && !page->usage) err = wksp__rpc_broken(client, &method_query, "no usage in it");
    if (!err && page->next_page_gaddr && page->next_page_gaddr <= request->page_gaddr)
      err = wksp__rpc_broken(client, &method_query, "a next page that is not behind this one");
    if (!err && first) {
      query->usage = usage_of(page->usage);
      query->holder = holder_of(page->holder);
      query->suspect_cnt = page->suspect_cnt;
      err = roots_set(client, query, page);
    }
    if (!err) err = parts_add(client, query, &cap, &gaddr_end, page);
    request->page_gaddr = page->next_page_gaddr;
    first = 0;
    wkspd__v1__query_response__free_unpacked(page, NULL);
    if (err < 0) return err;
  } while (request->page_gaddr);
  return 0;
}

int wksp_client_query(wksp_client_t *client, char const *name, ulong const *tags, ulong tag_cnt,
                      wksp_query_t *ret_query) {
  int err = wksp__name_check("query", name);
  if (err < 0) return err;
  if (!ret_query) return wksp__fail(WKSP_E_INVAL, "query: where the answer should go is NULL");
  if (tag_cnt > TAG_MAX)
    return wksp__fail(WKSP_E_INVAL, "query: %lu tags, at most %lu are allowed; ask in parts",
                      tag_cnt, TAG_MAX);
  if (tag_cnt && !tags) return wksp__fail(WKSP_E_INVAL, "query: tags is NULL, tag_cnt is not 0");
  Wkspd__V1__QueryRequest request = WKSPD__V1__QUERY_REQUEST__INIT;
  request.name = (char *)name;
  request.n_tags = tag_cnt;
  request.tags = (uint64_t *)tags;
  uint64_t deadline_ns;
  err = wksp__rpc_begin(client, &deadline_ns);
  if (err < 0) return err;
  wksp_query_t query = {.parts = NULL};
  err = query_fetch(client, &request, deadline_ns, &query);
  wksp__rpc_end(client);
  if (err < 0)
    wksp_query_free(&query);
  else
    *ret_query = query;
  return err;
}

int wksp_client_holder(wksp_client_t *client, char const *name, wksp_holder_t *ret_holder) {
  int err = wksp__name_check("holder", name);
  if (err < 0) return err;
  if (!ret_holder) return wksp__fail(WKSP_E_INVAL, "holder: where the answer should go is NULL");
  Wkspd__V1__QueryRequest request = WKSPD__V1__QUERY_REQUEST__INIT;
  request.name = (char *)name;
  request.holder_only = 1;
  ProtobufCMessage *message;
  err = wksp__rpc_call(client, &method_query, WKSP__BASE(&request), &message);
  if (err < 0) return err;
  Wkspd__V1__QueryResponse *response = (Wkspd__V1__QueryResponse *)message;
  *ret_holder = holder_of(response->holder);
  wkspd__v1__query_response__free_unpacked(response, NULL);
  return 0;
}

void wksp_query_free(wksp_query_t *query) {
  if (!query) return;
  free(query->parts);
  free(query->roots);
  *query = (wksp_query_t){.parts = NULL};
}
