/* A program that loads libwksp with dlopen and closes it while threads still hold slots. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wksp/fd_alloc.h"
#include "wksp/fd_wksp.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void *g_lib;

/* The function of that name; there is no other way to get one from dlsym in ISO C. */
static void (*fn(char const *name))(void) {
  void (*ret)(void);
  *(void **)(&ret) = dlsym(g_lib, name);
  return ret;
}

typedef struct idle {
  fd_alloc_t *alloc;
  void *(*malloc)(fd_alloc_t *join, ulong align, ulong sz);
  void (*free)(fd_alloc_t *join, void *laddr);
  pthread_barrier_t turn;
  void *before, *after;
} idle_t;

static void *idle_main(void *arg) {
  idle_t *idle = arg;
  idle->before = idle->malloc(idle->alloc, 0, 64);
  pthread_barrier_wait(&idle->turn);
  pthread_barrier_wait(&idle->turn); /* closed in between */
  idle->after = idle->malloc(idle->alloc, 0, 64);
  idle->free(idle->alloc, idle->before);
  idle->free(idle->alloc, idle->after);
  return NULL;
}

/* After dlclose threads that have slots go on, end, and give their slots back, and fork runs the
   handlers that the library left: it stays where it is. */
static void test_dlclose(void **state) {
  (void)state;
  g_lib = dlopen(getenv("WKSP_LIB"), RTLD_NOW | RTLD_LOCAL);
  if (!g_lib) fail_msg("%s", dlerror());
  fd_wksp_t *(*new_anon)(char const *, ulong, ulong, uint, ulong) =
      (fd_wksp_t * (*)(char const *, ulong, ulong, uint, ulong)) fn("fd_wksp_new_anon");
  void *(*alloc_laddr)(fd_wksp_t *, ulong, ulong, ulong) =
      (void *(*)(fd_wksp_t *, ulong, ulong, ulong))fn("fd_wksp_alloc_laddr");
  void *(*alloc_new)(void *, ulong) = (void *(*)(void *, ulong))fn("fd_alloc_new");
  fd_alloc_t *(*join)(void *, ulong) = (fd_alloc_t * (*)(void *, ulong)) fn("fd_alloc_join");
  int (*is_empty)(fd_alloc_t *) = (int (*)(fd_alloc_t *))fn("fd_alloc_is_empty");
  void *(*malloc_fn)(fd_alloc_t *, ulong, ulong) =
      (void *(*)(fd_alloc_t *, ulong, ulong))fn("fd_alloc_malloc");
  void (*free_fn)(fd_alloc_t *, void *) = (void (*)(fd_alloc_t *, void *))fn("fd_alloc_free");
  assert_true(new_anon && alloc_laddr && alloc_new && join && is_empty && malloc_fn && free_fn);

  fd_wksp_t *wksp = new_anon("dlclose", 4UL << 20, 0, 1, 0);
  assert_non_null(wksp);
  idle_t idle = {.malloc = malloc_fn, .free = free_fn};
  idle.alloc = join(alloc_new(alloc_laddr(wksp, FD_ALLOC_ALIGN, FD_ALLOC_FOOTPRINT, 1), 1), 0);
  assert_non_null(idle.alloc);
  pthread_t thread;
  pthread_barrier_init(&idle.turn, NULL, 2);
  assert_int_equal(pthread_create(&thread, NULL, idle_main, &idle), 0);
  pthread_barrier_wait(&idle.turn);
  assert_int_equal(dlclose(g_lib), 0);
  pid_t pid = fork();
  if (!pid) _exit(malloc_fn(idle.alloc, 0, 64) ? 0 : 7);
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  pthread_barrier_wait(&idle.turn);
  pthread_join(thread, NULL);
  assert_non_null(idle.before);
  assert_non_null(idle.after);
  assert_int_equal(is_empty(idle.alloc), 0); /* the child's block */
  g_lib = dlopen(getenv("WKSP_LIB"), RTLD_NOW | RTLD_NOLOAD);
  assert_non_null(g_lib);
}

int main(void) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(test_dlclose)};
  return cmocka_run_group_tests_name("lib/dlclose", tests, NULL, NULL);
}
