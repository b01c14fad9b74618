/* The problem: where the pages of a workspace lie is known to the kernel alone, and it tells only
   about pages that the asking process has in its page table.

   The model: page after page is mapped (not read) and asked about, some thousands at a time. What
   is not there, or cannot be asked about, counts as lost. A kernel without NUMA has all on node 0.

   Refuses: to say anything about more runs than an answer holds; the counts are whole. */

#include "daemon/child/pages.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* Pages asked about at a time. */
#define ASK_MAX 2048U

static void add(result_head_t *head, result_run_t *runs, uint64_t page, int node) {
  result_run_t *last = head->run_cnt ? &runs[head->run_cnt - 1] : NULL;
  if (node < 0 || node >= (int)RESULT_NODES_MAX) {
    node = -1;
    head->lost_cnt++;
  } else {
    head->node_cnt[node]++;
  }
  if (head->runs_cut) return;
  if (last && last->node == node)
    last->cnt++;
  else if (head->run_cnt < RESULT_RUNS_MAX)
    runs[head->run_cnt++] = (result_run_t){.first = page, .cnt = 1, .node = node};
  else
    head->runs_cut = 1;
}

void pages_ask(result_ask_t const *ask, void *mem, result_head_t *head, result_run_t *runs) {
  uint64_t page_cnt = ask->resize_to / ask->page_bytes;
  head->page_cnt = page_cnt;
  for (uint64_t at = 0; at < page_cnt;) {
    void *pages[ASK_MAX];
    int nodes[ASK_MAX];
    unsigned long cnt = 0;
    for (; cnt < ASK_MAX && at + cnt < page_cnt; cnt++) {
      pages[cnt] = (char *)mem + (at + cnt) * ask->page_bytes;
      nodes[cnt] = -1;
    }
    (void)madvise((char *)mem + at * ask->page_bytes, cnt * ask->page_bytes, MADV_POPULATE_READ);
    int blind = syscall(SYS_move_pages, 0, cnt, pages, NULL, nodes, 0) && errno == ENOSYS;
    for (unsigned long i = 0; i < cnt; i++) add(head, runs, at + i, blind ? 0 : nodes[i]);
    at += cnt;
  }
}
