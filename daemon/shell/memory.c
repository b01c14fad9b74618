/* The problem: pages that run out must be an error with figures before anything is handed out,
   never a SIGBUS in a client or a visit of the OOM killer later.

   The model: reserve first, publish after. Ordinary pages have no pool, so what is asked for is
   compared with what the kernel says is available, and with what other makes in progress have been
   promised, before anything is touched. Huge pages have one: mmap takes them from it (ENOMEM) and
   populating fills them in (EFAULT if a node is short). All pages are populated, the library
   formats them, then the memfd is sealed against resizing and further sealing. On several nodes the
   memory prefers the node that makes it.

   A workspace that can grow has a memfd, addresses and tables of its largest size, pages for its
   present one. Growing takes more pages in the same way, by a mapping of just those, where the
   first page lies; shrinking punches them out. Sealed memory cannot be resized, but that it can.

   Refuses: to hand out anything that is not whole; to wait for memory. */

#include "daemon/shell/memory.h"

#include "core/layout.h"
#include "wksp/fd_wksp.h"

#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Populated at a time: between two of these a make can be cancelled. */
#define POPULATE_STEP (256UL << 20)

/* Never taken: what the machine needs to go on. At least this, and 1/64 of all. */
#define RESERVE_MIN (64UL << 20)

/* Folders above a process in the cgroup tree that are looked at. */
#define CGROUP_DEPTH_MAX 32

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* Figures
 * ------------------------------------------------------------------------------------------- */

/* The number at the start of a small file; 0 if there is none. */
static int file_number(char const *path, uint64_t *ret) {
  char text[64];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0 || text[0] < '0' || text[0] > '9') return 0; /* "max" */
  text[n] = '\0';
  *ret = strtoull(text, NULL, 10);
  return 1;
}

uint64_t memory_free_2m(void) {
#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"
  uint64_t avail = 0, resv = 0, over = 0, surplus = 0;
  if (!file_number(POOL "free_hugepages", &avail)) return 0;
  file_number(POOL "resv_hugepages", &resv);
  file_number(POOL "nr_overcommit_hugepages", &over);
  file_number(POOL "surplus_hugepages", &surplus);
#undef POOL
  avail = avail > resv ? avail - resv : 0;
  return avail + (over > surplus ? over - surplus : 0);
}

static uint64_t meminfo(char const *text, char const *key) {
  char const *at = strstr(text, key);
  return at ? strtoull(at + strlen(key), NULL, 10) * 1024 : 0;
}

/* What the cgroups (v2) above this process leave, UINT64_MAX if they set no limit. */
static uint64_t cgroup_free(void) {
  char text[4096], path[4096 + 64];
  uint64_t least = UINT64_MAX;
  int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return least;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return least;
  text[n] = '\0';
  char *group = strstr(text, "0::/");
  if (!group || (group != text && group[-1] != '\n')) return least;
  group += 3;
  group[strcspn(group, "\n")] = '\0';
  for (int i = 0; i < CGROUP_DEPTH_MAX && group[0]; i++) {
    uint64_t max, now;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", group);
    if (file_number(path, &max)) {
      snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.current", group);
      if (file_number(path, &now)) {
        uint64_t left = max > now ? max - now : 0;
        if (left < least) least = left;
      }
    }
    *strrchr(group, '/') = '\0';
  }
  return least;
}

uint64_t memory_free_4k(void) {
  char text[4096];
  int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = '\0';
  uint64_t reserve = meminfo(text, "MemTotal:") / 64;
  uint64_t avail = meminfo(text, "MemAvailable:");
  uint64_t group = cgroup_free();
  if (reserve < RESERVE_MIN) reserve = RESERVE_MIN;
  if (group < avail) avail = group;
  return avail > reserve ? avail - reserve : 0;
}

/* Making
 * -------------------------------------------------------------------------------------------- */

static int fail_sys(memory_fail_t *ret_fail, char const *call) {
  int err = errno;
  *ret_fail = (memory_fail_t){.kind = MEMORY_FAIL_SYS};
  snprintf(ret_fail->text, sizeof ret_fail->text, "%s: %s", call, strerror(err));
  snprintf(ret_fail->hint, sizeof ret_fail->hint, "see the daemon's log");
  return 1;
}

static int fail_pages(memory_fail_t *ret_fail, uint64_t page_size, uint64_t wanted,
                      uint64_t avail) {
  *ret_fail = (memory_fail_t){.kind = MEMORY_FAIL_PAGES, .wanted = wanted, .free = avail};
  if (page_size == MEMORY_PAGE_2M) {
    snprintf(ret_fail->text, sizeof ret_fail->text,
             "%lu huge pages of 2 MiB are wanted, %lu are free", wanted, avail);
    snprintf(ret_fail->hint, sizeof ret_fail->hint,
             "reserve more (sysctl vm.nr_hugepages, as root), or create it with 4k pages");
  } else {
    snprintf(ret_fail->text, sizeof ret_fail->text,
             "%lu pages of 4 KiB are wanted (%lu MiB), %lu can be had (%lu MiB)", wanted,
             wanted >> 8, avail, avail >> 8);
    snprintf(ret_fail->hint, sizeof ret_fail->hint, "ask for less, or end what uses the memory");
  }
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

/* Sizes and partitions of the format for got's max_size, of which size is to be used; both are
 * whole pages. */
static int dimensions(memory_want_t const *want, memory_got_t *got, memory_fail_t *ret_fail) {
  uint64_t part_max = want->part_max ? want->part_max : fd_wksp_part_max_est(got->max_size, 0);
  uint64_t data_max = part_max ? fd_wksp_data_max_est(got->max_size, part_max) : 0;
  if (data_max) got->size_min = memory_size_min(part_max, data_max, got->page_size);
  if (data_max && got->size < got->size_min && got->size < got->max_size) {
    *ret_fail =
        (memory_fail_t){.kind = MEMORY_FAIL_SIZE, .wanted = got->size_min, .free = want->size};
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
    *ret_fail = (memory_fail_t){.kind = MEMORY_FAIL_SIZE, .wanted = least, .free = want->size};
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
  snprintf(label, sizeof label, "wksp:%s", name);
  int fd = memfd_create(label, flags | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = memfd_create(label, flags); /* before Linux 6.3 */
  return fd;
}

/* On one node there is nothing to choose, and no need to ask libnuma. PREFERRED: pages of another
   node are better than none; policies are the user's business later. Hugetlb keeps no policy of the
   memory but of the mapping, so that each has to be told. like: a page of the node to prefer, NULL:
   the one that this thread runs on. */
static void prefer(void *mem, uint64_t size, void *like) {
  if (numa_available() < 0 || numa_num_configured_nodes() < 2) return;
  int node = -1;
  if (!like || get_mempolicy(&node, NULL, 0, like, MPOL_F_NODE | MPOL_F_ADDR)) {
    node = numa_node_of_cpu(sched_getcpu());
  }
  if (node < 0) return;
  struct bitmask *mask = numa_allocate_nodemask();
  numa_bitmask_setbit(mask, (unsigned)node);
  /* a refusal costs speed, not correctness */
  (void)mbind(mem, size, MPOL_PREFERRED, mask->maskp, mask->size + 1, 0);
  numa_free_nodemask(mask);
}

/* Takes all pages. 0; 1 short; 2 cancelled; -1 errno. *claim is what is still promised to us. */
static int populate(memory_t *memory, uint8_t *mem, uint64_t size, uint64_t *claim,
                    _Atomic int const *cancel) {
  for (uint64_t at = 0; at < size;) {
    uint64_t step = size - at < POPULATE_STEP ? size - at : POPULATE_STEP;
    if (atomic_load_explicit(cancel, memory_order_relaxed)) return 2;
    if (madvise(mem + at, step, MADV_POPULATE_WRITE)) {
      if (errno == EINTR || errno == EAGAIN) continue;
      return errno == EFAULT || errno == ENOMEM || errno == ENOSPC ? 1 : -1;
    }
    at += step;
    uint64_t kept =
        step < *claim ? step : *claim; /* less: pages that were there are not promised */
    atomic_fetch_sub(&memory->claimed, kept);
    *claim -= kept;
  }
  return 0;
}

static int format(memory_want_t const *want, memory_got_t const *got, void *mem,
                  memory_fail_t *ret_fail) {
  wksp__geom_t geom = {0};
  (void)wksp__geom(&geom, got->part_max, got->data_max);
  uint64_t data_sz = memory_data_end(geom.data_hi, got->size) - geom.data_lo;
  if (!wksp__new(mem, want->name, want->seed, got->part_max, got->data_max, data_sz)) {
    *ret_fail = (memory_fail_t){.kind = MEMORY_FAIL_SYS};
    snprintf(ret_fail->text, sizeof ret_fail->text, "%s", wksp_last_error());
    snprintf(ret_fail->hint, sizeof ret_fail->hint, "check name and dimensions");
    return 1;
  }
  memcpy(((struct fd_wksp *)mem)->uuid, want->uuid, sizeof want->uuid);
  return 0;
}

/* Whether size bytes are to be had at all; what is promised to this make of ordinary pages is in
 * *ret_claim, to be given back. 0, or 1 and *ret_fail. */
static int afford(memory_t *memory, uint64_t page_size, uint64_t size, uint64_t *ret_claim,
                  memory_fail_t *ret_fail) {
  uint64_t avail;
  if (page_size == MEMORY_PAGE_2M) {
    avail = memory_free_2m();
    return avail < size / page_size ? fail_pages(ret_fail, page_size, size / page_size, avail) : 0;
  }
  uint64_t others = atomic_fetch_add(&memory->claimed, size);
  *ret_claim = size;
  avail = memory_free_4k();
  avail = avail > others ? avail - others : 0;
  return avail < size ? fail_pages(ret_fail, page_size, size / page_size, avail / page_size) : 0;
}

/* Maps the bytes [from, from + size) of fd and takes their pages, on the node of fd's first page if
   that is there already. 0 and *ret_mem, or 1 and *ret_fail; some may have been taken then. */
static int take(memory_t *memory, int fd, uint64_t page_size, uint64_t from, uint64_t size,
                uint64_t *claim, _Atomic int const *cancel, void **ret_mem,
                memory_fail_t *ret_fail) {
  void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)from);
  if (mem == MAP_FAILED) {
    if (errno == ENOMEM && page_size == MEMORY_PAGE_2M)
      return fail_pages(ret_fail, page_size, size / page_size, memory_free_2m());
    return fail_sys(ret_fail, "mmap");
  }
  void *first = from ? mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
  prefer(mem, size, first == MAP_FAILED ? NULL : first);
  if (first != MAP_FAILED) munmap(first, page_size);
  int bad = populate(memory, mem, size, claim, cancel);
  if (!bad) {
    *ret_mem = mem;
    return 0;
  }
  if (bad == 1) {
    fail_pages(ret_fail, page_size, size / page_size,
               page_size == MEMORY_PAGE_2M ? memory_free_2m() : memory_free_4k() / page_size);
  } else if (bad == 2) {
    *ret_fail = (memory_fail_t){.kind = MEMORY_FAIL_CANCELLED};
    snprintf(ret_fail->text, sizeof ret_fail->text, "taking pages was cancelled");
  } else {
    fail_sys(ret_fail, "madvise(MADV_POPULATE_WRITE)");
  }
  munmap(mem, size);
  return 1;
}

static int make_with(memory_t *memory, memory_want_t const *want, uint64_t page_size,
                     _Atomic int const *cancel, memory_got_t *ret_got, memory_fail_t *ret_fail) {
  memory_got_t got = {.fd = -1, .page_size = page_size};
  struct stat st;
  void *mem = NULL;
  uint64_t claim = 0;
  uint64_t max_size = want->max_size ? want->max_size : want->size;
  int bad = 1;

  got.size = (want->size + page_size - 1) & ~(page_size - 1);
  got.max_size = (max_size + page_size - 1) & ~(page_size - 1);
  if (dimensions(want, &got, ret_fail)) return 1;
  if (afford(memory, page_size, got.size, &claim, ret_fail)) goto out;
  got.fd = open_memfd(want->name, page_size);
  if (got.fd < 0 || fchmod(got.fd, 0600) || ftruncate(got.fd, (off_t)got.max_size)) {
    fail_sys(ret_fail, "memfd_create");
    goto out;
  }
  if (take(memory, got.fd, page_size, 0, got.size, &claim, cancel, &mem, ret_fail)) goto out;
  if (format(want, &got, mem, ret_fail)) goto out;
  if (fcntl(got.fd, F_ADD_SEALS, SEALS) || fstat(got.fd, &st)) {
    fail_sys(ret_fail, "fcntl(F_ADD_SEALS)");
    goto out;
  }
  got.inode = st.st_ino;
  *ret_got = got;
  bad = 0;

out:
  if (mem) munmap(mem, got.size);
  if (bad && got.fd >= 0) close(got.fd);
  if (claim) atomic_fetch_sub(&memory->claimed, claim);
  return bad;
}

int memory_punch(int fd, uint64_t from, uint64_t to, memory_fail_t *ret_fail) {
  if (from >= to ||
      !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)))
    return 0;
  return fail_sys(ret_fail, "fallocate(FALLOC_FL_PUNCH_HOLE)");
}

/* In [from, to], how far the pages of fd go if there are no holes. */
static uint64_t held_to(int fd, uint64_t from, uint64_t to) {
  struct stat st;
  uint64_t held = fstat(fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
  return held < from ? from : held > to ? to : held;
}

int memory_fill(memory_t *memory, int fd, uint64_t page_size, uint64_t from, uint64_t to, int keep,
                _Atomic int const *cancel, memory_fail_t *ret_fail) {
  uint64_t claim = 0, there = keep ? held_to(fd, from, to) : from;
  void *mem = NULL;
  int bad = afford(memory, page_size, to - there, &claim, ret_fail);
  if (!bad) {
    bad = take(memory, fd, page_size, from, to - from, &claim, cancel, &mem, ret_fail);
    memory_fail_t unused;
    if (bad && !keep)
      (void)memory_punch(fd, from, to, &unused); /* what it leaves goes with the next punch */
  }
  if (mem) munmap(mem, to - from);
  if (claim) atomic_fetch_sub(&memory->claimed, claim);
  return bad;
}

int memory_make(memory_t *memory, memory_want_t const *want, _Atomic int const *cancel,
                memory_got_t *ret_got, memory_fail_t *ret_fail) {
  if (!want->size || want->size > MEMORY_SIZE_MAX ||
      (want->page_size && want->page_size != MEMORY_PAGE_4K && want->page_size != MEMORY_PAGE_2M)) {
    *ret_fail = (memory_fail_t){.kind = MEMORY_FAIL_SIZE};
    snprintf(ret_fail->text, sizeof ret_fail->text,
             "%lu bytes in pages of %lu: 1 to %lu bytes in pages of 4096 or 2097152", want->size,
             want->page_size, MEMORY_SIZE_MAX);
    return 1;
  }
  if (want->max_size && (want->max_size < want->size || want->max_size > MEMORY_SIZE_MAX)) {
    *ret_fail = (memory_fail_t){.kind = MEMORY_FAIL_SIZE};
    snprintf(ret_fail->text, sizeof ret_fail->text, "a max-size of %lu bytes: %lu to %lu",
             want->max_size, want->size, MEMORY_SIZE_MAX);
    return 1;
  }
  if (want->page_size) {
    return make_with(memory, want, want->page_size, cancel, ret_got, ret_fail);
  }
  if (want->size >= MEMORY_PAGE_2M) {
    if (!make_with(memory, want, MEMORY_PAGE_2M, cancel, ret_got, ret_fail)) return 0;
    if (ret_fail->kind != MEMORY_FAIL_PAGES) return 1;
  }
  return make_with(memory, want, MEMORY_PAGE_4K, cancel, ret_got, ret_fail);
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
  if (differs((uint64_t)st.st_blksize, is->page_size))
    return "its pages are not of the recorded size";
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
