/* The problem: a worker that takes or restores checkpoints needs threads and files, and whoever
   took it over must not get more than the store by that.

   The model: Landlock fences the process in below the store's folder; the filter lets files be
   opened below a descriptor only (never by the working folder), for reading unless the store is
   written, and threads of this process be begun, no processes. An absolute path passes the filter:
   there the fence holds, and where the kernel has none (before 5.13, or left out) what holds is
   that the daemon's user owns nothing else of worth.

   Refuses: other ways to files: no links, no modes, no owners, no folders. */

#include "daemon/child/sandbox_store.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the first version of Landlock knows; what is handled and not allowed is refused. */
#define FENCED                                                                                    \
  (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |    \
   LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | \
   LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |     \
   LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |  \
   LANDLOCK_ACCESS_FS_MAKE_SYM)
#define READS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITES \
  (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE)

char const *sandbox_store_fence(int folder_fd, int writes) {
  struct landlock_ruleset_attr const fenced = {.handled_access_fs = FENCED};
  struct landlock_path_beneath_attr const below = {
      .allowed_access = READS | (writes ? WRITES : 0UL), .parent_fd = folder_fd};
  int ruleset = (int)syscall(SYS_landlock_create_ruleset, &fenced, sizeof fenced, 0);
  /* The kernel has none, or a container's own filter keeps it from us. */
  if (ruleset < 0)
    return errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM ? NULL
                                                                    : "landlock_create_ruleset";
  char const *bad = NULL;
  if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &below, 0))
    bad = "landlock_add_rule";
  else if (syscall(SYS_landlock_restrict_self, ruleset, 0))
    bad = "landlock_restrict_self";
  close(ruleset);
  return bad;
}

/* clang-format off */
static int const reading[] = {
    SCMP_SYS(pread64), SCMP_SYS(getdents64), SCMP_SYS(lseek), SCMP_SYS(fcntl), SCMP_SYS(flock),
    SCMP_SYS(uname), SCMP_SYS(sched_getaffinity), SCMP_SYS(sysinfo), /* the last: qsort */
};
static int const writing[] = {
    SCMP_SYS(pwrite64), SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(sync_file_range),
    SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(unlinkat), SCMP_SYS(ftruncate),
};
/* clang-format on */

/* What the filter allows already, with fewer conditions (under a sanitizer), is allowed. */
static int failed(int rc) {
  return rc && rc != -EEXIST;
}

#define BELOW_FD SCMP_A0(SCMP_CMP_MASKED_EQ, 0x80000000UL, 0)

static char const *add_files(scmp_filter_ctx ctx, int writes) {
  if (writes)
    return failed(seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1, BELOW_FD))
               ? "seccomp_rule_add(openat)"
               : NULL;
  /* O_TMPFILE has the bit of O_DIRECTORY, which is allowed by itself */
  scmp_datum_t const mask = O_ACCMODE | O_CREAT | O_TRUNC;
  return failed(seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(openat), 2, BELOW_FD,
                                 SCMP_A2(SCMP_CMP_MASKED_EQ, mask, O_RDONLY)))
             ? "seccomp_rule_add(openat)"
             : NULL;
}

/* clone3 hides its flags from a filter; without it the C library takes clone. */
static char const *add_threads(scmp_filter_ctx ctx) {
  scmp_datum_t const thread = CLONE_VM | CLONE_THREAD;
  if (failed(seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0)) ||
      failed(seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread))))
    return "seccomp_rule_add(clone)";
  /* a thread's stack, and a heap of its own */
  if (failed(seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0))))
    return "seccomp_rule_add(mprotect)";
  return NULL;
}

char const *sandbox_store_rules(scmp_filter_ctx ctx, int writes) {
  for (size_t i = 0; i < sizeof reading / sizeof *reading; i++)
    if (failed(seccomp_rule_add(ctx, SCMP_ACT_ALLOW, reading[i], 0))) return "seccomp_rule_add";
  for (size_t i = 0; writes && i < sizeof writing / sizeof *writing; i++)
    if (failed(seccomp_rule_add(ctx, SCMP_ACT_ALLOW, writing[i], 0))) return "seccomp_rule_add";
  char const *bad = add_files(ctx, writes);
  return bad ? bad : add_threads(ctx);
}
