/* parse: the texts that people type, as values.

   Every parser returns NULL and sets its ret_x, or returns a constant text that says what is wrong
   and what would be right, and leaves ret_x alone; the text reads well after "'64X': ". Nothing
   here talks to anybody: a value that can be read but means nothing to the daemon is for the daemon
   to refuse. */

#ifndef WKSPCTL_PARSE_H
#define WKSPCTL_PARSE_H

#include "wksp/client.h"

#include <stddef.h>

/* A whole number below 2^64: decimal (leading zeros are just zeros), or hexadecimal after 0x. */
char const *parse_number(char const *text, ulong *ret_number);

/* The same below 2^32. */
char const *parse_number32(char const *text, uint *ret_number);

/* A number of bytes: a number, then nothing, B, or one of K M G T (powers of 1024; KiB etc. too).
   Either case. KB and the like are refused, for they mean two things. */
char const *parse_size(char const *text, ulong *ret_bytes);

/* A tag: a number, not 0. */
char const *parse_tag(char const *text, ulong *ret_tag);

/* Permission bits in octal, not 0 (which would mean the default to the daemon). */
char const *parse_mode(char const *text, uint *ret_mode);

/* A page size: auto (WKSP_PAGE_AUTO), or a size, not 0. */
char const *parse_page(char const *text, ulong *ret_page_size);

/* Milliseconds: a number with at most three decimals, then nothing or s, ms, m, h. From 1 ms to an
 * hour, as a client's deadline. */
char const *parse_duration(char const *text, long *ret_ms);

/* An address in a workspace: NAME:GADDR. */
typedef struct parse_place {
  char name[FD_WKSP_NAME_MAX + 1];
  ulong gaddr;
} parse_place_t;

char const *parse_place(char const *text, parse_place_t *ret_place);

/* The word that was probably meant: of words[0 .. cnt), skipping NULLs, the first with the fewest
   edits (insert, delete, replace, swap neighbours) from text, letters' case aside. NULL if even
   that one is too far to be a slip. */
char const *parse_nearest(char const *text, char const *const *words, size_t cnt);

#endif
