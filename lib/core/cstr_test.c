/* Text forms of addresses, the listing, and which workspace an address is in. */

#include "core/testing.h"

#include "core/call.h"
#include "core/root.h"

#define PART_MAX 64UL
#define DATA_MAX (1UL << 20)

/* What is formatted is read back as it was, for every gaddr that has a form, and nothing else has
   one. */
static void test_round_trip(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  ulong lo = fd_wksp_gaddr_lo(wksp), hi = fd_wksp_gaddr_hi(wksp), got;
  ulong good[] = {lo, lo + 1, hi - 1, hi}, bad[] = {0, 1, lo - 1, hi + 1, ~0UL};
  char cstr[FD_WKSP_CSTR_MAX], name[FD_WKSP_NAME_MAX + 1];
  for (uint32_t i = 0; i < 4; i++) {
    assert_ptr_equal(fd_wksp_cstr(wksp, good[i], cstr), cstr);
    assert_int_equal(fd_wksp_cstr_parse(cstr, name, &got), 0);
    assert_string_equal(name, "test");
    assert_int_equal(got, good[i]);
  }
  memcpy(cstr, "kept", 5);
  for (uint32_t i = 0; i < 5; i++) {
    assert_null(fd_wksp_cstr(wksp, bad[i], cstr));
    assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  }
  assert_null(fd_wksp_cstr(NULL, lo, cstr));
  assert_null(fd_wksp_cstr(wksp, lo, NULL));
  assert_string_equal(cstr, "kept");
  testing_wksp_end(wksp);
}

/* The same form for an address in this process; none outside of the data of a joined workspace. */
static void test_laddr(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  char want[FD_WKSP_CSTR_MAX], cstr[FD_WKSP_CSTR_MAX];
  ulong const gaddrs[] = {wksp->data_lo, wksp->data_hi - 1};
  for (uint32_t i = 0; i < 2; i++) {
    assert_ptr_equal(fd_wksp_cstr_laddr((char *)wksp + gaddrs[i], cstr), cstr);
    assert_string_equal(cstr, fd_wksp_cstr(wksp, gaddrs[i], want));
  }
  memcpy(cstr, "kept", 5);
  assert_null(fd_wksp_cstr_laddr((char *)wksp + wksp->data_lo - 1, cstr));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_null(fd_wksp_cstr_laddr((char *)wksp + wksp->data_hi, cstr));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
  assert_null(fd_wksp_cstr_laddr(NULL, cstr));
  assert_int_equal(wksp_last_error_code(), WKSP_E_INVAL);
  assert_null(fd_wksp_cstr_laddr((void *)~0UL, cstr));
  assert_null(fd_wksp_cstr_laddr((char *)wksp + wksp->data_lo, NULL));
  assert_string_equal(cstr, "kept");
  testing_wksp_end(wksp);
}

/* Decimal and hexadecimal up to 2^64-1 and names of up to 39 characters are read; all else is
   refused with the text, and leaves the outputs alone. */
static void test_parse(void **state) {
  static struct {
    char const *cstr, *name;
    ulong gaddr;
  } const good[] = {
      {"demo:1", "demo", 1},
      {"demo:0x1F00", "demo", 0x1f00},
      {"demo:0Xff", "demo", 255},
      {"a.b-c_d:0010", "a.b-c_d", 10},
      {"a:18446744073709551615", "a", ~0UL},
      {"a:0xffffffffffffffff", "a", ~0UL},
      {"a23456789012345678901234567890123456789:7", "a23456789012345678901234567890123456789", 7},
  };
  static char const *const bad[] = {
      "",
      "demo",
      "demo:",
      ":1",
      "demo:0",
      "demo:0x",
      "demo:x",
      "demo:-1",
      "demo:+1",
      "demo: 1",
      "demo:1 ",
      "demo:1x",
      "a:b:1",
      ".x:1",
      "a b:1",
      "demo:12a",
      "demo:0x1g",
      "a:18446744073709551616",
      "a:0x10000000000000000",
      "a234567890123456789012345678901234567890:7",
  };
  char name[FD_WKSP_NAME_MAX + 1];
  ulong gaddr;
  for (uint32_t i = 0; i < sizeof good / sizeof *good; i++) {
    assert_int_equal(fd_wksp_cstr_parse(good[i].cstr, name, &gaddr), 0);
    assert_string_equal(name, good[i].name);
    assert_int_equal(gaddr, good[i].gaddr);
    assert_int_equal(fd_wksp_cstr_parse(good[i].cstr, NULL, NULL), 0);
  }
  memcpy(name, "kept", 5);
  gaddr = 77;
  for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(fd_wksp_cstr_parse(bad[i], name, &gaddr), WKSP_E_INVAL);
    assert_non_null(strstr(wksp_last_error(), bad[i]));
    assert_string_equal(name, "kept");
    assert_int_equal(gaddr, 77);
  }
  assert_int_equal(fd_wksp_cstr_parse(NULL, name, &gaddr), WKSP_E_INVAL);
  char *large = malloc(100000);
  assert_non_null(large);
  memset(large, 'x', 99999);
  large[99999] = 0;
  assert_int_equal(fd_wksp_cstr_parse(large, name, &gaddr), WKSP_E_INVAL);
  free(large);
}

/* An address in a joined workspace leads to it, also one in its metadata; no other does. */
static void test_containing(void **state) {
  fd_wksp_t *one = testing_wksp(PART_MAX, DATA_MAX), *two = testing_wksp(PART_MAX, DATA_MAX);
  fd_wksp_t *both[] = {one, two};
  for (uint32_t i = 0; i < 2; i++) {
    char *base = (char *)both[i];
    assert_ptr_equal(fd_wksp_containing(base), both[i]);
    assert_ptr_equal(fd_wksp_containing(fd_wksp_laddr(both[i], both[i]->data_lo)), both[i]);
    assert_ptr_equal(fd_wksp_containing(base + both[i]->footprint - 1), both[i]);
    assert_ptr_not_equal(fd_wksp_containing(base + both[i]->footprint), both[i]);
    assert_ptr_not_equal(fd_wksp_containing(base - 1), both[i]);
  }
  assert_null(fd_wksp_containing(&one));
  assert_int_equal(wksp_last_error_code(), WKSP_E_NOTFOUND);
  assert_null(fd_wksp_containing((void *)~0UL));
  assert_null(fd_wksp_containing(NULL));
  ulong footprint = one->footprint;
  fd_wksp_leave(one);
  assert_null(fd_wksp_containing(one));
  assert_int_equal(munmap(one, footprint), 0);
  testing_wksp_end(two);
}

/* The lock's holder is told by its pid, nobody and nonsense as 0. */
static void test_owner(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  wksp__call_t call;
  assert_int_equal(fd_wksp_owner(NULL), 0);
  assert_int_equal(fd_wksp_owner(wksp), 0);
  assert_int_equal(wksp__call_begin(wksp, &call), 0);
  assert_int_equal(wksp__lock(&call, WKSP_LOCK_CALL_NS), 0);
  assert_int_equal(fd_wksp_owner(wksp), call.slot->pid);
  assert_true(call.slot->pid > 0);
  wksp__unlock(&call);
  wksp__call_end(&call);
  assert_int_equal(fd_wksp_owner(wksp), 0);
  wksp__vol(wksp)->lock = 0xfffffUL;
  assert_int_equal(fd_wksp_owner(wksp), 0);
  wksp__vol(wksp)->lock = 0;
  testing_wksp_end(wksp);
}

typedef struct lines {
  char text[4096];
  uint32_t cnt, stop_at;
} lines_t;

static int on_line(void *arg, char const *line) {
  lines_t *lines = arg;
  assert_true(strlen(lines->text) + strlen(line) + 2 < sizeof lines->text);
  strcat(strcat(lines->text, line), "\n");
  return ++lines->cnt == lines->stop_at ? 42 : 0;
}

/* The listing has the figures, each partition in order and each root, with names made safe; it
   stops when it is told to. */
static void test_list(void **state) {
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  ulong a = fd_wksp_alloc(wksp, 64, 100, 0xab), b = fd_wksp_alloc(wksp, 64, 64, ~0UL);
  char root_name[FD_WKSP_ROOT_NAME_MAX + 1], want[1024];
  memset(root_name, 0xfe, sizeof root_name - 1);
  root_name[sizeof root_name - 1] = 0;
  assert_int_equal(fd_wksp_root_set(wksp, "w\x1b\\o", a, 3), 0);
  assert_int_equal(fd_wksp_root_set(wksp, root_name, b, ~0UL), 0);
  lines_t lines = {.cnt = 0};
  assert_int_equal(fd_wksp_list(wksp, on_line, &lines), 0);
  int at = snprintf(want, sizeof want,
                    "workspace test, seed 7, data [0x%lx, 0x%lx)\n"
                    "3 partitions of at most 64: 192 bytes in 2 used, 1048384 bytes in 1 free, the "
                    "largest of 1048384\n"
                    "partition 0x%lx, 128 bytes, tag 0xab, user\n"
                    "partition 0x%lx, 64 bytes, tag 0xffffffffffffffff, user\n"
                    "root w\\x1b\\x5co, 0x%lx, tag 0x3\nroot ",
                    wksp->data_lo, wksp->data_hi, a, b, a);
  for (uint32_t i = 0; i < FD_WKSP_ROOT_NAME_MAX; i++)
    at += snprintf(want + at, sizeof want - (size_t)at, "\\xfe");
  snprintf(want + at, sizeof want - (size_t)at, ", 0x%lx, tag 0xffffffffffffffff\n", b);
  assert_string_equal(lines.text, want);
  for (uint32_t stop = 1; stop <= 6; stop++) {
    lines_t some = {.stop_at = stop};
    assert_int_equal(fd_wksp_list(wksp, on_line, &some), 42);
    assert_int_equal(some.cnt, stop);
  }
  assert_int_equal(fd_wksp_list(NULL, on_line, &lines), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_list(wksp, NULL, &lines), WKSP_E_INVAL);
  testing_wksp_end(wksp);
}

static int count_line(void *arg, char const *line) {
  assert_true(strlen(line) < 512);
  ++*(uint32_t *)arg;
  return 0;
}

/* A listing of memory that says anything ends, with lines of bounded number and length. */
static void test_list_damage(void **state) {
  testing_rng_t rng = testing_rng();
  fd_wksp_t *wksp = testing_wksp(PART_MAX, DATA_MAX);
  for (uint32_t i = 0; i < 30; i++) assert_true(fd_wksp_alloc(wksp, 64, 64 * (i + 1), i + 1) > 0);
  assert_int_equal(fd_wksp_root_set(wksp, "a", wksp->data_lo, 1), 0);
  size_t size = wksp->data_lo - wksp->root_off;
  uint64_t *live = (uint64_t *)((uintptr_t)wksp + wksp->root_off);
  void *copy = malloc(size);
  assert_non_null(copy);
  memcpy(copy, live, size);
  for (uint32_t i = 0; i < 1000; i++) {
    for (uint64_t n = 1 + testing_below(&rng, 200); n; n--)
      live[testing_below(&rng, size / 8)] = testing_next(&rng) >> testing_below(&rng, 64);
    uint32_t cnt = 0;
    int rc = fd_wksp_list(wksp, count_line, &cnt);
    assert_true(rc == 0 || rc == WKSP_E_CORRUPT);
    assert_true(cnt <= 2 + PART_MAX + FD_WKSP_ROOT_MAX);
    memcpy(live, copy, size);
  }
  free(copy);
  testing_wksp_end(wksp);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_parse),
      cmocka_unit_test(test_laddr),       cmocka_unit_test(test_containing),
      cmocka_unit_test(test_owner),       cmocka_unit_test(test_list),
      cmocka_unit_test(test_list_damage),
  };
  return cmocka_run_group_tests_name("cstr", tests, NULL, NULL);
}
