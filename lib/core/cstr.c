/* cstr: what people read and type about a workspace: "name:gaddr", and a listing by lines.

   The model: text goes into the caller's buffer or to the caller's function; a text that is read is
   understood wholly or refused.

   What it refuses: I/O, signs, blanks, numbers beyond 64 bits, and letting bytes of shared memory
   steer a terminal. */

#include "core/fail.h"
#include "core/layout.h"

#include <stdio.h>
#include <string.h>

/* name, ':', "0x", 16 digits, NUL. */
_Static_assert(FD_WKSP_NAME_MAX + 1 + 2 + 16 + 1 <= FD_WKSP_CSTR_MAX, "the longest form fits");

/* A root's name with every byte escaped (4 each), and what stands around it. */
#define LIST_LINE_MAX (4 * FD_WKSP_ROOT_NAME_MAX + 128)

char *fd_wksp_cstr(fd_wksp_t const *wksp, ulong gaddr, char *cstr) {
  if (!wksp || !cstr) {
    wksp__fail(WKSP_E_INVAL, "cstr: the %s is NULL", wksp ? "buffer" : "workspace");
    return NULL;
  }
  if (gaddr < wksp->data_lo || gaddr > wksp->data_hi) {
    wksp__fail(WKSP_E_INVAL, "cstr: gaddr 0x%lx is outside the data region of workspace %s", gaddr,
               wksp->name);
    return NULL;
  }
  snprintf(cstr, FD_WKSP_CSTR_MAX, "%s:0x%lx", wksp->name, gaddr);
  return cstr;
}

char *fd_wksp_cstr_laddr(void const *laddr, char *cstr) {
  if (!laddr || !cstr) {
    wksp__fail(WKSP_E_INVAL, "cstr_laddr: the %s is NULL", laddr ? "buffer" : "address");
    return NULL;
  }
  fd_wksp_t *wksp = fd_wksp_containing(laddr);
  return wksp ? fd_wksp_cstr(wksp, fd_wksp_gaddr_fast(wksp, laddr), cstr) : NULL;
}

static int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 16;
}

/* The whole text as a number; 0 is none. */
static ulong number_of(char const *text) {
  ulong number = 0, base = 10;
  if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
    base = 16;
    text += 2;
  }
  for (; *text; text++) {
    ulong digit = (ulong)digit_of(*text);
    if (digit >= base || __builtin_mul_overflow(number, base, &number) ||
        __builtin_add_overflow(number, digit, &number))
      return 0;
  }
  return number;
}

int fd_wksp_cstr_parse(char const *cstr, char *ret_name, ulong *ret_gaddr) {
  char name[FD_WKSP_NAME_MAX + 1] = "";
  if (!cstr) return wksp__fail(WKSP_E_INVAL, "cstr_parse: the text is NULL");
  char const *colon = strchr(cstr, ':');
  size_t len = colon ? (size_t)(colon - cstr) : 0;
  if (!colon || len > FD_WKSP_NAME_MAX)
    return wksp__fail(WKSP_E_INVAL,
                      "cstr_parse: \"%.64s\" is not NAME:GADDR with a name of at most %lu "
                      "characters (demo:0x10000)",
                      cstr, FD_WKSP_NAME_MAX);
  memcpy(name, cstr, len);
  if (!wksp__name_ok(name))
    return wksp__fail(WKSP_E_INVAL, "cstr_parse: \"%s\" in \"%.64s\" is no name for a workspace",
                      name, cstr);
  ulong gaddr = number_of(colon + 1);
  if (!gaddr)
    return wksp__fail(
        WKSP_E_INVAL,
        "cstr_parse: \"%.64s\" has no gaddr after the ':': a number from 1 to 2^64-1, "
        "decimal or hexadecimal (demo:0x10000)",
        cstr);
  if (ret_name) memcpy(ret_name, name, sizeof name);
  if (ret_gaddr) *ret_gaddr = gaddr;
  return 0;
}

/* The listing ---------------------------------------------------------------------------------- */

typedef struct listing {
  fd_wksp_t *wksp;
  int (*on_line)(void *arg, char const *line);
  void *arg;
  char line[LIST_LINE_MAX];
} listing_t;

static char const *kind_word(uint kind) {
  static char const *const words[] = {[FD_WKSP_KIND_USER] = "user",
                                      [FD_WKSP_KIND_SPANS] = "spans",
                                      [FD_WKSP_KIND_HEAP] = "heap",
                                      [FD_WKSP_KIND_LARGE] = "large"};
  return kind < sizeof words / sizeof *words && words[kind] ? words[kind] : "unknown";
}

static int list_head(listing_t *list) {
  fd_wksp_t *wksp = list->wksp;
  fd_wksp_usage_t usage;
  int rc = fd_wksp_usage(wksp, NULL, 0, &usage);
  if (rc) return rc;
  snprintf(list->line, LIST_LINE_MAX, "workspace %s, seed %u, data [0x%lx, 0x%lx)", wksp->name,
           fd_wksp_seed(wksp), wksp->data_lo, wksp->data_hi);
  rc = list->on_line(list->arg, list->line);
  if (rc) return rc;
  snprintf(list->line, LIST_LINE_MAX,
           "%lu partitions of at most %lu: %lu bytes in %lu used, %lu bytes in %lu free, the "
           "largest of %lu",
           usage.total_cnt, usage.total_max, usage.used_sz, usage.used_cnt, usage.free_sz,
           usage.free_cnt, usage.free_sz_max);
  return list->on_line(list->arg, list->line);
}

static int list_parts(listing_t *list) {
  fd_wksp_part_t part;
  int rc;
  for (ulong from = 0; (rc = fd_wksp_part_next(list->wksp, from, &part)) == 1;) {
    /* addresses go up at each step, so this ends */
    if (!part.size || __builtin_add_overflow(part.gaddr, part.size, &from))
      return wksp__fail(WKSP_E_CORRUPT,
                        "list: workspace %s: the partition at 0x%lx has an impossible size: verify "
                        "tells more",
                        list->wksp->name, part.gaddr);
    snprintf(list->line, LIST_LINE_MAX, "partition 0x%lx, %lu bytes, tag 0x%lx, %s", part.gaddr,
             part.size, part.tag, kind_word(part.kind));
    rc = list->on_line(list->arg, list->line);
    if (rc) return rc;
  }
  return rc;
}

static int list_roots(listing_t *list) {
  fd_wksp_root_t root;
  uint place = 0;
  int rc;
  while ((rc = fd_wksp_root_next(list->wksp, &place, &root)) == 1) {
    size_t at = (size_t)snprintf(list->line, LIST_LINE_MAX, "root ");
    for (char const *c = root.name; *c; c++)
      at += (size_t)snprintf(list->line + at, LIST_LINE_MAX - at,
                             *c < ' ' || *c > '~' || *c == '\\' ? "\\x%02x" : "%c", (uchar)*c);
    snprintf(list->line + at, LIST_LINE_MAX - at, ", 0x%lx, tag 0x%lx", root.gaddr, root.tag);
    rc = list->on_line(list->arg, list->line);
    if (rc) return rc;
  }
  return rc;
}

int fd_wksp_list(fd_wksp_t *wksp, int (*on_line)(void *arg, char const *line), void *arg) {
  listing_t list = {.wksp = wksp, .on_line = on_line, .arg = arg};
  if (!wksp || !on_line)
    return wksp__fail(WKSP_E_INVAL, "list: the %s is NULL", wksp ? "function" : "workspace");
  int rc = list_head(&list);
  if (!rc) rc = list_parts(&list);
  return rc ? rc : list_roots(&list);
}
