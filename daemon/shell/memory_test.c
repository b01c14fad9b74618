/* memory: real memfds. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/layout.h"
#include "daemon/shell/memory.h"
#include "daemon/shell/topology.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static _Atomic int go_on;

static memory_want_t example(uint64_t size, uint64_t page_size) {
  memory_want_t want = {.name = "test", .size = size, .page_size = page_size, .seed = 5};
  memset(want.uuid, 0xab, sizeof want.uuid);
  return want;
}

/* memory_fill without a policy. */
static int fill(memory_t *memory, int fd, uint64_t page_size, uint64_t from, uint64_t to, int keep,
                _Atomic int const *cancel, memory_fail_t *ret_fail) {
  struct stat st;
  memory_got_t got;
  assert_int_equal(fstat(fd, &st), 0);
  memory_fill_t what = {.page_size = page_size,
                        .max_size = (uint64_t)st.st_size,
                        .from = from,
                        .to = to,
                        .keep = keep};
  return memory_fill(memory, fd, &what, cancel, &got, ret_fail);
}

static unsigned open_fds(void) {
  unsigned cnt = 0;
  DIR *dir = opendir("/proc/self/fd");
  while (readdir(dir)) cnt++;
  closedir(dir);
  return cnt;
}

/* Sound memory of got, whatever its pages. */
static void check_made(memory_want_t const *want, memory_got_t const *got) {
  struct stat st;
  assert_int_equal(fstat(got->fd, &st), 0);
  assert_int_equal(st.st_size, got->max_size);
  assert_true(got->max_size >= got->size && got->size_min <= got->size);
  assert_int_equal(st.st_mode & 0777, 0600);
  assert_int_equal((uint64_t)st.st_blocks * 512, got->size); /* every page is there */
  assert_true(got->size >= want->size && got->size - want->size < got->page_size);
  assert_int_equal(got->size % got->page_size, 0);
  assert_int_equal(ftruncate(got->fd, 0), -1);
  assert_int_equal(ftruncate(got->fd, (off_t)got->size * 2), -1);
  assert_int_equal(fcntl(got->fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
  assert_true(fcntl(got->fd, F_GETFD) & FD_CLOEXEC);
  memory_is_t is = {.max_size = got->max_size,
                    .inode = got->inode,
                    .page_size = got->page_size,
                    .part_max = got->part_max,
                    .data_max = got->data_max,
                    .layout_version = WKSP_LAYOUT_VERSION,
                    .geometry_hash = wksp__geometry_hash()};
  memcpy(is.uuid, want->uuid, sizeof is.uuid);
  assert_null(memory_check(got->fd, &is));

  void *mem =
      mmap(NULL, got->max_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, got->fd, 0);
  assert_true(mem != MAP_FAILED);
  assert_int_equal(wksp__header_check(mem, got->max_size), 0);
  fd_wksp_t *wksp = fd_wksp_join(mem);
  assert_non_null(wksp);
  assert_string_equal(fd_wksp_name(wksp), "test");
  assert_int_equal(fd_wksp_seed(wksp), 5);
  assert_int_equal(fd_wksp_data_max(wksp), got->data_max);
  assert_int_equal(fd_wksp_part_max(wksp), got->part_max);
  assert_int_equal(fd_wksp_gaddr_lo(wksp) + fd_wksp_data_sz(wksp),
                   memory_data_end(fd_wksp_gaddr_hi(wksp), got->size));
  ulong gaddr = fd_wksp_alloc(wksp, 0, 4096, 1);
  assert_int_not_equal(gaddr, 0);
  assert_int_equal(fd_wksp_free(wksp, gaddr), 0);
  fd_wksp_leave(wksp);
  munmap(mem, got->max_size);
}

/* Memory in 4 KiB pages is whole, private, sealed, formatted and usable. */
static void small_pages(void **state) {
  memory_t memory = {0};
  memory_want_t want = example((8UL << 20) + 1, MEMORY_PAGE_4K);
  memory_got_t got;
  memory_fail_t bad;
  assert_int_equal(memory_make(&memory, &want, &go_on, &got, &bad), 0);
  assert_int_equal(got.page_size, MEMORY_PAGE_4K);
  check_made(&want, &got);
  assert_int_equal(memory.claimed, 0);
  close(got.fd);
}

/* The same in 2 MiB pages, and what was taken from the pool goes back to it. */
static void huge_pages(void **state) {
  memory_t memory = {0};
  memory_want_t want = example(4UL << 20, MEMORY_PAGE_2M);
  memory_got_t got;
  memory_fail_t bad;
  uint64_t before = memory_free_2m();
  if (before < 2) {
    printf("# missing: 2 free huge pages of 2 MiB (vm.nr_hugepages)\n");
    skip();
  }
  assert_int_equal(memory_make(&memory, &want, &go_on, &got, &bad), 0);
  assert_int_equal(got.page_size, MEMORY_PAGE_2M);
  check_made(&want, &got);
  close(got.fd);
  assert_true(memory_free_2m() >= before);
}

/* Huge pages that are not there: an error with figures and a way out, nothing left open. */
static void huge_pages_short(void **state) {
  memory_t memory = {0};
  memory_want_t want = example(1UL << 44, MEMORY_PAGE_2M);
  memory_got_t got = {.fd = -7};
  memory_fail_t bad;
  unsigned before = open_fds();
  assert_int_equal(memory_make(&memory, &want, &go_on, &got, &bad), 1);
  assert_int_equal(bad.kind, MEMORY_FAIL_PAGES);
  assert_int_equal(bad.wanted, 1UL << 23);
  assert_int_equal(bad.free, memory_free_2m());
  assert_non_null(strstr(bad.hint, "nr_hugepages"));
  assert_int_equal(got.fd, -7);
  assert_int_equal(open_fds(), before);
}

/* More 4 KiB pages than the machine can give are refused with figures before any is touched. */
static void small_pages_short(void **state) {
  memory_t memory = {0};
  uint64_t avail = memory_free_4k();
  memory_want_t want = example(avail + (1UL << 30), MEMORY_PAGE_4K);
  memory_got_t got;
  memory_fail_t bad;
  unsigned before = open_fds();
  assert_true(avail > 0);
  assert_int_equal(memory_make(&memory, &want, &go_on, &got, &bad), 1);
  assert_int_equal(bad.kind, MEMORY_FAIL_PAGES);
  assert_true(bad.wanted > bad.free);
  assert_non_null(strstr(bad.text, "4 KiB"));
  assert_int_equal(memory.claimed, 0);
  assert_int_equal(open_fds(), before);
  /* what others have been promised counts as gone; more than there is, since more comes free */
  memory.claimed = avail + (1UL << 30);
  want.size = 64UL << 20;
  assert_int_equal(memory_make(&memory, &want, &go_on, &got, &bad), 1);
  assert_int_equal(bad.kind, MEMORY_FAIL_PAGES);
  assert_int_equal(memory.claimed, avail + (1UL << 30));
}

/* Auto takes huge pages when they are to be had for that size, else ordinary ones. */
static void automatic(void **state) {
  memory_t memory = {0};
  memory_want_t want = example(1UL << 20, 0);
  memory_got_t got;
  memory_fail_t bad;
  assert_int_equal(memory_make(&memory, &want, &go_on, &got, &bad), 0);
  assert_int_equal(got.page_size, MEMORY_PAGE_4K); /* below one huge page */
  close(got.fd);
  want.size = 4UL << 20;
  uint64_t expected = memory_free_2m() >= 2 ? MEMORY_PAGE_2M : MEMORY_PAGE_4K;
  assert_int_equal(memory_make(&memory, &want, &go_on, &got, &bad), 0);
  assert_int_equal(got.page_size, expected);
  check_made(&want, &got);
  close(got.fd);
}

/* Sizes and part_max that make no workspace are refused, with the least that would do. */
static void dimensions(void **state) {
  static struct {
    uint64_t size, page_size, part_max;
  } const cases[] = {
      {0, 0, 0},
      {MEMORY_SIZE_MAX + 1, 0, 0},
      {UINT64_MAX, MEMORY_PAGE_4K, 0},
      {1, 0, 0},
      {8UL << 20, 8192, 0},
      {8UL << 20, 0, 3},
      {8UL << 20, 0, 1UL << 31},
      {8UL << 20, 0, 1UL << 30},
      {8UL << 20, 0, UINT64_MAX},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    memory_t memory = {0};
    memory_want_t want = example(cases[i].size, cases[i].page_size);
    memory_got_t got = {.fd = -1};
    memory_fail_t bad = {0};
    want.part_max = cases[i].part_max;
    if (!memory_make(&memory, &want, &go_on, &got, &bad)) fail_msg("case %zu was made", i);
    assert_int_equal(bad.kind, MEMORY_FAIL_SIZE);
    assert_true(bad.text[0]);
    assert_int_equal(memory.claimed, 0);
  }
  /* and the least that is named does */
  memory_t memory = {0};
  memory_want_t want = example(1, MEMORY_PAGE_4K);
  memory_got_t got;
  memory_fail_t bad;
  assert_int_equal(memory_make(&memory, &want, &go_on, &got, &bad), 1);
  want.size = bad.wanted;
  want.part_max = 0;
  if (memory_make(&memory, &want, &go_on, &got, &bad)) fail_msg("%s", bad.text);
  close(got.fd);
}

/* A make that is not wanted any more ends and gives everything back. */
static void cancelled(void **state) {
  memory_t memory = {0};
  _Atomic int cancel = 1;
  memory_want_t want = example(64UL << 20, MEMORY_PAGE_4K);
  memory_got_t got;
  memory_fail_t bad;
  unsigned before = open_fds();
  assert_int_equal(memory_make(&memory, &want, &cancel, &got, &bad), 1);
  assert_int_equal(bad.kind, MEMORY_FAIL_CANCELLED);
  assert_int_equal(memory.claimed, 0);
  assert_int_equal(open_fds(), before);
}

/* A read-only reopening reads the same bytes and can neither be written nor mapped writable. */
static void read_only(void **state) {
  memory_t memory = {0};
  memory_want_t want = example(1UL << 20, MEMORY_PAGE_4K);
  memory_got_t got;
  memory_fail_t bad;
  uint64_t magic = 0;
  assert_int_equal(memory_make(&memory, &want, &go_on, &got, &bad), 0);
  int fd = memory_reopen_ro(got.fd);
  assert_true(fd >= 0);
  assert_int_equal(pread(fd, &magic, sizeof magic, 0), sizeof magic);
  assert_int_equal(magic, WKSP_MAGIC);
  assert_int_equal(write(fd, &magic, 1), -1);
  assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
  assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
  close(fd);
  close(got.fd);
}

/* Where the last page is that was touched is found whatever was guessed, and with holes before it;
   of huge pages it is not known. What is only held does not count. */
static void check_top(void **state) {
  if (topology_slack_4k("/sys")) { /* then more is touched than was asked for */
    print_message("# missing: a kernel that makes no huge pages of shared memory by itself\n");
    skip();
  }
  uint64_t const page = MEMORY_PAGE_4K, all = 3 * MEMORY_PAGE_2M;
  uint64_t const guesses[] = {0, page, 5 * page, all / 2, all - page, all, all + page, 1UL << 50};
  uint64_t const ends[] = {0, page, 2 * page, 7 * page, MEMORY_PAGE_2M, all - page, all};
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
    int fd = memfd_create("top", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)all), 0);
    if (ends[i]) assert_int_equal(pwrite(fd, "x", 1, (off_t)(ends[i] - 1)), 1);
    assert_int_equal(fallocate(fd, 0, 0, (off_t)all), 0);
    for (size_t k = 0; k < sizeof guesses / sizeof *guesses; k++)
      assert_int_equal(memory_top(fd, guesses[k]), ends[i]);
    close(fd);
  }
  int fd = memfd_create("top", MFD_CLOEXEC | MFD_HUGETLB);
  if (fd < 0 || ftruncate(fd, (off_t)all))
    print_message("# no huge pages to ask about\n");
  else
    assert_int_equal(memory_top(fd, 0), 0);
  if (fd >= 0) close(fd);
}

/* Memory that is not what was recorded is told from memory that is, whatever differs. */
static void check_differs(void **state) {
  memory_t memory = {0};
  memory_want_t want = example(1UL << 20, MEMORY_PAGE_4K);
  memory_got_t got;
  memory_fail_t bad;
  assert_int_equal(memory_make(&memory, &want, &go_on, &got, &bad), 0);
  memory_is_t is = {.max_size = got.size}, other = {.max_size = got.size};
  memcpy(is.uuid, want.uuid, sizeof is.uuid);
  assert_null(memory_check(got.fd, &is));
  assert_non_null(strstr(memory_check(got.fd, &other), "uuid"));
  struct {
    uint64_t *figure;
    uint64_t good;
    char const *says;
  } const figures[] = {{&is.max_size, got.size, "size"},
                       {&is.inode, got.inode, "inode"},
                       {&is.page_size, got.page_size, "pages"},
                       {&is.part_max, got.part_max, "dimensions"},
                       {&is.data_max, got.data_max, "dimensions"},
                       {&is.geometry_hash, wksp__geometry_hash(), "geometry"}};
  for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
    *figures[i].figure = figures[i].good + 1;
    assert_non_null(strstr(memory_check(got.fd, &is), figures[i].says));
    *figures[i].figure = figures[i].good;
    assert_null(memory_check(got.fd, &is));
  }
  is.layout_version = WKSP_LAYOUT_VERSION + 1;
  assert_non_null(strstr(memory_check(got.fd, &is), "layout"));
  char name[40];
  uint8_t uuid[16];
  assert_int_equal(memory_claims(got.fd, name, uuid), 1);
  assert_string_equal(name, want.name);
  assert_memory_equal(uuid, want.uuid, sizeof uuid);
  uint64_t zero = 0;
  assert_false(memory_unfinished(got.fd));
  assert_int_equal(pwrite(got.fd, &zero, sizeof zero, 0), sizeof zero);
  assert_true(memory_unfinished(got.fd));
  assert_non_null(strstr(memory_check(got.fd, &is), "workspace"));
  assert_int_equal(memory_claims(got.fd, name, uuid), 0);
  close(got.fd);
  int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  assert_int_equal(ftruncate(fd, 4096), 0);
  other.max_size = 4096;
  assert_non_null(strstr(memory_check(fd, &other), "sealed"));
  assert_false(memory_unfinished(fd));
  close(fd);
  int pair[2];
  assert_int_equal(pipe(pair), 0);
  assert_non_null(memory_check(pair[0], &other));
  assert_false(memory_unfinished(pair[0]));
  close(pair[0]);
  close(pair[1]);
}

static uint64_t held(int fd) {
  struct stat st;
  assert_int_equal(fstat(fd, &st), 0);
  return (uint64_t)st.st_blocks * 512;
}

/* Memory that can grow has addresses for all of it and pages for its size; more are taken and given
   back, and what was taken in vain is given back. */
static void growing(uint64_t page_size) {
  memory_t memory = {0};
  memory_want_t want = example(4UL << 20, page_size);
  memory_got_t got;
  memory_fail_t bad;
  _Atomic int cancel = 1;
  uint64_t from = 4UL << 20, to = 12UL << 20;
  want.max_size = (16UL << 20) - 1;
  if (memory_make(&memory, &want, &go_on, &got, &bad)) fail_msg("%s", bad.text);
  assert_int_equal(got.max_size, 16UL << 20);
  check_made(&want, &got);
  assert_int_equal(fill(&memory, got.fd, page_size, from, to, 0, &cancel, &bad), 1);
  assert_int_equal(bad.kind, MEMORY_FAIL_CANCELLED);
  assert_int_equal(held(got.fd), from);
  assert_int_equal(fill(&memory, got.fd, page_size, from, to, 0, &go_on, &bad), 0);
  assert_int_equal(held(got.fd), to);
  assert_int_equal(fill(&memory, got.fd, page_size, from, to, 0, &go_on, &bad), 0); /* again */
  assert_int_equal(fill(&memory, got.fd, page_size, from, to, 1, &cancel, &bad), 1);
  assert_int_equal(held(got.fd), to); /* kept */
  assert_int_equal(memory_punch(got.fd, 8UL << 20, got.max_size, &bad), 0);
  assert_int_equal(held(got.fd), 8UL << 20);
  assert_int_equal(memory_punch(got.fd, got.max_size, got.max_size, &bad), 0);
  assert_int_equal(memory_punch(-1, 0, 4096, &bad), 1);
  assert_int_equal(bad.kind, MEMORY_FAIL_SYS);
  assert_int_equal(memory.claimed, 0);
  close(got.fd);
}

static void growing_small(void **state) {
  growing(MEMORY_PAGE_4K);
}

static void growing_huge(void **state) {
  if (memory_free_2m() < 8) {
    print_message("# missing: 8 free huge pages of 2 MiB (vm.nr_hugepages)\n");
    skip();
  }
  growing(MEMORY_PAGE_2M);
}

/* More than there is: figures, and nothing is held in vain. */
static void growing_short(void **state) {
  memory_t memory = {0};
  memory_want_t want = example(1UL << 20, MEMORY_PAGE_4K);
  memory_got_t got;
  _Atomic int cancel = 1;
  memory_fail_t bad;
  uint64_t much = (memory_free_4k() & ~4095UL) + (1UL << 30);
  want.max_size = much;
  if (memory_make(&memory, &want, &go_on, &got, &bad)) {
    /* its tables alone are too much for the size: so it is said */
    assert_int_equal(bad.kind, MEMORY_FAIL_SIZE);
    assert_true(bad.wanted > want.size);
    want.size = bad.wanted;
    if (memory_make(&memory, &want, &go_on, &got, &bad)) fail_msg("%s", bad.text);
  }
  assert_int_equal(fill(&memory, got.fd, 4096, got.size, got.max_size, 0, &go_on, &bad), 1);
  assert_int_equal(bad.kind, MEMORY_FAIL_PAGES);
  assert_int_equal(bad.wanted, (got.max_size - got.size) / 4096);
  assert_true(bad.free < bad.wanted && bad.hint[0]);
  assert_int_equal(held(got.fd), got.size);
  assert_int_equal(memory.claimed, 0);
  /* also where some of it may be in use; cancelled, so that none would be taken if it were tried */
  assert_int_equal(fill(&memory, got.fd, 4096, got.size, got.max_size, 1, &cancel, &bad), 1);
  assert_int_equal(bad.kind, MEMORY_FAIL_PAGES);
  assert_int_equal(bad.wanted, (got.max_size - got.size) / 4096);
  assert_int_equal(memory.claimed, 0);
  close(got.fd);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(small_pages),      cmocka_unit_test(huge_pages),
      cmocka_unit_test(huge_pages_short), cmocka_unit_test(small_pages_short),
      cmocka_unit_test(automatic),        cmocka_unit_test(dimensions),
      cmocka_unit_test(cancelled),        cmocka_unit_test(read_only),
      cmocka_unit_test(check_top),        cmocka_unit_test(check_differs),
      cmocka_unit_test(growing_small),    cmocka_unit_test(growing_huge),
      cmocka_unit_test(growing_short),
  };
  return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
