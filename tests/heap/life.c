/* life: what a program's life asks of malloc, one thing for each argument. heap_test.py runs it
   under libwksp_malloc.so, and under the C library's malloc to see that it asks nothing else.

   Prints "ok" at the end, or says what is wrong and ends with 1. */

#include "life.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

void wrong(char const *what) {
  char line[200];
  int len = snprintf(line, sizeof line, "WRONG: %s, errno %d\n", what, errno);
  if (write(1, line, (size_t)len)) _exit(1);
  _exit(1);
}

void wait_for(pid_t pid) {
  int status;
  WANT(pid > 0);
  WANT(waitpid(pid, &status, 0) == pid);
  WANT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static uint64_t g_state = 88172645463325252UL;
static uint64_t draw(uint64_t below) {
  g_state ^= g_state << 13;
  g_state ^= g_state >> 7;
  g_state ^= g_state << 17;
  return g_state % below;
}

/* Blocks with contents
 * ------------------------------------------------------------------------------------------- */

enum { BLOCKS = 4000 };
static unsigned char *g_blk[BLOCKS];
static size_t g_sz[BLOCKS];

void fill(void) {
  for (unsigned i = 0; i < BLOCKS; i++) {
    g_sz[i] = 1 + draw(i % 100 == 99 ? 1500000 : i % 20 ? 1000 : 40000);
    WANT(g_blk[i] = malloc(g_sz[i]));
    memset(g_blk[i], (int)(i & 255), g_sz[i]);
  }
}

void look(void) {
  for (unsigned i = 0; i < BLOCKS; i++)
    for (size_t b = 0; b < g_sz[i]; b++) WANT(g_blk[i][b] == (unsigned char)i);
}

void invert(void) {
  for (unsigned i = 0; i < BLOCKS; i++) memset(g_blk[i], (int)(~i & 255), g_sz[i]);
}

static void drop(void) {
  for (unsigned i = 0; i < BLOCKS; i++) free(g_blk[i]);
}

/* Everything again, in another order. */
void mutate(void) {
  look();
  for (unsigned i = 0; i < BLOCKS; i += 2) {
    WANT(g_blk[i] = realloc(g_blk[i], g_sz[i] * 2));
    memset(g_blk[i], (int)(i & 255), g_sz[i]);
  }
  for (unsigned i = 1; i < BLOCKS; i += 2) {
    free(g_blk[i]);
    WANT(g_blk[i] = malloc(g_sz[i]));
    memset(g_blk[i], (int)(i & 255), g_sz[i]);
  }
  look();
  drop();
}

/* Threads
 * -------------------------------------------------------------------------------------------- */

void *worker(void *arg) {
  uint64_t state = (uintptr_t)arg * 2654435761UL + 1;
  void *blk[64] = {0};
  for (unsigned i = 0; i < 2000; i++) {
    state = state * 6364136223846793005UL + 1442695040888963407UL;
    unsigned at = (unsigned)(state >> 33) % 64;
    free(blk[at]);
    WANT(blk[at] = malloc(1 + (state >> 40) % ((state >> 20) % 50 ? 500 : 60000)));
    memset(blk[at], 1, 1);
  }
  for (unsigned i = 0; i < 64; i++) free(blk[i]);
  return NULL;
}

pthread_t start(void *(*run)(void *), void *arg) {
  pthread_t thread;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 128 << 10);
  WANT(!pthread_create(&thread, &attr, run, arg));
  pthread_attr_destroy(&attr);
  return thread;
}

static void *pass_on(void *arg) {
  void **blk = arg;
  free(blk[0]);
  WANT(blk[0] = malloc(100));
  return NULL;
}

/* Three thousand threads, one after the other, each freeing what the one before has allocated. */
static void many(void) {
  void *blk = malloc(10);
  for (unsigned i = 0; i < 3000; i++) pthread_join(start(pass_on, &blk), NULL);
  free(blk);
}

static pthread_barrier_t g_barrier;
static void *at_once(void *arg) {
  void *blk = malloc((uintptr_t)arg % 1000 + 1), *mine[16] = {0};
  WANT(blk);
  pthread_barrier_wait(&g_barrier);
  free(blk);
  WANT(blk = malloc(200));
  for (unsigned i = 0; i < 400; i++) {
    void **at = &mine[i * 7 % 16];
    free(*at);
    WANT(*at = malloc(1 + (i * 37 + (uintptr_t)arg) % 500));
    memset(*at, 1, 1);
  }
  for (unsigned i = 0; i < 16; i++) free(mine[i]);
  pthread_barrier_wait(&g_barrier);
  free(blk);
  return NULL;
}

/* Many threads that allocate at once: more than a workspace that others share has slots for, all of
   which want memory that is not there yet. */
static void crowd(void) {
  enum { CROWD = 1400 };
  static pthread_t threads[CROWD];
  pthread_barrier_init(&g_barrier, NULL, CROWD);
  for (uintptr_t i = 0; i < CROWD; i++) threads[i] = start(at_once, (void *)i);
  for (unsigned i = 0; i < CROWD; i++) pthread_join(threads[i], NULL);
}

/* A thread's destructors allocate and free after ours, and it had all keys. */
static pthread_key_t g_keys[PTHREAD_KEYS_MAX];
static unsigned g_key_cnt;
static void on_key(void *arg) {
  static __thread unsigned turns;
  free(arg);
  void *blk = malloc(300);
  WANT(blk);
  if (turns++ < 2000)
    pthread_setspecific(g_keys[turns % g_key_cnt], blk);
  else
    free(blk);
}

static void *with_keys(void *arg) {
  (void)arg;
  for (unsigned i = 0; i < g_key_cnt; i++) pthread_setspecific(g_keys[i], malloc(i + 1));
  return NULL;
}

static void keys(void) {
  while (g_key_cnt < PTHREAD_KEYS_MAX && !pthread_key_create(&g_keys[g_key_cnt], on_key))
    g_key_cnt++;
  WANT(g_key_cnt > 100);
  for (unsigned i = 0; i < 20; i++) pthread_join(start(with_keys, NULL), NULL);
}

/* Forks while threads allocate: each child can allocate, make threads, and fork again. */
int volatile g_stop;
void *busy(void *arg) {
  while (!g_stop) worker(arg);
  return NULL;
}

static void storm(void) {
  pthread_t threads[3];
  for (uintptr_t i = 0; i < 3; i++) threads[i] = start(busy, (void *)(i + 1));
  for (int i = 0; i < 60; i++) {
    pid_t pid = i % 4 ? fork() : child_of(1 + i / 4 % 2);
    if (!pid) {
      worker((void *)(uintptr_t)(i + 100));
      if (i % 4) { /* others are not whole in the C library's eyes */
        pthread_join(start(worker, (void *)7), NULL);
        pid_t again = fork();
        if (!again) {
          worker((void *)3);
          _exit(0);
        }
        wait_for(again);
      }
      _exit(0);
    }
    wait_for(pid);
  }
  g_stop = 1;
  for (unsigned i = 0; i < 3; i++) pthread_join(threads[i], NULL);
}

/* Children by vfork and posix_spawn, and exec from a thread. */
static void *exec_now(void *arg) {
  (void)arg;
  free(malloc(10));
  execl("/bin/true", "true", (char *)NULL);
  return NULL;
}

static void execs(void) {
  char name[] = "true", *argv[] = {name, NULL};
  for (int volatile i = 0; i < 20; i++) {
    pid_t pid = vfork();
    if (!pid) {
      free(malloc(100));
      execv("/bin/true", argv);
      _exit(1);
    }
    wait_for(pid);
    WANT(!posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ));
    wait_for(pid);
    WANT(!system("true"));
    FILE *pipe = popen("echo yes", "r");
    char line[10] = "";
    WANT(pipe && fgets(line, sizeof line, pipe) && !strcmp(line, "yes\n") && !pclose(pipe));
  }
  pid_t pid = fork();
  if (!pid) {
    pthread_join(start(exec_now, NULL), NULL);
    _exit(1);
  }
  wait_for(pid);
}

/* Handlers
 * ------------------------------------------------------------------------------------------- */

static unsigned volatile g_signals;
static void *g_held[8];
static void on_alarm(int sig) {
  (void)sig;
  int saved = errno;
  unsigned at = g_signals++ % 8;
  free(g_held[at]);
  g_held[at] = malloc(1 + g_signals % 3000);
  if (!g_held[at]) _exit(77);
  errno = saved;
}

/* A handler that allocates interrupts malloc all the time. */
static void signals(void) {
  struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
  struct itimerval often = {{0, 1000}, {0, 1000}};
  WANT(!sigaction(SIGALRM, &action, NULL));
  WANT(!setitimer(ITIMER_REAL, &often, NULL));
  for (unsigned i = 0; g_signals < 300; i++) worker((void *)(uintptr_t)i);
  WANT(!setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL));
}

/* At the end of the program, after main. */
static void *g_late;
static void at_end(void) {
  free(g_late);
  free(malloc(1000));
}

__attribute__((destructor)) static void at_very_end(void) {
  free(strdup("very late"));
}

__attribute__((constructor)) static void before_main(void) {
  WANT(g_late = calloc(10, 10));
}

/* Memory
 * --------------------------------------------------------------------------------------------- */

/* With few addresses: blocks until there are no more, ENOMEM then, and again all once they are
   free. */
static void few(void) {
  static void *blk[1 << 16];
  for (int turn = 0; turn < 3; turn++) {
    unsigned cnt = 0;
    errno = 0;
    while (cnt < 1 << 16 && (blk[cnt] = malloc(turn == 1 ? 200000 : 20000))) cnt++;
    WANT(errno == ENOMEM && cnt * (turn == 1 ? 200000UL : 20000UL) > 40UL << 20);
    while (cnt) free(blk[--cnt]);
    WANT((blk[0] = malloc(100)));
    free(blk[0]);
  }
}

static void statm(long *ret_size, long *ret_resident) {
  long kib = sysconf(_SC_PAGESIZE) / 1024;
  FILE *file = fopen("/proc/self/statm", "r");
  WANT(file && fscanf(file, "%ld %ld", ret_size, ret_resident) == 2);
  fclose(file);
  *ret_size *= kib;
  *ret_resident *= kib;
}

static long resident_kib(void) {
  long size, resident;
  statm(&size, &resident);
  return resident;
}

long size_kib(void) {
  long size, resident;
  statm(&size, &resident);
  return size;
}

/* What is freed goes back to the system: most by itself, nearly all by malloc_trim. */
static void gives_back(void) {
  enum { CNT = 300000 };
  void **blk = malloc(CNT * sizeof *blk);
  long before = resident_kib();
  for (unsigned i = 0; i < CNT; i++) memset(blk[i] = malloc(1000), 1, 1000);
  WANT(resident_kib() > before + 250000);
  for (unsigned i = 0; i < CNT; i++) free(blk[i]);
  WANT(resident_kib() < before + 100000);
  malloc_trim(0);
  WANT(resident_kib() < before + 20000);
  for (unsigned i = 0; i < 100; i++) { /* as often as mapped: it comes from the workspace then */
    char *big = malloc(20 << 20);
    WANT(big);
    memset(big, 1, 20 << 20);
    free(big);
  }
  WANT(resident_kib() < before + 100000);
  free(blk);
}

/* Frees that are none do no harm. */
static void bad(void) {
  char *volatile blk = malloc(100), *volatile other = malloc(100);
  char *volatile mapped =
      mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  static char own[100];
  free(blk);
  free(blk);
  free(other + 16);
  free(mapped);
  free(own + 48);
  memset(other, 1, 100);
  free(other);
  void *a = malloc(100), *b = malloc(100);
  WANT(a != b);
}

/* With the heap in a workspace of wkspd's: children that exec are nobody's concern, one that
   allocates ends at once, and its parent's heap is as it was. */
/* Blocks with this number in them come and go: 0 as it must be, 1 somebody else wrote into one, 2
   there are none. */
static int numbered(unsigned char number) {
  unsigned char *blk[32] = {0};
  for (unsigned i = 0; i < 200000; i++) {
    unsigned at = (unsigned)draw(32);
    for (unsigned b = 0; blk[at] && b < 48; b++)
      if (blk[at][b] != number) return 1;
    free(blk[at]);
    if (!(blk[at] = malloc(48))) return 2;
    memset(blk[at], number, 48);
  }
  for (unsigned i = 0; i < 32; i++) free(blk[i]);
  return 0;
}

/* No handler of ours sees _Fork, and the thread has allocated from the workspace alone. */
static void *forks_unseen(void *arg) {
  int status;
  free(malloc(48));
  pid_t pid = _Fork();
  WANT(pid >= 0);
  if (!pid) _exit(numbered(2));
  WANT(!numbered(1));
  WANT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) != 1);
  return arg;
}

static void shared(void) {
  char name[] = "true", *argv[] = {name, NULL};
  pid_t pid;
  int status;
  fill();
  WANT(!posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ));
  wait_for(pid);
  if (!(pid = fork())) {
    execv("/bin/true", argv);
    _exit(1);
  }
  wait_for(pid);
  WANT((pid = fork()) >= 0);
  if (!pid) {
    free(g_blk[0]); /* nothing */
    _exit(malloc(100) != NULL);
  }
  WANT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  pthread_join(start(forks_unseen, NULL), NULL);
  mutate();
  free(g_late);
  g_late = NULL;
}

/* What the figures say. */
static void figures(void) {
  struct mallinfo2 info = mallinfo2();
  size_t was = info.uordblks + info.hblkhd;
  void *blk = malloc(500000), *huge = malloc(64 << 20);
  info = mallinfo2();
  /* but for what looking takes */
  WANT(info.uordblks + info.hblkhd + (2 << 20) >= was + 500000 + (64 << 20));
  free(blk);
  free(huge);
  WANT(malloc_usable_size(blk = malloc(100)) >= 100);
  memset(blk, 1, malloc_usable_size(blk));
  free(blk);
}

int main(int argc, char **argv) {
  static struct {
    char const *name;
    void (*run)(void);
  } const all[] = {{"forks", forks},
                   {"many", many},
                   {"crowd", crowd},
                   {"keys", keys},
                   {"storm", storm},
                   {"execs", execs},
                   {"signals", signals},
                   {"few", few},
                   {"gives_back", gives_back},
                   {"bad", bad},
                   {"shared", shared},
                   {"figures", figures},
                   {"late", late},
                   {"grows", grows},
                   {"sandbox", sandbox},
                   {"namespaces", namespaces}};
  atexit(at_end);
  for (unsigned i = 0; argc > 1 && i < sizeof all / sizeof *all; i++)
    if (!strcmp(argv[1], all[i].name)) {
      all[i].run();
      printf("ok\n");
      return 0;
    }
  printf("what is to be done?\n");
  return 2;
}
