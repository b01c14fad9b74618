/* dashboard: shows what is in a workspace, again and again, without being able to harm it.

   It attaches read-only: the memory is mapped without the right to write, so no mistake of its own
   can damage what others work with, and nobody waits for it. What it shows is of one moment for
   each table; a writer in mid-change is tried again, and said if it does not finish.

   It sleeps until the daemon tells of an event in the workspace or its period is over.
   Refuses to: write. So it cannot join an fd_alloc to allocate; figures of one it can read. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wksp/wksp.h>

#define TAGS_MAX 32U

static fd_wksp_t *wksp;

static void die(char const *what) {
  fprintf(stderr, "dashboard: %s: %s\n", what, wksp_last_error());
  exit(1);
}

static double mib(ulong bytes) {
  return (double)bytes / (1UL << 20);
}

/* What each tag has of the workspace; beyond TAGS_MAX tags the rest is one line. */
static void show_tags(void) {
  struct {
    ulong tag, cnt, size;
  } sum[TAGS_MAX + 1] = {{0, 0, 0}};
  uint tag_cnt = 0;
  fd_wksp_part_t part = {0, 0, 0, 0};
  int more;
  while ((more = fd_wksp_part_next(wksp, part.gaddr + part.size, &part)) > 0) {
    uint i = 0;
    while (i < tag_cnt && sum[i].tag != part.tag) i++;
    if (i == tag_cnt && tag_cnt < TAGS_MAX) sum[tag_cnt++].tag = part.tag;
    sum[i].cnt++;
    sum[i].size += part.size;
  }
  if (more < 0) printf("  the list is cut off: %s\n", wksp_last_error());
  for (uint i = 0; i <= tag_cnt; i++) {
    if (i == TAGS_MAX && sum[i].cnt)
      printf("  other tags        ");
    else if (i < tag_cnt)
      printf("  tag %-#14lx", sum[i].tag);
    else
      continue;
    printf("%8lu partitions %10.1f MiB\n", sum[i].cnt, mib(sum[i].size));
  }
}

/* What programs have left to be found. A root may be bound to an fd_alloc; if it is, its blocks. */
static void show_roots(void) {
  fd_wksp_root_t root;
  for (uint place = 0; fd_wksp_root_next(wksp, &place, &root) > 0;) {
    printf("  root %-20s at %#lx", root.name, root.gaddr);
    fd_alloc_stat_t stat;
    fd_alloc_t *alloc =
        root.gaddr % fd_alloc_align() ? NULL : fd_alloc_join(fd_wksp_laddr(wksp, root.gaddr), 0);
    if (alloc && !fd_alloc_stat(alloc, &stat))
      printf(": %lu small and %lu large blocks", stat.small_cnt, stat.large_cnt);
    putchar('\n');
  }
}

static int show(char const *name) {
  fd_wksp_usage_t usage;
  int const err = fd_wksp_usage(wksp, NULL, 0, &usage);
  if (err == WKSP_E_AGAIN) {
    printf("%s: somebody is in the middle of a change\n", name);
    return 0;
  }
  if (err) return err;
  printf("%s: %.1f of %.1f MiB used, %lu partitions; free: %.1f MiB, the largest %.1f MiB\n", name,
         mib(usage.used_sz), mib(usage.total_sz), usage.used_cnt, mib(usage.free_sz),
         mib(usage.free_sz_max));
  show_tags();
  show_roots();
  return fflush(stdout) ? WKSP_E_SYS : 0;
}

/* Ends the watch at an event of the workspace. */
static int seen(void *arg, wksp_event_t const *event) {
  return !strcmp(event->name, arg);
}

int main(int argc, char **argv) {
  char const *path = NULL; /* the default socket */
  if (argc > 2 && !strcmp(argv[1], "--socket")) path = argv[2], argv += 2, argc -= 2;
  if (argc < 2 || argc > 3) {
    fputs("usage: dashboard [--socket PATH] WORKSPACE [TIMES]\n", stderr);
    return 2;
  }
  ulong times = argc > 2 ? strtoul(argv[2], NULL, 10) : 0; /* 0: for ever */
  wksp_client_t *client = wksp_client_connect(path);
  if (!client) die("cannot connect");
  wksp = wksp_client_attach(client, argv[1], WKSP_ATTACH_RO);
  if (!wksp) die("cannot attach");
  if (wksp_client_deadline_set(client, 1000)) die("cannot set the period");
  for (ulong i = 1;; i++) {
    if (show(argv[1])) die("cannot look");
    if (i == times) break;
    int const err = wksp_client_watch(client, seen, argv[1]);
    /* The daemon may be away for a while; what is mapped stays. */
    if (err < 0 && err != WKSP_E_TIMEDOUT && err != WKSP_E_AGAIN && err != WKSP_E_NODAEMON)
      die("cannot watch");
  }
  fd_wksp_detach(wksp);
  wksp_client_close(client);
  return 0;
}
