/* Workspaces by their names: those that this process has are found without a daemon, others through
   a scripted peer, for as long as a call lasts. (With the real daemon: tests/proc/compat_test.py.)
 */

#include "client/test_bed.h"

#include "core/call.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define SIZE (4UL << 20)

/* No daemon is asked for a workspace that is joined here: the forms work on it, each with the
   effect of the call that it stands for, and leave no join behind. */
static void joined_here(void **state) {
  (void)state;
  fd_wksp_t *wksp = fd_wksp_new_anon("mine", SIZE, 0, 7, 0);
  assert_non_null(wksp);
  char cstr[FD_WKSP_CSTR_MAX];
  ulong gaddr;
  assert_ptr_equal(fd_wksp_cstr_alloc("mine", 4096, 5000, 9, cstr), cstr);
  assert_int_equal(fd_wksp_cstr_parse(cstr, NULL, &gaddr), 0);
  assert_int_equal(gaddr % 4096, 0);
  assert_int_equal(fd_wksp_tag(wksp, gaddr), 9);
  assert_int_equal(fd_wksp_cstr_tag(cstr), 9);
  assert_int_equal(fd_wksp_cstr_memset(cstr, 0x5a), 0);
  uchar *laddr = fd_wksp_map(cstr);
  assert_ptr_equal(laddr, fd_wksp_laddr(wksp, gaddr));
  assert_int_equal(laddr[0], 0x5a);
  assert_int_equal(laddr[4999], 0x5a);
  assert_int_equal(fd_wksp_unmap(laddr + 4999), 0);
  assert_int_equal(fd_wksp_cstr_free(cstr), 0);
  assert_int_equal(fd_wksp_cstr_tag(cstr), 0);
  assert_int_equal(fd_wksp_cstr_free(cstr), WKSP_E_NOTFOUND);
  assert_int_equal(fd_wksp_cstr_memset(cstr, 0), WKSP_E_NOTFOUND);
  assert_int_equal(wksp__map_of(wksp)->joins, 1);

  laddr = fd_wksp_map("mine:0x200000"); /* keeps the workspace when it is left otherwise */
  assert_non_null(laddr);
  fd_wksp_delete_anon(wksp);
  *laddr = 1;
  assert_int_equal(fd_wksp_unmap(laddr), 0);
  assert_int_equal(msync(wksp, 4096, MS_ASYNC), -1);
}

/* What is wrong with the arguments is said before anything is looked for, and nothing is written or
   kept. */
static void refuses(void **state) {
  (void)state;
  fd_wksp_t *wksp = fd_wksp_new_anon("mine", SIZE, 0, 7, 0);
  assert_non_null(wksp);
  char cstr[FD_WKSP_CSTR_MAX] = "kept", edge[FD_WKSP_CSTR_MAX];
  static char const *const bad[] = {NULL, "", "mine", "mine:", "mine:0", ":1", "mine:0x", "a b:1"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(fd_wksp_cstr_free(bad[i]), WKSP_E_INVAL);
    assert_int_equal(fd_wksp_cstr_memset(bad[i], 0), WKSP_E_INVAL);
    assert_int_equal(fd_wksp_cstr_tag(bad[i]), 0);
    assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
    assert_null(fd_wksp_map(bad[i]));
  }
  static char const *const names[] = {NULL, "", ".x", "a:1",
                                      "a234567890123456789012345678901234567890"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    assert_null(fd_wksp_cstr_alloc(names[i], 0, 64, 1, cstr));
    assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  }
  assert_null(fd_wksp_cstr_alloc("mine", 0, 64, 1, NULL));
  assert_null(fd_wksp_cstr_alloc("mine", 0, 0, 1, cstr));
  assert_null(fd_wksp_cstr_alloc("mine", 3, 64, 1, cstr));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_null(fd_wksp_cstr_alloc("mine", 0, 64, 0, cstr));
  assert_null(fd_wksp_cstr_alloc("mine", 0, ~0UL, 1, cstr));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOMEM);
  assert_null(fd_wksp_map("mine:1"));
  assert_null(fd_wksp_map("mine:0xffffffffffffffff"));
  assert_null(fd_wksp_map(fd_wksp_cstr(wksp, fd_wksp_gaddr_hi(wksp), edge)));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_unmap(NULL), 0);
  assert_int_equal(fd_wksp_unmap(&wksp), WKSP_E_INVAL);
  assert_string_equal(cstr, "kept");
  assert_int_equal(wksp__map_of(wksp)->joins, 1);
  fd_wksp_delete_anon(wksp);
}

/* Without a daemon, a workspace that is not here is E_NODAEMON; and what a workspace is made of is
   checked before the daemon is asked. */
static void no_daemon(void **state) {
  (void)state;
  ulong const one = 1, many[] = {1UL << 63, 1UL << 63}, none = 0;
  char cstr[FD_WKSP_CSTR_MAX];
  assert_int_equal(setenv("WKSPD_SOCKET", "/nowhere/at/all", 1), 0);
  assert_int_equal(fd_wksp_cstr_free("other:64"), WKSP_E_NODAEMON);
  assert_int_equal(fd_wksp_cstr_memset("other:64", 0), WKSP_E_NODAEMON);
  assert_int_equal(fd_wksp_cstr_tag("other:64"), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_NODAEMON);
  assert_null(fd_wksp_map("other:64"));
  assert_null(fd_wksp_cstr_alloc("other", 0, 64, 1, cstr));
  assert_int_equal(fd_wksp_delete_named("other"), WKSP_E_NODAEMON);
  assert_int_equal(fd_wksp_delete_named(NULL), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_new_named("other", 4096, 1, &one, NULL, 0, 0, 0), WKSP_E_NODAEMON);
  struct {
    char const *name;
    ulong page_sz, sub_cnt;
    ulong const *sub_page_cnt;
    ulong mode;
  } const bad[] = {
      {NULL, 4096, 1, &one, 0},        {"other", 0, 1, &one, 0},       {"other", 4097, 1, &one, 0},
      {"other", ~0UL, 1, &one, 0},     {"other", 4096, 0, &one, 0},    {"other", 4096, 1, NULL, 0},
      {"other", 4096, 1, &none, 0},    {"other", 4096, 1, many, 0},    {"other", 4096, 2, many, 0},
      {"other", 4096, 1, &one, 01000}, {"other", 4096, 1, &one, ~0UL},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(fd_wksp_new_named(bad[i].name, bad[i].page_sz, bad[i].sub_cnt,
                                       bad[i].sub_page_cnt, NULL, bad[i].mode, 0, 0),
                     WKSP_E_INVAL);
  assert_int_equal(unsetenv("WKSPD_SOCKET"), 0);
}

/* Waits for it: the peer closes its own copy of a lifeline after the client may have it. */
static int lease_ends(bed_t const *bed, int lease) {
  ulong until = peer_now_ms() + PEER_PATIENCE_MS;
  while (!bed_lease_ended(bed, lease))
    if (peer_now_ms() > until || sched_yield()) return 0;
  return 1;
}

/* A workspace of the daemon is attached for a call and its lease ends with it; one that is attached
   already is used, whatever it is mapped for; a map keeps its lease until the unmap; where writing
   is needed a read-only attach does not serve. */
static void attached(void **state) {
  bed_t *bed = *state;
  assert_int_equal(setenv("WKSPD_SOCKET", bed->peer.path, 1), 0);
  char cstr[FD_WKSP_CSTR_MAX], first[FD_WKSP_CSTR_MAX];
  bed->client = (wksp_client_t *)bed; /* none of the bed's own: the process's connects */
  bed_serve(bed, (bed_serve_t){.cnt = 6});
  assert_ptr_equal(fd_wksp_cstr_alloc("w", 0, 64, 5, first), first);
  assert_true(lease_ends(bed, 0));
  assert_int_equal(fd_wksp_cstr_tag(first), 5);
  assert_true(lease_ends(bed, 1));
  fd_wksp_t *wksp = fd_wksp_attach("w");
  assert_non_null(wksp);
  assert_ptr_equal(fd_wksp_cstr_alloc("w", 0, 64, 6, cstr), cstr);
  void *laddr = fd_wksp_map(cstr);
  assert_ptr_equal(fd_wksp_containing(laddr), wksp);
  assert_int_equal(fd_wksp_detach(wksp), 0);
  assert_false(bed_lease_ended(bed, 2));
  assert_int_equal(fd_wksp_unmap(laddr), 0);
  assert_true(lease_ends(bed, 2));
  laddr = fd_wksp_map(first);
  assert_non_null(laddr);
  assert_false(bed_lease_ended(bed, 3));
  assert_int_equal(fd_wksp_unmap(laddr), 0);
  assert_true(lease_ends(bed, 3));
  assert_null(fd_wksp_map("w:1")); /* attached, refused, detached */
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_true(lease_ends(bed, 4));
  assert_int_equal(fd_wksp_cstr_free(first), 0);
  assert_true(lease_ends(bed, 5));
  peer_join(&bed->peer);
  bed->client = NULL;
  peer_hangup(&bed->peer);
  assert_int_equal(unsetenv("WKSPD_SOCKET"), 0);
}

/* Of several joins of a name the first that may write is taken, and a read-only one only to look.
 */
static void prefers_writable(void **state) {
  (void)state;
  ulong footprint = fd_wksp_footprint(64, 1UL << 20);
  void *mem[2];
  for (int i = 0; i < 2; i++) {
    mem[i] = mmap(NULL, footprint, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(mem[i] != MAP_FAILED);
    assert_ptr_equal(fd_wksp_new(mem[i], "twice", 0, 64, 1UL << 20), mem[i]);
  }
  char cstr[FD_WKSP_CSTR_MAX];
  fd_wksp_t *ro = fd_wksp_join_ro(mem[0]);
  snprintf(cstr, sizeof cstr, "twice:0x%lx", fd_wksp_gaddr_lo(ro));
  assert_int_equal(setenv("WKSPD_SOCKET", "/nowhere/at/all", 1), 0);
  assert_int_equal(fd_wksp_cstr_tag(cstr), 0);
  assert_null(fd_wksp_map(cstr)); /* the daemon is asked */
  fd_wksp_t *rw = fd_wksp_join(mem[1]);
  ulong gaddr = fd_wksp_alloc(rw, 0, 64, 8);
  fd_wksp_cstr(rw, gaddr, cstr);
  assert_int_equal(fd_wksp_cstr_tag(cstr), 8);
  void *laddr = fd_wksp_map(cstr);
  assert_ptr_equal(laddr, fd_wksp_laddr(rw, gaddr));
  assert_int_equal(fd_wksp_unmap(laddr), 0);
  assert_int_equal(unsetenv("WKSPD_SOCKET"), 0);
  assert_ptr_equal(fd_wksp_leave(ro), mem[0]);
  assert_ptr_equal(fd_wksp_leave(rw), mem[1]);
  for (int i = 0; i < 2; i++) assert_int_equal(munmap(mem[i], footprint), 0);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(joined_here),
      cmocka_unit_test(refuses),
      cmocka_unit_test(no_daemon),
      cmocka_unit_test(prefers_writable),
      cmocka_unit_test_setup_teardown(attached, bed_setup, bed_teardown),
  };
  return cmocka_run_group_tests_name("named", tests, NULL, NULL);
}
