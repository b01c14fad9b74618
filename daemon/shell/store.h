/* store: the state folder.

     lock            held by the daemon that uses the folder
     supervisor.lock held by the supervisor of that daemon, also while there is none
     ids             highest ids that may have been given out
     ids.bad         one that could not be read, kept for people
     specs/<id>.spec one workspace each (daemon/core/spec.h), also the last that have gone
     specs/<id>.bad  a spec that could not be read, kept for people
     specs/<id>.lost the spec of a workspace whose memory nobody kept, for people as well: what it
                     was called, whose it was. The STORE_LOST_MAX that were lost last
     schedules/<name>.schedule  when a workspace is checkpointed (daemon/core/schedule.h)
     schedules/<name>.bad       one that could not be read, kept for people
     checkpoints/<id>/          a store of checkpoints (wksp/ckpt.h), by workers only

   Every file is whole or not there (file.h) and ends with a checksum (daemon/core/crc.h). What is
   damaged is set aside under another name, and the rest goes on. */

#ifndef WKSPD_SHELL_STORE_H
#define WKSPD_SHELL_STORE_H

#include "daemon/core/engine_ckpt.h"
#include "daemon/core/schedule.h"
#include "daemon/core/spec.h"
#include "daemon/shell/config.h"

/* Ids that one write of `ids` reserves, so that most opens cost no write: after a kill at most so
   many are skipped. */
#define STORE_LEASE_BLOCK 256UL
#define STORE_WS_BLOCK    64UL

/* How far ids go on above the highest that is found when the file is lost: more than a folder's
   daemons have given out between that one and the last. A lease that is not held leaves its id in a
   slot of the memory at the most, until it is reaped, so a mistake here takes several at once. */
#define STORE_IDS_LEAP (1UL << 20)

/* What became of the file of ids. */
enum { STORE_IDS_READ = 0, STORE_IDS_NONE, STORE_IDS_DAMAGED };

/* Lost specs that are kept: enough to see what a stop took away, and no heap that grows forever. */
#define STORE_LOST_MAX 100U

/* Room for a sentence about a failed write. */
#define STORE_DETAIL_MAX (CONFIG_PATH_MAX + 256)

typedef struct store {
  int lock_fd, dir_fd, specs_fd; /* -1: not open */
  int schedules_fd, ckpts_fd;
  uint64_t ws_reserved, lease_reserved; /* ids up to these may be given out */
  int ids_lost;                         /* STORE_IDS_* */
  char path[CONFIG_PATH_MAX];
} store_t;

#define STORE_NONE \
  ((store_t){.lock_fd = -1, .dir_fd = -1, .specs_fd = -1, .schedules_fd = -1, .ckpts_fd = -1})

/* Opens, makes missing folders, locks, reads `ids`. 0, or 1 and a sentence in error
   (CONFIG_ERROR_MAX): in use by another process or kept by a supervisor that is not our parent, not
   writable, not ours alone (the folder and specs must belong to our uid, be writable by nobody else
   and be no symbolic links; what is above them may be), ... */
int store_open(store_t *ret_store, char const *path, char *error);
void store_close(store_t *store);

/* For a supervisor, for as long as it holds the descriptor: only its own children can open the
   folder. It goes with the process, and must not be opened twice in it. 0, or 1 and a sentence. */
int store_supervise(char const *path, int *ret_lock_fd, char *error);

/* Durably. 0, or an errno value and a sentence in ret_detail (STORE_DETAIL_MAX). Any thread, one at
 * a time. */
int store_put(store_t const *store, spec_t const *spec, char *ret_detail);

/* Removes the spec of ws_id and what was set aside of it, durably; not being there is success. */
int store_remove(store_t const *store, uint64_t ws_id, char *ret_detail);

/* Sets the spec of ws_id aside as <id>.lost; not yet durably. 0, or errno and a sentence. */
int store_lose(store_t const *store, uint64_t ws_id, char *ret_detail);

/* After the last store_lose: makes them durable and removes the oldest beyond STORE_LOST_MAX. 0, or
   errno and a sentence. */
int store_lost_end(store_t const *store, char *ret_detail);

/* Makes sure that these ids are not given out again by a later daemon; 0 or errno. Writes only when
 * they are beyond what is reserved. */
int store_ids_cover(store_t *store, uint64_t ws_id, uint64_t lease_id);

/* The two halves of it (ids.c): up to where ids are to be reserved so that id is, and the write
   alone. Any thread, one at a time; beside writes of specs. 0 or errno. */
uint64_t store_ids_block(uint64_t reserved, uint64_t id, uint64_t block);
int store_ids_put(store_t const *store, uint64_t ws_id, uint64_t lease_id);

/* Each spec file: spec, or NULL and the line that is wrong (0: the file cannot be read, or its name
   does not agree with its id) for one that was set aside just now. */
typedef void (*store_each_t)(void *arg, uint64_t ws_id, spec_t const *spec, int bad_line);

/* Tells every spec, in no order; removes temporary files that a kill left. 0 or errno. */
int store_each(store_t const *store, store_each_t each, void *arg);

/* store_ckpt.c: schedules, as specs are. */
int store_schedule_put(store_t const *store, schedule_t const *schedule, char *ret_detail);
int store_schedule_remove(store_t const *store, char const *name, char *ret_detail);

/* Each schedule file: NULL for one that was set aside just now, whose name is told. */
typedef void (*store_schedule_each_t)(void *arg, char const *name, schedule_t const *schedule);
int store_schedules_each(store_t const *store, store_schedule_each_t each, void *arg);

/* The folder of a store of checkpoints, or (0) that of all, opened; made if it is not there and
   make is set. -1 and errno. */
int store_ckpts(store_t const *store, uint64_t store_id, int make);

/* Writes down when checkpoints of a store were found sound (child/ckptask.h says how). 0 or errno,
   and *ret_detail. */
int store_notes_put(store_t const *store, uint64_t store_id, engine_ckpt_note_t const *notes,
                    size_t note_cnt, char *ret_detail);

/* 1 if there is certainly no store. */
int store_ckpts_none(store_t const *store);

#endif
