/* The problem: an answer about memory that strangers write, from a process that mapped it.

   The model: everything that can be said of an answer without the workspace is checked here, in one
   pass, before anybody looks at a field.

   Refuses: to repair. */

#include "daemon/child/result.h"

#include "core/part.h"

#include <string.h>

static int part_ok(result_ask_t const *ask, fd_wksp_part_t const *part, uint64_t from) {
  uint64_t end;
  return part->gaddr >= from && part->size &&
         !__builtin_add_overflow(part->gaddr, part->size, &end) && end <= ask->size && part->tag &&
         part->kind >= FD_WKSP_KIND_USER && part->kind <= FD_WKSP_KIND_LARGE;
}

static int usage_ok(result_ask_t const *ask, fd_wksp_usage_t const *usage) {
  return usage->total_sz <= ask->size && usage->free_sz <= usage->total_sz &&
         usage->free_sz_max <= usage->free_sz && usage->used_sz <= usage->total_sz &&
         usage->total_cnt <= usage->total_max && usage->free_cnt <= usage->total_cnt &&
         usage->used_cnt <= usage->total_cnt;
}

/* What is impossible about where a resize says that it ended. */
static char const *resize_why(result_ask_t const *ask, result_head_t const *head) {
  if (head->resized_to < ask->size_min || head->resized_to > ask->size ||
      (head->resized_to % ask->page_bytes && head->resized_to != ask->size))
    return "an impossible size";
  if (head->resized_why > WKSP_RESIZED_TABLE) return "an impossible reason";
  if (head->resized_why == WKSP_RESIZED_USED && !part_ok(ask, &head->block, 1))
    return "an impossible partition";
  return NULL;
}

/* What is impossible about where pages are said to lie. */
static char const *place_why(result_ask_t const *ask, result_t const *result) {
  result_head_t const *head = result->head;
  uint64_t sum = head->lost_cnt, at = 0;
  if (head->page_cnt != ask->resize_to / ask->page_bytes) return "another number of pages";
  if (sum > head->page_cnt) return "more pages than there are";
  for (uint32_t node = 0; node < RESULT_NODES_MAX; node++) {
    if (head->node_cnt[node] > head->page_cnt - sum) return "more pages than there are";
    sum += head->node_cnt[node];
  }
  if (sum != head->page_cnt) return "fewer pages than there are";
  for (uint32_t i = 0; i < head->run_cnt; i++) {
    result_run_t const *run = &result->runs[i];
    if (run->first != at || !run->cnt || run->cnt > head->page_cnt - at || run->node < -1 ||
        run->node >= (int32_t)RESULT_NODES_MAX)
      return "an impossible run of pages";
    at += run->cnt;
  }
  return head->runs_cut > 1 || (!head->runs_cut && at != head->page_cnt) ? "missing pages" : NULL;
}

char const *result_query_why(result_ask_t const *ask, result_t const *result) {
  result_head_t const *head = result->head;
  uint64_t at = ask->page_gaddr;
  if (!memchr(head->holder.comm, 0, sizeof head->holder.comm)) return "an endless name";
  if (!usage_ok(ask, &head->usage)) return "impossible usage figures";
  if (head->suspect_cnt > ask->size / 16) return "more suspect blocks than there can be";
  for (uint32_t i = 0; i < head->part_cnt; i++) {
    if (!part_ok(ask, &result->parts[i], at)) return "an impossible partition";
    at = result->parts[i].gaddr + result->parts[i].size;
  }
  if (head->next_page_gaddr && (head->next_page_gaddr < at || head->next_page_gaddr > ask->size ||
                                head->next_page_gaddr <= ask->page_gaddr)) {
    return "an impossible next page";
  }
  for (uint32_t i = 0; i < head->root_cnt; i++) {
    fd_wksp_root_t const *root = &result->roots[i];
    if (!root->name[0] || !memchr(root->name, 0, sizeof root->name)) return "an unnamed root";
    if (!root->gaddr || root->gaddr > ask->size) return "a root outside the workspace";
  }
  return NULL;
}

int result_check(result_ask_t const *ask, void const *bytes, size_t len, result_t *ret_result,
                 char const **ret_why) {
  result_head_t const *head = bytes;
  if (len < sizeof *head || head->magic != RESULT_MAGIC || head->op != ask->op) {
    *ret_why = "the worker's answer is cut short or is none";
    return 0;
  }
  if (!memchr(head->sentence, 0, sizeof head->sentence) || head->status > 0 ||
      head->status < WKSP_E_UNSUPPORTED) {
    *ret_why = "the worker's answer has no legal status";
    return 0;
  }
  uint32_t parts_max =
      ask->op == RESULT_QUERY && !ask->verify && !head->status ? ask->page_size : 0;
  uint32_t roots_max = parts_max && !ask->page_gaddr ? (uint32_t)FD_WKSP_ROOT_MAX : 0;
  uint32_t runs_max = ask->op == RESULT_PLACE && !head->status ? RESULT_RUNS_MAX : 0;
  if (head->part_cnt > parts_max || head->root_cnt > roots_max || head->run_cnt > runs_max ||
      len != sizeof *head + head->part_cnt * sizeof(fd_wksp_part_t) +
                 head->root_cnt * sizeof(fd_wksp_root_t) + head->run_cnt * sizeof(result_run_t)) {
    *ret_why = "the worker's answer has another length than it says";
    return 0;
  }
  result_t result = {.head = head};
  result.parts = (fd_wksp_part_t const *)(head + 1);
  result.roots = (fd_wksp_root_t const *)(result.parts + head->part_cnt);
  result.runs = (result_run_t const *)(result.roots + head->root_cnt);
  char const *why = NULL;
  if (!head->status && ask->op == RESULT_QUERY && !ask->verify)
    why = result_query_why(ask, &result);
  if (!head->status && ask->op == RESULT_COMPACT && head->compacted.freed_sz > ask->size) {
    why = "more memory was given back than there is";
  }
  if (!head->status && ask->op == RESULT_PLACE) why = place_why(ask, &result);
  if (!head->status && ask->op == RESULT_RESIZE) why = resize_why(ask, head);
  if (why) {
    *ret_why = why;
    return 0;
  }
  *ret_result = result;
  return 1;
}
