/* render: how values look.

   The problem: twenty commands that each format a size or a time by hand drift apart, and figures
   that scripts rely on change shape. So each kind of value has one function here, for text and for
   JSON, and commands only say which fact is which.

   It refuses: to cut, to colour, to print bytes that would steer a terminal. */

#include "render.h"

#include <errno.h>
#include <grp.h>
#include <libsmartcols.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static render_text_t text_of(char const *fmt, ...) __attribute__((format(printf, 1, 2)));

static render_text_t text_of(char const *fmt, ...) {
  render_text_t text;
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(text.s, sizeof text.s, fmt, ap);
  va_end(ap);
  return text;
}

render_text_t render_size(ulong bytes) {
  static char const *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  uint unit = 0;
  while (unit + 1 < sizeof units / sizeof *units && bytes >> (10 * (unit + 1))) unit++;
  ulong const one = 1UL << (10 * unit);
  if (!(bytes & (one - 1))) return text_of("%lu %s", bytes / one, units[unit]);
  /* A decimal, rounded down: 1023.99 MiB must not read as a GiB. */
  ulong const tenth = (bytes & (one - 1)) >> (10 * (unit - 1));
  return text_of("%lu.%lu %s", bytes / one, tenth * 10 / 1024, units[unit]);
}

render_text_t render_size_exact(ulong bytes) {
  return bytes < 1024 ? text_of("%lu bytes", bytes)
                      : text_of("%s (%lu bytes)", render_size(bytes).s, bytes);
}

render_text_t render_hex(ulong value) {
  return text_of("0x%lx", value);
}

render_text_t render_number(ulong value) {
  return text_of("%lu", value);
}

render_text_t render_mode(uint mode) {
  return text_of("%04o", mode);
}

render_text_t render_time(ulong ns) {
  time_t const seconds = (time_t)(ns / 1000000000UL);
  struct tm tm;
  render_text_t text;
  if (!gmtime_r(&seconds, &tm) || !strftime(text.s, sizeof text.s, "%Y-%m-%dT%H:%M:%SZ", &tm))
    return text_of("%lu ns since 1970", ns);
  return text;
}

render_text_t render_span(ulong ns) {
  ulong const s = ns / 1000000000UL;
  if (s < 60) return text_of("%lu.%03lus", s, ns % 1000000000UL / 1000000UL);
  if (s < 3600) return text_of("%lum %lus", s / 60, s % 60);
  if (s < 86400) return text_of("%luh %lum", s / 3600, s % 3600 / 60);
  return text_of("%lud %luh %lum", s / 86400, s % 86400 / 3600, s % 3600 / 60);
}

ulong render_since(ulong ns) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  ulong const now_ns = (ulong)now.tv_sec * 1000000000UL + (ulong)now.tv_nsec;
  return now_ns > ns ? now_ns - ns : 0;
}

render_text_t render_age(ulong ns) {
  ulong const s = render_since(ns) / 1000000000UL;
  return s < 60 ? text_of("%lus", s) : render_span(s * 1000000000UL);
}

render_text_t render_uuid(uchar const uuid[16]) {
  render_text_t text;
  char *at = text.s;
  for (uint i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *at++ = '-';
    at += sprintf(at, "%02x", uuid[i]);
  }
  return text;
}

render_text_t render_user(uint uid) {
  struct passwd const *pw = getpwuid(uid);
  return pw && *pw->pw_name ? text_of("%s", pw->pw_name) : text_of("%u", uid);
}

render_text_t render_group(uint gid) {
  struct group const *gr = getgrgid(gid);
  return gr && *gr->gr_name ? text_of("%s", gr->gr_name) : text_of("%u", gid);
}

render_text_t render_place(char const *name, ulong gaddr) {
  return text_of("%s:0x%lx", name, gaddr);
}

/* 1 if all of text is UTF-8. */
static int is_utf8(char const *text) {
  json_t *probe = json_string(text);
  int const ok = probe != NULL;
  json_decref(probe);
  return ok;
}

char *render_safe(char const *text) {
  size_t cap;
  if (__builtin_mul_overflow(strlen(text), (size_t)4, &cap) ||
      __builtin_add_overflow(cap, (size_t)1, &cap))
    return NULL;
  char *safe = malloc(cap);
  if (!safe) return NULL;
  int const utf8 = is_utf8(text);
  char *out = safe;
  for (char const *at = text; *at; at++) {
    uchar const c = (uchar)*at;
    /* U+0080 to U+009F (c2 80 to c2 9f) are controls too. */
    int const c1 = utf8 && c == 0xc2 && (uchar)at[1] < 0xa0;
    if (c < 0x20 || c == 0x7f || c1 || (c >= 0x80 && !utf8)) {
      out += sprintf(out, "\\x%02x", c);
      if (c1) out += sprintf(out, "\\x%02x", (uchar) * ++at);
    } else {
      *out++ = (char)c;
    }
  }
  *out = '\0';
  return safe;
}

void render_fact(char const *label, char const *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  printf("%-14s ", label);
  vprintf(fmt, ap);
  putchar('\n');
  va_end(ap);
}

struct render_table {
  struct libscols_table *scols;
  uint column_cnt;
  int failed;
};

render_table_t *render_table_new(render_column_t const *columns, uint column_cnt) {
  render_table_t *table = calloc(1, sizeof *table);
  if (!table) return NULL;
  table->column_cnt = column_cnt;
  table->scols = scols_new_table();
  if (!table->scols) {
    free(table);
    return NULL;
  }
  /* Never as wide as a terminal: an address that is cut is worse than a line that wraps. Cells
     come made safe. */
  table->failed = scols_table_set_termforce(table->scols, SCOLS_TERMFORCE_NEVER) < 0 ||
                  scols_table_enable_noencoding(table->scols, 1) < 0 ||
                  scols_table_enable_colors(table->scols, 0) < 0;
  for (uint i = 0; i < column_cnt; i++)
    if (!scols_table_new_column(table->scols, columns[i].title, 0,
                                columns[i].right ? SCOLS_FL_RIGHT : 0))
      table->failed = 1;
  return table;
}

void render_table_row(render_table_t *table, char const *const *cells) {
  if (!table || table->failed) return;
  struct libscols_line *line = scols_table_new_line(table->scols, NULL);
  if (!line) {
    table->failed = 1;
    return;
  }
  for (uint i = 0; i < table->column_cnt; i++)
    if (scols_line_set_data(line, i, cells[i]) < 0) table->failed = 1;
}

void render_table_free(render_table_t *table) {
  if (!table) return;
  scols_unref_table(table->scols);
  free(table);
}

int render_table_print(render_table_t *table) {
  if (!table) return -1;
  int failed = table->failed;
  /* What the stream refuses shows in cli_flush, with its errno. */
  if (!failed && scols_print_table(table->scols) < 0 && !ferror(stdout)) failed = 1;
  render_table_free(table);
  return failed ? -1 : 0;
}

json_t *render_json_figure(ulong value) {
  /* JSON integers are signed here. No figure that a sound daemon or workspace has is beyond. */
  if (value <= (ulong)INT64_MAX) return json_integer((json_int_t)value);
  return json_string(render_number(value).s);
}

json_t *render_json_hex(ulong value) {
  return json_string(render_hex(value).s);
}

json_t *render_json_text(char const *text) {
  json_t *value = json_string(text);
  if (value) return value;
  char *safe = render_safe(text);
  if (safe) value = json_string(safe);
  free(safe);
  return value;
}

int render_json(cli_t const *cli, json_t *value) {
  if (!value) return cli_fail_memory(cli);
  int const rc = json_dumpf(value, stdout, JSON_INDENT(2));
  json_decref(value);
  putchar('\n');
  if (rc < 0 && !ferror(stdout)) return cli_fail_memory(cli);
  return CLI_OK;
}

int render_json_line(cli_t const *cli, json_t *value) {
  if (!value) return cli_fail_memory(cli);
  int const rc = json_dumpf(value, stdout, JSON_COMPACT);
  json_decref(value);
  putchar('\n');
  if (rc < 0 && !ferror(stdout)) return cli_fail_memory(cli);
  return cli_flush(cli, CLI_OK);
}

json_t *render_json_part(fd_wksp_part_t const *part) {
  return json_pack("{s:o, s:o, s:o, s:s}", "gaddr", render_json_hex(part->gaddr), "size",
                   render_json_figure(part->size), "tag", render_json_hex(part->tag), "kind",
                   render_kind(part->kind));
}

json_t *render_json_root(fd_wksp_root_t const *root) {
  json_t *object = json_pack("{s:o, s:o, s:o}", "name", render_json_text(root->name), "gaddr",
                             render_json_hex(root->gaddr), "tag", render_json_hex(root->tag));
  json_t *plain = json_string(root->name);
  if (object && !plain) {
    /* Not UTF-8: the escaped name cannot be turned back for sure. */
    char hex[2 * FD_WKSP_ROOT_NAME_MAX + 1] = "";
    for (size_t i = 0; i < FD_WKSP_ROOT_NAME_MAX && root->name[i]; i++)
      sprintf(hex + 2 * i, "%02x", (uchar)root->name[i]);
    if (json_object_set_new(object, "name_hex", json_string(hex))) {
      json_decref(object);
      object = NULL;
    }
  }
  json_decref(plain);
  return object;
}

char const *render_kind(uint kind) {
  switch (kind) {
  case FD_WKSP_KIND_USER:
    return "user";
  case FD_WKSP_KIND_SPANS:
    return "spans";
  case FD_WKSP_KIND_HEAP:
    return "heap";
  case FD_WKSP_KIND_LARGE:
    return "large";
  default:
    return "unknown";
  }
}

int render_placed(cli_t const *cli, char const *key, char const *name, ulong gaddr, ulong size) {
  render_text_t const text = render_place(name, gaddr);
  if (cli->json) {
    int const status =
        render_json(cli, json_pack("{s:s, s:s, s:o, s:o}", key, text.s, "name", name, "gaddr",
                                   render_json_hex(gaddr), "size", render_json_figure(size)));
    if (status) return status;
  } else {
    puts(text.s);
  }
  return cli_flush(cli, CLI_OK);
}

int render_compacted(cli_t const *cli, char const *what, ulong freed_sz, ulong skipped_cnt,
                     int skipped_pid, int skipped_tid) {
  if (cli->json)
    return render_json(cli, json_pack("{s:s, s:o, s:o, s:i, s:i}", "compacted", what, "freed_size",
                                      render_json_figure(freed_sz), "skipped_cnt",
                                      render_json_figure(skipped_cnt), "skipped_pid", skipped_pid,
                                      "skipped_tid", skipped_tid));
  printf("compacted %s: %s given back\n", what, render_size_exact(freed_sz).s);
  if (skipped_cnt)
    printf("skipped %lu threads that are stopped inside a call, among them pid %d, tid %d; compact "
           "again when they have gone on\n",
           skipped_cnt, skipped_pid, skipped_tid);
  return CLI_OK;
}

/* Listings
 * ----------------------------------------------------------------------------------------------
 */

int render_listing_new(cli_t const *cli, render_column_t const *columns, uint column_cnt,
                       render_listing_t *ret_listing) {
  render_listing_t listing = {0};
  if (cli->json)
    listing.array = json_array();
  else
    listing.table = render_table_new(columns, column_cnt);
  if (!listing.array && !listing.table) return cli_fail_memory(cli);
  *ret_listing = listing;
  return CLI_OK;
}

int render_listing_end(cli_t const *cli, render_listing_t *listing, int err, char const *key,
                       char const *none) {
  if (err) {
    json_decref(listing->array);
    render_table_free(listing->table);
    return err < 0 ? cli_fail_wksp(cli, err) : cli_fail_memory(cli);
  }
  if (cli->json) return render_json(cli, json_pack("{s:o}", key, listing->array));
  if (none && !listing->cnt) {
    render_table_free(listing->table);
    puts(none);
    return CLI_OK;
  }
  return render_table_print(listing->table) ? cli_fail_memory(cli) : CLI_OK;
}
