/* ckpt_writer NAME: a program that allocates, writes and frees in a workspace without end, each
   update in a bracket; for each line on its standard input it answers with how many rounds it has
   made since the last, at least one. It ends with its input. */

#include "wksp/client.h"
#include "wksp/fd_alloc.h"
#include "wksp/pause.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCKS 64UL
#define TAG    77UL

static int fail(char const *what) {
  fprintf(stderr, "ckpt_writer: %s: %s\n", what, wksp_last_error());
  return 1;
}

/* 1: a line came; 0: none yet; -1: the end. */
static int asked(void) {
  struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
  char line[16];
  if (poll(&in, 1, 0) <= 0) return 0;
  return read(STDIN_FILENO, line, sizeof line) > 0 ? 1 : -1;
}

int main(int argc, char **argv) {
  wksp_client_t *client = argc > 1 ? wksp_client_connect(NULL) : NULL;
  if (!client) return fail("connect");
  fd_wksp_t *wksp = wksp_client_attach(client, argv[1], WKSP_ATTACH_RW);
  if (!wksp) return fail("attach");
  ulong gaddrs[BLOCKS] = {0}, rounds = 0, round = 0;
  puts("ready");
  fflush(stdout);
  for (int ask = 0;;) {
    ulong *at = &gaddrs[round++ % BLOCKS];
    if (wksp_client_enter(wksp)) return fail("enter");
    if (*at) fd_wksp_free(wksp, *at);
    *at = fd_wksp_alloc(wksp, 64, 1024 + round % 7 * 4096, TAG);
    if (*at) memset(fd_wksp_laddr(wksp, *at), (int)round, 1024);
    wksp_client_leave(wksp);
    rounds++;
    if (!ask) ask = asked();
    if (ask < 0) break;
    if (!ask) continue;
    printf("%lu\n", rounds);
    fflush(stdout);
    rounds = 0;
    ask = 0;
  }
  fd_wksp_detach(wksp);
  wksp_client_close(client);
  return 0;
}
