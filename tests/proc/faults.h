/* faults: what a test and the daemon that it spoils share: a page of a file, by which the one says
   which call of which function is to fail, and the other says what was called. */

#ifndef TESTS_PROC_FAULTS_H
#define TESTS_PROC_FAULTS_H

#include <stdint.h>

#define FAULTS_MAX      80U
#define FAULTS_NAME_MAX 24U

/* In the environment: the file. A named pipe, FAULTS_GO appended, stands beside it. */
#define FAULTS_ENV "WKSPD_TEST_FAULTS"
#define FAULTS_GO  ".go"

/* All in the machine's byte order; tests/proc/daemon_faults_test.py has the same. */
typedef struct faults {
  _Atomic int32_t at;    /* the function that fails, -1: none */
  _Atomic int32_t waits; /* 1: it does not fail but waits for a byte in the pipe FAULTS_GO */
  _Atomic int64_t left;  /* calls of it that go well before the one that fails */
  _Atomic uint64_t hits;
  struct {
    char name[FAULTS_NAME_MAX]; /* "": none more */
    _Atomic uint64_t calls;
  } of[FAULTS_MAX];
} faults_t;

#endif
