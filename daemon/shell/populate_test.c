/* populate: real pages, on the nodes of this machine. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/shell/populate.h"
#include "daemon/shell/topology.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE 2097152UL

static _Atomic int go_on;
static _Atomic uint64_t told;
static topo_t topo;

static void taken(void *arg, uint64_t bytes) {
  atomic_fetch_add(&told, bytes);
}

/* All on the first node that may be used. */
static place_layout_t layout_of(int size, uint64_t total) {
  place_layout_t layout = {.size = size, .total = total};
  uint32_t node = 0;
  while (node < topo.node_cnt && !topo.node[node].allowed) node++;
  layout.policy = (place_policy_t){.kind = PLACE_INTERLEAVED, .part_cnt = 1, .weight_sum = 1};
  layout.policy.part[0].node = (uint16_t)node;
  layout.policy.part[0].weight = 1;
  return layout;
}

static int run(place_layout_t const *layout, void *mem, uint64_t from, uint64_t to,
               _Atomic int const *cancel, populate_got_t *ret_got) {
  populate_want_t want = {.mem = mem,
                          .layout = layout,
                          .from = from,
                          .to = to,
                          .topo = &topo,
                          .strict = 1,
                          .cancel = cancel,
                          .taken = taken};
  told = 0;
  return populate(&want, ret_got);
}

static uint64_t held(int fd) {
  struct stat st;
  assert_int_equal(fstat(fd, &st), 0);
  return (uint64_t)st.st_blocks * 512;
}

/* Just the pages that are wanted are taken, each is told of once, and what was in them stays. */
static void test_small(void **state) {
  uint64_t const cnt = 5000, from = 700, to = 4321;
  place_layout_t layout = layout_of(TOPO_4K, cnt);
  populate_got_t got;
  int fd = memfd_create("populate", MFD_CLOEXEC);
  assert_int_equal(ftruncate(fd, (off_t)(cnt * 4096)), 0);
  uint8_t *mem = mmap(NULL, cnt * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  assert_true(mem != MAP_FAILED);
  mem[from * 4096 + 5] = 77;
  assert_int_equal(run(&layout, mem + from * 4096, from, to, &go_on, &got), POPULATE_OK);
  /* where the kernel makes huge pages unasked it takes up to one more at either end */
  assert_in_range(held(fd), (to - from) * 4096, (to - from) * 4096 + 2 * HUGE);
  assert_int_equal(told, (to - from) * 4096);
  assert_int_equal(got.elsewhere, 0);
  assert_true(got.huge <= (to - from) * 4096);
  assert_int_equal(mem[from * 4096 + 5], 77);
  munmap(mem, cnt * 4096);
  close(fd);
}

/* Bytes of the mapping at mem that the kernel has in huge pages. */
static uint64_t huge_at(void const *mem) {
  char line[256], start[32];
  uint64_t kib = 0;
  int ours = 0;
  FILE *smaps = fopen("/proc/self/smaps", "re");
  assert_non_null(smaps);
  snprintf(start, sizeof start, "%lx-", (unsigned long)(uintptr_t)mem);
  while (fgets(line, sizeof line, smaps)) {
    if (!strncmp(line, start, strlen(start))) ours = 1;
    if (ours && sscanf(line, "ShmemPmdMapped: %lu kB", &kib) == 1) break;
  }
  fclose(smaps);
  return kib << 10;
}

/* Ordinary pages are made huge ones where the kernel can, with what is in them; how many were is
   what the kernel has, unless it has broken some up since. */
static void test_collapsed(void **state) {
  uint64_t size = 8 * HUGE, pages = size / 4096;
  int fd = memfd_create("wksp:collapsed", MFD_CLOEXEC);
  assert_true(fd >= 0 && !ftruncate(fd, (off_t)size));
  uint8_t *room = mmap(NULL, size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(room != MAP_FAILED);
  uint8_t *mem = (uint8_t *)(((uintptr_t)room + HUGE - 1) & ~(HUGE - 1));
  assert_true(mem == mmap(mem, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0));
  for (uint64_t at = 0; at < size; at += HUGE / 2) mem[at] = (uint8_t)(at >> 20) | 1;
  place_layout_t layout = layout_of(TOPO_4K, pages);
  populate_got_t got;
  assert_int_equal(run(&layout, mem, 0, pages, &go_on, &got), POPULATE_OK);
  assert_int_equal(held(fd), size);
  assert_true(got.huge <= size && got.huge % HUGE == 0);
  assert_true(huge_at(mem) <= got.huge || topology_slack_4k("/sys"));
  for (uint64_t at = 0; at < size; at += HUGE / 2)
    assert_int_equal(mem[at], (uint8_t)(at >> 20) | 1);
  munmap(room, size + HUGE); /* mem lies in it */
  close(fd);
  if (got.huge) return;
  print_message("# missing: a kernel that collapses shared memory now (MADV_COLLAPSE)\n");
  skip();
}

/* One that is not wanted any more takes nothing and says so. */
static void test_cancelled(void **state) {
  _Atomic int cancel = 1;
  place_layout_t layout = layout_of(TOPO_4K, 100);
  populate_got_t got;
  int fd = memfd_create("populate", MFD_CLOEXEC);
  assert_int_equal(ftruncate(fd, 100 * 4096), 0);
  void *mem = mmap(NULL, 100 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  assert_int_equal(run(&layout, mem, 0, 100, &cancel, &got), POPULATE_CANCELLED);
  assert_int_equal(held(fd), 0);
  munmap(mem, 100 * 4096);
  close(fd);
}

/* A pool that has not got what a mapping without a reservation wants: an error with what could be
   had, no signal. Of pages of 1 GiB, since draining the pool of others would be a shortage to them;
   tests/lab drains one. */
static void test_dry(void **state) {
  populate_got_t got;
  uint64_t const cnt = 2, size = cnt << 30;
  int fd = memfd_create("populate", MFD_CLOEXEC | MFD_HUGETLB | 30U << 26);
  void *mem = MAP_FAILED;
  if (fd >= 0 && topo.size[TOPO_1G].exists && !topo_free_all(&topo, TOPO_1G) &&
      !ftruncate(fd, (off_t)size))
    mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (mem == MAP_FAILED) {
    if (fd >= 0) close(fd);
    printf("# missing: an empty pool of pages of 1 GiB\n");
    skip();
  }
  place_layout_t layout = layout_of(TOPO_1G, cnt);
  assert_int_equal(run(&layout, mem, 0, cnt, &go_on, &got), POPULATE_SHORT);
  assert_int_equal(got.node, layout.policy.part[0].node);
  assert_int_equal(got.wanted, cnt);
  assert_int_equal(got.free, 0);
  assert_int_equal(held(fd), 0);
  munmap(mem, size);
  close(fd);
}

/* What the mapping does not allow is a failure that names the call. */
static void test_refused(void **state) {
  place_layout_t layout = layout_of(TOPO_4K, 100);
  populate_got_t got;
  void *mem = mmap(NULL, 100 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int status = run(&layout, mem, 0, 100, &go_on, &got);
  assert_true(status == POPULATE_SHORT || status == POPULATE_SYS);
  assert_non_null(got.call);
  munmap(mem, 100 * 4096);
}

static int begin(void **state) {
  topology_read(&topo);
  return topo_check(&topo) != NULL;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_small),     cmocka_unit_test(test_collapsed),
      cmocka_unit_test(test_cancelled), cmocka_unit_test(test_dry),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, begin, NULL);
}
