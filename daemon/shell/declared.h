/* declared: workspaces that the configuration wants to be there, NAME.conf each:

     [workspace]
     size = 64M
     max_size = 1G       ; default: size
     page_size = 2M      ; auto (default), 4k, 2M, 1G
     tag = trading       ; by which quotas may count it; default: none
     numa = split:0,1    ; where its pages are to be, as wkspctl create --numa; default: anywhere
   near preferred = yes     ; they may be elsewhere; default: no mode = 0660         ; the default
     owner = alice       ; a user or uid; default: the daemon's
     group = trading     ; a group or gid; default: the owner's, if it is a name, else the daemon's
     seed = 7            ; default 0
     part_max = 1000     ; default: an estimate

     [checkpoint]        ; may be left out: then what wkspctl schedule has set holds
     every = 5m          ; or never, the default
     jitter = 30s        ; default 0s
     mode = quiesce      ; fuzzy (default), quiesce
     style = zstd:3      ; raw, lz4 (default), zstd, zstd:LEVEL
     keep_last = 12      ; and keep_hourly, keep_daily, keep_weekly, keep_monthly; none: all are
   kept on_stop = checkpoint  ; nothing (default), checkpoint on_start = restore    ; empty
   (default): if it is not there it is made, empty; restore: from its ; newest checkpoint if there
   is one; none: it is not made
     drill = 1d          ; how often the newest checkpoint is restored for trial; never: the default
   */

#ifndef WKSPD_SHELL_DECLARED_H
#define WKSPD_SHELL_DECLARED_H

#include "conf/confile.h"
#include "daemon/core/schedule.h"
#include "daemon/core/spec.h"

/* What a start does about one that is not there. */
enum { DECLARED_START_EMPTY = 0, DECLARED_START_RESTORE, DECLARED_START_NONE };

typedef struct declared {
  char name[SPEC_NAME_MAX + 1];
  uint64_t size, max_size; /* bytes; max_size >= size */
  uint64_t page_size;      /* 0 auto */
  uint64_t part_max;       /* 0 an estimate */
  uint32_t mode, seed, uid, gid;
  char numa[SPEC_NUMA_MAX + 1];
  char tag[SPEC_TAG_MAX + 1];
  int preferred;
  int scheduled; /* there is a [checkpoint] */
  uint64_t every_ns, jitter_ns;
  schedule_how_t how;
  schedule_keep_t keep;
  int on_stop;  /* SCHEDULE_STOP_* */
  int on_start; /* DECLARED_START_* */
  uint64_t drill_ns;
} declared_t;

typedef struct declared_list {
  declared_t *items; /* in the order of names */
  size_t cnt;
} declared_list_t;

/* Told of each file that is wrong: a sentence with file, line and value. */
typedef void (*declared_bad_t)(void *arg, char const *sentence);

/* Reads the folder, which need not be there. What is wrong is told and left out; the rest is in the
   list, to be freed. How many were wrong. */
size_t declared_read(char const *folder, declared_bad_t bad, void *arg, declared_list_t *ret_list);
void declared_free(declared_list_t *list);

/* A size in bytes, with k, M, G or T; a group by name or gid. 1 and the value, or 0. */
int declared_bytes(char const *text, uint64_t *ret_bytes);
int declared_group(char const *text, uint32_t *ret_gid);

/* Reads one file; name is the workspace's. 0, or 2 and a sentence. */
int declared_file(char const *path, char const *name, declared_t *ret_declared, char *ret_error);

/* declared_ckpt.c: sets a key of [checkpoint]. NULL, what the value should have been, or name
   itself: there is no such key. *ret_number is the key's, below DECLARED_CKPT_KEYS. */
#define DECLARED_CKPT_KEYS 12
char const *declared_ckpt(declared_t *declared, char const *name, char const *value,
                          int *ret_number);

#endif
