/* The problem: a restore for trial takes as much memory as what lives in the checkpoint, and nobody
   has given that to it.

   The model: private memory, of which only what is restored is ever touched, and which ends with
   the worker. What the machine could give is asked before the sandbox is entered: a drill that
   drove it to its end would be worse than none. If memory runs out nevertheless this process goes
   first, and the drill has failed, which says nothing of the checkpoint.

   Refuses: to take the last eighth of what is available. */

#include "daemon/child/drill.h"

#include "core/fail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

ulong drill_prepare(void) {
  char line[128];
  ulong available = 0, kib;
  FILE *file = fopen("/proc/meminfo", "re");
  while (file && fgets(line, sizeof line, file))
    if (sscanf(line, "MemAvailable: %lu kB", &kib) == 1) available = kib << 10;
  if (file) fclose(file);
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return available;
  ssize_t n = write(fd, "1000", 4); /* where that is not allowed it goes as others do */
  (void)n;
  close(fd);
  return available;
}

/* Tables, and what lives. */
static int room(wksp_ckpt_info_t const *info, ulong available, ulong map_sz) {
  ulong tables = info->size > info->data_sz ? info->size - info->data_sz : 0;
  ulong need = info->live_sz + tables;
  if (info->footprint > map_sz)
    return wksp__fail(WKSP_E_CORRUPT, "it takes %lu bytes of addresses, and was listed with %lu",
                      info->footprint, map_sz);
  if (!available || need <= available - available / 8) return 0;
  return wksp__fail(WKSP_E_LIMIT,
                    "to restore it for trial takes %lu bytes of memory, and %lu are available, of "
                    "which an eighth is left alone",
                    need, available);
}

int drill_restore(wksp_ckpt_store_t *store, ulong number, ulong available,
                  wksp_ckpt_restore_opts_t const *opts, wksp_ckpt_restored_t *ret_restored) {
  wksp_ckpt_restore_opts_t own = *opts;
  wksp_ckpt_t *ckpt = NULL;
  int err = wksp_ckpt_open(store, number, &ckpt);
  if (!err) err = room(wksp_ckpt_info(ckpt), available, own.map_sz);
  if (err) {
    wksp_ckpt_close(ckpt);
    return err;
  }
  own.shmem = mmap(NULL, own.map_sz, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (own.shmem == MAP_FAILED) {
    err = wksp__fail(WKSP_E_NOMEM, "mmap: %s", strerror(errno));
  } else {
    err = wksp_ckpt_restore(ckpt, &own, ret_restored);
    munmap(own.shmem, own.map_sz);
  }
  wksp_ckpt_close(ckpt);
  return err;
}
