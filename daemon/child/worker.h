/* worker: `wkspd --worker`, the short-lived process that maps one workspace.

   Descriptor 0 is a pipe with the question (result.h), 1 a pipe for the answer, 3 the memory. */

#ifndef WKSPD_CHILD_WORKER_H
#define WKSPD_CHILD_WORKER_H

/* What makes main call worker_main; private between the daemon and itself. */
#define WORKER_ARG "--worker"

#define WORKER_FD_MEMORY 3

/* Exit status: 0 an answer was written (also a failing one), else 1. */
int worker_main(void);

#endif
