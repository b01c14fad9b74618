/* Where pages of workspaces lie or would lie, as the daemon tells it. What it says is checked:
   nodes are in their range, runs follow each other, so that users can use them as indexes. */

#include "client/info.h"
#include "client/rpc.h"

#include "core/fail.h"
#include "wkspd.pb-c.h"

#include <stdlib.h>
#include <string.h>

/* Runs of pages in one answer: those of the protocol, and room for it to grow. */
#define RUNS_MAX 65536UL

static wksp__method_t const method_plan = {
    .service = WKSP__WORKSPACES, .name = "Plan", .response = &wkspd__v1__plan_response__descriptor};
static wksp__method_t const method_placement = {.service = WKSP__WORKSPACES,
                                                .name = "Placement",
                                                .response =
                                                    &wkspd__v1__placement_response__descriptor};

static int plan_of(wksp_client_t *client, Wkspd__V1__PlanResponse const *response,
                   wksp_plan_t *ret_plan) {
  wksp_plan_t plan = {.page_size = response->page_size,
                      .size = response->size,
                      .max_size = response->max_size,
                      .strict = response->strict ? 1 : 0};
  wksp__text_copy(plan.nodes, sizeof plan.nodes, response->nodes);
  wksp__text_copy(plan.why, sizeof plan.why, response->why);
  wksp__text_copy(plan.lacking, sizeof plan.lacking, response->lacking);
  wksp__text_copy(plan.hint, sizeof plan.hint, response->hint);
  if (!plan.page_size) return wksp__rpc_broken(client, &method_plan, "a page size of 0");
  if (response->n_node > WKSP_NODES_MAX)
    return wksp__rpc_broken(client, &method_plan, "%zu nodes", response->n_node);
  for (; plan.node_cnt < response->n_node; plan.node_cnt++) {
    Wkspd__V1__PlanNode const *from = response->node[plan.node_cnt];
    plan.node[plan.node_cnt] = (wksp_plan_node_t){.node = from->node,
                                                  .allowed = from->allowed ? 1 : 0,
                                                  .wanted = from->wanted,
                                                  .growth = from->growth,
                                                  .free = from->free,
                                                  .total = from->total};
  }
  *ret_plan = plan;
  return 0;
}

int wksp_client_plan(wksp_client_t *client, wksp_create_t const *create, wksp_plan_t *ret_plan) {
  if (!create) return wksp__fail(WKSP_E_INVAL, "plan: what to plan is NULL");
  if (!ret_plan) return wksp__fail(WKSP_E_INVAL, "plan: where the answer should go is NULL");
  Wkspd__V1__CreateRequest request = WKSPD__V1__CREATE_REQUEST__INIT;
  request.size = create->size;
  request.max_size = create->max_size;
  request.page_size = create->page_size;
  if (create->numa) request.numa = (char *)create->numa;
  request.preferred = create->preferred != 0;
  uint64_t deadline_ns;
  int err = wksp__rpc_begin(client, &deadline_ns);
  if (err < 0) return err;
  ProtobufCMessage *message;
  err = wksp__rpc_exchange(client, &method_plan, WKSP__BASE(&request), deadline_ns, &message);
  if (!err) {
    Wkspd__V1__PlanResponse *response = (Wkspd__V1__PlanResponse *)message;
    err = plan_of(client, response, ret_plan);
    wkspd__v1__plan_response__free_unpacked(response, NULL);
  }
  wksp__rpc_end(client);
  return err;
}

static int runs_of(wksp_client_t *client, Wkspd__V1__PlacementResponse const *response,
                   wksp_placement_t *placement) {
  ulong at = 0;
  if (response->n_runs > RUNS_MAX)
    return wksp__rpc_broken(client, &method_placement, "%zu runs", response->n_runs);
  placement->runs = calloc(response->n_runs + 1, sizeof *placement->runs);
  if (!placement->runs)
    return wksp__fail(WKSP_E_NOMEM, "placement: no memory for %zu runs", response->n_runs);
  for (; placement->run_cnt < response->n_runs; placement->run_cnt++) {
    Wkspd__V1__PlacementRun const *from = response->runs[placement->run_cnt];
    if (from->first != at || !from->cnt || __builtin_add_overflow(at, from->cnt, &at) ||
        from->node < -1 || from->node >= WKSP_NODES_MAX)
      return wksp__rpc_broken(client, &method_placement, "runs of pages that do not fit together");
    placement->runs[placement->run_cnt] =
        (wksp_page_run_t){.first = from->first, .cnt = from->cnt, .node = from->node};
  }
  return 0;
}

/* *placement is the caller's to free, also on failure. */
static int placement_of(wksp_client_t *client, char const *name,
                        Wkspd__V1__PlacementResponse const *response, wksp_placement_t *placement) {
  char const *wrong = wksp__info_of(response->workspace, &placement->info);
  if (!wrong && strcmp(placement->info.name, name) != 0) wrong = "another workspace";
  if (!wrong && response->n_node > WKSP_NODES_MAX + 1) wrong = "more nodes than there can be";
  if (wrong) return wksp__rpc_broken(client, &method_placement, "%s", wrong);
  wksp__text_copy(placement->numa, sizeof placement->numa, response->workspace->numa);
  wksp__text_copy(placement->nodes, sizeof placement->nodes, response->workspace->nodes);
  placement->strict = response->workspace->strict ? 1 : 0;
  placement->elsewhere = response->elsewhere;
  placement->runs_cut = response->runs_cut ? 1 : 0;
  for (size_t i = 0; i < response->n_node; i++) {
    Wkspd__V1__PlacementNode const *from = response->node[i];
    if (from->node < -1 || from->node >= WKSP_NODES_MAX)
      return wksp__rpc_broken(client, &method_placement, "node %d", from->node);
    placement->node[placement->node_cnt++] =
        (wksp_place_node_t){.node = from->node, .wanted = from->wanted, .got = from->got};
  }
  return runs_of(client, response, placement);
}

int wksp_client_placement(wksp_client_t *client, char const *name,
                          wksp_placement_t *ret_placement) {
  int err = wksp__name_check("placement", name);
  if (err < 0) return err;
  if (!ret_placement)
    return wksp__fail(WKSP_E_INVAL, "placement: where the answer should go is NULL");
  Wkspd__V1__PlacementRequest request = WKSPD__V1__PLACEMENT_REQUEST__INIT;
  request.name = (char *)name;
  uint64_t deadline_ns;
  err = wksp__rpc_begin(client, &deadline_ns);
  if (err < 0) return err;
  ProtobufCMessage *message;
  wksp_placement_t placement = {.runs = NULL};
  err = wksp__rpc_exchange(client, &method_placement, WKSP__BASE(&request), deadline_ns, &message);
  if (!err) {
    Wkspd__V1__PlacementResponse *response = (Wkspd__V1__PlacementResponse *)message;
    err = placement_of(client, name, response, &placement);
    wkspd__v1__placement_response__free_unpacked(response, NULL);
  }
  wksp__rpc_end(client);
  if (err < 0)
    wksp_placement_free(&placement);
  else
    *ret_placement = placement;
  return err;
}

void wksp_placement_free(wksp_placement_t *placement) {
  if (!placement) return;
  free(placement->runs);
  *placement = (wksp_placement_t){.runs = NULL};
}
