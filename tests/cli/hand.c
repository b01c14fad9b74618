/* hand: does to a workspace what wkspctl has no command for, so that its tests have something to
   show: partitions, roots, being attached, damage. Knows no more than the public headers.

     hand part NAME TAG SIZE             prints the gaddr
     hand root NAME HEX GADDR TAG        binds the root whose name's bytes are HEX
     hand hold NAME rw|ro                prints "held", stays attached until standard input ends
     hand lock NAME -                    takes the lock, prints "locked", then as hold
     hand kill NAME GADDR SIZE           takes a block of the fd_alloc there, prints its gaddr, dies
     hand scribble NAME LO HI BYTE       overwrites [LO, HI) of what precedes the data (0 0: all but
                                         the first page), prints "scribbled", then as hold

   The socket is $WKSPD_SOCKET. Exit 1 with the library's sentence on failure. */

#include "wksp/wksp.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(char const *what) {
  fprintf(stderr, "hand: %s: %s\n", what, wksp_last_error());
  exit(1);
}

static ulong number(char const *text) {
  char *end;
  ulong const value = strtoul(text, &end, 0);
  if (!*text || *end) fail(text);
  return value;
}

/* Prints a line that the test waits for, then waits for the test to let go. */
static void hold(char const *line) {
  puts(line);
  fflush(stdout);
  while (getchar() != EOF) continue;
}

static int root(fd_wksp_t *wksp, char const *hex, ulong gaddr, ulong tag) {
  char name[FD_WKSP_ROOT_NAME_MAX + 1] = "";
  for (size_t i = 0; i < FD_WKSP_ROOT_NAME_MAX && hex[2 * i]; i++) {
    char const byte[5] = {'0', 'x', hex[2 * i], hex[2 * i + 1], '\0'};
    name[i] = (char)number(byte);
  }
  return fd_wksp_root_set(wksp, name, gaddr, tag);
}

static void scribble(fd_wksp_t *wksp, ulong lo, ulong hi, int byte) {
  if (!hi) {
    lo = 4096;
    hi = fd_wksp_gaddr_lo(wksp);
  }
  memset(fd_wksp_laddr_fast(wksp, lo), byte, hi - lo);
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  char const *what = argv[1];
  int const ro = !strcmp(what, "hold") && !strcmp(argv[3], "ro");
  wksp_client_t *client = wksp_client_connect(NULL);
  if (!client) fail("connect");
  fd_wksp_t *wksp = wksp_client_attach(client, argv[2], ro ? WKSP_ATTACH_RO : WKSP_ATTACH_RW);
  if (!wksp) fail("attach");

  if (!strcmp(what, "hold")) {
    hold("held");
  } else if (!strcmp(what, "lock")) {
    if (fd_wksp_lock(wksp, 10000000000UL)) fail("lock");
    hold("locked");
    if (fd_wksp_unlock(wksp)) fail("unlock");
  } else if (!strcmp(what, "part") && argc == 5) {
    ulong const gaddr = fd_wksp_alloc(wksp, 0, number(argv[4]), number(argv[3]));
    if (!gaddr) fail("part");
    printf("0x%lx\n", gaddr);
  } else if (!strcmp(what, "root") && argc == 6) {
    if (root(wksp, argv[3], number(argv[4]), number(argv[5]))) fail("root");
  } else if (!strcmp(what, "kill") && argc == 5) {
    fd_alloc_t *alloc = fd_alloc_join(fd_wksp_laddr(wksp, number(argv[3])), 0);
    void *block = fd_alloc_malloc(alloc, 0, number(argv[4]));
    if (!block) fail("kill");
    printf("0x%lx\n", fd_wksp_gaddr(wksp, block));
    fflush(stdout);
    raise(SIGKILL);
  } else if (!strcmp(what, "scribble") && argc == 6) {
    scribble(wksp, number(argv[3]), number(argv[4]), (int)number(argv[5]));
    hold("scribbled");
    /* No detach: it would work with what was destroyed. */
    _exit(0);
  } else {
    return 2;
  }
  if (fd_wksp_detach(wksp)) fail("detach");
  wksp_client_close(client);
  return 0;
}
