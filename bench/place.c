/* place: what taking, attaching and reading the memory of workspaces costs.

   Problem: a daemon that takes pages for others, looks where they lie and publishes them afterwards
   must not be dearer than a program that takes them itself.

   Model. Each figure stands beside the plain way to the same thing, measured in turn with it, in an
   order that changes, so that what else happens on the machine happens to both:

     create   the largest workspace that takes half of the pool of 2 MiB pages at the most, beside
              two threads that memset a fresh mapping of as many
     attach   connect, attach and write a word, beside shm_open, mmap and writing a word of a file
              that is there; and the floor of what asks another process (place_floor.h), and of that
              the change of processes alone. Each attach begins when what the last one left has been
              cleared up
     read     words at random places, each place known only when the one before has been read: of a
              workspace in 2 MiB pages, of one in 4 KiB pages (which wkspd has the kernel make huge
              if it can), and of plain shared memory in 4 KiB pages

   A row has the medians of both ways, and of the ratios of neighbours in time the median and what
   lies between their tenths. Each part ends by itself after PART_NS, when it has the least rounds
   that it needs: on a machine that others use it says less and does not take forever.

   Wants a running wkspd (WKSPD_SOCKET) and a pool; scripts/bench place sees to both.

   What it refuses: to say anything about a pool of fewer than 64 pages. */

#include "bench.h"
#include "place_floor.h"

#include "wksp/wksp.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE        (2UL << 20)
#define POOL        "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define ROUNDS      9U
#define ROUNDS_MIN  3U
#define ATTACHES    400U
#define ATTACH_MIN  40U
#define READS       4000000UL
#define READS_STEP  10000UL
#define READS_NS    4000000000UL /* a measurement of reads takes no longer */
#define PART_NS     60000000000UL
#define NAME        "bench-place"
#define SHM         "/wksp-bench-place"
#define PAGES_MIN   64UL
#define WAIT_NS     60000000000UL
#define DEADLINE_MS 600000L /* gigabytes in small pages, on a machine that others use */

static wksp_client_t *client;
static size_t read_bytes = 4UL << 30; /* the other argument, in GiB */
static uint64_t part_until;           /* when the part at work has taken its time */

static uint64_t number(char const *path) {
  char text[32] = "";
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || read(fd, text, sizeof text - 1) <= 0) bench_die("%s cannot be read", path);
  close(fd);
  return strtoull(text, NULL, 10);
}

static void must(int bad, char const *what) {
  if (bad) bench_die("%s: %s", what, wksp_last_error()[0] ? wksp_last_error() : strerror(errno));
}

/* Whether there is another round after these. */
static int goes_on(unsigned rounds, unsigned least, unsigned most) {
  return rounds < least || (rounds < most && bench_now() < part_until);
}

/* One row of cnt rounds of both ways, in ns; per: ns of the unit. The figures are sorted. */
static void row(char const *name, double *ours, double const *others, size_t cnt, double per,
                char const *unit, double goal) {
  double *ratios = bench_alloc(cnt, sizeof *ratios), *plain = bench_alloc(cnt, sizeof *plain);
  for (size_t i = 0; i < cnt; i++) {
    ratios[i] = ours[i] / others[i];
    plain[i] = others[i];
  }
  double ratio = bench_quantile(ratios, cnt, .5);
  printf("%-34s %10.1f %-3s %10.1f %-3s %6.2f %6.2f..%-6.2f", name,
         bench_quantile(ours, cnt, .5) / per, unit, bench_quantile(plain, cnt, .5) / per, unit,
         ratio, bench_quantile(ratios, cnt, .1), bench_quantile(ratios, cnt, .9));
  if (goal > 0) printf(" goal %.2f%s", goal, ratio > goal ? " MISSED" : "");
  putchar('\n');
  free(ratios);
  free(plain);
}

/* Create
 * ------------------------------------------------------------------------------------------------
 */

typedef struct half {
  char *at;
  size_t size;
} half_t;

static void *fill(void *arg) {
  half_t *half = arg;
  memset(half->at, 1, half->size);
  return NULL;
}

/* Two threads memset a fresh mapping. */
static double plain_create(uint64_t size) {
  pthread_t other;
  uint64_t begun = bench_now();
  int fd = memfd_create("bench", MFD_CLOEXEC | MFD_HUGETLB);
  if (fd < 0 || ftruncate(fd, (off_t)size)) bench_die("memfd_create: %s", strerror(errno));
  char *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mem == MAP_FAILED) bench_die("mmap of %lu MiB: %s", size >> 20, strerror(errno));
  half_t halves[2] = {{mem, size / 2}, {mem + size / 2, size - size / 2}};
  if (pthread_create(&other, NULL, fill, &halves[1])) bench_die("no thread");
  fill(&halves[0]);
  pthread_join(other, NULL);
  double ns = (double)(bench_now() - begun);
  munmap(mem, size);
  close(fd);
  return ns;
}

/* The pages of what was before may be on their way back. */
static void wait_free(uint64_t pages) {
  uint64_t until = bench_now() + WAIT_NS;
  while (number(POOL "free_hugepages") < pages)
    if (bench_now() > until) bench_die("%lu huge pages do not become free", pages);
}

static void make(uint64_t size, ulong page_size) {
  wksp_create_t create = {.name = NAME, .size = size, .page_size = page_size, .mode = 0600};
  must(wksp_client_create(client, &create, NULL), "create");
}

static double our_create(uint64_t size) {
  uint64_t begun = bench_now();
  make(size, WKSP_PAGE_2M);
  double ns = (double)(bench_now() - begun);
  must(wksp_client_remove(client, NAME, 0), "remove");
  return ns;
}

static void bench_create(void) {
  double ours[ROUNDS], plain[ROUNDS];
  uint64_t pool = number(POOL "free_hugepages"), size = pool / 2 * HUGE;
  if (pool < PAGES_MIN) {
    printf("create: not measured, %lu huge pages of 2 MiB are free\n", pool);
    return;
  }
  unsigned cnt = 0;
  for (; goes_on(cnt, ROUNDS_MIN, ROUNDS); cnt++) {
    for (unsigned turn = 0; turn < 2; turn++) {
      wait_free(size / HUGE);
      if ((cnt + turn) % 2)
        ours[cnt] = our_create(size);
      else
        plain[cnt] = plain_create(size);
    }
  }
  char name[64];
  snprintf(name, sizeof name, "create %lu MiB, 2M pages", size >> 20);
  row(name, ours, plain, cnt, 1e6, "ms", 1.05);
}

/* Attach
 * ------------------------------------------------------------------------------------------------
 */

static double plain_attach(size_t size) {
  uint64_t begun = bench_now();
  int fd = shm_open(SHM, O_RDWR, 0);
  if (fd < 0) bench_die("shm_open: %s", strerror(errno));
  char *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mem == MAP_FAILED) bench_die("mmap: %s", strerror(errno));
  mem[size / 2]++;
  double ns = (double)(bench_now() - begun);
  munmap(mem, size);
  close(fd);
  return ns;
}

/* A writer that has gone leaves a worker behind, which looks whether it has left anything. */
static void wait_idle(void) {
  wksp_status_t status = {.lease_cnt = 1};
  uint64_t until = bench_now() + WAIT_NS;
  while (status.lease_cnt || status.job_cnt) {
    must(wksp_client_status(client, &status), "status");
    if (bench_now() > until) bench_die("wkspd does not come to rest");
  }
}

static double our_attach(ulong gaddr) {
  wait_idle();
  uint64_t begun = bench_now();
  wksp_client_t *mine = wksp_client_connect(NULL);
  must(!mine, "connect");
  fd_wksp_t *wksp = wksp_client_attach(mine, NAME, WKSP_ATTACH_RW);
  must(!wksp, "attach");
  ++*(char *)fd_wksp_laddr(wksp, gaddr);
  double ns = (double)(bench_now() - begun);
  must(fd_wksp_detach(wksp), "detach");
  wksp_client_close(mine);
  return ns;
}

static void bench_attach(void) {
  static double ours[ATTACHES], plain[ATTACHES], least[ATTACHES], change[ATTACHES];
  size_t size = 64UL << 20;
  make(size, WKSP_PAGE_4K);
  fd_wksp_t *wksp = wksp_client_attach(client, NAME, WKSP_ATTACH_RW);
  must(!wksp, "attach");
  ulong gaddr = fd_wksp_alloc(wksp, 0, 4096, 1);
  must(!gaddr || fd_wksp_detach(wksp), "alloc");
  int fd = shm_open(SHM, O_RDWR | O_CREAT | O_EXCL, 0600);
  if (fd < 0 || ftruncate(fd, (off_t)size)) bench_die("shm_open: %s", strerror(errno));
  void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mem == MAP_FAILED) bench_die("mmap: %s", strerror(errno));
  memset(mem, 1, size);
  munmap(mem, size);
  close(fd);
  floor_begin(size);
  unsigned cnt = 0;
  for (; goes_on(cnt, ATTACH_MIN, ATTACHES); cnt++) {
    for (unsigned turn = 0; turn < 4; turn++) {
      switch ((cnt + turn) % 4) {
      case 0:
        ours[cnt] = our_attach(gaddr);
        break;
      case 1:
        plain[cnt] = plain_attach(size);
        break;
      case 2:
        least[cnt] = floor_attach(size);
        break;
      default:
        change[cnt] = floor_switch();
      }
    }
  }
  floor_end();
  shm_unlink(SHM);
  must(wksp_client_remove(client, NAME, 0), "remove");
  row("attach 64 MiB", ours, plain, cnt, 1e3, "us", 3);
  row("  a bare libuv server's", least, plain, cnt, 1e3, "us", 0);
  row("  a byte there and back", change, plain, cnt, 1e3, "us", 0);
}

/* Read
 * ------------------------------------------------------------------------------------------------
 */

/* One word after the other, where to look next hanging on what was read. ns a word. */
static double reads(uint64_t const *mem, size_t words, uint64_t seed) {
  uint64_t at = seed | 1, begun = bench_now(), done = 0, now = begun;
  for (; done < READS && now - begun < READS_NS; now = bench_now()) {
    for (uint64_t i = 0; i < READS_STEP; i++) {
      at = at * 6364136223846793005UL + 1442695040888963407UL;
      at += mem[(at >> 24) % words];
    }
    done += READS_STEP;
  }
  if (at == 42) putchar(' '); /* so that it is not left out */
  return (double)(now - begun) / (double)done;
}

/* Of a workspace in such pages; 0: there are too few of them. */
static double our_reads(ulong page_size, uint64_t round) {
  wksp_create_t create = {.name = NAME, .size = read_bytes, .page_size = page_size, .mode = 0600};
  if (wksp_client_create(client, &create, NULL)) return 0;
  fd_wksp_t *wksp = wksp_client_attach(client, NAME, WKSP_ATTACH_RW);
  must(!wksp, "attach");
  ulong size = fd_wksp_data_sz(wksp) / 8 * 7, gaddr = fd_wksp_alloc(wksp, 0, size, 1);
  must(!gaddr, "alloc");
  uint64_t *mem = fd_wksp_laddr(wksp, gaddr);
  (void)reads(mem, size / 8, round);
  double ns = reads(mem, size / 8, round + 1);
  must(fd_wksp_detach(wksp), "detach");
  must(wksp_client_remove(client, NAME, 0), "remove");
  return ns;
}

static double plain_reads(uint64_t round) {
  size_t size = read_bytes / 8 * 7;
  int fd = memfd_create("bench", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, (off_t)size)) bench_die("memfd_create: %s", strerror(errno));
  uint64_t *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mem == MAP_FAILED) bench_die("mmap: %s", strerror(errno));
  memset(mem, 0, size);
  (void)reads(mem, size / 8, round);
  double ns = reads(mem, size / 8, round + 1);
  munmap(mem, size);
  close(fd);
  return ns;
}

static void bench_read(void) {
  enum { TURNS = 5, TURNS_MIN = 1 };
  double took[3][TURNS]; /* in pages of 2 MiB, of 4 KiB, plain */
  unsigned cnt = 0;
  for (; goes_on(cnt, TURNS_MIN, TURNS); cnt++) {
    for (unsigned turn = 0; turn < 3; turn++) {
      unsigned way = (cnt + turn) % 3;
      if (cnt) wait_free(read_bytes / HUGE);
      took[way][cnt] =
          way == 2 ? plain_reads(2 * cnt) : our_reads(way ? WKSP_PAGE_4K : WKSP_PAGE_2M, 2 * cnt);
      if (took[way][cnt] > 0) continue;
      printf("read: not measured: %s\n", wksp_last_error());
      return;
    }
  }
  char name[64];
  snprintf(name, sizeof name, "read of %lu MiB, 2M pages", read_bytes >> 20);
  row(name, took[0], took[2], cnt, 1, "ns", 1);
  snprintf(name, sizeof name, "read of %lu MiB, 4k made huge", read_bytes >> 20);
  row(name, took[1], took[2], cnt, 1, "ns", 0);
}

int main(int argc, char **argv) {
  static struct {
    char const *name;
    void (*run)(void);
  } const parts[] = {{"create", bench_create}, {"attach", bench_attach}, {"read", bench_read}};
  size_t part_cnt = sizeof parts / sizeof *parts, only = part_cnt;
  for (int arg = 1; arg < argc; arg++) {
    size_t gib = strtoul(argv[arg], NULL, 10), i = 0;
    while (i < part_cnt && strcmp(argv[arg], parts[i].name)) i++;
    if (i < part_cnt)
      only = i;
    else if (gib >= 1 && gib <= 64)
      read_bytes = gib << 30;
    else
      bench_die("usage: place [create|attach|read] [GiB to read]; scripts/bench place runs it");
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  client = wksp_client_connect(NULL);
  must(!client, "connect");
  must(wksp_client_deadline_set(client, DEADLINE_MS), "deadline");
  printf("%-34s %10s     %10s     %6s %10s\n", "", "wkspd", "plain", "ratio", "p10..p90");
  for (size_t i = 0; i < part_cnt; i++) {
    part_until = bench_now() + PART_NS;
    if (only == part_cnt || only == i) parts[i].run();
  }
  wksp_client_close(client);
  return 0;
}
