/* pre_env: what the environment says about the heap.

   Problem: the first malloc comes from the dynamic linker, before the C library has its environ;
   and nothing may be allocated.

   Model. environ where it is there, else /proc/self/environ. What a variable says wrongly is told
   once, and the default holds: a program must not fail because of it. A program that runs with
   another's rights reads nothing.

   What it refuses: to change the environment. */

#include "heap/preload.h"
#include "wksp/fd_wksp.h"

#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* Of /proc/self/environ so much is looked at. */
#define ENVIRON_MAX 65536

#define PREFIX "WKSP_MALLOC_"

#define KEEP_DEFAULT (32UL << 20)

/* A number of bytes with K, M, G or T. 1 and *ret_sz, 0: it is none. */
static int parse_size(char const *text, ulong *ret_sz) {
  ulong sz = 0;
  uint digits = 0;
  for (; *text >= '0' && *text <= '9'; text++, digits++)
    if (__builtin_mul_overflow(sz, 10UL, &sz) ||
        __builtin_add_overflow(sz, (ulong)(*text - '0'), &sz))
      return 0;
  static char const units[] = "KMGT";
  char const *unit = *text && *text != ' ' ? strchr(units, *text & ~32) : NULL;
  if (unit) {
    ulong lg = 10UL * (ulong)(unit - units + 1);
    if (sz > ~0UL >> lg) return 0;
    sz <<= lg;
    text++;
  }
  if (!digits || *text) return 0;
  *ret_sz = sz;
  return 1;
}

/* Memory nodes: 0,2-3. */
static int parse_nodes(char const *text, ulong *ret_mask) {
  ulong mask = 0, from = 64;
  while (*text) {
    ulong node = 0;
    if (*text < '0' || *text > '9') return 0;
    for (; *text >= '0' && *text <= '9' && node < 64; text++)
      node = 10 * node + (ulong)(*text - '0');
    if (node >= 64) return 0;
    if (*text == '-' && from == 64) {
      from = node;
      text++;
      continue;
    }
    for (ulong at = from < 64 ? from : node; at <= node; at++) mask |= 1UL << at;
    from = 64;
    if (*text == ',' && text[1])
      text++;
    else if (*text)
      return 0;
  }
  *ret_mask = mask;
  return mask && from == 64;
}

static int parse_huge(char const *text, ulong *ret_flags) {
  if (!strcmp(text, "0"))
    *ret_flags = 0;
  else if (!strcmp(text, "1") || !strcmp(text, "thp"))
    *ret_flags = FD_WKSP_PRIVATE_THP;
  else if (!strcmp(text, "hugetlb"))
    *ret_flags = FD_WKSP_PRIVATE_HUGETLB;
  else
    return 0;
  return 1;
}

static int parse_bad(char const *text, int *ret_bad) {
  if (!strcmp(text, "tell"))
    *ret_bad = PRE_BAD_TELL;
  else if (!strcmp(text, "ignore"))
    *ret_bad = PRE_BAD_IGNORE;
  else if (!strcmp(text, "abort"))
    *ret_bad = PRE_BAD_ABORT;
  else
    return 0;
  return 1;
}

/* One variable, "NAME=value" without the prefix. */
static void take(char const *text, pre_env_t *env) {
  char const *value = strchr(text, '=');
  if (!value) return;
  ulong len = (ulong)(value++ - text);
  int ok = 1;
#define IS(name) (len == sizeof name - 1 && !memcmp(text, name, len))
  if (IS("STATS"))
    env->stats = *value && strcmp(value, "0");
  else if (IS("HUGE"))
    ok = parse_huge(value, &env->flags);
  else if (IS("NUMA"))
    ok = parse_nodes(value, &env->nodes);
  else if (IS("KEEP"))
    ok = parse_size(value, &env->keep);
  else if (IS("SIZE"))
    ok = parse_size(value, &env->size);
  else if (IS("WORKSPACE"))
    env->workspace = *value ? value : NULL;
  else if (IS("TAG"))
    ok = parse_size(value, &env->tag);
  else if (IS("BAD_FREE"))
    ok = parse_bad(value, &env->bad);
  else
    return;
#undef IS
  if (!ok) pre_say("%s%s is not understood and left out", PREFIX, text);
}

static void take_if_ours(char const *text, pre_env_t *env) {
  if (!strncmp(text, PREFIX, sizeof PREFIX - 1)) take(text + sizeof PREFIX - 1, env);
}

/* Before the C library has its environ. */
static void read_proc(pre_env_t *env) {
  static char text[ENVIRON_MAX + 1];
  int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ulong len = 0;
  for (ssize_t got; len < ENVIRON_MAX && (got = read(fd, text + len, ENVIRON_MAX - len)) > 0;)
    len += (ulong)got;
  close(fd);
  for (ulong at = 0; at < len; at += strlen(text + at) + 1) take_if_ours(text + at, env);
}

void pre_env_read(pre_env_t *ret_env) {
  pre_env_t env = {.keep = KEEP_DEFAULT};
  if (!getauxval(AT_SECURE)) {
    if (environ)
      for (char **at = environ; *at; at++) take_if_ours(*at, &env);
    else
      read_proc(&env);
  }
  *ret_env = env;
}
