/* fill: fills a workspace and goes on as there is room, so that a test can watch a resize from
   inside.

     fill NAME SIZE BLOCK_MAX      partitions of SIZE bytes, at most BLOCK_MAX of them

   It attaches once and never again. Each partition is written in full. Whenever there is no room it
   prints "full CNT ADDRESS", with what it has by then and where it has mapped the workspace, if it
   got any since it last said so; and tries on. Its standard input tells it what to do: "f" frees
   all but the first and prints "freed", the end makes it look whether all bytes are as it wrote
   them, free everything and exit 0. The socket is $WKSPD_SOCKET. Exit 1 with a sentence on failure.
 */

#include "wksp/wksp.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct filled {
  fd_wksp_t *wksp;
  ulong size, max, cnt;
  ulong *gaddrs;
} filled_t;

static void fail(char const *what) {
  fprintf(stderr, "fill: %s: %s\n", what, wksp_last_error());
  exit(1);
}

static uchar byte_of(ulong i) {
  return (uchar)(i * 7 + 1);
}

/* One more: 1, or 0 if there is no room. */
static int take(filled_t *filled) {
  if (filled->cnt == filled->max) return 0;
  ulong gaddr = fd_wksp_alloc(filled->wksp, 64, filled->size, 1 + filled->cnt % 5);
  if (!gaddr && wksp_last_error_code() != WKSP_E_NOMEM) fail("alloc");
  if (!gaddr) return 0;
  memset(fd_wksp_laddr_fast(filled->wksp, gaddr), byte_of(filled->cnt), filled->size);
  filled->gaddrs[filled->cnt++] = gaddr;
  return 1;
}

static void check(filled_t const *filled) {
  for (ulong i = 0; i < filled->cnt; i++) {
    uchar const *bytes = fd_wksp_laddr_fast(filled->wksp, filled->gaddrs[i]);
    for (ulong k = 0; k < filled->size; k++)
      if (bytes[k] != byte_of(i)) {
        fprintf(stderr, "fill: byte %lu of block %lu is lost\n", k, i);
        exit(1);
      }
  }
}

static void give(filled_t *filled, ulong keep) {
  check(filled);
  while (filled->cnt > keep)
    if (fd_wksp_free(filled->wksp, filled->gaddrs[--filled->cnt])) fail("free");
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  filled_t filled = {.size = strtoul(argv[2], NULL, 0), .max = strtoul(argv[3], NULL, 0)};
  filled.gaddrs = calloc(filled.max, sizeof(ulong));
  filled.wksp = fd_wksp_attach(argv[1]);
  if (!filled.gaddrs || !filled.wksp) fail("attach");
  ulong told = ~0UL;
  for (int idle = 0;;) {
    if (!idle && take(&filled)) continue;
    if (!idle && told != filled.cnt) {
      told = filled.cnt;
      printf("full %lu %p\n", filled.cnt, (void *)filled.wksp);
      fflush(stdout);
    }
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&in, 1, 1) <= 0) continue;
    char what;
    if (read(STDIN_FILENO, &what, 1) != 1) break;
    if (what != 'f') continue;
    give(&filled, 1);
    idle = 1; /* takes nothing any more */
    puts("freed");
    fflush(stdout);
  }
  give(&filled, 0);
  if (fd_wksp_detach(filled.wksp)) fail("detach");
  free(filled.gaddrs);
  return 0;
}
