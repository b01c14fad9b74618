/* sys: reading and writing small files of the kernel.

   The problem: pools, nodes, limits and settings stand in some fifty small files, some of which are
   missing on some kernels, and a wrong number read from one of them ends in wrong advice.

   The model: a file is read whole, once, and understood whole or not at all. What is missing is an
   errno, which the caller turns into "there is none" or into a failure.

   It refuses: files beyond a bound, half a number, lists that go backwards. */

#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* root and the printf'd name. 0 or ENAMETOOLONG. */
static int path_of(sys_t const *sys, char *path, char const *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

static int path_of(sys_t const *sys, char *path, char const *fmt, va_list ap) {
  size_t const len = strlen(sys->root);
  if (len >= SYS_PATH_MAX) return ENAMETOOLONG;
  memcpy(path, sys->root, len);
  int const n = vsnprintf(path + len, SYS_PATH_MAX - len, fmt, ap);
  return n < 0 || (size_t)n >= SYS_PATH_MAX - len ? ENAMETOOLONG : 0;
}

static int read_path(char const *path, char *text, size_t cap, size_t *ret_len) {
  int const fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  size_t len = 0;
  ssize_t n = 1;
  while (len < cap && n) {
    n = read(fd, text + len, cap - len);
    if (n > 0) len += (size_t)n;
    if (n < 0 && errno != EINTR) break;
  }
  int const err = n < 0 ? errno : len == cap ? EFBIG : 0;
  close(fd);
  *ret_len = len;
  return err;
}

static int read_va(sys_t const *sys, char *text, size_t cap, char const *fmt, va_list ap)
    __attribute__((format(printf, 4, 0)));

static int read_va(sys_t const *sys, char *text, size_t cap, char const *fmt, va_list ap) {
  char path[SYS_PATH_MAX];
  int err = path_of(sys, path, fmt, ap);
  size_t len = 0;
  if (!err) err = read_path(path, text, cap, &len);
  if (err) return err;
  if (memchr(text, '\0', len)) return EINVAL;
  if (len && text[len - 1] == '\n') len--;
  text[len] = '\0';
  return 0;
}

int sys_read(sys_t const *sys, char *ret_text, size_t cap, char const *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int const err = read_va(sys, ret_text, cap, fmt, ap);
  va_end(ap);
  return err;
}

/* The number at *at, which moves behind it. 0, or -1: no digit stands there, or it is too large. */
static int number_at(char const **at, ulong *ret_number) {
  ulong number = 0;
  if (**at < '0' || **at > '9') return -1;
  for (; **at >= '0' && **at <= '9'; ++*at)
    if (__builtin_mul_overflow(number, 10UL, &number) ||
        __builtin_add_overflow(number, (ulong)(**at - '0'), &number))
      return -1;
  *ret_number = number;
  return 0;
}

int sys_number(sys_t const *sys, ulong *ret_number, char const *fmt, ...) {
  char text[64];
  va_list ap;
  va_start(ap, fmt);
  int const err = read_va(sys, text, sizeof text, fmt, ap);
  va_end(ap);
  if (err) return err;
  char const *at = text;
  ulong number;
  if (number_at(&at, &number) || *at) return EINVAL;
  *ret_number = number;
  return 0;
}

int sys_field(char const *text, char const *key, ulong *ret_number) {
  size_t const len = strlen(key);
  for (char const *line = text; line; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, key, len)) continue;
    char const *at = line + len + strspn(line + len, " \t");
    return number_at(&at, ret_number);
  }
  return -1;
}

static int write_path(char const *path, char const *text) {
  int const fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  /* One write: the kernel takes each as a value of its own. */
  size_t const len = strlen(text);
  ssize_t const n = write(fd, text, len);
  int const err = n < 0 ? errno : (size_t)n == len ? 0 : EIO;
  return close(fd) && !err ? errno : err;
}

int sys_write(sys_t const *sys, char const *text, char const *fmt, ...) {
  char path[SYS_PATH_MAX];
  va_list ap;
  va_start(ap, fmt);
  int const err = path_of(sys, path, fmt, ap);
  va_end(ap);
  if (err) return err;
  return sys->write ? sys->write(sys->arg, path + strlen(sys->root), text) : write_path(path, text);
}

int sys_there(sys_t const *sys, char const *fmt, ...) {
  char path[SYS_PATH_MAX];
  va_list ap;
  va_start(ap, fmt);
  int const err = path_of(sys, path, fmt, ap);
  va_end(ap);
  return !err && !access(path, F_OK);
}

int sys_set_has(sys_set_t const *set, uint number) {
  return number < SYS_SET_MAX && (set->word[number / 64] >> (number % 64) & 1);
}

void sys_set_add(sys_set_t *set, uint number) {
  if (number < SYS_SET_MAX) set->word[number / 64] |= 1UL << (number % 64);
}

uint sys_set_cnt(sys_set_t const *set) {
  uint cnt = 0;
  for (uint i = 0; i < SYS_SET_MAX / 64; i++) cnt += (uint)__builtin_popcountl(set->word[i]);
  return cnt;
}

uint sys_set_next(sys_set_t const *set, uint from) {
  while (from < SYS_SET_MAX && !sys_set_has(set, from)) from++;
  return from;
}

int sys_set_read(char const *text, sys_set_t *ret_set) {
  sys_set_t set = {{0}};
  char const *at = text;
  while (*at) {
    ulong first, last;
    if (number_at(&at, &first)) return -1;
    last = first;
    if (*at == '-') {
      at++;
      if (number_at(&at, &last)) return -1;
    }
    if (last < first || last >= SYS_SET_MAX) return -1;
    for (ulong i = first; i <= last; i++) sys_set_add(&set, (uint)i);
    if (*at == ',' && at[1])
      at++;
    else if (*at)
      return -1;
  }
  *ret_set = set;
  return 0;
}

char const *sys_set_text(sys_set_t const *set, char *out, size_t cap) {
  size_t len = 0;
  snprintf(out, cap, "none");
  for (uint first = sys_set_next(set, 0), last; first < SYS_SET_MAX && len < cap;
       first = sys_set_next(set, last + 1)) {
    for (last = first; sys_set_has(set, last + 1);) last++;
    int const n = last > first
                      ? snprintf(out + len, cap - len, "%s%u-%u", len ? "," : "", first, last)
                      : snprintf(out + len, cap - len, "%s%u", len ? "," : "", first);
    len += n > 0 ? (size_t)n : 0;
  }
  return out;
}
