/* compat: a program as it is written against the published fd_wksp / fd_alloc interface. It knows
   nothing of ours but the name of the header, and uses the calls in the forms published there.

     compat NAME      the socket is $WKSPD_SOCKET; there is no workspace NAME yet

   Exit 0 if every call did what that interface promises; else it prints what did not. */

#include "wksp/compat.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEST(c)                                                                              \
  do {                                                                                       \
    if (!(c)) {                                                                              \
      fprintf(stderr, "compat: %s:%d: %s: %s\n", __FILE__, __LINE__, #c, wksp_last_error()); \
      exit(1);                                                                               \
    }                                                                                        \
  } while (0)

/* A workspace in memory of the program's own: sizes, life, facts. */
static void test_admin(void) {
  ulong part_max = fd_wksp_part_max_est(1UL << 22, 64UL << 10);
  TEST(part_max);
  ulong data_max = fd_wksp_data_max_est(1UL << 22, part_max);
  TEST(data_max);
  ulong footprint = FD_WKSP_FOOTPRINT(part_max, data_max);
  TEST(footprint && footprint <= 1UL << 22 && footprint == fd_wksp_footprint(part_max, data_max));
  TEST(fd_wksp_align() == FD_WKSP_ALIGN && !fd_wksp_footprint(0UL, data_max));

  void *mem = aligned_alloc(FD_WKSP_ALIGN, footprint);
  TEST(mem);
  memset(mem, 0, footprint);
  void *shwksp = fd_wksp_new(mem, "admin", 1234U, part_max, data_max);
  TEST(shwksp == mem);
  fd_wksp_t *wksp = fd_wksp_join(shwksp);
  TEST(wksp);
  TEST(!strcmp(fd_wksp_name(wksp), "admin") && fd_wksp_seed(wksp) == 1234U);
  TEST(fd_wksp_part_max(wksp) == part_max && fd_wksp_data_max(wksp) == data_max);
  ulong owner = fd_wksp_owner(wksp);
  TEST(owner == ~0UL);
  TEST(fd_wksp_verify(wksp) == FD_WKSP_SUCCESS && fd_wksp_verify(NULL) == FD_WKSP_ERR_INVAL);
  TEST(strlen(fd_wksp_strerror(FD_WKSP_SUCCESS)) && strlen(fd_wksp_strerror(FD_WKSP_ERR_INVAL)) &&
       strlen(fd_wksp_strerror(FD_WKSP_ERR_FAIL)) && strlen(fd_wksp_strerror(FD_WKSP_ERR_CORRUPT)));
  TEST(fd_wksp_leave(wksp) == shwksp && fd_wksp_delete(shwksp) == mem);
  free(mem);
}

static void test_partitions(fd_wksp_t *wksp) {
  ulong lo, hi, tag = 3UL;
  ulong a = fd_wksp_alloc_at_least(wksp, 0UL, 100UL, tag, &lo, &hi);
  TEST(a && a % FD_WKSP_ALIGN_DEFAULT == 0UL && lo <= a && a + 100UL <= hi);
  TEST(!fd_wksp_alloc(wksp, 3UL, 1UL, tag) && !fd_wksp_alloc(wksp, 0UL, 0UL, tag));
  void *laddr = fd_wksp_laddr(wksp, a);
  TEST(laddr && fd_wksp_gaddr(wksp, laddr) == a && fd_wksp_laddr_fast(wksp, a) == laddr &&
       fd_wksp_gaddr_fast(wksp, laddr) == a);
  TEST(!fd_wksp_laddr(wksp, 0UL) && !fd_wksp_gaddr(wksp, NULL) && !fd_wksp_laddr(NULL, a));
  TEST(fd_wksp_containing(laddr) == wksp && !fd_wksp_containing(&lo));
  TEST(fd_wksp_tag(wksp, a + 99UL) == tag && !fd_wksp_tag(wksp, 0UL) && !fd_wksp_tag(NULL, a));
  fd_wksp_memset(wksp, a + 50UL, 7);
  TEST(((uchar *)laddr)[0] == 7 && ((uchar *)laddr)[hi - a - 1UL] == 7);
  fd_wksp_memset(wksp, 0UL, 1);
  TEST(((uchar *)laddr)[0] == 7);

  ulong more[3];
  for (int i = 0; i < 3; i++)
    TEST((more[i] = fd_wksp_alloc(wksp, 64UL, 64UL, 4UL + (ulong)(i & 1))));
  fd_wksp_tag_query_info_t info[8] = {{0UL, 0UL, 0UL}};
  ulong tags[3] = {3UL, 4UL, 5UL};
  TEST(fd_wksp_tag_query(wksp, tags, 3UL, info, 8UL) == 4UL);
  for (int i = 0; i < 4; i++) {
    TEST(info[i].gaddr_lo && info[i].gaddr_lo < info[i].gaddr_hi &&
         (!i || info[i - 1].gaddr_hi <= info[i].gaddr_lo));
    TEST(fd_wksp_tag(wksp, info[i].gaddr_lo) == info[i].tag);
  }
  ulong first = info[0].gaddr_lo;
  info[0].gaddr_lo = info[1].gaddr_lo = 0UL;
  TEST(fd_wksp_tag_query(wksp, tags, 3UL, info, 1UL) == 4UL);
  TEST(info[0].gaddr_lo == first && !info[1].gaddr_lo);
  TEST(fd_wksp_tag_query(wksp, tags, 1UL, NULL, 0UL) == 1UL);
  TEST(!fd_wksp_tag_query(wksp, tags, 0UL, info, 8UL) &&
       !fd_wksp_tag_query(NULL, tags, 1UL, info, 8UL));

  fd_wksp_usage_t usage[1];
  TEST(fd_wksp_usage(wksp, tags, 3UL, usage) == usage);
  TEST(usage->used_cnt == 4UL && usage->used_sz >= 100UL + 3UL * 64UL);
  TEST(usage->total_max == fd_wksp_part_max(wksp) && usage->total_sz == fd_wksp_data_max(wksp));
  TEST(usage->total_cnt == usage->free_cnt + 4UL);
  TEST(usage->total_sz == usage->free_sz + usage->used_sz);
  ulong with_free[3] = {0UL, 4UL, 4UL}, free_sz = usage->free_sz, free_cnt = usage->free_cnt;
  fd_wksp_usage(wksp, with_free, 3UL, usage);
  TEST(usage->used_cnt == free_cnt + 2UL && usage->used_sz == free_sz + 128UL);
  fd_wksp_usage(wksp, with_free, 1UL, usage);
  TEST(usage->used_cnt == free_cnt && usage->used_sz == free_sz);
  fd_wksp_usage(wksp, NULL, 0UL, usage);
  TEST(!usage->used_cnt && !usage->used_sz && usage->free_sz == free_sz);
  TEST(fd_wksp_usage(NULL, tags, 3UL, usage) == usage && !usage->total_sz && !usage->used_cnt);

  fd_wksp_tag_free(wksp, tags + 1, 1UL);
  TEST(!fd_wksp_tag_query(wksp, tags + 1, 1UL, NULL, 0UL));
  TEST(fd_wksp_tag_query(wksp, tags + 2, 1UL, NULL, 0UL) == 1UL);
  fd_wksp_free(wksp, a + 10UL);
  fd_wksp_free(wksp, 0UL);
  TEST(!fd_wksp_tag(wksp, a));
  void *p = fd_wksp_alloc_laddr(wksp, 128UL, 1000UL, tag);
  TEST(p && !((ulong)p & 127UL));
  fd_wksp_free_laddr(p);
  fd_wksp_free_laddr(NULL);
  TEST(!fd_wksp_tag(wksp, fd_wksp_gaddr(wksp, p)));
  fd_wksp_reset(wksp, 99U);
  TEST(fd_wksp_seed(wksp) == 99U && fd_wksp_usage(wksp, NULL, 0UL, usage)->free_cnt == 1UL);

  fd_wksp_mprotect(wksp, 1);
  TEST(!fd_wksp_alloc(wksp, 0UL, 1UL, 1UL));
  fd_wksp_mprotect(wksp, 0);
  TEST((a = fd_wksp_alloc(wksp, 0UL, 1UL, 1UL)));
  fd_wksp_free(wksp, a);
  int len = fd_wksp_fprintf(stdout, wksp);
  TEST(len > 0);
  TEST(!fd_wksp_rebuild(wksp, 5U) && fd_wksp_seed(wksp) == 5U);
  TEST(!fd_wksp_verify(wksp));
}

static void test_alloc(fd_wksp_t *wksp) {
  void *shmem = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), 21UL);
  TEST(fd_alloc_align() == FD_ALLOC_ALIGN && fd_alloc_footprint() == FD_ALLOC_FOOTPRINT);
  void *shalloc = fd_alloc_new(shmem, 22UL);
  TEST(shalloc == shmem && !fd_alloc_new(NULL, 22UL));
  fd_alloc_t *join = fd_alloc_join(shalloc, FD_ALLOC_JOIN_CGROUP_CNT - 1UL);
  TEST(join && !fd_alloc_join(NULL, 0UL));
  TEST(fd_alloc_join_cgroup_hint(join) == FD_ALLOC_JOIN_CGROUP_HINT_MAX);
  join = fd_alloc_join_cgroup_hint_set(join, 3UL);
  TEST(fd_alloc_join_cgroup_hint(join) == 3UL);
  TEST(fd_alloc_wksp(join) == wksp && fd_alloc_tag(join) == 22UL);
  TEST(!fd_alloc_wksp(NULL) && !fd_alloc_tag(NULL));
  TEST(fd_alloc_is_empty(join) == 1 && fd_alloc_is_empty(NULL) == 0);

  ulong max;
  void *small = fd_alloc_malloc_at_least(join, 0UL, 30UL, &max);
  TEST(small && max >= 30UL && !((ulong)small % FD_ALLOC_MALLOC_ALIGN_DEFAULT));
  void *large = fd_alloc_malloc(join, 4096UL, 100000UL);
  TEST(large && !((ulong)large & 4095UL));
  TEST(!fd_alloc_malloc(join, 0UL, 0UL) && !fd_alloc_malloc(NULL, 0UL, 1UL) &&
       !fd_alloc_malloc(join, 3UL, 1UL));
  TEST(!fd_alloc_is_empty(join));
  fd_valloc_t valloc = fd_alloc_virtual(join);
  void *virt = fd_valloc_malloc(valloc, 8UL, 50UL);
  TEST(virt);
  fd_valloc_free(valloc, virt);
  fd_alloc_free(join, small);
  fd_alloc_free(join, large);
  fd_alloc_free(join, NULL);
  fd_alloc_free(NULL, small);
  fd_alloc_compact(join);
  TEST(fd_alloc_is_empty(join) == 1);
  TEST(fd_alloc_max_expand(8UL, 2UL, 100UL) == 100UL &&
       fd_alloc_max_expand(100UL, 1UL, 0UL) >= 101UL &&
       fd_alloc_max_expand(~0UL, 1UL, 0UL) == ~0UL);
  TEST(fd_alloc_leave(join) == shalloc && fd_alloc_delete(shalloc) == shmem);
  fd_wksp_free_laddr(shmem);
  TEST(!fd_wksp_verify(wksp));
}

static void test_cstr(char const *name) {
  char cstr[FD_WKSP_CSTR_MAX], again[FD_WKSP_CSTR_MAX];
  TEST(fd_wksp_cstr_alloc(name, 4096UL, 5000UL, 9UL, cstr) == cstr);
  TEST(!strncmp(cstr, name, strlen(name)) && cstr[strlen(name)] == ':');
  TEST(fd_wksp_cstr_tag(cstr) == 9UL);
  fd_wksp_cstr_memset(cstr, 0x5a);
  uchar *laddr = (uchar *)fd_wksp_map(cstr);
  TEST(laddr && laddr[0] == 0x5a && laddr[4999] == 0x5a);
  TEST(!strcmp(fd_wksp_cstr_laddr(laddr, again), cstr));
  fd_wksp_t *wksp = fd_wksp_containing(laddr);
  TEST(!strcmp(fd_wksp_cstr(wksp, fd_wksp_gaddr(wksp, laddr), again), cstr));
  TEST(!fd_wksp_cstr(NULL, 1UL, again) && !fd_wksp_cstr_laddr(NULL, again));
  fd_wksp_unmap(laddr);
  fd_wksp_cstr_free(cstr);
  TEST(!fd_wksp_cstr_tag(cstr) && !fd_wksp_map("nothing like a place"));
}

/* Each part is wanted on the node of its cpu, and got there: the first cpu and the last that this
   process may run on, as much again on the last. Neighbours of one cpu are one part. */
static void test_near(char const *name) {
  cpu_set_t cpus;
  ulong first = CPU_SETSIZE, last = 0, sub_page_cnt[5] = {512UL, 512UL, 0UL, 1024UL, 1024UL};
  TEST(!sched_getaffinity(0, sizeof cpus, &cpus));
  for (ulong cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &cpus)) continue;
    if (first == CPU_SETSIZE) first = cpu;
    last = cpu;
  }
  ulong sub_cpu_idx[5] = {first, first, 8191UL, last, last};
  char want[64];
  if (first == last)
    snprintf(want, sizeof want, "cpu:%lu", first);
  else
    snprintf(want, sizeof want, "cpu:%lu,%lu*2", first, last);
  TEST(fd_wksp_new_named(name, FD_SHMEM_NORMAL_PAGE_SZ, 5UL, sub_page_cnt, sub_cpu_idx, 0600UL, 1U,
                         0UL) == FD_WKSP_SUCCESS);
  wksp_client_t *client = wksp_client_connect(NULL);
  wksp_placement_t placement;
  TEST(client && !wksp_client_placement(client, name, &placement));
  TEST(!strcmp(placement.numa, want) && placement.strict && !placement.elsewhere);
  TEST(placement.info.size == 3072UL * 4096UL);
  wksp_placement_free(&placement);
  wksp_client_close(client);
  TEST(fd_wksp_delete_named(name) == FD_WKSP_SUCCESS);
  sub_cpu_idx[0] = sub_cpu_idx[1] = 8191UL; /* no machine of ours has it */
  TEST(fd_wksp_new_named(name, FD_SHMEM_NORMAL_PAGE_SZ, 5UL, sub_page_cnt, sub_cpu_idx, 0600UL, 1U,
                         0UL) == FD_WKSP_ERR_INVAL);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  char const *name = argv[1];
  ulong sub_page_cnt[2] = {1024UL, 1024UL}, sub_cpu_idx[2] = {0UL, 0UL};
  test_admin();
  TEST(fd_wksp_new_named(name, FD_SHMEM_NORMAL_PAGE_SZ, 2UL, sub_page_cnt, sub_cpu_idx, 0600UL, 1U,
                         0UL) == FD_WKSP_SUCCESS);
  TEST(fd_wksp_new_named(name, FD_SHMEM_NORMAL_PAGE_SZ, 2UL, sub_page_cnt, sub_cpu_idx, 0600UL, 1U,
                         0UL) == FD_WKSP_ERR_FAIL);
  TEST(fd_wksp_new_named(name, 3UL, 2UL, sub_page_cnt, sub_cpu_idx, 0600UL, 1U, 0UL) ==
       FD_WKSP_ERR_INVAL);
  fd_wksp_t *wksp = fd_wksp_attach(name);
  TEST(wksp && fd_wksp_attach(name) == wksp && !fd_wksp_attach("no-such-thing"));
  test_partitions(wksp);
  test_alloc(wksp);
  test_cstr(name);
  TEST(!fd_wksp_detach(wksp));
  TEST(fd_wksp_delete_named(name) == FD_WKSP_ERR_FAIL); /* attached */
  TEST(!fd_wksp_detach(wksp));
  test_cstr(name); /* through an attach of each call's own */
  TEST(fd_wksp_delete_named(name) == FD_WKSP_SUCCESS);
  TEST(!fd_wksp_attach(name));
  test_near(name);

  wksp =
      fd_wksp_new_anon("anon", FD_SHMEM_NORMAL_PAGE_SZ, 2UL, sub_page_cnt, sub_cpu_idx, 5U, 64UL);
  TEST(wksp && fd_wksp_seed(wksp) == 5U && fd_wksp_part_max(wksp) == 64UL);
  test_partitions(wksp);
  test_alloc(wksp);
  test_cstr("anon");
  fd_wksp_delete_anon(wksp);
  wksp = fd_wksp_new_anonymous(FD_SHMEM_NORMAL_PAGE_SZ, 1024UL, 0UL, "anon", 0UL);
  TEST(wksp);
  test_cstr("anon");
  fd_wksp_delete_anonymous(wksp);
  ulong huge[2] = {~0UL, 1UL};
  TEST(!fd_wksp_new_anon("anon", 4096UL, 2UL, huge, NULL, 0U, 0UL));
  TEST(!fd_wksp_new_anon("anon", 4096UL, 1UL, huge, NULL, 0U, 0UL));
  TEST(!fd_wksp_new_anon("anon", 4096UL, 1UL, NULL, NULL, 0U, 0UL));
  puts("compat: pass");
  return 0;
}
