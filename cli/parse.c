/* parse: reading numbers, sizes, modes, durations and addresses as people write them.

   The problem: strtoul takes signs, spaces and half a number, wraps negative values and reads 010
   as eight; each has cost somebody a workspace of the wrong size. So digits are read here one by
   one, with overflow builtins, and a text is either all understood or refused.

   It refuses: signs, spaces, fractions of bytes, unknown suffixes, anything beyond 64 bits. It does
   not judge values that can be read (a workspace of 2^60 bytes): who serves them does. */

#include "parse.h"

#include <ctype.h>
#include <string.h>

static char const why_not_number[] =
    "is not a number; write it in decimal (4096) or hexadecimal (0x1000)";
static char const why_empty[] = "is empty; a number is needed";
static char const why_negative[] = "is negative; a number from 0 on is needed";
static char const why_too_large[] = "is beyond 64 bits; the largest number is 0xffffffffffffffff";

static int digit_of(char c, uint base) {
  int value = -1;
  if (c >= '0' && c <= '9')
    value = c - '0';
  else if (c >= 'a' && c <= 'f')
    value = c - 'a' + 10;
  else if (c >= 'A' && c <= 'F')
    value = c - 'A' + 10;
  return value >= 0 && (uint)value < base ? value : -1;
}

/* Reads the number at the front of text; *ret_rest is what follows it. */
static char const *number_front(char const *text, ulong *ret_number, char const **ret_rest) {
  if (!*text) return why_empty;
  if (*text == '-') return why_negative;
  uint base = 10;
  char const *digits = text;
  if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
    base = 16;
    digits = text + 2;
  }
  ulong number = 0;
  char const *at = digits;
  for (; digit_of(*at, base) >= 0; at++) {
    if (__builtin_mul_overflow(number, (ulong)base, &number) ||
        __builtin_add_overflow(number, (ulong)digit_of(*at, base), &number))
      return why_too_large;
  }
  if (at == digits) return why_not_number;
  *ret_number = number;
  *ret_rest = at;
  return NULL;
}

char const *parse_number(char const *text, ulong *ret_number) {
  ulong number;
  char const *rest;
  char const *why = number_front(text, &number, &rest);
  if (why) return why;
  if (*rest) return why_not_number;
  *ret_number = number;
  return NULL;
}

char const *parse_number32(char const *text, uint *ret_number) {
  ulong number;
  char const *why = parse_number(text, &number);
  if (why == why_too_large || (!why && number > 0xffffffffUL))
    return "is beyond 32 bits; the largest is 4294967295";
  if (why) return why;
  *ret_number = (uint)number;
  return NULL;
}

char const *parse_size(char const *text, ulong *ret_bytes) {
  static char const why_not_size[] =
      "is not a size; write bytes (65536) or a whole number with K, M, G or T (64M)";
  static char const why_unit[] = "has an unknown unit; K, M, G and T (or KiB, MiB, GiB, TiB) are "
                                 "powers of 1024, B or nothing is bytes";
  static char const why_thousands[] = "is ambiguous; write 64M or 64MiB for powers of 1024, or the "
                                      "bytes in full";
  ulong number;
  char const *rest;
  char const *why = number_front(text, &number, &rest);
  if (why == why_not_number) return why_not_size;
  if (why) return why;

  uint shift = 0;
  switch (tolower((uchar)*rest)) {
  case '\0':
    break;
  case 'b':
    rest += 1;
    break;
  case 'k':
    shift = 10;
    break;
  case 'm':
    shift = 20;
    break;
  case 'g':
    shift = 30;
    break;
  case 't':
    shift = 40;
    break;
  case '.':
    return "is a fraction; take a whole number of a smaller unit (1536M, not 1.5G)";
  default:
    return why_unit;
  }
  if (shift) {
    rest += 1;
    if (!strcasecmp(rest, "b")) return why_thousands;
    if (!strcasecmp(rest, "ib")) rest += 2;
  }
  if (*rest) return why_unit;
  if (number > (~0UL >> shift)) return "is beyond 64 bits; the largest workspace is 64T";
  *ret_bytes = number << shift;
  return NULL;
}

char const *parse_tag(char const *text, ulong *ret_tag) {
  ulong tag;
  char const *why = parse_number(text, &tag);
  if (why) return why;
  if (!tag) return "is no tag; tags are numbers from 1 on";
  *ret_tag = tag;
  return NULL;
}

char const *parse_mode(char const *text, uint *ret_mode) {
  static char const why_mode[] = "is not a mode; write the permission bits in octal (0660)";
  /* Enough for all values that a uint holds with one leading zero. */
  enum { MODE_DIGITS_MAX = 11 };
  if (*text == '-') return why_negative;
  size_t len = strlen(text);
  if (!len || len > MODE_DIGITS_MAX) return why_mode;
  uint mode = 0;
  for (char const *at = text; *at; at++) {
    if (*at < '0' || *at > '7' || mode > (~0U >> 3)) return why_mode;
    mode = mode << 3 | (uint)(*at - '0');
  }
  if (!mode) return "would let nobody in; give somebody permission (0600)";
  *ret_mode = mode;
  return NULL;
}

char const *parse_page(char const *text, ulong *ret_page_size) {
  ulong page_size = WKSP_PAGE_AUTO;
  if (strcasecmp(text, "auto")) {
    char const *why = parse_size(text, &page_size);
    if (why || !page_size) return "is not a page size; it is one of auto, 4k, 2M, 1G";
  }
  *ret_page_size = page_size;
  return NULL;
}

char const *parse_duration(char const *text, long *ret_ms) {
  static char const why_duration[] =
      "is not a duration; write seconds (30, 0.5) or a number with ms, s, m or h (250ms, 5m)";
  static char const why_range[] = "is out of range; from 1ms to 1h can be waited";
  if (*text == '-') return "is negative; from 1ms to 1h can be waited";
  if (!isdigit((uchar)*text) || (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')))
    return why_duration;

  ulong whole, milli = 0;
  char const *rest;
  char const *why = number_front(text, &whole, &rest);
  if (why == why_too_large) return why_range;
  if (why) return why_duration;
  if (*rest == '.') {
    uint digits = 0;
    for (rest++; isdigit((uchar)*rest); rest++) {
      if (++digits > 3) return "has more than three decimals; a millisecond is the least";
      milli = milli * 10 + (ulong)(*rest - '0');
    }
    if (!digits) return why_duration;
    for (; digits < 3; digits++) milli *= 10;
  }

  static struct {
    char const *name;
    ulong ms;
  } const units[] = {{"", 1000}, {"s", 1000}, {"ms", 1}, {"m", 60000}, {"h", 3600000}};
  ulong unit_ms = 0;
  for (size_t i = 0; i < sizeof units / sizeof *units; i++)
    if (!strcmp(rest, units[i].name)) unit_ms = units[i].ms;
  if (!unit_ms) return why_duration;

  if (milli * unit_ms % 1000) return "has a fraction of a millisecond, which is the least";
  ulong ms;
  if (__builtin_mul_overflow(whole, unit_ms, &ms) ||
      __builtin_add_overflow(ms, milli * unit_ms / 1000, &ms) || !ms || ms > 3600000)
    return why_range;
  *ret_ms = (long)ms;
  return NULL;
}

char const *parse_place(char const *text, parse_place_t *ret_place) {
  char const *colon = strrchr(text, ':');
  if (!colon) return "is not NAME:GADDR (demo:0x10000)";
  size_t len = (size_t)(colon - text);
  if (!len) return "has no workspace name before the ':' (demo:0x10000)";
  if (len > FD_WKSP_NAME_MAX) return "has a workspace name of more than 39 characters";
  if (memchr(text, ':', len)) return "has more than one ':'; it is NAME:GADDR (demo:0x10000)";
  ulong gaddr;
  if (parse_number(colon + 1, &gaddr))
    return "has no address after the ':'; write it in decimal or hexadecimal (demo:0x10000)";
  if (!gaddr) return "is address 0, where nothing can be";
  memcpy(ret_place->name, text, len);
  ret_place->name[len] = '\0';
  ret_place->gaddr = gaddr;
  return NULL;
}

/* Words of commands and options are short; a longer text was no slip of the finger. */
#define NEAREST_LEN_MAX 31

/* Edits between a and b, both of at most NEAREST_LEN_MAX bytes; a swap of neighbours counts as one
 * (each part is edited once). */
static uint edits(char const *a, char const *b) {
  size_t const a_len = strlen(a), b_len = strlen(b);
  uint row[NEAREST_LEN_MAX + 1][NEAREST_LEN_MAX + 1];
  for (size_t i = 0; i <= a_len; i++) row[i][0] = (uint)i;
  for (size_t j = 0; j <= b_len; j++) row[0][j] = (uint)j;
  for (size_t i = 1; i <= a_len; i++) {
    for (size_t j = 1; j <= b_len; j++) {
      int const ca = tolower((uchar)a[i - 1]), cb = tolower((uchar)b[j - 1]);
      uint best = row[i - 1][j - 1] + (ca != cb);
      if (row[i - 1][j] + 1 < best) best = row[i - 1][j] + 1;
      if (row[i][j - 1] + 1 < best) best = row[i][j - 1] + 1;
      if (i > 1 && j > 1 && ca == tolower((uchar)b[j - 2]) && cb == tolower((uchar)a[i - 2]) &&
          row[i - 2][j - 2] + 1 < best)
        best = row[i - 2][j - 2] + 1;
      row[i][j] = best;
    }
  }
  return row[a_len][b_len];
}

char const *parse_nearest(char const *text, char const *const *words, size_t cnt) {
  size_t const len = strlen(text);
  if (!len || len > NEAREST_LEN_MAX) return NULL;
  char const *nearest = NULL;
  uint fewest = ~0U;
  for (size_t i = 0; i < cnt; i++) {
    if (!words[i] || strlen(words[i]) > NEAREST_LEN_MAX) continue;
    uint const n = edits(text, words[i]);
    if (n < fewest) {
      fewest = n;
      nearest = words[i];
    }
  }
  /* One edit in a word of up to three, two beyond, three from eight on. */
  uint const slip = len < 4 ? 1 : len < 8 ? 2 : 3;
  return fewest <= slip ? nearest : NULL;
}
