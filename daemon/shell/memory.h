/* memory: makes the memory of a workspace and says how much there is to be had.

   A workspace is one sealed memfd. It is handed out only when every page of it has been taken, so
   that a client never meets a page that is not there. */

#ifndef WKSPD_SHELL_MEMORY_H
#define WKSPD_SHELL_MEMORY_H

#include "daemon/core/placement.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define MEMORY_PAGE_4K 4096UL
#define MEMORY_PAGE_2M 2097152UL
#define MEMORY_PAGE_1G 1073741824UL

/* Bytes of a workspace; the library's largest data region is as large. */
#define MEMORY_SIZE_MAX (1UL << 46)

typedef struct memory_want {
  char name[40];
  uint8_t uuid[16];
  uint64_t size;      /* bytes that have pages and can be used at first, rounded up to pages */
  uint64_t max_size;  /* bytes that it can grow to, rounded up to pages; 0: as size */
  uint64_t page_size; /* 0 auto, MEMORY_PAGE_* */
  uint64_t part_max;  /* 0: an estimate */
  uint64_t data_max;  /* 0: an estimate; else the memory is left blank, for a restore of a workspace
                         with exactly this and part_max */
  uint64_t part_min;  /* not 0: blank, too, of another max_size than that data_max and part_max are
                         of, with tables that end no later and so many partitions at least */
  uint32_t seed;
  place_policy_t policy; /* kind 0: as near to this thread as can be */
  int strict;            /* each page on its node, or nothing */
} memory_want_t;

typedef struct memory_got {
  int fd; /* read-write, close-on-exec, sealed */
  uint64_t size, max_size, page_size, part_max, data_max, inode;
  uint64_t size_min;  /* what its tables and the least of data take, in whole pages */
  uint64_t elsewhere; /* pages that are on other nodes than wanted */
  char note[320];     /* why pages of this size, and what else there is to say, for people */
} memory_got_t;

typedef enum memory_kind {
  MEMORY_FAIL_SIZE = 1, /* impossible dimensions */
  MEMORY_FAIL_PAGES,    /* not enough; wanted and free in pages of page_size, on node */
  MEMORY_FAIL_CANCELLED,
  MEMORY_FAIL_SYS,
} memory_kind_t;

typedef struct memory_fail {
  memory_kind_t kind;
  int32_t node; /* -1: none in particular */
  uint64_t page_size;
  uint64_t wanted, free;
  char text[256]; /* what, which value */
  char hint[256]; /* what to do */
} memory_fail_t;

/* What those who make memory at the same time share. */
typedef struct memory {
  _Atomic uint64_t claimed; /* bytes of ordinary pages that are promised to running makes and not
                               taken yet */
} memory_t;

/* Makes it: any thread, takes as long as clearing the pages takes. *cancel becoming non-zero ends
   it at the next step. 0 and *ret_got, or 1 and *ret_fail; then everything taken is given back. */
int memory_make(memory_t *memory, memory_want_t const *want, _Atomic int const *cancel,
                memory_got_t *ret_got, memory_fail_t *ret_fail);

typedef struct memory_fill {
  uint64_t page_size, max_size; /* of the memory */
  uint64_t from, to;            /* bytes, of whole pages */
  int keep; /* somebody may use some of them: what is there already stays, and is not wanted */
  place_policy_t policy; /* kind 0: where the first page is */
  int strict;
} memory_fill_t;

/* Takes those pages of fd: any thread, takes as long as clearing them. Nothing of what others may
   write is read or written. 0 and *ret_got (note and elsewhere), or 1 and *ret_fail; then all of
   them are given back, also those that were there before, for nobody uses any of them; unless keep
   is set. */
int memory_fill(memory_t *memory, int fd, memory_fill_t const *fill, _Atomic int const *cancel,
                memory_got_t *ret_got, memory_fail_t *ret_fail);

/* Gives the pages of fd in [from, to) back; zeros are there then. 0, or 1 and *ret_fail. */
int memory_punch(int fd, uint64_t from, uint64_t to, memory_fail_t *ret_fail);

/* Where the last page of fd that somebody has touched ends; guess: what it said last, or 0. Of huge
   pages the kernel does not tell: 0. Moves the file's offset, which nobody goes by. */
uint64_t memory_top(int fd, uint64_t guess);

/* The size_min of a workspace of these dimensions; 0 if they are impossible. */
uint64_t memory_size_min(uint64_t part_max, uint64_t data_max, uint64_t page_size);

/* Where the data of a workspace ends (gaddr) when size bytes of it can be used: spans are whole. */
uint64_t memory_data_end(uint64_t data_hi, uint64_t size);

/* What memory should be. 0 in a number: anything will do. */
typedef struct memory_is {
  uint64_t max_size, inode, page_size, part_max, data_max, geometry_hash;
  uint32_t layout_version;
  uint8_t uuid[16];
} memory_is_t;

/* Whether fd, kept by somebody else meanwhile, is the memory it should be: a memfd of that size,
   inode and pages, sealed against resizing, with the uuid and the figures in its header. NULL, or a
   constant sentence that says what differs. Reads by pread alone. */
char const *memory_check(int fd, memory_is_t const *is);

/* Whether it is memory of ours in which nothing has been published yet, or no longer: a sealed
   memfd whose header has no magic number, as one has that is being filled by a restore. */
int memory_unfinished(int fd);

/* How far this build serves what lies in a memory that has been checked: WKSP_ACCESS_* of
   core/layout.h. If it is not FULL, a sentence that names what it has and what we know. */
int memory_access(int fd, char *ret_why, size_t why_cap);

/* What the header of a memfd says of itself: unchecked words of strangers, the name printable.
   1, or 0: it is no memfd, or has no header of a workspace. */
int memory_claims(int fd, char ret_name[40], uint8_t ret_uuid[16]);

/* The same memory opened for reading only; -1 and errno. */
int memory_reopen_ro(int fd);

/* Huge pages of 2 MiB that a new mapping could get, surplus ones included. */
uint64_t memory_free_2m(void);

/* Bytes of ordinary pages that may be taken before the kernel starts to kill. */
uint64_t memory_free_4k(void);

#endif
