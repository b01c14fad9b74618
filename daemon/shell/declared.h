/* declared: workspaces that the configuration wants to be there, NAME.conf each:

     [workspace]
     size = 64M
     max_size = 1G       ; default: size
     page_size = 2M      ; auto (default), 4k, 2M, 1G
     numa = split:0,1    ; where its pages are to be, as wkspctl create --numa; default: anywhere
   near preferred = yes     ; they may be elsewhere; default: no mode = 0660         ; the default
     owner = alice       ; a user or uid; default: the daemon's
     group = trading     ; a group or gid; default: the owner's, if it is a name, else the daemon's
     seed = 7            ; default 0
     part_max = 1000     ; default: an estimate */

#ifndef WKSPD_SHELL_DECLARED_H
#define WKSPD_SHELL_DECLARED_H

#include "conf/confile.h"
#include "daemon/core/spec.h"

typedef struct declared {
  char name[SPEC_NAME_MAX + 1];
  uint64_t size, max_size; /* bytes; max_size >= size */
  uint64_t page_size;      /* 0 auto */
  uint64_t part_max;       /* 0 an estimate */
  uint32_t mode, seed, uid, gid;
  char numa[SPEC_NUMA_MAX + 1];
  int preferred;
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

#endif
