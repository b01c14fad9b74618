/* labour: programs that use workspaces while their daemon is restarted, killed and replaced.

     labour setup NAME                 makes the fd_alloc that workers share
     labour work NAME BOARD PLACE SEED allocates, frees and checks, and never calls the daemon again
     labour call PREFIX BOARD PLACE    creates and removes workspaces of its own, without end
     labour many PREFIX CNT SIZE       creates CNT workspaces

   A worker's blocks are filled with a pattern of their address and size. Each is checked whole
   before it is freed, and all of them every CHECK_OPS operations and at the end.

   A caller's names are used once and by nobody else. So EXISTS in answer to a create, or NOTFOUND
   in answer to a remove, says that the call was done twice. AGAIN leaves open whether it was done:
   the caller looks, and both are right.

   work and call run until SIGTERM; then they check and clean up, print their figures and exit 0.
   BOARD is a file of words; the one at PLACE counts their operations for the driver. The socket is
   $WKSPD_SOCKET or the default.

   Refuses: to go on after an error. It says what it was and exits with 1. */

#include "../proc/children.h"

#include "wksp/wksp.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TAG         7UL
#define LIVE_MAX    400
#define CHECK_OPS   500
#define BLOCK_MAX   20000UL
#define CALL_SIZE   (1UL << 20)
#define BOARD_WORDS 512
#define TIMEOUTS_MAX \
  40 /* a malloc may wait for the lock of a process that has no processor: tries */

typedef struct block {
  ulong *words;
  ulong size;
} block_t;

static sig_atomic_t volatile stop;

static void on_term(int number) {
  stop = 1;
}

static wksp_client_t *connect_or_die(void) {
  wksp_client_t *client = wksp_client_connect(NULL);
  if (!client) die("connect");
  return client;
}

static ulong number(char const *text) {
  char *end;
  ulong value = strtoul(text, &end, 0);
  if (*end || !*text) die("'%s' is not a number", text);
  return value;
}

/* This process's word on the board. */
static _Atomic ulong *board_word(char const *path, char const *place) {
  ulong at = number(place);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  _Atomic ulong *board = MAP_FAILED;
  if (at >= BOARD_WORDS) die("place %lu: the board has %d words", at, BOARD_WORDS);
  if (fd >= 0)
    board = mmap(NULL, BOARD_WORDS * sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (board == MAP_FAILED) die("board %s: %m", path);
  close(fd);
  return &board[at];
}

/* Working
 * ------------------------------------------------------------------------------------------ */

static ulong word_of(fd_wksp_t const *wksp, block_t const *block, ulong i) {
  return (fd_wksp_gaddr_fast(wksp, block->words) + i) * 0x9e3779b97f4a7c15UL ^ block->size;
}

static void block_write(fd_wksp_t const *wksp, block_t const *block) {
  for (ulong i = 0; i < block->size / sizeof(ulong); i++) block->words[i] = word_of(wksp, block, i);
}

static void block_check(fd_wksp_t const *wksp, block_t const *block) {
  for (ulong i = 0; i < block->size / sizeof(ulong); i++)
    if (block->words[i] != word_of(wksp, block, i))
      die("word %lu of block %lu of %lu bytes is %lx, not %lx", i,
          fd_wksp_gaddr_fast(wksp, block->words), block->size, block->words[i],
          word_of(wksp, block, i));
}

static ulong *malloc_or_die(fd_alloc_t *alloc, ulong size, ulong *timeouts) {
  for (int i = 0; i < TIMEOUTS_MAX; i++) {
    ulong *words = fd_alloc_malloc(alloc, 0, size);
    if (words) return words;
    if (wksp_last_error_code() != WKSP_E_TIMEDOUT) break;
    ++*timeouts;
  }
  die("malloc of %lu bytes", size);
}

static int setup(char const *name) {
  wksp_client_t *client = connect_or_die();
  fd_wksp_t *wksp = wksp_client_attach(client, name, WKSP_ATTACH_RW);
  if (!wksp) die("attach %s", name);
  ulong gaddr = fd_wksp_alloc(wksp, fd_alloc_align(), fd_alloc_footprint(), TAG);
  void *mem = gaddr ? fd_wksp_laddr(wksp, gaddr) : NULL;
  if (!mem || !fd_alloc_new(mem, TAG)) die("fd_alloc in %s", name);
  if (fd_wksp_root_set(wksp, "labour", gaddr, TAG)) die("root in %s", name);
  fd_wksp_detach(wksp);
  wksp_client_close(client);
  return 0;
}

static int work(char const *name, _Atomic ulong *ops, ulong seed) {
  static block_t live[LIVE_MAX];
  ulong timeouts = 0;
  fd_wksp_root_t root;
  random_state = seed | 1;
  wksp_client_t *client = connect_or_die();
  fd_wksp_t *wksp = wksp_client_attach(client, name, WKSP_ATTACH_RW);
  if (!wksp) die("attach %s", name);
  if (fd_wksp_root_find(wksp, "labour", &root)) die("root in %s", name);
  fd_alloc_t *alloc = fd_alloc_join(fd_wksp_laddr(wksp, root.gaddr), seed);
  if (!alloc) die("join");
  while (!stop) {
    block_t *block = &live[rnd(LIVE_MAX)];
    if (block->words) {
      block_check(wksp, block);
      fd_alloc_free(alloc, block->words);
      block->words = NULL;
    } else {
      block->size = 16 + rnd(rnd(8) ? 1024 : BLOCK_MAX);
      block->words = malloc_or_die(alloc, block->size, &timeouts);
      block_write(wksp, block);
    }
    if (atomic_fetch_add(ops, 1) % CHECK_OPS) continue;
    for (int i = 0; i < LIVE_MAX; i++)
      if (live[i].words) block_check(wksp, &live[i]);
  }
  for (int i = 0; i < LIVE_MAX; i++) {
    if (!live[i].words) continue;
    block_check(wksp, &live[i]);
    fd_alloc_free(alloc, live[i].words);
  }
  fd_alloc_leave(alloc);
  fd_wksp_detach(wksp);
  wksp_client_close(client);
  printf("ops=%lu timeouts=%lu\n", atomic_load(ops), timeouts);
  return 0;
}

/* Calling
 * ------------------------------------------------------------------------------------------ */

typedef struct caller {
  wksp_client_t *client;
  ulong created, removed, again;
} caller_t;

/* 1 if the workspace is there. A daemon that is about to stop says AGAIN to a question too. */
static int is_there(caller_t *caller, char const *name) {
  wksp_info_t info;
  int err;
  do {
    err = wksp_client_get(caller->client, name, &info);
  } while (err == WKSP_E_AGAIN);
  if (err && err != WKSP_E_NOTFOUND) die("get %s", name);
  return !err;
}

static void call_create(caller_t *caller, char const *name) {
  wksp_create_t create = {.name = name, .size = CALL_SIZE, .page_size = WKSP_PAGE_4K};
  int err = wksp_client_create(caller->client, &create, NULL);
  if (err == WKSP_E_EXISTS) die("create %s was done twice", name);
  if (err == WKSP_E_AGAIN) {
    caller->again++;
    if (!is_there(caller, name)) return;
  } else if (err) {
    die("create %s", name);
  }
  caller->created++;
}

static void call_remove(caller_t *caller, char const *name) {
  for (;;) {
    int err = wksp_client_remove(caller->client, name, 0);
    if (err == WKSP_E_NOTFOUND) die("remove %s was done twice", name);
    if (err && err != WKSP_E_AGAIN) die("remove %s", name);
    caller->again += err != 0;
    if (!err || !is_there(caller, name)) break;
  }
  caller->removed++;
}

static int call(char const *prefix, _Atomic ulong *ops) {
  caller_t caller = {.client = connect_or_die()};
  for (ulong i = 0; !stop; i++) {
    char name[FD_WKSP_NAME_MAX + 1];
    snprintf(name, sizeof name, "%.16s%lu", prefix, i);
    call_create(&caller, name);
    if (is_there(&caller, name)) call_remove(&caller, name);
    atomic_fetch_add(ops, 1);
  }
  wksp_client_close(caller.client);
  printf("created=%lu removed=%lu again=%lu\n", caller.created, caller.removed, caller.again);
  if (caller.created != caller.removed)
    die("%lu workspaces were not removed by their remove", caller.created - caller.removed);
  return 0;
}

static int many(char const *prefix, ulong cnt, ulong size) {
  wksp_client_t *client = connect_or_die();
  for (ulong i = 0; i < cnt; i++) {
    char name[FD_WKSP_NAME_MAX + 1];
    snprintf(name, sizeof name, "%.16s%lu", prefix, i);
    wksp_create_t create = {.name = name, .size = size, .page_size = WKSP_PAGE_4K, .part_max = 16};
    if (wksp_client_create(client, &create, NULL)) die("create %s", name);
  }
  wksp_client_close(client);
  return 0;
}

int main(int argc, char **argv) {
  struct sigaction action = {.sa_handler = on_term};
  sigaction(SIGTERM, &action, NULL);
  char const *what = argc > 1 ? argv[1] : "";
  if (argc == 3 && !strcmp(what, "setup")) return setup(argv[2]);
  if (argc == 6 && !strcmp(what, "work"))
    return work(argv[2], board_word(argv[3], argv[4]), number(argv[5]));
  if (argc == 5 && !strcmp(what, "call")) return call(argv[2], board_word(argv[3], argv[4]));
  if (argc == 5 && !strcmp(what, "many")) return many(argv[2], number(argv[3]), number(argv[4]));
  fprintf(stderr, "usage: labour setup|work|call|many ..., see labour.c\n");
  return 2;
}
