/* Tests of parse: what is understood, what is refused, and that a refusal changes nothing and says
   something. */

#include "parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Values that no parser here returns for the texts tried: they must survive a refusal. */
#define UNTOUCHED   0xdeadbeefdeadbeefUL
#define UNTOUCHED32 0xdeadbeefU

static void refused_number(char const *text) {
  ulong number = UNTOUCHED;
  char const *why = parse_number(text, &number);
  assert_non_null(why);
  assert_true(strlen(why) > 10);
  assert_int_equal(number, UNTOUCHED);
}

/* Whole decimal and hexadecimal numbers up to 2^64-1 are read; leading zeros are not octal. */
static void numbers(void **state) {
  static struct {
    char const *text;
    ulong number;
  } const good[] = {{"0", 0},
                    {"7", 7},
                    {"010", 10},
                    {"0x0", 0},
                    {"0x10", 16},
                    {"0XfF", 255},
                    {"0x00000000000000000001", 1},
                    {"18446744073709551615", ~0UL},
                    {"0xffffffffffffffff", ~0UL}};
  for (size_t i = 0; i < COUNT(good); i++) {
    ulong number = UNTOUCHED;
    assert_null(parse_number(good[i].text, &number));
    assert_int_equal(number, good[i].number);
  }
}

/* Signs, spaces, halves of numbers and what is beyond 64 bits are refused, not wrapped. */
static void bad_numbers(void **state) {
  static char const *const bad[] = {"",
                                    " 1",
                                    "1 ",
                                    "+1",
                                    "-1",
                                    "-0",
                                    "x",
                                    "0x",
                                    "0xg",
                                    "12a",
                                    "1.0",
                                    "1e3",
                                    "18446744073709551616",
                                    "99999999999999999999999999999999",
                                    "0x10000000000000000",
                                    "\xff"};
  for (size_t i = 0; i < COUNT(bad); i++) refused_number(bad[i]);
}

/* 32-bit numbers end at 2^32-1. */
static void numbers32(void **state) {
  uint number = UNTOUCHED32;
  assert_null(parse_number32("4294967295", &number));
  assert_int_equal(number, 0xffffffffU);
  assert_null(parse_number32("0", &number));
  assert_int_equal(number, 0);
  static char const *const bad[] = {"4294967296", "18446744073709551616", "-1", "", "1x"};
  for (size_t i = 0; i < COUNT(bad); i++) {
    number = UNTOUCHED32;
    assert_non_null(parse_number32(bad[i], &number));
    assert_int_equal(number, UNTOUCHED32);
  }
}

/* Sizes come in bytes or in powers of 1024, in either case and with or without iB. */
static void sizes(void **state) {
  static struct {
    char const *text;
    ulong bytes;
  } const good[] = {{"0", 0},
                    {"1", 1},
                    {"65536", 65536},
                    {"65536B", 65536},
                    {"0x1000", 4096},
                    {"4k", 4096},
                    {"4K", 4096},
                    {"4KiB", 4096},
                    {"4kib", 4096},
                    {"0x10K", 16384},
                    {"64M", 64UL << 20},
                    {"64MiB", 64UL << 20},
                    {"1G", 1UL << 30},
                    {"1GiB", 1UL << 30},
                    {"64T", 1UL << 46},
                    {"1TiB", 1UL << 40},
                    {"16777215T", 16777215UL << 40},
                    {"18446744073709551615", ~0UL}};
  for (size_t i = 0; i < COUNT(good); i++) {
    ulong bytes = UNTOUCHED;
    assert_null(parse_size(good[i].text, &bytes));
    assert_int_equal(bytes, good[i].bytes);
  }
}

/* Sizes that overflow 64 bits, have fractions, signs, unknown or ambiguous units are refused. */
static void bad_sizes(void **state) {
  static char const *const bad[] = {"",
                                    "K",
                                    "M64",
                                    "64X",
                                    "64MB",
                                    "64kb",
                                    "64 M",
                                    "64Mi",
                                    "64MiBB",
                                    "64MM",
                                    "1.5G",
                                    "-1",
                                    "-1M",
                                    "+1M",
                                    "64Bi",
                                    "0xM",
                                    "16777216T",
                                    "18446744073709551615K",
                                    "18446744073709551616",
                                    "64M\n",
                                    "\xffM"};
  for (size_t i = 0; i < COUNT(bad); i++) {
    ulong bytes = UNTOUCHED;
    char const *why = parse_size(bad[i], &bytes);
    if (!why) fail_msg("'%s' was understood", bad[i]);
    assert_int_equal(bytes, UNTOUCHED);
  }
  ulong bytes;
  assert_non_null(strstr(parse_size("64MB", &bytes), "64MiB"));
  assert_non_null(strstr(parse_size("1.5G", &bytes), "1536M"));
  assert_non_null(strstr(parse_size("-1", &bytes), "negative"));
  assert_non_null(strstr(parse_size("16777216T", &bytes), "64 bits"));
}

/* A tag is any number but 0. */
static void tags(void **state) {
  ulong tag = UNTOUCHED;
  assert_non_null(parse_tag("0", &tag));
  assert_non_null(parse_tag("0x0", &tag));
  assert_non_null(parse_tag("", &tag));
  assert_non_null(parse_tag("-7", &tag));
  assert_int_equal(tag, UNTOUCHED);
  assert_null(parse_tag("0xffffffffffffffff", &tag));
  assert_int_equal(tag, ~0UL);
}

/* A mode is octal whatever it begins with; one beyond 0777 is read, for the daemon to judge. */
static void modes(void **state) {
  uint mode = UNTOUCHED32;
  assert_null(parse_mode("660", &mode));
  assert_int_equal(mode, 0660);
  assert_null(parse_mode("0600", &mode));
  assert_int_equal(mode, 0600);
  assert_null(parse_mode("01777", &mode));
  assert_int_equal(mode, 01777);
  assert_null(parse_mode("37777777777", &mode));
  assert_int_equal(mode, 0xffffffffU);
}

/* A mode of other digits, beyond 32 bits, or of no permission at all (which would mean the default)
 * is refused. */
static void bad_modes(void **state) {
  static char const *const bad[] = {"",     "0",   "000",  "8",           "0689",
                                    "rw",   "-1",  "0x1f", "40000000000", "660 ",
                                    "+660", "6.6", "u=rw", "777777777777"};
  for (size_t i = 0; i < COUNT(bad); i++) {
    uint mode = UNTOUCHED32;
    if (!parse_mode(bad[i], &mode)) fail_msg("'%s' was understood", bad[i]);
    assert_int_equal(mode, UNTOUCHED32);
  }
}

/* A page size is auto or a size; 0 is none, though the daemon would take it for auto. */
static void pages(void **state) {
  ulong page_size = UNTOUCHED;
  static char const *const bad[] = {"", "0", "big", "2MB", "auto ", "-4k"};
  for (size_t i = 0; i < COUNT(bad); i++) assert_non_null(parse_page(bad[i], &page_size));
  assert_int_equal(page_size, UNTOUCHED);
  assert_null(parse_page("auto", &page_size));
  assert_int_equal(page_size, WKSP_PAGE_AUTO);
  assert_null(parse_page("4k", &page_size));
  assert_int_equal(page_size, WKSP_PAGE_4K);
  assert_null(parse_page("2MiB", &page_size));
  assert_int_equal(page_size, WKSP_PAGE_2M);
}

/* Durations are seconds or carry a unit, down to the millisecond and up to an hour. */
static void durations(void **state) {
  static struct {
    char const *text;
    long ms;
  } const good[] = {{"1", 1000},     {"0.5", 500},      {"0.001", 1},    {"1.25s", 1250},
                    {"250ms", 250},  {"1ms", 1},        {"5m", 300000},  {"0.5m", 30000},
                    {"1h", 3600000}, {"3600", 3600000}, {"0.001h", 3600}};
  for (size_t i = 0; i < COUNT(good); i++) {
    long ms = -1;
    assert_null(parse_duration(good[i].text, &ms));
    assert_int_equal(ms, good[i].ms);
  }
}

/* No time, too much of it, less than a millisecond, signs and unknown units are refused. */
static void bad_durations(void **state) {
  static char const *const bad[] = {"",
                                    "0",
                                    "0.0",
                                    "0ms",
                                    "-1",
                                    "+1",
                                    "1.",
                                    ".5",
                                    "1.0001",
                                    "0.5ms",
                                    "2h",
                                    "3601",
                                    "1d",
                                    "1 s",
                                    "s",
                                    "0x10",
                                    "1e3",
                                    "inf",
                                    "nan",
                                    "1.5.5",
                                    "18446744073709551616",
                                    "18446744073709551615h"};
  for (size_t i = 0; i < COUNT(bad); i++) {
    long ms = -1;
    if (!parse_duration(bad[i], &ms)) fail_msg("'%s' was understood", bad[i]);
    assert_int_equal(ms, -1);
  }
}

/* NAME:GADDR gives both; the address may be decimal or hexadecimal. */
static void places(void **state) {
  parse_place_t place;
  assert_null(parse_place("demo:0x10000", &place));
  assert_string_equal(place.name, "demo");
  assert_int_equal(place.gaddr, 65536);
  assert_null(parse_place("a.b-c_d:65536", &place));
  assert_string_equal(place.name, "a.b-c_d");
  assert_int_equal(place.gaddr, 65536);
  assert_null(parse_place("123456789012345678901234567890123456789:1", &place));
  assert_int_equal(strlen(place.name), 39);
  assert_null(parse_place("x:0xffffffffffffffff", &place));
  assert_int_equal(place.gaddr, ~0UL);
}

/* A place without name, colon or address, with two colons, a long name or address 0 is refused. */
static void bad_places(void **state) {
  static char const *const bad[] = {"",
                                    ":",
                                    "demo",
                                    "demo:",
                                    ":0x10",
                                    "demo:x",
                                    "demo:-1",
                                    "demo:0",
                                    "demo:0x0",
                                    "demo:0x10:0x20",
                                    "a:b:1",
                                    "demo:1K",
                                    "demo: 1",
                                    "demo:0x10000000000000000",
                                    "1234567890123456789012345678901234567890:1"};
  for (size_t i = 0; i < COUNT(bad); i++) {
    parse_place_t place = {"untouched", 7};
    if (!parse_place(bad[i], &place)) fail_msg("'%s' was understood", bad[i]);
    assert_string_equal(place.name, "untouched");
    assert_int_equal(place.gaddr, 7);
  }
}

/* A slip of the finger finds the word that was meant; another word finds none. */
static void nearest(void **state) {
  static char const *const words[] = {"create", "ls",     NULL,      "show",    "rm",    "usage",
                                      "query",  "verify", "compact", "version", "watch", "status"};
  static struct {
    char const *text, *word;
  } const tried[] = {
      {"craete", "create"}, {"creat", "create"}, {"CREATE", "create"},
      {"sl", "ls"},         {"sohw", "show"},    {"stats", "status"},
      {"verfiy", "verify"}, {"rmm", "rm"},       {"frobnicate", NULL},
      {"x", NULL},          {"", NULL},          {"a word of more than thirty-one bytes", NULL}};
  for (size_t i = 0; i < COUNT(tried); i++) {
    char const *word = parse_nearest(tried[i].text, words, COUNT(words));
    if (!tried[i].word)
      assert_null(word);
    else
      assert_string_equal(word, tried[i].word);
  }
  assert_null(parse_nearest("ls", NULL, 0));
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(numbers),    cmocka_unit_test(bad_numbers),   cmocka_unit_test(numbers32),
      cmocka_unit_test(sizes),      cmocka_unit_test(bad_sizes),     cmocka_unit_test(tags),
      cmocka_unit_test(modes),      cmocka_unit_test(bad_modes),     cmocka_unit_test(pages),
      cmocka_unit_test(durations),  cmocka_unit_test(bad_durations), cmocka_unit_test(places),
      cmocka_unit_test(bad_places), cmocka_unit_test(nearest),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
