/* recover: what a start finds: specs on disk, memory and lifelines with the service manager. */

#ifndef WKSPD_SHELL_RECOVER_H
#define WKSPD_SHELL_RECOVER_H

#include "daemon/shell/fdnames.h"
#include "daemon/shell/loop.h"

struct recover_mem;

/* Passed descriptors, sorted by what their names say. */
typedef struct recover {
  loop_t *loop;
  int socket_fd;                  /* a listening unix socket; -1 none */
  int supervisor_fd;              /* -1 none */
  idmap_t memories;               /* ws_id -> the first memory under the name of that workspace */
  struct recover_mem **strangers; /* memory that belongs to no workspace that we know of */
  size_t stranger_cnt, stranger_cap;
  int *lifelines;
  size_t lifeline_cnt, lifeline_cap;
  spec_t *specs;
  size_t spec_cnt, spec_cap;
  unsigned lost_cnt; /* published workspaces without memory */
  uint64_t ws_high, lease_high;
} recover_t;

/* Zeroes, and no descriptors. */
void recover_init(recover_t *ret_recover, loop_t *loop);

/* fdnames_each_t; arg is the recover_t. Memory is kept whatever its name; other descriptors that
 * are not what they should be are closed and logged. */
void recover_fd(void *arg, int fd, fdnames_kind_t kind, uint64_t ws_id, char const *name,
                size_t name_len);

/* Posts START, everything found, and RECOVERED_END. start holds the engine's configuration; its
   ws_id_high and lease_id_high are filled in. 0, or 1: the specs cannot be read (logged). */
int recover_run(recover_t *recover, engine_config_t const *start);

void recover_free(recover_t *recover);

#endif
