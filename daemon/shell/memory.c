/* The problem: pages that run out must be an error with figures before anything is handed out,
   never a SIGBUS in a client or a visit of the OOM killer later.

   The model: reserve first, publish after. Ordinary pages have no pool, so what is asked for is
   compared with what the kernel says is available, and with what other makes in progress have been
   promised, before anything is touched. Huge pages have one: mmap takes them from it (ENOMEM) and
   populating fills them in, each on its node (populate.h; EFAULT if a node is short). All pages are
   populated, the library formats them, then the memfd is sealed against resizing and further
   sealing. What is to be had, and with which pages, is decided by plain code (core/placement.h) on
   what topology.h reads.

   A workspace that can grow has a memfd, addresses and tables of its largest size, pages for its
   present one. Growing takes more pages in the same way, by a mapping of just those, where the same
   policy wants them; shrinking punches them out. Sealed memory cannot be resized, but that it can.

   Refuses: to hand out anything that is not whole; to wait for memory. */

#include "daemon/shell/memory.h"

#include "core/layout.h"
#include "daemon/shell/populate.h"
#include "daemon/shell/topology.h"
#include "wksp/fd_wksp.h"

#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif
#ifndef MFD_HUGE_1GB
#define MFD_HUGE_1GB (30U << 26)
#endif

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* Figures
 * ------------------------------------------------------------------------------------------- */

/* Pages of a size that could be taken now. */
static uint64_t free_of(int size) {
  topo_t *topo = malloc(sizeof *topo);
  if (!topo) return 0;
  topology_read(topo);
  uint64_t cnt = topo_free_all(topo, size);
  free(topo);
  return cnt;
}

uint64_t memory_free_2m(void) {
  return free_of(TOPO_2M);
}

uint64_t memory_free_4k(void) {
  return free_of(TOPO_4K) * MEMORY_PAGE_4K;
}

/* Making
 * -------------------------------------------------------------------------------------------- */

static int fail_sys(memory_fail_t *ret_fail, char const *call) {
  int err = errno;
  *ret_fail = (memory_fail_t){.kind = MEMORY_FAIL_SYS, .node = -1};
  snprintf(ret_fail->text, sizeof ret_fail->text, "%s: %s", call, strerror(err));
  snprintf(ret_fail->hint, sizeof ret_fail->hint, "see the daemon's log");
  return 1;
}

static int fail_place(memory_fail_t *ret_fail, place_fail_t const *fail) {
  *ret_fail =
      (memory_fail_t){.kind = fail->kind == PLACE_SHORT ? MEMORY_FAIL_PAGES : MEMORY_FAIL_SIZE,
                      .node = fail->node,
                      .page_size = topo_page_size(fail->size),
                      .wanted = fail->wanted,
                      .free = fail->free};
  snprintf(ret_fail->text, sizeof ret_fail->text, "%s", fail->text);
  snprintf(ret_fail->hint, sizeof ret_fail->hint, "%s", fail->hint);
  return 1;
}

uint64_t memory_data_end(uint64_t data_hi, uint64_t size) {
  uint64_t end = size & ~(WKSP_SPAN_SZ - 1);
  return end < data_hi ? end : data_hi;
}

uint64_t memory_size_min(uint64_t part_max, uint64_t data_max, uint64_t page_size) {
  wksp__geom_t geom;
  if (wksp__geom(&geom, part_max, data_max)) return 0;
  return (geom.data_lo + WKSP_SPAN_SZ + page_size - 1) & ~(page_size - 1);
}

/* The same for other tables than those of the data_max and part_max that are wanted, which end
   where these do. */
static int refit(memory_want_t const *want, memory_got_t *got, memory_fail_t *ret_fail) {
  wksp__geom_t was, geom;
  uint64_t most = 0;
  if (!wksp__geom(&was, want->part_max, want->data_max) &&
      !wksp__geom_refit(got->max_size, was.data_lo, want->part_max, want->part_min, &geom, &most)) {
    got->part_max = geom.part_max;
    got->data_max = geom.data_max;
    got->size_min = memory_size_min(geom.part_max, geom.data_max, got->page_size);
    if (got->size_min > got->size) got->size_min = got->size;
    return 0;
  }
  *ret_fail =
      (memory_fail_t){.kind = MEMORY_FAIL_SIZE, .node = -1, .wanted = got->max_size, .free = most};
  snprintf(ret_fail->text, sizeof ret_fail->text,
           "a max-size of %lu bytes cannot be: no address changes, so its tables have no more room "
           "than they had, which is enough for %lu bytes at the most",
           got->max_size, most);
  snprintf(ret_fail->hint, sizeof ret_fail->hint, "ask for a max-size of at most %lu bytes", most);
  return 1;
}

/* Sizes and partitions of the format for got's max_size, of which size is to be used; both are
 * whole pages. */
static int dimensions(memory_want_t const *want, memory_got_t *got, memory_fail_t *ret_fail) {
  if (want->part_min) return refit(want, got, ret_fail);
  uint64_t part_max = want->part_max ? want->part_max : fd_wksp_part_max_est(got->max_size, 0);
  uint64_t data_max = part_max ? fd_wksp_data_max_est(got->max_size, part_max) : 0;
  if (want->data_max) data_max = want->data_max <= data_max ? want->data_max : 0;
  if (data_max) got->size_min = memory_size_min(part_max, data_max, got->page_size);
  if (data_max && got->size < got->size_min && got->size < got->max_size) {
    *ret_fail = (memory_fail_t){
        .kind = MEMORY_FAIL_SIZE, .node = -1, .wanted = got->size_min, .free = want->size};
    snprintf(ret_fail->text, sizeof ret_fail->text,
             "its tables, which are those of its max-size of %lu bytes, leave no room for data in "
             "that; the least is %lu bytes",
             got->max_size, got->size_min);
    snprintf(ret_fail->hint, sizeof ret_fail->hint,
             "ask for at least %lu bytes, or a smaller max-size", got->size_min);
    return 1;
  }
  if (got->size_min > got->size) got->size_min = got->size;
  if (!data_max) {
    uint64_t least =
        fd_wksp_footprint(want->part_max ? want->part_max : WKSP_PART_MAX_MIN, WKSP_SPAN_SZ);
    *ret_fail =
        (memory_fail_t){.kind = MEMORY_FAIL_SIZE, .node = -1, .wanted = least, .free = want->size};
    if (!least) {
      snprintf(ret_fail->text, sizeof ret_fail->text, "part_max %lu is not %lu to %lu", part_max,
               WKSP_PART_MAX_MIN, WKSP_PART_MAX_MAX - 1);
      snprintf(ret_fail->hint, sizeof ret_fail->hint, "leave it out for an estimate");
    } else {
      snprintf(ret_fail->text, sizeof ret_fail->text,
               "that is too little for a workspace with its tables, the least is %lu bytes", least);
      snprintf(ret_fail->hint, sizeof ret_fail->hint, "ask for at least %lu bytes", least);
    }
    return 1;
  }
  got->part_max = part_max;
  got->data_max = data_max;
  return 0;
}

static int open_memfd(char const *name, uint64_t page_size) {
  char label[64];
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (page_size == MEMORY_PAGE_2M) flags |= MFD_HUGETLB | MFD_HUGE_2MB;
  if (page_size == MEMORY_PAGE_1G) flags |= MFD_HUGETLB | MFD_HUGE_1GB;
  snprintf(label, sizeof label, "wksp:%s", name);
  int fd = memfd_create(label, flags | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = memfd_create(label, flags); /* before Linux 6.3 */
  return fd;
}

static int format(memory_want_t const *want, memory_got_t const *got, void *mem,
                  memory_fail_t *ret_fail) {
  wksp__geom_t geom = {0};
  (void)wksp__geom(&geom, got->part_max, got->data_max);
  uint64_t data_sz = memory_data_end(geom.data_hi, got->size) - geom.data_lo;
  if (!wksp__new(mem, want->name, want->seed, got->part_max, got->data_max, data_sz)) {
    *ret_fail = (memory_fail_t){.kind = MEMORY_FAIL_SYS, .node = -1};
    snprintf(ret_fail->text, sizeof ret_fail->text, "%s", wksp_last_error());
    snprintf(ret_fail->hint, sizeof ret_fail->hint, "check name and dimensions");
    return 1;
  }
  memcpy(((struct fd_wksp *)mem)->uuid, want->uuid, sizeof want->uuid);
  return 0;
}

/* What is being made: the machine as it was when it began, and what is asked of it. */
typedef struct site {
  memory_t *memory;
  topo_t *topo; /* owned */
  place_layout_t layout;
  int strict;
  _Atomic uint64_t
      claim; /* bytes of ordinary pages that are promised to this make and not taken yet */
  _Atomic int const *cancel;
} site_t;

/* Reads the machine; what others have been promised of ordinary pages is not free. 0, or 1. */
static int site_begin(site_t *site, memory_t *memory, _Atomic int const *cancel,
                      memory_fail_t *ret_fail) {
  *site = (site_t){.memory = memory, .cancel = cancel, .topo = malloc(sizeof *site->topo)};
  if (!site->topo) return fail_sys(ret_fail, "malloc");
  topology_read(site->topo);
  return 0;
}

/* Bytes that are taken are not promised any more. Several threads at a time. */
static void unclaim(void *arg, uint64_t bytes) {
  site_t *site = arg;
  uint64_t left = atomic_load(&site->claim), less;
  do {
    less = left < bytes ? left : bytes; /* pages that were there were not promised */
  } while (!atomic_compare_exchange_weak(&site->claim, &left, left - less));
  atomic_fetch_sub(&site->memory->claimed, less);
}

static void site_end(site_t *site) {
  unclaim(site, UINT64_MAX);
  free(site->topo);
}

/* Ordinary pages have no pool: what is promised to this make counts against others. Then looks
   whether all of it is to be had. 0, or 1 and *ret_fail. */
static int afford(site_t *site, uint64_t from, uint64_t to, memory_fail_t *ret_fail) {
  place_fail_t fail;
  if (site->layout.size == TOPO_4K && to > from) {
    site->claim = (to - from) * MEMORY_PAGE_4K;
    uint64_t others = atomic_fetch_add(&site->memory->claimed, site->claim) / MEMORY_PAGE_4K;
    uint64_t all = topo_free_all(site->topo, TOPO_4K);
    site->topo->size[TOPO_4K].limit = all > others ? all - others : 0;
  }
  return place_afford(&site->layout, site->topo, from, to, site->strict, &fail)
             ? fail_place(ret_fail, &fail)
             : 0;
}

/* Maps size bytes of fd from `from` on; of ordinary pages in step with huge ones, so that the
   kernel can make such of them. MAP_FAILED and errno. */
static void *map(int fd, uint64_t page_size, uint64_t from, uint64_t size) {
  int prot = PROT_READ | PROT_WRITE;
  if (page_size != MEMORY_PAGE_4K || from + size < MEMORY_PAGE_2M)
    return mmap(NULL, size, prot, MAP_SHARED, fd, (off_t)from);
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  uint8_t *room = mmap(NULL, size + MEMORY_PAGE_2M, PROT_NONE, flags, -1, 0);
  if (room == MAP_FAILED) return room;
  uint64_t before = (from - (uintptr_t)room) % MEMORY_PAGE_2M;
  void *mem = mmap(room + before, size, prot, MAP_SHARED | MAP_FIXED, fd, (off_t)from);
  int err = errno;
  if (mem == MAP_FAILED) {
    munmap(room, size + MEMORY_PAGE_2M);
  } else {
    if (before) munmap(room, before);
    munmap(room + before + size, MEMORY_PAGE_2M - before);
  }
  errno = err;
  return mem;
}

/* What populate says, in words. */
static int fail_populate(site_t const *site, int status, populate_got_t const *got,
                         memory_fail_t *ret_fail) {
  if (status == POPULATE_SYS) {
    errno = got->err;
    return fail_sys(ret_fail, got->call);
  }
  if (status == POPULATE_SHORT) {
    place_fail_t fail;
    place_short(site->layout.size, got->node, got->wanted, got->free, &fail);
    return fail_place(ret_fail, &fail);
  }
  *ret_fail = (memory_fail_t){.kind = MEMORY_FAIL_CANCELLED, .node = -1};
  snprintf(ret_fail->text, sizeof ret_fail->text, "taking pages was cancelled");
  return 1;
}

/* Maps the pages [from, to) of fd and takes them. 0 and *ret_mem, or 1 and *ret_fail; some may have
   been taken then. */
static int take(site_t *site, int fd, uint64_t from, uint64_t to, populate_got_t *ret_got,
                void **ret_mem, memory_fail_t *ret_fail) {
  uint64_t page_size = topo_page_size(site->layout.size), size = (to - from) * page_size;
  void *mem = map(fd, page_size, from * page_size, size);
  if (mem == MAP_FAILED) {
    if (errno != ENOMEM || page_size == MEMORY_PAGE_4K) return fail_sys(ret_fail, "mmap");
    place_fail_t fail;
    int huge = site->layout.size;
    topology_read(site->topo);
    site->topo->size[huge].overcommit = 0; /* surplus pages were promised that cannot be made */
    if (!place_afford(&site->layout, site->topo, from, to, site->strict, &fail))
      place_short(huge, -1, to - from, topo_free_all(site->topo, huge), &fail);
    return fail_place(ret_fail, &fail);
  }
  populate_want_t want = {.mem = mem,
                          .layout = &site->layout,
                          .from = from,
                          .to = to,
                          .topo = site->topo,
                          .strict = site->strict,
                          .cancel = site->cancel,
                          .taken = unclaim,
                          .arg = site};
  int status = populate(&want, ret_got);
  if (!status) {
    *ret_mem = mem;
    return 0;
  }
  munmap(mem, size);
  return fail_populate(site, status, ret_got, ret_fail);
}

/* What there is to say of how it went. */
static void note(site_t const *site, char const *why, uint64_t page_cnt, populate_got_t const *got,
                 memory_got_t *ret) {
  char huge[64] = "", away[96] = "";
  if (got->huge)
    snprintf(huge, sizeof huge, "%s%lu of %lu MiB made huge", why[0] ? "; " : "", got->huge >> 20,
             page_cnt * topo_page_size(site->layout.size) >> 20);
  if (got->elsewhere)
    snprintf(away, sizeof away, "%s%lu of %lu pages are on other nodes than wanted",
             why[0] || huge[0] ? "; " : "", got->elsewhere, page_cnt);
  snprintf(ret->note, sizeof ret->note, "%s%s%s", why, huge, away);
  ret->elsewhere = got->elsewhere;
}

static int make_with(site_t *site, memory_want_t const *want, place_plan_t const *plan,
                     memory_got_t *ret_got, memory_fail_t *ret_fail) {
  uint64_t page_size = topo_page_size(plan->layout.size);
  memory_got_t got = {.fd = -1, .page_size = page_size};
  populate_got_t taken;
  struct stat st;
  void *mem = NULL;
  int bad = 1;

  site->layout = plan->layout;
  got.size = plan->page_cnt * page_size;
  got.max_size = plan->layout.total * page_size;
  if (dimensions(want, &got, ret_fail)) return 1;
  if (afford(site, 0, plan->page_cnt, ret_fail)) goto out;
  got.fd = open_memfd(want->name, page_size);
  if (got.fd < 0 || fchmod(got.fd, 0600) || ftruncate(got.fd, (off_t)got.max_size)) {
    fail_sys(ret_fail, "memfd_create");
    goto out;
  }
  if (take(site, got.fd, 0, plan->page_cnt, &taken, &mem, ret_fail)) goto out;
  if (!want->data_max && format(want, &got, mem, ret_fail)) goto out;
  if (fcntl(got.fd, F_ADD_SEALS, SEALS) || fstat(got.fd, &st)) {
    fail_sys(ret_fail, "fcntl(F_ADD_SEALS)");
    goto out;
  }
  got.inode = st.st_ino;
  note(site, plan->why, plan->page_cnt, &taken, &got);
  *ret_got = got;
  bad = 0;

out:
  if (mem) munmap(mem, got.size);
  if (bad && got.fd >= 0) close(got.fd);
  unclaim(site, UINT64_MAX);
  return bad;
}

int memory_punch(int fd, uint64_t from, uint64_t to, memory_fail_t *ret_fail) {
  if (from >= to ||
      !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)))
    return 0;
  return fail_sys(ret_fail, "fallocate(FALLOC_FL_PUNCH_HOLE)");
}

/* The size of the pages of a memfd; 0: the kernel does not say. st_blksize is no help: of ordinary
   pages it says 2 MiB where the kernel is set to make huge ones of them by itself. */
static uint64_t page_size_of(int fd) {
  struct statfs fs;
  return fstatfs(fd, &fs) ? 0 : (uint64_t)fs.f_bsize;
}

/* Looks for pages from at on: one that is there ends at *lo, and from *hi on there is none. */
static void narrow(int fd, uint64_t at, uint64_t *lo, uint64_t *hi) {
  off_t data = lseek(fd, (off_t)at, SEEK_DATA);
  if (data < 0)
    *hi = at;
  else
    *lo = (uint64_t)data + MEMORY_PAGE_4K;
}

uint64_t memory_top(int fd, uint64_t guess) {
  struct stat st;
  if (page_size_of(fd) != MEMORY_PAGE_4K || fstat(fd, &st)) return 0;
  uint64_t lo = 0, hi = (uint64_t)st.st_size & -MEMORY_PAGE_4K;
  if (guess && guess <= hi) {
    narrow(fd, guess - MEMORY_PAGE_4K, &lo, &hi);
    if (guess < hi) narrow(fd, guess, &lo, &hi);
  }
  while (lo < hi) narrow(fd, (lo + (hi - lo) / 2) & -MEMORY_PAGE_4K, &lo, &hi);
  return lo;
}

/* In [from, to], how far the pages of fd go if there are no holes. */
static uint64_t held_to(int fd, uint64_t from, uint64_t to) {
  struct stat st;
  uint64_t held = fstat(fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
  return held < from ? from : held > to ? to : held;
}

/* Without a policy: as near as can be to a node. */
static void prefer(site_t *site, int node) {
  place_ask_t ask;
  place_fail_t fail;
  site->strict = 0;
  site->layout.policy = (place_policy_t){.kind = PLACE_INTERLEAVED, .part_cnt = 1, .weight_sum = 1};
  site->layout.policy.part[0].weight = 1;
  if (node >= 0 && node < (int)TOPO_NODES_MAX) {
    site->layout.policy.part[0].node = (uint16_t)node;
  } else if (!place_parse("", &ask, &fail)) {
    (void)place_resolve(&ask, site->topo, sched_getcpu(), &site->layout.policy, &fail);
  }
}

/* The node of the first page of fd, which is there; -1: not known. */
static int first_node(int fd, uint64_t page_size) {
  int node = -1;
  if (numa_available() < 0) return -1;
  void *first = mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd, 0);
  if (first == MAP_FAILED) return -1;
  if (get_mempolicy(&node, NULL, 0, first, MPOL_F_NODE | MPOL_F_ADDR)) node = -1;
  munmap(first, page_size);
  return node;
}

int memory_fill(memory_t *memory, int fd, memory_fill_t const *fill, _Atomic int const *cancel,
                memory_got_t *ret_got, memory_fail_t *ret_fail) {
  site_t site;
  populate_got_t taken;
  memory_got_t got = {.fd = -1, .page_size = fill->page_size};
  void *mem = NULL;
  uint64_t page = fill->page_size;
  if (site_begin(&site, memory, cancel, ret_fail)) return 1;
  site.layout = (place_layout_t){
      .policy = fill->policy, .size = topo_size_of(page), .total = fill->max_size / page};
  site.strict = fill->strict;
  if (!fill->policy.kind) prefer(&site, first_node(fd, page));
  uint64_t there = fill->keep ? held_to(fd, fill->from, fill->to) : fill->from;
  int bad = afford(&site, there / page, fill->to / page, ret_fail) ||
            take(&site, fd, fill->from / page, fill->to / page, &taken, &mem, ret_fail);
  memory_fail_t unused;
  if (bad && !fill->keep)
    (void)memory_punch(fd, fill->from, fill->to, &unused); /* else it goes with the next punch */
  if (mem) munmap(mem, fill->to - fill->from);
  if (!bad) {
    note(&site, "", (fill->to - fill->from) / page, &taken, &got);
    *ret_got = got;
  }
  site_end(&site);
  return bad;
}

__attribute__((format(printf, 2, 3))) static int fail_size(memory_fail_t *ret_fail,
                                                           char const *format, ...) {
  va_list args;
  *ret_fail = (memory_fail_t){.kind = MEMORY_FAIL_SIZE, .node = -1};
  va_start(args, format);
  vsnprintf(ret_fail->text, sizeof ret_fail->text, format, args);
  va_end(args);
  return 1;
}

/* The plan, then the making; auto goes on to smaller pages when what was planned has gone
 * meanwhile. */
static int make_planned(site_t *site, memory_want_t const *want, memory_got_t *ret_got,
                        memory_fail_t *ret_fail) {
  uint64_t max_size = want->max_size ? want->max_size : want->size;
  for (;;) {
    place_plan_t plan;
    place_fail_t fail;
    if (place_plan(&site->layout.policy, site->topo, site->strict, want->size, max_size,
                   want->page_size, &plan, &fail))
      return fail_place(ret_fail, &fail);
    int bad = make_with(site, want, &plan, ret_got, ret_fail);
    if (!bad || ret_fail->kind != MEMORY_FAIL_PAGES || want->page_size ||
        plan.layout.size == TOPO_4K)
      return bad;
    topology_read(site->topo);
    for (int size = plan.layout.size; size < TOPO_SIZE_CNT; size++)
      site->topo->size[size].limit = 0;
  }
}

int memory_make(memory_t *memory, memory_want_t const *want, _Atomic int const *cancel,
                memory_got_t *ret_got, memory_fail_t *ret_fail) {
  site_t site;
  if (!want->size || want->size > MEMORY_SIZE_MAX ||
      (want->page_size && topo_size_of(want->page_size) < 0))
    return fail_size(ret_fail,
                     "%lu bytes in pages of %lu: 1 to %lu bytes in pages of 4096, 2097152 or "
                     "1073741824",
                     want->size, want->page_size, MEMORY_SIZE_MAX);
  if (want->max_size && (want->max_size < want->size || want->max_size > MEMORY_SIZE_MAX))
    return fail_size(ret_fail, "a max-size of %lu bytes: %lu to %lu", want->max_size, want->size,
                     MEMORY_SIZE_MAX);
  if (site_begin(&site, memory, cancel, ret_fail)) return 1;
  site.layout.policy = want->policy;
  site.strict = want->strict;
  if (!want->policy.kind) prefer(&site, -1);
  int bad = make_planned(&site, want, ret_got, ret_fail);
  site_end(&site);
  return bad;
}

/* What differs between two figures of which one may be of no interest. */
static int differs(uint64_t found, uint64_t wanted) {
  return wanted && found != wanted;
}

char const *memory_check(int fd, memory_is_t const *is) {
  struct stat st;
  struct fd_wksp header;
  if (fstat(fd, &st) || !S_ISREG(st.st_mode)) return "what was kept is not memory";
  if (differs(st.st_ino, is->inode)) return "what was kept is another memfd (inode)";
  if (differs((uint64_t)st.st_size, is->max_size)) return "its size is not the recorded one";
  if (differs(page_size_of(fd), is->page_size)) return "its pages are not of the recorded size";
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & SEALS) != SEALS) return "it is not sealed against resizing";
  if (pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header) {
    return "its header cannot be read";
  }
  if (header.magic != WKSP_MAGIC) return "its header does not say that it is a workspace";
  if (memcmp(header.uuid, is->uuid, sizeof header.uuid)) {
    return "the uuid in its header is not its own";
  }
  if (differs(header.layout_version, is->layout_version)) {
    return "the layout version in its header is not the recorded one";
  }
  if (differs(header.geometry_hash, is->geometry_hash)) {
    return "the geometry in its header is not the recorded one";
  }
  if (differs(header.part_max, is->part_max) || differs(header.data_max, is->data_max)) {
    return "the dimensions in its header are not the recorded ones";
  }
  return NULL;
}

int memory_access(int fd, char *ret_why, size_t why_cap) {
  struct fd_wksp header;
  if (pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header) {
    snprintf(ret_why, why_cap, "its header cannot be read");
    return WKSP_ACCESS_NONE;
  }
  int access = wksp__access(&header);
  int known = wksp__layout_access(header.layout_version, header.geometry_hash);
  if (!known)
    snprintf(ret_why, why_cap,
             "it has layout %u, geometry %016lx; this daemon knows layout %u, geometry %016lx",
             header.layout_version, header.geometry_hash, WKSP_LAYOUT_VERSION,
             wksp__geometry_hash());
  else if (access == WKSP_ACCESS_NONE)
    snprintf(ret_why, why_cap, "it uses features 0x%lx that this daemon does not know",
             header.incompat & ~WKSP_INCOMPAT_KNOWN);
  else if (access == WKSP_ACCESS_RO)
    snprintf(ret_why, why_cap, "with layout %u and features 0x%lx this daemon can only read it",
             header.layout_version, header.ro_compat & ~WKSP_RO_COMPAT_KNOWN);
  return access;
}

int memory_unfinished(int fd) {
  struct stat st;
  uint64_t magic = 1;
  int seals = fcntl(fd, F_GET_SEALS);
  return !fstat(fd, &st) && S_ISREG(st.st_mode) && seals >= 0 && (seals & SEALS) == SEALS &&
         pread(fd, &magic, sizeof magic, 0) == (ssize_t)sizeof magic && !magic;
}

int memory_claims(int fd, char ret_name[40], uint8_t ret_uuid[16]) {
  struct stat st;
  struct fd_wksp header;
  if (fstat(fd, &st) || !S_ISREG(st.st_mode)) return 0;
  if (pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header) return 0;
  if (header.magic != WKSP_MAGIC) return 0;
  _Static_assert(sizeof header.name == 40, "names of workspaces");
  for (size_t i = 0; i < sizeof header.name; i++) {
    unsigned char c = (unsigned char)header.name[i];
    ret_name[i] = (char)(!c || (c > 0x20 && c < 0x7f) ? c : '?');
  }
  ret_name[sizeof header.name - 1] = '\0';
  memcpy(ret_uuid, header.uuid, sizeof header.uuid);
  return 1;
}

int memory_reopen_ro(int fd) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return open(path, O_RDONLY | O_CLOEXEC);
}
