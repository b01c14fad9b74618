/* reserve: setting the size of a node's pool of huge pages.

   The problem: the kernel takes a number and then does what it can: the write succeeds, and the
   pool has fewer pages than were asked for, with no word about it.

   The model: the number is written, what came of it is read, and the rest is tried by what the
   caller allows, the cheapest first: compaction, dropping caches, splitting larger pages. At the
   end stand two numbers and, where they differ, the reason as far as the node's figures tell it.

   It refuses: more than the node has memory (a machine that is all pool does not work any more),
   and to drop or split anything unasked. */

#include "reserve.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* "2M", "1G": a page size as people write it. */
typedef struct size_text {
  char s[24];
} size_text_t;

static size_text_t size_text(ulong bytes) {
  static char const units[] = "KMGT";
  size_text_t text;
  int unit = -1;
  while (unit < 3 && bytes >= 1024 && !(bytes & 1023)) {
    bytes >>= 10;
    unit++;
  }
  snprintf(text.s, sizeof text.s, unit < 0 ? "%lu" : "%lu%c", bytes, unit < 0 ? 0 : units[unit]);
  return text;
}

char const *reserve_check(host_t const *host, reserve_t const *reserve, char out[HOST_ERROR_MAX]) {
  host_node_t const *node = host_node(host, reserve->node);
  char list[256] = "";
  if (!node && sys_set_has(&host->possible, reserve->node)) {
    snprintf(out, HOST_ERROR_MAX, "node %u is offline; online are %s", reserve->node,
             sys_set_text(&host->online, list, sizeof list));
    return out;
  }
  if (!node) {
    snprintf(out, HOST_ERROR_MAX, "there is no node %u; this machine has %s", reserve->node,
             sys_set_text(&host->online, list, sizeof list));
    return out;
  }
  if (host_size_of(host, reserve->page_size) < 0) {
    size_t len = 0;
    for (uint i = 0; i < host->size_cnt; i++)
      len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "",
                              size_text(host->size[i].size).s);
    snprintf(out, HOST_ERROR_MAX, "this machine has no huge pages of %s; it has %s",
             size_text(reserve->page_size).s, len ? list : "none at all");
    return out;
  }
  if (!node->pooled || !node->mem) {
    snprintf(out, HOST_ERROR_MAX, "node %u has no memory, only cpus", reserve->node);
    return out;
  }
  if (reserve->wanted > node->mem / reserve->page_size) {
    snprintf(out, HOST_ERROR_MAX,
             "%lu pages of %s are more than node %u has memory: %lu MiB, which is %lu such pages",
             reserve->wanted, size_text(reserve->page_size).s, reserve->node, node->mem >> 20,
             node->mem / reserve->page_size);
    return out;
  }
  return NULL;
}

/* A reservation under way. */
typedef struct work {
  sys_t const *sys;
  host_t const *host;
  reserve_t const *asked;
  reserved_t *out;
  char *error;
} work_t;

static host_dir_t pool_dir(work_t const *work, ulong page_size) {
  return host_pool_dir(work->host->numa, work->asked->node, page_size);
}

static int failed(work_t *work, char const *what, char const *path, int err) {
  char const *hint = "";
  if (err == EACCES || err == EPERM) hint = "; only root may: sudo wkspctl ...";
  if (err == EROFS) hint = "; it is read-only here, as in a container: do it on the host";
  if (err == EINVAL || err == EOPNOTSUPP)
    hint = "; this kernel cannot do that while it runs: hugepagesz= and hugepages= on its command "
           "line can";
  snprintf(work->error, HOST_ERROR_MAX, "cannot %s %s: %s%s", what, path, strerror(err), hint);
  return -1;
}

static int write_to(work_t *work, char const *path, char const *text) {
  int const err = sys_write(work->sys, text, "%s", path);
  return err ? failed(work, "write to", path, err) : 0;
}

/* Reads got and surplus. */
static int look(work_t *work) {
  host_dir_t const dir = pool_dir(work, work->asked->page_size);
  ulong total, surplus;
  int err = sys_number(work->sys, &total, "%s/nr_hugepages", dir.s);
  if (!err) err = sys_number(work->sys, &surplus, "%s/surplus_hugepages", dir.s);
  if (err) return failed(work, "read", dir.s, err);
  work->out->surplus = surplus;
  work->out->got = total > surplus ? total - surplus : 0;
  return 0;
}

/* Asks the kernel for the number, and reads what came of it. */
static int ask(work_t *work) {
  char path[192], text[24];
  host_dir_t const dir = pool_dir(work, work->asked->page_size);
  snprintf(path, sizeof path, "%s/nr_hugepages", dir.s);
  snprintf(text, sizeof text, "%lu", work->asked->wanted);
  return write_to(work, path, text) ? -1 : look(work);
}

static int compact(work_t *work) {
  char path[96] = "/proc/sys/vm/compact_memory";
  if (work->host->numa)
    snprintf(path, sizeof path, "/sys/devices/system/node/node%u/compact", work->asked->node);
  return write_to(work, path, "1");
}

/* Splits pages of the size numbered `from` into those that are wanted, as many as are missing. */
static int demote_from(work_t *work, uint from) {
  ulong const larger = work->host->size[from].size, page_size = work->asked->page_size;
  host_dir_t const dir = pool_dir(work, larger);
  char path[192], text[24], was[24];
  snprintf(path, sizeof path, "%s/demote", dir.s);
  if (!sys_there(work->sys, "%s", path)) return 0;
  ulong unused, promised, before, after;
  int err = sys_number(work->sys, &unused, "%s/free_hugepages", dir.s);
  if (!err)
    err = sys_number(work->sys, &promised, "%s/resv_hugepages", host_pool_dir(0, 0, larger).s);
  if (!err) err = sys_number(work->sys, &before, "%s/nr_hugepages", dir.s);
  if (!err) err = sys_read(work->sys, was, sizeof was, "%s/demote_size", dir.s);
  if (err) return failed(work, "read", dir.s, err);
  ulong const each = larger / page_size, missing = work->asked->wanted - work->out->got;
  ulong cnt = missing / each + (missing % each ? 1 : 0);
  if (unused <= promised) return 0;
  if (cnt > unused - promised) cnt = unused - promised;

  char size_path[192];
  snprintf(size_path, sizeof size_path, "%s/demote_size", dir.s);
  snprintf(text, sizeof text, "%lukB", page_size >> 10);
  int const other = strcmp(was, text) != 0;
  if (other && write_to(work, size_path, text)) return -1;
  snprintf(text, sizeof text, "%lu", cnt);
  int status = write_to(work, path, text);
  if (other && write_to(work, size_path, was)) status = -1;
  if (status) return -1;

  err = sys_number(work->sys, &after, "%s/nr_hugepages", dir.s);
  if (err) return failed(work, "read", dir.s, err);
  if (before > after) {
    work->out->demoted += before - after;
    work->out->demoted_size = larger;
  }
  /* What a split gave beyond the number goes back. */
  return ask(work);
}

static int demote(work_t *work) {
  uint const size = (uint)host_size_of(work->host, work->asked->page_size);
  for (uint i = size + 1; i < work->host->size_cnt; i++)
    if (work->out->got < work->asked->wanted && demote_from(work, i)) return -1;
  return 0;
}

/* Appends to a text in a buffer of HOST_ERROR_MAX bytes, which cuts. */
static void add(char *text, char const *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(char *text, char const *fmt, ...) {
  size_t const len = strlen(text);
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text + len, HOST_ERROR_MAX - len, fmt, ap);
  va_end(ap);
}

/* Why there are fewer, from the figures as they are now. */
static int say_fewer(work_t *work) {
  host_t now;
  if (host_read(work->sys, &now, work->error)) return -1;
  host_node_t const *node = host_node(&now, work->asked->node);
  ulong const unused = node ? node->mem_free : 0, page_size = work->asked->page_size;
  ulong const missing = work->asked->wanted - work->out->got;
  int const small = unused / page_size < missing;
  char *why = work->out->why;
  if (small)
    add(why, "the missing %lu take %lu MiB, and the node has %lu MiB free", missing,
        missing * page_size >> 20, unused >> 20);
  else
    add(why, "the node's %lu MiB of free memory do not lie in %lu more pieces that large",
        unused >> 20, missing);
  if (!work->asked->compact && !small) add(why, "; --compact moves what lies in between");
  if (!work->asked->drop_caches) add(why, "; --drop-caches takes what caches of files hold");
  for (uint i = 0; node && !work->asked->demote && i < now.size_cnt; i++)
    if (now.size[i].size > page_size && node->pool[i].free)
      add(why, "; --demote splits up to %lu free pages of %s", node->pool[i].free,
          size_text(now.size[i].size).s);
  add(why, "; at boot there is most to be had (hugepages apply)");
  host_free(&now);
  return 0;
}

static int work_on(work_t *work) {
  reserve_t const *asked = work->asked;
  if (look(work)) return -1;
  work->out->had = work->out->got;
  if (ask(work)) return -1;
  if (asked->compact && work->out->got < asked->wanted && (compact(work) || ask(work))) return -1;
  if (asked->drop_caches && work->out->got < asked->wanted) {
    if (write_to(work, "/proc/sys/vm/drop_caches", "3")) return -1;
    if ((asked->compact && compact(work)) || ask(work)) return -1;
  }
  if (asked->demote && work->out->got < asked->wanted && demote(work)) return -1;
  if (work->out->got < asked->wanted) return say_fewer(work);
  if (work->out->got > asked->wanted)
    snprintf(work->out->why, sizeof work->out->why,
             "%lu more are promised to mappings and stay until these end",
             work->out->got - asked->wanted);
  return 0;
}

int reserve_pages(sys_t const *sys, host_t const *host, reserve_t const *reserve,
                  reserved_t *ret_reserved, char ret_error[HOST_ERROR_MAX]) {
  reserved_t out = {.why = ""};
  work_t work = {sys, host, reserve, &out, ret_error};
  if (reserve_check(host, reserve, ret_error) || work_on(&work)) return -1;
  *ret_reserved = out;
  return 0;
}
