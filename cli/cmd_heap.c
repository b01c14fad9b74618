/* cmd_heap: heap new, malloc, free, compact, rm - an fd_alloc, worked on by hand. What only looks
   is in cmd_heap_look.c.

   The problem: a heap is found by an address that somebody types. Joining at a wrong one would let
   the allocator take arbitrary bytes for its state, so the address must first be the start of a
   partition that fd_wksp_alloc gave out, large enough for a heap; then fd_alloc_join judges.

   Unlike the commands on workspaces these map the memory and change it in this process, as any
   program that uses the heap does. A kill in between is as harmless as to those. What was allocated
   is freed again if its address could not be printed, for nobody would know it. */

#include "heap.h"
#include "render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

int heap_close(cli_t const *cli, heap_t *heap, int status) {
  if (heap->alloc) fd_alloc_leave(heap->alloc);
  if (heap->wksp && fd_wksp_detach(heap->wksp) && (status == CLI_OK || status == CLI_FOUND))
    status = cli_fail_wksp(cli, 0);
  *heap = (heap_t){.wksp = NULL};
  return status;
}

int heap_open(cli_t *cli, char const *text, int how, ulong cgroup, heap_t *ret_heap) {
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
  if (fd_alloc_new_flags(shmem, tag, cli_arg(args, "aligned") ? FD_ALLOC_FLAG_ALIGNED : 0)) {
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

/* --level, in words. */
static int level_of(char const *text) {
  static struct {
    char const *name;
    int level;
  } const levels[] = {{"leave", FD_ALLOC_DELETE_LEAVE},
                      {"quick", FD_ALLOC_DELETE_QUICK},
                      {"tag", FD_ALLOC_DELETE_TAG}};
  for (size_t i = 0; text && i < sizeof levels / sizeof *levels; i++)
    if (!strcmp(text, levels[i].name)) return levels[i].level;
  return text ? -1 : FD_ALLOC_DELETE_QUICK;
}

/* The partition in which the heap was made goes too. Whether it goes with its tag is asked before,
   since afterwards it may be somebody else's. */
static int heap_remove(cli_t const *cli, heap_t *heap, int level) {
  ulong const gaddr = heap->place.gaddr, tag = fd_alloc_tag(heap->alloc);
  int const tagged = fd_wksp_tag(heap->wksp, gaddr) == tag;
  fd_alloc_leave(heap->alloc);
  heap->alloc = NULL;
  if (!fd_alloc_delete_level(heap->shalloc, level)) return cli_fail_wksp(cli, 0);
  if (level == FD_ALLOC_DELETE_TAG && tagged) return CLI_OK;
  return fd_wksp_free(heap->wksp, gaddr) ? cli_fail_wksp(cli, 0) : CLI_OK;
}

int cmd_heap_rm(cli_t *cli, cli_args_t const *args) {
  char const *level_text = cli_arg(args, "level");
  int const level = level_of(level_text);
  if (level < 0)
    return cli_fail_usage(cli, "--level '%s' is none of leave, quick and tag", level_text);
  heap_t heap;
  int status = heap_open(cli, args->operands[0], WKSP_ATTACH_RW, 0, &heap);
  if (status) return status;
  render_text_t const text = render_place(heap.place.name, heap.place.gaddr);
  status = heap_remove(cli, &heap, level);
  if (status) return heap_close(cli, &heap, status);
  if (cli->json)
    status = render_json(cli, json_pack("{s:s}", "removed", text.s));
  else
    printf("removed %s\n", text.s);
  return heap_close(cli, &heap, status);
}
