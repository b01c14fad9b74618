/* registry: the workspaces, by id, by name and by uuid.

   A workspace's life, and what the engine waits for in each state:

     SPEC_MAKING --PERSISTED--> MEMORY --MEMORY_MADE--> SPEC_READY --PERSISTED--> READY
          |                       |                         | failed               |
          | failed                | failed         SPEC_UNMAKING            delete |
          +-----------------------+-----------------+ PERSISTED                    v
          v                                                                  SPEC_REMOVING
       UNSPEC <------- last lease ends, or none ------- REMOVING <-- ok --------+  | failed
          | REMOVED                                                                v
       forgotten                                             READY <-- ok -- RESTORING

   RESTORING is READY to everybody but Delete and Resize: a removal or a new size could not be
   written down, and until READY has been written again a restart might find either.

   A restore has one more state between MEMORY and SPEC_READY: FILLING, while its worker puts the
   checkpoint into the memory.

   RESIZING is READY to everybody but Delete and Resize, too; from READY to READY or RESTORING, by
   the steps of resize.c.

   Names. A workspace holds its name (named) from the moment a create is accepted until its removal
   is on disk, or its making is rolled back. So there is one holder of a name at most, and what the
   disk says never has two either. Removed ones whose leases live on (REMOVING) keep their name for
   people only.

   Invariants (registry_check):
     by_id has every workspace, by_name exactly those named or REMOVING, by_uuid those with a uuid
     by_name is sorted by (name, named first, id); named ones differ in name
     by_uuid is sorted by uuid and has none twice
     lease_cnt == rw_cnt + ro_cnt + making_cnt == leases in the list leases
     awaiting always in SPEC_MAKING, MEMORY, SPEC_READY, SPEC_UNMAKING and SPEC_REMOVING
     awaiting never in READY and REMOVING; in RESIZING in all steps but that of the worker
     in RESIZING a step, in all other states none */

#ifndef WKSPD_CORE_REGISTRY_H
#define WKSPD_CORE_REGISTRY_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/idmap.h"
#include "daemon/core/limits.h"
#include "daemon/core/spec.h"
#include "daemon/core/timers.h"

struct lease;
struct call;
struct job;

enum ws_state {
  WS_SPEC_MAKING = 1,
  WS_MEMORY,
  WS_FILLING,
  WS_SPEC_READY,
  WS_SPEC_UNMAKING,
  WS_READY,
  WS_RESIZING,
  WS_RESTORING,
  WS_SPEC_REMOVING,
  WS_REMOVING,
  WS_UNSPEC
};

/* Where a resize is; see resize.c. */
enum { RESIZE_NONE = 0, RESIZE_FILL, RESIZE_WORK, RESIZE_SPEC, RESIZE_PUNCH };

typedef struct resize {
  int step;                  /* RESIZE_* */
  int settling;              /* what an interrupted one has left is being found out */
  int filled;                /* pages beyond the end have been taken for this one */
  int mending;               /* only what is beyond the end is to be given back */
  int queued;                /* a resize that took a mending over begins when that is done */
  int aborted;               /* nobody wants it any more, or ws is quarantined */
  uint64_t job_id;           /* of the last worker */
  uint64_t to;               /* bytes wanted */
  uint64_t reached;          /* bytes that it came to; once the worker has answered */
  uint64_t deadline_mono_ns; /* 0: none */
  uint8_t call_id[SPEC_CALL_ID_SIZE]; /* of the call that wants it; zeroes: none */
  int same;                           /* the spec that is written has the size that it had */
} resize_t;

typedef struct ws {
  spec_t spec;
  int state;       /* WS_* */
  int named;       /* holds its name */
  int spec_known;  /* 0: found without a readable spec; nothing of it can be persisted */
  int has_memory;  /* the shell has memory of it */
  int awaiting;    /* an answer for this workspace is under way */
  int aborted;     /* its making is to be rolled back when that answer comes */
  int maybe_ready; /* being rolled back, and the disk may say READY: hold the name until it is gone
                    */
  int quarantined;
  int damaged;   /* a worker has met damage in it (mark.c) */
  int read_only; /* by its layout: neither opened read-write nor worked on; leases of before go on
                  */
  char reason[ENGINE_REASON_MAX];
  char note[ENGINE_NOTE_MAX]; /* how its pages were taken, as long as the daemon that took them runs
                               */
  uint64_t held;             /* bytes that its memory held when it was last looked at; 0: not yet */
  uint64_t top;              /* where the last page of it ended then; 0: not known */
  uint64_t slack;            /* bytes of that which the kernel may have added by itself */
  uint64_t stuck;            /* bytes beyond the end that the last giving back did not free */
  uint32_t excess_cnt;       /* how often that was too much */
  uint64_t size_min;         /* the least that it can be resized to */
  uint64_t restore_job;      /* of the restore that makes it; 0: none does */
  uint64_t restore_data_max; /* the dimension that its memory must have */
  uint64_t restore_part_min; /* 0: these; else others that leave the data where they are */
  uint64_t replaced_by;      /* the workspace that is being made in its place; 0: none */
  resize_t resize;
  struct call
      *call; /* the Create, Restore, Delete or Resize that waits for this workspace, or NULL */
  struct call *waiter;  /* UNSPEC: what begins when it has gone, or NULL */
  struct lease *leases; /* in the making or held */
  uint32_t rw_cnt, ro_cnt, making_cnt;
  struct lease *ended; /* read-write ones that have hung up and wait for a reap */
  uint32_t reap_tries; /* that have failed in a row */
  struct job *reap;    /* queued or running */
  int compacting;      /* a compact or a resize's worker runs */
  timer_node_t retry;  /* RESTORING, UNSPEC: when the disk is tried again */
} ws_t;

typedef struct ws_index {
  ws_t **items;
  size_t cnt, cap;
} ws_index_t;

typedef struct registry {
  idmap_t by_id;
  ws_index_t by_name, by_uuid;
} registry_t;

/* Adds a zeroed workspace with this id, which must be new. NULL: no memory. */
ws_t *registry_add(registry_t *registry, uint64_t ws_id);

/* Takes it out of every index and frees it. Its lists must be empty, its timer stopped. */
void registry_remove(registry_t *registry, ws_t *ws);

ws_t *registry_by_id(registry_t const *registry, uint64_t ws_id);

/* Who holds the name, or NULL. */
ws_t *registry_by_name(registry_t const *registry, char const *name);

ws_t *registry_by_uuid(registry_t const *registry, uint8_t const uuid[16]);

/* Makes ws, in no by-name index yet, the holder of spec.name, which must be free (named), or lists
   it as a removed one (else). 0 or WKSP_E_NOMEM. */
int registry_list(registry_t *registry, ws_t *ws, int named);

/* Undoes it, if it was listed. */
void registry_unlist(registry_t *registry, ws_t *ws);

/* spec.uuid must not be there. 0 or WKSP_E_NOMEM. */
int registry_add_uuid(registry_t *registry, ws_t *ws);

/* The place in by_name of the first workspace after (name, named, ws_id), which need not exist. */
size_t registry_after(registry_t const *registry, char const *name, int named, uint64_t ws_id);

/* Leases in the making or held. */
uint32_t ws_lease_cnt(ws_t const *ws);

/* 1 if the name is published: Get, Open and Delete find it. */
int ws_visible(ws_t const *ws);

/* Keeps a note; NULL or "": the one that there is stays. */
void ws_note(ws_t *ws, char const *note);

/* 1 if its making is being rolled back. */
int ws_undone(ws_t const *ws);

/* NULL, or which invariant is broken. */
char const *registry_check(registry_t const *registry);

/* Frees everything; the registry is empty then. */
void registry_clear(registry_t *registry);

#endif
