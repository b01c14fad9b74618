/* heap: what the commands on heaps share (cmd_heap.c, cmd_heap_look.c). */

#ifndef WKSP_CLI_HEAP_H
#define WKSP_CLI_HEAP_H

#include "cli.h"
#include "parse.h"

#include "wksp/fd_alloc.h"

typedef struct heap {
  parse_place_t place;
  fd_wksp_t *wksp;
  void *shalloc;     /* where its state is */
  fd_alloc_t *alloc; /* NULL once it has been left */
} heap_t;

/* Attaches and joins the heap that text names. CLI_OK and *ret_heap, or told. */
int heap_open(cli_t *cli, char const *text, int how, ulong cgroup, heap_t *ret_heap);

/* Detaches, if it is attached. status, or told. */
int heap_close(cli_t const *cli, heap_t *heap, int status);

#endif
