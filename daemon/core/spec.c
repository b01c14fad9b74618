/* spec: see spec.h for the text. The model: encode writes each value in exactly one spelling, and
   decode takes each line only in that spelling, so no two texts mean the same spec. Refuses to
   repair anything. */

#include "daemon/core/spec.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/crc.h"
#include "wksp/error.h"

#define SPEC_PAGE_SMALL 4096UL
#define SPEC_PAGE_HUGE  2097152UL
#define SPEC_PAGE_GIANT 1073741824UL

/* Lines, in order. */
enum {
  LINE_MAGIC = 1,
  LINE_ID,
  LINE_STATE,
  LINE_NAME,
  LINE_UUID,
  LINE_SIZE,
  LINE_PAGE_SIZE,
  LINE_DATA_MAX,
  LINE_PART_MAX,
  LINE_MODE,
  LINE_UID,
  LINE_GID,
  LINE_SEED,
  LINE_CREATED,
  LINE_LAYOUT,
  LINE_GEOMETRY,
  LINE_MAX_SIZE,
  LINE_REMOVED,
  LINE_DONE,
  LINE_NUMA,
  LINE_NODES,
  LINE_STRICT,
  LINE_REPLACES,
  LINE_TAG,
  LINE_CRC
};

#define VERSION 6 /* 5 if there is no tag, 4 if nothing was replaced either */

/* The line of the checksum, by version. */
static int const crc_lines[VERSION + 1] = {
    0, LINE_MAX_SIZE, LINE_REMOVED, LINE_NUMA, LINE_REPLACES, LINE_TAG, LINE_CRC};

static char const *const spec_states[] = {"", "making", "ready", "removing", "gone"};
static char const spec_ops[] = {0, 'c', 'd', 'r'};

/* Bytes of one call: its id, the letter of the operation, the digit of the code. */
#define DONE_LEN (2 * SPEC_CALL_ID_SIZE + 2)

static int id_is_none(uint8_t const id[SPEC_CALL_ID_SIZE]) {
  static uint8_t const none[SPEC_CALL_ID_SIZE];
  return !memcmp(id, none, sizeof(none));
}

void spec_done_add(spec_t *spec, uint8_t const id[SPEC_CALL_ID_SIZE], int op, int code) {
  if (id_is_none(id)) return;
  if (spec->done_cnt == SPEC_DONE_MAX)
    memmove(spec->done, spec->done + 1, --spec->done_cnt * sizeof(*spec->done));
  spec_done_t *done = &spec->done[spec->done_cnt++];
  memcpy(done->id, id, sizeof(done->id));
  done->op = op;
  done->code = code;
}

void spec_done_undo(spec_t *spec, uint8_t const id[SPEC_CALL_ID_SIZE]) {
  if (!spec->done_cnt || memcmp(spec->done[spec->done_cnt - 1].id, id, SPEC_CALL_ID_SIZE) != 0)
    return;
  memset(&spec->done[--spec->done_cnt], 0, sizeof(*spec->done));
}

spec_done_t const *spec_done_find(spec_t const *spec, uint8_t const id[SPEC_CALL_ID_SIZE]) {
  for (uint32_t i = 0; i < spec->done_cnt && !id_is_none(id); i++)
    if (!memcmp(spec->done[i].id, id, SPEC_CALL_ID_SIZE)) return &spec->done[i];
  return NULL;
}

static int done_check(spec_t const *spec) {
  if (spec->done_cnt > SPEC_DONE_MAX) return LINE_DONE;
  for (uint32_t i = 0; i < spec->done_cnt; i++) {
    spec_done_t const *done = &spec->done[i];
    if (id_is_none(done->id) || done->op < SPEC_DONE_CREATE || done->op > SPEC_DONE_RESIZE ||
        done->code < 0 || done->code > 15)
      return LINE_DONE;
    if (spec_done_find(spec, done->id) != done) return LINE_DONE; /* it stands there twice */
  }
  return 0;
}

/* As it was before it had memory. */
static void spec_unmake(spec_t *spec) {
  spec->state = SPEC_MAKING;
  spec->data_max = spec->geometry_hash = 0;
  spec->layout_version = 0;
}

void spec_settle(spec_t *specs, uint8_t const *has_memory, size_t cnt) {
  for (size_t i = 0; i < cnt; i++) {
    if (!specs[i].replaces || specs[i].state != SPEC_READY) continue;
    for (size_t k = 0; k < cnt; k++) {
      if (specs[k].ws_id != specs[i].replaces || specs[k].state != SPEC_READY) continue;
      if (has_memory[i])
        specs[k].state = SPEC_REMOVING;
      else if (has_memory[k])
        spec_unmake(&specs[i]);
      break;
    }
  }
}

int spec_name_ok(char const *name) {
  if (!name) return 0;
  for (size_t i = 0; i <= SPEC_NAME_MAX; i++) {
    char c = name[i];
    int alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

    if (!c) return i > 0;
    if (!alnum && !(i && (c == '.' || c == '_' || c == '-'))) return 0;
  }
  return 0;
}

int spec_tag_ok(char const *tag) {
  size_t len = strnlen(tag, SPEC_TAG_MAX + 1);
  return len <= SPEC_TAG_MAX && !strchr(tag, '.') && (!len || spec_name_ok(tag));
}

/* Letters, digits and punctuation of placements: whatever else the text says. */
static int numa_ok(char const text[SPEC_NUMA_MAX + 1]) {
  size_t len = strnlen(text, SPEC_NUMA_MAX + 1);
  return len <= SPEC_NUMA_MAX && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789:,*-") == len;
}

int spec_check(spec_t const *spec) {
  int making = spec->state == SPEC_MAKING;

  if (!spec->ws_id) return LINE_ID;
  if (spec->state < SPEC_MAKING || spec->state > SPEC_GONE) return LINE_STATE;
  if (!spec_name_ok(spec->name)) return LINE_NAME;
  /* The memory is rounded up to pages, which may be past the limit for what was asked. */
  if (!spec->size || spec->size > SPEC_SIZE_MAX + SPEC_PAGE_GIANT) return LINE_SIZE;
  if (spec->max_size < spec->size || spec->max_size > SPEC_SIZE_MAX + SPEC_PAGE_GIANT)
    return LINE_MAX_SIZE;
  if (spec->page_size != SPEC_PAGE_SMALL && spec->page_size != SPEC_PAGE_HUGE &&
      spec->page_size != SPEC_PAGE_GIANT && !(making && !spec->page_size))
    return LINE_PAGE_SIZE;
  if (making ? spec->data_max != 0 : !spec->data_max || spec->data_max > spec->max_size)
    return LINE_DATA_MAX;
  if (!(making && !spec->part_max) &&
      (spec->part_max < SPEC_PART_MIN || spec->part_max > SPEC_PART_MAX))
    return LINE_PART_MAX;
  if (spec->mode > SPEC_MODE_MAX) return LINE_MODE;
  if (making ? spec->layout_version != 0 : !spec->layout_version) return LINE_LAYOUT;
  if (making && spec->geometry_hash) return LINE_GEOMETRY;
  if (spec->state != SPEC_GONE && spec->removed_ns) return LINE_REMOVED;
  int line = done_check(spec);
  if (line) return line;
  if (!numa_ok(spec->numa)) return LINE_NUMA;
  if (!numa_ok(spec->nodes)) return LINE_NODES;
  if (spec->strict & ~1) return LINE_STRICT;
  if (spec->replaces >= spec->ws_id) return LINE_REPLACES;
  return spec_tag_ok(spec->tag) ? 0 : LINE_TAG;
}

__attribute__((format(printf, 3, 4))) static void
spec_line(char text[SPEC_TEXT_MAX], size_t *len_bytes, char const *format, ...) {
  va_list args;
  va_start(args, format);
  *len_bytes += (size_t)vsnprintf(text + *len_bytes, SPEC_TEXT_MAX - *len_bytes, format, args);
  va_end(args);
}

int spec_encode(spec_t const *spec, char ret_text[SPEC_TEXT_MAX]) {
  size_t len = 0;
  if (spec_check(spec)) return WKSP_E_INVAL;

  spec_line(ret_text, &len, "wkspd-spec=%d\n", spec->tag[0] ? 6 : spec->replaces ? 5 : 4);
  spec_line(ret_text, &len, "id=%" PRIu64 "\n", spec->ws_id);
  spec_line(ret_text, &len, "state=%s\n", spec_states[spec->state]);
  spec_line(ret_text, &len, "name=%s\nuuid=", spec->name);
  for (int i = 0; i < 16; i++) spec_line(ret_text, &len, "%02x", spec->uuid[i]);
  spec_line(ret_text, &len, "\nsize=%" PRIu64 "\n", spec->size);
  spec_line(ret_text, &len, "page_size=%" PRIu64 "\n", spec->page_size);
  spec_line(ret_text, &len, "data_max=%" PRIu64 "\n", spec->data_max);
  spec_line(ret_text, &len, "part_max=%" PRIu64 "\n", spec->part_max);
  spec_line(ret_text, &len, "mode=%04o\n", spec->mode);
  spec_line(ret_text, &len, "uid=%" PRIu32 "\n", spec->uid);
  spec_line(ret_text, &len, "gid=%" PRIu32 "\n", spec->gid);
  spec_line(ret_text, &len, "seed=%" PRIu32 "\n", spec->seed);
  spec_line(ret_text, &len, "created_ns=%" PRIu64 "\n", spec->created_ns);
  spec_line(ret_text, &len, "layout=%" PRIu32 "\n", spec->layout_version);
  spec_line(ret_text, &len, "geometry=%016" PRIx64 "\n", spec->geometry_hash);
  spec_line(ret_text, &len, "max_size=%" PRIu64 "\n", spec->max_size);
  spec_line(ret_text, &len, "removed_ns=%" PRIu64 "\ndone=", spec->removed_ns);
  for (uint32_t i = 0; i < spec->done_cnt; i++) {
    if (i) spec_line(ret_text, &len, ",");
    for (uint32_t k = 0; k < SPEC_CALL_ID_SIZE; k++)
      spec_line(ret_text, &len, "%02x", spec->done[i].id[k]);
    spec_line(ret_text, &len, "%c%x", spec_ops[spec->done[i].op], (unsigned)spec->done[i].code);
  }
  spec_line(ret_text, &len, "\nnuma=%s\n", spec->numa);
  spec_line(ret_text, &len, "nodes=%s\n", spec->nodes);
  spec_line(ret_text, &len, "strict=%d\n", spec->strict);
  if (spec->replaces || spec->tag[0])
    spec_line(ret_text, &len, "replaces=%" PRIu64 "\n", spec->replaces);
  if (spec->tag[0]) spec_line(ret_text, &len, "tag=%s\n", spec->tag);
  spec_line(ret_text, &len, "crc=%08" PRIx32 "\n", crc_of(ret_text, len));
  return (int)len;
}

/* Reading: a cursor over the text that knows its line. */
typedef struct reader {
  char const *at, *end;
  char const *value; /* of the current line */
  size_t value_len;
} reader_t;

/* Takes the next line if it is key=..., else 0. */
static int reader_line(reader_t *reader, char const *key) {
  size_t key_len = strlen(key);
  char const *newline = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));

  if (!newline || (size_t)(newline - reader->at) <= key_len) return 0;
  if (memcmp(reader->at, key, key_len) != 0 || reader->at[key_len] != '=') return 0;
  reader->value = reader->at + key_len + 1;
  reader->value_len = (size_t)(newline - reader->value);
  reader->at = newline + 1;
  return 1;
}

static int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return 99;
}

/* The next line as a number in [0, max]; width 0: decimal or any base without leading zeros. */
static int reader_number(reader_t *reader, char const *key, unsigned base, size_t width,
                         uint64_t max, uint64_t *ret_number) {
  uint64_t number = 0;

  if (!reader_line(reader, key) || !reader->value_len) return 0;
  if (width ? reader->value_len != width : reader->value_len > 1 && reader->value[0] == '0')
    return 0;
  for (size_t i = 0; i < reader->value_len; i++) {
    unsigned digit = (unsigned)digit_of(reader->value[i]);
    if (digit >= base) return 0;
    if (__builtin_mul_overflow(number, base, &number)) return 0;
    if (__builtin_add_overflow(number, digit, &number)) return 0;
  }
  if (number > max) return 0;
  *ret_number = number;
  return 1;
}

static int reader_u32(reader_t *reader, char const *key, uint32_t *ret_number) {
  uint64_t number;
  if (!reader_number(reader, key, 10, 0, UINT32_MAX, &number)) return 0;
  *ret_number = (uint32_t)number;
  return 1;
}

static int reader_u64(reader_t *reader, char const *key, uint64_t *ret_number) {
  return reader_number(reader, key, 10, 0, UINT64_MAX, ret_number);
}

static int reader_is(reader_t const *reader, char const *value) {
  return reader->value_len == strlen(value) && !memcmp(reader->value, value, reader->value_len);
}

static int reader_state(reader_t *reader, int *ret_state) {
  if (!reader_line(reader, "state")) return 0;
  for (int state = SPEC_MAKING; state <= SPEC_GONE; state++) {
    if (!reader_is(reader, spec_states[state])) continue;
    *ret_state = state;
    return 1;
  }
  return 0;
}

static int reader_text(reader_t *reader, char const *key, size_t len_max, char *ret_text) {
  if (!reader_line(reader, key) || reader->value_len > len_max) return 0;
  if (memchr(reader->value, 0, reader->value_len)) return 0;
  memcpy(ret_text, reader->value, reader->value_len);
  ret_text[reader->value_len] = 0;
  return 1;
}

/* Bytes as two digits each, in lower case. */
static int hex_bytes(char const *text, size_t cnt, uint8_t *ret_bytes) {
  for (size_t i = 0; i < cnt; i++) {
    int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);
    if (high > 15 || low > 15) return 0;
    ret_bytes[i] = (uint8_t)(high << 4 | low);
  }
  return 1;
}

static int reader_uuid(reader_t *reader, uint8_t ret_uuid[16]) {
  return reader_line(reader, "uuid") && reader->value_len == 32 &&
         hex_bytes(reader->value, 16, ret_uuid);
}

static int reader_done(reader_t *reader, spec_t *ret_spec) {
  if (!reader_line(reader, "done")) return 0;
  if (!reader->value_len) return 1;
  size_t cnt = (reader->value_len + 1) / (DONE_LEN + 1);
  if (cnt > SPEC_DONE_MAX || cnt * (DONE_LEN + 1) != reader->value_len + 1) return 0;
  for (size_t i = 0; i < cnt; i++) {
    char const *text = reader->value + i * (DONE_LEN + 1);
    spec_done_t *done = &ret_spec->done[i];
    if (i && text[-1] != ',') return 0;
    if (!hex_bytes(text, SPEC_CALL_ID_SIZE, done->id)) return 0;
    for (int op = SPEC_DONE_CREATE; op <= SPEC_DONE_RESIZE; op++)
      if (text[DONE_LEN - 2] == spec_ops[op]) done->op = op;
    done->code = digit_of(text[DONE_LEN - 1]);
  }
  ret_spec->done_cnt = (uint32_t)cnt;
  return 1;
}

/* The lines between the first and the last. 0, or the number of the wrong one. */
static int spec_read_fields(reader_t *reader, int version, spec_t *spec) {
  uint64_t mode;

  if (!reader_u64(reader, "id", &spec->ws_id)) return LINE_ID;
  if (!reader_state(reader, &spec->state)) return LINE_STATE;
  if (!reader_text(reader, "name", SPEC_NAME_MAX, spec->name)) return LINE_NAME;
  if (!reader_uuid(reader, spec->uuid)) return LINE_UUID;
  if (!reader_u64(reader, "size", &spec->size)) return LINE_SIZE;
  if (!reader_u64(reader, "page_size", &spec->page_size)) return LINE_PAGE_SIZE;
  if (!reader_u64(reader, "data_max", &spec->data_max)) return LINE_DATA_MAX;
  if (!reader_u64(reader, "part_max", &spec->part_max)) return LINE_PART_MAX;
  if (!reader_number(reader, "mode", 8, 4, SPEC_MODE_MAX, &mode)) return LINE_MODE;
  spec->mode = (uint32_t)mode;
  if (!reader_u32(reader, "uid", &spec->uid)) return LINE_UID;
  if (!reader_u32(reader, "gid", &spec->gid)) return LINE_GID;
  if (!reader_u32(reader, "seed", &spec->seed)) return LINE_SEED;
  if (!reader_u64(reader, "created_ns", &spec->created_ns)) return LINE_CREATED;
  if (!reader_u32(reader, "layout", &spec->layout_version)) return LINE_LAYOUT;
  if (!reader_number(reader, "geometry", 16, 16, UINT64_MAX, &spec->geometry_hash))
    return LINE_GEOMETRY;
  spec->max_size = spec->size;
  if (version > 1 && !reader_u64(reader, "max_size", &spec->max_size)) return LINE_MAX_SIZE;
  if (version > 2 && !reader_u64(reader, "removed_ns", &spec->removed_ns)) return LINE_REMOVED;
  if (version > 2 && !reader_done(reader, spec)) return LINE_DONE;
  if (version > 3 && !reader_text(reader, "numa", SPEC_NUMA_MAX, spec->numa)) return LINE_NUMA;
  if (version > 3 && !reader_text(reader, "nodes", SPEC_NUMA_MAX, spec->nodes)) return LINE_NODES;
  uint64_t strict = 0;
  if (version > 3 && !reader_number(reader, "strict", 10, 0, 1, &strict)) return LINE_STRICT;
  spec->strict = (int)strict;
  if (version > 4 && !reader_u64(reader, "replaces", &spec->replaces)) return LINE_REPLACES;
  if (version == 5 && !spec->replaces) return LINE_REPLACES;
  if (version > 5 && (!reader_text(reader, "tag", SPEC_TAG_MAX, spec->tag) || !spec->tag[0]))
    return LINE_TAG;
  return 0;
}

int spec_decode(char const *text, size_t len_bytes, spec_t *ret_spec) {
  spec_t spec = {0};
  reader_t reader = {.at = text, .end = text + len_bytes};
  uint64_t crc;

  if (!text || !len_bytes) return LINE_MAGIC;
  if (!reader_line(&reader, "wkspd-spec")) return LINE_MAGIC;
  int version = reader.value_len == 1 ? digit_of(*reader.value) : 0;
  if (version < 1 || version > VERSION) return LINE_MAGIC;
  int line_crc = crc_lines[version];
  int line = spec_read_fields(&reader, version, &spec);
  if (line) return line;
  line = spec_check(&spec);
  if (line) return line;

  size_t body_len = (size_t)(reader.at - text);
  if (!reader_number(&reader, "crc", 16, 8, UINT32_MAX, &crc)) return line_crc;
  if (crc != crc_of(text, body_len)) return line_crc;
  if (reader.at != reader.end) return line_crc + 1;

  *ret_spec = spec;
  return 0;
}
