/* spec_test: one text per spec, every damage found and its line named. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/core/spec.h"
#include "wksp/error.h"

/* What stands in the text of spec_example after its first line, by the version that added it. */
/* clang-format off */
#define TEXT_1 \
  "id=17\n" \
  "state=ready\n" \
  "name=orders\n" \
  "uuid=00112233445566778899aabbccddeeff\n" \
  "size=4194304\n" \
  "page_size=2097152\n" \
  "data_max=4000000\n" \
  "part_max=64\n" \
  "mode=0640\n" \
  "uid=1000\n" \
  "gid=100\n" \
  "seed=7\n" \
  "created_ns=1700000000000000000\n" \
  "layout=1\n" \
  "geometry=000000000000feed\n"
#define TEXT_2 TEXT_1 \
  "max_size=8388608\n"
#define TEXT_3 TEXT_2 \
  "removed_ns=0\n" \
  "done=01ab0000000000000000000000000000c0,02000000000000000000000000000000r9\n"
/* clang-format on */

static spec_t spec_example(void) {
  spec_t spec = {.ws_id = 17,
                 .state = SPEC_READY,
                 .name = "orders",
                 .size = 4194304,
                 .max_size = 8388608,
                 .page_size = 2097152,
                 .data_max = 4000000,
                 .part_max = 64,
                 .mode = 0640,
                 .uid = 1000,
                 .gid = 100,
                 .seed = 7,
                 .created_ns = 1700000000000000000UL,
                 .layout_version = 1,
                 .geometry_hash = 0xfeedUL,
                 .numa = "cpu:0-2:2",
                 .nodes = "split:0,1",
                 .strict = 1};
  for (int i = 0; i < 16; i++) spec.uuid[i] = (uint8_t)(i * 17);
  uint8_t first[SPEC_CALL_ID_SIZE] = {0x01, 0xab}, second[SPEC_CALL_ID_SIZE] = {0x02};
  spec_done_add(&spec, first, SPEC_DONE_CREATE, 0);
  spec_done_add(&spec, second, SPEC_DONE_RESIZE, 9);
  return spec;
}

/* What is encoded is decoded to the same, for usual and for extreme values, and fits. */
static void test_round_trip(void **state) {
  spec_t specs[5] = {spec_example(), spec_example(), spec_example(), spec_example(),
                     spec_example()};
  specs[1].ws_id = UINT64_MAX;
  specs[1].state = SPEC_REMOVING;
  memset(specs[1].uuid, 0xff, 16);
  memset(specs[1].name, 'z', SPEC_NAME_MAX);
  specs[1].size = specs[1].max_size = specs[1].data_max = SPEC_SIZE_MAX;
  specs[1].part_max = SPEC_PART_MAX;
  specs[1].mode = SPEC_MODE_MAX;
  specs[1].uid = specs[1].gid = specs[1].seed = specs[1].layout_version = UINT32_MAX;
  specs[1].created_ns = specs[1].geometry_hash = UINT64_MAX;
  specs[2].mode = specs[2].uid = specs[2].gid = specs[2].seed = 0;
  specs[2].created_ns = specs[2].geometry_hash = 0;
  specs[2].size = specs[2].max_size = specs[2].data_max = 1;
  specs[2].part_max = SPEC_PART_MIN;
  specs[3].state = SPEC_MAKING;
  specs[3].page_size = specs[3].part_max = specs[3].data_max = 0;
  specs[3].layout_version = 0;
  specs[3].geometry_hash = 0;
  specs[4] = specs[1];
  specs[4].state = SPEC_GONE;
  specs[4].removed_ns = UINT64_MAX;
  specs[4].page_size = 1UL << 30;
  specs[4].replaces = UINT64_MAX - 1;
  memset(specs[4].tag, 'z', SPEC_TAG_MAX);
  memset(specs[4].numa, 'z', SPEC_NUMA_MAX);
  memset(specs[4].nodes, '9', SPEC_NUMA_MAX);
  memset(specs[2].numa, 0, sizeof(specs[2].numa));
  memset(specs[2].nodes, 0, sizeof(specs[2].nodes));
  specs[2].strict = 0;
  specs[4].done_cnt = SPEC_DONE_MAX;
  for (uint32_t i = 0; i < SPEC_DONE_MAX; i++) {
    memset(specs[4].done[i].id, 0xff - (int)i, SPEC_CALL_ID_SIZE);
    specs[4].done[i].op = 1 + (int)i % SPEC_DONE_RESIZE;
    specs[4].done[i].code = 15 - (int)i;
  }

  for (int i = 0; i < 5; i++) {
    char text[SPEC_TEXT_MAX], again[SPEC_TEXT_MAX];
    spec_t decoded;
    int len = spec_encode(&specs[i], text);
    assert_in_range(len, 1, SPEC_TEXT_MAX - 1);
    assert_int_equal(strlen(text), len);
    assert_int_equal(spec_decode(text, (size_t)len, &decoded), 0);
    assert_memory_equal(&decoded, &specs[i], sizeof(decoded));
    assert_int_equal(spec_encode(&decoded, again), len);
    assert_string_equal(again, text);
  }
}

/* The text is the documented one, its checksum that of zip. */
static void test_text(void **state) {
  spec_t spec = spec_example();
  char text[SPEC_TEXT_MAX];
  spec_encode(&spec, text);
  assert_string_equal(text, "wkspd-spec=4\n" TEXT_3 "numa=cpu:0-2:2\n"
                            "nodes=split:0,1\n"
                            "strict=1\n"
                            "crc=cac66b10\n");
}

/* What it was before workspaces were placed: the fields of later versions are empty. */
static void spec_unplaced(spec_t *spec) {
  memset(spec->numa, 0, sizeof(spec->numa));
  memset(spec->nodes, 0, sizeof(spec->nodes));
  spec->strict = 0;
}

/* The text is that of the spec; what comes after it is refused in that line. */
static void decodes(char const *text, size_t len, spec_t const *spec, int next_line) {
  spec_t decoded;
  assert_int_equal(spec_decode(text, len, &decoded), 0);
  assert_memory_equal(&decoded, spec, sizeof(*spec));
  assert_int_equal(spec_decode(text, len + 1, &decoded), next_line);
}

/* What the first version has left on disk is read: as large as it can be. Its checksum, and what
   comes after it, are refused in lines of their own. */
static void test_version_1(void **state) {
  static char const text[] = "wkspd-spec=1\n" TEXT_1 "crc=e59dcdd0\n";
  spec_t spec = spec_example(), decoded;
  char damaged[sizeof(text) + 1];
  spec.max_size = spec.size;
  spec.done_cnt = 0;
  memset(spec.done, 0, sizeof(spec.done));
  spec_unplaced(&spec);
  decodes(text, sizeof(text) - 1, &spec, 18);
  memcpy(damaged, text, sizeof(text));
  damaged[sizeof(text) - 3] ^= 1;
  assert_int_equal(spec_decode(damaged, sizeof(text) - 1, &decoded), 17);
}

/* What the second version has left on disk is read: it remembers no calls. */
static void test_version_2(void **state) {
  static char const text[] = "wkspd-spec=2\n" TEXT_2 "crc=c7f8f308\n";
  spec_t spec = spec_example();
  spec.done_cnt = 0;
  memset(spec.done, 0, sizeof(spec.done));
  spec_unplaced(&spec);
  decodes(text, sizeof(text) - 1, &spec, 19);
}

/* What the third version has left on disk is read: it is placed nowhere in particular. */
static void test_version_3(void **state) {
  static char const text[] = "wkspd-spec=3\n" TEXT_3 "crc=6eda4b0f\n";
  spec_t spec = spec_example();
  spec_unplaced(&spec);
  decodes(text, sizeof(text) - 1, &spec, 21);
}

/* The last calls are remembered and found by their ids, the oldest making room; none without an id.
 */
static void test_done(void **state) {
  spec_t spec = spec_example();
  uint8_t none[SPEC_CALL_ID_SIZE] = {0}, id[SPEC_CALL_ID_SIZE] = {0};
  spec_done_add(&spec, none, SPEC_DONE_DELETE, 0);
  assert_int_equal(spec.done_cnt, 2);
  assert_null(spec_done_find(&spec, none));
  for (uint8_t i = 1; i < 20; i++) {
    id[15] = i;
    assert_null(spec_done_find(&spec, id));
    spec_done_add(&spec, id, SPEC_DONE_RESIZE, i % 16);
    assert_int_equal(spec_done_find(&spec, id)->code, i % 16);
    assert_in_range(spec.done_cnt, 1, SPEC_DONE_MAX);
    assert_int_equal(spec_check(&spec), 0);
  }
  id[15] = 19 - SPEC_DONE_MAX + 1;
  assert_non_null(spec_done_find(&spec, id));
  id[15]--;
  assert_null(spec_done_find(&spec, id));
  spec_done_undo(&spec, id); /* not the last: nothing */
  assert_int_equal(spec.done_cnt, SPEC_DONE_MAX);
  id[15] = 19;
  spec_done_undo(&spec, id);
  assert_int_equal(spec.done_cnt, SPEC_DONE_MAX - 1);
  assert_null(spec_done_find(&spec, id));
  assert_int_equal(spec_check(&spec), 0);
}

/* Every flipped bit is found. */
static void test_bit_flips(void **state) {
  spec_t spec = spec_example(), decoded = {.ws_id = 5};
  char text[SPEC_TEXT_MAX];
  size_t len = (size_t)spec_encode(&spec, text);
  for (size_t bit = 0; bit < len * 8; bit++) {
    text[bit / 8] ^= (char)(1 << bit % 8);
    int line = spec_decode(text, len, &decoded);
    if (line < 1 || line > 24) fail_msg("bit %zu: %d", bit, line);
    assert_int_equal(decoded.ws_id, 5);
    text[bit / 8] ^= (char)(1 << bit % 8);
  }
}

/* Every shorter text, and every longer one, is refused at the line where it breaks off or goes
   on. */
static void test_lengths(void **state) {
  spec_t spec = spec_example(), decoded;
  char text[SPEC_TEXT_MAX];
  size_t len = (size_t)spec_encode(&spec, text);
  int newlines = 0;
  for (size_t cut = 0; cut < len; cut++) {
    assert_int_equal(spec_decode(text, cut, &decoded), newlines + 1);
    newlines += text[cut] == '\n';
  }
  assert_int_equal(newlines, 23);
  assert_int_equal(spec_decode(text, len + 1, &decoded), 24);
  text[len] = '\n';
  assert_int_equal(spec_decode(text, len + 1, &decoded), 24);
  assert_true(spec_decode(NULL, 0, &decoded) > 0);
}

/* The line that is refused when from is replaced by to in the example's text. */
static int refused_line(char const *from, char const *to) {
  spec_t spec = spec_example(), decoded;
  char text[SPEC_TEXT_MAX], changed[2 * SPEC_TEXT_MAX];
  spec_encode(&spec, text);
  char *at = strstr(text, from);
  assert_non_null(at);
  int len =
      snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
  return spec_decode(changed, (size_t)len, &decoded);
}

/* One that has taken another's place says so, in a version of its own; of those that are older than
   their predecessor, or say that they have none, there are none. */
static void test_replaces(void **state) {
  spec_t spec = spec_example(), again;
  char text[SPEC_TEXT_MAX];
  spec.replaces = 16;
  int len = spec_encode(&spec, text);
  assert_true(len > 0 && !strncmp(text, "wkspd-spec=5\n", 13));
  assert_int_equal(spec_decode(text, (size_t)len, &again), 0);
  assert_memory_equal(&again, &spec, sizeof(spec));
  char *line = strstr(text, "replaces=16");
  for (char const *wrong = "0a-"; *wrong; wrong++) {
    line[sizeof("replaces=") - 1] = *wrong;
    assert_int_equal(spec_decode(text, (size_t)len, &again), 23);
  }
  spec.replaces = spec.ws_id;
  assert_int_equal(spec_check(&spec), 23);
}

/* Of two that are ready, one in the place of the other, the other goes; but if only that one has
   its memory, it stays. */
static void test_settle(void **state) {
  spec_t specs[3] = {spec_example(), spec_example(), spec_example()};
  uint8_t has_memory[3] = {1, 0, 1};
  specs[1].ws_id = 18;
  specs[1].replaces = 17;
  specs[2].ws_id = 19;
  spec_settle(specs, has_memory, 3);
  assert_int_equal(specs[0].state, SPEC_READY);
  assert_int_equal(specs[1].state, SPEC_MAKING);
  has_memory[1] = 1;
  spec_settle(specs, has_memory, 3);
  assert_int_equal(specs[0].state, SPEC_READY);
  specs[1].state = SPEC_READY;
  has_memory[0] = has_memory[1] = 0;
  spec_settle(specs, has_memory, 3);
  assert_int_equal(specs[0].state, SPEC_READY);
  assert_int_equal(specs[1].state, SPEC_READY);
  has_memory[1] = 1;
  spec_settle(specs, has_memory, 3);
  assert_int_equal(specs[0].state, SPEC_REMOVING);
  assert_int_equal(specs[1].state, SPEC_READY);
  assert_int_equal(specs[2].state, SPEC_READY);
}

/* A value out of its range or in another spelling is refused by the number of its line; the
   checksum comes last. */
static void test_lines(void **state) {
  static struct {
    char const *from, *to;
    int line;
  } const ways[] = {
      {"wkspd-spec=4", "wkspd-spec=5", 23},
      {"wkspd-spec=4", "wkspd-spec=7", 1},
      {"wkspd-spec=4", "wkspd-spec=0", 1},
      {"wkspd-spec=4", "wkspd-spec=1", 17},
      {"wkspd-spec=4", "wkspd-spec=2", 18},
      {"wkspd-spec=4", "wkspd-spec=3", 20},
      {"wkspd-spec=4", "wkspd-spec=04", 1},
      {"wkspd-spec=4", "wkspd-spec=f", 1},
      {"wkspd-spec", "Wkspd-spec", 1},
      {"id=17", "id=0", 2},
      {"id=17", "id=017", 2},
      {"id=17", "id=+17", 2},
      {"id=17", "id= 17", 2},
      {"id=17", "id=17 ", 2},
      {"id=17", "id=", 2},
      {"id=17", "id", 2},
      {"id=17", "id=18446744073709551616", 2},
      {"id=17", "id=99999999999999999999999", 2},
      {"id=17\n", "", 2},
      {"id=17\n", "id=17\nid=17\n", 3},
      {"state=ready", "state=Ready", 3},
      {"state=ready", "state=", 3},
      {"state=ready", "state=making", 8},
      {"name=orders", "name=", 4},
      {"name=orders", "name=-x", 4},
      {"name=orders", "name=a2345678901234567890123456789012345678901", 4},
      {"uuid=00", "uuid=0", 5},
      {"uuid=00", "uuid=000", 5},
      {"uuid=00", "uuid=0g", 5},
      {"aabb", "AABB", 5},
      {"size=4194304", "size=0", 6},
      {"size=4194304", "size=0x1000", 6},
      {"size=4194304", "size=-1", 6},
      {"size=4194304", "size=70369817919489", 6},
      {"page_size=2097152", "page_size=0", 7},
      {"page_size=2097152", "page_size=4097", 7},
      {"data_max=4000000", "data_max=0", 8},
      {"data_max=4000000", "data_max=8388609", 8},
      {"part_max=64", "part_max=7", 9},
      {"part_max=64", "part_max=2147483648", 9},
      {"mode=0640", "mode=640", 10},
      {"mode=0640", "mode=00640", 10},
      {"mode=0640", "mode=0800", 10},
      {"mode=0640", "mode=1000", 10},
      {"uid=1000", "uid=4294967296", 11},
      {"gid=100", "gid=4294967296", 12},
      {"seed=7", "seed=4294967296", 13},
      {"created_ns=17", "created_ns=x17", 14},
      {"layout=1", "layout=0", 15},
      {"geometry=0", "geometry=", 16},
      {"geometry=0", "geometry=00", 16},
      {"feed", "feeD", 16},
      {"max_size=8388608", "max_size=4194303", 17},
      {"max_size=8388608", "max_size=70369817919489", 17},
      {"max_size=8388608\n", "", 17},
      {"removed_ns=0", "removed_ns=1", 18},
      {"removed_ns=0", "removed_ns=", 18},
      {"done=01", "done=00", 23},
      {"done=01", "done=0", 19},
      {"done=01", "done=0G", 19},
      {"c0,", "c0;", 19},
      {"c0,", "c0", 19},
      {"c0,", "x0,", 19},
      {"c0,", "C0,", 19},
      {"c0,", "cg,", 19},
      {"r9\n", "r9,\n", 19},
      {"02000000000000000000000000000000", "00000000000000000000000000000000", 19},
      {"numa=cpu", "numa=Cpu", 20},
      {"numa=cpu", "numa=c pu", 20},
      {"numa=cpu:0-2:2\n", "", 20},
      {"nodes=split:0,1", "nodes=split;0,1", 21},
      {"nodes=split", "node=split", 21},
      {"strict=1", "strict=2", 22},
      {"strict=1", "strict=01", 22},
      {"strict=1", "strict=", 22},
      {"crc=", "crc=0", 23},
      {"crc=", "CRC=", 23},
      {"seed=7", "seed=8", 23},
  };
  for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
    int line = refused_line(ways[i].from, ways[i].to);
    if (line != ways[i].line)
      fail_msg("\"%s\" for \"%s\": line %d, not %d", ways[i].to, ways[i].from, line, ways[i].line);
  }
}

/* A NUL within a name does not shorten it. */
static void test_nul(void **state) {
  spec_t spec = spec_example(), decoded;
  char text[SPEC_TEXT_MAX];
  size_t len = (size_t)spec_encode(&spec, text);
  strstr(text, "orders")[3] = 0;
  assert_int_equal(spec_decode(text, len, &decoded), 4);
}

/* A spec out of its ranges is not encoded, and spec_check names the line. */
static void test_check(void **state) {
  char text[SPEC_TEXT_MAX];
  spec_t spec = spec_example();
  assert_int_equal(spec_check(&spec), 0);
  spec.ws_id = 0;
  assert_int_equal(spec_check(&spec), 2);
  assert_int_equal(spec_encode(&spec, text), WKSP_E_INVAL);
  spec = spec_example();
  spec.state = 0;
  assert_int_equal(spec_check(&spec), 3);
  spec.state = 5;
  assert_int_equal(spec_check(&spec), 3);
  spec = spec_example();
  spec.mode = 01000;
  assert_int_equal(spec_check(&spec), 10);
  spec = spec_example();
  spec.state = SPEC_MAKING;
  spec.data_max = 0;
  assert_int_equal(spec_check(&spec), 15);
  spec.layout_version = 0;
  assert_int_equal(spec_check(&spec), 16);
  spec.geometry_hash = 0;
  assert_int_equal(spec_check(&spec), 0);
}

/* Names: 1 to 39 letters, digits, '.', '_', '-', the first a letter or digit. Each byte in each
   place. */
static void test_names(void **state) {
  char name[64];
  assert_false(spec_name_ok(NULL));
  assert_false(spec_name_ok(""));
  for (int c = 1; c < 256; c++) {
    int alnum = c < 128 &&
                strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", c) != NULL;
    snprintf(name, sizeof(name), "%c", c);
    assert_int_equal(spec_name_ok(name), alnum);
    snprintf(name, sizeof(name), "a%cb", c);
    assert_int_equal(spec_name_ok(name), alnum || c == '.' || c == '_' || c == '-');
  }
  for (size_t len = 1; len < 60; len++) {
    memset(name, 'a', sizeof(name));
    name[len] = 0;
    assert_int_equal(spec_name_ok(name), len <= SPEC_NAME_MAX);
  }
}

/* A tag has a line of its own, and that of replaces before it; what is none is refused by its line,
   in the text and in the struct. */
static void test_tag(void **state) {
  static char const *const bad[] = {"-a",  ".a",  "a.b",
                                    "a b", "a/b", "a2345678901234567890123456789012"};
  spec_t spec = spec_example(), decoded;
  char text[SPEC_TEXT_MAX];
  memcpy(spec.tag, "red-1_", 7);
  size_t len = (size_t)spec_encode(&spec, text);
  assert_memory_equal(text, "wkspd-spec=6\n", 13);
  assert_non_null(strstr(text, "\nreplaces=0\ntag=red-1_\ncrc="));
  assert_int_equal(spec_decode(text, len, &decoded), 0);
  assert_memory_equal(&decoded, &spec, sizeof(spec));
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
    assert_false(spec_tag_ok(bad[i]));
    if (strlen(bad[i]) > SPEC_TAG_MAX) continue;
    memcpy(spec.tag, bad[i], strlen(bad[i]) + 1);
    assert_int_equal(spec_check(&spec), 24);
  }
  char *line = strstr(text, "tag=red");
  line[sizeof("tag=") - 1] = '-';
  assert_int_equal(spec_decode(text, len, &decoded), 24);
  assert_true(spec_tag_ok(""));
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_round_trip), cmocka_unit_test(test_text),
      cmocka_unit_test(test_version_1),  cmocka_unit_test(test_version_2),
      cmocka_unit_test(test_version_3),  cmocka_unit_test(test_done),
      cmocka_unit_test(test_bit_flips),  cmocka_unit_test(test_lengths),
      cmocka_unit_test(test_replaces),   cmocka_unit_test(test_tag),
      cmocka_unit_test(test_settle),     cmocka_unit_test(test_lines),
      cmocka_unit_test(test_nul),        cmocka_unit_test(test_check),
      cmocka_unit_test(test_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
