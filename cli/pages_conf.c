/* pages_conf: reading hugepages.conf.

   The problem: it is read at boot, when nobody looks; a mistake that is passed over shows weeks
   later as a workspace on small pages.

   The model: the whole file is read and judged against this machine before anything is changed; the
   first mistake is told with file, line and value.

   It refuses: nodes and sizes that this machine does not have. */

#include "pages_conf.h"

#include "conf/confile.h"
#include "parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(PAGES_CONF_ERROR_MAX >= CONFIG_ERROR_MAX, "room for confile's sentences");

typedef struct reader {
  host_t const *host;
  pages_conf_t conf;
} reader_t;

/* "node 3". NULL, or what is wrong with it. */
static char const *read_section(char const *section, uint *ret_node) {
  static char const prefix[] = "node ";
  if (strncmp(section, prefix, sizeof prefix - 1)) return "is unknown; write [node 0]";
  return parse_number32(section + sizeof prefix - 1, ret_node);
}

static void on_key(confile_t *file, char const *section, char const *name, char const *value) {
  reader_t *reader = file->arg;
  reserve_t pool = {.wanted = 0};
  char why_not[HOST_ERROR_MAX];
  char const *why = read_section(section, &pool.node);
  if (why) {
    confile_refuse(file, "the section [%.100s] %s", section, why);
    return;
  }
  why = parse_size(name, &pool.page_size);
  if (why) {
    confile_refuse(file, "the page size '%.100s' %s", name, why);
    return;
  }
  why = parse_number(value, &pool.wanted);
  if (why) {
    confile_refuse(file, "%.100s = '%.100s' %s", name, value, why);
    return;
  }
  why = reserve_check(reader->host, &pool, why_not);
  if (why) {
    confile_refuse(file, "%.100s = %.100s: %s", name, value, why);
    return;
  }
  for (uint i = 0; i < reader->conf.cnt; i++) {
    reserve_t const *other = &reader->conf.pool[i];
    if (other->node == pool.node && other->page_size == pool.page_size) {
      confile_refuse(file, "%.100s of node %u is given twice", name, pool.node);
      return;
    }
  }
  if (reader->conf.cnt < PAGES_CONF_MAX) reader->conf.pool[reader->conf.cnt++] = pool;
}

static int larger_first(void const *a, void const *b) {
  reserve_t const *x = a, *y = b;
  if (x->page_size != y->page_size) return x->page_size < y->page_size ? 1 : -1;
  return (x->node > y->node) - (x->node < y->node);
}

int pages_conf_read(char const *path, host_t const *host, pages_conf_t *ret_conf,
                    char ret_error[PAGES_CONF_ERROR_MAX]) {
  reader_t reader = {.host = host};
  reader.conf.pool = calloc(PAGES_CONF_MAX, sizeof *reader.conf.pool);
  if (!reader.conf.pool) {
    snprintf(ret_error, PAGES_CONF_ERROR_MAX, "this process has no memory left to read %.900s",
             path);
    return -1;
  }
  if (confile_read(path, on_key, &reader, ret_error)) {
    pages_conf_free(&reader.conf);
    return -1;
  }
  qsort(reader.conf.pool, reader.conf.cnt, sizeof *reader.conf.pool, larger_first);
  *ret_conf = reader.conf;
  return 0;
}

void pages_conf_free(pages_conf_t *conf) {
  free(conf->pool);
  conf->pool = NULL;
  conf->cnt = 0;
}
