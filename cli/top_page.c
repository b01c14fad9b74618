/* top_page: what top shows of one workspace.

   The daemon is asked anew each time; only fd_allocs and size classes have to be looked for in the
   memory itself, which look.c does in a process of its own. What cannot be had is said in its place
   and leaves the rest. */

#include "ckpt.h"
#include "look.h"
#include "top.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

render_text_t top_age(top_t const *top, ulong ns) {
  render_text_t text = {"-"};
  ulong const now = top->sample.time_ns, s = now > ns ? (now - ns) / 1000000000UL : 0;
  if (!ns) return text;
  if (s < 120)
    snprintf(text.s, sizeof text.s, "%lus", s);
  else if (s < 7200)
    snprintf(text.s, sizeof text.s, "%lum", s / 60);
  else if (s < 172800)
    snprintf(text.s, sizeof text.s, "%luh", s / 3600);
  else
    snprintf(text.s, sizeof text.s, "%lud", s / 86400);
  return text;
}

static void page_add(top_t *top, char const *fmt, ...) __attribute__((format(printf, 2, 3)));

static void page_add(top_t *top, char const *fmt, ...) {
  if (top->line_cnt == LINES_CAP) return;
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(top->lines[top->line_cnt++], LINE_CAP, fmt, ap);
  va_end(ap);
}

/* Partitions of one tag and kind. */
typedef struct sum {
  ulong tag, cnt, size;
  uint kind;
} sum_t;

static int by_tag_and_kind(void const *a, void const *b) {
  sum_t const *x = a, *y = b;
  if (x->tag != y->tag) return x->tag < y->tag ? -1 : 1;
  return (x->kind > y->kind) - (x->kind < y->kind);
}

static void page_tags(top_t *top, wksp_query_t const *query) {
  sum_t *sums = calloc(query->part_cnt ? query->part_cnt : 1, sizeof *sums);
  if (!sums) return;
  for (ulong i = 0; i < query->part_cnt; i++)
    sums[i] = (sum_t){query->parts[i].tag, 1, query->parts[i].size, query->parts[i].kind};
  qsort(sums, query->part_cnt, sizeof *sums, by_tag_and_kind);
  page_add(top, "%18s %-6s %10s %10s", "TAG", "KIND", "PARTITIONS", "SIZE");
  for (ulong i = 0, next; i < query->part_cnt; i = next) {
    sum_t sum = sums[i];
    for (next = i + 1; next < query->part_cnt && !by_tag_and_kind(&sums[i], &sums[next]); next++) {
      sum.cnt++;
      sum.size += sums[next].size;
    }
    page_add(top, "%18s %-6s %10lu %10s", render_hex(sum.tag).s, render_kind(sum.kind), sum.cnt,
             render_size(sum.size).s);
  }
  free(sums);
}

static void page_allocs(top_t *top, wksp_query_t const *query) {
  look_t *found = malloc(sizeof *found);
  page_add(top, "%s", "");
  if (!found || look(top->cli, top->selected, query->parts, query->part_cnt, found)) {
    page_add(top, "its fd_allocs cannot be looked into: not ours to attach, damaged, or too large");
    free(found);
    return;
  }
  if (!found->alloc_cnt) page_add(top, "no fd_allocs");
  if (found->alloc_cnt)
    page_add(top, "%12s %8s %9s %9s %6s %9s %9s %9s", "FD_ALLOC", "TAG", "SMALL", "SIZE", "LARGE",
             "SIZE", "HEAPS/left", "SUSPECTS");
  for (uint i = 0; i < found->alloc_cnt; i++) {
    fd_alloc_stat_t const *stat = &found->alloc[i].stat;
    char heaps[48];
    snprintf(heaps, sizeof heaps, "%lu/%lu", stat->heap_cnt, stat->heap_left_cnt);
    page_add(top, "%12s %8s %9lu %9s %6lu %9s %9s %9lu", render_hex(found->alloc[i].gaddr).s,
             render_hex(found->alloc[i].tag).s, stat->small_cnt, render_size(stat->small_sz).s,
             stat->large_cnt, render_size(stat->large_sz).s, heaps, stat->suspect_cnt);
  }
  if (found->more_cnt) page_add(top, "and %u more", found->more_cnt);
  page_add(top, "%s", "");
  if (found->class_max)
    page_add(top, "%12s %12s %12s %10s%s", "SIZE CLASS", "BLOCK", "LIVE", "SIZE",
             found->cut ? "  (of the first blocks only)" : "");
  for (uint i = 0; i < found->class_max; i++) {
    ulong const cnt = found->cls[i].cnt;
    if (cnt && i == LOOK_CLASSES_MAX - 1)
      page_add(top, "%12s %12s %12lu %10s", "large", "-", cnt, render_size(found->cls[i].bytes).s);
    else if (cnt)
      page_add(top, "%12u %12s %12lu %10s", i, render_size(found->cls[i].bytes / cnt).s, cnt,
               render_size(found->cls[i].bytes).s);
  }
  free(found);
}

/* Who holds the workspace of the page. */
static int page_client(void *arg, wksp_process_t const *process) {
  top_t *top = arg;
  for (ulong i = 0; i < process->held_cnt; i++) {
    wksp_held_t const *held = &process->held[i];
    if (held->removing || strcmp(held->name, top->selected)) continue;
    char *safe = render_safe(process->comm);
    page_add(top, "%8d %-16s %-12s %-3s %s", process->pid, safe ? safe : "",
             render_user(process->uid).s, held->read_only ? "ro" : "rw",
             held->since_ns ? render_time(held->since_ns).s : "before the daemon's start");
    free(safe);
  }
  return 0;
}

static void page_clients(top_t *top, wksp_info_t const *info) {
  if (!info->attached_rw && !info->attached_ro) return;
  page_add(top, "%s", "");
  page_add(top, "%8s %-16s %-12s %-3s %s", "PID", "COMM", "USER", "HOW", "SINCE");
  if (wksp_client_processes(top->cli->client, page_client, top))
    page_add(top, "not to be had: %s", wksp_last_error());
}

static void page_checkpoints(top_t *top) {
  sample_ckpt_t ckpt;
  wksp_schedule_t schedule;
  if (sample_checkpoints(top->cli->client, top->selected, &ckpt)) {
    page_add(top, "checkpoints: not to be had: %s", wksp_last_error());
    return;
  }
  if (ckpt.cnt)
    page_add(top, "checkpoints: %lu, %s of files, %lu bad; age of the last good %s, verified %s",
             ckpt.cnt, render_size(ckpt.file_size).s, ckpt.bad_cnt,
             top_age(top, ckpt.good ? ckpt.good->created_ns : 0).s,
             top_age(top, ckpt.verified_ns).s);
  else
    page_add(top, "checkpoints: none");
  free(ckpt.good);
  if (!wksp_client_schedule_get(top->cli->client, top->selected, &schedule) && schedule.every_ns)
    page_add(top, "schedule: every %s, the next %s%s", render_span(schedule.every_ns).s,
             render_time(schedule.due_ns).s, schedule.fail_cnt ? "; THE LAST FAILED" : "");
}

/* What is under way for the workspace of the page, or failed lately. */
static int page_job(void *arg, wksp_job_t const *job) {
  top_t *top = arg;
  if (strcmp(job->name, top->selected)) return 0;
  char const *kind = ckpt_job_kind(job->kind);
  if (job->state == WKSP_JOB_QUEUED) page_add(top, "job %lu: %s waits", job->id, kind);
  if (job->state == WKSP_JOB_RUNNING)
    page_add(top, "job %lu: %s, %s of %s", job->id, kind, render_size(job->done_size).s,
             render_size(job->total_size).s);
  if (job->state == WKSP_JOB_FAILED) {
    char *safe = render_safe(job->sentence);
    page_add(top, "job %lu: %s failed: %s", job->id, kind, safe ? safe : "");
    free(safe);
  }
  return 0;
}

static void page_nodes(top_t *top, wksp_info_t const *info) {
  wksp_placement_t placement;
  if (info->quarantined || info->size / info->page_size > SAMPLE_PAGES_MAX ||
      wksp_client_placement(top->cli->client, info->name, &placement))
    return;
  char line[LINE_CAP] = "";
  for (uint i = 0, at = 0; i < placement.node_cnt && at < sizeof line; i++) {
    wksp_place_node_t const *node = &placement.node[i];
    at += (uint)snprintf(line + at, sizeof line - at, "%s%s %s: %lu", i ? ", " : "",
                         node->node < 0 ? "not" : "node",
                         node->node < 0 ? "known" : render_number((ulong)node->node).s, node->got);
  }
  page_add(top, "pages: %s", line);
  wksp_placement_free(&placement);
}

static void page_facts(top_t *top, wksp_info_t const *info, wksp_query_t const *query, int err) {
  page_add(top, "%s: %s of at most %s, pages of %s, mode %s, owner %s:%s", info->name,
           render_size(info->size).s, render_size(info->max_size).s, render_size(info->page_size).s,
           render_mode(info->mode).s, render_user(info->uid).s, render_group(info->gid).s);
  page_add(top, "attached: %u to write, %u to read; made %s", info->attached_rw, info->attached_ro,
           render_time(info->created_ns).s);
  if (info->quarantined || info->read_only) {
    char *safe = render_safe(info->reason);
    page_add(top, "%s: %s", info->quarantined ? "quarantined" : "read-only", safe ? safe : "");
    free(safe);
  }
  page_nodes(top, info);
  page_checkpoints(top);
  if (wksp_client_jobs(top->cli->client, page_job, top)) page_add(top, "jobs: not to be had");
  if (err) {
    page_add(top, "cannot be looked into: %s", wksp_strerror(err));
    return;
  }
  fd_wksp_usage_t const *usage = &query->usage;
  page_add(top, "used: %s in %lu partitions of at most %lu", render_size(usage->used_sz).s,
           usage->used_cnt, usage->total_max);
  page_add(top, "free: %s in %lu, the largest %s; fragmentation %.0f%%",
           render_size(usage->free_sz).s, usage->free_cnt, render_size(usage->free_sz_max).s,
           100 * sample_fragmentation(usage));
  if (query->holder.pid)
    page_add(top, "lock: held by %s (pid %u)%s%s", query->holder.comm, query->holder.pid,
             query->holder.dead ? ", which is dead" : "",
             query->holder.since_ns ? "; somebody waits" : "");
  else
    page_add(top, "lock: free");
  for (ulong i = 0; i < query->root_cnt; i++) {
    char *safe = render_safe(query->roots[i].name);
    page_add(top, "%s%s at %s", i ? "      " : "roots: ", safe ? safe : "",
             render_hex(query->roots[i].gaddr).s);
    free(safe);
  }
  page_add(top, "%s", "");
  page_tags(top, query);
}

void top_page(top_t *top) {
  wksp_client_t *client = top->cli->client;
  wksp_info_t info;
  wksp_query_t query = {.parts = NULL};
  top->line_cnt = 0;
  int err = wksp_client_get(client, top->selected, &info);
  if (err) {
    page_add(top, "%s: %s", top->selected, err == WKSP_E_NOTFOUND ? "is gone" : wksp_strerror(err));
    return;
  }
  err = wksp_client_query(client, top->selected, NULL, 0, &query);
  page_facts(top, &info, &query, err);
  page_clients(top, &info);
  if (err) return;
  page_allocs(top, &query);
  wksp_query_free(&query);
}
