/* The problem: descriptors come without a type, and a daemon that mistakes one for another gives
   memory to the wrong client.

   The model: names say what a descriptor is meant to be, and only canonical names are believed;
   whoever takes one then checks that it is what its name says (a listening socket, a sealed memfd
   with the right inode, a socket with a lifeline record).

   Refuses: names longer than the 255 bytes that systemd allows. */

#include "daemon/shell/fdnames.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char const digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";

void fdnames_ws(uint64_t ws_id, char ret_name[FDNAMES_WS_MAX]) {
  char rev[FDNAMES_WS_MAX];
  unsigned n = 0;
  do {
    rev[n++] = digits[ws_id % 36];
    ws_id /= 36;
  } while (ws_id);
  char *out = ret_name;
  *out++ = 'w';
  while (n) *out++ = rev[--n];
  *out = '\0';
}

fdnames_kind_t fdnames_parse(char const *name, size_t len, uint64_t *ret_ws_id) {
  if (len == strlen(FDNAMES_LIFELINE) && !memcmp(name, FDNAMES_LIFELINE, len)) {
    return FDNAMES_IS_LIFELINE;
  }
  if (len == strlen(FDNAMES_SUPERVISOR) && !memcmp(name, FDNAMES_SUPERVISOR, len)) {
    return FDNAMES_IS_SUPERVISOR;
  }
  if (len < 2 || len >= FDNAMES_WS_MAX || name[0] != 'w') return FDNAMES_IS_OTHER;
  uint64_t id = 0;
  for (size_t i = 1; i < len; i++) {
    char const *digit = memchr(digits, name[i], 36);
    if (!digit) return FDNAMES_IS_OTHER;
    if (__builtin_mul_overflow(id, 36UL, &id) ||
        __builtin_add_overflow(id, (uint64_t)(digit - digits), &id)) {
      return FDNAMES_IS_OTHER;
    }
  }
  char again[FDNAMES_WS_MAX];
  fdnames_ws(id, again);
  if (strlen(again) != len || memcmp(again, name, len)) return FDNAMES_IS_OTHER;
  *ret_ws_id = id;
  return FDNAMES_IS_WORKSPACE;
}

static int number(char const *text, long max, long *ret) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (errno || end == text || *end || value < 0 || value > max) return 0;
  *ret = value;
  return 1;
}

int fdnames_each(char const *listen_pid, char const *listen_fds, char const *listen_fdnames,
                 int pid, fdnames_each_t each, void *arg, char *error, size_t error_cap) {
  long for_pid, cnt;
  if (!listen_pid || !listen_fds) return 0;
  if (!number(listen_pid, 0x7fffffffL, &for_pid)) {
    snprintf(error, error_cap, "LISTEN_PID='%.40s' is not a process id", listen_pid);
    return -1;
  }
  if (for_pid != pid) return 0;
  if (!number(listen_fds, FDNAMES_MAX, &cnt)) {
    snprintf(error, error_cap, "LISTEN_FDS='%.40s' is not a number from 0 to %d", listen_fds,
             FDNAMES_MAX);
    return -1;
  }
  for (long i = 0; i < cnt; i++) {
    if (fcntl(FDNAMES_FIRST + (int)i, F_GETFD) >= 0) continue;
    snprintf(error, error_cap,
             "LISTEN_FDS=%ld says that descriptors %d to %ld were passed, and %ld is not open: "
             "unset LISTEN_PID and LISTEN_FDS, or pass them",
             cnt, FDNAMES_FIRST, FDNAMES_FIRST + cnt - 1, FDNAMES_FIRST + i);
    return -1;
  }
  char const *name = listen_fdnames ? listen_fdnames : "";
  for (long i = 0; i < cnt; i++) {
    size_t len = strcspn(name, ":");
    int fd = FDNAMES_FIRST + (int)i;
    uint64_t ws_id = 0;
    char const *own = name;
    fdnames_kind_t kind = fdnames_parse(name, len, &ws_id);
    name += len;
    if (*name == ':') name++;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
      snprintf(error, error_cap, "descriptor %d cannot be kept from our children: %s", fd,
               strerror(errno));
      return -1;
    }
    each(arg, fd, kind, ws_id, own, len);
  }
  return (int)cnt;
}
