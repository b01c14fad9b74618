/* sys: small files of the kernel (sysfs, procfs, cgroups), as texts, numbers and sets.

   Every path is below a root, so that tests can make up a machine. Names are printf'd and begin
   with a slash. */

#ifndef WKSPCTL_SYS_H
#define WKSPCTL_SYS_H

#include "wksp/types.h"

#include <stddef.h>

/* Bytes of a file that is read, and of a path. The longest file is a list of cpus, which no kernel
   prints longer than a few pages. */
#define SYS_TEXT_MAX 65536
#define SYS_PATH_MAX 4096

typedef struct sys {
  char const *root; /* "": this machine */
  /* For tests, a kernel that answers to writes; NULL: what is written goes into the file. 0 or
     errno. path is without the root. */
  int (*write)(void *arg, char const *path, char const *text);
  void *arg;
} sys_t;

/* The file as a text without the line end at its end. 0, or errno (EFBIG: beyond cap). */
int sys_read(sys_t const *sys, char *ret_text, size_t cap, char const *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The decimal number that is all of the file. 0, or errno (EINVAL: something else stands there). */
int sys_number(sys_t const *sys, ulong *ret_number, char const *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The number before which `key` stands in a text of lines "key number ..."; 0 or -1. */
int sys_field(char const *text, char const *key, ulong *ret_number);

/* Writes text to a file that is there. 0 or errno. */
int sys_write(sys_t const *sys, char const *text, char const *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* 1 if there is a file or folder of that name. */
int sys_there(sys_t const *sys, char const *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Numbers from 0 on: nodes or cpus. Kernels are built for up to 8,192 cpus. */
#define SYS_SET_MAX 8192U

typedef struct sys_set {
  ulong word[SYS_SET_MAX / 64];
} sys_set_t;

int sys_set_has(sys_set_t const *set, uint number);
void sys_set_add(sys_set_t *set, uint number);
uint sys_set_cnt(sys_set_t const *set);

/* The first number from `from` on, SYS_SET_MAX: none. */
uint sys_set_next(sys_set_t const *set, uint from);

/* Reads "0-3,8", "" being the empty set. 0, or -1: it is none, or goes beyond SYS_SET_MAX. */
int sys_set_read(char const *text, sys_set_t *ret_set);

/* The same back, "none" for the empty set, into out, cut at cap bytes. Returns out. */
char const *sys_set_text(sys_set_t const *set, char *out, size_t cap);

#endif
