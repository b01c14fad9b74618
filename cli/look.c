/* look: see look.h.

   The problem: figures of fd_allocs are in the memory itself, which has to be mapped, and top runs
   for hours. Memory of others may be damaged, may belong to another user (root maps nothing as
   root, cli_attach), and may be large. So a child does it: it attaches, read-only, looks, writes
   what it has found into a pipe and ends; if it faults or takes too long, it is the child that
   ends.

   Nothing lists the fd_allocs of a workspace, but each lies at the start of a page in a partition
   of kind user; fd_alloc_join tells which. One that shares its partition with something before it
   is not found. */

#include "look.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCKS_MAX \
  2000000UL /* that are counted into classes, of all fd_allocs: a fraction of a second */

typedef struct counting {
  look_t *look;
  ulong cnt;
} counting_t;

static int count_block(void *arg, fd_alloc_block_t const *block) {
  counting_t *counting = arg;
  uint const cls = block->cls < LOOK_CLASSES_MAX ? block->cls : LOOK_CLASSES_MAX - 1;
  look_t *look = counting->look;
  look->cls[cls].cnt++;
  look->cls[cls].bytes += block->size;
  if (cls >= look->class_max) look->class_max = cls + 1;
  return ++counting->cnt >= BLOCKS_MAX;
}

static void look_at(fd_wksp_t *wksp, ulong gaddr, counting_t *counting) {
  look_t *look = counting->look;
  look_alloc_t found = {.gaddr = gaddr};
  fd_alloc_t *alloc = fd_alloc_join(fd_wksp_laddr(wksp, gaddr), 0);
  if (!alloc || fd_alloc_stat(alloc, &found.stat)) return;
  found.tag = fd_alloc_tag(alloc);
  if (look->alloc_cnt < LOOK_ALLOCS_MAX)
    look->alloc[look->alloc_cnt++] = found;
  else
    look->more_cnt++;
  if (counting->cnt < BLOCKS_MAX) (void)fd_alloc_walk(alloc, count_block, counting);
  look->cut = counting->cnt >= BLOCKS_MAX;
}

/* The child. It must not touch the terminal, nor the parent's connection. */
static void look_inside(cli_t const *parent, char const *name, fd_wksp_part_t const *parts,
                        ulong part_cnt, int to) {
  cli_t cli = *parent;
  cli.client = NULL;
  int const null = open("/dev/null", O_RDWR);
  struct rlimit const no_core = {0, 0};
  if (null < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0) _exit(1);
  (void)setrlimit(RLIMIT_CORE, &no_core);
  (void)alarm(LOOK_S);
  look_t *found = calloc(1, sizeof *found);
  fd_wksp_t *wksp;
  if (!found || cli_attach(&cli, name, WKSP_ATTACH_RO, NULL, &wksp)) _exit(1);
  counting_t counting = {.look = found};
  for (ulong i = 0; i < part_cnt; i++)
    if (parts[i].kind == FD_WKSP_KIND_USER && parts[i].size >= FD_ALLOC_FOOTPRINT &&
        parts[i].gaddr % FD_ALLOC_ALIGN == 0)
      look_at(wksp, parts[i].gaddr, &counting);
  for (size_t at = 0; at < sizeof *found;) {
    ssize_t const n = write(to, (char const *)found + at, sizeof *found - at);
    if (n <= 0) _exit(1);
    at += (size_t)n;
  }
  _exit(0);
}

int look(cli_t const *cli, char const *name, fd_wksp_part_t const *parts, ulong part_cnt,
         look_t *ret_look) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC)) return CLI_FAILED;
  pid_t const pid = fork();
  if (!pid) {
    /* The alarm must end it, whatever the parent does about signals. */
    close(ends[0]);
    look_inside(cli, name, parts, part_cnt, ends[1]);
  }
  close(ends[1]);
  look_t *got = malloc(sizeof *got);
  size_t at = 0;
  /* Until it closes its end, which it does by ending. */
  for (ssize_t n = 1; pid > 0 && got && n > 0 && at<sizeof *got; at += n> 0 ? (size_t)n : 0)
    n = read(ends[0], (char *)got + at, sizeof *got - at);
  close(ends[0]);
  if (pid > 0)
    while (waitpid(pid, NULL, 0) < 0) continue;
  int const whole = pid > 0 && got && at == sizeof *got && got->alloc_cnt <= LOOK_ALLOCS_MAX &&
                    got->class_max <= LOOK_CLASSES_MAX;
  if (whole) *ret_look = *got;
  free(got);
  return whole ? CLI_OK : CLI_FAILED;
}
