/* print: the listing of a workspace to a FILE. It lies here since lib/core does no I/O. */

#include "core/fail.h"
#include "wksp/fd_wksp.h"

#include <errno.h>
#include <limits.h>

typedef struct print {
  FILE *file;
  ulong sz; /* bytes printed */
} print_t;

static int print_line(void *arg, char const *line) {
  print_t *print = arg;
  errno = 0;
  int len = fprintf(print->file, "%s\n", line);
  if (len < 0) return wksp__fail(WKSP_E_SYS, "fprintf: the file takes no more: %m");
  print->sz += (ulong)len;
  return 0;
}

int fd_wksp_fprintf(FILE *file, fd_wksp_t *wksp) {
  print_t print = {.file = file};
  if (!file || !wksp)
    return wksp__fail(WKSP_E_INVAL, "fprintf: the %s is NULL", file ? "workspace" : "file");
  int rc = fd_wksp_list(wksp, print_line, &print);
  if (rc) return rc;
  return print.sz < INT_MAX ? (int)print.sz : INT_MAX;
}
