/* cmd_heap: heap new, malloc, free, compact, leaks, query, rm - an fd_alloc, worked on by hand.

   The problem: a heap is found by an address that somebody types. Joining at a wrong one would let
   the allocator take arbitrary bytes for its state, so the address must first be the start of a
   partition that fd_wksp_alloc gave out, large enough for a heap; then fd_alloc_join judges.

   Unlike the commands on workspaces these map the memory and change it in this process, as any
   program that uses the heap does. A kill in between is as harmless as to those. What was allocated
   is freed again if its address could not be printed, for nobody would know it. */

#include "cli.h"
#include "parse.h"
#include "render.h"

#include "wksp/fd_alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct heap {
  parse_place_t place;
  fd_wksp_t *wksp;
  void *shalloc;     /* where its state is */
  fd_alloc_t *alloc; /* NULL once it has been left */
} heap_t;

/* Sets heap->shalloc, if heap->place is where a heap can be. CLI_OK or told. */
static int heap_check(cli_t const *cli, heap_t *heap) {
  parse_place_t const *place = &heap->place;
  void *shalloc = fd_wksp_laddr(heap->wksp, place->gaddr);
  if (!shalloc) return cli_fail_wksp(cli, 0);
  fd_wksp_part_t part;
  int const found = fd_wksp_part_next(heap->wksp, place->gaddr, &part);
  if (found < 0) return cli_fail_wksp(cli, found);
  if (!found || part.gaddr != place->gaddr || part.kind != FD_WKSP_KIND_USER ||
      part.size < FD_ALLOC_FOOTPRINT || part.gaddr % FD_ALLOC_ALIGN)
    return cli_fail(cli, "WKSP_E_NOTFOUND",
                    "%s is no heap: no partition that could hold one begins there; take the "
                    "address that heap new printed, or look at wkspctl query %s",
                    render_place(place->name, place->gaddr).s, place->name);
  heap->shalloc = shalloc;
  return CLI_OK;
}

/* Detaches, if it is attached. status, or told. */
static int heap_close(cli_t const *cli, heap_t *heap, int status) {
  if (heap->alloc) fd_alloc_leave(heap->alloc);
  if (heap->wksp && fd_wksp_detach(heap->wksp) && (status == CLI_OK || status == CLI_FOUND))
    status = cli_fail_wksp(cli, 0);
  *heap = (heap_t){.wksp = NULL};
  return status;
}

/* Attaches and joins the heap that text names. CLI_OK and *ret_heap, or told. */
static int heap_open(cli_t *cli, char const *text, int how, ulong cgroup, heap_t *ret_heap) {
  heap_t heap = {.wksp = NULL};
  char const *why = parse_place(text, &heap.place);
  if (why) return cli_fail_usage(cli, "HEAP '%s' %s", text, why);
  int status = cli_attach(cli, heap.place.name, how, NULL, &heap.wksp);
  if (status) return status;
  status = heap_check(cli, &heap);
  if (!status && !(heap.alloc = fd_alloc_join(heap.shalloc, cgroup)))
    status = cli_fail_wksp(cli, 0);
  if (status) return heap_close(cli, &heap, status);
  *ret_heap = heap;
  return CLI_OK;
}

int cmd_heap_new(cli_t *cli, cli_args_t const *args) {
  char const *tag_text = cli_arg(args, "tag"), *name = args->operands[0];
  ulong tag;
  char const *why = parse_tag(tag_text, &tag);
  if (why) return cli_fail_usage(cli, "--tag '%s' %s", tag_text, why);

  heap_t heap = {.wksp = NULL};
  int status = cli_attach(cli, name, WKSP_ATTACH_RW, NULL, &heap.wksp);
  if (status) return status;
  void *shmem = fd_wksp_alloc_laddr(heap.wksp, fd_alloc_align(), fd_alloc_footprint(), tag);
  if (!shmem) return heap_close(cli, &heap, cli_fail_wksp(cli, 0));
  if (fd_alloc_new(shmem, tag)) {
    heap.place.gaddr = fd_wksp_gaddr(heap.wksp, shmem);
    status = render_placed(cli, "heap", name, heap.place.gaddr, fd_alloc_footprint());
    if (status) (void)fd_alloc_delete(shmem);
  } else {
    status = cli_fail_wksp(cli, 0);
  }
  if (status && fd_wksp_free_laddr(heap.wksp, shmem)) (void)cli_fail_wksp(cli, 0);
  return heap_close(cli, &heap, status);
}

int cmd_heap_malloc(cli_t *cli, cli_args_t const *args) {
  char const *size_text = cli_arg(args, "size"), *align_text = cli_arg(args, "align");
  char const *cgroup_text = cli_arg(args, "cgroup");
  ulong size, align = 0, cgroup = 0;
  char const *why = parse_size(size_text, &size);
  if (!why && !size) why = "is no size for a block; ask for 1 byte or more";
  if (why) return cli_fail_usage(cli, "--size '%s' %s", size_text, why);
  if (align_text && (why = parse_size(align_text, &align)))
    return cli_fail_usage(cli, "--align '%s' %s", align_text, why);
  if (cgroup_text && !(why = parse_number(cgroup_text, &cgroup)) &&
      cgroup > FD_ALLOC_JOIN_CGROUP_HINT_MAX)
    why = "is out of range; 0 to 15 can be hinted at";
  if (why) return cli_fail_usage(cli, "--cgroup '%s' %s", cgroup_text, why);

  heap_t heap;
  int status = heap_open(cli, args->operands[0], WKSP_ATTACH_RW, cgroup, &heap);
  if (status) return status;
  ulong usable;
  void *block = fd_alloc_malloc_at_least(heap.alloc, align, size, &usable);
  if (!block) return heap_close(cli, &heap, cli_fail_wksp(cli, 0));
  status = render_placed(cli, "block", heap.place.name, fd_wksp_gaddr(heap.wksp, block), usable);
  if (status) fd_alloc_free(heap.alloc, block);
  return heap_close(cli, &heap, status);
}

/* fd_alloc_free returns nothing; that it refused shows in the last error, which success leaves
   alone. So a refusal is a last error that was not there before. CLI_OK or told. */
static int block_free(cli_t const *cli, heap_t const *heap, ulong gaddr) {
  void *block = fd_wksp_laddr(heap->wksp, gaddr);
  if (!block) return cli_fail_wksp(cli, 0);
  char *before = strdup(wksp_last_error());
  if (!before) return cli_fail_memory(cli);
  fd_alloc_free(heap->alloc, block);
  int const refused = strcmp(before, wksp_last_error()) != 0;
  free(before);
  return refused ? cli_fail_wksp(cli, 0) : CLI_OK;
}

int cmd_heap_free(cli_t *cli, cli_args_t const *args) {
  char const *heap_text = args->operands[0], *block_text = args->operands[1];
  parse_place_t heap_place, place;
  char const *why = parse_place(heap_text, &heap_place);
  if (why) return cli_fail_usage(cli, "HEAP '%s' %s", heap_text, why);
  why = parse_place(block_text, &place);
  if (why) return cli_fail_usage(cli, "BLOCK '%s' %s", block_text, why);
  if (strcmp(place.name, heap_place.name))
    return cli_fail_usage(cli, "BLOCK '%s' is not in the workspace of HEAP '%s'", block_text,
                          heap_text);
  heap_t heap;
  int status = heap_open(cli, heap_text, WKSP_ATTACH_RW, 0, &heap);
  if (status) return status;
  status = block_free(cli, &heap, place.gaddr);
  if (!status) {
    render_text_t const text = render_place(place.name, place.gaddr);
    if (cli->json)
      status = render_json(cli, json_pack("{s:s}", "freed", text.s));
    else
      printf("freed %s\n", text.s);
  }
  return heap_close(cli, &heap, status);
}

int cmd_heap_compact(cli_t *cli, cli_args_t const *args) {
  heap_t heap;
  int status = heap_open(cli, args->operands[0], WKSP_ATTACH_RW, 0, &heap);
  if (status) return status;
  fd_alloc_compacted_t compacted;
  int const err = fd_alloc_compact(heap.alloc, &compacted);
  status = err ? cli_fail_wksp(cli, err)
               : render_compacted(cli, render_place(heap.place.name, heap.place.gaddr).s,
                                  compacted.freed_sz, compacted.skipped_cnt, compacted.skipped_pid,
                                  compacted.skipped_tid);
  return heap_close(cli, &heap, status);
}

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

static json_t *leaks_json(heap_t const *heap, leaks_t const *leaks) {
  json_t *array = json_array();
  int failed = !array;
  for (ulong i = 0; i < leaks->cnt && !failed; i++) {
    fd_alloc_block_t const *block = &leaks->blocks[i];
    failed = json_array_append_new(
        array, json_pack("{s:o, s:o, s:s}", "gaddr", render_json_hex(block->gaddr), "size",
                         render_json_figure(block->size), "kind", block_word(block->kind)));
  }
  if (failed) {
    json_decref(array);
    return NULL;
  }
  return json_pack("{s:s, s:o, s:o, s:o, s:o}", "heap",
                   render_place(heap->place.name, heap->place.gaddr).s, "live_cnt",
                   render_json_figure(leaks->live_cnt), "live_size",
                   render_json_figure(leaks->live_sz), "suspect_cnt",
                   render_json_figure(leaks->suspect_cnt), "blocks", array);
}

static int leaks_print(cli_t const *cli, heap_t const *heap, leaks_t const *leaks) {
  if (cli->json) return render_json(cli, leaks_json(heap, leaks));
  render_text_t const text = render_place(heap->place.name, heap->place.gaddr);
  printf("%s: %lu live block%s of %s, %lu of them suspect\n", text.s, leaks->live_cnt,
         leaks->live_cnt == 1 ? "" : "s", render_size_exact(leaks->live_sz).s, leaks->suspect_cnt);
  if (!leaks->cnt) return CLI_OK;
  static render_column_t const columns[] = {{"BLOCK", 0}, {"BYTES", 1}, {"KIND", 0}};
  render_table_t *table = render_table_new(columns, sizeof columns / sizeof *columns);
  for (ulong i = 0; i < leaks->cnt; i++) {
    fd_alloc_block_t const *block = &leaks->blocks[i];
    render_text_t const place = render_place(heap->place.name, block->gaddr);
    render_text_t const size = render_number(block->size);
    render_table_row(table, (char const *[]){place.s, size.s, block_word(block->kind)});
  }
  putchar('\n');
  if (render_table_print(table)) return cli_fail_memory(cli);
  if (leaks->cnt < leaks->live_cnt)
    printf("and %lu more; --limit 0 lists all\n", leaks->live_cnt - leaks->cnt);
  return CLI_OK;
}

int cmd_heap_leaks(cli_t *cli, cli_args_t const *args) {
  leaks_t leaks = {.limit = 1000};
  char const *limit = cli_arg(args, "limit");
  char const *why = limit ? parse_number(limit, &leaks.limit) : NULL;
  if (why) return cli_fail_usage(cli, "--limit '%s' %s", limit, why);
  heap_t heap;
  int status = heap_open(cli, args->operands[0], WKSP_ATTACH_RO, 0, &heap);
  if (status) return status;
  int const err = fd_alloc_walk(heap.alloc, leaks_add, &leaks);
  if (leaks.failed)
    status = cli_fail_memory(cli);
  else if (err)
    status = cli_fail_wksp(cli, err);
  else if (!(status = leaks_print(cli, &heap, &leaks)) && leaks.live_cnt)
    status = CLI_FOUND;
  free(leaks.blocks);
  return heap_close(cli, &heap, status);
}

int cmd_heap_query(cli_t *cli, cli_args_t const *args) {
  heap_t heap;
  int status = heap_open(cli, args->operands[0], WKSP_ATTACH_RO, 0, &heap);
  if (status) return status;
  fd_alloc_stat_t stat;
  int const err = fd_alloc_stat(heap.alloc, &stat);
  if (err) return heap_close(cli, &heap, cli_fail_wksp(cli, err));
  render_text_t const text = render_place(heap.place.name, heap.place.gaddr);
  ulong const tag = fd_alloc_tag(heap.alloc);
  if (cli->json) {
    json_t *object = json_pack(
        "{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "heap", text.s, "tag",
        render_json_hex(tag), "small_cnt", render_json_figure(stat.small_cnt), "small_size",
        render_json_figure(stat.small_sz), "large_cnt", render_json_figure(stat.large_cnt),
        "large_size", render_json_figure(stat.large_sz), "span_size",
        render_json_figure(stat.span_sz), "span_free_size", render_json_figure(stat.span_free_sz),
        "heap_cnt", render_json_figure(stat.heap_cnt), "heap_left_cnt",
        render_json_figure(stat.heap_left_cnt), "suspect_cnt", render_json_figure(stat.suspect_cnt),
        "bad_free_cnt", render_json_figure(stat.bad_free_cnt));
    return heap_close(cli, &heap, render_json(cli, object));
  }
  render_fact("heap", "%s", text.s);
  render_fact("tag", "%s", render_hex(tag).s);
  render_fact("small blocks", "%lu, %s", stat.small_cnt, render_size_exact(stat.small_sz).s);
  render_fact("large blocks", "%lu, %s", stat.large_cnt, render_size_exact(stat.large_sz).s);
  render_fact("spans", "%s, of that %s without a live block", render_size_exact(stat.span_sz).s,
              render_size(stat.span_free_sz).s);
  render_fact("thread heaps", "%lu, of them %lu left behind", stat.heap_cnt, stat.heap_left_cnt);
  render_fact("suspects", "%lu blocks in flight when their thread was killed", stat.suspect_cnt);
  render_fact("bad frees", "%lu refused", stat.bad_free_cnt);
  if (stat.late_write_cnt) render_fact("late writes", "%lu to freed blocks", stat.late_write_cnt);
  return heap_close(cli, &heap, CLI_OK);
}

int cmd_heap_rm(cli_t *cli, cli_args_t const *args) {
  heap_t heap;
  int status = heap_open(cli, args->operands[0], WKSP_ATTACH_RW, 0, &heap);
  if (status) return status;
  render_text_t const text = render_place(heap.place.name, heap.place.gaddr);
  fd_alloc_leave(heap.alloc);
  heap.alloc = NULL;
  if (!fd_alloc_delete(heap.shalloc) || fd_wksp_free(heap.wksp, heap.place.gaddr))
    return heap_close(cli, &heap, cli_fail_wksp(cli, 0));
  if (cli->json)
    status = render_json(cli, json_pack("{s:s}", "removed", text.s));
  else
    printf("removed %s\n", text.s);
  return heap_close(cli, &heap, status);
}
