/* cmd_heap_look: heap leaks, query - what is in an fd_alloc.

   The problem: a heap may have millions of blocks, of which a few are of interest. So all are
   counted, and as many are listed as --limit says; those that were in flight when their thread was
   killed always.

   The memory is mapped read-only, so this disturbs nobody; what it says is exact while nobody
   allocates or frees. */

#include "heap.h"
#include "render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a walk of the blocks gathers: all figures, and as many blocks as are to be listed. */
typedef struct leaks {
  fd_alloc_block_t *blocks;
  ulong cnt, max; /* listed, room */
  ulong limit;    /* of listed ones that are no suspects; 0: none */
  ulong live_cnt, live_sz, suspect_cnt;
  int failed; /* no memory */
} leaks_t;

static int leaks_add(void *arg, fd_alloc_block_t const *block) {
  leaks_t *leaks = arg;
  int const suspect = block->kind == FD_ALLOC_BLOCK_SUSPECT;
  leaks->live_cnt++;
  leaks->live_sz += block->size;
  leaks->suspect_cnt += suspect;
  if (leaks->limit && leaks->live_cnt - leaks->suspect_cnt > leaks->limit && !suspect) return 0;
  if (leaks->cnt == leaks->max) {
    ulong const max = fd_alloc_max_expand(leaks->max, 64, leaks->cnt + 1);
    fd_alloc_block_t *blocks = reallocarray(leaks->blocks, max, sizeof *blocks);
    if (!blocks) {
      leaks->failed = 1;
      return 1;
    }
    leaks->blocks = blocks;
    leaks->max = max;
  }
  leaks->blocks[leaks->cnt++] = *block;
  return 0;
}

static char const *block_word(uint kind) {
  switch (kind) {
  case FD_ALLOC_BLOCK_SMALL:
    return "small";
  case FD_ALLOC_BLOCK_LARGE:
    return "large";
  case FD_ALLOC_BLOCK_SUSPECT:
    return "suspect";
  default:
    return "unknown";
  }
}

/* The blocks that are to be listed. */
static json_t *blocks_json(leaks_t const *leaks) {
  json_t *array = json_array();
  int failed = !array;
  for (ulong i = 0; i < leaks->cnt && !failed; i++) {
    fd_alloc_block_t const *block = &leaks->blocks[i];
    json_t *cls = block->cls == FD_ALLOC_CLASS_LARGE ? json_null() : json_integer(block->cls);
    failed = json_array_append_new(
        array, json_pack("{s:o, s:o, s:s, s:o, s:o}", "gaddr", render_json_hex(block->gaddr),
                         "size", render_json_figure(block->size), "kind", block_word(block->kind),
                         "class", cls, "tag", render_json_hex(block->tag)));
  }
  if (failed) {
    json_decref(array);
    return NULL;
  }
  return array;
}

static json_t *leaks_json(heap_t const *heap, leaks_t const *leaks) {
  return json_pack("{s:s, s:o, s:o, s:o, s:o}", "heap",
                   render_place(heap->place.name, heap->place.gaddr).s, "live_cnt",
                   render_json_figure(leaks->live_cnt), "live_size",
                   render_json_figure(leaks->live_sz), "suspect_cnt",
                   render_json_figure(leaks->suspect_cnt), "blocks", blocks_json(leaks));
}

/* The table of blocks, if there are any. */
static int blocks_print(cli_t const *cli, heap_t const *heap, leaks_t const *leaks) {
  if (!leaks->cnt) return CLI_OK;
  static render_column_t const columns[] = {
      {"BLOCK", 0}, {"BYTES", 1}, {"KIND", 0}, {"CLASS", 1}, {"TAG", 0}};
  render_table_t *table = render_table_new(columns, sizeof columns / sizeof *columns);
  for (ulong i = 0; i < leaks->cnt; i++) {
    fd_alloc_block_t const *block = &leaks->blocks[i];
    render_text_t const place = render_place(heap->place.name, block->gaddr);
    render_text_t const size = render_number(block->size), tag = render_hex(block->tag);
    render_text_t const cls = render_number(block->cls);
    render_table_row(table,
                     (char const *[]){place.s, size.s, block_word(block->kind),
                                      block->cls == FD_ALLOC_CLASS_LARGE ? "-" : cls.s, tag.s});
  }
  putchar('\n');
  if (render_table_print(table)) return cli_fail_memory(cli);
  if (leaks->cnt < leaks->live_cnt)
    printf("and %lu more; --limit 0 lists all\n", leaks->live_cnt - leaks->cnt);
  return CLI_OK;
}

static int leaks_print(cli_t const *cli, heap_t const *heap, leaks_t const *leaks) {
  if (cli->json) return render_json(cli, leaks_json(heap, leaks));
  render_text_t const text = render_place(heap->place.name, heap->place.gaddr);
  printf("%s: %lu live block%s of %s, %lu of them suspect\n", text.s, leaks->live_cnt,
         leaks->live_cnt == 1 ? "" : "s", render_size_exact(leaks->live_sz).s, leaks->suspect_cnt);
  return blocks_print(cli, heap, leaks);
}

/* --limit, CLI_OK, or told. */
static int limit_of(cli_t const *cli, cli_args_t const *args, ulong *ret_limit) {
  char const *limit = cli_arg(args, "limit");
  *ret_limit = 1000;
  char const *why = limit ? parse_number(limit, ret_limit) : NULL;
  return why ? cli_fail_usage(cli, "--limit '%s' %s", limit, why) : CLI_OK;
}

/* Gathers the blocks. CLI_OK, and leaks->blocks is to be freed, or told. */
static int leaks_gather(cli_t *cli, heap_t const *heap, ulong limit, leaks_t *ret_leaks) {
  leaks_t leaks = {.limit = limit};
  int const err = fd_alloc_walk(heap->alloc, leaks_add, &leaks);
  if (err || leaks.failed) {
    free(leaks.blocks);
    return leaks.failed ? cli_fail_memory(cli) : cli_fail_wksp(cli, err);
  }
  *ret_leaks = leaks;
  return CLI_OK;
}

/* Lists them. CLI_FOUND if there are any. */
static int leaks_show(cli_t *cli, heap_t const *heap, ulong limit) {
  leaks_t leaks;
  int status = leaks_gather(cli, heap, limit, &leaks);
  if (status) return status;
  status = leaks_print(cli, heap, &leaks);
  free(leaks.blocks);
  return !status && leaks.live_cnt ? CLI_FOUND : status;
}

int cmd_heap_leaks(cli_t *cli, cli_args_t const *args) {
  ulong limit;
  heap_t heap;
  int status = limit_of(cli, args, &limit);
  if (!status) status = heap_open(cli, args->operands[0], WKSP_ATTACH_RO, 0, &heap);
  if (status) return status;
  return heap_close(cli, &heap, leaks_show(cli, &heap, limit));
}

static json_t *figures_json(heap_t const *heap, fd_alloc_stat_t const *stat) {
  return json_pack(
      "{s:s, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "heap",
      render_place(heap->place.name, heap->place.gaddr).s, "tag",
      render_json_hex(fd_alloc_tag(heap->alloc)), "aligned",
      (fd_alloc_flags(heap->alloc) & FD_ALLOC_FLAG_ALIGNED) != 0, "small_cnt",
      render_json_figure(stat->small_cnt), "small_size", render_json_figure(stat->small_sz),
      "large_cnt", render_json_figure(stat->large_cnt), "large_size",
      render_json_figure(stat->large_sz), "span_size", render_json_figure(stat->span_sz),
      "span_free_size", render_json_figure(stat->span_free_sz), "heap_cnt",
      render_json_figure(stat->heap_cnt), "heap_left_cnt", render_json_figure(stat->heap_left_cnt),
      "suspect_cnt", render_json_figure(stat->suspect_cnt), "bad_free_cnt",
      render_json_figure(stat->bad_free_cnt));
}

static void figures_print(heap_t const *heap, fd_alloc_stat_t const *stat) {
  render_fact("heap", "%s", render_place(heap->place.name, heap->place.gaddr).s);
  render_fact("tag", "%s", render_hex(fd_alloc_tag(heap->alloc)).s);
  if (fd_alloc_flags(heap->alloc) & FD_ALLOC_FLAG_ALIGNED)
    render_fact("blocks", "aligned to the next power of two of their size");
  render_fact("small blocks", "%lu, %s", stat->small_cnt, render_size_exact(stat->small_sz).s);
  render_fact("large blocks", "%lu, %s", stat->large_cnt, render_size_exact(stat->large_sz).s);
  render_fact("spans", "%s, of that %s without a live block", render_size_exact(stat->span_sz).s,
              render_size(stat->span_free_sz).s);
  render_fact("thread heaps", "%lu, of them %lu left behind", stat->heap_cnt, stat->heap_left_cnt);
  render_fact("suspects", "%lu blocks in flight when their thread was killed", stat->suspect_cnt);
  render_fact("bad frees", "%lu refused", stat->bad_free_cnt);
  if (stat->late_write_cnt) render_fact("late writes", "%lu to freed blocks", stat->late_write_cnt);
}

/* The figures, and with blocks those, too. */
static int figures_show(cli_t *cli, heap_t const *heap, int blocks, ulong limit) {
  fd_alloc_stat_t stat;
  leaks_t leaks = {.blocks = NULL};
  int const err = fd_alloc_stat(heap->alloc, &stat);
  if (err) return cli_fail_wksp(cli, err);
  int status = blocks ? leaks_gather(cli, heap, limit, &leaks) : CLI_OK;
  if (status) return status;
  if (cli->json) {
    json_t *object = figures_json(heap, &stat);
    if (object && blocks && json_object_set_new(object, "blocks", blocks_json(&leaks))) {
      json_decref(object);
      object = NULL;
    }
    status = render_json(cli, object);
  } else {
    figures_print(heap, &stat);
    status = blocks_print(cli, heap, &leaks);
  }
  free(leaks.blocks);
  return status;
}

static int tag_show(cli_t *cli, heap_t const *heap) {
  ulong const tag = fd_alloc_tag(heap->alloc);
  if (cli->json)
    return render_json(cli, json_pack("{s:s, s:o}", "heap",
                                      render_place(heap->place.name, heap->place.gaddr).s, "tag",
                                      render_json_hex(tag)));
  printf("%s\n", render_hex(tag).s);
  return CLI_OK;
}

/* That it could be joined is all. */
static int test_show(cli_t *cli, heap_t const *heap) {
  if (!cli->json) return CLI_OK;
  return render_json(cli,
                     json_pack("{s:s, s:b}", "heap",
                               render_place(heap->place.name, heap->place.gaddr).s, "joined", 1));
}

enum { WHAT_FIGURES, WHAT_TEST, WHAT_TAG, WHAT_LEAK, WHAT_FULL, WHAT_CNT };

static int what_of(char const *text) {
  static char const *const words[WHAT_CNT] = {NULL, "test", "tag", "leak", "full"};
  int what = text ? WHAT_TEST : WHAT_FIGURES;
  while (text && what < WHAT_CNT && strcmp(text, words[what])) what++;
  return what;
}

int cmd_heap_query(cli_t *cli, cli_args_t const *args) {
  char const *what_text = cli_arg(args, "what");
  int const what = what_of(what_text);
  if (what == WHAT_CNT)
    return cli_fail_usage(cli, "--what '%s' is none of test, tag, leak and full", what_text);
  ulong limit;
  heap_t heap;
  int status = limit_of(cli, args, &limit);
  if (!status) status = heap_open(cli, args->operands[0], WKSP_ATTACH_RO, 0, &heap);
  if (status) return status;
  if (what == WHAT_TEST)
    status = test_show(cli, &heap);
  else if (what == WHAT_TAG)
    status = tag_show(cli, &heap);
  else if (what == WHAT_LEAK)
    status = leaks_show(cli, &heap, limit);
  else
    status = figures_show(cli, &heap, what == WHAT_FULL, limit);
  return heap_close(cli, &heap, status);
}
