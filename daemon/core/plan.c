/* plan: where a create is to be placed, and a create that is only tried (Plan).

   placement.h has the rules; here they meet a request: what cannot be meant is refused, and what is
   decided goes into the spec. Whether there are pages for it is found out by who takes them, for
   between now and then others take some; Plan says what there is now. Refuses to reserve anything.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/engine_priv.h"

/* A failure of placement.h as a fault. */
static void fault_place(place_fail_t const *fail, engine_reply_t *ret_fault) {
  if (fail->kind == PLACE_SHORT) {
    fault_set(ret_fault, ENGINE_CODE_RESOURCE_EXHAUSTED, "pages", "%s", fail->text);
    fault_figures(ret_fault, fail->wanted, fail->free);
  } else {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "numa", "%s", fail->text);
  }
  ret_fault->detail_node = fail->node;
  fault_hint(ret_fault, "%s", fail->hint);
}

int plan_policy(engine_request_t const *req, place_policy_t *ret_policy,
                engine_reply_t *ret_fault) {
  place_ask_t ask;
  place_fail_t fail;

  ret_policy->kind = 0;
  if (place_parse(req->u.create.numa, &ask, &fail) ||
      (req->u.create.topo &&
       place_resolve(&ask, req->u.create.topo, req->u.create.cpu, ret_policy, &fail))) {
    fault_place(&fail, ret_fault);
    return 1;
  }
  return 0;
}

int plan_strict(engine_request_t const *req) {
  return req->u.create.numa[0] && !req->u.create.preferred;
}

/* What each node is to give, and has. */
static void put_nodes(engine_t *e, place_layout_t const *layout, topo_t const *topo,
                      uint64_t page_cnt, engine_reply_t *reply) {
  engine_plan_node_t *nodes = emit_alloc(e, topo->node_cnt, sizeof(*nodes));
  size_t cnt = 0;

  if (!nodes) return;
  for (uint32_t node = 0; node < topo->node_cnt; node++) {
    if (!topo->node[node].online) continue;
    nodes[cnt++] = (engine_plan_node_t){
        .node = node,
        .allowed = topo->node[node].allowed,
        .wanted = place_cnt(layout, node, 0, page_cnt),
        .growth = place_cnt(layout, node, page_cnt, layout->total),
        .free = topo_free(topo, node, layout->size),
        .total = topo->node[node].pool[layout->size].total,
    };
  }
  reply->u.plan.nodes = nodes;
  reply->u.plan.node_cnt = cnt;
}

void plan_begin(engine_t *e, call_t *call, engine_request_t const *req) {
  topo_t const *topo = req->u.create.topo;
  uint64_t size = req->u.create.size, max_size = req->u.create.max_size;
  place_policy_t policy;
  place_plan_t plan = {.page_cnt = 0};
  place_fail_t fail = {.kind = 0};
  engine_reply_t fault;

  if (!max_size) max_size = size;
  if (fault_dimensions(e, req, &fault) || plan_policy(req, &policy, &fault)) {
    call_fail(e, call, &fault);
    return;
  }
  if (!topo || !policy.kind) {
    fault_set(&fault, ENGINE_CODE_UNAVAILABLE, "topology", "the machine's memory is not known");
    call_fail(e, call, &fault);
    return;
  }
  int bad = place_plan(&policy, topo, plan_strict(req), size, max_size, req->u.create.page_size,
                       &plan, &fail);
  if (bad && fail.kind != PLACE_SHORT) {
    fault_place(&fail, &fault);
    call_fail(e, call, &fault);
    return;
  }
  if (bad) { /* of the size that it would have been, so that the figures can be seen */
    uint64_t page = topo_page_size(fail.size);
    plan.layout = (place_layout_t){
        .policy = policy, .size = fail.size, .total = (max_size + page - 1) / page};
    plan.page_cnt = (size + page - 1) / page;
  }
  engine_reply_t *reply = call_answer(e, call);
  uint64_t page = topo_page_size(plan.layout.size);
  reply->u.plan.page_size = page;
  reply->u.plan.size = plan.page_cnt * page;
  reply->u.plan.max_size = plan.layout.total * page;
  reply->u.plan.strict = plan_strict(req);
  (void)place_text(&policy, reply->u.plan.policy);
  snprintf(reply->u.plan.why, sizeof(reply->u.plan.why), "%s", plan.why);
  snprintf(reply->u.plan.lacking, sizeof(reply->u.plan.lacking), "%s", bad ? fail.text : "");
  snprintf(reply->u.plan.hint, sizeof(reply->u.plan.hint), "%s", bad ? fail.hint : "");
  put_nodes(e, &plan.layout, topo, plan.page_cnt, reply);
}
