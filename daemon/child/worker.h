/* worker: `wkspd --worker`, the short-lived process that maps one workspace.

   Descriptor 0 is a pipe with the question (result.h), 1 a pipe for the answer, 3 the memory. About
   checkpoints (ckptask.h): 4 the folder of the store, 5 a pipe for how far it is; 3 may be anything
   then, if no memory is concerned. */

#ifndef WKSPD_CHILD_WORKER_H
#define WKSPD_CHILD_WORKER_H

#include <stddef.h>

/* What makes main call worker_main; private between the daemon and itself. */
#define WORKER_ARG "--worker"

#define WORKER_FD_MEMORY 3
#define WORKER_FD_STORE  4
#define WORKER_FD_STEPS  5

/* All of len bytes of the question, or of the answer: 1, or 0. */
int worker_read(void *ret_bytes, size_t len);
int worker_write(void const *bytes, size_t len);

/* Exit status: 0 an answer was written (also a failing one), else 1. */
int worker_main(void);

#endif
