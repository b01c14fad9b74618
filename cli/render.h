/* render: results as text for people and as JSON for programs.

   Text: facts one below the other, or tables; nothing is cut, nothing is coloured (so NO_COLOR has
   its way). Addresses and tags are hexadecimal after 0x everywhere.

   JSON: addresses, tags and hashes are strings "0x...", for many readers hold numbers as doubles;
   all other figures are integers; times come as ISO 8601 strings in UTC and as integers of
   nanoseconds. Keys are part of the interface: they are added, never renamed. */

#ifndef WKSPCTL_RENDER_H
#define WKSPCTL_RENDER_H

#include "cli.h"

#include <jansson.h>

/* Room for any of the texts below. */
#define RENDER_TEXT_MAX 80

typedef struct render_text {
  char s[RENDER_TEXT_MAX];
} render_text_t;

render_text_t render_size(ulong bytes);       /* "64 MiB", "1.5 KiB", "12 B" */
render_text_t render_size_exact(ulong bytes); /* "64 MiB (67108864 bytes)" */
render_text_t render_hex(ulong value);        /* "0x1f" */
render_text_t render_number(ulong value);
render_text_t render_mode(uint mode); /* "0660" */
render_text_t render_time(ulong ns);  /* since 1970: "2025-01-31T12:00:00Z" */
render_text_t render_span(ulong ns);  /* a time span: "1d 2h 3m", "4.250s" */
ulong render_since(ulong ns);         /* since that time after 1970; 0 if it is ahead */
render_text_t render_age(ulong ns);   /* the same as a span, in whole seconds */
render_text_t render_uuid(uchar const uuid[16]);
render_text_t render_user(uint uid); /* the name, else the number */
render_text_t render_group(uint gid);
render_text_t render_place(char const *name, ulong gaddr); /* NAME:GADDR */

/* text with control characters, and with bytes that are no UTF-8, written as \xNN. To be freed;
 * NULL: no memory. */
char *render_safe(char const *text);

/* "label      value", the value printf'd. */
void render_fact(char const *label, char const *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A table of text cells. Rows are copied. A failure to get memory shows in render_table_print. */
typedef struct render_column {
  char const *title;
  int right; /* figures */
} render_column_t;

typedef struct render_table render_table_t;

/* NULL only without memory, which every function below takes. */
render_table_t *render_table_new(render_column_t const *columns, uint column_cnt);
void render_table_row(render_table_t *table, char const *const *cells);

/* Prints to standard output and frees. 0, or -1 for want of memory. */
int render_table_print(render_table_t *table);

void render_table_free(render_table_t *table);

/* What a command gathers while the daemon lists: the one with --json, the other without. */
typedef struct render_listing {
  json_t *array;
  render_table_t *table;
  ulong cnt; /* for the command to count */
} render_listing_t;

/* Makes it. CLI_OK, or the exit status (reported). */
int render_listing_new(cli_t const *cli, render_column_t const *columns, uint column_cnt,
                       render_listing_t *ret_listing);

/* Prints it under that key, or `none` if it is not NULL and nothing was counted, and frees it. err:
   what the listing call returned: negative an error of the library, positive out of memory. The
   exit status (reported). */
int render_listing_end(cli_t const *cli, render_listing_t *listing, int err, char const *key,
                       char const *none);

json_t *render_json_figure(ulong value);
json_t *render_json_hex(ulong value);
json_t *render_json_text(char const *text); /* made safe if it is no UTF-8 */

/* Prints the value and a line end, and frees it; NULL is want of memory. CLI_OK or told. */
int render_json(cli_t const *cli, json_t *value);

/* The same on one line, which has arrived when this returns. */
int render_json_line(cli_t const *cli, json_t *value);

/* Prints where something is now: NAME:GADDR, or an object with that as `key`. CLI_OK when it has
 * arrived, or told. */
int render_placed(cli_t const *cli, char const *key, char const *name, ulong gaddr, ulong size);

json_t *render_json_part(fd_wksp_part_t const *part);

/* A root as an object; one whose name is not UTF-8 also has its bytes in name_hex. */
json_t *render_json_root(fd_wksp_root_t const *root);

/* "user", ...: what FD_WKSP_KIND_* are called. */
char const *render_kind(uint kind);

/* What a compaction of `what` (a workspace or a heap) gave back; the same for both. */
int render_compacted(cli_t const *cli, char const *what, ulong freed_sz, ulong skipped_cnt,
                     int skipped_pid, int skipped_tid);

#endif
