/* preload: what the files of libwksp_malloc.so share. The model is in preload.c. */

#ifndef WKSP_HEAP_PRELOAD_H
#define WKSP_HEAP_PRELOAD_H

#include "wksp/fd_alloc.h"

#include <stddef.h>

#define PRE_LIKELY(x)   __builtin_expect(!!(x), 1)
#define PRE_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* pre.limit at first. */
#define PRE_LIMIT_FIRST (1UL << 20)

/* How a bad free is taken. */
enum { PRE_BAD_TELL = 0, PRE_BAD_IGNORE = 1, PRE_BAD_ABORT = 2 };

/* What the environment says (pre_env.c). */
typedef struct pre_env {
  ulong size;            /* addresses of the workspace, 0: twice the machine's memory */
  ulong keep;            /* free bytes that stay resident */
  ulong nodes;           /* mask, 0: any */
  ulong flags;           /* FD_WKSP_PRIVATE_* */
  int stats;             /* 1: a report at exit */
  char const *workspace; /* the heap lies in this one, which wkspd has; NULL: it is private */
  ulong tag;             /* of what it takes there, 0: the process's id */
  int bad;               /* PRE_BAD_* */
} pre_env_t;

/* The process's heap. Written by the first call, and in a child of fork that may not use it; the
   counters by all, atomically. */
typedef struct pre {
  fd_alloc_t *join; /* NULL: not there yet, or there is no workspace */
  ulong lo, sz;     /* addresses of its blocks */
  ulong limit;      /* requests from here on get a mapping of their own */
  fd_wksp_t *wksp;
  int state;    /* PRE_* */
  int stats_fd; /* -1: no report */
  pre_env_t env;
  /* The private heap of what came before, if the heap lies in a workspace of wkspd's. */
  fd_alloc_t *first;
  ulong first_lo, first_sz;
  ulong direct_cnt, direct_sz, direct_all; /* live mappings, their bytes, and how many ever */
  ulong foreign_cnt;                       /* frees of what others gave */
  ulong bad_cnt;                           /* bad frees told */
} pre_t;

/* REFUSED: in a child of fork whose parent's heap is shared. */
enum { PRE_NONE = 0, PRE_STARTING = 1, PRE_READY = 2, PRE_REFUSED = 3 };

extern pre_t pre;

/* Reads the environment. Does not allocate. */
void pre_env_read(pre_env_t *ret_env);

/* The first call: makes the workspace. Afterwards the state is READY, with or without it. A call
   that comes from inside returns at once. 1: there is a heap; 0: not yet, or not at all. */
int pre_start(void);

/* Moves the heap to the workspace that the environment names; ends the program if that is not to be
   had. refuse: ends a child that wants to use it (pre_shared.c). */
void pre_shared_start(void);
__attribute__((noreturn)) void pre_shared_refuse(void);

/* Memory for calls that come while the heap is made: never given back. NULL if there is no more.
   size: bytes of a block of it, 0: it is none. */
void *pre_boot_malloc(ulong align, ulong sz);
ulong pre_boot_size(void const *ptr);

/* Mappings of their own (pre_direct.c). malloc: zeroed; NULL if there is no memory. size: bytes of
   one that may be used, 0: ptr is none. realloc: NULL, and then it is as it was. */
void *pre_direct_malloc(ulong align, ulong sz);
ulong pre_direct_size(void const *ptr);
void pre_direct_free(void *ptr);
void *pre_direct_realloc(void *ptr, ulong sz);

/* Writes the report to fd, without allocating (pre_report.c). */
void pre_report(int fd);

/* Writes a line to the process's standard error, without allocating. */
void pre_say(char const *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
