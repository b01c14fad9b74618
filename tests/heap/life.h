/* life: what life.c and life_hard.c share. */

#ifndef WKSP_TESTS_HEAP_LIFE_H
#define WKSP_TESTS_HEAP_LIFE_H

#include <pthread.h>
#include <sys/types.h>

/* Says what and errno, and ends the process. */
void wrong(char const *what);
#define WANT(x) \
  if (!(x)) wrong(#x)

pid_t child_of(int how);  /* 0: fork, 1: _Fork, 2: clone without the C library */
void wait_for(pid_t pid); /* until it has ended well */
pthread_t start(void *(*run)(void *), void *arg);
long size_kib(void); /* of the process's addresses */

/* Blocks with contents; all of them again in another order, and freed. */
void fill(void);
void look(void);   /* that they hold what they are to */
void invert(void); /* they do no longer */
void mutate(void);

/* Some thousand calls; the same until g_stop. */
void *worker(void *arg);
void *busy(void *arg);
extern int volatile g_stop;

void forks(void);
void late(void);
void grows(void);
void sandbox(void);
void namespaces(void);

#endif
