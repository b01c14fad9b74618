/* spec: what the daemon knows of one workspace, and the text in which it is kept.

   A workspace outlives the daemon, so what it is called, whom it belongs to and how far its making
   or removal has come stands in one small file per workspace. This file is the text of it: plain
   struct to bytes and back, no I/O. The text is for people too:

     wkspd-spec=4
     id=17
     state=ready
     name=orders
     ...
     crc=1f0c7a52

   One key=value per line, every key exactly once and in this order, numbers in the one spelling
   that spec_encode gives them (decimal without leading zeros, mode in octal with four digits, uuid
   and hashes in lower-case hex of full width). The last line is CRC-32 (the one of zip) of every
   byte before it. So there is exactly one text per spec, and any flipped bit is found: one in the
   body by the checksum, one in the last line by itself.

   Version 1, before workspaces could grow, had no max_size, and version 2, before calls had ids, no
   removed_ns and done; version 3, before workspaces were placed, had no numa, nodes and strict.
   They are read, with max_size that of size and the others empty, and written no more. Version 5
   has one line more, replaces, and is written exactly if that is not 0 and there is no tag; version
   6 has replaces and tag, and is written exactly if there is one.

   The last calls that changed the workspace and had ids of their own stand in its spec, for a call
   is done when the spec that says so is on disk. So whoever asks again after a restart is told what
   became of it (repeat.c). When a workspace has gone its spec stays for a while in the state gone.

   A workspace that was restored in place is another one than before, under the same name. Both have
   a spec until the old one has gone; the moment at which the new one takes its place is that at
   which its spec says ready, for that says as well whom it replaces (spec_settle).

   What it refuses to do: guess. A text that is not exactly one that spec_encode writes is refused
   with the number of its first wrong line. */

#ifndef WKSPD_CORE_SPEC_H
#define WKSPD_CORE_SPEC_H

#include <stddef.h>
#include <stdint.h>

/* A name: 1 to 39 of letters, digits, '.', '_', '-', the first a letter or digit (fd_wksp.h has the
 * same). */
#define SPEC_NAME_MAX 39U

/* Bytes of a workspace: what a gaddr's 46 bits can address. */
#define SPEC_SIZE_MAX (1UL << 46)

/* Partitions: what the partition table can number (fd_wksp.h). 0 is allowed in a request only. */
#define SPEC_PART_MIN 8UL
#define SPEC_PART_MAX ((1UL << 31) - 1UL)

#define SPEC_MODE_MAX 0777U

/* A tag: 1 to 31 of letters, digits, '_', '-', the first a letter or digit. */
#define SPEC_TAG_MAX 31U

/* Calls that a spec remembers: whoever lost an answer asks again within seconds, and others rarely
 * change the same workspace as often meanwhile. */
#define SPEC_DONE_MAX 4U

#define SPEC_CALL_ID_SIZE 16U

/* Bytes of a placement's text (placement.h), its NUL not included. */
#define SPEC_NUMA_MAX 255U

/* Bytes of the longest text, its NUL included: 20 lines of at most 60 bytes, that of calls with 36
   for each, two of placements, and a tag. */
#define SPEC_TEXT_MAX 1984U

enum spec_state {
  SPEC_MAKING = 1,   /* an intent: memory, if any, and spec are thrown away at the next start */
  SPEC_READY = 2,    /* published; its memory is in the fd store */
  SPEC_REMOVING = 3, /* removed by force; the memory goes when the last lease ends */
  SPEC_GONE = 4      /* there is nothing of it any more; what was done to it is remembered */
};

/* A call that has been done. */
enum { SPEC_DONE_CREATE = 1, SPEC_DONE_DELETE, SPEC_DONE_RESIZE };
typedef struct spec_done {
  uint8_t id[SPEC_CALL_ID_SIZE]; /* the caller's; not all zeroes */
  int op;                        /* SPEC_DONE_* */
  int code;                      /* what it was answered, 0 to 15 (engine.h, ENGINE_CODE_*) */
} spec_done_t;

/* Invariant: spec_check(spec) == 0 for every spec that the engine gives out or spec_decode returns.
 */
typedef struct spec {
  uint64_t ws_id; /* > 0, never reused */
  int state;      /* SPEC_* */
  char name[SPEC_NAME_MAX + 1];
  uint8_t uuid[16];
  uint64_t size;      /* bytes: asked for while MAKING, then what it takes in all at present */
  uint64_t max_size;  /* bytes that it can be resized to; those of the memory's addresses */
  uint64_t page_size; /* 0 auto (only while MAKING), 4096, 2097152, 1073741824 */
  uint64_t data_max;  /* that of max_size; 0 while MAKING */
  uint64_t part_max;  /* 0 an estimate (only while MAKING) */
  uint32_t mode;      /* 0 to 0777 */
  uint32_t uid, gid;  /* owner */
  uint32_t seed;
  uint64_t created_ns;           /* since 1970 */
  uint32_t layout_version;       /* 0 while MAKING */
  uint64_t geometry_hash;        /* 0 while MAKING */
  uint64_t removed_ns;           /* since 1970: GONE; else 0 */
  char numa[SPEC_NUMA_MAX + 1];  /* the placement that was asked for; "": anywhere near */
  char nodes[SPEC_NUMA_MAX + 1]; /* the nodes it came to, as place_text writes them; "": none in
                                    particular */
  int strict;                    /* pages are on those nodes or there is no workspace */
  uint32_t done_cnt;
  spec_done_t done[SPEC_DONE_MAX]; /* oldest first; zeroes behind done_cnt */
  char tag[SPEC_TAG_MAX + 1];      /* what it counts as beside its owner's (quota.h); "": none */
  uint64_t replaces;               /* the workspace whose name it has taken; below ws_id, 0: none */
} spec_t;

/* Notes a call, the oldest one making room for it. id all zeroes: nothing. */
void spec_done_add(spec_t *spec, uint8_t const id[SPEC_CALL_ID_SIZE], int op, int code);

/* Takes the last one back, if it has this id. */
void spec_done_undo(spec_t *spec, uint8_t const id[SPEC_CALL_ID_SIZE]);

/* NULL: none of that id (all zeroes: never one). */
spec_done_t const *spec_done_find(spec_t const *spec, uint8_t const id[SPEC_CALL_ID_SIZE]);

/* What a start finds, specs[0 .. cnt): of two that are ready, one in the place of the other, one
   stays: the new one if it has its memory, and the old one becomes REMOVING; else the old one if
   that has, and the new one becomes MAKING, for its undoing did not get to its spec. has_memory:
   for each spec, whether its memory was found. */
void spec_settle(spec_t *specs, uint8_t const *has_memory, size_t cnt);

/* 1 if name is one for a workspace, else 0. NULL: 0. Reads at most SPEC_NAME_MAX + 1 bytes. */
int spec_name_ok(char const *name);

/* 1 if tag is one, or "". Reads at most SPEC_TAG_MAX + 1 bytes. */
int spec_tag_ok(char const *tag);

/* 0 if the fields are in their ranges and agree with the state, else the number of the line at
   fault in its text (a positive number; the line of id is 2). */
int spec_check(spec_t const *spec);

/* Writes the text and a NUL to ret_text. Returns its length in bytes (without the NUL), always <
   SPEC_TEXT_MAX, or WKSP_E_INVAL if spec_check is not 0. */
int spec_encode(spec_t const *spec, char ret_text[SPEC_TEXT_MAX]);

/* Reads text[0 .. len_bytes). 0 and *ret_spec, or the number (>= 1) of the first line that is
   wrong; if every line is well-formed but the checksum differs, that is the last line. What follows
   the last line is a wrong line too. Then *ret_spec is untouched. */
int spec_decode(char const *text, size_t len_bytes, spec_t *ret_spec);

#endif
