/* The problem: whoever may write a workspace may try to take over the process that maps it.

   The model: such a process holds one memfd and two pipes and cannot get more: no capability, no
   way to open, connect, execute, signal others or map code. What is not on the list kills it, and
   the daemon says so.

   Refuses: configuration. Under a sanitizer the limit of addresses is left out and the list is
   longer, since the sanitizer itself needs both. */

#include "daemon/child/sandbox.h"

#include "daemon/child/sandbox_store.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Addresses besides the workspace and what is mapped already: heap for an answer of RESULT_MAX and
 * its lists. */
#define SPARE_SIZE (64UL << 20)

/* The same for a worker with a store: for each of its threads a stack, a heap that the C library
 * reserves 128 MiB of addresses for, and a codec's tables. */
#define SPARE_STORE_SIZE (16UL << 30)

/* clang-format off */
static int const allowed[] = {
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(close),         /* question, answer */
    SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), /* malloc, the mapping */
    SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(fallocate), /* compact gives pages back */
    SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(get_robust_list),
    SCMP_SYS(membarrier), SCMP_SYS(sched_yield), SCMP_SYS(rseq),
    SCMP_SYS(gettid), SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(getcpu),
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
    SCMP_SYS(restart_syscall), SCMP_SYS(getrandom),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(writev), /* abort() */
#if SANITIZED
    SCMP_SYS(prctl),
    SCMP_SYS(mprotect), SCMP_SYS(sigaltstack), SCMP_SYS(openat), SCMP_SYS(readlink),
    SCMP_SYS(readlinkat), SCMP_SYS(lseek), SCMP_SYS(ioctl), SCMP_SYS(sched_getaffinity),
    SCMP_SYS(clone), SCMP_SYS(wait4), SCMP_SYS(ptrace), SCMP_SYS(getdents64), SCMP_SYS(uname),
    SCMP_SYS(getrlimit), SCMP_SYS(prlimit64), SCMP_SYS(arch_prctl), SCMP_SYS(pipe2),
    SCMP_SYS(fcntl), SCMP_SYS(process_vm_readv), SCMP_SYS(stat), SCMP_SYS(getuid), SCMP_SYS(geteuid),
#endif
};
/* clang-format on */

static char const *drop_capabilities(void) {
  struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[2] = {{0}};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return "no_new_privs";
  if (syscall(SYS_capset, &head, none)) return "capset";
  return NULL;
}

static int limit(int what, rlim_t value) {
  struct rlimit both = {value, value};
  return setrlimit((__rlimit_resource_t)what, &both);
}

/* Bytes of addresses in use, from the kernel. */
static uint64_t address_space(void) {
  unsigned long pages = 0;
  char text[128];
  int fd = SANITIZED ? -1 : open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text);
  close(fd);
  for (ssize_t i = 0; i < n && text[i] >= '0' && text[i] <= '9'; i++) {
    pages = pages * 10 + (unsigned long)(text[i] - '0');
  }
  return pages * (unsigned long)sysconf(_SC_PAGESIZE);
}

/* cpu_s 0: any. */
static char const *limits(uint64_t map_size, uint64_t spare_size, uint32_t cpu_s) {
  uint64_t used = address_space();
  if (limit(RLIMIT_CORE, 0) || (cpu_s && limit(RLIMIT_CPU, cpu_s))) return "setrlimit";
  /* Twice: a reading attempt may be followed by a writing one before the first is unmapped. */
  if (used && limit(RLIMIT_AS, used + 2 * map_size + spare_size)) return "setrlimit(RLIMIT_AS)";
  return NULL;
}

enum { STORE_NONE = 0, STORE_READ, STORE_WRITE };

static char const *filter(int store) {
  scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
  char const *bad = ctx ? NULL : "seccomp_init";
  for (size_t i = 0; !bad && i < sizeof allowed / sizeof *allowed; i++) {
    if (seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0)) bad = "seccomp_rule_add";
  }
  /* memory, never code */
  if (!bad && seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                               SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0))) {
    bad = "seccomp_rule_add(mmap)";
  }
  /* abort(): to itself only */
  if (!bad && seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                               SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0))) {
    bad = "seccomp_rule_add(tgkill)";
  }
  /* a slot shows its thread's name; what holds for the process may be asked, nothing set */
  int const asked[] = {PR_GET_NAME, PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS, PR_GET_PDEATHSIG};
  for (size_t i = 0; !bad && !SANITIZED && i < sizeof asked / sizeof *asked; i++) {
    if (seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                         SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)asked[i], 0)))
      bad = "seccomp_rule_add(prctl)";
  }
  /* asking whether a claimant's process is there, never telling it anything */
  if (!bad &&
      seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1, SCMP_A1(SCMP_CMP_EQ, 0, 0))) {
    bad = "seccomp_rule_add(kill)";
  }
  /* asking where pages lie, of this process alone; moving them would take more arguments */
  if (!bad && seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(move_pages), 2,
                               SCMP_A0(SCMP_CMP_EQ, 0, 0), SCMP_A3(SCMP_CMP_EQ, 0, 0))) {
    bad = "seccomp_rule_add(move_pages)";
  }
  if (!bad && store) bad = sandbox_store_rules(ctx, store == STORE_WRITE);
  if (!bad && seccomp_load(ctx)) bad = "seccomp_load";
  if (ctx) seccomp_release(ctx);
  return bad;
}

/* What comes before the filter. */
static char const *leave(int first_fd) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)) return "PR_SET_PDEATHSIG";
  if (syscall(SYS_close_range, (unsigned)first_fd, ~0U, 0U)) return "close_range";
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)) return "PR_SET_DUMPABLE";
  return NULL;
}

char const *sandbox_enter(int first_fd, uint64_t map_size, uint32_t cpu_s) {
  char const *bad = leave(first_fd);
  if (!bad) bad = limits(map_size, SPARE_SIZE, cpu_s);
  if (!bad) bad = drop_capabilities();
  if (!bad) bad = filter(STORE_NONE);
  return bad;
}

char const *sandbox_enter_store(int first_fd, uint64_t map_size, int folder_fd, int writes) {
  char const *bad = leave(first_fd);
  if (!bad) bad = limits(map_size, SPARE_STORE_SIZE, 0);
  if (!bad) bad = drop_capabilities();
  /* a sanitizer opens files of its own when it reports */
  if (!bad && !SANITIZED) bad = sandbox_store_fence(folder_fd, writes);
  if (!bad) bad = filter(writes ? STORE_WRITE : STORE_READ);
  return bad;
}
