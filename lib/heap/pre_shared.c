/* pre_shared: the heap in a workspace of wkspd's, if the environment names one.

   Problem. Such a heap outlives the program and other programs can look at it while it runs. But it
   is one memory for all: a child of fork would go on with its parent's heap, not with a copy of it,
   and the C library and the program would be two in the same structures.

   Model. Once the C library is there, and before main, libwksp attaches the workspace, as for any
   program; our own copy of lib/core joins the same mapping. From then on blocks come from an
   fd_alloc there, whatever their size, and when it is full malloc fails: a block elsewhere would be
   seen by nobody. What was allocated before stays where it is. A child of fork finds no heap: it
   may exec, but ends with a sentence if it allocates. Children of vfork and posix_spawn are not
   concerned.

   What it refuses: to go on without the workspace that was asked for. A child that _Fork or clone
   makes does not pass here and must not touch the heap. */

#include "heap/preload.h"
#include "wksp/error.h"
#include "wksp/fd_wksp.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define LIBRARY "libwksp.so.1"
#define STATUS  126 /* of a program that cannot have its heap */

__attribute__((noreturn)) static void give_up(char const *why) {
  pre_say("the heap cannot be in workspace %s: %s", pre.env.workspace, why);
  _exit(STATUS);
}

void pre_shared_refuse(void) {
  pre_say("a forked child wants memory, but its parent's heap is the shared workspace %s: let it "
          "exec, or "
          "leave WKSP_MALLOC_WORKSPACE out",
          pre.env.workspace);
  abort();
}

static void in_child(void) {
  pre.join = NULL;
  pre.sz = 0;
  pre.state = PRE_REFUSED;
  pre.stats_fd = -1;
}

/* dlsym gives objects, and these are functions. */
typedef union sym {
  void *object;
  fd_wksp_t *(*attach)(char const *name);
  char const *(*why)(void);
} sym_t;

static fd_wksp_t *attach(void) {
  void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (!library) give_up(dlerror());
  sym_t attach = {dlsym(library, "fd_wksp_attach")}, why = {dlsym(library, "wksp_last_error")};
  if (!attach.object || !why.object) give_up(LIBRARY " is not ours");
  fd_wksp_t *wksp = attach.attach(pre.env.workspace);
  if (!wksp) give_up(why.why());
  return wksp;
}

void pre_shared_start(void) {
  fd_wksp_t *wksp = attach();
  ulong tag = pre.env.tag ? pre.env.tag : (ulong)getpid();
  void *shmem = fd_wksp_join(wksp)
                    ? fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), tag)
                    : NULL;
  fd_alloc_t *join = shmem ? fd_alloc_join(fd_alloc_new(shmem, tag), 0) : NULL;
  if (!join) give_up(wksp_last_error());
  if (pthread_atfork(NULL, NULL, in_child)) give_up("no memory for a handler at fork");
  pre.first_lo = pre.lo;
  pre.first_sz = pre.sz;
  pre.first = pre.join;
  pre.wksp = wksp;
  pre.lo = (ulong)wksp + fd_wksp_gaddr_lo(wksp);
  pre.sz = fd_wksp_data_max(wksp);
  pre.limit = ~0UL;
  pre.join = join;
}
